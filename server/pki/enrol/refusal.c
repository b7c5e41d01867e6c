/* SPDX-License-Identifier: Apache-2.0 */
#include "server/pki/enrol/refusal.h"

#include <stdio.h>

#include "common/base/fault.h"
#include "server/pki/enrol/lineage.h"
#include "server/pki/enrol/tokens.h"

const char *pki_refusal_name(enum pki_refusal refusal)
{
    switch (refusal) {
    case PKI_REFUSED_TOKEN_UNKNOWN:
        return "token_unknown";
    case PKI_REFUSED_TOKEN_EXPIRED:
        return "token_expired";
    case PKI_REFUSED_TOKEN_USED:
        return "token_used";
    case PKI_REFUSED_TOKEN_REVOKED:
        return "token_revoked";
    case PKI_REFUSED_ADDRESS:
        return "address";
    case PKI_REFUSED_NAME:
        return "name";
    case PKI_REFUSED_CSR:
        return "request";
    case PKI_REFUSED_CHAIN:
        return "chain";
    case PKI_REFUSED_SIGNATURE:
        return "signature";
    case PKI_REFUSED_GRACE_OVER:
        return "grace_over";
    case PKI_REFUSED_REVOKED:
        return "revoked";
    case PKI_REFUSED_NOT_CURRENT:
        return "not_current";
    case PKI_REFUSED_UNKNOWN:
        return "unknown";
    case PKI_REFUSED_NOT:
    default:
        return "none";
    }
}

struct telling {
    const struct pki_attempt *attempt;
    enum pki_refusal refusal;
    const char *why;
};

static bool is_of_token(enum pki_refusal refusal)
{
    switch (refusal) {
    case PKI_REFUSED_TOKEN_UNKNOWN:
    case PKI_REFUSED_TOKEN_EXPIRED:
    case PKI_REFUSED_TOKEN_USED:
    case PKI_REFUSED_TOKEN_REVOKED:
        return true;
    case PKI_REFUSED_ADDRESS:
    case PKI_REFUSED_NAME:
    case PKI_REFUSED_CSR:
    case PKI_REFUSED_CHAIN:
    case PKI_REFUSED_SIGNATURE:
    case PKI_REFUSED_GRACE_OVER:
    case PKI_REFUSED_REVOKED:
    case PKI_REFUSED_NOT_CURRENT:
    case PKI_REFUSED_UNKNOWN:
    case PKI_REFUSED_NOT:
    default:
        return false;
    }
}

static int tell(struct pki_edit *edit, void *ctx)
{
    const struct telling *telling = ctx;
    const struct pki_attempt *attempt = telling->attempt;
    char object[PKI_OBJECT_BYTES] = "", actor[PKI_OBJECT_BYTES] = "";

    /* Foreign text does not get in here: a name or an id that breaks its rule is left out. */
    if (attempt->token_id)
        snprintf(object, sizeof(object), "token/%s",
                 pki_token_id_is_good(attempt->token_id) ? attempt->token_id : "?");
    if (attempt->name && pki_name_is_good(attempt->name))
        (void) pki_agent_object(attempt->name, actor);
    const struct audit_field fields[] = { { "refused", pki_refusal_name(telling->refusal) },
                                          { "why", telling->why } };
    const struct audit_entry entry = {
        .event = is_of_token(telling->refusal) ? AUDIT_TOKEN_FAILED : attempt->event,
        .actor = actor,
        .source = attempt->peer,
        .object = object[0] ? object : actor,
        .correlation = attempt->correlation,
        .fields = fields,
        .n_fields = 2,
    };
    return pass(pki_edit_audit(edit, &entry));
}

int pki_refuse(struct pki *pki,
               const struct pki_attempt *attempt,
               enum pki_refusal refusal,
               const struct tls_why *why)
{
    struct telling telling = { .attempt = attempt, .refusal = refusal, .why = why->text };

    int r = pki_change(pki, tell, &telling, NULL);
    return r == 0 ? PKI_REFUSED : pass(r);
}
