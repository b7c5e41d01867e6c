/* SPDX-License-Identifier: Apache-2.0 */
#include "common/conf/conf_private.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/text.h"

int conf_refuse(struct conf_error *error, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vsnprintf(error->text, sizeof(error->text), fmt, args);
    va_end(args);
    return CONF_BAD;
}

const char *conf_shown(const char *text, char to[static CONF_SHOWN_BYTES])
{
    CLEANUP(buf_deinit) struct buf shown = { 0 };

    text_append_printable(&shown, span_of_text(text));
    if (shown.len < CONF_SHOWN_BYTES) {
        memcpy(to, buf_text(&shown), shown.len + 1);
    } else {
        size_t len = CONF_SHOWN_BYTES - 4;

        while (len > 0 && (shown.data[len] & 0xc0) == 0x80)
            len--;
        memcpy(to, shown.data, len);
        memcpy(to + len, "...", 4);
    }
    return to;
}

void *conf_field(const struct conf_row *row, void *settings)
{
    return (char *) settings + row->offset;
}

const void *conf_field_const(const struct conf_row *row, const void *settings)
{
    return (const char *) settings + row->offset;
}

const struct conf_row *conf_row_find(const struct conf_table *table, const char *name)
{
    for (const struct conf_row *row = table->rows; row->name; row++) {
        if (strcmp(row->name, name) == 0)
            return row;
    }
    return NULL;
}

const char *conf_type_words(enum conf_type type)
{
    switch (type) {
    case CONF_BOOL:
        return "true or false";
    case CONF_U64:
        return "a whole number";
    case CONF_DURATION:
        return "a duration such as 30s";
    case CONF_SIZE:
        return "a size such as 64MiB";
    case CONF_TEXT:
        return "a text";
    case CONF_CHOICE:
        return "one of a few words";
    case CONF_LIST:
        return "a list";
    }
    ensure(!"a type of the enum");
    return NULL;
}

/* Exact, unlike text_of_size(): what is printed is read again. */
static void print_size(uint64_t bytes, struct buf *to)
{
    static const char *const units[] = { "", "KiB", "MiB", "GiB", "TiB" };
    size_t unit = 0;

    while (bytes != 0 && bytes % 1024 == 0 && unit + 1 < sizeof(units) / sizeof(*units)) {
        bytes /= 1024;
        unit++;
    }
    buf_printf(to, "%" PRIu64 "%s", bytes, units[unit]);
}

static void print_number(enum conf_type type, int64_t number, struct buf *to)
{
    char duration[TEXT_DURATION_BYTES];

    if (type == CONF_SIZE)
        print_size((uint64_t) number, to);
    else if (type == CONF_DURATION)
        buf_append_text(to, text_of_duration_us(number, duration));
    else if (type == CONF_TEXT)
        buf_printf(to, "%" PRId64 " bytes", number);
    else if (type == CONF_LIST)
        buf_printf(to, "%" PRId64 " items", number);
    else
        buf_printf(to, "%" PRId64, number);
}

/* ---- bounds ---- */

static bool is_unsigned(const struct conf_row *row)
{
    return row->type != CONF_DURATION;
}

/* `number` holds the bits of an unsigned one where the type is unsigned. */
static int check_bounds(const struct conf_row *row,
                        const struct conf_value *value,
                        int64_t number,
                        struct conf_error *ret_error)
{
    CLEANUP(buf_deinit) struct buf bounds = { 0 };
    bool has_max = row->max >= row->min;
    bool is_low;
    bool is_high;

    if (row->min == 0 && row->max == 0)
        return 0;
    if (is_unsigned(row)) {
        is_low = row->min > 0 && (uint64_t) number < (uint64_t) row->min;
        is_high = has_max && (uint64_t) number > (uint64_t) row->max;
    } else {
        is_low = number < row->min;
        is_high = has_max && number > row->max;
    }
    if (!is_low && !is_high)
        return 0;

    if (has_max) {
        print_number(row->type, row->min, &bounds);
        buf_append_text(&bounds, " .. ");
        print_number(row->type, row->max, &bounds);
    } else {
        buf_append_text(&bounds, "at least ");
        print_number(row->type, row->min, &bounds);
    }
    if (row->type == CONF_TEXT || row->type == CONF_LIST)
        return conf_refuse(ret_error, "%s: `%s` has %" PRIu64 " %s, but must have %s", value->where,
                           row->name, (uint64_t) number, row->type == CONF_TEXT ? "bytes" : "items",
                           buf_text(&bounds));

