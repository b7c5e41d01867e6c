/* SPDX-License-Identifier: Apache-2.0 */

/*
 * sentinel.telemetry.v1.TelemetryService, UploadBulkData and StreamFileContent: server/upload's
 * driver on a call.
 *
 * A chunk is read where it lies (chunk.h), any other message is decoded into the arena of the
 * worker; its bytes are copied on to the store, then it is forgotten. Only a header whose agent
 * must get its number first is held. The next message is read while upload_wants_more() says so: an
 * agent that sends faster than the disk takes is slowed down by HTTP/2's windows.
 *
 * Ends: acks for everything committed go out before any status, but for a certificate that no
 * longer counts: that ends the call at once.
 */

#include "sentinel/telemetry/v1/telemetry.pb-c.h"

#include <errno.h>
#include <stdlib.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/log/log.h"
#include "server/front/chunk.h"
#include "server/front/hello.h"
#include "server/front/inside.h"
#include "server/front/uploads.h"

struct upload_call {
    struct front *front;
    struct rpc_call *call; /* referenced */
    const struct upload_shape *shape;
    struct front_caller caller;
    struct list in_uploads;  /* under uploads.lock */
    bool is_check_posted;    /* too */
    _Atomic uint32_t n_refs; /* the open call, each post and task under way */
    struct rpc_post wake_post, check_post, number_post;
    struct query_task number_task;
    struct front_hello hello; /* the reader's while it is away */
    struct upload *upload;

    /* a header that waits for its agent's number */
    struct arena held_arena;
    uint64_t held_bytes;
    struct upload_request held;

    struct upload_event ack; /* ACK or RESULT that is to be sent; a later one takes its place */
    bool has_header, has_resumed, has_end_message, has_half_closed;
    bool is_failing; /* nothing more is taken in */
    bool has_end;    /* server/upload has said its last word */
    bool is_over;    /* a status was given */
    bool is_closed;
    enum front_failure failure;
    int failure_r;
    struct front_detail detail;
};

static struct upload_call *upload_call_ref(struct upload_call *u)
{
    atomic_fetch_add(&u->n_refs, 1);
    return u;
}

static void upload_call_unref(struct upload_call *u)
{
    struct rpc_call *call = u->call;

    if (atomic_fetch_sub(&u->n_refs, 1) != 1)
        return;
    ensure(u->upload == NULL && u->held_bytes == 0);
    free(u);
    (void) rpc_call_unref(call);
}

/* ---- ends ---- */

static void give_status(struct upload_call *u)
{
    if (u->is_over)
        return;
    u->is_over = true;
    if (u->failure == FAIL_NOT)
        front_finish_ok(u->call);
    else
        front_fail(u->call, u->failure, &u->detail, u->failure_r);
}

/* Refused here: acks of what is under way first. */
static void fail(struct upload_call *u, enum front_failure failure, int r)
{
    if (u->is_failing)
        return;
    u->is_failing = true;
    u->failure = failure;
    u->failure_r = r;
    if (u->upload && !u->has_end)
        upload_cut(u->upload, UPLOAD_OK);
    else if (u->ack.type != UPLOAD_ACK)
        give_status(u);
}

/* At once, and with no ack after. */
static void cut(struct upload_call *u, enum front_failure failure)
{
    if (u->is_over)
        return;
    u->is_failing = true;
    u->failure = failure;
    u->detail = (struct front_detail){ 0 };
    if (failure != FAIL_FAULT)
        front_log_refused(u->call, &u->caller, failure);
    give_status(u);
}

static bool is_allowed(struct upload_call *u)
{
    enum front_failure failure = front_recheck(u->front, front_call_method(u->call), &u->caller);

    if (failure == FAIL_NOT)
        return true;
    cut(u, failure);
    return false;
}

static enum front_failure failure_of_upload(int outcome)
{
    switch ((enum upload_outcome) outcome) {
    case UPLOAD_OK:
        return FAIL_NOT;
    case UPLOAD_BAD:
        return FAIL_BAD_UPLOAD;
    case UPLOAD_DIFFERS:
        return FAIL_UPLOAD_DIFFERS;
    case UPLOAD_MISMATCH:
        return FAIL_UPLOAD_MISMATCH;
    case UPLOAD_LIMIT:
        return FAIL_UPLOAD_LIMIT;
    case UPLOAD_BUSY:
        return FAIL_UPLOADS_BUSY;
    case UPLOAD_TAKEN:
        return FAIL_UPLOAD_TAKEN;
    case UPLOAD_FULL:
        return FAIL_FULL;
    case UPLOAD_STOPPED:
        return FAIL_STOPPING;
    case UPLOAD_FAULT:
    default:
        return FAIL_FAULT;
    }
}

