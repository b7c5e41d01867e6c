/* SPDX-License-Identifier: Apache-2.0 */

/* The only file that knows how core is given certificates: that interface changes between releases.
 */

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/rpc/core.h"
#include "common/tls/tls.h"

struct rpc_credentials {
    bool is_server;
    bool has_roots;
    char *unverified_path; /* NULL: the server is verified */
    enum rpc_tls_version min_version;
    struct {
        pthread_mutex_t lock;
        /* Watched by every server and channel made with it; new material reaches them through it.
         */
        grpc_tls_certificate_provider *provider;
        bool has_identity;
        grpc_server_credentials *server;
        grpc_channel_credentials *channel;
    } shared;
};

/* ---- material ---- */

/* Outcomes: RPC_BAD_MATERIAL. */
static int check_roots(struct span roots_pem)
{
    CLEANUP(tls_cert_freep) struct tls_cert *root = NULL;
    int r = tls_cert_parse_pem(&root, roots_pem);

    if (r < 0)
        return pass(r);
    return r ? RPC_BAD_MATERIAL : 0;
}

/* Outcomes: RPC_BAD_MATERIAL. */
static int check_identity(struct span chain_pem, struct span key_pem)
{
    CLEANUP(tls_cert_freep) struct tls_cert *leaf = NULL;
    CLEANUP(tls_key_freep) struct tls_key *key = NULL;
    int r = tls_cert_parse_pem(&leaf, chain_pem);

    if (r == 0)
        r = tls_key_parse(&key, key_pem);
    if (r == 0)
        r = tls_cert_matches_key(leaf, key);
    if (r < 0)
        return pass(r);
    return r ? RPC_BAD_MATERIAL : 0;
}

/* Outcomes: RPC_BAD_MATERIAL. */
static int check_material(bool is_server, struct span roots, struct span chain, struct span key)
{
    int r;

    /* A client without roots would trust the system's; a server without identity cannot answer. */
    if (is_server ? !chain.len : !roots.len)
        return RPC_BAD_MATERIAL;
    if ((chain.len == 0) != (key.len == 0))
        return RPC_BAD_MATERIAL;
    if (roots.len) {
        r = check_roots(roots);
        if (r)
            return r < 0 ? pass(r) : RPC_BAD_MATERIAL;
    }
    if (chain.len) {
        r = check_identity(chain, key);
        if (r)
            return r < 0 ? pass(r) : RPC_BAD_MATERIAL;
    }
    return 0;
}

/* Nobody's roots are asked and nothing of ours is shown. Outcomes: RPC_BAD_MATERIAL. */
static int check_unverified(const struct rpc_credentials_options *options)
{
    bool is_bare = !options->roots_pem.len && !options->chain_pem.len && !options->key_pem.len;

    return is_bare && !options->is_server ? 0 : RPC_BAD_MATERIAL;
}

static void wipe_free(char *text)
{
    if (text)
        explicit_bzero(text, strlen(text));
    free(text);
}

/* NUL-terminated; never NULL but for want of memory. */
static char *text_of(struct span span)
{
    return span.len ? strndup((const char *) span.data, span.len) : strdup("");
}

static int set_material(grpc_tls_certificate_provider *provider,
                        struct span roots,
                        struct span chain,
                        struct span key)
{
    char *roots_text = text_of(roots);
    char *chain_text = text_of(chain);
    char *key_text = text_of(key);
    bool is_set = roots_text && chain_text && key_text;

    if (is_set && chain.len) {
        grpc_tls_identity_pairs *pairs = grpc_tls_identity_pairs_create();

        grpc_tls_identity_pairs_add_pair(pairs, key_text, chain_text);
        is_set = grpc_tls_certificate_provider_in_memory_set_identity_certificate(provider, pairs);
    }
    if (is_set && roots.len)
        is_set = grpc_tls_certificate_provider_in_memory_set_root_certificate(provider, roots_text);
    free(roots_text);
    free(chain_text);
    wipe_free(key_text);
    return is_set ? 0 : fault(-EIO, "core did not take certificates");
}

/* ---- the end of a server's handshake ---- */

/*
 * Core calls its verifier when TLS is done and the chain was found good: this one has nothing to
 * add, and is the one place where core says that a handshake is over.
 */
static int on_verify(void *user_data,
                     grpc_tls_custom_verification_check_request *request,
                     grpc_tls_on_custom_verification_check_done_cb callback,
                     void *callback_arg,
                     grpc_status_code *sync_status,
                     char **sync_error_details)
{
    struct rpc_handshake *handshake = rpc_handshake_now();
    const char *leaf = request->peer_info.peer_cert;

    (void) user_data;
    (void) callback;
    (void) callback_arg;
    (void) sync_error_details;
    if (handshake)
        handshake->events->on_finished(handshake, leaf && leaf[0]);
    *sync_status = GRPC_STATUS_OK;
    return 1;
}

