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

static const struct collect_metric huge_limit = { "system.memory.linux.hugepages.limit", "{page}",
                                                  SPOOL_GAUGE };
static const struct collect_metric huge_reserved = { "system.memory.linux.hugepages.reserved",
                                                     "{page}", SPOOL_GAUGE };
static const struct collect_metric huge_surplus = { "system.memory.linux.hugepages.surplus",
                                                    "{page}", SPOOL_GAUGE };
static const struct collect_metric huge_page_size = { "system.memory.linux.hugepages.page_size",
                                                      "By", SPOOL_GAUGE };
static const struct collect_metric huge_usage = { "system.memory.linux.hugepages.usage", "{page}",
                                                  SPOOL_GAUGE };
static const struct collect_metric huge_utilization = { "system.memory.linux.hugepages.utilization",
                                                        "1", SPOOL_GAUGE };
static const struct collect_metric dirty = { "system.linux.memory.dirty", "By", SPOOL_GAUGE };
static const struct collect_metric writeback = { "system.linux.memory.writeback", "By",
                                                 SPOOL_GAUGE };
static const struct collect_metric committed = { "system.linux.memory.committed", "By",
                                                 SPOOL_GAUGE };
static const struct collect_metric commit_limit = { "system.linux.memory.commit_limit", "By",
                                                    SPOOL_GAUGE };

enum {
    MEM_TOTAL,
    MEM_FREE,
    MEM_AVAILABLE,
    BUFFERS,
    CACHED,
    SHMEM,
    S_RECLAIMABLE,
    S_UNRECLAIM,
    DIRTY,
    WRITEBACK,
    COMMITTED,
    COMMIT_LIMIT,
    HUGE_TOTAL,
    HUGE_FREE,
    HUGE_RESERVED,
    HUGE_SURPLUS,
    HUGE_PAGE_SIZE,
    N_ROWS,
};

static const char *const row_names[N_ROWS] = {
    "MemTotal:",       "MemFree:",      "MemAvailable:",    "Buffers:",        "Cached:",
    "Shmem:",          "SReclaimable:", "SUnreclaim:",      "Dirty:",          "Writeback:",
    "Committed_AS:",   "CommitLimit:",  "HugePages_Total:", "HugePages_Free:", "HugePages_Rsvd:",
    "HugePages_Surp:", "Hugepagesize:",
};

static void add_states(struct probe *c, const uint64_t *bytes)
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

/* Of the default size; the others are in no one's /proc/meminfo. */
static void add_hugepages(struct probe *c, const uint64_t *rows)
{
    const struct {
        const char *state;
        uint64_t pages;
    } states[] = { { "free", rows[HUGE_FREE] }, { "used", rows[HUGE_TOTAL] - rows[HUGE_FREE] } };

    collect_add(c, &huge_limit, (double) rows[HUGE_TOTAL], NULL);
    collect_add(c, &huge_reserved, (double) rows[HUGE_RESERVED], NULL);
    collect_add(c, &huge_surplus, (double) rows[HUGE_SURPLUS], NULL);
    collect_add(c, &huge_page_size, (double) rows[HUGE_PAGE_SIZE], NULL);
    for (size_t i = 0; rows[HUGE_TOTAL] > 0 && i < 2; i++) {
        const struct spool_attribute *state =
            ATTRIBUTES({ "system.memory.linux.hugepages.state", states[i].state });

        collect_add(c, &huge_usage, (double) states[i].pages, state);
        collect_add(c, &huge_utilization, (double) states[i].pages / (double) rows[HUGE_TOTAL],
                    state);
    }
}

static void add_optional(struct probe *c, const uint64_t *bytes, const bool *has)
{
    const struct {
        size_t row;
        const struct collect_metric *metric;
    } rows[] = {
        { MEM_AVAILABLE, &available }, { SHMEM, &shared },        { DIRTY, &dirty },
        { WRITEBACK, &writeback },     { COMMITTED, &committed }, { COMMIT_LIMIT, &commit_limit }
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (has[rows[i].row])
            collect_add(c, rows[i].metric, (double) bytes[rows[i].row], NULL);
}

void collect_memory(struct probe *c)
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
                bytes[i] *= i >= HUGE_TOTAL && i < HUGE_PAGE_SIZE ? 1 : 1024;
                has[i] = true;
            }
    }
    if (!has[MEM_TOTAL] || !has[MEM_FREE] || !has[CACHED] || bytes[MEM_TOTAL] == 0) {
        collect_count_error(c);
        return;
    }
    collect_add(c, &limit, (double) bytes[MEM_TOTAL], NULL);
    add_states(c, bytes);
    add_optional(c, bytes, has);
    if (has[S_RECLAIMABLE])
        collect_add(c, &slab, (double) bytes[S_RECLAIMABLE],
                    ATTRIBUTES({ "system.memory.linux.slab.state", "reclaimable" }));
    if (has[S_UNRECLAIM])
        collect_add(c, &slab, (double) bytes[S_UNRECLAIM],
                    ATTRIBUTES({ "system.memory.linux.slab.state", "unreclaimable" }));
    if (has[HUGE_TOTAL] && has[HUGE_PAGE_SIZE] && bytes[HUGE_FREE] <= bytes[HUGE_TOTAL])
        add_hugepages(c, bytes);
}
