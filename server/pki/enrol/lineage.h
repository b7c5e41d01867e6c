#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Lineages: which certificate of an agent counts, and when two machines have one identity. Private
 * to server/pki.
 *
 * A certificate that is presented for the first time supersedes every other one of its agent that
 * is of its lineage or was registered before it; not its own children. So a new enrolment takes the
 * place of the old machine when it comes, not when it was granted: a reply that was lost leaves the
 * old one in use.
 *
 * Thread: any.
 */

#include "server/pki/inside.h"

/* What the rules look at, of a row or of an entry of the view. */
struct pki_kin {
    const uint8_t *sha256, *parent, *lineage;
    wall_us registered;
};
bool pki_supersedes(const struct pki_kin *presented, const struct pki_kin *other);

/* The row (UNCONFIRMED, or one that comes in) was presented at that time: it becomes current and
 * supersedes; in a transaction. */
int pki_confirm(struct pki_edit *edit, struct pki_row *row, wall_us at) MUST_USE;
/* Superseded or revoked at the time of the edit; forgets the chain. */
void pki_row_end(struct pki_row *row, enum pki_state state, wall_us now, const char *reason);
/* "certificate/<sha256>", for the audit. */
#define PKI_OBJECT_BYTES 80
const char *pki_object_of(const uint8_t sha256[32], char to[static PKI_OBJECT_BYTES]);
const char *pki_agent_object(const char *name, char to[static PKI_OBJECT_BYTES]);

/* pki_identify() found a superseded certificate of the lineage that counts, long enough after: the
 * agent stops, in memory at once and on disk soon. */
void pki_fork(struct pki *pki, const uint8_t sha256[32]);
/* Who is unknown, within PKI_ADOPT_US of a restore: registered again by the rule of pki_restored(),
 * in memory at once and on disk soon. Outcomes: PKI_UNKNOWN. */
int pki_adopt(struct pki *pki, struct span leaf_der, wall_us now) MUST_USE;
/* The same in a transaction. Outcomes: STORE_NOT_FOUND (not by the rule). */
int pki_adopt_in(struct pki_edit *edit, struct pki_row *row) MUST_USE;
/* What a certificate by our own CA says, as a row. Outcomes: PKI_UNKNOWN. */
int pki_row_of_leaf(struct pki *pki,
                    struct span leaf_der,
                    wall_us at,
                    struct pki_row *ret) MUST_USE;

/* ---- the thread that makes it durable (worker.c) ---- */

enum pki_work { PKI_WORK_PRESENTED = 1, PKI_WORK_FORK, PKI_WORK_ADOPT, PKI_WORK_TICK };
struct pki_job {
    struct pki_job *next;
    enum pki_work work;
    struct pki_row row; /* digest, name, when it was presented; of ADOPT: all */
};
/* Copies. Does not block on the disk. */
void pki_work_queue(struct pki *pki, const struct pki_job *given);
/* Does what is queued and ends the thread. */
void pki_work_stop(struct pki *pki);
/* One job, on the thread. Outcomes: PKI_FULL: again later. */
int pki_work_do(struct pki *pki, struct pki_job *job) MUST_USE;
