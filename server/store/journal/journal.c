/* SPDX-License-Identifier: Apache-2.0 */
#include "server/store/journal/journal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/crc32c.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/faultpoint.h"
#include "common/base/file.h"
#include "common/log/log.h"

#define SEGMENT_TABLES 3
#define SPARE_DESCRIPTORS 6

struct run_record {
    uint64_t last_sequence;
    int64_t last_use_us;
    uint32_t last_crc32c;
    uint32_t zero;
};

static_assert(sizeof(struct run_record) == 24, "on disk");

/* ---- segments ---- */

static void segment_free(struct segment *segment)
{
    if (segment->env)
        mdb_env_close(segment->env);
    free(segment);
}

/* With open.lock held. False: every open one is in use. */
static bool close_one(struct journal *journal)
{
    struct segment *segment, *oldest = NULL;

    for (segment = journal_next(journal, NULL); segment; segment = journal_next(journal, segment)) {
        if (segment->env && segment->n_users == 0 &&
            (!oldest || segment->last_use < oldest->last_use))
            oldest = segment;
    }
    if (!oldest)
        return false;
    mdb_env_close(take(oldest->env));
    journal->open.n--;
    return true;
}

static int open_tables(struct segment *segment)
{
    CLEANUP(db_txn_abortp) MDB_txn *txn = NULL;
    int rc = mdb_txn_begin(segment->env, NULL, MDB_RDONLY, &txn);

    if (!rc)
        rc = mdb_dbi_open(txn, "chunks", 0, &segment->chunks);
    if (!rc)
        rc = mdb_dbi_open(txn, "runs", 0, &segment->runs);
    if (!rc)
        rc = mdb_dbi_open(txn, "meta", 0, &segment->meta);
    /* All of it is in the first commit: without one it is a beginning, with one it is damage. */
    if (rc == MDB_NOTFOUND && mdb_txn_id(txn) > 0)
        rc = MDB_CORRUPTED;
    return rc ? rc : mdb_txn_commit(take(txn));
}

static struct segment *segment_new(struct journal *journal, uint32_t number)
{
    struct segment *segment = calloc(1, sizeof(*segment));

    if (!segment)
        return NULL;
    segment->number = number;
    ensure(snprintf(segment->path, sizeof(segment->path), "%s/%08u", journal->directory, number) <
           (int) sizeof(segment->path));
    return segment;
}

static int put_in_table(struct journal *journal, struct segment *segment)
{
    uint32_t number = segment->number;

    pthread_mutex_lock(&journal->open.lock);
    if (journal_n_segments(journal) == 0)
        atomic_store(&journal->first, number);
    if (number - atomic_load(&journal->first) >= JOURNAL_SEGMENTS) {
        pthread_mutex_unlock(&journal->open.lock);
        return fault(-EMFILE, "the journal has %u segments, as many as it can", JOURNAL_SEGMENTS);
    }
    atomic_store_explicit(&journal->segments[number % JOURNAL_SEGMENTS], segment,
                          memory_order_release);
    atomic_store_explicit(&journal->end, number + 1, memory_order_release);
    pthread_mutex_unlock(&journal->open.lock);
    return 0;
}

