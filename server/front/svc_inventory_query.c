/* SPDX-License-Identifier: Apache-2.0 */

/* sentinel.query.v1.QueryService, what it says of inventories: on readers. */

#include "sentinel/query/v1/query.pb-c.h"

#include "server/front/inside.h"

static char **borrow_texts(const char **texts)
{
    return (char **) (uintptr_t) texts;
}

/* An array of messages and one of pointers to them; false: no room. */
static void *messages(struct unary *unary, size_t n, size_t bytes, void *ret_pointers)
{
    void **pointers = unary_alloc(unary, n + 1, sizeof(void *));
    uint8_t *items = unary_alloc(unary, n + 1, bytes);

    for (size_t i = 0; pointers && items && i < n; i++)
        pointers[i] = items + i * bytes;
    *(void **) ret_pointers = pointers;
    return pointers ? items : NULL;
}

/* ---- rows ---- */

static void set_row(Sentinel__Query__V1__Row *to, const struct query_row *from, size_t n_columns)
{
    sentinel__query__v1__row__init(to);
    to->values = borrow_texts(from->values);
    to->n_values = n_columns;
}

static Sentinel__Query__V1__Row **
row_messages(struct unary *unary, const struct query_row *rows, size_t n, size_t n_columns)
{
    Sentinel__Query__V1__Row **pointers;
    Sentinel__Query__V1__Row *items = messages(unary, n, sizeof(*items), &pointers);

    for (size_t i = 0; items && i < n; i++)
        set_row(&items[i], &rows[i], n_columns);
    return pointers;
}

/* ---- GetInventory ---- */

static void
set_table(struct unary *unary, Sentinel__Query__V1__Table *to, const struct query_table *from)
{
    sentinel__query__v1__table__init(to);
    to->name = front_borrow(from->name);
    to->sha256 = front_borrow(from->sha256);
    to->columns = borrow_texts(from->columns);
    to->n_columns = from->n_columns;
    to->rows = row_messages(unary, from->rows, from->n_rows, from->n_columns);
    to->n_rows = to->rows ? from->n_rows : 0;
    to->total_rows = from->n_total;
}

enum front_failure svc_inventory_get(struct unary *unary)
{
    const Sentinel__Query__V1__GetInventoryRequest *request = (const void *) unary->request;
    struct query_inventory question = {
        .agent = request->agent_id,
        .tables = (const char *const *) request->tables,
        .n_tables = request->n_tables,
        .at_us = INT64_MAX,
        .without_rows = request->without_rows,
        .page_token = request->page_token,
    };
    struct query_problem problem = { 0 };
    Sentinel__Query__V1__GetInventoryResponse *answer = unary_alloc(unary, 1, sizeof(*answer));
    Sentinel__Query__V1__Table *tables;
    enum front_failure failure =
        front_when(unary, "at", request->at, request->at_text, &question.at_us);
    int r;

    if (failure != FAIL_NOT)
        return failure;
    if (unary->is_short)
        return unary_finish(unary, NULL);
    r = query_get_inventory(unary->front->options.query, &question, &unary->arena, &problem);
    if (r != QUERY_OK)
        return front_failure_of_query(r, &problem, &unary->detail);
    sentinel__query__v1__get_inventory_response__init(answer);
    answer->agent_id = request->agent_id;
    answer->revision = question.revision;
    answer->time = unary_time(unary, question.time);
    answer->confirmed_time = unary_time(unary, question.confirmed);
    answer->next_page_token = front_borrow(question.next_page_token);
    tables = messages(unary, question.n_found, sizeof(*tables), &answer->tables);
    for (size_t i = 0; tables && i < question.n_found; i++)
        set_table(unary, &tables[i], &question.found[i]);
    answer->n_tables = question.n_found;
    return unary_finish(unary, &answer->base);
}

/* ---- DiffInventory ---- */

static void set_changed(struct unary *unary,
                        Sentinel__Query__V1__TableDiff *to,
                        const struct query_table_diff *from)
{
    Sentinel__Query__V1__ChangedRow *items =
        messages(unary, from->n_changed, sizeof(*items), &to->changed);
    Sentinel__Query__V1__Row *rows = unary_alloc(unary, 2 * from->n_changed + 1, sizeof(*rows));

    for (size_t i = 0; items && rows && i < from->n_changed; i++) {
        sentinel__query__v1__changed_row__init(&items[i]);
        items[i].from = &rows[2 * i];
        items[i].to = &rows[2 * i + 1];
        set_row(items[i].from, &from->changed[i].from, from->n_columns);
        set_row(items[i].to, &from->changed[i].to, from->n_columns);
    }
    to->n_changed = items && rows ? from->n_changed : 0;
}

