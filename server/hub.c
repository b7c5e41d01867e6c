/* SPDX-License-Identifier: Apache-2.0 */
#include "server/hub.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/text.h"
#include "common/crypto/crypto.h"
#include "common/log/log.h"
#include "common/loop/loop.h"
#include "common/rpc/rpc.h"
#include "common/rpc/server/server.h"
#include "server/certificate.h"
#include "server/export/export.h"
#include "server/front/front.h"
#include "server/ingest/ingest.h"
#include "server/limits.h"
#include "server/pki/pki.h"
#include "server/query/query.h"
#include "server/remote_write.h"
#include "server/store/store.h"
#include "server/web/web.h"

#define SECOND_US INT64_C(1000000)
#define REGISTRY_EVERY_US (SECOND_US / 10)
#define DRAIN_LOOK_US (SECOND_US / 20)
#define CERTIFICATE_EVERY_US (60 * SECOND_US)
#define EXPORT_PATIENCE_US (2 * SECOND_US) /* for the answer to a request under way */
#define FATAL_PATIENCE_US (2 * SECOND_US)
#define MAX_THREADS 64
#define MAX_MESSAGE_BYTES (4U << 20)
#define ARENA_TOTAL_BYTES (UINT64_C(256) << 20)
#define MAX_STREAMS_PER_CONNECTION 128
#define SEND_QUEUE_BYTES (1U << 20)
#define MAX_WAITING_QUERIES 256

struct hub {
    /* Made in this order, freed in the other. */
    struct loop *loop;
    struct store *store;
    struct pki *pki; /* NULL: insecure */
    struct ingest *ingest;
    struct query query;
    struct query_pool *pool;
    struct front *front;
    bool is_rpc_up;
    struct certificate certificate; /* without credentials: insecure */
    struct rpc_server *server;
    struct web *web;       /* NULL: listen.https is off */
    struct export *export; /* NULL: there is no remote_write.url */

    const struct settings_sources *sources;
    struct settings at_start; /* what needs a restart is taken from here */
    struct settings settings; /* as of the last reload */
    char state[4096];
    char database[4200];

    struct loop_signals signals;
    struct loop_timer registry_timer, certificate_timer, drain_timer;
    struct loop_wakeup store_wakeup;
    uint64_t generation; /* of the registry that front was told last */
    mono_us drain_due;   /* when what is open is cut */
    bool is_draining;
    int outcome;

    /* Set by the store's writers, read by the loop. */
    atomic_bool has_store_failed, is_store_full;

    struct {
        pthread_mutex_t lock;
        struct front_status status;
    } shared;
};

/* ---- status and the store's word ---- */

static void on_get_status(void *ctx, struct front_status *ret)
{
    struct hub *hub = ctx;
    struct web_stats stats;

    pthread_mutex_lock(&hub->shared.lock);
    *ret = hub->shared.status;
    pthread_mutex_unlock(&hub->shared.lock);
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
    pthread_mutex_unlock(&hub->shared.lock);
    ret->grpc_handshakes_failed = rpc_handshakes_failed();
    ret->security = settings_security_names[hub->at_start.security];
    ret->remote_write = (struct web_remote_write){ .is_up = false };
    if (hub->export)
        remote_write_tell(hub->export, &ret->remote_write);
}

