#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Ops: the command line of sentinel-hub. One file for each command; ops.c has the table, help, and
 * what they share.
 *
 * Facts go to stdout, messages to stderr. A command's help begins with an example.
 *
 * Thread: the main one.
 */

#include <stdbool.h>

#include "common/base/cleanup.h"
#include "common/base/span.h"
#include "common/conf/conf.h"
#include "server/store/store.h"

enum ops_exit {
    OPS_OK = 0,
    OPS_FAILED = 1,
    OPS_USAGE = 2,
    OPS_NOT_FOUND = 3,
    OPS_DENIED = 4,
    OPS_UNAVAILABLE = 5,
    OPS_PARTIAL = 6,
};

/* Runs the command that argv names; returns the exit code. */
int ops_main(int argc, char **argv);

/* argv[0] is the command's name; each returns the exit code. */
int ops_init(int argc, char **argv);
int ops_run(int argc, char **argv);
int ops_issue(int argc, char **argv);
int ops_certs(int argc, char **argv);
int ops_seal_keys(int argc, char **argv);
int ops_check_config(int argc, char **argv);
int ops_print_config(int argc, char **argv);
int ops_version(int argc, char **argv);
int ops_verify(int argc, char **argv);
int ops_stats(int argc, char **argv);
int ops_compact(int argc, char **argv);
int ops_backup(int argc, char **argv);
int ops_restore(int argc, char **argv);
int ops_audit(int argc, char **argv);

/* ---- for the commands ---- */

struct ops_usage {
    const char *command; /* "issue" */
    const char *words;   /* the positional ones: "agent|operator NAME"; NULL: none */
    const char *text;    /* example first, then what it does; ends with a line break */
    const struct conf_option *options;
    const struct conf_table *table; /* NULL, or: every setting is a flag too */
    size_t min_words, max_words;    /* positional */
};

/*
 * Parses the command's words. -h and --help print the help.
 * Answers -1 to go on, else the exit code: the command is done.
 */
int ops_parse(int argc, char **argv, const struct ops_usage *usage, struct conf_args *ret) MUST_USE;

/* "sentinel-hub issue: text" on stderr; returns `exit_code`. */
int ops_refuse(const char *command, int exit_code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* Opens the state's database beside a running hub. Answers 0 or an exit code, said already. */
struct store;
int ops_open_store(const char *command, const char *state_directory, struct store **ret) MUST_USE;

/* What is wrong with a row of `state` that is not the store's own; NULL: nothing. */
const char *ops_check_row(void *ctx, enum store_table table, struct span key, struct span value);
/* The audit beside it. Answers 0 or an exit code, said already. */
struct audit;
int ops_open_audit(const char *command,
                   const char *state_directory,
                   struct store *store,
                   struct audit **ret) MUST_USE;
/* audit_verify() with the hub's signatures, where there is an authority. Below 0: said already. */
struct audit_anchor;
struct audit_verdict;
struct ops_chain {
    struct store *store;
    struct audit *audit;
    const struct audit_anchor *anchors;
    size_t n_anchors;
    bool has_signatures; /* out: they were looked at */
};
int ops_verify_chain(const char *state_directory,
                     struct ops_chain *chain,
                     struct audit_verdict *ret) MUST_USE;
/* Who runs this command, for the audit: "local/root". Valid until the next call. */
const char *ops_actor(void);

/* The exit code for an outcome of server/pki. */
int ops_exit_of_pki(int r);

/* For a command that opens the whole store: of the log only warnings, faults in its own words. */
void ops_quiet_log(void);

/* <state>/db, for commands that look at the files; answers 0 or an exit code, said already. */
#define OPS_PATH_BYTES 4200
int ops_database(const char *command,
                 const char *state_directory,
                 char to[static OPS_PATH_BYTES]) MUST_USE;

/* ---- found.c: what store_survey() found, for people and as JSON ---- */

struct store_found;
struct json_writer;
void ops_print_found(const struct store_found *found);
/* Members of the object that is open. */
void ops_put_found(struct json_writer *writer, const struct store_found *found);
