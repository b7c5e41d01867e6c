/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What differs between two revisions. Rows are compared as wholes, in the columns that both tables
 * have. A row that went and one that came pair up where they alone have their first value: that is
 * one thing that changed.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/fault.h"
#include "common/base/text.h"
#include "server/query/inventory_inside.h"

#define TABLE_BYTES ((size_t) 512 << 20) /* one side of a comparison, in memory */

/* A row: as many values as columns are compared. */
typedef const struct span *row_ptr;

/* A table, with the columns that are compared, its rows in order. */
struct side {
    const struct store_inventory *inventory;
    const struct store_inventory_table *table; /* NULL: this side has none */
    struct arena arena;                        /* texts and rows */
    struct span *columns;
    uint32_t n_columns;
    uint32_t *places; /* of the columns that are compared */
    uint32_t n_compared;
    row_ptr *rows;
    size_t n_rows;
    bool is_short;
};

/* What differs, in order of rows. */
struct found {
    row_ptr *added, *removed;
    row_ptr *changed; /* from, to, from, to ... */
    size_t n_added, n_removed, n_changed;
};

struct diff {
    const struct query *query;
    struct query_diff *request;
    struct arena *arena;
    struct store_contents *contents;
    struct store_inventory from, to;
    const char **names; /* of tables, ascending, of either side and wanted */
    size_t n_names;
    size_t first;  /* the name that this page begins with */
    uint64_t skip; /* differences of that table that are on pages before */
    size_t n_bytes;
    const char *to_agent;
    const struct store_inventory *damaged; /* whose table is: from or to */
    struct query_problem *problem;
};

/* ---- tables ---- */

static void side_deinit(struct side *side)
{
    arena_deinit(&side->arena);
    free((void *) side->rows);
    free(side->places);
}

static bool on_row(void *ctx, uint64_t row, const struct span *values)
{
    struct side *side = ctx;
    struct span *copy = arena_alloc_array(&side->arena, side->n_compared + 1, sizeof(*copy));

    (void) row;
    side->is_short = !copy;
    for (uint32_t i = 0; i < side->n_compared && !side->is_short; i++) {
        struct span value = values[side->places[i]];
        const char *text = arena_copy(&side->arena, value);

        copy[i] = span_of(text, value.len);
        side->is_short = !text;
    }
    if (!side->is_short)
        side->rows[side->n_rows++] = copy;
    return !side->is_short;
}

static int damaged(struct diff *diff, const struct side *side)
{
    diff->damaged = side->inventory;
    return STORE_DAMAGED;
}

/* Its columns, before it is known which are compared. */
static int open_side(struct diff *diff, struct side *side)
{
    struct store_content content;
    int r;

    arena_init(&side->arena, TABLE_BYTES);
    if (!side->table)
        return 0;
    r = store_contents_open(diff->contents, side->table->sha256, &content);
    if (r)
        return r < 0 ? pass(r) : damaged(diff, side);
    side->n_columns = content.n_columns;
    side->columns = arena_alloc_array(&side->arena, content.n_columns, sizeof(*side->columns));
    side->places = calloc((size_t) content.n_columns + 1, sizeof(*side->places));
    side->rows = calloc(content.n_rows + 1, sizeof(*side->rows));
    if (!side->columns || !side->places || !side->rows)
        return fault(-ENOMEM, "a table to compare");
    for (uint32_t i = 0; i < content.n_columns; i++) {
        const char *name = arena_copy(&side->arena, content.columns[i]);

        if (!name)
            return fault(-ENOMEM, "a table to compare");
        side->columns[i] = span_of(name, content.columns[i].len);
    }
    return 0;
}

static uint32_t find_column(const struct side *side, struct span name)
{
    uint32_t i = 0;

    while (i < side->n_columns && !span_equal(side->columns[i], name))
        i++;
    return i;
}

