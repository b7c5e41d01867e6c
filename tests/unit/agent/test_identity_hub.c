/* SPDX-License-Identifier: Apache-2.0 */
#include "test_identity_hub.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/crypto/crypto.h"
#include "common/wire/wire.h"
#include "sentinel/enrollment/v1/enrollment.pb-c.h"

#define PATH(method) "/sentinel.enrollment.v1.EnrollmentService/" method
#define DAY_US INT64_C(86400000000)
#define BACK_DATED_US INT64_C(300000000)

/* ---- certificates ---- */

static struct tls_cert *issue(const char *name,
                              enum tls_profile profile,
                              const struct tls_key *key,
                              const struct tls_cert *issuer,
                              const struct tls_key *issuer_key,
                              wall_us from,
                              int64_t life_us)
{
    static const char *const names[] = { "localhost", "127.0.0.1", NULL };
    struct tls_cert *cert;
    struct tls_request request = {
        .profile = profile,
        .common_name = name,
        .names = profile == TLS_SERVER ? names : NULL,
        .not_before = { from.us - BACK_DATED_US },
        .not_after = { from.us + life_us },
    };

    ck_assert_int_eq(tls_cert_issue(&cert, &request, key, issuer, issuer_key), 0);
    return cert;
}

static void note_key(struct ca *ca, const struct tls_cert *cert)
{
    struct tls_facts facts;

    ck_assert_int_eq(tls_cert_read(cert, &facts), 0);
    if (memcmp(ca->key_sha256, facts.key_sha256, 32) == 0)
        ca->n_same_key++;
    memcpy(ca->key_sha256, facts.key_sha256, 32);
    memcpy(ca->leaf_sha256, facts.sha256, 32);
}

/* As the mood has it. */
static struct tls_cert *issue_leaf(struct ca *ca, struct span csr, enum ca_mood mood)
{
    CLEANUP(tls_key_freep) struct tls_key *key = NULL;
    struct tls_cert *cert;
    wall_us from = { clock_wall().us - ca->age_us };
    bool is_strange = mood == CA_OTHER_ROOT;

    ck_assert_int_eq(tls_csr_parse(&key, csr), 0);
    if (mood == CA_EXPIRED)
        from.us -= ca->life_us + DAY_US;
    if (mood == CA_OTHER_KEY) {
        key = tls_key_free(key);
        ck_assert_int_eq(tls_key_new(&key), 0);
    }
    cert = issue(mood == CA_OTHER_NAME ? "web-2" : "web-1",
                 mood == CA_AUTHORITY ? TLS_INTERMEDIATE : TLS_CLIENT, key,
                 is_strange ? ca->stranger : ca->root, is_strange ? ca->stranger_key : ca->key,
                 from, ca->life_us);
    note_key(ca, cert);
    return cert;
}

/* ---- answers ---- */

static void finish(struct rpc_call *call, int code, const char *reason)
{
    struct wire_error error = { .code = code, .message = "told by the test", .reason = reason };
    CLEANUP(buf_deinit) struct buf details = { 0 };

    ck_assert_int_eq(wire_error_pack(&error, &details), 0);
    rpc_call_finish(call, &(struct rpc_status){ .code = code,
                                                .message = error.message,
                                                .details = buf_span(&details) });
}

static void respond(struct rpc_call *call, const ProtobufCMessage *message)
{
    CLEANUP(buf_deinit) struct buf bytes = { 0 };

    ck_assert_int_eq(wire_pack(message, &bytes), 0);
    (void) !rpc_call_send(call, buf_span(&bytes));
}

static ProtobufCBinaryData der_of(const struct tls_cert *cert, struct buf *storage)
{
    ck_assert_int_eq(tls_cert_print_der(cert, storage), 0);
    return (ProtobufCBinaryData){ .len = storage->len, .data = storage->data };
}

static enum ca_mood take_mood(struct ca *ca)
{
    enum ca_mood mood = ca->mood;

    if (ca->n_moody && --ca->n_moody == 0)
        ca->mood = CA_FINE;
    return mood;
}

struct parts {
    struct buf leaf, root, next_root;
    ProtobufCBinaryData chain[1], roots[2];
    size_t n_chain, n_roots;
};

