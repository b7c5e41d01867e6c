/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/crypto/crypto.h"
#include "server/ingest/stream.h"

/* An agent that has uploads open. Under inventories.lock. */
struct uploader {
    uint32_t n_uploads;
    uint64_t n_bytes;     /* charged */
    uint64_t n_submitted; /* the newest upload that went to the store */
    char name[];
};

struct ingest_inventory {
    struct ingest *ingest;
    struct uploader *uploader;
    uint64_t number; /* they ascend as uploads begin */
    struct ingest_inventory_limits limits;
    int64_t future_us;
    struct store_inventory_put *put; /* NULL: no header yet */
    bool *is_sent;                   /* of its tables, wholly */
    uint64_t n_bytes;                /* charged */
    /* The table that is under way; NULL: none. */
    struct store_inventory_put_table *table;
    struct crypto_hash *hash;
    uint32_t n_columns;
    uint64_t n_rows;
    size_t last_row; /* where it begins in the canonical bytes; 0: there is none */
    /* From store() on. */
    void (*done)(void *ctx, int outcome);
    void *ctx;
    struct ingest_problem *problem;
};

static int
refuse(struct ingest_problem *problem, int outcome, const char *field, const char *fmt, ...)
    PRINTF_LIKE(4, 5);

static int
refuse(struct ingest_problem *problem, int outcome, const char *field, const char *fmt, ...)
{
    va_list args;

    snprintf(problem->field, sizeof(problem->field), "%s", field);
    va_start(args, fmt);
    vsnprintf(problem->description, sizeof(problem->description), fmt, args);
    va_end(args);
    return outcome;
}

static int refuse_limit(struct ingest_problem *problem,
                        const char *field,
                        const char *quota,
                        uint64_t is,
                        uint64_t limit,
                        const char *what)
{
    problem->quota = quota;
    return refuse(problem, INGEST_LIMIT, field,
                  "%llu %s, at most %llu (%s): send less, or raise the limit at the hub",
                  (unsigned long long) is, what, (unsigned long long) limit, quota);
}

/* ---- who uploads ---- */

/* With the lock held. Outcomes: INGEST_BUSY. */
static int join(struct ingest *ingest, const char *name, struct uploader **ret)
{
    struct map *uploaders = &ingest->inventories.uploaders;
    struct uploader *uploader = map_get(uploaders, span_of_text(name));

    if (uploader && uploader->n_uploads == INGEST_UPLOADS_PER_AGENT)
        return INGEST_BUSY;
    if (!uploader) {
        uploader = calloc(1, sizeof(*uploader) + strlen(name) + 1);
        if (!uploader)
            return fault(-ENOMEM, "no memory for an inventory");
        memcpy(uploader->name, name, strlen(name) + 1);
        if (map_put(uploaders, span_of_text(uploader->name), uploader) != 0) {
            free(uploader);
            return fault(-ENOMEM, "no memory for an inventory");
        }
    }
    uploader->n_uploads++;
    *ret = uploader;
    return 0;
}

static void leave(struct ingest_inventory *inventory)
{
    struct ingest *ingest = inventory->ingest;
    struct uploader *uploader = inventory->uploader;

    pthread_mutex_lock(&ingest->inventories.lock);
    ensure(uploader->n_bytes >= inventory->n_bytes);
    ensure(ingest->inventories.n_bytes >= inventory->n_bytes);
    uploader->n_bytes -= inventory->n_bytes;
    ingest->inventories.n_bytes -= inventory->n_bytes;
    if (--uploader->n_uploads == 0) {
        ensure(uploader->n_bytes == 0);
        (void) map_remove(&ingest->inventories.uploaders, span_of_text(uploader->name));
        free(uploader);
    }
    pthread_mutex_unlock(&ingest->inventories.lock);
}

/* Whether so many more bytes may be held; the lock is held. Nobody else there: one agent may have
 * all, and a first message always has room. */
static bool has_room(const struct ingest_inventory *inventory, uint64_t n_bytes)
{
    uint64_t limit = inventory->limits.pending_bytes;
    uint64_t all = inventory->ingest->inventories.n_bytes, own = inventory->uploader->n_bytes;

    if (all == 0)
        return true;
    if (all + n_bytes > limit || own + n_bytes > inventory->limits.upload_bytes)
        return false;
    return all == own || own + n_bytes <= limit - (all + n_bytes);
}

