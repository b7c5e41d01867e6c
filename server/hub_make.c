/* SPDX-License-Identifier: Apache-2.0 */
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/text.h"
#include "common/crypto/crypto.h"
#include "common/log/log.h"
#include "common/rpc/rpc.h"
#include "common/rpc/server/server.h"
#include "server/hub_inside.h"
#include "server/limits.h"
#include "server/remote_write.h"

#define MAX_THREADS 64
#define MAX_MESSAGE_BYTES (4U << 20)
#define ARENA_TOTAL_BYTES (UINT64_C(256) << 20)
#define MAX_STREAMS_PER_CONNECTION 128
#define SEND_QUEUE_BYTES (1U << 20)
#define MAX_WAITING_QUERIES 256

/* ---- what modules ask and tell ---- */

/* Zero before there is a server; the web asks from the start. */
static void get_accept_stats(struct hub *hub, struct rpc_accept_stats *ret)
{
    *ret = (struct rpc_accept_stats){ .n_accepted = 0 };
    pthread_mutex_lock(&hub->shared.lock);
    if (hub->shared.server)
        rpc_server_accept_stats(hub->shared.server, ret);
    pthread_mutex_unlock(&hub->shared.lock);
}

static void on_get_status(void *ctx, struct front_status *ret)
{
    struct hub *hub = ctx;
    struct web_stats stats;

    pthread_mutex_lock(&hub->shared.lock);
    *ret = hub->shared.status;
    pthread_mutex_unlock(&hub->shared.lock);
    get_accept_stats(hub, &ret->grpc);
    if (hub->web) {
        web_get_stats(hub->web, &stats);
        ret->https_handshakes_failed = stats.n_handshakes_failed;
    }
}

static void on_get_web_status(void *ctx, struct web_status *ret)
{
    struct hub *hub = ctx;

    pthread_mutex_lock(&hub->shared.lock);
    ret->started = hub->shared.status.started;
    ret->certificate_expires = hub->shared.status.certificate_expires;
    ret->certificates_expiring = hub->shared.status.certificates_expiring;
    pthread_mutex_unlock(&hub->shared.lock);
    get_accept_stats(hub, &ret->grpc);
    ret->security = settings_security_names[hub->at_start.security];
    ret->remote_write = (struct web_remote_write){ .is_up = false };
    if (hub->export)
        remote_write_tell(hub->export, &ret->remote_write);
}

static bool on_is_connected(void *ctx, uint32_t agent)
{
    struct hub *hub = ctx;

    return ingest_is_connected(hub->ingest, agent);
}

/* Both on a writer's thread: only a note for the loop. */
static void on_fatal(void *ctx)
{
    struct hub *hub = ctx;

    atomic_store(&hub->has_store_failed, true);
    loop_wakeup_fire(&hub->store_wakeup);
}

static void on_full(void *ctx, bool is_full)
{
    struct hub *hub = ctx;

    atomic_store(&hub->is_store_full, is_full);
    loop_wakeup_fire(&hub->store_wakeup);
}

int hub_refuse(int outcome, const char *reason)
{
    log_event(LOG_ERROR, "start_failed", LOG_S("reason", reason));
    return outcome;
}

static unsigned count_threads(uint64_t wanted)
{
    cpu_set_t cores;
    unsigned n = wanted > 0 ? (unsigned) wanted : 1;

    if (wanted == 0 && sched_getaffinity(0, sizeof(cores), &cores) == 0)
        n = (unsigned) CPU_COUNT(&cores);
    return n < 1 ? 1 : n > MAX_THREADS ? MAX_THREADS : n;
}

/* ---- store, identities, rules ---- */

