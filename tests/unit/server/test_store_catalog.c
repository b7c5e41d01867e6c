/* SPDX-License-Identifier: Apache-2.0 */
#include "test_store.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

struct asked {
    struct store_intern request;
    _Atomic int r;
};

static void on_done(struct store_intern *request, int r)
{
    atomic_store(&((struct asked *) (void *) request)->r, r);
}

static int
intern_all(struct store *store, const struct store_definition *definitions, size_t n, uint32_t *ids)
{
    struct asked asked = {
        .request = { .definitions = definitions,
                     .n_definitions = n,
                     .ret_ids = ids,
                     .done = on_done },
        .r = -1,
    };
    int r = store_intern(store, &asked.request);

    if (r != STORE_QUEUED)
        return r;
    while (atomic_load(&asked.r) == -1)
        usleep(100);
    ck_assert_int_eq(atomic_load(&asked.r), 0);
    return STORE_QUEUED;
}

static const struct store_attribute attributes[][2] = {
    { { "ab", "c" }, { "d", "" } },
    { { "a", "bc" }, { "d", "" } },
    { { "ab", "c" }, { "d", "x" } },
};

/* All different, though some read alike when run together. */
static const struct store_definition definitions[] = {
    { .name = "cpu", .unit = "s", .kind = STORE_COUNTER },
    { .name = "cpu", .unit = "s", .kind = STORE_GAUGE },
    { .name = "cpus", .unit = "", .kind = STORE_COUNTER },
    { .name = "cpu",
      .unit = "s",
      .kind = STORE_COUNTER,
      .attributes = attributes[0],
      .n_attributes = 2 },
    { .name = "cpu",
      .unit = "s",
      .kind = STORE_COUNTER,
      .attributes = attributes[1],
      .n_attributes = 2 },
    { .name = "cpu",
      .unit = "s",
      .kind = STORE_COUNTER,
      .attributes = attributes[2],
      .n_attributes = 2 },
    { .name = "cpu",
      .unit = "s",
      .kind = STORE_COUNTER,
      .attributes = attributes[0],
      .n_attributes = 1 },
};
#define N_DEFINITIONS (sizeof(definitions) / sizeof(definitions[0]))

START_TEST(a_definition_is_interned_once_and_for_all)
{
    struct store *store = open_store(0);
    struct store_stats stats;
    uint32_t first[N_DEFINITIONS], again[N_DEFINITIONS], of[N_DEFINITIONS];

    ck_assert_int_eq(intern_all(store, definitions, N_DEFINITIONS, first), STORE_QUEUED);
    for (size_t i = 0; i < N_DEFINITIONS; i++) {
        for (size_t k = 0; k < i; k++)
            ck_assert_uint_ne(first[i], first[k]);
    }
    for (int round = 0; round < 2; round++) {
        ck_assert_int_eq(intern_all(store, definitions, N_DEFINITIONS, again), 0);
        for (size_t i = 0; i < N_DEFINITIONS; i++) {
            const struct store_definition *got = store_definition_get(store, again[i]);

            ck_assert_uint_eq(again[i], first[i]);
            ck_assert_ptr_nonnull(got);
            ck_assert_str_eq(got->name, definitions[i].name);
            ck_assert_str_eq(got->unit, definitions[i].unit);
            ck_assert_int_eq(got->kind, definitions[i].kind);
            ck_assert_uint_eq(got->n_attributes, definitions[i].n_attributes);
            for (size_t k = 0; k < got->n_attributes; k++) {
                ck_assert_str_eq(got->attributes[k].key, definitions[i].attributes[k].key);
                ck_assert_str_eq(got->attributes[k].value, definitions[i].attributes[k].value);
            }
        }
        store_get_stats(store, &stats);
        ck_assert_uint_eq(stats.n_definitions, N_DEFINITIONS);
        ck_assert_uint_eq(store_definitions_of(store, "cpu", of, N_DEFINITIONS), N_DEFINITIONS - 1);
        ck_assert_uint_eq(store_definitions_of(store, "cpu", of, 2), N_DEFINITIONS - 1);
        ck_assert_uint_lt(of[0], of[1]);
        ck_assert_uint_eq(store_definitions_of(store, "none", of, N_DEFINITIONS), 0);
        ck_assert_ptr_null(store_definition_get(store, 0));
        ck_assert_ptr_null(store_definition_get(store, N_DEFINITIONS + 1));
        store_close(store);
        store = open_store(0);
    }
    /* New ones go on behind. */
    ck_assert_uint_eq(intern_metric(store, "new"), N_DEFINITIONS + 1);
    store_close(store);
}
END_TEST