    char shown[CONF_SHOWN_BYTES];
    return conf_refuse(ret_error, "%s: `%s` is %s, but must be %s", value->where, row->name,
                       conf_shown(value->text, shown), buf_text(&bounds));
}

/* ---- setting, by type ---- */

static int refuse_type(const struct conf_row *row,
                       const struct conf_value *value,
                       struct conf_error *ret_error)
{
    CLEANUP(buf_deinit) struct buf words = { 0 };
    bool is_text_for_plain = value->is_quoted && (row->type == CONF_BOOL || row->type == CONF_U64);
    char shown[CONF_SHOWN_BYTES];

    if (row->type == CONF_CHOICE) {
        buf_append_text(&words, "one of ");
        for (size_t i = 0; row->choices[i]; i++)
            buf_printf(&words, "%s%s", i ? ", " : "", row->choices[i]);
    } else {
        buf_append_text(&words, conf_type_words(row->type));
    }
    return conf_refuse(ret_error, "%s: `%s` must be %s, not %s`%s`", value->where, row->name,
                       buf_text(&words), is_text_for_plain ? "the text " : "",
                       conf_shown(value->text, shown));
}

static int set_bool(const struct conf_row *row,
                    const struct conf_value *value,
                    void *settings,
                    struct conf_error *ret_error)
{
    bool is_true = strcmp(value->text, "true") == 0;

    if (value->is_quoted || (!is_true && strcmp(value->text, "false") != 0))
        return refuse_type(row, value, ret_error);
    *(bool *) conf_field(row, settings) = is_true;
    return 0;
}

static int set_number(const struct conf_row *row,
                      const struct conf_value *value,
                      void *settings,
                      struct conf_error *ret_error)
{
    uint64_t number = 0;
    int64_t duration = 0;
    int r;

    if (row->type == CONF_DURATION) {
        r = text_to_duration_us(value->text, &duration);
        number = (uint64_t) duration;
    } else if (row->type == CONF_SIZE) {
        r = text_to_size(value->text, &number);
    } else {
        r = value->is_quoted ? TEXT_BAD : text_to_u64(value->text, &number);
    }
    if (r != 0)
        return r < 0 ? pass(r) : refuse_type(row, value, ret_error);
    r = check_bounds(row, value, (int64_t) number, ret_error);
    if (r != 0)
        return r;

    if (row->type == CONF_DURATION)
        *(int64_t *) conf_field(row, settings) = duration;
    else
        *(uint64_t *) conf_field(row, settings) = number;
    return 0;
}

static int set_choice(const struct conf_row *row,
                      const struct conf_value *value,
                      void *settings,
                      struct conf_error *ret_error)
{
    for (unsigned i = 0; row->choices[i]; i++) {
        if (strcmp(row->choices[i], value->text) == 0) {
            *(unsigned *) conf_field(row, settings) = i;
            return 0;
        }
    }
    return refuse_type(row, value, ret_error);
}

/* Only UTF-8 can be printed as YAML again. */
static int check_utf8(const struct conf_row *row,
                      const struct conf_value *value,
                      const char *text,
                      struct conf_error *ret_error)
{
    if (text_is_utf8(text, strlen(text)))
        return 0;
    return conf_refuse(ret_error, "%s: `%s` is not UTF-8", value->where, row->name);
}

static int set_text(const struct conf_row *row,
                    const struct conf_value *value,
                    void *settings,
                    struct conf_error *ret_error)
{
    char **field = conf_field(row, settings);
    char *copy;
    int r;

    r = check_utf8(row, value, value->text, ret_error);
    if (r == 0)
        r = check_bounds(row, value, (int64_t) strlen(value->text), ret_error);
    if (r != 0)
        return r;
    copy = strdup(value->text);
    if (!copy)
        return fault(-ENOMEM, "no memory for the setting %s", row->name);
    free(*field);
    *field = copy;
    return 0;
}

static void list_free(struct conf_list *list)
{
    for (size_t i = 0; i < list->n_items; i++)
        free(list->items[i]);
    free(list->items);
    *list = (struct conf_list){ 0 };
}

static int list_add(struct conf_list *list, const char *text, size_t len)
{
    char **items = realloc(list->items, (list->n_items + 1) * sizeof(*items));

    if (!items)
        return fault(-ENOMEM, "no memory for a list of settings");
    list->items = items;
    items[list->n_items] = strndup(text, len);
    if (!items[list->n_items])
        return fault(-ENOMEM, "no memory for a list of settings");
    list->n_items++;
    return 0;
}

