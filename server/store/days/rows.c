/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "server/store/days/scan.h"
#include "server/store/store.h"

#define COLUMNS_FEW 3

/* ---- blocks of a day ---- */

int found_blocks(struct day *day,
                 MDB_txn *txn,
                 const struct find_blocks *find,
                 struct buf *ret,
                 uint64_t *ret_n_damaged)
{
    CLEANUP(db_cursor_closep) MDB_cursor *cursor = NULL;
    uint8_t name[DAY_KEY_BYTES];
    struct day_key from = { .agent = find->agent, .first_us = INT64_MIN };
    MDB_val key = db_val(name, sizeof(name)), value;
    int rc = mdb_cursor_open(txn, day->blocks, &cursor);

    day_key_put(name, &from);
    if (!rc)
        rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    for (; !rc; rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
        struct found_block found;

        if (!day_key_get(key, &found.key)) {
            ++*ret_n_damaged;
            continue;
        }
        if (found.key.agent != find->agent || found.key.first_us >= find->to_us)
            return 0;
        if (found.key.seal > find->seal)
            continue;
        if (!day_prefix_get(key, value, &found.prefix, &found.bytes))
            ++*ret_n_damaged;
        else if (found.prefix.last_us >= find->from_us)
            buf_append(ret, &found, sizeof(found));
        if (buf_failed(ret))
            return fault(-ENOMEM, "no memory for a list of blocks");
    }
    if (rc == MDB_NOTFOUND)
        return 0;
    return db_is_damage(rc) ? STORE_NOT_FOUND : fold(db_check(rc, "cannot read a day"));
}

size_t found_cluster(const struct found_block *blocks, size_t n, size_t first)
{
    int64_t last_us = blocks[first].prefix.last_us;
    size_t end = first + 1;

    while (end < n && blocks[end].key.first_us <= last_us) {
        if (blocks[end].prefix.last_us > last_us)
            last_us = blocks[end].prefix.last_us;
        end++;
    }
    return end;
}

/* ---- rows ---- */

void rows_deinit(struct rows *rows)
{
    free(rows->times_us);
    free(rows->values);
    free(rows->marks);
    free(rows->has_marks);
    *rows = (struct rows){ 0 };
}

int rows_begin(struct rows *rows, size_t n_columns, size_t n_rows)
{
    if (n_columns != rows->n_columns || n_rows > rows->capacity) {
        size_t capacity = n_rows + 16;
        size_t n_words = codec_mark_words(capacity);

        rows_deinit(rows);
        rows->times_us = reallocarray(NULL, capacity, sizeof(*rows->times_us));
        rows->values = reallocarray(NULL, capacity * (n_columns + 1), sizeof(*rows->values));
        rows->marks = reallocarray(NULL, n_words * (n_columns + 1), sizeof(*rows->marks));
        rows->has_marks = calloc(n_columns + 1, sizeof(*rows->has_marks));
        rows->capacity = capacity;
        rows->n_columns = n_columns;
        if (!rows->times_us || !rows->values || !rows->marks || !rows->has_marks) {
            rows_deinit(rows);
            return fault(-ENOMEM, "no memory for %zu rows of %zu columns", n_rows, n_columns);
        }
    }
    rows->n_rows = 0;
    memset(rows->has_marks, 0, n_columns * sizeof(*rows->has_marks));
    return 0;
}

static bool has_any(const uint64_t *marks, size_t n_words)
{
    uint64_t all = 0;

    for (size_t i = 0; i < n_words; i++)
        all |= marks[i];
    return all != 0;
}

/* Sets bits [at, at + n) to those of `from`. */
static void copy_marks(uint64_t *to, size_t at, const uint64_t *from, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t bit = UINT64_C(1) << (at + i) % 64;

        if (codec_marked(from, i))
            to[(at + i) / 64] |= bit;
        else
            to[(at + i) / 64] &= ~bit;
    }
}

static void note_marks(struct rows *rows, size_t column, const uint64_t *from, size_t n)
{
    uint64_t *to = rows_marks(rows, column);

    if (!has_any(from, codec_mark_words(n)) && !rows->has_marks[column])
        return;
    if (!rows->has_marks[column])
        memset(to, 0, codec_mark_words(rows->capacity) * sizeof(*to));
    rows->has_marks[column] = true;
    copy_marks(to, rows->n_rows, from, n);
}