static int
charge(struct ingest_inventory *inventory, uint64_t n_bytes, struct ingest_problem *problem)
{
    struct ingest *ingest = inventory->ingest;
    bool may;

    pthread_mutex_lock(&ingest->inventories.lock);
    may = has_room(inventory, n_bytes);
    if (may) {
        ingest->inventories.n_bytes += n_bytes;
        inventory->uploader->n_bytes += n_bytes;
        inventory->n_bytes += n_bytes;
    }
    pthread_mutex_unlock(&ingest->inventories.lock);
    if (may)
        return 0;
    problem->quota = "inventory.pending_size";
    return refuse(problem, INGEST_BUSY, "table",
                  "the hub receives as many inventories as it may hold at once (%llu bytes, "
                  "inventory.pending_size), and those who hold much wait first",
                  (unsigned long long) inventory->limits.pending_bytes);
}

int ingest_inventory_new(struct ingest_inventory **ret, struct ingest *ingest, const char *agent)
{
    struct ingest_inventory *inventory = calloc(1, sizeof(*inventory));
    struct ingest_limits limits;
    int r;

    if (!inventory)
        return fault(-ENOMEM, "no memory for an inventory");
    pthread_mutex_lock(&ingest->inventories.lock);
    r = join(ingest, agent, &inventory->uploader);
    if (!r)
        inventory->number = ++ingest->inventories.n_begun;
    pthread_mutex_unlock(&ingest->inventories.lock);
    if (r) {
        free(inventory);
        return r < 0 ? pass(r) : r;
    }
    ingest_get_limits(ingest, &limits);
    inventory->ingest = ingest_ref(ingest);
    inventory->limits = limits.inventory;
    inventory->future_us = limits.future_us;
    *ret = inventory;
    return 0;
}

struct ingest_inventory *ingest_inventory_free(struct ingest_inventory *inventory)
{
    if (!inventory)
        return NULL;
    ensure(inventory->done == NULL);
    leave(inventory);
    store_inventory_put_free(inventory->put);
    crypto_hash_free(inventory->hash);
    free(inventory->is_sent);
    ingest_unref(inventory->ingest);
    free(inventory);
    return NULL;
}

/* Control characters are data; what prints them takes care. */
static int check_name(const char *name, const char *field, struct ingest_problem *problem)
{
    size_t len = strlen(name);

    if (len == 0 || len > STORE_INVENTORY_NAME_BYTES)
        return refuse(problem, INGEST_BAD_INVENTORY, field, "%zu bytes; a name has 1 to %d", len,
                      STORE_INVENTORY_NAME_BYTES);
    return 0;
}

static int by_text(const void *a, const void *b)
{
    const char *const *x = a, *const *y = b;

    return strcmp(*x, *y);
}

/* A name that is there twice, or NULL. Sorts the copy that it is given. */
static const char *find_double(const char **names, size_t n)
{
    qsort(names, n, sizeof(*names), by_text);
    for (size_t i = 1; i < n; i++)
        if (strcmp(names[i - 1], names[i]) == 0)
            return names[i];
    return NULL;
}

/* ---- the header ---- */

static int check_time(const struct ingest_inventory *inventory,
                      int64_t time_us,
                      wall_us now,
                      struct ingest_problem *problem)
{
    int64_t oldest_us = now.us - inventory->limits.retention_us;

    if (time_us >= oldest_us && time_us <= now.us + inventory->future_us)
        return 0;
    return refuse(problem, INGEST_TIME_OUT_OF_RANGE, "header.time_unix_us",
                  "%lld is %s; the hub's clock says %lld: set the machine's clock",
                  (long long) time_us,
                  time_us < oldest_us ? "older than the hub keeps (inventory.retention)"
                                      : "too far ahead (limits.future)",
                  (long long) now.us);
}

