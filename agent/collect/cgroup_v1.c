/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "agent/collect/cgroup.h"

/*
 * Cgroups of version 1 (Documentation/admin-guide/cgroup-v1): a tree for each controller, in which
 * a container has the same path. Where two controllers share one (cpu,cpuacct), each has a link to
 * it.
 *
 * cpuacct.usage_user and cpuacct.usage_sys are in ns, from Linux 4.7 on; cpuacct.stat, which all
 * have, is in ticks.
 */
#define V1(controller) "sys/fs/cgroup/" controller
#define NO_LIMIT (UINT64_C(1) << 62) /* the kernel's "none" is the last whole page below 2^63 */

const char *cgroup_v1_root(struct probe *c)
{
    static const char *const roots[] = { V1("memory"), V1("cpuacct"), V1("pids") };

    for (size_t i = 0; i < sizeof(roots) / sizeof(roots[0]); i++) {
        DIR *directory = collect_open_directory(c, roots[i]);

        if (!directory)
            continue;
        closedir(directory);
        return roots[i];
    }
    return NULL;
}

static bool
read_number(const struct subject *subject, const char *root, const char *file, uint64_t *ret)
{
    char *text = cgroup_read(subject, root, file);

    return text && collect_u64(&text, ret);
}

static void tell_cpu(const struct subject *subject)
{
    static const struct {
        const char *mode, *file, *row;
    } modes[] = { { "user", "cpuacct.usage_user", "user" },
                  { "system", "cpuacct.usage_sys", "system" } };
    uint64_t value;

    for (size_t i = 0; i < 2; i++) {
        double seconds;

        if (read_number(subject, V1("cpuacct"), modes[i].file, &value))
            seconds = (double) value / 1e9;
        else if (cgroup_find_row(cgroup_read(subject, V1("cpuacct"), "cpuacct.stat"), modes[i].row,
                                 &value))
            seconds = (double) value / subject->c->machine->ticks_per_second;
        else
            continue;
        cgroup_say(subject, CGROUP_CPU_TIME, seconds, "cpu.mode", modes[i].mode);
    }
    if (cgroup_find_row(cgroup_read(subject, V1("cpu"), "cpu.stat"), "throttled_time", &value))
        cgroup_say(subject, CGROUP_CPU_THROTTLED, (double) value / 1e9, NULL, NULL);
}

static void tell_memory(const struct subject *subject)
{
    uint64_t usage, value;

    if (!read_number(subject, V1("memory"), "memory.usage_in_bytes", &usage))
        return;
    cgroup_say(subject, CGROUP_MEMORY_USAGE, (double) usage, NULL, NULL);
    if (cgroup_find_row(cgroup_read(subject, V1("memory"), "memory.stat"), "total_inactive_file",
                        &value))
        cgroup_say(subject, CGROUP_MEMORY_WORKING_SET, usage > value ? (double) (usage - value) : 0,
                   NULL, NULL);
    if (read_number(subject, V1("memory"), "memory.limit_in_bytes", &value) && value < NO_LIMIT)
        cgroup_say(subject, CGROUP_MEMORY_LIMIT, (double) value, NULL, NULL);
    if (cgroup_find_row(cgroup_read(subject, V1("memory"), "memory.oom_control"), "oom_kill",
                        &value))
        cgroup_say(subject, CGROUP_MEMORY_OOM_KILLS, (double) value, NULL, NULL);
}

/* "8:0 Read 1", "8:0 Write 2" and others for each device; "Total 3". */
static void tell_io(const struct subject *subject)
{
    char *text = cgroup_read(subject, V1("blkio"), "blkio.throttle.io_service_bytes_recursive");
    uint64_t sums[2] = { 0 };

    if (!text) /* before Linux 4.16 */
        text = cgroup_read(subject, V1("blkio"), "blkio.throttle.io_service_bytes");
    if (!text)
        return;
    for (char *line; (line = collect_line(&text));) {
        const char *device = collect_word(&line);
        const char *direction = device ? collect_word(&line) : NULL;
        uint64_t bytes;
        bool is_write;

        if (!direction || !collect_u64(&line, &bytes))
            continue;
        is_write = strcmp(direction, "Write") == 0;
        if (is_write || strcmp(direction, "Read") == 0)
            sums[is_write] += bytes;
    }
    cgroup_say(subject, CGROUP_DISK_IO, (double) sums[0], "disk.io.direction", "read");
    cgroup_say(subject, CGROUP_DISK_IO, (double) sums[1], "disk.io.direction", "write");
}

void cgroup_v1_tell(const struct subject *subject)
{
    uint64_t value;

    tell_cpu(subject);
    tell_memory(subject);
    tell_io(subject);
    if (read_number(subject, V1("pids"), "pids.current", &value))
        cgroup_say(subject, CGROUP_PROCESS_COUNT, (double) value, NULL, NULL);
}
