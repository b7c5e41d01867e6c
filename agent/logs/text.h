#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What a line says of itself: where it ends, how severe it is, when it was written. Pure. Private
 * to agent/logs.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/clock.h"
#include "common/base/span.h"

struct regex;

/* ---- lines and records ---- */

/*
 * How text is cut into records. A record is a line; with `begin`, it is a line that matches and all
 * lines behind that do not. A line that is longer than max_bytes comes in parts.
 */
struct text_rule {
    const struct regex *begin; /* NULL: each line is a record */
    size_t max_bytes;          /* of a record */
    size_t max_lines;          /* of a record of many lines */
};

struct text_record {
    struct span body;  /* without the newline at its end, and without a CR before it */
    size_t n_consumed; /* bytes of the text that it took, with its newline */
    bool is_part;      /* more of it follows */
};

/*
 * Takes one record off the front. `is_whole`: nothing will come behind the text, so what is there
 * is a record without a newline too, and one of many lines is over.
 *
 * false: there is no whole record yet.
 */
bool text_next_record(struct span text,
                      const struct text_rule *rule,
                      bool is_whole,
                      struct text_record *ret);

/* Where a text of more than `max` bytes is cut: there, or up to three bytes before, so that no
 * character of UTF-8 is. */
size_t text_cut(struct span text, size_t max);

/* ---- severity: OpenTelemetry's numbers, 0: it says none ---- */

/*
 * The first word of the first TEXT_SEVERITY_BYTES that is a level, whatever its case: trace, debug,
 * info, notice, warn, error, crit, alert, fatal and what is usual for them; as the value of level=
 * or "level": first of all; <0> to <191> at the front is syslog's.
 */
#define TEXT_SEVERITY_BYTES 256
uint32_t text_severity(struct span line);
/* Of syslog's 0 (emergency) to 7 (debug). */
uint32_t text_severity_of_priority(unsigned priority);

/* ---- time ---- */

/*
 * A time at the front of the line (behind "[", quotes, "time=", "ts=" or a JSON key), as RFC 3339,
 * ISO 8601 with a space and with or without a zone (none: the machine's), RFC 3164 ("Nov 28
 * 01:02:03", of the year that lies nearest to `now`), or seconds, milli- or microseconds since
 * 1970. false: none.
 */
bool text_time(struct span line, wall_us now, wall_us *ret);
