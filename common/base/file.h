#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Files as a daemon needs them: read whole with a limit, replaced atomically, made with the right
 * mode.
 *
 * Thread: any. Blocks on the disk.
 */

#include <sys/types.h>

#include "common/base/buf.h"
#include "common/base/cleanup.h"

enum file_outcome {
    FILE_OK = 0,
    FILE_ABSENT,    /* no such file, or a directory of the path is absent */
    FILE_TOO_LARGE, /* nothing was read */
    FILE_DENIED,    /* permissions */
};

/*
 * Appends the file's bytes to `ret`.
 * Outcomes: FILE_ABSENT, FILE_TOO_LARGE (over limit_bytes), FILE_DENIED.
 */
int file_read(const char *path, size_t limit_bytes, struct buf *ret) MUST_USE;

/*
 * Replaces the file: written beside it, synced, renamed, directory synced. On 0 the new content
 * survives a power cut; on anything else the old file is as it was. Outcomes: FILE_ABSENT (the
 * directory), FILE_DENIED.
 */
int file_replace(const char *path, struct span content, mode_t mode) MUST_USE;

/* Makes a directory and its parents; an existing one is left alone. Parents get 0755. Outcomes:
 * FILE_DENIED. */
int file_make_directories(const char *path, mode_t mode) MUST_USE;

/* Removes a directory with everything in it; absent is fine. Never follows a symbolic link. */
int file_remove_tree(const char *path) MUST_USE;

/* Closes and sets to -1; for CLEANUP. */
void fd_closep(int *fd);
