/* SPDX-License-Identifier: Apache-2.0 */
/* sentinel-agent enroll [--hub HOST:PORT] [--token-file F|-] [--id NAME] [--state-dir D] [--json]
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <termios.h>
#include <unistd.h>

#include "agent/cli/cmd.h"
#include "agent/identity/identity.h"
#include "common/base/file.h"
#include "common/base/owner.h"
#include "common/base/text.h"
#include "common/crypto/crypto.h"
#include "common/json/json.h"
#include "common/log/log.h"
#include "common/rpc/rpc.h"

#define GIVE_UP_US (INT64_C(60) * 1000000)
#define STRING_HEAD "sentinel1/"
#define INPUT_BYTES (2 * IDENTITY_MAX_STRING)

struct enroll_command {
    struct cmd_line line;
    const char *token_file, *id, *give_up;
    int64_t give_up_us;
    bool is_if_absent;
    bool runs;
    struct identity_enrolment enrolment;
    char text[INPUT_BYTES]; /* what was pasted; wiped */
    char name[64];
    struct buf out;
};

/* ---- the string: from a file, stdin or a terminal ---- */

/* What every process of this machine can read, and the shell keeps, is no secret. */
static int refuse_argv(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strstr(argv[i], STRING_HEAD) || strncmp(argv[i], "--token=", 8) == 0 ||
            strcmp(argv[i], "--token") == 0)
            return cmd_fail(CLI_USAGE,
                            "enroll: the enrolment string is not taken from the command line: "
                            "everybody on this machine can read it there (ps), and the shell keeps "
                            "it. Paste it when you are asked for it, or use --token-file FILE or "
                            "`--token-file -` for stdin. If it was good, take it back on the hub: "
                            "sentinelctl tokens revoke");
    }
    return CLI_OK;
}

/* Up to the end of the line or of the input. */
static int read_line(struct enroll_command *command, int fd, const char *from)
{
    size_t len = 0;

    while (len < sizeof(command->text) - 1) {
        ssize_t n = read(fd, command->text + len, 1);

        if (n < 0)
            return cmd_fail(CLI_FAILURE, "enroll: %s: %s", from, strerror(errno));
        if (n == 0 || command->text[len] == '\n')
            break;
        len++;
    }
    command->text[len] = '\0';
    return CLI_OK;
}

static volatile sig_atomic_t interrupted_by;

static void on_interrupt(int number)
{
    interrupted_by = number;
}

/* Asks when nothing is shown any more: what was typed before is thrown away. Whatever ends the
 * read, the terminal shows what is typed again. */
static int read_hidden(struct enroll_command *command, int fd, const char *question)
{
    static const int numbers[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP };
    const struct sigaction catching = { .sa_handler = on_interrupt };
    struct sigaction before[sizeof(numbers) / sizeof(numbers[0])];
    struct termios shown, hidden;
    int code;

    if (tcgetattr(fd, &shown) < 0)
        return cmd_fail(CLI_FAILURE, "enroll: the terminal: %s", strerror(errno));
    hidden = shown;
    hidden.c_lflag &= ~(tcflag_t) ECHO;
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        sigaction(numbers[i], &catching, &before[i]);
    tcsetattr(fd, TCSAFLUSH, &hidden);
    (void) !write(fd, question, strlen(question));
    code = read_line(command, fd, "the terminal");
    tcsetattr(fd, TCSAFLUSH, &shown);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        sigaction(numbers[i], &before[i], NULL);
    (void) !write(fd, "\n", 1);
    if (interrupted_by)
        raise(interrupted_by);
    return code;
}

static int ask(struct enroll_command *command)
{
    static const char question[] =
        "Enrolment string (sentinelctl tokens create prints it; it is not shown here): ";
    CLEANUP(fd_closep) int fd = open("/dev/tty", O_RDWR | O_CLOEXEC);

    if (!isatty(STDIN_FILENO) || fd < 0)
        return read_line(command, STDIN_FILENO, "stdin");
    return read_hidden(command, fd, question);
}

static int read_file(struct enroll_command *command)
{
    CLEANUP(fd_closep) int fd = open(command->token_file, O_RDONLY | O_CLOEXEC | O_NOCTTY);

    if (fd < 0)
        return cmd_fail(errno == ENOENT ? CLI_NOT_FOUND : CLI_FAILURE,
                        "enroll: --token-file %s: %s", command->token_file, strerror(errno));
    return read_line(command, fd, command->token_file);
}

