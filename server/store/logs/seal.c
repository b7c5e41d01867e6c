/* SPDX-License-Identifier: Apache-2.0 */

/*
 * An agent's packs become blocks, each of one source and one day. Places are copied under the
 * agent's lock; packs are then read where they lie in the journal's mapped pages, and bodies go
 * from there straight into the block. The heads keep the places until the blocks are committed, and
 * so the segments stay.
 *
 * Packs that are blocks (batch.c) are put one behind the other in one value of the day, with what
 * packs between them have as blocks of their own: only their heads are looked at and written. The
 * compaction makes one block of all.
 *
 * What one round does is bounded: metrics do not wait for logs. It begins with the agent behind the
 * last one, so each gets its turn.
 */

#include <errno.h>
#include <stdlib.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/faultpoint.h"
#include "common/log/log.h"
#include "server/store/journal/reader.h"
#include "server/store/logs/seal.h"
#include "server/store/whole.h"

#define SEAL_RAW_BYTES (UINT64_C(1) << 20)    /* of an agent: it is sealed before it is old */
#define GATHER_RAW_BYTES (UINT64_C(16) << 20) /* of an agent at a time; one pack always may */
#define GATHER_PACKS 16384u                   /* each may become a block: less than 2^16 parts */
#define ROUND_RAW_BYTES (UINT64_C(32) << 20)
#define BLOCK_RAW_BYTES LOGBLOCK_RAW_GOAL
#define ATTRIBUTES_BYTES ((size_t) 1 << 30) /* more than a block's records can have */

/* Blocks [first_block, first_block + n_blocks) of an agent and a day. */
struct part {
    struct agent *agent;
    int32_t day;
    struct log_pack up_to; /* sealed with it */
    struct day_span span;  /* n_rows 0: no record could be read */
    size_t first_block, n_blocks;
};

struct sealed_block {
    struct day_key key;
    struct day_prefix prefix;
    size_t at, len; /* in bytes */
};

struct logs_sealer {
    struct logblock_work *work;
    struct logblock_room *room;
    struct reader reader;
    uint32_t next_agent;
    uint64_t n_round_bytes; /* raw, gathered in this round */
    /* The agent under way. */
    struct log_pack *packs;
    uint32_t *order;
    size_t n_packs, packs_capacity, order_capacity;
    uint16_t n_parts;
    /* The block under way: blocks in `bytes`, then records. */
    struct logblock_source source;
    struct logblock_record *records;
    size_t n_records, records_capacity;
    struct arena attributes;
    struct day_prefix prefix; /* n_rows 0: there is none */
    int64_t first_us;
    size_t begin; /* in bytes */
    /* The group. */
    struct buf parts, blocks, bytes; /* struct part, struct sealed_block, encoded */
    uint64_t n_damaged;
};

struct logs_sealer *logs_sealer_new(void)
{
    struct logs_sealer *logs = calloc(1, sizeof(*logs));

    if (!logs)
        return NULL;
    arena_init(&logs->attributes, ATTRIBUTES_BYTES);
    logs->work = logblock_work_new();
    logs->room = logblock_room_new();
    logs->next_agent = 1;
    return logs->work && logs->room ? logs : logs_sealer_free(logs);
}

struct logs_sealer *logs_sealer_free(struct logs_sealer *logs)
{
    if (!logs)
        return NULL;
    logblock_work_free(logs->work);
    logblock_room_free(logs->room);
    arena_deinit(&logs->attributes);
    free(logs->packs);
    free(logs->order);
    free(logs->records);
    buf_deinit(&logs->parts);
    buf_deinit(&logs->blocks);
    buf_deinit(&logs->bytes);
    free(logs);
    return NULL;
}

static int grow(void *array, size_t *capacity, size_t n, size_t item_bytes)
{
    void **at = array, *grown;

    if (n <= *capacity)
        return 0;
    grown = reallocarray(*at, n + n / 2, item_bytes);
    if (!grown)
        return fault(-ENOMEM, "no memory to seal %zu items", n);
    *at = grown;
    *capacity = n + n / 2;
    return 0;
}

/* ---- which packs ---- */

