/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Jobs of the objects' writer. A group is one transaction: chunks go to their files as the jobs are
 * looked at; then the files are synced, then the rows are put and committed. What an upload in
 * memory says runs ahead of the index until then, so a group that comes to nothing closes all
 * uploads that it has touched: who adds to one of them is told, and begins again.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/crc32c.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/faultpoint.h"
#include "common/base/file.h"
#include "common/log/log.h"
#include "server/store/objects/group.h"
#include "server/store/whole.h"

/* ---- what is open ---- */

struct object *objects_find_open(struct objects *objects, uint64_t number)
{
    return map_get(&objects->writer.open, span_of(&number, sizeof(number)));
}

void objects_let_go(struct objects *objects, struct object *object)
{
    ensure(map_remove(&objects->writer.open, span_of(&object->number, sizeof(object->number))) ==
           object);
    fd_closep(&object->fd);
    fd_closep(&object->direct_fd);
    buf_deinit(&object->texts);
    free(object->pending);
    free(object);
}

/* A copy that outlives the transaction and the caller's header. */
int group_keep_open(struct objects *objects, const struct object_row *row, struct object **ret)
{
    struct object *object = calloc(1, sizeof(*object));
    int r;

    if (!object)
        return fault(-ENOMEM, "no memory for an upload");
    object->fd = object->direct_fd = -1;
    object->number = row->object.number;
    object_row_write(row, &object->texts);
    if (buf_failed(&object->texts)) {
        free(object);
        return fault(-ENOMEM, "no memory for an upload");
    }
    ensure(object_row_read(object->number, buf_span(&object->texts), &object->row));
    r = map_put(&objects->writer.open, span_of(&object->number, sizeof(object->number)), object);
    if (r) {
        buf_deinit(&object->texts);
        free(object);
        return pass(r);
    }
    *ret = object;
    return 0;
}

void group_touch(struct objects_group *group, struct object *object)
{
    group->has_changed = true;
    if (object->is_dirty)
        return;
    object->is_dirty = true;
    object->next = group->dirty;
    group->dirty = object;
}

/* ---- limits ---- */

int group_too_much(struct store_object_job *job, const char *what, uint64_t limit)
{
    job->what = what;
    job->limit = limit;
    return STORE_TOO_MUCH;
}

bool group_is_over(uint64_t limit, uint64_t used, uint64_t more)
{
    return limit && (used > limit || more > limit - used);
}

/* Whether so much more of one agent may be there; `total` is of it what needs room of its own. */
int group_check_limits(struct objects_group *group,
                       struct store_object_job *job,
                       uint32_t agent,
                       uint64_t n_more,
                       uint64_t n_total)
{
    const struct store_object_limits *limits = &group->objects->writer.limits;
    struct object_account *account;
    int r = objects_account(group->objects, agent, &account);

    if (r)
        return pass(r);
    if (group_is_over(limits->agent_bytes, account->n_bytes, n_more))
        return group_too_much(job, "uploads.agent_size", limits->agent_bytes);
    if (group_is_over(limits->total_bytes, group->objects->writer.n_charged_bytes, n_total))
        return group_too_much(job, "uploads.total_size", limits->total_bytes);
    return 0;
}

int group_charge(struct objects_group *group, uint32_t agent, uint64_t n_more, uint64_t n_total)
{
    struct object_account *account;
    int r = objects_account(group->objects, agent, &account);

    if (r)
        return pass(r);
    account->n_bytes += n_more;
    group->objects->writer.n_charged_bytes += n_total;
    return 0;
}

/* Nothing names it any more once the group is committed. */
int group_give_up_content(struct objects_group *group, struct object *object)
{
    struct object_row *row = &object->row;
    int r;

    fd_closep(&object->fd);
    fd_closep(&object->direct_fd);
    object->is_file_dirty = false;
    object->n_pending = 0;
    if (row->content == 0)
        return 0;
    r = db_check(index_remove_content(group->objects, group->txn, row->content),
                 "cannot write the index of uploads");
    if (!r)
        r = objects_doom(group->objects, row->content);
    group->n_contents--;
    group->n_content_bytes -= (int64_t) row->object.received;
    row->content = 0;
    return pass(r);
}

