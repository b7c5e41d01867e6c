/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "common/base/text.h"
#include "common/log/log.h"
#include "server/ctl/ctl.h"

#define ARENA_BYTES (UINT64_C(1) << 30)

struct command {
    const char *group; /* "agents", or the command itself when `verb` is NULL */
    const char *verb;
    const char *usage;
    const char *help;
    int (*fn)(struct ctl *ctl);
};

static const struct command commands[] = {
    { "agents", "list", "[PATTERN]", "the agents that the hub knows", cmd_agents_list },
    { "agents", "show", "ID", "one agent: host, clock, streams, ledger", cmd_agents_show },
    { "metrics", "list", "[PATTERN]", "the metrics that agents have sent", cmd_metrics_list },
    { "metrics", "query", "NAME...", "values over a range, in steps", cmd_metrics_query },
    { "metrics", "plot", "NAME", "the same as a plot in the terminal", cmd_metrics_plot },
    { "status", NULL, "", "how the hub is", cmd_status },
    { "version", NULL, "", "the version of this program", cmd_version },
};
#define N_COMMANDS (sizeof(commands) / sizeof(commands[0]))

int cmd_version(struct ctl *ctl)
{
    if (ctl->is_json)
        printf("{\"version\": \"%s\"}\n", SENTINEL_VERSION);
    else
        printf("sentinelctl %s\n", SENTINEL_VERSION);
    return CTL_OK;
}

static void print_help(const struct conf_option *options, const char *group)
{
    struct buf text = { 0 };

    printf("Examples:\n"
           "  sentinelctl agents list\n"
           "  sentinelctl metrics query system.memory.usage --agent web-1 --range 1h --step 1m\n"
           "  sentinelctl metrics plot system.cpu.time --group-by cpu.mode\n"
           "  sentinelctl status --json\n\n"
           "Commands:\n");
    for (size_t i = 0; i < N_COMMANDS; i++) {
        const struct command *command = &commands[i];

        if (group && strcmp(group, command->group) != 0)
            continue;
        buf_clear(&text);
        buf_printf(&text, "%s%s%s %s", command->group, command->verb ? " " : "",
                   command->verb ? command->verb : "", command->usage);
        printf("  %-24s %s\n", buf_text(&text), command->help);
    }
    buf_clear(&text);
    conf_print_options(options, &text);
    printf("\nOptions:\n%s\nExit codes: 0 ok, 1 failure, 2 usage, 3 not found, 4 denied, 5 "
           "unavailable, 6 partial.\n",
           buf_text(&text));
    buf_deinit(&text);
}

/* Finds the command of the words; *ret_used is how many words name it. */
static const struct command *find_command(const struct conf_args *args, size_t *ret_used)
{
    for (size_t i = 0; i < N_COMMANDS && args->n_rest > 0; i++) {
        const struct command *command = &commands[i];

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
        is_group = is_group || strcmp(commands[i].group, args->rest[0]) == 0;
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (!is_group)
            names[n++] = commands[i].group;
        else if (strcmp(commands[i].group, args->rest[0]) == 0)
            names[n++] = commands[i].verb;
    if (is_group && args->n_rest == 1)
        return ctl_say(CTL_USAGE, "%s: what of it? `sentinelctl %s --help` lists it", args->rest[0],
                       args->rest[0]);
    nearest = text_nearest(args->rest[is_group], names);
    return ctl_say(CTL_USAGE, "no command `%s`%s%s%s; sentinelctl --help lists them",
                   args->rest[is_group], nearest ? "; did you mean `" : "", nearest ? nearest : "",
                   nearest ? "`?" : "");
}

static int run(struct ctl *ctl, const struct conf_option *options, const struct conf_args *args)
{
    const struct command *command;
    size_t n_used = 0;

    command = find_command(args, &n_used);
    if (ctl->wants_help || args->n_rest == 0) {
        print_help(options, args->n_rest > 0 ? args->rest[0] : NULL);
        return ctl->wants_help ? CTL_OK : CTL_USAGE;
    }
    if (!command)
        return say_unknown(args);
    ctl->words = args->rest + n_used;
    ctl->n_words = args->n_rest - n_used;
    return command->fn(ctl);
}

int main(int argc, char **argv)
{
    static struct ctl ctl;
    static struct conf_args args;
    const struct conf_option options[] = {
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
        { .flag = "--json", .is_set = &ctl.is_json, .help = "one JSON object on stdout" },
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
          .help = "within a step: avg min max sum count last rate increase" },
        { .flag = "--group-by",
          .metavar = "KEY",
          .values = &ctl.group_by,
          .help = "an attribute, or agent; may be given more than once" },
        { .flag = "--group-agg",
          .metavar = "HOW",
          .value = &ctl.group_aggregation,
          .help = "within a group: avg min max sum count last" },
        { .flag = "--all", .is_set = &ctl.group_all, .help = "one group of all series" },
        { .flag = "--top",
          .metavar = "N",
          .value = &ctl.top,
          .help = "only the N largest by mean" },
        { .flag = "--latest",
          .is_set = &ctl.latest,
          .help = "only the newest value of each series" },
        { .flag = "--width", .metavar = "CELLS", .value = &ctl.width, .help = "of the plot" },
        { .flag = "--height", .metavar = "CELLS", .value = &ctl.height, .help = "of the plot" },
        { .flag = "--ascii", .is_set = &ctl.is_ascii, .help = "plot without braille" },
        { .flag = "--no-color", .is_set = &ctl.no_color, .help = "no colour; also $NO_COLOR" },
        { .flag = "--help", .is_set = &ctl.wants_help, .help = "this text" },
        { .flag = "-h", .is_set = &ctl.wants_help, .help = "the same" },
        { .flag = NULL },
    };
    struct conf_error error;
    int r;

    log_init(&(struct log_options){ .level = LOG_ERROR, .fd = 2 });
    if (conf_parse_args(argc, argv, options, NULL, &args, &error))
        return ctl_say(CTL_USAGE, "%s", error.text);
    arena_init(&ctl.arena, ARENA_BYTES);
    r = run(&ctl, options, &args);
    ctl_end(&ctl);
    arena_deinit(&ctl.arena);
    free(ctl.agents.items);
    free(ctl.labels.items);
    free(ctl.attributes.items);
    free(ctl.group_by.items);
    if (fflush(stdout))
        return CTL_FAILED;
    return r;
}
