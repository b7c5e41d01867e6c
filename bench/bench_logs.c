/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The command `logs`. A hub of its own takes a number of lines from each agent; then all of it is
 * sealed, then compacted. CPU of the hub is counted from the first line to the last sealed block:
 * what a hub that goes on for years pays for a line.
 */

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "bench/fill.h"
#include "bench/metrics.h"
#include "bench/print.h"
#include "bench/process.h"
#include "bench/verify_logs.h"
#include "common/rpc/rpc.h"

#define LINE_INTERVAL_US 100

struct logs_bench {
    const char *agents, *lines, *batch_lines, *window, *threads, *state_dir, *seed;
    bool sends_records, is_insecure, is_json, verifies, wants_help;
    uint64_t n_agents, n_lines, n_batch_lines, n_window, n_threads, seed_number;
    struct bench_hub hub;
    struct lines grammar;
    struct load load;
    struct fill fill;
    struct histogram ack_us;
    /* what came out */
    double load_s;
    int64_t load_cpu_us, all_cpu_us, own_cpu_us;
    uint64_t sealed_bytes, compacted_bytes, resident_bytes;
};

static int compact(struct logs_bench *bench)
{
    char state[600], log_path[600];
    const char *argv[] = { bench->hub.program, "compact", "--state-dir", state, NULL };
    int exit_code;

    snprintf(state, sizeof(state), "%s/hub", bench->hub.home);
    snprintf(log_path, sizeof(log_path), "%s/compact.log", bench->hub.home);
    bench->resident_bytes = stats_resident_bytes(bench->hub.pid);
    process_stop(bench->hub.pid, "the hub");
    bench->hub.pid = 0;
    exit_code = process_run(argv, log_path);
    bench->compacted_bytes = fill_logs_bytes(&bench->hub);
    return exit_code;
}

static int verify(struct logs_bench *bench)
{
    CLEANUP(ask_closep) struct ask *ask = NULL;

    if (ask_open(&ask, bench->hub.address, NULL,
                 bench->is_insecure ? NULL : bench->hub.operator_identity) < 0)
        return BENCH_FAILED; /* the log has said why */
    return verify_logs(ask, &bench->load,
                       bench->fill.n_batches / bench->n_agents * bench->n_batch_lines);
}

static int run(struct logs_bench *bench)
{
    const int64_t cpu_us = stats_cpu_us(bench->hub.pid), own_cpu_us = stats_cpu_us(getpid()),
                  from_us = clock_mono().us;
    int exit_code;

    exit_code = fill_run(&bench->fill);
    bench->load_s = (double) (clock_mono().us - from_us) / 1e6;
    bench->load_cpu_us = stats_cpu_us(bench->hub.pid) - cpu_us;
    bench->own_cpu_us = stats_cpu_us(getpid()) - own_cpu_us;
    if (exit_code == BENCH_OK)
        exit_code = fill_wait_sealed(&bench->hub, &bench->sealed_bytes, &bench->all_cpu_us);
    bench->all_cpu_us -= cpu_us;
    if (exit_code == BENCH_OK && bench->verifies)
        exit_code = verify(bench);
    return exit_code == BENCH_OK ? compact(bench) : exit_code;
}

/* ---- report ---- */

static double per(uint64_t bytes, double what)
{
    return what > 0 ? (double) bytes / what : NAN;
}

