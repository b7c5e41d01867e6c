/* SPDX-License-Identifier: Apache-2.0 */
#include "server/pki/registry/view.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/log/log.h"

struct pki_view *pki_view_free(struct pki_view *view)
{
    void *one;

    if (!view)
        return NULL;
    for (size_t at = 0; (one = map_next(&view->by_sha256, &at)) != NULL;)
        free(one);
    for (size_t at = 0; (one = map_next(&view->by_name, &at)) != NULL;)
        free(one);
    map_deinit(&view->by_sha256);
    map_deinit(&view->by_name);
    free(view);
    return NULL;
}

/* ---- finding ---- */

struct pki_entry *pki_view_find(const struct pki_view *view, const uint8_t sha256[32])
{
    return map_get(&view->by_sha256, span_of(sha256, 32));
}

static size_t name_key(uint8_t to[static 1 + 64], enum pki_kind kind, const char *name)
{
    size_t len = strlen(name);

    ensure(len < 64);
    to[0] = (uint8_t) kind;
    for (size_t i = 0; i < len; i++)
        to[1 + i] = (uint8_t) name[i];
    return 1 + len;
}

struct pki_name *
pki_view_find_name(const struct pki_view *view, enum pki_kind kind, const char *name)
{
    uint8_t key[1 + 64];
    size_t len = name_key(key, kind, name);

    return map_get(&view->by_name, span_of(key, len));
}

static int
find_or_add_name(struct pki_view *view, enum pki_kind kind, const char *text, struct pki_name **ret)
{
    struct pki_name *name = pki_view_find_name(view, kind, text);

    if (!name) {
        name = calloc(1, sizeof(*name));
        if (!name)
            return fault(-ENOMEM, "no memory for a name");
        name->key_len = name_key(name->key, kind, text);
        int r = map_put(&view->by_name, span_of(name->key, name->key_len), name);
        if (r != 0) {
            free(name);
            return pass(r);
        }
    }
    *ret = name;
    return 0;
}

/* ---- changing ---- */

static void forget_name_if_empty(struct pki_view *view, struct pki_name *name)
{
    if (name->has_row || name->first)
        return;
    (void) map_remove(&view->by_name, span_of(name->key, name->key_len));
    free(name);
}

static void remove_entry(struct pki_view *view, const uint8_t sha256[32])
{
    struct pki_entry *entry = map_remove(&view->by_sha256, span_of(sha256, 32));

    if (!entry)
        return;
    struct pki_entry **at = &entry->name->first;
    while (*at != entry)
        at = &(*at)->next;
    *at = entry->next;
    forget_name_if_empty(view, entry->name);
    free(entry);
}

/* A certificate goes this way, and back only when it is readmitted, which says a later time. */
static int progress_of(enum pki_state state)
{
    switch (state) {
    case PKI_UNCONFIRMED:
        return 0;
    case PKI_ACTIVE:
        return 1;
    case PKI_SUPERSEDED:
        return 2;
    case PKI_REVOKED:
    default:
        return 3;
    }
}

void pki_view_move(struct pki_entry *entry, enum pki_state state, wall_us at)
{
    entry->identity.state = state;
    entry->ahead = at;
    if (state == PKI_SUPERSEDED)
        entry->changed = at;
}

static bool is_behind(enum pki_state state, wall_us changed, const struct pki_entry *ahead)
{
    return ahead->ahead.us != 0 && changed.us < ahead->ahead.us &&
           progress_of(state) < progress_of(ahead->identity.state);
}

static int put_entry(struct pki_view *view, const struct pki_row *row)
{
    const struct pki_identity *identity = &row->identity;
    struct pki_entry *entry = pki_view_find(view, identity->sha256);

    if (!entry) {
        struct pki_name *name;

        int r = find_or_add_name(view, identity->kind, identity->name, &name);
        if (r != 0)
            return pass(r);
        entry = calloc(1, sizeof(*entry));
        if (!entry)
            return fault(-ENOMEM, "no memory for a certificate");
        memcpy(entry->identity.sha256, identity->sha256, sizeof(identity->sha256));
        r = map_put(&view->by_sha256, span_of(entry->identity.sha256, 32), entry);
        if (r != 0) {
            free(entry);
            return pass(r);
        }
        entry->name = name; /* its state is put below */
        entry->next = name->first;
        name->first = entry;
    }
    if (!is_behind(identity->state, row->changed, entry)) {
        entry->identity = *identity;
        entry->changed = row->changed;
        entry->ahead.us = 0;
    }
    entry->registered = row->registered;
    memcpy(entry->parent, row->parent, sizeof(entry->parent));
    memcpy(entry->lineage, row->lineage, sizeof(entry->lineage));
    if (row->presented.us > atomic_load(&entry->presented_us))
        atomic_store(&entry->presented_us, row->presented.us);
    return 0;
}

