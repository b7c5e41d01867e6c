/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/base/fault.h"
#include "common/base/faultpoint.h"
#include "common/base/text.h"
#include "server/pki/agents/revoked.h"
#include "server/pki/enrol/lineage.h"

#define DEFAULT_LIMIT 100u
#define MAX_LIMIT 10000u
#define MIN_PREFIX 8

/* ---- listing ---- */

struct listing {
    const struct pki_certificates_question *question;
    struct pki_certificate *rows;
    size_t n, limit;
    bool has_more;
};

static bool is_wanted(const struct pki_certificates_question *question, const struct pki_row *row)
{
    const struct pki_identity *identity = &row->identity;

    return (!question->name_pattern || !question->name_pattern[0] ||
            text_matches(question->name_pattern, identity->name)) &&
           (question->state == 0 || question->state == identity->state) &&
           (question->kind == 0 || question->kind == identity->kind);
}

static void fill(const struct pki_row *row, struct pki_certificate *to)
{
    to->identity = row->identity;
    snprintf(to->issuer, sizeof(to->issuer), "%s", row->issuer);
    to->registered = row->registered;
    to->presented = row->presented;
    to->revoked = row->identity.state == PKI_REVOKED ? row->changed : (wall_us){ 0 };
    snprintf(to->reason, sizeof(to->reason), "%s", row->reason);
    memcpy(to->lineage, row->lineage, sizeof(to->lineage));
    memcpy(to->parent, row->parent, sizeof(to->parent));
    memcpy(to->key_sha256, row->key_sha256, sizeof(to->key_sha256));
}

static bool on_row(void *ctx, struct span key, struct span value)
{
    struct listing *listing = ctx;
    const struct span beyond = listing->question->beyond;
    struct pki_row row;

    if (beyond.len == key.len && memcmp(key.data, beyond.data, key.len) <= 0)
        return true;
    if (pki_row_decode(key, value, &row) != 0 || !is_wanted(listing->question, &row))
        return true;
    if (listing->n == listing->limit) {
        listing->has_more = true;
        return false;
    }
    fill(&row, &listing->rows[listing->n++]);
    return true;
}

/* Memory is ahead of the disk where agents come and go. */
static void fill_presented(struct pki *pki, struct pki_certificate *row)
{
    pthread_rwlock_rdlock(&pki->lock);
    const struct pki_entry *entry = pki_view_find(pki->view, row->identity.sha256);
    if (entry && atomic_load(&entry->presented_us) > row->presented.us)
        row->presented.us = atomic_load(&entry->presented_us);
    pthread_rwlock_unlock(&pki->lock);
}

int pki_certificate_list(struct pki *pki,
                         const struct pki_certificates_question *question,
                         struct arena *arena,
                         struct pki_certificate **ret,
                         size_t *ret_n,
                         bool *ret_has_more)
{
    const uint32_t limit = question->limit ? question->limit : DEFAULT_LIMIT;
    struct listing listing = { .question = question,
                               .limit = limit < MAX_LIMIT ? limit : MAX_LIMIT };

    listing.rows = arena_alloc_array(arena, listing.limit, sizeof(*listing.rows));
    if (!listing.rows)
        return fault(-ENOMEM, "no room for a list of %zu certificates", listing.limit);
    int r = store_state_each(pki->store, STORE_TABLE_CERTIFICATES, on_row, &listing);
    if (r != 0)
        return fold(r);
    for (size_t i = 0; i < listing.n; i++)
        fill_presented(pki, &listing.rows[i]);
    *ret = listing.rows;
    *ret_n = listing.n;
    *ret_has_more = listing.has_more;
    return 0;
}

/* ---- revoking one ---- */

static int
find(struct pki *pki, const char *prefix, uint8_t ret[static 32], struct tls_why *ret_why)
{
    const struct pki_entry *entry;
    const size_t len = strlen(prefix);
    size_t n = 0;
    char hex[65];

    if (len < MIN_PREFIX || len > 64 || strspn(prefix, "0123456789abcdefABCDEF") != len) {
        snprintf(ret_why->text, sizeof(ret_why->text),
                 "a certificate is named by at least %d hex digits of its SHA-256: `sentinelctl "
                 "certs list`",
                 MIN_PREFIX);
        return PKI_UNKNOWN;
    }
    pthread_rwlock_rdlock(&pki->lock);
    for (size_t at = 0; (entry = map_next(&pki->view->by_sha256, &at)) != NULL;) {
        if (strncasecmp(text_of_hex(entry->identity.sha256, 32, hex), prefix, len) != 0)
            continue;
        memcpy(ret, entry->identity.sha256, 32);
        n++;
    }
    pthread_rwlock_unlock(&pki->lock);
    if (n == 1)
        return 0;
    snprintf(ret_why->text, sizeof(ret_why->text),
             n == 0 ? "no certificate begins with %s: `sentinelctl certs list`"
                    : "several certificates begin with %s: give more digits",
             prefix);
    return PKI_UNKNOWN;
}

