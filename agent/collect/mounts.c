/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "agent/collect/collector.h"
#include "common/base/ensure.h"

/*
 * One worker thread runs the list in order. When it stays inside a call for a SHARE of the time,
 * it is given up: it keeps its list, and ends when the call returns. Another worker goes on behind
 * that mount point, which is left out until then. So SHARE of them that hang at once (a dead file
 * server) are found in one round. What a call that was given up says in the end is told in the next
 * round: a server that is only slow is heard in every second one.
 *
 * At most MAX_STUCK workers are given up at a time; with that many, nothing is asked until one
 * comes back.
 */
#define MAX_JOBS 256
#define MAX_STUCK 64
#define SHARE 4
#define STACK_BYTES (128u << 10)

struct worker {
    pthread_t thread;
    collect_statvfs_fn *statvfs_fn;
    struct {
        pthread_mutex_t lock;
        pthread_cond_t changed;
        struct mounts_job jobs[MAX_JOBS];
        size_t n_jobs;
        size_t next; /* the job that runs or is to run */
        bool is_stopping;
        bool is_given_up;
        bool is_ended;  /* joining does not block any more */
        bool is_orphan; /* nobody will join it: it frees itself */
    } shared;
};

struct mounts {
    collect_statvfs_fn *statvfs_fn;
    struct worker *worker; /* NULL until it is needed */
    struct worker *stuck[MAX_STUCK];
    size_t n_stuck;
    /* What calls that were given up said since the last round. */
    struct mounts_job late[MAX_STUCK];
    size_t n_late;
    /* The list as the collector sees it; paths are the worker's copies when it runs. */
    struct mounts_job jobs[MAX_JOBS];
    size_t n_jobs;
};

static void jobs_clear(struct mounts_job *jobs, size_t *n_jobs)
{
    for (size_t i = 0; i < *n_jobs; i++)
        free(jobs[i].path);
    *n_jobs = 0;
}

static void worker_destroy(struct worker *worker)
{
    jobs_clear(worker->shared.jobs, &worker->shared.n_jobs);
    pthread_cond_destroy(&worker->shared.changed);
    pthread_mutex_destroy(&worker->shared.lock);
    free(worker);
}

static void *worker_main(void *ctx)
{
    struct worker *worker = ctx;
    bool is_orphan;

    pthread_mutex_lock(&worker->shared.lock);
    while (!worker->shared.is_stopping && !worker->shared.is_given_up) {
        struct mounts_job *job = &worker->shared.jobs[worker->shared.next];
        struct statvfs result = { 0 };
        int error;

        if (worker->shared.next == worker->shared.n_jobs) {
            pthread_cond_wait(&worker->shared.changed, &worker->shared.lock);
            continue;
        }
        if (!job->is_done) {
            pthread_mutex_unlock(&worker->shared.lock);
            error = worker->statvfs_fn(job->path, &result) < 0 ? errno : 0;
            pthread_mutex_lock(&worker->shared.lock);
            job->result = result;
            job->error = error;
            job->is_done = true;
        }
        worker->shared.next++;
        pthread_cond_broadcast(&worker->shared.changed);
    }
    worker->shared.is_ended = true;
    is_orphan = worker->shared.is_orphan;
    pthread_mutex_unlock(&worker->shared.lock);
    if (is_orphan)
        worker_destroy(worker);
    return NULL;
}

static struct worker *worker_new(collect_statvfs_fn *statvfs_fn)
{
    struct worker *worker = calloc(1, sizeof(*worker));
    pthread_condattr_t monotonic;
    pthread_attr_t attributes;
    int r;

    if (!worker)
        return NULL;
    worker->statvfs_fn = statvfs_fn;
    pthread_mutex_init(&worker->shared.lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&worker->shared.changed, &monotonic);
    pthread_condattr_destroy(&monotonic);

    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    r = pthread_create(&worker->thread, &attributes, worker_main, worker);
    pthread_attr_destroy(&attributes);
    if (r == 0)
        return worker;
    worker_destroy(worker);
    return NULL;
}

/* Its thread is at its end, or about to be. */
static void worker_join(struct worker *worker)
{
    pthread_join(worker->thread, NULL);
    worker_destroy(worker);
}

/* A hanging thread cannot be ended: it ends by itself, or with the process. */
static void worker_let_go(struct worker *worker)
{
    bool has_ended;

    pthread_mutex_lock(&worker->shared.lock);
    has_ended = worker->shared.is_ended;
    worker->shared.is_orphan = !has_ended;
    if (!has_ended)
        pthread_detach(worker->thread);
    pthread_mutex_unlock(&worker->shared.lock);
    if (has_ended)
        worker_join(worker);
}

static bool worker_has_ended(struct worker *worker)
{
    bool has_ended;

    pthread_mutex_lock(&worker->shared.lock);
    has_ended = worker->shared.is_ended;
    pthread_mutex_unlock(&worker->shared.lock);
    return has_ended;
}

static void reap(struct mounts *mounts)
{
    size_t n = 0;

    jobs_clear(mounts->late, &mounts->n_late);
    for (size_t i = 0; i < mounts->n_stuck; i++) {
        struct worker *worker = mounts->stuck[i];
        struct mounts_job *last;

        if (!worker_has_ended(worker)) {
            mounts->stuck[n++] = worker;
            continue;
        }
        last = &worker->shared.jobs[worker->shared.n_jobs - 1];
        mounts->late[mounts->n_late++] = *last;
        last->path = NULL;
        worker_join(worker);
    }
    mounts->n_stuck = n;
}

