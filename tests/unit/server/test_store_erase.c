/* SPDX-License-Identifier: Apache-2.0 */

/* An agent that is forgotten leaves nothing on disk, also where the hub is killed meanwhile; the
 * others keep all they have. */

#include "test_store.h"

#include <dirent.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

#include "common/base/fault.h"
#include "server/store/logs/seal.h"
#include "server/store/whole.h"
#include "test_inventory_rig.h"
#include "test_store_logs.h"

#define COLUMNS 6u
#define ROWS 50u
#define BATCHES 6u
#define LINES 300u
#define LINE_BYTES 200u /* so that a batch is compressed when it comes */

struct filled {
    uint32_t gone, kept, layout, n_lines;
};

static const struct rig_table packages[] = { { "packages", 40, 1 } };

static void
try_all(struct store *store, uint32_t agent, uint32_t layout, uint64_t sequence, int wanted)
{
    const struct put put = {
        .agent = agent,
        .layout = layout,
        .spool = 1,
        .sequence = sequence,
        .time_us = NOON_US + ((int64_t) sequence - 1) * DAY_US / 3,
        .n_values = COLUMNS,
        .n_rows = ROWS,
    };
    const struct log_put logs = {
        .agent = agent,
        .spool = 2,
        .sequence = sequence,
        .first = (uint32_t) (sequence - 1) * LINES,
        .n = LINES,
        .time_us = put.time_us,
        .step_us = 1000,
        .body_bytes = LINE_BYTES,
    };

    ck_assert_int_eq(put_rows(store, put, NULL), wanted);
    ck_assert_int_eq(put_logs(store, logs, NULL), wanted);
}

static void put_all(struct store *store, uint32_t agent, uint32_t layout, uint64_t sequence)
{
    try_all(store, agent, layout, sequence, STORE_OK);
}

/* Two days, sealed and compacted and rolled up; and rows and packs that are not sealed yet, of
 * which some are blocks already. */
static struct filled fill(struct store *store)
{
    struct filled to = { agent_of(store, "gone"), agent_of(store, "kept"),
                         layout_of(store, COLUMNS), BATCHES * LINES };

    for (uint64_t i = 1; i <= BATCHES; i++) {
        put_all(store, to.gone, to.layout, i);
        put_all(store, to.kept, to.layout, i);
        if (i == BATCHES - 2)
            ck_assert_int_eq(store_compact(store), 0);
        if (i == BATCHES - 1)
            ck_assert_int_eq(store_seal(store), 0);
    }
    rig_put_one(store, to.gone, "packages", 40, 1); /* the other has the same content */
    rig_put_one(store, to.kept, "packages", 40, 1);
    rig_put_one(store, to.gone, "users", 7, 3);
    ck_assert_uint_gt(count_packs(store, to.gone).n_blocks, 0);
    return to;
}

static bool is_erased(struct store *store, uint32_t number)
{
    struct agent *agent = agents_get(&store->agents, number);

    ck_assert_ptr_nonnull(agent);
    return atomic_load(&agent->erasure) == ERASURE_DONE;
}

/* The threads do it by themselves; the case has a timeout. */
static void await_erasure(struct store *store, uint32_t number)
{
    const struct timespec while_short = { .tv_nsec = 5000000 };

    while (!is_erased(store, number)) {
        ck_assert_int_eq(store_seal(store), 0);
        ck_assert(!atomic_load(&store->has_failed));
        nanosleep(&while_short, NULL);
    }
    ck_assert_int_eq(store_inventory_trim(store), 0);
    ck_assert_int_eq(store_compact(store), 0);
}

/* ---- what is on disk ---- */

