#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Private to the store: how a backup says that it is one. A file in it, empty until all is there:
 *
 *   sentinel-backup 1
 *   began_us 1790000000000000
 */

#include <stdbool.h>

#include "server/store/store.h"

#define BACKUP_MARK "sentinel-backup"
#define BACKUP_PATH_BYTES 512

/* There is nothing at `path`, or an empty directory. */
int backup_is_free(const char *path, bool *ret) MUST_USE;

/* Removes what an earlier one left at `path`. Outcomes: STORE_UNFIT (it is something else). */
int backup_remove_partial(const char *path) MUST_USE;

int backup_say(struct store_why *why, int r, const char *fmt, ...) PRINTF_LIKE(3, 4);
