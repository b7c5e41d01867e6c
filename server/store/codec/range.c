/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A binary range coder after LZMA's (32-bit range, carry by a cache byte), which leaves out the
 * first byte, always zero, and ends in as few bytes as tell the last interval whatever follows.
 */

#include "server/store/codec/form.h"

#ifndef RANGE_LIMIT
#define RANGE_LIMIT 60
#endif
#define TOP (UINT32_C(1) << 24)
#define P_MIN 64

/* What goes around the coder and the plain bits: their slack while writing. */
#define WRITE_SLACK 16

#define ORDER_SAMPLE 192

static void model_init(struct range_model *model, unsigned middle)
{
    struct range_bit *bits = model->zero;

    for (size_t i = 0; i < offsetof(struct range_model, middle) / sizeof(*bits); i++)
        bits[i] = (struct range_bit){ 1 << 15, 0 };
    model->middle = middle;
    model->context = 0;
    model->sign_before = 0;
}

/* 65536 / (n + 1.5) */
#define RATE(n) (uint16_t)(131072 / (2 * (n) + 3))
#define RATES(n) RATE(n), RATE(n + 1), RATE(n + 2), RATE(n + 3), RATE(n + 4)
#define MORE_RATES(n) RATES(n), RATES(n + 5), RATES(n + 10), RATES(n + 15)
static const uint16_t rates[] = { MORE_RATES(0),  MORE_RATES(20),  MORE_RATES(40), MORE_RATES(60),
                                  MORE_RATES(80), MORE_RATES(100), MORE_RATES(120) };

static inline void learn(struct range_bit *bit, bool is_one)
{
    int32_t target = is_one ? P_MIN : 65536 - P_MIN;
    int32_t rate = rates[bit->seen];
    int32_t p = bit->p + (int32_t) (((int64_t) (target - bit->p) * rate) / 65536);

    bit->p = (uint16_t) p;
    bit->seen = (uint16_t) (bit->seen + (bit->seen < RANGE_LIMIT));
}

static unsigned context_of(const struct range_model *model, unsigned length)
{
    if (length == 0)
        return 1;
    return length < model->middle ? 2 : 3;
}

/* ---- encoder ---- */

struct encoder {
    struct range_model model;
    uint64_t low;
    uint32_t range;
    uint8_t cache;
    bool has_first; /* the byte that is always zero is past */
    size_t n_pending;
    uint8_t *front, *back; /* coder's bytes up to front, plain ones from back */
    uint64_t held;         /* plain bits, lowest first */
    unsigned n_held;
    bool is_full;
};

static void put_byte(struct encoder *e, uint8_t byte)
{
    if (!e->has_first) {
        e->has_first = true;
        return;
    }
    if (e->back - e->front < WRITE_SLACK)
        e->is_full = true;
    else
        *e->front++ = byte;
}

static void shift_low(struct encoder *e)
{
    if (e->low < 0xff000000u || e->low >> 32) {
        uint8_t carry = (uint8_t) (e->low >> 32);

        put_byte(e, (uint8_t) (e->cache + carry));
        for (; e->n_pending > 0; e->n_pending--)
            put_byte(e, (uint8_t) (0xff + carry));
        e->cache = (uint8_t) (e->low >> 24);
    } else {
        e->n_pending++;
    }
    e->low = (e->low & 0x00ffffff) << 8;
}

static inline void put_bit(struct encoder *e, struct range_bit *bit, bool is_one)
{
    uint32_t bound = (e->range >> 16) * bit->p;

    if (is_one) {
        e->low += bound;
        e->range -= bound;
    } else {
        e->range = bound;
    }
    learn(bit, is_one);
    while (e->range < TOP) {
        e->range <<= 8;
        shift_low(e);
    }
}

/* At most 32 at once. */
static void put_plain(struct encoder *e, uint64_t word, unsigned n)
{
    e->held |= word << e->n_held;
    e->n_held += n;
    while (e->n_held >= 8) {
        if (e->back - e->front < WRITE_SLACK)
            e->is_full = true;
        else
            *--e->back = (uint8_t) e->held;
        e->held >>= 8;
        e->n_held -= 8;
    }
}

static void put_length(struct encoder *e, unsigned length)
{
    struct range_model *m = &e->model;
    bool is_above = length >= m->middle;

    put_bit(e, &m->above[m->context], is_above);
    if (is_above) {
        unsigned steps = length - m->middle, most = 64 - m->middle;

        for (unsigned i = 0; i < steps; i++)
            put_bit(e, &m->up[i], true);
        if (steps < most)
            put_bit(e, &m->up[steps], false);
    } else {
        unsigned steps = m->middle - 1 - length, most = m->middle - 2;

        for (unsigned i = 0; i < steps; i++)
            put_bit(e, &m->down[i], true);
        if (steps < most)
            put_bit(e, &m->down[steps], false);
    }
}

