#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Sentinelctl: an operator's view of the hub from a shell. A gRPC client like any other; it knows
 * nothing of the server's insides.
 *
 * Data goes to stdout, messages to stderr, --json gives one object with stable names. Exit codes: 0
 * ok, 1 failure, 2 usage, 3 not found, 4 denied, 5 unavailable, 6 partial.
 *
 * Files: main.c arguments and the command table; session.c connection and calls; table.c text
 * tables; format.c values for people; plot.c the plot; cmd_<name>.c the commands. Threads: none.
 */

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "common/base/arena.h"
#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/conf/conf.h"
#include "common/json/json.h"

enum ctl_exit {
    CTL_OK = 0,
    CTL_FAILED = 1,
    CTL_USAGE = 2,
    CTL_NOT_FOUND = 3,
    CTL_DENIED = 4,
    CTL_UNAVAILABLE = 5,
    CTL_PARTIAL = 6,
};

struct ctl_session;
struct loop;
struct rpc_channel;

/* What the command line said. */
struct ctl {
    const char *hub, *identity, *server_name, *timeout;
    bool is_json, no_color, is_insecure, wants_help, wants_version;
    struct conf_list agents, attributes, group_by, labels, tables;
    const char *out, *name, *type, *at;
    bool is_forced;
    const char *range, *from, *to, *step, *aggregation, *group_aggregation, *top, *by, *height,
        *width;
    bool group_all, latest, is_ascii;
    struct conf_list contains;
    const char *regex, *severity, *source, *limit, *page_token;
    bool is_oldest_first;
    struct {
        const char *ttl, *uses, *id, *addresses, *reason, *role, *state, *kind, *cn, *o, *ou;
        const char *event, *actor, *object, *address, *anchors, *who, *burst;
        bool replaces, replaces_never, reissues, must_sign, may_register, only_failures;
    } admin; /* of the commands about identities, audit and limits */
    bool is_dry_run, is_sure;
    const char *const *words; /* behind the command */
    size_t n_words;
    const struct conf_option *options; /* all that there are */
    struct ctl_session *session;       /* made at the first call */
    struct arena arena;
};

/* ---- session.c ---- */

/*
 * One unary call. The answer lives in ctl->arena.
 * Returns CTL_OK, or prints why on stderr and returns the exit code.
 */
int ctl_call(struct ctl *ctl,
             const char *path,
             const ProtobufCMessage *request,
             ProtobufCMessage **ret) MUST_USE;
/*
 * A call with many answers, without a time limit. `message` lives during fn(), whose answer, when
 * it is not CTL_OK, ends the call and is returned.
 */
typedef int ctl_message_fn(void *ctx, const ProtobufCMessage *message);
int ctl_stream(struct ctl *ctl,
               const char *path,
               const ProtobufCMessage *request,
               ctl_message_fn *fn,
               void *ctx) MUST_USE;
/* The same with the answers' bytes, for those that protobuf-c cannot unpack, and a time limit for
 * all of it; 0: none. */
typedef int ctl_bytes_fn(void *ctx, struct span bytes);
int ctl_stream_bytes(struct ctl *ctl,
                     const char *path,
                     const ProtobufCMessage *request,
                     int64_t timeout_us,
                     ctl_bytes_fn *fn,
                     void *ctx) MUST_USE;
/* --timeout. */
int ctl_timeout_us(struct ctl *ctl, int64_t *ret) MUST_USE;
/* For calls of other shapes: the loop (NULL: said why there is none), and a connection of one's own
 * on it. */
struct loop *ctl_loop(struct ctl *ctl);
int ctl_connect(struct ctl *ctl, struct rpc_channel **ret) MUST_USE;
void ctl_end(struct ctl *ctl);
/* The directory that the identity comes from: --identity, $SENTINEL_IDENTITY, or the home's; NULL:
 * no memory. */
