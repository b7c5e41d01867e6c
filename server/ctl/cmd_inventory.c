/* SPDX-License-Identifier: Apache-2.0 */

/*
 *   inventory show AGENT [TABLE...] [--at TIME] [--all]
 *   inventory diff AGENT [AGENT] [--from TIME] [--to TIME] [--table NAME]
 *   inventory history AGENT [--from TIME] [--to TIME]
 *   inventory find TABLE COLUMN=VALUE... [--agent ...] [--label ...] [--at TIME]
 *
 * Names of tables and columns, and what is in them, are an agent's: they are shown, never sent to a
 * terminal as they are.
 */

#include <string.h>

#include "common/base/clock.h"
#include "common/base/ensure.h"
#include "server/ctl/convert.h"
#include "server/ctl/listing.h"

#define SERVICE "/sentinel.query.v1.QueryService/"

typedef Sentinel__Query__V1__Row row_message;
typedef Sentinel__Query__V1__Table table_message;
typedef Sentinel__Query__V1__TableDiff diff_message;
typedef Sentinel__Query__V1__InventoryRevision revision_message;
typedef Sentinel__Query__V1__InventoryMatch match_message;

/* ---- shared ---- */

static char *copy(struct ctl *ctl, const char *text)
{
    static char empty[] = "";
    char *copied = text ? arena_copy_text(&ctl->arena, text) : NULL;

    return copied ? copied : empty;
}

static char **copy_all(struct ctl *ctl, const char *const *texts, size_t n)
{
    char **copied = arena_alloc_array(&ctl->arena, n + 1, sizeof(*copied));

    for (size_t i = 0; copied && i < n; i++)
        copied[i] = copy(ctl, texts[i]);
    return copied;
}

static void put_texts(struct json_writer *json, const char *key, char *const *texts, size_t n)
{
    if (key)
        json_key(json, key);
    json_open_array(json);
    for (size_t i = 0; i < n; i++)
        json_text(json, texts[i]);
    json_close_array(json);
}

static void put_rows(struct json_writer *json, const char *key, row_message *const *rows, size_t n)
{
    json_key(json, key);
    json_open_array(json);
    for (size_t i = 0; i < n; i++)
        put_texts(json, NULL, rows[i]->values, rows[i]->n_values);
    json_close_array(json);
}

/* A table with the columns of an inventory's, behind columns of ours. */
static void
begin_columns(struct table *table, const char *const *ours, char *const *columns, size_t n)
{
    *table = (struct table){ 0 };
    for (size_t i = 0; ours[i]; i++)
        table_add(table, ours[i]);
    for (size_t i = 0; i < n && table->n_cells < TABLE_MAX_COLUMNS; i++)
        table_add(table, columns[i]);
    table->n_columns = table->n_cells;
}

/* As many cells as the table has columns, whatever the hub says; `n_ours` are there. */
static void add_values(struct table *table, size_t n_ours, const row_message *row)
{
    for (size_t i = 0; i + n_ours < table->n_columns; i++)
        table_add(table, i < row->n_values ? row->values[i] : "");
}

/* ---- show ---- */

static void show_header(struct ctl *ctl, const Sentinel__Query__V1__GetInventoryResponse *answer)
{
    printf("%s  revision %llu of %s", format_printable(ctl, answer->agent_id),
           (unsigned long long) answer->revision, format_time(ctl, convert_time_us(answer->time)));
    if (answer->confirmed_time)
        printf(", confirmed %s",
               format_ago(ctl, convert_time_us(answer->confirmed_time), clock_wall().us));
    printf("\n");
}

static void show_names(const Sentinel__Query__V1__GetInventoryResponse *answer)
{
    static const char *const headers[] = { "TABLE", ">ROWS", "COLUMNS", NULL };
    struct table table;

    table_begin(&table, headers);
    for (size_t i = 0; i < answer->n_tables; i++) {
        const table_message *from = answer->tables[i];
        struct buf columns = { 0 };

        for (size_t k = 0; k < from->n_columns; k++)
            buf_printf(&columns, "%s%s", k ? ", " : "", from->columns[k]);
        table_add(&table, from->name);
        table_printf(&table, "%llu", (unsigned long long) from->total_rows);
        table_add(&table, buf_text(&columns));
        buf_deinit(&columns);
    }
    table_end(&table, stdout);
}

