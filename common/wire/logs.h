#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Log messages between bytes and spans. A part of wire.h, which others include.
 *
 * protobuf-c is not for these: what stands behind a NUL in a `string` is lost in its `char *`, it
 * copies each string, and it takes about as long for a line as the hub has for it altogether. So
 * these few types are read and written by hand, by the same rules: unknown fields are passed over,
 * of a field that comes twice the last one counts, sub-messages that come twice are merged, a field
 * of another wire type and a group are refused. Texts are UTF-8. A body and the value of an
 * attribute may hold NUL; names may not.
 *
 * Everything read borrows from the bytes; nothing is allocated.
 *
 * Start here: wire_logs_open(), wire_logs_next(); wire_log_entry_append().
 * Thread:     any.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/span.h"

struct wire_problem;

struct wire_log_attribute {
    struct span key, value;
};

/* Sub-messages of a few levels, one after the other. Private. */
struct wire_nest {
    struct span level[3]; /* what is left of each */
    uint8_t number[3];    /* the field to go into, or at the last level to hand out */
    uint8_t n_levels;
};

/* To walk over attributes. */
struct wire_log_attributes {
    struct wire_nest nest;
};
/* False: there are no more. They were checked with what they belong to. */
bool wire_log_attributes_next(struct wire_log_attributes *attributes,
                              struct wire_log_attribute *ret);

/* ---- StreamLogsRequest ---- */

enum wire_logs_type { /* numbers of the message's fields */
                      WIRE_LOGS_NOTHING = 0,
                      WIRE_LOGS_HELLO = 1,
                      WIRE_LOGS_BATCH = 2,
                      WIRE_LOGS_SKIP = 3,
};

struct wire_log_record {
    int64_t time_us, observed_us;
    uint64_t source_offset;
    uint32_t severity;
    bool has_body; /* else it is an empty text */
    bool is_raw;
    struct span body;
    struct span trace_id, span_id; /* of any length */
    size_t n_attributes;
    struct wire_log_attributes attributes;
};

struct wire_logs {
    enum wire_logs_type type; /* a hello and a skip are wire_unpack()'s to read */
    /* of a batch */
    uint64_t sequence;
    size_t n_records;
    struct span source_type, source_name; /* without NUL */
    size_t n_source_attributes;
    struct wire_log_attributes source_attributes;
    struct span block; /* of any bytes; data is NULL when there is none; at most one is given */
    /*
     * What a run's last batch is known by (StreamHello.crc32c_before_first), of the records that
     * were handed out so far. CRC32C over, little-endian: the sequence (8 bytes), then of each
     * record the length of the body (4 bytes), the severity (4 bytes), the body.
     */
    uint32_t crc32c;
    /* ---- private ---- */
    struct wire_nest records;
    size_t n_read;
};

/*
 * Reads all but the records of a batch, and counts those.
 * Outcomes: WIRE_MALFORMED, WIRE_BAD_TEXT; *ret_problem is filled then.
 */
int wire_logs_open(struct span bytes,
                   struct wire_logs *ret,
                   struct wire_problem *ret_problem) MUST_USE;
/* The block of a batch that has no record before it: a look, for who needs to know how much it will
 * be. Of what wire_logs_open() takes it is the same. */
bool wire_logs_find_block(struct span bytes, struct span *ret);

/* The next of n_records. Outcomes: as above. */
int wire_logs_next(struct wire_logs *logs,
                   struct wire_log_record *ret,
                   struct wire_problem *ret_problem) MUST_USE;

/* The checksum above, made by who sends, or reads a block: the sequence to begin. */
uint32_t wire_logs_checksum(uint64_t sequence);
uint32_t wire_logs_checksum_add(uint32_t crc, uint32_t severity, struct span body);

/* ---- LogEntry ---- */

#define WIRE_LOG_SEVERITIES 25
/* By OpenTelemetry's number; "" for 0. NULL at the end. */
extern const char *const wire_log_severities[WIRE_LOG_SEVERITIES + 1];

struct wire_log_entry {
    struct span agent_id;
    int64_t time_us, observed_us; /* observed 0: not known */
    uint32_t severity;
    struct span source_type, source;
    bool is_raw;
    struct span body;
    struct span trace_id, span_id; /* hex */
    uint64_t source_offset;
    /* to be written */
    const struct wire_log_attribute *attributes, *source_attributes;
    size_t n_attributes, n_source_attributes;
    /* read */
    struct wire_log_attributes read_attributes, read_source_attributes;
};

/*
 * Appends an entry of a SearchLogsResponse or TailLogsResponse: field 1 of both. What wire_pack()
 * made of the other fields may stand before or behind. Faults are the buffer's: buf_failed().
 */
void wire_log_entry_append(struct buf *to, const struct wire_log_entry *entry);
/* What it appends. */
size_t wire_log_entry_bytes(const struct wire_log_entry *entry);

/* An answer with entries, as a client reads it. */
struct wire_log_entries {
    struct span left; /* private */
    size_t n_read;
};
/*
 * All but the entries goes to `rest`, for wire_unpack().
 * Outcomes: WIRE_MALFORMED. Faults are the buffer's.
 */
int wire_log_entries_open(struct span bytes,
                          struct wire_log_entries *ret,
                          struct buf *rest,
                          struct wire_problem *ret_problem) MUST_USE;
/* *ret_is_end: there are no more. Outcomes: WIRE_MALFORMED, WIRE_BAD_TEXT. */
int wire_log_entries_next(struct wire_log_entries *entries,
                          struct wire_log_entry *ret,
                          bool *ret_is_end,
                          struct wire_problem *ret_problem) MUST_USE;
