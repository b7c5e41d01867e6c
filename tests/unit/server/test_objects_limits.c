/* SPDX-License-Identifier: Apache-2.0 */

/* Uploads where there is no room: a limit, a full disk, an index that cannot grow. */

#include "test_objects.h"

#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "common/base/list.h"
#include "server/store/whole.h"
#include "suite.h"

#define DAY INT64_C(86400000000)

START_TEST(a_limit_is_named_and_what_was_acknowledged_stays)
{
    struct store_object header = header_of(agent, 2, "b");
    struct sent sent;

    limits.agent_bytes = 10;
    set_limits();
    ck_assert_int_eq(begin(&sent, agent, 1, "a"), 0);
    ck_assert_int_eq(append(&sent, "0123456", 7), 0);
    ck_assert_int_eq(append(&sent, "789A", 4), STORE_TOO_MUCH);
    ck_assert_str_eq(sent.begun.what, "uploads.agent_size");
    ck_assert_int_eq(leave(&sent), 0);
    header.has_size = true;
    header.size = 4;
    ck_assert_int_eq(begin_with(&sent, &header), STORE_TOO_MUCH);
    header.size = 3;
    ck_assert_int_eq(begin_with(&sent, &header), 0);
    ck_assert_int_eq(leave(&sent), 0);
    reopen(); /* what counts is summed up anew */
    ck_assert_int_eq(begin(&sent, agent, 1, "a"), 0);
    ck_assert_uint_eq(sent.begun.received, 7);
    ck_assert_int_eq(append(&sent, "7", 1), STORE_TOO_MUCH);
    ck_assert_int_eq(leave(&sent), 0);
    ck_assert_int_eq(begin(&sent, other, 1, "a"), 0);
    ck_assert_int_eq(append(&sent, "0123456789", 10), 0);
    ck_assert_int_eq(leave(&sent), 0);

    limits = (struct store_object_limits){ .max_bytes = 12 };
    set_limits();
    ck_assert_int_eq(begin(&sent, other, 1, "a"), 0);
    ck_assert_int_eq(append(&sent, "ABC", 3), STORE_TOO_MUCH);
    ck_assert_str_eq(sent.begun.what, "uploads.max_size");
    ck_assert_int_eq(leave(&sent), 0);
    limits = (struct store_object_limits){ .agent_count = 2 };
    set_limits();
    ck_assert_int_eq(begin(&sent, agent, 9, "z"), STORE_TOO_MUCH);
    ck_assert_str_eq(sent.begun.what, "uploads.agent_count");
    limits = (struct store_object_limits){ .total_bytes = 21 };
    set_limits();
    ck_assert_int_eq(begin(&sent, agent, 1, "a"), 0);
    ck_assert_int_eq(append(&sent, "78", 2), STORE_TOO_MUCH);
    ck_assert_str_eq(sent.begun.what, "uploads.total_size");
    ck_assert_int_eq(leave(&sent), 0);
}
END_TEST

START_TEST(a_size_that_is_said_later_is_held_to_the_limits_and_keeps_nothing_open)
{
    struct store_object header = header_of(agent, 1, "a");
    struct sent sent;
    uint64_t n_bytes;

    limits.max_bytes = 100;
    limits.expire_us = DAY;
    set_limits();
    ck_assert_int_eq(begin(&sent, agent, 1, "a"), 0);
    ck_assert_int_eq(append(&sent, "x", 1), 0);
    ck_assert_int_eq(leave(&sent), 0);
    header.has_size = true;
    header.size = 101;
    ck_assert_int_eq(begin_with(&sent, &header), STORE_TOO_MUCH);
    ck_assert_str_eq(sent.begun.what, "uploads.max_size");
    limits.max_bytes = 0;
    limits.agent_bytes = 100;
    set_limits();
    ck_assert_int_eq(begin_with(&sent, &header), STORE_TOO_MUCH);
    ck_assert_str_eq(sent.begun.what, "uploads.agent_size");
    /* Nobody adds to it, so it expires. */
    now_us += 2 * DAY;
    sweep_now();
    ck_assert_uint_eq(n_files(&n_bytes), 0);
    ck_assert_uint_eq(stats_now().n_uploads, 0);
}
END_TEST

START_TEST(an_announced_size_makes_nobodys_finished_upload_go)
{
    struct store_object header = header_of(other, 2, "lie");
    uint8_t *data = noise(1000, 5);
    struct sent sent;
    uint64_t number;

    limits.retention_bytes = 5000;
    set_limits();
    number = put(agent, 1, "a", data, 1000);
    header.has_size = true;
    header.size = UINT64_C(1) << 40;
    ck_assert_int_eq(begin_with(&sent, &header), 0);
    sweep_now();
    check_content(number, data, 1000);
    ck_assert_int_eq(leave(&sent), 0);
    free(data);
}
END_TEST

