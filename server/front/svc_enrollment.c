/* SPDX-License-Identifier: Apache-2.0 */

/*
 * sentinel.enrollment.v1.EnrollmentService: how a machine gets its identity and keeps it.
 *
 * Tokens can be guessed: an address whose guesses were wrong too often is refused before its next
 * one is looked at (QUOTA_FAILURES).
 *
 * RenewExpired is a stream: the hub's nonce comes first, the signed request follows, then the
 * answer. A first message without a signature is passed over: clients that ask for the nonce by one
 * get what is on its way already.
 */

#include "google/protobuf/timestamp.pb-c.h"
#include "sentinel/enrollment/v1/enrollment.pb-c.h"
#include "sentinel/telemetry/v1/telemetry.pb-c.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/crypto/crypto.h"
#include "common/log/log.h"
#include "server/front/acts.h"
#include "server/front/inside.h"

#define MAX_CHAIN 4
#define REQUEST_PATIENCE_US                                              \
    (INT64_C(30) * 1000000) /* of RenewExpired: no certificate is needed \
                             */

static struct span span_of_field(ProtobufCBinaryData field)
{
    return span_of(field.data, field.len);
}

/* A refusal as the client sees it; wrong secrets, and chains of others, which are as dear to look
 * at, are counted against the address. */
static enum front_failure
refused(struct unary *unary, int r, enum pki_refusal refusal, const struct tls_why *why)
{
    enum front_failure failure;

    if (r < 0)
        return FAIL_FAULT;
    if (r != PKI_REFUSED)
        return r == PKI_FULL ? FAIL_FULL : FAIL_FAULT;
    failure = front_failure_of_refusal(refusal);
    if (refusal == PKI_REFUSED_TOKEN_UNKNOWN || refusal == PKI_REFUSED_SIGNATURE ||
        refusal == PKI_REFUSED_CHAIN)
        front_charge_failure(unary->front, unary->peer);
    front_describe(&unary->detail, refusal == PKI_REFUSED_CSR ? "csr" : NULL, "%s", why->text);
    log_peer(LOG_WARN, "authentication_failed", LOG_S("peer", unary->peer),
             LOG_S("reason", front_reason(failure)), LOG_S("method", unary->method->wire->path));
    return failure;
}

/* ---- GetTrustBundle ---- */

enum front_failure svc_enrollment_get_trust_bundle(struct unary *unary)
{
    Sentinel__Enrollment__V1__GetTrustBundleResponse *answer =
        unary_alloc(unary, 1, sizeof(*answer));
    enum front_failure failure = front_needs_pki(unary);
    struct pki_granted granted = { .n_roots = 0 };

    if (failure != FAIL_NOT)
        return failure;
    if (!answer)
        return unary_finish(unary, NULL);
    if (pki_trust_bundle(unary->front->options.pki, &unary->arena, &granted) != 0)
        return FAIL_FAULT;
    if (unary->caller.role == PKI_ROLE_AGENT)
        pki_ca_note_bundle(unary->front->options.pki, unary->caller.name);
    sentinel__enrollment__v1__get_trust_bundle_response__init(answer);
    answer->roots = front_ders(unary, granted.roots_der, granted.n_roots);
    answer->n_roots = granted.n_roots;
    answer->generation = granted.generation;
    return unary_finish(unary, &answer->base);
}

/* ---- Enroll ---- */

typedef Sentinel__Enrollment__V1__EnrollRequest enroll_request;

static enum front_failure read_fingerprint(struct unary *unary,
                                           const Sentinel__Telemetry__V1__Fingerprint *from,
                                           struct identity_fingerprint *to)
{
    const ProtobufCBinaryData *sources[IDENTITY_N_SOURCES] = {
        [IDENTITY_MACHINE_ID] = &from->machine_id,
        [IDENTITY_DMI] = &from->dmi,
        [IDENTITY_BOOT_DISK] = &from->boot_disk,
        [IDENTITY_FIRST_MAC] = &from->first_mac,
    };

    for (size_t i = 0; i < IDENTITY_N_SOURCES; i++) {
        if (sources[i]->len == 0)
            continue;
        if (sources[i]->len != sizeof(to->sha256[i])) {
            front_describe(&unary->detail, "fingerprint", "each source is a SHA-256 of 32 bytes");
            return FAIL_BAD_QUESTION;
        }
        to->has[i] = true;
        memcpy(to->sha256[i], sources[i]->data, sizeof(to->sha256[i]));
    }
    return FAIL_NOT;
}