/* All that was received goes. */
int group_start_over(struct objects_group *group, struct object *object)
{
    struct object_row *row = &object->row;
    const uint64_t before = object_charge(&row->object);
    uint64_t after;
    int r = group_give_up_content(group, object);

    if (r)
        return pass(r);
    row->object.received = 0;
    memset(row->hash, 0, sizeof(row->hash));
    object->tail_crc32c = 0;
    after = object_charge(&row->object);
    group_touch(group, object);
    return pass(group_charge(group, row->object.agent, after - before, after - before));
}

/* ---- APPEND ---- */

static int make_file(struct objects_group *group, struct object *object)
{
    char path[OBJECTS_PATH_BYTES];
    int r;

    objects_path_of(group->objects, group->objects->writer.next_content, path);
    object->fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (object->fd < 0)
        return db_check(errno, "cannot make a file for an upload");
    object->row.content = group->objects->writer.next_content++;
    group->has_new_file = true;
    group->n_contents++;
    group->is_own = false;
    r = db_check(index_put_next(group->objects, group->txn), "cannot write an upload");
    group->is_own = r == 0;
    return pass(r);
}

/* One that got no byte is as if it had not been made. */
static void unmake_file(struct objects_group *group, struct object *object)
{
    char path[OBJECTS_PATH_BYTES];

    if (object->fd < 0 || object->row.object.received)
        return;
    objects_path_of(group->objects, object->row.content, path);
    (void) unlink(path);
    fd_closep(&object->fd);
    fd_closep(&object->direct_fd);
    object->row.content = 0;
    group->n_contents--;
}

/*
 * Whole pages go past the page cache, and all of a group that follow each other in one call: nobody
 * reads them soon, and the copy into the cache costs as much as the digest. What finds no room
 * there is the group's failure, not one job's: it is known only when all is written.
 */
static int write_pending(struct object *object)
{
    struct iovec *at = object->pending;
    size_t n = object->n_pending;
    uint64_t offset = object->pending_at;
    int fd = object->direct_fd;

    object->n_pending = 0;
    while (n > 0) {
        ssize_t done = pwritev(fd, at, (int) n, (off_t) offset);

        if (done < 0 && errno == EINVAL && fd != object->fd) {
            fd = object->fd; /* a file system that wants more than pages */
            object->cannot_direct = true;
        } else if (done < 0 && errno != EINTR) {
            return db_check(errno, "cannot write an upload");
        }
        offset += done > 0 ? (uint64_t) done : 0;
        for (; done > 0 && n > 0; at++, n--) {
            if ((size_t) done < at->iov_len) {
                at->iov_base = (uint8_t *) at->iov_base + done;
                at->iov_len -= (size_t) done;
                break;
            }
            done -= (ssize_t) at->iov_len;
        }
        /* Part of a page came through: what follows is none. */
        if (n > 0 && offset % STORE_OBJECT_PAGE_BYTES)
            fd = object->fd;
    }
    return 0;
}

static bool
goes_direct(struct objects_group *group, struct object *object, const struct store_object_job *job)
{
    char path[OBJECTS_PATH_BYTES];

    if (object->cannot_direct || job->offset % STORE_OBJECT_PAGE_BYTES ||
        job->len % STORE_OBJECT_PAGE_BYTES || (uintptr_t) job->data % STORE_OBJECT_PAGE_BYTES)
        return false;
    if (!object->pending)
        object->pending = calloc(OBJECTS_PENDING, sizeof(*object->pending));
    if (object->direct_fd < 0) {
        objects_path_of(group->objects, object->row.content, path);
        object->direct_fd = open(path, O_WRONLY | O_DIRECT | O_CLOEXEC | O_NOFOLLOW);
    }
    object->cannot_direct = !object->pending || object->direct_fd < 0;
    return !object->cannot_direct;
}

static int
add_pending(struct objects_group *group, struct object *object, const struct store_object_job *job)
{
    if (object->n_pending == OBJECTS_PENDING ||
        (object->n_pending && object->pending_at + object->pending_bytes != job->offset)) {
        int r = write_pending(object);

        group->is_own = r == 0;
        if (r)
            return pass(r);
    }
    if (object->n_pending == 0) {
        object->pending_at = job->offset;
        object->pending_bytes = 0;
    }
    object->pending[object->n_pending++] =
        (struct iovec){ (void *) (uintptr_t) job->data, job->len };
    object->pending_bytes += job->len;
    object->is_file_dirty = true;
    return 0;
}

