#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Log block: log records of one agent and one source over one span of time; and the pack, in which
 * records wait in the journal until a block is made of them.
 *
 *   pack    records of one source behind each other, quick to write and to read, not compressed.
 *           Its checksum is the journal's. Where there are many it is a block: then they are
 *           compressed once, when they come, and the block that is sealed is the same but for its
 *           places, which are counted from where the pack is.
 *   block   what a search passes over without decoding it (times, severities, source, a filter of
 *           the words in the bodies), then the records, column by column, compressed. Blocks of one
 *           source may stand one behind the other.
 *   sent    a block that an agent makes of a batch: without source and filter. The hub checks its
 *           records and keeps what is compressed as it came.
 *
 * The order of records is the order in which they were committed: times may fall. Each record has a
 * place, which it keeps through every rewriting, so that (time, agent, place) is a total order.
 *
 * A word is a run of ASCII letters, digits, '_' and bytes above 127; case means nothing (ASCII).
 *
 * Pure functions. What is in the bytes is drawn in parts.h.
 *
 * Start here: logblock_encode(), logblock_open(), logblock_find().
 * Thread:     any; a struct logblock_work, and a struct logblock_room, one at a time.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/span.h"

#define LOGBLOCK_VERSION 2 /* written; also the newest of a block that is read */
#define LOGBLOCK_RECORDS_MAX 65536u
#define LOGBLOCK_ATTRIBUTES_MAX 1024u /* of a record, or a source */
#define LOGBLOCK_SOURCE_MAX 65536u    /* bytes of a source: type, name, attributes */
#define LOGBLOCK_SEVERITY_MAX 24u

/*
 * Raw bytes are those of bodies, and of keys and values of attributes. A block or a pack may have
 * RAW_MAX of them, which one record may take; it is best cut at RAW_GOAL: filter and columns of a
 * smaller one weigh more, a larger one has to be decoded whole for its one record.
 */
#define LOGBLOCK_RAW_MAX (8u << 20)
#define LOGBLOCK_RAW_GOAL (1u << 20)

enum logblock_outcome {
    LOGBLOCK_OK = 0,
    LOGBLOCK_BAD, /* damaged, cut, or of a version that this program does not know */
};

struct logblock_attribute {
    struct span key, value; /* UTF-8; may hold NUL */
};

struct logblock_source {
    struct span type, name; /* "file", "/var/log/syslog" */
    const struct logblock_attribute *attributes;
    size_t n_attributes;
};

/* Where a record stood in the journal. */
struct logblock_place {
    uint64_t chunk;
    uint32_t offset; /* of the pack's journal record in its chunk */
    uint32_t index;  /* in the pack */
};

struct logblock_record {
    int64_t time_us, observed_us;
    uint64_t source_offset;
    uint32_t severity; /* OpenTelemetry's 1 .. LOGBLOCK_SEVERITY_MAX; 0: unknown */
    bool is_raw;       /* the body came as bytes, not as text */
    bool has_trace_id, has_span_id;
    uint8_t trace_id[16], span_id[8];
    struct span body;
    const struct logblock_attribute *attributes;
    size_t n_attributes;
    struct logblock_place place;
};

/* ---- packs ---- */

/* What logblock_pack() writes for a record, and for the source with the pack's head, at most. */
size_t logblock_pack_bytes(const struct logblock_record *record);
size_t logblock_source_bytes(const struct logblock_source *source);

/* Raw bytes of a record. */
static inline size_t logblock_raw_bytes(const struct logblock_record *record)
{
    size_t n = record->body.len;

    for (size_t i = 0; i < record->n_attributes; i++)
        n += record->attributes[i].key.len + record->attributes[i].value.len;
    return n;
}

/*
 * Writes a pack of n_records: logblock_source_bytes() and the sum of logblock_pack_bytes() of room.
 * Returns the end of what was written. Places are not in it: the reader knows where the pack is.
 */
uint8_t *logblock_pack(uint8_t *to,
                       const struct logblock_source *source,
                       const struct logblock_record *records, /* 1 .. LOGBLOCK_RECORDS_MAX */
                       size_t n_records);

/*
 * Reads a pack, or a block in place of one; everything borrows from `bytes` and from `room`.
 *   at   the place of its first record: chunk and offset; index 0
 * Outcomes: LOGBLOCK_BAD. Faults: no memory.
 */
struct logblock_room;
int logblock_unpack(struct span bytes,
                    struct logblock_place at,
                    struct logblock_room *room,
                    struct logblock_source *ret_source,
                    struct logblock_record **ret_records,
                    size_t *ret_n) MUST_USE;

/* ---- writing blocks ---- */

enum logblock_effort {
    LOGBLOCK_FAST,  /* when it is sealed */
    LOGBLOCK_SMALL, /* when it is compacted: several times the time */
};

struct logblock_work; /* contexts of the compressor, tables */
struct logblock_work *logblock_work_new(void);
struct logblock_work *logblock_work_free(struct logblock_work *work);
DEFINE_CLEANUP(struct logblock_work *, logblock_work_free);

struct logblock_input {
    const struct logblock_source *source;
    const struct logblock_record *records; /* ascending places */
    size_t n_records;                      /* 1 .. LOGBLOCK_RECORDS_MAX */
    enum logblock_effort effort;
    bool is_pack; /* places are not those of the records: one index after the other, from 0 */
    bool is_sent; /* the same, and neither source (it may be NULL) nor filter are in it */
};

/* Appends a block to `out`. Outcomes: none. Faults: no memory (then `out` may hold a part). */
int logblock_encode(struct logblock_work *work,
                    const struct logblock_input *input,
                    struct buf *out) MUST_USE;

/* ---- moving blocks ---- */

