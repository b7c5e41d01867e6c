#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Timers: a binary heap by due time; of two that are due together the one armed first comes first.
 * Private to loop.
 *
 * Threads: none.
 */

#include <stddef.h>
#include <stdint.h>

#include "common/base/cleanup.h"
#include "common/base/clock.h"

struct loop_timer;

struct timers_entry {
    mono_us due;
    uint64_t sequence;
    struct loop_timer *timer;
};

struct timers {
    struct timers_entry *heap;
    size_t n_entries;
    size_t capacity;
    uint64_t next_sequence;
};

void timers_deinit(struct timers *timers);

/* Arms, or moves when it is armed. Faults: no memory, then it is as it was. */
int timers_put(struct timers *timers, struct loop_timer *timer, mono_us due) MUST_USE;
/* Fine when it is not armed. */
void timers_remove(struct timers *timers, struct loop_timer *timer);

/* The next one due, still armed; NULL when there is none. */
struct loop_timer *timers_first(const struct timers *timers);
