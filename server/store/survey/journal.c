/* SPDX-License-Identifier: Apache-2.0 */

/* Survey: one segment of the journal. */

#include <errno.h>

#include "common/base/crc32c.h"
#include "common/base/fault.h"
#include "server/store/days/days.h"
#include "server/store/days/seal.h"
#include "server/store/journal/format.h"
#include "server/store/journal/runs.h"
#include "server/store/logs/logs.h"
#include "server/store/survey/survey.h"

#define RUN_BYTES 24 /* journal.h */

enum { CHUNKS, RUNS, META, N_TABLES };

struct walk {
    struct survey *survey;
    MDB_txn *txn;
    MDB_dbi tables[N_TABLES];
    uint64_t number; /* of the chunk under way */
    /* The BATCH under way: what is still to come of it. */
    bool is_in_batch;
    uint8_t signal;
    uint32_t agent, n_rows;
    uint64_t n_samples, n_raw_bytes; /* log records count as samples */
    struct logblock_room *room;
};

static int chunk_damage(struct walk *walk, const char *what)
{
    walk->is_in_batch = false;
    return survey_damage(walk->survey, what, "chunk %llu", (unsigned long long) walk->number);
}

static int record_damage(struct walk *walk, size_t at, const char *what)
{
    walk->is_in_batch = false;
    return survey_damage(walk->survey, what, "chunk %llu, record at byte %zu",
                         (unsigned long long) walk->number, at);
}

/* The last batch is over. */
static int end_batch(struct walk *walk, size_t at)
{
    bool is_short = walk->is_in_batch && (walk->n_rows || walk->n_samples || walk->n_raw_bytes);

    walk->is_in_batch = false;
    return is_short ? record_damage(walk, at, "the batch before it lacks rows, packs or samples")
                    : 0;
}

/* Its day went, and what defined its columns may have gone too. */
static bool is_gone(const struct walk *walk, int64_t time_us)
{
    const struct retain_gone *gone = (const void *) walk->survey->gone.data;

    for (size_t i = 0; i < walk->survey->gone.len / sizeof(*gone); i++) {
        if (gone[i].day == day_of(time_us))
            return walk->number < gone[i].chunk;
    }
    return false;
}

static int on_row(struct walk *walk, size_t at, const uint8_t *record)
{
    struct store_found *found = &walk->survey->shared->found;
    struct format_row row;
    uint64_t n_samples;

    memcpy(&row, record, sizeof(row));
    if (!format_row_fits(&row) || row.n_absent > row.n_values)
        return record_damage(walk, at, "a row whose counts do not fit its length");
    n_samples = row.n_values - row.n_absent;
    found->n_journal_rows++;
    found->n_journal_samples += n_samples;
    walk->survey->shared->environment.n_samples += n_samples;
    if (walk->survey->asked->is_deep) {
        if (crc32c(0, record + FORMAT_CRC_FROM, row.head.n_bytes - FORMAT_CRC_FROM) !=
            row.head.crc32c)
            return record_damage(walk, at, "a row with a bad checksum");
        if (walk->is_in_batch && (walk->signal == STORE_LOGS || row.head.agent != walk->agent ||
                                  walk->n_rows == 0 || n_samples > walk->n_samples))
            return record_damage(walk, at, "a row that its batch does not have");
    }
    if (walk->is_in_batch) {
        walk->n_rows--;
        walk->n_samples -= n_samples;
    }
    return is_gone(walk, row.time_us)
               ? 0
               : survey_use(walk->survey, row.head.agent, row.layout, row.n_values);
}

/* Every record of a pack. NULL: it is what its head says. */
static const char *
wrong_with_pack(struct walk *walk, size_t at, const struct format_pack *head, const uint8_t *record)
{
    struct logblock_place place = { walk->number, (uint32_t) at, 0 };
    struct logblock_record *records;
    struct logblock_source source;
    int64_t first_us = INT64_MAX, last_us = INT64_MIN;
    uint64_t n_raw_bytes = 0;
    size_t n = 0;

    if (crc32c(0, record + FORMAT_CRC_FROM, head->head.n_bytes - FORMAT_CRC_FROM) !=
        head->head.crc32c)
        return "a pack with a bad checksum";
    if (logblock_unpack(span_of(record + sizeof(*head), head->n_bytes), place, walk->room, &source,
                        &records, &n) != LOGBLOCK_OK)
        return "a pack that does not decode";
    for (size_t i = 0; i < n; i++) {
        first_us = records[i].time_us < first_us ? records[i].time_us : first_us;
        last_us = records[i].time_us > last_us ? records[i].time_us : last_us;
        n_raw_bytes += logblock_raw_bytes(&records[i]);
    }
    if (n != head->n_records || first_us != head->first_us || last_us != head->last_us ||
        n_raw_bytes != head->n_raw_bytes || logs_source_hash(&source) != head->source)
        return "a pack whose head says other than its records";
    return NULL;
}

