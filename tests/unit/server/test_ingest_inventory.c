/* SPDX-License-Identifier: Apache-2.0 */

/* Uploads of inventories against the rules, with a real store behind. */

#include "suite.h"

#include "common/base/buf.h"
#include "common/crypto/crypto.h"
#include "test_ingest_rig.h"

#define MAX_ROWS 8

struct told {
    const char *name;
    const char *columns[3];
    size_t n_columns, n_rows;
    const char *values[MAX_ROWS][3];
    size_t n_values; /* of each row */
};

static const struct told packages = {
    .name = "packages",
    .columns = { "name", "version" },
    .n_columns = 2,
    .n_rows = 3,
    .values = { { "bash", "5.1" }, { "curl", "7.8" }, { "zsh", "5.9" } },
    .n_values = 2,
};

static const struct told one_row = {
    .name = "packages",
    .columns = { "name" },
    .n_columns = 1,
    .n_rows = 1,
    .values = { { "bash" } },
    .n_values = 1,
};

static struct ingest_problem problem;

static struct ingest_table_row row_of(const void *rows, size_t i)
{
    const struct told *told = rows;

    return (struct ingest_table_row){ told->values[i], told->n_values };
}

static int give_part(struct ingest_inventory *inventory, const struct told *told)
{
    const struct ingest_table_part part = {
        .name = told->name,
        .columns = told->columns,
        .n_columns = told->n_columns,
        .row = row_of,
        .rows = told,
        .n_rows = told->n_rows,
        .is_last = true,
    };

    return ingest_inventory_table(inventory, &part, &problem);
}

static int give_header(struct ingest_inventory *inventory, const struct told *told, int64_t time_us)
{
    CLEANUP(buf_deinit) struct buf canonical = { 0 };
    uint8_t sha256[CRYPTO_SHA256_BYTES];
    struct ingest_table_hash hash = { told->name, span_of(sha256, sizeof(sha256)), told->n_rows };

    store_content_put_columns(&canonical, told->columns, told->n_columns);
    for (size_t i = 0; i < told->n_rows; i++)
        for (size_t k = 0; k < told->n_values; k++)
            store_content_put_value(&canonical, told->values[i][k]);
    crypto_sha256(buf_span(&canonical), sha256);
    return ingest_inventory_header(inventory, time_us, &hash, 1, (wall_us){ NOW_US }, &problem);
}

static struct ingest_inventory *begin_of(const char *name, const struct told *told)
{
    struct ingest_inventory *inventory = NULL;

    ck_assert_int_eq(ingest_inventory_new(&inventory, ingest, name), 0);
    ck_assert_int_eq(give_header(inventory, told, NOW_US), INGEST_OK);
    return inventory;
}

static struct ingest_inventory *begin(const struct told *told)
{
    return begin_of("web-1", told);
}

/* ---- waiting for the writer ---- */

static struct {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    int outcome;
} answer = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, -1 };

static void on_done(void *ctx, int outcome)
{
    (void) ctx;
    pthread_mutex_lock(&answer.lock);
    answer.outcome = outcome;
    pthread_cond_signal(&answer.cond);
    pthread_mutex_unlock(&answer.lock);
}

static int store_it(struct ingest_inventory *inventory)
{
    int r;

    answer.outcome = -1;
    r = ingest_inventory_end(inventory, &problem);
    if (r == INGEST_OK)
        r = ingest_inventory_store(inventory, agent, on_done, NULL, &problem);
    if (r != INGEST_OK)
        return r;
    pthread_mutex_lock(&answer.lock);
    while (answer.outcome < 0)
        pthread_cond_wait(&answer.cond, &answer.lock);
    pthread_mutex_unlock(&answer.lock);
    return answer.outcome;
}

static void set_limits(struct ingest_inventory_limits limits)
{
    struct ingest_limits all;

    ingest_get_limits(ingest, &all);
    all.inventory = limits;
    ingest_set_limits(ingest, &all);
}

static struct ingest_inventory_limits usual(void)
{
    struct ingest_limits all;

    ingest_default_limits(&all);
    return all.inventory;
}

/* ---- tests ---- */

START_TEST(a_header_alone_lacks_and_with_the_table_it_is_stored)
{
    struct ingest_inventory *inventory = begin(&packages);
    const char *missing[2];
    uint32_t n_changed;

    ck_assert_int_eq(store_it(inventory), INGEST_LACKS);
    ck_assert_uint_eq(ingest_inventory_missing(inventory, missing, 2), 1);
    ck_assert_str_eq(missing[0], "packages");
    ingest_inventory_free(inventory);

    inventory = begin(&packages);
    ck_assert_int_eq(give_part(inventory, &packages), INGEST_OK);
    ck_assert_int_eq(store_it(inventory), INGEST_OK);
    ck_assert_uint_eq(ingest_inventory_revision(inventory, &n_changed), 1);
    ck_assert_uint_eq(n_changed, 1);
    ingest_inventory_free(inventory);

    inventory = begin(&packages);
    ck_assert_int_eq(store_it(inventory), INGEST_OK);
    ck_assert_uint_eq(ingest_inventory_revision(inventory, &n_changed), 1);
    ck_assert_uint_eq(n_changed, 0);
    ingest_inventory_free(inventory);
}
END_TEST

