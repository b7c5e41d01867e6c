/* SPDX-License-Identifier: Apache-2.0 */

/* Looking through a database: what is there is counted, and what is damaged is named. */

#include "test_store.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/fault.h"
#include "common/base/file.h"
#include "common/base/rand.h"
#include "server/store/whole.h"

#define SECOND_US INT64_C(1000000)
#define NOON_US (INT64_C(1790000000) / 86400 * DAY_US + DAY_US / 2)
#define AGENTS 3
#define COLUMNS 30

/* ---- what a survey tells ---- */

struct told {
    struct store_found found;
    size_t n_damages, n_environments, n_metrics;
    char first[1024]; /* the first damage: path, key, what */
    uint64_t n_top_series;
};

static void on_damage(void *ctx, const struct store_damage *damage)
{
    struct told *told = ctx;

    if (told->n_damages++ == 0)
        snprintf(told->first, sizeof(told->first), "%s: %s: %s", damage->path, damage->key,
                 damage->what);
}

static void on_environment(void *ctx, const struct store_environment *environment)
{
    struct told *told = ctx;

    told->n_environments++;
    ck_assert_uint_gt(environment->n_pages, environment->n_free_pages);
}

static void on_metric(void *ctx, const char *name, uint64_t n_series)
{
    struct told *told = ctx;

    ck_assert_uint_gt(strlen(name), 0);
    if (told->n_metrics++ == 0)
        told->n_top_series = n_series;
}

static struct told look(bool is_deep)
{
    struct told told = { .n_damages = 0 };
    struct store_survey survey = { .directory = store_path,
                                   .is_deep = is_deep,
                                   .on_damage = on_damage,
                                   .on_environment = on_environment,
                                   .on_metric = on_metric,
                                   .ctx = &told };
    struct store_why why;

    ck_assert_msg(store_survey(&survey, &why) == 0, "%s", why.text);
    told.found = survey.found;
    ck_assert_uint_eq(told.n_damages, told.found.n_damaged);
    return told;
}

static void check_whole(void)
{
    struct told told = look(true);

    ck_assert_msg(told.found.n_damaged == 0, "%s", told.first);
}

/* ---- a database of all kinds ---- */

/* Two days, blocks of two levels, roll-ups, and rows that only the journal has. */
static void fill(void)
{
    struct store *store = open_store(0);
    uint32_t layout = layout_of(store, COLUMNS);
    uint64_t sequence = 0;

    for (int round = 0; round < 4; round++) {
        for (uint32_t day = 0; day < 2; day++) {
            sequence++;
            for (uint32_t a = 0; a < AGENTS; a++) {
                char id[16];
                struct put put = { 0, layout, 1, sequence, 0, COLUMNS, 40 };

                snprintf(id, sizeof(id), "web-%u", a);
                put.agent = agent_of(store, id);
                put.time_us = NOON_US + day * DAY_US + round * 100 * SECOND_US;
                ck_assert_int_eq(put_rows(store, put, NULL), STORE_OK);
            }
        }
        if (round == 1)
            ck_assert_int_eq(store_compact(store), 0);
        if (round == 2)
            ck_assert_int_eq(store_seal(store), 0);
    }
    store_close(store);
}

#define N_ROWS (UINT64_C(4) * 2 * AGENTS * 40)

/* The first two rounds of a day are three minutes of one hour. */
static void check_rolled(const struct store_found *found)
{
    for (int tier = 0; tier < STORE_TIERS; tier++) {
        const struct store_rolled *rolled = &found->rolled[tier];

        ck_assert_uint_eq(rolled->n_periods, 1);
        ck_assert_uint_eq(rolled->n_records, 2 * AGENTS);
        ck_assert_uint_eq(rolled->n_windows, 2 * AGENTS * (tier == 0 ? 3 : 1));
        ck_assert_uint_eq(rolled->n_samples, N_ROWS / 2 * COLUMNS);
        ck_assert_uint_ge(rolled->n_bytes, 4096 * 6);
    }
}

