/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/faultpoint.h"
#include "common/log/log.h"
#include "server/store/objects/objects.h"
#include "server/store/whole.h"

#define SWEEP_AT_ONCE 64 /* of one transaction: calls wait behind it */

struct victim {
    uint64_t number;
    int64_t used_us;
};

/* What one look at all uploads says. */
struct look {
    struct buf expired;  /* struct victim: unfinished ones that go */
    struct buf retained; /* finished ones that are too old */
    struct buf erased;   /* of agents that were forgotten */
    struct buf others;   /* finished ones that may go for their size */
};

static void look_deinit(struct look *look)
{
    buf_deinit(&look->expired);
    buf_deinit(&look->retained);
    buf_deinit(&look->erased);
    buf_deinit(&look->others);
}

/* ---- files ---- */

int objects_doom(struct objects *objects, uint64_t content)
{
    buf_append(&objects->writer.doomed, &content, sizeof(content));
    return buf_failed(&objects->writer.doomed) ? fault(-ENOMEM, "no memory for what goes") : 0;
}

void objects_unlink_doomed(struct objects *objects)
{
    struct buf *doomed = &objects->writer.doomed;

    if (doomed->len == 0 || !pause_enter(&objects->writer.pause))
        return;
    for (size_t at = 0; at < doomed->len; at += sizeof(uint64_t)) {
        char path[OBJECTS_PATH_BYTES];
        uint64_t content;

        memcpy(&content, doomed->data + at, sizeof(content));
        objects_path_of(objects, content, path);
        faultpoint("objects_before_unlink");
        if (unlink(path) < 0 && errno != ENOENT)
            log_event(LOG_WARN, "upload_not_unlinked", LOG_S("path", path),
                      LOG_S("why", strerror(errno)));
    }
    buf_clear(doomed);
    pause_leave(&objects->writer.pause);
}

static bool content_of_name(const char *name, uint64_t *ret)
{
    char *end;

    if (strlen(name) != 16 || strspn(name, "0123456789abcdef") != 16)
        return false;
    *ret = strtoull(name, &end, 16);
    return *end == 0;
}

static bool is_orphan(struct objects *objects, MDB_txn *txn, const char *name, uint64_t *ret)
{
    struct object_content content;

    return content_of_name(name, ret) &&
           index_get_content(objects, txn, *ret, &content) == MDB_NOTFOUND;
}

/* What a kill left between a file and its row; and, in a restored one, what came after it. */
int objects_unlink_orphans(struct objects *objects)
{
    CLEANUP(db_txn_abortp) MDB_txn *txn = NULL;
    char path[OBJECTS_PATH_BYTES];
    struct dirent *entry;
    DIR *directory;
    int r = db_check(mdb_txn_begin(objects->env, NULL, MDB_RDONLY, &txn),
                     "cannot read the index of uploads");

    if (r)
        return fold(r);
    snprintf(path, sizeof(path), "%s/content", objects->directory);
    directory = opendir(path);
    if (!directory)
        return fault(-errno, "cannot read %s", path);
    while (!r && (entry = readdir(directory))) {
        uint64_t content;

        if (is_orphan(objects, txn, entry->d_name, &content))
            r = objects_doom(objects, content);
    }
    closedir(directory);
    if (!r && objects->writer.doomed.len)
        log_event(LOG_INFO, "uploads_orphans",
                  LOG_U("files", objects->writer.doomed.len / sizeof(uint64_t)));
    objects_unlink_doomed(objects);
    return pass(r);
}

/* ---- rows ---- */

static void add_victim(struct buf *to, const struct store_object *object)
{
    const struct victim victim = { object->number, object->used.us };

    buf_append(to, &victim, sizeof(victim));
}

/* Its agent was forgotten. */
static bool is_of_nobody(struct objects *objects, const struct store_object *object)
{
    struct agent *agent = agents_get(&objects->store->agents, object->agent);

    return agent && agent_is_gone(agent);
}

static void judge(struct objects *objects, const struct store_object *object, struct look *look)
{
    const struct store_object_limits *limits = &objects->writer.limits;
    const int64_t expire_us = limits->expire_us ? limits->expire_us : OBJECTS_EXPIRE_US;
    const int64_t age_us = clock_wall().us - object->used.us;

    if (is_of_nobody(objects, object)) {
        if (!objects_find_open(objects, object->number))
            add_victim(&look->erased, object);
    } else if (!object->is_complete) {
        if (age_us > expire_us && !objects_find_open(objects, object->number))
            add_victim(&look->expired, object);
    } else if (limits->retention_us && age_us > limits->retention_us) {
        add_victim(&look->retained, object);
    } else if (limits->retention_bytes) {
        add_victim(&look->others, object);
    }
}

