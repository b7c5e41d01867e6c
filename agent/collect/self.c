/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "agent/collect/engine.h"

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
static const struct collect_metric records_produced = { "sentinel.agent.log_records.produced",
                                                        "{record}", SPOOL_COUNTER };
static const struct collect_metric records_acknowledged = {
    "sentinel.agent.log_records.acknowledged", "{record}", SPOOL_COUNTER
};
static const struct collect_metric records_dropped = { "sentinel.agent.log_records.dropped",
                                                       "{record}", SPOOL_COUNTER };
static const struct collect_metric dropped = { "sentinel.agent.dropped", "{record}",
                                               SPOOL_COUNTER };
static const struct collect_metric series_refused = { "sentinel.agent.series.refused", "{series}",
                                                      SPOOL_GAUGE };
static const struct collect_metric errors = { "sentinel.agent.collector.errors", "{error}",
                                              SPOOL_COUNTER };
static const struct collect_metric duration = { "sentinel.agent.collector.duration", "s",
                                                SPOOL_GAUGE };
static const struct collect_metric success = { "sentinel.agent.collector.success", "1",
                                               SPOOL_GAUGE };
static const struct collect_metric late = { "sentinel.agent.collector.late", "{round}",
                                            SPOOL_COUNTER };
static const struct collect_metric denied = { "sentinel.agent.collector.denied", "{file}",
                                              SPOOL_GAUGE };

/* Places in proc(5)'s list of /proc/PID/stat, counted from the state, which is the first after the
 * name. */
enum { UTIME = 11, STIME = 12, NUM_THREADS = 17, VSIZE = 20, RSS = 21, N_FIELDS };

static void add_process(struct probe *c)
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
    collect_add(c, &cpu_time, (double) fields[UTIME] / c->machine->ticks_per_second,
                ATTRIBUTES({ "cpu.mode", "user" }));
    collect_add(c, &cpu_time, (double) fields[STIME] / c->machine->ticks_per_second,
                ATTRIBUTES({ "cpu.mode", "system" }));
    collect_add(c, &memory_usage, (double) fields[RSS] * c->machine->page_bytes, NULL);
    collect_add(c, &memory_virtual, (double) fields[VSIZE], NULL);
    collect_add(c, &thread_count, (double) fields[NUM_THREADS], NULL);
}

static void add_descriptors(struct probe *c)
{
    DIR *directory = collect_open_directory(c, "proc/self/fd");
    unsigned n = 0;

    if (!directory)
        return;
    while (collect_next_name(directory))
        n++;
    closedir(directory);
    /* The one that looks is open too, but only now. */
    collect_add(c, &descriptor_count, n > 0 ? n - 1 : 0, NULL);
}

/* What never happened has no series: one for each collector that is fine would be a hundred. */
static void add_rows(struct probe *c)
{
    for (size_t i = 0; collect_registry[i].name; i++) {
        const struct collect_row *row = &c->collect->rows[i];
        const struct spool_attribute *attributes =
            ATTRIBUTES({ "sentinel.collector", collect_registry[i].name });

        if (!c->rules->is_enabled[i] || !row->has_news)
            continue;
        collect_add(c, &duration, (double) row->duration_us / 1e6, attributes);
        collect_add(c, &success, row->is_success, attributes);
        if (row->errors > 0)
            collect_add(c, &errors, (double) row->errors, attributes);
        if (row->n_late > 0)
            collect_add(c, &late, (double) row->n_late, attributes);
        if (row->n_denied > 0)
            collect_add(c, &denied, (double) row->n_denied, attributes);
    }
}

/* produced = acknowledged + queued + dropped, of each signal. */
static void add_ledgers(struct probe *c)
{
    const struct spool_ledger *metrics = &c->collect->ledgers[SPOOL_METRICS];
    const struct spool_ledger *logs = &c->collect->ledgers[SPOOL_LOGS];
    const struct spool_attribute *of_logs = ATTRIBUTES({ "sentinel.signal", "logs" });

    collect_add(c, &batches_queued, (double) metrics->queued_batches, NULL);
    collect_add(c, &queue_usage, (double) metrics->queued_bytes, NULL);
    collect_add(c, &samples_produced, (double) metrics->produced, NULL);
    collect_add(c, &samples_acknowledged, (double) metrics->acknowledged, NULL);
    collect_add(c, &samples_dropped, (double) metrics->dropped[0], NULL);
    if (logs->produced > 0) {
        collect_add(c, &batches_queued, (double) logs->queued_batches, of_logs);
        collect_add(c, &queue_usage, (double) logs->queued_bytes, of_logs);
        collect_add(c, &records_produced, (double) logs->produced, NULL);
        collect_add(c, &records_acknowledged, (double) logs->acknowledged, NULL);
        collect_add(c, &records_dropped, (double) logs->dropped[0], NULL);
    }
    /* What never happened has no series. */
    for (unsigned i = 0; i < SPOOL_SIGNALS; i++)
        for (unsigned k = 1; k < SPOOL_REASONS; k++) {
            const struct spool_attribute *attributes =
                ATTRIBUTES({ "sentinel.reason", spool_reason_name((enum spool_reason) k) },
                           { "sentinel.signal", spool_signal_name((enum spool_signal) i) });

            if (c->collect->ledgers[i].dropped[k] > 0)
                collect_add(c, &dropped, (double) c->collect->ledgers[i].dropped[k], attributes);
        }
}

void collect_self(struct probe *c)
{
    add_process(c);
    add_descriptors(c);
    add_ledgers(c);
    collect_add(c, &series_refused, (double) c->collect->refused_series, NULL);
    add_rows(c);
}
