/* SPDX-License-Identifier: Apache-2.0 */
#include "test_store.h"

#include <sys/wait.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/fault.h"

static bool collect(void *ctx, struct span key, struct span value)
{
    struct buf *to = ctx;

    buf_append_span(to, key);
    buf_append_text(to, "=");
    buf_append_span(to, value);
    buf_append_text(to, ";");
    return true;
}

static int write_one(struct store *store, const char *key, const char *value)
{
    struct store_write write = { STORE_TABLE_OPERATORS, span_of_text(key), { 0 } };

    if (value)
        write.value = span_of_text(value);
    return store_state_write(store, &write, 1);
}

START_TEST(rows_are_written_read_listed_in_order_and_deleted)
{
    struct store *store = open_store(0);
    struct arena arena;
    struct span got;
    CLEANUP(buf_deinit) struct buf all = { 0 };

    arena_init(&arena, 4096);
    ck_assert_int_eq(write_one(store, "b", "2"), 0);
    ck_assert_int_eq(write_one(store, "a", "1"), 0);
    ck_assert_int_eq(write_one(store, "c", ""), 0);
    store_close(store);
    store = open_store(0);
    ck_assert_int_eq(store_state_each(store, STORE_TABLE_OPERATORS, collect, &all), 0);
    ck_assert_str_eq(buf_text(&all), "a=1;b=2;c=;");
    ck_assert_int_eq(store_state_get(store, STORE_TABLE_OPERATORS, span_of_text("b"), &arena, &got),
                     0);
    ck_assert(span_equal(got, span_of_text("2")));
    ck_assert_int_eq(store_state_get(store, STORE_TABLE_OPERATORS, span_of_text("c"), &arena, &got),
                     0);
    ck_assert_uint_eq(got.len, 0);
    ck_assert_int_eq(
        store_state_get(store, STORE_TABLE_OPERATORS, span_of_text("bb"), &arena, &got),
        STORE_NOT_FOUND);
    ck_assert_int_eq(
        store_state_get(store, STORE_TABLE_CERTIFICATES, span_of_text("b"), &arena, &got),
        STORE_NOT_FOUND);
    ck_assert_int_eq(write_one(store, "b", NULL), 0);
    ck_assert_int_eq(write_one(store, "b", NULL), 0);
    buf_clear(&all);
    ck_assert_int_eq(store_state_each(store, STORE_TABLE_OPERATORS, collect, &all), 0);
    ck_assert_str_eq(buf_text(&all), "a=1;c=;");
    arena_deinit(&arena);
    store_close(store);
}
END_TEST

START_TEST(writes_of_one_call_come_together)
{
    struct store *store = open_store(0);
    struct store_write writes[] = {
        { STORE_TABLE_OPERATORS, span_of_text("a"), span_of_text("1") },
        { STORE_TABLE_CERTIFICATES, span_of_text("x"), span_of_text("9") },
    };
    uint64_t before = store_state_version(store);

    ck_assert_int_eq(store_state_write(store, writes, 2), 0);
    ck_assert_uint_eq(store_state_version(store), before + 1);
    store_close(store);
}
END_TEST

static int put_behind(struct store_change *change, void *ctx)
{
    static const char *const keys[] = { "b", "d", "c", "d", "e" };
    int r = 0;

    (void) ctx;
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]) && r == 0; i++) {
        const struct store_write write = { STORE_TABLE_OPERATORS, span_of_text(keys[i]),
                                           span_of(&"12345"[i], 1), .is_behind_all = true };

        r = store_change_put(change, &write);
    }
    return r;
}

START_TEST(rows_behind_all_others_may_also_lie_between_them)
{
    struct store *store = open_store(0);
    CLEANUP(buf_deinit) struct buf all = { 0 };

    ck_assert_int_eq(write_one(store, "a", "0"), 0);
    ck_assert_int_eq(store_state_change(store, put_behind, NULL), 0);
    ck_assert_int_eq(store_state_each(store, STORE_TABLE_OPERATORS, collect, &all), 0);
    ck_assert_str_eq(buf_text(&all), "a=0;b=1;c=3;d=4;e=5;");
    store_close(store);
}
END_TEST

