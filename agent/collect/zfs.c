/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "agent/collect/collector.h"

/*
 * /proc/spl/kstat/zfs/arcstats: two heading lines, then "name type data"; and POOL/state of each
 * pool: ONLINE, DEGRADED, FAULTED, ...
 */

static const struct {
    const char *row;
    struct collect_metric metric;
    const char *key, *value;
} rows[] = {
    { "size", { "system.linux.zfs.arc.usage", "By", SPOOL_GAUGE }, NULL, NULL },
    { "c", { "system.linux.zfs.arc.target", "By", SPOOL_GAUGE }, NULL, NULL },
    { "c_max", { "system.linux.zfs.arc.limit", "By", SPOOL_GAUGE }, NULL, NULL },
    { "hits",
      { "system.linux.zfs.arc.operations", "{operation}", SPOOL_COUNTER },
      "system.linux.zfs.arc.result",
      "hit" },
    { "misses",
      { "system.linux.zfs.arc.operations", "{operation}", SPOOL_COUNTER },
      "system.linux.zfs.arc.result",
      "miss" },
    { "l2_hits",
      { "system.linux.zfs.l2arc.operations", "{operation}", SPOOL_COUNTER },
      "system.linux.zfs.arc.result",
      "hit" },
    { "l2_misses",
      { "system.linux.zfs.l2arc.operations", "{operation}", SPOOL_COUNTER },
      "system.linux.zfs.arc.result",
      "miss" },
    { "l2_size", { "system.linux.zfs.l2arc.usage", "By", SPOOL_GAUGE }, NULL, NULL },
    { "memory_throttle_count",
      { "system.linux.zfs.arc.throttled", "{event}", SPOOL_COUNTER },
      NULL,
      NULL },
};
#define N_ROWS (sizeof(rows) / sizeof(rows[0]))

static const struct collect_metric pool_online = { "system.linux.zfs.pool.online", "1",
                                                   SPOOL_GAUGE };

#define MAX_POOLS 64

static void add_arc(struct probe *c)
{
    char *text = collect_read(c, "proc/spl/kstat/zfs/arcstats");
    bool has_any = false;

    if (!text)
        return;
    for (char *line; (line = collect_line(&text));) {
        const char *name = collect_word(&line);
        uint64_t numbers[2];

        for (size_t i = 0; name && i < N_ROWS; i++) {
            if (strcmp(name, rows[i].row) != 0 || collect_numbers(&line, numbers, 2) != 2)
                continue;
            has_any = true;
            collect_add(c, &rows[i].metric, (double) numbers[1],
                        rows[i].key ? ATTRIBUTES({ rows[i].key, rows[i].value }) : NULL);
        }
    }
    if (!has_any)
        collect_count_error(c);
}

void collect_zfs(struct probe *c)
{
    DIR *directory = collect_open_directory(c, "proc/spl/kstat/zfs");
    const char *name;

    if (!directory)
        return;
    for (size_t n = 0; n < MAX_POOLS && (name = collect_next_name(directory));) {
        char text[COLLECT_SMALL_BYTES];
        const char *state = collect_read_small(c, text, "proc/spl/kstat/zfs/%s/state", name);

        if (!state)
            continue; /* not a pool's directory */
        n++;
        collect_add(c, &pool_online, strcmp(state, "ONLINE") == 0,
                    ATTRIBUTES({ "system.linux.zfs.pool", name },
                               { "system.linux.zfs.pool.state", state }));
    }
    closedir(directory);
    add_arc(c);
}
