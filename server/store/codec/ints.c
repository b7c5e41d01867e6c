/* SPDX-License-Identifier: Apache-2.0 */
#include "server/store/codec/form.h"

/* How much of a column says which order it takes. */
#define ORDER_SAMPLE 96
#define ORDER_PART 16

static uint64_t magnitude(uint64_t word)
{
    return word >> 63 ? 0 - word : word;
}

static uint64_t common_divisor(uint64_t a, uint64_t b)
{
    while (b) {
        uint64_t rest = a % b;

        a = b;
        b = rest;
    }
    return a;
}

/* The greatest that divides every y[i] taken as signed; 1 when all are 0. */
static uint64_t find_scale(const uint64_t *y, size_t n, uint64_t any)
{
    uint64_t odd = 0;
    unsigned shift;

    if (any == 0)
        return 1;
    shift = (unsigned) __builtin_ctzll(any);
    if (shift == 63)
        return UINT64_C(1) << 63;
    for (size_t i = 1; i < n && odd != 1; i++) {
        uint64_t part = magnitude(y[i]) >> shift;

        /* The common case, a repeat or a multiple, costs one division. */
        if (odd == 0)
            odd = part;
        else if (part % odd)
            odd = common_divisor(odd, part);
    }
    return odd ? odd << shift : 1;
}

static void scale_down(uint64_t *y, size_t n, uint64_t scale)
{
    unsigned shift = (unsigned) __builtin_ctzll(scale);

    if (scale == UINT64_C(1) << shift) {
        for (size_t i = 0; i < n; i++)
            y[i] = (uint64_t) ((int64_t) y[i] >> shift);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        uint64_t part = magnitude(y[i]) / scale;

        y[i] = y[i] >> 63 ? 0 - part : part;
    }
}

/* Leaves y; what may divide it is returned. */
static uint64_t shift_to_first(uint64_t *x, size_t n)
{
    uint64_t first = x[0], any = 0;

    for (size_t i = 0; i < n; i++) {
        x[i] -= first;
        any |= x[i];
    }
    return any;
}

/* ---- which order ---- */

/*
 * What the integers of one order take. FRAMES pays for what lies between the least and the greatest
 * of a frame, or, with exceptions, somewhat more than the lengths.
 */
struct cost {
    unsigned bits;
    int64_t least, most;
    unsigned total;
};

static inline void count_cost(struct cost *cost, uint64_t word)
{
    int64_t number = (int64_t) word;

    cost->bits += form_length(word ^ (0 - (word >> 63)));
    cost->least = number < cost->least ? number : cost->least;
    cost->most = number > cost->most ? number : cost->most;
}

static void end_frame(struct cost *cost, unsigned n)
{
    bool is_mixed = cost->least < 0 && cost->most > 0;
    unsigned between = n * form_length((uint64_t) cost->most - (uint64_t) cost->least);
    unsigned each = cost->bits + n * (is_mixed + 1);

    cost->total += each < between ? each : between;
    cost->bits = 0;
    cost->least = INT64_MAX;
    cost->most = INT64_MIN;
}

/* Over all of a short column and a part here and there of a long one. */
static unsigned choose_order(const uint64_t *y, size_t n)
{
    static const struct cost none = { .least = INT64_MAX, .most = INT64_MIN };
    struct cost cost[3] = { none, none, none };
    size_t step = n > ORDER_SAMPLE ? n / (ORDER_SAMPLE / ORDER_PART) : ORDER_PART;

    for (size_t from = 2; from < n; from += step) {
        size_t to = from + ORDER_PART < n ? from + ORDER_PART : n;

        for (size_t i = from; i < to; i++) {
            uint64_t rise = y[i] - y[i - 1];

            count_cost(&cost[0], y[i]);
            count_cost(&cost[1], rise);
            count_cost(&cost[2], rise - (y[i - 1] - y[i - 2]));
        }
        for (size_t i = 0; i < 3; i++)
            end_frame(&cost[i], (unsigned) (to - from));
    }
    if (cost[1].total <= cost[0].total)
        return cost[2].total < cost[1].total ? 2 : 1;
    return cost[2].total < cost[0].total ? 2 : 0;
}

