/* SPDX-License-Identifier: Apache-2.0 */
/* sentinelctl tokens create, list, revoke; bearers create, list, revoke, roll. */
#include <string.h>

#include "common/base/clock.h"
#include "server/ctl/admin.h"

#define MAX_USES 100000u
#define REPLACE_IS_GIVEN SENTINEL__ADMIN__V1__CREATE_TOKEN_REQUEST___REPLACE_REPLACE

/* What both kinds have in common: asks, and calls. */
static int
take_back(struct ctl *ctl, const char *what, const char *path, const ProtobufCMessage *request)
{
    ProtobufCMessage *message;
    int r = admin_confirm(ctl, false, "Take the %s %s back?", what, ctl->words[0]);

    if (r)
        return r;
    if (ctl->is_dry_run) {
        printf("would take back the %s %s\n", what, format_printable(ctl, ctl->words[0]));
        return CTL_OK;
    }
    r = ctl_call(ctl, path, request, &message);
    if (!r)
        printf(ctl->is_json ? "{\"revoked\": true}\n" : "revoked\n");
    return r;
}

/* ---- tokens of enrolment ---- */

typedef Sentinel__Admin__V1__CreateTokenRequest create_request;

static int add_labels(struct ctl *ctl, create_request *request)
{
    const size_t n = ctl->labels.n_items;

    request->labels = arena_alloc_array(
        &ctl->arena, n, sizeof(Sentinel__Admin__V1__CreateTokenRequest__LabelsEntry *));
    for (size_t i = 0; request->labels && i < n; i++) {
        Sentinel__Admin__V1__CreateTokenRequest__LabelsEntry *entry =
            arena_alloc(&ctl->arena, sizeof(*entry));
        int r;

        if (!entry)
            return ctl_say(CTL_FAILED, "out of memory");
        sentinel__admin__v1__create_token_request__labels_entry__init(entry);
        r = convert_pair(ctl, "--label", ctl->labels.items[i], &entry->key, &entry->value);
        if (r)
            return r;
        request->labels[request->n_labels++] = entry;
    }
    return request->labels || n == 0 ? CTL_OK : ctl_say(CTL_FAILED, "out of memory");
}

static int read_wish(struct ctl *ctl, create_request *request)
{
    uint64_t uses = 0;
    int r = admin_duration(ctl, "--ttl", ctl->admin.ttl, &request->ttl);

    if (!r && ctl->admin.uses)
        r = admin_number("--uses", ctl->admin.uses, MAX_USES, &uses);
    if (!r)
        r = add_labels(ctl, request);
    if (r)
        return r;
    if (ctl->admin.replaces && ctl->admin.replaces_never)
        return ctl_say(CTL_USAGE, "--replace or --no-replace, not both");
    request->uses = (uint32_t) uses;
    request->id_pattern = admin_copy(ctl, ctl->admin.id);
    request->address_range = admin_copy(ctl, ctl->admin.addresses);
    if (ctl->admin.replaces || ctl->admin.replaces_never)
        request->_replace_case = REPLACE_IS_GIVEN;
    request->replace = ctl->admin.replaces;
    return CTL_OK;
}

int cmd_tokens_create(struct ctl *ctl)
{
    create_request request = SENTINEL__ADMIN__V1__CREATE_TOKEN_REQUEST__INIT;
    const Sentinel__Admin__V1__CreateTokenResponse *answer;
    ProtobufCMessage *message;
    int r = read_wish(ctl, &request);

    if (!r)
        r = ctl_call(ctl, ADMIN_PATH("CreateToken"), &request.base, &message);
    if (r)
        return r;
    answer = (const void *) message;
    if (ctl->is_json) {
        struct object object;

        object_begin(&object);
        json_put_text(&object.json, "enrolment", answer->enrolment);
        json_put_text(&object.json, "token_id", answer->token_id);
        json_put_i64(&object.json, "expires_us", convert_time_us(answer->expires));
        json_put_text(&object.json, "hub", answer->hub);
        json_put_text(&object.json, "pin", answer->pin);
        object_end(&object);
        return CTL_OK;
    }
    printf("%s\n", format_printable(ctl, answer->enrolment));
    fflush(stdout);
    fprintf(stderr,
            "\nShown once, good until %s. On the machine: sentinel-agent enroll, and paste it.\n"
            "Taken back with: sentinelctl tokens revoke %s\n",
            format_time(ctl, convert_time_us(answer->expires)),
            format_printable(ctl, answer->token_id));
    return CTL_OK;
}

