/* SPDX-License-Identifier: Apache-2.0 */

/* sentinel.admin.v1.AdminService: the authority, foreign CAs. On readers. */

#include "sentinel/admin/v1/admin.pb-c.h"

#include <stdio.h>
#include <string.h>

#include "common/log/log.h"
#include "server/front/acts.h"
#include "server/front/inside.h"

/* ---- rotation ---- */

static Sentinel__Admin__V1__CaPhase phase_of(enum pki_ca_phase phase)
{
    switch (phase) {
    case PKI_CA_PREPARED:
        return SENTINEL__ADMIN__V1__CA_PHASE__CA_PHASE_PREPARED;
    case PKI_CA_ISSUING:
        return SENTINEL__ADMIN__V1__CA_PHASE__CA_PHASE_ISSUING;
    case PKI_CA_SERVING:
        return SENTINEL__ADMIN__V1__CA_PHASE__CA_PHASE_SERVING;
    case PKI_CA_STEADY:
    default:
        return SENTINEL__ADMIN__V1__CA_PHASE__CA_PHASE_STEADY;
    }
}

static Sentinel__Admin__V1__CaStatus *status_message(struct unary *unary,
                                                     const struct pki_ca_status *from)
{
    Sentinel__Admin__V1__CaStatus *to = unary_alloc(unary, 1, sizeof(*to));

    if (!to)
        return NULL;
    sentinel__admin__v1__ca_status__init(to);
    to->phase = phase_of(from->phase);
    to->since = unary_time(unary, from->since);
    to->agents_ready = from->n_ready;
    to->agents_total = from->n_agents;
    to->root_expires = unary_time(unary, from->root_not_after);
    to->agents_ca_expires = unary_time(unary, from->agents_ca_not_after);
    to->hubs_ca_expires = unary_time(unary, from->hubs_ca_not_after);
    to->sealed = from->is_sealed;
    to->root_offline = from->is_root_offline;
    to->pin = front_hex(unary, from->pin, sizeof(from->pin));
    to->next_pin = front_hex(unary, from->next_pin, sizeof(from->next_pin));
    return to;
}

enum front_failure svc_admin_get_ca_status(struct unary *unary)
{
    Sentinel__Admin__V1__GetCaStatusResponse *answer = unary_alloc(unary, 1, sizeof(*answer));
    enum front_failure failure = front_needs_pki_and(unary, answer);
    struct pki_ca_status status = { .phase = PKI_CA_STEADY };

    if (failure != FAIL_NOT)
        return failure;
    if (pki_ca_get_status(unary->front->options.pki, &status) != 0)
        return FAIL_FAULT;
    sentinel__admin__v1__get_ca_status_response__init(answer);
    answer->status = status_message(unary, &status);
    return unary_finish(unary, &answer->base);
}

enum front_failure svc_admin_rotate_ca(struct unary *unary)
{
    static const char *const steps[] = { "prepare", "issue", "serve", "retire", "back" };
    const Sentinel__Admin__V1__RotateCaRequest *request = (const void *) unary->request;
    Sentinel__Admin__V1__RotateCaResponse *answer = unary_alloc(unary, 1, sizeof(*answer));
    enum front_failure failure = front_needs_pki_and(unary, answer);
    struct pki_ca_status status = { .phase = PKI_CA_STEADY };
    struct tls_why why = { "" };
    struct front_act act;
    bool is_step = false;
    int r;

    if (failure != FAIL_NOT)
        return failure;
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
        is_step = is_step || strcmp(request->step, steps[i]) == 0;
    if (!is_step) {
        front_describe(&unary->detail, "step", "prepare, issue, serve, retire or back");
        return FAIL_BAD_QUESTION;
    }
    r = pki_ca_rotate(unary->front->options.pki, request->step, request->force,
                      front_act_of(unary, NULL, &act), &status, &why);
    if (r != PKI_OK)
        return front_failure_of_act(r, "step", &why, &unary->detail);
    front_registry_changed(unary->front);
    log_event(LOG_INFO, "ca_rotated", LOG_S("by", act.by), LOG_S("step", request->step));
    sentinel__admin__v1__rotate_ca_response__init(answer);
    answer->status = status_message(unary, &status);
    return unary_finish(unary, &answer->base);
}

/* ---- foreign CAs ---- */

static bool put(char *to, size_t size, const char *text)
{
    const int len = snprintf(to, size, "%s", text);

    return len >= 0 && (size_t) len < size;
}

