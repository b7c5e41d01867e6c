#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The objects of a JSON array, one after another, out of a text that comes in pieces: so that a
 * long list needs no more memory than its longest item. Private to agent/inventory; does no
 * reading.
 *
 * It knows where objects begin and end, and nothing of what is in them: each is parsed by
 * common/json. What lies between them must be what JSON wants there.
 *
 *     while ((r = items_feed(&items, &piece)) == ITEMS_GOT)
 *         ... items.item ...
 */

#include <stdbool.h>
#include <stddef.h>

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/span.h"

enum items_state {
    ITEMS_BEFORE,  /* [ is to come */
    ITEMS_FIRST,   /* { or ] */
    ITEMS_INSIDE,  /* of an object */
    ITEMS_BETWEEN, /* , or ] */
    ITEMS_NEXT,    /* { */
    ITEMS_AFTER,   /* nothing */
};

struct items {
    size_t max_bytes; /* of an item */

    struct buf item; /* the one at hand, or the one that was got */
    enum items_state state;
    bool is_in_text, is_escaped;
    size_t depth;
};
void items_deinit(struct items *items);

enum items_outcome {
    ITEMS_MORE = 0, /* the piece is used up */
    ITEMS_GOT,      /* items->item has one, until the next feed */
    ITEMS_BAD,      /* no list of objects */
    ITEMS_TOO_LONG, /* an item is longer than max_bytes */
};

/* Takes from the piece up to the end of an item. Outcomes: all of them. Faults: no memory. */
int items_feed(struct items *items, struct span *from) MUST_USE;
/* Whether the list is over, with its bracket. */
bool items_is_whole(const struct items *items);
