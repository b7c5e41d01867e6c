#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * PKI: the hub's certificate authority and the registry of who is known.
 *
 * Root -> two intermediates (agents and operators; hubs) -> leaves. The registry says what a
 * certificate may do: its rows are keyed by the SHA-256 of the leaf's DER, and the role comes from
 * there, never from the certificate. The registry has a generation that grows with every change,
 * also one made by an offline command beside a running hub (noticed by pki_refresh() within 200
 * ms).
 *
 * Files under <state>/certs: ca-cert.pem ca-key.pem, agents-ca-cert.pem agents-ca-key.pem,
 * hubs-ca-cert.pem hubs-ca-key.pem, server-cert.pem (with chain) server-key.pem.
 * <state>/operators/admin: the first operator's identity directory.
 *
 * Glossary:   leaf, chain  as in common/tls      generation  the registry's version
 * Thread:     any; identities are looked up under a read lock.
 */

#include <stdbool.h>
#include <stdint.h>

#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/span.h"
#include "common/tls/tls.h"
#include "server/pki/pki_admin.h"
#include "server/pki/pki_ca.h"
#include "server/pki/pki_enrol.h"
#include "server/pki/pki_identity.h"
#include "server/pki/pki_offline.h"
#include "server/store/store.h"

struct pki;

struct pki_init {
    const char *state_directory;
    const char *const
        *names; /* SANs besides localhost and 127.0.0.1; NULL at the end; NULL: none */
    const char *organisation; /* "Sentinel" by default */
    const char *trust_domain; /* "sentinel.internal" by default */
    const char *crl_url;      /* NULL: https://NAME:8081/crl of the first name; "none" */
    const char *ca_key_file;  /* as in struct pki_options */
};
/*
 * Makes root, intermediates, hub certificate and the first operator (admin), and registers them.
 * Existing files are never overwritten. Outcomes: PKI_EXISTS, PKI_BAD_NAME, PKI_BAD.
 */
int pki_create(struct store *store, const struct pki_init *init, struct tls_why *ret_why) MUST_USE;

/*
 * Before anything in it is opened: the state directory and its database are ours or root's, and
 * written by us alone; who can write there could put a registry of his own in place. Called by
 * pki_create() and pki_open() too. What is not there is left to others to say. Outcomes: PKI_BAD;
 * ret_why has the remedy.
 */
int pki_check_state(const char *state_directory, struct tls_why *ret_why) MUST_USE;

/* Of identity.agent_life, identity.operator_life, identity.grace; 0: the default. */
#define PKI_AGENT_LIFE_US (INT64_C(7) * 24 * 3600 * 1000000)
#define PKI_OPERATOR_LIFE_US (INT64_C(90) * 24 * 3600 * 1000000)
#define PKI_GRACE_US (INT64_C(7) * 24 * 3600 * 1000000)
struct pki_lives {
    int64_t agent_us, operator_us; /* of certificates issued from now on */
    int64_t grace_us;              /* after its end a certificate may still be renewed */
};
struct pki_options {
    const char *state_directory;
    /* Of the key that CA keys are sealed under; NULL or empty: SENTINEL_HUB_CA_KEY, then the
     * credential `ca-key`, then none: then they lie in the clear. */
    const char *ca_key_file;
    struct pki_lives lives;
    bool takes_seed_signatures; /* of bearers: X-Signature: <unix seconds>.<hex or base64> */
};
/* Outcomes: PKI_ABSENT, PKI_BAD. */
int pki_open_with(struct pki **ret,
                  struct store *store,
                  const struct pki_options *options,
                  struct tls_why *ret_why) MUST_USE;
int pki_open(struct pki **ret,
             struct store *store,
             const char *state_directory,
             struct tls_why *ret_why) MUST_USE;
/* From now on: settings were loaded again. */
void pki_set_lives(struct pki *pki, const struct pki_lives *lives);
/* Ends its thread when what it has to write is durable. Blocks. */
struct pki *pki_close(struct pki *pki);
DEFINE_CLEANUP(struct pki *, pki_close);

struct pki_issue {
    enum pki_kind kind;    /* PKI_AGENT or PKI_OPERATOR */
    const char *name;      /* agent id: [a-z0-9][a-z0-9.-]{0,62}; operators: the same rule */
    enum pki_role role;    /* of an operator; PKI_ROLE_NONE: operator */
    const char *directory; /* becomes an identity directory */
    int64_t life_us;       /* 0: as the lives of the options. May be negative in tests: already
                              expired */
};
/* A new key and certificate, registered, then written. Outcomes: PKI_EXISTS, PKI_BAD_NAME, PKI_BAD.
 */
