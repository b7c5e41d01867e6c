/* SPDX-License-Identifier: Apache-2.0 */
#include "server/store/objects/objects.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/log/log.h"
#include "server/store/whole.h"

void objects_path_of(const struct objects *objects,
                     uint64_t content,
                     char to[static OBJECTS_PATH_BYTES])
{
    snprintf(to, OBJECTS_PATH_BYTES, "%s/content/%016" PRIx64, objects->directory, content);
}

/* ---- accounts ---- */

uint64_t object_charge(const struct store_object *object)
{
    return object->has_size && object->size > object->received ? object->size : object->received;
}

int objects_account(struct objects *objects, uint32_t agent, struct object_account **ret)
{
    struct object_account *account;
    int r;

    *ret = map_get(&objects->writer.accounts, span_of(&agent, sizeof(agent)));
    if (*ret)
        return 0;
    account = calloc(1, sizeof(*account));
    if (!account)
        return fault(-ENOMEM, "no memory for an agent's uploads");
    account->agent = agent;
    r = map_put(&objects->writer.accounts, span_of(&account->agent, sizeof(account->agent)),
                account);
    if (r) {
        free(account);
        return pass(r);
    }
    *ret = account;
    return 0;
}

static void free_accounts(struct objects *objects)
{
    struct object_account *account;
    size_t at = 0;

    while ((account = map_next(&objects->writer.accounts, &at)))
        free(account);
    map_deinit(&objects->writer.accounts);
    objects->writer.accounts = (struct map){ 0 };
}

/* What lies open counts with what it said it will be; a shared content counts once. */
static int
count_row(struct objects *objects, const struct object_row *row, struct store_object_stats *figures)
{
    struct object_account *account;
    int r = objects_account(objects, row->object.agent, &account);

    if (r)
        return pass(r);
    account->n++;
    account->n_bytes += object_charge(&row->object);
    figures->n_uploads++;
    if (!row->object.is_complete) {
        figures->n_unfinished++;
        objects->writer.n_charged_bytes += object_charge(&row->object);
    }
    return 0;
}

