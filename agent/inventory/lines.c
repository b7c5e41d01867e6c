/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/inventory/lines.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define LOOK_MS 200

static void begin(struct lines *lines, struct table *t)
{
    *lines = (struct lines){ .t = t, .fd = -1 };
    lines->due_us = clock_mono().us + table_timeout_us(t);
    lines->text = malloc(LINES_BYTES + 1);
    if (!lines->text)
        lines->error = ENOMEM;
}

void lines_open(struct lines *lines, struct table *t, const char *path)
{
    begin(lines, t);
    if (!lines->error)
        lines->fd = openat(t->root_fd, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (!lines->error && lines->fd < 0)
        lines->error = errno;
}

void lines_run(struct lines *lines, struct table *t, const char *const *argv)
{
    begin(lines, t);
    if (!lines->error)
        lines->fd = table_spawn(argv, &lines->pid);
    if (!lines->error && lines->fd < 0)
        lines->error = errno;
}

/* Waits until a program prints; a file is always ready. False: with an error. */
static bool wait_for_text(struct lines *lines)
{
    const struct inventory_options *options = lines->t->options;

    for (;;) {
        struct pollfd poller = { .fd = lines->fd, .events = POLLIN };

        if (options->is_unwanted && options->is_unwanted(options->ctx))
            lines->error = ECANCELED;
        else if (clock_mono().us >= lines->due_us)
            lines->error = ETIMEDOUT;
        if (lines->error)
            return false;
        if (!lines->pid || poll(&poller, 1, LOOK_MS) > 0)
            return true;
    }
}

/* Reads behind what there is; false: nothing came, it is over or failed. */
static bool fill(struct lines *lines)
{
    ssize_t n;

    memmove(lines->text, lines->text + lines->begin, lines->end - lines->begin);
    lines->end -= lines->begin;
    lines->begin = 0;
    do {
        if (!wait_for_text(lines))
            return false;
        n = read(lines->fd, lines->text + lines->end, LINES_BYTES - lines->end);
    } while (n < 0 && (errno == EINTR || errno == EAGAIN));
    if (n < 0)
        lines->error = errno;
    lines->is_over = n == 0;
    if (n <= 0)
        return false;
    lines->end += (size_t) n;
    return true;
}

char *lines_next(struct lines *lines)
{
    while (lines->fd >= 0 && !lines->error) {
        char *line = lines->text + lines->begin;
        char *end = memchr(line, '\n', lines->end - lines->begin);
        const bool was_cut = lines->is_cut;

        if (end) {
            *end = '\0';
            lines->begin = (size_t) (end - lines->text) + 1;
            lines->is_cut = false;
            if (!was_cut)
                return line;
            continue;
        }
        if (lines->end - lines->begin == LINES_BYTES) { /* more than one fills */
            lines->begin = lines->end = 0;
            lines->text[LINES_BYTES] = '\0';
            lines->is_cut = true;
            if (!was_cut)
                return lines->text;
            continue;
        }
        if (lines->is_over || (!fill(lines) && !lines->is_over))
            break;
    }
    if (lines->error || !lines->is_over || lines->begin == lines->end || lines->is_cut)
        return NULL;
    lines->text[lines->end] = '\0'; /* the last one, without an end */
    char *line = lines->text + lines->begin;
    lines->begin = lines->end;
    return line;
}

int lines_close(struct lines *lines)
{
    int status = 0;

    free(lines->text);
    if (lines->fd >= 0)
        close(lines->fd);
    if (lines->pid) {
        if (!lines->is_over)
            (void) kill(-lines->pid, SIGKILL);
        if (!table_wait(lines->t, lines->pid, lines->is_over ? lines->due_us : 0, &status) &&
            !lines->error && lines->is_over)
            lines->error = ETIMEDOUT;
        if (lines->is_over && !lines->error && (!WIFEXITED(status) || WEXITSTATUS(status) != 0))
            lines->error = EIO;
    }
    lines->text = NULL;
    lines->fd = -1;
    lines->pid = 0;
    return lines->error;
}
