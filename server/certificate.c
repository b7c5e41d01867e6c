/* SPDX-License-Identifier: Apache-2.0 */
#include "server/certificate.h"

#include <errno.h>
#include <stdio.h>

#include "common/base/fault.h"
#include "common/base/file.h"
#include "common/base/text.h"
#include "common/log/log.h"

#define HOUR_US (INT64_C(3600) * 1000000)
#define PEM_LIMIT_BYTES (1U << 20)

/* What clients may hang on. Outcomes: PKI_BAD. */
static int read_roots(const struct certificate *certificate,
                      const char *path,
                      struct buf *ret,
                      struct tls_why *ret_why)
{
    buf_clear(ret);
    if (!path[0])
        return pass(pki_client_roots(certificate->pki, ret));
    int r = file_read(path, PEM_LIMIT_BYTES, ret);
    if (r == 0) {
        buf_append_text(ret, "\n");
        return pass(pki_foreign_roots(certificate->pki, ret));
    }
    if (r <= 0)
        return pass(r);
    snprintf(ret_why->text, sizeof(ret_why->text), "tls.client_ca: cannot read %.300s", path);
    return PKI_BAD;
}

/* Agents that are enrolled here verify the hub by this authority's root. Outcomes: PKI_BAD. */
static int check_trusted(const struct certificate *certificate,
                         const struct settings *settings,
                         const struct tls_identity *material,
                         struct tls_why *ret_why)
{
    CLEANUP(buf_deinit) struct buf roots = { 0 };
    struct pki_ca_status status;
    struct tls_why why = { "" };

    if (settings->tls_agents_trust_certificate)
        return 0;
    int r = pki_ca_get_status(certificate->pki, &status);
    if (r != 0 || status.n_agents == 0)
        return pass(r);
    r = pki_client_roots(certificate->pki, &roots);
    if (r != 0)
        return pass(r);
    r = tls_chain_verify(buf_span(&material->chain_pem), buf_span(&roots), TLS_SERVER, NULL,
                         clock_wall(), &why);
    if (r <= 0)
        return pass(r);
    snprintf(ret_why->text, sizeof(ret_why->text),
             "tls.certificate: %u agents of the registry would refuse it: %.160s; take one of this "
             "hub's authority, or say tls.agents_trust_certificate: true where they trust its CA",
             (unsigned) status.n_agents, why.text);
    return PKI_BAD;
}

/*
 * What the listener shall have: the authority's files, or those that settings name.
 * Outcomes: PKI_ABSENT, PKI_BAD.
 */
static int load_material(const struct certificate *certificate,
                         const struct settings *settings,
                         struct tls_identity *ret,
                         struct tls_why *ret_why)
{
    CLEANUP(buf_deinit) struct buf roots = { 0 };
    CLEANUP(tls_identity_deinit) struct tls_identity material = { 0 };
    int r;

    if (settings->tls_certificate[0]) {
        buf_printf(&roots, "%s/certs/ca-cert.pem", certificate->state);
        const char *client_ca =
            settings->tls_client_ca[0] ? settings->tls_client_ca : buf_text(&roots);
        if (buf_failed(&roots))
            return fault(-ENOMEM, "no memory for a path");
        r = tls_identity_load_files(client_ca, settings->tls_certificate, settings->tls_key,
                                    &material, ret_why);
        r = r > 0 ? PKI_BAD : r;
        if (r == 0)
            r = check_trusted(certificate, settings, &material, ret_why);
    } else {
        r = pki_load_server(certificate->state, &material, ret_why);
    }
    if (r == 0)
        r = read_roots(certificate, settings->tls_client_ca, &material.roots_pem, ret_why);
    if (r != 0)
        return pass(r);
    *ret = material;
    material = (struct tls_identity){ .roots_pem = { 0 } };
    return 0;
}

static int refuse_material(struct tls_why *ret_why)
{
    snprintf(ret_why->text, sizeof(ret_why->text),
             "gRPC does not take the certificate, its key or the CA file");
    return PKI_BAD;
}

/* Outcomes: PKI_BAD. */
static int make_context(const struct tls_identity *material,
                        const struct settings *settings,
                        struct tls_context **ret,
                        struct tls_why *ret_why)
{
    const struct tls_context_options options = {
        .is_server = true,
        .min_version =
            settings->tls_min_version == SETTINGS_TLS_1_3 ? TLS_VERSION_1_3 : TLS_VERSION_1_2,
        .roots_pem = buf_span(&material->roots_pem),
        .chain_pem = buf_span(&material->chain_pem),
        .key_pem = buf_span(&material->key_pem),
    };
    int r = tls_context_new(ret, &options, ret_why);

    return r > 0 ? PKI_BAD : pass(r);
}

static void take_context(struct certificate *certificate, struct tls_context *take_context)
{
    tls_context_unref(certificate->context);
    certificate->context = take_context;
}

