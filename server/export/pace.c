/* SPDX-License-Identifier: Apache-2.0 */
#include "server/export/pace.h"

#include <time.h>

#include "common/base/ensure.h"
#include "common/base/text.h"

#define FIRST_US INT64_C(250000)
#define MAX_US INT64_C(30000000)

enum pace_class pace_classify(unsigned status)
{
    if (status >= 200 && status < 300)
        return PACE_ACCEPTED;
    if (status >= 500)
        return PACE_SERVER;
    switch (status) {
    case 408:
    case 425:
    case 429:
        return PACE_THROTTLED;
    case 401:
    case 403:
    case 404:
    case 405:
    case 407:
    case 421:
        return PACE_DENIED;
    case 400:
        return PACE_BAD;
    case 413:
        return PACE_LARGE;
    default:
        return status < 400 ? PACE_DENIED : PACE_REFUSED;
    }
}

const char *pace_remedy(enum pace_class class)
{
    switch (class) {
    case PACE_SERVER:
        return "look at the receiver's log";
    case PACE_THROTTLED:
        return "the receiver asks for less at a time; it goes on by itself";
    case PACE_DENIED:
        return "check remote_write.url and what the receiver wants to know of this hub "
               "(remote_write.bearer_token_file, remote_write.identity); nothing is dropped";
    case PACE_BAD:
        return "the receiver does not take these samples; Prometheus says 400 to old ones unless "
               "storage.tsdb.out_of_order_time_window allows them";
    case PACE_LARGE:
        return "lower remote_write.batch_samples";
    case PACE_ACCEPTED:
    case PACE_REFUSED:
        break;
    }
    return "look at the receiver's log: it does not take what is in the request";
}

int64_t pace_retry_after_us(const char *value, wall_us now)
{
    struct tm date = { 0 };
    uint64_t seconds;
    const char *end;
    int64_t wait_us;

    if (!value)
        return 0;
    if (text_to_u64(value, &seconds) == 0)
        return seconds > PACE_MAX_ASKED_US / 1000000 ? PACE_MAX_ASKED_US
                                                     : (int64_t) seconds * 1000000;
    end = strptime(value, "%a, %d %b %Y %H:%M:%S GMT", &date);
    if (!end || *end)
        return 0;
    wait_us = (int64_t) timegm(&date) * 1000000 - now.us;
    return wait_us < 0 ? 0 : wait_us > PACE_MAX_ASKED_US ? PACE_MAX_ASKED_US : wait_us;
}

int64_t pace_wait_us(unsigned n_failed, int64_t asked_us, double unit)
{
    int64_t wait_us = FIRST_US, asked;

    ensure(n_failed >= 1);
    for (unsigned i = 1; i < n_failed && wait_us < MAX_US; i++)
        wait_us *= 2;
    wait_us = wait_us < MAX_US ? wait_us : MAX_US;
    wait_us = (int64_t) ((double) wait_us * (0.8 + 0.4 * unit));
    asked = asked_us + (int64_t) ((double) asked_us / 10 * unit);
    return asked > wait_us ? asked : wait_us;
}
