/* SPDX-License-Identifier: Apache-2.0 */
/* sentinelctl certs list, revoke, renew, rotate-ca. */
#include <string.h>

#include "common/base/clock.h"
#include "common/tls/tls.h"
#include "server/ctl/admin.h"

#define PAGE 1000

/* ---- list ---- */

typedef Sentinel__Admin__V1__Certificate certificate;

static void put_certificate(struct listing *to, const certificate *from, int64_t now_us)
{
    struct ctl *ctl = to->ctl;
    const char *kind =
        admin_word(ctl, &sentinel__admin__v1__identity_kind__descriptor, (int) from->kind);
    const char *role =
        admin_word(ctl, &sentinel__admin__v1__identity_role__descriptor, (int) from->role);
    const char *state =
        admin_word(ctl, &sentinel__admin__v1__certificate_state__descriptor, (int) from->state);

    json_open_object(&to->json);
    json_put_text(&to->json, "sha256", from->sha256);
    json_put_text(&to->json, "serial", from->serial);
    json_put_text(&to->json, "kind", kind);
    json_put_text(&to->json, "name", from->name);
    json_put_text(&to->json, "role", role);
    json_put_text(&to->json, "state", state);
    json_put_text(&to->json, "issuer", from->issuer);
    json_put_i64(&to->json, "not_before_us", convert_time_us(from->not_before));
    json_put_i64(&to->json, "not_after_us", convert_time_us(from->not_after));
    json_put_i64(&to->json, "registered_us", convert_time_us(from->registered));
    json_put_i64(&to->json, "presented_us", convert_time_us(from->presented));
    json_put_i64(&to->json, "revoked_us", convert_time_us(from->revoked));
    json_put_text(&to->json, "reason", from->reason);
    json_put_text(&to->json, "lineage", from->lineage);
    json_put_text(&to->json, "parent_sha256", from->parent_sha256);
    json_put_text(&to->json, "key_sha256", from->key_sha256);
    json_close_object(&to->json);
    table_printf(&to->table, "%.16s", from->sha256);
    table_add(&to->table, from->name);
    table_add(&to->table, role);
    table_add(&to->table, state);
    table_add(&to->table, format_ago(ctl, convert_time_us(from->not_after), now_us));
    table_add(&to->table, format_ago(ctl, convert_time_us(from->presented), now_us));
    table_add(&to->table, from->reason);
}

static int read_filters(struct ctl *ctl, Sentinel__Admin__V1__ListCertificatesRequest *request)
{
    int state = 0, kind = 0;
    int r = admin_value(ctl, "--state", &sentinel__admin__v1__certificate_state__descriptor,
                        ctl->admin.state, &state);

    if (!r)
        r = admin_value(ctl, "--kind", &sentinel__admin__v1__identity_kind__descriptor,
                        ctl->admin.kind, &kind);
    request->state = (Sentinel__Admin__V1__CertificateState) state;
    request->kind = (Sentinel__Admin__V1__IdentityKind) kind;
    request->page_size = PAGE;
    if (ctl->n_words > 0)
        request->name_pattern = admin_copy(ctl, ctl->words[0]);
    return r;
}

int cmd_certs_list(struct ctl *ctl)
{
    static const char *const headers[] = { "SHA256",  "NAME",      "ROLE",   "STATE",
                                           "EXPIRES", "PRESENTED", "REASON", NULL };
    Sentinel__Admin__V1__ListCertificatesRequest request =
        SENTINEL__ADMIN__V1__LIST_CERTIFICATES_REQUEST__INIT;
    struct listing list;
    int r = read_filters(ctl, &request);

    if (r)
        return r;
    listing_begin(&list, ctl, "certificates", headers);
    do {
        const Sentinel__Admin__V1__ListCertificatesResponse *answer;
        ProtobufCMessage *message;

        r = ctl_call(ctl, ADMIN_PATH("ListCertificates"), &request.base, &message);
        if (r)
            break;
        answer = (const void *) message;
        for (size_t i = 0; i < answer->n_certificates; i++)
            put_certificate(&list, answer->certificates[i], clock_wall().us);
        request.page_token = answer->next_page_token;
    } while (*request.page_token);
    return listing_end(&list, r, "no certificate fits");
}

