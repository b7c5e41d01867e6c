/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/collect/collector.h"
#include "common/base/clock.h"
#include "common/base/file.h"

/*
 * One read for each process is what costs here: a scan that took d is not repeated before
 * SCAN_SHARE x d has passed, and what the last one saw is said again meanwhile. Processes that
 * /proc hides from this user are not counted.
 *
 * By name are told of the N that used most CPU since the scan before (at the first: in their life),
 * and the N that hold most memory; only those of some age, and one that was told of stays while it
 * is among the first 2 N: each that comes is new series, which the hub keeps. A process that leaves
 * both has no value any more, and its series leave the layout after COLLECT_MISSING_ROUNDS: at most
 * 2 N at a time.
 */
#define SCAN_SHARE 500
/* More are counted, but their use of CPU is not compared. */
#define MAX_KNOWN 65536
#define MAX_TOP 50
#define NAME_BYTES 64

static const struct collect_metric count = { "system.process.count", "{process}", SPOOL_GAUGE };
static const struct collect_metric threads = { "system.linux.thread.count", "{thread}",
                                               SPOOL_GAUGE };
static const struct collect_metric thread_limit = { "system.process.limit", "{thread}",
                                                    SPOOL_GAUGE };
static const struct collect_metric created = { "system.process.created", "{process}",
                                               SPOOL_COUNTER };
static const struct collect_metric cpu_time = { "process.cpu.time", "s", SPOOL_COUNTER };
static const struct collect_metric memory_usage = { "process.memory.usage", "By", SPOOL_GAUGE };
static const struct collect_metric memory_virtual = { "process.memory.virtual", "By", SPOOL_GAUGE };
static const struct collect_metric thread_count = { "process.thread.count", "{thread}",
                                                    SPOOL_GAUGE };
static const struct collect_metric disk_io = { "process.disk.io", "By", SPOOL_COUNTER };

enum { RUNNING, SLEEPING, STOPPED, DEFUNCT, N_STATES };
static const char *const state_names[N_STATES] = { "running", "sleeping", "stopped", "defunct" };

/* Places in proc(5)'s list of /proc/PID/stat, counted from the state, which is the first after the
 * name. */
enum { UTIME = 11, STIME = 12, NUM_THREADS = 17, START = 19, VSIZE = 20, RSS = 21, N_FIELDS };

struct process {
    uint64_t pid, start;
    uint64_t user_ticks, system_ticks;
    uint64_t new_ticks; /* since the scan before */
    uint64_t memory_pages, virtual_bytes, n_threads;
    char name[NAME_BYTES];
    char state;
};

struct known {
    uint64_t pid, start, ticks;
};

struct top {
    struct process rows[2 * MAX_TOP]; /* the second half are candidates to stay */
    size_t n;
};

struct state {
    double uptime_s;           /* of this scan; 0: not known */
    uint64_t told[2][MAX_TOP]; /* pids by CPU and by memory, of the scan before */
    size_t n_told[2];
    DIR *directory; /* stays open: opendir() allocates 32 KiB each time */
    int64_t again_us;
    uint64_t states[N_STATES];
    uint64_t n_threads;
    struct top by_cpu, by_memory;
    struct known *known, *before; /* of this scan and the one before, by pid */
    size_t n_known, n_before, known_capacity, before_capacity;
};

void collect_processes_free(void *memory)
{
    struct state *state = memory;

    if (state->directory)
        closedir(state->directory);
    free(state->known);
    free(state->before);
    free(state);
}

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

enum { READ_OK, READ_GONE, READ_BAD };

/* "pid (comm) state ...": comm may hold anything, but 64 bytes at most. */
static int read_process(int proc_fd, const char *pid, struct process *ret)
{
    char path[32], text[1024];
    uint64_t fields[N_FIELDS] = { 0 };
    char *name, *end;
    ssize_t n;

    snprintf(path, sizeof(path), "%.20s/stat", pid);
    {
        CLEANUP(fd_closep) int fd = openat(proc_fd, path, O_RDONLY | O_CLOEXEC);

        n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    }
    if (n <= 0)
        return READ_GONE;
    text[n] = '\0';
    name = strchr(text, '(');
    end = strrchr(text, ')');
    if (!name || !end || end < name || end[1] != ' ' || !end[2])
        return READ_BAD;
    *end = '\0';
    ret->state = end[2];
    end += 2;
    for (size_t i = 0; i < N_FIELDS; i++) {
        char *word = collect_word(&end);

        if (word && !collect_u64(&word, &fields[i]))
            fields[i] = 0; /* the state, and numbers below zero: none that is used here */
    }
    snprintf(ret->name, sizeof(ret->name), "%s", name + 1);
    ret->pid = strtoull(pid, NULL, 10);
    ret->start = fields[START];
    ret->user_ticks = fields[UTIME];
    ret->system_ticks = fields[STIME];
    ret->n_threads = fields[NUM_THREADS];
    ret->virtual_bytes = fields[VSIZE];
    ret->memory_pages = fields[RSS];
    return READ_OK;
}

