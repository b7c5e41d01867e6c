/* SPDX-License-Identifier: Apache-2.0 */
#include "common/json/json.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/ensure.h"
#include "common/base/text.h"

#define MAX_DEPTH ((int) (sizeof(((struct json_writer *) 0)->has_item) / sizeof(bool)) - 1)

/* ---- layout ---- */

static void break_line(const struct json_writer *writer)
{
    if (!writer->is_pretty)
        return;
    buf_append_text(writer->to, "\n");
    for (int i = 0; i < writer->depth; i++)
        buf_append_text(writer->to, "  ");
}

/* What stands between items; a value behind its key has it already. */
static void begin_item(struct json_writer *writer)
{
    if (writer->after_key) {
        writer->after_key = false;
        return;
    }
    if (writer->has_item[writer->depth])
        buf_append_text(writer->to, ",");
    if (writer->depth > 0)
        break_line(writer);
    writer->has_item[writer->depth] = true;
}

static void open_container(struct json_writer *writer, const char *bracket)
{
    begin_item(writer);
    ensure(writer->depth < MAX_DEPTH);
    buf_append_text(writer->to, bracket);
    writer->has_item[++writer->depth] = false;
}

static void close_container(struct json_writer *writer, const char *bracket)
{
    bool has_items = writer->has_item[writer->depth];

    ensure(writer->depth > 0 && !writer->after_key);
    writer->depth--;
    if (has_items)
        break_line(writer);
    buf_append_text(writer->to, bracket);
}

/* ---- text ---- */

/* Length of the UTF-8 character at the start, by RFC 3629 section 4; 0 when there is none. */
static size_t character_len(const unsigned char *c)
{
    unsigned char low = 0x80;
    unsigned char high = 0xbf;
    size_t len;

    if (c[0] < 0x80)
        return 1;
    if (c[0] < 0xc2 || c[0] > 0xf4)
        return 0;
    len = c[0] < 0xe0 ? 2 : c[0] < 0xf0 ? 3 : 4;
    if (c[0] == 0xe0)
        low = 0xa0;
    else if (c[0] == 0xed)
        high = 0x9f;
    else if (c[0] == 0xf0)
        low = 0x90;
    else if (c[0] == 0xf4)
        high = 0x8f;
    if (c[1] < low || c[1] > high)
        return 0;
    for (size_t i = 2; i < len; i++) {
        if (c[i] < 0x80 || c[i] > 0xbf)
            return 0; /* the NUL at the end stops it here */
    }
    return len;
}

static void append_unit(struct buf *to, uint32_t code)
{
    if (code > 0xffff) {
        code -= 0x10000;
        buf_printf(to, "\\u%04x\\u%04x", 0xd800 + (code >> 10), 0xdc00 + (code & 0x3ff));
    } else {
        buf_printf(to, "\\u%04x", code);
    }
}

static void append_escaped(struct buf *to, uint32_t c)
{
    static const char *const short_forms[] = {
        ['"'] = "\\\"", ['\\'] = "\\\\", ['\b'] = "\\b", ['\f'] = "\\f",
        ['\n'] = "\\n", ['\r'] = "\\r",  ['\t'] = "\\t",
    };

    if (c < sizeof(short_forms) / sizeof(*short_forms) && short_forms[c])
        buf_append_text(to, short_forms[c]);
    else
        append_unit(to, c);
}

/* Answers are read on terminals too: what one would act upon (C1 controls, changes of direction) is
 * escaped as the controls of ASCII are. */
static bool is_plain(const unsigned char *at, size_t len, uint32_t *ret_code)
{
    if (len <= 1) {
        *ret_code = *at;
        return len == 1 && *at >= 0x20 && *at != '"' && *at != '\\' && *at != 0x7f;
    }
    return text_utf8_next(span_of(at, len), ret_code) > 0 && text_is_printable(*ret_code);
}

/* Up to the NUL, which is returned. */
static const char *append_characters(struct buf *to, const char *text)
{
    const unsigned char *at = (const unsigned char *) text;
    const unsigned char *run = at; /* begins what is written as it is */

    while (*at) {
        size_t len = character_len(at);
        uint32_t code;

        if (is_plain(at, len, &code)) {
            at += len;
            continue;
        }
        buf_append(to, run, (size_t) (at - run));
        if (len == 0)
            buf_append_text(to, "\xef\xbf\xbd"); /* U+FFFD */
        else
            append_escaped(to, code);
        at += len > 0 ? len : 1;
        run = at;
    }
    buf_append(to, run, (size_t) (at - run));
    return (const char *) at;
}

