/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What it costs to find who has a package, and to keep the tables: not a test, not built by
 * default.
 *
 *   ninja -C .build/plain tests/unit/bench_inventory && .build/plain/tests/unit/bench_inventory
 *
 * 10,000 agents with 2,000 packages each: once with 200 tables that are distinct, once with 10,000,
 * each of which differs from a common one in a twentieth of its rows. Then one agent whose table of
 * 2,000 changes in one row, 200 times.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/clock.h"
#include "common/base/rand.h"
#include "common/crypto/crypto.h"
#include "suite.h"
#include "test_query_rig.h"

#define N_AGENTS 10000
#define N_ROWS 2000

static const char *const columns[] = { "name", "version", "architecture" };
static int64_t started_us, cpu_started_us;
static _Atomic uint32_t n_answered;

static int64_t cpu_us(void)
{
    struct timespec at;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &at);
    return (int64_t) at.tv_sec * S + at.tv_nsec / 1000;
}

static void start(void)
{
    started_us = clock_mono().us;
    cpu_started_us = cpu_us();
}

static void say(const char *what, size_t n_found)
{
    printf("  %-52s %9.1f ms, CPU %9.1f ms, %zu\n", what,
           (double) (clock_mono().us - started_us) / 1000,
           (double) (cpu_us() - cpu_started_us) / 1000, n_found);
}

/* Of the variants above 0 each has other versions of a twentieth of the packages, and one that no
 * other has. */
static void make_packages(struct buf *to, uint32_t variant, uint32_t changed)
{
    struct rand rand, own;

    rand_init(&rand, 1);
    rand_init(&own, variant);
    buf_clear(to);
    store_content_put_columns(to, columns, 3);
    for (uint32_t i = 0; i < N_ROWS; i++) {
        uint64_t noise = rand_u64(&rand);
        bool is_other = (variant > 0 && rand_below(&own, 20) == 0) || i == changed;
        char text[64];

        snprintf(text, sizeof(text), "lib%05u-%04llx%s", i, (unsigned long long) noise % 65536,
                 i % 3 ? "" : "-dev");
        if (i == 1234 && variant > 0)
            snprintf(text, sizeof(text), "lib%05u-only-%u", i, variant);
        store_content_put_value(to, text);
        snprintf(text, sizeof(text), "%llu.%llu.%llu-%llu%s",
                 (unsigned long long) (noise >> 16) % 9, (unsigned long long) (noise >> 24) % 20,
                 (unsigned long long) (noise >> 32) % 30, (unsigned long long) (noise >> 40) % 9,
                 is_other ? "+deb12u1" : "");
        store_content_put_value(to, text);
        store_content_put_value(to, noise % 5 ? "amd64" : "all");
    }
}

static void on_done(struct store_inventory_put *put, int r)
{
    ck_assert_int_eq(r, 0);
    store_inventory_put_free(put);
    n_answered++;
}

static void await(uint32_t n)
{
    const struct timespec pause = { .tv_nsec = 200000 };

    while (n_answered < n)
        nanosleep(&pause, NULL);
}

static void put(uint32_t agent, const struct buf *canonical)
{
    struct store_inventory_put *upload;

    ck_assert_int_eq(store_inventory_put_new(&upload, 1), 0);
    snprintf(upload->tables[0].name, sizeof(upload->tables[0].name), "packages");
    crypto_sha256(buf_span(canonical), upload->tables[0].sha256);
    buf_append_span(&upload->tables[0].canonical, buf_span(canonical));
    upload->agent = agent;
    upload->time_us = clock_wall().us;
    upload->received = clock_wall();
    upload->done = on_done;
    ck_assert_int_eq(store_inventory_prepare(store, upload), 0);
    ck_assert_int_eq(store_inventory_submit(store, upload), 0);
}

