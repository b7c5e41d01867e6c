/* SPDX-License-Identifier: Apache-2.0 */
#include "server/query/inventory_inside.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/base/fault.h"
#include "common/base/text.h"

#define FIRST_ROWS 64 /* of a page's array of rows; it doubles */

/* ---- shared ---- */

int query_agent_number(const struct query *query,
                       const char *id,
                       const char *field,
                       uint32_t *ret,
                       struct query_problem *problem)
{
    int r;

    if (!id || !*id)
        return query_refuse(problem, QUERY_BAD, field, "which agent? ListAgents has the ids");
    r = store_agent_find(query->store, id, ret);
    if (r == STORE_NOT_FOUND)
        return query_refuse(problem, QUERY_NOT_FOUND, field,
                            "no agent `%.64s` is known; ListAgents names them", id);
    return fold(r);
}

int query_judge_inventory(int r,
                          const char *agent,
                          const char *field,
                          struct query_problem *problem)
{
    if (r == STORE_NOT_FOUND)
        return query_refuse(problem, QUERY_NOT_FOUND, field,
                            "the hub has no inventory of %.64s as of then; ListInventoryHistory "
                            "says what there is",
                            agent);
    if (r == STORE_DAMAGED)
        return query_refuse(problem, QUERY_DAMAGED, field,
                            "the inventory of %.64s is damaged at the hub; sentinel-hub verify "
                            "names what, and the agent's next upload makes it whole",
                            agent);
    return fold(r);
}

int query_check_tables(size_t n, struct query_problem *problem)
{
    if (n <= QUERY_MAX_TABLES)
        return 0;
    return query_refuse(problem, QUERY_BAD, "tables", "%zu tables, at most %d; none means all", n,
                        QUERY_MAX_TABLES);
}

bool query_wants_table(const char *const *tables, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(tables[i], name) == 0)
            return true;
    return n == 0;
}

const struct store_inventory_table *query_find_table(const struct store_inventory *inventory,
                                                     const char *name)
{
    for (size_t i = 0; i < inventory->n_tables; i++)
        if (strcmp(inventory->tables[i].name, name) == 0)
            return &inventory->tables[i];
    return NULL;
}

const char **query_copy_texts(struct arena *arena, const struct span *texts, size_t n)
{
    const char **copies = arena_alloc_array(arena, n + 1, sizeof(*copies));

    for (size_t i = 0; copies && i < n; i++) {
        copies[i] = arena_copy(arena, texts[i]);
        if (!copies[i])
            return NULL;
    }
    return copies;
}

bool query_split_numbers(const char *text, uint64_t *ret, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        size_t len = strcspn(text, "/");
        char number[24];

        if (len >= sizeof(number) || (text[len] == '/') != (i + 1 < n))
            return false;
        memcpy(number, text, len);
        number[len] = 0;
        if (text_to_u64(number, &ret[i]))
            return false;
        text += len + 1;
    }
    return true;
}

size_t query_row_bytes(const struct span *values, size_t n)
{
    size_t n_bytes = 6; /* tags and lengths */

    for (size_t i = 0; i < n; i++)
        n_bytes += values[i].len + 5;
    return n_bytes;
}

/* ---- what an agent has ---- */

/* A page under way: rows of the table at hand. */
struct page {
    struct arena *arena;
    struct query_table *table;
    size_t capacity, n_bytes;
    uint64_t next_row; /* the first that is not on it */
    bool is_full, has_failed;
};

static bool add_row(void *ctx, uint64_t row, const struct span *values)
{
    struct page *page = ctx;
    struct query_table *table = page->table;

    if (page->n_bytes >= QUERY_PAGE_BYTES) {
        page->is_full = true;
        return false;
    }
    if (table->n_rows == page->capacity) {
        size_t capacity = page->capacity ? 2 * page->capacity : FIRST_ROWS;
        struct query_row *grown = arena_alloc_array(page->arena, capacity, sizeof(*grown));

        page->has_failed = !grown;
        if (!grown)
            return false;
        if (table->n_rows)
            memcpy(grown, table->rows, table->n_rows * sizeof(*grown));
        table->rows = grown;
        page->capacity = capacity;
    }
    table->rows[table->n_rows].values = query_copy_texts(page->arena, values, table->n_columns);
    page->has_failed = !table->rows[table->n_rows].values;
    if (page->has_failed)
        return false;
    table->n_rows++;
    page->n_bytes += query_row_bytes(values, table->n_columns);
    page->next_row = row + 1;
    return true;
}

static int add_table(struct store_contents *contents,
                     const struct store_inventory_table *from,
                     uint64_t from_row,
                     bool without_rows,
                     struct page *page)
{
    char hex[2 * STORE_SHA256_BYTES + 1];
    struct store_content content;
    int r = store_contents_open(contents, from->sha256, &content);