static void print_json(const struct logs_bench *bench)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    const uint64_t raw = bench->fill.ret_look.acknowledged_bytes;
    const uint64_t n_lines = bench->fill.ret_look.acknowledged * bench->n_batch_lines;
    struct json_writer json;

    json_begin(&json, &text, true);
    json_open_object(&json);
    json_put_bool(&json, "tls", !bench->is_insecure);
    json_put_text(&json, "log_form", fill_log_form(&bench->fill));
    json_put_u64(&json, "agents", bench->n_agents);
    json_put_u64(&json, "batch_lines", bench->n_batch_lines);
    json_put_u64(&json, "window", bench->n_window);
    json_put_u64(&json, "lines", n_lines);
    json_put_u64(&json, "raw_bytes", raw);
    print_json_number(&json, "bytes_per_line", per(raw, (double) n_lines), 10);
    print_json_number(&json, "duration_s", bench->load_s, 1000);
    print_json_number(&json, "log_mb_per_second", per(raw, bench->load_s * 1e6), 10);
    print_json_number(&json, "log_mb_per_hub_core_second", per(raw, (double) bench->all_cpu_us),
                      10);
    print_json_number(&json, "log_mb_per_hub_core_second_under_load",
                      per(raw, (double) bench->load_cpu_us), 10);
    print_json_number(&json, "hub_cpu_s", (double) bench->all_cpu_us / 1e6, 100);
    print_json_number(&json, "bench_cpu_s", (double) bench->own_cpu_us / 1e6, 100);
    json_put_u64(&json, "ack_p50_us", histogram_quantile(&bench->ack_us, 0.50));
    json_put_u64(&json, "ack_p99_us", histogram_quantile(&bench->ack_us, 0.99));
    json_put_u64(&json, "sealed_bytes", bench->sealed_bytes);
    json_put_u64(&json, "compacted_bytes", bench->compacted_bytes);
    print_json_number(&json, "log_bytes_ratio_sealed", per(raw, (double) bench->sealed_bytes), 100);
    print_json_number(&json, "log_bytes_ratio", per(raw, (double) bench->compacted_bytes), 100);
    json_put_u64(&json, "hub_rss_bytes", bench->resident_bytes);
    json_put_bool(&json, "verified", bench->verifies);
    json_close_object(&json);
    printf("%s\n", buf_text(&text));
}

static void print_text(const struct logs_bench *bench)
{
    const uint64_t raw = bench->fill.ret_look.acknowledged_bytes;
    const uint64_t n_lines = bench->fill.ret_look.acknowledged * bench->n_batch_lines;

    printf("%" PRIu64 " agents, %" PRIu64 " lines of %.0f bytes, %" PRIu64
           " in a message, log form %s, %s\n\n",
           bench->n_agents, n_lines, per(raw, (double) n_lines), bench->n_batch_lines,
           fill_log_form(&bench->fill), bench->is_insecure ? "plaintext" : "mutual TLS");
    print_line("taken", per(raw, bench->load_s * 1e6), 1, "MB/s of bodies");
    print_line("per hub core", per(raw, (double) bench->all_cpu_us), 1, "MB/s, sealing counted in");
    print_line("per hub core, under load", per(raw, (double) bench->load_cpu_us), 1, "MB/s");
    print_line("ack p50", (double) histogram_quantile(&bench->ack_us, 0.50) / 1e3, 2, "ms");
    print_line("ack p99", (double) histogram_quantile(&bench->ack_us, 0.99) / 1e3, 2, "ms");
    print_line("raw over stored, sealed", per(raw, (double) bench->sealed_bytes), 2, "");
    print_line("raw over stored, compacted", per(raw, (double) bench->compacted_bytes), 2, "");
    print_line("hub memory", (double) bench->resident_bytes / 1048576, 1, "MiB resident");
    print_line("this program's CPU", (double) bench->own_cpu_us / 1e6, 1, "s");
}

/* ---- the whole ---- */

static struct logs_bench given = { .n_agents = 40,
                                   .n_lines = 250000,
                                   .n_batch_lines = 500,
                                   .n_window = 16,
                                   .n_threads = 1,
                                   .seed_number = 1 };

static const struct conf_option rows[] = {
    { .flag = "--agents",
      .metavar = "N",
      .value = &given.agents,
      .help = "connections, each an agent's; 40" },
    { .flag = "--lines",
      .metavar = "N",
      .value = &given.lines,
      .help = "that each agent sends, in whole messages; 250000" },
    { .flag = "--batch-lines",
      .metavar = "N",
      .value = &given.batch_lines,
      .help = "lines in a message; 500" },
    { .flag = "--window",
      .metavar = "N",
      .value = &given.window,
      .help = "messages of an agent without an acknowledgement; 16" },
    { .flag = "--threads", .metavar = "N", .value = &given.threads, .help = "of this program; 1" },
    { .flag = "--seed", .metavar = "N", .value = &given.seed, .help = "of the lines; 1" },
    { .flag = "--records",
      .is_set = &given.sends_records,
      .help = "send lines as records, as a client does that knows no blocks" },
    { .flag = "--verify",
      .is_set = &given.verifies,
      .help = "ask the hub for every line afterwards, and compare" },
    { .flag = "--insecure", .is_set = &given.is_insecure, .help = "plaintext" },
    OPTIONS_OF_ALL(given),
    { .flag = NULL },
};

