#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Refusals: what is said to the caller and to the audit. Private to server/pki.
 *
 * Thread: any.
 */

#include "server/pki/inside.h"

/* "token_expired": a word for the audit and the counters. */
const char *pki_refusal_name(enum pki_refusal refusal);

/* One attempt of somebody outside. */
struct pki_attempt {
    enum audit_event event; /* of a refusal; a token's own failures have their own */
    const char *token_id;   /* NULL: without one */
    const char *name;       /* of whom it says it is; may be empty */
    const char *peer, *correlation;
};
/* Records it in a transaction of its own and answers PKI_REFUSED; PKI_FULL when it cannot. */
int pki_refuse(struct pki *pki,
               const struct pki_attempt *attempt,
               enum pki_refusal refusal,
               const struct tls_why *why) MUST_USE;