/* Whether a pack is a block. Nothing is checked. */
bool logblock_is_block(struct span bytes);

/*
 * Appends a block with chunk and offset of `at` added to all its places; only the head is read and
 * written, the checksums of the rest stay as they are. Outcomes: LOGBLOCK_BAD (also: of version 1).
 * Faults: no memory (then `out` may hold a part).
 */
int logblock_move(struct span bytes, struct logblock_place at, struct buf *out) MUST_USE;
/* The same with records that were read. */
void logblock_move_records(struct logblock_record *records, size_t n, struct logblock_place at);

/* ---- blocks that are sent ---- */

struct arena;

/* One that came from elsewhere, with what was decoded of it. */
struct logblock_sent {
    struct logblock_record *records; /* places: index after index, from 0 */
    size_t n_records;
    uint64_t n_raw_bytes;
    struct span bodies; /* of all records, with what stands between them */
    bool has_lengths;   /* between them stands nothing */
    /* ---- private ---- */
    struct span columns_stored, bodies_stored;
    uint64_t columns_len;
    uint32_t separator;
    uint8_t flags;
};

/*
 * What logblock_read_sent() takes of an arena, at most, and raw bytes, as the head says; nothing
 * but the head is read. False: it is no block that is sent.
 */
bool logblock_sent_bytes(struct span bytes, uint64_t *ret_arena_bytes, uint64_t *ret_raw_bytes);

/*
 * Decodes one, and holds its head against its records: what is kept of it can be read for ever, and
 * is as large as encoders make it. Texts are not looked at; keys are not empty. Everything borrows
 * from `bytes` and from the arena; the room is for its decompressor.
 * Outcomes: LOGBLOCK_BAD. Faults: no memory, or no more in the arena.
 */
int logblock_read_sent(struct span bytes,
                       struct logblock_room *room,
                       struct arena *arena,
                       struct logblock_sent *ret) MUST_USE;

/*
 * Appends the block of a pack with these records and this source, as logblock_encode() would, but
 * keeps what is compressed. Faults: no memory (then `out` may hold a part).
 */
int logblock_encode_sent(struct logblock_work *work,
                         const struct logblock_source *source,
                         const struct logblock_sent *sent,
                         struct buf *out) MUST_USE;

/* ---- reading blocks ---- */

struct logblock {
    int64_t first_us, last_us; /* least and greatest time */
    uint32_t n_records;
    uint32_t severities;           /* bit n: a record of severity n is in it */
    uint64_t n_raw_bytes;          /* bodies and attributes, as they came */
    struct logblock_source source; /* attributes borrow from the room */
    struct logblock_place first, last;
    uint32_t n_head_bytes; /* header and filter */
    uint8_t version;       /* 1: cannot be moved */
    /* ---- private ---- */
    struct span filter, columns, bodies;
    uint64_t columns_len, bodies_len; /* decoded */
    uint32_t columns_crc, bodies_crc;
    uint32_t separator;
    uint8_t flags;
};

/* Scratch of a reader: grows, is used again from block to block. */
struct logblock_room *logblock_room_new(void);
struct logblock_room *logblock_room_free(struct logblock_room *room);
DEFINE_CLEANUP(struct logblock_room *, logblock_room_free);

/*
 * Checks the header with the filter (they have a checksum of their own; the columns' and the
 * bodies' are checked when they are read). Touches no byte behind them. Borrows from `bytes` and
 * `room`. Outcomes: LOGBLOCK_BAD. Faults: no memory.
 */
int logblock_open(struct span bytes, struct logblock_room *room, struct logblock *ret) MUST_USE;

/* The same with the first of several; *bytes becomes what is behind it. */
int logblock_next(struct span *bytes, struct logblock_room *room, struct logblock *ret) MUST_USE;

/* What a body must hold. Built once, used for any number of blocks by any threads. */
struct logblock_terms;
struct logblock_term {
    struct span text; /* 1 .. 1,024 bytes; case means nothing */
    bool is_word;     /* bounded: no byte of a word stands before or behind it */
};
/* Faults: no memory. */
int logblock_terms_new(struct logblock_terms **ret,
                       const struct logblock_term *terms,
                       size_t n_terms) MUST_USE;
struct logblock_terms *logblock_terms_free(struct logblock_terms *terms);
DEFINE_CLEANUP(struct logblock_terms *, logblock_terms_free);

/*
 * False: surely no body of the block holds them all; by the filter alone. Words of one byte, and of
 * up to four hexadecimal digits with a decimal one among them, are not in it: terms that have no
 * other may be everywhere. An IPv4 address is a word in this. Of a term that is_word is not set for
 * only the words inside count, as those at its ends may be parts of longer ones.
 */
bool logblock_may_hold(const struct logblock *block, const struct logblock_terms *terms);
/* Whether a body holds them all. */
bool logblock_holds(const struct logblock_terms *terms, struct span body);

struct logblock_wanted {
    int64_t from_us, to_us; /* from inclusive, to exclusive */
    uint32_t min_severity;
    const struct logblock_terms *terms; /* NULL: any body */
    /* NULL, or has the last word on a body (a regular expression). */
    bool (*is_wanted)(void *ctx, struct span body);
    void *ctx;
};

/*
 * The records that are wanted, in the block's order; everything borrows from `room` until its next
 * use. Bodies are decoded only where times and severities leave something, other columns only where
 * bodies do. Outcomes: LOGBLOCK_BAD. Faults: no memory.
 *   wanted           NULL: all
 *   ret_bytes_read   bytes that were decoded
 */
int logblock_find(const struct logblock *block,
                  const struct logblock_wanted *wanted,
                  struct logblock_room *room,
                  struct logblock_record **ret_records,
                  size_t *ret_n,
                  uint64_t *ret_bytes_read) MUST_USE;