static int count_contents(struct objects *objects, MDB_txn *txn, struct store_object_stats *figures)
{
    CLEANUP(db_cursor_closep) MDB_cursor *cursor = NULL;
    MDB_val key, value;
    int rc = mdb_cursor_open(txn, objects->tables[OBJECTS_CONTENTS], &cursor);

    if (!rc)
        rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
    while (!rc) {
        struct object_content content;

        if (!object_content_read(db_span(value), &content)) {
            figures->n_damaged++;
        } else {
            figures->n_contents++;
            figures->content_bytes += content.size;
            if (content.is_complete)
                objects->writer.n_charged_bytes += content.size;
        }
        rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    return rc;
}

static int count_uploads(struct objects *objects, MDB_txn *txn, struct store_object_stats *figures)
{
    CLEANUP(db_cursor_closep) MDB_cursor *cursor = NULL;
    MDB_val key, value;
    int rc = mdb_cursor_open(txn, objects->tables[OBJECTS_UPLOADS], &cursor);

    if (!rc)
        rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
    while (!rc) {
        struct object_row row;

        if (!object_row_read(db_u64_of(key), db_span(value), &row)) {
            figures->n_damaged++;
            log_event(LOG_ERROR, "upload_damaged", LOG_U("number", db_u64_of(key)),
                      LOG_S("why", "its row in the index is none"));
        } else if (count_row(objects, &row, figures)) {
            return ENOMEM;
        }
        rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    return rc;
}

int objects_count(struct objects *objects)
{
    CLEANUP(db_txn_abortp) MDB_txn *txn = NULL;
    struct store_object_stats now = { 0 };
    int rc = mdb_txn_begin(objects->env, NULL, MDB_RDONLY, &txn);

    free_accounts(objects);
    objects->writer.n_charged_bytes = 0;
    if (!rc)
        rc = count_uploads(objects, txn, &now);
    if (rc == MDB_NOTFOUND)
        rc = count_contents(objects, txn, &now);
    if (rc != MDB_NOTFOUND)
        return fold(db_check(rc ? rc : EIO, "cannot read the index of uploads"));
    pthread_mutex_lock(&objects->stats.lock);
    objects->stats.figures.n_uploads = now.n_uploads;
    objects->stats.figures.n_unfinished = now.n_unfinished;
    objects->stats.figures.n_contents = now.n_contents;
    objects->stats.figures.content_bytes = now.content_bytes;
    objects->stats.figures.n_damaged += now.n_damaged;
    pthread_mutex_unlock(&objects->stats.lock);
    return 0;
}

/* ---- the start ---- */

static int make_directory(const struct objects *objects, const char *name)
{
    char path[OBJECTS_PATH_BYTES];

    snprintf(path, sizeof(path), "%s%s", objects->directory, name);
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return errno == ENOSPC || errno == EDQUOT ? STORE_FULL
                                                  : fault(-errno, "cannot make %s", path);
    return 0;
}

static bool has_entries(const char *path)
{
    DIR *directory = opendir(path);
    struct dirent *entry;
    bool has = false;

    while (directory && !has && (entry = readdir(directory)))
        has = entry->d_name[0] != '.';
    if (directory)
        closedir(directory);
    return has;
}

/* Whether there are contents, but no index that could name them: nothing of it may be unlinked. */
static bool lost_its_index(const struct objects *objects)
{
    char path[OBJECTS_PATH_BYTES];
    struct stat st;

    snprintf(path, sizeof(path), "%s/index/data.mdb", objects->directory);
    if (stat(path, &st) == 0 && st.st_size > 0)
        return false;
    snprintf(path, sizeof(path), "%s/content", objects->directory);
    return has_entries(path);
}

static int set_aside(struct objects *objects, const char *why)
{
    char path[OBJECTS_PATH_BYTES];

    snprintf(path, sizeof(path), "%s.damaged-%lld", objects->directory, (long long) time(NULL));
    log_event(LOG_ERROR, "uploads_set_aside", LOG_S("path", path), LOG_S("why", why),
              LOG_S("remedy", "the rest is served; restore this directory from a backup"));
    return rename(objects->directory, path) < 0
               ? fault(-errno, "cannot rename %s", objects->directory)
               : 0;
}

static int make_directories(struct objects *objects)
{
    static const char *const names[] = { "", "/content", "/index" };
    char above[OBJECTS_PATH_BYTES];
    int r = 0;

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]) && !r; i++)
        r = make_directory(objects, names[i]);
    snprintf(above, sizeof(above), "%s/..", objects->directory);
    if (!r)
        r = db_sync_directory(objects->directory);
    return r ? pass(r) : pass(db_sync_directory(above));
}

/* The files' names are durable before anything in them is acknowledged. */
static int sync_index(const struct objects *objects)
{
    char path[OBJECTS_PATH_BYTES];

    snprintf(path, sizeof(path), "%s/index", objects->directory);
    return pass(db_sync_directory(path));
}

static int open_index(struct objects *objects)
{
    int r = 0, rc;

    if (lost_its_index(objects))
        r = set_aside(objects, "there is content, but no index of it");
    if (!r)
        r = make_directories(objects);
    if (r)
        return pass(r);
    rc = index_open(objects);
    if (!rc)
        return pass(sync_index(objects));
    if (!db_is_damage(rc))
        return pass(db_check(rc, "cannot open the index of uploads"));
    if (objects->env)
        mdb_env_close(objects->env);
    objects->env = NULL;
    r = set_aside(objects, mdb_strerror(rc));
    if (!r)
        r = make_directories(objects);
    if (!r)
        r = db_check(index_open(objects), "cannot make an index of uploads");
    return r ? pass(r) : pass(sync_index(objects));
}

static void init_locks(struct objects *objects)
{
    pthread_condattr_t attr;

    ensure(pthread_mutex_init(&objects->queue.lock, NULL) == 0);
    ensure(pthread_mutex_init(&objects->stats.lock, NULL) == 0);
    ensure(pthread_condattr_init(&attr) == 0);
    ensure(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0);
    ensure(pthread_cond_init(&objects->queue.wake, &attr) == 0);
    pthread_condattr_destroy(&attr);
}

