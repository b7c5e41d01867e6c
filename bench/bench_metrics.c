/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The command `metrics`. Phases: a hub, connections, warm-up, the measured window, the end (what is
 * under way is acknowledged and every stream is half-closed), the oracle, the report.
 */

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "bench/metrics.h"
#include "common/base/rand.h"
#include "common/rpc/rpc.h"

#define CONNECT_PATIENCE_US INT64_C(120000000)
#define FINISH_PATIENCE_US INT64_C(60000000)
#define NAP_US 10000
#define TLS_ROUNDS 3u
/* Agents whose values are looked through for constant series. */
#define CONSTANT_AGENTS 32u
/* Within [now - retention, now + 1 h] of a hub with its own settings, with room for a slow run. */
#define BACK_US (14 * INT64_C(86400000000))
#define AHEAD_US (30 * INT64_C(60000000))

/* ---- looking ---- */

uint64_t metrics_acknowledged(const struct metrics *metrics)
{
    return fleet_look(metrics->fleet).acknowledged;
}

uint64_t metrics_samples(const struct metrics *metrics, uint64_t n_batches)
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
    ret->acknowledged = metrics_acknowledged(metrics);
    ret->cpu_us = status.cpu_us;
    ret->own_cpu_us = stats_cpu_us(getpid());
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

struct histogram *metrics_merge_acks(const struct metrics *metrics)
{
    struct histogram *all = calloc(1, sizeof(*all));

    for (size_t i = 0; all && i < fleet_n_parts(metrics->fleet); i++)
        histogram_merge(all, &fleet_counters(metrics->fleet, i)->ack_us);
    return all;
}

double metrics_cpu_per_sample(const struct metrics *metrics)
{
    const uint64_t measured =
        metrics_samples(metrics, metrics->end.acknowledged - metrics->begin.acknowledged);
    const int64_t cpu_us = metrics->end.cpu_us - metrics->begin.cpu_us;

    /* Less than before: another process by now. */
    if (metrics->begin.cpu_us < 0 || cpu_us <= 0 || measured == 0)
        return NAN;
    return (double) cpu_us / (double) measured;
}

