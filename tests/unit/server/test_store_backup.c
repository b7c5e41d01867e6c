/* SPDX-License-Identifier: Apache-2.0 */

/* A backup is what there was at one moment, and a restore brings that back. */

#include "test_store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/fault.h"
#include "common/base/file.h"
#include "server/store/whole.h"

#define SECOND_US INT64_C(1000000)
#define NOON_US (INT64_C(1790000000) / 86400 * DAY_US + DAY_US / 2)
#define COLUMNS 20
#define ROWS 10

/* ---- directories ---- */

static char home[128], state[192], target[256], again[192];

static void put_file(const char *name, const char *text, mode_t mode)
{
    char path[512];

    snprintf(path, sizeof(path), "%s/%s", state, name);
    ck_assert_int_eq(file_replace(path, span_of_text(text), mode), 0);
}

static void make_state(void)
{
    const char *tmp = getenv("TMPDIR");
    char path[512];

    snprintf(home, sizeof(home), "%.100s/backup-XXXXXX", tmp ? tmp : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(home));
    snprintf(state, sizeof(state), "%s/state", home);
    snprintf(target, sizeof(target), "%s/copy", home);
    snprintf(again, sizeof(again), "%s/again", home);
    snprintf(store_path, sizeof(store_path), "%s/db", state);
    ck_assert_int_eq(file_make_directories(store_path, 0700), 0);
    ck_assert_int_eq(store_create(store_path), 0);
    snprintf(path, sizeof(path), "%s/certs/deep", state);
    ck_assert_int_eq(file_make_directories(path, 0700), 0);
    put_file("certs/key.pem", "secret", 0600);
    put_file("certs/deep/cert.pem", "open", 0644);
}

static void remove_state(void)
{
    ck_assert_int_eq(file_remove_tree(home), 0);
}

static bool is_there(const char *path, const char *name)
{
    char whole[512];
    struct stat st;

    snprintf(whole, sizeof(whole), "%s%s", path, name);
    return lstat(whole, &st) == 0;
}

/* ---- backup and restore ---- */

static const char *const beside[] = { "certs", "operators", NULL };

/* Something happens as soon as this part of the copy is being written. */
struct hook {
    void (*fn)(void);
    const char *when;
};

static struct hook hook;
static size_t n_damages;
static char first_damage[512];
static char said[512];

static void on_progress(void *ctx, uint64_t done_bytes, uint64_t all_bytes)
{
    (void) ctx;
    (void) done_bytes;
    (void) all_bytes;
    if (hook.fn && is_there(target, hook.when))
        take(hook.fn)();
}

static void on_damage(void *ctx, const struct store_damage *damage)
{
    (void) ctx;
    if (n_damages++ == 0)
        snprintf(first_damage, sizeof(first_damage), "%s: %s", damage->path, damage->what);
}

static int backup_as(struct store_backup *backup)
{
    struct store_why why;
    int r;

    *backup = (struct store_backup){ .state_directory = state,
                                     .beside = beside,
                                     .to = target,
                                     .wait_us = 20 * SECOND_US,
                                     .on_progress = on_progress,
                                     .on_damage = on_damage };
    r = store_backup(backup, &why);
    snprintf(said, sizeof(said), "%s", why.text);
    return r;
}

static int back_up(void)
{
    struct store_backup backup;

    return backup_as(&backup);
}

static int restore_as(struct store_restore *restore)
{
    struct store_why why;
    int r;

    restore->from = target;
    restore->to = again;
    restore->on_damage = on_damage;
    r = store_restore(restore, &why);
    snprintf(said, sizeof(said), "%s", why.text);
    return r;
}

static int bring_back(void)
{
    struct store_restore restore = { .from = NULL };
    int r = restore_as(&restore);

    ck_assert_msg(r || restore.found.n_damaged == 0, "%s", first_damage);
    return r;
}