static void show_rows(struct ctl *ctl, const table_message *from)
{
    struct table table;

    printf("\n%s: %llu rows\n", format_printable(ctl, from->name),
           (unsigned long long) from->total_rows);
    begin_columns(&table, (const char *const[]){ NULL }, from->columns, from->n_columns);
    for (size_t i = 0; i < from->n_rows; i++)
        add_values(&table, 0, from->rows[i]);
    if (table.n_columns)
        table_end(&table, stdout);
}

static void show_table_json(struct json_writer *json, const table_message *from, bool has_rows)
{
    json_open_object(json);
    json_put_text(json, "name", from->name);
    json_put_u64(json, "total_rows", from->total_rows);
    json_put_text(json, "sha256", from->sha256);
    put_texts(json, "columns", from->columns, from->n_columns);
    if (has_rows)
        put_rows(json, "rows", from->rows, from->n_rows);
    json_close_object(json);
}

/* All pages as one answer: tables that go on over pages are put together. */
static int get_pages(struct ctl *ctl,
                     Sentinel__Query__V1__GetInventoryRequest *request,
                     Sentinel__Query__V1__GetInventoryResponse **ret)
{
    Sentinel__Query__V1__GetInventoryResponse *whole = NULL;

    do {
        Sentinel__Query__V1__GetInventoryResponse *page;
        ProtobufCMessage *message;
        size_t n, skip = 0;
        table_message **tables;
        int r = ctl_call(ctl, SERVICE "GetInventory", &request->base, &message);

        if (r)
            return r;
        page = (void *) message;
        request->page_token = page->next_page_token;
        if (!whole) {
            whole = page;
            continue;
        }
        if (whole->n_tables > 0 && page->n_tables > 0 &&
            strcmp(whole->tables[whole->n_tables - 1]->name, page->tables[0]->name) == 0) {
            table_message *last = whole->tables[whole->n_tables - 1], *more = page->tables[0];
            row_message **rows =
                arena_alloc_array(&ctl->arena, last->n_rows + more->n_rows + 1, sizeof(*rows));

            if (!rows)
                return ctl_say(CTL_FAILED, "out of memory");
            if (last->n_rows)
                memcpy(rows, last->rows, last->n_rows * sizeof(*rows));
            if (more->n_rows)
                memcpy(rows + last->n_rows, more->rows, more->n_rows * sizeof(*rows));
            last->rows = rows;
            last->n_rows += more->n_rows;
            skip = 1;
        }
        n = page->n_tables - skip;
        tables = arena_alloc_array(&ctl->arena, whole->n_tables + n + 1, sizeof(*tables));
        if (!tables)
            return ctl_say(CTL_FAILED, "out of memory");
        if (whole->n_tables)
            memcpy(tables, whole->tables, whole->n_tables * sizeof(*tables));
        if (n)
            memcpy(tables + whole->n_tables, page->tables + skip, n * sizeof(*tables));
        whole->tables = tables;
        whole->n_tables += n;
    } while (*request->page_token);
    *ret = whole;
    return CTL_OK;
}

