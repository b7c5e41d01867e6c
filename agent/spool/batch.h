#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Batches of logs, with the offsets of their producer. A part of spool.h, which others include.
 *
 * Offsets: where a producer stands in its source, as bytes under a key, both its own (a tail: what
 * the file is known by, and how far it was read). They are committed in the same record as the
 * batch, so that lines and offset are durable together: after a crash both are there or neither.
 * At its start a producer reads them back with spool_get_offset() or spool_next_offset().
 *
 * What a producer does with SPOOL_FULL (policy BLOCK): it keeps what it has read, reads no more,
 * and puts the same batch again when on_room is called.
 *
 * Thread: the loop's.
 */

#include "agent/spool/series.h"

struct spool;

/* Below what the hub takes as a message (4 MiB), with its own framing. */
#define SPOOL_MAX_BATCH_BYTES (3u << 20)
#define SPOOL_MAX_BATCH_RECORDS 4096u

struct spool_log_attribute {
    struct span key, value;
};

struct spool_log_record {
    int64_t time_us;
    int64_t observed_us; /* 0: not known */
    uint64_t source_offset;
    uint32_t severity; /* OpenTelemetry's 1-24; 0: unknown */
    bool is_raw;       /* the body is bytes; else UTF-8, which the producer has checked */
    struct span body;
    struct span trace_id, span_id; /* 16 and 8 bytes, or empty */
    const struct spool_log_attribute *attributes;
    size_t n_attributes;
};

struct spool_log_source {
    struct span type, name; /* "file" and a path, "journald" and a unit: as LogSource has them */
    const struct spool_log_attribute *attributes;
    size_t n_attributes;
};

/* Under `key`, replaces what was there. An empty value forgets the key. */
struct spool_offset {
    struct span key;   /* 1 .. SPOOL_MAX_KEY_BYTES */
    struct span value; /* at most SPOOL_MAX_VALUE_BYTES */
};
#define SPOOL_MAX_KEY_BYTES 512u
#define SPOOL_MAX_VALUE_BYTES 1024u
#define SPOOL_MAX_OFFSETS 16384u /* more are refused as SPOOL_TOO_LARGE */

struct spool_logs {
    struct spool_log_source source;
    const struct spool_log_record *records; /* 0 .. SPOOL_MAX_BATCH_RECORDS */
    size_t n_records;
    const struct spool_offset *offsets;
    size_t n_offsets;
    wall_us time; /* when it was put together: the age that the limit is about */
};
/*
 * Copies; records and offsets become durable together. Without records only the offsets are
 * written, and no number is used. A batch that the policy drops commits its offsets still: the
 * records count as dropped. Outcomes: SPOOL_FULL, SPOOL_TOO_LARGE.
 */
int spool_put_logs(struct spool *spool, const struct spool_logs *batch) MUST_USE;

/* What was committed last under the key; false: nothing. Borrowed until the next put. */
bool spool_get_offset(const struct spool *spool, struct span key, struct span *ret);
/* Walks over all in no order: start with *at = 0; false at the end. No put meanwhile. */
bool spool_next_offset(const struct spool *spool, size_t *at, struct spool_offset *ret);