    if (r)
        return r < 0 ? pass(r) : STORE_DAMAGED;
    *page->table = (struct query_table){
        .name = from->name,
        .sha256 =
            arena_copy_text(page->arena, text_of_hex(from->sha256, sizeof(from->sha256), hex)),
        .columns = query_copy_texts(page->arena, content.columns, content.n_columns),
        .n_columns = content.n_columns,
        .n_total = content.n_rows,
    };
    if (!page->table->sha256 || !page->table->columns)
        return fault(-ENOMEM, "columns of a table");
    page->capacity = 0;
    page->next_row = from_row;
    page->n_bytes += query_row_bytes(content.columns, content.n_columns);
    if (without_rows)
        return 0;
    r = store_contents_rows(contents, (struct span){ 0 }, from_row, add_row, page);
    if (page->has_failed)
        return fault(-ENOMEM, "rows of a table");
    return r < 0 ? pass(r) : r;
}

static void digest_of(struct query_digest *digest, const struct query_inventory *request)
{
    query_digest_add(digest, "inventory");
    query_digest_add(digest, request->agent);
    query_digest_add_u64(digest, request->without_rows);
    query_digest_add_u64(digest, request->n_tables);
    for (size_t i = 0; i < request->n_tables; i++)
        query_digest_add(digest, request->tables[i]);
}

/* The tables that are wanted, from the place on that a token says. */
static int add_tables(const struct query *query,
                      struct query_inventory *request,
                      const struct store_inventory *inventory,
                      size_t first,
                      uint64_t from_row,
                      struct arena *arena)
{
    CLEANUP(store_contents_freep) struct store_contents *contents = NULL;
    struct page page = { .arena = arena };
    struct query_digest digest = { 0 };
    char behind[64];
    int r = store_contents_new(&contents, query->store);

    for (size_t i = first; i < inventory->n_tables && !r; i++) {
        if (!query_wants_table(request->tables, request->n_tables, inventory->tables[i].name))
            continue;
        page.is_full = page.is_full || page.n_bytes >= QUERY_PAGE_BYTES;
        if (!page.is_full) {
            page.table = &request->found[request->n_found++];
            r = add_table(contents, &inventory->tables[i], i == first ? from_row : 0,
                          request->without_rows, &page);
        } else {
            page.next_row = 0;
        }
        if (!page.is_full || r)
            continue;
        snprintf(behind, sizeof(behind), "%" PRIu64 "/%zu/%" PRIu64, inventory->revision, i,
                 page.next_row);
        digest_of(&digest, request);
        return pass(query_token_make(query, &digest, behind, arena, &request->next_page_token));
    }
    return r < 0 ? pass(r) : r;
}

static int check_asked(const struct query_inventory *request,
                       const struct store_inventory *inventory,
                       struct query_problem *problem)
{
    for (size_t i = 0; i < request->n_tables; i++)
        if (!query_find_table(inventory, request->tables[i]))
            return query_refuse(problem, QUERY_NOT_FOUND, "tables",
                                "%.64s has no table `%.64s` as of then; without tables and with "
                                "without_rows the answer names those it has",
                                request->agent, request->tables[i]);
    return 0;
}

/* The revision that is asked for, or that the token holds. */
static int find_revision(const struct query *query,
                         const struct query_inventory *request,
                         uint32_t number,
                         uint64_t revision,
                         struct arena *arena,
                         struct store_inventory *ret,
                         struct query_problem *problem)
{
    int r = revision ? store_inventory_revision(query->store, number, revision, arena, ret)
                     : store_inventory_get(query->store, number, request->at_us, arena, ret);

    if (r == STORE_NOT_FOUND && revision)
        return query_refuse(problem, QUERY_NOT_FOUND, "page_token",
                            "revision %" PRIu64 " is not kept any more; ask for the first page",
                            revision);
    return query_judge_inventory(r, request->agent, "agent_id", problem);
}

int query_get_inventory(const struct query *query,
                        struct query_inventory *request,
                        struct arena *arena,
                        struct query_problem *ret_problem)
{
    struct query_digest digest = { 0 };
    struct store_inventory inventory;
    const char *behind = NULL;
    uint64_t place[3] = { 0 }; /* revision, table, row */
    uint32_t number = 0;
    int r = query_check_tables(request->n_tables, ret_problem);

    if (!r)
        r = query_agent_number(query, request->agent, "agent_id", &number, ret_problem);
    if (r)
        return pass(r);
    digest_of(&digest, request);
    r = query_token_read(query, &digest, request->page_token, arena, &behind, ret_problem);
    if (!r && behind && !query_split_numbers(behind, place, 3))
        return query_refuse(ret_problem, QUERY_BAD, "page_token", "not a page token of this hub");
    if (!r)
        r = find_revision(query, request, number, place[0], arena, &inventory, ret_problem);
    if (!r)
        r = check_asked(request, &inventory, ret_problem);
    if (r)
        return pass(r);
    request->revision = inventory.revision;
    request->time = inventory.time;
    request->confirmed = inventory.confirmed;
    request->next_page_token = "";
    request->found = arena_alloc_array(arena, inventory.n_tables + 1, sizeof(*request->found));
    if (!request->found)
        return fault(-ENOMEM, "tables");
    r = add_tables(query, request, &inventory, place[1], place[2], arena);
    return r > 0 ? query_judge_inventory(r, request->agent, "agent_id", ret_problem) : pass(r);
}