static void parts_deinit(struct parts *parts)
{
    buf_deinit(&parts->leaf);
    buf_deinit(&parts->root);
    buf_deinit(&parts->next_root);
}

/* False: the call is finished with a refusal. */
static bool grant(struct ca *ca, struct rpc_call *call, struct span csr, struct parts *parts)
{
    CLEANUP(tls_cert_freep) struct tls_cert *leaf = NULL;
    enum ca_mood mood;
    const char *reason;

    pthread_mutex_lock(&ca->lock);
    mood = take_mood(ca);
    reason = ca->reason;
    if (mood != CA_REFUSES)
        leaf = issue_leaf(ca, csr, mood);
    parts->n_chain = mood == CA_MUTE ? 0 : 1;
    parts->n_roots = ca->has_next_root ? 2 : 1;
    pthread_mutex_unlock(&ca->lock);
    if (mood == CA_REFUSES || mood == CA_LOSES) {
        finish(call, mood == CA_LOSES ? RPC_UNAVAILABLE : RPC_PERMISSION_DENIED,
               mood == CA_LOSES ? NULL : reason);
        return false;
    }
    parts->chain[0] = der_of(leaf, &parts->leaf);
    parts->roots[0] = der_of(ca->root, &parts->root);
    parts->roots[1] = der_of(ca->next_root, &parts->next_root);
    return true;
}

static void on_bundle(struct ca *ca, struct rpc_call *call)
{
    Sentinel__Enrollment__V1__GetTrustBundleResponse response =
        SENTINEL__ENROLLMENT__V1__GET_TRUST_BUNDLE_RESPONSE__INIT;
    CLEANUP(buf_deinit) struct buf storage = { 0 };
    ProtobufCBinaryData root = der_of(ca->root, &storage);

    ca->n_bundles++;
    response.roots = &root;
    response.n_roots = 1;
    respond(call, &response.base);
    rpc_call_finish(call, &(struct rpc_status){ .code = RPC_OK });
}

static void on_enroll(struct ca *ca,
                      struct rpc_call *call,
                      const Sentinel__Enrollment__V1__EnrollRequest *request)
{
    Sentinel__Enrollment__V1__EnrollResponse response =
        SENTINEL__ENROLLMENT__V1__ENROLL_RESPONSE__INIT;
    CLEANUP(parts_deinit) struct parts parts = { .n_chain = 0 };
    char id[] = "web-1";

    ca->n_enrolled++;
    ck_assert_str_eq(request->token_id, ca->enrolment.token_id);
    ck_assert_mem_eq(request->token_secret.data, ca->enrolment.secret, IDENTITY_SECRET_BYTES);
    ck_assert_uint_eq(request->instance.len, 16);
    ck_assert_uint_eq(rpc_call_peer_certificate(call).len, 0);
    if (!grant(ca, call, span_of(request->csr.data, request->csr.len), &parts))
        return;
    response.agent_id = id;
    response.chain = parts.chain;
    response.n_chain = parts.n_chain;
    response.roots = parts.roots;
    response.n_roots = parts.n_roots;
    response.generation = 7;
    respond(call, &response.base);
    rpc_call_finish(call, &(struct rpc_status){ .code = RPC_OK });
}

static void on_renew(struct ca *ca,
                     struct rpc_call *call,
                     const Sentinel__Enrollment__V1__RenewRequest *request)
{
    Sentinel__Enrollment__V1__RenewResponse response =
        SENTINEL__ENROLLMENT__V1__RENEW_RESPONSE__INIT;
    CLEANUP(parts_deinit) struct parts parts = { .n_chain = 0 };

    ca->n_renewed++;
    ck_assert_uint_gt(rpc_call_peer_certificate(call).len, 0);
    if (!grant(ca, call, span_of(request->csr.data, request->csr.len), &parts))
        return;
    response.chain = parts.chain;
    response.n_chain = parts.n_chain;
    response.roots = parts.roots;
    response.n_roots = parts.n_roots;
    respond(call, &response.base);
    rpc_call_finish(call, &(struct rpc_status){ .code = RPC_OK });
}

/* ---- RenewExpired ---- */

