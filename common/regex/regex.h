#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Regex: regular expressions in RE2's syntax, matched in time linear in the text.
 *
 * Who writes a pattern need not be trusted: its program and its tables are bounded
 * (REGEX_STEPS_MAX, REGEX_MEMORY_BYTES), and nothing backtracks. Text is UTF-8; bytes that are not
 * match no character class and no dot, but literal text around them is found.
 *
 * It is the RE2 that gRPC carries, so that there is one in the process.
 *
 * Thread: any; one regex by any number of threads at a time.
 */

#include <stdbool.h>
#include <stddef.h>

#include "common/base/cleanup.h"
#include "common/base/span.h"

struct regex;

#define REGEX_MEMORY_BYTES (2 << 20) /* of each search and tail: there may be hundreds */
/* Of a program. Where the tables do not suffice each byte of a text may cost as many: some three
 * microseconds, where it is a thousandth of that else. A dot of any character is ten of them. */
#define REGEX_STEPS_MAX 2000
#define REGEX_ERROR_BYTES 160

enum regex_outcome {
    REGEX_OK = 0,
    REGEX_BAD, /* the words say why */
};

/* Outcomes: REGEX_BAD; ret_error is filled then. Faults: no memory. */
int regex_new(struct regex **ret, struct span pattern, char ret_error[REGEX_ERROR_BYTES]) MUST_USE;
/* The same for text that is bytes: each is a character (of Latin-1, to classes and to (?i)), so
 * that what is no UTF-8 is found too, and a dot is one step. */
int regex_new_bytes(struct regex **ret,
                    struct span pattern,
                    char ret_error[REGEX_ERROR_BYTES]) MUST_USE;
struct regex *regex_free(struct regex *regex);
DEFINE_CLEANUP(struct regex *, regex_free);
/* Anywhere in the text. */
bool regex_matches(const struct regex *regex, struct span text);
/*
 * The first match at or behind `from`: its first group that took part (of the first 15), or all of
 * it where none did.
 * The place may be empty. Slower than regex_matches() where there is a match.
 */
bool regex_find(const struct regex *regex,
                struct span text,
                size_t from,
                size_t *ret_begin,
                size_t *ret_end);
