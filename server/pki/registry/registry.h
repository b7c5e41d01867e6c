#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Registry rows: how the registry lies in the store's tables, and the one way they are written.
 * Private to server/pki.
 *
 * A change runs inside one write transaction of the store, also beside other processes: it reads
 * what holds, writes rows, and puts its audit entry there too. When it touched rows the generation
 * goes up by one. What a change decides on it reads in the transaction, never in memory.
 *
 * Keys:
 *   CERTIFICATES  SHA-256 of the leaf's DER
 *   IDENTITIES    'a' name                   an agent (struct pki_agent_row)
 *                 'c' kind name NUL sha256   index: the certificates of a name; no value to speak
 * of TOKENS        'e' id                     an enrolment token 'u' id key                 who
 * used it: SHA-256 of the public key -> of the leaf 'b' id                     a bearer token META
 * "pki.generation", "pki.authority", "pki.token_key", "pki.adopt_until"
 *
 * Thread: any.
 */

#include <stdint.h>

#include "common/base/arena.h"
#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "server/audit/audit.h"
#include "server/pki/pki.h"
#include "server/store/store.h"

#define PKI_ORGANISATION_BYTES 65 /* X.520 ub-organization-name is 64 */
#define PKI_TRUST_DOMAIN_BYTES 256
#define PKI_URL_BYTES 512
#define PKI_REASON_BYTES 128
#define PKI_LINEAGE_BYTES 16

#define PKI_ADOPT_KEY "pki.adopt_until" /* i64 us */

/* What is known of one certificate. */
struct pki_row {
    struct pki_identity identity; /* without its generation */
    char issuer[256];             /* the issuer's common name */
    wall_us registered;
    wall_us presented; /* first; 0: never */
    wall_us changed;   /* superseded or revoked; 0: neither */
    char reason[PKI_REASON_BYTES];
    uint8_t parent[32]; /* digest of the certificate that this one renews; zero: none */
    uint8_t lineage[PKI_LINEAGE_BYTES];
    uint8_t key_sha256[32]; /* of the SubjectPublicKeyInfo; zero: an older version's row */
    /* DER of leaf and intermediates, each behind its u16 length, for the same answer again; empty
     * when it does not count any more. Borrowed from what was decoded. */
    struct span chain;
};

/* Appends the row's value; the key is identity.sha256. */
void pki_row_encode(const struct pki_row *row, struct buf *to);
/* Outcomes: PKI_BAD (not of this form, or of a later version). */
int pki_row_decode(struct span key, struct span value, struct pki_row *ret) MUST_USE;

/* What is known of an agent beside its certificates. agent.not_after is filled by who tells it. */
struct pki_agent_row {
    struct pki_agent agent;
    uint8_t lineage[PKI_LINEAGE_BYTES]; /* the one that counts */
    wall_us grace_until;                /* RenewExpired is open until then; 0: by the rule */
    struct identity_fingerprint fingerprint;
};
void pki_agent_row_encode(const struct pki_agent_row *row, struct buf *to);
int pki_agent_row_decode(struct span name, struct span value, struct pki_agent_row *ret) MUST_USE;

/* What the authority was made with: it goes into every certificate. */
struct pki_authority {
    char organisation[PKI_ORGANISATION_BYTES];
    char trust_domain[PKI_TRUST_DOMAIN_BYTES];
    char crl_url[PKI_URL_BYTES]; /* empty: none */
    struct buf names;            /* the hub's SANs, each with a NUL behind */
};
void pki_authority_deinit(struct pki_authority *authority);
void pki_authority_encode(const struct pki_authority *authority, struct buf *to);
/* Outcomes: PKI_BAD. */
int pki_authority_decode(struct span value, struct pki_authority *ret) MUST_USE;
/* Outcomes: PKI_ABSENT, PKI_BAD. */
int pki_authority_read(struct store *store, struct pki_authority *ret) MUST_USE;

