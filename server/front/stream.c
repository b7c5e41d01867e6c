/* SPDX-License-Identifier: Apache-2.0 */

/*
 * StreamMetrics and StreamLogs: ingest's driver on a call.
 *
 * A message is decoded into the arena of the worker, used, forgotten. Only one that has to wait
 * (ingest says so, or a new agent must get its number first) is held: then the call keeps that
 * arena until it goes on, with a copy of the bytes where what was decoded borrows from them, and
 * does not read meanwhile. Where it waits because the store's writer is behind, the agent is told
 * once, with a Throttle; the message is taken all the same.
 *
 * Ends: what ingest ends goes through INGEST_END, after the acks. What this file refuses (a bad
 * message) finishes the ingest stream first, so that acks for everything committed still go out
 * before the status. A certificate that no longer counts ends the call at once, with no ack after.
 */

#include "server/front/stream.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/log/log.h"
#include "server/front/hello.h"

#define HOST_ENTRIES 33 /* one more than ingest takes, so that it sees too many */

#define THROTTLE_MS 1000

struct telemetry {
    const struct stream_kind *kind;
    struct front *front;
    struct rpc_call *call; /* referenced */
    struct front_caller caller;
    struct list in_streams;  /* under streams.lock */
    bool is_check_posted;    /* too */
    _Atomic uint32_t n_refs; /* the open call, each post and task under way */
    struct rpc_post wake_post, check_post, number_post;
    struct query_task number_task;
    struct front_hello hello; /* the reader's while it is away */
    struct ingest_stream *stream;

    /* a message that waits */
    struct arena held_arena;
    uint64_t held_bytes;
    const struct ingest_batch *held_batch;
    const Sentinel__Telemetry__V1__StreamHello *held_hello;

    uint64_t ack;          /* to be sent */
    uint64_t acknowledged; /* sent last */
    bool has_ack;
    bool is_throttled; /* and told so, for the message that waits */
    bool has_hello;
    bool has_half_closed;
    bool is_failing; /* nothing more is taken in */
    bool has_end;    /* ingest has said its last word */
    bool is_over;    /* a status was given */
    bool is_closed;
    enum front_failure failure; /* why, when is_failing or has_end */
    int failure_r;
    int refusal; /* ingest's outcome that `detail` belongs to */
    struct front_detail detail;
};

static struct telemetry *telemetry_ref(struct telemetry *t)
{
    atomic_fetch_add(&t->n_refs, 1);
    return t;
}

static void telemetry_unref(struct telemetry *t)
{
    struct rpc_call *call = t->call;

    if (atomic_fetch_sub(&t->n_refs, 1) != 1)
        return;
    ensure(t->stream == NULL);
    ensure(t->held_bytes == 0);
    free(t);
    (void) rpc_call_unref(call);
}

/* ---- ends ---- */

static void give_status(struct telemetry *t)
{
    if (t->is_over)
        return;
    t->is_over = true;
    if (t->failure == FAIL_NOT)
        front_finish_ok(t->call);
    else
        front_fail(t->call, t->failure, &t->detail, t->failure_r);
}

/* Refused here: acks of what is under way first. */
static void fail(struct telemetry *t, enum front_failure failure, int r)
{
    if (t->is_failing)
        return;
    t->is_failing = true;
    t->failure = failure;
    t->failure_r = r;
    if (t->stream && !t->has_end)
        ingest_stream_finish(t->stream, INGEST_OK);
    else if (!t->has_ack)
        give_status(t);
}

/* At once, and with no ack after. */
static void cut(struct telemetry *t, enum front_failure failure)
{
    if (t->is_over)
        return;
    t->is_failing = true;
    t->failure = failure;
    t->detail = (struct front_detail){ 0 };
    if (failure != FAIL_FAULT)
        front_log_refused(t->call, &t->caller, failure);
    give_status(t);
}

