/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The command `query`. One agent gets a day, a fleet gets the last hour, as fast as the hub takes
 * it; then two questions are asked again and again, each time of another series:
 *
 *   day     one series of one agent, 24 h in steps of 1 min
 *   fleet   one series of each agent, the last hour in steps of 1 min, averaged in one group
 */

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "bench/fill.h"
#include "bench/metrics.h"
#include "bench/print.h"
#include "bench/process.h"
#include "common/base/rand.h"
#include "common/base/text.h"
#include "common/conf/conf.h"
#include "common/rpc/rpc.h"

#define HOUR_US INT64_C(3600000000)
#define STEP_US INT64_C(60000000)
#define WINDOW 64u

struct query_bench {
    const char *agents, *series, *interval, *repeat, *settle, *data_path, *state_dir;
    bool is_json, wants_help;
    uint64_t n_agents, n_series, n_repeat;
    int64_t interval_us, settle_us;
    struct bench_hub hub;
    struct data data;
    struct ask *ask;
    struct load day, fleet;
    uint64_t n_samples;
    double fill_s;
    struct histogram day_us, fleet_us;
};

/* ---- filling ---- */

static int prepare(struct query_bench *bench, struct load *load, uint32_t n_agents, int64_t span_us)
{
    const int64_t from_us = clock_wall().us - span_us;
    struct rand rand;

    rand_init_from_system(&rand);
    *load = (struct load){
        .n_agents = n_agents,
        .n_series = (uint32_t) bench->n_series,
        .batch_scrapes = 1,
        .interval_us = bench->interval_us,
        .first_us = from_us - from_us % STEP_US,
        .replay = bench->data_path ? &bench->data.replay : NULL,
        .tracks = bench->data_path ? &bench->data.tracks : NULL,
    };
    load->first_us -= load->first_us % load->interval_us;
    snprintf(load->run, sizeof(load->run), "%016" PRIx64, rand_u64(&rand));
    return load_init(load);
}

static int fill(struct query_bench *bench, const struct load *load, int64_t span_us)
{
    struct fill fill = {
        .hub = &bench->hub,
        .load = load,
        .last_time_us = load->first_us + span_us,
        .n_threads = 1,
        .window = WINDOW,
        .n_batches = load->n_agents * (uint64_t) (span_us / load->interval_us),
    };
    int exit_code = fill_run(&fill);

    bench->n_samples += fill.ret_look.acknowledged * load->n_series;
    return exit_code;
}

/* ---- asking ---- */

static void on_point(void *ctx, int64_t time_us, double value)
{
    uint64_t *n_points = ctx;

    (void) time_us;
    (void) value;
    ++*n_points;
}

static int ask_once(struct query_bench *bench,
                    const struct load *load,
                    uint32_t agent,
                    uint64_t round,
                    struct histogram *to)
{
    uint64_t n_points = 0;
    struct ask_points question = {
        .load = load,
        .agent = agent,
        .item = (int64_t) (round * 7919 % load->n_series),
        .from_us = load->first_us,
        .to_us = load->first_us + (agent == ASK_ALL_AGENTS ? HOUR_US : 24 * HOUR_US),
        .step_us = STEP_US,
        .how = ASK_AVG,
        .on_point = on_point,
        .ctx = &n_points,
    };
    const uint64_t wanted = (uint64_t) ((question.to_us - question.from_us) / STEP_US);
    int64_t from_us;
    int exit_code;

    question.group = load->group_of[question.item];
    from_us = clock_mono().us;
    exit_code = ask_points(bench->ask, &question);
    histogram_add(to, clock_mono().us - from_us, 1);
    if (exit_code == BENCH_OK && n_points != wanted)
        return bench_say(BENCH_FAILED,
                         "the hub answered with %" PRIu64 " points where %" PRIu64 " are wanted",
                         n_points, wanted);
    return exit_code;
}

static int ask_all(struct query_bench *bench)
{
    static struct histogram unused; /* the first of each kind warms up */
    int exit_code = ask_once(bench, &bench->day, 0, 1, &unused);

    if (exit_code == BENCH_OK)
        exit_code = ask_once(bench, &bench->fleet, ASK_ALL_AGENTS, 1, &unused);
    for (uint64_t i = 0; i < bench->n_repeat && exit_code == BENCH_OK; i++) {
        exit_code = ask_once(bench, &bench->day, 0, i, &bench->day_us);
        if (exit_code == BENCH_OK)
            exit_code = ask_once(bench, &bench->fleet, ASK_ALL_AGENTS, i, &bench->fleet_us);
    }
    return exit_code;
}

/* ---- report ---- */

static void print_json(const struct query_bench *bench)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    struct json_writer json;

    json_begin(&json, &text, true);
    json_open_object(&json);
    json_put_text(&json, "data", bench->data_path ? bench->data_path : "synthetic");
    json_put_u64(&json, "agents", bench->n_agents);
    json_put_u64(&json, "series", bench->n_series);
    json_put_u64(&json, "repeat", bench->n_repeat);
    json_put_u64(&json, "samples", bench->n_samples);
    print_json_number(&json, "fill_s", bench->fill_s, 1000);
    json_put_u64(&json, "query_p50_us", histogram_quantile(&bench->day_us, 0.50));
    json_put_u64(&json, "query_p99_us", histogram_quantile(&bench->day_us, 0.99));
    json_put_u64(&json, "fleet_query_p50_us", histogram_quantile(&bench->fleet_us, 0.50));
    json_put_u64(&json, "fleet_query_p99_us", histogram_quantile(&bench->fleet_us, 0.99));
    json_put_u64(&json, "hub_rss_bytes", stats_resident_bytes(bench->hub.pid));
    json_close_object(&json);
    printf("%s\n", buf_text(&text));
}

