#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Private to server/web: what its files share.
 *
 * A page is made by a job. A quick one is made on the loop; the others go to a reader and come back
 * by the loop's wakeup, slice after slice.
 */

#include <pthread.h>
#include <stdatomic.h>

#include "common/base/buf.h"
#include "common/base/list.h"
#include "common/http/http.h"
#include "common/loop/loop.h"
#include "server/web/web.h"

#define WEB_SLICE_BYTES (256U << 10) /* a slice ends with the line that crosses this */

/* ---- jobs ---- */

struct web_job {
    struct query_task task;
    struct web *web;
    struct web_job *next; /* of those that came back */

    /* The loop's. */
    struct connection *connection; /* NULL: nobody waits any more */
    bool is_away;                  /* with a reader, or on its way back */
    bool is_begun;                 /* the head of the answer is out */

    atomic_bool is_cancelled; /* nobody waits */

    /*
     * Fills the page's next slice, sets is_last with the last one; the fields above body count in
     * the first. Faults become 500.
     */
    int (*make)(struct web_job *job);
    void (*free_state)(void *state); /* NULL: there is none */
    void *state;                     /* make()'s */
    uint8_t issuer[32];              /* of the list of revoked certificates that is asked for */
    bool has_issuer;
    char agent[64];           /* asked for; empty: all */
    char bearer[16];          /* id of the token that calls; empty: none */
    char actor[80], peer[64]; /* for the audit */
    uint32_t max_series;      /* as of the request */
    int r;                    /* make()'s */

    unsigned status;
    const char *content_type;
    const char *allow;         /* with 405; NULL: GET, HEAD */
    const char *cache_control; /* NULL: no-store */
    unsigned retry_after_s;    /* 0: not said */
    struct buf body;
    bool is_last;
};

int web_job_new(struct web_job **ret, struct web *web) MUST_USE;
struct web_job *web_job_free(struct web_job *job);
DEFINE_CLEANUP(struct web_job *, web_job_free);

/* An error as the page: status, reason, message. */
void web_job_fail(struct web_job *job, unsigned status, const char *reason, const char *fmt, ...)
    PRINTF_LIKE(4, 5);

/* ---- pages ---- */

int web_make_metrics(struct web_job *job) MUST_USE;
int web_make_agents(struct web_job *job) MUST_USE;
void web_free_agents(void *state);

/* The newest value of one series. */
struct newest {
    uint32_t agent; /* the caller's number for it */
    uint32_t definition;
    int64_t time_us;
    double value;
};
struct newest_set {
    struct newest *rows;
    size_t n, capacity;
    size_t max;
    bool is_over; /* there are more than max; rows are not all */
};
void newest_deinit(struct newest_set *set);
/*
 * Adds what the newest rows of an agent's layouts have, where they are not older than from_us.
 * Blocks on page faults: on a reader. Faults: no memory, the store's.
 */
int newest_add(struct newest_set *set,
               struct store *store,
               uint32_t number,
               uint32_t agent,
               int64_t from_us) MUST_USE;

/* ---- credentials.c ---- */

/* Who has the token of the head's `authorization`. Outcomes: of pki_bearer_identify(). */
int web_identify_bearer(struct web *web,
                        const struct http_head *head,
                        const char *peer,
                        struct pki_identity *ret,
                        struct tls_why *ret_why) MUST_USE;
int web_make_crl(struct web_job *job) MUST_USE;
int web_make_roll(struct web_job *job) MUST_USE;

/* ---- requests ---- */

/*
 * What to answer to a request: a job, either made already (is_last) or for a reader (make).
 * `leaf` is the peer's certificate, `peer` its address for the log.
 */
int web_request(struct web *web,
                const struct http_head *head,
                struct span leaf,
                const char *peer,
                struct web_job **ret) MUST_USE;

/* ---- the web ---- */

struct web_counters {
    atomic_uint_fast64_t n_connections, n_accepted, n_refused, n_handshakes_failed, n_timeouts,
        n_requests, n_failed, n_refused_address, n_delayed;
};

struct web {
    struct web_options options;
    uint16_t port;
    pthread_t thread;
    bool is_started, is_joined;
    atomic_int state;
    struct web_counters counters;
    struct loop *core;

    struct {
        struct loop_file listener;
        struct loop_timer listener_timer; /* accepts again after the process had no descriptors */
        struct loop_timer drain_timer;
        struct loop_wakeup wakeup;
        struct list connections;
        struct list idle;    /* between requests, the longest first */
        struct list yielded; /* have more to do, let others go first */
        size_t n_connections;
        bool is_stopping;
        struct web_limits limits; /* as of the last round */
        uint8_t scratch[16384];   /* what comes by TLS, before it is understood */
    } loop;

    struct {
        pthread_mutex_t lock;
        struct tls_context *context;
        struct web_limits limits;
        struct web_job *done;
        bool is_stopping;
        mono_us cut_at;
    } shared;
};

/* ---- connections, on the loop ---- */

/* Takes the descriptor, also when it fails (that is logged). Of a trusted proxy a header is read
 * first, and the door asked about its client. */
void connection_new(struct web *web, int take_fd, const struct peer_address *peer, bool is_proxy);
/* Goes on with what a job made. */
void connection_job_is_back(struct connection *connection, struct web_job *job);
void connection_cut_all(struct web *web);
/* Closes those that wait for a request; the others end with the answer. */
void connection_end_all(struct web *web);
/* Those that yielded go on. */
void connection_go_on_all(struct web *web);
/* Makes room by closing the one that has been idle longest. False: none is idle. */
bool connection_close_idlest(struct web *web);

/* ---- door.c: who gets in ---- */

/* Takes the header that is in front of what a proxy sends. Outcomes: PEER_MORE: nothing was taken,
 * the socket stays quiet until more came; PEER_UNFIT. */
int web_read_proxy(struct web *web, int fd, struct proxy *ret) MUST_USE;
/* Asked on the loop, refusals are counted and logged. */
enum rpc_admission web_ask_door(struct web *web, const char *peer, int64_t *ret_delay_us);
/* It showed no certificate that leads to our roots. */
void web_tell_stranger(struct web *web, const char *peer);

/* A connection is gone. */
void web_connection_gone(struct web *web);
