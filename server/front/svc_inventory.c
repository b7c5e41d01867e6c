/* SPDX-License-Identifier: Apache-2.0 */

/*
 * sentinel.telemetry.v1.TelemetryService, UploadInventory: ingest's rules on a call that the agent
 * alone streams on.
 *
 * Messages are decoded into the worker's arena and taken in at once. When the agent has said all, a
 * reader looks what is new and packs it, the store's writer commits it, and its answer comes back
 * as a post to the call's thread.
 */

#include "sentinel/telemetry/v1/telemetry.pb-c.h"

#include <errno.h>
#include <stdlib.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/log/log.h"
#include "server/front/hello.h"
#include "server/front/inside.h"

#define REQUEST_HEADER SENTINEL__TELEMETRY__V1__UPLOAD_INVENTORY_REQUEST__MESSAGE_HEADER
#define REQUEST_TABLE SENTINEL__TELEMETRY__V1__UPLOAD_INVENTORY_REQUEST__MESSAGE_TABLE

/* Names in one status: as trailers of 8 KiB must take them, in base64. */
#define MISSING_MAX 32u

#define ROOM_PER_BYTE 64u        /* whatever the rows are */
#define SPARSE_BYTES (16u << 20) /* of an arena; a message up to 256 KiB has all that it needs */

struct upload {
    struct front *front;
    struct rpc_call *call; /* referenced */
    struct front_caller caller;
    struct ingest_inventory *inventory;
    struct query_task task;
    struct rpc_post post;
    struct ingest_problem problem;
    mono_us begun;
    struct list in_inventories; /* under inventories.lock */
    struct rpc_post check_post;
    bool is_check_posted;    /* under inventories.lock */
    _Atomic uint32_t n_refs; /* the open call; the task and the check, until their posts have run */
    struct front_hello hello;
    int outcome;  /* ingest's, of what the task did, where the hello did not fail */
    bool is_over; /* a status was given */
    bool is_away; /* with a reader, or the writer */
};

static void upload_unref(struct upload *upload)
{
    struct rpc_call *call = upload->call;

    if (atomic_fetch_sub(&upload->n_refs, 1) != 1)
        return;
    ingest_inventory_free(upload->inventory);
    free(upload);
    (void) rpc_call_unref(call);
}

/* ---- ends ---- */

static void
fail(struct upload *upload, enum front_failure failure, const struct front_detail *detail, int r)
{
    if (upload->is_over)
        return;
    upload->is_over = true;
    front_fail(upload->call, failure, detail, r);
}

static enum front_failure failure_of(int outcome)
{
    switch (outcome) {
    case INGEST_LIMIT:
        return FAIL_INVENTORY_LIMIT;
    case INGEST_TIME_OUT_OF_RANGE:
        return FAIL_INVENTORY_TIME;
    case INGEST_TAKEN_OVER:
        return FAIL_INVENTORY_TAKEN;
    default:
        return front_failure_of_ingest(outcome);
    }
}

/* What ingest refused. */
static void refuse(struct upload *upload, int outcome)
{
    const char *missing[MISSING_MAX];
    struct front_detail detail = { .quota = upload->problem.quota };
    size_t n;

    front_describe(&detail, upload->problem.field, "%s", upload->problem.description);
    if (outcome == INGEST_LACKS) {
        n = ingest_inventory_missing(upload->inventory, missing, MISSING_MAX);
        detail.precondition = "INVENTORY_TABLE";
        detail.subjects = missing;
        detail.n_subjects = n < MISSING_MAX ? n : MISSING_MAX;
        front_describe(&detail, upload->problem.field, "%zu, with %s among them; send them too", n,
                       missing[0]);
    }
    fail(upload, failure_of(outcome), &detail, outcome);
}

static bool is_allowed(struct upload *upload)
{
    enum front_failure failure =
        front_recheck(upload->front, front_call_method(upload->call), &upload->caller);

    if (failure == FAIL_NOT)
        return true;
    if (failure != FAIL_FAULT)
        front_log_refused(upload->call, &upload->caller, failure);
    fail(upload, failure, NULL, 0);
    return false;
}

