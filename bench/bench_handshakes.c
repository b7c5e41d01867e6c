/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The command `handshakes`. Again and again: a new connection (TCP, mutual TLS, HTTP/2), one short
 * question (grpc.health.v1.Health/Check) and its answer, the end. A number of them are always under
 * way. Every handshake is a full one: neither gRPC's server nor its client keeps sessions here, so
 * there is no resumption to measure.
 */

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "bench/metrics.h"
#include "bench/print.h"
#include "common/base/fault.h"
#include "common/loop/loop.h"
#include "common/rpc/client/client.h"
#include "common/tls/tls.h"

#define PATH "/grpc.health.v1.Health/Check"
#define TIMEOUT_US INT64_C(30000000)
#define TICK_US INT64_C(10000)
#define N_IDENTITIES 16u

struct handshakes;

struct slot {
    struct handshakes *owner;
    struct rpc_channel *channel;
    struct rpc_client_call *call;
    int64_t from_us;
    bool is_over; /* the call is; its end is taken care of outside of its callback */
};

struct handshakes {
    const char *concurrency, *duration, *warmup, *state_dir;
    bool is_json, is_insecure, wants_help;
    uint64_t n_slots;
    int64_t duration_us, warmup_us;
    struct bench_hub hub;
    struct loop *loop;
    struct rpc_queue *queue;
    struct rpc_credentials *credentials[N_IDENTITIES];
    struct slot *slots;
    uint64_t n_begun;
    bool is_measuring;
    int exit_code;
    /* the measured window */
    struct histogram times_us;
    double duration_s, hub_cpu_s, own_cpu_s;
};

/* ---- one connection ---- */

static void on_message(struct rpc_client_call *call, struct span message)
{
    (void) message;
    rpc_client_call_read(call); /* the status comes when nothing is left to read */
}

static void on_closed(struct rpc_client_call *call, const struct rpc_status *status)
{
    struct slot *slot = rpc_client_call_ctx(call);
    struct handshakes *owner = slot->owner;

    if (status->code == RPC_OK && owner->is_measuring)
        histogram_add(&owner->times_us, clock_mono().us - slot->from_us, 1);
    if (status->code != RPC_OK && owner->exit_code == BENCH_OK)
        owner->exit_code = bench_say(BENCH_FAILED, "a connection failed: %s %s",
                                     rpc_code_name(status->code), status->message);
    slot->is_over = true;
}

static const struct rpc_client_handler handler = {
    .on_message = on_message,
    .on_closed = on_closed,
};

static void slot_close(struct slot *slot)
{
    slot->call = rpc_client_call_unref(slot->call);
    slot->channel = rpc_channel_free(slot->channel);
    slot->is_over = false;
}

static int slot_open(struct slot *slot)
{
    struct handshakes *owner = slot->owner;
    const struct rpc_client_call_options options = {
        .path = PATH,
        .timeout_us = TIMEOUT_US,
        .wait_for_ready = true,
        .handler = &handler,
        .ctx = slot,
    };
    int r;

    slot->from_us = clock_mono().us;
    r = fold(rpc_channel_new(&slot->channel, owner->queue,
                             &(struct rpc_channel_options){
                                 .target = owner->hub.address,
                                 .credentials = owner->credentials[owner->n_begun % N_IDENTITIES],
                             }));
    owner->n_begun++;
    if (r == 0)
        r = rpc_client_call_new(&slot->call, slot->channel, &options);
    if (r == 0)
        r = fold(rpc_client_call_send(slot->call, span_of("", 0))); /* an empty request */
    if (r < 0)
        return pass(r);
    rpc_client_call_half_close(slot->call);
    rpc_client_call_read(slot->call);
    return 0;
}

/* ---- all of them ---- */

/* Returns an exit code. */
static int run_for(struct handshakes *bench, int64_t duration_us)
{
    const int64_t due_us = clock_mono().us + duration_us;
    int r = 0;

    while (r == 0 && clock_mono().us < due_us && bench->exit_code == BENCH_OK) {
        if (bench_is_interrupted())
            return bench_say(BENCH_FAILED, "interrupted");
        r = loop_run_once(bench->loop, (int) (TICK_US / 1000));
        for (uint64_t i = 0; i < bench->n_slots && r == 0; i++) {
            struct slot *slot = &bench->slots[i];

            if (slot->is_over)
                slot_close(slot);
            if (!slot->channel)
                r = slot_open(slot);
        }
    }
    return r < 0 ? BENCH_FAILED : bench->exit_code;
}

static int load_credentials(struct handshakes *bench, uint32_t number)
{
    CLEANUP(tls_identity_deinit) struct tls_identity identity = { 0 };
    struct tls_why why = { "" };
    char directory[700];
    int r;

    snprintf(directory, sizeof(directory), "%s/bench-%u", bench->hub.identities, number);
    r = tls_identity_load(directory, &identity, &why);
    if (r == 0)
        r = rpc_credentials_new(
            &bench->credentials[number],
            &(struct rpc_credentials_options){ .roots_pem = buf_span(&identity.roots_pem),
                                               .chain_pem = buf_span(&identity.chain_pem),
                                               .key_pem = buf_span(&identity.key_pem) });
    if (r > 0)
        return bench_say(BENCH_FAILED, "no usable identity in %s: %s", directory, why.text);
    return r < 0 ? BENCH_FAILED : BENCH_OK;
}

