/* SPDX-License-Identifier: Apache-2.0 */

/* Killed, full, damaged: what is on disk stays what was acknowledged. */

#include "test_store.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/fault.h"

/* What a child tells its parent, also when it is killed. */
struct shared {
    _Atomic uint64_t acked[3]; /* last sequence of each spool */
};

static struct shared *share(void)
{
    void *memory = mmap(NULL, sizeof(struct shared), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    ck_assert_ptr_ne(memory, MAP_FAILED);
    return memory;
}

static void on_acked(struct store_batch *batch, int r, uint64_t run_last)
{
    struct shared *shared = batch->ctx;

    ck_assert_uint_ge(run_last, batch->sequence);
    if (r == STORE_OK)
        atomic_store(&shared->acked[batch->spool[0]], run_last);
    store_batch_free(batch);
}

/* Submits without waiting, from sequence 1 on or from what the hub has; is_waiting: for the
 * answers. */
static void pump(struct store *store, struct shared *shared, uint64_t n, bool is_waiting)
{
    uint32_t agent = agent_of(store, "web-1"), layout = layout_of(store, 10);
    uint64_t next[3] = { 1, 1, 1 };

    for (uint8_t spool = 0; spool < 3; spool++) {
        uint8_t id[STORE_SPOOL_BYTES] = { spool };
        struct store_run run;

        if (store_run_get(store, agent, STORE_METRICS, id, &run) == 0)
            next[spool] = run.last_sequence + 1;
    }
    for (uint64_t i = 0; i < n; i++) {
        static const double values[10] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 };
        uint8_t spool = i % 3;
        struct store_row row = { (int64_t) (next[spool] * 3 + spool), layout, 10, values, NULL, 0 };
        struct store_batch *batch = NULL;

        ck_assert_int_eq(store_batch_new(&batch, store_row_bytes(10, 0)), 0);
        batch->agent = agent;
        batch->signal = STORE_METRICS;
        batch->spool[0] = spool;
        batch->sequence = next[spool]++;
        batch->done = on_acked;
        batch->ctx = shared;
        store_batch_add(batch, &row, NULL);
        while (store_submit(store, batch) == STORE_BUSY)
            usleep(100);
    }
    for (uint8_t spool = 0; spool < 3 && is_waiting; spool++) {
        while (atomic_load(&shared->acked[spool]) < next[spool] - 1)
            usleep(100);
    }
}

/* Every batch up to the last sequence is there once, nothing else is, and the counters say the
 * same. */
static void check_runs(const struct shared *shared)
{
    struct store *store = open_store(256 << 10);
    uint32_t agent = agent_of(store, "web-1"), layout = layout_of(store, 10);
    const struct scanned *got = scan_column(store, agent, layout, 9);
    uint64_t n_batches = 0, seen[3] = { 0 };

    for (size_t i = 0; i < got->n; i++) {
        uint64_t spool = (uint64_t) got->rows[i].time_us % 3;

        ck_assert_uint_eq((uint64_t) got->rows[i].time_us / 3, ++seen[spool]);
        ck_assert_uint_eq(got->rows[i].bits, bits_of(10));
    }
    for (uint8_t spool = 0; spool < 3; spool++) {
        uint8_t id[STORE_SPOOL_BYTES] = { spool };
        struct store_run run = { 0 };

        (void) !store_run_get(store, agent, STORE_METRICS, id, &run);
        ck_assert_uint_ge(run.last_sequence, atomic_load(&shared->acked[spool]));
        ck_assert_uint_eq(run.last_sequence, seen[spool]);
        n_batches += run.last_sequence;
    }
    ck_assert_uint_eq(got->n, n_batches);
    ck_assert_uint_eq(facts_of(store, agent).n_samples, n_batches * 10);
    if (n_batches)
        ck_assert_int_eq(facts_of(store, agent).last_sample.us, got->rows[got->n - 1].time_us);
    store_close(store);
}

static void pump_and_close(void *ctx)
{
    struct store *store = open_store(256 << 10);

    pump(store, ctx, 300, false);
    store_close(store);
}

