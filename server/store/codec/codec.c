/* SPDX-License-Identifier: Apache-2.0 */
#include "server/store/codec/codec.h"

#include <float.h>
#include <stdlib.h>
#include <zstd.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "server/store/codec/form.h"

/* What is written on one machine must be the same double on another. */
_Static_assert(FLT_EVAL_METHOD == 0, "doubles are computed as doubles");
_Static_assert(sizeof(double) == 8, "IEEE 754 binary64");

void codec_work_deinit(struct codec_work *work)
{
    free(work->words);
    buf_deinit(&work->other);
    ZSTD_freeCCtx(work->zstd);
    *work = (struct codec_work){ 0 };
}

int codec_reserve(struct codec_work *work, size_t n_words)
{
    uint64_t *words;

    if (n_words <= work->n_words)
        return 0;
    words = realloc(work->words, n_words * sizeof(*words));
    if (!words)
        return fault(-ENOMEM, "no memory for %zu integers of a codec", n_words);
    work->words = words;
    work->n_words = n_words;
    return 0;
}

/* Patterns so that integers order as the doubles do, and back. */
static uint64_t ordered_of(uint64_t bits)
{
    return bits >> 63 ? ~bits : bits | UINT64_C(1) << 63;
}

static uint64_t unordered_of(uint64_t ordered)
{
    return ordered >> 63 ? ordered & ~(UINT64_C(1) << 63) : ~ordered;
}

/* ---- encoding ---- */

struct column {
    struct codec_work *work;
    const double *values;
    size_t n;
    enum codec_effort effort;
    uint64_t *x, *room;
    struct buf *out;
    size_t start;
};

static uint8_t form_of(enum codec_kind kind, unsigned parameter)
{
    return (uint8_t) (kind | parameter << 4);
}

static void append64(struct buf *out, uint64_t word)
{
    uint8_t bytes[8];

    form_store64(bytes, word);
    buf_append(out, bytes, sizeof(bytes));
}

static uint8_t put_constant(const struct column *c)
{
    for (unsigned digits = 0; digits <= DECIMALS_MAX; digits++) {
        int64_t integer;

        if (!decimals_one(false, digits, c->values[0], &integer) || integer >= INT64_C(1) << 48 ||
            integer <= -(INT64_C(1) << 48))
            continue;
        codec_put_varint(c->out, codec_zigzag((uint64_t) integer));
        return form_of(CODEC_CONST, digits);
    }
    append64(c->out, form_bits(c->values[0]));
    return CODEC_CONST_BITS;
}

static bool is_constant(const double *values, size_t n)
{
    return n == 1 || memcmp(values, values + 1, (n - 1) * sizeof(*values)) == 0;
}

/* What is no decimal is a patch, and for the integers the same as the one before. */
static void put_patches(const struct column *c, bool is_product, unsigned digits)
{
    uint64_t before = 0;
    size_t last = 0;

    for (size_t i = 0; i < c->n; i++) {
        int64_t integer;

        if (decimals_one(is_product, digits, c->values[i], &integer)) {
            before = (uint64_t) integer;
        } else {
            codec_put_varint(c->out, i - last);
            append64(c->out, form_bits(c->values[i]));
            last = i;
        }
        c->x[i] = before;
    }
}

/* Returns 0 when too few of the values are such decimals. */
static uint8_t put_decimals(const struct column *c, bool is_product, unsigned digits)
{
    size_t n_exact = decimals_column(c->values, c->n, is_product, digits, c->x);
    bool is_patched = n_exact < c->n;

    if (8 * n_exact < 7 * c->n)
        return 0;
    if (is_patched) {
        codec_put_varint(c->out, c->n - n_exact);
        put_patches(c, is_product, digits);
    }
    ints_encode(c->x, c->n, c->effort, c->room, c->out);
    if (is_product)
        return form_of(is_patched ? CODEC_MUL_PATCHED : CODEC_MUL, digits);
    return form_of(is_patched ? CODEC_DIV_PATCHED : CODEC_DIV, digits);
}