static int compare_known(const void *a, const void *b)
{
    const struct known *left = a, *right = b;

    return left->pid < right->pid ? -1 : left->pid > right->pid;
}

/* Fills new_ticks, and keeps the process for the next scan. */
static void compare(struct state *state, struct process *process)
{
    struct known key = { process->pid, process->start,
                         process->user_ticks + process->system_ticks };
    const struct known *before =
        state->n_before == 0
            ? NULL
            : bsearch(&key, state->before, state->n_before, sizeof(key), compare_known);

    process->new_ticks = key.ticks;
    if (before && before->start == key.start)
        process->new_ticks = key.ticks > before->ticks ? key.ticks - before->ticks : 0;
    if (state->n_known == state->known_capacity) {
        size_t capacity = state->known_capacity ? state->known_capacity * 2 : 256;
        void *grown =
            capacity > MAX_KNOWN ? NULL : realloc(state->known, capacity * sizeof(*state->known));

        if (!grown)
            return;
        state->known = grown;
        state->known_capacity = capacity;
    }
    state->known[state->n_known++] = key;
}

static void top_put(struct top *top,
                    size_t limit,
                    const struct process *process,
                    uint64_t (*weight_of)(const struct process *))
{
    uint64_t weight = weight_of(process);
    size_t at = top->n;

    if (weight == 0)
        return;
    while (at > 0 && weight_of(&top->rows[at - 1]) < weight)
        at--;
    if (at >= limit)
        return;
    if (top->n < limit)
        top->n++;
    memmove(&top->rows[at + 1], &top->rows[at], (top->n - 1 - at) * sizeof(top->rows[0]));
    top->rows[at] = *process;
}

static uint64_t cpu_of(const struct process *process)
{
    return process->new_ticks;
}

static uint64_t memory_of(const struct process *process)
{
    return process->memory_pages;
}

static bool
is_young(const struct probe *c, const struct state *state, const struct process *process)
{
    double age_s = state->uptime_s - (double) process->start / c->machine->ticks_per_second;

    return state->uptime_s > 0 && age_s * 1e6 < (double) c->rules->numbers.top_min_age_us;
}

static bool was_told(const struct state *state, size_t which, uint64_t pid)
{
    for (size_t i = 0; i < state->n_told[which]; i++)
        if (state->told[which][i] == pid)
            return true;
    return false;
}

/* Of the first 2 N, those that were told of before, then the others by rank, N in all. */
static void top_choose(struct state *state, struct top *top, size_t which, size_t limit)
{
    bool is_chosen[2 * MAX_TOP] = { false };
    size_t n = 0, kept = 0;

    for (size_t i = 0; i < top->n && n < limit; i++)
        n += is_chosen[i] = was_told(state, which, top->rows[i].pid);
    for (size_t i = 0; i < top->n && n < limit; i++) {
        n += !is_chosen[i];
        is_chosen[i] = true;
    }
    for (size_t i = 0; i < top->n; i++)
        if (is_chosen[i]) {
            if (kept != i)
                top->rows[kept] = top->rows[i];
            state->told[which][kept] = top->rows[kept].pid;
            kept++;
        }
    top->n = state->n_told[which] = kept;
}

static size_t top_limit(const struct probe *c)
{
    size_t n = c->rules->numbers.n_top_processes;

    return n > MAX_TOP ? MAX_TOP : n;
}

static void read_uptime(struct probe *c, struct state *state)
{
    char text[COLLECT_SMALL_BYTES];
    char *at = collect_read_small(c, text, "proc/uptime");

    state->uptime_s = 0;
    if (at && !collect_f64(&at, &state->uptime_s))
        state->uptime_s = 0;
}

static void see(struct probe *c, struct state *state, const char *pid)
{
    size_t limit = top_limit(c);
    struct process process;
    int r = read_process(dirfd(state->directory), pid, &process);

    if (r == READ_BAD)
        collect_count_error(c);
    if (r != READ_OK)
        return;
    state->states[state_of(process.state)]++;
    state->n_threads += process.n_threads;
    if (limit == 0)
        return;
    compare(state, &process);
    if (is_young(c, state, &process) || !collect_wants(c, COLLECT_PROCESSES, process.name))
        return;
    top_put(&state->by_cpu, 2 * limit, &process, cpu_of);
    top_put(&state->by_memory, 2 * limit, &process, memory_of);
}

