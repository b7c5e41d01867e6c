/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/fault.h"
#include "common/base/text.h"
#include "common/crypto/crypto.h"
#include "server/pki/ca/ca.h"
#include "server/pki/inside.h"
#include "server/pki/registry/codec.h"

/*
 * Foreign authorities: a rule says whose leaves are whom here.
 *
 * META "pki.foreign/" NAME: u8 version 1, u8 kind, u8 role, u8 may register, texts of the patterns
 * of CN, O, OU, and the authority's DER behind its u16 length.
 *
 * The authority of a rule is the one that signed the leaf: where it has intermediates, the
 * intermediate is imported. It may be the leaf itself: then the rule is for this one certificate,
 * of whatever kind of key peers take (RSA of 2,048 bits and more, P-256, P-384).
 */

#define RULE_VERSION 1
#define MAX_RULES 256 /* each is tried for a leaf that nobody knows */
#define PREFIX "pki.foreign/"

struct foreign_rule {
    struct pki_foreign shown;
    struct tls_cert *cert;
    bool is_leaf; /* the authority is the leaf itself */
    struct buf pem;
    uint8_t lineage[PKI_LINEAGE_BYTES];
};

struct pki_foreign_set {
    struct foreign_rule rules[MAX_RULES];
    size_t n;
    int r;
};

void pki_foreign_free(struct pki_foreign_set *set)
{
    if (!set)
        return;
    for (size_t i = 0; i < set->n; i++) {
        tls_cert_free(set->rules[i].cert);
        buf_deinit(&set->rules[i].pem);
    }
    free(set);
}

/* ---- rows ---- */

static void encode(const struct pki_foreign *rule, struct span der, struct buf *to)
{
    pki_put_u8(to, RULE_VERSION);
    pki_put_u8(to, (uint8_t) rule->kind);
    pki_put_u8(to, (uint8_t) rule->role);
    pki_put_u8(to, rule->may_register);
    pki_put_text(to, rule->cn_pattern);
    pki_put_text(to, rule->o_pattern);
    pki_put_text(to, rule->ou_pattern);
    pki_put_span(to, der);
}

/* Outcomes: PKI_BAD. */
static int
decode(struct span name, struct span value, struct pki_foreign *ret, struct span *ret_der)
{
    struct pki_reader reader = { .rest = value };
    struct pki_foreign rule = { .name = "" };

    if (name.len == 0 || name.len >= sizeof(rule.name) || pki_get_u8(&reader) != RULE_VERSION)
        return PKI_BAD;
    memcpy(rule.name, name.data, name.len);
    const uint8_t kind = pki_get_u8(&reader), role = pki_get_u8(&reader);
    rule.may_register = pki_get_u8(&reader) != 0;
    pki_get_text(&reader, rule.cn_pattern, sizeof(rule.cn_pattern));
    pki_get_text(&reader, rule.o_pattern, sizeof(rule.o_pattern));
    pki_get_text(&reader, rule.ou_pattern, sizeof(rule.ou_pattern));
    const struct span der = pki_get_span(&reader);
    if (reader.is_bad || (kind != PKI_AGENT && kind != PKI_OPERATOR) || role == PKI_ROLE_NONE ||
        role > PKI_ROLE_EXPORTER)
        return PKI_BAD;
    rule.kind = (enum pki_kind) kind;
    rule.role = (enum pki_role) role;
    *ret = rule;
    *ret_der = der;
    return 0;
}

/* One for all that an authority says. */
static void lineage_of(const uint8_t sha256[32], uint8_t to[static PKI_LINEAGE_BYTES])
{
    uint8_t bytes[64 + 32] = "sentinel-foreign-lineage-1", digest[CRYPTO_SHA256_BYTES];

    memcpy(bytes + 64, sha256, 32);
    crypto_sha256(span_of(bytes, sizeof(bytes)), digest);
    memcpy(to, digest, PKI_LINEAGE_BYTES);
}

