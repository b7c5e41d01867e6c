/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/fault.h"
#include "common/base/map.h"
#include "server/pki/agents/revoked.h"
#include "server/pki/ca/ca.h"
#include "server/pki/enrol/lineage.h"
#include "server/pki/inside.h"
#include "server/pki/mint.h"

/*
 * Operators are their certificates: the role stands in each row, and is the same in all of one
 * name. One without a certificate that counts is no operator any more.
 */

static bool counts(const struct pki_identity *identity, wall_us now)
{
    return identity->kind == PKI_OPERATOR &&
           (identity->state == PKI_ACTIVE || identity->state == PKI_UNCONFIRMED) &&
           identity->not_after.us > now.us;
}

/* ---- list ---- */

struct gathering {
    wall_us now;
    struct arena *arena;
    struct map by_name;
    int r;
};

static bool on_operator(void *ctx, const struct pki_row *row)
{
    struct gathering *gathering = ctx;
    const struct pki_identity *identity = &row->identity;

    if (identity->kind != PKI_OPERATOR || identity->state == PKI_REVOKED)
        return true;
    struct pki_operator *found = map_get(&gathering->by_name, span_of_text(identity->name));
    if (!found) {
        found = arena_alloc(gathering->arena, sizeof(*found));
        if (!found) {
            gathering->r = fault(-ENOMEM, "no room for the operators");
            return false;
        }
        memcpy(found->name, identity->name, sizeof(found->name));
        found->added = row->registered;
        gathering->r = map_put(&gathering->by_name, span_of_text(found->name), found);
        if (gathering->r != 0)
            return false;
    }
    if (row->registered.us < found->added.us)
        found->added = row->registered;
    if (identity->not_after.us >= found->not_after.us) { /* the newest tells the role */
        found->not_after = identity->not_after;
        found->role = identity->role;
    }
    found->n_certificates += counts(identity, gathering->now);
    return true;
}

static int by_name(const void *a, const void *b)
{
    const struct pki_operator *left = a, *right = b;

    return strcmp(left->name, right->name);
}

int pki_operator_list(struct pki *pki,
                      struct arena *arena,
                      struct pki_operator **ret,
                      size_t *ret_n)
{
    struct gathering gathering = { .now = clock_wall(), .arena = arena };
    const struct pki_operator *one;
    size_t n = 0;

    int r = pki_each_row(pki->store, on_operator, &gathering);
    if (r == 0)
        r = gathering.r;
    struct pki_operator *all =
        r == 0 ? arena_alloc_array(arena, gathering.by_name.n_entries + 1, sizeof(*all)) : NULL;
    if (r == 0 && !all)
        r = fault(-ENOMEM, "no room for the operators");
    for (size_t at = 0; r == 0 && (one = map_next(&gathering.by_name, &at)) != NULL;)
        all[n++] = *one;
    map_deinit(&gathering.by_name);
    if (r != 0)
        return pass(r);
    qsort(all, n, sizeof(*all), by_name);
    *ret = all;
    *ret_n = n;
    return 0;
}

/* ---- the last admin ---- */

struct admins {
    wall_us now;
    const char *but; /* not counted */
    size_t n;
};

static bool on_admin(void *ctx, const struct pki_row *row)
{
    struct admins *admins = ctx;

    if (row->identity.role == PKI_ROLE_ADMIN && counts(&row->identity, admins->now) &&
        strcmp(row->identity.name, admins->but) != 0)
        admins->n++;
    return true;
}

/* In the transaction: would nobody be an admin without this one? */
static int is_last_admin(struct pki_edit *edit, const char *name, bool *ret)
{
    struct admins admins = { .now = edit->now, .but = name };

    int r = pki_edit_each_row(edit, on_admin, &admins);
    if (r == 0)
        *ret = admins.n == 0;
    return pass(r);
}

static void say_last_admin(const char *name, struct tls_why *ret_why)
{
    snprintf(ret_why->text, sizeof(ret_why->text),
             "`%.64s` is the last admin, and without one nobody could add the next; add another "
             "first: sentinelctl operators add NAME --role admin",
             name);
}

/* ---- set ---- */

struct setting {
    const struct pki_operator_wish *wish;
    const struct pki_act *act;
    struct pki_row *minted; /* NULL: the role alone */
    enum pki_role role;     /* that it has afterwards */
    bool is_last_admin, is_new;
};