static int read_string(struct enroll_command *command)
{
    struct identity_why why = { "" };
    int code;

    if (!command->token_file)
        code = ask(command);
    else if (strcmp(command->token_file, "-") == 0)
        code = read_line(command, STDIN_FILENO, "stdin");
    else
        code = read_file(command);
    if (code == CLI_OK &&
        identity_enrolment_parse(span_of_text(command->text), &command->enrolment, &why))
        code = cmd_fail(CLI_USAGE, "enroll: %s", why.text);
    crypto_wipe(command->text, sizeof(command->text));
    return code;
}

/* ---- what is said of it ---- */

static int exit_of(int outcome)
{
    switch (outcome) {
    case ENROL_UNREACHABLE:
    case ENROL_BUSY:
        return CLI_UNAVAILABLE;
    case ENROL_WRONG_HUB:
    case ENROL_REFUSED:
        return CLI_DENIED;
    default:
        return CLI_FAILURE;
    }
}

static int
say_failed(struct enroll_command *command, int outcome, const struct enrol_result *result)
{
    struct json_writer json;
    int code = exit_of(outcome);

    (void) cmd_fail(code, "enroll: %s%s%s%s%s", result->reason, result->reason[0] ? ": " : "",
                    result->message, result->remedy[0] ? "; " : "", result->remedy);
    if (!command->line.is_json)
        return code;
    json_begin(&json, &command->out, true);
    json_open_object(&json);
    json_put_bool(&json, "enrolled", false);
    json_put_text(&json, "reason", result->reason);
    json_put_text(&json, "message", result->message);
    json_put_text(&json, "remedy", result->remedy);
    json_close_object(&json);
    buf_append_text(&command->out, "\n");
    return code;
}

/* What to type next; the flags that were needed here are needed there. */
static void print_next(const struct enroll_command *command, struct buf *to)
{
    const struct conf_args *args = &command->line.args;

    buf_append_text(to, "sentinel-agent run");
    for (size_t i = 0; i < args->n_flags; i++) {
        if (strcmp(args->flags[i].row, "state_dir") == 0)
            buf_printf(to, " --state-dir %s", args->flags[i].value);
        if (strcmp(args->flags[i].row, "identity") == 0)
            buf_printf(to, " --identity %s", args->flags[i].value);
    }
    if (command->line.config)
        buf_printf(to, " --config %s", command->line.config);
}

static void
say_done(struct enroll_command *command, const char *hub, const struct enrol_result *result)
{
    CLEANUP(buf_deinit) struct buf next = { 0 };
    struct json_writer json;
    char until[TEXT_TIME_BYTES];

    text_of_time(result->not_after, until);
    print_next(command, &next);
    if (!command->line.is_json) {
        buf_printf(&command->out,
                   "enrolled as %s with %s\n"
                   "identity   %s, until %s; it renews itself\n"
                   "next       %s\n",
                   result->agent_id, hub, result->directory, until, buf_text(&next));
        return;
    }
    json_begin(&json, &command->out, true);
    json_open_object(&json);
    json_put_bool(&json, "enrolled", true);
    json_put_text(&json, "agent_id", result->agent_id);
    json_put_text(&json, "hub", hub);
    json_put_text(&json, "identity", result->directory);
    json_put_text(&json, "not_after", until);
    json_put_text(&json, "next", buf_text(&next));
    json_close_object(&json);
    buf_append_text(&command->out, "\n");
}

/* ---- the command ---- */

/* The one that was typed beats the string's, which beats the settings': they may be of before. */
static const char *hub_of(const struct enroll_command *command)
{
    const struct conf_args *args = &command->line.args;

    for (size_t i = 0; i < args->n_flags; i++) {
        if (strcmp(args->flags[i].row, "hub") == 0)
            return command->line.settings.hub;
    }
    return command->enrolment.hub;
}

static int check(struct enroll_command *command)
{
    struct utsname names;

    command->give_up_us = GIVE_UP_US;
    if (command->give_up && text_to_duration_us(command->give_up, &command->give_up_us))
        return cmd_fail(CLI_USAGE, "enroll: --give-up: `%s` is not a duration such as 5m",
                        command->give_up);
    if (command->id && !identity_name_is_good(command->id))
        return cmd_fail(CLI_USAGE,
                        "enroll: --id: `%s` cannot be an id: 1 to 63 of a-z, 0-9, dot and hyphen, "
                        "beginning with a letter or digit",
                        command->id);
    if (!command->id && uname(&names) == 0)
        identity_name_of_host(names.nodename, command->name);
    return CLI_OK;
}

