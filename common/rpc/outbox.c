/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/rpc/core.h"

/* What a queued message costs beside its bytes. */
#define SLOT_BYTES (sizeof(grpc_slice))
/* A ring larger than this is given back when it runs empty: most calls are idle most of the time.
 */
#define KEPT_SLOTS 8

void rpc_outbox_clear(struct rpc_outbox *outbox)
{
    while (outbox->n_waiting) {
        grpc_slice *slot = &outbox->slots[outbox->head];

        outbox->n_bytes -= GRPC_SLICE_LENGTH(*slot);
        grpc_slice_unref(*slot);
        outbox->head = (outbox->head + 1) & (outbox->capacity - 1);
        outbox->n_waiting--;
    }
    free(outbox->slots);
    outbox->slots = NULL;
    outbox->head = outbox->capacity = 0;
    outbox->wants_room = false;
}

void rpc_outbox_deinit(struct rpc_outbox *outbox)
{
    rpc_outbox_clear(outbox);
}

static int outbox_grow(struct rpc_outbox *outbox)
{
    uint32_t capacity = outbox->capacity ? outbox->capacity * 2 : 4;
    grpc_slice *slots = malloc(capacity * sizeof(*slots));

    if (!slots)
        return fault(-ENOMEM, "no memory for a send queue of %u messages", capacity);
    for (uint32_t i = 0; i < outbox->n_waiting; i++)
        slots[i] = outbox->slots[(outbox->head + i) & (outbox->capacity - 1)];
    free(outbox->slots);
    outbox->slots = slots;
    outbox->capacity = capacity;
    outbox->head = 0;
    return 0;
}

static size_t outbox_cost(const struct rpc_outbox *outbox)
{
    return outbox->n_bytes + outbox->n_waiting * SLOT_BYTES;
}

static bool outbox_has_room(const struct rpc_outbox *outbox, size_t len)
{
    if (!outbox->n_waiting && !outbox->is_writing)
        return true;
    return outbox_cost(outbox) + len + SLOT_BYTES <= outbox->limit_bytes;
}

int rpc_outbox_push(struct rpc_outbox *outbox, struct span message)
{
    if (!outbox_has_room(outbox, message.len)) {
        outbox->wants_room = true;
        return RPC_QUEUE_FULL;
    }
    if (outbox->n_waiting == outbox->capacity) {
        int r = outbox_grow(outbox);

        if (r < 0)
            return pass(r);
    }
    outbox->slots[(outbox->head + outbox->n_waiting) & (outbox->capacity - 1)] =
        rpc_slice_of(message);
    outbox->n_waiting++;
    outbox->n_bytes += message.len;
    return 0;
}

grpc_slice rpc_outbox_begin(struct rpc_outbox *outbox)
{
    grpc_slice slice;

    ensure(outbox->n_waiting && !outbox->is_writing);
    slice = outbox->slots[outbox->head];
    outbox->head = (outbox->head + 1) & (outbox->capacity - 1);
    outbox->n_waiting--;
    outbox->written_bytes = GRPC_SLICE_LENGTH(slice);
    outbox->is_writing = true;
    if (!outbox->n_waiting && outbox->capacity > KEPT_SLOTS) {
        free(outbox->slots);
        outbox->slots = NULL;
        outbox->head = outbox->capacity = 0;
    }
    return slice;
}

bool rpc_outbox_end(struct rpc_outbox *outbox)
{
    ensure(outbox->is_writing);
    outbox->is_writing = false;
    outbox->n_bytes -= outbox->written_bytes;
    outbox->written_bytes = 0;
    if (!outbox->wants_room || outbox_cost(outbox) > outbox->limit_bytes / 2)
        return false;
    outbox->wants_room = false;
    return true;
}