static int open_store(struct hub *hub)
{
    const struct settings *settings = &hub->settings;
    const struct store_options options = {
        .directory = hub->database,
        .segment_bytes = settings->journal_segment_size,
        .queue_bytes = settings->journal_queue_size,
        .journal_bytes = settings->journal_size,
        .seal_age_us = settings->store_seal_age,
        .day_bytes = settings->store_day_size,
        .retention_us = settings->retention,
        .retention_bytes = settings->retention_size,
        .logs_retention_us = settings->logs_retention,
        .logs_retention_bytes = settings->logs_retention_size,
        .follow_bytes = settings->remote_write_max_journal,
        .follow = settings->remote_write_url[0] ? EXPORT_FOLLOWER : NULL,
        .retention_1m_us = settings->rollup_retention_1m,
        .retention_1h_us = settings->rollup_retention_1h,
        .inventory_revisions = (uint32_t) settings->inventory_revisions,
        .inventory_retention_us = settings->inventory_retention,
        .inventory_bytes = settings->inventory_max_size,
        .full_percent = (uint32_t) settings->store_full_percent,
        .objects = limits_of_objects(settings),
        .on_fatal = on_fatal,
        .on_full = on_full,
        .ctx = hub,
    };
    struct store_why why = { "" };
    struct tls_why unfit = { "" };
    char text[512];

    /* First: a root who opens the directory of another user leaves files that this one cannot use.
     */
    int r = pki_check_state(hub->state, &unfit);
    if (r > 0)
        return hub_refuse(HUB_FAILED, unfit.text);
    if (r < 0)
        return pass(r);
    r = store_open(&hub->store, &options, &why);
    if (r <= 0)
        return pass(r);
    if (r == STORE_NOT_FOUND) {
        snprintf(
            text, sizeof(text),
            "there is no database in %.300s; make one with: sentinel-hub init --state-dir %.100s",
            hub->database, hub->state);
        return hub_refuse(HUB_NO_DATABASE, text);
    }
    return hub_refuse(HUB_FAILED, why.text);
}

static int open_pki(struct hub *hub)
{
    struct tls_why why = { "" };

    if (hub->settings.security == SETTINGS_INSECURE)
        return 0;
    const struct pki_options options = { .state_directory = hub->state,
                                         .ca_key_file = hub->settings.ca_key_file,
                                         .lives = limits_of_pki(&hub->settings),
                                         .takes_seed_signatures =
                                             hub->settings.bearer_seed_signatures };
    int r = pki_open_with(&hub->pki, hub->store, &options, &why);
    if (r > 0)
        return hub_refuse(r == PKI_ABSENT ? HUB_NO_DATABASE : HUB_FAILED, why.text);
    if (r < 0)
        return pass(r);
    hub->generation = pki_generation(hub->pki);
    hub->ca_version = pki_ca_version(hub->pki);
    return 0;
}

static int make_middle(struct hub *hub)
{
    const struct settings *settings = &hub->settings;
    const struct uploads_limits uploads = limits_of_uploads(settings);
    struct ingest_limits limits;

    limits_of_ingest(settings, &limits);
    int r = ingest_new(&hub->ingest, hub->store, &limits);
    if (r == 0)
        r = uploads_new(&hub->uploads, hub->store, &uploads);
    if (r == 0)
        r = query_pool_new(&hub->pool, 0, MAX_WAITING_QUERIES);
    if (r != 0)
        return pass(r);
    hub->query = (struct query){
        .store = hub->store,
        .is_connected = on_is_connected,
        .ctx = hub,
        .max_samples = 50000000,
        .window_samples = 24,
        .max_points = 200000,
        .max_series = 5000,
        .max_inventory_bytes = UINT64_C(1) << 30,
        .logs_budget_bytes = settings->query_logs_budget,
    };
    crypto_random(hub->query.token_key, sizeof(hub->query.token_key));
    const struct front_options options = {
        .store = hub->store,
        .audit = hub->audit,
        .quota = hub->quota,
        .pki = hub->pki,
        .ingest = hub->ingest,
        .uploads = hub->uploads,
        .pool = hub->pool,
        .query = &hub->query,
        .is_insecure = settings->security == SETTINGS_INSECURE,
        .reflection_for_all = settings->reflection_for_all,
        .max_message_bytes = MAX_MESSAGE_BYTES,
        .arena_total_bytes = ARENA_TOTAL_BYTES,
        .default_interval_ms = (uint32_t) (settings->agents_interval / 1000),
        .reconnect_spread_ms = (uint32_t) (settings->agents_reconnect_spread / 1000),
        .state_directory = hub->state,
        .program = "/proc/self/exe",
        .get_status = on_get_status,
        .reload = hub_reload_ask,
        .ctx = hub,
    };
    return fold(front_new(&hub->front, &options));
}

