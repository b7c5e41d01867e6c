/* SPDX-License-Identifier: Apache-2.0 */

/* No room in a day, readers that take long: what is taken goes on, files do not grow. */

#include "test_store.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/base/rand.h"
#include "common/log/log.h"
#include "server/store/whole.h"

#define SECOND_US INT64_C(1000000)
#define NOON_US (INT64_C(1790000000) / 86400 * DAY_US + DAY_US / 2)
#define COLUMNS 32u
#define ROWS 64u

/* A batch of noise, ROWS rows a second apart. */
static int
put_noise(struct store *store, uint32_t agent, uint32_t layout, uint64_t sequence, int64_t time_us)
{
    static struct rand rand;
    static bool is_seeded;
    struct store_batch *batch = NULL;
    double values[COLUMNS];

    if (!is_seeded)
        rand_init(&rand, 4711);
    is_seeded = true;
    ck_assert_int_eq(store_batch_new(&batch, ROWS * store_row_bytes(COLUMNS, 0)), 0);
    batch->agent = agent;
    batch->signal = STORE_METRICS;
    batch->sequence = sequence;
    for (uint32_t i = 0; i < ROWS; i++) {
        struct store_row row = { time_us + i * SECOND_US, layout, COLUMNS, values, NULL, 0 };

        for (uint32_t c = 0; c < COLUMNS; c++) {
            uint64_t bits = rand_u64(&rand) >> 2;

            memcpy(&values[c], &bits, sizeof(bits));
        }
        store_batch_add(batch, &row, NULL);
    }
    return put_batch(store, batch, NULL);
}

static struct store *open_with(uint64_t day_bytes)
{
    struct store_options options = store_settings(0);
    struct store *store = NULL;
    struct store_why why;

    options.day_bytes = day_bytes;
    ck_assert_int_eq(store_open(&store, &options, &why), 0);
    return store;
}

static struct store_stats stats_of(struct store *store)
{
    struct store_stats stats;

    store_get_stats(store, &stats);
    ck_assert(!stats.has_failed);
    return stats;
}

/* ---- the log, in a file ---- */

static void log_to(const char *path)
{
    struct log_options options = { .level = LOG_INFO,
                                   .fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600) };

    ck_assert_int_ge(options.fd, 0);
    log_init(&options);
}

static bool log_has(const char *path, const char *event, const char *words)
{
    FILE *file = fopen(path, "r");
    char line[2000];
    bool has = false;

    ck_assert_ptr_nonnull(file);
    while (!has && fgets(line, sizeof(line), file))
        has = strstr(line, event) && strstr(line, words);
    fclose(file);
    return has;
}

START_TEST(a_day_at_its_limit_is_named_and_a_higher_limit_is_the_remedy)
{
    struct store *store = open_with(1 << 20);
    uint32_t agent = agent_of(store, "web-1"), layout = layout_of(store, COLUMNS);
    uint64_t n = 0;
    char path[300];
    int r = 0;

    snprintf(path, sizeof(path), "%s/log", store_path);
    log_to(path);
    while (r == 0 && n < 200) {
        n++;
        ck_assert_int_eq(put_noise(store, agent, layout, n, NOON_US + (int64_t) n * 64 * SECOND_US),
                         STORE_OK);
        r = store_seal(store);
    }
    ck_assert_int_eq(r, STORE_FULL);
    while (!stats_of(store).is_full)
        usleep(1000);
    ck_assert_int_eq(put_noise(store, agent, layout, n + 1, NOON_US), STORE_FULL);
    ck_assert_uint_eq(scan_column(store, agent, layout, 3)->n, n * ROWS);
    ck_assert(log_has(path, "event=seal_has_no_room", "store.day_size"));
    ck_assert(log_has(path, "event=seal_has_no_room", "/metrics/2"));
    store_close(store);

    store = open_with(4 << 20);
    ck_assert_int_eq(store_seal(store), 0);
    ck_assert_int_eq(put_noise(store, agent, layout, n + 1, NOON_US), STORE_OK);
    ck_assert_int_eq(store_seal(store), 0);
    ck_assert_uint_eq(scan_column(store, agent, layout, 3)->n, (n + 1) * ROWS);
    store_close(store);
}
END_TEST

