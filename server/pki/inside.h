#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/* The pki object, for the files of server/pki only. */

#include <pthread.h>
#include <stdatomic.h>

#include "server/pki/authority.h"
#include "server/pki/registry/registry.h"
#include "server/pki/registry/view.h"
#include "server/store/store.h"

struct pki_ca;      /* ca/ca.h */
struct pki_revoked; /* agents/revoked.h */
struct pki_hellos;  /* agents/hello.c */
struct pki_job;     /* enrol/lineage.h */

/* enrol/worker.c */
struct pki_worker {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    /* under `lock` */
    struct pki_job *first, *last;
    bool has_thread, is_stopping;
};

struct pki {
    struct store *store; /* borrowed */
    struct pki_ca *ca;
    char certs[PKI_PATH_BYTES];
    struct pki_authority authority;
    struct pki_revoked *revoked;
    struct pki_hellos *hellos;
    struct pki_worker worker;
    _Atomic int64_t agent_life_us, operator_life_us, grace_us;
    _Atomic int64_t adopt_until_us; /* 0: never restored */

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

/* Reads it all again; what memory had ahead of the disk is dropped. */
int pki_view_reread(struct pki *pki) MUST_USE;
/* Rows of the first hubs get what they lack: an index by name, and rows of their agents. Once.
 * Outcomes: PKI_FULL. */
int pki_migrate(struct pki *pki) MUST_USE;
