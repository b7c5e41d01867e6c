#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the questions share inside this module: problems, page tokens, selection of agents.
 */

#include "common/base/buf.h"
#include "server/query/query.h"

/* Fills the problem and returns the outcome. */
int query_refuse(struct query_problem *problem,
                 int outcome,
                 const char *field,
                 const char *fmt,
                 ...) PRINTF_LIKE(4, 5);

/*
 * Tokens. A token says "go on behind this name" for one question, named by a digest of everything
 * that shapes the answer.
 */
struct query_digest {
    struct buf text;
};
void query_digest_add(struct query_digest *digest, const char *text);
void query_digest_add_u64(struct query_digest *digest, uint64_t value);
void query_digest_add_selector(struct query_digest *digest, const struct query_selector *selector);

/* Frees the digest, and says what it came to: for a question that makes more than one token. */
#define QUERY_DIGEST_BYTES 16
void query_digest_end(struct query_digest *digest, uint8_t ret[static QUERY_DIGEST_BYTES]);
/* As below. */
int query_token_make_of(const struct query *query,
                        const uint8_t question[static QUERY_DIGEST_BYTES],
                        const char *behind,
                        struct arena *arena,
                        const char **ret) MUST_USE;
int query_token_read_of(const struct query *query,
                        const uint8_t question[static QUERY_DIGEST_BYTES],
                        const char *token,
                        struct arena *arena,
                        const char **ret_behind,
                        struct query_problem *problem) MUST_USE;

/* Frees the digest. The token lives in the arena. Faults: arena exhausted. */
int query_token_make(const struct query *query,
                     struct query_digest *digest,
                     const char *behind,
                     struct arena *arena,
                     const char **ret) MUST_USE;
/* `token` NULL or empty: *ret_behind is NULL. Outcomes: QUERY_BAD. */
int query_token_read(const struct query *query,
                     struct query_digest *digest,
                     const char *token,
                     struct arena *arena,
                     const char **ret_behind,
                     struct query_problem *problem) MUST_USE;

/* ---- select.c ---- */

struct query_selected {
    uint32_t number;
    const char *id; /* NULL until query_selected_id() was asked */
};
/*
 * The selected agents in order of id; in the arena. Outcomes: QUERY_NOT_FOUND (an id that is not
 * known), QUERY_BAD (more ids, labels or pattern than a question may have).
 */
int query_select(const struct query *query,
                 const struct query_selector *selector,
                 struct arena *arena,
                 struct query_selected **ret,
                 size_t *ret_n,
                 struct query_problem *problem) MUST_USE;
/* Fills agent->id. */
int query_selected_id(const struct query *query,
                      struct query_selected *agent,
                      struct arena *arena) MUST_USE;

/* The first of the selected agents, which are in order of id, whose id is behind the text. */
int query_find_behind(const struct query *query,
                      struct query_selected *selected,
                      size_t n,
                      const char *behind,
                      struct arena *arena,
                      size_t *ret) MUST_USE;

/* Equalities of labels or attributes, and keys to group by, in one question. */
#define QUERY_MAX_ATTRIBUTES 64

/* Outcomes: QUERY_BAD (too long). */
int query_check_pattern(const char *pattern,
                        const char *field,
                        struct query_problem *problem) MUST_USE;

/* 0 becomes 100. Outcomes: QUERY_BAD (over 1,000). */
int query_page_size(uint32_t *page_size, struct query_problem *problem) MUST_USE;