START_TEST(a_compaction_without_room_passes_over_the_day_and_nothing_stops)
{
    struct store *store = open_with(1 << 20);
    uint32_t agent = agent_of(store, "web-1"), layout = layout_of(store, COLUMNS);
    char path[300];

    snprintf(path, sizeof(path), "%s/log", store_path);
    log_to(path);
    /* Two thirds of the day: what stands for them finds no room beside them. */
    for (uint64_t n = 1; n <= 42; n++) {
        ck_assert_int_eq(put_noise(store, agent, layout, n, NOON_US + (int64_t) n * 64 * SECOND_US),
                         STORE_OK);
        ck_assert_int_eq(store_seal(store), 0);
    }
    ck_assert_int_eq(store_compact(store), STORE_FULL);
    ck_assert(log_has(path, "event=compaction_has_no_room", "/metrics/2"));
    ck_assert(!stats_of(store).is_full);
    ck_assert_int_eq(put_noise(store, agent, layout, 43, NOON_US + DAY_US), STORE_OK);
    ck_assert_int_eq(store_seal(store), 0);
    ck_assert_uint_eq(scan_column(store, agent, layout, 3)->n, 43 * ROWS);
    store_close(store);
    store = open_with(4 << 20);
    ck_assert_int_eq(store_compact(store), 0);
    ck_assert_uint_eq(scan_column(store, agent, layout, 3)->n, 43 * ROWS);
    store_close(store);
}
END_TEST

