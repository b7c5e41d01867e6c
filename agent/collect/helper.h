#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Helper: runs what may hang, away from the loop. Private to agent/collect.
 *
 * Jobs run one after another on one thread. A job that outlives its deadline keeps that thread, and
 * the rest get another one, up to HELPER_MAX_THREADS; it is not started again before it came back.
 * A thread inside a system call that never returns cannot be ended: it goes with the process.
 *
 * Thread: the loop's for all calls; `fn` runs on a helper.
 */

#include <stdbool.h>
#include <stdint.h>

#include "common/base/cleanup.h"
#include "common/base/list.h"

/* Nine devices that hang at a time: then the slow collectors pause until one comes back. */
#define HELPER_MAX_THREADS 9

struct helper;

enum helper_state { HELPER_IDLE, HELPER_QUEUED, HELPER_RUNNING, HELPER_DONE };

struct helper_job {
    void (*fn)(void *ctx);
    void *ctx;
    /* The helper's. */
    struct list node;
    enum helper_state state;
    int64_t started_us;
};

/* NULL: no memory. */
struct helper *helper_new(void);
/*
 * Ends the threads that are idle or will be. False: one hangs in a job; then the helper and that
 * job's memory must be left alone for the rest of the process.
 */
bool helper_free(struct helper *helper);

/* Queues an idle job. False: no thread can be had. */
bool helper_start(struct helper *helper, struct helper_job *job);
/* Whether it is done; then it is idle again. */
bool helper_take(struct helper *helper, struct helper_job *job);
bool helper_is_idle(struct helper *helper, const struct helper_job *job);
/* Returns when each of the jobs is done, or ran for longer than the deadline, or could not start
 * within it. */
void helper_wait(struct helper *helper,
                 struct helper_job *const *jobs,
                 size_t n_jobs,
                 int64_t deadline_us);
