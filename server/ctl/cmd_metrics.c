/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/text.h"
#include "server/ctl/convert.h"
#include "server/ctl/listing.h"

#define LIST_METRICS "/sentinel.query.v1.QueryService/ListMetrics"
#define QUERY_METRICS "/sentinel.query.v1.QueryService/QueryMetrics"
#define LATEST_RANGE "-5m"

typedef Sentinel__Query__V1__QueryMetricsRequest range_request;
typedef Sentinel__Query__V1__QueryMetricsResponse range_response;
typedef Sentinel__Query__V1__TimeSeries time_series;

/* ---- list ---- */

static void list_row(struct table *table, const Sentinel__Query__V1__Metric *metric)
{
    struct buf attributes = { 0 };

    for (size_t i = 0; i < metric->n_attributes; i++) {
        const Sentinel__Query__V1__AttributeValues *attribute = metric->attributes[i];

        buf_printf(&attributes, "%s%s=", i ? " " : "", attribute->key);
        for (size_t j = 0; j < attribute->n_values && j < 4; j++)
            buf_printf(&attributes, "%s%s", j ? "," : "", attribute->values[j]);
        if (attribute->has_more || attribute->n_values > 4)
            buf_append_text(&attributes, ",...");
    }
    table_add(table, metric->name);
    table_add(table, metric->kind);
    table_add(table, metric->unit);
    table_printf(table, "%u", metric->series);
    table_printf(table, "%u", metric->agents);
    table_add(table, buf_text(&attributes));
    buf_deinit(&attributes);
}

static void list_json(struct json_writer *json, const Sentinel__Query__V1__Metric *metric)
{
    json_open_object(json);
    json_put_text(json, "name", metric->name);
    json_put_text(json, "kind", metric->kind);
    json_put_text(json, "unit", metric->unit);
    json_put_u64(json, "series", metric->series);
    json_put_u64(json, "agents", metric->agents);
    json_key(json, "attributes");
    json_open_object(json);
    for (size_t i = 0; i < metric->n_attributes; i++) {
        json_key(json, metric->attributes[i]->key);
        json_open_array(json);
        for (size_t j = 0; j < metric->attributes[i]->n_values; j++)
            json_text(json, metric->attributes[i]->values[j]);
        json_close_array(json);
    }
    json_close_object(json);
    json_close_object(json);
}

int cmd_metrics_list(struct ctl *ctl)
{
    static const char *const headers[] = { "METRIC",  "KIND",       "UNIT", ">SERIES",
                                           ">AGENTS", "ATTRIBUTES", NULL };
    Sentinel__Query__V1__ListMetricsRequest request =
        SENTINEL__QUERY__V1__LIST_METRICS_REQUEST__INIT;
    ctl_selector selector;
    struct listing list;
    int r;

    r = convert_selector(ctl, &selector);
    if (r)
        return r;
    request.agents = &selector;
    request.page_size = 1000;
    if (ctl->n_words > 0)
        request.name_pattern = arena_copy_text(&ctl->arena, ctl->words[0]);
    listing_begin(&list, ctl, "metrics", headers);
    do {
        ProtobufCMessage *message;
        const Sentinel__Query__V1__ListMetricsResponse *answer;

        r = ctl_call(ctl, LIST_METRICS, &request.base, &message);
        if (r)
            break;
        answer = (const void *) message;
        for (size_t i = 0; i < answer->n_metrics; i++) {
            list_row(&list.table, answer->metrics[i]);
            list_json(&list.json, answer->metrics[i]);
        }
        request.page_token = answer->next_page_token;
    } while (*request.page_token);
    return listing_end(&list, r, "no metric is known that fits");
}

/* ---- query and plot share the question ---- */

