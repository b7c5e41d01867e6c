/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdlib.h>
#include <zstd.h>

#include "common/base/crc32c.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "server/store/block/parts.h"

#define ZSTD_LEVEL 9
#define ZSTD_WORTH_TRYING 64
#define PARAMETER_MAX 15

/* So many layouts back equal times are looked for. */
#define TIMES_WINDOW 64

/* What one layout becomes; the four parts are buffers until the lengths are known. */
struct layout {
    const struct block_rows *rows;
    struct codec_work *work;
    enum codec_effort effort;
    bool is_plain;
    struct relate relate;
    double *dense; /* room for one column */
    struct buf marks, directory, bytes;
    size_t *patterns; /* where in the input each pattern was first seen */
    size_t n_patterns;
    uint64_t n_zeros, n_nones; /* of the run under way */
};

static void layout_deinit(struct layout *l)
{
    relate_deinit(&l->relate);
    free(l->dense);
    free(l->patterns);
    buf_deinit(&l->marks);
    buf_deinit(&l->directory);
    buf_deinit(&l->bytes);
}

static const uint64_t *marks_of(const struct block_rows *rows, size_t column)
{
    return rows->absent + column * codec_mark_words(rows->n_rows);
}

/* An operation with a number that mostly fits the parameter. */
static void put_operation(struct buf *out, unsigned operation, uint64_t number)
{
    uint8_t byte = (uint8_t) (operation | (number < PARAMETER_MAX ? number : PARAMETER_MAX) << 4);

    buf_append(out, &byte, 1);
    if (number >= PARAMETER_MAX)
        codec_put_varint(out, number - PARAMETER_MAX);
}

static void end_runs(struct layout *l)
{
    if (l->n_zeros > 0)
        put_operation(&l->directory, PARTS_ZEROS, l->n_zeros - 1);
    if (l->n_nones > 0)
        put_operation(&l->directory, PARTS_NONE, l->n_nones - 1);
    l->n_zeros = l->n_nones = 0;
}

static size_t find_pattern(struct layout *l, size_t column)
{
    size_t n_rows = l->rows->n_rows, words = codec_mark_words(n_rows);
    const uint64_t *marks = marks_of(l->rows, column);
    CLEANUP(buf_deinit) struct buf pattern = { 0 };

    for (size_t i = 0; i < l->n_patterns; i++)
        if (memcmp(marks_of(l->rows, l->patterns[i]), marks, words * sizeof(*marks)) == 0)
            return i;
    codec_encode_marks(marks, n_rows, &pattern);
    codec_put_varint(&l->marks, pattern.len);
    buf_append_span(&l->marks, buf_span(&pattern));
    l->marks.has_failed |= buf_failed(&pattern);
    l->patterns[l->n_patterns] = column;
    return l->n_patterns++;
}

static void put_bounds(const double *values, const uint64_t *marks, size_t n, struct buf *out)
{
    double low = INFINITY, high = -INFINITY;
    uint16_t bounds[2];

    /* A comparison with a NaN is false. */
    for (size_t i = 0; i < n; i++) {
        if (marks && codec_marked(marks, i))
            continue;
        low = values[i] < low ? values[i] : low;
        high = values[i] > high ? values[i] : high;
    }
    bounds[0] = parts_bound(low, false);
    bounds[1] = parts_bound(high, true);
    for (size_t i = 0; i < 2; i++) {
        uint8_t bytes[2] = { (uint8_t) bounds[i], (uint8_t) (bounds[i] >> 8) };

        buf_append(out, bytes, sizeof(bytes));
    }
}

static void put_relation(struct layout *l, const struct relate_column *c)
{
    end_runs(l);
    buf_append(&l->directory, &c->operation, 1);
    codec_put_varint(&l->directory, c->columns[0]);
    if (c->operation == PARTS_OVER)
        codec_put_varint(&l->directory, c->columns[1]);
}

static void put_terms(struct layout *l, const struct relate_sum *sum)
{
    unsigned parameter = sum->n_terms - 1u + sum->class * (unsigned) PARTS_TERMS_MAX;
    uint8_t byte = (uint8_t) (PARTS_SUM | parameter << 4);

    buf_append(&l->directory, &byte, 1);
    for (size_t i = 0; i < sum->n_terms; i++)
        codec_put_varint(&l->directory,
                         (uint64_t) sum->terms[i].column * 2 + sum->terms[i].is_minus);
}

