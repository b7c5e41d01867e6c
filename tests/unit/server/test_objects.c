/* SPDX-License-Identifier: Apache-2.0 */

/* What agents upload: on disk before it is said to be, once, and gone when it is over. */

#include "test_objects.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/rand.h"
#include "common/crypto/crypto.h"
#include "server/store/whole.h"
#include "suite.h"

#define BLOCK STORE_OBJECT_BLOCK_BYTES
#define DAY INT64_C(86400000000)

/* ---- what is written ---- */

START_TEST(what_was_finished_is_there_after_a_restart)
{
    const size_t len = 3 * BLOCK + 17;
    uint8_t *data = noise(len, 1);
    uint64_t number = put(agent, 1, "a", data, len);
    uint8_t part[100];
    size_t n;

    check_content(number, data, len);
    reopen();
    check_content(number, data, len);
    /* Over the end of a block. */
    ck_assert_int_eq(store_object_read(store, number, BLOCK - 50, part, sizeof(part), &n), 0);
    ck_assert_uint_eq(n, sizeof(part));
    ck_assert_mem_eq(part, data + BLOCK - 50, sizeof(part));
    ck_assert_int_eq(store_object_read(store, number + 1, 0, part, 1, &n), STORE_NOT_FOUND);
    free(data);
}
END_TEST

/* What BEGIN gave is the hash of what was received. */
static void check_hash(const struct sent *sent, const uint8_t *data)
{
    struct crypto_hash *hash = crypto_hash_restore(sent->begun.hash);
    uint8_t kept[CRYPTO_SHA256_BYTES], digest[CRYPTO_SHA256_BYTES];

    crypto_hash_finish(hash, kept);
    (void) crypto_hash_free(hash);
    crypto_sha256(span_of(data, sent->begun.received), digest);
    ck_assert_mem_eq(kept, digest, sizeof(digest));
}

START_TEST(an_upload_goes_on_where_it_was_left_with_its_hash)
{
    const size_t len = 2 * BLOCK + 1000;
    uint8_t *data = noise(len, 2);
    struct sent sent;
    size_t at = 0;

    /* Steps that end within blocks, at their ends, and after one byte. */
    for (size_t step = 1; at < len; step = step * 3 + 7) {
        size_t n = at + step < len ? step : len - at;

        ck_assert_int_eq(begin(&sent, agent, 1, "a"), 0);
        ck_assert_uint_eq(sent.begun.received, at);
        if (at)
            check_hash(&sent, data);
        ck_assert_int_eq(append(&sent, data + at, n), 0);
        ck_assert_int_eq(leave(&sent), 0);
        at += n;
        if (at % 2)
            reopen();
    }
    ck_assert_int_eq(begin(&sent, agent, 1, "a"), 0);
    ck_assert_int_eq(finish(&sent), 0);
    check_content(sent.begun.number, data, len);
    ck_assert_int_eq(begin(&sent, agent, 1, "a"), 0);
    ck_assert(sent.begun.is_complete);
    free(data);
}
END_TEST

START_TEST(chunks_come_in_order_and_only_from_the_newest)
{
    struct sent old, new;

    ck_assert_int_eq(begin(&old, agent, 1, "a"), 0);
    ck_assert_int_eq(append(&old, "first", 5), 0);
    old.next = 6;
    ck_assert_int_eq(append(&old, "gap", 3), STORE_GAP);
    old.next = 5;
    ck_assert_int_eq(begin(&new, agent, 1, "a"), 0);
    ck_assert_uint_eq(new.begun.received, 5);
    ck_assert_int_eq(append(&old, "late", 4), STORE_TAKEN);
    ck_assert_int_eq(append(&new, "second", 6), 0);
    ck_assert_int_eq(leave(&old), STORE_TAKEN);
    ck_assert_int_eq(append(&new, "third", 5), 0);
    ck_assert_int_eq(finish(&new), 0);
    check_content(new.begun.number, (const uint8_t *) "firstsecondthird", 16);
}
END_TEST

