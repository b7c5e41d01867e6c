#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Spool: what was collected and is not yet acknowledged by the hub, on disk.
 *
 * There is a queue for each signal (metrics, logs). A producer puts batches;
 * each is written to a segment file before the put returns, so it survives a
 * kill -9 from then on, and a power cut once it was synced (`sync_us`; 0:
 * before the put returns). Nothing leaves for the hub before it is synced: so a
 * power cut loses at most the batches of the last sync_us, none of which the
 * hub has seen or may be waiting to acknowledge.
 *
 * Batches are numbered 1, 2, 3 ... in runs, each under a spool id. A process
 * opens a new live run; the runs of earlier ones are closed, and drained as
 * BACKFILL, oldest first. spool_rotate() closes the live run when it has fallen
 * behind. What is acknowledged is remembered with the counts of the ledger in
 * one write, then the segments are removed.
 *
 * The ledger of each signal, in records (samples, log records), holds at every
 * moment and over restarts:
 *
 *     produced = acknowledged + queued + dropped[reason]
 *
 * A queue has limits of size and age. At the limit of size its policy says what
 * goes: the oldest segment that was certainly never sent (what may be at the
 * hub already is never dropped, so that nothing is counted twice), the new
 * batch, or nothing: the producer is told to wait. What is dropped or damaged
 * becomes a skip in its run. Damage never keeps the spool from opening: what
 * cannot be read is skipped, counted, and set aside as *.damaged. Where nothing
 * can be written, a few segments are kept in memory instead (is_volatile), and
 * it is said.
 *
 *   <directory>/metrics|logs/   RUN-SEQUENCE.seg (segment.h), state.0 state.1
 * (state.h), offsets.0 offsets.1, *.damaged (at most SPOOL_DAMAGED_KEPT)
 *   <directory>/refused/        batches that the hub refuses for what they are,
 * each with its reason (at most SPOOL_REFUSED_KEPT)
 *
 * The offsets of producers of logs are committed with their batches: batch.h.
 *
 * Glossary:   batch   a scrape, or log records of one source       run batches
 * under a spool id segment a file of a run        skip   numbers without a
 * batch, and why Thread:     the loop's, for everything. Blocks on the disk.
 * Start here: spool_put(), spool_put_logs() to produce; spool_reader_open() to
 * send.
 */

#include "agent/spool/batch.h"
#include "agent/spool/series.h"

struct spool;

enum spool_signal { SPOOL_METRICS, SPOOL_LOGS, SPOOL_SIGNALS };
/* "metrics", "logs"; also the directory. */
const char *spool_signal_name(enum spool_signal signal);

enum spool_outcome {
    SPOOL_OK = 0,
    SPOOL_EMPTY,     /* nothing more, at the moment */
    SPOOL_BEYOND,    /* that sequence was never sent: the hub speaks of another run */
    SPOOL_FULL,      /* policy BLOCK: nothing was taken; put it again after on_room */
    SPOOL_TOO_LARGE, /* over SPOOL_MAX_BATCH_BYTES as it would be written: split it */
    SPOOL_IN_USE,    /* another process has this directory */
};

#define SPOOL_DAMAGED_KEPT 16
#define SPOOL_REFUSED_KEPT 64

enum spool_policy { SPOOL_DROP_OLDEST, SPOOL_DROP_NEWEST, SPOOL_BLOCK };

/* Of one signal. */
struct spool_limits {
    uint64_t limit_bytes; /* of its files; at least SPOOL_MIN_LIMIT_BYTES */
    int64_t max_age_us;   /* of a batch; older segments become a skip; 0: no limit */
    enum spool_policy policy;
    int64_t sync_us; /* 0: each batch is synced by its put; else by spool_tick(), so
                        long behind the last sync: at once when that is longer ago */
};
#define SPOOL_MIN_LIMIT_BYTES (256u << 10)

