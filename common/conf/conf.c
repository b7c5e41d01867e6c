/* SPDX-License-Identifier: Apache-2.0 */
#include "common/conf/conf.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/file.h"
#include "common/conf/conf_private.h"

#define FILE_LIMIT_BYTES (1024UL * 1024)

void conf_env_name(const char *prefix, const char *row_name, struct buf *to)
{
    buf_append_text(to, prefix);
    buf_append_text(to, "_");
    for (; *row_name; row_name++) {
        char c = *row_name;

        if (c == '.')
            c = '_';
        else if (c >= 'a' && c <= 'z')
            c = (char) (c - 'a' + 'A');
        buf_append(to, &c, 1);
    }
}

void conf_flag_name(const char *row_name, struct buf *to)
{
    buf_append_text(to, "--");
    for (; *row_name; row_name++) {
        bool is_dash = *row_name == '.' || *row_name == '_';

        buf_append(to, is_dash ? "-" : row_name, 1);
    }
}

/* ---- the layers, lowest first ---- */

static int
apply_defaults(const struct conf_table *table, void *settings, struct conf_error *ret_error)
{
    for (const struct conf_row *row = table->rows; row->name; row++) {
        const char *text = row->fallback;
        int r;

        if (!text && row->type != CONF_TEXT)
            continue; /* all zero is nothing, false, the first choice, an empty list */
        r = conf_value_set(row,
                           &(struct conf_value){ .where = "default", .text = text ? text : "" },
                           settings, ret_error);
        if (r != 0)
            return pass(r);
    }
    return 0;
}

static int apply_file(const struct conf_table *table,
                      const char *path,
                      bool is_wanted,
                      void *settings,
                      struct conf_error *ret_error)
{
    CLEANUP(buf_deinit) struct buf content = { 0 };
    char shown[CONF_SHOWN_BYTES];
    int r = file_read(path, FILE_LIMIT_BYTES, &content);

    if (r == FILE_ABSENT && !is_wanted)
        return 0;
    if (r == FILE_ABSENT)
        return conf_refuse(ret_error, "%s: no such file", conf_shown(path, shown));
    if (r == FILE_DENIED)
        return conf_refuse(ret_error, "%s: may not be read; check its owner and mode",
                           conf_shown(path, shown));
    if (r == FILE_TOO_LARGE)
        return conf_refuse(ret_error, "%s: larger than 1MiB", conf_shown(path, shown));
    if (r != 0)
        return pass(r);
    return pass(conf_yaml_apply(table, path, buf_span(&content), settings, ret_error));
}

static int is_yaml_file(const struct dirent *entry)
{
    size_t len = strlen(entry->d_name);

    return entry->d_name[0] != '.' && len > 5 && strcmp(entry->d_name + len - 5, ".yaml") == 0;
}

/* By bytes: the order does not depend on a locale. */
static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int apply_directory(const struct conf_table *table,
                           const char *file,
                           void *settings,
                           struct conf_error *ret_error)
{
    CLEANUP(buf_deinit) struct buf directory = { 0 };
    const char *slash = strrchr(file, '/');
    struct dirent **entries = NULL;
    char shown[CONF_SHOWN_BYTES];
    int n_entries;
    int r = 0;

    if (slash)
        buf_append(&directory, file, (size_t) (slash - file) + 1);
    buf_append_text(&directory, "conf.d");
    n_entries = scandir(buf_text(&directory), &entries, is_yaml_file, by_name);
    if (n_entries < 0) {
        if (errno == ENOENT || errno == ENOTDIR)
            return 0;
        if (errno == EACCES)
            return conf_refuse(ret_error, "%s: may not be read; check its owner and mode",
                               conf_shown(buf_text(&directory), shown));
        return fault(-errno, "cannot list %s", buf_text(&directory));
    }
    for (int i = 0; i < n_entries; i++) {
        CLEANUP(buf_deinit) struct buf path = { 0 };

        if (r == 0) {
            buf_printf(&path, "%s/%s", buf_text(&directory), entries[i]->d_name);
            r = buf_failed(&path) ? fault(-ENOMEM, "no memory for a path")
                                  : apply_file(table, buf_text(&path), false, settings, ret_error);
        }
        free(entries[i]);
    }
    free(entries);
    return pass(r);
}

static int
apply_environment(const struct conf_table *table, void *settings, struct conf_error *ret_error)
{
    for (const struct conf_row *row = table->rows; row->name; row++) {
        CLEANUP(buf_deinit) struct buf name = { 0 };
        const char *text;
        int r;

        conf_env_name(table->env_prefix, row->name, &name);
        text = getenv(buf_text(&name));
        if (!text)
            continue;
        r = conf_value_set(row, &(struct conf_value){ .where = buf_text(&name), .text = text },
                           settings, ret_error);
        if (r != 0)
            return pass(r);
    }
    return 0;
}

static int apply_flags(const struct conf_table *table,
                       const struct conf_sources *sources,
                       void *settings,
                       struct conf_error *ret_error)
{
    for (size_t i = 0; i < sources->n_flags; i++) {
        const struct conf_flag *flag = &sources->flags[i];
        const struct conf_row *row = conf_row_find(table, flag->row);
        CLEANUP(buf_deinit) struct buf name = { 0 };
        bool is_more = false;
        int r;

        conf_flag_name(flag->row, &name);
        if (!row)
            return conf_refuse(ret_error, "%s: there is no such setting", buf_text(&name));
        for (size_t k = 0; k < i; k++)
            is_more = is_more || strcmp(sources->flags[k].row, flag->row) == 0;
        r = conf_value_set(row,
                           &(struct conf_value){
                               .where = buf_text(&name), .text = flag->value, .is_more = is_more },
                           settings, ret_error);
        if (r != 0)
            return pass(r);
    }
    return 0;
}

/* ---- public ---- */

int conf_load(const struct conf_table *table,
              const struct conf_sources *sources,
              void *settings,
              struct conf_error *ret_error)
{
    void *scratch;
    int r;

    ensure(table->struct_bytes > 0);
    scratch = calloc(1, table->struct_bytes);
    if (!scratch)
        return fault(-ENOMEM, "no memory for the settings");

    r = apply_defaults(table, scratch, ret_error);
    if (r == 0 && sources->text.data)
        r = conf_yaml_apply(table, sources->file, sources->text, scratch, ret_error);
    else if (r == 0 && sources->file)
        r = apply_file(table, sources->file, sources->file_is_wanted, scratch, ret_error);
    if (r == 0 && sources->file && !sources->text.data)
        r = apply_directory(table, sources->file, scratch, ret_error);
    if (r == 0 && sources->use_environment && table->env_prefix)
        r = apply_environment(table, scratch, ret_error);
    if (r == 0)
        r = apply_flags(table, sources, scratch, ret_error);

    if (r == 0)
        memcpy(settings, scratch, table->struct_bytes);
    else
        conf_free(table, scratch);
    free(scratch);
    return pass(r);
}

void conf_free(const struct conf_table *table, void *settings)
{
    if (!settings)
        return;
    for (const struct conf_row *row = table->rows; row->name; row++)
        conf_value_free(row, settings);
}

void conf_diff_fixed(const struct conf_table *table,
                     const void *old,
                     const void *new_settings,
                     struct buf *to)
{
    bool has_any = false;

    for (const struct conf_row *row = table->rows; row->name; row++) {
        if (row->is_reloadable || conf_value_equal(row, old, new_settings))
            continue;
        buf_printf(to, "%s%s", has_any ? ", " : "", row->name);
        has_any = true;
    }
}
