#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/* The pki object, for the files of server/pki only. */

#include <pthread.h>
#include <stdatomic.h>

#include "server/pki/authority.h"
#include "server/pki/registry/registry.h"
#include "server/pki/registry/view.h"
#include "server/store/store.h"

struct pki_ca; /* ca/ca.h */

struct pki {
    struct store *store; /* borrowed */
    struct pki_ca *ca;
    char certs[PKI_PATH_BYTES];
    struct pki_authority authority;

    /* registry/change.c */
    _Atomic uint64_t generation; /* that the view has; written under both locks */
    _Atomic uint64_t last_own;   /* the last one that a change of this process made */
    _Atomic unsigned n_changing; /* changes under way, until they are in the view */
    pthread_mutex_t refreshing;  /* one who brings the view up to date at a time; before `lock` */
    pthread_cond_t applied;      /* under `refreshing`: `generation` has grown */
    uint64_t state_version;      /* under `refreshing`: the store's, when it was last looked at */

    pthread_rwlock_t lock;
    struct pki_view *view; /* under `lock` */
};