static void put_word(struct encoder *e, uint64_t word)
{
    struct range_model *m = &e->model;
    bool is_minus = word >> 63;
    uint64_t size = is_minus ? 0 - word : word;
    unsigned length = form_length(size), rest, node = 1;

    put_bit(e, &m->zero[m->context], length == 0);
    if (length == 0) {
        m->context = context_of(m, 0);
        return;
    }
    put_bit(e, &m->sign[m->sign_before], is_minus);
    m->sign_before = is_minus ? 2 : 1;
    put_length(e, length);
    rest = length - 1;
    for (unsigned i = 0; i < RANGE_MODELLED && rest > 0; i++) {
        bool bit = size >> --rest & 1;

        put_bit(e, &m->top[length][node], bit);
        node = 2 * node + bit;
    }
    size &= (UINT64_C(1) << rest) - 1;
    if (rest > 32) {
        put_plain(e, size & UINT32_MAX, 32);
        size >>= 32;
        rest -= 32;
    }
    put_plain(e, size, rest);
    m->context = context_of(m, length);
}

static void finish(struct encoder *e)
{
    /* The shortest start of a number for which all that begin with it are inside. */
    for (unsigned n_bytes = 1; n_bytes <= 4; n_bytes++) {
        uint64_t mask = (UINT64_C(1) << (32 - 8 * n_bytes)) - 1;
        uint64_t number = (e->low + mask) & ~mask;

        if (number + mask >= e->low + e->range)
            continue;
        e->low = number;
        for (unsigned i = 0; i <= n_bytes; i++)
            shift_low(e);
        break;
    }
    if (e->n_held > 0)
        put_plain(e, 0, 8 - e->n_held);
}

/* The base leaves residuals on one side of zero, where they are. */
static uint64_t base_between(int64_t least, int64_t most)
{
    if (least > 0)
        return (uint64_t) least;
    return most < 0 ? (uint64_t) most : 0;
}

static unsigned signed_length(uint64_t word)
{
    return form_length(word >> 63 ? 0 - word : word);
}

/* The middle is the mean length. */
static uint64_t find_base(const uint64_t *words, size_t n, unsigned *ret_middle)
{
    int64_t least = INT64_MAX, most = INT64_MIN;
    size_t total = 0, n_lengths = 0;
    uint64_t base;

    for (size_t i = 0; i < n; i++) {
        least = (int64_t) words[i] < least ? (int64_t) words[i] : least;
        most = (int64_t) words[i] > most ? (int64_t) words[i] : most;
    }
    base = base_between(least, most);
    for (size_t i = 0; i < n; i++) {
        unsigned length = signed_length(words[i] - base);

        total += length;
        n_lengths += length > 0;
    }
    *ret_middle = n_lengths ? (unsigned) ((total + n_lengths / 2) / n_lengths) : 1;
    return base;
}

/* ---- which order ---- */

/* 16 x log2 of a number above 0, rounded. */
static unsigned log_of(size_t number)
{
    static const uint8_t part[16] = { 0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 14, 15 };
    unsigned length = form_length(number);
    size_t top = length > 5 ? number >> (length - 5) : number << (5 - length);

    return 16 * (length - 1) + part[top & 15];
}

/* The entropy of lengths and signs, and the bits below the leading ones; in sixteenths. */
static size_t cost_of(const uint64_t *words, size_t n)
{
    size_t n_of[2][65] = { 0 }, n_signs[2] = { 0 }, cost = 0;
    unsigned middle;
    uint64_t base = find_base(words, n, &middle);

    for (size_t i = 0; i < n; i++) {
        uint64_t word = words[i] - base;

        n_of[word >> 63][signed_length(word)]++;
    }
    for (unsigned length = 0; length <= 64; length++) {
        size_t n_these = n_of[0][length] + n_of[1][length];

        if (n_these == 0)
            continue;
        /* 32: that a length occurs has to be learnt. */
        cost += n_these * (log_of(n) - log_of(n_these) + 16 * (length ? length - 1 : 0)) + 32;
        n_signs[0] += length ? n_of[0][length] : 0;
        n_signs[1] += n_of[1][length];
    }
    if (n_signs[0] > 0 && n_signs[1] > 0)
        for (unsigned i = 0; i < 2; i++)
            cost += n_signs[i] * (log_of(n_signs[0] + n_signs[1]) - log_of(n_signs[i]));
    return cost;
}

unsigned range_order(const uint64_t *y, size_t n)
{
    size_t best_cost = SIZE_MAX;
    uint64_t words[ORDER_SAMPLE];
    unsigned best = 0;

    /* Of a long column a part in its middle. */
    if (n > ORDER_SAMPLE + 3) {
        y += (n - ORDER_SAMPLE) / 2;
        n = ORDER_SAMPLE + 3;
    }
    for (unsigned order = 0; order <= 2 && n > 3; order++) {
        size_t cost;

        for (size_t i = 3; i < n; i++) {
            uint64_t rise = y[i] - y[i - 1], before = y[i - 1] - y[i - 2];

            words[i - 3] = order == 0 ? y[i] : order == 1 ? rise : rise - before;
        }
        cost = cost_of(words, n - 3);
        if (cost < best_cost) {
            best_cost = cost;
            best = order;
        }
    }
    return best;
}

