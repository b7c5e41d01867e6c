/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/ask.h"
#include "bench/record.h"
#include "common/base/map.h"

#define ARENA_BYTES (UINT64_C(4) << 30)
#define PAGE_SIZE 500u
/* Steps of one question: 200 series of one name fit a hub's limit of points. */
#define CHUNK_STEPS 1000

struct gathering {
    struct ask *ask;
    const struct gather *wanted;
    struct replay *replay;
    struct map by_key; /* struct replay_series */
};

static int no_memory(void)
{
    return bench_say(BENCH_FAILED, "out of memory");
}

/* ---- series ---- */

typedef Sentinel__Query__V1__TimeSeries__LabelsEntry label_entry;

static bool is_agent(const label_entry *label)
{
    return strcmp(label->key, "agent") == 0;
}

static struct replay_series *add_series(struct gathering *gathering,
                                        const Sentinel__Query__V1__QueryMetricsResponse *from,
                                        const Sentinel__Query__V1__TimeSeries *series,
                                        const char *key)
{
    struct replay *replay = gathering->replay;
    struct replay_series *to = &replay->series[replay->n_series];

    if (replay->n_series == REPLAY_MAX_SERIES || series->n_labels > REPLAY_MAX_ATTRIBUTES)
        return NULL;
    to->name = arena_copy_text(&replay->arena, from->name);
    to->unit = arena_copy_text(&replay->arena, from->unit);
    to->is_counter = strcmp(from->kind, "COUNTER") == 0;
    to->attributes =
        arena_alloc_array(&replay->arena, series->n_labels + 1, sizeof(*to->attributes));
    to->values = arena_alloc_array(&replay->arena, replay->n_rows, sizeof(*to->values));
    key = arena_copy_text(&replay->arena, key);
    if (!to->name || !to->unit || !to->attributes || !to->values || !key)
        return NULL;
    for (size_t i = 0; i < series->n_labels; i++) {
        struct replay_attribute *attribute = &to->attributes[to->n_attributes];

        if (is_agent(series->labels[i]))
            continue;
        attribute->key = arena_copy_text(&replay->arena, series->labels[i]->key);
        attribute->value = arena_copy_text(&replay->arena, series->labels[i]->value);
        if (!attribute->key || !attribute->value)
            return NULL;
        to->n_attributes++;
    }
    for (uint32_t i = 0; i < replay->n_rows; i++)
        to->values[i] = NAN;
    if (map_put(&gathering->by_key, span_of_text(key), to) < 0)
        return NULL;
    replay->n_series++;
    return to;
}

/* The hub gives labels in order, so they make a key. */
static int put_series(struct gathering *gathering,
                      const Sentinel__Query__V1__QueryMetricsResponse *from,
                      const Sentinel__Query__V1__TimeSeries *series)
{
    const struct gather *wanted = gathering->wanted;
    CLEANUP(buf_deinit) struct buf key = { 0 };
    struct replay_series *to;

    buf_append_text(&key, from->name);
    for (size_t i = 0; i < series->n_labels; i++)
        if (!is_agent(series->labels[i]))
            buf_printf(&key, "\n%s=%s", series->labels[i]->key, series->labels[i]->value);
    to = map_get(&gathering->by_key, span_of_text(buf_text(&key)));
    if (!to)
        to = add_series(gathering, from, series, buf_text(&key));
    if (!to)
        return bench_say(BENCH_FAILED, "no room for the series %s: more than %u of them, or memory",
                         from->name, REPLAY_MAX_SERIES);
    for (size_t i = 0; i < series->n_points; i++) {
        const Google__Protobuf__Timestamp *time = series->points[i]->time;
        int64_t row;

        if (!time)
            continue;
        row =
            (time->seconds * 1000000 + time->nanos / 1000 - wanted->from_us) / wanted->interval_us;
        if (row >= 0 && row < (int64_t) gathering->replay->n_rows)
            to->values[row] = series->points[i]->value;
    }
    return BENCH_OK;
}

/* ---- asking ---- */

struct range_question {
    Sentinel__Query__V1__QueryMetricsRequest message;
    Sentinel__Query__V1__AgentSelector agents;
    Sentinel__Query__V1__TimeRange range;
    Google__Protobuf__Timestamp from, to;
    Google__Protobuf__Duration step;
    char *ids[1];
};

static void
range_question_init(struct range_question *question, const struct gather *wanted, const char *name)
{
    sentinel__query__v1__query_metrics_request__init(&question->message);
    sentinel__query__v1__agent_selector__init(&question->agents);
    sentinel__query__v1__time_range__init(&question->range);
    google__protobuf__duration__init(&question->step);
    question->ids[0] = (char *) (uintptr_t) wanted->agent;
    question->agents.ids = question->ids;
    question->agents.n_ids = 1;
    question->range.from_time = &question->from;
    question->range.to_time = &question->to;
    question->step.seconds = wanted->interval_us / 1000000;
    question->step.nanos = (int32_t) (wanted->interval_us % 1000000) * 1000;
    question->message.agents = &question->agents;
    question->message.range = &question->range;
    question->message.step = &question->step;
    question->message.name = (char *) (uintptr_t) name;
    question->message.aggregation = SENTINEL__QUERY__V1__AGGREGATION__AGGREGATION_LAST;
}

