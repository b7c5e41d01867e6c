#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What stands in the bytes of packs, version 1, and blocks, version 2. `v` is a varint (7 bits
 * each, lowest first), `z` a varint of a zigzag number; fields of fixed size are little-endian;
 * arithmetic is modulo 2^64.
 *
 * Pack:
 *   +0  u8 version, u8 0, u16 n_attributes of the source, u32 n_records
 *   +8  u32 attributes of all records, SAME ones not counted
 *   +12 u32 length of the source's type, u32 of its name, then its attributes, type, name
 *   records, each:
 *       u64 time, u64 observed, u64 source_offset, u32 length of the body,
 *       u16 n_attributes, u8 severity, u8 flags: 1 RAW, 2 TRACE, 4 SPAN,
 *           8 SAME: the attributes of the record before, n_attributes is 0
 *       16 bytes with TRACE, 8 with SPAN, attributes, body
 *   attributes: n x (u32 length of the key, u32 of the value), n x (key, value)
 *
 * Block:
 *   +0  "SNLB"
 *   +4  u32 crc32c of what follows up to the filter's end
 *   +8  u8 version (1 is read too), u8 flags: 1 columns are a zstd frame, 2 bodies are
 *   +10 u16 what stands between bodies: a byte, or PARTS_LENGTHS
 *   +12 u32 where the filter ends, from +0
 *   +16 z first_us, v last_us - first_us, v n_records, v severities, v n_raw_bytes,
 *       first place: v chunk, v offset, v index; last: z chunk - first's, v offset, v index
 *       columns: v length, v stored, u32 crc32c of what is stored; bodies: the same
 *       source: v length of the type, v of the name, v n_attributes, n x (v key, v value), bytes
 *       filter: what is left (words.c)
 *       (a block that is sent has an empty source and no filter)
 *   ---- here the filter ends ----
 *   columns, then bodies, as they are or as a zstd frame
 *
 *   bodies    one behind the other with a byte between them that is in none of them and in no word;
 *             or, PARTS_LENGTHS, n x v length, then the bodies
 *   columns   times       u8 unit (0 us, 1 ms, 2 s), n x z (time - the one before) / unit; the
 *                         first one's is from first_us
 *             kinds       runs: u8 severity + 32 RAW + 64 TRACE + 128 SPAN, v n - 1
 *             observed    n x z observed - the one before; the first one's is from first_us
 *             offsets     u8 how, n x z offset - what was expected: 0 that the step stays; 1 the
 *                         offset before, its body's length and 1; 2 the offset before, this body's
 *                         length and 1. Before the first stands 0, with an empty body
 *             attributes  v n_sets, sets: v n, n x (v key, v value), bytes; runs: v set, v n - 1;
 *                         sets are in the order in which the records first have them
 *             places      runs: z chunk - last, z offset - last, v index, v n - 1: one index after
 *                         the other. The first one's are from the head's first place, so that a
 *                         block is moved by what its head says alone; in version 1 from 0
 *             trace ids, then span ids, of those that have one
 */

#include <endian.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "common/base/arena.h"
#include "common/logblock/logblock.h"

#define PARTS_MAGIC "SNLB"
#define PARTS_CHECKED 8 /* the checksum's first byte */
#define PARTS_FIXED 16
#define PARTS_ZSTD_COLUMNS 1
#define PARTS_ZSTD_BODIES 2
#define PARTS_LENGTHS 256

#define PARTS_PACK_VERSION 1
#define PARTS_PACK_FIXED 20
#define PARTS_RECORD_FIXED 32

#define PARTS_SEVERITY_MASK 31
#define PARTS_RAW 32
#define PARTS_TRACE 64
#define PARTS_SPAN 128

/* Room for a head without its source and filter. */
#define PARTS_HEAD_MAX 256

/* Columns of a record take no more than this, besides its attributes: five varints, two runs, two
 * ids; an attribute no more than two varints besides its bytes. */
#define PARTS_COLUMNS_RECORD 128
#define PARTS_COLUMNS_ATTRIBUTE 20

/* Bytes that may be read behind a text that is cut into words. */
#define PARTS_SLACK 64

/* ---- memory that is used again ---- */

struct parts_bytes {
    uint8_t *data;
    size_t capacity;
    struct arena *arena; /* NULL: the heap */
};

/* At least `n` bytes; what was there is gone. Faults: no memory. */
int parts_reserve(struct parts_bytes *bytes, size_t n) MUST_USE;

struct logblock_room {
    ZSTD_DCtx *zstd;
    struct parts_bytes bodies, columns, records, marks, sets, attributes;
    struct parts_bytes source; /* attributes of the block's or the pack's source */
};