/* Those that both have, as `to` orders them; all, where there is one side alone. */
static void choose_columns(struct side *from, struct side *to)
{
    struct side *one = to->table ? to : from, *other = to->table ? from : to;

    for (uint32_t i = 0; i < one->n_columns; i++) {
        uint32_t place = other->table ? find_column(other, one->columns[i]) : i;

        if (other->table && place == other->n_columns)
            continue;
        one->places[one->n_compared++] = i;
        if (other->table)
            other->places[other->n_compared] = place;
        other->n_compared++;
    }
}

static int by_row(const void *a, const void *b, void *ctx)
{
    const struct side *side = ctx;

    return store_content_compare(*(const row_ptr *) a, *(const row_ptr *) b, side->n_compared);
}

static int load_rows(struct diff *diff, struct side *side)
{
    struct store_content content;
    bool is_ordered = true;
    int r;

    if (!side->table)
        return 0;
    r = store_contents_open(diff->contents, side->table->sha256, &content);
    if (!r)
        r = store_contents_rows(diff->contents, (struct span){ 0 }, 0, on_row, side);
    if (r)
        return r < 0 ? pass(r) : damaged(diff, side);
    if (side->is_short) {
        (void) query_refuse(diff->problem, QUERY_TOO_MUCH, "tables",
                            "the table %.64s takes more than %zu MiB to compare; leave it out",
                            side->table->name, TABLE_BYTES >> 20);
        return STORE_TOO_MUCH;
    }
    /* By fewer columns, or others in front, the order is another. */
    for (uint32_t i = 0; i < side->n_compared; i++)
        is_ordered = is_ordered && side->places[i] == i;
    if (!is_ordered)
        qsort_r((void *) side->rows, side->n_rows, sizeof(*side->rows), by_row, side);
    return 0;
}

/* ---- rows ---- */

static void found_deinit(struct found *found)
{
    free((void *) found->added);
    free((void *) found->removed);
    free((void *) found->changed);
}

static bool found_init(struct found *found, const struct side *from, const struct side *to)
{
    size_t n_pairs = from->n_rows < to->n_rows ? from->n_rows : to->n_rows;

    found->removed = calloc(from->n_rows + 1, sizeof(row_ptr));
    found->added = calloc(to->n_rows + 1, sizeof(row_ptr));
    found->changed = calloc(2 * n_pairs + 1, sizeof(row_ptr));
    return found->removed && found->added && found->changed;
}

static void compare_rows(const struct side *from, const struct side *to, struct found *found)
{
    size_t i = 0, k = 0;

    while (i < from->n_rows || k < to->n_rows) {
        int stand = i == from->n_rows ? 1
                    : k == to->n_rows
                        ? -1
                        : store_content_compare(from->rows[i], to->rows[k], from->n_compared);

        if (stand < 0)
            found->removed[found->n_removed++] = from->rows[i];
        else if (stand > 0)
            found->added[found->n_added++] = to->rows[k];
        i += stand <= 0;
        k += stand >= 0;
    }
}

/* How many rows from `at` on have the same first value. */
static size_t run_of(const row_ptr *rows, size_t n, size_t at)
{
    size_t end = at + 1;

    while (end < n && span_equal(rows[at][0], rows[end][0]))
        end++;
    return end - at;
}

/* Takes pairs out of what went and what came; both are in order of their first value. */
static void pair_rows(struct found *found)
{
    size_t i = 0, k = 0, n_removed = 0, n_added = 0;

    while (i < found->n_removed || k < found->n_added) {
        int stand = i == found->n_removed ? 1
                    : k == found->n_added
                        ? -1
                        : store_content_compare(found->removed[i], found->added[k], 1);
        size_t n_went = stand <= 0 ? run_of(found->removed, found->n_removed, i) : 0;
        size_t n_came = stand >= 0 ? run_of(found->added, found->n_added, k) : 0;

        if (n_went == 1 && n_came == 1) {
            found->changed[found->n_changed++] = found->removed[i++];
            found->changed[found->n_changed++] = found->added[k++];
            continue;
        }
        while (n_went-- > 0)
            found->removed[n_removed++] = found->removed[i++];
        while (n_came-- > 0)
            found->added[n_added++] = found->added[k++];
    }
    found->n_removed = n_removed;
    found->n_added = n_added;
    found->n_changed /= 2;
}