bool range_encode(const uint64_t *words, size_t n, size_t limit, struct buf *out)
{
    struct encoder e = { .range = UINT32_MAX };
    size_t start = out->len, head_len, room = limit + WRITE_SLACK;
    unsigned middle;
    uint64_t base = find_base(words, n, &middle);
    uint8_t byte = (uint8_t) middle;
    size_t front_len, back_len;
    uint8_t *data;

    codec_put_varint(out, codec_zigzag(base));
    buf_append(out, &byte, 1);
    head_len = out->len - start;
    data = buf_extend(out, room);
    if (!data)
        return false;
    model_init(&e.model, middle);
    e.front = data;
    e.back = data + room;
    for (size_t i = 0; i < n && !e.is_full; i++)
        put_word(&e, words[i] - base);
    finish(&e);
    front_len = (size_t) (e.front - data);
    back_len = (size_t) (data + room - e.back);
    if (e.is_full || head_len + front_len + back_len > limit) {
        out->len = start;
        return false;
    }
    memmove(e.front, e.back, back_len);
    out->len = start + head_len + front_len + back_len;
    return true;
}

/* ---- decoder ---- */

static inline void refill(struct range_decoder *d)
{
    while (d->range < TOP) {
        d->range <<= 8;
        if (d->front < d->end)
            d->code = d->code << 8 | *d->front++;
        else {
            d->code <<= 8;
            d->n_overrun++;
        }
    }
}

static inline bool get_bit(struct range_decoder *d, struct range_bit *bit)
{
    uint32_t bound = (d->range >> 16) * bit->p;
    bool is_one = d->code >= bound;

    if (is_one) {
        d->code -= bound;
        d->range -= bound;
    } else {
        d->range = bound;
    }
    learn(bit, is_one);
    refill(d);
    return is_one;
}

static uint64_t get_plain(struct range_decoder *d, unsigned n)
{
    uint64_t word;

    while (d->n_held < n) {
        if (d->back == d->start) {
            d->is_short = true;
            return 0;
        }
        d->held |= (uint64_t) * --d->back << d->n_held;
        d->n_held += 8;
    }
    word = d->held & ((UINT64_C(1) << n) - 1);
    d->held >>= n;
    d->n_held -= n;
    return word;
}

static unsigned get_length(struct range_decoder *d)
{
    struct range_model *m = &d->model;
    unsigned steps = 0;

    if (get_bit(d, &m->above[m->context])) {
        unsigned most = 64 - m->middle;

        while (steps < most && get_bit(d, &m->up[steps]))
            steps++;
        return m->middle + steps;
    }
    /* Nothing is shorter than 1: a middle of 1 with "below" is not what an encoder writes. */
    if (m->middle < 2) {
        d->is_short = true;
        return 1;
    }
    while (steps < m->middle - 2 && get_bit(d, &m->down[steps]))
        steps++;
    return m->middle - 1 - steps;
}

static uint64_t get_word(struct range_decoder *d)
{
    struct range_model *m = &d->model;
    unsigned length, rest, node = 1;
    uint64_t size = 1;
    bool is_minus;

    if (get_bit(d, &m->zero[m->context])) {
        m->context = context_of(m, 0);
        return 0;
    }
    is_minus = get_bit(d, &m->sign[m->sign_before]);
    m->sign_before = is_minus ? 2 : 1;
    length = get_length(d);
    rest = length - 1;
    for (unsigned i = 0; i < RANGE_MODELLED && rest > 0; i++, rest--) {
        bool bit = get_bit(d, &m->top[length][node]);

        node = 2 * node + bit;
        size = 2 * size + bit;
    }
    if (rest > 32) {
        uint64_t low = get_plain(d, 32);

        size = (size << (rest - 32) | get_plain(d, rest - 32)) << 32 | low;
    } else {
        size = size << rest | get_plain(d, rest);
    }
    m->context = context_of(m, length);
    return is_minus ? 0 - size : size;
}

bool range_open(struct range_decoder *d, struct span bytes)
{
    const uint8_t *middle;

    if (!codec_get_varint(&bytes, &d->base) || !form_take(&bytes, 1, &middle) || *middle < 1 ||
        *middle > 64)
        return false;
    d->base = codec_unzigzag(d->base);
    model_init(&d->model, *middle);
    d->front = d->start = bytes.data;
    d->end = d->back = bytes.data + bytes.len;
    d->n_overrun = 0;
    d->held = 0;
    d->n_held = 0;
    d->is_short = false;
    d->code = 0;
    for (unsigned i = 0; i < 4; i++) {
        d->code <<= 8;
        if (d->front < d->end)
            d->code |= *d->front++;
        else
            d->n_overrun++;
    }
    d->range = UINT32_MAX;
    return true;
}

bool range_decode(struct range_decoder *d, size_t n, uint64_t *ret)
{
    for (size_t i = 0; i < n; i++)
        ret[i] = d->base + get_word(d);
    /* The coder reads up to 4 bytes ahead of what it was told. */
    return !d->is_short && d->n_overrun <= 4;
}