static int
check_hash(const struct ingest_table_hash *hash, size_t i, struct ingest_problem *problem)
{
    char field[64];
    int r;

    snprintf(field, sizeof(field), "header.tables[%zu].name", i);
    r = check_name(hash->name, field, problem);
    if (r)
        return r;
    snprintf(field, sizeof(field), "header.tables[%zu].sha256", i);
    if (hash->sha256.len != CRYPTO_SHA256_BYTES)
        return refuse(problem, INGEST_BAD_INVENTORY, field, "%zu bytes; a SHA-256 has 32",
                      hash->sha256.len);
    return 0;
}

static int check_hashes(const struct ingest_inventory *inventory,
                        const struct ingest_table_hash *tables,
                        size_t n,
                        struct ingest_problem *problem)
{
    const char **names, *twice;
    int r = 0;

    if (n > inventory->limits.tables)
        return refuse_limit(problem, "header.tables", "inventory.tables", n,
                            inventory->limits.tables, "tables");
    for (size_t i = 0; i < n && !r; i++)
        r = check_hash(&tables[i], i, problem);
    if (r)
        return r;
    names = calloc(n + 1, sizeof(*names));
    if (!names)
        return fault(-ENOMEM, "no memory for an inventory");
    for (size_t i = 0; i < n; i++)
        names[i] = tables[i].name;
    twice = find_double(names, n);
    if (twice)
        r = refuse(problem, INGEST_BAD_INVENTORY, "header.tables",
                   "the table %.64s is there twice; names are unique", twice);
    free(names);
    return r;
}

int ingest_inventory_header(struct ingest_inventory *inventory,
                            int64_t time_us,
                            const struct ingest_table_hash *tables,
                            size_t n_tables,
                            wall_us now,
                            struct ingest_problem *ret_problem)
{
    int r;

    *ret_problem = (struct ingest_problem){ 0 };
    if (inventory->put)
        return refuse(ret_problem, INGEST_BAD_INVENTORY, "header",
                      "an upload has one header; begin another upload");
    r = check_time(inventory, time_us, now, ret_problem);
    if (!r)
        r = check_hashes(inventory, tables, n_tables, ret_problem);
    if (!r)
        r = store_inventory_put_new(&inventory->put, n_tables);
    if (r)
        return r < 0 ? pass(r) : r;
    inventory->is_sent = calloc(n_tables + 1, sizeof(*inventory->is_sent));
    if (!inventory->is_sent)
        return fault(-ENOMEM, "no memory for an inventory");
    inventory->put->time_us = time_us;
    inventory->put->received = now;
    for (size_t i = 0; i < n_tables; i++) {
        struct store_inventory_put_table *table = &inventory->put->tables[i];

        snprintf(table->name, sizeof(table->name), "%s", tables[i].name);
        memcpy(table->sha256, tables[i].sha256.data, sizeof(table->sha256));
        table->n_rows = tables[i].n_rows;
    }
    return 0;
}

/* ---- tables ---- */

/* As rows ascend: the last one that is there and a new one. */
static int compare_with_last(const struct ingest_inventory *inventory, const char *const *values)
{
    const uint8_t *at = inventory->table->canonical.data + inventory->last_row;

    for (uint32_t i = 0; i < inventory->n_columns; i++) {
        struct span last, now = span_of_text(values[i]);
        uint32_t len;
        int r;

        memcpy(&len, at, sizeof(len));
        last = span_of(at + sizeof(len), len);
        r = store_content_compare(&last, &now, 1);
        if (r != 0)
            return r;
        at = last.data + len;
    }
    return 0;
}

static int check_row(const struct ingest_inventory *inventory,
                     const struct ingest_table_row *row,
                     size_t i,
                     uint64_t *n_bytes,
                     struct ingest_problem *problem)
{
    uint64_t row_bytes = 0;
    char field[64];

    snprintf(field, sizeof(field), "table.rows[%zu].values", i);
    if (row->n_values != inventory->n_columns)
        return refuse(problem, INGEST_BAD_INVENTORY, field,
                      "%zu values for %u columns of the table %s: as many values as columns; an "
                      "empty text where there is none",
                      row->n_values, inventory->n_columns, inventory->table->name);
    for (size_t k = 0; k < row->n_values; k++) {
        size_t len = strlen(row->values[k]);

        if (len > inventory->limits.value_bytes) {
            snprintf(field, sizeof(field), "table.rows[%zu].values[%zu]", i, k);
            return refuse_limit(problem, field, "inventory.value_size", len,
                                inventory->limits.value_bytes, "bytes");
        }
        row_bytes += sizeof(uint32_t) + len;
    }
    if (row_bytes > STORE_INVENTORY_ROW_BYTES)
        return refuse_limit(problem, field, "inventory_row_bytes", row_bytes,
                            STORE_INVENTORY_ROW_BYTES, "bytes in a row");
    *n_bytes += row_bytes;
    return 0;
}