/* ---- the answer ---- */

static bool put_row(struct diff *diff, row_ptr row, size_t n, struct query_row *to)
{
    to->values = query_copy_texts(diff->arena, row, n);
    diff->n_bytes += query_row_bytes(row, n);
    return to->values != NULL;
}

/* Those that one side alone has. */
static const char **
columns_of_one(struct diff *diff, const struct side *side, const struct side *other, size_t *ret_n)
{
    const char **names = arena_alloc_array(diff->arena, side->n_columns + 1, sizeof(*names));

    *ret_n = 0;
    for (uint32_t i = 0; names && other->table && i < side->n_columns; i++) {
        if (find_column(other, side->columns[i]) < other->n_columns)
            continue;
        names[*ret_n] = arena_copy(diff->arena, side->columns[i]);
        if (!names[(*ret_n)++])
            return NULL;
    }
    return names;
}

static const char **compared_columns(struct diff *diff, const struct side *side)
{
    const char **names = arena_alloc_array(diff->arena, side->n_compared + 1, sizeof(*names));

    for (uint32_t i = 0; names && i < side->n_compared; i++) {
        names[i] = arena_copy(diff->arena, side->columns[side->places[i]]);
        if (!names[i])
            return NULL;
    }
    return names;
}

static bool put_head(struct diff *diff,
                     const struct side *from,
                     const struct side *to,
                     struct query_table_diff *ret)
{
    const struct side *one = to->table ? to : from;

    ret->name = one->table->name;
    ret->n_columns = one->n_compared;
    ret->columns = compared_columns(diff, one);
    ret->columns_added = columns_of_one(diff, to, from, &ret->n_columns_added);
    ret->columns_removed = columns_of_one(diff, from, to, &ret->n_columns_removed);
    ret->is_added = !from->table;
    ret->is_removed = !to->table;
    diff->n_bytes += 256 + query_row_bytes(from->columns, from->n_columns) +
                     query_row_bytes(to->columns, to->n_columns);
    return ret->columns && ret->columns_added && ret->columns_removed;
}

/* Room for as many of n as a page may have. */
static void *alloc_rows(struct diff *diff, size_t n, size_t bytes)
{
    const size_t most = QUERY_PAGE_BYTES / query_row_bytes(NULL, 0) + 1;

    return arena_alloc_array(diff->arena, (n < most ? n : most) + 1, bytes);
}

/* The differences from number `skip` on, while the page has room. *ret_end: the next that is not on
 * it. */
static bool put_rows(struct diff *diff,
                     const struct found *found,
                     uint64_t skip,
                     struct query_table_diff *to,
                     uint64_t *ret_end)
{
    uint64_t n = found->n_removed + found->n_added + found->n_changed, i = skip;
    size_t n_columns = to->n_columns;
    bool is_good = true;

    to->removed = alloc_rows(diff, found->n_removed, sizeof(*to->removed));
    to->added = alloc_rows(diff, found->n_added, sizeof(*to->added));
    to->changed = alloc_rows(diff, found->n_changed, sizeof(*to->changed));
    if (!to->removed || !to->added || !to->changed)
        return false;
    for (; i < n && is_good && diff->n_bytes < QUERY_PAGE_BYTES; i++) {
        uint64_t at = i;

        if (at < found->n_removed) {
            is_good = put_row(diff, found->removed[at], n_columns, &to->removed[to->n_removed++]);
            continue;
        }
        at -= found->n_removed;
        if (at < found->n_added) {
            is_good = put_row(diff, found->added[at], n_columns, &to->added[to->n_added++]);
            continue;
        }
        at -= found->n_added;
        is_good =
            put_row(diff, found->changed[2 * at], n_columns, &to->changed[to->n_changed].from) &&
            put_row(diff, found->changed[2 * at + 1], n_columns, &to->changed[to->n_changed].to);
        to->n_changed++;
    }
    *ret_end = i;
    return is_good;
}

