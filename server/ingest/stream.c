/* SPDX-License-Identifier: Apache-2.0 */
#include "server/ingest/stream.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/text.h"

void problem_field(struct ingest_problem *problem, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    (void) vsnprintf(problem->field, sizeof(problem->field), fmt, args);
    va_end(args);
}

void problem_say(struct ingest_problem *problem, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    (void) vsnprintf(problem->description, sizeof(problem->description), fmt, args);
    va_end(args);
}

/* ---- memory ---- */

struct ingest_stream *stream_ref(struct ingest_stream *stream)
{
    atomic_fetch_add(&stream->n_refs, 1);
    return stream;
}

static void stream_free(struct ingest_stream *stream)
{
    ensure(!stream->is_listed);
    ensure(stream->shared.n_under_way == 0);
    (void) store_batch_free(stream->loop.built);
    (void) declaring_free(stream->loop.declaring);
    declare_deinit(stream);
    free(stream->loop.scratch);
    pthread_mutex_destroy(&stream->shared.lock);
    ingest_unref(stream->ingest);
    free(stream);
}

void stream_unref(struct ingest_stream *stream)
{
    if (atomic_fetch_sub(&stream->n_refs, 1) == 1)
        stream_free(stream);
}

static struct ingest_stream *stream_new(struct ingest *ingest, const struct ingest_hello *hello)
{
    struct ingest_stream *stream = calloc(1, sizeof(*stream));
    const struct span *sources[N_SOURCES] = {
        [SOURCE_MACHINE_ID] = &hello->fingerprint.machine_id,
        [SOURCE_DMI] = &hello->fingerprint.dmi,
        [SOURCE_BOOT_DISK] = &hello->fingerprint.boot_disk,
        [SOURCE_FIRST_MAC] = &hello->fingerprint.first_mac,
    };

    if (!stream)
        return NULL;
    stream->ingest = ingest_ref(ingest);
    stream->agent = hello->agent;
    stream->signal = hello->signal;
    memcpy(stream->spool, hello->spool_id.data, STORE_SPOOL_BYTES);
    memcpy(stream->instance, hello->instance.data, sizeof(stream->instance));
    stream->is_vouched = hello->is_vouched;
    for (size_t i = 0; i < N_SOURCES; i++) {
        stream->machine.len[i] = (uint8_t) sources[i]->len;
        if (sources[i]->len > 0)
            memcpy(stream->machine.bytes[i], sources[i]->data, sources[i]->len);
    }
    atomic_init(&stream->n_refs, 1);
    list_init(&stream->in_agent);
    list_init(&stream->in_waiting);
    arena_init(&stream->loop.arena,
               SIZE_MAX); /* bounded by agent_series and INGEST_MEMBER_FACTOR */
    pthread_mutex_init(&stream->shared.lock, NULL);
    ingest_get_limits(ingest, &stream->loop.limits);
    stream->loop.limits_version = atomic_load(&ingest->limits_version);
    stream->loop.seen_us = hello->now.us;
    return stream;
}

/* ---- hello ---- */

static int check_hello_text(const struct ingest_hello *hello, struct ingest_problem *problem)
{
    if (hello->agent_version && strlen(hello->agent_version) > INGEST_VERSION_BYTES) {
        problem_field(problem, "hello.agent_version");
        problem_say(problem, "at most %d bytes", INGEST_VERSION_BYTES);
        return INGEST_BAD_HELLO;
    }
    if (hello->n_host > INGEST_HOST_ENTRIES) {
        problem_field(problem, "hello.host");
        problem_say(problem, "%zu entries, at most %d are taken", hello->n_host,
                    INGEST_HOST_ENTRIES);
        return INGEST_BAD_HELLO;
    }
    for (size_t i = 0; i < hello->n_host; i++) {
        const struct store_attribute *entry = &hello->host[i];

        if (entry->key[0] == '\0' || strlen(entry->key) > 255 || strlen(entry->value) > 1024 ||
            !text_is_utf8(entry->key, strlen(entry->key)) ||
            !text_is_utf8(entry->value, strlen(entry->value))) {
            problem_field(problem, "hello.host[%zu]", i);
            problem_say(problem, "a key is 1 to 255 bytes, a value at most 1024, both UTF-8");
            return INGEST_BAD_HELLO;
        }
    }
    return INGEST_OK;
}

