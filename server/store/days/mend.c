/* SPDX-License-Identifier: Apache-2.0 */

/*
 * An agent's record of a day that cannot be read, made anew from the agent's blocks. Each block has
 * the position up to which rows were sealed with it, so the highest of them is where the journal
 * goes on: the blocks of a commit and the record are one transaction. A block that cannot be read
 * itself counts as not sealed, and what the journal still has of it is sealed once more.
 */

#include <errno.h>

#include "common/base/buf.h"
#include "common/base/fault.h"
#include "common/log/log.h"
#include "common/logblock/logblock.h"
#include "server/store/days/scan.h"
#include "server/store/rollup/rollup.h"
#include "server/store/store.h"

struct mend {
    struct day *day;
    MDB_txn *txn;
    uint32_t agent;
    struct position sealed;
    struct buf *spans; /* NULL: not wanted */
    bool has_blocks;
    struct buf opened, times;
    struct roll_work work;
    struct roll_sheet sheet;
    struct logblock_room *logs;
};

static void mend_deinit(struct mend *mend)
{
    buf_deinit(&mend->opened);
    buf_deinit(&mend->times);
    roll_work_deinit(&mend->work);
    roll_sheet_deinit(&mend->sheet);
    logblock_room_free(mend->logs);
}

static int add_span(struct mend *mend, const struct day_span *span)
{
    if (mend->spans)
        day_spans_add(mend->spans, span);
    return mend->spans && buf_failed(mend->spans)
               ? fault(-ENOMEM, "no memory for the spans of an agent")
               : 0;
}

/* ---- blocks ---- */

/* Outcomes: BLOCK_BAD. */
static int add_part(struct mend *mend, const struct block_part *part)
{
    struct day_span span = { .layout = part->layout, .n_rows = part->n_rows };
    int64_t *times_us;
    int r;

    buf_clear(&mend->times);
    times_us = buf_extend(&mend->times, part->n_rows * sizeof(*times_us));
    if (!times_us)
        return fault(-ENOMEM, "no memory for the times of a block");
    r = block_times(part, times_us);
    if (r)
        return r < 0 ? pass(r) : r;
    span.first_us = times_us[0];
    span.last_us = times_us[part->n_rows - 1];
    return pass(add_span(mend, &span));
}

static void take_position(struct mend *mend, const struct day_prefix *prefix)
{
    struct position sealed = { prefix->chunk, prefix->offset };

    mend->has_blocks = true;
    if (position_is_behind(sealed, mend->sealed))
        mend->sealed = sealed;
}

/* One of logs, of which there is one span; blocks may stand in it one behind the other. */
static int add_log_block(struct mend *mend, const struct found_block *found)
{
    struct day_span span = { .first_us = INT64_MAX,
                             .last_us = INT64_MIN,
                             .n_rows = found->prefix.n_rows };
    struct span bytes = found->bytes;
    int r = 0;

    if (!mend->logs)
        mend->logs = logblock_room_new();
    if (!mend->logs)
        return fault(-ENOMEM, "no memory for a block of logs");
    while (!r && bytes.len > 0) {
        struct logblock_record *records;
        struct logblock block;
        uint64_t n_bytes;
        size_t n;

        r = logblock_next(&bytes, mend->logs, &block);
        if (!r)
            r = logblock_find(&block, NULL, mend->logs, &records, &n, &n_bytes);
        if (r)
            return r < 0 ? pass(r) : 0;
        span.first_us = block.first_us < span.first_us ? block.first_us : span.first_us;
        span.last_us = block.last_us > span.last_us ? block.last_us : span.last_us;
    }
    if (span.first_us > span.last_us)
        return 0;
    take_position(mend, &found->prefix);
    return pass(add_span(mend, &span));
}

static int add_block(struct mend *mend, const struct found_block *found)
{
    struct block_cursor cursor = { 0 };
    struct block_part part;
    struct block block;
    int r = block_open(found->bytes, &mend->opened, &block);

    if (r < 0)
        return pass(r);
    if (r || block.agent != mend->agent)
        return 0;
    take_position(mend, &found->prefix);
    while (r >= 0 && block_next(&block, &cursor, &part))
        r = add_part(mend, &part);
    return r < 0 ? pass(r) : 0;
}

static int add_blocks(struct mend *mend)
{
    CLEANUP(buf_deinit) struct buf list = { 0 };
    const struct found_block *found;
    struct find_blocks find = {
        .agent = mend->agent, .from_us = INT64_MIN, .to_us = INT64_MAX, .seal = UINT64_MAX
    };
    uint64_t n_damaged = 0;
    int r = found_blocks(mend->day, mend->txn, &find, &list, &n_damaged);

    if (r == STORE_NOT_FOUND) {
        day_found_damage(mend->day, "pages that lead nowhere");
        r = 0;
    }
    found = (const void *) list.data;
    for (size_t i = 0; i < list.len / sizeof(*found) && !r; i++)
        r = mend->day->kind == &days_of_logs ? add_log_block(mend, &found[i])
                                             : add_block(mend, &found[i]);
    return pass(r);
}

/* ---- roll-ups ---- */

static int add_record(struct mend *mend, const struct roll_key *key, MDB_val k, MDB_val v)
{
    enum roll_tier tier = mend->day->kind == &days_of_hours ? ROLL_HOURS : ROLL_MINUTES;
    const struct roll_wish nothing = { tier, 0, NULL, 0 };
    const struct roll_sheet *sheet = &mend->sheet;
    struct day_span span = { .layout = key->layout };
    struct day_prefix prefix;
    struct span block;
    int r = BLOCK_BAD;

    if (day_prefix_get(k, v, &prefix, &block))
        r = roll_decode(&mend->work, key, &nothing, block, &mend->sheet);
    if (r < 0)
        return pass(r);
    if (r || sheet->n_rows == 0)
        return 0;
    mend->has_blocks = true;
    span.first_us = sheet->rows[0].first_us;
    span.last_us = sheet->rows[sheet->n_rows - 1].last_us;
    return pass(add_span(mend, &span));
}

