/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Enrolment: the trust bundle from whoever answers, the pin, and only then a verified connection
 * for the token and the request.
 */

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "sentinel/enrollment/v1/enrollment.pb-c.h"

#include "agent/identity/inside.h"
#include "common/base/fault.h"
#include "common/base/file.h"
#include "common/base/rand.h"
#include "common/crypto/crypto.h"

#define CALL_TIMEOUT_US INT64_C(20000000)
#define ARENA_BYTES (1u << 20)
#define RETRY_US INT64_C(500000)
#define LONGEST_RETRY_US INT64_C(10000000)
#define INSTANCE_BYTES 16

struct enrol {
    const struct enrol_options *options;
    struct enrol_result *result;
    struct loop *loop;
    struct rpc_queue *queue;
    struct arena arena;
    struct buf root_pem; /* the one of the pin */
    struct place_request request;
    struct rand rand;
    uint8_t instance[INSTANCE_BYTES];
    mono_us until;
};

static ProtobufCBinaryData bytes_of(const void *data, size_t len)
{
    return (ProtobufCBinaryData){ .len = len, .data = (uint8_t *) (uintptr_t) data };
}

/* ---- what went wrong ---- */

PRINTF_LIKE(4, 5)
static int refuse(struct enrol *enrol, int outcome, const char *remedy, const char *message, ...)
{
    va_list args;

    va_start(args, message);
    vsnprintf(enrol->result->message, sizeof(enrol->result->message), message, args);
    va_end(args);
    snprintf(enrol->result->remedy, sizeof(enrol->result->remedy), "%s", remedy);
    return outcome;
}

static const char *remedy_of(const char *reason)
{
    static const struct {
        const char *reason, *remedy;
    } rows[] = {
        { "TOKEN_UNKNOWN", "copy the whole string again, or make another on the hub: sentinelctl "
                           "tokens create" },
        { "TOKEN_EXPIRED", "make another on the hub: sentinelctl tokens create [--ttl 2h]" },
        { "TOKEN_USED", "make another on the hub: sentinelctl tokens create; --uses N for N "
                        "machines" },
        { "TOKEN_REVOKED", "make another on the hub: sentinelctl tokens create" },
        { "ADDRESS", "the token is for another network: make one with --from that covers this "
                     "machine" },
        { "NAME", "name the id that the token allows: sentinel-agent enroll --id NAME" },
        { "AGENT_ID", "name the id that the token allows: sentinel-agent enroll --id NAME" },
        { "HUB_UNTRUSTED", "the hub's certificate does not lead to the pinned root; make a new "
                           "token" },
        { "HUB_NAME_MISMATCH", "the hub's certificate does not carry this name: use one that it "
                               "carries, with --hub HOST:PORT or --server-name NAME" },
        { "HUB_CERTIFICATE_NOT_YET_VALID", "this machine's clock is behind: set it, then again" },
        { "HUB_CERTIFICATE_EXPIRED", "set this machine's clock, or renew the hub's certificate" },
    };

    for (size_t i = 0; reason && i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (strncmp(reason, rows[i].reason, strlen(rows[i].reason)) == 0)
            return rows[i].remedy;
    }
    return "see the hub's log";
}

/* Of a call that did not end well. */
static int refuse_status(struct enrol *enrol, const struct rpc_status *status)
{
    struct wire_error error;
    bool is_below = status->code == RPC_UNAVAILABLE || status->code == RPC_DEADLINE_EXCEEDED;

    dial_error(status, &enrol->arena, &error);
    snprintf(enrol->result->reason, sizeof(enrol->result->reason), "%s",
             error.reason ? error.reason : "");
    if (error.reason && strncmp(error.reason, "HUB_", 4) == 0 && is_below &&
        strcmp(error.reason, "HUB_STOPPING") != 0)
        return refuse(enrol, ENROL_WRONG_HUB, remedy_of(error.reason), "%s", error.message);
    if (is_below)
        return refuse(enrol, ENROL_UNREACHABLE,
                      "start the hub, or correct its address with --hub HOST:PORT", "%s: %s",
                      enrol->options->hub, error.message);
    if (status->code == RPC_UNIMPLEMENTED)
        return refuse(enrol, ENROL_WRONG_HUB, "name the hub's gRPC port, 8082 unless set otherwise",
                      "what answers at %s is no hub, or an older one", enrol->options->hub);
    return refuse(enrol, ENROL_REFUSED, remedy_of(error.reason), "%s", error.message);
}