/* Files can be written up to here, and no farther. */
static void limit_files(rlim_t n_bytes)
{
    struct rlimit limit;

    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = n_bytes;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

START_TEST(retention_without_room_says_so_and_is_tried_until_there_is_some)
{
    struct store *store = open_with(0);
    uint32_t agent = agent_of(store, "web-1"), layout = layout_of(store, COLUMNS);
    char path[300];

    snprintf(path, sizeof(path), "%s/log", store_path);
    log_to(path);
    for (uint64_t n = 1; n <= 3; n++)
        ck_assert_int_eq(put_noise(store, agent, layout, n, NOON_US + (int64_t) n * DAY_US),
                         STORE_OK);
    ck_assert_int_eq(store_compact(store), 0);
    signal(SIGXFSZ, SIG_IGN);
    limit_files(16 << 10); /* the log, and not `state` */
    store_set_retention(store, 0, 1);
    store_retain_now(store);
    while (!log_has(path, "event=retention_has_no_room", store_path))
        usleep(1000);
    ck_assert_uint_eq(stats_of(store).n_days, 3);
    limit_files(RLIM_INFINITY);
    while (!log_has(path, "event=retention_has_room_again", ""))
        usleep(1000);
    ck_assert_uint_eq(stats_of(store).n_days, 1);
    ck_assert_uint_eq(scan_column(store, agent, layout, 3)->n, ROWS);
    store_close(store);
}
END_TEST

/* ---- a reader that takes long ---- */

struct slow {
    struct store *store;
    uint32_t agent, layout;
    _Atomic bool has_begun, may_go_on;
    size_t n_rows;
};

static bool on_slow_piece(void *ctx, const struct store_piece *piece)
{
    struct slow *slow = ctx;

    slow->n_rows += piece->end - piece->first;
    atomic_store(&slow->has_begun, true);
    while (!atomic_load(&slow->may_go_on))
        usleep(1000);
    return true;
}

static void *scan_slowly(void *arg)
{
    static const uint32_t columns[] = { 0, 5, 31 };
    struct slow *slow = arg;
    struct store_scan scan = { .agent = slow->agent,
                               .layout = slow->layout,
                               .from_us = 0,
                               .to_us = INT64_MAX,
                               .columns = columns,
                               .n_columns = 3,
                               .on_piece = on_slow_piece,
                               .ctx = slow };

    ck_assert_int_eq(store_scan(slow->store, &scan), 0);
    ck_assert_uint_eq(scan.ret_damaged, 0);
    return NULL;
}

/* Bytes of days and journal after much was written and sealed, in a run of its own. */
struct grown {
    uint64_t day_bytes, journal_bytes, n_segments;
    uint64_t compacted_bytes; /* of days, when the reader is through */
};

static struct grown write_beside_a_reader(bool is_reading, bool is_sealed)
{
    struct store_options options = store_settings(256 << 10);
    struct store *store = NULL;
    struct store_why why;
    struct slow slow = { 0 };
    struct store_stats stats;
    struct grown grown;
    pthread_t thread;

    options.journal_bytes = 1 << 20;
    ck_assert_int_eq(store_open(&store, &options, &why), 0);
    slow.store = store;
    slow.agent = agent_of(store, "slow");
    slow.layout = layout_of(store, COLUMNS);
    for (uint64_t n = 1; n <= 5; n++)
        ck_assert_int_eq(
            put_noise(store, slow.agent, slow.layout, n, NOON_US + (int64_t) n * DAY_US / 10),
            STORE_OK);
    if (is_sealed)
        ck_assert_int_eq(store_seal(store), 0);
    if (is_reading) {
        ck_assert_int_eq(pthread_create(&thread, NULL, scan_slowly, &slow), 0);
        while (!atomic_load(&slow.has_begun))
            usleep(1000);
    }
    for (uint64_t n = 1; n <= 240; n++) {
        uint32_t agent = agent_of(store, "busy");

        ck_assert_int_eq(
            put_noise(store, agent, slow.layout, n, NOON_US + (int64_t) n * 64 * SECOND_US),
            STORE_OK);
        ck_assert_int_eq(store_seal(store), 0);
    }
    stats = stats_of(store);
    if (is_reading) {
        atomic_store(&slow.may_go_on, true);
        pthread_join(thread, NULL);
        ck_assert_uint_eq(slow.n_rows, 5 * ROWS);
    }
    grown = (struct grown){ stats.day_bytes, stats.journal_bytes, stats.n_segments, 0 };
    ck_assert_int_eq(store_compact(store), 0);
    grown.compacted_bytes = stats_of(store).day_bytes;
    store_close(store);
    remove_database();
    make_database();
    return grown;
}

START_TEST(files_do_not_grow_under_a_reader_that_takes_long)
{
    bool is_sealed = _i == 0;
    struct grown alone = write_beside_a_reader(false, is_sealed);
    struct grown beside = write_beside_a_reader(true, is_sealed);

    ck_assert_uint_le(beside.day_bytes, alone.day_bytes + alone.day_bytes / 8);
    ck_assert_uint_le(beside.compacted_bytes, alone.compacted_bytes + alone.compacted_bytes / 8);
    ck_assert_uint_le(beside.n_segments, alone.n_segments + 1);
    ck_assert_uint_le(beside.journal_bytes, alone.journal_bytes + (512 << 10));
}
END_TEST

TCase *case_hard(void)
{
    TCase *tcase = tcase_create("hard");

    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, make_database, remove_database);
    tcase_add_test(tcase, a_day_at_its_limit_is_named_and_a_higher_limit_is_the_remedy);
    tcase_add_test(tcase, retention_without_room_says_so_and_is_tried_until_there_is_some);
    tcase_add_test(tcase, a_compaction_without_room_passes_over_the_day_and_nothing_stops);
    tcase_add_loop_test(tcase, files_do_not_grow_under_a_reader_that_takes_long, 0, 2);
    return tcase;
}