static int
write_bytes(struct objects_group *group, struct object *object, const struct store_object_job *job)
{
    if (goes_direct(group, object, job))
        return pass(add_pending(group, object, job));
    for (size_t done = 0; done < job->len;) {
        ssize_t n =
            pwrite(object->fd, job->data + done, job->len - done, (off_t) (job->offset + done));

        if (n < 0 && errno != EINTR)
            return db_check(errno, "cannot write an upload");
        done += n > 0 ? (size_t) n : 0;
    }
    /* The disk begins at once; the sync behind the group waits for the rest. */
    (void) sync_file_range(object->fd, (off_t) job->offset, (off_t) job->len,
                           SYNC_FILE_RANGE_WRITE);
    object->is_file_dirty = true;
    return 0;
}

static int
put_blocks(struct objects_group *group, struct object *object, const struct store_object_job *job)
{
    uint64_t at = job->offset;
    size_t done = 0;

    while (done < job->len) {
        const size_t in_block = (size_t) (at % STORE_OBJECT_BLOCK_BYTES);
        size_t n = STORE_OBJECT_BLOCK_BYTES - in_block;
        const struct object_key key =
            object_block_key(object->row.content, (uint32_t) (at / STORE_OBJECT_BLOCK_BYTES));
        int rc;

        if (n > job->len - done)
            n = job->len - done;
        object->tail_crc32c = crc32c(in_block ? object->tail_crc32c : 0, job->data + done, n);
        rc = index_put(group->objects, group->txn, OBJECTS_BLOCKS, span_of(key.bytes, key.len),
                       span_of(&object->tail_crc32c, sizeof(object->tail_crc32c)));
        if (rc)
            return pass(db_check(rc, "cannot write the index of uploads"));
        done += n;
        at += n;
    }
    return 0;
}

static int
check_append(struct objects_group *group, struct store_object_job *job, struct object *object)
{
    const struct store_object *upload = &object->row.object;
    const struct store_object_limits *limits = &group->objects->writer.limits;

    if (job->offset != upload->received)
        return STORE_GAP;
    group->is_own = true;
    if (store_disk_is_above(group->objects->store))
        return STORE_FULL;
    if (upload->has_size) {
        ensure(job->len <= upload->size - upload->received); /* who hands in sees to it */
        return 0;
    }
    if (group_is_over(limits->max_bytes, upload->received, job->len))
        return group_too_much(job, "uploads.max_size", limits->max_bytes);
    return group_check_limits(group, job, upload->agent, job->len, job->len);
}

static int append(struct objects_group *group, struct store_object_job *job, struct object *object)
{
    struct store_object *upload = &object->row.object;
    uint64_t more;
    int r = check_append(group, job, object);

    if (r)
        return pass(r);
    group->is_own = true;
    if (object->fd < 0)
        r = make_file(group, object);
    if (!r)
        r = write_bytes(group, object, job);
    if (r) {
        unmake_file(group, object);
        return pass(r);
    }
    group->is_own = false;
    r = put_blocks(group, object, job);
    if (r)
        return pass(r);
    more = upload->has_size ? 0 : job->len;
    upload->received += job->len;
    upload->used = group->now;
    memcpy(object->row.hash, job->hash, sizeof(object->row.hash));
    group->n_bytes += job->len;
    group->n_content_bytes += (int64_t) job->len;
    group_touch(group, object);
    return pass(group_charge(group, upload->agent, more, more));
}

/* ---- END, RESET, LEAVE ---- */

/* The content becomes one of the finished; or another that is the same takes its place. */
static int settle_content(struct objects_group *group, struct object *object)
{
    struct object_row *row = &object->row;
    struct object_content content = { .size = row->object.size, .is_complete = true };
    uint64_t other = 0;
    int r, rc = index_find_digest(group->objects, group->txn, row->object.sha256, row->object.size,
                                  &other);

    if (!rc && objects_is_damaged(group->objects, other, row->object.size))
        rc = MDB_NOTFOUND; /* what came now is good: the next ones share this */
    if (rc && rc != MDB_NOTFOUND)
        return pass(db_check(rc, "cannot read the index of uploads"));
    if (rc == MDB_NOTFOUND) {
        if (row->content == 0) { /* an empty one has no file */
            row->content = group->objects->writer.next_content++;
            group->n_contents++;
        }
        memcpy(content.sha256, row->object.sha256, sizeof(content.sha256));
        rc = index_put_content(group->objects, group->txn, row->content, &content);
        if (!rc)
            rc = index_put_next(group->objects, group->txn);
        return pass(db_check(rc, "cannot write the index of uploads"));
    }
    group->n_shared++;
    r = group_give_up_content(group, object);
    if (r)
        return pass(r);
    row->content = other;
    group->objects->writer.n_charged_bytes -= row->object.size;
    return 0;
}

