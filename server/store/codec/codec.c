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

#define DIGITS_MAX 15
#define N_SAMPLES 32
#define EXACT_MAX 9007199254740992.0 /* 2^53: up to here an integer is a double */

/* Adding and taking away rounds to an integer, up to half of EXACT_MAX / 2 either way. */
#define ROUNDER 6755399441055744.0 /* 1.5 * 2^52 */
#define ROUNDED_MAX 2251799813685248.0

static const double powers[DIGITS_MAX + 1] = { 1e0, 1e1, 1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                               1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15 };
static const double inverses[DIGITS_MAX + 1] = { 1e0,   1e-1,  1e-2,  1e-3, 1e-4,  1e-5,
                                                 1e-6,  1e-7,  1e-8,  1e-9, 1e-10, 1e-11,
                                                 1e-12, 1e-13, 1e-14, 1e-15 };

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

static uint64_t bits_of(double value)
{
    uint64_t bits;

    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

static double double_of(uint64_t bits)
{
    double value;

    memcpy(&value, &bits, sizeof(value));
    return value;
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

/* ---- decimals ---- */

static inline double decimal_value(bool is_product, unsigned digits, int64_t integer)
{
    return is_product ? (double) integer * inverses[digits] : (double) integer / powers[digits];
}

/* The integer that gives exactly this value; *ret_is_exact says whether there is one. */
static inline int64_t decimal_of(bool is_product, unsigned digits, double value, bool *ret_is_exact)
{
    double scaled = value * powers[digits];
    int64_t integer;

    /* Also false for a NaN. */
    if (!(scaled >= -ROUNDED_MAX && scaled <= ROUNDED_MAX)) {
        *ret_is_exact = false;
        return 0;
    }
    integer = (int64_t) (scaled + ROUNDER - ROUNDER);
    *ret_is_exact = bits_of(decimal_value(is_product, digits, integer)) == bits_of(value);
    return integer;
}

static bool is_decimal(double value, bool is_product, unsigned digits)
{
    bool is_exact;

    (void) decimal_of(is_product, digits, value, &is_exact);
    return is_exact;
}

static bool as_integer(double value, int64_t *ret)
{
    if (!(value >= -EXACT_MAX && value <= EXACT_MAX))
        return false;
    *ret = (int64_t) value;
    return bits_of((double) *ret) == bits_of(value);
}

/* The digits that most of the sample can be written with, or -1. */
static int find_digits(const double *values, size_t n, bool is_product)
{
    size_t n_samples = n < N_SAMPLES ? n : N_SAMPLES, n_found = 0;
    unsigned n_with[DIGITS_MAX + 1] = { 0 };
    unsigned digits = 0;
    size_t n_so_far = 0;

    for (size_t i = 0; i < n_samples; i++) {
        double value = values[i * n / n_samples];

        for (unsigned k = 0; k <= DIGITS_MAX; k++)
            if (is_decimal(value, is_product, k)) {
                n_with[k]++;
                n_found++;
                break;
            }
    }
    if (2 * n_found <= n_samples)
        return -1;
    /* One sample of many digits among many of few is an exception. */
    for (digits = 0; digits < DIGITS_MAX; digits++) {
        n_so_far += n_with[digits];
        if (n_found - n_so_far <= n_found / 16)
            break;
    }
    return (int) digits;
}

static size_t count_exact(const double *values, size_t n, bool is_product, unsigned digits)
{
    size_t n_exact = 0;

    for (size_t i = 0; i < n; i++)
        n_exact += is_decimal(values[i], is_product, digits);
    return n_exact;
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
    for (unsigned digits = 0; digits <= DIGITS_MAX; digits++) {
        bool is_exact;
        int64_t integer = decimal_of(false, digits, c->values[0], &is_exact);

        if (!is_exact || (integer >= INT64_C(1) << 48 || integer <= -(INT64_C(1) << 48)))
            continue;
        codec_put_varint(c->out, codec_zigzag((uint64_t) integer));
        return form_of(CODEC_CONST, digits);
    }
    append64(c->out, bits_of(c->values[0]));
    return CODEC_CONST_BITS;
}

static bool is_constant(const double *values, size_t n)
{
    return n == 1 || memcmp(values, values + 1, (n - 1) * sizeof(*values)) == 0;
}

static bool put_integers(const struct column *c)
{
    for (size_t i = 0; i < c->n; i++) {
        int64_t integer;

        if (!as_integer(c->values[i], &integer))
            return false;
        c->x[i] = (uint64_t) integer;
    }
    ints_encode(c->x, c->n, c->effort, c->room, c->out);
    return true;
}

static uint8_t put_decimals(const struct column *c, bool is_product, unsigned digits)
{
    size_t n_exact = count_exact(c->values, c->n, is_product, digits), last = 0;
    bool is_patched = n_exact < c->n;
    uint64_t before = 0;

    if (is_patched)
        codec_put_varint(c->out, c->n - n_exact);
    for (size_t i = 0; i < c->n; i++) {
        bool is_exact;
        int64_t integer = decimal_of(is_product, digits, c->values[i], &is_exact);

        if (is_exact) {
            before = (uint64_t) integer;
        } else {
            codec_put_varint(c->out, i - last);
            append64(c->out, bits_of(c->values[i]));
            last = i;
        }
        c->x[i] = before;
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
        int digits = find_digits(c->values, c->n, is_product);

        if (digits >= 0 &&
            8 * count_exact(c->values, c->n, is_product, (unsigned) digits) >= 7 * c->n)
            return put_decimals(c, is_product, (unsigned) digits);
    }
    return 0;
}

static void put_bits(const struct column *c)
{
    for (size_t i = 0; i < c->n; i++)
        c->x[i] = ordered_of(bits_of(c->values[i]));
    ints_encode(c->x, c->n, c->effort, c->room, c->out);
}

static void put_raw(const struct column *c)
{
    for (size_t i = 0; i < c->n; i++)
        append64(c->out, bits_of(c->values[i]));
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
    if (put_integers(c))
        return form_of(CODEC_DIV, 0);

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
        values[place] = double_of(form_load64(pattern));
    }
}

static void
convert(enum codec_kind kind, unsigned digits, const uint64_t *words, size_t n, double *ret)
{
    if (kind == CODEC_BITS)
        for (size_t i = 0; i < n; i++)
            ret[i] = double_of(unordered_of(words[i]));
    else if (kind == CODEC_MUL || kind == CODEC_MUL_PATCHED)
        for (size_t i = 0; i < n; i++)
            ret[i] = (double) (int64_t) words[i] * inverses[digits];
    else if (digits > 0)
        for (size_t i = 0; i < n; i++)
            ret[i] = (double) (int64_t) words[i] / powers[digits];
    else
        for (size_t i = 0; i < n; i++)
            ret[i] = (double) (int64_t) words[i];
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
        ret[i] = double_of(form_load64(bytes.data + i * sizeof(*ret)));
    return CODEC_OK;
}

int codec_decode_constant(uint8_t form, struct span bytes, double *ret_value, size_t *ret_bytes)
{
    struct span rest = bytes;
    const uint8_t *pattern;
    uint64_t integer;

    if ((form & 15) == CODEC_CONST && codec_get_varint(&rest, &integer))
        *ret_value = decimal_value(false, form >> 4, (int64_t) codec_unzigzag(integer));
    else if (form == CODEC_CONST_BITS && form_take(&rest, 8, &pattern))
        *ret_value = double_of(form_load64(pattern));
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