static int check_columns(const struct ingest_inventory *inventory,
                         const struct ingest_table_part *part,
                         uint64_t *n_bytes,
                         struct ingest_problem *problem)
{
    const char **names, *twice;
    int r = 0;

    if (part->n_columns == 0)
        return refuse(problem, INGEST_BAD_INVENTORY, "table.columns",
                      "the first message of a table names its columns, at least one");
    if (part->n_columns > inventory->limits.columns)
        return refuse_limit(problem, "table.columns", "inventory.columns", part->n_columns,
                            inventory->limits.columns, "columns");
    names = calloc(part->n_columns, sizeof(*names));
    if (!names)
        return fault(-ENOMEM, "no memory for an inventory");
    *n_bytes += sizeof(uint32_t);
    for (size_t i = 0; i < part->n_columns && !r; i++) {
        char field[64];

        snprintf(field, sizeof(field), "table.columns[%zu]", i);
        r = check_name(part->columns[i], field, problem);
        names[i] = part->columns[i];
        *n_bytes += sizeof(uint32_t) + strlen(part->columns[i]);
    }
    twice = r ? NULL : find_double(names, part->n_columns);
    if (twice)
        r = refuse(problem, INGEST_BAD_INVENTORY, "table.columns",
                   "the column %.64s is there twice; names are unique", twice);
    free(names);
    return r;
}

/* The first message of a table. */
static int begin_table(struct ingest_inventory *inventory,
                       const struct ingest_table_part *part,
                       uint64_t *n_bytes,
                       struct ingest_problem *problem)
{
    struct store_inventory_put *put = inventory->put;
    size_t i = 0;
    int r;

    while (i < put->n_tables && strcmp(put->tables[i].name, part->name) != 0)
        i++;
    if (i == put->n_tables)
        return refuse(problem, INGEST_BAD_INVENTORY, "table.name",
                      "the header does not name the table %.64s", part->name);
    if (inventory->is_sent[i])
        return refuse(problem, INGEST_BAD_INVENTORY, "table.name",
                      "the table %.64s was sent already", part->name);
    r = check_columns(inventory, part, n_bytes, problem);
    if (r)
        return r;
    inventory->hash = crypto_hash_new();
    if (!inventory->hash)
        return fault(-ENOMEM, "no memory for an inventory");
    inventory->table = &put->tables[i];
    inventory->n_columns = (uint32_t) part->n_columns;
    inventory->n_rows = 0;
    inventory->last_row = 0;
    return 0;
}

static int go_on(struct ingest_inventory *inventory,
                 const struct ingest_table_part *part,
                 struct ingest_problem *problem)
{
    if (strcmp(inventory->table->name, part->name) != 0)
        return refuse(problem, INGEST_BAD_INVENTORY, "table.name",
                      "the table %s has not ended (is_last), and %.64s begins",
                      inventory->table->name, part->name);
    if (part->n_columns > 0)
        return refuse(problem, INGEST_BAD_INVENTORY, "table.columns",
                      "only the first message of a table names its columns");
    return 0;
}

/* What the message adds is allowed; pending_bytes are charged. */
static int check_size(struct ingest_inventory *inventory,
                      const struct ingest_table_part *part,
                      uint64_t n_bytes,
                      struct ingest_problem *problem)
{
    const struct ingest_inventory_limits *limits = &inventory->limits;

