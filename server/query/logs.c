/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Searching logs, piece by piece. A piece ends with its entries, its bytes, or what it may decode;
 * the place behind it is where the next one begins, and what a page token says.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "server/query/inside.h"
#include "server/query/logs_filter.h"

#define SEARCH_ARENA_BYTES ((size_t) 64 << 20) /* agents, and the token */
#define PIECE_ENTRIES 1000
#define PIECE_ENTRY_BYTES ((size_t) 1 << 20)
/* Some 50 ms of work: then the reader may do something else. The time counts where a regular
 * expression, or a text with much that is like it, takes longer than decoding. */
#define PIECE_BUDGET_BYTES (UINT64_C(64) << 20)
#define PIECE_BUDGET_US 100000
/* Of a reader's time, for all pieces: as budget_reached. */
#define SEARCH_BUDGET_US 20000000

struct query_search {
    const struct query *query;
    struct arena arena;
    struct log_filter filter;
    uint8_t question[QUERY_DIGEST_BYTES]; /* for tokens */
    int64_t from_us, to_us;
    bool is_oldest_first;
    uint32_t n_left; /* entries */
    uint64_t budget_left;
    int64_t us_left;
    bool has_moved; /* the place is behind the one that it began with */
    struct store_log_seen *seen;
    struct query_selected *agents; /* ascending numbers */
    uint32_t *numbers;
    size_t n_agents;
    bool has_place;
    struct store_log_place place;
    struct query_search_cost cost;
    bool (*is_unwanted)(void *ctx);
    void *ctx;
};

/* ---- tokens ---- */

static void digest_of(const struct query_search_options *options, struct query_digest *digest)
{
    const struct query_log_filter *filter = &options->filter;

    query_digest_add(digest, "logs");
    query_digest_add_selector(digest, filter->selector);
    query_digest_add_u64(digest, filter->n_words);
    for (size_t i = 0; i < filter->n_words; i++)
        query_digest_add(digest, filter->words[i]);
    query_digest_add_u64(digest, filter->n_contains);
    for (size_t i = 0; i < filter->n_contains; i++)
        query_digest_add(digest, filter->contains[i]);
    query_digest_add(digest, filter->regex);
    query_digest_add_u64(digest, filter->min_severity);
    query_digest_add(digest, filter->source_pattern);
    query_digest_add_u64(digest, options->is_oldest_first);
}

#define TOKEN_NUMBERS 7

/* The range and the place behind which to go on, as make_token() writes them: the MAC held. */
static void read_numbers(const char *text, int64_t numbers[static TOKEN_NUMBERS])
{
    for (size_t i = 0; i < TOKEN_NUMBERS; i++) {
        char *end;

        numbers[i] = strtoll(text, &end, 10);
        ensure(end > text && *end == (i + 1 < TOKEN_NUMBERS ? ',' : '\0'));
        text = end + 1;
    }
}

static int read_token(struct query_search *search,
                      const struct query_search_options *options,
                      struct query_problem *problem)
{
    struct store_log_place *place = &search->place;
    struct query_digest digest = { 0 };
    int64_t numbers[TOKEN_NUMBERS];
    const char *behind;
    int r;

    digest_of(options, &digest);
    query_digest_end(&digest, search->question);
    r = query_token_read_of(search->query, search->question, options->page_token, &search->arena,
                            &behind, problem);
    if (r != 0 || !behind)
        return pass(r);
    read_numbers(behind, numbers);
    search->from_us = numbers[0];
    search->to_us = numbers[1];
    *place = (struct store_log_place){
        .time_us = numbers[2],
        .agent = (uint32_t) numbers[3],
        .place = { .chunk = (uint64_t) numbers[4],
                   .offset = (uint32_t) numbers[5],
                   .index = (uint32_t) numbers[6] },
    };
    search->has_place = true;
    return 0;
}

