/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/fault.h"
#include "common/base/faultpoint.h"
#include "common/base/text.h"
#include "server/pki/agents/revoked.h"
#include "server/pki/enrol/lineage.h"
#include "server/pki/enrol/tokens.h"
#include "server/pki/registry/codec.h"

/* ---- looking ---- */

static void fill_end(struct pki *pki, struct pki_agent *agent)
{
    pthread_rwlock_rdlock(&pki->lock);
    const struct pki_entry *entry = pki_view_find(pki->view, agent->current);
    agent->not_after = entry ? entry->identity.not_after : (wall_us){ 0 };
    pthread_rwlock_unlock(&pki->lock);
}

int pki_agent_get(struct pki *pki, const char *name, struct pki_agent *ret)
{
    CLEANUP(arena_deinit) struct arena arena;
    struct pki_agent_row row;
    struct span value;
    char key[65];

    if (!pki_name_is_good(name))
        return PKI_UNKNOWN;
    arena_init(&arena, 65536);
    snprintf(key, sizeof(key), "a%s", name);
    int r = store_state_get(pki->store, STORE_TABLE_IDENTITIES, span_of_text(key), &arena, &value);
    if (r == STORE_NOT_FOUND)
        return PKI_UNKNOWN;
    if (r != 0)
        return fold(r);
    if (pki_agent_row_decode(span_of_text(name), value, &row) != 0)
        return PKI_UNKNOWN; /* of a newer version */
    fill_end(pki, &row.agent);
    *ret = row.agent;
    return 0;
}

struct listing {
    struct arena *arena;
    struct pki_agent *agents;
    size_t n, capacity;
    bool has_failed;
};

static bool count_agent(void *ctx, struct span key, struct span value)
{
    struct listing *listing = ctx;

    (void) key;
    (void) value;
    listing->capacity++;
    return true;
}

static bool on_agent(void *ctx, struct span key, struct span value)
{
    struct listing *listing = ctx;
    struct pki_agent_row row;

    if (pki_agent_row_decode(span_of(key.data + 1, key.len - 1), value, &row) == 0)
        listing->agents[listing->n++] = row.agent;
    return listing->n < listing->capacity; /* others came between the two looks */
}

int pki_agent_list(struct pki *pki, struct arena *arena, struct pki_agent **ret, size_t *ret_n)
{
    struct listing listing = { .arena = arena };

    int r = store_state_range(pki->store, STORE_TABLE_IDENTITIES, span_of_text("a"), false,
                              count_agent, &listing);
    if (r != 0)
        return fold(r);
    listing.agents = arena_alloc_array(arena, listing.capacity + 1, sizeof(*listing.agents));
    if (!listing.agents)
        return fault(-ENOMEM, "no room for a list of %zu agents", listing.capacity);
    if (listing.capacity > 0)
        r = store_state_range(pki->store, STORE_TABLE_IDENTITIES, span_of_text("a"), false,
                              on_agent, &listing);
    if (r != 0)
        return fold(r);
    for (size_t i = 0; i < listing.n; i++)
        fill_end(pki, &listing.agents[i]);
    *ret = listing.agents;
    *ret_n = listing.n;
    return 0;
}

/* ---- acts ---- */

struct acting {
    const char *name;
    uint32_t number; /* forget: the store's; 0: it has nothing of it */
    const struct pki_act *act;
    struct buf lines; /* struct pki_revoked_line, for the file */

    const char *const *addresses; /* allow */
    size_t n_addresses;
    struct pki_token_row *token; /* revoke */
    struct span presented;       /* readmit: struct last_seen, as memory has it */
    int64_t grace_us;
};

static int put_entry(struct pki_edit *edit,
                     const struct acting *acting,
                     enum audit_event event,
                     const struct audit_field *more)
{
    char object[PKI_OBJECT_BYTES];
    const struct audit_field fields[] = { { "reason", acting->act->reason },
                                          more ? *more : (struct audit_field){ 0 } };
    const struct audit_entry entry = { .event = event,
                                       .actor = acting->act->by,
                                       .source = acting->act->source,
                                       .object = pki_agent_object(acting->name, object),
                                       .correlation = acting->act->correlation,
                                       .fields = fields,
                                       .n_fields = more ? 2 : 1 };

    return pass(pki_edit_audit(edit, &entry));
}

static int get_agent(struct pki_edit *edit, const struct acting *acting, struct pki_agent_row *ret)
{
    int r = pki_edit_agent_get(edit, acting->name, ret);

    return r == STORE_NOT_FOUND ? PKI_EDIT(PKI_UNKNOWN) : pass(r);
}

