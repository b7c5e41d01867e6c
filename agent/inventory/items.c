/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/inventory/items.h"

#include <errno.h>

#include "common/base/fault.h"

void items_deinit(struct items *items)
{
    buf_deinit(&items->item);
}

bool items_is_whole(const struct items *items)
{
    return items->state == ITEMS_AFTER;
}

static bool is_space(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Between objects: a step for what is no space. False: it has no place there. */
static bool step_outside(struct items *items, uint8_t c)
{
    switch (items->state) {
    case ITEMS_BEFORE:
        items->state = ITEMS_FIRST;
        return c == '[';
    case ITEMS_BETWEEN:
        items->state = c == ',' ? ITEMS_NEXT : ITEMS_AFTER;
        return c == ',' || c == ']';
    case ITEMS_FIRST:
    case ITEMS_NEXT:
        if (c == ']' && items->state == ITEMS_FIRST) {
            items->state = ITEMS_AFTER;
            return true;
        }
        items->state = ITEMS_INSIDE;
        items->depth = 1;
        buf_clear(&items->item);
        buf_append(&items->item, &c, 1);
        return c == '{';
    case ITEMS_INSIDE:
    case ITEMS_AFTER:
    default:
        return false;
    }
}

/* True: the object ended with it. */
static bool step_inside(struct items *items, uint8_t c)
{
    if (items->is_in_text) {
        items->is_in_text = c != '"' || items->is_escaped;
        items->is_escaped = c == '\\' && !items->is_escaped;
        return false;
    }
    items->is_in_text = c == '"';
    if (c == '{')
        items->depth++;
    else if (c == '}')
        items->depth--;
    return items->depth == 0;
}

int items_feed(struct items *items, struct span *from)
{
    while (from->len > 0) {
        const uint8_t *begin = from->data;
        size_t n = 0;

        if (items->state != ITEMS_INSIDE) {
            const uint8_t c = *from->data;

            *from = span_of(from->data + 1, from->len - 1);
            if (!is_space(c) && !step_outside(items, c))
                return ITEMS_BAD;
            continue;
        }
        while (n < from->len && items->state == ITEMS_INSIDE)
            if (step_inside(items, begin[n++]))
                items->state = ITEMS_BETWEEN;
        *from = span_of(begin + n, from->len - n);
        if (items->item.len + n > items->max_bytes)
            return ITEMS_TOO_LONG;
        buf_append(&items->item, begin, n);
        if (buf_failed(&items->item))
            return fault(-ENOMEM, "no memory for an item of a list");
        if (items->state == ITEMS_BETWEEN)
            return ITEMS_GOT;
    }
    return ITEMS_MORE;
}
