/* SPDX-License-Identifier: Apache-2.0 */
#include "server/store/db.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/file.h"
#include "server/store/store.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "values on disk are little-endian");

#define DB_READERS 256
#define DB_LOCK_BYTES (20 << 10)   /* of so many readers, in whole pages */
#define DB_COMMIT_BYTES (32 << 20) /* more than a group of the writer takes */

int db_check_at(int rc, const char *what, struct fault_site site)
{
    switch (rc) {
    case MDB_SUCCESS:
        return 0;
    case MDB_NOTFOUND:
        return STORE_NOT_FOUND;
    case MDB_MAP_FULL:
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return STORE_FULL;
    default:
        return fault_raise(rc > 0 ? -rc : -EIO, site, "%s: %s", what, mdb_strerror(rc));
    }
}

/* Nothing stays of the attempt. */
bool db_env_has_room(MDB_env *env)
{
    const char *directory = NULL;
    mdb_filehandle_t data;
    struct stat st;
    int fd, rc;

    if (mdb_env_get_path(env, &directory) || mdb_env_get_fd(env, &data) || fstat(data, &st) < 0)
        return true;
    fd = open(directory, O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
    if (fd < 0)
        return true;
    rc = fallocate(fd, 0, st.st_size, DB_COMMIT_BYTES) < 0 ? errno : 0;
    close(fd);
    return rc != ENOSPC && rc != EDQUOT && rc != EFBIG;
}

int db_commit(MDB_env *env, MDB_txn *txn, const char *what)
{
    int rc = mdb_txn_commit(txn);

    if (rc == EIO && !db_env_has_room(env))
        return STORE_FULL;
    return pass(db_check(rc, what));
}

bool db_is_damage(int rc)
{
    return rc == MDB_INVALID || rc == MDB_CORRUPTED || rc == MDB_PAGE_NOTFOUND ||
           rc == MDB_VERSION_MISMATCH || rc == MDB_PANIC || rc == MDB_BAD_TXN;
}

/*
 * LMDB writes its lock file through a map: a page of it that finds no room on a full disk would be
 * SIGBUS. An old one is opened all the same: the readers that there are in practice
 * fit into its first page.
 */
int db_reserve_lock_file(const char *directory)
{
    char path[4096];
    struct stat st;
    int fd, rc = 0;

    if (snprintf(path, sizeof(path), "%s/lock.mdb", directory) >= (int) sizeof(path))
        return ENAMETOOLONG;
    /* Closing it would drop LMDB's locks on it, were it open in this process: it never is. */
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return errno;
    if (fstat(fd, &st) == 0 && st.st_blocks * 512 < DB_LOCK_BYTES &&
        fallocate(fd, 0, 0, DB_LOCK_BYTES) < 0 && st.st_blocks == 0)
        rc = errno;
    close(fd);
    return rc == EOPNOTSUPP || rc == ENOSYS ? 0 : rc;
}

int db_env_open(MDB_env **ret, const char *directory, uint64_t map_bytes, unsigned n_tables)
{
    MDB_env *env;
    int rc = db_reserve_lock_file(directory);

    if (!rc)
        rc = mdb_env_create(&env);
    if (rc)
        return rc;
    rc = mdb_env_set_mapsize(env, (size_t) ((map_bytes + 4095) & ~UINT64_C(4095)));
    if (!rc)
        rc = mdb_env_set_maxdbs(env, n_tables);
    if (!rc)
        rc = mdb_env_set_maxreaders(env, DB_READERS);
    if (!rc)
        rc = mdb_env_open(env, directory, MDB_NOTLS, 0600);
    if (!rc) {
        int n_dead;

        rc = mdb_reader_check(env, &n_dead);
    }
    if (rc) {
        mdb_env_close(env);
        return rc;
    }
    *ret = env;
    return 0;
}

/* Files of two environments: one took the other's place in between. */
static int open_read_once(MDB_env **ret, const char *directory, unsigned n_tables, bool *ret_again)
{
    struct stat before, after;
    mdb_filehandle_t data;
    MDB_env *env;
    int rc;

    *ret_again = false;
    if (stat(directory, &before) < 0)
        return errno;
    rc = db_reserve_lock_file(directory);
    if (rc == ENOENT || rc == ENOSPC || rc == EDQUOT)
        return rc;
    rc = mdb_env_create(&env);
    if (rc)
        return rc;
    rc = mdb_env_set_maxdbs(env, n_tables);
    if (!rc)
        rc = mdb_env_set_maxreaders(env, DB_READERS);
    if (!rc)
        rc = mdb_env_open(env, directory, MDB_NOTLS | MDB_RDONLY, 0600);
    if (!rc && stat(directory, &after) < 0)
        rc = errno;
    if (!rc)
        *ret_again = before.st_ino != after.st_ino;
    if (!rc && mdb_env_get_fd(env, &data) == 0 && fstat(data, &after) == 0 && after.st_size == 0)
        rc = ENOENT;
    if (!rc && !*ret_again) {
        *ret = env;
        return 0;
    }
    mdb_env_close(env);
    return rc;
}

int db_env_open_read(MDB_env **ret, const char *directory, unsigned n_tables)
{
    bool is_again = true;
    int rc = 0;

    for (int i = 0; i < 8 && is_again && !rc; i++)
        rc = open_read_once(ret, directory, n_tables, &is_again);
    return !rc && is_again ? EBUSY : rc;
}

int db_begin_read(MDB_env *env, MDB_txn **ret)
{
    int rc = mdb_txn_begin(env, NULL, MDB_RDONLY, ret);

    if (rc == MDB_MAP_RESIZED) {
        rc = mdb_env_set_mapsize(env, 0);
        if (!rc)
            rc = mdb_txn_begin(env, NULL, MDB_RDONLY, ret);
    }
    if (rc)
        *ret = NULL;
    return rc;
}

int db_remove(const char *path)
{
    char gone[4096];
    int r;

    if (snprintf(gone, sizeof(gone), "%s" DB_GONE, path) >= (int) sizeof(gone))
        return fault(-ENAMETOOLONG, "the path of the database is too long");
    r = file_remove_tree(gone);
    if (!r && rename(path, gone) < 0)
        return errno == ENOENT ? 0 : fault(-errno, "cannot rename %s", path);
    return r ? pass(r) : pass(file_remove_tree(gone));
}

int db_sync_directory(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r = 0;

    if (fd < 0)
        return fault(-errno, "cannot open %s", path);
    if (fsync(fd) < 0)
        r = db_check(errno, "cannot sync a directory");
    close(fd);
    return r;
}

uint64_t db_env_used_bytes(MDB_env *env)
{
    MDB_envinfo info;
    MDB_stat stat;

    mdb_env_info(env, &info);
    mdb_env_stat(env, &stat);
    return ((uint64_t) info.me_last_pgno + 1) * stat.ms_psize;
}

uint64_t db_file_bytes(const char *directory)
{
    char path[4096];
    struct stat st;

    if (snprintf(path, sizeof(path), "%s/data.mdb", directory) >= (int) sizeof(path) ||
        stat(path, &st) < 0)
        return 0;
    return (uint64_t) st.st_blocks * 512;
}
