/* SPDX-License-Identifier: Apache-2.0 */
/* sentinel-agent check-config [F] | print-config [--config F] */
#include "agent/cli/cmd.h"

int cmd_check_config(int argc, char **argv)
{
    static const struct cmd cmd = {
        .usage = "check-config [F]",
        .help =
            "Checks the settings: the file (or --config), conf.d beside it, and the environment.",
        .has_settings = true,
        .max_words = 1,
    };
    CLEANUP(cmd_line_deinit) struct cmd_line line = { 0 };
    struct settings settings = { 0 };
    struct conf_error error;
    char digest[65];
    int code = CLI_FAILURE;
    int r;

    if (cmd_parse(argc, argv, &cmd, &line, &code))
        return code;
    if (line.args.n_rest == 1) {
        line.sources.file = line.args.rest[0];
        r = settings_load(&settings, &line.sources, &error);
        if (r)
            return r < 0 ? CLI_FAILURE : cmd_fail(CLI_USAGE, "%s", error.text);
        settings_free(&line.settings);
        line.settings = settings;
    }
    if (settings_digest(&line.settings, digest))
        return CLI_FAILURE;
    CLEANUP(buf_deinit) struct buf text = { 0 };
    buf_printf(&text, "ok sha256=%s\n", digest);
    return cmd_print(&text);
}

int cmd_print_config(int argc, char **argv)
{
    static const struct cmd cmd = {
        .usage = "print-config [--config F]",
        .help = "Prints the settings in effect as a file that can be read again.",
        .has_settings = true,
    };
    CLEANUP(cmd_line_deinit) struct cmd_line line = { 0 };
    CLEANUP(buf_deinit) struct buf text = { 0 };
    int code = CLI_FAILURE;

    if (cmd_parse(argc, argv, &cmd, &line, &code))
        return code;
    conf_print(&settings_table, &line.settings, &text);
    return cmd_print(&text);
}
