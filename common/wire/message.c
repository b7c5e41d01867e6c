/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/wire/scan.h"
#include "common/wire/wire.h"

#define MIN_ARENA_BYTES ((size_t) 64 * 1024)
#define ARENA_BYTES_PER_WIRE_BYTE 16

size_t wire_arena_limit(size_t wire_bytes)
{
    size_t limit;

    if (__builtin_mul_overflow(wire_bytes, (size_t) ARENA_BYTES_PER_WIRE_BYTE, &limit))
        return SIZE_MAX;
    return limit > MIN_ARENA_BYTES ? limit : MIN_ARENA_BYTES;
}

/* ---- the arena as protobuf-c's allocator ---- */

struct arena_allocator {
    ProtobufCAllocator allocator; /* its data points to this struct */
    struct arena *arena;
    bool has_refused;
};

static void *on_alloc(void *data, size_t size)
{
    struct arena_allocator *a = data;
    void *p = arena_alloc(a->arena, size);

    if (!p)
        a->has_refused = true;
    return p;
}

/* The arena frees all at once. What protobuf-c gives back while it merges or fails stays charged:
 * that is what bounds it. */
static void on_free(void *data, void *p)
{
    (void) data;
    (void) p;
}

int wire_unpack(const ProtobufCMessageDescriptor *type,
                struct span bytes,
                struct arena *arena,
                ProtobufCMessage **ret,
                struct wire_problem *ret_problem)
{
    struct arena_allocator a = { { on_alloc, on_free, &a }, arena, false };
    struct wire_problem unasked, *problem = ret_problem ? ret_problem : &unasked;
    ProtobufCMessage *message;
    int r;

    r = wire_scan(type, bytes, problem);
    if (r != WIRE_OK)
        return r;

    message = protobuf_c_message_unpack(type, &a.allocator, bytes.len, bytes.data);
    if (message) {
        ensure(message->descriptor == type);
        *ret = message;
        return WIRE_OK;
    }
    problem->field[0] = '\0';
    if (!a.has_refused) {
        snprintf(problem->description, sizeof(problem->description),
                 "not a %s: a required field is missing, a sub-message is given twice, or a number "
                 "in a packed array is longer than ten bytes",
                 type->name);
        return WIRE_MALFORMED;
    }
    if (!arena->is_exhausted)
        return fault(-ENOMEM, "no memory to unpack %zu bytes of %s", bytes.len, type->name);
    snprintf(problem->description, sizeof(problem->description),
             "takes more than the %zu bytes of memory that a %s of %zu bytes may take; "
             "send fewer or larger parts",
             arena->limit_bytes, type->name, bytes.len);
    return WIRE_TOO_BIG;
}

int wire_pack(const ProtobufCMessage *message, struct buf *to)
{
    size_t len = protobuf_c_message_get_packed_size(message);
    uint8_t *at;

    if (len == 0)
        return 0;
    at = buf_extend(to, len);
    if (!at)
        return fault(-ENOMEM, "no memory to pack %zu bytes of %s", len, message->descriptor->name);
    ensure(protobuf_c_message_pack(message, at) == len);
    return 0;
}