/* What both listeners say of us. */
static void set_state(struct hub *hub, enum front_state state)
{
    static const enum web_state states[] = {
        [FRONT_STARTING] = WEB_STARTING, [FRONT_SERVING] = WEB_SERVING, [FRONT_FULL] = WEB_FULL,
        [FRONT_DRAINING] = WEB_DRAINING, [FRONT_FAILED] = WEB_FAILED,
    };

    front_set_state(hub->front, state);
    if (hub->web)
        web_set_state(hub->web, states[state]);
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

static int note_settings(struct hub *hub)
{
    char digest[65];

    int r = settings_digest(&hub->settings, digest);
    if (r != 0)
        return pass(r);
    pthread_mutex_lock(&hub->shared.lock);
    struct front_status *status = &hub->shared.status;
    status->settings_loaded = clock_wall();
    memcpy(status->settings_sha256, digest, sizeof(digest));
    snprintf(status->security, sizeof(status->security), "%s",
             settings_security_names[hub->at_start.security]);
    pthread_mutex_unlock(&hub->shared.lock);
    return 0;
}

static void apply_log(const struct settings *settings)
{
    const struct log_options options = {
        .level = (enum log_level) settings->log_level,
        .format = (enum log_format) settings->log_format,
        .fd = STDERR_FILENO,
    };

    log_init(&options);
}

/* ---- certificates ---- */

static void show_certificate(struct hub *hub)
{
    pthread_mutex_lock(&hub->shared.lock);
    hub->shared.status.certificate_expires = hub->certificate.end;
    pthread_mutex_unlock(&hub->shared.lock);
    if (hub->web)
        web_set_context(hub->web, hub->certificate.context);
}

/* ---- reload ---- */

static void say_reload_failed(const char *reason)
{
    log_event(LOG_ERROR, "reload_failed", LOG_S("reason", reason),
              LOG_S("kept", "the settings and certificates from before"));
}

/* Certificates and keys, all or none: those of remote_write are read before the listener's change.
 * Outcomes: of a kind that ret_why tells. */
static int replace_material(struct hub *hub, const struct settings *fresh, struct tls_why *ret_why)
{
    struct export_way way = { .context = NULL };
    int r = 0;

    if (hub->export)
        r = remote_write_way_again(&hub->at_start, fresh, &way, ret_why);
    if (r == 0 && hub->certificate.credentials)
        r = certificate_replace(&hub->certificate, fresh, ret_why);
    if (r == 0 && hub->export)
        r = export_set_way(hub->export, &way);
    tls_context_unref(way.context);
    return pass(r);
}

static void reload(struct hub *hub)
{
    struct settings fresh;
    struct conf_error error = { "" };
    struct tls_why why = { "" };
    CLEANUP(buf_deinit) struct buf fixed = { 0 };

    int r = settings_load(&fresh, hub->sources, &error);
    if (r != 0) {
        say_reload_failed(r > 0 ? error.text : "see the fault above");
        return;
    }
    r = replace_material(hub, &fresh, &why);
    if (r != 0) {
        say_reload_failed(r > 0 ? why.text : "see the fault above");
        settings_free(&fresh);
        return;
    }
    settings_free(&hub->settings);
    hub->settings = fresh;
    if (hub->certificate.credentials)
        show_certificate(hub);

    struct ingest_limits limits;
    struct web_limits web_limits;
    apply_log(&hub->settings);
    limits_of_ingest(&hub->settings, &limits);
    ingest_set_limits(hub->ingest, &limits);
    limits_of_web(&hub->settings, &web_limits);
    if (hub->web)
        web_set_limits(hub->web, &web_limits);
    store_set_retention(hub->store, hub->settings.retention, hub->settings.retention_size);
    store_set_rollup_retention(hub->store, hub->settings.rollup_retention_1m,
                               hub->settings.rollup_retention_1h);
    if (note_settings(hub) != 0)
        log_plain(LOG_WARN, "status_is_stale");
    conf_diff_fixed(&settings_table, &hub->at_start, &hub->settings, &fixed);
    if (fixed.len > 0)
        log_event(LOG_WARN, "reloaded", LOG_S("needs_restart", buf_text(&fixed)));
    else
        log_event(LOG_INFO, "reloaded", LOG_S("settings", hub->shared.status.settings_sha256));
}

/* ---- stop ---- */

static uint64_t open_calls(const struct hub *hub)
{
    struct rpc_server_stats stats = rpc_server_stats(hub->server);

    return stats.calls_opened - stats.calls_closed;
}

static void say_cut(const struct hub *hub, const char *reason)
{
    log_event(LOG_WARN, "drain_cut", LOG_S("reason", reason), LOG_U("calls", open_calls(hub)));
}

static void on_drain_timer(struct loop_timer *timer)
{
    struct hub *hub = timer->ctx;
    bool is_over = open_calls(hub) == 0;

    if (!is_over && clock_mono().us >= hub->drain_due.us) {
        say_cut(hub, "timeout");
        is_over = true;
    }
    if (is_over || loop_timer_arm_in(hub->loop, timer, DRAIN_LOOK_US) != 0)
        loop_stop(hub->loop);
}

/* Starts the drain; the loop ends when no call is open, or at `patience_us`. */
static void drain(struct hub *hub, int64_t patience_us)
{
    hub->is_draining = true;
    hub->drain_due.us = clock_mono().us + patience_us;
    set_state(hub, hub->outcome == HUB_OK ? FRONT_DRAINING : FRONT_FAILED);
    rpc_server_stop(hub->server);
    if (hub->web)
        web_stop(hub->web, patience_us);
    if (hub->export)
        export_stop(hub->export,
                    patience_us < EXPORT_PATIENCE_US ? patience_us : EXPORT_PATIENCE_US);
    if (loop_timer_arm_in(hub->loop, &hub->drain_timer, 0) != 0)
        loop_stop(hub->loop);
}

static void on_signal(struct loop_signals *signals, int number)
{
    struct hub *hub = signals->ctx;

    if (number == SIGHUP) {
        if (hub->is_draining)
            say_reload_failed("the hub is stopping");
        else
            reload(hub);
        return;
    }
    if (!hub->is_draining) {
        log_event(LOG_INFO, "draining", LOG_S("signal", number == SIGINT ? "SIGINT" : "SIGTERM"),
                  LOG_U("calls", open_calls(hub)),
                  LOG_I("patience_ms", hub->settings.drain_timeout / 1000));
        drain(hub, hub->settings.drain_timeout);
        return;
    }
    say_cut(hub, "second signal");
    hub->drain_due = clock_mono();
    loop_stop(hub->loop);
}

static void on_store_word(struct loop_wakeup *wakeup)
{
    struct hub *hub = wakeup->ctx;

    if (hub->is_draining) {
        if (atomic_load(&hub->has_store_failed))
            hub->outcome = HUB_FAILED;
        return;
    }
    if (atomic_load(&hub->has_store_failed)) {
        log_event(LOG_ERROR, "store_failed", LOG_S("path", hub->database),
                  LOG_S("remedy", "nothing more is acknowledged. Check the disk (dmesg, SMART) and "
                                  "its file system, then start the hub again: what was "
                                  "acknowledged is on disk, agents send the rest again"));
        hub->outcome = HUB_FAILED;
        drain(hub, FATAL_PATIENCE_US);
        return;
    }
    bool is_full = atomic_load(&hub->is_store_full);
    set_state(hub, is_full ? FRONT_FULL : FRONT_SERVING);
    if (is_full)
        log_event(LOG_ERROR, "store_full", LOG_S("path", hub->database),
                  LOG_S("remedy", "free space on this disk, or do what seal_has_no_room says; "
                                  "the hub goes on by itself"));
    else
        log_event(LOG_INFO, "store_has_room_again", LOG_S("path", hub->database));
}

/* ---- timers ---- */

static void on_registry_timer(struct loop_timer *timer)
{
    struct hub *hub = timer->ctx;

    /* A fault is in the log; the registry in memory stays, and the next tick tries again. */
    if (pki_refresh(hub->pki) == 0) {
        uint64_t generation = pki_generation(hub->pki);
        if (generation != hub->generation) {
            hub->generation = generation;
            front_registry_changed(hub->front);
        }
    }
    if (loop_timer_arm_in(hub->loop, timer, REGISTRY_EVERY_US) != 0)
        loop_stop(hub->loop);
}

static void on_certificate_timer(struct loop_timer *timer)
{
    struct hub *hub = timer->ctx;

    if (certificate_look_after(&hub->certificate, &hub->settings, clock_wall(), clock_mono()))
        show_certificate(hub);
    if (loop_timer_arm_in(hub->loop, timer, CERTIFICATE_EVERY_US) != 0)
        loop_stop(hub->loop);
}

/* ---- start ---- */

static int refuse(int outcome, const char *reason)
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

/* The loop first: its signals are blocked before other threads are made. */
static int start_loop(struct hub *hub)
{
    static const int numbers[] = { SIGTERM, SIGINT, SIGHUP, 0 };

    int r = loop_new(&hub->loop);
    if (r != 0)
        return pass(r);
    hub->signals = (struct loop_signals){ .fn = on_signal, .ctx = hub };
    hub->store_wakeup = (struct loop_wakeup){ .fn = on_store_word, .ctx = hub };
    hub->registry_timer = (struct loop_timer){ .fn = on_registry_timer, .ctx = hub };
    hub->certificate_timer = (struct loop_timer){ .fn = on_certificate_timer, .ctx = hub };
    hub->drain_timer = (struct loop_timer){ .fn = on_drain_timer, .ctx = hub };
    r = loop_signals_add(hub->loop, &hub->signals, numbers);
    if (r == 0)
        r = loop_wakeup_add(hub->loop, &hub->store_wakeup);
    return pass(r);
}

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
        .follow_bytes = settings->remote_write_max_journal,
        .follow = settings->remote_write_url[0] ? EXPORT_FOLLOWER : NULL,
        .retention_1m_us = settings->rollup_retention_1m,
        .retention_1h_us = settings->rollup_retention_1h,
        .full_percent = (uint32_t) settings->store_full_percent,
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
        return refuse(HUB_FAILED, unfit.text);
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
        return refuse(HUB_NO_DATABASE, text);
    }
    return refuse(HUB_FAILED, why.text);
}

