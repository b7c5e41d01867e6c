#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the files of agent/spool share. Private to it.
 *
 *   codec    bytes of a segment             segment  its file: made, appended to, ended, removed
 *   slots    a small file written in place  state    what is remembered of a queue, in slots
 *   queue    runs, limits, opening          reader   a run on its way to the hub
 *
 * A run has segments, and edits: ranges of its numbers that are not, or not whole, what a segment
 * says. Numbers here are those of the files; a forked run has other ones on the wire (`base`).
 */

#include "agent/spool/codec.h"
#include "agent/spool/spool.h"
#include "common/base/list.h"
#include "common/base/map.h"

#define SPOOL_SEGMENT_BYTES (UINT64_C(1) << 20)
#define SPOOL_SEGMENT_MIN_BYTES (UINT64_C(64) << 10)
/* What is kept in memory while the disk cannot be written. */
#define SPOOL_VOLATILE_SEGMENT_BYTES (UINT64_C(256) << 10)
#define SPOOL_VOLATILE_BYTES (UINT64_C(1) << 20)
/* Each is a file to open at a start, which is to be quick. */
#define SPOOL_MAX_SEGMENTS 4096u
/* Batches that may be sent before the next write of the state says so. */
#define SPOOL_LEASE_BATCHES 64u
#define SPOOL_BOOTS 8

/* ---- slots.c ---- */

/*
 * Bytes that are written over and over, in two files in turn: a reader finds the newest whole one.
 * The one that was synced last is left alone until the other one is synced.
 */
struct slots {
    int dirfd; /* borrowed; -1: nothing is kept */
    char name[16];
    int fds[2];
    uint64_t generation;
    int synced;      /* slot to be left alone; -1: none */
    bool has_failed; /* said once */
};

void slots_init(struct slots *slots, int dirfd, const char *name);
void slots_deinit(struct slots *slots);
/* Appends what was written last. False: there is nothing. */
bool slots_read(struct slots *slots, struct buf *ret);
/* False: the disk does not take it; it is in the log. */
bool slots_write(struct slots *slots, struct span bytes, bool is_synced);

/* ---- segments ---- */

struct segment {
    struct list node;                  /* in its run */
    uint64_t ordinal, first, last;     /* last is first - 1 when it has no batch */
    uint64_t raw_records, raw_batches; /* as its end says */
    uint64_t records, batches;         /* without those that edits took */
    uint64_t acked_records, acked_batches, acked_bytes;
    uint64_t bytes;        /* of head and frames */
    uint64_t capacity;     /* while it is written; then its bytes */
    uint64_t synced_bytes; /* while it is written */
    uint64_t produced_before;
    int64_t oldest_us, newest_us;
    int64_t created_us, created_boot_us;
    uint8_t id[SPOOL_ID_BYTES];
    uint8_t boot_id[CODEC_BOOT_ID_BYTES];
    uint32_t seed;
    int fd; /* written, or in memory; else -1 */
    bool is_active, is_volatile, is_damaged, is_ended;
};

/* The first of numbers that are not what a segment says. */
struct edit {
    uint64_t first, last;
    uint64_t keep;    /* not 0: the batch `first` is its first `keep` records */
    uint64_t records; /* that are dropped with it */
    uint64_t moved;   /* that are in another batch now */
    bool is_counted;  /* of damage that was found by reading: the ledger has it */
    enum spool_reason reason;
};

struct run {
    struct list node; /* in its queue, oldest first */
    uint64_t ordinal;
    uint8_t id[SPOOL_ID_BYTES];
    uint64_t base; /* the wire's number 1 is base + 1 */
    uint64_t last;
    uint64_t acked;
    uint32_t acked_crc32c;
    uint64_t acked_records; /* of the segment that `acked` lies in */
    uint64_t lease;         /* nothing behind it was ever sent */
    int64_t oldest_us;      /* of what is not acknowledged, or a little before; wall clock */
    struct list segments;
    struct edit *edits; /* ascending */
    size_t n_edits;
    struct spool_reader *reader;
    bool is_open; /* the live one */
};