/* ---- messages ---- */

static int take_header(struct upload *upload,
                       const Sentinel__Telemetry__V1__InventoryHeader *header,
                       struct arena *arena)
{
    struct ingest_table_hash *tables =
        arena_alloc_array(arena, header->n_tables + 1, sizeof(*tables));

    if (!tables)
        return -ENOBUFS;
    for (size_t i = 0; i < header->n_tables; i++)
        tables[i] = (struct ingest_table_hash){
            .name = header->tables[i]->name,
            .sha256 = span_of(header->tables[i]->sha256.data, header->tables[i]->sha256.len),
            .n_rows = header->tables[i]->rows,
        };
    return ingest_inventory_header(upload->inventory, header->time_unix_us, tables,
                                   header->n_tables, clock_wall(), &upload->problem);
}

static struct ingest_table_row row_of(const void *rows, size_t i)
{
    const Sentinel__Telemetry__V1__InventoryRow *row =
        ((Sentinel__Telemetry__V1__InventoryRow *const *) rows)[i];

    return (struct ingest_table_row){ (const char *const *) row->values, row->n_values };
}

static int take_table(struct upload *upload, const Sentinel__Telemetry__V1__InventoryTable *table)
{
    const struct ingest_table_part part = {
        .name = table->name,
        .columns = (const char *const *) table->columns,
        .n_columns = table->n_columns,
        .row = row_of,
        .rows = table->rows,
        .n_rows = table->n_rows,
        .is_last = table->is_last,
    };

    return ingest_inventory_table(upload->inventory, &part, &upload->problem);
}

static void dispatch(struct upload *upload,
                     const Sentinel__Telemetry__V1__UploadInventoryRequest *request,
                     struct arena *arena)
{
    int r;

    if (request->message_case == REQUEST_HEADER)
        r = take_header(upload, request->header, arena);
    else if (request->message_case == REQUEST_TABLE)
        r = take_table(upload, request->table);
    else {
        upload->problem = (struct ingest_problem){ 0 };
        (void) snprintf(upload->problem.description, sizeof(upload->problem.description),
                        "the message is neither header nor table");
        r = INGEST_BAD_INVENTORY;
    }
    if (r == INGEST_OK)
        rpc_call_read(upload->call);
    else if (r == -ENOBUFS)
        fail(upload, FAIL_TOO_BIG, NULL, 0);
    else
        refuse(upload, r);
}

static void take_message(struct upload *upload, struct span bytes, uint64_t budget)
{
    struct arena *arena = &upload->front->workers[rpc_call_worker(upload->call)].arena;
    struct front_detail detail = { 0 };
    struct wire_problem problem;
    ProtobufCMessage *request = NULL;
    int r;

    arena_reset(arena, budget);
    r = wire_unpack(&sentinel__telemetry__v1__upload_inventory_request__descriptor, bytes, arena,
                    &request, &problem);
    if (r == WIRE_OK)
        dispatch(upload, (const void *) request, arena);
    else
        fail(upload, front_failure_of_wire(r, &problem, &detail), &detail, r);
    arena_reset(arena, 0);
}

/* An empty value is two bytes of a message, and some fifty times that when it is unpacked; tables
 * have many of them. So a message that is not large may take more than others. */
static uint64_t budget_of(size_t n_bytes)
{
    const uint64_t any = wire_arena_limit(n_bytes), sparse = ROOM_PER_BYTE * (uint64_t) n_bytes;

    if (sparse <= any)
        return any;
    return sparse < SPARSE_BYTES ? sparse : any > SPARSE_BYTES ? any : SPARSE_BYTES;
}

static void on_message(struct rpc_call *call, struct span message)
{
    struct upload *upload = rpc_call_state(call);
    const struct front_options *options = &upload->front->options;
    const uint64_t budget = budget_of(message.len);
    struct front_detail detail = { 0 };

    if (upload->is_over || upload->is_away || !is_allowed(upload))
        return;
    if (message.len > options->max_message_bytes) {
        front_describe(&detail, NULL, "%zu bytes, at most %u (max_message_bytes)", message.len,
                       options->max_message_bytes);
        detail.quota = "max_message_bytes";
        fail(upload, FAIL_MESSAGE_BYTES, &detail, 0);
        return;
    }
    if (!front_charge(upload->front, budget)) {
        detail.quota = "arena_total_bytes";
        fail(upload, FAIL_ARENA_BUDGET, &detail, 0);
        return;
    }
    take_message(upload, message, budget);
    front_discharge(upload->front, budget);
}

