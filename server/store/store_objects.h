#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The store's objects: what agents upload as it is, files and bulk data. A part of store.h, which
 * others include.
 *
 * Glossary:
 *   upload    one thing that an agent sends under a key of its own making (agent, kind, 16 bytes);
 *             named in all questions by its number, 1 ..., never reused
 *   content   the bytes; uploads whose size and SHA-256 are equal share one
 *   lease     the right to add to an upload; the newest BEGIN of an upload has it
 *
 * The way of a byte: a call hands in jobs, the objects' own writer takes all that wait, writes
 * each chunk behind its content's file, syncs the files, commits the new offsets in one
 * transaction, and calls each done(). So done(0) of an APPEND means: on disk, all below its end.
 *
 * Why files, and not values of LMDB: content is written once, in order, and goes as a whole. A file
 * gives its space back to the disk with one unlink(), where an environment never shrinks; it is
 * read without a map, so a bad sector is an error and not SIGBUS; and the disk sees one sequential
 * write and one sync for each file and group. What must change together (offsets, digests, who
 * shares what) is in LMDB: `index`, small. The order makes it safe: a file is synced before an
 * offset says so, and unlinked after no row names it.
 *
 * Damage: `index` has a CRC32C for each STORE_OBJECT_BLOCK_BYTES of a content; a block is checked
 * whenever it is read. A finished content has its SHA-256.
 *
 * On disk: default/objects/index (LMDB, objects.h has its tables), default/objects/content/<hex>.
 *
 * Thread: any, unless a function says otherwise.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/arena.h"
#include "common/base/cleanup.h"
#include "common/base/clock.h"

struct store;

#define STORE_OBJECT_KEY_BYTES 16
#define STORE_OBJECT_SHA256_BYTES 32
#define STORE_OBJECT_HASH_BYTES 104 /* a SHA-256 under way, as common/crypto saves it */
#define STORE_OBJECT_BLOCK_BYTES (256u << 10)
#define STORE_OBJECT_PAGE_BYTES 4096u
#define STORE_OBJECT_MAX_BYTES (UINT64_C(1) << 50) /* where the settings end; blocks: 32 bits */
#define STORE_OBJECT_NAME_BYTES 4096
#define STORE_OBJECT_TYPE_BYTES 255
#define STORE_OBJECT_LABELS 32
#define STORE_OBJECT_LABEL_BYTES 255

enum store_object_kind { STORE_BULK = 1, STORE_FILE = 2 };

struct store_attribute;

/* 0: no such limit, but for expire_us, where it is 7 days. */
struct store_object_limits {
    uint64_t max_bytes;       /* of one upload */
    uint64_t agent_bytes;     /* of all of one agent, shared or not */
    uint64_t agent_count;     /* uploads of one agent */
    uint64_t total_bytes;     /* of the contents of all, each once; nothing new above it */
    int64_t retention_us;     /* finished ones go when they are older */
    uint64_t retention_bytes; /* the oldest finished ones go when all contents are more */
    int64_t expire_us;        /* unfinished ones go when nothing came for so long */
};
/* From now on; what must go goes soon. */
void store_objects_set_limits(struct store *store, const struct store_object_limits *limits);

struct store_object {
    uint64_t number;
    uint32_t agent;
    enum store_object_kind kind;
    bool is_complete;
    bool has_size, has_sha256;
    uint8_t key[STORE_OBJECT_KEY_BYTES];
    uint64_t size;     /* said by the header, or of the whole */
    uint64_t received; /* on disk */
    uint8_t sha256[STORE_OBJECT_SHA256_BYTES];
    wall_us begun, used;     /* used: the end of a finished one, the last bytes of another */
    wall_us modified;        /* of a file: as the agent says */
    uint32_t mode;           /* too */
    const char *name, *type; /* UTF-8 */
    const struct store_attribute *labels;
    size_t n_labels;
};

/* ---- writing ---- */

enum store_object_work {
    STORE_OBJECT_BEGIN = 1,
    STORE_OBJECT_APPEND,
    STORE_OBJECT_END,
    STORE_OBJECT_RESET, /* what was received is of no use: begin again at 0 */
    STORE_OBJECT_LEAVE, /* the lease is given up; what was received stays */
};

