#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Copy, private to the store: environments and files to another place, durable there.
 *
 * Thread: one. Forks.
 */

#include <stdbool.h>
#include <stdint.h>

#include "common/base/cleanup.h"

struct copy {
    void (*on_bytes)(void *ctx, uint64_t n_more); /* written; may be NULL */
    void *ctx;
    char full[512]; /* after STORE_FULL: what found no room */
};

/*
 * One snapshot of an environment, without its free pages, to <to>/data.mdb; `to` is made. A process
 * of its own reads it, so that pages that lead nowhere end that one. Outcomes: STORE_NOT_FOUND
 * (gone by now, or *ret_is_damaged: then nothing of it stays), STORE_FULL.
 */
int copy_environment(struct copy *copy,
                     const char *from,
                     const char *to,
                     bool *ret_is_damaged) MUST_USE;

/* A file, or a directory with all files and directories in it, with their modes; lock.mdb and what
 * is neither stays behind. Outcomes: STORE_NOT_FOUND, STORE_FULL. */
int copy_tree(struct copy *copy, const char *from, const char *to) MUST_USE;

/* A directory that is new, 0700. Outcomes: STORE_FULL. */
int copy_make_directory(struct copy *copy, const char *path) MUST_USE;
/* A small file. Outcomes: STORE_FULL. */
int copy_write(struct copy *copy, const char *path, const char *text) MUST_USE;
