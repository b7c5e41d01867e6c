/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/agent.h"

#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "agent/collect/collect.h"
#include "agent/folder.h"
#include "agent/identity/identity.h"
#include "agent/logs/logs.h"
#include "agent/policy/policy.h"
#include "agent/spool/spool.h"
#include "agent/status.h"
#include "agent/stock.h"
#include "agent/uplink/uplink.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/file.h"
#include "common/base/text.h"
#include "common/log/log.h"
#include "common/loop/loop.h"
#include "common/notify/notify.h"
#include "common/rpc/rpc.h"

/* How often what is too old is looked for. */
#define SPOOL_TICK_US INT64_C(60000000)
#define STATUS_DELAY_US INT64_C(20000) /* what follows soon is told with it */
/*
 * What is free inside the heap goes back so often. Else each size that comes once, and each thread
 * of core's, takes some more of it for some hundred rounds. It takes 0.1 ms, and 0.2 MB then are
 * had anew within some thirty rounds: not more often.
 */
#define TRIM_ROUNDS 60u

struct agent {
    const struct agent_options *options;
    struct settings reloaded; /* owned; in use when `settings` points here */
    const struct settings *settings;
    char digest[65];
    struct policy policy; /* owned */
    struct status_reload last_reload;
    wall_us started;
    struct notify notify; /* the service manager */
    int notified;         /* the uplink's state that it knows; -1: none */

    struct loop *loop;
    struct loop_signals signals;
    struct loop_timer round;
    mono_us round_due;
    int64_t interval_us;                  /* the hub's wish, or the settings' */
    int64_t hub_wish_us, hub_interval_us; /* as it came, and within the policy; 0: none */
    struct loop_timer spool_tick;
    struct loop_timer status_due;
    unsigned n_rounds; /* since the last trim */
    bool has_rpc;
    bool is_stopping;
    bool has_status_failed; /* said once */

    struct collect_host host;
    struct collect *collect;
    struct spool *spool;
    struct keeper *keeper; /* NULL: plaintext */
    struct uplink *uplink;
    struct stock *stock;
    struct folder *folder;
    struct logs *logs;
};

void agent_tame_malloc(void)
{
    /* An arena for each thread of core's would hold more memory than the agent. */
    (void) mallopt(M_ARENA_MAX, 2);
    (void) mallopt(M_MMAP_THRESHOLD, 128 << 10);
    /* A message that is compressed takes a quarter MiB for a moment: that is not given back and
     * asked for, and zeroed, each time. */
    (void) mallopt(M_TRIM_THRESHOLD, 512 << 10);
}

/* ---- settings into options ---- */

static struct uplink_pace pace_of(const struct settings *settings)
{
    return (struct uplink_pace){
        .spread_us = settings->uplink_reconnect_spread,
        .backoff_us = settings->uplink_backoff,
        .max_backoff_us = settings->uplink_max_backoff,
        .keepalive_us = settings->uplink_keepalive,
        .prefer_us = settings->uplink_prefer_after,
        .behind_us = settings->spool_behind,
        .compresses_logs = settings->uplink_compress_logs,
        .bandwidth = settings->uplink_bandwidth,
        .backfill_rate = settings->uplink_backfill_rate,
    };
}

static void limits_of(const struct settings *settings, struct spool_limits ret[SPOOL_SIGNALS])
{
    ret[SPOOL_METRICS] = (struct spool_limits){
        .limit_bytes = settings->spool_metrics_size,
        .max_age_us = settings->spool_metrics_max_age,
        .policy = (enum spool_policy) settings->spool_metrics_policy,
        .sync_us = settings->spool_metrics_sync,
    };
    ret[SPOOL_LOGS] = (struct spool_limits){
        .limit_bytes = settings->spool_logs_size,
        .max_age_us = settings->spool_logs_max_age,
        .policy = (enum spool_policy) settings->spool_logs_policy,
        .sync_us = settings->spool_logs_sync,
    };
}

static void apply_log(const struct settings *settings)
{
    log_init(&(struct log_options){
        .level = (enum log_level) settings->log_level,
        .format = (enum log_format) settings->log_format,
        .fd = 2,
    });
}

/* ---- rounds ---- */

