/* SPDX-License-Identifier: Apache-2.0 */
#include "test_inventory_rig.h"

#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/fault.h"
#include "common/base/rand.h"

START_TEST(an_inventory_is_there_again_after_the_store_was_opened_again)
{
    const struct rig_table tables[] = { { "packages", 2000, 1 }, { "users", 20, 0 } };
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1");
    struct rig_upload upload = rig_send(store, agent, tables, 2, true);
    struct store_inventory told;
    struct arena arena;

    ck_assert_int_eq(upload.r, 0);
    ck_assert_uint_eq(upload.revision, 1);
    ck_assert_uint_eq(upload.n_changed, 2);
    store_close(store);
    store = open_store(0);
    arena_init(&arena, 1 << 20);
    ck_assert_int_eq(store_inventory_get(store, agent, INT64_MAX, &arena, &told), 0);
    ck_assert_int_eq(told.time.us, RIG_NOW_US);
    ck_assert_int_eq(told.received.us, RIG_NOW_US + 1);
    ck_assert_int_eq(told.confirmed.us, RIG_NOW_US + 1);
    rig_check_is(store, &told, tables, 2);
    ck_assert_int_eq(store_inventory_get(store, agent_of(store, "none"), INT64_MAX, &arena, &told),
                     STORE_NOT_FOUND);
    arena_deinit(&arena);
    rig_survey_whole();
    store_close(store);
}
END_TEST

START_TEST(a_header_alone_names_what_is_missing_and_only_that_must_be_sent)
{
    const struct rig_table first[] = { { "a", 100, 0 }, { "b", 100, 1 }, { "c", 110, 1 } };
    const struct rig_table second[] = { { "a", 100, 0 }, { "b", 200, 1 }, { "c", 110, 1 } };
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1");
    struct rig_upload upload = rig_send(store, agent, first, 3, false);

    ck_assert_int_eq(upload.r, STORE_NOT_FOUND);
    ck_assert(upload.is_missing[0] && upload.is_missing[1] && upload.is_missing[2]);
    ck_assert_int_eq(rig_send(store, agent, first, 3, true).r, 0);
    upload = rig_send(store, agent, second, 3, false);
    ck_assert_int_eq(upload.r, STORE_NOT_FOUND);
    ck_assert(!upload.is_missing[0] && upload.is_missing[1] && !upload.is_missing[2]);
    /* Another agent has the same: its header is enough. */
    upload = rig_send(store, agent_of(store, "web-2"), first, 3, false);
    ck_assert_int_eq(upload.r, 0);
    ck_assert_uint_eq(upload.revision, 1);
    ck_assert_uint_eq(rig_survey_whole().n_inventory_contents, 3);
    store_close(store);
}
END_TEST

START_TEST(the_same_header_again_makes_no_revision_but_confirms)
{
    const struct rig_table tables[] = { { "packages", 100, 1 } };
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1");
    struct store_inventory told;
    struct rig_upload upload;
    struct arena arena;

    ck_assert_int_eq(rig_send(store, agent, tables, 1, true).r, 0);
    rig_now_us += RIG_DAY_US;
    upload = rig_send(store, agent, tables, 1, false);
    ck_assert_int_eq(upload.r, 0);
    ck_assert_uint_eq(upload.revision, 1);
    ck_assert_uint_eq(upload.n_changed, 0);
    arena_init(&arena, 1 << 20);
    ck_assert_int_eq(store_inventory_get(store, agent, INT64_MAX, &arena, &told), 0);
    ck_assert_int_eq(told.time.us, RIG_NOW_US);
    ck_assert_int_eq(told.confirmed.us, RIG_NOW_US + RIG_DAY_US + 1);
    arena_deinit(&arena);
    ck_assert_uint_eq(rig_survey_whole().n_inventory_revisions, 1);
    store_close(store);
}
END_TEST

