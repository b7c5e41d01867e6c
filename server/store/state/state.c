/* SPDX-License-Identifier: Apache-2.0 */
#include "server/store/state/state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/faultpoint.h"
#include "common/base/file.h"
#include "common/log/log.h"

static const char *const table_names[STATE_N_TABLES] = {
    [STATE_META] = "meta",
    [STATE_CERTIFICATES] = "certificates",
    [STATE_OPERATORS] = "operators",
    [STATE_LABELS] = "labels",
    [STATE_IDENTITIES] = "identities",
    [STATE_TOKENS] = "tokens",
    [STATE_AUDIT] = "audit",
    [STATE_LIMITS] = "limits",
    [STATE_AGENTS] = "agents",
    [STATE_DEFINITIONS] = "definitions",
    [STATE_LAYOUTS] = "layouts",
};

#define READER_CHECK_TICKS 6 /* every minute */

const char *state_table_name(enum state_table table)
{
    return table_names[table];
}

/* ---- making and opening ---- */

static int put_u32(MDB_txn *txn, MDB_dbi dbi, const char *name, uint32_t value)
{
    MDB_val key = db_val_of(span_of_text(name)), data = db_val(&value, sizeof(value));

    return mdb_put(txn, dbi, &key, &data, 0);
}

static int make_tables(MDB_env *env)
{
    CLEANUP(db_txn_abortp) MDB_txn *txn = NULL;
    MDB_dbi meta = 0;
    int rc = mdb_txn_begin(env, NULL, 0, &txn);

    for (int i = STATE_META; !rc && i < STATE_N_TABLES; i++) {
        MDB_dbi dbi;

        rc = mdb_dbi_open(txn, table_names[i], MDB_CREATE, &dbi);
        if (i == STATE_META)
            meta = dbi;
    }
    if (!rc)
        rc = put_u32(txn, meta, "format", STATE_FORMAT);
    if (!rc)
        rc = put_u32(txn, meta, "min_reader", STATE_FORMAT);
    if (!rc)
        rc = mdb_txn_commit(take(txn));
    return rc;
}

int state_create(const char *directory)
{
    MDB_env *env;
    int rc;

    if (mkdir(directory, 0700) < 0)
        return fault(-errno, "cannot make %s", directory);
    rc = db_env_open(&env, directory, STATE_MAP_BYTES, STATE_N_TABLES);
    if (rc)
        return fold(db_check(rc, "cannot make the state database"));
    rc = make_tables(env);
    mdb_env_close(env);
    if (rc)
        return fold(db_check(rc, "cannot write the state database"));
    return pass(db_sync_directory(directory));
}

static uint32_t get_u32(MDB_txn *txn, MDB_dbi dbi, const char *name)
{
    MDB_val key = db_val_of(span_of_text(name)), data;
    uint32_t value = 0;

    if (mdb_get(txn, dbi, &key, &data) == 0 && data.mv_size == sizeof(value))
        memcpy(&value, data.mv_data, sizeof(value));
    return value;
}

static int open_tables(struct state *state, bool *ret_lacks, struct store_why *ret_why)
{
    CLEANUP(db_txn_abortp) MDB_txn *txn = NULL;
    uint32_t format, min_reader;
    int rc = mdb_txn_begin(state->env, NULL, MDB_RDONLY, &txn);

    if (!rc)
        rc = mdb_dbi_open(txn, table_names[STATE_META], 0, &state->tables[STATE_META]);
    if (rc)
        return fold(db_check(rc, "the state database has no table of its format"));
    format = get_u32(txn, state->tables[STATE_META], "format");
    min_reader = get_u32(txn, state->tables[STATE_META], "min_reader");
    if (min_reader > STATE_FORMAT) {
        snprintf(ret_why->text, sizeof(ret_why->text),
                 "the database has format %u, which asks for a program that knows format %u; this "
                 "one knows %u: "
                 "start the newer version again, or restore a backup from before the upgrade",
                 format, min_reader, STATE_FORMAT);
        return STORE_NEWER;
    }
    if (format == 0)
        return fault(-EIO, "the state database does not say its format");
    for (int i = STATE_META + 1; i < STATE_N_TABLES && !rc; i++)
        rc = mdb_dbi_open(txn, table_names[i], 0, &state->tables[i]);
    if (rc == MDB_NOTFOUND) {
        *ret_lacks = true;
        return 0;
    }
    if (rc)
        return fold(db_check(rc, "cannot read the state database"));
    rc = mdb_txn_commit(take(txn)); /* which keeps the handles */
    return fold(db_check(rc, "cannot read the state database"));
}