/* The restored database is what open_store() opens now. */
static struct store *open_again(uint64_t segment_bytes)
{
    snprintf(store_path, sizeof(store_path), "%s/db", again);
    return open_store(segment_bytes);
}

/* ---- what is put and found ---- */

static struct store *store;
static uint32_t layout;
static uint64_t sequence;

static void put_more(const char *id, uint64_t number)
{
    struct put put = { agent_of(store, id), layout, 1, number, 0, COLUMNS, ROWS };

    put.time_us = NOON_US + (int64_t) number * ROWS * SECOND_US;
    ck_assert_int_eq(put_rows(store, put, NULL), STORE_OK);
}

static void fill(void)
{
    layout = layout_of(store, COLUMNS);
    for (int i = 0; i < 6; i++) {
        sequence++;
        put_more("web-1", sequence);
        put_more("web-2", sequence);
        if (i == 3)
            ck_assert_int_eq(store_seal(store), 0);
    }
}

/* All rows of an agent are there once, in order, and its counter says the same. */
static void check_agent(const char *id, uint64_t n_batches)
{
    uint32_t agent = agent_of(store, id);
    const struct scanned *got = scan_column(store, agent, layout, 0);
    uint8_t spool[STORE_SPOOL_BYTES] = { 1 };
    struct store_run run;

    ck_assert_uint_eq(got->n, n_batches * ROWS);
    for (size_t i = 1; i < got->n; i++)
        ck_assert_int_eq(got->rows[i].time_us, got->rows[i - 1].time_us + SECOND_US);
    ck_assert_uint_eq(facts_of(store, agent).n_samples, n_batches * ROWS * COLUMNS);
    ck_assert_uint_eq(facts_of(store, agent).n_lost, 0);
    ck_assert_int_eq(store_run_get(store, agent, STORE_METRICS, spool, &run), 0);
    ck_assert_uint_eq(run.last_sequence, n_batches);
}

START_TEST(what_was_there_comes_back_with_its_counters_and_files)
{
    struct store_backup backup;
    struct stat st;
    char path[512];

    store = open_store(0);
    fill();
    ck_assert_msg(backup_as(&backup) == 0, "%s", said);
    ck_assert_uint_eq(backup.n_days, 1);
    ck_assert_uint_eq(backup.n_segments, 1);
    ck_assert_uint_eq(backup.n_left_out, 0);
    ck_assert(!is_there(target, ".partial"));
    ck_assert(!is_there(target, "/db/state.first"));
    put_more("web-1", sequence + 1); /* too late */
    store_close(store);
    ck_assert_msg(bring_back() == 0, "%s", said);
    snprintf(path, sizeof(path), "%s/certs/key.pem", again);
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_uint_eq(st.st_mode & 0777, 0600);
    snprintf(path, sizeof(path), "%s/certs/deep/cert.pem", again);
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_uint_eq(st.st_mode & 0777, 0644);
    ck_assert(!is_there(again, "/restore.partial"));
    ck_assert(!is_there(again, "/sentinel-backup"));
    store = open_again(0);
    check_agent("web-1", sequence);
    check_agent("web-2", sequence);
    ck_assert_int_eq(store_compact(store), 0);
    check_agent("web-1", sequence);
    /* It goes on as if nothing had been. */
    put_more("web-1", sequence + 1);
    check_agent("web-1", sequence + 1);
    store_close(store);
    store = open_again(0);
    check_agent("web-1", sequence + 1);
    store_close(store);
}
END_TEST

