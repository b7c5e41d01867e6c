/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The command `metrics`. Phases: a hub, connections, warm-up, the measured window, the end (what is under way is acknowledged
 * and every stream is half-closed), the oracle, the report.
 */

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "bench/bench.h"
#include "common/base/fault.h"
#include "common/base/rand.h"
#include "common/base/text.h"
#include "common/conf/conf.h"
#include "common/rpc/rpc.h"

#define CONNECT_PATIENCE_US INT64_C(120000000)
#define FINISH_PATIENCE_US  INT64_C(60000000)
#define NAP_US              10000
/* Within [now - retention, now + 1 h] of a hub with its own settings, with room for a slow run. */
#define BACK_US             (14 * INT64_C(86400000000))
#define AHEAD_US            (30 * INT64_C(60000000))

/* The command line, and what it means. */
struct options {
    const char *hub, *identities, *operator_identity, *server_name, *state_dir, *hub_pid;
    const char *agents, *series, *duration, *warmup, *rate, *batch_scrapes, *window, *threads, *interval;
    bool reconnects, verifies, is_json, is_verbose, wants_help;
    uint64_t n_agents, n_series, n_batch_scrapes, n_window, n_threads, samples_per_s;
    int64_t duration_us, warmup_us, interval_us;
    pid_t pid;
};

/* What is known at a moment. */
struct moment {
    mono_us at;
    uint64_t acknowledged; /* batches */
    int64_t cpu_us;        /* -1: not known */
};

struct metrics {
    struct options options;
    struct bench_hub hub;
    char identities[600], operator_identity[600]; /* of that hub */
    struct load load;
    struct fleet *fleet;
    struct ask *ask;
    bool has_rpc;
    struct moment begin, end;
    int64_t disk_before, disk_after; /* -1: not known */
    uint64_t resident_bytes;         /* 0: not known */
    struct verify_result verified;
    bool was_verified;
    mono_us progress_due;
    uint64_t progress_acknowledged;
    int64_t progress_cpu_us;
};

/* ---- options ---- */

static int read_count(const char *flag, const char *text, uint64_t min, uint64_t max, uint64_t *ret)
{
    if (!text)
        return BENCH_OK;
    if (text_to_u64(text, ret) || *ret < min || *ret > max)
        return bench_say(BENCH_USAGE, "%s: `%s` is not a number from %" PRIu64 " to %" PRIu64, flag, text, min, max);
    return BENCH_OK;
}

static int read_duration(const char *flag, const char *text, int64_t min_us, int64_t *ret_us)
{
    if (!text)
        return BENCH_OK;
    if (text_to_duration_us(text, ret_us) || *ret_us < min_us)
        return bench_say(BENCH_USAGE, "%s: `%s` is not a duration such as 10s, or too short", flag, text);
    return BENCH_OK;
}

static int read_numbers(struct options *options)
{
    const struct {
        const char *flag, *text;
        uint64_t min, max;
        uint64_t *to;
    } counts[] = {
        { "--agents", options->agents, 1, 100000, &options->n_agents },
        { "--series", options->series, 1, LOAD_MAX_SERIES, &options->n_series },
        { "--batch-scrapes", options->batch_scrapes, 1, LOAD_MAX_SAMPLES, &options->n_batch_scrapes },
        { "--window", options->window, 1, 65536, &options->n_window },
        { "--threads", options->threads, 1, 256, &options->n_threads },
        { "--rate", options->rate, 0, UINT64_C(1000000000000), &options->samples_per_s },
    };
    uint64_t pid = 0;
    int exit_code = BENCH_OK;

    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]) && exit_code == BENCH_OK; i++)
        exit_code = read_count(counts[i].flag, counts[i].text, counts[i].min, counts[i].max, counts[i].to);
    if (exit_code == BENCH_OK)
        exit_code = read_count("--hub-pid", options->hub_pid, 1, INT32_MAX, &pid);
    options->pid = (pid_t) pid;
    if (exit_code == BENCH_OK)
        exit_code = read_duration("--duration", options->duration, 1000, &options->duration_us);
    if (exit_code == BENCH_OK)
        exit_code = read_duration("--warmup", options->warmup, 0, &options->warmup_us);
    if (exit_code == BENCH_OK)
        exit_code = read_duration("--interval", options->interval, 1000, &options->interval_us);
    return exit_code;
}