void rows_mark(struct rows *rows, size_t column, size_t row, bool is_absent)
{
    uint64_t *marks = rows_marks(rows, column), bit = UINT64_C(1) << row % 64;

    if (!is_absent && !rows->has_marks[column])
        return;
    if (!rows->has_marks[column])
        memset(marks, 0, codec_mark_words(rows->capacity) * sizeof(*marks));
    rows->has_marks[column] = true;
    marks[row / 64] = is_absent ? marks[row / 64] | bit : marks[row / 64] & ~bit;
}

/* A few columns are found by a walk each, many by an index of all. */
static int read_columns(struct rows *rows,
                        const struct block_part *part,
                        const uint32_t *columns,
                        uint64_t *marks)
{
    size_t n_words = codec_mark_words(part->n_rows);
    double *values = rows->values + rows->n_rows;
    int r = 0;

    if (rows->n_columns > COLUMNS_FEW)
        return block_columns(part, columns, rows->n_columns, rows->capacity, values, marks);
    for (size_t i = 0; i < rows->n_columns && !r; i++)
        r = block_column(part, columns[i], values + i * rows->capacity, marks + i * n_words);
    return r;
}

int rows_add_part(struct rows *rows,
                  const struct block_part *part,
                  const uint32_t *columns,
                  struct buf *room)
{
    size_t n = part->n_rows, n_words = codec_mark_words(n);
    uint64_t *marks;
    int r;

    ensure(n <= rows->capacity - rows->n_rows);
    buf_clear(room);
    marks = buf_extend(room, (rows->n_columns + 1) * n_words * sizeof(*marks));
    if (!marks)
        return fault(-ENOMEM, "no memory for the marks of %zu columns", rows->n_columns);
    r = block_times(part, &rows->times_us[rows->n_rows]);
    if (!r)
        r = read_columns(rows, part, columns, marks);
    for (size_t i = 0; i < rows->n_columns && !r; i++)
        note_marks(rows, i, marks + i * n_words, n);
    if (!r)
        rows->n_rows += n;
    return r < 0 ? pass(r) : r;
}

struct order_key {
    int64_t time_us;
    size_t at;
};

static int by_time(const void *a, const void *b)
{
    const struct order_key *x = a, *y = b;

    if (x->time_us != y->time_us)
        return x->time_us < y->time_us ? -1 : 1;
    return (x->at > y->at) - (x->at < y->at);
}

static void
permute(struct rows *rows, const struct order_key *order, double *values, uint64_t *marks)
{
    size_t n_words = codec_mark_words(rows->capacity);

    for (size_t i = 0; i < rows->n_rows; i++)
        rows->times_us[i] = order[i].time_us;
    for (size_t c = 0; c < rows->n_columns; c++) {
        double *column = rows_column(rows, c);
        uint64_t *from = rows_marks(rows, c);

        memcpy(values, column, rows->n_rows * sizeof(*values));
        for (size_t i = 0; i < rows->n_rows; i++)
            column[i] = values[order[i].at];
        if (!rows->has_marks[c])
            continue;
        memcpy(marks, from, n_words * sizeof(*marks));
        memset(from, 0, n_words * sizeof(*from));
        for (size_t i = 0; i < rows->n_rows; i++) {
            if (codec_marked(marks, order[i].at))
                from[i / 64] |= UINT64_C(1) << i % 64;
        }
    }
}

int rows_sort(struct rows *rows)
{
    struct order_key *order;
    double *values;
    uint64_t *marks;
    bool is_sorted = true;

    for (size_t i = 1; i < rows->n_rows && is_sorted; i++)
        is_sorted = rows->times_us[i - 1] <= rows->times_us[i];
    if (is_sorted)
        return 0;
    order = reallocarray(NULL, rows->n_rows, sizeof(*order));
    values = reallocarray(NULL, rows->n_rows, sizeof(*values));
    marks = reallocarray(NULL, codec_mark_words(rows->capacity), sizeof(*marks));
    if (order && values && marks) {
        for (size_t i = 0; i < rows->n_rows; i++)
            order[i] = (struct order_key){ rows->times_us[i], i };
        qsort(order, rows->n_rows, sizeof(*order), by_time);
        permute(rows, order, values, marks);
    }
    free(values);
    free(marks);
    if (!order || !values || !marks) {
        free(order);
        return fault(-ENOMEM, "no memory to sort %zu rows", rows->n_rows);
    }
    free(order);
    return 0;
}