static int open_pki(struct hub *hub)
{
    struct tls_why why = { "" };

    if (hub->settings.security == SETTINGS_INSECURE)
        return 0;
    int r = pki_open(&hub->pki, hub->store, hub->state, &why);
    if (r > 0)
        return refuse(r == PKI_ABSENT ? HUB_NO_DATABASE : HUB_FAILED, why.text);
    if (r < 0)
        return pass(r);
    hub->generation = pki_generation(hub->pki);
    return 0;
}

static int make_modules(struct hub *hub)
{
    const struct settings *settings = &hub->settings;
    struct ingest_limits limits;

    limits_of_ingest(settings, &limits);
    int r = ingest_new(&hub->ingest, hub->store, &limits);
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
    };
    crypto_random(hub->query.token_key, sizeof(hub->query.token_key));
    const struct front_options options = {
        .store = hub->store,
        .pki = hub->pki,
        .ingest = hub->ingest,
        .pool = hub->pool,
        .query = &hub->query,
        .is_insecure = settings->security == SETTINGS_INSECURE,
        .reflection_for_all = settings->reflection_for_all,
        .max_message_bytes = MAX_MESSAGE_BYTES,
        .arena_total_bytes = ARENA_TOTAL_BYTES,
        .default_interval_ms = (uint32_t) (settings->agents_interval / 1000),
        .reconnect_spread_ms = (uint32_t) (settings->agents_reconnect_spread / 1000),
        .get_status = on_get_status,
        .ctx = hub,
    };
    return fold(front_new(&hub->front, &options));
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
        return refuse(HUB_FAILED, why.text);
    if (r == 0)
        show_certificate(hub);
    return pass(r);
}