    ensure(inventory->table);
    if (inventory->n_rows + part->n_rows > limits->rows)
        return refuse_limit(problem, "table.rows", "inventory.rows",
                            inventory->n_rows + part->n_rows, limits->rows, "rows");
    if (inventory->table->canonical.len + n_bytes > limits->table_bytes)
        return refuse_limit(problem, "table", "inventory.table_size",
                            inventory->table->canonical.len + n_bytes, limits->table_bytes,
                            "bytes of a table");
    if (inventory->n_bytes + n_bytes > limits->upload_bytes)
        return refuse_limit(problem, "table", "inventory.upload_size", inventory->n_bytes + n_bytes,
                            limits->upload_bytes, "bytes of an upload");
    return charge(inventory, n_bytes, problem);
}

static int put_rows(struct ingest_inventory *inventory,
                    const struct ingest_table_part *part,
                    struct ingest_problem *problem)
{
    struct buf *canonical = &inventory->table->canonical;

    for (size_t i = 0; i < part->n_rows; i++) {
        struct ingest_table_row row = part->row(part->rows, i);
        char field[64];

        if (inventory->last_row > 0 && compare_with_last(inventory, row.values) > 0) {
            snprintf(field, sizeof(field), "table.rows[%zu]", i);
            return refuse(problem, INGEST_BAD_INVENTORY, field,
                          "it is before the row in front of it: rows of a table ascend by their "
                          "values' bytes");
        }
        inventory->last_row = canonical->len;
        for (size_t k = 0; k < row.n_values; k++)
            store_content_put_value(canonical, row.values[k]);
        if (buf_failed(canonical))
            return fault(-ENOMEM, "no memory for an inventory");
    }
    inventory->n_rows += part->n_rows;
    return 0;
}

/* It is what the header says. */
static int end_table(struct ingest_inventory *inventory, struct ingest_problem *problem)
{
    const struct store_inventory_put_table *table = inventory->table;
    size_t i = (size_t) (table - inventory->put->tables);
    uint8_t sha256[CRYPTO_SHA256_BYTES];
    char field[64];

    crypto_hash_finish(inventory->hash, sha256);
    inventory->hash = crypto_hash_free(inventory->hash);
    inventory->table = NULL;
    snprintf(field, sizeof(field), "header.tables[%zu].rows", i);
    if (table->n_rows != inventory->n_rows)
        return refuse(problem, INGEST_BAD_INVENTORY, field,
                      "%llu, and the table %s that was sent has %llu",
                      (unsigned long long) table->n_rows, table->name,
                      (unsigned long long) inventory->n_rows);
    snprintf(field, sizeof(field), "header.tables[%zu].sha256", i);
    if (memcmp(sha256, table->sha256, sizeof(sha256)) != 0)
        return refuse(problem, INGEST_BAD_INVENTORY, field,
                      "the table %s that was sent has another hash: telemetry.proto says over "
                      "which bytes it goes",
                      table->name);
    inventory->is_sent[i] = true;
    return 0;
}

int ingest_inventory_table(struct ingest_inventory *inventory,
                           const struct ingest_table_part *part,
                           struct ingest_problem *ret_problem)
{
    uint64_t n_bytes = 0;
    size_t start;
    bool is_first = inventory->table == NULL;
    int r = 0;

    *ret_problem = (struct ingest_problem){ 0 };
    if (!inventory->put)
        return refuse(ret_problem, INGEST_BAD_INVENTORY, "header",
                      "the first message of an upload is its header");
    r = is_first ? begin_table(inventory, part, &n_bytes, ret_problem)
                 : go_on(inventory, part, ret_problem);
    if (r)
        return r < 0 ? pass(r) : r;
    ensure(inventory->table);
    for (size_t i = 0; i < part->n_rows && !r; i++) {
        struct ingest_table_row row = part->row(part->rows, i);

        r = check_row(inventory, &row, i, &n_bytes, ret_problem);
    }
    if (!r)
        r = check_size(inventory, part, n_bytes, ret_problem);
    if (r)
        return r < 0 ? pass(r) : r;
    start = inventory->table->canonical.len;
    if (is_first)
        store_content_put_columns(&inventory->table->canonical, part->columns, part->n_columns);
    r = put_rows(inventory, part, ret_problem);
    if (r)
        return r < 0 ? pass(r) : r;
    if (buf_failed(&inventory->table->canonical))
        return fault(-ENOMEM, "no memory for an inventory");
    crypto_hash_update(inventory->hash, span_of(inventory->table->canonical.data + start,
                                                inventory->table->canonical.len - start));
    return part->is_last ? end_table(inventory, ret_problem) : 0;
}