/*
 * A job, the caller's memory until done(), in which everything that it borrows lives too. Jobs are
 * done in the order in which they were handed in.
 */
struct store_object_job {
    enum store_object_work work;
    /*
     * BEGIN: the header; number, is_complete, received and times are not looked at. Else NULL.
     *
     * Where the agent has the upload already it goes on; a header that says something else of it is
     * STORE_DIFFERS. One with a size and a SHA-256 that a finished upload of the same agent has is
     * finished at once; only of the same agent, so that nobody learns what others have.
     */
    const struct store_object *header;
    /* Out of BEGIN, into all others. */
    uint64_t number;
    uint32_t lease;
    /* Out of BEGIN: how far it is, with the hash of all before (all zeros at 0). */
    uint64_t received;
    bool is_complete;
    /* Into APPEND: where it begins (at what was received, else STORE_GAP), and the hash behind.
     * Costs least where offset, length and address are multiples of STORE_OBJECT_PAGE_BYTES. */
    uint64_t offset;
    const uint8_t *data;
    size_t len;
    uint8_t hash[STORE_OBJECT_HASH_BYTES];
    /* Into END; out of END; out of BEGIN what the first header that knew them said, which bounds
     * all that is added: size 0 and has_sha256 false: nobody knows yet. */
    uint64_t size;
    bool has_sha256;
    uint8_t sha256[STORE_OBJECT_SHA256_BYTES];
    /* Out with STORE_DIFFERS: the header's field that does; with STORE_TOO_MUCH: the limit, a
     * setting's name, and its value. Literals. */
    const char *what;
    uint64_t limit;
    /*
     * On the objects' writer: 0, STORE_DIFFERS, STORE_TOO_MUCH, STORE_GAP, STORE_TAKEN (a newer
     * BEGIN has the lease), STORE_FULL, STORE_STOPPED. What was acknowledged before stays. The job
     * is the caller's again. Must not block.
     */
    void (*done)(struct store_object_job *job, int r);
    struct store_object_job *next; /* the store's */
};

/* Takes any number: who hands in bounds them (server/upload). Outcomes: STORE_STOPPED (it stays the
 * caller's). */
int store_object_submit(struct store *store, struct store_object_job *job) MUST_USE;

/* ---- reading, on readers ---- */

/* In the arena. Outcomes: STORE_NOT_FOUND. */
int store_object_get(struct store *store,
                     uint64_t number,
                     struct arena *arena,
                     struct store_object *ret) MUST_USE;

/*
 * All with a number below `below`, the newest first; 0: from the newest of all. What `object`
 * points to lives during fn(), which must not call the store. Returns false to stop.
 */
int store_object_each(struct store *store,
                      uint64_t below,
                      bool (*fn)(void *ctx, const struct store_object *object),
                      void *ctx) MUST_USE;

/*
 * Reads of a finished upload up to `len` bytes from `offset` on; *ret_len 0 only at its end. Costs
 * least when both are multiples of STORE_OBJECT_BLOCK_BYTES. Outcomes: STORE_NOT_FOUND (it went),
 * STORE_INCOMPLETE, STORE_DAMAGED (the block's checksum; it is in the log).
 */
int store_object_read(struct store *store,
                      uint64_t number,
                      uint64_t offset,
                      void *to,
                      size_t len,
                      size_t *ret_len) MUST_USE;

/* When it goes, as the limits are now; 0: by no time. */
wall_us store_object_expires(struct store *store, const struct store_object *object);

/* Since the start, but for the first line. */
struct store_object_stats {
    uint64_t n_uploads, n_unfinished, n_contents, content_bytes; /* now */
    uint64_t n_begun, n_finished, n_shared;                      /* shared: no bytes of their own */
    uint64_t n_bytes, n_commits;
    uint64_t n_expired, n_retained, n_freed_bytes; /* unfinished and finished ones that went */
    uint64_t n_refused, n_damaged;
};
void store_get_object_stats(struct store *store, struct store_object_stats *ret);