static void put_token(struct listing *to, const Sentinel__Admin__V1__Token *token, int64_t now_us)
{
    struct ctl *ctl = to->ctl;
    const char *state =
        admin_word(ctl, &sentinel__admin__v1__token_state__descriptor, (int) token->state);

    json_open_object(&to->json);
    json_put_text(&to->json, "token_id", token->token_id);
    json_put_text(&to->json, "state", state);
    json_put_u64(&to->json, "uses", token->uses);
    json_put_u64(&to->json, "uses_left", token->uses_left);
    json_put_i64(&to->json, "created_us", convert_time_us(token->created));
    json_put_i64(&to->json, "expires_us", convert_time_us(token->expires));
    json_put_text(&to->json, "id_pattern", token->id_pattern);
    json_put_text(&to->json, "address_range", token->address_range);
    json_put_bool(&to->json, "replaces", token->replaces);
    json_put_text(&to->json, "created_by", token->created_by);
    json_close_object(&to->json);
    table_add(&to->table, token->token_id);
    table_add(&to->table, state);
    table_printf(&to->table, "%u of %u", token->uses_left, token->uses);
    table_add(&to->table, format_ago(ctl, convert_time_us(token->expires), now_us));
    table_add(&to->table, *token->id_pattern ? token->id_pattern : "any");
    table_add(&to->table, *token->address_range ? token->address_range : "anywhere");
    table_add(&to->table, token->created_by);
}

int cmd_tokens_list(struct ctl *ctl)
{
    static const char *const headers[] = { "TOKEN", "STATE", ">LEFT",      "EXPIRES",
                                           "ID",    "FROM",  "CREATED BY", NULL };
    Sentinel__Admin__V1__ListTokensRequest request = SENTINEL__ADMIN__V1__LIST_TOKENS_REQUEST__INIT;
    const Sentinel__Admin__V1__ListTokensResponse *answer;
    struct listing list;
    ProtobufCMessage *message;
    int r = ctl_call(ctl, ADMIN_PATH("ListTokens"), &request.base, &message);

    if (r)
        return r;
    answer = (const void *) message;
    listing_begin(&list, ctl, "tokens", headers);
    for (size_t i = 0; i < answer->n_tokens; i++)
        put_token(&list, answer->tokens[i], clock_wall().us);
    return listing_end(&list, CTL_OK, "there is no token; sentinelctl tokens create makes one");
}

int cmd_tokens_revoke(struct ctl *ctl)
{
    Sentinel__Admin__V1__RevokeTokenRequest request =
        SENTINEL__ADMIN__V1__REVOKE_TOKEN_REQUEST__INIT;

    request.token_id = admin_copy(ctl, ctl->words[0]);
    return take_back(ctl, "token", ADMIN_PATH("RevokeToken"), &request.base);
}

/* ---- bearer tokens ---- */

static const ProtobufCEnumDescriptor *const roles = &sentinel__admin__v1__identity_role__descriptor;

int cmd_bearers_create(struct ctl *ctl)
{
    Sentinel__Admin__V1__CreateBearerRequest request =
        SENTINEL__ADMIN__V1__CREATE_BEARER_REQUEST__INIT;
    const Sentinel__Admin__V1__CreateBearerResponse *answer;
    ProtobufCMessage *message;
    int role = 0;
    int r = ctl->admin.role ? admin_value(ctl, "--role", roles, ctl->admin.role, &role)
                            : ctl_say(CTL_USAGE, "--role viewer, operator, admin or exporter is "
                                                 "missing: what may the bearer do?");

    if (!r)
        r = admin_duration(ctl, "--ttl", ctl->admin.ttl, &request.ttl);
    if (r)
        return r;
    request.name = admin_copy(ctl, ctl->words[0]);
    request.role = (Sentinel__Admin__V1__IdentityRole) role;
    request.must_sign = ctl->admin.must_sign;
    r = ctl_call(ctl, ADMIN_PATH("CreateBearer"), &request.base, &message);
    if (r)
        return r;
    answer = (const void *) message;
    if (ctl->is_json) {
        struct object object;

        object_begin(&object);
        json_put_text(&object.json, "bearer", answer->bearer);
        json_put_text(&object.json, "bearer_id", answer->bearer_id);
        json_put_text(&object.json, "hmac_key", answer->hmac_key);
        json_put_i64(&object.json, "expires_us", convert_time_us(answer->expires));
        object_end(&object);
        return CTL_OK;
    }
    printf("authorization: Bearer %s\n", format_printable(ctl, answer->bearer));
    if (*answer->hmac_key)
        printf("hmac key: %s\n", format_printable(ctl, answer->hmac_key));
    fflush(stdout);
    fprintf(stderr, "\nShown once, good until %s. Taken back with: sentinelctl bearers revoke %s\n",
            format_time(ctl, convert_time_us(answer->expires)),
            format_printable(ctl, answer->bearer_id));
    return CTL_OK;
}

