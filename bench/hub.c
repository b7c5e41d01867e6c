/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench/bench.h"
#include "common/base/file.h"

#define PROGRAM_NAME "sentinel-hub"
#define START_PATIENCE_US INT64_C(60000000)
#define STOP_PATIENCE_US INT64_C(30000000)
#define TAIL_BYTES 2000u
#define LOG_BYTES (64u << 20)

/* ---- which program ---- */

static bool is_program(const char *path)
{
    return access(path, X_OK) == 0;
}

static bool find_beside_us(char *to, size_t size)
{
    static const char *const places[] = { "../server", "." };
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    char *slash;

    if (n <= 0)
        return false;
    self[n] = '\0';
    slash = strrchr(self, '/');
    if (!slash)
        return false;
    *slash = '\0';
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        int len = snprintf(to, size, "%s/%s/%s", self, places[i], PROGRAM_NAME);

        if (len > 0 && (size_t) len < size && is_program(to))
            return true;
    }
    return false;
}

static bool find_on_path(char *to, size_t size)
{
    const char *at = getenv("PATH");

    while (at && *at) {
        size_t len = strcspn(at, ":");
        int n = snprintf(to, size, "%.*s/%s", (int) len, at, PROGRAM_NAME);

        if (n > 0 && (size_t) n < size && is_program(to))
            return true;
        at += len + (at[len] == ':');
    }
    return false;
}

int hub_find_program(char *to, size_t size)
{
    const char *given = getenv("SENTINEL_HUB_PROGRAM");

    if (given && *given) {
        if (!is_program(given) || strlen(given) >= size)
            return bench_say(BENCH_FAILED, "$SENTINEL_HUB_PROGRAM: %s is not a program", given);
        snprintf(to, size, "%s", given);
        return BENCH_OK;
    }
    if (find_beside_us(to, size) || find_on_path(to, size))
        return BENCH_OK;
    return bench_say(BENCH_FAILED, "there is no " PROGRAM_NAME " beside this program or on PATH; "
                                   "SENTINEL_HUB_PROGRAM names one, or give --hub HOST:PORT");
}

/* ---- processes ---- */

/* Does not return. Ends with us, whatever becomes of us. */
static void become(const char *const argv[], int output, pid_t parent)
{
    sigset_t none;

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    /* A group of its own: Ctrl-C is ours, and we stop it in order. */
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() == parent && dup2(output, STDERR_FILENO) >= 0 && dup2(output, STDOUT_FILENO) >= 0)
        execv(argv[0], (char *const *) (uintptr_t) argv);
    _exit(127);
}

/* Output of both kinds is appended to the file. */
static pid_t spawn(const char *const argv[], const char *output_path)
{
    CLEANUP(fd_closep)
    int output = open(output_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    pid_t parent = getpid(), pid;

    if (output < 0) {
        bench_say(BENCH_FAILED, "cannot write %s: %s", output_path, strerror(errno));
        return -1;
    }
    pid = fork();
    if (pid == 0)
        become(argv, output, parent);
    if (pid < 0)
        bench_say(BENCH_FAILED, "cannot start a process: %s", strerror(errno));
    return pid;
}

static void nap(void)
{
    nanosleep(&(struct timespec){ .tv_nsec = 5000000 }, NULL);
}

static void print_tail(const char *path)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    size_t skip;

    if (file_read(path, LOG_BYTES, &text))
        return;
    skip = text.len > TAIL_BYTES ? text.len - TAIL_BYTES : 0;
    fprintf(stderr, "%s", buf_text(&text) + skip);
}

/* Runs to the end. Returns an exit code; what it printed is shown when it failed. */
static int run(const char *const argv[], const char *output_path)
{
    pid_t pid;
    int status;

    if (bench_is_interrupted())
        return bench_say(BENCH_FAILED, "interrupted");
    pid = spawn(argv, output_path);
    if (pid < 0)
        return BENCH_FAILED;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return bench_say(BENCH_FAILED, "cannot wait for %s: %s", argv[0], strerror(errno));
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return BENCH_OK;
    print_tail(output_path);
    return bench_say(BENCH_FAILED, "`%s %s` failed", argv[0], argv[1]);
}

