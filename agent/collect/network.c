/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "agent/collect/collector.h"

/*
 * /proc/net/dev: two heading lines, then "name: bytes packets errs drop fifo frame compressed
 * multicast" and the same for sending. packet.count names its interface with system.device: so the
 * conventions say. sys/class/net/NAME/carrier is 1 or 0, speed in Mbit/s (-1: not known); both
 * refuse for an interface that is down.
 */

static const struct collect_metric io = { "system.network.io", "By", SPOOL_COUNTER };
static const struct collect_metric packets = { "system.network.packet.count", "{packet}",
                                               SPOOL_COUNTER };
static const struct collect_metric dropped = { "system.network.packet.dropped", "{packet}",
                                               SPOOL_COUNTER };
static const struct collect_metric errors = { "system.network.errors", "{error}", SPOOL_COUNTER };

static const struct collect_metric up = { "hw.network.up", "1", SPOOL_GAUGE };
static const struct collect_metric speed = { "hw.network.bandwidth.limit", "By/s", SPOOL_GAUGE };
static const struct collect_metric changes = { "system.linux.network.carrier.changes", "{change}",
                                               SPOOL_COUNTER };

enum { BYTES, PACKETS, ERRS, DROP, SEND = 8, N_FIELDS = 16 };

static void
add_direction(struct probe *c, const char *interface, const char *direction, const uint64_t *fields)
{
    const struct spool_attribute *attributes =
        ATTRIBUTES({ "network.interface.name", interface }, { "network.io.direction", direction });

    collect_add(c, &io, (double) fields[BYTES], attributes);
    collect_add(c, &packets, (double) fields[PACKETS],
                ATTRIBUTES({ "system.device", interface }, { "network.io.direction", direction }));
    collect_add(c, &dropped, (double) fields[DROP], attributes);
    collect_add(c, &errors, (double) fields[ERRS], attributes);
}

static void add_link(struct probe *c, const char *interface)
{
    const struct spool_attribute *attributes =
        ATTRIBUTES({ "hw.id", interface }, { "network.interface.name", interface });
    double value;

    if (!collect_read_number(c, &value, "sys/class/net/%s/carrier_changes", interface))
        return; /* not in this root's sysfs */
    collect_add(c, &changes, value, ATTRIBUTES({ "network.interface.name", interface }));
    if (!collect_read_number(c, &value, "sys/class/net/%s/carrier", interface))
        value = 0;
    collect_add(c, &up, value, attributes);
    if (value > 0 && collect_read_number(c, &value, "sys/class/net/%s/speed", interface) &&
        value > 0)
        collect_add(c, &speed, value * 1e6 / 8, attributes);
}

void collect_network(struct probe *c)
{
    char *text = collect_read_machine(c, "proc/1/net/dev", "proc/net/dev");

    if (!text)
        return;
    for (unsigned heading = 0; heading < 2; heading++)
        if (!collect_line(&text)) {
            collect_count_error(c);
            return;
        }
    for (char *line; (line = collect_line(&text));) {
        /* An alias has a colon in its name: the last one ends it. */
        char *colon = strrchr(line, ':');
        const char *name = line + strspn(line, " ");
        uint64_t fields[N_FIELDS];
        char *numbers = colon ? colon + 1 : NULL;

        if (!numbers || collect_numbers(&numbers, fields, N_FIELDS) != N_FIELDS) {
            collect_count_error(c);
            continue;
        }
        *colon = '\0';
        if (!collect_wants(c, COLLECT_INTERFACES, name))
            continue;
        add_direction(c, name, "receive", fields);
        add_direction(c, name, "transmit", fields + SEND);
        add_link(c, name);
    }
}
