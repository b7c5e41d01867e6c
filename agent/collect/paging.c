/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "agent/collect/collector.h"

/*
 * /proc/swaps: a row for each area, sizes in KiB. /proc/vmstat: pgfault counts all faults,
 * pgmajfault those that needed the disk; pswpin and pswpout are pages, each an operation that went
 * to the disk, so `major`.
 */

static const struct collect_metric usage = { "system.paging.usage", "By", SPOOL_GAUGE };
static const struct collect_metric utilization = { "system.paging.utilization", "1", SPOOL_GAUGE };
static const struct collect_metric faults = { "system.paging.faults", "{fault}", SPOOL_COUNTER };
static const struct collect_metric operations = { "system.paging.operations", "{operation}",
                                                  SPOOL_COUNTER };

static void add_area(struct probe *c, const char *device, uint64_t total, uint64_t used)
{
    const struct {
        const char *state;
        uint64_t bytes;
    } states[] = { { "used", used }, { "free", total - used } };

    for (size_t i = 0; i < 2; i++) {
        const struct spool_attribute *attributes =
            ATTRIBUTES({ "system.device", device }, { "system.paging.state", states[i].state });

        collect_add(c, &usage, (double) states[i].bytes, attributes);
        collect_add(c, &utilization, (double) states[i].bytes / (double) total, attributes);
    }
}

static void collect_swaps(struct probe *c)
{
    char *text = collect_read(c, "proc/swaps");

    if (!text || !collect_line(&text)) /* the first line is a heading */
        return;
    for (char *line; (line = collect_line(&text));) {
        const char *device = collect_word(&line);
        uint64_t total, used;

        if (!device || !collect_word(&line) || !collect_u64(&line, &total) ||
            !collect_u64(&line, &used) || total == 0 || used > total) {
            collect_count_error(c);
            continue;
        }
        add_area(c, device, total * 1024, used * 1024);
    }
}

static void collect_vmstat(struct probe *c)
{
    static const char *const names[] = { "pgfault", "pgmajfault", "pswpin", "pswpout" };
    char *text = collect_read(c, "proc/vmstat");
    uint64_t values[4] = { 0 };
    unsigned found = 0;

    if (!text)
        return;
    for (char *line; (line = collect_line(&text));) {
        const char *name = collect_word(&line);

        for (unsigned i = 0; name && i < 4; i++)
            if (strcmp(name, names[i]) == 0 && collect_u64(&line, &values[i]))
                found |= 1u << i;
    }
    if ((found & 3u) != 3u || values[0] < values[1]) {
        collect_count_error(c);
        return;
    }
    collect_add(c, &faults, (double) (values[0] - values[1]),
                ATTRIBUTES({ "system.paging.fault.type", "minor" }));
    collect_add(c, &faults, (double) values[1],
                ATTRIBUTES({ "system.paging.fault.type", "major" }));
    if ((found & 12u) != 12u) /* a kernel without swap */
        return;
    collect_add(
        c, &operations, (double) values[2],
        ATTRIBUTES({ "system.paging.fault.type", "major" }, { "system.paging.direction", "in" }));
    collect_add(
        c, &operations, (double) values[3],
        ATTRIBUTES({ "system.paging.fault.type", "major" }, { "system.paging.direction", "out" }));
}

void collect_paging(struct probe *c)
{
    collect_swaps(c);
    collect_vmstat(c);
}