static size_t keys_of(const char *environment, const char *table, uint32_t number)
{
    MDB_env *env = NULL;
    MDB_cursor *cursor;
    MDB_val key, value;
    MDB_txn *txn;
    MDB_dbi dbi;
    char path[512];
    size_t n = 0;
    int rc;

    snprintf(path, sizeof(path), "%s/%s", store_path, environment);
    ck_assert_int_eq(db_env_open(&env, path, UINT64_C(1) << 30, STATE_N_TABLES), 0);
    ck_assert_int_eq(mdb_txn_begin(env, NULL, MDB_RDONLY, &txn), 0);
    ck_assert_int_eq(mdb_dbi_open(txn, table, 0, &dbi), 0);
    ck_assert_int_eq(mdb_cursor_open(txn, dbi, &cursor), 0);
    for (rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST); rc == 0;
         rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
        if (number == 0)
            n += key.mv_size == strlen(DAY_META_ERASED) &&
                 memcmp(key.mv_data, DAY_META_ERASED, key.mv_size) == 0;
        else
            n += key.mv_size >= 4 && db_u32_of(db_val(key.mv_data, 4)) == number;
    }
    mdb_cursor_close(cursor);
    mdb_txn_abort(txn);
    mdb_env_close(env);
    return n;
}

/* Over all periods of a kind; number 0: marks that a file is to be written anew. */
static size_t keys_of_kind(const char *kind, const char *table, uint32_t number)
{
    char path[512], environment[600];
    struct dirent *entry;
    size_t n = 0;
    DIR *directory;

    snprintf(path, sizeof(path), "%s/default/%s", store_path, kind);
    directory = opendir(path);
    ck_assert_ptr_nonnull(directory);
    while ((entry = readdir(directory))) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(environment, sizeof(environment), "default/%s/%s", kind, entry->d_name);
        n += keys_of(environment, table, number);
    }
    closedir(directory);
    return n;
}

/* No store is open. */
static void check_disk(const struct filled *filled)
{
    static const char *const kinds[] = { "metrics", "logs", "rollup-1m", "rollup-1h" };
    static const char *const tables[] = { "blocks", "agents", "marks" };

    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        for (size_t k = 0; k < (i < 2 ? 2 : 3); k++) {
            ck_assert_uint_eq(keys_of_kind(kinds[i], tables[k], filled->gone), 0);
            ck_assert_uint_gt(keys_of_kind(kinds[i], tables[k], filled->kept), 0);
        }
        ck_assert_uint_eq(keys_of_kind(kinds[i], "meta", 0), 0);
    }
    ck_assert_uint_eq(keys_of("default/inventory", "revisions", filled->gone), 0);
    ck_assert_uint_eq(keys_of("default/inventory", "agents", filled->gone), 0);
    ck_assert_uint_gt(keys_of("default/inventory", "revisions", filled->kept), 0);
    check_database();
}

/* ---- what is found ---- */

static void check_found(struct store *store, const struct filled *filled)
{
    struct store_inventory inventory;
    struct store_run *runs;
    struct arena arena;
    uint32_t number;
    size_t n;

    arena_init(&arena, 1 << 20);
    ck_assert_int_eq(store_agent_find(store, "gone", &number), STORE_NOT_FOUND);
    ck_assert_uint_eq(scan_column(store, filled->gone, filled->layout, 0)->n, 0);
    ck_assert_uint_eq(scan_column(store, filled->kept, filled->layout, 0)->n, BATCHES * ROWS);
    check_lines(store, filled->kept, filled->n_lines);
    ck_assert_int_eq(store_inventory_get(store, filled->gone, INT64_MAX, &arena, &inventory),
                     STORE_NOT_FOUND);
    ck_assert_int_eq(store_inventory_get(store, filled->kept, INT64_MAX, &arena, &inventory), 0);
    rig_check_is(store, &inventory, packages, 1);
    ck_assert_int_eq(store_run_list(store, filled->kept, &arena, &runs, &n), 0);
    ck_assert_uint_eq(n, 2);
    ck_assert_uint_eq(stats_now(store).n_agents, 1);
    arena_deinit(&arena);
}