static bool is_allowed(struct telemetry *t)
{
    enum front_failure failure;

    failure = front_recheck(t->front, front_call_method(t->call), &t->caller);
    if (failure == FAIL_NOT)
        return true;
    cut(t, failure);
    return false;
}

/* ---- what goes out ---- */

static int send_answer(struct telemetry *t, const struct stream_answer *answer)
{
    struct buf packed = { 0 };
    int r;

    r = t->kind->pack(answer, &packed);
    if (r == 0)
        r = rpc_call_send(t->call, buf_span(&packed));
    buf_deinit(&packed);
    return r;
}

/* An ack that finds the queue full waits for on_writable; a later one takes its place. */
static void send_ack(struct telemetry *t)
{
    Sentinel__Telemetry__V1__Ack ack;
    int r;

    if (!t->has_ack || t->is_over || !is_allowed(t))
        return;
    sentinel__telemetry__v1__ack__init(&ack);
    ack.sequence = t->ack;
    r = send_answer(t, &(struct stream_answer){ .ack = &ack });
    t->has_ack = r == RPC_QUEUE_FULL;
    if (r == 0)
        t->acknowledged = t->ack;
    if (r < 0)
        fail(t, FAIL_FAULT, r);
}

static void end_when_settled(struct telemetry *t)
{
    if (t->has_end && !t->has_ack)
        give_status(t);
}

/* The newest anchor of the audit; NULL: there is none yet. */
static Sentinel__Telemetry__V1__AuditAnchor *anchor_of(const struct front *front,
                                                       struct audit_anchor *anchor,
                                                       Sentinel__Telemetry__V1__AuditAnchor *to)
{
    if (!front->options.audit || audit_get_anchor(front->options.audit, anchor) != AUDIT_OK)
        return NULL;
    sentinel__telemetry__v1__audit_anchor__init(to);
    to->time_unix_us = anchor->time.us;
    to->entry = anchor->entry;
    to->sha256 = (ProtobufCBinaryData){ .data = anchor->sha256, .len = sizeof(anchor->sha256) };
    to->signature = (ProtobufCBinaryData){ .data = anchor->signature, .len = anchor->n_signature };
    return to;
}

static int send_welcome(struct telemetry *t, const struct ingest_welcome *welcome)
{
    Sentinel__Telemetry__V1__AuditAnchor anchor_message;
    struct audit_anchor anchor;
    const struct front_options *options = &t->front->options;
    struct ingest_limits taken;
    Sentinel__Telemetry__V1__Welcome message;
    Sentinel__Telemetry__V1__Limits limits;
    Sentinel__Telemetry__V1__Intervals intervals;

    ingest_get_limits(options->ingest, &taken);
    sentinel__telemetry__v1__welcome__init(&message);
    sentinel__telemetry__v1__limits__init(&limits);
    sentinel__telemetry__v1__intervals__init(&intervals);
    limits.message_bytes = options->max_message_bytes;
    limits.batch_samples = taken.batch_samples;
    limits.batch_new_series = taken.batch_new_series;
    limits.agent_series = taken.agent_series;
    limits.name_bytes = taken.name_bytes;
    limits.series_attributes = taken.series_attributes;
    limits.log_body_bytes = taken.log_body_bytes;
    limits.unacknowledged_batches = taken.unacknowledged_batches;
    limits.batch_log_records = taken.batch_log_records;
    limits.log_attributes = taken.log_attributes;
    limits.attribute_bytes = taken.attribute_bytes;
    limits.log_block_version = t->kind->signal == STORE_LOGS ? LOGBLOCK_VERSION : 0;
    limits.oldest_s =
        (uint64_t) (t->kind->signal == STORE_LOGS ? taken.logs_retention_us : taken.retention_us) /
        1000000;
    intervals.metrics_ms = options->default_interval_ms;
    intervals.reconnect_spread_ms = options->reconnect_spread_ms;
    message.resume_after_sequence = welcome->resume_after_sequence;
    message.limits = &limits;
    message.intervals = &intervals;
    message.hub_time_unix_us = clock_wall().us;
    message.hub_version = front_borrow(SENTINEL_VERSION);
    message.registry_generation = options->pki ? pki_generation(options->pki) : 0;
    message.audit_anchor = anchor_of(t->front, &anchor, &anchor_message);
    message.lost_first_sequence = welcome->lost_first;
    message.lost_last_sequence = welcome->lost_last;
    return send_answer(t, &(struct stream_answer){ .welcome = &message });
}

