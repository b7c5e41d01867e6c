#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Finds what lies below a directory, and nothing else. Private to agent/policy.
 *
 *   path     relative, in its shortest form.
 *   ret_fd   a place (O_PATH): a device or a FIFO does nothing when it is found so, and says what
 *            it is to fstat(). The last part may be a link; that too is fstat()'s to say.
 *
 * 0, or -errno without a report: ELOOP or ENOTDIR for a link on the way, EXDEV for what leads out.
 */

#include "common/base/cleanup.h"

int beneath_open(int directory, const char *path, int *ret_fd) MUST_USE;

/* The two ways of it, for tests: by openat2(2), where ENOSYS says that the kernel has none, and
 * name by name. */
int beneath_open_at_once(int directory, const char *path, int *ret_fd) MUST_USE;
int beneath_open_by_steps(int directory, const char *path, int *ret_fd) MUST_USE;
