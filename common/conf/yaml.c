/* SPDX-License-Identifier: Apache-2.0 */
#include "common/conf/conf_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/text.h"

/*
 * The event parser, not libyaml's documents: marks are at hand, and nothing grows with the input.
 * Depth is bounded by the table, because a mapping is entered only where a row's name goes on.
 */

#define PATH_BYTES 256
#define WHERE_BYTES 512

struct walk {
    const struct conf_table *table;
    const char *file;
    void *settings;
    struct conf_error *error;
    yaml_parser_t parser;
    char path[PATH_BYTES]; /* of the key at hand */
    char **seen;           /* paths that have had a value or a mapping in this file */
    size_t n_seen;
};

static void walk_deinit(struct walk *walk)
{
    for (size_t i = 0; i < walk->n_seen; i++)
        free(walk->seen[i]);
    free(walk->seen);
    yaml_parser_delete(&walk->parser);
}

/* People count from 1. */
static const char *where(const struct walk *walk, yaml_mark_t mark, char to[static WHERE_BYTES])
{
    char shown[CONF_SHOWN_BYTES];

    snprintf(to, WHERE_BYTES, "%s:%zu:%zu", conf_shown(walk->file, shown), mark.line + 1,
             mark.column + 1);
    return to;
}

static int refuse(struct walk *walk, yaml_mark_t mark, const char *what)
{
    char at[WHERE_BYTES];

    return conf_refuse(walk->error, "%s: %s", where(walk, mark, at), what);
}

static int refuse_path(struct walk *walk, yaml_mark_t mark, const char *what)
{
    char at[WHERE_BYTES];
    char shown[CONF_SHOWN_BYTES];

    return conf_refuse(walk->error, "%s: `%s` %s", where(walk, mark, at),
                       conf_shown(walk->path, shown), what);
}

static int refuse_syntax(struct walk *walk)
{
    const yaml_parser_t *parser = &walk->parser;
    const char *problem = parser->problem ? parser->problem : "not YAML";
    const char *context = parser->context;
    char shown[CONF_SHOWN_BYTES];
    char at[WHERE_BYTES];

    if (parser->error == YAML_MEMORY_ERROR)
        return fault(-ENOMEM, "no memory to read %s", walk->file);
    if (parser->error == YAML_READER_ERROR)
        return conf_refuse(walk->error, "%s: byte %zu: %s", conf_shown(walk->file, shown),
                           parser->problem_offset, problem);
    return conf_refuse(walk->error, "%s: %s%s%s", where(walk, parser->problem_mark, at), problem,
                       context ? " " : "", context ? context : "");
}

/* Outcomes: CONF_BAD. */
static int next_event(struct walk *walk, yaml_event_t *ret)
{
    const yaml_char_t *anchor = NULL;
    const yaml_char_t *tag = NULL;

    if (!yaml_parser_parse(&walk->parser, ret))
        return refuse_syntax(walk);
    if (ret->type == YAML_ALIAS_EVENT)
        return refuse(walk, ret->start_mark, "aliases (`*name`) are not taken here");
    if (ret->type == YAML_SCALAR_EVENT) {
        anchor = ret->data.scalar.anchor;
        tag = ret->data.scalar.tag;
    } else if (ret->type == YAML_MAPPING_START_EVENT) {
        anchor = ret->data.mapping_start.anchor;
        tag = ret->data.mapping_start.tag;
    } else if (ret->type == YAML_SEQUENCE_START_EVENT) {
        anchor = ret->data.sequence_start.anchor;
        tag = ret->data.sequence_start.tag;
    }
    if (anchor)
        return refuse(walk, ret->start_mark, "anchors (`&name`) are not taken here");
    if (tag)
        return refuse(walk, ret->start_mark, "tags (`!name`) are not taken here");
    return 0;
}

/* ---- names ---- */

static bool is_section(const struct conf_table *table, const char *path)
{
    size_t len = strlen(path);

    for (const struct conf_row *row = table->rows; row->name; row++) {
        if (strncmp(row->name, path, len) == 0 && row->name[len] == '.')
            return true;
    }
    return false;
}

/* Rows and their sections, NULL at the end; the caller frees all. NULL: no memory. */
static char **all_names(const struct conf_table *table)
{
    size_t n_names = 0;
    size_t n_max = 1;
    char **names;

    for (const struct conf_row *row = table->rows; row->name; row++) {
        n_max++;
        for (const char *c = row->name; *c; c++)
            n_max += *c == '.';
    }
    names = calloc(n_max, sizeof(*names));
    if (!names)
        return NULL;
    for (const struct conf_row *row = table->rows; row->name; row++) {
        for (const char *c = row->name; n_names < n_max - 1; c++) {
            if (*c != '.' && *c != '\0')
                continue;
            names[n_names] = strndup(row->name, (size_t) (c - row->name));
            if (!names[n_names++] || *c == '\0')
                break;
        }
    }
    return names;
}

