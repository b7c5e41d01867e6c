/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "common/base/fault.h"
#include "common/base/text.h"
#include "common/log/log.h"
#include "server/ctl/ctl.h"

#define ARENA_BYTES (UINT64_C(1) << 30)

const struct ctl_command ctl_commands[] = {
    { "agents", "list", "[PATTERN]", "the agents that the hub knows", cmd_agents_list, 0, 1 },
    { "agents", "show", "ID", "one agent: host, clock, streams, ledger", cmd_agents_show, 1, 1 },
    { "agents", "label", "AGENT|PATTERN KEY=VALUE... KEY-...", "sets and removes labels",
      cmd_agents_label, 2, 65 },
    { "inventory", "show", "AGENT [TABLE...]", "what an agent has; tables with their rows",
      cmd_inventory_show, 1, 64 },
    { "inventory", "diff", "AGENT [AGENT]", "what changed since --from, or between two agents",
      cmd_inventory_diff, 1, 2 },
    { "inventory", "history", "AGENT", "the revisions of an agent's inventory",
      cmd_inventory_history, 1, 1 },
    { "inventory", "find", "TABLE COLUMN=VALUE|PATTERN...", "which agents have such a row",
      cmd_inventory_find, 2, 17 },
    { "metrics", "list", "[PATTERN]", "the metrics that agents have sent", cmd_metrics_list, 0, 1 },
    { "metrics", "query", "NAME...", "values over a range, in steps", cmd_metrics_query, 1, 64 },
    { "metrics", "plot", "NAME", "the same as a plot in the terminal", cmd_metrics_plot, 1, 1 },
    { "metrics", "top", "[PATTERN]", "who has the most series", cmd_metrics_top, 0, 1 },
    { "logs", "search", "[WORD...]", "log records with all of these words", cmd_logs_search, 0,
      16 },
    { "logs", "tail", "[WORD...]", "log records as they come", cmd_logs_tail, 0, 16 },
    { "uploads", "list", "[PATTERN]", "what agents have uploaded, the newest first",
      cmd_uploads_list, 0, 1 },
    { "uploads", "get", "ID...", "downloads; goes on where it was cut, and checks the SHA-256",
      cmd_uploads_get, 1, 64 },
    { "uploads", "put", "FILE...", "uploads, as an agent: needs an identity of that role",
      cmd_uploads_put, 1, 64 },
    { "status", NULL, "", "how the hub is", cmd_status, 0, 0 },
    { "completion", NULL, "SHELL", "completion for bash, zsh or fish", cmd_completion, 1, 1 },
    { "version", NULL, "", "the version of this program", cmd_version, 0, 0 },
    { .group = NULL },
};
#define N_COMMANDS (sizeof(ctl_commands) / sizeof(ctl_commands[0]) - 1)

int cmd_version(struct ctl *ctl)
{
    if (ctl->is_json)
        printf("{\"version\": \"%s\"}\n", SENTINEL_VERSION);
    else
        printf("sentinelctl %s\n", SENTINEL_VERSION);
    return CTL_OK;
}

static int print_help(FILE *to, const struct conf_option *options, const char *group)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    bool is_known = false;

    for (size_t i = 0; group && i < N_COMMANDS; i++)
        is_known = is_known || strcmp(group, ctl_commands[i].group) == 0;
    buf_append_text(
        &text,
        "Examples:\n"
        "  sentinelctl agents list\n"
        "  sentinelctl agents label 'web-*' role=web rack-\n"
        "  sentinelctl inventory find packages name=openssl 'version=3.0.*'\n"
        "  sentinelctl inventory diff web-1 --from -7d\n"
        "  sentinelctl metrics query system.memory.usage --agent web-1 --range 1h --step 1m\n"
        "  sentinelctl metrics plot system.cpu.time --group-by cpu.mode\n"
        "  sentinelctl logs search timeout --agent 'web-*' --severity warn --range 12h\n"
        "  sentinelctl logs tail --regex 'status=5[0-9]{2}'\n"
        "  sentinelctl uploads get u17 --out core.gz\n"
        "  sentinelctl status --json\n\n"
        "Commands:\n");
    for (size_t i = 0; i < N_COMMANDS; i++) {
        const struct ctl_command *command = &ctl_commands[i];
        char words[64];

        if (is_known && strcmp(group, command->group) != 0)
            continue;
        snprintf(words, sizeof(words), "%s%s%s %s", command->group, command->verb ? " " : "",
                 command->verb ? command->verb : "", command->usage);
        buf_printf(&text, "  %-24s %s\n", words, command->help);
    }
    buf_append_text(&text, "\nOptions:\n");
    conf_print_options(options, &text);
    buf_append_text(&text, "\nExit codes: 0 ok, 1 failure, 2 usage, 3 not found, 4 denied, "
                           "5 unavailable, 6 partial.\n");
    if (buf_failed(&text))
        return ctl_say(CTL_FAILED, "out of memory");
    fputs(buf_text(&text), to);
    return CTL_OK;
}

