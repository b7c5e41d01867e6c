#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/* Batch: the payload behind a struct store_batch: ROW or PACK records (format.h), one after the
 * other. */

#include "server/store/journal/format.h"

static inline uint8_t *batch_payload(struct store_batch *batch)
{
    return (uint8_t *) (batch + 1);
}

/* Writes the agent and the checksum into each row. On the call's thread, once, before the queue. */
void batch_seal(struct store_batch *batch);
