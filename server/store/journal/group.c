/* SPDX-License-Identifier: Apache-2.0 */

/*
 * One group commit. Sequences are judged and rows appended in one transaction by one thread, so
 * exactly once needs no lock; what a failed transaction changed in memory is taken back.
 *
 * Payload is copied once, from the batch into LMDB's page. Nothing is allocated for a row: the
 * lists below grow and stay.
 */

#include <errno.h>
#include <stdlib.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/faultpoint.h"
#include "server/store/journal/batch.h"
#include "server/store/logs/logs.h"
#include "server/store/whole.h"

/* A record has at least 40 bytes, so a chunk never has more. */
#define CHUNK_PARTS (FORMAT_CHUNK_BYTES / sizeof(struct format_row) + 2)

struct item {
    struct store_batch *batch;
    struct run_key key;
    struct format_batch record;
    struct position at; /* of the record */
    int r;
    size_t first_row, n_rows; /* in the group's rows, or packs */
};

struct group_row {
    struct head_row at;
    uint32_t layout;
};

struct group {
    struct item *items;
    size_t n_items, items_capacity;
    struct group_row *rows;
    size_t n_rows, rows_capacity;
    struct log_pack *packs;
    size_t n_packs, packs_capacity;
    uint64_t n_log_records, n_pack_bytes; /* of the packs */
    bool has_begun;                       /* the transaction */
    bool has_unseen;                      /* rows that are on disk and in no head */
    /* The chunk being put together. */
    struct iovec parts[CHUNK_PARTS];
    size_t n_parts, n_bytes;
    uint32_t n_records;
};

struct group *group_new(void)
{
    return calloc(1, sizeof(struct group));
}

struct group *group_free(struct group *group)
{
    free(group->items);
    free(group->rows);
    free(group->packs);
    free(group);
    return NULL;
}

/* ---- chunks ---- */

static int end_chunk(struct group *group, struct journal *journal)
{
    int r;

    if (group->n_records == 0)
        return 0;
    r = journal_append(journal, group->parts, group->n_parts, group->n_records, group->n_bytes);
    group->n_parts = group->n_records = 0;
    group->n_bytes = sizeof(struct format_chunk);
    return pass(r);
}

/* A record that lives until the chunk ends. Neighbours in memory become one part. */
static int add_record(struct group *group, struct journal *journal, void *record, size_t n_bytes)
{
    struct iovec *last;
    int r = 0;

    if (group->n_bytes + n_bytes > FORMAT_CHUNK_BYTES)
        r = end_chunk(group, journal);
    if (r)
        return pass(r);
    last = group->n_parts ? &group->parts[group->n_parts - 1] : NULL;
    if (last && (uint8_t *) last->iov_base + last->iov_len == record) {
        last->iov_len += n_bytes;
    } else {
        ensure(group->n_parts < CHUNK_PARTS);
        group->parts[group->n_parts++] = (struct iovec){ record, n_bytes };
    }
    group->n_bytes += n_bytes;
    group->n_records++;
    return 0;
}

/* ---- judging ---- */

/* It was not written: what is of the agent is before the chunk that comes next. */
static void take_back_chunk(struct store *store, struct agent *agent)
{
    uint64_t next = atomic_load(&store->journal.next_chunk);

    (void) atomic_compare_exchange_strong(&agent->last_chunk, &next, next - 1);
}

/* Last, and on record before it is asked whether the agent is gone: agents.h. */
static int judge_agent(struct store *store, struct agent *agent)
{
    atomic_store(&agent->last_chunk, atomic_load(&store->journal.next_chunk));
    if (!agent_is_gone(agent))
        return 0;
    take_back_chunk(store, agent);
    return STORE_STOPPED;
}

