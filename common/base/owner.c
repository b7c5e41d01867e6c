/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/owner.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/fault.h"

int owner_become(const char *path)
{
    const struct passwd *user;
    struct stat st;
    int r;

    if (geteuid() != 0 || stat(path, &st) < 0 || st.st_uid == 0)
        return 0;
    user = getpwuid(st.st_uid);
    r = user ? initgroups(user->pw_name, user->pw_gid) : setgroups(0, NULL);
    if (r < 0 || setgid(user ? user->pw_gid : st.st_gid) < 0 || setuid(st.st_uid) < 0)
        return fault(-errno, "cannot become user %u, whose %s is", (unsigned) st.st_uid, path);
    return 0;
}
