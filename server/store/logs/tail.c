/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Tails read the journal from their place on, with a segment held only while one is read: what goes
 * meanwhile is missed.
 *
 * What was missed is exact whatever the reason (too slow, a segment that went, a damaged chunk):
 * the writer counts all records of packs that it commits, a tail all that it handed out or told as
 * missed; where it has caught up with the writer's place the difference is what it never saw. The
 * same with bytes says how far behind it is.
 */

#include <errno.h>
#include <stdlib.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "server/store/logs/logs.h"
#include "server/store/whole.h"

struct store_tail {
    struct store *store;
    struct store_tail *next;
    struct logblock_room *room;
    void (*wake)(void *ctx);
    void *ctx;
    /* The reader's alone. */
    struct position at;          /* of the first pack that it did not see whole */
    size_t n_taken;              /* of that pack, which were handed out */
    uint64_t n_records, n_bytes; /* handed out, told as missed */
    /* Under tails.lock. */
    bool is_waiting; /* for what comes */
    bool is_waking;
};

/* Where the journal ends when a read begins: it goes no farther. */
struct end {
    uint64_t chunk, n_records, n_bytes;
};

void tails_init(struct tails *tails)
{
    ensure(pthread_mutex_init(&tails->lock, NULL) == 0);
    ensure(pthread_cond_init(&tails->woken, NULL) == 0);
}

void tails_deinit(struct tails *tails)
{
    ensure(!tails->first);
    pthread_mutex_destroy(&tails->lock);
    pthread_cond_destroy(&tails->woken);
}

/* ---- the writer's ---- */

/* The next one to be woken, which then is not freed. With the lock held. */
static struct store_tail *next_to_wake(struct tails *tails)
{
    for (struct store_tail *tail = tails->first; tail; tail = tail->next) {
        if (!tail->is_waiting)
            continue;
        tail->is_waiting = false;
        tail->is_waking = true;
        return tail;
    }
    return NULL;
}

void tails_publish(struct store *store, uint64_t n_records, uint64_t n_bytes)
{
    struct tails *tails = &store->tails;
    struct store_tail *tail;

    pthread_mutex_lock(&tails->lock);
    tails->end_chunk = atomic_load(&store->journal.next_chunk);
    tails->n_records += n_records;
    tails->n_bytes += n_bytes;
    while ((tail = next_to_wake(tails))) {
        pthread_mutex_unlock(&tails->lock);
        tail->wake(tail->ctx);
        pthread_mutex_lock(&tails->lock);
        tail->is_waking = false;
        pthread_cond_broadcast(&tails->woken);
    }
    pthread_mutex_unlock(&tails->lock);
}

/* ---- open and close ---- */

int store_tail_open(struct store *store,
                    void (*wake)(void *ctx),
                    void *ctx,
                    struct store_tail **ret)
{
    struct tails *tails = &store->tails;
    struct store_tail *tail;
    int r = 0;

    if (!store->is_started)
        return STORE_STOPPED;
    tail = calloc(1, sizeof(*tail));
    if (!tail)
        return fault(-ENOMEM, "no memory to follow logs");
    *tail = (struct store_tail){
        .store = store, .room = logblock_room_new(), .wake = wake, .ctx = ctx
    };
    if (!tail->room) {
        free(tail);
        return fault(-ENOMEM, "no memory to follow logs");
    }
    pthread_mutex_lock(&tails->lock);
    if (tails->n >= STORE_TAILS) {
        r = STORE_TOO_MUCH;
    } else {
        tail->at.chunk = tails->end_chunk;
        tail->n_records = tails->n_records;
        tail->n_bytes = tails->n_bytes;
        tail->next = tails->first;
        tails->first = tail;
        tails->n++;
    }
    pthread_mutex_unlock(&tails->lock);
    if (r) {
        logblock_room_free(tail->room);
        free(tail);
        return r;
    }
    *ret = tail;
    return 0;
}

struct store_tail *store_tail_close(struct store_tail *tail)
{
    struct store_tail **at;
    struct tails *tails;

