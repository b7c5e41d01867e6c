/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/collect/collector.h"
#include "agent/collect/scrape.h"
#include "agent/collect/statsd.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"

static const struct {
    const char *row;
    const char *exclude;
} filters[COLLECT_N_FILTERS] = {
#define F(name, row, exclude) [COLLECT_##name] = { row, exclude },
    COLLECT_FILTERS(F)
#undef F
};

const char *collect_filter_name(enum collect_filter filter)
{
    return filters[filter].row;
}

static int compile(const char *pattern, struct regex **ret, char *ret_error)
{
    int r;

    *ret = NULL;
    if (!pattern[0])
        return 0;
    r = regex_new(ret, span_of_text(pattern), ret_error);
    if (r)
        return r < 0 ? pass(r) : COLLECT_BAD_FILTER;
    return 0;
}

int collect_check_filter(const char *pattern, char ret_error[COLLECT_FILTER_ERROR_BYTES])
{
    char error[REGEX_ERROR_BYTES] = "";
    struct regex *regex = NULL;
    int r = compile(pattern, &regex, error);

    _Static_assert(REGEX_ERROR_BYTES <= COLLECT_FILTER_ERROR_BYTES, "an error's words fit");
    (void) regex_free(regex);
    if (r > 0)
        memcpy(ret_error, error, sizeof(error));
    return r < 0 ? pass(r) : r;
}

const char *collect_check_target(const char *target, bool allow_remote)
{
    return scrape_check(target, allow_remote);
}

const char *collect_check_command(const char *command)
{
    return command[0] == '/' ? NULL
                             : "write the program's whole path, then its words; there is no shell";
}

const char *collect_check_listen(const char *listen)
{
    return statsd_check_listen(listen);
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

static int copy_texts(struct collect_rules *rules, const struct collect_options *options)
{
    for (size_t i = 0; i < COLLECT_N_TEXTS; i++) {
        rules->texts[i] = strdup(options->texts[i] ? options->texts[i] : "");
        if (!rules->texts[i])
            return fault(-ENOMEM, "no memory for the collectors' rules");
    }
    for (size_t i = 0; i < COLLECT_N_LISTS; i++) {
        size_t n = options->lists[i].n_items;

        rules->lists[i].items = calloc(n + 1, sizeof(char *));
        if (!rules->lists[i].items)
            return fault(-ENOMEM, "no memory for the collectors' rules");
        for (size_t at = 0; at < n; at++) {
            rules->lists[i].items[at] = strdup(options->lists[i].items[at]);
            if (!rules->lists[i].items[at])
                return fault(-ENOMEM, "no memory for the collectors' rules");
            rules->lists[i].n_items++;
        }
    }
    return 0;
}

static int fill(struct collect_rules *rules, const struct collect_options *options)
{
    char error[REGEX_ERROR_BYTES];
    int r;

    for (size_t i = 0; collect_registry[i].name; i++)
        rules->is_enabled[i] = collect_registry[i].is_default;
    if (set_rows(rules->is_enabled, options->enable, options->n_enable, true) ||
        set_rows(rules->is_enabled, options->disable, options->n_disable, false))
        return COLLECT_UNKNOWN;
    for (size_t i = 0; i < COLLECT_N_FILTERS; i++) {
        const char *include = options->filters[i].include;
        const char *exclude = options->filters[i].exclude;

        r = compile(include ? include : "", &rules->filters[i].include, error);
        if (r == 0)
            r = compile(exclude ? exclude : filters[i].exclude, &rules->filters[i].exclude, error);
        if (r)
            return r < 0 ? pass(r) : r;
    }
    rules->numbers = options->numbers;
    rules->statvfs_timeout_us = options->statvfs_timeout_us;
    rules->deadline_us = options->deadline_us;
    rules->waits_for_all = options->waits_for_all;
    rules->statvfs = options->statvfs;
    rules->nvme_log = options->nvme_log;
    rules->max_series = options->max_series;
    r = copy_texts(rules, options);
    return r < 0 ? pass(r) : 0;
}

int rules_new(struct collect_rules **ret, const struct collect_options *options)
{
    struct collect_rules *rules = calloc(1, sizeof(*rules));
    int r;

    if (!rules)
        return fault(-ENOMEM, "no memory for the collectors' rules");
    rules->n_refs = 1;
    r = fill(rules, options);
    if (r) {
        (void) rules_unref(rules);
        return r < 0 ? pass(r) : r;
    }
    *ret = rules;
    return 0;
}

struct collect_rules *rules_ref(struct collect_rules *rules)
{
    ensure(rules->n_refs > 0);
    rules->n_refs++;
    return rules;
}

struct collect_rules *rules_unref(struct collect_rules *rules)
{
    if (!rules)
        return NULL;
    ensure(rules->n_refs > 0);
    if (--rules->n_refs > 0)
        return NULL;
    for (size_t i = 0; i < COLLECT_N_FILTERS; i++) {
        (void) regex_free(rules->filters[i].include);
        (void) regex_free(rules->filters[i].exclude);
    }
    for (size_t i = 0; i < COLLECT_N_TEXTS; i++)
        free(rules->texts[i]);
    for (size_t i = 0; i < COLLECT_N_LISTS; i++) {
        for (size_t at = 0; at < rules->lists[i].n_items; at++)
            free(rules->lists[i].items[at]);
        free(rules->lists[i].items);
    }
    free(rules);
    return NULL;
}

bool collect_wants(const struct probe *probe, enum collect_filter filter, const char *item)
{
    const struct regex *include = probe->rules->filters[filter].include;
    const struct regex *exclude = probe->rules->filters[filter].exclude;

    if (include && !regex_matches(include, span_of_text(item)))
        return false;
    return !exclude || !regex_matches(exclude, span_of_text(item));
}