/* The dates of what is shown, for status and warnings. Outcomes: PKI_BAD. */
static int
note(struct certificate *certificate, const struct tls_identity *material, struct tls_why *ret_why)
{
    CLEANUP(tls_cert_freep) struct tls_cert *cert = NULL;
    struct tls_facts facts;
    char expires[TEXT_TIME_BYTES];

    int r = tls_cert_parse_pem(&cert, buf_span(&material->chain_pem));
    if (r > 0) {
        snprintf(ret_why->text, sizeof(ret_why->text), "the hub's certificate cannot be read");
        return PKI_BAD;
    }
    if (r == 0)
        r = tls_cert_read(cert, &facts);
    if (r != 0)
        return fold(r);
    certificate->begin = facts.not_before;
    certificate->end = facts.not_after;
    certificate->is_behind = false;
    certificate->warned.us = 0;
    log_event(LOG_INFO, "certificate_loaded", LOG_S("subject", facts.common_name),
              LOG_S("issuer", facts.issuer), LOG_S("serial", facts.serial),
              LOG_S("expires", text_of_time(facts.not_after, expires)));
    return 0;
}

/* Only our own default files are ours to renew. */
static int renew(struct certificate *certificate,
                 const struct settings *settings,
                 wall_us now,
                 struct tls_why *ret_why)
{
    bool is_renewed = false;

    if (settings->tls_certificate[0])
        return 0;
    int r = pki_renew_server(certificate->pki, now, &is_renewed, ret_why);
    if (r == 0 && is_renewed) {
        certificate->is_behind = true;
        log_event(LOG_INFO, "certificate_renewed", LOG_S("path", "certs/server-cert.pem"));
    }
    return pass(r);
}

static void say_renewal_failed(int r, const struct tls_why *why)
{
    log_event(LOG_ERROR, "certificate_renewal_failed",
              LOG_S("reason", r > 0 ? why->text : "see the fault above"));
}

int certificate_start(struct certificate *certificate,
                      const struct settings *settings,
                      struct tls_why *ret_why)
{
    CLEANUP(tls_identity_deinit) struct tls_identity material = { 0 };
    CLEANUP(tls_context_unrefp) struct tls_context *context = NULL;
    struct tls_why why = { "" };

    int r = renew(certificate, settings, clock_wall(), &why);
    if (r != 0) {
        say_renewal_failed(r, &why);
        certificate->tried = clock_mono();
    }
    r = load_material(certificate, settings, &material, ret_why);
    if (r != 0)
        return pass(r);
    const struct rpc_credentials_options options = {
        .is_server = true,
        .min_version = settings->tls_min_version == SETTINGS_TLS_1_3 ? RPC_TLS_1_3 : RPC_TLS_1_2,
        .roots_pem = buf_span(&material.roots_pem),
        .chain_pem = buf_span(&material.chain_pem),
        .key_pem = buf_span(&material.key_pem),
    };
    r = make_context(&material, settings, &context, ret_why);
    if (r != 0)
        return pass(r);
    r = rpc_credentials_new(&certificate->credentials, &options);
    if (r == RPC_BAD_MATERIAL)
        return refuse_material(ret_why);
    if (r != 0)
        return fold(r);
    take_context(certificate, take(context));
    return pass(note(certificate, &material, ret_why));
}

int certificate_replace(struct certificate *certificate,
                        const struct settings *settings,
                        struct tls_why *ret_why)
{
    CLEANUP(tls_identity_deinit) struct tls_identity material = { 0 };
    CLEANUP(tls_context_unrefp) struct tls_context *context = NULL;

    int r = load_material(certificate, settings, &material, ret_why);
    if (r == 0)
        r = make_context(&material, settings, &context, ret_why);
    if (r != 0)
        return pass(r);
    r = rpc_credentials_replace(certificate->credentials, buf_span(&material.roots_pem),
                                buf_span(&material.chain_pem), buf_span(&material.key_pem));
    if (r == RPC_BAD_MATERIAL)
        return refuse_material(ret_why);
    if (r != 0)
        return fold(r);
    take_context(certificate, take(context));
    return pass(note(certificate, &material, ret_why));
}

bool certificate_look_after(struct certificate *certificate,
                            const struct settings *settings,
                            wall_us now,
                            mono_us mono)
{
    bool is_replaced = false;
    struct tls_why why = { "" };
    int r = 0;

    if (certificate->tried.us == 0 || mono.us - certificate->tried.us >= HOUR_US) {
        r = renew(certificate, settings, now, &why);
        certificate->tried.us = r != 0 ? mono.us : 0;
    }
    if (r != 0) {
        say_renewal_failed(r, &why);
    } else if (certificate->is_behind) {
        r = certificate_replace(certificate, settings, &why);
        if (r != 0)
            say_renewal_failed(r, &why);
        is_replaced = r == 0;
    }
    bool is_due = certificate->warned.us == 0 || mono.us - certificate->warned.us >= HOUR_US;
    if (is_due && pki_is_near_its_end(certificate->begin, certificate->end, now)) {
        char expires[TEXT_TIME_BYTES];
        log_event(LOG_WARN, "certificate_expires_soon",
                  LOG_S("expires", text_of_time(certificate->end, expires)),
                  LOG_S("remedy", "put a new certificate in place, then send SIGHUP"));
        certificate->warned = mono;
    }
    return is_replaced;
}

void certificate_follow(struct certificate *certificate)
{
    certificate->is_behind = true;
    certificate->tried.us = 0;
}

void certificate_deinit(struct certificate *certificate)
{
    certificate->credentials = rpc_credentials_free(certificate->credentials);
    certificate->context = tls_context_unref(certificate->context);
}
