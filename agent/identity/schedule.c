/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "agent/identity/identity.h"
#include "common/base/ensure.h"

#define BACK_DATED_US (INT64_C(5) * 60 * 1000000)
#define FIRST_SHARE 0.35
#define SPREAD_SHARE 0.40
#define BASE_US (INT64_C(30) * 1000000)
#define LONGEST_US (INT64_C(3600) * 1000000)
#define LONGEST_EXPIRED_US (INT64_C(900) * 1000000)
#define SHORTEST_US INT64_C(200000)
/* Of what is left, so that at least ten tries fit: (1 - 1.2 / 8)^10 is still a fifth. */
#define SHARE_OF_REST 8

wall_us schedule_first(wall_us not_before, wall_us not_after, double unit)
{
    int64_t begin = not_before.us, life = not_after.us - begin;

    ensure(unit >= 0 && unit < 1);
    if (life > BACK_DATED_US) {
        begin += BACK_DATED_US;
        life -= BACK_DATED_US;
    }
    return (wall_us){ begin + (int64_t) ((double) life * (FIRST_SHARE + SPREAD_SHARE * unit)) };
}

double schedule_unit(const uint8_t sha256[static 32])
{
    uint64_t bits;

    memcpy(&bits, sha256, sizeof(bits));
    return (double) (bits >> 11) * 0x1p-53;
}

int64_t schedule_retry(wall_us now, wall_us not_after, unsigned n_failed, double unit)
{
    int64_t left = not_after.us - now.us, wait = BASE_US;
    int64_t longest = left > 0 ? LONGEST_US : LONGEST_EXPIRED_US;

    ensure(n_failed >= 1);
    for (unsigned i = 1; i < n_failed && wait < longest; i++)
        wait *= 2;
    if (wait > longest)
        wait = longest;
    if (left > 0 && wait > left / SHARE_OF_REST)
        wait = left / SHARE_OF_REST;
    wait = (int64_t) ((double) wait * (0.8 + 0.4 * unit));
    return wait < SHORTEST_US ? SHORTEST_US : wait;
}
