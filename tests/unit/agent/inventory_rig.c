/* SPDX-License-Identifier: Apache-2.0 */
#include "inventory_rig.h"

#include "suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/file.h"

char root[64];

void make_root(void)
{
    snprintf(root, sizeof(root), "/tmp/inventory-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(root));
}

void remove_root(void)
{
    ck_assert_int_eq(file_remove_tree(root), 0);
}

void put_bytes(const char *path, const void *bytes, size_t len)
{
    char full[512], directory[512];

    snprintf(full, sizeof(full), "%s/%s", root, path);
    snprintf(directory, sizeof(directory), "%s", full);
    *strrchr(directory, '/') = '\0';
    ck_assert_int_eq(file_make_directories(directory, 0755), 0);
    ck_assert_int_eq(file_replace(full, span_of(bytes, len), 0644), 0);
}

void put_file(const char *path, const char *text)
{
    put_bytes(path, text, strlen(text));
}

void put_link(const char *path, const char *to)
{
    char full[512], directory[512];

    snprintf(full, sizeof(full), "%s/%s", root, path);
    snprintf(directory, sizeof(directory), "%s", full);
    *strrchr(directory, '/') = '\0';
    ck_assert_int_eq(file_make_directories(directory, 0755), 0);
    ck_assert_int_eq(symlink(to, full), 0);
}

const char *rows_with(struct inventory_options options, const char *name)
{
    static char text[8192];
    struct inventory_snapshot snapshot;
    const struct inventory_table *table;
    struct span value;
    size_t at = 0, n = 0;

    options.root = root;
    options.only = name;
    ck_assert_int_eq(inventory_read(&options, &snapshot), 0);
    table = inventory_find(&snapshot, name);
    snprintf(text, sizeof(text), "%s", table ? "" : "none");
    for (size_t i = 0; table && inventory_next_value(table, &at, &value); i++)
        n += (size_t) snprintf(text + n, sizeof(text) - n, "%.*s%s", (int) value.len,
                               (const char *) value.data, (i + 1) % table->n_columns ? "," : ";");
    inventory_snapshot_deinit(&snapshot);
    return text;
}

const char *rows_of(const char *name)
{
    return rows_with((struct inventory_options){ 0 }, name);
}

const char *why_of(struct inventory_options options, const char *name)
{
    static char text[200];
    struct inventory_snapshot snapshot;
    const struct inventory_table *table;
    const char *missing;

    options.root = root;
    options.only = name;
    ck_assert_int_eq(inventory_read(&options, &snapshot), 0);
    table = inventory_find(&snapshot, name);
    missing = inventory_why_missing(&snapshot, name);
    ck_assert(!table || !missing);
    snprintf(text, sizeof(text), "%s", table ? table->why : missing ? missing : "");
    inventory_snapshot_deinit(&snapshot);
    return text;
}