static int end(struct objects_group *group, struct store_object_job *job, struct object *object)
{
    struct store_object *upload = &object->row.object;
    int r;

    if (job->size != upload->received)
        return STORE_GAP;
    ensure(!upload->has_size || upload->size == job->size);
    upload->size = job->size;
    upload->has_size = upload->has_sha256 = true;
    memcpy(upload->sha256, job->sha256, sizeof(upload->sha256));
    r = settle_content(group, object);
    if (r)
        return pass(r);
    upload->is_complete = true;
    upload->used = group->now;
    memset(object->row.hash, 0, sizeof(object->row.hash));
    object->lease = 0;
    object->is_gone = true;
    group->n_finished++;
    group_touch(group, object);
    group_answer_complete(job, upload);
    return 0;
}

static int leave(struct objects_group *group, struct object *object)
{
    object->lease = 0;
    if (object->is_dirty)
        object->is_gone = true;
    else
        objects_let_go(group->objects, object);
    return 0;
}

/* ---- groups ---- */

static int look_at(struct objects_group *group, struct store_object_job *job)
{
    struct object *object;

    if (job->work == STORE_OBJECT_BEGIN)
        return group_begin(group, job);
    object = objects_find_open(group->objects, job->number);
    if (!object || job->lease == 0 || object->lease != job->lease)
        return STORE_TAKEN;
    if (job->work == STORE_OBJECT_APPEND)
        return append(group, job, object);
    if (job->work == STORE_OBJECT_END)
        return end(group, job, object);
    return job->work == STORE_OBJECT_RESET ? group_start_over(group, object) : leave(group, object);
}

static int sync_files(struct objects_group *group)
{
    char path[OBJECTS_PATH_BYTES];

    for (struct object *object = group->dirty; object; object = object->next) {
        int r = write_pending(object);

        if (r)
            return pass(r);
    }
    faultpoint("objects_written");
    for (struct object *object = group->dirty; object; object = object->next) {
        if (object->is_file_dirty && fdatasync(object->fd) < 0)
            return db_check(errno, "cannot sync an upload");
        object->is_file_dirty = false;
    }
    if (!group->has_new_file)
        return 0;
    snprintf(path, sizeof(path), "%s/content", group->objects->directory);
    return pass(db_sync_directory(path));
}

static int put_rows(struct objects_group *group)
{
    for (struct object *object = group->dirty; object; object = object->next) {
        const struct object_content content = { .size = object->row.object.received };
        int rc = index_put_row(group->objects, group->txn, &object->row);

        if (!rc && object->row.content && !object->row.object.is_complete)
            rc = index_put_content(group->objects, group->txn, object->row.content, &content);
        if (rc)
            return pass(db_check(rc, "cannot write an upload"));
    }
    return 0;
}

static int commit(struct objects_group *group)
{
    int r;

    if (!group->has_changed)
        return 0;
    r = sync_files(group);
    if (!r)
        r = put_rows(group);
    if (r)
        return pass(r);
    faultpoint("objects_before_commit");
    r = db_commit(group->objects->env, take(group->txn), "cannot commit uploads");
    faultpoint("objects_after_commit");
    return pass(r);
}

/* 0: what was touched may stay open. Else nothing of it is known any more. */
static void settle(struct objects_group *group, int r)
{
    struct object *next;

    for (struct object *object = group->dirty; object; object = next) {
        next = object->next;
        object->is_dirty = false;
        object->n_pending = 0;
        object->next = NULL;
        if (r || object->is_gone)
            objects_let_go(group->objects, object);
    }
    group->dirty = NULL;
}

