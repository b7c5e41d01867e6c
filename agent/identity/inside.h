#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/* The parts of agent/identity: place.c is the directory, answer.c what a hub gave, dial.c
 * connections, exchange.c a renewal's call, notes.c small things worth remembering. Private to this
 * directory. */

#include "agent/identity/identity.h"
#include "common/base/arena.h"
#include "common/rpc/client/client.h"
#include "common/wire/wire.h"

/* ---- place.c ---- */

enum place_outcome {
    PLACE_OK = 0,
    PLACE_ABSENT,
    PLACE_BAD,  /* ret_why */
    PLACE_BUSY, /* another process has it */
};

#define PLACE_ENROLMENT "enrolment"
#define PLACE_REQUEST "request"
#define PLACE_CANDIDATE "candidate"

/* Makes the directory 0700, and takes its lock until the descriptor is closed. Outcomes: PLACE_BAD,
 * PLACE_BUSY. */
int place_lock(const char *directory, int *ret_fd, struct tls_why *ret_why) MUST_USE;

/* A key and a request for it, on disk. */
struct place_request {
    struct buf key_pem; /* wiped */
    struct buf csr_der;
};
void place_request_deinit(struct place_request *request);
/*
 * The one in DIRECTORY/NAME, or a new one when there is none for this purpose; what was there for
 * another is gone then.
 *   purpose   a token's id, or "".
 * Outcomes: PLACE_BAD.
 */
int place_prepare(const char *directory,
                  const char *name,
                  const char *purpose,
                  struct place_request *ret,
                  struct tls_why *ret_why) MUST_USE;
/* Adds the certificates to it. Outcomes: PLACE_BAD. */
int place_answer(const char *directory,
                 const char *name,
                 const struct tls_identity *identity,
                 struct tls_why *ret_why) MUST_USE;
/* What is whole in DIRECTORY/NAME. Outcomes: PLACE_ABSENT (also what is not whole). */
int place_load(const char *directory, const char *name, struct tls_identity *ret) MUST_USE;
/* A request that was answered becomes the candidate. */
int place_promote(const char *directory) MUST_USE;
/* What is in NAME becomes current, and everything that waited is gone. Outcomes: PLACE_BAD. */
int place_commit(const char *directory, const char *name, struct tls_why *ret_why) MUST_USE;
void place_drop(const char *directory, const char *name);
/* At the start: what an enrolment or a renewal left. Outcomes: PLACE_BAD. */
int place_recover(const char *directory, struct tls_why *ret_why) MUST_USE;

/* ---- answer.c ---- */

/* A hub's answer; spans are DER. */
struct answer {
    const ProtobufCBinaryData *chain, *roots;
    size_t n_chain, n_roots;
    const char *agent_id; /* NULL: any */
};
/*
 * Whether it is fit to be kept: at least a leaf and a root, the chain leads to the roots now, for a
 * client; the leaf has our key and a good name. Outcomes: PLACE_BAD; ret_why.
 */
int answer_check(const struct answer *answer,
                 struct span key_pem,
                 wall_us now,
                 struct tls_identity *ret,
                 struct tls_why *ret_why) MUST_USE;
/* The leaf of a chain. Outcomes: PLACE_BAD. */
int answer_read_leaf(struct span chain_pem, struct tls_facts *ret) MUST_USE;
/* The one with this public key, as PEM. Outcomes: PLACE_ABSENT. */
int answer_pick_root(const struct answer *answer,
                     const uint8_t pin[static 32],
                     struct buf *ret_pem) MUST_USE;

/* ---- dial.c ---- */

#define DIAL_TRUST_BUNDLE "/sentinel.enrollment.v1.EnrollmentService/GetTrustBundle"
#define DIAL_ENROLL "/sentinel.enrollment.v1.EnrollmentService/Enroll"
#define DIAL_RENEW "/sentinel.enrollment.v1.EnrollmentService/Renew"
#define DIAL_RENEW_EXPIRED "/sentinel.enrollment.v1.EnrollmentService/RenewExpired"

struct dial {
    struct rpc_queue *queue;
    const char *hub, *server_name;
    bool is_tls13_only;
    struct span roots_pem; /* empty: nobody is verified, and GetTrustBundle is all that can be
                              called */
    struct span chain_pem, key_pem; /* empty: without a certificate of ours */
};
/* Outcomes: PLACE_BAD (the material). */
int dial_open(const struct dial *dial, struct rpc_channel **ret) MUST_USE;
/* Texts live in the arena, or in `status`. A handshake that failed has its reason. */
void dial_error(const struct rpc_status *status, struct arena *arena, struct wire_error *ret);

/* ---- exchange.c ---- */

struct exchange;

struct exchange_result {
    struct wire_error error; /* code RPC_OK: answered */
    struct answer answer;
    uint64_t generation;
    wall_us grace_ends; /* 0: not told */
};
struct exchange_options {
    struct dial dial;
    struct span csr_der;
    /* The chain that has expired, and its key; empty: Renew over the channel of `dial`. */
    struct span expired_chain_pem, expired_key_pem;
    /* Once; what it gets is borrowed until it returns. It may not free the exchange. */
    void (*on_done)(void *ctx, const struct exchange_result *result);
    void *ctx;
};
/* Outcomes: PLACE_BAD (the material). */
int exchange_new(struct exchange **ret, const struct exchange_options *options) MUST_USE;
struct exchange *exchange_free(struct exchange *exchange);

/* ---- notes.c ---- */

/* 0 when there is none. */
uint64_t notes_read_generation(const char *directory);
int notes_write_generation(const char *directory, uint64_t generation) MUST_USE;
int notes_write_hub(const char *directory, const char *hub) MUST_USE;
/* Adds a line unless it is the last one already; keeps the last hundred. */
int notes_add_anchor(const char *directory, const struct keeper_welcome *welcome) MUST_USE;
