/* SPDX-License-Identifier: Apache-2.0 */
#include "server/store/copy/backup.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/faultpoint.h"
#include "common/base/file.h"
#include "server/store/copy/copy.h"
#include "server/store/copy/pause.h"
#include "server/store/days/days.h"
#include "server/store/state/agents.h"
#include "server/store/state/state.h"

#define LOOK_NS 10000000

struct work {
    struct store_backup *asked;
    struct store_why *why;
    struct copy copy;
    struct pause pause;
    char database[BACKUP_PATH_BYTES]; /* that is copied */
    char to[BACKUP_PATH_BYTES];       /* as asked, without slashes at the end */
    char partial[BACKUP_PATH_BYTES];
    uint64_t n_all_bytes;
};

int backup_say(struct store_why *why, int r, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vsnprintf(why->text, sizeof(why->text), fmt, args);
    va_end(args);
    return r;
}

static int path_to(char to[static BACKUP_PATH_BYTES], const char *directory, const char *name)
{
    if (snprintf(to, BACKUP_PATH_BYTES, "%s%s", directory, name) >= BACKUP_PATH_BYTES)
        return fault(-ENAMETOOLONG, "the path %s%s is too long", directory, name);
    return 0;
}

/* ---- the target ---- */

static int not_dots(const struct dirent *entry)
{
    return strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
}

/* How many entries a directory has, and whether `name` is among them. */
static int count_entries(const char *path, const char *name, int *ret_n, bool *ret_has)
{
    struct dirent **entries = NULL;
    int n = scandir(path, &entries, not_dots, NULL);

    *ret_has = false;
    if (n < 0)
        return fault(-errno, "cannot read %s", path);
    for (int i = 0; i < n; i++) {
        *ret_has = *ret_has || strcmp(entries[i]->d_name, name) == 0;
        free(entries[i]);
    }
    free(entries);
    *ret_n = n;
    return 0;
}

int backup_is_free(const char *path, bool *ret)
{
    struct stat st;
    bool has = false;
    int n = 0, r;

    if (lstat(path, &st) < 0) {
        *ret = true;
        return errno == ENOENT ? 0 : fault(-errno, "cannot look at %s", path);
    }
    *ret = false;
    if (!S_ISDIR(st.st_mode))
        return 0;
    r = count_entries(path, "", &n, &has);
    *ret = !r && n == 0;
    return pass(r);
}

/* The mark goes last: what a kill leaves of the removal is known as ours. */
static int remove_all_but_mark(const char *path)
{
    struct dirent **entries = NULL;
    int n = scandir(path, &entries, not_dots, NULL), r = 0;

    if (n < 0)
        return fault(-errno, "cannot read %s", path);
    for (int i = 0; i < n; i++) {
        char entry[BACKUP_PATH_BYTES + 300];
        struct stat st;

        snprintf(entry, sizeof(entry), "%s/%s", path, entries[i]->d_name);
        if (!r && lstat(entry, &st) == 0 && S_ISDIR(st.st_mode))
            r = file_remove_tree(entry);
        free(entries[i]);
    }
    free(entries);
    return pass(r);
}

int backup_remove_partial(const char *path)
{
    struct stat st;
    bool has = false;
    int n = 0, r;

    if (lstat(path, &st) < 0)
        return errno == ENOENT ? 0 : fault(-errno, "cannot look at %s", path);
    if (!S_ISDIR(st.st_mode))
        return STORE_UNFIT;
    r = count_entries(path, BACKUP_MARK, &n, &has);
    if (r)
        return pass(r);
    if (n > 0 && !has)
        return STORE_UNFIT;
    r = remove_all_but_mark(path);
    return r ? pass(r) : pass(file_remove_tree(path));
}

