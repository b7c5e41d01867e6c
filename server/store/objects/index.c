/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>

#include "server/store/objects/objects.h"

const char *const objects_table_names[OBJECTS_N_TABLES] = {
    [OBJECTS_META] = "meta",         [OBJECTS_UPLOADS] = "uploads", [OBJECTS_KEYS] = "keys",
    [OBJECTS_CONTENTS] = "contents", [OBJECTS_BLOCKS] = "blocks",   [OBJECTS_DIGESTS] = "digests",
    [OBJECTS_HOLDERS] = "holders",
};

static struct span span_of_key(const struct object_key *key)
{
    return span_of(key->bytes, key->len);
}

static struct span span_of_u64(uint8_t to[static 8], uint64_t n)
{
    db_key_u64(to, n);
    return span_of(to, 8);
}

static uint64_t value_u64(MDB_val value)
{
    uint64_t n = 0;

    if (value.mv_size >= sizeof(n))
        memcpy(&n, value.mv_data, sizeof(n));
    return n;
}

int index_get(struct objects *objects,
              MDB_txn *txn,
              enum objects_table table,
              struct span key,
              MDB_val *ret)
{
    MDB_val name = db_val_of(key);

    return mdb_get(txn, objects->tables[table], &name, ret);
}

int index_put(struct objects *objects,
              MDB_txn *txn,
              enum objects_table table,
              struct span key,
              struct span value)
{
    MDB_val name = db_val_of(key), data = db_val_of(value);

    return mdb_put(txn, objects->tables[table], &name, &data, 0);
}

static int
index_delete(struct objects *objects, MDB_txn *txn, enum objects_table table, struct span key)
{
    MDB_val name = db_val_of(key);
    int rc = mdb_del(txn, objects->tables[table], &name, NULL);

    return rc == MDB_NOTFOUND ? 0 : rc;
}

/* What leads to another number by now stays. */
static int delete_if_leads_to(struct objects *objects,
                              MDB_txn *txn,
                              enum objects_table table,
                              struct span key,
                              uint64_t number)
{
    MDB_val value;
    int rc = index_get(objects, txn, table, key, &value);

    if (rc || value_u64(value) != number)
        return rc == MDB_NOTFOUND ? 0 : rc;
    return index_delete(objects, txn, table, key);
}

int index_put_next(struct objects *objects, MDB_txn *txn)
{
    const uint64_t next[2] = { objects->writer.next_number, objects->writer.next_content };

    return index_put(objects, txn, OBJECTS_META, span_of_text("next"), span_of(next, sizeof(next)));
}

/* What it says of itself; an empty one is made into one of ours. */
static int read_meta(struct objects *objects, MDB_txn *txn)
{
    const uint32_t format = OBJECTS_FORMAT;
    MDB_val value;
    int rc = index_get(objects, txn, OBJECTS_META, span_of_text("format"), &value);

    if (rc == MDB_NOTFOUND) {
        objects->writer.next_number = objects->writer.next_content = 1;
        rc = index_put(objects, txn, OBJECTS_META, span_of_text("format"),
                       span_of(&format, sizeof(format)));
        return rc ? rc : index_put_next(objects, txn);
    }
    if (rc)
        return rc;
    if (value.mv_size != sizeof(format) || memcmp(value.mv_data, &format, sizeof(format)) != 0)
        return MDB_VERSION_MISMATCH;
    rc = index_get(objects, txn, OBJECTS_META, span_of_text("next"), &value);
    if (rc || value.mv_size != 16)
        return rc && rc != MDB_NOTFOUND ? rc : MDB_CORRUPTED;
    objects->writer.next_number = value_u64(value);
    value.mv_data = (uint8_t *) value.mv_data + 8;
    value.mv_size = 8;
    objects->writer.next_content = value_u64(value);
    return 0;
}

int index_open(struct objects *objects)
{
    CLEANUP(db_txn_abortp) MDB_txn *txn = NULL;
    char path[OBJECTS_PATH_BYTES];
    int rc;

    snprintf(path, sizeof(path), "%s/index", objects->directory);
    rc = db_env_open(&objects->env, path, OBJECTS_MAP_BYTES, OBJECTS_N_TABLES);
    if (!rc)
        rc = mdb_txn_begin(objects->env, NULL, 0, &txn);
    for (int i = 0; !rc && i < OBJECTS_N_TABLES; i++)
        rc = mdb_dbi_open(txn, objects_table_names[i], MDB_CREATE, &objects->tables[i]);
    if (!rc)
        rc = read_meta(objects, txn);
    return rc ? rc : mdb_txn_commit(take(txn));
}

/* ---- uploads ---- */

int index_get_row(struct objects *objects, MDB_txn *txn, uint64_t number, struct object_row *ret)
{
    uint8_t key[8];
    MDB_val value;
    int rc = index_get(objects, txn, OBJECTS_UPLOADS, span_of_u64(key, number), &value);

    if (rc)
        return rc;
    return object_row_read(number, db_span(value), ret) ? 0 : MDB_CORRUPTED;
}

