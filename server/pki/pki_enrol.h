#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Enrolment and renewal: how a machine gets its identity and keeps it. A part of pki.h, which
 * others include.
 *
 * Rules (design: identity):
 *   - Only the public key of a request counts; name, dates and use are the hub's.
 *   - A token's use, the certificate's row and the audit entry are one transaction.
 *   - The same token from the same public key within its life gets the same certificate again: a
 *     lost reply burns nothing. So does a renewal of the same public key.
 *   - A certificate is UNCONFIRMED until it is first presented; then it is ACTIVE and what it
 * renews is SUPERSEDED. One superseded so for longer than PKI_FORK_GRACE_US that is presented again
 * is a fork: both stop (PKI_FORKED) until the agent is readmitted. Within that time it is only
 *     refused: calls under way when the machine changed over are no second machine.
 *
 * Glossary:   lineage   the certificates of one agent since an enrolment, each renewing the last
 * Thread:     any; what writes blocks (readers, not call threads).
 */

#include <stdbool.h>
#include <stdint.h>

#include "server/pki/pki_identity.h"

#define PKI_FORK_GRACE_US (INT64_C(30) * 1000000)
#define PKI_TOKEN_TTL_US (INT64_C(30) * 60 * 1000000)
#define PKI_TOKEN_MAX_TTL_US (INT64_C(7) * 24 * 3600 * 1000000)
#define PKI_TOKEN_MAX_USES 100000u
#define PKI_MAX_LABELS 32u

/* Why something of these was refused; for the status, the audit and the counters. */
enum pki_refusal {
    PKI_REFUSED_NOT = 0,
    PKI_REFUSED_TOKEN_UNKNOWN, /* no such token, or a wrong secret: the same to the caller */
    PKI_REFUSED_TOKEN_EXPIRED,
    PKI_REFUSED_TOKEN_USED, /* by another key, as often as it may be */
    PKI_REFUSED_TOKEN_REVOKED,
    PKI_REFUSED_ADDRESS,   /* outside the token's range */
    PKI_REFUSED_NAME,      /* the requested id breaks the rule or the token's pattern */
    PKI_REFUSED_CSR,       /* not a request, or its proof is wrong */
    PKI_REFUSED_CHAIN,     /* RenewExpired: not ours, or not what it says */
    PKI_REFUSED_SIGNATURE, /* RenewExpired: not by the old key over nonce and request */
    PKI_REFUSED_GRACE_OVER,
    PKI_REFUSED_REVOKED,
    PKI_REFUSED_NOT_CURRENT, /* superseded, or of a forked lineage */
    PKI_REFUSED_UNKNOWN,     /* no such certificate */
};

struct pki_label {
    const char *key, *value;
};
struct pki_token_wish {
    int64_t ttl_us;         /* 0: PKI_TOKEN_TTL_US; at most PKI_TOKEN_MAX_TTL_US */
    uint32_t n_uses;        /* 0: 1; at most PKI_TOKEN_MAX_USES */
    const char *id_pattern; /* of agent ids, `*` and `?`; NULL: any. Without either it is one id */
    const char *addresses;  /* CIDR; NULL: any */
    const struct pki_label *labels; /* set on who enrols */
    size_t n_labels;
    int replace; /* 1: supersedes whoever has the id; 0: never; -1: if it is bound to one id */
    const char *made_by;     /* "operator/anna" */
    const char *source;      /* the maker's address, for the audit */
    const char *correlation; /* of the call that asks for it; NULL: none */
};
struct pki_token {
    char id[IDENTITY_TOKEN_ID_BYTES + 1];
    uint8_t secret[IDENTITY_SECRET_BYTES]; /* of a new one alone: it is stored as a keyed hash */
    wall_us created, expires;
    uint32_t n_uses, n_used;
    bool is_revoked, replaces;
    char id_pattern[64], addresses[64], made_by[80];
};
/* Audited. Outcomes: PKI_BAD_NAME (ret_why names the field), PKI_FULL. */
int pki_token_create(struct pki *pki,
                     const struct pki_token_wish *wish,
                     struct pki_token *ret,
                     struct tls_why *ret_why) MUST_USE;
/* In the arena, newest first; those that expired a day ago are gone. */
int pki_token_list(struct pki *pki,
                   struct arena *arena,
                   struct pki_token **ret,
                   size_t *ret_n) MUST_USE;
struct pki_act; /* who does it: pki_admin.h */
/* Outcomes: PKI_UNKNOWN, PKI_FULL. */
int pki_token_revoke(struct pki *pki, const char *id, const struct pki_act *act) MUST_USE;

struct pki_enrolment {
    const char *token_id;
    struct span secret, csr_der;
    const char *requested_id; /* empty: an id of the hub's making */
    struct span instance;
    const struct identity_fingerprint *fingerprint;
    const char *peer;        /* address */
    const char *correlation; /* for the audit */
};
/* What the machine gets; spans lie in the arena. */
struct pki_granted {
    char name[64];
    struct span chain_der[4]; /* leaf first */
    size_t n_chain;
    struct span roots_der[8];
    size_t n_roots;
    uint64_t generation;
    bool is_again; /* the same answer as before */
};
/* Audited, also when refused. Outcomes: PKI_REFUSED (ret_refusal, ret_why), PKI_FULL. */
int pki_enrol(struct pki *pki,
              const struct pki_enrolment *enrolment,
              struct arena *arena,
              struct pki_granted *ret,
              enum pki_refusal *ret_refusal,
              struct tls_why *ret_why) MUST_USE;

/* Over the valid channel of `sha256`. Outcomes: as pki_enrol(). */
struct pki_renewal {
    const uint8_t *sha256; /* of the certificate of the channel */
    struct span csr_der;
    const char *peer, *correlation;
};
int pki_renew(struct pki *pki,
              const struct pki_renewal *renewal,
              struct arena *arena,
              struct pki_granted *ret,
              enum pki_refusal *ret_refusal,
              struct tls_why *ret_why) MUST_USE;

/* After its end: the old chain, and the old key's signature over nonce and the request's SHA-256
 * (identity_renewal_signed_bytes()). */
struct pki_late_renewal {
    const struct span *chain_der;
    size_t n_chain;
    struct span csr_der, nonce, signature;
    const char *peer, *correlation;
};
int pki_renew_expired(struct pki *pki,
                      const struct pki_late_renewal *asked,
                      struct arena *arena,
                      struct pki_granted *ret,
                      wall_us *ret_grace_ends,
                      enum pki_refusal *ret_refusal,
                      struct tls_why *ret_why) MUST_USE;

/* The roots that agents shall trust, DER in the arena, and the generation. */
int pki_trust_bundle(struct pki *pki, struct arena *arena, struct pki_granted *ret) MUST_USE;
/* SHA-256 of the root's public key, for enrolment strings. */
int pki_root_pin(struct pki *pki, uint8_t ret[32]) MUST_USE;

/*
 * A call came with this certificate: an UNCONFIRMED one becomes current, in memory at once and on
 * disk soon. Queues, does not block. front calls it for identities whose state says UNCONFIRMED.
 */
void pki_presented(struct pki *pki, const struct pki_identity *identity);