/* The column's own bytes, which are the last ones in `bytes` and move to the directory if constant.
 */
static void put_entry(struct layout *l, size_t column, uint8_t form, size_t len)
{
    const struct relate_column *c = &l->relate.columns[column];

    end_runs(l);
    if (c->is_marked)
        put_operation(&l->directory, PARTS_MARKED, find_pattern(l, column));
    if (c->sum.n_terms > 0)
        put_terms(l, &c->sum);
    buf_append(&l->directory, &form, 1);
    if ((form & 15) <= CODEC_CONST_BITS) {
        buf_append(&l->directory, l->bytes.data + l->bytes.len - len, len);
        l->bytes.len -= len;
        return;
    }
    codec_put_varint(&l->directory, len);
    if (l->rows->n_rows >= BLOCK_BOUNDS_ROWS)
        put_bounds(c->values, c->is_marked ? marks_of(l->rows, column) : NULL, l->rows->n_rows,
                   &l->directory);
}

/* Tries the column as a sum with others; keeps that when it is shorter than `*len` and `form` are.
 */
static int try_sum(struct layout *l, size_t column, uint8_t *form, size_t *len)
{
    struct relate_column *c = &l->relate.columns[column];
    size_t middle = l->bytes.len, sum_len;
    struct relate_sum sum;
    uint8_t sum_form;
    int r;

    if (!relate_find_sum(&l->relate, column, &sum) ||
        !relate_rest(&l->relate, column, &sum, l->dense))
        return 0;
    r = codec_encode_values(l->work, l->dense, l->rows->n_rows, l->effort, &l->bytes, &sum_form);
    if (r < 0)
        return pass(r);
    sum_len = l->bytes.len - middle;
    /* Reading it takes reading the others: that has to be worth something. */
    if (sum_len + sum_len / 16 + (size_t) 4 * sum.n_terms >= *len) {
        l->bytes.len = middle;
        return 0;
    }
    memmove(l->bytes.data + middle - *len, l->bytes.data + middle, sum_len);
    l->bytes.len = middle - *len + sum_len;
    c->operation = PARTS_SUM;
    c->sum = sum;
    for (size_t i = 0; i < sum.n_terms; i++)
        l->relate.columns[sum.terms[i].column].is_needed = true;
    *form = sum_form;
    *len = sum_len;
    return 0;
}

static int put_values(struct layout *l, size_t column, const double *values, size_t n)
{
    const struct relate_column *c = &l->relate.columns[column];
    size_t start = l->bytes.len, len;
    uint8_t form;
    int r = codec_encode_values(l->work, values, n, l->effort, &l->bytes, &form);

    if (r < 0)
        return pass(r);
    len = l->bytes.len - start;
    if (l->effort == CODEC_SMALL && !c->is_marked && len > n / 8) {
        r = try_sum(l, column, &form, &len);
        if (r < 0)
            return pass(r);
    }
    put_entry(l, column, form, len);
    return 0;
}

/* A share of a limit has many digits, here or there. */
static int try_quotient(struct layout *l, size_t column, bool *ret_is_one)
{
    const struct relate_column *c = &l->relate.columns[column];
    size_t n_rows = l->rows->n_rows;

    *ret_is_one = false;
    if (l->is_plain || !relate_is_free(c) ||
        (parts_is_short(c->values[n_rows - 1]) && parts_is_short(c->values[n_rows / 2])))
        return 0;
    return pass(relate_quotient(&l->relate, column, ret_is_one));
}