static const uint8_t nonce[IDENTITY_NONCE_BYTES] = { 1, 2, 3 };

static bool is_signed(const Sentinel__Enrollment__V1__RenewExpiredRequest *request)
{
    CLEANUP(tls_cert_freep) struct tls_cert *old = NULL;
    CLEANUP(buf_deinit) struct buf bytes = { 0 };

    if (request->n_chain == 0 ||
        tls_cert_parse_der(&old, span_of(request->chain[0].data, request->chain[0].len)))
        return false;
    identity_renewal_signed_bytes(span_of(nonce, sizeof(nonce)),
                                  span_of(request->csr.data, request->csr.len), &bytes);
    return tls_cert_check_signature(old, buf_span(&bytes),
                                    span_of(request->signature.data, request->signature.len)) == 0;
}

static void on_late(struct ca *ca,
                    struct rpc_call *call,
                    const Sentinel__Enrollment__V1__RenewExpiredRequest *request)
{
    Sentinel__Enrollment__V1__RenewExpiredResponse response =
        SENTINEL__ENROLLMENT__V1__RENEW_EXPIRED_RESPONSE__INIT;
    CLEANUP(parts_deinit) struct parts parts = { .n_chain = 0 };

    if (request->signature.len == 0) {
        response.nonce =
            (ProtobufCBinaryData){ .len = sizeof(nonce), .data = (uint8_t *) (uintptr_t) nonce };
        respond(call, &response.base);
        rpc_call_read(call);
        return;
    }
    ca->n_late++;
    ck_assert_uint_eq(rpc_call_peer_certificate(call).len, 0);
    if (!is_signed(request)) {
        ca->n_bad_signatures++;
        finish(call, RPC_PERMISSION_DENIED, "SIGNATURE_INVALID");
        return;
    }
    if (!grant(ca, call, span_of(request->csr.data, request->csr.len), &parts))
        return;
    response.chain = parts.chain;
    response.n_chain = parts.n_chain;
    response.roots = parts.roots;
    response.n_roots = parts.n_roots;
    respond(call, &response.base);
    rpc_call_finish(call, &(struct rpc_status){ .code = RPC_OK });
}

/* ---- calls ---- */

static void on_open(struct rpc_call *call)
{
    rpc_call_read(call);
}

static void on_message(struct rpc_call *call, struct span message)
{
    struct ca *ca = rpc_call_ctx(call);
    const struct wire_method *method = wire_find_method(rpc_call_path(call));
    ProtobufCMessage *request;
    struct arena arena;

    arena_init(&arena, 1u << 20);
    ck_assert_int_eq(wire_unpack(method->request, message, &arena, &request, NULL), 0);
    if (strcmp(method->name, "GetTrustBundle") == 0)
        on_bundle(ca, call);
    else if (strcmp(method->name, "Enroll") == 0)
        on_enroll(ca, call, (const void *) request);
    else if (strcmp(method->name, "Renew") == 0)
        on_renew(ca, call, (const void *) request);
    else
        on_late(ca, call, (const void *) request);
    arena_deinit(&arena);
}

static void on_closed(struct rpc_call *call, bool was_cancelled)
{
    (void) call;
    (void) was_cancelled;
}

static const struct rpc_handler handler = {
    .on_open = on_open,
    .on_message = on_message,
    .on_closed = on_closed,
};

static const struct rpc_handler *route(void *ctx, const char *path, const void **ret_method)
{
    (void) ctx;
    *ret_method = NULL;
    return strncmp(path, PATH(""), strlen(PATH(""))) == 0 ? &handler : NULL;
}

/* ---- life ---- */