static int judge(struct store *store, const struct item *item)
{
    const struct store_batch *batch = item->batch;
    struct agent *agent = agents_get(&store->agents, batch->agent);
    const struct run *run = runs_find(&store->runs, &item->key);
    uint64_t last = run ? run->pending.last_sequence : 0;

    ensure(agent);
    if (agent_is_gone(agent)) /* it was on its way when the agent was forgotten */
        return STORE_STOPPED;
    if (batch->sequence <= last)
        return STORE_DUPLICATE;
    if (!batch->is_skip && !batch->is_begin && batch->sequence != last + 1)
        return STORE_GAP;
    if (!run && !runs_make_room(&store->runs, batch->agent, batch->received.us))
        return STORE_TOO_MUCH;
    return judge_agent(store, agent);
}

static void make_record(struct store *store, struct item *item)
{
    const struct store_batch *batch = item->batch;
    const struct run *run = runs_find(&store->runs, &item->key);

    item->record = (struct format_batch){
        .head = { .type = FORMAT_BATCH,
                  .signal = (uint8_t) batch->signal,
                  .n_bytes = sizeof(item->record),
                  .crc32c = batch->crc32c,
                  .agent = batch->agent },
        .sequence = batch->sequence,
        .received_us = batch->received.us,
        .count = batch->signal == STORE_LOGS ? batch->n_records : batch->n_samples,
        .detail = (uint32_t) batch->n_rows,
        .n_raw_bytes = (uint32_t) batch->n_record_bytes,
    };
    memcpy(item->record.spool, batch->spool, sizeof(item->record.spool));
    if (batch->is_skip) {
        item->record.head.type = FORMAT_SKIP;
        item->record.count = batch->skip_records;
        item->record.detail = batch->skip_reason;
    } else if (batch->is_begin) {
        item->record.head.type = FORMAT_BEGIN;
        item->record.count = batch->sequence - (run ? run->pending.last_sequence : 0);
        item->record.detail = 0;
    }
}

/* ---- one batch into the transaction ---- */

static int grow_rows(struct group *group, size_t n)
{
    size_t capacity = group->rows_capacity;
    struct group_row *rows;

    if (group->n_rows + n <= capacity)
        return 0;
    while (capacity < group->n_rows + n)
        capacity = capacity * 2 + 1024;
    rows = realloc(group->rows, capacity * sizeof(*rows));
    if (!rows)
        return fault(-ENOMEM, "no memory for the rows of a group");
    group->rows = rows;
    group->rows_capacity = capacity;
    return 0;
}

static int append_rows(struct group *group, struct store *store, struct item *item)
{
    struct journal *journal = &store->journal;
    uint8_t *at = batch_payload(item->batch), *end = at + item->batch->n_bytes;
    int r = grow_rows(group, item->batch->n_rows);

    item->first_row = group->n_rows;
    while (!r && at < end) {
        struct format_row row;

        memcpy(&row, at, sizeof(row));
        r = add_record(group, journal, at, row.head.n_bytes);
        if (r)
            return pass(r);
        group->rows[group->n_rows++] = (struct group_row){
            .at = { .time_us = row.time_us,
                    .chunk = journal->pending_chunk,
                    .segment = journal->writing->number,
                    .offset = (uint32_t) (group->n_bytes - row.head.n_bytes) },
            .layout = row.layout,
        };
        at += row.head.n_bytes;
    }
    item->n_rows = group->n_rows - item->first_row;
    return pass(r);
}

static int grow_packs(struct group *group, size_t n)
{
    size_t capacity = group->packs_capacity;
    struct log_pack *packs;

    if (group->n_packs + n <= capacity)
        return 0;
    while (capacity < group->n_packs + n)
        capacity = capacity * 2 + 256;
    packs = reallocarray(group->packs, capacity, sizeof(*packs));
    if (!packs)
        return fault(-ENOMEM, "no memory for the packs of a group");
    group->packs = packs;
    group->packs_capacity = capacity;
    return 0;
}

