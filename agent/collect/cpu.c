/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "agent/collect/collector.h"

/*
 * /proc/stat: "cpu  user nice system idle iowait irq softirq steal guest guest_nice" in ticks, then
 * a row for each CPU. Time of guests lies in user and nice already. iowait and steal came with
 * later kernels than the rest: absent is zero.
 */

static const struct collect_metric cpu_time = { "system.cpu.time", "s", SPOOL_COUNTER };
static const struct collect_metric logical_count = { "system.cpu.logical.count", "{cpu}",
                                                     SPOOL_GAUGE };
static const struct collect_metric physical_count = { "system.cpu.physical.count", "{cpu}",
                                                      SPOOL_GAUGE };

enum { USER, NICE, SYSTEM, IDLE, IOWAIT, IRQ, SOFTIRQ, STEAL, N_FIELDS };

static void add_times(struct probe *c, const uint64_t *ticks, const char *cpu)
{
    const struct {
        const char *mode;
        uint64_t ticks;
    } rows[] = {
        { "user", ticks[USER] },     { "nice", ticks[NICE] },
        { "system", ticks[SYSTEM] }, { "idle", ticks[IDLE] },
        { "iowait", ticks[IOWAIT] }, { "interrupt", ticks[IRQ] + ticks[SOFTIRQ] },
        { "steal", ticks[STEAL] },
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        double seconds = (double) rows[i].ticks / c->machine->ticks_per_second;

        if (cpu)
            collect_add(c, &cpu_time, seconds,
                        ATTRIBUTES({ "cpu.mode", rows[i].mode }, { "cpu.logical_number", cpu }));
        else
            collect_add(c, &cpu_time, seconds, ATTRIBUTES({ "cpu.mode", rows[i].mode }));
    }
}

struct state {
    uint64_t n_logical; /* that n_physical belongs to */
    uint64_t n_physical;
};

/* Cores: pairs of package and core that are not there twice. Read anew only when CPUs come or go.
 */
static void count_physical(struct probe *c, struct state *state, uint64_t n_logical)
{
    uint64_t pairs[1024][2];
    uint64_t n_pairs = 0;

    if (state->n_logical == n_logical)
        return;
    for (uint64_t cpu = 0, seen = 0; seen < n_logical && cpu < 4096; cpu++) {
        uint64_t pair[2], i = 0;
        char path[96];

        snprintf(path, sizeof(path), "sys/devices/system/cpu/cpu%llu/topology/physical_package_id",
                 (unsigned long long) cpu);
        if (!collect_read_u64(c, path, &pair[0]))
            continue;
        snprintf(path, sizeof(path), "sys/devices/system/cpu/cpu%llu/topology/core_id",
                 (unsigned long long) cpu);
        if (!collect_read_u64(c, path, &pair[1]))
            continue;
        seen++;
        while (i < n_pairs && memcmp(pairs[i], pair, sizeof(pair)) != 0)
            i++;
        if (i == n_pairs && n_pairs < 1024)
            memcpy(pairs[n_pairs++], pair, sizeof(pair));
    }
    state->n_logical = n_logical;
    state->n_physical = n_pairs;
}

void collect_cpu(struct probe *c)
{
    struct state *state = collect_state(c, sizeof(*state));
    char *text = collect_read(c, "proc/stat");
    uint64_t n_logical = 0;
    bool has_total = false;

    if (!text)
        return;
    for (char *line; (line = collect_line(&text)) && strncmp(line, "cpu", 3) == 0;) {
        uint64_t ticks[N_FIELDS] = { 0 };
        const char *name = collect_word(&line);

        if (collect_numbers(&line, ticks, N_FIELDS) <= IDLE) {
            collect_count_error(c);
            continue;
        }
        if (name[3] == '\0') {
            has_total = true;
            add_times(c, ticks, NULL);
            continue;
        }
        n_logical++;
        if (c->rules->numbers.per_cpu)
            add_times(c, ticks, name + 3);
    }
    if (!has_total) {
        collect_count_error(c);
        return;
    }
    collect_add(c, &logical_count, (double) n_logical, NULL);
    if (!state)
        return;
    count_physical(c, state, n_logical);
    if (state->n_physical)
        collect_add(c, &physical_count, (double) state->n_physical, NULL);
}
