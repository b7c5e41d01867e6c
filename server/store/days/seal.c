/* SPDX-License-Identifier: Apache-2.0 */
#include "server/store/days/seal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/faultpoint.h"
#include "common/log/log.h"
#include "server/store/logs/seal.h"
#include "server/store/whole.h"

#define READER_CHECK_US INT64_C(60000000)
#define SEALER_NICE 5 /* a third of the share of a thread that competes with it */
#define RETAIN_EVERY_US INT64_C(60000000)
#define PAUSE_LOOK_NS 100000000

/* ---- what is shared ---- */

bool sealer_is_stopping(struct sealer *sealer)
{
    bool is_stopping;

    pthread_mutex_lock(&sealer->shared.lock);
    is_stopping = sealer->shared.is_stopping;
    pthread_mutex_unlock(&sealer->shared.lock);
    return is_stopping;
}

bool sealer_is_stuck(struct sealer *sealer)
{
    bool is_stuck;

    pthread_mutex_lock(&sealer->shared.lock);
    is_stuck = sealer->has_thread && sealer->shared.is_stuck;
    pthread_mutex_unlock(&sealer->shared.lock);
    return is_stuck;
}

void seal_note_no_room(struct sealer *sealer, const char *path, MDB_env *env)
{
    snprintf(sealer->no_room, sizeof(sealer->no_room), "%s", path);
    sealer->is_day_at_limit = env && db_env_has_room(env);
}

static void say_stuck(const struct sealer *sealer)
{
    log_event(LOG_ERROR, "seal_has_no_room", LOG_S("what", sealer->no_room),
              LOG_S("remedy", sealer->is_day_at_limit
                                  ? "this day has reached store.day_size: raise it and start again"
                                  : "free space on this disk; it goes on by itself"));
}

static void set_stuck(struct sealer *sealer, bool is_stuck)
{
    bool was_stuck;

    pthread_mutex_lock(&sealer->shared.lock);
    was_stuck = sealer->shared.is_stuck;
    sealer->shared.is_stuck = is_stuck;
    pthread_cond_broadcast(&sealer->shared.progress);
    pthread_mutex_unlock(&sealer->shared.lock);
    if (is_stuck && !was_stuck)
        say_stuck(sealer);
    if (!is_stuck && was_stuck)
        log_plain(LOG_INFO, "seal_has_room_again");
}

/* What is not sealed, and the segment being written as if it were full: what is sealed now keeps
 * the journal below its limit. Where the limit is a segment or less, that one and another. */
static bool is_journal_long(struct store *store, unsigned times)
{
    uint64_t least = 2 * store->options.segment_bytes, limit = times * store->options.journal_bytes;

    return journal_held(&store->journal).n_live_bytes >= (limit > least ? limit : least);
}

void sealer_wait_for_room(struct sealer *sealer)
{
    if (!is_journal_long(sealer->store, 2))
        return;
    pthread_mutex_lock(&sealer->shared.lock);
    while (is_journal_long(sealer->store, 2) && sealer->has_thread && !sealer->shared.is_stopping &&
           !sealer->shared.is_stuck && !sealer->shared.is_paused &&
           !atomic_load(&sealer->store->has_failed)) {
        pthread_cond_signal(&sealer->shared.wake);
        pthread_cond_wait(&sealer->shared.progress, &sealer->shared.lock);
    }
    pthread_mutex_unlock(&sealer->shared.lock);
}

/* Rows or packs of chunks below this are still in a head. */
static bool has_rows_before(struct store *store, uint64_t chunk)
{
    bool has = false;

    for (uint32_t number = 1; !has && number <= idtable_highest(&store->agents.table); number++) {
        struct agent *agent = agents_get(&store->agents, number);

        if (!agent)
            continue;
        pthread_mutex_lock(&agent->lock);
        has = agent->logs.n_packs > 0 && agent->logs.packs[0].chunk < chunk;
        for (size_t i = 0; i < agent->heads.n_heads && !has; i++) {
            const struct head *head = &agent->heads.heads[i];

            for (size_t k = 0; k < head->n_rows && !has; k++)
                has = head->rows[k].chunk < chunk;
        }
        pthread_mutex_unlock(&agent->lock);
    }
    return has;
}

