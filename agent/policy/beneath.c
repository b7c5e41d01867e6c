/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/policy/beneath.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/base/ensure.h"
#include "common/base/file.h"

#define PLACE_FLAGS (O_PATH | O_NOFOLLOW | O_CLOEXEC)

int beneath_open_at_once(int directory, const char *path, int *ret_fd)
{
    struct open_how how = {
        .flags = PLACE_FLAGS,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
    };
    long fd;

    /* EAGAIN: something was renamed meanwhile, and the kernel could not be sure. */
    for (int i = 0; i < 16; i++) {
        fd = syscall(SYS_openat2, directory, path, &how, sizeof(how));
        if (fd >= 0) {
            *ret_fd = (int) fd;
            return 0;
        }
        if (errno != EAGAIN)
            break;
    }
    return -errno;
}

int beneath_open_by_steps(int directory, const char *path, int *ret_fd)
{
    CLEANUP(fd_closep) int at = -1;
    char name[NAME_MAX + 1];
    int next;

    for (;;) {
        const size_t len = strcspn(path, "/");
        const bool is_last = path[len] == '\0';

        if (len == 0 || len > NAME_MAX)
            return len ? -ENAMETOOLONG : -EINVAL;
        memcpy(name, path, len);
        name[len] = '\0';
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
            return -EXDEV;
        next = openat(at >= 0 ? at : directory, name,
                      is_last ? PLACE_FLAGS : PLACE_FLAGS | O_DIRECTORY);
        if (next < 0)
            return -errno; /* a link on the way: ENOTDIR */
        if (is_last)
            break;
        fd_closep(&at);
        at = next;
        path += len + 1;
    }
    *ret_fd = next;
    return 0;
}

int beneath_open(int directory, const char *path, int *ret_fd)
{
    int r = beneath_open_at_once(directory, path, ret_fd);

    /* EPERM is how sandboxes of old say it: they know no openat2(2). */
    return r == -ENOSYS || r == -EPERM ? beneath_open_by_steps(directory, path, ret_fd) : r;
}
