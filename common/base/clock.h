#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Clocks. Two types on purpose: a wall time never goes where a monotonic one belongs.
 *
 *   wall_us   microseconds since 1970 UTC; jumps when the clock is set.
 *   mono_us   microseconds of CLOCK_MONOTONIC; for durations and timers.
 *
 * A test replaces the source with clock_set_source(); everything of ours reads time here.
 */

#include <stdint.h>

typedef struct {
    int64_t us;
} wall_us;

typedef struct {
    int64_t us;
} mono_us;

wall_us clock_wall(void);
mono_us clock_mono(void);

typedef wall_us clock_wall_fn(void);
typedef mono_us clock_mono_fn(void);

/* NULL puts the kernel's clock back. Not thread-safe: before threads start. */
void clock_set_source(clock_wall_fn *wall, clock_mono_fn *mono);