double metrics_constant_share(const struct metrics *metrics)
{
    const struct load *load = &metrics->load;
    const uint32_t n = load->n_agents < CONSTANT_AGENTS ? load->n_agents : CONSTANT_AGENTS;
    uint64_t n_constant = 0, n_all = 0;

    for (uint32_t i = 0; i < n; i++) {
        const uint32_t agent = (uint32_t) ((uint64_t) i * load->n_agents / n);
        const uint64_t sent = fleet_result(metrics->fleet, agent).sent;

        if (sent == 0)
            continue;
        n_constant += load_n_constant(load, agent, sent * load->batch_scrapes);
        n_all += load->n_series;
    }
    return n_all > 0 ? (double) n_constant / (double) n_all : NAN;
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
    acknowledged = metrics_acknowledged(metrics);
    cpu_us = metrics->options.pid > 0 ? stats_cpu_us(metrics->options.pid) : -1;
    acks = metrics_merge_acks(metrics);
    if (metrics->progress_due.us > 0 && acks) {
        fprintf(stderr, "%s%" PRIu64 " samples/s   ack p99 %.1f ms", is_terminal ? "\r" : "",
                metrics_samples(metrics, acknowledged - metrics->progress_acknowledged),
                (double) histogram_quantile(acks, 0.99) / 1e3);
        if (cpu_us >= 0 && metrics->progress_cpu_us >= 0)
            fprintf(stderr, "   hub %.0f %% of a core",
                    (double) (cpu_us - metrics->progress_cpu_us) / 1e4);
        fprintf(stderr, "   %u streams%s", fleet_look(metrics->fleet).n_streaming,
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

/* Until the claim holds, time is over, an agent failed for good, or we are told to stop. Returns
 * whether it holds. */
static bool wait_until(struct metrics *metrics,
                       bool (*is_true)(const struct metrics *metrics),
                       int64_t patience_us)
{
    const int64_t due_us = clock_mono().us + patience_us;

    while (clock_mono().us < due_us) {
        if (is_true(metrics))
            return true;
        if (bench_is_interrupted())
            return false;
        if (isatty(STDERR_FILENO) || metrics->options.is_verbose)
            show_progress(metrics);
        nanosleep(&(struct timespec){ .tv_nsec = NAP_US * 1000L }, NULL);
    }
    return is_true(metrics);
}

static bool is_connected(const struct metrics *metrics)
{
    return fleet_look(metrics->fleet).n_streaming == metrics->load.n_agents ||
           failure(metrics) != BENCH_OK;
}

static bool has_failed(const struct metrics *metrics)
{
    return failure(metrics) != BENCH_OK ||
           fleet_look(metrics->fleet).n_used_up == metrics->load.n_agents;
}

static bool is_done(const struct metrics *metrics)
{
    return fleet_look(metrics->fleet).n_done == metrics->load.n_agents;
}

static bool is_acknowledging(const struct metrics *metrics)
{
    return failure(metrics) != BENCH_OK ||
           metrics_acknowledged(metrics) > metrics->progress_acknowledged;
}

/* Under load. Returns an exit code. */
static int restart_hub(struct metrics *metrics)
{
    const int64_t killed_us = clock_mono().us;
    int exit_code = hub_restart(&metrics->hub, &metrics->restart_us);

    metrics->options.pid = metrics->hub.pid;
    if (exit_code != BENCH_OK)
        return exit_code;
    metrics->progress_acknowledged = metrics_acknowledged(metrics);
    if (!wait_until(metrics, is_acknowledging, CONNECT_PATIENCE_US))
        return bench_say(BENCH_FAILED, "after the restart nothing was acknowledged");
    metrics->restart_first_ack_us = clock_mono().us - killed_us;
    if (!wait_until(metrics, is_connected, CONNECT_PATIENCE_US))
        return bench_say(BENCH_FAILED, "after the restart not all agents came back");
    return BENCH_OK;
}

/* Warm-up and the measured window. Returns an exit code. */
static int run_by_time(struct metrics *metrics)
{
    const struct options *options = &metrics->options;
    int exit_code = BENCH_OK;

    fleet_set_stage(metrics->fleet, FLEET_LOAD);
    (void) wait_until(metrics, has_failed, options->warmup_us);
    take_moment(metrics, &metrics->begin);
    fleet_set_measuring(metrics->fleet, true);
    if (wait_until(metrics, has_failed, options->duration_us) && failure(metrics) == BENCH_OK)
        bench_say(BENCH_OK, "the times that the hub takes are used up: the window is shorter; "
                            "--interval makes them last");
    take_moment(metrics, &metrics->end);
    fleet_set_measuring(metrics->fleet, false);
    if (options->restarts && failure(metrics) == BENCH_OK && !bench_is_interrupted())
        exit_code = restart_hub(metrics);
    fleet_set_stage(metrics->fleet, FLEET_FINISH);
    return exit_code;
}

/* All that there is, to the last acknowledgement. */
static void run_by_count(struct metrics *metrics)
{
    take_moment(metrics, &metrics->begin);
    fleet_set_measuring(metrics->fleet, true);
    fleet_set_stage(metrics->fleet, FLEET_LOAD);
    while (!has_failed(metrics) && !bench_is_interrupted())
        (void) wait_until(metrics, has_failed, NAP_US);
    fleet_set_stage(metrics->fleet, FLEET_FINISH);
    (void) wait_until(metrics, is_done, FINISH_PATIENCE_US);
    take_moment(metrics, &metrics->end);
}

/* Returns an exit code; the report is worth printing when `end` was taken. */
static int run_load(struct metrics *metrics)
{
    int exit_code = BENCH_OK;

    if (!wait_until(metrics, is_connected, CONNECT_PATIENCE_US))
        exit_code = bench_say(BENCH_UNAVAILABLE, bench_is_interrupted()
                                                     ? "interrupted"
                                                     : "not all agents could connect in time");
    if (exit_code == BENCH_OK && failure(metrics) == BENCH_OK) {
        look_at_size(metrics, &metrics->disk_before);
        if (metrics->options.n_scrapes > 0)
            run_by_count(metrics);
        else
            exit_code = run_by_time(metrics);
        if (exit_code == BENCH_OK && !bench_is_interrupted() &&
            !wait_until(metrics, is_done, FINISH_PATIENCE_US))
            exit_code = bench_say(BENCH_FAILED, bench_is_interrupted()
                                                    ? "interrupted"
                                                    : "not everything was acknowledged in time");
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
                     "NOT KEPT: %" PRIu64 " acknowledged samples are missing, %" PRIu64
                     " are there twice, %" PRIu64 " have another value, %" PRIu64
                     " were never sent",
                     result->missing, result->doubled, result->wrong, result->unsent);
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
        .replay = options->data ? &metrics->data.replay : NULL,
        .tracks = options->data ? &metrics->data.tracks : NULL,
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
        .n_identities = (uint32_t) options->n_agents,
        .n_threads = (uint32_t) options->n_threads,
        .window = (uint32_t) options->n_window,
        .rate = options->samples_per_s,
        .last_time_us = clock_wall().us + AHEAD_US,
        .reconnects = options->reconnects,
    };
    const char *asks_as = options->operator_identity;
    bool asks = asks_as != NULL;
    int r;

    if (!options->hub) {
        fleet.identities = metrics->hub.identities;
        asks_as = metrics->hub.operator_identity;
        asks = options->verifies;
    }
    if (metrics->options.is_insecure) {
        fleet.identities = NULL;
        asks_as = NULL;
        asks = options->hub || options->verifies;
    }
    r = prepare_load(metrics);
    if (options->n_scrapes > 0)
        fleet.last_time_us =
            metrics->load.first_us + (int64_t) options->n_scrapes * options->interval_us - 1;
    if (fleet.last_time_us > clock_wall().us + AHEAD_US)
        return bench_say(BENCH_USAGE, "--scrapes times --interval is more than a hub takes: two "
                                      "weeks; make --interval shorter");
    if (r == 0 && asks)
        r = ask_open(&metrics->ask, fleet.target, options->server_name, asks_as);
    if (r < 0)
        return BENCH_FAILED; /* the log has said why */
    r = fleet_start(&metrics->fleet, &fleet, &metrics->load);
    return r < 0 ? BENCH_FAILED : BENCH_OK;
}

/* The report is worth printing when `end` was taken. */
static int measure(struct metrics *metrics)
{
    char text[512];
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
    return exit_code;
}

/* One hub, one load; finish_run() in any case. */
static int run_once(struct metrics *metrics)
{
    int exit_code = BENCH_OK;

    metrics->disk_before = metrics->disk_after = -1;
    metrics->restart_us = metrics->restart_first_ack_us = -1;
    metrics->begin = metrics->end = (struct moment){ .acknowledged = 0 };
    metrics->progress_due.us = 0;
    if (!metrics->options.hub) {
        exit_code = hub_start(
            &metrics->hub,
            &(struct bench_hub_options){ .parent_directory = metrics->options.state_dir,
                                         .n_identities = (uint32_t) metrics->options.n_agents,
                                         .is_insecure = metrics->options.is_insecure });
        metrics->options.pid = metrics->hub.pid;
    }
    return exit_code == BENCH_OK ? measure(metrics) : exit_code;
}

static void finish_run(struct metrics *metrics)
{
    metrics->fleet = fleet_free(metrics->fleet);
    metrics->ask = ask_close(metrics->ask);
    load_deinit(&metrics->load);
    hub_stop(&metrics->hub);
}

static int run_and_report(struct metrics *metrics)
{
    int exit_code = run_once(metrics);

    if (metrics->end.at.us > 0 && !bench_is_interrupted())
        report_print(metrics);
    finish_run(metrics);
    return exit_code;
}

/* By turns, as machines drift; what is reported else is of the last run, with TLS. */
static int compare_tls(struct metrics *metrics)
{
    double ratios[TLS_ROUNDS];

    for (size_t i = 0; i < TLS_ROUNDS; i++) {
        double plain;
        int exit_code;

        metrics->options.is_insecure = true;
        exit_code = run_once(metrics);
        plain = exit_code == BENCH_OK ? metrics_cpu_per_sample(metrics) : NAN;
        finish_run(metrics);
        if (exit_code != BENCH_OK)
            return exit_code;
        metrics->options.is_insecure = false;
        exit_code = run_once(metrics);
        ratios[i] = exit_code == BENCH_OK ? metrics_cpu_per_sample(metrics) / plain : NAN;
        if (exit_code == BENCH_OK && i + 1 == TLS_ROUNDS) {
            metrics->tls_cpu_ratio = stats_median(ratios, TLS_ROUNDS);
            report_print(metrics);
        }
        finish_run(metrics);
        if (exit_code != BENCH_OK)
            return exit_code;
    }
    return BENCH_OK;
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
    };
    int exit_code = options_parse(argc, argv, &metrics.options);

    if (exit_code >= 0)
        return exit_code;
    (void) bench_raise_descriptors();
    exit_code = data_load(&metrics.data, metrics.options.data);
    if (exit_code == BENCH_OK) {
        metrics.has_rpc = rpc_init() == 0;
        exit_code = metrics.has_rpc ? BENCH_OK : BENCH_FAILED;
    }
    if (exit_code == BENCH_OK)
        exit_code = metrics.options.compares_tls ? compare_tls(&metrics) : run_and_report(&metrics);
    if (metrics.has_rpc)
        rpc_deinit();
    data_deinit(&metrics.data);
    return fflush(stdout) ? BENCH_FAILED : exit_code;
}
