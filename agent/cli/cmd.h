#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/* What commands have in common. Private to agent/cli. */

#include "agent/cli/cli.h"
#include "agent/settings.h"
#include "common/base/buf.h"

/* argv[0] is the command's name. Returns a cli_exit. */
typedef int cmd_fn(int argc, char **argv);

cmd_fn cmd_enroll, cmd_run, cmd_collect, cmd_status, cmd_test_connection, cmd_check_config,
    cmd_print_config, cmd_upload, cmd_inventory, cmd_spool, cmd_reload, cmd_policy, cmd_doctor,
    cmd_support_bundle, cmd_version;

struct cmd {
    const char *usage;                 /* "collect --once [--json]" */
    const char *help;                  /* one sentence */
    const struct conf_option *options; /* its own, beside --config, --json and --help; NULL: none */
    bool has_json;
    bool has_settings; /* settings are flags of it, and loaded */
    size_t max_words;  /* positional ones */
};

/* The zero value is fine. Goes nowhere while `sources` is in use. */
struct cmd_line {
    struct conf_args args;
    struct settings settings;
    struct settings_sources sources;
    const char *config;
    bool is_json;
    bool wants_help;
};
void cmd_line_deinit(struct cmd_line *line);

enum cmd_outcome {
    CMD_OK = 0,
    CMD_DONE, /* all is said; leave with *ret_exit */
};
/* Parses and loads; says on stderr what is wrong. Outcomes: CMD_DONE. */
int cmd_parse(int argc,
              char **argv,
              const struct cmd *cmd,
              struct cmd_line *ret,
              int *ret_exit) MUST_USE;

/* "sentinel-agent: ..." on stderr, one line, as a terminal may have it; returns `exit`. */
int cmd_fail(int exit, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* To stdout, whole; returns a cli_exit. */
int cmd_print(const struct buf *text);

struct json;
/*
 * What the running agent has written of itself, in `content` as it is and in *ret parsed. *ret_path
 * is for messages. Outcomes: CMD_DONE (all is said; leave with *ret_exit).
 */
int cmd_read_status(const char *state_directory,
                    struct buf *content,
                    struct json **ret,
                    int *ret_exit) MUST_USE;
/* Whether who wrote it still runs and writes. */
bool cmd_status_is_alive(const struct json *status);

/* "localhost:8082", "127.0.0.1:8082", "[::1]:8082" */
bool cmd_is_on_loopback(const char *hub);
/* With the hub. */
#define CMD_INSECURE_REMEDY                                                                      \
    "--insecure means plaintext and is only for a hub on this machine, such as 127.0.0.1:8082, " \
    "not "                                                                                       \
    "for %s; without it TLS is spoken"
