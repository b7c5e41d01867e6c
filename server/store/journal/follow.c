/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Following the journal. A follower keeps its place in `state`, META "follow.<name>" -> u64 chunk,
 * u32 offset, u64 lost rows; while one is open, no segment with rows at or behind its place goes,
 * until they take more than follow_bytes: then it is moved on, and what it missed is counted.
 *
 * Chunks that are damaged, or not there, count as lost when the follower is done with what lies
 * around them: what comes again meets them again.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/log/log.h"
#include "server/store/journal/follow.h"
#include "server/store/whole.h"

#define NAME_BYTES 64

struct place_record {
    uint64_t chunk;
    uint32_t offset;
    uint32_t zero;
    uint64_t n_lost_chunks;
};

struct store_follower {
    struct store *store;
    struct store_follower *next;
    char key[NAME_BYTES + 8];
    /* The follower's thread alone. */
    struct position read; /* the last row handed out */
    struct position done; /* the last row that it is done with */
    uint64_t n_passed;    /* chunks between the two that cannot be read */
    /* Under follow.lock. */
    bool is_awaited;      /* opened with the store; nobody has come for it yet */
    struct position kept; /* the last row that need not come again; durable */
    uint64_t n_lost_chunks;
};

/* The chunk in which the next row is. */
static uint64_t next_chunk(struct position place)
{
    return place.offset == UINT32_MAX ? place.chunk + 1 : place.chunk;
}

/* ---- places ---- */

static int
write_place(struct store_follower *follower, struct position place, uint64_t n_lost_chunks)
{
    struct place_record record = { .chunk = place.chunk,
                                   .offset = place.offset,
                                   .n_lost_chunks = n_lost_chunks };
    struct store_write write = { STORE_TABLE_META, span_of_text(follower->key),
                                 span_of(&record, sizeof(record)) };

    return pass(store_state_write(follower->store, &write, 1));
}

/* A new one begins at the end of what there is. */
static int read_place(struct store_follower *follower)
{
    CLEANUP(arena_deinit) struct arena arena;
    struct place_record record;
    struct span value;
    int r;

    arena_init(&arena, 4096);
    r = store_state_get(follower->store, STORE_TABLE_META, span_of_text(follower->key), &arena,
                        &value);
    if (r == STORE_NOT_FOUND) {
        follower->kept.chunk = atomic_load(&follower->store->journal.next_chunk) - 1;
        follower->kept.offset = UINT32_MAX;
        return pass(write_place(follower, follower->kept, 0));
    }
    if (r)
        return pass(r);
    if (value.len != sizeof(record))
        return fault(-EIO, "the place of a follower cannot be read: %s", follower->key);
    memcpy(&record, value.data, sizeof(record));
    follower->kept = (struct position){ record.chunk, record.offset };
    follower->n_lost_chunks = record.n_lost_chunks;
    return 0;
}

/* What went while nobody followed, or before the place was kept, is passed over and counted. */
static void skip_what_is_gone(struct store_follower *follower, uint64_t first)
{
    uint64_t next = next_chunk(follower->kept);

    if (next >= first)
        return;
    follower->n_lost_chunks += first - next;
    follower->kept = (struct position){ first - 1, UINT32_MAX };
    log_event(LOG_ERROR, "follower_moved_on", LOG_S("who", follower->key),
              LOG_U("lost_chunks", first - next),
              LOG_S("remedy", "rows behind its place went before it came back; see remote_write"));
}

static int follower_new(struct store_follower **ret, struct store *store, const char *name)
{
    struct store_follower *follower = calloc(1, sizeof(*follower));
    int r;

    if (!follower)
        return fault(-ENOMEM, "no memory for a follower");
    ensure(strlen(name) > 0 && strlen(name) < NAME_BYTES);
    follower->store = store;
    snprintf(follower->key, sizeof(follower->key), "follow.%s", name);
    r = read_place(follower);
    if (r) {
        free(follower);
        return pass(r);
    }
    /* Nothing goes in between: follow_take_idle(). */
    pthread_mutex_lock(&store->follow.lock);
    skip_what_is_gone(follower, journal_first_chunk(&store->journal));
    follower->read = follower->done = follower->kept;
    follower->next = store->follow.first;
    store->follow.first = follower;
    pthread_mutex_unlock(&store->follow.lock);
    *ret = follower;
    return 0;
}

/* The one that was opened with the store; NULL: there is none of that name. */
static struct store_follower *take_awaited(struct store *store, const char *name)
{
    struct store_follower *at;

    pthread_mutex_lock(&store->follow.lock);
    for (at = store->follow.first; at; at = at->next) {
        if (at->is_awaited && strcmp(at->key + strlen("follow."), name) == 0)
            break;
    }
    if (at)
        at->is_awaited = false;
    pthread_mutex_unlock(&store->follow.lock);
    return at;
}

int store_follow(struct store *store, const char *name, struct store_follower **ret)
{
    struct store_follower *awaited;

    ensure(store->is_started);
    awaited = take_awaited(store, name);
    if (!awaited)
        return pass(follower_new(ret, store, name));
    *ret = awaited;
    return 0;
}