static int put_column(struct layout *l, size_t column)
{
    const struct relate_column *c = &l->relate.columns[column];
    size_t n_rows = l->rows->n_rows, n_dense = n_rows;
    const double *values = c->values;
    bool is_quotient;
    int r = try_quotient(l, column, &is_quotient);

    if (r < 0)
        return pass(r);
    if (is_quotient || c->operation == PARTS_SAME) {
        put_relation(l, c);
        return 0;
    }
    if (c->operation == PARTS_SUM) {
        if (!relate_rest(&l->relate, column, &c->sum, l->dense))
            return fault(-ENOTRECOVERABLE, "a sum of columns that is none");
        return pass(put_values(l, column, l->dense, n_rows));
    }
    if (c->is_marked) {
        n_dense = codec_gather(values, marks_of(l->rows, column), n_rows, l->dense);
        values = l->dense;
    }
    if (n_dense == 0) {
        if (l->n_zeros > 0)
            end_runs(l);
        l->n_nones++;
        return 0;
    }
    if (c->is_constant && !c->is_marked && parts_bits(values[0]) == 0) {
        if (l->n_nones > 0)
            end_runs(l);
        l->n_zeros++;
        return 0;
    }
    return pass(put_values(l, column, values, n_dense));
}

static int layout_encode(struct layout *l)
{
    const struct block_rows *rows = l->rows;
    size_t n_rows = rows->n_rows;
    int r;

    ensure(rows->n_columns >= 1 && rows->n_columns <= BLOCK_COLUMNS_MAX);
    ensure(n_rows >= 1 && n_rows <= BLOCK_ROWS_MAX);
    r = relate_init(&l->relate, rows->n_columns, n_rows, l->effort);
    if (r < 0)
        return pass(r);
    l->patterns = calloc(rows->n_columns, sizeof(*l->patterns));
    l->dense = calloc(n_rows, sizeof(*l->dense));
    if (!l->patterns || !l->dense)
        return fault(-ENOMEM, "no memory for a block of %u columns", rows->n_columns);
    for (size_t i = 0; i < rows->n_columns; i++) {
        struct relate_column *c = &l->relate.columns[i];

        c->values = rows->values + i * n_rows;
        c->is_marked = rows->absent && codec_count_marks(marks_of(rows, i), n_rows) > 0;
        c->is_constant = memcmp(c->values, c->values + 1, (n_rows - 1) * sizeof(*c->values)) == 0;
    }
    relate_columns(&l->relate);
    for (size_t i = 0; i < rows->n_columns; i++) {
        r = put_column(l, i);
        if (r < 0)
            return pass(r);
    }
    end_runs(l);
    if (buf_failed(&l->marks) || buf_failed(&l->directory) || buf_failed(&l->bytes))
        return fault(-ENOMEM, "no memory for a block of %u columns", rows->n_columns);
    return 0;
}

/* The block under way: heads, bodies, and where in them each layout's own times stand. */
struct places {
    struct buf heads, bodies;
    size_t *times; /* SIZE_MAX: has none of its own */
    size_t *lens;
};

static void places_deinit(struct places *places)
{
    buf_deinit(&places->heads);
    buf_deinit(&places->bodies);
    free(places->times);
    free(places->lens);
}

/* A layout before this one with the same times, of its own; or this one. */
static size_t
find_times(const struct block_input *input, const struct places *places, size_t layout)
{
    const struct block_rows *rows = &input->layouts[layout];

    for (size_t i = layout; i-- > 0 && layout - i <= TIMES_WINDOW;) {
        const struct block_rows *other = &input->layouts[i];

        if (other->n_rows == rows->n_rows && places->times[i] != SIZE_MAX &&
            (other->times_us == rows->times_us ||
             memcmp(other->times_us, rows->times_us, rows->n_rows * sizeof(int64_t)) == 0))
            return i;
    }
    return layout;
}

/* Appends the layout's head and body where they belong. */
static int put_layout(struct codec_work *work,
                      const struct block_input *input,
                      size_t i,
                      struct places *places)
{
    const struct block_rows *rows = &input->layouts[i];
    CLEANUP(layout_deinit)
    struct layout l = {
        .rows = rows, .work = work, .effort = input->effort, .is_plain = input->is_plain
    };
    size_t start = places->bodies.len, same = find_times(input, places, i);
    struct buf *heads = &places->heads, *bodies = &places->bodies;
    int r = layout_encode(&l);

