/* SPDX-License-Identifier: Apache-2.0 */
#include "suite.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/fault.h"
#include "common/base/rand.h"
#include "common/loop/loop.h"

static struct loop *loop;
static int64_t now_us;

static mono_us mono_of_test(void)
{
    return (mono_us){ now_us };
}

static void begin(void)
{
    now_us = 1000;
    clock_set_source(NULL, mono_of_test);
    ck_assert_int_eq(loop_new(&loop), 0);
}

static void end(void)
{
    ck_assert_ptr_null(loop_free(loop));
    clock_set_source(NULL, NULL);
}

/* ---- files ---- */

struct pipe {
    struct loop_file file;
    int write_fd;
    int n_calls;
    uint32_t events;
    struct pipe *victim; /* removed, and freed, by the callback */
};

static void free_pipe(struct pipe *pipe)
{
    loop_file_remove(loop, &pipe->file);
    close(pipe->file.fd);
    close(pipe->write_fd);
    free(pipe);
}

static void on_readable(struct loop_file *file, uint32_t events)
{
    struct pipe *pipe = container_of(file, struct pipe, file);
    char byte;

    pipe->n_calls++;
    pipe->events = events;
    if (events & EPOLLIN)
        ck_assert_int_eq(read(file->fd, &byte, 1), 1);
    if (pipe->victim) {
        /* Each is the other's: only one may live to be called. */
        pipe->victim->victim = NULL;
        free_pipe(take(pipe->victim));
    }
}

static struct pipe *new_pipe(void)
{
    struct pipe *pipe = calloc(1, sizeof(*pipe));
    int fds[2];

