/* SPDX-License-Identifier: Apache-2.0 */
#include "common/send/send.h"

#include "sentinel/telemetry/v1/telemetry.pb-c.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/list.h"
#include "common/base/rand.h"
#include "common/crypto/crypto.h"
#include "common/wire/wire.h"

#define PATH "/sentinel.telemetry.v1.TelemetryService/UploadBulkData"
#define BACKOFF_US INT64_C(500000)
#define MAX_BACKOFF_US INT64_C(10000000)
#define QUEUED_BYTES (4u << 20) /* given to the connection at a time */
#define LOOK_MS 200             /* between questions whether it is still wanted */

typedef Sentinel__Telemetry__V1__UploadBulkDataRequest request_message;
typedef Sentinel__Telemetry__V1__UploadBulkDataResponse response_message;

/* Of a pipe: what may have to be sent again. */
struct kept {
    struct list in_kept;
    uint64_t offset;
    size_t len;
    uint8_t data[];
};

struct sending {
    struct send *send;
    struct rpc_channel *channel;
    struct rpc_client_call *call;
    bool is_pipe;
    uint8_t key[SEND_KEY_BYTES];
    uint64_t size; /* of a file, or of a pipe that has ended */
    bool has_size, has_sha256;
    struct crypto_hash *hash; /* of a pipe, all below read_at */
    uint64_t read_at;
    struct list kept;
    uint8_t *room; /* a chunk */

    uint64_t next, acked; /* offsets of this call */
    uint64_t best;        /* acknowledged ever */
    int64_t moved_us;     /* when that grew last */
    bool has_resume, has_end, has_result;
    bool is_over; /* the call is */
    int outcome;  /* SEND_UNREADABLE, SEND_LOST: found here */
    int fault;
    bool may_retry;
    uint64_t retry_us; /* the hub's wish */
    uint32_t n_failed; /* attempts since it moved */
    struct loop_timer pace;
    int64_t ready_us; /* when the next chunk may go */
    struct rand rand;
};

static int unreadable(struct sending *s, int error, const char *what)
{
    snprintf(s->send->message, sizeof(s->send->message), "%s%s%s", what, error ? ": " : "",
             error ? strerror(error) : "");
    return SEND_UNREADABLE;
}

static bool is_unwanted(const struct sending *s)
{
    return s->send->is_unwanted && s->send->is_unwanted(s->send->ctx);
}

/* A round of the loop. */
static int turn(struct sending *s)
{
    return pass(loop_run_once(s->send->loop, s->send->is_unwanted ? LOOK_MS : -1));
}

/* ---- the source ---- */

/* Fills as much as there is. Outcomes: SEND_UNREADABLE. */
static int read_full(struct sending *s, uint8_t *to, size_t len, uint64_t offset, size_t *ret_len)
{
    size_t done = 0;

    while (done < len) {
        ssize_t n = s->is_pipe ? read(s->send->fd, to + done, len - done)
                               : pread(s->send->fd, to + done, len - done, (off_t) (offset + done));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return unreadable(s, errno, "cannot read it");
        if (n == 0)
            break;
        done += (size_t) n;
    }
    *ret_len = done;
    return 0;
}

static int hash_file(struct sending *s)
{
    struct crypto_hash *hash = crypto_hash_new();
    uint64_t done = 0;
    size_t n = 0;
    int r = 0;

    do {
        r = read_full(s, s->room, SEND_CHUNK_BYTES, done, &n);
        if (r == 0 && is_unwanted(s))
            r = SEND_UNWANTED;
        if (r)
            break;
        crypto_hash_update(hash, span_of(s->room, n));
        done += n;
        if (s->send->on_hashing)
            s->send->on_hashing(s->send->ctx, done, s->size);
    } while (n > 0);
    crypto_hash_finish(hash, s->send->sha256);
    (void) crypto_hash_free(hash);
    s->size = done;
    s->has_size = s->has_sha256 = true;
    return r;
}

