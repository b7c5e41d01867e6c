/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The command `idle`. Connections, each with a metrics stream that was welcomed and sends nothing:
 * what the hub's memory grew by, and the CPU time that pings take. A few identities serve them all,
 * each with many runs.
 */

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "bench/metrics.h"
#include "bench/print.h"
#include "bench/process.h"
#include "common/rpc/rpc.h"

/* A hub takes 100 streams of one agent. */
#define STREAMS_PER_IDENTITY 50u
#define CONNECT_PATIENCE_US INT64_C(600000000)

struct idle {
    const char *connections, *hold, *threads, *state_dir;
    bool is_json, is_insecure, wants_help;
    uint64_t n_connections, n_threads;
    int64_t hold_us;
    struct bench_hub hub;
    struct load load;
    uint64_t before_bytes, after_bytes;
    double connect_s, connect_cpu_s, hold_s, hold_cpu_s;
};

/* Returns an exit code. */
static int connect_all(struct idle *idle, struct fleet *fleet)
{
    const int64_t from_us = clock_mono().us, cpu_us = stats_cpu_us(idle->hub.pid);
    struct fleet_look look = fleet_look(fleet);
    char text[512];
    int exit_code;

    while (look.n_streaming < idle->n_connections && !look.has_failed && !bench_is_interrupted() &&
           clock_mono().us < from_us + CONNECT_PATIENCE_US) {
        if (isatty(STDERR_FILENO))
            fprintf(stderr, "\r%u of %" PRIu64 " connections\033[K", look.n_streaming,
                    idle->n_connections);
        process_nap();
        look = fleet_look(fleet);
    }
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r\033[K");
    idle->connect_s = (double) (clock_mono().us - from_us) / 1e6;
    idle->connect_cpu_s = (double) (stats_cpu_us(idle->hub.pid) - cpu_us) / 1e6;
    fleet_failure(fleet, text, sizeof(text), &exit_code);
    if (exit_code != BENCH_OK)
        return bench_say(exit_code, "%s", text);
    if (look.n_streaming < idle->n_connections)
        return bench_say(BENCH_UNAVAILABLE, "only %u connections came about", look.n_streaming);
    return BENCH_OK;
}

/* Returns an exit code. */
static int hold(struct idle *idle, struct fleet *fleet)
{
    const int64_t from_us = clock_mono().us, cpu_us = stats_cpu_us(idle->hub.pid);

    while (clock_mono().us < from_us + idle->hold_us && !bench_is_interrupted())
        process_nap();
    idle->hold_s = (double) (clock_mono().us - from_us) / 1e6;
    idle->hold_cpu_s = (double) (stats_cpu_us(idle->hub.pid) - cpu_us) / 1e6;
    idle->after_bytes = stats_resident_bytes(idle->hub.pid);
    if (bench_is_interrupted())
        return bench_say(BENCH_FAILED, "interrupted");
    if (fleet_look(fleet).n_streaming < idle->n_connections)
        return bench_say(BENCH_FAILED, "connections broke while they were held");
    return BENCH_OK;
}

static void report(const struct idle *idle)
{
    const double per_connection =
        ((double) idle->after_bytes - (double) idle->before_bytes) / (double) idle->n_connections;
    const double cpu_percent = 100 * idle->hold_cpu_s / idle->hold_s;
    CLEANUP(buf_deinit) struct buf text = { 0 };
    struct json_writer json;

    if (!idle->is_json) {
        printf("%" PRIu64 " connections, %s, each with one stream that sends nothing\n\n",
               idle->n_connections, idle->is_insecure ? "plaintext" : "mutual TLS");
        print_line("hub memory per connection", per_connection, 0, "bytes resident");
        print_line("hub memory", (double) idle->after_bytes / 1048576, 1, "MiB resident");
        print_line("  before them", (double) idle->before_bytes / 1048576, 1, "MiB resident");
        print_line("hub CPU while they are held", cpu_percent, 2, "% of a core");
        print_line("to connect them all", idle->connect_s, 1, "s");
        print_line("hub CPU for it", idle->connect_cpu_s, 1, "s");
        return;
    }
    json_begin(&json, &text, true);
    json_open_object(&json);
    json_put_u64(&json, "connections", idle->n_connections);
    json_put_bool(&json, "tls", !idle->is_insecure);
    print_json_number(&json, "bytes_per_idle_connection", per_connection, 1);
    json_put_u64(&json, "hub_rss_bytes", idle->after_bytes);
    json_put_u64(&json, "hub_rss_before_bytes", idle->before_bytes);
    print_json_number(&json, "idle_cpu_percent", cpu_percent, 100);
    print_json_number(&json, "connect_s", idle->connect_s, 1000);
    print_json_number(&json, "connect_hub_cpu_s", idle->connect_cpu_s, 1000);
    json_close_object(&json);
    printf("%s\n", buf_text(&text));
}

static int run(struct idle *idle, uint32_t n_identities)
{
    CLEANUP(fleet_freep) struct fleet *fleet = NULL;
    const struct fleet_options options = {
        .target = idle->hub.address,
        .identities = idle->is_insecure ? NULL : idle->hub.identities,
        .n_identities = n_identities,
        .n_threads = (uint32_t) idle->n_threads,
        .window = 1,
        .last_time_us = INT64_MAX,
    };
    int exit_code;

    idle->load = (struct load){
        .n_agents = (uint32_t) idle->n_connections,
        .n_series = 1,
        .batch_scrapes = 1,
        .interval_us = 10000000,
    };
    if (load_init(&idle->load) < 0)
        return BENCH_FAILED;
    idle->before_bytes = stats_resident_bytes(idle->hub.pid);
    if (fleet_start(&fleet, &options, &idle->load) < 0)
        return BENCH_FAILED;
    exit_code = connect_all(idle, fleet);
    if (exit_code == BENCH_OK)
        exit_code = hold(idle, fleet);
    if (exit_code == BENCH_OK)
        report(idle);
    return exit_code;
}

static struct idle given = { .n_connections = 10000, .n_threads = 1, .hold_us = 30000000 };

static const struct conf_option rows[] = {
    { .flag = "--connections", .metavar = "N", .value = &given.connections, .help = "10000" },
    { .flag = "--hold",
      .metavar = "TIME",
      .value = &given.hold,
      .help = "how long they are held before memory is read; 30s" },
    { .flag = "--threads", .metavar = "N", .value = &given.threads, .help = "of this program; 1" },
    { .flag = "--insecure", .is_set = &given.is_insecure, .help = "plaintext" },
    OPTIONS_OF_ALL(given),
    { .flag = NULL },
};

/* Returns -1 to go on, else an exit code. */
static int parse(int argc, char **argv)
{
    int exit_code = options_read_flags(argc, argv, rows, &given.wants_help,
                                       "Opens connections that do nothing.\n\nExample:\n"
                                       "  sentinel-bench idle --connections 10000\n");

    if (exit_code >= 0)
        return exit_code;
    exit_code =
        options_read_count("--connections", given.connections, 1, 1000000, &given.n_connections);
    if (exit_code == BENCH_OK)
        exit_code = options_read_count("--threads", given.threads, 1, 256, &given.n_threads);
    if (exit_code == BENCH_OK)
        exit_code = options_read_duration("--hold", given.hold, 1000000, &given.hold_us);
    if (given.n_threads > given.n_connections)
        given.n_threads = given.n_connections;
    return exit_code == BENCH_OK ? -1 : exit_code;
}

/* Each end of a connection is a process' descriptor. Returns an exit code. */
static int check_descriptors(uint64_t n_connections)
{
    const uint64_t have = bench_raise_descriptors(), wanted = n_connections + 500;

    if (have >= wanted)
        return BENCH_OK;
    return bench_say(BENCH_FAILED,
                     "this user may have %" PRIu64 " open files, and %" PRIu64
                     " are needed: raise the limit (ulimit -Hn), or fewer --connections",
                     have, wanted);
}

int cmd_idle(int argc, char **argv)
{
    struct idle *idle = &given;
    uint32_t n_identities;
    bool has_rpc = false;
    int exit_code = parse(argc, argv);

    if (exit_code >= 0)
        return exit_code;
    n_identities =
        (uint32_t) ((idle->n_connections + STREAMS_PER_IDENTITY - 1) / STREAMS_PER_IDENTITY);
    exit_code = check_descriptors(idle->n_connections);
    if (exit_code == BENCH_OK)
        exit_code =
            hub_start(&idle->hub, &(struct bench_hub_options){ .parent_directory = idle->state_dir,
                                                               .n_identities = n_identities,
                                                               .is_insecure = idle->is_insecure });
    if (exit_code == BENCH_OK) {
        has_rpc = rpc_init() == 0;
        exit_code = has_rpc ? run(idle, n_identities) : BENCH_FAILED;
    }
    load_deinit(&idle->load);
    if (has_rpc)
        rpc_deinit();
    hub_stop(&idle->hub);
    return fflush(stdout) ? BENCH_FAILED : exit_code;
}
