/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/logs/logs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/logs/inside.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/log/log.h"

/* Behind an event: what comes meanwhile is read with it. A look costs as much for one line as for a
 * hundred, and so does the batch that it makes, and that is most of what logs cost: while files
 * grow all the time nobody waits for events, and each sweep looks. */
#define WAKE_US INT64_C(100000)
#define SWEEP_US (INT64_C(1) * 1000000) /* busy files, grace times, and what makes no events */
#define SCAN_EACH_SWEEPS 10
#define TIDY_EACH_SWEEPS 60
#define FORGET_EACH_SWEEPS 3600
#define FLUSH_TURNS 16

/* Whether nobody has said this within the last FORGET_EACH_SWEEPS; notes it. */
static bool is_news(struct logs *logs, const char *text)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325); /* FNV-1a: who forges one hides a line of a log */

    for (const char *at = text; *at; at++)
        hash = (hash ^ (uint8_t) *at) * UINT64_C(0x100000001b3);
    for (size_t i = 0; i < logs->n_known_said; i++)
        if (logs->known_said[i] == hash)
            return false;
    if (logs->n_known_said == sizeof(logs->known_said) / sizeof(logs->known_said[0]))
        return false; /* there is more that is wrong than anybody reads; the status has the newest
                       */
    logs->known_said[logs->n_known_said++] = hash;
    return true;
}

void logs_say(struct logs *logs, const char *event, const char *path, const char *why)
{
    snprintf(logs->status.error, sizeof(logs->status.error), "%.120s: %.70s", path, why);
    /* Each look finds the same again: said once an hour, and shown in the status. */
    if (is_news(logs, logs->status.error)) {
        logs->n_said++;
        log_event(LOG_WARN, event, LOG_S("path", path), LOG_S("why", why));
    }
}

static void arm(struct logs *logs, int64_t delay_us)
{
    ensure(loop_timer_arm_in(logs->loop, &logs->work, delay_us) == 0);
    logs->is_work_armed = true;
}

void logs_wake(struct logs *logs)
{
    if (!logs->is_work_armed)
        arm(logs, WAKE_US);
}

/* One look; true: there is more at once. */
static bool look(struct logs *logs)
{
    bool is_busy;

    if (logs->kmsg)
        kmsg_settle(logs->kmsg);
    is_busy = watch_drain(&logs->watch);
    if (logs->watch.file.is_added && !is_busy)
        ensure(loop_file_change(logs->loop, &logs->watch.file, EPOLLIN) == 0);
    if (logs->watch.needs_scan) {
        logs->watch.needs_scan = false;
        if (tails_scan(logs) != 0)
            logs->watch.needs_scan = true;
    }
    return !logs->is_blocked && tails_read(logs);
}

static void on_work(struct loop_timer *timer)
{
    struct logs *logs = timer->ctx;

    logs->is_work_armed = false;
    if (look(logs))
        arm(logs, 0);
}

static void on_sweep(struct loop_timer *timer)
{
    struct logs *logs = timer->ctx;

    logs->n_sweeps++;
    if (logs->n_sweeps % SCAN_EACH_SWEEPS == 0 || logs->watch.fd < 0)
        logs->watch.needs_scan = true;
    if (logs->n_sweeps % TIDY_EACH_SWEEPS == 0)
        tails_forget_old(logs);
    if (logs->n_sweeps % FORGET_EACH_SWEEPS == 0)
        logs->n_known_said = 0;
    if (!logs->is_work_armed && look(logs))
        arm(logs, 0);
    ensure(loop_timer_arm_in(logs->loop, timer, SWEEP_US) == 0);
}

void logs_set_hub_limit(struct logs *logs, uint64_t bytes)
{
    logs->hub_record_bytes = bytes;
}

size_t logs_max_record(const struct logs *logs)
{
    const size_t own = logs->plan->max_record_bytes, hub = (size_t) logs->hub_record_bytes;

    if (hub == 0 || hub >= own)
        return own;
    return hub < MIN_RECORD_BYTES ? MIN_RECORD_BYTES : hub;
}