static void describe(struct upload_call *u, const struct upload_problem *problem)
{
    front_describe(&u->detail, problem->field, "%s", problem->description);
    u->detail.quota = problem->quota;
}

/* ---- what goes out ---- */

/* Returns false while the queue is full: on_writable comes. */
static bool send_event(struct upload_call *u, const struct upload_event *event)
{
    struct buf packed = { 0 };
    int r;

    if (u->is_over || !is_allowed(u))
        return true;
    r = u->shape->pack(event, &packed);
    if (r == 0)
        r = rpc_call_send(u->call, buf_span(&packed));
    buf_deinit(&packed);
    if (r < 0)
        fail(u, FAIL_FAULT, r);
    return r != RPC_QUEUE_FULL;
}

static void log_result(const struct upload_call *u, const struct upload_event *event)
{
    char id[UPLOAD_ID_BYTES];

    log_peer(LOG_INFO, "upload_finished", LOG_S("agent", u->caller.name),
             LOG_S("upload", upload_id_of(event->number, id)), LOG_U("bytes", event->size),
             LOG_U("had_it", event->had_it));
}

/* The ack before it says nothing that the result does not. */
static void on_result(struct upload_call *u, const struct upload_event *event)
{
    u->has_end = true;
    u->is_failing = true;
    u->failure = FAIL_NOT;
    u->ack = *event;
    log_result(u, event);
}

static void on_end(struct upload_call *u, const struct upload_event *event)
{
    u->has_end = true;
    if (u->is_failing && event->outcome == UPLOAD_OK)
        return;
    u->is_failing = true;
    u->failure = failure_of_upload(event->outcome);
    u->failure_r = -EIO;
    describe(u, event->problem);
}

static void settle(struct upload_call *u)
{
    if (u->ack.type != UPLOAD_NOTHING && send_event(u, &u->ack))
        u->ack.type = UPLOAD_NOTHING;
    if (u->has_end && u->ack.type == UPLOAD_NOTHING)
        give_status(u);
}

static void read_on(struct upload_call *u)
{
    if (!u->is_failing && !u->is_over && u->upload && upload_wants_more(u->upload))
        rpc_call_read(u->call);
}

/* Until there is nothing: only then it wakes again, and the post may be posted again. */
static void drain_events(struct upload_call *u)
{
    struct upload_event event;

    do {
        upload_next(u->upload, &event);
        switch (event.type) {
        case UPLOAD_RESUME:
            /* The first message of all: there is room for it. */
            (void) send_event(u, &event);
            u->has_resumed = true;
            if (u->has_half_closed)
                fail(u, FAIL_UPLOAD_UNFINISHED, 0);
            break;
        case UPLOAD_ACK:
            u->ack = event;
            break;
        case UPLOAD_RESULT:
            on_result(u, &event);
            break;
        case UPLOAD_END:
            on_end(u, &event);
            break;
        case UPLOAD_NOTHING:
        default:
            break;
        }
    } while (event.type != UPLOAD_NOTHING);
    settle(u);
    read_on(u);
}

static void on_woken(struct rpc_post *post)
{
    struct upload_call *u = container_of(post, struct upload_call, wake_post);

    if (!u->is_closed && u->upload)
        drain_events(u);
    upload_call_unref(u);
}

/* On any thread. */
static void wake(void *ctx)
{
    struct upload_call *u = upload_call_ref(ctx);

    rpc_call_post(u->call, &u->wake_post);
}

/* ---- the header ---- */

static void let_go(struct upload_call *u)
{
    if (u->held_bytes == 0)
        return;
    arena_deinit(&u->held_arena);
    front_discharge(u->front, u->held_bytes);
    u->held_bytes = 0;
}

/* The agent's number is known. */
static void open_upload(struct upload_call *u, struct upload_header *header)
{
    struct upload_problem problem = { .quota = NULL };
    int r;

    header->agent = u->hello.agent;
    r = upload_open(&u->upload, u->front->options.uploads, header, wake, u, &problem);
    if (r == UPLOAD_OK)
        return;
    if (r > 0)
        describe(u, &problem);
    fail(u, r < 0 ? FAIL_FAULT : failure_of_upload(r), r);
}

