/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Who has it: agents in order of id, the content of each one's table looked into once, however many
 * have it. Where the first column is matched exactly, or by a pattern that begins with text, only
 * the blocks that may have such rows are unpacked.
 */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/base/fault.h"
#include "common/base/map.h"
#include "common/base/text.h"
#include "server/query/inventory_inside.h"

#define UNWANTED_EVERY 64 /* agents */

/* What a content has of what is looked for. */
struct looked {
    uint8_t sha256[STORE_SHA256_BYTES];
    const char **columns;
    size_t n_columns, n_rows, capacity;
    size_t n_bytes; /* of its rows, and of its columns where there are any */
    uint64_t n_total;
    struct query_row *rows;
    bool is_damaged;
};

struct find {
    const struct query *query;
    struct query_find *request;
    struct arena *arena;
    struct store_contents *contents;
    struct map looked; /* struct looked, by content */
    /* The content at hand. */
    struct looked *now;
    const struct looked *last;          /* of the agent that was added last */
    uint32_t places[QUERY_MAX_MATCHES]; /* of the columns that are matched */
    struct buf text;
    bool has_failed;
    /* For who found nothing. */
    bool has_table, has_column[QUERY_MAX_MATCHES];
    struct buf columns; /* of the first table without one of the columns */
};

static bool does_match(struct find *find, const struct query_column_match *match, struct span value)
{
    if (match->value)
        return span_equal(value, span_of_text(match->value));
    buf_clear(&find->text);
    buf_append_span(&find->text, value);
    return text_matches(match->pattern, buf_text(&find->text));
}

static bool keep_row(struct find *find, const struct span *values)
{
    struct looked *now = find->now;

    if (now->n_rows == now->capacity) {
        size_t capacity = now->capacity ? 4 * now->capacity : 2;
        struct query_row *grown = arena_alloc_array(find->arena, capacity, sizeof(*grown));

        if (!grown)
            return false;
        if (now->n_rows)
            memcpy(grown, now->rows, now->n_rows * sizeof(*grown));
        now->rows = grown;
        now->capacity = capacity;
    }
    now->rows[now->n_rows].values = query_copy_texts(find->arena, values, now->n_columns);
    now->n_bytes += query_row_bytes(values, now->n_columns);
    return now->rows[now->n_rows++].values != NULL;
}

static bool on_row(void *ctx, uint64_t row, const struct span *values)
{
    struct find *find = ctx;
    struct looked *now = find->now;

    (void) row;
    for (size_t i = 0; i < find->request->n_matches; i++)
        if (!does_match(find, &find->request->matches[i], values[find->places[i]]))
            return true;
    now->n_total++;
    /* One row always; then as many as a page may have of one agent. */
    if (now->n_rows < QUERY_ROWS_OF_AGENT &&
        (now->n_rows == 0 || now->n_bytes < QUERY_PAGE_BYTES / 4))
        find->has_failed = !keep_row(find, values);
    return !find->has_failed;
}

/* The text that every match begins with, in a first column. */
static struct span prefix_of(const struct find *find)
{
    struct span longest = { 0 };

    for (size_t i = 0; i < find->request->n_matches; i++) {
        const struct query_column_match *match = &find->request->matches[i];
        struct span prefix;

        if (find->places[i] != 0)
            continue;
        prefix = match->value ? span_of_text(match->value)
                              : span_of(match->pattern, strcspn(match->pattern, "*?"));
        longest = prefix.len > longest.len ? prefix : longest;
    }
    return longest;
}

/* Whether the content has all columns that are matched. */
static bool find_places(struct find *find, const struct store_content *content)
{
    bool has_all = true;

    for (size_t i = 0; i < find->request->n_matches; i++) {
        struct span wanted = span_of_text(find->request->matches[i].column);
        uint32_t k = 0;

        while (k < content->n_columns && !span_equal(content->columns[k], wanted))
            k++;
        find->places[i] = k;
        has_all = has_all && k < content->n_columns;
        find->has_column[i] |= k < content->n_columns;
    }
    if (!has_all && find->columns.len == 0)
        for (uint32_t k = 0; k < content->n_columns; k++) {
            buf_append_text(&find->columns, k ? ", " : "");
            buf_append_span(&find->columns, content->columns[k]);
        }
    return has_all;
}