START_TEST(a_table_that_is_not_named_any_more_is_gone_as_of_then)
{
    const struct rig_table both[] = { { "packages", 100, 1 }, { "users", 20, 0 } };
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1");
    struct store_inventory told;
    struct rig_upload upload;
    struct arena arena;

    arena_init(&arena, 1 << 20);
    ck_assert_int_eq(rig_send(store, agent, both, 2, true).r, 0);
    rig_now_us += RIG_DAY_US;
    upload = rig_send(store, agent, both + 1, 1, false);
    ck_assert_int_eq(upload.r, 0);
    ck_assert_uint_eq(upload.revision, 2);
    ck_assert_uint_eq(upload.n_changed, 1);
    ck_assert_int_eq(store_inventory_get(store, agent, INT64_MAX, &arena, &told), 0);
    rig_check_is(store, &told, both + 1, 1);
    ck_assert_uint_eq(told.n_removed, 1);
    ck_assert_str_eq(told.removed[0], "packages");
    ck_assert(!told.tables[0].is_changed);
    ck_assert_int_eq(store_inventory_get(store, agent, rig_now_us - 1, &arena, &told), 0);
    rig_check_is(store, &told, both, 2);
    ck_assert_int_eq(told.confirmed.us, 0);
    ck_assert_int_eq(store_inventory_get(store, agent, RIG_NOW_US - 1, &arena, &told),
                     STORE_NOT_FOUND);
    /* It comes back, and then all go. */
    ck_assert_int_eq(rig_send(store, agent, both, 2, false).r, 0);
    upload = rig_send(store, agent, both, 0, false);
    ck_assert_int_eq(upload.r, 0);
    ck_assert_uint_eq(upload.n_changed, 2);
    ck_assert_int_eq(store_inventory_get(store, agent, INT64_MAX, &arena, &told), 0);
    ck_assert_uint_eq(told.n_tables, 0);
    ck_assert_uint_eq(told.n_removed, 2);
    arena_deinit(&arena);
    rig_survey_whole();
    store_close(store);
}
END_TEST

START_TEST(a_history_of_small_changes_costs_little_more_than_one_table)
{
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1");
    struct store_found found;
    uint64_t alone;

    rig_put_one(store, agent, "packages", 2000, 0);
    alone = rig_survey_whole().inventory_packed_bytes;
    for (uint32_t i = 1; i <= 30; i++)
        ck_assert_uint_eq(rig_put_one(store, agent, "packages", 2000, i), i + 1);
    found = rig_survey_whole();
    ck_assert_uint_eq(found.n_inventory_contents, 31);
    ck_assert_uint_gt(found.inventory_table_bytes, UINT64_C(31) * 2000 * 30);
    ck_assert_uint_lt(found.inventory_packed_bytes, 2 * alone);
    store_close(store);
}
END_TEST

/* A fleet of machines that are nearly the same shares a base, but not more of them than may. */
START_TEST(nearly_equal_machines_share_what_they_have_in_common)
{
    struct store *store = open_store(0);
    struct store_found found;
    uint64_t alone;

    rig_put_one(store, agent_of(store, "web-0"), "packages", 2000, 0);
    alone = rig_survey_whole().inventory_packed_bytes;
    for (uint32_t i = 1; i < 100; i++) {
        char id[16];

        snprintf(id, sizeof(id), "web-%u", i);
        rig_put_one(store, agent_of(store, id), "packages", 2000, i);
    }
    found = rig_survey_whole();
    ck_assert_uint_eq(found.n_inventories, 100);
    ck_assert_uint_ge(found.inventory_packed_bytes, 2 * alone); /* the dependents of one are few */
    ck_assert_uint_lt(found.inventory_packed_bytes, 8 * alone);
    store_close(store);
}
END_TEST

START_TEST(history_is_trimmed_by_number_and_what_nobody_needs_goes)
{
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1");
    struct store_inventory told;
    struct store_found found;
    struct arena arena;

    store_set_inventory_limits(store, 3, 0, UINT64_C(1) << 30);
    for (uint32_t i = 0; i < 10; i++)
        rig_put_one(store, agent, "packages", 2000, i);
    found = rig_survey_whole();
    ck_assert_uint_eq(found.n_inventory_revisions, 3);
    ck_assert_uint_eq(found.n_inventory_contents, 4); /* and the base of these three */
    arena_init(&arena, 1 << 20);
    ck_assert_int_eq(store_inventory_revision(store, agent, 7, &arena, &told), STORE_NOT_FOUND);
    ck_assert_int_eq(store_inventory_revision(store, agent, 8, &arena, &told), 0);
    rig_check_is(store, &told, (const struct rig_table[]){ { "packages", 2000, 7 } }, 1);
    rig_put_one(store, agent, "packages", 30, 0);
    rig_put_one(store, agent, "packages", 30, 1);
    rig_put_one(store, agent, "packages", 40, 2);
    arena_deinit(&arena);
    ck_assert_uint_eq(rig_survey_whole().n_inventory_contents,
                      3); /* the base has gone with the last */
    store_close(store);
}
END_TEST