/* A version that knew fewer tables made this one. */
static int add_tables(struct state *state)
{
    CLEANUP(db_txn_abortp) MDB_txn *txn = NULL;
    int rc = mdb_txn_begin(state->env, NULL, 0, &txn);

    for (int i = STATE_META; i < STATE_N_TABLES && !rc; i++)
        rc = mdb_dbi_open(txn, table_names[i], MDB_CREATE, &state->tables[i]);
    if (rc)
        return fold(db_check(rc, "cannot add tables to the state database"));
    return fold(db_commit(state->env, take(txn), "cannot add tables to the state database"));
}

int state_open(struct state *state, const char *directory, struct store_why *ret_why)
{
    char file[4096];
    struct stat st;
    pthread_condattr_t attr;
    bool lacks = false;
    int r;

    *state = (struct state){ 0 };
    if (snprintf(file, sizeof(file), "%s/data.mdb", directory) >= (int) sizeof(file))
        return fault(-ENAMETOOLONG, "the path of the database is too long");
    if (stat(file, &st) < 0) {
        snprintf(ret_why->text, sizeof(ret_why->text),
                 "there is no database at %.200s: make one with 'sentinel-hub init'", directory);
        return STORE_NOT_FOUND;
    }
    r = db_env_open(&state->env, directory, STATE_MAP_BYTES, STATE_N_TABLES);
    if (r)
        return fold(db_check(r, "cannot open the state database"));
    r = open_tables(state, &lacks, ret_why);
    if (r == 0 && lacks)
        r = add_tables(state);
    if (r) {
        mdb_env_close(state->env);
        state->env = NULL;
        return r == STORE_NEWER ? r : pass(r);
    }
    state->queue.end = &state->queue.first;
    ensure(pthread_mutex_init(&state->work_lock, NULL) == 0);
    ensure(pthread_mutex_init(&state->queue.lock, NULL) == 0);
    ensure(pthread_condattr_init(&attr) == 0);
    ensure(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0);
    ensure(pthread_cond_init(&state->queue.wake, &attr) == 0);
    ensure(pthread_cond_init(&state->queue.done, NULL) == 0);
    pthread_condattr_destroy(&attr);
    return 0;
}

/* The state as the older version left it, beside it: who it was that had an identity is what
 * nothing else can tell. */
static int keep_aside(struct state *state, uint32_t format)
{
    CLEANUP(fd_closep) int fd = -1;
    char path[4200], temporary[4232];
    const char *directory;
    int r = db_check(mdb_env_get_path(state->env, &directory), "cannot keep the older state");

    if (r)
        return pass(r);
    snprintf(path, sizeof(path), "%.4096s/format-%u.mdb", directory, format);
    snprintf(temporary, sizeof(temporary), "%s.new", path);
    fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return pass(db_check(errno, "cannot keep the older state"));
    r = db_check(mdb_env_copyfd2(state->env, fd, MDB_CP_COMPACT), "cannot keep the older state");
    if (!r && (fsync(fd) < 0 || rename(temporary, path) < 0))
        r = db_check(errno, "cannot keep the older state");
    if (!r)
        r = db_sync_directory(directory);
    else
        (void) unlink(temporary);
    return pass(r);
}

int state_raise_format(struct state *state)
{
    CLEANUP(db_txn_abortp) MDB_txn *txn = NULL;
    MDB_dbi meta = state->tables[STATE_META];
    uint32_t format, min_reader;
    int r = db_check(mdb_txn_begin(state->env, NULL, 0, &txn), "cannot begin to write the state");

    if (r)
        return pass(r);
    format = get_u32(txn, meta, "format");
    min_reader = get_u32(txn, meta, "min_reader");
    if (format >= STATE_FORMAT && min_reader >= STATE_FORMAT)
        return 0;
    r = keep_aside(state, format);
    if (!r && format < STATE_FORMAT)
        r = db_check(put_u32(txn, meta, "format", STATE_FORMAT), "cannot raise the format");
    if (!r)
        r = db_check(put_u32(txn, meta, "min_reader", STATE_FORMAT), "cannot raise the format");
    if (!r)
        r = db_commit(state->env, take(txn), "cannot raise the format");
    if (r)
        return pass(r);
    log_event(LOG_INFO, "format_raised", LOG_U("from", format), LOG_U("to", STATE_FORMAT),
              LOG_S("note", "older versions refuse this database from now on"));
    return 0;
}