static void check_erased(struct store *store, const struct filled *filled)
{
    struct store_run *runs;
    struct arena arena;
    size_t n;

    arena_init(&arena, 1 << 20);
    check_found(store, filled);
    ck_assert_int_eq(store_run_list(store, filled->gone, &arena, &runs, &n), 0);
    ck_assert_uint_eq(n, 0);
    arena_deinit(&arena);
}

START_TEST(nothing_of_a_forgotten_agent_is_found_or_stays_on_disk)
{
    struct store *store = open_store(0);
    struct filled filled = fill(store);
    struct store_forgotten told;

    ck_assert_int_eq(store_agent_forget(store, "gone", &told), 0);
    ck_assert_uint_eq(told.n_samples, BATCHES * ROWS * COLUMNS);
    ck_assert_uint_eq(told.n_log_records, BATCHES * LINES);
    check_found(store, &filled); /* at once */
    await_erasure(store, filled.gone);
    check_erased(store, &filled);
    ck_assert_uint_eq(stats_now(store).n_segments, 1); /* and what it had in the journal went */
    store_close(store);
    check_disk(&filled);
    store = open_store(0);
    check_erased(store, &filled);
    ck_assert(is_erased(store, filled.gone));
    ck_assert_uint_gt(agent_of(store, "gone"), filled.kept); /* its number is nobody's */
    ck_assert_uint_eq(facts_of(store, agent_of(store, "gone")).n_samples, 0);
    put_all(store, agent_of(store, "gone"), filled.layout, 1);
    ck_assert_uint_eq(scan_column(store, agent_of(store, "gone"), filled.layout, 0)->n, ROWS);
    store_close(store);
    check_database();
}
END_TEST

START_TEST(what_is_on_its_way_when_its_agent_is_forgotten_is_nobodys)
{
    struct store *store = open_store(0);
    struct filled filled = fill(store);
    struct store_forgotten told;
    uint64_t next;

    ck_assert_int_eq(store_agent_forget(store, "gone", &told), 0);
    next = atomic_load(&store->journal.next_chunk);
    try_all(store, filled.gone, filled.layout, BATCHES + 1, STORE_STOPPED);
    ck_assert_uint_eq(atomic_load(&store->journal.next_chunk), next);
    ck_assert_int_eq(rig_send(store, filled.gone, packages, 1, true).r, STORE_STOPPED);
    await_erasure(store, filled.gone);
    check_found(store, &filled);
    ck_assert_int_eq(store_seal(store), 0);
    store_close(store);
    check_disk(&filled);
    store = open_store(0);
    check_found(store, &filled);
    store_close(store);
}
END_TEST

START_TEST(values_that_are_sealed_and_not_compacted_yet_go_too)
{
    struct store *store = open_store(0);
    struct filled filled = fill(store);
    struct store_forgotten told;
    const struct lines *lines;

    for (uint64_t i = 1; i <= 6; i++) {
        const struct log_put put = {
            .agent = i % 2 ? filled.gone : filled.kept,
            .spool = 3,
            .sequence = (i + 1) / 2,
            .first = filled.n_lines + (uint32_t) ((i - 1) / 2) * LINES,
            .n = LINES,
            .time_us = NOON_US + 9 * DAY_US + (int64_t) i * SECOND_US,
            .step_us = 1000,
            .body_bytes = LINE_BYTES,
        };

        ck_assert_int_eq(put_logs(store, put, NULL), STORE_OK);
    }
    filled.n_lines += 3 * LINES;
    ck_assert_int_eq(store_seal(store), 0);
    lines = read_logs(store, filled.gone);
    ck_assert_uint_eq(lines->n, filled.n_lines);
    ck_assert_uint_gt(lines->n_parts, lines->n_blocks); /* joined */
    ck_assert_int_eq(store_agent_forget(store, "gone", &told), 0);
    ck_assert_uint_eq(told.n_log_records, filled.n_lines);
    await_erasure(store, filled.gone);
    check_lines(store, filled.kept, filled.n_lines);
    store_close(store);
    check_disk(&filled);
}
END_TEST

