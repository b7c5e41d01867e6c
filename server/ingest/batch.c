/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/text.h"
#include "server/ingest/stream.h"

#define SEEN_EVERY_US INT64_C(1000000)

/* ---- the rules ---- */

static int check_sequence(const struct ingest_stream *stream,
                          const struct ingest_batch *batch,
                          struct ingest_problem *problem)
{
    const char *field = batch->is_skip ? "skip.through_sequence" : "batch.sequence";
    const uint64_t next = stream->loop.next_sequence;

    if (batch->sequence == 0 || batch->sequence > INGEST_MAX_SEQUENCE) {
        problem_field(problem, "%s", field);
        problem_say(problem, "sequences begin at 1 and end below 2^63");
        return INGEST_BAD_BATCH;
    }
    if (!batch->is_skip && batch->sequence > next) {
        problem_field(problem, "%s", field);
        problem_say(
            problem,
            "%llu came where %llu was due; sequences go up by one, and a Skip is the way past "
            "batches that were dropped",
            (unsigned long long) batch->sequence, (unsigned long long) next);
        return INGEST_GAP;
    }
    return INGEST_OK;
}

int batch_check_time(const struct ingest_stream *stream,
                     int64_t time_us,
                     wall_us now,
                     struct ingest_problem *problem)
{
    const bool is_logs = stream->signal == STORE_LOGS;
    const struct ingest_limits *limits = &stream->loop.limits;
    const int64_t retention_us = is_logs ? limits->logs_retention_us : limits->retention_us;
    char hub[TEXT_TIME_BYTES];

    /* Compared so that no sum overflows. */
    if (time_us >= now.us - retention_us && time_us <= now.us + limits->future_us)
        return INGEST_OK;
    problem_say(problem,
                "%lld us is %s; the hub's time is %s (%lld us). It takes %s of the last %lld h and "
                "of the next %lld min; check the clock",
                (long long) time_us, time_us < now.us ? "too old" : "in the future",
                text_of_time(now, hub), (long long) now.us, is_logs ? "records" : "samples",
                (long long) (retention_us / 3600000000),
                (long long) (limits->future_us / 60000000));
    return INGEST_TIME_OUT_OF_RANGE;
}

static int check_batch(struct ingest_stream *stream,
                       const struct ingest_batch *batch,
                       wall_us now,
                       struct ingest_problem *problem)
{
    int r;

    r = check_sequence(stream, batch, problem);
    if (r != INGEST_OK)
        return r;
    stream->loop.payload_bytes = 0;
    if (batch->is_skip)
        return INGEST_OK;
    if (stream->signal == STORE_LOGS)
        return logs_check(stream, batch, now, problem);
    r = declare_check(stream, batch, problem);
    return r != INGEST_OK ? pass(r) : metrics_check(stream, batch, now, problem);
}

/* ---- to the store ---- */

static int
build_logs(struct ingest_stream *stream, const struct ingest_logs *logs, struct store_batch **ret)
{
    struct store_packer *packer = NULL;
    int r = ingest_take_packer(stream->ingest, &packer);

    if (r < 0)
        return pass(r);
    r = store_batch_new_logs(packer, logs->source, logs->records, logs->n_records, logs->sent, ret);
    ingest_give_back_packer(stream->ingest, packer);
    return pass(r);
}

static int build(struct ingest_stream *stream, const struct ingest_batch *batch, wall_us now)
{
    CLEANUP(store_batch_freep) struct store_batch *built = NULL;
    const bool are_logs = !batch->is_skip && stream->signal == STORE_LOGS;
    int r;

    r = are_logs ? build_logs(stream, batch->logs, &built)
                 : store_batch_new(&built, stream->loop.payload_bytes);
    if (r < 0)
        return pass(r);
    built->agent = stream->agent;
    built->signal = stream->signal;
    memcpy(built->spool, stream->spool, STORE_SPOOL_BYTES);
    built->sequence = batch->sequence;
    built->crc32c = batch->crc32c;
    built->is_skip = batch->is_skip;
    built->skip_reason = batch->skip_reason;
    built->skip_records = batch->skip_records;
    built->received = now;
    built->done = stream_on_done;
    built->ctx = stream;
    if (!batch->is_skip && !are_logs) {
        r = metrics_build(stream, batch, built);
        if (r < 0)
            return pass(r);
    }
    stream->loop.built = take(built);
    return 0;
}

