/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The start: the days say what is sealed, and how far; then every segment's chunks, in order,
 * become runs, heads and counters. A row enters its head unless its own day has it sealed. A chunk
 * with a bad checksum is passed over and counted; its rows are gone, and so are its last sequences:
 * an agent that is ahead of them says so in its hello, and store_run_begin() puts the gap on
 * record.
 *
 * Each segment's snapshot of the runs goes over what the segments before it said: where all is well
 * it says nothing new, and where one of them or a part of itself is damaged the rest is not lost.
 */

#include <errno.h>
#include <stdlib.h>

#include "common/base/fault.h"
#include "common/log/log.h"
#include "server/store/logs/logs.h"
#include "server/store/whole.h"

/* How far each agent is sealed on a day. */
struct sealed_day {
    struct replay *replay;
    bool are_logs;
    int32_t number;
    struct position *of; /* by number - 1 */
    uint32_t n;
};

/* What is sealed of one signal, and what is gone. */
struct sealed {
    struct sealed_day *days; /* ascending */
    size_t n_days;
    struct buf gone; /* struct retain_gone */
};

struct replay {
    struct store *store;
    struct segment *segment;
    struct sealed rows, packs;
    uint64_t n_chunks, n_rows, n_packs, n_sealed;
    uint64_t n_unknown; /* rows of agents or layouts that `state` does not have; erased ones too */
};

/* Also of one that was forgotten. */
static void note_chunk(struct replay *replay, uint32_t number, uint64_t chunk)
{
    struct agent *agent = agents_get(&replay->store->agents, number);

    if (agent)
        atomic_store_explicit(&agent->last_chunk, chunk, memory_order_relaxed);
}

static int on_batch(struct replay *replay, struct position at, const struct format_batch *record)
{
    struct agent *agent = agents_known(&replay->store->agents, record->head.agent);
    struct run_key key =
        run_key_of(record->head.agent, (enum store_signal) record->head.signal, record->spool);
    struct run_value value = { record->sequence, record->received_us, record->head.crc32c };
    struct run *run;

    note_chunk(replay, record->head.agent, at.chunk);
    if (agent && position_is_behind(at, agent->counted_at_start))
        agent_count(agent, record, at);
    return pass(runs_set(&replay->store->runs, &key, &value, &run));
}

/* ---- days ---- */

static int on_day_agent(void *ctx, uint32_t number, struct position sealed, struct span spans)
{
    struct sealed_day *day = ctx;
    struct store *store = day->replay->store;
    struct agent *agent = agents_get(&store->agents, number);
    struct day_span span;
    int r = 0;

    if (!agent || number > day->n)
        return 0; /* `state` is older than this day: a backup was restored */
    day->of[number - 1] = sealed;
    if (store->journal.next_chunk <= sealed.chunk)
        store->journal.next_chunk = sealed.chunk + 1;
    if (agent_is_gone(agent))
        return 0;
    for (size_t at = 0; at + sizeof(span) <= spans.len && !r; at += sizeof(span)) {
        memcpy(&span, spans.data + at, sizeof(span));
        if (day->are_logs) {
            agent_note_logs(agent, span.last_us);
            continue;
        }
        r = agent_add_span(agent, &agent->spans, catalog_layout(&store->catalog, span.layout),
                           &span);
    }
    return pass(r);
}

static int load_day(struct replay *replay, struct days *of, struct sealed *to, int32_t number)
{
    struct store *store = replay->store;
    struct sealed_day *days = reallocarray(to->days, to->n_days + 1, sizeof(*days)), *sealed;
    struct day *day;
    int r;

    if (!days)
        return fault(-ENOMEM, "no memory for what is sealed");
    to->days = days;
    sealed = &days[to->n_days];
    *sealed = (struct sealed_day){ .replay = replay,
                                   .are_logs = of == &store->logs,
                                   .number = number,
                                   .n = idtable_highest(&store->agents.table) };
    sealed->of = calloc((size_t) sealed->n + 1, sizeof(*sealed->of));
    if (!sealed->of)
        return fault(-ENOMEM, "no memory for what is sealed");
    to->n_days++;
    r = days_use(of, number, &day);
    if (r)
        return r == STORE_NOT_FOUND ? 0 : pass(r);
    r = day_agents_each(day, on_day_agent, sealed);
    if (!r && day->has_bad_agents)
        r = day_mend(day);
    days_release(of, day);
    return pass(r);
}