void state_close(struct state *state)
{
    if (!state->env)
        return;
    ensure(!state->queue.has_thread && !state->queue.first);
    mdb_env_close(state->env);
    state->env = NULL;
    pthread_mutex_destroy(&state->work_lock);
    pthread_mutex_destroy(&state->queue.lock);
    pthread_cond_destroy(&state->queue.wake);
    pthread_cond_destroy(&state->queue.done);
}

/* ---- writing ---- */

static int apply_all(struct state *state, struct state_job *jobs)
{
    CLEANUP(db_txn_abortp) MDB_txn *txn = NULL;
    bool has_written = false;
    int r = db_check(mdb_txn_begin(state->env, NULL, 0, &txn), "cannot begin to write the state");

    if (r)
        return pass(r);
    for (struct state_job *job = jobs; job; job = job->next) {
        job->r = job->apply(job, txn);
        if (job->r < 0 || job->r == STORE_FULL)
            return pass(job->r);
        has_written |= job->r == 0;
    }
    if (!has_written)
        return 0;
    faultpoint("state_before_commit");
    r = db_commit(state->env, take(txn), "cannot commit the state");
    faultpoint("state_after_commit");
    return pass(r);
}

static void work(struct state *state, struct state_job *jobs)
{
    struct state_job *next;
    int r;

    pthread_mutex_lock(&state->work_lock);
    r = apply_all(state, jobs);
    if (state->on_settle)
        state->on_settle(state->ctx, r);
    pthread_mutex_unlock(&state->work_lock);
    if (r < 0 && state->on_fault)
        state->on_fault(state->ctx);
    for (struct state_job *job = jobs; job; job = next) {
        bool is_waited_for = job->is_waited_for;

        next = job->next;
        if (r)
            job->r = r;
        if (job->finish)
            job->finish(job, job->r);
        if (is_waited_for) {
            pthread_mutex_lock(&state->queue.lock);
            job->is_done = true;
            pthread_cond_broadcast(&state->queue.done);
            pthread_mutex_unlock(&state->queue.lock);
        }
    }
}

static struct timespec tick_end(void)
{
    struct timespec at;

    /* A condition waits on the kernel's clock, whatever source tests give to ours. */
    clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_sec += STATE_TICK_US / 1000000;
    return at;
}

static bool is_past(struct timespec at)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec > at.tv_sec || (now.tv_sec == at.tv_sec && now.tv_nsec >= at.tv_nsec);
}

static void *state_main(void *arg)
{
    struct state *state = arg;
    struct timespec until = tick_end();
    unsigned n_ticks = 0;
    bool is_stopping = false;

    while (!is_stopping) {
        struct state_job *jobs;
        int rc = 0;

        pthread_mutex_lock(&state->queue.lock);
        while (!state->queue.first && !state->queue.is_stopping && rc != ETIMEDOUT)
            rc = pthread_cond_timedwait(&state->queue.wake, &state->queue.lock, &until);
        jobs = state->queue.first;
        state->queue.first = NULL;
        state->queue.end = &state->queue.first;
        is_stopping = state->queue.is_stopping && !jobs;
        if (is_stopping)
            state->queue.has_thread = false; /* what comes now does its work itself */
        pthread_mutex_unlock(&state->queue.lock);
        if (jobs)
            work(state, jobs);
        /* By the clock: where jobs never stop coming nothing ever times out. */
        if (is_stopping || is_past(until)) {
            int n_dead;

            if (state->on_tick)
                state->on_tick(state->ctx);
            if (++n_ticks % READER_CHECK_TICKS == 0)
                (void) mdb_reader_check(state->env, &n_dead);
            until = tick_end();
        }
    }
    return NULL;
}

int state_start(struct state *state)
{
    int rc;

    state->queue.has_thread = true;
    state->queue.is_stopping = false;
    rc = pthread_create(&state->thread, NULL, state_main, state);
    if (rc) {
        state->queue.has_thread = false;
        return fault(-rc, "cannot start the state writer");
    }
    return 0;
}