/* ---- the journal ---- */

static void put_some(struct store *store, uint32_t agent, uint32_t layout, uint64_t sequence)
{
    const struct put put = { agent,   layout, 1, sequence, NOON_US + (int64_t) sequence * SECOND_US,
                             COLUMNS, 1 };

    ck_assert_int_eq(put_rows(store, put, NULL), STORE_OK);
}

static uint32_t n_rotations(struct store *store)
{
    return atomic_load(&store->journal.end);
}

static void forget(struct store *store, const char *id)
{
    struct store_forgotten told;

    ck_assert_int_eq(store_agent_forget(store, id, &told), 0);
}

static void await_rotations(struct store *store, uint32_t n)
{
    const struct timespec while_short = { .tv_nsec = 5000000 };

    while (n_rotations(store) < n)
        nanosleep(&while_short, NULL);
}

START_TEST(the_journal_goes_on_in_a_new_segment_only_where_the_agent_is_in_it)
{
    struct store *store = open_store(128 << 10);
    uint32_t layout = layout_of(store, COLUMNS), silent = agent_of(store, "silent");
    uint32_t before = agent_of(store, "before"), here = agent_of(store, "here");
    uint32_t kept = agent_of(store, "kept"), n = n_rotations(store);
    struct store_run *runs;
    struct arena arena;
    size_t n_runs;

    put_some(store, before, layout, 1);
    for (uint64_t i = 1; n_rotations(store) < n + 1; i++)
        put_some(store, kept, layout, i);
    put_some(store, here, layout, 1);
    n = n_rotations(store);
    forget(store, "silent");
    forget(store, "before");
    await_erasure(store, silent);
    await_erasure(store, before);
    ck_assert_uint_eq(n_rotations(store), n);
    arena_init(&arena, 4096);
    ck_assert_int_eq(store_run_list(store, before, &arena, &runs, &n_runs), 0);
    ck_assert_uint_eq(n_runs, 0);
    arena_deinit(&arena);
    forget(store, "here");
    await_erasure(store, here);
    ck_assert_uint_eq(n_rotations(store), n + 1);
    store_close(store);
    store = open_store(128 << 10);
    ck_assert_uint_eq(scan_column(store, before, layout, 0)->n, 0);
    ck_assert_uint_gt(scan_column(store, kept, layout, 0)->n, 0);
    store_close(store);
    check_database();
}
END_TEST

START_TEST(an_agent_that_is_forgotten_before_a_restart_is_in_the_segment_that_goes_on)
{
    struct store *store = open_store(0);
    uint32_t layout = layout_of(store, COLUMNS), gone = agent_of(store, "gone"), n;

    put_some(store, agent_of(store, "kept"), layout, 1);
    put_some(store, gone, layout, 1);
    store_close(store);
    store = open_store(0);
    n = n_rotations(store);
    forget(store, "gone");
    await_erasure(store, gone);
    ck_assert_uint_eq(n_rotations(store), n + 1);
    store_close(store);
}
END_TEST

START_TEST(segments_that_are_small_move_no_follower_on)
{
    struct store_options options = store_settings(0);
    struct store_follower *follower = NULL;
    struct store_follow_lag lag;
    struct store *store = NULL;
    struct store_why why;
    uint32_t layout, kept, n;

    options.follow_bytes = 2 * options.segment_bytes;
    ck_assert_int_eq(store_open(&store, &options, &why), 0);
    layout = layout_of(store, COLUMNS);
    kept = agent_of(store, "kept");
    n = n_rotations(store);
    ck_assert_int_eq(store_follow(store, "there", &follower), 0);
    for (uint32_t i = 1; i <= 4; i++) {
        char id[16];

        snprintf(id, sizeof(id), "gone-%u", i);
        put_some(store, kept, layout, i);
        put_some(store, agent_of(store, id), layout, 1);
        forget(store, id);
        await_rotations(store, n + i);
    }
    ck_assert_int_eq(store_seal(store), 0);
    ck_assert_uint_eq(stats_now(store).n_segments, 5);
    ck_assert_uint_lt(journal_held(&store->journal).n_sealed_bytes, 4 << 20);
    store_follow_lag(follower, &lag);
    ck_assert_uint_eq(lag.n_lost_chunks, 0);
    store_unfollow(follower);
    store_close(store);
}
END_TEST

