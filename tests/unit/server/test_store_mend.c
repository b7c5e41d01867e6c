/* SPDX-License-Identifier: Apache-2.0 */

/* What bit rot takes of a day's records is made anew from its blocks: no row comes twice, none that
 * the journal still has is lost. */

#include "test_store.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/log/log.h"
#include "server/store/whole.h"

#define SECOND_US INT64_C(1000000)
#define NOON_US ((INT64_C(1793491200) - 43200) * SECOND_US) /* of 2026-10-31 */
#define DAY_PATH "default/metrics/20261031"
#define COLUMNS 5

/* ---- what is said ---- */

static void log_to(const char *path)
{
    struct log_options options = { .level = LOG_INFO,
                                   .fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600) };

    ck_assert_int_ge(options.fd, 0);
    log_init(&options);
}

static bool log_has(const char *path, const char *event)
{
    FILE *file = fopen(path, "r");
    char line[2000];
    bool has = false;

    ck_assert_ptr_nonnull(file);
    while (!has && fgets(line, sizeof(line), file))
        has = strstr(line, event) != NULL;
    fclose(file);
    return has;
}

struct told {
    size_t n;
    char first[512];
};

static void on_damage(void *ctx, const struct store_damage *damage)
{
    struct told *told = ctx;

    if (told->n++ == 0)
        snprintf(told->first, sizeof(told->first), "%s", damage->what);
}

static struct told verify(void)
{
    struct told told = { 0 };
    struct store_survey survey = {
        .directory = store_path, .is_deep = true, .on_damage = on_damage, .ctx = &told
    };
    struct store_why why;

    ck_assert_msg(store_survey(&survey, &why) == 0, "%s", why.text);
    return told;
}

/* ---- what is there ---- */

static void
put(struct store *store, uint32_t agent, uint32_t layout, uint64_t sequence, int64_t time_us)
{
    struct put put = { agent, layout, 1, sequence, time_us, COLUMNS, 60 };

    ck_assert_int_eq(put_rows(store, put, NULL), STORE_OK);
}

static uint64_t n_span_rows(struct store *store, uint32_t agent)
{
    struct arena arena;
    struct store_span *spans;
    uint64_t n_rows = 0;
    size_t n;

    arena_init(&arena, 1 << 20);
    ck_assert_int_eq(store_spans(store, agent, &arena, &spans, &n), 0);
    for (size_t i = 0; i < n; i++)
        n_rows += spans[i].n_rows;
    arena_deinit(&arena);
    return n_rows;
}

static void check_rows(struct store *store, uint32_t agent, uint32_t layout, size_t n_rows)
{
    const struct scanned *got = scan_column(store, agent, layout, 2);

    ck_assert_uint_eq(got->n, n_rows);
    ck_assert_uint_eq(got->n_damaged, 0);
    ck_assert_uint_eq(n_span_rows(store, agent), n_rows);
}

/* Two agents: rows in blocks of two levels, and rows that only the journal has. */
static void fill(bool is_compacted, uint32_t agents[2], uint32_t *layout)
{
    struct store *store = open_store(0);

    *layout = layout_of(store, COLUMNS);
    agents[0] = agent_of(store, "web-1");
    agents[1] = agent_of(store, "web-2");
    for (uint64_t i = 1; i <= 4; i++) {
        for (int a = 0; a < 2; a++)
            put(store, agents[a], *layout, i, NOON_US + (int64_t) i * 50 * SECOND_US);
        if (i < 4)
            ck_assert_int_eq(is_compacted && i == 2 ? store_compact(store) : store_seal(store), 0);
    }
    store_close(store);
}

START_TEST(an_agent_whose_record_is_damaged_is_sealed_as_far_as_its_blocks_say)
{
    uint32_t agents[2], layout;
    struct store *store;
    struct told told;
    char path[300];

    snprintf(path, sizeof(path), "%s/log", store_path);
    fill(_i & 1, agents, &layout);
    check_database();
    spoil_value(DAY_PATH, "agents", _i >> 1 & 1, _i >> 2 ? 9 : 30);
    told = verify();
    ck_assert_uint_eq(told.n, 1);
    ck_assert_ptr_nonnull(strstr(told.first, "how far it is sealed has a bad checksum"));
    log_to(path);
    for (int again = 0; again < 2; again++) {
        store = open_store(0);
        for (int a = 0; a < 2; a++)
            check_rows(store, agents[a], layout, 240);
        store_close(store);
        check_database(); /* it was written anew */
    }
    ck_assert(log_has(path, "event=day_agent_damaged"));
    ck_assert(log_has(path, "event=day_agent_made_anew"));
    store = open_store(0);
    for (int a = 0; a < 2; a++)
        put(store, agents[a], layout, 5, NOON_US);
    ck_assert_int_eq(_i & 1 ? store_seal(store) : store_compact(store), 0);
    for (int a = 0; a < 2; a++)
        check_rows(store, agents[a], layout, 300);
    store_close(store);
    check_database();
}
END_TEST