/* ---- calls ---- */

static int call(struct enrol *enrol,
                struct span roots_pem,
                const char *path,
                const ProtobufCMessage *request,
                struct span *ret_response,
                struct rpc_status *ret_status)
{
    CLEANUP(rpc_channel_freep) struct rpc_channel *channel = NULL;
    CLEANUP(buf_deinit) struct buf out = { 0 };
    int r = wire_pack(request, &out);

    if (r == 0)
        r = dial_open(&(struct dial){ .queue = enrol->queue,
                                      .hub = enrol->options->hub,
                                      .server_name = enrol->options->server_name,
                                      .is_tls13_only = enrol->options->is_tls13_only,
                                      .roots_pem = roots_pem },
                      &channel);
    if (r == 0)
        r = rpc_client_unary(channel, path, buf_span(&out), CALL_TIMEOUT_US, &enrol->arena,
                             ret_response, ret_status);
    crypto_wipe(out.data, out.len); /* the token's secret */
    return fold(r);
}

/* Nobody is verified and nothing is told: the answer is worth what the pin says. Outcomes: of
 * enrol_run(). */
static int fetch_root(struct enrol *enrol)
{
    Sentinel__Enrollment__V1__GetTrustBundleRequest request;
    const Sentinel__Enrollment__V1__GetTrustBundleResponse *bundle;
    ProtobufCMessage *message = NULL;
    struct rpc_status status = { .code = RPC_OK };
    struct span response;
    int r;

    sentinel__enrollment__v1__get_trust_bundle_request__init(&request);
    r = call(enrol, (struct span){ 0 }, DIAL_TRUST_BUNDLE, &request.base, &response, &status);
    if (r)
        return pass(r);
    if (status.code != RPC_OK)
        return refuse_status(enrol, &status);
    r = wire_unpack(&sentinel__enrollment__v1__get_trust_bundle_response__descriptor, response,
                    &enrol->arena, &message, NULL);
    if (r < 0)
        return pass(r);
    bundle = (const void *) message;
    r = r ? PLACE_ABSENT
          : answer_pick_root(&(struct answer){ .roots = bundle->roots, .n_roots = bundle->n_roots },
                             enrol->options->enrolment->pin, &enrol->root_pem);
    if (r == 0)
        return 0;
    if (r < 0)
        return pass(r);
    snprintf(enrol->result->reason, sizeof(enrol->result->reason), "PIN_MISMATCH");
    return refuse(enrol, ENROL_WRONG_HUB,
                  "copy the whole string again; if that does not help, something between here and "
                  "the hub answers in its place: do not enrol over this network",
                  "what answers at %s does not have the root that the enrolment string names",
                  enrol->options->hub);
}

static void fill_fingerprint(const struct identity_fingerprint *from,
                             Sentinel__Telemetry__V1__Fingerprint *to)
{
    ProtobufCBinaryData *const fields[] = {
        [IDENTITY_MACHINE_ID] = &to->machine_id,
        [IDENTITY_DMI] = &to->dmi,
        [IDENTITY_BOOT_DISK] = &to->boot_disk,
        [IDENTITY_FIRST_MAC] = &to->first_mac,
    };

    sentinel__telemetry__v1__fingerprint__init(to);
    for (size_t i = 0; i < IDENTITY_N_SOURCES; i++) {
        if (from->has[i])
            *fields[i] = bytes_of(from->sha256[i], sizeof(from->sha256[i]));
    }
}

