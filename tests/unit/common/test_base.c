/* SPDX-License-Identifier: Apache-2.0 */
#include "suite.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdalign.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/arena.h"
#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/crc32c.h"
#include "common/base/fault.h"
#include "common/base/faultpoint.h"
#include "common/base/file.h"
#include "common/base/list.h"
#include "common/base/map.h"
#include "common/base/rand.h"

static int reports, reasons;

static void count_reports(int code, struct fault_site site, const char *reason)
{
    (void) code;
    (void) site;
    reports++;
    reasons += reason != NULL;
}

/* ---- arena ---- */

START_TEST(arena_refuses_bytes_past_its_limit)
{
    struct arena arena;

    arena_init(&arena, 64);
    ck_assert_ptr_nonnull(arena_alloc(&arena, 64));
    ck_assert(!arena.is_exhausted);
    ck_assert_ptr_null(arena_alloc(&arena, 1));
    ck_assert(arena.is_exhausted);
    arena_deinit(&arena);

    arena_init(&arena, SIZE_MAX);
    ck_assert_ptr_null(arena_alloc(&arena, SIZE_MAX));
    ck_assert_ptr_null(arena_alloc_array(&arena, SIZE_MAX / 2, 3));
    ck_assert_ptr_null(arena_copy(&arena, span_of("", SIZE_MAX)));
    arena_deinit(&arena);
}
END_TEST

START_TEST(arena_charges_small_parts_for_the_room_they_take)
{
    struct arena arena;
    size_t n = 0;

    arena_init(&arena, 1000);
    while (arena_alloc(&arena, 1))
        n++;
    ck_assert_uint_eq(n, (1000 + alignof(max_align_t) - 1) / alignof(max_align_t));
    ck_assert_uint_eq(arena.used_bytes, 1000);
    arena_deinit(&arena);
}
END_TEST

static bool is_all(const uint8_t *data, size_t len, uint8_t byte)
{
    for (size_t i = 0; i < len; i++) {
        if (data[i] != byte)
            return false;
    }
    return true;
}

START_TEST(arena_parts_are_zeroed_aligned_and_apart_also_after_reset)
{
    struct arena arena;
    struct rand rand;

    rand_init(&rand, 7);
    arena_init(&arena, (size_t) 8 << 20);
    for (int round = 0; round < 4; round++) {
        struct {
            uint8_t *data;
            size_t len;
        } parts[500];

        for (size_t i = 0; i < 500; i++) {
            size_t len = (size_t) rand_below(&rand, i % 50 == 0 ? 100000 : 300);

            parts[i].data = arena_alloc(&arena, len);
            parts[i].len = len;
            ck_assert_ptr_nonnull(parts[i].data);
            ck_assert_uint_eq((uintptr_t) parts[i].data % alignof(max_align_t), 0);
            ck_assert(is_all(parts[i].data, len, 0));
            memset(parts[i].data, (int) (i % 251) + 1, len);
        }
        for (size_t i = 0; i < 500; i++)
            ck_assert(is_all(parts[i].data, parts[i].len, (uint8_t) (i % 251 + 1)));
        arena_reset(&arena, (size_t) 8 << 20);
        ck_assert_uint_eq(arena.used_bytes, 0);
    }
    arena_deinit(&arena);
}
END_TEST

START_TEST(arena_reset_keeps_a_block_and_sets_the_new_limit)
{
    struct arena arena;

    arena_init(&arena, (size_t) 1 << 20);
    ck_assert_ptr_nonnull(arena_alloc(&arena, 100));
    ck_assert_ptr_nonnull(arena_alloc(&arena, 500000));
    ck_assert_ptr_nonnull(arena_alloc(&arena, 20000));
    ck_assert_ptr_null(arena_alloc(&arena, (size_t) 1 << 20));
    arena_reset(&arena, 50);
    ck_assert_ptr_nonnull(arena.blocks);
    ck_assert(!arena.is_exhausted);
    ck_assert_ptr_null(arena_alloc(&arena, 51));
    ck_assert_ptr_nonnull(arena_alloc(&arena, 50));
    arena_deinit(&arena);
    ck_assert_ptr_null(arena.blocks);
}
END_TEST