/* A backup within what is copied would never end. */
static int check_place(struct work *work)
{
    char parent[BACKUP_PATH_BYTES], real[PATH_MAX], state[PATH_MAX];
    char *slash;
    size_t len;

    memcpy(parent, work->to, sizeof(parent));
    slash = strrchr(parent, '/');
    if (slash)
        slash[slash == parent] = 0;
    if (!realpath(slash ? parent : ".", real))
        return backup_say(work->why, STORE_UNFIT, "there is no directory %.200s: make it first",
                          slash ? parent : ".");
    if (!realpath(work->asked->state_directory, state))
        return fault(-errno, "cannot look at %s", work->asked->state_directory);
    len = strlen(state);
    if (strncmp(real, state, len) == 0 && (real[len] == 0 || real[len] == '/'))
        return backup_say(work->why, STORE_UNFIT,
                          "%.200s lies in the state directory itself: give a place outside, best "
                          "on another disk",
                          work->to);
    return 0;
}

static int prepare(struct work *work)
{
    char mark[BACKUP_PATH_BYTES];
    bool is_free;
    int r = check_place(work);

    if (r)
        return pass(r);
    r = backup_is_free(work->to, &is_free);
    if (!r && !is_free)
        return backup_say(work->why, STORE_UNFIT,
                          "there is something at %.200s already: give a directory that is not "
                          "there yet, or empty",
                          work->to);
    if (!r)
        r = backup_remove_partial(work->partial);
    if (r == STORE_UNFIT)
        return backup_say(work->why, STORE_UNFIT, "%.200s is in the way: move it elsewhere",
                          work->partial);
    if (!r)
        r = path_to(mark, work->partial, "/" BACKUP_MARK);
    if (!r)
        r = copy_make_directory(&work->copy, work->partial);
    return r ? pass(r) : pass(copy_write(&work->copy, mark, ""));
}

/* ---- the sealer pauses ---- */

static void look_later(void)
{
    const struct timespec pause = { .tv_nsec = LOOK_NS };

    nanosleep(&pause, NULL);
}

static int begin_pause(struct work *work)
{
    int64_t until_us = clock_mono().us + work->asked->wait_us;
    bool has_wish = false;
    int r = pause_open(&work->pause, work->database);

    if (r)
        return pass(r);
    for (;;) {
        has_wish = has_wish || pause_wish(&work->pause);
        if (has_wish && pause_begin(&work->pause))
            return 0;
        if (clock_mono().us >= until_us)
            break;
        look_later();
    }
    if (!has_wish)
        return backup_say(work->why, STORE_BUSY, "another backup is under way: wait for its end");
    return backup_say(
        work->why, STORE_BUSY,
        "the hub seals or compacts, and did not come to the end of a round in %lld s: "
        "try again later",
        (long long) (work->asked->wait_us / 1000000));
}

/* ---- environments ---- */

/* One that is damaged or gone is left out. Outcomes: STORE_NOT_FOUND, STORE_FULL. */
static int copy_one(struct work *work, const char *name, const char *as)
{
    char from[BACKUP_PATH_BYTES], to[BACKUP_PATH_BYTES];
    const struct store_damage damage = { from, "data.mdb", "its pages lead nowhere: left out" };
    bool is_damaged = false;
    int r = path_to(from, work->database, name);

    if (!r)
        r = path_to(to, work->partial, as);
    if (!r)
        r = copy_environment(&work->copy, from, to, &is_damaged);
    if (is_damaged) {
        work->asked->n_left_out++;
        if (work->asked->on_damage)
            work->asked->on_damage(work->asked->ctx, &damage);
    }
    faultpoint("backup_copied");
    return pass(r);
}

static int is_environment(const struct dirent *entry)
{
    size_t len = strlen(entry->d_name); /* a segment or a day 8, a month 6, a year 4 */

    return len >= 4 && len <= 8 && strspn(entry->d_name, "0123456789") == len;
}