START_TEST(what_is_received_at_once_is_bounded_and_is_free_again_afterwards)
{
    struct ingest_inventory_limits limits = usual();
    struct ingest_inventory *one, *other;

    limits.pending_bytes = 100;
    set_limits(limits);
    one = begin(&packages);
    other = begin(&packages);
    ck_assert_int_eq(give_part(one, &packages), INGEST_OK); /* one alone may always */
    ck_assert_int_eq(give_part(other, &packages), INGEST_BUSY);
    ck_assert_str_eq(problem.quota, "inventory.pending_size");
    ingest_inventory_free(other);
    ck_assert_int_eq(store_it(one), INGEST_OK);
    ingest_inventory_free(one);
    other = begin(&packages);
    ck_assert_int_eq(give_part(other, &packages), INGEST_OK);
    ingest_inventory_free(other);
}
END_TEST

START_TEST(an_agent_that_holds_much_leaves_room_for_another)
{
    struct ingest_inventory_limits limits = usual();
    struct ingest_inventory *held[3], *small;

    limits.pending_bytes = 220; /* of which two parts take 134, and the small one 20 */
    set_limits(limits);
    for (int i = 0; i < 3; i++)
        held[i] = begin_of("hoarder", i < 2 ? &packages : &one_row);
    ck_assert_int_eq(give_part(held[0], &packages), INGEST_OK);
    ck_assert_int_eq(give_part(held[1], &packages), INGEST_OK); /* nobody else is there */
    small = begin_of("honest", &one_row);
    ck_assert_int_eq(give_part(small, &one_row), INGEST_OK);
    ck_assert_int_eq(give_part(held[2], &one_row), INGEST_BUSY); /* there is room, but not for it */
    ck_assert_int_eq(store_it(small), INGEST_OK);
    ingest_inventory_free(small);
    for (int i = 0; i < 3; i++)
        ingest_inventory_free(held[i]);
}
END_TEST

START_TEST(the_uploads_of_one_agent_together_are_bounded)
{
    struct ingest_inventory_limits limits = usual();
    struct ingest_inventory *open[INGEST_UPLOADS_PER_AGENT], *more;

    limits.upload_bytes = 100;
    set_limits(limits);
    for (size_t i = 0; i < N(open); i++)
        open[i] = begin(&packages);
    ck_assert_int_eq(ingest_inventory_new(&more, ingest, "web-1"), INGEST_BUSY);
    ck_assert_int_eq(give_part(open[0], &packages), INGEST_OK);
    ck_assert_int_eq(give_part(open[1], &packages), INGEST_BUSY);
    more = begin_of("web-2", &packages);
    ck_assert_int_eq(give_part(more, &packages), INGEST_OK);
    ingest_inventory_free(more);
    for (size_t i = 0; i < N(open); i++)
        ingest_inventory_free(open[i]);
    ingest_inventory_free(begin(&packages));
}
END_TEST

START_TEST(an_upload_that_was_given_up_does_not_take_the_place_of_a_newer_one)
{
    struct ingest_inventory *older = begin(&packages), *newer = begin(&one_row);
    uint32_t n_changed;

    ck_assert_int_eq(give_part(older, &packages), INGEST_OK);
    ck_assert_int_eq(give_part(newer, &one_row), INGEST_OK);
    ck_assert_int_eq(store_it(newer), INGEST_OK);
    ck_assert_int_eq(store_it(older), INGEST_TAKEN_OVER);
    ingest_inventory_free(older);
    ingest_inventory_free(newer);
    newer = begin(&one_row);
    ck_assert_int_eq(store_it(newer), INGEST_OK);
    ck_assert_uint_eq(ingest_inventory_revision(newer, &n_changed), 1);
    ck_assert_uint_eq(n_changed, 0);
    ingest_inventory_free(newer);
}
END_TEST

static const struct {
    const char *quota;
    size_t at; /* of the limit that is set to 1 */
    bool is_64;
} limit_rows[] = {
    { "inventory.columns", offsetof(struct ingest_inventory_limits, columns), false },
    { "inventory.rows", offsetof(struct ingest_inventory_limits, rows), true },
    { "inventory.value_size", offsetof(struct ingest_inventory_limits, value_bytes), false },
    { "inventory.table_size", offsetof(struct ingest_inventory_limits, table_bytes), true },
    { "inventory.upload_size", offsetof(struct ingest_inventory_limits, upload_bytes), true },
};