static int append_packs(struct group *group, struct store *store, struct item *item)
{
    struct journal *journal = &store->journal;
    uint8_t *at = batch_payload(item->batch), *end = at + item->batch->n_bytes;
    int r = grow_packs(group, item->batch->n_rows);

    item->first_row = group->n_packs;
    while (!r && at < end) {
        struct format_pack pack;

        memcpy(&pack, at, sizeof(pack));
        r = add_record(group, journal, at, pack.head.n_bytes);
        if (r)
            return pass(r);
        group->packs[group->n_packs++] =
            log_pack_of(&pack, journal->writing->number,
                        (struct position){ journal->pending_chunk,
                                           (uint32_t) (group->n_bytes - pack.head.n_bytes) });
        group->n_log_records += pack.n_records;
        group->n_pack_bytes += format_pack_weight(&pack);
        at += pack.head.n_bytes;
    }
    item->n_rows = group->n_packs - item->first_row;
    return pass(r);
}

static int append_item(struct group *group, struct store *store, struct item *item)
{
    const struct store_batch *batch = item->batch;
    struct run_value value = { batch->sequence, batch->received.us, batch->crc32c };
    struct run *run;
    int r = 0;

    if (!group->has_begun) {
        r = journal_begin(&store->journal);
        group->has_begun = r == 0;
    }
    if (r)
        return pass(r);
    make_record(store, item);
    r = add_record(group, &store->journal, &item->record, sizeof(item->record));
    item->at = (struct position){ store->journal.pending_chunk,
                                  (uint32_t) (group->n_bytes - sizeof(item->record)) };
    if (!r)
        r = batch->signal == STORE_LOGS ? append_packs(group, store, item)
                                        : append_rows(group, store, item);
    if (!r)
        r = runs_set(&store->runs, &item->key, &value, &run);
    return pass(r);
}

static int list_items(struct group *group, struct store_batch *batches)
{
    size_t n = 0;

    for (const struct store_batch *batch = batches; batch; batch = batch->next)
        n++;
    if (n > group->items_capacity) {
        struct item *items = realloc(group->items, n * 2 * sizeof(*items));

        if (!items)
            return fault(-ENOMEM, "no memory for a group of %zu batches", n);
        group->items = items;
        group->items_capacity = n * 2;
    }
    group->n_items = 0;
    for (struct store_batch *batch = batches; batch; batch = batch->next) {
        struct item *item = &group->items[group->n_items++];

        item->batch = batch;
        item->key = run_key_of(batch->agent, batch->signal, batch->spool);
        item->n_rows = 0;
        item->r = 0;
    }
    return 0;
}

/* All of it in one transaction: 0, STORE_FULL or a fault. */
static int write_items(struct group *group, struct store *store)
{
    int r = 0;

    group->has_begun = false;
    group->n_rows = group->n_packs = 0;
    group->n_log_records = group->n_pack_bytes = 0;
    group->n_parts = group->n_records = 0;
    group->n_bytes = sizeof(struct format_chunk);
    for (size_t i = 0; i < group->n_items && !r; i++) {
        struct item *item = &group->items[i];

        item->r = judge(store, item);
        if (item->r == 0)
            r = append_item(group, store, item);
    }
    if (!group->has_begun)
        return pass(r);
    if (!r)
        r = end_chunk(group, &store->journal);
    if (!r)
        r = journal_commit(&store->journal);
    journal_abort(&store->journal);
    return pass(r);
}

/* ---- after the commit ---- */

static int
show_rows(struct group *group, struct store *store, const struct item *item, struct agent *agent)
{
    int r = 0;

    for (size_t i = 0; i < item->n_rows && !r; i++) {
        const struct group_row *row = &group->rows[item->first_row + i];

        const struct store_layout *layout = catalog_layout(&store->catalog, row->layout);

        r = agent_add_row(agent, layout, row->layout, layout ? layout->n_columns : 0, &row->at);
        if (!r)
            atomic_fetch_add(&store->journal.writing->n_live, 1);
    }
    return pass(r);
}

