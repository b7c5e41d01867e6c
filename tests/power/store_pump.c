/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The store at work on a disk that loses what was not synced, and the look at what it left.
 *
 *   store_pump pump DIRECTORY ROUNDS    makes DIRECTORY/db or goes on with it; appends to
 * DIRECTORY/told store_pump check DIRECTORY          exits with 0 when all that was told is true,
 * and it goes on
 *
 * Exit codes: 1 not true, 3 the store failed (an error of the disk): nothing told after it.
 */

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "work.h"

enum {
    ROUNDS_PER_SEAL = 6,
    ROUNDS_PER_COMPACTION = 18,
    ROUNDS_PER_RETENTION = 27,
    ROUNDS_PER_REOPEN = 40,
    DAYS_KEPT = 3,
};

static char db[4096];
static _Atomic uint32_t n_open; /* batches without an answer */
static struct work *current;

/* ---- the pump ---- */

static void on_done(struct store_batch *batch, int r, uint64_t run_last)
{
    if (r == STORE_STOPPED || r < 0)
        _exit(WORK_EXIT_FAILED);
    if (r || run_last < batch->sequence)
        work_fail("batch %llu: %d", (unsigned long long) batch->sequence, r);
    work_tell(current, "A %u %llu\n", batch->spool[0] - 1u, (unsigned long long) batch->sequence);
    store_batch_free(batch);
    atomic_fetch_sub(&n_open, 1);
}

static void submit_round(struct work *work, uint64_t next[static WORK_AGENTS])
{
    for (uint32_t i = 0; i < WORK_WINDOW; i++) {
        for (uint32_t agent = 0; agent < WORK_AGENTS; agent++) {
            struct store_batch *batch = work_batch(work, agent, next[agent]++);

            batch->done = on_done;
            atomic_fetch_add(&n_open, 1);
            work_need("submit", store_submit(work->store, batch));
        }
    }
    while (atomic_load(&n_open))
        usleep(200);
}

/* Days that are over for long go, and the answer is waited for. */
static void retain(struct work *work, uint64_t sequence)
{
    int32_t kept = work_day(work, sequence) - DAYS_KEPT;
    int64_t kept_us = kept * WORK_DAY_US + WORK_DAY_US / 2;
    struct store_stats before, after;
    uint64_t n_expected = 0;

    work_need("seal", store_seal(work->store));
    store_get_stats(work->store, &before);
    work_tell(work, "R %d\n", kept);
    for (int32_t day = kept - 1; day >= work->base_day; day--) {
        char path[4200];
        time_t at = (time_t) day * 86400;
        struct tm tm;
        size_t n = (size_t) snprintf(path, sizeof(path), "%s/default/metrics/", db);

        strftime(path + n, sizeof(path) - n, "%Y%m%d", gmtime_r(&at, &tm));
        n_expected += access(path, F_OK) == 0;
    }
    store_set_retention(work->store, clock_wall().us - kept_us, 0);
    if (n_expected == 0)
        return;
    store_retain_now(work->store);
    do {
        usleep(200);
        store_get_stats(work->store, &after);
        if (after.has_failed)
            exit(WORK_EXIT_FAILED);
    } while (after.n_days_gone < before.n_days_gone + n_expected);
    work_tell(work, "G %d\n", kept);
}

static void open_all(struct work *work, uint64_t next[static WORK_AGENTS])
{
    work_need("open", work_open(work, db));
    work_intern(work);
    for (uint32_t agent = 0; agent < WORK_AGENTS; agent++) {
        uint8_t spool[STORE_SPOOL_BYTES];
        struct store_run run = { 0 };

        work_tell(work, "I %u %u %u %u\n", agent, work->agents[agent], work->layouts[0],
                  work->layouts[1]);
        work_spool(agent, spool);
        if (store_run_get(work->store, work->agents[agent], STORE_METRICS, spool, &run))
            run.last_sequence = 0;
        next[agent] = run.last_sequence + 1;
        /* On disk, and the acknowledgement was lost: it would be told again. */
        if (run.last_sequence)
            work_tell(work, "A %u %llu\n", agent, (unsigned long long) run.last_sequence);
    }
}

