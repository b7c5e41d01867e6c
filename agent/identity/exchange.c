/* SPDX-License-Identifier: Apache-2.0 */

/*
 * One renewal, over a connection of its own.
 *
 *   Renew:         request -> response
 *   RenewExpired:  an empty request -> nonce; chain, request and signature -> response
 */

#include <errno.h>
#include <stdlib.h>

#include "sentinel/enrollment/v1/enrollment.pb-c.h"

#include "agent/identity/inside.h"
#include "common/base/fault.h"
#include "common/crypto/crypto.h"

#define TIMEOUT_US INT64_C(30000000)
#define ERROR_ARENA_BYTES (64u << 10)
#define MAX_CHAIN 8

struct exchange {
    struct exchange_options options;
    struct buf csr_der, expired_chain_pem, expired_key_pem;
    struct rpc_channel *channel;
    struct rpc_client_call *call;
    struct arena arena; /* of the answer */
    struct exchange_result result;
    bool has_signed, is_answered;
    const char *broken; /* why we ended it */
};

static ProtobufCBinaryData bytes_of(struct span span)
{
    return (ProtobufCBinaryData){ .len = span.len, .data = (uint8_t *) (uintptr_t) span.data };
}

/* ---- requests ---- */

static int send_message(struct exchange *exchange, const ProtobufCMessage *message)
{
    CLEANUP(buf_deinit) struct buf out = { 0 };
    int r = wire_pack(message, &out);

    if (r)
        return pass(r);
    r = rpc_client_call_send(exchange->call, buf_span(&out));
    return r < 0 ? pass(r) : 0; /* closed already: on_closed comes */
}

static int send_renew(struct exchange *exchange)
{
    Sentinel__Enrollment__V1__RenewRequest request;

    sentinel__enrollment__v1__renew_request__init(&request);
    request.csr = bytes_of(buf_span(&exchange->csr_der));
    return pass(send_message(exchange, &request.base));
}

/* The chain as DER, in `storage`. */
static int
split_chain(struct span pem, ProtobufCBinaryData *ret, struct buf *storage, size_t *ret_n)
{
    struct tls_cert *certs[MAX_CHAIN] = { NULL };
    size_t lens[MAX_CHAIN + 1] = { 0 };
    size_t n = 0;
    int r = tls_chain_split(pem, certs, MAX_CHAIN, &n);

    for (size_t i = 0; i < n; i++) {
        if (r == 0)
            r = tls_cert_print_der(certs[i], storage);
        lens[i + 1] = storage->len;
        tls_cert_free(certs[i]);
    }
    if (r)
        return fold(r);
    for (size_t i = 0; i < n; i++)
        ret[i] = bytes_of(span_of(storage->data + lens[i], lens[i + 1] - lens[i]));
    *ret_n = n;
    return 0;
}

static int ask_nonce(struct exchange *exchange)
{
    Sentinel__Enrollment__V1__RenewExpiredRequest request;

    sentinel__enrollment__v1__renew_expired_request__init(&request);
    return pass(send_message(exchange, &request.base));
}

static int send_expired(struct exchange *exchange, struct span signature)
{
    CLEANUP(buf_deinit) struct buf storage = { 0 };
    Sentinel__Enrollment__V1__RenewExpiredRequest request;
    ProtobufCBinaryData chain[MAX_CHAIN];
    int r;

    sentinel__enrollment__v1__renew_expired_request__init(&request);
    r = split_chain(buf_span(&exchange->expired_chain_pem), chain, &storage, &request.n_chain);
    if (r)
        return pass(r);
    request.chain = chain;
    request.csr = bytes_of(buf_span(&exchange->csr_der));
    request.signature = bytes_of(signature);
    return pass(send_message(exchange, &request.base));
}

static int answer_nonce(struct exchange *exchange, struct span nonce)
{
    CLEANUP(buf_deinit) struct buf bytes = { 0 }, signature = { 0 };
    CLEANUP(tls_key_freep) struct tls_key *key = NULL;
    int r = tls_key_parse(&key, buf_span(&exchange->expired_key_pem));

    identity_renewal_signed_bytes(nonce, buf_span(&exchange->csr_der), &bytes);
    if (r == 0 && buf_failed(&bytes))
        r = fault(-ENOMEM, "no memory to sign with");
    if (r == 0)
        r = tls_key_sign(key, buf_span(&bytes), &signature);
    if (r == 0)
        r = send_expired(exchange, buf_span(&signature));
    exchange->has_signed = true;
    rpc_client_call_half_close(exchange->call);
    return fold(r);
}

/* ---- answers ---- */

static void give_up(struct exchange *exchange, const char *why)
{
    exchange->broken = why;
    rpc_client_call_cancel(exchange->call);
}

static const ProtobufCMessage *
unpack(struct exchange *exchange, const ProtobufCMessageDescriptor *type, struct span message)
{
    ProtobufCMessage *answer = NULL;

    arena_reset(&exchange->arena, wire_arena_limit(message.len));
    if (wire_unpack(type, message, &exchange->arena, &answer, NULL) != 0)
        give_up(exchange, "the hub's answer cannot be decoded");
    return answer;
}

