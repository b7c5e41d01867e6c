#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * RPC server: calls that come in.
 *
 * One completion queue and one thread per worker; a call stays on the queue that accepted it, and
 * all its callbacks run on that thread, one at a time. Other threads reach a call through
 * rpc_call_post().
 *
 * Reading is pulled: a handler calls rpc_call_read() for each message it wants, so a handler that
 * does not ask is back-pressure that reaches the peer through HTTP/2's windows. Writing is a
 * bounded queue per call.
 *
 * Life of a call:
 *
 *     route() -> on_open -> [on_message | on_half_close | on_writable | on_drain]* -> on_closed
 *
 * on_closed is the last callback, exactly once for each on_open; then the library drops its
 * reference. The call object lives until the last rpc_call_unref(); after on_closed every function
 * still may be called and does nothing (RPC_CLOSED).
 *
 * Connections are accepted by a thread of ours, which counts them, bounds their handshakes in
 * number and time, reads what trusted proxies say about their clients, and then hands them to core.
 * A connection costs core nothing before the first TLS record is there whole.
 *
 * Start here: server/front/front.c routes; stream.c is a full bidirectional handler.
 */

#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/span.h"
#include "common/peer/peer.h"
#include "common/rpc/rpc.h"

struct rpc_server;
struct rpc_call;

struct rpc_handler {
    void (*on_open)(struct rpc_call *call);
    /* `message` is borrowed until return. One for each rpc_call_read(). */
    void (*on_message)(struct rpc_call *call, struct span message);
    /* The peer sends no more. Answers an rpc_call_read() too. NULL: ignored. */
    void (*on_half_close)(struct rpc_call *call);
    /* After RPC_QUEUE_FULL: the queue is below half. NULL: ignored. */
    void (*on_writable)(struct rpc_call *call);
    /* The server is stopping: finish soon. NULL: the call runs to its end. */
    void (*on_drain)(struct rpc_call *call);
    /* Last one. was_cancelled: the peer went away, cancelled, or ran out of time before our status
     * was sent. */
    void (*on_closed)(struct rpc_call *call, bool was_cancelled);
};

/* ---- who gets in ---- */

/* How handshakes end: the rows of handshake.tbl. */
enum rpc_handshake_result {
#define H(id, name, help) RPC_HANDSHAKE_##id,
#include "common/rpc/server/handshake.tbl"
#undef H
    RPC_N_HANDSHAKE_RESULTS
};
/* "unknown_ca". */
const char *rpc_handshake_name(enum rpc_handshake_result result);

/* 0 anywhere is the default. */
struct rpc_accept_limits {
    uint32_t max_connections; /* 65536; new ones are closed at once */
    /*
     * 2048: connections whose handshake is not over. At the limit the oldest of the address that
     * has the most of them makes room, silent ones first.
     */
    uint32_t max_handshakes;
    int64_t handshake_timeout_us; /* 10 s, from the accept to the end of TLS */
};

enum rpc_admission {
    RPC_ADMIT,
    RPC_ADMIT_LATER, /* is not read before *ret_delay_us has passed */
    RPC_REFUSE,      /* closed without a word */
};

/*
 * What the owner says about addresses ("10.0.0.7:41234": the client's, also behind a proxy). Both
 * may be NULL.
 */
struct rpc_door {
    /* On the accept thread, for each connection; must not block. */
    enum rpc_admission (*may_enter)(void *ctx, const char *peer, int64_t *ret_delay_us);
    /* The connection showed no certificate that leads to our roots: its handshake failed, or ended
     * without one. Any thread, one at a time; not after rpc_server_join(). */
    void (*on_stranger)(void *ctx, const char *peer);
    void *ctx;
};

struct rpc_server_options {
    const char *address;                 /* "0.0.0.0:8082", "[::]:8082", port 0 picks one */
    struct rpc_credentials *credentials; /* NULL: plaintext; the caller sees to loopback */
    unsigned n_threads;                  /* 1 .. 64 */
    uint32_t max_message_bytes; /* received; larger ones end the call with RESOURCE_EXHAUSTED */
    uint32_t max_streams_per_connection;
    int64_t keepalive_interval_us, keepalive_timeout_us;
    int64_t min_ping_interval_us; /* peers that ping faster are cut off */
    uint32_t send_queue_bytes;    /* per call; one message always fits an empty queue */
    struct rpc_accept_limits accept;
    /* These put a PROXY header (version 1 or 2) before each connection; nobody else may. NULL:
     * none; copied. */
    const struct peer_nets *trusted_proxies;
    struct rpc_door door;
    /*
     * Finds the handler for a path; on a call thread. `ret_method` is handed to rpc_call_method().
     * NULL: answered with UNIMPLEMENTED.
     */
    const struct rpc_handler *(*route)(void *ctx, const char *path, const void **ret_method);
    void *ctx;
};

/* Listens at once; calls arrive after rpc_server_start(). `address` is copied. Outcomes:
 * RPC_IN_USE. */
