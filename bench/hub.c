/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/bench.h"
#include "bench/process.h"
#include "common/base/file.h"

#define ISSUES_AT_ONCE 16u
#define START_PATIENCE_US INT64_C(60000000)

/* ---- identities ---- */

int hub_find_program(char *to, size_t size)
{
    static const struct process_program hub = { .name = "sentinel-hub",
                                                .room = "../server",
                                                .variable = "SENTINEL_HUB_PROGRAM" };

    return process_find(&hub, to, size);
}

/* Starts what makes one; 0: it is there. */
static pid_t issue(const char *program, const char *state, const char *out, uint32_t number)
{
    char name[32], directory[PATH_MAX + 32], key[PATH_MAX + 64], log_path[PATH_MAX];
    const char *argv[] = { program,   "issue",       "agent", name, "--out",
                           directory, "--state-dir", state,   NULL };

    snprintf(name, sizeof(name), "bench-%u", number);
    snprintf(directory, sizeof(directory), "%s/%s", out, name);
    snprintf(key, sizeof(key), "%s/client-key.pem", directory);
    snprintf(log_path, sizeof(log_path), "%s/issue.log", out);
    return access(key, F_OK) == 0 ? 0 : process_spawn(argv, log_path);
}

int hub_issue_identities(const char *program, const char *state, const char *out, uint32_t n_agents)
{
    const char *argv[] = { program, "issue", NULL };
    pid_t pids[ISSUES_AT_ONCE] = { 0 };
    char log_path[PATH_MAX];
    int exit_code = BENCH_OK;

    if (file_make_directories(out, 0700))
        return bench_say(BENCH_FAILED, "cannot make %s", out);
    snprintf(log_path, sizeof(log_path), "%s/issue.log", out);
    /* Each waits for the disk for most of its time, so some run at once: a ring of them. */
    for (uint64_t i = 0; i < (uint64_t) n_agents + ISSUES_AT_ONCE; i++) {
        pid_t *pid = &pids[i % ISSUES_AT_ONCE];

        if (*pid > 0 && process_wait(*pid, argv, log_path) != BENCH_OK)
            exit_code = BENCH_FAILED;
        *pid = 0;
        if (exit_code == BENCH_OK && bench_is_interrupted())
            exit_code = bench_say(BENCH_FAILED, "interrupted");
        if (i >= n_agents || exit_code != BENCH_OK)
            continue;
        *pid = issue(program, state, out, (uint32_t) i);
        if (*pid < 0)
            exit_code = BENCH_FAILED;
        if (isatty(STDERR_FILENO))
            fprintf(stderr, "\r%" PRIu64 " of %u identities\033[K%s", i + 1, n_agents,
                    i + 1 == n_agents ? "\r\033[K" : "");
    }
    unlink(log_path);
    return exit_code;
}

/* ---- a hub of our own ---- */

static int make_home(struct bench_hub *hub, const char *parent)
{
    int len;

    if (!parent)
        parent = getenv("TMPDIR");
    if (!parent || !*parent)
        parent = "/tmp";
    len = snprintf(hub->home, sizeof(hub->home), "%s/sentinel-bench.XXXXXX", parent);
    if (len > 0 && (size_t) len < sizeof(hub->home) && mkdtemp(hub->home))
        return BENCH_OK;
    hub->home[0] = '\0';
    return bench_say(BENCH_FAILED, "cannot make a directory in %s: %s", parent, strerror(errno));
}

/* "ready grpc=ADDR:PORT ..." at the start of a line. */
static bool find_ready(struct bench_hub *hub, const char *log_path)
{
    static const char ready[] = "ready grpc=";
    CLEANUP(buf_deinit) struct buf text = { 0 };
    const char *at;
    size_t len;

    if (file_read(log_path, PROCESS_LOG_BYTES, &text))
        return false;
    for (at = buf_text(&text); at; at = strchr(at, '\n') ? strchr(at, '\n') + 1 : NULL)
        if (strncmp(at, ready, sizeof(ready) - 1) == 0)
            break;
    if (!at || !strchr(at, '\n')) /* the line must be whole */
        return false;
    at += sizeof(ready) - 1;
    len = strcspn(at, " \n");
    if (len == 0 || len >= sizeof(hub->address))
        return false;
    memcpy(hub->address, at, len);
    hub->address[len] = '\0';
    return true;
}

