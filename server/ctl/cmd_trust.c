/* SPDX-License-Identifier: Apache-2.0 */
/* sentinelctl certs trust, trusted, untrust: foreign CAs and their rules. */
#include <string.h>

#include "common/base/clock.h"
#include "common/base/file.h"
#include "server/ctl/admin.h"

#define PEM_LIMIT_BYTES ((size_t) 256 * 1024)

static int read_rule(struct ctl *ctl, Sentinel__Admin__V1__ForeignCa *rule)
{
    int role = 0, kind = 0;
    int r = ctl->admin.role
                ? admin_value(ctl, "--role", &sentinel__admin__v1__identity_role__descriptor,
                              ctl->admin.role, &role)
                : ctl_say(CTL_USAGE, "--role is missing: agent, viewer, operator, admin or "
                                     "exporter, of who comes with such a certificate");

    if (!r)
        r = admin_value(ctl, "--kind", &sentinel__admin__v1__identity_kind__descriptor,
                        ctl->admin.kind, &kind);
    if (r)
        return r;
    if (kind == 0)
        kind = role == SENTINEL__ADMIN__V1__IDENTITY_ROLE__IDENTITY_ROLE_AGENT
                   ? SENTINEL__ADMIN__V1__IDENTITY_KIND__IDENTITY_KIND_AGENT
                   : SENTINEL__ADMIN__V1__IDENTITY_KIND__IDENTITY_KIND_OPERATOR;
    rule->name = admin_copy(ctl, ctl->words[0]);
    rule->common_name_pattern = admin_copy(ctl, ctl->admin.cn);
    rule->organisation_pattern = admin_copy(ctl, ctl->admin.o);
    rule->organisation_unit_pattern = admin_copy(ctl, ctl->admin.ou);
    rule->role = (Sentinel__Admin__V1__IdentityRole) role;
    rule->kind = (Sentinel__Admin__V1__IdentityKind) kind;
    rule->may_register = ctl->admin.may_register;
    return CTL_OK;
}

int cmd_certs_trust(struct ctl *ctl)
{
    Sentinel__Admin__V1__AddForeignCaRequest request =
        SENTINEL__ADMIN__V1__ADD_FOREIGN_CA_REQUEST__INIT;
    Sentinel__Admin__V1__ForeignCa rule = SENTINEL__ADMIN__V1__FOREIGN_CA__INIT;
    CLEANUP(buf_deinit) struct buf pem = { 0 };
    ProtobufCMessage *message;
    int r = read_rule(ctl, &rule);

    if (r)
        return r;
    r = file_read(ctl->words[1], PEM_LIMIT_BYTES, &pem);
    if (r)
        return ctl_say(r == FILE_ABSENT ? CTL_NOT_FOUND : CTL_FAILED, "cannot read %s",
                       ctl->words[1]);
    request.rule = &rule;
    request.certificate = admin_copy(ctl, buf_text(&pem));
    if (ctl->is_dry_run) {
        printf("would trust %s, by the rule %s\n", ctl->words[1], rule.name);
        return CTL_OK;
    }
    r = admin_confirm(ctl, false, "Trust certificates of %s by the rule %s?", ctl->words[1],
                      ctl->words[0]);
    if (!r)
        r = ctl_call(ctl, ADMIN_PATH("AddForeignCa"), &request.base, &message);
    if (!r)
        printf(ctl->is_json ? "{\"trusted\": true}\n" : "trusted\n");
    return r;
}

static void put_rule(struct listing *to, const Sentinel__Admin__V1__ForeignCa *rule)
{
    struct ctl *ctl = to->ctl;
    const char *role =
        admin_word(ctl, &sentinel__admin__v1__identity_role__descriptor, (int) rule->role);

    json_open_object(&to->json);
    json_put_text(&to->json, "name", rule->name);
    json_put_text(&to->json, "subject", rule->subject);
    json_put_text(&to->json, "sha256", rule->sha256);
    json_put_i64(&to->json, "not_after_us", convert_time_us(rule->not_after));
    json_put_text(&to->json, "common_name_pattern", rule->common_name_pattern);
    json_put_text(&to->json, "organisation_pattern", rule->organisation_pattern);
    json_put_text(&to->json, "organisation_unit_pattern", rule->organisation_unit_pattern);
    json_put_text(
        &to->json, "kind",
        admin_word(ctl, &sentinel__admin__v1__identity_kind__descriptor, (int) rule->kind));
    json_put_text(&to->json, "role", role);
    json_put_bool(&to->json, "may_register", rule->may_register);
    json_close_object(&to->json);
    table_add(&to->table, rule->name);
    table_add(&to->table, rule->subject);
    table_printf(&to->table, "CN=%s O=%s OU=%s",
                 *rule->common_name_pattern ? rule->common_name_pattern : "*",
                 *rule->organisation_pattern ? rule->organisation_pattern : "*",
                 *rule->organisation_unit_pattern ? rule->organisation_unit_pattern : "*");
    table_add(&to->table, role);
    table_add(&to->table, rule->may_register ? "by itself" : "by an operator");
    table_add(&to->table, format_ago(ctl, convert_time_us(rule->not_after), clock_wall().us));
}

int cmd_certs_trusted(struct ctl *ctl)
{
    static const char *const headers[] = { "RULE",          "CA",      "LEAVES", "ROLE",
                                           "IS REGISTERED", "EXPIRES", NULL };
    Sentinel__Admin__V1__ListForeignCasRequest request =
        SENTINEL__ADMIN__V1__LIST_FOREIGN_CAS_REQUEST__INIT;
    const Sentinel__Admin__V1__ListForeignCasResponse *answer;
    struct listing list;
    ProtobufCMessage *message;
    int r = ctl_call(ctl, ADMIN_PATH("ListForeignCas"), &request.base, &message);

    if (r)
        return r;
    answer = (const void *) message;
    listing_begin(&list, ctl, "foreign_cas", headers);
    for (size_t i = 0; i < answer->n_foreign_cas; i++)
        put_rule(&list, answer->foreign_cas[i]);
    return listing_end(&list, CTL_OK, "the hub trusts its own CA alone");
}

int cmd_certs_untrust(struct ctl *ctl)
{
    Sentinel__Admin__V1__RemoveForeignCaRequest request =
        SENTINEL__ADMIN__V1__REMOVE_FOREIGN_CA_REQUEST__INIT;
    ProtobufCMessage *message;
    int r;

    request.name = admin_copy(ctl, ctl->words[0]);
    if (ctl->is_dry_run) {
        printf("would remove the rule %s\n", format_printable(ctl, request.name));
        return CTL_OK;
    }
    r = admin_confirm(ctl, false, "Remove the rule %s? Who came by it is thrown out.",
                      ctl->words[0]);
    if (!r)
        r = ctl_call(ctl, ADMIN_PATH("RemoveForeignCa"), &request.base, &message);
    if (!r)
        printf(ctl->is_json ? "{\"removed\": true}\n" : "removed\n");
    return r;
}