static int refuse_unknown(struct walk *walk, yaml_mark_t mark)
{
    char **names = all_names(walk->table);
    const char *nearest;
    char shown[CONF_SHOWN_BYTES];
    char at[WHERE_BYTES];
    int r;

    if (!names)
        return fault(-ENOMEM, "no memory for names");
    nearest = text_nearest(walk->path, (const char *const *) names);
    conf_shown(walk->path, shown);
    if (nearest)
        r = conf_refuse(walk->error, "%s: unknown key `%s`; did you mean `%s`?",
                        where(walk, mark, at), shown, nearest);
    else
        r = conf_refuse(walk->error, "%s: unknown key `%s`", where(walk, mark, at), shown);
    for (char **name = names; *name; name++)
        free(*name);
    free(names);
    return r;
}

static int note_seen(struct walk *walk, yaml_mark_t mark)
{
    char **seen;

    for (size_t i = 0; i < walk->n_seen; i++) {
        if (strcmp(walk->seen[i], walk->path) == 0)
            return refuse_path(walk, mark, "is given twice in this file; remove one");
    }
    seen = realloc(walk->seen, (walk->n_seen + 1) * sizeof(*seen));
    if (!seen)
        return fault(-ENOMEM, "no memory for keys");
    walk->seen = seen;
    seen[walk->n_seen] = strdup(walk->path);
    if (!seen[walk->n_seen])
        return fault(-ENOMEM, "no memory for keys");
    walk->n_seen++;
    return 0;
}

/* ---- values ---- */

static bool is_null(const yaml_event_t *event)
{
    static const char *const words[] = { "", "~", "null", "Null", "NULL" };

    if (event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE)
        return false;
    for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++) {
        if (strcmp((const char *) event->data.scalar.value, words[i]) == 0)
            return true;
    }
    return false;
}

static int check_scalar(struct walk *walk, const yaml_event_t *event)
{
    if (is_null(event))
        return refuse_path(walk, event->start_mark,
                           "has no value; remove the key, or write \"\" for an empty text");
    if (strlen((const char *) event->data.scalar.value) != event->data.scalar.length)
        return refuse_path(walk, event->start_mark, "has a NUL character");
    return 0;
}

static int take_scalar(struct walk *walk, const struct conf_row *row, const yaml_event_t *event)
{
    struct conf_value value = { 0 };
    char at[WHERE_BYTES];
    int r = check_scalar(walk, event);

    if (r != 0)
        return pass(r);
    value.where = where(walk, event->start_mark, at);
    value.text = (const char *) event->data.scalar.value;
    value.is_quoted = event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    if (row->type == CONF_LIST) {
        char shown[CONF_SHOWN_BYTES];

        return conf_refuse(walk->error, "%s: `%s` must be a list, not `%s`", value.where, row->name,
                           conf_shown(value.text, shown));
    }
    return pass(conf_value_set(row, &value, walk->settings, walk->error));
}

static int add_item(const yaml_event_t *event, char ***items, size_t n_items)
{
    char **grown = realloc(*items, (n_items + 1) * sizeof(*grown));

    if (!grown)
        return fault(-ENOMEM, "no memory for a list");
    *items = grown;
    grown[n_items] = strdup((const char *) event->data.scalar.value);
    return grown[n_items] ? 0 : fault(-ENOMEM, "no memory for a list");
}

static int take_sequence(struct walk *walk, const struct conf_row *row, yaml_mark_t mark)
{
    struct conf_value value = { 0 };
    char **items = NULL;
    size_t n_items = 0;
    char at[WHERE_BYTES];
    int r = 0;

    for (;;) {
        CLEANUP(yaml_event_delete) yaml_event_t event = { 0 };

        r = next_event(walk, &event);
        if (r != 0 || event.type == YAML_SEQUENCE_END_EVENT)
            break;
        r = event.type == YAML_SCALAR_EVENT
                ? check_scalar(walk, &event)
                : refuse_path(walk, event.start_mark, "must be a list of texts");
        if (r == 0)
            r = add_item(&event, &items, n_items);
        if (r != 0)
            break;
        n_items++;
    }
    if (r == 0) {
        static const char *const none[] = { NULL };

        value.where = where(walk, mark, at);
        value.items = items ? (const char *const *) items : none;
        value.n_items = n_items;
        r = conf_value_set(row, &value, walk->settings, walk->error);
    }
    for (size_t i = 0; items && i < n_items; i++)
        free(items[i]);
    free(items);
    return pass(r);
}