static int load_days(struct replay *replay, struct days *days, struct sealed *to)
{
    struct agents *agents = &replay->store->agents;
    int r = 0;

    /* All blocks are visible, also those of an agent whose word on a day cannot be read. */
    for (uint32_t number = 1; number <= idtable_highest(&agents->table); number++) {
        struct agent *agent = agents_get(agents, number);

        if (agent)
            *(days == &replay->store->logs ? &agent->logs.seal : &agent->seal) = days->max_seal;
    }
    for (int32_t number = days_next(days, INT32_MIN); number != INT32_MAX && !r;
         number = days_next(days, number + 1))
        r = load_day(replay, days, to, number);
    return pass(r);
}

/* ---- roll-ups ---- */

static int on_rolled_agent(void *ctx, uint32_t number, struct position sealed, struct span spans)
{
    struct store *store = ctx;
    struct agent *agent = agents_known(&store->agents, number);
    struct day_span span;
    int r = 0;

    (void) sealed;
    for (size_t at = 0; agent && at + sizeof(span) <= spans.len && !r; at += sizeof(span)) {
        memcpy(&span, spans.data + at, sizeof(span));
        r = agent_add_span(agent, &agent->rolled, catalog_layout(&store->catalog, span.layout),
                           &span);
    }
    return pass(r);
}

static int load_rolled(struct store *store, struct days *days)
{
    int r = 0;

    for (int32_t number = days_next(days, INT32_MIN); number != INT32_MAX && !r;
         number = days_next(days, number + 1)) {
        struct day *period;

        r = days_use(days, number, &period);
        if (r == 0) {
            r = day_agents_each(period, on_rolled_agent, store);
            if (!r && period->has_bad_agents)
                r = day_mend(period);
            days_release(days, period);
        } else if (r == STORE_NOT_FOUND) {
            r = 0;
        }
    }
    return pass(r);
}

/* Its day went, and what was of it. */
static bool is_gone(const struct sealed *sealed, int64_t time_us, uint64_t chunk)
{
    const struct retain_gone *gone = (const void *) sealed->gone.data;
    int32_t number = day_of(time_us);

    for (size_t i = 0; i < sealed->gone.len / sizeof(*gone); i++) {
        if (gone[i].day == number)
            return chunk < gone[i].chunk;
    }
    return false;
}

static bool
is_sealed(const struct sealed *sealed, uint32_t agent, int64_t time_us, struct position at)
{
    int32_t number = day_of(time_us);

    /* From the last on: the journal is about now. */
    for (size_t i = sealed->n_days; i-- > 0 && sealed->days[i].number >= number;) {
        const struct sealed_day *day = &sealed->days[i];

        if (day->number == number && agent > 0 && agent <= day->n)
            return !position_is_behind(at, day->of[agent - 1]);
    }
    return false;
}

/* ---- the journal ---- */

static int
on_row(struct replay *replay, uint64_t chunk, uint32_t offset, const struct format_row *row)
{
    struct agent *agent = agents_known(&replay->store->agents, row->head.agent);
    const struct store_layout *layout = catalog_layout(&replay->store->catalog, row->layout);
    struct head_row at = { row->time_us, chunk, replay->segment->number, offset };
    int r;

    note_chunk(replay, row->head.agent, chunk);
    if (!agent || !layout || layout->n_columns != row->n_values) {
        replay->n_unknown++;
        return 0;
    }
    if (is_sealed(&replay->rows, row->head.agent, row->time_us,
                  (struct position){ chunk, offset }) ||
        is_gone(&replay->rows, row->time_us, chunk)) {
        replay->n_sealed++;
        return 0;
    }
    replay->n_rows++;
    r = agent_add_row(agent, layout, row->layout, layout->n_columns, &at);
    if (!r)
        atomic_fetch_add(&replay->segment->n_live, 1);
    return pass(r);
}

