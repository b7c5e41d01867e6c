#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A handshake that a server answers, as those see it who learn of it: rpc/server embeds one in each
 * connection, its C++ side says on each thread whose handshake runs there, and core's log (rpc.c)
 * and the verifier (credentials.c) report to that one.
 *
 * Private to common/rpc. Thread: any.
 */

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

struct rpc_handshake;
struct rpc_handshake_events {
    void (*ref)(struct rpc_handshake *handshake);
    void (*unref)(struct rpc_handshake *handshake);
    /* Core's words for why. */
    void (*on_failed)(struct rpc_handshake *handshake, const char *text);
    void (*on_broken)(struct rpc_handshake *handshake); /* the peer closed or reset */
    void (*on_finished)(struct rpc_handshake *handshake, bool has_certificate);
    void (*on_gone)(struct rpc_handshake *handshake); /* the connection is; the last one */
};
struct rpc_handshake {
    const struct rpc_handshake_events *events;
    int is_over; /* by rpc_handshake_is_over() and rpc_handshake_end() */
};
bool rpc_handshake_is_over(const struct rpc_handshake *handshake);
void rpc_handshake_end(struct rpc_handshake *handshake);
/* The calling thread's; NULL for none. */
struct rpc_handshake *rpc_handshake_now(void);
/* Returns the one before. */
struct rpc_handshake *rpc_handshake_enter(struct rpc_handshake *handshake);

#ifdef __cplusplus
}
#endif