const char *ctl_identity_directory(struct ctl *ctl);
/* Prints "sentinelctl: ..." and returns `code`. Control bytes in it are shown, never sent. */
int ctl_say(int code, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* ---- table.c: left-aligned columns, as wide as their widest cell ---- */

#define TABLE_MAX_COLUMNS 1024 /* of an inventory's table, and some of ours */
struct table {
    size_t n_columns;
    bool is_right[TABLE_MAX_COLUMNS];
    struct buf cells; /* NUL-terminated texts, row after row */
    size_t n_cells;
};
/* The headers, NULL at the end; a leading '>' aligns right. */
void table_begin(struct table *table, const char *const *headers);
/* Control bytes are shown, never sent. */
void table_add(struct table *table, const char *text);
void table_printf(struct table *table, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Prints and frees. */
void table_end(struct table *table, FILE *to);

/* ---- format.c ---- */

/* "3 s ago", "in 2 h", "never" for 0. Valid until the arena ends. */
const char *format_ago(struct ctl *ctl, int64_t time_us, int64_t now_us);
const char *format_time(struct ctl *ctl, int64_t time_us);
/* A value with its unit: By as KiB, MiB ...; 1 as a number; s as seconds. */
const char *format_value(struct ctl *ctl, double value, const char *unit);
/* What the hub or an agent said, fit for a terminal. */
const char *format_printable(struct ctl *ctl, const char *text);
/* Short, for axes. */
const char *format_number(struct ctl *ctl, double value);

/* ---- plot.c ---- */

struct plot_line {
    const char *name;
    const int64_t *times_us;
    const double *values;
    size_t n_points;
};
struct plot {
    const char *title, *unit;
    const struct plot_line *lines;
    size_t n_lines;
    int64_t from_us, to_us, step_us;
    int width, height; /* of the canvas, in cells */
    bool is_ascii, has_color;
};
void plot_print(struct ctl *ctl, const struct plot *plot, FILE *to);

/* ---- commands: return an exit code ---- */
int cmd_agents_list(struct ctl *ctl);
int cmd_agents_show(struct ctl *ctl);
int cmd_agents_label(struct ctl *ctl);
int cmd_inventory_show(struct ctl *ctl);
int cmd_inventory_diff(struct ctl *ctl);
int cmd_inventory_history(struct ctl *ctl);
int cmd_inventory_find(struct ctl *ctl);
int cmd_metrics_list(struct ctl *ctl);
int cmd_metrics_query(struct ctl *ctl);
int cmd_metrics_plot(struct ctl *ctl);
int cmd_metrics_top(struct ctl *ctl);
int cmd_logs_search(struct ctl *ctl);
int cmd_logs_tail(struct ctl *ctl);
int cmd_status(struct ctl *ctl);
int cmd_uploads_list(struct ctl *ctl);
int cmd_uploads_get(struct ctl *ctl);
int cmd_uploads_put(struct ctl *ctl);
int cmd_version(struct ctl *ctl);
int cmd_completion(struct ctl *ctl);

int cmd_agents_allow(struct ctl *ctl);
int cmd_agents_revoke(struct ctl *ctl);
int cmd_agents_readmit(struct ctl *ctl);
int cmd_agents_forget(struct ctl *ctl);
int cmd_tokens_create(struct ctl *ctl);
int cmd_tokens_list(struct ctl *ctl);
int cmd_tokens_revoke(struct ctl *ctl);
int cmd_certs_list(struct ctl *ctl);
int cmd_certs_revoke(struct ctl *ctl);
int cmd_certs_renew(struct ctl *ctl);
int cmd_certs_rotate_ca(struct ctl *ctl);
int cmd_certs_trust(struct ctl *ctl);
int cmd_certs_trusted(struct ctl *ctl);
int cmd_certs_untrust(struct ctl *ctl);
int cmd_operators_list(struct ctl *ctl);
int cmd_operators_add(struct ctl *ctl);
int cmd_operators_role(struct ctl *ctl);
int cmd_operators_remove(struct ctl *ctl);
int cmd_operators_export(struct ctl *ctl);
int cmd_bearers_create(struct ctl *ctl);
int cmd_bearers_list(struct ctl *ctl);
int cmd_bearers_revoke(struct ctl *ctl);
int cmd_bearers_roll(struct ctl *ctl);
int cmd_audit_tail(struct ctl *ctl);
int cmd_audit_search(struct ctl *ctl);
int cmd_audit_verify(struct ctl *ctl);
int cmd_audit_export(struct ctl *ctl);
int cmd_limits_list(struct ctl *ctl);
int cmd_limits_set(struct ctl *ctl);
int cmd_backup(struct ctl *ctl);
int cmd_reload(struct ctl *ctl);

/* ---- main.c: what completion lists ---- */

struct ctl_command {
    const char *group; /* "agents", or the command itself when `verb` is NULL */
    const char *verb;
    const char *usage; /* its words: "[PATTERN]" */
    const char *help;
    int (*fn)(struct ctl *ctl);
    size_t min_words, max_words;
};
extern const struct ctl_command ctl_commands[]; /* group NULL at the end */
