#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Conf: settings, one row each in a table, from YAML files, environment and flags.
 *
 * A program describes its settings struct by rows; this module fills it: defaults, then the file,
 * then conf.d/ *.yaml beside it in name order, then the environment, then the flags. Later ones
 * win. The YAML is strict: a mapping of mappings whose joined path is a row's name ("listen.grpc");
 * an unknown key, a second value for a key in one file, a value of another type or out of range is
 * an error with file:line:column, and for an unknown key the nearest one.
 *
 * Environment: PREFIX_LISTEN_GRPC for listen.grpc. Flags: --listen-grpc VALUE or
 * --listen-grpc=VALUE; booleans also bare. Lists come comma separated there; a list flag given
 * again adds to it. Everywhere booleans are true and false, no other word.
 *
 * Threads: none. A loaded struct is plain data with strings it owns.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/cleanup.h"

enum conf_type {
    CONF_BOOL,     /* bool */
    CONF_U64,      /* uint64_t */
    CONF_DURATION, /* int64_t, microseconds */
    CONF_SIZE,     /* uint64_t, bytes */
    CONF_TEXT,     /* char *, owned by the struct, never NULL */
    CONF_CHOICE,   /* unsigned: index into `choices` */
    CONF_LIST,     /* struct conf_list */
};

struct conf_list {
    char **items;
    size_t n_items;
};

struct conf_row {
    const char *name; /* "section.key", snake_case */
    enum conf_type type;
    size_t offset; /* in the settings struct */
    /* The default as text, within bounds; NULL: empty, 0, false, the first choice. */
    const char *fallback;
    /* In the type's unit (text: bytes; list: items). Both 0: no bounds; max < min: no upper one. */
    int64_t min, max;
    const char *const *choices; /* NULL at the end; CONF_CHOICE only */
    bool is_reloadable;         /* takes effect at a reload */
    const char *help;           /* one sentence, with the unit */
};

struct conf_table {
    const struct conf_row *rows; /* ends with a row without a name */
    size_t struct_bytes;
    const char *env_prefix; /* such as SENTINEL_HUB */
};

struct conf_flag {
    const char *row; /* a row's name */
    const char *value;
};

struct conf_sources {
    const char *file; /* NULL: none; must exist when file_is_wanted */
    bool file_is_wanted;
    /* The file's bytes, where the caller has read it (and looked at its owner): `file` is its name
     * in messages then, and conf.d is left alone. NULL data: it is read here. */
    struct span text;
    bool use_environment;
    const struct conf_flag *flags;
    size_t n_flags;
};

enum conf_outcome {
    CONF_OK = 0,
    CONF_BAD, /* ret_error says what, where and what to do; the struct is untouched */
};

struct conf_error {
    char text[512]; /* "config.yaml:3:5: unknown key `listen.grcp`; did you mean `listen.grpc`?" */
};

/*
 * Fills `settings` (struct_bytes, to be freed with conf_free()) from the sources.
 * Outcomes: CONF_BAD.
 */
int conf_load(const struct conf_table *table,
              const struct conf_sources *sources,
              void *settings,
              struct conf_error *ret_error) MUST_USE;
void conf_free(const struct conf_table *table, void *settings);

/* Appends YAML that conf_load() reads back to the same settings, each row with its help as a
 * comment. */
void conf_print(const struct conf_table *table, const void *settings, struct buf *to);

/* Names the rows that differ and are not reloadable, comma separated; empty when none. */
void conf_diff_fixed(const struct conf_table *table,
                     const void *old,
                     const void *new_settings,
                     struct buf *to);

/*
 * Command lines. Splits argv into flags that are rows ("--listen-grpc" is listen.grpc; an alias
 * table may rename) and the rest. One grammar for all our programs.
 */
struct conf_option {
    const char *flag;    /* "--state-dir" */
    const char *row;     /* the row it sets, or NULL: it is in `value` / `is_set` */
    const char *metavar; /* "DIR"; NULL: takes no value */
    const char *help;
    const char **value; /* NULL or where the text goes */
    bool *is_set;       /* NULL or set when it was given */
    /* NULL or where each use of a repeatable flag goes; items borrow argv, free() the array. */
    struct conf_list *values;
};

/*
 * Parses argv[1 ..]. Rows of the table are accepted as flags too when `table` is given.
 *   ret   its flags and words borrow argv; everything behind "--" is a word.
 *
 * Outcomes: CONF_BAD (an unknown flag, a value that is missing or not wanted, too many of them).
 */
struct conf_args {
    struct conf_flag flags[64];
    size_t n_flags;
    const char *rest[256];
    size_t n_rest;
};
int conf_parse_args(int argc,
                    char **argv,
                    const struct conf_option *options,
                    const struct conf_table *table,
                    struct conf_args *ret,
                    struct conf_error *ret_error) MUST_USE;
/* Appends the options as aligned help lines. */
void conf_print_options(const struct conf_option *options, struct buf *to);