/* ---- identities ---- */

int hub_issue_identities(const char *program, const char *state, const char *out, uint32_t n_agents)
{
    char log_path[PATH_MAX];
    int exit_code = BENCH_OK;

    if (file_make_directories(out, 0700))
        return bench_say(BENCH_FAILED, "cannot make %s", out);
    snprintf(log_path, sizeof(log_path), "%s/issue.log", out);
    for (uint32_t i = 0; i < n_agents && exit_code == BENCH_OK; i++) {
        char name[32], directory[PATH_MAX + 32], key[PATH_MAX + 64];
        const char *argv[] = { program,   "issue",       "agent", name, "--out",
                               directory, "--state-dir", state,   NULL };

        snprintf(name, sizeof(name), "bench-%u", i);
        snprintf(directory, sizeof(directory), "%s/%s", out, name);
        snprintf(key, sizeof(key), "%s/client-key.pem", directory);
        if (access(key, F_OK) != 0)
            exit_code = run(argv, log_path);
        if (isatty(STDERR_FILENO))
            fprintf(stderr, "\r%u of %u identities\033[K%s", i + 1, n_agents,
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

    if (file_read(log_path, LOG_BYTES, &text))
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

static int run_hub(struct bench_hub *hub, const char *state)
{
    char log_path[600];
    const char *argv[] = { hub->program,    "run",         "--state-dir", state,
                           "--listen-grpc", "127.0.0.1:0", NULL };
    const int64_t due_us = clock_mono().us + START_PATIENCE_US;
    int status;

    snprintf(log_path, sizeof(log_path), "%s/hub.log", hub->home);
    hub->pid = spawn(argv, log_path);
    if (hub->pid < 0) {
        hub->pid = 0;
        return BENCH_FAILED;
    }
    while (!find_ready(hub, log_path)) {
        if (bench_is_interrupted())
            return bench_say(BENCH_FAILED, "interrupted");
        if (waitpid(hub->pid, &status, WNOHANG) == hub->pid) {
            hub->pid = 0;
            print_tail(log_path);
            return bench_say(BENCH_UNAVAILABLE, "the hub ended before it was ready");
        }
        if (clock_mono().us > due_us) {
            print_tail(log_path);
            return bench_say(BENCH_UNAVAILABLE, "the hub was not ready in time");
        }
        nap();
    }
    return BENCH_OK;
}

int hub_start(struct bench_hub *hub, const char *parent_directory, uint32_t n_agents)
{
    char state[600], identities[600], log_path[600];
    const char *init[] = { hub->program, "init", "--state-dir", state, NULL };
    int exit_code;

    exit_code = hub_find_program(hub->program, sizeof(hub->program));
    if (exit_code == BENCH_OK)
        exit_code = make_home(hub, parent_directory);
    if (exit_code != BENCH_OK)
        return exit_code;
    snprintf(state, sizeof(state), "%s/hub", hub->home);
    snprintf(identities, sizeof(identities), "%s/identities", hub->home);
    snprintf(log_path, sizeof(log_path), "%s/init.log", hub->home);
    exit_code = run(init, log_path);
    if (exit_code == BENCH_OK)
        exit_code = hub_issue_identities(hub->program, state, identities, n_agents);
    return exit_code == BENCH_OK ? run_hub(hub, state) : exit_code;
}

void hub_stop(struct bench_hub *hub)
{
    const int64_t due_us = clock_mono().us + STOP_PATIENCE_US;
    int status;

    if (hub->pid > 0) {
        kill(hub->pid, SIGTERM);
        while (waitpid(hub->pid, &status, WNOHANG) == 0) {
            if (clock_mono().us > due_us) {
                bench_say(BENCH_FAILED, "the hub did not stop; it is killed");
                kill(hub->pid, SIGKILL);
                waitpid(hub->pid, &status, 0);
                break;
            }
            nap();
        }
        hub->pid = 0;
    }
    if (hub->home[0] && file_remove_tree(hub->home))
        bench_say(BENCH_FAILED, "cannot remove %s", hub->home);
    hub->home[0] = '\0';
}
