#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The work that the power cut interrupts, and what must be left of it. Everything in a batch
 * follows from its agent and sequence, so the checker needs no record of the values.
 *
 * What is known outside stands in the file `told`, a line for each:
 *
 *   B day       the first day of the rows
 *   C           the database was created
 *   I agent a b its number was N, its layouts are a and b
 *   A agent s   batch s of the agent was acknowledged
 *   R day       days before this one may go from now on
 *   G day       they are gone
 *   V agent n   revision n of the agent's inventory was acknowledged
 *
 * Thread: one, but work_tell(), from any.
 */

#include <stdbool.h>
#include <stdint.h>

#include "server/store/store.h"

#define WORK_AGENTS 3u
#define WORK_LAYOUTS 2u
#define WORK_COLUMNS 40u /* of the wider one */
#define WORK_ROWS 16u    /* of a batch at most */
#define WORK_WINDOW 4u   /* batches of an agent in flight */
#define WORK_MAX 4096u   /* sequences */
#define WORK_UPLOADS 64u
#define WORK_DAY_BATCHES 48u
#define WORK_DAY_US (INT64_C(86400) * 1000000)

struct work {
    struct store *store;
    int told_fd;
    int32_t base_day;
    uint32_t agents[WORK_AGENTS], layouts[WORK_LAYOUTS];
    uint32_t upload; /* the one that grows */
};

/* What `told` says. */
struct work_told {
    bool has_base, is_created;
    bool is_interned[WORK_AGENTS];
    int32_t base_day, may_go, gone;
    uint32_t agents[WORK_AGENTS], layouts[WORK_LAYOUTS];
    uint64_t acked[WORK_AGENTS];
    uint64_t uploaded[WORK_UPLOADS];
    bool is_finished[WORK_UPLOADS];
    uint64_t revisions[WORK_AGENTS];
};

#define WORK_EXIT_FAILED 3 /* the store failed */

/* Ends the program unless all is well. */
void work_need(const char *what, int r);

/* Ends the program with a message. */
_Noreturn void work_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

void work_tell(struct work *work, const char *format, ...) __attribute__((format(printf, 2, 3)));
void work_read_told(const char *path, struct work_told *ret);

/* Outcomes of store_open(). */
int work_open(struct work *work, const char *directory);
void work_intern(struct work *work);

/* ---- batches ---- */

bool work_is_skip(uint64_t sequence);
uint32_t work_n_rows(uint32_t agent, uint64_t sequence);
uint32_t work_layout(uint64_t sequence); /* 0 or 1 */
uint32_t work_n_columns(uint32_t layout);
int32_t work_day(const struct work *work, uint64_t sequence);
int64_t work_time(const struct work *work, uint64_t sequence, uint32_t row);
/* False: there is none. */
bool work_value(uint32_t agent,
                uint64_t sequence,
                uint32_t row,
                uint32_t column,
                uint64_t *ret_bits);

/* A batch for store_submit(). */
struct store_batch *work_batch(const struct work *work, uint32_t agent, uint64_t sequence);
/* Submits, waits: what store_submit() or done() said. */
int work_put(const struct work *work, uint32_t agent, uint64_t sequence);
void work_spool(uint32_t agent, uint8_t ret[static STORE_SPOOL_BYTES]);

/* ---- uploads.c ---- */

/* A chunk of the upload that grows, or its end. */
void work_upload_round(struct work *work);
/* The store is closed by now. */
void work_upload_close(void);
/* What was acknowledged of each is there; all are finished, and are what was uploaded. */
void work_check_uploads(struct work *work, const struct work_told *told);

/* ---- inventories.c ---- */

/* A new revision of one agent's inventory. */
void work_inventory_round(struct work *work, unsigned round);
/* What was acknowledged is there and is what it was, and it goes on. */
void work_check_inventories(struct work *work, const struct work_told *told);

/* ---- check.c ---- */

/* Everything up to each run's last sequence is there once, as it was; work_fail() otherwise. */
void work_check(struct work *work, const struct work_told *told);
