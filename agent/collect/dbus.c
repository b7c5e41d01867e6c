/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/collect/dbus.h"

#include "common/base/ensure.h"

#define HEADER_BYTES 16
#define VERSION 1
/* The flag of a call: nobody is to be started for it. */
#define NO_AUTO_START 2

/* Codes of header fields. */
enum { PATH = 1, INTERFACE, MEMBER, ERROR_NAME, REPLY_SERIAL, DESTINATION, SENDER, SIGNATURE };

/* A place in bytes that go on from a multiple of 8. */
struct cursor {
    struct span bytes;
    size_t at;
    bool is_big_endian;
    bool is_bad;
};

static uint32_t u32_at(const uint8_t *at, bool is_big_endian)
{
    if (is_big_endian)
        return (uint32_t) at[0] << 24 | (uint32_t) at[1] << 16 | (uint32_t) at[2] << 8 | at[3];
    return (uint32_t) at[3] << 24 | (uint32_t) at[2] << 16 | (uint32_t) at[1] << 8 | at[0];
}

static void align(struct cursor *cursor, size_t to)
{
    size_t at = (cursor->at + to - 1) / to * to;

    if (at > cursor->bytes.len)
        cursor->is_bad = true;
    else
        cursor->at = at;
}

static uint8_t take_u8(struct cursor *cursor)
{
    if (cursor->is_bad || cursor->at >= cursor->bytes.len) {
        cursor->is_bad = true;
        return 0;
    }
    return cursor->bytes.data[cursor->at++];
}

static uint32_t take_u32(struct cursor *cursor)
{
    uint32_t value;

    align(cursor, 4);
    if (cursor->is_bad || cursor->bytes.len - cursor->at < 4) {
        cursor->is_bad = true;
        return 0;
    }
    value = u32_at(cursor->bytes.data + cursor->at, cursor->is_big_endian);
    cursor->at += 4;
    return value;
}

/* `len` bytes and a NUL. */
static struct span take_bytes(struct cursor *cursor, size_t len)
{
    struct span text = { 0 };

    if (cursor->is_bad || cursor->bytes.len - cursor->at <= len ||
        cursor->bytes.data[cursor->at + len] != '\0') {
        cursor->is_bad = true;
        return text;
    }
    text = span_of(cursor->bytes.data + cursor->at, len);
    cursor->at += len + 1;
    return text;
}

static struct span take_text(struct cursor *cursor)
{
    uint32_t len = take_u32(cursor);

    return take_bytes(cursor, len);
}

/* A field is a variant; the types that headers have are s, o, g and u. */
static void take_field(struct cursor *cursor, struct dbus_message *message)
{
    struct span text = { 0 };
    uint32_t number = 0;
    uint8_t code;

    align(cursor, 8);
    code = take_u8(cursor);
    if (take_u8(cursor) != 1) /* the length of the variant's signature */
        cursor->is_bad = true;
    switch (take_u8(cursor)) {
    case 's':
    case 'o':
        (void) take_bytes(cursor, 0);
        text = take_text(cursor);
        break;
    case 'g':
        (void) take_bytes(cursor, 0);
        text = take_bytes(cursor, take_u8(cursor));
        break;
    case 'u':
        (void) take_bytes(cursor, 0);
        number = take_u32(cursor);
        break;
    default:
        cursor->is_bad = true;
    }
    if (cursor->is_bad)
        return;
    if (code == REPLY_SERIAL)
        message->reply_serial = number;
    else if (code == ERROR_NAME)
        message->error_name = text;
    else if (code == SIGNATURE)
        message->signature = text;
}