int index_put_row(struct objects *objects, MDB_txn *txn, const struct object_row *row)
{
    const struct object_key key = object_key_of(&row->object),
                            holder = object_holder_key(row->content, row->object.number);
    struct buf *value = &objects->writer.scratch;
    uint8_t number[8];
    int rc;

    buf_clear(value);
    object_row_write(row, value);
    if (buf_failed(value))
        return ENOMEM;
    rc = index_put(objects, txn, OBJECTS_UPLOADS, span_of_u64(number, row->object.number),
                   buf_span(value));
    if (!rc)
        rc = index_put(objects, txn, OBJECTS_KEYS, span_of_key(&key),
                       span_of(&row->object.number, 8));
    if (!rc && row->object.is_complete)
        rc = index_put(objects, txn, OBJECTS_HOLDERS, span_of_key(&holder),
                       span_of(&row->object.agent, 4));
    return rc;
}

int index_remove_row(struct objects *objects,
                     MDB_txn *txn,
                     const struct object_row *row,
                     uint64_t *ret_content)
{
    const struct object_key key = object_key_of(&row->object),
                            holder = object_holder_key(row->content, row->object.number);
    uint8_t number[8];
    int rc = index_delete(objects, txn, OBJECTS_UPLOADS, span_of_u64(number, row->object.number));

    *ret_content = 0;
    if (!rc)
        rc = delete_if_leads_to(objects, txn, OBJECTS_KEYS, span_of_key(&key), row->object.number);
    if (!rc && row->object.is_complete) {
        rc = index_delete(objects, txn, OBJECTS_HOLDERS, span_of_key(&holder));
        if (!rc)
            rc = index_find_holder(objects, txn, row->content, 0);
        if (rc == 0)
            return 0;
        if (rc != MDB_NOTFOUND)
            return rc;
        rc = 0;
    }
    if (rc || row->content == 0)
        return rc;
    *ret_content = row->content;
    return index_remove_content(objects, txn, row->content);
}

/* ---- contents ---- */

int index_get_content(struct objects *objects,
                      MDB_txn *txn,
                      uint64_t content,
                      struct object_content *ret)
{
    uint8_t key[8];
    MDB_val value;
    int rc = index_get(objects, txn, OBJECTS_CONTENTS, span_of_u64(key, content), &value);

    if (rc)
        return rc;
    return object_content_read(db_span(value), ret) ? 0 : MDB_CORRUPTED;
}

int index_put_content(struct objects *objects,
                      MDB_txn *txn,
                      uint64_t content,
                      const struct object_content *row)
{
    const struct object_key digest = object_digest_key(row->sha256, row->size);
    uint8_t key[8], value[OBJECT_CONTENT_BYTES];
    int rc;

    object_content_write(row, value);
    rc = index_put(objects, txn, OBJECTS_CONTENTS, span_of_u64(key, content),
                   span_of(value, sizeof(value)));
    if (!rc && row->is_complete)
        rc = index_put(objects, txn, OBJECTS_DIGESTS, span_of_key(&digest), span_of(&content, 8));
    return rc;
}

int index_find_digest(struct objects *objects,
                      MDB_txn *txn,
                      const uint8_t sha256[static STORE_OBJECT_SHA256_BYTES],
                      uint64_t size,
                      uint64_t *ret)
{
    const struct object_key key = object_digest_key(sha256, size);
    MDB_val value;
    int rc = index_get(objects, txn, OBJECTS_DIGESTS, span_of_key(&key), &value);

    if (!rc)
        *ret = value_u64(value);
    return rc;
}

int index_find_holder(struct objects *objects, MDB_txn *txn, uint64_t content, uint32_t agent)
{
    CLEANUP(db_cursor_closep) MDB_cursor *cursor = NULL;
    const struct object_key from = object_holder_key(content, 0);
    MDB_val key = db_val(from.bytes, from.len), value;
    int rc = mdb_cursor_open(txn, objects->tables[OBJECTS_HOLDERS], &cursor);

    if (!rc)
        rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    while (!rc) {
        if (key.mv_size != from.len || memcmp(key.mv_data, from.bytes, 8) != 0)
            return MDB_NOTFOUND;
        if (agent == 0 || (value.mv_size == 4 && memcmp(value.mv_data, &agent, 4) == 0))
            return 0;
        rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    return rc;
}

static int remove_blocks(struct objects *objects, MDB_txn *txn, uint64_t content)
{
    CLEANUP(db_cursor_closep) MDB_cursor *cursor = NULL;
    const struct object_key from = object_block_key(content, 0);
    MDB_val key = db_val(from.bytes, from.len), value;
    int rc = mdb_cursor_open(txn, objects->tables[OBJECTS_BLOCKS], &cursor);

    if (!rc)
        rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    while (!rc && key.mv_size == from.len && memcmp(key.mv_data, from.bytes, 8) == 0) {
        rc = mdb_cursor_del(cursor, 0);
        if (!rc)
            rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    return rc == MDB_NOTFOUND ? 0 : rc;
}

int index_remove_content(struct objects *objects, MDB_txn *txn, uint64_t content)
{
    struct object_content row;
    uint8_t name[8];
    int rc = index_get_content(objects, txn, content, &row);

    if (rc && rc != MDB_NOTFOUND)
        return rc;
    if (!rc && row.is_complete) {
        const struct object_key digest = object_digest_key(row.sha256, row.size);

        rc = delete_if_leads_to(objects, txn, OBJECTS_DIGESTS, span_of_key(&digest), content);
        if (rc)
            return rc;
    }
    rc = index_delete(objects, txn, OBJECTS_CONTENTS, span_of_u64(name, content));
    return rc ? rc : remove_blocks(objects, txn, content);
}