int sealer_seal_now(struct sealer *sealer)
{
    uint64_t chunk = atomic_load(&sealer->store->journal.next_chunk);
    int r = 0;

    while (!r && has_rows_before(sealer->store, chunk)) {
        uint64_t n_passes;

        pthread_mutex_lock(&sealer->shared.lock);
        n_passes = sealer->shared.n_passes;
        while (sealer->shared.n_passes == n_passes && !sealer->shared.is_stopping) {
            sealer->shared.wants_all = true;
            pthread_cond_signal(&sealer->shared.wake);
            pthread_cond_wait(&sealer->shared.progress, &sealer->shared.lock);
        }
        if (sealer->shared.is_stopping)
            r = STORE_STOPPED;
        else if (sealer->shared.is_stuck)
            r = STORE_FULL;
        pthread_mutex_unlock(&sealer->shared.lock);
    }
    return r;
}

int sealer_compact_now(struct sealer *sealer)
{
    int r = sealer_seal_now(sealer);
    uint64_t wanted, wanted_logs;

    if (r)
        return pass(r);
    pthread_mutex_lock(&sealer->shared.lock);
    /* One may be under way, with another idea of what is over: the next one is meant. */
    wanted = sealer->shared.n_sweeps_begun + 1;
    wanted_logs = sealer->shared.n_logs_sweeps_begun + 1;
    sealer->shared.wants_sweep = sealer->shared.wants_logs_sweep = true;
    while (!r && (sealer->shared.n_sweeps < wanted || sealer->shared.n_logs_sweeps < wanted_logs)) {
        pthread_cond_signal(&sealer->shared.wake);
        pthread_cond_wait(&sealer->shared.progress, &sealer->shared.lock);
        if (sealer->shared.is_stopping)
            r = STORE_STOPPED;
        else if (sealer->shared.is_stuck)
            r = STORE_FULL;
    }
    if (!r && (sealer->shared.is_sweep_short || sealer->shared.is_logs_sweep_short))
        r = STORE_FULL;
    pthread_mutex_unlock(&sealer->shared.lock);
    return r;
}

void sealer_retain_soon(struct sealer *sealer)
{
    pthread_mutex_lock(&sealer->shared.lock);
    sealer->shared.wants_retention = true;
    pthread_cond_signal(&sealer->shared.wake);
    pthread_mutex_unlock(&sealer->shared.lock);
}

void sealer_tell(struct sealer *sealer, struct store_stats *ret)
{
    if (!sealer->store)
        return;
    pthread_mutex_lock(&sealer->shared.lock);
    ret->n_sealed_blocks = sealer->shared.n_blocks;
    ret->n_sealed_samples = sealer->shared.n_samples;
    ret->n_sealed_bytes = sealer->shared.n_bytes;
    ret->n_seal_damaged = sealer->shared.n_damaged;
    ret->n_days_gone = sealer->shared.n_days_gone;
    ret->n_compacted = sealer->shared.n_compacted;
    ret->n_sealed_log_blocks = sealer->shared.n_log_blocks;
    ret->n_sealed_log_records = sealer->shared.n_log_records;
    ret->n_sealed_log_raw_bytes = sealer->shared.n_log_raw_bytes;
    ret->n_sealed_log_bytes = sealer->shared.n_log_bytes;
    ret->n_logs_compacted = sealer->shared.n_logs_compacted;
    ret->n_rolled = sealer->shared.n_rolled;
    ret->n_rolled_bytes = sealer->shared.n_rolled_bytes;
    ret->roll_cpu_us = sealer->shared.roll_us;
    ret->seal_busy_us = sealer->shared.busy_us;
    pthread_mutex_unlock(&sealer->shared.lock);
}

/* ---- committing a group ---- */

int seal_put_block(struct day *day,
                   MDB_txn *txn,
                   const struct day_key *key,
                   struct day_prefix *prefix,
                   struct span block)
{
    uint8_t name[DAY_KEY_BYTES];
    MDB_val k = db_val(name, sizeof(name)), v = db_val(NULL, sizeof(*prefix) + block.len);
    int rc;

