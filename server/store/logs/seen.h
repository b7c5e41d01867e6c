#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What a search has seen in the calls before, private to the store: of each block and pack that was
 * looked at, where its first record stands that is wanted and was not handed out, in the search's
 * direction. So none is decoded again before the search has come there, and in most there is
 * nothing.
 *
 * It is bounded: what has no room is looked at again.
 */

#include <stdbool.h>
#include <stdint.h>

#include "server/store/store_logs.h"

/* A block or a pack. Its number of records is a part: a block that compaction made may have the
 * name of one that it stands for, and then has more. */
struct seen_key {
    uint64_t seal;    /* of a pack: its chunk */
    int64_t first_us; /* of a pack: its offset */
    uint32_t agent, n_records;
    uint32_t part, is_pack;
};

enum seen_state { SEEN_NOT, SEEN_NOTHING, SEEN_UP_TO };

/* SEEN_UP_TO: there is nothing before *ret_us. */
enum seen_state
seen_find(const struct store_log_seen *seen, const struct seen_key *key, int64_t *ret_us);

/* state is not SEEN_NOT. False: there is no room for it. *ret_is_news: it says what was not known.
 */
bool seen_note(struct store_log_seen *seen,
               const struct seen_key *key,
               enum seen_state state,
               int64_t up_to_us,
               bool *ret_is_news) MUST_USE;
