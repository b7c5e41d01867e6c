/* SPDX-License-Identifier: Apache-2.0 */
#include "common/rpc/server/server.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/rpc/server/private.h"

/* Slots that wait for calls, on each queue: as many may arrive in one breath without waiting for a
 * thread. */
#define SLOTS_PER_WORKER 128

/*
 * Each connection holds a buffer for one TLS record that it sends. Answers are small, and most
 * connections idle: half of the largest record saves 8 KiB of what one takes. Not less: a record
 * that fits core's buffer of 8 KiB whole, and ends a write to the byte, makes core send the rest of
 * that buffer too (ssl_protector_protect_flush() of 1.85 leaves its length unset), and the peer
 * ends the connection.
 */
#define TLS_RECORD_BYTES 8448
/*
 * Core's limit also waits for the client's HTTP/2 settings, once TLS is up. Ours on the handshake
 * itself comes first (accept.c), so this one lies behind the longest that a setting allows.
 */
#define SETTINGS_TIMEOUT_MS 75000

/* ---- start ---- */

static void add_limits(struct rpc_args *args, const struct rpc_server_options *options)
{
    rpc_args_add(args, GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, (int) options->max_message_bytes);
    rpc_args_add(args, GRPC_ARG_MAX_CONCURRENT_STREAMS, (int) options->max_streams_per_connection);
    if (options->keepalive_interval_us > 0) {
        rpc_args_add(args, GRPC_ARG_KEEPALIVE_TIME_MS,
                     rpc_ms_of_us(options->keepalive_interval_us));
        rpc_args_add(args, GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
    }
    /* Also about the peer's pings: without it core allows one in two hours between calls. */
    rpc_args_add(args, GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
    if (options->keepalive_timeout_us > 0)
        rpc_args_add(args, GRPC_ARG_KEEPALIVE_TIMEOUT_MS,
                     rpc_ms_of_us(options->keepalive_timeout_us));
    if (options->min_ping_interval_us > 0)
        rpc_args_add(args, GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                     rpc_ms_of_us(options->min_ping_interval_us));
    rpc_args_add(args, GRPC_ARG_HTTP2_MAX_PING_STRIKES, 2);
    rpc_args_add(args, GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, SETTINGS_TIMEOUT_MS);
    rpc_args_add(args, GRPC_ARG_TSI_MAX_FRAME_SIZE, TLS_RECORD_BYTES);
}

static bool bind_passive(void *ctx, grpc_server_credentials *core)
{
    struct rpc_server *server = ctx;

    return rpc_passive_bind(server->passive, server->core, core);
}

static int make_core(struct rpc_server *server)
{
    struct rpc_args args = { .n_args = 0 };
    int r;

    server->passive = rpc_passive_new();
    if (!server->passive)
        return fault(-ENOMEM, "core makes no engine for connections");
    add_limits(&args, &server->options);
    rpc_args_add_arg(&args, rpc_passive_arg(server->passive));
    rpc_args_add(&args, GRPC_ARG_ENABLE_CHANNELZ, 0);
    server->core = grpc_server_create(
        &(grpc_channel_args){ .num_args = args.n_args, .args = args.args }, NULL);
    for (unsigned i = 0; i < server->options.n_threads; i++) {
        server->workers[i] = worker_new(server, i);
        if (!server->workers[i])
            return fault(-ENOMEM, "no memory for a call thread");
        grpc_server_register_completion_queue(server->core, server->workers[i]->queue, NULL);
    }
    if (!rpc_credentials_lend(server->options.credentials, bind_passive, server))
        return fault(-EIO, "core takes no connections with these credentials");
    r = acceptor_new(&server->acceptor, &server->options, server->passive, &server->port);
    server->options.address = NULL; /* all were the caller's */
    server->options.credentials = NULL;
    server->options.trusted_proxies = NULL;
    return pass(r);
}

static void on_shutdown(struct tag *tag, bool ok)
{
    struct rpc_server *server = container_of(tag, struct rpc_server, shutdown_tag);

    (void) ok;
    for (unsigned i = 0; i < server->options.n_threads; i++)
        worker_finish(server->workers[i]);
    pthread_mutex_lock(&server->shared.lock);
    server->shared.is_shut_down = true;
    pthread_cond_broadcast(&server->shared.has_shut_down);
    pthread_mutex_unlock(&server->shared.lock);
}

int rpc_server_new(struct rpc_server **ret, const struct rpc_server_options *options)
{
    CLEANUP(rpc_server_freep) struct rpc_server *server = calloc(1, sizeof(*server));
    pthread_condattr_t monotonic;
    int r;

    ensure(options->n_threads >= 1 && options->n_threads <= 64);
    ensure(options->route && options->address);
    if (!server)
        return fault(-ENOMEM, "no memory for a server");
    server->options = *options;
    server->shutdown_tag.fn = on_shutdown;
    pthread_mutex_init(&server->shared.lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&server->shared.has_shut_down, &monotonic);
    pthread_condattr_destroy(&monotonic);
    r = make_core(server);
    if (r)
        return r < 0 ? pass(r) : RPC_IN_USE;
    *ret = take(server);
    return 0;
}

int rpc_server_start(struct rpc_server *server)
{
    int r = 0;

    ensure(!server->is_started);
    server->is_started = true;
    grpc_server_start(server->core);
    for (unsigned i = 0; i < server->options.n_threads && r == 0; i++) {
        r = call_arm(server->workers[i], SLOTS_PER_WORKER);
        if (r == 0)
            r = worker_start(server->workers[i]);
    }
    if (r == 0)
        r = acceptor_start(server->acceptor);
    return pass(r);
}

uint16_t rpc_server_port(const struct rpc_server *server)
{
    return server->port;
}

/* ---- stop ---- */

static void drain_worker(struct rpc_post *post)
{
    call_drain_all(container_of(post, struct worker, drain_post));
}

void rpc_server_stop(struct rpc_server *server)
{
    if (atomic_exchange(&server->shared.is_stopping, true))
        return;
    if (server->acceptor)
        acceptor_stop(server->acceptor);
    /* Core shuts down only what runs. */
    if (!server->is_started)
        grpc_server_start(server->core);
    grpc_server_shutdown_and_notify(server->core, server->workers[0]->queue, &server->shutdown_tag);
    for (unsigned i = 0; i < server->options.n_threads; i++) {
        server->workers[i]->drain_post.fn = drain_worker;
        worker_post(server->workers[i], &server->workers[i]->drain_post);
    }
}

static struct timespec time_in(int64_t delay_us)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    time.tv_sec += delay_us / 1000000;
    time.tv_nsec += delay_us % 1000000 * 1000;
    if (time.tv_nsec >= 1000000000) {
        time.tv_sec++;
        time.tv_nsec -= 1000000000;
    }
    return time;
}

/* Returns whether all calls ended in time. */
static bool await_shutdown(struct rpc_server *server, int64_t patience_us)
{
    struct timespec until = time_in(patience_us);
    bool is_shut_down;
    int r = 0;

    pthread_mutex_lock(&server->shared.lock);
    while (!server->shared.is_shut_down && r != ETIMEDOUT)
        r = pthread_cond_timedwait(&server->shared.has_shut_down, &server->shared.lock, &until);
    is_shut_down = server->shared.is_shut_down;
    pthread_mutex_unlock(&server->shared.lock);
    return is_shut_down;
}

void rpc_server_join(struct rpc_server *server, int64_t patience_us)
{
    unsigned n = server->options.n_threads;

    if (server->is_joined)
        return;
    server->is_joined = true;
    rpc_server_stop(server);
    if (!server->workers[0]->thread.is_running || !await_shutdown(server, patience_us))
        grpc_server_cancel_all_calls(server->core);
    /* Each thread ends by itself, see worker_check_end(). */
    for (unsigned i = 0; i < n; i++) {
        if (server->workers[i]->thread.is_running)
            pthread_join(server->workers[i]->thread.id, NULL);
        else
            worker_run(server->workers[i]);
    }
    if (server->acceptor)
        acceptor_join(server->acceptor);
    server->passive = rpc_passive_free(server->passive);
    grpc_server_destroy(take(server->core));
    for (unsigned i = 0; i < n; i++)
        worker_close(server->workers[i]);
}

struct rpc_server *rpc_server_free(struct rpc_server *server)
{
    bool is_whole = server && server->core;

    if (!server)
        return NULL;
    for (unsigned i = 0; i < server->options.n_threads; i++)
        is_whole = is_whole && server->workers[i];
    if (is_whole)
        rpc_server_join(server, 0);
    server->passive = rpc_passive_free(server->passive);
    (void) acceptor_unref(server->acceptor);
    for (unsigned i = 0; i < server->options.n_threads; i++)
        if (server->workers[i])
            (void) worker_unref(server->workers[i]);
    pthread_cond_destroy(&server->shared.has_shut_down);
    pthread_mutex_destroy(&server->shared.lock);
    free(server);
    return NULL;
}

/* ---- the rest ---- */

void rpc_server_post(struct rpc_server *server, unsigned worker, struct rpc_post *post)
{
    ensure(worker < server->options.n_threads);
    worker_post(server->workers[worker], post);
}

void rpc_server_accept_stats(const struct rpc_server *server, struct rpc_accept_stats *ret)
{
    struct acceptor *acceptor = server->acceptor;

    pthread_mutex_lock(&acceptor->shared.lock);
    *ret = acceptor->shared.stats;
    ret->n_handshakes_now = acceptor->shared.n_handshakes;
    pthread_mutex_unlock(&acceptor->shared.lock);
}

uint64_t rpc_accept_failed(const struct rpc_accept_stats *stats)
{
    uint64_t n = 0;

    for (int i = 0; i < RPC_N_HANDSHAKE_RESULTS; i++)
        if (i != RPC_HANDSHAKE_FINISHED)
            n += stats->n_results[i];
    return n;
}

void rpc_server_set_accept(struct rpc_server *server,
                           const struct rpc_accept_limits *limits,
                           const struct peer_nets *trusted_proxies)
{
    struct acceptor *acceptor = server->acceptor;

    pthread_mutex_lock(&acceptor->shared.lock);
    acceptor->shared.limits = handshakes_limits(limits);
    acceptor->shared.proxies = trusted_proxies ? *trusted_proxies : (struct peer_nets){ .n = 0 };
    pthread_mutex_unlock(&acceptor->shared.lock);
}

struct rpc_server_stats rpc_server_stats(const struct rpc_server *server)
{
    uint64_t sums[N_COUNTERS] = { 0 };

    for (unsigned i = 0; i < server->options.n_threads; i++)
        for (int k = 0; k < N_COUNTERS; k++)
            sums[k] +=
                atomic_load_explicit(&server->workers[i]->shared.counters[k], memory_order_relaxed);
    return (struct rpc_server_stats){
        .calls_opened = sums[CALLS_OPENED],
        .calls_closed = sums[CALLS_CLOSED],
        .messages_received = sums[MESSAGES_RECEIVED],
        .messages_sent = sums[MESSAGES_SENT],
        .bytes_received = sums[BYTES_RECEIVED],
        .bytes_sent = sums[BYTES_SENT],
    };
}
