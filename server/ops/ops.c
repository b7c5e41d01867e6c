/* SPDX-License-Identifier: Apache-2.0 */
#include "server/ops/ops.h"

#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/fault.h"
#include "common/base/text.h"
#include "common/log/log.h"
#include "server/audit/audit.h"
#include "server/pki/pki.h"
#include "server/quota/quota.h"
#include "server/store/store.h"

struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
};

static const struct command commands[] = {
    { "init", ops_init, "make the CA, the hub's certificate, the first operator, the database" },
    { "run", ops_run, "the daemon; logs to stderr" },
    { "issue", ops_issue, "make an identity for an agent or an operator" },
    { "certs", ops_certs, "certificates by hand: generate, rotate, show, verify" },
    { "seal-keys", ops_seal_keys, "seal the CA's keys under a key that lies elsewhere" },
    { "check-config", ops_check_config, "say whether the settings are good" },
    { "print-config", ops_print_config, "print every setting with its value and meaning" },
    { "backup", ops_backup, "copy it all as it is at one moment, beside a running hub" },
    { "restore", ops_restore, "make a state directory of a backup" },
    { "verify", ops_verify, "read all of the database and name what is damaged" },
    { "audit", ops_audit, "look through the audit log: verify, search, export" },
    { "stats", ops_stats, "what the database holds, and what it takes" },
    { "compact", ops_compact, "seal and compact all of it now; the hub must be stopped" },
    { "version", ops_version, "print the version" },
};
#define N_COMMANDS (sizeof(commands) / sizeof(commands[0]))

int ops_refuse(const char *command, int exit_code, const char *fmt, ...)
{
    CLEANUP(buf_deinit) struct buf text = { 0 }, shown = { 0 };
    va_list args;

    va_start(args, fmt);
    buf_vprintf(&text, fmt, args);
    va_end(args);
    text_append_printable(&shown, buf_span(&text));
    fflush(stdout);
    fprintf(stderr, "sentinel-hub%s%s: %s\n", command ? " " : "", command ? command : "",
            buf_text(&shown));
    return exit_code;
}

static void print_help(FILE *to)
{
    fputs("Example:\n"
          "  sentinel-hub init --name hub.example.org\n"
          "  sentinel-hub run\n"
          "\n"
          "Sentinel's hub: takes the telemetry of a fleet, keeps it, answers questions about it.\n"
          "\n"
          "Commands:\n",
          to);
    for (size_t i = 0; i < N_COMMANDS; i++)
        fprintf(to, "  %-14s %s\n", commands[i].name, commands[i].summary);
    fputs(
        "\n"
        "`sentinel-hub COMMAND --help` says more.\n"
        "Exit codes: 0 ok, 1 failure, 2 usage, 3 not found, 4 denied, 5 unavailable, 6 partial.\n",
        to);
}

static bool is_help(const char *word)
{
    return strcmp(word, "-h") == 0 || strcmp(word, "--help") == 0;
}

static void print_command_help(const struct ops_usage *usage)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };

    buf_append_text(&text, usage->text);
    if (usage->options && usage->options->flag) {
        buf_append_text(&text, "\nFlags:\n");
        conf_print_options(usage->options, &text);
    }
    if (usage->table)
        buf_append_text(&text, "\nEvery setting is a flag too: listen.grpc is --listen-grpc. "
                               "`sentinel-hub print-config` lists them.\n");
    fputs(buf_text(&text), stdout);
}

int ops_parse(int argc, char **argv, const struct ops_usage *usage, struct conf_args *ret)
{
    struct conf_error error = { "" };

    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (is_help(argv[i])) {
            print_command_help(usage);
            return OPS_OK;
        }
    }
    int r = conf_parse_args(argc, argv, usage->options, usage->table, ret, &error);
    if (r < 0)
        return OPS_FAILED;
    if (r == 0 && ret->n_rest < usage->min_words)
        snprintf(error.text, sizeof(error.text), "it takes: %s", usage->words);
    else if (r == 0 && ret->n_rest > usage->max_words)
        snprintf(error.text, sizeof(error.text), "`%.100s` is one word too many",
                 ret->rest[usage->max_words]);
    else if (r == 0)
        return -1;
    ops_refuse(usage->command, OPS_USAGE, "%s", error.text);
    fprintf(stderr, "`sentinel-hub %s --help` shows how it goes.\n", usage->command);
    return OPS_USAGE;
}

int ops_database(const char *command, const char *state_directory, char to[static OPS_PATH_BYTES])
{
    struct tls_why unfit = { "" };

    if (pki_check_state(state_directory, &unfit) != 0)
        return ops_refuse(command, OPS_FAILED, "%s", unfit.text);
    if (snprintf(to, OPS_PATH_BYTES, "%s/db", state_directory) >= 400)
        return ops_refuse(command, OPS_USAGE, "--state-dir: the path is too long");
    return 0;
}

