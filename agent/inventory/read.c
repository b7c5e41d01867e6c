/* SPDX-License-Identifier: Apache-2.0 */

/* Files, directories, links and programs, as tables read them; and cutting text. */

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/inventory/table.h"
#include "common/base/file.h"

#define READ_BYTES ((size_t) 64 << 10)
#define COMMAND_TIMEOUT_US (INT64_C(30) * 1000000)
#define COMMAND_LOOK_MS 200
#define WAIT_MS 50

/* ---- files ---- */

/* Text with a NUL behind, or NULL; errno is what failed, 0: it is too long. */
static char *read_fd(struct table *t, int fd, size_t max_bytes)
{
    struct buf *text = &t->text;

    buf_clear(text);
    while (text->len < max_bytes) {
        size_t before = text->len;
        char *to = buf_extend(text, READ_BYTES);
        ssize_t n = to ? read(fd, to, READ_BYTES - 1) : -1;

        if (!to)
            errno = ENOMEM;
        if (n < 0 && to && errno == EINTR) {
            text->len = before;
            continue;
        }
        if (n < 0)
            return NULL;
        text->len = before + (size_t) n;
        if (n == 0) {
            to[0] = '\0';
            return (char *) text->data;
        }
    }
    errno = EFBIG;
    return NULL;
}

static bool is_not_there(int error)
{
    return error == ENOENT || error == ENOTDIR || error == ENODEV || error == ENXIO;
}