static int add_records(struct mend *mend)
{
    CLEANUP(db_cursor_closep) MDB_cursor *cursor = NULL;
    uint8_t from[4];
    MDB_val k = db_val(from, sizeof(from)), v;
    struct roll_key key;
    int r = 0, rc = mdb_cursor_open(mend->txn, mend->day->blocks, &cursor);

    db_key_u32(from, mend->agent);
    if (!rc)
        rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
    for (; !rc && !r; rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) {
        if (k.mv_size < sizeof(from) || memcmp(k.mv_data, from, sizeof(from)) != 0)
            return 0;
        if (roll_key_get(k, &key) && key.slice == 0)
            r = add_record(mend, &key, k, v);
    }
    if (r)
        return pass(r);
    if (db_is_damage(rc)) {
        day_found_damage(mend->day, mdb_strerror(rc));
        return 0;
    }
    return rc == 0 || rc == MDB_NOTFOUND ? 0 : fold(db_check(rc, "cannot read roll-ups"));
}

/* ---- records ---- */

int day_mend_agent(struct day *day,
                   MDB_txn *txn,
                   uint32_t agent,
                   struct position *ret,
                   struct buf *ret_spans)
{
    CLEANUP(mend_deinit)
    struct mend mend = { .day = day, .txn = txn, .agent = agent, .spans = ret_spans };
    int r = day->kind->has_marks ? add_records(&mend) : add_blocks(&mend);

    if (r)
        return pass(r);
    if (!mend.has_blocks)
        return STORE_NOT_FOUND;
    log_peer(LOG_WARN, "day_agent_made_anew", LOG_S("path", day->path), LOG_U("agent", agent),
             LOG_U("chunk", mend.sealed.chunk), LOG_U("offset", mend.sealed.offset));
    *ret = mend.sealed;
    return 0;
}

static bool has_good_record(struct day *day, MDB_txn *txn, uint32_t agent)
{
    uint8_t name[4];
    MDB_val key = db_val(name, sizeof(name)), value;
    struct position sealed;
    struct span spans;

    db_key_u32(name, agent);
    return mdb_get(txn, day->agents, &key, &value) == 0 &&
           day_agent_read(key, value, &sealed, &spans);
}

int day_mend_each(struct day *day,
                  MDB_txn *txn,
                  int (*fn)(void *ctx, uint32_t agent, struct position sealed, struct span spans),
                  void *ctx)
{
    CLEANUP(db_cursor_closep) MDB_cursor *cursor = NULL;
    CLEANUP(buf_deinit) struct buf spans = { 0 };
    uint32_t agent = 0;
    int r = 0, rc = mdb_cursor_open(txn, day->blocks, &cursor);

    while (!rc && !r && agent < UINT32_MAX) {
        uint8_t from[4];
        MDB_val key = db_val(from, sizeof(from)), value;
        struct position sealed;

        db_key_u32(from, agent + 1);
        rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
        if (rc || key.mv_size < sizeof(from))
            break;
        agent = db_u32_of(db_val(key.mv_data, sizeof(from)));
        if (has_good_record(day, txn, agent))
            continue;
        buf_clear(&spans);
        r = day_mend_agent(day, txn, agent, &sealed, &spans);
        r = r == STORE_NOT_FOUND ? 0 : r ? pass(r) : fn(ctx, agent, sealed, buf_span(&spans));
    }
    if (r)
        return pass(r);
    if (db_is_damage(rc)) {
        day_found_damage(day, mdb_strerror(rc));
        return 0;
    }
    return rc == 0 || rc == MDB_NOTFOUND ? 0 : fold(db_check(rc, "cannot read a day"));
}

/* ---- on disk ---- */

struct rewrite {
    struct day *day;
    MDB_txn *txn;
};

static int put_agent(void *ctx, uint32_t agent, struct position sealed, struct span spans)
{
    struct rewrite *rewrite = ctx;

    return pass(day_agent_put(rewrite->day, rewrite->txn, agent, sealed, spans));
}

/* What is left has no block that can be read. */
static int drop_bad(struct day *day, MDB_txn *txn)
{
    CLEANUP(db_cursor_closep) MDB_cursor *cursor = NULL;
    MDB_val key, value;
    int rc = mdb_cursor_open(txn, day->agents, &cursor);

    if (!rc)
        rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
    while (!rc) {
        struct position sealed;
        struct span spans;

        if (!day_agent_read(key, value, &sealed, &spans))
            rc = mdb_cursor_del(cursor, 0);
        if (!rc)
            rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    return rc == MDB_NOTFOUND ? 0 : pass(db_check(rc, "cannot mend a day"));
}

int day_mend(struct day *day)
{
    CLEANUP(db_txn_abortp) MDB_txn *txn = NULL;
    struct rewrite rewrite = { .day = day };
    int r = db_check(mdb_txn_begin(day->env, NULL, 0, &txn), "cannot begin to mend a day");

    rewrite.txn = txn;
    if (!r)
        r = day_mend_each(day, txn, put_agent, &rewrite);
    if (!r)
        r = drop_bad(day, txn);
    if (!r && !atomic_load(&day->is_damaged))
        r = db_commit(day->env, take(txn), "cannot mend a day");
    if (r == STORE_FULL) {
        log_event(LOG_WARN, "day_not_mended", LOG_S("path", day->path),
                  LOG_S("remedy", "free space on this disk; it is tried at the next start"));
        return 0;
    }
    if (!r)
        day->has_bad_agents = false;
    return pass(r);
}