/* Some are acknowledged, however slow the machine; the kill comes in the midst of the others. */
static void pump_and_die(void *ctx)
{
    struct store *store = open_store(256 << 10);

    pump(store, ctx, 30, true);
    pump(store, ctx, 5000, false);
    raise(SIGKILL);
}

START_TEST(what_was_acknowledged_survives_a_kill_and_counters_are_exact)
{
    struct shared *shared = share();

    for (int i = 0; i < 3; i++) {
        ck_assert(WIFEXITED(in_child(pump_and_close, shared)));
        check_runs(shared);
        ck_assert_int_eq(WTERMSIG(in_child(pump_and_die, shared)), SIGKILL);
        check_runs(shared);
    }
    ck_assert_uint_gt(atomic_load(&shared->acked[0]), 300);
}
END_TEST

#ifdef SENTINEL_FAULT_POINTS
static const char *const points[] = {
    "journal_queued",        "journal_before_commit", "journal_after_commit", "journal_before_done",
    "journal_rotate_before", "journal_rotate_after",  "state_before_commit",  "state_after_commit",
};

static void pump_to_the_point(void *ctx)
{
    struct store *store = open_store(64 << 10); /* each group rotates */

    for (int i = 0; i < 20; i++)
        pump(store, ctx, 900, true);
    store_close(store);
}

START_TEST(a_kill_at_any_point_loses_nothing_acknowledged)
{
    struct shared *shared = share();

    ck_assert(WIFEXITED(in_child(pump_and_close, shared)));
    for (int n = 1; n <= 3; n++) {
        char fault[64];
        int status;

        snprintf(fault, sizeof(fault), "%s:%d", points[_i], n);
        setenv("SENTINEL_FAULT", fault, 1);
        status = in_child(pump_to_the_point, shared);
        unsetenv("SENTINEL_FAULT");
        /* The state is committed only once more: at the close. */
        ck_assert((WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) ||
                  (n > 1 && fault[0] == 's'));
        check_runs(shared);
    }
}
END_TEST
#endif

/* ---- damage ---- */

static void journal_file(char to[static 512], int segment)
{
    snprintf(to, 512, "%s/default/journal/%08d/data.mdb", store_path, segment);
}