static int enroll(struct enroll_command *command)
{
    const struct settings *settings = &command->line.settings;
    const char *hub = hub_of(command);
    struct enrol_result result;
    int r;

    if (rpc_init())
        return CLI_FAILURE;
    r = enrol_run(
        &(struct enrol_options){
            .enrolment = &command->enrolment,
            .hub = hub,
            .server_name = settings->server_name[0] ? settings->server_name : NULL,
            .directory = settings->identity,
            .id = command->id ? command->id : command->name,
            .root = settings->collect_root,
            .is_tls13_only = settings->tls_min_version == SETTINGS_TLS_1_3,
            .give_up_us = command->give_up_us,
        },
        &result);
    rpc_deinit();
    if (r < 0)
        return CLI_FAILURE;
    if (r)
        return say_failed(command, r, &result);
    say_done(command, hub, &result);
    return CLI_OK;
}

/* Goes on as `sentinel-agent run` with the same settings; returns only when that fails. */
static int go_on(const struct enroll_command *command)
{
    const struct conf_args *args = &command->line.args;
    char names[sizeof(args->flags) / sizeof(args->flags[0])][64];
    const char *argv[2 * sizeof(names) / sizeof(names[0]) + 5] = { "sentinel-agent", "run" };
    size_t n = 2;

    if (command->line.config) {
        argv[n++] = "--config";
        argv[n++] = command->line.config;
    }
    for (size_t i = 0; i < args->n_flags; i++) {
        snprintf(names[i], sizeof(names[i]), "--%s", args->flags[i].row);
        for (char *at = names[i]; *at; at++) {
            if (*at == '.' || *at == '_')
                *at = '-';
        }
        argv[n++] = names[i];
        argv[n++] = args->flags[i].value;
    }
    argv[n] = NULL;
    execv("/proc/self/exe", (char **) (uintptr_t) argv);
    return cmd_fail(CLI_FAILURE, "enroll: cannot go on as `run`: %s", strerror(errno));
}

static int run(struct enroll_command *command)
{
    int code = check(command), r;

    if (command->is_if_absent && !keeper_is_absent(command->line.settings.identity))
        return command->runs ? go_on(command) : CLI_OK;
    if (code == CLI_OK)
        code = read_string(command);
    if (code)
        return code;
    log_init(&(struct log_options){ .level = LOG_ERROR, .format = LOG_LOGFMT, .fd = 2 });
    /* Root does it for the agent's user, where a package made the directory for one. */
    if (owner_become(command->line.settings.state_dir))
        return CLI_FAILURE;
    code = enroll(command);
    r = cmd_print(&command->out);
    if (r == CLI_OK && code == CLI_OK && command->runs)
        return go_on(command);
    return r ? r : code;
}

int cmd_enroll(int argc, char **argv)
{
    struct enroll_command command = { .token_file = NULL };
    const struct conf_option options[] = {
        { .flag = "--token-file",
          .metavar = "F",
          .value = &command.token_file,
          .help = "the enrolment string is its first line; - is stdin; else it is asked for" },
        { .flag = "--id",
          .metavar = "NAME",
          .value = &command.id,
          .help = "the agent id that is wished for; else made of the host's name" },
        { .flag = "--give-up",
          .metavar = "DURATION",
          .value = &command.give_up,
          .help = "how long an answer that was lost, or that comes later, is tried for; 1m" },
        { .flag = "--if-absent",
          .is_set = &command.is_if_absent,
          .help = "nothing is done where there is an identity" },
        { .flag = "--run",
          .is_set = &command.runs,
          .help = "go on as `sentinel-agent run` with the same settings" },
        { .flag = NULL },
    };
    const struct cmd cmd = {
        .usage = "enroll [--hub HOST:PORT] [--token-file F|-] [--id NAME] [--state-dir D] [--run] "
                 "[--json]",
        .help = "Makes a key here and gets its certificate from the hub, with the string that "
                "`sentinelctl tokens create` printed. Run again with the same string it goes on "
                "where it was cut.",
        .options = options,
        .has_json = true,
        .has_settings = true,
    };
    int code = refuse_argv(argc, argv);

    if (code == CLI_OK && cmd_parse(argc, argv, &cmd, &command.line, &code) == 0)
        code = run(&command);
    crypto_wipe(&command.enrolment, sizeof(command.enrolment));
    buf_deinit(&command.out);
    cmd_line_deinit(&command.line);
    return code;
}
