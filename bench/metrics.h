#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The parts of the command `metrics`: options.c reads the command line, bench_metrics.c goes
 * through the phases, report.c prints what came out. Private to bench.
 */

#include "bench/bench.h"
#include "common/conf/conf.h"

/* The command line, and what it means. */
struct options {
    const char *hub, *identities, *operator_identity, *server_name, *state_dir, *hub_pid;
    const char *agents, *series, *duration, *warmup, *rate, *batch_scrapes, *window, *threads,
        *interval, *data, *scrapes;
    bool reconnects, verifies, restarts, is_insecure, compares_tls;
    bool is_json, is_verbose, wants_help;
    uint64_t n_agents, n_series, n_batch_scrapes, n_window, n_threads, samples_per_s;
    uint64_t n_scrapes; /* of each agent, and that is the run; 0: by time */
    int64_t duration_us, warmup_us, interval_us;
    pid_t pid;
};

/* What is known at a moment. */
struct moment {
    mono_us at;
    uint64_t acknowledged; /* batches */
    int64_t cpu_us;        /* the hub's; -1: not known */
    int64_t own_cpu_us;
};

struct metrics {
    struct options options;
    struct data data; /* of --data, for all runs */
    bool has_rpc;
    /* the run at hand */
    struct bench_hub hub;
    struct load load;
    struct fleet *fleet;
    struct ask *ask;
    struct moment begin, end;
    int64_t disk_before, disk_after; /* -1: not known */
    uint64_t resident_bytes;         /* 0: not known */
    struct verify_result verified;
    bool was_verified;
    int64_t restart_us, restart_first_ack_us; /* -1: not known */
    mono_us progress_due;
    uint64_t progress_acknowledged;
    int64_t progress_cpu_us;
    /* over the runs of --compare-tls */
    double tls_cpu_ratio; /* 0: not known */
};

/* ---- options.c ---- */

/* The last flags of every command that runs a hub of its own. */
/* clang-format off */
#define OPTIONS_OF_ALL(given) \
    { .flag = "--json", .is_set = &(given).is_json, .help = "one JSON object on stdout" }, \
    { .flag = "--state-dir", .metavar = "DIR", .value = &(given).state_dir, \
      .help = "the hub's files go below it; $TMPDIR, else /tmp" }, \
    { .flag = "--help", .is_set = &(given).wants_help, .help = "this text" }, \
    { .flag = "-h", .is_set = &(given).wants_help }
/* clang-format on */

/* The number in `text`, when it is given. Returns an exit code. */
int options_read_count(const char *flag,
                       const char *text,
                       uint64_t min,
                       uint64_t max,
                       uint64_t *ret);
/* The duration in `text`, when it is given. Returns an exit code. */
int options_read_duration(const char *flag, const char *text, int64_t min_us, int64_t *ret_us);
/*
 * Flags of a command that takes nothing else; with *wants_help the help is printed: `about`, which
 * ends with a line of examples, and the rows. Returns -1 to go on, else an exit code.
 */
int options_read_flags(int argc,
                       char **argv,
                       const struct conf_option *rows,
                       const bool *wants_help,
                       const char *about);
/* Returns -1 to go on, else an exit code. */
int options_parse(int argc, char **argv, struct options *options);

/* ---- bench_metrics.c ---- */

/* What is behind a number of batches. */
uint64_t metrics_samples(const struct metrics *metrics, uint64_t n_batches);
uint64_t metrics_acknowledged(const struct metrics *metrics);
/* All threads' latencies; to be freed; NULL: no memory. */
struct histogram *metrics_merge_acks(const struct metrics *metrics);

/* Hub CPU for one sample of the measured window, in microseconds; NaN: not known. */
double metrics_cpu_per_sample(const struct metrics *metrics);
/* The share of an agent's series that kept one value, over the fleet; NaN: nothing was sent. */
double metrics_constant_share(const struct metrics *metrics);

/* ---- report.c ---- */
void report_print(const struct metrics *metrics);
