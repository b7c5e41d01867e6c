#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The authority's upkeep: keys at rest, foreign authorities, rotation, the list of revoked
 * certificates. A part of pki.h, which others include.
 *
 * CA keys are sealed with AES-256-GCM under a key from a file, the environment
 * (SENTINEL_HUB_CA_KEY) or a systemd credential ($CREDENTIALS_DIRECTORY/ca-key); without any they
 * lie in the clear, mode 0600, and status and log say so. What signs is an interface (struct
 * pki_signer), so that a TPM or PKCS#11 key can stand behind it; the root may be taken away after
 * init ("root offline"): what needs it says so.
 *
 * Rotation goes through phases, each acknowledged and reversible:
 *   prepare   a new root is made and announced (trust bundle, Welcome's generation); agents that
 *             fetched the new bundle count as ready
 *   issue     leaves come from the new intermediates; refused while agents that are not ready
 *             would be left out, unless forced
 *   serve     the hub's own certificate comes from it too
 *   retire    the old root is no longer told or accepted
 *
 * Thread: any; all of it blocks.
 */

#include <stdbool.h>
#include <stdint.h>

#include "server/pki/pki_identity.h"

struct pki_act; /* pki_admin.h */
struct store;

/* What signs. `ctx` belongs to who made it. */
struct pki_signer {
    /* Appends an ECDSA-SHA256 signature (DER) over the data. */
    int (*sign)(void *ctx, struct span data, struct buf *to);
    void (*free)(void *ctx);
    void *ctx;
};

enum pki_part { PKI_PART_ROOT, PKI_PART_AGENTS, PKI_PART_HUBS, PKI_N_PARTS };
/* Right after pki_open(): this signs for the part from now on, and its key's file is not looked
 * for. Freed by pki_close(). */
void pki_use_signer(struct pki *pki, enum pki_part part, const struct pki_signer *take_signer);

enum pki_ca_phase { PKI_CA_STEADY = 0, PKI_CA_PREPARED, PKI_CA_ISSUING, PKI_CA_SERVING };
const char *pki_ca_phase_name(enum pki_ca_phase phase);

struct pki_ca_status {
    enum pki_ca_phase phase;
    wall_us since;
    uint32_t n_ready, n_agents; /* of agents seen within 30 days */
    wall_us root_not_after, agents_ca_not_after, hubs_ca_not_after;
    bool is_sealed, is_root_offline;
    uint8_t pin[32], next_pin[32]; /* of the roots' public keys */
};
int pki_ca_get_status(struct pki *pki, struct pki_ca_status *ret) MUST_USE;
/*
 * step_name: "prepare", "issue", "serve", "retire" or "back" (to the phase before). Audited.
 * Outcomes: PKI_REFUSED (not from this phase; agents that are not ready: ret_why has how many and
 * who), PKI_ABSENT (the root is offline; ret_why), PKI_FULL.
 */
int pki_ca_rotate(struct pki *pki,
                  const char *step_name,
                  bool is_forced,
                  const struct pki_act *act,
                  struct pki_ca_status *ret,
                  struct tls_why *ret_why) MUST_USE;
/* An agent has fetched this bundle (Renew, Enroll, GetTrustBundle over its channel). Queues. */
void pki_ca_note_bundle(struct pki *pki, const char *agent);

/* A foreign CA whose leaves may be agents or operators, by a rule. */
struct pki_foreign {
    char name[64]; /* of the rule */
    char subject[256];
    uint8_t sha256[32];
    wall_us not_after;
    char cn_pattern[128], o_pattern[128], ou_pattern[128]; /* `*` and `?`; empty: any */
    enum pki_kind kind;
    enum pki_role role;
    bool may_register; /* a leaf that is seen for the first time registers itself */
};
/* Outcomes: PKI_EXISTS, PKI_BAD_NAME, PKI_BAD (not a CA), PKI_FULL; ret_why. */
int pki_foreign_add(struct pki *pki,
                    const struct pki_foreign *rule,
                    struct span cert_pem,
                    const struct pki_act *act,
                    struct tls_why *ret_why) MUST_USE;
int pki_foreign_list(struct pki *pki,
                     struct arena *arena,
                     struct pki_foreign **ret,
                     size_t *ret_n) MUST_USE;
/* Outcomes: PKI_UNKNOWN, PKI_FULL. */
int pki_foreign_remove(struct pki *pki, const char *name, const struct pki_act *act) MUST_USE;

/* Grows with each step of a rotation and each rule of a foreign authority: time to look at
 * pki_client_roots() and pki_renew_server() again. Cheap: any thread. */
uint64_t pki_ca_version(struct pki *pki);

/* Every root that a client's certificate may hang on, PEM: for both listeners. Grows and shrinks
 * with rotation and foreign CAs: pki_ca_version() tells. */
int pki_client_roots(struct pki *pki, struct buf *to) MUST_USE;
int pki_foreign_roots(struct pki *pki, struct buf *to) MUST_USE; /* those of foreign ones alone */

/* The CRL of an intermediate, DER, signed at each change and once a day; the bytes are appended.
 * `issuer`: SHA-256 of its certificate, one of the authority of now or of the next one; NULL: of
 * that which signs agents' and operators' certificates now. Outcomes: PKI_ABSENT (the key is not
 * there), PKI_UNKNOWN (no such intermediate). */
int pki_crl(struct pki *pki, const uint8_t *issuer, wall_us now, struct buf *to) MUST_USE;

/* Signs with the hub's own key (anchors of the audit), and looks at such a signature. */
int pki_hub_sign(struct pki *pki, struct span data, struct buf *to) MUST_USE;
bool pki_hub_check(struct pki *pki, struct span data, struct span signature);

/*
 * Seals every secret in <state>/certs (but the listener's key, which every start must read) under
 * `fresh`, or opens them all with `fresh` NULL. Each file is replaced as a whole; a run that was
 * cut is run again with both keys. A hub that runs meanwhile must be started again with the new
 * key.
 *
 *   old     what they are sealed under now; NULL: nothing, or `fresh` already.
 *
 * Outcomes: PKI_ABSENT, PKI_BAD, PKI_FULL (the entry cannot be written: no key was touched);
 * ret_why.
 */
struct sealed_key; /* server/pki/sealed/sealed.h */
struct pki_seal {
    const struct sealed_key *old, *fresh;
    struct store *store;       /* for the audit's entry, which comes first; NULL: none is made */
    const struct pki_act *act; /* whose act it is; with a store */
};
int pki_seal_keys(const char *state_directory,
                  const struct pki_seal *seal,
                  uint32_t *ret_n,
                  struct tls_why *ret_why) MUST_USE;