START_TEST(each_limit_is_named)
{
    struct ingest_inventory_limits limits = usual();
    struct ingest_inventory *inventory;

    if (limit_rows[_i].is_64)
        *(uint64_t *) (void *) ((char *) &limits + limit_rows[_i].at) = 1;
    else
        *(uint32_t *) (void *) ((char *) &limits + limit_rows[_i].at) = 1;
    set_limits(limits);
    inventory = begin(&packages);
    ck_assert_int_eq(give_part(inventory, &packages), INGEST_LIMIT);
    ck_assert_str_eq(problem.quota, limit_rows[_i].quota);
    ck_assert_ptr_nonnull(strstr(problem.description, "at most 1"));
    ck_assert_str_ne(problem.field, "");
    ingest_inventory_free(inventory);
}
END_TEST

START_TEST(as_many_tables_as_may_be_and_no_more)
{
    struct ingest_inventory_limits limits = usual();
    struct ingest_inventory *inventory;

    limits.tables = 0;
    set_limits(limits);
    ck_assert_int_eq(ingest_inventory_new(&inventory, ingest, "web-1"), 0);
    ck_assert_int_eq(give_header(inventory, &packages, NOW_US), INGEST_LIMIT);
    ck_assert_str_eq(problem.quota, "inventory.tables");
    ck_assert_int_eq(
        ingest_inventory_header(inventory, NOW_US, NULL, 0, (wall_us){ NOW_US }, &problem),
        INGEST_OK);
    ck_assert_int_eq(store_it(inventory), INGEST_OK);
    ingest_inventory_free(inventory);
}
END_TEST

static struct told edited;

static void row_too_short(void)
{
    edited.n_values = 1;
}
static void rows_out_of_order(void)
{
    edited.values[1][0] = "a";
}
static void another_value(void)
{
    edited.values[2][1] = "6.0";
}
static void another_column(void)
{
    edited.columns[1] = "Version";
}
static void a_row_less(void)
{
    edited.n_rows = 2;
}
static void no_columns(void)
{
    edited.n_columns = 0;
}
static void column_twice(void)
{
    edited.columns[1] = "name";
}
static void column_empty(void)
{
    edited.columns[0] = "";
}
static void another_table(void)
{
    edited.name = "users";
}

static const struct {
    void (*edit)(void);
    const char *field;
} broken[] = {
    { row_too_short, "table.rows[0].values" },
    { rows_out_of_order, "table.rows[1]" },
    { another_value, "header.tables[0].sha256" },
    { another_column, "header.tables[0].sha256" },
    { a_row_less, "header.tables[0].rows" },
    { no_columns, "table.columns" },
    { column_twice, "table.columns" },
    { column_empty, "table.columns[0]" },
    { another_table, "table.name" },
};

START_TEST(a_table_that_breaks_a_rule_is_refused_by_its_field)
{
    struct ingest_inventory *inventory = begin(&packages);

    edited = packages;
    broken[_i].edit();
    ck_assert_int_eq(give_part(inventory, &edited), INGEST_BAD_INVENTORY);
    ck_assert_str_eq(problem.field, broken[_i].field);
    ck_assert_str_ne(problem.description, "");
    ingest_inventory_free(inventory);
}
END_TEST

START_TEST(times_that_cannot_be_are_refused)
{
    const int64_t times_us[] = { INT64_MIN, 0, NOW_US - INT64_C(366) * 24 * 60 * MINUTE,
                                 NOW_US + 61 * MINUTE, INT64_MAX };
    struct ingest_inventory *inventory;

    ck_assert_int_eq(ingest_inventory_new(&inventory, ingest, "web-1"), 0);
    for (size_t i = 0; i < N(times_us); i++)
        ck_assert_int_eq(give_header(inventory, &packages, times_us[i]), INGEST_TIME_OUT_OF_RANGE);
    ck_assert_int_eq(give_header(inventory, &packages, NOW_US + 59 * MINUTE), INGEST_OK);
    ingest_inventory_free(inventory);
}
END_TEST

Suite *suite(void)
{
    Suite *suite = suite_create("server/ingest_inventory");
    TCase *tcase = tcase_create("inventory");

    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, a_header_alone_lacks_and_with_the_table_it_is_stored);
    tcase_add_test(tcase, what_is_received_at_once_is_bounded_and_is_free_again_afterwards);
    tcase_add_test(tcase, an_agent_that_holds_much_leaves_room_for_another);
    tcase_add_test(tcase, the_uploads_of_one_agent_together_are_bounded);
    tcase_add_test(tcase, an_upload_that_was_given_up_does_not_take_the_place_of_a_newer_one);
    tcase_add_loop_test(tcase, each_limit_is_named, 0, N(limit_rows));
    tcase_add_test(tcase, as_many_tables_as_may_be_and_no_more);
    tcase_add_loop_test(tcase, a_table_that_breaks_a_rule_is_refused_by_its_field, 0, N(broken));
    tcase_add_test(tcase, times_that_cannot_be_are_refused);
    suite_add_tcase(suite, tcase);
    return suite;
}
