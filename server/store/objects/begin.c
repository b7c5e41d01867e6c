/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/fault.h"
#include "common/log/log.h"
#include "server/store/objects/group.h"
#include "server/store/whole.h"

static bool same_labels(const struct store_object *a, const struct store_object *b)
{
    if (a->n_labels != b->n_labels)
        return false;
    for (size_t i = 0; i < a->n_labels; i++)
        if (strcmp(a->labels[i].key, b->labels[i].key) != 0 ||
            strcmp(a->labels[i].value, b->labels[i].value) != 0)
            return false;
    return true;
}

/* The field that says something else; NULL: none does. What only one of them knows differs not. */
static const char *difference(const struct store_object *row, const struct store_object *header)
{
    if (strcmp(row->name, header->name) != 0)
        return "name";
    if (strcmp(row->type, header->type) != 0)
        return "type";
    if (header->has_size &&
        (row->has_size ? header->size != row->size : header->size < row->received))
        return "size";
    if (header->has_sha256 && row->has_sha256 &&
        memcmp(header->sha256, row->sha256, sizeof(row->sha256)) != 0)
        return "sha256";
    if (!same_labels(row, header))
        return "labels";
    if (row->mode != header->mode)
        return "mode";
    return row->modified.us != header->modified.us ? "modified" : NULL;
}

static void
answer_begin(struct objects_group *group, struct store_object_job *job, struct object *object)
{
    const struct object_row *row = &object->row;

    if (++group->objects->writer.next_lease == 0)
        group->objects->writer.next_lease = 1;
    object->lease = group->objects->writer.next_lease;
    object->is_gone = false;
    job->lease = object->lease;
    job->number = object->number;
    job->received = row->object.received;
    job->is_complete = false;
    job->size = row->object.has_size ? row->object.size : 0;
    job->has_sha256 = row->object.has_sha256;
    memcpy(job->sha256, row->object.sha256, sizeof(job->sha256));
    memcpy(job->hash, row->hash, sizeof(job->hash));
}

void group_answer_complete(struct store_object_job *job, const struct store_object *object)
{
    job->number = object->number;
    job->lease = 0;
    job->received = job->size = object->size;
    job->is_complete = job->has_sha256 = true;
    memcpy(job->sha256, object->sha256, sizeof(job->sha256));
}

/* Its file, and the checksum to go on with. False: it is not what the index says. */
static int open_file(struct objects_group *group, struct object *object, bool *ret_is_whole)
{
    const struct object_row *row = &object->row;
    const uint64_t n_tail = row->object.received % STORE_OBJECT_BLOCK_BYTES;
    const struct object_key key = object_block_key(
        row->content, (uint32_t) (row->object.received / STORE_OBJECT_BLOCK_BYTES));
    char path[OBJECTS_PATH_BYTES];
    struct stat st;
    MDB_val value;
    int rc;

    *ret_is_whole = false;
    objects_path_of(group->objects, row->content, path);
    object->fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (object->fd < 0)
        return errno == ENOENT || errno == ELOOP ? 0 : fault(-errno, "cannot open %s", path);
    if (fstat(object->fd, &st) < 0)
        return fault(-errno, "cannot look at %s", path);
    if ((uint64_t) st.st_size < row->object.received)
        return 0;
    if (n_tail) {
        rc = index_get(group->objects, group->txn, OBJECTS_BLOCKS, span_of(key.bytes, key.len),
                       &value);
        if (rc == MDB_NOTFOUND || (!rc && value.mv_size != sizeof(object->tail_crc32c)))
            return 0;
        if (rc)
            return pass(db_check(rc, "cannot read the index of uploads"));
        memcpy(&object->tail_crc32c, value.mv_data, sizeof(object->tail_crc32c));
    }
    *ret_is_whole = true;
    return 0;
}

static int open_content(struct objects_group *group, struct object *object)
{
    bool is_whole;
    int r;

    if (object->row.content == 0 || object->fd >= 0)
        return 0;
    r = open_file(group, object, &is_whole);
    if (r || is_whole)
        return pass(r);
    log_event(LOG_ERROR, "upload_damaged", LOG_U("number", object->number),
              LOG_U("received", object->row.object.received),
              LOG_S("why", "its file is not what the index says: it is sent again from its begin"));
    pthread_mutex_lock(&group->objects->stats.lock);
    group->objects->stats.figures.n_damaged++;
    pthread_mutex_unlock(&group->objects->stats.lock);
    return pass(group_start_over(group, object));
}

/* What the header knows that the first one did not. */
static int learn(struct objects_group *group, struct object *object, struct store_object_job *job)
{
    const uint64_t max_bytes = group->objects->writer.limits.max_bytes;
    const struct store_object *header = job->header;
    struct store_object *to = &object->row.object;
    const bool learns_size = header->has_size && !to->has_size;
    uint64_t more = learns_size ? header->size - to->received : 0;
    int r = 0;

    if (learns_size && group_is_over(max_bytes, 0, header->size))
        return group_too_much(job, "uploads.max_size", max_bytes);
    if (learns_size)
        r = group_check_limits(group, job, to->agent, more, more);
    if (r)
        return pass(r);
    if (learns_size) {
        to->size = header->size;
        to->has_size = true;
        group_touch(group, object);
    }
    if (header->has_sha256 && !to->has_sha256) {
        memcpy(to->sha256, header->sha256, sizeof(to->sha256));
        to->has_sha256 = true;
        group_touch(group, object);
    }
    return more ? pass(group_charge(group, to->agent, more, more)) : 0;
}

