/* SPDX-License-Identifier: Apache-2.0 */

/*
 * sentinel.admin.v1.AdminService, Backup: `sentinel-hub backup` in a process of its own, and what
 * it says as messages.
 *
 * A process, as the database's environments are open in this one, and LMDB must not open one twice
 * in a process (its locks are the process's). What it prints is read by a thread that lives as long
 * as the backup; the call's pieces only make messages of what was read. Who goes away ends it:
 * what it made so far is removed by the next one.
 */

#include "sentinel/admin/v1/admin.pb-c.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/file.h"
#include "common/base/text.h"
#include "common/json/json.h"
#include "common/log/log.h"
#include "server/front/acts.h"
#include "server/front/inside.h"
#include "server/front/serial.h"

#define PROGRESS "progress "
#define MAX_SAID_BYTES ((size_t) 64 * 1024) /* of what it prints; more is passed over */
#define MAX_DAMAGES 100

/* Exit codes of `sentinel-hub backup`. */
enum { EXIT_IS_USAGE = 2, EXIT_IS_NOT_FOUND = 3, EXIT_IS_BUSY = 5, EXIT_IS_PARTIAL = 6 };

struct backup {
    struct serial *serial;
    pid_t child;
    int out, err; /* what it prints; -1: closed */
    pthread_t thread;
    bool has_thread;

    pthread_mutex_t lock;
    uint64_t done_bytes, all_bytes; /* under lock */
    bool is_told, is_waiting, is_over;
    int status;
    struct buf said, complained; /* the thread's until is_over */
};

/* ---- the thread ---- */

/* Under the lock: the call's piece waits for news at most once. */
static bool take_waiting(struct backup *backup)
{
    const bool was = backup->is_waiting;

    backup->is_waiting = false;
    return was;
}

static void tell(struct backup *backup, uint64_t done, uint64_t all)
{
    bool must_wake;

    pthread_mutex_lock(&backup->lock);
    backup->done_bytes = done;
    backup->all_bytes = all;
    backup->is_told = true;
    must_wake = take_waiting(backup);
    pthread_mutex_unlock(&backup->lock);
    if (must_wake)
        serial_wake(backup->serial);
}

/* Whole lines of progress are taken out of what was said; the rest is the result. */
static void read_progress(struct backup *backup)
{
    struct buf *said = &backup->said;
    const uint8_t *end;

    while (said->len >= strlen(PROGRESS) && memcmp(said->data, PROGRESS, strlen(PROGRESS)) == 0 &&
           (end = memchr(said->data, '\n', said->len)) != NULL) {
        const size_t len = (size_t) (end - said->data) + 1;
        char *rest;
        const uint64_t done = strtoull((const char *) said->data + strlen(PROGRESS), &rest, 10);

        tell(backup, done, strtoull(rest, NULL, 10)); /* both end at the line's end at the latest */
        memmove(said->data, said->data + len, said->len - len);
        said->len -= len;
    }
}

/* Returns false at the end. */
static bool read_some(int fd, struct buf *to)
{
    uint8_t bytes[4096];
    ssize_t n = read(fd, bytes, sizeof(bytes) - 1);

    if (n < 0 && errno == EINTR)
        return true;
    if (n <= 0)
        return false;
    if (to->len + (size_t) n < MAX_SAID_BYTES)
        buf_append(to, bytes, (size_t) n);
    return true;
}

static void *listen_to(void *ctx)
{
    struct backup *backup = ctx;
    struct pollfd fds[] = { { .fd = backup->out, .events = POLLIN },
                            { .fd = backup->err, .events = POLLIN } };
    siginfo_t ended;
    bool must_wake;

    while (fds[0].fd >= 0 || fds[1].fd >= 0) {
        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            break;
        if (fds[0].revents && !read_some(backup->out, &backup->said))
            fds[0].fd = -1;
        if (fds[1].revents && !read_some(backup->err, &backup->complained))
            fds[1].fd = -1;
        read_progress(backup);
    }
    while (waitid(P_PID, (id_t) backup->child, &ended, WEXITED | WNOWAIT) < 0 && errno == EINTR) {
    }
    /* Reaped under the lock: whoever signals it there signals no other process. */
    pthread_mutex_lock(&backup->lock);
    while (waitpid(backup->child, &backup->status, 0) < 0 && errno == EINTR) {
    }
    backup->is_over = true;
    must_wake = take_waiting(backup);
    pthread_mutex_unlock(&backup->lock);
    if (must_wake)
        serial_wake(backup->serial);
    return NULL;
}

