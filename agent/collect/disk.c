/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <string.h>

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

enum { OPERATIONS, MERGED, SECTORS, MS, WRITES, IN_FLIGHT = 8, IO_MS, WEIGHTED_MS, N_FIELDS };

static bool ends_with_number(const char *text)
{
    return *text && strspn(text, "0123456789") == strlen(text);
}

/* Memory and loops, and parts of a disk that is counted whole: (h|s|v|xv)d[a-z]+N, nvme..pN,
 * mmcblk..pN. */
static bool is_skipped(const char *name)
{
    static const char *const kinds[] = { "loop", "ram", "zram", "fd" };
    static const char *const disks[] = { "hd", "sd", "vd", "xvd" };
    static const char *const numbered[] = { "nvme", "mmcblk" };

    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (strncmp(name, kinds[i], strlen(kinds[i])) == 0 &&
            ends_with_number(name + strlen(kinds[i])))
            return true;
    for (size_t i = 0; i < sizeof(disks) / sizeof(disks[0]); i++) {
        const char *rest = name + strlen(disks[i]);

        if (strncmp(name, disks[i], strlen(disks[i])) == 0 && islower((unsigned char) *rest))
            return ends_with_number(rest + strspn(rest, "abcdefghijklmnopqrstuvwxyz"));
    }
    for (size_t i = 0; i < sizeof(numbered) / sizeof(numbered[0]); i++) {
        const char *part = strrchr(name, 'p');

        if (strncmp(name, numbered[i], strlen(numbered[i])) == 0)
            return part && isdigit((unsigned char) part[-1]) && ends_with_number(part + 1);
    }
    return false;
}

static void
add_direction(struct collect *c, const char *device, const char *direction, const uint64_t *fields)
{
    const struct spool_attribute *attributes =
        ATTRIBUTES({ "system.device", device }, { "disk.io.direction", direction });

    collect_add(c, &io, (double) fields[SECTORS] * SECTOR_BYTES, attributes);
    collect_add(c, &operations, (double) fields[OPERATIONS], attributes);
    collect_add(c, &merged, (double) fields[MERGED], attributes);
    collect_add(c, &operation_time, (double) fields[MS] / 1000, attributes);
}

void collect_disk(struct collect *c)
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
        if (is_skipped(name))
            continue;
        if (collect_numbers(&line, fields, N_FIELDS) != N_FIELDS) {
            collect_count_error(c);
            continue;
        }
        add_direction(c, name, "read", fields);
        add_direction(c, name, "write", fields + WRITES);
        collect_add(c, &io_time, (double) fields[IO_MS] / 1000,
                    ATTRIBUTES({ "system.device", name }));
    }
}