int cmd_inventory_show(struct ctl *ctl)
{
    Sentinel__Query__V1__GetInventoryRequest request =
        SENTINEL__QUERY__V1__GET_INVENTORY_REQUEST__INIT;
    Sentinel__Query__V1__GetInventoryResponse *answer = NULL;
    bool has_rows = ctl->n_words > 1 || ctl->group_all;
    struct json_writer json;
    struct buf out = { 0 };
    int r;

    request.agent_id = copy(ctl, ctl->words[0]);
    request.n_tables = ctl->n_words - 1;
    request.tables = copy_all(ctl, ctl->words + 1, request.n_tables);
    request.at_text = copy(ctl, ctl->at);
    request.without_rows = !has_rows;
    r = get_pages(ctl, &request, &answer);
    if (r)
        return r;
    ensure(answer);
    if (!ctl->is_json) {
        show_header(ctl, answer);
        if (!has_rows)
            show_names(answer);
        for (size_t i = 0; has_rows && i < answer->n_tables; i++)
            show_rows(ctl, answer->tables[i]);
        return CTL_OK;
    }
    json_begin(&json, &out, true);
    json_open_object(&json);
    json_put_text(&json, "agent", answer->agent_id);
    json_put_u64(&json, "revision", answer->revision);
    json_put_i64(&json, "time_us", convert_time_us(answer->time));
    json_put_i64(&json, "confirmed_us", convert_time_us(answer->confirmed_time));
    json_key(&json, "tables");
    json_open_array(&json);
    for (size_t i = 0; i < answer->n_tables; i++)
        show_table_json(&json, answer->tables[i], has_rows);
    json_close_array(&json);
    json_close_object(&json);
    printf("%s\n", buf_text(&out));
    buf_deinit(&out);
    return CTL_OK;
}

/* ---- diff ---- */

static void add_sign(struct table *table, const char *sign, row_message *const *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        table_add(table, sign);
        add_values(table, 1, rows[i]);
    }
}

/* Each value once, or as "before -> now". */
static void add_changed(struct table *table, const Sentinel__Query__V1__ChangedRow *row)
{
    table_add(table, "~");
    for (size_t i = 0; i + 1 < table->n_columns; i++) {
        const char *from = row->from && i < row->from->n_values ? row->from->values[i] : "";
        const char *to = row->to && i < row->to->n_values ? row->to->values[i] : "";

        if (strcmp(from, to) == 0)
            table_add(table, to);
        else
            table_printf(table, "%s -> %s", from, to);
    }
}

static void print_columns(struct ctl *ctl, const char *what, char *const *columns, size_t n)
{
    for (size_t i = 0; i < n; i++)
        printf("%s%s", i ? ", " : what, format_printable(ctl, columns[i]));
    if (n)
        printf("\n");
}

static void diff_people(struct ctl *ctl, const diff_message *diff, bool is_first_of_table)
{
    struct table table;

    if (is_first_of_table) {
        printf("\n%s%s: %llu added, %llu removed, %llu changed\n",
               format_printable(ctl, diff->name),
               diff->table_added     ? " (a new table)"
               : diff->table_removed ? " (the table is gone)"
                                     : "",
               (unsigned long long) diff->total_added, (unsigned long long) diff->total_removed,
               (unsigned long long) diff->total_changed);
        print_columns(ctl, "columns that came: ", diff->columns_added, diff->n_columns_added);
        print_columns(ctl, "columns that went: ", diff->columns_removed, diff->n_columns_removed);
    }
    if (diff->n_added + diff->n_removed + diff->n_changed == 0)
        return;
    begin_columns(&table, (const char *const[]){ "", NULL }, diff->columns, diff->n_columns);
    add_sign(&table, "-", diff->removed, diff->n_removed);
    add_sign(&table, "+", diff->added, diff->n_added);
    for (size_t i = 0; i < diff->n_changed; i++)
        add_changed(&table, diff->changed[i]);
    table_end(&table, stdout);
}

static void diff_json(struct json_writer *json, const diff_message *diff)
{
    json_open_object(json);
    json_put_text(json, "table", diff->name);
    json_put_bool(json, "table_added", diff->table_added);
    json_put_bool(json, "table_removed", diff->table_removed);
    json_put_u64(json, "total_added", diff->total_added);
    json_put_u64(json, "total_removed", diff->total_removed);
    json_put_u64(json, "total_changed", diff->total_changed);
    put_texts(json, "columns", diff->columns, diff->n_columns);
    put_texts(json, "columns_added", diff->columns_added, diff->n_columns_added);
    put_texts(json, "columns_removed", diff->columns_removed, diff->n_columns_removed);
    put_rows(json, "added", diff->added, diff->n_added);
    put_rows(json, "removed", diff->removed, diff->n_removed);
    json_key(json, "changed");
    json_open_array(json);
    for (size_t i = 0; i < diff->n_changed; i++) {
        const Sentinel__Query__V1__ChangedRow *row = diff->changed[i];

        json_open_object(json);
        put_texts(json, "from", row->from ? row->from->values : NULL,
                  row->from ? row->from->n_values : 0);
        put_texts(json, "to", row->to ? row->to->values : NULL, row->to ? row->to->n_values : 0);
        json_close_object(json);
    }
    json_close_array(json);
    json_close_object(json);
}

