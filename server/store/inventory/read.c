/* SPDX-License-Identifier: Apache-2.0 */
#include "server/store/inventory/read.h"

#include <errno.h>
#include <stdlib.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "server/store/whole.h"

#define BASES_BYTES (UINT64_C(64) << 20) /* that one question keeps unpacked; one always may */

/* ---- rows ---- */

int inventory_begin(struct inventory *inventory, MDB_txn **ret)
{
    if (!inventory->env || atomic_load(&inventory->is_damaged))
        return STORE_DAMAGED;
    return inventory_check(inventory, mdb_txn_begin(inventory->env, NULL, MDB_RDONLY, ret),
                           "cannot read the inventories");
}

static int get(struct inventory *inventory,
               MDB_txn *txn,
               enum inventory_table table,
               struct span key,
               MDB_val *ret)
{
    MDB_val k = db_val_of(key);

    return inventory_check(inventory, mdb_get(txn, inventory->tables[table], &k, ret),
                           "cannot read the inventories");
}

static struct span key_of(const uint8_t *sha256)
{
    return span_of(sha256, STORE_SHA256_BYTES);
}

int inventory_peek(struct inventory *inventory,
                   MDB_txn *txn,
                   const uint8_t *sha256,
                   struct content_header *ret)
{
    MDB_val value;
    int r = get(inventory, txn, INVENTORY_CONTENTS, key_of(sha256), &value);

    if (r)
        return r;
    *ret = (struct content_header){ 0 };
    memcpy(ret, value.mv_data, value.mv_size < sizeof(*ret) ? value.mv_size : sizeof(*ret));
    return 0;
}

int inventory_refs_get(struct inventory *inventory,
                       MDB_txn *txn,
                       const uint8_t *sha256,
                       struct inventory_refs *ret)
{
    MDB_val value;
    int r = get(inventory, txn, INVENTORY_REFS, key_of(sha256), &value);

    if (r)
        return r;
    return inventory_refs_open(key_of(sha256), db_span(value), ret) ? 0 : STORE_DAMAGED;
}

static int copy(MDB_val value, struct buf *to)
{
    buf_clear(to);
    buf_append(to, value.mv_data, value.mv_size);
    return buf_failed(to) ? fault(-ENOMEM, "no memory for an inventory") : 0;
}

int inventory_copy_content(struct inventory *inventory,
                           MDB_txn *txn,
                           const uint8_t *sha256,
                           struct buf *to)
{
    MDB_val value;
    int r = get(inventory, txn, INVENTORY_CONTENTS, key_of(sha256), &value);

    return r ? r : pass(copy(value, to));
}

int inventory_make_base(struct inventory *inventory,
                        const uint8_t *sha256,
                        struct span packed,
                        struct content_work *work,
                        struct content_base **ret)
{
    CLEANUP(buf_deinit) struct buf canonical = { 0 };
    struct content content;
    int r = content_open(packed, &content);

    if (r == CONTENT_OK && content_has_base(&content))
        r = CONTENT_BAD; /* nothing is packed against such a one */
    if (r == CONTENT_OK)
        r = content_unpack(&content, NULL, work, &canonical);
    if (r == CONTENT_BAD) {
        inventory_found_damaged(inventory, sha256);
        return STORE_DAMAGED;
    }
    return r ? pass(r) : pass(content_base_new(ret, sha256, &canonical));
}

/* ---- records of revisions ---- */

static bool is_of(MDB_val key, uint32_t agent)
{
    return key.mv_size == INVENTORY_REVISION_KEY_BYTES &&
           db_u32_of(db_val(key.mv_data, 4)) == agent;
}

static uint64_t revision_of(MDB_val key)
{
    return db_u64_of(db_val((const uint8_t *) key.mv_data + 4, 8));
}

static int open_cursor(struct inventory *inventory, MDB_txn *txn, MDB_cursor **ret)
{
    return inventory_check(inventory,
                           mdb_cursor_open(txn, inventory->tables[INVENTORY_REVISIONS_TABLE], ret),
                           "cannot read the inventories");
}

