#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A hub that enrols and renews, for the tests of agent/identity: a CA in memory behind the real
 * protocol on 127.0.0.1. What it counts may be read while a loop of the test runs.
 */

#include <check.h>
#include <pthread.h>
#include <stdatomic.h>

#include "agent/identity/identity.h"
#include "common/rpc/server/server.h"

enum ca_mood {
    CA_FINE,
    CA_REFUSES,    /* with `reason` */
    CA_LOSES,      /* issues, and the answer is lost: UNAVAILABLE */
    CA_OTHER_KEY,  /* the certificate is for another key */
    CA_OTHER_ROOT, /* the chain does not lead to the roots */
    CA_EXPIRED,    /* of yesterday */
    CA_AUTHORITY,  /* an authority, no leaf */
    CA_OTHER_NAME, /* another agent's */
    CA_MUTE,       /* an answer without certificates */
};

struct ca {
    struct rpc_server *server;
    struct rpc_credentials *credentials;
    char target[32];
    struct identity_enrolment enrolment;
    struct tls_key *key, *stranger_key;
    struct tls_cert *root, *stranger, *next_root;

    pthread_mutex_t lock; /* of what follows */
    enum ca_mood mood;
    const char *reason;
    unsigned n_moody;        /* answers until it is fine again; 0: for ever */
    bool has_next_root;      /* answers carry a second root */
    uint8_t key_sha256[32];  /* of the last request's key */
    uint8_t leaf_sha256[32]; /* the last one that was issued */
    int64_t age_us;          /* certificates are as if issued so long ago */
    int64_t life_us;
    atomic_uint n_bundles, n_enrolled, n_renewed, n_late, n_bad_signatures, n_same_key;
};

void ca_start(struct ca *ca);
void ca_stop(struct ca *ca);
void ca_set_mood(struct ca *ca, enum ca_mood mood, const char *reason, unsigned n_moody);
/* As if it had enrolled `web-1` so long ago, for so long. */
void ca_issue_into(struct ca *ca, const char *directory, int64_t age_us, int64_t life_us);