/* Returns -1 to go on, else an exit code. */
static int parse(int argc, char **argv)
{
    int exit_code =
        options_read_flags(argc, argv, rows, &given.wants_help,
                           "Streams log lines of many agents to a hub of its own over mutual "
                           "TLS.\n\nExample:\n  sentinel-bench logs --agents 200 --lines "
                           "50000\n");

    if (exit_code >= 0)
        return exit_code;
    exit_code = options_read_count("--agents", given.agents, 1, 10000, &given.n_agents);
    if (exit_code == BENCH_OK)
        exit_code = options_read_count("--batch-lines", given.batch_lines, 1, LINES_MAX_BATCH,
                                       &given.n_batch_lines);
    if (exit_code == BENCH_OK)
        exit_code = options_read_count("--lines", given.lines, 1, 30000000, &given.n_lines);
    if (exit_code == BENCH_OK)
        exit_code = options_read_count("--window", given.window, 1, 1024, &given.n_window);
    if (exit_code == BENCH_OK)
        exit_code = options_read_count("--threads", given.threads, 1, 64, &given.n_threads);
    if (exit_code == BENCH_OK)
        exit_code = options_read_count("--seed", given.seed, 0, UINT64_MAX, &given.seed_number);
    if (given.n_threads > given.n_agents)
        given.n_threads = given.n_agents;
    return exit_code == BENCH_OK ? -1 : exit_code;
}

static int prepare(struct logs_bench *bench)
{
    const uint64_t n_batches = (bench->n_lines + bench->n_batch_lines - 1) / bench->n_batch_lines;
    const int64_t now_us = clock_wall().us;

    bench->load = (struct load){ .n_agents = (uint32_t) bench->n_agents,
                                 .n_series = 1,
                                 .batch_scrapes = (uint32_t) bench->n_batch_lines,
                                 .interval_us = LINE_INTERVAL_US,
                                 .lines = &bench->grammar };
    bench->grammar = (struct lines){ .seed = bench->seed_number,
                                     .batch_lines = (uint32_t) bench->n_batch_lines,
                                     .first_us = now_us - now_us % 1000000,
                                     .interval_us = LINE_INTERVAL_US };
    bench->load.first_us = bench->grammar.first_us;
    bench->fill = (struct fill){
        .hub = &bench->hub,
        .load = &bench->load,
        .last_time_us = lines_time_us(&bench->grammar, n_batches * bench->n_batch_lines - 1),
        .n_threads = (uint32_t) bench->n_threads,
        .window = (uint32_t) bench->n_window,
        .sends_records = bench->sends_records,
        .n_batches = n_batches * bench->n_agents,
        .to_ack_us = &bench->ack_us,
    };
    return load_init(&bench->load) < 0 ? BENCH_FAILED : BENCH_OK;
}

int cmd_logs(int argc, char **argv)
{
    struct logs_bench *bench = &given;
    bool has_rpc = false;
    int exit_code = parse(argc, argv);

    if (exit_code >= 0)
        return exit_code;
    (void) bench_raise_descriptors();
    fill_seal_soon();
    exit_code = prepare(bench);
    if (exit_code == BENCH_OK)
        exit_code = hub_start(
            &bench->hub, &(struct bench_hub_options){ .parent_directory = bench->state_dir,
                                                      .n_identities = (uint32_t) bench->n_agents,
                                                      .is_insecure = bench->is_insecure });
    if (exit_code == BENCH_OK) {
        has_rpc = rpc_init() == 0;
        exit_code = has_rpc ? run(bench) : BENCH_FAILED;
    }
    if (exit_code == BENCH_OK)
        (bench->is_json ? print_json : print_text)(bench);
    load_deinit(&bench->load);
    if (has_rpc)
        rpc_deinit();
    hub_stop(&bench->hub);
    return fflush(stdout) ? BENCH_FAILED : exit_code;
}
