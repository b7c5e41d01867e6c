/* SPDX-License-Identifier: Apache-2.0 */

/* Which hours of an agent's day are to be rolled up: marks against blocks. */

#include "common/base/fault.h"
#include "server/store/roller.h"
#include "server/store/whole.h"

/* Of blocks, in one round of one agent; and an hour at least. */
#define ROUND_BYTES (UINT64_C(32) << 20)

#define ALL_HOURS ((1u << DAY_HOURS) - 1)

static uint32_t hours_between(int64_t day_us, int64_t first_us, int64_t last_us)
{
    uint32_t hours = 0;

    for (uint32_t h = 0; h < DAY_HOURS; h++) {
        int64_t begin_us = day_us + h * STORE_HOUR_US;

        if (first_us < begin_us + STORE_HOUR_US && last_us >= begin_us)
            hours |= 1u << h;
    }
    return hours;
}

uint32_t roll_hours_of(const struct round *round, const struct found_block *found)
{
    return hours_between(round->day_us, found->key.first_us, found->prefix.last_us);
}

/* What a tier has of the agent. A tier that cannot be used, or would go again at once, is never
 * due.
 */
static int read_mark(struct round *round, enum roll_tier tier, bool *ret_is_there)
{
    CLEANUP(db_txn_abortp) MDB_txn *txn = NULL;
    struct store *store = round->sealer->store;
    struct days *days = &store->rolled[tier];
    int32_t number = days->kind->of(round->day_us);
    struct day *period;
    int r;

    *ret_is_there = false;
    if (number < retain_first_rolled(store, tier))
        return 0;
    r = days_make(days, number, &period);
    if (r)
        return r == STORE_NOT_FOUND ? 0 : pass(r);
    *ret_is_there = true;
    r = db_check(mdb_txn_begin(period->env, NULL, MDB_RDONLY, &txn),
                 "cannot begin to read roll-ups");
    if (!r)
        r = roll_mark_get(period, txn, round->agent->facts.number, round->day, &round->marks[tier]);
    if (txn)
        mdb_txn_abort(take(txn));
    days_release(days, period);
    return pass(r);
}

int roll_find_due(struct round *round, int64_t over_us)
{
    const struct found_block *found = (const void *) round->roller->found.data;
    size_t n = round->roller->found.len / sizeof(*found);
    uint32_t met = 0, over = hours_between(round->day_us, INT64_MIN, over_us - STORE_HOUR_US);

    for (size_t i = 0; i < n; i++)
        met |= roll_hours_of(round, &found[i]);
    round->empty = over & ~met;
    if ((met & over) == 0)
        return 0;
    for (enum roll_tier tier = ROLL_MINUTES; tier < ROLL_TIERS; tier++) {
        bool is_there;
        int r = read_mark(round, tier, &is_there);

        if (r)
            return pass(r);
        for (size_t i = 0; i < n; i++)
            if (found[i].key.seal > round->marks[tier].seal)
                round->newer[tier] |= roll_hours_of(round, &found[i]);
        if (is_there && (tier == ROLL_MINUTES || over == ALL_HOURS))
            round->due[tier] = met & over & (~round->marks[tier].hours | round->newer[tier]);
    }
    return 0;
}

bool roll_choose(struct round *round)
{
    const struct found_block *found = (const void *) round->roller->found.data;
    size_t n = round->roller->found.len / sizeof(*found);
    uint32_t due = round->due[ROLL_MINUTES] | round->due[ROLL_HOURS];
    uint64_t n_bytes = 0;

    for (uint32_t h = 0; h < DAY_HOURS; h++) {
        if (!(due >> h & 1))
            continue;
        for (size_t i = 0; i < n; i++)
            if (roll_hours_of(round, &found[i]) >> h & 1)
                n_bytes += found[i].bytes.len;
        if (round->chosen && n_bytes > ROUND_BYTES)
            break;
        round->chosen |= 1u << h;
    }
    return (due & ~round->chosen) != 0;
}
