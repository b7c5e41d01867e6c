#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Objects, private to the store; store_objects.h says what they are.
 *
 *   objects.c  open, stop, close; the writer's thread and its queue; limits, figures
 *   write.c    jobs: one group, one transaction; begin.c: headers
 *   sweep.c    what expires, what the retention takes, files that nothing names
 *   read.c     questions, on readers
 *   index.c    the tables
 *   row.c      keys and values of the tables; pure
 *
 * Tables of objects/index (numbers in keys big-endian, in values little-endian):
 *
 *   meta      "format"                      u32
 *             "next"                        u64 number, u64 content: the next ones; never reused
 *   uploads   number u64                    row.c
 *   keys      agent u32, kind u8, key 16    number u64
 *   contents  content u64                   row.c
 *   blocks    content u64, block u32        CRC32C u32 of what is there of the block
 *   digests   SHA-256 32, size u64          content u64; of finished ones
 *   holders   content u64, number u64       agent u32: a content lives as long as it has one; an
 *                                           unfinished upload is no holder, it owns its content
 *
 * Thread: what is under `writer` is the objects' writer's alone.
 */

#include <pthread.h>
#include <stdatomic.h>
#include <sys/uio.h>

#include "common/base/buf.h"
#include "common/base/map.h"
#include "server/store/copy/pause.h"
#include "server/store/db.h"
#include "server/store/store.h"

#define OBJECTS_MAP_BYTES (UINT64_C(16) << 30) /* sparse */
#define OBJECTS_FORMAT 1u
#define OBJECTS_GROUP_BYTES (32u << 20)
#define OBJECTS_PENDING 128u
#define OBJECTS_LOOK_S 1
#define OBJECTS_SWEEP_US INT64_C(60000000)
#define OBJECTS_EXPIRE_US (INT64_C(7) * 86400 * 1000000)
#define OBJECTS_PATH_BYTES 560
#define OBJECTS_DAMAGED 4096u /* remembered; more is a broken disk */

enum objects_table {
    OBJECTS_META,
    OBJECTS_UPLOADS,
    OBJECTS_KEYS,
    OBJECTS_CONTENTS,
    OBJECTS_BLOCKS,
    OBJECTS_DIGESTS,
    OBJECTS_HOLDERS,
    OBJECTS_N_TABLES
};
extern const char *const objects_table_names[OBJECTS_N_TABLES];

/* ---- row.c ---- */

struct object_row {
    struct store_object object; /* its labels are these */
    struct store_attribute labels[STORE_OBJECT_LABELS];
    uint64_t content; /* 0: nothing was received */
    uint8_t hash[STORE_OBJECT_HASH_BYTES];
};
/* Borrows from `value`. False: it is none. */
bool object_row_read(uint64_t number, struct span value, struct object_row *ret);
void object_row_write(const struct object_row *row, struct buf *to);

struct object_content {
    uint64_t size; /* on disk */
    bool is_complete;
    uint8_t sha256[STORE_OBJECT_SHA256_BYTES]; /* then */
};
#define OBJECT_CONTENT_BYTES 48
bool object_content_read(struct span value, struct object_content *ret);
void object_content_write(const struct object_content *content,
                          uint8_t to[static OBJECT_CONTENT_BYTES]);

struct object_key {
    uint8_t bytes[40];
    size_t len;
};
struct object_key object_key_of(const struct store_object *object);
struct object_key object_digest_key(const uint8_t sha256[static STORE_OBJECT_SHA256_BYTES],
                                    uint64_t size);
struct object_key object_block_key(uint64_t content, uint32_t block);
struct object_key object_holder_key(uint64_t content, uint64_t number);

/* ---- what is open for adding ---- */

struct object {
    uint64_t number;
    struct object_row row;
    struct buf texts; /* what `row` borrows */
    uint32_t lease;
    uint32_t tail_crc32c; /* of the block that is not full */
    int fd;               /* -1: nothing received yet */
    int direct_fd;        /* the same file past the page cache; -1: not opened, or it cannot be */
    bool cannot_direct;
    bool is_dirty, is_file_dirty, is_gone;
    struct iovec *pending; /* what goes through direct_fd at once: bytes that follow each other */
    size_t n_pending;
    uint64_t pending_at, pending_bytes;
    struct object *next; /* dirty ones of the group */
};

/* What an agent has, and what counts against its limits. */
struct object_account {
    uint32_t agent;
    uint64_t n, n_bytes;
};

