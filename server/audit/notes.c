/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Notes: entries that only tell. Queued by whoever has one, written by the thread in groups: one
 * commit for all that came within GROUP_US.
 *
 * Each event has a rate by who caused it. A refusal is counted by address, because its actor is
 * nobody yet and may call himself anything; and as addresses are cheap too, all addresses together
 * have ten times that rate. What is above it is counted, and the count becomes an entry
 * (audit.left_out) when the minute is over.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/log/log.h"
#include "server/audit/inside.h"

#define GROUP_US 100000
#define GROUP_NOTES 1024                    /* of one transaction */
#define MAX_NOTES 65536                     /* a fleet that comes back after a cut, and more */
#define MAX_NOTE_BYTES (UINT64_C(32) << 20) /* of texts */
#define MAX_RATES 65536                     /* rows that a minute may have */
#define FULL_RETRY_US 1000000               /* while the disk is full */
#define MINUTE_US (INT64_C(60) * 1000000)
#define OF_ALL 10 /* refusals from all addresses, in rates of one */

/* ---- the queue; all under the lock ---- */

static bool push(struct audit *audit, struct note *note)
{
    if (audit->shared.n_notes >= MAX_NOTES ||
        audit->shared.n_bytes + note->n_bytes > MAX_NOTE_BYTES)
        return false;
    note->next = NULL;
    *audit->shared.end = note;
    audit->shared.end = &note->next;
    audit->shared.n_notes++;
    audit->shared.n_bytes += note->n_bytes;
    pthread_cond_signal(&audit->shared.wake);
    return true;
}

/* The first ones of the queue, as many as one transaction takes. */
static struct note *pop_group(struct audit *audit)
{
    struct note *group = audit->shared.first, *last = NULL;
    size_t n = 0;

    for (struct note *at = group; at && n < GROUP_NOTES; at = at->next, n++) {
        last = at;
        audit->shared.n_bytes -= at->n_bytes;
    }
    if (!last)
        return NULL;
    audit->shared.first = last->next;
    if (!last->next)
        audit->shared.end = &audit->shared.first;
    audit->shared.n_notes -= n;
    last->next = NULL;
    return group;
}

static void push_back(struct audit *audit, struct note *group)
{
    struct note *last = group;
    size_t n = 1, n_bytes = group->n_bytes;

    for (; last->next; n++) {
        last = last->next;
        n_bytes += last->n_bytes;
    }
    last->next = audit->shared.first;
    if (!last->next)
        audit->shared.end = &last->next;
    audit->shared.first = group;
    audit->shared.n_notes += n;
    audit->shared.n_bytes += n_bytes;
}

static size_t free_notes(struct note *note)
{
    size_t n = 0;

    while (note) {
        struct note *next = note->next;

        free(note);
        note = next;
        n++;
    }
    return n;
}

/* NULL: no memory. */
static struct note *make_note(const struct audit_entry *entry)
{
    CLEANUP(buf_deinit) struct buf texts = { 0 };
    struct note *note;

    row_put_texts(entry, &texts);
    if (buf_failed(&texts))
        return NULL;
    note = malloc(sizeof(*note) + texts.len);
    if (!note)
        return NULL;
    *note = (struct note){
        .time_us = clock_wall().us,
        .is_failure = row_event_is_failure(entry->event),
        .n_fields = (uint8_t) entry->n_fields,
        .n_bytes = (uint32_t) texts.len,
    };
    memcpy(note->texts, texts.data, texts.len);
    return note;
}

/* ---- rates; all under the lock ---- */

struct left_out {
    uint64_t n, n_sources;
    const struct note_rate *worst;
};

static void say_left_out(struct audit *audit, enum audit_event event, const struct left_out *left)
{
    char count[24], sources[24], most[24] = "0";
    const char *worst = left->worst ? strchr(left->worst->key, '\n') + 1 : "";
    const struct audit_field fields[] = {
        { "event", audit_event_name(event) },
        { "count", count },
        { "sources", sources },
        { "most_of_one", most },
        { "from", worst },
    };
    const struct audit_entry entry = {
        .event = AUDIT_LEFT_OUT,
        .actor = "hub",
        .object = audit_event_code(event),
        .fields = fields,
        .n_fields = sizeof(fields) / sizeof(fields[0]),
    };

    snprintf(count, sizeof(count), "%" PRIu64, left->n);
    snprintf(sources, sizeof(sources), "%" PRIu64, left->n_sources);
    if (left->worst)
        snprintf(most, sizeof(most), "%" PRIu32, left->worst->n_left_out);
    struct note *note = make_note(&entry);
    if (!note || !push(audit, note)) {
        free(note);
        log_event(LOG_WARN, "audit_left_out", LOG_S("of", audit_event_name(event)),
                  LOG_U("entries", left->n));
    }
}