static void get_ledgers(const struct agent *agent, struct spool_ledger ret[SPOOL_SIGNALS])
{
    for (unsigned i = 0; i < SPOOL_SIGNALS; i++)
        spool_get_ledger(agent->spool, (enum spool_signal) i, &ret[i]);
}

/* For `systemctl status`, when it is news. */
static void tell_manager(struct agent *agent, const struct uplink_status *uplink)
{
    char text[640];

    if (agent->notified == (int) uplink->state)
        return;
    agent->notified = (int) uplink->state;
    snprintf(text, sizeof(text), "%s, hub %s%s%s", uplink_state_name(uplink->state), uplink->hub,
             uplink->state == UPLINK_WAITING ? ": " : "",
             uplink->state == UPLINK_WAITING ? uplink->error_message : "");
    notify_status(&agent->notify, text);
}

static void write_status(struct agent *agent)
{
    struct status_facts facts = {
        .hub = agent->options->settings->hub,
        .settings_digest = agent->digest,
        .reload = &agent->last_reload,
        .policy = &agent->policy,
        .policy_file = agent->options->settings->policy_file,
        .started = agent->started,
        .interval_us = agent->interval_us,
        .is_insecure = agent->options->insecure_id != NULL,
    };
    int r;

    collect_get_totals(agent->collect, &facts.collect);
    get_ledgers(agent, facts.spool);
    uplink_get_status(agent->uplink, &facts.uplink);
    stock_get_status(agent->stock, &facts.stock);
    folder_get_status(agent->folder, &facts.folder);
    logs_get_status(agent->logs, &facts.logs);
    if (agent->keeper)
        keeper_get_status(agent->keeper, &facts.identity);
    r = status_write(agent->options->settings->state_dir, &facts);
    if (r && !agent->has_status_failed)
        log_event(LOG_WARN, "status_unwritable",
                  LOG_S("directory", agent->options->settings->state_dir),
                  LOG_S("error", strerror(-r)));
    agent->has_status_failed = r != 0;
    tell_manager(agent, &facts.uplink);
}

static void run_round(struct agent *agent)
{
    struct spool_ledger ledgers[SPOOL_SIGNALS];
    struct spool_scrape sample;

    get_ledgers(agent, ledgers);
    collect_set_ledgers(agent->collect, ledgers);
    /* A fault is in the log, and the next round may do better. */
    if (collect_run(agent->collect, &sample) != 0)
        return;
    if (spool_put(agent->spool, &sample) != 0)
        return;
    uplink_kick(agent->uplink);
}

mono_us agent_next_round(mono_us due, int64_t interval_us, mono_us now)
{
    int64_t n_slept = now.us > due.us ? (now.us - due.us) / interval_us : 0;

    return (mono_us){ due.us + (n_slept + 1) * interval_us };
}

static void arm_round(struct agent *agent)
{
    agent->round_due = agent_next_round(agent->round_due, agent->interval_us, clock_mono());
    ensure(loop_timer_arm(agent->loop, &agent->round, agent->round_due) == 0);
}

static void on_round(struct loop_timer *timer)
{
    struct agent *agent = timer->ctx;

    run_round(agent);
    if (++agent->n_rounds >= TRIM_ROUNDS) {
        agent->n_rounds = 0;
        malloc_trim(0);
    }
    write_status(agent);
    arm_round(agent);
}

/* What was put is sent once it is synced. */
static void on_spool_tick(struct loop_timer *timer)
{
    struct agent *agent = timer->ctx;
    int64_t next_us = spool_tick(agent->spool);

    uplink_kick(agent->uplink);
    if (next_us > SPOOL_TICK_US)
        next_us = SPOOL_TICK_US;
    ensure(loop_timer_arm_in(agent->loop, timer, next_us) == 0);
}

static void on_unsynced(void *ctx, int64_t in_us)
{
    struct agent *agent = ctx;

    if (agent->spool_tick.slot == 0 || agent->spool_tick.due.us > clock_mono().us + in_us)
        ensure(loop_timer_arm_in(agent->loop, &agent->spool_tick, in_us) == 0);
}

static void on_logs_put(void *ctx)
{
    struct agent *agent = ctx;

    uplink_kick(agent->uplink);
}

