/* SPDX-License-Identifier: Apache-2.0 */
#include "common/loop/loop.h"

#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/file.h"
#include "common/loop/timers.h"

#define BATCH_EVENTS 64

struct loop {
    int epoll_fd;
    size_t n_files;

    /* What the kernel reported for this round. A removed file's entries are set to NULL. */
    struct epoll_event batch[BATCH_EVENTS];
    size_t batch_len;

    struct timers timers;
    bool is_firing;
    mono_us fire_time; /* timers up to here are run in this round */

    _Atomic bool is_stopping;
    struct loop_wakeup stop;

    bool is_in_round;
    _Atomic uintptr_t owner; /* thread_mark() of the thread; 0: nobody */
};

/* A number that no other living thread has, without a system call. */
static uintptr_t thread_mark(void)
{
    static _Thread_local char mark;

    return (uintptr_t) &mark;
}

static void on_stop(struct loop_wakeup *wakeup)
{
    /* The flag says it all; this only ends the wait. */
    (void) wakeup;
}

int loop_new(struct loop **ret)
{
    struct loop *loop = calloc(1, sizeof(*loop));
    int r;

    if (!loop)
        return fault(-ENOMEM, "no memory for a loop");
    loop->stop.fn = on_stop;
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (loop->epoll_fd < 0)
        r = fault(-errno, "cannot make an epoll");
    else
        r = pass(loop_wakeup_add(loop, &loop->stop));
    if (r < 0) {
        fd_closep(&loop->epoll_fd);
        free(loop);
        return r;
    }
    *ret = loop;
    return 0;
}

struct loop *loop_free(struct loop *loop)
{
    if (!loop)
        return NULL;
    ensure(!loop->is_in_round);

    ensure(loop_is_mine(loop));
    loop_wakeup_remove(loop, &loop->stop);
    ensure(loop->n_files == 0);
    timers_deinit(&loop->timers);
    fd_closep(&loop->epoll_fd);
    free(loop);
    return NULL;
}

bool loop_is_mine(const struct loop *loop)
{
    uintptr_t owner = atomic_load_explicit(&loop->owner, memory_order_relaxed);

    return owner == 0 || owner == thread_mark();
}

/* Rounded up, or the wait would end too early again and again in the last millisecond. */
static int wait_ms(const struct loop *loop, int timeout_ms)
{
    const struct loop_timer *first = timers_first(&loop->timers);

    if (!first)
        return timeout_ms;

    int64_t now_us = clock_mono().us;

    if (first->due.us <= now_us)
        return 0;

    uint64_t left_ms = ((uint64_t) first->due.us - (uint64_t) now_us + 999) / 1000;

    if (timeout_ms >= 0 && left_ms > (uint64_t) timeout_ms)
        return timeout_ms;
    return left_ms > INT_MAX ? INT_MAX : (int) left_ms;
}

static void run_files(struct loop *loop)
{
    for (size_t i = 0; i < loop->batch_len; i++) {
        struct loop_file *file = loop->batch[i].data.ptr;

        if (!file)
            continue;
        ensure(file->is_added);

        /* What a callback has meanwhile given up is not told. */
        uint32_t events =
            loop->batch[i].events & (file->events | (uint32_t) EPOLLERR | (uint32_t) EPOLLHUP);

        if (events)
            file->fn(file, events);
    }
    loop->batch_len = 0;
}

static void run_timers(struct loop *loop)
{
    struct loop_timer *timer;

    if (!timers_first(&loop->timers))
        return;

    loop->fire_time = clock_mono();
    loop->is_firing = true;
    while ((timer = timers_first(&loop->timers)) && timer->due.us <= loop->fire_time.us) {
        timers_remove(&loop->timers, timer);
        timer->fn(timer);
    }
    loop->is_firing = false;
}

int loop_run_once(struct loop *loop, int timeout_ms)
{
    ensure(!loop->is_in_round);

    loop->owner = thread_mark();

    int n = epoll_wait(loop->epoll_fd, loop->batch, BATCH_EVENTS, wait_ms(loop, timeout_ms));

    if (n < 0) {
        if (errno != EINTR)
            return fault(-errno, "cannot wait for events");
        n = 0;
    }
    loop->is_in_round = true;
    loop->batch_len = (size_t) n;
    run_files(loop);
    run_timers(loop);
    loop->is_in_round = false;
    return 0;
}

int loop_run(struct loop *loop)
{
    int r;

    do
        r = loop_run_once(loop, -1);
    while (r == 0 && !atomic_exchange(&loop->is_stopping, false));

    /* Whoever waits for this thread may take the parts down. */
    loop->owner = 0;
    return pass(r);
}

void loop_stop(struct loop *loop)
{
    atomic_store(&loop->is_stopping, true);
    loop_wakeup_fire(&loop->stop);
}

int loop_file_add(struct loop *loop, struct loop_file *file)
{
    struct epoll_event event = { .events = file->events, .data.ptr = file };

    ensure(loop_is_mine(loop));
    ensure(file->fn && !file->is_added);

    if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, file->fd, &event) < 0)
        return fault(-errno, "cannot watch fd %d", file->fd);
    file->is_added = true;
    loop->n_files++;
    return 0;
}

int loop_file_change(struct loop *loop, struct loop_file *file, uint32_t events)
{
    struct epoll_event event = { .events = events, .data.ptr = file };

    ensure(loop_is_mine(loop));
    ensure(file->is_added);

    if (file->events == events)
        return 0;
    if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_MOD, file->fd, &event) < 0)
        return fault(-errno, "cannot watch fd %d for other events", file->fd);
    file->events = events;
    return 0;
}

void loop_file_remove(struct loop *loop, struct loop_file *file)
{
    ensure(loop_is_mine(loop));

    if (!file->is_added)
        return;

    /* Fails only when the owner has closed the fd too early, and somebody else may have it by now.
     */
    ensure(epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, file->fd, NULL) == 0);
    file->is_added = false;
    ensure(loop->n_files > 0);
    loop->n_files--;

    /* The owner may free it now. */
    for (size_t i = 0; i < loop->batch_len; i++) {
        if (loop->batch[i].data.ptr == file)
            loop->batch[i].data.ptr = NULL;
    }
}

int loop_timer_arm(struct loop *loop, struct loop_timer *timer, mono_us due)
{
    ensure(loop_is_mine(loop));
    ensure(timer->fn);

    /* One that arms itself for a time that is over waits for the next round, or this one would
     * never end. */
    if (loop->is_firing && due.us <= loop->fire_time.us)
        due.us = loop->fire_time.us + 1;
    return pass(timers_put(&loop->timers, timer, due));
}

int loop_timer_arm_in(struct loop *loop, struct loop_timer *timer, int64_t delay_us)
{
    mono_us due;

    ensure(delay_us >= 0);
    if (__builtin_add_overflow(clock_mono().us, delay_us, &due.us))
        due.us = INT64_MAX;
    return pass(loop_timer_arm(loop, timer, due));
}

void loop_timer_disarm(struct loop *loop, struct loop_timer *timer)
{
    ensure(loop_is_mine(loop));
    timers_remove(&loop->timers, timer);
}