static int check_hello_sequences(const struct ingest_hello *hello, struct ingest_problem *problem)
{
    if (hello->first_sequence == 0 || hello->first_sequence > INGEST_MAX_SEQUENCE) {
        problem_field(problem, "hello.first_sequence");
        problem_say(problem,
                    "sequences begin at 1 and end below 2^63; an agent that has no batch says "
                    "first_sequence = last_sequence + 1");
        return INGEST_BAD_HELLO;
    }
    if (hello->last_sequence < hello->first_sequence - 1 ||
        hello->last_sequence > INGEST_MAX_SEQUENCE) {
        problem_field(problem, "hello.last_sequence");
        problem_say(problem,
                    "below first_sequence - 1, or not below 2^63; an agent that has no batch "
                    "says last_sequence = first_sequence - 1");
        return INGEST_BAD_HELLO;
    }
    return INGEST_OK;
}

static int check_hello(const struct ingest_hello *hello, struct ingest_problem *problem)
{
    const struct {
        const char *name;
        const struct span *span;
    } sources[] = {
        { "machine_id", &hello->fingerprint.machine_id },
        { "dmi", &hello->fingerprint.dmi },
        { "boot_disk", &hello->fingerprint.boot_disk },
        { "first_mac", &hello->fingerprint.first_mac },
    };
    int r;

    if (hello->spool_id.len != STORE_SPOOL_BYTES) {
        problem_field(problem, "hello.spool_id");
        problem_say(problem, "%zu bytes, must be %d", hello->spool_id.len, STORE_SPOOL_BYTES);
        return INGEST_BAD_HELLO;
    }
    if (hello->instance.len != 16) {
        problem_field(problem, "hello.instance");
        problem_say(problem, "%zu bytes, must be 16", hello->instance.len);
        return INGEST_BAD_HELLO;
    }
    for (size_t i = 0; i < sizeof(sources) / sizeof(sources[0]); i++) {
        if (sources[i].span->len > INGEST_FINGERPRINT_MAX) {
            problem_field(problem, "hello.fingerprint.%s", sources[i].name);
            problem_say(problem, "%zu bytes, at most %d", sources[i].span->len,
                        INGEST_FINGERPRINT_MAX);
            return INGEST_BAD_HELLO;
        }
    }
    r = check_hello_sequences(hello, problem);
    return r != INGEST_OK ? r : check_hello_text(hello, problem);
}

/* What the hub has of the run against what the agent says of it: design/wire.md, the stream
 * protocol. */
static int compare_runs(struct ingest *ingest,
                        const struct ingest_hello *hello,
                        struct ingest_welcome *ret,
                        struct ingest_problem *problem)
{
    const uint64_t before_first = hello->first_sequence - 1;
    struct store_run run = { 0 };
    int r;

    r = store_run_get(ingest->store, hello->agent, hello->signal, hello->spool_id.data, &run);
    if (r == STORE_NOT_FOUND) {
        run = (struct store_run){ 0 };
        if (store_run_may_begin(ingest->store, hello->agent, hello->now) != STORE_OK) {
            problem->quota = "agent_runs";
            problem_field(problem, "hello.spool_id");
            problem_say(problem,
                        "this agent has begun %u runs in the last %lld h, as many as the hub keeps "
                        "(agent_runs); go on with one of them, or wait",
                        STORE_RUNS_PER_AGENT, (long long) (STORE_RUN_CLOSED_US / 3600000000));
            return INGEST_LIMIT;
        }
    } else if (r != STORE_OK) {
        return fold(r);
    }

    if (hello->last_sequence < run.last_sequence) {
        problem_field(problem, "hello.last_sequence");
        problem_say(problem,
                    "the hub has this run up to %llu, the agent only up to %llu: the agent's disk "
                    "went back "
                    "in time; open a new spool id for what is not acknowledged",
                    (unsigned long long) run.last_sequence,
                    (unsigned long long) hello->last_sequence);
        return INGEST_FORKED;
    }
    if (before_first == run.last_sequence && run.last_sequence > 0 &&
        hello->crc32c_before_first != run.last_crc32c) {
        problem_field(problem, "hello.crc32c_before_first");
        problem_say(problem,
                    "batch %llu of the hub has other bytes than the agent's: the run was forked; "
                    "open a new "
                    "spool id for what is not acknowledged",
                    (unsigned long long) run.last_sequence);
        return INGEST_FORKED;
    }
    *ret = (struct ingest_welcome){ .resume_after_sequence = run.last_sequence };
    if (before_first > run.last_sequence) {
        ret->resume_after_sequence = before_first;
        ret->lost_first = run.last_sequence + 1;
        ret->lost_last = before_first;
    }
    return INGEST_OK;
}