/* Soft, so it is not worth a place in a queue that is full. */
static void send_throttle(struct telemetry *t)
{
    Sentinel__Telemetry__V1__Throttle throttle;
    int r;

    sentinel__telemetry__v1__throttle__init(&throttle);
    throttle.retry_after_ms = THROTTLE_MS;
    throttle.reason = front_borrow("WRITER_BEHIND");
    throttle.message = front_borrow("the hub writes more slowly than it is sent to; what was sent "
                                    "is taken when there is room");
    r = send_answer(t, &(struct stream_answer){ .throttle = &throttle });
    if (r < 0)
        fail(t, FAIL_FAULT, r);
}

/* ---- what waits ---- */

static void hold(struct telemetry *t, struct arena *arena, uint64_t n_bytes)
{
    ensure(t->held_bytes == 0);
    t->held_arena = *arena;
    t->held_bytes = n_bytes;
    arena_init(arena, 0);
}

static void let_go(struct telemetry *t)
{
    if (t->held_bytes == 0)
        return;
    arena_deinit(&t->held_arena);
    front_discharge(t->front, t->held_bytes);
    t->held_bytes = 0;
    t->held_batch = NULL;
    t->held_hello = NULL;
}

/* ---- batches ---- */

static void refused(struct telemetry *t, int r, const struct ingest_problem *problem)
{
    /* The status follows with INGEST_END, when everything before is settled. */
    t->is_failing = true;
    t->failure = front_failure_of_ingest(r);
    t->failure_r = r;
    t->refusal = r < 0 ? INGEST_FAULT : r;
    front_describe(&t->detail, problem->field, "%s", problem->description);
    t->detail.quota = problem->quota;
}

/* Returns true when the batch has to wait. */
static bool give_batch(struct telemetry *t, const struct ingest_batch *batch)
{
    struct ingest_problem problem;
    int r;

    r = ingest_stream_batch(t->stream, batch, clock_wall(), &problem);
    if (r == INGEST_WAIT) {
        if (!t->is_throttled && ingest_stream_is_behind(t->stream)) {
            t->is_throttled = true;
            send_throttle(t);
        }
        return true;
    }
    t->is_throttled = false;
    if (r == INGEST_OK)
        rpc_call_read(t->call);
    else
        refused(t, r, &problem);
    return false;
}

static void on_ready(struct telemetry *t)
{
    if (!t->held_batch || t->is_failing || !is_allowed(t))
        return;
    if (!give_batch(t, t->held_batch))
        let_go(t);
}

/* ---- ingest's events ---- */

static void on_end(struct telemetry *t, int outcome)
{
    t->has_end = true;
    if (t->is_failing && (outcome == INGEST_OK || outcome == t->refusal))
        return;
    t->is_failing = true;
    t->failure = front_failure_of_ingest(outcome);
    t->failure_r = outcome;
    t->detail = (struct front_detail){ 0 };
    if (outcome == INGEST_LIMIT) {
        /* The store's word, after the batch was taken: the one limit that its writer keeps. */
        t->detail.quota = "agent_runs";
        front_describe(&t->detail, "hello.spool_id",
                       "this agent has begun as many runs as the hub keeps (agent_runs)");
    }
}

