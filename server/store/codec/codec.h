#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Codec: a column of doubles, a column of times and a set of marks as few bytes as they can be.
 * Bit-exact for every bit pattern: NaN payloads, -0.0, infinities, denormals.
 *
 * Pure functions: no I/O, no state but the scratch memory of the caller. A column does not carry
 * its length nor its form; whoever keeps it does (server/store/block: one byte for the form, a
 * varint for the length). What is in the bytes is drawn in form.h.
 *
 * Encoders choose by size. Decoders are total: whatever the bytes, they answer 0 or CODEC_BAD,
 * read nothing outside the span, and write n items and no more.
 *
 * Thread: any; a struct codec_work belongs to one at a time.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/span.h"

#define CODEC_VERSION 1
#define CODEC_ITEMS_MAX 65536

/* No column is longer than 8 bytes a value, no marks longer than a byte for 8 and this. */
#define CODEC_SLACK 24

enum codec_outcome {
    CODEC_OK = 0,
    CODEC_BAD, /* not what an encoder writes; what was written to the outputs means nothing */
};

/*
 *   FAST    for sealing: bit-packed, 100 to 250 M values a second, decodes faster still
 *   SMALL   for compaction: also the range coder and zstd, some 10 times the work either way
 */
enum codec_effort {
    CODEC_FAST,
    CODEC_SMALL,
};

/* The kinds of a column; see form.h. A form is a kind in the low 4 bits and its parameter above. */
enum codec_kind {
    CODEC_CONST = 1,   /* one decimal: parameter is its digits behind the point */
    CODEC_CONST_BITS,  /* one value of any bits */
    CODEC_DIV,         /* integers / 10^parameter; 0 is counters and the like */
    CODEC_DIV_PATCHED, /* with exceptions */
    CODEC_MUL,         /* integers x 10^-parameter, for values that were computed this way */
    CODEC_MUL_PATCHED,
    CODEC_BITS, /* the patterns as ordered integers */
    CODEC_RAW,
    CODEC_ZSTD,
};

/* Scratch, grown as needed, at most some 2 MiB. The zero value is ready. */
struct codec_work {
    uint64_t *words;
    size_t n_words;
    struct buf other;
    void *zstd;
};

void codec_work_deinit(struct codec_work *work);

/*
 * Appends a column to `out`.
 *
 *   n          1 .. CODEC_ITEMS_MAX
 *   ret_form   goes to codec_decode_values(), with n
 *
 * Outcomes: none. Faults: no memory (then `out` may hold a part).
 */
int codec_encode_values(struct codec_work *work,
                        const double *values,
                        size_t n,
                        enum codec_effort effort,
                        struct buf *out,
                        uint8_t *ret_form) MUST_USE;

/* Outcomes: CODEC_BAD. Faults: none. */
int codec_decode_values(uint8_t form, struct span bytes, size_t n, double *ret_values) MUST_USE;

/* Reads the one value of CODEC_CONST or CODEC_CONST_BITS and how many bytes it takes. CODEC_BAD. */
int codec_decode_constant(uint8_t form,
                          struct span bytes,
                          double *ret_value,
                          size_t *ret_bytes) MUST_USE;

/*
 * Times in microseconds, any order, 1 .. CODEC_ITEMS_MAX. A steady step costs bytes for the whole
 * column. Outcomes and faults as for values.
 */
int codec_encode_times(struct codec_work *work,
                       const int64_t *times_us,
                       size_t n,
                       enum codec_effort effort,
                       struct buf *out) MUST_USE;
int codec_decode_times(struct span bytes, size_t n, int64_t *ret_times_us) MUST_USE;

/*
 * Marks: n bits, bit i of word i / 64, unused bits zero; a set bit is an absent value. As run
 * lengths, or as they are when that is shorter.
 */
static inline size_t codec_mark_words(size_t n)
{
    return (n + 63) / 64;
}

static inline bool codec_marked(const uint64_t *marks, size_t i)
{
    return marks[i / 64] >> i % 64 & 1;
}

size_t codec_count_marks(const uint64_t *marks, size_t n);
void codec_encode_marks(const uint64_t *marks, size_t n, struct buf *out);
int codec_decode_marks(struct span bytes, size_t n, uint64_t *ret_marks) MUST_USE;

/* The values without a mark, in order; how many. */
size_t codec_gather(const double *values, const uint64_t *marks, size_t n, double *ret_dense);

/* The other way in place: `values` holds the dense ones first; absent places become NaN. */
void codec_spread(double *values, const uint64_t *marks, size_t n);

/* Numbers of 1 to 10 bytes, 7 bits each, lowest first. */
void codec_put_varint(struct buf *out, uint64_t number);

/* Takes one off the front of `bytes`. False: none there, or more than 64 bits. */
bool codec_get_varint(struct span *bytes, uint64_t *ret_number);

static inline uint64_t codec_zigzag(uint64_t number)
{
    return number << 1 ^ (0 - (number >> 63));
}

static inline uint64_t codec_unzigzag(uint64_t number)
{
    return number >> 1 ^ (0 - (number & 1));
}