/* The minute is over: what was left out is said, and all begin anew. */
static void turn(struct audit *audit)
{
    struct left_out left[AUDIT_N_EVENTS] = { 0 };
    struct note_rate *rate;

    for (size_t at = 0; (rate = map_next(&audit->shared.rates, &at));) {
        struct left_out *sum = &left[rate->event];

        if (rate->n_left_out == 0)
            continue;
        sum->n += rate->n_left_out;
        sum->n_sources++;
        if (!sum->worst || sum->worst->n_left_out < rate->n_left_out)
            sum->worst = rate;
    }
    for (int event = 0; event < AUDIT_N_EVENTS; event++) {
        left[event].n += audit->shared.events[event].n_unlisted;
        if (left[event].n > 0)
            say_left_out(audit, (enum audit_event) event, &left[event]);
    }
    for (size_t at = 0; (rate = map_next(&audit->shared.rates, &at));)
        free(rate);
    map_deinit(&audit->shared.rates);
    memset(audit->shared.events, 0, sizeof(audit->shared.events));
}

static void turn_when_due(struct audit *audit, mono_us now)
{
    int64_t minute = now.us / MINUTE_US;

    if (minute == audit->shared.minute)
        return;
    turn(audit);
    audit->shared.minute = minute;
}

/* An address without its port. */
static size_t source_len(const char *source)
{
    const char *colon = strrchr(source, ':');

    /* A bare IPv6 address has colons of its own; with a port it stands in brackets. */
    if (!colon || (source[0] != '[' && strchr(source, ':') != colon))
        return strlen(source);
    return source[0] == '[' && colon[-1] != ']' ? strlen(source) : (size_t) (colon - source);
}

/* The rate of this event and who caused it; NULL: there is no room for one. */
static struct note_rate *rate_of(struct audit *audit, const struct audit_entry *entry)
{
    char key[512];
    const char *who = row_event_is_failure(entry->event) ? entry->source : entry->actor;
    size_t n_who = who ? who == entry->source ? source_len(who) : strlen(who) : 0;
    int len = snprintf(key, sizeof(key), "%s\n%.*s", audit_event_code(entry->event),
                       (int) (n_who < 400 ? n_who : 400), who ? who : "");
    struct note_rate *rate = map_get(&audit->shared.rates, span_of(key, (size_t) len));

    if (rate || audit->shared.rates.n_entries >= MAX_RATES)
        return rate;
    rate = calloc(1, sizeof(*rate) + (size_t) len + 1);
    if (!rate)
        return NULL;
    rate->event = entry->event;
    rate->key_len = (uint32_t) len;
    memcpy(rate->key, key, (size_t) len);
    if (map_put(&audit->shared.rates, span_of(rate->key, rate->key_len), rate) != 0) {
        free(rate);
        return NULL;
    }
    return rate;
}

static bool may_note(struct audit *audit, const struct audit_entry *entry)
{
    uint32_t limit = audit->shared.limits.notes_per_minute;
    struct note_rate *rate = rate_of(audit, entry);
    uint32_t *n_of_all = &audit->shared.events[entry->event].n;
    bool is_over_all =
        row_event_is_failure(entry->event) && *n_of_all / OF_ALL >= limit; /* whoever it is */

    if (rate && !is_over_all && rate->n < limit) {
        rate->n++;
        (*n_of_all)++;
        return true;
    }
    if (rate)
        rate->n_left_out++;
    else
        audit->shared.events[entry->event].n_unlisted++;
    return false;
}

void audit_note(struct audit *audit, const struct audit_entry *entry)
{
    struct note *note = make_note(entry);
    bool is_kept;

    pthread_mutex_lock(&audit->shared.lock);
    turn_when_due(audit, clock_mono());
    is_kept = may_note(audit, entry);
    if (is_kept && (!note || !push(audit, note))) {
        is_kept = false;
        audit->shared.events[entry->event].n_unlisted++;
    }
    pthread_mutex_unlock(&audit->shared.lock);
    if (is_kept)
        return;
    free(note);
    atomic_fetch_add(&audit->n_left_out, 1);
}

/* ---- writing ---- */

static int append_group(struct store_change *change, void *ctx)
{
    int r = 0;

    for (const struct note *note = ctx; note && r == 0; note = note->next) {
        const struct audit_frame frame = {
            .time_us = note->time_us,
            .is_failure = note->is_failure,
            .n_fields = note->n_fields,
            .texts = span_of(note->texts, note->n_bytes),
        };

        r = audit_append(change, &frame);
    }
    return pass(r);
}