static char *read_path(struct table *t, const char *path, bool may_fail)
{
    CLEANUP(fd_closep)
    int fd = openat(t->root_fd, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    char *text =
        fd < 0 ? NULL : read_fd(t, fd, may_fail ? TABLE_MAX_OPEN_FILE_BYTES : TABLE_MAX_FILE_BYTES);

    if (!text && !may_fail && !is_not_there(errno))
        table_unreadable(t, path, errno);
    return text;
}

char *table_read(struct table *t, const char *path)
{
    return read_path(t, path, false);
}

char *table_read_if(struct table *t, const char *path)
{
    return read_path(t, path, true);
}

const char *table_fact(struct table *t, const char *path, char *to, size_t size)
{
    CLEANUP(fd_closep)
    int fd = openat(t->root_fd, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    ssize_t n = fd < 0 ? -1 : read(fd, to, size - 1);

    to[n < 0 ? 0 : n] = '\0';
    to[strcspn(to, "\n")] = '\0';
    const char *trimmed = table_trim(to);
    memmove(to, trimmed, strlen(trimmed) + 1);
    return to;
}

uint64_t table_number(struct table *t, const char *path)
{
    char text[64];

    return strtoull(table_fact(t, path, text, sizeof(text)), NULL, 0);
}

DIR *table_directory(struct table *t, const char *path)
{
    int fd = openat(t->root_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = fd < 0 ? NULL : fdopendir(fd);

    if (fd >= 0 && !directory)
        close(fd);
    return directory;
}

const char *table_entry(DIR *directory)
{
    const struct dirent *entry;

    while ((entry = readdir(directory)) != NULL)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            return entry->d_name;
    return NULL;
}

const char *table_link_name(struct table *t, const char *path, char *to, size_t size)
{
    ssize_t n = readlinkat(t->root_fd, path, to, size - 1);
    const char *slash;

    to[n < 0 ? 0 : n] = '\0';
    slash = strrchr(to, '/');
    return slash ? slash + 1 : to;
}

/* ---- text ---- */

char *table_line(char **cursor)
{
    return *cursor && **cursor ? table_field(cursor, '\n') : NULL;
}

char *table_field(char **cursor, char separator)
{
    char *field = *cursor, *end;

    if (!field)
        return NULL;
    end = strchr(field, separator);
    if (end)
        *end++ = '\0';
    *cursor = end;
    return field;
}

char *table_word(char **cursor)
{
    char *word = *cursor + strspn(*cursor, " \t");
    char *end = word + strcspn(word, " \t\n");

    if (end == word)
        return NULL;
    *cursor = *end ? end + 1 : end;
    *end = '\0';
    return word;
}

char *table_trim(char *text)
{
    size_t len;

    while (isspace((unsigned char) *text))
        text++;
    for (len = strlen(text); len > 0 && isspace((unsigned char) text[len - 1]); len--)
        text[len - 1] = '\0';
    return text;
}

char *table_after(char *line, const char *key, char separator)
{
    size_t len = strlen(key);

    if (strncmp(line, key, len) != 0)
        return NULL;
    line += len + strspn(line + len, " \t");
    return *line == separator ? table_trim(line + 1) : NULL;
}

/* ---- programs ---- */

static char *read_pipe(struct table *t, int fd, int64_t due_us)
{
    struct buf *text = &t->text;

    buf_clear(text);
    for (;;) {
        struct pollfd poller = { .fd = fd, .events = POLLIN };
        size_t before = text->len;
        char *to;
        ssize_t n;

        if (clock_mono().us >= due_us || text->len > TABLE_MAX_FILE_BYTES ||
            (t->options->is_unwanted && t->options->is_unwanted(t->options->ctx)))
            return NULL;
        if (poll(&poller, 1, COMMAND_LOOK_MS) <= 0)
            continue;
        to = buf_extend(text, READ_BYTES);
        n = to ? read(fd, to, READ_BYTES - 1) : -1;
        if (n < 0)
            return NULL;
        text->len = before + (size_t) n;
        if (n == 0) {
            to[0] = '\0';
            return (char *) text->data;
        }
    }
}

int64_t table_timeout_us(const struct table *t)
{
    const int64_t timeout_us = t->options->command_timeout_us;

    return timeout_us ? timeout_us : COMMAND_TIMEOUT_US;
}

int table_spawn(const char *const *argv, pid_t *ret_pid)
{
    static char *const environment[] = { (char *) (uintptr_t) "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
                                         (char *) (uintptr_t) "LC_ALL=C.UTF-8", NULL };
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none;
    int ends[2], error;

    if (access(argv[0], X_OK) != 0 || pipe2(ends, O_CLOEXEC) != 0)
        return -1;
    (void) posix_spawn_file_actions_init(&actions);
    (void) posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    (void) posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
    (void) posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
    (void) posix_spawnattr_init(&attributes);
    /* A group of its own, so that what it starts ends with it; and no signals that we block. */
    (void) sigemptyset(&none);
    (void) posix_spawnattr_setsigmask(&attributes, &none);
    (void) posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK);
    error = posix_spawn(ret_pid, argv[0], &actions, &attributes, (char *const *) (uintptr_t) argv,
                        environment);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    if (!error)
        return ends[0];
    close(ends[0]);
    errno = error;
    return -1;
}

bool table_wait(const struct table *t, pid_t pid, int64_t due_us, int *ret_status)
{
    const struct inventory_options *options = t->options;

    for (int wait_ms = 1;; wait_ms = wait_ms < WAIT_MS ? wait_ms * 2 : WAIT_MS) {
        const pid_t ended = waitpid(pid, ret_status, WNOHANG);

        if (ended > 0 || (ended < 0 && errno != EINTR))
            return true;
        if (clock_mono().us >= due_us ||
            (options->is_unwanted && options->is_unwanted(options->ctx)))
            break;
        (void) poll(NULL, 0, wait_ms);
    }
    (void) kill(-pid, SIGKILL);
    while (waitpid(pid, ret_status, 0) < 0 && errno == EINTR)
        ;
    return false;
}

char *table_run(struct table *t, const char *const *argv)
{
    const int64_t due_us = clock_mono().us + table_timeout_us(t);
    int fd, status = 0;
    bool is_ended;
    char *text;
    pid_t pid;

    fd = table_spawn(argv, &pid);
    if (fd < 0) {
        if (!is_not_there(errno) && errno != EACCES)
            table_unreadable(t, argv[0], errno);
        return NULL;
    }
    text = read_pipe(t, fd, due_us);
    close(fd);
    if (!text)
        (void) kill(-pid, SIGKILL);
    is_ended = table_wait(t, pid, text ? due_us : 0, &status);
    if (text && is_ended && WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return text;
    table_unreadable(t, argv[0], text && is_ended ? EIO : ETIMEDOUT);
    return NULL;
}