/* Until there is nothing: only then ingest wakes again, and this post may be posted again. */
static void drain_events(struct telemetry *t)
{
    struct ingest_event event;
    bool is_ready = false;

    do {
        ingest_stream_next(t->stream, &event);
        switch (event.type) {
        case INGEST_ACK:
            t->ack = event.sequence;
            t->has_ack = true;
            break;
        case INGEST_READY:
            is_ready = true;
            break;
        case INGEST_END:
            on_end(t, event.outcome);
            break;
        case INGEST_NOTHING:
        default:
            break;
        }
    } while (event.type != INGEST_NOTHING);

    send_ack(t);
    if (is_ready)
        on_ready(t);
    end_when_settled(t);
}

static void on_woken(struct rpc_post *post)
{
    struct telemetry *t = container_of(post, struct telemetry, wake_post);

    /* A hello that was refused after another took its run over was woken, and has no stream. */
    if (!t->is_closed && t->stream)
        drain_events(t);
    telemetry_unref(t);
}

/* On any thread. */
static void wake(void *ctx)
{
    struct telemetry *t = telemetry_ref(ctx);

    rpc_call_post(t->call, &t->wake_post);
}

/* ---- hello ---- */

static struct span span_of_field(ProtobufCBinaryData field)
{
    return span_of(field.data, field.len);
}

/* What the message says; agent, address and now are the caller's. `host` must outlive `ret`. */
static void read_hello(const Sentinel__Telemetry__V1__StreamHello *message,
                       struct store_attribute host[HOST_ENTRIES],
                       struct ingest_hello *ret)
{
    const Sentinel__Telemetry__V1__Fingerprint *fingerprint = message->fingerprint;
    const size_t n_host = message->n_host < HOST_ENTRIES ? message->n_host : HOST_ENTRIES;

    *ret = (struct ingest_hello){
        .spool_id = span_of_field(message->spool_id),
        .first_sequence = message->first_sequence,
        .last_sequence = message->last_sequence,
        .crc32c_before_first = message->crc32c_before_first,
        .instance = span_of_field(message->instance),
        .time_us = message->time_unix_us,
        .agent_version = message->agent_version,
        .interval_ms = message->interval_ms,
        .host = host,
        .n_host = n_host,
    };
    if (fingerprint) {
        ret->fingerprint = (struct ingest_fingerprint){
            .machine_id = span_of_field(fingerprint->machine_id),
            .dmi = span_of_field(fingerprint->dmi),
            .boot_disk = span_of_field(fingerprint->boot_disk),
            .first_mac = span_of_field(fingerprint->first_mac),
        };
    }
    for (size_t i = 0; i < n_host; i++)
        host[i] = (struct store_attribute){ message->host[i]->key, message->host[i]->value };
}

/* The hub had it once, and comes from a backup: counted as lost, and on the record. */
static void say_lost(const struct telemetry *t, const struct ingest_welcome *welcome)
{
    char first[24], last[24], actor[FRONT_ACTOR_BYTES], source[FRONT_SOURCE_BYTES];
    const struct audit_field fields[] = {
        { "signal", t->kind->name },
        { "first", first },
        { "last", last },
    };

    log_peer(LOG_WARN, "run_lost", LOG_S("agent", t->caller.name),
             LOG_U("first", welcome->lost_first), LOG_U("last", welcome->lost_last));
    (void) snprintf(first, sizeof(first), "%llu", (unsigned long long) welcome->lost_first);
    (void) snprintf(last, sizeof(last), "%llu", (unsigned long long) welcome->lost_last);
    front_note(t->front,
               &(struct audit_entry){ .event = AUDIT_HUB_BEHIND,
                                      .actor = front_actor(&t->caller, actor),
                                      .source = front_source(rpc_call_peer(t->call), source),
                                      .fields = fields,
                                      .n_fields = 3 });
}