static void listen_here(struct ca *ca)
{
    CLEANUP(buf_deinit) struct buf chain = { 0 }, pem = { 0 }, roots = { 0 };
    CLEANUP(tls_key_freep) struct tls_key *key = NULL;
    CLEANUP(tls_cert_freep) struct tls_cert *cert = NULL;

    ck_assert_int_eq(tls_key_new(&key), 0);
    cert = issue("hub", TLS_SERVER, key, ca->root, ca->key, clock_wall(), DAY_US);
    ck_assert_int_eq(tls_cert_print(cert, &chain) | tls_cert_print(ca->root, &roots) |
                         tls_key_print(key, &pem),
                     0);
    ck_assert_int_eq(
        rpc_credentials_new(&ca->credentials,
                            &(struct rpc_credentials_options){ .is_server = true,
                                                               .roots_pem = buf_span(&roots),
                                                               .chain_pem = buf_span(&chain),
                                                               .key_pem = buf_span(&pem) }),
        0);
    ck_assert_int_eq(rpc_server_new(&ca->server,
                                    &(struct rpc_server_options){
                                        .address = "127.0.0.1:0",
                                        .credentials = ca->credentials,
                                        .n_threads = 1,
                                        .max_message_bytes = 1u << 20,
                                        .max_streams_per_connection = 100,
                                        .send_queue_bytes = 1u << 20,
                                        .min_ping_interval_us = 10000000,
                                        .route = route,
                                        .ctx = ca,
                                    }),
                     0);
    ck_assert_int_eq(rpc_server_start(ca->server), 0);
    snprintf(ca->target, sizeof(ca->target), "127.0.0.1:%u",
             (unsigned) rpc_server_port(ca->server));
}

void ca_start(struct ca *ca)
{
    struct tls_facts facts;

    *ca = (struct ca){ .life_us = 7 * DAY_US };
    ck_assert_int_eq(pthread_mutex_init(&ca->lock, NULL), 0);
    ck_assert_int_eq(tls_key_new(&ca->key) | tls_key_new(&ca->stranger_key), 0);
    ca->root = issue("CA", TLS_ROOT, ca->key, NULL, ca->key, clock_wall(), 3650 * DAY_US);
    ca->stranger = issue("CA", TLS_ROOT, ca->stranger_key, NULL, ca->stranger_key, clock_wall(),
                         3650 * DAY_US);
    ca->next_root = issue("CA 2", TLS_ROOT, ca->stranger_key, NULL, ca->stranger_key, clock_wall(),
                          3650 * DAY_US);
    listen_here(ca);
    ck_assert_int_eq(tls_cert_read(ca->root, &facts), 0);
    memcpy(ca->enrolment.pin, facts.key_sha256, sizeof(ca->enrolment.pin));
    memcpy(ca->enrolment.token_id, "ab2cd3ef", 9);
    crypto_random(ca->enrolment.secret, sizeof(ca->enrolment.secret));
    snprintf(ca->enrolment.hub, sizeof(ca->enrolment.hub), "%s", ca->target);
}

void ca_stop(struct ca *ca)
{
    ca->server = rpc_server_free(ca->server);
    ca->credentials = rpc_credentials_free(ca->credentials);
    tls_key_free(ca->key);
    tls_key_free(ca->stranger_key);
    tls_cert_free(ca->root);
    tls_cert_free(ca->stranger);
    tls_cert_free(ca->next_root);
    pthread_mutex_destroy(&ca->lock);
}

void ca_set_mood(struct ca *ca, enum ca_mood mood, const char *reason, unsigned n_moody)
{
    pthread_mutex_lock(&ca->lock);
    ca->mood = mood;
    ca->reason = reason;
    ca->n_moody = n_moody;
    pthread_mutex_unlock(&ca->lock);
}

void ca_issue_into(struct ca *ca, const char *directory, int64_t age_us, int64_t life_us)
{
    CLEANUP(tls_key_freep) struct tls_key *key = NULL;
    CLEANUP(tls_cert_freep) struct tls_cert *cert = NULL;
    CLEANUP(tls_identity_deinit) struct tls_identity identity = { 0 };
    struct tls_why why = { "" };

    ck_assert_int_eq(tls_key_new(&key), 0);
    cert = issue("web-1", TLS_CLIENT, key, ca->root, ca->key, (wall_us){ clock_wall().us - age_us },
                 life_us);
    ck_assert_int_eq(tls_cert_print(cert, &identity.chain_pem) |
                         tls_cert_print(ca->root, &identity.roots_pem) |
                         tls_key_print(key, &identity.key_pem),
                     0);
    ck_assert_msg(tls_identity_save(directory, &identity, &why) == 0, "%s", why.text);
}
