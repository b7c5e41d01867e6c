/* SPDX-License-Identifier: Apache-2.0 */

/* Heads become blocks, blocks become larger ones, days go: what a reader sees stays the same. */

#include "test_store.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/fault.h"
#include "common/base/rand.h"
#include "server/store/whole.h"

#define SECOND_US INT64_C(1000000)
#define NOON_US (INT64_C(1790000000) / 86400 * DAY_US + DAY_US / 2)

/* ---- a fixed picture of what there is ---- */

struct picture {
    size_t n;
    uint64_t hash;
};

static uint64_t mix(uint64_t hash, uint64_t value)
{
    return (hash ^ value) * UINT64_C(0x9e3779b97f4a7c15) + (hash >> 29);
}

static struct picture picture_of(struct store *store, uint32_t agent, uint32_t layout, uint32_t n)
{
    struct picture picture = { 0 };

    for (uint32_t column = 0; column < n; column++) {
        const struct scanned *got = scan_column(store, agent, layout, column);

        ck_assert_uint_eq(got->n_damaged, 0);
        picture.n += got->n;
        for (size_t i = 0; i < got->n; i++) {
            picture.hash = mix(picture.hash, (uint64_t) got->rows[i].time_us);
            picture.hash = mix(picture.hash, got->rows[i].is_present);
            if (got->rows[i].is_present)
                picture.hash = mix(picture.hash, got->rows[i].bits);
        }
    }
    return picture;
}

static void check_same(struct picture a, struct picture b)
{
    ck_assert_uint_eq(a.n, b.n);
    ck_assert_uint_eq(a.hash, b.hash);
}

static struct store_stats stats_of(struct store *store)
{
    struct store_stats stats;

    store_get_stats(store, &stats);
    return stats;
}

/* Rows of one batch with values and absences of all kinds. */
static void put_odd_rows(struct store *store, struct rand *rand, struct put put)
{
    struct store_batch *batch = NULL;
    double values[64];
    uint32_t absent[64];

    ck_assert_uint_le(put.n_values, 64);
    ck_assert_int_eq(
        store_batch_new(&batch, put.n_rows * store_row_bytes(put.n_values, put.n_values)), 0);
    batch->agent = put.agent;
    batch->signal = STORE_METRICS;
    batch->spool[0] = put.spool;
    batch->sequence = put.sequence;
    for (uint32_t i = 0; i < put.n_rows; i++) {
        struct store_row row = {
            put.time_us + i * SECOND_US, put.layout, put.n_values, values, absent, 0
        };

        for (uint32_t c = 0; c < put.n_values; c++) {
            uint64_t bits = rand_u64(rand);

            if (c % 3 == 0)
                values[c] = (double) (i + c);
            else if (c % 3 == 1)
                values[c] = (double) (bits % 1000) / 10;
            else
                memcpy(&values[c], &bits, sizeof(bits));
            if (bits % 11 == 0)
                absent[row.n_absent++] = c;
        }
        if (row.n_absent == 0)
            row.absent = NULL;
        store_batch_add(batch, &row, NULL);
    }
    ck_assert_int_eq(put_batch(store, batch, NULL), STORE_OK);
}

static struct rand *seeded(void)
{
    static struct rand rand;
    static bool is_seeded;

    if (!is_seeded)
        rand_init(&rand, 4711);
    is_seeded = true;
    return &rand;
}

START_TEST(sealed_rows_come_back_as_they_were_also_after_a_reopen)
{
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1"), layout = layout_of(store, 20);
    struct picture before;

    for (uint64_t i = 1; i <= 10; i++) {
        struct put put = { agent, layout, 1, i, NOON_US + (int64_t) i * 60 * SECOND_US, 20, 6 };

        put_odd_rows(store, seeded(), put);
    }
    before = picture_of(store, agent, layout, 20);
    ck_assert_uint_eq(before.n, 60 * 20);
    ck_assert_int_eq(store_seal(store), 0);
    check_same(before, picture_of(store, agent, layout, 20));
    ck_assert_uint_eq(stats_of(store).n_sealed_blocks, 1);
    store_close(store);
    store = open_store(0);
    check_same(before, picture_of(store, agent, layout, 20));
    ck_assert_int_eq(put_rows(store, (struct put){ agent, layout, 1, 10, 0, 20, 1 }, NULL),
                     STORE_DUPLICATE);
    store_close(store);
}
END_TEST