void state_stop(struct state *state)
{
    bool has_thread;

    pthread_mutex_lock(&state->queue.lock);
    has_thread = state->queue.has_thread;
    state->queue.is_stopping = true;
    pthread_cond_signal(&state->queue.wake);
    pthread_mutex_unlock(&state->queue.lock);
    if (has_thread)
        pthread_join(state->thread, NULL);
}

int state_queue(struct state *state, struct state_job *job)
{
    int r = STORE_STOPPED;

    job->next = NULL;
    pthread_mutex_lock(&state->queue.lock);
    if (state->queue.has_thread) {
        *state->queue.end = job;
        state->queue.end = &job->next;
        pthread_cond_signal(&state->queue.wake);
        r = 0;
    }
    pthread_mutex_unlock(&state->queue.lock);
    return r;
}

int state_run_here(struct state *state, struct state_job *job)
{
    job->next = NULL;
    job->is_waited_for = false;
    work(state, job);
    return job->r;
}

int state_run(struct state *state, struct state_job *job)
{
    job->is_waited_for = true;
    job->is_done = false;
    if (state_queue(state, job) == STORE_STOPPED)
        return state_run_here(state, job);
    pthread_mutex_lock(&state->queue.lock);
    while (!job->is_done)
        pthread_cond_wait(&state->queue.done, &state->queue.lock);
    pthread_mutex_unlock(&state->queue.lock);
    return job->r;
}

int state_put(struct state *state,
              MDB_txn *txn,
              enum state_table table,
              struct span key,
              struct span value)
{
    MDB_val k = db_val_of(key), v = db_val_of(value);

    return pass(db_check(mdb_put(txn, state->tables[table], &k, &v, 0), "cannot write the state"));
}

/* ---- reading ---- */

static bool begins_with(MDB_val key, struct span prefix)
{
    return key.mv_size >= prefix.len &&
           (!prefix.len || memcmp(key.mv_data, prefix.data, prefix.len) == 0);
}

/* The last row that begins with the prefix: the one before the first that is beyond all of them. */
static int seek_last(MDB_cursor *cursor, struct span prefix, MDB_val *key, MDB_val *value)
{
    uint8_t beyond[STORE_KEY_BYTES];
    size_t len = prefix.len;
    int rc;

    ensure(len <= sizeof(beyond));
    if (len > 0)
        memcpy(beyond, prefix.data, len);
    while (len > 0 && beyond[len - 1] == 0xff)
        len--;
    if (len == 0)
        return mdb_cursor_get(cursor, key, value, MDB_LAST);
    beyond[len - 1]++;
    *key = db_val(beyond, len);
    rc = mdb_cursor_get(cursor, key, value, MDB_SET_RANGE);
    if (rc == MDB_NOTFOUND)
        return mdb_cursor_get(cursor, key, value, MDB_LAST);
    return rc ? rc : mdb_cursor_get(cursor, key, value, MDB_PREV);
}

int state_walk(MDB_txn *txn, MDB_dbi table, const struct state_walk *walk)
{
    CLEANUP(db_cursor_closep) MDB_cursor *cursor = NULL;
    MDB_val key = db_val_of(walk->prefix), value;
    int rc = mdb_cursor_open(txn, table, &cursor);

    if (!rc && walk->is_backwards)
        rc = seek_last(cursor, walk->prefix, &key, &value);
    else if (!rc)
        rc = mdb_cursor_get(cursor, &key, &value, walk->prefix.len ? MDB_SET_RANGE : MDB_FIRST);
    while (!rc && begins_with(key, walk->prefix)) {
        if (!walk->fn(walk->ctx, db_span(key), db_span(value)))
            return 0;
        rc = mdb_cursor_get(cursor, &key, &value, walk->is_backwards ? MDB_PREV : MDB_NEXT);
    }
    return rc == MDB_NOTFOUND ? 0 : fold(db_check(rc, "cannot read the state"));
}

int state_each(struct state *state,
               enum state_table table,
               struct span prefix,
               bool (*fn)(void *ctx, struct span key, struct span value),
               void *ctx)
{
    CLEANUP(db_txn_abortp) MDB_txn *txn = NULL;
    const struct state_walk walk = { .prefix = prefix, .fn = fn, .ctx = ctx };
    int rc = mdb_txn_begin(state->env, NULL, MDB_RDONLY, &txn);

    if (rc)
        return fold(db_check(rc, "cannot read the state"));
    return pass(state_walk(txn, state->tables[table], &walk));
}