static int on_pack(struct replay *replay, struct position at, const struct format_pack *pack)
{
    struct agent *agent = agents_known(&replay->store->agents, pack->head.agent);
    struct log_pack place = log_pack_of(pack, replay->segment->number, at);
    int r;

    note_chunk(replay, pack->head.agent, at.chunk);
    if (!agent) {
        replay->n_unknown++;
        return 0;
    }
    agent_note_logs(agent, pack->last_us);
    if (is_sealed(&replay->packs, pack->head.agent, pack->first_us, at) ||
        is_gone(&replay->packs, pack->first_us, at.chunk)) {
        replay->n_sealed++;
        return 0;
    }
    replay->n_packs++;
    r = agent_add_pack(agent, &place);
    if (!r)
        atomic_fetch_add(&replay->segment->n_live, 1);
    return pass(r);
}

/* Outcomes: STORE_NOT_FOUND (a record has no possible shape; what came before it counts). */
static int on_chunk(struct replay *replay, uint64_t number, const uint8_t *data, size_t len)
{
    size_t at = sizeof(struct format_chunk);
    int r = 0;

    while (!r && at < len) {
        struct format_record head;
        struct format_batch batch;
        struct format_row row;
        struct format_pack pack;
        struct position place = { number, (uint32_t) at };

        if (len - at < sizeof(head))
            return STORE_NOT_FOUND;
        memcpy(&head, data + at, sizeof(head));
        if (!format_can_be(&head) || head.n_bytes > len - at)
            return STORE_NOT_FOUND;
        if (head.type == FORMAT_ROW) {
            memcpy(&row, data + at, sizeof(row));
            if (format_row_fits(&row))
                r = on_row(replay, number, (uint32_t) at, &row);
        } else if (head.type == FORMAT_PACK) {
            memcpy(&pack, data + at, sizeof(pack));
            if (format_pack_fits(&pack))
                r = on_pack(replay, place, &pack);
        } else {
            memcpy(&batch, data + at, sizeof(batch));
            r = on_batch(replay, place, &batch);
        }
        at += head.n_bytes;
    }
    return pass(r);
}

static uint64_t first_chunk(struct segment *segment, MDB_txn *txn)
{
    MDB_val key = db_val("first_chunk", 11), value;
    uint64_t first = 0;

    if (mdb_get(txn, segment->meta, &key, &value) == 0 && value.mv_size == sizeof(first))
        memcpy(&first, value.mv_data, sizeof(first));
    return first;
}

/* Outcomes: none; damage is counted. */
static int take_chunk(struct replay *replay, uint64_t number, MDB_val value)
{
    int r = STORE_NOT_FOUND;

    if (format_chunk_is_whole(number, value.mv_data, value.mv_size))
        r = on_chunk(replay, number, value.mv_data, value.mv_size);
    if (r < 0)
        return pass(r);
    if (r == 0) {
        replay->n_chunks++;
        return 0;
    }
    replay->store->n_damaged++;
    log_event(LOG_ERROR, "journal_chunk_damaged", LOG_S("path", replay->segment->path),
              LOG_U("chunk", number));
    return 0;
}