static void on_spool_room(void *ctx, enum spool_signal signal)
{
    struct agent *agent = ctx;

    if (signal == SPOOL_LOGS && agent->logs)
        logs_on_room(agent->logs);
}

static void set_interval(struct agent *agent)
{
    int64_t interval_us =
        agent->hub_interval_us ? agent->hub_interval_us : agent->settings->interval;

    if (interval_us == agent->interval_us)
        return;
    agent->interval_us = interval_us;
    if (agent->is_stopping)
        return;
    agent->round_due = clock_mono();
    arm_round(agent);
}

int64_t agent_limit_interval(int64_t interval_us)
{
    const struct conf_row *row = settings_table.rows;

    if (interval_us == 0)
        return 0;
    while (strcmp(row->name, "interval") != 0)
        row++;
    if (interval_us < (int64_t) row->min)
        return (int64_t) row->min;
    return interval_us > (int64_t) row->max ? (int64_t) row->max : interval_us;
}

/* What the hub wishes, as far as the policy goes: that may be another one than when it wished. */
static void apply_wish(struct agent *agent)
{
    int64_t interval_us =
        policy_limit_interval(&agent->policy, agent_limit_interval(agent->hub_wish_us));
    char text[TEXT_DURATION_BYTES];

    if (interval_us != agent->hub_interval_us)
        log_event(LOG_INFO, "interval_asked",
                  LOG_S("interval", interval_us ? text_of_duration_us(interval_us, text) : "own"));
    agent->hub_interval_us = interval_us;
    set_interval(agent);
}

static void on_interval(void *ctx, int64_t interval_us)
{
    struct agent *agent = ctx;

    agent->hub_wish_us = interval_us;
    apply_wish(agent);
}

/* Who looks at the status sees it at once, and not with the next round. */
static void on_state(void *ctx)
{
    struct agent *agent = ctx;

    if (!agent->is_stopping && agent->status_due.slot == 0)
        ensure(loop_timer_arm_in(agent->loop, &agent->status_due, STATUS_DELAY_US) == 0);
}

static void on_status_due(struct loop_timer *timer)
{
    write_status(timer->ctx);
}

static void on_identity_changed(void *ctx)
{
    struct agent *agent = ctx;

    uplink_reconnect(agent->uplink);
}

/* ---- signals ---- */

static void on_drained(void *ctx)
{
    struct agent *agent = ctx;

    loop_stop(agent->loop);
}

static void on_log_limit(void *ctx, uint32_t body_bytes)
{
    struct agent *agent = ctx;

    if (agent->logs)
        logs_set_hub_limit(agent->logs, body_bytes);
}

static void on_channel(void *ctx, struct rpc_channel *channel)
{
    struct agent *agent = ctx;

    struct uplink_status uplink;

    if (agent->stock)
        stock_set_channel(agent->stock, channel);
    if (agent->folder && channel) {
        uplink_get_status(agent->uplink, &uplink);
        folder_set_hub(agent->folder, uplink.hub);
    } else if (agent->folder) {
        folder_set_hub(agent->folder, NULL);
    }
}

static void stop(struct agent *agent, int number)
{
    if (agent->is_stopping) {
        loop_stop(agent->loop); /* asked twice */
        return;
    }
    log_event(LOG_INFO, "stopping", LOG_S("signal", number == SIGINT ? "SIGINT" : "SIGTERM"));
    agent->is_stopping = true;
    notify_stopping(&agent->notify, "sending what is queued");
    loop_timer_disarm(agent->loop, &agent->round);
    logs_flush(agent->logs); /* the lines since the last look are queued too */
    uplink_drain(agent->uplink, agent->settings->uplink_drain);
}

static void configure_logs(struct agent *agent)
{
    struct logs_settings settings;
    struct logs_error error;

    settings_logs(agent->settings, &settings);
    if (logs_configure(agent->logs, &settings, &error) != 0)
        log_event(LOG_ERROR, "logs_not_reloaded", LOG_S("error", error.text));
}

