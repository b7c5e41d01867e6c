#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What stands in the bytes of a column, version 1. All multi-byte fields are little-endian; `v` is
 * a varint, `z` a varint of a zigzag number; arithmetic on integers is modulo 2^64.
 *
 *   CONST k        z integer                          value = integer / 10^k
 *   CONST_BITS     8 bytes
 *   DIV k          INTS                               value = integer / 10^k    (IEEE division)
 *   MUL k          INTS                               value = integer x 10^-k   (10^-k rounded)
 *   ..._PATCHED    v n_patches, n x (v places since the last one, 8 bytes), INTS
 *   BITS           INTS of the patterns, each mapped so that integers order as the doubles do
 *   RAW            n x 8 bytes
 *   ZSTD           a zstd frame of RAW's bytes, transposed: first all lowest bytes, and so on
 *
 *   times          INTS, or RUNS when the first byte is 0xff:
 *                  0xff, z first, then (z delta of delta, v repeats - 1) until n
 *
 *   marks          v len of the runs, or 0: the bitmap follows as it is, (n + 7) / 8 bytes
 *                  runs: v unmarked, v marked, v unmarked ... until n
 *
 * INTS of n integers x, scaled to y = (x - x[0]) / scale, y[0] = 0:
 *   byte     bits 0-1  order: 0 r = y, 1 r = y - last y, 2 r = (y - last y) - (that before)
 *            bit  2    a scale other than 1 follows
 *            bit  3    RANGE, else FRAMES
 *            bits 4-7  zero
 *   z x[0]
 *   v scale            (bit 2)
 *   then r[1] .. r[n-1] as FRAMES or RANGE
 *
 * FRAMES, each of up to 128 integers:
 *   byte     bits 0-6 width 0..64, bit 7 exceptions
 *   z base
 *   exceptions         byte count - 1, count x (byte place, v what is above `width` bits)
 *   packed             (count x width + 7) / 8 bytes, lowest bit first: r - base
 *
 * RANGE: z base, byte middle (1..64), then a binary range coder's bytes from the front and plain
 * bits from the back:
 *
 *   | z base | middle | coder's bytes ->            <- plain bits |
 *
 *   An integer r - base is: zero? sign? and its length in bits (1..64) as steps up or down from
 *   `middle`, each an adaptive bit; then of what is below the leading one the highest bit
 *   (RANGE_MODELLED of them) adaptively and the rest as plain bits. Probabilities begin even and
 *   learn at 1/(n + 1.5), at least 1/RANGE_LIMIT.
 */

#include "server/store/codec/codec.h"

#define FORM_FRAME 128
#define FORM_ORDER_MASK 3
#define FORM_SCALED 4
#define FORM_RANGE 8
#define FORM_RUNS 0xff

/* ---- bytes ---- */

static inline uint64_t form_load64(const uint8_t *p)
{
    uint64_t word;

    memcpy(&word, p, sizeof(word));
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    return word;
}

static inline void form_store64(uint8_t *p, uint64_t word)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    memcpy(p, &word, sizeof(word));
}

static inline uint64_t form_bits(double value)
{
    uint64_t bits;

    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

static inline double form_double(uint64_t bits)
{
    double value;

    memcpy(&value, &bits, sizeof(value));
    return value;
}

static inline unsigned form_length(uint64_t word)
{
    return word ? 64 - (unsigned) __builtin_clzll(word) : 0;
}

static inline bool form_take(struct span *bytes, size_t n, const uint8_t **ret)
{
    if (bytes->len < n)
        return false;
    *ret = bytes->data;
    bytes->data += n;
    bytes->len -= n;
    return true;
}

/* ---- decimals.c ---- */

#define DECIMALS_MAX 15

/* 10^digits, and 10^-digits rounded. */
double decimals_power(unsigned digits);
double decimals_inverse(unsigned digits);
double decimals_value(bool is_product, unsigned digits, int64_t integer);

/* Whether the value is exactly such a decimal, of which integer. */
bool decimals_one(bool is_product, unsigned digits, double value, int64_t *ret_integer);

/* Whether all are integers of up to 2^53. */
bool decimals_integers(const double *values, size_t n, uint64_t *ret);

/* How many of them are such decimals; `ret` is of use when all are. */
size_t
decimals_column(const double *values, size_t n, bool is_product, unsigned digits, uint64_t *ret);

/* The digits that nearly all of a sample can be written with, or -1. */
int decimals_digits(const double *values, size_t n, bool is_product);

/* ---- frames.c ---- */

void frames_encode(const uint64_t *words, size_t n, struct buf *out);

/* Takes one frame of n (at most FORM_FRAME) integers off the front. */
bool frames_decode(struct span *bytes, size_t n, uint64_t *ret);

/* ---- range.c ---- */

struct range_bit {
    uint16_t p; /* that it is 0, of 65536 */
    uint16_t seen;
};

#define RANGE_CONTEXTS 4
#define RANGE_STEPS 64
#ifndef RANGE_MODELLED
#define RANGE_MODELLED 1
#endif

struct range_model {
    struct range_bit zero[RANGE_CONTEXTS], sign[3], above[RANGE_CONTEXTS];
    struct range_bit up[RANGE_STEPS], down[RANGE_STEPS];
    struct range_bit top[65][1 << RANGE_MODELLED];
    unsigned middle;
    unsigned context;     /* by the length before */
    unsigned sign_before; /* 0 none, 1 plus, 2 minus */
};

/* The order whose residuals of y[0] .. y[n-1] take the fewest bits: which of 0, 1, 2. */
unsigned range_order(const uint64_t *y, size_t n);

/* Appends, or returns false when that would take more than `limit` bytes; `out` is then as it was.
 */
bool range_encode(const uint64_t *words, size_t n, size_t limit, struct buf *out);

struct range_decoder {
    struct range_model model;
    uint64_t base;
    uint32_t code, range;
    const uint8_t *front, *end; /* of the coder */
    size_t n_overrun;           /* bytes the coder wanted behind the end */
    const uint8_t *start;       /* plain bits are read down to here */
    const uint8_t *back;
    uint64_t held; /* plain bits read and not used */
    unsigned n_held;
    bool is_short;
};

bool range_open(struct range_decoder *decoder, struct span bytes);
bool range_decode(struct range_decoder *decoder, size_t n, uint64_t *ret);

/* ---- ints.c ---- */

/* Destroys x; `room` is for n integers. */
void ints_encode(uint64_t *x, size_t n, enum codec_effort effort, uint64_t *room, struct buf *out);

struct ints_decoder {
    struct span bytes;
    unsigned order;
    bool is_range;
    size_t n_left;
    uint64_t first, scale;
    uint64_t y, step; /* of the last integer */
    bool has_begun;
    struct range_decoder range;
};

bool ints_open(struct ints_decoder *decoder, struct span bytes, size_t n);

/* The next n, at most FORM_FRAME, less only at the end; returns how many, 0 when bad. */
size_t ints_decode(struct ints_decoder *decoder, uint64_t *ret);

/* ---- zstd.c ---- */

bool zstd_encode(struct codec_work *work,
                 const double *values,
                 size_t n,
                 size_t limit,
                 struct buf *out);
bool zstd_decode(struct span bytes, size_t n, double *ret);

/* ---- codec.c ---- */

int codec_reserve(struct codec_work *work, size_t n_words) MUST_USE;