static void count(struct objects_group *group, int r, uint64_t n_refused)
{
    struct store_object_stats *figures = &group->objects->stats.figures;

    pthread_mutex_lock(&group->objects->stats.lock);
    figures->n_refused += n_refused;
    if (!r) {
        figures->n_uploads += group->n_begun;
        figures->n_unfinished += group->n_begun - group->n_finished;
        figures->n_begun += group->n_begun;
        figures->n_finished += group->n_finished;
        figures->n_shared += group->n_shared;
        figures->n_bytes += group->n_bytes;
        figures->n_contents += (uint64_t) group->n_contents;
        figures->content_bytes += (uint64_t) group->n_content_bytes;
        figures->n_commits += group->has_changed;
    }
    pthread_mutex_unlock(&group->objects->stats.lock);
}

/* The lease of a BEGIN that is answered with a failure is nobody's. */
static void let_go_begun(struct objects *objects, const struct store_object_job *jobs)
{
    for (; jobs; jobs = jobs->next) {
        struct object *object = jobs->work == STORE_OBJECT_BEGIN && jobs->lease
                                    ? objects_find_open(objects, jobs->number)
                                    : NULL;

        if (object && object->lease == jobs->lease)
            objects_let_go(objects, object);
    }
}

/* The files that the group made: there is no room, so they do not wait for the next start. */
static int doom_new_files(struct objects_group *group)
{
    CLEANUP(db_txn_abortp) MDB_txn *txn = NULL;
    struct objects *objects = group->objects;
    struct object_content content;
    int r = db_check(mdb_txn_begin(objects->env, NULL, MDB_RDONLY, &txn),
                     "cannot read the index of uploads");

    for (uint64_t i = group->first_content; i < objects->writer.next_content && !r; i++)
        if (index_get_content(objects, txn, i, &content) == MDB_NOTFOUND)
            r = objects_doom(objects, i);
    return pass(r);
}

/*
 * What was counted ahead of a commit that did not come is not there. What the group has touched was
 * closed by settle(); whoever adds to another one goes on.
 */
static int forget(struct objects_group *group, const struct store_object_job *jobs)
{
    struct objects *objects = group->objects;
    int r;

    let_go_begun(objects, jobs);
    objects->writer.doomed.len = group->n_doomed;
    r = doom_new_files(group);
    return r ? pass(r) : pass(objects_count(objects));
}

/* Looks at all; a job that breaks the group gives its result to all. */
static int do_jobs(struct objects_group *group, struct store_object_job *jobs, int *ret_results)
{
    size_t i = 0;

    for (struct store_object_job *job = jobs; job; job = job->next, i++) {
        group->is_own = false;
        ret_results[i] = look_at(group, job);
        if (ret_results[i] < 0 || (ret_results[i] == STORE_FULL && !group->is_own))
            return pass(ret_results[i]);
    }
    return 0;
}

static void answer(struct store_object_job *jobs, const int *results, int r, uint64_t *ret_refused)
{
    struct store_object_job *next;
    size_t i = 0;

    for (struct store_object_job *job = jobs; job; job = next, i++) {
        int own = r < 0 ? STORE_STOPPED : r ? r : results[i];

        next = job->next;
        *ret_refused += own != 0;
        job->done(job, own);
    }
}

static size_t count_jobs(const struct store_object_job *jobs)
{
    size_t n = 0;

    for (; jobs; jobs = jobs->next)
        n++;
    return n;
}

void objects_write(struct objects *objects, struct store_object_job *jobs)
{
    struct objects_group group = {
        .objects = objects,
        .now = clock_wall(),
        .n_doomed = objects->writer.doomed.len,
        .first_content = objects->writer.next_content,
    };
    int *results = calloc(count_jobs(jobs) + 1, sizeof(*results));
    uint64_t n_refused = 0;
    int r = results ? 0 : fault(-ENOMEM, "no memory for a group of uploads");

    if (!r && atomic_load(&objects->store->has_failed))
        r = -EIO;
    if (!r)
        r = db_check(mdb_txn_begin(objects->env, NULL, 0, &group.txn),
                     "cannot begin to write uploads");
    if (!r)
        r = do_jobs(&group, jobs, results);
    if (!r)
        r = commit(&group);
    db_txn_abortp(&group.txn);
    settle(&group, r);
    if (r > 0 && forget(&group, jobs) != 0)
        r = -EIO;
    if (r < 0)
        store_fail(objects->store);
    count(&group, r, 0);
    answer(jobs, results, r, &n_refused);
    count(&(struct objects_group){ .objects = objects }, -1, n_refused);
    free(results);
}
