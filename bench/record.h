#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The parts of the command `record`: bench_record.c goes through the phases, workload.c makes the
 * machine work, gather.c reads back from a hub what an agent saw. Private to bench.
 */

#include <sys/types.h>

#include "bench/bench.h"
#include "bench/replay.h"

/* ---- workload.c ---- */

#define WORKLOAD_MAX 8
struct workload {
    pid_t pids[WORKLOAD_MAX];
    uint32_t n_pids;
};
/* Starts the processes of a phase; what they write goes below `directory`. Returns an exit code. */
int workload_start(struct workload *workload, enum replay_phase phase, const char *directory);
void workload_stop(struct workload *workload);

/* ---- gather.c ---- */

struct gather {
    const char *agent;
    int64_t from_us, to_us, interval_us; /* from: a multiple of the interval */
    enum replay_phase (*phase_of)(void *ctx, int64_t time_us);
    void *ctx;
};
struct gather_result {
    uint32_t n_dropped_rows; /* instants at which the agent had taken no sample */
    uint64_t n_filled;       /* single values that were not there: the one before stands in */
};
/* All series that the agent has sent in that time. `ret` is to be deinitialised in any case.
 * Returns an exit code. */
int gather_recording(struct ask *ask,
                     const struct gather *wanted,
                     struct replay *ret,
                     struct gather_result *ret_result);