static int
refuse_kind(struct walk *walk, const struct conf_row *row, yaml_mark_t mark, const char *kind)
{
    char at[WHERE_BYTES];

    return conf_refuse(walk->error, "%s: `%s` must be %s, not a %s", where(walk, mark, at),
                       row->name, conf_type_words(row->type), kind);
}

static int walk_mapping(struct walk *walk, size_t path_len);

/* The value behind the key in walk->path. */
static int walk_value(struct walk *walk)
{
    const struct conf_row *row = conf_row_find(walk->table, walk->path);
    CLEANUP(yaml_event_delete) yaml_event_t event = { 0 };
    int r = next_event(walk, &event);

    if (r != 0)
        return pass(r);
    if (!row) {
        if (event.type == YAML_MAPPING_START_EVENT)
            return pass(walk_mapping(walk, strlen(walk->path)));
        if (event.type == YAML_SCALAR_EVENT && is_null(&event))
            return 0; /* a section whose keys are all commented out */
        return refuse_path(walk, event.start_mark, "is a section and takes no value of its own");
    }
    if (event.type == YAML_SCALAR_EVENT)
        return pass(take_scalar(walk, row, &event));
    if (event.type == YAML_MAPPING_START_EVENT)
        return refuse_kind(walk, row, event.start_mark, "mapping");
    if (row->type != CONF_LIST)
        return refuse_kind(walk, row, event.start_mark, "list");
    return pass(take_sequence(walk, row, event.start_mark));
}

/* Appends a key to the path. */
static int enter_key(struct walk *walk, size_t path_len, const yaml_event_t *event)
{
    const char *key = (const char *) event->data.scalar.value;
    size_t len = event->data.scalar.length;
    size_t dot = path_len > 0;

    if (strlen(key) != len || path_len + dot + len >= PATH_BYTES)
        return refuse(walk, event->start_mark, "unknown key; no key is that long");
    if (dot)
        walk->path[path_len] = '.';
    memcpy(walk->path + path_len + dot, key, len + 1);
    return 0;
}

/* The mapping's start has been read. */
static int walk_mapping(struct walk *walk, size_t path_len)
{
    for (;;) {
        CLEANUP(yaml_event_delete) yaml_event_t event = { 0 };
        int r = next_event(walk, &event);

        if (r != 0)
            return pass(r);
        if (event.type == YAML_MAPPING_END_EVENT)
            return 0;
        if (event.type != YAML_SCALAR_EVENT)
            return refuse(walk, event.start_mark, "a key must be a plain word");
        r = enter_key(walk, path_len, &event);
        if (r == 0 && !conf_row_find(walk->table, walk->path) &&
            !is_section(walk->table, walk->path))
            r = refuse_unknown(walk, event.start_mark);
        if (r == 0)
            r = note_seen(walk, event.start_mark);
        if (r == 0)
            r = walk_value(walk);
        if (r != 0)
            return pass(r);
        walk->path[path_len] = '\0';
    }
}

static int walk_root(struct walk *walk, const yaml_event_t *event)
{
    if (event->type == YAML_MAPPING_START_EVENT)
        return pass(walk_mapping(walk, 0));
    if (event->type == YAML_SCALAR_EVENT && is_null(event))
        return 0;
    return refuse(walk, event->start_mark, "the file must be a mapping of sections");
}

int conf_yaml_apply(const struct conf_table *table,
                    const char *file,
                    struct span text,
                    void *settings,
                    struct conf_error *ret_error)
{
    struct walk walk = { .table = table, .file = file, .settings = settings, .error = ret_error };
    bool has_document = false;
    bool is_at_end = false;
    int r = 0;

    if (!yaml_parser_initialize(&walk.parser))
        return fault(-ENOMEM, "no memory for the YAML parser");
    yaml_parser_set_input_string(&walk.parser, text.len ? text.data : (const uint8_t *) "",
                                 text.len);
    while (r == 0 && !is_at_end) {
        CLEANUP(yaml_event_delete) yaml_event_t event = { 0 };

        r = next_event(&walk, &event);
        if (r != 0)
            break;
        if (event.type == YAML_STREAM_START_EVENT || event.type == YAML_DOCUMENT_END_EVENT)
            continue;
        if (event.type == YAML_STREAM_END_EVENT)
            is_at_end = true;
        else if (event.type != YAML_DOCUMENT_START_EVENT)
            r = walk_root(&walk, &event);
        else if (has_document)
            r = refuse(&walk, event.start_mark, "a second document; one file holds one");
        else
            has_document = true;
    }
    walk_deinit(&walk);
    return pass(r);
}