static int check_options(struct options *options)
{
    int exit_code = read_numbers(options);

    if (exit_code != BENCH_OK)
        return exit_code;
    if (options->n_series * options->n_batch_scrapes > LOAD_MAX_SAMPLES)
        return bench_say(BENCH_USAGE, "--series times --batch-scrapes is more than %u, what a hub takes in a batch",
                         LOAD_MAX_SAMPLES);
    if (options->n_threads > options->n_agents)
        options->n_threads = options->n_agents;
    if (!options->hub)
        return BENCH_OK;
    if (!options->identities)
        return bench_say(BENCH_USAGE, "--hub needs --identities DIR; `sentinel-bench identities` makes them");
    if (options->verifies && !options->operator_identity)
        return bench_say(BENCH_USAGE, "--verify with --hub needs --operator DIR, the identity of a viewer or more");
    return BENCH_OK;
}

/* Returns -1 to go on, else an exit code. */
static int parse(int argc, char **argv, struct options *options)
{
    const struct conf_option rows[] = {
        { .flag = "--agents", .metavar = "N", .value = &options->agents, .help = "connections, each an agent's; 200" },
        { .flag = "--series", .metavar = "N", .value = &options->series, .help = "of each agent; 500" },
        { .flag = "--duration", .metavar = "TIME", .value = &options->duration, .help = "that is measured; 20s" },
        { .flag = "--warmup", .metavar = "TIME", .value = &options->warmup, .help = "load before it; 3s" },
        { .flag = "--rate", .metavar = "N", .value = &options->rate, .help = "samples per second of all agents; 0: as fast as acknowledgements allow" },
        { .flag = "--batch-scrapes", .metavar = "N", .value = &options->batch_scrapes, .help = "scrapes in a message; 1" },
        { .flag = "--window", .metavar = "N", .value = &options->window, .help = "messages of an agent without an acknowledgement; 64" },
        { .flag = "--threads", .metavar = "N", .value = &options->threads, .help = "of this program; 1" },
        { .flag = "--interval", .metavar = "TIME", .value = &options->interval, .help = "between the times of an agent's scrapes; 10s" },
        { .flag = "--reconnect", .is_set = &options->reconnects, .help = "go on when a stream breaks" },
        { .flag = "--verify", .is_set = &options->verifies, .help = "ask the hub for everything afterwards, and compare" },
        { .flag = "--json", .is_set = &options->is_json, .help = "one JSON object on stdout" },
        { .flag = "-v", .is_set = &options->is_verbose, .help = "progress, also when stderr is no terminal" },
        { .flag = "--state-dir", .metavar = "DIR", .value = &options->state_dir, .help = "the hub's files go below it; $TMPDIR, else /tmp" },
        { .flag = "--hub", .metavar = "HOST:PORT", .value = &options->hub, .help = "a hub that runs already" },
        { .flag = "--identities", .metavar = "DIR", .value = &options->identities, .help = "with bench-0, bench-1, ... of that hub" },
        { .flag = "--operator", .metavar = "DIR", .value = &options->operator_identity, .help = "identity to ask that hub with: --verify, its CPU time and size" },
        { .flag = "--server-name", .metavar = "NAME", .value = &options->server_name, .help = "that its certificate must carry; the host of --hub" },
        { .flag = "--hub-pid", .metavar = "PID", .value = &options->hub_pid, .help = "of that hub, when it runs here: CPU time and memory" },
        { .flag = "--help", .is_set = &options->wants_help, .help = "this text" },
        { .flag = "-h", .is_set = &options->wants_help },
        { .flag = NULL },
    };
    struct conf_args args = { 0 };
    struct conf_error error = { "" };
    int exit_code;

    if (conf_parse_args(argc, argv, rows, NULL, &args, &error))
        return bench_say(BENCH_USAGE, "%s", error.text);
    if (options->wants_help) {
        struct buf text = { 0 };

        conf_print_options(rows, &text);
        printf("Streams metrics of many agents over mutual TLS.\n\nExample:\n"
               "  sentinel-bench metrics --agents 200 --series 500 --duration 20s --verify\n\nOptions:\n%s",
               buf_text(&text));
        buf_deinit(&text);
        return BENCH_OK;
    }
    if (args.n_rest > 0)
        return bench_say(BENCH_USAGE, "`%s` is too much; --help has the options", args.rest[0]);
    exit_code = check_options(options);
    return exit_code == BENCH_OK ? -1 : exit_code;
}

