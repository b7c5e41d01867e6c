/* SPDX-License-Identifier: Apache-2.0 */
#include "server/store/codec/form.h"

#define WIDTH_MASK 0x7f
#define HAS_EXCEPTIONS 0x80

/* Head, base, exceptions, what is packed, and what is written too much. */
#define FRAME_BYTES_MAX (1 + 10 + 1 + FORM_FRAME * 11 + FORM_FRAME * 8 + 16)

/* A width's price in bits when what is wider becomes an exception; `n_of` counts by length. */
static unsigned choose_width(const uint16_t *n_of, unsigned longest, size_t n)
{
    unsigned best = longest, above = 0, above_bits = 0;
    unsigned best_cost = longest * (unsigned) n;

    for (unsigned width = longest; width-- > 0;) {
        unsigned cost;

        above += n_of[width + 1];
        /* Each step down makes every exception one bit longer; 10: place, and a varint's slack. */
        above_bits += above + 10u * n_of[width + 1];
        cost = width * (unsigned) n + above_bits + 8;
        if (cost < best_cost) {
            best_cost = cost;
            best = width;
        }
        if (above > n / 4)
            break;
    }
    return best;
}

/* Pairs of integers become one of twice the width, so that few are left to be put together. */
static size_t pair_up(uint64_t *words, size_t n, unsigned width)
{
    /* The frame's array is longer by one. */
    words[n] = 0;
    n = (n + 1) / 2;
    for (size_t i = 0; i < n; i++)
        words[i] = words[2 * i] | words[2 * i + 1] << width;
    return n;
}

/* Returns where the bytes end; up to 8 more are written. Destroys the words. */
static uint8_t *put_packed(uint64_t *words, size_t n, unsigned width, uint8_t *to)
{
    size_t len = (n * width + 7) / 8;
    uint64_t held = 0;
    unsigned n_held = 0;
    uint8_t *p = to;

    for (; width <= 28 && n > 1; width *= 2)
        n = pair_up(words, n, width);
    if (width <= 56) {
        for (size_t i = 0; i < n; i++) {
            held |= words[i] << n_held;
            n_held += width;
            form_store64(p, held);
            p += n_held / 8;
            held >>= n_held & 56;
            n_held %= 8;
        }
        form_store64(p, held);
        return to + len;
    }
    for (size_t i = 0; i < n; i++) {
        held |= words[i] << n_held;
        n_held += width;
        if (n_held >= 64) {
            form_store64(p, held);
            p += 8;
            n_held -= 64;
            /* The part that did not fit; a shift by the whole width would be undefined. */
            held = n_held ? words[i] >> (width - n_held) : 0;
        }
    }
    form_store64(p, held);
    return to + len;
}

static uint8_t *put_varint(uint8_t *p, uint64_t number)
{
    for (; number >= 0x80; number >>= 7)
        *p++ = (uint8_t) (number | 0x80);
    *p++ = (uint8_t) number;
    return p;
}

static uint8_t *put_exceptions(const uint64_t *words, size_t n, unsigned width, uint8_t *p)
{
    uint8_t *count = p++;

    *count = 0xff;
    for (size_t i = 0; i < n; i++) {
        if (words[i] >> width == 0)
            continue;
        *p++ = (uint8_t) i;
        p = put_varint(p, words[i] >> width);
        (*count)++;
    }
    return p;
}

/* How many of each length. Several counters each, or one would wait for the last. */
static void count_lengths(const uint64_t *words, size_t n, uint16_t *ret_n_of)
{
    uint8_t counts[4][66] = { 0 };

    for (size_t i = 0; i < n; i++)
        counts[i % 4][form_length(words[i])]++;
    for (unsigned length = 0; length < 66; length++)
        ret_n_of[length] = (uint16_t) (counts[0][length] + counts[1][length] + counts[2][length] +
                                       counts[3][length]);
}