START_TEST(roll_ups_come_back_too)
{
    struct store_restore restore = { .from = NULL };
    struct store_survey survey = { .directory = store_path, .is_deep = true };
    struct store_why why;

    store = open_store(0);
    fill();
    ck_assert_int_eq(store_compact(store), 0);
    ck_assert_int_eq(store_survey(&survey, &why), 0);
    ck_assert_msg(back_up() == 0, "%s", said);
    store_close(store);
    ck_assert_msg(restore_as(&restore) == 0, "%s", said);
    ck_assert_uint_eq(restore.found.n_damaged, 0);
    for (int tier = 0; tier < STORE_TIERS; tier++) {
        const struct store_rolled *was = &survey.found.rolled[tier];
        const struct store_rolled *is = &restore.found.rolled[tier];

        ck_assert_uint_eq(is->n_periods, 1);
        ck_assert_uint_eq(is->n_records, was->n_records);
        ck_assert_uint_eq(is->n_windows, was->n_windows);
        ck_assert_uint_eq(is->n_samples, sequence * 2 * ROWS * COLUMNS);
    }
    store = open_again(0);
    check_agent("web-1", sequence);
    store_close(store);
}
END_TEST

START_TEST(what_is_compacted_on_demand_has_no_block_as_it_was_sealed)
{
    struct store_survey survey = { .directory = store_path };
    struct store_why why;
    char id[16];

    store = open_store(0);
    layout = layout_of(store, COLUMNS);
    for (uint64_t round = 1; round <= 2; round++) {
        for (int i = 0; i < 150; i++) {
            snprintf(id, sizeof(id), "web-%d", i);
            put_more(id, round);
        }
        if (round == 1)
            ck_assert_int_eq(store_seal(store), 0);
    }
    store_close(store);
    store = open_store(0);
    ck_assert_int_eq(store_compact(store), 0);
    store_close(store);
    ck_assert_int_eq(store_survey(&survey, &why), 0);
    ck_assert_uint_eq(survey.found.levels[0].n_blocks, 0);
    ck_assert_uint_eq(survey.found.levels[2].n_rows, 2 * 150 * ROWS);
}
END_TEST

static void go_on_meanwhile(void)
{
    uint64_t n_blocks, n_segments;
    struct store_stats stats;

    store_get_stats(store, &stats);
    n_blocks = stats.n_sealed_blocks;
    n_segments = stats.n_segments;
    for (uint64_t i = 1; i <= 400; i++) {
        put_more("web-1", sequence + i);
        put_more("web-3", i);
        if (i % 100 == 0) /* the counters on disk run ahead of what was copied */
            ck_assert_int_eq(agents_flush_now(&store->agents), 0);
    }
    store_get_stats(store, &stats);
    ck_assert_uint_gt(stats.n_segments, n_segments);
    /* Rows are due by age and by the journal's length all the while. */
    ck_assert_uint_eq(stats.n_sealed_blocks, n_blocks);
}

static const char *const moments[] = {
    ".partial/db/state.first/data.mdb",
    ".partial/db/default/metrics/20260921/data.mdb",
    ".partial/db/default/journal/00000001/data.mdb",
    ".partial/db/state/data.mdb",
    ".partial/certs/key.pem",
};

START_TEST(a_store_that_goes_on_meanwhile_is_copied_as_of_one_moment)
{
    bool is_before = _i < 2; /* the journal is copied */
    struct store_options options = store_settings(512 << 10);
    struct store_why why;

    options.seal_age_us = 1;
    options.journal_bytes = 512 << 10; /* the writer would wait for the sealer, but for the pause */
    ck_assert_int_eq(store_open(&store, &options, &why), 0);
    fill();
    hook = (struct hook){ go_on_meanwhile, moments[_i] };
    ck_assert_msg(back_up() == 0, "%s", said);
    ck_assert(!hook.fn);
    ck_assert_int_eq(store_seal(store), 0); /* it seals again */
    store_close(store);
    ck_assert_msg(bring_back() == 0, "%s", said);
    store = open_again(512 << 10);
    check_agent("web-2", sequence);
    check_agent("web-1", is_before ? sequence + 400 : sequence);
    if (is_before) {
        check_agent("web-3", 400);
    } else {
        put_more("web-3", 1); /* known or not, it has sent nothing yet */
        check_agent("web-3", 1);
    }
    store_close(store);
}
END_TEST

