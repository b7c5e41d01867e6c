#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Rules: which records are wanted, and what in them nobody shall see. Private to agent/logs.
 *
 * Redaction puts [REDACTED] in the place of what a pattern finds (its first group, or all of it).
 * Ready-made patterns have names (screen_known()): passwords and tokens behind their keys, bearer
 * and basic credentials, private keys, keys of clouds, JSON web tokens, card numbers (with a good
 * check digit only), addresses of mail.
 *
 * Thread: none; immutable once made.
 */

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/span.h"

struct screen;

struct screen_options {
    const char *const *include, *const *exclude; /* regular expressions; no include: all */
    const char *const *redact;                   /* names of ready-made ones, or expressions */
    size_t n_include, n_exclude, n_redact;
};
enum screen_outcome {
    SCREEN_OK = 0,
    SCREEN_BAD, /* a pattern; ret_error says which, and why */
};
int screen_new(struct screen **ret,
               const struct screen_options *options,
               char ret_error[320]) MUST_USE;
struct screen *screen_free(struct screen *screen);
DEFINE_CLEANUP(struct screen *, screen_free);

bool screen_want(const struct screen *screen, struct span body);
/* Appends the body as it may be seen; returns in how many places it was changed, 0: nothing was
 * appended and the body is fine as it is. */
size_t screen_redact(const struct screen *screen, struct span body, struct buf *to);

/* Names of ready-made patterns; NULL at the end. */
const char *const *screen_known(void);