static int
show_packs(struct group *group, struct store *store, const struct item *item, struct agent *agent)
{
    int r = 0;

    for (size_t i = 0; i < item->n_rows && !r; i++) {
        r = agent_add_pack(agent, &group->packs[item->first_row + i]);
        if (!r)
            atomic_fetch_add(&store->journal.writing->n_live, 1);
    }
    return pass(r);
}

/* A row that cannot be shown for lack of memory is on disk: the next start shows it. The store
 * fails, so that there is one. */
static int show_item(struct group *group, struct store *store, const struct item *item)
{
    struct agent *agent = agents_get(&store->agents, item->batch->agent);
    int r;

    ensure(agent);
    pthread_mutex_lock(&agent->lock);
    if (agent_is_gone(agent)) { /* since it was judged */
        pthread_mutex_unlock(&agent->lock);
        return 0;
    }
    agent_count(agent, &item->record, item->at);
    r = item->batch->signal == STORE_LOGS ? show_packs(group, store, item, agent)
                                          : show_rows(group, store, item, agent);
    pthread_mutex_unlock(&agent->lock);
    return pass(r);
}

static void count_group(struct group *group, struct writer *writer, int64_t latency_us)
{
    pthread_mutex_lock(&writer->stats.lock);
    for (size_t i = 0; i < group->n_items; i++) {
        const struct item *item = &group->items[i];

        writer->stats.n_batches += item->r == 0;
        writer->stats.n_duplicates += item->r == STORE_DUPLICATE;
        writer->stats.n_samples += item->r == 0 ? item->batch->n_samples : 0;
        writer->stats.n_records += item->r == 0 ? item->batch->n_records : 0;
        writer->stats.n_record_bytes += item->r == 0 ? item->batch->n_record_bytes : 0;
    }
    if (group->has_begun) {
        writer->stats.latencies_us[writer->stats.n_commits++ % WRITER_LATENCIES] =
            latency_us < 0            ? 0
            : latency_us > UINT32_MAX ? UINT32_MAX
                                      : (uint32_t) latency_us;
    }
    pthread_mutex_unlock(&writer->stats.lock);
}

static void answer(struct store *store, struct store_batch *batch, const struct run_key *key, int r)
{
    struct store_run run = { 0 };

    if (runs_get(&store->runs, key, &run))
        run.last_sequence = 0;
    batch->next = NULL;
    batch->done(batch, r, run.last_sequence);
}

void group_refuse(struct store *store, struct store_batch *batches, int r)
{
    struct store_batch *next;

    for (struct store_batch *batch = batches; batch; batch = next) {
        struct run_key key = run_key_of(batch->agent, batch->signal, batch->spool);

        next = batch->next;
        answer(store, batch, &key, r);
    }
}

int group_commit(struct group *group, struct store *store, struct store_batch *batches)
{
    mono_us begin = clock_mono();
    int r = list_items(group, batches);

    if (!r)
        r = write_items(group, store);
    if (r) {
        runs_rollback(&store->runs);
        for (size_t i = 0; i < group->n_items; i++)
            take_back_chunk(store, agents_get(&store->agents, group->items[i].batch->agent));
        return pass(r);
    }
    runs_commit(&store->runs);
    for (size_t i = 0; i < group->n_items && !group->has_unseen; i++) {
        if (group->items[i].r == 0)
            group->has_unseen = show_item(group, store, &group->items[i]) != 0;
    }
    count_group(group, &store->writer, clock_mono().us - begin.us);
    if (group->n_packs)
        tails_publish(store, group->n_log_records, group->n_pack_bytes);
    return 0;
}

bool group_answer(struct group *group, struct store *store)
{
    faultpoint("journal_before_done");
    for (size_t i = 0; i < group->n_items; i++)
        answer(store, group->items[i].batch, &group->items[i].key, group->items[i].r);
    return !group->has_unseen;
}
