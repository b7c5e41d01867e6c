/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/collect/collector.h"

static const struct collect_metric uptime = { "system.uptime", "s", SPOOL_GAUGE };

void collect_uptime(struct probe *c)
{
    char *text = collect_read(c, "proc/uptime");
    double seconds;

    if (!text)
        return;
    if (collect_f64(&text, &seconds))
        collect_add(c, &uptime, seconds, NULL);
    else
        collect_count_error(c);
}