/* Small numbers by ids of the process, for what a segment has told and may name again. */
struct numbers {
    uint32_t *slots; /* pairs: id, number */
    size_t n_slots, n_used;
    uint32_t n_told; /* also what was forgotten since */
};

struct boot {
    uint8_t id[CODEC_BOOT_ID_BYTES];
    int64_t offset_us; /* the hub's clock minus the boot clock */
};

struct queue {
    struct spool *spool;
    enum spool_signal signal;
    int dirfd; /* -1: in memory */
    struct spool_limits limits;
    struct list runs;
    struct run *live;
    struct segment *active; /* of the live run; NULL: the next put makes one */
    struct numbers series, layouts;
    uint64_t next_ordinal, known_below; /* of runs; the state of before told of those below */
    size_t n_segments;
    uint64_t acknowledged, queued, queued_batches;
    uint64_t dropped[SPOOL_REASONS]; /* [0]: all */
    uint64_t bytes, volatile_bytes;
    uint64_t damaged_segments;
    struct slots state, offset_slots;
    struct map offsets; /* of struct offset */
    struct boot boots[SPOOL_BOOTS];
    bool has_state;   /* of before was found */
    bool has_spare;   /* a file that is used anew */
    bool is_unsynced; /* until: */
    bool is_directory_unsynced;
    mono_us sync_due;
    mono_us synced_at; /* the last time */
    bool is_waiting;   /* SPOOL_FULL was said */
    bool is_failing;   /* the disk; said once */
    struct buf frame;
};

struct offset {
    struct span key, value; /* both lie behind */
};

struct spool {
    struct spool_options options;
    int dirfd, lock;
    uint8_t boot_id[CODEC_BOOT_ID_BYTES];
    struct queue queues[SPOOL_SIGNALS];
};

#define SEGMENT_NAME_BYTES 48
/* "<ordinal>-<first>.seg", in hex. Returns `to`. */
const char *segment_name(const struct segment *segment, char to[static SEGMENT_NAME_BYTES]);
bool segment_is_name(const char *name, uint64_t *ret_ordinal, uint64_t *ret_first);

enum segment_outcome {
    SEGMENT_OK = 0,
    SEGMENT_NO_DISK,   /* it cannot be made, nor in memory */
    SEGMENT_UNWRITTEN, /* the disk does not take it */
    SEGMENT_DAMAGED,   /* it has no head of its own */
    SEGMENT_LEFTOVER,  /* a file that was about to be used anew */
};

/* An empty one for the batches of the live run. Outcomes: SEGMENT_NO_DISK. */
int segment_create(struct segment **ret, struct queue *queue, uint64_t capacity) MUST_USE;
/* Whole frames. Outcomes: SEGMENT_UNWRITTEN (it is as before). */
int segment_append(struct queue *queue, struct segment *segment, struct span frames) MUST_USE;
/* False: the disk failed; what was written may be lost with the power. */
bool segment_sync(struct queue *queue, struct segment *segment);
/* Its last frame, through its fd, not synced. */
void segment_put_end(struct segment *segment);
/* Writes its end, and closes it. */
void segment_end(struct queue *queue, struct segment *segment);
/* Its file goes, or becomes the spare one; frees it. */
void segment_remove(struct queue *queue, struct segment *segment);
struct segment *segment_free(struct segment *segment);

/* What a reading of a whole segment tells. */
typedef void segment_frame_fn(void *ctx, const struct codec_frame *frame);
/* Not a frame: from there to there; ends at the next one, or at the end of the file. */
typedef void segment_gap_fn(void *ctx, uint64_t from, uint64_t to, bool is_tail);

struct segment_scan {
    segment_frame_fn *on_frame;
    segment_gap_fn *on_gap;
    void *ctx;
};
/* Reads it all. Outcomes: SEGMENT_DAMAGED (it cannot be read). Faults: no memory. */
int segment_scan(struct queue *queue,
                 const struct segment *segment,
                 const struct segment_scan *scan) MUST_USE;
/* From its name: head and end; is_ended says whether it has one. Outcomes: SEGMENT_DAMAGED,
 * SEGMENT_LEFTOVER. */
