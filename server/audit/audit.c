/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/faultpoint.h"
#include "common/base/file.h"
#include "common/crypto/crypto.h"
#include "common/log/log.h"
#include "server/audit/anchor.h"
#include "server/audit/inside.h"

#define HOT_US (90 * DAY_US)
#define COLD_US (365 * DAY_US)
/* About 600 MB of rows: `state`, where they lie, has room for 4 GiB. */
#define HOT_ENTRIES 2000000
#define NOTES_PER_MINUTE 60

/* ---- the end of the chain ---- */

static void head_of_entry(uint32_t day, struct span value, struct row_head *ret)
{
    struct row_frame frame;

    if (!row_read_frame(value, &frame))
        return;
    *ret = (struct row_head){ .day = day, .number = frame.number, .time_us = frame.time_us };
    crypto_sha256(value, ret->sha256);
}

static bool see_last(void *ctx, struct span key, struct span value)
{
    struct row_head *last = ctx;
    uint32_t day;
    uint64_t number;

    if (row_key_read(key, &day, &number))
        head_of_entry(day, value, last);
    return true;
}

int audit_head_in(struct store_change *change, struct row_head *ret)
{
    struct row_head head = { .number = 0 };
    struct span value;
    int r = store_change_get(change, STORE_TABLE_AUDIT, span_of_text(row_head_key), &value);

    /* Without its row the last entry says it: who took the row away is found by audit_verify(), and
     * the chain goes on meanwhile. */
    if (r == STORE_NOT_FOUND || (r == 0 && !row_head_read(value, &head)))
        r = store_change_each(change, STORE_TABLE_AUDIT, span_of_text("E"), see_last, &head);
    if (r == 0)
        *ret = head;
    return fold(r);
}

struct get_head {
    struct row_head head;
    bool is_found;
};

static bool get_head(void *ctx, struct span key, struct span value)
{
    struct get_head *get = ctx;

    get->is_found = span_equal(key, span_of_text(row_head_key)) && row_head_read(value, &get->head);
    return false;
}

static bool get_last(void *ctx, struct span key, struct span value)
{
    see_last(ctx, key, value);
    return false;
}

int audit_head(struct audit *audit, struct row_head *ret)
{
    struct get_head get = { .is_found = false };
    int r = store_state_range(audit->store, STORE_TABLE_AUDIT, span_of_text(row_head_key), false,
                              get_head, &get);

    if (r == 0 && !get.is_found) {
        get.head = (struct row_head){ .number = 0 };
        r = store_state_range(audit->store, STORE_TABLE_AUDIT, span_of_text("E"), true, get_last,
                              &get.head);
    }
    if (r == 0)
        *ret = get.head;
    return fold(r);
}

/* ---- appending ---- */

static int put_row(struct store_change *change, struct span key, struct span value)
{
    const struct store_write write = {
        .table = STORE_TABLE_AUDIT, .key = key, .value = value, .is_behind_all = key.data[0] == 'E'
    };

    return pass(store_change_put(change, &write));
}

int audit_append(struct store_change *change, const struct audit_frame *frame)
{
    CLEANUP(buf_deinit) struct buf value = { 0 };
    uint8_t key[ROW_KEY_BYTES], head_value[ROW_HEAD_BYTES];
    uint32_t day = row_day_of(frame->time_us);
    struct row_head head;
    int r = audit_head_in(change, &head);

    if (r != 0)
        return pass(r);
    const struct row_frame row = {
        .time_us = frame->time_us,
        .number = head.number + 1,
        .before = head.sha256,
        .is_failure = frame->is_failure,
        .n_fields = frame->n_fields,
    };
    row_write(&row, frame->texts, &value);
    if (buf_failed(&value))
        return fault(-ENOMEM, "no memory for an entry of the audit");
    if (day + 2 <= head.day)
        head.late_day = head.day;
    head.day = day > head.day ? day : head.day;
    head.number = row.number;
    head.time_us = frame->time_us;
    crypto_sha256(buf_span(&value), head.sha256);
    row_key(head.day, head.number, key);
    row_head_write(&head, head_value);
    r = put_row(change, span_of(key, sizeof(key)), buf_span(&value));
    if (r == 0)
        r = put_row(change, span_of_text(row_head_key), span_of(head_value, sizeof(head_value)));
    return pass(r);
}

int audit_put_in(struct store_change *change, const struct audit_entry *entry)
{
    CLEANUP(buf_deinit) struct buf texts = { 0 };

    row_put_texts(entry, &texts);
    if (buf_failed(&texts))
        return fault(-ENOMEM, "no memory for an entry of the audit");
    const struct audit_frame frame = {
        .time_us = clock_wall().us,
        .is_failure = row_event_is_failure(entry->event),
        .n_fields = (uint8_t) entry->n_fields,
        .texts = buf_span(&texts),
    };
    return pass(audit_append(change, &frame));
}

static int put_one(struct store_change *change, void *ctx)
{
    return pass(audit_put_in(change, ctx));
}