static void log_opened(const struct telemetry *t, const struct ingest_welcome *welcome)
{
    log_peer(LOG_INFO, "stream_opened", LOG_S("agent", t->caller.name),
             LOG_S("peer", rpc_call_peer(t->call)), LOG_S("signal", t->kind->name),
             LOG_U("resume_after", welcome->resume_after_sequence));
    if (welcome->lost_last > 0)
        say_lost(t, welcome);
}

/* The agent's number is known. */
static void open_stream(struct telemetry *t, const Sentinel__Telemetry__V1__StreamHello *message)
{
    struct store_attribute host[HOST_ENTRIES];
    struct ingest_hello hello;
    struct ingest_welcome welcome = { 0 };
    struct ingest_problem problem = { 0 };
    int r;

    read_hello(message, host, &hello);
    hello.signal = t->kind->signal;
    hello.agent = t->hello.agent;
    hello.is_vouched = t->front->options.pki != NULL;
    hello.address = rpc_call_peer(t->call);
    hello.now = clock_wall();
    r = ingest_stream_open(&t->stream, t->front->options.ingest, &hello, wake, t, &welcome,
                           &problem);
    if (r != INGEST_OK) {
        front_describe(&t->detail, problem.field, "%s", problem.description);
        t->detail.quota = problem.quota;
        fail(t, front_failure_of_ingest(r), r);
        return;
    }
    r = send_welcome(t, &welcome);
    if (r < 0) {
        fail(t, FAIL_FAULT, r);
        return;
    }
    log_opened(t, &welcome);
    if (t->has_half_closed)
        ingest_stream_finish(t->stream, INGEST_OK);
    else
        rpc_call_read(t->call);
}

static void on_number(struct rpc_post *post)
{
    struct telemetry *t = container_of(post, struct telemetry, number_post);

    if (!t->is_closed && !t->is_failing && is_allowed(t)) {
        if (t->hello.failure == FAIL_NOT) {
            open_stream(t, t->held_hello);
        } else {
            t->detail = t->hello.detail;
            if (t->hello.failure == FAIL_CLONED || t->hello.failure == FAIL_ADDRESS_NOT_ALLOWED)
                front_log_refused(t->call, &t->caller, t->hello.failure);
            fail(t, t->hello.failure, t->hello.r);
        }
    }
    let_go(t);
    telemetry_unref(t);
}

/* On a reader: the registry is asked, and a new agent's number is committed. */
static void make_number(struct query_task *task)
{
    struct telemetry *t = container_of(task, struct telemetry, number_task);

    front_hello_run(&t->hello);
    rpc_call_post(t->call, &t->number_post);
}

/* Returns true when the hello has to wait. */
static bool give_hello(struct telemetry *t, const Sentinel__Telemetry__V1__StreamHello *hello)
{
    int r;

    t->has_hello = true;
    t->hello = front_hello_of(t->front, t->call, &t->caller);
    front_hello_read(&t->hello, hello);
    t->number_task.run = make_number;
    (void) telemetry_ref(t);
    r = query_pool_submit(t->front->options.pool, &t->number_task);
    if (r == QUERY_OK)
        return true;
    telemetry_unref(t);
    fail(t, r < 0 ? FAIL_FAULT : FAIL_READERS_BUSY, r);
    return false;
}

/* ---- messages ---- */

/* Returns true when the message has to wait. */
static bool dispatch(struct telemetry *t, const struct stream_request *request)
{
    if (request->hello) {
        if (t->has_hello) {
            fail(t, FAIL_HELLO_TWICE, 0);
            return false;
        }
        t->held_hello = request->hello;
        return give_hello(t, request->hello);
    }
    if (!t->has_hello || !t->stream) {
        fail(t, FAIL_HELLO_EXPECTED, 0);
        return false;
    }
    t->held_batch = request->batch;
    return give_batch(t, request->batch);
}

static bool decode(struct telemetry *t,
                   struct span bytes,
                   struct front_worker *worker,
                   struct stream_request *ret)
{
    enum front_failure failure;
    int r = 0;