START_TEST(rows_of_several_days_and_layouts_go_each_to_its_day)
{
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1"), other = agent_of(store, "web-2");
    uint32_t wide = layout_of(store, 9), narrow = layout_of(store, 3);
    struct picture a, b, c;
    uint64_t sequence = 0;

    for (int day = -2; day <= 2; day++) {
        int64_t time_us = NOON_US + day * DAY_US;

        put_odd_rows(store, seeded(), (struct put){ agent, wide, 1, ++sequence, time_us, 9, 5 });
        put_odd_rows(store, seeded(), (struct put){ other, wide, 1, sequence, time_us, 9, 5 });
        put_odd_rows(store, seeded(), (struct put){ agent, narrow, 2, sequence, time_us, 3, 70 });
    }
    a = picture_of(store, agent, wide, 9);
    b = picture_of(store, agent, narrow, 3);
    c = picture_of(store, other, wide, 9);
    ck_assert_int_eq(store_seal(store), 0);
    ck_assert_uint_eq(stats_of(store).n_days, 5);
    for (int again = 0; again < 2; again++) {
        struct arena arena;
        struct store_span *spans;
        size_t n;

        check_same(a, picture_of(store, agent, wide, 9));
        check_same(b, picture_of(store, agent, narrow, 3));
        check_same(c, picture_of(store, other, wide, 9));
        arena_init(&arena, 1 << 20);
        ck_assert_int_eq(store_spans(store, agent, &arena, &spans, &n), 0);
        ck_assert_uint_eq(n, 2);
        for (size_t i = 0; i < n; i++) {
            ck_assert_int_eq(spans[i].first_us, NOON_US - 2 * DAY_US);
            ck_assert_uint_eq(spans[i].n_rows, spans[i].layout == wide ? 25 : 350);
        }
        arena_deinit(&arena);
        ck_assert_uint_eq(facts_of(store, agent).n_series, 9);
        store_close(store);
        store = open_store(0);
    }
    store_close(store);
}
END_TEST

START_TEST(what_is_late_or_has_an_equal_time_comes_in_the_order_of_commit)
{
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1"), layout = layout_of(store, 2);
    struct picture before;

    /* Times that meet again and again, sealed in pieces, the last ones still in the head. */
    for (uint64_t i = 1; i <= 12; i++) {
        int64_t time_us = NOON_US + (int64_t) (i * 7 % 5) * 3 * SECOND_US;

        put_odd_rows(store, seeded(), (struct put){ agent, layout, 1, i, time_us, 2, 4 });
        if (i % 3 == 0 && i < 12) {
            before = picture_of(store, agent, layout, 2);
            ck_assert_int_eq(store_seal(store), 0);
            check_same(before, picture_of(store, agent, layout, 2));
        }
    }
    before = picture_of(store, agent, layout, 2);
    ck_assert_uint_eq(before.n, 48 * 2);
    ck_assert_int_eq(store_compact(store), 0);
    check_same(before, picture_of(store, agent, layout, 2));
    ck_assert_uint_gt(stats_of(store).n_compacted, 0);
    store_close(store);
    store = open_store(0);
    check_same(before, picture_of(store, agent, layout, 2));
    store_close(store);
}
END_TEST

START_TEST(the_journal_behind_goes_and_counters_stay_exact)
{
    struct store *store = open_store(256 << 10);
    uint32_t agent = agent_of(store, "web-1"), layout = layout_of(store, 50);
    struct picture before;
    uint64_t sequence = 0;

    while (stats_of(store).n_segments < 6) {
        int64_t time_us = NOON_US + (int64_t) sequence * 10 * SECOND_US;

        put_odd_rows(store, seeded(),
                     (struct put){ agent, layout, 1, ++sequence, time_us, 50, 10 });
    }
    before = picture_of(store, agent, layout, 50);
    ck_assert_int_eq(store_seal(store), 0);
    ck_assert_uint_le(stats_of(store).n_segments, 2);
    check_same(before, picture_of(store, agent, layout, 50));
    for (int again = 0; again < 3; again++) {
        int64_t time_us = NOON_US + (int64_t) sequence * 10 * SECOND_US;
        uint64_t n_samples = facts_of(store, agent).n_samples;

        store_close(store);
        store = open_store(256 << 10);
        ck_assert_uint_eq(facts_of(store, agent).n_samples, n_samples);
        put_odd_rows(store, seeded(),
                     (struct put){ agent, layout, 1, ++sequence, time_us, 50, 10 });
        ck_assert_int_eq(store_seal(store), 0);
    }
    ck_assert_uint_eq(picture_of(store, agent, layout, 1).n, sequence * 10);
    store_close(store);
}
END_TEST

