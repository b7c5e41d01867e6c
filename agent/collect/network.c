/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "agent/collect/collector.h"

/*
 * /proc/net/dev: two heading lines, then "name: bytes packets errs drop fifo frame compressed
 * multicast" and the same for sending. packet.count names its interface with system.device: so the
 * conventions say.
 *
 * veth interfaces are the host's ends of containers: they come and go by the thousand under random
 * names.
 */

static const struct collect_metric io = { "system.network.io", "By", SPOOL_COUNTER };
static const struct collect_metric packets = { "system.network.packet.count", "{packet}",
                                               SPOOL_COUNTER };
static const struct collect_metric dropped = { "system.network.packet.dropped", "{packet}",
                                               SPOOL_COUNTER };
static const struct collect_metric errors = { "system.network.errors", "{error}", SPOOL_COUNTER };

enum { BYTES, PACKETS, ERRS, DROP, SEND = 8, N_FIELDS = 16 };

static void add_direction(struct collect *c,
                          const char *interface,
                          const char *direction,
                          const uint64_t *fields)
{
    const struct spool_attribute *attributes =
        ATTRIBUTES({ "network.interface.name", interface }, { "network.io.direction", direction });

    collect_add(c, &io, (double) fields[BYTES], attributes);
    collect_add(c, &packets, (double) fields[PACKETS],
                ATTRIBUTES({ "system.device", interface }, { "network.io.direction", direction }));
    collect_add(c, &dropped, (double) fields[DROP], attributes);
    collect_add(c, &errors, (double) fields[ERRS], attributes);
}

void collect_network(struct collect *c)
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
        if (strncmp(name, "veth", 4) == 0)
            continue;
        add_direction(c, name, "receive", fields);
        add_direction(c, name, "transmit", fields + SEND);
    }
}
