/* SPDX-License-Identifier: Apache-2.0 */
#include "server/front/chunk.h"

#define TAG_CHUNK 0x12u  /* field 2, length-delimited: of both requests */
#define TAG_OFFSET 0x08u /* field 1, varint */
#define TAG_DATA 0x12u   /* field 2, length-delimited */

/* Moves on; false: it is cut, or longer than ten bytes, or more than 64 bits. */
static bool read_varint(const uint8_t **at, const uint8_t *end, uint64_t *ret)
{
    uint64_t value = 0;

    for (unsigned shift = 0; shift < 70 && *at < end; shift += 7) {
        const uint8_t byte = *(*at)++;

        if (shift == 63 && byte > 1)
            return false;
        value |= (uint64_t) (byte & 0x7f) << shift;
        if (!(byte & 0x80)) {
            *ret = value;
            return true;
        }
    }
    return false;
}

bool chunk_scan(struct span message, uint64_t *ret_offset, struct span *ret_data)
{
    const uint8_t *at = message.data, *end = message.data + message.len;
    uint64_t len, offset = 0;

    if (message.len < 2 || *at++ != TAG_CHUNK || !read_varint(&at, end, &len) ||
        len != (uint64_t) (end - at))
        return false;
    if (at < end && *at == TAG_OFFSET) {
        at++;
        if (!read_varint(&at, end, &offset))
            return false;
    }
    if (at >= end || *at++ != TAG_DATA || !read_varint(&at, end, &len) ||
        len != (uint64_t) (end - at))
        return false;
    *ret_offset = offset;
    *ret_data = span_of(at, (size_t) len);
    return true;
}