/* The row in front of a key. The answer is LMDB's. */
static int
seek_before(MDB_cursor *cursor, uint32_t agent, uint64_t revision, MDB_val *key, MDB_val *value)
{
    uint8_t bytes[INVENTORY_REVISION_KEY_BYTES];
    int rc;

    inventory_revision_key(bytes, agent, revision);
    *key = db_val(bytes, sizeof(bytes));
    rc = mdb_cursor_get(cursor, key, value, MDB_SET_RANGE);
    if (rc == MDB_NOTFOUND)
        rc = mdb_cursor_get(cursor, key, value, MDB_LAST);
    else if (rc == 0)
        rc = mdb_cursor_get(cursor, key, value, MDB_PREV);
    return rc || is_of(*key, agent) ? rc : MDB_NOTFOUND;
}

int inventory_copy_before(struct inventory *inventory,
                          MDB_txn *txn,
                          uint32_t agent,
                          uint64_t revision,
                          uint8_t ret_key[static INVENTORY_REVISION_KEY_BYTES],
                          struct buf *to)
{
    CLEANUP(db_cursor_closep) MDB_cursor *cursor = NULL;
    MDB_val key, value;
    int r = open_cursor(inventory, txn, &cursor);

    if (!r)
        r = inventory_check(inventory, seek_before(cursor, agent, revision, &key, &value),
                            "cannot read the inventories");
    if (r)
        return r;
    memcpy(ret_key, key.mv_data, INVENTORY_REVISION_KEY_BYTES);
    return pass(copy(value, to));
}

int inventory_oldest(struct inventory *inventory,
                     MDB_txn *txn,
                     uint32_t agent,
                     struct inventory_span *ret,
                     struct buf *to)
{
    CLEANUP(db_cursor_closep) MDB_cursor *cursor = NULL;
    struct inventory_span span = { .replaced_us = INT64_MAX };
    struct inventory_revision header;
    uint8_t bytes[INVENTORY_REVISION_KEY_BYTES];
    MDB_val key, value;
    int rc, r = open_cursor(inventory, txn, &cursor);

    if (r)
        return r;
    inventory_revision_key(bytes, agent, 0);
    key = db_val(bytes, sizeof(bytes));
    rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    if (rc || !is_of(key, agent))
        return inventory_check(inventory, rc ? rc : MDB_NOTFOUND, "cannot read the inventories");
    span.first = span.last = revision_of(key);
    memcpy(span.first_key, key.mv_data, sizeof(span.first_key));
    buf_clear(to);
    if (inventory_record_open(db_span(key), db_span(value), &header)) {
        r = copy(value, to);
        if (r)
            return pass(r);
    }
    rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    if (!rc && is_of(key, agent)) {
        /* One that is damaged goes by number alone. */
        if (inventory_record_open(db_span(key), db_span(value), &header))
            span.replaced_us = header.received_us;
        rc = seek_before(cursor, agent, UINT64_MAX, &key, &value);
        if (!rc)
            span.last = revision_of(key);
    }
    if (rc && rc != MDB_NOTFOUND)
        return inventory_check(inventory, rc, "cannot read the inventories");
    *ret = span;
    return 0;
}

int inventory_next_agent(struct inventory *inventory, MDB_txn *txn, uint32_t from, uint32_t *ret)
{
    CLEANUP(db_cursor_closep) MDB_cursor *cursor = NULL;
    uint8_t bytes[INVENTORY_REVISION_KEY_BYTES];
    MDB_val key, value;
    int rc, r = open_cursor(inventory, txn, &cursor);

    if (r)
        return r;
    inventory_revision_key(bytes, from, 0);
    key = db_val(bytes, sizeof(bytes));
    rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    if (rc && rc != MDB_NOTFOUND)
        return inventory_check(inventory, rc, "cannot read the inventories");
    *ret = rc == 0 && key.mv_size == sizeof(bytes) ? db_u32_of(db_val(key.mv_data, 4)) : 0;
    return 0;
}

/* ---- revisions, told ---- */

