/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#include "common/base/ensure.h"
#include "common/base/text.h"
#include "server/ctl/ctl.h"

void table_begin(struct table *table, const char *const *headers)
{
    *table = (struct table){ 0 };
    for (size_t i = 0; headers[i]; i++) {
        ensure(i < TABLE_MAX_COLUMNS);
        table->is_right[i] = headers[i][0] == '>';
        table->n_columns++;
        table_add(table, headers[i] + table->is_right[i]);
    }
}

void table_add(struct table *table, const char *text)
{
    text_append_printable(&table->cells, span_of_text(text ? text : ""));
    buf_append(&table->cells, "", 1);
    table->n_cells++;
}

void table_printf(struct table *table, const char *fmt, ...)
{
    struct buf text = { 0 };
    va_list args;

    va_start(args, fmt);
    buf_vprintf(&text, fmt, args);
    va_end(args);
    table_add(table, buf_text(&text));
    buf_deinit(&text);
}

/* Columns that a UTF-8 text takes: its code points. */
static size_t width_of(const char *text)
{
    size_t n = 0;

    for (; *text; text++)
        n += ((unsigned char) *text & 0xc0) != 0x80;
    return n;
}

void table_end(struct table *table, FILE *to)
{
    size_t widths[TABLE_MAX_COLUMNS] = { 0 };
    const char *cell;

    ensure(!buf_failed(&table->cells));
    ensure(table->n_cells % table->n_columns == 0);
    cell = (const char *) table->cells.data;
    for (size_t i = 0; i < table->n_cells; i++, cell += strlen(cell) + 1)
        if (width_of(cell) > widths[i % table->n_columns])
            widths[i % table->n_columns] = width_of(cell);
    cell = (const char *) table->cells.data;
    for (size_t i = 0; i < table->n_cells; i++, cell += strlen(cell) + 1) {
        size_t column = i % table->n_columns;
        int padding = (int) (widths[column] - width_of(cell));
        bool is_last = column + 1 == table->n_columns;

        fprintf(to, "%*s%s%*s%s", table->is_right[column] ? padding : 0, "", cell,
                table->is_right[column] || is_last ? 0 : padding, "", is_last ? "\n" : "  ");
    }
    buf_deinit(&table->cells);
}