/* The oldest ones, as many as go together. *ret_is_cut: there are more. */
static int copy_packs(struct logs_sealer *logs, struct agent *agent, bool *ret_is_cut)
{
    const struct log_heads *heads = &agent->logs;
    uint64_t n_raw_bytes = 0;
    size_t n = 0;
    int r;

    pthread_mutex_lock(&agent->lock);
    while (n < heads->n_packs && n < GATHER_PACKS &&
           (n == 0 || n_raw_bytes + heads->packs[n].n_raw_bytes <= GATHER_RAW_BYTES))
        n_raw_bytes += heads->packs[n++].n_raw_bytes;
    *ret_is_cut = n < heads->n_packs;
    r = grow(&logs->packs, &logs->packs_capacity, n, sizeof(*logs->packs));
    if (!r && n)
        memcpy(logs->packs, heads->packs, n * sizeof(*logs->packs));
    pthread_mutex_unlock(&agent->lock);
    if (r)
        return pass(r);
    logs->n_packs = n;
    logs->n_round_bytes += n_raw_bytes;
    r = grow(&logs->order, &logs->order_capacity, n, sizeof(*logs->order));
    for (size_t i = 0; !r && i < n; i++)
        logs->order[i] = (uint32_t) i;
    return pass(r);
}

/* A block's packs lie in one segment, so that what it borrows from its pages stays. */
static bool go_together(const struct log_pack *a, const struct log_pack *b)
{
    return a->source == b->source && a->segment == b->segment &&
           day_of(a->first_us) == day_of(b->first_us);
}

static int by_block(const void *a, const void *b, void *ctx)
{
    const struct log_pack *packs = ctx;
    uint32_t i = *(const uint32_t *) a, k = *(const uint32_t *) b;
    const struct log_pack *x = &packs[i], *y = &packs[k];
    int32_t x_day = day_of(x->first_us), y_day = day_of(y->first_us);

    if (x_day != y_day)
        return x_day < y_day ? -1 : 1;
    if (x->source != y->source)
        return x->source < y->source ? -1 : 1;
    return (i > k) - (i < k);
}

/* ---- one block ---- */

/* The records that are gathered become a block behind what is there. */
static int encode_records(struct logs_sealer *logs)
{
    struct logblock_input input = { .source = &logs->source,
                                    .records = logs->records,
                                    .n_records = logs->n_records,
                                    .effort = LOGBLOCK_FAST };

    if (logs->n_records == 0)
        return 0;
    logs->n_records = 0;
    return pass(logblock_encode(logs->work, &input, &logs->bytes));
}

static int end_block(struct logs_sealer *logs, const struct agent *agent)
{
    struct sealed_block block = {
        .key = { .agent = agent->facts.number, .first_us = logs->first_us, .part = logs->n_parts },
        .prefix = logs->prefix,
        .at = logs->begin
    };
    int r;

    if (logs->prefix.n_rows == 0)
        return 0;
    r = encode_records(logs);
    if (r)
        return pass(r);
    block.prefix.source = logs_source_tag(&logs->source);
    block.len = logs->bytes.len - block.at;
    buf_append(&logs->blocks, &block, sizeof(block));
    if (buf_failed(&logs->blocks) || buf_failed(&logs->bytes))
        return fault(-ENOMEM, "no memory for sealed blocks");
    logs->n_parts++;
    logs->prefix.n_rows = 0;
    return 0;
}

static int
copy_attributes(struct logs_sealer *logs, const struct logblock_attribute **attributes, size_t n)
{
    struct logblock_attribute *copy;

    if (n == 0)
        return 0;
    copy = arena_alloc_array(&logs->attributes, n, sizeof(*copy));
    if (!copy)
        return fault(-ENOMEM, "no memory for the attributes of a block");
    memcpy(copy, *attributes, n * sizeof(*copy));
    *attributes = copy;
    return 0;
}

static int begin_block(struct logs_sealer *logs, const struct logblock_source *source)
{
    arena_reset(&logs->attributes, ATTRIBUTES_BYTES);
    logs->source = *source;
    logs->begin = logs->bytes.len;
    logs->prefix = (struct day_prefix){ .last_us = INT64_MIN };
    logs->first_us = INT64_MAX;
    return pass(copy_attributes(logs, &logs->source.attributes, source->n_attributes));
}