int dbus_decode(struct span bytes, struct dbus_message *ret, size_t *ret_used)
{
    struct dbus_message message = { 0 };
    struct cursor fields = { 0 };
    size_t fields_bytes, body_bytes, body_at;

    if (bytes.len < HEADER_BYTES)
        return DBUS_MORE;
    if ((bytes.data[0] != 'l' && bytes.data[0] != 'B') || bytes.data[3] != VERSION)
        return DBUS_BAD;
    message.is_big_endian = bytes.data[0] == 'B';
    message.type = bytes.data[1];
    body_bytes = u32_at(bytes.data + 4, message.is_big_endian);
    fields_bytes = u32_at(bytes.data + 12, message.is_big_endian);
    if (body_bytes > DBUS_MAX_BYTES || fields_bytes > DBUS_MAX_BYTES)
        return DBUS_BAD;
    body_at = (HEADER_BYTES + fields_bytes + 7) / 8 * 8;
    if (body_at + body_bytes > DBUS_MAX_BYTES)
        return DBUS_BAD;
    if (bytes.len < body_at + body_bytes)
        return DBUS_MORE;

    fields = (struct cursor){ .bytes = span_of(bytes.data, HEADER_BYTES + fields_bytes),
                              .at = HEADER_BYTES,
                              .is_big_endian = message.is_big_endian };
    while (fields.at < fields.bytes.len && !fields.is_bad)
        take_field(&fields, &message);
    if (fields.is_bad)
        return DBUS_BAD;
    message.body = span_of(bytes.data + body_at, body_bytes);
    *ret = message;
    *ret_used = body_at + body_bytes;
    return DBUS_OK;
}

/* ---- calls ---- */

static void put_u32(struct buf *to, uint32_t value)
{
    const uint8_t bytes[] = { (uint8_t) value, (uint8_t) (value >> 8), (uint8_t) (value >> 16),
                              (uint8_t) (value >> 24) };

    buf_append(to, bytes, sizeof(bytes));
}

static void pad(struct buf *to, size_t begin)
{
    static const uint8_t zeros[8] = { 0 };

    buf_append(to, zeros, (8 - (to->len - begin) % 8) % 8);
}

static void put_field(struct buf *to, size_t begin, uint8_t code, char type, const char *text)
{
    const uint8_t head[] = { code, 1, (uint8_t) type, 0 };

    pad(to, begin);
    buf_append(to, head, sizeof(head));
    put_u32(to, (uint32_t) strlen(text));
    buf_append(to, text, strlen(text) + 1);
}

void dbus_put_call(struct buf *to, const struct dbus_call *call)
{
    const uint8_t head[] = { 'l', DBUS_CALL, NO_AUTO_START, VERSION };
    size_t begin = to->len, fields;
    uint32_t fields_bytes;

    ensure(call->serial != 0);
    buf_append(to, head, sizeof(head));
    put_u32(to, 0);
    put_u32(to, call->serial);
    put_u32(to, 0); /* the bytes of the fields, below */
    fields = to->len;
    put_field(to, begin, PATH, 'o', call->path);
    put_field(to, begin, INTERFACE, 's', call->interface);
    put_field(to, begin, MEMBER, 's', call->member);
    if (call->destination)
        put_field(to, begin, DESTINATION, 's', call->destination);
    if (buf_failed(to))
        return;
    fields_bytes = (uint32_t) (to->len - fields);
    for (size_t i = 0; i < 4; i++)
        to->data[begin + 12 + i] = (uint8_t) (fields_bytes >> 8 * i);
    pad(to, begin);
}

/* ---- units ---- */

int dbus_units_begin(const struct dbus_message *message, struct dbus_units *ret)
{
    struct cursor cursor = { .bytes = message->body, .is_big_endian = message->is_big_endian };
    uint32_t array_bytes;

    if (!span_equal(message->signature, span_of_text("a(ssssssouso)")))
        return DBUS_BAD;
    array_bytes = take_u32(&cursor);
    align(&cursor, 8);
    if (cursor.is_bad || array_bytes != cursor.bytes.len - cursor.at)
        return DBUS_BAD;
    *ret = (struct dbus_units){ .bytes = message->body,
                                .at = cursor.at,
                                .end = cursor.bytes.len,
                                .is_big_endian = message->is_big_endian };
    return DBUS_OK;
}

bool dbus_units_next(struct dbus_units *units, struct dbus_unit *ret)
{
    struct cursor cursor = { .bytes = units->bytes,
                             .at = units->at,
                             .is_big_endian = units->is_big_endian };

    if (units->is_bad || units->at >= units->end)
        return false;
    align(&cursor, 8);
    ret->name = take_text(&cursor);
    (void) take_text(&cursor); /* description */
    ret->load_state = take_text(&cursor);
    ret->active_state = take_text(&cursor);
    ret->sub_state = take_text(&cursor);
    (void) take_text(&cursor); /* followed */
    (void) take_text(&cursor); /* its path */
    (void) take_u32(&cursor);  /* id of a job */
    (void) take_text(&cursor); /* the job's type */
    (void) take_text(&cursor); /* and path */
    units->at = cursor.at;
    units->is_bad = cursor.is_bad;
    return !cursor.is_bad;
}
