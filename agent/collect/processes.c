/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/collect/collector.h"
#include "common/base/clock.h"
#include "common/base/file.h"

/*
 * One read for each process is what costs here: a scan that took d is not repeated before
 * SCAN_SHARE x d has passed, and the counts of the last one are said again meanwhile. Processes
 * that /proc hides from this user are not counted.
 */
#define SCAN_SHARE 500

static const struct collect_metric count = { "system.process.count", "{process}", SPOOL_GAUGE };
static const struct collect_metric created = { "system.process.created", "{process}",
                                               SPOOL_COUNTER };

enum { RUNNING, SLEEPING, STOPPED, DEFUNCT };

static const char *const state_names[] = { "running", "sleeping", "stopped", "defunct" };

/* The letters of proc(5); idle kernel threads, parked ones and those in the disk's hands all sleep.
 */
static int state_of(char letter)
{
    switch (letter) {
    case 'R':
        return RUNNING;
    case 'T':
    case 't':
        return STOPPED;
    case 'Z':
    case 'X':
    case 'x':
        return DEFUNCT;
    default:
        return SLEEPING;
    }
}

/* "pid (comm) state ...": comm may hold anything, but 64 bytes at most. A process that went
 * meanwhile is not counted. */
static void count_process(struct collect *c, int proc_fd, const char *pid)
{
    char path[32], text[256];
    const char *end;
    ssize_t n;

    snprintf(path, sizeof(path), "%.20s/stat", pid);
    {
        CLEANUP(fd_closep) int fd = openat(proc_fd, path, O_RDONLY | O_CLOEXEC);

        n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    }
    if (n <= 0)
        return;
    text[n] = '\0';
    end = strrchr(text, ')');
    if (!end || end[1] != ' ' || !end[2]) {
        collect_count_error(c);
        return;
    }
    c->process_states[state_of(end[2])]++;
}

static bool scan(struct collect *c)
{
    int fd;

    /* The directory stays open: opendir() allocates 32 KiB each time. */
    if (!c->processes) {
        fd = openat(c->root_fd, "proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
            return false;
        c->processes = fdopendir(fd);
        if (!c->processes) {
            close(fd);
            collect_count_error(c);
            return false;
        }
    }
    rewinddir(c->processes);
    memset(c->process_states, 0, sizeof(c->process_states));
    for (const struct dirent *entry; (entry = readdir(c->processes));)
        if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9')
            count_process(c, dirfd(c->processes), entry->d_name);
    return true;
}

static void add_created(struct collect *c)
{
    char *text = collect_read(c, "proc/stat");
    uint64_t value;

    if (!text)
        return;
    for (char *line; (line = collect_line(&text));) {
        if (strncmp(line, "processes ", 10) != 0)
            continue;
        line += 10;
        if (collect_u64(&line, &value))
            collect_add(c, &created, (double) value, NULL);
        else
            collect_count_error(c);
    }
}

void collect_processes(struct collect *c)
{
    int64_t begin = clock_mono().us;

    if (begin >= c->processes_again_us) {
        int64_t end;

        if (!scan(c))
            return;
        end = clock_mono().us;
        c->processes_again_us = end + (end - begin) * SCAN_SHARE;
    }
    for (size_t i = 0; i < 4; i++)
        collect_add(c, &count, (double) c->process_states[i],
                    ATTRIBUTES({ "process.state", state_names[i] }));
    add_created(c);
}