static int set_operator(struct pki_edit *edit, void *ctx)
{
    struct setting *setting = ctx;
    const struct pki_operator_wish *wish = setting->wish;
    enum pki_role before = PKI_ROLE_NONE;
    struct pki_row *rows;
    char object[80];
    size_t n;

    int r = pki_edit_rows_of(edit, PKI_OPERATOR, wish->name, &rows, &n);
    for (size_t i = 0; r == 0 && i < n; i++) {
        if (rows[i].identity.state != PKI_REVOKED)
            before = rows[i].identity.role;
    }
    if (r != 0)
        return pass(r);
    setting->is_new = before == PKI_ROLE_NONE;
    if (setting->is_new && !setting->minted)
        return PKI_EDIT(PKI_UNKNOWN);
    setting->role = wish->role != PKI_ROLE_NONE ? wish->role
                    : setting->is_new           ? PKI_ROLE_VIEWER
                                                : before;
    setting->is_last_admin = false;
    if (before == PKI_ROLE_ADMIN && setting->role != PKI_ROLE_ADMIN)
        r = is_last_admin(edit, wish->name, &setting->is_last_admin);
    if (r == 0 && setting->is_last_admin)
        return PKI_EDIT(PKI_REFUSED);
    for (size_t i = 0; r == 0 && i < n; i++) {
        if (rows[i].identity.state == PKI_REVOKED || rows[i].identity.role == setting->role)
            continue;
        rows[i].identity.role = setting->role;
        r = pki_edit_put(edit, &rows[i]);
    }
    if (r == 0 && setting->minted) {
        setting->minted->identity.role = setting->role;
        setting->minted->identity.state = PKI_ACTIVE; /* an operator may have several */
        r = pki_edit_put(edit, setting->minted);
    }
    if (r != 0)
        return pass(r);
    edit->must_raise = true;
    const struct audit_field fields[] = {
        { "role", pki_role_name(setting->role) },
        { "before", pki_role_name(before) },
        { "certificate", setting->minted ? setting->minted->identity.serial : "" },
    };
    snprintf(object, sizeof(object), "operator/%s", wish->name);
    return pass(pki_act_audit(edit, setting->act,
                              setting->minted ? AUDIT_OPERATOR_ADDED : AUDIT_OPERATOR_CHANGED,
                              object, fields, 3));
}

static int check_wish(const struct pki_operator_wish *wish, struct tls_why *ret_why)
{
    int r = pki_check_name(wish->name, ret_why);

    if (r != 0 || wish->role == PKI_ROLE_NONE || wish->role == PKI_ROLE_VIEWER ||
        wish->role == PKI_ROLE_OPERATOR || wish->role == PKI_ROLE_ADMIN ||
        wish->role == PKI_ROLE_EXPORTER)
        return pass(r);
    snprintf(ret_why->text, sizeof(ret_why->text),
             "role: operators are viewer, operator, admin or exporter");
    return PKI_BAD_NAME;
}

/* Outcomes: PKI_BAD_NAME (the request), PKI_REFUSED (the CA's files). */
static int mint(struct pki *pki,
                const struct pki_operator_wish *wish,
                struct pki_minted *ret,
                struct tls_why *ret_why)
{
    CLEANUP(tls_key_freep) struct tls_key *key = NULL;

    int r = tls_csr_parse(&key, wish->csr_der);
    if (r == TLS_BAD) {
        snprintf(ret_why->text, sizeof(ret_why->text),
                 "csr: it is no certificate request in DER (PKCS#10), its proof of possession is "
                 "wrong, or its kind of key is none that peers take");
        return PKI_BAD_NAME;
    }
    const struct pki_mint order = { .kind = PKI_OPERATOR,
                                    .role = wish->role,
                                    .name = wish->name,
                                    .key = key,
                                    .life_us = atomic_load(&pki->operator_life_us) };
    if (r == 0)
        r = pki_mint(pki, &order, clock_wall(), ret, ret_why);
    return r == PKI_ABSENT || r == PKI_BAD ? PKI_REFUSED : pass(r);
}

int pki_operator_set(struct pki *pki,
                     const struct pki_operator_wish *wish,
                     const struct pki_act *act,
                     struct arena *arena,
                     struct pki_granted *ret,
                     struct tls_why *ret_why)
{
    CLEANUP(pki_minted_deinit) struct pki_minted minted = { 0 };
    struct setting setting = { .wish = wish, .act = act };
    struct pki_granted granted = { 0 };