struct turn {
    int to_child[2], to_parent[2];
};

static void pass_turn(const int *pipe_ends)
{
    ck_assert_int_eq(write(pipe_ends[1], "x", 1), 1);
}

static void await_turn(const int *pipe_ends)
{
    char c;

    ck_assert_int_eq(read(pipe_ends[0], &c, 1), 1);
}

/* An offline command beside the hub: reads what the hub wrote, and writes. */
static void be_offline_command(void *ctx)
{
    struct turn *turn = ctx;
    struct store_options options = store_settings(0);
    struct store *store = NULL;
    struct store_why why;
    struct arena arena;
    struct span got;
    uint32_t number;
    uint64_t version;

    arena_init(&arena, 4096);
    options.is_shared = true;
    await_turn(turn->to_child);
    if (store_open(&store, &options, &why) != 0)
        _exit(1);
    if (store_state_get(store, STORE_TABLE_OPERATORS, span_of_text("hub"), &arena, &got) != 0)
        _exit(2);
    version = store_state_version(store);
    pass_turn(turn->to_parent);
    await_turn(turn->to_child);
    if (store_state_version(store) <= version)
        _exit(3);
    if (write_one(store, "offline", "1") != 0)
        _exit(4);
    fault_set_sink(NULL);
    if (store_agent_intern(store, "x", &number) >= 0)
        _exit(5);
    arena_deinit(&arena);
    store_close(store);
    pass_turn(turn->to_parent);
}

START_TEST(a_second_process_shares_the_state)
{
    struct turn turn;
    struct arena arena;
    struct store *store;
    struct span got;
    uint64_t version;
    int status;
    pid_t pid;

    ck_assert_int_eq(pipe(turn.to_child), 0);
    ck_assert_int_eq(pipe(turn.to_parent), 0);
    pid = fork(); /* before the database is open here */
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        be_offline_command(&turn);
        _exit(0);
    }
    arena_init(&arena, 4096);
    store = open_store(0);
    ck_assert_int_eq(write_one(store, "hub", "1"), 0);
    pass_turn(turn.to_child);
    await_turn(turn.to_parent);
    ck_assert_int_eq(write_one(store, "hub", "2"), 0);
    version = store_state_version(store);
    pass_turn(turn.to_child);
    await_turn(turn.to_parent);
    ck_assert_uint_gt(store_state_version(store), version);
    ck_assert_int_eq(
        store_state_get(store, STORE_TABLE_OPERATORS, span_of_text("offline"), &arena, &got), 0);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    arena_deinit(&arena);
    store_close(store);
}
END_TEST

static void fall_silent(int code, struct fault_site site, const char *reason)
{
    (void) code;
    (void) site;
    (void) reason;
}

START_TEST(a_key_that_no_database_takes_is_refused_and_the_store_goes_on)
{
    struct store *store = open_store(0);
    struct store_stats stats;
    char key[STORE_KEY_BYTES + 2];

    memset(key, 'k', sizeof(key));
    key[STORE_KEY_BYTES + 1] = 0;
    fault_set_sink(fall_silent);
    ck_assert_int_eq(write_one(store, key, "v"), -EINVAL);
    ck_assert_int_eq(write_one(store, "", "v"), -EINVAL);
    key[STORE_KEY_BYTES] = 0;
    ck_assert_int_eq(write_one(store, key, "v"), 0);
    store_get_stats(store, &stats);
    ck_assert(!stats.has_failed);
    store_close(store);
}
END_TEST

/* ---- changes ---- */

struct counting {
    int outcome;
    bool is_first_gone;
};

/* Adds one to the number under "n", and takes "first" away. */
static int count_up(struct store_change *change, void *ctx)
{
    struct counting *counting = ctx;
    struct span got;
    char text[16] = "1";
    int r = store_change_get(change, STORE_TABLE_TOKENS, span_of_text("n"), &got);

    if (r < 0)
        return r;
    if (r == 0)
        text[0] = (char) (got.data[0] + 1);
    struct store_write write = { STORE_TABLE_TOKENS, span_of_text("n"), span_of_text(text) };
    r = store_change_put(change, &write);
    ck_assert_int_eq(r, 0);
    write = (struct store_write){ STORE_TABLE_TOKENS, span_of_text("first"), { 0 } };
    r = store_change_put(change, &write);
    ck_assert_int_eq(r, 0);
    counting->is_first_gone = store_change_get(change, STORE_TABLE_TOKENS, span_of_text("first"),
                                               &got) == STORE_NOT_FOUND;
    return counting->outcome;
}

