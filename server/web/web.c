/* SPDX-License-Identifier: Apache-2.0 */
#include "server/web/web.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/file.h"
#include "common/base/text.h"
#include "common/log/log.h"
#include "server/web/inside.h"

#define BACKLOG 128
#define ACCEPTS_PER_ROUND 64
#define NO_DESCRIPTORS_WAIT_US 1000000

/* ---- listening ---- */

/* At the limit an idle connection makes room; where all are at work the new one is refused. */
static bool has_room(struct web *web, const char *peer)
{
    if (web->loop.n_connections < web->loop.limits.max_connections)
        return true;
    if (connection_close_idlest(web))
        return true;
    atomic_fetch_add(&web->counters.n_refused, 1);
    log_peer(LOG_WARN, "connection_refused", LOG_S("peer", peer),
             LOG_S("reason", "as many HTTPS connections as web.max_connections allows"));
    return false;
}

static void pause_accepting(struct web *web)
{
    log_peer(LOG_ERROR, "cannot_accept", LOG_S("reason", strerror(errno)),
             LOG_S("remedy", "raise the limit of open files (LimitNOFILE=) of the hub"));
    loop_file_remove(web->core, &web->loop.listener);
    if (loop_timer_arm_in(web->core, &web->loop.listener_timer, NO_DESCRIPTORS_WAIT_US) != 0)
        log_plain(LOG_ERROR, "https_listener_is_lost");
}

static void on_listener_timer(struct loop_timer *timer)
{
    struct web *web = timer->ctx;

    if (!web->loop.is_stopping && loop_file_add(web->core, &web->loop.listener) != 0)
        log_plain(LOG_ERROR, "https_listener_is_lost");
}

static void on_listener(struct loop_file *file, uint32_t events)
{
    struct web *web = file->ctx;

    (void) events;
    for (int i = 0; i < ACCEPTS_PER_ROUND; i++) {
        struct sockaddr_storage address = { .ss_family = AF_UNSPEC };
        socklen_t len = sizeof(address);
        char text[PEER_TEXT_BYTES];
        struct peer_address peer;
        int on = 1;
        int fd =
            accept4(file->fd, (struct sockaddr *) &address, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
                pause_accepting(web);
            return;
        }
        atomic_fetch_add(&web->counters.n_accepted, 1);
        if (peer_of_sockaddr((const struct sockaddr *) &address, &peer) != 0) {
            close(fd);
            continue;
        }
        peer_put_text(&peer, text);
        if (!has_room(web, text)) {
            close(fd);
            continue;
        }
        (void) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        connection_new(web, fd, &peer, peer_nets_have(&web->loop.limits.proxies, &peer));
    }
}

/* Outcomes: WEB_IN_USE. */
static int bind_one(const struct addrinfo *address, int *ret_fd)
{
    CLEANUP(fd_closep)
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int on = 1;

    if (fd < 0)
        return errno == EAFNOSUPPORT ? WEB_IN_USE : fault(-errno, "cannot make a socket");
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0)
        return fault(-errno, "cannot set up a socket");
    if (bind(fd, address->ai_addr, address->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0)
        return WEB_IN_USE;
    *ret_fd = fd;
    fd = -1;
    return 0;
}

/* Outcomes: WEB_IN_USE. */
static int open_listener(struct web *web)
{
    const struct addrinfo hints = { .ai_flags = AI_PASSIVE | AI_NUMERICSERV,
                                    .ai_socktype = SOCK_STREAM };
    struct addrinfo *addresses = NULL;
    struct sockaddr_storage bound;
    socklen_t len = sizeof(bound);
    char port[8];
    uint64_t number;
    int fd = -1;
    int r;

    snprintf(port, sizeof(port), "%u", (unsigned) web->options.port);
    if (getaddrinfo(web->options.host, port, &hints, &addresses) != 0)
        return WEB_IN_USE;
    r = bind_one(addresses, &fd);
    freeaddrinfo(addresses);
    if (r != 0)
        return pass(r);
    if (getsockname(fd, (struct sockaddr *) &bound, &len) < 0) {
        r = fault(-errno, "cannot ask for the port");
        close(fd);
        return r;
    }
    r = getnameinfo((const struct sockaddr *) &bound, len, NULL, 0, port, sizeof(port),
                    NI_NUMERICSERV);
    ensure(r == 0 && text_to_u64(port, &number) == 0);
    web->port = (uint16_t) number;
    web->loop.listener =
        (struct loop_file){ .fd = fd, .events = EPOLLIN, .fn = on_listener, .ctx = web };
    return 0;
}

static void close_listener(struct web *web)
{
    loop_file_remove(web->core, &web->loop.listener);
    loop_timer_disarm(web->core, &web->loop.listener_timer);
    fd_closep(&web->loop.listener.fd);
}

/* ---- the thread ---- */

void web_connection_gone(struct web *web)
{
    ensure(web->loop.n_connections > 0);
    web->loop.n_connections--;
    atomic_fetch_sub(&web->counters.n_connections, 1);
    if (web->loop.is_stopping && web->loop.n_connections == 0)
        loop_stop(web->core);
}

static void on_drain_timer(struct loop_timer *timer)
{
    struct web *web = timer->ctx;

    connection_cut_all(web);
    loop_stop(web->core);
}

static void begin_to_stop(struct web *web, mono_us cut_at)
{
    if (!web->loop.is_stopping) {
        web->loop.is_stopping = true;
        close_listener(web);
        connection_end_all(web);
    }
    if (web->loop.n_connections == 0 ||
        loop_timer_arm(web->core, &web->loop.drain_timer, cut_at) != 0)
        loop_stop(web->core);
}

