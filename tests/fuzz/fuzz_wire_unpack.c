/* Targets: wire_unpack, wire_pack, wire_error_unpack. SPDX-License-Identifier: Apache-2.0 */

/*
 * The first byte picks the type, the rest are the message. What unpacks packs again, and what was
 * packed unpacks to the same bytes; nothing outgrows its arena.
 */

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/wire/wire.h"
#include "google/protobuf/descriptor.pb-c.h"
#include "google/rpc/status.pb-c.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void ignore_fault(int code, struct fault_site site, const char *reason)
{
    (void) code;
    (void) site;
    (void) reason;
}

/* Byte 0 is the status with its details, 1 a recursive type, then the messages of the methods. */
static const ProtobufCMessageDescriptor *pick_type(uint8_t byte)
{
    size_t row;

    if (byte == 0)
        return &google__rpc__status__descriptor;
    if (byte == 1)
        return &google__protobuf__file_descriptor_proto__descriptor;
    row = (byte - 2u) / 2 % wire_n_methods;
    return byte % 2 ? wire_methods[row].response : wire_methods[row].request;
}

static void check_problem(int outcome, const struct wire_problem *problem)
{
    ensure(outcome > 0 && outcome <= WIRE_BAD_TEXT);
    ensure(memchr(problem->field, 0, sizeof(problem->field)));
    ensure(memchr(problem->description, 0, sizeof(problem->description)));
    ensure(problem->description[0]);
}

static void check_pack(const ProtobufCMessage *message)
{
    CLEANUP(buf_deinit) struct buf first = { 0 }, second = { 0 };
    CLEANUP(arena_deinit) struct arena arena;
    struct wire_problem problem;
    ProtobufCMessage *again;
    int r;

    ensure(wire_pack(message, &first) == 0);
    arena_init(&arena, 4 * wire_arena_limit(first.len));
    r = wire_unpack(message->descriptor, buf_span(&first), &arena, &again, &problem);
    if (r == WIRE_TOO_BIG)
        return;
    ensure(r == WIRE_OK);
    ensure(wire_pack(again, &second) == 0);
    ensure(span_equal(buf_span(&first), buf_span(&second)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    CLEANUP(arena_deinit) struct arena arena;
    struct wire_problem problem;
    ProtobufCMessage *message;
    struct wire_error error;
    struct span bytes;
    int r;

    if (len == 0)
        return 0;
    fault_set_sink(ignore_fault);
    bytes = span_of(data + 1, len - 1);
    arena_init(&arena, wire_arena_limit(bytes.len));
    r = wire_unpack(pick_type(data[0]), bytes, &arena, &message, &problem);
    ensure(arena.used_bytes <= arena.limit_bytes);
    if (r == WIRE_OK)
        check_pack(message);
    else
        check_problem(r, &problem);

    /* A small arena is refused at every place where protobuf-c allocates. */
    arena_reset(&arena, len);
    r = wire_unpack(pick_type(data[0]), bytes, &arena, &message, &problem);
    ensure(arena.used_bytes <= arena.limit_bytes);
    if (r != WIRE_OK)
        check_problem(r, &problem);

    if (data[0] == 0) {
        arena_reset(&arena, wire_arena_limit(bytes.len));
        ensure(wire_error_unpack(bytes, &arena, &error) >= 0);
    }
    return 0;
}