static bool scan(struct probe *c, struct state *state)
{
    struct known *spare = state->before;
    size_t spare_capacity = state->before_capacity;

    if (!state->directory)
        state->directory = collect_open_directory(c, "proc");
    if (!state->directory)
        return false;
    state->before = state->known;
    state->n_before = state->n_known;
    state->before_capacity = state->known_capacity;
    state->known = spare;
    state->known_capacity = spare_capacity;
    state->n_known = 0;
    memset(state->states, 0, sizeof(state->states));
    state->n_threads = 0;
    state->by_cpu.n = state->by_memory.n = 0;
    read_uptime(c, state);
    rewinddir(state->directory);
    for (const char *name; (name = collect_next_name(state->directory));)
        if (name[0] >= '1' && name[0] <= '9')
            see(c, state, name);
    if (state->n_known > 1)
        qsort(state->known, state->n_known, sizeof(*state->known), compare_known);
    top_choose(state, &state->by_cpu, 0, top_limit(c));
    top_choose(state, &state->by_memory, 1, top_limit(c));
    return true;
}

/* Of another user's process only root may know it: silent. */
static void add_io(struct probe *c, const struct process *process, const char *pid)
{
    char path[40], text[512];
    char *cursor = text;
    ssize_t n;

    snprintf(path, sizeof(path), "proc/%s/io", pid);
    {
        CLEANUP(fd_closep)
        int fd = openat(c->machine->root_fd, path, O_RDONLY | O_CLOEXEC);

        n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    }
    if (n <= 0)
        return;
    text[n] = '\0';
    for (char *line; (line = collect_line(&cursor));) {
        bool is_read = strncmp(line, "read_bytes: ", 12) == 0;
        bool is_write = strncmp(line, "write_bytes: ", 13) == 0;
        uint64_t bytes;

        line += is_read ? 12 : is_write ? 13 : 0;
        if ((is_read || is_write) && collect_u64(&line, &bytes))
            collect_add(c, &disk_io, (double) bytes,
                        ATTRIBUTES({ "process.pid", pid },
                                   { "process.executable.name", process->name },
                                   { "disk.io.direction", is_read ? "read" : "write" }));
    }
}

static void add_process(struct probe *c, const struct process *process)
{
    double hz = c->machine->ticks_per_second;
    char pid[24];

    snprintf(pid, sizeof(pid), "%llu", (unsigned long long) process->pid);
#define WHO { "process.pid", pid }, { "process.executable.name", process->name }
    collect_add(c, &cpu_time, (double) process->user_ticks / hz,
                ATTRIBUTES(WHO, { "cpu.mode", "user" }));
    collect_add(c, &cpu_time, (double) process->system_ticks / hz,
                ATTRIBUTES(WHO, { "cpu.mode", "system" }));
    collect_add(c, &memory_usage, (double) process->memory_pages * c->machine->page_bytes,
                ATTRIBUTES(WHO));
    collect_add(c, &memory_virtual, (double) process->virtual_bytes, ATTRIBUTES(WHO));
    collect_add(c, &thread_count, (double) process->n_threads, ATTRIBUTES(WHO));
#undef WHO
    add_io(c, process, pid);
}

static bool is_in(const struct top *top, uint64_t pid)
{
    for (size_t i = 0; i < top->n; i++)
        if (top->rows[i].pid == pid)
            return true;
    return false;
}

static void add_created(struct probe *c)
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

static void add_limit(struct probe *c)
{
    double value;

    if (collect_read_number(c, &value, "proc/sys/kernel/threads-max"))
        collect_add(c, &thread_limit, value, NULL);
}

void collect_processes(struct probe *c)
{
    struct state *state = collect_state(c, sizeof(*state));
    int64_t begin = clock_mono().us;

    if (!state)
        return;
    if (begin >= state->again_us) {
        int64_t end;

        if (!scan(c, state))
            return;
        end = clock_mono().us;
        state->again_us = end + (end - begin) * SCAN_SHARE;
    }
    for (size_t i = 0; i < N_STATES; i++)
        collect_add(c, &count, (double) state->states[i],
                    ATTRIBUTES({ "process.state", state_names[i] }));
    collect_add(c, &threads, (double) state->n_threads, NULL);
    for (size_t i = 0; i < state->by_cpu.n; i++)
        add_process(c, &state->by_cpu.rows[i]);
    for (size_t i = 0; i < state->by_memory.n; i++)
        if (!is_in(&state->by_cpu, state->by_memory.rows[i].pid))
            add_process(c, &state->by_memory.rows[i]);
    add_created(c);
    add_limit(c);
}