static void forget_meanwhile(void)
{
    struct store_forgotten told;

    ck_assert_int_eq(store_agent_forget(store, "web-1", &told), 0);
}

START_TEST(an_agent_that_is_forgotten_before_or_meanwhile_does_not_come_back)
{
    uint32_t number, found;

    store = open_store(0);
    fill();
    ck_assert_int_eq(store_agent_find(store, "web-1", &number), 0);
    if (_i == 0)
        forget_meanwhile();
    else
        hook = (struct hook){ forget_meanwhile, moments[_i - 1] };
    ck_assert_msg(back_up() == 0, "%s", said);
    ck_assert(!hook.fn);
    store_close(store);
    ck_assert_msg(bring_back() == 0, "%s", said);
    store = open_again(0);
    ck_assert_int_eq(store_agent_find(store, "web-1", &found), STORE_NOT_FOUND);
    ck_assert_uint_eq(scan_column(store, number, layout, 0)->n, 0);
    check_agent("web-2", sequence);
    ck_assert_uint_gt(agent_of(store, "web-1"), number);
    store_close(store);
}
END_TEST

START_TEST(an_agent_that_is_ahead_goes_on_and_the_gap_is_counted)
{
    uint8_t spool[STORE_SPOOL_BYTES] = { 1 };
    uint32_t agent;

    store = open_store(0);
    fill();
    ck_assert_int_eq(back_up(), 0);
    store_close(store);
    ck_assert_int_eq(bring_back(), 0);
    store = open_again(0);
    agent = agent_of(store, "web-1");
    ck_assert_int_eq(store_run_begin(store, agent, STORE_METRICS, spool, sequence + 11, 0), 0);
    put_more("web-1", sequence + 11);
    ck_assert_uint_eq(facts_of(store, agent).n_lost, 10);
    ck_assert_uint_eq(scan_column(store, agent, layout, 0)->n, (sequence + 1) * ROWS);
    store_close(store);
}
END_TEST

START_TEST(without_a_hub_it_is_the_same)
{
    store = open_store(0);
    fill();
    store_close(store);
    ck_assert_msg(back_up() == 0, "%s", said);
    ck_assert_int_eq(bring_back(), 0);
    store = open_again(0);
    check_agent("web-1", sequence);
    store_close(store);
}
END_TEST

START_TEST(an_empty_database_too)
{
    ck_assert_msg(back_up() == 0, "%s", said);
    ck_assert_msg(bring_back() == 0, "%s", said);
    store = open_again(0);
    store_close(store);
}
END_TEST

/* ---- refusals ---- */

START_TEST(what_is_in_the_way_stays_and_is_named)
{
    char path[512];

    snprintf(path, sizeof(path), "%s/mine", target);
    ck_assert_int_eq(file_make_directories(path, 0700), 0);
    ck_assert_int_eq(back_up(), STORE_UNFIT);
    ck_assert_ptr_nonnull(strstr(said, "already"));
    ck_assert(is_there(target, "/mine"));
    ck_assert_int_eq(rmdir(path), 0);
    snprintf(path, sizeof(path), "%s.partial/mine", target);
    ck_assert_int_eq(file_make_directories(path, 0700), 0);
    ck_assert_int_eq(back_up(), STORE_UNFIT);
    ck_assert_ptr_nonnull(strstr(said, "in the way"));
    ck_assert(is_there(target, ".partial/mine"));
    snprintf(path, sizeof(path), "%s.partial/sentinel-backup", target);
    ck_assert_int_eq(file_replace(path, span_of_text(""), 0600), 0);
    ck_assert_msg(back_up() == 0, "%s", said); /* that is one of ours, cut short */
    ck_assert(!is_there(target, ".partial"));
    ck_assert_int_eq(back_up(), STORE_UNFIT);
}
END_TEST