/* Names what is sent: whoever sends the same again goes on with it. */
static void derive_key(struct sending *s)
{
    struct buf text = { 0 };
    uint8_t digest[CRYPTO_SHA256_BYTES];

    buf_append_text(&text, "sentinel upload 1\n");
    buf_append(&text, s->send->name, strlen(s->send->name) + 1);
    buf_append(&text, s->send->type, strlen(s->send->type) + 1);
    buf_append(&text, &s->size, sizeof(s->size));
    buf_append(&text, s->send->sha256, sizeof(s->send->sha256));
    for (size_t i = 0; i < s->send->n_labels; i++) {
        buf_append(&text, s->send->labels[i].key, strlen(s->send->labels[i].key) + 1);
        buf_append(&text, s->send->labels[i].value, strlen(s->send->labels[i].value) + 1);
    }
    crypto_sha256(buf_span(&text), digest);
    memcpy(s->key, digest, sizeof(s->key));
    buf_deinit(&text);
}

static void forget_below(struct sending *s, uint64_t offset)
{
    list_each_safe(pos, &s->kept)
    {
        struct kept *kept = container_of(pos, struct kept, in_kept);

        if (kept->offset + kept->len > offset)
            return;
        list_remove(&kept->in_kept);
        free(kept);
    }
}

static struct kept *find_kept(struct sending *s, uint64_t offset)
{
    list_each(pos, &s->kept)
    {
        struct kept *kept = container_of(pos, struct kept, in_kept);

        if (offset >= kept->offset && offset < kept->offset + kept->len)
            return kept;
    }
    return NULL;
}

/* One chunk more of a pipe; *ret NULL at its end. */
static int read_pipe(struct sending *s, struct kept **ret)
{
    struct kept *kept;
    size_t n = 0;
    int r = read_full(s, s->room, SEND_CHUNK_BYTES, 0, &n);

    *ret = NULL;
    if (r)
        return r;
    if (n == 0) {
        if (!s->has_size)
            crypto_hash_finish(s->hash, s->send->sha256);
        s->size = s->read_at;
        s->has_size = s->has_sha256 = true;
        return 0;
    }
    kept = malloc(sizeof(*kept) + n);
    if (!kept)
        return fault(-ENOMEM, "no memory for a chunk");
    kept->offset = s->read_at;
    kept->len = n;
    memcpy(kept->data, s->room, n);
    crypto_hash_update(s->hash, span_of(s->room, n));
    s->read_at += n;
    list_append(&s->kept, &kept->in_kept);
    *ret = kept;
    return 0;
}

/* The bytes from `next` on; empty at the end. Outcomes: SEND_UNREADABLE, SEND_LOST. */
static int fetch_pipe(struct sending *s, struct span *ret)
{
    struct kept *kept = find_kept(s, s->next);
    int r = 0;

    if (!kept && s->next < s->read_at) {
        snprintf(s->send->message, sizeof(s->send->message),
                 "the hub asks for bytes again that a pipe gives once: send it again as a whole");
        return SEND_LOST;
    }
    /* What the hub has of an earlier process is passed over. */
    while (!r && !kept && !s->has_size) {
        r = read_pipe(s, &kept);
        if (kept && s->next >= s->read_at) {
            forget_below(s, s->read_at);
            kept = NULL;
        }
    }
    if (r)
        return r;
    *ret = kept ? span_of(kept->data + (s->next - kept->offset),
                          kept->len - (size_t) (s->next - kept->offset))
                : span_of(NULL, 0);
    return 0;
}

static int fetch(struct sending *s, struct span *ret)
{
    size_t len = SEND_CHUNK_BYTES, n = 0;
    int r;

    if (s->is_pipe)
        return fetch_pipe(s, ret);
    if (s->next >= s->size) {
        *ret = span_of(NULL, 0);
        return 0;
    }
    if (len > s->size - s->next)
        len = (size_t) (s->size - s->next);
    r = read_full(s, s->room, len, s->next, &n);
    if (!r && n < len)
        r = unreadable(s, 0, "it became shorter while it was sent");
    *ret = span_of(s->room, n);
    return r;
}

/* ---- messages ---- */

static int send_message(struct sending *s, const request_message *request)
{
    struct buf packed = { 0 };
    int r = wire_pack(&request->base, &packed);

    if (r == 0)
        r = rpc_client_call_send(s->call, buf_span(&packed));
    buf_deinit(&packed);
    return r;
}

static char *borrow(const char *text)
{
    return (char *) (uintptr_t) text; /* packing only reads */
}

