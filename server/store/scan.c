/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Reading rows. A scan takes some hundred places out of a head under its lock, then reads them from
 * the journal in one short read transaction for each segment among them: a transaction that stays
 * open would keep LMDB from using pages again.
 *
 * Each row is checked by its own checksum before it is believed (format.h says why not by the
 * chunk's).
 */

#include <errno.h>
#include <stdlib.h>

#include "common/base/crc32c.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/log/log.h"
#include "server/store/whole.h"

#define SCAN_STRIDE 256

struct reader {
    struct store_scan *scan;
    struct journal *journal;
    MDB_txn *txn;
    struct segment *segment; /* the transaction's; in use */
    uint64_t chunk;          /* 0: none */
    MDB_val data;            /* the chunk's */
    double *values;
    bool *is_present;
};

static void reader_close(struct reader *reader)
{
    if (reader->txn)
        mdb_txn_abort(take(reader->txn));
    if (reader->segment)
        journal_release(reader->journal, reader->segment);
    reader->segment = NULL;
    reader->chunk = 0;
}

/* Outcomes: STORE_NOT_FOUND (damage). */
static int reader_open(struct reader *reader, struct segment *segment)
{
    int rc, r;

    ensure(segment);
    if (segment == reader->segment)
        return 0;
    reader_close(reader);
    r = journal_use(reader->journal, segment);
    if (r)
        return pass(r);
    reader->segment = segment;
    rc = mdb_txn_begin(segment->env, NULL, MDB_RDONLY, &reader->txn);
    if (rc) {
        reader->txn = NULL;
        reader_close(reader);
        return fold(db_check(rc, "cannot begin to read the journal"));
    }
    return 0;
}

/* Goes to the row's chunk. Outcomes: STORE_NOT_FOUND (damage). */
static int reader_go(struct reader *reader, const struct head_row *at)
{
    struct format_chunk header;
    uint8_t name[8];
    MDB_val key = db_val(name, sizeof(name));
    int rc, r = reader_open(reader, journal_segment(reader->journal, at->segment));

    if (r)
        return pass(r);
    ensure(reader->segment);
    if (reader->chunk == at->chunk)
        return 0;
    reader->chunk = 0;
    db_key_u64(name, at->chunk);
    rc = mdb_get(reader->txn, reader->segment->chunks, &key, &reader->data);
    if (rc == MDB_NOTFOUND || db_is_damage(rc)) {
        reader_close(reader); /* the transaction may be of no more use */
        return STORE_NOT_FOUND;
    }
    if (rc)
        return fold(db_check(rc, "cannot read the journal"));
    if (reader->data.mv_size < sizeof(header))
        return STORE_NOT_FOUND;
    memcpy(&header, reader->data.mv_data, sizeof(header));
    if (header.number != at->chunk)
        return STORE_NOT_FOUND;
    reader->chunk = at->chunk;
    return 0;
}

/* The row's record when it is whole and the one that is meant, else NULL. */
static const uint8_t *
whole_row(const struct reader *reader, const struct head_row *at, struct format_row *row)
{
    const uint8_t *record = (const uint8_t *) reader->data.mv_data + at->offset;
    size_t len = reader->data.mv_size;

    if (at->offset > len || len - at->offset < sizeof(*row))
        return NULL;
    memcpy(row, record, sizeof(*row));
    if (row->head.type != FORMAT_ROW || row->head.n_bytes > len - at->offset ||
        !format_row_fits(row) || row->head.agent != reader->scan->agent ||
        row->layout != reader->scan->layout || row->time_us != at->time_us)
        return NULL;
    if (crc32c(0, record + FORMAT_CRC_FROM, row->head.n_bytes - FORMAT_CRC_FROM) !=
        row->head.crc32c)
        return NULL;
    return record;
}

/* The columns asked for; both lists of places are ascending. */
static void copy_columns(struct reader *reader, const uint8_t *record, const struct format_row *row)
{
    const struct store_scan *scan = reader->scan;
    const uint8_t *values = record + sizeof(*row);
    const uint8_t *absent = values + 8 * (size_t) row->n_values;
    uint32_t next = 0, place = UINT32_MAX;

    if (row->n_absent)
        memcpy(&place, absent, sizeof(place));
    for (size_t i = 0; i < scan->n_columns; i++) {
        uint32_t column = scan->columns[i];

        while (place < column) {
            place = UINT32_MAX;
            if (++next < row->n_absent)
                memcpy(&place, absent + 4 * (size_t) next, sizeof(place));
        }
        reader->is_present[i] = column < row->n_values && place != column;
        if (reader->is_present[i])
            memcpy(&reader->values[i], values + 8 * (size_t) column, sizeof(double));
        else
            reader->values[i] = 0;
    }
}

/* False in ret_goes_on: on_row said stop. */
static int read_row(struct reader *reader, const struct head_row *at, bool *ret_goes_on)
{
    struct store_scan *scan = reader->scan;
    struct format_row row;
    const uint8_t *record = NULL;
    int r = reader_go(reader, at);

    *ret_goes_on = true;
    if (r < 0)
        return pass(r);
    if (r == 0)
        record = whole_row(reader, at, &row);
    if (!record) {
        scan->ret_damaged++;
        log_peer(LOG_ERROR, "journal_row_damaged", LOG_U("chunk", at->chunk),
                 LOG_U("offset", at->offset));
        return 0;
    }
    copy_columns(reader, record, &row);
    scan->ret_rows++;
    *ret_goes_on = scan->on_row(scan->ctx, row.time_us, reader->values, reader->is_present);
    return 0;
}

/* The next places from *cursor on, which moves behind them. */
static size_t take_places(struct agent *agent,
                          const struct store_scan *scan,
                          struct head_row *cursor,
                          bool is_first,
                          struct head_row to[static SCAN_STRIDE])
{
    const struct head *head;
    size_t n = 0;

    pthread_mutex_lock(&agent->lock);
    head = heads_find(&agent->heads, scan->layout);
    if (head) {
        for (size_t i = head_seek(head, cursor, is_first); i < head->n_rows && n < SCAN_STRIDE;
             i++) {
            if (head->rows[i].time_us >= scan->to_us)
                break;
            to[n++] = head->rows[i];
        }
    }
    pthread_mutex_unlock(&agent->lock);
    if (n)
        *cursor = to[n - 1];
    return n;
}

int store_scan(struct store *store, struct store_scan *scan)
{
    struct agent *agent = agents_get(&store->agents, scan->agent);
    struct head_row cursor = { .time_us = scan->from_us }, places[SCAN_STRIDE];
    struct reader reader = { .scan = scan, .journal = &store->journal };
    bool goes_on = true, is_first = true;
    size_t n = SCAN_STRIDE;
    int r = 0;

    ensure(!store->options.is_shared);
    scan->ret_rows = scan->ret_damaged = 0;
    if (!agent || scan->from_us >= scan->to_us)
        return 0;
    reader.values = malloc((scan->n_columns + 1) * (sizeof(double) + sizeof(bool)));
    if (!reader.values)
        return fault(-ENOMEM, "no memory for %zu columns", scan->n_columns);
    reader.is_present = (bool *) &reader.values[scan->n_columns + 1];
    while (n == SCAN_STRIDE && goes_on && !r) {
        n = take_places(agent, scan, &cursor, is_first, places);
        is_first = false;
        for (size_t i = 0; i < n && goes_on && !r; i++)
            r = read_row(&reader, &places[i], &goes_on);
        reader_close(&reader);
    }
    free(reader.values);
    return pass(r);
}

int store_spans(struct store *store,
                uint32_t agent_number,
                struct arena *arena,
                struct store_span **ret,
                size_t *ret_n)
{
    struct agent *agent = agents_get(&store->agents, agent_number);
    struct store_span *spans;
    size_t n = 0, n_heads = 0;

    if (!agent) {
        *ret = NULL;
        *ret_n = 0;
        return 0;
    }
    pthread_mutex_lock(&agent->lock);
    n_heads = agent->heads.n_heads;
    spans = arena_alloc_array(arena, n_heads + 1, sizeof(*spans));
    for (size_t i = 0; spans && i < n_heads; i++) {
        const struct head *head = &agent->heads.heads[i];

        if (head->n_rows == 0)
            continue;
        spans[n++] = (struct store_span){
            .layout = head->layout,
            .first_us = head->rows[0].time_us,
            .last_us = head->rows[head->n_rows - 1].time_us,
            .n_rows = head->n_rows,
        };
    }
    pthread_mutex_unlock(&agent->lock);
    if (!spans)
        return fault(-ENOMEM, "no room for the spans of agent %u", agent_number);
    *ret = spans;
    *ret_n = n;
    return 0;
}
