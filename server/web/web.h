#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Web: what the hub says by HTTPS on 8081.
 *
 *   GET /metrics              the hub's own figures, Prometheus' text format 0.0.4
 *   GET /metrics/agents       every agent's newest values of the last five minutes
 *   GET /metrics?agent=ID     those of one agent
 *   GET /healthz              the process is alive: 200
 *   GET /readyz               it takes samples and answers: 200, else 503 with the state
 *   GET /crl                  the list of revoked certificates, DER (RFC 5280), for anyone
 *   GET /crl/SHA256.crl       the same of one intermediate, named by its certificate
 *   POST /bearer/roll         a bearer token's next signing key, as JSON
 *
 * One thread with one loop has every connection: it reads requests, writes answers, and touches no
 * page of the store. What reads the store is made on the readers (server/query), a slice at a time:
 * the next slice is asked for when the one before is sent, so a connection holds one of them.
 *
 * Who may: /healthz and /readyz anyone. The others a client certificate that pki knows, with the
 * role viewer or more; or anyone, where the settings say so. No or no known certificate is 401,
 * another role 403. Without TLS (`insecure`, on loopback) anyone.
 *
 * Bounded: connections, bytes of a request, time for a request to arrive, idle time, time without
 * progress of an answer, series of a page. What is over is refused with the limit in words, as
 * JSON:
 * {"code":401,"reason":"CERTIFICATE_MISSING","message":"..."}.
 *
 * Files:  web.c the thread and its listener; door.c who gets in; connection.c bytes and time;
 * request.c who may what, errors; metrics.c agents.c the pages; newest.c rows of the store. Thread:
 * any, unless a function says otherwise. Start here: web_request() in request.c.
 */

#include <stdbool.h>
#include <stdint.h>

#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/peer/peer.h"
#include "common/rpc/server/server.h"
#include "common/tls/stream/stream.h"
#include "server/audit/audit.h"
#include "server/ingest/ingest.h"
#include "server/pki/pki.h"
#include "server/query/query.h"
#include "server/quota/quota.h"
#include "server/store/store.h"

struct web;

enum web_state { WEB_STARTING, WEB_SERVING, WEB_FULL, WEB_DRAINING, WEB_FAILED };

enum web_outcome {
    WEB_OK = 0,
    WEB_IN_USE, /* the address is taken, not ours, or none */
};

struct web_limits {
    uint32_t max_connections;
    uint32_t max_series; /* of one page */
    int64_t
        request_timeout_us;  /* from the first byte (of a connection: from its start) to the last */
    int64_t idle_timeout_us; /* between requests */
    int64_t write_timeout_us; /* without a byte taken by the peer */
    bool is_public;           /* /metrics for anyone */
    struct peer_nets proxies; /* who must send a PROXY header; nobody else may */
};

struct web_remote_write { /* all zero: it is off */
    bool is_up;
    uint64_t n_samples, n_requests, n_bytes;
    uint64_t n_failed_network, n_failed_server, n_failed_throttled, n_failed_denied; /* requests */
    uint64_t n_dropped_bad, n_dropped_large, n_dropped_other;                        /* samples */
    uint64_t n_lag_chunks, n_lost_chunks, n_unreadable;
    int64_t lag_us;
};

struct web_status { /* what /metrics says beyond what web asks for itself */
    wall_us started;
    wall_us certificate_expires; /* us 0: there is none */
    uint64_t certificates_expiring;
    struct rpc_accept_stats grpc;
    const char *security;
    struct web_remote_write remote_write;
};

struct web_options {
    const char *host;            /* an address, or a name of one; borrowed during the call */
    uint16_t port;               /* 0 picks one */
    struct tls_context *context; /* NULL: plaintext; the caller sees to loopback */
    struct store *store;
    struct audit *audit; /* NULL: no figures of it */
    struct quota *quota; /* NULL: no limits by address, no figures of them */
    struct pki *pki;     /* NULL: without TLS */
    struct ingest *ingest;
    struct query_pool *pool; /* freed before web_free() */
    struct rpc_door door;    /* the gRPC listener's too; called on the web's thread */
    struct web_limits limits;
    void (*get_status)(void *ctx, struct web_status *ret); /* any thread */
    void *ctx;
};

/* Listens at once; nobody is answered before web_start(). Outcomes: WEB_IN_USE. */
int web_new(struct web **ret, const struct web_options *options) MUST_USE;
int web_start(struct web *web) MUST_USE;
uint16_t web_port(const struct web *web);

/* Connections from now on. */
void web_set_context(struct web *web, struct tls_context *context);
void web_set_limits(struct web *web, const struct web_limits *limits);
/* What /readyz says. */
void web_set_state(struct web *web, enum web_state state);

/*
 * Stop: no new connections, answers under way end, what is still open after `patience_us` is cut.
 * Again: another patience. Does not block. Join: until the thread is gone. Blocks.
 */
void web_stop(struct web *web, int64_t patience_us);
void web_join(struct web *web);
/* Stops (without patience) and joins when that was not done. The reader pool is gone by now. */
struct web *web_free(struct web *web);
DEFINE_CLEANUP(struct web *, web_free);

struct web_stats {
    uint64_t n_connections; /* open */
    uint64_t n_accepted, n_refused, n_handshakes_failed, n_timeouts;
    uint64_t n_refused_address, n_delayed; /* by the door */
    uint64_t n_requests, n_failed;         /* failed: answered with 400 and above */
};
void web_get_stats(const struct web *web, struct web_stats *ret);