/* All environments of a kind, the highest number first. */
static int copy_kind(struct work *work, const char *kind, uint64_t *n_copied)
{
    char directory[BACKUP_PATH_BYTES], to[BACKUP_PATH_BYTES], in[BACKUP_PATH_BYTES];
    struct dirent **entries = NULL;
    int n, r = path_to(directory, work->database, kind);

    if (!r)
        r = path_to(in, work->partial, "/db");
    if (!r)
        r = path_to(to, in, kind);
    if (!r)
        r = copy_make_directory(&work->copy, to);
    if (r)
        return pass(r);
    n = scandir(directory, &entries, is_environment, alphasort);
    if (n < 0)
        return errno == ENOENT ? 0 : fault(-errno, "cannot read %s", directory);
    while (n-- > 0) {
        char name[64], as[80];

        snprintf(name, sizeof(name), "%s/%.16s", kind, entries[n]->d_name);
        snprintf(as, sizeof(as), "/db%s", name);
        if (!r)
            r = copy_one(work, name, as);
        *n_copied += r == 0;
        if (r == STORE_NOT_FOUND)
            r = 0;
        free(entries[n]);
    }
    free(entries);
    return r ? pass(r) : pass(db_sync_directory(to));
}

/* ---- uploads ---- */

/* What is in a file behind what the index says, and files that it does not know, go at the start.
 */
static int copy_uploads(struct work *work)
{
    char to[BACKUP_PATH_BYTES], from[BACKUP_PATH_BYTES];
    int r = path_to(to, work->partial, "/db/default/objects");

    if (!r)
        r = copy_make_directory(&work->copy, to);
    if (!r)
        r = copy_one(work, "/default/objects/index", "/db/default/objects/index");
    if (r == STORE_NOT_FOUND) /* a hub that has none, or an index that is damaged: named by now */
        return pass(file_remove_tree(to));
    if (!r)
        r = path_to(from, work->database, "/default/objects/content");
    if (!r)
        r = path_to(to, work->partial, "/db/default/objects/content");
    if (!r)
        r = copy_tree(&work->copy, from, to);
    if (r && r != STORE_NOT_FOUND)
        return pass(r);
    r = path_to(to, work->partial, "/db/default/objects");
    return r ? pass(r) : pass(db_sync_directory(to));
}

/* ---- state ---- */

/* Nobody else has our own copy, and the place it lies at may know no locks. The answer is LMDB's.
 */
static int open_copy(MDB_env **ret, const char *path, unsigned flags)
{
    MDB_env *env;
    int rc = mdb_env_create(&env);

    if (rc)
        return rc;
    rc = mdb_env_set_maxdbs(env, STATE_N_TABLES);
    if (!rc)
        rc = mdb_env_set_mapsize(env, STATE_MAP_BYTES);
    if (!rc)
        rc = mdb_env_open(env, path, MDB_NOTLS | MDB_NOLOCK | flags, 0600);
    if (rc)
        mdb_env_close(env);
    else
        *ret = env;
    return rc;
}

/* The two copies of `state`: as it was at first, and as it is now. */
struct states {
    MDB_env *first_env, *env;
    MDB_txn *first_txn, *txn;
    MDB_dbi first_agents, first_meta, agents, meta;
};

static void close_states(struct states *states)
{
    db_txn_abortp(&states->first_txn);
    db_txn_abortp(&states->txn);
    if (states->first_env)
        mdb_env_close(states->first_env);
    if (states->env)
        mdb_env_close(states->env);
}

static int open_states(struct states *states, const char *first, const char *now)
{
    const char *agents = state_table_name(STATE_AGENTS), *meta = state_table_name(STATE_META);
    int rc = open_copy(&states->first_env, first, MDB_RDONLY);

    if (!rc)
        rc = open_copy(&states->env, now, 0);
    if (!rc)
        rc = mdb_txn_begin(states->first_env, NULL, MDB_RDONLY, &states->first_txn);
    if (!rc)
        rc = mdb_txn_begin(states->env, NULL, 0, &states->txn);
    if (!rc)
        rc = mdb_dbi_open(states->first_txn, agents, 0, &states->first_agents);
    if (!rc)
        rc = mdb_dbi_open(states->first_txn, meta, 0, &states->first_meta);
    if (!rc)
        rc = mdb_dbi_open(states->txn, agents, 0, &states->agents);
    if (!rc)
        rc = mdb_dbi_open(states->txn, meta, 0, &states->meta);
    return rc;
}

