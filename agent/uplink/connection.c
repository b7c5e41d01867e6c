/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/uplink/connection.h"

#include <stdio.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"

#define KEEPALIVE_TIMEOUT_US INT64_C(10000000)
#define CONNECT_TIMEOUT_US INT64_C(20000000)
/* A connection is given up with its channel: core is not to try by itself. */
#define CORE_BACKOFF_US INT64_C(3600000000)
#define MAX_RESPONSE_BYTES (1u << 20)

/* Outcomes: CONNECTION_BAD_IDENTITY. */
static int make_credentials(const struct connection_options *options,
                            const struct tls_identity *identity,
                            struct rpc_credentials **ret,
                            struct tls_why *ret_why)
{
    int r = rpc_credentials_new(
        ret, &(struct rpc_credentials_options){
                 .min_version = options->is_tls13_only ? RPC_TLS_1_3 : RPC_TLS_1_2,
                 .roots_pem = buf_span(&identity->roots_pem),
                 .chain_pem = buf_span(&identity->chain_pem),
                 .key_pem = buf_span(&identity->key_pem),
             });

    if (r != RPC_BAD_MATERIAL)
        return fold(r);
    snprintf(ret_why->text, sizeof(ret_why->text),
             "the identity's files are not usable PEM; enrol again");
    return CONNECTION_BAD_IDENTITY;
}

int connection_open(struct rpc_channel **ret,
                    const struct connection_options *options,
                    const struct tls_identity *identity,
                    struct tls_why *ret_why)
{
    CLEANUP(rpc_credentials_freep) struct rpc_credentials *credentials = NULL;
    const struct rpc_metadata name = { "sentinel-agent", options->insecure_id };
    int r = 0;

    ensure(!options->insecure_id == (identity != NULL));
    if (identity)
        r = make_credentials(options, identity, &credentials, ret_why);
    if (r)
        return r < 0 ? pass(r) : r;
    r = rpc_channel_new(ret, options->queue,
                        &(struct rpc_channel_options){
                            .target = options->hub,
                            .credentials = credentials,
                            .server_name = options->server_name,
                            .keepalive_interval_us = options->keepalive_us,
                            .keepalive_timeout_us = KEEPALIVE_TIMEOUT_US,
                            .connect_timeout_us = CONNECT_TIMEOUT_US,
                            .min_backoff_us = CORE_BACKOFF_US,
                            .max_backoff_us = CORE_BACKOFF_US,
                            .max_message_bytes = MAX_RESPONSE_BYTES,
                            .metadata = &name,
                            .n_metadata = options->insecure_id ? 1 : 0,
                        });
    return fold(r);
}

void connection_error(const struct rpc_status *status, struct arena *arena, struct wire_error *ret)
{
    *ret = (struct wire_error){ 0 };
    if (status->details.len > 0 && wire_error_unpack(status->details, arena, ret) != 0)
        *ret = (struct wire_error){ 0 };
    ret->code = status->code;
    ret->message = status->message ? status->message : "";
    if (!ret->reason && status->code == RPC_UNAVAILABLE)
        ret->reason = identity_handshake_reason(ret->message);
}
