#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The authority inside an open pki: the key that seals, what signs, the phase of a rotation.
 * Private to server/pki.
 *
 * An authority has a number, from 1; a rotation makes the next one. Its files in <state>/certs are
 * ca-*, agents-ca-* and hubs-ca-* for number 1, and ca-N-*, agents-ca-N-*, hubs-ca-N-* for the
 * others. ca-cert.pem is what is trusted: the roots that count, that of the current authority
 * first. Which number is current and which is next stands in the table META; the file of roots is
 * mended after it when a step was cut.
 *
 * Lock order: pki's `refreshing`, `refreshing` here, `lock` here; pki's own `lock` with none of
 * them. None is held in a transaction of ours.
 */

#include <pthread.h>
#include <stdatomic.h>

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "server/audit/audit.h"
#include "server/pki/authority.h"
#include "server/pki/pki.h"
#include "server/pki/sealed/sealed.h"

#define PKI_CA_NAME_BYTES 48

/* META "pki.ca". */
struct pki_ca_row {
    enum pki_ca_phase phase;
    uint32_t current, next; /* numbers; next 0: none */
    uint32_t highest;       /* ever made: numbers are not used again */
    wall_us since;          /* of the phase */
};
void pki_ca_row_encode(const struct pki_ca_row *row, struct buf *to);
/* Outcomes: PKI_BAD. */
int pki_ca_row_decode(struct span value, struct pki_ca_row *ret) MUST_USE;

struct pki_foreign_set; /* foreign.c */
struct pki_bearer_set;  /* bearer.c */
struct pki_clerk;       /* clerk.c */
struct pki_crl_cache;   /* crl.c */
struct pki_nonces;      /* nonces.h */

struct pki_ca {
    struct sealed_key sealing; /* never changes while it is open */
    struct pki_signer signers[PKI_N_PARTS];
    bool takes_seed_signatures;

    _Atomic uint64_t version;   /* of row and rules */
    pthread_mutex_t refreshing; /* one who reads the tables, or makes a key; before `lock` */
    pthread_mutex_t lock;
    /* Under `lock`: what is below was read at this generation. */
    uint64_t generation;
    struct pki_ca_row row;
    struct pki_foreign_set *foreign;
    struct pki_bearer_set *bearers;

    struct pki_nonces *nonces; /* has a lock of its own */
    struct pki_clerk *clerk;   /* has a lock of its own */
    struct pki_crl_cache *crl; /* has a lock of its own */
};

/* Outcomes: PKI_BAD, PKI_ABSENT (the key's file that was named). */
int pki_ca_open(struct pki *pki,
                const struct pki_options *options,
                struct tls_why *ret_why) MUST_USE;
void pki_ca_close(struct pki *pki);
/* Reads again what the table has, when the generation changed. */
int pki_ca_refresh(struct pki *pki) MUST_USE;
void pki_ca_get_row(struct pki *pki, struct pki_ca_row *ret);

/* "agents-ca", "agents-ca-2". Returns `to`. */
const char *pki_ca_name(enum pki_part part, uint32_t number, char to[static PKI_CA_NAME_BYTES]);

/*
 * What signs leaves now (PKI_PART_AGENTS, PKI_PART_HUBS), by the phase. Outcomes: PKI_ABSENT,
 * PKI_BAD.
 */
int pki_ca_issuer(struct pki *pki,
                  enum pki_part part,
                  struct pki_issuer *ret,
                  struct tls_why *ret_why) MUST_USE;
/* That of one authority. */
int pki_ca_issuer_of(struct pki *pki,
                     enum pki_part part,
                     uint32_t number,
                     struct pki_issuer *ret,
                     struct tls_why *ret_why) MUST_USE;
/* Whether no key of the authority lies in the clear. */
int pki_ca_is_sealed(const char *certs, bool *ret) MUST_USE;
/* A secret of the hub's own under certs/<name>-key.pem, sealed like the CA's keys; made when it is
 * not there. `ret` has SEALED_KEY_BYTES. Outcomes: PKI_BAD. */
