#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Choice: which id a machine gets. Private to server/pki.
 *
 *   - What it asks for, when that keeps the token's pattern and is free.
 *   - Taken by the same machine (fingerprints have a source in common, and all of those agree), or
 *     the token replaces: it too, and the old machine's certificates go when the new one comes.
 *   - Taken by another one: the id with four random characters behind.
 *   - Nothing asked for: one of the hub's making that keeps the pattern.
 *
 * A name that was thrown out is let in again only by a token that replaces.
 *
 * Thread: any.
 */

#include "server/pki/inside.h"

struct pki_choice {
    enum pki_refusal refusal; /* PKI_REFUSED_NOT: there is a name */
    struct tls_why why;
    char name[64];
    bool is_taken; /* by the one that it replaces */
    struct pki_agent_row agent;
};
/* `before`: what was chosen in an earlier round, kept when it still holds; empty: none. In a
 * transaction. */
int pki_choose(struct pki_edit *edit,
               const struct pki_token *token,
               const struct pki_enrolment *asked,
               const char *before,
               struct pki_choice *ret) MUST_USE;