int ingest_inventory_end(struct ingest_inventory *inventory, struct ingest_problem *ret_problem)
{
    *ret_problem = (struct ingest_problem){ 0 };
    if (!inventory->put)
        return refuse(ret_problem, INGEST_BAD_INVENTORY, "header",
                      "the upload ended without a header");
    if (inventory->table)
        return refuse(ret_problem, INGEST_BAD_INVENTORY, "table.is_last",
                      "the upload ended within the table %s", inventory->table->name);
    return 0;
}

/* ---- to the store ---- */

static int judge(struct ingest_inventory *inventory, int r)
{
    struct ingest_problem *problem = inventory->problem;

    if (r < 0)
        return INGEST_FAULT;
    switch (r) {
    case STORE_OK:
        return INGEST_OK;
    case STORE_NOT_FOUND:
        return refuse(problem, INGEST_LACKS, "header.tables", "send them too");
    case STORE_TOO_MUCH:
        problem->quota = "inventory.max_size";
        return refuse(problem, INGEST_LIMIT, "table",
                      "all inventories together take what they may (inventory.max_size): keep less "
                      "history (inventory.revisions, inventory.retention), or raise it");
    case STORE_BUSY:
        return refuse(problem, INGEST_BUSY, "", "the hub writes more slowly than it is sent to");
    case STORE_FULL:
        return INGEST_FULL;
    case STORE_STOPPED:
        return INGEST_STOPPED;
    case STORE_DAMAGED:
        return refuse(problem, INGEST_STOPPED, "",
                      "the hub's inventories are damaged on disk: they are set aside when it "
                      "starts again");
    default:
        return INGEST_FAULT;
    }
}

static void on_done(struct store_inventory_put *put, int r)
{
    struct ingest_inventory *inventory = put->ctx;
    void (*done)(void *ctx, int outcome) = inventory->done;

    inventory->done = NULL;
    done(inventory->ctx, judge(inventory, r));
}

/* In the order in which the uploads of an agent began: packing one may take longer than the next.
 */
static int submit(struct ingest_inventory *inventory)
{
    struct ingest *ingest = inventory->ingest;
    struct uploader *uploader = inventory->uploader;
    int r = 0;

    pthread_mutex_lock(&ingest->inventories.lock);
    if (uploader->n_submitted > inventory->number) {
        pthread_mutex_unlock(&ingest->inventories.lock);
        return refuse(inventory->problem, INGEST_TAKEN_OVER, "",
                      "a newer upload of this agent is stored; nothing of this one is");
    }
    r = store_inventory_submit(ingest->store, inventory->put);
    if (!r)
        uploader->n_submitted = inventory->number;
    pthread_mutex_unlock(&ingest->inventories.lock);
    return r ? judge(inventory, r) : INGEST_OK;
}

int ingest_inventory_store(struct ingest_inventory *inventory,
                           uint32_t agent,
                           void (*done)(void *ctx, int outcome),
                           void *ctx,
                           struct ingest_problem *ret_problem)
{
    struct store_inventory_put *put = inventory->put;
    int r;

    ensure(put && !inventory->table && !inventory->done);
    *ret_problem = (struct ingest_problem){ 0 };
    inventory->problem = ret_problem;
    put->agent = agent;
    put->done = on_done;
    put->ctx = inventory;
    r = store_inventory_prepare(inventory->ingest->store, put);
    if (r)
        return judge(inventory, r);
    inventory->done = done;
    inventory->ctx = ctx;
    r = submit(inventory);
    if (r)
        inventory->done = NULL;
    return r;
}

uint64_t ingest_inventory_revision(const struct ingest_inventory *inventory, uint32_t *ret_changed)
{
    *ret_changed = inventory->put->n_changed;
    return inventory->put->revision;
}

size_t
ingest_inventory_missing(const struct ingest_inventory *inventory, const char **names, size_t max)
{
    size_t n = 0;

    for (size_t i = 0; i < inventory->put->n_tables; i++) {
        if (!inventory->put->tables[i].is_missing)
            continue;
        if (n < max)
            names[n] = inventory->put->tables[i].name;
        n++;
    }
    return n;
}
