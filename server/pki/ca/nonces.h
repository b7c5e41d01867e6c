#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Nonces: which signed requests were seen already. Private to server/pki.
 *
 * Bounded: what is not forgotten yet is never pushed out, so a full memory refuses; one owner gets
 * a quarter of it at most, so that he alone cannot fill it.
 *
 * Thread: any; it has its own lock.
 */

#include <stdbool.h>
#include <stdint.h>

#include "common/base/clock.h"
#include "common/base/span.h"

/* Both ways of five minutes of clock: a request from the near future counts until then. */
#define PKI_SIGNATURE_WINDOW_S 300
#define PKI_NONCE_MEMORY_US (INT64_C(2) * PKI_SIGNATURE_WINDOW_S * 1000000)
#define PKI_MAX_NONCES 65536u /* 109 signed requests a second; 3 MiB */

struct pki_nonces;
struct pki_nonces *pki_nonces_new(void); /* NULL: no memory */
void pki_nonces_free(struct pki_nonces *nonces);

enum pki_nonce_outcome { PKI_NONCE_NEW, PKI_NONCE_SEEN, PKI_NONCE_NO_ROOM };
/* Remembers it when it is new. `now` is a clock that does not go back. */
enum pki_nonce_outcome
pki_nonces_take(struct pki_nonces *nonces, const char *owner, struct span nonce, mono_us now);