static void on_number(struct rpc_post *post)
{
    struct upload_call *u = container_of(post, struct upload_call, number_post);

    if (!u->is_closed && !u->is_failing && is_allowed(u)) {
        if (u->hello.failure == FAIL_NOT) {
            open_upload(u, &u->held.header);
        } else {
            if (u->hello.failure == FAIL_ADDRESS_NOT_ALLOWED)
                front_log_refused(u->call, &u->caller, u->hello.failure);
            fail(u, u->hello.failure, u->hello.r);
        }
    }
    let_go(u);
    upload_call_unref(u);
}

/* On a reader: the registry is asked, and a new agent's number is committed. */
static void make_number(struct query_task *task)
{
    struct upload_call *u = container_of(task, struct upload_call, number_task);

    front_hello_run(&u->hello);
    rpc_call_post(u->call, &u->number_post);
}

/* Returns true when the header has to wait. */
static bool give_header(struct upload_call *u, const struct upload_request *request)
{
    int r;

    u->has_header = true;
    u->held = *request;
    u->hello = front_hello_of(u->front, u->call, &u->caller);
    u->number_task.run = make_number;
    (void) upload_call_ref(u);
    r = query_pool_submit(u->front->options.pool, &u->number_task);
    if (r == QUERY_OK)
        return true;
    upload_call_unref(u);
    fail(u, r < 0 ? FAIL_FAULT : FAIL_READERS_BUSY, r);
    return false;
}

/* ---- messages ---- */

/* What server/upload refuses comes back as its UPLOAD_END, behind the acks. */
static void give(struct upload_call *u, const struct upload_request *request)
{
    struct upload_problem problem;
    int r;

    if (request->type == UPLOAD_REQUEST_CHUNK) {
        r = upload_chunk(u->upload, request->offset, request->data, &problem);
    } else {
        u->has_end_message = true;
        r = upload_finish(u->upload, request->size, request->sha256, &problem);
    }
    if (r < 0)
        fail(u, FAIL_FAULT, r);
}

/* Returns true when the message has to wait. */
static bool dispatch(struct upload_call *u, const struct upload_request *request)
{
    if (request->type == UPLOAD_REQUEST_EMPTY) {
        fail(u, FAIL_UPLOAD_EMPTY, 0);
    } else if (request->type == UPLOAD_REQUEST_HEADER) {
        if (!u->has_header)
            return give_header(u, request);
        fail(u, FAIL_HEADER_TWICE, 0);
    } else if (!u->has_header || !u->upload) {
        fail(u, FAIL_HEADER_EXPECTED, 0);
    } else {
        give(u, request);
    }
    return false;
}

static void take_message(struct upload_call *u, struct span bytes, uint64_t budget)
{
    struct arena *arena = &u->front->workers[rpc_call_worker(u->call)].arena;
    struct upload_request request;
    struct wire_problem problem;
    ProtobufCMessage *message = NULL;
    bool is_held = false;
    int r;

    arena_reset(arena, budget);
    r = wire_unpack(u->shape->request, bytes, arena, &message, &problem);
    if (r != WIRE_OK)
        fail(u, front_failure_of_wire(r, &problem, &u->detail), r);
    else if (!u->shape->read(message, arena, &request))
        fail(u, FAIL_TOO_BIG, 0);
    else
        is_held = dispatch(u, &request);
    if (is_held) {
        u->held_arena = *arena;
        u->held_bytes = budget;
        arena_init(arena, 0);
    } else {
        arena_reset(arena, 0);
        front_discharge(u->front, budget);
    }
}

/* A chunk as all write it is read where it lies. */
static bool take_chunk(struct upload_call *u, struct span message)
{
    struct upload_request request = { .type = UPLOAD_REQUEST_CHUNK };

    if (!u->upload || !chunk_scan(message, &request.offset, &request.data))
        return false;
    give(u, &request);
    return true;
}