START_TEST(what_the_registry_began_is_finished_by_the_next_start)
{
    struct store *store = open_store(0);
    struct filled filled = fill(store);
    char key[STORE_FORGET_KEY_BYTES], other[STORE_FORGET_KEY_BYTES];
    const struct store_write begun[] = {
        { STORE_TABLE_META, store_forget_key(key, "gone"),
          span_of(&filled.gone, sizeof(filled.gone)) },
        /* Of an agent that is no more: not of who has its id now. */
        { STORE_TABLE_META, store_forget_key(other, "kept"), span_of("\xff\0\0", 4) },
    };
    struct arena arena;
    struct span value;

    ck_assert_int_eq(store_state_write(store, begun, 2), 0);
    store_close(store);
    store = open_store(0);
    check_found(store, &filled);
    await_erasure(store, filled.gone);
    arena_init(&arena, 4096);
    ck_assert_int_eq(store_state_get(store, STORE_TABLE_META, begun[0].key, &arena, &value),
                     STORE_NOT_FOUND);
    arena_deinit(&arena);
    store_close(store);
    check_disk(&filled);
}
END_TEST

/* ---- round by round: the sealer's thread has ended, and the test does its steps ---- */

static bool day_has(struct days *days, int32_t number, uint32_t agent)
{
    struct day *day;
    MDB_txn *txn;
    MDB_cursor *cursor;
    MDB_val key, value;
    uint8_t from[4];
    bool has;

    db_key_u32(from, agent);
    key = db_val(from, sizeof(from));
    ck_assert_int_eq(days_use(days, number, &day), 0);
    ck_assert_int_eq(mdb_txn_begin(day->env, NULL, MDB_RDONLY, &txn), 0);
    ck_assert_int_eq(mdb_cursor_open(txn, day->blocks, &cursor), 0);
    has = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE) == 0 &&
          db_u32_of(db_val(key.mv_data, 4)) == agent;
    mdb_cursor_close(cursor);
    mdb_txn_abort(txn);
    days_release(days, day);
    return has;
}

static void erase_one_round(struct store *store)
{
    bool has_more;

    ck_assert_int_eq(erase_step(&store->sealer, &has_more), 0);
}

/* Rows of one day, sealed. */
static void
fill_day(struct store *store, uint32_t agent, uint32_t layout, uint64_t sequence, int32_t day)
{
    const struct put put = { agent, layout, 1, sequence, NOON_US + day * DAY_US, COLUMNS, ROWS };

    ck_assert_int_eq(put_rows(store, put, NULL), STORE_OK);
    ck_assert_int_eq(store_seal(store), 0);
}