START_TEST(history_is_trimmed_by_age_of_the_replacement_and_the_newest_stays)
{
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1"), quiet = agent_of(store, "web-2");
    struct store_inventory told;
    struct arena arena;

    store_set_inventory_limits(store, 100, 10 * RIG_DAY_US, UINT64_C(1) << 30);
    rig_put_one(store, quiet, "packages", 60, 9);
    rig_put_one(store, agent, "packages", 60, 0);
    rig_now_us += 9 * RIG_DAY_US;
    rig_put_one(store, agent, "packages", 60, 1);
    rig_now_us += 9 * RIG_DAY_US;
    /* The first was replaced nine days ago: it still tells what was ten days ago. */
    ck_assert_int_eq(store_inventory_trim(store), 0);
    ck_assert_uint_eq(rig_survey_whole().n_inventory_revisions, 3);
    rig_now_us += 2 * RIG_DAY_US;
    ck_assert_int_eq(store_inventory_trim(store), 0);
    ck_assert_uint_eq(rig_survey_whole().n_inventory_revisions, 2);
    rig_now_us += 1000 * RIG_DAY_US;
    ck_assert_int_eq(store_inventory_trim(store), 0);
    ck_assert_uint_eq(rig_survey_whole().n_inventory_revisions, 2);
    arena_init(&arena, 1 << 20);
    ck_assert_int_eq(store_inventory_get(store, quiet, INT64_MAX, &arena, &told), 0);
    ck_assert_int_eq(store_inventory_get(store, agent, INT64_MAX, &arena, &told), 0);
    ck_assert_uint_eq(told.revision, 2);
    arena_deinit(&arena);
    store_close(store);
}
END_TEST

START_TEST(more_than_all_may_have_is_refused_and_what_is_there_stays)
{
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1");
    const struct rig_table large = { "packages", 5000, 1 }, known = { "packages", 100, 1 };

    rig_put_one(store, agent, "packages", 100, 1);
    store_set_inventory_limits(store, 100, 0, 64 << 10);
    ck_assert_int_eq(rig_send(store, agent, &large, 1, true).r, STORE_TOO_MUCH);
    ck_assert_int_eq(rig_send(store, agent, &known, 1, true).r, 0);
    ck_assert_uint_eq(rig_survey_whole().n_inventory_contents, 1);
    store_close(store);
}
END_TEST

START_TEST(a_full_disk_refuses_and_reading_goes_on)
{
    const struct rig_table one = { "packages", 100, 0 }, two = { "packages", 100, 1 };
    struct store_options options = store_settings(0);
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1");
    struct store_inventory told;
    struct store_why why;
    struct arena arena;

    ck_assert_int_eq(rig_send(store, agent, &one, 1, true).r, 0);
    store_close(store);
    options.full_percent = 0; /* any use is too much */
    ck_assert_int_eq(store_open(&store, &options, &why), 0);
    ck_assert_int_eq(rig_send(store, agent, &two, 1, true).r, STORE_FULL);
    arena_init(&arena, 1 << 20);
    ck_assert_int_eq(store_inventory_get(store, agent, INT64_MAX, &arena, &told), 0);
    rig_check_is(store, &told, &one, 1);
    arena_deinit(&arena);
    rig_survey_whole();
    store_close(store);
}
END_TEST

/* ---- by chance ---- */

static void upload_and_die(void *ctx)
{
    const struct rig_table tables[] = { { "packages", 2000, 1 }, { "users", 20, 0 } };
    struct store *store = open_store(0);

    (void) ctx;
    if (rig_send(store, agent_of(store, "web-1"), tables, 2, true).r != 0)
        _exit(1);
    kill(getpid(), SIGKILL);
}

START_TEST(what_was_answered_survives_a_kill)
{
    const struct rig_table tables[] = { { "packages", 2000, 1 }, { "users", 20, 0 } };
    int status = in_child(upload_and_die, NULL);
    struct store *store = open_store(0);
    struct store_inventory told;
    struct arena arena;

    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    arena_init(&arena, 1 << 20);
    ck_assert_int_eq(store_inventory_get(store, agent_of(store, "web-1"), INT64_MAX, &arena, &told),
                     0);
    rig_check_is(store, &told, tables, 2);
    arena_deinit(&arena);
    rig_survey_whole();
    store_close(store);
}
END_TEST