/* Whether a pack of this source may go into the block under way. */
static bool fits(const struct logs_sealer *logs,
                 const struct log_pack *pack,
                 const struct logblock_source *source)
{
    return logs->prefix.n_rows + pack->n_records <= LOGBLOCK_RECORDS_MAX &&
           logs->prefix.n_samples + pack->n_raw_bytes <= LOGBLOCK_RAW_MAX &&
           logs_source_equal(&logs->source, source);
}

static int add_records(struct logs_sealer *logs, const struct logblock_record *records, size_t n)
{
    int r =
        grow(&logs->records, &logs->records_capacity, logs->n_records + n, sizeof(*logs->records));

    for (size_t i = 0; i < n && !r; i++) {
        struct logblock_record *to = &logs->records[logs->n_records + i];

        *to = records[i];
        /* Neighbours often share theirs. */
        if (i && records[i].attributes == records[i - 1].attributes &&
            records[i].n_attributes == records[i - 1].n_attributes)
            to->attributes = to[-1].attributes;
        else
            r = copy_attributes(logs, &to->attributes, to->n_attributes);
    }
    if (r)
        return pass(r);
    logs->n_records += n;
    return 0;
}

/* A pack as it was read: its records, or the block that it is. */
struct read_pack {
    struct span bytes;
    bool is_block;
    struct logblock_place place;
    struct logblock_source source;
    struct logblock_record *records;
    size_t n;
};

/* Outcomes: LOGBLOCK_BAD, STORE_NOT_FOUND: it cannot be read. */
static int read_pack(struct logs_sealer *logs,
                     struct agent *agent,
                     const struct log_pack *pack,
                     struct read_pack *ret)
{
    struct logblock block;
    int r = reader_pack(&logs->reader, agent->facts.number, pack, &ret->bytes);

    if (r)
        return r < 0 ? pass(r) : r;
    ret->place = (struct logblock_place){ pack->chunk, pack->offset, 0 };
    ret->is_block = logblock_is_block(ret->bytes);
    if (ret->is_block) {
        r = logblock_open(ret->bytes, logs->room, &block);
        if (r)
            return r < 0 ? pass(r) : r;
        ret->source = block.source;
        ret->n = block.n_records;
        return block.version > 1 && block.first_us == pack->first_us &&
                       block.last_us == pack->last_us && block.n_raw_bytes == pack->n_raw_bytes
                   ? 0
                   : LOGBLOCK_BAD;
    }
    r = logblock_unpack(ret->bytes, ret->place, logs->room, &ret->source, &ret->records, &ret->n);
    return r < 0 ? pass(r) : r;
}

static int
put_pack(struct logs_sealer *logs, const struct log_pack *pack, const struct read_pack *read)
{
    int r = 0;

    if (read->is_block)
        r = encode_records(logs);
    if (!r)
        r = read->is_block ? logblock_move(read->bytes, read->place, &logs->bytes)
                           : add_records(logs, read->records, read->n);
    if (r)
        return fold(r);
    logs->prefix.n_rows += pack->n_records;
    logs->prefix.n_samples += pack->n_raw_bytes;
    logs->first_us = pack->first_us < logs->first_us ? pack->first_us : logs->first_us;
    if (pack->last_us > logs->prefix.last_us)
        logs->prefix.last_us = pack->last_us;
    return 0;
}

/* A pack that cannot be read is passed over and counted. */
static int add_pack(struct logs_sealer *logs, struct agent *agent, const struct log_pack *pack)
{
    struct read_pack read = { 0 };
    int r = read_pack(logs, agent, pack, &read);

    if (r < 0)
        return pass(r);
    if (r || read.n != pack->n_records || read.n > LOGBLOCK_RECORDS_MAX) {
        log_peer(LOG_ERROR, "journal_pack_damaged", LOG_U("chunk", pack->chunk),
                 LOG_U("offset", pack->offset));
        logs->n_damaged++;
        return 0;
    }
    if (logs->prefix.n_rows && !fits(logs, pack, &read.source))
        r = end_block(logs, agent);
    if (!r && logs->prefix.n_rows == 0)
        r = begin_block(logs, &read.source);
    return r ? pass(r) : pass(put_pack(logs, pack, &read));
}

