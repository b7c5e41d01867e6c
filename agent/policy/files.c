/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/policy/beneath.h"
#include "agent/policy/policy.h"
#include "agent/policy/rules.h"
#include "common/base/fault.h"
#include "common/base/file.h"
#include "common/base/text.h"

PRINTF_LIKE(3, 4)
static int answer(enum policy_file_outcome outcome, struct policy_why *why, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vsnprintf(why->text, sizeof(why->text), fmt, args);
    va_end(args);
    return (int) outcome;
}

/* Which of files.deny, or NULL. The parts of the path that the administrator wrote count not. */
static const char *denied_by(const struct policy *policy, const char *below)
{
    char name[NAME_MAX + 1];

    while (*below) {
        const size_t len = strcspn(below, "/");

        if (len > NAME_MAX)
            return "*";
        memcpy(name, below, len);
        name[len] = '\0';
        for (size_t i = 0; i < policy->files_deny.n_items; i++)
            if (text_matches(policy->files_deny.items[i], name))
                return policy->files_deny.items[i];
        below += len + (below[len] == '/');
    }
    return NULL;
}

/* The rule that has the path, the most exact one; *ret_below is where what it does not say begins.
 */
static const char *find_rule(const struct policy *policy, const char *path, size_t *ret_below)
{
    const char *best = NULL;

    for (size_t i = 0; i < policy->files_read.n_items; i++) {
        const char *rule = policy->files_read.items[i];
        const size_t len = strlen(rule);
        const bool is_tree = rule[len - 1] == '/';

        if (is_tree ? strncmp(path, rule, len) != 0 || !path[len] : strcmp(path, rule) != 0)
            continue;
        if (!best || len > strlen(best)) {
            best = rule;
            *ret_below = is_tree ? len : (size_t) (strrchr(path, '/') - path) + 1;
        }
    }
    return best;
}

static int find_place(const char *path, size_t below, int *ret_fd)
{
    char root[PATH_MAX];
    CLEANUP(fd_closep) int directory = -1;

    memcpy(root, path, below);
    root[below] = '\0';
    directory = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return directory < 0 ? -errno : beneath_open(directory, path + below, ret_fd);
}

static int say_unopened(const char *path, int error, struct policy_why *ret_why)
{
    switch (error) {
    case ELOOP:
    case EXDEV:
    case ENOTDIR:
        return answer(POLICY_FILE_DENIED, ret_why,
                      "%.200s: there is a link on the way, or something that is no directory; "
                      "links are not followed below files.read",
                      path);
    default:
        return answer(POLICY_FILE_ABSENT, ret_why, "%.200s: %s", path, strerror(error));
    }
}

/* The place itself for reading, whatever its path leads to by now. */
static int open_place(const char *path, int place, int *ret_fd, struct policy_why *ret_why)
{
    char self[64];
    int fd;

    snprintf(self, sizeof(self), "/proc/self/fd/%d", place);
    fd = open(self, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        return say_unopened(path, errno, ret_why);
    *ret_fd = fd;
    return 0;
}

int policy_open_file(const struct policy *policy,
                     const char *path,
                     int *ret_fd,
                     struct policy_why *ret_why)
{
    CLEANUP(fd_closep) int place = -1;
    const char *pattern;
    size_t below = 0;
    struct stat st;
    int r;

    if (policy->state == POLICY_CLOSED)
        return answer(POLICY_FILE_DENIED, ret_why,
                      "this machine's policy cannot be used, so nothing is allowed: %.300s",
                      policy->problem);
    if (!rules_is_whole_path(path, false))
        return answer(POLICY_FILE_DENIED, ret_why,
                      "`%.200s` is no whole path without `.`, `..` and `//`", path);
    if (!find_rule(policy, path, &below))
        return answer(POLICY_FILE_DENIED, ret_why, "%.200s is not among files.read", path);
    pattern = denied_by(policy, path + below);
    if (pattern)
        return answer(POLICY_FILE_DENIED, ret_why, "%.200s is refused by `%.60s` of files.deny",
                      path, pattern);
    r = find_place(path, below, &place);
    if (r)
        return say_unopened(path, -r, ret_why);
    if (fstat(place, &st) < 0)
        return fault(-errno, "cannot look at an open file");
    if (S_ISLNK(st.st_mode))
        return say_unopened(path, ELOOP, ret_why);
    if (!S_ISREG(st.st_mode))
        return answer(POLICY_FILE_DENIED, ret_why, "%.200s is no regular file", path);
    if (st.st_nlink > 1)
        return answer(POLICY_FILE_DENIED, ret_why,
                      "%.200s has another name elsewhere (a hard link), which may be one that is "
                      "not allowed",
                      path);
    if ((uint64_t) st.st_size > policy->files_max_size)
        return answer(POLICY_FILE_DENIED, ret_why, "%.200s has %lld bytes; files.max_size is %llu",
                      path, (long long) st.st_size, (unsigned long long) policy->files_max_size);
    return open_place(path, place, ret_fd, ret_why);
}