/* What a page of differences looks like, as it comes. */
static bool diff_page(struct ctl *ctl,
                      const Sentinel__Query__V1__DiffInventoryResponse *answer,
                      bool is_first,
                      const char *last_table,
                      struct json_writer *json)
{
    if (is_first && !ctl->is_json)
        printf("revision %llu of %s -> revision %llu of %s\n",
               (unsigned long long) answer->from_revision,
               format_time(ctl, convert_time_us(answer->from_time)),
               (unsigned long long) answer->to_revision,
               format_time(ctl, convert_time_us(answer->to_time)));
    if (is_first && ctl->is_json) {
        json_put_u64(json, "from_revision", answer->from_revision);
        json_put_u64(json, "to_revision", answer->to_revision);
        json_put_i64(json, "from_time_us", convert_time_us(answer->from_time));
        json_put_i64(json, "to_time_us", convert_time_us(answer->to_time));
        json_key(json, "tables");
        json_open_array(json);
    }
    for (size_t i = 0; i < answer->n_tables; i++) {
        if (ctl->is_json)
            diff_json(json, answer->tables[i]);
        else
            diff_people(ctl, answer->tables[i], strcmp(last_table, answer->tables[i]->name) != 0);
    }
    return answer->n_tables > 0;
}

int cmd_inventory_diff(struct ctl *ctl)
{
    Sentinel__Query__V1__DiffInventoryRequest request =
        SENTINEL__QUERY__V1__DIFF_INVENTORY_REQUEST__INIT;
    const char *last_table = "";
    bool is_first = true, has_any = false;
    struct json_writer json;
    struct buf out = { 0 };
    int r;

    request.from_agent_id = copy(ctl, ctl->words[0]);
    request.to_agent_id = copy(ctl, ctl->n_words > 1 ? ctl->words[1] : NULL);
    request.from_text = ctl->range && !ctl->from ? arena_printf(&ctl->arena, "-%s", ctl->range)
                                                 : copy(ctl, ctl->from);
    request.to_text = copy(ctl, ctl->to);
    request.n_tables = ctl->tables.n_items;
    request.tables = copy_all(ctl, (const char *const *) ctl->tables.items, request.n_tables);
    json_begin(&json, &out, true);
    json_open_object(&json);
    do {
        const Sentinel__Query__V1__DiffInventoryResponse *answer;
        ProtobufCMessage *message;

        r = ctl_call(ctl, SERVICE "DiffInventory", &request.base, &message);
        if (r)
            break;
        answer = (const void *) message;
        has_any |= diff_page(ctl, answer, is_first, last_table, &json);
        is_first = false;
        if (answer->n_tables > 0)
            last_table = answer->tables[answer->n_tables - 1]->name;
        request.page_token = answer->next_page_token;
    } while (*request.page_token);
    if (!r && ctl->is_json) {
        json_close_array(&json);
        json_close_object(&json);
        printf("%s\n", buf_text(&out));
    }
    if (!r && !ctl->is_json && !has_any)
        printf("nothing differs\n");
    buf_deinit(&out);
    return r;
}

/* ---- history ---- */

static void add_names(struct buf *to, const char *sign, char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        buf_printf(to, "%s%s%s", to->len ? " " : "", sign, names[i]);
}

static void history_row(struct ctl *ctl, struct table *table, const revision_message *revision)
{
    int64_t now_us = clock_wall().us;
    struct buf names = { 0 };

    add_names(&names, "", revision->tables_changed, revision->n_tables_changed);
    add_names(&names, "-", revision->tables_removed, revision->n_tables_removed);
    table_printf(table, "%llu", (unsigned long long) revision->revision);
    table_add(table, format_time(ctl, convert_time_us(revision->time)));
    table_add(table, revision->confirmed_time
                         ? format_ago(ctl, convert_time_us(revision->confirmed_time), now_us)
                         : "");
    table_printf(table, "%u", revision->tables);
    table_printf(table, "%llu", (unsigned long long) revision->rows);
    table_add(table, buf_text(&names));
    buf_deinit(&names);
}