START_TEST(a_long_head_is_sealed_in_several_blocks)
{
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1"), layout = layout_of(store, 1);
    struct picture before;

    for (uint64_t i = 1; i <= 69; i++) {
        int64_t time_us = NOON_US + (int64_t) i * 1000000;
        struct put put = { agent, layout, 1, i, time_us - 900 * 1000000, 1, 1000 };

        ck_assert_int_eq(put_rows(store, put, NULL), STORE_OK);
    }
    before = picture_of(store, agent, layout, 1);
    ck_assert_uint_eq(before.n, 69000);
    ck_assert_int_eq(store_seal(store), 0);
    ck_assert_uint_ge(stats_of(store).n_sealed_blocks, 2);
    check_same(before, picture_of(store, agent, layout, 1));
    ck_assert_int_eq(store_compact(store), 0);
    check_same(before, picture_of(store, agent, layout, 1));
    store_close(store);
}
END_TEST

START_TEST(compaction_makes_few_blocks_of_many_and_the_file_small)
{
    struct store *store = open_store(0);
    uint32_t agents[20], layout = layout_of(store, 40);
    struct picture before[20];
    uint64_t n_bytes;

    for (size_t a = 0; a < 20; a++) {
        char id[16];

        snprintf(id, sizeof(id), "web-%zu", a);
        agents[a] = agent_of(store, id);
    }
    for (uint64_t i = 1; i <= 40; i++) {
        for (size_t a = 0; a < 20; a++) {
            struct put put = { agents[a], layout, 1, i, NOON_US + (int64_t) i * 30 * SECOND_US,
                               40,        30 };

            ck_assert_int_eq(put_rows(store, put, NULL), STORE_OK);
        }
        if (i % 2 == 0)
            ck_assert_int_eq(store_seal(store), 0);
    }
    for (size_t a = 0; a < 20; a++)
        before[a] = picture_of(store, agents[a], layout, 40);
    n_bytes = stats_of(store).day_bytes;
    ck_assert_int_eq(store_compact(store), 0);
    ck_assert_uint_lt(stats_of(store).day_bytes, n_bytes / 2);
    ck_assert_uint_ge(stats_of(store).n_compacted, 20);
    for (size_t a = 0; a < 20; a++)
        check_same(before[a], picture_of(store, agents[a], layout, 40));
    store_close(store);
    store = open_store(0);
    for (size_t a = 0; a < 20; a++)
        check_same(before[a], picture_of(store, agents[a], layout, 40));
    /* What is late goes into a day that was done. */
    put_odd_rows(store, seeded(), (struct put){ agents[3], layout, 1, 41, NOON_US, 40, 10 });
    before[3] = picture_of(store, agents[3], layout, 40);
    ck_assert_int_eq(store_compact(store), 0);
    check_same(before[3], picture_of(store, agents[3], layout, 40));
    store_close(store);
}
END_TEST

/* ---- readers beside ---- */

struct beside {
    struct store *store;
    uint32_t agent, layout;
    _Atomic uint64_t n_committed;
    atomic_bool is_over;
    _Atomic uint64_t n_scans;
};

struct counted {
    uint64_t n;
    int64_t last_us;
};

static bool count_rows(void *ctx, const struct store_piece *piece)
{
    struct counted *counted = ctx;

    for (size_t row = piece->first; row < piece->end; row++) {
        /* Each second once: no row twice, none missing. */
        ck_assert_int_eq(piece->times_us[row], counted->last_us + SECOND_US);
        counted->last_us = piece->times_us[row];
        counted->n++;
    }
    return true;
}