/* ---- numbers ---- */

static inline uint64_t parts_load64(const uint8_t *p)
{
    uint64_t word;

    memcpy(&word, p, sizeof(word));
    return le64toh(word);
}

static inline uint32_t parts_load32(const uint8_t *p)
{
    uint32_t word;

    memcpy(&word, p, sizeof(word));
    return le32toh(word);
}

static inline uint8_t *parts_put64(uint8_t *to, uint64_t word)
{
    word = htole64(word);
    memcpy(to, &word, sizeof(word));
    return to + sizeof(word);
}

static inline uint8_t *parts_put32(uint8_t *to, uint32_t word)
{
    word = htole32(word);
    memcpy(to, &word, sizeof(word));
    return to + sizeof(word);
}

static inline uint8_t *parts_put_bytes(uint8_t *to, struct span bytes)
{
    if (bytes.len > 0)
        memcpy(to, bytes.data, bytes.len);
    return to + bytes.len;
}

static inline uint8_t *parts_put(uint8_t *to, uint64_t number)
{
    for (; number >= 128; number >>= 7)
        *to++ = (uint8_t) (number | 128);
    *to++ = (uint8_t) number;
    return to;
}

static inline uint8_t *parts_put_zigzag(uint8_t *to, uint64_t number)
{
    return parts_put(to, number << 1 ^ (0 - (number >> 63)));
}

uint8_t *parts_put_place(uint8_t *to, uint64_t chunk_before, const struct logblock_place *place);

/* Of more than one byte. */
bool parts_take_slowly(struct span *bytes, uint64_t *ret);

static inline bool parts_take(struct span *bytes, uint64_t *ret)
{
    if (bytes->len > 0 && bytes->data[0] < 128) {
        *ret = bytes->data[0];
        bytes->data++;
        bytes->len--;
        return true;
    }
    return parts_take_slowly(bytes, ret);
}

static inline bool parts_take_zigzag(struct span *bytes, uint64_t *ret)
{
    uint64_t number;

    if (!parts_take(bytes, &number))
        return false;
    *ret = number >> 1 ^ (0 - (number & 1));
    return true;
}

static inline bool parts_take_bytes(struct span *bytes, uint64_t n, struct span *ret)
{
    if (bytes->len < n)
        return false;
    *ret = span_of(bytes->data, (size_t) n);
    bytes->data += n;
    bytes->len -= (size_t) n;
    return true;
}

/* ---- attributes, with varints ---- */

static inline size_t parts_attributes_bytes(const struct logblock_attribute *attributes, size_t n)
{
    size_t sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += attributes[i].key.len + attributes[i].value.len;
    return sum;
}

uint8_t *parts_put_attributes(uint8_t *to, const struct logblock_attribute *attributes, size_t n);

/* Takes n attributes' lengths and bytes; how many there can be at most, bytes->len / 2. */
bool parts_take_attributes(struct span *bytes, size_t n, struct logblock_attribute *ret);

bool parts_same_attributes(const struct logblock_record *a, const struct logblock_record *b);

/* ---- encode.c ---- */

/* Whether it is PARTS_LENGTHS, or a byte that encoders put between bodies: one of no word. */
bool parts_may_separate(uint32_t separator);

/* ---- columns.c ---- */

#define PARTS_SET_BYTES (2 * sizeof(size_t)) /* of a reader, for a set of attributes */

static inline struct logblock_place parts_place_of(const struct logblock_input *input, size_t i)
{
    return input->is_pack || input->is_sent ? (struct logblock_place){ .index = (uint32_t) i }
                                            : input->records[i].place;
}

/* Of an encoder: sets of attributes that were seen. */
struct parts_sets {
    uint32_t *table; /* record + 1; 0: free */
    size_t table_size;
    uint32_t *sets; /* for each record its set */
    size_t size, capacity;
};
void parts_sets_deinit(struct parts_sets *sets);

/* Room of the columns at most. */
size_t parts_columns_room(const struct logblock_input *input);
/* Faults: no memory. */
int parts_columns_encode(const struct logblock_input *input,
                         int64_t first_us,
                         struct parts_sets *sets,
                         uint8_t *to,
                         uint8_t **ret_end) MUST_USE;
/* Takes times and kinds off the front of the columns. Outcomes: LOGBLOCK_BAD. */
int parts_columns_begin(const struct logblock *block,
                        struct span *columns,
                        struct logblock_record *records) MUST_USE;
/* Takes the rest; the bodies are there. Outcomes: LOGBLOCK_BAD. Faults: no memory. */
int parts_columns_rest(const struct logblock *block,
                       struct span columns,
                       struct logblock_room *room,
                       struct logblock_record *records) MUST_USE;
