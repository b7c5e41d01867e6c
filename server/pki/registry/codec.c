/* SPDX-License-Identifier: Apache-2.0 */
#include "server/pki/registry/codec.h"

#include <string.h>

#include "common/base/ensure.h"

void pki_put_u8(struct buf *to, uint8_t value)
{
    buf_append(to, &value, 1);
}

static void put_number(struct buf *to, uint64_t value, size_t n_bytes)
{
    uint8_t bytes[8];

    for (size_t i = 0; i < n_bytes; i++)
        bytes[i] = (uint8_t) (value >> (8 * i));
    buf_append(to, bytes, n_bytes);
}

void pki_put_u32(struct buf *to, uint32_t value)
{
    put_number(to, value, 4);
}

void pki_put_u64(struct buf *to, uint64_t value)
{
    put_number(to, value, 8);
}

void pki_put_span(struct buf *to, struct span bytes)
{
    ensure(bytes.len <= UINT16_MAX);
    put_number(to, bytes.len, 2);
    buf_append_span(to, bytes);
}

void pki_put_text(struct buf *to, const char *text)
{
    pki_put_span(to, span_of_text(text));
}

static struct span take_front(struct pki_reader *reader, size_t len)
{
    if (reader->is_bad || reader->rest.len < len) {
        reader->is_bad = true;
        return span_of(NULL, 0);
    }
    struct span front = span_of(reader->rest.data, len);
    reader->rest = span_of(reader->rest.data + len, reader->rest.len - len);
    return front;
}

static uint64_t get_number(struct pki_reader *reader, size_t n_bytes)
{
    struct span bytes = take_front(reader, n_bytes);
    uint64_t value = 0;

    for (size_t i = bytes.len; i-- > 0;)
        value = value << 8 | bytes.data[i];
    return value;
}

uint8_t pki_get_u8(struct pki_reader *reader)
{
    return (uint8_t) get_number(reader, 1);
}

uint32_t pki_get_u32(struct pki_reader *reader)
{
    return (uint32_t) get_number(reader, 4);
}

uint64_t pki_get_u64(struct pki_reader *reader)
{
    return get_number(reader, 8);
}

void pki_get_bytes(struct pki_reader *reader, void *to, size_t len)
{
    struct span bytes = take_front(reader, len);

    memset(to, 0, len);
    if (bytes.len > 0)
        memcpy(to, bytes.data, bytes.len);
}

struct span pki_get_span(struct pki_reader *reader)
{
    return take_front(reader, (size_t) get_number(reader, 2));
}

void pki_get_text(struct pki_reader *reader, char *to, size_t size)
{
    struct span text = pki_get_span(reader);

    to[0] = 0;
    if (text.len == 0)
        return;
    if (text.len >= size || memchr(text.data, 0, text.len)) {
        reader->is_bad = true;
        return;
    }
    memcpy(to, text.data, text.len);
    to[text.len] = 0;
}
