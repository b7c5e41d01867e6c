/* SPDX-License-Identifier: Apache-2.0 */

/* What the stories do not reach: budgets, damage, columns that differ. */

#include <lmdb.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/crypto/crypto.h"
#include "suite.h"
#include "test_query_rig.h"

static _Atomic bool is_done;

static void on_done(struct store_inventory_put *put, int r)
{
    ck_assert_int_eq(r, 0);
    store_inventory_put_free(put);
    is_done = true;
}

/* A table of text, rows apart by ";" and values by ",": "a,b;1,2;3,4". Its hash goes to `ret`. */
static void make_table(const char *text, struct buf *to, uint8_t *ret)
{
    char copy[4096], *rest = copy, *row;
    bool is_head = true;

    snprintf(copy, sizeof(copy), "%s", text);
    while ((row = strsep(&rest, ";"))) {
        const char *values[8], *value;
        size_t n = 0;

        while ((value = strsep(&row, ",")))
            values[n++] = value;
        if (is_head)
            store_content_put_columns(to, values, n);
        for (size_t i = 0; !is_head && i < n; i++)
            store_content_put_value(to, values[i]);
        is_head = false;
    }
    crypto_sha256(buf_span(to), ret);
}

static void submit(struct store_inventory_put *upload)
{
    upload->done = on_done;
    is_done = false;
    ck_assert_int_eq(store_inventory_prepare(store, upload), 0);
    ck_assert_int_eq(store_inventory_submit(store, upload), 0);
    while (!is_done)
        sched_yield();
}

static void put(const char *agent, int64_t time_us, const char *table, const char *text)
{
    struct store_inventory_put *upload;

    ck_assert_int_eq(store_inventory_put_new(&upload, 1), 0);
    snprintf(upload->tables[0].name, sizeof(upload->tables[0].name), "%s", table);
    make_table(text, &upload->tables[0].canonical, upload->tables[0].sha256);
    upload->agent = agent_of(agent);
    upload->time_us = time_us;
    upload->received.us = time_us;
    submit(upload);
}

#define LONG_NAME "%064d"

/* Tables whose names are as long as may be, from number `first` on; all of one row. */
static void put_long(const char *agent, int first, size_t n_tables, size_t n_columns)
{
    char names[1000][STORE_INVENTORY_NAME_BYTES + 1];
    const char *columns[1000];
    struct store_inventory_put *upload;

    for (size_t i = 0; i < n_columns; i++) {
        snprintf(names[i], sizeof(names[i]), LONG_NAME, (int) i);
        columns[i] = names[i];
    }
    ck_assert_int_eq(store_inventory_put_new(&upload, n_tables), 0);
    for (size_t i = 0; i < n_tables; i++) {
        struct store_inventory_put_table *table = &upload->tables[i];

        snprintf(table->name, sizeof(table->name), LONG_NAME, first + (int) i);
        store_content_put_columns(&table->canonical, columns, n_columns);
        for (size_t k = 0; k < n_columns; k++)
            store_content_put_value(&table->canonical, "x");
        crypto_sha256(buf_span(&table->canonical), table->sha256);
        table->n_rows = 1;
    }
    upload->agent = agent_of(agent);
    upload->time_us = 1000 * S;
    upload->received = clock_wall();
    submit(upload);
}

/* Ids of all pages, one after the other; n_pages counts them. */
static const char *find(const char *column, const char *pattern, size_t *n_pages, uint32_t *n_bad)
{
    const struct query_column_match match = { .column = column, .pattern = pattern };
    static char ids[4096];
    const char *token = "";

    ids[0] = 0;
    *n_pages = *n_bad = 0;
    do {
        struct query_find question = { .table = "t",
                                       .matches = &match,
                                       .n_matches = 1,
                                       .selector = &everyone,
                                       .at_us = INT64_MAX,
                                       .page_token = token };

        ck_assert_int_eq(query_find_inventory(&query, &question, &arena, &problem), 0);
        for (size_t i = 0; i < question.n_found; i++)
            snprintf(ids + strlen(ids), sizeof(ids) - strlen(ids), "%s ", question.found[i].agent);
        *n_bad += question.n_unreadable;
        token = question.next_page_token;
        ++*n_pages;
    } while (*token);
    return ids;
}

