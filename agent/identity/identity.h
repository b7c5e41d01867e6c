#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Identity: who this agent is: how it gets its certificate and keeps it for years.
 *
 * The directory (0700; keys 0600), each file written whole and synced before anything depends on
 * it:
 *
 *     ca-cert.pem client-cert.pem client-key.pem    current: in use
 *     enrolment/   client-key.pem request.der token: before Enroll is called; then ca-cert.pem and
 *                  client-cert.pem as it was answered: it becomes current at once
 *     request/     client-key.pem request.der: a renewal that is not answered
 *     candidate/   its answer: tried before it becomes current
 *     generation   the highest generation of the registry that was seen
 *     hub          HOST:PORT of the one that enrolled it, for who names no other
 *
 * Beside it, in the state directory: `anchors`, the last hundred heads of the hub's audit chain as
 * it signed them, a line of JSON each, for `sentinelctl audit verify --anchors`.
 *
 * Whatever moment the power fails at, an identity loads, and who was asked for one with a key is
 * asked again with the same key and request: the hub answers the same.
 *
 * Renewal: at a point in 35-75 % of a certificate's life that follows from the certificate itself,
 * so that a fleet that starts at once does not renew at once. The candidate is used from the next
 * connection on; it becomes current when the hub has accepted it, and is dropped when the hub says
 * that it does not know it. What has expired is renewed with a signature of the old key, as long as
 * the hub allows; after that the agent waits for `agents readmit` or `sentinel-agent enroll`, and
 * collects.
 *
 * Glossary:   use   a number for the identity that a connection was made with
 * Thread:     the loop's, for everything.
 * Start here: enrol_run() for the command, keeper_new() for the daemon; schedule.c for the times.
 */

#include <stdbool.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/identity/identity.h"
#include "common/loop/loop.h"
#include "common/tls/tls.h"

/* ---- enrolment ---- */

enum enrol_outcome {
    ENROL_OK = 0,
    ENROL_UNREACHABLE, /* no hub answers there; nothing was sent */
    ENROL_WRONG_HUB,   /* not the one of the pin, or not of that name: nothing was sent */
    ENROL_REFUSED,     /* the hub says no: `reason` */
    ENROL_BAD_ANSWER,  /* what it gave is not fit to be kept; what was there stays */
    ENROL_DIRECTORY,   /* cannot be written, or is open to others */
    ENROL_BUSY,        /* another process changes this identity right now */
};

struct enrol_options {
    const struct identity_enrolment *enrolment; /* what the operator pasted */
    const char *hub;                            /* HOST:PORT */
    const char *server_name;                    /* NULL: the host of `hub` */
    const char *directory;                      /* of the identity; made 0700 */
    const char *id;                             /* requested; empty: the hub makes one */
    const char *root;                           /* where the machine's fingerprint is read */
    bool is_tls13_only;
    int64_t give_up_us; /* how long an answer that was lost, or "later", is tried again */
};
struct enrol_result {
    char agent_id[64];
    wall_us not_after;
    char directory[512];
    /* When it failed; reason is the hub's code, or empty. */
    char reason[64], message[384], remedy[256];
};
/*
 * Gets an identity for a token; the key and the request lie on disk before they are sent, and a
 * second run with the same string goes on with them. An identity that is there is replaced when the
 * new one is whole, never before. Runs a loop of its own; blocks. rpc_init() comes first.
 */
int enrol_run(const struct enrol_options *options, struct enrol_result *ret) MUST_USE;

/* The hub that enrolled this identity, appended; nothing when it is not known. */
void identity_read_hub(const char *directory, struct buf *to);

/* ---- times: pure ---- */

/*
 * When a certificate is renewed first: at 35-75 % of its life. Hubs date certificates back by five
 * minutes, which are no part of it.
 *   unit   uniform in 0 <= x < 1.
 */
wall_us schedule_first(wall_us not_before, wall_us not_after, double unit);
/* The number above that goes with this certificate, in each process that asks. */
double schedule_unit(const uint8_t sha256[static 32]);
/*
 * How long to wait after the n-th failure: 30 s, doubled each time, but never more than an eighth
 * of what is left and never more than an hour, +-20 %: so there are more than ten tries before the
 * end. After the end it doubles to a quarter of an hour.
 *   n_failed   from 1.
 */
