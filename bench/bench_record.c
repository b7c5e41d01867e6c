/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The command `record`: a hub and an agent of our own, a machine that is made to work by a script,
 * and all that the agent saw of it in one file.
 */

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/metrics.h"
#include "bench/process.h"
#include "bench/record.h"
#include "common/base/file.h"
#include "common/base/rand.h"
#include "common/base/text.h"
#include "common/rpc/rpc.h"

/* A phase lasts half of this to one and a half. */
#define PHASE_US INT64_C(60000000)
#define LEAST_PHASES 8 /* each kind twice, in a short recording */
#define MAX_PHASES 4096u
#define FIRST_SAMPLE_US INT64_C(3000000)

struct record {
    const char *out, *duration, *interval, *state_dir;
    bool is_per_cpu, wants_help, has_rpc;
    int64_t duration_us, interval_us;
    struct bench_hub hub;
    struct ask *ask;
    struct workload workload;
    pid_t agent;
    struct rand rand;
    int64_t from_us;
    /* the script as it ran */
    uint32_t n_phases;
    int64_t ends_us[MAX_PHASES];
    enum replay_phase phases[MAX_PHASES];
};

/* ---- the agent ---- */

static int start_agent(struct record *record)
{
    static const struct process_program agent = { .name = "sentinel-agent",
                                                  .room = "../agent",
                                                  .variable = "SENTINEL_AGENT_PROGRAM" };
    char program[512], state[600], identity[700], log_path[600], interval[TEXT_DURATION_BYTES];
    const char *argv[] = { program,
                           "run",
                           "--hub",
                           record->hub.address,
                           "--identity",
                           identity,
                           "--state-dir",
                           state,
                           "--interval",
                           interval,
                           record->is_per_cpu ? "--collect-per-cpu" : NULL,
                           NULL };
    int exit_code = process_find(&agent, program, sizeof(program));

    if (exit_code != BENCH_OK)
        return exit_code;
    snprintf(state, sizeof(state), "%s/agent", record->hub.home);
    snprintf(identity, sizeof(identity), "%s/bench-0", record->hub.identities);
    snprintf(log_path, sizeof(log_path), "%s/agent.log", record->hub.home);
    text_of_duration_us(record->interval_us, interval);
    record->agent = process_spawn(argv, log_path);
    if (record->agent < 0) {
        record->agent = 0;
        return BENCH_FAILED;
    }
    return BENCH_OK;
}

static bool has_ended(struct record *record)
{
    char log_path[600];
    int status;

    if (waitpid(record->agent, &status, WNOHANG) != record->agent)
        return false;
    record->agent = 0;
    snprintf(log_path, sizeof(log_path), "%s/agent.log", record->hub.home);
    process_print_tail(log_path);
    return true;
}

/* ---- the script ---- */

static int64_t phase_us(struct record *record)
{
    const int64_t most_us = record->duration_us / LEAST_PHASES;
    const int64_t base_us = most_us < PHASE_US ? most_us : PHASE_US;

    return base_us / 2 + (int64_t) (rand_unit(&record->rand) * (double) base_us);
}

static enum replay_phase phase_of(void *ctx, int64_t time_us)
{
    const struct record *record = ctx;

    for (uint32_t i = 0; i < record->n_phases; i++)
        if (time_us < record->ends_us[i])
            return record->phases[i];
    return REPLAY_IDLE;
}

/* One phase. Returns an exit code. */
static int run_phase(struct record *record, enum replay_phase phase, int64_t until_us)
{
    char directory[600];
    int exit_code;

    snprintf(directory, sizeof(directory), "%s/work", record->hub.home);
    if (file_make_directories(directory, 0700))
        return bench_say(BENCH_FAILED, "cannot make %s", directory);
    exit_code = workload_start(&record->workload, phase, directory);
    while (exit_code == BENCH_OK && clock_wall().us < until_us && !bench_is_interrupted()) {
        if (has_ended(record))
            exit_code = bench_say(BENCH_FAILED, "the agent ended too early");
        process_nap();
    }
    workload_stop(&record->workload);
    record->phases[record->n_phases] = phase;
    record->ends_us[record->n_phases++] = clock_wall().us;
    return exit_code;
}