/* ---- looking ---- */

static uint64_t sum_acknowledged(const struct metrics *metrics)
{
    uint64_t n = 0;

    for (size_t i = 0; i < fleet_n_parts(metrics->fleet); i++)
        n += atomic_load(&fleet_counters(metrics->fleet, i)->acknowledged);
    return n;
}

/* Of agents; the counter lies at the same place in each part. */
static uint32_t sum_agents(const struct metrics *metrics, size_t offset)
{
    uint32_t n = 0;

    for (size_t i = 0; i < fleet_n_parts(metrics->fleet); i++) {
        const char *counters = (const char *) fleet_counters(metrics->fleet, i);

        n += atomic_load((const _Atomic(uint32_t) *) (const void *) (counters + offset));
    }
    return n;
}

static uint64_t samples_of(const struct metrics *metrics, uint64_t n_batches)
{
    return n_batches * metrics->load.n_series * metrics->load.batch_scrapes;
}

static void take_moment(struct metrics *metrics, struct moment *ret)
{
    struct ask_status status = { .cpu_us = -1 };

    if (metrics->options.pid > 0)
        status.cpu_us = stats_cpu_us(metrics->options.pid);
    else if (metrics->ask && ask_status(metrics->ask, &status) != BENCH_OK)
        status.cpu_us = -1;
    ret->at = clock_mono();
    ret->acknowledged = sum_acknowledged(metrics);
    ret->cpu_us = status.cpu_us;
}

static void look_at_size(struct metrics *metrics, int64_t *ret_disk)
{
    struct ask_status status = { 0 };
    char path[600];

    *ret_disk = -1;
    if (metrics->hub.pid > 0) {
        snprintf(path, sizeof(path), "%s/hub/db", metrics->hub.home);
        *ret_disk = (int64_t) stats_disk_bytes(path);
    } else if (metrics->ask && ask_status(metrics->ask, &status) == BENCH_OK) {
        *ret_disk = (int64_t) status.database_bytes;
        metrics->resident_bytes = status.resident_bytes;
    }
    if (metrics->options.pid > 0)
        metrics->resident_bytes = stats_resident_bytes(metrics->options.pid);
}

static struct histogram *merge_acks(const struct metrics *metrics)
{
    struct histogram *all = calloc(1, sizeof(*all));

    for (size_t i = 0; all && i < fleet_n_parts(metrics->fleet); i++)
        histogram_merge(all, &fleet_counters(metrics->fleet, i)->ack_us);
    return all;
}

static void show_progress(struct metrics *metrics)
{
    const bool is_terminal = isatty(STDERR_FILENO);
    const mono_us now = clock_mono();
    struct histogram *acks;
    uint64_t acknowledged;
    int64_t cpu_us;

    if ((!is_terminal && !metrics->options.is_verbose) || now.us < metrics->progress_due.us)
        return;
    acknowledged = sum_acknowledged(metrics);
    cpu_us = metrics->options.pid > 0 ? stats_cpu_us(metrics->options.pid) : -1;
    acks = merge_acks(metrics);
    if (metrics->progress_due.us > 0 && acks) {
        fprintf(stderr, "%s%" PRIu64 " samples/s   ack p99 %.1f ms", is_terminal ? "\r" : "",
                samples_of(metrics, acknowledged - metrics->progress_acknowledged),
                (double) histogram_quantile(acks, 0.99) / 1e3);
        if (cpu_us >= 0 && metrics->progress_cpu_us >= 0)
            fprintf(stderr, "   hub %.0f %% of a core", (double) (cpu_us - metrics->progress_cpu_us) / 1e4);
        fprintf(stderr, "   %u streams%s", sum_agents(metrics, offsetof(struct fleet_counters, n_streaming)),
                is_terminal ? "\033[K" : "\n");
    }
    free(acks);
    metrics->progress_due.us = now.us + 1000000;
    metrics->progress_acknowledged = acknowledged;
    metrics->progress_cpu_us = cpu_us;
}

/* ---- phases ---- */

