/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Survey: uploads. Rows some at a time, each time in a snapshot of its own; the file of a content
 * is read without one, so that a hub beside it may go on. What looks damaged then is looked up
 * again: it may have gone meanwhile.
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/crc32c.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/file.h"
#include "common/crypto/crypto.h"
#include "server/store/objects/objects.h"
#include "server/store/survey/survey.h"

#define ROWS_AT_ONCE 256

struct walk {
    struct survey *survey;
    struct store_found *found;
    struct objects objects; /* env and tables alone: index_*() read with it */
    MDB_txn *txn;
    uint8_t *block;
};

/* The content at hand. */
struct content {
    uint64_t number;
    struct object_content row;
    uint32_t *crcs;
    size_t n_crcs;
};

static int begin(struct walk *walk)
{
    return db_begin_read(walk->objects.env, &walk->txn);
}

static void end(struct walk *walk)
{
    db_txn_abortp(&walk->txn);
    walk->txn = NULL;
}

/* ---- contents ---- */

/* The first one from `from` on, with its checksums. MDB_NOTFOUND: there is none. */
static int next_content(struct walk *walk, uint64_t from, struct content *ret, bool *ret_is_row)
{
    CLEANUP(db_cursor_closep) MDB_cursor *cursor = NULL;
    uint8_t name[8];
    MDB_val key = db_val(name, sizeof(name)), value;
    int rc = mdb_cursor_open(walk->txn, walk->objects.tables[OBJECTS_CONTENTS], &cursor);

    db_key_u64(name, from);
    if (!rc)
        rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    if (rc)
        return rc;
    ret->number = db_u64_of(key);
    *ret_is_row = ret->number >= from && object_content_read(db_span(value), &ret->row);
    if (!*ret_is_row)
        return 0;
    ret->n_crcs =
        (size_t) ((ret->row.size + STORE_OBJECT_BLOCK_BYTES - 1) / STORE_OBJECT_BLOCK_BYTES);
    ret->crcs = calloc(ret->n_crcs + 1, sizeof(*ret->crcs));
    if (!ret->crcs)
        return ENOMEM;
    for (size_t i = 0; i < ret->n_crcs; i++) {
        const struct object_key block = object_block_key(ret->number, (uint32_t) i);

        rc = index_get(&walk->objects, walk->txn, OBJECTS_BLOCKS, span_of(block.bytes, block.len),
                       &value);
        if (rc == MDB_NOTFOUND || (!rc && value.mv_size != sizeof(*ret->crcs)))
            *ret_is_row = false;
        else if (rc)
            return rc;
        else
            memcpy(&ret->crcs[i], value.mv_data, sizeof(*ret->crcs));
    }
    return 0;
}

/* Whether the index still says of it what it said. */
static bool is_there_yet(struct walk *walk, const struct content *content)
{
    struct object_content now;
    bool is_there = false;

    if (begin(walk) == 0)
        is_there = index_get_content(&walk->objects, walk->txn, content->number, &now) == 0;
    end(walk);
    return is_there;
}

static int
content_damage(struct walk *walk, const struct content *content, size_t block, const char *what)
{
    if (!is_there_yet(walk, content))
        return 0;
    return survey_damage(walk->survey, what, "content %016" PRIx64 ", offset %" PRIu64,
                         content->number, (uint64_t) block * STORE_OBJECT_BLOCK_BYTES);
}

/* NULL, or what is wrong. */
static const char *read_block(int fd, uint64_t offset, size_t len, uint8_t *to)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = pread(fd, to + done, len - done, (off_t) (offset + done));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return strerror(errno);
        if (n == 0)
            return "its file ends before it";
        done += (size_t) n;
    }
    return NULL;
}