START_TEST(a_page_that_has_read_enough_ends_and_the_next_goes_on)
{
    size_t n_pages;
    uint32_t n_bad;

    open_empty_store();
    for (int i = 0; i < 6; i++) {
        char id[8], text[64];

        snprintf(id, sizeof(id), "web-%d", i);
        snprintf(text, sizeof(text), "name,n;x,%d;y%d,0", i, i);
        put(id, 1000 * S, "t", text);
    }
    query.max_inventory_bytes = UINT64_C(1) << 30;
    ck_assert_str_eq(find("name", "x", &n_pages, &n_bad), "web-0 web-1 web-2 web-3 web-4 web-5 ");
    ck_assert_uint_eq(n_pages, 1);
    query.max_inventory_bytes = 1;
    ck_assert_str_eq(find("name", "x", &n_pages, &n_bad), "web-0 web-1 web-2 web-3 web-4 web-5 ");
    ck_assert_uint_eq(n_pages, 6);
    /* Nothing on most pages, and not "no such thing" either. */
    ck_assert_str_eq(find("name", "y4", &n_pages, &n_bad), "web-4 ");
    ck_assert_uint_gt(n_pages, 1);
    close_store();
}
END_TEST

static int get(const char *agent, struct query_inventory *ret)
{
    *ret = (struct query_inventory){ .agent = agent, .at_us = INT64_MAX };
    return query_get_inventory(&query, ret, &arena, &problem);
}

static struct query_diff diff(const char *from, const char *to)
{
    struct query_diff question = {
        .from_agent = from, .to_agent = to, .from_us = INT64_MAX, .to_us = INT64_MAX
    };

    ck_assert_int_eq(query_diff_inventory(&query, &question, &arena, &problem), 0);
    return question;
}

START_TEST(columns_that_one_side_has_are_named_and_not_compared)
{
    struct query_diff question;
    const struct query_table_diff *found;

    open_empty_store();
    /* In the other order of columns the rows have another order too. */
    put("a", 1000 * S, "t", "name,size;ant,9;bee,8;cat,7");
    put("b", 1000 * S, "t", "size,new,name;7,x,cat;8,y,bee;9,z,ant");
    question = diff("a", "b");
    ck_assert_uint_eq(question.n_found, 1);
    found = question.found;
    ck_assert_uint_eq(found->total_added + found->total_removed + found->total_changed, 0);
    ck_assert_uint_eq(found->n_columns, 2);
    ck_assert_str_eq(found->columns[0], "size");
    ck_assert_uint_eq(found->n_columns_added, 1);
    ck_assert_str_eq(found->columns_added[0], "new");
    ck_assert_uint_eq(found->n_columns_removed, 0);
    /* None in common: no row is compared. */
    put("c", 1000 * S, "t", "other;1;2");
    question = diff("a", "c");
    ck_assert_uint_eq(question.found->n_columns, 0);
    ck_assert_uint_eq(question.found->n_columns_removed, 2);
    ck_assert_uint_eq(question.found->total_added + question.found->total_removed, 0);
    ck_assert_uint_eq(diff("a", "a").n_found, 0);
    close_store();
}
END_TEST

START_TEST(equal_rows_are_counted_each)
{
    struct query_diff question;

    open_empty_store();
    put("a", 1000 * S, "t", "name,n;x,1;x,1;y,1");
    put("b", 1000 * S, "t", "name,n;x,1;y,1;y,1;y,1");
    question = diff("a", "b");
    ck_assert_uint_eq(question.found->total_removed, 1);
    ck_assert_uint_eq(question.found->total_added, 2);
    ck_assert_uint_eq(question.found->total_changed, 0);
    ck_assert_str_eq(question.found->removed[0].values[0], "x");
    close_store();
}
END_TEST