static enum front_failure answer_enroll(struct unary *unary, const struct pki_enrolment *asked)
{
    Sentinel__Enrollment__V1__EnrollResponse *answer = unary_alloc(unary, 1, sizeof(*answer));
    struct pki_granted *granted = unary_alloc(unary, 1, sizeof(*granted));
    enum pki_refusal refusal = PKI_REFUSED_NOT;
    struct tls_why why = { "" };
    int r;

    if (!answer || !granted)
        return unary_finish(unary, NULL);
    r = pki_enrol(unary->front->options.pki, asked, &unary->arena, granted, &refusal, &why);
    if (r != PKI_OK)
        return refused(unary, r, refusal, &why);
    /* Whom it superseded goes at the hub's next look at the registry, which comes every 200 ms: a
     * fleet that enrols would have each stream look again for each machine. */
    log_event(LOG_INFO, "agent_enrolled", LOG_S("agent", granted->name), LOG_S("peer", unary->peer),
              LOG_S("token", asked->token_id), LOG_U("again", granted->is_again));
    pki_ca_note_bundle(unary->front->options.pki, granted->name);
    sentinel__enrollment__v1__enroll_response__init(answer);
    answer->agent_id = granted->name;
    answer->chain = front_ders(unary, granted->chain_der, granted->n_chain);
    answer->n_chain = granted->n_chain;
    answer->roots = front_ders(unary, granted->roots_der, granted->n_roots);
    answer->n_roots = granted->n_roots;
    answer->generation = granted->generation;
    return unary_finish(unary, &answer->base);
}

enum front_failure svc_enrollment_enroll(struct unary *unary)
{
    const enroll_request *request = (const void *) unary->request;
    struct identity_fingerprint fingerprint = { .has = { false } };
    char source[FRONT_SOURCE_BYTES];
    struct front_act act;
    enum front_failure failure = front_needs_pki(unary);

    if (failure == FAIL_NOT)
        failure = front_take(unary->front, QUOTA_FAILURES, unary->peer, 0, &unary->detail);
    if (failure == FAIL_NOT && request->fingerprint)
        failure = read_fingerprint(unary, request->fingerprint, &fingerprint);
    if (failure != FAIL_NOT)
        return failure;
    (void) front_act_of(unary, NULL, &act);
    return answer_enroll(unary, &(struct pki_enrolment){
                                    .token_id = request->token_id,
                                    .secret = span_of_field(request->token_secret),
                                    .csr_der = span_of_field(request->csr),
                                    .requested_id = request->requested_id,
                                    .instance = span_of_field(request->instance),
                                    .fingerprint = &fingerprint,
                                    .peer = front_source(unary->peer, source),
                                    .correlation = act.correlation,
                                });
}

/* ---- Renew ---- */

enum front_failure svc_enrollment_renew(struct unary *unary)
{
    const Sentinel__Enrollment__V1__RenewRequest *request = (const void *) unary->request;
    Sentinel__Enrollment__V1__RenewResponse *answer = unary_alloc(unary, 1, sizeof(*answer));
    struct pki_granted *granted = unary_alloc(unary, 1, sizeof(*granted));
    enum front_failure failure = front_needs_pki(unary);
    enum pki_refusal refusal = PKI_REFUSED_NOT;
    struct tls_why why = { "" };
    struct front_act act;
    int r;

    if (failure != FAIL_NOT)
        return failure;
    if (!answer || !granted)
        return unary_finish(unary, NULL);
    if (unary->caller.kind != PKI_AGENT) {
        front_describe(&unary->detail, NULL, "only an agent's certificate is renewed here");
        return FAIL_REFUSED;
    }
    (void) front_act_of(unary, NULL, &act);
    r = pki_renew(unary->front->options.pki,
                  &(struct pki_renewal){ .sha256 = unary->caller.sha256,
                                         .csr_der = span_of_field(request->csr),
                                         .peer = act.source,
                                         .correlation = act.correlation },
                  &unary->arena, granted, &refusal, &why);
    if (r != PKI_OK)
        return refused(unary, r, refusal, &why);
    log_event(LOG_INFO, "certificate_renewed", LOG_S("agent", unary->caller.name),
              LOG_S("peer", unary->peer), LOG_U("again", granted->is_again));
    pki_ca_note_bundle(unary->front->options.pki, unary->caller.name);
    sentinel__enrollment__v1__renew_response__init(answer);
    answer->chain = front_ders(unary, granted->chain_der, granted->n_chain);
    answer->n_chain = granted->n_chain;
    answer->roots = front_ders(unary, granted->roots_der, granted->n_roots);
    answer->n_roots = granted->n_roots;
    answer->generation = granted->generation;
    return unary_finish(unary, &answer->base);
}