struct spool_options {
    const char *directory; /* made when absent; NULL: in memory alone, for tests
                              and probes */
    struct spool_limits limits[SPOOL_SIGNALS];
    /* There is room again after SPOOL_FULL. May be NULL. Puts are fine inside. */
    void (*on_room)(void *ctx, enum spool_signal signal);
    /* A batch waits to be synced: spool_tick() is wanted in so long. NULL: it is called anyway. */
    void (*on_unsynced)(void *ctx, int64_t in_us);
    void *ctx;
};

/*
 * Opens it, whatever lies there; closes the runs that it finds. Reads the
 * directory, the heads and ends of the segments, and all of those that a
 * process left without an end. Faults: no memory.
 */
int spool_open(struct spool **ret, const struct spool_options *options) MUST_USE;
/* Syncs, and ends the segment that is written. Readers are closed before. */
struct spool *spool_close(struct spool *spool);
DEFINE_CLEANUP(struct spool *, spool_close);

/* Takes effect at the next put or tick. */
void spool_set_limits(struct spool *spool,
                      enum spool_signal signal,
                      const struct spool_limits *limits);
/* Syncs what is due and drops what is too old; returns in how many microseconds
 * to call again. */
int64_t spool_tick(struct spool *spool);

/* ---- producing ---- */

/* One scrape is one batch. BLOCK is DROP_NEWEST here: a moment cannot be put
 * off. Outcomes: SPOOL_TOO_LARGE. A disk that cannot be written is no fault:
 * see is_volatile. */
int spool_put(struct spool *spool, const struct spool_scrape *scrape) MUST_USE;
/* Logs: spool_put_logs() of batch.h. */

/* ---- sending ---- */

/*
 * A reader sends one run. What it hands out comes in order, is synced, and has
 * the numbers of the wire (those of a forked run begin anew).
 */
struct spool_reader;

enum spool_lane { SPOOL_LIVE, SPOOL_BACKFILL };

/* LIVE: the live run. BACKFILL: the oldest closed run that has anything to send
 * or to tell. One reader of a run at a time. Outcomes: SPOOL_EMPTY (nothing to
 * backfill). */
int spool_reader_open(struct spool_reader **ret,
                      struct spool *spool,
                      enum spool_signal signal,
                      enum spool_lane lane) MUST_USE;
struct spool_reader *spool_reader_close(struct spool_reader *reader);
DEFINE_CLEANUP(struct spool_reader *, spool_reader_close);

#define SPOOL_ID_BYTES 16
/* What a hello says. */
struct spool_run {
    uint8_t id[SPOOL_ID_BYTES];
    uint64_t first_sequence; /* last_sequence + 1 when there is nothing */
    uint64_t last_sequence;
    uint32_t crc32c_before_first; /* of the last acknowledged item as it was sent;
                                     0: none */
};
void spool_reader_get_run(const struct spool_reader *reader, struct spool_run *ret);

/* Numbers of sentinel.telemetry.v1.SkipReason. */
enum spool_reason {
    SPOOL_QUEUE_FULL = 1,
    SPOOL_TOO_OLD = 2,
    SPOOL_REFUSED = 3,
    SPOOL_DAMAGED = 4,
    SPOOL_REASONS,
};
/* "queue_full", "too_old", "refused", "damaged" */
const char *spool_reason_name(enum spool_reason reason);

struct spool_item {
    uint64_t sequence; /* of a skip: the last of its numbers */
    uint64_t records;
    uint32_t crc32c; /* what the hub knows it by (wire_checksum()) */
    bool is_skip;
    enum spool_reason reason; /* of a skip */
    /* One of them, by the signal, unless is_skip; borrowed until the reader's
     * next call. */
    struct spool_scrape scrape;
    struct spool_logs logs; /* without offsets */
    /* The batch was made in this boot of the machine: scrape.boot_us counts from
     * it. Else add boot_offset_us, where it is known, to have the hub's time. */
    bool is_this_boot, has_boot_offset;
    int64_t boot_offset_us;
    /* The wall's clock minus the boot clock, as this machine had them when the batch was put. */
    int64_t stamp_offset_us;
};

/* The hub's clock minus the boot clock, of this boot: kept for the batches of
 * it that are sent after the next one. */