static int measure(struct handshakes *bench)
{
    int64_t from_us, hub_us, own_us;
    int exit_code = run_for(bench, bench->warmup_us);

    if (exit_code != BENCH_OK)
        return exit_code;
    from_us = clock_mono().us;
    hub_us = stats_cpu_us(bench->hub.pid);
    own_us = stats_cpu_us(getpid());
    bench->is_measuring = true;
    exit_code = run_for(bench, bench->duration_us);
    bench->is_measuring = false;
    bench->duration_s = (double) (clock_mono().us - from_us) / 1e6;
    bench->hub_cpu_s = (double) (stats_cpu_us(bench->hub.pid) - hub_us) / 1e6;
    bench->own_cpu_s = (double) (stats_cpu_us(getpid()) - own_us) / 1e6;
    return exit_code;
}

static int run(struct handshakes *bench)
{
    int exit_code = BENCH_OK;

    for (uint32_t i = 0; i < N_IDENTITIES && !bench->is_insecure && exit_code == BENCH_OK; i++)
        exit_code = load_credentials(bench, i);
    bench->slots = calloc(bench->n_slots, sizeof(*bench->slots));
    if (exit_code != BENCH_OK)
        return exit_code;
    if (!bench->slots || loop_new(&bench->loop) < 0 ||
        rpc_queue_new(&bench->queue, bench->loop) < 0)
        return BENCH_FAILED;
    for (uint64_t i = 0; i < bench->n_slots; i++)
        bench->slots[i].owner = bench;
    return measure(bench);
}

static void finish(struct handshakes *bench)
{
    for (uint64_t i = 0; bench->slots && i < bench->n_slots; i++)
        slot_close(&bench->slots[i]);
    free(bench->slots);
    bench->queue = rpc_queue_free(bench->queue);
    bench->loop = loop_free(bench->loop);
    for (uint32_t i = 0; i < N_IDENTITIES; i++)
        bench->credentials[i] = rpc_credentials_free(bench->credentials[i]);
}

/* ---- report ---- */

static void report(const struct handshakes *bench)
{
    const double n = (double) histogram_count(&bench->times_us);
    const double per_s = n / bench->duration_s;
    const double per_core_s = bench->hub_cpu_s > 0 ? n / bench->hub_cpu_s : NAN;
    CLEANUP(buf_deinit) struct buf text = { 0 };
    struct json_writer json;

    if (!bench->is_json) {
        printf("connections with one short call each, %s, %" PRIu64 " under way, %.1f s "
               "measured\n\n",
               bench->is_insecure ? "plaintext" : "mutual TLS, full handshakes", bench->n_slots,
               bench->duration_s);
        print_line("connections", per_s, 0, "/s");
        print_line("connections per hub core", per_core_s, 0, "/s");
        print_line("from connect to answer p50",
                   (double) histogram_quantile(&bench->times_us, 0.50) / 1e3, 2, "ms");
        print_line("from connect to answer p99",
                   (double) histogram_quantile(&bench->times_us, 0.99) / 1e3, 2, "ms");
        print_line("hub CPU", bench->hub_cpu_s, 2, "s");
        print_line("this program's CPU", bench->own_cpu_s, 2, "s");
        return;
    }
    json_begin(&json, &text, true);
    json_open_object(&json);
    json_put_bool(&json, "tls", !bench->is_insecure);
    json_put_u64(&json, "concurrency", bench->n_slots);
    print_json_number(&json, "duration_s", bench->duration_s, 1000);
    print_json_number(&json, "handshakes_per_second", per_s, 1);
    print_json_number(&json, "handshakes_per_hub_core_second", per_core_s, 1);
    json_put_u64(&json, "handshake_p50_us", histogram_quantile(&bench->times_us, 0.50));
    json_put_u64(&json, "handshake_p99_us", histogram_quantile(&bench->times_us, 0.99));
    print_json_number(&json, "hub_cpu_s", bench->hub_cpu_s, 100);
    print_json_number(&json, "bench_cpu_s", bench->own_cpu_s, 100);
    json_close_object(&json);
    printf("%s\n", buf_text(&text));
}

/* ---- the whole ---- */

static struct handshakes given = { .n_slots = 32, .duration_us = 10000000, .warmup_us = 2000000 };

static const struct conf_option rows[] = {
    { .flag = "--concurrency",
      .metavar = "N",
      .value = &given.concurrency,
      .help = "connections that are under way at once; 32" },
    { .flag = "--duration",
      .metavar = "TIME",
      .value = &given.duration,
      .help = "that is measured; 10s" },
    { .flag = "--warmup", .metavar = "TIME", .value = &given.warmup, .help = "before it; 2s" },
    { .flag = "--insecure",
      .is_set = &given.is_insecure,
      .help = "plaintext: what a connection costs without its handshake" },
    OPTIONS_OF_ALL(given),
    { .flag = NULL },
};

/* Returns -1 to go on, else an exit code. */
static int parse(int argc, char **argv)
{
    int exit_code = options_read_flags(argc, argv, rows, &given.wants_help,
                                       "Opens connections, one after the other.\n\nExample:\n"
                                       "  sentinel-bench handshakes --concurrency 32\n");

    if (exit_code >= 0)
        return exit_code;
    exit_code = options_read_count("--concurrency", given.concurrency, 1, 10000, &given.n_slots);
    if (exit_code == BENCH_OK)
        exit_code = options_read_duration("--duration", given.duration, 1000, &given.duration_us);
    if (exit_code == BENCH_OK)
        exit_code = options_read_duration("--warmup", given.warmup, 0, &given.warmup_us);
    return exit_code == BENCH_OK ? -1 : exit_code;
}

int cmd_handshakes(int argc, char **argv)
{
    struct handshakes *bench = &given;
    bool has_rpc = false;
    int exit_code = parse(argc, argv);

    if (exit_code >= 0)
        return exit_code;
    (void) bench_raise_descriptors();
    exit_code =
        hub_start(&bench->hub, &(struct bench_hub_options){ .parent_directory = bench->state_dir,
                                                            .n_identities = N_IDENTITIES,
                                                            .is_insecure = bench->is_insecure });
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
