#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Db: the few calls on LMDB that every environment of the store shares, and the one place that
 * reads its error codes.
 *
 * Rules, with their reasons:
 *   MDB_NOTLS always      read transactions belong to a scan, not to a thread
 *   never MDB_WRITEMAP    a full disk would be SIGBUS instead of an error
 *   256 readers           more threads than the hub ever has, and the offline commands beside it
 */

#include <lmdb.h>
#include <stdint.h>

#include "common/base/cleanup.h"
#include "common/base/fault.h"
#include "common/base/span.h"

/*
 * What an answer of LMDB means: 0, STORE_NOT_FOUND, STORE_FULL (map, disk, quota or file size at
 * its limit: it passes when room is made), else a fault.
 */
#define db_check(rc, what) db_check_at((rc), (what), FAULT_HERE)
int db_check_at(int rc, const char *what, struct fault_site site) MUST_USE;

/*
 * Commits; the transaction is gone. As db_check(), but LMDB says EIO for a write that came out
 * short, which a full disk does too: then the file system is asked whether there is room.
 */
int db_commit(MDB_env *env, MDB_txn *txn, const char *what) MUST_USE;

/* The environment itself is broken: a file that is no database, or pages that lead nowhere. */
bool db_is_damage(int rc);

/* 0 or errno: an environment that is not open here has a lock file, as db_env_open() wants it. */
int db_reserve_lock_file(const char *directory) MUST_USE;

/* Opens (and makes, in an existing directory) an environment. The answer is LMDB's own. */
int db_env_open(MDB_env **ret,
                const char *directory,
                uint64_t map_bytes,
                unsigned n_tables) MUST_USE;

/*
 * The same for reading alone, beside a process that writes, takes away and puts another in place.
 * ENOENT also where it is only being made or is gone by now.
 */
int db_env_open_read(MDB_env **ret, const char *directory, unsigned n_tables) MUST_USE;
/* A snapshot, also where the writer has a larger map by now. The answer is LMDB's own. */
int db_begin_read(MDB_env *env, MDB_txn **ret) MUST_USE;

/* Takes a directory away so that nobody finds a half of it under its name. */
int db_remove(const char *path) MUST_USE;
#define DB_GONE ".gone" /* behind the name of one that db_remove() did not come to the end with */

/* Makes entries of a directory durable. */
int db_sync_directory(const char *path) MUST_USE;

/* Whether what a commit may append can be allocated behind the file's end; true where that cannot
 * be known. */
bool db_env_has_room(MDB_env *env);

/* Bytes that the environment's pages reach to. */
uint64_t db_env_used_bytes(MDB_env *env);

/* What the file takes on the disk. */
uint64_t db_file_bytes(const char *directory);

static inline MDB_val db_val(const void *data, size_t len)
{
    return (MDB_val){ len, (void *) (uintptr_t) data };
}

static inline MDB_val db_val_of(struct span span)
{
    return db_val(span.data, span.len);
}

static inline struct span db_span(MDB_val val)
{
    return span_of(val.mv_data, val.mv_size);
}

/* For CLEANUP(). */
static inline void db_txn_abortp(MDB_txn **txn)
{
    if (*txn)
        mdb_txn_abort(*txn);
}

static inline void db_cursor_closep(MDB_cursor **cursor)
{
    if (*cursor)
        mdb_cursor_close(*cursor);
}

/* Keys that are numbers lie big-endian, so that LMDB's order is theirs. */
static inline void db_key_u32(uint8_t to[static 4], uint32_t n)
{
    n = __builtin_bswap32(n);
    memcpy(to, &n, sizeof(n));
}

static inline void db_key_u64(uint8_t to[static 8], uint64_t n)
{
    n = __builtin_bswap64(n);
    memcpy(to, &n, sizeof(n));
}

/* 0 where the key has another length. */
static inline uint32_t db_u32_of(MDB_val key)
{
    uint32_t n = 0;

    if (key.mv_size == sizeof(n))
        memcpy(&n, key.mv_data, sizeof(n));
    return __builtin_bswap32(n);
}

static inline uint64_t db_u64_of(MDB_val key)
{
    uint64_t n = 0;

    if (key.mv_size == sizeof(n))
        memcpy(&n, key.mv_data, sizeof(n));
    return __builtin_bswap64(n);
}