int pki_issue_identity(struct pki *pki,
                       const struct pki_issue *issue,
                       struct tls_why *ret_why) MUST_USE;

/*
 * Who presents this leaf (DER). PKI_NOT_ACTIVE and PKI_EXPIRED fill the identity too.
 * Outcomes: PKI_UNKNOWN, PKI_NOT_ACTIVE, PKI_EXPIRED.
 */
int pki_identify(struct pki *pki,
                 struct span leaf_der,
                 wall_us now,
                 struct pki_identity *ret) MUST_USE;
/* The same by the digest that an identity carries: for long streams after a change of generation.
 */
int pki_recheck(struct pki *pki,
                const uint8_t sha256[32],
                wall_us now,
                struct pki_identity *ret) MUST_USE;

/* Atomic read; compare with the identity's for each message of a long stream. */
uint64_t pki_generation(const struct pki *pki);
/* Reads the registry again when the database changed. Call every 100 ms; cheap when nothing did. */
int pki_refresh(struct pki *pki) MUST_USE;
/*
 * Call it every minute: the ends of tokens go on record, and rows that nobody can come with any
 * more are dropped: PKI_ROWS_LINGER_US after a certificate's end, superseded ones after the grace.
 * What an agent had last stays. Queues.
 */
#define PKI_ROWS_LINGER_US (INT64_C(30) * 24 * 3600 * 1000000)
void pki_tick(struct pki *pki);

/* The hub's own material from the files, checked (key matches, chain leads to the root). Outcomes:
 * PKI_ABSENT, PKI_BAD. */
int pki_load_server(const char *state_directory,
                    struct tls_identity *ret,
                    struct tls_why *ret_why) MUST_USE;

/*
 * Makes the hub a new certificate and key when those in the files are by our hubs CA and less than
 * a fifth of their life is left, or when they do not belong together (a power cut between the two
 * files). The listener must load them again then. Without our hubs CA or with a foreign certificate
 * nothing happens. Outcomes: PKI_BAD (the hubs CA's files).
 */
int pki_renew_server(struct pki *pki,
                     wall_us now,
                     bool *ret_is_renewed,
                     struct tls_why *ret_why) MUST_USE;
/* Less than a fifth of the life is left, or nothing: time to renew, or to warn. */
bool pki_is_near_its_end(wall_us not_before, wall_us not_after, wall_us now);
/*
 * Agents and operators whose last certificate is near its end, and not over: at most `max`, the
 * soonest first; *ret_n_all of them there are. One pass over memory.
 */
struct pki_expiring {
    char name[64];
    enum pki_kind kind;
    wall_us not_after;
};
int pki_list_expiring(struct pki *pki,
                      wall_us now,
                      struct pki_expiring *ret,
                      size_t max,
                      size_t *ret_n,
                      size_t *ret_n_all) MUST_USE;

/* What is wrong with a row of the registry's tables; NULL: nothing, or it is not the registry's.
 * For store_survey(); ctx is not used. */
const char *pki_check_row(void *ctx, enum store_table table, struct span key, struct span value);

/*
 * The registry comes from a backup, and no hub has it yet. Its generation goes up by one, enrolment
 * tokens are void, and for PKI_ADOPT_US a certificate by our own CA that the backup does not know
 * is registered again when it comes, if its agent's id is known and it was not revoked. `ret` is
 * the new generation.
 */
#define PKI_ADOPT_US (INT64_C(7) * 24 * 3600 * 1000000)
int pki_restored(struct store *store, uint64_t *ret) MUST_USE;
/*
 * Puts what another <state>/revoked says, that of the hub from before a restore, into that of this
 * state directory: of two words on one certificate or agent the younger one counts, in the same
 * second the revocation. Durable when it returns; a hub merges it before it serves. ret_n: the
 * revocations that this file did not know. Outcomes: PKI_BAD (no such list; ret_why).
 */
int pki_revoked_import(const char *state_directory,
                       const char *file,
                       size_t *ret_n,
                       struct tls_why *ret_why) MUST_USE;
/* Whether that file can be read, before much is done for its sake. Outcomes: PKI_BAD (ret_why). */
int pki_revoked_look(const char *file, struct tls_why *ret_why) MUST_USE;

/* The first name that the hub was given (init --name), else "localhost": borrowed. */
const char *pki_first_name(const struct pki *pki);

bool pki_name_is_good(const char *name);
const char *pki_role_name(enum pki_role role); /* "admin" */
