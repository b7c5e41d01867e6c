#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Private to server/front: a chunk of an upload, read where it lies. Nearly all of an upload's
 * messages are one chunk in the form that everybody writes: field 2 of UploadBulkDataRequest or
 * StreamFileContentRequest, with an offset (or none), then data, and nothing else. Unpacking it
 * would copy its megabyte twice. Everything else is for wire_unpack().
 *
 *   0x12 len { [0x08 offset] 0x12 len data }
 *
 * Thread: any; pure.
 */

#include <stdbool.h>

#include "common/base/span.h"

/* False: it is not of this form (which says nothing against it). The data borrows the message. */
bool chunk_scan(struct span message, uint64_t *ret_offset, struct span *ret_data);
