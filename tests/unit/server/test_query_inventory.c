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

static void put(const char *agent, int64_t time_us, const char *table, const char *text)
{
    struct store_inventory_put *upload;

    ck_assert_int_eq(store_inventory_put_new(&upload, 1), 0);
    snprintf(upload->tables[0].name, sizeof(upload->tables[0].name), "%s", table);
    make_table(text, &upload->tables[0].canonical, upload->tables[0].sha256);
    upload->agent = agent_of(agent);
    upload->time_us = time_us;
    upload->received.us = time_us;
    upload->done = on_done;
    is_done = false;
    ck_assert_int_eq(store_inventory_prepare(store, upload), 0);
    ck_assert_int_eq(store_inventory_submit(store, upload), 0);
    while (!is_done)
        sched_yield();
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

Suite *suite(void)
{
    Suite *suite = suite_create("server/query_inventory");
    TCase *tcase = tcase_create("inventory");

    tcase_add_test(tcase, a_page_that_has_read_enough_ends_and_the_next_goes_on);
    tcase_add_test(tcase, columns_that_one_side_has_are_named_and_not_compared);
    tcase_add_test(tcase, equal_rows_are_counted_each);
    tcase_add_test(tcase, a_damaged_table_is_said_and_the_others_answer);
    suite_add_tcase(suite, tcase);
    return suite;
}