static int send_header(struct sending *s)
{
    request_message request = SENTINEL__TELEMETRY__V1__UPLOAD_BULK_DATA_REQUEST__INIT;
    Sentinel__Telemetry__V1__UploadHeader header = SENTINEL__TELEMETRY__V1__UPLOAD_HEADER__INIT;
    Sentinel__Telemetry__V1__Attribute labels[SEND_LABELS], *pointers[SEND_LABELS];

    ensure(s->send->n_labels <= SEND_LABELS);
    for (size_t i = 0; i < s->send->n_labels; i++) {
        sentinel__telemetry__v1__attribute__init(&labels[i]);
        labels[i].key = borrow(s->send->labels[i].key);
        labels[i].value = borrow(s->send->labels[i].value);
        pointers[i] = &labels[i];
    }
    header.upload_id = (ProtobufCBinaryData){ sizeof(s->key), s->key };
    header.name = borrow(s->send->name);
    header.content_type = borrow(s->send->type);
    header.size_bytes = s->is_pipe ? 0 : s->size;
    if (!s->is_pipe)
        header.sha256 = (ProtobufCBinaryData){ SEND_SHA256_BYTES, s->send->sha256 };
    header.labels = pointers;
    header.n_labels = s->send->n_labels;
    request.message_case = SENTINEL__TELEMETRY__V1__UPLOAD_BULK_DATA_REQUEST__MESSAGE_HEADER;
    request.header = &header;
    return send_message(s, &request);
}

static int send_chunk(struct sending *s, struct span data)
{
    request_message request = SENTINEL__TELEMETRY__V1__UPLOAD_BULK_DATA_REQUEST__INIT;
    Sentinel__Telemetry__V1__Chunk chunk = SENTINEL__TELEMETRY__V1__CHUNK__INIT;

    chunk.offset = s->next;
    chunk.data = (ProtobufCBinaryData){ data.len, (uint8_t *) (uintptr_t) data.data };
    request.message_case = SENTINEL__TELEMETRY__V1__UPLOAD_BULK_DATA_REQUEST__MESSAGE_CHUNK;
    request.chunk = &chunk;
    return send_message(s, &request);
}

static int send_end(struct sending *s)
{
    request_message request = SENTINEL__TELEMETRY__V1__UPLOAD_BULK_DATA_REQUEST__INIT;
    Sentinel__Telemetry__V1__FileEnd end = SENTINEL__TELEMETRY__V1__FILE_END__INIT;

    end.size_bytes = s->size;
    end.sha256 = (ProtobufCBinaryData){ SEND_SHA256_BYTES, s->send->sha256 };
    request.message_case = SENTINEL__TELEMETRY__V1__UPLOAD_BULK_DATA_REQUEST__MESSAGE_END;
    request.end = &end;
    return send_message(s, &request);
}

/* ---- a call ---- */

static void give_up(struct sending *s, int r)
{
    if (r < 0)
        s->fault = r;
    else
        s->outcome = r;
    rpc_client_call_cancel(s->call);
}

/* Whether the next chunk must wait for its time; then the timer goes on. */
static bool is_ahead(struct sending *s)
{
    if (s->send->bytes_per_s == 0 || clock_mono().us >= s->ready_us)
        return false;
    ensure(loop_timer_arm(s->send->loop, &s->pace, (mono_us){ s->ready_us }) == 0);
    return true;
}

static void note_sent(struct sending *s, size_t len)
{
    const int64_t now_us = clock_mono().us;

    s->send->n_sent_bytes += len;
    if (s->send->bytes_per_s == 0)
        return;
    if (s->ready_us < now_us)
        s->ready_us = now_us;
    s->ready_us += (int64_t) (len * UINT64_C(1000000) / s->send->bytes_per_s);
}

/* As much as window, connection and pace take. */
static void pump(struct sending *s)
{
    while (!s->is_over && s->has_resume && !s->has_end && !s->outcome && !s->fault &&
           s->next - s->acked < SEND_WINDOW_BYTES &&
           rpc_client_call_queued(s->call) < QUEUED_BYTES) {
        struct span data = { 0 };
        int r;

        if (is_ahead(s))
            return;
        r = fetch(s, &data);
        if (r) {
            give_up(s, r);
            return;
        }
        r = data.len ? send_chunk(s, data) : send_end(s);
        if (r == RPC_QUEUE_FULL || r == RPC_CLOSED)
            return; /* on_writable, or on_closed */
        if (r < 0) {
            give_up(s, r);
            return;
        }
        s->has_end = data.len == 0;
        s->next += data.len;
        note_sent(s, data.len);
        if (s->has_end)
            rpc_client_call_half_close(s->call);
    }
}

