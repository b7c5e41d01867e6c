/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>

#include "agent/collect/collector.h"

/*
 * /proc/net/softnet_stat: a row of hexadecimal columns for each CPU that is online: packets that
 * were processed, dropped for a full backlog, and times that the budget ran out with work left.
 */

static const struct collect_metric metrics[] = {
    { "system.linux.softnet.processed", "{packet}", SPOOL_COUNTER },
    { "system.linux.softnet.dropped", "{packet}", SPOOL_COUNTER },
    { "system.linux.softnet.squeezed", "{event}", SPOOL_COUNTER },
};
#define N_COLUMNS 3

static bool parse_row(char *line, uint64_t *columns)
{
    for (size_t i = 0; i < N_COLUMNS; i++) {
        const char *word = collect_word(&line);
        char *end;

        if (!word)
            return false;
        columns[i] = strtoull(word, &end, 16);
        if (*end || end == word)
            return false;
    }
    return true;
}

void collect_softnet(struct probe *c)
{
    char *text = collect_read(c, "proc/net/softnet_stat");
    uint64_t sums[N_COLUMNS] = { 0 };
    unsigned row = 0;

    if (!text)
        return;
    for (char *line; (line = collect_line(&text)); row++) {
        uint64_t columns[N_COLUMNS];
        char cpu[16];

        if (!parse_row(line, columns)) {
            collect_count_error(c);
            return;
        }
        snprintf(cpu, sizeof(cpu), "%u", row);
        for (size_t i = 0; i < N_COLUMNS; i++) {
            sums[i] += columns[i];
            if (c->rules->numbers.per_cpu)
                collect_add(c, &metrics[i], (double) columns[i],
                            ATTRIBUTES({ "cpu.logical_number", cpu }));
        }
    }
    for (size_t i = 0; row > 0 && i < N_COLUMNS; i++)
        collect_add(c, &metrics[i], (double) sums[i], NULL);
}