/* ---- RenewExpired ---- */

typedef Sentinel__Enrollment__V1__RenewExpiredRequest late_request;
typedef Sentinel__Enrollment__V1__RenewExpiredResponse late_response;

struct late {
    struct unary unary;
    struct front_watched watched;
    struct query_task task;
    struct rpc_post post;
    uint8_t nonce[IDENTITY_NONCE_BYTES];
    struct arena request_arena;
    uint64_t charged_bytes;
    struct buf packed;
    enum front_failure failure;
    int r;
    bool is_away, has_ended; /* the reader's part, the watch's part */
};

static void late_free(struct late *late)
{
    arena_deinit(&late->unary.arena);
    arena_deinit(&late->request_arena);
    if (late->charged_bytes > 0)
        front_discharge(late->unary.front, late->charged_bytes);
    buf_deinit(&late->packed);
    free(late);
}

static void on_ended(struct front_watched *watched)
{
    struct late *late = container_of(watched, struct late, watched);

    late->has_ended = true;
    if (!late->is_away)
        late_free(late);
}

static enum front_failure answer_late(struct unary *unary, struct late *late)
{
    const late_request *request = (const void *) unary->request;
    struct pki_granted *granted = unary_alloc(unary, 1, sizeof(*granted));
    late_response *answer = unary_alloc(unary, 1, sizeof(*answer));
    enum pki_refusal refusal = PKI_REFUSED_NOT;
    struct tls_why why = { "" };
    struct span chain[MAX_CHAIN];
    struct front_act act;
    wall_us grace_ends = { 0 };
    int r;

    if (!granted || !answer)
        return unary_finish(unary, NULL);
    for (size_t i = 0; i < request->n_chain; i++)
        chain[i] = span_of_field(request->chain[i]);
    (void) front_act_of(unary, NULL, &act);
    r = pki_renew_expired(unary->front->options.pki,
                          &(struct pki_late_renewal){
                              .chain_der = chain,
                              .n_chain = request->n_chain,
                              .csr_der = span_of_field(request->csr),
                              .nonce = span_of(late->nonce, sizeof(late->nonce)),
                              .signature = span_of_field(request->signature),
                              .peer = act.source,
                              .correlation = act.correlation,
                          },
                          &unary->arena, granted, &grace_ends, &refusal, &why);
    if (r != PKI_OK)
        return refused(unary, r, refusal, &why);
    log_event(LOG_INFO, "certificate_renewed_expired", LOG_S("agent", granted->name),
              LOG_S("peer", unary->peer));
    sentinel__enrollment__v1__renew_expired_response__init(answer);
    answer->chain = front_ders(unary, granted->chain_der, granted->n_chain);
    answer->n_chain = granted->n_chain;
    answer->roots = front_ders(unary, granted->roots_der, granted->n_roots);
    answer->n_roots = granted->n_roots;
    answer->grace_ends = unary_time(unary, grace_ends);
    return unary_finish(unary, &answer->base);
}

static void run(struct query_task *task)
{
    struct late *late = container_of(task, struct late, task);
    struct unary *unary = &late->unary;

    arena_init(&unary->arena, FRONT_ANSWER_BYTES);
    unary->now = clock_wall();
    late->failure = answer_late(unary, late);
    if (late->failure == FAIL_NOT) {
        late->r = wire_pack(unary->answer, &late->packed);
        if (late->r < 0)
            late->failure = FAIL_FAULT;
    }
    arena_deinit(&unary->arena);
    rpc_call_post(late->watched.call, &late->post);
}

static void on_back(struct rpc_post *post)
{
    struct late *late = container_of(post, struct late, post);
    struct rpc_call *call = late->watched.call;

    late->is_away = false;
    if (late->has_ended)
        late_free(late);
    else if (late->failure != FAIL_NOT)
        front_fail(call, late->failure, &late->unary.detail, late->r);
    else if (rpc_call_send(call, buf_span(&late->packed)) == RPC_DONE)
        front_finish_ok(call);
    (void) rpc_call_unref(call);
}

