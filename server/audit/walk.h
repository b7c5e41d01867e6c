#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Walk: entries in the order of the chain or backwards, day by day, from closed days and from the
 * table, as one. Private to server/audit.
 *
 * A day lies in one of both. While the hub moves it, it lies in both: the file first comes to its
 * place, whole, then its rows go. So the file counts where there is one; and where rows turn out to
 * be gone in the middle of a day, the file is there by then and goes on from the last one seen.
 *
 * No snapshot of the table is held for longer than a page of 256 entries.
 */

#include <stdbool.h>
#include <stdint.h>

#include "server/audit/inside.h"
#include "server/audit/segment.h"

struct walk_row {
    uint32_t day;
    uint64_t number; /* of the key */
    struct span value;
};

struct walk {
    struct audit *audit;
    uint32_t first_day, last_day; /* inclusive */
    bool is_backwards;
    uint64_t beyond;        /* forward: behind it; backwards: before it; 0: all */
    int64_t from_us, to_us; /* frames of closed days that are wholly outside are passed over */
    /* The value lives during the call. false: stop. */
    bool (*on_row)(void *ctx, const struct walk_row *row);
    /* A closed day that is damaged from this entry on; the rest of it is passed over. false: stop.
     */
    bool (*on_bad)(void *ctx, uint32_t day, uint64_t entry, const char *why);
    void *ctx;
    /* Out. */
    uint64_t n_closed; /* days that were files */
};

int walk_run(struct walk *walk) MUST_USE;

/* First and last day of the table. Outcomes: AUDIT_NOT_FOUND. */
struct walk_end {
    uint32_t day;
    uint64_t number;
};
int walk_table_end(struct audit *audit, bool is_last, struct walk_end *ret) MUST_USE;
/* The same of one day. */
int walk_day_end(struct audit *audit, uint32_t day, bool is_last, struct walk_end *ret) MUST_USE;

/* The days that have a file, ascending; heap. */
int walk_closed_days(const char *directory, uint32_t **ret, size_t *ret_n) MUST_USE;

/* The rows of the table whose numbers share all but the last byte with `number`, in order. */
#define WALK_PAGE 256
struct walk_page {
    struct arena arena;
    size_t n;
    struct walk_row rows[WALK_PAGE];
    bool is_exhausted;
};
void walk_page_init(struct walk_page *page);
void walk_page_deinit(struct walk_page *page);
int walk_page_read(struct audit *audit,
                   uint32_t day,
                   uint64_t number,
                   struct walk_page *page) MUST_USE;