/* Finds the command of the words; *ret_used is how many words name it. */
static const struct ctl_command *find_command(const struct conf_args *args, size_t *ret_used)
{
    for (size_t i = 0; i < N_COMMANDS && args->n_rest > 0; i++) {
        const struct ctl_command *command = &ctl_commands[i];

        if (strcmp(command->group, args->rest[0]) != 0)
            continue;
        *ret_used = command->verb ? 2 : 1;
        if (!command->verb || (args->n_rest > 1 && strcmp(command->verb, args->rest[1]) == 0))
            return command;
    }
    return NULL;
}

static int say_unknown(const struct conf_args *args)
{
    const char *names[N_COMMANDS + 1] = { NULL };
    const char *nearest;
    size_t n = 0;
    bool is_group = false;

    for (size_t i = 0; i < N_COMMANDS; i++)
        is_group = is_group || strcmp(ctl_commands[i].group, args->rest[0]) == 0;
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (!is_group)
            names[n++] = ctl_commands[i].group;
        else if (strcmp(ctl_commands[i].group, args->rest[0]) == 0)
            names[n++] = ctl_commands[i].verb;
    if (is_group && args->n_rest == 1)
        return ctl_say(CTL_USAGE, "%s: what of it? `sentinelctl %s --help` lists it", args->rest[0],
                       args->rest[0]);
    nearest = text_nearest(args->rest[is_group], names);
    return ctl_say(CTL_USAGE, "no command `%s`%s%s%s; sentinelctl --help lists them",
                   args->rest[is_group], nearest ? "; did you mean `" : "", nearest ? nearest : "",
                   nearest ? "`?" : "");
}

static const char *hint_of(const struct ctl_command *command)
{
    if (strcmp(command->group, "agents") == 0 || strcmp(command->group, "inventory") == 0)
        return " (sentinelctl agents list names them)";
    if (strcmp(command->group, "metrics") == 0)
        return " (sentinelctl metrics list names them)";
    if (strcmp(command->group, "uploads") == 0 && command->verb &&
        strcmp(command->verb, "get") == 0)
        return " (sentinelctl uploads list names them)";
    return "";
}

static int run(struct ctl *ctl, const struct conf_option *options, const struct conf_args *args)
{
    const struct ctl_command *command;
    size_t n_used = 0;
    int r;

    command = find_command(args, &n_used);
    if (ctl->wants_version)
        return cmd_version(ctl);
    if (ctl->wants_help)
        return print_help(stdout, options, args->n_rest > 0 ? args->rest[0] : NULL);
    if (args->n_rest == 0) {
        r = print_help(stderr, options, NULL);
        return r != CTL_OK ? r : CTL_USAGE;
    }
    if (!command)
        return say_unknown(args);
    if (args->n_rest - n_used < command->min_words)
        return ctl_say(CTL_USAGE, "%s%s%s: %s is missing%s", command->group,
                       command->verb ? " " : "", command->verb ? command->verb : "", command->usage,
                       hint_of(command));
    if (args->n_rest - n_used > command->max_words)
        return ctl_say(CTL_USAGE,
                       "`%s` is one word too many; sentinelctl %s --help shows how it goes",
                       args->rest[n_used + command->max_words], command->group);
    ctl->words = args->rest + n_used;
    ctl->n_words = args->n_rest - n_used;
    return command->fn(ctl);
}

static struct ctl ctl;