/* "p99", "p99.9": a quantile, of which a question has one. */
static int read_percentile(const char *flag, const char *text, range_request *request)
{
    char *end;
    double percent = strtod(text + 1, &end);

    if (!(text[1] >= '0' && text[1] <= '9') || *end || !(percent <= 100))
        return ctl_say(CTL_USAGE, "%s: `%s` is not p0 to p100", flag, text);
    if (request->quantile != 0 && request->quantile != percent / 100)
        return ctl_say(CTL_USAGE, "--agg and --group-agg: one percentile at most");
    request->quantile = percent / 100;
    return CTL_OK;
}

static int read_aggregation(const char *flag,
                            const char *text,
                            range_request *request,
                            Sentinel__Query__V1__Aggregation *ret)
{
    static const char *const names[] = { "default", "avg",  "min",  "max",      "sum",
                                         "count",   "last", "rate", "increase", NULL };

    if (text && text[0] == 'p') {
        *ret = SENTINEL__QUERY__V1__AGGREGATION__AGGREGATION_QUANTILE;
        return read_percentile(flag, text, request);
    }
    for (size_t i = 0; names[i] && text; i++)
        if (strcmp(names[i], text) == 0) {
            *ret = (Sentinel__Query__V1__Aggregation) i;
            return CTL_OK;
        }
    return text
               ? ctl_say(CTL_USAGE,
                         "%s: `%s` is none of avg, min, max, sum, count, last, rate, increase, p99",
                         flag, text)
               : CTL_OK;
}

struct question {
    range_request request;
    ctl_selector selector;
    Sentinel__Query__V1__TimeRange range;
};

static int make_question(struct ctl *ctl, const char *name, struct question *question)
{
    range_request *request = &question->request;
    uint64_t top = 0;
    int r;

    sentinel__query__v1__query_metrics_request__init(request);
    r = convert_selector(ctl, &question->selector);
    if (!r)
        r = convert_range(ctl, ctl->latest ? LATEST_RANGE : "-1h", &question->range);
    question->request.range = &question->range;
    if (!r)
        r = read_aggregation("--agg", ctl->aggregation, request, &request->aggregation);
    if (!r)
        r = read_aggregation("--group-agg", ctl->group_aggregation, request,
                             &request->group_aggregation);
    if (!r && ctl->top && (text_to_u64(ctl->top, &top) || top < 1 || top > UINT32_MAX))
        r = ctl_say(CTL_USAGE, "--top: `%s` is not a number from 1", ctl->top);
    if (r)
        return r;
    request->agents = &question->selector;
    request->name = arena_copy_text(&ctl->arena, name);
    request->top_k = (uint32_t) top;
    request->group_all = ctl->group_all;
    request->n_group_by = ctl->group_by.n_items;
    request->group_by = ctl->group_by.items;
    if (ctl->step)
        request->step_text = arena_copy_text(&ctl->arena, ctl->step);
    request->attributes =
        arena_alloc_array(&ctl->arena, ctl->attributes.n_items,
                          sizeof(Sentinel__Query__V1__QueryMetricsRequest__AttributesEntry *));
    if (!request->name || !request->step_text || !request->attributes)
        return ctl_say(CTL_FAILED, "out of memory");
    for (size_t i = 0; i < ctl->attributes.n_items; i++) {
        Sentinel__Query__V1__QueryMetricsRequest__AttributesEntry *entry =
            arena_alloc(&ctl->arena, sizeof(*entry));

        if (!entry)
            return ctl_say(CTL_FAILED, "out of memory");
        sentinel__query__v1__query_metrics_request__attributes_entry__init(entry);
        r = convert_pair(ctl, "--attribute", ctl->attributes.items[i], &entry->key, &entry->value);
        if (r)
            return r;
        request->attributes[request->n_attributes++] = entry;
    }
    return CTL_OK;
}

static int ask(struct ctl *ctl, const char *name, const range_response **ret)
{
    struct question question;
    ProtobufCMessage *message;
    int r;

    r = make_question(ctl, name, &question);
    if (!r)
        r = ctl_call(ctl, QUERY_METRICS, &question.request.base, &message);
    if (!r)
        *ret = (const void *) message;
    return r;
}