/* More than a certificate has successors that were never presented; what is beyond gets into the
 * file at the next start. */
#define MAX_LINES 16

struct revoking {
    struct pki *pki;
    uint8_t sha256[32];
    const struct pki_act *act;
    struct pki_revoked_line lines[MAX_LINES];
    size_t n_lines;
};

static int end_row(struct pki_edit *edit, struct revoking *revoking, struct pki_row *row)
{
    pki_row_end(row, PKI_REVOKED, edit->now, revoking->act->reason ? revoking->act->reason : "");
    if (revoking->n_lines < MAX_LINES) {
        struct pki_revoked_line *line = &revoking->lines[revoking->n_lines++];

        *line = (struct pki_revoked_line){ .kind = PKI_LINE_CERTIFICATE,
                                           .not_after = row->identity.not_after,
                                           .at = edit->now };
        memcpy(line->sha256, row->identity.sha256, sizeof(line->sha256));
        snprintf(line->name, sizeof(line->name), "%s", row->identity.name);
    }
    return pass(pki_edit_put(edit, row));
}

/* By memory, which is ahead of the disk. */
static bool was_presented(struct pki *pki, const struct pki_row *row)
{
    pthread_rwlock_rdlock(&pki->lock);
    const struct pki_entry *entry = pki_view_find(pki->view, row->identity.sha256);
    bool is_so = entry && entry->identity.state != PKI_UNCONFIRMED;
    pthread_rwlock_unlock(&pki->lock);
    return is_so;
}

/* Whoever has the key of the one had its successors made, and may hold them back: those that were
 * never presented go with it. */
static int end_children(struct pki_edit *edit, struct revoking *revoking, const struct pki_row *row)
{
    struct pki_row *rows;
    size_t n;

    int r = pki_edit_rows_of(edit, row->identity.kind, row->identity.name, &rows, &n);
    for (size_t i = 0; r == 0 && i < n; i++) {
        if (rows[i].identity.state == PKI_UNCONFIRMED &&
            memcmp(rows[i].parent, row->identity.sha256, sizeof(rows[i].parent)) == 0 &&
            !was_presented(revoking->pki, &rows[i]))
            r = end_row(edit, revoking, &rows[i]);
    }
    return pass(r);
}

static int revoke(struct pki_edit *edit, void *ctx)
{
    struct revoking *revoking = ctx;
    const struct pki_act *act = revoking->act;
    char object[PKI_OBJECT_BYTES], successors[16];
    struct pki_row row;

    int r = pki_edit_get(edit, revoking->sha256, &row);
    if (r == STORE_NOT_FOUND)
        return PKI_EDIT(PKI_UNKNOWN);
    if (r != 0)
        return pass(r);
    revoking->n_lines = 0;
    r = end_row(edit, revoking, &row);
    if (r == 0)
        r = end_children(edit, revoking, &row);
    if (r != 0)
        return pass(r);
    snprintf(successors, sizeof(successors), "%zu", revoking->n_lines - 1);
    const struct audit_field fields[] = { { "name", row.identity.name },
                                          { "serial", row.identity.serial },
                                          { "successors", successors },
                                          { "reason", act->reason } };
    const struct audit_entry entry = { .event = AUDIT_CERTIFICATE_REVOKED,
                                       .actor = act->by,
                                       .source = act->source,
                                       .object = pki_object_of(revoking->sha256, object),
                                       .correlation = act->correlation,
                                       .fields = fields,
                                       .n_fields = 4 };
    return pass(pki_edit_audit(edit, &entry));
}

int pki_certificate_revoke(struct pki *pki,
                           const char *sha256_prefix,
                           const struct pki_act *act,
                           uint64_t *ret_generation,
                           struct tls_why *ret_why)
{
    struct revoking revoking = { .pki = pki, .act = act };

    int r = find(pki, sha256_prefix, revoking.sha256, ret_why);
    if (r != 0)
        return r;
    faultpoint("certificate_revoke_before_commit");
    r = pki_change(pki, revoke, &revoking, ret_generation);
    faultpoint("certificate_revoke_after_commit");
    if (r == 0 && pki_name_is_good(revoking.lines[0].name))
        pki_revoked_add(pki, revoking.lines, revoking.n_lines);
    return pass(r);
}