/* One table; *ret_more: it goes on behind this page, from *ret_end on. */
static int put_table(struct diff *diff,
                     const struct side *from,
                     const struct side *to,
                     uint64_t skip,
                     bool *ret_more,
                     uint64_t *ret_end)
{
    struct query_table_diff *ret = &diff->request->found[diff->request->n_found];
    struct found found = { 0 };
    bool is_good = found_init(&found, from, to);

    *ret = (struct query_table_diff){ 0 };
    *ret_more = false;
    if (is_good) {
        compare_rows(from, to, &found);
        pair_rows(&found);
        is_good = put_head(diff, from, to, ret) && put_rows(diff, &found, skip, ret, ret_end);
    }
    ret->total_removed = found.n_removed;
    ret->total_added = found.n_added;
    ret->total_changed = found.n_changed;
    if (is_good) {
        *ret_more = *ret_end < found.n_removed + found.n_added + found.n_changed;
        diff->request->n_found++;
    }
    found_deinit(&found);
    return is_good ? 0 : fault(-ENOMEM, "rows that differ");
}

static int compare_table(struct diff *diff, size_t i, bool *ret_more, uint64_t *ret_end)
{
    CLEANUP(side_deinit)
    struct side from = { &diff->from, query_find_table(&diff->from, diff->names[i]) };
    CLEANUP(side_deinit)
    struct side to = { &diff->to, query_find_table(&diff->to, diff->names[i]) };
    int r;

    *ret_more = false;
    if (from.table && to.table &&
        memcmp(from.table->sha256, to.table->sha256, sizeof(from.table->sha256)) == 0)
        return 0;
    r = open_side(diff, &from);
    if (!r)
        r = open_side(diff, &to);
    if (r)
        return r < 0 ? pass(r) : r;
    choose_columns(&from, &to);
    if (from.n_compared > 0) { /* without a column in common no row is another's */
        r = load_rows(diff, &from);
        if (!r)
            r = load_rows(diff, &to);
    }
    if (r)
        return r < 0 ? pass(r) : r;
    return pass(put_table(diff, &from, &to, i == diff->first ? diff->skip : 0, ret_more, ret_end));
}

/* ---- the question ---- */

static void digest_of(struct query_digest *digest, const struct query_diff *request)
{
    query_digest_add(digest, "diff inventory");
    query_digest_add(digest, request->from_agent);
    query_digest_add(digest, request->to_agent);
    query_digest_add_u64(digest, request->n_tables);
    for (size_t i = 0; i < request->n_tables; i++)
        query_digest_add(digest, request->tables[i]);
}

/* Names of both, ascending; one that is asked for must be among them. */
static int choose_tables(struct diff *diff)
{
    const struct query_diff *request = diff->request;
    size_t i = 0, k = 0;

    diff->names = arena_alloc_array(diff->arena, diff->from.n_tables + diff->to.n_tables + 1,
                                    sizeof(*diff->names));
    if (!diff->names)
        return fault(-ENOMEM, "names of tables");
    while (i < diff->from.n_tables || k < diff->to.n_tables) {
        const char *a = i < diff->from.n_tables ? diff->from.tables[i].name : NULL;
        const char *b = k < diff->to.n_tables ? diff->to.tables[k].name : NULL;
        int stand = !a ? 1 : !b ? -1 : strcmp(a, b);
        const char *name = stand <= 0 ? a : b;

        if (query_wants_table(request->tables, request->n_tables, name))
            diff->names[diff->n_names++] = name;
        i += stand <= 0;
        k += stand >= 0;
    }
    for (i = 0; i < request->n_tables; i++) {
        for (k = 0; k < diff->n_names && strcmp(diff->names[k], request->tables[i]) != 0;)
            k++;
        if (k == diff->n_names)
            return query_refuse(diff->problem, QUERY_NOT_FOUND, "tables",
                                "neither has a table `%.64s`", request->tables[i]);
    }
    return 0;
}