/* ---- one agent ---- */

/* Packs [first, end) of the order, which go together: blocks of about the same size. */
static int make_blocks(struct logs_sealer *logs, struct agent *agent, size_t first, size_t end)
{
    uint64_t n_raw_bytes = 0, n_blocks;
    int r = 0;

    for (size_t i = first; i < end; i++)
        n_raw_bytes += logs->packs[logs->order[i]].n_raw_bytes;
    n_blocks = (n_raw_bytes + BLOCK_RAW_BYTES / 2) / BLOCK_RAW_BYTES;
    for (size_t i = first; i < end && !r; i++) {
        r = add_pack(logs, agent, &logs->packs[logs->order[i]]);
        if (!r && n_blocks > 1 && logs->prefix.n_samples >= n_raw_bytes / n_blocks)
            r = end_block(logs, agent);
    }
    return r ? pass(r) : pass(end_block(logs, agent));
}

static int end_part(struct logs_sealer *logs, struct part *part)
{
    const struct sealed_block *blocks = (const void *) logs->blocks.data;
    size_t n_blocks = logs->blocks.len / sizeof(*blocks);

    part->n_blocks = n_blocks - part->first_block;
    part->span = (struct day_span){ .first_us = INT64_MAX, .last_us = INT64_MIN };
    for (size_t i = part->first_block; i < n_blocks; i++) {
        part->span.n_rows += blocks[i].prefix.n_rows;
        if (blocks[i].key.first_us < part->span.first_us)
            part->span.first_us = blocks[i].key.first_us;
        if (blocks[i].prefix.last_us > part->span.last_us)
            part->span.last_us = blocks[i].prefix.last_us;
    }
    buf_append(&logs->parts, part, sizeof(*part));
    return buf_failed(&logs->parts) ? fault(-ENOMEM, "no memory to seal logs") : 0;
}

static int make_parts(struct logs_sealer *logs, struct agent *agent)
{
    int r = 0;

    for (size_t first = 0, end; first < logs->n_packs && !r;) {
        const struct log_pack *pack = &logs->packs[logs->order[first]];
        struct part part = { .agent = agent,
                             .day = day_of(pack->first_us),
                             .up_to = logs->packs[logs->n_packs - 1],
                             .first_block = logs->blocks.len / sizeof(struct sealed_block) };

        while (!r && first < logs->n_packs &&
               day_of(logs->packs[logs->order[first]].first_us) == part.day) {
            pack = &logs->packs[logs->order[first]];
            for (end = first + 1; end < logs->n_packs; end++) {
                if (!go_together(pack, &logs->packs[logs->order[end]]))
                    break;
            }
            r = make_blocks(logs, agent, first, end);
            first = end;
        }
        if (!r)
            r = end_part(logs, &part);
    }
    return pass(r);
}

static int gather_packs(struct sealer *sealer, struct agent *agent, bool *ret_is_cut)
{
    struct logs_sealer *logs = sealer->logs;
    int r = copy_packs(logs, agent, ret_is_cut);

    if (r || logs->n_packs == 0)
        return pass(r);
    qsort_r(logs->order, logs->n_packs, sizeof(*logs->order), by_block, logs->packs);
    logs->n_parts = 0;
    logs->n_records = 0;
    logs->prefix.n_rows = 0;
    logs->reader = (struct reader){ .journal = &sealer->store->journal };
    r = make_parts(logs, agent);
    reader_close(&logs->reader);
    return pass(r);
}

/* ---- committing ---- */

static int put_sealed(struct day *day, MDB_txn *txn, const struct part *part)
{
    CLEANUP(buf_deinit) struct buf spans = { 0 };
    struct position sealed = { 0 }, up_to = { part->up_to.chunk, part->up_to.offset };
    uint32_t agent = part->agent->facts.number;
    int r = day_agent_get(day, txn, agent, &sealed, &spans);

    if (r < 0)
        return pass(r);
    ensure(!position_is_behind(sealed, up_to));
    if (part->span.n_rows)
        day_spans_add(&spans, &part->span);
    if (buf_failed(&spans))
        return fault(-ENOMEM, "no memory for the spans of an agent");
    return pass(day_agent_put(day, txn, agent, up_to, buf_span(&spans)));
}