START_TEST(a_day_without_room_keeps_no_other_waiting)
{
    struct store *store = open_store(0);
    const uint32_t layout = layout_of(store, COLUMNS), first = agent_of(store, "first");
    const uint32_t second = agent_of(store, "second"), kept = agent_of(store, "kept");
    const int32_t at = day_of(NOON_US);
    struct agent *a = agents_get(&store->agents, first), *b = agents_get(&store->agents, second);
    struct day *full;

    fill_day(store, first, layout, 1, 1);
    fill_day(store, first, layout, 2, 2);
    fill_day(store, kept, layout, 1, 1);
    fill_day(store, second, layout, 1, 2);
    sealer_stop(&store->sealer);
    ck_assert_int_eq(days_rewrite(&store->days, at + 1), 0); /* no free pages */
    ck_assert_int_eq(days_use(&store->days, at + 1, &full), 0);
    ck_assert_int_eq(mdb_env_set_mapsize(full->env, 1), 0); /* as much as it has */
    forget(store, "first");
    forget(store, "second");
    for (int i = 0; i < 3; i++) /* their turns */
        erase_one_round(store);
    ck_assert(day_has(&store->days, at + 1, first));
    ck_assert(!day_has(&store->days, at + 2, first));
    ck_assert_uint_eq(a->erased_below, 0);
    ck_assert(a->is_erasure_short && store->sealer.is_erasure_stuck);
    ck_assert(store->sealer.is_day_at_limit);
    ck_assert(!day_has(&store->days, at + 2, second));
    ck_assert_uint_gt(b->erased_below, 0);
    ck_assert_int_eq(mdb_env_set_mapsize(full->env, 64u << 20), 0);
    for (int i = 0; i < 2; i++)
        erase_one_round(store);
    ck_assert(!day_has(&store->days, at + 1, first));
    ck_assert(day_has(&store->days, at + 1, kept));
    ck_assert_uint_gt(a->erased_below, 0);
    ck_assert(!store->sealer.is_erasure_stuck);
    days_release(&store->days, full);
    store_close(store);
}
END_TEST

static size_t n_marked(struct store *store)
{
    size_t n = 0;

    for (size_t tier = 0; tier < ROLL_TIERS; tier++) {
        struct days *days = &store->rolled[tier];
        struct day *period;

        for (int32_t at = days_next(days, INT32_MIN); at != INT32_MAX;
             at = days_next(days, at + 1)) {
            ck_assert_int_eq(days_use(days, at, &period), 0);
            n += period->has_erased;
            days_release(days, period);
        }
    }
    return n;
}

/* A whole sweep. The most periods that one step wrote anew. */
static size_t sweep_by_hand(struct store *store)
{
    size_t most = 0, n = n_marked(store);

    store->sealer.shared.wants_sweep = true;
    for (bool has_more = true; has_more;) {
        size_t left;

        ck_assert_int_eq(compact_step(&store->sealer, &has_more), 0);
        left = n_marked(store);
        most = n - left > most ? n - left : most;
        n = left;
    }
    return most;
}

START_TEST(months_and_years_are_written_anew_one_in_a_step)
{
    struct store *store = open_store(0);
    struct filled filled = fill(store);

    sealer_stop(&store->sealer);
    store->sealer.sweep.is_running = false;
    forget(store, "gone");
    erase_one_round(store);
    ck_assert_uint_eq(n_marked(store), 2);
    store->options.full_percent = 0;
    ck_assert_uint_eq(sweep_by_hand(store), 0);
    ck_assert(store->sealer.shared.is_sweep_short);
    ck_assert_uint_eq(n_marked(store), 2);
    store->options.full_percent = 100;
    ck_assert_uint_eq(sweep_by_hand(store), 1);
    ck_assert(!store->sealer.shared.is_sweep_short);
    ck_assert_uint_eq(n_marked(store), 0);
    store_close(store);
    store = open_store(0);
    await_erasure(store, filled.gone);
    store_close(store);
    check_disk(&filled);
}
END_TEST

static void put_many_logs(struct store *store, uint32_t agent, uint32_t batches, uint32_t n)
{
    for (uint32_t i = 0; i < batches; i++) {
        const struct log_put put = {
            .agent = agent,
            .spool = 2,
            .sequence = i + 1,
            .first = i * n,
            .n = n,
            .time_us = NOON_US + i * SECOND_US,
            .step_us = 10,
            .body_bytes = LINE_BYTES,
        };

        ck_assert_int_eq(put_logs(store, put, NULL), STORE_OK);
        if (i % 2)
            ck_assert_int_eq(store_seal(store), 0);
    }
    ck_assert_int_eq(store_seal(store), 0);
}