/* What the certificate says of itself. Outcomes: PKI_BAD. */
static int fill(struct foreign_rule *rule)
{
    struct tls_facts facts;

    int r = tls_cert_read(rule->cert, &facts);
    if (r != 0)
        return r > 0 ? PKI_BAD : pass(r);
    snprintf(rule->shown.subject, sizeof(rule->shown.subject), "%s", facts.common_name);
    memcpy(rule->shown.sha256, facts.sha256, sizeof(facts.sha256));
    rule->shown.not_after = facts.not_after;
    rule->is_leaf = !facts.is_ca;
    lineage_of(facts.sha256, rule->lineage);
    r = tls_cert_print(rule->cert, &rule->pem);
    return r != 0 ? fold(r) : 0;
}

static bool on_rule(void *ctx, struct span key, struct span value)
{
    struct pki_foreign_set *set = ctx;
    struct foreign_rule *rule = &set->rules[set->n];
    const size_t prefix = sizeof(PREFIX) - 1;
    struct span der;

    if (set->n == MAX_RULES)
        return false;
    /* One that cannot be read lets nobody in: the safe side. */
    if (decode(span_of(key.data + prefix, key.len - prefix), value, &rule->shown, &der) != 0 ||
        tls_cert_parse_der(&rule->cert, der) != 0)
        return true;
    set->r = fill(rule);
    if (set->r != 0) {
        rule->cert = tls_cert_free(rule->cert);
        buf_deinit(&rule->pem);
        return set->r > 0;
    }
    set->n++;
    return true;
}

int pki_foreign_read(struct store *store, struct pki_foreign_set **ret)
{
    struct pki_foreign_set *set = calloc(1, sizeof(*set));

    if (!set)
        return fault(-ENOMEM, "no memory for rules");
    int r = store_state_range(store, STORE_TABLE_META, span_of_text(PREFIX), false, on_rule, set);
    if (r == 0 && set->r < 0)
        r = set->r;
    if (r != 0) {
        pki_foreign_free(set);
        return fold(r);
    }
    *ret = set;
    return 0;
}

/* ---- who is it ---- */

static bool fits(const char *pattern, const char *text)
{
    return !pattern[0] || text_matches(pattern, text);
}

static bool
is_for(const struct foreign_rule *rule, const struct tls_cert *leaf, const struct tls_facts *facts)
{
    if (rule->is_leaf ? memcmp(facts->sha256, rule->shown.sha256, 32) != 0
                      : tls_cert_is_issued_by(leaf, rule->cert) != 0)
        return false;
    return fits(rule->shown.cn_pattern, facts->common_name) &&
           fits(rule->shown.o_pattern, facts->organisation) &&
           fits(rule->shown.ou_pattern, facts->organisation_unit);
}

/* A name belongs to who had it first: another authority's certificate for it is nobody's. */
static bool is_taken(struct pki *pki, const struct pki_row *row)
{
    bool is_taken = false;

    pthread_rwlock_rdlock(&pki->lock);
    const struct pki_name *name =
        pki_view_find_name(pki->view, row->identity.kind, row->identity.name);
    if (name && name->has_row)
        is_taken = name->state != PKI_AGENT_ALLOWED ||
                   memcmp(name->lineage, row->lineage, sizeof(row->lineage)) != 0;
    for (const struct pki_entry *entry = name ? name->first : NULL; entry; entry = entry->next)
        is_taken = is_taken || (entry->identity.state != PKI_REVOKED &&
                                memcmp(entry->lineage, row->lineage, sizeof(row->lineage)) != 0);
    pthread_rwlock_unlock(&pki->lock);
    return is_taken;
}

/* Under the lock. False: no rule lets it register. */
static bool apply_rule(const struct pki_foreign_set *set,
                       const struct tls_cert *leaf,
                       const struct tls_facts *facts,
                       struct pki_row *to)
{
    for (size_t i = 0; set && i < set->n; i++) {
        const struct foreign_rule *rule = &set->rules[i];

        if (!rule->shown.may_register || !is_for(rule, leaf, facts))
            continue;
        to->identity.kind = rule->shown.kind;
        to->identity.role = rule->shown.role;
        memcpy(to->lineage, rule->lineage, sizeof(to->lineage));
        return true;
    }
    return false;
}

int pki_foreign_identify(struct pki *pki,
                         struct span leaf_der,
                         wall_us now,
                         struct pki_identity *ret)
{
    CLEANUP(tls_cert_freep) struct tls_cert *leaf = NULL;
    struct pki_row row = { 0 };
    struct tls_facts facts;