START_TEST(a_change_reads_what_it_put_and_an_outcome_leaves_nothing_of_it)
{
    struct store *store = open_store(0);
    struct counting counting = { .outcome = 0 };
    CLEANUP(buf_deinit) struct buf all = { 0 };
    const struct store_write first = { STORE_TABLE_TOKENS, span_of_text("first"),
                                       span_of_text("here") };

    ck_assert_int_eq(store_state_change(store, count_up, &counting), 0);
    ck_assert(counting.is_first_gone);
    ck_assert_int_eq(store_state_write(store, &first, 1), 0);
    counting.outcome = STORE_OUTCOME_FREE + 7;
    ck_assert_int_eq(store_state_change(store, count_up, &counting), STORE_OUTCOME_FREE + 7);
    ck_assert(counting.is_first_gone);
    ck_assert_int_eq(store_state_each(store, STORE_TABLE_TOKENS, collect, &all), 0);
    ck_assert_str_eq(buf_text(&all), "first=here;n=1;");
    counting.outcome = 0;
    ck_assert_int_eq(store_state_change(store, count_up, &counting), 0);
    buf_clear(&all);
    ck_assert_int_eq(store_state_each(store, STORE_TABLE_TOKENS, collect, &all), 0);
    ck_assert_str_eq(buf_text(&all), "n=2;");
    store_close(store);
}
END_TEST

START_TEST(a_range_has_the_rows_of_its_prefix_from_either_end)
{
    static const char *const keys[] = { "a", "b/1", "b/2", "b\xff", "b\xff\xff", "c" };
    struct store *store = open_store(0);
    CLEANUP(buf_deinit) struct buf all = { 0 };

    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        const struct store_write write = { STORE_TABLE_AUDIT, span_of_text(keys[i]),
                                           span_of_text("x") };
        ck_assert_int_eq(store_state_write(store, &write, 1), 0);
    }
    struct {
        const char *prefix, *forwards, *backwards;
    } rows[] = {
        { "b/", "b/1=x;b/2=x;", "b/2=x;b/1=x;" },
        { "b\xff", "b\xff=x;b\xff\xff=x;", "b\xff\xff=x;b\xff=x;" },
        { "c", "c=x;", "c=x;" },
        { "d", "", "" },
        { "0", "", "" },
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        buf_clear(&all);
        ck_assert_int_eq(store_state_range(store, STORE_TABLE_AUDIT, span_of_text(rows[i].prefix),
                                           false, collect, &all),
                         0);
        ck_assert_str_eq(buf_text(&all), rows[i].forwards);
        buf_clear(&all);
        ck_assert_int_eq(store_state_range(store, STORE_TABLE_AUDIT, span_of_text(rows[i].prefix),
                                           true, collect, &all),
                         0);
        ck_assert_str_eq(buf_text(&all), rows[i].backwards);
    }
    store_close(store);
}
END_TEST

TCase *case_state(void)
{
    TCase *tcase = tcase_create("state");

    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, make_database, remove_database);
    tcase_add_test(tcase, rows_are_written_read_listed_in_order_and_deleted);
    tcase_add_test(tcase, writes_of_one_call_come_together);
    tcase_add_test(tcase, rows_behind_all_others_may_also_lie_between_them);
    tcase_add_test(tcase, a_second_process_shares_the_state);
    tcase_add_test(tcase, a_key_that_no_database_takes_is_refused_and_the_store_goes_on);
    tcase_add_test(tcase, a_change_reads_what_it_put_and_an_outcome_leaves_nothing_of_it);
    tcase_add_test(tcase, a_range_has_the_rows_of_its_prefix_from_either_end);
    return tcase;
}
