#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Inventory, private to the store: the environment <db>/default/inventory, and its writer.
 *
 *   contents    sha256 -> packed content (content.h)
 *   refs        sha256 -> struct inventory_refs: who needs the content; one that nobody needs goes
 *               in the same transaction
 *   revisions   agent u32, revision u64, both big-endian -> struct inventory_revision and entries
 *   agents      agent u32, big-endian -> struct inventory_agent
 *   meta        "format" -> u32
 *
 * A revision's record:
 *
 *   struct inventory_revision
 *   for each table, ascending by name: sha256, rows u64, flags u8, length u8, name
 *   for each table that went with it: the same with zeros and INVENTORY_REMOVED
 *
 * A new content is packed against a base where that makes it much smaller: the one that the agent's
 * last content of this table was packed against (or that itself), else the last one of that name
 * that became a base. So a history costs what changed in it, and so does a fleet of nearly equal
 * machines. At most INVENTORY_DEPENDENTS hang on one base: as many are lost with it.
 *
 * A content that was found damaged counts as missing from then on, so that an agent that still has
 * it sends it again; then it is whole, and with it all that hang on it.
 *
 * Files: inventory.c environment, thread; put.c packing, writing, trimming;
 * read.[ch]; record.c records, pure; content.[ch].
 *
 * Thread: reading any; writing the inventory's thread.
 */

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>

#include "server/store/db.h"
#include "server/store/inventory/content.h"
#include "server/store/store.h"

#define INVENTORY_FORMAT 1u
#define INVENTORY_REVISIONS 200u
#define INVENTORY_RETENTION_US (INT64_C(365) * 86400 * 1000000)
#define INVENTORY_BYTES (UINT64_C(16) << 30)
/* Address space beyond max_bytes, for pages that a transaction copies and gaps between values. */
#define INVENTORY_MAP_SLACK (UINT64_C(1) << 30)
#define INVENTORY_QUEUE_BYTES (UINT64_C(256) << 20)
#define INVENTORY_GROUP_BYTES (UINT64_C(16) << 20) /* of one transaction; one put always may */
#define INVENTORY_TRIM_S 3600
#define INVENTORY_DEPENDENTS 64u
#define INVENTORY_BASES 64u    /* names whose last base is remembered; in memory alone */
#define INVENTORY_DAMAGED 256u /* contents remembered as damaged */

enum inventory_table {
    INVENTORY_CONTENTS,
    INVENTORY_REFS,
    INVENTORY_REVISIONS_TABLE,
    INVENTORY_AGENTS,
    INVENTORY_META,
    INVENTORY_N_TABLES
};

struct inventory {
    struct store *store;
    MDB_env *env; /* NULL: not open */
    MDB_dbi tables[INVENTORY_N_TABLES];
    char path[480];
    _Atomic uint32_t max_revisions;
    _Atomic int64_t retention_us;
    _Atomic uint64_t max_bytes;
    _Atomic bool is_damaged; /* LMDB's pages; set aside at the next start */
    pthread_t thread;
    struct {
        pthread_mutex_t lock;
        pthread_cond_t wake, trimmed;
        struct store_inventory_put *first, **end;
        uint64_t n_bytes, n_trims_wanted, n_trims_done;
        int trim_r;
        bool has_thread, is_stopping;
    } queue;
    struct {
        pthread_mutex_t lock;
        struct {
            char name[STORE_INVENTORY_NAME_BYTES + 1];
            uint8_t sha256[STORE_SHA256_BYTES];
        } bases[INVENTORY_BASES];
        uint8_t damaged[INVENTORY_DAMAGED][STORE_SHA256_BYTES];
        size_t n_bases, n_damaged; /* counted on: the oldest make room */
    } known;
};

/* Makes the environment where there is none. One that is damaged is set aside, and the rest serves.
 */