    day_key_put(name, key);
    prefix->crc32c = day_prefix_crc(k, prefix);
    rc = mdb_put(txn, day->blocks, &k, &v, MDB_RESERVE | MDB_NOOVERWRITE);
    if (rc)
        return pass(db_check(rc, "cannot write a block"));
    memcpy(v.mv_data, prefix, sizeof(*prefix));
    memcpy((uint8_t *) v.mv_data + sizeof(*prefix), block.data, block.len);
    return 0;
}

static int put_sealed(struct day *day,
                      MDB_txn *txn,
                      const struct seal_group *group,
                      const struct seal_block *block)
{
    CLEANUP(buf_deinit) struct buf spans = { 0 };
    const struct day_span *more = (const void *) (group->spans.data + block->spans_at);
    struct position sealed = { 0 }, up_to = { block->up_to.chunk, block->up_to.offset };
    int r = day_agent_get(day, txn, block->key.agent, &sealed, &spans);

    if (r < 0)
        return pass(r);
    ensure(!position_is_behind(sealed, up_to));
    for (size_t i = 0; i < block->n_spans; i++)
        day_spans_add(&spans, &more[i]);
    if (buf_failed(&spans))
        return fault(-ENOMEM, "no memory for the spans of an agent");
    return pass(day_agent_put(day, txn, block->key.agent, up_to, buf_span(&spans)));
}

/* Blocks [first, end) of the group, all of one day, under one seal number. Outcomes: STORE_FULL. */
static int
write_day(struct sealer *sealer, struct day *day, uint64_t seal, size_t first, size_t end)
{
    CLEANUP(db_txn_abortp) MDB_txn *txn = NULL;
    struct seal_group *group = &sealer->group;
    MDB_val key = db_val("seal", 4), value = db_val(&seal, sizeof(seal));
    int r = db_check(mdb_txn_begin(day->env, NULL, 0, &txn), "cannot begin to write a day");

    if (!r)
        r = db_check(mdb_put(txn, day->meta, &key, &value, 0), "cannot write a day");
    for (size_t i = first; i < end && !r; i++) {
        struct seal_block *block = &group->blocks[i];

        block->key.seal = seal;
        block->prefix.chunk = block->up_to.chunk;
        block->prefix.offset = block->up_to.offset;
        /* First: what is made anew of a damaged record is what was sealed before. */
        r = put_sealed(day, txn, group, block);
        if (!r && block->len)
            r = seal_put_block(day, txn, &block->key, &block->prefix,
                               span_of(group->bytes.data + block->at, block->len));
    }
    if (r)
        return pass(r);
    faultpoint("seal_before_commit");
    r = db_commit(day->env, take(txn), "cannot commit a day");
    if (!r)
        faultpoint("seal_after_commit");
    return pass(r);
}

static void on_dropped(void *ctx, const struct head_row *row)
{
    struct segment *segment = journal_segment(ctx, row->segment);

    ensure(segment && atomic_load(&segment->n_live) > 0);
    atomic_fetch_sub(&segment->n_live, 1);
}

/* From here on the block is what readers see. */
static int show_block(struct sealer *sealer, const struct seal_block *block)
{
    struct store *store = sealer->store;
    const struct day_span *spans = (const void *) (sealer->group.spans.data + block->spans_at);
    struct agent *agent = block->agent;
    int64_t from_us = block->day * DAY_US;
    int r = 0;

    pthread_mutex_lock(&agent->lock);
    for (size_t i = 0; i < block->n_spans && !r; i++)
        r = agent_add_span(agent, &agent->spans, catalog_layout(&store->catalog, spans[i].layout),
                           &spans[i]);
    heads_drop(&agent->heads, from_us, from_us + DAY_US, &block->up_to, on_dropped,
               &store->journal);
    ensure(block->key.seal > agent->seal);
    agent->seal = block->key.seal;
    pthread_mutex_unlock(&agent->lock);
    return pass(r);
}

/*
 * The day of some blocks. Where windows are all that is left of one, it is begun anew; and where
 * damage took it, rows that the replay met were in it, or would soon have been.
 */
