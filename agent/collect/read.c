/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/collect/collector.h"
#include "common/base/file.h"
#include "common/base/text.h"

#define MAX_FILE_BYTES (4u << 20)
#define READ_BYTES 16384

/*
 * A /proc file is made anew by each read(2) that starts at 0, and has no size: read on until the
 * end. The buffer keeps its memory, so that a round allocates nothing.
 */
static char *read_all(struct probe *probe, int fd, const char *path)
{
    struct buf *text = probe->text;

    buf_clear(text);
    while (text->len < MAX_FILE_BYTES) {
        size_t before = text->len;
        char *to = buf_extend(text, READ_BYTES);
        ssize_t n;

        if (!to)
            break;
        n = read(fd, to, READ_BYTES);
        if (n < 0 && errno == EINTR)
            n = 0;
        else if (n == 0) {
            to[0] = '\0';
            text->len = before;
            return to - before;
        }
        if (n < 0) {
            collect_count_failure(probe, path, errno);
            return NULL;
        }
        text->len = before + (size_t) n;
    }
    buf_deinit(text);
    collect_count_error(probe);
    return NULL;
}

void collect_count_failure(struct probe *probe, const char *path, int error)
{
    switch (error) {
    case ENOENT:
    case ENOTDIR:
    case ENODEV:
    case ENXIO:
    case EINVAL: /* what sysfs says of a file that has no meaning now */
    case ENODATA:
    case EAGAIN:
    case EOPNOTSUPP: /* the kernel was built with PSI and booted without */
    case ESRCH:      /* a process that went */
        return;
    case EACCES:
    case EPERM:
        if (probe->n_denied++ == 0)
            snprintf(probe->denied, sizeof(probe->denied), "%s", path);
        return;
    default:
        collect_count_error(probe);
    }
}

char *collect_read(struct probe *probe, const char *path)
{
    CLEANUP(fd_closep) int fd = openat(probe->machine->root_fd, path, O_RDONLY | O_CLOEXEC);

    if (fd >= 0)
        return read_all(probe, fd, path);
    collect_count_failure(probe, path, errno);
    return NULL;
}

bool collect_is_elsewhere(const struct probe *probe)
{
    const char *root = probe->machine->root;

    return strspn(root, "/") < strlen(root);
}

char *collect_read_machine(struct probe *probe, const char *of_process_1, const char *own)
{
    CLEANUP(fd_closep)
    int fd = collect_is_elsewhere(probe)
                 ? openat(probe->machine->root_fd, of_process_1, O_RDONLY | O_CLOEXEC)
                 : -1;

    return fd >= 0 ? read_all(probe, fd, of_process_1) : collect_read(probe, own);
}

static char *read_small(struct probe *probe, char *to, const char *path)
{
    CLEANUP(fd_closep) int fd = openat(probe->machine->root_fd, path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, to, COLLECT_SMALL_BYTES - 1);

    if (n < 0) {
        collect_count_failure(probe, path, errno);
        return NULL;
    }
    while (n > 0 && (to[n - 1] == '\n' || to[n - 1] == ' '))
        n--;
    to[n] = '\0';
    return to;
}

char *
collect_read_small(struct probe *probe, char to[static COLLECT_SMALL_BYTES], const char *fmt, ...)
{
    char path[1024];
    va_list args;

    va_start(args, fmt);
    vsnprintf(path, sizeof(path), fmt, args);
    va_end(args);
    return read_small(probe, to, path);
}

bool collect_read_u64(struct probe *probe, const char *path, uint64_t *ret)
{
    char text[COLLECT_SMALL_BYTES];
    char *at = read_small(probe, text, path);

    return at && collect_u64(&at, ret);
}

bool collect_read_number(struct probe *probe, double *ret, const char *fmt, ...)
{
    char text[COLLECT_SMALL_BYTES], path[1024];
    char *at;
    va_list args;

    va_start(args, fmt);
    vsnprintf(path, sizeof(path), fmt, args);
    va_end(args);
    at = read_small(probe, text, path);
    return at && *at && collect_f64(&at, ret) && *at == '\0';
}

DIR *collect_open_directory(struct probe *probe, const char *path)
{
    int fd = openat(probe->machine->root_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = fd < 0 ? NULL : fdopendir(fd);

    if (!directory)
        collect_count_failure(probe, path, errno);
    if (!directory && fd >= 0)
        close(fd);
    return directory;
}

const char *collect_next_name(DIR *directory)
{
    const struct dirent *entry;

    do
        entry = readdir(directory);
    while (entry && entry->d_name[0] == '.');
    return entry ? entry->d_name : NULL;
}

char *collect_line(char **cursor)
{
    char *line = *cursor;
    char *end = line + strcspn(line, "\n");

    if (*line == '\0')
        return NULL;
    *cursor = *end ? end + 1 : end;
    *end = '\0';
    return line;
}

char *collect_word(char **cursor)
{
    char *word = *cursor + strspn(*cursor, " \t");
    char *end = word + strcspn(word, " \t\n");

    if (end == word)
        return NULL;
    *cursor = *end ? end + 1 : end;
    *end = '\0';
    return word;
}

bool collect_u64(char **cursor, uint64_t *ret)
{
    char *at = *cursor + strspn(*cursor, " \t");
    uint64_t value = 0;

    if (*at < '0' || *at > '9')
        return false;
    for (; *at >= '0' && *at <= '9'; at++) {
        if (__builtin_mul_overflow(value, 10u, &value) ||
            __builtin_add_overflow(value, (uint64_t) (*at - '0'), &value))
            return false;
    }
    *cursor = at;
    *ret = value;
    return true;
}

size_t collect_numbers(char **cursor, uint64_t *to, size_t max)
{
    size_t n = 0;

    while (n < max && collect_u64(cursor, &to[n]))
        n++;
    return n;
}

/* strtod() obeys the locale; these programs never set one. */
bool collect_f64(char **cursor, double *ret)
{
    char *end;
    double value = strtod(*cursor, &end);

    if (end == *cursor)
        return false;
    *cursor = end;
    *ret = value;
    return true;
}

bool collect_number_of(const char *name, const char *prefix, uint64_t *ret)
{
    size_t len = strlen(prefix);

    return strncmp(name, prefix, len) == 0 && text_to_u64(name + len, ret) == 0;
}