    pthread_mutex_lock(&pki->ca->lock);
    const bool has_rules = pki->ca->foreign && pki->ca->foreign->n > 0;
    pthread_mutex_unlock(&pki->ca->lock);
    if (!has_rules)
        return PKI_UNKNOWN;
    int r = tls_cert_parse_der(&leaf, leaf_der);
    if (r == 0)
        r = tls_cert_read(leaf, &facts);
    if (r != 0)
        return r > 0 ? PKI_UNKNOWN : pass(r);
    if (!pki_name_is_good(facts.common_name))
        return PKI_UNKNOWN;
    if (pki_clerk_find_leaf(pki->ca->clerk, facts.sha256, ret)) {
        ret->generation = pki_generation(pki);
        return now.us >= ret->not_after.us ? PKI_EXPIRED : 0;
    }
    pthread_mutex_lock(&pki->ca->lock);
    bool may_register = apply_rule(pki->ca->foreign, leaf, &facts, &row);
    pthread_mutex_unlock(&pki->ca->lock);
    if (!may_register)
        return PKI_UNKNOWN;
    row.identity.state = PKI_ACTIVE;
    memcpy(row.identity.name, facts.common_name, strlen(facts.common_name) + 1);
    memcpy(row.identity.serial, facts.serial, sizeof(row.identity.serial));
    memcpy(row.identity.sha256, facts.sha256, sizeof(row.identity.sha256));
    row.identity.not_before = facts.not_before;
    row.identity.not_after = facts.not_after;
    memcpy(row.issuer, facts.issuer, sizeof(row.issuer));
    memcpy(row.key_sha256, facts.key_sha256, sizeof(row.key_sha256));
    row.registered = row.presented = now;
    row.identity.generation = pki_generation(pki);
    if (is_taken(pki, &row))
        return PKI_UNKNOWN;
    if (now.us >= facts.not_after.us) {
        *ret = row.identity;
        return PKI_EXPIRED;
    }
    if (!pki_clerk_note_leaf(pki->ca->clerk, &row))
        return PKI_UNKNOWN;
    *ret = row.identity;
    return 0;
}

/* ---- what operators do ---- */

static bool is_role_for(enum pki_kind kind, enum pki_role role)
{
    if (kind == PKI_AGENT)
        return role == PKI_ROLE_AGENT;
    return kind == PKI_OPERATOR && (role == PKI_ROLE_VIEWER || role == PKI_ROLE_OPERATOR ||
                                    role == PKI_ROLE_ADMIN || role == PKI_ROLE_EXPORTER);
}

static int check(const struct pki_foreign *rule, const struct tls_facts *facts, struct tls_why *why)
{
    int r = pki_check_name(rule->name, why);

    if (r != 0)
        return r;
    if (!is_role_for(rule->kind, rule->role)) {
        snprintf(why->text, sizeof(why->text),
                 "role: agents have the role agent, operators viewer, operator, admin or exporter");
        return PKI_BAD_NAME;
    }
    if (rule->kind == PKI_OPERATOR && facts->is_ca && !rule->cn_pattern[0] && !rule->o_pattern[0] &&
        !rule->ou_pattern[0]) {
        snprintf(why->text, sizeof(why->text),
                 "cn, o, ou: a rule for operators names whom it is for, else everybody with a "
                 "certificate of this CA is one; give a pattern for at least one of them");
        return PKI_BAD_NAME;
    }
    if (facts->not_after.us <= clock_wall().us) {
        snprintf(why->text, sizeof(why->text),
                 "the certificate of `%.64s` has expired; import the one that follows it",
                 facts->common_name);
        return PKI_BAD;
    }
    return 0;
}

struct addition {
    const struct pki_foreign *rule;
    const struct pki_act *act;
    struct span value;
    const char *subject;
};