static int make_day(struct sealer *sealer, int32_t number, struct day **ret)
{
    struct store *store = sealer->store;
    struct days *days = &store->days;
    struct day_begun begun = { 0 };
    bool has_windows = false;
    int r = 0;

    if (days_next(days, number) != number)
        r = roll_has_windows(store, number, &has_windows);
    if (r)
        return pass(r);
    if (has_windows) {
        begun.seal = sealer->seal;
        begun.chunk = days_is_set_aside(days, number) ? store->replayed_chunk : 0;
        log_event(LOG_WARN, "day_begun_anew", LOG_I("day", number),
                  LOG_S("why", "its windows are kept: what is late joins them"));
    }
    return pass(days_make(days, number, begun, ret));
}

static int commit_day(struct sealer *sealer, size_t first, size_t end)
{
    struct days *days = &sealer->store->days;
    struct seal_group *group = &sealer->group;
    struct day *day;
    int r = make_day(sealer, group->blocks[first].day, &day);

    if (r == STORE_NOT_FOUND) {
        /* Damaged in the run: its rows stay in the journal, and the next start makes a new one. */
        return fault(-EIO, "the day of %zu blocks is damaged", end - first);
    }
    if (r)
        return pass(r);
    r = write_day(sealer, day, sealer->seal + 1, first, end);
    day->n_new += r == 0;
    if (r == STORE_FULL)
        seal_note_no_room(sealer, day->path, day->env);
    days_release(days, day);
    if (r)
        return pass(r);
    sealer->seal++;
    for (size_t i = first; i < end && !r; i++)
        r = show_block(sealer, &group->blocks[i]);
    faultpoint("seal_after_show");
    return pass(r);
}

static int by_day(const void *a, const void *b)
{
    const struct seal_block *x = a, *y = b;

    if (x->day != y->day)
        return x->day < y->day ? -1 : 1;
    return (x->key.agent > y->key.agent) - (x->key.agent < y->key.agent);
}

static void count_group(struct sealer *sealer)
{
    const struct seal_group *group = &sealer->group;

    pthread_mutex_lock(&sealer->shared.lock);
    for (size_t i = 0; i < group->n_blocks; i++) {
        sealer->shared.n_blocks += group->blocks[i].len > 0;
        sealer->shared.n_rows += group->blocks[i].prefix.n_rows;
        sealer->shared.n_samples += group->blocks[i].prefix.n_samples;
    }
    sealer->shared.n_bytes += group->bytes.len;
    sealer->shared.n_damaged += group->n_damaged;
    pthread_mutex_unlock(&sealer->shared.lock);
}

static void clear_group(struct seal_group *group)
{
    group->n_blocks = group->n_agents = 0;
    group->n_damaged = 0;
    buf_clear(&group->bytes);
    buf_clear(&group->spans);
}

/* Days that went before a failure are sealed; the rows of the others stay in the heads. */
static int commit_group(struct sealer *sealer)
{
    struct seal_group *group = &sealer->group;
    int r = 0;

    if (group->n_blocks)
        qsort(group->blocks, group->n_blocks, sizeof(*group->blocks), by_day);
    for (size_t first = 0, end; first < group->n_blocks && !r; first = end) {
        for (end = first + 1;
             end < group->n_blocks && group->blocks[end].day == group->blocks[first].day; end++)
            ;
        r = commit_day(sealer, first, end);
    }
    if (!r)
        count_group(sealer);
    clear_group(group);
    return pass(r);
}

/* ---- the journal behind ---- */

/* Sealed segments that stay for followers have a limit, and a disk that fills up is one. */
static void push_followers(struct store *store)
{
    uint64_t second = journal_second_chunk(&store->journal);
    uint64_t n_kept_bytes = journal_held(&store->journal).n_sealed_bytes;

    if (n_kept_bytes > 0 && follow_first_chunk(store) < second &&
        (n_kept_bytes > store->options.follow_bytes || store_disk_is_above(store)))
        follow_move_on(store, second);
}

/* Outcomes: STORE_FULL (the counters of the agents have no room). */
static int trim(struct sealer *sealer)
{
    struct store *store = sealer->store;
    struct segment *segment;
    int r = 0;

    push_followers(store);
    if (!journal_has_idle(&store->journal, follow_first_chunk(store)))
        return 0;
    r = agents_flush_now(&store->agents);
    while (!r && (segment = follow_take_idle(store)))
        r = journal_remove(&store->journal, segment);
    pthread_mutex_lock(&sealer->shared.lock);
    pthread_cond_broadcast(&sealer->shared.progress);
    pthread_mutex_unlock(&sealer->shared.lock);
    return pass(r);
}

