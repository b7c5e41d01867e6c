/* SPDX-License-Identifier: Apache-2.0 */
#include "server/store/copy/copy.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/fault.h"
#include "common/base/file.h"
#include "server/store/db.h"
#include "server/store/store.h"

#define PATH_BYTES 1024
#define BLOCK_BYTES ((size_t) 1 << 20)
#define MAX_TABLES 16

/* Of the process that reads. Above EXIT_FAULT: an errno. 1 is a sanitizer's. */
enum { EXIT_WHOLE = 0, EXIT_GONE = 3, EXIT_DAMAGED = 4, EXIT_FAULT = 16 };

/* An errno of a write: STORE_FULL, or a fault. */
static int failed(struct copy *copy, int error, const char *path)
{
    if (error != ENOSPC && error != EDQUOT && error != EFBIG)
        return fault(-error, "cannot write %s", path);
    snprintf(copy->full, sizeof(copy->full), "%s", path);
    return STORE_FULL;
}

int copy_make_directory(struct copy *copy, const char *path)
{
    return mkdir(path, 0700) < 0 ? failed(copy, errno, path) : 0;
}

static int write_all(struct copy *copy, int fd, const uint8_t *data, size_t len, const char *path)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = write(fd, data + done, len - done);

        if (n < 0 && errno != EINTR)
            return failed(copy, errno, path);
        done += n > 0 ? (size_t) n : 0;
    }
    if (copy->on_bytes && len)
        copy->on_bytes(copy->ctx, len);
    return 0;
}

/* All that `from` gives, durable. */
static int pour(struct copy *copy, int from, int to, const char *path)
{
    static uint8_t block[BLOCK_BYTES];
    int r = 0;

    while (!r) {
        ssize_t n = read(from, block, sizeof(block));

        if (n == 0)
            break;
        if (n < 0 && errno != EINTR)
            return fault(-errno, "cannot read what goes to %s", path);
        if (n > 0)
            r = write_all(copy, to, block, (size_t) n, path);
    }
    if (!r && fsync(to) < 0)
        r = failed(copy, errno, path);
    return pass(r);
}

int copy_write(struct copy *copy, const char *path, const char *text)
{
    CLEANUP(fd_closep) int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int r;

    if (fd < 0)
        return failed(copy, errno, path);
    r = write_all(copy, fd, (const uint8_t *) text, strlen(text), path);
    if (!r && fsync(fd) < 0)
        r = failed(copy, errno, path);
    return pass(r);
}

/* ---- environments ---- */

static _Noreturn void read_environment(const char *from, int to)
{
    int quiet = open("/dev/null", O_WRONLY | O_CLOEXEC);
    MDB_env *env;
    int rc;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (quiet >= 0)
        dup2(quiet, STDERR_FILENO);
    rc = db_env_open_read(&env, from, MAX_TABLES);
    if (rc == 0)
        rc = mdb_env_copyfd2(env, to, MDB_CP_COMPACT);
    if (rc == 0)
        _exit(EXIT_WHOLE);
    if (rc == ENOENT)
        _exit(EXIT_GONE);
    /* MDB_INCOMPATIBLE: its pages do not add up. */
    _exit(db_is_damage(rc) || rc == MDB_INCOMPATIBLE || rc < 0 || rc > 200 ? EXIT_DAMAGED
                                                                           : EXIT_FAULT + rc);
}

static int judge(int status, const char *from, bool *ret_is_damaged)
{
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_DAMAGED;

    if (code == EXIT_WHOLE)
        return 0;
    if (WIFSIGNALED(status) && (WTERMSIG(status) == SIGKILL || WTERMSIG(status) == SIGTERM ||
                                WTERMSIG(status) == SIGINT || WTERMSIG(status) == SIGHUP))
        return fault(-EINTR, "the reading of %s was stopped", from);
    if (code > EXIT_FAULT)
        return fault(EXIT_FAULT - code, "cannot read %s", from);
    *ret_is_damaged = code != EXIT_GONE;
    return STORE_NOT_FOUND;
}

