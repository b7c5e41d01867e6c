#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/* What the suites of the store share: a database of its own for each test, and calls that wait. */

#include <check.h>
#include <stdio.h>
#include <sys/types.h>

#include "common/base/arena.h"
#include "server/store/store.h"

extern char store_path[256];

/* Fixture: an empty database; gone afterwards. */
void make_database(void);
void remove_database(void);

/* A small segment makes rotations; 0: the default. */
struct store *open_store(uint64_t segment_bytes);
struct store_options store_settings(uint64_t segment_bytes);

/* Waits for the answer; both are exact names and ids of their own. */
uint32_t intern_definition(struct store *store, const struct store_definition *definition);
uint32_t intern_metric(struct store *store, const char *name);
uint32_t intern_layout(struct store *store, const uint32_t *definitions, size_t n);
/* A layout of n metrics named m000 .. */
uint32_t layout_of(struct store *store, uint32_t n_columns);
uint32_t agent_of(struct store *store, const char *id);

struct put {
    uint32_t agent, layout;
    uint8_t spool; /* its first byte */
    uint64_t sequence;
    int64_t time_us;
    uint32_t n_values, n_rows; /* rows a second apart; value = row x 1000 + column */
};
/* Submits and waits: the outcome of submit or of done. ret_last may be NULL. */
int put_rows(struct store *store, struct put put, uint64_t *ret_last);
int put_batch(struct store *store, struct store_batch *batch, uint64_t *ret_last);
int put_skip(struct store *store, struct put put, uint64_t records);

#define SCAN_MAX 70000
struct scanned {
    size_t n, n_damaged;
    struct {
        int64_t time_us;
        uint64_t bits; /* of the first column asked for */
        bool is_present;
    } rows[SCAN_MAX];
};
/* All rows of one column; static memory. */
const struct scanned *
scan_column(struct store *store, uint32_t agent, uint32_t layout, uint32_t column);

struct store_agent facts_of(struct store *store, uint32_t agent);

/* Runs fn in a child and returns its wait status. */
int in_child(void (*fn)(void *ctx), void *ctx);

uint64_t bits_of(double value);

/* Deep verification finds nothing but what was set aside. */
void check_database(void);

/* Of the store's directory, as "default/journal/00000001"; none is open. Turns a bit of the n-th
 * value of a table, `at` bytes on, written as LMDB would write it: no page is wrong. */
void spoil_value(const char *environment, const char *table, size_t n, size_t at);

TCase *case_rows(void);
TCase *case_runs(void);
TCase *case_disk(void);
TCase *case_catalog(void);
TCase *case_state(void);
TCase *case_seal(void);
TCase *case_rollup(void);
TCase *case_follow(void);
TCase *case_verify(void);
TCase *case_backup(void);
TCase *case_hard(void);
TCase *case_mend(void);
TCase *case_lost(void);
TCase *case_content(void);
TCase *case_inventory(void);
TCase *case_inventory_damage(void);
TCase *case_erase(void);
