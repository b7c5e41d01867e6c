#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Pause: while a backup copies, nothing is sealed, trimmed, compacted or expired, whichever process
 * does it. <db>/pause is an empty file; its first two bytes are locked (by open file, so also
 * between two of one process; a kill lets go of them):
 *
 *   byte 0   a backup wants to, or does. Only one at a time.
 *   byte 1   shared: a round of the sealer is under way. Exclusive: a backup copies.
 *
 * Two, because a shared lock that is taken again at once may never let an exclusive one in: a round
 * looks at byte 0 first, and so the backup waits for one round at most.
 *
 * Thread: one at a time for each struct.
 */

#include <stdbool.h>

#include "common/base/cleanup.h"

struct pause {
    int fd; /* -1: not open */
};

int pause_open(struct pause *pause, const char *database) MUST_USE;
void pause_close(struct pause *pause); /* lets go of all */

/* The sealer's, around each round. False: a backup is under way; no round. Does not block. */
bool pause_enter(struct pause *pause);
void pause_leave(struct pause *pause);

/* The backup's. False: another one is under way, or, of the second, the round is. */
bool pause_wish(struct pause *pause);
bool pause_begin(struct pause *pause);