static void begin(struct work *work, const char *directory)
{
    char path[4200];
    struct work_told told;

    snprintf(path, sizeof(path), "%s/told", directory);
    work_read_told(path, &told);
    work->told_fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (work->told_fd < 0)
        work_fail("cannot open %s", path);
    work->base_day = told.base_day;
    while (work->upload < WORK_UPLOADS && told.is_finished[work->upload])
        work->upload++;
    if (!told.has_base) {
        work->base_day = (int32_t) (clock_wall().us / WORK_DAY_US) - 20;
        work_tell(work, "B %d\n", work->base_day);
    }
    if (told.is_created)
        return;
    if (mkdir(db, 0700) < 0 && access(db, F_OK) < 0)
        work_fail("cannot make %s", db);
    snprintf(path, sizeof(path), "%s/state", db);
    if (access(path, F_OK) < 0)
        work_need("create", store_create(db));
    work_tell(work, "C\n");
}

static int pump(const char *directory, unsigned n_rounds)
{
    struct work work = { 0 };
    uint64_t next[WORK_AGENTS];

    current = &work;
    begin(&work, directory);
    if (n_rounds == 0)
        return 0;
    open_all(&work, next);
    for (unsigned round = 1; round <= n_rounds; round++) {
        submit_round(&work, next);
        work_upload_round(&work);
        work_inventory_round(&work, round);
        if (round % ROUNDS_PER_SEAL == 0)
            work_need("seal", store_seal(work.store));
        if (round % ROUNDS_PER_COMPACTION == 0)
            work_need("compact", store_compact(work.store));
        if (round % ROUNDS_PER_RETENTION == 0)
            retain(&work, next[0]);
        if (round % ROUNDS_PER_REOPEN == 0) {
            store_close(work.store);
            work_upload_close();
            open_all(&work, next);
        }
    }
    store_close(work.store);
    work_upload_close();
    close(work.told_fd);
    return 0;
}

/* ---- the look ---- */

/* After a cut the agents send what was not acknowledged, and go on. */
static void go_on(struct work *work, struct work_told *told)
{
    for (uint32_t agent = 0; agent < WORK_AGENTS; agent++) {
        uint8_t spool[STORE_SPOOL_BYTES];
        struct store_run run = { 0 };
        int r;

        work_spool(agent, spool);
        if (store_run_get(work->store, work->agents[agent], STORE_METRICS, spool, &run))
            run.last_sequence = 0;
        r = run.last_sequence ? work_put(work, agent, run.last_sequence) : STORE_DUPLICATE;
        if (r != STORE_DUPLICATE)
            work_fail("a batch that was there is taken again: %d", r);
        for (uint64_t s = run.last_sequence + 1; s <= run.last_sequence + 3; s++) {
            r = work_put(work, agent, s);
            if (r)
                work_fail("it does not go on: %d", r);
        }
        told->acked[agent] = run.last_sequence + 3;
    }
    work_check(work, told);
    work_need("seal", store_seal(work->store));
    work_check(work, told);
    work_need("compact", store_compact(work->store));
    work_check(work, told);
}

static int check(const char *directory)
{
    struct work work = { .told_fd = -1 };
    struct work_told told;
    char path[4200];
    int r;

    snprintf(path, sizeof(path), "%s/told", directory);
    work_read_told(path, &told);
    work.base_day = told.base_day;
    r = work_open(&work, db);
    if (!told.is_created && (r == STORE_NOT_FOUND || (r < 0 && access(db, F_OK) < 0))) {
        /* Not at all: then it can be made. */
        if (mkdir(db, 0700) < 0 && access(db, F_OK) < 0)
            work_fail("cannot make %s", db);
        if (store_create(db) || work_open(&work, db))
            work_fail("a creation cut short cannot be begun anew");
        puts("not created");
    } else if (r) {
        work_fail("the database does not open: %d", r);
    }
    work_intern(&work);
    work_check(&work, &told);
    work_check_uploads(&work, &told);
    work_check_inventories(&work, &told);
    go_on(&work, &told);
    store_close(work.store);
    if (work_open(&work, db))
        work_fail("the database does not open again");
    work_check(&work, &told);
    work_check_uploads(&work, &told);
    work_check_inventories(&work, &told);
    store_close(work.store);
    printf("acked %llu gone %d\n", (unsigned long long) told.acked[0],
           told.gone == INT32_MIN ? 0 : told.gone - told.base_day);
    return 0;
}

int main(int argc, char *argv[])
{
    if (argc < 3)
        work_fail("usage: store_pump pump DIRECTORY ROUNDS | check DIRECTORY");
    snprintf(db, sizeof(db), "%s/db", argv[2]);
    if (strcmp(argv[1], "pump") == 0 && argc == 4)
        return pump(argv[2], (unsigned) strtoul(argv[3], NULL, 10));
    return check(argv[2]);
}