/* ---- revoke ---- */

int cmd_certs_revoke(struct ctl *ctl)
{
    Sentinel__Admin__V1__RevokeCertificateRequest request =
        SENTINEL__ADMIN__V1__REVOKE_CERTIFICATE_REQUEST__INIT;
    const Sentinel__Admin__V1__RevokeCertificateResponse *answer;
    ProtobufCMessage *message;
    int r;

    request.sha256 = admin_copy(ctl, ctl->words[0]);
    request.reason = admin_copy(ctl, ctl->admin.reason);
    if (ctl->is_dry_run) {
        printf("would revoke the certificate %s\n", format_printable(ctl, request.sha256));
        return CTL_OK;
    }
    r = admin_confirm(ctl, false, "Revoke the certificate %s?", ctl->words[0]);
    if (!r)
        r = ctl_call(ctl, ADMIN_PATH("RevokeCertificate"), &request.base, &message);
    if (r)
        return r;
    answer = (const void *) message;
    if (ctl->is_json)
        printf("{\"generation\": %llu}\n", (unsigned long long) answer->generation);
    else
        printf("revoked\n");
    return CTL_OK;
}

/* ---- renew: over the channel of the identity that is renewed ---- */

int cmd_certs_renew(struct ctl *ctl)
{
    Sentinel__Admin__V1__RenewOwnCertificateRequest request =
        SENTINEL__ADMIN__V1__RENEW_OWN_CERTIFICATE_REQUEST__INIT;
    const Sentinel__Admin__V1__RenewOwnCertificateResponse *answer;
    CLEANUP(tls_key_freep) struct tls_key *key = NULL;
    const char *directory = ctl_identity_directory(ctl);
    ProtobufCMessage *message;
    int r = directory ? CTL_OK : ctl_say(CTL_FAILED, "out of memory");

    if (!r && ctl->is_insecure)
        r = ctl_say(CTL_USAGE, "--insecure has no certificate to renew");
    if (!r)
        r = admin_make_key(ctl, "renewed", &key, &request.csr);
    if (!r)
        r = ctl_call(ctl, ADMIN_PATH("RenewOwnCertificate"), &request.base, &message);
    if (r)
        return r;
    answer = (const void *) message;
    r = admin_save_identity(directory, key,
                            &(struct admin_granted){ .chain = answer->chain,
                                                     .n_chain = answer->n_chain,
                                                     .roots = answer->roots,
                                                     .n_roots = answer->n_roots });
    if (r)
        return r;
    if (ctl->is_json) {
        struct object object;

        object_begin(&object);
        json_put_text(&object.json, "name", answer->name);
        json_put_text(&object.json, "identity", directory);
        object_end(&object);
    } else {
        printf("%s has a new key and certificate in %s\n", format_printable(ctl, answer->name),
               directory);
    }
    return CTL_OK;
}

/* ---- rotate-ca ---- */

static const char *next_step(Sentinel__Admin__V1__CaPhase phase)
{
    switch (phase) {
    case SENTINEL__ADMIN__V1__CA_PHASE__CA_PHASE_STEADY:
        return "prepare (makes a new root and announces it)";
    case SENTINEL__ADMIN__V1__CA_PHASE__CA_PHASE_PREPARED:
        return "issue, once the agents are ready";
    case SENTINEL__ADMIN__V1__CA_PHASE__CA_PHASE_ISSUING:
        return "serve (the hub's own certificate)";
    case SENTINEL__ADMIN__V1__CA_PHASE__CA_PHASE_SERVING:
        return "retire (the old root counts no more)";
    case SENTINEL__ADMIN__V1__CA_PHASE__CA_PHASE_UNSPECIFIED:
    default:
        return "";
    }
}

