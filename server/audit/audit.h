#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Audit: an append-only record of privileged acts and of who came, that shows when it was changed.
 *
 * Each entry carries the SHA-256 of the one before; the head of the chain is signed every ten
 * minutes (an anchor), logged, and sent to agents in Welcome, so that a chain that was cut or
 * rewritten no longer fits what others have seen. Today and the hot days (90 by default) lie in
 * `state`, table AUDIT; older closed days are compressed segments, audit/<day>, kept for a year.
 *
 * Two ways in. A privileged act writes its entry in the transaction of the act itself
 * (audit_put_in()): when the entry cannot be written, the act does not happen. What only tells
 * (authentications, sessions) goes through audit_note(): queued, written in groups, rate-limited by
 * event and source with a count of what was left out.
 *
 * Other processes (offline commands) write to the same chain: its head is read in the transaction
 * that appends.
 *
 * Entries are events.tbl's: event name and stable code, a different one for success and failure.
 *
 * Glossary:   head     number and hash of the last entry
 *             anchor   a head, a time, and the hub's signature over both
 * Thread:     any.
 * Start here: front and pki make entries; audit_put_in().
 */

#include <stdbool.h>
#include <stdint.h>

#include "common/base/arena.h"
#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/span.h"
#include "server/store/store.h"

struct audit;

/* Stored by code, never by number. */
enum audit_event {
#define AUDIT_EVENT(id, name, code, severity, help) AUDIT_##id,
#include "server/audit/events.tbl"
#undef AUDIT_EVENT
    AUDIT_N_EVENTS
};
const char *audit_event_name(enum audit_event event); /* "token.created" */
const char *audit_event_code(enum audit_event event); /* "STK001I" */
const char *audit_event_help(enum audit_event event);

struct audit_field {
    const char *key, *value;
};
#define AUDIT_MAX_FIELDS 16

/* Texts are borrowed; NULL is empty. Each is cut at 1,024 bytes, with a mark; no secrets. */
struct audit_entry {
    enum audit_event event;
    const char *actor;       /* "operator/anna", "agent/web-1", "local/root", "hub" */
    const char *source;      /* the peer's address; empty: on this machine */
    const char *object;      /* "token/k7mq2h5x", "agent/web-1", "certificate/<sha256>" */
    const char *correlation; /* of the call; empty: none */
    const struct audit_field *fields;
    size_t n_fields;
};

enum audit_outcome {
    AUDIT_OK = 0,
    AUDIT_FULL,      /* no room: nothing was written, and the act must not happen */
    AUDIT_BROKEN,    /* verify: see what it says */
    AUDIT_NOT_FOUND, /* no such day or entry */
};

struct audit_limits {
    int64_t hot_us, cold_us; /* age of entries in the table, of all; 0: 90 days, 365 days */
    uint64_t hot_entries;    /* of them in the table at most; 0: 2 million */
    /* Of one event by one actor (of a refusal: from one address, and ten times as many from all);
     * 0: 60. */
    uint32_t notes_per_minute;
};

struct audit_options {
    struct store *store;
    const char *directory; /* <state>/audit: closed days; audit_start() makes it */
    struct audit_limits limits;
    /* Signs anchors: appends a signature over the SHA-256 of what it is given. NULL: no anchors
     * (offline commands). On the thread, and in audit_tick() and audit_stop(). */
    int (*sign)(void *ctx, struct span data, struct buf *to);
    void *ctx;
};
int audit_open(struct audit **ret, const struct audit_options *options) MUST_USE;
/* The hub, when `sign` can be called: a thread writes notes from now on, and ticks each minute.
 * Without it they wait for audit_tick() or the end. */
int audit_start(struct audit *audit) MUST_USE;
/* Writes what is queued, and (with `sign`) an anchor over all of it; the thread ends. Blocks. What
 * is noted afterwards is written by audit_close(). */
void audit_stop(struct audit *audit);
/* Stops when that was not done. After it nobody has an entry any more. */
struct audit *audit_close(struct audit *audit);
DEFINE_CLEANUP(struct audit *, audit_close);
void audit_set_limits(struct audit *audit, const struct audit_limits *limits);

