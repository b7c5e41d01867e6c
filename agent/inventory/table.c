/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/inventory/table.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/text.h"
#include "common/crypto/crypto.h"

#define ELLIPSIS "\xe2\x80\xa6"    /* U+2026 */
#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

/* ---- putting ---- */

static void put_valid(struct buf *to, struct span text)
{
    size_t begin = 0;

    /* The wire's texts end at a NUL. */
    if (text.len == 0 || (text_is_utf8(text.data, text.len) && !memchr(text.data, 0, text.len))) {
        buf_append_span(to, text);
        return;
    }
    for (size_t at = 0; at < text.len;) {
        uint32_t code;
        size_t n = text_utf8_next(span_of(text.data + at, text.len - at), &code);

        if (n > 0 && code != 0) {
            at += n;
            continue;
        }
        buf_append(to, text.data + begin, at - begin);
        buf_append_text(to, REPLACEMENT);
        begin = ++at;
    }
    buf_append(to, text.data + begin, text.len - begin);
}

/* Down to what the hub takes, with an ellipsis; `begin` is where the value does. */
static void cut_value(struct table *t, size_t begin)
{
    struct buf *values = &t->to->values;
    size_t len = TABLE_MAX_VALUE_BYTES - (sizeof(ELLIPSIS) - 1);

    while ((values->data[begin + len] & 0xc0) == 0x80)
        len--;
    values->len = begin + len;
    buf_append_text(values, ELLIPSIS);
    t->to->is_cut = true;
    snprintf(t->to->why, sizeof(t->to->why), "a value of more than %d bytes was cut",
             TABLE_MAX_VALUE_BYTES);
}

void table_put_span(struct table *t, struct span value)
{
    struct buf *values = &t->to->values;
    uint32_t len = 0;
    size_t at;

    if (t->n_put == t->to->n_columns || t->is_full)
        return;
    if (t->n_put == 0)
        t->row_begins = values->len;
    at = values->len;
    buf_append(values, &len, sizeof(len));
    if (value.len > TABLE_MAX_VALUE_BYTES + 1)
        value.len = TABLE_MAX_VALUE_BYTES + 1;
    put_valid(values, value);
    if (!buf_failed(values) && values->len - at - sizeof(len) > TABLE_MAX_VALUE_BYTES)
        cut_value(t, at + sizeof(len));
    if (buf_failed(values))
        return;
    len = (uint32_t) (values->len - at - sizeof(len));
    memcpy(values->data + at, &len, sizeof(len));
    t->n_put++;
}

void table_put(struct table *t, const char *value)
{
    table_put_span(t, span_of_text(value ? value : ""));
}

void table_put_format(struct table *t, const char *fmt, ...)
{
    va_list args;

    buf_clear(&t->word);
    va_start(args, fmt);
    buf_vprintf(&t->word, fmt, args);
    va_end(args);
    table_put_span(t, buf_span(&t->word));
}

void table_put_u64(struct table *t, uint64_t value)
{
    table_put_format(t, "%llu", (unsigned long long) value);
}

void table_put_i64(struct table *t, int64_t value)
{
    table_put_format(t, "%lld", (long long) value);
}

void table_end_row(struct table *t)
{
    struct inventory_table *to = t->to;

    if (t->is_full)
        return;
    while (t->n_put < to->n_columns && !buf_failed(&to->values))
        table_put(t, "");
    t->n_put = 0;
    if (to->n_rows == t->max_rows || to->values.len > t->max_bytes) {
        to->values.len = t->row_begins;
        to->is_cut = t->is_full = true;
        snprintf(to->why, sizeof(to->why),
                 "more than %llu rows or %llu bytes (inventory.max_rows, inventory.max_table_size)",
                 (unsigned long long) t->max_rows, (unsigned long long) t->max_bytes);
        return;
    }
    to->n_rows++;
}

void table_absent(struct table *t)
{
    t->is_absent = true;
}

void table_unreadable(struct table *t, const char *what, int error)
{
    t->is_unreadable = true;
    snprintf(t->to->why, sizeof(t->to->why), "%.100s: %s", what, strerror(error));
}