static int run_script(struct record *record)
{
    const int64_t end_us = record->from_us + record->duration_us;
    int exit_code = BENCH_OK;

    while (exit_code == BENCH_OK && clock_wall().us < end_us && record->n_phases < MAX_PHASES &&
           !bench_is_interrupted()) {
        const enum replay_phase phase = record->n_phases % REPLAY_N_PHASES;
        int64_t until_us = clock_wall().us + phase_us(record);

        if (isatty(STDERR_FILENO))
            fprintf(stderr, "\r%s, %" PRId64 " s to go\033[K", replay_phase_name(phase),
                    (end_us - clock_wall().us) / 1000000);
        exit_code = run_phase(record, phase, until_us < end_us ? until_us : end_us);
    }
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r\033[K");
    return exit_code;
}

/* ---- the file ---- */

static int write_recording(const struct record *record,
                           const struct replay *replay,
                           const struct gather_result *result)
{
    CLEANUP(buf_deinit) struct buf bytes = { 0 };
    char size[TEXT_SIZE_BYTES];
    uint32_t n_constant = 0, rows_of[REPLAY_N_PHASES] = { 0 };

    if (replay_encode(replay, &bytes) || file_replace(record->out, buf_span(&bytes), 0644))
        return bench_say(BENCH_FAILED, "cannot write %s", record->out);
    for (uint32_t i = 0; i < replay->n_series; i++) {
        const double *values = replay->series[i].values;
        uint32_t same = 1;

        while (same < replay->n_rows && values[same] == values[0])
            same++;
        n_constant += same == replay->n_rows;
    }
    for (uint32_t i = 0; i < replay->n_rows; i++)
        rows_of[replay->phases[i]]++;
    printf("%s: %u series, %u of them constant, %u instants, %s\n", record->out, replay->n_series,
           n_constant, replay->n_rows, text_of_size(bytes.len, size));
    for (uint32_t i = 0; i < REPLAY_N_PHASES; i++)
        printf("  %-6s %6u instants\n", replay_phase_name((enum replay_phase) i), rows_of[i]);
    if (result->n_dropped_rows > 0 || result->n_filled > 0)
        printf("  %u instants without a sample are left out; %" PRIu64
               " single values that were not there are those before\n",
               result->n_dropped_rows, result->n_filled);
    return BENCH_OK;
}

static int gather_and_write(struct record *record)
{
    CLEANUP(replay_deinit) struct replay replay = { 0 };
    struct gather_result result;
    struct gather wanted = {
        .agent = "bench-0",
        .interval_us = record->interval_us,
        .phase_of = phase_of,
        .ctx = record,
    };
    int exit_code;

    wanted.from_us = record->from_us + record->interval_us - record->from_us % record->interval_us;
    wanted.to_us = clock_wall().us;
    wanted.to_us -= wanted.to_us % record->interval_us;
    process_stop(record->agent, "the agent"); /* it waits for its acknowledgements */
    record->agent = 0;
    exit_code = gather_recording(record->ask, &wanted, &replay, &result);
    return exit_code == BENCH_OK ? write_recording(record, &replay, &result) : exit_code;
}

/* ---- the whole ---- */

static int run(struct record *record)
{
    /* The first samples are those of a process that has just begun. */
    const int64_t ready_us = clock_wall().us + FIRST_SAMPLE_US;
    int exit_code;

    record->has_rpc = rpc_init() == 0;
    if (!record->has_rpc ||
        ask_open(&record->ask, record->hub.address, NULL, record->hub.operator_identity) < 0)
        return BENCH_FAILED; /* the log has said why */
    exit_code = start_agent(record);
    while (exit_code == BENCH_OK && clock_wall().us < ready_us && !bench_is_interrupted())
        process_nap();
    record->from_us = clock_wall().us;
    if (exit_code == BENCH_OK)
        exit_code = run_script(record);
    if (exit_code == BENCH_OK && bench_is_interrupted())
        exit_code = bench_say(BENCH_FAILED, "interrupted; nothing is written");
    return exit_code == BENCH_OK ? gather_and_write(record) : exit_code;
}

static struct record given = { .duration_us = INT64_C(3600000000), .interval_us = 1000000 };

static const struct conf_option rows[] = {
    { .flag = "--out", .metavar = "FILE", .value = &given.out, .help = "becomes the recording" },
    { .flag = "--duration",
      .metavar = "TIME",
      .value = &given.duration,
      .help = "of the recording; 1h" },
    { .flag = "--interval",
      .metavar = "TIME",
      .value = &given.interval,
      .help = "between its samples; 1s" },
    { .flag = "--per-cpu",
      .is_set = &given.is_per_cpu,
      .help = "the agent's collect.per_cpu: more series" },
    { .flag = "--state-dir",
      .metavar = "DIR",
      .value = &given.state_dir,
      .help = "the disk that is made to work, for a directory of ours; $TMPDIR, else /tmp" },
    { .flag = "--help", .is_set = &given.wants_help, .help = "this text" },
    { .flag = "-h", .is_set = &given.wants_help },
    { .flag = NULL },
};

/* Returns -1 to go on, else an exit code. */
static int parse(int argc, char **argv)
{
    int exit_code = options_read_flags(
        argc, argv, rows, &given.wants_help,
        "Records what an agent sees of this machine while a script makes it work: idle, "
        "busy, io, mixed\nby turns. On a machine that does nothing else.\n\nExample:\n"
        "  sentinel-bench record --out host.replay --duration 1h\n");

    if (exit_code >= 0)
        return exit_code;
    if (!given.out)
        return bench_say(BENCH_USAGE, "--out FILE is needed");
    exit_code = options_read_duration("--interval", given.interval, 100000, &given.interval_us);
    if (exit_code == BENCH_OK)
        exit_code = options_read_duration("--duration", given.duration, 8 * given.interval_us,
                                          &given.duration_us);
    return exit_code == BENCH_OK ? -1 : exit_code;
}

int cmd_record(int argc, char **argv)
{
    struct record *record = &given;
    int exit_code = parse(argc, argv);

    if (exit_code >= 0)
        return exit_code;
    rand_init_from_system(&record->rand);
    exit_code =
        hub_start(&record->hub, &(struct bench_hub_options){ .parent_directory = record->state_dir,
                                                             .n_identities = 1 });
    if (exit_code == BENCH_OK)
        exit_code = run(record);
    if (record->agent > 0)
        process_stop(record->agent, "the agent");
    record->ask = ask_close(record->ask);
    if (record->has_rpc)
        rpc_deinit();
    hub_stop(&record->hub);
    return fflush(stdout) ? BENCH_FAILED : exit_code;
}