void spool_note_clock(struct spool *spool, int64_t boot_offset_us);

/* The hub has everything up to here (0: nothing): goes on behind it. Outcomes:
 * SPOOL_BEYOND. */
int spool_reader_resume(struct spool_reader *reader, uint64_t sequence) MUST_USE;
/* The next item; from now on it is never dropped. Outcomes: SPOOL_EMPTY. */
int spool_read(struct spool_reader *reader, struct spool_item *ret) MUST_USE;
/* Everything up to here is on the hub's disk. A number that was acknowledged
 * before changes nothing. Outcomes: SPOOL_BEYOND (it was not read). */
int spool_acknowledge(struct spool_reader *reader, uint64_t sequence) MUST_USE;
/*
 * The hub refuses the first batch that is not acknowledged, for what it is.
 * Logs of more than one record are split: half stays under its number, half is
 * put anew into the live run. Else a skip takes its place, and the batch is set
 * aside with the reason. The reader is resumed afterwards. Outcomes:
 * SPOOL_EMPTY (it is a skip, or there is none).
 */
int spool_refuse(struct spool_reader *reader, const char *why) MUST_USE;
/*
 * Batches that the hub would refuse for their age, from the first that is not acknowledged on: of
 * as many as is_old() says so of, one after the other, none is sent; skips (SPOOL_TOO_OLD) take
 * their place, one for all that lie side by side in a segment. Nothing may be on its way; the
 * reader is resumed behind what is acknowledged. It ends after SPOOL_DROP_BATCHES, or with the
 * batch at which SPOOL_DROP_BYTES were read; the next call goes on.
 */
#define SPOOL_DROP_BATCHES 4096
#define SPOOL_DROP_BYTES (4u << 20)
typedef bool spool_is_old_fn(void *ctx, const struct spool_item *item);
struct spool_dropped {
    uint64_t batches, records;
};
int spool_drop_old(struct spool_reader *reader,
                   spool_is_old_fn *is_old,
                   void *ctx,
                   struct spool_dropped *ret) MUST_USE;
/* The hub's run of this id is not ours: what is not acknowledged goes on under
 * a new one, from 1. The reader is resumed afterwards. */
void spool_fork(struct spool_reader *reader);
/* Of a closed run: all is acknowledged, and closing the reader forgets it. */
bool spool_reader_is_done(const struct spool_reader *reader);

/* How old the oldest batch of the live run is that is not acknowledged; 0: none
 * is. */
int64_t spool_live_age_us(const struct spool *spool, enum spool_signal signal);
/* Closes the live run; the next put opens another. A reader of it goes on, and
 * is BACKFILL's from its next opening. */
int spool_rotate(struct spool *spool, enum spool_signal signal) MUST_USE;

/* ---- status ---- */

struct spool_ledger {
    uint64_t produced, acknowledged, queued; /* records */
    uint64_t dropped[SPOOL_REASONS];         /* by reason; [0]: all */
    uint64_t queued_batches;
    uint64_t queued_bytes, limit_bytes; /* of files */
    uint64_t runs;                      /* closed ones that wait */
    wall_us oldest;                     /* batch that waits; 0: none */
    uint64_t damaged_segments;          /* since it was opened */
    bool is_volatile;                   /* the disk cannot be written: some of it is in memory alone
                                         */
};
void spool_get_ledger(const struct spool *spool,
                      enum spool_signal signal,
                      struct spool_ledger *ret);

/* ---- looking at it, from outside ---- */

struct spool_finding {
    enum spool_signal signal;
    const char *file; /* its name in the signal's directory; borrowed */
    uint64_t frames, batches, records, bytes;
    uint64_t damaged_bytes;
    bool is_ended;    /* else it is being written, or a crash has left it */
    bool is_headless; /* nothing of it can be read */
};
typedef void spool_finding_fn(void *ctx, const struct spool_finding *finding);

/* Reads every segment, and changes nothing; also while an agent runs. Outcomes: SPOOL_EMPTY (there
 * is no such directory). */
int spool_check(const char *directory, spool_finding_fn *fn, void *ctx) MUST_USE;