static void print_times(const char *name, const struct histogram *times)
{
    char label[64];

    snprintf(label, sizeof(label), "%s p50", name);
    print_line(label, (double) histogram_quantile(times, 0.50) / 1e3, 2, "ms");
    snprintf(label, sizeof(label), "%s p99", name);
    print_line(label, (double) histogram_quantile(times, 0.99) / 1e3, 2, "ms");
}

static void print_text(const struct query_bench *bench)
{
    printf("one agent x 24 h, %" PRIu64 " agents x 1 h, %" PRIu64 " series each; %" PRIu64
           " questions of each kind, from question to the unpacked answer\n\n",
           bench->n_agents, bench->n_series, bench->n_repeat);
    print_line("filled", (double) bench->n_samples, 0, "samples");
    print_line("in", bench->fill_s, 1, "s");
    print_times("one agent, 24 h", &bench->day_us);
    print_times("the fleet, last hour", &bench->fleet_us);
    print_line("hub memory", (double) stats_resident_bytes(bench->hub.pid) / 1048576, 1,
               "MiB resident");
}

/* ---- the whole ---- */

static int run(struct query_bench *bench)
{
    const int64_t from_us = clock_mono().us;
    int64_t until_us;
    int exit_code;

    if (prepare(bench, &bench->day, 1, 24 * HOUR_US) < 0 ||
        prepare(bench, &bench->fleet, (uint32_t) bench->n_agents, HOUR_US) < 0 ||
        ask_open(&bench->ask, bench->hub.address, NULL, bench->hub.operator_identity) < 0)
        return BENCH_FAILED; /* the log has said why */
    exit_code = fill(bench, &bench->day, 24 * HOUR_US);
    if (exit_code == BENCH_OK)
        exit_code = fill(bench, &bench->fleet, HOUR_US);
    bench->fill_s = (double) (clock_mono().us - from_us) / 1e6;
    until_us = clock_mono().us + bench->settle_us;
    while (exit_code == BENCH_OK && clock_mono().us < until_us && !bench_is_interrupted())
        process_nap();
    if (exit_code == BENCH_OK)
        exit_code = ask_all(bench);
    if (exit_code == BENCH_OK)
        (bench->is_json ? print_json : print_text)(bench);
    return exit_code;
}

static struct query_bench given = { .n_agents = 1000,
                                    .n_series = 50,
                                    .n_repeat = 200,
                                    .interval_us = 10000000 };

static const struct conf_option rows[] = {
    { .flag = "--agents",
      .metavar = "N",
      .value = &given.agents,
      .help = "of the fleet, each with the last hour; 1000" },
    { .flag = "--series", .metavar = "N", .value = &given.series, .help = "of each agent; 50" },
    { .flag = "--interval",
      .metavar = "TIME",
      .value = &given.interval,
      .help = "between the times of an agent's scrapes; 10s" },
    { .flag = "--repeat",
      .metavar = "N",
      .value = &given.repeat,
      .help = "questions of each kind; 200" },
    { .flag = "--settle",
      .metavar = "TIME",
      .value = &given.settle,
      .help = "to wait between filling and asking; 0" },
    { .flag = "--data",
      .metavar = "FILE",
      .value = &given.data_path,
      .help = "a recording of `sentinel-bench record`; numbers of our own" },
    OPTIONS_OF_ALL(given),
    { .flag = NULL },
};

/* Returns -1 to go on, else an exit code. */
static int parse(int argc, char **argv)
{
    int exit_code =
        options_read_flags(argc, argv, rows, &given.wants_help,
                           "Fills a hub of its own, and asks it what dashboards ask.\n\n"
                           "Example:\n  sentinel-bench query --agents 1000 --series 500\n");

    if (exit_code >= 0)
        return exit_code;
    exit_code = options_read_count("--agents", given.agents, 1, 100000, &given.n_agents);
    if (exit_code == BENCH_OK)
        exit_code =
            options_read_count("--series", given.series, 1, LOAD_MAX_SERIES, &given.n_series);
    if (exit_code == BENCH_OK)
        exit_code = options_read_count("--repeat", given.repeat, 1, 1000000, &given.n_repeat);
    if (exit_code == BENCH_OK)
        exit_code = options_read_duration("--settle", given.settle, 0, &given.settle_us);
    if (exit_code == BENCH_OK)
        exit_code =
            options_read_duration("--interval", given.interval, 1000000, &given.interval_us);
    if (exit_code == BENCH_OK && STEP_US % given.interval_us != 0)
        return bench_say(BENCH_USAGE, "--interval: a minute must be a multiple of it");
    return exit_code == BENCH_OK ? -1 : exit_code;
}

int cmd_query(int argc, char **argv)
{
    struct query_bench *bench = &given;
    bool has_rpc = false;
    int exit_code = parse(argc, argv);

    if (exit_code >= 0)
        return exit_code;
    (void) bench_raise_descriptors();
    exit_code = data_load(&bench->data, bench->data_path);
    if (exit_code == BENCH_OK)
        exit_code = hub_start(
            &bench->hub, &(struct bench_hub_options){ .parent_directory = bench->state_dir,
                                                      .n_identities = (uint32_t) bench->n_agents });
    if (exit_code == BENCH_OK) {
        has_rpc = rpc_init() == 0;
        exit_code = has_rpc ? run(bench) : BENCH_FAILED;
    }
    bench->ask = ask_close(bench->ask);
    load_deinit(&bench->day);
    load_deinit(&bench->fleet);
    data_deinit(&bench->data);
    if (has_rpc)
        rpc_deinit();
    hub_stop(&bench->hub);
    return fflush(stdout) ? BENCH_FAILED : exit_code;
}