/* ---- to the disk and back ---- */

static void send_answer(struct upload *upload)
{
    Sentinel__Telemetry__V1__UploadInventoryResponse response;
    CLEANUP(buf_deinit) struct buf packed = { 0 };
    uint32_t n_changed;
    int r;

    sentinel__telemetry__v1__upload_inventory_response__init(&response);
    response.revision = ingest_inventory_revision(upload->inventory, &n_changed);
    response.tables_changed = n_changed;
    r = wire_pack(&response.base, &packed);
    if (r < 0) {
        fail(upload, FAIL_FAULT, NULL, r);
        return;
    }
    if (n_changed > 0)
        log_peer(LOG_INFO, "inventory_stored", LOG_S("agent", upload->caller.name),
                 LOG_U("revision", response.revision), LOG_U("tables_changed", n_changed));
    upload->is_over = true;
    if (rpc_call_send(upload->call, buf_span(&packed)) == RPC_DONE)
        front_finish_ok(upload->call);
}

static void on_stored(struct rpc_post *post)
{
    struct upload *upload = container_of(post, struct upload, post);

    upload->is_away = false;
    if (!upload->is_over && rpc_call_is_open(upload->call) && is_allowed(upload)) {
        if (upload->hello.failure == FAIL_ADDRESS_NOT_ALLOWED)
            front_log_refused(upload->call, &upload->caller, upload->hello.failure);
        if (upload->hello.failure != FAIL_NOT)
            fail(upload, upload->hello.failure, &upload->hello.detail, upload->outcome);
        else if (upload->outcome == INGEST_OK)
            send_answer(upload);
        else
            refuse(upload, upload->outcome);
    }
    upload_unref(upload);
}

/* On a reader or the store's writer. */
static void on_done(void *ctx, int outcome)
{
    struct upload *upload = ctx;

    upload->outcome = outcome;
    rpc_call_post(upload->call, &upload->post);
}

/* On a reader: the registry is asked, and a new agent's number is committed. */
static void store_it(struct query_task *task)
{
    struct upload *upload = container_of(task, struct upload, task);
    const struct front_hello *hello = &upload->hello;
    int r;

    front_hello_run(&upload->hello);
    if (hello->failure != FAIL_NOT) {
        on_done(upload, hello->r);
        return;
    }
    store_agent_seen(upload->front->options.store, hello->agent, clock_wall());
    r = ingest_inventory_store(upload->inventory, hello->agent, on_done, upload, &upload->problem);
    if (r != INGEST_OK)
        on_done(upload, r < 0 ? INGEST_FAULT : r);
}

static void on_half_close(struct rpc_call *call)
{
    struct upload *upload = rpc_call_state(call);
    int r;

    if (!upload || upload->is_over || upload->is_away || !is_allowed(upload))
        return;
    r = ingest_inventory_end(upload->inventory, &upload->problem);
    if (r != INGEST_OK) {
        refuse(upload, r);
        return;
    }
    upload->is_away = true;
    upload->hello = front_hello_of(upload->front, upload->call, &upload->caller);
    upload->task.run = store_it;
    atomic_fetch_add(&upload->n_refs, 1);
    r = query_pool_submit(upload->front->options.pool, &upload->task);
    if (r == QUERY_OK)
        return;
    upload->is_away = false;
    fail(upload, r < 0 ? FAIL_FAULT : FAIL_READERS_BUSY, NULL, r);
    upload_unref(upload);
}

/* ---- the call ---- */

/* Uploads that began before then take too long. */
static mono_us late_before(const struct front *front)
{
    struct ingest_limits limits;

    ingest_get_limits(front->options.ingest, &limits);
    return (mono_us){ clock_mono().us - limits.inventory.upload_us };
}

