/* SPDX-License-Identifier: Apache-2.0 */
#include "server/pki/ca/ca.h"

#include <string.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "server/pki/inside.h"

/* What the acts of this directory share. */

int pki_act_audit(struct pki_edit *edit,
                  const struct pki_act *act,
                  enum audit_event event,
                  const char *object,
                  const struct audit_field *fields,
                  size_t n_fields)
{
    struct audit_field all[AUDIT_MAX_FIELDS];

    ensure(n_fields < AUDIT_MAX_FIELDS);
    if (n_fields > 0)
        memcpy(all, fields, n_fields * sizeof(fields[0]));
    if (act->reason && act->reason[0])
        all[n_fields++] = (struct audit_field){ "reason", act->reason };
    const struct audit_entry entry = { .event = event,
                                       .actor = act->by,
                                       .source = act->source,
                                       .object = object,
                                       .correlation = act->correlation,
                                       .fields = all,
                                       .n_fields = n_fields };
    return pass(audit_put_in(edit->change, &entry));
}

int pki_edit_get_raw(struct pki_edit *edit,
                     enum store_table table,
                     const char *key,
                     struct span *ret)
{
    return pass(store_change_get(edit->change, table, span_of_text(key), ret));
}

struct each {
    bool (*fn)(void *ctx, const struct pki_row *row);
    void *ctx;
};

static bool on_row(void *ctx, struct span key, struct span value)
{
    const struct each *each = ctx;
    struct pki_row row;

    return pki_row_decode(key, value, &row) != 0 || each->fn(each->ctx, &row);
}

int pki_edit_each_row(struct pki_edit *edit,
                      bool (*fn)(void *ctx, const struct pki_row *row),
                      void *ctx)
{
    struct each each = { .fn = fn, .ctx = ctx };

    return pass(
        store_change_each(edit->change, STORE_TABLE_CERTIFICATES, span_of(NULL, 0), on_row, &each));
}

int pki_each_row(struct store *store, bool (*fn)(void *ctx, const struct pki_row *row), void *ctx)
{
    struct each each = { .fn = fn, .ctx = ctx };

    return fold(store_state_each(store, STORE_TABLE_CERTIFICATES, on_row, &each));
}