/* As the disk's own look would have it. */
static void set_full(uint32_t percent)
{
    pthread_mutex_lock(&store->disk.lock);
    store->options.full_percent = percent;
    store->disk.next_check.us = 0;
    pthread_mutex_unlock(&store->disk.lock);
}

START_TEST(a_full_disk_is_said_and_it_goes_on_when_there_is_room)
{
    struct sent sent, refused;

    ck_assert_int_eq(begin(&sent, agent, 1, "a"), 0);
    ck_assert_int_eq(append(&sent, "01234", 5), 0);
    set_full(0);
    ck_assert_int_eq(append(&sent, "56789", 5), STORE_FULL);
    ck_assert_int_eq(begin(&refused, agent, 2, "b"), STORE_FULL);
    ck_assert_int_eq(leave(&sent), 0);
    /* Reading goes on, and so does what needs no room. */
    ck_assert_int_eq(begin(&sent, agent, 1, "a"), 0);
    ck_assert_uint_eq(sent.begun.received, 5);
    set_full(100);
    ck_assert_int_eq(append(&sent, "56789", 5), 0);
    ck_assert_int_eq(finish(&sent), 0);
    check_content(sent.begun.number, (const uint8_t *) "0123456789", 10);
}
END_TEST

/* EFBIG stands for ENOSPC: what finds no room is not acknowledged, and nothing else suffers. */
START_TEST(a_write_without_room_concerns_its_own_upload_alone)
{
    const size_t len = 3u << 20;
    uint8_t *data = noise(2 * len, 7);
    struct rlimit before, low;
    struct sent large, small;

    ck_assert_int_eq(begin(&large, agent, 1, "large"), 0);
    ck_assert_int_eq(append(&large, data, len), 0);
    ck_assert_int_eq(begin(&small, agent, 2, "small"), 0);
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &before), 0);
    low = before;
    low.rlim_cur = len + 1000;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &low), 0);
    ck_assert_int_eq(append(&large, data + len, 5000), STORE_FULL);
    ck_assert_int_eq(append(&small, "small", 5), 0);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &before), 0);
    ck_assert_int_eq(finish(&small), 0);
    ck_assert_int_eq(leave(&large), 0);
    ck_assert_int_eq(begin(&large, agent, 1, "large"), 0);
    ck_assert_uint_eq(large.begun.received, len);
    ck_assert_int_eq(append(&large, data + len, len), 0);
    ck_assert_int_eq(finish(&large), 0);
    check_content(large.begun.number, data, 2 * len);
    free(data);
}
END_TEST

/* A group that the index has no room for is nobody's: all of it is told so. */
START_TEST(an_index_without_room_acknowledges_nothing)
{
    struct rlimit before, low;
    struct sent sent;
    int r = 0;

    ck_assert_int_eq(begin(&sent, agent, 1, "a"), 0);
    ck_assert_int_eq(append(&sent, "01234", 5), 0);
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &before), 0);
    low = before;
    low.rlim_cur = 16384;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &low), 0);
    for (int i = 0; i < 50 && r == 0; i++)
        r = append(&sent, "x", 1);
    ck_assert_int_eq(r, STORE_FULL);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &before), 0);
    ck_assert_int_eq(leave(&sent), STORE_TAKEN); /* it was let go of */
    reopen();
    ck_assert_int_eq(begin(&sent, agent, 1, "a"), 0);
    ck_assert_uint_ge(sent.begun.received, 5);
    ck_assert_uint_eq(stats_now().content_bytes, sent.begun.received);
    ck_assert_int_eq(append(&sent, "yz", 2), 0);
    ck_assert_int_eq(finish(&sent), 0);
}
END_TEST

/* Files may be so long and no longer, from now on; returns what was allowed before. */
static struct rlimit allow_bytes(rlim_t n_bytes)
{
    struct rlimit before, low;

    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &before), 0);
    low = before;
    low.rlim_cur = n_bytes;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &low), 0);
    return before;
}