void hub_show_certificate(struct hub *hub)
{
    pthread_mutex_lock(&hub->shared.lock);
    hub->shared.status.certificate_expires = hub->certificate.end;
    pthread_mutex_unlock(&hub->shared.lock);
    if (hub->web)
        web_set_context(hub->web, hub->certificate.context);
}

static int load_certificate(struct hub *hub)
{
    struct tls_why why = { "" };

    if (!hub->pki)
        return 0;
    hub->certificate.state = hub->state;
    hub->certificate.pki = hub->pki;
    int r = certificate_start(&hub->certificate, &hub->settings, &why);
    if (r > 0)
        return hub_refuse(HUB_FAILED, why.text);
    if (r == 0)
        hub_show_certificate(hub);
    return pass(r);
}

void hub_set_address(struct hub *hub)
{
    CLEANUP(buf_deinit) struct buf address = { 0 };
    const char *name = hub->pki ? pki_first_name(hub->pki) : "localhost";
    const bool is_v6 = strchr(name, ':') != NULL;

    if (hub->settings.public_address[0])
        buf_append_text(&address, hub->settings.public_address);
    else
        buf_printf(&address, "%s%s%s:%u", is_v6 ? "[" : "", name, is_v6 ? "]" : "",
                   (unsigned) rpc_server_port(hub->server));
    front_set_address(hub->front, buf_text(&address));
}

static int listen_grpc(struct hub *hub)
{
    const struct settings *settings = &hub->settings;
    struct peer_nets proxies;
    const struct rpc_server_options options = {
        .address = settings->listen_grpc,
        .credentials = hub->certificate.credentials,
        .n_threads = count_threads(settings->threads),
        .max_message_bytes = MAX_MESSAGE_BYTES,
        .max_streams_per_connection = MAX_STREAMS_PER_CONNECTION,
        .keepalive_interval_us = settings->keepalive_interval,
        .keepalive_timeout_us = settings->keepalive_timeout,
        .min_ping_interval_us = settings->keepalive_min_ping_interval,
        .send_queue_bytes = SEND_QUEUE_BYTES,
        .accept = limits_of_accept(settings),
        .trusted_proxies = &proxies,
        .door = hub_door(hub),
        .route = front_route,
        .ctx = hub->front,
    };
    char text[256];

    limits_of_proxies(settings, &proxies);
    int r = rpc_server_new(&hub->server, &options);
    if (r == RPC_IN_USE) {
        snprintf(text, sizeof(text),
                 "cannot listen on %.100s: it is taken, or not an address of this machine; give "
                 "another with --listen-grpc",
                 settings->listen_grpc);
        return hub_refuse(HUB_FAILED, text);
    }
    if (r == 0) {
        hub_set_address(hub);
        r = rpc_server_start(hub->server);
    }
    pthread_mutex_lock(&hub->shared.lock);
    hub->shared.server = hub->server;
    pthread_mutex_unlock(&hub->shared.lock);
    return fold(r);
}

/* Before gRPC, whose calls ask for the web's figures; it answers after web_start(). */
static int listen_https(struct hub *hub)
{
    const struct settings *settings = &hub->settings;
    struct web_options options = {
        .context = hub->certificate.context,
        .store = hub->store,
        .audit = hub->audit,
        .quota = hub->quota,
        .pki = hub->pki,
        .ingest = hub->ingest,
        .pool = hub->pool,
        .door = hub_door(hub),
        .get_status = on_get_web_status,
        .ctx = hub,
    };
    char host[256], text[256];

    if (!settings_serves_https(settings))
        return 0;
    int r = settings_split_address(settings->listen_https, host, sizeof(host), &options.port);
    ensure(r == 0); /* settings_load() checked it */
    options.host = host;
    limits_of_web(settings, &options.limits);
    r = web_new(&hub->web, &options);
    if (r == WEB_IN_USE) {
        snprintf(text, sizeof(text),
                 "cannot listen on %.100s: it is taken, or not an address of this machine; give "
                 "another with --listen-https, or --listen-https off",
                 settings->listen_https);
        return hub_refuse(HUB_FAILED, text);
    }
    return fold(r);
}

