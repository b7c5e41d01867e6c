#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Loop: one thread's event loop on epoll, with files, timers, wake-ups from other threads, and
 * signals.
 *
 * The parts are embedded in their owners, who set `fn` and find themselves back with container_of()
 * or `ctx`. A callback may add, change and remove any part, also itself.
 *
 * Thread: everything but loop_wakeup_fire() and loop_stop() belongs to the thread that runs the
 * loop.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/list.h"

struct loop;

int loop_new(struct loop **ret) MUST_USE;
/* Every part must have been removed before. */
struct loop *loop_free(struct loop *loop);
DEFINE_CLEANUP(struct loop *, loop_free);

/* Runs until loop_stop(); returns 0, or a fault. */
int loop_run(struct loop *loop) MUST_USE;
/* One round: waits at most timeout_ms (-1: until something happens), runs what is due. */
int loop_run_once(struct loop *loop, int timeout_ms) MUST_USE;
/* Makes loop_run() return after this round, or the next one to start after its first. Thread: any.
 */
void loop_stop(struct loop *loop);
/* Whether the calling thread may touch the loop: it made its last round, or nobody has since
 * loop_run() returned. */
bool loop_is_mine(const struct loop *loop);

struct loop_file {
    int fd;
    uint32_t events; /* EPOLLIN, EPOLLOUT */
    void (*fn)(struct loop_file *file, uint32_t events);
    void *ctx;
    bool is_added; /* the loop's */
};
int loop_file_add(struct loop *loop, struct loop_file *file) MUST_USE;
int loop_file_change(struct loop *loop, struct loop_file *file, uint32_t events) MUST_USE;
/* Fine when it is not added. Before the fd is closed; it stays open. */
void loop_file_remove(struct loop *loop, struct loop_file *file);

struct loop_timer {
    void (*fn)(struct loop_timer *timer);
    void *ctx;
    mono_us due; /* the loop's */
    size_t slot; /* the loop's: place in the heap + 1; 0: not armed */
};
/* Fires once; arming again moves it. Armed for now or earlier by a timer's callback, it fires in
 * the next round. */
int loop_timer_arm(struct loop *loop, struct loop_timer *timer, mono_us due) MUST_USE;
int loop_timer_arm_in(struct loop *loop, struct loop_timer *timer, int64_t delay_us) MUST_USE;
void loop_timer_disarm(struct loop *loop, struct loop_timer *timer);

/* Many fires before the loop gets to it are one call of fn. */
struct loop_wakeup {
    void (*fn)(struct loop_wakeup *wakeup);
    void *ctx;
    struct loop_file file; /* the loop's */
};
int loop_wakeup_add(struct loop *loop, struct loop_wakeup *wakeup) MUST_USE;
void loop_wakeup_remove(struct loop *loop, struct loop_wakeup *wakeup);
/* Thread: any, also a signal handler's; between loop_wakeup_add() and loop_wakeup_remove(). */
void loop_wakeup_fire(struct loop_wakeup *wakeup);

/* Signals, blocked in the calling thread (call before others start) and delivered here one by one.
 */
struct loop_signals {
    void (*fn)(struct loop_signals *signals, int number);
    void *ctx;
    struct loop_file file; /* the loop's */
};
/* `numbers` ends with 0. They stay blocked after loop_signals_remove(). */
int loop_signals_add(struct loop *loop, struct loop_signals *signals, const int *numbers) MUST_USE;
void loop_signals_remove(struct loop *loop, struct loop_signals *signals);
