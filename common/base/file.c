/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/faultpoint.h"

#define READ_BYTES ((size_t) 64 * 1024)

void fd_closep(int *fd)
{
    if (*fd >= 0) {
        int saved = errno;

        close(*fd);
        errno = saved;
    }
    *fd = -1;
}

/* The outcome that the errno of a call on a path stands for, or FILE_OK when it stands for none. */
static int outcome_of(int error)
{
    switch (error) {
    case ENOENT:
    case ENOTDIR:
        return FILE_ABSENT;
    case EACCES:
    case EPERM:
        return FILE_DENIED;
    default:
        return FILE_OK;
    }
}

static int raise_or_outcome(const char *verb, const char *path)
{
    int error = errno;
    int outcome = outcome_of(error);

    if (outcome != FILE_OK)
        return outcome;
    return fault(-error, "cannot %s %s", verb, path);
}

int file_read(const char *path, size_t limit_bytes, struct buf *ret)
{
    CLEANUP(fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    size_t len_before = ret->len;
    struct stat info;

    if (fd < 0)
        return raise_or_outcome("open", path);
    if (fstat(fd, &info) < 0)
        return fault(-errno, "cannot stat %s", path);
    if (S_ISREG(info.st_mode) && (uint64_t) info.st_size > limit_bytes)
        return FILE_TOO_LARGE;

    /* The size is only a hint: files in /proc say 0, and others may grow meanwhile. */
    for (;;) {
        size_t len = ret->len - len_before;
        size_t want = limit_bytes - len < READ_BYTES ? limit_bytes - len + 1 : READ_BYTES;
        void *to = buf_extend(ret, want);

        if (!to) {
            ret->len = len_before;
            return fault(-ENOMEM, "no memory to read %s", path);
        }

        ssize_t n;

        do {
            n = read(fd, to, want);
        } while (n < 0 && errno == EINTR);

        ret->len -= want - (n > 0 ? (size_t) n : 0);
        if (n < 0) {
            int error = errno;

            ret->len = len_before;
            return fault(-error, "cannot read %s", path);
        }
        if (ret->len - len_before > limit_bytes) {
            ret->len = len_before;
            return FILE_TOO_LARGE;
        }
        if (n == 0)
            return FILE_OK;
    }
}

static int write_all(int fd, struct span content)
{
    while (content.len > 0) {
        ssize_t n = write(fd, content.data, content.len);

        if (n < 0) {
            if (errno == EINTR)
                continue;
            return -errno;
        }
        content.data += n;
        content.len -= (size_t) n;
    }
    return 0;
}

/* The directory that holds `path`. */
static int directory_of(const char *path, char ret[static PATH_MAX])
{
    const char *slash = strrchr(path, '/');
    struct span directory = span_of_text(".");

    if (slash)
        directory = slash == path ? span_of_text("/") : span_of(path, (size_t) (slash - path));
    if (directory.len >= PATH_MAX)
        return fault(-ENAMETOOLONG, "path of %zu bytes", directory.len);
    memcpy(ret, directory.data, directory.len);
    ret[directory.len] = 0;
    return 0;
}

static int fill(int fd, const char *path, struct span content, mode_t mode)
{
    int r = write_all(fd, content);

    if (r < 0)
        return fault(r, "cannot write beside %s", path);
    /* Not at open(): what the umask takes away would be missing. */
    if (fchmod(fd, mode) < 0)
        return fault(-errno, "cannot set the mode of %s", path);
    if (fsync(fd) < 0)
        return fault(-errno, "cannot sync %s", path);
    return 0;
}

int file_replace(const char *path, struct span content, mode_t mode)
{
    char directory[PATH_MAX];
    char beside[PATH_MAX];

    int r = directory_of(path, directory);

    if (r < 0)
        return pass(r);

    int len = snprintf(beside, sizeof(beside), "%s.XXXXXX", path);

    if (len < 0 || (size_t) len >= sizeof(beside))
        return fault(-ENAMETOOLONG, "path of %zu bytes", strlen(path));

    /* First, so that nothing is replaced when the directory could not be synced afterwards. */
    CLEANUP(fd_closep) int directory_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (directory_fd < 0)
        return raise_or_outcome("open", directory);

    CLEANUP(fd_closep) int fd = mkostemp(beside, O_CLOEXEC);

    if (fd < 0)
        return raise_or_outcome("make a file beside", path);

    r = fill(fd, path, content, mode);
    if (r < 0) {
        unlink(beside);
        return pass(r);
    }

    faultpoint("file_written");
    if (rename(beside, path) < 0) {
        r = raise_or_outcome("replace", path);
        unlink(beside);
        return r;
    }
    faultpoint("file_renamed");

    if (fsync(directory_fd) < 0)
        return fault(-errno, "cannot sync %s", directory);
    return FILE_OK;
}

/* An existing directory is left alone. */
static int make_directory(const char *path, mode_t mode, bool is_mode_exact)
{
    struct stat info;

    if (mkdir(path, mode) == 0) {
        if (is_mode_exact && chmod(path, mode) < 0)
            return fault(-errno, "cannot set the mode of %s", path);
        return FILE_OK;
    }

    int error = errno;

    if (error == EACCES || error == EPERM)
        return FILE_DENIED;
    if (error == EEXIST && stat(path, &info) == 0) {
        if (S_ISDIR(info.st_mode))
            return FILE_OK;
        error = ENOTDIR;
    }
    return fault(-error, "cannot make directory %s", path);
}

int file_make_directories(const char *path, mode_t mode)
{
    char parent[PATH_MAX];
    size_t len = strlen(path);

    if (len >= sizeof(parent))
        return fault(-ENAMETOOLONG, "path of %zu bytes", len);
    memcpy(parent, path, len + 1);
    while (len > 1 && parent[len - 1] == '/')
        parent[--len] = 0;

    for (size_t i = 1; i < len; i++) {
        if (parent[i] != '/' || parent[i - 1] == '/')
            continue;
        parent[i] = 0;

        int r = make_directory(parent, 0755, false);

        parent[i] = '/';
        if (r != FILE_OK)
            return pass(r);
    }
    return pass(make_directory(parent, mode, true));
}

static int remove_entries(int fd, const char *path);

static DIR *directory_close(DIR *directory)
{
    closedir(directory);
    return NULL;
}
DEFINE_CLEANUP(DIR *, directory_close);

static int remove_entry(int parent_fd, const char *name, const char *path)
{
    /* Directories are the rare case, and unlink() says it without following a link. */
    if (unlinkat(parent_fd, name, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return fault(-errno, "cannot remove %s in %s", name, path);

    int fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0)
        return errno == ENOENT ? 0 : fault(-errno, "cannot open %s in %s", name, path);

    int r = remove_entries(fd, path);

    if (r < 0)
        return pass(r);
    if (unlinkat(parent_fd, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
        return fault(-errno, "cannot remove directory %s in %s", name, path);
    return 0;
}

/* Takes `fd`. `path` is the tree's, for the reasons. */
static int remove_entries(int fd, const char *path)
{
    CLEANUP(directory_closep) DIR *directory = fdopendir(fd);
    struct dirent *entry;

    if (!directory) {
        int error = errno;

        close(fd);
        return fault(-error, "cannot read %s", path);
    }
    while ((errno = 0, entry = readdir(directory))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;

        int r = remove_entry(dirfd(directory), entry->d_name, path);

        if (r < 0)
            return pass(r);
    }
    return errno == 0 ? 0 : fault(-errno, "cannot read %s", path);
}

int file_remove_tree(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0)
        return errno == ENOENT ? 0 : fault(-errno, "cannot open directory %s", path);

    int r = remove_entries(fd, path);

    if (r < 0)
        return pass(r);
    if (rmdir(path) < 0 && errno != ENOENT)
        return fault(-errno, "cannot remove directory %s", path);
    return 0;
}
