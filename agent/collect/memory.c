/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "agent/collect/collector.h"

/*
 * /proc/meminfo: "MemTotal:  24684096 kB". Page cache that can be given back counts as cached, slab
 * included; used is what remains, so that the states add up to the limit.
 */

static const struct collect_metric usage = { "system.memory.usage", "By", SPOOL_GAUGE };
static const struct collect_metric limit = { "system.memory.limit", "By", SPOOL_GAUGE };
static const struct collect_metric utilization = { "system.memory.utilization", "1", SPOOL_GAUGE };
static const struct collect_metric available = { "system.memory.linux.available", "By",
                                                 SPOOL_GAUGE };
static const struct collect_metric shared = { "system.memory.linux.shared", "By", SPOOL_GAUGE };
static const struct collect_metric slab = { "system.memory.linux.slab.usage", "By", SPOOL_GAUGE };

enum {
    MEM_TOTAL,
    MEM_FREE,
    MEM_AVAILABLE,
    BUFFERS,
    CACHED,
    SHMEM,
    S_RECLAIMABLE,
    S_UNRECLAIM,
    N_ROWS,
};

static const char *const row_names[N_ROWS] = {
    "MemTotal:", "MemFree:", "MemAvailable:", "Buffers:",
    "Cached:",   "Shmem:",   "SReclaimable:", "SUnreclaim:",
};

static void add_states(struct collect *c, const uint64_t *bytes)
{
    uint64_t cached = bytes[CACHED] + bytes[S_RECLAIMABLE];
    uint64_t unused = bytes[MEM_FREE] + bytes[BUFFERS] + cached;
    const struct {
        const char *state;
        uint64_t bytes;
    } states[] = {
        { "used", bytes[MEM_TOTAL] > unused ? bytes[MEM_TOTAL] - unused : 0 },
        { "free", bytes[MEM_FREE] },
        { "buffers", bytes[BUFFERS] },
        { "cached", cached },
    };

    for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
        const struct spool_attribute *state =
            ATTRIBUTES({ "system.memory.state", states[i].state });

        collect_add(c, &usage, (double) states[i].bytes, state);
        collect_add(c, &utilization, (double) states[i].bytes / (double) bytes[MEM_TOTAL], state);
    }
}

void collect_memory(struct collect *c)
{
    char *text = collect_read(c, "proc/meminfo");
    uint64_t bytes[N_ROWS] = { 0 };
    bool has[N_ROWS] = { false };

    if (!text)
        return;
    for (char *line; (line = collect_line(&text));) {
        const char *name = collect_word(&line);

        for (size_t i = 0; name && i < N_ROWS; i++)
            if (strcmp(name, row_names[i]) == 0 && collect_u64(&line, &bytes[i])) {
                bytes[i] *= 1024;
                has[i] = true;
            }
    }
    if (!has[MEM_TOTAL] || !has[MEM_FREE] || !has[CACHED] || bytes[MEM_TOTAL] == 0) {
        collect_count_error(c);
        return;
    }
    collect_add(c, &limit, (double) bytes[MEM_TOTAL], NULL);
    add_states(c, bytes);
    if (has[MEM_AVAILABLE])
        collect_add(c, &available, (double) bytes[MEM_AVAILABLE], NULL);
    if (has[SHMEM])
        collect_add(c, &shared, (double) bytes[SHMEM], NULL);
    if (has[S_RECLAIMABLE])
        collect_add(c, &slab, (double) bytes[S_RECLAIMABLE],
                    ATTRIBUTES({ "system.memory.linux.slab.state", "reclaimable" }));
    if (has[S_UNRECLAIM])
        collect_add(c, &slab, (double) bytes[S_UNRECLAIM],
                    ATTRIBUTES({ "system.memory.linux.slab.state", "unreclaimable" }));
}