static int put_ca(struct ctl *ctl, const Sentinel__Admin__V1__CaStatus *status)
{
    const char *phase;
    struct object object;
    struct table table;
    int64_t now_us = clock_wall().us;

    if (!status)
        return ctl_say(CTL_FAILED, "the hub's answer has no status in it");
    phase = admin_word(ctl, &sentinel__admin__v1__ca_phase__descriptor, (int) status->phase);
    if (ctl->is_json) {
        object_begin(&object);
        json_put_text(&object.json, "phase", phase);
        json_put_i64(&object.json, "since_us", convert_time_us(status->since));
        json_put_u64(&object.json, "agents_ready", status->agents_ready);
        json_put_u64(&object.json, "agents_total", status->agents_total);
        json_put_i64(&object.json, "root_expires_us", convert_time_us(status->root_expires));
        json_put_i64(&object.json, "agents_ca_expires_us",
                     convert_time_us(status->agents_ca_expires));
        json_put_i64(&object.json, "hubs_ca_expires_us", convert_time_us(status->hubs_ca_expires));
        json_put_bool(&object.json, "sealed", status->sealed);
        json_put_bool(&object.json, "root_offline", status->root_offline);
        json_put_text(&object.json, "pin", status->pin);
        json_put_text(&object.json, "next_pin", status->next_pin);
        object_end(&object);
        return CTL_OK;
    }
    table_begin(&table, (const char *const[]){ "authority", phase, NULL });
#define FACT(name, ...) (table_add(&table, name), table_printf(&table, __VA_ARGS__))
    FACT("since", "%s", format_ago(ctl, convert_time_us(status->since), now_us));
    FACT("agents", "%u of %u trust the next root", status->agents_ready, status->agents_total);
    FACT("root", "expires %s", format_ago(ctl, convert_time_us(status->root_expires), now_us));
    FACT("agents' CA", "expires %s",
         format_ago(ctl, convert_time_us(status->agents_ca_expires), now_us));
    FACT("hubs' CA", "expires %s",
         format_ago(ctl, convert_time_us(status->hubs_ca_expires), now_us));
    FACT("keys", "%s%s", status->sealed ? "sealed" : "in the clear",
         status->root_offline ? ", the root's is away" : "");
    FACT("pin", "%s", status->pin);
    if (*status->next_pin)
        FACT("next pin", "%s", status->next_pin);
    FACT("next step", "%s", next_step(status->phase));
#undef FACT
    table_end(&table, stdout);
    return CTL_OK;
}

int cmd_certs_rotate_ca(struct ctl *ctl)
{
    Sentinel__Admin__V1__GetCaStatusRequest ask = SENTINEL__ADMIN__V1__GET_CA_STATUS_REQUEST__INIT;
    Sentinel__Admin__V1__RotateCaRequest request = SENTINEL__ADMIN__V1__ROTATE_CA_REQUEST__INIT;
    ProtobufCMessage *message;
    int r;

    if (ctl->n_words == 0 || ctl->is_dry_run) {
        r = ctl_call(ctl, ADMIN_PATH("GetCaStatus"), &ask.base, &message);
        if (r)
            return r;
        return put_ca(ctl, ((const Sentinel__Admin__V1__GetCaStatusResponse *) message)->status);
    }
    request.step = admin_copy(ctl, ctl->words[0]);
    request.force = ctl->is_forced;
    r = admin_confirm(ctl, false, "The step `%s` of a new CA%s?", ctl->words[0],
                      ctl->is_forced ? ", leaving out agents that are not ready" : "");
    if (!r)
        r = ctl_call(ctl, ADMIN_PATH("RotateCa"), &request.base, &message);
    if (r)
        return r;
    return put_ca(ctl, ((const Sentinel__Admin__V1__RotateCaResponse *) message)->status);
}
