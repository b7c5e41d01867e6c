/* SPDX-License-Identifier: Apache-2.0 */

/*
 * sentinel.query.v1.QueryService, ListUploads and DownloadUpload.
 *
 * A download is read slice by slice on readers. One slice is under way at most, and the next one is
 * fetched when the call's queue has taken the last: who reads slowly holds one slice, no file and
 * no snapshot. An upload that goes meanwhile ends it with NOT_FOUND.
 */

#include "sentinel/query/v1/query.pb-c.h"

#include <errno.h>
#include <stdlib.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/text.h"
#include "server/front/inside.h"

#define SLICE_BYTES (1u << 20)
#define MESSAGE_ARENA_BYTES ((size_t) 256 << 10) /* what an upload says of itself */

/* ---- messages ---- */

static Sentinel__Query__V1__Upload *upload_message(struct unary *unary,
                                                   const struct query_upload *from)
{
    const struct store_object *object = &from->object;
    Sentinel__Query__V1__Upload *to = unary_alloc(unary, 1, sizeof(*to));
    char *id = unary_alloc(unary, UPLOAD_ID_BYTES, 1);
    char *key = unary_alloc(unary, 2 * STORE_OBJECT_KEY_BYTES + 1, 1);
    char *sha256 = unary_alloc(unary, 2 * STORE_OBJECT_SHA256_BYTES + 1, 1);

    if (!to || !id || !key || !sha256)
        return NULL;
    sentinel__query__v1__upload__init(to);
    to->object_id = front_borrow(upload_id_of(object->number, id));
    to->agent_id = front_borrow(from->agent_id);
    to->name = front_borrow(object->name);
    to->content_type = front_borrow(object->type);
    to->size_bytes = object->has_size ? object->size : 0;
    if (object->has_sha256)
        to->sha256 = text_of_hex(object->sha256, sizeof(object->sha256), sha256) ? sha256 : NULL;
    to->time = unary_time(unary, object->begun);
    to->labels = unary_entries(unary, &sentinel__query__v1__upload__labels_entry__descriptor,
                               object->labels, object->n_labels);
    to->n_labels = to->labels ? object->n_labels : 0;
    to->complete = object->is_complete;
    to->kind = front_borrow(object->kind == STORE_FILE ? "FILE" : "BULK");
    to->received_bytes = object->received;
    to->last_use = unary_time(unary, object->used);
    to->expires = unary_time(unary, from->expires);
    to->upload_id = key;
    (void) text_of_hex(object->key, sizeof(object->key), key);
    to->mode = object->mode;
    to->modified = unary_time(unary, object->modified);
    return to;
}

enum front_failure svc_query_list_uploads(struct unary *unary)
{
    const Sentinel__Query__V1__ListUploadsRequest *request = (const void *) unary->request;
    const struct query_selector selector = front_selector(unary, request->agents);
    struct query_uploads question = {
        .selector = &selector,
        .from_us = INT64_MIN,
        .to_us = INT64_MAX,
        .name_pattern = request->name_pattern,
        .page_size = request->page_size,
        .page_token = request->page_token,
    };
    struct query_problem problem = { 0 };
    Sentinel__Query__V1__ListUploadsResponse *answer = unary_alloc(unary, 1, sizeof(*answer));
    enum front_failure failure =
        front_range(unary, request->range, &question.from_us, &question.to_us);
    int r;

    if (failure != FAIL_NOT)
        return failure;
    if (unary->is_short)
        return unary_finish(unary, NULL);
    r = query_list_uploads(unary->front->options.query, &question, &unary->arena, &problem);
    if (r != QUERY_OK)
        return front_failure_of_query(r, &problem, &unary->detail);
    sentinel__query__v1__list_uploads_response__init(answer);
    answer->next_page_token = front_borrow(question.next_page_token);
    answer->uploads = unary_alloc(unary, question.n_uploads + 1, sizeof(*answer->uploads));
    for (size_t i = 0; answer->uploads && i < question.n_uploads; i++)
        answer->uploads[i] = upload_message(unary, &question.uploads[i]);
    answer->n_uploads = question.n_uploads;
    return unary_finish(unary, &answer->base);
}

/* ---- downloads ---- */

struct download {
    struct front *front;
    struct rpc_call *call;
    struct front_watched watched; /* with who asks */
    struct query_task task;
    struct rpc_post post;
    uint64_t number, offset, end; /* end: UINT64_MAX until the first slice knows it */
    uint64_t wanted;              /* bytes; 0: to the end */
    struct buf packed;            /* the slice on its way to the call's queue */
    enum front_failure failure;
    int r;
    struct front_detail detail;
    bool has_request, is_first, is_last;
    bool is_away;   /* with a reader, or on its way back */
    bool is_closed; /* and the watch has ended: freed when back */
};