/* The first table becomes zeros. */
static void damage(const char *directory)
{
    CLEANUP(buf_deinit) struct buf canonical = { 0 };
    uint8_t sha256[CRYPTO_SHA256_BYTES], zeros[100] = { 0 };
    MDB_val key = { sizeof(sha256), sha256 }, value = { sizeof(zeros), zeros };
    char path[400];
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;

    make_table("name,n;x,1", &canonical, sha256);
    snprintf(path, sizeof(path), "%s/default/inventory", directory);
    ck_assert_int_eq(mdb_env_create(&env), 0);
    ck_assert_int_eq(mdb_env_set_maxdbs(env, 8), 0);
    ck_assert_int_eq(mdb_env_set_mapsize(env, UINT64_C(1) << 30), 0);
    ck_assert_int_eq(mdb_env_open(env, path, MDB_NOTLS, 0600), 0);
    ck_assert_int_eq(mdb_txn_begin(env, NULL, 0, &txn), 0);
    ck_assert_int_eq(mdb_dbi_open(txn, "contents", 0, &dbi), 0);
    ck_assert_int_eq(mdb_put(txn, dbi, &key, &value, 0), 0);
    ck_assert_int_eq(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
}

START_TEST(a_damaged_table_is_said_and_the_others_answer)
{
    struct query_inventory question;
    size_t n_pages;
    uint32_t n_bad;

    open_empty_store();
    query.max_inventory_bytes = UINT64_C(1) << 30;
    put("a", 1000 * S, "t", "name,n;x,1");
    put("b", 1000 * S, "t", "name,n;x,2");
    put("c", 1000 * S, "t", "name,n;x,1");
    reopen_store(damage);
    ck_assert_int_eq(get("a", &question), QUERY_DAMAGED);
    ck_assert_ptr_nonnull(strstr(problem.description, "verify"));
    ck_assert_int_eq(get("b", &question), 0);
    ck_assert_str_eq(find("name", "x", &n_pages, &n_bad), "b ");
    ck_assert_uint_eq(n_bad, 2);
    close_store();
}
END_TEST

START_TEST(a_comparison_says_whose_table_is_damaged)
{
    struct query_diff question = { .from_us = INT64_MAX, .to_us = INT64_MAX };

    open_empty_store();
    put("a", 1000 * S, "t", "name,n;x,1");
    put("b", 1000 * S, "t", "name,n;x,2");
    reopen_store(damage);
    question.from_agent = "a";
    question.to_agent = "b";
    ck_assert_int_eq(query_diff_inventory(&query, &question, &arena, &problem), QUERY_DAMAGED);
    ck_assert_str_eq(problem.field, "from_agent_id");
    ck_assert_ptr_nonnull(strstr(problem.description, "inventory of a "));
    question.from_agent = "b";
    question.to_agent = "a";
    ck_assert_int_eq(query_diff_inventory(&query, &question, &arena, &problem), QUERY_DAMAGED);
    ck_assert_str_eq(problem.field, "to_agent_id");
    ck_assert_ptr_nonnull(strstr(problem.description, "inventory of a "));
    close_store();
}
END_TEST

/* ---- answers fit into a message ---- */

#define LONG_BYTES (STORE_INVENTORY_NAME_BYTES + 2)
#define MESSAGE_BYTES (4u << 20)

START_TEST(a_history_of_many_names_comes_in_pages)
{
    struct query_history question = { .agent = "a", .from_us = INT64_MIN, .to_us = INT64_MAX };
    size_t n_pages = 0, n_revisions = 0;

    open_empty_store();
    for (int i = 0; i < 40; i++)
        put_long("a", i % 2 ? 1000 : 0, 1000, 1);
    question.page_token = "";
    do {
        size_t n_names = 0;

        question.page_size = 1000;
        question.n_revisions = 0;
        ck_assert_int_eq(query_inventory_history(&query, &question, &arena, &problem), 0);
        for (size_t i = 0; i < question.n_revisions; i++)
            n_names += question.revisions[i].n_changed + question.revisions[i].n_removed;
        ck_assert_uint_lt(n_names * LONG_BYTES, MESSAGE_BYTES);
        n_revisions += question.n_revisions;
        n_pages++;
        question.page_token = question.next_page_token;
    } while (*question.page_token);
    ck_assert_uint_eq(n_revisions, 40);
    ck_assert_uint_gt(n_pages, 1);
    close_store();
}
END_TEST

START_TEST(what_a_range_leaves_out_of_a_history_takes_no_room)
{
    struct query_history question = {
        .agent = "a", .from_us = INT64_MIN, .to_us = 0, .page_size = 1000, .page_token = ""
    };
    size_t n_before;

    open_empty_store();
    for (int i = 0; i < 20; i++)
        put_long("a", i % 2 ? 1000 : 0, 1000, 1);
    n_before = arena.used_bytes;
    ck_assert_int_eq(query_inventory_history(&query, &question, &arena, &problem), 0);
    ck_assert_uint_eq(question.n_revisions, 0);
    ck_assert_uint_lt(arena.used_bytes - n_before, 256u << 10);
    close_store();
}
END_TEST

START_TEST(wide_tables_of_many_agents_come_in_pages)
{
    const struct query_column_match match = { .column = "", .pattern = "x" };
    struct query_column_match matches[1] = { match };
    char name[STORE_INVENTORY_NAME_BYTES + 1];
    struct query_find question = { .table = name, .matches = matches, .n_matches = 1 };
    size_t n_found = 0;

    open_empty_store();
    query.max_inventory_bytes = UINT64_C(1) << 30;
    snprintf(name, sizeof(name), LONG_NAME, 0);
    matches[0].column = name;
    for (int i = 0; i < 70; i++) {
        char id[16];

        snprintf(id, sizeof(id), "web-%d", i);
        put_long(id, 0, 1, 1000);
    }
    question.selector = &everyone;
    question.at_us = INT64_MAX;
    question.page_token = "";
    do {
        question.page_size = 1000;
        question.n_found = 0;
        ck_assert_int_eq(query_find_inventory(&query, &question, &arena, &problem), 0);
        ck_assert_uint_lt(question.n_found * 1000 * LONG_BYTES, MESSAGE_BYTES);
        n_found += question.n_found;
        question.page_token = question.next_page_token;
    } while (*question.page_token);
    ck_assert_uint_eq(n_found, 70);
    close_store();
}
END_TEST

START_TEST(differences_of_many_wide_tables_come_in_pages)
{
    struct query_diff question = {
        .from_agent = "a", .to_agent = "b", .from_us = INT64_MAX, .to_us = INT64_MAX
    };
    size_t n_rows = 0;

    open_empty_store();
    put_long("a", 0, 70, 1000);
    put_long("b", 70, 1, 1);
    question.page_token = "";
    do {
        question.n_found = 0;
        ck_assert_int_eq(query_diff_inventory(&query, &question, &arena, &problem), 0);
        ck_assert_uint_lt(question.n_found * 1000 * LONG_BYTES, MESSAGE_BYTES);
        for (size_t i = 0; i < question.n_found; i++)
            n_rows += question.found[i].n_added + question.found[i].n_removed;
        question.page_token = question.next_page_token;
    } while (*question.page_token);
    ck_assert_uint_eq(n_rows, 71);
    close_store();
}
END_TEST

Suite *suite(void)
{
    Suite *suite = suite_create("server/query_inventory");
    TCase *tcase = tcase_create("inventory");

    tcase_add_test(tcase, a_page_that_has_read_enough_ends_and_the_next_goes_on);
    tcase_add_test(tcase, columns_that_one_side_has_are_named_and_not_compared);
    tcase_add_test(tcase, equal_rows_are_counted_each);
    tcase_add_test(tcase, a_damaged_table_is_said_and_the_others_answer);
    tcase_add_test(tcase, a_comparison_says_whose_table_is_damaged);
    tcase_add_test(tcase, a_history_of_many_names_comes_in_pages);
    tcase_add_test(tcase, what_a_range_leaves_out_of_a_history_takes_no_room);
    tcase_add_test(tcase, wide_tables_of_many_agents_come_in_pages);
    tcase_add_test(tcase, differences_of_many_wide_tables_come_in_pages);
    suite_add_tcase(suite, tcase);
    return suite;
}
