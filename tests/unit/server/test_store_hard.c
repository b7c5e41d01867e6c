/* SPDX-License-Identifier: Apache-2.0 */

/* No room in a day, readers that take long: what is taken goes on, files do not grow. */

#include "test_store.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
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

TCase *case_hard(void)
{
    TCase *tcase = tcase_create("hard");

    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, make_database, remove_database);
    tcase_add_test(tcase, a_day_at_its_limit_is_named_and_a_higher_limit_is_the_remedy);
    tcase_add_test(tcase, a_compaction_without_room_passes_over_the_day_and_nothing_stops);
    return tcase;
}
