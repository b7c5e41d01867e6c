/* SPDX-License-Identifier: Apache-2.0 */

/* sentinel.admin.v1.AdminService: certificates and operators. On readers. */

#include "sentinel/admin/v1/admin.pb-c.h"

#include <string.h>

#include "common/base/buf.h"
#include "common/log/log.h"
#include "server/front/acts.h"
#include "server/front/inside.h"

/* ---- certificates ---- */

typedef Sentinel__Admin__V1__ListCertificatesRequest list_request;

static void fill_certificate(struct unary *unary, const void *row, void *message)
{
    const struct pki_certificate *from = row;
    Sentinel__Admin__V1__Certificate *to = message;

    sentinel__admin__v1__certificate__init(to);
    to->sha256 = front_hex(unary, from->identity.sha256, sizeof(from->identity.sha256));
    to->serial = front_borrow(from->identity.serial);
    to->kind = (Sentinel__Admin__V1__IdentityKind) from->identity.kind;
    to->name = front_borrow(from->identity.name);
    to->role = (Sentinel__Admin__V1__IdentityRole) from->identity.role;
    to->state = (Sentinel__Admin__V1__CertificateState) from->identity.state;
    to->not_before = unary_time(unary, from->identity.not_before);
    to->not_after = unary_time(unary, from->identity.not_after);
    to->issuer = front_borrow(from->issuer);
    to->registered = unary_time(unary, from->registered);
    to->presented = unary_time(unary, from->presented);
    to->revoked = unary_time(unary, from->revoked);
    to->reason = front_borrow(from->reason);
    to->lineage = front_hex(unary, from->lineage, sizeof(from->lineage));
    to->parent_sha256 = front_hex(unary, from->parent, sizeof(from->parent));
    to->key_sha256 = front_hex(unary, from->key_sha256, sizeof(from->key_sha256));
}

static const struct front_list certificate_list = { sizeof(struct pki_certificate),
                                                    sizeof(Sentinel__Admin__V1__Certificate),
                                                    fill_certificate };

static enum front_failure answer_certificates(struct unary *unary,
                                              const struct pki_certificates_question *asked,
                                              struct span question)
{
    Sentinel__Admin__V1__ListCertificatesResponse *answer = unary_alloc(unary, 1, sizeof(*answer));
    struct pki_certificate *found = NULL;
    bool has_more = false;
    size_t n = 0;

    if (pki_certificate_list(unary->front->options.pki, asked, &unary->arena, &found, &n,
                             &has_more) != 0)
        return FAIL_FAULT;
    if (!answer)
        return unary_finish(unary, NULL);
    sentinel__admin__v1__list_certificates_response__init(answer);
    answer->certificates =
        front_list_of(unary, &certificate_list, found, n, &answer->n_certificates);
    if (has_more && n > 0)
        answer->next_page_token =
            front_token_make(unary, question, span_of(found[n - 1].identity.sha256, 32));
    return unary_finish(unary, &answer->base);
}

enum front_failure svc_admin_list_certificates(struct unary *unary)
{
    const list_request *request = (const void *) unary->request;
    CLEANUP(buf_deinit) struct buf question = { 0 };
    struct pki_certificates_question asked = {
        .name_pattern = request->name_pattern[0] ? request->name_pattern : NULL,
        .state = (enum pki_state) request->state,
        .kind = (enum pki_kind) request->kind,
    };
    enum front_failure failure = front_needs_pki(unary);

    buf_printf(&question, "%d %d %s", (int) request->state, (int) request->kind,
               request->name_pattern);
    if (failure == FAIL_NOT)
        failure = front_page_size(unary, request->page_size, &asked.limit);
    if (failure == FAIL_NOT)
        failure = front_token_read(unary, request->page_token, buf_span(&question), &asked.beyond);
    return failure == FAIL_NOT ? answer_certificates(unary, &asked, buf_span(&question)) : failure;
}

enum front_failure svc_admin_revoke_certificate(struct unary *unary)
{
    const Sentinel__Admin__V1__RevokeCertificateRequest *request = (const void *) unary->request;
    Sentinel__Admin__V1__RevokeCertificateResponse *answer = unary_alloc(unary, 1, sizeof(*answer));
    enum front_failure failure = front_needs_pki_and(unary, answer);
    struct tls_why why = { "" };
    struct front_act act;
    uint64_t generation = 0;
    int r;

    if (failure != FAIL_NOT)
        return failure;
    r = pki_certificate_revoke(unary->front->options.pki, request->sha256,
                               front_act_of(unary, request->reason, &act), &generation, &why);
    if (r != PKI_OK)
        return front_failure_of_act(r, "sha256", &why, &unary->detail);
    front_act_cuts(unary);
    log_event(LOG_INFO, "certificate_revoked", LOG_S("by", act.by),
              LOG_S("certificate", request->sha256));
    sentinel__admin__v1__revoke_certificate_response__init(answer);
    answer->generation = generation;
    return unary_finish(unary, &answer->base);
}

/*
 * Any operator for itself, whatever its role: the name is the caller's and the role stays. An agent
 * has a lineage and EnrollmentService.Renew; a bearer token has no certificate.
 */