int pki_ca_secret(struct pki *pki,
                  const char *name,
                  uint8_t ret[static SEALED_KEY_BYTES],
                  struct tls_why *ret_why) MUST_USE;

/* ---- acts ---- */

/* The entry of an act, in its transaction. `object`: "bearer/k7mq2h5x". Answers as
 * pki_edit_put(). */
int pki_act_audit(struct pki_edit *edit,
                  const struct pki_act *act,
                  enum audit_event event,
                  const char *object,
                  const struct audit_field *fields,
                  size_t n_fields) MUST_USE;
/* Every certificate of the registry, in no order that matters; no put meanwhile. */
int pki_edit_each_row(struct pki_edit *edit,
                      bool (*fn)(void *ctx, const struct pki_row *row),
                      void *ctx) MUST_USE;
/* The same from one snapshot. Blocks. */
int pki_each_row(struct store *store,
                 bool (*fn)(void *ctx, const struct pki_row *row),
                 void *ctx) MUST_USE;
/* Of META or TOKENS in a change. Outcomes: STORE_NOT_FOUND. */
int pki_edit_get_raw(struct pki_edit *edit,
                     enum store_table table,
                     const char *key,
                     struct span *ret) MUST_USE;

/* ---- rotate.c ---- */

/* ca-cert.pem after the row: rewritten when it is not what the row says. */
int pki_ca_mend_roots(struct pki *pki, const struct pki_ca_row *row) MUST_USE;
/* Appended to the hub's chain while it serves from the next authority: the new root signed by the
 * old one, so that who knows the old one alone still trusts it. Nothing where there is none. */
int pki_ca_append_cross(struct pki *pki, struct buf *chain_pem) MUST_USE;

/* ---- foreign.c ---- */

void pki_foreign_free(struct pki_foreign_set *set);
int pki_foreign_read(struct store *store, struct pki_foreign_set **ret) MUST_USE;
/* A leaf that the registry does not know: by a rule it may be somebody, who is registered soon.
 * Outcomes: PKI_UNKNOWN, PKI_EXPIRED. */
int pki_foreign_identify(struct pki *pki,
                         struct span leaf_der,
                         wall_us now,
                         struct pki_identity *ret) MUST_USE;

bool pki_foreign_is_same(const struct pki_foreign_set *a, const struct pki_foreign_set *b);
bool pki_foreign_row_is_good(struct span name, struct span value);

/* ---- bearer.c ---- */

void pki_bearers_free(struct pki_bearer_set *set);
int pki_bearers_read(struct pki *pki,
                     struct pki_bearer_set *before,
                     struct pki_bearer_set **ret) MUST_USE;
/* Outcomes: PKI_UNKNOWN, PKI_NOT_ACTIVE, PKI_EXPIRED. */
int pki_bearer_recheck(struct pki *pki,
                       const uint8_t sha256[32],
                       wall_us now,
                       struct pki_identity *ret) MUST_USE;

/* ---- clerk.c: what is written soon, by a thread of its own that the first note starts ---- */

struct pki_clerk *pki_clerk_new(struct pki *pki);
/* Writes what is noted, then ends. Blocks. */
void pki_clerk_free(struct pki_clerk *clerk);
/* Copies. False: too much waits already; it is counted and logged. */
bool pki_clerk_note_ready(struct pki_clerk *clerk, const char *agent, uint32_t number);
bool pki_clerk_note_leaf(struct pki_clerk *clerk, const struct pki_row *row);
bool pki_clerk_note_used(struct pki_clerk *clerk, const char *bearer_id, wall_us at);
/* Among the leaves that wait. */
bool pki_clerk_find_leaf(struct pki_clerk *clerk,
                         const uint8_t sha256[32],
                         struct pki_identity *ret);
/* Until nothing is waiting. For tests, and before a status is read. */
void pki_clerk_settle(struct pki_clerk *clerk);

/* ---- crl.c ---- */

struct pki_crl_cache *pki_crl_cache_new(void);
void pki_crl_cache_free(struct pki_crl_cache *cache);

/* What is wrong with one of our rows; NULL: nothing, or it is not ours. */
const char *pki_ca_check_row(enum store_table table, struct span key, struct span value);