    if (r < 0)
        return pass(r);
    codec_put_varint(heads, rows->layout);
    codec_put_varint(heads, rows->n_columns);
    codec_put_varint(heads, rows->n_rows);
    if (same == i) {
        r = codec_encode_times(work, rows->times_us, rows->n_rows, input->effort, bodies);
        if (r < 0)
            return pass(r);
        places->times[i] = start;
        places->lens[i] = bodies->len - start;
    } else {
        places->times[i] = SIZE_MAX;
    }
    codec_put_varint(heads, start - places->times[same]);
    codec_put_varint(heads, places->lens[same]);
    codec_put_varint(heads, l.marks.len);
    codec_put_varint(heads, l.directory.len);
    codec_put_varint(heads, l.bytes.len);
    buf_append_span(bodies, buf_span(&l.marks));
    buf_append_span(bodies, buf_span(&l.directory));
    buf_append_span(bodies, buf_span(&l.bytes));
    return 0;
}

static void put_header(const struct block_input *input, bool is_zstd, struct buf *out)
{
    static const uint8_t no_crc[4];
    uint8_t version[2] = { BLOCK_VERSION, is_zstd ? PARTS_ZSTD : 0 };
    int64_t first = INT64_MAX, last = INT64_MIN;
    uint64_t n_rows = 0, n_columns = 0;

    for (size_t i = 0; i < input->n_layouts; i++) {
        const struct block_rows *rows = &input->layouts[i];

        n_rows += rows->n_rows;
        n_columns += rows->n_columns;
        for (size_t k = 0; k < rows->n_rows; k++) {
            first = rows->times_us[k] < first ? rows->times_us[k] : first;
            last = rows->times_us[k] > last ? rows->times_us[k] : last;
        }
    }
    buf_append(out, PARTS_MAGIC, 4);
    buf_append(out, no_crc, sizeof(no_crc));
    buf_append(out, version, sizeof(version));
    codec_put_varint(out, input->agent);
    codec_put_varint(out, codec_zigzag((uint64_t) first));
    codec_put_varint(out, (uint64_t) last - (uint64_t) first);
    codec_put_varint(out, n_rows);
    codec_put_varint(out, n_columns);
    codec_put_varint(out, input->n_layouts);
}

/* Behind the header goes the frame, if it is shorter than what it holds. */
static bool put_compressed(const struct block_input *input, struct span whole, struct buf *out)
{
    size_t start = out->len, room = whole.len, len;
    uint8_t *to;

    if (input->effort == CODEC_FAST || whole.len < ZSTD_WORTH_TRYING || whole.len > PARTS_ZSTD_MAX)
        return false;
    put_header(input, true, out);
    codec_put_varint(out, whole.len);
    to = buf_extend(out, room);
    if (!to)
        return false;
    len = ZSTD_compress(to, room, whole.data, whole.len, ZSTD_LEVEL);
    /* To open it takes time: that has to be worth something. */
    if (ZSTD_isError(len) || len + len / 32 + 8 > whole.len) {
        out->len = start;
        return false;
    }
    out->len = (size_t) (to - out->data) + len;
    return true;
}

int block_encode(struct codec_work *work, const struct block_input *input, struct buf *out)
{
    CLEANUP(places_deinit) struct places places = { 0 };
    size_t start = out->len, n = input->n_layouts;
    struct buf *whole = &places.heads;
    uint32_t crc;

    ensure(n >= 1 && n <= BLOCK_LAYOUTS_MAX);
    places.times = calloc(n, sizeof(*places.times));
    places.lens = calloc(n, sizeof(*places.lens));
    if (!places.times || !places.lens)
        return fault(-ENOMEM, "no memory for a block of %zu layouts", n);
    for (size_t i = 0; i < n; i++) {
        int r = put_layout(work, input, i, &places);

        if (r < 0)
            return pass(r);
    }
    buf_append_span(whole, buf_span(&places.bodies));
    if (buf_failed(whole) || buf_failed(&places.bodies))
        return fault(-ENOMEM, "no memory for a block");
    if (!put_compressed(input, buf_span(whole), out)) {
        put_header(input, false, out);
        buf_append_span(out, buf_span(whole));
    }
    if (buf_failed(out))
        return fault(-ENOMEM, "no memory for a block");
    crc = crc32c(0, out->data + start + PARTS_CHECKED, out->len - start - PARTS_CHECKED);
    for (size_t i = 0; i < 4; i++)
        out->data[start + 4 + i] = (uint8_t) (crc >> 8 * i);
    return 0;
}
