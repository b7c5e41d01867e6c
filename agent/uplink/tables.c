/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/uplink/tables.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/uplink/connection.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "sentinel/telemetry/v1/telemetry.pb-c.h"

#define PATH "/sentinel.telemetry.v1.TelemetryService/UploadInventory"
#define TIMEOUT_US (INT64_C(120) * 1000000)
#define MESSAGE_BYTES ((size_t) 128 << 10) /* of values; a message of 256 KiB may have any rows */
#define MESSAGE_ROWS 4096
#define ARENA_BYTES ((size_t) 4 << 20)

typedef Sentinel__Telemetry__V1__UploadInventoryRequest request;

struct tables {
    struct tables_options options;
    struct rpc_client_call *call;
    bool is_wanted[INVENTORY_MAX_TABLES]; /* the hub lacks it */
    bool is_second;
    size_t table, at; /* what goes next: of this table, behind these bytes */
    struct tables_result result;
    struct buf packed;
};

static void finish(struct tables *tables, enum tables_outcome outcome)
{
    tables->result.outcome = outcome;
    tables->options.on_done(tables->options.ctx, &tables->result);
}

/* ---- messages ---- */

static int pack(struct tables *tables, const request *message)
{
    buf_clear(&tables->packed);
    return pass(wire_pack(&message->base, &tables->packed));
}

static int pack_header(struct tables *tables)
{
    const struct inventory_snapshot *snapshot = tables->options.snapshot;
    Sentinel__Telemetry__V1__InventoryTableHash hashes[INVENTORY_MAX_TABLES];
    Sentinel__Telemetry__V1__InventoryTableHash *list[INVENTORY_MAX_TABLES];
    Sentinel__Telemetry__V1__InventoryHeader header =
        SENTINEL__TELEMETRY__V1__INVENTORY_HEADER__INIT;
    request message = SENTINEL__TELEMETRY__V1__UPLOAD_INVENTORY_REQUEST__INIT;

    for (size_t i = 0; i < snapshot->n_tables; i++) {
        const struct inventory_table *table = &snapshot->tables[i];

        sentinel__telemetry__v1__inventory_table_hash__init(&hashes[i]);
        hashes[i].name = (char *) (uintptr_t) table->name;
        hashes[i].sha256.data = (uint8_t *) (uintptr_t) table->sha256;
        hashes[i].sha256.len = sizeof(table->sha256);
        hashes[i].rows = table->n_rows;
        list[i] = &hashes[i];
    }
    header.time_unix_us = snapshot->time.us;
    header.tables = list;
    header.n_tables = snapshot->n_tables;
    message.message_case = SENTINEL__TELEMETRY__V1__UPLOAD_INVENTORY_REQUEST__MESSAGE_HEADER;
    message.header = &header;
    return pass(pack(tables, &message));
}

/* The row at *at, in the arena; NULL: no memory. */
static Sentinel__Telemetry__V1__InventoryRow *
take_row(const struct inventory_table *table, size_t *at, struct arena *arena)
{
    Sentinel__Telemetry__V1__InventoryRow *row = arena_alloc(arena, sizeof(*row));
    struct span value;

    if (!row)
        return NULL;
    sentinel__telemetry__v1__inventory_row__init(row);
    row->values = arena_alloc_array(arena, table->n_columns, sizeof(*row->values));
    if (!row->values)
        return NULL;
    for (; row->n_values < table->n_columns; row->n_values++) {
        ensure(inventory_next_value(table, at, &value));
        row->values[row->n_values] = arena_copy(arena, value);
        if (!row->values[row->n_values])
            return NULL;
    }
    return row;
}

/* What comes next of the table; *ret_at is where to go on. */
static int pack_rows(struct tables *tables, const struct inventory_table *table, size_t *ret_at)
{
    Sentinel__Telemetry__V1__InventoryTable part = SENTINEL__TELEMETRY__V1__INVENTORY_TABLE__INIT;
    request message = SENTINEL__TELEMETRY__V1__UPLOAD_INVENTORY_REQUEST__INIT;
    struct arena arena;
    size_t at = tables->at;
    int r = 0;

    arena_init(&arena, ARENA_BYTES);
    part.name = (char *) (uintptr_t) table->name;
    if (at == 0) {
        part.columns = (char **) (uintptr_t) table->columns;
        part.n_columns = table->n_columns;
    }
    part.rows = arena_alloc_array(&arena, MESSAGE_ROWS, sizeof(*part.rows));
    while (part.rows && at < table->values.len && part.n_rows < MESSAGE_ROWS &&
           at - tables->at < MESSAGE_BYTES) {
        part.rows[part.n_rows] = take_row(table, &at, &arena);
        if (!part.rows[part.n_rows])
            break;
        part.n_rows++;
    }
    part.is_last = at == table->values.len;
    message.message_case = SENTINEL__TELEMETRY__V1__UPLOAD_INVENTORY_REQUEST__MESSAGE_TABLE;
    message.table = &part;
    /* A row alone may be longer than the arena: a table has at most 64 MiB, a value is no file. */
    r = part.n_rows == 0 && !part.is_last
            ? fault(-ENOMEM, "a row of the table %s does not fit into a message", table->name)
            : pack(tables, &message);
    arena_deinit(&arena);
    if (r == 0)
        *ret_at = at;
    return r < 0 ? pass(r) : 0;
}

/* ---- sending ---- */