/* Returns 0 when the values are no decimals. */
static uint8_t try_decimals(const struct column *c)
{
    for (int is_product = 0; is_product < 2; is_product++) {
        int digits = decimals_digits(c->values, c->n, is_product);
        uint8_t form = digits >= 0 ? put_decimals(c, is_product, (unsigned) digits) : 0;

        if (form)
            return form;
    }
    return 0;
}

static void put_bits(const struct column *c)
{
    for (size_t i = 0; i < c->n; i++)
        c->x[i] = ordered_of(form_bits(c->values[i]));
    ints_encode(c->x, c->n, c->effort, c->room, c->out);
}

static void put_raw(const struct column *c)
{
    for (size_t i = 0; i < c->n; i++)
        append64(c->out, form_bits(c->values[i]));
}

/* What was put behind `middle` replaces what was put before it, when shorter. */
static bool keep_shorter(const struct column *c, size_t middle)
{
    size_t first_len = middle - c->start, second_len = c->out->len - middle;

    if (buf_failed(c->out))
        return false;
    if (second_len >= first_len) {
        c->out->len = middle;
        return false;
    }
    memmove(c->out->data + c->start, c->out->data + middle, second_len);
    c->out->len = c->start + second_len;
    return true;
}

static uint8_t put_column(const struct column *c)
{
    size_t middle;
    uint8_t form;

    if (is_constant(c->values, c->n))
        return put_constant(c);
    if (decimals_integers(c->values, c->n, c->x)) {
        ints_encode(c->x, c->n, c->effort, c->room, c->out);
        return form_of(CODEC_DIV, 0);
    }

    /* Many digits may be no decimals at all: then the patterns are as good or better. */
    form = try_decimals(c);
    middle = c->out->len;
    if (form == 0 || middle - c->start > 5 * c->n) {
        put_bits(c);
        if (form == 0 || keep_shorter(c, middle))
            form = CODEC_BITS;
    }
    middle = c->out->len;
    if (c->effort == CODEC_SMALL && middle - c->start > 2 * c->n && c->n >= 16 &&
        zstd_encode(c->work, c->values, c->n, middle - c->start, c->out) && keep_shorter(c, middle))
        form = CODEC_ZSTD;
    if (c->out->len - c->start >= c->n * sizeof(double)) {
        c->out->len = c->start;
        put_raw(c);
        form = CODEC_RAW;
    }
    return form;
}

int codec_encode_values(struct codec_work *work,
                        const double *values,
                        size_t n,
                        enum codec_effort effort,
                        struct buf *out,
                        uint8_t *ret_form)
{
    int r;

    ensure(n >= 1 && n <= CODEC_ITEMS_MAX);
    r = codec_reserve(work, 2 * n);
    if (r < 0)
        return pass(r);

    struct column column = { work, values, n, effort, work->words, work->words + n, out, out->len };
    uint8_t form = put_column(&column);

    if (buf_failed(out))
        return fault(-ENOMEM, "no memory for a column of %zu values", n);
    *ret_form = form;
    return 0;
}

/* ---- decoding ---- */

struct patches {
    struct span bytes; /* the list, of entries that are known to be whole */
    uint64_t n_left;
};

/* Walks over the patches once to find the integers behind them. */
static bool open_patches(struct span *bytes, size_t n, struct patches *ret)
{
    uint64_t place = 0, n_patches;

    if (!codec_get_varint(bytes, &n_patches) || n_patches > n)
        return false;
    ret->bytes = *bytes;
    ret->n_left = n_patches;
    for (uint64_t i = 0; i < n_patches; i++) {
        const uint8_t *pattern;
        uint64_t gap;

        if (!codec_get_varint(bytes, &gap) || gap >= n || place + gap >= n ||
            !form_take(bytes, 8, &pattern))
            return false;
        place += gap;
    }
    return true;
}

static void apply_patches(struct patches *patches, double *values)
{
    uint64_t place = 0;

    for (; patches->n_left > 0; patches->n_left--) {
        const uint8_t *pattern;
        uint64_t gap;
        bool is_whole =
            codec_get_varint(&patches->bytes, &gap) && form_take(&patches->bytes, 8, &pattern);

        ensure(is_whole);
        place += gap;
        values[place] = form_double(form_load64(pattern));
    }
}

