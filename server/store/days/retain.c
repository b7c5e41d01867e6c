/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Retention: whole days go. What the agents' spans say is then made anew from the days that are
 * left: a day is the only place that knows what was in it.
 */

#include <errno.h>
#include <stdlib.h>

#include "common/base/fault.h"
#include "common/log/log.h"
#include "server/store/logs/seal.h"
#include "server/store/whole.h"

/* ---- spans of all agents ---- */

struct spans {
    struct store *store;
    struct buf *of; /* by number - 1 */
    uint32_t n;
};

static int add_spans(void *ctx, uint32_t agent, struct position sealed, struct span bytes)
{
    struct spans *spans = ctx;
    struct day_span span;

    (void) sealed;
    for (size_t at = 0; agent > 0 && agent <= spans->n && at + sizeof(span) <= bytes.len;
         at += sizeof(span)) {
        memcpy(&span, bytes.data + at, sizeof(span));
        day_spans_add(&spans->of[agent - 1], &span);
        if (buf_failed(&spans->of[agent - 1]))
            return fault(-ENOMEM, "no memory for the spans of an agent");
    }
    return 0;
}

static int read_spans(struct spans *spans, struct days *days)
{
    int r = 0;

    for (int32_t number = days_next(days, INT32_MIN); number != INT32_MAX && !r;
         number = days_next(days, number + 1)) {
        struct day *day;

        r = days_use(days, number, &day);
        if (r == STORE_NOT_FOUND) {
            r = 0;
            continue;
        }
        if (r)
            return pass(r);
        r = day_agents_each(day, add_spans, spans);
        days_release(days, day);
    }
    return pass(r);
}

/* Only the sealer adds to an agent's spans, and it is here. */
static void set_spans(struct spans *spans, bool are_rolled)
{
    for (uint32_t i = 0; i < spans->n; i++) {
        struct agent *agent = agents_get(&spans->store->agents, i + 1);
        struct buf *of, old;

        if (!agent)
            continue;
        pthread_mutex_lock(&agent->lock);
        of = are_rolled ? &agent->rolled : &agent->spans;
        old = *of;
        *of = spans->of[i];
        spans->of[i] = old;
        pthread_mutex_unlock(&agent->lock);
    }
}

/* Anew from the periods of these `n` tables. */
static int renew_spans(struct store *store, struct days *days, size_t n, bool are_rolled)
{
    struct spans spans = { .store = store, .n = idtable_highest(&store->agents.table) };
    int r = 0;

    spans.of = calloc((size_t) spans.n + 1, sizeof(*spans.of));
    if (!spans.of)
        return fault(-ENOMEM, "no memory for the spans of %u agents", spans.n);
    for (size_t i = 0; i < n && !r; i++)
        r = read_spans(&spans, &days[i]);
    if (!r)
        set_spans(&spans, are_rolled);
    for (uint32_t i = 0; i < spans.n; i++)
        buf_deinit(&spans.of[i]);
    free(spans.of);
    return pass(r);
}

/* ---- what is gone ---- */

/*
 * In `state`, META "retention.gone" and "retention.gone.logs": for each day that went and whose
 * rows may still be in the journal, up to which chunk they are gone too. Without it the next start
 * would bring them back.
 */
static const char *const gone_keys[RETAIN_KINDS] = { "retention.gone", "retention.gone.logs" };
#define GONE_MAX 1024u

static int
read_gone(struct store *store, enum retain_kind kind, struct arena *arena, struct span *ret)
{
    int r = store_state_get(store, STORE_TABLE_META, span_of_text(gone_keys[kind]), arena, ret);

    if (r == STORE_NOT_FOUND)
        *ret = (struct span){ 0 };
    return r == STORE_NOT_FOUND ? 0 : pass(r);
}

int retain_load(struct store *store, enum retain_kind kind, struct buf *ret)
{
    CLEANUP(arena_deinit) struct arena arena;
    struct span gone;
    int r;

    arena_init(&arena, 1 << 20);
    r = read_gone(store, kind, &arena, &gone);
    if (!r)
        buf_append_span(ret, gone);
    return r ? pass(r) : buf_failed(ret) ? fault(-ENOMEM, "no memory for days that went") : 0;
}

