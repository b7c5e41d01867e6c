#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Private to common/wire: the fields of a message one by one, as they stand on the wire.
 *
 * Thread: any.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/span.h"

#define WIRE_MAX_FIELD_NUMBER ((1u << 29) - 1)

enum wire_type {
    TYPE_VARINT = 0,
    TYPE_FIXED64 = 1,
    TYPE_BYTES = 2,
    TYPE_GROUP_START = 3,
    TYPE_GROUP_END = 4,
    TYPE_FIXED32 = 5,
};

/* One field. */
struct wire_item {
    uint32_t number;
    enum wire_type type;
    struct span body; /* without the length in front */
};

/* Returns the byte behind, or NULL: cut off, or longer than max bytes. */
static inline const uint8_t *
wire_read_varint(const uint8_t *at, const uint8_t *end, size_t max, uint64_t *ret)
{
    uint64_t value = 0;

    for (size_t i = 0; i < max && at < end; i++, at++) {
        value |= (uint64_t) (*at & 0x7f) << (7 * i);
        if (*at < 0x80) {
            *ret = value;
            return at + 1;
        }
    }
    return NULL;
}

/* Returns NULL and moves *at behind the item, or says what is wrong. */
const char *wire_read_item_slowly(const uint8_t **at, const uint8_t *end, struct wire_item *ret);

/* The same; the common cases, a tag of one byte before a short field, in place. */
static inline const char *
wire_read_item(const uint8_t **at, const uint8_t *end, struct wire_item *ret)
{
    const uint8_t *p = *at;
    size_t len, head = 1;

    if (end - p < 9 || p[0] < 8 || p[0] >= 0x80)
        return wire_read_item_slowly(at, end, ret);
    switch (p[0] & 7) {
    case TYPE_FIXED64:
        len = 8;
        break;
    case TYPE_VARINT:
        if (p[1] >= 0x80)
            return wire_read_item_slowly(at, end, ret);
        len = 1;
        break;
    case TYPE_BYTES:
        head = p[1] < 0x80 ? 2 : 3;
        len = p[1] < 0x80 ? p[1] : (p[1] & 0x7f) | (size_t) p[2] << 7;
        if ((head == 3 && p[2] >= 0x80) || len + head > (size_t) (end - p))
            return wire_read_item_slowly(at, end, ret); /* which has the words too */
        break;
    default:
        return wire_read_item_slowly(at, end, ret);
    }
    ret->number = p[0] >> 3;
    ret->type = (enum wire_type)(p[0] & 7);
    ret->body = span_of(p + head, len);
    *at = p + head + len;
    return NULL;
}

/* The number in an item of TYPE_VARINT. */
static inline uint64_t wire_item_u64(const struct wire_item *item)
{
    uint64_t value = 0;

    (void) wire_read_varint(item->body.data, item->body.data + item->body.len, 10, &value);
    return value;
}