/* The unit of what was computed: a rate of bytes is bytes per second. */
static const char *unit_of(struct ctl *ctl, const range_response *answer)
{
    const char *unit = answer->unit;

    if (answer->aggregation == SENTINEL__QUERY__V1__AGGREGATION__AGGREGATION_COUNT)
        unit = "";
    if (answer->aggregation == SENTINEL__QUERY__V1__AGGREGATION__AGGREGATION_RATE)
        unit = arena_printf(&ctl->arena, "%s/s", answer->unit);
    return unit ? unit : "";
}

static const char *labels_of(struct ctl *ctl, const time_series *series)
{
    struct buf text = { 0 };
    const char *copy;

    for (size_t i = 0; i < series->n_labels; i++)
        buf_printf(&text, "%s%s=%s", i ? " " : "", series->labels[i]->key,
                   series->labels[i]->value);
    copy = arena_copy_text(&ctl->arena, series->n_labels ? buf_text(&text) : "all");
    buf_deinit(&text);
    return copy ? copy : "";
}

static void answer_json(struct json_writer *json, const range_response *answer, const char *unit)
{
    json_open_object(json);
    json_put_text(json, "name", answer->name);
    json_put_text(json, "unit", unit);
    json_put_text(json, "kind", answer->kind);
    json_put_i64(json, "from_us", convert_time_us(answer->from_time));
    json_put_i64(json, "to_us", convert_time_us(answer->to_time));
    json_put_i64(json, "step_us", convert_duration_us(answer->step));
    json_put_u64(json, "samples_read", answer->samples_read);
    if (answer->roll_up)
        json_put_i64(json, "roll_up_us", convert_duration_us(answer->roll_up));
    json_key(json, "series");
    json_open_array(json);
    for (size_t i = 0; i < answer->n_series; i++) {
        const time_series *series = answer->series[i];

        json_open_object(json);
        json_key(json, "labels");
        json_open_object(json);
        for (size_t j = 0; j < series->n_labels; j++)
            json_put_text(json, series->labels[j]->key, series->labels[j]->value);
        json_close_object(json);
        json_key(json, "points");
        json_open_array(json);
        for (size_t j = 0; j < series->n_points; j++) {
            json_open_array(json);
            json_i64(json, convert_time_us(series->points[j]->time));
            json_f64(json, series->points[j]->value);
            json_close_array(json);
        }
        json_close_array(json);
        json_close_object(json);
    }
    json_close_array(json);
    json_close_object(json);
}

static void
answer_rows(struct ctl *ctl, struct table *table, const range_response *answer, const char *unit)
{
    for (size_t i = 0; i < answer->n_series; i++) {
        const time_series *series = answer->series[i];
        size_t first = ctl->latest && series->n_points > 0 ? series->n_points - 1 : 0;

        for (size_t j = first; j < series->n_points; j++) {
            int64_t time_us = convert_time_us(series->points[j]->time);

            table_add(table, answer->name);
            table_add(table, labels_of(ctl, series));
            table_add(table, ctl->latest ? format_ago(ctl, time_us, clock_wall().us)
                                         : format_time(ctl, time_us));
            table_add(table, format_value(ctl, series->points[j]->value, unit));
        }
    }
}

int cmd_metrics_query(struct ctl *ctl)
{
    static const char *const headers[] = { "METRIC", "SERIES", "TIME", ">VALUE", NULL };
    struct json_writer json;
    struct buf out = { 0 };
    struct table table;
    int r = CTL_OK, n_failed = 0;

    table_begin(&table, headers);
    json_begin(&json, &out, true);
    if (ctl->n_words > 1)
        json_open_array(&json);
    for (size_t i = 0; i < ctl->n_words; i++) {
        const range_response *answer;
        int asked = ask(ctl, ctl->words[i], &answer);

        if (asked) {
            r = asked;
            n_failed++;
            continue;
        }
        answer_rows(ctl, &table, answer, unit_of(ctl, answer));
        answer_json(&json, answer, unit_of(ctl, answer));
    }
    if (ctl->n_words > 1)
        json_close_array(&json);
    if (n_failed < (int) ctl->n_words && ctl->is_json)
        printf("%s\n", buf_text(&out));
    if (n_failed < (int) ctl->n_words && !ctl->is_json)
        table_end(&table, stdout);
    else
        buf_deinit(&table.cells);
    buf_deinit(&out);
    return n_failed > 0 && n_failed < (int) ctl->n_words ? CTL_PARTIAL : r;
}