/* A BEGIN that failed leaves no upload open that nobody has the lease of. */
static void close_again(struct objects_group *group, struct object *object)
{
    if (object->is_dirty)
        object->is_gone = true; /* with the group */
    else
        objects_let_go(group->objects, object);
}

/* 0 and *ret_content: the agent has just this already. */
static int
find_shared(struct objects_group *group, const struct store_object *header, uint64_t *ret_content)
{
    int rc;

    *ret_content = 0;
    if (!header->has_size || !header->has_sha256)
        return 0;
    rc = index_find_digest(group->objects, group->txn, header->sha256, header->size, ret_content);
    if (!rc)
        rc = index_find_holder(group->objects, group->txn, *ret_content, header->agent);
    if (rc == MDB_NOTFOUND ||
        (!rc && objects_is_damaged(group->objects, *ret_content, header->size))) {
        *ret_content = 0;
        return 0;
    }
    return pass(db_check(rc, "cannot read the index of uploads"));
}

static int check_new(struct objects_group *group, struct store_object_job *job, bool is_shared)
{
    const struct store_object_limits *limits = &group->objects->writer.limits;
    const struct store_object *header = job->header;
    struct object_account *account;
    int r = objects_account(group->objects, header->agent, &account);

    if (r)
        return pass(r);
    if (group_is_over(limits->agent_count, account->n, 1))
        return group_too_much(job, "uploads.agent_count", limits->agent_count);
    if (header->has_size && group_is_over(limits->max_bytes, 0, header->size))
        return group_too_much(job, "uploads.max_size", limits->max_bytes);
    group->is_own = true;
    if (!is_shared && store_disk_is_above(group->objects->store))
        return STORE_FULL;
    group->is_own = false;
    return group_check_limits(group, job, header->agent, header->has_size ? header->size : 0,
                              header->has_size && !is_shared ? header->size : 0);
}

static int begin_new(struct objects_group *group, struct store_object_job *job)
{
    struct object_row row = { .object = *job->header };
    struct object_account *account;
    struct object *object;
    uint64_t shared, n_bytes;
    int r = find_shared(group, job->header, &shared);

    if (!r)
        r = check_new(group, job, shared != 0);
    if (!r)
        r = objects_account(group->objects, row.object.agent, &account);
    if (r)
        return pass(r);
    row.object.number = group->objects->writer.next_number++;
    row.object.received = shared ? row.object.size : 0;
    row.object.is_complete = shared != 0;
    row.object.begun = row.object.used = group->now;
    row.content = shared;
    r = db_check(index_put_row(group->objects, group->txn, &row), "cannot write an upload");
    if (!r)
        r = db_check(index_put_next(group->objects, group->txn), "cannot write an upload");
    if (r)
        return pass(r);
    group->has_changed = true;
    group->n_begun++;
    account->n++;
    n_bytes = object_charge(&row.object);
    r = group_charge(group, row.object.agent, n_bytes, shared ? 0 : n_bytes);
    if (shared) {
        group->n_finished++;
        group->n_shared++;
        group_answer_complete(job, &row.object);
        return pass(r);
    }
    if (!r)
        r = group_keep_open(group->objects, &row, &object);
    if (!r) {
        group_touch(group, object); /* without the group it is not there */
        answer_begin(group, job, object);
    }
    return pass(r);
}

/* Nothing can be added to it, so the key leads to a new one from now on; what is left of the old
 * one stays under its number. */
static int begin_again(struct objects_group *group,
                       struct store_object_job *job,
                       uint64_t number,
                       const char *why)
{
    log_event(LOG_ERROR, "upload_damaged", LOG_U("number", number), LOG_S("why", why),
              LOG_S("remedy", "it is taken again, under a new number"));
    return pass(begin_new(group, job));
}

static int go_on(struct objects_group *group, struct store_object_job *job, uint64_t number)
{
    struct object *object = objects_find_open(group->objects, number);
    const bool was_open = object != NULL;
    struct object_row row;
    int r = 0;

    if (object) {
        row = object->row;
    } else {
        int rc = index_get_row(group->objects, group->txn, number, &row);

        if (rc == MDB_CORRUPTED || rc == MDB_NOTFOUND)
            return begin_again(group, job, number, "its row in the index is none");
        if (rc)
            return pass(db_check(rc, "cannot read an upload"));
    }
    job->what = difference(&row.object, job->header);
    if (job->what)
        return STORE_DIFFERS;
    if (row.object.is_complete && objects_is_damaged(group->objects, row.content, row.object.size))
        return begin_again(group, job, number, "its content is damaged");
    if (row.object.is_complete) {
        group_answer_complete(job, &row.object);
        return 0;
    }
    if (!object)
        r = group_keep_open(group->objects, &row, &object);
    if (!r)
        r = open_content(group, object);
    if (!r)
        r = learn(group, object, job);
    if (!r)
        answer_begin(group, job, object);
    else if (!was_open && object)
        close_again(group, object);
    return pass(r);
}

int group_begin(struct objects_group *group, struct store_object_job *job)
{
    const struct object_key key = object_key_of(job->header);
    uint64_t number;
    MDB_val value;
    int rc =
        index_get(group->objects, group->txn, OBJECTS_KEYS, span_of(key.bytes, key.len), &value);

    if (rc == MDB_NOTFOUND)
        return begin_new(group, job);
    if (rc || value.mv_size != sizeof(number))
        return pass(db_check(rc ? rc : MDB_CORRUPTED, "cannot find an upload"));
    memcpy(&number, value.mv_data, sizeof(number));
    return go_on(group, job, number);
}
