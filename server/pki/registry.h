#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Registry rows: how the registry lies in the store's tables, and the one way they are written.
 * Private to server/pki.
 *
 * Every change is one transaction that also raises the generation. Processes that change it (a hub,
 * offline commands) take turns by a lock on the certs directory, so that no two changes share a
 * generation.
 *
 * Thread: any.
 */

#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "server/pki/pki.h"
#include "server/store/store.h"

#define PKI_ORGANISATION_BYTES 65 /* X.520 ub-organization-name is 64 */
#define PKI_TRUST_DOMAIN_BYTES 256
#define PKI_URL_BYTES 512

/* What is known of one certificate. */
struct pki_row {
    struct pki_identity identity; /* without its generation */
    char issuer[256];             /* the issuer's common name */
    wall_us registered;
    uint8_t parent[32]; /* digest of the certificate that this one renews; zero: none */
};

/* Appends the row's value; the key is identity.sha256. */
void pki_row_encode(const struct pki_row *row, struct buf *to);
/* Outcomes: PKI_BAD (not of this form, or of a later version). */
int pki_row_decode(struct span key, struct span value, struct pki_row *ret) MUST_USE;

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

struct pki_change {
    const char *certs_directory; /* what is locked meanwhile */
    const struct pki_row *rows;
    size_t n_rows;
    const struct pki_authority *authority; /* NULL: stays as it is */
};
/* Adds or replaces rows and raises the generation, durably, in one transaction. Blocks. */
int pki_registry_change(struct store *store, const struct pki_change *change) MUST_USE;