struct store_follower *store_unfollow(struct store_follower *follower)
{
    struct store_follower **at;

    if (!follower)
        return NULL;
    pthread_mutex_lock(&follower->store->follow.lock);
    for (at = &follower->store->follow.first; *at != follower; at = &(*at)->next)
        ;
    *at = follower->next;
    pthread_mutex_unlock(&follower->store->follow.lock);
    free(follower);
    return NULL;
}

int store_follow_keep(struct store_follower *follower)
{
    struct store *store = follower->store;
    struct position place = follower->done;
    uint64_t n_lost_chunks;
    int r;

    pthread_mutex_lock(&store->follow.lock);
    if (position_is_behind(follower->kept, place))
        place = follower->kept;
    n_lost_chunks = follower->n_lost_chunks;
    pthread_mutex_unlock(&store->follow.lock);
    r = write_place(follower, place, n_lost_chunks);
    if (r < 0)
        return pass(r);
    /* Also when the disk is full: what it frees is what makes room. */
    pthread_mutex_lock(&store->follow.lock);
    if (position_is_behind(place, follower->kept))
        follower->kept = place;
    pthread_mutex_unlock(&store->follow.lock);
    return r;
}

void store_follow_done(struct store_follower *follower)
{
    struct store *store = follower->store;

    follower->done = follower->read;
    pthread_mutex_lock(&store->follow.lock);
    follower->n_lost_chunks += follower->n_passed;
    pthread_mutex_unlock(&store->follow.lock);
    follower->n_passed = 0;
}

void store_follow_again(struct store_follower *follower)
{
    follower->read = follower->done;
    follower->n_passed = 0;
}

void store_follow_lag(struct store_follower *follower, struct store_follow_lag *ret)
{
    struct store *store = follower->store;
    uint64_t next = atomic_load(&store->journal.next_chunk);

    pthread_mutex_lock(&store->follow.lock);
    *ret = (struct store_follow_lag){
        .n_chunks = next > follower->kept.chunk + 1 ? next - follower->kept.chunk - 1 : 0,
        .n_lost_chunks = follower->n_lost_chunks,
    };
    pthread_mutex_unlock(&store->follow.lock);
}

/* ---- what must stay ---- */

void follow_init(struct store *store)
{
    ensure(pthread_mutex_init(&store->follow.lock, NULL) == 0);
}

int follow_await(struct store *store, const char *name)
{
    struct store_follower *follower;
    int r = follower_new(&follower, store, name);

    if (r)
        return pass(r);
    follower->is_awaited = true;
    return 0;
}

void follow_deinit(struct store *store)
{
    struct store_follower *follower, *next;

    for (follower = store->follow.first; follower; follower = next) {
        ensure(follower->is_awaited);
        next = follower->next;
        free(follower);
    }
    pthread_mutex_destroy(&store->follow.lock);
}

/* With the lock held. */
static uint64_t first_kept(const struct store *store)
{
    uint64_t first = UINT64_MAX;

    for (const struct store_follower *at = store->follow.first; at; at = at->next)
        first = next_chunk(at->kept) < first ? next_chunk(at->kept) : first;
    return first;
}

uint64_t follow_first_chunk(struct store *store)
{
    uint64_t first;

    pthread_mutex_lock(&store->follow.lock);
    first = first_kept(store);
    pthread_mutex_unlock(&store->follow.lock);
    return first;
}

struct segment *follow_take_idle(struct store *store)
{
    struct segment *segment;

    pthread_mutex_lock(&store->follow.lock);
    segment = journal_take_idle(&store->journal, first_kept(store));
    pthread_mutex_unlock(&store->follow.lock);
    return segment;
}

void follow_move_on(struct store *store, uint64_t chunk)
{
    pthread_mutex_lock(&store->follow.lock);
    for (struct store_follower *at = store->follow.first; at; at = at->next) {
        uint64_t next = next_chunk(at->kept);

        if (next >= chunk)
            continue;
        at->n_lost_chunks += chunk - next;
        log_event(LOG_ERROR, "follower_moved_on", LOG_S("who", at->key),
                  LOG_U("lost_chunks", chunk - next),
                  LOG_S("remedy", "the receiver is away for too long; see remote_write"));
        at->kept = (struct position){ chunk - 1, UINT32_MAX };
    }
    pthread_mutex_unlock(&store->follow.lock);
}

/* ---- reading ---- */

/* Chunks before `to` that are not there or damaged: it goes on behind them. */
static void pass_over(struct store_follower *follower, uint64_t to)
{
    uint64_t next = next_chunk(follower->read);

    follower->n_passed += to - next;
    follower->read = (struct position){ to - 1, UINT32_MAX };
    log_peer(LOG_ERROR, "follower_passes_over", LOG_S("who", follower->key), LOG_U("chunk", next),
             LOG_U("chunks", to - next));
}

/*
 * The segment with the next chunk, held, and the first chunk of the one behind it (UINT64_MAX: it
 * is the newest). NULL: there is nothing to read.
 *
 * A follower that was moved on goes on from there. Both under follow.lock: after follow_move_on()
 * nobody takes hold of what goes.
 */