START_TEST(who_goes_while_its_logs_are_compacted_leaves_the_next_one_its_own)
{
    struct store *store = open_store(0);
    const uint32_t gone = agent_of(store, "gone"), kept = agent_of(store, "kept");
    size_t n_before, n_steps = 0;
    bool has_more = true;

    put_many_logs(store, gone, 16, 5000); /* more than one step encodes */
    put_many_logs(store, kept, 4, LINES);
    sealer_stop(&store->sealer);
    n_before = read_logs(store, kept)->n_blocks;
    ck_assert_uint_gt(n_before, 1);
    for (store->sealer.shared.wants_logs_sweep = true; has_more; n_steps++) {
        ck_assert_int_eq(logs_compact_step(&store->sealer, &has_more), 0);
        if (n_steps == 0)
            forget(store, "gone");
    }
    ck_assert_uint_gt(n_steps, 1);
    ck_assert_uint_lt(read_logs(store, kept)->n_blocks, n_before);
    check_lines(store, kept, 4 * LINES);
    store_close(store);
}
END_TEST

/* ---- a full disk ---- */

static void fall_silent(int code, struct fault_site site, const char *reason)
{
    (void) code;
    (void) site;
    (void) reason;
}

/* No file of this process grows, or is written at all: the disk is full. */
static void fill_disk(struct rlimit *ret_before)
{
    struct rlimit none;

    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, ret_before), 0);
    none = *ret_before;
    none.rlim_cur = 0;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &none), 0);
}

/* As server/pki does: with its own rows, in its own transaction. */
static void begin_in_registry(struct store *store, uint32_t number)
{
    char key[STORE_FORGET_KEY_BYTES];
    const struct store_write begun = { STORE_TABLE_META, store_forget_key(key, "gone"),
                                       span_of(&number, sizeof(number)) };

    ck_assert_int_eq(store_state_write(store, &begun, 1), 0);
}

START_TEST(what_a_full_disk_left_half_forgotten_gives_nobody_its_number)
{
    struct store *store = open_store(0);
    struct filled filled = fill(store);
    const struct store_write label = { STORE_TABLE_LABELS, span_of("gone\0role", 9),
                                       span_of_text("new") };
    struct store_forgotten told;
    struct store_agent facts;
    struct rlimit before;
    uint32_t number;

    begin_in_registry(store, filled.gone);
    fault_set_sink(fall_silent);
    fill_disk(&before);
    ck_assert_int_eq(store_agent_forget(store, "gone", &told), STORE_FULL);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &before), 0);
    /* Enrolled again, with a label, before the disk let it go. */
    ck_assert_int_eq(store_state_write(store, &label, 1), 0);
    ck_assert_int_eq(store_agent_intern(store, "gone", &number), STORE_FULL);
    ck_assert_int_eq(store_agent_intern(store, "kept", &number), 0);
    ck_assert_uint_eq(number, filled.kept);
    store->state.on_tick(store); /* not ten seconds later */
    check_found(store, &filled);
    number = agent_of(store, "gone");
    ck_assert_uint_gt(number, filled.kept);
    put_all(store, number, filled.layout, 1);
    store_close(store);
    store = open_store(0);
    ck_assert_uint_eq(agent_of(store, "gone"), number);
    ck_assert_uint_eq(scan_column(store, number, filled.layout, 0)->n, ROWS);
    facts = facts_of(store, number);
    ck_assert_uint_eq(facts.n_samples, ROWS * COLUMNS);
    ck_assert_uint_eq(facts.n_labels, 1);
    await_erasure(store, filled.gone);
    store_close(store);
}
END_TEST

