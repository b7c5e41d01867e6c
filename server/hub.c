/* SPDX-License-Identifier: Apache-2.0 */
#include "server/hub.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/fault.h"
#include "common/log/log.h"
#include "common/rpc/rpc.h"
#include "common/rpc/server/server.h"
#include "server/hub_inside.h"
#include "server/limits.h"
#include "server/remote_write.h"

#define SECOND_US INT64_C(1000000)
#define REGISTRY_EVERY_US (SECOND_US / 10)
#define DRAIN_LOOK_US (SECOND_US / 20)
#define CERTIFICATE_EVERY_US (60 * SECOND_US)
#define EXPORT_PATIENCE_US (2 * SECOND_US) /* for the answer to a request under way */
#define FATAL_PATIENCE_US (2 * SECOND_US)

/* ---- status and settings ---- */

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

/* ---- reload ---- */

static void say_reload_failed(const char *reason, struct front_reload *ret)
{
    snprintf(ret->why, sizeof(ret->why), "%s", reason);
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

static void reload_all(struct hub *hub, struct front_reload *ret)
{
    struct settings fresh;
    struct conf_error error = { "" };
    struct tls_why why = { "" };
    CLEANUP(buf_deinit) struct buf fixed = { 0 };

    int r = settings_load(&fresh, hub->sources, &error);
    if (r != 0) {
        say_reload_failed(r > 0 ? error.text : "see the fault above", ret);
        return;
    }
    r = replace_material(hub, &fresh, &why);
    if (r != 0) {
        say_reload_failed(r > 0 ? why.text : "see the fault above", ret);
        settings_free(&fresh);
        return;
    }
    settings_free(&hub->settings);
    hub->settings = fresh;
    if (hub->certificate.credentials)
        hub_show_certificate(hub);

    struct ingest_limits limits;
    struct web_limits web_limits;
    apply_log(&hub->settings);
    const struct pki_lives lives = limits_of_pki(&hub->settings);
    if (hub->pki)
        pki_set_lives(hub->pki, &lives);
    limits_of_ingest(&hub->settings, &limits);
    ingest_set_limits(hub->ingest, &limits);
    limits_of_web(&hub->settings, &web_limits);
    if (hub->web)
        web_set_limits(hub->web, &web_limits);
    const struct rpc_accept_limits accept = limits_of_accept(&hub->settings);
    rpc_server_set_accept(hub->server, &accept, &web_limits.proxies);
    store_set_retention(hub->store, hub->settings.retention, hub->settings.retention_size);
    store_set_logs_retention(hub->store, hub->settings.logs_retention,
                             hub->settings.logs_retention_size);
    store_set_rollup_retention(hub->store, hub->settings.rollup_retention_1m,
                               hub->settings.rollup_retention_1h);
    store_set_inventory_limits(hub->store, (uint32_t) hub->settings.inventory_revisions,
                               hub->settings.inventory_retention, hub->at_start.inventory_max_size);
    const struct store_object_limits objects = limits_of_objects(&hub->settings);
    store_objects_set_limits(hub->store, &objects);
    const struct uploads_limits uploads = limits_of_uploads(&hub->settings);
    uploads_set_limits(hub->uploads, &uploads);
    const struct audit_limits audit = limits_of_audit(&hub->settings);
    audit_set_limits(hub->audit, &audit);
    if (note_settings(hub) != 0)
        log_plain(LOG_WARN, "status_is_stale");
    hub_say_settings(hub);
    hub_set_address(hub);
    conf_diff_fixed(&settings_table, &hub->at_start, &hub->settings, &fixed);
    if (fixed.len > 0)
        snprintf(ret->needs_restart, sizeof(ret->needs_restart), "%s", buf_text(&fixed));
    if (fixed.len > 0)
        log_event(LOG_WARN, "reloaded", LOG_S("needs_restart", buf_text(&fixed)));
    else
        log_event(LOG_INFO, "reloaded", LOG_S("settings", hub->shared.status.settings_sha256));
}

void hub_reload(struct hub *hub, struct front_reload *ret)
{
    notify_reloading(&hub->notify);
    reload_all(hub, ret);
    notify_ready(&hub->notify,
                 ret->why[0] ? "serving; the last reload was refused, see the log" : "serving");
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
        struct front_reload done = { "" };

        if (hub->is_draining)
            say_reload_failed("the hub is stopping", &done);
        else
            hub_reload(hub, &done);
        return;
    }
    if (!hub->is_draining) {
        log_event(LOG_INFO, "draining", LOG_S("signal", number == SIGINT ? "SIGINT" : "SIGTERM"),
                  LOG_U("calls", open_calls(hub)),
                  LOG_I("patience_ms", hub->settings.drain_timeout / 1000));
        notify_stopping(&hub->notify, "draining");
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

/* A step of a rotation, or a foreign authority came or went: both listeners follow at once. */
static void follow_ca(struct hub *hub)
{
    const uint64_t version = pki_ca_version(hub->pki);

    if (version == hub->ca_version || !hub->certificate.credentials)
        return;
    hub->ca_version = version;
    certificate_follow(&hub->certificate);
    if (certificate_look_after(&hub->certificate, &hub->settings, clock_wall(), clock_mono()))
        hub_show_certificate(hub);
}

static void on_registry_timer(struct loop_timer *timer)
{
    struct hub *hub = timer->ctx;

    /* A fault is in the log; the registry in memory stays, and the next tick tries again. */
    if (hub->pki && pki_refresh(hub->pki) == 0) {
        uint64_t generation = pki_generation(hub->pki);
        if (generation != hub->generation) {
            hub->generation = generation;
            front_registry_changed(hub->front);
        }
        follow_ca(hub);
    }
    if (quota_refresh(hub->quota) != 0)
        log_plain(LOG_WARN, "limits_are_stale");
    front_end_late(hub->front);
    if (loop_timer_arm_in(hub->loop, timer, REGISTRY_EVERY_US) != 0)
        loop_stop(hub->loop);
}

static void on_certificate_timer(struct loop_timer *timer)
{
    struct hub *hub = timer->ctx;

    if (certificate_look_after(&hub->certificate, &hub->settings, clock_wall(), clock_mono()))
        hub_show_certificate(hub);
    pki_tick(hub->pki);
    hub_look_at_expiry(hub);
    if (loop_timer_arm_in(hub->loop, timer, CERTIFICATE_EVERY_US) != 0)
        loop_stop(hub->loop);
}

/* ---- start ---- */

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
    if (r == 0)
        r = hub_reload_begin(hub);
    return pass(r);
}

static int arm_timers(struct hub *hub)
{
    int r = loop_timer_arm_in(hub->loop, &hub->registry_timer, REGISTRY_EVERY_US);
    if (r == 0 && hub->pki) /* the first look at once: a short life may be nearly over */
        r = loop_timer_arm_in(hub->loop, &hub->certificate_timer, 0);
    return pass(r);
}

static int start(struct hub *hub)
{
    int r = start_loop(hub);

    if (r == 0)
        r = note_settings(hub);
    if (r == 0)
        r = hub_make_modules(hub);
    if (r == 0)
        r = hub_make_listeners(hub);
    if (r == 0)
        r = arm_timers(hub);
    if (r != 0)
        return pass(r);
    set_state(hub, FRONT_SERVING);
    hub_say_started(hub);
    hub_say_ready(hub);
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
    hub_reload_end(hub);
    hub->pool = query_pool_free(hub->pool);
    hub->web = web_free(hub->web);
    hub->export = export_free(hub->export);
    pthread_mutex_lock(&hub->shared.lock);
    hub->shared.server = NULL;
    pthread_mutex_unlock(&hub->shared.lock);
    hub->server = rpc_server_free(hub->server);
    certificate_deinit(&hub->certificate);
    if (hub->audit)
        hub_say_stopped(hub);
    if (hub->store)
        store_stop(hub->store);
    hub->front = front_free(hub->front);
    hub->uploads = uploads_free(hub->uploads);
    hub->ingest = ingest_free(hub->ingest);
    hub->pki = pki_close(hub->pki);
    hub->quota = quota_close(hub->quota);
    hub->audit = audit_close(hub->audit);
    hub->store = store_close(hub->store);
    if (hub->is_rpc_up)
        rpc_deinit();
    notify_close(&hub->notify);
    if (hub->loop) {
        loop_timer_disarm(hub->loop, &hub->registry_timer);
        loop_timer_disarm(hub->loop, &hub->certificate_timer);
        loop_timer_disarm(hub->loop, &hub->drain_timer);
        loop_wakeup_remove(hub->loop, &hub->store_wakeup);
        loop_wakeup_remove(hub->loop, &hub->reload.wakeup);
        loop_signals_remove(hub->loop, &hub->signals);
        hub->loop = loop_free(hub->loop);
    }
    pthread_mutex_destroy(&hub->shared.lock);
    pthread_mutex_destroy(&hub->reload.lock);
    pthread_cond_destroy(&hub->reload.changed);
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
        return hub_refuse(HUB_BAD_SETTINGS, error.text);
    if (r != 0)
        return fold(r);
    apply_log(&hub->settings);
    const char *state = settings_state_directory(hub->settings.state_dir);
    int len = snprintf(hub->state, sizeof(hub->state), "%s", state);
    if (len < 0 || (size_t) len >= sizeof(hub->state))
        return hub_refuse(HUB_BAD_SETTINGS, "state_dir: the path is too long");
    snprintf(hub->database, sizeof(hub->database), "%s/db", hub->state);
    return 0;
}

int hub_run(const struct settings_sources *sources)
{
    struct hub *hub = calloc(1, sizeof(*hub));

    if (!hub)
        return fault(-ENOMEM, "no memory for the hub");
    hub->sources = sources;
    notify_open(&hub->notify);
    pthread_mutex_init(&hub->shared.lock, NULL);
    pthread_mutex_init(&hub->reload.lock, NULL);
    pthread_cond_init(&hub->reload.changed, NULL);
    hub->shared.status.started = clock_wall();
    int r = load_settings(hub);
    if (r == 0)
        r = start(hub);
    if (r == 0)
        r = notify_watch(&hub->notify, hub->loop);
    if (r == 0) {
        notify_ready(&hub->notify, "serving");
        r = loop_run(hub->loop);
    }
    if (r == 0)
        r = hub->outcome;
    notify_stopping(&hub->notify, r == 0 ? "stopping" : "stopping: see the log");
    stop(hub);
    free(hub);
    if (r == 0)
        log_plain(LOG_INFO, "stopped");
    return r < 0 ? pass(r) : r;
}