START_TEST(arena_copies_bytes_and_prints)
{
    struct arena arena;

    arena_init(&arena, 1000);
    ck_assert_str_eq(arena_copy(&arena, span_of("abcdef", 3)), "abc");
    ck_assert_str_eq(arena_copy(&arena, span_of(NULL, 0)), "");
    ck_assert_str_eq(arena_copy_text(&arena, "text"), "text");
    ck_assert_str_eq(arena_printf(&arena, "%d of %s", 7, "nine"), "7 of nine");
    ck_assert_ptr_null(arena_printf(&arena, "%01000d", 7));
    arena_deinit(&arena);
}
END_TEST

/* ---- buf ---- */

START_TEST(buf_grows_and_ends_its_text)
{
    CLEANUP(buf_deinit) struct buf buf = { 0 };

    ck_assert_str_eq(buf_text(&buf), "");
    for (int i = 0; i < 1000; i++) {
        buf_append_text(&buf, "ab");
        buf_append(&buf, "c", 1);
        buf_append_span(&buf, span_of(NULL, 0));
        buf_printf(&buf, "%d", i % 10);
    }
    ck_assert_uint_eq(buf.len, 4000);
    ck_assert_uint_eq(strlen(buf_text(&buf)), 4000);
    ck_assert_str_eq(buf_text(&buf) + 3996, "abc9");

    uint8_t *more = buf_extend(&buf, 10);

    ck_assert_ptr_nonnull(more);
    ck_assert_uint_eq(more[0] | more[9], 0);
    ck_assert_uint_eq(buf_span(&buf).len, 4010);
    buf_clear(&buf);
    ck_assert_str_eq(buf_text(&buf), "");
}
END_TEST

START_TEST(buf_of_a_burst_is_not_kept_for_small_ones)
{
    struct buf buf = { 0 };

    ck_assert_ptr_nonnull(buf_extend(&buf, 1u << 20));
    buf_clear_for(&buf, 500000);
    ck_assert_uint_gt(buf.capacity, 1u << 20);
    buf_append_text(&buf, "x");
    buf_clear_for(&buf, 1000);
    ck_assert_uint_eq(buf.len, 0);
    ck_assert_uint_eq(buf.capacity, 0);
    ck_assert_ptr_nonnull(buf_extend(&buf, 10000));
    buf_clear_for(&buf, 10);
    ck_assert_uint_gt(buf.capacity, 10000); /* little enough */
    buf_deinit(&buf);
}
END_TEST

START_TEST(buf_that_failed_stays_failed_until_cleared)
{
    CLEANUP(buf_deinit) struct buf buf = { 0 };

    buf_append_text(&buf, "kept");
    ck_assert_ptr_null(buf_extend(&buf, SIZE_MAX - 2));
    ck_assert(buf_failed(&buf));
    buf_append_text(&buf, "dropped");
    ck_assert_str_eq(buf_text(&buf), "kept");
    ck_assert(buf_failed(&buf));
    buf_clear(&buf);
    ck_assert(!buf_failed(&buf));
}
END_TEST

/* ---- clock, rand ---- */

static wall_us wall_of_test(void)
{
    return (wall_us){ 42 };
}

START_TEST(clock_is_the_tests_until_it_is_given_back)
{
    clock_set_source(wall_of_test, NULL);
    ck_assert_int_eq(clock_wall().us, 42);
    clock_set_source(NULL, NULL);
    ck_assert_int_gt(clock_wall().us, 1000000);

    mono_us before = clock_mono();

    ck_assert_int_ge(clock_mono().us, before.us);
}
END_TEST

START_TEST(rand_is_the_published_generator)
{
    /* xoshiro256** from the state 1, 2, 3, 4: values of the reference implementation. */
    struct rand rand = { .state = { 1, 2, 3, 4 } };

    ck_assert_uint_eq(rand_u64(&rand), 11520);
    ck_assert_uint_eq(rand_u64(&rand), 0);
    ck_assert_uint_eq(rand_u64(&rand), 1509978240);
    ck_assert_uint_eq(rand_u64(&rand), 1215971899390074240);
}
END_TEST

