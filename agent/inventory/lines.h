#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Lines of a file, or of what a program prints, one at a time: for what is too long to be held.
 * Private to agent/inventory.
 *
 *     lines_open(&lines, t, "var/lib/dpkg/status");
 *     while ((line = lines_next(&lines)))
 *         ...
 *     error = lines_close(&lines);
 */

#include <sys/types.h>

#include "agent/inventory/table.h"

/* A longer line is cut. */
#define LINES_BYTES ((size_t) 32 << 10)

struct lines {
    struct table *t;
    int fd;
    pid_t pid; /* 0: a file */
    int64_t due_us;
    char *text; /* LINES_BYTES and a NUL */
    size_t begin, end;
    bool is_over, is_cut; /* the rest of a line is still to be passed over */
    int error;
};

/* Of a file below the root. Always to be closed; what failed comes with that. */
void lines_open(struct lines *lines, struct table *t, const char *path);
/* Of a program, as table_run(); its end counts when all was read. */
void lines_run(struct lines *lines, struct table *t, const char *const *argv);
/* The next line without its end, which may be written to, until the next call; NULL at the end. */
char *lines_next(struct lines *lines);
/* 0, or an errno: it could not be read to its end. */
int lines_close(struct lines *lines) MUST_USE;
