#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Uplink: a connection to a hub, kept up for as long as the agent runs, and what the spool has for
 * it.
 *
 *     WAITING -> CONNECTING (the call is made, hello on its way) -> STREAMING (welcome came) ->
 * WAITING (it ended) ...
 *
 * There may be several hubs: when the one in use ends or cannot be had, the next one is tried soon.
 * While another than the first is in use, the first is tried again after a while, less and less
 * often when it does not stay.
 *
 * The very first attempt is at once. Then a connection that ended is tried again after a time
 * uniform in 0 .. spread, as a hub that comes back has all its agents to serve; what fails after
 * that, at all hubs, waits backoff x 2^n +-20 % up to a limit. What cannot get better by itself (a
 * certificate that is refused, an agent that another machine runs too) is tried at that limit, and
 * said loudly; collecting goes on. An acknowledgement resets the count. Each attempt has a
 * connection and credentials of its own: a new certificate is used from the next connection on.
 *
 * On it are up to four streams: what is new (LIVE) and what piled up (BACKFILL), of metrics and of
 * logs. BACKFILL has a rate of its own, and never more than LIVE leaves. Batches come out of the
 * spool in order, at most a window of them unacknowledged. Series and layouts are declared once in
 * a stream. A batch that the hub refuses for what it is, is halved until the record is alone that
 * it does not like, which is set aside: a skip takes its place. What went as a block is sent as
 * records before that.
 *
 * Logs may be compressed: as blocks of zstd (common/logblock), which the hub keeps as they are,
 * where it takes them and a batch is not small; else by gRPC as gzip, a hundred lines in 40 to 110
 * us to an eighth to a sixth of their bytes. Metrics are not: half the bytes of so small a message
 * are not worth it.
 *
 * Thread: the loop's, for everything.
 * Start here: uplink.c for the states, stream.c for one stream, policy.h for what follows from an
 * error, encode.h for the messages.
 */

#include <stdbool.h>
#include <stdint.h>

#include "agent/collect/collect.h"
#include "agent/identity/identity.h"
#include "agent/spool/spool.h"
#include "agent/uplink/tables.h" /* inventories */
#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/loop/loop.h"
#include "common/send/send.h"
#include "common/tls/tls.h"

struct uplink;

struct uplink_pace {
    int64_t spread_us;      /* first retry: uniform in 0 .. this; the hub may set another */
    int64_t backoff_us;     /* second retry, +-20 % */
    int64_t max_backoff_us; /* and the pace of what does not get better by itself */
    int64_t keepalive_us;   /* between pings, +-20 % */
    int64_t prefer_us;      /* on another hub: until the first one is tried again */
    int64_t behind_us;      /* what waited longer goes beside what is new; 0: all in one line */
    bool compresses_logs;   /* from the next stream on */
    uint64_t bandwidth;     /* bytes in a second, of all streams; 0: no limit */
    uint64_t backfill_rate; /* bytes in a second, of what goes beside; 0: no limit */
};

struct uplink_options {
    struct loop *loop;
    struct spool *spool;
    const char *hub;              /* HOST:PORT, the preferred one */
    const char *const *more_hubs; /* in order of preference; n_more_hubs */
    size_t n_more_hubs;
    const char *server_name; /* what the hub's certificate must carry; NULL: the host of `hub` */
    const char *identity;    /* directory */
    struct keeper *keeper;   /* what connections are made with, and who hears what became of them;
                                borrowed; NULL: `identity` is read for each connection */
    const char *insecure_id; /* plaintext, and this agent's id; NULL: mutual TLS */
    bool is_tls13_only;
    int64_t interval_us; /* told to the hub */
    struct uplink_pace pace;
    const struct collect_host *host; /* borrowed until uplink_free() */
    /* The hub would like this interval; 0: the agent's own. */
    void (*on_interval)(void *ctx, int64_t interval_us);
    /*
     * Other calls to the same hub may use the channel from the welcome on, until this comes again
     * with NULL: before it is closed. NULL: nobody wants it.
     */
    void (*on_channel)(void *ctx, struct rpc_channel *channel);
    /* Another state. The uplink is in the middle of things: look at it later. NULL: nobody wants to
     * know. */
    void (*on_state)(void *ctx);
    /* What a record of logs may have, as this hub says. NULL: nobody wants to know. */
    void (*on_log_limit)(void *ctx, uint32_t body_bytes);
    /* Once, after uplink_drain(); the loop may be stopped then. */
    void (*on_drained)(void *ctx);
    void *ctx;
};

