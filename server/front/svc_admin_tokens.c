/* SPDX-License-Identifier: Apache-2.0 */

/* sentinel.admin.v1.AdminService: tokens of enrolment, bearer tokens. On readers. */

#include "sentinel/admin/v1/admin.pb-c.h"

#include <string.h>

#include "common/base/buf.h"
#include "common/crypto/crypto.h"
#include "common/log/log.h"
#include "server/front/acts.h"
#include "server/front/inside.h"

#define REPLACE_IS_GIVEN SENTINEL__ADMIN__V1__CREATE_TOKEN_REQUEST___REPLACE_REPLACE

/* ---- tokens of enrolment ---- */

typedef Sentinel__Admin__V1__CreateTokenRequest create_request;

static enum front_failure
read_ttl(struct unary *unary, const Google__Protobuf__Duration *from, int64_t *ret)
{
    *ret = 0; /* the registry's own */
    if (!from)
        return FAIL_NOT;
    if (front_duration_of(from, ret) && *ret > 0)
        return FAIL_NOT;
    front_describe(&unary->detail, "ttl", "above 0, such as 1800s");
    return FAIL_BAD_QUESTION;
}

static struct pki_label *labels_of(struct unary *unary, const create_request *request)
{
    struct pki_label *to = unary_alloc(unary, request->n_labels + 1, sizeof(*to));

    for (size_t i = 0; to && i < request->n_labels; i++)
        to[i] = (struct pki_label){ request->labels[i]->key, request->labels[i]->value };
    return to;
}

static int replace_of(const create_request *request)
{
    if (request->_replace_case != REPLACE_IS_GIVEN)
        return -1;
    return request->replace ? 1 : 0;
}

enum front_failure svc_admin_create_token(struct unary *unary)
{
    const create_request *request = (const void *) unary->request;
    Sentinel__Admin__V1__CreateTokenResponse *answer = unary_alloc(unary, 1, sizeof(*answer));
    struct pki_token_wish wish = {
        .n_uses = request->uses,
        .id_pattern = request->id_pattern[0] ? request->id_pattern : NULL,
        .addresses = request->address_range[0] ? request->address_range : NULL,
        .labels = labels_of(unary, request),
        .n_labels = request->n_labels,
        .replace = replace_of(request),
    };
    struct front_act act;
    struct pki_token token = { 0 };
    struct tls_why why = { "" };
    enum front_failure failure = front_needs_pki(unary);
    int r;

    if (failure == FAIL_NOT)
        failure = read_ttl(unary, request->ttl, &wish.ttl_us);
    if (failure != FAIL_NOT)
        return failure;
    if (unary->is_short)
        return unary_finish(unary, NULL);
    (void) front_act_of(unary, NULL, &act);
    wish.made_by = act.by;
    wish.source = act.source;
    wish.correlation = act.correlation;
    r = pki_token_create(unary->front->options.pki, &wish, &token, &why);
    if (r != PKI_OK)
        return front_failure_of_act(r, "token", &why, &unary->detail);
    log_event(LOG_INFO, "token_created", LOG_S("by", act.by), LOG_S("token", token.id));
    sentinel__admin__v1__create_token_response__init(answer);
    answer->token_id = front_copy(unary, token.id);
    answer->expires = unary_time(unary, token.expires);
    failure = front_enrolment_string(unary, &token, &answer->enrolment, &answer->hub, &answer->pin);
    crypto_wipe(token.secret, sizeof(token.secret));
    return failure == FAIL_NOT ? unary_finish(unary, &answer->base) : failure;
}

static Sentinel__Admin__V1__TokenState state_of(const struct pki_token *token, wall_us now)
{
    if (token->is_revoked)
        return SENTINEL__ADMIN__V1__TOKEN_STATE__TOKEN_STATE_REVOKED;
    if (token->n_used >= token->n_uses)
        return SENTINEL__ADMIN__V1__TOKEN_STATE__TOKEN_STATE_USED;
    if (now.us >= token->expires.us)
        return SENTINEL__ADMIN__V1__TOKEN_STATE__TOKEN_STATE_EXPIRED;
    return SENTINEL__ADMIN__V1__TOKEN_STATE__TOKEN_STATE_ACTIVE;
}

