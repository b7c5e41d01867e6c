#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the questions about inventories share inside this module.
 */

#include "server/query/inside.h"

/* Outcomes: QUERY_NOT_FOUND (field says which of the request's). */
int query_agent_number(const struct query *query,
                       const char *id,
                       const char *field,
                       uint32_t *ret,
                       struct query_problem *problem) MUST_USE;

#define QUERY_REVISION_BYTES (UINT64_C(1) << 20) /* names of one revision, in an arena */

/* An answer of the store's about an agent's inventory; `field` of the request names the agent. */
int query_judge_inventory(int r,
                          const char *agent,
                          const char *field,
                          struct query_problem *problem) MUST_USE;

/* Outcomes: QUERY_BAD (too many). */
int query_check_tables(size_t n, struct query_problem *problem) MUST_USE;
/* None named: all. */
bool query_wants_table(const char *const *tables, size_t n, const char *name);
const struct store_inventory_table *query_find_table(const struct store_inventory *inventory,
                                                     const char *name);

/* "7/0/12" into n numbers; false: it is something else. */
bool query_split_numbers(const char *text, uint64_t *ret, size_t n);

/* The columns of a content, in the arena; NULL: exhausted. */
const char **query_copy_texts(struct arena *arena, const struct span *texts, size_t n);

/* What a row takes in an answer, about. */
size_t query_row_bytes(const struct span *values, size_t n);
