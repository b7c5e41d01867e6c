/* SPDX-License-Identifier: Apache-2.0 */
#include "server/store/copy/pause.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "common/base/fault.h"
#include "common/base/file.h"

enum { WISH, ROUND };

int pause_open(struct pause *pause, const char *database)
{
    char path[512];

    pause->fd = -1;
    if (snprintf(path, sizeof(path), "%s/pause", database) >= (int) sizeof(path))
        return fault(-ENAMETOOLONG, "the path of the database is too long");
    pause->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    return pause->fd < 0 ? fault(-errno, "cannot open %s", path) : 0;
}

void pause_close(struct pause *pause)
{
    fd_closep(&pause->fd);
}

static bool lock(struct pause *pause, short type, off_t byte)
{
    struct flock how = { .l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };

    return fcntl(pause->fd, F_OFD_SETLK, &how) == 0;
}

bool pause_enter(struct pause *pause)
{
    bool is_in;

    if (!lock(pause, F_RDLCK, WISH))
        return false;
    is_in = lock(pause, F_RDLCK, ROUND);
    (void) lock(pause, F_UNLCK, WISH);
    return is_in;
}

void pause_leave(struct pause *pause)
{
    (void) lock(pause, F_UNLCK, ROUND);
}

bool pause_wish(struct pause *pause)
{
    return lock(pause, F_WRLCK, WISH);
}

bool pause_begin(struct pause *pause)
{
    return lock(pause, F_WRLCK, ROUND);
}
