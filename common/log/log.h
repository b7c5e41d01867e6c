#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Log: what the process has to say, as events with fields, on stderr.
 *
 * A line is a time (UTC, RFC 3339 with ms), a level, an event name in snake_case and key=value
 * fields from one vocabulary:
 *
 *     ts=2026-11-23T10:00:00.000Z level=info event=stream_opened agent=web-1 peer=10.0.0.7:4411
 *
 * or the same as one JSON object. Values are quoted where needed and never disturb a terminal. A
 * secret never has a key.
 *
 * Lines that a peer can cause go through log_peer(): at most 10 a second for each event name, the
 * rest are counted and said in one line (event=log_suppressed of=NAME lines=N) when the flood ends,
 * or each minute of one that does not. That is noticed when the next line of any kind is written;
 * log_flush() says it at once.
 *
 * Faults (common/base/fault.h) are sent here by log_init(): event=fault with the reason, then
 * event=fault_path for each frame that passes it on. They are limited in the same way.
 *
 * A line has at most 4096 bytes and a value 1024: what is longer ends in "...", and a line that
 * lacks fields says truncated=true.
 *
 * Thread: any. A line is one write(2), so lines never mix.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/cleanup.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };
enum log_format { LOG_LOGFMT, LOG_JSON };

enum log_field_type { LOG_FIELD_TEXT, LOG_FIELD_U64, LOG_FIELD_I64, LOG_FIELD_F64 };

struct log_field {
    const char *key;
    enum log_field_type type;
    union {
        const char *text; /* NULL prints as an empty value */
        uint64_t u64;
        int64_t i64;
        double f64;
    };
};

#define LOG_S(k, v) ((struct log_field){ .key = (k), .type = LOG_FIELD_TEXT, .text = (v) })
#define LOG_U(k, v) ((struct log_field){ .key = (k), .type = LOG_FIELD_U64, .u64 = (v) })
#define LOG_I(k, v) ((struct log_field){ .key = (k), .type = LOG_FIELD_I64, .i64 = (v) })
#define LOG_F(k, v) ((struct log_field){ .key = (k), .type = LOG_FIELD_F64, .f64 = (v) })

/* log_event(LOG_INFO, "stream_opened", LOG_S("agent", id), LOG_U("streams", n)); at least one
 * field. */
#define log_event(level, event, ...) \
    log_write((level), (event), (const struct log_field[]){ __VA_ARGS__, { .key = NULL } })
#define log_peer(level, event, ...) \
    log_write_peer((level), (event), (const struct log_field[]){ __VA_ARGS__, { .key = NULL } })
/* An event that says all by its name. */
#define log_plain(level, event) log_write((level), (event), NULL)

struct log_options {
    enum log_level level; /* below it nothing is written */
    enum log_format format;
    int fd; /* usually STDERR_FILENO */
};

/* May be called again (reload). Before the first call: info, logfmt, stderr. Also takes over the
 * fault sink. */
void log_init(const struct log_options *options);

/* `fields` ends with a row without a key; NULL: none. Use the macros. */
void log_write(enum log_level level, const char *event, const struct log_field *fields);
void log_write_peer(enum log_level level, const char *event, const struct log_field *fields);

/* Says all that was suppressed until now. At the end of the process, or on a timer. */
void log_flush(void);

bool log_is_enabled(enum log_level level);