/*
 * An agent's counters become those of the first copy, from which the replay of the journal's copy
 * goes on. One that came in between had none: the replay counts all it sent. The answer is LMDB's.
 */
static int put_agent(struct states *states, MDB_val key, MDB_val value)
{
    CLEANUP(buf_deinit) struct buf record = { 0 };
    struct agent_counts counts;
    MDB_val first;
    int rc = mdb_get(states->first_txn, states->first_agents, &key, &first);

    if (agent_record_is_forgotten(db_u32_of(key), db_span(value)))
        return 0; /* maybe since: nothing of it comes back */
    if (rc == 0) {
        buf_append(&record, first.mv_data, first.mv_size);
    } else if (rc == MDB_NOTFOUND && agent_record_counts(db_u32_of(key), db_span(value), &counts)) {
        agent_record_clear_counts(db_span(value), &record);
    } else {
        return rc == MDB_NOTFOUND ? 0 : rc; /* verify names it */
    }
    if (buf_failed(&record))
        return ENOMEM;
    value = db_val_of(buf_span(&record));
    return mdb_put(states->txn, states->agents, &key, &value, 0);
}

/* How far a follower has read must not be ahead of the journal's copy. The answer is LMDB's. */
static int put_meta(struct states *states, MDB_val key, MDB_val value)
{
    static const char prefix[] = "follow.";
    MDB_val first;
    int rc;

    (void) value;
    if (key.mv_size < sizeof(prefix) - 1 || memcmp(key.mv_data, prefix, sizeof(prefix) - 1) != 0)
        return 0;
    rc = mdb_get(states->first_txn, states->first_meta, &key, &first);
    if (rc == 0)
        return mdb_put(states->txn, states->meta, &key, &first, 0);
    return rc == MDB_NOTFOUND ? mdb_del(states->txn, states->meta, &key, NULL) : rc;
}

/* Keys first: what is changed meanwhile moves the pages. */
static int each_key(struct states *states,
                    MDB_dbi table,
                    int (*fn)(struct states *states, MDB_val key, MDB_val value))
{
    CLEANUP(buf_deinit) struct buf keys = { 0 };
    CLEANUP(db_cursor_closep) MDB_cursor *cursor = NULL;
    MDB_val key, value;
    int rc = mdb_cursor_open(states->txn, table, &cursor);

    if (!rc)
        rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
    while (!rc) {
        buf_append(&keys, &key.mv_size, sizeof(key.mv_size));
        buf_append(&keys, key.mv_data, key.mv_size);
        rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    if (buf_failed(&keys))
        return ENOMEM;
    if (rc != MDB_NOTFOUND)
        return rc;
    rc = 0;
    for (size_t at = 0; at < keys.len && !rc; at += key.mv_size) {
        memcpy(&key.mv_size, keys.data + at, sizeof(key.mv_size));
        at += sizeof(key.mv_size);
        key.mv_data = keys.data + at;
        rc = mdb_get(states->txn, table, &key, &value);
        if (!rc)
            rc = fn(states, key, value);
    }
    return rc;
}

static int set_back(const char *first, const char *now)
{
    CLEANUP(close_states) struct states states = { 0 };
    int rc = open_states(&states, first, now);

    if (!rc)
        rc = each_key(&states, states.agents, put_agent);
    if (!rc)
        rc = each_key(&states, states.meta, put_meta);
    if (!rc)
        rc = mdb_txn_commit(take(states.txn));
    return pass(db_check(rc, "cannot write the copy of the state"));
}

static int copy_state(struct work *work)
{
    char first[BACKUP_PATH_BYTES], now[BACKUP_PATH_BYTES];
    int r = copy_one(work, "/state", "/db/state");

    if (r == STORE_NOT_FOUND)
        return fault(-EIO, "the state database cannot be read: see sentinel-hub verify");
    if (!r)
        r = path_to(first, work->partial, "/db/state.first");
    if (!r)
        r = path_to(now, work->partial, "/db/state");
    if (!r)
        r = set_back(first, now);
    if (r == STORE_NOT_FOUND)
        return fault(-EIO, "the state database lacks a table");
    return r ? pass(r) : pass(file_remove_tree(first));
}

/* ---- the whole ---- */

static int copy_beside(struct work *work)
{
    int r = 0;

    for (const char *const *name = work->asked->beside; name && *name && !r; name++) {
        char from[BACKUP_PATH_BYTES], to[BACKUP_PATH_BYTES], slash[64];

        ensure(snprintf(slash, sizeof(slash), "/%s", *name) < (int) sizeof(slash));
        r = path_to(from, work->asked->state_directory, slash);
        if (!r)
            r = path_to(to, work->partial, slash);
        if (!r)
            r = copy_tree(&work->copy, from, to);
        if (r == STORE_NOT_FOUND)
            r = 0; /* a hub without certificates of its own has none */
    }
    return pass(r);
}

static int make_directories(struct work *work)
{
    static const char *const names[] = { "/db", "/db/default" };
    int r = 0;

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]) && !r; i++) {
        char path[BACKUP_PATH_BYTES];

        r = path_to(path, work->partial, names[i]);
        if (!r)
            r = copy_make_directory(&work->copy, path);
    }
    return pass(r);
}