/* LMDB's environments want to be open once in a process. */
static void spoil_first_agent(void *ctx)
{
    (void) ctx;
    spoil_value(DAY_PATH, "agents", 0, 9);
}

/* A store that was running when the bits turned. */
START_TEST(a_record_that_is_damaged_meanwhile_is_made_anew_by_the_next_seal)
{
    uint32_t agents[2], layout;
    struct store *store;

    fill(false, agents, &layout);
    store = open_store(0);
    ck_assert_int_eq(store_seal(store), 0);
    ck_assert_int_eq(in_child(spoil_first_agent, NULL), 0);
    put(store, agents[0], layout, 5, NOON_US);
    ck_assert_int_eq(store_seal(store), 0);
    check_rows(store, agents[0], layout, 300);
    store_close(store);
    check_database();
    store = open_store(0);
    for (int a = 0; a < 2; a++)
        check_rows(store, agents[a], layout, a ? 240 : 300);
    store_close(store);
}
END_TEST

START_TEST(a_block_that_is_damaged_too_comes_again_out_of_the_journal)
{
    uint32_t agents[2], layout;
    struct store *store;

    fill(false, agents, &layout);
    spoil_value(DAY_PATH, "agents", 0, 9);
    spoil_value(DAY_PATH, "blocks", 2, 60); /* the first agent's last */
    store = open_store(0);
    ck_assert_int_eq(store_seal(store), 0);
    ck_assert_uint_eq(scan_column(store, agents[0], layout, 2)->n, 240);
    ck_assert_uint_gt(scan_column(store, agents[0], layout, 2)->n_damaged, 0);
    check_rows(store, agents[1], layout, 240);
    store_close(store);
}
END_TEST

static wall_us a_week_later(void)
{
    return (wall_us){ NOON_US + 7 * DAY_US };
}

START_TEST(a_damaged_list_of_windows_is_made_anew_from_them)
{
    static const char *const periods[] = { "default/rollup-1m/202610", "default/rollup-1h/2026" };
    uint32_t agents[2], layout;
    struct store *store;
    struct arena arena;
    struct store_span *spans;
    size_t n;

    clock_set_source(a_week_later, NULL);
    fill(false, agents, &layout);
    store = open_store(0);
    ck_assert_int_eq(store_compact(store), 0);
    store_set_retention(store, DAY_US, 0);
    do {
        store_retain_now(store);
        usleep(1000);
    } while (days_count(&store->days) > 0);
    store_close(store);
    for (int tier = 0; tier < 2; tier++)
        spoil_value(periods[tier], "agents", 0, 9);
    ck_assert_uint_eq(verify().n, 2);
    for (int again = 0; again < 2; again++) {
        store = open_store(0);
        arena_init(&arena, 1 << 20);
        ck_assert_int_eq(store_spans(store, agents[0], &arena, &spans, &n), 0);
        ck_assert_uint_eq(n, 1);
        ck_assert_int_eq(spans[0].first_us, NOON_US + 50 * SECOND_US);
        ck_assert_int_eq(spans[0].last_us, NOON_US + 259 * SECOND_US);
        arena_deinit(&arena);
        store_close(store);
        check_database();
    }
}
END_TEST

START_TEST(a_day_of_another_format_is_refused_and_stays)
{
    struct store_options options = store_settings(0);
    uint32_t agents[2], layout;
    struct store *store = NULL;
    struct store_why why;

    fill(false, agents, &layout);
    spoil_value(DAY_PATH, "meta", 0, 0); /* "format" */
    ck_assert_int_lt(store_open(&store, &options, &why), 0);
    spoil_value(DAY_PATH, "meta", 0, 0);
    store = open_store(0);
    check_rows(store, agents[0], layout, 240);
    store_close(store);
}
END_TEST

TCase *case_mend(void)
{
    TCase *tcase = tcase_create("mend");

    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, make_database, remove_database);
    tcase_add_loop_test(tcase, an_agent_whose_record_is_damaged_is_sealed_as_far_as_its_blocks_say,
                        0, 8);
    tcase_add_test(tcase, a_record_that_is_damaged_meanwhile_is_made_anew_by_the_next_seal);
    tcase_add_test(tcase, a_block_that_is_damaged_too_comes_again_out_of_the_journal);
    tcase_add_test(tcase, a_damaged_list_of_windows_is_made_anew_from_them);
    tcase_add_test(tcase, a_day_of_another_format_is_refused_and_stays);
    return tcase;
}