static void set_diff(struct unary *unary,
                     Sentinel__Query__V1__TableDiff *to,
                     const struct query_table_diff *from)
{
    sentinel__query__v1__table_diff__init(to);
    to->name = front_borrow(from->name);
    to->columns = borrow_texts(from->columns);
    to->n_columns = from->n_columns;
    to->columns_added = borrow_texts(from->columns_added);
    to->n_columns_added = from->n_columns_added;
    to->columns_removed = borrow_texts(from->columns_removed);
    to->n_columns_removed = from->n_columns_removed;
    to->table_added = from->is_added;
    to->table_removed = from->is_removed;
    to->added = row_messages(unary, from->added, from->n_added, from->n_columns);
    to->n_added = to->added ? from->n_added : 0;
    to->removed = row_messages(unary, from->removed, from->n_removed, from->n_columns);
    to->n_removed = to->removed ? from->n_removed : 0;
    set_changed(unary, to, from);
    to->total_added = from->total_added;
    to->total_removed = from->total_removed;
    to->total_changed = from->total_changed;
}

/* One agent compared with itself now would tell nothing. */
static enum front_failure check_diff(struct unary *unary,
                                     const Sentinel__Query__V1__DiffInventoryRequest *request)
{
    bool is_same =
        !*request->to_agent_id || strcmp(request->to_agent_id, request->from_agent_id) == 0;

    if (!is_same || request->from_time || *request->from_text || *request->page_token)
        return FAIL_NOT;
    front_describe(&unary->detail, "from_time",
                   "one agent is compared with itself: give the time to compare with, such as "
                   "from_text \"-1d\"");
    return FAIL_BAD_QUESTION;
}

enum front_failure svc_inventory_diff(struct unary *unary)
{
    const Sentinel__Query__V1__DiffInventoryRequest *request = (const void *) unary->request;
    struct query_diff question = {
        .from_agent = request->from_agent_id,
        .to_agent = request->to_agent_id,
        .from_us = INT64_MAX,
        .to_us = INT64_MAX,
        .tables = (const char *const *) request->tables,
        .n_tables = request->n_tables,
        .page_token = request->page_token,
    };
    struct query_problem problem = { 0 };
    Sentinel__Query__V1__DiffInventoryResponse *answer = unary_alloc(unary, 1, sizeof(*answer));
    Sentinel__Query__V1__TableDiff *tables;
    enum front_failure failure = check_diff(unary, request);
    int r;

    if (failure == FAIL_NOT)
        failure = front_when(unary, "from_time", request->from_time, request->from_text,
                             &question.from_us);
    if (failure == FAIL_NOT)
        failure = front_when(unary, "to_time", request->to_time, request->to_text, &question.to_us);
    if (failure != FAIL_NOT)
        return failure;
    if (unary->is_short)
        return unary_finish(unary, NULL);
    r = query_diff_inventory(unary->front->options.query, &question, &unary->arena, &problem);
    if (r != QUERY_OK)
        return front_failure_of_query(r, &problem, &unary->detail);
    sentinel__query__v1__diff_inventory_response__init(answer);
    answer->from_revision = question.from_revision;
    answer->to_revision = question.to_revision;
    answer->from_time = unary_time(unary, question.from_time);
    answer->to_time = unary_time(unary, question.to_time);
    answer->next_page_token = front_borrow(question.next_page_token);
    tables = messages(unary, question.n_found, sizeof(*tables), &answer->tables);
    for (size_t i = 0; tables && i < question.n_found; i++)
        set_diff(unary, &tables[i], &question.found[i]);
    answer->n_tables = question.n_found;
    return unary_finish(unary, &answer->base);
}

/* ---- FindInventory ---- */

static void set_match(struct unary *unary,
                      Sentinel__Query__V1__InventoryMatch *to,
                      const struct query_match *from)
{
    sentinel__query__v1__inventory_match__init(to);
    to->agent_id = front_borrow(from->agent);
    to->revision = from->revision;
    to->time = unary_time(unary, from->time);
    to->columns = borrow_texts(from->columns);
    to->n_columns = from->n_columns;
    to->rows = row_messages(unary, from->rows, from->n_rows, from->n_columns);
    to->n_rows = to->rows ? from->n_rows : 0;
    to->total_rows = from->n_total;
}