static int send_nonce(struct rpc_call *call, struct late *late)
{
    CLEANUP(buf_deinit) struct buf packed = { 0 };
    late_response answer = SENTINEL__ENROLLMENT__V1__RENEW_EXPIRED_RESPONSE__INIT;
    int r;

    crypto_random(late->nonce, sizeof(late->nonce));
    answer.nonce = (ProtobufCBinaryData){ .data = late->nonce, .len = sizeof(late->nonce) };
    r = wire_pack(&answer.base, &packed);
    if (r == 0)
        r = rpc_call_send(call, buf_span(&packed));
    return r < 0 ? pass(r) : 0;
}

static void late_on_open(struct rpc_call *call)
{
    struct front *front = rpc_call_ctx(call);
    struct front_caller caller;
    struct late *late;
    int r;

    if (!front_authorise(call, &caller))
        return;
    if (!front->options.pki) {
        front_fail(call, FAIL_NO_IDENTITIES, NULL, 0);
        return;
    }
    late = calloc(1, sizeof(*late));
    if (!late) {
        front_fail(call, FAIL_FAULT, NULL, fault(-ENOMEM, "no memory for a call"));
        return;
    }
    late->unary = (struct unary){
        .front = front,
        .method = front_call_method(call),
        .caller = caller,
        .peer = rpc_call_peer(call),
    };
    late->watched = (struct front_watched){
        .call = call,
        .caller = caller,
        .due = { clock_mono().us + REQUEST_PATIENCE_US },
        .ended = on_ended,
    };
    late->task.run = run;
    late->post.fn = on_back;
    rpc_call_set_state(call, late);
    front_watch_begin(front, &late->watched);
    r = send_nonce(call, late);
    if (r != 0)
        front_fail(call, FAIL_FAULT, NULL, r);
    else
        rpc_call_read(call);
}

static void hand_to_reader(struct late *late)
{
    struct rpc_call *call = late->watched.call;
    int r;

    late->is_away = true;
    (void) rpc_call_ref(call);
    r = query_pool_submit(late->unary.front->options.pool, &late->task);
    if (r == QUERY_OK)
        return;
    late->is_away = false;
    front_fail(call, r < 0 ? FAIL_FAULT : FAIL_READERS_BUSY, NULL, r);
    (void) rpc_call_unref(call);
}

static void late_on_message(struct rpc_call *call, struct span message)
{
    struct late *late = rpc_call_state(call);
    struct front_detail *detail = &late->unary.detail;
    enum front_failure failure;
    const late_request *request;

    if (late->is_away || late->packed.len > 0)
        return; /* one request is answered */
    if (late->charged_bytes > 0) {
        arena_deinit(&late->request_arena);
        front_discharge(late->unary.front, late->charged_bytes);
        late->charged_bytes = 0;
    }
    failure =
        unary_decode(&late->unary, message, &late->request_arena, &late->charged_bytes, &late->r);
    if (failure != FAIL_NOT) {
        front_fail(call, failure, detail, late->r);
        return;
    }
    request = (const void *) late->unary.request;
    if (request->signature.len == 0 && request->csr.len == 0) {
        rpc_call_read(call); /* who asks for the nonce has it */
        return;
    }
    if (request->n_chain == 0 || request->n_chain > MAX_CHAIN) {
        front_describe(detail, "chain", "1 to %d certificates, leaf first", MAX_CHAIN);
        front_fail(call, FAIL_BAD_QUESTION, detail, 0);
        return;
    }
    failure = front_take(late->unary.front, QUOTA_FAILURES, late->unary.peer, 0, detail);
    if (failure != FAIL_NOT)
        front_fail(call, failure, detail, 0);
    else
        hand_to_reader(late);
}

static void late_on_half_close(struct rpc_call *call)
{
    const struct late *late = rpc_call_state(call);

    if (late && !late->is_away && late->packed.len == 0)
        front_fail(call, FAIL_NO_REQUEST, NULL, 0);
}

static void late_on_closed(struct rpc_call *call, bool was_cancelled)
{
    struct late *late = rpc_call_state(call);

    (void) was_cancelled;
    if (late)
        front_watch_end(&late->watched);
}

const struct rpc_handler svc_enrollment_renew_expired = {
    .on_open = late_on_open,
    .on_message = late_on_message,
    .on_half_close = late_on_half_close,
    .on_closed = late_on_closed,
};