START_TEST(a_header_that_differs_is_named_by_its_field)
{
    const struct store_attribute label = { "k", "v" };
    struct store_object header = header_of(agent, 1, "a"), changed;
    struct sent sent;

    header.has_size = true;
    header.size = 10;
    ck_assert_int_eq(begin_with(&sent, &header), 0);
    ck_assert_int_eq(append(&sent, "12345", 5), 0);
    ck_assert_int_eq(leave(&sent), 0);

    changed = header;
    changed.name = "b";
    ck_assert_int_eq(begin_with(&sent, &changed), STORE_DIFFERS);
    ck_assert_str_eq(sent.begun.what, "name");
    changed = header;
    changed.size = 11;
    ck_assert_int_eq(begin_with(&sent, &changed), STORE_DIFFERS);
    ck_assert_str_eq(sent.begun.what, "size");
    changed = header;
    changed.labels = &label;
    changed.n_labels = 1;
    ck_assert_int_eq(begin_with(&sent, &changed), STORE_DIFFERS);
    ck_assert_str_eq(sent.begun.what, "labels");
    /* What only the new one says is learned. */
    changed = header;
    changed.has_sha256 = true;
    ck_assert_int_eq(begin_with(&sent, &changed), 0);
    ck_assert_int_eq(leave(&sent), 0);
    changed.sha256[0] = 1;
    ck_assert_int_eq(begin_with(&sent, &changed), STORE_DIFFERS);
    ck_assert_str_eq(sent.begun.what, "sha256");
}
END_TEST

START_TEST(what_cannot_become_what_was_announced_is_dropped)
{
    struct store_object_job reset = { .work = STORE_OBJECT_RESET };
    struct sent sent;
    uint64_t n_bytes;

    ck_assert_int_eq(begin(&sent, agent, 1, "a"), 0);
    ck_assert_int_eq(append(&sent, "wrong", 5), 0);
    reset.number = sent.begun.number;
    reset.lease = sent.begun.lease;
    ck_assert_int_eq(run(&reset), 0);
    ck_assert_int_eq(leave(&sent), 0);
    ck_assert_uint_eq(n_files(&n_bytes), 0);
    ck_assert_int_eq(begin(&sent, agent, 1, "a"), 0);
    ck_assert_uint_eq(sent.begun.received, 0);
    ck_assert_int_eq(append(&sent, "right", 5), 0);
    ck_assert_int_eq(finish(&sent), 0);
    check_content(sent.begun.number, (const uint8_t *) "right", 5);
}
END_TEST

START_TEST(an_empty_upload_has_no_file)
{
    uint64_t n_bytes, first = put(agent, 1, "a", NULL, 0), second = put(other, 1, "b", NULL, 0);

    ck_assert_uint_ne(first, second);
    ck_assert_uint_eq(n_files(&n_bytes), 0);
    reopen();
    check_content(first, NULL, 0);
    check_content(second, NULL, 0);
}
END_TEST

/* ---- once ---- */

START_TEST(the_same_content_is_stored_once_and_lives_as_long_as_one_has_it)
{
    const size_t len = BLOCK + 5;
    uint8_t *data = noise(len, 3);
    struct store_object known = header_of(agent, 3, "c");
    struct sent sent;
    uint64_t n_bytes, first, second;

    limits.retention_us = DAY;
    reopen();
    first = put(agent, 1, "a", data, len);
    now_us += DAY / 2;
    second = put(other, 2, "b", data, len);
    sweep_now();
    ck_assert_uint_eq(n_files(&n_bytes), 1);
    ck_assert_uint_eq(n_bytes, len);
    ck_assert_uint_eq(stats_now().n_shared, 1);

    /* Known to this agent: at once. To another: not a word of it. */
    known.has_size = known.has_sha256 = true;
    known.size = len;
    crypto_sha256(span_of(data, len), known.sha256);
    ck_assert_int_eq(begin_with(&sent, &known), 0);
    ck_assert(sent.begun.is_complete);
    known.agent = agent + other + 1;
    ck_assert_int_eq(begin_with(&sent, &known), 0);
    ck_assert(!sent.begun.is_complete);
    ck_assert_int_eq(leave(&sent), 0);

    now_us += DAY / 2 + 1;
    sweep_now();
    ck_assert_int_eq(store_object_read(store, first, 0, data, 1, &(size_t){ 0 }), STORE_NOT_FOUND);
    free(data);
    data = noise(len, 3);
    check_content(second, data, len);
    now_us += DAY;
    sweep_now();
    ck_assert_uint_eq(n_files(&n_bytes), 0);
    ck_assert_uint_eq(stats_now().n_contents, 0);
    ck_assert_uint_eq(stats_now().content_bytes, 0);
    /* Numbers are not given again. */
    ck_assert_uint_gt(put(agent, 9, "d", data, len), second);
    free(data);
}
END_TEST