static void send_more(struct tables *tables)
{
    const struct inventory_snapshot *snapshot = tables->options.snapshot;

    while (tables->table < snapshot->n_tables) {
        const struct inventory_table *table = &snapshot->tables[tables->table];
        size_t at = 0;

        if (!tables->is_wanted[tables->table]) {
            tables->table++;
            continue;
        }
        if (pack_rows(tables, table, &at) < 0) {
            rpc_client_call_cancel(tables->call);
            return;
        }
        /* Full: on_writable goes on with the same rows. Closed: on_closed says why. */
        if (rpc_client_call_send(tables->call, buf_span(&tables->packed)) != RPC_DONE)
            return;
        tables->result.n_bytes += at - tables->at;
        tables->at = at;
        if (at == table->values.len) {
            tables->table++;
            tables->at = 0;
        }
    }
    rpc_client_call_half_close(tables->call);
}

static void on_writable(struct rpc_client_call *call)
{
    send_more(rpc_client_call_ctx(call));
}

static void on_message(struct rpc_client_call *call, struct span message)
{
    struct tables *tables = rpc_client_call_ctx(call);
    const Sentinel__Telemetry__V1__UploadInventoryResponse *response;
    ProtobufCMessage *unpacked;
    struct arena arena;

    arena_init(&arena, ARENA_BYTES);
    if (wire_unpack(&sentinel__telemetry__v1__upload_inventory_response__descriptor, message,
                    &arena, &unpacked, NULL) == 0) {
        response = (const void *) unpacked;
        tables->result.revision = response->revision;
        tables->result.n_changed = response->tables_changed;
    }
    arena_deinit(&arena);
}

static int begin(struct tables *tables);

/* Marks what the hub named; false: it named something that cannot be sent. */
static bool want(struct tables *tables, const struct wire_error *error)
{
    const struct inventory_snapshot *snapshot = tables->options.snapshot;
    bool has_all = error->n_subjects > 0;

    for (size_t i = 0; i < error->n_subjects; i++) {
        size_t k = 0;

        while (k < snapshot->n_tables && strcmp(snapshot->tables[k].name, error->subjects[i]) != 0)
            k++;
        if (k == snapshot->n_tables || !snapshot->tables[k].has_rows)
            has_all = false;
        else
            tables->is_wanted[k] = true;
    }
    return has_all;
}

static enum tables_outcome outcome_of(int code)
{
    switch (code) {
    case RPC_INVALID_ARGUMENT:
    case RPC_PERMISSION_DENIED:
    case RPC_UNIMPLEMENTED:
    case RPC_FAILED_PRECONDITION:
        return TABLES_REFUSED;
    default:
        return TABLES_FAILED;
    }
}

static void note(struct tables_result *result, const struct wire_error *error)
{
    result->code = error->code;
    result->retry_after_us = (int64_t) error->retry_after_ms * 1000;
    snprintf(result->reason, sizeof(result->reason), "%s", error->reason ? error->reason : "");
    snprintf(result->message, sizeof(result->message), "%s", error->message);
}

static void on_closed(struct rpc_client_call *call, const struct rpc_status *status)
{
    struct tables *tables = rpc_client_call_ctx(call);
    enum tables_outcome outcome = TABLES_STORED;
    struct wire_error error;
    struct arena arena;
    bool goes_on = false;

    tables->call = rpc_client_call_unref(call);
    arena_init(&arena, ARENA_BYTES);
    connection_error(status, &arena, &error);
    if (status->code == RPC_FAILED_PRECONDITION && !tables->is_second && error.n_subjects > 0) {
        outcome = TABLES_NO_ROWS;
        goes_on = want(tables, &error);
        tables->is_second = true;
    } else if (status->code != RPC_OK) {
        outcome = outcome_of(status->code);
        note(&tables->result, &error);
    }
    arena_deinit(&arena);
    if (goes_on && begin(tables) == 0)
        return;
    finish(tables, goes_on ? TABLES_FAILED : outcome);
}

static int begin(struct tables *tables)
{
    static const struct rpc_client_handler handler = { .on_message = on_message,
                                                       .on_writable = on_writable,
                                                       .on_closed = on_closed };
    int r = rpc_client_call_new(
        &tables->call, tables->options.channel,
        &(struct rpc_client_call_options){
            .path = PATH, .timeout_us = TIMEOUT_US, .handler = &handler, .ctx = tables });

    if (r)
        return fold(r);
    tables->table = tables->at = 0;
    r = pack_header(tables);
    if (r)
        return pass(r);
    rpc_client_call_read(tables->call);
    /* One message always fits; closed: on_closed comes. */
    if (rpc_client_call_send(tables->call, buf_span(&tables->packed)) == RPC_DONE)
        send_more(tables);
    return 0;
}

int tables_send(struct tables **ret, const struct tables_options *options)
{
    CLEANUP(tables_freep) struct tables *tables = calloc(1, sizeof(*tables));
    int r;

    if (!tables)
        return fault(-ENOMEM, "no memory for an upload of the inventory");
    tables->options = *options;
    r = begin(tables);
    if (r)
        return pass(r);
    *ret = take(tables);
    return 0;
}

struct tables *tables_free(struct tables *tables)
{
    if (!tables)
        return NULL;
    if (tables->call)
        tables->call = rpc_client_call_unref(tables->call);
    buf_deinit(&tables->packed);
    free(tables);
    return NULL;
}
