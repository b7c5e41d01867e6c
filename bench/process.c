/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/process.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench/bench.h"
#include "common/base/file.h"

#define STOP_PATIENCE_US INT64_C(30000000)
#define TAIL_BYTES 2000u

/* ---- which program ---- */

static bool is_program(const char *path)
{
    return access(path, X_OK) == 0;
}

static bool find_beside_us(const struct process_program *program, char *to, size_t size)
{
    const char *const places[] = { program->room, "." };
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
        int len = snprintf(to, size, "%s/%s/%s", self, places[i], program->name);

        if (len > 0 && (size_t) len < size && is_program(to))
            return true;
    }
    return false;
}

static bool find_on_path(const struct process_program *program, char *to, size_t size)
{
    const char *at = getenv("PATH");

    while (at && *at) {
        size_t len = strcspn(at, ":");
        int n = snprintf(to, size, "%.*s/%s", (int) len, at, program->name);

        if (n > 0 && (size_t) n < size && is_program(to))
            return true;
        at += len + (at[len] == ':');
    }
    return false;
}

int process_find(const struct process_program *program, char *to, size_t size)
{
    const char *given = getenv(program->variable);

    if (given && *given) {
        if (!is_program(given) || strlen(given) >= size)
            return bench_say(BENCH_FAILED, "$%s: %s is not a program", program->variable, given);
        snprintf(to, size, "%s", given);
        return BENCH_OK;
    }
    if (find_beside_us(program, to, size) || find_on_path(program, to, size))
        return BENCH_OK;
    return bench_say(BENCH_FAILED, "there is no %s beside this program or on PATH; %s names one",
                     program->name, program->variable);
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

pid_t process_spawn(const char *const argv[], const char *output_path)
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

void process_nap(void)
{
    nanosleep(&(struct timespec){ .tv_nsec = 5000000 }, NULL);
}

void process_print_tail(const char *path)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    size_t skip;

    if (file_read(path, PROCESS_LOG_BYTES, &text))
        return;
    skip = text.len > TAIL_BYTES ? text.len - TAIL_BYTES : 0;
    fprintf(stderr, "%s", buf_text(&text) + skip);
}

int process_wait(pid_t pid, const char *const argv[], const char *output_path)
{
    int status;

    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return bench_say(BENCH_FAILED, "cannot wait for %s: %s", argv[0], strerror(errno));
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return BENCH_OK;
    process_print_tail(output_path);
    return bench_say(BENCH_FAILED, "`%s %s` failed", argv[0], argv[1]);
}

int process_run(const char *const argv[], const char *output_path)
{
    pid_t pid;

    if (bench_is_interrupted())
        return bench_say(BENCH_FAILED, "interrupted");
    pid = process_spawn(argv, output_path);
    return pid < 0 ? BENCH_FAILED : process_wait(pid, argv, output_path);
}

void process_stop(pid_t pid, const char *name)
{
    const int64_t due_us = clock_mono().us + STOP_PATIENCE_US;
    int status;

    kill(pid, SIGTERM);
    while (waitpid(pid, &status, WNOHANG) == 0) {
        if (clock_mono().us > due_us) {
            bench_say(BENCH_FAILED, "%s did not stop; it is killed", name);
            process_kill(pid);
            return;
        }
        process_nap();
    }
}

void process_kill(pid_t pid)
{
    int status;

    kill(pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
}
