/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The door: a thread that accepts connections and keeps each until it has shown the first TLS
 * record whole, behind a PROXY header where one is due; then the socket goes to core. So silence
 * and half a ClientHello cost a few hundred bytes here, and no cryptography.
 *
 * Until then the bytes are only looked at (MSG_PEEK), and SO_RCVLOWAT keeps the socket quiet until
 * as many are there as are needed; only the PROXY header is taken.
 *
 * Start here: on_listener().
 */

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/file.h"
#include "common/log/log.h"
#include "common/rpc/server/private.h"

#define ACCEPTS_PER_ROUND 64
/* A fleet comes back all at once; the kernel makes it what net.core.somaxconn allows. */
#define BACKLOG 4096
#define NO_DESCRIPTORS_WAIT_US 100000
#define SWEEPS_PER_TIMEOUT 20
#define MIN_SWEEP_US 1000
#define MAX_SWEEP_US 250000

/* RFC 8446 section 5.1: type 22 is handshake, then 0x0301 (0x0303 later), then the length. */
#define RECORD_HEAD_BYTES 5
#define RECORD_HANDSHAKE 22
#define MAX_RECORD_BYTES 16384

/* ---- the end of one that waits ---- */

static void give_up_socket(struct guest *guest)
{
    struct acceptor *acceptor = guest->acceptor;
    int fd = guest->file.fd;

    loop_file_remove(acceptor->core, &guest->file);
    guest->is_loops = false;
    pthread_mutex_lock(&acceptor->shared.lock);
    guest->shared.fd = -1;
    acceptor->shared.stats.n_connections_now--;
    pthread_mutex_unlock(&acceptor->shared.lock);
    close(fd);
}

/* One that waits goes with its socket; one of core's is shut down, and core lets go of it. */
static void end_on_loop(struct guest *guest, enum rpc_handshake_result result, const char *detail)
{
    atomic_fetch_add_explicit(&guest->refs, 1, memory_order_relaxed);
    if (guest_end(guest, result, detail) && guest->is_loops)
        give_up_socket(guest);
    guest_unref(guest);
}

/* ---- the first bytes ---- */

static void hand_over(struct guest *guest)
{
    struct acceptor *acceptor = guest->acceptor;
    struct sockaddr_storage address;
    socklen_t len = peer_to_sockaddr(&guest->peer, &address);
    int fd = guest->file.fd;
    int one = 1;

    loop_file_remove(acceptor->core, &guest->file);
    (void) setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &one, sizeof(one));
    guest->is_loops = false;
    /* Only the loop ends those that wait. */
    ensure(guest_set_stage(guest, STAGE_SHAKING, guest->shared.due));
    if (!acceptor->is_tls)
        (void) guest_end(guest, RPC_HANDSHAKE_FINISHED, "");
    rpc_passive_take(acceptor->passive, fd, (const struct sockaddr *) &address, len,
                     &guest->handshake);
}

/* False: the socket does not say how many bytes it wants first. */
static bool wait_for(struct guest *guest, size_t n_bytes)
{
    int wanted = (int) n_bytes;

    return setsockopt(guest->file.fd, SOL_SOCKET, SO_RCVLOWAT, &wanted, sizeof(wanted)) == 0;
}

/* What to do with the first bytes. */
enum look { LOOK_MORE, LOOK_GOOD, LOOK_BAD };

static enum look
look_at_start(bool is_tls, struct span seen, size_t *ret_need, enum rpc_handshake_result *ret_why)
{
    size_t len;

    *ret_need = RECORD_HEAD_BYTES;
    if (proxy_is_begun(seen)) {
        *ret_why = RPC_HANDSHAKE_PROXY_FORBIDDEN;
        return LOOK_BAD;
    }
    if (!is_tls)
        return LOOK_GOOD;
    *ret_why = RPC_HANDSHAKE_NOT_TLS;
    if (seen.data[0] != RECORD_HANDSHAKE || (seen.len > 1 && seen.data[1] != 3))
        return LOOK_BAD;
    if (seen.len < RECORD_HEAD_BYTES)
        return LOOK_MORE;
    len = (size_t) seen.data[3] << 8 | seen.data[4];
    if (len == 0 || len > MAX_RECORD_BYTES)
        return LOOK_BAD;
    *ret_need = RECORD_HEAD_BYTES + len;
    return seen.len < *ret_need ? LOOK_MORE : LOOK_GOOD;
}

