/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/text.h"
#include "server/ops/ops.h"

#define BAR 30
#define EVERY_US 200000

void ops_progress_begin(struct ops_progress *progress, const char *what)
{
    *progress = (struct ops_progress){
        .what = what,
        .is_terminal = isatty(STDERR_FILENO) != 0,
        .began_us = clock_mono().us,
    };
}

void ops_progress_show(struct ops_progress *progress, uint64_t done_bytes, uint64_t all_bytes)
{
    char done[TEXT_SIZE_BYTES], all[TEXT_SIZE_BYTES], bar[BAR + 1];
    int64_t now_us = clock_mono().us;
    int n;

    if (!progress->is_terminal || now_us - progress->shown_us < EVERY_US ||
        now_us - progress->began_us < EVERY_US)
        return;
    progress->shown_us = now_us;
    if (all_bytes < done_bytes)
        all_bytes = done_bytes;
    n = all_bytes ? (int) ((double) done_bytes / (double) all_bytes * BAR) : 0;
    memset(bar, '.', BAR);
    memset(bar, '#', (size_t) n);
    bar[BAR] = 0;
    fprintf(stderr, "\r%s [%s] %s of %s \x1b[K", progress->what, bar,
            text_of_size(done_bytes, done), text_of_size(all_bytes, all));
    progress->is_shown = true;
}

void ops_progress_say(struct ops_progress *progress, const char *text)
{
    int64_t now_us = clock_mono().us;

    if (!progress->is_terminal || now_us - progress->shown_us < EVERY_US)
        return;
    progress->shown_us = now_us;
    fprintf(stderr, "\r%s %s \x1b[K", progress->what, text);
    progress->is_shown = true;
}

void ops_progress_end(struct ops_progress *progress)
{
    if (progress->is_shown)
        fputs("\r\x1b[K", stderr);
    progress->is_shown = false;
}