/* ---- what goes ---- */

START_TEST(unfinished_ones_expire_but_not_while_somebody_sends)
{
    struct sent sent;
    uint64_t n_bytes;

    limits.expire_us = DAY;
    set_limits();
    ck_assert_int_eq(begin(&sent, agent, 1, "a"), 0);
    ck_assert_int_eq(append(&sent, "x", 1), 0);
    now_us += 2 * DAY;
    sweep_now();
    ck_assert_uint_eq(n_files(&n_bytes), 1);
    ck_assert_int_eq(leave(&sent), 0);
    sweep_now();
    ck_assert_uint_eq(n_files(&n_bytes), 0);
    ck_assert_uint_eq(stats_now().n_expired, 1);
    ck_assert_uint_eq(stats_now().n_uploads, 0);
    ck_assert_int_eq(begin(&sent, agent, 1, "a"), 0);
    ck_assert_uint_eq(sent.begun.received, 0);
    ck_assert_int_eq(leave(&sent), 0);
}
END_TEST

START_TEST(the_oldest_go_when_there_is_too_much)
{
    uint8_t *data = noise(5 * 1000, 4);
    uint64_t n_bytes;

    for (uint8_t i = 0; i < 5; i++) {
        now_us += 1000;
        (void) put(agent, i, "a", data + i * 1000, 1000);
    }
    limits.retention_bytes = 2500;
    set_limits();
    ck_assert_uint_eq(n_files(&n_bytes), 2);
    check_content(4, data + 3000, 1000);
    check_content(5, data + 4000, 1000);
    ck_assert_uint_eq(stats_now().n_freed_bytes, 3000);
    free(data);
}
END_TEST

START_TEST(while_a_backup_copies_no_file_goes)
{
    struct pause pause;
    uint64_t n_bytes;

    (void) put(agent, 1, "a", (const uint8_t *) "abc", 3);
    ck_assert_int_eq(pause_open(&pause, path), 0);
    while (!pause_wish(&pause) || !pause_begin(&pause))
        sched_yield();
    now_us += DAY;
    limits.retention_us = 1;
    set_limits();
    ck_assert_uint_eq(stats_now().n_uploads, 0);
    ck_assert_uint_eq(n_files(&n_bytes), 1);
    pause_close(&pause);
    sweep_now();
    ck_assert_uint_eq(n_files(&n_bytes), 0);
}
END_TEST

/* ---- damage ---- */

static void spoil(uint64_t content, off_t offset)
{
    char name[600], byte;
    int fd;

    snprintf(name, sizeof(name), "%s/default/objects/content/%016llx", path,
             (unsigned long long) content);
    fd = open(name, O_RDWR);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pread(fd, &byte, 1, offset), 1);
    byte ^= 1;
    ck_assert_int_eq(pwrite(fd, &byte, 1, offset), 1);
    close(fd);
}

START_TEST(a_bad_block_is_found_and_the_others_are_served)
{
    const size_t len = 2 * BLOCK;
    uint8_t *data = noise(len, 5), got[100];
    uint64_t number = put(agent, 1, "a", data, len);
    size_t n;

    spoil(1, BLOCK + 7);
    ck_assert_int_eq(store_object_read(store, number, 0, got, 100, &n), 0);
    ck_assert_int_eq(store_object_read(store, number, BLOCK, got, 5, &n), STORE_DAMAGED);
    ck_assert_uint_eq(stats_now().n_damaged, 1);
    free(data);
}
END_TEST

