/* SPDX-License-Identifier: Apache-2.0 */
#include "server/query/logs_filter.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/fault.h"
#include "common/base/text.h"
#include "server/query/inside.h"

#define SEVERITY_MAX 24u /* OpenTelemetry's */
#define NAME_MAX_BYTES 4096

static int add_terms(struct logblock_term terms[QUERY_LOG_TERMS],
                     size_t *n,
                     const char *const *texts,
                     size_t n_texts,
                     bool is_word,
                     struct query_problem *problem)
{
    const char *field = is_word ? "words" : "contains";

    if (n_texts > QUERY_LOG_TERMS - *n)
        return query_refuse(problem, QUERY_BAD, field, "at most %d words and texts together",
                            QUERY_LOG_TERMS);
    for (size_t i = 0; i < n_texts; i++) {
        const size_t len = strnlen(texts[i], QUERY_LOG_TERM_BYTES + 1);

        if (len == 0 || len > QUERY_LOG_TERM_BYTES)
            return query_refuse(problem, QUERY_BAD, field, "each has 1 to %d bytes",
                                QUERY_LOG_TERM_BYTES);
        terms[(*n)++] = (struct logblock_term){ span_of(texts[i], len), is_word };
    }
    return QUERY_OK;
}

static int compile_terms(struct log_filter *filter,
                         const struct query_log_filter *from,
                         struct query_problem *problem)
{
    struct logblock_term terms[QUERY_LOG_TERMS];
    size_t n = 0;
    int r;

    r = add_terms(terms, &n, from->words, from->n_words, true, problem);
    if (r == QUERY_OK)
        r = add_terms(terms, &n, from->contains, from->n_contains, false, problem);
    if (r != QUERY_OK || n == 0)
        return r;
    return fold(logblock_terms_new(&filter->terms, terms, n));
}

static int compile_regex(struct log_filter *filter,
                         const struct query_log_filter *from,
                         struct query_problem *problem)
{
    char error[REGEX_ERROR_BYTES];
    size_t len;
    int r;

    if (!from->regex || !*from->regex)
        return QUERY_OK;
    len = strnlen(from->regex, QUERY_LOG_REGEX_BYTES + 1);
    if (len > QUERY_LOG_REGEX_BYTES)
        return query_refuse(problem, QUERY_BAD, "regex", "longer than %d bytes",
                            QUERY_LOG_REGEX_BYTES);
    r = regex_new(&filter->regex, span_of(from->regex, len), error);
    if (r == REGEX_BAD)
        return query_refuse(problem, QUERY_BAD, "regex", "not a regular expression of RE2: %s",
                            error);
    return fold(r);
}

int log_filter_init(struct log_filter *filter,
                    const struct query_log_filter *from,
                    struct query_problem *problem)
{
    int r;

    *filter = (struct log_filter){ .min_severity = from->min_severity };
    if (from->min_severity > SEVERITY_MAX)
        return query_refuse(problem, QUERY_BAD, "min_severity_number",
                            "severities are 1 to %u; 0 takes all", SEVERITY_MAX);
    r = query_check_pattern(from->source_pattern, "source_pattern", problem);
    if (r == 0)
        r = compile_terms(filter, from, problem);
    if (r == 0)
        r = compile_regex(filter, from, problem);
    if (r != 0)
        return pass(r);
    if (from->source_pattern && *from->source_pattern) {
        filter->source_pattern = strdup(from->source_pattern);
        if (!filter->source_pattern)
            return fault(-ENOMEM, "no memory for a pattern");
    }
    return 0;
}

void log_filter_deinit(struct log_filter *filter)
{
    filter->terms = logblock_terms_free(filter->terms);
    filter->regex = regex_free(filter->regex);
    free(filter->source_pattern);
    filter->source_pattern = NULL;
}

bool log_filter_takes_source(const struct log_filter *filter, const struct logblock_source *source)
{
    char name[NAME_MAX_BYTES + 1];

    if (!filter->source_pattern)
        return true;
    if (source->name.len > NAME_MAX_BYTES)
        return false; /* ingest takes none that is longer */
    memcpy(name, source->name.data, source->name.len);
    name[source->name.len] = '\0';
    return text_matches(filter->source_pattern, name);
}

bool log_filter_takes_record(const struct log_filter *filter, const struct logblock_record *record)
{
    return record->severity >= filter->min_severity &&
           (!filter->terms || logblock_holds(filter->terms, record->body)) &&
           (!filter->regex || regex_matches(filter->regex, record->body));
}