static void on_message(struct rpc_call *call, struct span message)
{
    struct upload_call *u = rpc_call_state(call);
    const struct front_options *options = &u->front->options;
    const uint64_t budget = wire_arena_limit(message.len);

    if (u->is_failing || u->is_over || !is_allowed(u))
        return;
    ensure(u->held_bytes == 0);
    if (message.len > options->max_message_bytes) {
        front_describe(&u->detail, NULL, "%zu bytes, at most %u (max_message_bytes)", message.len,
                       options->max_message_bytes);
        u->detail.quota = "max_message_bytes";
        fail(u, FAIL_MESSAGE_BYTES, 0);
    } else if (take_chunk(u, message)) {
        read_on(u);
    } else if (!front_charge(u->front, budget)) {
        u->detail.quota = "arena_total_bytes";
        fail(u, FAIL_ARENA_BUDGET, 0);
    } else {
        take_message(u, message, budget);
        read_on(u);
    }
}

/* ---- the call ---- */

static void on_check(struct rpc_post *post)
{
    struct upload_call *u = container_of(post, struct upload_call, check_post);

    pthread_mutex_lock(&u->front->uploads.lock);
    u->is_check_posted = false;
    pthread_mutex_unlock(&u->front->uploads.lock);
    if (!u->is_closed && !u->is_over)
        (void) is_allowed(u);
    upload_call_unref(u);
}

void svc_uploads_recheck_all(struct front *front)
{
    pthread_mutex_lock(&front->uploads.lock);
    list_each(pos, &front->uploads.calls)
    {
        struct upload_call *u = container_of(pos, struct upload_call, in_uploads);

        if (u->is_check_posted)
            continue;
        u->is_check_posted = true;
        (void) upload_call_ref(u);
        rpc_call_post(u->call, &u->check_post);
    }
    pthread_mutex_unlock(&front->uploads.lock);
}

static void on_open(struct rpc_call *call)
{
    struct front *front = rpc_call_ctx(call);
    struct front_caller caller;
    struct upload_call *u;

    ensure(rpc_call_worker(call) < FRONT_MAX_WORKERS);
    if (!front_authorise(call, &caller))
        return;
    u = calloc(1, sizeof(*u));
    if (!u) {
        front_fail(call, FAIL_FAULT, NULL, fault(-ENOMEM, "no memory for a call"));
        return;
    }
    u->front = front;
    u->call = rpc_call_ref(call);
    u->caller = caller;
    u->shape = front_call_method(call)->wire->request == svc_files_shape.request
                   ? &svc_files_shape
                   : &svc_uploads_shape;
    u->wake_post.fn = on_woken;
    u->check_post.fn = on_check;
    u->number_post.fn = on_number;
    atomic_init(&u->n_refs, 1);
    rpc_call_set_state(call, u);
    pthread_mutex_lock(&front->uploads.lock);
    list_append(&front->uploads.calls, &u->in_uploads);
    pthread_mutex_unlock(&front->uploads.lock);
    rpc_call_read(call);
}

static void on_half_close(struct rpc_call *call)
{
    struct upload_call *u = rpc_call_state(call);

    if (!u || u->is_failing || u->has_end_message)
        return;
    u->has_half_closed = true;
    if (!u->has_header)
        fail(u, FAIL_HEADER_EXPECTED, 0);
    else if (u->has_resumed)
        fail(u, FAIL_UPLOAD_UNFINISHED, 0);
}

static void on_writable(struct rpc_call *call)
{
    settle(rpc_call_state(call));
}

static void on_drain(struct rpc_call *call)
{
    struct upload_call *u = rpc_call_state(call);

    if (u && !u->is_failing)
        fail(u, FAIL_STOPPING, 0);
}

static void on_closed(struct rpc_call *call, bool was_cancelled)
{
    struct upload_call *u = rpc_call_state(call);

    if (!u)
        return;
    if (u->upload)
        log_peer(LOG_DEBUG, "upload_closed", LOG_S("agent", u->caller.name),
                 LOG_S("peer", rpc_call_peer(call)), LOG_U("cancelled", was_cancelled),
                 LOG_S("reason", u->failure == FAIL_NOT ? "" : front_reason(u->failure)));
    pthread_mutex_lock(&u->front->uploads.lock);
    list_remove(&u->in_uploads);
    pthread_mutex_unlock(&u->front->uploads.lock);
    u->is_closed = true;
    u->upload = upload_close(u->upload);
    let_go(u);
    upload_call_unref(u);
}

