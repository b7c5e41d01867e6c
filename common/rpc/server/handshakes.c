/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Connections whose handshake is not over: how many, whose turn it is to go, how they ended.
 *
 * A connection is in one list, of its stage, until its handshake is over; whoever ends it first
 * writes the result. The lists hold one reference, core another once it has the socket.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/log/log.h"
#include "common/rpc/server/private.h"

#define DEFAULT_CONNECTIONS 65536
#define DEFAULT_HANDSHAKES 2048
#define DEFAULT_TIMEOUT_US INT64_C(10000000)

static const char *const names[] = {
#define H(id, name, help) [RPC_HANDSHAKE_##id] = (name),
#include "common/rpc/server/handshake.tbl"
#undef H
};

const char *rpc_handshake_name(enum rpc_handshake_result result)
{
    ensure(result < RPC_N_HANDSHAKE_RESULTS);
    return names[result];
}

struct rpc_accept_limits handshakes_limits(const struct rpc_accept_limits *limits)
{
    struct rpc_accept_limits meant = *limits;

    if (!meant.max_connections)
        meant.max_connections = DEFAULT_CONNECTIONS;
    if (!meant.max_handshakes)
        meant.max_handshakes = DEFAULT_HANDSHAKES;
    if (meant.handshake_timeout_us <= 0)
        meant.handshake_timeout_us = DEFAULT_TIMEOUT_US;
    return meant;
}

/* ---- reasons ---- */

/* What core's line about a failed handshake has in it, the more special first: BoringSSL's error
 * names, and behind them X509_verify_cert_error_string(). */
static const struct {
    const char *part;
    enum rpc_handshake_result result;
} reasons[] = {
    { "certificate has expired", RPC_HANDSHAKE_EXPIRED },
    { "certificate is not yet valid", RPC_HANDSHAKE_NOT_YET_VALID },
    { "self signed certificate in certificate chain", RPC_HANDSHAKE_UNKNOWN_CA },
    { "self signed certificate", RPC_HANDSHAKE_SELF_SIGNED },
    { "issuer certificate", RPC_HANDSHAKE_UNKNOWN_CA },
    { "unable to verify the first certificate", RPC_HANDSHAKE_UNKNOWN_CA },
    { "certificate signature failure", RPC_HANDSHAKE_UNKNOWN_CA },
    { "unsupported certificate purpose", RPC_HANDSHAKE_WRONG_USAGE },
    { "UNSUPPORTED_PROTOCOL", RPC_HANDSHAKE_VERSION },
    { "WRONG_VERSION_NUMBER", RPC_HANDSHAKE_NOT_TLS },
    { "HTTP_REQUEST", RPC_HANDSHAKE_NOT_TLS },
    { "HTTPS_PROXY_REQUEST", RPC_HANDSHAKE_NOT_TLS },
    { "NO_SHARED_CIPHER", RPC_HANDSHAKE_CIPHER },
    { "NO_SHARED_GROUP", RPC_HANDSHAKE_CIPHER },
    { "NO_COMMON_SIGNATURE_ALGORITHMS", RPC_HANDSHAKE_CIPHER },
    { "NO_CIPHERS", RPC_HANDSHAKE_CIPHER },
    { "WRONG_CURVE", RPC_HANDSHAKE_CIPHER },
    { "_ALERT_", RPC_HANDSHAKE_PEER_REFUSED },
    /* OpenSSL's clients send their alert in the clear after the hub has gone over to encryption: to
     * BoringSSL it is a record too short to be one. */
    { "BAD_PACKET_LENGTH", RPC_HANDSHAKE_PEER_REFUSED },
    { "CERTIFICATE_VERIFY_FAILED", RPC_HANDSHAKE_BAD_CERTIFICATE },
};

enum rpc_handshake_result handshakes_reason(const char *text)
{
    for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
        if (strstr(text, reasons[i].part))
            return reasons[i].result;
    return RPC_HANDSHAKE_PROTOCOL;
}

/* ---- what core and its log tell ---- */

static struct guest *of(struct rpc_handshake *handshake)
{
    return container_of(handshake, struct guest, handshake);
}

static void on_ref(struct rpc_handshake *handshake)
{
    atomic_fetch_add_explicit(&of(handshake)->refs, 1, memory_order_relaxed);
}