/* What was sealed or not of this day in chunks below this one is gone. Outcomes: STORE_FULL. */
static int note_gone(struct store *store, enum retain_kind kind, int32_t number, uint64_t chunk)
{
    CLEANUP(buf_deinit) struct buf old = { 0 }, gone = { 0 };
    struct retain_gone fresh = { .day = number, .chunk = chunk };
    const struct retain_gone *at;
    struct store_write write = { STORE_TABLE_META, span_of_text(gone_keys[kind]), { 0 } };
    size_t n;
    int r = retain_load(store, kind, &old);

    if (r)
        return pass(r);
    buf_append(&gone, &fresh, sizeof(fresh));
    at = (const void *) old.data;
    n = old.len / sizeof(*at);
    for (size_t i = 0; i < n && i < GONE_MAX - 1; i++) {
        if (at[i].day != number && at[i].chunk > journal_first_chunk(&store->journal))
            buf_append(&gone, &at[i], sizeof(at[i]));
    }
    if (buf_failed(&gone))
        return fault(-ENOMEM, "no memory for days that went");
    write.value = buf_span(&gone);
    return pass(store_state_write(store, &write, 1));
}

/* ---- days ---- */

/* The days of a signal, and what may stay of them. */
struct kept {
    enum retain_kind kind;
    struct days *days;
    int64_t retention_us;
    uint64_t max_bytes; /* 0: no limit */
};

/* The number of the first day that is kept. */
static int32_t first_kept(const struct kept *kept)
{
    return kept->retention_us ? day_of(clock_wall().us - kept->retention_us) : INT32_MIN;
}

/* First the word, then the day, then what of it is not sealed yet. Outcomes: STORE_FULL. */
static int remove_day(struct store *store, const struct kept *kept, int32_t number)
{
    uint64_t chunk = atomic_load(&store->journal.next_chunk);
    int r = note_gone(store, kept->kind, number, chunk);

    if (!r)
        r = days_remove(kept->days, number);
    if (!r && kept->kind == RETAIN_LOGS)
        logs_drop_day(store, number, chunk);
    return pass(r);
}

static int retain_days(struct store *store, const struct kept *kept, uint64_t *n_gone)
{
    int32_t first = first_kept(kept), number;
    int r = 0;

    while (!r && (number = days_next(kept->days, INT32_MIN)) != INT32_MAX) {
        uint64_t n_bytes = days_file_bytes(kept->days);
        bool is_old = number < first;

        /* The day that is written to stays, whatever it takes. */
        if (!is_old && (kept->max_bytes == 0 || n_bytes <= kept->max_bytes ||
                        days_next(kept->days, number + 1) == INT32_MAX))
            break;
        log_event(LOG_INFO, "day_expired", LOG_S("of", kept->days->kind->name),
                  LOG_I("day", number), LOG_S("reason", is_old ? "retention" : "retention_size"),
                  LOG_U("bytes_before", n_bytes));
        r = remove_day(store, kept, number);
        *n_gone += r == 0;
    }
    return pass(r);
}

int32_t retain_first_rolled(struct store *store, enum roll_tier tier)
{
    int64_t retention_us = atomic_load(&store->retention_rolled_us[tier]);

    if (retention_us == 0)
        return INT32_MIN;
    return store->rolled[tier].kind->of(clock_wall().us - retention_us);
}

/* Months and years of roll-ups. */
static int retain_rolled(struct store *store)
{
    bool has_gone = false;
    int r = 0;

    for (enum roll_tier tier = ROLL_MINUTES; tier < ROLL_TIERS; tier++) {
        struct days *days = &store->rolled[tier];
        int32_t kept = retain_first_rolled(store, tier), number;

        while (!r && (number = days_next(days, INT32_MIN)) < kept) {
            log_event(LOG_INFO, "rollup_expired", LOG_S("tier", days->kind->name),
                      LOG_I("begin_us", days->kind->begin_us(number)));
            r = days_remove(days, number);
            has_gone = true;
        }
    }
    if (!r && has_gone)
        r = renew_spans(store, store->rolled, ROLL_TIERS, true);
    return pass(r);
}

int retain(struct sealer *sealer)
{
    struct store *store = sealer->store;
    const struct kept rows = { RETAIN_METRICS, &store->days, atomic_load(&store->retention_us),
                               atomic_load(&store->retention_bytes) };
    const struct kept logs = { RETAIN_LOGS, &store->logs, atomic_load(&store->logs_retention_us),
                               atomic_load(&store->logs_retention_bytes) };
    uint64_t n_gone = 0, n_logs_gone = 0;
    int r = retain_days(store, &rows, &n_gone);

    if (!r && n_gone)
        r = renew_spans(store, &store->days, 1, false);
    if (!r)
        r = retain_days(store, &logs, &n_logs_gone);
    if (!r)
        r = retain_rolled(store);
    pthread_mutex_lock(&sealer->shared.lock);
    sealer->shared.n_days_gone += n_gone + n_logs_gone;
    pthread_mutex_unlock(&sealer->shared.lock);
    return pass(r);
}