static void download_free(struct download *d)
{
    buf_deinit(&d->packed);
    free(d);
}

static enum front_failure not_found(struct download *d)
{
    char id[UPLOAD_ID_BYTES];

    front_describe(&d->detail, "object_id", "no upload %s is there; ListUploads has the ids",
                   upload_id_of(d->number, id));
    return FAIL_NOT_FOUND;
}

static enum front_failure check_range(struct download *d, const struct store_object *object)
{
    if (!object->is_complete)
        return FAIL_UPLOAD_INCOMPLETE;
    if (d->offset > object->size) {
        front_describe(&d->detail, "offset", "%llu, but the upload has %llu bytes",
                       (unsigned long long) d->offset, (unsigned long long) object->size);
        return FAIL_BAD_QUESTION;
    }
    d->end = object->size;
    if (d->wanted && d->wanted < object->size - d->offset)
        d->end = d->offset + d->wanted;
    return FAIL_NOT;
}

/* The first message says what it is. */
static enum front_failure
describe_upload(struct download *d, struct unary *unary, Sentinel__Query__V1__Upload **ret)
{
    struct query_upload upload = { .agent_id = NULL };
    enum front_failure failure;
    int r = query_get_upload(d->front->options.query, d->number, &unary->arena, &upload);

    if (r == QUERY_NOT_FOUND)
        return not_found(d);
    if (r < 0)
        return d->r = r, FAIL_FAULT;
    failure = check_range(d, &upload.object);
    if (failure != FAIL_NOT)
        return failure;
    *ret = upload_message(unary, &upload);
    return unary->is_short ? FAIL_FAULT : FAIL_NOT;
}

static enum front_failure read_slice(struct download *d, uint8_t *to, size_t *ret_len)
{
    const uint64_t left = d->end - d->offset;
    /* Up to where blocks begin, so that later slices are whole blocks. */
    size_t len = SLICE_BYTES - (size_t) (d->offset % STORE_OBJECT_BLOCK_BYTES);

    *ret_len = 0;
    if (len > left)
        len = (size_t) left;
    if (len == 0)
        return FAIL_NOT;
    d->r = store_object_read(d->front->options.store, d->number, d->offset, to, len, ret_len);
    if (d->r == STORE_NOT_FOUND)
        return not_found(d);
    if (d->r == STORE_DAMAGED)
        return FAIL_UPLOAD_DAMAGED;
    return d->r ? FAIL_FAULT : FAIL_NOT;
}

static enum front_failure make_slice(struct download *d, struct unary *unary, uint8_t *room)
{
    Sentinel__Query__V1__DownloadUploadResponse response =
        SENTINEL__QUERY__V1__DOWNLOAD_UPLOAD_RESPONSE__INIT;
    enum front_failure failure = FAIL_NOT;
    size_t len;

    if (d->is_first)
        failure = describe_upload(d, unary, &response.upload);
    if (failure == FAIL_NOT)
        failure = read_slice(d, room, &len);
    if (failure != FAIL_NOT)
        return failure;
    response.offset = d->offset;
    response.data.data = room;
    response.data.len = len;
    d->offset += len;
    d->is_first = false;
    d->is_last = d->offset >= d->end;
    buf_clear(&d->packed);
    d->r = wire_pack(&response.base, &d->packed);
    return d->r < 0 ? FAIL_FAULT : FAIL_NOT;
}

/* On a reader. */
static void run(struct query_task *task)
{
    struct download *d = container_of(task, struct download, task);
    struct unary unary = { .front = d->front };
    uint8_t *room = malloc(SLICE_BYTES);

    arena_init(&unary.arena, MESSAGE_ARENA_BYTES);
    if (room)
        d->failure = make_slice(d, &unary, room);
    else
        d->failure = FAIL_FAULT, d->r = -ENOMEM;
    arena_deinit(&unary.arena);
    free(room);
    rpc_call_post(d->call, &d->post);
}

static void next_slice(struct download *d)
{
    int r;

    d->is_away = true;
    (void) rpc_call_ref(d->call);
    r = query_pool_submit(d->front->options.pool, &d->task);
    if (r == QUERY_OK)
        return;
    d->is_away = false;
    front_fail(d->call, r < 0 ? FAIL_FAULT : FAIL_READERS_BUSY, NULL, r);
    (void) rpc_call_unref(d->call);
}

