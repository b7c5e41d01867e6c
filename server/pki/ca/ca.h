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
 * Lock order: `lock` comes before pki's own `lock`, and is not held in a transaction.
 */

#include <pthread.h>
#include <stdatomic.h>

#include "common/base/buf.h"
#include "common/base/cleanup.h"
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

struct pki_ca {
    struct sealed_key sealing; /* never changes while it is open */
    struct pki_signer signers[PKI_N_PARTS];

    pthread_mutex_t lock;
    uint64_t generation;   /* under `lock`: what `row` was read at */
    struct pki_ca_row row; /* under `lock` */
};

/* Outcomes: PKI_BAD, PKI_ABSENT (the key's file that was named). */
int pki_ca_open(struct pki *pki, const char *key_file, struct tls_why *ret_why) MUST_USE;
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