/* "a, b,c": blanks around an item and empty items are dropped. */
static int list_add_split(struct conf_list *list, const char *text)
{
    while (*text) {
        size_t len = strcspn(text, ",");
        const char *next = text + len + (text[len] == ',');
        int r;

        while (len > 0 && (*text == ' ' || *text == '\t'))
            text++, len--;
        while (len > 0 && (text[len - 1] == ' ' || text[len - 1] == '\t'))
            len--;
        r = len > 0 ? list_add(list, text, len) : 0;
        if (r != 0)
            return pass(r);
        text = next;
    }
    return 0;
}

static int set_list(const struct conf_row *row,
                    const struct conf_value *value,
                    void *settings,
                    struct conf_error *ret_error)
{
    struct conf_list *field = conf_field(row, settings);
    struct conf_list list = { 0 };
    int r = 0;

    for (size_t i = 0; r == 0 && value->is_more && i < field->n_items; i++)
        r = list_add(&list, field->items[i], strlen(field->items[i]));
    for (size_t i = 0; r == 0 && value->items && i < value->n_items; i++)
        r = list_add(&list, value->items[i], strlen(value->items[i]));
    if (r == 0 && !value->items && value->text)
        r = list_add_split(&list, value->text);
    for (size_t i = 0; r == 0 && i < list.n_items; i++)
        r = check_utf8(row, value, list.items[i], ret_error);
    if (r == 0)
        r = check_bounds(row, value, (int64_t) list.n_items, ret_error);
    list_free(r == 0 ? field : &list);
    if (r == 0)
        *field = list;
    return pass(r);
}

int conf_value_set(const struct conf_row *row,
                   const struct conf_value *value,
                   void *settings,
                   struct conf_error *ret_error)
{
    ensure(value->text || row->type == CONF_LIST);
    switch (row->type) {
    case CONF_BOOL:
        return set_bool(row, value, settings, ret_error);
    case CONF_U64:
    case CONF_DURATION:
    case CONF_SIZE:
        return set_number(row, value, settings, ret_error);
    case CONF_TEXT:
        return set_text(row, value, settings, ret_error);
    case CONF_CHOICE:
        return set_choice(row, value, settings, ret_error);
    case CONF_LIST:
        return set_list(row, value, settings, ret_error);
    }
    ensure(!"a type of the enum");
    return CONF_BAD;
}

void conf_value_free(const struct conf_row *row, void *settings)
{
    if (row->type == CONF_TEXT) {
        char **field = conf_field(row, settings);

        free(*field);
        *field = NULL;
    } else if (row->type == CONF_LIST) {
        list_free(conf_field(row, settings));
    }
}

static bool lists_equal(const struct conf_list *a, const struct conf_list *b)
{
    if (a->n_items != b->n_items)
        return false;
    for (size_t i = 0; i < a->n_items; i++) {
        if (strcmp(a->items[i], b->items[i]) != 0)
            return false;
    }
    return true;
}

bool conf_value_equal(const struct conf_row *row, const void *a, const void *b)
{
    const void *left = conf_field_const(row, a);
    const void *right = conf_field_const(row, b);

    switch (row->type) {
    case CONF_BOOL:
        return *(const bool *) left == *(const bool *) right;
    case CONF_U64:
    case CONF_SIZE:
        return *(const uint64_t *) left == *(const uint64_t *) right;
    case CONF_DURATION:
        return *(const int64_t *) left == *(const int64_t *) right;
    case CONF_TEXT:
        return strcmp(*(char *const *) left, *(char *const *) right) == 0;
    case CONF_CHOICE:
        return *(const unsigned *) left == *(const unsigned *) right;
    case CONF_LIST:
        return lists_equal(left, right);
    }
    ensure(!"a type of the enum");
    return false;
}

void conf_value_print(const struct conf_row *row, const void *settings, struct buf *to)
{
    const void *field = conf_field_const(row, settings);

    ensure(row->type != CONF_TEXT && row->type != CONF_LIST);
    if (row->type == CONF_BOOL)
        buf_append_text(to, *(const bool *) field ? "true" : "false");
    else if (row->type == CONF_CHOICE)
        buf_append_text(to, row->choices[*(const unsigned *) field]);
    else if (row->type == CONF_U64)
        buf_printf(to, "%" PRIu64, *(const uint64_t *) field);
    else if (row->type == CONF_SIZE)
        print_size(*(const uint64_t *) field, to);
    else
        print_number(row->type, *(const int64_t *) field, to);
}