static int on_pack(struct walk *walk, size_t at, const uint8_t *record)
{
    struct store_found *found = &walk->survey->shared->found;
    const char *wrong = NULL;
    struct format_pack pack;

    memcpy(&pack, record, sizeof(pack));
    if (!format_pack_fits(&pack) || day_of(pack.first_us) != day_of(pack.last_us))
        return record_damage(walk, at, "a pack that cannot be");
    found->n_journal_packs++;
    found->n_journal_records += pack.n_records;
    found->n_journal_raw_bytes += pack.n_raw_bytes;
    if (walk->survey->asked->is_deep)
        wrong = wrong_with_pack(walk, at, &pack, record);
    if (wrong)
        return record_damage(walk, at, wrong);
    if (walk->is_in_batch &&
        (walk->signal != STORE_LOGS || pack.head.agent != walk->agent || walk->n_rows == 0 ||
         pack.n_records > walk->n_samples || pack.n_raw_bytes > walk->n_raw_bytes))
        return record_damage(walk, at, "a pack that its batch does not have");
    if (walk->is_in_batch) {
        walk->n_rows--;
        walk->n_samples -= pack.n_records;
        walk->n_raw_bytes -= pack.n_raw_bytes;
    }
    return survey_use(walk->survey, pack.head.agent, SURVEY_LOGS, 0);
}

static int on_batch(struct walk *walk, size_t at, const uint8_t *record)
{
    struct store_found *found = &walk->survey->shared->found;
    struct format_batch batch;
    int r = end_batch(walk, at);

    if (r)
        return r;
    memcpy(&batch, record, sizeof(batch));
    if (batch.received_us > found->newest_commit_us)
        found->newest_commit_us = batch.received_us;
    if (batch.head.agent == 0 || batch.head.signal < STORE_METRICS ||
        batch.head.signal > STORE_LOGS || batch.sequence == 0)
        return record_damage(walk, at, "a batch of no agent, signal or sequence that can be");
    if (batch.head.type != FORMAT_BATCH)
        return 0;
    found->n_batches++;
    walk->is_in_batch = walk->survey->asked->is_deep;
    walk->signal = batch.head.signal;
    walk->agent = batch.head.agent;
    walk->n_rows = batch.detail;
    walk->n_samples = batch.count;
    walk->n_raw_bytes = batch.n_raw_bytes;
    return 0;
}

static int on_records(struct walk *walk, const uint8_t *data, size_t len, uint32_t n_records)
{
    size_t at = sizeof(struct format_chunk);
    uint32_t n = 0;
    int r = 0;

    for (; !r && at < len; n++) {
        struct format_record head = { 0 };

        if (len - at >= sizeof(head))
            memcpy(&head, data + at, sizeof(head));
        if (!format_can_be(&head) || head.n_bytes > len - at)
            return record_damage(walk, at, "a record of no possible shape");
        r = head.type == FORMAT_ROW    ? on_row(walk, at, data + at)
            : head.type == FORMAT_PACK ? on_pack(walk, at, data + at)
                                       : on_batch(walk, at, data + at);
        at += head.n_bytes;
    }
    return !r && n != n_records ? chunk_damage(walk, "not as many records as it says") : r;
}

static const char *wrong_with(const struct walk *walk, const uint8_t *data, size_t len)
{
    struct format_chunk header;

    if (len < sizeof(header))
        return "shorter than a chunk can be";
    memcpy(&header, data, sizeof(header));
    if (walk->survey->asked->is_deep && header.n_bytes == len &&
        crc32c(0, data + sizeof(header.crc32c), len - sizeof(header.crc32c)) != header.crc32c)
        return "bad checksum";
    if (!format_is_known(header.version))
        return "of a version that this program does not know";
    if (header.number != walk->number)
        return "found under another number than its own";
    return header.n_bytes != len ? "not as long as it says" : NULL;
}

static int on_chunk(struct walk *walk, MDB_val key, MDB_val value)
{
    struct survey_shared *shared = walk->survey->shared;
    struct format_chunk header;
    const char *wrong;
    uint64_t expected = shared->next_chunk;
    int r = 0;

    walk->number = db_u64_of(key);
    shared->found.n_chunks++;
    shared->environment.n_records++;
    shared->n_read_bytes += value.mv_size;
    if (key.mv_size != 8 || walk->number < expected)
        return chunk_damage(walk, "its number does not follow the one before it");
    if (walk->number > expected && shared->environment.n_records > 1)
        r = chunk_damage(walk, "chunks before it are missing");
    shared->next_chunk = walk->number + 1;
    if (r)
        return r;
    wrong = wrong_with(walk, value.mv_data, value.mv_size);
    if (wrong)
        return chunk_damage(walk, wrong);
    memcpy(&header, value.mv_data, sizeof(header));
    return on_records(walk, value.mv_data, value.mv_size, header.n_records);
}

