#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * JSON, written as a stream and read as a tree. The only module that knows jansson (for reading).
 *
 * Threads: none.
 */

#include <stdbool.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/cleanup.h"

/*
 * Writer: appends to a buffer; commas, quoting and (when `is_pretty`) line breaks are its business.
 * Text that is not UTF-8 is written with U+FFFD for each bad byte. Keys are borrowed. NaN and
 * infinities become "NaN", "Infinity", "-Infinity" as protobuf's JSON has them.
 */
struct json_writer {
    struct buf *to;
    bool is_pretty;
    int depth;
    bool has_item[32];
    bool after_key;
};

void json_begin(struct json_writer *writer, struct buf *to, bool is_pretty);
void json_open_object(struct json_writer *writer);
void json_close_object(struct json_writer *writer);
void json_open_array(struct json_writer *writer);
void json_close_array(struct json_writer *writer);
void json_key(struct json_writer *writer, const char *key);
void json_text(struct json_writer *writer, const char *text);
/* Text that may hold NUL. */
void json_span(struct json_writer *writer, struct span text);
void json_u64(struct json_writer *writer, uint64_t value);
void json_i64(struct json_writer *writer, int64_t value);
/* The fewest digits that read back to the same double; plain up to 17 places, with an exponent
 * beyond. */
void json_f64(struct json_writer *writer, double value);
void json_bool(struct json_writer *writer, bool value);
void json_null(struct json_writer *writer);

/* key and value in one */
void json_put_text(struct json_writer *writer, const char *key, const char *text);
void json_put_span(struct json_writer *writer, const char *key, struct span text);
void json_put_u64(struct json_writer *writer, const char *key, uint64_t value);
void json_put_i64(struct json_writer *writer, const char *key, int64_t value);
void json_put_f64(struct json_writer *writer, const char *key, double value);
void json_put_bool(struct json_writer *writer, const char *key, bool value);

/* Reader. Values borrow from the document. */
struct json;

enum json_outcome {
    JSON_OK = 0,
    JSON_BAD, /* not JSON; ret_error has line:column and why */
};

struct json_error {
    char text[256];
};

/* Outcomes: JSON_BAD (also on a second equal key, or nesting past 64). */
int json_parse(struct json **ret, struct span text, struct json_error *ret_error) MUST_USE;
struct json *json_free(struct json *json);
DEFINE_CLEANUP(struct json *, json_free);

/* All answer NULL, or the fallback, when there is no such thing or it has another type. */
const struct json *json_member(const struct json *object, const char *key);
const struct json *json_item(const struct json *array, size_t at);
size_t json_count(const struct json *array_or_object);
const char *json_get_text(const struct json *value, const char *fallback);
int64_t json_get_i64(const struct json *value, int64_t fallback);
double json_get_f64(const struct json *value, double fallback);
bool json_get_bool(const struct json *value, bool fallback);