static int send_token(struct enrol *enrol, struct span *ret_response, struct rpc_status *ret_status)
{
    const struct identity_enrolment *enrolment = enrol->options->enrolment;
    struct identity_fingerprint machine;
    Sentinel__Telemetry__V1__Fingerprint fingerprint;
    Sentinel__Enrollment__V1__EnrollRequest request;

    identity_fingerprint_read(enrol->options->root, &machine);
    fill_fingerprint(&machine, &fingerprint);
    sentinel__enrollment__v1__enroll_request__init(&request);
    request.token_id = (char *) (uintptr_t) enrolment->token_id;
    request.token_secret = bytes_of(enrolment->secret, sizeof(enrolment->secret));
    request.csr = bytes_of(enrol->request.csr_der.data, enrol->request.csr_der.len);
    request.requested_id = (char *) (uintptr_t) enrol->options->id;
    request.instance = bytes_of(enrol->instance, sizeof(enrol->instance));
    request.fingerprint = &fingerprint;
    return pass(call(enrol, buf_span(&enrol->root_pem), DIAL_ENROLL, &request.base, ret_response,
                     ret_status));
}

/* ---- again, when an answer was lost or the hub says later ---- */

static void on_wait_over(struct loop_timer *timer)
{
    *(bool *) timer->ctx = true;
}

static int wait_us(struct enrol *enrol, int64_t delay_us)
{
    bool is_over = false;
    struct loop_timer timer = { .fn = on_wait_over, .ctx = &is_over };
    int r = loop_timer_arm_in(enrol->loop, &timer, delay_us);

    while (r == 0 && !is_over)
        r = loop_run_once(enrol->loop, -1);
    loop_timer_disarm(enrol->loop, &timer);
    return pass(r);
}

/* How long to wait, or -1: it does not pass by itself, or not in time. */
static int64_t retry_of(struct enrol *enrol, const struct rpc_status *status, unsigned n_tries)
{
    int64_t delay_us = RETRY_US, left_us = enrol->until.us - clock_mono().us;
    struct wire_error error;

    dial_error(status, &enrol->arena, &error);
    if (error.retry_after_ms == 0 && error.code != RPC_UNAVAILABLE &&
        error.code != RPC_DEADLINE_EXCEEDED)
        return -1;
    for (unsigned i = 1; i < n_tries && delay_us < LONGEST_RETRY_US; i++)
        delay_us *= 2;
    if (delay_us < (int64_t) error.retry_after_ms * 1000)
        delay_us = (int64_t) error.retry_after_ms * 1000;
    delay_us += (int64_t) ((double) delay_us * 0.5 * rand_unit(&enrol->rand));
    return delay_us < left_us ? delay_us : -1;
}

/* Outcomes: of enrol_run(). */
static int ask(struct enrol *enrol, struct span *ret_response)
{
    for (unsigned n_tries = 1;; n_tries++) {
        struct rpc_status status = { .code = RPC_OK };
        int64_t delay_us;
        int r = send_token(enrol, ret_response, &status);

        if (r)
            return pass(r);
        if (status.code == RPC_OK)
            return 0;
        delay_us = retry_of(enrol, &status, n_tries);
        if (delay_us < 0)
            return refuse_status(enrol, &status);
        arena_reset(&enrol->arena, ARENA_BYTES);
        r = wait_us(enrol, delay_us);
        if (r)
            return pass(r);
    }
}

/* ---- what came ---- */