static int find_one(struct diff *diff,
                    const char *agent,
                    const char *field,
                    uint64_t revision,
                    int64_t at_us,
                    struct store_inventory *ret)
{
    uint32_t number = 0;
    int r = query_agent_number(diff->query, agent, field, &number, diff->problem);

    if (r)
        return pass(r);
    r = revision ? store_inventory_revision(diff->query->store, number, revision, diff->arena, ret)
                 : store_inventory_get(diff->query->store, number, at_us, diff->arena, ret);
    if (r == STORE_NOT_FOUND && revision)
        return query_refuse(diff->problem, QUERY_NOT_FOUND, "page_token",
                            "revision %" PRIu64 " is not kept any more; ask for the first page",
                            revision);
    return query_judge_inventory(r, agent, field, diff->problem);
}

/* Both revisions, and from where the page goes. */
static int begin(struct diff *diff)
{
    const struct query_diff *request = diff->request;
    struct query_digest digest = { 0 };
    const char *behind = NULL;
    uint64_t place[4] = { 0 }; /* revisions, table, difference */
    int r;

    digest_of(&digest, request);
    r = query_token_read(diff->query, &digest, request->page_token, diff->arena, &behind,
                         diff->problem);
    if (!r && behind && !query_split_numbers(behind, place, 4))
        return query_refuse(diff->problem, QUERY_BAD, "page_token", "not a page token of this hub");
    diff->first = place[2];
    diff->skip = place[3];
    if (!r)
        r = find_one(diff, request->from_agent, "from_agent_id", place[0], request->from_us,
                     &diff->from);
    if (!r)
        r = find_one(diff, diff->to_agent, "to_agent_id", place[1], request->to_us, &diff->to);
    return r ? pass(r) : pass(choose_tables(diff));
}

static int put_tables(struct diff *diff)
{
    struct query_digest digest = { 0 };
    char behind[96];

    for (size_t i = diff->first; i < diff->n_names; i++) {
        bool has_more = false;
        uint64_t next = 0;
        int r = 0;

        if (diff->n_bytes >= QUERY_PAGE_BYTES)
            has_more = true;
        else
            r = compare_table(diff, i, &has_more, &next);
        if (r)
            return r < 0 ? pass(r) : r;
        if (!has_more)
            continue;
        snprintf(behind, sizeof(behind), "%" PRIu64 "/%" PRIu64 "/%zu/%" PRIu64,
                 diff->from.revision, diff->to.revision, i, next);
        digest_of(&digest, diff->request);
        return pass(query_token_make(diff->query, &digest, behind, diff->arena,
                                     &diff->request->next_page_token));
    }
    return 0;
}

int query_diff_inventory(const struct query *query,
                         struct query_diff *request,
                         struct arena *arena,
                         struct query_problem *ret_problem)
{
    struct diff diff = {
        .query = query,
        .request = request,
        .arena = arena,
        .to_agent =
            request->to_agent && *request->to_agent ? request->to_agent : request->from_agent,
        .problem = ret_problem,
    };
    int r = query_check_tables(request->n_tables, ret_problem);

    if (!r)
        r = begin(&diff);
    if (r)
        return pass(r);
    request->from_revision = diff.from.revision;
    request->to_revision = diff.to.revision;
    request->from_time = diff.from.time;
    request->to_time = diff.to.time;
    request->next_page_token = "";
    request->found = arena_alloc_array(arena, diff.n_names + 1, sizeof(*request->found));
    if (!request->found)
        return fault(-ENOMEM, "tables that differ");
    r = store_contents_new(&diff.contents, query->store);
    if (!r)
        r = put_tables(&diff);
    store_contents_free(diff.contents);
    if (r == STORE_TOO_MUCH)
        return QUERY_TOO_MUCH;
    if (r <= 0)
        return pass(r);
    return diff.damaged == &diff.from
               ? query_judge_inventory(r, request->from_agent, "from_agent_id", ret_problem)
               : query_judge_inventory(r, diff.to_agent, "to_agent_id", ret_problem);
}
