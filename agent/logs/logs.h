#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Logs: what files, the journal and the kernel write becomes batches in the spool, each line once.
 *
 * Files are followed by patterns. What a file is known by is its device and inode, when it was born
 * where the file system tells, a hash of its first kilobyte and of the bytes before the place that
 * was read last: so a rotation by renaming, a copy with truncation and an inode that is used again
 * are told apart. The place is committed with the lines themselves (spool_put_logs()): after a
 * crash both are there or neither.
 *
 *   renamed     read on to its end under its old name, and for rotated_grace after that
 *   truncated   the rest that was not read yet is looked for in the copy beside it
 *   missed      files beside a followed one that were born since the last look are read too
 *
 * The journal is read through `journalctl -o export`, so that every form of its files is; the
 * kernel through /dev/kmsg. A file on a network file system is not followed: one that hangs would
 * stop the agent.
 *
 * Lines of files that exist when a pattern is seen for the first time are passed over (start at the
 * end), unless settings say otherwise.
 *
 * Files: text.c records, severity, time; screen.c filters and redaction; tail.c one file; tails.c
 * which files; watch.c when to look; journal.c, kmsg.c, export.c; batch.c into the spool.
 *
 * Thread: the loop's, for everything. Blocks on local disks.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/spool/spool.h"
#include "common/base/cleanup.h"
#include "common/base/clock.h"

struct loop;
struct logs;

/* As the settings have them; everything is copied. */
struct logs_settings {
    const char *const *files, *const *files_exclude; /* patterns of glob(7) */
    size_t n_files, n_files_exclude;
    const char *const *multiline; /* "PATTERN REGEX": a record begins where a line matches */
    size_t n_multiline;
    const char *const *attributes; /* "PATTERN key=value" */
    size_t n_attributes;
    const char *const *include, *const *exclude, *const *redact; /* screen.h */
    size_t n_include, n_exclude, n_redact;
    bool from_beginning;
    uint64_t max_record_bytes; /* longer ones come in parts */
    uint64_t max_files;
    int64_t rotated_grace_us, multiline_timeout_us;
    bool journald;
    const char *journalctl; /* the program */
    const char *const *journald_units;
    size_t n_journald_units;
    bool kmsg;
    const char *root; /* in front of patterns */
};

struct logs_options {
    struct loop *loop;
    struct spool *spool; /* outlives the logs */
    struct logs_settings settings;
    /* Records went into the spool. NULL: nobody wants to know. */
    void (*on_put)(void *ctx);
    void *ctx;
};

enum logs_outcome {
    LOGS_OK = 0,
    LOGS_BAD, /* a setting; ret_error says which, and why */
};
struct logs_error {
    char text[320];
};
int logs_new(struct logs **ret,
             const struct logs_options *options,
             struct logs_error *ret_error) MUST_USE;
struct logs *logs_free(struct logs *logs);
DEFINE_CLEANUP(struct logs *, logs_free);
/* Other settings from now on; what is wrong with them leaves the old ones. Outcomes: LOGS_BAD. */
int logs_configure(struct logs *logs,
                   const struct logs_settings *settings,
                   struct logs_error *ret_error) MUST_USE;
/* Only looks at them. Outcomes: LOGS_BAD. */
int logs_check(const struct logs_settings *settings, struct logs_error *ret_error) MUST_USE;
/*
 * What the hub takes as a record's body (Limits.log_body_bytes of its welcome), where it is less
 * than max_record_bytes: longer records come in parts from now on. 0: it did not say.
 */
void logs_set_hub_limit(struct logs *logs, uint64_t bytes);
/* The spool has room again. */
void logs_on_room(struct logs *logs);
/* Reads what there is, once, as far as the spool takes it: before a stop. */
void logs_flush(struct logs *logs);

struct logs_status {
    uint64_t n_files;    /* followed now */
    uint64_t n_records;  /* put, since the start; with all sources */
    uint64_t n_bytes;    /* of their bodies */
    uint64_t n_filtered; /* not wanted */
    uint64_t n_redacted; /* places */
    uint64_t n_parts;    /* records that were too long, in parts */
    uint64_t n_rotated, n_truncated;
    uint64_t n_truncated_lost; /* truncations whose rest was found nowhere */
    uint64_t n_kernel_lost;    /* the kernel overwrote before they were read */
    uint64_t n_unreadable;     /* files that may not be read, or lie on a network file system */
    uint64_t behind_bytes;     /* of the files, not read yet */
    bool is_blocked;           /* the spool has no room */
    char journal_state[64];    /* "off", "running", or why not */
    char kernel_state[64];
    char error[200]; /* the newest */
};
void logs_get_status(const struct logs *logs, struct logs_status *ret);

/* NULL at the end: names for logs.redact. */
const char *const *logs_redactions(void);
