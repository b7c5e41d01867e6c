#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The audit object, for the files of server/audit only.
 *
 *   row.c    rows, pure             event.c    the table of events
 *   audit.c  the chain's end        notes.c    what is queued, its rate, the thread
 *   days.c   into files, and away   segment.c  segment_write.c  files of closed days
 *   walk.c   both as one chain      find.c verify.c  what is asked of it
 *   anchor.c heads that are signed
 */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/base/map.h"
#include "server/audit/audit.h"
#include "server/audit/row.h"
#include "server/store/store.h"

/* An entry that waits: without number and hash, which it gets when it is written. */
struct note {
    struct note *next;
    int64_t time_us;
    bool is_failure;
    uint8_t n_fields;
    uint32_t n_bytes;
    uint8_t texts[];
};

/* How often somebody noted an event in this minute. */
struct note_rate {
    enum audit_event event;
    uint32_t n, n_left_out;
    uint32_t key_len;
    char key[]; /* the event's code, and who */
};

struct audit {
    struct store *store; /* borrowed */
    char *directory;
    int (*sign)(void *ctx, struct span data, struct buf *to);
    void *ctx;
    pthread_t thread;
    pthread_mutex_t tick_lock; /* one tick at a time; before `shared.lock` */
    _Atomic uint64_t n_left_out, n_failed;

    struct {
        pthread_mutex_t lock;
        pthread_cond_t wake;
        bool has_thread, is_stopping;
        struct audit_limits limits;
        struct note *first, **end;
        size_t n_notes, n_bytes;
        int64_t minute; /* that the rates are of */
        struct map rates;
        struct {
            uint32_t n;          /* noted in this minute, whoever it was from */
            uint64_t n_unlisted; /* left out of these, without a rate of their own */
        } events[AUDIT_N_EVENTS];
        bool has_anchor;
        struct audit_anchor anchor;
        uint64_t anchored_at; /* number of its own entry */
    } shared;
};

/* ---- audit.c ---- */

/* The last entry; number 0: there is none. */
int audit_head_in(struct store_change *change, struct row_head *ret) MUST_USE;
int audit_head(struct audit *audit, struct row_head *ret) MUST_USE;
/* Appends an entry whose texts are made already. Outcomes: STORE_FULL. */
struct audit_frame {
    int64_t time_us;
    bool is_failure;
    uint8_t n_fields;
    struct span texts;
};
int audit_append(struct store_change *change, const struct audit_frame *frame) MUST_USE;

/* ---- days.c ---- */

int audit_days_close(struct audit *audit, const struct audit_limits *limits, wall_us now) MUST_USE;
int audit_days_drop(struct audit *audit, const struct audit_limits *limits, wall_us now) MUST_USE;
/* What a killed hub left of a file that was not whole. */
int audit_days_clean(struct audit *audit) MUST_USE;
/* Up to where entries went; last 0: none did. */
int audit_days_dropped(struct audit *audit, struct row_dropped *ret) MUST_USE;

/* ---- notes.c ---- */

void notes_init(struct audit *audit);
int notes_start(struct audit *audit) MUST_USE;
void notes_stop(struct audit *audit);
/* Writes what is queued. Blocks. Outcomes: AUDIT_FULL (it stays queued). */
int notes_write(struct audit *audit) MUST_USE;
/* What is still queued is lost: counted and said. */
void notes_deinit(struct audit *audit);
