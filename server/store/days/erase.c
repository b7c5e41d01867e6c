/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Erasure: what an agent that was forgotten has on disk goes, the sealer's part of it.
 *
 * Nobody finds it any more since its record in `state` says so, which is committed before anything
 * here begins; so nothing here need be one transaction, and a kill leaves the rest to the next
 * start. In this order, one agent in a round:
 *
 *   heads    its rows and packs are dropped; nothing new enters them (group.c)
 *   days     of metrics and logs, months and years of roll-ups: all that the tables have of it, one
 *            transaction each, so that verify never sees a half
 *   journal  goes on in a new segment where the one being written has something of it: those that
 *            do go once all else in them is sealed, at most `seal_age` later (or when a receiver
 *            that is away has read them). What still comes is refused; places of its runs, which
 *            are numbers alone, stay in the beginning of a segment until that goes
 *   state    then its record says that it is done
 *
 * LMDB leaves what was in a page that is free now where it is. So a day that lost rows is marked in
 * its meta, "erased", and the next sweep of the compactor writes its file anew; a mark goes after
 * that. Where there is no room for a copy, it is tried again with the next one.
 *
 * Inventories and uploads have writers of their own, which do the same with theirs: trimming
 * (inventory/put.c) and sweeping (objects/sweep.c) take all that is of such an agent.
 */

#include <stdlib.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/faultpoint.h"
#include "common/log/log.h"
#include "server/store/whole.h"

static const char erased_key[] = DAY_META_ERASED;

/* ---- a day ---- */

/* Every key of a table that begins with the agent's number. The answer is LMDB's. */
static int delete_all(MDB_txn *txn, MDB_dbi table, uint32_t number, uint64_t *n)
{
    CLEANUP(db_cursor_closep) MDB_cursor *cursor = NULL;
    uint8_t from[4];
    MDB_val key = db_val(from, sizeof(from)), value;
    int rc = mdb_cursor_open(txn, table, &cursor);

    db_key_u32(from, number);
    if (!rc)
        rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    while (!rc && key.mv_size >= sizeof(from) &&
           db_u32_of(db_val(key.mv_data, sizeof(from))) == number) {
        rc = mdb_cursor_del(cursor, 0);
        ++*n;
        key = db_val(from, sizeof(from));
        if (!rc)
            rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    }
    return rc == MDB_NOTFOUND ? 0 : rc;
}

/* Outcomes: STORE_FULL. */
static int erase_in_day(struct day *day, uint32_t number, uint64_t *ret_n)
{
    CLEANUP(db_txn_abortp) MDB_txn *txn = NULL;
    MDB_val key = db_val(erased_key, sizeof(erased_key) - 1), value = db_val("1", 1);
    uint64_t n = 0;
    int rc = mdb_txn_begin(day->env, NULL, 0, &txn), r;

    if (!rc)
        rc = delete_all(txn, day->blocks, number, &n);
    if (!rc && day->kind->has_marks)
        rc = delete_all(txn, day->marks, number, &n);
    if (!rc)
        rc = delete_all(txn, day->agents, number, &n);
    if (!rc && n)
        rc = mdb_put(txn, day->meta, &key, &value, 0);
    if (db_is_damage(rc)) {
        day_found_damage(day, "pages that lead nowhere"); /* set aside at the next start */
        return 0;
    }
    if (rc || n == 0)
        return pass(db_check(rc, "cannot erase what a day has of an agent"));
    faultpoint("erase_before_commit");
    r = db_commit(day->env, take(txn), "cannot erase what a day has of an agent");
    if (r)
        return pass(r);
    faultpoint("erase_after_commit");
    day->has_erased = true;
    *ret_n += n;
    return 0;
}

/* A day without room is passed over. Outcomes: STORE_FULL (of one of them). */
static int erase_in_days(struct sealer *sealer, struct days *days, uint32_t number, uint64_t *ret_n)
{
    bool is_short = false;
    int r = 0;

    for (int32_t at = days_next(days, INT32_MIN); at != INT32_MAX && r >= 0;
         at = days_next(days, at + 1)) {
        struct day *day;

        r = days_use(days, at, &day);
        if (r == STORE_NOT_FOUND)
            continue;
        if (r)
            return pass(r);
        r = erase_in_day(day, number, ret_n);
        if (r == STORE_FULL) {
            seal_note_no_room(sealer, day->path, day->env);
            is_short = true;
        }
        days_release(days, day);
    }
    if (r < 0)
        return pass(r);
    return is_short ? STORE_FULL : 0;
}