int notes_write(struct audit *audit)
{
    for (;;) {
        struct note *group;
        int r;

        pthread_mutex_lock(&audit->shared.lock);
        turn_when_due(audit, clock_mono());
        group = pop_group(audit);
        pthread_mutex_unlock(&audit->shared.lock);
        if (!group)
            return 0;
        r = store_state_change(audit->store, append_group, group);
        if (r == STORE_FULL) {
            pthread_mutex_lock(&audit->shared.lock);
            push_back(audit, group);
            pthread_mutex_unlock(&audit->shared.lock);
            return AUDIT_FULL;
        }
        size_t n = free_notes(group);
        if (r != 0) {
            atomic_fetch_add(&audit->n_left_out, n);
            return fold(r);
        }
    }
}

/* ---- the thread ---- */

static struct timespec later(int64_t us)
{
    struct timespec at;

    /* A condition waits on the kernel's clock, whatever source tests give to ours. */
    clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_sec += us / 1000000;
    at.tv_nsec += us % 1000000 * 1000;
    if (at.tv_nsec >= 1000000000) {
        at.tv_sec++;
        at.tv_nsec -= 1000000000;
    }
    return at;
}

/* Under the lock: until there are `n` notes, the time is over or the end is near. */
static void wait_for(struct audit *audit, size_t n, int64_t us)
{
    const struct timespec at = later(us);
    int rc = 0;

    while (!audit->shared.is_stopping && audit->shared.n_notes < n && rc != ETIMEDOUT)
        rc = pthread_cond_timedwait(&audit->shared.wake, &audit->shared.lock, &at);
}

static void *notes_main(void *arg)
{
    struct audit *audit = arg;
    int64_t ticked_us = INT64_MIN / 2; /* the first tick at once */
    bool is_full = false, is_stopping = false;

    while (!is_stopping) {
        if (clock_mono().us - ticked_us >= MINUTE_US) {
            ticked_us = clock_mono().us;
            if (audit_tick(audit, clock_wall()) < 0)
                log_plain(LOG_WARN, "audit_tick_failed");
        }
        pthread_mutex_lock(&audit->shared.lock);
        if (is_full)
            wait_for(audit, SIZE_MAX, FULL_RETRY_US);
        wait_for(audit, 1, FULL_RETRY_US);
        wait_for(audit, GROUP_NOTES, audit->shared.n_notes > 0 ? GROUP_US : 0);
        is_stopping = audit->shared.is_stopping;
        pthread_mutex_unlock(&audit->shared.lock);
        is_full = notes_write(audit) == AUDIT_FULL; /* a fault is in the log */
    }
    return NULL;
}

/* ---- life ---- */

void notes_init(struct audit *audit)
{
    pthread_condattr_t attr;

    ensure(pthread_mutex_init(&audit->shared.lock, NULL) == 0);
    ensure(pthread_condattr_init(&attr) == 0);
    ensure(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0);
    ensure(pthread_cond_init(&audit->shared.wake, &attr) == 0);
    pthread_condattr_destroy(&attr);
    audit->shared.end = &audit->shared.first;
    audit->shared.minute = clock_mono().us / MINUTE_US;
}

int notes_start(struct audit *audit)
{
    int rc = pthread_create(&audit->thread, NULL, notes_main, audit);

    if (rc)
        return fault(-rc, "cannot start the audit's thread");
    audit->shared.has_thread = true;
    return 0;
}

void notes_stop(struct audit *audit)
{
    bool has_thread;

    pthread_mutex_lock(&audit->shared.lock);
    has_thread = audit->shared.has_thread;
    audit->shared.has_thread = false;
    audit->shared.is_stopping = true;
    pthread_cond_signal(&audit->shared.wake);
    pthread_mutex_unlock(&audit->shared.lock);
    if (has_thread)
        pthread_join(audit->thread, NULL);
    pthread_mutex_lock(&audit->shared.lock);
    turn(audit);
    pthread_mutex_unlock(&audit->shared.lock);
    if (notes_write(audit) != 0)
        log_plain(LOG_WARN, "audit_is_behind"); /* audit_close() tries again */
}

void notes_deinit(struct audit *audit)
{
    struct note_rate *rate;
    size_t n_lost = notes_write(audit) == 0 ? 0 : free_notes(audit->shared.first);

    if (n_lost > 0)
        log_event(LOG_ERROR, "audit_lost", LOG_U("entries", n_lost),
                  LOG_S("reason", "the disk is full, or has failed"));
    for (size_t at = 0; (rate = map_next(&audit->shared.rates, &at));)
        free(rate);
    map_deinit(&audit->shared.rates);
    pthread_cond_destroy(&audit->shared.wake);
    pthread_mutex_destroy(&audit->shared.lock);
}
