/* Targets: items_feed, debversion_compare.
 * SPDX-License-Identifier: Apache-2.0 */

/* Whatever a container engine answers: the pieces may end anywhere, and no item outgrows its limit.
 * And whatever a package list calls a version: the order is one. */

#include <stdlib.h>
#include <string.h>

#include "agent/inventory/debversion.h"
#include "agent/inventory/items.h"
#include "common/base/ensure.h"

#define MAX_ITEM_BYTES 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* How it ended, and how many bytes its items had. */
static int cut(struct span text, size_t piece_bytes, size_t *ret_bytes)
{
    struct items items = { .max_bytes = MAX_ITEM_BYTES };
    int r = ITEMS_MORE;

    *ret_bytes = 0;
    for (size_t at = 0; at < text.len && r == ITEMS_MORE; at += piece_bytes) {
        struct span piece =
            span_of(text.data + at, text.len - at < piece_bytes ? text.len - at : piece_bytes);

        while ((r = items_feed(&items, &piece)) == ITEMS_GOT) {
            ensure(items.item.len >= 2 && items.item.len <= MAX_ITEM_BYTES);
            ensure(items.item.data[0] == '{' && items.item.data[items.item.len - 1] == '}');
            *ret_bytes += items.item.len;
        }
    }
    items_deinit(&items);
    return r;
}

static void compare(const char *text)
{
    char *a = strdup(text), *b = a ? strchr(a, '\n') : NULL;
    int order;

    if (b) {
        *b++ = '\0';
        order = debversion_compare(a, b);
        ensure((order < 0) == (debversion_compare(b, a) > 0));
        ensure((order == 0) == (debversion_compare(b, a) == 0));
        ensure(debversion_compare(a, a) == 0);
    }
    free(a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    char *text = malloc(len + 1);
    size_t whole, byte_by_byte;

    ensure(cut(span_of(data, len), len + 1, &whole) == cut(span_of(data, len), 1, &byte_by_byte));
    ensure(whole == byte_by_byte);
    if (text) {
        memcpy(text, data, len);
        text[len] = '\0';
        compare(text);
    }
    free(text);
    return 0;
}