/* ---- passes ---- */

static bool is_due(struct sealer *sealer, struct agent *agent, bool is_all, int64_t now_us)
{
    bool is_due;

    pthread_mutex_lock(&agent->lock);
    is_due = agent->heads.n_rows > 0 &&
             (is_all || agent->heads.n_values > SEAL_VALUES || agent->heads.n_rows > SEAL_ROWS ||
              now_us - agent->heads.since_us >= sealer->store->options.seal_age_us);
    pthread_mutex_unlock(&agent->lock);
    return is_due;
}

static int seal_agents(struct sealer *sealer, bool is_all, bool *ret_did)
{
    struct store *store = sealer->store;
    struct seal_group *group = &sealer->group;
    int64_t now_us = clock_mono().us;
    int r = 0;

    for (uint32_t number = 1; !r && number <= idtable_highest(&store->agents.table); number++) {
        struct agent *agent = agents_get(&store->agents, number);

        if (!agent || agent_is_gone(agent) || !is_due(sealer, agent, is_all, now_us))
            continue;
        *ret_did = true;
        r = gather_agent(sealer, agent, group);
        if (!r && (group->bytes.len > SEAL_GROUP_BYTES || group->n_agents >= SEAL_GROUP_AGENTS)) {
            r = commit_group(sealer);
            if (!r)
                r = trim(sealer);
            if (sealer_is_stopping(sealer))
                return pass(r);
        }
    }
    if (!r)
        r = commit_group(sealer);
    clear_group(group);
    return pass(r);
}

/* Outcomes: STORE_FULL. */
static int seal_pass(struct sealer *sealer, bool is_asked, bool *ret_did, bool *ret_has_more)
{
    bool is_all = is_asked || is_journal_long(sealer->store, 1);
    int r = seal_agents(sealer, is_all, ret_did);

    if (!r)
        r = logs_seal_round(sealer, is_all, ret_did, ret_has_more);
    if (!r)
        r = trim(sealer);
    if (*ret_did)
        journal_rest(&sealer->store->journal);
    return pass(r);
}

/* ---- the thread ---- */

/* The kernel's clock, on which a condition waits whatever source tests give to ours. */
static void wait_a_second(struct sealer *sealer)
{
    struct timespec at;
    int rc = 0;

    clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_sec++;
    pthread_mutex_lock(&sealer->shared.lock);
    if (!sealer->shared.is_stopping && !sealer->shared.wants_all && !sealer->shared.wants_sweep &&
        !sealer->shared.wants_logs_sweep && !sealer->shared.wants_retention)
        rc = pthread_cond_timedwait(&sealer->shared.wake, &sealer->shared.lock, &at);
    (void) rc;
    pthread_mutex_unlock(&sealer->shared.lock);
}

static void set_paused(struct sealer *sealer, bool is_paused)
{
    bool was_paused;

    pthread_mutex_lock(&sealer->shared.lock);
    was_paused = sealer->shared.is_paused;
    sealer->shared.is_paused = is_paused;
    if (is_paused)
        pthread_cond_broadcast(&sealer->shared.progress); /* a writer that waits for room */
    pthread_mutex_unlock(&sealer->shared.lock);
    if (is_paused != was_paused)
        log_plain(LOG_INFO, is_paused ? "seal_pauses_for_backup" : "seal_goes_on");
}

/* Whatever is wished for: it waits too. */
static void wait_paused(struct sealer *sealer)
{
    struct timespec at;

    clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_nsec += PAUSE_LOOK_NS;
    at.tv_sec += at.tv_nsec / 1000000000;
    at.tv_nsec %= 1000000000;
    pthread_mutex_lock(&sealer->shared.lock);
    while (!sealer->shared.is_stopping &&
           pthread_cond_timedwait(&sealer->shared.wake, &sealer->shared.lock, &at) == 0)
        ;
    pthread_mutex_unlock(&sealer->shared.lock);
}

