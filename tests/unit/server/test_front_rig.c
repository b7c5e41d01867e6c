/* SPDX-License-Identifier: Apache-2.0 */
#include "test_front_rig.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/file.h"
#include "common/crypto/crypto.h"
#include "server/pki/registry/registry.h"

struct hub hub;
struct hub_options hub_options;

static const char *at(const char *name)
{
    static char path[4][192];
    static unsigned next;
    char *to = path[next++ % 4];

    (void) snprintf(to, sizeof(path[0]), "%s/%s", hub.state, name);
    return to;
}

/* ---- the hub ---- */

static bool is_connected(void *ctx, uint32_t agent)
{
    return ingest_is_connected(ctx, agent);
}

static void get_status(void *ctx, struct front_status *ret)
{
    (void) ctx;
    ret->started = (wall_us){ 1000000 };
    (void) snprintf(ret->security, sizeof(ret->security), "%s",
                    hub.is_insecure ? "insecure" : "production");
}

/* As the daemon does, but at once. */
static void on_full(void *ctx, bool is_full)
{
    (void) ctx;
    front_set_state(hub.front, is_full ? FRONT_FULL : FRONT_SERVING);
}

static void start_store(void)
{
    struct store_options options = {
        .segment_bytes = 16 << 20,
        .queue_bytes = hub_options.queue_bytes ? hub_options.queue_bytes : 16 << 20,
        .full_percent = 100,
        .allow_any_filesystem = true,
        .on_full = on_full,
    };
    struct store_why why;

    (void) snprintf(hub.state, sizeof(hub.state), "/tmp/test-front-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(hub.state));
    ck_assert_int_eq(file_make_directories(at("db"), 0700), 0);
    ck_assert_int_eq(store_create(at("db")), 0);
    options.directory = at("db");
    ck_assert_msg(store_open(&hub.store, &options, &why) == 0, "%s", why.text);
}

static void start_pki(void)
{
    const struct pki_init init = { .state_directory = hub.state };
    struct tls_identity own = { 0 };
    struct tls_why why = { "" };

    ck_assert_msg(pki_create(hub.store, &init, &why) == 0, "%s", why.text);
    ck_assert_msg(pki_open(&hub.pki, hub.store, hub.state, &why) == 0, "%s", why.text);
    ck_assert_msg(pki_load_server(hub.state, &own, &why) == 0, "%s", why.text);
    const struct rpc_credentials_options options = {
        .is_server = true,
        .min_version = RPC_TLS_1_3,
        .roots_pem = buf_span(&own.roots_pem),
        .chain_pem = buf_span(&own.chain_pem),
        .key_pem = buf_span(&own.key_pem),
    };
    ck_assert_int_eq(rpc_credentials_new(&hub.credentials, &options), 0);
    tls_identity_deinit(&own);
}

static void start_front(void)
{
    struct ingest_limits limits;
    struct front_options options;

    ingest_default_limits(&limits);
    ck_assert_int_eq(ingest_new(&hub.ingest, hub.store, &limits), 0);
    ck_assert_int_eq(query_pool_new(&hub.pool, 2, 64), 0);
    hub.query = (struct query){
        .store = hub.store,
        .is_connected = is_connected,
        .ctx = hub.ingest,
        .max_samples = 1000000,
        .max_points = 10000,
        .max_series = 1000,
        .logs_budget_bytes = 1 << 30,
    };
    options = (struct front_options){
        .store = hub.store,
        .audit = hub.audit,
        .quota = hub.quota,
        .pki = hub.pki,
        .ingest = hub.ingest,
        .pool = hub.pool,
        .query = &hub.query,
        .is_insecure = hub.is_insecure,
        .max_message_bytes = HUB_MAX_MESSAGE,
        .arena_total_bytes =
            hub_options.arena_total_bytes ? hub_options.arena_total_bytes : 64 << 20,
        .get_status = get_status,
    };
    ck_assert_int_eq(front_new(&hub.front, &options), 0);
}

static void start_server(void)
{
    const struct rpc_server_options options = {
        .address = "127.0.0.1:0",
        .credentials = hub.credentials,
        .n_threads = 2,
        .max_message_bytes = 1 << 20,
        .max_streams_per_connection = 100,
        .keepalive_interval_us = 30000000,
        .keepalive_timeout_us = 10000000,
        .min_ping_interval_us = 10000000,
        .send_queue_bytes = hub_options.send_queue_bytes ? hub_options.send_queue_bytes : 1 << 20,
        .route = hub_options.route ? hub_options.route : front_route,
        .ctx = hub.front,
    };

    ck_assert_int_eq(rpc_server_new(&hub.server, &options), 0);
    ck_assert_int_eq(rpc_server_start(hub.server), 0);
    ck_assert_int_eq(loop_new(&hub.loop), 0);
    ck_assert_int_eq(rpc_queue_new(&hub.queue, hub.loop), 0);
}

static void start_audit(void)
{
    const struct audit_options options = { .store = hub.store, .directory = at("audit") };

    ck_assert_int_eq(audit_open(&hub.audit, &options), 0);
    ck_assert_int_eq(quota_open(&hub.quota, hub.store, NULL), 0);
}

/* `directory` NULL: without a certificate; `header` NULL: none. */
static struct rpc_channel *channel_with(const char *directory, const struct rpc_metadata *header)
{
    struct tls_identity identity = { 0 };
    struct tls_why why = { "" };
    struct rpc_credentials *credentials = NULL;
    struct rpc_credentials_options tls = { .min_version = RPC_TLS_1_3 };
    struct rpc_channel *channel = NULL;
    char target[64];

    (void) snprintf(target, sizeof(target), "127.0.0.1:%u", rpc_server_port(hub.server));
    if (!hub.is_insecure) {
        ck_assert_msg(
            tls_identity_load(directory ? directory : at("operators/admin"), &identity, &why) == 0,
            "%s", why.text);
        tls.roots_pem = buf_span(&identity.roots_pem);
        if (directory) {
            tls.chain_pem = buf_span(&identity.chain_pem);
            tls.key_pem = buf_span(&identity.key_pem);
        }
        ck_assert_int_eq(rpc_credentials_new(&credentials, &tls), 0);
    }
    const struct rpc_channel_options options = { .target = target,
                                                 .credentials = credentials,
                                                 .metadata = header,
                                                 .n_metadata = header != NULL };
    ck_assert_int_eq(rpc_channel_new(&channel, hub.queue, &options), 0);
    (void) rpc_credentials_free(credentials);
    tls_identity_deinit(&identity);
    return channel;
}

static struct rpc_channel *channel_of(const char *directory)
{
    return channel_with(directory, NULL);
}

struct rpc_channel *hub_with_header(const char *key, const char *value)
{
    const struct rpc_metadata header = { key, value };

    return channel_with(NULL, &header);
}

struct rpc_channel *hub_enrol(const char *name)
{
    const struct pki_issue issue = { .kind = PKI_AGENT, .name = name, .directory = at(name) };
    struct tls_why why = { "" };

    ck_assert_msg(pki_issue_identity(hub.pki, &issue, &why) == 0, "%s", why.text);
    return channel_of(at(name));
}

void hub_revoke(const char *name)
{
    struct tls_identity identity = { 0 };
    struct tls_facts facts;
    struct tls_cert *cert = NULL;
    struct tls_why why = { "" };
    struct pki_row row = { 0 };

    ck_assert_int_eq(tls_identity_load(at(name), &identity, &why), 0);
    ck_assert_int_eq(tls_cert_parse_pem(&cert, buf_span(&identity.chain_pem)), 0);
    ck_assert_int_eq(tls_cert_read(cert, &facts), 0);
    (void) tls_cert_free(cert);
    tls_identity_deinit(&identity);
    ck_assert_int_eq(pki_recheck(hub.pki, facts.sha256, clock_wall(), &row.identity), 0);
    row.identity.state = PKI_REVOKED;
    const struct pki_change change = { .rows = &row, .n_rows = 1 };
    ck_assert_int_eq(pki_registry_change(hub.store, &change), 0);
    ck_assert_int_eq(pki_refresh(hub.pki), 0);
}

void hub_start(void)
{
    ck_assert_int_eq(rpc_init(), 0);
    start_store();
    if (hub_options.has_audit)
        start_audit();
    if (!hub.is_insecure)
        start_pki();
    start_front();
    start_server();
    hub.nobody = channel_of(NULL);
    if (!hub.is_insecure) {
        hub.admin = channel_of(at("operators/admin"));
        hub.agent = hub_enrol("web-1");
    }
    front_set_state(hub.front, FRONT_SERVING);
}

void hub_start_insecure(void)
{
    hub.is_insecure = true;
    hub_start();
}

void hub_stop(void)
{
    hub.nobody = rpc_channel_free(hub.nobody);
    hub.admin = rpc_channel_free(hub.admin);
    hub.agent = rpc_channel_free(hub.agent);
    hub.queue = rpc_queue_free(hub.queue);
    hub.loop = loop_free(hub.loop);
    hub.server = rpc_server_free(hub.server);
    (void) rpc_credentials_free(hub.credentials);
    hub.pool = query_pool_free(hub.pool);
    store_stop(hub.store);
    hub.front = front_free(hub.front);
    hub.ingest = ingest_free(hub.ingest);
    hub.pki = pki_close(hub.pki);
    hub.quota = quota_close(hub.quota);
    hub.audit = audit_close(hub.audit);
    hub.store = store_close(hub.store);
    rpc_deinit();
    ck_assert_int_eq(file_remove_tree(hub.state), 0);
}

/* ---- one call ---- */

void reply_deinit(struct reply *reply)
{
    arena_deinit(&reply->arena);
}

static void note_status(struct reply *reply, const struct rpc_status *status)
{
    reply->code = status->code;
    (void) snprintf(reply->message, sizeof(reply->message), "%s",
                    status->message ? status->message : "");
    if (status->details.len > 0) {
        ck_assert_int_eq(wire_error_unpack(status->details, &reply->arena, &reply->error), 0);
        ck_assert_int_eq(reply->error.code, reply->code);
        ck_assert_str_eq(reply->error.message, reply->message);
    }
}

void ask_bytes(struct rpc_channel *channel,
               const char *path,
               struct span request,
               struct reply *ret)
{
    struct rpc_status status = { 0 };
    struct span response = { 0 };

    *ret = (struct reply){ 0 };
    arena_init(&ret->arena, 16 << 20);
    ck_assert_int_eq(
        rpc_client_unary(channel, path, request, 20000000, &ret->arena, &response, &status), 0);
    note_status(ret, &status);
    if (status.code == RPC_OK)
        ck_assert_int_eq(wire_unpack(wire_find_method(path)->response, response, &ret->arena,
                                     &ret->answer, NULL),
                         0);
}

void ask(struct rpc_channel *channel,
         const char *path,
         const ProtobufCMessage *request,
         struct reply *ret)
{
    struct buf packed = { 0 };

    ck_assert_int_eq(wire_pack(request, &packed), 0);
    ask_bytes(channel, path, buf_span(&packed), ret);
    buf_deinit(&packed);
}

/* ---- one stream ---- */

static void on_message(struct rpc_client_call *call, struct span message)
{
    struct test_peer *peer = rpc_client_call_ctx(call);

    ck_assert_uint_lt(peer->n_received, 64);
    ck_assert_int_eq(wire_unpack(peer->response, message, &peer->reply.arena,
                                 &peer->received[peer->n_received], NULL),
                     0);
    peer->n_received++;
    if (!peer->is_holding)
        rpc_client_call_read(call);
}

static void on_closed(struct rpc_client_call *call, const struct rpc_status *status)
{
    struct test_peer *peer = rpc_client_call_ctx(call);

    note_status(&peer->reply, status);
    peer->is_closed = true;
}

static const struct rpc_client_handler handler = { .on_message = on_message,
                                                   .on_closed = on_closed };

void peer_open(struct test_peer *peer, struct rpc_channel *channel, const char *path)
{
    const struct rpc_client_call_options options = {
        .path = path, .timeout_us = 60000000, .handler = &handler, .ctx = peer
    };
    const struct wire_method *method = wire_find_method(path);

    *peer = (struct test_peer){ .response = method ? method->response : NULL };
    arena_init(&peer->reply.arena, 64 << 20);
    ck_assert_int_eq(rpc_client_call_new(&peer->call, channel, &options), 0);
    rpc_client_call_read(peer->call);
}

void peer_send(struct test_peer *peer, const ProtobufCMessage *message)
{
    struct buf packed = { 0 };
    int r;

    ck_assert_int_eq(wire_pack(message, &packed), 0);
    r = rpc_client_call_send(peer->call, buf_span(&packed));
    ck_assert(r == RPC_DONE || r == RPC_CLOSED);
    buf_deinit(&packed);
}

void peer_read(struct test_peer *peer)
{
    peer->is_holding = false;
    rpc_client_call_read(peer->call);
}

void peer_half_close(struct test_peer *peer)
{
    rpc_client_call_half_close(peer->call);
}

void peer_wait_closed(struct test_peer *peer)
{
    hub_until(peer->is_closed);
}

void peer_deinit(struct test_peer *peer)
{
    peer->call = rpc_client_call_unref(peer->call);
    reply_deinit(&peer->reply);
}