static int listen_grpc(struct hub *hub)
{
    const struct settings *settings = &hub->settings;
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
        .route = front_route,
        .ctx = hub->front,
    };
    char text[256];

    int r = rpc_server_new(&hub->server, &options);
    if (r == RPC_IN_USE) {
        snprintf(text, sizeof(text),
                 "cannot listen on %.100s: it is taken, or not an address of this machine; give "
                 "another with --listen-grpc",
                 settings->listen_grpc);
        return refuse(HUB_FAILED, text);
    }
    if (r == 0)
        r = rpc_server_start(hub->server);
    return fold(r);
}

/* Before gRPC, whose calls ask for the web's figures; it answers after web_start(). */
static int listen_https(struct hub *hub)
{
    const struct settings *settings = &hub->settings;
    struct web_options options = {
        .context = hub->certificate.context,
        .store = hub->store,
        .pki = hub->pki,
        .ingest = hub->ingest,
        .pool = hub->pool,
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
        return refuse(HUB_FAILED, text);
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
    return r > 0 ? refuse(HUB_FAILED, why.text) : pass(r);
}

static int arm_timers(struct hub *hub)
{
    if (!hub->pki)
        return 0;
    int r = loop_timer_arm_in(hub->loop, &hub->registry_timer, REGISTRY_EVERY_US);
    if (r == 0) /* the first look at once: a short life may be nearly over */
        r = loop_timer_arm_in(hub->loop, &hub->certificate_timer, 0);
    return pass(r);
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

/* The line that scripts wait for: nothing else shares it. */
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
}

static int start(struct hub *hub)
{
    int r = start_loop(hub);

    if (r == 0)
        r = note_settings(hub);
    if (r == 0)
        r = open_store(hub);
    if (r == 0)
        r = open_pki(hub);
    if (r == 0)
        r = make_modules(hub);
    if (r != 0)
        return pass(r);
    r = rpc_init();
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
    if (r == 0)
        r = arm_timers(hub);
    if (r != 0)
        return pass(r);
    set_state(hub, FRONT_SERVING);
    say_start(hub);
    say_ready(hub);
    return 0;
}

/* ---- end ---- */

/* What is left of the drain's. */
static int64_t patience_of(const struct hub *hub)
{
    int64_t patience_us = hub->is_draining ? hub->drain_due.us - clock_mono().us : 0;

    return patience_us > 0 ? patience_us : 0;
}

static void stop(struct hub *hub)
{
    if (hub->server) {
        if (!hub->is_draining)
            rpc_server_stop(hub->server);
        rpc_server_join(hub->server, patience_of(hub));
    }
    if (hub->web) {
        web_stop(hub->web, patience_of(hub));
        web_join(hub->web);
    }
    if (hub->export) {
        export_stop(hub->export, 0); /* it had its patience while others drained */
        export_join(hub->export);
    }
    hub->pool = query_pool_free(hub->pool);
    hub->web = web_free(hub->web);
    hub->export = export_free(hub->export);
    hub->server = rpc_server_free(hub->server);
    certificate_deinit(&hub->certificate);
    if (hub->store)
        store_stop(hub->store);
    hub->front = front_free(hub->front);
    hub->ingest = ingest_free(hub->ingest);
    hub->pki = pki_close(hub->pki);
    hub->store = store_close(hub->store);
    if (hub->is_rpc_up)
        rpc_deinit();
    if (hub->loop) {
        loop_timer_disarm(hub->loop, &hub->registry_timer);
        loop_timer_disarm(hub->loop, &hub->certificate_timer);
        loop_timer_disarm(hub->loop, &hub->drain_timer);
        loop_wakeup_remove(hub->loop, &hub->store_wakeup);
        loop_signals_remove(hub->loop, &hub->signals);
        hub->loop = loop_free(hub->loop);
    }
    pthread_mutex_destroy(&hub->shared.lock);
    settings_free(&hub->settings);
    settings_free(&hub->at_start);
}

static int load_settings(struct hub *hub)
{
    struct conf_error error = { "" };

    int r = settings_load(&hub->settings, hub->sources, &error);
    if (r == 0)
        r = settings_load(&hub->at_start, hub->sources, &error);
    if (r == CONF_BAD)
        return refuse(HUB_BAD_SETTINGS, error.text);
    if (r != 0)
        return fold(r);
    apply_log(&hub->settings);
    const char *state = settings_state_directory(hub->settings.state_dir);
    int len = snprintf(hub->state, sizeof(hub->state), "%s", state);
    if (len < 0 || (size_t) len >= sizeof(hub->state))
        return refuse(HUB_BAD_SETTINGS, "state_dir: the path is too long");
    snprintf(hub->database, sizeof(hub->database), "%s/db", hub->state);
    return 0;
}

int hub_run(const struct settings_sources *sources)
{
    struct hub *hub = calloc(1, sizeof(*hub));

    if (!hub)
        return fault(-ENOMEM, "no memory for the hub");
    hub->sources = sources;
    pthread_mutex_init(&hub->shared.lock, NULL);
    hub->shared.status.started = clock_wall();
    int r = load_settings(hub);
    if (r == 0)
        r = start(hub);
    if (r == 0)
        r = loop_run(hub->loop);
    if (r == 0)
        r = hub->outcome;
    stop(hub);
    free(hub);
    if (r == 0)
        log_plain(LOG_INFO, "stopped");
    return r < 0 ? pass(r) : r;
}