static int gather_metric(struct gathering *gathering, const char *name)
{
    const struct gather *wanted = gathering->wanted;
    const int64_t chunk_us = CHUNK_STEPS * wanted->interval_us;
    struct range_question question;
    ProtobufCMessage *answer;
    int exit_code = BENCH_OK;

    range_question_init(&question, wanted, name);
    for (int64_t at_us = wanted->from_us; at_us < wanted->to_us && exit_code == BENCH_OK;
         at_us += chunk_us) {
        const int64_t end_us = at_us + chunk_us < wanted->to_us ? at_us + chunk_us : wanted->to_us;
        const Sentinel__Query__V1__QueryMetricsResponse *response;

        question.from = ask_timestamp(at_us);
        question.to = ask_timestamp(end_us);
        exit_code = ask_call(gathering->ask, "/sentinel.query.v1.QueryService/QueryMetrics",
                             &question.message.base, &answer);
        response = (const void *) answer;
        if (exit_code != BENCH_OK || !response)
            continue;
        for (size_t i = 0; i < response->n_series && exit_code == BENCH_OK; i++)
            exit_code = put_series(gathering, response, response->series[i]);
    }
    return exit_code;
}

/* Names, in the recording's arena. */
static int list_metrics(struct gathering *gathering, const char **names, uint32_t *ret_n)
{
    Sentinel__Query__V1__ListMetricsRequest request;
    Sentinel__Query__V1__AgentSelector agents;
    char *ids[1] = { (char *) (uintptr_t) gathering->wanted->agent };
    const char *token = "";
    uint32_t n = 0;

    sentinel__query__v1__list_metrics_request__init(&request);
    sentinel__query__v1__agent_selector__init(&agents);
    agents.ids = ids;
    agents.n_ids = 1;
    request.agents = &agents;
    request.page_size = PAGE_SIZE;
    do {
        const Sentinel__Query__V1__ListMetricsResponse *response;
        ProtobufCMessage *answer;
        int exit_code;

        request.page_token = (char *) (uintptr_t) token;
        exit_code = ask_call(gathering->ask, "/sentinel.query.v1.QueryService/ListMetrics",
                             &request.base, &answer);
        if (exit_code != BENCH_OK)
            return exit_code;
        response = (const void *) answer;
        for (size_t i = 0; response && i < response->n_metrics && n < REPLAY_MAX_SERIES; i++) {
            names[n] = arena_copy_text(&gathering->replay->arena, response->metrics[i]->name);
            if (!names[n++])
                return no_memory();
        }
        token =
            response ? arena_copy_text(&gathering->replay->arena, response->next_page_token) : "";
        if (!token)
            return no_memory();
    } while (*token);
    *ret_n = n;
    return BENCH_OK;
}

/* ---- order ---- */

static bool has_row(const struct replay *replay, uint32_t row)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < replay->n_series; i++)
        n += !isnan(replay->series[i].values[row]);
    return n * 2 > replay->n_series;
}

static double first_value(const double *values, uint32_t n_rows)
{
    for (uint32_t i = 0; i < n_rows; i++)
        if (!isnan(values[i]))
            return values[i];
    return 0;
}

/* Rows of which the agent took no sample go; so the ones beside them become neighbours. */
static void tidy(struct replay *replay, struct gather_result *result)
{
    uint32_t n = 0;

    for (uint32_t row = 0; row < replay->n_rows; row++) {
        if (!has_row(replay, row))
            continue;
        for (uint32_t i = 0; i < replay->n_series; i++)
            replay->series[i].values[n] = replay->series[i].values[row];
        replay->phases[n++] = replay->phases[row];
    }
    result->n_dropped_rows = replay->n_rows - n;
    replay->n_rows = n;
    for (uint32_t i = 0; i < replay->n_series; i++) {
        double *values = replay->series[i].values;
        double last = first_value(values, n);

        for (uint32_t row = 0; row < n; row++) {
            result->n_filled += isnan(values[row]);
            values[row] = isnan(values[row]) ? last : values[row];
            last = values[row];
        }
    }
}

int gather_recording(struct ask *ask,
                     const struct gather *wanted,
                     struct replay *ret,
                     struct gather_result *ret_result)
{
    const int64_t n_rows = (wanted->to_us - wanted->from_us) / wanted->interval_us;
    struct gathering gathering = { .ask = ask, .wanted = wanted, .replay = ret };
    const char **names;
    uint32_t n_names = 0;
    int exit_code;

    *ret = (struct replay){ .first_us = wanted->from_us, .interval_us = wanted->interval_us };
    *ret_result = (struct gather_result){ 0 };
    arena_init(&ret->arena, ARENA_BYTES);
    if (n_rows < 2 || n_rows > REPLAY_MAX_ROWS)
        return bench_say(BENCH_FAILED, "a recording has 2 to %u instants", REPLAY_MAX_ROWS);
    ret->n_rows = (uint32_t) n_rows;
    ret->series = arena_alloc_array(&ret->arena, REPLAY_MAX_SERIES, sizeof(*ret->series));
    ret->phases = arena_alloc_array(&ret->arena, ret->n_rows, 1);
    names = arena_alloc_array(&ret->arena, REPLAY_MAX_SERIES, sizeof(*names));
    if (!ret->series || !ret->phases || !names)
        return no_memory();
    for (uint32_t i = 0; i < ret->n_rows; i++)
        ret->phases[i] = (uint8_t) wanted->phase_of(
            wanted->ctx, wanted->from_us + (int64_t) i * wanted->interval_us);
    exit_code = list_metrics(&gathering, names, &n_names);
    for (uint32_t i = 0; i < n_names && exit_code == BENCH_OK; i++)
        exit_code = gather_metric(&gathering, names[i]);
    map_deinit(&gathering.by_key);
    if (exit_code == BENCH_OK)
        tidy(ret, ret_result);
    if (exit_code == BENCH_OK && (ret->n_series == 0 || ret->n_rows < 2))
        return bench_say(BENCH_FAILED, "the agent sent too little to record");
    return exit_code;
}