static int read_content(struct walk *walk, const struct content *content, int fd)
{
    struct crypto_hash *hash = crypto_hash_new();
    uint8_t digest[CRYPTO_SHA256_BYTES];
    const char *wrong = NULL;
    size_t i = 0;

    for (; i < content->n_crcs && !wrong; i++) {
        const uint64_t offset = (uint64_t) i * STORE_OBJECT_BLOCK_BYTES;
        size_t len = STORE_OBJECT_BLOCK_BYTES;

        if (len > content->row.size - offset)
            len = (size_t) (content->row.size - offset);
        wrong = read_block(fd, offset, len, walk->block);
        if (!wrong && crc32c(0, walk->block, len) != content->crcs[i])
            wrong = "bad checksum";
        crypto_hash_update(hash, span_of(walk->block, len));
        walk->survey->shared->n_read_bytes += len;
    }
    crypto_hash_finish(hash, digest);
    (void) crypto_hash_free(hash);
    if (!wrong && content->row.is_complete &&
        memcmp(digest, content->row.sha256, sizeof(digest)) != 0) {
        wrong = "its SHA-256 is another one";
        i = 1;
    }
    return wrong ? content_damage(walk, content, i - 1, wrong) : 0;
}

static int look_at_content(struct walk *walk, const struct content *content)
{
    CLEANUP(fd_closep) int fd = -1;
    char path[OBJECTS_PATH_BYTES];

    walk->found->n_contents++;
    walk->found->content_bytes += content->row.size;
    if (!walk->survey->asked->is_deep || content->row.size == 0)
        return 0;
    objects_path_of(&walk->objects, content->number, path);
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && errno != ENOENT && errno != EIO && errno != ELOOP)
        return fault(-errno, "cannot read %s", path);
    if (fd < 0)
        return content_damage(walk, content, 0,
                              errno == ELOOP ? "its file is a link" : "its file is not there");
    return read_content(walk, content, fd);
}

static int walk_contents(struct walk *walk)
{
    uint64_t from = 0;
    int r = 0, rc = 0;

    while (!r && !rc) {
        struct content content = { 0 };
        bool is_row = false;

        rc = begin(walk);
        if (!rc)
            rc = next_content(walk, from, &content, &is_row);
        end(walk);
        if (!rc && !is_row)
            r = survey_damage(walk->survey, "no row of a content, or without its checksums",
                              "content %016" PRIx64, content.number);
        else if (!rc)
            r = look_at_content(walk, &content);
        free(content.crcs);
        if (content.number < from || content.number == UINT64_MAX)
            break;
        from = content.number + 1;
        walk->survey->shared->environment.n_records += !rc;
    }
    return r ? r : survey_end(walk->survey, rc, "contents");
}

/* ---- uploads ---- */

/* NULL, or what does not fit. *ret_rc: of LMDB. */
static const char *what_is_wrong(struct walk *walk, const struct object_row *row, int *ret_rc)
{
    const struct object_key key = object_key_of(&row->object),
                            holder = object_holder_key(row->content, row->object.number);
    struct object_content content = { 0 };
    uint64_t leads_to;
    MDB_val value;

    *ret_rc =
        index_get(&walk->objects, walk->txn, OBJECTS_KEYS, span_of(key.bytes, key.len), &value);
    if (*ret_rc == MDB_NOTFOUND)
        return "its key does not lead to it";
    if (*ret_rc)
        return NULL;
    if (value.mv_size != sizeof(leads_to))
        return "its key does not lead to it";
    memcpy(&leads_to, value.mv_data, sizeof(leads_to));
    /* To a later one: it was sent again, as this one is damaged (objects/begin.c). */
    if (leads_to < row->object.number ||
        (leads_to > row->object.number && !row->object.is_complete))
        return "its key does not lead to it";
    if (row->content == 0)
        return NULL;
    *ret_rc = index_get_content(&walk->objects, walk->txn, row->content, &content);
    if (*ret_rc == MDB_NOTFOUND)
        return "its content is not there";
    if (*ret_rc)
        return NULL;
    if (content.size != row->object.received || content.is_complete != row->object.is_complete)
        return "its content has another size";
    if (!row->object.is_complete)
        return NULL;
    if (memcmp(content.sha256, row->object.sha256, sizeof(content.sha256)) != 0)
        return "its content has another SHA-256";
    *ret_rc = index_get(&walk->objects, walk->txn, OBJECTS_HOLDERS,
                        span_of(holder.bytes, holder.len), &value);
    return *ret_rc == MDB_NOTFOUND ? "it does not hold its content" : NULL;
}