static bool take_wish(struct sealer *sealer, int64_t *next_retain_us)
{
    bool wants_all;

    pthread_mutex_lock(&sealer->shared.lock);
    wants_all = sealer->shared.wants_all;
    if (sealer->shared.wants_retention)
        *next_retain_us = 0;
    sealer->shared.wants_all = sealer->shared.wants_retention = false;
    pthread_mutex_unlock(&sealer->shared.lock);
    return wants_all;
}

/* Each minute; where `state` has no room to say what goes, nothing goes, and it is tried again in
 * the next round. That alone is no reason to take nothing new. */
static int look_at_retention(struct sealer *sealer, int64_t now_us, int64_t *next_retain_us)
{
    int r;

    if (now_us < *next_retain_us)
        return 0;
    r = retain(sealer);
    if (r < 0)
        return pass(r);
    if (r == STORE_FULL && !sealer->is_retention_stuck)
        log_event(LOG_ERROR, "retention_has_no_room", LOG_S("path", sealer->store->directory),
                  LOG_S("remedy", "free space on this disk; old days go then by themselves"));
    if (r == 0 && sealer->is_retention_stuck)
        log_plain(LOG_INFO, "retention_has_room_again");
    sealer->is_retention_stuck = r == STORE_FULL;
    *next_retain_us = r == STORE_FULL ? 0 : now_us + RETAIN_EVERY_US;
    return 0;
}

/* A round: seals what is due, compacts a little, looks at the retention. True: at once again. */
static bool work(struct sealer *sealer, int64_t *next_retain_us, int64_t *next_check_us)
{
    struct store *store = sealer->store;
    int64_t begin_us = clock_mono().us;
    bool is_asked = take_wish(sealer, next_retain_us), did = false, has_more = false;
    bool has_more_logs = false, has_more_to_compact = false, has_more_to_erase = false;
    int r;

    r = erase_step(sealer, &has_more_to_erase);
    seal_note_no_room(sealer, store->directory, NULL);
    if (!r)
        r = seal_pass(sealer, is_asked, &did, &has_more_logs);
    /* With many agents some are due in every round: that must not keep the compaction waiting. */
    if (!r && !is_journal_long(store, 1))
        r = compact_step(sealer, &has_more);
    /* It is what is left of the time: logs that come faster than they are sealed go first. */
    if (!r && !has_more_logs && !is_journal_long(store, 1))
        r = logs_compact_step(sealer, &has_more_to_compact);
    if (r >= 0) {
        int r_retain = look_at_retention(sealer, begin_us, next_retain_us);

        r = r_retain < 0 ? r_retain : r;
    }
    if (begin_us >= *next_check_us) {
        days_check_readers(&store->days);
        days_check_readers(&store->logs);
        *next_check_us = begin_us + READER_CHECK_US;
    }
    /* Before the pass counts: who waits for it asks how it ended. */
    if (r >= 0)
        set_stuck(sealer, r == STORE_FULL);
    pthread_mutex_lock(&sealer->shared.lock);
    sealer->shared.busy_us += clock_mono().us - begin_us;
    sealer->shared.n_passes++;
    pthread_cond_broadcast(&sealer->shared.progress);
    pthread_mutex_unlock(&sealer->shared.lock);
    if (r < 0) {
        (void) pass(r);
        store_fail(store);
        return false;
    }
    has_more = has_more || has_more_logs || has_more_to_compact || has_more_to_erase;
    return r == 0 && (has_more || (did && is_journal_long(store, 1)));
}

static void *sealer_main(void *arg)
{
    struct sealer *sealer = arg;
    int64_t next_retain_us = 0, next_check_us = 0;
    bool is_at_once = false;

    /* Acknowledgements and questions go first. Where that is not allowed it costs them a little. */
    (void) setpriority(PRIO_PROCESS, (id_t) gettid(), SEALER_NICE);
    while (!sealer_is_stopping(sealer) && !atomic_load(&sealer->store->has_failed)) {
        if (!is_at_once)
            wait_a_second(sealer);
        if (sealer_is_stopping(sealer))
            break;
        if (!pause_enter(&sealer->pause)) {
            set_paused(sealer, true);
            wait_paused(sealer);
            continue;
        }
        set_paused(sealer, false);
        is_at_once = work(sealer, &next_retain_us, &next_check_us);
        pause_leave(&sealer->pause);
    }
    pthread_mutex_lock(&sealer->shared.lock);
    sealer->shared.is_stopping = true;
    pthread_cond_broadcast(&sealer->shared.progress);
    pthread_mutex_unlock(&sealer->shared.lock);
    return NULL;
}

