#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Text: the few parsers and printers that every program of ours needs. All are pure.
 *
 * Threads: any.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/clock.h"

enum text_outcome {
    TEXT_OK = 0,
    TEXT_BAD, /* not of the form; ret is untouched */
};

/* Well-formed UTF-8 by RFC 3629: no surrogates, nothing above U+10FFFF, no overlong forms. NUL is
 * allowed. */
bool text_is_utf8(const void *data, size_t len);

/* The length of the well-formed character in front, its code in `ret`; 0 when there is none. */
size_t text_utf8_next(struct span text, uint32_t *ret);

/* Whether a terminal may have it as it is: not a control, not a line separator, nothing that turns
 * the direction. */
bool text_is_printable(uint32_t code);

/* A whole decimal number. Outcomes: TEXT_BAD (also when it does not fit). */
int text_to_u64(const char *text, uint64_t *ret) MUST_USE;

/* "250ms", "30s", "5m", "12h", "7d", also "us", and sums such as "1h30m", large units first; a bare
 * 0 too. Outcomes: TEXT_BAD. */
int text_to_duration_us(const char *text, int64_t *ret_us) MUST_USE;

/* "65536", "64KiB", "4MiB", "2GiB", "1TiB"; KB, MB, GB count in thousands. Outcomes: TEXT_BAD. */
int text_to_size(const char *text, uint64_t *ret_bytes) MUST_USE;

/*
 * "now", "-1h" (before now), or RFC 3339 ("2026-11-23T10:00:00.5Z", with offsets; a bare date is
 * midnight UTC). Outcomes: TEXT_BAD.
 */
int text_to_time(const char *text, wall_us now, wall_us *ret) MUST_USE;

#define TEXT_TIME_BYTES 40
/* RFC 3339 in UTC with milliseconds: 2026-11-23T10:00:00.000Z. Returns `to`. */
const char *text_of_time(wall_us time, char to[static TEXT_TIME_BYTES]);

#define TEXT_DURATION_BYTES 32
/* The shortest exact form that text_to_duration_us() reads: 90s -> 1m30s, 0 -> 0s; below zero with
 * a -. Returns `to`. */
const char *text_of_duration_us(int64_t us, char to[static TEXT_DURATION_BYTES]);

#define TEXT_SIZE_BYTES 32
/* For people: 1.5 GiB, 640 KiB, 12 B. Returns `to`. */
const char *text_of_size(uint64_t bytes, char to[static TEXT_SIZE_BYTES]);

/* Lower-case hex (both cases are read); `to` has room for 2 * len + 1. Returns `to`. */
const char *text_of_hex(const void *data, size_t len, char *to);
/* Exactly `len` bytes. Outcomes: TEXT_BAD. */
int text_to_hex(const char *text, void *ret, size_t len) MUST_USE;

/* The whole text against a pattern with * (any run) and ? (any one byte). At worst as many steps as
 * text times pattern. */
bool text_matches(const char *pattern, const char *text);

/* The row of `names` (NULL at the end) that is nearest to `name` by edit distance, or NULL when
 * none is near. */
const char *text_nearest(const char *name, const char *const *names);

/*
 * Appends text so that a terminal stays undisturbed: control bytes and invalid UTF-8 as \xNN, line
 * breaks as \n.
 */
void text_append_printable(struct buf *to, struct span text);
