/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/collect/collector.h"

/* /proc/sys/fs/file-nr: "592 0 2466193": in use, free (always 0 since Linux 2.6), limit. */
static const struct collect_metric count = { "system.linux.file_handle.count", "{file_handle}",
                                             SPOOL_GAUGE };
static const struct collect_metric limit = { "system.linux.file_handle.limit", "{file_handle}",
                                             SPOOL_GAUGE };

void collect_filehandles(struct probe *c)
{
    char *text = collect_read(c, "proc/sys/fs/file-nr");
    uint64_t numbers[3];

    if (!text)
        return;
    if (collect_numbers(&text, numbers, 3) != 3) {
        collect_count_error(c);
        return;
    }
    collect_add(c, &count, (double) (numbers[0] - numbers[1]), NULL);
    collect_add(c, &limit, (double) numbers[2], NULL);
}
