#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * D-Bus, as much as one question to systemd takes: calls without arguments, their answers, and the
 * answer of ListUnits. Private to agent/collect. Bytes in, facts out; no socket here.
 *
 * A message (D-Bus specification, "Message Format"):
 *
 *     'l'|'B'  type  flags  version=1   u32 body bytes   u32 serial
 *     u32 bytes of fields, then fields { u8 code, signature, value }, each at a multiple of 8
 *     padding to a multiple of 8, body
 *
 * Thread: none; pure.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/span.h"

/* ListUnits says some 300 bytes of a unit: room for 20,000. The specification allows 128 MiB. */
#define DBUS_MAX_BYTES (6u << 20)

enum dbus_type { DBUS_CALL = 1, DBUS_RETURN = 2, DBUS_ERROR = 3, DBUS_SIGNAL = 4 };

/* All spans borrow from the bytes; texts are without their NUL. */
struct dbus_message {
    unsigned type;
    bool is_big_endian;
    uint32_t reply_serial; /* 0: none */
    struct span error_name;
    struct span signature;
    struct span body;
};

enum dbus_outcome {
    DBUS_OK = 0,
    DBUS_MORE, /* not whole yet */
    DBUS_BAD,  /* no message, or a larger one than we read */
};

/* Reads the message in front. ret_used: its bytes. Outcomes: DBUS_MORE, DBUS_BAD. */
int dbus_decode(struct span bytes, struct dbus_message *ret, size_t *ret_used) MUST_USE;

/* Appends a call without arguments, in little endian; `serial` is not 0. */
struct dbus_call {
    uint32_t serial;
    const char *destination; /* NULL: none, on a connection without a bus */
    const char *path;
    const char *interface;
    const char *member;
};
void dbus_put_call(struct buf *to, const struct dbus_call *call);

/* Rows of a body of signature a(ssssssouso), as org.freedesktop.systemd1.Manager.ListUnits answers.
 */
struct dbus_units {
    struct span bytes; /* of the body */
    size_t at, end;
    bool is_big_endian;
    bool is_bad; /* set by the call that found it */
};
struct dbus_unit {
    struct span name, load_state, active_state, sub_state;
};
/* Outcomes: DBUS_BAD. */
int dbus_units_begin(const struct dbus_message *message, struct dbus_units *ret) MUST_USE;
/* False at the end, or when what follows is bad. */
bool dbus_units_next(struct dbus_units *units, struct dbus_unit *ret);
