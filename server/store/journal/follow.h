#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Private to the store: what followers keep from going. store_follow.h is the rest.
 *
 * Thread: any.
 */

#include <stdint.h>

#include "common/base/cleanup.h"

struct store;
struct segment;

void follow_init(struct store *store);
void follow_deinit(struct store *store);
/* Before the threads: what a follower has not read stays until it comes. Outcomes: STORE_FULL. */
int follow_await(struct store *store, const char *name) MUST_USE;

/* Chunks from here on must stay; UINT64_MAX: nobody follows. */
uint64_t follow_first_chunk(struct store *store);

/* The oldest segment of the journal, when nobody needs it, out of its table: who comes to follow
 * meanwhile finds it there and keeps it, or knows that it is gone. NULL: none may go. The
 * sealer's. */
struct segment *follow_take_idle(struct store *store);

/* Whoever is before this chunk goes on from it, with the loss counted. */
void follow_move_on(struct store *store, uint64_t chunk);