static int put_agent(struct pki_view *view, const struct pki_agent_row *row)
{
    struct pki_name *name;

    int r = find_or_add_name(view, PKI_AGENT, row->agent.name, &name);
    if (r != 0)
        return pass(r);
    name->has_row = true;
    if (row->agent.changed.us >= name->forked.us)
        name->forked.us = 0;
    name->state = name->forked.us ? PKI_AGENT_FORKED : row->agent.state;
    name->changed = row->agent.changed;
    memcpy(name->lineage, row->lineage, sizeof(name->lineage));
    memcpy(name->current, row->agent.current, sizeof(name->current));
    return 0;
}

static void remove_agent(struct pki_view *view, const char *text)
{
    struct pki_name *name = pki_view_find_name(view, PKI_AGENT, text);

    if (!name)
        return;
    name->has_row = false;
    forget_name_if_empty(view, name);
}

int pki_view_apply(struct pki_view *view, const struct pki_touch *touch)
{
    if (!touch->is_agent && touch->is_gone)
        remove_entry(view, touch->sha256);
    else if (!touch->is_agent)
        return pass(put_entry(view, &touch->row));
    else if (touch->is_gone)
        remove_agent(view, touch->agent.agent.name);
    else
        return pass(put_agent(view, &touch->agent));
    return 0;
}

/* ---- reading all ---- */

struct reading {
    struct pki_view *view;
    int r;
};

static bool on_certificate(void *ctx, struct span key, struct span value)
{
    struct reading *reading = ctx;
    struct pki_row row;

    if (pki_row_decode(key, value, &row) != 0) {
        /* Of a newer version: its bearer is unknown to us, which is the safe side. */
        reading->view->n_unreadable++;
        return true;
    }
    reading->r = put_entry(reading->view, &row);
    return reading->r == 0;
}

static bool on_agent(void *ctx, struct span key, struct span value)
{
    struct reading *reading = ctx;
    struct pki_agent_row row;

    if (pki_agent_row_decode(span_of(key.data + 1, key.len - 1), value, &row) != 0) {
        reading->view->n_unreadable++;
        return true;
    }
    reading->r = put_agent(reading->view, &row);
    return reading->r == 0;
}

static void carry_over(struct pki_view *view, const struct pki_view *before)
{
    const struct pki_entry *old;
    const struct pki_name *name;

    for (size_t at = 0; (old = map_next(&before->by_sha256, &at)) != NULL;) {
        struct pki_entry *entry = pki_view_find(view, old->identity.sha256);
        int64_t presented_us = atomic_load(&old->presented_us);

        if (entry && presented_us > atomic_load(&entry->presented_us))
            atomic_store(&entry->presented_us, presented_us);
        if (entry && is_behind(entry->identity.state, entry->changed, old))
            pki_view_move(entry, old->identity.state, old->ahead);
    }
    for (size_t at = 0; (name = map_next(&before->by_name, &at)) != NULL;) {
        struct pki_name *fresh = map_get(&view->by_name, span_of(name->key, name->key_len));

        if (fresh && fresh->has_row && name->forked.us > fresh->changed.us) {
            fresh->forked = name->forked;
            fresh->state = PKI_AGENT_FORKED;
        }
    }
}

int pki_view_read(struct pki_view **ret, struct store *store, const struct pki_view *before)
{
    CLEANUP(pki_view_freep) struct pki_view *view = calloc(1, sizeof(*view));

    if (!view)
        return fault(-ENOMEM, "no memory for the registry");
    struct reading reading = { .view = view };
    int r = store_state_each(store, STORE_TABLE_CERTIFICATES, on_certificate, &reading);
    if (r == 0 && reading.r == 0)
        r = store_state_range(store, STORE_TABLE_IDENTITIES, span_of_text("a"), false, on_agent,
                              &reading);
    if (r != 0)
        return fold(r);
    if (reading.r != 0)
        return pass(reading.r);
    if (before)
        carry_over(view, before);
    if (view->n_unreadable > 0)
        log_event(LOG_WARN, "registry_rows_unreadable", LOG_U("rows", view->n_unreadable));
    *ret = take(view);
    return 0;
}