START_TEST(a_place_in_the_state_directory_is_refused)
{
    snprintf(target, sizeof(target), "%s/certs/copy", state);
    ck_assert_int_eq(back_up(), STORE_UNFIT);
    ck_assert_ptr_nonnull(strstr(said, "outside"));
    ck_assert(!is_there(target, ".partial"));
}
END_TEST

START_TEST(what_did_not_come_to_its_end_is_not_restored)
{
    char path[512];

    ck_assert_int_eq(back_up(), 0);
    snprintf(path, sizeof(path), "%s/sentinel-backup", target);
    ck_assert_int_eq(truncate(path, 0), 0);
    ck_assert_int_eq(bring_back(), STORE_NOT_FOUND);
    ck_assert_ptr_nonnull(strstr(said, "no backup"));
    ck_assert(!is_there(again, ""));
}
END_TEST

START_TEST(a_restore_never_goes_over_what_is_there)
{
    char path[512];

    ck_assert_int_eq(back_up(), 0);
    snprintf(path, sizeof(path), "%s/mine", again);
    ck_assert_int_eq(file_make_directories(path, 0700), 0);
    ck_assert_int_eq(bring_back(), STORE_UNFIT);
    ck_assert_ptr_nonnull(strstr(said, "not empty"));
    ck_assert_int_eq(rmdir(path), 0);
    ck_assert_msg(bring_back() == 0, "%s", said); /* an empty one is good */
}
END_TEST

START_TEST(one_backup_at_a_time_and_never_within_a_round)
{
    struct pause sealer, first, second;

    ck_assert_int_eq(pause_open(&sealer, store_path), 0);
    ck_assert_int_eq(pause_open(&first, store_path), 0);
    ck_assert_int_eq(pause_open(&second, store_path), 0);
    ck_assert(pause_enter(&sealer));
    ck_assert(pause_wish(&first));
    ck_assert(!pause_begin(&first));
    ck_assert(!pause_wish(&second));
    pause_leave(&sealer);
    ck_assert(!pause_enter(&sealer)); /* the wish comes first */
    ck_assert(pause_begin(&first));
    ck_assert(!pause_enter(&sealer));
    pause_close(&first);
    ck_assert(pause_enter(&sealer));
    pause_leave(&sealer);
    pause_close(&sealer);
    ck_assert(pause_wish(&second) && pause_begin(&second));
    pause_close(&second);
}
END_TEST

START_TEST(a_backup_that_cannot_begin_says_why_and_leaves_nothing)
{
    struct store_backup backup = { .state_directory = state, .to = target, .wait_us = 1 };
    struct store_why why;
    struct pause other;

    ck_assert_int_eq(pause_open(&other, store_path), 0);
    if (_i == 0)
        ck_assert(pause_wish(&other));
    else
        ck_assert(pause_enter(&other));
    ck_assert_int_eq(store_backup(&backup, &why), STORE_BUSY);
    ck_assert_ptr_nonnull(strstr(why.text, _i == 0 ? "another backup" : "round"));
    ck_assert(!is_there(target, "") && !is_there(target, ".partial"));
    pause_close(&other);
}
END_TEST

/* ---- a full disk, damage ---- */

