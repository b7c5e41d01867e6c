#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What a stream and test-connection have in common: from an identity directory to a channel, and
 * from a status to an error. Private to agent/uplink.
 */

#include "agent/identity/identity.h"
#include "agent/uplink/policy.h"
#include "common/rpc/client/client.h"
#include "common/rpc/rpc.h"
#include "common/tls/tls.h"

#define STREAM_METRICS_PATH "/sentinel.telemetry.v1.TelemetryService/StreamMetrics"
#define STREAM_LOGS_PATH "/sentinel.telemetry.v1.TelemetryService/StreamLogs"

struct connection_options {
    struct rpc_queue *queue;
    const char *hub;
    const char *server_name; /* NULL: the host of `hub` */
    const char *insecure_id; /* plaintext, and this agent's id; NULL: mutual TLS */
    bool is_tls13_only;
    int64_t keepalive_us;
};

enum connection_outcome {
    CONNECTION_OK = 0,
    CONNECTION_BAD_IDENTITY, /* ret_why says what to do */
};

/* The identity is only read: it may be wiped afterwards; NULL with insecure_id. Outcomes:
 * CONNECTION_BAD_IDENTITY. */
int connection_open(struct rpc_channel **ret,
                    const struct connection_options *options,
                    const struct tls_identity *identity,
                    struct tls_why *ret_why) MUST_USE;

/* Texts live in the arena, or in `status`. What cannot be read of the details is as if it were not
 * there. */
void connection_error(const struct rpc_status *status, struct arena *arena, struct wire_error *ret);