static void on_acked(struct sending *s, uint64_t offset)
{
    s->acked = offset;
    if (offset > s->best) {
        s->best = offset;
        s->moved_us = clock_mono().us;
        s->n_failed = 0;
    }
    forget_below(s, offset);
    if (s->send->on_progress)
        s->send->on_progress(s->send->ctx, offset, s->has_size ? s->size : 0);
}

static void on_result(struct sending *s, const Sentinel__Telemetry__V1__UploadResult *result)
{
    s->has_result = true;
    snprintf(s->send->object_id, sizeof(s->send->object_id), "%s", result->object_id);
    if (result->sha256.len == SEND_SHA256_BYTES)
        memcpy(s->send->sha256, result->sha256.data, SEND_SHA256_BYTES);
    s->send->n_bytes = result->size_bytes;
    s->send->had_it = !s->has_resume && s->send->n_sent_bytes == 0;
    if (s->send->on_progress)
        s->send->on_progress(s->send->ctx, result->size_bytes, result->size_bytes);
}

static void on_message(struct rpc_client_call *call, struct span message)
{
    struct sending *s = rpc_client_call_ctx(call);
    ProtobufCMessage *unpacked = NULL;
    const response_message *response;
    struct arena arena;

    arena_init(&arena, wire_arena_limit(message.len));
    if (wire_unpack(&sentinel__telemetry__v1__upload_bulk_data_response__descriptor, message,
                    &arena, &unpacked, NULL) == WIRE_OK) {
        response = (const void *) unpacked;
        if (response->message_case ==
            SENTINEL__TELEMETRY__V1__UPLOAD_BULK_DATA_RESPONSE__MESSAGE_RESUME) {
            if (s->send->n_cuts == 0)
                s->send->resumed_at = response->resume->offset;
            s->has_resume = true;
            s->next = response->resume->offset;
            on_acked(s, s->next);
        } else if (response->message_case ==
                   SENTINEL__TELEMETRY__V1__UPLOAD_BULK_DATA_RESPONSE__MESSAGE_ACK) {
            on_acked(s, response->ack->offset);
        } else if (response->message_case ==
                   SENTINEL__TELEMETRY__V1__UPLOAD_BULK_DATA_RESPONSE__MESSAGE_RESULT) {
            on_result(s, response->result);
        }
    }
    arena_deinit(&arena);
    rpc_client_call_read(call);
    pump(s);
}

static void on_writable(struct rpc_client_call *call)
{
    pump(rpc_client_call_ctx(call));
}

static bool is_passing(int code, uint64_t retry_after_ms)
{
    return code == RPC_UNAVAILABLE || code == RPC_UNKNOWN || code == RPC_CANCELLED ||
           retry_after_ms > 0;
}

static void on_closed(struct rpc_client_call *call, const struct rpc_status *status)
{
    struct sending *s = rpc_client_call_ctx(call);
    struct send *send = s->send;
    struct wire_error error = { 0 };
    struct arena arena;

    s->is_over = true;
    if (s->has_result || s->outcome || s->fault)
        return;
    arena_init(&arena, 64u << 10);
    if (status->details.len && wire_error_unpack(status->details, &arena, &error) != 0)
        error = (struct wire_error){ 0 };
    send->code = status->code ? status->code : RPC_UNKNOWN;
    snprintf(send->message, sizeof(send->message), "%s",
             status->code ? status->message : "the hub ended the call without a result");
    snprintf(send->reason, sizeof(send->reason), "%s", error.reason ? error.reason : "");
    snprintf(send->field, sizeof(send->field), "%s", error.field ? error.field : "");
    snprintf(send->quota, sizeof(send->quota), "%s", error.quota ? error.quota : "");
    s->may_retry = is_passing(send->code, error.retry_after_ms);
    s->retry_us = error.retry_after_ms * 1000;
    arena_deinit(&arena);
}

static const struct rpc_client_handler handler = {
    .on_message = on_message,
    .on_writable = on_writable,
    .on_closed = on_closed,
};

