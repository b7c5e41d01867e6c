/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/cli/cli.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "agent/agent.h"
#include "agent/cli/cmd.h"
#include "common/base/buf.h"
#include "common/base/text.h"

static const struct {
    const char *name;
    cmd_fn *fn;
    const char *help;
} commands[] = {
    { "enroll", cmd_enroll, "gets this machine's identity from the hub, with a token" },
    { "run", cmd_run, "the daemon: collects and streams to the hub" },
    { "collect", cmd_collect, "collect --once: prints every sample of one round" },
    { "inventory", cmd_inventory, "prints the tables of what this machine is and has" },
    { "status", cmd_status, "what the running agent says about itself" },
    { "test-connection", cmd_test_connection,
      "goes to the hub step by step, and says what to mend" },
    { "doctor", cmd_doctor, "looks at everything that the agent needs here, with remedies" },
    { "support-bundle", cmd_support_bundle,
      "what a helper needs to know, in one file, without secrets" },
    { "spool", cmd_spool, "spool check: reads all that waits on disk, and says what is damaged" },
    { "upload", cmd_upload, "sends files to the hub; what was cut goes on where it was" },
    { "reload", cmd_reload, "the running agent reads its settings anew; waits for its answer" },
    { "policy", cmd_policy, "what the hub may ask of this machine" },
    { "check-config", cmd_check_config, "checks the settings" },
    { "print-config", cmd_print_config, "prints the settings in effect, as YAML" },
    { "version", cmd_version, "prints the version" },
};

#define N_COMMANDS (sizeof(commands) / sizeof(commands[0]))

int cmd_fail(int exit, const char *fmt, ...)
{
    CLEANUP(buf_deinit) struct buf text = { 0 }, shown = { 0 };
    va_list args;

    va_start(args, fmt);
    buf_vprintf(&text, fmt, args);
    va_end(args);
    text_append_printable(&shown, buf_span(&text)); /* names of files are others' words too */
    fprintf(stderr, "sentinel-agent: %s\n", buf_text(&shown));
    return exit;
}

int cmd_print(const struct buf *text)
{
    if (buf_failed(text))
        return cmd_fail(CLI_FAILURE, "no memory");
    if (text->len == 0)
        return CLI_OK;
    if (fwrite(text->data, 1, text->len, stdout) != text->len || fflush(stdout) != 0)
        return cmd_fail(CLI_FAILURE, "stdout: %s", strerror(errno));
    return CLI_OK;
}

bool cmd_is_on_loopback(const char *hub)
{
    const char *colon = strrchr(hub, ':');
    char host[64];
    struct in_addr address;

    if (!colon || (size_t) (colon - hub) >= sizeof(host))
        return false;
    memcpy(host, hub, (size_t) (colon - hub));
    host[colon - hub] = '\0';
    if (strcmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0)
        return true;
    return inet_pton(AF_INET, host, &address) == 1 && ntohl(address.s_addr) >> 24 == 127;
}

void cmd_line_deinit(struct cmd_line *line)
{
    settings_free(&line->settings);
}

static void append_option(struct conf_option *options, size_t *n, struct conf_option option)
{
    options[(*n)++] = option;
}

static int print_help(const struct cmd *cmd, const struct conf_option *options)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };

    buf_printf(&text, "usage: sentinel-agent %s\n\n%s\n\n", cmd->usage, cmd->help);
    conf_print_options(options, &text);
    if (cmd->has_settings)
        buf_append_text(&text, "\nEvery setting is a flag too: uplink.backoff is --uplink-backoff. "
                               "`sentinel-agent print-config` lists them.\n");
    return cmd_print(&text);
}

/* `error` has a remedy of its own. */
static int load(struct cmd_line *line, struct conf_error *error, int *ret_exit)
{
    int r;

    line->sources = (struct settings_sources){
        .file = line->config,
        .flags = line->args.flags,
        .n_flags = line->args.n_flags,
    };
    r = settings_load(&line->settings, &line->sources, error);
    if (r == 0)
        return CMD_OK;
    *ret_exit = r < 0 ? CLI_FAILURE : cmd_fail(CLI_USAGE, "%s", error->text);
    return CMD_DONE;
}

int cmd_parse(int argc, char **argv, const struct cmd *cmd, struct cmd_line *ret, int *ret_exit)
{
    struct conf_option options[16] = { { 0 } };
    struct conf_error error;
    size_t n = 0;
    int r;

    for (const struct conf_option *own = cmd->options; own && own->flag; own++)
        append_option(options, &n, *own);
    if (cmd->has_json)
        append_option(options, &n,
                      (struct conf_option){
                          .flag = "--json", .help = "print JSON", .is_set = &ret->is_json });
    if (cmd->has_settings)
        append_option(options, &n,
                      (struct conf_option){ .flag = "--config",
                                            .metavar = "F",
                                            .help = "settings; default " SETTINGS_DEFAULT_FILE,
                                            .value = &ret->config });
    append_option(
        options, &n,
        (struct conf_option){ .flag = "--help", .help = "print this", .is_set = &ret->wants_help });

    r = conf_parse_args(argc, argv, options, cmd->has_settings ? &settings_table : NULL, &ret->args,
                        &error);
    if (r) {
        *ret_exit = r < 0 ? CLI_FAILURE : cmd_fail(CLI_USAGE, "%s: %s", argv[0], error.text);
        return CMD_DONE;
    }
    if (ret->wants_help) {
        *ret_exit = print_help(cmd, options);
        return CMD_DONE;
    }
    if (ret->args.n_rest > cmd->max_words) {
        *ret_exit = cmd_fail(CLI_USAGE, "%s: `%s` is one word too many", argv[0],
                             ret->args.rest[cmd->max_words]);
        return CMD_DONE;
    }
    return cmd->has_settings ? load(ret, &error, ret_exit) : CMD_OK;
}

static int print_usage(FILE *to)
{
    fputs("usage: sentinel-agent COMMAND [FLAGS]\n\n"
          "  sentinel-agent enroll       asks for the string of `sentinelctl tokens create`\n"
          "  sentinel-agent run\n"
          "  sentinel-agent test-connection\n\n"
          "commands:\n",
          to);
    for (size_t i = 0; i < N_COMMANDS; i++)
        fprintf(to, "  %-16s %s\n", commands[i].name, commands[i].help);
    fputs("\n`sentinel-agent COMMAND --help` has the flags.\n"
          "exit codes: 0 ok, 1 failure, 2 usage, 3 not found, 4 denied, 5 unavailable, 6 partial\n",
          to);
    return to == stdout ? CLI_OK : CLI_USAGE;
}

int cli_main(int argc, char **argv)
{
    const char *names[N_COMMANDS + 1] = { NULL };
    const char *nearest;

    agent_tame_malloc();
    if (argc < 2)
        return print_usage(stderr);
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0)
        return print_usage(stdout);
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0)
        return cmd_version(1, argv + 1);
    for (size_t i = 0; i < N_COMMANDS; i++) {
        names[i] = commands[i].name;
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].fn(argc - 1, argv + 1);
    }
    nearest = text_nearest(argv[1], names);
    if (nearest)
        return cmd_fail(CLI_USAGE, "unknown command `%s`; did you mean `%s`?", argv[1], nearest);
    return cmd_fail(CLI_USAGE, "unknown command `%s`; `sentinel-agent --help` lists them", argv[1]);
}