static void on_cancel(void *user_data, grpc_tls_custom_verification_check_request *request)
{
    (void) user_data;
    (void) request;
}

static void on_destruct(void *user_data)
{
    (void) user_data;
}

static void watch_handshakes(grpc_tls_credentials_options *options)
{
    static grpc_tls_certificate_verifier_external external = {
        .verify = on_verify,
        .cancel = on_cancel,
        .destruct = on_destruct,
    };
    grpc_tls_certificate_verifier *verifier =
        grpc_tls_certificate_verifier_external_create(&external);

    grpc_tls_credentials_options_set_certificate_verifier(options, verifier);
    grpc_tls_certificate_verifier_release(verifier);
}

/* ---- core's objects ---- */

static grpc_tls_credentials_options *options_new(const struct rpc_credentials *credentials)
{
    grpc_tls_credentials_options *options = grpc_tls_credentials_options_create();

    grpc_tls_credentials_options_set_min_tls_version(
        options, credentials->min_version == RPC_TLS_1_3 ? TLS1_3 : TLS1_2);
    if (credentials->shared.has_identity)
        grpc_tls_credentials_options_set_identity_certificate_provider(
            options, credentials->shared.provider);
    if (credentials->has_roots)
        grpc_tls_credentials_options_set_root_certificate_provider(options,
                                                                   credentials->shared.provider);
    return options;
}

static void verify_server(grpc_tls_credentials_options *options)
{
    grpc_tls_credentials_options_set_verify_server_cert(options, 1);
    grpc_tls_credentials_options_set_check_call_host(options, 1);
}

/* Core looks at the host name even where it looks at no chain, unless it is given this. */
static void verify_nobody(grpc_tls_credentials_options *options)
{
    grpc_tls_certificate_verifier *nobody = grpc_tls_certificate_verifier_no_op_create();

    grpc_tls_credentials_options_set_certificate_verifier(options, nobody);
    grpc_tls_certificate_verifier_release(nobody);
    grpc_tls_credentials_options_set_verify_server_cert(options, 0);
    grpc_tls_credentials_options_set_check_call_host(options, 0);
}

static int make_core(struct rpc_credentials *credentials)
{
    grpc_tls_credentials_options *options = options_new(credentials);

    if (credentials->is_server) {
        grpc_tls_credentials_options_set_cert_request_type(
            options, credentials->has_roots ? GRPC_SSL_REQUEST_CLIENT_CERTIFICATE_AND_VERIFY
                                            : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE);
        watch_handshakes(options);
        credentials->shared.server = grpc_tls_server_credentials_create(options);
        return credentials->shared.server ? 0 : fault(-EIO, "core makes no server credentials");
    }
    if (credentials->unverified_path)
        verify_nobody(options);
    else
        verify_server(options);
    credentials->shared.channel = grpc_tls_credentials_create(options);
    return credentials->shared.channel ? 0 : fault(-EIO, "core makes no channel credentials");
}

static void release_core(struct rpc_credentials *credentials)
{
    if (credentials->shared.server)
        grpc_server_credentials_release(take(credentials->shared.server));
    if (credentials->shared.channel)
        grpc_channel_credentials_release(take(credentials->shared.channel));
    if (credentials->shared.provider)
        grpc_tls_certificate_provider_release(take(credentials->shared.provider));
}

/* ---- public ---- */

int rpc_credentials_new(struct rpc_credentials **ret, const struct rpc_credentials_options *options)
{
    CLEANUP(rpc_credentials_freep) struct rpc_credentials *credentials = NULL;
    int r = options->unverified_path ? check_unverified(options)
                                     : check_material(options->is_server, options->roots_pem,
                                                      options->chain_pem, options->key_pem);

    if (r)
        return r < 0 ? pass(r) : RPC_BAD_MATERIAL;
    credentials = calloc(1, sizeof(*credentials));
    if (!credentials)
        return fault(-ENOMEM, "no memory for credentials");
    pthread_mutex_init(&credentials->shared.lock, NULL);
    credentials->is_server = options->is_server;
    credentials->min_version = options->min_version;
    if (options->unverified_path) {
        credentials->unverified_path = strdup(options->unverified_path);
        if (!credentials->unverified_path)
            return fault(-ENOMEM, "no memory for credentials");
    }
    credentials->has_roots = options->roots_pem.len > 0;
    credentials->shared.has_identity = options->chain_pem.len > 0;
    credentials->shared.provider = grpc_tls_certificate_provider_in_memory_create();
    r = set_material(credentials->shared.provider, options->roots_pem, options->chain_pem,
                     options->key_pem);
    if (r == 0)
        r = make_core(credentials);
    if (r < 0)
        return pass(r);
    *ret = take(credentials);
    return 0;
}