static void put_frame(const uint64_t *words, size_t n, struct buf *out)
{
    uint8_t bytes[FRAME_BYTES_MAX], *p = bytes;
    uint64_t packed[FORM_FRAME + 1];
    uint16_t n_of[66];
    int64_t least = INT64_MAX;
    uint64_t any = 0;
    unsigned longest, width;

    for (size_t i = 0; i < n; i++)
        least = (int64_t) words[i] < least ? (int64_t) words[i] : least;
    for (size_t i = 0; i < n; i++) {
        packed[i] = words[i] - (uint64_t) least;
        any |= packed[i];
    }
    longest = width = form_length(any);
    if (longest == 64) {
        /* A base saves nothing, and would cost its own length. */
        least = 0;
        memcpy(packed, words, n * sizeof(*words));
    }
    if (longest > 2) {
        count_lengths(packed, n, n_of);
        width = choose_width(n_of, longest, n);
    }
    *p++ = (uint8_t) (width | (width < longest ? HAS_EXCEPTIONS : 0));
    p = put_varint(p, codec_zigzag((uint64_t) least));
    if (width < longest) {
        uint64_t mask = (UINT64_C(1) << width) - 1;

        p = put_exceptions(packed, n, width, p);
        for (size_t i = 0; i < n; i++)
            packed[i] &= mask;
    }
    if (width > 0)
        p = put_packed(packed, n, width, p);
    buf_append(out, bytes, (size_t) (p - bytes));
}

void frames_encode(const uint64_t *words, size_t n, struct buf *out)
{
    for (size_t i = 0; i < n; i += FORM_FRAME)
        put_frame(words + i, n - i < FORM_FRAME ? n - i : FORM_FRAME, out);
}

static void get_packed(const uint8_t *bytes, size_t n, unsigned width, uint64_t base, uint64_t *ret)
{
    uint8_t padded[FORM_FRAME * 8 + 16];
    size_t len = (n * width + 7) / 8;

    memcpy(padded, bytes, len);
    memset(padded + len, 0, 16);
    if (width <= 56) {
        uint64_t mask = (UINT64_C(1) << width) - 1;

        for (size_t i = 0, bit = 0; i < n; i++, bit += width)
            ret[i] = base + (form_load64(padded + bit / 8) >> bit % 8 & mask);
        return;
    }

    uint64_t mask = width < 64 ? (UINT64_C(1) << width) - 1 : UINT64_MAX;

    for (size_t i = 0, bit = 0; i < n; i++, bit += width) {
        uint64_t low = form_load64(padded + bit / 8) >> bit % 8;
        /* In two shifts, because by 64 there is none. */
        uint64_t high = form_load64(padded + bit / 8 + 8) << 1 << (63 - bit % 8);

        ret[i] = base + ((low | high) & mask);
    }
}

static bool get_exceptions(struct span *bytes, size_t n, unsigned width, uint64_t *ret_high)
{
    const uint8_t *count;

    memset(ret_high, 0, FORM_FRAME * sizeof(*ret_high));
    if (width > 63 || !form_take(bytes, 1, &count))
        return false;
    for (size_t i = 0; i <= *count; i++) {
        const uint8_t *place;
        uint64_t high;

        if (!form_take(bytes, 1, &place) || *place >= n || !codec_get_varint(bytes, &high))
            return false;
        ret_high[*place] = high << width;
    }
    return true;
}

bool frames_decode(struct span *bytes, size_t n, uint64_t *ret)
{
    uint64_t high[FORM_FRAME];
    const uint8_t *head, *packed;
    unsigned width;
    uint64_t base;

    if (!form_take(bytes, 1, &head) || !codec_get_varint(bytes, &base))
        return false;
    width = *head & WIDTH_MASK;
    if (width > 64)
        return false;
    if (*head & HAS_EXCEPTIONS && !get_exceptions(bytes, n, width, high))
        return false;
    if (!form_take(bytes, (n * width + 7) / 8, &packed))
        return false;
    base = codec_unzigzag(base);
    if (width == 0)
        for (size_t i = 0; i < n; i++)
            ret[i] = base;
    else
        get_packed(packed, n, width, base, ret);
    if (*head & HAS_EXCEPTIONS)
        for (size_t i = 0; i < n; i++)
            ret[i] += high[i];
    return true;
}