static int make_token(struct query_search *search, struct arena *arena, const char **ret)
{
    const struct store_log_place *place = &search->place;
    const char *behind;

    behind = arena_printf(
        arena, "%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRIu32 ",%" PRId64 ",%" PRIu32 ",%" PRIu32,
        search->from_us, search->to_us, place->time_us, place->agent, (int64_t) place->place.chunk,
        place->place.offset, place->place.index);
    if (!behind)
        return fault(-ENOMEM, "page token");
    return pass(query_token_make_of(search->query, search->question, behind, arena, ret));
}

/* ---- making one ---- */

static int by_number(const void *a, const void *b)
{
    const struct query_selected *x = a, *y = b;

    return (x->number > y->number) - (x->number < y->number);
}

static int select_agents(struct query_search *search,
                         const struct query_selector *selector,
                         struct query_problem *problem)
{
    int r;

    r = query_select(search->query, selector, &search->arena, &search->agents, &search->n_agents,
                     problem);
    if (r != 0)
        return pass(r);
    search->numbers = arena_alloc_array(&search->arena, search->n_agents, sizeof(uint32_t));
    if (!search->numbers)
        return fault(-ENOMEM, "agents");
    if (search->n_agents > 0)
        qsort(search->agents, search->n_agents, sizeof(*search->agents), by_number);
    for (size_t i = 0; i < search->n_agents; i++) {
        /* The selector's texts go with the request. */
        if (search->agents[i].id)
            search->agents[i].id = arena_copy_text(&search->arena, search->agents[i].id);
        search->numbers[i] = search->agents[i].number;
    }
    return 0;
}

int query_search_new(struct query_search **ret,
                     const struct query *query,
                     const struct query_search_options *options,
                     struct query_problem *ret_problem)
{
    CLEANUP(query_search_freep) struct query_search *search = NULL;
    int r;

    if (options->page_size > QUERY_LOG_PAGE_MAX)
        return query_refuse(ret_problem, QUERY_BAD, "page_size",
                            "at most %d; ask for the next page with next_page_token",
                            QUERY_LOG_PAGE_MAX);
    search = calloc(1, sizeof(*search));
    if (!search)
        return fault(-ENOMEM, "no memory for a search");
    search->query = query;
    arena_init(&search->arena, SEARCH_ARENA_BYTES);
    search->from_us = options->from_us;
    search->to_us = options->to_us;
    search->is_oldest_first = options->is_oldest_first;
    search->n_left = options->page_size > 0 ? options->page_size : QUERY_LOG_PAGE_DEFAULT;
    search->budget_left = query->logs_budget_bytes;
    search->us_left = SEARCH_BUDGET_US;
    search->is_unwanted = options->is_unwanted;
    search->ctx = options->ctx;
    r = log_filter_init(&search->filter, &options->filter, ret_problem);
    if (r == 0)
        r = read_token(search, options, ret_problem);
    if (r == 0)
        r = select_agents(search, options->filter.selector, ret_problem);
    if (r != 0)
        return pass(r);
    r = store_log_seen_new(query->store, &search->seen);
    if (r == STORE_TOO_MUCH)
        return query_refuse(ret_problem, QUERY_TOO_MUCH, "",
                            "%u searches of logs are under way, as many as the hub does at a time; "
                            "try again when one has ended",
                            STORE_LOG_SEARCHES);
    if (r != 0)
        return fold(r);
    *ret = take(search);
    return 0;
}

struct query_search *query_search_free(struct query_search *search)
{
    if (!search)
        return NULL;
    log_filter_deinit(&search->filter);
    search->seen = store_log_seen_free(search->seen);
    arena_deinit(&search->arena);
    free(search);
    return NULL;
}

/* ---- pieces ---- */

static bool is_source_wanted(void *ctx, const struct logblock_source *source)
{
    const struct query_search *search = ctx;

    return log_filter_takes_source(&search->filter, source);
}

static bool is_unwanted(void *ctx)
{
    const struct query_search *search = ctx;

    return search->is_unwanted && search->is_unwanted(search->ctx);
}

