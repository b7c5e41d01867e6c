#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What operators do with identities. A part of pki.h, which others include.
 *
 * Each act is one transaction with its audit entry, raises the generation, and is refused when the
 * entry cannot be written (PKI_FULL). Revocations also go to a synced file outside the database
 * (<state>/revoked), which is merged at each open: a restored backup does not bring back who was
 * thrown out.
 *
 * Thread: any; all of it blocks.
 */

#include <stdbool.h>
#include <stdint.h>

#include "server/pki/pki_enrol.h"
#include "server/pki/pki_identity.h"

/* Who does it, for the audit. */
struct pki_act {
    const char *by;     /* "operator/anna", "local/root" */
    const char *source; /* address; empty: this machine */
    const char *correlation;
    const char *reason; /* for people; may be empty */
};

/* One certificate as the registry has it. */
struct pki_certificate {
    struct pki_identity identity;
    char issuer[256];
    wall_us registered, presented; /* presented 0: never */
    wall_us revoked;               /* 0: not */
    char reason[128];
    uint8_t lineage[16], parent[32], key_sha256[32];
};
struct pki_certificates_question {
    const char *name_pattern; /* NULL: any */
    enum pki_state state;     /* 0: any */
    enum pki_kind kind;       /* 0: any */
    struct span beyond;       /* sha256 of the last one of the page before */
    uint32_t limit;
};
/* In the arena, by digest. */
int pki_certificate_list(struct pki *pki,
                         const struct pki_certificates_question *question,
                         struct arena *arena,
                         struct pki_certificate **ret,
                         size_t *ret_n,
                         bool *ret_has_more) MUST_USE;
/* `sha256_prefix`: at least 8 hex digits that name one. Outcomes: PKI_UNKNOWN (none, or several:
 * ret_why), PKI_FULL. */
int pki_certificate_revoke(struct pki *pki,
                           const char *sha256_prefix,
                           const struct pki_act *act,
                           uint64_t *ret_generation,
                           struct tls_why *ret_why) MUST_USE;

/* What is known of an agent's id beside its certificates. */
enum pki_agent_state { PKI_AGENT_ALLOWED = 1, PKI_AGENT_REVOKED = 2, PKI_AGENT_FORKED = 3 };
#define PKI_MAX_ADDRESSES 16u
struct pki_agent {
    char name[64];
    enum pki_agent_state state;
    wall_us enrolled, changed;
    char reason[128];
    char addresses[PKI_MAX_ADDRESSES][64]; /* CIDR; none: from anywhere */
    size_t n_addresses;
    uint8_t current[32]; /* the certificate in use; zero: none yet */
    wall_us not_after;
    bool has_fingerprint;
    uint64_t n_clones; /* refused as a clone since it was enrolled */
    char last_peer[64];
};
/* Outcomes: PKI_UNKNOWN. */
int pki_agent_get(struct pki *pki, const char *name, struct pki_agent *ret) MUST_USE;
int pki_agent_list(struct pki *pki,
                   struct arena *arena,
                   struct pki_agent **ret,
                   size_t *ret_n) MUST_USE;
/* All its certificates; `ret_token` not NULL: a one-use token bound to the id (--reissue).
 * Outcomes: PKI_UNKNOWN, PKI_FULL. */
int pki_agent_revoke(struct pki *pki,
                     const char *name,
                     const struct pki_act *by,
                     struct pki_token *ret_token,
                     uint64_t *ret_generation) MUST_USE;
/* Allowed again after a revocation or a fork: the certificate that was presented last counts, the
 * others of its lineage are revoked. Also opens the grace window once for one that is long expired.
 * Outcomes: PKI_UNKNOWN, PKI_FULL. */
int pki_agent_readmit(struct pki *pki,
                      const char *name,
                      const struct pki_act *by,
                      uint64_t *ret_generation) MUST_USE;
/* Outcomes: PKI_UNKNOWN, PKI_BAD_NAME (an address), PKI_FULL. */
int pki_agent_allow(struct pki *pki,
                    const char *name,
                    const char *const *addresses,
                    size_t n_addresses,
                    const struct pki_act *by,
                    struct tls_why *ret_why) MUST_USE;
/* Certificates and what is known of it; what it sent is store_agent_forget()'s, which must follow,
 * and does at the next start if this hub is killed in between. `number`: the store's, 0: it has
 * none. Outcomes: PKI_UNKNOWN, PKI_FULL. */
int pki_agent_forget(struct pki *pki,
                     const char *name,
                     uint32_t number,
                     const struct pki_act *by) MUST_USE;
/*
 * A hello of this agent: may it stream from here, as this machine?
 *
 * Its fingerprint is registered at enrolment, else at the first hello. Another one is let in while
 * the registered machine is away, and becomes the registered one when that did not come for a day.
 * A new instance is a restart; one that was superseded by another and comes again is a second
 * process: refused while the other is live, else let in, counted and on record.
 *
 * A registry that is behind what the agent saw is on record once for each agent; the caller sees it
 * too: generation_seen > pki_generation().
 *
 * Outcomes: PKI_REFUSED (the address), PKI_CLONED; ret_why.
 */
