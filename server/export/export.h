#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Export: every sample that the journal takes, passed on by Prometheus' remote_write 1.0 (a
 * WriteRequest in snappy's block format, by POST) to one receiver.
 *
 * One thread follows the journal (store_follow.h) and has at most one request under way. Its place
 * is durable: what the receiver has not accepted comes again, also after kill -9 of the hub, as
 * long as the journal behind the place stays below store_options.follow_bytes. So a receiver that
 * is away loses nothing within that, and may get again what it had accepted in the last second
 * before a kill.
 *
 * A series is {__name__, agent, attributes}, named as server/prom does; times go in milliseconds
 * (rounded down), values with their bits, but for the one NaN that Prometheus takes for "this
 * series ended". An agent's samples go in the order in which they were committed.
 *
 * What an answer means (pace.c): 2xx accepted. No answer, 5xx, 408, 425, 429, and what is about who
 * or where we are (3xx, 401, 403, 404, 405, 407, 421): the same request again, after a growing
 * pause or as long as Retry-After says. Any other 4xx is about what is in the request: it is
 * dropped, counted and said in the log.
 *
 * Files:  export.c the thread; batch.c rows to requests; encode.c protobuf; pace.c what an answer
 *         means and how long to wait; link.c the connection.
 * Thread: any, unless a function says otherwise.
 * Start here: send_batch() in export.c.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/cleanup.h"
#include "common/tls/stream/stream.h"
#include "server/prom/prom.h"
#include "server/store/store.h"

#define EXPORT_FOLLOWER "remote_write" /* its name as store_options.follow */

struct export;

/* What may change while it runs. */
struct export_way {
    struct tls_context *context; /* NULL: http */
    const char *token_file;      /* read before each request; "": no bearer token */
    int64_t timeout_us;          /* of a request, with its connection */
    uint32_t batch_samples;      /* of a request, at most */
};

struct export_options {
    struct store *store;
    const char *url;                 /* http_url_parse() takes it */
    const struct prom_label *labels; /* of every series that has none of that name; ascending */
    size_t n_labels;
    struct export_way way;
};

/* All of the options is copied. Outcomes: STORE_FULL (no room to keep the place). */
int export_new(struct export **ret, const struct export_options *options) MUST_USE;
int export_start(struct export *export) MUST_USE;
/* From the next request on, which is not waited for any longer. */
int export_set_way(struct export *export, const struct export_way *way) MUST_USE;

/*
 * Stop: no new request; one under way has `patience_us` to be answered. Again: another patience.
 * Does not block. Join: until the thread is gone. Blocks; a host name that is being resolved is
 * waited for. Before store_stop().
 */
void export_stop(struct export *export, int64_t patience_us);
void export_join(struct export *export);
/* Stops (without patience) and joins when that was not done. */
struct export *export_free(struct export *export);
DEFINE_CLEANUP(struct export *, export_free);

struct export_stats { /* since the start, but for the lag */
    bool is_up; /* the last request was answered, with acceptance or a refusal of its content */
    uint64_t n_samples, n_requests, n_bytes; /* accepted; bytes as sent */
    uint64_t n_failed_network, n_failed_server, n_failed_throttled, n_failed_denied;
    uint64_t n_dropped_bad, n_dropped_large, n_dropped_other; /* samples: 400, 413, other 4xx */
    uint64_t n_unreadable;                                    /* rows of the journal */
    uint64_t n_lag_chunks, n_lost_chunks; /* of the journal, store_follow_lag() */
    int64_t lag_us; /* since everything that was committed had been accepted */
};
void export_get_stats(struct export *export, struct export_stats *ret);
