#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Bundle: files into one .tar.gz in memory, readable by every tar. Private to agent/cli.
 *
 * The tar is POSIX.1-1988 (ustar); the gzip (RFC 1952) holds it as it is, in stored blocks (RFC
 * 1951, 3.2.4): a bundle is some hundred kilobytes of text once in a year, which is no reason for a
 * library.
 */

#include "common/base/buf.h"
#include "common/base/clock.h"

#define BUNDLE_NAME_BYTES 100

struct bundle {
    struct buf tar;
    wall_us time; /* of every file */
};

/* `name` has fewer than BUNDLE_NAME_BYTES bytes. */
void bundle_add(struct bundle *bundle, const char *name, struct span content);
/* Appends the .tar.gz; nothing can be added afterwards. */
void bundle_finish(struct bundle *bundle, struct buf *to);