static int put_part(struct logs_sealer *logs,
                    struct day *day,
                    MDB_txn *txn,
                    uint64_t seal,
                    const struct part *part)
{
    struct sealed_block *blocks = (void *) logs->blocks.data;
    int r = 0;

    for (size_t i = part->first_block; i < part->first_block + part->n_blocks && !r; i++) {
        blocks[i].key.seal = seal;
        blocks[i].prefix.chunk = part->up_to.chunk;
        blocks[i].prefix.offset = part->up_to.offset;
        r = seal_put_block(day, txn, &blocks[i].key, &blocks[i].prefix,
                           span_of(logs->bytes.data + blocks[i].at, blocks[i].len));
    }
    return r ? pass(r) : pass(put_sealed(day, txn, part));
}

/* Parts [first, end), all of one day, under one seal number. Outcomes: STORE_FULL. */
static int
write_day(struct sealer *sealer, struct day *day, uint64_t seal, size_t first, size_t end)
{
    CLEANUP(db_txn_abortp) MDB_txn *txn = NULL;
    const struct part *parts = (const void *) sealer->logs->parts.data;
    MDB_val key = db_val("seal", 4), value = db_val(&seal, sizeof(seal));
    int r = db_check(mdb_txn_begin(day->env, NULL, 0, &txn), "cannot begin to write a day");

    if (!r)
        r = db_check(mdb_put(txn, day->meta, &key, &value, 0), "cannot write a day");
    for (size_t i = first; i < end && !r; i++)
        r = put_part(sealer->logs, day, txn, seal, &parts[i]);
    if (r)
        return pass(r);
    faultpoint("logs_seal_before_commit");
    r = db_commit(day->env, take(txn), "cannot commit a day");
    if (!r)
        faultpoint("logs_seal_after_commit");
    return pass(r);
}

static void on_dropped(void *ctx, const struct log_pack *pack)
{
    struct segment *segment = journal_segment(ctx, pack->segment);

    ensure(segment && atomic_load(&segment->n_live) > 0);
    atomic_fetch_sub(&segment->n_live, 1);
}

/* From here on its blocks are what readers see. */
static void show_part(struct sealer *sealer, const struct part *part, uint64_t seal)
{
    struct agent *agent = part->agent;

    pthread_mutex_lock(&agent->lock);
    log_heads_drop(&agent->logs, part->day, &part->up_to, on_dropped, &sealer->store->journal);
    ensure(seal > agent->logs.seal);
    agent->logs.seal = seal;
    pthread_mutex_unlock(&agent->lock);
}

static int commit_day(struct sealer *sealer, size_t first, size_t end)
{
    struct days *days = &sealer->store->logs;
    const struct part *parts = (const void *) sealer->logs->parts.data;
    struct day *day;
    int r = days_make(days, parts[first].day, (struct day_begun){ 0 }, &day);

    if (r == STORE_NOT_FOUND) {
        /* Damaged in the run: its packs stay in the journal, and the next start makes a new one. */
        return fault(-EIO, "the day of the logs of %zu agents is damaged", end - first);
    }
    if (r)
        return pass(r);
    r = write_day(sealer, day, sealer->seal + 1, first, end);
    day->n_new += r == 0;
    if (r == STORE_FULL)
        seal_note_no_room(sealer, day->path, day->env);
    days_release(days, day);
    if (r)
        return pass(r);
    sealer->seal++;
    for (size_t i = first; i < end; i++)
        show_part(sealer, &parts[i], sealer->seal);
    faultpoint("logs_seal_after_show");
    return 0;
}

static int by_day(const void *a, const void *b)
{
    const struct part *x = a, *y = b;

    if (x->day != y->day)
        return x->day < y->day ? -1 : 1;
    return (x->agent->facts.number > y->agent->facts.number) -
           (x->agent->facts.number < y->agent->facts.number);
}

