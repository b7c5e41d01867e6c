/* SPDX-License-Identifier: Apache-2.0 */

/* Who gets in: what the owner says of addresses, and what trusted proxies say of their clients. */

#include <errno.h>
#include <sys/socket.h>

#include "common/log/log.h"
#include "server/web/inside.h"

int web_read_proxy(struct web *web, int fd, struct proxy *ret)
{
    const ssize_t n = recv(fd, web->loop.scratch, PROXY_MAX_BYTES, MSG_PEEK);
    int r, wanted = 1;

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return PEER_MORE;
    if (n <= 0)
        return PEER_UNFIT;
    r = proxy_read(span_of(web->loop.scratch, (size_t) n), ret);
    if (r == PEER_UNFIT)
        return PEER_UNFIT;
    if (r == PEER_MORE)
        wanted = (int) ret->n_bytes;
    if (setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &wanted, sizeof(wanted)) < 0)
        return PEER_UNFIT;
    if (r == PEER_OK && recv(fd, web->loop.scratch, ret->n_bytes, 0) != (ssize_t) ret->n_bytes)
        return PEER_UNFIT;
    return r == PEER_OK ? PEER_OK : PEER_MORE;
}

enum rpc_admission web_ask_door(struct web *web, const char *peer, int64_t *ret_delay_us)
{
    const struct rpc_door *door = &web->options.door;
    enum rpc_admission admission = RPC_ADMIT;

    if (door->may_enter)
        admission = door->may_enter(door->ctx, peer, ret_delay_us);
    if (admission == RPC_ADMIT_LATER)
        atomic_fetch_add(&web->counters.n_delayed, 1);
    if (admission == RPC_REFUSE) {
        atomic_fetch_add(&web->counters.n_refused_address, 1);
        log_peer(LOG_WARN, "connection_refused", LOG_S("peer", peer),
                 LOG_S("reason", "too many connections of this address"));
    }
    return admission;
}

void web_tell_stranger(struct web *web, const char *peer)
{
    if (web->options.door.on_stranger)
        web->options.door.on_stranger(web->options.door.ctx, peer);
}