/* 0 while nothing was ever registered. */
int pki_registry_generation(struct store *store, uint64_t *ret) MUST_USE;

/* ---- changes ---- */

/* What a change did to the rows, for the view in memory (view.h). */
struct pki_touch {
    bool is_agent; /* else a certificate */
    bool is_gone;
    uint8_t sha256[32]; /* of the certificate */
    struct pki_row row; /* its chain is empty */
    struct pki_agent_row agent;
};
struct pki_touches {
    struct pki_touch **rows;
    size_t n, capacity;
    bool is_lost; /* not all is here: read it all again */
    uint64_t generation;
};
void pki_touches_deinit(struct pki_touches *touches);

/* A change under way; lives in the transaction. */
struct pki_edit {
    struct store_change *change; /* for other tables and keys */
    wall_us now;
    uint64_t generation; /* before it */
    bool must_raise;     /* raises the generation although no row was touched */
    struct arena arena;  /* what it reads */
    struct pki_touches *touches;
};
/*
 * Inside the transaction: short, does not block. An outcome of the enum pki_outcome gives the
 * change up: PKI_EDIT(PKI_UNKNOWN). Below zero: a fault, which stops the store.
 */
typedef int pki_edit_fn(struct pki_edit *edit, void *ctx);
#define PKI_EDIT(outcome) (STORE_OUTCOME_FREE + (int) (outcome))

/* All answer 0, STORE_FULL or a fault, to be passed on by the edit; get also STORE_NOT_FOUND. What
 * is got lives as long as the edit. A row of a later version is STORE_NOT_FOUND. */
int pki_edit_get(struct pki_edit *edit, const uint8_t sha256[32], struct pki_row *ret) MUST_USE;
int pki_edit_put(struct pki_edit *edit, const struct pki_row *row) MUST_USE;
int pki_edit_remove(struct pki_edit *edit, const struct pki_row *row) MUST_USE;
int pki_edit_agent_get(struct pki_edit *edit, const char *name, struct pki_agent_row *ret) MUST_USE;
int pki_edit_agent_put(struct pki_edit *edit, const struct pki_agent_row *row) MUST_USE;
int pki_edit_agent_remove(struct pki_edit *edit, const char *name) MUST_USE;
/* Every certificate of a name, oldest registered first. */
int pki_edit_rows_of(struct pki_edit *edit,
                     enum pki_kind kind,
                     const char *name,
                     struct pki_row **ret,
                     size_t *ret_n) MUST_USE;
int pki_edit_audit(struct pki_edit *edit, const struct audit_entry *entry) MUST_USE;
/* Any other row. */
int pki_edit_put_raw(struct pki_edit *edit,
                     enum store_table table,
                     struct span key,
                     struct span value) MUST_USE;

/*
 * One change, durable when it returns. Blocks. For who has no struct pki yet; others use
 * pki_change(), which also shows it in memory.
 *   touches   NULL: nobody looks.
 * Outcomes: what fn says, PKI_FULL.
 */
int pki_edit_run(struct store *store,
                 pki_edit_fn *fn,
                 void *ctx,
                 struct pki_touches *touches) MUST_USE;
/* The same, and pki_identify() knows it when this returns. *ret_generation (may be NULL): that of
 * the registry afterwards. */
int pki_change(struct pki *pki, pki_edit_fn *fn, void *ctx, uint64_t *ret_generation) MUST_USE;

/* The simple one: rows, the authority's facts, an audit entry. */
struct pki_change {
    const struct pki_row *rows;
    size_t n_rows;
    const struct pki_authority *authority; /* NULL: stays as it is */
    const struct audit_entry *entry;       /* NULL: none */
};
/* Adds or replaces rows and raises the generation. Blocks. Outcomes: PKI_FULL. */
int pki_registry_change(struct store *store, const struct pki_change *change) MUST_USE;
/* The same beside an open pki. */
int pki_change_rows(struct pki *pki, const struct pki_change *change) MUST_USE;