/* From a connection to its end. */
static int attempt(struct sending *s)
{
    int r = s->send->connect(s->send->connect_ctx, &s->channel);

    if (r) {
        s->outcome = SEND_UNCONNECTED;
        return 0;
    }
    s->has_resume = s->has_end = s->is_over = s->may_retry = false;
    s->next = s->acked = 0;
    r = rpc_client_call_new(
        &s->call, s->channel,
        &(struct rpc_client_call_options){ .path = PATH, .handler = &handler, .ctx = s });
    if (r == 0)
        r = send_header(s);
    if (r == 0)
        rpc_client_call_read(s->call);
    while (r >= 0 && !s->is_over) {
        r = turn(s);
        if (r >= 0 && !s->is_over && !s->outcome && is_unwanted(s))
            give_up(s, SEND_UNWANTED);
    }
    loop_timer_disarm(s->send->loop, &s->pace);
    s->call = rpc_client_call_unref(s->call);
    s->channel = rpc_channel_free(s->channel);
    return r < 0 ? pass(r) : pass(s->fault);
}

/* ---- again ---- */

static void on_pace(struct loop_timer *timer)
{
    pump(timer->ctx);
}

static void on_timer(struct loop_timer *timer)
{
    bool *is_over = timer->ctx;

    *is_over = true;
}

static int64_t next_wait(struct sending *s)
{
    int64_t wait_us = BACKOFF_US << (s->n_failed < 5 ? s->n_failed : 5);

    if (wait_us > MAX_BACKOFF_US)
        wait_us = MAX_BACKOFF_US;
    wait_us = (int64_t) ((double) wait_us * (0.8 + 0.4 * rand_unit(&s->rand)));
    return wait_us > (int64_t) s->retry_us ? wait_us : (int64_t) s->retry_us;
}

static int wait_for(struct sending *s, int64_t wait_us)
{
    bool is_over = false;
    struct loop_timer timer = { .fn = on_timer, .ctx = &is_over };
    int r = loop_timer_arm_in(s->send->loop, &timer, wait_us);

    while (r == 0 && !is_over && !is_unwanted(s))
        r = turn(s);
    loop_timer_disarm(s->send->loop, &timer);
    return r == 0 && !is_over ? SEND_UNWANTED : pass(r);
}

static int send_all(struct sending *s)
{
    int r = 0;

    while (!r) {
        int64_t wait_us;

        r = attempt(s);
        if (r || s->has_result || s->outcome)
            break;
        if (!s->may_retry)
            return SEND_REFUSED;
        wait_us = next_wait(s);
        s->n_failed++;
        if (clock_mono().us + wait_us - s->moved_us > s->send->give_up_us)
            return SEND_UNREACHABLE;
        s->send->n_cuts++;
        if (s->send->on_retry)
            s->send->on_retry(s->send->ctx, s->send->message, wait_us);
        r = wait_for(s, wait_us);
    }
    return r ? r : s->outcome;
}

static int prepare(struct sending *s)
{
    struct stat st;
    int r = 0;

    if (fstat(s->send->fd, &st) < 0)
        return unreadable(s, errno, "cannot look at it");
    if (S_ISDIR(st.st_mode))
        return unreadable(s, 0, "it is a directory: pack it first, and send that");
    s->is_pipe = !S_ISREG(st.st_mode);
    s->size = s->is_pipe ? 0 : (uint64_t) st.st_size;
    s->room = malloc(SEND_CHUNK_BYTES);
    if (!s->room)
        return fault(-ENOMEM, "no memory for a chunk");
    if (s->is_pipe)
        s->hash = crypto_hash_new();
    else
        r = hash_file(s);
    if (s->send->key)
        memcpy(s->key, s->send->key, sizeof(s->key));
    else if (s->is_pipe)
        crypto_random(s->key, sizeof(s->key));
    else
        derive_key(s);
    return r;
}

int send_file(struct send *send)
{
    struct sending s = { .send = send, .moved_us = clock_mono().us };
    int r;

    s.pace = (struct loop_timer){ .fn = on_pace, .ctx = &s };
    list_init(&s.kept);
    rand_init_from_system(&s.rand);
    r = prepare(&s);
    s.moved_us = clock_mono().us; /* hashing counts not */
    if (!r)
        r = send_all(&s);
    forget_below(&s, UINT64_MAX);
    s.hash = crypto_hash_free(s.hash);
    free(s.room);
    return r;
}
