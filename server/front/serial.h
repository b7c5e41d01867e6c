#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Private to server/front: calls with one request and a stream of answers.
 *
 * The request is decoded on the call's thread. Then pieces of work are done on a reader, one at a
 * time: each makes messages, which are sent on the call's thread. The next piece is not begun
 * before the client has taken what was made (all of it is in the call's send queue), so a slow
 * client costs no more than a piece and that queue.
 *
 * Whether the caller may is looked at again before anything is sent, and when the registry changes.
 */

#include "server/front/inside.h"

struct serial;

enum serial_state {
    SERIAL_MORE, /* the next piece at once */
    SERIAL_WAIT, /* when serial_wake() says so */
    SERIAL_LAST, /* the call ends well after what was made */
};

struct serial_kind {
    /*
     * On a reader. `work` is what the first piece put there, NULL before. Makes messages with
     * serial_message(). Returns FAIL_NOT, or why the call ends; unary->detail is filled then.
     * *ret_r goes to the log with a FAIL_FAULT.
     */
    enum front_failure (*piece)(struct serial *serial,
                                void **work,
                                enum serial_state *ret_state,
                                int *ret_r);
    /* When the call is over and no piece runs; `work` may be NULL. No wake comes after it. */
    void (*close)(void *work);
    bool is_endless; /* ends when the hub drains; else it runs to its end */
};

void serial_on_open(struct rpc_call *call, const struct serial_kind *kind);
void serial_on_message(struct rpc_call *call, struct span message);
void serial_on_half_close(struct rpc_call *call);
void serial_on_writable(struct rpc_call *call);
void serial_on_drain(struct rpc_call *call);
void serial_on_closed(struct rpc_call *call, bool was_cancelled);

/* ---- for a piece ---- */

/* The request, who asks, since when; its arena lives from the first piece to the end of the call.
 */
struct unary *serial_unary(struct serial *serial);
/* A new, empty message, behind those made before. NULL: no memory. */
struct buf *serial_message(struct serial *serial) MUST_USE;
/* Nobody waits for an answer any more; `ctx` is the serial. */
bool serial_is_unwanted(void *ctx);
/* Any thread, also while a piece runs; `ctx` is the serial. At most once until a piece has said
 * SERIAL_WAIT again. */
void serial_wake(void *ctx);