static int put_rule(struct pki_edit *edit, void *ctx)
{
    const struct addition *addition = ctx;
    const struct pki_foreign *rule = addition->rule;
    char key[sizeof(PREFIX) + 64], object[80];
    struct span before;

    snprintf(key, sizeof(key), PREFIX "%s", rule->name);
    int r = pki_edit_get_raw(edit, STORE_TABLE_META, key, &before);
    if (r != STORE_NOT_FOUND)
        return r == 0 ? PKI_EDIT(PKI_EXISTS) : pass(r);
    r = pki_edit_put_raw(edit, STORE_TABLE_META, span_of_text(key), addition->value);
    if (r != 0)
        return pass(r);
    edit->must_raise = true;
    const struct audit_field fields[] = {
        { "did", "added" },
        { "subject", addition->subject },
        { "kind", rule->kind == PKI_AGENT ? "agent" : "operator" },
        { "role", pki_role_name(rule->role) },
        { "cn", rule->cn_pattern },
        { "o", rule->o_pattern },
        { "ou", rule->ou_pattern },
        { "may_register", rule->may_register ? "true" : "false" },
    };
    snprintf(object, sizeof(object), "foreign-ca/%s", rule->name);
    return pass(pki_act_audit(edit, addition->act, AUDIT_CA_IMPORTED, object, fields, 8));
}

int pki_foreign_add(struct pki *pki,
                    const struct pki_foreign *rule,
                    struct span cert_pem,
                    const struct pki_act *act,
                    struct tls_why *ret_why)
{
    CLEANUP(tls_cert_freep) struct tls_cert *cert = NULL;
    CLEANUP(tls_key_freep) struct tls_key *key = NULL;
    CLEANUP(buf_deinit) struct buf der = { 0 }, value = { 0 };
    struct tls_facts facts;

    int r = tls_cert_parse_pem(&cert, cert_pem);
    if (r == 0)
        r = tls_cert_read(cert, &facts);
    if (r == 0)
        r = tls_cert_key(cert, &key);
    if (r > 0) {
        snprintf(ret_why->text, sizeof(ret_why->text),
                 "that is no PEM certificate with a key that peers take (P-256, P-384, RSA of 2048 "
                 "bits and more)");
        return PKI_BAD;
    }
    if (r == 0)
        r = tls_cert_print_der(cert, &der);
    if (r != 0)
        return fold(r);
    r = check(rule, &facts, ret_why);
    if (r != 0)
        return r;
    if (der.len > UINT16_MAX) {
        snprintf(ret_why->text, sizeof(ret_why->text), "the certificate is larger than 64 KiB");
        return PKI_BAD;
    }
    pthread_mutex_lock(&pki->ca->lock);
    const bool is_full = pki->ca->foreign && pki->ca->foreign->n >= MAX_RULES;
    pthread_mutex_unlock(&pki->ca->lock);
    if (is_full) {
        snprintf(ret_why->text, sizeof(ret_why->text),
                 "there are %d rules already, which is the limit; remove one first", MAX_RULES);
        return PKI_BAD_NAME;
    }
    encode(rule, buf_span(&der), &value);
    if (buf_failed(&value))
        return fault(-ENOMEM, "no memory for a rule");
    struct addition addition = {
        .rule = rule, .act = act, .value = buf_span(&value), .subject = facts.common_name
    };
    r = pki_change(pki, put_rule, &addition, NULL);
    if (r == PKI_EXISTS)
        snprintf(ret_why->text, sizeof(ret_why->text),
                 "there is a rule `%.64s` already; remove it first, or give another name",
                 rule->name);
    return r != 0 ? pass(r) : pass(pki_ca_refresh(pki));
}

int pki_foreign_list(struct pki *pki, struct arena *arena, struct pki_foreign **ret, size_t *ret_n)
{
    int r = 0;

    pthread_mutex_lock(&pki->ca->lock);
    const struct pki_foreign_set *set = pki->ca->foreign;
    const size_t n = set ? set->n : 0;
    struct pki_foreign *rules = arena_alloc_array(arena, n + 1, sizeof(*rules));
    if (!rules)
        r = fault(-ENOMEM, "no room for %zu rules", n);
    for (size_t i = 0; r == 0 && i < n; i++)
        rules[i] = set->rules[i].shown;
    pthread_mutex_unlock(&pki->ca->lock);
    if (r != 0)
        return r;
    *ret = rules;
    *ret_n = n;
    return 0;
}