int ops_open_store(const char *command, const char *state_directory, struct store **ret)
{
    struct store_why why = { "" };
    struct tls_why unfit = { "" };
    char directory[4200];

    if (pki_check_state(state_directory, &unfit) != 0)
        return ops_refuse(command, OPS_FAILED, "%s", unfit.text);
    snprintf(directory, sizeof(directory), "%.4096s/db", state_directory);
    const struct store_options options = { .directory = directory, .is_shared = true };
    int r = store_open(ret, &options, &why);
    if (r < 0)
        return ops_refuse(command, OPS_FAILED, "cannot open the database in %s", directory);
    if (r == STORE_NOT_FOUND)
        return ops_refuse(command, OPS_NOT_FOUND,
                          "there is no database in %s; make one with: sentinel-hub init "
                          "--state-dir %s",
                          directory, state_directory);
    return r == 0 ? 0 : ops_refuse(command, OPS_FAILED, "%s", why.text);
}

int ops_open_audit(const char *command,
                   const char *state_directory,
                   struct store *store,
                   struct audit **ret)
{
    char directory[OPS_PATH_BYTES];
    const struct audit_options options = { .store = store, .directory = directory };

    snprintf(directory, sizeof(directory), "%.4096s/audit", state_directory);
    if (audit_open(ret, &options) == 0)
        return 0;
    return ops_refuse(command, OPS_FAILED, "cannot open the audit in %s", state_directory);
}

const char *ops_check_row(void *ctx, enum store_table table, struct span key, struct span value)
{
    const char *wrong = pki_check_row(ctx, table, key, value);

    if (!wrong)
        wrong = audit_check_row(ctx, table, key, value);
    return wrong ? wrong : quota_check_row(ctx, table, key, value);
}

static bool check_signature(void *ctx, struct span data, struct span signature)
{
    return pki_hub_check(ctx, data, signature);
}

int ops_verify_chain(const char *state_directory,
                     struct ops_chain *chain,
                     struct audit_verdict *ret)
{
    CLEANUP(pki_closep) struct pki *pki = NULL;
    struct tls_why why = { "" };
    int r = pki_open(&pki, chain->store, state_directory, &why);

    if (r == PKI_BAD)
        ops_refuse("audit", 0, "signatures are not looked at: %s", why.text);
    if (r < 0)
        return r;
    chain->has_signatures = pki != NULL;
    return audit_verify(chain->audit, chain->anchors, chain->n_anchors,
                        pki ? check_signature : NULL, pki, ret);
}

const char *ops_actor(void)
{
    static char actor[80];
    const struct passwd *user = getpwuid(geteuid());

    if (user)
        snprintf(actor, sizeof(actor), "local/%.64s", user->pw_name);
    else
        snprintf(actor, sizeof(actor), "local/%u", (unsigned) geteuid());
    return actor;
}

int ops_exit_of_pki(int r)
{
    switch (r) {
    case PKI_OK:
        return OPS_OK;
    case PKI_BAD_NAME:
        return OPS_USAGE;
    case PKI_ABSENT:
    case PKI_UNKNOWN:
        return OPS_NOT_FOUND;
    default:
        return OPS_FAILED;
    }
}

/* For a person: what went wrong, not where in the program. */
static void say_fault(int code, struct fault_site site, const char *reason)
{
    CLEANUP(buf_deinit) struct buf shown = { 0 };

    (void) site;
    if (!reason)
        return;
    text_append_printable(&shown, span_of_text(reason));
    fprintf(stderr, "sentinel-hub: %s: %s\n", buf_text(&shown), strerror(-code));
}

void ops_quiet_log(void)
{
    const struct log_options options = { .level = LOG_WARN,
                                         .format = LOG_LOGFMT,
                                         .fd = STDERR_FILENO };

    log_init(&options);
    fault_set_sink(say_fault);
}

int ops_main(int argc, char **argv)
{
    const char *names[N_COMMANDS + 1] = { NULL };

    if (argc < 2) {
        print_help(stderr);
        return OPS_USAGE;
    }
    if (strcmp(argv[1], "help") == 0 && argc == 3) { /* help COMMAND: COMMAND --help */
        static char flag[] = "--help";
        char *words[] = { argv[0], argv[2], flag, NULL };
        return is_help(argv[2]) ? ops_main(2, words) : ops_main(3, words);
    }
    if (is_help(argv[1]) || (strcmp(argv[1], "help") == 0 && argc == 2)) {
        print_help(stdout);
        return OPS_OK;
    }
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0)
        return ops_version(1, argv + 1);
    for (size_t i = 0; i < N_COMMANDS; i++) {
        names[i] = commands[i].name;
        if (strcmp(argv[1], names[i]) != 0)
            continue;
        if (commands[i].run != ops_run)
            fault_set_sink(say_fault);
        int exit_code = commands[i].run(argc - 1, argv + 1);
        if (fflush(stdout) != 0 && exit_code == OPS_OK)
            return ops_refuse(names[i], OPS_FAILED, "cannot write to stdout");
        return exit_code;
    }
    const char *nearest = text_nearest(argv[1], names);
    if (nearest)
        return ops_refuse(NULL, OPS_USAGE, "there is no command `%.64s`; did you mean `%s`?",
                          argv[1], nearest);
    return ops_refuse(NULL, OPS_USAGE,
                      "there is no command `%.64s`; `sentinel-hub --help` lists them", argv[1]);
}
