/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The command `enroll`. Machines that enrol, each as sentinel-agent does it: an unverified
 * connection that fetches the trust bundle, whose root is compared with the pin of the enrolment
 * string; a new key and a request for it; a verified connection that sends both with the token. One
 * token is good for all of them. A number of machines are always under way.
 */

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sentinel/admin/v1/admin.pb-c.h"
#include "sentinel/enrollment/v1/enrollment.pb-c.h"

#include "bench/ask.h"
#include "bench/metrics.h"
#include "bench/print.h"
#include "common/base/fault.h"
#include "common/base/rand.h"
#include "common/crypto/crypto.h"
#include "common/identity/identity.h"
#include "common/tls/tls.h"

#define CREATE_TOKEN "/sentinel.admin.v1.AdminService/CreateToken"
#define TRUST_BUNDLE "/sentinel.enrollment.v1.EnrollmentService/GetTrustBundle"
#define ENROLL "/sentinel.enrollment.v1.EnrollmentService/Enroll"
#define TIMEOUT_US INT64_C(60000000)
#define TICK_MS 10
#define ARENA_BYTES (256u << 10)
#define HOUR_S 3600

struct enroll;

struct machine {
    struct enroll *owner;
    struct rpc_channel *channel;
    struct rpc_client_call *call;
    struct arena arena;
    struct span answer; /* in the arena */
    uint64_t number;
    int64_t from_us;
    bool has_root;       /* the second connection */
    struct buf root_pem; /* the pinned one */
    struct tls_key *key;
    struct buf csr;
    int64_t again_us;      /* when the hub said "later": not before; 0: it did not */
    bool is_over, is_good; /* the call is; its end is taken care of outside of its callback */
};

struct enroll {
    const char *agents, *concurrency, *state_dir;
    bool is_json, wants_help;
    uint64_t n_agents, n_slots;
    struct bench_hub hub;
    struct loop *loop;
    struct rpc_queue *queue;
    struct rpc_credentials *nobody; /* verifies no one */
    struct identity_enrolment enrolment;
    struct machine *machines;
    uint64_t n_begun, n_done, n_later;
    struct rand rand;
    int exit_code;
    struct histogram times_us;
    double duration_s, hub_cpu_s, own_cpu_s;
};

static ProtobufCBinaryData bytes_of(const void *data, size_t len)
{
    return (ProtobufCBinaryData){ .len = len, .data = (uint8_t *) (uintptr_t) data };
}

/* ---- calls ---- */

static void on_message(struct rpc_client_call *call, struct span message)
{
    struct machine *machine = rpc_client_call_ctx(call);
    char *copy = arena_copy(&machine->arena, message);

    machine->answer = copy ? span_of(copy, message.len) : (struct span){ 0 };
    rpc_client_call_read(call); /* the status comes when nothing is left to read */
}

/* When to ask again, as an agent does: not before RetryInfo, and not all at that moment. */
static int64_t later_of(struct machine *machine, const struct rpc_status *status)
{
    struct wire_error error;
    struct arena arena;
    int64_t wait_us = 0;

    arena_init(&arena, ARENA_BYTES);
    if (status->details.len > 0 && wire_error_unpack(status->details, &arena, &error) == 0)
        wait_us = (int64_t) error.retry_after_ms * 1000;
    arena_deinit(&arena);
    if (wait_us == 0)
        return 0;
    machine->owner->n_later++;
    wait_us += (int64_t) ((double) wait_us * 0.5 * rand_unit(&machine->owner->rand));
    return clock_mono().us + wait_us;
}

static void on_closed(struct rpc_client_call *call, const struct rpc_status *status)
{
    struct machine *machine = rpc_client_call_ctx(call);
    struct enroll *owner = machine->owner;

    machine->is_over = true;
    machine->is_good = status->code == RPC_OK && machine->answer.len > 0;
    machine->again_us = machine->is_good ? 0 : later_of(machine, status);
    if (!machine->is_good && machine->again_us == 0 && owner->exit_code == BENCH_OK)
        owner->exit_code = bench_say(BENCH_FAILED, "machine %" PRIu64 " was refused: %s %s",
                                     machine->number, rpc_code_name(status->code), status->message);
}

static const struct rpc_client_handler handler = {
    .on_message = on_message,
    .on_closed = on_closed,
};