    ck_assert_ptr_nonnull(pipe);
    ck_assert_int_eq(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
    pipe->file = (struct loop_file){ .fd = fds[0], .events = EPOLLIN, .fn = on_readable };
    pipe->write_fd = fds[1];
    ck_assert_int_eq(loop_file_add(loop, &pipe->file), 0);
    return pipe;
}

static void fill(struct pipe *pipe, size_t n_bytes)
{
    ck_assert_int_eq(write(pipe->write_fd, "xxxx", n_bytes), (ssize_t) n_bytes);
}

START_TEST(a_file_is_called_as_long_as_it_is_ready)
{
    struct pipe *pipe = new_pipe();

    ck_assert_int_eq(loop_run_once(loop, 0), 0);
    ck_assert_int_eq(pipe->n_calls, 0);
    fill(pipe, 2);
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(loop_run_once(loop, 0), 0);
    ck_assert_int_eq(pipe->n_calls, 2);

    ck_assert_int_eq(loop_file_change(loop, &pipe->file, 0), 0);
    fill(pipe, 1);
    ck_assert_int_eq(loop_run_once(loop, 0), 0);
    ck_assert_int_eq(pipe->n_calls, 2);
    ck_assert_int_eq(loop_file_change(loop, &pipe->file, EPOLLIN), 0);
    ck_assert_int_eq(loop_run_once(loop, 0), 0);
    ck_assert_int_eq(pipe->n_calls, 3);

    loop_file_remove(loop, &pipe->file);
    loop_file_remove(loop, &pipe->file);
    fill(pipe, 1);
    ck_assert_int_eq(loop_run_once(loop, 0), 0);
    ck_assert_int_eq(pipe->n_calls, 3);
    free_pipe(pipe);
}
END_TEST

START_TEST(a_hang_up_is_told_without_being_asked_for)
{
    struct pipe *pipe = new_pipe();

    close(pipe->write_fd);
    pipe->write_fd = -1;
    ck_assert_int_eq(loop_run_once(loop, -1), 0);
    ck_assert_uint_eq(pipe->events, EPOLLHUP);
    free_pipe(pipe);
}
END_TEST

START_TEST(a_file_removed_by_another_of_the_same_round_is_not_touched)
{
    struct pipe *pipes[2] = { new_pipe(), new_pipe() };

    pipes[0]->victim = pipes[1];
    pipes[1]->victim = pipes[0];
    fill(pipes[0], 1);
    fill(pipes[1], 1);
    ck_assert_int_eq(loop_run_once(loop, 0), 0);

    /* The kernel reports in the order of becoming ready: the second is gone. */
    ck_assert_int_eq(pipes[0]->n_calls, 1);
    ck_assert_ptr_null(pipes[0]->victim);
    free_pipe(pipes[0]);
}
END_TEST

static void on_readable_change_other(struct loop_file *file, uint32_t events)
{
    (void) events;
    loop_file_remove(loop, file);
    ck_assert_int_eq(loop_file_change(loop, file->ctx, 0), 0);
}

START_TEST(events_given_up_in_the_same_round_are_not_told)
{
    struct pipe *first = new_pipe();
    struct pipe *second = new_pipe();

    first->file.fn = on_readable_change_other;
    first->file.ctx = &second->file;
    fill(first, 1);
    fill(second, 1);
    ck_assert_int_eq(loop_run_once(loop, 0), 0);
    ck_assert_int_eq(second->n_calls, 0);
    free_pipe(first);
    free_pipe(second);
}
END_TEST

static void ignore_faults(int code, struct fault_site site, const char *reason)
{
    (void) code;
    (void) site;
    (void) reason;
}

START_TEST(a_file_that_cannot_be_watched_is_a_fault_and_not_added)
{
    struct loop_file file = { .fd = -1, .events = EPOLLIN, .fn = on_readable };

    fault_set_sink(ignore_faults);
    ck_assert_int_eq(loop_file_add(loop, &file), -EBADF);
    ck_assert(!file.is_added);
    fault_set_sink(NULL);
}
END_TEST

/* ---- timers ---- */

struct test_timer {
    struct loop_timer timer;
    int name;
    struct test_timer *victim;
    mono_us again; /* armed for then, while n_again lasts */
    int n_again;
};

static int fired[5000];
static size_t n_fired;

static void on_timer(struct loop_timer *timer)
{
    struct test_timer *self = container_of(timer, struct test_timer, timer);

    fired[n_fired++] = self->name;
    if (self->victim)
        loop_timer_disarm(loop, &self->victim->timer);
    if (self->n_again-- > 0)
        ck_assert_int_eq(loop_timer_arm(loop, timer, self->again), 0);
}

START_TEST(timers_fire_once_in_order_of_time_then_of_arming)
{
    static const int64_t due[] = { 5000, 2000, 9000, 2000, 4000, 2000 };
    struct test_timer timers[6] = { 0 };

    for (int i = 0; i < 6; i++) {
        timers[i].timer.fn = on_timer;
        timers[i].name = i;
        ck_assert_int_eq(loop_timer_arm(loop, &timers[i].timer, (mono_us){ due[i] }), 0);
    }
    ck_assert_int_eq(loop_run_once(loop, 0), 0);
    ck_assert_uint_eq(n_fired, 0);
    now_us = 5000;
    ck_assert_int_eq(loop_run_once(loop, -1), 0);
    ck_assert_uint_eq(n_fired, 5);
    ck_assert_int_eq(memcmp(fired, (int[]){ 1, 3, 5, 4, 0 }, 5 * sizeof(int)), 0);

    /* Moved, and then disarmed. */
    ck_assert_int_eq(loop_timer_arm(loop, &timers[2].timer, (mono_us){ 7000 }), 0);
    ck_assert_int_eq(loop_timer_arm_in(loop, &timers[0].timer, 1000), 0);
    now_us = 7000;
    loop_timer_disarm(loop, &timers[0].timer);
    loop_timer_disarm(loop, &timers[0].timer);
    ck_assert_int_eq(loop_run_once(loop, -1), 0);
    ck_assert_uint_eq(n_fired, 6);
    ck_assert_int_eq(fired[5], 2);
}
END_TEST

START_TEST(a_timer_disarmed_by_another_that_is_due_does_not_fire)
{
    struct test_timer timers[3] = { 0 };

    for (int i = 0; i < 3; i++) {
        timers[i].timer.fn = on_timer;
        timers[i].name = i;
        ck_assert_int_eq(loop_timer_arm(loop, &timers[i].timer, (mono_us){ 1 + i }), 0);
    }
    timers[0].victim = &timers[1];
    ck_assert_int_eq(loop_run_once(loop, -1), 0);
    ck_assert_uint_eq(n_fired, 2);
    ck_assert_int_eq(fired[1], 2);
}
END_TEST

START_TEST(a_timer_that_arms_itself_for_the_past_fires_once_a_round)
{
    struct test_timer greedy = { .timer.fn = on_timer, .name = 1, .again = { 1 }, .n_again = 2 };
    struct test_timer other = { .timer.fn = on_timer, .name = 2 };

    ck_assert_int_eq(loop_timer_arm(loop, &greedy.timer, (mono_us){ 10 }), 0);
    ck_assert_int_eq(loop_timer_arm(loop, &other.timer, (mono_us){ 20 }), 0);
    ck_assert_int_eq(loop_run_once(loop, 0), 0);
    ck_assert_uint_eq(n_fired, 2);
    ck_assert_int_eq(fired[0] * 10 + fired[1], 12);
    now_us++;
    ck_assert_int_eq(loop_run_once(loop, 0), 0);
    now_us++;
    ck_assert_int_eq(loop_run_once(loop, 0), 0);
    ck_assert_uint_eq(n_fired, 4);
}
END_TEST

START_TEST(many_timers_armed_moved_and_disarmed_fire_in_order)
{
    enum { N = 2000 };
    static struct test_timer timers[N];
    struct rand rand;

    rand_init(&rand, 17);
    for (int i = 0; i < 20000; i++) {
        struct test_timer *timer = &timers[rand_below(&rand, N)];

        timer->timer.fn = on_timer;
        timer->name = (int) (timer - timers);
        if (rand_below(&rand, 4) == 0)
            loop_timer_disarm(loop, &timer->timer);
        else
            ck_assert_int_eq(loop_timer_arm(loop, &timer->timer,
                                            (mono_us){ (int64_t) rand_below(&rand, 100000) }),
                             0);
    }

    size_t n_armed = 0;

    for (int i = 0; i < N; i++)
        n_armed += timers[i].timer.slot != 0;
    now_us = 100000;
    ck_assert_int_eq(loop_run_once(loop, 0), 0);
    ck_assert_uint_eq(n_fired, n_armed);
    for (size_t i = 1; i < n_fired; i++)
        ck_assert(timers[fired[i - 1]].timer.due.us <= timers[fired[i]].timer.due.us);
}
END_TEST

START_TEST(a_wait_ends_with_the_next_timer)
{
    struct test_timer timer = { .timer.fn = on_timer };

    /* The real clock: with a wait too short the loop would go round, with one too long the test
     * would not end. */
    clock_set_source(NULL, NULL);
    ck_assert_int_eq(loop_timer_arm_in(loop, &timer.timer, 2500), 0);
    ck_assert_int_eq(loop_run_once(loop, -1), 0);
    ck_assert_uint_eq(n_fired, 1);
}
END_TEST

/* ---- wake-ups and stopping ---- */

static struct loop_wakeup wakeup;
static int n_wakeups;
static int n_wanted;

static void on_wakeup(struct loop_wakeup *self)
{
    ck_assert_ptr_eq(self, &wakeup);
    ck_assert(loop_is_mine(loop));
    if (++n_wakeups >= n_wanted)
        loop_stop(loop);
}

static void *fire(void *unused)
{
    (void) unused;
    ck_assert(!loop_is_mine(loop));
    loop_wakeup_fire(&wakeup);
    return NULL;
}

START_TEST(many_fires_are_one_call)
{
    wakeup.fn = on_wakeup;
    n_wanted = 100;
    ck_assert_int_eq(loop_wakeup_add(loop, &wakeup), 0);
    for (int i = 0; i < 10; i++)
        loop_wakeup_fire(&wakeup);
    ck_assert_int_eq(loop_run_once(loop, 0), 0);
    ck_assert_int_eq(loop_run_once(loop, 0), 0);
    ck_assert_int_eq(n_wakeups, 1);
    loop_wakeup_remove(loop, &wakeup);
    loop_wakeup_remove(loop, &wakeup);
}
END_TEST

START_TEST(another_thread_wakes_the_loop)
{
    pthread_t thread;

    wakeup.fn = on_wakeup;
    n_wanted = 1;
    ck_assert_int_eq(loop_wakeup_add(loop, &wakeup), 0);
    ck_assert_int_eq(loop_run_once(loop, 0), 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, fire, NULL), 0);
    ck_assert_int_eq(loop_run(loop), 0);
    ck_assert_int_eq(n_wakeups, 1);
    pthread_join(thread, NULL);
    loop_wakeup_remove(loop, &wakeup);
}
END_TEST