static const struct conf_option options[] = {
    { .flag = "--hub",
      .metavar = "HOST:PORT",
      .value = &ctl.hub,
      .help = "the hub; else $SENTINEL_HUB, else localhost:8082" },
    { .flag = "--identity",
      .metavar = "DIR",
      .value = &ctl.identity,
      .help = "identity directory; else $SENTINEL_IDENTITY, else ~/.config/sentinel" },
    { .flag = "--server-name",
      .metavar = "NAME",
      .value = &ctl.server_name,
      .help = "the name that the hub's certificate must carry; else the host of --hub" },
    { .flag = "--insecure",
      .is_set = &ctl.is_insecure,
      .help = "plaintext, to a hub that runs with --insecure" },
    { .flag = "--timeout",
      .metavar = "DURATION",
      .value = &ctl.timeout,
      .help = "for each call; 30s" },
    { .flag = "--json",
      .is_set = &ctl.is_json,
      .help = "one JSON object on stdout; of logs, one a line" },
    { .flag = "--agent",
      .metavar = "ID|PATTERN",
      .values = &ctl.agents,
      .help = "these agents; may be given more than once" },
    { .flag = "--label",
      .metavar = "KEY=VALUE",
      .values = &ctl.labels,
      .help = "agents with this label" },
    { .flag = "--attribute",
      .metavar = "KEY=VALUE",
      .values = &ctl.attributes,
      .help = "series with this attribute" },
    { .flag = "--range",
      .metavar = "DURATION",
      .value = &ctl.range,
      .help = "the last so much; 1h" },
    { .flag = "--at",
      .metavar = "TIME",
      .value = &ctl.at,
      .help = "an inventory as of then: -1d, or 2026-11-23T10:00:00Z" },
    { .flag = "--table",
      .metavar = "NAME",
      .values = &ctl.tables,
      .help = "of inventory diff: this table; may be given more than once" },
    { .flag = "--from",
      .metavar = "TIME",
      .value = &ctl.from,
      .help = "-1h, now, or 2026-11-23T10:00:00Z" },
    { .flag = "--to", .metavar = "TIME", .value = &ctl.to, .help = "the same" },
    { .flag = "--step",
      .metavar = "DURATION",
      .value = &ctl.step,
      .help = "one value for each; about 100 steps" },
    { .flag = "--agg",
      .metavar = "HOW",
      .value = &ctl.aggregation,
      .help = "within a step: avg min max sum count last rate increase p50 p99 ..." },
    { .flag = "--group-by",
      .metavar = "KEY",
      .values = &ctl.group_by,
      .help = "an attribute, or agent; may be given more than once" },
    { .flag = "--group-agg",
      .metavar = "HOW",
      .value = &ctl.group_aggregation,
      .help = "within a group: avg min max sum count last p50 p99 ..." },
    { .flag = "--all",
      .is_set = &ctl.group_all,
      .help = "one group of all series; of inventory show, every table with its rows" },
    { .flag = "--top", .metavar = "N", .value = &ctl.top, .help = "only the N largest" },
    { .flag = "--out",
      .metavar = "FILE",
      .value = &ctl.out,
      .help = "of uploads get: where it goes; - is stdout" },
    { .flag = "--force", .is_set = &ctl.is_forced, .help = "write over a file that is there" },
    { .flag = "--name",
      .metavar = "NAME",
      .value = &ctl.name,
      .help = "of uploads put; the file's" },
    { .flag = "--type", .metavar = "TYPE", .value = &ctl.type, .help = "of uploads put" },
    { .flag = "--by",
      .metavar = "WHAT",
      .value = &ctl.by,
      .help = "of metrics top: metric, agent or attribute" },
    { .flag = "--latest", .is_set = &ctl.latest, .help = "only the newest value of each series" },
    { .flag = "--contains",
      .metavar = "TEXT",
      .values = &ctl.contains,
      .help = "log records with this text, also within a word; may be given more than once" },
    { .flag = "--regex",
      .metavar = "RE2",
      .value = &ctl.regex,
      .help = "log records that this regular expression matches" },
    { .flag = "--severity",
      .metavar = "LEVEL",
      .value = &ctl.severity,
      .help = "at least trace, debug, info, warn, error, fatal, or a number from 1 to 24" },
    { .flag = "--source",
      .metavar = "PATTERN",
      .value = &ctl.source,
      .help = "of this file or unit, with * and ?" },
    { .flag = "--oldest-first",
      .is_set = &ctl.is_oldest_first,
      .help = "log records in the order of time; else the newest first" },
    { .flag = "--limit", .metavar = "N", .value = &ctl.limit, .help = "log records at most; 100" },
    { .flag = "--page-token",
      .metavar = "TOKEN",
      .value = &ctl.page_token,
      .help = "goes on with a search where it ended" },
    { .flag = "--width", .metavar = "CELLS", .value = &ctl.width, .help = "of the plot" },
    { .flag = "--height", .metavar = "CELLS", .value = &ctl.height, .help = "of the plot" },
    { .flag = "--ascii", .is_set = &ctl.is_ascii, .help = "plot without braille" },
    { .flag = "--no-color", .is_set = &ctl.no_color, .help = "no colour; also $NO_COLOR" },
    { .flag = "--help", .is_set = &ctl.wants_help, .help = "this text" },
    { .flag = "-h", .is_set = &ctl.wants_help, .help = "the same" },
    { .flag = "--version", .is_set = &ctl.wants_version, .help = "the version" },
    { .flag = "-V", .is_set = &ctl.wants_version, .help = "the same" },
    { .flag = NULL },
};

/* For a person: what went wrong, not where in the program. */
static void say_fault(int code, struct fault_site site, const char *reason)
{
    (void) site;
    if (reason)
        ctl_say(CTL_FAILED, "%s: %s", reason, strerror(-code));
}

int main(int argc, char **argv)
{
    static struct conf_args args;
    struct conf_error error = { "" };
    int r;

    log_init(&(struct log_options){ .level = LOG_ERROR, .fd = 2 });
    fault_set_sink(say_fault);
    r = conf_parse_args(argc, argv, options, NULL, &args, &error);
    if (r < 0)
        return CTL_FAILED;
    if (r != 0)
        return ctl_say(CTL_USAGE, "%s", error.text);
    arena_init(&ctl.arena, ARENA_BYTES);
    ctl.options = options;
    r = run(&ctl, options, &args);
    ctl_end(&ctl);
    arena_deinit(&ctl.arena);
    free(ctl.agents.items);
    free(ctl.labels.items);
    free(ctl.attributes.items);
    free(ctl.group_by.items);
    free(ctl.tables.items);
    free(ctl.contains.items);
    if (fflush(stdout) && r == CTL_OK)
        return ctl_say(CTL_FAILED, "cannot write to stdout");
    return r;
}
