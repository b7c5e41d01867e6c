#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Inventory: what this machine is and has, as tables with osquery's names.
 *
 * A snapshot reads the enabled tables one by one, in a thread of its own, so that neither a slow
 * disk nor a package database holds up the rest of the agent. A table keeps its rows only where its
 * content differs from what the hub has (inventory_options.known); the others are a hash.
 *
 * A table whose source this machine does not have (rpm on Debian) is not in the snapshot. One that
 * could not be read this time keeps the hash that the hub knows, and is counted: a moment without
 * permission is no change. Tables that are whole or nothing (an engine's answer, package lists) are
 * not in the snapshot before they were read once; snapshot->missing says why.
 *
 * To add a table: a function in the file of its kind, a row in registry.c, a test.
 *
 * Glossary:   canonical   rows in ascending order of their values' bytes, as the hash wants them
 *                         (telemetry.proto, InventoryTableHash)
 * Thread:     the snapshot belongs to who has it; inventory_read() runs anywhere.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/span.h"

#define INVENTORY_MAX_TABLES 64
#define INVENTORY_HASH_BYTES 32

/* One table of a snapshot. */
struct inventory_table {
    const char *name;
    const char *const *columns;
    size_t n_columns;
    uint64_t n_rows;
    uint8_t sha256[INVENTORY_HASH_BYTES];
    bool has_rows;     /* else only the hash: the hub has this content */
    bool is_stale;     /* could not be read now; the hash is the one from before */
    struct buf values; /* each a u32 length (this machine's order) and its bytes, row by row */
    char why[160];     /* is_stale, is_cut; or what else is to be known of it */
    bool is_cut;       /* more rows or bytes than the limit: those behind are not in it */
};

/* A table that is wanted, failed, and was never read before: nothing is told of it. */
struct inventory_missing {
    const char *name;
    char why[160];
};

struct inventory_snapshot {
    wall_us time;
    struct inventory_table tables[INVENTORY_MAX_TABLES];
    size_t n_tables;
    size_t n_stale; /* with the missing */
    struct inventory_missing missing[INVENTORY_MAX_TABLES];
    size_t n_missing;
    int64_t duration_us;
};
/* The zero value is empty. */
void inventory_snapshot_deinit(struct inventory_snapshot *snapshot);
const struct inventory_table *inventory_find(const struct inventory_snapshot *snapshot,
                                             const char *name);
/* Why there is no such table, where it failed; else NULL. */
const char *inventory_why_missing(const struct inventory_snapshot *snapshot, const char *name);

/* What the hub is known to have of a table. */
struct inventory_known {
    char name[64];
    uint8_t sha256[INVENTORY_HASH_BYTES];
    uint64_t n_rows;
};
/* From and to a file, so that a start knows it. Of what is damaged, or not there, nothing is known
 * (0). Both block on the disk. */
size_t inventory_known_load(const char *path, struct inventory_known ret[INVENTORY_MAX_TABLES]);
int inventory_known_save(const char *path,
                         const struct inventory_known *known,
                         size_t n_known) MUST_USE;

struct inventory_options {
    const char *root; /* "/", or where the machine is seen from a container */
    const char *const *enable, *const *disable; /* names; disable wins */
    size_t n_enable, n_disable;
    const char *const *certificates; /* patterns of files for the table certificates */
    size_t n_certificates;
    const char *engine_socket; /* of docker_containers; NULL, "": the usual ones that may be used */
    uint64_t max_rows, max_bytes; /* of a table; 0: 100,000 and 16 MiB */
    int64_t command_timeout_us;   /* of a program, or an engine, that lists; 0: 30 s */
    /* Tables with these hashes come without rows; NULL: all rows. */
    const struct inventory_known *known;
    size_t n_known;
    /* Only this table; NULL: all that are enabled. */
    const char *only;
    /* Asked between tables; true: the snapshot ends early, and is not whole. NULL: never. */
    bool (*is_unwanted)(void *ctx);
    void *ctx;
};

enum inventory_outcome {
    INVENTORY_OK = 0,
    INVENTORY_NO_ROOT,  /* root cannot be opened */
    INVENTORY_UNKNOWN,  /* no table of the name `only` */
    INVENTORY_UNWANTED, /* is_unwanted() said so */
};

/* Reads; blocks for as long as disks and programs take. Outcomes: all of them. */
int inventory_read(const struct inventory_options *options,
                   struct inventory_snapshot *ret) MUST_USE;

/* Every table there is; ends with a row without a name. */
struct inventory_kind {
    const char *name;
    bool is_default;
    const char *help;
};
const struct inventory_kind *inventory_kinds(size_t *ret_n);

/* Walks the values of a table: from `*at` 0 on; false at the end. */
bool inventory_next_value(const struct inventory_table *table, size_t *at, struct span *ret);