const struct rpc_handler svc_uploads = {
    .on_open = on_open,
    .on_message = on_message,
    .on_half_close = on_half_close,
    .on_writable = on_writable,
    .on_drain = on_drain,
    .on_closed = on_closed,
};

/* ---- UploadBulkData's messages ---- */

typedef Sentinel__Telemetry__V1__UploadBulkDataRequest bulk_request;
typedef Sentinel__Telemetry__V1__UploadBulkDataResponse bulk_response;

static bool read_header(const Sentinel__Telemetry__V1__UploadHeader *header,
                        struct arena *arena,
                        struct upload_request *ret)
{
    struct store_attribute *labels =
        arena_alloc_array(arena, header->n_labels + 1, sizeof(*labels));

    if (!labels)
        return false;
    for (size_t i = 0; i < header->n_labels; i++)
        labels[i] = (struct store_attribute){ header->labels[i]->key, header->labels[i]->value };
    ret->type = UPLOAD_REQUEST_HEADER;
    ret->header = (struct upload_header){
        .kind = STORE_BULK,
        .key = span_of(header->upload_id.data, header->upload_id.len),
        .name = header->name,
        .type = header->content_type,
        .size = header->size_bytes,
        .sha256 = span_of(header->sha256.data, header->sha256.len),
        .labels = labels,
        .n_labels = header->n_labels,
    };
    return true;
}

static bool
read_request(const ProtobufCMessage *message, struct arena *arena, struct upload_request *ret)
{
    const bulk_request *request = (const void *) message;

    *ret = (struct upload_request){ .type = UPLOAD_REQUEST_EMPTY };
    if (request->message_case == SENTINEL__TELEMETRY__V1__UPLOAD_BULK_DATA_REQUEST__MESSAGE_HEADER)
        return read_header(request->header, arena, ret);
    if (request->message_case == SENTINEL__TELEMETRY__V1__UPLOAD_BULK_DATA_REQUEST__MESSAGE_CHUNK) {
        ret->type = UPLOAD_REQUEST_CHUNK;
        ret->offset = request->chunk->offset;
        ret->data = span_of(request->chunk->data.data, request->chunk->data.len);
    } else if (request->message_case ==
               SENTINEL__TELEMETRY__V1__UPLOAD_BULK_DATA_REQUEST__MESSAGE_END) {
        ret->type = UPLOAD_REQUEST_END;
        ret->size = request->end->size_bytes;
        ret->sha256 = span_of(request->end->sha256.data, request->end->sha256.len);
    }
    return true;
}

static int pack_event(const struct upload_event *event, struct buf *to)
{
    bulk_response response = SENTINEL__TELEMETRY__V1__UPLOAD_BULK_DATA_RESPONSE__INIT;
    Sentinel__Telemetry__V1__ResumeAt resume = SENTINEL__TELEMETRY__V1__RESUME_AT__INIT;
    Sentinel__Telemetry__V1__ChunkAck ack = SENTINEL__TELEMETRY__V1__CHUNK_ACK__INIT;
    Sentinel__Telemetry__V1__UploadResult result = SENTINEL__TELEMETRY__V1__UPLOAD_RESULT__INIT;
    char id[UPLOAD_ID_BYTES];

    if (event->type == UPLOAD_RESUME) {
        response.message_case = SENTINEL__TELEMETRY__V1__UPLOAD_BULK_DATA_RESPONSE__MESSAGE_RESUME;
        response.resume = &resume;
        resume.offset = event->offset;
    } else if (event->type == UPLOAD_ACK) {
        response.message_case = SENTINEL__TELEMETRY__V1__UPLOAD_BULK_DATA_RESPONSE__MESSAGE_ACK;
        response.ack = &ack;
        ack.offset = event->offset;
    } else {
        response.message_case = SENTINEL__TELEMETRY__V1__UPLOAD_BULK_DATA_RESPONSE__MESSAGE_RESULT;
        response.result = &result;
        result.object_id = front_borrow(upload_id_of(event->number, id));
        result.sha256.data = (uint8_t *) (uintptr_t) event->sha256;
        result.sha256.len = sizeof(event->sha256);
        result.size_bytes = event->size;
    }
    return wire_pack(&response.base, to);
}

const struct upload_shape svc_uploads_shape = {
    .request = &sentinel__telemetry__v1__upload_bulk_data_request__descriptor,
    .read = read_request,
    .pack = pack_event,
};
