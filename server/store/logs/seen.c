/* SPDX-License-Identifier: Apache-2.0 */
#include "server/store/logs/seen.h"

#include <errno.h>
#include <stdlib.h>

#include "common/base/fault.h"
#include "common/base/map.h"
#include "server/store/whole.h"

/* Some 4 MiB: with blocks of usual size thirty times what a search may decode. */
#define SEEN_MAX 32768u

struct seen_item {
    struct seen_key key;
    enum seen_state state;
    int64_t up_to_us;
};

struct store_log_seen {
    struct store *store;
    struct map items;
};

int store_log_seen_new(struct store *store, struct store_log_seen **ret)
{
    struct store_log_seen *seen;

    if (atomic_fetch_add(&store->n_log_searches, 1) >= STORE_LOG_SEARCHES) {
        atomic_fetch_sub(&store->n_log_searches, 1);
        return STORE_TOO_MUCH;
    }
    seen = calloc(1, sizeof(*seen));
    if (!seen) {
        atomic_fetch_sub(&store->n_log_searches, 1);
        return fault(-ENOMEM, "no memory for a search of logs");
    }
    seen->store = store;
    *ret = seen;
    return 0;
}

struct store_log_seen *store_log_seen_free(struct store_log_seen *seen)
{
    struct seen_item *item;
    size_t at = 0;

    if (!seen)
        return NULL;
    while ((item = map_next(&seen->items, &at)))
        free(item);
    map_deinit(&seen->items);
    atomic_fetch_sub(&seen->store->n_log_searches, 1);
    free(seen);
    return NULL;
}

static struct seen_item *find(const struct store_log_seen *seen, const struct seen_key *key)
{
    return map_get(&seen->items, span_of(key, sizeof(*key)));
}

enum seen_state
seen_find(const struct store_log_seen *seen, const struct seen_key *key, int64_t *ret_us)
{
    const struct seen_item *item = find(seen, key);

    if (!item)
        return SEEN_NOT;
    *ret_us = item->up_to_us;
    return item->state;
}

/* NULL: no room. */
static struct seen_item *add(struct store_log_seen *seen, const struct seen_key *key)
{
    struct seen_item *item;

    if (seen->items.n_entries >= SEEN_MAX)
        return NULL;
    item = calloc(1, sizeof(*item));
    if (!item)
        return NULL;
    item->key = *key;
    if (map_put(&seen->items, span_of(&item->key, sizeof(item->key)), item) < 0) {
        free(item);
        return NULL;
    }
    return item;
}

bool seen_note(struct store_log_seen *seen,
               const struct seen_key *key,
               enum seen_state state,
               int64_t up_to_us,
               bool *ret_is_news)
{
    struct seen_item *item = find(seen, key);

    *ret_is_news = !item || item->state != state || item->up_to_us != up_to_us;
    if (!item)
        item = add(seen, key);
    if (!item)
        return false;
    item->state = state;
    item->up_to_us = up_to_us;
    return true;
}