static void history_json(struct json_writer *json, const revision_message *revision)
{
    json_open_object(json);
    json_put_u64(json, "revision", revision->revision);
    json_put_i64(json, "time_us", convert_time_us(revision->time));
    json_put_i64(json, "received_us", convert_time_us(revision->received_time));
    json_put_i64(json, "confirmed_us", convert_time_us(revision->confirmed_time));
    json_put_u64(json, "tables", revision->tables);
    json_put_u64(json, "rows", revision->rows);
    put_texts(json, "tables_changed", revision->tables_changed, revision->n_tables_changed);
    put_texts(json, "tables_removed", revision->tables_removed, revision->n_tables_removed);
    json_close_object(json);
}

int cmd_inventory_history(struct ctl *ctl)
{
    static const char *const headers[] = { ">REVISION", "TIME",    "CONFIRMED", ">TABLES",
                                           ">ROWS",     "CHANGED", NULL };
    Sentinel__Query__V1__ListInventoryHistoryRequest request =
        SENTINEL__QUERY__V1__LIST_INVENTORY_HISTORY_REQUEST__INIT;
    Sentinel__Query__V1__TimeRange range = SENTINEL__QUERY__V1__TIME_RANGE__INIT;
    struct listing list;
    int r;

    range.from = ctl->range && !ctl->from ? arena_printf(&ctl->arena, "-%s", ctl->range)
                                          : copy(ctl, ctl->from);
    range.to = copy(ctl, ctl->to);
    request.range = &range;
    request.agent_id = copy(ctl, ctl->words[0]);
    request.page_size = 1000;
    listing_begin(&list, ctl, "revisions", headers);
    do {
        const Sentinel__Query__V1__ListInventoryHistoryResponse *answer;
        ProtobufCMessage *message;

        r = ctl_call(ctl, SERVICE "ListInventoryHistory", &request.base, &message);
        if (r)
            break;
        answer = (const void *) message;
        for (size_t i = 0; i < answer->n_revisions; i++) {
            history_row(ctl, &list.table, answer->revisions[i]);
            history_json(&list.json, answer->revisions[i]);
        }
        request.page_token = answer->next_page_token;
    } while (*request.page_token);
    return listing_end(&list, r, "the hub has no inventory of this agent from then");
}

/* ---- find ---- */

/* COLUMN=VALUE; with * or ? it is a pattern. */
static int find_matches(struct ctl *ctl, Sentinel__Query__V1__FindInventoryRequest *request)
{
    size_t n = ctl->n_words - 1;
    Sentinel__Query__V1__ColumnMatch *items = arena_alloc_array(&ctl->arena, n, sizeof(*items));

    request->match = arena_alloc_array(&ctl->arena, n, sizeof(*request->match));
    if (!items || !request->match)
        return ctl_say(CTL_FAILED, "out of memory");
    for (size_t i = 0; i < n; i++) {
        char *value;
        int r;

        sentinel__query__v1__column_match__init(&items[i]);
        r = convert_pair(ctl, "inventory find", ctl->words[i + 1], &items[i].column, &value);
        if (r)
            return r;
        if (strpbrk(value, "*?")) {
            items[i].match_case = SENTINEL__QUERY__V1__COLUMN_MATCH__MATCH_PATTERN;
            items[i].pattern = value;
        } else {
            items[i].match_case = SENTINEL__QUERY__V1__COLUMN_MATCH__MATCH_VALUE;
            items[i].value = value;
        }
        request->match[i] = &items[i];
    }
    request->n_match = n;
    return CTL_OK;
}