static void apply_reload(struct agent *agent, struct settings *settings)
{
    CLEANUP(buf_deinit) struct buf fixed = { 0 };
    struct collect_options collect;
    struct uplink_pace pace = pace_of(settings);
    struct spool_limits limits[SPOOL_SIGNALS];

    settings_collect(settings, &collect);
    /* What needs a restart is as the agent was started until then. */
    conf_diff_fixed(&settings_table, agent->options->settings, settings, &fixed);
    snprintf(agent->last_reload.restart_needed, sizeof(agent->last_reload.restart_needed), "%s",
             buf_text(&fixed));
    if (fixed.len > 0)
        log_event(LOG_WARN, "restart_needed", LOG_S("settings", buf_text(&fixed)));
    apply_log(settings);
    ensure(collect_configure(agent->collect, &collect) == 0); /* settings_load() knows the names */
    limits_of(settings, limits);
    for (unsigned i = 0; i < SPOOL_SIGNALS; i++)
        spool_set_limits(agent->spool, (enum spool_signal) i, &limits[i]);
    collect_start(agent->collect, agent->loop);
    uplink_set_pace(agent->uplink, &pace, settings->interval);

    settings_free(&agent->reloaded);
    agent->reloaded = *settings;
    agent->settings = &agent->reloaded;
    stock_configure(agent->stock, agent->settings);
    folder_configure(agent->folder, agent->settings);
    configure_logs(agent);
}

static int load_policy(struct agent *agent)
{
    const char *file = agent->options->settings->policy_file;
    struct policy fresh;
    int r = policy_load(file, &fresh);

    if (r)
        return pass(r);
    policy_free(&agent->policy);
    agent->policy = fresh;
    if (fresh.state == POLICY_CLOSED)
        log_event(LOG_ERROR, "policy_closed", LOG_S("file", file), LOG_S("problem", fresh.problem),
                  LOG_S("meaning", "the hub may ask nothing of this machine until it is mended"));
    else
        log_event(LOG_INFO, "policy", LOG_S("file", file),
                  LOG_S("state", policy_state_name(fresh.state)), LOG_S("sha256", fresh.sha256));
    return 0;
}

static void take_settings(struct agent *agent)
{
    struct status_reload *result = &agent->last_reload;
    struct settings settings = { 0 };
    struct conf_error error;
    int r = settings_load(&settings, agent->options->sources, &error);

    result->error[0] = result->restart_needed[0] = '\0';
    if (r) {
        snprintf(result->error, sizeof(result->error), "%s",
                 r < 0 ? "the settings could not be read" : error.text);
        log_event(LOG_ERROR, "reload_refused", LOG_S("error", result->error));
        return;
    }
    apply_reload(agent, &settings);
    if (settings_digest(agent->settings, agent->digest) == 0)
        log_event(LOG_INFO, "reloaded", LOG_S("settings_sha256", agent->digest));
}

static void reload(struct agent *agent)
{
    notify_reloading(&agent->notify);
    /* Also when the settings are refused: a policy is most likely made stricter. */
    if (load_policy(agent) != 0)
        log_plain(LOG_ERROR, "policy_stays");
    take_settings(agent);
    apply_wish(agent);
    agent->last_reload.n++;
    agent->last_reload.time = clock_wall();
    write_status(agent);
    notify_ready(&agent->notify, agent->last_reload.error[0]
                                     ? "running; the last reload was refused, see the log"
                                     : "running");
    agent->notified = -1;
}

static void on_signal(struct loop_signals *signals, int number)
{
    if (number == SIGHUP)
        reload(signals->ctx);
    else
        stop(signals->ctx, number);
}

/* ---- life ---- */

static void agent_close(struct agent *agent)
{
    agent->is_stopping = true; /* also one that never started */
    notify_close(&agent->notify);
    if (agent->loop) {
        loop_timer_disarm(agent->loop, &agent->round);
        loop_timer_disarm(agent->loop, &agent->spool_tick);
        loop_timer_disarm(agent->loop, &agent->status_due);
        loop_signals_remove(agent->loop, &agent->signals);
    }
    agent->folder = folder_free(agent->folder);
    agent->stock = stock_free(agent->stock);
    agent->logs = logs_free(agent->logs);
    agent->uplink = uplink_free(agent->uplink);
    agent->keeper = keeper_free(agent->keeper);
    if (agent->has_rpc)
        rpc_deinit();
    agent->collect = collect_free(agent->collect);
    agent->spool = spool_close(agent->spool);
    agent->loop = loop_free(agent->loop);
    policy_free(&agent->policy);
    settings_free(&agent->reloaded);
}