struct pki_hello {
    const char *name, *peer;
    struct span instance;
    const struct identity_fingerprint *fingerprint;
    bool is_live;              /* a stream of this agent is open */
    struct span live_instance; /* its instance */
    uint64_t generation_seen;  /* the highest the agent saw; above ours: audited */
};
int pki_agent_hello(struct pki *pki,
                    const struct pki_hello *hello,
                    struct tls_why *ret_why) MUST_USE;

struct pki_operator {
    char name[64];
    enum pki_role role;
    wall_us added, not_after;
    uint32_t n_certificates; /* that count */
};
int pki_operator_list(struct pki *pki,
                      struct arena *arena,
                      struct pki_operator **ret,
                      size_t *ret_n) MUST_USE;
/* A certificate for the request (csr_der empty: only the role is set). Outcomes: PKI_BAD_NAME,
 * PKI_REFUSED, PKI_FULL. */
struct pki_operator_wish {
    const char *name;
    enum pki_role role; /* PKI_ROLE_NONE: as it is; of a new one: viewer */
    struct span csr_der;
};
int pki_operator_set(struct pki *pki,
                     const struct pki_operator_wish *wish,
                     const struct pki_act *act,
                     struct arena *arena,
                     struct pki_granted *ret,
                     struct tls_why *ret_why) MUST_USE;
/* The last admin stays. Outcomes: PKI_UNKNOWN, PKI_REFUSED (ret_why), PKI_FULL. */
int pki_operator_remove(struct pki *pki,
                        const char *name,
                        const struct pki_act *act,
                        struct tls_why *ret_why) MUST_USE;

/* ---- bearer tokens and signed requests (design: for clients without certificates) ---- */

/* Signing keys are rolled each month; the one before counts for the overlap, and one that nobody
 * rolled so much longer. */
#define PKI_BEARER_ROLL_US (INT64_C(31) * 24 * 3600 * 1000000)
#define PKI_BEARER_OVERLAP_US (INT64_C(7) * 24 * 3600 * 1000000)
#define PKI_BEARER_TTL_US (INT64_C(90) * 24 * 3600 * 1000000)
#define PKI_BEARER_MAX_TTL_US (INT64_C(366) * 24 * 3600 * 1000000)
struct pki_bearer_wish {
    const char *name; /* of the user it acts as */
    enum pki_role role;
    int64_t ttl_us; /* 0: PKI_BEARER_TTL_US */
    bool must_sign; /* calls carry X-Signature */
};
struct pki_bearer {
    char id[IDENTITY_TOKEN_ID_BYTES + 1];
    uint8_t secret[IDENTITY_SECRET_BYTES]; /* of a new one alone */
    uint8_t hmac_key[32];                  /* of a new one that must sign */
    char name[64];
    enum pki_role role;
    bool must_sign, is_revoked;
    wall_us created, expires, last_used;
};
/* Outcomes: PKI_BAD_NAME (ret_why names the field), PKI_BAD (the hub's secret is sealed under
 * another key), PKI_FULL. */
int pki_bearer_create(struct pki *pki,
                      const struct pki_bearer_wish *wish,
                      const struct pki_act *act,
                      struct pki_bearer *ret,
                      struct tls_why *ret_why) MUST_USE;
int pki_bearer_list(struct pki *pki,
                    struct arena *arena,
                    struct pki_bearer **ret,
                    size_t *ret_n) MUST_USE;
/* Outcomes: PKI_UNKNOWN, PKI_FULL. */
int pki_bearer_revoke(struct pki *pki, const char *id, const struct pki_act *act) MUST_USE;
/* Another signing key, in ret->hmac_key; the one before counts for the overlap. Outcomes:
 * PKI_UNKNOWN (none, over, or not one that signs), PKI_BAD, PKI_FULL. */
int pki_bearer_roll(struct pki *pki,
                    const char *id,
                    const struct pki_act *act,
                    struct pki_bearer *ret,
                    struct tls_why *ret_why) MUST_USE;
/*
 * Who calls with "authorization: Bearer ID.SECRET", and with "x-signature" where that must be.
 * Memory only but for a nonce's bookkeeping: fine on call threads. The identity's kind is
 * PKI_BEARER, its sha256 that of the token's id. Outcomes: PKI_UNKNOWN, PKI_EXPIRED,
 * PKI_NOT_ACTIVE, PKI_REFUSED (the signature; ret_why).
 */
struct pki_bearer_call {
    struct span authorization, signature; /* header values */
    const char *method;                   /* "POST" */
    const char *path;
    struct span body_sha256; /* 32 bytes; gRPC: of the empty body, as messages stream */
    bool has_body;           /* `body` is all of it (needed for the seed document's form alone) */
    struct span body;
    const char *peer;
};
int pki_bearer_identify(struct pki *pki,
                        const struct pki_bearer_call *call,
                        wall_us now,
                        struct pki_identity *ret,
                        struct tls_why *ret_why) MUST_USE;