static enum front_failure
read_rule(struct unary *unary, const Sentinel__Admin__V1__ForeignCa *from, struct pki_foreign *to)
{
    const int kind = from ? (int) from->kind : 0, role = from ? (int) from->role : 0;

    if (!from) {
        front_describe(&unary->detail, "rule", "by what rule do its certificates count?");
        return FAIL_BAD_QUESTION;
    }
    to->kind = (enum pki_kind) kind;
    to->role = (enum pki_role) role;
    to->may_register = from->may_register;
    if (kind != PKI_AGENT && kind != PKI_OPERATOR)
        front_describe(&unary->detail, "rule.kind", "IDENTITY_KIND_AGENT or _OPERATOR");
    else if (role < PKI_ROLE_AGENT || role > PKI_ROLE_EXPORTER ||
             (kind == PKI_AGENT) != (role == PKI_ROLE_AGENT))
        front_describe(&unary->detail, "rule.role",
                       "IDENTITY_ROLE_AGENT of agents, of operators another role");
    else if (!put(to->name, sizeof(to->name), from->name))
        front_describe(&unary->detail, "rule.name", "at most %zu bytes", sizeof(to->name) - 1);
    else if (!put(to->cn_pattern, sizeof(to->cn_pattern), from->common_name_pattern) ||
             !put(to->o_pattern, sizeof(to->o_pattern), from->organisation_pattern) ||
             !put(to->ou_pattern, sizeof(to->ou_pattern), from->organisation_unit_pattern))
        front_describe(&unary->detail, "rule", "a pattern has at most %zu bytes",
                       sizeof(to->cn_pattern) - 1);
    else
        return FAIL_NOT;
    return FAIL_BAD_QUESTION;
}

enum front_failure svc_admin_add_foreign(struct unary *unary)
{
    const Sentinel__Admin__V1__AddForeignCaRequest *request = (const void *) unary->request;
    Sentinel__Admin__V1__AddForeignCaResponse *answer = unary_alloc(unary, 1, sizeof(*answer));
    enum front_failure failure = front_needs_pki(unary);
    struct pki_foreign rule = { .may_register = false };
    struct tls_why why = { "" };
    struct front_act act;
    int r;

    if (failure == FAIL_NOT)
        failure = read_rule(unary, request->rule, &rule);
    if (failure != FAIL_NOT)
        return failure;
    if (!answer)
        return unary_finish(unary, NULL);
    r = pki_foreign_add(unary->front->options.pki, &rule, span_of_text(request->certificate),
                        front_act_of(unary, NULL, &act), &why);
    if (r != PKI_OK)
        return front_failure_of_act(r, r == PKI_BAD ? "certificate" : "rule.name", &why,
                                    &unary->detail);
    front_registry_changed(unary->front);
    sentinel__admin__v1__add_foreign_ca_response__init(answer);
    return unary_finish(unary, &answer->base);
}

static void fill_rule(struct unary *unary, const void *row, void *message)
{
    const struct pki_foreign *from = row;
    Sentinel__Admin__V1__ForeignCa *to = message;

    sentinel__admin__v1__foreign_ca__init(to);
    to->name = front_borrow(from->name);
    to->subject = front_borrow(from->subject);
    to->sha256 = front_hex(unary, from->sha256, sizeof(from->sha256));
    to->not_after = unary_time(unary, from->not_after);
    to->common_name_pattern = front_borrow(from->cn_pattern);
    to->organisation_pattern = front_borrow(from->o_pattern);
    to->organisation_unit_pattern = front_borrow(from->ou_pattern);
    to->kind = (Sentinel__Admin__V1__IdentityKind) from->kind;
    to->role = (Sentinel__Admin__V1__IdentityRole) from->role;
    to->may_register = from->may_register;
}

static const struct front_list rule_list = { sizeof(struct pki_foreign),
                                             sizeof(Sentinel__Admin__V1__ForeignCa), fill_rule };

enum front_failure svc_admin_list_foreign(struct unary *unary)
{
    Sentinel__Admin__V1__ListForeignCasResponse *answer = unary_alloc(unary, 1, sizeof(*answer));
    enum front_failure failure = front_needs_pki(unary);
    struct pki_foreign *rules = NULL;
    size_t n = 0;

    if (failure != FAIL_NOT)
        return failure;
    if (pki_foreign_list(unary->front->options.pki, &unary->arena, &rules, &n) != 0)
        return FAIL_FAULT;
    if (!answer)
        return unary_finish(unary, NULL);
    sentinel__admin__v1__list_foreign_cas_response__init(answer);
    answer->foreign_cas = front_list_of(unary, &rule_list, rules, n, &answer->n_foreign_cas);
    return unary_finish(unary, &answer->base);
}

enum front_failure svc_admin_remove_foreign(struct unary *unary)
{
    const Sentinel__Admin__V1__RemoveForeignCaRequest *request = (const void *) unary->request;
    Sentinel__Admin__V1__RemoveForeignCaResponse *answer = unary_alloc(unary, 1, sizeof(*answer));
    enum front_failure failure = front_needs_pki_and(unary, answer);
    struct front_act act;
    int r;

    if (failure != FAIL_NOT)
        return failure;
    r = pki_foreign_remove(unary->front->options.pki, request->name,
                           front_act_of(unary, NULL, &act));
    if (r != PKI_OK)
        return front_failure_of_act(r, "name", NULL, &unary->detail);
    front_registry_changed(unary->front);
    sentinel__admin__v1__remove_foreign_ca_response__init(answer);
    return unary_finish(unary, &answer->base);
}
