/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "agent/collect/collector.h"

/* The agent itself: what it uses, what became of its samples, and how its collectors do. */

static const struct collect_metric cpu_time = { "process.cpu.time", "s", SPOOL_COUNTER };
static const struct collect_metric memory_usage = { "process.memory.usage", "By", SPOOL_GAUGE };
static const struct collect_metric memory_virtual = { "process.memory.virtual", "By", SPOOL_GAUGE };
static const struct collect_metric thread_count = { "process.thread.count", "{thread}",
                                                    SPOOL_GAUGE };
static const struct collect_metric descriptor_count = { "process.unix.file_descriptor.count",
                                                        "{file_descriptor}", SPOOL_GAUGE };

static const struct collect_metric batches_queued = { "sentinel.agent.batches.queued", "{batch}",
                                                      SPOOL_GAUGE };
static const struct collect_metric queue_usage = { "sentinel.agent.queue.usage", "By",
                                                   SPOOL_GAUGE };
static const struct collect_metric samples_produced = { "sentinel.agent.samples.produced",
                                                        "{sample}", SPOOL_COUNTER };
static const struct collect_metric samples_acknowledged = { "sentinel.agent.samples.acknowledged",
                                                            "{sample}", SPOOL_COUNTER };
static const struct collect_metric samples_dropped = { "sentinel.agent.samples.dropped", "{sample}",
                                                       SPOOL_COUNTER };
static const struct collect_metric series_refused = { "sentinel.agent.series.refused", "{series}",
                                                      SPOOL_GAUGE };
static const struct collect_metric filesystems_stuck = { "sentinel.agent.filesystems.stuck",
                                                         "{filesystem}", SPOOL_GAUGE };
static const struct collect_metric collect_errors = { "sentinel.agent.collect.errors", "{error}",
                                                      SPOOL_COUNTER };
static const struct collect_metric collect_duration = { "sentinel.agent.collect.duration", "s",
                                                        SPOOL_GAUGE };

/* Places in proc(5)'s list of /proc/PID/stat, counted from the state, which is the first after the
 * name. */
enum { UTIME = 11, STIME = 12, NUM_THREADS = 17, VSIZE = 20, RSS = 21, N_FIELDS };

static void add_process(struct collect *c)
{
    char *text = collect_read(c, "proc/self/stat");
    char *at = text ? strrchr(text, ')') : NULL;
    uint64_t fields[N_FIELDS] = { 0 };
    size_t n = 0;

    if (!text)
        return;
    if (at)
        at++;
    for (char *word; at && n < N_FIELDS && (word = collect_word(&at)); n++)
        if (!collect_u64(&word, &fields[n]))
            fields[n] = 0; /* the state, and numbers below zero: none that is used here */
    if (n < N_FIELDS) {
        collect_count_error(c);
        return;
    }
    collect_add(c, &cpu_time, (double) fields[UTIME] / c->ticks_per_second,
                ATTRIBUTES({ "cpu.mode", "user" }));
    collect_add(c, &cpu_time, (double) fields[STIME] / c->ticks_per_second,
                ATTRIBUTES({ "cpu.mode", "system" }));
    collect_add(c, &memory_usage, (double) fields[RSS] * c->page_bytes, NULL);
    collect_add(c, &memory_virtual, (double) fields[VSIZE], NULL);
    collect_add(c, &thread_count, (double) fields[NUM_THREADS], NULL);
}

static void add_descriptors(struct collect *c)
{
    int fd = openat(c->root_fd, "proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    unsigned n = 0;

    if (!directory) {
        if (fd >= 0)
            close(fd);
        return;
    }
    for (const struct dirent *entry; (entry = readdir(directory));)
        n += entry->d_name[0] >= '0' && entry->d_name[0] <= '9';
    closedir(directory);
    /* The one that looks is open too, but only now. */
    collect_add(c, &descriptor_count, n > 0 ? n - 1 : 0, NULL);
}

void collect_self(struct collect *c)
{
    const struct spool_ledger *ledger = &c->ledger;

    add_process(c);
    add_descriptors(c);
    collect_add(c, &batches_queued, (double) ledger->queued_batches, NULL);
    collect_add(c, &queue_usage, (double) ledger->queued_bytes, NULL);
    collect_add(c, &samples_produced, (double) ledger->produced_samples, NULL);
    collect_add(c, &samples_acknowledged, (double) ledger->acknowledged_samples, NULL);
    collect_add(c, &samples_dropped, (double) ledger->dropped_samples, NULL);
    collect_add(c, &series_refused, (double) c->refused_series, NULL);
    collect_add(c, &filesystems_stuck, c->mounts ? (double) mounts_n_stuck(c->mounts) : 0, NULL);
    for (size_t i = 0; collect_registry[i].name; i++) {
        const struct spool_attribute *attributes =
            ATTRIBUTES({ "sentinel.collector", collect_registry[i].name });

        if (!c->is_enabled[i])
            continue;
        collect_add(c, &collect_errors, (double) c->errors[i], attributes);
        collect_add(c, &collect_duration, (double) c->duration_us[i] / 1e6, attributes);
    }
}
