/* SPDX-License-Identifier: Apache-2.0 */
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/resource.h>

#include "bench/bench.h"
#include "common/base/text.h"
#include "common/log/log.h"

struct command {
    const char *name;
    const char *help;
    int (*fn)(int argc, char **argv);
};

static int cmd_version(int argc, char **argv)
{
    (void) argc;
    (void) argv;
    printf("sentinel-bench %s\n", SENTINEL_VERSION);
    return BENCH_OK;
}

static const struct command commands[] = {
    { "metrics",
      "many agents stream metrics; what the hub takes, how fast, and whether it keeps it",
      cmd_metrics },
    { "logs",
      "log lines of many agents: what the hub takes of them, and what they take on its disk",
      cmd_logs },
    { "search", "how long a search for a rare word takes, and the first page of a frequent one",
      cmd_search },
    { "query", "how long an operator's questions take, over a day and over a fleet", cmd_query },
    { "idle", "what connections that do nothing cost the hub", cmd_idle },
    { "handshakes", "how many new connections a hub takes in a second", cmd_handshakes },
    { "enroll", "how many machines a hub enrols in a second", cmd_enroll },
    { "revoke", "how soon a stream ends whose agent is revoked, while many stream", cmd_revoke },
    { "bulk", "how fast uploads reach the disk, beside the disk alone", cmd_bulk },
    { "record", "what an agent sees of this machine under a scripted load, in a file", cmd_record },
    { "export", "the same values for other systems' senders", cmd_export },
    { "export-logs", "the same log lines for other systems, as OTLP", cmd_export_logs },
    { "identities", "makes the agents' identities for a hub that you run", cmd_identities },
    { "version", "the version of this program", cmd_version },
};
#define N_COMMANDS (sizeof(commands) / sizeof(commands[0]))

int bench_say(int code, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    fprintf(stderr, "sentinel-bench: ");
    (void) vfprintf(stderr, fmt, args);
    fprintf(stderr, "\n");
    va_end(args);
    return code;
}

uint64_t bench_raise_descriptors(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return 0;
    limit.rlim_cur = limit.rlim_max;
    (void) setrlimit(RLIMIT_NOFILE, &limit);
    return limit.rlim_max;
}

static const int interrupts[] = { SIGINT, SIGTERM, SIGHUP };
#define N_INTERRUPTS (sizeof(interrupts) / sizeof(interrupts[0]))

bool bench_is_interrupted(void)
{
    sigset_t pending;

    if (sigpending(&pending) < 0)
        return false;
    for (size_t i = 0; i < N_INTERRUPTS; i++)
        if (sigismember(&pending, interrupts[i]) == 1)
            return true;
    return false;
}

static void hold_interrupts(void)
{
    sigset_t set;

    sigemptyset(&set);
    for (size_t i = 0; i < N_INTERRUPTS; i++)
        sigaddset(&set, interrupts[i]);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
}

static int print_help(FILE *to)
{
    fprintf(to,
            "Measures a hub: throughput, time to acknowledge, bytes per sample; and checks that it "
            "keeps what it\n"
            "acknowledges. Without --hub it starts one of its own and removes it.\n\n"
            "Examples:\n"
            "  sentinel-bench metrics\n"
            "  sentinel-bench metrics --agents 1000 --rate 50000 --duration 1m --verify --json\n\n"
            "Commands:\n");
    for (size_t i = 0; i < N_COMMANDS; i++)
        fprintf(to, "  %-12s %s\n", commands[i].name, commands[i].help);
    fprintf(to, "\nsentinel-bench COMMAND --help has the options.\n"
                "Exit codes: 0 ok, 1 failure, 2 usage, 5 the hub is not there.\n");
    return to == stdout ? BENCH_OK : BENCH_USAGE;
}

int main(int argc, char **argv)
{
    const char *names[N_COMMANDS + 1] = { NULL };
    const char *nearest;

    log_init(&(struct log_options){ .level = LOG_ERROR, .fd = 2 });
    if (argc < 2)
        return print_help(stderr);
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0)
        return print_help(stdout);
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0)
        return cmd_version(argc - 1, argv + 1);
    for (size_t i = 0; i < N_COMMANDS; i++) {
        names[i] = commands[i].name;
        if (strcmp(argv[1], commands[i].name) == 0) {
            hold_interrupts();
            return commands[i].fn(argc - 1, argv + 1);
        }
    }
    nearest = text_nearest(argv[1], names);
    return bench_say(BENCH_USAGE, "no command `%s`%s%s%s; sentinel-bench --help lists them",
                     argv[1], nearest ? "; did you mean `" : "", nearest ? nearest : "",
                     nearest ? "`?" : "");
}
