/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A disk that fails, for a program that is started with this library in LD_PRELOAD: from the moment
 * on at which the file named by SENTINEL_BROKEN_DISK exists, writes to files ("write" is in it) or
 * syncs ("sync") answer EIO.
 */

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

#define NEXT(name, type) \
    static type next;    \
    if (!next)           \
    next = (type) (uintptr_t) dlsym(RTLD_NEXT, name)

typedef ssize_t (*write_at)(int, const void *, size_t, off_t);
typedef ssize_t (*write_parts)(int, const struct iovec *, int);
typedef int (*sync_file)(int);

static int is_broken(int file, const char *kind)
{
    const char *path = getenv("SENTINEL_BROKEN_DISK");
    int was = errno, fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    char word[8] = { 0 };
    struct stat st;
    int is = fd >= 0 && read(fd, word, sizeof(word) - 1) > 0 && fstat(file, &st) == 0 &&
             (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)) && strncmp(word, kind, strlen(kind)) == 0;

    if (fd >= 0)
        close(fd);
    errno = is ? EIO : was;
    return is;
}

/* With 64 bits for an offset the headers make it pwrite64 in the program and here. */
EXPORT ssize_t pwrite(int fd, const void *from, size_t len, off_t at)
{
    NEXT("pwrite64", write_at);
    return is_broken(fd, "write") ? -1 : next(fd, from, len, at);
}

EXPORT ssize_t writev(int fd, const struct iovec *from, int n)
{
    NEXT("writev", write_parts);
    return is_broken(fd, "write") ? -1 : next(fd, from, n);
}

EXPORT int fdatasync(int fd)
{
    NEXT("fdatasync", sync_file);
    return is_broken(fd, "sync") ? -1 : next(fd);
}

EXPORT int fsync(int fd)
{
    NEXT("fsync", sync_file);
    return is_broken(fd, "sync") ? -1 : next(fd);
}
