#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Inventories: tables that agents send, their history, and what is in them. A part of store.h,
 * which others include.
 *
 * Glossary:
 *   content    rows and columns of a table, without its name or whose it is; named by the SHA-256
 *              of its canonical form (content.h), kept once whoever has it
 *   revision   of an agent: the names of its tables and their contents, from one time on;
 *              numbered 1, 2, 3 ...
 *   confirmed  the agent said again that the newest revision is what it has
 *
 * An environment of its own (inventory.h has the tables): megabytes that come and go do not belong
 * into the small, precious `state`, and its writer must not make others wait.
 *
 * The way of an upload: server/ingest makes a struct store_inventory_put and checks what is in it;
 * store_inventory_prepare() on a reader looks which contents are new and packs them;
 * store_inventory_submit() queues it to the inventory's writer, which commits all that waits with
 * one fdatasync and calls each done().
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/arena.h"
#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/span.h"

struct store;

#define STORE_SHA256_BYTES 32
#define STORE_INVENTORY_NAME_BYTES 64   /* of a table or a column */
#define STORE_INVENTORY_TABLES_MAX 1000 /* of one agent: a revision is one record */
/* Canonical, of one row: an answer's page has room for it. */
#define STORE_INVENTORY_ROW_BYTES (256u << 10)

/* ---- canonical contents ---- */

/* Appends the head of a content, then rows value by value; content.h draws it. */
void store_content_put_columns(struct buf *to, const char *const *names, size_t n);
void store_content_put_value(struct buf *to, const char *value);
/* As rows ascend: below, at or above 0. */
int store_content_compare(const struct span *a, const struct span *b, uint32_t n_columns);

/* ---- writing ---- */

struct store_inventory_put_table {
    char name[STORE_INVENTORY_NAME_BYTES + 1];
    uint8_t sha256[STORE_SHA256_BYTES];
    uint64_t n_rows;
    struct buf canonical; /* the content, where it was sent: the caller has checked it */
    bool is_missing;      /* out: it was not sent, and the store has none */
    struct buf packed;    /* the store's */
};

/* Made with store_inventory_put_new(); the store's from submit until done(). */
struct store_inventory_put {
    uint32_t agent;
    int64_t time_us; /* when the agent read its tables */
    wall_us received;
    struct store_inventory_put_table *tables; /* names are unique */
    size_t n_tables;
    /*
     * On the writer's thread, after the commit: STORE_OK, _NOT_FOUND (a content went meanwhile;
     * is_missing says which), _TOO_MUCH (max_bytes), _FULL, _STOPPED, or _DAMAGED. Must not block.
     */
    void (*done)(struct store_inventory_put *put, int r);
    void *ctx;
    uint64_t revision;                /* out */
    uint32_t n_changed;               /* out: with those that came and went */
    struct store_inventory_put *next; /* the store's */
};

int store_inventory_put_new(struct store_inventory_put **ret, size_t n_tables) MUST_USE;
struct store_inventory_put *store_inventory_put_free(struct store_inventory_put *put);
DEFINE_CLEANUP(struct store_inventory_put *, store_inventory_put_free);

/*
 * Looks which contents are there, and packs those that were sent and are not. Reads pages and
 * compresses: on a reader. Outcomes: STORE_NOT_FOUND (is_missing says which), STORE_DAMAGED.
 */
int store_inventory_prepare(struct store *store, struct store_inventory_put *put) MUST_USE;
/* Outcomes: STORE_BUSY, STORE_STOPPED: it stays the caller's. */
int store_inventory_submit(struct store *store, struct store_inventory_put *put) MUST_USE;

/* How much is kept: revisions of an agent, and how long one that was replaced is. 0: no limit. The
 * newest revision always is. */
void store_set_inventory_limits(struct store *store,
                                uint32_t max_revisions,
                                int64_t retention_us,
                                uint64_t max_bytes);
/* Lets go of what is too old now, of all agents; else hourly. Blocks. */
int store_inventory_trim(struct store *store) MUST_USE;

/* ---- reading: on readers; everything lives in the arena given ---- */

struct store_inventory_table {
    const char *name;
    uint8_t sha256[STORE_SHA256_BYTES];
    uint64_t n_rows;
    bool is_changed; /* it came, or has another content than in the revision before */
};

struct store_inventory {
    uint32_t agent;
    uint64_t revision;
    wall_us time, received;
    wall_us confirmed;                    /* 0: of an older revision */
    struct store_inventory_table *tables; /* ascending by name */
    const char **removed;                 /* that went with it */
    size_t n_tables, n_removed;
};

/*
 * The newest revision whose time is at or before at_us; INT64_MAX: the newest. Outcomes:
 * STORE_NOT_FOUND, STORE_DAMAGED.
 */
int store_inventory_get(struct store *store,
                        uint32_t agent,
                        int64_t at_us,
                        struct arena *arena,
                        struct store_inventory *ret) MUST_USE;
/* Outcomes: STORE_NOT_FOUND, STORE_DAMAGED. */
int store_inventory_revision(struct store *store,
                             uint32_t agent,
                             uint64_t revision,
                             struct arena *arena,
                             struct store_inventory *ret) MUST_USE;
/* The newest revision below this one (UINT64_MAX: the newest). Outcomes: as above. */
int store_inventory_before(struct store *store,
                           uint32_t agent,
                           uint64_t revision,
                           struct arena *arena,
                           struct store_inventory *ret) MUST_USE;

/* Contents, one after the other, for one question. Keeps what many are packed against. */
struct store_contents;

int store_contents_new(struct store_contents **ret, struct store *store) MUST_USE;
struct store_contents *store_contents_free(struct store_contents *contents);
DEFINE_CLEANUP(struct store_contents *, store_contents_free);

struct store_content {
    const struct span *columns;
    uint32_t n_columns;
    uint64_t n_rows, n_bytes; /* canonical */
};
/*
 * The one that store_contents_rows() reads from now on; *ret until the next open. Outcomes:
 * STORE_NOT_FOUND, STORE_DAMAGED (said once in the log; it counts as missing until it is sent
 * again).
 */
int store_contents_open(struct store_contents *contents,
                        const uint8_t sha256[STORE_SHA256_BYTES],
                        struct store_content *ret) MUST_USE;
/*
 * Rows from number `from_row` on, in order; all whose first value begins with `prefix` are among
 * them, others may be. Only their blocks are unpacked. Values live during the call; fn returns
 * false to stop. Outcomes: STORE_DAMAGED.
 */
int store_contents_rows(struct store_contents *contents,
                        struct span prefix,
                        uint64_t from_row,
                        bool (*fn)(void *ctx, uint64_t row, const struct span *values),
                        void *ctx) MUST_USE;
/* Canonical bytes unpacked so far: what the question cost. */
uint64_t store_contents_read_bytes(const struct store_contents *contents);