static bool admit(struct guest *guest);

/* The PROXY header is there whole: takes it, and asks the door about the client. */
static bool take_proxy_header(struct guest *guest, const struct proxy *proxy)
{
    uint8_t bytes[PROXY_MAX_BYTES];

    if (recv(guest->file.fd, bytes, proxy->n_bytes, 0) != (ssize_t) proxy->n_bytes) {
        end_on_loop(guest, RPC_HANDSHAKE_CLOSED, "");
        return false;
    }
    guest->is_proxy = false;
    if (!proxy->has_peer)
        return true;
    pthread_mutex_lock(&guest->acceptor->shared.lock);
    guest->peer = proxy->peer; /* others count neighbours */
    peer_put_text(&proxy->peer, guest->text);
    pthread_mutex_unlock(&guest->acceptor->shared.lock);
    return admit(guest);
}

/* Returns whether to look again. */
static bool look_at_proxy(struct guest *guest, struct span seen)
{
    struct proxy proxy;
    int r = proxy_read(seen, &proxy);

    if (r == 0)
        return take_proxy_header(guest, &proxy);
    if (r == PEER_UNFIT || !wait_for(guest, proxy.n_bytes))
        end_on_loop(guest, RPC_HANDSHAKE_PROXY_MISSING, "");
    return false;
}