int rpc_credentials_replace(struct rpc_credentials *credentials,
                            struct span roots_pem,
                            struct span chain_pem,
                            struct span key_pem)
{
    int r = check_material(credentials->is_server, roots_pem, chain_pem, key_pem);

    if (r)
        return r < 0 ? pass(r) : RPC_BAD_MATERIAL;
    ensure(!credentials->unverified_path);
    if (credentials->has_roots != (roots_pem.len > 0))
        return RPC_BAD_MATERIAL;
    pthread_mutex_lock(&credentials->shared.lock);
    if (credentials->shared.has_identity != (chain_pem.len > 0)) {
        /*
         * Core waits for an identity once it was promised one, so a client that gains or loses it
         * takes new objects; channels that exist stay as they are.
         */
        release_core(credentials);
        credentials->shared.has_identity = chain_pem.len > 0;
        credentials->shared.provider = grpc_tls_certificate_provider_in_memory_create();
        r = set_material(credentials->shared.provider, roots_pem, chain_pem, key_pem);
        if (r == 0)
            r = make_core(credentials);
    } else {
        r = set_material(credentials->shared.provider, roots_pem, chain_pem, key_pem);
    }
    pthread_mutex_unlock(&credentials->shared.lock);
    return pass(r);
}

struct rpc_credentials *rpc_credentials_free(struct rpc_credentials *credentials)
{
    if (!credentials)
        return NULL;
    release_core(credentials);
    pthread_mutex_destroy(&credentials->shared.lock);
    free(credentials->unverified_path);
    free(credentials);
    return NULL;
}

const char *rpc_credentials_only_path(const struct rpc_credentials *credentials)
{
    return credentials ? credentials->unverified_path : NULL;
}

bool rpc_credentials_lend(struct rpc_credentials *credentials,
                          bool (*use)(void *ctx, grpc_server_credentials *core),
                          void *ctx)
{
    grpc_server_credentials *core;
    bool is_done;

    if (!credentials) {
        core = grpc_insecure_server_credentials_create();
        is_done = use(ctx, core);
        grpc_server_credentials_release(core);
        return is_done;
    }
    ensure(credentials->is_server);
    pthread_mutex_lock(&credentials->shared.lock);
    is_done = use(ctx, credentials->shared.server);
    pthread_mutex_unlock(&credentials->shared.lock);
    return is_done;
}

grpc_channel *rpc_credentials_make_channel(struct rpc_credentials *credentials,
                                           const char *target,
                                           const grpc_channel_args *args)
{
    grpc_channel_credentials *core;
    grpc_channel *channel;

    if (!credentials) {
        core = grpc_insecure_credentials_create();
        channel = grpc_channel_create(target, core, args);
        grpc_channel_credentials_release(core);
        return channel;
    }
    ensure(!credentials->is_server);
    pthread_mutex_lock(&credentials->shared.lock);
    channel = grpc_channel_create(target, credentials->shared.channel, args);
    pthread_mutex_unlock(&credentials->shared.lock);
    return channel;
}

/* ---- PEM ---- */

static int base64_digit(uint8_t c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == '+')
        return 62;
    return c == '/' ? 63 : -1;
}

int rpc_pem_to_der(struct span pem, uint8_t **ret, size_t *ret_len)
{
    static const char begin[] = "-----BEGIN CERTIFICATE-----";
    const uint8_t *at = memmem(pem.data, pem.len, begin, strlen(begin));
    const uint8_t *end = pem.data + pem.len;
    uint32_t bits = 0;
    unsigned n_bits = 0;
    size_t len = 0;
    uint8_t *der;

    if (!at)
        return RPC_BAD_MATERIAL;
    at += strlen(begin);
    der = malloc((size_t) (end - at) / 4 * 3 + 3);
    if (!der)
        return fault(-ENOMEM, "no memory for a certificate");
    for (; at < end && *at != '-' && *at != '='; at++) {
        int digit = base64_digit(*at);

        if (digit < 0)
            continue; /* line breaks */
        bits = bits << 6 | (uint32_t) digit;
        n_bits += 6;
        if (n_bits >= 8) {
            n_bits -= 8;
            der[len++] = (uint8_t) (bits >> n_bits);
        }
    }
    *ret = der;
    *ret_len = len;
    return 0;
}
