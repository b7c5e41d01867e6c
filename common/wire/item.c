/* SPDX-License-Identifier: Apache-2.0 */
#include "common/wire/item.h"

const char *wire_read_item_slowly(const uint8_t **at, const uint8_t *end, struct wire_item *ret)
{
    const uint8_t *p;
    uint64_t tag, value;

    /* Five bytes for tags and lengths: protobuf-c takes no more. */
    p = wire_read_varint(*at, end, 5, &tag);
    if (!p)
        return "the tag of a field is cut off or too long";
    if (tag >> 3 == 0 || tag >> 3 > WIRE_MAX_FIELD_NUMBER)
        return "a field number is not in 1 .. 536870911";
    ret->number = (uint32_t) (tag >> 3);
    ret->type = (enum wire_type)(tag & 7);

    switch (ret->type) {
    case TYPE_VARINT:
        ret->body.data = p;
        p = wire_read_varint(p, end, 10, &value);
        if (!p)
            return "a number is cut off or longer than ten bytes";
        ret->body.len = (size_t) (p - ret->body.data);
        *at = p;
        return NULL;
    case TYPE_FIXED64:
        value = 8;
        break;
    case TYPE_FIXED32:
        value = 4;
        break;
    case TYPE_BYTES:
        p = wire_read_varint(p, end, 5, &value);
        if (!p)
            return "the length of a field is cut off or too long";
        break;
    case TYPE_GROUP_START:
    case TYPE_GROUP_END:
        return "groups are not taken";
    default:
        return "a wire type is not one of protobuf's";
    }
    if (value > (size_t) (end - p))
        return "the message ends inside a field";
    ret->body = span_of(p, (size_t) value);
    *at = p + value;
    return NULL;
}