static int note_row(struct acting *acting, const struct pki_row *row, enum pki_revoked_kind kind)
{
    struct pki_revoked_line line = { .kind = kind,
                                     .not_after = row->identity.not_after,
                                     .at = row->changed };

    memcpy(line.sha256, row->identity.sha256, sizeof(line.sha256));
    snprintf(line.name, sizeof(line.name), "%s", row->identity.name);
    buf_append(&acting->lines, &line, sizeof(line));
    return buf_failed(&acting->lines) ? STORE_FULL : 0;
}

static int note_agent(struct acting *acting, wall_us at, enum pki_revoked_kind kind)
{
    struct pki_revoked_line line = { .kind = kind, .at = at };

    snprintf(line.name, sizeof(line.name), "%s", acting->name);
    buf_append(&acting->lines, &line, sizeof(line));
    return buf_failed(&acting->lines) ? STORE_FULL : 0;
}

/* The transaction, then the file. */
static int act(struct pki *pki, pki_edit_fn *fn, struct acting *acting, uint64_t *ret_generation)
{
    if (!pki_name_is_good(acting->name))
        return PKI_UNKNOWN;
    faultpoint("agent_act_before_commit");
    int r = pki_change(pki, fn, acting, ret_generation);
    faultpoint("agent_act_after_commit");
    if (r == 0)
        pki_revoked_add(pki, (const struct pki_revoked_line *) (const void *) acting->lines.data,
                        acting->lines.len / sizeof(struct pki_revoked_line));
    buf_deinit(&acting->lines);
    return pass(r);
}

/* ---- revoke ---- */

static int revoke(struct pki_edit *edit, void *ctx)
{
    struct acting *acting = ctx;
    struct pki_agent_row agent;
    struct pki_row *rows;
    size_t n;

    int r = get_agent(edit, acting, &agent);
    if (r == 0)
        r = pki_edit_rows_of(edit, PKI_AGENT, acting->name, &rows, &n);
    if (r != 0)
        return pass(r);
    for (size_t i = 0; r == 0 && i < n; i++) {
        if (rows[i].identity.state == PKI_REVOKED)
            continue;
        pki_row_end(&rows[i], PKI_REVOKED, edit->now,
                    acting->act->reason ? acting->act->reason : "");
        r = pki_edit_put(edit, &rows[i]);
        if (r == 0)
            r = note_row(acting, &rows[i], PKI_LINE_CERTIFICATE);
    }
    agent.agent.state = PKI_AGENT_REVOKED;
    agent.agent.changed = edit->now;
    snprintf(agent.agent.reason, sizeof(agent.agent.reason), "%s",
             acting->act->reason ? acting->act->reason : "");
    if (r == 0)
        r = pki_edit_agent_put(edit, &agent);
    if (r == 0)
        r = note_agent(acting, edit->now, PKI_LINE_AGENT);
    if (r == 0)
        r = put_entry(edit, acting, AUDIT_AGENT_REVOKED, NULL);
    if (r == 0 && acting->token)
        r = pki_token_add(edit, acting->token, acting->act);
    return pass(r);
}

int pki_agent_revoke(struct pki *pki,
                     const char *name,
                     const struct pki_act *by,
                     struct pki_token *ret_token,
                     uint64_t *ret_generation)
{
    const struct pki_token_wish wish = { .id_pattern = name, .replace = 1, .made_by = by->by };
    struct acting acting = { .name = name, .act = by };
    struct pki_token_row token = { .n_labels = 0 };
    struct tls_why why;

    if (!pki_name_is_good(name))
        return PKI_UNKNOWN;
    if (ret_token) {
        int r = pki_token_make(&wish, clock_wall(), &token, &why);
        if (r != 0)
            return fold(r);
        acting.token = &token;
    }
    int r = act(pki, revoke, &acting, ret_generation);
    if (r == 0 && ret_token)
        *ret_token = token.token;
    crypto_wipe(token.token.secret, sizeof(token.token.secret));
    return pass(r);
}

/* ---- readmit ---- */

/* When memory saw certificates, which for refused ones is newer than the disk. */
struct last_seen {
    uint8_t sha256[32];
    int64_t us;
};

static int gather_seen(struct pki *pki, const char *name, struct buf *to)
{
    pthread_rwlock_rdlock(&pki->lock);
    const struct pki_name *known = pki_view_find_name(pki->view, PKI_AGENT, name);
    for (const struct pki_entry *at = known ? known->first : NULL; at; at = at->next) {
        struct last_seen seen = { .us = atomic_load(&at->presented_us) };
        memcpy(seen.sha256, at->identity.sha256, sizeof(seen.sha256));
        buf_append(to, &seen, sizeof(seen));
    }
    pthread_rwlock_unlock(&pki->lock);
    return buf_failed(to) ? fault(-ENOMEM, "no memory for the certificates of an agent") : 0;
}