struct mounts *mounts_new(collect_statvfs_fn *statvfs_fn)
{
    struct mounts *mounts = calloc(1, sizeof(*mounts));

    if (mounts)
        mounts->statvfs_fn = statvfs_fn ? statvfs_fn : statvfs;
    return mounts;
}

struct mounts *mounts_free(struct mounts *mounts)
{
    if (!mounts)
        return NULL;
    for (size_t i = 0; i < mounts->n_stuck; i++)
        worker_let_go(mounts->stuck[i]);
    if (mounts->worker) {
        pthread_mutex_lock(&mounts->worker->shared.lock);
        mounts->worker->shared.is_stopping = true;
        pthread_cond_broadcast(&mounts->worker->shared.changed);
        pthread_mutex_unlock(&mounts->worker->shared.lock);
        worker_join(mounts->worker);
    }
    jobs_clear(mounts->jobs, &mounts->n_jobs);
    jobs_clear(mounts->late, &mounts->n_late);
    free(mounts);
    return NULL;
}

bool mounts_is_stuck(const struct mounts *mounts, const char *path)
{
    for (size_t i = 0; i < mounts->n_stuck; i++) {
        struct worker *worker = mounts->stuck[i];
        const struct mounts_job *job;

        /* Nobody but its own, hanging thread moves `next`; the path stays until it is joined. */
        pthread_mutex_lock(&worker->shared.lock);
        job = &worker->shared
                   .jobs[worker->shared.next < worker->shared.n_jobs ? worker->shared.next
                                                                     : worker->shared.n_jobs - 1];
        pthread_mutex_unlock(&worker->shared.lock);
        if (strcmp(job->path, path) == 0)
            return true;
    }
    return false;
}

size_t mounts_n_stuck(const struct mounts *mounts)
{
    return mounts->n_stuck;
}

void mounts_begin(struct mounts *mounts)
{
    reap(mounts);
    jobs_clear(mounts->jobs, &mounts->n_jobs);
}

bool mounts_add(struct mounts *mounts, const char *path)
{
    struct mounts_job *job = &mounts->jobs[mounts->n_jobs];

    if (mounts->n_jobs == MAX_JOBS)
        return false;
    *job = (struct mounts_job){ .path = strdup(path) };
    if (!job->path)
        return false;
    for (size_t i = 0; i < mounts->n_late; i++)
        if (strcmp(mounts->late[i].path, path) == 0) {
            job->result = mounts->late[i].result;
            job->error = mounts->late[i].error;
            job->is_done = true;
        }
    mounts->n_jobs++;
    return true;
}

static struct timespec deadline_in(int64_t timeout_us)
{
    struct timespec at;

    clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_sec += timeout_us / 1000000;
    at.tv_nsec += timeout_us % 1000000 * 1000;
    if (at.tv_nsec >= 1000000000) {
        at.tv_sec++;
        at.tv_nsec -= 1000000000;
    }
    return at;
}

/*
 * Runs the jobs from `first` on. The paths move over to the worker and stay there until its next
 * list, or its end. Returns how many are through.
 */
static size_t
worker_run(struct worker *worker, struct mounts *mounts, size_t first, int64_t patience_us)
{
    size_t n = mounts->n_jobs - first, before = 0;
    struct timespec deadline = deadline_in(patience_us);
    int r = 0;

    pthread_mutex_lock(&worker->shared.lock);
    jobs_clear(worker->shared.jobs, &worker->shared.n_jobs);
    memcpy(worker->shared.jobs, mounts->jobs + first, n * sizeof(mounts->jobs[0]));
    worker->shared.n_jobs = n;
    worker->shared.next = 0;
    pthread_cond_broadcast(&worker->shared.changed);
    while (worker->shared.next < n && r != ETIMEDOUT) {
        r = pthread_cond_timedwait(&worker->shared.changed, &worker->shared.lock, &deadline);
        if (worker->shared.next > before) {
            /* Each call has the patience. */
            before = worker->shared.next;
            deadline = deadline_in(patience_us);
            r = 0;
        }
    }
    before = worker->shared.next;
    for (size_t i = 0; i < n; i++) {
        char *path = mounts->jobs[first + i].path;
        bool is_ours = before < n && i > before; /* for the worker that comes next */

        mounts->jobs[first + i] = worker->shared.jobs[i];
        mounts->jobs[first + i].path = is_ours ? path : NULL;
    }
    if (before < n) {
        worker->shared.n_jobs = before + 1;
        worker->shared.is_given_up = true;
    }
    pthread_mutex_unlock(&worker->shared.lock);
    return before;
}

static int64_t now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

void mounts_run(struct mounts *mounts, int64_t timeout_us)
{
    int64_t end_us = now_us() + timeout_us;
    size_t first = 0;

    while (first < mounts->n_jobs && mounts->n_stuck < MAX_STUCK && now_us() < end_us) {
        if (!mounts->worker)
            mounts->worker = worker_new(mounts->statvfs_fn);
        if (!mounts->worker)
            return;
        first += worker_run(mounts->worker, mounts, first, timeout_us / SHARE);
        if (first == mounts->n_jobs)
            return;
        mounts->stuck[mounts->n_stuck++] = take(mounts->worker);
        first++;
    }
}

const struct mounts_job *mounts_job(const struct mounts *mounts, size_t i)
{
    ensure(i < mounts->n_jobs);
    return &mounts->jobs[i];
}