/* ---- begin and end ---- */

static int spawn(struct backup *backup, const char *program, const char *state, const char *to)
{
    char *const argv[] = {
        front_borrow(program),  front_borrow("backup"),     front_borrow("--state-dir"),
        front_borrow(state),    front_borrow("--to"),       front_borrow(to),
        front_borrow("--json"), front_borrow("--progress"), NULL
    };
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none;
    int out[2], err[2];
    int rc;

    if (pipe2(out, O_CLOEXEC) < 0)
        return fault(-errno, "cannot make a pipe");
    if (pipe2(err, O_CLOEXEC) < 0) {
        close(out[0]);
        close(out[1]);
        return fault(-errno, "cannot make a pipe");
    }
    sigemptyset(&none);
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, err[1], STDERR_FILENO);
    /* Signals that this process blocks for its loop would stay blocked there. */
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    rc = posix_spawn(&backup->child, program, &actions, &attributes, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    close(out[1]);
    close(err[1]);
    backup->out = out[0];
    backup->err = err[0];
    if (rc != 0)
        backup->child = 0;
    return rc == 0 ? 0 : fault(-rc, "cannot start %s", program);
}

static void backup_close(void *work)
{
    struct backup *backup = work;

    if (!backup)
        return;
    if (backup->has_thread) {
        pthread_mutex_lock(&backup->lock);
        if (!backup->is_over)
            kill(backup->child, SIGTERM);
        backup->is_waiting = false;
        pthread_mutex_unlock(&backup->lock);
        pthread_join(backup->thread, NULL);
    } else if (backup->child > 0) {
        kill(backup->child, SIGTERM);
        while (waitpid(backup->child, NULL, 0) < 0 && errno == EINTR) {
        }
    }
    fd_closep(&backup->out);
    fd_closep(&backup->err);
    buf_deinit(&backup->said);
    buf_deinit(&backup->complained);
    pthread_mutex_destroy(&backup->lock);
    free(backup);
}

static enum front_failure begin(struct serial *serial, struct backup **ret, int *ret_r)
{
    struct unary *unary = serial_unary(serial);
    const Sentinel__Admin__V1__BackupRequest *request = (const void *) unary->request;
    const struct front_options *options = &unary->front->options;
    enum front_failure failure;
    struct backup *backup;

    if (!options->program || !options->state_directory)
        return FAIL_UNIMPLEMENTED;
    if (request->to[0] != '/') {
        front_describe(&unary->detail, "to", "an absolute path on the hub's machine");
        return FAIL_BAD_QUESTION;
    }
    /* No entry, no backup: it holds the keys of the authority. */
    failure = front_act_note(unary, AUDIT_BACKUP, request->to);
    if (failure != FAIL_NOT)
        return failure;
    backup = calloc(1, sizeof(*backup));
    if (!backup) {
        *ret_r = fault(-ENOMEM, "no memory for a backup");
        return FAIL_FAULT;
    }
    backup->serial = serial;
    backup->out = backup->err = -1;
    pthread_mutex_init(&backup->lock, NULL);
    *ret = backup;
    *ret_r = spawn(backup, options->program, options->state_directory, request->to);
    if (*ret_r == 0) {
        const int rc = pthread_create(&backup->thread, NULL, listen_to, backup);

        backup->has_thread = rc == 0;
        if (rc != 0)
            *ret_r = fault(-rc, "no thread for a backup");
    }
    return *ret_r == 0 ? FAIL_NOT : FAIL_FAULT;
}

/* ---- messages ---- */

static int put(struct serial *serial, const Sentinel__Admin__V1__BackupResponse *message)
{
    struct buf *to = serial_message(serial);

    return to ? pass(wire_pack(&message->base, to)) : fault(-ENOMEM, "no memory for a message");
}

/* The lines that it said of damage, without their "sentinel-hub: backup: ". */
static size_t damages_of(struct backup *backup, char **to)
{
    char *rest = (char *) (uintptr_t) buf_text(&backup->complained), *line;
    size_t n = 0;

    while (n < MAX_DAMAGES && (line = strtok_r(rest, "\n", &rest)) != NULL)
        to[n++] = line;
    return n;
}

