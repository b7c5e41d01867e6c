#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/* What the files of common/conf share. */

#include "common/conf/conf.h"

/* A value on its way into a settings struct. All is borrowed. */
struct conf_value {
    const char *where;        /* file:line:column, an environment variable or a flag */
    const char *text;         /* scalars; lists from the environment and flags: comma separated */
    bool is_quoted;           /* YAML only: quoted, so neither a number nor a truth value */
    const char *const *items; /* lists from YAML; NULL: split `text` */
    size_t n_items;
    bool is_more; /* a list goes on instead of beginning anew */
};

/* Writes the error; returns CONF_BAD. */
int conf_refuse(struct conf_error *error, const char *fmt, ...) PRINTF_LIKE(2, 3);

#define CONF_SHOWN_BYTES 128
/* Foreign text for a message: printable, cut to fit. Returns `to`. */
const char *conf_shown(const char *text, char to[static CONF_SHOWN_BYTES]);

/* Where the row's value lies in the struct. */
void *conf_field(const struct conf_row *row, void *settings);
const void *conf_field_const(const struct conf_row *row, const void *settings);

/* NULL when there is none. */
const struct conf_row *conf_row_find(const struct conf_table *table, const char *name);

/* What the type wants, in words: "a whole number". */
const char *conf_type_words(enum conf_type type);

/*
 * Parses, checks bounds and stores; what was there is freed.
 * Outcomes: CONF_BAD (what was there stays).
 */
int conf_value_set(const struct conf_row *row,
                   const struct conf_value *value,
                   void *settings,
                   struct conf_error *ret_error) MUST_USE;
void conf_value_free(const struct conf_row *row, void *settings);
bool conf_value_equal(const struct conf_row *row, const void *a, const void *b);

/* Appends the value as conf_value_set() reads it; not for text and lists. */
void conf_value_print(const struct conf_row *row, const void *settings, struct buf *to);

/* Applies one YAML file's content. Outcomes: CONF_BAD. */
int conf_yaml_apply(const struct conf_table *table,
                    const char *file,
                    struct span text,
                    void *settings,
                    struct conf_error *ret_error) MUST_USE;

/* PREFIX_LISTEN_GRPC and --listen-grpc, for listen.grpc. */
void conf_env_name(const char *prefix, const char *row_name, struct buf *to);
void conf_flag_name(const char *row_name, struct buf *to);
