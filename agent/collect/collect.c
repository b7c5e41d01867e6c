/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/collect/collect.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "agent/collect/engine.h"
#include "common/base/clock.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/text.h"
#include "common/log/log.h"

/* Of a round that waits for all: each program and each target is held to its own time. */
#define MAX_WAIT_US (3600 * INT64_C(1000000))

const char *const *collect_names(void)
{
    static const char *names[COLLECT_MAX_COLLECTORS + 1];

    if (!names[0])
        for (size_t i = 0; collect_registry[i].name; i++)
            names[i] = collect_registry[i].name;
    return names;
}

const char *collect_nearest(const char *name)
{
    return text_nearest(name, collect_names());
}

int collect_configure(struct collect *collect, const struct collect_options *options)
{
    struct collect_rules *rules;
    int r = rules_new(&rules, options);

    if (r)
        return r < 0 ? pass(r) : r;
    collect->rules = rules_unref(collect->rules);
    collect->rules = rules;
    return 0;
}

static void run_job(void *ctx)
{
    struct collect_row *row = ctx;
    int64_t begin = clock_mono().us;

    row->probe.collector->fn(&row->probe);
    row->run_us = clock_mono().us - begin;
}

static void init_rows(struct collect *collect)
{
    for (size_t i = 0; collect_registry[i].name; i++) {
        struct collect_row *row = &collect->rows[i];

        ensure(i < COLLECT_MAX_COLLECTORS);
        row->probe.collector = &collect_registry[i];
        row->probe.machine = &collect->machine;
        row->probe.collect = collect;
        row->probe.text =
            collect_registry[i].manner == COLLECTOR_QUICK ? &collect->text : &row->own_text;
        row->job = (struct helper_job){ .fn = run_job, .ctx = row };
    }
}