static int64_t seen_at(const struct acting *acting, const struct pki_row *row)
{
    int64_t us = row->presented.us;

    for (size_t at = 0; at < acting->presented.len; at += sizeof(struct last_seen)) {
        struct last_seen seen;

        memcpy(&seen, acting->presented.data + at, sizeof(seen));
        if (memcmp(seen.sha256, row->identity.sha256, 32) == 0 && seen.us > us)
            us = seen.us;
    }
    return us;
}

/* One that was revoked for itself stays so: the others of a revoked agent have the agent's time. */
static bool may_count(const struct pki_row *row, const struct pki_agent_row *agent)
{
    if (memcmp(row->lineage, agent->lineage, sizeof(row->lineage)) != 0)
        return false;
    return row->identity.state != PKI_REVOKED ||
           (agent->agent.state == PKI_AGENT_REVOKED && row->changed.us == agent->agent.changed.us);
}

static int let_count(struct pki_edit *edit, struct acting *acting, struct pki_row *row)
{
    const bool was_revoked = row->identity.state == PKI_REVOKED;

    row->identity.state = PKI_ACTIVE;
    row->changed = edit->now;
    row->reason[0] = 0;
    int r = pki_edit_put(edit, row);
    return r == 0 && was_revoked ? note_row(acting, row, PKI_LINE_COUNTS_AGAIN) : pass(r);
}

static int readmit(struct pki_edit *edit, void *ctx)
{
    struct acting *acting = ctx;
    struct pki_agent_row agent;
    struct pki_row *rows, *best = NULL;
    char object[PKI_OBJECT_BYTES];
    size_t n;

    int r = get_agent(edit, acting, &agent);
    if (r == 0)
        r = pki_edit_rows_of(edit, PKI_AGENT, acting->name, &rows, &n);
    if (r != 0)
        return pass(r);
    for (size_t i = 0; i < n; i++) {
        if (may_count(&rows[i], &agent) &&
            (!best || seen_at(acting, &rows[i]) >= seen_at(acting, best)))
            best = &rows[i];
    }
    for (size_t i = 0; r == 0 && best && i < n; i++) {
        if (&rows[i] == best) {
            r = let_count(edit, acting, best);
        } else if (rows[i].identity.state != PKI_REVOKED &&
                   memcmp(rows[i].lineage, best->lineage, sizeof(best->lineage)) == 0) {
            pki_row_end(&rows[i], PKI_REVOKED, edit->now,
                        "another one counts since the readmission");
            r = pki_edit_put(edit, &rows[i]);
            if (r == 0)
                r = note_row(acting, &rows[i], PKI_LINE_CERTIFICATE);
        }
    }
    if (r != 0)
        return pass(r);
    const bool was_stopped = agent.agent.state != PKI_AGENT_ALLOWED;
    agent.agent.state = PKI_AGENT_ALLOWED;
    agent.agent.changed = edit->now;
    agent.agent.reason[0] = 0;
    agent.grace_until.us = edit->now.us + acting->grace_us;
    if (best)
        memcpy(agent.agent.current, best->identity.sha256, sizeof(agent.agent.current));
    r = pki_edit_agent_put(edit, &agent);
    if (r == 0 && was_stopped)
        r = note_agent(acting, edit->now, PKI_LINE_ALLOWED);
    const struct audit_field counts = { "counts", best
                                                      ? pki_object_of(best->identity.sha256, object)
                                                      : "no certificate" };
    return r != 0 ? pass(r) : pass(put_entry(edit, acting, AUDIT_AGENT_READMITTED, &counts));
}

int pki_agent_readmit(struct pki *pki,
                      const char *name,
                      const struct pki_act *by,
                      uint64_t *ret_generation)
{
    CLEANUP(buf_deinit) struct buf seen = { 0 };
    struct acting acting = { .name = name, .act = by, .grace_us = atomic_load(&pki->grace_us) };

    if (!pki_name_is_good(name))
        return PKI_UNKNOWN;
    int r = gather_seen(pki, name, &seen);
    if (r != 0)
        return pass(r);
    acting.presented = buf_span(&seen);
    return pass(act(pki, readmit, &acting, ret_generation));
}

/* ---- addresses ---- */