START_TEST(one_request_that_names_a_definition_twice_gets_one_id)
{
    struct store *store = open_store(0);
    struct store_definition twice[2] = { definitions[3], definitions[3] };
    uint32_t ids[2] = { 0 };

    ck_assert_int_eq(intern_all(store, twice, 2, ids), STORE_QUEUED);
    ck_assert_uint_eq(ids[0], ids[1]);
    store_close(store);
}
END_TEST

static void *intern_many(void *arg)
{
    struct store *store = arg;
    char name[16];

    for (int i = 0; i < 50; i++) {
        snprintf(name, sizeof(name), "metric-%d", i);
        (void) intern_metric(store, name);
        (void) agent_of(store, name);
    }
    return NULL;
}

START_TEST(threads_that_intern_the_same_names_agree)
{
    struct store *store = open_store(0);
    struct store_stats stats;
    pthread_t threads[4];

    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, intern_many, store), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    store_get_stats(store, &stats);
    ck_assert_uint_eq(stats.n_definitions, 50);
    ck_assert_uint_eq(stats.n_agents, 50);
    store_close(store);
}
END_TEST

START_TEST(a_layout_is_interned_once_and_for_all)
{
    struct store *store = open_store(0);
    static const uint32_t ids[] = { 1, 2, 3 };
    uint32_t whole = intern_layout(store, ids, 3), part = intern_layout(store, ids, 2);

    ck_assert_uint_ne(whole, part);
    store_close(store);
    store = open_store(0);
    ck_assert_uint_eq(intern_layout(store, ids, 3), whole);
    ck_assert_uint_eq(intern_layout(store, ids, 2), part);
    ck_assert_uint_eq(store_layout_get(store, whole)->n_columns, 3);
    ck_assert_mem_eq(store_layout_get(store, whole)->definitions, ids, sizeof(ids));
    ck_assert_ptr_null(store_layout_get(store, part + 1));
    store_close(store);
}
END_TEST

START_TEST(interning_in_a_store_that_stopped_says_so)
{
    struct store *store = open_store(0);
    uint32_t id = 0;

    store_stop(store);
    ck_assert_int_eq(intern_all(store, definitions, 1, &id), STORE_STOPPED);
    ck_assert_int_eq(put_rows(store, (struct put){ agent_of(store, "a"), 1, 1, 1, 0, 0, 0 }, NULL),
                     STORE_STOPPED);
    store_close(store);
}
END_TEST

START_TEST(agents_keep_their_number_and_what_they_said)
{
    static const struct store_attribute host[] = { { "os", "linux" }, { "arch", "x86_64" } };
    struct store *store = open_store(0);
    uint32_t b = agent_of(store, "b"), a = agent_of(store, "a"), found, *numbers;
    struct store_agent_hello hello = {
        .version = "1.2.3",
        .address = "10.0.0.7:4411",
        .clock_offset_us = -5,
        .interval_ms = 10000,
        .host = host,
        .n_host = 2,
        .now = { 5000000000000000 },
    };
    struct store_write label = { STORE_TABLE_LABELS, span_of("a\0role", 6), span_of_text("web") };
    struct store_agent facts;
    struct arena arena;
    size_t n;

    arena_init(&arena, 1 << 16);
    ck_assert_uint_ne(a, b);
    ck_assert_uint_eq(agent_of(store, "b"), b);
    ck_assert_int_eq(store_agent_find(store, "c", &found), STORE_NOT_FOUND);
    ck_assert_int_eq(store_agent_hello(store, a, &hello), 0);
    store_agent_add_lost(store, a, 3);
    store_agent_seen(store, a, (wall_us){ 5000000000000009 });
    store_agent_seen(store, a, (wall_us){ 7 });
    ck_assert_int_eq(store_state_write(store, &label, 1), 0);
    for (int again = 0; again < 2; again++) {
        ck_assert_int_eq(store_agent_list(store, &arena, &numbers, &n), 0);
        ck_assert_uint_eq(n, 2);
        ck_assert_uint_eq(numbers[0], a);
        ck_assert_int_eq(store_agent_find(store, "a", &found), 0);
        ck_assert_uint_eq(found, a);
        ck_assert_int_eq(store_agent_get(store, a, &arena, &facts), 0);
        ck_assert_str_eq(facts.id, "a");
        ck_assert_str_eq(facts.version, "1.2.3");
        ck_assert_str_eq(facts.address, "10.0.0.7:4411");
        ck_assert_int_eq(facts.clock_offset_us, -5);
        ck_assert_uint_eq(facts.interval_ms, 10000);
        ck_assert_uint_eq(facts.n_lost, 3);
        ck_assert_int_eq(facts.last_seen.us, 5000000000000009);
        ck_assert_int_gt(facts.first_seen.us, 0);
        ck_assert_uint_eq(facts.n_host, 2);
        ck_assert_str_eq(facts.host[1].key, "arch");
        ck_assert_str_eq(facts.host[1].value, "x86_64");
        ck_assert_uint_eq(facts.n_labels, 1);
        ck_assert_str_eq(facts.labels[0].key, "role");
        ck_assert_str_eq(facts.labels[0].value, "web");
        ck_assert_int_eq(store_agent_get(store, 99, &arena, &facts), STORE_NOT_FOUND);
        store_close(store);
        store = open_store(0);
    }
    arena_deinit(&arena);
    store_close(store);
}
END_TEST