/* ---- plot ---- */

static int read_cells(const char *flag, const char *text, int fallback, int *ret)
{
    uint64_t value;

    *ret = fallback;
    if (!text)
        return CTL_OK;
    if (text_to_u64(text, &value) || value < 2 || value > 500)
        return ctl_say(CTL_USAGE, "%s: `%s` is not a number from 2 to 500", flag, text);
    *ret = (int) value;
    return CTL_OK;
}

static int plot_lines(struct ctl *ctl, const range_response *answer, struct plot *plot)
{
    struct plot_line *lines = arena_alloc_array(&ctl->arena, answer->n_series, sizeof(*lines));

    if (!lines)
        return ctl_say(CTL_FAILED, "out of memory");
    for (size_t i = 0; i < answer->n_series; i++) {
        const time_series *series = answer->series[i];
        int64_t *times = arena_alloc_array(&ctl->arena, series->n_points, sizeof(*times));
        double *values = arena_alloc_array(&ctl->arena, series->n_points, sizeof(*values));

        if (!times || !values)
            return ctl_say(CTL_FAILED, "out of memory");
        for (size_t j = 0; j < series->n_points; j++) {
            times[j] = convert_time_us(series->points[j]->time);
            values[j] = series->points[j]->value;
        }
        lines[i] = (struct plot_line){ .name = labels_of(ctl, series),
                                       .times_us = times,
                                       .values = values,
                                       .n_points = series->n_points };
    }
    plot->lines = lines;
    plot->n_lines = answer->n_series;
    return CTL_OK;
}

/* As setlocale(3) chooses; where nothing is said, terminals of today are UTF-8. */
static bool is_utf8_terminal(void)
{
    static const char *const names[] = { "LC_ALL", "LC_CTYPE", "LANG" };

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const char *value = getenv(names[i]);

        if (value && *value)
            return strcasestr(value, "utf-8") || strcasestr(value, "utf8");
    }
    return true;
}

int cmd_metrics_plot(struct ctl *ctl)
{
    struct winsize window = { .ws_col = 80, .ws_row = 24 };
    const range_response *answer;
    struct plot plot = { 0 };
    bool is_terminal = isatty(STDOUT_FILENO);
    int r;

    if (is_terminal)
        (void) ioctl(STDOUT_FILENO, TIOCGWINSZ, &window);
    r = read_cells("--width", ctl->width, window.ws_col > 30 ? window.ws_col - 14 : 66,
                   &plot.width);
    if (!r)
        r = read_cells("--height", ctl->height, 16, &plot.height);
    if (!r)
        r = ask(ctl, ctl->words[0], &answer);
    if (r)
        return r;
    if (ctl->is_json) {
        struct json_writer json;
        struct buf out = { 0 };

        json_begin(&json, &out, true);
        answer_json(&json, answer, unit_of(ctl, answer));
        printf("%s\n", buf_text(&out));
        buf_deinit(&out);
        return CTL_OK;
    }
    plot.title = answer->name;
    plot.unit = unit_of(ctl, answer);
    plot.from_us = convert_time_us(answer->from_time);
    plot.to_us = convert_time_us(answer->to_time);
    plot.step_us = convert_duration_us(answer->step);
    plot.is_ascii = ctl->is_ascii || !is_utf8_terminal();
    plot.has_color = is_terminal && !ctl->no_color && !getenv("NO_COLOR");
    r = plot_lines(ctl, answer, &plot);
    if (!r)
        plot_print(ctl, &plot, stdout);
    return r;
}
