/* SPDX-License-Identifier: Apache-2.0 */
#include "common/wire/scan.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/base/ensure.h"
#include "common/base/text.h"
#include "common/wire/item.h"

/* A message that is being read. */
struct level {
    const ProtobufCMessageDescriptor *type;
    const ProtobufCFieldDescriptor *field; /* the one being read; NULL: none or unknown */
    const uint8_t *start, *end;
    const uint8_t *at;         /* behind what was read */
    const uint8_t *item_start; /* where the item being read begins */
};

struct scan {
    size_t n_levels;
    struct level levels[WIRE_MAX_DEPTH];
};

/* ---- saying what is wrong ---- */

/* How many items of this number stand before the one being read. */
static size_t index_of_item(const struct level *level)
{
    const uint8_t *at = level->start;
    struct wire_item item;
    size_t n = 0;

    while (at < level->item_start && !wire_read_item(&at, level->end, &item)) {
        if (item.number == level->field->id)
            n++;
    }
    return n;
}

static void write_path(const struct scan *scan, struct wire_problem *problem)
{
    size_t len = 0, room = sizeof(problem->field);

    problem->field[0] = '\0';
    for (size_t i = 0; i < scan->n_levels; i++) {
        const struct level *level = &scan->levels[i];
        const ProtobufCFieldDescriptor *field = level->field;
        char index[24] = "";
        int n;

        if (!field)
            break;
        if (field->label == PROTOBUF_C_LABEL_REPEATED)
            snprintf(index, sizeof(index), "[%zu]", index_of_item(level));
        n = snprintf(problem->field + len, room - len, "%s%s%s", i ? "." : "", field->name, index);
        ensure(n > 0);
        len += (size_t) n;
        if (len >= room) {
            memcpy(problem->field + room - sizeof("..."), "...", sizeof("..."));
            break;
        }
    }
}

static int
complain(const struct scan *scan, struct wire_problem *problem, int outcome, const char *fmt, ...)
    PRINTF_LIKE(4, 5);

static int
complain(const struct scan *scan, struct wire_problem *problem, int outcome, const char *fmt, ...)
{
    va_list args;

    write_path(scan, problem);
    va_start(args, fmt);
    vsnprintf(problem->description, sizeof(problem->description), fmt, args);
    va_end(args);
    return outcome;
}

/* ---- fields ---- */

static const ProtobufCFieldDescriptor *find_field(const struct level *level, uint32_t number)
{
    const ProtobufCFieldDescriptor *last = level->field;
    const ProtobufCMessageDescriptor *type = level->type;

    /* Fields come in rising order, repeated ones in a row. */
    if (last && last->id == number)
        return last;
    if (last && last + 1 < type->fields + type->n_fields && last[1].id == number)
        return last + 1;
    return protobuf_c_message_descriptor_get_field(type, number);
}

static enum wire_type type_of_field(const ProtobufCFieldDescriptor *field)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_BOOL:
    case PROTOBUF_C_TYPE_ENUM:
        return TYPE_VARINT;
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return TYPE_FIXED64;
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
        return TYPE_FIXED32;
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE:
        break;
    }
    return TYPE_BYTES;
}

/* The elements of a packed array are not visited: their size is enough, or that the last one ends.
 */
static bool is_whole_array(enum wire_type element, struct span body)
{
    if (element == TYPE_FIXED64)
        return body.len % 8 == 0;
    if (element == TYPE_FIXED32)
        return body.len % 4 == 0;
    return body.len == 0 || body.data[body.len - 1] < 0x80;
}

/* No byte is 0 or above 0x7f; eight at a time. */
static bool is_plain(struct span text)
{
    const uint64_t ones = UINT64_C(0x0101010101010101), tops = UINT64_C(0x8080808080808080);
    size_t i = 0;

    for (; i + 8 <= text.len; i += 8) {
        uint64_t word;

        memcpy(&word, text.data + i, 8);
        /* The borrow of a zero byte sets a top bit; without one nothing borrows. */
        if ((word | (word - ones)) & tops)
            return false;
    }
    for (; i < text.len; i++) {
        if (text.data[i] == 0 || text.data[i] > 0x7f)
            return false;
    }
    return true;
}

static int check_text(const struct scan *scan, struct span text, struct wire_problem *problem)
{
    if (is_plain(text))
        return WIRE_OK;
    if (memchr(text.data, 0, text.len))
        return complain(scan, problem, WIRE_BAD_TEXT,
                        "a NUL in text; strings are UTF-8 without NUL");
    if (!text_is_utf8(text.data, text.len))
        return complain(scan, problem, WIRE_BAD_TEXT,
                        "not UTF-8; other bytes belong in a field of type bytes");
    return WIRE_OK;
}

static int push_level(struct scan *scan,
                      const ProtobufCMessageDescriptor *type,
                      struct span body,
                      struct wire_problem *problem)
{
    struct level *level;

    if (scan->n_levels == WIRE_MAX_DEPTH)
        return complain(scan, problem, WIRE_TOO_DEEP, "nested deeper than %d messages",
                        WIRE_MAX_DEPTH);
    level = &scan->levels[scan->n_levels++];
    level->type = type;
    level->field = NULL;
    level->start = level->at = level->item_start = body.data;
    level->end = body.data + body.len;
    return WIRE_OK;
}

static int check_item(struct scan *scan,
                      const ProtobufCFieldDescriptor *field,
                      const struct wire_item *item,
                      struct wire_problem *problem)
{
    enum wire_type expected = type_of_field(field);

    if (item->type == TYPE_BYTES && expected != TYPE_BYTES &&
        field->label == PROTOBUF_C_LABEL_REPEATED) {
        if (!is_whole_array(expected, item->body))
            return complain(scan, problem, WIRE_MALFORMED,
                            "the last element of a packed array is cut off");
        return WIRE_OK;
    }
    if (item->type != expected)
        return complain(scan, problem, WIRE_MALFORMED, "wire type %d where %d belongs",
                        (int) item->type, (int) expected);
    if (field->type == PROTOBUF_C_TYPE_STRING)
        return check_text(scan, item->body, problem);
    if (field->type == PROTOBUF_C_TYPE_MESSAGE)
        return push_level(scan, field->descriptor, item->body, problem);
    return WIRE_OK;
}

int wire_scan(const ProtobufCMessageDescriptor *type,
              struct span bytes,
              struct wire_problem *ret_problem)
{
    struct scan scan; /* levels are set when they are pushed: clearing them all would cost more */
    int r;

    scan.n_levels = 0;
    r = push_level(&scan, type, bytes, ret_problem);
    while (r == WIRE_OK && scan.n_levels > 0) {
        struct level *level = &scan.levels[scan.n_levels - 1];
        struct wire_item item;
        const char *wrong;

        if (level->at == level->end) {
            scan.n_levels--;
            continue;
        }
        level->item_start = level->at;
        wrong = wire_read_item(&level->at, level->end, &item);
        if (wrong) {
            level->field = NULL; /* the last one was whole: what is wrong is its message */
            return complain(&scan, ret_problem, WIRE_MALFORMED, "%s, at byte %td of %s", wrong,
                            level->item_start - bytes.data, type->name);
        }
        level->field = find_field(level, item.number);
        if (level->field)
            r = check_item(&scan, level->field, &item, ret_problem);
    }
    return r;
}
