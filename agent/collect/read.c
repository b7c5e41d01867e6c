/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/collect/collector.h"
#include "common/base/file.h"

#define MAX_FILE_BYTES (4u << 20)
#define READ_BYTES 16384

/*
 * A /proc file is made anew by each read(2) that starts at 0, and has no size: read on until the
 * end. The buffer keeps its memory, so that a round allocates nothing.
 */
static char *read_all(struct collect *collect, int fd)
{
    struct buf *text = &collect->text;

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
        /* EOPNOTSUPP: the kernel was built with PSI and booted without. */
        if (n < 0) {
            if (errno != EOPNOTSUPP)
                collect_count_error(collect);
            return NULL;
        }
        text->len = before + (size_t) n;
    }
    buf_deinit(text);
    collect_count_error(collect);
    return NULL;
}

char *collect_read(struct collect *collect, const char *path)
{
    CLEANUP(fd_closep) int fd = openat(collect->root_fd, path, O_RDONLY | O_CLOEXEC);

    if (fd >= 0)
        return read_all(collect, fd);
    if (errno != ENOENT && errno != ENOTDIR)
        collect_count_error(collect);
    return NULL;
}

char *collect_read_machine(struct collect *collect, const char *of_process_1, const char *own)
{
    bool is_elsewhere = strspn(collect->root, "/") < strlen(collect->root);
    CLEANUP(fd_closep)
    int fd = is_elsewhere ? openat(collect->root_fd, of_process_1, O_RDONLY | O_CLOEXEC) : -1;

    return fd >= 0 ? read_all(collect, fd) : collect_read(collect, own);
}

bool collect_read_u64(struct collect *collect, const char *path, uint64_t *ret)
{
    char *text = collect_read(collect, path);

    return text && collect_u64(&text, ret);
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