int objects_open(struct objects *objects, struct store *store)
{
    int r;

    objects->store = store;
    objects->queue.end = &objects->queue.first;
    objects->queue.limits = store->options.objects;
    objects->queue.has_stopped = true;
    objects->writer.pause.fd = -1;
    if (snprintf(objects->directory, sizeof(objects->directory), "%s/default/objects",
                 store->directory) >= (int) sizeof(objects->directory))
        return fault(-ENAMETOOLONG, "the path of the database is too long");
    init_locks(objects);
    objects->is_open = true;
    r = open_index(objects);
    if (!r)
        r = pause_open(&objects->writer.pause, store->directory);
    if (!r)
        r = objects_count(objects);
    if (!r)
        r = objects_unlink_orphans(objects);
    if (r == STORE_FULL)
        return fault(-ENOSPC, "there is no room in %s: make room and start again",
                     objects->directory);
    return pass(r);
}

static void let_go_all(struct objects *objects)
{
    struct object *object;
    size_t at = 0;

    while ((object = map_next(&objects->writer.open, &at))) {
        objects_let_go(objects, object);
        at = 0;
    }
}

void objects_close(struct objects *objects)
{
    if (!objects->is_open)
        return;
    ensure(!objects->has_thread && !objects->queue.first);
    let_go_all(objects);
    map_deinit(&objects->writer.open);
    free_accounts(objects);
    if (objects->writer.pause.fd >= 0) {
        objects_unlink_doomed(objects);
        pause_close(&objects->writer.pause);
    }
    buf_deinit(&objects->writer.doomed);
    buf_deinit(&objects->writer.scratch);
    buf_deinit(&objects->stats.damaged);
    if (objects->env)
        mdb_env_close(objects->env);
    pthread_mutex_destroy(&objects->queue.lock);
    pthread_mutex_destroy(&objects->stats.lock);
    pthread_cond_destroy(&objects->queue.wake);
    objects->is_open = false;
}

/* ---- the writer's thread ---- */

static struct timespec in_a_while(void)
{
    struct timespec at;

    /* The kernel's clock, on which a condition waits whatever source tests give to ours. */
    clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_sec += OBJECTS_LOOK_S;
    return at;
}

/* The first of the queue, bounded; at least one. With the lock held. */
static struct store_object_job *take_group(struct objects *objects)
{
    struct store_object_job *first = objects->queue.first, *last = first;
    uint64_t n_bytes = 0;

    if (!first)
        return NULL;
    for (struct store_object_job *job = first; job; job = job->next) {
        n_bytes += job->work == STORE_OBJECT_APPEND ? job->len : 0;
        if (job != first && n_bytes > OBJECTS_GROUP_BYTES)
            break;
        last = job;
    }
    objects->queue.first = last->next;
    if (!last->next)
        objects->queue.end = &objects->queue.first;
    last->next = NULL;
    return first;
}

/* A fault or a full disk while nobody waits: the next sweep tries again. */
static void sweep(struct objects *objects)
{
    if (atomic_load(&objects->store->has_failed))
        return;
    if (objects_sweep(objects) < 0)
        store_fail(objects->store);
    objects->writer.next_sweep.us = clock_mono().us + OBJECTS_SWEEP_US;
}

static void *objects_main(void *arg)
{
    struct objects *objects = arg;
    bool is_stopping = false;

    while (!is_stopping) {
        struct timespec until = in_a_while();
        struct store_object_job *jobs;
        bool wants_sweep;
        int rc = 0;

        pthread_mutex_lock(&objects->queue.lock);
        while (!objects->queue.first && !objects->queue.is_stopping &&
               !objects->queue.wants_sweep && rc != ETIMEDOUT)
            rc = pthread_cond_timedwait(&objects->queue.wake, &objects->queue.lock, &until);
        jobs = take_group(objects);
        objects->writer.limits = objects->queue.limits;
        wants_sweep = objects->queue.wants_sweep;
        objects->queue.wants_sweep = false;
        is_stopping = objects->queue.is_stopping && !jobs;
        if (is_stopping)
            objects->queue.has_stopped = true;
        pthread_mutex_unlock(&objects->queue.lock);
        if (jobs)
            objects_write(objects, jobs);
        if (!is_stopping && (wants_sweep || clock_mono().us >= objects->writer.next_sweep.us))
            sweep(objects);
        if (objects->writer.doomed.len)
            objects_unlink_doomed(objects);
    }
    return NULL;
}

