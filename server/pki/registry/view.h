#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * View: the registry in memory, for who asks at every call. Private to server/pki.
 *
 * What this process changes is put into the view in the order of generations; when another process
 * changed something all is read again.
 *
 * Thread: those who change it hold pki->lock for writing, those who look for reading.
 */

#include <stdatomic.h>

#include "common/base/map.h"
#include "server/pki/registry/registry.h"

struct pki_name;

/* A certificate. */
struct pki_entry {
    struct pki_identity identity;
    wall_us registered, changed;
    /* When memory moved its state on, until the disk has it: what is written meanwhile does not
     * move it back. 0: the disk has it. */
    wall_us ahead;
    uint8_t parent[32], lineage[PKI_LINEAGE_BYTES];
    /* The last time it came in a call, also refused; 0: never. Ahead of the disk. */
    _Atomic int64_t presented_us;
    struct pki_name *name;
    struct pki_entry *next; /* of the name */
};

/* Who certificates are of. Without a row of its own: an operator, a hub, an older agent. */
struct pki_name {
    uint8_t key[1 + 64]; /* kind, name */
    size_t key_len;
    bool has_row;
    enum pki_agent_state state; /* of one with a row; the next ones too */
    wall_us changed;
    uint8_t lineage[PKI_LINEAGE_BYTES];
    uint8_t current[32];
    /* A fork that memory saw and the disk does not have yet: what is written meanwhile does not
     * let it in again. 0: none. */
    wall_us forked;
    struct pki_entry *first;
};

struct pki_view {
    struct map by_sha256, by_name;
    size_t n_unreadable;
};

struct pki_view *pki_view_free(struct pki_view *view);
DEFINE_CLEANUP(struct pki_view *, pki_view_free);
/* `before` (may be NULL) knows when certificates were presented. */
int pki_view_read(struct pki_view **ret,
                  struct store *store,
                  const struct pki_view *before) MUST_USE;
/* Memory sees it first: the state, from that time on. */
void pki_view_move(struct pki_entry *entry, enum pki_state state, wall_us at);
/* Faults: no memory; then it has to be read again. */
int pki_view_apply(struct pki_view *view, const struct pki_touch *touch) MUST_USE;

struct pki_entry *pki_view_find(const struct pki_view *view, const uint8_t sha256[32]);
/* NULL: no such name. */
struct pki_name *
pki_view_find_name(const struct pki_view *view, enum pki_kind kind, const char *name);