static int make_keeper(struct agent *agent)
{
    const struct settings *settings = agent->settings;

    if (agent->options->insecure_id)
        return 0;
    return pass(keeper_new(
        &agent->keeper, &(struct keeper_options){
                            .loop = agent->loop,
                            .directory = settings->identity,
                            .state_directory = settings->state_dir,
                            .hub = settings->hub,
                            .server_name = settings->server_name[0] ? settings->server_name : NULL,
                            .is_tls13_only = settings->tls_min_version == SETTINGS_TLS_1_3,
                            .on_changed = on_identity_changed,
                            .ctx = agent,
                        }));
}

/* Outcomes: AGENT_IN_USE. */
static int open_spool(struct agent *agent)
{
    CLEANUP(buf_deinit) struct buf path = { 0 };
    struct spool_options options = { 0 };
    int64_t begin_us = clock_mono().us;
    struct spool_ledger ledgers[SPOOL_SIGNALS];
    int r;

    buf_printf(&path, "%s/spool", agent->settings->state_dir);
    options.directory = buf_text(&path);
    options.on_unsynced = on_unsynced;
    options.on_room = on_spool_room;
    options.ctx = agent;
    limits_of(agent->settings, options.limits);
    /* Of the state directory itself; the spool makes its own. */
    (void) !file_make_directories(agent->settings->state_dir, 0750);
    r = spool_open(&agent->spool, &options);
    if (r)
        return r < 0 ? pass(r) : AGENT_IN_USE;
    get_ledgers(agent, ledgers);
    log_event(
        LOG_INFO, "spool_opened", LOG_U("metrics_queued", ledgers[SPOOL_METRICS].queued),
        LOG_U("logs_queued", ledgers[SPOOL_LOGS].queued),
        LOG_U("bytes", ledgers[SPOOL_METRICS].queued_bytes + ledgers[SPOOL_LOGS].queued_bytes),
        LOG_U("runs", ledgers[SPOOL_METRICS].runs + ledgers[SPOOL_LOGS].runs),
        LOG_I("took_us", clock_mono().us - begin_us));
    return 0;
}

static int open_logs(struct agent *agent)
{
    struct logs_options options = {
        .loop = agent->loop, .spool = agent->spool, .on_put = on_logs_put, .ctx = agent
    };
    struct logs_error error;

    settings_logs(agent->settings, &options.settings);
    return fold(logs_new(&agent->logs, &options, &error)); /* settings_load() has checked them */
}

static int agent_open(struct agent *agent)
{
    static const int numbers[] = { SIGTERM, SIGINT, SIGHUP, 0 };
    const struct settings *settings = agent->settings;
    struct collect_options collect;
    int r;

    r = loop_new(&agent->loop);
    if (r)
        return pass(r);
    agent->signals = (struct loop_signals){ .fn = on_signal, .ctx = agent };
    r = loop_signals_add(agent->loop, &agent->signals, numbers);
    if (r)
        return pass(r);
    /* Its threads come after the signals are blocked. */
    r = rpc_init();
    if (r)
        return fold(r);
    agent->has_rpc = true;
    settings_collect(settings, &collect);
    r = collect_new(&agent->collect, &collect);
    if (r)
        return r < 0 ? pass(r) : AGENT_NO_ROOT;
    r = open_spool(agent);
    if (r)
        return r < 0 ? pass(r) : r;
    collect_read_host(settings->collect_root, &agent->host);
    r = load_policy(agent);
    if (r == 0)
        r = make_keeper(agent);
    if (r)
        return pass(r);
    r = uplink_new(&agent->uplink,
                   &(struct uplink_options){
                       .loop = agent->loop,
                       .spool = agent->spool,
                       .hub = settings->hub,
                       .more_hubs = (const char *const *) settings->hub_fallback.items,
                       .n_more_hubs = settings->hub_fallback.n_items,
                       .server_name = settings->server_name[0] ? settings->server_name : NULL,
                       .identity = settings->identity,
                       .keeper = agent->keeper,
                       .insecure_id = agent->options->insecure_id,
                       .is_tls13_only = settings->tls_min_version == SETTINGS_TLS_1_3,
                       .interval_us = settings->interval,
                       .pace = pace_of(settings),
                       .host = &agent->host,
                       .on_interval = on_interval,
                       .on_state = on_state,
                       .on_channel = on_channel,
                       .on_log_limit = on_log_limit,
                       .on_drained = on_drained,
                       .ctx = agent,
                   });
    if (r)
        return pass(r);
    r = stock_new(&agent->stock,
                  &(struct stock_options){ .loop = agent->loop, .settings = settings });
    if (r == 0)
        r = folder_new(&agent->folder,
                       &(struct folder_options){ .loop = agent->loop,
                                                 .settings = settings,
                                                 .insecure_id = agent->options->insecure_id });
    return r ? pass(r) : pass(open_logs(agent));
}