/* Days that damage took: at once, so that another start that comes before their first block does
 * not take what is late meanwhile for what was in them. */
static int begin_anew(struct sealer *sealer)
{
    struct days *days = &sealer->store->days;
    const int32_t *numbers = (const void *) days->set_aside.data;
    int r = 0;

    for (size_t i = 0; i < days->set_aside.len / sizeof(*numbers) && !r; i++) {
        struct day *day;
        bool has_windows = false;

        if (days_next(days, numbers[i]) == numbers[i])
            continue;
        r = roll_has_windows(sealer->store, numbers[i], &has_windows);
        if (r || !has_windows)
            continue;
        r = make_day(sealer, numbers[i], &day);
        if (!r)
            days_release(days, day);
        r = r == STORE_FULL ? 0 : r; /* with its first block, then */
    }
    return pass(r);
}

int sealer_start(struct sealer *sealer, struct store *store)
{
    pthread_condattr_t attr;
    int rc, r = pause_open(&sealer->pause, store->directory);

    if (r)
        return pass(r);
    sealer->gather = gather_new();
    sealer->roller = roller_new();
    sealer->logs = logs_sealer_new();
    sealer->logs_sweep = logs_sweep_new();
    if (!sealer->gather || !sealer->roller || !sealer->logs || !sealer->logs_sweep) {
        pause_close(&sealer->pause);
        return fault(-ENOMEM, "no memory for the sealer");
    }
    sealer->store = store;
    /* A mark of the roll-ups may be all that is left of a number. */
    sealer->seal = store->days.max_seal;
    if (store->logs.max_seal > sealer->seal)
        sealer->seal = store->logs.max_seal;
    for (size_t tier = 0; tier < ROLL_TIERS; tier++)
        if (store->rolled[tier].max_seal > sealer->seal)
            sealer->seal = store->rolled[tier].max_seal;
    ensure(pthread_mutex_init(&sealer->shared.lock, NULL) == 0);
    ensure(pthread_condattr_init(&attr) == 0);
    ensure(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0);
    ensure(pthread_cond_init(&sealer->shared.wake, &attr) == 0);
    ensure(pthread_cond_init(&sealer->shared.progress, &attr) == 0);
    pthread_condattr_destroy(&attr);
    r = begin_anew(sealer);
    if (r)
        return pass(r);
    sealer->has_thread = true;
    rc = pthread_create(&sealer->thread, NULL, sealer_main, sealer);
    if (rc) {
        sealer->has_thread = false;
        return fault(-rc, "cannot start the sealer");
    }
    return 0;
}

void sealer_stop(struct sealer *sealer)
{
    if (!sealer->store || !sealer->has_thread)
        return;
    pthread_mutex_lock(&sealer->shared.lock);
    sealer->shared.is_stopping = true;
    pthread_cond_broadcast(&sealer->shared.wake);
    pthread_cond_broadcast(&sealer->shared.progress);
    pthread_mutex_unlock(&sealer->shared.lock);
    pthread_join(sealer->thread, NULL);
    pthread_mutex_lock(&sealer->shared.lock);
    sealer->has_thread = false;
    pthread_mutex_unlock(&sealer->shared.lock);
}

void sealer_deinit(struct sealer *sealer)
{
    if (!sealer->store)
        return;
    ensure(!sealer->has_thread);
    pause_close(&sealer->pause);
    free(sealer->group.blocks);
    buf_deinit(&sealer->group.bytes);
    buf_deinit(&sealer->group.spans);
    sealer->gather = gather_free(sealer->gather);
    sealer->roller = roller_free(sealer->roller);
    sealer->logs = logs_sealer_free(sealer->logs);
    sealer->logs_sweep = logs_sweep_free(sealer->logs_sweep);
    codec_work_deinit(&sealer->work);
    pthread_mutex_destroy(&sealer->shared.lock);
    pthread_cond_destroy(&sealer->shared.wake);
    pthread_cond_destroy(&sealer->shared.progress);
    sealer->store = NULL;
}