void table_failed(struct table *t, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    (void) vsnprintf(t->to->why, sizeof(t->to->why), fmt, args);
    va_end(args);
    t->is_unreadable = t->is_failed = t->is_full = true;
    t->n_put = 0;
    t->to->n_rows = 0;
    t->to->is_cut = false;
    buf_deinit(&t->to->values);
}

/* ---- canonical ---- */

bool inventory_next_value(const struct inventory_table *table, size_t *at, struct span *ret)
{
    uint32_t len;

    if (*at + sizeof(len) > table->values.len)
        return false;
    memcpy(&len, table->values.data + *at, sizeof(len));
    ensure(len <= table->values.len - *at - sizeof(len));
    *ret = span_of(table->values.data + *at + sizeof(len), len);
    *at += sizeof(len) + len;
    return true;
}

struct row {
    const uint8_t *from; /* its first value's length */
    size_t len, n_columns;
};

static int by_values(const void *a, const void *b)
{
    const struct row *left = a, *right = b;
    const uint8_t *x = left->from, *y = right->from;

    for (size_t i = 0; i < left->n_columns; i++) {
        uint32_t n, m;
        int order;

        memcpy(&n, x, sizeof(n));
        memcpy(&m, y, sizeof(m));
        x += sizeof(n);
        y += sizeof(m);
        order = memcmp(x, y, n < m ? n : m);
        if (order == 0)
            order = n < m ? -1 : n > m;
        if (order != 0)
            return order;
        x += n;
        y += m;
    }
    return 0;
}

static int sort(struct inventory_table *table)
{
    struct row *rows = calloc(table->n_rows + 1, sizeof(*rows));
    struct buf sorted = { 0 };
    struct span value;
    size_t at = 0;

    if (!rows)
        return fault(-ENOMEM, "no memory for %llu rows", (unsigned long long) table->n_rows);
    for (uint64_t i = 0; i < table->n_rows; i++) {
        size_t begin = at;

        for (size_t c = 0; c < table->n_columns; c++)
            ensure(inventory_next_value(table, &at, &value));
        rows[i] = (struct row){ table->values.data + begin, at - begin, table->n_columns };
    }
    ensure(at == table->values.len);
    if (table->n_rows > 1)
        qsort(rows, table->n_rows, sizeof(*rows), by_values);
    for (uint64_t i = 0; i < table->n_rows; i++)
        buf_append(&sorted, rows[i].from, rows[i].len);
    free(rows);
    if (buf_failed(&sorted)) {
        buf_deinit(&sorted);
        return fault(-ENOMEM, "no memory for a table");
    }
    buf_deinit(&table->values);
    table->values = sorted;
    return 0;
}

static void hash_number(struct crypto_hash *hash, size_t number)
{
    const uint8_t bytes[4] = { (uint8_t) number, (uint8_t) (number >> 8), (uint8_t) (number >> 16),
                               (uint8_t) (number >> 24) };

    crypto_hash_update(hash, span_of(bytes, sizeof(bytes)));
}

static int hash_table(struct inventory_table *table)
{
    struct crypto_hash *hash = crypto_hash_new();
    struct span value;
    size_t at = 0;

    if (!hash)
        return fault(-ENOMEM, "no memory for a hash");
    hash_number(hash, table->n_columns);
    for (size_t i = 0; i < table->n_columns; i++) {
        struct span name = span_of_text(table->columns[i]);

        hash_number(hash, name.len);
        crypto_hash_update(hash, name);
    }
    while (inventory_next_value(table, &at, &value)) {
        hash_number(hash, value.len);
        crypto_hash_update(hash, value);
    }
    crypto_hash_finish(hash, table->sha256);
    crypto_hash_free(hash);
    return 0;
}

int table_finish(struct table *t)
{
    int r;

    if (t->n_put > 0)
        table_end_row(t);
    if (buf_failed(&t->to->values))
        return fault(-ENOMEM, "no memory for the table %s", t->to->name);
    r = sort(t->to);
    return r ? pass(r) : pass(hash_table(t->to));
}