/* Strings are copied. rpc_init() comes first. */
int uplink_new(struct uplink **ret, const struct uplink_options *options) MUST_USE;
/* Cuts the connection. */
struct uplink *uplink_free(struct uplink *uplink);
DEFINE_CLEANUP(struct uplink *, uplink_free);

/* Makes the first attempt. */
int uplink_start(struct uplink *uplink) MUST_USE;
/* Something was queued. */
void uplink_kick(struct uplink *uplink);
/*
 * The identity is another one now: what is open is made anew with it at once. What was not
 * acknowledged is sent again, as after any cut.
 */
void uplink_reconnect(struct uplink *uplink);
/*
 * New settings from the next use on; the interval from the next hello on. Somebody is at work here,
 * so who waits tries again within the spread.
 */
void uplink_set_pace(struct uplink *uplink, const struct uplink_pace *pace, int64_t interval_us);
/*
 * Sends what is queued, waits for its acknowledgement, ends the stream, and calls on_drained: when
 * all is through, when the time is over, or as soon as the hub cannot be reached.
 */
void uplink_drain(struct uplink *uplink, int64_t timeout_us);

/* ---- status ---- */

enum uplink_state { UPLINK_WAITING, UPLINK_CONNECTING, UPLINK_STREAMING, UPLINK_ENDED };
/* "waiting", "connecting", "connected", "ended" */
const char *uplink_state_name(enum uplink_state state);

struct uplink_status {
    enum uplink_state state;
    wall_us since;        /* of the state */
    wall_us next_attempt; /* WAITING; 0: none is planned */
    char hub[256];        /* in use, or tried next */
    char peer[128];
    char hub_version[64];
    uint64_t attempts;
    uint64_t streams;        /* that were welcomed */
    uint64_t unacknowledged; /* batches on their way */
    wall_us last_ack;        /* 0: none yet */
    int64_t clock_offset_us; /* the hub's clock minus ours, at the last welcome */
    /* Of the attempt or stream that ended last; code is 0 when none did. */
    int error_code;
    char error_reason[64];
    char error_message[256];
    bool is_slow; /* it does not get better by itself */
};
void uplink_get_status(const struct uplink *uplink, struct uplink_status *ret);

/* ---- upload ---- */

/*
 * send_file() over connections of this agent's: its loop and connect() are set here. Of the options
 * hub, identity, TLS version and keepalive are used. Outcomes: as send_file(); with
 * SEND_UNCONNECTED ret_why says what is wrong with the identity.
 */
int uplink_upload(const struct uplink_options *options,
                  struct send *send,
                  struct tls_why *ret_why) MUST_USE;

/* ---- test-connection ---- */

enum uplink_verdict { UPLINK_PASSED, UPLINK_WARNED, UPLINK_FAILED, UPLINK_NOT_TRIED };

#define UPLINK_MAX_CHECKS 8
struct uplink_check {
    const char *name; /* identity, certificate, dns, tcp, tls, hello */
    enum uplink_verdict verdict;
    char detail[320];
    char remedy[256]; /* empty when it passed */
};
struct uplink_probe {
    size_t n_checks;
    struct uplink_check checks[UPLINK_MAX_CHECKS];
    char reason[64]; /* the hub's reason code, when it gave one */
    int code;        /* of the call; 0: answered, or never made */
    bool is_clock_known;
    int64_t clock_offset_us; /* the hub's clock minus ours */
};
/*
 * Goes all the way to an answered hello, under a spool id of its own, and stores nothing. Runs a
 * loop of its own; blocks for at most some 20 s. Only the hub, the identity, the TLS version and
 * the host of the options are used.
 */
int uplink_probe(const struct uplink_options *options, struct uplink_probe *ret) MUST_USE;