/* ---- history ---- */

/* A copy in the arena; NULL: exhausted. */
static const char *copy_name(struct arena *arena, const char *name, size_t *n_bytes)
{
    *n_bytes += strlen(name) + 3; /* tag and length */
    return arena_copy_text(arena, name);
}

/* Copies; *n_bytes grows by what it takes in an answer, about. */
static int revision_of(const struct store_inventory *from,
                       struct arena *arena,
                       struct query_revision *ret,
                       size_t *n_bytes)
{
    struct query_revision to = {
        .revision = from->revision,
        .time = from->time,
        .received = from->received,
        .confirmed = from->confirmed,
        .n_tables = (uint32_t) from->n_tables,
        .changed = arena_alloc_array(arena, from->n_tables + 1, sizeof(char *)),
        .removed = arena_alloc_array(arena, from->n_removed + 1, sizeof(char *)),
    };

    if (!to.changed || !to.removed)
        return fault(-ENOMEM, "names of tables");
    *n_bytes += 96; /* numbers and times */
    for (size_t i = 0; i < from->n_tables; i++) {
        to.n_rows += from->tables[i].n_rows;
        if (!from->tables[i].is_changed)
            continue;
        to.changed[to.n_changed] = copy_name(arena, from->tables[i].name, n_bytes);
        if (!to.changed[to.n_changed++])
            return fault(-ENOMEM, "names of tables");
    }
    for (; to.n_removed < from->n_removed; to.n_removed++) {
        to.removed[to.n_removed] = copy_name(arena, from->removed[to.n_removed], n_bytes);
        if (!to.removed[to.n_removed])
            return fault(-ENOMEM, "names of tables");
    }
    *ret = to;
    return 0;
}

int query_newest_revision(const struct query *query,
                          uint32_t number,
                          struct arena *arena,
                          struct query_revision *ret)
{
    struct store_inventory inventory;
    size_t n_bytes = 0;
    int r = store_inventory_get(query->store, number, INT64_MAX, arena, &inventory);

    if (r == STORE_NOT_FOUND)
        return QUERY_NOT_FOUND;
    if (r == STORE_DAMAGED)
        return QUERY_DAMAGED;
    return r ? fold(r) : pass(revision_of(&inventory, arena, ret, &n_bytes));
}

static void history_digest(struct query_digest *digest, const struct query_history *request)
{
    query_digest_add(digest, "inventory history");
    query_digest_add(digest, request->agent);
}

/* Fills a page from a revision down; *ret_more: there is another behind it. Those that the range
 * leaves out may be many: they leave nothing behind. */
static int list_revisions(const struct query *query,
                          struct query_history *request,
                          uint32_t number,
                          uint64_t below,
                          struct arena *arena,
                          bool *ret_more)
{
    CLEANUP(arena_deinit) struct arena scratch = { 0 };
    size_t n_bytes = 0;

    *ret_more = false;
    for (;;) {
        struct store_inventory inventory;
        int r;

        arena_reset(&scratch, QUERY_REVISION_BYTES);
        r = store_inventory_before(query->store, number, below, &scratch, &inventory);
        if (r == STORE_NOT_FOUND)
            return 0;
        if (r)
            return r < 0 ? pass(r) : r;
        below = inventory.revision;
        if (inventory.time.us < request->from_us || inventory.time.us >= request->to_us)
            continue;
        *ret_more = request->n_revisions == request->page_size || n_bytes >= QUERY_PAGE_BYTES;
        if (*ret_more)
            return 0;
        r = revision_of(&inventory, arena, &request->revisions[request->n_revisions++], &n_bytes);
        if (r)
            return pass(r);
    }
}

int query_inventory_history(const struct query *query,
                            struct query_history *request,
                            struct arena *arena,
                            struct query_problem *ret_problem)
{
    struct query_digest digest = { 0 };
    const char *behind = NULL;
    char text[32];
    uint64_t below = UINT64_MAX;
    uint32_t number = 0;
    bool has_more;
    int r = query_page_size(&request->page_size, ret_problem);

    if (!r)
        r = query_agent_number(query, request->agent, "agent_id", &number, ret_problem);
    if (r)
        return pass(r);
    history_digest(&digest, request);
    r = query_token_read(query, &digest, request->page_token, arena, &behind, ret_problem);
    if (r)
        return pass(r);
    if (behind && text_to_u64(behind, &below))
        return query_refuse(ret_problem, QUERY_BAD, "page_token", "not a page token of this hub");
    request->next_page_token = "";
    request->revisions = arena_alloc_array(arena, request->page_size, sizeof(*request->revisions));
    if (!request->revisions)
        return fault(-ENOMEM, "page of revisions");
    r = list_revisions(query, request, number, below, arena, &has_more);
    if (r)
        return query_judge_inventory(r, request->agent, "agent_id", ret_problem);
    if (!has_more)
        return 0;
    digest = (struct query_digest){ 0 };
    history_digest(&digest, request);
    snprintf(text, sizeof(text), "%" PRIu64, request->revisions[request->n_revisions - 1].revision);
    return pass(query_token_make(query, &digest, text, arena, &request->next_page_token));
}
