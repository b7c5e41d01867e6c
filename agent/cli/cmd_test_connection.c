/* SPDX-License-Identifier: Apache-2.0 */
/* sentinel-agent test-connection [--hub HOST:PORT] [--identity DIR] [--json] */
#include "agent/cli/cmd.h"
#include "agent/uplink/uplink.h"
#include "common/json/json.h"
#include "common/log/log.h"
#include "common/rpc/rpc.h"

static const char *verdict_name(enum uplink_verdict verdict)
{
    static const char *const names[] = { "ok", "warning", "failed", "skipped" };

    return names[verdict];
}

static void
print_json(const struct uplink_probe *probe, const char *hub, bool is_ok, struct buf *to)
{
    struct json_writer json;

    json_begin(&json, to, true);
    json_open_object(&json);
    json_put_text(&json, "hub", hub);
    json_put_bool(&json, "ok", is_ok);
    json_put_text(&json, "reason", probe->reason);
    json_key(&json, "checks");
    json_open_array(&json);
    for (size_t i = 0; i < probe->n_checks; i++) {
        json_open_object(&json);
        json_put_text(&json, "name", probe->checks[i].name);
        json_put_text(&json, "result", verdict_name(probe->checks[i].verdict));
        json_put_text(&json, "detail", probe->checks[i].detail);
        json_put_text(&json, "remedy", probe->checks[i].remedy);
        json_close_object(&json);
    }
    json_close_array(&json);
    json_close_object(&json);
    buf_append_text(to, "\n");
}

static void print_lines(const struct uplink_probe *probe, struct buf *to)
{
    for (size_t i = 0; i < probe->n_checks; i++) {
        const struct uplink_check *check = &probe->checks[i];

        buf_printf(to, "%-8s %-12s %s%s%s\n", verdict_name(check->verdict), check->name,
                   check->detail, check->remedy[0] ? " -- " : "", check->remedy);
    }
}

static int exit_of(const struct uplink_probe *probe)
{
    if (probe->code == RPC_UNAUTHENTICATED || probe->code == RPC_PERMISSION_DENIED)
        return CLI_DENIED;
    for (size_t i = 0; i < probe->n_checks; i++)
        if (probe->checks[i].verdict == UPLINK_FAILED)
            return i == 0 ? CLI_NOT_FOUND : CLI_UNAVAILABLE;
    return CLI_OK;
}

int cmd_test_connection(int argc, char **argv)
{
    static const struct cmd cmd = {
        .usage = "test-connection [--hub HOST:PORT] [--identity DIR] [--json]",
        .help = "Goes to the hub step by step, up to an answered hello; stores nothing there.",
        .has_json = true,
        .has_settings = true,
    };
    CLEANUP(cmd_line_deinit) struct cmd_line line = { 0 };
    CLEANUP(buf_deinit) struct buf text = { 0 };
    struct uplink_probe probe;
    struct collect_host host;
    int code = CLI_FAILURE;
    int r;

    if (cmd_parse(argc, argv, &cmd, &line, &code))
        return code;
    if (!line.settings.hub[0])
        return cmd_fail(CLI_USAGE, "test-connection: no hub; give --hub HOST:PORT");
    /* Its own lines say what core's would. */
    log_init(&(struct log_options){ .level = LOG_ERROR, .format = LOG_LOGFMT, .fd = 2 });
    collect_read_host(line.settings.collect_root, &host);
    if (rpc_init())
        return CLI_FAILURE;
    r = uplink_probe(
        &(struct uplink_options){
            .hub = line.settings.hub,
            .server_name = line.settings.server_name[0] ? line.settings.server_name : NULL,
            .identity = line.settings.identity,
            .is_tls13_only = line.settings.tls_min_version == SETTINGS_TLS_1_3,
            .interval_us = line.settings.interval,
            .host = &host,
        },
        &probe);
    rpc_deinit();
    if (r)
        return CLI_FAILURE;
    code = exit_of(&probe);
    if (line.is_json)
        print_json(&probe, line.settings.hub, code == CLI_OK, &text);
    else
        print_lines(&probe, &text);
    r = cmd_print(&text);
    return r ? r : code;
}