static void *scan_on(void *arg)
{
    struct beside *beside = arg;
    static const uint32_t column = 1;

    while (!atomic_load(&beside->is_over)) {
        uint64_t n_before = atomic_load(&beside->n_committed);
        struct counted counted = { .last_us = NOON_US - SECOND_US };
        struct store_scan scan = { .agent = beside->agent,
                                   .layout = beside->layout,
                                   .from_us = INT64_MIN,
                                   .to_us = INT64_MAX,
                                   .columns = &column,
                                   .n_columns = 1,
                                   .on_piece = count_rows,
                                   .ctx = &counted };

        ck_assert_int_eq(store_scan(beside->store, &scan), 0);
        ck_assert_uint_ge(counted.n, n_before);
        ck_assert_uint_eq(scan.ret_damaged, 0);
        atomic_fetch_add(&beside->n_scans, 1);
    }
    return NULL;
}

START_TEST(scans_beside_seals_and_compactions_see_each_row_once)
{
    struct store *store = open_store(64 << 10);
    struct beside beside = { .store = store,
                             .agent = agent_of(store, "web-1"),
                             .layout = layout_of(store, 4) };
    pthread_t threads[2];

    for (size_t i = 0; i < 2; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, scan_on, &beside), 0);
    for (uint64_t i = 0; i < 300 || atomic_load(&beside.n_scans) < 50; i++) {
        struct put put = {
            beside.agent, beside.layout, 1, i + 1, NOON_US + (int64_t) i * 20 * SECOND_US, 4, 20
        };

        if (put.time_us >= NOON_US + DAY_US / 3)
            break;
        ck_assert_int_eq(put_rows(store, put, NULL), STORE_OK);
        atomic_store(&beside.n_committed, (i + 1) * 20);
        if (i % 3 == 0)
            ck_assert_int_eq(store_seal(store), 0);
        if (i % 20 == 10)
            ck_assert_int_eq(store_compact(store), 0);
    }
    atomic_store(&beside.is_over, true);
    for (size_t i = 0; i < 2; i++)
        ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
    store_close(store);
}
END_TEST

/* ---- retention ---- */

static wall_us the_day_after(void)
{
    return (wall_us){ NOON_US + DAY_US };
}

START_TEST(days_older_than_the_retention_go_and_what_was_in_them_is_forgotten)
{
    struct store *store;
    uint32_t agent, gone, layout;
    struct arena arena;
    struct store_span *spans;
    size_t n;

    clock_set_source(the_day_after, NULL);
    store = open_store(0);
    agent = agent_of(store, "web-1");
    gone = agent_of(store, "web-2");
    layout = layout_of(store, 3);
    for (int day = 0; day < 4; day++) {
        int64_t time_us = NOON_US - day * DAY_US;
        uint64_t sequence = (uint64_t) day + 1;

        put_odd_rows(store, seeded(), (struct put){ agent, layout, 1, sequence, time_us, 3, 5 });
    }
    put_odd_rows(store, seeded(), (struct put){ gone, layout, 1, 1, NOON_US - 3 * DAY_US, 3, 5 });
    ck_assert_int_eq(store_seal(store), 0);
    ck_assert_uint_eq(stats_of(store).n_days, 4);
    store_set_retention(store, 2 * DAY_US + DAY_US / 4, 0);
    while (stats_of(store).n_days_gone == 0) {
        store_retain_now(store);
        usleep(1000);
    }
    ck_assert_uint_eq(stats_of(store).n_days, 2);
    for (int again = 0; again < 2; again++) {
        ck_assert_uint_eq(scan_column(store, agent, layout, 0)->n, 10);
        ck_assert_uint_eq(scan_column(store, gone, layout, 0)->n, 0);
        arena_init(&arena, 1 << 20);
        ck_assert_int_eq(store_spans(store, agent, &arena, &spans, &n), 0);
        ck_assert_uint_eq(n, 1);
        ck_assert_uint_eq(spans[0].n_rows, 10);
        ck_assert_int_eq(store_spans(store, gone, &arena, &spans, &n), 0);
        ck_assert(n == 0 || spans[0].n_rows == 0); /* rolled up, if it was */
        arena_deinit(&arena);
        store_close(store);
        store = open_store(0);
    }
    /* The size takes all but the newest. */
    store_set_retention(store, 0, 1);
    while (stats_of(store).n_days_gone == 0) {
        store_retain_now(store);
        usleep(1000);
    }
    ck_assert_uint_eq(stats_of(store).n_days, 1);
    store_close(store);
}
END_TEST

