/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/clock.h"

#include <time.h>

#include "common/base/ensure.h"

static int64_t kernel_us(clockid_t clock)
{
    struct timespec now;
    int r = clock_gettime(clock, &now);

    ensure(r == 0);
    return (int64_t) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static wall_us kernel_wall(void)
{
    return (wall_us){ kernel_us(CLOCK_REALTIME) };
}

static mono_us kernel_mono(void)
{
    return (mono_us){ kernel_us(CLOCK_MONOTONIC) };
}

static clock_wall_fn *wall_source = kernel_wall;
static clock_mono_fn *mono_source = kernel_mono;

wall_us clock_wall(void)
{
    return wall_source();
}

mono_us clock_mono(void)
{
    return mono_source();
}

void clock_set_source(clock_wall_fn *wall, clock_mono_fn *mono)
{
    wall_source = wall ? wall : kernel_wall;
    mono_source = mono ? mono : kernel_mono;
}