static int call(struct machine *machine,
                struct rpc_credentials *credentials,
                const char *path,
                const ProtobufCMessage *request)
{
    CLEANUP(buf_deinit) struct buf out = { 0 };
    int r = wire_pack(request, &out);

    if (r == 0)
        r = fold(rpc_channel_new(&machine->channel, machine->owner->queue,
                                 &(struct rpc_channel_options){
                                     .target = machine->owner->hub.address,
                                     .credentials = credentials,
                                 }));
    if (r == 0)
        r = rpc_client_call_new(&machine->call, machine->channel,
                                &(struct rpc_client_call_options){
                                    .path = path,
                                    .timeout_us = TIMEOUT_US,
                                    .wait_for_ready = true,
                                    .handler = &handler,
                                    .ctx = machine,
                                });
    if (r == 0)
        r = fold(rpc_client_call_send(machine->call, buf_span(&out)));
    if (r < 0)
        return pass(r);
    rpc_client_call_half_close(machine->call);
    rpc_client_call_read(machine->call);
    return 0;
}

static void hang_up(struct machine *machine)
{
    machine->call = rpc_client_call_unref(machine->call);
    machine->channel = rpc_channel_free(machine->channel);
    machine->is_over = false;
}

/* ---- one machine ---- */

static int ask_root(struct machine *machine)
{
    Sentinel__Enrollment__V1__GetTrustBundleRequest request;

    sentinel__enrollment__v1__get_trust_bundle_request__init(&request);
    return pass(call(machine, machine->owner->nobody, TRUST_BUNDLE, &request.base));
}

static int begin(struct machine *machine)
{
    machine->number = machine->owner->n_begun++;
    machine->from_us = clock_mono().us;
    machine->has_root = false;
    machine->answer = (struct span){ 0 };
    arena_reset(&machine->arena, ARENA_BYTES);
    buf_clear(&machine->root_pem);
    return pass(ask_root(machine));
}

/* The root of the pin, as PEM. Returns an exit code. */
static int pick_root(struct machine *machine)
{
    const Sentinel__Enrollment__V1__GetTrustBundleResponse *bundle;
    ProtobufCMessage *message = NULL;
    int r = wire_unpack(&sentinel__enrollment__v1__get_trust_bundle_response__descriptor,
                        machine->answer, &machine->arena, &message, NULL);

    bundle = (const void *) message;
    for (size_t i = 0; r == 0 && i < bundle->n_roots; i++) {
        CLEANUP(tls_cert_freep) struct tls_cert *root = NULL;
        struct tls_facts facts;

        if (tls_cert_parse_der(&root, span_of(bundle->roots[i].data, bundle->roots[i].len)) ||
            tls_cert_read(root, &facts) ||
            memcmp(facts.key_sha256, machine->owner->enrolment.pin, IDENTITY_PIN_BYTES) != 0)
            continue;
        return tls_cert_print(root, &machine->root_pem) ? BENCH_FAILED : BENCH_OK;
    }
    return bench_say(BENCH_FAILED, "the hub's trust bundle does not have the root of the token");
}

static int send_token(struct machine *machine)
{
    const struct identity_enrolment *enrolment = &machine->owner->enrolment;
    CLEANUP(rpc_credentials_freep) struct rpc_credentials *credentials = NULL;
    Sentinel__Enrollment__V1__EnrollRequest request;
    char name[32];
    uint8_t instance[16];
    int r;

    snprintf(name, sizeof(name), "bench-%" PRIu64, machine->number);
    r = rpc_credentials_new(&credentials, &(struct rpc_credentials_options){
                                              .roots_pem = buf_span(&machine->root_pem) });
    if (r)
        return fold(r);
    crypto_random(instance, sizeof(instance));
    sentinel__enrollment__v1__enroll_request__init(&request);
    request.token_id = (char *) (uintptr_t) enrolment->token_id;
    request.token_secret = bytes_of(enrolment->secret, sizeof(enrolment->secret));
    request.csr = bytes_of(machine->csr.data, machine->csr.len);
    request.requested_id = name;
    request.instance = bytes_of(instance, sizeof(instance));
    machine->answer = (struct span){ 0 };
    return pass(call(machine, credentials, ENROLL, &request.base));
}

static int make_request(struct machine *machine)
{
    int r;

    machine->key = tls_key_free(machine->key);
    buf_clear(&machine->csr);
    machine->has_root = true;
    r = tls_key_new(&machine->key);
    return r == 0 ? fold(tls_csr_print(machine->key, "bench", &machine->csr)) : fold(r);
}

/* The certificate is for our key. Returns an exit code. */
static int check(struct machine *machine)
{
    const Sentinel__Enrollment__V1__EnrollResponse *granted;
    CLEANUP(tls_cert_freep) struct tls_cert *leaf = NULL;
    ProtobufCMessage *message = NULL;
    int r = wire_unpack(&sentinel__enrollment__v1__enroll_response__descriptor, machine->answer,
                        &machine->arena, &message, NULL);

    granted = (const void *) message;
    if (r == 0 && granted->n_chain > 0 && granted->n_roots > 0 &&
        tls_cert_parse_der(&leaf, span_of(granted->chain[0].data, granted->chain[0].len)) == 0 &&
        tls_cert_matches_key(leaf, machine->key) == 0)
        return BENCH_OK;
    return bench_say(BENCH_FAILED, "machine %" PRIu64 " was given no certificate for its key",
                     machine->number);
}