/* Outcomes: of enrol_run(). */
static int keep(struct enrol *enrol, struct span response)
{
    CLEANUP(tls_identity_deinit) struct tls_identity identity = { 0 };
    const Sentinel__Enrollment__V1__EnrollResponse *granted;
    const char *directory = enrol->options->directory;
    ProtobufCMessage *message = NULL;
    struct tls_why why = { "the hub's answer cannot be decoded" };
    struct tls_facts facts;
    int r = wire_unpack(&sentinel__enrollment__v1__enroll_response__descriptor, response,
                        &enrol->arena, &message, NULL);

    if (r < 0)
        return pass(r);
    granted = (const void *) message;
    if (r == 0)
        r = answer_check(&(struct answer){ .chain = granted->chain,
                                           .n_chain = granted->n_chain,
                                           .roots = granted->roots,
                                           .n_roots = granted->n_roots,
                                           .agent_id = granted->agent_id },
                         buf_span(&enrol->request.key_pem), clock_wall(), &identity, &why);
    if (r == 0)
        r = answer_read_leaf(buf_span(&identity.chain_pem), &facts);
    if (r)
        return r < 0 ? pass(r)
                     : refuse(enrol, ENROL_BAD_ANSWER,
                              "set this machine's clock if it is off; then run this again with the "
                              "same string",
                              "%s", why.text);
    r = place_answer(directory, PLACE_ENROLMENT, &identity, &why);
    /* Of another hub, perhaps: what was seen before does not count. */
    if (r == 0)
        r = notes_write_generation(directory, granted->generation);
    if (r == 0)
        r = notes_write_hub(directory, enrol->options->hub);
    if (r == 0)
        r = place_commit(directory, PLACE_ENROLMENT, &why);
    if (r)
        return r < 0 ? pass(r) : refuse(enrol, ENROL_DIRECTORY, "mend it as said", "%s", why.text);
    snprintf(enrol->result->agent_id, sizeof(enrol->result->agent_id), "%.63s", granted->agent_id);
    enrol->result->not_after = facts.not_after;
    return 0;
}

/* Outcomes: of enrol_run(). */
static int run(struct enrol *enrol)
{
    const struct enrol_options *options = enrol->options;
    CLEANUP(fd_closep) int lock_fd = -1;
    struct tls_why why = { "" };
    struct span response;
    int r = place_lock(options->directory, &lock_fd, &why);

    /* What was answered before a power cut is one, too; the token gets it again in any case. */
    if (r == 0)
        r = fetch_root(enrol);
    else if (r > 0)
        return refuse(enrol, r == PLACE_BUSY ? ENROL_BUSY : ENROL_DIRECTORY, "", "%s", why.text);
    if (r)
        return r < 0 ? pass(r) : r;
    r = place_prepare(options->directory, PLACE_ENROLMENT, options->enrolment->token_id,
                      &enrol->request, &why);
    if (r)
        return r < 0 ? pass(r) : refuse(enrol, ENROL_DIRECTORY, "mend it as said", "%s", why.text);
    r = ask(enrol, &response);
    if (r == 0)
        r = keep(enrol, response);
    return r < 0 ? pass(r) : r;
}

int enrol_run(const struct enrol_options *options, struct enrol_result *ret)
{
    struct enrol enrol = { .options = options, .result = ret };
    int r = loop_new(&enrol.loop);

    *ret = (struct enrol_result){ .agent_id = "" };
    snprintf(ret->directory, sizeof(ret->directory), "%s", options->directory);
    enrol.until.us = clock_mono().us + options->give_up_us;
    arena_init(&enrol.arena, ARENA_BYTES);
    rand_init_from_system(&enrol.rand);
    crypto_random(enrol.instance, sizeof(enrol.instance));
    if (r == 0)
        r = rpc_queue_new(&enrol.queue, enrol.loop);
    if (r == 0)
        r = run(&enrol);
    place_request_deinit(&enrol.request);
    buf_deinit(&enrol.root_pem);
    arena_deinit(&enrol.arena);
    (void) rpc_queue_free(enrol.queue);
    (void) loop_free(enrol.loop);
    return r < 0 ? pass(r) : r;
}