    *ret = (struct stream_request){ 0 };
    failure = t->kind->decode(bytes, worker, ret, &t->detail, &r);
    if (failure == FAIL_NOT)
        return true;
    fail(t, failure, r);
    return false;
}

/* What waits must not borrow from the call's bytes, which go. */
static bool own(struct telemetry *t,
                struct span bytes,
                struct front_worker *worker,
                uint64_t budget,
                struct stream_request *request)
{
    const uint8_t *copy;

    if (!request->is_borrowed)
        return true;
    arena_reset(&worker->arena, budget);
    copy = (const uint8_t *) arena_copy(&worker->arena, bytes);
    if (!copy) {
        fail(t, FAIL_FAULT, fault(-ENOMEM, "no memory for a message that waits"));
        return false;
    }
    if (!decode(t, span_of(copy, bytes.len), worker, request))
        return false;
    t->held_batch = request->batch;
    t->held_hello = request->hello;
    return true;
}

static void take_message(struct telemetry *t, struct span bytes, uint64_t budget)
{
    struct front_worker *worker = &t->front->workers[rpc_call_worker(t->call)];
    struct arena *arena = &worker->arena;
    struct stream_request request;

    arena_reset(arena, budget);
    if (decode(t, bytes, worker, &request) && dispatch(t, &request) &&
        own(t, bytes, worker, budget, &request)) {
        hold(t, arena, budget);
        return;
    }
    t->held_batch = NULL;
    t->held_hello = NULL;
    arena_reset(arena, 0);
    front_discharge(t->front, budget);
}

/* What the message takes of the arena, or 0: it is refused. */
static uint64_t take_measure(struct telemetry *t, struct span message)
{
    const uint32_t limit = t->front->options.max_message_bytes;
    uint64_t decoded = message.len, more = 0;

    if (message.len <= limit && t->kind->more_bytes)
        more = t->kind->more_bytes(message, &decoded);
    if (decoded > limit) {
        front_describe(&t->detail, NULL, "%" PRIu64 " bytes%s, at most %u (max_message_bytes)",
                       decoded, message.len > limit ? "" : " when it is decoded", limit);
        t->detail.quota = "max_message_bytes";
        fail(t, FAIL_MESSAGE_BYTES, 0);
        return 0;
    }
    /* However it comes, it takes no more than the largest message may. */
    if (more > wire_arena_limit(limit)) {
        front_describe(&t->detail, NULL, "up to %" PRIu64 " bytes when it is decoded, at most %zu",
                       more, wire_arena_limit(limit));
        fail(t, FAIL_TOO_BIG, 0);
        return 0;
    }
    return wire_arena_limit(message.len) + more;
}

void stream_on_message(struct rpc_call *call, struct span message)
{
    struct telemetry *t = rpc_call_state(call);
    uint64_t budget;

    if (t->is_failing || t->is_over || !is_allowed(t))
        return;
    ensure(t->held_bytes == 0);
    budget = take_measure(t, message);
    if (budget == 0)
        return;
    if (!front_charge(t->front, budget)) {
        t->detail.quota = "arena_total_bytes";
        fail(t, FAIL_ARENA_BUDGET, 0);
        return;
    }
    take_message(t, message, budget);
}

/* ---- the call ---- */

static void on_check(struct rpc_post *post)
{
    struct telemetry *t = container_of(post, struct telemetry, check_post);
    struct front *front = t->front;

    pthread_mutex_lock(&t->front->streams.lock);
    t->is_check_posted = false;
    pthread_mutex_unlock(&t->front->streams.lock);
    if (!t->is_closed && !t->is_over)
        (void) is_allowed(t);
    pthread_mutex_lock(&front->streams.lock);
    front->streams.n_checks--;
    if (front->streams.n_checks == 0)
        pthread_cond_broadcast(&front->streams.checked);
    pthread_mutex_unlock(&front->streams.lock);
    telemetry_unref(t);
}