static int copy_all(struct work *work)
{
    uint64_t n_rolled = 0;
    int r = make_directories(work);

    if (!r)
        r = copy_one(work, "/state", "/db/state.first");
    if (r == STORE_NOT_FOUND)
        return fault(-EIO, "the state database cannot be read: see sentinel-hub verify");
    if (!r)
        r = copy_kind(work, "/default/metrics", &work->asked->n_days);
    if (!r)
        r = copy_kind(work, "/default/logs", &work->asked->n_days);
    if (!r)
        r = copy_kind(work, "/default/rollup-1m", &n_rolled);
    if (!r)
        r = copy_kind(work, "/default/rollup-1h", &n_rolled);
    if (!r)
        r = copy_one(work, "/default/inventory", "/db/default/inventory");
    if (r == STORE_NOT_FOUND)
        r = 0; /* damaged and told, or none sent yet */
    if (!r)
        r = copy_kind(work, "/default/journal", &work->asked->n_segments);
    if (!r)
        r = copy_uploads(work);
    if (!r)
        r = copy_state(work);
    return r ? pass(r) : pass(copy_beside(work));
}

/* From here on it is one. */
static int finish(struct work *work)
{
    char mark[BACKUP_PATH_BYTES], above[BACKUP_PATH_BYTES], path[BACKUP_PATH_BYTES], text[80];
    int r = path_to(mark, work->partial, "/" BACKUP_MARK);

    snprintf(text, sizeof(text), BACKUP_MARK " 1\nbegan_us %lld\n",
             (long long) work->asked->began_us);
    if (!r)
        r = path_to(above, work->to, "/..");
    if (!r)
        r = copy_write(&work->copy, mark, text);
    for (const char *const *name = (const char *const[]){ "/db/default", "/db", "", NULL };
         *name && !r; name++) {
        r = path_to(path, work->partial, *name);
        if (!r)
            r = db_sync_directory(path);
    }
    if (r)
        return pass(r);
    faultpoint("backup_before_rename");
    if (rename(work->partial, work->to) < 0)
        return fault(-errno, "cannot rename %s to %s", work->partial, work->to);
    faultpoint("backup_after_rename");
    return pass(db_sync_directory(above));
}