/* Until the line says so. Returns an exit code. */
static int wait_ready(struct bench_hub *hub, const char *log_path)
{
    const int64_t due_us = clock_mono().us + START_PATIENCE_US;
    int status;

    while (!find_ready(hub, log_path)) {
        if (bench_is_interrupted())
            return bench_say(BENCH_FAILED, "interrupted");
        if (waitpid(hub->pid, &status, WNOHANG) == hub->pid) {
            hub->pid = 0;
            process_print_tail(log_path);
            return bench_say(BENCH_UNAVAILABLE, "the hub ended before it was ready");
        }
        if (clock_mono().us > due_us) {
            process_print_tail(log_path);
            return bench_say(BENCH_UNAVAILABLE, "the hub was not ready in time");
        }
        process_nap();
    }
    return BENCH_OK;
}

/* At `address`; each run has a log of its own, as the line of the one before would mislead. */
static int run_hub(struct bench_hub *hub, const char *address)
{
    char state[600], log_path[600];
    const char *argv[] = { hub->program,
                           "run",
                           "--state-dir",
                           state,
                           "--listen-grpc",
                           address,
                           "--listen-https",
                           "127.0.0.1:0",
                           hub->is_insecure ? "--insecure" : NULL,
                           NULL };

    snprintf(state, sizeof(state), "%s/hub", hub->home);
    snprintf(log_path, sizeof(log_path), "%s/hub-%u.log", hub->home, hub->n_runs++);
    hub->pid = process_spawn(argv, log_path);
    if (hub->pid < 0) {
        hub->pid = 0;
        return BENCH_FAILED;
    }
    return wait_ready(hub, log_path);
}

int hub_start(struct bench_hub *hub, const struct bench_hub_options *options)
{
    char state[600], log_path[600];
    const char *init[] = { hub->program, "init", "--state-dir", state, NULL };
    int exit_code;

    hub->is_insecure = options->is_insecure;
    exit_code = hub_find_program(hub->program, sizeof(hub->program));
    if (exit_code == BENCH_OK)
        exit_code = make_home(hub, options->parent_directory);
    if (exit_code != BENCH_OK)
        return exit_code;
    snprintf(state, sizeof(state), "%s/hub", hub->home);
    snprintf(hub->identities, sizeof(hub->identities), "%s/identities", hub->home);
    snprintf(hub->operator_identity, sizeof(hub->operator_identity), "%s/hub/operators/admin",
             hub->home);
    snprintf(log_path, sizeof(log_path), "%s/init.log", hub->home);
    exit_code = process_run(init, log_path);
    if (exit_code == BENCH_OK && !options->is_insecure)
        exit_code =
            hub_issue_identities(hub->program, state, hub->identities, options->n_identities);
    return exit_code == BENCH_OK ? run_hub(hub, "127.0.0.1:0") : exit_code;
}

int hub_restart(struct bench_hub *hub, int64_t *ret_us)
{
    char address[sizeof(hub->address)];
    int64_t from_us;
    int exit_code;

    snprintf(address, sizeof(address), "%s", hub->address);
    process_kill(hub->pid);
    hub->pid = 0;
    from_us = clock_mono().us;
    exit_code = run_hub(hub, address);
    *ret_us = clock_mono().us - from_us;
    return exit_code;
}

void hub_stop(struct bench_hub *hub)
{
    if (hub->pid > 0)
        process_stop(hub->pid, "the hub");
    hub->pid = 0;
    if (hub->home[0] && file_remove_tree(hub->home))
        bench_say(BENCH_FAILED, "cannot remove %s", hub->home);
    hub->home[0] = '\0';
}