START_TEST(all_there_is_is_counted_also_beside_an_open_store)
{
    struct store *store;
    struct told told;

    fill();
    for (int is_beside = 0; is_beside < 2; is_beside++) {
        store = is_beside ? open_store(0) : NULL;
        for (int is_deep = 0; is_deep < 2; is_deep++) {
            const struct store_found *found = &told.found;

            told = look(is_deep);
            ck_assert_msg(found->n_damaged == 0, "%s", told.first);
            ck_assert_uint_eq(told.n_environments, 8);
            check_rolled(found);
            ck_assert_uint_eq(found->n_segments, 1);
            ck_assert_uint_eq(found->n_days, 2);
            ck_assert_uint_eq(found->n_journal_rows, N_ROWS);
            ck_assert_uint_eq(found->n_journal_samples, N_ROWS * COLUMNS);
            ck_assert_uint_eq(found->n_batches, 4 * 2 * AGENTS);
            ck_assert_uint_eq(found->levels[2].n_samples, N_ROWS / 2 * COLUMNS);
            ck_assert_uint_eq(found->levels[0].n_samples, N_ROWS / 4 * COLUMNS);
            ck_assert_uint_gt(found->levels[0].n_bytes, 0);
            ck_assert_uint_le(found->levels[0].n_bytes + found->levels[2].n_bytes,
                              found->day_bytes);
            ck_assert_uint_eq(found->n_agents, AGENTS);
            ck_assert_uint_eq(found->n_definitions, COLUMNS);
            ck_assert_uint_eq(found->n_layouts, 1);
            ck_assert_uint_eq(found->n_series, AGENTS * COLUMNS);
            ck_assert_uint_eq(found->n_samples, N_ROWS * COLUMNS);
            ck_assert_int_gt(found->newest_commit_us, 0);
            ck_assert_uint_eq(told.n_metrics, 20);
            ck_assert_uint_eq(told.n_top_series, AGENTS);
        }
        store_close(store);
    }
}
END_TEST

START_TEST(where_there_is_no_database_it_is_said)
{
    struct store_survey survey = { .directory = "/nowhere" };
    struct store_why why;

    ck_assert_int_eq(store_survey(&survey, &why), STORE_NOT_FOUND);
    ck_assert_ptr_nonnull(strstr(why.text, "/nowhere"));
}
END_TEST

/* ---- flipped bits ---- */

static const char *environment(const char *kind)
{
    static char path[1024];
    char directory[512];
    DIR *entries;
    const struct dirent *entry;

    if (strcmp(kind, "state") == 0) {
        snprintf(path, sizeof(path), "%s/state", store_path);
        return path;
    }
    snprintf(directory, sizeof(directory), "%s/default/%s", store_path, kind);
    entries = opendir(directory);
    ck_assert_ptr_nonnull(entries);
    while ((entry = readdir(entries))) {
        if (entry->d_name[0] != '.')
            snprintf(path, sizeof(path), "%s/%s", directory, entry->d_name);
    }
    closedir(entries);
    return path;
}

static MDB_env *open_to_spoil(const char *path)
{
    MDB_env *env = NULL;

    ck_assert_int_eq(db_env_open(&env, path, UINT64_C(1) << 30, STATE_N_TABLES), 0);
    return env;
}

struct spoil {
    const char *kind, *table;
    size_t at;         /* byte of the first value; SIZE_MAX: its middle */
    const char *means; /* part of what is told */
};