    if (!tail)
        return NULL;
    tails = &tail->store->tails;
    pthread_mutex_lock(&tails->lock);
    tail->is_waiting = false;
    while (tail->is_waking)
        pthread_cond_wait(&tails->woken, &tails->lock);
    for (at = &tails->first; *at != tail; at = &(*at)->next)
        ;
    *at = tail->next;
    tails->n--;
    pthread_mutex_unlock(&tails->lock);
    logblock_room_free(tail->room);
    free(tail);
    return NULL;
}

/* ---- reading ---- */

/*
 * The segment with the next chunk, held, and the first chunk of the one behind it (UINT64_MAX: it
 * is the newest). A tail whose chunk went goes on with the first there is. NULL: there is nothing
 * to read.
 */
static struct segment *hold_next(struct store_tail *tail, uint64_t end, uint64_t *ret_behind)
{
    struct journal *journal = &tail->store->journal;
    struct segment *found = NULL, *segment;

    *ret_behind = UINT64_MAX;
    if (tail->at.chunk >= end)
        return NULL;
    pthread_mutex_lock(&journal->open.lock);
    for (segment = journal_next(journal, NULL); segment; segment = journal_next(journal, segment)) {
        if (found && segment->first_chunk > tail->at.chunk) {
            *ret_behind = segment->first_chunk;
            break;
        }
        found = segment;
    }
    if (found)
        atomic_fetch_add(&found->n_holds, 1);
    pthread_mutex_unlock(&journal->open.lock);
    return found;
}

/* A pack that it is in the midst of stays where it is: what is left of that is missed. */
static void go_to(struct store_tail *tail, struct position at)
{
    tail->at = at;
    tail->n_taken = 0;
}

/* *ret_goes_on false: the caller has enough. */
static int hand_out_pack(struct store_tail *tail,
                         struct store_tail_read *read,
                         const struct format_pack *pack,
                         struct span bytes,
                         bool *ret_goes_on)
{
    struct logblock_place place = { tail->at.chunk, tail->at.offset, 0 };
    struct logblock_record *records;
    struct logblock_source source;
    const bool is_known = agents_known(&tail->store->agents, pack->head.agent) != NULL;
    size_t n = 0;
    int r = logblock_unpack(bytes, place, tail->room, &source, &records, &n);

    if (r < 0)
        return pass(r);
    if (r == LOGBLOCK_OK && n != pack->n_records)
        r = LOGBLOCK_BAD; /* passed over, and missed as its head says */
    if (r == LOGBLOCK_OK) {
        size_t n_left = n - tail->n_taken, n_more;

        /* Of an agent that was forgotten nobody hears any more; it counts as told. */
        n_more = is_known ? read->on_pack(read->ctx, pack->head.agent, &source,
                                          records + tail->n_taken, n_left)
                          : n_left;
        ensure(n_more <= n_left);
        tail->n_records += n_more;
        tail->n_taken += n_more;
        *ret_goes_on = n_more == n_left;
    }
    if (*ret_goes_on) {
        tail->n_taken = 0;
        tail->n_bytes += format_pack_weight(pack);
    }
    return 0;
}

/* The packs of one chunk from tail->at on, which is behind it then. */
static int hand_out_chunk(struct store_tail *tail,
                          struct store_tail_read *read,
                          MDB_val value,
                          bool *ret_goes_on)
{
    const uint8_t *data = value.mv_data;
    size_t at = tail->at.offset ? tail->at.offset : sizeof(struct format_chunk);
    int r = 0;

    while (value.mv_size - at >= sizeof(struct format_record)) {
        struct format_record head;
        struct format_pack pack;

        memcpy(&head, data + at, sizeof(head));
        if (!format_can_be(&head) || head.n_bytes > value.mv_size - at)
            break;
        tail->at.offset = (uint32_t) at;
        if (head.type == FORMAT_PACK) {
            memcpy(&pack, data + at, sizeof(pack));
            if (format_pack_fits(&pack))
                r = hand_out_pack(tail, read, &pack,
                                  span_of(data + at + sizeof(pack), pack.n_bytes), ret_goes_on);
            if (r || !*ret_goes_on)
                return pass(r);
        }
        at += head.n_bytes;
    }
    go_to(tail, (struct position){ tail->at.chunk + 1, 0 });
    return 0;
}