static void on_bytes(void *ctx, uint64_t n_more)
{
    struct work *work = ctx;

    work->asked->n_bytes += n_more;
    if (work->asked->on_progress)
        work->asked->on_progress(work->asked->ctx, work->asked->n_bytes, work->n_all_bytes);
}

static uint64_t bytes_of_uploads(const struct work *work)
{
    char directory[BACKUP_PATH_BYTES];
    struct dirent **entries = NULL;
    uint64_t n_bytes = 0;
    int n = path_to(directory, work->database, "/default/objects/content")
                ? 0
                : scandir(directory, &entries, not_dots, NULL);

    for (int i = 0; i < n; i++) {
        char path[BACKUP_PATH_BYTES + 300];
        struct stat st;

        snprintf(path, sizeof(path), "%s/%s", directory, entries[i]->d_name);
        if (stat(path, &st) == 0)
            n_bytes += (uint64_t) st.st_size;
        free(entries[i]);
    }
    free(entries);
    if (path_to(directory, work->database, "/default/objects/index") == 0)
        n_bytes += db_file_bytes(directory);
    return n_bytes;
}

/* What the copy may take, for the progress. */
static void estimate(struct work *work)
{
    static const char *const kinds[] = { "/default/metrics", "/default/logs", "/default/rollup-1m",
                                         "/default/rollup-1h", "/default/journal" };
    char path[BACKUP_PATH_BYTES];

    if (path_to(path, work->database, "/state") == 0)
        work->n_all_bytes = 2 * db_file_bytes(path);
    work->n_all_bytes += bytes_of_uploads(work);
    if (path_to(path, work->database, "/default/inventory") == 0)
        work->n_all_bytes += db_file_bytes(path);
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        struct dirent **entries = NULL;
        int n = path_to(path, work->database, kinds[i])
                    ? 0
                    : scandir(path, &entries, is_environment, NULL);

        for (int k = 0; k < n; k++) {
            char one[BACKUP_PATH_BYTES + 32];

            snprintf(one, sizeof(one), "%s/%.16s", path, entries[k]->d_name);
            work->n_all_bytes += db_file_bytes(one);
            free(entries[k]);
        }
        free(entries);
    }
}

static int set_paths(struct work *work)
{
    size_t len = strlen(work->asked->to);
    struct stat st;
    int r = path_to(work->to, work->asked->to, "");

    while (len > 1 && work->to[len - 1] == '/' && !r)
        work->to[--len] = 0;
    if (!r)
        r = path_to(work->partial, work->to, ".partial");
    if (!r)
        r = path_to(work->database, work->asked->state_directory, "/db/state/data.mdb");
    if (r)
        return pass(r);
    if (stat(work->database, &st) < 0)
        return backup_say(work->why, STORE_NOT_FOUND, "there is no database in %.200s/db",
                          work->asked->state_directory);
    return pass(path_to(work->database, work->asked->state_directory, "/db"));
}

int store_backup(struct store_backup *asked, struct store_why *ret_why)
{
    struct work work = { .asked = asked, .why = ret_why, .pause = { -1 } };
    bool is_prepared = false;
    int r;

    ret_why->text[0] = 0;
    asked->n_bytes = asked->n_days = asked->n_segments = asked->n_left_out = 0;
    work.copy = (struct copy){ .on_bytes = on_bytes, .ctx = &work };
    r = set_paths(&work);
    if (!r)
        r = prepare(&work);
    is_prepared = r == 0 || r == STORE_FULL;
    if (!r)
        r = begin_pause(&work);
    asked->began_us = clock_wall().us;
    estimate(&work);
    if (!r)
        r = copy_all(&work);
    if (!r)
        r = finish(&work);
    pause_close(&work.pause);
    if (r == STORE_FULL)
        backup_say(ret_why, r, "there is no room for %.200s: nothing of the backup was kept",
                   work.copy.full);
    if (r && is_prepared && file_remove_tree(work.partial) < 0)
        return -EIO;
    return r < 0 ? pass(r) : r;
}