/* What follows a call that is over. Returns an exit code. */
static int step(struct machine *machine)
{
    struct enroll *owner = machine->owner;
    int exit_code;

    hang_up(machine);
    if (!machine->is_good) /* later, or the end of all */
        return owner->exit_code;
    if (machine->has_root) {
        exit_code = check(machine);
        owner->n_done++;
        histogram_add(&owner->times_us, clock_mono().us - machine->from_us, 1);
        return exit_code;
    }
    exit_code = pick_root(machine);
    if (exit_code == BENCH_OK && (make_request(machine) < 0 || send_token(machine) < 0))
        exit_code = BENCH_FAILED;
    return exit_code;
}

/* Who was told "later" asks again, with the same key; who is through makes room for another. */
static int go_on(struct machine *machine)
{
    struct enroll *owner = machine->owner;

    if (machine->again_us > clock_mono().us)
        return 0;
    if (machine->again_us) {
        machine->again_us = 0;
        return pass(machine->has_root ? send_token(machine) : ask_root(machine));
    }
    return owner->n_begun < owner->n_agents ? pass(begin(machine)) : 0;
}

/* ---- all of them ---- */

/* Returns an exit code. */
static int run_all(struct enroll *bench)
{
    int exit_code = BENCH_OK;

    while (exit_code == BENCH_OK && bench->n_done < bench->n_agents) {
        if (bench_is_interrupted())
            return bench_say(BENCH_FAILED, "interrupted");
        if (loop_run_once(bench->loop, TICK_MS) < 0)
            return BENCH_FAILED;
        exit_code = bench->exit_code;
        for (uint64_t i = 0; i < bench->n_slots && exit_code == BENCH_OK; i++) {
            struct machine *machine = &bench->machines[i];

            if (machine->is_over)
                exit_code = step(machine);
            if (exit_code == BENCH_OK && !machine->channel && go_on(machine) < 0)
                exit_code = BENCH_FAILED;
        }
    }
    return exit_code;
}

/* Returns an exit code. */
static int make_token(struct enroll *bench)
{
    CLEANUP(ask_closep) struct ask *ask = NULL;
    Sentinel__Admin__V1__CreateTokenRequest request =
        SENTINEL__ADMIN__V1__CREATE_TOKEN_REQUEST__INIT;
    const Sentinel__Admin__V1__CreateTokenResponse *answer;
    Google__Protobuf__Duration ttl = GOOGLE__PROTOBUF__DURATION__INIT;
    struct identity_why why = { "there is no such method" };
    ProtobufCMessage *message = NULL;
    int exit_code;

    if (ask_open(&ask, bench->hub.address, NULL, bench->hub.operator_identity))
        return BENCH_FAILED;
    ttl.seconds = HOUR_S;
    request.ttl = &ttl;
    request.uses = (uint32_t) bench->n_agents;
    exit_code = ask_call(ask, CREATE_TOKEN, &request.base, &message);
    if (exit_code != BENCH_OK)
        return exit_code;
    answer = (const void *) message;
    if (!answer ||
        identity_enrolment_parse(span_of_text(answer->enrolment), &bench->enrolment, &why))
        return bench_say(BENCH_FAILED, "no token: %s", why.text);
    return BENCH_OK;
}

/* Returns an exit code. */
static int prepare(struct enroll *bench)
{
    int r = loop_new(&bench->loop);

    rand_init_from_system(&bench->rand);
    if (r == 0)
        r = fold(rpc_queue_new(&bench->queue, bench->loop));
    if (r == 0)
        r = fold(rpc_credentials_new(
            &bench->nobody, &(struct rpc_credentials_options){ .unverified_path = TRUST_BUNDLE }));
    bench->machines = r == 0 ? calloc(bench->n_slots, sizeof(*bench->machines)) : NULL;
    if (!bench->machines)
        return BENCH_FAILED;
    for (uint64_t i = 0; i < bench->n_slots; i++) {
        bench->machines[i].owner = bench;
        arena_init(&bench->machines[i].arena, ARENA_BYTES);
    }
    return make_token(bench);
}