static void with_little_room(void *ctx)
{
    const struct rlimit limit = { *(rlim_t *) ctx, *(rlim_t *) ctx };

    ck_assert(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    _exit(back_up() == STORE_FULL && strstr(said, "no room") ? 0 : 1);
}

START_TEST(where_there_is_no_room_nothing_is_left)
{
    rlim_t rooms[] = { 20, 20000, 50000 };
    int status;

    store = open_store(0);
    fill();
    status = in_child(with_little_room, &rooms[_i]);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    ck_assert(!is_there(target, "") && !is_there(target, ".partial"));
    check_agent("web-1", sequence);
    ck_assert_int_eq(store_seal(store), 0);
    ck_assert_msg(back_up() == 0, "%s", said);
    store_close(store);
}
END_TEST

START_TEST(a_damaged_day_is_left_out_and_named)
{
    uint8_t nonsense[4096];
    char path[600];
    struct store_backup backup;
    int fd;

    store = open_store(0);
    fill();
    store_close(store);
    snprintf(path, sizeof(path), "%s/default/metrics/20260921/data.mdb", store_path);
    fd = open(path, O_WRONLY);
    ck_assert_msg(fd >= 0, "%s", path);
    memset(nonsense, 0xa7, sizeof(nonsense));
    for (off_t at = 2 * 4096; at < 12 * 4096; at += 4096)
        ck_assert_int_eq(pwrite(fd, nonsense, sizeof(nonsense), at), 4096);
    close(fd);
    n_damages = 0;
    ck_assert_int_eq(backup_as(&backup), 0);
    ck_assert_uint_eq(backup.n_left_out, 1);
    ck_assert_uint_eq(backup.n_days, 0);
    ck_assert_uint_eq(n_damages, 1);
    ck_assert_ptr_nonnull(strstr(first_damage, "20260921"));
    ck_assert_int_eq(bring_back(), 0);
}
END_TEST

START_TEST(a_damaged_backup_is_restored_with_the_damage_named)
{
    char path[600];
    struct store_restore restore = { .from = NULL };
    struct stat st;
    uint8_t byte;
    int fd;

    store = open_store(0);
    fill();
    store_close(store);
    ck_assert_int_eq(back_up(), 0);
    snprintf(path, sizeof(path), "%s/db/default/journal/00000001/data.mdb", target);
    fd = open(path, O_RDWR);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(fstat(fd, &st), 0);
    for (off_t at = 2 * 4096; at < st.st_size; at += 4096) { /* a bit of each page */
        ck_assert_int_eq(pread(fd, &byte, 1, at + 1000), 1);
        byte ^= 4;
        ck_assert_int_eq(pwrite(fd, &byte, 1, at + 1000), 1);
    }
    close(fd);
    n_damages = 0;
    ck_assert_int_eq(restore_as(&restore), 0);
    ck_assert_uint_gt(restore.found.n_damaged, 0);
    ck_assert_uint_eq(restore.found.n_damaged, n_damages);
    store = open_again(0);
    store_close(store);
}
END_TEST

static int n_copied_calls;

static int on_copied(void *ctx, struct store *opened, const char *directory)
{
    struct store_write write = { STORE_TABLE_META, span_of_text("test"), span_of_text("x") };

    n_copied_calls++;
    ck_assert_ptr_nonnull(strstr(directory, "restore.partial"));
    ck_assert_int_eq(store_state_write(opened, &write, 1), 0);
    return ctx ? fault(-EIO, "as asked") : 0;
}

START_TEST(the_caller_has_a_word_before_a_restore_counts)
{
    struct store_restore restore = { .on_copied = on_copied, .ctx = &restore };
    struct arena arena;
    struct span value;
    int64_t when_us[2];

    ck_assert_int_eq(back_up(), 0);
    ck_assert_int_lt(restore_as(&restore), 0);
    ck_assert(!is_there(again, ""));
    restore.ctx = NULL;
    ck_assert_int_eq(restore_as(&restore), 0);
    ck_assert_int_eq(n_copied_calls, 2);
    store = open_again(0);
    arena_init(&arena, 4096);
    ck_assert_int_eq(
        store_state_get(store, STORE_TABLE_META, span_of_text(STORE_RESTORED_KEY), &arena, &value),
        0);
    ck_assert_uint_eq(value.len, sizeof(when_us));
    memcpy(when_us, value.data, sizeof(when_us));
    ck_assert_int_eq(when_us[1], restore.began_us);
    ck_assert_int_ge(when_us[0], when_us[1]);
    ck_assert_int_eq(store_state_get(store, STORE_TABLE_META, span_of_text("test"), &arena, &value),
                     0);
    arena_deinit(&arena);
    store_close(store);
}
END_TEST

/* ---- kills ---- */

#ifdef SENTINEL_FAULT_POINTS
static const char *const points[] = {
    "backup_copied",        "backup_copied:2",     "backup_copied:3", "backup_copied:4",
    "backup_before_rename", "backup_after_rename", "restore_copied",  "restore_before_rename",
    "restore_renamed",      "restore_renamed:2",
};

static void with_fault(void *ctx)
{
    setenv("SENTINEL_FAULT", ctx, 1);
    _exit(back_up() || bring_back());
}

START_TEST(a_kill_at_any_moment_leaves_the_source_whole_and_no_half_of_a_copy)
{
    char *point = strdup(points[_i]);
    int status;

    store = open_store(0);
    fill();
    status = in_child(with_fault, point);
    ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "%s: %d", point, status);
    free(point);
    check_agent("web-1", sequence);
    ck_assert_int_eq(store_seal(store), 0); /* nobody pauses any more */
    check_agent("web-1", sequence);
    store_close(store);
    /* What has its name is whole; what has not is made again. */
    if (!is_there(target, ""))
        ck_assert_msg(back_up() == 0, "%s", said);
    ck_assert(!is_there(target, ".partial"));
    if (!is_there(again, "/db")) {
        /* A restore that was cut as it was put in place is told by what is there. */
        if (is_there(again, "/certs"))
            ck_assert_int_eq(file_remove_tree(again), 0);
        ck_assert_msg(bring_back() == 0, "%s", said);
    }
    store = open_again(0);
    check_agent("web-1", sequence);
    check_agent("web-2", sequence);
    store_close(store);
}
END_TEST
#endif