static bool tell_entries(struct span record, struct arena *arena, struct store_inventory *to)
{
    struct inventory_entry entry;
    size_t at = 0;

    while (inventory_record_next(record, &at, &entry)) {
        const char *name = arena_copy(arena, entry.name);

        if (!name)
            return false;
        if (entry.flags == INVENTORY_REMOVED) {
            to->removed[to->n_removed++] = name;
            continue;
        }
        struct store_inventory_table *table = &to->tables[to->n_tables++];

        table->name = name;
        memcpy(table->sha256, entry.sha256, sizeof(table->sha256));
        table->n_rows = entry.n_rows;
        table->is_changed = entry.flags == INVENTORY_CHANGED;
    }
    return true;
}

static wall_us
confirmed_of(struct inventory *inventory, MDB_txn *txn, const struct store_inventory *told)
{
    struct inventory_agent agent;
    uint8_t key[4];
    MDB_val value;

    db_key_u32(key, told->agent);
    if (get(inventory, txn, INVENTORY_AGENTS, span_of(key, sizeof(key)), &value) ||
        !inventory_agent_open(span_of(key, sizeof(key)), db_span(value), &agent))
        return (wall_us){ 0 };
    return agent.revision == told->revision ? (wall_us){ agent.confirmed_us } : (wall_us){ 0 };
}

static int tell(struct inventory *inventory,
                MDB_txn *txn,
                const uint8_t *key,
                struct span record,
                struct arena *arena,
                struct store_inventory *ret)
{
    struct inventory_revision header;
    struct store_inventory told = { .agent = db_u32_of(db_val(key, 4)),
                                    .revision = db_u64_of(db_val(key + 4, 8)) };

    if (!inventory_record_open(span_of(key, INVENTORY_REVISION_KEY_BYTES), record, &header))
        return STORE_DAMAGED;
    told.time.us = header.time_us;
    told.received.us = header.received_us;
    told.tables = arena_alloc_array(arena, header.n_tables + 1, sizeof(*told.tables));
    told.removed = arena_alloc_array(arena, header.n_removed + 1, sizeof(*told.removed));
    if (!told.tables || !told.removed || !tell_entries(record, arena, &told))
        return fault(-ENOMEM, "no room for a revision");
    told.confirmed = confirmed_of(inventory, txn, &told);
    *ret = told;
    return 0;
}

/* The newest below `revision` whose time is at or before at_us. */
static int find(struct store *store,
                uint32_t agent,
                uint64_t revision,
                int64_t at_us,
                struct arena *arena,
                struct store_inventory *ret)
{
    CLEANUP(db_txn_abortp) MDB_txn *txn = NULL;
    CLEANUP(buf_deinit) struct buf record = { 0 };
    uint8_t key[INVENTORY_REVISION_KEY_BYTES];
    int r;

    if (!agents_known(&store->agents, agent))
        return STORE_NOT_FOUND;
    r = inventory_begin(&store->inventory, &txn);
    while (!r) {
        struct inventory_revision header;

        r = inventory_copy_before(&store->inventory, txn, agent, revision, key, &record);
        if (r)
            break;
        if (!inventory_record_open(span_of(key, sizeof(key)), buf_span(&record), &header))
            return STORE_DAMAGED;
        if (header.time_us <= at_us)
            return tell(&store->inventory, txn, key, buf_span(&record), arena, ret);
        revision = db_u64_of(db_val(key + 4, 8));
    }
    return r < 0 ? pass(r) : r;
}

int store_inventory_get(struct store *store,
                        uint32_t agent,
                        int64_t at_us,
                        struct arena *arena,
                        struct store_inventory *ret)
{
    return find(store, agent, UINT64_MAX, at_us, arena, ret);
}

int store_inventory_before(struct store *store,
                           uint32_t agent,
                           uint64_t revision,
                           struct arena *arena,
                           struct store_inventory *ret)
{
    return find(store, agent, revision, INT64_MAX, arena, ret);
}

int store_inventory_revision(struct store *store,
                             uint32_t agent,
                             uint64_t revision,
                             struct arena *arena,
                             struct store_inventory *ret)
{
    CLEANUP(db_txn_abortp) MDB_txn *txn = NULL;
    uint8_t key[INVENTORY_REVISION_KEY_BYTES];
    MDB_val value;
    int r;