static int copy_to_file(struct copy *copy, const char *from, const char *file, bool *ret_is_damaged)
{
    CLEANUP(fd_closep) int to = open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    int pipe_fds[2], status = 0, r;
    pid_t child;

    if (to < 0)
        return failed(copy, errno, file);
    if (pipe2(pipe_fds, O_CLOEXEC) < 0)
        return fault(-errno, "cannot make a pipe");
    child = fork();
    if (child == 0) {
        close(pipe_fds[0]);
        read_environment(from, pipe_fds[1]);
    }
    close(pipe_fds[1]);
    r = child < 0 ? fault(-errno, "cannot fork") : pour(copy, pipe_fds[0], to, file);
    close(pipe_fds[0]); /* where it was not read to its end, the process ends by that */
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    return r ? pass(r) : pass(judge(status, from, ret_is_damaged));
}

int copy_environment(struct copy *copy, const char *from, const char *to, bool *ret_is_damaged)
{
    char file[PATH_BYTES];
    int r = copy_make_directory(copy, to);

    *ret_is_damaged = false;
    if (r)
        return pass(r);
    if (snprintf(file, sizeof(file), "%s/data.mdb", to) >= (int) sizeof(file))
        return fault(-ENAMETOOLONG, "the path %s is too long", to);
    r = copy_to_file(copy, from, file, ret_is_damaged);
    if (r == STORE_NOT_FOUND) {
        int removed = file_remove_tree(to);

        return removed ? pass(removed) : r;
    }
    return r ? pass(r) : pass(db_sync_directory(to));
}

/* ---- files ---- */

static int copy_file(struct copy *copy, const char *from, const char *to)
{
    CLEANUP(fd_closep) int in = open(from, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    CLEANUP(fd_closep) int out = -1;
    struct stat st;

    if (in < 0 && errno == ENOENT)
        return 0; /* it was renamed or removed meanwhile */
    if (in < 0 || fstat(in, &st) < 0)
        return fault(-errno, "cannot read %s", from);
    out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (out < 0)
        return failed(copy, errno, to);
    if (fchmod(out, st.st_mode & 0777) < 0)
        return fault(-errno, "cannot set the mode of %s", to);
    return pass(pour(copy, in, out, to));
}

static int copy_entry(struct copy *copy, const char *from, const char *to)
{
    struct stat entry, target;

    if (lstat(from, &entry) < 0)
        return errno == ENOENT ? 0 : fault(-errno, "cannot look at %s", from);
    if (S_ISDIR(entry.st_mode))
        return pass(copy_tree(copy, from, to));
    /* A link to a file is the file: secrets are mounted so. */
    if (stat(from, &target) == 0 && S_ISREG(target.st_mode))
        return pass(copy_file(copy, from, to));
    return 0;
}

static int not_dots(const struct dirent *entry)
{
    return strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
           strcmp(entry->d_name, "lock.mdb") != 0;
}

static int copy_entries(struct copy *copy, const char *from, const char *to)
{
    struct dirent **entries = NULL;
    int n = scandir(from, &entries, not_dots, alphasort), r = 0;

    if (n < 0)
        return fault(-errno, "cannot read %s", from);
    for (int i = 0; i < n; i++) {
        char source[PATH_BYTES], target[PATH_BYTES];

        if (!r && (snprintf(source, sizeof(source), "%s/%s", from, entries[i]->d_name) >=
                       (int) sizeof(source) ||
                   snprintf(target, sizeof(target), "%s/%s", to, entries[i]->d_name) >=
                       (int) sizeof(target)))
            r = fault(-ENAMETOOLONG, "a path in %s is too long", from);
        if (!r)
            r = copy_entry(copy, source, target);
        free(entries[i]);
    }
    free(entries);
    return pass(r);
}

int copy_tree(struct copy *copy, const char *from, const char *to)
{
    struct stat st;
    int r;

    if (stat(from, &st) < 0)
        return errno == ENOENT ? STORE_NOT_FOUND : fault(-errno, "cannot look at %s", from);
    if (S_ISREG(st.st_mode))
        return pass(copy_file(copy, from, to));
    r = copy_make_directory(copy, to);
    if (!r && chmod(to, (st.st_mode & 0777) | 0700) < 0)
        r = fault(-errno, "cannot set the mode of %s", to);
    if (!r)
        r = copy_entries(copy, from, to);
    return r ? pass(r) : pass(db_sync_directory(to));
}
