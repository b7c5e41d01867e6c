/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "agent/collect/collector.h"

/*
 * /proc/pressure/RESOURCE: "some avg10=0.01 avg60=0.27 avg300=14.72 total=457149813" in us, and the
 * same for "full". The averages are left out: the rate of the total is the average of any window.
 */

static const struct collect_metric stall_time = { "system.linux.pressure.stall_time", "s",
                                                  SPOOL_COUNTER };

static void collect_resource(struct probe *c, const char *resource)
{
    char path[32];
    char *text;

    snprintf(path, sizeof(path), "proc/pressure/%s", resource);
    text = collect_read(c, path);
    if (!text)
        return;
    for (char *line; (line = collect_line(&text));) {
        char *total = strstr(line, "total=");
        const char *type = collect_word(&line);
        uint64_t us;

        if (total)
            total += strlen("total=");
        if (!type || !total || !collect_u64(&total, &us)) {
            collect_count_error(c);
            continue;
        }
        collect_add(c, &stall_time, (double) us / 1e6,
                    ATTRIBUTES({ "system.linux.pressure.resource", resource },
                               { "system.linux.pressure.type", type }));
    }
}

void collect_pressure(struct probe *c)
{
    collect_resource(c, "cpu");
    collect_resource(c, "memory");
    collect_resource(c, "io");
    collect_resource(c, "irq");
}
