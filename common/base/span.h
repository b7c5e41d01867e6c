#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/* Borrowed, read-only bytes. Whoever hands one out says how long it lives. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct span {
    const uint8_t *data;
    size_t len;
};

static inline struct span span_of(const void *data, size_t len)
{
    return (struct span){ data, len };
}

static inline struct span span_of_text(const char *text)
{
    return (struct span){ (const uint8_t *) text, strlen(text) };
}

static inline bool span_equal(struct span a, struct span b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}
