#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/* What the files of agent/logs share. */

#include <sys/stat.h>

#include "agent/logs/logs.h"
#include "agent/logs/screen.h"
#include "agent/logs/text.h"
#include "common/base/arena.h"
#include "common/base/buf.h"
#include "common/base/list.h"
#include "common/loop/loop.h"

/* ---- batch.c: records on their way into the spool ---- */

#define BATCH_MAX_RECORDS 1000u
#define BATCH_MAX_BYTES ((size_t) 512 << 10) /* one record always fits */
#define BATCH_MAX_ATTRIBUTES 16u             /* of a record */
#define BATCH_MAX_PIECES ((size_t) 8)        /* of a body that redaction made too long */
#define MIN_RECORD_BYTES 1024u               /* of the limit of a body */

struct batch {
    struct logs *logs;
    struct spool_log_source source;
    struct spool_log_record *records; /* bodies lie in `text`, by offset until batch_put() */
    size_t n_records;
    struct buf text;
    size_t last_text_bytes;                 /* of the batch before */
    struct spool_log_attribute *attributes; /* of all records, one after the other */
    size_t n_attributes, attribute_capacity;
    size_t attribute_bytes;
    size_t *firsts;     /* of each record's */
    struct arena arena; /* batch_keep() */
};
int batch_init(struct batch *batch, struct logs *logs) MUST_USE;
void batch_deinit(struct batch *batch);
/* Empty, of this source, whose name becomes UTF-8 if it is none (borrowed until batch_put()). */
void batch_begin(struct batch *batch, const struct spool_log_source *source);
bool batch_is_full(const struct batch *batch);
/*
 * Filters, redacts, copies the body; what is not set of time and severity is read from it. A body
 * that redaction made longer than logs_max_record() comes as several records. Values of attributes
 * are borrowed until batch_put(). Faults: no memory.
 */
int batch_add(struct batch *batch,
              const struct spool_log_record *record,
              const struct spool_log_attribute *attributes,
              size_t n_attributes) MUST_USE;
/* A copy that lives until batch_put(), as UTF-8: what is none becomes U+FFFD; data NULL: no memory.
 */
struct span batch_keep(struct batch *batch, struct span value);
/*
 * A time that no hub takes (of a clock that was wrong, or of a month ago) becomes now, and goes
 * into the attribute. Returns how many attributes that makes: 0 or 1.
 */
size_t batch_bound_time(struct batch *batch,
                        struct spool_log_record *record,
                        struct spool_log_attribute *ret) MUST_USE;
/* With the offset of the producer, also when no record was wanted. Outcomes: SPOOL_FULL: the batch
 * stays as it is. */
int batch_put(struct batch *batch, const struct spool_offset *offset) MUST_USE;

/* ---- tail.c: one file ---- */

#define MARK_HEAD_BYTES 1024u
#define MARK_LAST_BYTES 64u
#define MARK_HASH_BYTES 16u
#define MARK_PATH_BYTES 900u /* longer paths are not followed */

/* What the spool keeps of a file, under mark_key(). */
struct mark {
    uint64_t offset; /* put so far */
    uint32_t head_bytes, last_bytes;
    uint8_t head[MARK_HASH_BYTES], last[MARK_HASH_BYTES];
    int64_t born_us; /* 0: the file system does not tell */
    int64_t time_us; /* of the last put */
    uint32_t part;   /* of the record that is under way; 0: none */
    bool is_done;    /* rotated, and read to its end */
    char path[MARK_PATH_BYTES + 1];
};
#define MARK_KEY_BYTES 17
void mark_key(dev_t device, ino_t inode, uint8_t to[static MARK_KEY_BYTES]);
void mark_print(const struct mark *mark, struct buf *to);
/* false: not of this form. */
bool mark_parse(struct span value, struct mark *ret);

struct tail {
    struct list node;
    struct logs *logs;
    int fd;
    dev_t device;
    ino_t inode;
    struct mark mark;
    uint64_t size, size_before; /* as it was seen last, and the time before */
    int64_t changed_us;         /* and its mtime */
    mono_us quiet_since;        /* nothing came since */
    bool is_rotated;            /* its path is another file's, or nobody's */
    bool is_checked;            /* against its mark, as it is now */
    struct regex *begin;        /* borrowed; NULL: a line is a record */
};

/* Birth and identity of an open file; false: it cannot be had. */
bool tail_stat(int fd, struct stat *ret, int64_t *ret_born_us);
/* Whether the first bytes, and those before the offset, are what the mark says. */
bool mark_fits(const struct mark *mark, int fd, uint64_t size);
/* Hashes as of the file now, and the time. */
void mark_renew(struct mark *mark, int fd);

