/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/crc32c.h"
#include "common/base/fault.h"
#include "common/base/file.h"
#include "common/log/log.h"
#include "server/store/objects/objects.h"
#include "server/store/whole.h"

static int begin_read(struct objects *objects, MDB_txn **ret)
{
    return pass(db_check(mdb_txn_begin(objects->env, NULL, MDB_RDONLY, ret),
                         "cannot read the index of uploads"));
}

static int copy_text(struct arena *arena, const char **text)
{
    *text = arena_copy_text(arena, *text);
    return *text ? 0 : fault(-ENOMEM, "no room for an upload's texts");
}

static int copy_object(const struct object_row *row, struct arena *arena, struct store_object *ret)
{
    struct store_attribute *labels =
        arena_alloc_array(arena, row->object.n_labels + 1, sizeof(*labels));
    int r;

    *ret = row->object;
    ret->labels = labels;
    if (!labels)
        return fault(-ENOMEM, "no room for an upload's labels");
    r = copy_text(arena, &ret->name);
    if (!r)
        r = copy_text(arena, &ret->type);
    for (size_t i = 0; i < ret->n_labels && !r; i++) {
        labels[i] = row->labels[i];
        r = copy_text(arena, &labels[i].key);
        if (!r)
            r = copy_text(arena, &labels[i].value);
    }
    return pass(r);
}

/* Its agent was forgotten: it goes with the next sweep. */
static bool is_of_nobody(struct store *store, const struct store_object *object)
{
    struct agent *agent = agents_get(&store->agents, object->agent);

    return agent && atomic_load(&agent->is_forgotten);
}

int store_object_get(struct store *store,
                     uint64_t number,
                     struct arena *arena,
                     struct store_object *ret)
{
    CLEANUP(db_txn_abortp) MDB_txn *txn = NULL;
    struct object_row row;
    int r = begin_read(&store->objects, &txn);

    if (r)
        return fold(r);
    r = db_check(index_get_row(&store->objects, txn, number, &row), "cannot read an upload");
    if (!r && is_of_nobody(store, &row.object))
        return STORE_NOT_FOUND;
    return r ? pass(r) : pass(copy_object(&row, arena, ret));
}

int store_object_each(struct store *store,
                      uint64_t below,
                      bool (*fn)(void *ctx, const struct store_object *object),
                      void *ctx)
{
    CLEANUP(db_txn_abortp) MDB_txn *txn = NULL;
    CLEANUP(db_cursor_closep) MDB_cursor *cursor = NULL;
    struct objects *objects = &store->objects;
    uint8_t from[8];
    MDB_val key = db_val(from, sizeof(from)), value;
    int rc, r = begin_read(objects, &txn);

    if (r)
        return fold(r);
    db_key_u64(from, below);
    rc = mdb_cursor_open(txn, objects->tables[OBJECTS_UPLOADS], &cursor);
    if (!rc)
        rc = mdb_cursor_get(cursor, &key, &value, below ? MDB_SET_RANGE : MDB_LAST);
    if (below)
        rc = mdb_cursor_get(cursor, &key, &value, rc == MDB_NOTFOUND ? MDB_LAST : MDB_PREV);
    while (!rc) {
        struct object_row row;

        /* One that cannot be read is named by verify. */
        if (object_row_read(db_u64_of(key), db_span(value), &row) &&
            !is_of_nobody(store, &row.object) && !fn(ctx, &row.object))
            return 0;
        rc = mdb_cursor_get(cursor, &key, &value, MDB_PREV);
    }
    return rc == MDB_NOTFOUND ? 0 : fold(db_check(rc, "cannot read the index of uploads"));
}

/* ---- content ---- */

struct reading {
    struct objects *objects;
    uint64_t number, content, size;
    int fd;
    uint32_t *crcs; /* of the blocks from the first one on */
    size_t n_crcs;
};

static void reading_deinit(struct reading *reading)
{
    fd_closep(&reading->fd);
    free(reading->crcs);
}

/* With the lock held. */
static bool is_marked(const struct objects *objects, uint64_t content)
{
    const struct buf *damaged = &objects->stats.damaged;

    for (size_t at = 0; at < damaged->len; at += sizeof(content))
        if (memcmp(damaged->data + at, &content, sizeof(content)) == 0)
            return true;
    return false;
}

bool objects_is_damaged(struct objects *objects, uint64_t content, uint64_t size)
{
    char path[OBJECTS_PATH_BYTES];
    struct stat st;
    bool is_damaged;

    pthread_mutex_lock(&objects->stats.lock);
    is_damaged = is_marked(objects, content);
    pthread_mutex_unlock(&objects->stats.lock);
    if (is_damaged || size == 0) /* an empty one has no file */
        return is_damaged;
    objects_path_of(objects, content, path);
    if (lstat(path, &st) < 0)
        return errno == ENOENT;
    return !S_ISREG(st.st_mode) || (uint64_t) st.st_size < size;
}

static int damaged(const struct reading *reading, uint64_t block, const char *why)
{
    struct buf *marks = &reading->objects->stats.damaged;

    log_event(LOG_ERROR, "upload_damaged", LOG_U("number", reading->number),
              LOG_U("content", reading->content), LOG_U("offset", block * STORE_OBJECT_BLOCK_BYTES),
              LOG_S("why", why));
    pthread_mutex_lock(&reading->objects->stats.lock);
    reading->objects->stats.figures.n_damaged++;
    if (!is_marked(reading->objects, reading->content) &&
        marks->len < OBJECTS_DAMAGED * sizeof(reading->content))
        buf_append(marks, &reading->content, sizeof(reading->content));
    pthread_mutex_unlock(&reading->objects->stats.lock);
    return STORE_DAMAGED;
}