enum front_failure svc_admin_renew_own(struct unary *unary)
{
    const Sentinel__Admin__V1__RenewOwnCertificateRequest *request = (const void *) unary->request;
    Sentinel__Admin__V1__RenewOwnCertificateResponse *answer =
        unary_alloc(unary, 1, sizeof(*answer));
    const struct pki_operator_wish wish = {
        .name = unary->caller.name,
        .csr_der = span_of(request->csr.data, request->csr.len),
    };
    enum front_failure failure = front_needs_pki_and(unary, answer);
    struct pki_granted granted = { .n_chain = 0 };
    struct tls_why why = { "" };
    struct front_act act;
    int r;

    if (failure != FAIL_NOT)
        return failure;
    if (unary->caller.kind != PKI_OPERATOR) {
        front_describe(&unary->detail, NULL, "only an operator's certificate is renewed here");
        return FAIL_REFUSED;
    }
    if (request->csr.len == 0) {
        front_describe(&unary->detail, "csr", "a request (PKCS#10, DER) for the new key");
        return FAIL_CSR_INVALID;
    }
    r = pki_operator_set(unary->front->options.pki, &wish,
                         front_act_of(unary, "renewed by itself", &act), &unary->arena, &granted,
                         &why);
    if (r != PKI_OK)
        return r == PKI_BAD ? FAIL_CSR_INVALID
                            : front_failure_of_act(r, "csr", &why, &unary->detail);
    front_registry_changed(unary->front);
    sentinel__admin__v1__renew_own_certificate_response__init(answer);
    answer->name = front_borrow(unary->caller.name);
    answer->chain = front_ders(unary, granted.chain_der, granted.n_chain);
    answer->n_chain = granted.n_chain;
    answer->roots = front_ders(unary, granted.roots_der, granted.n_roots);
    answer->n_roots = granted.n_roots;
    return unary_finish(unary, &answer->base);
}

/* ---- operators ---- */

static void fill_operator(struct unary *unary, const void *row, void *message)
{
    const struct pki_operator *from = row;
    Sentinel__Admin__V1__Operator *to = message;

    sentinel__admin__v1__operator__init(to);
    to->name = front_borrow(from->name);
    to->role = (Sentinel__Admin__V1__IdentityRole) from->role;
    to->added = unary_time(unary, from->added);
    to->expires = unary_time(unary, from->not_after);
    to->certificates = from->n_certificates;
}

static const struct front_list operator_list = { sizeof(struct pki_operator),
                                                 sizeof(Sentinel__Admin__V1__Operator),
                                                 fill_operator };

enum front_failure svc_admin_list_operators(struct unary *unary)
{
    Sentinel__Admin__V1__ListOperatorsResponse *answer = unary_alloc(unary, 1, sizeof(*answer));
    enum front_failure failure = front_needs_pki(unary);
    struct pki_operator *operators = NULL;
    size_t n = 0;

    if (failure != FAIL_NOT)
        return failure;
    if (pki_operator_list(unary->front->options.pki, &unary->arena, &operators, &n) != 0)
        return FAIL_FAULT;
    if (!answer)
        return unary_finish(unary, NULL);
    sentinel__admin__v1__list_operators_response__init(answer);
    answer->operators = front_list_of(unary, &operator_list, operators, n, &answer->n_operators);
    return unary_finish(unary, &answer->base);
}

typedef Sentinel__Admin__V1__ChangeOperatorRequest change_request;

static enum front_failure check_change(struct unary *unary, const change_request *request)
{
    if (!request->remove && (int) request->role == PKI_ROLE_NONE && request->csr.len == 0) {
        front_describe(&unary->detail, "role", "nothing to do: neither role nor csr nor remove");
        return FAIL_BAD_QUESTION;
    }
    if ((int) request->role == PKI_ROLE_AGENT || (int) request->role > PKI_ROLE_EXPORTER) {
        front_describe(&unary->detail, "role",
                       "IDENTITY_ROLE_VIEWER, _OPERATOR, _ADMIN or _EXPORTER");
        return FAIL_BAD_QUESTION;
    }
    return FAIL_NOT;
}

enum front_failure svc_admin_change_operator(struct unary *unary)
{
    const change_request *request = (const void *) unary->request;
    Sentinel__Admin__V1__ChangeOperatorResponse *answer = unary_alloc(unary, 1, sizeof(*answer));
    const struct pki_operator_wish wish = {
        .name = request->name,
        .role = (enum pki_role) request->role,
        .csr_der = span_of(request->csr.data, request->csr.len),
    };
    struct pki *pki = unary->front->options.pki;
    enum front_failure failure = front_needs_pki(unary);
    struct pki_granted granted = { .n_chain = 0 };
    struct tls_why why = { "" };
    struct front_act act;
    int r;

    if (failure == FAIL_NOT)
        failure = check_change(unary, request);
    if (failure != FAIL_NOT)
        return failure;
    if (!answer)
        return unary_finish(unary, NULL);
    (void) front_act_of(unary, NULL, &act);
    r = request->remove ? pki_operator_remove(pki, request->name, &act.act, &why)
                        : pki_operator_set(pki, &wish, &act.act, &unary->arena, &granted, &why);
    if (r != PKI_OK)
        return front_failure_of_act(r, "name", &why, &unary->detail);
    front_registry_changed(unary->front);
    sentinel__admin__v1__change_operator_response__init(answer);
    answer->chain = front_ders(unary, granted.chain_der, granted.n_chain);
    answer->n_chain = granted.n_chain;
    answer->roots = front_ders(unary, granted.roots_der, granted.n_roots);
    answer->n_roots = granted.n_roots;
    return unary_finish(unary, &answer->base);
}
