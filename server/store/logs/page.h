#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Page: the first so many entries of a search, in its direction, of those that it is offered in any
 * order. Private to the store.
 *
 * Once there is no room for an entry, nothing from its place on belongs to the page, also what
 * would have room: a page has no gaps.
 *
 * Thread: one at a time.
 */

#include "common/base/arena.h"
#include "server/store/store_logs.h"

struct logs_page {
    bool is_oldest_first;
    size_t max_entries, max_bytes;
    /* ---- */
    struct page_entry **heap; /* the last one in front */
    size_t n, capacity, n_bytes;
    bool has_cut; /* there was no room for what stands here */
    struct store_log_place cut;
};

void logs_page_deinit(struct logs_page *page);

/* The order of all records, oldest first: below, at, above 0. */
int log_place_compare(const struct store_log_place *a, const struct store_log_place *b);

/* Whether a comes before b in the page's direction. */
static inline bool logs_page_is_before(const struct logs_page *page,
                                       const struct store_log_place *a,
                                       const struct store_log_place *b)
{
    int order = log_place_compare(a, b);

    return page->is_oldest_first ? order < 0 : order > 0;
}

/* Copies it, if it belongs to the page as far as that is known. Faults: no memory. */
int logs_page_offer(struct logs_page *page,
                    uint32_t agent,
                    const struct logblock_source *source,
                    const struct logblock_record *record) MUST_USE;

/* Whether what has this time at best can still be of the page. */
bool logs_page_wants(const struct logs_page *page, int64_t time_us);

/* What is at or behind the time is not of the page: it is not known what stands there. */
void logs_page_end_before(struct logs_page *page, int64_t time_us);

/* Entries of a range of times, from inclusive, to inclusive, go, and so does the cut. */
void logs_page_forget(struct logs_page *page, int64_t from_us, int64_t to_us);

/* In order, in the arena. Faults: no memory. */
int logs_page_finish(struct logs_page *page,
                     struct arena *arena,
                     struct store_log_entry **ret,
                     size_t *ret_n) MUST_USE;