/* One bit of the first value of a table, written as LMDB would write it: no page is wrong. */
static void spoil(const struct spoil *how)
{
    MDB_env *env = open_to_spoil(environment(how->kind));
    CLEANUP(buf_deinit) struct buf copy = { 0 };
    MDB_cursor *cursor;
    MDB_val key, value;
    MDB_txn *txn;
    MDB_dbi dbi;

    ck_assert_int_eq(mdb_txn_begin(env, NULL, 0, &txn), 0);
    ck_assert_int_eq(mdb_dbi_open(txn, how->table, 0, &dbi), 0);
    ck_assert_int_eq(mdb_cursor_open(txn, dbi, &cursor), 0);
    ck_assert_int_eq(mdb_cursor_get(cursor, &key, &value, MDB_FIRST), 0);
    buf_append(&copy, value.mv_data, value.mv_size);
    copy.data[how->at == SIZE_MAX ? copy.len / 2 : how->at] ^= 0x10;
    value = db_val(copy.data, copy.len);
    ck_assert_int_eq(mdb_cursor_put(cursor, &key, &value, MDB_CURRENT), 0);
    mdb_cursor_close(cursor);
    ck_assert_int_eq(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
}

static const struct spoil spoils[] = {
    { "journal", "chunks", 0, "checksum" },
    { "journal", "chunks", 8, "checksum" },
    { "journal", "chunks", SIZE_MAX, "checksum" },
    { "journal", "meta", 0,
      "does not follow" }, /* first_chunk 1 becomes 17: chunks lie before it */
    { "metrics", "blocks", 0, "head" },
    { "metrics", "blocks", 20, "head" },
    { "metrics", "blocks", SIZE_MAX, "checksum" },
    { "metrics", "agents", SIZE_MAX, "how far it is sealed" },
    { "metrics", "agents", 9, "how far it is sealed" },
    { "rollup-1m", "blocks", 0, "slice 0, minutes of 2026-09-21T12:00:00.000Z: its head" },
    { "rollup-1m", "blocks", 20, "head" },
    { "rollup-1m", "blocks", SIZE_MAX,
      "slice 0, minutes of 2026-09-21T12:00:00.000Z: bad checksum" },
    { "rollup-1m", "marks", 0, "mark of day 20717: bad checksum" },
    { "rollup-1m", "marks", 5, "mark of day 20717: bad checksum" },
    { "rollup-1m", "agents", SIZE_MAX, "list of its layouts" },
    { "rollup-1h", "blocks", 0, "slice 0, hours of 2026-09-21T00:00:00.000Z: its head" },
    { "rollup-1h", "blocks", SIZE_MAX, "slice 0, hours of 2026-09-21T00:00:00.000Z: bad checksum" },
    { "rollup-1h", "marks", SIZE_MAX, "mark of day 20717: bad checksum" },
    { "rollup-1h", "agents", 9, "list of its layouts" },
    { "state", "agents", 0, "no record of an agent" },
    { "state", "definitions", 0, "no text of a definition" },
    { "state", "layouts", 1, "names a definition that there is not" },
};

START_TEST(a_flipped_bit_in_any_table_is_named)
{
    const struct spoil *how = &spoils[_i];
    struct told told;

    fill();
    check_whole();
    spoil(how);
    told = look(true);
    ck_assert_uint_gt(told.found.n_damaged, 0);
    ck_assert_msg(strstr(told.first, environment(how->kind)) != NULL, "%s", told.first);
    ck_assert_msg(strstr(told.first, how->means) != NULL, "%s", told.first);
}
END_TEST

START_TEST(rows_without_their_agent_or_layout_are_named)
{
    static const char *const tables[] = { "agents", "layouts" };
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
    uint8_t name[4];
    MDB_val key = db_val(name, sizeof(name));
    struct told told;

    fill();
    env = open_to_spoil(environment("state"));
    db_key_u32(name, 1);
    ck_assert_int_eq(mdb_txn_begin(env, NULL, 0, &txn), 0);
    ck_assert_int_eq(mdb_dbi_open(txn, tables[_i], 0, &dbi), 0);
    ck_assert_int_eq(mdb_del(txn, dbi, &key, NULL), 0);
    ck_assert_int_eq(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
    told = look(true);
    ck_assert_uint_gt(told.found.n_damaged, 0);
    ck_assert_ptr_nonnull(
        strstr(told.first, _i == 0 ? "an agent that is not here" : "a layout that is not here"));
}
END_TEST

START_TEST(a_block_that_went_without_a_trace_is_missed)
{
    MDB_env *env;
    MDB_txn *txn;
    MDB_cursor *cursor;
    MDB_val key, value;
    MDB_dbi dbi;
    struct told told;

    fill();
    env = open_to_spoil(environment("metrics"));
    ck_assert_int_eq(mdb_txn_begin(env, NULL, 0, &txn), 0);
    ck_assert_int_eq(mdb_dbi_open(txn, "blocks", 0, &dbi), 0);
    ck_assert_int_eq(mdb_cursor_open(txn, dbi, &cursor), 0);
    ck_assert_int_eq(mdb_cursor_get(cursor, &key, &value, MDB_FIRST), 0);
    ck_assert_int_eq(mdb_cursor_del(cursor, 0), 0);
    mdb_cursor_close(cursor);
    ck_assert_int_eq(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
    told = look(true);
    ck_assert_uint_eq(told.found.n_damaged, 1);
    ck_assert_ptr_nonnull(strstr(told.first, "agent 1: its record has rows that no block has"));
}
END_TEST

START_TEST(a_chunk_that_went_without_a_trace_is_missed)
{
    MDB_env *env;
    MDB_txn *txn;
    uint8_t name[8];
    MDB_val key = db_val(name, sizeof(name));
    MDB_dbi dbi;
    struct told told;

    fill();
    env = open_to_spoil(environment("journal"));
    db_key_u64(name, 4);
    ck_assert_int_eq(mdb_txn_begin(env, NULL, 0, &txn), 0);
    ck_assert_int_eq(mdb_dbi_open(txn, "chunks", 0, &dbi), 0);
    ck_assert_int_eq(mdb_del(txn, dbi, &key, NULL), 0);
    ck_assert_int_eq(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
    told = look(true);
    ck_assert_uint_gt(told.found.n_damaged, 0);
    ck_assert_msg(strstr(told.first, "chunk 5: chunks before it are missing"), "%s", told.first);
}
END_TEST

/* ---- pages ---- */

static void overwrite(const char *kind, off_t at, const void *data, size_t len)
{
    char file[1200];
    int fd;

    snprintf(file, sizeof(file), "%s/data.mdb", environment(kind));
    fd = open(file, O_WRONLY);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pwrite(fd, data, len, at), (ssize_t) len);
    close(fd);
}

static off_t size_of(const char *kind)
{
    char file[1200];
    struct stat st;

    snprintf(file, sizeof(file), "%s/data.mdb", environment(kind));
    ck_assert_int_eq(stat(file, &st), 0);
    return st.st_size;
}

static const char *const kinds[] = { "journal", "metrics", "state", "rollup-1m", "rollup-1h" };
#define N_KINDS (sizeof(kinds) / sizeof(kinds[0]))

START_TEST(pages_of_nonsense_are_named_and_end_nobody)
{
    const char *kind = kinds[_i];
    uint8_t nonsense[4096];
    struct told told;

    fill();
    memset(nonsense, 0xa7, sizeof(nonsense));
    for (off_t at = 2 * 4096; at + 4096 <= size_of(kind); at += 4096)
        overwrite(kind, at, nonsense, sizeof(nonsense));
    told = look(true);
    ck_assert_uint_gt(told.found.n_damaged, 0);
    ck_assert_ptr_nonnull(strstr(told.first, environment(kind)));
}
END_TEST

START_TEST(a_file_that_ends_too_early_is_named)
{
    const char *kind = kinds[_i];
    char file[1200];
    struct told told;

    fill();
    snprintf(file, sizeof(file), "%s/data.mdb", environment(kind));
    ck_assert_int_eq(truncate(file, 3 * 4096), 0);
    told = look(true);
    ck_assert_uint_gt(told.found.n_damaged, 0);
    ck_assert_ptr_nonnull(strstr(told.first, environment(kind)));
}
END_TEST

START_TEST(a_file_that_is_no_database_is_named)
{
    const char *kind = kinds[_i];
    char letter[2 * 4096];
    struct told told;

    fill();
    memset(letter, 'a', sizeof(letter));
    overwrite(kind, 0, letter, sizeof(letter));
    told = look(true);
    ck_assert_uint_gt(told.found.n_damaged, 0);
    ck_assert_msg(strstr(told.first, environment(kind)) != NULL, "%s", told.first);
}
END_TEST

/* Of a table of roll-ups, the first row. */
static void lose(const char *kind, const char *table)
{
    MDB_env *env = open_to_spoil(environment(kind));
    MDB_cursor *cursor;
    MDB_val key, value;
    MDB_txn *txn;
    MDB_dbi dbi;

    ck_assert_int_eq(mdb_txn_begin(env, NULL, 0, &txn), 0);
    ck_assert_int_eq(mdb_dbi_open(txn, table, 0, &dbi), 0);
    ck_assert_int_eq(mdb_cursor_open(txn, dbi, &cursor), 0);
    ck_assert_int_eq(mdb_cursor_get(cursor, &key, &value, MDB_FIRST), 0);
    ck_assert_int_eq(mdb_cursor_del(cursor, 0), 0);
    mdb_cursor_close(cursor);
    ck_assert_int_eq(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
}

START_TEST(roll_ups_without_their_mark_or_list_are_named)
{
    struct told told;

    fill();
    lose(_i < 2 ? "rollup-1m" : "rollup-1h", _i % 2 ? "agents" : "marks");
    told = look(true);
    ck_assert_uint_eq(told.found.n_damaged, 1);
    ck_assert_msg(strstr(told.first, _i % 2 ? "agent 1: is rolled up, and there is no list"
                                            : "there is no mark of its day") != NULL,
                  "%s", told.first);
}
END_TEST

/* Whatever bit it is: an answer comes, and most are found. */
START_TEST(bits_at_random_never_end_the_survey)
{
    const char *kind = kinds[_i];
    CLEANUP(buf_deinit) struct buf whole = { 0 };
    char file[1200];
    struct rand rand;
    size_t n_found = 0;

    rand_init(&rand, 4711 + (uint64_t) _i);
    fill();
    snprintf(file, sizeof(file), "%s/data.mdb", environment(kind));
    ck_assert_int_eq(file_read(file, 64u << 20, &whole), 0);
    for (int trial = 0; trial < 60; trial++) {
        size_t at = 2 * 4096 + (size_t) (rand_u64(&rand) % (whole.len - 2 * 4096));
        uint8_t byte = whole.data[at] ^ (uint8_t) (1u << rand_u64(&rand) % 8);

        overwrite(kind, (off_t) at, &byte, 1);
        n_found += look(true).found.n_damaged > 0;
        overwrite(kind, (off_t) at, &whole.data[at], 1);
    }
    check_whole();
    ck_assert_uint_gt(n_found, 0);
}
END_TEST

START_TEST(what_was_set_aside_is_named)
{
    char from[1024], to[1100];
    struct told told;

    fill();
    snprintf(from, sizeof(from), "%s", environment("metrics"));
    snprintf(to, sizeof(to), "%s.damaged-1790000000", from);
    ck_assert_int_eq(rename(from, to), 0);
    told = look(true);
    ck_assert_uint_eq(told.found.n_damaged, 1);
    ck_assert_ptr_nonnull(strstr(told.first, "set aside"));
    ck_assert_uint_eq(told.found.n_days, 1);
}
END_TEST

static const char *refuse_row(void *ctx, enum store_table table, struct span key, struct span value)
{
    (void) ctx;
    (void) value;
    return table == STORE_TABLE_CERTIFICATES && key.len == 3 ? "not three bytes" : NULL;
}

START_TEST(rows_of_the_registry_are_judged_by_who_knows_them)
{
    struct store *store = open_store(0);
    struct store_write write = { STORE_TABLE_CERTIFICATES, span_of_text("abc"), span_of_text("x") };
    struct told told = { .n_damages = 0 };
    struct store_survey survey = {
        .directory = store_path, .check_row = refuse_row, .on_damage = on_damage, .ctx = &told
    };
    struct store_why why;

    ck_assert_int_eq(store_state_write(store, &write, 1), 0);
    store_close(store);
    check_whole();
    ck_assert_int_eq(store_survey(&survey, &why), 0);
    ck_assert_uint_eq(survey.found.n_damaged, 1);
    ck_assert_ptr_nonnull(strstr(told.first, "certificates, 616263: not three bytes"));
}
END_TEST

START_TEST(what_a_day_took_along_is_missed_by_nobody_though_the_journal_names_it)
{
    struct store *store = open_store(0);
    uint32_t wide = layout_of(store, 7), narrow = layout_of(store, 3), agent = agent_of(store, "a");
    int64_t at_us = NOON_US + 3650 * DAY_US; /* no sweep rolls it up: that would keep the layout */
    struct store_stats stats;
    struct told told;

    ck_assert_int_eq(put_rows(store, (struct put){ agent, wide, 1, 1, at_us, 7, 5 }, NULL), 0);
    ck_assert_int_eq(
        put_rows(store, (struct put){ agent, narrow, 1, 2, at_us + DAY_US, 3, 5 }, NULL), 0);
    ck_assert_int_eq(store_seal(store), 0);
    store_set_retention(store, 0, 1); /* all but the newest day */
    do {
        store_retain_now(store);
        usleep(1000);
        store_get_stats(store, &stats);
    } while (stats.n_days_gone == 0);
    store_close(store);
    store = open_store(0); /* and now the layout goes */
    ck_assert_ptr_null(store_layout_get(store, wide));
    store_close(store);
    told = look(true);
    ck_assert_msg(told.found.n_damaged == 0, "%s", told.first);
    ck_assert_uint_eq(told.found.n_journal_rows, 10);
    ck_assert_uint_eq(told.found.n_layouts, 1);
}
END_TEST

TCase *case_verify(void)
{
    TCase *tcase = tcase_create("verify");

    tcase_set_timeout(tcase, 240);
    tcase_add_checked_fixture(tcase, make_database, remove_database);
    tcase_add_test(tcase, all_there_is_is_counted_also_beside_an_open_store);
    tcase_add_test(tcase, where_there_is_no_database_it_is_said);
    tcase_add_loop_test(tcase, a_flipped_bit_in_any_table_is_named, 0,
                        sizeof(spoils) / sizeof(spoils[0]));
    tcase_add_loop_test(tcase, rows_without_their_agent_or_layout_are_named, 0, 2);
    tcase_add_test(tcase, a_block_that_went_without_a_trace_is_missed);
    tcase_add_test(tcase, a_chunk_that_went_without_a_trace_is_missed);
    tcase_add_loop_test(tcase, pages_of_nonsense_are_named_and_end_nobody, 0, N_KINDS);
    tcase_add_loop_test(tcase, a_file_that_ends_too_early_is_named, 0, N_KINDS);
    tcase_add_loop_test(tcase, a_file_that_is_no_database_is_named, 0, N_KINDS);
    tcase_add_loop_test(tcase, roll_ups_without_their_mark_or_list_are_named, 0, 4);
    tcase_add_loop_test(tcase, bits_at_random_never_end_the_survey, 0, N_KINDS);
    tcase_add_test(tcase, what_was_set_aside_is_named);
    tcase_add_test(tcase, what_a_day_took_along_is_missed_by_nobody_though_the_journal_names_it);
    tcase_add_test(tcase, rows_of_the_registry_are_judged_by_who_knows_them);
    return tcase;
}