static void send_slice(struct download *d)
{
    int r = rpc_call_send(d->call, buf_span(&d->packed));

    if (r == RPC_QUEUE_FULL)
        return; /* on_writable comes */
    buf_clear(&d->packed);
    if (r < 0)
        front_fail(d->call, FAIL_FAULT, NULL, r);
    else if (r == 0 && d->is_last)
        front_finish_ok(d->call);
    else if (r == 0)
        next_slice(d);
}

static void on_back(struct rpc_post *post)
{
    struct download *d = container_of(post, struct download, post);
    struct rpc_call *call = d->call;
    enum front_failure failure;

    ensure(d->is_away);
    d->is_away = false;
    if (d->is_closed) {
        download_free(d);
    } else if (d->failure != FAIL_NOT) {
        front_fail(call, d->failure, &d->detail, d->r);
    } else {
        failure = front_recheck(d->front, front_call_method(call), &d->watched.caller);
        if (failure == FAIL_NOT)
            send_slice(d);
        else
            front_fail(call, failure, NULL, 0);
    }
    (void) rpc_call_unref(call);
}

static void on_writable(struct rpc_call *call)
{
    struct download *d = rpc_call_state(call);

    if (!d->is_away && d->packed.len)
        send_slice(d);
}

static void on_ended(struct front_watched *watched)
{
    struct download *d = container_of(watched, struct download, watched);

    d->is_closed = true;
    if (!d->is_away)
        download_free(d);
}

static void on_open(struct rpc_call *call)
{
    struct front_caller caller;
    struct download *d;

    if (!front_authorise(call, &caller))
        return;
    d = calloc(1, sizeof(*d));
    if (!d) {
        front_fail(call, FAIL_FAULT, NULL, fault(-ENOMEM, "no memory for a call"));
        return;
    }
    d->front = rpc_call_ctx(call);
    d->call = call;
    d->watched = (struct front_watched){
        .call = call, .caller = caller, .due = { INT64_MAX }, .ended = on_ended
    };
    d->task.run = run;
    d->post.fn = on_back;
    d->is_first = true;
    d->end = UINT64_MAX;
    rpc_call_set_state(call, d);
    front_watch_begin(d->front, &d->watched);
    rpc_call_read(call);
}

static enum front_failure take_request(struct download *d, struct span message, struct arena *arena)
{
    const Sentinel__Query__V1__DownloadUploadRequest *request;
    struct wire_problem problem;
    ProtobufCMessage *unpacked = NULL;

    d->r = wire_unpack(&sentinel__query__v1__download_upload_request__descriptor, message, arena,
                       &unpacked, &problem);
    if (d->r != WIRE_OK)
        return front_failure_of_wire(d->r, &problem, &d->detail);
    request = (const void *) unpacked;
    d->number = upload_number_of(request->object_id);
    d->offset = request->offset;
    d->wanted = request->length;
    if (d->number)
        return FAIL_NOT;
    front_describe(&d->detail, "object_id",
                   "not an upload's id, such as u17; ListUploads has them");
    return FAIL_BAD_QUESTION;
}

static void on_message(struct rpc_call *call, struct span message)
{
    struct download *d = rpc_call_state(call);
    struct arena *arena = &d->front->workers[rpc_call_worker(call)].arena;
    const uint64_t budget = wire_arena_limit(message.len);
    enum front_failure failure = FAIL_ARENA_BUDGET;

    ensure(!d->has_request);
    d->has_request = true;
    if (message.len > d->front->options.max_message_bytes) {
        failure = FAIL_MESSAGE_BYTES;
        d->detail.quota = "max_message_bytes";
    } else if (front_charge(d->front, budget)) {
        arena_reset(arena, budget);
        failure = take_request(d, message, arena);
        arena_reset(arena, 0);
        front_discharge(d->front, budget);
    } else {
        d->detail.quota = "arena_total_bytes";
    }
    if (failure == FAIL_NOT)
        next_slice(d);
    else
        front_fail(call, failure, &d->detail, d->r);
}

static void on_half_close(struct rpc_call *call)
{
    const struct download *d = rpc_call_state(call);

    if (d && !d->has_request)
        front_fail(call, FAIL_NO_REQUEST, NULL, 0);
}

static void on_drain(struct rpc_call *call)
{
    if (rpc_call_state(call))
        front_fail(call, FAIL_STOPPING, NULL, 0);
}

static void on_closed(struct rpc_call *call, bool was_cancelled)
{
    struct download *d = rpc_call_state(call);

    (void) was_cancelled;
    if (d)
        front_watch_end(&d->watched);
}

const struct rpc_handler svc_query_download = {
    .on_open = on_open,
    .on_message = on_message,
    .on_half_close = on_half_close,
    .on_writable = on_writable,
    .on_drain = on_drain,
    .on_closed = on_closed,
};