static void hand_back(struct web_job *done)
{
    while (done) {
        struct web_job *job = done;

        done = job->next;
        job->is_away = false;
        if (job->connection)
            connection_job_is_back(job->connection, job);
        else
            web_job_free(job);
    }
}

static void on_wakeup(struct loop_wakeup *wakeup)
{
    struct web *web = wakeup->ctx;
    struct web_job *done;
    bool is_stopping;
    mono_us cut_at;

    pthread_mutex_lock(&web->shared.lock);
    done = web->shared.done;
    web->shared.done = NULL;
    is_stopping = web->shared.is_stopping;
    cut_at = web->shared.cut_at;
    web->loop.limits = web->shared.limits;
    pthread_mutex_unlock(&web->shared.lock);
    hand_back(done);
    connection_go_on_all(web);
    if (is_stopping)
        begin_to_stop(web, cut_at);
}

static void *thread_main(void *arg)
{
    struct web *web = arg;

    /* A fault is in the log with its reason. */
    if (loop_run(web->core) != 0)
        log_event(LOG_ERROR, "https_failed",
                  LOG_S("remedy", "nothing is answered by HTTPS until the hub is started again"));
    connection_cut_all(web);
    return NULL;
}

/* ---- public ---- */

static int make(struct web *web)
{
    int r = loop_new(&web->core);

    if (r != 0)
        return pass(r);
    web->loop.wakeup = (struct loop_wakeup){ .fn = on_wakeup, .ctx = web };
    web->loop.listener_timer = (struct loop_timer){ .fn = on_listener_timer, .ctx = web };
    web->loop.drain_timer = (struct loop_timer){ .fn = on_drain_timer, .ctx = web };
    r = loop_wakeup_add(web->core, &web->loop.wakeup);
    if (r == 0)
        r = open_listener(web);
    return pass(r);
}

int web_new(struct web **ret, const struct web_options *options)
{
    struct web *web = calloc(1, sizeof(*web));
    int r;

    ensure((options->context == NULL) == (options->pki == NULL));
    if (!web)
        return fault(-ENOMEM, "no memory for the web");
    web->options = *options;
    web->loop.listener.fd = -1;
    web->loop.limits = options->limits;
    web->shared.limits = options->limits;
    web->shared.context = options->context ? tls_context_ref(options->context) : NULL;
    pthread_mutex_init(&web->shared.lock, NULL);
    list_init(&web->loop.connections);
    list_init(&web->loop.idle);
    list_init(&web->loop.yielded);
    atomic_init(&web->state, WEB_STARTING);
    r = make(web);
    web->options.host = NULL; /* the caller's */
    if (r != 0) {
        web_free(web);
        return pass(r);
    }
    *ret = web;
    return 0;
}

int web_start(struct web *web)
{
    int r = loop_file_add(web->core, &web->loop.listener);

    ensure(!web->is_started);
    if (r != 0)
        return pass(r);
    r = pthread_create(&web->thread, NULL, thread_main, web);
    if (r != 0)
        return fault(-r, "cannot start the web's thread");
    web->is_started = true;
    return 0;
}

uint16_t web_port(const struct web *web)
{
    return web->port;
}

void web_set_context(struct web *web, struct tls_context *context)
{
    struct tls_context *old;

    pthread_mutex_lock(&web->shared.lock);
    old = web->shared.context;
    web->shared.context = tls_context_ref(context);
    pthread_mutex_unlock(&web->shared.lock);
    tls_context_unref(old);
}

void web_set_limits(struct web *web, const struct web_limits *limits)
{
    pthread_mutex_lock(&web->shared.lock);
    web->shared.limits = *limits;
    pthread_mutex_unlock(&web->shared.lock);
    loop_wakeup_fire(&web->loop.wakeup);
}

void web_set_state(struct web *web, enum web_state state)
{
    atomic_store(&web->state, state);
}

void web_stop(struct web *web, int64_t patience_us)
{
    pthread_mutex_lock(&web->shared.lock);
    web->shared.is_stopping = true;
    web->shared.cut_at.us = clock_mono().us + patience_us;
    pthread_mutex_unlock(&web->shared.lock);
    loop_wakeup_fire(&web->loop.wakeup);
}

void web_join(struct web *web)
{
    if (!web->is_started || web->is_joined)
        return;
    web->is_joined = true;
    ensure(pthread_join(web->thread, NULL) == 0);
}

struct web *web_free(struct web *web)
{
    if (!web)
        return NULL;
    if (web->is_started && !web->is_joined) {
        web_stop(web, 0);
        web_join(web);
    }
    ensure(list_is_empty(&web->loop.connections));
    /* Whoever waited for these is gone. */
    while (web->shared.done) {
        struct web_job *job = web->shared.done;

        web->shared.done = job->next;
        job->is_away = false;
        web_job_free(job);
    }
    if (web->core) {
        close_listener(web);
        loop_timer_disarm(web->core, &web->loop.drain_timer);
        loop_wakeup_remove(web->core, &web->loop.wakeup);
        loop_free(web->core);
    }
    tls_context_unref(web->shared.context);
    pthread_mutex_destroy(&web->shared.lock);
    free(web);
    return NULL;
}

void web_get_stats(const struct web *web, struct web_stats *ret)
{
    const struct web_counters *from = &web->counters;

    *ret = (struct web_stats){
        .n_connections = atomic_load(&from->n_connections),
        .n_accepted = atomic_load(&from->n_accepted),
        .n_refused = atomic_load(&from->n_refused),
        .n_handshakes_failed = atomic_load(&from->n_handshakes_failed),
        .n_timeouts = atomic_load(&from->n_timeouts),
        .n_refused_address = atomic_load(&from->n_refused_address),
        .n_delayed = atomic_load(&from->n_delayed),
        .n_requests = atomic_load(&from->n_requests),
        .n_failed = atomic_load(&from->n_failed),
    };
}