static uint32_t metric_ids(struct store *store, const char *metric)
{
    uint32_t id = 0;

    return store_definitions_of(store, metric, &id, 1) ? id : 0;
}

START_TEST(definitions_die_with_their_last_day_and_their_numbers_are_not_given_again)
{
    struct store *store = open_store(64 << 10);
    uint32_t agent = agent_of(store, "web-1"), wide = layout_of(store, 5),
             narrow = layout_of(store, 2);
    uint32_t last = metric_ids(store, "m00004");

    clock_set_source(the_day_after, NULL);
    ck_assert_uint_gt(last, 0);
    put_odd_rows(store, seeded(), (struct put){ agent, wide, 1, 1, NOON_US - 400 * DAY_US, 5, 9 });
    put_odd_rows(store, seeded(), (struct put){ agent, narrow, 1, 2, NOON_US, 2, 9 });
    ck_assert_int_eq(store_seal(store), 0);
    store_close(store);
    store = open_store(64 << 10);
    ck_assert_uint_eq(metric_ids(store, "m00004"), last);
    store_set_rollup_retention(store, 3 * DAY_US, 3 * DAY_US); /* windows would keep them */
    store_set_retention(store, 3 * DAY_US, 0);
    store_retain_now(store);
    while (stats_of(store).n_days_gone == 0)
        usleep(1000);
    store_close(store);
    store = open_store(64 << 10);
    ck_assert_uint_eq(metric_ids(store, "m00004"), 0);
    ck_assert_ptr_null(store_layout_get(store, wide));
    ck_assert_ptr_nonnull(store_layout_get(store, narrow));
    ck_assert_uint_eq(scan_column(store, agent, narrow, 1)->n, 9);
    ck_assert_uint_gt(layout_of(store, 5), wide > narrow ? wide : narrow);
    ck_assert_uint_gt(metric_ids(store, "m00004"), last);
    store_close(store);
    store_close(open_store(64 << 10));
}
END_TEST

/* ---- damage ---- */

static void day_path(char to[static 512], const char *file)
{
    DIR *dir;
    const struct dirent *entry;
    char path[300];

    snprintf(path, sizeof(path), "%s/default/metrics", store_path);
    dir = opendir(path);
    ck_assert_ptr_nonnull(dir);
    to[0] = 0;
    while ((entry = readdir(dir))) {
        if (strlen(entry->d_name) == 8)
            snprintf(to, 512, "%s/%.8s%s", path, entry->d_name, file);
    }
    closedir(dir);
    ck_assert(to[0]);
}