/* Some descriptors are left for the files and directories that are opened for a moment. */
static bool has_spare(void)
{
    int spare[SPARE_DESCRIPTORS];
    size_t n = 0;

    while (n < SPARE_DESCRIPTORS && (spare[n] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
        n++;
    for (size_t i = 0; i < n; i++)
        close(spare[i]);
    return n == SPARE_DESCRIPTORS;
}

/* The environment alone. With open.lock held. The answer is LMDB's. */
static int open_env(struct journal *journal, struct segment *segment)
{
    int rc;

    while (journal->open.n >= JOURNAL_OPEN && close_one(journal))
        ;
    do {
        rc = db_env_open(&segment->env, segment->path, journal->segment_bytes + JOURNAL_SLACK_BYTES,
                         SEGMENT_TABLES);
    } while ((rc == EMFILE || rc == ENFILE || rc == ENOMEM) && close_one(journal));
    if (rc)
        return rc;
    segment->n_users++; /* not this one */
    while (!has_spare() && close_one(journal))
        ;
    segment->n_users--;
    return 0;
}

/* One that is there. With open.lock held. The answer is LMDB's. */
static int open_whole(struct journal *journal, struct segment *segment)
{
    int rc = open_env(journal, segment);

    if (rc)
        return rc;
    rc = open_tables(segment);
    if (rc)
        mdb_env_close(take(segment->env));
    else
        journal->open.n++;
    return rc;
}

int journal_use(struct journal *journal, struct segment *segment)
{
    int rc = 0, r = 0;

    pthread_mutex_lock(&journal->open.lock);
    if (!segment->env && !segment->is_no_database) {
        rc = open_whole(journal, segment);
        /* A segment without its tables is the newest, and a rotation cut short: see open_segment().
         */
        if (rc == MDB_NOTFOUND || db_is_damage(rc)) {
            segment->is_no_database = true;
            log_event(LOG_ERROR, "journal_segment_damaged", LOG_S("path", segment->path),
                      LOG_S("why", mdb_strerror(rc)));
        } else {
            r = fold(db_check(rc, "cannot open a segment of the journal"));
        }
    }
    if (!r && segment->is_no_database)
        r = STORE_NOT_FOUND;
    if (!r) {
        segment->n_users++;
        segment->last_use = ++journal->open.n_uses;
    }
    pthread_mutex_unlock(&journal->open.lock);
    return r;
}

void journal_release(struct journal *journal, struct segment *segment)
{
    pthread_mutex_lock(&journal->open.lock);
    ensure(segment->n_users > 0);
    segment->n_users--;
    pthread_mutex_unlock(&journal->open.lock);
}

/* One that is there. `is_newest`: it may be an unfinished rotation, which leaves nothing behind. */
static int open_segment(struct journal *journal, uint32_t number, bool is_newest)
{
    struct segment *segment = segment_new(journal, number);
    int r;

    if (!segment)
        return fault(-ENOMEM, "no memory for a segment");
    if (is_newest) {
        int rc = open_whole(journal, segment);

        if (rc == MDB_NOTFOUND) {
            log_event(LOG_INFO, "journal_rotation_begun_anew", LOG_U("segment", number));
            r = file_remove_tree(segment->path);
            segment_free(segment);
            return pass(r);
        }
        /* Damage is said and noted when the replay uses it. */
        r = rc && !db_is_damage(rc) ? fold(db_check(rc, "cannot open a segment of the journal"))
                                    : 0;
        if (r) {
            segment_free(segment);
            return pass(r);
        }
    }
    r = put_in_table(journal, segment);
    if (r)
        segment_free(segment);
    return pass(r);
}

static int is_number(const struct dirent *entry)
{
    return strlen(entry->d_name) == 8 && strspn(entry->d_name, "0123456789") == 8;
}

/* A segment that had not gone all the way. */
static int is_left_over(const struct dirent *entry)
{
    return strlen(entry->d_name) > 8 && strcmp(entry->d_name + 8, DB_GONE) == 0;
}

static int remove_left_over(const struct journal *journal)
{
    struct dirent **entries = NULL;
    int n = scandir(journal->directory, &entries, is_left_over, alphasort), r = 0;

    for (int i = 0; i < n; i++) {
        char path[sizeof(journal->directory) + 300];

        snprintf(path, sizeof(path), "%s/%s", journal->directory, entries[i]->d_name);
        if (!r)
            r = file_remove_tree(path);
        free(entries[i]);
    }
    free(entries);
    return pass(r);
}

/* Each directory, and its entry in the one above: without them the segments would be gone after a
 * power cut. Outcomes: STORE_FULL. */
static int make_directory(struct journal *journal, const char *database)
{
    char tenant[sizeof(journal->directory)];
    int r;

    if (snprintf(journal->directory, sizeof(journal->directory), "%s/default/journal", database) >=
        (int) sizeof(journal->directory))
        return fault(-ENAMETOOLONG, "the path of the journal is too long");
    snprintf(tenant, sizeof(tenant), "%s/default", database);
    if ((mkdir(tenant, 0700) < 0 && errno != EEXIST) ||
        (mkdir(journal->directory, 0700) < 0 && errno != EEXIST))
        return pass(db_check(errno, "cannot make the directory of the journal"));
    r = db_sync_directory(tenant);
    return r ? pass(r) : pass(db_sync_directory(database));
}

int journal_open(struct journal *journal, const char *database, uint64_t segment_bytes)
{
    struct dirent **entries = NULL;
    int n, r;

    memset(journal, 0, sizeof(*journal));
    ensure(pthread_mutex_init(&journal->open.lock, NULL) == 0);
    journal->segment_bytes = segment_bytes;
    journal->is_open = true;
    journal->next_chunk = 1;
    r = make_directory(journal, database);
    if (!r)
        r = remove_left_over(journal);
    if (r)
        return pass(r);
    n = scandir(journal->directory, &entries, is_number, alphasort);
    if (n < 0)
        return fault(-errno, "cannot read %s", journal->directory);
    for (int i = 0; i < n; i++) {
        if (!r)
            r = open_segment(journal, (uint32_t) strtoul(entries[i]->d_name, NULL, 10), i == n - 1);
        free(entries[i]);
    }
    free(entries);
    return pass(r);
}

void journal_close(struct journal *journal)
{
    ensure(!journal->txn);
    if (!journal->is_open)
        return;
    for (uint32_t i = 0; i < JOURNAL_SEGMENTS; i++) {
        if (atomic_load(&journal->segments[i]))
            segment_free(atomic_load(&journal->segments[i]));
    }
    pthread_mutex_destroy(&journal->open.lock);
    journal->is_open = false;
}

/* ---- the snapshot of the runs ---- */

static void put_run_key(uint8_t to[static sizeof(struct run_key)], const struct run_key *key)
{
    db_key_u32(to, key->agent);
    db_key_u32(to + 4, key->signal);
    memcpy(to + 8, key->spool, STORE_SPOOL_BYTES);
}

static int write_runs(struct segment *segment, MDB_txn *txn, struct runs *runs)
{
    const struct run *run;
    size_t at = 0;
    int rc = 0;

    /* Only the writer changes the map, and the writer is here: no lock. */
    while (!rc && (run = map_next(&runs->map, &at))) {
        uint8_t key[sizeof(struct run_key)];
        struct run_record record = {
            .last_sequence = run->committed.last_sequence,
            .last_use_us = run->committed.last_use_us,
            .last_crc32c = run->committed.last_crc32c,
        };
        MDB_val k = db_val(key, sizeof(key)), v = db_val(&record, sizeof(record));

        put_run_key(key, &run->key);
        rc = mdb_put(txn, segment->runs, &k, &v, 0);
    }
    return rc;
}

static int write_beginning(struct journal *journal, struct segment *segment, struct runs *runs)
{
    CLEANUP(db_txn_abortp) MDB_txn *txn = NULL;
    uint32_t format = FORMAT_VERSION;
    uint64_t first = atomic_load(&journal->next_chunk);
    MDB_val key = db_val("format", 6), value = db_val(&format, sizeof(format));
    int rc = mdb_txn_begin(segment->env, NULL, 0, &txn);

    if (!rc)
        rc = mdb_dbi_open(txn, "chunks", MDB_CREATE, &segment->chunks);
    if (!rc)
        rc = mdb_dbi_open(txn, "runs", MDB_CREATE, &segment->runs);
    if (!rc)
        rc = mdb_dbi_open(txn, "meta", MDB_CREATE, &segment->meta);
    if (!rc)
        rc = mdb_put(txn, segment->meta, &key, &value, 0);
    if (!rc) {
        key = db_val("first_chunk", 11);
        value = db_val(&first, sizeof(first));
        rc = mdb_put(txn, segment->meta, &key, &value, 0);
    }
    if (!rc)
        rc = write_runs(segment, txn, runs);
    if (rc)
        return pass(db_check(rc, "cannot begin a segment"));
    return pass(db_commit(segment->env, take(txn), "cannot begin a segment"));
}

/* A whole new segment, durable; not yet in the table. */
static int make_segment(struct journal *journal, struct runs *runs, struct segment **ret)
{
    uint32_t end = atomic_load(&journal->end);
    struct segment *segment = segment_new(journal, end ? end : 1);
    int r;

    if (!segment)
        return fault(-ENOMEM, "no memory for a segment");
    /* A rotation that failed for a full disk may have left its beginning. */
    r = file_remove_tree(segment->path);
    if (!r && mkdir(segment->path, 0700) < 0)
        r = db_check(errno, "cannot make a directory for a segment");
    if (!r) {
        pthread_mutex_lock(&journal->open.lock);
        r = db_check(open_env(journal, segment), "cannot make a segment");
        pthread_mutex_unlock(&journal->open.lock);
    }
    segment->first_chunk = atomic_load(&journal->next_chunk);
    if (!r)
        r = write_beginning(journal, segment, runs);
    if (!r)
        r = db_sync_directory(segment->path);
    if (!r)
        r = db_sync_directory(journal->directory);
    if (r) {
        segment_free(segment);
        return pass(r);
    }
    segment->used_bytes = db_env_used_bytes(segment->env);
    *ret = segment;
    return 0;
}

/* In the table, open and in use by the writer, instead of the one before it. */
static int go_on_in(struct journal *journal, struct segment *segment)
{
    int r;

    segment->n_users = 1;
    r = put_in_table(journal, segment);
    if (r)
        return pass(r);
    pthread_mutex_lock(&journal->open.lock);
    journal->open.n++;
    pthread_mutex_unlock(&journal->open.lock);
    if (journal->writing)
        journal_release(journal, journal->writing);
    pthread_mutex_lock(&journal->open.lock);
    journal->writing = segment;
    pthread_mutex_unlock(&journal->open.lock);
    return 0;
}

int journal_rotate(struct journal *journal, struct runs *runs, int64_t now_us)
{
    struct segment *segment = NULL;
    int r;

    faultpoint("journal_rotate_before");
    runs_drop_unused(runs, now_us - JOURNAL_RUN_KEPT_US);
    r = make_segment(journal, runs, &segment);
    if (r)
        return pass(r);
    faultpoint("journal_rotate_after");
    r = go_on_in(journal, segment);
    if (r)
        segment_free(segment);
    return pass(r);
}

int journal_start(struct journal *journal, struct runs *runs)
{
    uint32_t end = atomic_load(&journal->end);
    struct segment *newest = end ? journal_segment(journal, end - 1) : NULL;

    if (newest && !newest->is_damaged) {
        int r = journal_use(journal, newest);

        if (r)
            return fold(r); /* the replay has used it: what is damaged is known */
        journal->writing = newest;
        return 0;
    }
    return pass(journal_rotate(journal, runs, clock_wall().us));
}

bool journal_wants_rotation(struct journal *journal)
{
    return db_env_used_bytes(journal->writing->env) >= journal->segment_bytes;
}

bool journal_has_room(struct journal *journal)
{
    return db_env_has_room(journal->writing->env);
}

int journal_load_runs(struct segment *segment, struct runs *runs)
{
    CLEANUP(db_txn_abortp) MDB_txn *txn = NULL;
    CLEANUP(db_cursor_closep) MDB_cursor *cursor = NULL;
    MDB_val key, value;
    struct run *run;
    int r = 0, rc = mdb_txn_begin(segment->env, NULL, MDB_RDONLY, &txn);

    if (!rc)
        rc = mdb_cursor_open(txn, segment->runs, &cursor);
    if (!rc)
        rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
    while (!rc && !r) {
        struct run_key run_key;
        struct run_record record;
        const uint8_t *at = key.mv_data;

        if (key.mv_size != sizeof(run_key) || value.mv_size != sizeof(record)) {
            rc = MDB_CORRUPTED;
            break;
        }
        run_key = run_key_of(db_u32_of(db_val(at, 4)),
                             (enum store_signal) db_u32_of(db_val(at + 4, 4)), at + 8);
        memcpy(&record, value.mv_data, sizeof(record));
        r = runs_set(
            runs, &run_key,
            &(struct run_value){ record.last_sequence, record.last_use_us, record.last_crc32c },
            &run);
        if (!r)
            rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    runs_commit(runs);
    if (r)
        return pass(r);
    if (rc && rc != MDB_NOTFOUND && !db_is_damage(rc))
        return fold(db_check(rc, "cannot read the snapshot of the runs"));
    if (db_is_damage(rc)) {
        segment->is_damaged = true;
        log_event(LOG_ERROR, "journal_segment_damaged", LOG_S("path", segment->path),
                  LOG_S("what", "the snapshot of the runs"), LOG_S("why", mdb_strerror(rc)));
    }
    return 0;
}

/* ---- appending ---- */

int journal_begin(struct journal *journal)
{
    struct segment *segment = journal->writing;
    int r;

    ensure(segment && !journal->txn);
    r = db_check(mdb_txn_begin(segment->env, NULL, 0, &journal->txn),
                 "cannot begin to write the journal");
    if (r) {
        journal->txn = NULL;
        return pass(r);
    }
    r = db_check(mdb_cursor_open(journal->txn, segment->chunks, &journal->cursor),
                 "cannot write the journal");
    if (r) {
        journal->cursor = NULL;
        journal_abort(journal);
        return pass(r);
    }
    journal->pending_chunk = journal->next_chunk;
    return 0;
}

int journal_append(struct journal *journal,
                   const struct iovec *parts,
                   size_t n_parts,
                   uint32_t n_records,
                   size_t n_bytes)
{
    struct format_chunk header = {
        .n_records = n_records,
        .number = journal->pending_chunk,
        .n_bytes = (uint32_t) n_bytes,
        .version = FORMAT_VERSION,
    };
    uint8_t name[8];
    MDB_val key = db_val(name, sizeof(name)), value = db_val(NULL, n_bytes);
    uint8_t *chunk, *at;
    int rc;

    ensure(n_bytes <= UINT32_MAX);
    db_key_u64(name, header.number);
    rc = mdb_cursor_put(journal->cursor, &key, &value, MDB_APPEND | MDB_RESERVE);
    if (rc)
        return pass(db_check(rc, "cannot append to the journal"));
    chunk = value.mv_data;
    at = chunk + sizeof(header);
    for (size_t i = 0; i < n_parts; i++)
        at = (uint8_t *) memcpy(at, parts[i].iov_base, parts[i].iov_len) + parts[i].iov_len;
    ensure(at == chunk + n_bytes);
    memcpy(chunk, &header, sizeof(header));
    header.crc32c = crc32c(0, chunk + sizeof(header.crc32c), n_bytes - sizeof(header.crc32c));
    memcpy(chunk, &header.crc32c, sizeof(header.crc32c));
    journal->pending_chunk++;
    return 0;
}

int journal_commit(struct journal *journal)
{
    MDB_env *env = mdb_txn_env(journal->txn);
    int r;

    mdb_cursor_close(take(journal->cursor));
    faultpoint("journal_before_commit");
    r = db_commit(env, take(journal->txn), "cannot commit to the journal");
    if (r)
        return pass(r);
    faultpoint("journal_after_commit");
    journal->writing->used_bytes = db_env_used_bytes(env);
    journal->next_chunk = journal->pending_chunk;
    return 0;
}

void journal_abort(struct journal *journal)
{
    if (journal->cursor)
        mdb_cursor_close(take(journal->cursor));
    if (journal->txn)
        mdb_txn_abort(take(journal->txn));
}

/* ---- the whole ---- */

uint64_t journal_first_chunk(struct journal *journal)
{
    const struct segment *oldest;
    uint64_t first;

    pthread_mutex_lock(&journal->open.lock);
    oldest = journal_next(journal, NULL);
    first = oldest ? oldest->first_chunk : 0;
    pthread_mutex_unlock(&journal->open.lock);
    return first;
}

uint64_t journal_writing_chunk(struct journal *journal)
{
    uint64_t first;

    pthread_mutex_lock(&journal->open.lock);
    first = journal->writing->first_chunk;
    pthread_mutex_unlock(&journal->open.lock);
    return first;
}

void journal_rest(struct journal *journal)
{
    pthread_mutex_lock(&journal->open.lock);
    while (close_one(journal))
        ;
    pthread_mutex_unlock(&journal->open.lock);
}

struct journal_held journal_held(struct journal *journal)
{
    struct journal_held held = { 0 };
    const struct segment *segment;
    bool is_live = false;

    pthread_mutex_lock(&journal->open.lock);
    for (segment = journal_next(journal, NULL); segment; segment = journal_next(journal, segment)) {
        const bool is_writers = segment == journal->writing;
        uint64_t n_bytes = atomic_load(&segment->used_bytes);

        is_live = is_live || is_writers || atomic_load(&segment->n_live) > 0;
        if (is_writers && n_bytes < journal->segment_bytes)
            n_bytes = journal->segment_bytes;
        *(is_live ? &held.n_live_bytes : &held.n_sealed_bytes) += n_bytes;
    }
    pthread_mutex_unlock(&journal->open.lock);
    return held;
}

uint64_t journal_second_chunk(struct journal *journal)
{
    const struct segment *oldest, *second;
    uint64_t chunk;

    pthread_mutex_lock(&journal->open.lock);
    oldest = journal_next(journal, NULL);
    second = oldest ? journal_next(journal, oldest) : NULL;
    chunk = second ? second->first_chunk : 0;
    pthread_mutex_unlock(&journal->open.lock);
    return chunk;
}

/* With the lock held. */
static struct segment *oldest_idle(struct journal *journal, uint64_t kept)
{
    struct segment *oldest = journal_next(journal, NULL);
    const struct segment *second = oldest ? journal_next(journal, oldest) : NULL;
    bool is_idle = second && oldest != journal->writing && second->first_chunk <= kept &&
                   oldest->n_users == 0 && atomic_load(&oldest->n_live) == 0 &&
                   atomic_load(&oldest->n_holds) == 0;

    return is_idle ? oldest : NULL;
}

bool journal_has_idle(struct journal *journal, uint64_t kept)
{
    bool has_idle;

    pthread_mutex_lock(&journal->open.lock);
    has_idle = oldest_idle(journal, kept) != NULL;
    pthread_mutex_unlock(&journal->open.lock);
    return has_idle;
}

struct segment *journal_take_idle(struct journal *journal, uint64_t kept)
{
    struct segment *segment;

    pthread_mutex_lock(&journal->open.lock);
    segment = oldest_idle(journal, kept);
    if (segment) {
        atomic_store(&journal->segments[segment->number % JOURNAL_SEGMENTS], NULL);
        atomic_store(&journal->first, segment->number + 1);
        journal->open.n -= segment->env != NULL;
    }
    pthread_mutex_unlock(&journal->open.lock);
    return segment;
}

/* What could not be read of it may be worth a look. */
static int set_aside(const struct segment *segment)
{
    char path[sizeof(segment->path) + 16];

    snprintf(path, sizeof(path), "%s.damaged", segment->path);
    log_event(LOG_WARN, "journal_segment_set_aside", LOG_S("path", path));
    return rename(segment->path, path) < 0 ? fault(-errno, "cannot rename %s", segment->path) : 0;
}

int journal_remove(struct journal *journal, struct segment *segment)
{
    int r;

    ensure(segment->n_users == 0 && journal_segment(journal, segment->number) != segment);
    faultpoint("checkpoint_before_unlink");
    if (segment->is_damaged)
        r = set_aside(segment);
    else
        r = db_remove(segment->path);
    if (!r)
        r = db_sync_directory(journal->directory);
    faultpoint("checkpoint_after_unlink");
    segment_free(segment);
    return pass(r);
}

void journal_check_readers(struct journal *journal)
{
    struct segment *segment;
    int n_dead;

    pthread_mutex_lock(&journal->open.lock);
    for (segment = journal_next(journal, NULL); segment; segment = journal_next(journal, segment)) {
        if (segment->env)
            (void) mdb_reader_check(segment->env, &n_dead);
    }
    pthread_mutex_unlock(&journal->open.lock);
}

uint64_t journal_file_bytes(struct journal *journal)
{
    const struct segment *segment;
    uint64_t n_bytes = 0;

    pthread_mutex_lock(&journal->open.lock);
    for (segment = journal_next(journal, NULL); segment; segment = journal_next(journal, segment))
        n_bytes += db_file_bytes(segment->path);
    pthread_mutex_unlock(&journal->open.lock);
    return n_bytes;
}
