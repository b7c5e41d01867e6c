#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Scan: one pass over wire bytes before protobuf-c sees them.
 *
 * Everything that protobuf-c would do differently from the protobuf specification, or does not do
 * at all, is refused here: deep nesting, text that is not UTF-8 or has a NUL, field number 0 or
 * past 2^29 - 1, groups, wire types that are not the field's. What passes can still fail in
 * protobuf-c: a missing required field, a packed varint of more than ten bytes, no memory.
 *
 * The pass only goes into fields whose type is a message; it steps over the bytes of packed arrays
 * and of unknown fields. It takes no memory and no more stack than its WIRE_MAX_DEPTH levels.
 */

#include "common/wire/wire.h"

/* Outcomes: WIRE_MALFORMED, WIRE_TOO_DEEP, WIRE_BAD_TEXT; *ret_problem is filled then. */
int wire_scan(const ProtobufCMessageDescriptor *type,
              struct span bytes,
              struct wire_problem *ret_problem) MUST_USE;