/* What was seen to be damaged is not taken for what is sent anew, whoever sends it. */
START_TEST(what_is_damaged_can_be_sent_again_under_the_same_key_and_others)
{
    const size_t len = 2 * BLOCK;
    uint8_t *data = noise(len, 5), got[5];
    struct store_object known = header_of(agent, 3, "c");
    uint64_t old, again, foreign, n_bytes;
    struct sent sent;
    size_t n;

    limits.retention_us = DAY;
    set_limits();
    old = put(agent, 1, "a", data, len);
    spoil(1, BLOCK + 7);
    ck_assert_int_eq(store_object_read(store, old, BLOCK, got, 5, &n), STORE_DAMAGED);
    known.has_size = known.has_sha256 = true;
    known.size = len;
    crypto_sha256(span_of(data, len), known.sha256);
    ck_assert_int_eq(begin_with(&sent, &known), 0);
    ck_assert(!sent.begun.is_complete);
    ck_assert_int_eq(leave(&sent), 0);
    foreign = put(other, 2, "b", data, len);
    check_content(foreign, data, len);
    now_us += DAY / 2;
    again = put(agent, 1, "a", data, len);
    ck_assert_uint_gt(again, old);
    check_content(again, data, len);
    sweep_now();
    ck_assert_uint_eq(n_files(&n_bytes), 2); /* the good one is shared */

    now_us += DAY / 2 + 1;
    sweep_now();
    ck_assert_int_eq(store_object_read(store, old, 0, got, 5, &n), STORE_NOT_FOUND);
    ck_assert_int_eq(begin(&sent, agent, 1, "a"), 0);
    ck_assert(sent.begun.is_complete);
    ck_assert_uint_eq(sent.begun.number, again);
    free(data);
}
END_TEST

START_TEST(a_lost_file_is_sent_again)
{
    const struct store_object header = header_of(agent, 1, "a");
    struct sent sent;
    char name[600];

    (void) put(agent, 1, "a", (const uint8_t *) "01234", 5);
    snprintf(name, sizeof(name), "%s/default/objects/content/%016x", path, 1);
    ck_assert_int_eq(truncate(name, 4), 0);
    ck_assert_int_eq(begin_with(&sent, &header), 0);
    ck_assert(!sent.begun.is_complete);
    ck_assert_int_eq(append(&sent, "01234", 5), 0);
    ck_assert_int_eq(finish(&sent), 0);
    check_content(sent.begun.number, (const uint8_t *) "01234", 5);
}
END_TEST