START_TEST(a_group_without_room_costs_others_nothing_and_leaves_no_file)
{
    struct sent idle, sent[40];
    struct rlimit before;
    size_t n_sent = 0;
    uint64_t n_bytes;
    int r = 0;

    ck_assert_int_eq(begin(&idle, agent, 1, "idle"), 0);
    ck_assert_int_eq(append(&idle, "01234", 5), 0);
    for (size_t i = 0; i < 40; i++)
        ck_assert_int_eq(begin(&sent[i], other, (uint8_t) i, "sent"), 0);
    before = allow_bytes(16384);
    for (; n_sent < 40 && r == 0; n_sent++)
        r = append(&sent[n_sent], "x", 1);
    ck_assert_int_eq(r, STORE_FULL);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &before), 0);
    sweep_now();
    ck_assert_uint_eq(n_files(&n_bytes), n_sent); /* the idle one's, but not the last one's */
    ck_assert_int_eq(append(&sent[n_sent - 1], "x", 1), STORE_TAKEN);
    ck_assert_int_eq(append(&idle, "56789", 5), 0);
    ck_assert_int_eq(finish(&idle), 0);
    check_content(idle.begun.number, (const uint8_t *) "0123456789", 10);
    for (size_t i = 0; i < 40; i++)
        (void) leave(&sent[i]);
}
END_TEST

/* Jobs of one group: the first one's answer waits until the others are handed in. */
struct gated {
    struct store_object_job job;
    sem_t *begun, *go, *done;
    int r;
};

static void on_gated(struct store_object_job *job, int r)
{
    struct gated *gated = container_of(job, struct gated, job);

    gated->r = r;
    if (gated->go) {
        sem_post(gated->begun);
        sem_wait(gated->go);
    }
    sem_post(gated->done);
}

static void run_as_group(struct gated *first, struct gated *others, size_t n)
{
    sem_t begun, go, done;

    sem_init(&begun, 0, 0);
    sem_init(&go, 0, 0);
    sem_init(&done, 0, 0);
    first->begun = &begun;
    first->go = &go;
    first->done = &done;
    first->job.done = on_gated;
    ck_assert_int_eq(store_object_submit(store, &first->job), 0);
    sem_wait(&begun);
    for (size_t i = 0; i < n; i++) {
        others[i].done = &done;
        others[i].job.done = on_gated;
        ck_assert_int_eq(store_object_submit(store, &others[i].job), 0);
    }
    sem_post(&go);
    for (size_t i = 0; i <= n; i++)
        sem_wait(&done);
    sem_destroy(&begun);
    sem_destroy(&go);
    sem_destroy(&done);
}

/* A lease that came to nobody keeps nothing open. */
START_TEST(a_header_in_a_group_without_room_leaves_nothing_open)
{
    const struct store_object header = header_of(agent, 1, "a");
    struct store_object new[20];
    struct gated first = { .job = { .work = STORE_OBJECT_LEAVE } }, others[21] = { 0 };
    struct rlimit before;
    struct sent sent;
    uint64_t n_bytes;

    limits.expire_us = DAY;
    set_limits();
    ck_assert_int_eq(begin(&sent, agent, 1, "a"), 0);
    ck_assert_int_eq(append(&sent, "x", 1), 0);
    ck_assert_int_eq(leave(&sent), 0);
    others[0].job = (struct store_object_job){ .work = STORE_OBJECT_BEGIN, .header = &header };
    for (uint8_t i = 0; i < 20; i++) {
        new[i] = header_of(agent, i + 2, "new");
        others[i + 1].job =
            (struct store_object_job){ .work = STORE_OBJECT_BEGIN, .header = &new[i] };
    }
    before = allow_bytes(4096);
    run_as_group(&first, others, 21);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &before), 0);
    for (size_t i = 0; i < 21; i++)
        ck_assert_int_eq(others[i].r, STORE_FULL);
    ck_assert_uint_eq(stats_now().n_uploads, 1);
    now_us += 2 * DAY;
    sweep_now();
    ck_assert_uint_eq(stats_now().n_uploads, 0);
    ck_assert_uint_eq(n_files(&n_bytes), 0);
    ck_assert_int_eq(begin(&sent, agent, 1, "a"), 0);
    ck_assert_int_eq(leave(&sent), 0);
}
END_TEST

TCase *objects_limits(void)
{
    TCase *tcase = tcase_create("limits");

    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, a_limit_is_named_and_what_was_acknowledged_stays);
    tcase_add_test(tcase, a_size_that_is_said_later_is_held_to_the_limits_and_keeps_nothing_open);
    tcase_add_test(tcase, an_announced_size_makes_nobodys_finished_upload_go);
    tcase_add_test(tcase, a_full_disk_is_said_and_it_goes_on_when_there_is_room);
    tcase_add_test(tcase, a_write_without_room_concerns_its_own_upload_alone);
    tcase_add_test(tcase, an_index_without_room_acknowledges_nothing);
    tcase_add_test(tcase, a_group_without_room_costs_others_nothing_and_leaves_no_file);
    tcase_add_test(tcase, a_header_in_a_group_without_room_leaves_nothing_open);
    return tcase;
}
