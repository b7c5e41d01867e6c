/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "agent/collect/collector.h"

/*
 * /proc/sys/net/netfilter/nf_conntrack_{count,max}, and /proc/net/stat/nf_conntrack: a heading of
 * column names, then a row of hexadecimal numbers for each CPU.
 */

static const struct collect_metric count = { "system.linux.conntrack.count", "{entry}",
                                             SPOOL_GAUGE };
static const struct collect_metric limit = { "system.linux.conntrack.limit", "{entry}",
                                             SPOOL_GAUGE };
static const struct collect_metric events = { "system.linux.conntrack.events", "{event}",
                                              SPOOL_COUNTER };

static const char *const types[] = { "insert_failed", "drop", "early_drop", "invalid" };
#define N_TYPES (sizeof(types) / sizeof(types[0]))
#define MAX_COLUMNS 32

/* types' index of each column, N_TYPES for the others. Returns how many columns. */
static size_t read_heading(char *line, size_t *ret_types)
{
    size_t n = 0;

    for (const char *word; n < MAX_COLUMNS && (word = collect_word(&line)); n++) {
        ret_types[n] = 0;
        while (ret_types[n] < N_TYPES && strcmp(word, types[ret_types[n]]) != 0)
            ret_types[n]++;
    }
    return n;
}

static void add_events(struct probe *c)
{
    char *text = collect_read(c, "proc/net/stat/nf_conntrack");
    char *heading = text ? collect_line(&text) : NULL;
    size_t columns[MAX_COLUMNS];
    size_t n_columns = heading ? read_heading(heading, columns) : 0;
    uint64_t sums[N_TYPES] = { 0 };
    bool has[N_TYPES] = { false };

    if (!heading)
        return;
    for (char *line; (line = collect_line(&text));)
        for (size_t i = 0; i < n_columns; i++) {
            const char *word = collect_word(&line);

            if (!word) {
                collect_count_error(c);
                return;
            }
            if (columns[i] == N_TYPES)
                continue;
            sums[columns[i]] += strtoull(word, NULL, 16);
            has[columns[i]] = true;
        }
    for (size_t i = 0; i < N_TYPES; i++)
        if (has[i])
            collect_add(c, &events, (double) sums[i],
                        ATTRIBUTES({ "system.linux.conntrack.event", types[i] }));
}

void collect_conntrack(struct probe *c)
{
    double value;

    if (!collect_read_number(c, &value, "proc/sys/net/netfilter/nf_conntrack_count"))
        return;
    collect_add(c, &count, value, NULL);
    if (collect_read_number(c, &value, "proc/sys/net/netfilter/nf_conntrack_max"))
        collect_add(c, &limit, value, NULL);
    add_events(c);
}