static int look_into(struct find *find, struct looked *now)
{
    struct store_content content;
    int r = store_contents_open(find->contents, now->sha256, &content);

    find->now = now;
    if (!r && find_places(find, &content)) {
        now->n_columns = content.n_columns;
        r = store_contents_rows(find->contents, prefix_of(find), 0, on_row, find);
    }
    if (!r && now->n_total > 0) {
        now->columns = query_copy_texts(find->arena, content.columns, content.n_columns);
        now->n_bytes += query_row_bytes(content.columns, content.n_columns);
        find->has_failed |= !now->columns;
    }
    if (find->has_failed || buf_failed(&find->text) || buf_failed(&find->columns))
        return fault(-ENOMEM, "rows that match");
    now->is_damaged = r > 0;
    return r < 0 ? pass(r) : 0;
}

static int look_once(struct find *find, const uint8_t *sha256, struct looked **ret)
{
    struct looked *looked = map_get(&find->looked, span_of(sha256, STORE_SHA256_BYTES));
    int r;

    *ret = looked;
    if (looked)
        return 0;
    looked = arena_alloc(find->arena, sizeof(*looked));
    if (!looked)
        return fault(-ENOMEM, "a table that is looked into");
    memcpy(looked->sha256, sha256, sizeof(looked->sha256));
    r = look_into(find, looked);
    if (!r)
        r = map_put(&find->looked, span_of(looked->sha256, sizeof(looked->sha256)), looked);
    *ret = looked;
    return pass(r);
}

/* One agent: adds it where it has a row. */
static int look_at(struct find *find, struct query_selected *agent, struct arena *scratch)
{
    struct query_find *request = find->request;
    const struct store_inventory_table *table;
    struct store_inventory inventory;
    struct looked *looked;
    int r =
        store_inventory_get(find->query->store, agent->number, request->at_us, scratch, &inventory);

    request->n_unreadable += r == STORE_DAMAGED;
    if (r)
        return r < 0 ? pass(r) : 0;
    table = query_find_table(&inventory, request->table);
    if (!table)
        return 0;
    find->has_table = true;
    r = look_once(find, table->sha256, &looked);
    if (r)
        return pass(r);
    request->n_unreadable += looked->is_damaged;
    if (looked->is_damaged || looked->n_total == 0)
        return 0;
    find->last = looked;
    r = query_selected_id(find->query, agent, find->arena);
    if (r)
        return pass(r);
    request->found[request->n_found++] = (struct query_match){
        .agent = agent->id,
        .revision = inventory.revision,
        .time = inventory.time,
        .columns = looked->columns,
        .n_columns = looked->n_columns,
        .rows = looked->rows,
        .n_rows = looked->n_rows,
        .n_total = looked->n_total,
    };
    return 0;
}

static size_t match_bytes(const struct query_match *match, const struct looked *looked)
{
    return strlen(match->agent) + 64 + looked->n_bytes;
}

/* Agents from `first` on, until the page is full; *ret_end: behind the last that was looked at. */
static int
walk(struct find *find, struct query_selected *selected, size_t n, size_t first, size_t *ret_end)
{
    CLEANUP(arena_deinit) struct arena scratch = { 0 };
    struct query_find *request = find->request;
    size_t n_bytes = 0, i = first;
    int r = 0;

    arena_init(&scratch, QUERY_REVISION_BYTES);
    for (; i < n && !r; i++) {
        size_t n_before = request->n_found;

        if (n_before == request->page_size || n_bytes >= QUERY_PAGE_BYTES ||
            store_contents_read_bytes(find->contents) > find->query->max_inventory_bytes)
            break;
        if (i % UNWANTED_EVERY == 0 && request->is_unwanted && request->is_unwanted(request->ctx))
            return QUERY_UNWANTED;
        arena_reset(&scratch, QUERY_REVISION_BYTES);
        r = look_at(find, &selected[i], &scratch);
        if (!r && request->n_found > n_before)
            n_bytes += match_bytes(&request->found[n_before], find->last);
    }
    *ret_end = i;
    return pass(r);
}

