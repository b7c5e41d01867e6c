#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Doctor: checks of everything that the agent needs on this machine, a line each, with the remedy.
 * Private to agent/cli.
 */

#include "agent/settings.h"
#include "common/base/buf.h"
#include "common/base/cleanup.h"

enum doctor_verdict { DOCTOR_OK, DOCTOR_WARNING, DOCTOR_FAILED, DOCTOR_SKIPPED };

struct doctor_line {
    char name[40];
    enum doctor_verdict verdict;
    char detail[384];
    char remedy[384]; /* empty when there is nothing to do */
};

/* One line each for some 30 collectors and 8 kinds of files, and those of the connection. */
#define DOCTOR_MAX_LINES 96

struct json;
struct doctor {
    const struct settings *settings;
    struct json *status; /* what the agent wrote last; NULL: there is none */
    bool is_running;
    size_t n_lines;
    struct doctor_line lines[DOCTOR_MAX_LINES];
};

/* Adds a line; formats the detail. */
struct doctor_line *doctor_add(struct doctor *doctor,
                               const char *name,
                               enum doctor_verdict verdict,
                               const char *fmt,
                               ...) PRINTF_LIKE(4, 5);
void doctor_advise(struct doctor_line *line, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* doctor_host.c: the policy, roots, state directory, disk, spool, and how the running agent does.
 */
void doctor_check_host(struct doctor *doctor);
/* doctor_rights.c: what collectors and logs may not read, and the service manager. */
int doctor_check_rights(struct doctor *doctor) MUST_USE;

/* All of it, in order. */
int doctor_run(struct doctor *doctor) MUST_USE;
void doctor_print(const struct doctor *doctor, bool is_json, struct buf *to);
/* A cli_exit: 1 where something failed, 6 where there are warnings only. */
int doctor_exit(const struct doctor *doctor);
void doctor_deinit(struct doctor *doctor);