static int failure(const struct metrics *metrics)
{
    char text[512];
    int exit_code;

    fleet_failure(metrics->fleet, text, sizeof(text), &exit_code);
    return exit_code;
}

/* Until the claim holds, time is over, an agent failed for good, or we are told to stop. Returns whether it holds. */
static bool wait_until(struct metrics *metrics, bool (*is_true)(const struct metrics *metrics), int64_t patience_us)
{
    const int64_t due_us = clock_mono().us + patience_us;

    while (clock_mono().us < due_us) {
        if (is_true(metrics))
            return true;
        if (bench_is_interrupted())
            return false;
        if (isatty(STDERR_FILENO) || metrics->options.is_verbose)
            show_progress(metrics);
        nanosleep(&(struct timespec){ .tv_nsec = NAP_US * 1000 }, NULL);
    }
    return is_true(metrics);
}

static bool is_connected(const struct metrics *metrics)
{
    return sum_agents(metrics, offsetof(struct fleet_counters, n_streaming)) == metrics->load.n_agents ||
           failure(metrics) != BENCH_OK;
}

static bool has_failed(const struct metrics *metrics)
{
    return failure(metrics) != BENCH_OK ||
           sum_agents(metrics, offsetof(struct fleet_counters, n_used_up)) == metrics->load.n_agents;
}

static bool is_done(const struct metrics *metrics)
{
    return sum_agents(metrics, offsetof(struct fleet_counters, n_done)) == metrics->load.n_agents;
}