/* The checksums of these blocks. */
static int read_crcs(struct reading *reading, MDB_txn *txn, uint64_t first, size_t n)
{
    reading->crcs = calloc(n + 1, sizeof(*reading->crcs));
    reading->n_crcs = n;
    if (!reading->crcs)
        return fault(-ENOMEM, "no memory for checksums");
    for (size_t i = 0; i < n; i++) {
        const struct object_key key = object_block_key(reading->content, (uint32_t) (first + i));
        MDB_val value;
        int rc =
            index_get(reading->objects, txn, OBJECTS_BLOCKS, span_of(key.bytes, key.len), &value);

        if (rc && rc != MDB_NOTFOUND)
            return fold(db_check(rc, "cannot read the index of uploads"));
        if (rc || value.mv_size != sizeof(uint32_t))
            return damaged(reading, first + i, "the index has no checksum of it");
        memcpy(&reading->crcs[i], value.mv_data, sizeof(uint32_t));
    }
    return 0;
}

/* The transaction ends with this: nothing of the file is read within it. */
static int
look_up(struct reading *reading, uint64_t offset, size_t len, uint64_t *ret_first, size_t *ret_len)
{
    CLEANUP(db_txn_abortp) MDB_txn *txn = NULL;
    struct object_row row;
    uint64_t last;
    int r = begin_read(reading->objects, &txn);

    if (!r)
        r = db_check(index_get_row(reading->objects, txn, reading->number, &row),
                     "cannot read an upload");
    if (!r && is_of_nobody(reading->objects->store, &row.object))
        r = STORE_NOT_FOUND;
    if (r)
        return pass(r);
    if (!row.object.is_complete)
        return STORE_INCOMPLETE;
    reading->content = row.content;
    reading->size = row.object.size;
    *ret_len = offset >= reading->size        ? 0
               : len < reading->size - offset ? len
                                              : (size_t) (reading->size - offset);
    if (*ret_len == 0)
        return 0;
    *ret_first = offset / STORE_OBJECT_BLOCK_BYTES;
    last = (offset + *ret_len - 1) / STORE_OBJECT_BLOCK_BYTES;
    return pass(read_crcs(reading, txn, *ret_first, (size_t) (last - *ret_first + 1)));
}

static int read_at(const struct reading *reading, void *to, size_t len, uint64_t offset)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = pread(reading->fd, (uint8_t *) to + done, len - done, (off_t) (offset + done));

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n == 0 ? ENODATA : errno;
        done += (size_t) n;
    }
    return 0;
}

/* A whole block is read and checked, whatever part of it is wanted. */
static int read_block(const struct reading *reading,
                      uint64_t block,
                      uint32_t crc,
                      uint64_t offset,
                      struct span *ret,
                      uint8_t *room)
{
    const uint64_t begin = block * STORE_OBJECT_BLOCK_BYTES;
    size_t len = STORE_OBJECT_BLOCK_BYTES, skip = offset > begin ? (size_t) (offset - begin) : 0;
    int error;

    if (len > reading->size - begin)
        len = (size_t) (reading->size - begin);
    error = read_at(reading, room, len, begin);
    if (error)
        return damaged(reading, block, strerror(error));
    if (crc32c(0, room, len) != crc)
        return damaged(reading, block, "bad checksum");
    *ret = span_of(room + skip, len - skip);
    return 0;
}

static int
read_blocks(struct reading *reading, uint64_t first, uint64_t offset, uint8_t *to, size_t len)
{
    uint8_t *room = malloc(STORE_OBJECT_BLOCK_BYTES);
    size_t done = 0;
    int r = room ? 0 : fault(-ENOMEM, "no memory for a block");

    for (size_t i = 0; i < reading->n_crcs && !r; i++) {
        struct span part = { 0 };

        r = read_block(reading, first + i, reading->crcs[i], offset, &part, room);
        if (r)
            break;
        if (part.len > len - done)
            part.len = len - done;
        memcpy(to + done, part.data, part.len);
        done += part.len;
    }
    free(room);
    return pass(r);
}

int store_object_read(struct store *store,
                      uint64_t number,
                      uint64_t offset,
                      void *to,
                      size_t len,
                      size_t *ret_len)
{
    CLEANUP(reading_deinit) struct reading reading = { &store->objects, number, 0, 0, -1, NULL, 0 };
    char path[OBJECTS_PATH_BYTES];
    uint64_t first = 0;
    size_t n = 0;
    int r = look_up(&reading, offset, len, &first, &n);

    if (r)
        return pass(r);
    if (n) {
        objects_path_of(&store->objects, reading.content, path);
        reading.fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (reading.fd < 0 && errno != ENOENT && errno != ELOOP)
            return fault(-errno, "cannot open %s", path);
        if (reading.fd < 0) {
            /* It may have gone since: then nobody knows the upload any more. */
            CLEANUP(reading_deinit)
            struct reading again = { &store->objects, number, 0, 0, -1, NULL, 0 };
            uint64_t at;
            size_t n_again;

            r = look_up(&again, offset, len, &at, &n_again);
            return r ? pass(r) : damaged(&reading, first, "its file is gone, or a link");
        }
        r = read_blocks(&reading, first, offset, to, n);
    }
    if (r)
        return pass(r);
    *ret_len = n;
    return 0;
}
