#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Rules: which records are wanted, and what in them nobody shall see. Private to agent/logs.
 *
 * Redaction puts [REDACTED] in the place of what a pattern finds (its first group, or all of it).
 * Ready-made patterns have names (rules_known()): passwords and tokens behind their keys, bearer
 * and basic credentials, private keys, keys of clouds, JSON web tokens, card numbers (with a good
 * check digit only), addresses of mail.
 *
 * Thread: none; immutable once made.
 */

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/span.h"

struct rules;

struct rules_options {
    const char *const *include, *const *exclude; /* regular expressions; no include: all */
    const char *const *redact;                   /* names of ready-made ones, or expressions */
    size_t n_include, n_exclude, n_redact;
};
enum rules_outcome {
    RULES_OK = 0,
    RULES_BAD, /* a pattern; ret_error says which, and why */
};
int rules_new(struct rules **ret,
              const struct rules_options *options,
              char ret_error[320]) MUST_USE;
struct rules *rules_free(struct rules *rules);
DEFINE_CLEANUP(struct rules *, rules_free);

bool rules_want(const struct rules *rules, struct span body);
/* Appends the body as it may be seen; returns in how many places it was changed, 0: nothing was
 * appended and the body is fine as it is. */
size_t rules_redact(const struct rules *rules, struct span body, struct buf *to);

/* Names of ready-made patterns; NULL at the end. */
const char *const *rules_known(void);