/* Under way first, as done() may come before store_submit() returns. */
static int try_submit(struct ingest_stream *stream)
{
    int r;

    pthread_mutex_lock(&stream->shared.lock);
    stream->shared.n_under_way++;
    pthread_mutex_unlock(&stream->shared.lock);
    (void) stream_ref(stream);

    r = store_submit(stream->ingest->store, stream->loop.built);
    if (r == STORE_OK) {
        stream->loop.built = NULL;
        return INGEST_OK;
    }
    stream_unref(stream);
    pthread_mutex_lock(&stream->shared.lock);
    stream->shared.n_under_way--;
    if (stream->shared.has_end && stream->shared.n_under_way == 0)
        stream_wake(stream);
    pthread_mutex_unlock(&stream->shared.lock);
    return r < 0 ? pass(r) : stream_outcome_of_store(r);
}

static int submit(struct ingest_stream *stream, struct ingest_problem *problem)
{
    int r;

    r = try_submit(stream);
    if (r == INGEST_WAIT) {
        /* Once more after asking to be told, else the last batch of the queue could have come back
         * in between. */
        ingest_wait_for_room(stream->ingest, stream);
        r = try_submit(stream);
    }
    stream->loop.is_behind = r == INGEST_WAIT;
    if (r == INGEST_FULL)
        problem_say(problem, "the hub's disk is full; it takes nothing new until space is freed");
    else if (r == INGEST_STOPPED)
        problem_say(problem, "the hub is stopping; connect again");
    return r;
}

/* Whether a batch may come in at all. */
static int admit(struct ingest_stream *stream, struct ingest_problem *problem)
{
    const uint32_t limit = stream->loop.limits.unacknowledged_batches;
    int r = INGEST_OK;

    pthread_mutex_lock(&stream->shared.lock);
    if (stream->shared.has_end) {
        r = stream->shared.end == INGEST_OK ? INGEST_STOPPED : stream->shared.end;
    } else if (limit > 0 && stream->shared.n_under_way >= limit) {
        stream->shared.ready_below = limit;
        r = INGEST_WAIT;
    }
    pthread_mutex_unlock(&stream->shared.lock);
    if (r != INGEST_OK && r != INGEST_WAIT)
        problem_say(problem, "the stream is over");
    return r;
}

static void refresh_limits(struct ingest_stream *stream)
{
    const uint32_t version = atomic_load(&stream->ingest->limits_version);

    if (version == stream->loop.limits_version)
        return;
    stream->loop.limits_version = version;
    ingest_get_limits(stream->ingest, &stream->loop.limits);
}

static int take_batch(struct ingest_stream *stream,
                      const struct ingest_batch *batch,
                      wall_us now,
                      struct ingest_problem *problem)
{
    int r;

    r = admit(stream, problem);
    if (r != INGEST_OK)
        return r;
    if (!stream->loop.is_checked) {
        refresh_limits(stream);
        r = check_batch(stream, batch, now, problem);
        if (r != INGEST_OK)
            return pass(r);
        stream->loop.is_checked = true;
        stream->loop.held_sequence = batch->sequence;
    }
    ensure(stream->loop.held_sequence == batch->sequence);
    r = declare_intern(stream, problem);
    if (r != INGEST_OK)
        return pass(r);
    if (!stream->loop.built) {
        r = build(stream, batch, now);
        if (r < 0)
            return pass(r);
    }
    r = submit(stream, problem);
    if (r != INGEST_OK)
        return pass(r);

    stream->loop.is_checked = false;
    if (batch->sequence >= stream->loop.next_sequence)
        stream->loop.next_sequence = batch->sequence + 1;
    if (now.us - stream->loop.seen_us >= SEEN_EVERY_US) {
        stream->loop.seen_us = now.us;
        store_agent_seen(stream->ingest->store, stream->agent, now);
    }
    return INGEST_OK;
}

bool ingest_stream_is_behind(const struct ingest_stream *stream)
{
    return stream->loop.is_behind;
}

int ingest_stream_batch(struct ingest_stream *stream,
                        const struct ingest_batch *batch,
                        wall_us now,
                        struct ingest_problem *ret_problem)
{
    int r;

    ret_problem->field[0] = '\0';
    ret_problem->description[0] = '\0';
    ret_problem->quota = NULL;
    stream->loop.is_behind = false;
    r = take_batch(stream, batch, now, ret_problem);
    if (r == INGEST_OK || r == INGEST_WAIT)
        return r;
    atomic_fetch_add(&stream->ingest->n_refused, 1);
    (void) stream_end(stream, r < 0 ? INGEST_FAULT : r);
    return pass(r);
}
