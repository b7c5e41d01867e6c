#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The sealer's part for logs, private to the store. What days and seal numbers are is the same as
 * for metrics (days/seal.h); logs.h says what is different.
 *
 * Thread: the sealer's.
 */

#include <stdbool.h>
#include <stdint.h>

#include "server/store/logs/logs.h"

struct logs_sealer; /* seal.c: room, and where the rounds have come to */
struct logs_sealer *logs_sealer_new(void);
struct logs_sealer *logs_sealer_free(struct logs_sealer *logs);

/*
 * Seals agents whose logs are due (older than seal_age_us, more than a mebibyte, or is_all), up to
 * some mebibytes. *ret_did, *ret_has_more become true where it did something, where there is more.
 * Outcomes: STORE_FULL.
 */
int logs_seal_round(struct sealer *sealer, bool is_all, bool *ret_did, bool *ret_has_more) MUST_USE;

/* A day went, and with it what is of it in chunks below this one: those packs leave the heads. */
void logs_drop_day(struct store *store, int32_t day, uint64_t chunk);

/* ---- compact.c ---- */

struct logs_sweep; /* how far the compaction has come */
struct logs_sweep *logs_sweep_new(void);
struct logs_sweep *logs_sweep_free(struct logs_sweep *sweep);

/* Rewrites blocks of some agents, bounded, going round; true: there is more to do. */
int logs_compact_step(struct sealer *sealer, bool *ret_has_more) MUST_USE;