START_TEST(who_was_let_in_before_a_forgetting_is_no_new_agent)
{
    struct store *store = open_store(0);
    const uint64_t before = store_agents_forgotten(store);
    struct store_forgotten told;
    uint32_t number, again;

    ck_assert_int_eq(store_agent_intern_since(store, "gone", before, &number), 0);
    ck_assert_int_eq(store_agent_forget(store, "gone", &told), 0);
    ck_assert_int_eq(store_agent_intern_since(store, "gone", before, &again), STORE_NOT_FOUND);
    ck_assert_int_eq(store_agent_find(store, "gone", &again), STORE_NOT_FOUND);
    ck_assert_int_eq(store_agent_intern_since(store, "gone", store_agents_forgotten(store), &again),
                     0);
    ck_assert_uint_gt(again, number);
    /* Nor is it who has the id since then. */
    ck_assert_int_eq(store_agent_intern_since(store, "gone", before, &again), STORE_NOT_FOUND);
    store_close(store);
}
END_TEST

/* ---- kills ---- */

#ifdef SENTINEL_FAULT_POINTS
static const char *const points[] = { "erase_before_commit:1",   "erase_before_commit:3",
                                      "erase_after_commit:1",    "erase_after_commit:5",
                                      "inventory_before_commit", "erase_before_done",
                                      "erase_before_unmark:1",   "rewrite_before_exchange:2",
                                      "checkpoint_before_unlink" };

static void forget_and_die(void *ctx)
{
    struct store *store = open_store(0);
    struct store_forgotten told;
    uint32_t number;

    setenv("SENTINEL_FAULT", ctx, 1);
    ck_assert_int_eq(store_agent_find(store, "gone", &number), 0);
    ck_assert_uint_gt(count_packs(store, number).n_blocks, 0);
    ck_assert_int_eq(store_agent_forget(store, "gone", &told), 0);
    await_erasure(store, number);
    store_close(store);
}

START_TEST(a_kill_at_any_point_delays_it_to_the_next_start)
{
    struct store *store = open_store(0);
    struct filled filled = fill(store);
    char point[64];
    int status;

    store_close(store);
    snprintf(point, sizeof(point), "%s", points[_i]);
    status = in_child(forget_and_die, point);
    ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "%s: %d", point, status);
    store = open_store(0);
    check_found(store, &filled);
    await_erasure(store, filled.gone);
    check_erased(store, &filled);
    store_close(store);
    check_disk(&filled);
}
END_TEST
#endif

TCase *case_erase(void)
{
    TCase *tcase = tcase_create("erasure");

    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, rig_begin, rig_finish);
    tcase_add_test(tcase, nothing_of_a_forgotten_agent_is_found_or_stays_on_disk);
    tcase_add_test(tcase, what_is_on_its_way_when_its_agent_is_forgotten_is_nobodys);
    tcase_add_test(tcase, values_that_are_sealed_and_not_compacted_yet_go_too);
    tcase_add_test(tcase, the_journal_goes_on_in_a_new_segment_only_where_the_agent_is_in_it);
    tcase_add_test(tcase,
                   an_agent_that_is_forgotten_before_a_restart_is_in_the_segment_that_goes_on);
    tcase_add_test(tcase, segments_that_are_small_move_no_follower_on);
    tcase_add_test(tcase, what_the_registry_began_is_finished_by_the_next_start);
    tcase_add_test(tcase, a_day_without_room_keeps_no_other_waiting);
    tcase_add_test(tcase, months_and_years_are_written_anew_one_in_a_step);
    tcase_add_test(tcase, who_goes_while_its_logs_are_compacted_leaves_the_next_one_its_own);
    tcase_add_test(tcase, what_a_full_disk_left_half_forgotten_gives_nobody_its_number);
    tcase_add_test(tcase, who_was_let_in_before_a_forgetting_is_no_new_agent);
#ifdef SENTINEL_FAULT_POINTS
    tcase_add_loop_test(tcase, a_kill_at_any_point_delays_it_to_the_next_start, 0,
                        (int) (sizeof(points) / sizeof(points[0])));
#endif
    return tcase;
}
