/* SPDX-License-Identifier: Apache-2.0 */

/* Which hours of an agent's day are to be rolled up: marks against blocks. */

#include "common/base/fault.h"
#include "server/store/rollup/roller.h"
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
    r = days_make(days, number, (struct day_begun){ 0 }, &period);
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

/* A mark of before the day was begun anew: what it says of hours without windows is over. */
static void note_loss(struct round *round, enum roll_tier tier)
{
    struct roll_mark *mark = &round->marks[tier];

    mark->lost = roll_lost(mark, true, round->begun.seal);
    if (mark->seal <= round->begun.seal)
        mark->hours = mark->windows;
}

static int find_due_of(struct round *round,
                       enum roll_tier tier,
                       uint32_t met,
                       uint32_t over,
                       bool *ret_is_there)
{
    const struct found_block *found = (const void *) round->roller->found.data;
    size_t n = round->roller->found.len / sizeof(*found);
    struct roll_mark *mark = &round->marks[tier];
    int r = read_mark(round, tier, ret_is_there);

    if (r)
        return pass(r);
    note_loss(round, tier);
    for (size_t i = 0; i < n; i++)
        if (found[i].key.seal > mark->seal)
            round->newer[tier] |= roll_hours_of(round, &found[i]);
    if (!*ret_is_there)
        return 0;
    round->late[tier] = mark->lost & round->newer[tier];
    if (tier == ROLL_MINUTES || over == ALL_HOURS)
        round->due[tier] = met & over & ~mark->lost & (~mark->hours | round->newer[tier]);
    round->due[tier] |= round->late[tier];
    return 0;
}

int roll_find_due(struct round *round, int64_t over_us)
{
    const struct found_block *found = (const void *) round->roller->found.data;
    size_t n = round->roller->found.len / sizeof(*found);
    uint32_t met = 0, over = hours_between(round->day_us, INT64_MIN, over_us - STORE_HOUR_US);
    bool are_there[ROLL_TIERS];
    int r = 0;

    for (size_t i = 0; i < n; i++)
        met |= roll_hours_of(round, &found[i]);
    round->empty = over & ~met;
    if (met == 0 && round->begun.seal == 0)
        return 0;
    for (enum roll_tier tier = ROLL_MINUTES; tier < ROLL_TIERS && !r; tier++)
        r = find_due_of(round, tier, met, over, &are_there[tier]);
    if (r)
        return pass(r);
    round->missing = round->marks[ROLL_MINUTES].lost & ~round->marks[ROLL_HOURS].windows;
    round->due[ROLL_HOURS] &= ~round->missing;
    if (!are_there[ROLL_HOURS] || over != ALL_HOURS)
        round->missing = 0;
    return 0;
}

/* All late hours of a tier at once: the mark that they then have counts all blocks. */
static bool choose_late(struct round *round, enum roll_tier tier)
{
    enum roll_tier other = tier == ROLL_MINUTES ? ROLL_HOURS : ROLL_MINUTES;
    uint32_t rest = round->due[other] | (round->due[tier] & ~round->late[tier]) | round->missing;

    round->is_late = true;
    round->counted = round->marks[tier].seal;
    round->chosen = round->due[tier] = round->late[tier];
    round->due[other] = 0;
    return rest != 0;
}

static bool choose_missing(struct round *round)
{
    uint32_t rest = round->due[ROLL_MINUTES] | round->due[ROLL_HOURS];

    round->is_missing = true;
    round->chosen = round->due[ROLL_HOURS] = round->missing;
    round->marks[ROLL_HOURS].lost |= round->missing;
    round->due[ROLL_MINUTES] = 0;
    return rest != 0;
}

bool roll_choose(struct round *round)
{
    const struct found_block *found = (const void *) round->roller->found.data;
    size_t n = round->roller->found.len / sizeof(*found);
    uint32_t due = round->due[ROLL_MINUTES] | round->due[ROLL_HOURS];
    uint64_t n_bytes = 0;

    for (enum roll_tier tier = ROLL_MINUTES; tier < ROLL_TIERS; tier++)
        if (round->late[tier])
            return choose_late(round, tier);
    if (round->missing)
        return choose_missing(round);
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

/* ---- before a day is made ---- */

static int has_windows(struct store *store, struct day *period, int32_t day, bool *ret)
{
    CLEANUP(db_txn_abortp) MDB_txn *txn = NULL;
    int r = db_check(mdb_txn_begin(period->env, NULL, MDB_RDONLY, &txn),
                     "cannot begin to read roll-ups");

    for (uint32_t agent = 1; agent <= idtable_highest(&store->agents.table) && !r && !*ret;
         agent++) {
        struct roll_mark mark;

        r = roll_mark_get(period, txn, agent, day, &mark);
        *ret = !r && mark.windows != 0;
    }
    return pass(r);
}

int roll_has_windows(struct store *store, int32_t day, bool *ret)
{
    int r = 0;

    *ret = false;
    for (enum roll_tier tier = ROLL_MINUTES; tier < ROLL_TIERS && !r && !*ret; tier++) {
        struct days *days = &store->rolled[tier];
        struct day *period;

        r = days_use(days, days->kind->of(day * DAY_US), &period);
        if (r == STORE_NOT_FOUND) {
            r = 0;
            continue;
        }
        if (r)
            return pass(r);
        r = has_windows(store, period, day, ret);
        days_release(days, period);
    }
    return pass(r);
}