/* Bytes of the index change; the store must be closed. */
static void spoil_row(uint64_t number)
{
    uint8_t key[8];
    MDB_dbi dbi;
    MDB_env *env;
    MDB_txn *txn;
    MDB_val name = { sizeof(key), key }, value = { 5, (void *) (uintptr_t) "wrong" };
    char index[600];

    snprintf(index, sizeof(index), "%s/default/objects/index", path);
    db_key_u64(key, number);
    ck_assert_int_eq(mdb_env_create(&env), 0);
    ck_assert_int_eq(mdb_env_set_maxdbs(env, 8), 0);
    ck_assert_int_eq(mdb_env_open(env, index, 0, 0600), 0);
    ck_assert_int_eq(mdb_txn_begin(env, NULL, 0, &txn), 0);
    ck_assert_int_eq(mdb_dbi_open(txn, "uploads", 0, &dbi), 0);
    ck_assert_int_eq(mdb_put(txn, dbi, &name, &value, 0), 0);
    ck_assert_int_eq(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
}

START_TEST(a_row_that_is_none_stops_nobody)
{
    const uint64_t old = put(agent, 1, "a", (const uint8_t *) "01234", 5);
    uint64_t again;

    close_it();
    spoil_row(old);
    open_it();
    again = put(agent, 1, "a", (const uint8_t *) "01234", 5);
    ck_assert_uint_gt(again, old);
    check_content(again, (const uint8_t *) "01234", 5);
    (void) put(other, 1, "a", (const uint8_t *) "others", 6);
}
END_TEST

/* Nobody is to make room for what a row says. */
START_TEST(a_row_of_a_size_that_cannot_be_is_none)
{
    struct object_content content = { .size = STORE_OBJECT_MAX_BYTES }, got;
    struct object_row row = { .object = header_of(agent, 1, "a") }, read;
    uint8_t value[OBJECT_CONTENT_BYTES];
    struct buf text = { 0 };

    object_content_write(&content, value);
    ck_assert(object_content_read(span_of(value, sizeof(value)), &got));
    content.size++;
    object_content_write(&content, value);
    ck_assert(!object_content_read(span_of(value, sizeof(value)), &got));
    row.object.has_size = true;
    row.object.size = row.object.received = 7;
    row.content = 1;
    object_row_write(&row, &text);
    ck_assert(object_row_read(1, buf_span(&text), &read));
    buf_clear(&text);
    row.object.received = 8;
    object_row_write(&row, &text);
    ck_assert(!object_row_read(1, buf_span(&text), &read));
    buf_deinit(&text);
}
END_TEST

START_TEST(an_unfinished_file_that_lost_bytes_is_sent_again)
{
    char name[600];
    struct sent sent;

    ck_assert_int_eq(begin(&sent, agent, 1, "a"), 0);
    ck_assert_int_eq(append(&sent, "0123456789", 10), 0);
    ck_assert_int_eq(leave(&sent), 0);
    snprintf(name, sizeof(name), "%s/default/objects/content/%016x", path, 1);
    ck_assert_int_eq(truncate(name, 4), 0);
    ck_assert_int_eq(begin(&sent, agent, 1, "a"), 0);
    ck_assert_uint_eq(sent.begun.received, 0);
    ck_assert_int_eq(append(&sent, "0123456789", 10), 0);
    ck_assert_int_eq(finish(&sent), 0);
    check_content(sent.begun.number, (const uint8_t *) "0123456789", 10);
}
END_TEST

START_TEST(content_without_its_index_is_set_aside_and_kept)
{
    char from[600], to[600];
    struct dirent *entry;
    DIR *directory;
    bool has = false;

    (void) put(agent, 1, "a", (const uint8_t *) "abc", 3);
    close_it();
    snprintf(from, sizeof(from), "%s/default/objects/index", path);
    ck_assert_int_eq(file_remove_tree(from), 0);
    open_it();
    ck_assert_uint_eq(stats_now().n_uploads, 0);
    snprintf(to, sizeof(to), "%s/default", path);
    directory = opendir(to);
    while ((entry = readdir(directory)))
        has = has || strncmp(entry->d_name, "objects.damaged-", 16) == 0;
    closedir(directory);
    ck_assert(has);
}
END_TEST

static void on_damage(void *ctx, const struct store_damage *damage)
{
    struct buf *text = ctx;

    buf_printf(text, "%s: %s\n", damage->key, damage->what);
}

START_TEST(an_upload_of_an_agent_that_is_not_there_is_found)
{
    struct buf damage = { 0 };
    struct store_survey asked = {
        .directory = path, .is_deep = true, .on_damage = on_damage, .ctx = &damage
    };
    struct store_why why;

    (void) put(agent, 1, "a", (const uint8_t *) "x", 1);
    close_it();
    ck_assert_int_eq(store_survey(&asked, &why), 0);
    ck_assert_uint_eq(damage.len, 0);
    open_it();
    (void) put(agent + other + 1, 2, "b", (const uint8_t *) "y", 1);
    close_it();
    ck_assert_int_eq(store_survey(&asked, &why), 0);
    ck_assert_ptr_nonnull(
        strstr(buf_text(&damage), "agent 4: there are uploads of an agent that is not here"));
    buf_deinit(&damage);
    open_it();
}
END_TEST

START_TEST(files_that_nothing_names_go_at_the_start)
{
    char name[600];
    uint64_t n_bytes;
    int fd;

    (void) put(agent, 1, "a", (const uint8_t *) "abc", 3);
    snprintf(name, sizeof(name), "%s/default/objects/content/00000000000000ff", path);
    fd = open(name, O_CREAT | O_WRONLY, 0600);
    ck_assert_int_ge(fd, 0);
    close(fd);
    reopen();
    ck_assert_uint_eq(n_files(&n_bytes), 1);
    check_content(1, (const uint8_t *) "abc", 3);
}
END_TEST

/* ---- killed ---- */

#ifdef SENTINEL_FAULT_POINTS

struct shared {
    uint64_t acked;
    bool is_finished;
};
static struct shared *shared;

#define KILL_BYTES (3 * (size_t) BLOCK + 99)
#define KILL_STEP 200000

static void send_until_killed(const char *fault)
{
    uint8_t *data = noise(KILL_BYTES, 6);
    struct sent sent;

    setenv("SENTINEL_FAULT", fault, 1);
    open_it();
    limits.retention_us = 1;
    ck_assert_int_eq(begin(&sent, agent, 1, "a"), 0);
    while (sent.next < KILL_BYTES) {
        size_t n = KILL_BYTES - sent.next < KILL_STEP ? KILL_BYTES - sent.next : KILL_STEP;

        if (append(&sent, data + sent.next, n))
            _exit(1);
        shared->acked = sent.next;
    }
    if (finish(&sent))
        _exit(1);
    shared->is_finished = true;
    now_us += DAY;
    store_objects_set_limits(store, &limits);
    sweep_now();
    close_it();
    _exit(0);
}

static const char *const points[] = {
    "objects_written:1",       "objects_written:3",      "objects_before_commit:1",
    "objects_before_commit:4", "objects_after_commit:1", "objects_after_commit:4",
    "objects_before_commit:6", "objects_after_commit:6", "objects_before_removal:1",
    "objects_before_unlink:1",
};

START_TEST(killed_at_a_point_nothing_acknowledged_is_lost)
{
    uint8_t *data = noise(KILL_BYTES, 6);
    struct sent sent;
    uint64_t n_bytes;
    int status;
    pid_t child;

    close_it();
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert(shared != MAP_FAILED);
    child = fork();
    if (child == 0)
        send_until_killed(points[_i]);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    open_it();
    ck_assert_int_eq(begin(&sent, agent, 1, "a"), 0);
    if (!shared->is_finished || !sent.begun.is_complete) {
        /* A finished one may have gone by now: its retention is over. */
        ck_assert(shared->is_finished || sent.begun.is_complete ||
                  sent.begun.received >= shared->acked);
        while (!sent.begun.is_complete && sent.next < KILL_BYTES)
            ck_assert_int_eq(
                append(&sent, data + sent.next,
                       KILL_BYTES - sent.next < KILL_STEP ? KILL_BYTES - sent.next : KILL_STEP),
                0);
        if (!sent.begun.is_complete)
            ck_assert_int_eq(finish(&sent), 0);
    }
    check_content(sent.begun.number, data, KILL_BYTES);
    ck_assert_uint_eq(n_files(&n_bytes), 1);
    ck_assert_uint_eq(n_bytes, KILL_BYTES);
    munmap(shared, sizeof(*shared));
    free(data);
}
END_TEST

#endif

Suite *suite(void)
{
    Suite *suite = suite_create("server/objects");
    TCase *tcase = tcase_create("objects");

    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, what_was_finished_is_there_after_a_restart);
    tcase_add_test(tcase, an_upload_goes_on_where_it_was_left_with_its_hash);
    tcase_add_test(tcase, chunks_come_in_order_and_only_from_the_newest);
    tcase_add_test(tcase, a_header_that_differs_is_named_by_its_field);
    tcase_add_test(tcase, what_cannot_become_what_was_announced_is_dropped);
    tcase_add_test(tcase, an_empty_upload_has_no_file);
    tcase_add_test(tcase, the_same_content_is_stored_once_and_lives_as_long_as_one_has_it);
    tcase_add_test(tcase, unfinished_ones_expire_but_not_while_somebody_sends);
    tcase_add_test(tcase, the_oldest_go_when_there_is_too_much);
    tcase_add_test(tcase, while_a_backup_copies_no_file_goes);
    tcase_add_test(tcase, a_bad_block_is_found_and_the_others_are_served);
    tcase_add_test(tcase, what_is_damaged_can_be_sent_again_under_the_same_key_and_others);
    tcase_add_test(tcase, a_lost_file_is_sent_again);
    tcase_add_test(tcase, a_row_that_is_none_stops_nobody);
    tcase_add_test(tcase, a_row_of_a_size_that_cannot_be_is_none);
    tcase_add_test(tcase, an_unfinished_file_that_lost_bytes_is_sent_again);
    tcase_add_test(tcase, content_without_its_index_is_set_aside_and_kept);
    tcase_add_test(tcase, an_upload_of_an_agent_that_is_not_there_is_found);
    tcase_add_test(tcase, files_that_nothing_names_go_at_the_start);
#ifdef SENTINEL_FAULT_POINTS
    tcase_add_loop_test(tcase, killed_at_a_point_nothing_acknowledged_is_lost, 0,
                        (int) (sizeof(points) / sizeof(points[0])));
#endif
    suite_add_tcase(suite, tcase);
    suite_add_tcase(suite, objects_limits());
    return suite;
}
