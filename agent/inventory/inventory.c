/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/inventory/inventory.h"

#include <fcntl.h>
#include <string.h>

#include "agent/inventory/table.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/file.h"

#define MAX_ROWS 100000
#define MAX_BYTES (UINT64_C(16) << 20)

static bool is_among(const char *name, const char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

static bool is_wanted(const struct inventory_options *options, const struct inventory_kind *kind)
{
    if (options->only)
        return strcmp(options->only, kind->name) == 0;
    if (is_among(kind->name, options->disable, options->n_disable))
        return false;
    return kind->is_default || is_among(kind->name, options->enable, options->n_enable);
}

static const struct inventory_known *find_known(const struct inventory_options *options,
                                                const char *name)
{
    for (size_t i = 0; options->known && i < options->n_known; i++)
        if (strcmp(options->known[i].name, name) == 0)
            return &options->known[i];
    return NULL;
}

static void keep_what_is_new(struct inventory_table *table, const struct inventory_known *known)
{
    table->has_rows = !known || memcmp(known->sha256, table->sha256, sizeof(table->sha256)) != 0;
    if (!table->has_rows)
        buf_deinit(&table->values);
}

/* *ret_is_there: it is in the snapshot. */
static int read_table(const struct inventory_options *options,
                      int root_fd,
                      const struct table_row *row,
                      struct inventory_table *to,
                      bool *ret_is_there)
{
    const struct inventory_known *known = find_known(options, row->kind.name);
    struct table t = {
        .options = options,
        .root_fd = root_fd,
        .to = to,
        .is_known = known != NULL,
        .max_rows = options->max_rows ? options->max_rows : MAX_ROWS,
        .max_bytes = options->max_bytes ? options->max_bytes : MAX_BYTES,
    };
    int r = 0;

    *to = (struct inventory_table){ .name = row->kind.name, .columns = row->columns };
    while (row->columns[to->n_columns])
        to->n_columns++;
    row->fn(&t);
    *ret_is_there = !t.is_absent && (known || !t.is_failed);
    if (!t.is_absent && t.is_unreadable && known) {
        to->is_stale = true;
        to->n_rows = known->n_rows;
        memcpy(to->sha256, known->sha256, sizeof(to->sha256));
        buf_deinit(&to->values);
    } else if (*ret_is_there) {
        /* Read for the first time and not wholly: what there is, and why not more. */
        to->is_stale = t.is_unreadable;
        r = table_finish(&t);
        if (r == 0)
            keep_what_is_new(to, known);
    }
    if (!*ret_is_there || r != 0)
        buf_deinit(&to->values);
    if (t.is_absent)
        to->why[0] = '\0';
    buf_deinit(&t.text);
    buf_deinit(&t.word);
    return r < 0 ? pass(r) : 0;
}

static void note_missing(struct inventory_snapshot *snapshot, const struct inventory_table *table)
{
    struct inventory_missing *missing = &snapshot->missing[snapshot->n_missing];

    if (!table->why[0])
        return;
    missing->name = table->name;
    memcpy(missing->why, table->why, sizeof(missing->why));
    snapshot->n_missing++;
    snapshot->n_stale++;
}

static int
read_all(const struct inventory_options *options, int root_fd, struct inventory_snapshot *snapshot)
{
    for (size_t i = 0; i < table_n_registry; i++) {
        const struct table_row *row = &table_registry[i];
        bool is_there = false;
        int r;

        if (!is_wanted(options, &row->kind))
            continue;
        if (options->is_unwanted && options->is_unwanted(options->ctx))
            return INVENTORY_UNWANTED;
        ensure(snapshot->n_tables + snapshot->n_missing < INVENTORY_MAX_TABLES);
        r = read_table(options, root_fd, row, &snapshot->tables[snapshot->n_tables], &is_there);
        if (r < 0)
            return pass(r);
        if (!is_there) {
            note_missing(snapshot, &snapshot->tables[snapshot->n_tables]);
            continue;
        }
        snapshot->n_stale += snapshot->tables[snapshot->n_tables].is_stale;
        snapshot->n_tables++;
    }
    return 0;
}

static bool is_known_name(const char *name)
{
    for (size_t i = 0; i < table_n_registry; i++)
        if (strcmp(table_registry[i].kind.name, name) == 0)
            return true;
    return false;
}

int inventory_read(const struct inventory_options *options, struct inventory_snapshot *ret)
{
    CLEANUP(fd_closep) int root_fd = -1;
    const int64_t begin_us = clock_mono().us;
    int r;

    *ret = (struct inventory_snapshot){ .time = clock_wall() };
    if (options->only && !is_known_name(options->only))
        return INVENTORY_UNKNOWN;
    root_fd = open(options->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root_fd < 0)
        return INVENTORY_NO_ROOT;
    r = read_all(options, root_fd, ret);
    ret->duration_us = clock_mono().us - begin_us;
    if (r != 0)
        inventory_snapshot_deinit(ret);
    return r < 0 ? pass(r) : r;
}

void inventory_snapshot_deinit(struct inventory_snapshot *snapshot)
{
    for (size_t i = 0; i < snapshot->n_tables; i++)
        buf_deinit(&snapshot->tables[i].values);
    *snapshot = (struct inventory_snapshot){ 0 };
}

const struct inventory_table *inventory_find(const struct inventory_snapshot *snapshot,
                                             const char *name)
{
    for (size_t i = 0; i < snapshot->n_tables; i++)
        if (strcmp(snapshot->tables[i].name, name) == 0)
            return &snapshot->tables[i];
    return NULL;
}

const char *inventory_why_missing(const struct inventory_snapshot *snapshot, const char *name)
{
    for (size_t i = 0; i < snapshot->n_missing; i++)
        if (strcmp(snapshot->missing[i].name, name) == 0)
            return snapshot->missing[i].why;
    return NULL;
}