/* The entry in the transaction of the act. Outcomes: STORE_FULL (of the store: hand it on). */
int audit_put_in(struct store_change *change, const struct audit_entry *entry) MUST_USE;
/* In a transaction of its own, durable when it returns. Blocks. Outcomes: AUDIT_FULL. */
int audit_put(struct audit *audit, const struct audit_entry *entry) MUST_USE;
/* Queued; copies. Does not block, never fails: what cannot be kept is counted, and the count is an
 * entry of its own. */
void audit_note(struct audit *audit, const struct audit_entry *entry);

/* What the thread does each minute: writes what is queued, closes days, makes anchors when they are
 * due, drops what is too old. Blocks. */
int audit_tick(struct audit *audit, wall_us now) MUST_USE;

#define AUDIT_SIGNATURE_BYTES 80
struct audit_anchor {
    wall_us time;
    uint64_t entry; /* number of the head, from 1 */
    uint8_t sha256[32];
    uint8_t signature[AUDIT_SIGNATURE_BYTES];
    uint32_t n_signature;
};
/* The newest one. Does not block. Outcomes: AUDIT_NOT_FOUND. */
int audit_get_anchor(struct audit *audit, struct audit_anchor *ret) MUST_USE;
/* What an anchor's signature is over: "sentinel-audit-anchor-1", time, entry, hash; little-endian.
 */
void audit_anchor_signed_bytes(const struct audit_anchor *anchor, struct buf *to);

/* An entry as it was read; texts lie in the arena of who asked. */
struct audit_record {
    uint64_t number;
    wall_us time;
    const char *event, *code, *actor, *source, *object, *correlation;
    bool is_failure;
    const struct audit_field *fields;
    size_t n_fields;
    uint8_t sha256[32], sha256_before[32];
};

struct audit_question {
    wall_us from, to;  /* to.us 0: now */
    const char *event; /* name, code, or a pattern with `*`; NULL: any. The next ones alike. */
    const char *actor, *source, *object;
    bool failures_only;
    bool is_oldest_first;
    uint64_t beyond; /* go on behind this number; 0: from the start */
    uint32_t limit;
};
/* At most `limit` of them, in the arena. *ret_has_more: there may be others behind the last. */
int audit_find(struct audit *audit,
               const struct audit_question *question,
               struct arena *arena,
               struct audit_record **ret,
               size_t *ret_n,
               bool *ret_has_more) MUST_USE;
/* Every entry of the range in order, to a SIEM: one JSON object a line. fn returns false to stop.
 */
int audit_export(struct audit *audit,
                 wall_us from,
                 wall_us to,
                 bool (*fn)(void *ctx, struct span line),
                 void *ctx) MUST_USE;
/* One entry as JSON without the newline: the form of export, log and tail. */
void audit_record_print(const struct audit_record *record, struct buf *to);

struct audit_verdict {
    uint64_t n_entries, first, last; /* that are good */
    uint64_t n_anchors;              /* that fit */
    uint64_t anchored;               /* the last entry that one of them covers */
    uint64_t n_anchors_refused;      /* given, but not signed by the hub: they say nothing */
    uint64_t n_days;                 /* that are files */
    uint64_t bad_entry;              /* where it broke; 0: nowhere */
    char why[256];
};
/*
 * Walks the chain from the oldest entry on and compares the anchors on record, and those given
 * (from agents or a log; for one without a signature who gives it answers). `check` looks at a
 * signature over audit_anchor_signed_bytes(); NULL: signatures are not looked at. Also beside the
 * hub that writes: it ends at the head as of now.
 *
 * Outcomes: AUDIT_BROKEN (ret says where).
 */
int audit_verify(struct audit *audit,
                 const struct audit_anchor *anchors,
                 size_t n_anchors,
                 bool (*check)(void *ctx, struct span data, struct span signature),
                 void *ctx,
                 struct audit_verdict *ret) MUST_USE;

struct audit_stats {
    uint64_t head;       /* number of the last entry, whoever wrote it */
    uint64_t n_left_out; /* since the start: by their rate, or because the queue was full */
    uint64_t n_failed;   /* entries of privileged acts that could not be written */
};
/* Reads the store: not on call threads. */
void audit_get_stats(struct audit *audit, struct audit_stats *ret);
/* For store_survey(): what is wrong with a row of the table AUDIT; NULL: nothing. */
const char *audit_check_row(void *ctx, enum store_table table, struct span key, struct span value);