static const char *bearer_state(const Sentinel__Admin__V1__Bearer *bearer, int64_t now_us)
{
    if (bearer->revoked)
        return "revoked";
    return convert_time_us(bearer->expires) <= now_us ? "expired" : "active";
}

static void
put_bearer(struct listing *to, const Sentinel__Admin__V1__Bearer *bearer, int64_t now_us)
{
    struct ctl *ctl = to->ctl;
    const char *role = admin_word(ctl, roles, (int) bearer->role);

    json_open_object(&to->json);
    json_put_text(&to->json, "bearer_id", bearer->bearer_id);
    json_put_text(&to->json, "name", bearer->name);
    json_put_text(&to->json, "role", role);
    json_put_text(&to->json, "state", bearer_state(bearer, now_us));
    json_put_bool(&to->json, "must_sign", bearer->must_sign);
    json_put_i64(&to->json, "created_us", convert_time_us(bearer->created));
    json_put_i64(&to->json, "expires_us", convert_time_us(bearer->expires));
    json_put_i64(&to->json, "last_used_us", convert_time_us(bearer->last_used));
    json_close_object(&to->json);
    table_add(&to->table, bearer->bearer_id);
    table_add(&to->table, bearer->name);
    table_add(&to->table, role);
    table_add(&to->table, bearer_state(bearer, now_us));
    table_add(&to->table, bearer->must_sign ? "signed" : "plain");
    table_add(&to->table, format_ago(ctl, convert_time_us(bearer->expires), now_us));
    table_add(&to->table, format_ago(ctl, convert_time_us(bearer->last_used), now_us));
}

int cmd_bearers_list(struct ctl *ctl)
{
    static const char *const headers[] = { "ID",    "NAME",    "ROLE",      "STATE",
                                           "CALLS", "EXPIRES", "LAST USED", NULL };
    Sentinel__Admin__V1__ListBearersRequest request =
        SENTINEL__ADMIN__V1__LIST_BEARERS_REQUEST__INIT;
    const Sentinel__Admin__V1__ListBearersResponse *answer;
    struct listing list;
    ProtobufCMessage *message;
    int r = ctl_call(ctl, ADMIN_PATH("ListBearers"), &request.base, &message);

    if (r)
        return r;
    answer = (const void *) message;
    listing_begin(&list, ctl, "bearers", headers);
    for (size_t i = 0; i < answer->n_bearers; i++)
        put_bearer(&list, answer->bearers[i], clock_wall().us);
    return listing_end(&list, CTL_OK, "there is no bearer token");
}

int cmd_bearers_revoke(struct ctl *ctl)
{
    Sentinel__Admin__V1__RevokeBearerRequest request =
        SENTINEL__ADMIN__V1__REVOKE_BEARER_REQUEST__INIT;

    request.bearer_id = admin_copy(ctl, ctl->words[0]);
    return take_back(ctl, "bearer token", ADMIN_PATH("RevokeBearer"), &request.base);
}

int cmd_bearers_roll(struct ctl *ctl)
{
    Sentinel__Admin__V1__RollBearerRequest request = SENTINEL__ADMIN__V1__ROLL_BEARER_REQUEST__INIT;
    const Sentinel__Admin__V1__RollBearerResponse *answer;
    ProtobufCMessage *message;
    struct object object;
    int r;

    request.bearer_id = admin_copy(ctl, ctl->words[0]);
    if (ctl->is_dry_run) {
        printf("would make another signing key for %s\n", format_printable(ctl, request.bearer_id));
        return CTL_OK;
    }
    r = ctl_call(ctl, ADMIN_PATH("RollBearer"), &request.base, &message);
    if (r)
        return r;
    answer = (const void *) message;
    if (ctl->is_json) {
        object_begin(&object);
        json_put_text(&object.json, "hmac_key", answer->hmac_key);
        object_end(&object);
    } else {
        printf("hmac key: %s\n", format_printable(ctl, answer->hmac_key));
        fprintf(stderr, "Shown once; the key before counts for 7 days more.\n");
    }
    return CTL_OK;
}