/* Returns an exit code; the report is worth printing when `end` was taken. */
static int run_load(struct metrics *metrics)
{
    const struct options *options = &metrics->options;
    int exit_code = BENCH_OK;

    if (!wait_until(metrics, is_connected, CONNECT_PATIENCE_US))
        exit_code = bench_say(BENCH_UNAVAILABLE, bench_is_interrupted() ? "interrupted" : "not all agents could connect in time");
    if (exit_code == BENCH_OK && failure(metrics) == BENCH_OK) {
        look_at_size(metrics, &metrics->disk_before);
        fleet_set_stage(metrics->fleet, FLEET_LOAD);
        (void) wait_until(metrics, has_failed, options->warmup_us);
        take_moment(metrics, &metrics->begin);
        fleet_set_measuring(metrics->fleet, true);
        if (wait_until(metrics, has_failed, options->duration_us) && failure(metrics) == BENCH_OK)
            bench_say(BENCH_OK, "the times that the hub takes are used up: the window is shorter; --interval makes them last");
        take_moment(metrics, &metrics->end);
        fleet_set_measuring(metrics->fleet, false);
        fleet_set_stage(metrics->fleet, FLEET_FINISH);
        if (!bench_is_interrupted() && !wait_until(metrics, is_done, FINISH_PATIENCE_US))
            exit_code = bench_say(BENCH_FAILED, bench_is_interrupted() ? "interrupted" : "not everything was acknowledged in time");
    }
    fleet_set_stage(metrics->fleet, FLEET_ABORT);
    fleet_join(metrics->fleet);
    if (bench_is_interrupted() && exit_code == BENCH_OK)
        exit_code = bench_say(BENCH_FAILED, "interrupted");
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r\033[K");
    return exit_code;
}

static int run_verify(struct metrics *metrics)
{
    const struct verify_result *result = &metrics->verified;
    int exit_code;

    exit_code = verify_run(metrics->ask, &metrics->load, metrics->fleet, &metrics->verified);
    if (exit_code != BENCH_OK)
        return bench_is_interrupted() ? BENCH_FAILED : exit_code;
    metrics->was_verified = result->missing + result->doubled + result->wrong + result->unsent == 0;
    if (metrics->was_verified)
        return BENCH_OK;
    return bench_say(BENCH_FAILED,
                     "NOT KEPT: %" PRIu64 " acknowledged samples are missing, %" PRIu64 " are there twice, %" PRIu64
                     " have another value, %" PRIu64 " were never sent",
                     result->missing, result->doubled, result->wrong, result->unsent);
}

/* ---- report ---- */

/* NaN: not known. */
struct report {
    double duration_s, samples_per_s, hub_cpu_s, per_core_s, wire_bytes, disk_bytes, resident_bytes;
    uint64_t ack_p50_us, ack_p99_us, ack_max_us;
    uint64_t acknowledged, refused, reconnects, throttles;
};

static void make_report(const struct metrics *metrics, struct report *ret)
{
    const uint64_t measured = samples_of(metrics, metrics->end.acknowledged - metrics->begin.acknowledged);
    struct histogram *acks = merge_acks(metrics);
    uint64_t sent = 0, sent_bytes = 0;

    *ret = (struct report){ .duration_s = (double) (metrics->end.at.us - metrics->begin.at.us) / 1e6 };
    for (size_t i = 0; i < fleet_n_parts(metrics->fleet); i++) {
        const struct fleet_counters *counters = fleet_counters(metrics->fleet, i);

        sent += atomic_load(&counters->sent);
        sent_bytes += atomic_load(&counters->sent_bytes);
        ret->refused += atomic_load(&counters->refused);
        ret->reconnects += atomic_load(&counters->reconnects);
        ret->throttles += atomic_load(&counters->throttles);
    }
    ret->acknowledged = samples_of(metrics, sum_acknowledged(metrics));
    ret->samples_per_s = ret->duration_s > 0 ? (double) measured / ret->duration_s : NAN;
    ret->hub_cpu_s = (double) (metrics->end.cpu_us - metrics->begin.cpu_us) / 1e6;
    if (metrics->begin.cpu_us < 0 || metrics->end.cpu_us < metrics->begin.cpu_us)
        ret->hub_cpu_s = NAN; /* or another process by now */
    ret->per_core_s = ret->hub_cpu_s > 0 ? (double) measured / ret->hub_cpu_s : NAN;
    ret->wire_bytes = sent > 0 ? (double) sent_bytes / (double) samples_of(metrics, sent) : NAN;
    ret->disk_bytes = NAN;
    if (metrics->disk_before >= 0 && metrics->disk_after >= 0 && ret->acknowledged > 0)
        ret->disk_bytes = (double) (metrics->disk_after - metrics->disk_before) / (double) ret->acknowledged;
    ret->resident_bytes = metrics->resident_bytes > 0 ? (double) metrics->resident_bytes : NAN;
    if (acks) {
        ret->ack_p50_us = histogram_quantile(acks, 0.50);
        ret->ack_p99_us = histogram_quantile(acks, 0.99);
        ret->ack_max_us = histogram_max(acks);
    }
    free(acks);
}

static void put_number(struct json_writer *json, const char *key, double value, double unit)
{
    json_key(json, key);
    if (isnan(value))
        json_null(json);
    else
        json_f64(json, round(value / unit) * unit);
}

static void print_json(const struct metrics *metrics, const struct report *report)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    const struct options *options = &metrics->options;
    struct json_writer json;

    json_begin(&json, &text, true);
    json_open_object(&json);
    json_put_u64(&json, "agents", options->n_agents);
    json_put_u64(&json, "series", options->n_series);
    json_put_u64(&json, "batch_scrapes", options->n_batch_scrapes);
    json_put_u64(&json, "window", options->n_window);
    json_put_u64(&json, "rate", options->samples_per_s);
    put_number(&json, "duration_s", report->duration_s, 0.001);
    put_number(&json, "samples_per_second", report->samples_per_s, 1);
    put_number(&json, "samples_per_hub_core_second", report->per_core_s, 1);
    put_number(&json, "hub_cpu_s", report->hub_cpu_s, 0.01);
    json_put_u64(&json, "ack_p50_us", report->ack_p50_us);
    json_put_u64(&json, "ack_p99_us", report->ack_p99_us);
    json_put_u64(&json, "ack_max_us", report->ack_max_us);
    put_number(&json, "wire_bytes_per_sample", report->wire_bytes, 0.001);
    put_number(&json, "disk_bytes_per_sample", report->disk_bytes, 0.001);
    put_number(&json, "hub_rss_bytes", report->resident_bytes, 1);
    json_put_u64(&json, "acknowledged", report->acknowledged);
    json_put_u64(&json, "refused", report->refused);
    json_put_u64(&json, "reconnects", report->reconnects);
    json_put_u64(&json, "throttles", report->throttles);
    json_put_bool(&json, "verified", metrics->was_verified);
    json_put_u64(&json, "verify_missing", metrics->verified.missing);
    json_put_u64(&json, "verify_double", metrics->verified.doubled);
    json_put_u64(&json, "verify_wrong", metrics->verified.wrong);
    json_put_u64(&json, "verify_unsent", metrics->verified.unsent);
    json_close_object(&json);
    printf("%s\n", buf_text(&text));
}

