/* SPDX-License-Identifier: Apache-2.0 */
#include "common/conf/conf_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/fault.h"
#include "common/base/text.h"

#define MAX_FLAGS (sizeof(((struct conf_args *) 0)->flags) / sizeof(struct conf_flag))
#define MAX_REST (sizeof(((struct conf_args *) 0)->rest) / sizeof(const char *))
#define FLAG_BYTES 256

struct command_line {
    int argc;
    char **argv;
    int at; /* the word at hand */
    const struct conf_option *options;
    const struct conf_table *table;
    struct conf_args *args;
    struct conf_error *error;
};

/* A word split at its first '='. */
struct flag_word {
    char name[FLAG_BYTES];
    const char *value; /* NULL: no '=' */
};

static const struct conf_option *find_option(const struct conf_option *options, const char *flag)
{
    for (; options && options->flag; options++) {
        if (strcmp(options->flag, flag) == 0)
            return options;
    }
    return NULL;
}

static const struct conf_row *find_row(const struct conf_table *table, const char *flag)
{
    for (const struct conf_row *row = table ? table->rows : NULL; row && row->name; row++) {
        CLEANUP(buf_deinit) struct buf name = { 0 };

        conf_flag_name(row->name, &name);
        if (strcmp(buf_text(&name), flag) == 0)
            return row;
    }
    return NULL;
}

static int refuse_unknown(const struct command_line *line, const char *flag)
{
    size_t n_names = 0;
    size_t n_max = 1;
    char **names;
    const char *nearest;
    char shown[CONF_SHOWN_BYTES];
    int r;

    for (const struct conf_option *option = line->options; option && option->flag; option++)
        n_max++;
    for (const struct conf_row *row = line->table ? line->table->rows : NULL; row && row->name;
         row++)
        n_max++;
    names = calloc(n_max, sizeof(*names));
    if (!names)
        return fault(-ENOMEM, "no memory for names");
    for (const struct conf_option *option = line->options; option && option->flag; option++) {
        names[n_names] = strdup(option->flag);
        n_names += names[n_names] != NULL;
    }
    for (const struct conf_row *row = line->table ? line->table->rows : NULL; row && row->name;
         row++) {
        CLEANUP(buf_deinit) struct buf name = { 0 };

        conf_flag_name(row->name, &name);
        names[n_names] = strdup(buf_text(&name));
        n_names += names[n_names] != NULL;
    }
    nearest = text_nearest(flag, (const char *const *) names);
    conf_shown(flag, shown);
    r = nearest ? conf_refuse(line->error, "unknown flag `%s`; did you mean `%s`?", shown, nearest)
                : conf_refuse(line->error, "unknown flag `%s`", shown);
    for (size_t i = 0; i < n_names; i++)
        free(names[i]);
    free(names);
    return r;
}

static int add_rest(struct command_line *line, const char *word)
{
    if (line->args->n_rest == MAX_REST)
        return conf_refuse(line->error, "more than %zu words", MAX_REST);
    line->args->rest[line->args->n_rest++] = word;
    return 0;
}

static int add_flag(struct command_line *line, const char *row, const char *value)
{
    if (line->args->n_flags == MAX_FLAGS)
        return conf_refuse(line->error, "more than %zu flags", MAX_FLAGS);
    line->args->flags[line->args->n_flags++] = (struct conf_flag){ .row = row, .value = value };
    return 0;
}

/* From behind the '=' or the next word; a next word that is a flag itself means that the value was
 * forgotten. */
static int take_value(struct command_line *line, const struct flag_word *word, const char **ret)
{
    if (word->value) {
        *ret = word->value;
        return 0;
    }
    if (line->at + 1 >= line->argc || strncmp(line->argv[line->at + 1], "--", 2) == 0)
        return conf_refuse(line->error, "`%s` needs a value", word->name);
    *ret = line->argv[++line->at];
    return 0;
}

