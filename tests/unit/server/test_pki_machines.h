#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A registry with an authority in a temporary directory, a clock that the test sets, and machines
 * that ask it for identities.
 */

#include "suite.h"

#include "common/base/arena.h"
#include "common/identity/identity.h"
#include "common/tls/tls.h"
#include "server/audit/audit.h"
#include "server/pki/pki.h"
#include "server/store/store.h"

#define SECOND_US INT64_C(1000000)
#define DAY_US (24 * 3600 * SECOND_US)

extern struct pki_rig {
    char state[64];
    struct store *store;
    struct pki *pki;
    struct arena arena;
    struct tls_why why;
    enum pki_refusal refusal;
    int64_t offset_us; /* of the clock */
} rig;
extern const struct pki_act rig_act;

void rig_setup(void);
void rig_teardown(void);
/* Registry and store; what was queued is durable. */
void rig_close(void);
void rig_open(void);
void rig_open_store(void);
void rig_open_pki(void);
const char *rig_path(const char *name);

/* A machine: what it has beside its identity. */
#define MACHINE_OLD_KEYS 64
struct machine {
    struct tls_key *old_keys[MACHINE_OLD_KEYS];
    size_t n_old_keys;
    struct tls_key *key, *next_key; /* of `leaf`, of what it asks for */
    struct buf csr;                 /* of next_key */
    struct pki_granted granted;     /* the last; lies in the rig's arena */
    struct pki_identity identity;   /* as pki_identify() had it last */
    struct identity_fingerprint fingerprint;
};
void machine_init(struct machine *machine,
                  const char *text); /* `text`: what the fingerprint is of */
void machine_deinit(struct machine *machine);
void machine_new_key(struct machine *machine);

struct pki_token rig_token(const struct pki_token_wish *wish);
int machine_enrol(struct machine *machine, const struct pki_token *token, const char *id);
int machine_renew(struct machine *machine, const uint8_t sha256[32]);
/* Over a nonce; with a chain and key that it had before. */
int machine_renew_expired(struct machine *machine,
                          const struct pki_granted *old,
                          const struct tls_key *old_key);
/* A call with the leaf of this grant: identified, and presented when it is unconfirmed. */
int machine_call(struct machine *machine, const struct pki_granted *granted);
const uint8_t *leaf_of(const struct pki_granted *granted);
/* Until what was queued is durable: closes and opens. */
void rig_settle(void);

struct pki_certificate *rig_certificates(const char *name, size_t *ret_n);
enum pki_state rig_state_of(const struct pki_granted *granted);
/* How many entries of the audit have this event. */
size_t rig_count(enum audit_event event);