TCase *case_backup(void)
{
    TCase *tcase = tcase_create("backup");

    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, make_state, remove_state);
    tcase_add_test(tcase, what_was_there_comes_back_with_its_counters_and_files);
    tcase_add_test(tcase, roll_ups_come_back_too);
    tcase_add_test(tcase, what_is_compacted_on_demand_has_no_block_as_it_was_sealed);
    tcase_add_loop_test(tcase, a_store_that_goes_on_meanwhile_is_copied_as_of_one_moment, 0,
                        sizeof(moments) / sizeof(moments[0]));
    /* Before the last look at `state`. */
    tcase_add_loop_test(tcase, an_agent_that_is_forgotten_before_or_meanwhile_does_not_come_back, 0,
                        4);
    tcase_add_test(tcase, an_agent_that_is_ahead_goes_on_and_the_gap_is_counted);
    tcase_add_test(tcase, without_a_hub_it_is_the_same);
    tcase_add_test(tcase, an_empty_database_too);
    tcase_add_test(tcase, what_is_in_the_way_stays_and_is_named);
    tcase_add_test(tcase, a_place_in_the_state_directory_is_refused);
    tcase_add_test(tcase, what_did_not_come_to_its_end_is_not_restored);
    tcase_add_test(tcase, a_restore_never_goes_over_what_is_there);
    tcase_add_test(tcase, one_backup_at_a_time_and_never_within_a_round);
    tcase_add_loop_test(tcase, a_backup_that_cannot_begin_says_why_and_leaves_nothing, 0, 2);
    tcase_add_loop_test(tcase, where_there_is_no_room_nothing_is_left, 0, 3);
    tcase_add_test(tcase, a_damaged_day_is_left_out_and_named);
    tcase_add_test(tcase, a_damaged_backup_is_restored_with_the_damage_named);
    tcase_add_test(tcase, the_caller_has_a_word_before_a_restore_counts);
#ifdef SENTINEL_FAULT_POINTS
    tcase_add_loop_test(tcase, a_kill_at_any_moment_leaves_the_source_whole_and_no_half_of_a_copy,
                        0, sizeof(points) / sizeof(points[0]));
#endif
    return tcase;
}
