#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/* The file of revocations and the database made to agree. Private to server/pki/agents.
 * Thread: one, at the open. Blocks. */

#include "server/pki/agents/revoked.h"

#define PKI_REVOKED_LARGE_BYTES ((size_t) 1024 * 1024)

struct pki_revoked {
    char path[PKI_PATH_BYTES];
    pthread_mutex_t lock; /* before pki's `lock` is never held with it */
    /* under `lock`: the last word on each, struct pki_revoked_line */
    struct map by_sha256, by_name;
};

int pki_revoked_merge(struct pki *pki) MUST_USE;
