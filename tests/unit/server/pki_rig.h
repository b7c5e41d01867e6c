#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/* A state directory with an authority, for the suites of server/pki. */

#include "server/pki/pki.h"
#include "suite.h"

extern char rig_state[64];
extern struct store *rig_store;
extern struct pki *rig_pki;
extern struct tls_why rig_why;
extern const struct pki_act rig_act;

/* Fixtures: a new directory, `init` done, pki open. The clock is real, moved by rig_move_clock().
 */
void rig_setup(void);
void rig_teardown(void);
/* Without an authority yet. */
void rig_setup_bare(void);

void rig_create(const char *ca_key_file);
/* Again, as a hub that starts anew. */
int rig_reopen(const struct pki_options *options);
void rig_must_reopen(void);

const char *rig_at(const char *name); /* <state>/name; valid for a few calls */
wall_us rig_now(void);
void rig_move_clock(int64_t us);

/* An identity of ours, issued; its leaf as DER, and in the registry. The buffer is the caller's. */
struct buf rig_issue(enum pki_kind kind, const char *name, enum pki_role role);
int rig_identify(struct span der, struct pki_identity *ret);
void rig_revoke(struct span leaf_der);

/* A CA and leaves that are not ours. */
struct rig_foreign {
    struct tls_key *key;
    struct tls_cert *cert;
    struct buf pem;
};
void rig_foreign_init(struct rig_foreign *foreign, const char *name);
void rig_foreign_deinit(struct rig_foreign *foreign);
struct buf
rig_foreign_leaf(const struct rig_foreign *foreign, const char *cn, const char *o, const char *ou);
