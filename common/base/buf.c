/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/buf.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/ensure.h"

#define CAPACITY_MIN 64
/* So little is not worth a thought. */
#define KEPT_BYTES ((size_t) 16 * 1024)

/* Always keeps one byte more than was asked for, so that buf_text() cannot fail. */
static bool reserve(struct buf *buf, size_t more)
{
    size_t need;

    ensure(buf->len <= buf->capacity);

    /* Once something was dropped, what follows would stand in the wrong place. */
    if (buf->has_failed)
        return false;
    if (__builtin_add_overflow(buf->len, more, &need) || need >= SIZE_MAX / 2) {
        buf->has_failed = true;
        return false;
    }
    need++;
    if (need <= buf->capacity)
        return true;

    size_t capacity = buf->capacity < CAPACITY_MIN ? CAPACITY_MIN : buf->capacity * 2;

    if (capacity < need)
        capacity = need;

    uint8_t *data = realloc(buf->data, capacity);

    if (!data) {
        buf->has_failed = true;
        return false;
    }
    buf->data = data;
    buf->capacity = capacity;
    return true;
}

void buf_deinit(struct buf *buf)
{
    free(buf->data);
    *buf = (struct buf){ 0 };
}

void buf_clear(struct buf *buf)
{
    buf->len = 0;
    buf->has_failed = false;
}

void buf_clear_for(struct buf *buf, size_t len)
{
    if (buf->capacity > KEPT_BYTES && len < buf->capacity / 8)
        buf_deinit(buf);
    buf_clear(buf);
}

void buf_append(struct buf *buf, const void *data, size_t len)
{
    if (len == 0 || !reserve(buf, len))
        return;
    memcpy(buf->data + buf->len, data, len);
    buf->len += len;
}

void buf_append_span(struct buf *buf, struct span span)
{
    buf_append(buf, span.data, span.len);
}

void buf_append_text(struct buf *buf, const char *text)
{
    buf_append(buf, text, strlen(text));
}

void buf_printf(struct buf *buf, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    buf_vprintf(buf, fmt, args);
    va_end(args);
}

void buf_vprintf(struct buf *buf, const char *fmt, va_list args)
{
    va_list again;

    va_copy(again, args);

    int len = vsnprintf(NULL, 0, fmt, args);

    if (len < 0) {
        buf->has_failed = true;
    } else if (reserve(buf, (size_t) len)) {
        vsnprintf((char *) buf->data + buf->len, (size_t) len + 1, fmt, again);
        buf->len += (size_t) len;
    }
    va_end(again);
}

void *buf_extend(struct buf *buf, size_t len)
{
    if (!reserve(buf, len))
        return NULL;

    void *data = buf->data + buf->len;

    buf->len += len;
    return memset(data, 0, len);
}

bool buf_failed(const struct buf *buf)
{
    return buf->has_failed;
}

struct span buf_span(const struct buf *buf)
{
    return span_of(buf->data, buf->len);
}

const char *buf_text(struct buf *buf)
{
    if (buf->len == 0)
        return "";
    ensure(buf->len < buf->capacity);
    buf->data[buf->len] = 0;
    return (const char *) buf->data;
}