    if (!agents_known(&store->agents, agent))
        return STORE_NOT_FOUND;
    r = inventory_begin(&store->inventory, &txn);
    inventory_revision_key(key, agent, revision);
    if (!r)
        r = get(&store->inventory, txn, INVENTORY_REVISIONS_TABLE, span_of(key, sizeof(key)),
                &value);
    if (r)
        return r < 0 ? pass(r) : r;
    r = tell(&store->inventory, txn, key, db_span(value), arena, ret);
    return r < 0 ? pass(r) : r;
}

/* ---- contents ---- */

struct store_contents {
    struct inventory *inventory;
    struct content_work work;
    struct buf packed, base_packed, rows;
    struct content content;
    uint8_t sha256[STORE_SHA256_BYTES]; /* the content's */
    struct span *spans;                 /* columns, then the values of a row */
    uint32_t n_spans;
    struct content_base **bases;
    struct content_base *base; /* of the content; NULL: none */
    size_t n_bases, capacity;
    uint64_t bases_bytes, read_bytes;
};

int store_contents_new(struct store_contents **ret, struct store *store)
{
    struct store_contents *contents = calloc(1, sizeof(*contents));

    if (!contents)
        return fault(-ENOMEM, "no memory for inventories");
    contents->inventory = &store->inventory;
    *ret = contents;
    return 0;
}

static void free_bases(struct store_contents *contents)
{
    for (size_t i = 0; i < contents->n_bases; i++)
        content_base_free(contents->bases[i]);
    contents->n_bases = 0;
    contents->bases_bytes = 0;
    contents->base = NULL;
}

struct store_contents *store_contents_free(struct store_contents *contents)
{
    if (!contents)
        return NULL;
    free_bases(contents);
    free(contents->bases);
    free(contents->spans);
    buf_deinit(&contents->packed);
    buf_deinit(&contents->base_packed);
    buf_deinit(&contents->rows);
    content_work_deinit(&contents->work);
    free(contents);
    return NULL;
}

uint64_t store_contents_read_bytes(const struct store_contents *contents)
{
    return contents->read_bytes;
}

static int keep_base(struct store_contents *contents, struct content_base *take_base)
{
    size_t n_bytes = content_base_bytes(take_base);

    if (contents->bases_bytes + n_bytes > BASES_BYTES)
        free_bases(contents);
    if (contents->n_bases == contents->capacity) {
        size_t capacity = 2 * contents->capacity + 16;
        struct content_base **grown = realloc(contents->bases, capacity * sizeof(*contents->bases));

        if (!grown) {
            content_base_free(take_base);
            return fault(-ENOMEM, "no memory for inventories");
        }
        contents->bases = grown;
        contents->capacity = capacity;
    }
    contents->bases[contents->n_bases++] = take_base;
    contents->bases_bytes += n_bytes;
    contents->read_bytes += n_bytes;
    contents->base = take_base;
    return 0;
}

static int find_base(struct store_contents *contents, MDB_txn *txn, const uint8_t *sha256)
{
    struct content_base *base = NULL;
    int r;

    for (size_t i = 0; i < contents->n_bases; i++) {
        if (memcmp(content_base_sha256(contents->bases[i]), sha256, STORE_SHA256_BYTES) == 0) {
            contents->base = contents->bases[i];
            return 0;
        }
    }
    r = inventory_copy_content(contents->inventory, txn, sha256, &contents->base_packed);
    if (!r)
        r = inventory_make_base(contents->inventory, sha256, buf_span(&contents->base_packed),
                                &contents->work, &base);
    if (r)
        return r == STORE_NOT_FOUND ? STORE_DAMAGED : r;
    return pass(keep_base(contents, base));
}

static int make_spans(struct store_contents *contents)
{
    uint32_t n = contents->content.header.n_columns;

    if (contents->n_spans < 2 * n) {
        free(contents->spans);
        contents->n_spans = 0;
        contents->spans = calloc((size_t) 2 * n, sizeof(*contents->spans));
        if (!contents->spans)
            return fault(-ENOMEM, "no memory for the columns of a table");
        contents->n_spans = 2 * n;
    }
    ensure(content_columns(contents->content.head, contents->spans, n));
    return 0;
}