static void *run(void *unused)
{
    (void) unused;
    ck_assert_int_eq(loop_run(loop), 0);
    return NULL;
}

START_TEST(another_thread_stops_the_loop_and_takes_it_down)
{
    pthread_t thread;

    wakeup.fn = on_wakeup;
    ck_assert_int_eq(loop_wakeup_add(loop, &wakeup), 0);
    ck_assert(loop_is_mine(loop));
    ck_assert_int_eq(pthread_create(&thread, NULL, run, NULL), 0);
    loop_stop(loop);
    pthread_join(thread, NULL);
    ck_assert(loop_is_mine(loop));
    loop_wakeup_remove(loop, &wakeup);
}
END_TEST

START_TEST(a_stop_before_the_run_is_not_lost_and_counts_once)
{
    loop_stop(loop);
    ck_assert_int_eq(loop_run(loop), 0);

    wakeup.fn = on_wakeup;
    n_wanted = 1;
    ck_assert_int_eq(loop_wakeup_add(loop, &wakeup), 0);
    loop_wakeup_fire(&wakeup);
    ck_assert_int_eq(loop_run(loop), 0);
    ck_assert_int_eq(n_wakeups, 1);
    loop_wakeup_remove(loop, &wakeup);
}
END_TEST

START_TEST(the_loop_is_free_only_without_parts)
{
    struct pipe *pipe = new_pipe();

    (void) pipe;
    ck_assert_ptr_nonnull(freopen("/dev/null", "w", stderr));
    loop_free(loop);
}
END_TEST

