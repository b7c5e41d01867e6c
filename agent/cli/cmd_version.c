/* SPDX-License-Identifier: Apache-2.0 */
/* sentinel-agent version [--json] */
#include "agent/cli/cmd.h"
#include "common/json/json.h"

int cmd_version(int argc, char **argv)
{
    static const struct cmd cmd = {
        .usage = "version [--json]",
        .help = "Prints the version.",
        .has_json = true,
    };
    CLEANUP(cmd_line_deinit) struct cmd_line line = { 0 };
    CLEANUP(buf_deinit) struct buf text = { 0 };
    struct json_writer json;
    int code = CLI_FAILURE;

    if (cmd_parse(argc, argv, &cmd, &line, &code))
        return code;
    if (!line.is_json) {
        buf_printf(&text, "sentinel-agent %s (%s)\n", SENTINEL_VERSION, __VERSION__);
        return cmd_print(&text);
    }
    json_begin(&json, &text, true);
    json_open_object(&json);
    json_put_text(&json, "program", "sentinel-agent");
    json_put_text(&json, "version", SENTINEL_VERSION);
    json_put_text(&json, "compiler", __VERSION__);
    json_close_object(&json);
    buf_append_text(&text, "\n");
    return cmd_print(&text);
}