static bool is_before(const struct upload *upload, mono_us then)
{
    return upload->begun.us < then.us;
}

static void on_check(struct rpc_post *post)
{
    struct upload *upload = container_of(post, struct upload, check_post);
    struct front_detail detail = { 0 };
    bool is_late = is_before(upload, late_before(upload->front));

    pthread_mutex_lock(&upload->front->inventories.lock);
    upload->is_check_posted = false;
    pthread_mutex_unlock(&upload->front->inventories.lock);
    /* What is on its way to the disk needs the agent no more. */
    if (!upload->is_over && !upload->is_away && rpc_call_is_open(upload->call) &&
        is_allowed(upload) && is_late) {
        front_describe(&detail, NULL, "send it at once, or raise inventory.upload_time");
        fail(upload, FAIL_INVENTORY_LATE, &detail, 0);
    }
    upload_unref(upload);
}

void svc_inventory_recheck_all(struct front *front, bool late_only)
{
    mono_us late = late_before(front);

    pthread_mutex_lock(&front->inventories.lock);
    list_each(pos, &front->inventories.calls)
    {
        struct upload *upload = container_of(pos, struct upload, in_inventories);

        if (upload->is_check_posted || (late_only && !is_before(upload, late)))
            continue;
        upload->is_check_posted = true;
        atomic_fetch_add(&upload->n_refs, 1);
        rpc_call_post(upload->call, &upload->check_post);
    }
    pthread_mutex_unlock(&front->inventories.lock);
}

/* Names the limit that it met. */
static void refuse_new(struct rpc_call *call, int r)
{
    struct front_detail detail = { .quota = "inventory_uploads_of_agent" };

    if (r < 0) {
        front_fail(call, FAIL_FAULT, NULL, r);
        return;
    }
    front_describe(&detail, NULL, "%u uploads of this agent are open: end one of them first",
                   INGEST_UPLOADS_PER_AGENT);
    front_fail(call, front_failure_of_ingest(r), &detail, r);
}

static void on_open(struct rpc_call *call)
{
    struct front *front = rpc_call_ctx(call);
    struct front_caller caller;
    struct upload *upload;
    int r;

    ensure(rpc_call_worker(call) < FRONT_MAX_WORKERS);
    if (!front_authorise(call, &caller))
        return;
    upload = calloc(1, sizeof(*upload));
    r = upload ? ingest_inventory_new(&upload->inventory, front->options.ingest, caller.name)
               : fault(-ENOMEM, "no memory for a call");
    if (r) {
        free(upload);
        refuse_new(call, r);
        return;
    }
    upload->front = front;
    upload->call = rpc_call_ref(call);
    upload->caller = caller;
    upload->begun = clock_mono();
    upload->post.fn = on_stored;
    upload->check_post.fn = on_check;
    atomic_init(&upload->n_refs, 1);
    rpc_call_set_state(call, upload);
    pthread_mutex_lock(&front->inventories.lock);
    list_append(&front->inventories.calls, &upload->in_inventories);
    pthread_mutex_unlock(&front->inventories.lock);
    rpc_call_read(call);
}

/* What is on its way to the disk is answered; more is not taken. */
static void on_drain(struct rpc_call *call)
{
    struct upload *upload = rpc_call_state(call);

    if (upload && !upload->is_away)
        fail(upload, FAIL_STOPPING, NULL, 0);
}

static void on_closed(struct rpc_call *call, bool was_cancelled)
{
    struct upload *upload = rpc_call_state(call);

    (void) was_cancelled;
    if (!upload)
        return;
    pthread_mutex_lock(&upload->front->inventories.lock);
    list_remove(&upload->in_inventories);
    pthread_mutex_unlock(&upload->front->inventories.lock);
    upload->is_over = true;
    upload_unref(upload);
}

const struct rpc_handler svc_inventory_upload = {
    .on_open = on_open,
    .on_message = on_message,
    .on_half_close = on_half_close,
    .on_drain = on_drain,
    .on_closed = on_closed,
};
