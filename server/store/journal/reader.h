#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Reader: rows and packs out of the journal's mapped pages, one at a time, each believed only with
 * its own checksum (format.h says why not by the chunk's).
 *
 * It keeps one read transaction, of the segment it was in last; close it soon, as a transaction
 * that stays open keeps LMDB from using pages again.
 *
 * Thread: one at a time; blocks on page faults.
 */

#include "server/store/journal/heads.h"
#include "server/store/journal/journal.h"
#include "server/store/logs/heads.h"

/* Chunks that were found in the transaction: neighbours of a head lie in neighbouring ones. */
#define READER_CHUNKS 32u
/* So many rows before their turn reader_expect() pays: a row is a few misses of the cache. */
#define READER_AHEAD 8u

struct reader_chunk {
    uint64_t number; /* 0: none */
    MDB_val data;
};

struct reader {
    struct journal *journal;
    MDB_txn *txn;
    struct segment *segment;                   /* the transaction's; in use */
    struct reader_chunk chunks[READER_CHUNKS]; /* number % READER_CHUNKS */
};

struct reader_row {
    struct format_row head;
    const uint8_t *values; /* n_values x 8 bytes, not aligned; until the next row or the end */
    const uint8_t *absent; /* n_absent x 4 bytes */
};

/* The zero value with a journal is ready. */
void reader_close(struct reader *reader);

/* The row of an agent and layout at a place. Outcomes: STORE_NOT_FOUND (damaged). */
int reader_row(struct reader *reader,
               uint32_t agent,
               uint32_t layout,
               const struct head_row *at,
               struct reader_row *ret) MUST_USE;

/* A row that will be asked for soon: it is on its way into the cache meanwhile. */
void reader_expect(struct reader *reader, const struct head_row *at);

/* The bytes of an agent's pack at a place; until the next one or the end. Outcomes: STORE_NOT_FOUND
 * (damaged). */
int reader_pack(struct reader *reader,
                uint32_t agent,
                const struct log_pack *at,
                struct span *ret) MUST_USE;
