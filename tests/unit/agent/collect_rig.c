/* SPDX-License-Identifier: Apache-2.0 */
#include "collect_rig.h"

#include "suite.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/file.h"

collect_statvfs_fn *rig_statvfs;
char tree[64];

struct collect_options rig_options(const char *root, const char *only)
{
    static const char *disable[COLLECT_MAX_COLLECTORS];
    struct collect_options options = {
        .root = root,
        .max_series = 4000,
        .statvfs_timeout_us = 5000000,
        .deadline_us = 5000000,
        .statvfs = rig_statvfs,
        .numbers = { .per_cpu = true, .n_top_processes = 5, .max_cgroups = 100 },
        .disable = disable,
    };

    for (const char *const *name = collect_names(); only && *name; name++)
        if (strcmp(*name, only) != 0)
            disable[options.n_disable++] = *name;
    return options;
}

struct collect *new_collect(const char *root, const char *only)
{
    struct collect_options options = rig_options(root, only);
    struct collect *collect = NULL;

    ck_assert_int_eq(collect_new(&collect, &options), 0);
    return collect;
}

static void print_name(const struct spool_series *series, char *to, size_t size)
{
    size_t at = (size_t) snprintf(to, size, "%s", series->name);

    for (size_t i = 0; i < series->n_attributes && at < size; i++)
        at += (size_t) snprintf(to + at, size - at, "%s%s=%s", i ? "," : "{",
                                series->attributes[i].key, series->attributes[i].value);
    if (series->n_attributes && at < size)
        snprintf(to + at, size - at, "}");
}

int find(const struct spool_scrape *sample, const char *name)
{
    for (size_t i = 0; i < sample->layout->n_series; i++) {
        char text[1024];

        print_name(sample->layout->series[i], text, sizeof(text));
        if (strcmp(text, name) == 0)
            return (int) i;
    }
    return -1;
}

bool is_absent(const struct spool_scrape *sample, const char *name)
{
    int at = find(sample, name);

    for (size_t i = 0; i < sample->n_absent; i++)
        if ((int) sample->absent[i] == at)
            return true;
    return at < 0;
}

void expect(const struct spool_scrape *sample, const char *name, double value)
{
    int at = find(sample, name);

    ck_assert_msg(at >= 0, "no series %s", name);
    ck_assert_msg(!is_absent(sample, name), "%s has no value", name);
    ck_assert_msg(sample->values[at] == value, "%s is %.17g, not %.17g", name, sample->values[at],
                  value);
}

static bool is_expected(const char *name, const struct expectation *rows, size_t n_rows)
{
    for (size_t i = 0; i < n_rows; i++)
        if (strcmp(rows[i].name, name) == 0)
            return true;
    return false;
}

void expect_all_of(const char *root,
                   const char *collector,
                   const struct expectation *rows,
                   size_t n_rows)
{
    struct collect *collect = new_collect(root, collector);
    struct collect_totals totals;
    struct spool_scrape sample;

    ck_assert_int_eq(collect_run(collect, &sample), 0);
    for (size_t i = 0; i < n_rows; i++)
        expect(&sample, rows[i].name, rows[i].value);
    for (size_t i = 0; i < sample.layout->n_series; i++) {
        char name[1024];

        print_name(sample.layout->series[i], name, sizeof(name));
        ck_assert_msg(is_expected(name, rows, n_rows), "%s is told of", name);
    }
    ck_assert_uint_eq(sample.n_absent, 0);
    collect_get_totals(collect, &totals);
    ck_assert_uint_eq(totals.errors, 0);
    collect_free(collect);
}

void tree_make(void)
{
    snprintf(tree, sizeof(tree), "/tmp/sentinel-collect-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(tree));
}

void tree_remove(void)
{
    ck_assert_int_eq(file_remove_tree(tree), 0);
}

void tree_write(const char *path, const char *text)
{
    char whole[512], directory[512];

    snprintf(whole, sizeof(whole), "%s/%s", tree, path);
    snprintf(directory, sizeof(directory), "%s", whole);
    *strrchr(directory, '/') = '\0';
    ck_assert_int_eq(file_make_directories(directory, 0755), 0);
    ck_assert_int_eq(file_replace(whole, span_of_text(text), 0644), 0);
}