static const struct query_column_match *
matches_of(struct unary *unary, const Sentinel__Query__V1__FindInventoryRequest *request)
{
    struct query_column_match *to = unary_alloc(unary, request->n_match + 1, sizeof(*to));

    for (size_t i = 0; to && i < request->n_match; i++) {
        const Sentinel__Query__V1__ColumnMatch *from = request->match[i];

        to[i].column = from->column;
        if (from->match_case == SENTINEL__QUERY__V1__COLUMN_MATCH__MATCH_VALUE)
            to[i].value = from->value;
        else if (from->match_case == SENTINEL__QUERY__V1__COLUMN_MATCH__MATCH_PATTERN)
            to[i].pattern = from->pattern;
    }
    return to;
}

enum front_failure svc_inventory_find(struct unary *unary)
{
    const Sentinel__Query__V1__FindInventoryRequest *request = (const void *) unary->request;
    const struct query_selector selector = front_selector(unary, request->agents);
    struct query_find question = {
        .table = request->table,
        .matches = matches_of(unary, request),
        .n_matches = request->n_match,
        .selector = &selector,
        .at_us = INT64_MAX,
        .page_size = request->page_size,
        .page_token = request->page_token,
        .is_unwanted = unary_is_unwanted,
        .ctx = unary,
    };
    struct query_problem problem = { 0 };
    Sentinel__Query__V1__FindInventoryResponse *answer = unary_alloc(unary, 1, sizeof(*answer));
    Sentinel__Query__V1__InventoryMatch *matches;
    enum front_failure failure =
        front_when(unary, "at", request->at, request->at_text, &question.at_us);
    int r;

    if (failure != FAIL_NOT)
        return failure;
    if (unary->is_short)
        return unary_finish(unary, NULL);
    r = query_find_inventory(unary->front->options.query, &question, &unary->arena, &problem);
    if (r != QUERY_OK)
        return front_failure_of_query(r, &problem, &unary->detail);
    sentinel__query__v1__find_inventory_response__init(answer);
    answer->next_page_token = front_borrow(question.next_page_token);
    answer->unreadable_agents = question.n_unreadable;
    matches = messages(unary, question.n_found, sizeof(*matches), &answer->matches);
    for (size_t i = 0; matches && i < question.n_found; i++)
        set_match(unary, &matches[i], &question.found[i]);
    answer->n_matches = question.n_found;
    return unary_finish(unary, &answer->base);
}

/* ---- ListInventoryHistory ---- */

static void set_revision(struct unary *unary,
                         Sentinel__Query__V1__InventoryRevision *to,
                         const struct query_revision *from)
{
    sentinel__query__v1__inventory_revision__init(to);
    to->revision = from->revision;
    to->time = unary_time(unary, from->time);
    to->received_time = unary_time(unary, from->received);
    to->confirmed_time = unary_time(unary, from->confirmed);
    to->tables_changed = borrow_texts(from->changed);
    to->n_tables_changed = from->n_changed;
    to->tables_removed = borrow_texts(from->removed);
    to->n_tables_removed = from->n_removed;
    to->tables = from->n_tables;
    to->rows = from->n_rows;
}

Sentinel__Query__V1__InventoryRevision *svc_inventory_revision(struct unary *unary,
                                                               const struct query_revision *from)
{
    Sentinel__Query__V1__InventoryRevision *to = unary_alloc(unary, 1, sizeof(*to));

    if (to)
        set_revision(unary, to, from);
    return to;
}

enum front_failure svc_inventory_history(struct unary *unary)
{
    const Sentinel__Query__V1__ListInventoryHistoryRequest *request = (const void *) unary->request;
    struct query_history question = {
        .agent = request->agent_id,
        .from_us = INT64_MIN,
        .to_us = INT64_MAX,
        .page_size = request->page_size,
        .page_token = request->page_token,
    };
    struct query_problem problem = { 0 };
    Sentinel__Query__V1__ListInventoryHistoryResponse *answer =
        unary_alloc(unary, 1, sizeof(*answer));
    Sentinel__Query__V1__InventoryRevision *revisions;
    enum front_failure failure =
        front_range(unary, request->range, &question.from_us, &question.to_us);
    int r;

    if (failure != FAIL_NOT)
        return failure;
    if (unary->is_short)
        return unary_finish(unary, NULL);
    r = query_inventory_history(unary->front->options.query, &question, &unary->arena, &problem);
    if (r != QUERY_OK)
        return front_failure_of_query(r, &problem, &unary->detail);
    sentinel__query__v1__list_inventory_history_response__init(answer);
    answer->next_page_token = front_borrow(question.next_page_token);
    revisions = messages(unary, question.n_revisions, sizeof(*revisions), &answer->revisions);
    for (size_t i = 0; revisions && i < question.n_revisions; i++)
        set_revision(unary, &revisions[i], &question.revisions[i]);
    answer->n_revisions = question.n_revisions;
    return unary_finish(unary, &answer->base);
}