enum tail_state {
    TAIL_IDLE,      /* nothing to read */
    TAIL_MORE,      /* the budget is used up */
    TAIL_BLOCKED,   /* the spool has no room */
    TAIL_TRUNCATED, /* it is another file now: see tails.c */
    TAIL_OVER,      /* rotated, and read to its end for good */
};
/* Reads at most *budget_bytes, which it takes off. Faults: no memory. */
int tail_read(struct tail *tail, size_t *budget_bytes, enum tail_state *ret) MUST_USE;
/* Commits the mark alone. */
int tail_commit(struct tail *tail) MUST_USE;
/* The file holds what this one held when it was read last, or the beginning of it. */
bool tail_is_copy(const struct tail *tail, int fd, uint64_t size);
struct tail *tail_free(struct tail *tail);

/* ---- tails.c: which files ---- */

struct tails {
    struct list all; /* in the order in which they are read: old ones of a path before new ones */
    size_t n;
    bool has_scanned; /* once since the start */
};
/* Looks at the patterns and beside what is followed. Faults: no memory. */
int tails_scan(struct logs *logs) MUST_USE;
/* Reads all; true: there is more to read at once. */
bool tails_read(struct logs *logs);
void tails_close(struct logs *logs);
/* Marks of files that nobody has seen for long go. */
void tails_forget_old(struct logs *logs);

/* ---- watch.c: directories that say when something happens ---- */

struct watch {
    int fd; /* inotify; -1: there is none, and the clock alone tells */
    struct loop_file file;
    int *ids; /* of directories */
    char **paths;
    size_t n;
    bool needs_scan;
};
int watch_open(struct watch *watch, struct logs *logs) MUST_USE;
void watch_close(struct watch *watch, struct loop *loop);
/* Fine when it is watched already. */
void watch_directory(struct watch *watch, const char *path);
/* Takes what has happened; sets needs_scan. True: there were events. */
bool watch_drain(struct watch *watch);

/* ---- journal.c, kmsg.c ---- */

struct journal;
int journal_new(struct journal **ret, struct logs *logs) MUST_USE;
struct journal *journal_free(struct journal *journal);
void journal_on_room(struct journal *journal);
const char *journal_state(const struct journal *journal);

struct kmsg;
int kmsg_new(struct kmsg **ret, struct logs *logs) MUST_USE;
struct kmsg *kmsg_free(struct kmsg *kmsg);
void kmsg_on_room(struct kmsg *kmsg);
/* Commits where the first start began. */
void kmsg_settle(struct kmsg *kmsg);
const char *kmsg_state(const struct kmsg *kmsg);

/* ---- logs.c ---- */

struct multiline {
    char *pattern;
    struct regex *begin;
};
struct labelled {
    char *pattern, *key, *value;
};

/* Settings, checked and compiled. */
struct plan {
    char **files, **files_exclude, **units;
    size_t n_files, n_files_exclude, n_units;
    struct multiline *multiline;
    size_t n_multiline;
    struct labelled *attributes;
    size_t n_attributes;
    struct screen *screen;
    char *root, *journalctl;
    bool from_beginning, journald, kmsg;
    size_t max_record_bytes, max_files;
    int64_t rotated_grace_us, multiline_timeout_us;
};
/* plan.c. Outcomes: LOGS_BAD. */
int plan_new(struct plan **ret,
             const struct logs_settings *settings,
             struct logs_error *ret_error) MUST_USE;
struct plan *plan_free(struct plan *plan);
DEFINE_CLEANUP(struct plan *, plan_free);
/* NULL: a line is a record. */
struct regex *plan_multiline(const struct plan *plan, const char *path);
/* At most `max` into `to`; returns how many. */
size_t plan_attributes(const struct plan *plan,
                       const char *path,
                       struct spool_log_attribute *to,
                       size_t max);

struct logs {
    struct loop *loop;
    struct spool *spool;
    void (*on_put)(void *ctx);
    void *ctx;
    struct plan *plan;
    struct tails tails;
    struct watch watch;
    struct loop_timer work, sweep;
    bool is_work_armed, is_blocked;
    unsigned n_sweeps;
    uint64_t known_said[64]; /* hashes of what was said within the hour */
    size_t n_known_said;
    uint64_t n_said;           /* lines of logs_say() */
    uint64_t hub_record_bytes; /* 0: not known */
    struct batch batch;        /* of files; the others have their own */
    struct journal *journal;
    struct kmsg *kmsg;
    struct logs_status status;
};
void logs_say(struct logs *logs, const char *event, const char *path, const char *why);
/* Of a body: what settings and hub take both. */
size_t logs_max_record(const struct logs *logs);
/* Something has happened: look soon. */
void logs_wake(struct logs *logs);