static void say_goodbye(struct agent *agent)
{
    struct spool_ledger ledgers[SPOOL_SIGNALS];
    const struct spool_ledger *metrics = &ledgers[SPOOL_METRICS];
    struct uplink_status uplink;

    get_ledgers(agent, ledgers);
    uplink_get_status(agent->uplink, &uplink);
    log_event(LOG_INFO, "stopped", LOG_U("produced", metrics->produced),
              LOG_U("acknowledged", metrics->acknowledged), LOG_U("dropped", metrics->dropped[0]),
              LOG_U("queued", metrics->queued), LOG_U("logs_queued", ledgers[SPOOL_LOGS].queued),
              LOG_S("last_reason", uplink.error_reason));
}

static int run(struct agent *agent)
{
    const struct settings *settings = agent->settings;
    int r;

    r = agent_open(agent);
    if (r)
        return r < 0 ? pass(r) : r;
    agent->started = clock_wall();
    agent->interval_us = settings->interval;
    agent->round = (struct loop_timer){ .fn = on_round, .ctx = agent };
    agent->spool_tick = (struct loop_timer){ .fn = on_spool_tick, .ctx = agent };
    log_event(LOG_INFO, "started", LOG_S("version", SENTINEL_VERSION), LOG_S("hub", settings->hub),
              LOG_S("identity", settings->identity), LOG_S("settings_sha256", agent->digest));

    if (agent->options->insecure_id)
        log_event(LOG_WARN, "insecure", LOG_S("hub", settings->hub),
                  LOG_S("id", agent->options->insecure_id),
                  LOG_S("meaning", "plaintext: nobody is authenticated, anybody on this machine "
                                   "can read and send"));
    collect_start(agent->collect, agent->loop);
    r = uplink_start(agent->uplink);
    if (r == 0 && agent->keeper)
        r = keeper_start(agent->keeper);
    if (r)
        return pass(r);
    agent->round_due = clock_mono();
    r = loop_timer_arm(agent->loop, &agent->round, agent->round_due);
    if (r == 0)
        r = loop_timer_arm_in(agent->loop, &agent->spool_tick, SPOOL_TICK_US);
    if (r == 0)
        r = notify_watch(&agent->notify, agent->loop);
    if (r)
        return pass(r);
    notify_ready(&agent->notify, "running");
    r = loop_run(agent->loop);
    write_status(agent);
    say_goodbye(agent);
    return pass(r);
}

int agent_run(const struct agent_options *options)
{
    struct agent agent = { .options = options, .settings = options->settings, .notified = -1 };
    int r;

    agent.status_due = (struct loop_timer){ .fn = on_status_due, .ctx = &agent };
    notify_open(&agent.notify);
    apply_log(options->settings);
    (void) signal(SIGPIPE, SIG_IGN);
    (void) signal(SIGIO, SIG_IGN);   /* a lease on an upload that somebody opens */
    (void) signal(SIGXFSZ, SIG_IGN); /* a limit of files is a full disk */
    r = settings_digest(options->settings, agent.digest);
    if (r)
        return pass(r);
    r = run(&agent);
    agent_close(&agent);
    return r < 0 ? pass(r) : r;
}
