/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/progress.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/text.h"

#define BAR 30
#define EVERY_US 200000
#define SECOND_US INT64_C(1000000)

void progress_begin(struct progress *progress, const char *what)
{
    *progress = (struct progress){
        .what = what,
        .is_terminal = isatty(STDERR_FILENO) != 0,
        .began_us = clock_mono().us,
    };
}

static void put_bar(uint64_t done_bytes, uint64_t all_bytes)
{
    char bar[BAR + 1];
    int n = (int) ((double) done_bytes / (double) all_bytes * BAR);

    memset(bar, '.', BAR);
    memset(bar, '#', (size_t) (n < BAR ? n : BAR));
    bar[BAR] = 0;
    fprintf(stderr, " [%s]", bar);
}

void progress_show(struct progress *progress, uint64_t done_bytes, uint64_t all_bytes)
{
    char done[TEXT_SIZE_BYTES], all[TEXT_SIZE_BYTES], rate[TEXT_SIZE_BYTES],
        left[TEXT_DURATION_BYTES];
    const int64_t now_us = clock_mono().us, took_us = now_us - progress->began_us;
    double per_us;

    if (!progress->is_terminal || now_us - progress->shown_us < EVERY_US || took_us < EVERY_US)
        return;
    progress->shown_us = now_us;
    progress->is_shown = true;
    per_us = (double) done_bytes / (double) took_us;
    fprintf(stderr, "\r%s", progress->what);
    if (all_bytes)
        put_bar(done_bytes, all_bytes);
    fprintf(stderr, " %s", text_of_size(done_bytes, done));
    if (all_bytes)
        fprintf(stderr, " of %s", text_of_size(all_bytes, all));
    fprintf(stderr, ", %s/s", text_of_size((uint64_t) (per_us * 1e6), rate));
    if (all_bytes > done_bytes && per_us > 0)
        fprintf(stderr, ", %s left",
                text_of_duration_us((int64_t) ((double) (all_bytes - done_bytes) / per_us) /
                                        SECOND_US * SECOND_US,
                                    left));
    fputs(" \x1b[K", stderr);
}

void progress_say(struct progress *progress, const char *text)
{
    const int64_t now_us = clock_mono().us;

    if (!progress->is_terminal || now_us - progress->shown_us < EVERY_US)
        return;
    progress->shown_us = now_us;
    progress->is_shown = true;
    fprintf(stderr, "\r%s %s \x1b[K", progress->what, text);
}

void progress_end(struct progress *progress)
{
    if (progress->is_shown)
        fputs("\r\x1b[K", stderr);
    progress->is_shown = false;
}