static void on_unref(struct rpc_handshake *handshake)
{
    guest_unref(of(handshake));
}

/* The first word counts: what follows is mostly its consequence. */
static void hear(struct guest *guest, enum rpc_handshake_result reason, const char *detail)
{
    pthread_mutex_lock(&guest->acceptor->shared.lock);
    if (guest->shared.stage != STAGE_OVER && guest->shared.reason == RPC_HANDSHAKE_FINISHED) {
        guest->shared.reason = reason;
        strncat(guest->shared.detail, detail, sizeof(guest->shared.detail) - 1);
    }
    pthread_mutex_unlock(&guest->acceptor->shared.lock);
}

static void on_failed(struct rpc_handshake *handshake, const char *text)
{
    hear(of(handshake), handshakes_reason(text), text);
}

static void on_broken(struct rpc_handshake *handshake)
{
    hear(of(handshake), RPC_HANDSHAKE_CLOSED, "");
}

static void call_stranger(struct guest *guest)
{
    struct acceptor *acceptor = guest->acceptor;

    if (!acceptor->door.on_stranger)
        return;
    pthread_mutex_lock(&acceptor->door_lock);
    if (!acceptor->is_shut)
        acceptor->door.on_stranger(acceptor->door.ctx, guest->text);
    pthread_mutex_unlock(&acceptor->door_lock);
}

static void on_finished(struct rpc_handshake *handshake, bool has_certificate)
{
    struct guest *guest = of(handshake);

    if (guest_end(guest, RPC_HANDSHAKE_FINISHED, "") && !has_certificate)
        call_stranger(guest);
}

static void on_gone(struct rpc_handshake *handshake)
{
    struct guest *guest = of(handshake);
    struct acceptor *acceptor = guest->acceptor;
    char detail[sizeof(guest->shared.detail)];
    enum rpc_handshake_result reason;

    pthread_mutex_lock(&acceptor->shared.lock);
    guest->shared.fd = -1;
    acceptor->shared.stats.n_connections_now--;
    reason = guest->shared.reason;
    memcpy(detail, guest->shared.detail, sizeof(detail));
    pthread_mutex_unlock(&acceptor->shared.lock);
    (void) guest_end(guest, reason == RPC_HANDSHAKE_FINISHED ? RPC_HANDSHAKE_NO_HTTP2 : reason,
                     detail);
}

static const struct rpc_handshake_events events = {
    .ref = on_ref,
    .unref = on_unref,
    .on_failed = on_failed,
    .on_broken = on_broken,
    .on_finished = on_finished,
    .on_gone = on_gone,
};

/* ---- connections ---- */

struct guest *guest_new(struct acceptor *acceptor, int fd, const struct peer_address *peer)
{
    struct guest *guest = calloc(1, sizeof(*guest));

    if (!guest)
        return NULL;
    guest->handshake.events = &events;
    atomic_init(&guest->refs, 1);
    atomic_fetch_add_explicit(&acceptor->refs, 1, memory_order_relaxed);
    guest->acceptor = acceptor;
    guest->peer = *peer;
    peer_put_text(peer, guest->text);
    guest->shared.fd = fd;
    guest->shared.stage = STAGE_WAITING;
    guest->shared.begun = clock_mono();
    pthread_mutex_lock(&acceptor->shared.lock);
    guest->shared.due.us = guest->shared.begun.us + acceptor->shared.limits.handshake_timeout_us;
    list_append(&acceptor->shared.waiting, &guest->shared.node);
    acceptor->shared.n_handshakes++;
    acceptor->shared.stats.n_connections_now++;
    pthread_mutex_unlock(&acceptor->shared.lock);
    return guest;
}

void guest_unref(struct guest *guest)
{
    if (atomic_fetch_sub_explicit(&guest->refs, 1, memory_order_acq_rel) != 1)
        return;
    ensure(guest->shared.stage == STAGE_OVER && !guest->file.is_added);
    (void) acceptor_unref(guest->acceptor);
    free(guest);
}