struct removal {
    const char *name;
    const struct pki_act *act;
    uint8_t lineage[PKI_LINEAGE_BYTES];
    struct pki_row *rows;
    size_t n, capacity;
    int r;
};

static bool on_registered(void *ctx, const struct pki_row *row)
{
    struct removal *removal = ctx;

    if (row->identity.state == PKI_REVOKED ||
        memcmp(row->lineage, removal->lineage, sizeof(row->lineage)) != 0)
        return true;
    if (removal->n == removal->capacity) {
        size_t capacity = removal->capacity ? 2 * removal->capacity : 64;
        struct pki_row *grown = reallocarray(removal->rows, capacity, sizeof(*grown));
        if (!grown) {
            removal->r = STORE_FULL;
            return false;
        }
        removal->rows = grown;
        removal->capacity = capacity;
    }
    removal->rows[removal->n] = *row;
    removal->rows[removal->n++].chain = span_of(NULL, 0);
    return true;
}

/* Who came by the rule is unknown without it; that one was revoked stays on record. */
static int remove_registered(struct pki_edit *edit, struct removal *removal, struct span der)
{
    uint8_t sha256[CRYPTO_SHA256_BYTES];

    crypto_sha256(der, sha256);
    lineage_of(sha256, removal->lineage);
    removal->n = 0;
    int r = pki_edit_each_row(edit, on_registered, removal);
    if (r == 0)
        r = removal->r;
    for (size_t i = 0; r == 0 && i < removal->n; i++)
        r = pki_edit_remove(edit, &removal->rows[i]);
    return pass(r);
}

static int remove_rule(struct pki_edit *edit, void *ctx)
{
    static const struct audit_field did = { "did", "removed" };
    struct removal *removal = ctx;
    char key[sizeof(PREFIX) + 64], object[80];
    struct span before, der;
    struct pki_foreign rule;

    snprintf(key, sizeof(key), PREFIX "%.63s", removal->name);
    int r = pki_edit_get_raw(edit, STORE_TABLE_META, key, &before);
    if (r != 0)
        return r == STORE_NOT_FOUND ? PKI_EDIT(PKI_UNKNOWN) : pass(r);
    if (decode(span_of_text(removal->name), before, &rule, &der) == 0) {
        r = remove_registered(edit, removal, der);
        if (r != 0)
            return pass(r);
    }
    r = pki_edit_put_raw(edit, STORE_TABLE_META, span_of_text(key), span_of(NULL, 0));
    if (r != 0)
        return pass(r);
    edit->must_raise = true;
    snprintf(object, sizeof(object), "foreign-ca/%.63s", removal->name);
    return pass(pki_act_audit(edit, removal->act, AUDIT_CA_IMPORTED, object, &did, 1));
}

int pki_foreign_remove(struct pki *pki, const char *name, const struct pki_act *act)
{
    struct removal removal = { .name = name, .act = act };

    pki_clerk_settle(pki->ca->clerk); /* who is about to be registered goes too */
    int r = pki_change(pki, remove_rule, &removal, NULL);
    free(removal.rows);
    return r != 0 ? pass(r) : pass(pki_ca_refresh(pki));
}

/* ---- what listeners trust ---- */

int pki_foreign_roots(struct pki *pki, struct buf *to)
{
    pthread_mutex_lock(&pki->ca->lock);
    const struct pki_foreign_set *set = pki->ca->foreign;
    for (size_t i = 0; set && i < set->n; i++)
        buf_append_span(to, buf_span(&set->rules[i].pem));
    pthread_mutex_unlock(&pki->ca->lock);
    return buf_failed(to) ? fault(-ENOMEM, "no memory for roots") : 0;
}

bool pki_foreign_is_same(const struct pki_foreign_set *a, const struct pki_foreign_set *b)
{
    if ((a ? a->n : 0) != (b ? b->n : 0))
        return false;
    for (size_t i = 0; a && i < a->n; i++) {
        if (memcmp(a->rules[i].shown.sha256, b->rules[i].shown.sha256, 32) != 0)
            return false;
    }
    return true;
}

bool pki_foreign_row_is_good(struct span name, struct span value)
{
    struct pki_foreign rule;
    struct span der;

    return decode(name, value, &rule, &der) == 0;
}
