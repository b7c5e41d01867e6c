#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Owner: root at work in a directory that a daemon's user owns becomes that user, for good: what is
 * made there is the daemon's then, and what must not be read by others is still read.
 *
 * Thread: before others start.
 */

#include "common/base/cleanup.h"

/*
 * Nothing to do for who is not root, and where the path is not there or root's. Faults: the system
 * refuses; who goes on then would leave files behind that the daemon cannot read.
 */
int owner_become(const char *path) MUST_USE;
