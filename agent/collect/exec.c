/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/collect/custom.h"
#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/log/log.h"

/*
 * collect.exec.commands: programs that print Prometheus' text format, or plain `name value` lines.
 * They run as the agent's user, one after another, without a shell, with a clean environment, in a
 * process group of their own that is killed at the deadline. Their output counts when they leave
 * with 0. One that cannot even be killed (in the hands of a dead disk) is not started again before
 * it is gone.
 */
#define MAX_COMMANDS 32
#define MAX_WORDS 32
#define MAX_BYTES (1u << 20)
/* After a SIGKILL; only the kernel can be slower. */
#define LAST_WAIT_US INT64_C(500000)

static const struct collect_metric exit_code = { "sentinel.agent.exec.exit_code", "1",
                                                 SPOOL_GAUGE };
static const struct collect_metric duration = { "sentinel.agent.exec.duration", "s", SPOOL_GAUGE };
static const struct collect_metric error = { "sentinel.agent.exec.error", "1", SPOOL_GAUGE };

struct state {
    struct custom_troubles troubles;
    pid_t stuck[MAX_COMMANDS]; /* 0: none; by place in the list */
};

struct run {
    struct probe *c;
    int fd; /* of its output */
    pid_t pid;
    int64_t deadline_us;
    bool is_over_time, is_too_long;
};

static int spawn(const char *command, int output, pid_t *ret)
{
    static char path[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    static char locale[] = "LC_ALL=C";
    char *const environment[] = { path, locale, NULL };
    char *words[MAX_WORDS + 1], *rest = NULL;
    char copy[4096];
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none, all;
    size_t n = 0;
    int r;

    snprintf(copy, sizeof(copy), "%s", command);
    for (char *word = strtok_r(copy, " ", &rest); word && n < MAX_WORDS;
         word = strtok_r(NULL, " ", &rest))
        words[n++] = word;
    words[n] = NULL;
    if (n == 0)
        return EINVAL;

    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
                                              POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, output, 1);
    posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addclosefrom_np(&actions, 3);
    posix_spawn_file_actions_addchdir_np(&actions, "/");
    r = posix_spawn(ret, words[0], &actions, &attributes, words, environment);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    return r;
}

/* Until its end, or the deadline. */
static void read_output(struct run *run)
{
    struct buf *text = run->c->text;

    buf_clear(text);
    for (;;) {
        struct pollfd file = { .fd = run->fd, .events = POLLIN };
        int64_t left_us = run->deadline_us - clock_mono().us;
        char piece[8192];
        ssize_t n;

        if (left_us <= 0 || poll(&file, 1, (int) (left_us / 1000) + 1) == 0) {
            run->is_over_time = true;
            return;
        }
        n = read(run->fd, piece, sizeof(piece));
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n <= 0)
            return;
        if (text->len + (size_t) n > MAX_BYTES) {
            run->is_too_long = true;
            return;
        }
        buf_append(text, piece, (size_t) n);
    }
}

/* Waits until it left or the deadline, and kills what is left of its group. False: it stays. */
static bool bury(struct run *run, int *ret_status)
{
    int64_t last_us;

    while (!run->is_over_time && !run->is_too_long && clock_mono().us < run->deadline_us) {
        siginfo_t left = { .si_pid = 0 };

        if (waitid(P_PID, (id_t) run->pid, &left, WEXITED | WNOHANG | WNOWAIT) == 0 && left.si_pid)
            break;
        (void) poll(NULL, 0, 2);
    }
    if (clock_mono().us >= run->deadline_us)
        run->is_over_time = !run->is_too_long;
    /* Also the children that it left behind, while its number is still its own. */
    (void) kill(-run->pid, SIGKILL);
    atomic_store(&run->c->child, 0);
    last_us = clock_mono().us + LAST_WAIT_US;
    do {
        if (waitpid(run->pid, ret_status, WNOHANG) == run->pid)
            return true;
        (void) poll(NULL, 0, 2);
    } while (clock_mono().us < last_us);
    return false;
}

/* NULL: it did well, and its samples are added. */
static const char *finish(struct run *run, int status, struct promtext_problem *problem)
{
    struct probe *c = run->c;
    const struct promtext_rules rules = { .max_samples = c->rules->numbers.max_custom,
                                          .allows_dots = true };
    size_t len = c->text->len;

    if (run->is_too_long)
        return "it printed more than 1 MiB and was killed";
    if (run->is_over_time)
        return "it was not done within collect.exec.timeout and was killed";
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return "it did not leave with 0";
    buf_append(c->text, "", 1);
    if (buf_failed(c->text))
        return "there is no memory for its output";
    if (!custom_add_text(c, (char *) c->text->data, len, &rules, NULL, problem))
        return problem->text;
    return NULL;
}

static const char *run_command(struct probe *c,
                               const char *command,
                               pid_t *stuck,
                               const struct spool_attribute *who,
                               struct promtext_problem *problem)
{
    struct run run = { .c = c };
    int64_t begin = clock_mono().us;
    int ends[2], status = 0, r;
    const char *words;

    if (pipe2(ends, O_CLOEXEC) < 0)
        return strerror(errno);
    run.deadline_us = begin + c->rules->numbers.exec_timeout_us;
    run.fd = ends[0];
    r = spawn(command, ends[1], &run.pid);
    close(ends[1]);
    if (r != 0) {
        close(ends[0]);
        return strerror(r);
    }
    atomic_store(&c->child, run.pid);
    if (atomic_load(&c->is_stopping))
        (void) kill(-run.pid, SIGKILL);
    read_output(&run);
    close(ends[0]);
    if (!bury(&run, &status))
        *stuck = run.pid;
    words = finish(&run, status, problem);
    collect_add(c, &duration, (double) (clock_mono().us - begin) / 1e6, who);
    collect_add(c, &exit_code, WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status),
                who);
    return words;
}

static void run_one(struct probe *c, struct state *state, size_t i)
{
    const char *command = c->rules->lists[COLLECT_EXEC_COMMANDS].items[i];
    const struct spool_attribute *who = ATTRIBUTES({ "sentinel.command", command });
    struct promtext_problem problem = { 0 };
    const char *words;

    if (state->stuck[i] && waitpid(state->stuck[i], NULL, WNOHANG) == 0) {
        words = "it cannot be killed, and is not started again before it is gone";
    } else {
        state->stuck[i] = 0;
        words = run_command(c, command, &state->stuck[i], who, &problem);
    }
    collect_add(c, &error, words != NULL, who);
    if (!words) {
        custom_is_well(&state->troubles, command);
        return;
    }
    collect_count_error(c);
    if (custom_is_news(&state->troubles, command, words))
        log_event(LOG_WARN, "exec_failed", LOG_S("command", command), LOG_U("line", problem.line),
                  LOG_S("error", words));
}

void collect_exec(struct probe *c)
{
    size_t n = c->rules->lists[COLLECT_EXEC_COMMANDS].n_items;
    struct state *state;

    if (n == 0)
        return;
    state = collect_state(c, sizeof(*state));
    for (size_t i = 0; state && i < n && i < MAX_COMMANDS && !atomic_load(&c->is_stopping); i++)
        run_one(c, state, i);
}

void collect_exec_stop(struct probe *probe)
{
    pid_t pid;

    atomic_store(&probe->is_stopping, true);
    pid = atomic_load(&probe->child);
    if (pid > 0)
        (void) kill(-pid, SIGKILL);
}
