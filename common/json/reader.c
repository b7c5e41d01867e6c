/* SPDX-License-Identifier: Apache-2.0 */
#include "common/json/json.h"

/* Jansson has a function of this name too; ours is hidden from the dynamic linker, and here only
 * ours is declared. */
#define json_null jansson_json_null
#include <jansson.h>
#undef json_null

#include <stdio.h>

#include "common/base/text.h"

#define MAX_NESTING 64

/* `struct json` is jansson's value; nobody else knows. */

static json_t *value_of(const struct json *json)
{
    return (json_t *) (uintptr_t) json;
}

static const struct json *json_of(const json_t *value)
{
    return (const struct json *) (const void *) value;
}

static int refuse(struct json_error *error, size_t line, size_t column, const char *why)
{
    CLEANUP(buf_deinit) struct buf shown = { 0 };

    /* Jansson quotes its input. */
    text_append_printable(&shown, span_of_text(why));
    snprintf(error->text, sizeof(error->text), "%zu:%zu: %s", line, column, buf_text(&shown));
    return JSON_BAD;
}

/* Jansson's own limit is its stack's; ours is checked before it recurses. */
static int check_nesting(struct span text, struct json_error *error)
{
    size_t line = 1;
    size_t line_start = 0;
    int depth = 0;
    bool is_in_text = false;

    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.data[i];

        if (c == '\n') {
            line++;
            line_start = i + 1;
        } else if (is_in_text) {
            if (c == '\\')
                i++;
            else if (c == '"')
                is_in_text = false;
        } else if (c == '"') {
            is_in_text = true;
        } else if (c == '[' || c == '{') {
            if (++depth > MAX_NESTING)
                return refuse(error, line, i - line_start + 1, "nested deeper than 64");
        } else if (c == ']' || c == '}') {
            depth--;
        }
    }
    return 0;
}

int json_parse(struct json **ret, struct span text, struct json_error *ret_error)
{
    json_error_t problem = { 0 };
    json_t *value;

    if (check_nesting(text, ret_error) != 0)
        return JSON_BAD;
    value = json_loadb(text.len ? (const char *) text.data : "", text.len,
                       JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &problem);
    if (!value)
        return refuse(ret_error, problem.line > 0 ? (size_t) problem.line : 1,
                      problem.column > 0 ? (size_t) problem.column : 1, problem.text);
    *ret = (struct json *) (void *) value;
    return 0;
}

struct json *json_free(struct json *json)
{
    json_decref(value_of(json));
    return NULL;
}

const struct json *json_member(const struct json *object, const char *key)
{
    return json_of(json_object_get(value_of(object), key));
}

const struct json *json_item(const struct json *array, size_t at)
{
    return json_of(json_array_get(value_of(array), at));
}

size_t json_count(const struct json *array_or_object)
{
    const json_t *value = value_of(array_or_object);

    /* Both answer 0 for what is of another type, or NULL. */
    return json_is_array(value) ? json_array_size(value) : json_object_size(value);
}

const char *json_get_text(const struct json *value, const char *fallback)
{
    const char *text = json_string_value(value_of(value));

    return text ? text : fallback;
}

int64_t json_get_i64(const struct json *value, int64_t fallback)
{
    return json_is_integer(value_of(value)) ? json_integer_value(value_of(value)) : fallback;
}

double json_get_f64(const struct json *value, double fallback)
{
    return json_is_number(value_of(value)) ? json_number_value(value_of(value)) : fallback;
}

bool json_get_bool(const struct json *value, bool fallback)
{
    return json_is_boolean(value_of(value)) ? json_is_true(value_of(value)) : fallback;
}
