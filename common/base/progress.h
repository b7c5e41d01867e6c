#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/* Progress: one line on stderr that is written over, on a terminal alone. Thread: one. */

#include <stdbool.h>
#include <stdint.h>

struct progress {
    const char *what;
    bool is_terminal, is_shown;
    int64_t began_us, shown_us;
};

/* `what` is borrowed: "uploading". Nothing is shown of what takes less than 0.2 s. */
void progress_begin(struct progress *progress, const char *what);
/* A bar, what is done, how fast, how much longer. all_bytes 0: not known. */
void progress_show(struct progress *progress, uint64_t done_bytes, uint64_t all_bytes);
/* Words of its own in place of the bar. */
void progress_say(struct progress *progress, const char *text);
/* Clears the line: before anything else is printed. */
void progress_end(struct progress *progress);