/* Returns an exit code. */
static int run(struct enroll *bench)
{
    int64_t from_us, hub_cpu_us, own_cpu_us;
    int exit_code = prepare(bench);

    if (exit_code != BENCH_OK)
        return exit_code;
    from_us = clock_mono().us;
    hub_cpu_us = stats_cpu_us(bench->hub.pid);
    own_cpu_us = stats_cpu_us(getpid());
    exit_code = run_all(bench);
    bench->duration_s = (double) (clock_mono().us - from_us) / 1e6;
    bench->hub_cpu_s = (double) (stats_cpu_us(bench->hub.pid) - hub_cpu_us) / 1e6;
    bench->own_cpu_s = (double) (stats_cpu_us(getpid()) - own_cpu_us) / 1e6;
    return exit_code;
}

static void finish(struct enroll *bench)
{
    for (uint64_t i = 0; bench->machines && i < bench->n_slots; i++) {
        struct machine *machine = &bench->machines[i];

        hang_up(machine);
        arena_deinit(&machine->arena);
        buf_deinit(&machine->root_pem);
        buf_deinit(&machine->csr);
        tls_key_free(machine->key);
    }
    free(bench->machines);
    (void) rpc_credentials_free(bench->nobody);
    (void) rpc_queue_free(bench->queue);
    (void) loop_free(bench->loop);
}

/* ---- the report ---- */

static void report(const struct enroll *bench)
{
    const double per_s = (double) bench->n_done / bench->duration_s;
    CLEANUP(buf_deinit) struct buf text = { 0 };
    struct json_writer json;

    if (!bench->is_json) {
        printf("%" PRIu64 " machines enrolled, %" PRIu64 " under way at once, two connections "
               "each, in %.1f s\n\n",
               bench->n_done, bench->n_slots, bench->duration_s);
        print_line("enrolments", per_s, 0, "/s");
        print_line("from connect to certificate p50",
                   (double) histogram_quantile(&bench->times_us, 0.50) / 1e3, 2, "ms");
        print_line("from connect to certificate p99",
                   (double) histogram_quantile(&bench->times_us, 0.99) / 1e3, 2, "ms");
        print_line("asked again later", (double) bench->n_later, 0, "times");
        print_line("hub CPU", bench->hub_cpu_s, 2, "s");
        print_line("this program's CPU", bench->own_cpu_s, 2, "s");
        return;
    }
    json_begin(&json, &text, true);
    json_open_object(&json);
    json_put_u64(&json, "enrolled", bench->n_done);
    json_put_u64(&json, "concurrency", bench->n_slots);
    print_json_number(&json, "duration_s", bench->duration_s, 1000);
    print_json_number(&json, "enrolments_per_second", per_s, 1);
    json_put_u64(&json, "enrolment_p50_us", histogram_quantile(&bench->times_us, 0.50));
    json_put_u64(&json, "enrolment_p99_us", histogram_quantile(&bench->times_us, 0.99));
    json_put_u64(&json, "asked_again_later", bench->n_later);
    print_json_number(&json, "hub_cpu_s", bench->hub_cpu_s, 100);
    print_json_number(&json, "bench_cpu_s", bench->own_cpu_s, 100);
    json_close_object(&json);
    printf("%s\n", buf_text(&text));
}

/* ---- the whole ---- */

static struct enroll given = { .n_agents = 10000, .n_slots = 64 };

static const struct conf_option rows[] = {
    { .flag = "--agents", .metavar = "N", .value = &given.agents, .help = "how many enrol; 10000" },
    { .flag = "--concurrency",
      .metavar = "N",
      .value = &given.concurrency,
      .help = "machines that are under way at once; 64" },
    OPTIONS_OF_ALL(given),
    { .flag = NULL },
};

int cmd_enroll(int argc, char **argv)
{
    struct enroll *bench = &given;
    bool has_rpc = false;
    int exit_code = options_read_flags(argc, argv, rows, &given.wants_help,
                                       "Machines that enrol with one token.\n\nExample:\n"
                                       "  sentinel-bench enroll --agents 10000 --concurrency 64\n");

    if (exit_code >= 0)
        return exit_code;
    exit_code = options_read_count("--agents", given.agents, 1, 100000, &given.n_agents);
    if (exit_code == BENCH_OK)
        exit_code =
            options_read_count("--concurrency", given.concurrency, 1, 10000, &given.n_slots);
    if (exit_code != BENCH_OK)
        return exit_code;
    (void) bench_raise_descriptors();
    exit_code =
        hub_start(&bench->hub, &(struct bench_hub_options){ .parent_directory = bench->state_dir });
    if (exit_code == BENCH_OK) {
        has_rpc = rpc_init() == 0;
        exit_code = has_rpc ? run(bench) : BENCH_FAILED;
    }
    if (exit_code == BENCH_OK)
        report(bench);
    finish(bench);
    if (has_rpc)
        rpc_deinit();
    hub_stop(&bench->hub);
    return fflush(stdout) ? BENCH_FAILED : exit_code;
}