int collect_new(struct collect **ret, const struct collect_options *options)
{
    CLEANUP(collect_freep) struct collect *collect = calloc(1, sizeof(*collect));
    int r;

    if (!collect)
        return fault(-ENOMEM, "no memory for the collectors");
    collect->machine.root_fd = -1;
    collect->next_series_id = 1;
    collect->next_layout_id = 1;
    collect->is_changed = true;
    collect->machine.ticks_per_second = (double) sysconf(_SC_CLK_TCK);
    collect->machine.page_bytes = (double) sysconf(_SC_PAGESIZE);
    init_rows(collect);

    collect->machine.root = strdup(options->root);
    collect->helper = helper_new();
    if (!collect->machine.root || !collect->helper)
        return fault(-ENOMEM, "no memory for the collectors");
    collect->machine.root_fd = open(options->root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (collect->machine.root_fd < 0)
        return COLLECT_ABSENT;

    r = collect_configure(collect, options);
    if (r)
        return r < 0 ? pass(r) : r;
    *ret = take(collect);
    return 0;
}

static void row_deinit(struct collect_row *row)
{
    struct probe *probe = &row->probe;

    if (probe->state) {
        if (probe->collector->state_free)
            probe->collector->state_free(probe->state);
        else
            free(probe->state);
    }
    row->rules = rules_unref(row->rules);
    buf_deinit(&probe->tray);
    buf_deinit(&row->own_text);
}

/* Those that a hanging thread may come back to: for the rest of the process. */
static struct collect *left_alone;

struct collect *collect_free(struct collect *collect)
{
    bool is_over;

    if (!collect)
        return NULL;
    collect_stop(collect);
    for (size_t i = 0; collect_registry[i].name; i++)
        if (collect_registry[i].fn == collect_exec)
            collect_exec_stop(&collect->rows[i].probe);
    is_over = helper_free(collect->helper);
    map_deinit(&collect->slot_of_key);
    for (size_t i = 0; i < collect->n_slots; i++)
        (void) spool_series_unref(collect->slots[i].series);
    (void) spool_layout_unref(collect->layout);
    free(collect->slots);
    free(collect->values);
    free(collect->absent);
    if (!is_over) { /* a thread that hangs may come back to its probe */
        collect->next_left = left_alone;
        left_alone = collect;
        return NULL;
    }
    for (size_t i = 0; collect_registry[i].name; i++)
        row_deinit(&collect->rows[i]);
    collect->rules = rules_unref(collect->rules);
    buf_deinit(&collect->text);
    if (collect->machine.root_fd >= 0)
        close(collect->machine.root_fd);
    free(collect->machine.root);
    free(collect);
    return NULL;
}

void collect_set_ledgers(struct collect *collect, const struct spool_ledger ledgers[SPOOL_SIGNALS])
{
    memcpy(collect->ledgers, ledgers, sizeof(collect->ledgers));
}

/* ---- slots ---- */

static bool slots_grow(struct collect *collect)
{
    size_t capacity = collect->slots_capacity ? collect->slots_capacity * 2 : 128;
    void *slots, *values, *absent;

    if (collect->n_slots < collect->slots_capacity)
        return true;
    slots = realloc(collect->slots, capacity * sizeof(*collect->slots));
    if (slots)
        collect->slots = slots;
    values = realloc(collect->values, capacity * sizeof(*collect->values));
    if (values)
        collect->values = values;
    absent = realloc(collect->absent, capacity * sizeof(*collect->absent));
    if (absent)
        collect->absent = absent;
    if (!slots || !values || !absent)
        return false;
    collect->slots_capacity = capacity;
    return true;
}

static struct collect_slot *slot_add(struct collect *collect,
                                     struct collect_row *row,
                                     const struct tray_sample *said,
                                     const char *unit,
                                     struct span key)
{
    CLEANUP(spool_series_unrefp) struct spool_series *series = NULL;
    struct collect_slot *slot;

    if (collect->n_slots >= collect->rules->max_series) {
        collect->refused_series++;
        return NULL;
    }
    if (!slots_grow(collect) ||
        spool_series_new(&series, collect->next_series_id, said->kind, unit, key) ||
        map_put(&collect->slot_of_key, series->key, (void *) (uintptr_t) (collect->n_slots + 1))) {
        row->errors++;
        return NULL;
    }
    collect->next_series_id++;
    slot = &collect->slots[collect->n_slots++];
    *slot = (struct collect_slot){ .series = take(series) };
    collect->is_changed = true;
    return slot;
}

static void pour_sample(struct collect *collect,
                        struct collect_row *row,
                        const struct tray_sample *said,
                        const char *unit,
                        struct span key)
{
    uintptr_t index = (uintptr_t) map_get(&collect->slot_of_key, key);
    struct collect_slot *slot =
        index ? &collect->slots[index - 1] : slot_add(collect, row, said, unit, key);

    if (!slot)
        return;
    if (slot->round == collect->round) {
        row->errors++;
        row->is_success = false;
        return;
    }
    slot->round = collect->round;
    slot->missing = 0;
    slot->value = said->value;
}

/* Takes what a run said into the round. */
static void pour(struct collect *collect, struct collect_row *row)
{
    struct probe *probe = &row->probe;
    const uint8_t *at = probe->tray.data;

    row->has_news = row->has_news || probe->n_samples || probe->n_errors || probe->n_denied;
    row->duration_us = row->run_us;
    row->errors += probe->n_errors;
    row->n_denied = probe->n_denied;
    row->is_success = probe->n_errors == 0;
    for (size_t i = 0; i < probe->n_samples; i++) {
        struct tray_sample said;

        memcpy(&said, at, sizeof(said));
        at += sizeof(said);
        pour_sample(collect, row, &said, (const char *) at,
                    span_of(at + said.unit_bytes, said.key_bytes));
        at += said.unit_bytes + said.key_bytes;
    }
    ensure(at == probe->tray.data + probe->tray.len);
    collect->refused_series += probe->n_refused;
    if (probe->n_denied > 0 && !row->was_denied_said) {
        row->was_denied_said = true;
        log_event(LOG_WARN, "collector_denied", LOG_S("collector", probe->collector->name),
                  LOG_S("path", probe->denied), LOG_U("paths", probe->n_denied),
                  LOG_S("remedy", "give the agent the right to read it, or name the collector in "
                                  "collect.disable; this is said once"));
    }
    probe->tray.len = 0;
    probe->n_samples = 0;
}

/* Takes out what was missing for too long, and keeps the order of the rest. */
static int slots_compact(struct collect *collect)
{
    size_t n = 0;

    for (size_t i = 0; i < collect->n_slots; i++) {
        struct collect_slot *slot = &collect->slots[i];

        if (slot->missing >= COLLECT_MISSING_ROUNDS) {
            (void) map_remove(&collect->slot_of_key, slot->series->key);
            slot->series = spool_series_unref(slot->series);
            continue;
        }
        if (n != i) {
            collect->slots[n] = *slot;
            if (map_put(&collect->slot_of_key, slot->series->key, (void *) (uintptr_t) (n + 1)))
                return fault(-ENOMEM, "no memory for the table of series");
        }
        n++;
    }
    collect->n_slots = n;
    return 0;
}

static int layout_renew(struct collect *collect)
{
    CLEANUP(spool_layout_unrefp) struct spool_layout *layout = NULL;
    struct spool_series **series;
    int r;

    r = slots_compact(collect);
    if (r)
        return pass(r);
    series = calloc(collect->n_slots + 1, sizeof(struct spool_series *));
    if (!series)
        return fault(-ENOMEM, "no memory for a layout");
    for (size_t i = 0; i < collect->n_slots; i++)
        series[i] = collect->slots[i].series;
    r = spool_layout_new(&layout, collect->next_layout_id, series, collect->n_slots);
    free(series);
    if (r)
        return pass(r);
    collect->next_layout_id++;
    (void) spool_layout_unref(collect->layout);
    collect->layout = take(layout);
    collect->is_changed = false;
    return 0;
}

/* ---- a round ---- */

static int64_t boot_us(void)
{
    struct timespec now;

    if (clock_gettime(CLOCK_BOOTTIME, &now) < 0)
        return clock_mono().us;
    return (int64_t) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void row_begin(struct collect *collect, struct collect_row *row)
{
    struct probe *probe = &row->probe;

    row->rules = rules_unref(row->rules);
    row->rules = rules_ref(collect->rules);
    probe->rules = row->rules;
    probe->max_samples = row->rules->max_series;
    probe->n_errors = probe->n_denied = probe->n_refused = 0;
    probe->n_samples = 0;
    probe->tray.len = 0;
}

/* False: its last run is not over. */
static bool row_take(struct collect *collect, struct collect_row *row)
{
    if (!helper_take(collect->helper, &row->job))
        return false;
    row->is_running = false;
    pour(collect, row);
    return true;
}

/*
 * Starts what is not still at it, the slow ones first. What came back since the last round is told
 * now, as late as it is; a slow one then waits for the next round, as it has its values in this
 * one. Returns how many are to be waited for.
 */
static size_t
start_rows(struct collect *collect, enum collector_manner manner, struct helper_job **ret_jobs)
{
    size_t n = 0;

    for (size_t i = 0; collect_registry[i].name; i++) {
        struct collect_row *row = &collect->rows[i];

        if (collect_registry[i].manner != manner)
            continue;
        if (row->is_running && row_take(collect, row) && manner == COLLECTOR_SLOW)
            continue;
        if (row->is_running || !collect->rules->is_enabled[i])
            continue;
        row_begin(collect, row);
        row->is_running = helper_start(collect->helper, &row->job);
        row->is_success = row->is_success && row->is_running;
        if (row->is_running)
            ret_jobs[n++] = &row->job;
    }
    return n;
}

static void take_rows(struct collect *collect, enum collector_manner manner)
{
    for (size_t i = 0; collect_registry[i].name; i++) {
        struct collect_row *row = &collect->rows[i];

        if (collect_registry[i].manner != manner || !row->is_running || row_take(collect, row))
            continue;
        row->is_success = false;
        row->has_news = true;
        row->n_late++;
    }
}

static void run_quick(struct collect *collect, bool is_self)
{
    for (size_t i = 0; collect_registry[i].name; i++) {
        struct collect_row *row = &collect->rows[i];

        if (!collect->rules->is_enabled[i] || collect_registry[i].manner != COLLECTOR_QUICK ||
            (collect_registry[i].fn == collect_self) != is_self)
            continue;
        row_begin(collect, row);
        run_job(row);
        pour(collect, row);
    }
}

/* The quick ones run while the helper does; self is last, so that it can tell how the others did.
 */
static void run_collectors(struct collect *collect)
{
    struct helper_job *jobs[COLLECT_MAX_COLLECTORS];
    struct helper_job *background[COLLECT_MAX_COLLECTORS];
    size_t n_jobs = start_rows(collect, COLLECTOR_SLOW, jobs);
    size_t n_background = start_rows(collect, COLLECTOR_BACKGROUND, background);

    run_quick(collect, false);
    helper_wait(collect->helper, jobs, n_jobs, collect->rules->deadline_us);
    take_rows(collect, COLLECTOR_SLOW);
    if (collect->rules->waits_for_all) {
        helper_wait(collect->helper, background, n_background, MAX_WAIT_US);
        take_rows(collect, COLLECTOR_BACKGROUND);
    }
    run_quick(collect, true);
}

int collect_run(struct collect *collect, struct spool_scrape *ret_sample)
{
    struct spool_scrape sample = { .time = clock_wall(), .boot_us = boot_us() };
    int64_t begin = clock_mono().us;
    int r;

    collect->round++;
    collect->refused_series = 0;
    run_collectors(collect);

    for (size_t i = 0; i < collect->n_slots; i++)
        if (collect->slots[i].round != collect->round &&
            ++collect->slots[i].missing == COLLECT_MISSING_ROUNDS)
            collect->is_changed = true;
    if (collect->is_changed) {
        r = layout_renew(collect);
        if (r)
            return pass(r);
    }

    ensure(collect->layout->n_series == collect->n_slots);
    for (size_t i = 0; i < collect->n_slots; i++) {
        bool is_here = collect->slots[i].round == collect->round;

        collect->values[i] = is_here ? collect->slots[i].value : 0;
        if (!is_here)
            collect->absent[sample.n_absent++] = (uint32_t) i;
    }
    sample.layout = collect->layout;
    sample.values = collect->values;
    sample.absent = collect->absent;
    collect->last_round_us = clock_mono().us - begin;
    *ret_sample = sample;
    return 0;
}

void collect_get_totals(const struct collect *collect, struct collect_totals *ret)
{
    *ret = (struct collect_totals){
        .rounds = collect->round,
        .refused_series = collect->refused_series,
        .n_series = collect->n_slots,
        .last_round_us = collect->last_round_us,
    };
    for (size_t i = 0; collect_registry[i].name; i++)
        ret->errors += collect->rows[i].errors;
}

bool collect_get_report(const struct collect *collect, size_t at, struct collect_report *ret)
{
    const struct collect_row *row = &collect->rows[at];

    if (at >= COLLECT_MAX_COLLECTORS || !collect_registry[at].name)
        return false;
    *ret = (struct collect_report){
        .collector = collect_registry[at].name,
        .is_on = collect->rules->is_enabled[at],
        .n_errors = row->errors,
        .n_denied = row->n_denied,
        .denied = row->probe.denied,
    };
    return true;
}

const struct collector collect_registry[] = {
    { "cpu", collect_cpu, true, COLLECTOR_QUICK, NULL },
    { "cpufreq", collect_cpufreq, true, COLLECTOR_QUICK, NULL },
    { "load", collect_load, true, COLLECTOR_QUICK, NULL },
    { "memory", collect_memory, true, COLLECTOR_QUICK, NULL },
    { "numa", collect_numa, true, COLLECTOR_QUICK, NULL },
    { "paging", collect_paging, true, COLLECTOR_QUICK, NULL },
    { "disk", collect_disk, true, COLLECTOR_QUICK, NULL },
    { "filesystem", collect_filesystem, true, COLLECTOR_QUICK, collect_filesystem_free },
    { "network", collect_network, true, COLLECTOR_QUICK, NULL },
    { "sockets", collect_sockets, true, COLLECTOR_SLOW, NULL },
    { "softnet", collect_softnet, true, COLLECTOR_QUICK, NULL },
    { "conntrack", collect_conntrack, true, COLLECTOR_QUICK, NULL },
    { "processes", collect_processes, true, COLLECTOR_SLOW, collect_processes_free },
    { "pressure", collect_pressure, true, COLLECTOR_QUICK, NULL },
    { "uptime", collect_uptime, true, COLLECTOR_QUICK, NULL },
    { "filehandles", collect_filehandles, true, COLLECTOR_QUICK, NULL },
    { "clock", collect_clock, true, COLLECTOR_QUICK, NULL },
    { "entropy", collect_entropy, true, COLLECTOR_QUICK, NULL },
    { "hwmon", collect_hwmon, true, COLLECTOR_SLOW, NULL },
    { "thermal", collect_thermal, true, COLLECTOR_SLOW, NULL },
    { "power", collect_power, true, COLLECTOR_SLOW, NULL },
    { "mdadm", collect_mdadm, true, COLLECTOR_QUICK, NULL },
    { "nvme", collect_nvme, true, COLLECTOR_SLOW, NULL },
    { "zfs", collect_zfs, true, COLLECTOR_QUICK, NULL },
    { "bonding", collect_bonding, true, COLLECTOR_QUICK, NULL },
    { "systemd", collect_systemd, true, COLLECTOR_SLOW, collect_systemd_free },
    { "cgroup", collect_cgroup, true, COLLECTOR_SLOW, NULL },
    { "textfile", collect_textfile, true, COLLECTOR_SLOW, NULL },
    { "statsd", collect_statsd, true, COLLECTOR_QUICK, NULL },
    { "scrape", collect_scrape, true, COLLECTOR_BACKGROUND, NULL },
    { "exec", collect_exec, true, COLLECTOR_BACKGROUND, NULL },
    { "self", collect_self, true, COLLECTOR_QUICK, NULL },
    { NULL, NULL, false, COLLECTOR_QUICK, NULL },
};
