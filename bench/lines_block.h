#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A batch of lines as an agent sends it: its records as a block (common/logblock), which the hub
 * keeps as it came, in place of the records.
 *
 * Thread: one at a time.
 */

#include "bench/lines.h"
#include "common/base/cleanup.h"

/* Memory that is used again from batch to batch. All zero to begin with. */
struct lines_block {
    struct logblock_work *work;
    struct logblock_record *records;
    size_t n_room; /* of records */
    struct buf bodies, block, message;
    uint32_t body_bytes; /* of the batch that was made last */
};
void lines_block_deinit(struct lines_block *block);

/*
 * The message of lines_batch() with a block in it, which has the same checksum.
 *   ret_message   borrowed until the next one
 * Faults: no memory.
 */
int lines_block_make(struct lines_block *block,
                     const struct lines *lines,
                     uint32_t agent,
                     uint64_t sequence,
                     struct span *ret_message) MUST_USE;