int inventory_open(struct inventory *inventory, struct store *store) MUST_USE;
int inventory_start(struct inventory *inventory) MUST_USE;
/* Writes what is queued, calls every done(). */
void inventory_stop(struct inventory *inventory);
void inventory_close(struct inventory *inventory);
/* What an agent that was forgotten has goes, as with every trimming; does not wait. Any thread. */
void inventory_trim_soon(struct inventory *inventory);
uint64_t inventory_file_bytes(const struct inventory *inventory);
extern const char *const inventory_table_names[INVENTORY_N_TABLES];

/* What an answer of LMDB's means: as db_check(), but pages that lead nowhere are STORE_DAMAGED, and
 * remembered for the next start. */
int inventory_check(struct inventory *inventory, int rc, const char *what) MUST_USE;

/* ---- put.c, on the writer's thread ---- */

/* One transaction for all; sets each r. Outcomes and faults: nothing of it happened. */
struct inventory_answer {
    struct store_inventory_put *put;
    int r;
};
int inventory_write(struct inventory *inventory,
                    struct inventory_answer *answers,
                    size_t n) MUST_USE;
int inventory_trim_all(struct inventory *inventory) MUST_USE;

/* ---- what was found damaged ---- */

bool inventory_is_damaged(struct inventory *inventory, const uint8_t sha256[STORE_SHA256_BYTES]);
void inventory_found_damaged(struct inventory *inventory, const uint8_t sha256[STORE_SHA256_BYTES]);
void inventory_found_whole(struct inventory *inventory, const uint8_t sha256[STORE_SHA256_BYTES]);

/* ---- record.c: records; pure ---- */

#define INVENTORY_RECORD_VERSION 1u
#define INVENTORY_ENTRY_BYTES (STORE_SHA256_BYTES + 10) /* without the name */
#define INVENTORY_REVISION_KEY_BYTES 12

enum { INVENTORY_CHANGED = 1, INVENTORY_REMOVED = 2 };

struct inventory_refs {
    uint32_t crc32c; /* of the key, then of what follows */
    uint32_t version;
    uint64_t n_revisions;             /* tables of revisions that are it */
    uint64_t n_dependents;            /* contents that are packed against it */
    uint8_t base[STORE_SHA256_BYTES]; /* that it is packed against; zeros: none */
};

struct inventory_agent {
    uint32_t crc32c; /* of the key, then of what follows */
    uint32_t version;
    uint64_t revision; /* the newest */
    int64_t confirmed_us;
};

struct inventory_revision {
    uint32_t crc32c; /* of the key, then of all that follows */
    uint32_t version;
    int64_t time_us, received_us;
    uint32_t n_tables, n_removed;
};

static_assert(sizeof(struct inventory_refs) == 56, "on disk");
static_assert(sizeof(struct inventory_agent) == 24, "on disk");
static_assert(sizeof(struct inventory_revision) == 32, "on disk");

struct inventory_entry {
    uint8_t sha256[STORE_SHA256_BYTES];
    uint64_t n_rows;
    uint8_t flags;
    struct span name; /* borrowed from the record */
};

void inventory_revision_key(uint8_t to[static INVENTORY_REVISION_KEY_BYTES],
                            uint32_t agent,
                            uint64_t revision);

/* Appends one; then inventory_record_seal() makes the header and its checksum. */
void inventory_record_begin(struct buf *to);
void inventory_record_add(struct buf *to, const struct inventory_entry *entry);
void inventory_record_seal(struct buf *record,
                           struct span key,
                           const struct inventory_revision *header);
/* False: not whole. Names ascend, first of tables, then of those that went. */
bool inventory_record_open(struct span key, struct span record, struct inventory_revision *ret);
/* From *at = 0 on; false behind the last. Of a record that was opened. */
bool inventory_record_next(struct span record, size_t *at, struct inventory_entry *ret);

void inventory_refs_seal(struct span key, struct inventory_refs *record);
bool inventory_refs_open(struct span key, struct span record, struct inventory_refs *ret);
bool inventory_has_base(const struct inventory_refs *refs);

void inventory_agent_seal(struct span key, struct inventory_agent *record);
bool inventory_agent_open(struct span key, struct span record, struct inventory_agent *ret);