static int refuse_one_more(struct ingest_problem *problem)
{
    problem->quota = "agent_streams";
    problem_field(problem, "hello.spool_id");
    problem_say(problem, "this agent has %d streams open, as many as one may (agent_streams)",
                INGEST_STREAMS_PER_AGENT);
    return INGEST_LIMIT;
}

static int refuse_clone(struct ingest_problem *problem)
{
    problem_field(problem, "hello.fingerprint");
    problem_say(problem,
                "another machine is connected with this agent id; give this one an identity of "
                "its own (was the machine cloned with its certificate?)");
    return INGEST_CLONED;
}

int stream_outcome_of_store(int r)
{
    if (r < 0)
        return INGEST_FAULT;
    switch ((enum store_outcome) r) {
    case STORE_OK:
    case STORE_DUPLICATE:
        return INGEST_OK;
    case STORE_GAP:
        return INGEST_GAP;
    case STORE_FULL:
        return INGEST_FULL;
    case STORE_BUSY:
        return INGEST_WAIT;
    case STORE_TOO_MUCH:
        return INGEST_LIMIT;
    case STORE_STOPPED:
        return INGEST_STOPPED;
    case STORE_NOT_FOUND:
    case STORE_LOCKED:
    case STORE_NEWER:
    case STORE_UNFIT:
    case STORE_DIFFERS:
    case STORE_TAKEN:
    case STORE_INCOMPLETE:
    case STORE_DAMAGED:
    default:
        return INGEST_FAULT;
    }
}

/* The agent may say any time. */
static int64_t clock_offset(int64_t agent_us, int64_t hub_us)
{
    int64_t offset_us;

    if (__builtin_sub_overflow(agent_us, hub_us, &offset_us))
        return agent_us < hub_us ? INT64_MIN : INT64_MAX;
    return offset_us;
}

/* The gap of a restored hub goes on record; then the agent's row learns what the hello says. */
static int enter_run(struct ingest_stream *stream,
                     const struct ingest_hello *hello,
                     const struct ingest_welcome *welcome,
                     struct ingest_problem *problem)
{
    const struct store_agent_hello row = {
        .version = hello->agent_version ? hello->agent_version : "",
        .address = hello->address ? hello->address : "",
        .clock_offset_us = clock_offset(hello->time_us, hello->now.us),
        .interval_ms = hello->interval_ms,
        .host = hello->host,
        .n_host = hello->n_host,
        .now = hello->now,
    };
    int r;

    if (welcome->lost_last > 0) {
        r = store_run_begin(stream->ingest->store, hello->agent, hello->signal, stream->spool,
                            hello->first_sequence, hello->crc32c_before_first);
        if (r < 0)
            return pass(r);
        r = stream_outcome_of_store(r);
        if (r != INGEST_OK) {
            problem_say(problem, "the hub cannot open the run now; try again");
            return r == INGEST_FULL ? INGEST_FULL : INGEST_STOPPED;
        }
    }
    r = store_agent_hello(stream->ingest->store, hello->agent, &row);
    return fold(r);
}

static int open_stream(struct ingest_stream *stream,
                       const struct ingest_hello *hello,
                       struct ingest_welcome *ret_welcome,
                       struct ingest_problem *problem)
{
    int r;

    if (!stream->is_vouched && ingest_is_clone(stream->ingest, stream->agent, &stream->machine))
        return refuse_clone(problem);
    r = compare_runs(stream->ingest, hello, ret_welcome, problem);
    if (r != INGEST_OK)
        return pass(r);
    stream->loop.next_sequence = ret_welcome->resume_after_sequence + 1;
    stream->shared.acked = stream->shared.told = ret_welcome->resume_after_sequence;

    if (!ingest_list_stream(stream->ingest, stream, &r))
        return refuse_clone(problem);
    if (r == INGEST_LIMIT)
        return refuse_one_more(problem);
    if (r != 0)
        return pass(r);
    r = enter_run(stream, hello, ret_welcome, problem);
    if (r != INGEST_OK)
        ingest_unlist_stream(stream->ingest, stream);
    return pass(r);
}

int ingest_stream_open(struct ingest_stream **ret,
                       struct ingest *ingest,
                       const struct ingest_hello *hello,
                       void (*wake)(void *ctx),
                       void *ctx,
                       struct ingest_welcome *ret_welcome,
                       struct ingest_problem *ret_problem)
{
    struct ingest_stream *stream;
    int r;