static enum front_failure put_result(struct serial *serial, struct backup *backup, int *ret_r)
{
    CLEANUP(json_freep) struct json *json = NULL;
    Sentinel__Admin__V1__BackupResponse message = SENTINEL__ADMIN__V1__BACKUP_RESPONSE__INIT;
    Sentinel__Admin__V1__BackupResult result = SENTINEL__ADMIN__V1__BACKUP_RESULT__INIT;
    Google__Protobuf__Timestamp time;
    struct json_error error = { "" };
    char *damages[MAX_DAMAGES];
    wall_us began = { 0 };

    *ret_r = json_parse(&json, buf_span(&backup->said), &error);
    if (*ret_r != 0) {
        *ret_r = *ret_r < 0 ? *ret_r : fault(-EPROTO, "backup printed no JSON: %s", error.text);
        return FAIL_FAULT;
    }
    if (text_to_time(json_get_text(json_member(json, "began"), ""), clock_wall(), &began) == 0) {
        front_set_time(&time, began.us);
        result.began = &time;
    }
    result.to = front_borrow(json_get_text(json_member(json, "to"), ""));
    result.bytes = (uint64_t) json_get_i64(json_member(json, "bytes"), 0);
    result.days = (uint64_t) json_get_i64(json_member(json, "days"), 0);
    result.segments = (uint64_t) json_get_i64(json_member(json, "segments"), 0);
    result.left_out = (uint64_t) json_get_i64(json_member(json, "left_out"), 0);
    if (result.left_out > 0) {
        result.n_damages = damages_of(backup, damages);
        result.damages = damages;
    }
    message.bytes_done = message.bytes_total = result.bytes;
    message.result = &result;
    *ret_r = put(serial, &message);
    log_event(LOG_INFO, "backup_made", LOG_S("to", result.to), LOG_U("bytes", result.bytes),
              LOG_U("left_out", result.left_out));
    return *ret_r == 0 ? FAIL_NOT : FAIL_FAULT;
}

static enum front_failure ended(struct serial *serial, struct backup *backup, int *ret_r)
{
    struct unary *unary = serial_unary(serial);
    const int code = WIFEXITED(backup->status) ? WEXITSTATUS(backup->status) : -1;
    char *why[MAX_DAMAGES];

    if (code == 0 || code == EXIT_IS_PARTIAL)
        return put_result(serial, backup, ret_r);
    front_describe(&unary->detail, "to", "%s",
                   damages_of(backup, why) ? why[0] : "no reason given");
    if (code == EXIT_IS_USAGE)
        return FAIL_BAD_QUESTION;
    if (code == EXIT_IS_BUSY)
        return FAIL_BACKUP_BUSY;
    if (code > 0)
        return FAIL_REFUSED;
    *ret_r = fault(-EIO, "the backup ended with wait status %d", backup->status);
    return FAIL_FAULT;
}

static enum front_failure
piece(struct serial *serial, void **work, enum serial_state *ret_state, int *ret_r)
{
    Sentinel__Admin__V1__BackupResponse message = SENTINEL__ADMIN__V1__BACKUP_RESPONSE__INIT;
    struct backup *backup = *work;
    bool is_told, is_over;

    if (!backup) {
        enum front_failure failure = begin(serial, &backup, ret_r);

        *work = backup;
        if (failure != FAIL_NOT)
            return failure;
    }
    pthread_mutex_lock(&backup->lock);
    is_over = backup->is_over;
    is_told = backup->is_told && !is_over;
    message.bytes_done = backup->done_bytes;
    message.bytes_total = backup->all_bytes;
    backup->is_told = false;
    backup->is_waiting = !is_told && !is_over;
    pthread_mutex_unlock(&backup->lock);
    if (is_over) {
        *ret_state = SERIAL_LAST;
        return ended(serial, backup, ret_r);
    }
    *ret_state = is_told ? SERIAL_MORE : SERIAL_WAIT;
    if (is_told)
        *ret_r = put(serial, &message);
    return *ret_r == 0 ? FAIL_NOT : FAIL_FAULT;
}

static const struct serial_kind backup_kind = { .piece = piece, .close = backup_close };

static void on_open(struct rpc_call *call)
{
    serial_on_open(call, &backup_kind);
}

const struct rpc_handler svc_admin_backup = {
    .on_open = on_open,
    .on_message = serial_on_message,
    .on_half_close = serial_on_half_close,
    .on_writable = serial_on_writable,
    .on_drain = serial_on_drain,
    .on_closed = serial_on_closed,
};