static void append_quoted(struct buf *to, const char *text)
{
    buf_append_text(to, "\"");
    (void) append_characters(to, text);
    buf_append_text(to, "\"");
}

/* ---- numbers ---- */

/* "1.5e+05" -> "1.5e5": the exponent without what it can do without. */
static void append_scientific(struct buf *to, const char *number)
{
    const char *e = strchr(number, 'e');
    const char *digits = e + 2;

    buf_append(to, number, (size_t) (e - number));
    buf_append_text(to, e[1] == '-' ? "e-" : "e");
    while (digits[0] == '0' && digits[1] != '\0')
        digits++;
    buf_append_text(to, digits);
}

static void append_double(struct buf *to, double value)
{
    char number[64];
    int precision = 0; /* digits behind the first */
    int exponent;

    do {
        snprintf(number, sizeof(number), "%.*e", precision, value);
    } while (strtod(number, NULL) != value && ++precision <= 16);
    exponent = (int) strtol(strchr(number, 'e') + 1, NULL, 10);

    if (exponent < -5 || exponent > 16) {
        append_scientific(to, number);
        return;
    }
    snprintf(number, sizeof(number), "%.*f", precision > exponent ? precision - exponent : 0,
             value);
    buf_append_text(to, number);
}

/* ---- public ---- */

void json_begin(struct json_writer *writer, struct buf *to, bool is_pretty)
{
    *writer = (struct json_writer){ .to = to, .is_pretty = is_pretty };
}

void json_open_object(struct json_writer *writer)
{
    open_container(writer, "{");
}

void json_close_object(struct json_writer *writer)
{
    close_container(writer, "}");
}

void json_open_array(struct json_writer *writer)
{
    open_container(writer, "[");
}

void json_close_array(struct json_writer *writer)
{
    close_container(writer, "]");
}

void json_key(struct json_writer *writer, const char *key)
{
    ensure(!writer->after_key && writer->depth > 0);
    begin_item(writer);
    append_quoted(writer->to, key);
    buf_append_text(writer->to, writer->is_pretty ? ": " : ":");
    writer->after_key = true;
}

void json_text(struct json_writer *writer, const char *text)
{
    begin_item(writer);
    append_quoted(writer->to, text);
}

void json_span(struct json_writer *writer, struct span text)
{
    CLEANUP(buf_deinit) struct buf copy = { 0 };
    const char *at, *end;

    begin_item(writer);
    buf_append_span(&copy, text);
    at = buf_text(&copy);
    end = at + copy.len;
    if (buf_failed(&copy))
        writer->to->has_failed = true;
    buf_append_text(writer->to, "\"");
    while ((at = append_characters(writer->to, at)) < end) {
        buf_append_text(writer->to, "\\u0000");
        at++;
    }
    buf_append_text(writer->to, "\"");
}

void json_u64(struct json_writer *writer, uint64_t value)
{
    begin_item(writer);
    buf_printf(writer->to, "%" PRIu64, value);
}

void json_i64(struct json_writer *writer, int64_t value)
{
    begin_item(writer);
    buf_printf(writer->to, "%" PRId64, value);
}

void json_f64(struct json_writer *writer, double value)
{
    begin_item(writer);
    if (isnan(value))
        buf_append_text(writer->to, "\"NaN\"");
    else if (isinf(value))
        buf_append_text(writer->to, value > 0 ? "\"Infinity\"" : "\"-Infinity\"");
    else
        append_double(writer->to, value);
}

void json_bool(struct json_writer *writer, bool value)
{
    begin_item(writer);
    buf_append_text(writer->to, value ? "true" : "false");
}

void json_null(struct json_writer *writer)
{
    begin_item(writer);
    buf_append_text(writer->to, "null");
}

void json_put_text(struct json_writer *writer, const char *key, const char *text)
{
    json_key(writer, key);
    json_text(writer, text);
}

void json_put_span(struct json_writer *writer, const char *key, struct span text)
{
    json_key(writer, key);
    json_span(writer, text);
}

void json_put_u64(struct json_writer *writer, const char *key, uint64_t value)
{
    json_key(writer, key);
    json_u64(writer, value);
}

void json_put_i64(struct json_writer *writer, const char *key, int64_t value)
{
    json_key(writer, key);
    json_i64(writer, value);
}

void json_put_f64(struct json_writer *writer, const char *key, double value)
{
    json_key(writer, key);
    json_f64(writer, value);
}

void json_put_bool(struct json_writer *writer, const char *key, bool value)
{
    json_key(writer, key);
    json_bool(writer, value);
}