static void
convert(enum codec_kind kind, unsigned digits, const uint64_t *words, size_t n, double *ret)
{
    double power;

    if (kind == CODEC_BITS) {
        for (size_t i = 0; i < n; i++)
            ret[i] = form_double(unordered_of(words[i]));
        return;
    }
    for (size_t i = 0; i < n; i++)
        ret[i] = (double) (int64_t) words[i];
    if (digits == 0)
        return;
    if (kind == CODEC_MUL || kind == CODEC_MUL_PATCHED) {
        power = decimals_inverse(digits);
        for (size_t i = 0; i < n; i++)
            ret[i] *= power;
    } else {
        power = decimals_power(digits);
        for (size_t i = 0; i < n; i++)
            ret[i] /= power;
    }
}

static int decode_integers(uint8_t form, struct span bytes, size_t n, double *ret)
{
    enum codec_kind kind = form & 15;
    bool is_patched = kind == CODEC_DIV_PATCHED || kind == CODEC_MUL_PATCHED;
    struct patches patches = { 0 };
    struct ints_decoder decoder;
    uint64_t words[FORM_FRAME];

    if (is_patched && !open_patches(&bytes, n, &patches))
        return CODEC_BAD;
    if (!ints_open(&decoder, bytes, n))
        return CODEC_BAD;
    for (size_t i = 0; i < n;) {
        size_t n_now = ints_decode(&decoder, words);

        if (n_now == 0)
            return CODEC_BAD;
        convert(kind, form >> 4, words, n_now, ret + i);
        i += n_now;
    }
    apply_patches(&patches, ret);
    return CODEC_OK;
}

static int decode_raw(struct span bytes, size_t n, double *ret)
{
    if (bytes.len != n * sizeof(*ret))
        return CODEC_BAD;
    for (size_t i = 0; i < n; i++)
        ret[i] = form_double(form_load64(bytes.data + i * sizeof(*ret)));
    return CODEC_OK;
}

int codec_decode_constant(uint8_t form, struct span bytes, double *ret_value, size_t *ret_bytes)
{
    struct span rest = bytes;
    const uint8_t *pattern;
    uint64_t integer;

    if ((form & 15) == CODEC_CONST && codec_get_varint(&rest, &integer))
        *ret_value = decimals_value(false, form >> 4, (int64_t) codec_unzigzag(integer));
    else if (form == CODEC_CONST_BITS && form_take(&rest, 8, &pattern))
        *ret_value = form_double(form_load64(pattern));
    else
        return CODEC_BAD;
    *ret_bytes = bytes.len - rest.len;
    return CODEC_OK;
}

static int decode_constant(uint8_t form, struct span bytes, size_t n, double *ret)
{
    double value;
    size_t len;
    int r = codec_decode_constant(form, bytes, &value, &len);

    if (r != CODEC_OK || len != bytes.len)
        return CODEC_BAD;
    for (size_t i = 0; i < n; i++)
        ret[i] = value;
    return CODEC_OK;
}

int codec_decode_values(uint8_t form, struct span bytes, size_t n, double *ret_values)
{
    ensure(n >= 1 && n <= CODEC_ITEMS_MAX);
    switch (form & 15) {
    case CODEC_CONST:
    case CODEC_CONST_BITS:
        return decode_constant(form, bytes, n, ret_values);
    case CODEC_BITS:
        if (form >> 4)
            return CODEC_BAD;
        return decode_integers(form, bytes, n, ret_values);
    case CODEC_DIV:
    case CODEC_DIV_PATCHED:
    case CODEC_MUL:
    case CODEC_MUL_PATCHED:
        return decode_integers(form, bytes, n, ret_values);
    case CODEC_RAW:
        return form >> 4 ? CODEC_BAD : decode_raw(bytes, n, ret_values);
    case CODEC_ZSTD:
        return form >> 4 || !zstd_decode(bytes, n, ret_values) ? CODEC_BAD : CODEC_OK;
    default:
        return CODEC_BAD;
    }
}
