#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Rows of the table AUDIT and what they say; pure. Private to server/audit.
 *
 * Keys:
 *   "E", u32 day, u64 number   an entry; both big-endian, so that a day's rows are one range, in
 *                              the order of the chain. Days are counted since 1970 (UTC); a day
 *                              never goes back, also where the clock does.
 *   "!head"                    the last entry
 *   "!anchor"                  the newest signature over a head
 *   "!dropped"                 up to where the retention took entries
 * The others lie before the entries, so that a new entry is the last row of the table.
 *
 * An entry's value, little-endian; "text" = u16 length, bytes of UTF-8 without NUL:
 *
 *    0 +---------+--------+----------+------+
 *      | version | flags  | n fields | zero |       u8 each; version 1; flags: 1 a refusal
 *    4 +---------+--------+----------+------+
 *      | time                               |       i64 us since 1970
 *   12 | number                             |       u64, from 1
 *   20 +------------------------------------+
 *      | SHA-256 of the entry before        |       32 bytes; zero before number 1
 *   52 +------------------------------------+-----------------------------+
 *      | text code | text actor | text source | text object | text correlation
 *      | text key, text value of each field                               |
 *      +------------------------------------------------------------------+
 *
 * The SHA-256 of an entry is that of all its value. It stands in the next entry, and in the head.
 */

#include <stdbool.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "server/audit/audit.h"

#define ROW_VERSION 1
#define ROW_FIXED_BYTES 52
#define ROW_SHA256_BYTES 32
#define ROW_TEXT_BYTES 1024 /* of one text; longer ones are cut, with a mark */
/* What an entry has at most: five texts and those of the fields. */
#define ROW_MAX_BYTES (ROW_FIXED_BYTES + (5 + 2 * AUDIT_MAX_FIELDS) * (2 + ROW_TEXT_BYTES))
#define ROW_KEY_BYTES 13

#define DAY_US (INT64_C(24) * 3600 * 1000000)

/* Days since 1970; 0 before. */
uint32_t row_day_of(int64_t time_us);

void row_key(uint32_t day, uint64_t number, uint8_t to[static ROW_KEY_BYTES]);
/* Of all entries of a day. */
#define ROW_DAY_KEY_BYTES 5
void row_day_key(uint32_t day, uint8_t to[static ROW_DAY_KEY_BYTES]);
/* Whether it is an entry's. */
bool row_key_read(struct span key, uint32_t *ret_day, uint64_t *ret_number);

/* Appends what follows the fixed part. Texts that are no UTF-8 get `?` for each bad byte. */
void row_put_texts(const struct audit_entry *entry, struct buf *to);
/* Appends the whole value; `texts` as row_put_texts() made them. */
struct row_frame {
    int64_t time_us;
    uint64_t number;
    const uint8_t *before; /* SHA-256 */
    bool is_failure;
    uint8_t n_fields;
};
void row_write(const struct row_frame *frame, struct span texts, struct buf *to);

/*
 * Reads an entry; texts lie in the arena, also its SHA-256 is computed. false: it is none of this
 * version's, or the arena is full (arena->is_exhausted).
 */
bool row_read(struct span value, struct arena *arena, struct audit_record *ret);
/* The fixed part alone, no texts. */
bool row_read_frame(struct span value, struct row_frame *ret);

/*
 * Head:    0 | version u8 = 1 | 3 zero | u32 day | u64 number | i64 time | 32 SHA-256 | u32 late |
 *
 * late: the last day with an entry whose own time lies two days before it or more (the clock went
 * back): who looks for a time looks up to there. 0: none.
 */
#define ROW_HEAD_BYTES 60
struct row_head {
    uint32_t day, late_day;
    uint64_t number;
    int64_t time_us;
    uint8_t sha256[ROW_SHA256_BYTES];
};
void row_head_write(const struct row_head *head, uint8_t to[static ROW_HEAD_BYTES]);
bool row_head_read(struct span value, struct row_head *ret);

/* Anchor:  0 | version u8 = 1 | u8 length of signature | u64 entry | i64 time | 32 SHA-256 |
 * signature | */
#define ROW_ANCHOR_BYTES 50
void row_anchor_write(const struct audit_anchor *anchor, struct buf *to);
bool row_anchor_read(struct span value, struct audit_anchor *ret);

/* Dropped: 0 | version u8 = 1 | u64 last entry that went | i64 when | */
#define ROW_DROPPED_BYTES 17
struct row_dropped {
    uint64_t last;
    int64_t time_us;
};
void row_dropped_write(const struct row_dropped *dropped, uint8_t to[static ROW_DROPPED_BYTES]);
bool row_dropped_read(struct span value, struct row_dropped *ret);

extern const char row_head_key[], row_anchor_key[], row_dropped_key[];

/* AUDIT_N_EVENTS: none of this version's. */
enum audit_event row_event_of(const char *code);
bool row_event_is_failure(enum audit_event event);
