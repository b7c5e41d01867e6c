/* SPDX-License-Identifier: Apache-2.0 */
#include "server/store/journal/writer.h"

#include <errno.h>
#include <time.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/faultpoint.h"
#include "common/log/log.h"
#include "server/store/journal/batch.h"
#include "server/store/whole.h"

#define READER_CHECK_US 60000000

/*
 * A commit costs the same for one batch as for fifty, and batches of logs are small when they come
 * compressed. So where many come, which the last group tells, the next one waits for more: for logs
 * of forty agents an eighth of the hub's time less. Who is alone does not wait; nor does anybody
 * where there is enough already. Metrics do not: their groups are large.
 */
#define GATHER_FROM 4 /* batches of logs in the last group */
#define GATHER_BYTES (UINT64_C(256) << 10)
#define GATHER_STEP_NS 1000000
#define GATHER_STEPS 4

static uint64_t cost_of(const struct store_batch *batch)
{
    return sizeof(*batch) + batch->n_bytes;
}

int writer_submit(struct writer *writer, struct store_batch *batch)
{
    int r = 0;

    pthread_mutex_lock(&writer->queue.lock);
    if (writer->queue.is_stopping || !writer->has_thread ||
        atomic_load(&writer->store->has_failed)) {
        r = STORE_STOPPED;
    } else if (writer->queue.is_full) {
        r = STORE_FULL;
    } else if (writer->queue.n_batches > 0 &&
               writer->queue.n_bytes + cost_of(batch) > writer->store->options.queue_bytes) {
        r = STORE_BUSY;
    }
    if (!r) {
        batch->next = NULL;
        *writer->queue.end = batch;
        writer->queue.end = &batch->next;
        writer->queue.n_bytes += cost_of(batch);
        writer->queue.n_batches += !batch->is_begin;
        if (writer->queue.is_waiting)
            pthread_cond_signal(&writer->queue.wake);
    }
    pthread_mutex_unlock(&writer->queue.lock);
    return r;
}

static bool is_gathered(struct writer *writer)
{
    bool is_enough;

    pthread_mutex_lock(&writer->queue.lock);
    is_enough = writer->queue.is_stopping || writer->queue.n_bytes >= GATHER_BYTES;
    pthread_mutex_unlock(&writer->queue.lock);
    return is_enough;
}

/* After a group of so many. */
static void gather(struct writer *writer, uint64_t n_last)
{
    const struct timespec step = { .tv_nsec = GATHER_STEP_NS };

    for (int i = 0; n_last >= GATHER_FROM && i < GATHER_STEPS && !is_gathered(writer); i++)
        nanosleep(&step, NULL);
}

/* The first of the queue, bounded; at least one. With the lock held. *ret_n: batches of logs. */
static struct store_batch *take_group(struct writer *writer, uint64_t *ret_n)
{
    struct store_batch *first = writer->queue.first, *last = first;
    uint64_t n_bytes = 0;

    *ret_n = 0;
    if (!first)
        return NULL;
    for (struct store_batch *batch = first; batch; batch = batch->next) {
        if (batch != first && n_bytes + cost_of(batch) > WRITER_GROUP_BYTES)
            break;
        n_bytes += cost_of(batch);
        writer->queue.n_batches -= !batch->is_begin;
        *ret_n += !batch->is_begin && batch->signal == STORE_LOGS;
        last = batch;
    }
    writer->queue.first = last->next;
    if (!last->next)
        writer->queue.end = &writer->queue.first;
    last->next = NULL;
    writer->queue.n_bytes -= n_bytes;
    return first;
}

static void set_full(struct writer *writer, bool is_full)
{
    const struct store_options *options = &writer->store->options;
    bool was_full;

    pthread_mutex_lock(&writer->queue.lock);
    was_full = writer->queue.is_full;
    writer->queue.is_full = is_full;
    pthread_mutex_unlock(&writer->queue.lock);
    if (is_full != was_full && options->on_full)
        options->on_full(options->ctx, is_full);
}

/* Only this thread changes the mode. */
static void look_at_disk(struct writer *writer)
{
    struct store *store = writer->store;

    if (atomic_load(&store->has_failed))
        return;
    if (store_disk_is_above(store) || sealer_is_stuck(&store->sealer))
        set_full(writer, true);
    else if (writer->queue.is_full && journal_has_room(&store->journal))
        set_full(writer, false);
}

/* The mode changes before the answers go out: who hears "full" and tries again at once is refused
 * at once. */
static void refuse_failed(struct writer *writer, struct store_batch *batches, int r)
{
    if (r == STORE_FULL)
        set_full(writer, true);
    else
        store_fail(writer->store);
    group_refuse(writer->store, batches, r == STORE_FULL ? STORE_FULL : STORE_STOPPED);
}

/* ---- rotation ---- */

/* Of who was erased; nothing of them comes any more. */
static void forget_runs(struct writer *writer)
{
    struct store *store = writer->store;
    uint32_t n_to_forget = atomic_load(&writer->n_to_forget);

    for (uint32_t number = 1; number <= idtable_highest(&store->agents.table); number++) {
        struct agent *agent = agents_get(&store->agents, number);

        if (agent && agent_is_gone(agent))
            runs_drop_agent(&store->runs, number);
    }
    atomic_store(&writer->n_forgotten, n_to_forget);
}