#define AGENTS 5
#define HISTORY 8

/* What each agent sent last, and before; every revision that is kept must be it. */
struct model {
    struct rig_table tables[HISTORY][3];
    size_t n[HISTORY];
    uint64_t newest;
};

static size_t choose_tables(struct rand *rand, struct rig_table *to)
{
    static const char *const names[] = { "packages", "services", "users" };
    size_t n = 0;

    for (size_t i = 0; i < 3; i++) {
        if (rand_below(rand, 4) == 0)
            continue;
        to[n++] = (struct rig_table){ names[i], rand_below(rand, 3) ? 400 : 900,
                                      (uint32_t) rand_below(rand, 12) };
    }
    return n;
}

static void check_model(struct store *store, uint32_t agent, const struct model *model)
{
    struct store_inventory told;
    struct arena arena;

    for (uint64_t revision = model->newest; revision > 0 && revision + 4 > model->newest;
         revision--) {
        arena_init(&arena, 1 << 20);
        ck_assert_int_eq(store_inventory_revision(store, agent, revision, &arena, &told), 0);
        rig_check_is(store, &told, model->tables[revision % HISTORY], model->n[revision % HISTORY]);
        arena_deinit(&arena);
    }
}

START_TEST(whatever_comes_in_whatever_order_all_is_counted_right)
{
    static struct model models[AGENTS];
    struct store *store = open_store(0);
    struct rand rand;
    uint32_t agents[AGENTS];

    memset(models, 0, sizeof(models));
    rand_init(&rand, (uint64_t) _i + 1);
    store_set_inventory_limits(store, 4, 0, UINT64_C(1) << 30);
    for (size_t i = 0; i < AGENTS; i++) {
        char id[16];

        snprintf(id, sizeof(id), "web-%zu", i);
        agents[i] = agent_of(store, id);
    }
    for (size_t step = 0; step < 150; step++) {
        size_t i = rand_below(&rand, AGENTS);
        struct rig_table tables[3];
        size_t n = choose_tables(&rand, tables);
        struct rig_upload upload = rig_send(store, agents[i], tables, n, true);

        rig_now_us += 1000000;
        ck_assert_int_eq(upload.r, 0);
        ck_assert_uint_le(upload.revision, models[i].newest + 1);
        models[i].newest = upload.revision;
        memcpy(models[i].tables[upload.revision % HISTORY], tables, sizeof(tables));
        models[i].n[upload.revision % HISTORY] = n;
        if (step % 50 == 25) {
            store_close(store);
            store = open_store(0);
            store_set_inventory_limits(store, 4, 0, UINT64_C(1) << 30);
        }
    }
    for (size_t i = 0; i < AGENTS; i++)
        check_model(store, agents[i], &models[i]);
    rig_survey_whole();
    store_close(store);
}
END_TEST

TCase *case_inventory(void)
{
    TCase *tcase = tcase_create("inventory");

    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, rig_begin, rig_finish);
    tcase_add_test(tcase, an_inventory_is_there_again_after_the_store_was_opened_again);
    tcase_add_test(tcase, a_header_alone_names_what_is_missing_and_only_that_must_be_sent);
    tcase_add_test(tcase, the_same_header_again_makes_no_revision_but_confirms);
    tcase_add_test(tcase, a_table_that_is_not_named_any_more_is_gone_as_of_then);
    tcase_add_test(tcase, a_history_of_small_changes_costs_little_more_than_one_table);
    tcase_add_test(tcase, nearly_equal_machines_share_what_they_have_in_common);
    tcase_add_test(tcase, history_is_trimmed_by_number_and_what_nobody_needs_goes);
    tcase_add_test(tcase, history_is_trimmed_by_age_of_the_replacement_and_the_newest_stays);
    tcase_add_test(tcase, more_than_all_may_have_is_refused_and_what_is_there_stays);
    tcase_add_test(tcase, a_full_disk_refuses_and_reading_goes_on);
    tcase_add_test(tcase, what_was_answered_survives_a_kill);
    tcase_add_loop_test(tcase, whatever_comes_in_whatever_order_all_is_counted_right, 0, 6);
    return tcase;
}