START_TEST(rand_stays_below_its_bound_and_reaches_all_of_it)
{
    struct rand rand;
    unsigned seen = 0;

    rand_init_from_system(&rand);
    for (int i = 0; i < 10000; i++) {
        uint64_t x = rand_below(&rand, 6);
        double unit = rand_unit(&rand);

        ck_assert_uint_lt(x, 6);
        seen |= 1u << x;
        ck_assert(unit >= 0 && unit < 1);
    }
    ck_assert_uint_eq(seen, 0x3f);
    ck_assert_uint_eq(rand_below(&rand, 1), 0);
}
END_TEST

/* ---- crc32c ---- */

START_TEST(crc32c_gives_the_known_values)
{
    uint8_t block[32];

    ck_assert_uint_eq(crc32c(0, "123456789", 9), 0xe3069283);
    ck_assert_uint_eq(crc32c_portable(0, "123456789", 9), 0xe3069283);
    ck_assert_uint_eq(crc32c(0, NULL, 0), 0);

    /* RFC 3720 appendix B.4, read as little endian numbers. */
    memset(block, 0, sizeof(block));
    ck_assert_uint_eq(crc32c(0, block, sizeof(block)), 0x8a9136aa);
    memset(block, 0xff, sizeof(block));
    ck_assert_uint_eq(crc32c(0, block, sizeof(block)), 0x62a8ab43);
    for (uint8_t i = 0; i < 32; i++)
        block[i] = i;
    ck_assert_uint_eq(crc32c(0, block, sizeof(block)), 0x46dd794e);
}
END_TEST

START_TEST(crc32c_of_the_machine_is_the_portable_one)
{
    static uint8_t data[100000];
    struct rand rand;

    rand_init(&rand, 3);
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t) rand_u64(&rand);

    for (int i = 0; i < 3000; i++) {
        size_t at = (size_t) rand_below(&rand, 64);
        size_t bound = i % 3 == 0 ? sizeof(data) - 64 : i % 3 == 1 ? 2000 : 64;
        size_t len = (size_t) rand_below(&rand, bound);
        size_t first = (size_t) rand_below(&rand, len + 1);
        uint32_t seed = (uint32_t) rand_u64(&rand);
        uint32_t whole = crc32c_portable(seed, data + at, len);

        ck_assert_uint_eq(crc32c(seed, data + at, len), whole);
        ck_assert_uint_eq(crc32c(crc32c(seed, data + at, first), data + at + first, len - first),
                          whole);
    }
}
END_TEST

/* ---- fault ---- */

static int raise_it(void)
{
    return fault(-EIO, "disk gone");
}

static int pass_it(void)
{
    return pass(raise_it());
}

START_TEST(fault_gives_its_reason_once_and_its_path_each_hop)
{
    fault_set_sink(count_reports);
    reports = reasons = 0;
    ck_assert_int_eq(pass_it(), -EIO);
    ck_assert_int_eq(reports, 2);
    ck_assert_int_eq(reasons, 1);
}
END_TEST

START_TEST(pass_lets_outcomes_through_without_a_trace)
{
    fault_set_sink(count_reports);
    reports = 0;
    ck_assert_int_eq(pass(3), 3);
    ck_assert_int_eq(pass(0), 0);
    ck_assert_int_eq(reports, 0);
}
END_TEST

START_TEST(fold_turns_an_unhandled_outcome_into_a_fault)
{
    fault_set_sink(count_reports);
    ck_assert_int_eq(fold(1), -ENOTRECOVERABLE);
    ck_assert_int_eq(fold(0), 0);
}
END_TEST

START_TEST(a_broken_invariant_aborts)
{
    struct rand forgotten = { 0 };

    /* Nobody needs the message of a test that is meant to die. */
    ck_assert_ptr_nonnull(freopen("/dev/null", "w", stderr));
    rand_u64(&forgotten);
}
END_TEST