static int on_upload(struct walk *walk, MDB_val key, MDB_val value, int *ret_rc)
{
    const uint64_t number = db_u64_of(key);
    const char *wrong = "no row of an upload";
    struct object_row row;
    int r = 0;

    walk->found->n_uploads++;
    if (number > 0 && object_row_read(number, db_span(value), &row)) {
        walk->found->n_unfinished += !row.object.is_complete;
        wrong = walk->survey->asked->is_deep ? what_is_wrong(walk, &row, ret_rc) : NULL;
        r = survey_use(walk->survey, row.object.agent, SURVEY_UPLOADS, 0);
    }
    if (*ret_rc == MDB_NOTFOUND)
        *ret_rc = 0;
    return !r && wrong ? survey_damage(walk->survey, wrong, "upload u%" PRIu64, number) : pass(r);
}

/* Some rows from *from on; MDB_NOTFOUND behind the last one. */
static int walk_some(struct walk *walk, uint64_t *from, int *ret_r)
{
    CLEANUP(db_cursor_closep) MDB_cursor *cursor = NULL;
    uint8_t name[8];
    MDB_val key = db_val(name, sizeof(name)), value;
    int rc = mdb_cursor_open(walk->txn, walk->objects.tables[OBJECTS_UPLOADS], &cursor);

    db_key_u64(name, *from);
    if (!rc)
        rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    for (int i = 0; i < ROWS_AT_ONCE && !rc && !*ret_r; i++) {
        *ret_r = on_upload(walk, key, value, &rc);
        *from = db_u64_of(key) + 1;
        walk->survey->shared->environment.n_records++;
        if (!rc)
            rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    return rc;
}

static int walk_uploads(struct walk *walk)
{
    uint64_t from = 0;
    int r = 0, rc = 0;

    while (!r && !rc) {
        rc = begin(walk);
        if (!rc)
            rc = walk_some(walk, &from, &r);
        end(walk);
    }
    return r ? r : survey_end(walk->survey, rc, "uploads");
}

/* ---- the whole ---- */

static int open_tables(struct walk *walk)
{
    int rc = begin(walk);

    for (int i = 0; !rc && i < OBJECTS_N_TABLES; i++)
        rc = mdb_dbi_open(walk->txn, objects_table_names[i], 0, &walk->objects.tables[i]);
    if (rc == MDB_NOTFOUND && walk->txn && mdb_txn_id(walk->txn) > 0)
        rc = MDB_CORRUPTED;
    if (!rc)
        survey_pages(walk->survey, walk->txn, walk->objects.tables, OBJECTS_N_TABLES);
    if (!rc)
        rc = mdb_txn_commit(take(walk->txn)); /* which keeps the handles */
    end(walk);
    return rc;
}

static int look(struct walk *walk)
{
    struct store_environment *environment = &walk->survey->shared->environment;
    int r, rc = open_tables(walk);

    if (rc)
        return survey_end(walk->survey, rc, "the list of tables");
    environment->kind = STORE_UPLOADS;
    walk->found->objects_bytes = db_file_bytes(walk->survey->path);
    walk->found->n_objects_free_pages = environment->n_free_pages;
    r = walk_contents(walk);
    return r ? r : walk_uploads(walk);
}

int survey_objects(struct survey *survey)
{
    struct walk walk = { .survey = survey, .found = &survey->shared->found };
    char *slash;
    int r = survey_open(survey, OBJECTS_N_TABLES, &walk.objects.env);

    if (r)
        return r == STORE_NOT_FOUND ? 0 : r;
    ensure(snprintf(walk.objects.directory, sizeof(walk.objects.directory), "%s", survey->path) <
           (int) sizeof(walk.objects.directory));
    slash = strrchr(walk.objects.directory, '/');
    ensure(slash); /* <objects>/index */
    *slash = 0;
    walk.block = malloc(STORE_OBJECT_BLOCK_BYTES);
    r = walk.block ? look(&walk) : fault(-ENOMEM, "no memory for a block");
    mdb_env_close(walk.objects.env);
    free(walk.block);
    return r;
}
