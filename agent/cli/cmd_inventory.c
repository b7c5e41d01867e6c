/* SPDX-License-Identifier: Apache-2.0 */
/* sentinel-agent inventory [TABLE] [--json]: what this machine would send. Needs no hub. */
#include <stdlib.h>
#include <string.h>

#include "agent/cli/cmd.h"
#include "agent/inventory/inventory.h"
#include "common/base/ensure.h"
#include "common/base/text.h"
#include "common/json/json.h"

#define WIDEST 60 /* of a column; what is longer makes its row longer */
#define MAX_COLUMNS 24

static void print_json(const struct inventory_table *table, struct json_writer *json)
{
    struct span value;
    size_t at = 0;

    json_open_array(json);
    for (uint64_t row = 0; row < table->n_rows; row++) {
        json_open_object(json);
        for (size_t i = 0; i < table->n_columns && inventory_next_value(table, &at, &value); i++)
            json_put_span(json, table->columns[i], value);
        json_close_object(json);
    }
    json_close_array(json);
}

static void put_padded(struct buf *to, struct span value, size_t width, bool is_last)
{
    CLEANUP(buf_deinit) struct buf shown = { 0 };

    text_append_printable(&shown, value);
    buf_append_span(to, buf_span(&shown));
    for (size_t n = shown.len; !is_last && n < width + 2; n++)
        buf_append_text(to, " ");
}

static void print_table(const struct inventory_table *table, struct buf *to)
{
    size_t widths[MAX_COLUMNS] = { 0 }, at = 0, n = table->n_columns;
    struct span value;

    ensure(n > 0);
    for (size_t i = 0; i < n && i < MAX_COLUMNS; i++)
        widths[i] = strlen(table->columns[i]);
    for (size_t i = 0; inventory_next_value(table, &at, &value); i++) {
        size_t len = value.len < WIDEST ? value.len : WIDEST;

        if (i % n < MAX_COLUMNS && widths[i % n] < len)
            widths[i % n] = len;
    }
    for (size_t i = 0; i < n; i++)
        put_padded(to, span_of_text(table->columns[i]), i < MAX_COLUMNS ? widths[i] : 0,
                   i + 1 == n);
    buf_append_text(to, "\n");
    at = 0;
    for (size_t i = 0; inventory_next_value(table, &at, &value); i++) {
        put_padded(to, value, i % n < MAX_COLUMNS ? widths[i % n] : 0, (i + 1) % n == 0);
        if ((i + 1) % n == 0)
            buf_append_text(to, "\n");
    }
}

/* Without a table: which there are, how many rows, and what kept one from being whole. */
static void print_overview(const struct inventory_snapshot *snapshot, struct buf *to)
{
    size_t n_kinds;
    const struct inventory_kind *kinds = inventory_kinds(&n_kinds);

    buf_printf(to, "%-20s  %8s  %s\n", "table", "rows", "what");
    for (size_t i = 0; i < n_kinds; i++) {
        const struct inventory_table *table = inventory_find(snapshot, kinds[i].name);
        const char *why = inventory_why_missing(snapshot, kinds[i].name);

        if (table)
            buf_printf(to, "%-20s  %8llu  %s%s%s\n", kinds[i].name,
                       (unsigned long long) table->n_rows, kinds[i].help, table->why[0] ? "; " : "",
                       table->why);
        else
            buf_printf(to, "%-20s  %8s  %s%s%s\n", kinds[i].name,
                       why                   ? "failed"
                       : kinds[i].is_default ? "none"
                                             : "off",
                       kinds[i].help, why ? "; " : "", why ? why : "");
    }
}

static int print(const struct inventory_snapshot *snapshot, const char *only, bool is_json)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    struct json_writer json;

    if (!is_json) {
        if (!only)
            print_overview(snapshot, &text);
        else if (snapshot->n_tables > 0)
            print_table(&snapshot->tables[0], &text);
        return cmd_print(&text);
    }
    json_begin(&json, &text, true);
    json_open_object(&json);
    for (size_t i = 0; i < snapshot->n_tables; i++) {
        json_key(&json, snapshot->tables[i].name);
        print_json(&snapshot->tables[i], &json);
    }
    json_close_object(&json);
    buf_append_text(&text, "\n");
    return cmd_print(&text);
}

static int say_unknown(const char *name)
{
    size_t n;
    const struct inventory_kind *kinds = inventory_kinds(&n);
    const char *names[INVENTORY_MAX_TABLES + 1] = { NULL };
    const char *nearest;

    for (size_t i = 0; i < n; i++)
        names[i] = kinds[i].name;
    nearest = text_nearest(name, names);
    return cmd_fail(CLI_NOT_FOUND,
                    nearest ? "inventory: no table `%s`; did you mean `%s`?"
                            : "inventory: no table `%s`%s; without a name all are listed",
                    name, nearest ? nearest : "");
}

int cmd_inventory(int argc, char **argv)
{
    const struct cmd cmd = {
        .usage = "inventory [TABLE] [--json]",
        .help = "Prints what this machine is and has: a list of the tables, or one of them. Needs "
                "no hub and no identity.",
        .has_json = true,
        .has_settings = true,
        .max_words = 1,
    };
    CLEANUP(cmd_line_deinit) struct cmd_line line = { 0 };
    CLEANUP(inventory_snapshot_deinit) struct inventory_snapshot snapshot = { 0 };
    struct inventory_options options;
    int code = CLI_FAILURE;
    int r;

    if (cmd_parse(argc, argv, &cmd, &line, &code))
        return code;
    settings_inventory_options(&line.settings, &options);
    options.only = line.args.n_rest > 0 ? line.args.rest[0] : NULL;
    r = inventory_read(&options, &snapshot);
    if (r == INVENTORY_UNKNOWN)
        return say_unknown(options.only);
    if (r == INVENTORY_NO_ROOT)
        return cmd_fail(CLI_NOT_FOUND, "collect.root: %s cannot be opened", options.root);
    if (r)
        return CLI_FAILURE;
    for (size_t i = 0; i < snapshot.n_tables; i++)
        if (options.only && snapshot.tables[i].why[0])
            (void) cmd_fail(0, "inventory: %s", snapshot.tables[i].why);
    if (options.only && snapshot.n_missing > 0)
        return cmd_fail(CLI_UNAVAILABLE, "inventory: %s", snapshot.missing[0].why);
    if (options.only && snapshot.n_tables == 0)
        (void) cmd_fail(0, "inventory: this machine has no %s", options.only);
    return print(&snapshot, options.only, line.is_json);
}