static void print_line(const char *name, double value, int decimals, const char *unit)
{
    if (isnan(value))
        printf("%-28s %14s\n", name, "not known");
    else
        printf("%-28s %14.*f %s\n", name, decimals, value, unit);
}

static void print_text(const struct metrics *metrics, const struct report *report)
{
    const struct verify_result *verified = &metrics->verified;

    printf("%" PRIu64 " agents x %" PRIu64 " series, %.1f s measured\n\n", metrics->options.n_agents,
           metrics->options.n_series, report->duration_s);
    print_line("samples", report->samples_per_s, 0, "/s, acknowledged: on disk");
    print_line("samples per hub core", report->per_core_s, 0, "/s");
    print_line("hub CPU", report->hub_cpu_s, 2, "s");
    print_line("acknowledgement p50", (double) report->ack_p50_us / 1e3, 2, "ms, from send to the ack that covers it");
    print_line("acknowledgement p99", (double) report->ack_p99_us / 1e3, 2, "ms");
    print_line("acknowledgement max", (double) report->ack_max_us / 1e3, 2, "ms");
    print_line("on the wire", report->wire_bytes, 2, "bytes per sample, messages as sent, before TLS");
    print_line("on the disk", report->disk_bytes, 2, "bytes per sample, growth of db/");
    print_line("hub memory", report->resident_bytes / 1048576, 1, "MiB resident");
    print_line("acknowledged", (double) report->acknowledged, 0, "samples in all");
    print_line("refused", (double) report->refused, 0, "batches");
    print_line("reconnects", (double) report->reconnects, 0, "");
    if (metrics->was_verified)
        printf("%-28s %14s all that was acknowledged is there, once, and nothing else\n", "verified", "yes");
    else if (metrics->options.verifies)
        printf("%-28s %14s %" PRIu64 " missing, %" PRIu64 " double, %" PRIu64 " wrong, %" PRIu64 " never sent\n",
               "verified", "NO", verified->missing, verified->doubled, verified->wrong, verified->unsent);
}

/* ---- the whole ---- */

static int prepare_load(struct metrics *metrics)
{
    const struct options *options = &metrics->options;
    const int64_t back_us = clock_wall().us - BACK_US;
    struct rand rand;

    rand_init_from_system(&rand);
    metrics->load = (struct load){
        .n_agents = (uint32_t) options->n_agents,
        .n_series = (uint32_t) options->n_series,
        .batch_scrapes = (uint32_t) options->n_batch_scrapes,
        .interval_us = options->interval_us,
        .first_us = back_us - back_us % options->interval_us,
    };
    snprintf(metrics->load.run, sizeof(metrics->load.run), "%016" PRIx64, rand_u64(&rand));
    return load_init(&metrics->load);
}

static int start(struct metrics *metrics)
{
    const struct options *options = &metrics->options;
    struct fleet_options fleet = {
        .target = options->hub ? options->hub : metrics->hub.address,
        .server_name = options->server_name,
        .identities = options->identities,
        .n_threads = (uint32_t) options->n_threads,
        .window = (uint32_t) options->n_window,
        .rate = options->samples_per_s,
        .last_time_us = clock_wall().us + AHEAD_US,
        .reconnects = options->reconnects,
    };
    const char *asks_as = options->operator_identity;
    int r;

    if (!options->hub) {
        snprintf(metrics->identities, sizeof(metrics->identities), "%s/identities", metrics->hub.home);
        snprintf(metrics->operator_identity, sizeof(metrics->operator_identity), "%s/hub/operators/admin",
                 metrics->hub.home);
        fleet.identities = metrics->identities;
        asks_as = options->verifies ? metrics->operator_identity : NULL;
    }
    r = rpc_init();
    metrics->has_rpc = r == 0;
    if (r == 0)
        r = prepare_load(metrics);
    if (r == 0 && asks_as)
        r = ask_open(&metrics->ask, fleet.target, options->server_name, asks_as);
    if (r < 0)
        return BENCH_FAILED; /* the log has said why */
    r = fleet_start(&metrics->fleet, &fleet, &metrics->load);
    return r < 0 ? BENCH_FAILED : BENCH_OK;
}