    *ret_problem = (struct ingest_problem){ 0 };
    r = check_hello(hello, ret_problem);
    if (r != INGEST_OK) {
        atomic_fetch_add(&ingest->n_refused, 1);
        return r;
    }
    stream = stream_new(ingest, hello);
    if (!stream)
        return fault(-ENOMEM, "no memory for a stream");
    stream->wake = wake;
    stream->ctx = ctx;
    r = open_stream(stream, hello, ret_welcome, ret_problem);
    if (r != INGEST_OK) {
        atomic_fetch_add(&ingest->n_refused, 1);
        stream_unref(stream);
        return pass(r);
    }
    *ret = stream;
    return 0;
}

struct ingest_stream *ingest_stream_close(struct ingest_stream *stream)
{
    if (!stream)
        return NULL;
    ingest_unlist_stream(stream->ingest, stream);
    /* wake() runs under the lock: none comes once this is set. */
    pthread_mutex_lock(&stream->shared.lock);
    ensure(!stream->shared.is_closed);
    stream->shared.is_closed = true;
    pthread_mutex_unlock(&stream->shared.lock);
    stream_unref(stream);
    return NULL;
}

/* ---- events ---- */

void stream_wake(struct ingest_stream *stream)
{
    if (stream->shared.is_closed || stream->shared.is_woken)
        return;
    stream->shared.is_woken = true;
    stream->wake(stream->ctx);
}

static void set_end(struct ingest_stream *stream, int outcome)
{
    if (stream->shared.has_end)
        return;
    stream->shared.has_end = true;
    stream->shared.end = outcome;
}

int stream_end(struct ingest_stream *stream, int outcome)
{
    int end;

    pthread_mutex_lock(&stream->shared.lock);
    set_end(stream, outcome);
    end = stream->shared.end;
    if (stream->shared.n_under_way == 0 && !stream->shared.is_end_told)
        stream_wake(stream);
    pthread_mutex_unlock(&stream->shared.lock);
    return end;
}

void stream_make_ready(struct ingest_stream *stream)
{
    pthread_mutex_lock(&stream->shared.lock);
    stream->shared.is_ready = true;
    stream_wake(stream);
    pthread_mutex_unlock(&stream->shared.lock);
}

static void settle(struct ingest_stream *stream, int r, uint64_t run_last)
{
    ensure(stream->shared.n_under_way > 0);
    stream->shared.n_under_way--;
    if (r == STORE_OK || r == STORE_DUPLICATE) {
        if (run_last > stream->shared.acked)
            stream->shared.acked = run_last;
        else if (r == STORE_DUPLICATE)
            stream->shared.must_ack = true; /* it was sent again: the agent waits for a word */
        stream_wake(stream);
    } else {
        set_end(stream, stream_outcome_of_store(r));
    }
    if (stream->shared.has_end && stream->shared.n_under_way == 0)
        stream_wake(stream);
    if (stream->shared.n_under_way < stream->shared.ready_below) {
        stream->shared.ready_below = 0;
        stream->shared.is_ready = true;
        stream_wake(stream);
    }
}

void stream_on_done(struct store_batch *batch, int r, uint64_t run_last)
{
    struct ingest_stream *stream = batch->ctx;

    (void) store_batch_free(batch);
    pthread_mutex_lock(&stream->shared.lock);
    settle(stream, r, run_last);
    pthread_mutex_unlock(&stream->shared.lock);
    ingest_tell_room(stream->ingest);
    stream_unref(stream);
}

void ingest_stream_finish(struct ingest_stream *stream, int outcome)
{
    (void) stream_end(stream, outcome);
}

void ingest_stream_next(struct ingest_stream *stream, struct ingest_event *ret)
{
    *ret = (struct ingest_event){ .type = INGEST_NOTHING };
    pthread_mutex_lock(&stream->shared.lock);
    if (stream->shared.acked > stream->shared.told || stream->shared.must_ack) {
        stream->shared.told = stream->shared.acked;
        stream->shared.must_ack = false;
        *ret = (struct ingest_event){ .type = INGEST_ACK, .sequence = stream->shared.acked };
    } else if (stream->shared.has_end) {
        if (stream->shared.n_under_way == 0 && !stream->shared.is_end_told) {
            stream->shared.is_end_told = true;
            *ret = (struct ingest_event){ .type = INGEST_END, .outcome = stream->shared.end };
        }
    } else if (stream->shared.is_ready) {
        stream->shared.is_ready = false;
        *ret = (struct ingest_event){ .type = INGEST_READY };
    }
    if (ret->type == INGEST_NOTHING)
        stream->shared.is_woken = false;
    pthread_mutex_unlock(&stream->shared.lock);
}