/* ---- signals ---- */

static int numbers_seen[4];
static int n_signals;

static void on_signal(struct loop_signals *signals, int number)
{
    numbers_seen[n_signals++] = number;
    if (number == SIGTERM)
        loop_signals_remove(loop, signals);
}

START_TEST(signals_come_one_by_one_until_removed)
{
    static const int numbers[] = { SIGHUP, SIGTERM, SIGUSR1, 0 };
    struct loop_signals signals = { .fn = on_signal };

    ck_assert_int_eq(loop_signals_add(loop, &signals, numbers), 0);
    raise(SIGHUP);
    ck_assert_int_eq(loop_run_once(loop, -1), 0);
    ck_assert_int_eq(n_signals, 1);
    ck_assert_int_eq(numbers_seen[0], SIGHUP);

    raise(SIGTERM);
    raise(SIGUSR1);
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(loop_run_once(loop, 0), 0);
    /* The kernel gives the lower number first, SIGUSR1 (10) before SIGTERM (15). */
    ck_assert_int_eq(n_signals, 3);
    ck_assert_int_eq(numbers_seen[1], SIGUSR1);
    ck_assert_int_eq(numbers_seen[2], SIGTERM);
    ck_assert(!signals.file.is_added);

    /* Still blocked: or this would be the end. */
    raise(SIGTERM);
}
END_TEST

Suite *suite(void)
{
    Suite *s = suite_create("common/loop");
    TCase *tcase = tcase_create("files");

    suite_add_tcase(s, tcase);
    tcase_add_checked_fixture(tcase, begin, end);
    tcase_add_test(tcase, a_file_is_called_as_long_as_it_is_ready);
    tcase_add_test(tcase, a_hang_up_is_told_without_being_asked_for);
    tcase_add_test(tcase, a_file_removed_by_another_of_the_same_round_is_not_touched);
    tcase_add_test(tcase, events_given_up_in_the_same_round_are_not_told);
    tcase_add_test(tcase, a_file_that_cannot_be_watched_is_a_fault_and_not_added);

    tcase = tcase_create("timers");
    suite_add_tcase(s, tcase);
    tcase_add_checked_fixture(tcase, begin, end);
    tcase_add_test(tcase, timers_fire_once_in_order_of_time_then_of_arming);
    tcase_add_test(tcase, a_timer_disarmed_by_another_that_is_due_does_not_fire);
    tcase_add_test(tcase, a_timer_that_arms_itself_for_the_past_fires_once_a_round);
    tcase_add_test(tcase, many_timers_armed_moved_and_disarmed_fire_in_order);
    tcase_add_test(tcase, a_wait_ends_with_the_next_timer);

    tcase = tcase_create("threads and signals");
    suite_add_tcase(s, tcase);
    tcase_add_checked_fixture(tcase, begin, end);
    tcase_add_test(tcase, many_fires_are_one_call);
    tcase_add_test(tcase, another_thread_wakes_the_loop);
    tcase_add_test(tcase, another_thread_stops_the_loop_and_takes_it_down);
    tcase_add_test(tcase, a_stop_before_the_run_is_not_lost_and_counts_once);
    tcase_add_test_raise_signal(tcase, the_loop_is_free_only_without_parts, SIGABRT);
    tcase_add_test(tcase, signals_come_one_by_one_until_removed);
    return s;
}