bool guest_set_stage(struct guest *guest, enum stage stage, mono_us due)
{
    struct acceptor *acceptor = guest->acceptor;
    struct list *lists[] = {
        [STAGE_DELAYED] = &acceptor->shared.delayed,
        [STAGE_WAITING] = &acceptor->shared.waiting,
        [STAGE_SHAKING] = &acceptor->shared.shaking,
    };
    bool is_alive;

    ensure(stage != STAGE_OVER);
    pthread_mutex_lock(&acceptor->shared.lock);
    is_alive = guest->shared.stage != STAGE_OVER;
    if (is_alive) {
        guest->shared.stage = stage;
        guest->shared.due = due;
        list_remove(&guest->shared.node);
        list_append(lists[stage], &guest->shared.node);
        if (stage == STAGE_SHAKING) /* core's reference */
            atomic_fetch_add_explicit(&guest->refs, 1, memory_order_relaxed);
    }
    pthread_mutex_unlock(&acceptor->shared.lock);
    return is_alive;
}

static void say(const struct guest *guest, enum rpc_handshake_result result, const char *detail)
{
    if (detail[0])
        log_peer(LOG_INFO, "tls_handshake_failed", LOG_S("peer", guest->text),
                 LOG_S("reason", names[result]), LOG_S("error", detail));
    else
        log_peer(LOG_INFO, "tls_handshake_failed", LOG_S("peer", guest->text),
                 LOG_S("reason", names[result]));
}

bool guest_end(struct guest *guest, enum rpc_handshake_result result, const char *detail)
{
    struct acceptor *acceptor = guest->acceptor;
    bool is_mine, is_news;

    pthread_mutex_lock(&acceptor->shared.lock);
    is_mine = guest->shared.stage != STAGE_OVER;
    /* What ends with the server is nobody's failure. */
    is_news = is_mine && result != HANDSHAKE_UNTOLD &&
              (!acceptor->shared.is_stopping || result == RPC_HANDSHAKE_FINISHED);
    if (is_mine) {
        if (guest->shared.stage == STAGE_SHAKING && result != RPC_HANDSHAKE_FINISHED &&
            guest->shared.fd >= 0)
            (void) shutdown(guest->shared.fd, SHUT_RDWR);
        guest->shared.stage = STAGE_OVER;
        list_remove(&guest->shared.node);
        acceptor->shared.n_handshakes--;
        if (is_news)
            acceptor->shared.stats.n_results[result]++;
        rpc_handshake_end(&guest->handshake);
    }
    pthread_mutex_unlock(&acceptor->shared.lock);
    if (is_news && result != RPC_HANDSHAKE_FINISHED) {
        say(guest, result, detail);
        call_stranger(guest);
    }
    if (is_mine)
        guest_unref(guest);
    return is_mine;
}

/* ---- who makes room ---- */

/* How many of a list are of one neighbourhood. */
static size_t count_neighbours(const struct list *list, const struct peer_address *peer)
{
    size_t n = 0;

    list_each(node, list)
    {
        const struct guest *other = container_of(node, struct guest, shared.node);

        n += peer_is_neighbour(&other->peer, peer);
    }
    return n;
}

/* The address with the most, by majority vote over the list (Boyer and Moore) and then a count:
 * whoever has half of it is found; a crowd without one is taken from the front. */
static struct guest *oldest_of_the_most(const struct list *list)
{
    const struct guest *candidate = NULL;
    size_t votes = 0;

    list_each(node, list)
    {
        const struct guest *it = container_of(node, struct guest, shared.node);

        if (votes == 0)
            candidate = it;
        if (peer_is_neighbour(&candidate->peer, &it->peer))
            votes++;
        else
            votes--;
    }
    if (!candidate || count_neighbours(list, &candidate->peer) < 2)
        return candidate ? container_of(list->next, struct guest, shared.node) : NULL;
    list_each(node, list)
    {
        struct guest *it = container_of(node, struct guest, shared.node);

        if (peer_is_neighbour(&candidate->peer, &it->peer))
            return it;
    }
    return NULL;
}

struct guest *handshakes_victim(struct acceptor *acceptor)
{
    const struct list *const order[] = {
        &acceptor->shared.delayed,
        &acceptor->shared.waiting,
        &acceptor->shared.shaking,
    };
    struct guest *victim = NULL;

    pthread_mutex_lock(&acceptor->shared.lock);
    for (size_t i = 0; i < sizeof(order) / sizeof(order[0]) && !victim; i++)
        victim = oldest_of_the_most(order[i]);
    if (victim)
        atomic_fetch_add_explicit(&victim->refs, 1, memory_order_relaxed);
    pthread_mutex_unlock(&acceptor->shared.lock);
    return victim;
}