/* Returns whether to look again. */
static bool look(struct guest *guest)
{
    uint8_t bytes[RECORD_HEAD_BYTES + MAX_RECORD_BYTES];
    enum rpc_handshake_result why;
    struct span seen;
    size_t need;
    ssize_t n;

    n = recv(guest->file.fd, bytes, sizeof(bytes), MSG_PEEK | MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (n <= 0) {
        end_on_loop(guest, RPC_HANDSHAKE_CLOSED, n < 0 ? strerror(errno) : "");
        return false;
    }
    seen = span_of(bytes, (size_t) n);
    if (guest->is_proxy)
        return look_at_proxy(guest, seen);
    switch (look_at_start(guest->acceptor->is_tls, seen, &need, &why)) {
    case LOOK_MORE:
        if (!wait_for(guest, need))
            end_on_loop(guest, RPC_HANDSHAKE_NOT_TLS, "");
        break;
    case LOOK_BAD:
        end_on_loop(guest, why, "");
        break;
    case LOOK_GOOD:
        hand_over(guest);
        break;
    }
    return false;
}

static void on_bytes(struct loop_file *file, uint32_t events)
{
    struct guest *guest = file->ctx;

    atomic_fetch_add_explicit(&guest->refs, 1, memory_order_relaxed);
    while (look(guest))
        ;
    /* Nothing more comes to one that still waits. */
    if (guest->is_loops && events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        end_on_loop(guest, RPC_HANDSHAKE_CLOSED, "");
    guest_unref(guest);
}

/* ---- who may enter ---- */

static void arm_sweep(struct acceptor *acceptor)
{
    int64_t every_us;

    if (acceptor->loop.sweep.slot)
        return;
    pthread_mutex_lock(&acceptor->shared.lock);
    every_us = acceptor->shared.limits.handshake_timeout_us / SWEEPS_PER_TIMEOUT;
    pthread_mutex_unlock(&acceptor->shared.lock);
    if (every_us < MIN_SWEEP_US)
        every_us = MIN_SWEEP_US;
    if (every_us > MAX_SWEEP_US)
        every_us = MAX_SWEEP_US;
    if (loop_timer_arm_in(acceptor->core, &acceptor->loop.sweep, every_us) != 0)
        log_plain(LOG_ERROR, "handshakes_have_no_timer");
}

/* Asks the door; one that may come later is not looked at before. Returns whether to go on. */
static bool admit(struct guest *guest)
{
    struct acceptor *acceptor = guest->acceptor;
    enum rpc_admission admission = RPC_ADMIT;
    int64_t delay_us = 0;

    if (acceptor->door.may_enter)
        admission = acceptor->door.may_enter(acceptor->door.ctx, guest->text, &delay_us);
    if (admission == RPC_ADMIT)
        return true;
    pthread_mutex_lock(&acceptor->shared.lock);
    if (admission == RPC_REFUSE)
        acceptor->shared.stats.n_refused_address++;
    else
        acceptor->shared.stats.n_delayed++;
    pthread_mutex_unlock(&acceptor->shared.lock);
    if (admission == RPC_REFUSE) {
        log_peer(LOG_WARN, "connection_refused", LOG_S("peer", guest->text),
                 LOG_S("reason", "too many connections of this address"));
        end_on_loop(guest, HANDSHAKE_UNTOLD, "");
        return false;
    }
    loop_file_remove(acceptor->core, &guest->file);
    ensure(guest_set_stage(guest, STAGE_DELAYED, (mono_us){ clock_mono().us + delay_us }));
    return false;
}

static void watch(struct guest *guest)
{
    if (loop_file_add(guest->acceptor->core, &guest->file) != 0)
        end_on_loop(guest, RPC_HANDSHAKE_CLOSED, "the hub cannot watch it");
}

/* Room for one more handshake, by ending another. */
static void make_room(struct acceptor *acceptor)
{
    struct guest *victim;
    bool is_full;

    pthread_mutex_lock(&acceptor->shared.lock);
    is_full = acceptor->shared.n_handshakes >= acceptor->shared.limits.max_handshakes ||
              acceptor->shared.stats.n_connections_now >= acceptor->shared.limits.max_connections;
    pthread_mutex_unlock(&acceptor->shared.lock);
    victim = is_full ? handshakes_victim(acceptor) : NULL;
    if (!victim)
        return;
    end_on_loop(victim, RPC_HANDSHAKE_CROWDED_OUT, "");
    guest_unref(victim);
}

/* Whether connections that are past their handshake leave room. */
static bool has_room(struct acceptor *acceptor)
{
    bool has;

    pthread_mutex_lock(&acceptor->shared.lock);
    acceptor->shared.stats.n_accepted++;
    has = acceptor->shared.stats.n_connections_now - acceptor->shared.n_handshakes <
          acceptor->shared.limits.max_connections;
    if (!has)
        acceptor->shared.stats.n_refused_limit++;
    pthread_mutex_unlock(&acceptor->shared.lock);
    return has;
}

static void let_in(struct acceptor *acceptor, int fd, const struct peer_address *peer)
{
    struct guest *guest;
    char text[PEER_TEXT_BYTES];

    if (!has_room(acceptor)) {
        peer_put_text(peer, text);
        log_peer(LOG_WARN, "connection_refused", LOG_S("peer", text),
                 LOG_S("reason", "as many gRPC connections as listen.max_connections allows"));
        close(fd);
        return;
    }
    make_room(acceptor);
    guest = guest_new(acceptor, fd, peer);
    if (!guest) {
        log_plain(LOG_ERROR, "no_memory_for_a_connection");
        close(fd);
        return;
    }
    guest->is_loops = true;
    guest->file = (struct loop_file){
        .fd = fd, .events = EPOLLIN | EPOLLRDHUP, .fn = on_bytes, .ctx = guest
    };
    pthread_mutex_lock(&acceptor->shared.lock);
    guest->is_proxy = peer_nets_have(&acceptor->shared.proxies, peer);
    pthread_mutex_unlock(&acceptor->shared.lock);
    arm_sweep(acceptor);
    /* A proxy's client is asked about once it is known. */
    if (guest->is_proxy || admit(guest))
        watch(guest);
}

/* ---- listening ---- */

static void pause_listening(struct acceptor *acceptor)
{
    log_peer(LOG_ERROR, "cannot_accept", LOG_S("reason", strerror(errno)),
             LOG_S("remedy", "raise the limit of open files (LimitNOFILE=) of the hub"));
    pthread_mutex_lock(&acceptor->shared.lock);
    acceptor->shared.stats.n_no_descriptors++;
    pthread_mutex_unlock(&acceptor->shared.lock);
    for (size_t i = 0; i < acceptor->loop.n_listeners; i++)
        loop_file_remove(acceptor->core, &acceptor->loop.listeners[i]);
    if (loop_timer_arm_in(acceptor->core, &acceptor->loop.resume, NO_DESCRIPTORS_WAIT_US) != 0)
        log_plain(LOG_ERROR, "grpc_listener_is_lost");
}

static int listen_all(struct acceptor *acceptor)
{
    int r = 0;

    for (size_t i = 0; i < acceptor->loop.n_listeners && r == 0; i++)
        r = loop_file_add(acceptor->core, &acceptor->loop.listeners[i]);
    return pass(r);
}

static void on_resume(struct loop_timer *timer)
{
    struct acceptor *acceptor = timer->ctx;

    if (!acceptor->loop.is_stopped && listen_all(acceptor) != 0)
        log_plain(LOG_ERROR, "grpc_listener_is_lost");
}

static void on_listener(struct loop_file *file, uint32_t events)
{
    struct acceptor *acceptor = file->ctx;

    (void) events;
    for (int i = 0; i < ACCEPTS_PER_ROUND; i++) {
        struct sockaddr_storage address = { .ss_family = AF_UNSPEC };
        socklen_t len = sizeof(address);
        struct peer_address peer;
        int fd =
            accept4(file->fd, (struct sockaddr *) &address, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
                pause_listening(acceptor);
            return;
        }
        if (peer_of_sockaddr((const struct sockaddr *) &address, &peer) == 0)
            let_in(acceptor, fd, &peer);
        else
            close(fd);
    }
}

/* ---- time ---- */

/* One that is due, referenced; NULL: none. */
static struct guest *next_due(struct acceptor *acceptor, struct list *list, mono_us now)
{
    struct guest *due = NULL;

    pthread_mutex_lock(&acceptor->shared.lock);
    list_each(node, list)
    {
        struct guest *it = container_of(node, struct guest, shared.node);

        if (it->shared.due.us <= now.us) {
            atomic_fetch_add_explicit(&it->refs, 1, memory_order_relaxed);
            due = it;
            break;
        }
    }
    pthread_mutex_unlock(&acceptor->shared.lock);
    return due;
}

static void end_late(struct acceptor *acceptor, struct list *list, mono_us now)
{
    struct guest *late;

    while ((late = next_due(acceptor, list, now)) != NULL) {
        end_on_loop(late, RPC_HANDSHAKE_TIMED_OUT, "");
        guest_unref(late);
    }
}

static void let_go_on(struct acceptor *acceptor, mono_us now)
{
    struct guest *delayed;

    while ((delayed = next_due(acceptor, &acceptor->shared.delayed, now)) != NULL) {
        mono_us until;

        pthread_mutex_lock(&acceptor->shared.lock);
        until.us = now.us + acceptor->shared.limits.handshake_timeout_us;
        pthread_mutex_unlock(&acceptor->shared.lock);
        if (guest_set_stage(delayed, STAGE_WAITING, until))
            watch(delayed);
        guest_unref(delayed);
    }
}

static void on_sweep(struct loop_timer *timer)
{
    struct acceptor *acceptor = timer->ctx;
    mono_us now = clock_mono();
    bool has_any;

    let_go_on(acceptor, now);
    end_late(acceptor, &acceptor->shared.waiting, now);
    end_late(acceptor, &acceptor->shared.shaking, now);
    pthread_mutex_lock(&acceptor->shared.lock);
    has_any = acceptor->shared.n_handshakes > 0;
    pthread_mutex_unlock(&acceptor->shared.lock);
    if (has_any)
        arm_sweep(acceptor);
}

/* ---- start ---- */

static int bind_one(const struct addrinfo *address, uint16_t port, int *ret_fd)
{
    struct sockaddr_storage to = { 0 };
    int on = 1, off = 0;
    CLEANUP(fd_closep)
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return errno == EAFNOSUPPORT ? RPC_IN_USE : fault(-errno, "cannot make a socket");
    memcpy(&to, address->ai_addr, address->ai_addrlen);
    if (address->ai_family == AF_INET6) {
        (void) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
        ((struct sockaddr_in6 *) (void *) &to)->sin6_port = htons(port);
    } else {
        ((struct sockaddr_in *) (void *) &to)->sin_port = htons(port);
    }
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0)
        return fault(-errno, "cannot set up a socket");
    if (bind(fd, (const struct sockaddr *) &to, address->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0)
        return RPC_IN_USE;
    *ret_fd = fd;
    fd = -1;
    return 0;
}

static int learn_port(int fd, uint16_t *ret)
{
    struct sockaddr_storage bound;
    socklen_t len = sizeof(bound);
    struct peer_address self;

    if (getsockname(fd, (struct sockaddr *) &bound, &len) < 0)
        return fault(-errno, "cannot ask for the port");
    if (peer_of_sockaddr((const struct sockaddr *) &bound, &self) != 0)
        return fault(-EINVAL, "a listener of another family");
    *ret = self.port;
    return 0;
}

/* "HOST:PORT" -> HOST; "[::1]:80" -> "::1". Outcomes: RPC_IN_USE for what is no address. */
static int split(const char *address, char *ret_host, size_t host_bytes, const char **ret_port)
{
    const char *colon = strrchr(address, ':');
    size_t len = colon ? (size_t) (colon - address) : 0;

    if (!colon || !colon[1] || len >= host_bytes)
        return RPC_IN_USE;
    if (len >= 2 && address[0] == '[' && address[len - 1] == ']') {
        address++;
        len -= 2;
    }
    memcpy(ret_host, address, len);
    ret_host[len] = '\0';
    *ret_port = colon + 1;
    return 0;
}

/* Every address of the name, with the port that the first one got. Outcomes: RPC_IN_USE. */
static int bind_all(struct acceptor *acceptor, const struct addrinfo *addresses, uint16_t *ret_port)
{
    uint16_t port = *ret_port;
    int r = RPC_IN_USE;

    for (const struct addrinfo *it = addresses; it; it = it->ai_next) {
        struct loop_file *file = &acceptor->loop.listeners[acceptor->loop.n_listeners];
        int fd = -1;

        if (acceptor->loop.n_listeners ==
            sizeof(acceptor->loop.listeners) / sizeof(acceptor->loop.listeners[0]))
            break;
        r = bind_one(it, port, &fd);
        if (r == RPC_IN_USE && acceptor->loop.n_listeners > 0)
            continue; /* a name whose other address this machine does not have */
        if (r != 0)
            return r < 0 ? pass(r) : RPC_IN_USE;
        *file =
            (struct loop_file){ .fd = fd, .events = EPOLLIN, .fn = on_listener, .ctx = acceptor };
        acceptor->loop.n_listeners++;
        r = learn_port(fd, &port);
        if (r < 0)
            return pass(r);
    }
    *ret_port = port;
    return acceptor->loop.n_listeners ? 0 : RPC_IN_USE;
}

static int listen_on(struct acceptor *acceptor, const char *address, uint16_t *ret_port)
{
    const struct addrinfo hints = { .ai_flags = AI_PASSIVE | AI_NUMERICSERV,
                                    .ai_socktype = SOCK_STREAM };
    struct addrinfo *addresses = NULL;
    char host[256];
    const char *port;
    unsigned long number;
    int r = split(address, host, sizeof(host), &port);

    if (r != 0)
        return RPC_IN_USE;
    number = strtoul(port, NULL, 10);
    if (number > UINT16_MAX)
        return RPC_IN_USE;
    *ret_port = (uint16_t) number;
    /* Everybody on 0.0.0.0 is everybody: where there is IPv6, its wildcard serves both. */
    if (strcmp(host, "0.0.0.0") == 0 && getaddrinfo("::", port, &hints, &addresses) == 0) {
        r = bind_all(acceptor, addresses, ret_port);
        freeaddrinfo(take(addresses));
        if (r <= 0)
            return pass(r);
    }
    if (getaddrinfo(host, port, &hints, &addresses) != 0)
        return RPC_IN_USE;
    r = bind_all(acceptor, addresses, ret_port);
    freeaddrinfo(addresses);
    return r < 0 ? pass(r) : r;
}

static void on_wakeup(struct loop_wakeup *wakeup)
{
    struct acceptor *acceptor = wakeup->ctx;

    if (acceptor->loop.is_stopped)
        return;
    acceptor->loop.is_stopped = true;
    loop_timer_disarm(acceptor->core, &acceptor->loop.resume);
    for (size_t i = 0; i < acceptor->loop.n_listeners; i++) {
        loop_file_remove(acceptor->core, &acceptor->loop.listeners[i]);
        fd_closep(&acceptor->loop.listeners[i].fd);
    }
    acceptor->loop.n_listeners = 0;
    end_late(acceptor, &acceptor->shared.delayed, (mono_us){ INT64_MAX });
    end_late(acceptor, &acceptor->shared.waiting, (mono_us){ INT64_MAX });
}

static int make(struct acceptor *acceptor)
{
    int r = loop_new(&acceptor->core);

    if (r != 0)
        return pass(r);
    acceptor->loop.sweep = (struct loop_timer){ .fn = on_sweep, .ctx = acceptor };
    acceptor->loop.resume = (struct loop_timer){ .fn = on_resume, .ctx = acceptor };
    acceptor->loop.wakeup = (struct loop_wakeup){ .fn = on_wakeup, .ctx = acceptor };
    return fold(loop_wakeup_add(acceptor->core, &acceptor->loop.wakeup));
}

int acceptor_new(struct acceptor **ret,
                 const struct rpc_server_options *options,
                 struct rpc_passive *passive,
                 uint16_t *ret_port)
{
    struct acceptor *acceptor = calloc(1, sizeof(*acceptor));
    int r;

    if (!acceptor)
        return fault(-ENOMEM, "no memory for a listener");
    atomic_init(&acceptor->refs, 1);
    acceptor->door = options->door;
    acceptor->is_tls = options->credentials != NULL;
    acceptor->passive = passive;
    acceptor->shared.limits = handshakes_limits(&options->accept);
    if (options->trusted_proxies)
        acceptor->shared.proxies = *options->trusted_proxies;
    pthread_mutex_init(&acceptor->shared.lock, NULL);
    pthread_mutex_init(&acceptor->door_lock, NULL);
    list_init(&acceptor->shared.delayed);
    list_init(&acceptor->shared.waiting);
    list_init(&acceptor->shared.shaking);
    r = make(acceptor);
    if (r == 0)
        r = listen_on(acceptor, options->address, ret_port);
    if (r == 0) {
        *ret = acceptor;
        return 0;
    }
    acceptor_join(acceptor);
    (void) acceptor_unref(acceptor);
    return r < 0 ? pass(r) : RPC_IN_USE;
}

static void *thread_main(void *arg)
{
    struct acceptor *acceptor = arg;

    /* A fault is in the log with its reason. */
    if (loop_run(acceptor->core) != 0)
        log_event(LOG_ERROR, "grpc_listener_failed",
                  LOG_S("remedy", "no connection is accepted until the hub is started again"));
    return NULL;
}

int acceptor_start(struct acceptor *acceptor)
{
    sigset_t all, before;
    int r = listen_all(acceptor);

    if (r != 0)
        return pass(r);
    /* Signals are the main loop's. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    r = pthread_create(&acceptor->thread, NULL, thread_main, acceptor);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    acceptor->is_running = r == 0;
    return r ? fault(-r, "no thread to accept connections") : 0;
}

/* ---- stop ---- */

void acceptor_stop(struct acceptor *acceptor)
{
    pthread_mutex_lock(&acceptor->shared.lock);
    acceptor->shared.is_stopping = true;
    pthread_mutex_unlock(&acceptor->shared.lock);
    loop_wakeup_fire(&acceptor->loop.wakeup);
}

void acceptor_join(struct acceptor *acceptor)
{
    if (!acceptor->core)
        return;
    if (acceptor->is_running) {
        loop_stop(acceptor->core);
        pthread_join(acceptor->thread, NULL);
        acceptor->is_running = false;
    }
    acceptor_stop(acceptor);
    on_wakeup(&acceptor->loop.wakeup);
    loop_timer_disarm(acceptor->core, &acceptor->loop.sweep);
    loop_wakeup_remove(acceptor->core, &acceptor->loop.wakeup);
    acceptor->core = loop_free(acceptor->core);
    pthread_mutex_lock(&acceptor->door_lock);
    acceptor->is_shut = true;
    pthread_mutex_unlock(&acceptor->door_lock);
}

struct acceptor *acceptor_unref(struct acceptor *acceptor)
{
    if (!acceptor || atomic_fetch_sub_explicit(&acceptor->refs, 1, memory_order_acq_rel) != 1)
        return acceptor;
    ensure(!acceptor->core && acceptor->shared.n_handshakes == 0);
    pthread_mutex_destroy(&acceptor->shared.lock);
    pthread_mutex_destroy(&acceptor->door_lock);
    free(acceptor);
    return NULL;
}