/* Before the web, which has its figures. */
static int make_export(struct hub *hub)
{
    struct tls_why why = { "" };
    int r;

    if (!hub->settings.remote_write_url[0])
        return 0;
    r = remote_write_new(&hub->export, hub->store, &hub->settings, &why);
    return r > 0 ? hub_refuse(HUB_FAILED, why.text) : pass(r);
}

/* ADDRESS:PORT with the port that is listened on. */
static void put_address(struct buf *to, const char *listen, uint16_t port)
{
    char host[256];
    uint16_t wanted;

    int r = settings_split_address(listen, host, sizeof(host), &wanted);
    ensure(r == 0); /* settings_load() checked it */
    bool is_v6 = strchr(host, ':') != NULL;
    buf_printf(to, "%s%s%s:%u", is_v6 ? "[" : "", host, is_v6 ? "]" : "", (unsigned) port);
}

int hub_make_modules(struct hub *hub)
{
    int r = open_store(hub);

    if (r == 0)
        r = hub_make_audit(hub);
    if (r == 0)
        r = open_pki(hub);
    if (r == 0)
        r = fold(audit_start(hub->audit)); /* who signs for it is there now */
    if (r == 0)
        r = make_middle(hub);
    return pass(r);
}

int hub_make_listeners(struct hub *hub)
{
    int r = rpc_init();

    hub->is_rpc_up = r == 0;
    if (r == 0)
        r = load_certificate(hub);
    if (r == 0)
        r = make_export(hub);
    if (r == 0)
        r = listen_https(hub);
    if (r == 0)
        r = listen_grpc(hub);
    if (r == 0 && hub->web)
        r = web_start(hub->web);
    if (r == 0 && hub->export)
        r = export_start(hub->export);
    return pass(r);
}

/* ---- the word ---- */

static void say_ready(const struct hub *hub)
{
    CLEANUP(buf_deinit) struct buf line = { 0 };

    buf_append_text(&line, "ready grpc=");
    put_address(&line, hub->settings.listen_grpc, rpc_server_port(hub->server));
    buf_append_text(&line, " https=");
    if (hub->web)
        put_address(&line, hub->settings.listen_https, web_port(hub->web));
    else
        buf_append_text(&line, "off");
    buf_append_text(&line, "\n");
    if (write(STDERR_FILENO, buf_text(&line), line.len) < 0)
        log_plain(LOG_WARN, "stderr_is_closed");
}

/* In development keys in the clear are usual. */
static void say_keys(const struct hub *hub)
{
    const bool is_production = hub->settings.security == SETTINGS_PRODUCTION;
    struct pki_ca_status status;

    if (pki_ca_get_status(hub->pki, &status) != 0)
        return; /* the fault is in the log */
    if (!status.is_sealed)
        log_event(is_production ? LOG_WARN : LOG_INFO, "ca_keys_unsealed",
                  LOG_S("reason", "the CA's keys lie in the clear in the state directory"),
                  LOG_S("remedy", "sentinel-hub seal-keys --ca-key-file FILE, then ca.key_file"));
    if (status.phase != PKI_CA_STEADY)
        log_event(LOG_INFO, "ca_rotation_under_way",
                  LOG_S("phase", pki_ca_phase_name(status.phase)), LOG_U("ready", status.n_ready),
                  LOG_U("agents", status.n_agents));
}

static void say_start(const struct hub *hub)
{
    const struct settings *settings = &hub->settings;

    log_event(LOG_INFO, "started", LOG_S("version", SENTINEL_VERSION),
              LOG_S("security", settings_security_names[settings->security]),
              LOG_S("state_dir", hub->state), LOG_U("threads", count_threads(settings->threads)));
    if (settings->security == SETTINGS_INSECURE)
        log_event(LOG_WARN, "insecure", LOG_S("address", settings->listen_grpc),
                  LOG_S("reason",
                        "PLAINTEXT AND NO AUTHENTICATION: everybody on this machine is an "
                        "administrator of this hub; never use it for real data"));
    else
        say_keys(hub);
}

void hub_say_ready(const struct hub *hub)
{
    say_start(hub);
    say_ready(hub);
}