static void fill(uint32_t n_distinct)
{
    CLEANUP(buf_deinit) struct buf canonical = { 0 };
    struct store_stats stats;
    uint32_t last = UINT32_MAX;

    start();
    n_answered = 0;
    for (uint32_t i = 0; i < N_AGENTS; i++) {
        uint32_t variant = i % n_distinct;
        char id[16];

        snprintf(id, sizeof(id), "web-%05u", i);
        if (variant != last)
            make_packages(&canonical, variant, UINT32_MAX);
        last = variant;
        put(agent_of(id), &canonical);
        await(i > 64 ? i - 64 : 0);
    }
    await(N_AGENTS);
    store_get_stats(store, &stats);
    printf("%d agents, %u distinct tables of %d rows, %zu bytes each\n", N_AGENTS, n_distinct,
           N_ROWS, canonical.len);
    say("sent for the first time; bytes of the disk", stats.inventory_bytes);
}

/* All pages. */
static void find(const char *what, const struct query_column_match *matches, size_t n)
{
    const char *token = "";
    size_t n_found = 0, n_pages = 0;

    start();
    do {
        struct query_find question = { .table = "packages",
                                       .matches = matches,
                                       .n_matches = n,
                                       .selector = &everyone,
                                       .at_us = INT64_MAX,
                                       .page_size = 1000,
                                       .page_token = token };
        char copy[4096];

        arena_reset(&arena, 1 << 30);
        if (query_find_inventory(&query, &question, &arena, &problem))
            ck_abort_msg("%s: %s", problem.field, problem.description);
        n_found += question.n_found;
        snprintf(copy, sizeof(copy), "%s", question.next_page_token);
        token = strdup(copy); /* until the end of the program */
        n_pages++;
    } while (*token);
    say(what, n_found);
    if (n_pages > 11)
        printf("    %zu pages\n", n_pages);
}

static void find_all(void)
{
    const struct query_column_match everywhere[] = { { .column = "name", .pattern = "lib00007-*" },
                                                     { .column = "version", .pattern = "*u1" } };
    const struct query_column_match own = { .column = "name", .value = "lib01234-only-77" };
    const struct query_column_match prefix = { .column = "name", .pattern = "lib00007*" };
    const struct query_column_match none = { .column = "name", .value = "nothing" };
    const struct query_column_match within = { .column = "name", .pattern = "*only-77" };

    find("a package that one variant has", &own, 1);
    find("a package that nobody has", &none, 1);
    find("a package that all have", &prefix, 1);
    find("the same again", &prefix, 1);
    find("name and version", everywhere, 2);
    find("a pattern without a beginning: every row", &within, 1);
}

START_TEST(what_finding_costs)
{
    static const uint32_t n_distinct[] = { 200, N_AGENTS };

    for (size_t i = 0; i < 2; i++) {
        open_empty_store();
        query.max_inventory_bytes = UINT64_C(1) << 30;
        arena_deinit(&arena);
        arena_init(&arena, 1 << 30);
        fill(n_distinct[i]);
        find_all();
        close_store();
    }
}
END_TEST

START_TEST(what_history_costs)
{
    CLEANUP(buf_deinit) struct buf canonical = { 0 };
    struct store_stats before, after;
    uint32_t agent;

    open_empty_store();
    agent = agent_of("web-1");
    n_answered = 0;
    make_packages(&canonical, 0, UINT32_MAX);
    put(agent, &canonical);
    await(1);
    store_get_stats(store, &before);
    start();
    for (uint32_t i = 1; i < 200; i++) {
        make_packages(&canonical, 0, i * 7);
        put(agent, &canonical);
        await(i + 1);
    }
    store_get_stats(store, &after);
    printf("one table of %zu bytes, then 199 changes of a row: %llu, then %llu bytes of the disk\n",
           canonical.len, (unsigned long long) before.inventory_bytes,
           (unsigned long long) after.inventory_bytes);
    say("199 uploads, each durable", 199);
    close_store();
}
END_TEST

Suite *suite(void)
{
    Suite *s = suite_create("server/inventory costs");
    TCase *c = tcase_create("costs");

    tcase_set_timeout(c, 0);
    tcase_add_test(c, what_history_costs);
    tcase_add_test(c, what_finding_costs);
    suite_add_tcase(s, c);
    return s;
}