/* Turns a bit of the first place in the file that holds these 8 bytes. */
static void turn_bit_at(const char *path, uint64_t bits)
{
    int fd = open(path, O_RDWR);
    struct stat st;
    uint8_t *data, *at;

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(fstat(fd, &st), 0);
    data = mmap(NULL, (size_t) st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    ck_assert_ptr_ne(data, MAP_FAILED);
    at = memmem(data, (size_t) st.st_size, &bits, sizeof(bits));
    ck_assert_ptr_nonnull(at);
    at[3] ^= 0x10;
    munmap(data, (size_t) st.st_size);
    close(fd);
}

/* Three batches, each a chunk of its own; the value 123456.75 is in the second only. */
static void put_three(struct store *store, uint32_t *ret_agent, uint32_t *ret_layout)
{
    *ret_agent = agent_of(store, "web-1");
    *ret_layout = layout_of(store, 1000);
    for (uint64_t i = 1; i <= 3; i++) {
        double values[1000] = { 0 };
        struct store_batch *batch = NULL;

        values[500] = i == 2 ? 123456.75 : 1.5;
        ck_assert_int_eq(store_batch_new(&batch, 2 * store_row_bytes(1000, 0)), 0);
        batch->agent = *ret_agent;
        batch->signal = STORE_METRICS;
        batch->sequence = i;
        for (int k = 0; k < 2; k++) {
            struct store_row row = { (int64_t) i * 10 + k, *ret_layout, 1000, values, NULL, 0 };

            store_batch_add(batch, &row, NULL);
            values[500] = 2.5;
        }
        ck_assert_int_eq(put_batch(store, batch, NULL), STORE_OK);
    }
}

START_TEST(a_damaged_chunk_is_passed_over_and_counted_at_the_start)
{
    struct store *store = open_store(0);
    struct store_stats stats;
    char path[512];
    uint32_t agent, layout;

    put_three(store, &agent, &layout);
    store_close(store);
    journal_file(path, 1);
    turn_bit_at(path, bits_of(123456.75));
    store = open_store(0);
    store_get_stats(store, &stats);
    ck_assert_uint_eq(stats.n_damaged, 1);
    ck_assert_uint_eq(scan_column(store, agent, layout, 500)->n, 4);
    ck_assert_int_eq(put_rows(store, (struct put){ agent, layout, 0, 3, 0, 1000, 1 }, NULL),
                     STORE_DUPLICATE);
    ck_assert_int_eq(put_rows(store, (struct put){ agent, layout, 0, 4, 0, 1000, 1 }, NULL),
                     STORE_OK);
    store_close(store);
}
END_TEST

START_TEST(a_row_damaged_since_the_start_is_passed_over_and_counted_by_the_scan)
{
    struct store *store = open_store(0);
    const struct scanned *got;
    char path[512];
    uint32_t agent, layout;

    put_three(store, &agent, &layout);
    journal_file(path, 1);
    turn_bit_at(path, bits_of(123456.75));
    got = scan_column(store, agent, layout, 500);
    ck_assert_uint_eq(got->n, 5);
    ck_assert_uint_eq(got->n_damaged, 1);
    store_close(store);
}
END_TEST

START_TEST(a_segment_that_is_no_database_leaves_the_others_served)
{
    struct store *store = open_store(128 << 10);
    uint32_t agent = agent_of(store, "web-1"), layout = layout_of(store, 100);
    struct store_stats stats = { 0 };
    char path[512];
    uint64_t sequence = 0;
    size_t n;
    int fd;

    while (stats.n_segments < 3) {
        int64_t time_us = (int64_t) ++sequence * 100000000;
        struct put put = { agent, layout, 1, sequence, time_us, 100, 20 };

        ck_assert_int_eq(put_rows(store, put, NULL), STORE_OK);
        store_get_stats(store, &stats);
    }
    n = scan_column(store, agent, layout, 0)->n;
    store_close(store);
    journal_file(path, 2);
    fd = open(path, O_RDWR);
    ck_assert_int_ge(fd, 0);
    for (int i = 0; i < 1024; i++)
        ck_assert_int_eq(write(fd, "damaged!", 8), 8);
    close(fd);
    store = open_store(128 << 10);
    ck_assert_uint_lt(scan_column(store, agent, layout, 0)->n, n);
    ck_assert_uint_gt(scan_column(store, agent, layout, 0)->n, 0);
    /* The newest segment's snapshot still knows the run. */
    ck_assert_int_eq(put_rows(store, (struct put){ agent, layout, 1, sequence, 0, 100, 1 }, NULL),
                     STORE_DUPLICATE);
    store_close(store);
}
END_TEST

START_TEST(a_rotation_cut_short_is_begun_anew)
{
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1"), layout = layout_of(store, 2);
    char path[512];

    ck_assert_int_eq(put_rows(store, (struct put){ agent, layout, 1, 1, 0, 2, 1 }, NULL), STORE_OK);
    store_close(store);
    snprintf(path, sizeof(path), "%s/default/journal/00000002", store_path);
    ck_assert_int_eq(mkdir(path, 0700), 0);
    store = open_store(0);
    ck_assert_int_eq(put_rows(store, (struct put){ agent, layout, 1, 1, 0, 2, 1 }, NULL),
                     STORE_DUPLICATE);
    ck_assert_int_eq(put_rows(store, (struct put){ agent, layout, 1, 2, 1, 2, 1 }, NULL), STORE_OK);
    store_close(store);
    store = open_store(0);
    ck_assert_uint_eq(scan_column(store, agent, layout, 0)->n, 2);
    store_close(store);
}
END_TEST

START_TEST(numbers_go_on_above_those_that_damage_hides)
{
    struct shared *shared = share();
    uint8_t spool[STORE_SPOOL_BYTES] = { 0 };
    struct store *store;
    char path[512];
    uint64_t n_samples;
    int fd;

    ck_assert(WIFEXITED(in_child(pump_and_close, shared)));
    journal_file(path, 1);
    fd = open(path, O_RDWR);
    ck_assert_int_ge(fd, 0);
    for (int i = 0; i < 1024; i++)
        ck_assert_int_eq(write(fd, "damaged!", 8), 8);
    close(fd);
    store = open_store(0);
    n_samples = facts_of(store, agent_of(store, "web-1")).n_samples;
    ck_assert_uint_eq(n_samples, 3000);
    /* The runs went with the segment: each agent begins where it is. */
    for (spool[0] = 0; spool[0] < 3; spool[0]++)
        ck_assert_int_eq(store_run_begin(store, agent_of(store, "web-1"), STORE_METRICS, spool,
                                         atomic_load(&shared->acked[spool[0]]) + 1, 0),
                         0);
    store_close(store);
    /* Were a number used twice, what comes now would not be counted by the start after. */
    ck_assert_int_eq(WTERMSIG(in_child(pump_and_die, shared)), SIGKILL);
    store = open_store(0);
    for (spool[0] = 0; spool[0] < 3; spool[0]++) {
        struct store_run run = { 0 };

        ck_assert_int_eq(store_run_get(store, agent_of(store, "web-1"), STORE_METRICS, spool, &run),
                         0);
        n_samples += 10 * (run.last_sequence - 100);
    }
    ck_assert_uint_gt(n_samples, 3000);
    ck_assert_uint_eq(facts_of(store, agent_of(store, "web-1")).n_samples, n_samples);
    store_close(store);
}
END_TEST

/* ---- many segments ---- */

START_TEST(hundreds_of_segments_are_served_with_few_descriptors)
{
    struct store *store = open_store(1); /* each group rotates */
    uint32_t agent = agent_of(store, "web-1"), layout = layout_of(store, 2);
    struct rlimit limit;
    struct store_stats stats;
    int fd;

    for (uint64_t i = 1; i <= 150; i++) {
        struct put put = { agent, layout, 1, i, (int64_t) i * 100, 2, 1 };

        ck_assert_int_eq(put_rows(store, put, NULL), STORE_OK);
    }
    store_close(store);
    fd = dup(STDERR_FILENO);
    close(fd);
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = (rlim_t) fd + 24;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    store = open_store(1);
    store_get_stats(store, &stats);
    ck_assert_uint_ge(stats.n_segments, 150);
    ck_assert_uint_eq(scan_column(store, agent, layout, 0)->n, 150);
    for (uint64_t i = 151; i <= 160; i++) {
        struct put put = { agent, layout, 1, i, (int64_t) i * 100, 2, 1 };

        ck_assert_int_eq(put_rows(store, put, NULL), STORE_OK);
    }
    ck_assert_uint_eq(scan_column(store, agent, layout, 0)->n, 160);
    ck_assert_uint_eq(scan_column(store, agent, layout, 0)->n_damaged, 0);
    store_close(store);
}
END_TEST

/* ---- full ---- */

static _Atomic int64_t fake_us = 1000000000;
static _Atomic int n_full, n_not_full;

static mono_us fake_clock(void)
{
    return (mono_us){ atomic_load(&fake_us) };
}

static void on_full(void *ctx, bool is_full)
{
    (void) ctx;
    atomic_fetch_add(is_full ? &n_full : &n_not_full, 1);
}

static bool is_full(struct store *store)
{
    struct store_stats stats;

    store_get_stats(store, &stats);
    ck_assert(!stats.has_failed);
    return stats.is_full;
}

static struct store *open_with_fake_clock(uint32_t full_percent)
{
    struct store_options options = store_settings(0);
    struct store *store = NULL;
    struct store_why why;

    clock_set_source(NULL, fake_clock);
    options.on_full = on_full;
    options.full_percent = full_percent;
    ck_assert_int_eq(store_open(&store, &options, &why), 0);
    return store;
}

START_TEST(a_full_disk_is_said_keeps_what_was_there_and_ends_by_itself)
{
    struct store *store = open_with_fake_clock(100);
    uint32_t agent = agent_of(store, "web-1"), layout = layout_of(store, 1000);
    struct rlimit limit, small;
    struct stat st;
    char path[512];
    uint64_t sequence = 0, last = 0;
    int r;

    /* A limit on the size of a file answers a write as a full disk does: short first, then not at
     * all. */
    signal(SIGXFSZ, SIG_IGN);
    journal_file(path, 1);
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    small = limit;
    small.rlim_cur = (rlim_t) st.st_size + 300000;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
    do {
        int64_t time_us = (int64_t) ++sequence * 100;
        struct put put = { agent, layout, 1, sequence, time_us, 1000, 5 };

        r = put_rows(store, put, &last);
    } while (r == STORE_OK && sequence < 100);
    ck_assert_int_eq(r, STORE_FULL);
    ck_assert_uint_gt(sequence, 3);
    ck_assert_uint_eq(last, sequence - 1);
    ck_assert(is_full(store));
    ck_assert_int_eq(atomic_load(&n_full), 1);
    ck_assert_int_eq(put_rows(store, (struct put){ agent, layout, 1, sequence, 0, 1000, 5 }, NULL),
                     STORE_FULL);
    ck_assert_uint_eq(scan_column(store, agent, layout, 0)->n, (sequence - 1) * 5);

    /* Nothing is submitted, and it ends. */
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    while (is_full(store))
        usleep(10000);
    ck_assert_int_eq(put_rows(store, (struct put){ agent, layout, 1, sequence, 0, 1000, 5 }, &last),
                     STORE_OK);
    ck_assert_uint_eq(last, sequence);
    ck_assert_int_eq(atomic_load(&n_full), 1);
    ck_assert_int_eq(atomic_load(&n_not_full), 1);
    store_close(store);
    store = open_store(0);
    ck_assert_uint_eq(scan_column(store, agent, layout, 0)->n, sequence * 5);
    store_close(store);
}
END_TEST

START_TEST(above_the_share_of_the_disk_nothing_is_written_but_small_state)
{
    struct store *store = open_with_fake_clock(100);
    uint32_t agent = agent_of(store, "web-1"), layout = layout_of(store, 2);
    struct store_write write = { STORE_TABLE_META, span_of_text("k"), span_of_text("v") };

    store_close(store);
    store = open_with_fake_clock(0);
    while (atomic_load(&n_full) == 0) /* also when nobody submits */
        usleep(1000);
    ck_assert(is_full(store));
    ck_assert_int_eq(atomic_load(&n_full), 1);
    ck_assert_int_eq(put_rows(store, (struct put){ agent, layout, 1, 1, 0, 2, 1 }, NULL),
                     STORE_FULL);
    ck_assert_int_eq(store_state_write(store, &write, 1), 0);
    ck_assert_uint_eq(scan_column(store, agent, layout, 0)->n, 0);
    store_close(store);
}
END_TEST

static void fall_silent(int code, struct fault_site site, const char *reason)
{
    (void) code;
    (void) site;
    (void) reason;
}

static _Atomic int n_fatal;

static void count_fatal(void *ctx)
{
    (void) ctx;
    atomic_fetch_add(&n_fatal, 1);
}

START_TEST(an_error_of_the_disk_that_is_not_full_stops_acknowledging_for_good)
{
    struct store_options options = store_settings(0);
    struct store *store = NULL;
    struct store_stats stats;
    struct store_why why;
    uint32_t agent, layout;
    char path[512], away[512];

    options.segment_bytes = 1; /* every group rotates */
    options.on_fatal = count_fatal;
    ck_assert_int_eq(store_open(&store, &options, &why), 0);
    agent = agent_of(store, "web-1");
    layout = layout_of(store, 2);
    fault_set_sink(fall_silent);
    /* The next segment has no directory to lie in. */
    snprintf(path, sizeof(path), "%s/default/journal", store_path);
    snprintf(away, sizeof(away), "%s/away", store_path);
    ck_assert_int_eq(rename(path, away), 0);
    ck_assert_int_eq(put_rows(store, (struct put){ agent, layout, 1, 1, 0, 2, 1 }, NULL),
                     STORE_STOPPED);
    ck_assert_int_eq(put_rows(store, (struct put){ agent, layout, 1, 1, 0, 2, 1 }, NULL),
                     STORE_STOPPED);
    ck_assert_int_eq(atomic_load(&n_fatal), 1);
    store_get_stats(store, &stats);
    ck_assert(stats.has_failed);
    store_close(store);
}
END_TEST

/* ---- opening ---- */

START_TEST(a_second_hub_is_locked_out)
{
    struct store *store = open_store(0), *second = NULL;
    struct store_options options = store_settings(0);
    struct store_why why;

    ck_assert_int_eq(store_open(&second, &options, &why), STORE_LOCKED);
    ck_assert_ptr_null(second);
    ck_assert_ptr_nonnull(strstr(why.text, store_path));
    ck_assert_int_eq(store_create(store_path), STORE_LOCKED);
    store_close(store);
    store_close(open_store(0));
}
END_TEST

START_TEST(a_newer_format_is_refused_with_the_remedy)
{
    struct store *store = open_store(0);
    static const uint8_t three[4] = { 3 };
    struct store_write write[] = {
        { STORE_TABLE_META, span_of_text("format"), span_of(three, sizeof(three)) },
        { STORE_TABLE_META, span_of_text("min_reader"), span_of(three, sizeof(three)) },
    };
    struct store_options options = store_settings(0);
    struct store_why why;

    /* Newer, but one that this version may still read. */
    ck_assert_int_eq(store_state_write(store, write, 1), 0);
    store_close(store);
    store = open_store(0);
    ck_assert_int_eq(store_state_write(store, write, 2), 0);
    store_close(store);
    store = NULL;
    ck_assert_int_eq(store_open(&store, &options, &why), STORE_NEWER);
    ck_assert_ptr_nonnull(strstr(why.text, "format 3"));
    ck_assert_ptr_nonnull(strstr(why.text, "backup"));
}
END_TEST

static uint32_t meta_number(struct store *store, const char *name)
{
    struct arena arena;
    struct span value;
    uint32_t number;

    arena_init(&arena, 4096);
    ck_assert_int_eq(store_state_get(store, STORE_TABLE_META, span_of_text(name), &arena, &value),
                     0);
    ck_assert_uint_eq(value.len, sizeof(number));
    memcpy(&number, value.data, sizeof(number));
    arena_deinit(&arena);
    return number;
}

START_TEST(an_older_format_is_raised_by_who_writes_and_left_by_who_reads)
{
    static const uint8_t one[4] = { 1 };
    struct store_write write[] = {
        { STORE_TABLE_META, span_of_text("format"), span_of(one, sizeof(one)) },
        { STORE_TABLE_META, span_of_text("min_reader"), span_of(one, sizeof(one)) },
    };
    struct store_options options = store_settings(0);
    struct store *store = open_store(0);
    struct store_why why;
    char kept[400];

    ck_assert_uint_eq(meta_number(store, "format"), 2);
    ck_assert_int_eq(store_state_write(store, write, 2), 0);
    store_close(store);
    options.is_shared = true;
    store = NULL;
    ck_assert_int_eq(store_open(&store, &options, &why), 0);
    ck_assert_uint_eq(meta_number(store, "min_reader"), 1);
    store_close(store);
    snprintf(kept, sizeof(kept), "%s/state/format-1.mdb", options.directory);
    ck_assert_int_ne(access(kept, F_OK), 0);
    store = open_store(0);
    ck_assert_int_eq(access(kept, F_OK), 0);
    ck_assert_uint_eq(meta_number(store, "format"), 2);
    ck_assert_uint_eq(meta_number(store, "min_reader"), 2);
    store_close(store);
}
END_TEST

START_TEST(a_directory_without_a_database_is_named_and_a_second_create_is_a_fault)
{
    struct store_options options = store_settings(0);
    struct store *store = NULL;
    struct store_why why;
    char nowhere[300];

    fault_set_sink(fall_silent);
    snprintf(nowhere, sizeof(nowhere), "%s/nowhere", store_path);
    options.directory = nowhere;
    options.allow_any_filesystem = false;
    ck_assert_int_eq(store_open(&store, &options, &why), STORE_NOT_FOUND);
    ck_assert_ptr_nonnull(strstr(why.text, "sentinel-hub init"));
    ck_assert_int_eq(mkdir(nowhere, 0700), 0);
    options.allow_any_filesystem = true;
    ck_assert_int_eq(store_open(&store, &options, &why), STORE_NOT_FOUND);
    ck_assert_ptr_nonnull(strstr(why.text, "sentinel-hub init"));
    ck_assert_int_eq(store_create(store_path), -EEXIST);
}
END_TEST

START_TEST(a_create_cut_short_is_begun_anew)
{
    char fresh[300], path[400];
    struct store_options options = store_settings(0);
    struct store *store = NULL;
    struct store_why why;
    int fd;

    snprintf(fresh, sizeof(fresh), "%s/fresh", store_path);
    ck_assert_int_eq(mkdir(fresh, 0700), 0);
    snprintf(path, sizeof(path), "%s/state.new", fresh);
    ck_assert_int_eq(mkdir(path, 0700), 0);
    snprintf(path, sizeof(path), "%s/state.new/data.mdb", fresh);
    fd = open(path, O_CREAT | O_WRONLY, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, "half", 4), 4);
    close(fd);
    options.directory = fresh;
    ck_assert_int_eq(store_open(&store, &options, &why), STORE_NOT_FOUND);
    ck_assert_int_eq(store_create(fresh), 0);
    ck_assert_int_eq(store_open(&store, &options, &why), 0);
    store_close(store);
}
END_TEST

