/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "agent/identity/inside.h"
#include "common/base/fault.h"

#define CONNECT_TIMEOUT_US INT64_C(20000000)
/* A connection is given up with its channel: core is not to try by itself. */
#define CORE_BACKOFF_US INT64_C(3600000000)
#define MAX_RESPONSE_BYTES (1u << 20)

int dial_open(const struct dial *dial, struct rpc_channel **ret)
{
    CLEANUP(rpc_credentials_freep) struct rpc_credentials *credentials = NULL;
    int r = rpc_credentials_new(
        &credentials, &(struct rpc_credentials_options){
                          .min_version = dial->is_tls13_only ? RPC_TLS_1_3 : RPC_TLS_1_2,
                          .roots_pem = dial->roots_pem,
                          .chain_pem = dial->chain_pem,
                          .key_pem = dial->key_pem,
                          .unverified_path = dial->roots_pem.len ? NULL : DIAL_TRUST_BUNDLE,
                      });

    if (r == RPC_BAD_MATERIAL)
        return PLACE_BAD;
    if (r == 0)
        r = rpc_channel_new(ret, dial->queue,
                            &(struct rpc_channel_options){
                                .target = dial->hub,
                                .credentials = credentials,
                                .server_name = dial->server_name,
                                .connect_timeout_us = CONNECT_TIMEOUT_US,
                                .min_backoff_us = CORE_BACKOFF_US,
                                .max_backoff_us = CORE_BACKOFF_US,
                                .max_message_bytes = MAX_RESPONSE_BYTES,
                            });
    return fold(r);
}

const char *identity_handshake_reason(const char *message)
{
    static const struct {
        const char *words, *reason;
    } rows[] = {
        { "certificate is not yet valid", "HUB_CERTIFICATE_NOT_YET_VALID" },
        { "certificate has expired", "HUB_CERTIFICATE_EXPIRED" },
        { "CERTIFICATE_VERIFY_FAILED", "HUB_UNTRUSTED" },
        { "ostname", "HUB_NAME_MISMATCH" }, /* "Hostname Verification Check failed." */
        { "Socket closed", IDENTITY_CLOSED },
    };

    for (size_t i = 0; message && i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (strstr(message, rows[i].words))
            return rows[i].reason;
    }
    return NULL;
}

void dial_error(const struct rpc_status *status, struct arena *arena, struct wire_error *ret)
{
    *ret = (struct wire_error){ 0 };
    if (status->details.len > 0 && wire_error_unpack(status->details, arena, ret) != 0)
        *ret = (struct wire_error){ 0 };
    ret->code = status->code;
    ret->message = status->message ? status->message : "";
    if (!ret->reason && status->code == RPC_UNAVAILABLE)
        ret->reason = identity_handshake_reason(ret->message);
}