/* ---- an agent ---- */

static void on_dropped(void *ctx, uint32_t number)
{
    struct segment *segment = journal_segment(ctx, number);

    ensure(segment && atomic_load(&segment->n_live) > 0);
    atomic_fetch_sub(&segment->n_live, 1);
}

static void on_row(void *ctx, const struct head_row *row)
{
    on_dropped(ctx, row->segment);
}

static void on_pack(void *ctx, const struct log_pack *pack)
{
    on_dropped(ctx, pack->segment);
}

/* False: somebody reads it still, and counts on what is there. */
static bool drop_heads(struct store *store, struct agent *agent)
{
    const struct head_row all = { .chunk = UINT64_MAX, .offset = UINT32_MAX };
    bool is_read;

    pthread_mutex_lock(&agent->lock);
    is_read = agent->n_scans > 0 || agent->logs.n_readers > 0;
    heads_drop(&agent->heads, INT64_MIN, INT64_MAX, &all, on_row, &store->journal);
    log_heads_drop_all(&agent->logs, on_pack, &store->journal);
    pthread_mutex_unlock(&agent->lock);
    return !is_read;
}

static void drop_memory(struct agent *agent)
{
    pthread_mutex_lock(&agent->lock);
    heads_deinit(&agent->heads);
    buf_deinit(&agent->spans);
    buf_deinit(&agent->rolled);
    free(take(agent->series));
    agent->n_series = 0;
    pthread_mutex_unlock(&agent->lock);
}

/* Outcomes: STORE_FULL. */
static int erase_rows(struct sealer *sealer, struct agent *agent)
{
    struct store *store = sealer->store;
    struct days *const all[] = { &store->days, &store->logs, &store->rolled[ROLL_MINUTES],
                                 &store->rolled[ROLL_HOURS] };
    const uint32_t number = agent->facts.number;
    uint64_t last, n = 0;

    agent->is_erasure_short = false;
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        int r = erase_in_days(sealer, all[i], number, &n);

        if (r < 0)
            return pass(r);
        agent->is_erasure_short = agent->is_erasure_short || r == STORE_FULL;
    }
    if (agent->is_erasure_short)
        return STORE_FULL;
    drop_memory(agent);
    last = atomic_load(&agent->last_chunk);
    agent->erased_below = last + 1;
    writer_forget_soon(&store->writer, last >= journal_writing_chunk(&store->journal));
    log_event(LOG_INFO, "agent_rows_erased", LOG_U("number", number), LOG_U("rows", n));
    return 0;
}

/* Outcomes: STORE_FULL. */
static int end_erasure(struct store *store, struct agent *agent)
{
    int r;

    if (journal_first_chunk(&store->journal) < agent->erased_below ||
        !writer_has_forgotten(&store->writer))
        return 0;
    faultpoint("erase_before_done");
    r = agents_set_erased(&store->agents, agent);
    if (r)
        return r == STORE_STOPPED ? 0 : pass(r);
    log_event(LOG_INFO, "agent_erased", LOG_U("number", agent->facts.number));
    return 0;
}

/* That alone is no reason to take nothing new. */
static void note_room(struct sealer *sealer, bool has_room)
{
    if (!has_room && !sealer->is_erasure_stuck)
        log_event(LOG_ERROR, "erasure_has_no_room", LOG_S("path", sealer->no_room),
                  LOG_S("remedy", sealer->is_day_at_limit
                                      ? "this day has reached store.day_size: raise it and start "
                                        "again"
                                      : "free space on this disk; it goes on by itself"));
    sealer->is_erasure_stuck = !has_room;
}

struct round {
    struct agent *next; /* whose turn it is */
    uint32_t n_new;     /* that were not tried yet */
    bool is_short;      /* some have no room */
};