static void find_json(struct json_writer *json, const match_message *match)
{
    json_open_object(json);
    json_put_text(json, "agent", match->agent_id);
    json_put_u64(json, "revision", match->revision);
    json_put_i64(json, "time_us", convert_time_us(match->time));
    put_texts(json, "columns", match->columns, match->n_columns);
    put_rows(json, "rows", match->rows, match->n_rows);
    json_put_u64(json, "total_rows", match->total_rows);
    json_close_object(json);
}

struct finding {
    struct table table;
    char *const *columns; /* of the table; NULL: none is begun */
    size_t n_columns, n_agents, n_unreadable;
};

static bool has_same_columns(const struct finding *finding, const match_message *match)
{
    if (!finding->columns || finding->n_columns != match->n_columns)
        return false;
    for (size_t i = 0; i < match->n_columns; i++)
        if (strcmp(finding->columns[i], match->columns[i]) != 0)
            return false;
    return true;
}

/* Agents whose tables have other columns come in a table of their own. */
static void find_people(struct finding *finding, const match_message *match)
{
    if (!has_same_columns(finding, match)) {
        if (finding->columns)
            table_end(&finding->table, stdout);
        begin_columns(&finding->table, (const char *const[]){ "AGENT", NULL }, match->columns,
                      match->n_columns);
        finding->columns = match->columns;
        finding->n_columns = match->n_columns;
    }
    for (size_t i = 0; i < match->n_rows; i++) {
        table_add(&finding->table, match->agent_id);
        add_values(&finding->table, 1, match->rows[i]);
    }
    if (match->total_rows > match->n_rows) {
        table_printf(&finding->table, "... %llu more rows",
                     (unsigned long long) (match->total_rows - match->n_rows));
        add_values(&finding->table, 1, &(row_message){ 0 });
    }
}

static int find_pages(struct ctl *ctl,
                      Sentinel__Query__V1__FindInventoryRequest *request,
                      struct finding *finding,
                      struct json_writer *json)
{
    do {
        const Sentinel__Query__V1__FindInventoryResponse *answer;
        ProtobufCMessage *message;
        int r = ctl_call(ctl, SERVICE "FindInventory", &request->base, &message);

        if (r)
            return r;
        answer = (const void *) message;
        finding->n_agents += answer->n_matches;
        finding->n_unreadable += answer->unreadable_agents;
        for (size_t i = 0; i < answer->n_matches; i++) {
            if (ctl->is_json)
                find_json(json, answer->matches[i]);
            else
                find_people(finding, answer->matches[i]);
        }
        request->page_token = answer->next_page_token;
    } while (*request->page_token);
    return CTL_OK;
}

int cmd_inventory_find(struct ctl *ctl)
{
    Sentinel__Query__V1__FindInventoryRequest request =
        SENTINEL__QUERY__V1__FIND_INVENTORY_REQUEST__INIT;
    struct finding finding = { .columns = NULL };
    ctl_selector selector;
    struct json_writer json;
    struct buf out = { 0 };
    int r = convert_selector(ctl, &selector);

    if (!r)
        r = find_matches(ctl, &request);
    if (r)
        return r;
    request.agents = &selector;
    request.table = copy(ctl, ctl->words[0]);
    request.at_text = copy(ctl, ctl->at);
    request.page_size = 1000;
    json_begin(&json, &out, true);
    json_open_object(&json);
    json_key(&json, "matches");
    json_open_array(&json);
    r = find_pages(ctl, &request, &finding, &json);
    json_close_array(&json);
    json_put_u64(&json, "unreadable_agents", finding.n_unreadable);
    json_close_object(&json);
    if (!r && ctl->is_json)
        printf("%s\n", buf_text(&out));
    else if (!r && finding.n_agents == 0)
        ctl_say(CTL_OK, "no agent has such a row");
    if (finding.columns && !r) {
        table_end(&finding.table, stdout);
        fflush(stdout);
        ctl_say(CTL_OK, "%zu agents", finding.n_agents);
    } else {
        buf_deinit(&finding.table.cells);
    }
    buf_deinit(&out);
    if (!r && finding.n_unreadable > 0)
        return ctl_say(CTL_PARTIAL, "the tables of %zu agents are damaged at the hub",
                       finding.n_unreadable);
    return r;
}