/* y[0] is 0. */
static void differ(const uint64_t *y, size_t n, unsigned order, uint64_t *ret)
{
    ret[0] = 0;
    if (order == 0)
        memcpy(ret, y, n * sizeof(*y));
    for (size_t i = 1; order == 1 && i < n; i++)
        ret[i] = y[i] - y[i - 1];
    if (order < 2)
        return;
    if (n > 1)
        ret[1] = y[1];
    for (size_t i = 2; i < n; i++)
        ret[i] = y[i] - 2 * y[i - 1] + y[i - 2];
}

/*
 * The range coder over the order that suits it, in the place of the frames that stand from `body`
 * on. *order and the residuals in `room` go together.
 */
static bool replace_by_range(const uint64_t *y,
                             size_t n,
                             unsigned *order,
                             uint64_t *room,
                             size_t body,
                             struct buf *out)
{
    size_t frames_len = out->len - body, limit = frames_len - frames_len / 32, range_len;
    unsigned best = range_order(y, n);

    if (best != *order)
        differ(y, n, best, room);
    /* The range coder's decoder is slower: it has to earn its place. */
    if (!range_encode(room + 1, n - 1, limit, out))
        return false;
    range_len = out->len - body - frames_len;
    memmove(out->data + body, out->data + body + frames_len, range_len);
    out->len = body + range_len;
    *order = best;
    return true;
}

void ints_encode(uint64_t *x, size_t n, enum codec_effort effort, uint64_t *room, struct buf *out)
{
    uint64_t first = x[0], any = shift_to_first(x, n), scale = find_scale(x, n, any);
    size_t start = out->len, body;
    unsigned order;
    uint8_t head;

    if (scale != 1)
        scale_down(x, n, scale);
    order = choose_order(x, n);
    differ(x, n, order, room);

    head = (uint8_t) (order | (scale != 1 ? FORM_SCALED : 0));
    buf_append(out, &head, 1);
    codec_put_varint(out, codec_zigzag(first));
    if (scale != 1)
        codec_put_varint(out, scale);
    body = out->len;
    frames_encode(room + 1, n - 1, out);
    if (effort == CODEC_FAST || n < 4 || buf_failed(out))
        return;
    if (replace_by_range(x, n, &order, room, body, out))
        out->data[start] = (uint8_t) (order | (scale != 1 ? FORM_SCALED : 0) | FORM_RANGE);
}

bool ints_open(struct ints_decoder *decoder, struct span bytes, size_t n)
{
    const uint8_t *head;

    if (!form_take(&bytes, 1, &head) || *head & ~(FORM_ORDER_MASK | FORM_SCALED | FORM_RANGE))
        return false;
    decoder->order = *head & FORM_ORDER_MASK;
    decoder->is_range = *head & FORM_RANGE;
    decoder->n_left = n;
    decoder->scale = 1;
    decoder->y = decoder->step = 0;
    decoder->has_begun = false;
    if (decoder->order > 2 || !codec_get_varint(&bytes, &decoder->first))
        return false;
    decoder->first = codec_unzigzag(decoder->first);
    if (*head & FORM_SCALED && !codec_get_varint(&bytes, &decoder->scale))
        return false;
    decoder->bytes = bytes;
    return decoder->is_range ? range_open(&decoder->range, bytes) : true;
}

static void integrate(struct ints_decoder *decoder, uint64_t *words, size_t n)
{
    uint64_t y = decoder->y, step = decoder->step;

    if (decoder->order == 1) {
        for (size_t i = 0; i < n; i++)
            words[i] = y += words[i];
    } else if (decoder->order == 2) {
        for (size_t i = 0; i < n; i++)
            words[i] = y += step += words[i];
    }
    decoder->y = y;
    decoder->step = step;
    if (decoder->scale == 1)
        for (size_t i = 0; i < n; i++)
            words[i] += decoder->first;
    else
        for (size_t i = 0; i < n; i++)
            words[i] = decoder->first + words[i] * decoder->scale;
}

size_t ints_decode(struct ints_decoder *decoder, uint64_t *ret)
{
    size_t n;

    /* The first stands for itself: only the others are in frames. */
    if (!decoder->has_begun) {
        decoder->has_begun = true;
        decoder->n_left--;
        ret[0] = decoder->first;
        return 1;
    }
    n = decoder->n_left < FORM_FRAME ? decoder->n_left : FORM_FRAME;
    decoder->n_left -= n;
    if (decoder->is_range ? !range_decode(&decoder->range, n, ret)
                          : !frames_decode(&decoder->bytes, n, ret))
        return 0;
    integrate(decoder, ret, n);
    return n;
}