static int measure(struct metrics *metrics)
{
    char text[512];
    struct report report;
    int exit_code, failed;

    exit_code = start(metrics);
    if (exit_code == BENCH_OK)
        exit_code = run_load(metrics);
    if (!metrics->fleet)
        return exit_code;
    fleet_failure(metrics->fleet, text, sizeof(text), &failed);
    if (failed != BENCH_OK) {
        bench_say(failed, "%s", text);
        exit_code = failed;
    }
    if (metrics->end.at.us == 0 || bench_is_interrupted())
        return exit_code;
    look_at_size(metrics, &metrics->disk_after);
    if (metrics->options.verifies) {
        int verified = run_verify(metrics);

        exit_code = exit_code == BENCH_OK ? verified : exit_code;
    }
    make_report(metrics, &report);
    if (metrics->options.is_json)
        print_json(metrics, &report);
    else
        print_text(metrics, &report);
    return exit_code;
}

static void raise_descriptors(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void) setrlimit(RLIMIT_NOFILE, &limit);
    }
}

int cmd_metrics(int argc, char **argv)
{
    static struct metrics metrics = {
        .options = { .n_agents = 200,
                     .n_series = 500,
                     .n_batch_scrapes = 1,
                     .n_window = 64,
                     .n_threads = 1,
                     .duration_us = 20000000,
                     .warmup_us = 3000000,
                     .interval_us = 10000000 },
        .disk_before = -1,
        .disk_after = -1,
    };
    int exit_code = parse(argc, argv, &metrics.options);

    if (exit_code >= 0)
        return exit_code;
    raise_descriptors();
    exit_code = BENCH_OK;
    if (!metrics.options.hub) {
        exit_code = hub_start(&metrics.hub, metrics.options.state_dir, (uint32_t) metrics.options.n_agents);
        metrics.options.pid = metrics.hub.pid;
    }
    if (exit_code == BENCH_OK)
        exit_code = measure(&metrics);
    metrics.fleet = fleet_free(metrics.fleet);
    metrics.ask = ask_close(metrics.ask);
    load_deinit(&metrics.load);
    if (metrics.has_rpc)
        rpc_deinit();
    hub_stop(&metrics.hub);
    return fflush(stdout) ? BENCH_FAILED : exit_code;
}

int cmd_identities(int argc, char **argv)
{
    const char *state = NULL, *out = NULL, *agents = NULL;
    bool wants_help = false;
    const struct conf_option rows[] = {
        { .flag = "--state-dir", .metavar = "DIR", .value = &state, .help = "the hub's" },
        { .flag = "--out", .metavar = "DIR", .value = &out, .help = "becomes the directory for --identities" },
        { .flag = "--agents", .metavar = "N", .value = &agents, .help = "how many; 200" },
        { .flag = "--help", .is_set = &wants_help, .help = "this text" },
        { .flag = "-h", .is_set = &wants_help },
        { .flag = NULL },
    };
    struct conf_args args = { 0 };
    struct conf_error error = { "" };
    char program[512];
    uint64_t n_agents = 200;
    int exit_code;

    if (conf_parse_args(argc, argv, rows, NULL, &args, &error))
        return bench_say(BENCH_USAGE, "%s", error.text);
    if (wants_help) {
        struct buf text = { 0 };

        conf_print_options(rows, &text);
        printf("Example:\n  sentinel-bench identities --state-dir /var/lib/sentinel-hub --out ./agents --agents 200\n\n"
               "Options:\n%s",
               buf_text(&text));
        buf_deinit(&text);
        return BENCH_OK;
    }
    if (!state || !out || args.n_rest > 0)
        return bench_say(BENCH_USAGE, "--state-dir DIR and --out DIR are needed, and nothing else");
    exit_code = read_count("--agents", agents, 1, 100000, &n_agents);
    if (exit_code == BENCH_OK)
        exit_code = hub_find_program(program, sizeof(program));
    return exit_code == BENCH_OK ? hub_issue_identities(program, state, out, (uint32_t) n_agents) : exit_code;
}