static int allow(struct pki_edit *edit, void *ctx)
{
    struct acting *acting = ctx;
    char text[PKI_MAX_ADDRESSES * 64 + 1] = "";
    struct pki_agent_row agent;
    size_t len = 0;

    int r = get_agent(edit, acting, &agent);
    if (r != 0)
        return pass(r);
    memset(agent.agent.addresses, 0, sizeof(agent.agent.addresses));
    agent.agent.n_addresses = acting->n_addresses;
    for (size_t i = 0; i < acting->n_addresses; i++) {
        snprintf(agent.agent.addresses[i], sizeof(agent.agent.addresses[i]), "%s",
                 acting->addresses[i]);
        len += (size_t) snprintf(text + len, sizeof(text) - len, "%s%s", i ? " " : "",
                                 agent.agent.addresses[i]);
    }
    r = pki_edit_agent_put(edit, &agent);
    const struct audit_field addresses = { "addresses", text };
    return r != 0 ? pass(r) : pass(put_entry(edit, acting, AUDIT_AGENT_ALLOWED, &addresses));
}

int pki_agent_allow(struct pki *pki,
                    const char *name,
                    const char *const *addresses,
                    size_t n_addresses,
                    const struct pki_act *by,
                    struct tls_why *ret_why)
{
    struct acting acting = {
        .name = name, .act = by, .addresses = addresses, .n_addresses = n_addresses
    };

    if (n_addresses > PKI_MAX_ADDRESSES) {
        snprintf(ret_why->text, sizeof(ret_why->text),
                 "addresses: at most %u; a range such as 10.0.0.0/8 counts as one",
                 PKI_MAX_ADDRESSES);
        return PKI_BAD_NAME;
    }
    for (size_t i = 0; i < n_addresses; i++) {
        if (strlen(addresses[i]) < 64 && identity_cidr_is_good(addresses[i]))
            continue;
        snprintf(ret_why->text, sizeof(ret_why->text),
                 "addresses: number %zu is no address and no range; write 192.0.2.7, 10.0.0.0/8 "
                 "or fd00::/8",
                 i + 1);
        return PKI_BAD_NAME;
    }
    return pass(act(pki, allow, &acting, NULL));
}

/* ---- forget ---- */

static bool keep_label(void *ctx, struct span key, struct span value)
{
    (void) value;
    pki_put_span(ctx, key);
    return true;
}

static int remove_labels(struct pki_edit *edit, const char *name)
{
    CLEANUP(buf_deinit) struct buf keys = { 0 };

    int r = store_change_each(edit->change, STORE_TABLE_LABELS, span_of(name, strlen(name) + 1),
                              keep_label, &keys);
    if (r == 0 && buf_failed(&keys))
        r = STORE_FULL;
    struct pki_reader reader = { .rest = buf_span(&keys) };
    while (r == 0 && reader.rest.len > 0)
        r = pki_edit_put_raw(edit, STORE_TABLE_LABELS, pki_get_span(&reader), (struct span){ 0 });
    return pass(r);
}

/* The store goes on with it, also after a kill. */
static int put_begun(struct pki_edit *edit, const struct acting *acting)
{
    char key[STORE_FORGET_KEY_BYTES];

    return pass(pki_edit_put_raw(edit, STORE_TABLE_META, store_forget_key(key, acting->name),
                                 span_of(&acting->number, sizeof(acting->number))));
}

static int forget(struct pki_edit *edit, void *ctx)
{
    struct acting *acting = ctx;
    struct pki_agent_row agent;
    struct pki_row *rows;
    size_t n;

    int r = pki_edit_agent_get(edit, acting->name, &agent);
    const bool has_row = r == 0;
    if (r == 0 || r == STORE_NOT_FOUND)
        r = pki_edit_rows_of(edit, PKI_AGENT, acting->name, &rows, &n);
    if (r != 0)
        return pass(r);
    if (!has_row && n == 0)
        return PKI_EDIT(PKI_UNKNOWN);
    for (size_t i = 0; r == 0 && i < n; i++)
        r = pki_edit_remove(edit, &rows[i]);
    if (r == 0)
        r = pki_edit_agent_remove(edit, acting->name);
    if (r == 0)
        r = remove_labels(edit, acting->name);
    if (r == 0 && acting->number)
        r = put_begun(edit, acting);
    return r != 0 ? pass(r) : pass(put_entry(edit, acting, AUDIT_AGENT_FORGOTTEN, NULL));
}

int pki_agent_forget(struct pki *pki, const char *name, uint32_t number, const struct pki_act *by)
{
    struct acting acting = { .name = name, .act = by, .number = number };

    return pass(act(pki, forget, &acting, NULL));
}