/* Outcomes: STORE_DAMAGED, for the caller to remember. */
static int open_content(struct store_contents *contents, MDB_txn *txn)
{
    if (content_open(buf_span(&contents->packed), &contents->content) != CONTENT_OK)
        return STORE_DAMAGED;
    contents->base = NULL;
    if (content_has_base(&contents->content)) {
        int r = find_base(contents, txn, contents->content.header.base);

        if (r)
            return r < 0 ? pass(r) : r;
    }
    return pass(make_spans(contents));
}

int store_contents_open(struct store_contents *contents,
                        const uint8_t sha256[STORE_SHA256_BYTES],
                        struct store_content *ret)
{
    CLEANUP(db_txn_abortp) MDB_txn *txn = NULL;
    struct inventory *inventory = contents->inventory;
    int r = inventory_begin(inventory, &txn);

    if (!r)
        r = inventory_copy_content(inventory, txn, sha256, &contents->packed);
    if (r)
        return r < 0 ? pass(r) : r;
    r = open_content(contents, txn);
    if (r == STORE_DAMAGED)
        inventory_found_damaged(inventory, sha256);
    if (r)
        return r < 0 ? pass(r) : r;
    memcpy(contents->sha256, sha256, sizeof(contents->sha256));
    *ret = (struct store_content){
        .columns = contents->spans,
        .n_columns = contents->content.header.n_columns,
        .n_rows = contents->content.header.n_rows,
        .n_bytes = contents->content.header.n_bytes,
    };
    return 0;
}

struct walk {
    uint64_t from_row;
    bool (*fn)(void *ctx, uint64_t row, const struct span *values);
    void *ctx;
    bool is_enough; /* fn says so */
};

/* Outcomes: STORE_DAMAGED. */
static int walk_block(struct store_contents *contents, uint32_t i, struct walk *walk)
{
    const struct content_header *header = &contents->content.header;
    struct content_block block = content_block_of(&contents->content, i);
    uint64_t row = block.first_row, end = header->n_rows;
    struct content_rows rows = { .n_columns = header->n_columns };
    struct span *values = contents->spans + header->n_columns;
    int r;

    if (i + 1 < header->n_blocks)
        end = content_block_of(&contents->content, i + 1).first_row;
    if (end <= walk->from_row)
        return 0;
    buf_clear(&contents->rows);
    r = content_unpack_block(&contents->content, i, contents->base, &contents->work,
                             &contents->rows);
    if (r)
        return r == CONTENT_BAD ? STORE_DAMAGED : pass(r);
    contents->read_bytes += contents->rows.len;
    rows.rest = buf_span(&contents->rows);
    while (!walk->is_enough && row < end && content_next_row(&rows, values)) {
        if (row >= walk->from_row)
            walk->is_enough = !walk->fn(walk->ctx, row, values);
        row++;
    }
    return walk->is_enough || (row == end && rows.rest.len == 0) ? 0 : STORE_DAMAGED;
}

int store_contents_rows(struct store_contents *contents,
                        struct span prefix,
                        uint64_t from_row,
                        bool (*fn)(void *ctx, uint64_t row, const struct span *values),
                        void *ctx)
{
    struct walk walk = { .from_row = from_row, .fn = fn, .ctx = ctx };
    uint32_t i, end;
    int r = 0;

    content_range(&contents->content, prefix, &i, &end);
    for (; i < end && !r && !walk.is_enough; i++)
        r = walk_block(contents, i, &walk);
    if (r == STORE_DAMAGED)
        inventory_found_damaged(contents->inventory, contents->sha256);
    return r < 0 ? pass(r) : r;
}

/* ---- canonical contents, for who makes them ---- */

void store_content_put_columns(struct buf *to, const char *const *names, size_t n)
{
    content_put_columns(to, names, n);
}

void store_content_put_value(struct buf *to, const char *value)
{
    content_put_value(to, value);
}

int store_content_compare(const struct span *a, const struct span *b, uint32_t n_columns)
{
    return content_compare(a, b, n_columns);
}
