/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/collect/collect.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "agent/collect/collector.h"
#include "common/base/clock.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/text.h"

/* Of one series; name and attributes are our own or an interface's, a mount point's. */
#define MAX_KEY_BYTES 8192

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

static int set_rows(bool *rows, const char *const *names, size_t n_names, bool value)
{
    for (size_t i = 0; i < n_names; i++) {
        size_t row = 0;

        while (collect_registry[row].name && strcmp(collect_registry[row].name, names[i]) != 0)
            row++;
        if (!collect_registry[row].name)
            return COLLECT_UNKNOWN;
        rows[row] = value;
    }
    return 0;
}

int collect_configure(struct collect *collect, const struct collect_options *options)
{
    bool rows[COLLECT_MAX_COLLECTORS] = { false };

    for (size_t i = 0; collect_registry[i].name; i++)
        rows[i] = collect_registry[i].is_default;
    if (set_rows(rows, options->enable, options->n_enable, true) ||
        set_rows(rows, options->disable, options->n_disable, false))
        return COLLECT_UNKNOWN;

    memcpy(collect->is_enabled, rows, sizeof(rows));
    collect->per_cpu = options->per_cpu;
    collect->max_series = options->max_series;
    collect->statvfs_timeout_us = options->statvfs_timeout_us;
    collect->statvfs = options->statvfs;
    return 0;
}

int collect_new(struct collect **ret, const struct collect_options *options)
{
    CLEANUP(collect_freep) struct collect *collect = calloc(1, sizeof(*collect));
    int r;

    if (!collect)
        return fault(-ENOMEM, "no memory for the collectors");
    collect->root_fd = -1;
    collect->next_series_id = 1;
    collect->next_layout_id = 1;
    collect->is_changed = true;
    collect->ticks_per_second = (double) sysconf(_SC_CLK_TCK);
    collect->page_bytes = (double) sysconf(_SC_PAGESIZE);

    collect->root = strdup(options->root);
    if (!collect->root)
        return fault(-ENOMEM, "no memory for the collectors");
    collect->root_fd = open(options->root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (collect->root_fd < 0)
        return COLLECT_ABSENT;

    r = collect_configure(collect, options);
    if (r)
        return r;
    *ret = take(collect);
    return 0;
}

struct collect *collect_free(struct collect *collect)
{
    if (!collect)
        return NULL;
    collect->mounts = mounts_free(collect->mounts);
    if (collect->processes)
        closedir(collect->processes);
    map_deinit(&collect->slot_of_key);
    for (size_t i = 0; i < collect->n_slots; i++)
        (void) spool_series_unref(collect->slots[i].series);
    (void) spool_layout_unref(collect->layout);
    free(collect->slots);
    free(collect->values);
    free(collect->absent);
    buf_deinit(&collect->text);
    if (collect->root_fd >= 0)
        close(collect->root_fd);
    free(collect->root);
    free(collect);
    return NULL;
}

void collect_set_ledger(struct collect *collect, const struct spool_ledger *ledger)
{
    collect->ledger = *ledger;
}

void collect_count_error(struct collect *collect)
{
    collect->errors[collect->at]++;
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

static struct collect_slot *
slot_add(struct collect *collect, const struct collect_metric *metric, struct span key)
{
    CLEANUP(spool_series_unrefp) struct spool_series *series = NULL;
    struct collect_slot *slot;

    if (collect->n_slots >= collect->max_series) {
        collect->refused_series++;
        return NULL;
    }
    if (!slots_grow(collect) ||
        spool_series_new(&series, collect->next_series_id, metric->kind, metric->unit, key) ||
        map_put(&collect->slot_of_key, series->key, (void *) (uintptr_t) (collect->n_slots + 1))) {
        collect_count_error(collect);
        return NULL;
    }
    collect->next_series_id++;
    slot = &collect->slots[collect->n_slots++];
    *slot = (struct collect_slot){ .series = take(series) };
    collect->is_changed = true;
    return slot;
}

void collect_add(struct collect *collect,
                 const struct collect_metric *metric,
                 double value,
                 const struct spool_attribute *attributes)
{
    char key[MAX_KEY_BYTES];
    size_t key_bytes = spool_series_key(metric->name, attributes, key, sizeof(key));
    struct collect_slot *slot;
    uintptr_t index;

    if (key_bytes > sizeof(key)) {
        collect_count_error(collect);
        return;
    }
    index = (uintptr_t) map_get(&collect->slot_of_key, span_of(key, key_bytes));
    slot = index ? &collect->slots[index - 1] : slot_add(collect, metric, span_of(key, key_bytes));
    if (!slot)
        return;
    if (slot->round == collect->round) {
        collect_count_error(collect);
        return;
    }
    slot->round = collect->round;
    slot->missing = 0;
    slot->value = value;
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

static void run_collectors(struct collect *collect)
{
    for (size_t i = 0; collect_registry[i].name; i++) {
        int64_t begin = clock_mono().us;

        if (!collect->is_enabled[i])
            continue;
        collect->at = i;
        collect->name = collect_registry[i].name;
        collect_registry[i].fn(collect);
        collect->duration_us[i] = clock_mono().us - begin;
    }
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
        ret->errors += collect->errors[i];
}

/* self is last, so that it can tell how the others did. */
const struct collector collect_registry[] = {
    { "cpu", collect_cpu, true },
    { "load", collect_load, true },
    { "memory", collect_memory, true },
    { "paging", collect_paging, true },
    { "disk", collect_disk, true },
    { "filesystem", collect_filesystem, true },
    { "network", collect_network, true },
    { "processes", collect_processes, true },
    { "pressure", collect_pressure, true },
    { "uptime", collect_uptime, true },
    { "filehandles", collect_filehandles, true },
    { "self", collect_self, true },
    { NULL, NULL, false },
};