static int walk_chunks(struct walk *walk)
{
    CLEANUP(db_cursor_closep) MDB_cursor *cursor = NULL;
    MDB_val key, value;
    int r = 0, rc = mdb_cursor_open(walk->txn, walk->tables[CHUNKS], &cursor);

    if (!rc)
        rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
    while (!rc && !r) {
        r = on_chunk(walk, key, value);
        if (!r)
            rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    if (!r)
        r = end_batch(walk, 0);
    return r ? r : survey_end(walk->survey, rc, "chunks");
}

static int walk_runs(struct walk *walk)
{
    CLEANUP(db_cursor_closep) MDB_cursor *cursor = NULL;
    MDB_val key, value;
    int r = 0, rc = mdb_cursor_open(walk->txn, walk->tables[RUNS], &cursor);

    if (!rc)
        rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
    while (!rc && !r) {
        uint32_t agent = 0, signal = 0;

        walk->survey->shared->n_read_bytes += key.mv_size + value.mv_size;
        if (key.mv_size == sizeof(struct run_key)) {
            agent = db_u32_of(db_val(key.mv_data, 4));
            signal = db_u32_of(db_val((const uint8_t *) key.mv_data + 4, 4));
        }
        if (agent == 0 || signal < STORE_METRICS || signal > STORE_LOGS ||
            value.mv_size != RUN_BYTES)
            r = survey_damage(walk->survey, "a run of no possible shape", "run of agent %u", agent);
        if (!r)
            rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    return r ? r : survey_end(walk->survey, rc, "runs");
}

/* The first chunk of a segment is not below the last one of the segment before it. */
static int look_at_meta(struct walk *walk)
{
    struct survey_shared *shared = walk->survey->shared;
    MDB_val key = db_val("first_chunk", 11), value;
    uint64_t first = 0;

    if (mdb_get(walk->txn, walk->tables[META], &key, &value) == 0 && value.mv_size == sizeof(first))
        memcpy(&first, value.mv_data, sizeof(first));
    if (first == 0)
        return survey_damage(walk->survey, "does not say with which chunk it begins", "meta");
    if (first < shared->next_chunk)
        return survey_damage(walk->survey, "begins with a chunk of the segment before it", "meta");
    shared->next_chunk = first;
    return 0;
}

/* The answer is LMDB's. */
static int open_tables(struct walk *walk)
{
    static const char *const names[N_TABLES] = { "chunks", "runs", "meta" };
    int rc = 0;

    for (int i = 0; i < N_TABLES && !rc; i++)
        rc = mdb_dbi_open(walk->txn, names[i], 0, &walk->tables[i]);
    return rc;
}

static int walk_all(struct walk *walk)
{
    struct survey_shared *shared = walk->survey->shared;
    int r, rc = open_tables(walk);

    /* All tables come with the first commit: without one it is only about to begin. */
    if (rc == MDB_NOTFOUND && mdb_txn_id(walk->txn) > 0)
        return survey_damage(walk->survey, "a table is not there", "the list of tables");
    if (rc)
        return survey_end(walk->survey, rc, "the list of tables");
    shared->environment.kind = STORE_JOURNAL_SEGMENT;
    survey_pages(walk->survey, walk->txn, walk->tables, N_TABLES);
    shared->found.n_segments++;
    shared->found.journal_bytes += shared->environment.n_bytes;
    shared->found.n_journal_free_pages += shared->environment.n_free_pages;
    r = look_at_meta(walk);
    if (!r)
        r = walk_chunks(walk);
    return r || !walk->survey->asked->is_deep ? r : walk_runs(walk);
}

int survey_journal(struct survey *survey)
{
    struct walk walk = { .survey = survey };
    MDB_env *env;
    int rc, r = survey_open(survey, N_TABLES, &env);

    if (r)
        return r == STORE_NOT_FOUND ? 0 : r;
    rc = db_begin_read(env, &walk.txn);
    walk.room = logblock_room_new();
    if (!walk.room)
        r = fault(-ENOMEM, "no memory to look through the journal");
    else
        r = rc ? survey_end(survey, rc, "the last snapshot") : walk_all(&walk);
    if (walk.txn)
        mdb_txn_abort(walk.txn);
    mdb_env_close(env);
    logblock_room_free(walk.room);
    return r;
}