static struct segment *hold_next(struct store_follower *follower, uint64_t *ret_behind)
{
    struct journal *journal = &follower->store->journal;
    struct segment *found = NULL, *segment;
    uint64_t next;

    *ret_behind = UINT64_MAX;
    pthread_mutex_lock(&follower->store->follow.lock);
    if (position_is_behind(follower->kept, follower->read)) {
        follower->read = follower->kept;
        follower->n_passed = 0; /* they are among those that it was moved over */
    }
    next = next_chunk(follower->read);
    pthread_mutex_lock(&journal->open.lock);
    segment = journal_next(journal, NULL);
    if (segment && segment->first_chunk > next) {
        pass_over(follower, segment->first_chunk);
        next = segment->first_chunk;
    }
    for (segment = journal_next(journal, NULL); segment; segment = journal_next(journal, segment)) {
        if (segment->first_chunk > next) {
            *ret_behind = segment->first_chunk;
            break;
        }
        found = segment;
    }
    if (found && next < atomic_load(&journal->next_chunk))
        atomic_fetch_add(&found->n_holds, 1);
    else
        found = NULL;
    pthread_mutex_unlock(&journal->open.lock);
    pthread_mutex_unlock(&follower->store->follow.lock);
    return found;
}

/* Rows of one chunk behind `read`. False: the caller has enough. */
static bool
hand_out(struct store_follower *follower, MDB_val value, const struct store_follow_read *how)
{
    const uint8_t *data = value.mv_data;
    uint64_t chunk = 0;
    size_t at = sizeof(struct format_chunk);

    memcpy(&chunk, data + offsetof(struct format_chunk, number), sizeof(chunk));
    while (value.mv_size - at >= sizeof(struct format_row)) {
        struct position place = { chunk, (uint32_t) at };
        struct format_row row;
        struct store_followed told;

        memcpy(&row, data + at, sizeof(row));
        if (row.head.n_bytes < sizeof(row) || row.head.n_bytes > value.mv_size - at)
            break;
        at += row.head.n_bytes;
        if (row.head.type != FORMAT_ROW || !format_row_fits(&row) ||
            !position_is_behind(place, follower->read) ||
            !agents_known(&follower->store->agents, row.head.agent))
            continue;
        told = (struct store_followed){
            .agent = row.head.agent,
            .layout = row.layout,
            .time_us = row.time_us,
            .n_values = row.n_values,
            .n_absent = row.n_absent,
            .values = data + place.offset + sizeof(row),
            .absent = data + place.offset + sizeof(row) + 8 * (size_t) row.n_values,
        };
        if (!how->on_row(how->ctx, &told))
            return false;
        follower->read = place;
    }
    if (at < value.mv_size)
        pass_over(follower, chunk + 1);
    follower->read = (struct position){ chunk, UINT32_MAX };
    return true;
}

/* From the chunk of `read` on, within one segment. */
static int read_segment(struct store_follower *follower,
                        struct segment *segment,
                        const struct store_follow_read *how,
                        bool *ret_goes_on)
{
    CLEANUP(db_txn_abortp) MDB_txn *txn = NULL;
    CLEANUP(db_cursor_closep) MDB_cursor *cursor = NULL;
    struct store *store = follower->store;
    uint64_t end = atomic_load(&store->journal.next_chunk);
    uint8_t name[8];
    MDB_val key = db_val(name, sizeof(name)), value;
    int rc = mdb_txn_begin(segment->env, NULL, MDB_RDONLY, &txn);

    db_key_u64(name, next_chunk(follower->read));
    if (!rc)
        rc = mdb_cursor_open(txn, segment->chunks, &cursor);
    if (!rc)
        rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    for (; !rc && *ret_goes_on; rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
        uint64_t number = db_u64_of(key);

        if (number >= end)
            break;
        if (number > next_chunk(follower->read))
            pass_over(follower, number);
        if (format_chunk_is_whole(number, value.mv_data, value.mv_size))
            *ret_goes_on = hand_out(follower, value, how);
        else
            pass_over(follower, number + 1);
    }
    return rc == 0 || rc == MDB_NOTFOUND || db_is_damage(rc)
               ? 0
               : fold(db_check(rc, "cannot read the journal"));
}

int store_follow_read(struct store_follower *follower, const struct store_follow_read *how)
{
    struct journal *journal = &follower->store->journal;
    bool goes_on = true;

    while (goes_on) {
        uint64_t behind;
        struct segment *segment = hold_next(follower, &behind);
        int r;

        if (!segment)
            return 0;
        r = journal_use(journal, segment);
        if (r == 0) {
            r = read_segment(follower, segment, how, &goes_on);
            journal_release(journal, segment);
        } else if (r == STORE_NOT_FOUND) {
            r = 0; /* damaged: said at the start */
        }
        atomic_fetch_sub(&segment->n_holds, 1);
        if (r)
            return pass(r);
        /* One that had another behind it before it was read has told all. What came to the newest
         * meanwhile is for the next time. */
        if (behind == UINT64_MAX)
            return 0;
        if (goes_on && next_chunk(follower->read) < behind)
            pass_over(follower, behind);
    }
    return 0;
}