static bool is_body_wanted(void *ctx, struct span body)
{
    const struct query_search *search = ctx;

    /* One block may take an expression seconds. */
    return !is_unwanted(ctx) && regex_matches(search->filter.regex, body);
}

static int name_agents(struct query_search *search,
                       const struct store_log_search *found,
                       struct arena *arena,
                       const char *const **ret)
{
    const char **ids = arena_alloc_array(arena, found->ret_n, sizeof(*ids));
    int r;

    if (!ids)
        return fault(-ENOMEM, "ids");
    for (size_t i = 0; i < found->ret_n; i++) {
        const struct query_selected key = { .number = found->ret_entries[i].agent };
        struct query_selected *agent =
            bsearch(&key, search->agents, search->n_agents, sizeof(key), by_number);

        ensure(agent != NULL);
        r = query_selected_id(search->query, agent, &search->arena);
        if (r != 0)
            return pass(r);
        ids[i] = agent->id;
    }
    *ret = ids;
    return 0;
}

static void
count(struct query_search *search, const struct store_log_search *found, int64_t elapsed_us)
{
    search->cost.bytes_read += found->ret_bytes_read;
    search->cost.blocks_read += found->ret_blocks_read;
    search->cost.blocks_skipped += found->ret_blocks_skipped;
    search->cost.blocks_damaged += found->ret_damaged;
    search->n_left -= (uint32_t) found->ret_n;
    search->budget_left -=
        found->ret_cost_bytes < search->budget_left ? found->ret_cost_bytes : search->budget_left;
    search->us_left -= elapsed_us < search->us_left ? elapsed_us : search->us_left;
    if (found->ret_has_more && !found->ret_is_paused) {
        search->has_place = search->has_moved = true;
        search->place = found->ret_place;
    }
}

/* Whether it costs as much as a search may. One that has not moved yet goes on: who takes its token
 * would never come further. */
static bool is_spent(const struct query_search *search)
{
    return search->has_moved && (search->budget_left == 0 || search->us_left == 0);
}

int query_search_next(struct query_search *search,
                      struct arena *arena,
                      struct query_search_piece *ret)
{
    struct store_log_search found = {
        .agents = search->numbers,
        .n_agents = search->n_agents,
        .from_us = search->from_us,
        .to_us = search->to_us,
        .is_oldest_first = search->is_oldest_first,
        .min_severity = search->filter.min_severity,
        .terms = search->filter.terms,
        .is_source_wanted = search->filter.source_pattern ? is_source_wanted : NULL,
        .is_body_wanted = search->filter.regex ? is_body_wanted : NULL,
        .is_unwanted = is_unwanted,
        .ctx = search,
        .has_after = search->has_place,
        .after = search->place,
        .max_entries = search->n_left < PIECE_ENTRIES ? search->n_left : PIECE_ENTRIES,
        .max_entry_bytes = PIECE_ENTRY_BYTES,
        .budget_bytes = PIECE_BUDGET_BYTES,
        .budget_us = PIECE_BUDGET_US,
        .seen = search->seen,
    };
    const int64_t began_us = clock_mono().us;
    int r;

    ensure(search->n_left > 0 && !is_spent(search));
    if (search->budget_left > 0 && search->budget_left < PIECE_BUDGET_BYTES)
        found.budget_bytes = search->budget_left;
    r = store_logs_search(search->query->store, &found, arena);
    if (r != 0)
        return fold(r);
    if (is_unwanted(search))
        return QUERY_UNWANTED;
    count(search, &found, clock_mono().us - began_us);
    *ret = (struct query_search_piece){
        .entries = found.ret_entries,
        .n_entries = found.ret_n,
        .is_budget_reached = found.ret_has_more && search->n_left > 0 && is_spent(search),
        .next_page_token = "",
        .cost = search->cost,
    };
    ret->is_last = !found.ret_has_more || search->n_left == 0 || is_spent(search);
    r = name_agents(search, &found, arena, &ret->agent_ids);
    if (r == 0 && found.ret_has_more && search->has_place)
        r = make_token(search, arena, &ret->next_page_token);
    return pass(r);
}
