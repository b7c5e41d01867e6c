/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <sys/timex.h>

#include "agent/collect/collector.h"

/*
 * adjtimex(2) with nothing to set, which needs no right: what the kernel knows of its discipline by
 * NTP. offset is in us, or in ns with STA_NANO; freq is ppm with 16 bits behind the point.
 */

static const struct collect_metric is_synchronized = { "system.linux.clock.synchronized", "1",
                                                       SPOOL_GAUGE };
static const struct collect_metric offset = { "system.linux.clock.offset", "s", SPOOL_GAUGE };
static const struct collect_metric estimated_error = { "system.linux.clock.error.estimated", "s",
                                                       SPOOL_GAUGE };
static const struct collect_metric maximum_error = { "system.linux.clock.error.maximum", "s",
                                                     SPOOL_GAUGE };
static const struct collect_metric frequency = { "system.linux.clock.frequency_adjustment", "1",
                                                 SPOOL_GAUGE };
static const struct collect_metric tai = { "system.linux.clock.tai_offset", "s", SPOOL_GAUGE };

void collect_clock(struct probe *c)
{
    struct timex now;
    int state;

    memset(&now, 0, sizeof(now));
    state = adjtimex(&now);
    if (state < 0) {
        collect_count_error(c);
        return;
    }
    collect_add(c, &is_synchronized, state != TIME_ERROR && !(now.status & STA_UNSYNC), NULL);
    collect_add(c, &offset, (double) now.offset / (now.status & STA_NANO ? 1e9 : 1e6), NULL);
    collect_add(c, &estimated_error, (double) now.esterror / 1e6, NULL);
    collect_add(c, &maximum_error, (double) now.maxerror / 1e6, NULL);
    collect_add(c, &frequency, (double) now.freq / 65536 / 1e6, NULL);
    collect_add(c, &tai, now.tai, NULL);
}