/* Outcomes: STORE_FULL. */
static int rotate(struct writer *writer)
{
    struct store *store = writer->store;
    int r;

    forget_runs(writer);
    r = journal_rotate(&store->journal, &store->runs, clock_wall().us);
    if (r)
        return pass(r);
    atomic_store(&writer->wants_rotation, false);
    return 0;
}

void writer_forget_soon(struct writer *writer, bool rotates)
{
    if (rotates)
        atomic_store(&writer->wants_rotation, true);
    atomic_fetch_add(&writer->n_to_forget, 1);
}

bool writer_has_forgotten(struct writer *writer)
{
    return atomic_load(&writer->n_forgotten) == atomic_load(&writer->n_to_forget);
}

/* Where there is no room, it is asked for again with the next look. */
static void forget_when_asked(struct writer *writer)
{
    if (!writer_has_forgotten(writer))
        forget_runs(writer);
    if (atomic_load(&writer->wants_rotation) && !writer->queue.is_full &&
        !atomic_load(&writer->store->has_failed) && rotate(writer) < 0)
        store_fail(writer->store);
}

static void write_group(struct writer *writer, struct store_batch *batches)
{
    struct store *store = writer->store;
    int r;

    faultpoint("journal_queued");
    sealer_wait_for_room(&store->sealer);
    if (atomic_load(&store->has_failed)) {
        group_refuse(store, batches, STORE_STOPPED);
        return;
    }
    if (store_disk_is_above(store) || sealer_is_stuck(&store->sealer)) {
        refuse_failed(writer, batches, STORE_FULL);
        return;
    }
    if (journal_wants_rotation(&store->journal)) {
        r = rotate(writer);
        if (r) {
            refuse_failed(writer, batches, r);
            return;
        }
    }
    r = group_commit(writer->group, store, batches);
    if (r) {
        refuse_failed(writer, batches, r);
        return;
    }
    set_full(writer, false);
    if (!group_answer(writer->group, store))
        store_fail(store);
}

/* The kernel's clock, on which a condition waits whatever source tests give to ours. */
static struct timespec in_a_while(void)
{
    struct timespec at;

    clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_sec += WRITER_LOOK_S;
    return at;
}

static bool is_past(struct timespec at)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec > at.tv_sec || (now.tv_sec == at.tv_sec && now.tv_nsec >= at.tv_nsec);
}

/* What is queued, or NULL: it is time to look, or to end. */
static struct store_batch *
next_group(struct writer *writer, const struct timespec *until, uint64_t *ret_n, bool *ret_ends)
{
    struct store_batch *batches;
    int rc = 0;

    pthread_mutex_lock(&writer->queue.lock);
    writer->queue.is_waiting = true;
    while (!writer->queue.first && !writer->queue.is_stopping && rc != ETIMEDOUT)
        rc = pthread_cond_timedwait(&writer->queue.wake, &writer->queue.lock, until);
    writer->queue.is_waiting = false;
    batches = take_group(writer, ret_n);
    *ret_ends = writer->queue.is_stopping && !batches;
    pthread_mutex_unlock(&writer->queue.lock);
    return batches;
}

static void *writer_main(void *arg)
{
    struct writer *writer = arg;
    mono_us next_check = { clock_mono().us + READER_CHECK_US };
    struct timespec next_look = in_a_while();
    bool ends = false;

    look_at_disk(writer);
    while (!ends) {
        uint64_t n;
        struct store_batch *batches = next_group(writer, &next_look, &n, &ends);

        if (batches)
            write_group(writer, batches);
        gather(writer, n);
        if (is_past(next_look)) {
            look_at_disk(writer);
            forget_when_asked(writer);
            next_look = in_a_while();
        }
        if (clock_mono().us >= next_check.us) {
            journal_check_readers(&writer->store->journal);
            next_check.us = clock_mono().us + READER_CHECK_US;
        }
    }
    return NULL;
}

int writer_start(struct writer *writer, struct store *store)
{
    pthread_condattr_t attr;
    int rc;

    writer->group = group_new();
    if (!writer->group)
        return fault(-ENOMEM, "no memory for the writer");
    writer->store = store;
    writer->queue.end = &writer->queue.first;
    ensure(pthread_mutex_init(&writer->queue.lock, NULL) == 0);
    ensure(pthread_condattr_init(&attr) == 0);
    ensure(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0);
    ensure(pthread_cond_init(&writer->queue.wake, &attr) == 0);
    pthread_condattr_destroy(&attr);
    ensure(pthread_mutex_init(&writer->stats.lock, NULL) == 0);
    writer->has_thread = true;
    rc = pthread_create(&writer->thread, NULL, writer_main, writer);
    if (rc) {
        writer->has_thread = false;
        return fault(-rc, "cannot start the journal's writer");
    }
    return 0;
}

void writer_stop(struct writer *writer)
{
    if (!writer->has_thread)
        return;
    pthread_mutex_lock(&writer->queue.lock);
    writer->queue.is_stopping = true;
    pthread_cond_signal(&writer->queue.wake);
    pthread_mutex_unlock(&writer->queue.lock);
    pthread_join(writer->thread, NULL);
    pthread_mutex_lock(&writer->queue.lock);
    writer->has_thread = false;
    pthread_mutex_unlock(&writer->queue.lock);
}

void writer_deinit(struct writer *writer)
{
    if (!writer->group)
        return;
    ensure(!writer->has_thread && !writer->queue.first);
    writer->group = group_free(writer->group);
    pthread_mutex_destroy(&writer->queue.lock);
    pthread_cond_destroy(&writer->queue.wake);
    pthread_mutex_destroy(&writer->stats.lock);
}
