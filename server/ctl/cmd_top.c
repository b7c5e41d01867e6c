/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "common/base/text.h"
#include "server/ctl/convert.h"

/*
 * metrics top [PATTERN] [--by metric|agent|attribute] [--top N]
 *
 * Who makes the cardinality. Without --by all three, ten rows of each.
 */

#define TOP_METRICS "/sentinel.query.v1.QueryService/TopMetrics"
#define ROWS_OF_ALL 10
#define ROWS_OF_ONE 20
#define ROWS_MAX 100000
#define PAGE_MAX 1000

typedef Sentinel__Query__V1__TopMetricsRequest top_request;
typedef Sentinel__Query__V1__TopMetricsResponse top_response;
typedef Sentinel__Query__V1__TopRow top_row;

struct kind {
    const char *name, *key; /* of --by, of JSON */
    Sentinel__Query__V1__TopBy by;
    const char *headers[6];
};

static const struct kind kinds[] = {
    { "metric",
      "metrics",
      SENTINEL__QUERY__V1__TOP_BY__TOP_BY_METRIC,
      { "METRIC", ">SERIES", ">DISTINCT", ">AGENTS", NULL } },
    { "agent", "agents", SENTINEL__QUERY__V1__TOP_BY__TOP_BY_AGENT, { "AGENT", ">SERIES", NULL } },
    { "attribute",
      "attributes",
      SENTINEL__QUERY__V1__TOP_BY__TOP_BY_ATTRIBUTE,
      { "ATTRIBUTE", ">VALUES", ">SERIES", ">DISTINCT", "MOST OF IT IN", NULL } },
};
#define N_KINDS (sizeof(kinds) / sizeof(kinds[0]))

static void put_row(struct table *table, const struct kind *kind, const top_row *row)
{
    const bool is_attribute = kind->by == SENTINEL__QUERY__V1__TOP_BY__TOP_BY_ATTRIBUTE;

    table_add(table, row->name);
    if (is_attribute)
        table_printf(table, "%llu", (unsigned long long) row->values);
    table_printf(table, "%llu", (unsigned long long) row->series);
    if (kind->by != SENTINEL__QUERY__V1__TOP_BY__TOP_BY_AGENT)
        table_printf(table, "%u", row->definitions);
    if (is_attribute)
        table_add(table, row->metric);
    if (kind->by == SENTINEL__QUERY__V1__TOP_BY__TOP_BY_METRIC)
        table_printf(table, "%u", row->agents);
}

static void put_json(struct json_writer *json, const struct kind *kind, const top_row *row)
{
    json_open_object(json);
    json_put_text(json, kind->name, row->name);
    json_put_u64(json, "series", row->series);
    if (kind->by != SENTINEL__QUERY__V1__TOP_BY__TOP_BY_AGENT)
        json_put_u64(json, "distinct", row->definitions);
    if (kind->by == SENTINEL__QUERY__V1__TOP_BY__TOP_BY_METRIC)
        json_put_u64(json, "agents", row->agents);
    if (kind->by == SENTINEL__QUERY__V1__TOP_BY__TOP_BY_ATTRIBUTE) {
        json_put_u64(json, "values", row->values);
        json_put_text(json, "metric", row->metric);
    }
    json_close_object(json);
}

/* Asks for up to n_rows of one kind. *ret is the last page: it has the totals. */
static int top_of(struct ctl *ctl,
                  top_request *request,
                  const struct kind *kind,
                  uint64_t n_rows,
                  struct json_writer *json,
                  const top_response **ret)
{
    struct table table;
    uint64_t n = 0;
    int r;

    request->by = kind->by;
    request->page_token = arena_copy_text(&ctl->arena, "");
    table_begin(&table, kind->headers);
    json_key(json, kind->key);
    json_open_array(json);
    do {
        ProtobufCMessage *message;

        request->page_size = (uint32_t) (n_rows - n < PAGE_MAX ? n_rows - n : PAGE_MAX);
        r = ctl_call(ctl, TOP_METRICS, &request->base, &message);
        if (r)
            break;
        *ret = (const void *) message;
        for (size_t i = 0; i < (*ret)->n_rows; i++) {
            put_row(&table, kind, (*ret)->rows[i]);
            put_json(json, kind, (*ret)->rows[i]);
        }
        n += (*ret)->n_rows;
        request->page_token = (*ret)->next_page_token;
    } while (n < n_rows && *request->page_token);
    json_close_array(json);
    if (r || ctl->is_json) {
        buf_deinit(&table.cells);
        return r;
    }
    table_end(&table, stdout);
    if (*request->page_token)
        printf("... %llu of %u; --top N shows more\n", (unsigned long long) n, (*ret)->total);
    return CTL_OK;
}

static int read_options(struct ctl *ctl, const struct kind **ret_kind, uint64_t *ret_n_rows)
{
    *ret_kind = NULL;
    for (size_t i = 0; ctl->by && i < N_KINDS; i++)
        if (strcmp(ctl->by, kinds[i].name) == 0)
            *ret_kind = &kinds[i];
    if (ctl->by && !*ret_kind)
        return ctl_say(CTL_USAGE, "--by: `%s` is none of metric, agent, attribute", ctl->by);
    if (ctl->by)
        *ret_n_rows = ROWS_OF_ONE;
    if (ctl->top &&
        (text_to_u64(ctl->top, ret_n_rows) || *ret_n_rows < 1 || *ret_n_rows > ROWS_MAX))
        return ctl_say(CTL_USAGE, "--top: `%s` is not a number from 1 to %d", ctl->top, ROWS_MAX);
    return CTL_OK;
}

int cmd_metrics_top(struct ctl *ctl)
{
    top_request request = SENTINEL__QUERY__V1__TOP_METRICS_REQUEST__INIT;
    const top_response *answer = NULL;
    const struct kind *only;
    ctl_selector selector;
    struct json_writer json;
    struct buf out = { 0 };
    uint64_t n_rows = ROWS_OF_ALL;
    int r;

    r = read_options(ctl, &only, &n_rows);
    if (!r)
        r = convert_selector(ctl, &selector);
    if (r)
        return r;
    request.agents = &selector;
    if (ctl->n_words > 0)
        request.name_pattern = arena_copy_text(&ctl->arena, ctl->words[0]);
    json_begin(&json, &out, true);
    json_open_object(&json);
    for (size_t i = 0; !r && i < N_KINDS; i++) {
        if (only && only != &kinds[i])
            continue;
        if (!only && i > 0 && !ctl->is_json)
            printf("\n");
        r = top_of(ctl, &request, &kinds[i], n_rows, &json, &answer);
    }
    if (!r && answer) {
        json_put_u64(&json, "series", answer->series);
        json_put_u64(&json, "distinct", answer->definitions);
    }
    json_close_object(&json);
    if (!r && ctl->is_json)
        printf("%s\n", buf_text(&out));
    else if (!r && answer)
        printf("\n%llu series, %u distinct sets of attributes\n",
               (unsigned long long) answer->series, answer->definitions);
    buf_deinit(&out);
    return r;
}
