#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Mint: a certificate for somebody else's public key, and the answer that it travels in. Private to
 * server/pki.
 *
 * Thread: any. Blocks on the disk (the CA's files).
 */

#include "server/pki/inside.h"

struct pki_mint {
    enum pki_kind kind; /* PKI_AGENT or PKI_OPERATOR */
    enum pki_role role;
    const char *name;
    const struct tls_key *key; /* of tls_csr_parse() */
    int64_t life_us;
};
/* The row is UNCONFIRMED and begins a lineage; its chain lies in `chain`. */
struct pki_minted {
    struct pki_row row;
    struct buf chain;
};
void pki_minted_deinit(struct pki_minted *minted);
/* Outcomes: PKI_ABSENT, PKI_BAD (the CA's files; ret_why). */
int pki_mint(struct pki *pki,
             const struct pki_mint *mint,
             wall_us now,
             struct pki_minted *ret,
             struct tls_why *ret_why) MUST_USE;

/* What a machine gets for a row with its chain: all of it copied. Faults: no room. */
int pki_grant(struct pki *pki,
              const struct pki_row *row,
              struct arena *arena,
              struct pki_granted *ret) MUST_USE;
/* The roots that agents shall trust, PEM. Outcomes: PKI_ABSENT, PKI_BAD. */
int pki_read_roots(const struct pki *pki, struct buf *to, struct tls_why *ret_why) MUST_USE;