struct objects {
    struct store *store;
    bool is_open;
    char directory[OBJECTS_PATH_BYTES - 40]; /* default/objects */
    MDB_env *env;
    MDB_dbi tables[OBJECTS_N_TABLES];
    pthread_t thread;
    bool has_thread;
    struct {
        pthread_mutex_t lock;
        pthread_cond_t wake;
        struct store_object_job *first, **end;
        struct store_object_limits limits;
        bool is_stopping, wants_sweep;
        bool has_stopped; /* nothing is taken any more */
    } queue;
    struct {
        struct map open;          /* number -> struct object */
        struct map accounts;      /* agent -> struct object_account */
        uint64_t n_charged_bytes; /* of contents, with what open ones said they will be */
        uint64_t next_number, next_content;
        uint32_t next_lease;
        struct buf doomed;                 /* u64 contents whose files nothing names any more */
        struct store_object_limits limits; /* of the group under way */
        struct pause pause;
        struct buf scratch;
        mono_us next_sweep;
    } writer;
    struct {
        pthread_mutex_t lock;
        struct store_object_stats figures;
        struct buf damaged; /* u64 contents that a reader found bad, OBJECTS_DAMAGED at most */
    } stats;
};

/* ---- objects.c ---- */

/* Opens, or makes; looks for what is left over. Before the threads. */
int objects_open(struct objects *objects, struct store *store) MUST_USE;
int objects_start(struct objects *objects) MUST_USE;
/* Does what is queued and ends the thread. */
void objects_stop(struct objects *objects);
void objects_close(struct objects *objects);
void objects_sweep_soon(struct objects *objects);
/* What an upload counts for. */
uint64_t object_charge(const struct store_object *object);
/* Faults: no memory. */
int objects_account(struct objects *objects, uint32_t agent, struct object_account **ret) MUST_USE;
/* Sums up anew from the index: at the start, and when a group came to nothing. */
int objects_count(struct objects *objects) MUST_USE;
void objects_path_of(const struct objects *objects,
                     uint64_t content,
                     char to[static OBJECTS_PATH_BYTES]);
uint64_t objects_file_bytes(struct objects *objects);

/* ---- index.c; answers are LMDB's ---- */

int index_open(struct objects *objects) MUST_USE;
int index_get(struct objects *objects,
              MDB_txn *txn,
              enum objects_table table,
              struct span key,
              MDB_val *ret) MUST_USE;
int index_put(struct objects *objects,
              MDB_txn *txn,
              enum objects_table table,
              struct span key,
              struct span value) MUST_USE;
int index_get_row(struct objects *objects,
                  MDB_txn *txn,
                  uint64_t number,
                  struct object_row *ret) MUST_USE;
/* And the key, and (a finished one) the holder. */
int index_put_row(struct objects *objects, MDB_txn *txn, const struct object_row *row) MUST_USE;
int index_get_content(struct objects *objects,
                      MDB_txn *txn,
                      uint64_t content,
                      struct object_content *ret) MUST_USE;
int index_put_content(struct objects *objects,
                      MDB_txn *txn,
                      uint64_t content,
                      const struct object_content *row) MUST_USE;
int index_find_digest(struct objects *objects,
                      MDB_txn *txn,
                      const uint8_t sha256[static STORE_OBJECT_SHA256_BYTES],
                      uint64_t size,
                      uint64_t *ret) MUST_USE;
/* MDB_NOTFOUND: the agent (0: nobody) holds it not. */
int index_find_holder(struct objects *objects,
                      MDB_txn *txn,
                      uint64_t content,
                      uint32_t agent) MUST_USE;
int index_remove_content(struct objects *objects, MDB_txn *txn, uint64_t content) MUST_USE;
/* *ret_content: that goes with it; 0: none. Its key goes if it leads to it. */
int index_remove_row(struct objects *objects,
                     MDB_txn *txn,
                     const struct object_row *row,
                     uint64_t *ret_content) MUST_USE;
int index_put_next(struct objects *objects, MDB_txn *txn) MUST_USE;

/* ---- write.c ---- */

/* One group: then each done() is called. */
void objects_write(struct objects *objects, struct store_object_job *jobs);
struct object *objects_find_open(struct objects *objects, uint64_t number);
/* Closes what is open of it. */
void objects_let_go(struct objects *objects, struct object *object);

/* ---- read.c ---- */

/* Whether it is known not to be there as a whole: a reader said so since the start, or its file is
 * too short. What is sent again is not taken for it. Any thread. */
bool objects_is_damaged(struct objects *objects, uint64_t content, uint64_t size);

/* ---- sweep.c ---- */

/* Faults, STORE_FULL: the next one tries again. */
int objects_sweep(struct objects *objects) MUST_USE;
int objects_doom(struct objects *objects, uint64_t content) MUST_USE;
/* Unlinks what is doomed, unless a backup copies. */
void objects_unlink_doomed(struct objects *objects);
/* Files that no row names go. At the start. */
int objects_unlink_orphans(struct objects *objects) MUST_USE;