bool stream_wait_checked(struct front *front, int64_t patience_us)
{
    bool is_checked;
    struct timespec until;
    int rc = 0;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += patience_us / 1000000;
    pthread_mutex_lock(&front->streams.lock);
    while (rc == 0 && front->streams.n_checks > 0)
        rc = pthread_cond_timedwait(&front->streams.checked, &front->streams.lock, &until);
    is_checked = front->streams.n_checks == 0;
    pthread_mutex_unlock(&front->streams.lock);
    return is_checked;
}

void stream_recheck_all(struct front *front)
{
    pthread_mutex_lock(&front->streams.lock);
    for (const struct list *pos = front->streams.calls.next; pos != &front->streams.calls;
         pos = pos->next) {
        struct telemetry *t = container_of(pos, struct telemetry, in_streams);

        if (t->is_check_posted)
            continue;
        t->is_check_posted = true;
        front->streams.n_checks++;
        (void) telemetry_ref(t);
        rpc_call_post(t->call, &t->check_post);
    }
    pthread_mutex_unlock(&front->streams.lock);
}

void stream_on_open(struct rpc_call *call, const struct stream_kind *kind)
{
    struct front *front = rpc_call_ctx(call);
    struct front_caller caller;
    struct telemetry *t;

    ensure(rpc_call_worker(call) < FRONT_MAX_WORKERS);
    if (!front_authorise(call, &caller))
        return;
    t = calloc(1, sizeof(*t));
    if (!t) {
        front_fail(call, FAIL_FAULT, NULL, fault(-ENOMEM, "no memory for a call"));
        return;
    }
    t->kind = kind;
    t->front = front;
    t->call = rpc_call_ref(call);
    t->caller = caller;
    t->wake_post.fn = on_woken;
    t->check_post.fn = on_check;
    t->number_post.fn = on_number;
    atomic_init(&t->n_refs, 1);
    rpc_call_set_state(call, t);
    pthread_mutex_lock(&front->streams.lock);
    list_append(&front->streams.calls, &t->in_streams);
    pthread_mutex_unlock(&front->streams.lock);
    rpc_call_read(call);
}

void stream_on_half_close(struct rpc_call *call)
{
    struct telemetry *t = rpc_call_state(call);

    if (!t || t->is_failing)
        return;
    t->has_half_closed = true;
    if (t->stream)
        ingest_stream_finish(t->stream, INGEST_OK);
    else if (!t->has_hello)
        fail(t, FAIL_HELLO_EXPECTED, 0);
}

void stream_on_writable(struct rpc_call *call)
{
    struct telemetry *t = rpc_call_state(call);

    send_ack(t);
    end_when_settled(t);
}

void stream_on_drain(struct rpc_call *call)
{
    struct telemetry *t = rpc_call_state(call);

    if (!t || t->is_failing)
        return;
    if (t->stream)
        ingest_stream_finish(t->stream, INGEST_STOPPED);
    else
        fail(t, FAIL_STOPPING, 0);
}

void stream_on_closed(struct rpc_call *call, bool was_cancelled)
{
    struct telemetry *t = rpc_call_state(call);

    if (!t)
        return;
    if (t->stream)
        log_peer(LOG_INFO, "stream_closed", LOG_S("agent", t->caller.name),
                 LOG_S("peer", rpc_call_peer(call)), LOG_S("signal", t->kind->name),
                 LOG_U("cancelled", was_cancelled), LOG_U("acknowledged", t->acknowledged),
                 LOG_S("reason", t->failure == FAIL_NOT ? "" : front_reason(t->failure)));
    pthread_mutex_lock(&t->front->streams.lock);
    list_remove(&t->in_streams);
    pthread_mutex_unlock(&t->front->streams.lock);
    t->is_closed = true;
    t->stream = ingest_stream_close(t->stream);
    let_go(t);
    telemetry_unref(t);
}
