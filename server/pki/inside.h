#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/* The pki object, for the files of server/pki only. */

#include <pthread.h>
#include <stdatomic.h>

#include "common/base/map.h"
#include "server/pki/authority.h"
#include "server/pki/registry.h"
#include "server/store/store.h"

/* One reading of the registry: never changed once it is in place, freed when the next one is. */
struct pki_view {
    struct pki_identity *identities;
    size_t n_identities, capacity;
    size_t n_unreadable;
    struct map by_sha256;
};

struct pki_ca; /* ca/ca.h */

struct pki {
    struct store *store; /* borrowed */
    struct pki_ca *ca;
    char certs[PKI_PATH_BYTES];
    struct pki_authority authority;
    _Atomic uint64_t generation; /* written under both locks */

    pthread_mutex_t refreshing; /* one reader of the tables at a time; before `lock` */
    uint64_t state_version;     /* under `refreshing`: the store's, when it was last looked at */

    pthread_rwlock_t lock;
    struct pki_view *view; /* under `lock` */
};
