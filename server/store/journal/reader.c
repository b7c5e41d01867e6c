/* SPDX-License-Identifier: Apache-2.0 */
#include "server/store/journal/reader.h"

#include "common/base/crc32c.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"

#define LINE_BYTES 64u
/* Of a row, ahead: behind them the processor has seen which way it goes. */
#define EXPECT_BYTES 512u

void reader_close(struct reader *reader)
{
    if (reader->txn)
        mdb_txn_abort(take(reader->txn));
    if (reader->segment)
        journal_release(reader->journal, reader->segment);
    reader->segment = NULL;
    memset(reader->chunks, 0, sizeof(reader->chunks));
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

/* A chunk of the segment that is open. Outcomes: STORE_NOT_FOUND (damage). */
static int reader_find(struct reader *reader, uint64_t number, MDB_val *ret)
{
    struct reader_chunk *chunk = &reader->chunks[number % READER_CHUNKS];
    struct format_chunk header;
    uint8_t name[8];
    MDB_val key = db_val(name, sizeof(name)), data;
    int rc;

    ensure(reader->segment);
    if (chunk->number == number) {
        *ret = chunk->data;
        return 0;
    }
    db_key_u64(name, number);
    rc = mdb_get(reader->txn, reader->segment->chunks, &key, &data);
    if (rc == MDB_NOTFOUND || db_is_damage(rc)) {
        reader_close(reader); /* the transaction may be of no more use */
        return STORE_NOT_FOUND;
    }
    if (rc)
        return fold(db_check(rc, "cannot read the journal"));
    if (data.mv_size < sizeof(header))
        return STORE_NOT_FOUND;
    memcpy(&header, data.mv_data, sizeof(header));
    if (header.number != number)
        return STORE_NOT_FOUND;
    *chunk = (struct reader_chunk){ number, data };
    *ret = data;
    return 0;
}

/* Outcomes: STORE_NOT_FOUND (damage). */
static int reader_go(struct reader *reader, uint32_t segment, uint64_t chunk, MDB_val *ret)
{
    int r = reader_open(reader, journal_segment(reader->journal, segment));

    return r ? pass(r) : pass(reader_find(reader, chunk, ret));
}

void reader_expect(struct reader *reader, const struct head_row *at)
{
    const uint8_t *row;
    MDB_val data = { 0 };
    size_t left;

    /* What is wrong with it is for reader_row() to say. */
    if (!reader->segment || reader->segment->number != at->segment ||
        reader_find(reader, at->chunk, &data) || at->offset >= data.mv_size)
        return;
    row = (const uint8_t *) data.mv_data + at->offset;
    left = data.mv_size - at->offset;
    for (size_t i = 0; i < left && i < EXPECT_BYTES; i += LINE_BYTES)
        __builtin_prefetch(row + i, 0, 2);
}

int reader_row(struct reader *reader,
               uint32_t agent,
               uint32_t layout,
               const struct head_row *at,
               struct reader_row *ret)
{
    struct format_row *row = &ret->head;
    const uint8_t *record;
    MDB_val data = { 0 };
    size_t len;
    int r = reader_go(reader, at->segment, at->chunk, &data);

    if (r)
        return pass(r);
    len = data.mv_size;
    record = (const uint8_t *) data.mv_data + at->offset;
    if (at->offset > len || len - at->offset < sizeof(*row))
        return STORE_NOT_FOUND;
    memcpy(row, record, sizeof(*row));
    if (row->head.type != FORMAT_ROW || row->head.n_bytes > len - at->offset ||
        !format_row_fits(row) || row->head.agent != agent || row->layout != layout ||
        row->time_us != at->time_us ||
        crc32c(0, record + FORMAT_CRC_FROM, row->head.n_bytes - FORMAT_CRC_FROM) !=
            row->head.crc32c)
        return STORE_NOT_FOUND;
    ret->values = record + sizeof(*row);
    ret->absent = ret->values + 8 * (size_t) row->n_values;
    return 0;
}

int reader_pack(struct reader *reader, uint32_t agent, const struct log_pack *at, struct span *ret)
{
    struct format_pack pack;
    const uint8_t *record;
    MDB_val data = { 0 };
    size_t len;
    int r = reader_go(reader, at->segment, at->chunk, &data);

    if (r)
        return pass(r);
    len = data.mv_size;
    record = (const uint8_t *) data.mv_data + at->offset;
    if (at->offset > len || len - at->offset < sizeof(pack))
        return STORE_NOT_FOUND;
    memcpy(&pack, record, sizeof(pack));
    if (pack.head.type != FORMAT_PACK || pack.head.n_bytes > len - at->offset ||
        !format_pack_fits(&pack) || pack.head.agent != agent || pack.n_records != at->n_records ||
        crc32c(0, record + FORMAT_CRC_FROM, pack.head.n_bytes - FORMAT_CRC_FROM) !=
            pack.head.crc32c)
        return STORE_NOT_FOUND;
    *ret = span_of(record + sizeof(pack), pack.n_bytes);
    return 0;
}