/* Turns a bit so far behind every place in the file that has these bytes. */
static void damage(const char *path, const char *what, size_t at_byte)
{
    struct stat st;
    uint8_t *data, *at, *end;
    int fd = open(path, O_RDWR), n = 0;

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(fstat(fd, &st), 0);
    data = mmap(NULL, (size_t) st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    ck_assert_ptr_ne(data, MAP_FAILED);
    end = data + st.st_size;
    for (at = data; (at = memmem(at, (size_t) (end - at), what, strlen(what))); at += 4, n++)
        at[at_byte] ^= 4;
    ck_assert_int_gt(n, 0);
    munmap(data, (size_t) st.st_size);
    close(fd);
}

START_TEST(a_damaged_block_is_passed_over_and_counted)
{
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1"), layout = layout_of(store, 3);
    const struct scanned *got;
    char path[512];

    put_odd_rows(store, seeded(), (struct put){ agent, layout, 1, 1, NOON_US, 3, 50 });
    ck_assert_int_eq(store_seal(store), 0);
    store_close(store);
    day_path(path, "/data.mdb");
    damage(path, "SNMB", 20);
    store = open_store(0);
    put_odd_rows(store, seeded(), (struct put){ agent, layout, 1, 2, NOON_US + DAY_US / 4, 3, 7 });
    ck_assert_int_eq(store_seal(store), 0);
    for (int again = 0; again < 2; again++) {
        got = scan_column(store, agent, layout, 0);
        ck_assert_uint_eq(got->n, 7);
        ck_assert_uint_eq(got->n_damaged, 50);
        ck_assert_int_eq(store_compact(store), 0);
    }
    store_close(store);
}
END_TEST

static size_t n_set_aside(void)
{
    char path[300];
    DIR *dir;
    const struct dirent *entry;
    size_t n = 0;

    snprintf(path, sizeof(path), "%s/default/metrics", store_path);
    dir = opendir(path);
    ck_assert_ptr_nonnull(dir);
    while ((entry = readdir(dir)))
        n += strstr(entry->d_name, ".damaged-") != NULL;
    closedir(dir);
    return n;
}

START_TEST(a_day_without_one_of_its_tables_is_set_aside_not_taken_for_a_beginning)
{
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1"), layout = layout_of(store, 3);
    char path[512];

    put_odd_rows(store, seeded(), (struct put){ agent, layout, 1, 1, NOON_US, 3, 50 });
    ck_assert_int_eq(store_seal(store), 0);
    store_close(store);
    day_path(path, "/data.mdb");
    damage(path, "agents", 2);
    store = open_store(0);
    ck_assert_uint_eq(n_set_aside(), 1);
    ck_assert_uint_eq(scan_column(store, agent, layout, 0)->n, 50); /* the journal has them */
    store_close(store);
}
END_TEST

START_TEST(a_day_that_is_no_database_is_set_aside_and_the_rest_serves)
{
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1"), layout = layout_of(store, 3);
    char path[512];
    int fd;

    put_odd_rows(store, seeded(), (struct put){ agent, layout, 1, 1, NOON_US, 3, 50 });
    ck_assert_int_eq(store_seal(store), 0);
    store_close(store);
    day_path(path, "/data.mdb");
    fd = open(path, O_RDWR);
    ck_assert_int_ge(fd, 0);
    for (int i = 0; i < 1024; i++)
        ck_assert_int_eq(write(fd, "damaged!", 8), 8);
    close(fd);
    store = open_store(0);
    ck_assert_uint_eq(n_set_aside(), 1);
    put_odd_rows(store, seeded(), (struct put){ agent, layout, 1, 2, NOON_US, 3, 7 });
    ck_assert_int_eq(store_seal(store), 0);
    store_close(store);
    store = open_store(0);
    ck_assert_uint_ge(scan_column(store, agent, layout, 0)->n, 7);
    store_close(store);
}
END_TEST

/* ---- kills ---- */

#ifdef SENTINEL_FAULT_POINTS
static const char *const points[] = {
    "day_before_beginning",   "seal_before_commit",       "seal_after_commit",
    "seal_after_show",        "checkpoint_before_unlink", "checkpoint_after_unlink",
    "compact_before_commit",  "compact_after_commit",     "rewrite_before_exchange",
    "rewrite_after_exchange", "retention_before_unlink",  "retention_after_unlink",
    "journal_rotate_before",  "journal_rotate_after",
};

struct shared {
    _Atomic uint64_t n_acked;
};

#define KILL_ROWS 20

/* Goes on from what the store has; two days, and one that the retention takes. */
static void put_seal_compact(void *ctx)
{
    struct shared *shared = ctx;
    struct store *store;
    uint32_t agent, old, layout;
    uint8_t spool[STORE_SPOOL_BYTES] = { 1 };
    struct store_run run = { 0 };
    uint64_t next;

    clock_set_source(the_day_after, NULL);
    store = open_store(64 << 10);
    store_set_retention(store, 10 * DAY_US, 0);
    agent = agent_of(store, "web-1");
    old = agent_of(store, "old");
    layout = layout_of(store, 8);

    (void) !store_run_get(store, agent, STORE_METRICS, spool, &run);
    next = run.last_sequence + 1;
    for (uint64_t i = next; i < next + 40; i++) {
        struct put put = { agent, layout,   1, i, NOON_US + (int64_t) i * KILL_ROWS * SECOND_US,
                           8,     KILL_ROWS };
        struct put put_old = put;

        put_old.agent = old;
        put_old.time_us = NOON_US - 30 * DAY_US + (int64_t) i * KILL_ROWS * SECOND_US;
        ck_assert_int_eq(put_rows(store, put, NULL), STORE_OK);
        atomic_store(&shared->n_acked, i);
        (void) !put_rows(store, put_old, NULL);
        if (i % 7 == 0)
            ck_assert_int_eq(store_seal(store), 0);
        if (i % 19 == 0)
            ck_assert_int_eq(store_compact(store), 0);
        if (i % 25 == 0)
            store_retain_now(store);
    }
    ck_assert_int_eq(store_compact(store), 0);
    store_close(store);
}

static void check_all(const struct shared *shared)
{
    struct store *store = open_store(64 << 10);
    uint32_t agent = agent_of(store, "web-1"), layout = layout_of(store, 8);
    const struct scanned *got = scan_column(store, agent, layout, 7);
    uint8_t spool[STORE_SPOOL_BYTES] = { 1 };
    struct store_run run = { 0 };

    (void) !store_run_get(store, agent, STORE_METRICS, spool, &run);
    ck_assert_uint_ge(run.last_sequence, atomic_load(&shared->n_acked));
    ck_assert_uint_eq(got->n, run.last_sequence * KILL_ROWS);
    ck_assert_uint_eq(got->n_damaged, 0);
    for (size_t i = 0; i < got->n; i++) {
        ck_assert_int_eq(got->rows[i].time_us, NOON_US + (int64_t) (i + KILL_ROWS) * SECOND_US);
        ck_assert_uint_eq(got->rows[i].bits, bits_of((double) (i % KILL_ROWS) * 1000 + 7));
    }
    ck_assert_uint_eq(facts_of(store, agent).n_samples, run.last_sequence * KILL_ROWS * 8);
    store_close(store);
}

START_TEST(a_kill_at_any_point_of_seal_checkpoint_compaction_and_retention_loses_nothing)
{
    struct shared *shared =
        mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int n_killed = 0;

    ck_assert_ptr_ne(shared, MAP_FAILED);
    for (int n = 1; n <= 4; n++) {
        char fault[64];
        int status;

        snprintf(fault, sizeof(fault), "%s:%d", points[_i], n);
        setenv("SENTINEL_FAULT", fault, 1);
        status = in_child(put_seal_compact, shared);
        unsetenv("SENTINEL_FAULT");
        ck_assert((WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) || WEXITSTATUS(status) == 0);
        n_killed += WIFSIGNALED(status);
        check_all(shared);
    }
    ck_assert_int_gt(n_killed, 0);
    munmap(shared, sizeof(*shared));
}
END_TEST
#endif

TCase *case_seal(void)
{
    TCase *tcase = tcase_create("seal");

    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, make_database, remove_database);
    tcase_add_test(tcase, sealed_rows_come_back_as_they_were_also_after_a_reopen);
    tcase_add_test(tcase, rows_of_several_days_and_layouts_go_each_to_its_day);
    tcase_add_test(tcase, what_is_late_or_has_an_equal_time_comes_in_the_order_of_commit);
    tcase_add_test(tcase, the_journal_behind_goes_and_counters_stay_exact);
    tcase_add_test(tcase, a_long_head_is_sealed_in_several_blocks);
    tcase_add_test(tcase, compaction_makes_few_blocks_of_many_and_the_file_small);
    tcase_add_test(tcase, scans_beside_seals_and_compactions_see_each_row_once);
    tcase_add_test(tcase, days_older_than_the_retention_go_and_what_was_in_them_is_forgotten);
    tcase_add_test(tcase,
                   definitions_die_with_their_last_day_and_their_numbers_are_not_given_again);
    tcase_add_test(tcase, a_damaged_block_is_passed_over_and_counted);
    tcase_add_test(tcase, a_day_without_one_of_its_tables_is_set_aside_not_taken_for_a_beginning);
    tcase_add_test(tcase, a_day_that_is_no_database_is_set_aside_and_the_rest_serves);
#ifdef SENTINEL_FAULT_POINTS
    tcase_add_loop_test(
        tcase, a_kill_at_any_point_of_seal_checkpoint_compaction_and_retention_loses_nothing, 0,
        sizeof(points) / sizeof(points[0]));
#endif
    return tcase;
}