static void count_group(struct sealer *sealer)
{
    const struct logs_sealer *logs = sealer->logs;
    const struct sealed_block *blocks = (const void *) logs->blocks.data;
    size_t n_blocks = logs->blocks.len / sizeof(*blocks);

    pthread_mutex_lock(&sealer->shared.lock);
    sealer->shared.n_log_blocks += n_blocks;
    for (size_t i = 0; i < n_blocks; i++) {
        sealer->shared.n_log_records += blocks[i].prefix.n_rows;
        sealer->shared.n_log_raw_bytes += blocks[i].prefix.n_samples;
    }
    sealer->shared.n_log_bytes += logs->bytes.len;
    sealer->shared.n_damaged += logs->n_damaged;
    pthread_mutex_unlock(&sealer->shared.lock);
}

static void clear_group(struct logs_sealer *logs)
{
    buf_clear(&logs->parts);
    buf_clear(&logs->blocks);
    buf_clear(&logs->bytes);
    logs->n_damaged = 0;
}

/* Days that went before a failure are sealed; the packs of the others stay in the heads. */
static int commit_group(struct sealer *sealer)
{
    struct logs_sealer *logs = sealer->logs;
    struct part *parts = (void *) logs->parts.data;
    size_t n = logs->parts.len / sizeof(*parts);
    int r = 0;

    if (n)
        qsort(parts, n, sizeof(*parts), by_day);
    for (size_t first = 0, end; first < n && !r; first = end) {
        for (end = first + 1; end < n && parts[end].day == parts[first].day; end++)
            ;
        r = commit_day(sealer, first, end);
    }
    if (!r)
        count_group(sealer);
    clear_group(logs);
    return pass(r);
}

/* ---- rounds ---- */

static bool is_due(struct sealer *sealer, struct agent *agent, bool is_all, int64_t now_us)
{
    const struct log_heads *heads = &agent->logs;
    bool is_due;

    pthread_mutex_lock(&agent->lock);
    is_due = heads->n_packs > 0 &&
             (is_all || heads->n_raw_bytes >= SEAL_RAW_BYTES || heads->n_packs >= GATHER_PACKS ||
              now_us - heads->since_us >= sealer->store->options.seal_age_us);
    pthread_mutex_unlock(&agent->lock);
    return is_due;
}

int logs_seal_round(struct sealer *sealer, bool is_all, bool *ret_did, bool *ret_has_more)
{
    struct store *store = sealer->store;
    struct logs_sealer *logs = sealer->logs;
    uint32_t highest = idtable_highest(&store->agents.table);
    int64_t now_us = clock_mono().us;
    int r = 0;

    clear_group(logs);
    logs->n_round_bytes = 0;
    for (uint32_t n = 0; n < highest && !r && !sealer_is_stopping(sealer); n++) {
        uint32_t number = logs->next_agent <= highest ? logs->next_agent : 1;
        struct agent *agent = agents_get(&store->agents, number);
        bool is_cut = false;

        if (logs->n_round_bytes >= ROUND_RAW_BYTES) {
            *ret_has_more = true;
            break;
        }
        logs->next_agent = number + 1;
        if (!agent || agent_is_gone(agent) || !is_due(sealer, agent, is_all, now_us))
            continue;
        *ret_did = true;
        r = gather_packs(sealer, agent, &is_cut);
        *ret_has_more = *ret_has_more || is_cut;
    }
    if (!r)
        r = commit_group(sealer);
    clear_group(logs);
    return pass(r);
}

void logs_drop_day(struct store *store, int32_t day, uint64_t chunk)
{
    const struct log_pack up_to = { .chunk = chunk - 1, .offset = UINT32_MAX };

    for (uint32_t number = 1; number <= idtable_highest(&store->agents.table); number++) {
        struct agent *agent = agents_get(&store->agents, number);

        if (!agent)
            continue;
        pthread_mutex_lock(&agent->lock);
        log_heads_drop(&agent->logs, day, &up_to, on_dropped, &store->journal);
        pthread_mutex_unlock(&agent->lock);
    }
}