static void fill_token(struct unary *unary, const void *row, void *message)
{
    const struct pki_token *from = row;
    Sentinel__Admin__V1__Token *to = message;

    sentinel__admin__v1__token__init(to);
    to->token_id = front_borrow(from->id);
    to->created_by = front_borrow(from->made_by);
    to->created = unary_time(unary, from->created);
    to->expires = unary_time(unary, from->expires);
    to->uses = from->n_uses;
    to->uses_left = from->n_used < from->n_uses ? from->n_uses - from->n_used : 0;
    to->id_pattern = front_borrow(from->id_pattern);
    to->address_range = front_borrow(from->addresses);
    to->replaces = from->replaces;
    to->state = state_of(from, unary->now);
}

static const struct front_list token_list = { sizeof(struct pki_token),
                                              sizeof(Sentinel__Admin__V1__Token), fill_token };

enum front_failure svc_admin_list_tokens(struct unary *unary)
{
    Sentinel__Admin__V1__ListTokensResponse *answer = unary_alloc(unary, 1, sizeof(*answer));
    enum front_failure failure = front_needs_pki(unary);
    struct pki_token *tokens = NULL;
    size_t n = 0;

    if (failure != FAIL_NOT)
        return failure;
    if (pki_token_list(unary->front->options.pki, &unary->arena, &tokens, &n) != 0)
        return FAIL_FAULT;
    if (!answer)
        return unary_finish(unary, NULL);
    sentinel__admin__v1__list_tokens_response__init(answer);
    answer->tokens = front_list_of(unary, &token_list, tokens, n, &answer->n_tokens);
    return unary_finish(unary, &answer->base);
}

enum front_failure svc_admin_revoke_token(struct unary *unary)
{
    const Sentinel__Admin__V1__RevokeTokenRequest *request = (const void *) unary->request;
    Sentinel__Admin__V1__RevokeTokenResponse *answer = unary_alloc(unary, 1, sizeof(*answer));
    enum front_failure failure = front_needs_pki_and(unary, answer);
    struct front_act act;
    int r;

    if (failure != FAIL_NOT)
        return failure;
    r = pki_token_revoke(unary->front->options.pki, request->token_id,
                         front_act_of(unary, NULL, &act));
    if (r != PKI_OK)
        return front_failure_of_act(r, "token_id", NULL, &unary->detail);
    sentinel__admin__v1__revoke_token_response__init(answer);
    return unary_finish(unary, &answer->base);
}

/* ---- bearer tokens ---- */

enum front_failure svc_admin_create_bearer(struct unary *unary)
{
    const Sentinel__Admin__V1__CreateBearerRequest *request = (const void *) unary->request;
    Sentinel__Admin__V1__CreateBearerResponse *answer = unary_alloc(unary, 1, sizeof(*answer));
    struct pki_bearer_wish wish = {
        .name = request->name,
        .role = (enum pki_role) request->role,
        .must_sign = request->must_sign,
    };
    CLEANUP(buf_deinit) struct buf text = { 0 };
    struct front_act act;
    struct pki_bearer bearer = { .is_revoked = false };
    struct tls_why why = { "" };
    enum front_failure failure = front_needs_pki(unary);
    int r;

    if (failure == FAIL_NOT)
        failure = read_ttl(unary, request->ttl, &wish.ttl_us);
    if (failure != FAIL_NOT)
        return failure;
    if (!answer)
        return unary_finish(unary, NULL);
    if (wish.role < PKI_ROLE_VIEWER || wish.role > PKI_ROLE_EXPORTER) {
        front_describe(&unary->detail, "role",
                       "IDENTITY_ROLE_VIEWER, _OPERATOR, _ADMIN or _EXPORTER");
        return FAIL_BAD_QUESTION;
    }
    r = pki_bearer_create(unary->front->options.pki, &wish, front_act_of(unary, NULL, &act),
                          &bearer, &why);
    if (r != PKI_OK)
        return front_failure_of_act(r, "name", &why, &unary->detail);
    buf_printf(&text, "%s.", bearer.id);
    identity_base32_print(span_of(bearer.secret, sizeof(bearer.secret)), &text);
    sentinel__admin__v1__create_bearer_response__init(answer);
    answer->bearer_id = front_copy(unary, bearer.id);
    answer->bearer = front_copy(unary, buf_failed(&text) ? "" : buf_text(&text));
    answer->expires = unary_time(unary, bearer.expires);
    if (bearer.must_sign)
        answer->hmac_key = front_hex(unary, bearer.hmac_key, sizeof(bearer.hmac_key));
    crypto_wipe(&bearer, sizeof(bearer));
    return unary_finish(unary, &answer->base);
}