#ifdef SENTINEL_FAULT_POINTS
START_TEST(a_fault_point_kills_at_the_pass_it_is_told)
{
    char passes[8];
    int fds[2];
    int status;

    ck_assert_int_eq(pipe(fds), 0);
    setenv("SENTINEL_FAULT", "here:3", 1);

    pid_t child = fork();

    if (child == 0) {
        for (;;) {
            faultpoint("there");
            faultpoint("here");
            if (write(fds[1], ".", 1) != 1)
                _exit(1);
        }
    }
    close(fds[1]);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    ck_assert_int_eq(read(fds[0], passes, sizeof(passes)), 2);
    close(fds[0]);
}
END_TEST

START_TEST(a_fault_point_lets_others_pass)
{
    unsetenv("SENTINEL_FAULT");
    faultpoint("here");
    setenv("SENTINEL_FAULT", "here", 1);
    faultpoint("there");
    faultpoint("heretoo");
}
END_TEST
#endif

/* ---- file ---- */

static char directory[] = "/tmp/sentinel-test-base-XXXXXX";
static char path[PATH_MAX];

static const char *at(const char *name)
{
    snprintf(path, sizeof(path), "%s/%s", directory, name);
    return path;
}

static void make_directory(void)
{
    fault_set_sink(count_reports);
    strcpy(directory, "/tmp/sentinel-test-base-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
}

static void remove_directory(void)
{
    ck_assert_int_eq(file_remove_tree(directory), 0);
    ck_assert_int_ne(access(directory, F_OK), 0);
}

START_TEST(file_replace_writes_whole_content_and_the_mode_despite_the_umask)
{
    CLEANUP(buf_deinit) struct buf content = { 0 };
    struct stat info;

    umask(077);
    ck_assert_int_eq(file_replace(at("f"), span_of_text("first"), 0644), FILE_OK);
    ck_assert_int_eq(file_replace(at("f"), span_of_text("2nd"), 0640), FILE_OK);
    ck_assert_int_eq(stat(path, &info), 0);
    ck_assert_uint_eq(info.st_mode & 07777, 0640);
    ck_assert_int_eq(file_read(path, 3, &content), FILE_OK);
    ck_assert_str_eq(buf_text(&content), "2nd");
    ck_assert_int_eq(file_replace(at("none/f"), span_of_text("x"), 0600), FILE_ABSENT);
    ck_assert_int_eq(file_replace(at("f/x"), span_of_text("x"), 0600), FILE_ABSENT);
}
END_TEST

START_TEST(file_replace_that_fails_leaves_nothing_beside)
{
    ck_assert_int_eq(mkdir(at("sub"), 0700), 0);
    ck_assert_int_eq(mkdir(at("sub/taken"), 0700), 0);
    ck_assert_int_lt(file_replace(path, span_of_text("x"), 0600), 0);
    ck_assert_int_eq(rmdir(path), 0);
    ck_assert_int_eq(rmdir(at("sub")), 0);
}
END_TEST

START_TEST(file_read_appends_within_the_limit_and_else_reads_nothing)
{
    static uint8_t large[200000];
    CLEANUP(buf_deinit) struct buf content = { 0 };

    memset(large, 'x', sizeof(large));
    ck_assert_int_eq(file_replace(at("f"), span_of(large, sizeof(large)), 0600), FILE_OK);
    buf_append_text(&content, "before");
    ck_assert_int_eq(file_read(path, sizeof(large) - 1, &content), FILE_TOO_LARGE);
    ck_assert_str_eq(buf_text(&content), "before");
    ck_assert_int_eq(file_read(path, sizeof(large), &content), FILE_OK);
    ck_assert_uint_eq(content.len, 6 + sizeof(large));
    ck_assert_int_eq(memcmp(content.data + 6, large, sizeof(large)), 0);

    buf_clear(&content);
    ck_assert_int_eq(file_read(at("none"), 10, &content), FILE_ABSENT);
    ck_assert_int_eq(file_read("/proc/self/status", SIZE_MAX, &content), FILE_OK);
    ck_assert_uint_gt(content.len, 0);
    buf_clear(&content);
    ck_assert_int_eq(file_read("/proc/self/status", 10, &content), FILE_TOO_LARGE);
    ck_assert_uint_eq(content.len, 0);
    ck_assert_int_lt(file_read(directory, 10, &content), 0);
}
END_TEST

START_TEST(directories_are_made_with_parents_and_existing_ones_left_alone)
{
    struct stat info;

    umask(0);
    ck_assert_int_eq(file_make_directories(at("a//b/c/"), 0711), FILE_OK);
    ck_assert_int_eq(stat(at("a/b/c"), &info), 0);
    ck_assert_uint_eq(info.st_mode & 07777, 0711);
    ck_assert_int_eq(stat(at("a/b"), &info), 0);
    ck_assert_uint_eq(info.st_mode & 07777, 0755);
    ck_assert_int_eq(file_make_directories(at("a/b"), 0700), FILE_OK);
    ck_assert_int_eq(stat(at("a/b"), &info), 0);
    ck_assert_uint_eq(info.st_mode & 07777, 0755);
    ck_assert_int_eq(file_make_directories("/", 0700), FILE_OK);

    ck_assert_int_eq(file_replace(at("f"), span_of_text("x"), 0600), FILE_OK);
    ck_assert_int_lt(file_make_directories(at("f"), 0700), 0);
    ck_assert_int_lt(file_make_directories(at("f/g"), 0700), 0);
}
END_TEST

START_TEST(removing_a_tree_does_not_follow_links)
{
    char kept[PATH_MAX];

    snprintf(kept, sizeof(kept), "%s/kept", directory);
    ck_assert_int_eq(file_make_directories(kept, 0700), FILE_OK);
    ck_assert_int_eq(file_replace(at("kept/f"), span_of_text("x"), 0600), FILE_OK);
    ck_assert_int_eq(file_make_directories(at("tree/deep/er"), 0700), FILE_OK);
    ck_assert_int_eq(file_replace(at("tree/deep/f"), span_of_text("x"), 0600), FILE_OK);
    ck_assert_int_eq(symlink(kept, at("tree/deep/link")), 0);
    ck_assert_int_eq(symlink(kept, at("link")), 0);

    ck_assert_int_lt(file_remove_tree(at("link")), 0);
    ck_assert_int_eq(file_remove_tree(at("tree")), 0);
    ck_assert_int_ne(access(at("tree"), F_OK), 0);
    ck_assert_int_eq(access(at("kept/f"), F_OK), 0);
    ck_assert_int_eq(file_remove_tree(at("tree")), 0);
}
END_TEST

START_TEST(permissions_are_an_outcome)
{
    CLEANUP(buf_deinit) struct buf content = { 0 };

    ck_assert_int_eq(file_replace(at("f"), span_of_text("x"), 0600), FILE_OK);
    ck_assert_int_eq(chmod(directory, 0700), 0);
    /* Root may do everything. */
    if (getuid() == 0)
        ck_assert_int_eq(seteuid(65534), 0);
    else
        ck_assert_int_eq(chmod(directory, 0), 0);
    ck_assert_int_eq(file_read(at("f"), 10, &content), FILE_DENIED);
    ck_assert_int_eq(file_replace(at("f"), span_of_text("x"), 0600), FILE_DENIED);
    ck_assert_int_eq(file_make_directories(at("d"), 0700), FILE_DENIED);
    if (getuid() == 0)
        ck_assert_int_eq(seteuid(0), 0);
    else
        ck_assert_int_eq(chmod(directory, 0700), 0);
}
END_TEST

/* ---- list ---- */

struct item {
    int number;
    struct list node;
};

START_TEST(list_gives_back_its_items_in_order_and_loses_them_while_walked)
{
    struct list list = LIST_INIT(list);
    struct item items[5];
    int sum = 0;

    ck_assert(list_is_empty(&list));
    for (int i = 0; i < 5; i++) {
        items[i].number = i;
        list_append(&list, &items[i].node);
    }
    list_each_safe(pos, &list)
    {
        if (container_of(pos, struct item, node)->number % 2 == 0)
            list_remove(pos);
    }
    list_each(pos, &list) sum = sum * 10 + container_of(pos, struct item, node)->number;
    ck_assert_int_eq(sum, 13);
    ck_assert(list_is_empty(&items[0].node));
    list_remove(&items[0].node);
    ck_assert(!list_is_empty(&list));
}
END_TEST

/* ---- map ---- */

START_TEST(map_agrees_with_an_array_over_random_operations)
{
    enum { N_KEYS = 3000 };
    static struct {
        char name[12];
        size_t len;
        void *expected;
    } keys[N_KEYS];
    struct map map = { 0 };
    struct rand rand;
    size_t n_present = 0;

    rand_init(&rand, 11);
    for (int i = 0; i < N_KEYS; i++)
        keys[i].len =
            (size_t) snprintf(keys[i].name, sizeof(keys[i].name), "%.*s%d", i % 5, "aaaa", i);

    for (int i = 0; i < 100000; i++) {
        /* Now more are put than removed, now the other way round. */
        uint64_t n_of_10_put = i / 10000 % 2 == 0 ? 6 : 2;
        size_t k = (size_t) rand_below(&rand, N_KEYS);
        struct span key = span_of(keys[k].name, keys[k].len);

        ck_assert_ptr_eq(map_get(&map, key), keys[k].expected);
        if (rand_below(&rand, 10) < n_of_10_put) {
            n_present += keys[k].expected == NULL;
            keys[k].expected = &keys[rand_below(&rand, N_KEYS)];
            ck_assert_int_eq(map_put(&map, key, keys[k].expected), 0);
        } else {
            n_present -= keys[k].expected != NULL;
            ck_assert_ptr_eq(map_remove(&map, key), keys[k].expected);
            keys[k].expected = NULL;
        }
        ck_assert_uint_eq(map.n_entries, n_present);
        ck_assert(map.n_entries * 4 <= map.n_slots * 3);
    }

    size_t n_walked = 0;
    size_t walk = 0;

    for (int i = 0; i < N_KEYS; i++)
        ck_assert_ptr_eq(map_get(&map, span_of(keys[i].name, keys[i].len)), keys[i].expected);
    while (map_next(&map, &walk))
        n_walked++;
    ck_assert_uint_eq(n_walked, n_present);
    map_deinit(&map);
    ck_assert_uint_eq(map.n_entries, 0);
}
END_TEST

START_TEST(what_a_walk_gives_may_be_removed)
{
    static struct key {
        char name[8];
        bool is_odd;
    } keys[1000];
    struct map map = { 0 };
    size_t walk = 0, n = 0;

    for (size_t i = 0; i < 1000; i++) {
        snprintf(keys[i].name, sizeof(keys[i].name), "%zu", i);
        keys[i].is_odd = i % 2;
        ck_assert_int_eq(map_put(&map, span_of_text(keys[i].name), &keys[i]), 0);
    }
    for (struct key *key; (key = map_next(&map, &walk));) {
        if (!key->is_odd)
            continue;
        ck_assert_ptr_eq(map_remove(&map, span_of_text(key->name)), key);
        walk--;
    }
    ck_assert_uint_eq(map.n_entries, 500);
    walk = 0;
    for (const struct key *key; (key = map_next(&map, &walk)); n++)
        ck_assert(!key->is_odd);
    ck_assert_uint_eq(n, 500);
    map_deinit(&map);
}
END_TEST

START_TEST(map_takes_the_key_it_is_given_last)
{
    struct map map = { 0 };
    char first[] = "key";
    char second[] = "key";
    int value;

    ck_assert_ptr_null(map_get(&map, span_of_text("key")));
    ck_assert_ptr_null(map_remove(&map, span_of_text("key")));
    ck_assert_int_eq(map_put(&map, span_of_text(first), &value), 0);
    ck_assert_int_eq(map_put(&map, span_of_text(second), &value), 0);
    strcpy(first, "gon");
    ck_assert_ptr_eq(map_get(&map, span_of_text("key")), &value);
    ck_assert_int_eq(map_put(&map, span_of(NULL, 0), &value), 0);
    ck_assert_ptr_eq(map_get(&map, span_of(NULL, 0)), &value);
    ck_assert_uint_eq(map.n_entries, 2);
    map_deinit(&map);
}
END_TEST

static TCase *add_case(Suite *s, const char *name)
{
    TCase *tcase = tcase_create(name);

    suite_add_tcase(s, tcase);
    return tcase;
}

/* test_base_text.c */
void add_text_cases(Suite *s);

static void add_memory_cases(Suite *s)
{
    TCase *tcase = add_case(s, "arena");

    tcase_add_test(tcase, arena_refuses_bytes_past_its_limit);
    tcase_add_test(tcase, arena_charges_small_parts_for_the_room_they_take);
    tcase_add_test(tcase, arena_parts_are_zeroed_aligned_and_apart_also_after_reset);
    tcase_add_test(tcase, arena_reset_keeps_a_block_and_sets_the_new_limit);
    tcase_add_test(tcase, arena_copies_bytes_and_prints);

    tcase = add_case(s, "buf");
    tcase_add_test(tcase, buf_grows_and_ends_its_text);
    tcase_add_test(tcase, buf_of_a_burst_is_not_kept_for_small_ones);
    tcase_add_test(tcase, buf_that_failed_stays_failed_until_cleared);

    tcase = add_case(s, "containers");
    tcase_set_timeout(tcase, 60); /* each assertion is a call of the kernel */
    tcase_add_test(tcase, list_gives_back_its_items_in_order_and_loses_them_while_walked);
    tcase_add_test(tcase, map_agrees_with_an_array_over_random_operations);
    tcase_add_test(tcase, what_a_walk_gives_may_be_removed);
    tcase_add_test(tcase, map_takes_the_key_it_is_given_last);
}

Suite *suite(void)
{
    Suite *s = suite_create("common/base");
    TCase *tcase;

    add_memory_cases(s);
    add_text_cases(s);

    tcase = add_case(s, "numbers");
    tcase_add_test(tcase, clock_is_the_tests_until_it_is_given_back);
    tcase_add_test(tcase, rand_is_the_published_generator);
    tcase_add_test(tcase, rand_stays_below_its_bound_and_reaches_all_of_it);
    tcase_add_test(tcase, crc32c_gives_the_known_values);
    tcase_add_test(tcase, crc32c_of_the_machine_is_the_portable_one);

    tcase = add_case(s, "faults");
    tcase_add_test(tcase, fault_gives_its_reason_once_and_its_path_each_hop);
    tcase_add_test(tcase, pass_lets_outcomes_through_without_a_trace);
    tcase_add_test(tcase, fold_turns_an_unhandled_outcome_into_a_fault);
    tcase_add_test_raise_signal(tcase, a_broken_invariant_aborts, SIGABRT);

#ifdef SENTINEL_FAULT_POINTS
    tcase_add_test(tcase, a_fault_point_kills_at_the_pass_it_is_told);
    tcase_add_test(tcase, a_fault_point_lets_others_pass);
#endif

    tcase = add_case(s, "files");
    tcase_add_checked_fixture(tcase, make_directory, remove_directory);
    tcase_add_test(tcase, file_replace_writes_whole_content_and_the_mode_despite_the_umask);
    tcase_add_test(tcase, file_replace_that_fails_leaves_nothing_beside);
    tcase_add_test(tcase, file_read_appends_within_the_limit_and_else_reads_nothing);
    tcase_add_test(tcase, directories_are_made_with_parents_and_existing_ones_left_alone);
    tcase_add_test(tcase, removing_a_tree_does_not_follow_links);
    tcase_add_test(tcase, permissions_are_an_outcome);
    return s;
}
