/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pool.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/tls/stream/inside.h"
#include "common/tls/tls_private.h"

struct tls_stream {
    struct tls_context *context;
    SSL *ssl;
    BIO *in, *out; /* ssl's */
    bool is_broken;
    char reason[160];
};

/* ---- why ---- */

static void keep_reason(struct tls_stream *stream)
{
    const long verified = SSL_get_verify_result(stream->ssl);
    const uint32_t error = ERR_peek_last_error();
    const char *text = ERR_reason_error_string(error);

    stream->is_broken = true;
    if (ERR_GET_LIB(error) == ERR_LIB_SSL &&
        ERR_GET_REASON(error) == SSL_R_CERTIFICATE_VERIFY_FAILED)
        snprintf(stream->reason, sizeof(stream->reason), "the peer's certificate: %s",
                 X509_verify_cert_error_string(verified));
    else
        snprintf(stream->reason, sizeof(stream->reason), "%s",
                 text ? text : "the connection ended within a record");
    ERR_clear_error();
}

/* ---- life ---- */

static int set_host(SSL *ssl, const char *host)
{
    X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
    uint8_t address[16];

    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
    if (!tls_expect_host(param, host))
        return fault(-EINVAL, "a TLS client without a host to expect");
    /* RFC 6066, 3: an address is no name to be sent. */
    if (inet_pton(AF_INET, host, address) != 1 && inet_pton(AF_INET6, host, address) != 1 &&
        !SSL_set_tlsext_host_name(ssl, host))
        return fault(-ENOMEM, "cannot send the host name");
    return 0;
}

int tls_stream_new(struct tls_stream **ret, struct tls_context *context, const char *host)
{
    CLEANUP(tls_stream_freep) struct tls_stream *stream = calloc(1, sizeof(*stream));

    ensure(context->is_server == (host == NULL));
    if (!stream)
        return fault(-ENOMEM, "no memory for a TLS stream");
    stream->context = tls_context_ref(context);
    stream->ssl = SSL_new(context->core);
    stream->in = BIO_new(BIO_s_mem());
    stream->out = BIO_new(BIO_s_mem());
    if (!stream->ssl || !stream->in || !stream->out) {
        BIO_free(stream->in);
        BIO_free(stream->out);
        return tls_clear(fault(-ENOMEM, "no memory for a TLS stream"));
    }
    SSL_set_bio(stream->ssl, stream->in, stream->out);
    if (context->is_server) {
        SSL_set_accept_state(stream->ssl);
    } else {
        SSL_set_connect_state(stream->ssl);
        int r = set_host(stream->ssl, host);

        if (r != 0)
            return tls_clear(pass(r));
    }
    *ret = take(stream);
    return tls_clear(0);
}

struct tls_stream *tls_stream_free(struct tls_stream *stream)
{
    if (!stream)
        return NULL;
    SSL_free(stream->ssl);
    tls_context_unref(stream->context);
    free(stream);
    return NULL;
}

/* ---- bytes ---- */

int tls_stream_feed(struct tls_stream *stream, struct span bytes)
{
    ensure(bytes.len <= INT_MAX);
    if (bytes.len > 0 && BIO_write(stream->in, bytes.data, (int) bytes.len) != (int) bytes.len)
        return tls_clear(fault(-ENOMEM, "no memory for what came by TLS"));
    return 0;
}

int tls_stream_read(struct tls_stream *stream, void *to, size_t room, size_t *ret_len)
{
    int n;

    *ret_len = 0;
    if (stream->is_broken)
        return TLS_STREAM_BROKEN;
    ERR_clear_error();
    n = SSL_read(stream->ssl, to, room > INT_MAX ? INT_MAX : (int) room);
    if (n > 0) {
        *ret_len = (size_t) n;
        return 0;
    }
    switch (SSL_get_error(stream->ssl, n)) {
    case SSL_ERROR_WANT_READ:
        return TLS_STREAM_MORE;
    case SSL_ERROR_ZERO_RETURN:
        return TLS_STREAM_END;
    default:
        keep_reason(stream);
        return TLS_STREAM_BROKEN;
    }
}

int tls_stream_write(struct tls_stream *stream, struct span bytes)
{
    ensure(tls_stream_is_ready(stream));
    ensure(bytes.len <= INT_MAX);
    if (stream->is_broken)
        return TLS_STREAM_BROKEN;
    if (bytes.len == 0)
        return 0;
    ERR_clear_error();
    if (SSL_write(stream->ssl, bytes.data, (int) bytes.len) == (int) bytes.len)
        return 0;
    keep_reason(stream);
    return TLS_STREAM_BROKEN;
}

void tls_stream_end(struct tls_stream *stream)
{
    if (!stream->is_broken && tls_stream_is_ready(stream))
        (void) SSL_shutdown(stream->ssl);
    ERR_clear_error();
}

struct span tls_stream_output(const struct tls_stream *stream)
{
    const uint8_t *data = NULL;
    size_t len = 0;

    ensure(BIO_mem_contents(stream->out, &data, &len));
    return span_of(data, len);
}

void tls_stream_output_taken(struct tls_stream *stream, size_t n_bytes)
{
    uint8_t passed[4096];

    while (n_bytes > 0) {
        size_t n = n_bytes < sizeof(passed) ? n_bytes : sizeof(passed);

        ensure(BIO_read(stream->out, passed, (int) n) == (int) n);
        n_bytes -= n;
    }
}

/* ---- who ---- */

bool tls_stream_is_ready(const struct tls_stream *stream)
{
    return SSL_is_init_finished(stream->ssl);
}

bool tls_stream_is_resumed(const struct tls_stream *stream)
{
    return SSL_session_reused(stream->ssl);
}

struct span tls_stream_peer_certificate(const struct tls_stream *stream)
{
    const STACK_OF(CRYPTO_BUFFER) *chain = SSL_get0_peer_certificates(stream->ssl);

    if (!chain || sk_CRYPTO_BUFFER_num(chain) == 0)
        return (struct span){ 0 };
    const CRYPTO_BUFFER *leaf = sk_CRYPTO_BUFFER_value(chain, 0);

    return span_of(CRYPTO_BUFFER_data(leaf), CRYPTO_BUFFER_len(leaf));
}

const char *tls_stream_reason(const struct tls_stream *stream)
{
    return stream->reason;
}
