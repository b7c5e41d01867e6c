/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/collect/collector.h"

/* /proc/loadavg: "0.20 0.18 0.12 1/80 11206". */
static const struct collect_metric averages[] = {
    { "system.cpu.load_average.1m", "{thread}", SPOOL_GAUGE },
    { "system.cpu.load_average.5m", "{thread}", SPOOL_GAUGE },
    { "system.cpu.load_average.15m", "{thread}", SPOOL_GAUGE },
};

void collect_load(struct probe *c)
{
    char *text = collect_read(c, "proc/loadavg");
    double values[3];

    if (!text)
        return;
    for (size_t i = 0; i < 3; i++)
        if (!collect_f64(&text, &values[i])) {
            collect_count_error(c);
            return;
        }
    for (size_t i = 0; i < 3; i++)
        collect_add(c, &averages[i], values[i], NULL);
}
