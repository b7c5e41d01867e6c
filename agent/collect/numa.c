/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "agent/collect/collector.h"

/*
 * /sys/devices/system/node/nodeN/meminfo: "Node 0 MemTotal:  24684096 kB"; numastat: "numa_hit 123"
 * (Documentation/admin-guide/numastat.rst), in pages. A machine of one node says nothing that
 * memory does not.
 */

static const struct collect_metric usage = { "system.linux.numa.memory.usage", "By", SPOOL_GAUGE };
static const struct collect_metric limit = { "system.linux.numa.memory.limit", "By", SPOOL_GAUGE };
static const struct collect_metric allocations = { "system.linux.numa.allocations", "{page}",
                                                   SPOOL_COUNTER };

#define MAX_NODES 64

static void add_memory(struct probe *c, const char *node)
{
    char path[64];
    char *text;
    uint64_t total = 0, unused = 0;
    bool has_total = false, has_free = false;

    snprintf(path, sizeof(path), "sys/devices/system/node/node%s/meminfo", node);
    text = collect_read(c, path);
    if (!text)
        return;
    for (char *line; (line = collect_line(&text));) {
        const char *name;

        (void) collect_word(&line);
        (void) collect_word(&line);
        name = collect_word(&line);
        if (name && strcmp(name, "MemTotal:") == 0)
            has_total = collect_u64(&line, &total);
        else if (name && strcmp(name, "MemFree:") == 0)
            has_free = collect_u64(&line, &unused);
    }
    if (!has_total || !has_free || unused > total) {
        collect_count_error(c);
        return;
    }
    collect_add(c, &limit, (double) total * 1024, ATTRIBUTES({ "system.linux.numa.node", node }));
    collect_add(c, &usage, (double) (total - unused) * 1024,
                ATTRIBUTES({ "system.linux.numa.node", node }, { "system.memory.state", "used" }));
    collect_add(c, &usage, (double) unused * 1024,
                ATTRIBUTES({ "system.linux.numa.node", node }, { "system.memory.state", "free" }));
}

static void add_allocations(struct probe *c, const char *node)
{
    static const struct {
        const char *row, *type;
    } rows[] = { { "numa_hit", "hit" },         { "numa_miss", "miss" },
                 { "numa_foreign", "foreign" }, { "interleave_hit", "interleave_hit" },
                 { "local_node", "local" },     { "other_node", "other" } };
    char path[64];
    char *text;

    snprintf(path, sizeof(path), "sys/devices/system/node/node%s/numastat", node);
    text = collect_read(c, path);
    for (char *line; text && (line = collect_line(&text));) {
        const char *name = collect_word(&line);
        uint64_t value;

        for (size_t i = 0; name && i < sizeof(rows) / sizeof(rows[0]); i++)
            if (strcmp(name, rows[i].row) == 0 && collect_u64(&line, &value))
                collect_add(c, &allocations, (double) value,
                            ATTRIBUTES({ "system.linux.numa.node", node },
                                       { "system.linux.numa.allocation.type", rows[i].type }));
    }
}

void collect_numa(struct probe *c)
{
    DIR *directory = collect_open_directory(c, "sys/devices/system/node");
    uint64_t nodes[MAX_NODES];
    size_t n = 0;
    const char *name;

    if (!directory)
        return;
    while (n < MAX_NODES && (name = collect_next_name(directory)))
        n += collect_number_of(name, "node", &nodes[n]);
    closedir(directory);
    for (size_t i = 0; n > 1 && i < n; i++) {
        char node[16];

        snprintf(node, sizeof(node), "%u", (unsigned) nodes[i]);
        add_memory(c, node);
        add_allocations(c, node);
    }
}