static void fill_bearer(struct unary *unary, const void *row, void *message)
{
    const struct pki_bearer *from = row;
    Sentinel__Admin__V1__Bearer *to = message;

    sentinel__admin__v1__bearer__init(to);
    to->bearer_id = front_borrow(from->id);
    to->name = front_borrow(from->name);
    to->role = (Sentinel__Admin__V1__IdentityRole) from->role;
    to->must_sign = from->must_sign;
    to->revoked = from->is_revoked;
    to->created = unary_time(unary, from->created);
    to->expires = unary_time(unary, from->expires);
    to->last_used = unary_time(unary, from->last_used);
}

static const struct front_list bearer_list = { sizeof(struct pki_bearer),
                                               sizeof(Sentinel__Admin__V1__Bearer), fill_bearer };

enum front_failure svc_admin_list_bearers(struct unary *unary)
{
    Sentinel__Admin__V1__ListBearersResponse *answer = unary_alloc(unary, 1, sizeof(*answer));
    enum front_failure failure = front_needs_pki(unary);
    struct pki_bearer *bearers = NULL;
    size_t n = 0;

    if (failure != FAIL_NOT)
        return failure;
    if (pki_bearer_list(unary->front->options.pki, &unary->arena, &bearers, &n) != 0)
        return FAIL_FAULT;
    if (!answer)
        return unary_finish(unary, NULL);
    sentinel__admin__v1__list_bearers_response__init(answer);
    answer->bearers = front_list_of(unary, &bearer_list, bearers, n, &answer->n_bearers);
    return unary_finish(unary, &answer->base);
}

enum front_failure svc_admin_revoke_bearer(struct unary *unary)
{
    const Sentinel__Admin__V1__RevokeBearerRequest *request = (const void *) unary->request;
    Sentinel__Admin__V1__RevokeBearerResponse *answer = unary_alloc(unary, 1, sizeof(*answer));
    enum front_failure failure = front_needs_pki_and(unary, answer);
    struct front_act act;
    int r;

    if (failure != FAIL_NOT)
        return failure;
    r = pki_bearer_revoke(unary->front->options.pki, request->bearer_id,
                          front_act_of(unary, NULL, &act));
    if (r != PKI_OK)
        return front_failure_of_act(r, "bearer_id", NULL, &unary->detail);
    front_registry_changed(unary->front);
    sentinel__admin__v1__revoke_bearer_response__init(answer);
    return unary_finish(unary, &answer->base);
}

enum front_failure svc_admin_roll_bearer(struct unary *unary)
{
    const Sentinel__Admin__V1__RollBearerRequest *request = (const void *) unary->request;
    Sentinel__Admin__V1__RollBearerResponse *answer = unary_alloc(unary, 1, sizeof(*answer));
    enum front_failure failure = front_needs_pki_and(unary, answer);
    struct pki_bearer bearer = { .is_revoked = false };
    struct tls_why why = { "" };
    struct front_act act;
    int r;

    if (failure != FAIL_NOT)
        return failure;
    r = pki_bearer_roll(unary->front->options.pki, request->bearer_id,
                        front_act_of(unary, NULL, &act), &bearer, &why);
    if (r != PKI_OK)
        return front_failure_of_act(r, "bearer_id", &why, &unary->detail);
    sentinel__admin__v1__roll_bearer_response__init(answer);
    answer->hmac_key = front_hex(unary, bearer.hmac_key, sizeof(bearer.hmac_key));
    crypto_wipe(&bearer, sizeof(bearer));
    return unary_finish(unary, &answer->base);
}
