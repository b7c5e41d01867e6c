/* SPDX-License-Identifier: Apache-2.0 */
#include "common/conf/conf_private.h"

#include <string.h>

/* ---- text ---- */

/* The text is UTF-8: conf_value_set() saw to that. */
static uint32_t next_character(const unsigned char **at)
{
    const unsigned char *c = *at;
    uint32_t character = c[0];
    size_t len = 1;

    if (c[0] >= 0xf0) {
        character = c[0] & 0x07U;
        len = 4;
    } else if (c[0] >= 0xe0) {
        character = c[0] & 0x0fU;
        len = 3;
    } else if (c[0] >= 0xc0) {
        character = c[0] & 0x1fU;
        len = 2;
    }
    for (size_t i = 1; i < len; i++)
        character = character << 6 | (c[i] & 0x3fU);
    *at += len;
    return character;
}

/* What a YAML reader refuses or folds when it stands there as it is (YAML 1.1, 5.1 and 5.4). */
static bool needs_escape(uint32_t character)
{
    return character < 0x20 || (character >= 0x7f && character < 0xa0) || character == 0x2028 ||
           character == 0x2029 || character == 0xfeff || character == 0xfffe || character == 0xffff;
}

static void print_quoted(const char *text, struct buf *to)
{
    const unsigned char *at = (const unsigned char *) text;

    buf_append_text(to, "\"");
    while (*at) {
        const unsigned char *start = at;
        uint32_t character = next_character(&at);

        if (character == '"' || character == '\\')
            buf_printf(to, "\\%c", (int) character);
        else if (character == '\n')
            buf_append_text(to, "\\n");
        else if (character == '\t')
            buf_append_text(to, "\\t");
        else if (needs_escape(character))
            buf_printf(to, "\\u%04x", (unsigned) character);
        else
            buf_append(to, start, (size_t) (at - start));
    }
    buf_append_text(to, "\"");
}

/* ---- sections ---- */

static void indent(size_t depth, struct buf *to)
{
    for (size_t i = 0; i < depth; i++)
        buf_append_text(to, "  ");
}

static void print_row(const struct conf_row *row,
                      const char *key,
                      const void *settings,
                      size_t depth,
                      struct buf *to)
{
    if (row->help) {
        indent(depth, to);
        buf_append_text(to, "# ");
        /* A line break would end the comment. */
        for (const char *c = row->help; *c; c++)
            buf_append(to, *c == '\n' ? " " : c, 1);
        buf_append_text(to, "\n");
    }
    indent(depth, to);
    buf_printf(to, "%s:", key);
    if (row->type == CONF_LIST) {
        const struct conf_list *list = conf_field_const(row, settings);

        if (list->n_items == 0)
            buf_append_text(to, " []");
        for (size_t i = 0; i < list->n_items; i++) {
            buf_append_text(to, "\n");
            indent(depth + 1, to);
            buf_append_text(to, "- ");
            print_quoted(list->items[i], to);
        }
    } else if (row->type == CONF_TEXT) {
        buf_append_text(to, " ");
        print_quoted(*(char *const *) conf_field_const(row, settings), to);
    } else {
        buf_append_text(to, " ");
        conf_value_print(row, settings, to);
    }
    buf_append_text(to, "\n");
}

/* Does an earlier row lie in the same section? */
static bool is_begun(const struct conf_table *table, const struct conf_row *row, size_t len)
{
    for (const struct conf_row *earlier = table->rows; earlier != row; earlier++) {
        if (strncmp(earlier->name, row->name, len) == 0)
            return true;
    }
    return false;
}

/* A section's rows stand together, wherever they are in the table. Recursion is as deep as names
 * have dots. */
static void print_section(const struct conf_table *table,
                          const struct conf_row *first,
                          size_t prefix_len,
                          const void *settings,
                          size_t depth,
                          struct buf *to)
{
    for (const struct conf_row *row = first; row->name; row++) {
        const char *key = row->name + prefix_len;
        const char *dot;
        size_t len;

        if (strncmp(row->name, first->name, prefix_len) != 0)
            continue;
        dot = strchr(key, '.');
        if (!dot) {
            print_row(row, key, settings, depth, to);
            continue;
        }
        len = (size_t) (dot - row->name) + 1;
        if (is_begun(table, row, len))
            continue;
        indent(depth, to);
        buf_printf(to, "%.*s:\n", (int) (dot - key), key);
        print_section(table, row, len, settings, depth + 1, to);
    }
}

void conf_print(const struct conf_table *table, const void *settings, struct buf *to)
{
    if (table->rows->name)
        print_section(table, table->rows, 0, settings, 0, to);
}