static int look_at_all(struct objects *objects, struct look *look)
{
    CLEANUP(db_txn_abortp) MDB_txn *txn = NULL;
    CLEANUP(db_cursor_closep) MDB_cursor *cursor = NULL;
    MDB_val key, value;
    int rc = mdb_txn_begin(objects->env, NULL, MDB_RDONLY, &txn);

    if (!rc)
        rc = mdb_cursor_open(txn, objects->tables[OBJECTS_UPLOADS], &cursor);
    if (!rc)
        rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
    while (!rc) {
        struct object_row row;

        if (object_row_read(db_u64_of(key), db_span(value), &row))
            judge(objects, &row.object, look);
        rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    if (rc != MDB_NOTFOUND)
        return fold(db_check(rc ? rc : EIO, "cannot read the index of uploads"));
    if (buf_failed(&look->expired) || buf_failed(&look->retained) || buf_failed(&look->erased) ||
        buf_failed(&look->others))
        return fault(-ENOMEM, "no memory for uploads that go");
    return 0;
}

struct removal {
    uint64_t n, n_unfinished, n_contents, n_bytes;
};

/* The answer is LMDB's, or ENOMEM. */
static int
remove_one(struct objects *objects, MDB_txn *txn, uint64_t number, struct removal *removal)
{
    struct object_account *account;
    struct object_content content = { 0 };
    struct object_row row;
    uint64_t gone;
    int rc = index_get_row(objects, txn, number, &row);

    if (rc)
        return rc == MDB_NOTFOUND ? 0 : rc;
    if (row.content && index_get_content(objects, txn, row.content, &content) != 0)
        content.size = 0;
    if (objects_account(objects, row.object.agent, &account))
        return ENOMEM;
    account->n--;
    account->n_bytes -= object_charge(&row.object);
    if (!row.object.is_complete)
        objects->writer.n_charged_bytes -= object_charge(&row.object);
    rc = index_remove_row(objects, txn, &row, &gone); /* `row` is no more */
    if (rc)
        return rc;
    removal->n++;
    removal->n_unfinished += !row.object.is_complete;
    if (gone == 0)
        return 0;
    if (row.object.is_complete)
        objects->writer.n_charged_bytes -= content.size;
    removal->n_contents++;
    removal->n_bytes += content.size;
    return objects_doom(objects, gone) ? ENOMEM : 0;
}

static void count(struct objects *objects, const struct removal *removal)
{
    struct store_object_stats *figures = &objects->stats.figures;

    pthread_mutex_lock(&objects->stats.lock);
    figures->n_uploads -= removal->n;
    figures->n_unfinished -= removal->n_unfinished;
    figures->n_contents -= removal->n_contents;
    figures->content_bytes -= removal->n_bytes;
    figures->n_expired += removal->n_unfinished;
    figures->n_retained += removal->n - removal->n_unfinished;
    figures->n_freed_bytes += removal->n_bytes;
    pthread_mutex_unlock(&objects->stats.lock);
}

/* What is there, not what open ones say they will be: a lie must not make others' go. */
static uint64_t bytes_now(struct objects *objects)
{
    uint64_t n_bytes;

    pthread_mutex_lock(&objects->stats.lock);
    n_bytes = objects->stats.figures.content_bytes;
    pthread_mutex_unlock(&objects->stats.lock);
    return n_bytes;
}

/* Of these the first ones, while all contents are at least `above_bytes`; *ret_n of them. */
static int remove_some(struct objects *objects,
                       const struct victim *victims,
                       size_t n,
                       uint64_t above_bytes,
                       size_t *ret_n,
                       struct removal *sum)
{
    CLEANUP(db_txn_abortp) MDB_txn *txn = NULL;
    const size_t n_doomed = objects->writer.doomed.len;
    const uint64_t n_bytes = bytes_now(objects);
    struct removal removal = { 0 };
    size_t i = 0;
    int r, rc = mdb_txn_begin(objects->env, NULL, 0, &txn);

    for (; !rc && i < n && i < SWEEP_AT_ONCE && n_bytes - removal.n_bytes >= above_bytes; i++)
        rc = remove_one(objects, txn, victims[i].number, &removal);
    *ret_n = i;
    r = db_check(rc, "cannot remove uploads");
    faultpoint("objects_before_removal");
    if (!r && removal.n)
        r = db_commit(objects->env, take(txn), "cannot remove uploads");
    if (r) {
        objects->writer.doomed.len = n_doomed;
        return objects_count(objects) ? -EIO : pass(r);
    }
    count(objects, &removal);
    objects_unlink_doomed(objects);
    sum->n += removal.n;
    sum->n_bytes += removal.n_bytes;
    return 0;
}

static int
remove_all(struct objects *objects, const struct buf *list, uint64_t above_bytes, const char *why)
{
    const struct victim *victims = (const void *) list->data;
    const size_t n = list->len / sizeof(*victims);
    struct removal sum = { 0 };
    size_t n_done = 0, n_some;
    int r = 0;

    while (!r && n_done < n && bytes_now(objects) >= above_bytes) {
        r = remove_some(objects, victims + n_done, n - n_done, above_bytes, &n_some, &sum);
        n_done += n_some;
    }
    if (sum.n)
        log_event(LOG_INFO, "uploads_gone", LOG_S("why", why), LOG_U("uploads", sum.n),
                  LOG_U("freed_bytes", sum.n_bytes));
    return pass(r);
}

static int by_age(const void *a, const void *b)
{
    const struct victim *x = a, *y = b;

    return (x->used_us > y->used_us) - (x->used_us < y->used_us);
}

int objects_sweep(struct objects *objects)
{
    CLEANUP(look_deinit) struct look look = { 0 };
    const uint64_t limit = objects->writer.limits.retention_bytes;
    int r = look_at_all(objects, &look);

    if (!r)
        r = remove_all(objects, &look.erased, 0, "their agent was erased");
    if (!r)
        r = remove_all(objects, &look.expired, 0, "unfinished, and nothing came (uploads.expire)");
    if (!r)
        r = remove_all(objects, &look.retained, 0, "older than uploads.retention");
    if (!r && limit && look.others.len) {
        qsort(look.others.data, look.others.len / sizeof(struct victim), sizeof(struct victim),
              by_age);
        r = remove_all(objects, &look.others, limit + 1, "more than uploads.retention_size");
    }
    return r == STORE_FULL ? 0 : pass(r);
}
