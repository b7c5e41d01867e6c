/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/collect/collector.h"

/* Always the whole pool since Linux 5.18; less on older kernels. */
static const struct collect_metric available = { "system.linux.entropy.available", "bit",
                                                 SPOOL_GAUGE };
static const struct collect_metric limit = { "system.linux.entropy.limit", "bit", SPOOL_GAUGE };

void collect_entropy(struct probe *c)
{
    double bits;

    if (collect_read_number(c, &bits, "proc/sys/kernel/random/entropy_avail"))
        collect_add(c, &available, bits, NULL);
    if (collect_read_number(c, &bits, "proc/sys/kernel/random/poolsize"))
        collect_add(c, &limit, bits, NULL);
}