static int take_row(struct command_line *line,
                    const struct flag_word *word,
                    const char *row_name,
                    bool is_bool)
{
    const char *value = "true";
    int r = 0;

    if (!is_bool || word->value) {
        r = take_value(line, word, &value);
    } else if (line->at + 1 < line->argc && (strcmp(line->argv[line->at + 1], "true") == 0 ||
                                             strcmp(line->argv[line->at + 1], "false") == 0)) {
        value = line->argv[++line->at];
    }
    return r != 0 ? r : add_flag(line, row_name, value);
}

static int add_value(struct conf_list *values, const char *value)
{
    char **items = realloc(values->items, (values->n_items + 1) * sizeof(*items));

    if (!items)
        return fault(-ENOMEM, "no memory for a list of flags");
    values->items = items;
    /* conf_list owns writable text elsewhere; here it borrows argv, which is writable too. */
    items[values->n_items++] = (char *) (uintptr_t) value;
    return 0;
}

static int take_option(struct command_line *line,
                       const struct flag_word *word,
                       const struct conf_option *option)
{
    const char *value = NULL;
    int r;

    if (option->row) {
        const struct conf_row *row = line->table ? conf_row_find(line->table, option->row) : NULL;

        r = take_row(line, word, option->row, row ? row->type == CONF_BOOL : !option->metavar);
        if (r == 0 && option->is_set)
            *option->is_set = true;
        return r;
    }
    if (!option->metavar && word->value)
        return conf_refuse(line->error, "`%s` takes no value", word->name);
    r = option->metavar ? take_value(line, word, &value) : 0;
    if (r == 0 && value && option->values)
        r = add_value(option->values, value);
    if (r != 0)
        return r;
    if (value && option->value)
        *option->value = value;
    if (option->is_set)
        *option->is_set = true;
    return 0;
}

static int take_flag(struct command_line *line, const char *text)
{
    const struct conf_option *option;
    const struct conf_row *row;
    struct flag_word word = { 0 };
    const char *equals = strncmp(text, "--", 2) == 0 ? strchr(text, '=') : NULL;
    size_t len = equals ? (size_t) (equals - text) : strlen(text);

    if (len >= sizeof(word.name))
        return refuse_unknown(line, text);
    memcpy(word.name, text, len);
    word.value = equals ? equals + 1 : NULL;

    option = find_option(line->options, word.name);
    if (option)
        return take_option(line, &word, option);
    row = find_row(line->table, word.name);
    if (row)
        return take_row(line, &word, row->name, row->type == CONF_BOOL);
    return refuse_unknown(line, word.name);
}

int conf_parse_args(int argc,
                    char **argv,
                    const struct conf_option *options,
                    const struct conf_table *table,
                    struct conf_args *ret,
                    struct conf_error *ret_error)
{
    struct command_line line = { .argc = argc,
                                 .argv = argv,
                                 .options = options,
                                 .table = table,
                                 .args = ret,
                                 .error = ret_error };
    bool is_flag_time = true;

    ret->n_flags = 0;
    ret->n_rest = 0;
    for (line.at = 1; line.at < argc; line.at++) {
        const char *word = argv[line.at];
        int r;

        if (is_flag_time && strcmp(word, "--") == 0) {
            is_flag_time = false;
            continue;
        }
        /* A lone "-" is a word: standard input. */
        r = is_flag_time && word[0] == '-' && word[1] != '\0' ? take_flag(&line, word)
                                                              : add_rest(&line, word);
        if (r != 0)
            return pass(r);
    }
    return 0;
}

void conf_print_options(const struct conf_option *options, struct buf *to)
{
    size_t width = 0;

    for (const struct conf_option *option = options; option && option->flag; option++) {
        size_t len = strlen(option->flag) + (option->metavar ? strlen(option->metavar) + 1 : 0);

        width = len > width ? len : width;
    }
    for (const struct conf_option *option = options; option && option->flag; option++) {
        int n = (int) (width - strlen(option->flag));

        if (option->metavar)
            buf_printf(to, "  %s %-*s  %s\n", option->flag, n > 0 ? n - 1 : 0, option->metavar,
                       option->help ? option->help : "");
        else
            buf_printf(to, "  %s%*s  %s\n", option->flag, n, "", option->help ? option->help : "");
    }
}