/* Nothing was found: it may be that nobody has such a table, or such a column. */
static int explain(const struct find *find, struct query_problem *problem)
{
    const struct query_find *request = find->request;

    if (!find->has_table)
        return query_refuse(problem, QUERY_NOT_FOUND, "table",
                            "none of these agents has a table `%.64s`; GetInventory with "
                            "without_rows names what one has",
                            request->table);
    for (size_t i = 0; i < request->n_matches; i++) {
        char field[48];

        if (find->has_column[i])
            continue;
        snprintf(field, sizeof(field), "match[%zu].column", i);
        return query_refuse(problem, QUERY_NOT_FOUND, field,
                            "no table `%.64s` has a column `%.64s`; it has: %.*s", request->table,
                            request->matches[i].column,
                            (int) (find->columns.len < 128 ? find->columns.len : 128),
                            find->columns.len ? (const char *) find->columns.data : "");
    }
    return 0;
}

static int check(struct query_find *request, struct query_problem *problem)
{
    if (!request->table || !*request->table)
        return query_refuse(problem, QUERY_BAD, "table",
                            "which table? GetInventory with without_rows names what an agent has");
    if (request->n_matches == 0 || request->n_matches > QUERY_MAX_MATCHES)
        return query_refuse(problem, QUERY_BAD, "match", "1 to %d columns with what they must be",
                            QUERY_MAX_MATCHES);
    for (size_t i = 0; i < request->n_matches; i++) {
        char field[40];
        int r;

        snprintf(field, sizeof(field), "match[%zu]", i);
        if (!request->matches[i].column || !*request->matches[i].column)
            return query_refuse(problem, QUERY_BAD, field, "which column?");
        if (!request->matches[i].value && !request->matches[i].pattern)
            return query_refuse(problem, QUERY_BAD, field, "a value, or a pattern with * and ?");
        snprintf(field, sizeof(field), "match[%zu].pattern", i);
        r = query_check_pattern(request->matches[i].pattern, field, problem);
        if (r)
            return pass(r);
    }
    return pass(query_page_size(&request->page_size, problem));
}

static void digest_of(struct query_digest *digest, const struct query_find *request)
{
    query_digest_add(digest, "find inventory");
    query_digest_add(digest, request->table);
    query_digest_add_u64(digest, request->n_matches);
    for (size_t i = 0; i < request->n_matches; i++) {
        query_digest_add(digest, request->matches[i].column);
        query_digest_add_u64(digest, request->matches[i].value != NULL);
        query_digest_add(digest, request->matches[i].value ? request->matches[i].value
                                                           : request->matches[i].pattern);
    }
    query_digest_add_selector(digest, request->selector);
}

static int find_page(struct find *find, const char *behind, struct query_problem *problem)
{
    struct query_find *request = find->request;
    struct query_digest digest = { 0 };
    struct query_selected *selected;
    size_t n, first = 0, end = 0;
    int r = query_select(find->query, request->selector, find->arena, &selected, &n, problem);

    if (!r && behind)
        r = query_find_behind(find->query, selected, n, behind, find->arena, &first);
    if (!r)
        r = walk(find, selected, n, first, &end);
    if (r)
        return pass(r);
    if (end == n)
        return !behind && n > 0 && request->n_found == 0 && request->n_unreadable == 0
                   ? explain(find, problem)
                   : 0;
    r = query_selected_id(find->query, &selected[end - 1], find->arena);
    if (r)
        return pass(r);
    digest_of(&digest, request);
    return pass(query_token_make(find->query, &digest, selected[end - 1].id, find->arena,
                                 &request->next_page_token));
}

int query_find_inventory(const struct query *query,
                         struct query_find *request,
                         struct arena *arena,
                         struct query_problem *ret_problem)
{
    struct find find = { .query = query, .request = request, .arena = arena };
    struct query_digest digest = { 0 };
    const char *behind = NULL;
    int r = check(request, ret_problem);

    if (r)
        return pass(r);
    digest_of(&digest, request);
    r = query_token_read(query, &digest, request->page_token, arena, &behind, ret_problem);
    if (r)
        return pass(r);
    request->next_page_token = "";
    request->found = arena_alloc_array(arena, request->page_size, sizeof(*request->found));
    if (!request->found)
        return fault(-ENOMEM, "page of matches");
    r = store_contents_new(&find.contents, query->store);
    if (!r)
        r = find_page(&find, behind, ret_problem);
    store_contents_free(find.contents);
    map_deinit(&find.looked);
    buf_deinit(&find.text);
    buf_deinit(&find.columns);
    return pass(r);
}
