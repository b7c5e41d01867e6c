#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/* What both ways of renewing share. Private to server/pki. Thread: any. Blocks. */

#include "server/pki/enrol/refusal.h"
#include "server/pki/mint.h"

struct pki_renewing {
    const uint8_t *sha256; /* of the certificate that is renewed */
    const char *name;      /* its agent's, as the registry has it */
    struct span csr_der;
    const char *peer, *correlation;
    bool is_late;                  /* after its end, without a channel */
    const struct pki_row *adopted; /* a row for one that is unknown since a restore; NULL: none */

    /* What comes out. */
    enum pki_refusal refusal;
    struct tls_why why;
    wall_us grace_ends;

    /* Its own. */
    uint8_t key_sha256[32];
    struct pki_minted minted;
    struct pki_row row;
    struct buf chain;
    bool is_again;
    int64_t grace_us;
};
void pki_renewing_deinit(struct pki_renewing *renewing);
/* Outcomes: PKI_REFUSED (not on record yet), PKI_FULL. */
int pki_renew_now(struct pki *pki,
                  struct pki_renewing *renewing,
                  struct arena *arena,
                  struct pki_granted *ret) MUST_USE;
int pki_renew_refuse(struct pki_renewing *renewing, enum pki_refusal refusal, const char *text);
/* By what memory says, which is ahead of the disk: pki_recheck()'s outcome. What else there is, the
 * transaction says. */
bool pki_renew_is_refused(struct pki_renewing *renewing,
                          int r,
                          const struct pki_identity *identity);