    int r = check_wish(wish, ret_why);
    if (r != 0)
        return pass(r);
    if (wish->csr_der.len > 0) {
        r = mint(pki, wish, &minted, ret_why);
        if (r != 0)
            return pass(r);
        setting.minted = &minted.row;
    }
    r = pki_change(pki, set_operator, &setting, &granted.generation);
    if (r == PKI_REFUSED)
        say_last_admin(wish->name, ret_why);
    if (r == PKI_UNKNOWN) {
        snprintf(ret_why->text, sizeof(ret_why->text),
                 "there is no operator `%.64s`; a new one needs a certificate request", wish->name);
        return PKI_REFUSED;
    }
    if (r == 0 && setting.minted)
        r = pki_grant(pki, setting.minted, arena, &granted);
    if (r != 0)
        return pass(r);
    snprintf(granted.name, sizeof(granted.name), "%s", wish->name);
    *ret = granted;
    return 0;
}

/* ---- remove ---- */

#define MAX_LINES 1024 /* certificates of one operator that are revoked at once */

struct parting {
    const char *name;
    const struct pki_act *act;
    struct pki_revoked_line *lines; /* MAX_LINES of them */
    size_t n_lines;
};

static void add_line(struct parting *parting, const struct pki_row *row, wall_us now)
{
    if (parting->n_lines == MAX_LINES)
        return; /* the next start adds it: the database has it */
    struct pki_revoked_line *line = &parting->lines[parting->n_lines++];

    *line = (struct pki_revoked_line){ .kind = PKI_LINE_CERTIFICATE,
                                       .not_after = row->identity.not_after,
                                       .at = now };
    memcpy(line->sha256, row->identity.sha256, sizeof(line->sha256));
    memcpy(line->name, row->identity.name, sizeof(line->name));
}

static int remove_operator(struct pki_edit *edit, void *ctx)
{
    struct parting *parting = ctx;
    bool is_admin = false, is_last = false;
    struct pki_row *rows;
    size_t n, n_removed = 0;
    char object[80], count[24];

    int r = pki_edit_rows_of(edit, PKI_OPERATOR, parting->name, &rows, &n);
    for (size_t i = 0; r == 0 && i < n; i++)
        is_admin = is_admin || (rows[i].identity.role == PKI_ROLE_ADMIN &&
                                counts(&rows[i].identity, edit->now));
    if (r == 0 && is_admin)
        r = is_last_admin(edit, parting->name, &is_last);
    if (r != 0)
        return pass(r);
    if (is_last)
        return PKI_EDIT(PKI_REFUSED);
    parting->n_lines = 0;
    for (size_t i = 0; r == 0 && i < n; i++) {
        if (rows[i].identity.state == PKI_REVOKED)
            continue;
        pki_row_end(&rows[i], PKI_REVOKED, edit->now,
                    parting->act->reason ? parting->act->reason : "removed");
        add_line(parting, &rows[i], edit->now);
        r = pki_edit_put(edit, &rows[i]);
        n_removed++;
    }
    if (r != 0)
        return pass(r);
    if (n_removed == 0)
        return PKI_EDIT(PKI_UNKNOWN);
    snprintf(object, sizeof(object), "operator/%.63s", parting->name);
    snprintf(count, sizeof(count), "%zu", n_removed);
    const struct audit_field field = { "certificates", count };
    return pass(pki_act_audit(edit, parting->act, AUDIT_OPERATOR_REMOVED, object, &field, 1));
}

int pki_operator_remove(struct pki *pki,
                        const char *name,
                        const struct pki_act *act,
                        struct tls_why *ret_why)
{
    struct parting parting = { .name = name, .act = act };

    if (!pki_name_is_good(name))
        return PKI_UNKNOWN;
    parting.lines = calloc(MAX_LINES, sizeof(*parting.lines));
    if (!parting.lines)
        return fault(-ENOMEM, "no memory to remove an operator");
    int r = pki_change(pki, remove_operator, &parting, NULL);
    if (r == 0)
        pki_revoked_add(pki, parting.lines, parting.n_lines);
    free(parting.lines);
    if (r == PKI_REFUSED)
        say_last_admin(name, ret_why);
    return pass(r);
}
