/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "agent/collect/collector.h"

/*
 * /proc/diskstats: "major minor name" and at least 11 numbers
 * (Documentation/admin-guide/iostats.rst): operations, merged, sectors of 512 bytes and ms for
 * reads, the same for writes, now in flight, ms with anything in flight, weighted ms.
 */

#define SECTOR_BYTES 512.0

static const struct collect_metric io = { "system.disk.io", "By", SPOOL_COUNTER };
static const struct collect_metric operations = { "system.disk.operations", "{operation}",
                                                  SPOOL_COUNTER };
static const struct collect_metric merged = { "system.disk.merged", "{operation}", SPOOL_COUNTER };
static const struct collect_metric io_time = { "system.disk.io_time", "s", SPOOL_COUNTER };
static const struct collect_metric operation_time = { "system.disk.operation_time", "s",
                                                      SPOOL_COUNTER };

static const struct collect_metric limit = { "system.disk.limit", "By", SPOOL_GAUGE };
static const struct collect_metric in_flight = { "system.linux.disk.in_flight", "{operation}",
                                                 SPOOL_GAUGE };

enum { OPERATIONS, MERGED, SECTORS, MS, WRITES, IN_FLIGHT = 8, IO_MS, WEIGHTED_MS, N_FIELDS };

static void
add_direction(struct probe *c, const char *device, const char *direction, const uint64_t *fields)
{
    const struct spool_attribute *attributes =
        ATTRIBUTES({ "system.device", device }, { "disk.io.direction", direction });

    collect_add(c, &io, (double) fields[SECTORS] * SECTOR_BYTES, attributes);
    collect_add(c, &operations, (double) fields[OPERATIONS], attributes);
    collect_add(c, &merged, (double) fields[MERGED], attributes);
    collect_add(c, &operation_time, (double) fields[MS] / 1000, attributes);
}

/* sys/class/block/NAME/size, in sectors of 512 bytes whatever the device's own are. */
static void add_limit(struct probe *c, const char *device)
{
    double sectors;

    if (collect_read_number(c, &sectors, "sys/class/block/%s/size", device))
        collect_add(c, &limit, sectors * SECTOR_BYTES, ATTRIBUTES({ "system.device", device }));
}

void collect_disk(struct probe *c)
{
    char *text = collect_read(c, "proc/diskstats");

    if (!text)
        return;
    for (char *line; (line = collect_line(&text));) {
        uint64_t device[2], fields[N_FIELDS];
        const char *name;

        if (collect_numbers(&line, device, 2) != 2 || !(name = collect_word(&line))) {
            collect_count_error(c);
            continue;
        }
        if (!collect_wants(c, COLLECT_DISKS, name))
            continue;
        if (collect_numbers(&line, fields, N_FIELDS) != N_FIELDS) {
            collect_count_error(c);
            continue;
        }
        add_direction(c, name, "read", fields);
        add_direction(c, name, "write", fields + WRITES);
        collect_add(c, &io_time, (double) fields[IO_MS] / 1000,
                    ATTRIBUTES({ "system.device", name }));
        collect_add(c, &in_flight, (double) fields[IN_FLIGHT],
                    ATTRIBUTES({ "system.device", name }));
        add_limit(c, name);
    }
}
