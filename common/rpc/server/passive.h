#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Passive: connections that we accepted, in core's hands. The C++ side of rpc/server, as C sees it.
 * Private to this directory.
 *
 * Core has a listener for sockets that somebody else accepted (PassiveListener of 1.85.1), but says
 * neither when a handshake is over nor, where it failed, whose it was: its log has the reason and
 * no peer, and the steps of one handshake run on whatever thread is free. Two things put around it
 * tell:
 *
 *   endpoint   one for each connection, around core's own. It gives the address that we were told
 *              (a proxy's client), knows when the peer closes, and when core lets go of it.
 *   engine     one for each server, around core's event engine. While a connection shakes hands,
 *              its callbacks run with rpc_handshake_now set, and what they hand to another thread
 *              takes it along. So core's log line, and the verifier that core calls once TLS is
 *              done (credentials.c), find the connection they speak of.
 *
 * When the handshake is over both only pass on.
 */

#include <sys/socket.h>

#include <grpc/credentials.h>
#include <grpc/grpc.h>

#include "common/rpc/handshake.h"

#ifdef __cplusplus
extern "C" {
#endif

struct rpc_passive;

/* NULL: no memory. */
struct rpc_passive *rpc_passive_new(void);
/* Of the server, which copies it; with it the server's work runs on our engine. The argument lives
 * as long as `passive`. */
grpc_arg rpc_passive_arg(struct rpc_passive *passive);
/* Before the server starts. */
bool rpc_passive_bind(struct rpc_passive *passive,
                      grpc_server *server,
                      grpc_server_credentials *credentials);
/*
 * Takes the socket, and a reference to `handshake` that is given back when the connection is gone
 * (after on_gone). After the server was started; once it is stopped the socket is closed. Does not
 * block: the work is done on core's threads.
 */
void rpc_passive_take(struct rpc_passive *passive,
                      int take_fd,
                      const struct sockaddr *peer,
                      socklen_t peer_len,
                      struct rpc_handshake *take_handshake);
/* After the server was stopped, before it is destroyed. */
struct rpc_passive *rpc_passive_free(struct rpc_passive *passive);

#ifdef __cplusplus
}
#endif