static int replay_chunks(struct replay *replay)
{
    struct segment *segment = replay->segment;
    struct journal *journal = &replay->store->journal;
    CLEANUP(db_txn_abortp) MDB_txn *txn = NULL;
    CLEANUP(db_cursor_closep) MDB_cursor *cursor = NULL;
    MDB_val key, value;
    int r = 0, rc = mdb_txn_begin(segment->env, NULL, MDB_RDONLY, &txn);

    if (!rc) {
        uint64_t first = first_chunk(segment, txn);

        segment->first_chunk = first;
        if (journal->next_chunk < first)
            journal->next_chunk = first;
        rc = mdb_cursor_open(txn, segment->chunks, &cursor);
    }
    if (!rc)
        rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
    while (!rc && !r) {
        uint64_t number = db_u64_of(key);

        r = take_chunk(replay, number, value);
        if (journal->next_chunk <= number)
            journal->next_chunk = number + 1;
        if (!r)
            rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    runs_commit(&replay->store->runs);
    if (r)
        return pass(r);
    if (db_is_damage(rc)) {
        segment->is_damaged = true;
        replay->store->n_damaged++;
        log_event(LOG_ERROR, "journal_segment_damaged", LOG_S("path", segment->path),
                  LOG_S("why", mdb_strerror(rc)));
        return 0;
    }
    return rc == MDB_NOTFOUND ? 0 : fold(db_check(rc, "cannot read the journal"));
}

static int replay_segment(struct replay *replay, struct segment *segment)
{
    struct journal *journal = &replay->store->journal;
    int r = journal_use(journal, segment);

    if (r == STORE_NOT_FOUND) {
        segment->is_damaged = true;
        segment->first_chunk = journal->next_chunk; /* or above: nobody can tell */
        segment->used_bytes = db_file_bytes(segment->path);
        replay->store->n_damaged++;
        return 0;
    }
    if (r)
        return pass(r);
    replay->segment = segment;
    segment->used_bytes = db_env_used_bytes(segment->env);
    r = journal_load_runs(segment, &replay->store->runs);
    if (!r)
        r = replay_chunks(replay);
    journal_release(journal, segment);
    return pass(r);
}

/* Numbers are never used twice, also where damage hides the highest: the counters of an agent say
 * up to which chunk they count. */
static void pass_counted(struct store *store)
{
    for (uint32_t number = 1; number <= idtable_highest(&store->agents.table); number++) {
        const struct agent *agent = agents_get(&store->agents, number);

        if (agent && agent->counted.chunk >= store->journal.next_chunk)
            store->journal.next_chunk = agent->counted.chunk + 1;
    }
}

static void drop_erased_runs(struct store *store)
{
    for (uint32_t number = 1; number <= idtable_highest(&store->agents.table); number++) {
        struct agent *agent = agents_get(&store->agents, number);

        if (agent && agent_is_gone(agent))
            runs_drop_agent(&store->runs, number);
    }
}

static void sealed_deinit(struct sealed *sealed)
{
    for (size_t i = 0; i < sealed->n_days; i++)
        free(sealed->days[i].of);
    free(sealed->days);
    buf_deinit(&sealed->gone);
}

static void replay_deinit(struct replay *replay)
{
    sealed_deinit(&replay->rows);
    sealed_deinit(&replay->packs);
}

int store_replay(struct store *store)
{
    CLEANUP(replay_deinit) struct replay replay = { .store = store };
    struct journal *journal = &store->journal;
    int r = load_days(&replay, &store->days, &replay.rows);

    if (!r)
        r = load_days(&replay, &store->logs, &replay.packs);
    for (size_t tier = 0; tier < ROLL_TIERS && !r; tier++)
        r = load_rolled(store, &store->rolled[tier]);
    if (!r)
        r = retain_load(store, RETAIN_METRICS, &replay.rows.gone);
    if (!r)
        r = retain_load(store, RETAIN_LOGS, &replay.packs.gone);
    for (struct segment *segment = journal_next(journal, NULL); segment && !r;
         segment = journal_next(journal, segment))
        r = replay_segment(&replay, segment);
    if (r)
        return pass(r);
    pass_counted(store);
    drop_erased_runs(store);
    store->replayed_chunk = atomic_load(&journal->next_chunk);
    log_event(LOG_INFO, "journal_replayed", LOG_U("chunks", replay.n_chunks),
              LOG_U("rows", replay.n_rows), LOG_U("packs", replay.n_packs),
              LOG_U("sealed", replay.n_sealed),
              LOG_U("days", replay.rows.n_days + replay.packs.n_days),
              LOG_U("damaged_chunks", store->n_damaged), LOG_U("unknown_rows", replay.n_unknown));
    return 0;
}