int segment_load(struct segment **ret, struct queue *queue, const char *name) MUST_USE;
/* To read, at the front. -1: it cannot. */
int segment_open(struct queue *queue, const struct segment *segment);
/* Of the files that end so, the last ones by name stay. */
void directory_keep_few(int dirfd, const char *end, size_t n_kept);
/* NAME becomes NAME.damaged; old ones go. */
void segment_set_aside(struct queue *queue, const char *name);

bool write_at(int fd, struct span bytes, uint64_t offset);
/* Returns how much there was. */
size_t read_at(int fd, void *to, size_t len, uint64_t offset);

/* ---- state.c ---- */

/* What the slots say goes into the empty queue: totals, and runs without segments. */
int state_read(struct queue *queue, uint64_t *ret_produced) MUST_USE;
/* From bytes whose checksum was right; false: not of this version. */
bool state_take(struct queue *queue, struct span *from, uint64_t *ret_produced);
bool state_write(struct queue *queue, bool is_synced);
int offsets_read(struct queue *queue) MUST_USE;
int offsets_take(struct queue *queue, struct span *from) MUST_USE;
bool offsets_write(struct queue *queue, bool is_synced);
/* Outcomes: SPOOL_TOO_LARGE. */
int offsets_apply(struct queue *queue, const struct spool_offset *offsets, size_t n) MUST_USE;
void offsets_free(struct queue *queue);

/* ---- open.c ---- */

/* Reads what lies in the directory into the empty queue. */
int queue_read(struct queue *queue) MUST_USE;

/* ---- reader.c ---- */

/* The segment goes. */
void reader_leave(struct spool_reader *reader, const struct segment *segment);

/* ---- queue.c ---- */

int queue_open(struct queue *queue, struct spool *spool, enum spool_signal signal) MUST_USE;
void queue_close(struct queue *queue);
struct run *run_new(struct queue *queue, uint64_t ordinal, const uint8_t id[SPOOL_ID_BYTES]);
/* It has nothing any more. */
void run_free(struct run *run);
/* Numbers of the run become a skip, or a part of the one beside them. Faults: no memory. */
int run_edit(struct run *run, const struct edit *edit) MUST_USE;
/* Numbers from .. to that no edit covers become damaged ones. */
int run_cover(struct run *run, uint64_t from, uint64_t to) MUST_USE;
/* NULL: none covers it. */
struct edit *run_find_edit(const struct run *run, uint64_t sequence);
struct segment *run_find_segment(const struct run *run, uint64_t sequence);
void queue_count_drop(struct queue *queue, enum spool_reason reason, uint64_t records);
/* The acknowledged ones at the front of a run go, with what edits they have. */
void queue_trim(struct queue *queue, struct run *run);
/* Appends frames to the active segment, in a new one where they do not fit. has_room_for says how
 * many bytes; the frames are made by `make` once the segment is known. */
struct queue_batch {
    size_t bytes; /* at most, with what has to be told in a new segment */
    /* Appends the frames to queue->frame. */
    void (*make)(struct queue *queue, const struct queue_batch *batch, uint64_t sequence);
    const void *source;
    const struct codec_split *split;
    uint64_t records;
    bool has_number;
    int64_t time_us;
    bool may_block;
    bool is_half; /* of a batch that is there: when it has no place nothing is dropped */
};
/* Outcomes: SPOOL_FULL (policy BLOCK). *ret_is_dropped: the policy dropped it. */
int queue_put(struct queue *queue, const struct queue_batch *batch, bool *ret_is_dropped) MUST_USE;
int queue_rotate(struct queue *queue) MUST_USE;
void queue_set_limits(struct queue *queue, const struct spool_limits *limits);
int64_t queue_tick(struct queue *queue);
void queue_sync(struct queue *queue);
uint64_t queue_produced(const struct queue *queue);

int64_t spool_boot_us(void);
uint32_t numbers_get(const struct numbers *numbers, uint32_t id); /* number + 1; 0: none */
int numbers_put(struct numbers *numbers, uint32_t id, uint32_t number) MUST_USE;
/* Of no id; what is told next has a number of its own still. */
void numbers_forget(struct numbers *numbers);
/* A new segment: numbers begin anew. */
void numbers_clear(struct numbers *numbers);
