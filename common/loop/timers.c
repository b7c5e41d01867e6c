/* SPDX-License-Identifier: Apache-2.0 */
#include "common/loop/timers.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/loop/loop.h"

#define CAPACITY_MIN 16

static bool is_before(const struct timers_entry *a, const struct timers_entry *b)
{
    if (a->due.us != b->due.us)
        return a->due.us < b->due.us;
    return a->sequence < b->sequence;
}

static void set(struct timers *timers, size_t at, struct timers_entry entry)
{
    timers->heap[at] = entry;
    entry.timer->slot = at + 1;
}

/* Puts the entry where it belongs, from a place whose own entry is moved or gone. */
static void place(struct timers *timers, size_t at, struct timers_entry entry)
{
    while (at > 0 && is_before(&entry, &timers->heap[(at - 1) / 2])) {
        set(timers, at, timers->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    for (;;) {
        size_t child = 2 * at + 1;

        if (child + 1 < timers->n_entries &&
            is_before(&timers->heap[child + 1], &timers->heap[child]))
            child++;
        if (child >= timers->n_entries || !is_before(&timers->heap[child], &entry))
            break;
        set(timers, at, timers->heap[child]);
        at = child;
    }
    set(timers, at, entry);
}

static int grow(struct timers *timers)
{
    size_t capacity = timers->capacity ? timers->capacity * 2 : CAPACITY_MIN;
    struct timers_entry *heap = reallocarray(timers->heap, capacity, sizeof(*heap));

    if (!heap)
        return fault(-ENOMEM, "no memory for %zu timers", capacity);
    timers->heap = heap;
    timers->capacity = capacity;
    return 0;
}

void timers_deinit(struct timers *timers)
{
    ensure(timers->n_entries == 0);
    free(timers->heap);
    *timers = (struct timers){ 0 };
}

int timers_put(struct timers *timers, struct loop_timer *timer, mono_us due)
{
    size_t at = timer->slot;

    if (at == 0) {
        if (timers->n_entries == timers->capacity) {
            int r = grow(timers);

            if (r < 0)
                return pass(r);
        }
        at = ++timers->n_entries;
    } else {
        ensure(at <= timers->n_entries && timers->heap[at - 1].timer == timer);
    }
    timer->due = due;
    place(timers, at - 1,
          (struct timers_entry){
              .due = due,
              .sequence = timers->next_sequence++,
              .timer = timer,
          });
    return 0;
}

void timers_remove(struct timers *timers, struct loop_timer *timer)
{
    size_t at = timer->slot;

    if (at == 0)
        return;
    ensure(at <= timers->n_entries && timers->heap[at - 1].timer == timer);
    timer->slot = 0;

    struct timers_entry last = timers->heap[--timers->n_entries];

    if (last.timer != timer)
        place(timers, at - 1, last);
}

struct loop_timer *timers_first(const struct timers *timers)
{
    return timers->n_entries > 0 ? timers->heap[0].timer : NULL;
}