static void on_renewed(struct exchange *exchange, struct span message)
{
    const Sentinel__Enrollment__V1__RenewResponse *response = (const void *) unpack(
        exchange, &sentinel__enrollment__v1__renew_response__descriptor, message);

    if (!response)
        return;
    exchange->result.answer = (struct answer){ .chain = response->chain,
                                               .n_chain = response->n_chain,
                                               .roots = response->roots,
                                               .n_roots = response->n_roots };
    exchange->result.generation = response->generation;
    exchange->is_answered = true;
}

static void on_expired_answer(struct exchange *exchange, struct span message)
{
    const Sentinel__Enrollment__V1__RenewExpiredResponse *response = (const void *) unpack(
        exchange, &sentinel__enrollment__v1__renew_expired_response__descriptor, message);

    if (!response)
        return;
    if (response->grace_ends)
        exchange->result.grace_ends.us = response->grace_ends->seconds * 1000000;
    if (!exchange->has_signed) {
        if (response->nonce.len != IDENTITY_NONCE_BYTES)
            give_up(exchange, "the hub's nonce does not have 32 bytes");
        else if (answer_nonce(exchange, span_of(response->nonce.data, response->nonce.len)) != 0)
            give_up(exchange, "the request could not be signed; see the log");
        return;
    }
    exchange->result.answer = (struct answer){ .chain = response->chain,
                                               .n_chain = response->n_chain,
                                               .roots = response->roots,
                                               .n_roots = response->n_roots };
    exchange->is_answered = true;
}

static void on_message(struct rpc_client_call *call, struct span message)
{
    struct exchange *exchange = rpc_client_call_ctx(call);

    if (exchange->broken || exchange->is_answered) {
        rpc_client_call_read(call);
        return;
    }
    if (exchange->expired_chain_pem.len)
        on_expired_answer(exchange, message);
    else
        on_renewed(exchange, message);
    rpc_client_call_read(call);
}

static void on_closed(struct rpc_client_call *call, const struct rpc_status *status)
{
    struct exchange *exchange = rpc_client_call_ctx(call);
    struct arena arena;

    arena_init(&arena, ERROR_ARENA_BYTES);
    dial_error(status, &arena, &exchange->result.error);
    if (exchange->broken)
        exchange->result.error =
            (struct wire_error){ .code = RPC_CANCELLED, .message = exchange->broken };
    else if (status->code == RPC_OK && !exchange->is_answered)
        exchange->result.error =
            (struct wire_error){ .code = RPC_INTERNAL, .message = "no answer came" };
    exchange->options.on_done(exchange->options.ctx, &exchange->result);
    arena_deinit(&arena);
}

static const struct rpc_client_handler handler = {
    .on_message = on_message,
    .on_closed = on_closed,
};

/* ---- life ---- */

static int begin(struct exchange *exchange)
{
    bool is_late = exchange->expired_chain_pem.len > 0;
    int r = dial_open(&exchange->options.dial, &exchange->channel);

    if (r)
        return r < 0 ? pass(r) : PLACE_BAD;
    r = rpc_client_call_new(&exchange->call, exchange->channel,
                            &(struct rpc_client_call_options){
                                .path = is_late ? DIAL_RENEW_EXPIRED : DIAL_RENEW,
                                .timeout_us = TIMEOUT_US,
                                .handler = &handler,
                                .ctx = exchange,
                            });
    if (r)
        return fold(r);
    if (is_late) {
        r = ask_nonce(exchange);
    } else {
        r = send_renew(exchange);
        rpc_client_call_half_close(exchange->call);
    }
    rpc_client_call_read(exchange->call);
    return pass(r);
}

int exchange_new(struct exchange **ret, const struct exchange_options *options)
{
    struct exchange *exchange = calloc(1, sizeof(*exchange));
    int r = 0;

    if (!exchange)
        return fault(-ENOMEM, "no memory for a renewal");
    exchange->options = *options;
    arena_init(&exchange->arena, ERROR_ARENA_BYTES);
    buf_append_span(&exchange->csr_der, options->csr_der);
    buf_append_span(&exchange->expired_chain_pem, options->expired_chain_pem);
    buf_append_span(&exchange->expired_key_pem, options->expired_key_pem);
    if (buf_failed(&exchange->csr_der) || buf_failed(&exchange->expired_chain_pem) ||
        buf_failed(&exchange->expired_key_pem))
        r = fault(-ENOMEM, "no memory for a renewal");
    if (r == 0)
        r = begin(exchange);
    if (r) {
        exchange_free(exchange);
        return r < 0 ? pass(r) : PLACE_BAD;
    }
    *ret = exchange;
    return 0;
}

struct exchange *exchange_free(struct exchange *exchange)
{
    if (!exchange)
        return NULL;
    (void) rpc_client_call_unref(exchange->call);
    (void) rpc_channel_free(exchange->channel);
    arena_deinit(&exchange->arena);
    crypto_wipe(exchange->expired_key_pem.data, exchange->expired_key_pem.capacity);
    buf_deinit(&exchange->expired_key_pem);
    buf_deinit(&exchange->expired_chain_pem);
    buf_deinit(&exchange->csr_der);
    free(exchange);
    return NULL;
}
