#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Front: the hub's gRPC face. Decode, authorise, call one domain function, encode. No rules of its
 * own.
 *
 * Every method of the table (common/wire, made from the protos) is routed here. One that no service
 * file handles answers UNIMPLEMENTED after authorisation, and reflection lists a service only when
 * at least one of its methods is handled.
 *
 * Authorisation: who may call stands in the method table; who somebody is comes from the registry
 * by the certificate of the connection. No certificate or an unknown, superseded, revoked or
 * expired one is UNAUTHENTICATED; another role is PERMISSION_DENIED. A long stream is looked at
 * again with each message and before each ack. In `insecure` mode (plaintext, loopback) there are
 * no certificates: every caller is an admin, and an agent names itself with the request header
 * "sentinel-agent".
 *
 * Errors: errors.c has the one table from outcomes to status codes.
 *
 * Files: front.c routing, authorisation; unary.c calls with one answer, on the reader pool;
 * errors.c; convert.c metrics.c between messages and structs; stream.c the stream protocol;
 * serial.c calls with a stream of answers; svc_telemetry.c svc_logs.c svc_uploads.c svc_files.c
 * svc_query.c svc_search.c svc_query_uploads.c svc_admin.c svc_health.c svc_reflection.c. Thread:
 * as rpc/server says.
 */

#include <stdbool.h>
#include <stdint.h>

#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/rpc/server/server.h"
#include "server/audit/audit.h"
#include "server/ingest/ingest.h"
#include "server/pki/pki.h"
#include "server/query/query.h"
#include "server/quota/quota.h"
#include "server/store/store.h"
#include "server/upload/upload.h"

struct front;

/* What the daemon is doing; health follows it. */
enum front_state { FRONT_STARTING, FRONT_SERVING, FRONT_FULL, FRONT_DRAINING, FRONT_FAILED };

struct front_status { /* what GetStatus says beyond what front asks for itself */
    wall_us started;
    wall_us settings_loaded;
    wall_us certificate_expires;
    uint64_t
        certificates_expiring; /* of agents and operators, with less than a fifth of their life */
    uint64_t https_handshakes_failed;
    struct rpc_accept_stats grpc;
    char settings_sha256[65];
    char security[16];
};

/* What a reload came to. */
struct front_reload {
    char why[512];           /* empty: the new settings count */
    char needs_restart[512]; /* names of settings, comma separated */
};

struct front_options {
    struct store *store;
    struct pki *pki;             /* NULL: insecure mode */
    struct audit *audit;         /* NULL: nothing is written; of tests */
    struct quota *quota;         /* NULL: nothing is counted; of tests */
    const char *state_directory; /* what Backup copies; borrowed */
    const char *program;         /* sentinel-hub, whose `backup` it runs; NULL: none can be made */
    struct ingest *ingest;
    struct uploads *uploads;
    struct query_pool *pool;
    const struct query *query;
    bool is_insecure;
    bool reflection_for_all;      /* else reflection needs a known identity */
    uint32_t max_message_bytes;   /* of our own methods: 4 MiB */
    uint64_t arena_total_bytes;   /* all unpack arenas together: 256 MiB */
    uint32_t default_interval_ms; /* told to agents in Welcome; 0: their own */
    uint32_t reconnect_spread_ms;
    /* Fills the daemon's own part; any thread. */
    void (*get_status)(void *ctx, struct front_status *ret);
    /* Reads the settings again; blocks until that is done. On a reader. */
    void (*reload)(void *ctx, struct front_reload *ret);
    void *ctx;
};

int front_new(struct front **ret, const struct front_options *options) MUST_USE;
/* After the rpc server is gone. */
struct front *front_free(struct front *front);
DEFINE_CLEANUP(struct front *, front_free);

/* HOST:PORT that enrolment strings have: before calls come, or whenever it changes. Thread: any. */
void front_set_address(struct front *front, const char *address);

/* For rpc_server_options: route and its ctx. */
const struct rpc_handler *front_route(void *ctx, const char *path, const void **ret_method);

/* Health watchers are told. Thread: any. */
void front_set_state(struct front *front, enum front_state state);

/*
 * The registry has a new generation (pki_refresh() saw one, or we made one): open telemetry streams
 * and uploads look again whether their certificate still counts, also the idle ones. Thread: any.
 */
void front_registry_changed(struct front *front);

/* Now and then: calls that hold memory for longer than they may (inventory.upload_time) end.
 * Thread: any. */
void front_end_late(struct front *front);