int64_t schedule_retry(wall_us now, wall_us not_after, unsigned n_failed, double unit);

/* ---- the daemon's ---- */

struct keeper;

struct keeper_options {
    struct loop *loop;
    const char *directory, *state_directory, *hub;
    const char *server_name; /* NULL: the host of `hub` */
    bool is_tls13_only;
    /* From the next round of the loop on connections use another identity: those that are open
     * should be made anew. */
    void (*on_changed)(void *ctx);
    void *ctx;
};

enum keeper_outcome {
    KEEPER_FINE = 0,
    KEEPER_UNUSABLE, /* none that a connection could use; ret_why */
};

/* Finishes what a power cut interrupted. Strings are copied. rpc_init() comes first. */
int keeper_new(struct keeper **ret, const struct keeper_options *options) MUST_USE;
struct keeper *keeper_free(struct keeper *keeper);
DEFINE_CLEANUP(struct keeper *, keeper_free);
/* Renews from now on. */
int keeper_start(struct keeper *keeper) MUST_USE;

/* A directory without any trace of an identity: nobody has enrolled here. */
bool keeper_is_absent(const char *directory);

/* What a connection is made with, for the caller to deinit. Outcomes: KEEPER_UNUSABLE. */
int keeper_get(struct keeper *keeper,
               struct tls_identity *ret,
               uint64_t *ret_use,
               struct tls_why *ret_why) MUST_USE;

/* What a hub told when it welcomed a stream. */
struct keeper_welcome {
    int64_t hub_us;      /* its clock; 0: it did not say */
    uint64_t generation; /* of the registry */
    struct {
        int64_t time_us;
        uint64_t entry;
        struct span sha256, signature; /* empty: none */
    } anchor;
};
void keeper_on_welcome(struct keeper *keeper, uint64_t use, const struct keeper_welcome *welcome);
/* A stream, or an attempt at one, ended; `reason` is the hub's code or NULL. */
void keeper_on_ended(struct keeper *keeper, uint64_t use, const char *reason);
/* The highest generation seen, for hello. */
uint64_t keeper_generation(const struct keeper *keeper);

enum keeper_state {
    KEEPER_OK,
    KEEPER_RENEWING,    /* asked, or a candidate is being tried */
    KEEPER_NOT_YET,     /* by this machine's clock it is not valid yet */
    KEEPER_EXPIRED,     /* past its end; the hub is asked to renew it */
    KEEPER_NEEDS_TOKEN, /* the hub will not renew it: `agents readmit`, or enroll with a token */
    KEEPER_FORKED,
    KEEPER_CLONED,
    KEEPER_REVOKED,
    KEEPER_UNREADABLE, /* the files; `problem` */
};
/* "ok", "renewing", "not-yet-valid", "expired", "needs-token", "forked", "cloned", "revoked",
 * "unreadable" */
const char *keeper_state_name(enum keeper_state state);
/* What somebody can do about it; empty when nothing needs doing. */
const char *keeper_state_remedy(enum keeper_state state);

struct keeper_status {
    enum keeper_state state;
    char agent_id[64], serial[65];
    wall_us not_before, not_after;
    int percent_left; /* of its life, 0 .. 100 */
    wall_us next_renewal;
    wall_us last_renewal; /* that succeeded, in this process; 0: none */
    wall_us last_attempt; /* 0: none */
    unsigned n_failed;    /* attempts since the last success */
    char last_reason[64], last_message[256];
    wall_us grace_ends; /* as the hub told; 0: it did not */
    uint64_t generation;
    /* The hub's clock minus this machine's, from the last welcome on, also if this one was set. */
    bool is_clock_known;
    int64_t clock_offset_us;
    char problem[384];
};
void keeper_get_status(const struct keeper *keeper, struct keeper_status *ret);

/*
 * What went wrong below the calls, by core's words about a handshake: "HUB_UNTRUSTED",
 * "HUB_NAME_MISMATCH", "HUB_CERTIFICATE_EXPIRED", "HUB_CERTIFICATE_NOT_YET_VALID",
 * IDENTITY_CLOSED; NULL: none of these.
 */
/* The other side hung up: so does a hub by whose clock our certificate has expired. */
#define IDENTITY_CLOSED "CONNECTION_CLOSED"
const char *identity_handshake_reason(const char *message);
