#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Buf: bytes that grow, with one owner. The zero value is an empty one.
 *
 * An append that finds no memory marks the buffer failed and drops what it was given; the owner
 * asks buf_failed() once at the end instead of after every append.
 *
 * Threads: none.
 */

#include <stdarg.h>

#include "common/base/cleanup.h"
#include "common/base/span.h"

struct buf {
    uint8_t *data;
    size_t len;
    size_t capacity;
    bool has_failed;
};

void buf_deinit(struct buf *buf);

/* Empties it and keeps the memory. */
void buf_clear(struct buf *buf);
/* For some `len` bytes: memory for far more is given back, as a burst is no reason to keep it. */
void buf_clear_for(struct buf *buf, size_t len);

void buf_append(struct buf *buf, const void *data, size_t len);
void buf_append_span(struct buf *buf, struct span span);
void buf_append_text(struct buf *buf, const char *text);
void buf_printf(struct buf *buf, const char *fmt, ...) PRINTF_LIKE(2, 3);
void buf_vprintf(struct buf *buf, const char *fmt, va_list args) PRINTF_LIKE(2, 0);

/* Makes room for `len` more bytes and returns where they go (zeroed), or NULL (then it has failed).
 */
void *buf_extend(struct buf *buf, size_t len);

bool buf_failed(const struct buf *buf);
struct span buf_span(const struct buf *buf);

/* The bytes as a NUL-terminated string, owned by the buffer, valid until the next change. Never
 * NULL. */
const char *buf_text(struct buf *buf);