/* From tail->at on up to the end, within one segment. */
static int read_segment(struct store_tail *tail,
                        struct store_tail_read *read,
                        struct segment *segment,
                        uint64_t end,
                        bool *ret_goes_on)
{
    CLEANUP(db_txn_abortp) MDB_txn *txn = NULL;
    CLEANUP(db_cursor_closep) MDB_cursor *cursor = NULL;
    uint8_t name[8];
    MDB_val key = db_val(name, sizeof(name)), value;
    int r = 0, rc = mdb_txn_begin(segment->env, NULL, MDB_RDONLY, &txn);

    db_key_u64(name, tail->at.chunk);
    if (!rc)
        rc = mdb_cursor_open(txn, segment->chunks, &cursor);
    if (!rc)
        rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    for (; !rc && !r && *ret_goes_on; rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
        uint64_t number = db_u64_of(key);

        if (number >= end)
            break;
        if (number != tail->at.chunk)
            go_to(tail, (struct position){ number, 0 });
        if (format_chunk_is_whole(number, value.mv_data, value.mv_size))
            r = hand_out_chunk(tail, read, value, ret_goes_on);
        else
            go_to(tail, (struct position){ number + 1, 0 });
        if (r || !*ret_goes_on)
            return pass(r);
    }
    return rc == 0 || rc == MDB_NOTFOUND || db_is_damage(rc)
               ? 0
               : fold(db_check(rc, "cannot read the journal"));
}

static int
read_on(struct store_tail *tail, struct store_tail_read *read, uint64_t end, bool *ret_goes_on)
{
    struct journal *journal = &tail->store->journal;
    struct segment *segment;
    uint64_t behind;
    int r = 0;

    while (!r && *ret_goes_on && (segment = hold_next(tail, end, &behind))) {
        r = journal_use(journal, segment);
        if (r == 0) {
            r = read_segment(tail, read, segment, end, ret_goes_on);
            journal_release(journal, segment);
        } else if (r == STORE_NOT_FOUND) {
            r = 0; /* damaged: said at the start */
        }
        atomic_fetch_sub(&segment->n_holds, 1);
        if (*ret_goes_on && !r)
            go_to(tail, (struct position){ behind < end ? behind : end, 0 });
    }
    return pass(r);
}

/* At this place it has seen, or been told as missed, as much as there was. */
static void be_at(struct store_tail *tail, struct store_tail_read *read, const struct end *end)
{
    ensure(end->n_records >= tail->n_records);
    read->ret_missed += end->n_records - tail->n_records;
    tail->n_records = end->n_records;
    tail->n_bytes = end->n_bytes;
    go_to(tail, (struct position){ end->chunk, 0 });
}

/* What there is, and whether there is something that it did not see: else it waits from now on. */
static bool look(struct store_tail *tail, struct end *ret)
{
    struct tails *tails = &tail->store->tails;
    bool has_more;

    pthread_mutex_lock(&tails->lock);
    *ret = (struct end){ tails->end_chunk, tails->n_records, tails->n_bytes };
    has_more = tail->n_records != ret->n_records || tail->n_bytes != ret->n_bytes;
    tail->is_waiting = !has_more;
    pthread_mutex_unlock(&tails->lock);
    return has_more;
}

int store_tail_read(struct store_tail *tail, struct store_tail_read *read)
{
    bool goes_on = true;
    struct end end;

    read->ret_missed = 0;
    while (goes_on && look(tail, &end)) {
        int r = 0;

        if (end.n_bytes - tail->n_bytes <= STORE_TAIL_BYTES)
            r = read_on(tail, read, end.chunk, &goes_on);
        if (r)
            return pass(r);
        if (goes_on)
            be_at(tail, read, &end);
    }
    return 0;
}

void store_logs_of_agent(struct store *store, uint32_t agent_number, struct store_logs_of *ret)
{
    struct agent *agent = agents_known(&store->agents, agent_number);

    *ret = (struct store_logs_of){ .last_us = INT64_MIN };
    if (!agent)
        return;
    pthread_mutex_lock(&agent->lock);
    *ret = agent->logs_of;
    pthread_mutex_unlock(&agent->lock);
}
