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
    { "agents", "allow", "AGENT ADDRESS...|any", "where an agent may come from: addresses or CIDR",
      cmd_agents_allow, 2, 17 },
    { "agents", "revoke", "AGENT",
      "throws an agent out, at once; --reissue: and lets it enrol anew", cmd_agents_revoke, 1, 1 },
    { "agents", "readmit", "AGENT", "lets an agent in again that was revoked or forked",
      cmd_agents_readmit, 1, 1 },
    { "agents", "forget", "AGENT", "erases an agent: certificates and all that it sent",
      cmd_agents_forget, 1, 1 },
    { "tokens", "create", "", "a string that lets a machine enrol; shown once", cmd_tokens_create,
      0, 0 },
    { "tokens", "list", "", "the tokens of enrolment, the newest first", cmd_tokens_list, 0, 0 },
    { "tokens", "revoke", "TOKEN", "takes a token back", cmd_tokens_revoke, 1, 1 },
    { "certs", "list", "[PATTERN]", "the certificates that the registry knows", cmd_certs_list, 0,
      1 },
    { "certs", "revoke", "SHA256", "revokes one certificate, at once", cmd_certs_revoke, 1, 1 },
    { "certs", "renew", "", "your own: a new key and certificate in the identity directory",
      cmd_certs_renew, 0, 0 },
    { "certs", "rotate-ca", "[prepare|issue|serve|retire|back]",
      "a step of a new CA; without: how "
      "far it is",
      cmd_certs_rotate_ca, 0, 1 },
    { "certs", "trust", "NAME CA.PEM", "a foreign CA counts, by a rule (--cn --o --ou --role)",
      cmd_certs_trust, 2, 2 },
    { "certs", "trusted", "", "the foreign CAs and their rules", cmd_certs_trusted, 0, 0 },
    { "certs", "untrust", "NAME", "a foreign CA counts no more", cmd_certs_untrust, 1, 1 },
    { "operators", "list", "", "who may run the hub", cmd_operators_list, 0, 0 },
    { "operators", "add", "NAME", "a key and certificate for somebody, in --out DIR",
      cmd_operators_add, 1, 1 },
    { "operators", "role", "NAME ROLE", "sets a role: viewer, operator, admin or exporter",
      cmd_operators_role, 2, 2 },
    { "operators", "remove", "NAME", "throws an operator out, at once", cmd_operators_remove, 1,
      1 },
    { "operators", "export", "FILE", "your identity as PKCS#12, for a browser; asks for a password",
      cmd_operators_export, 1, 1 },
    { "bearers", "create", "NAME", "a token for a client without a certificate; shown once",
      cmd_bearers_create, 1, 1 },
    { "bearers", "list", "", "the bearer tokens", cmd_bearers_list, 0, 0 },
    { "bearers", "roll", "ID", "another signing key; the one before counts for 7 days",
      cmd_bearers_roll, 1, 1 },
    { "bearers", "revoke", "ID", "takes a bearer token back", cmd_bearers_revoke, 1, 1 },
    { "limits", "list", "", "how often somebody may do something", cmd_limits_list, 0, 0 },
    { "limits", "set", "NAME VALUE|default", "a limit for all, or for one with --for WHO",
      cmd_limits_set, 2, 2 },
    { "audit", "tail", "", "what happens, as it happens", cmd_audit_tail, 0, 0 },
    { "audit", "search", "", "what happened: --event --actor --object --range", cmd_audit_search, 0,
      0 },
    { "audit", "verify", "", "whether the chain is whole; --anchors FILE: as others saw it",
      cmd_audit_verify, 0, 0 },
    { "audit", "export", "", "JSON lines for another system", cmd_audit_export, 0, 0 },
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
    { "backup", NULL, "DIR", "a copy of the hub, into a directory of its machine", cmd_backup, 1,
      1 },
    { "reload", NULL, "", "the hub reads its settings again", cmd_reload, 0, 0 },
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
        "  sentinelctl tokens create --id web-7 --ttl 1h\n"
        "  sentinelctl agents revoke web-7 --reason 'lost laptop'\n"
        "  sentinelctl operators add anna --role operator --out anna/\n"
        "  sentinelctl audit search --event 'token.*' --range 1d\n"
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
    if (strcmp(command->group, "tokens") == 0 || strcmp(command->group, "certs") == 0 ||
        strcmp(command->group, "operators") == 0 || strcmp(command->group, "bearers") == 0 ||
        strcmp(command->group, "limits") == 0)
        return "; the list of them is the command beside it";
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
      .metavar = "PATH",
      .value = &ctl.out,
      .help = "a file or directory: where it goes; - is stdout" },
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
    { .flag = "--ttl",
      .metavar = "DURATION",
      .value = &ctl.admin.ttl,
      .help = "life of a token: 30m (at most 7d); of a bearer token: 30d" },
    { .flag = "--uses", .metavar = "N", .value = &ctl.admin.uses, .help = "of a token; 1" },
    { .flag = "--id",
      .metavar = "PATTERN",
      .value = &ctl.admin.id,
      .help = "a token for this agent, or for ids with * and ?" },
    { .flag = "--addresses",
      .metavar = "CIDR",
      .value = &ctl.admin.addresses,
      .help = "a token for machines of this network" },
    { .flag = "--replace",
      .is_set = &ctl.admin.replaces,
      .help = "a token that supersedes who has the id; so is one with --id of one agent" },
    { .flag = "--no-replace",
      .is_set = &ctl.admin.replaces_never,
      .help = "a token that does not" },
    { .flag = "--reason",
      .metavar = "TEXT",
      .value = &ctl.admin.reason,
      .help = "of a revocation, for people" },
    { .flag = "--reissue",
      .is_set = &ctl.admin.reissues,
      .help = "of agents revoke: a token for one use comes with it" },
    { .flag = "--role",
      .metavar = "ROLE",
      .value = &ctl.admin.role,
      .help = "viewer, operator, admin or exporter" },
    { .flag = "--must-sign",
      .is_set = &ctl.admin.must_sign,
      .help = "a bearer token whose calls are signed" },
    { .flag = "--state",
      .metavar = "STATE",
      .value = &ctl.admin.state,
      .help = "certificates that are active, unconfirmed, superseded or revoked" },
    { .flag = "--kind",
      .metavar = "KIND",
      .value = &ctl.admin.kind,
      .help = "certificates of an agent, operator or hub" },
    { .flag = "--cn",
      .metavar = "PATTERN",
      .value = &ctl.admin.cn,
      .help = "of certs trust: leaves of this common name" },
    { .flag = "--o", .metavar = "PATTERN", .value = &ctl.admin.o, .help = "of this organisation" },
    { .flag = "--ou", .metavar = "PATTERN", .value = &ctl.admin.ou, .help = "of this unit" },
    { .flag = "--may-register",
      .is_set = &ctl.admin.may_register,
      .help = "of certs trust: leaves that are seen for the first time register themselves" },
    { .flag = "--event",
      .metavar = "PATTERN",
      .value = &ctl.admin.event,
      .help = "audit entries of this name or code, with *" },
    { .flag = "--actor",
      .metavar = "PATTERN",
      .value = &ctl.admin.actor,
      .help = "of who did it, such as operator/anna" },
    { .flag = "--object",
      .metavar = "PATTERN",
      .value = &ctl.admin.object,
      .help = "of what it was done to, such as agent/web-1" },
    { .flag = "--address",
      .metavar = "PATTERN",
      .value = &ctl.admin.address,
      .help = "of where it came from" },
    { .flag = "--failures",
      .is_set = &ctl.admin.only_failures,
      .help = "only what was refused or is suspicious" },
    { .flag = "--anchors",
      .metavar = "FILE",
      .value = &ctl.admin.anchors,
      .help = "of audit verify: anchors that an agent or a log kept" },
    { .flag = "--for",
      .metavar = "WHO",
      .value = &ctl.admin.who,
      .help = "of limits set: one agent, user or address" },
    { .flag = "--burst",
      .metavar = "N",
      .value = &ctl.admin.burst,
      .help = "of limits set: so many at once; else as VALUE" },
    { .flag = "--dry-run",
      .is_set = &ctl.is_dry_run,
      .help = "says what would be done, and does nothing" },
    { .flag = "--yes", .is_set = &ctl.is_sure, .help = "does not ask before it destroys" },
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
