/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "agent/collect/collector.h"

/*
 * /sys/class/net/bonding_masters: names; MASTER/bonding/slaves: names;
 * MASTER/lower_SLAVE/bonding_slave/mii_status: up, down, going down, going back.
 */

static const struct collect_metric count = { "system.linux.bonding.interface.count", "{interface}",
                                             SPOOL_GAUGE };
static const struct collect_metric limit = { "system.linux.bonding.interface.limit", "{interface}",
                                             SPOOL_GAUGE };

static void add_master(struct probe *c, const char *master)
{
    char names[COLLECT_SMALL_BYTES];
    char *cursor = collect_read_small(c, names, "sys/class/net/%s/bonding/slaves", master);
    unsigned n = 0, n_up = 0;

    if (!cursor)
        return;
    for (const char *name; (name = collect_word(&cursor)); n++) {
        char text[COLLECT_SMALL_BYTES];
        const char *status = collect_read_small(
            c, text, "sys/class/net/%s/lower_%s/bonding_slave/mii_status", master, name);

        n_up += status && strcmp(status, "up") == 0;
    }
    collect_add(c, &limit, n, ATTRIBUTES({ "network.interface.name", master }));
    collect_add(
        c, &count, n_up,
        ATTRIBUTES({ "network.interface.name", master }, { "system.linux.bonding.state", "up" }));
    collect_add(
        c, &count, n - n_up,
        ATTRIBUTES({ "network.interface.name", master }, { "system.linux.bonding.state", "down" }));
}

void collect_bonding(struct probe *c)
{
    char names[COLLECT_SMALL_BYTES];
    char *cursor = collect_read_small(c, names, "sys/class/net/bonding_masters");

    for (const char *name; cursor && (name = collect_word(&cursor));)
        if (collect_wants(c, COLLECT_INTERFACES, name))
            add_master(c, name);
}