void logs_on_room(struct logs *logs)
{
    logs->is_blocked = false;
    if (logs->journal)
        journal_on_room(logs->journal);
    if (logs->kmsg)
        kmsg_on_room(logs->kmsg);
    logs_wake(logs);
}

void logs_flush(struct logs *logs)
{
    for (int i = 0; i < FLUSH_TURNS && look(logs); i++)
        ;
}

/* ---- life ---- */

static int open_others(struct logs *logs)
{
    int r = 0;

    if (logs->plan->journald)
        r = journal_new(&logs->journal, logs);
    if (r == 0 && logs->plan->kmsg)
        r = kmsg_new(&logs->kmsg, logs);
    return pass(r);
}

int logs_check(const struct logs_settings *settings, struct logs_error *ret_error)
{
    CLEANUP(plan_freep) struct plan *plan = NULL;
    int r = plan_new(&plan, settings, ret_error);

    return r == LOGS_BAD ? r : pass(r);
}

int logs_new(struct logs **ret, const struct logs_options *options, struct logs_error *ret_error)
{
    CLEANUP(logs_freep) struct logs *logs = calloc(1, sizeof(*logs));
    int r;

    if (!logs)
        return fault(-ENOMEM, "no memory for logs");
    logs->loop = options->loop;
    logs->spool = options->spool;
    logs->on_put = options->on_put;
    logs->ctx = options->ctx;
    logs->watch.fd = -1;
    list_init(&logs->tails.all);
    logs->work = (struct loop_timer){ .fn = on_work, .ctx = logs };
    logs->sweep = (struct loop_timer){ .fn = on_sweep, .ctx = logs };
    r = plan_new(&logs->plan, &options->settings, ret_error);
    if (r == LOGS_BAD)
        return r;
    if (r == 0)
        r = batch_init(&logs->batch, logs);
    if (r == 0)
        r = watch_open(&logs->watch, logs);
    if (r == 0)
        r = open_others(logs);
    if (r)
        return pass(r);
    arm(logs, 0);
    ensure(loop_timer_arm_in(logs->loop, &logs->sweep, SWEEP_US) == 0);
    *ret = take(logs);
    return 0;
}

struct logs *logs_free(struct logs *logs)
{
    if (!logs)
        return NULL;
    loop_timer_disarm(logs->loop, &logs->work);
    loop_timer_disarm(logs->loop, &logs->sweep);
    logs->journal = journal_free(logs->journal);
    logs->kmsg = kmsg_free(logs->kmsg);
    tails_close(logs);
    watch_close(&logs->watch, logs->loop);
    batch_deinit(&logs->batch);
    plan_free(logs->plan);
    free(logs);
    return NULL;
}

int logs_configure(struct logs *logs,
                   const struct logs_settings *settings,
                   struct logs_error *ret_error)
{
    struct plan *plan = NULL;
    int r = plan_new(&plan, settings, ret_error);

    if (r)
        return r == LOGS_BAD ? r : pass(r);
    /* Places are in the spool: files are found again there, and those that are not wanted are not.
     */
    logs->journal = journal_free(logs->journal);
    logs->kmsg = kmsg_free(logs->kmsg);
    tails_close(logs);
    plan_free(logs->plan);
    logs->plan = plan;
    logs->watch.needs_scan = true;
    r = open_others(logs);
    if (!logs->is_work_armed)
        arm(logs, 0);
    return pass(r);
}

void logs_get_status(const struct logs *logs, struct logs_status *ret)
{
    *ret = logs->status;
    ret->is_blocked = logs->is_blocked;
    snprintf(ret->journal_state, sizeof(ret->journal_state), "%s",
             logs->journal ? journal_state(logs->journal) : "off");
    snprintf(ret->kernel_state, sizeof(ret->kernel_state), "%s",
             logs->kmsg ? kmsg_state(logs->kmsg) : "off");
}

const char *const *logs_redactions(void)
{
    return screen_known();
}
