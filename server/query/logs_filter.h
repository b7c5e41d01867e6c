#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Private to server/query: what a log record must be like, compiled; for searches and tails.
 *
 * Thread: any, once it is made.
 */

#include "common/regex/regex.h"
#include "server/query/query.h"

struct log_filter {
    struct logblock_terms *terms; /* NULL: none */
    struct regex *regex;          /* NULL: none */
    uint32_t min_severity;
    char *source_pattern; /* NULL: any */
};

/* Copies. Outcomes: QUERY_BAD. Faults: no memory; what was made of it is to be freed then too. */
int log_filter_init(struct log_filter *filter,
                    const struct query_log_filter *from,
                    struct query_problem *problem) MUST_USE;
void log_filter_deinit(struct log_filter *filter);

bool log_filter_takes_source(const struct log_filter *filter, const struct logblock_source *source);
/* Severity and body. */
bool log_filter_takes_record(const struct log_filter *filter, const struct logblock_record *record);
