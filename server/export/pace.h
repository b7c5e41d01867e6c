#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/* Pace: what an answer means, and how long to wait. Pure. Private to server/export. */

#include <stdint.h>

#include "common/base/clock.h"

enum pace_class {
    PACE_ACCEPTED,
    PACE_SERVER,    /* again: 5xx */
    PACE_THROTTLED, /* again: 408, 425, 429 */
    PACE_DENIED,    /* again: somebody has to do something about who or where we are */
    PACE_BAD,       /* dropped: 400 */
    PACE_LARGE,     /* dropped: 413 */
    PACE_REFUSED,   /* dropped: any other 4xx */
};

enum pace_class pace_classify(unsigned status);
/* What somebody can do about it; never NULL. */
const char *pace_remedy(enum pace_class class);

/* Retry-After, seconds or a date (RFC 9110, 10.2.3), as a duration of at most PACE_MAX_ASKED_US; 0
 * for none and for what is neither. value: NULL is none. */
#define PACE_MAX_ASKED_US INT64_C(600000000)
int64_t pace_retry_after_us(const char *value, wall_us now);

/*
 * How long to wait before the next try: from 0.25 s twice as long each time up to 30 s, +-20 %; no
 * less than was asked for, and up to a tenth more, so that hubs do not come together.
 *   n_failed  in a row, from 1      unit  uniform in 0 <= x < 1
 */
int64_t pace_wait_us(unsigned n_failed, int64_t asked_us, double unit);