/* Outcomes: STORE_FULL. */
static int look_at(struct sealer *sealer, struct agent *agent, struct round *round)
{
    const uint32_t last = sealer->last_erased;

    if (agent->erased_below)
        return pass(end_erasure(sealer->store, agent));
    if (!round->next || (round->next->facts.number <= last && agent->facts.number > last))
        round->next = agent;
    round->n_new += !agent->is_erasure_short;
    round->is_short = round->is_short || agent->is_erasure_short;
    return 0;
}

/* Outcomes: STORE_FULL. */
static int take_turn(struct sealer *sealer, struct round *round)
{
    round->n_new -= !round->next->is_erasure_short;
    sealer->last_erased = round->next->facts.number;
    return pass(erase_rows(sealer, round->next));
}

int erase_step(struct sealer *sealer, bool *ret_has_more)
{
    struct agents *agents = &sealer->store->agents;
    struct round round = { 0 };
    int r = 0;

    seal_note_no_room(sealer, sealer->store->directory, NULL);
    for (uint32_t number = 1; number <= idtable_highest(&agents->table) && r >= 0; number++) {
        struct agent *agent = agents_get(agents, number);

        if (agent && atomic_load(&agent->erasure) == ERASURE_UNDER_WAY &&
            drop_heads(sealer->store, agent)) {
            r = look_at(sealer, agent, &round);
            round.is_short = round.is_short || r == STORE_FULL;
        }
    }
    if (r >= 0 && round.next) {
        r = take_turn(sealer, &round);
        round.is_short = round.is_short || r == STORE_FULL;
    }
    *ret_has_more = round.n_new > 0;
    note_room(sealer, !round.is_short);
    return r == STORE_FULL ? 0 : pass(r);
}

/* ---- files without what was erased ---- */

static int unmark(struct days *days, int32_t number)
{
    CLEANUP(db_txn_abortp) MDB_txn *txn = NULL;
    MDB_val key = db_val(erased_key, sizeof(erased_key) - 1);
    struct day *day;
    int rc, r = days_use(days, number, &day);

    if (r)
        return r == STORE_NOT_FOUND ? 0 : pass(r);
    rc = mdb_txn_begin(day->env, NULL, 0, &txn);
    if (!rc)
        rc = mdb_del(txn, day->meta, &key, NULL);
    if (rc == 0)
        r = db_commit(day->env, take(txn), "cannot write a day");
    else
        r = rc == MDB_NOTFOUND ? 0 : db_check(rc, "cannot write a day");
    if (!r)
        day->has_erased = false;
    db_txn_abortp(&txn);
    txn = NULL;
    days_release(days, day);
    return pass(r);
}

int erase_rewrite(struct sealer *sealer, struct days *days, struct day *day)
{
    const int32_t number = day->number;
    int r = compact_rewrite(sealer, days, day);

    if (r || days->cannot_exchange)
        return pass(r);
    faultpoint("erase_before_unmark");
    return pass(unmark(days, number));
}

/* Outcomes: STORE_FULL. */
static int rewrite_period(struct sealer *sealer, struct days *days, int32_t number, bool *ret_did)
{
    struct day *period;
    int r = days_use(days, number, &period);

    if (r)
        return r == STORE_NOT_FOUND ? 0 : pass(r);
    *ret_did = period->has_erased && !days->cannot_exchange;
    if (*ret_did)
        r = erase_rewrite(sealer, days, period);
    if (r == STORE_FULL)
        compact_say_no_room(sealer, period);
    days_release(days, period);
    return r == STORE_FULL ? 0 : pass(r);
}

int erase_rewrite_rolled(struct sealer *sealer, bool *ret_has_more)
{
    struct sweep *sweep = &sealer->sweep;
    bool did = false;
    int r = 0;

    while (sweep->tier < ROLL_TIERS && !did && !r) {
        struct days *days = &sealer->store->rolled[sweep->tier];
        int32_t number = days_next(days, sweep->period);

        if (number == INT32_MAX) {
            sweep->tier++;
            sweep->period = INT32_MIN;
            continue;
        }
        sweep->period = number + 1;
        r = rewrite_period(sealer, days, number, &did);
    }
    *ret_has_more = sweep->tier < ROLL_TIERS;
    return pass(r);
}