TCase *case_disk(void)
{
    TCase *tcase = tcase_create("disk");

    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, make_database, remove_database);
    tcase_add_test(tcase, what_was_acknowledged_survives_a_kill_and_counters_are_exact);
#ifdef SENTINEL_FAULT_POINTS
    tcase_add_loop_test(tcase, a_kill_at_any_point_loses_nothing_acknowledged, 0,
                        sizeof(points) / sizeof(points[0]));
#endif
    tcase_add_test(tcase, a_damaged_chunk_is_passed_over_and_counted_at_the_start);
    tcase_add_test(tcase, a_row_damaged_since_the_start_is_passed_over_and_counted_by_the_scan);
    tcase_add_test(tcase, a_segment_that_is_no_database_leaves_the_others_served);
    tcase_add_test(tcase, a_rotation_cut_short_is_begun_anew);
    tcase_add_test(tcase, numbers_go_on_above_those_that_damage_hides);
    tcase_add_test(tcase, hundreds_of_segments_are_served_with_few_descriptors);
    tcase_add_test(tcase, a_create_cut_short_is_begun_anew);
    tcase_add_test(tcase, a_full_disk_is_said_keeps_what_was_there_and_ends_by_itself);
    tcase_add_test(tcase, above_the_share_of_the_disk_nothing_is_written_but_small_state);
    tcase_add_test(tcase, an_error_of_the_disk_that_is_not_full_stops_acknowledging_for_good);
    tcase_add_test(tcase, a_second_hub_is_locked_out);
    tcase_add_test(tcase, a_newer_format_is_refused_with_the_remedy);
    tcase_add_test(tcase, an_older_format_is_raised_by_who_writes_and_left_by_who_reads);
    tcase_add_test(tcase, a_directory_without_a_database_is_named_and_a_second_create_is_a_fault);
    return tcase;
}