int rpc_server_new(struct rpc_server **ret, const struct rpc_server_options *options) MUST_USE;
int rpc_server_start(struct rpc_server *server) MUST_USE;
uint16_t rpc_server_port(const struct rpc_server *server);
/* From the next connection on. Thread: any. */
void rpc_server_set_accept(struct rpc_server *server,
                           const struct rpc_accept_limits *limits,
                           const struct peer_nets *trusted_proxies);

/*
 * Stop: no new connections or calls (GOAWAY), on_drain on every open call. Does not block. Thread:
 * any, once. Join: waits for the calls and connections; after `patience_us` cancels what is left.
 * Blocks. Then the threads are gone.
 */
void rpc_server_stop(struct rpc_server *server);
void rpc_server_join(struct rpc_server *server, int64_t patience_us);
/* Stops and joins (without patience) when that was not done. */
struct rpc_server *rpc_server_free(struct rpc_server *server);
DEFINE_CLEANUP(struct rpc_server *, rpc_server_free);

struct rpc_server_stats {
    uint64_t calls_opened, calls_closed, messages_received, messages_sent, bytes_received,
        bytes_sent;
};
/* Since the start; `now` is of the moment. */
struct rpc_accept_stats {
    uint64_t n_accepted;
    uint64_t n_connections_now, n_handshakes_now;
    uint64_t n_results[RPC_N_HANDSHAKE_RESULTS];
    uint64_t n_refused_limit;   /* max_connections */
    uint64_t n_refused_address; /* RPC_REFUSE */
    uint64_t n_delayed;         /* RPC_ADMIT_LATER */
    uint64_t n_no_descriptors;  /* times that the process had none for a connection */
};
/* All results but RPC_HANDSHAKE_FINISHED. */
uint64_t rpc_accept_failed(const struct rpc_accept_stats *stats);
/* Thread: any. */
void rpc_server_accept_stats(const struct rpc_server *server, struct rpc_accept_stats *ret);
/* Thread: any. */
struct rpc_server_stats rpc_server_stats(const struct rpc_server *server);

/* ---- calls; on the call's thread unless it says otherwise ---- */

void *rpc_call_ctx(const struct rpc_call *call);          /* the server's ctx */
const void *rpc_call_method(const struct rpc_call *call); /* from route() */
const char *rpc_call_path(const struct rpc_call *call);
void rpc_call_set_state(struct rpc_call *call,
                        void *state); /* the handler's; freed by it in on_closed */
void *rpc_call_state(const struct rpc_call *call);
const char *
rpc_call_peer(const struct rpc_call *call); /* "10.0.0.7:41234"; lives as long as the call */
/* DER of the peer's verified leaf; empty when it gave none. Lives as long as the call. */
struct span rpc_call_peer_certificate(const struct rpc_call *call);
/* The first value of a request header (lower-case key), or an empty span. Lives as long as the
 * call. */
struct span rpc_call_header(const struct rpc_call *call, const char *key);
mono_us rpc_call_deadline(const struct rpc_call *call); /* INT64_MAX: none */
/* Whether sends can still be queued: not over, not finished, not broken. */
bool rpc_call_is_open(const struct rpc_call *call);
unsigned rpc_call_worker(const struct rpc_call *call); /* 0 .. n_threads - 1 */

/* Asks for one message; fine while one is asked for already. */
void rpc_call_read(struct rpc_call *call);

/* Queues a copy. Outcomes: RPC_QUEUE_FULL (nothing was queued; on_writable comes), RPC_CLOSED. */
int rpc_call_send(struct rpc_call *call, struct span message) MUST_USE;
/* Bytes that wait in the send queue, with those being written. */
size_t rpc_call_queued(const struct rpc_call *call);

/* Takes back what is queued and not handed to the connection yet. Only before rpc_call_finish(): no
 * on_writable comes for it. */
void rpc_call_discard(struct rpc_call *call);

/*
 * Ends the call after what is queued. Everything in `status` is copied. Later sends and finishes do
 * nothing, and no callback but on_closed comes.
 */
void rpc_call_finish(struct rpc_call *call, const struct rpc_status *status);

/*
 * From any thread: runs fn on the call's thread, once, in the order of posts from one thread. Runs
 * even when the call is closed by then: fn asks rpc_call_is_open(). The poster holds a reference
 * until fn has run. `post` lies in the caller's object and must not be posted again before fn runs.
 * Does not block.
 *
 * Once the server's threads are gone (rpc_server_join() has returned) fn runs in the poster's
 * thread, one at a time, with the call closed.
 */
struct rpc_post {
    struct rpc_post *next; /* the server's */
    void (*fn)(struct rpc_post *post);
};
void rpc_call_post(struct rpc_call *call, struct rpc_post *post);
/* The same for a worker thread as such. */
void rpc_server_post(struct rpc_server *server, unsigned worker, struct rpc_post *post);

/* Thread: any. */
struct rpc_call *rpc_call_ref(struct rpc_call *call);
struct rpc_call *rpc_call_unref(struct rpc_call *call);
DEFINE_CLEANUP(struct rpc_call *, rpc_call_unref);
