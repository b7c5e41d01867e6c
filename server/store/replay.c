/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The start: every segment's chunks, in order, become runs, heads and counters. A chunk with a bad
 * checksum is passed over and counted; its rows are gone, and so are its last sequences: an agent
 * that is ahead of them says so in its hello, and store_run_begin() puts the gap on record.
 */

#include <errno.h>

#include "common/base/crc32c.h"
#include "common/base/fault.h"
#include "common/log/log.h"
#include "server/store/whole.h"

struct replay {
    struct store *store;
    struct segment *segment;
    uint64_t n_chunks, n_rows;
    uint64_t n_unknown; /* rows of agents or layouts that `state` does not have */
};

static int on_batch(struct replay *replay, uint64_t chunk, const struct format_batch *record)
{
    struct agent *agent = agents_get(&replay->store->agents, record->head.agent);
    struct run_key key =
        run_key_of(record->head.agent, (enum store_signal) record->head.signal, record->spool);
    struct run_value value = { record->sequence, record->received_us, record->head.crc32c };
    struct run *run;

    if (agent && chunk > agent->counted_at_start) {
        agent_count(agent, record);
        agent->counted_chunk = chunk;
    }
    return pass(runs_set(&replay->store->runs, &key, &value, &run));
}

static int
on_row(struct replay *replay, uint64_t chunk, uint32_t offset, const struct format_row *row)
{
    struct agent *agent = agents_get(&replay->store->agents, row->head.agent);
    const struct store_layout *layout = catalog_layout(&replay->store->catalog, row->layout);
    struct head_row at = { row->time_us, chunk, replay->segment->index, offset };

    if (!agent || !layout || layout->n_columns != row->n_values) {
        replay->n_unknown++;
        return 0;
    }
    replay->n_rows++;
    return pass(agent_add_row(agent, layout, row->layout, &at));
}

static bool is_whole(uint64_t number, const uint8_t *data, size_t len)
{
    struct format_chunk header;

    if (len < sizeof(header))
        return false;
    memcpy(&header, data, sizeof(header));
    return header.version == FORMAT_VERSION && header.number == number && header.n_bytes == len &&
           crc32c(0, data + sizeof(header.crc32c), len - sizeof(header.crc32c)) == header.crc32c;
}

static int on_chunk(struct replay *replay, uint64_t number, const uint8_t *data, size_t len)
{
    size_t at = sizeof(struct format_chunk);
    int r = 0;

    while (!r && at < len) {
        struct format_record head;
        struct format_batch batch;
        struct format_row row;

        if (len - at < sizeof(head))
            return fault(-EIO, "chunk %llu of the journal ends amid a record",
                         (unsigned long long) number);
        memcpy(&head, data + at, sizeof(head));
        if (head.n_bytes < sizeof(row) || head.n_bytes > len - at || head.n_bytes % 8 ||
            (head.type != FORMAT_ROW && head.n_bytes != sizeof(batch)))
            return fault(-EIO, "chunk %llu of the journal has a record of %u bytes",
                         (unsigned long long) number, head.n_bytes);
        if (head.type == FORMAT_ROW) {
            memcpy(&row, data + at, sizeof(row));
            if (format_row_fits(&row))
                r = on_row(replay, number, (uint32_t) at, &row);
        } else {
            memcpy(&batch, data + at, sizeof(batch));
            r = on_batch(replay, number, &batch);
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

        if (journal->next_chunk < first)
            journal->next_chunk = first;
        rc = mdb_cursor_open(txn, segment->chunks, &cursor);
    }
    if (!rc)
        rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
    while (!rc && !r) {
        uint64_t number = db_u64_of(key);

        if (is_whole(number, value.mv_data, value.mv_size)) {
            r = on_chunk(replay, number, value.mv_data, value.mv_size);
            replay->n_chunks++;
        } else {
            replay->store->n_damaged++;
            log_event(LOG_ERROR, "journal_chunk_damaged", LOG_S("path", segment->path),
                      LOG_U("chunk", number));
        }
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

int store_replay(struct store *store)
{
    struct replay replay = { .store = store };
    struct segment *segment;

    for (uint32_t i = 0; (segment = journal_segment(&store->journal, i)); i++) {
        bool is_there;
        int r;

        if (!segment->env)
            continue;
        replay.segment = segment;
        r = journal_load_runs(segment, &store->runs, &is_there);
        if (!r && is_there)
            r = replay_chunks(&replay);
        if (r)
            return pass(r);
    }
    log_event(LOG_INFO, "journal_replayed", LOG_U("chunks", replay.n_chunks),
              LOG_U("rows", replay.n_rows), LOG_U("damaged_chunks", store->n_damaged),
              LOG_U("unknown_rows", replay.n_unknown));
    return 0;
}