START_TEST(an_agent_that_was_forgotten_is_another_one_when_its_id_comes_again)
{
    static const struct store_attribute host[] = { { "os", "linux" } };
    const struct store_agent_hello hello = { .version = "1.2.3",
                                             .address = "10.0.0.7:4411",
                                             .host = host,
                                             .n_host = 1,
                                             .now = { 5000000000000000 } };
    const struct store_write labels[] = {
        { STORE_TABLE_LABELS, span_of("a\0rack", 6), span_of_text("7") },
        { STORE_TABLE_LABELS, span_of("a\0role", 6), span_of_text("web") },
        { STORE_TABLE_LABELS, span_of("ab\0role", 7), span_of_text("db") },
    };
    struct store *store = open_store(0);
    const uint32_t a = agent_of(store, "a"), ab = agent_of(store, "ab");
    uint32_t again, found, *numbers;
    struct store_forgotten told;
    struct arena arena;
    size_t n;

    arena_init(&arena, 1 << 16);
    ck_assert_int_eq(store_agent_hello(store, a, &hello), 0);
    ck_assert_int_eq(store_state_write(store, labels, 3), 0);
    ck_assert_int_eq(store_agent_forget(store, "nobody", &told), STORE_NOT_FOUND);
    ck_assert_int_eq(store_agent_forget(store, "a", &told), 0);
    ck_assert_int_eq(store_agent_forget(store, "a", &told), STORE_NOT_FOUND);
    ck_assert_int_eq(store_agent_find(store, "a", &found), STORE_NOT_FOUND);
    store_close(store);
    store = open_store(0);
    ck_assert_int_eq(store_agent_find(store, "a", &found), STORE_NOT_FOUND);
    ck_assert_int_eq(store_agent_list(store, &arena, &numbers, &n), 0);
    ck_assert_uint_eq(n, 1);
    ck_assert_uint_eq(numbers[0], ab);
    again = agent_of(store, "a");
    ck_assert_uint_ne(again, a);
    for (int reopened = 0; reopened < 2; reopened++) {
        ck_assert_int_eq(store_agent_find(store, "a", &found), 0);
        ck_assert_uint_eq(found, again);
        ck_assert_uint_eq(facts_of(store, again).n_host, 0);
        ck_assert_uint_eq(facts_of(store, again).n_labels, 0);
        ck_assert_uint_eq(facts_of(store, ab).n_labels, 1);
        store_close(store);
        store = open_store(0);
    }
    arena_deinit(&arena);
    store_close(store);
    check_database();
}
END_TEST

TCase *case_catalog(void)
{
    TCase *tcase = tcase_create("catalogue");

    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, make_database, remove_database);
    tcase_add_test(tcase, a_definition_is_interned_once_and_for_all);
    tcase_add_test(tcase, one_request_that_names_a_definition_twice_gets_one_id);
    tcase_add_test(tcase, threads_that_intern_the_same_names_agree);
    tcase_add_test(tcase, a_layout_is_interned_once_and_for_all);
    tcase_add_test(tcase, interning_in_a_store_that_stopped_says_so);
    tcase_add_test(tcase, agents_keep_their_number_and_what_they_said);
    tcase_add_test(tcase, an_agent_that_was_forgotten_is_another_one_when_its_id_comes_again);
    return tcase;
}