int objects_start(struct objects *objects)
{
    int rc;

    objects->queue.has_stopped = false;
    objects->has_thread = true;
    rc = pthread_create(&objects->thread, NULL, objects_main, objects);
    if (rc) {
        objects->has_thread = false;
        objects->queue.has_stopped = true;
        return fault(-rc, "cannot start the objects' writer");
    }
    return 0;
}

void objects_stop(struct objects *objects)
{
    if (!objects->has_thread)
        return;
    pthread_mutex_lock(&objects->queue.lock);
    objects->queue.is_stopping = true;
    pthread_cond_signal(&objects->queue.wake);
    pthread_mutex_unlock(&objects->queue.lock);
    pthread_join(objects->thread, NULL);
    objects->has_thread = false;
}

int store_object_submit(struct store *store, struct store_object_job *job)
{
    struct objects *objects = &store->objects;
    int r = STORE_STOPPED;

    ensure(job->done && job->work >= STORE_OBJECT_BEGIN && job->work <= STORE_OBJECT_LEAVE);
    ensure(objects->is_open);
    if (job->work == STORE_OBJECT_BEGIN)
        job->lease = 0; /* until it has one */
    pthread_mutex_lock(&objects->queue.lock);
    if (!objects->queue.has_stopped) {
        job->next = NULL;
        *objects->queue.end = job;
        objects->queue.end = &job->next;
        pthread_cond_signal(&objects->queue.wake);
        r = 0;
    }
    pthread_mutex_unlock(&objects->queue.lock);
    return r;
}

/* ---- settings and figures ---- */

void objects_sweep_soon(struct objects *objects)
{
    pthread_mutex_lock(&objects->queue.lock);
    objects->queue.wants_sweep = true;
    pthread_cond_signal(&objects->queue.wake);
    pthread_mutex_unlock(&objects->queue.lock);
}

void store_objects_set_limits(struct store *store, const struct store_object_limits *limits)
{
    struct objects *objects = &store->objects;

    pthread_mutex_lock(&objects->queue.lock);
    objects->queue.limits = *limits;
    pthread_mutex_unlock(&objects->queue.lock);
    objects_sweep_soon(objects);
}

wall_us store_object_expires(struct store *store, const struct store_object *object)
{
    struct objects *objects = &store->objects;
    int64_t after_us;

    pthread_mutex_lock(&objects->queue.lock);
    after_us =
        object->is_complete ? objects->queue.limits.retention_us : objects->queue.limits.expire_us;
    pthread_mutex_unlock(&objects->queue.lock);
    if (!object->is_complete && after_us == 0)
        after_us = OBJECTS_EXPIRE_US;
    return (wall_us){ after_us ? object->used.us + after_us : 0 };
}

void store_get_object_stats(struct store *store, struct store_object_stats *ret)
{
    struct objects *objects = &store->objects;

    pthread_mutex_lock(&objects->stats.lock);
    *ret = objects->stats.figures;
    pthread_mutex_unlock(&objects->stats.lock);
}

uint64_t objects_file_bytes(struct objects *objects)
{
    char path[OBJECTS_PATH_BYTES];
    struct store_object_stats figures;

    pthread_mutex_lock(&objects->stats.lock);
    figures = objects->stats.figures;
    pthread_mutex_unlock(&objects->stats.lock);
    snprintf(path, sizeof(path), "%s/index", objects->directory);
    return figures.content_bytes + db_file_bytes(path);
}