int audit_put(struct audit *audit, const struct audit_entry *entry)
{
    struct audit_entry copy = *entry;
    int r = store_state_change(audit->store, put_one, &copy);

    faultpoint("audit_put");
    if (r != 0)
        atomic_fetch_add(&audit->n_failed, 1);
    return r == STORE_FULL ? AUDIT_FULL : fold(r);
}

/* ---- the object ---- */

static struct audit_limits with_defaults(struct audit_limits limits)
{
    if (limits.hot_us <= 0)
        limits.hot_us = HOT_US;
    if (limits.cold_us <= 0)
        limits.cold_us = COLD_US;
    if (limits.hot_entries == 0)
        limits.hot_entries = HOT_ENTRIES;
    if (limits.notes_per_minute == 0)
        limits.notes_per_minute = NOTES_PER_MINUTE;
    return limits;
}

void audit_set_limits(struct audit *audit, const struct audit_limits *limits)
{
    pthread_mutex_lock(&audit->shared.lock);
    audit->shared.limits = with_defaults(*limits);
    pthread_mutex_unlock(&audit->shared.lock);
}

static bool get_anchor(void *ctx, struct span key, struct span value)
{
    struct audit *audit = ctx;

    audit->shared.has_anchor = span_equal(key, span_of_text(row_anchor_key)) &&
                               row_anchor_read(value, &audit->shared.anchor);
    return false;
}

int audit_open(struct audit **ret, const struct audit_options *options)
{
    CLEANUP(audit_closep) struct audit *audit = calloc(1, sizeof(*audit));
    int r;

    if (!audit)
        return fault(-ENOMEM, "no memory for the audit");
    audit->store = options->store;
    audit->sign = options->sign;
    audit->ctx = options->ctx;
    pthread_mutex_init(&audit->tick_lock, NULL);
    notes_init(audit);
    audit->shared.limits = with_defaults(options->limits);
    audit->directory = strdup(options->directory);
    if (!audit->directory)
        return fault(-ENOMEM, "no memory for the audit");
    r = store_state_range(audit->store, STORE_TABLE_AUDIT, span_of_text(row_anchor_key), false,
                          get_anchor, audit);
    audit->shared.anchored_at = audit->shared.anchor.entry + 1;
    if (r != 0)
        return fold(r);
    *ret = take(audit);
    return 0;
}

int audit_start(struct audit *audit)
{
    int r = file_make_directories(audit->directory, 0700);

    if (r > 0)
        return fault(-EACCES, "may not make %s", audit->directory);
    if (r == 0)
        r = audit_days_clean(audit);
    if (r == 0)
        r = notes_start(audit);
    return pass(r);
}

void audit_stop(struct audit *audit)
{
    notes_stop(audit);
    pthread_mutex_lock(&audit->tick_lock);
    int r = anchor_make(audit, clock_wall(), true);
    audit->sign = NULL; /* who signs may be gone from now on */
    pthread_mutex_unlock(&audit->tick_lock);
    if (r != 0)
        log_plain(LOG_WARN, "audit_anchor_failed"); /* the next start makes one */
}

struct audit *audit_close(struct audit *audit)
{
    if (!audit)
        return NULL;
    audit_stop(audit);
    notes_deinit(audit);
    pthread_mutex_destroy(&audit->tick_lock);
    free(audit->directory);
    free(audit);
    return NULL;
}

int audit_tick(struct audit *audit, wall_us now)
{
    struct audit_limits limits;
    int r;

    pthread_mutex_lock(&audit->shared.lock);
    limits = audit->shared.limits;
    pthread_mutex_unlock(&audit->shared.lock);
    pthread_mutex_lock(&audit->tick_lock);
    r = notes_write(audit);
    if (r == 0 && anchor_make(audit, now, false) < 0)
        log_plain(LOG_WARN, "audit_anchor_failed"); /* the next tick tries again */
    if (r == 0)
        r = audit_days_close(audit, &limits, now);
    if (r == 0)
        r = audit_days_drop(audit, &limits, now);
    pthread_mutex_unlock(&audit->tick_lock);
    return r == AUDIT_FULL ? 0 : pass(r);
}

int audit_get_anchor(struct audit *audit, struct audit_anchor *ret)
{
    int r = AUDIT_NOT_FOUND;

    pthread_mutex_lock(&audit->shared.lock);
    if (audit->shared.has_anchor) {
        *ret = audit->shared.anchor;
        r = AUDIT_OK;
    }
    pthread_mutex_unlock(&audit->shared.lock);
    return r;
}

void audit_get_stats(struct audit *audit, struct audit_stats *ret)
{
    struct row_head head = { .number = 0 };

    if (audit_head(audit, &head) != 0) /* the fault is in the log */
        head.number = 0;
    *ret = (struct audit_stats){
        .head = head.number,
        .n_left_out = atomic_load(&audit->n_left_out),
        .n_failed = atomic_load(&audit->n_failed),
    };
}
