/* SPDX-License-Identifier: Apache-2.0 */

/* sentinel.query.v1.QueryService: on readers. */

#include "sentinel/query/v1/query.pb-c.h"

#include "common/base/text.h"
#include "server/front/acts.h"
#include "server/front/inside.h"

#define HOUR_US INT64_C(3600000000)

struct query_selector front_selector(struct unary *unary,
                                     const Sentinel__Query__V1__AgentSelector *from)
{
    if (!from)
        return (struct query_selector){ 0 };
    return (struct query_selector){
        .ids = (const char *const *) from->ids,
        .n_ids = from->n_ids,
        .pattern = from->pattern,
        .labels = unary_attributes(unary, from->labels, from->n_labels),
        .n_labels = from->n_labels,
    };
}

static char *kind_name(enum store_kind kind)
{
    return front_borrow(kind == STORE_COUNTER ? "COUNTER" : "GAUGE");
}

/* ---- agents ---- */

static Sentinel__Query__V1__Agent *
agent_message(struct unary *unary, const struct store_agent *agent, bool is_connected)
{
    Sentinel__Query__V1__Agent *to = unary_alloc(unary, 1, sizeof(*to));
    struct store_logs_of logs;

    if (!to)
        return NULL;
    store_logs_of_agent(unary->front->options.store, agent->number, &logs);
    sentinel__query__v1__agent__init(to);
    to->agent_id = front_borrow(agent->id);
    to->labels = unary_entries(unary, &sentinel__query__v1__agent__labels_entry__descriptor,
                               agent->labels, agent->n_labels);
    to->n_labels = to->labels ? agent->n_labels : 0;
    to->connected = is_connected;
    to->first_seen = unary_time(unary, agent->first_seen);
    to->last_seen = unary_time(unary, agent->last_seen);
    to->agent_version = front_borrow(agent->version);
    to->host = unary_entries(unary, &sentinel__query__v1__agent__host_entry__descriptor,
                             agent->host, agent->n_host);
    to->n_host = to->host ? agent->n_host : 0;
    to->address = front_borrow(agent->address);
    to->clock_offset = unary_duration(unary, agent->clock_offset_us);
    to->series = agent->n_series;
    to->samples_stored = agent->n_samples;
    to->samples_skipped = agent->n_skipped;
    to->batches_lost = agent->n_lost;
    to->last_sample = unary_time(unary, agent->last_sample);
    to->log_records_stored = logs.n_records;
    to->log_bytes_stored = logs.n_bytes;
    to->log_records_skipped = logs.n_skipped;
    if (logs.last_us != INT64_MIN)
        to->last_log_record = unary_time(unary, (wall_us){ logs.last_us });
    to->interval = unary_duration(unary, (int64_t) agent->interval_ms * 1000);
    return to;
}

enum front_failure svc_query_list_agents(struct unary *unary)
{
    const Sentinel__Query__V1__ListAgentsRequest *request = (const void *) unary->request;
    const struct query_selector selector = front_selector(unary, request->agents);
    struct query_agents question = {
        .selector = &selector,
        .page_size = request->page_size,
        .page_token = request->page_token,
    };
    struct query_problem problem = { 0 };
    Sentinel__Query__V1__ListAgentsResponse *answer = unary_alloc(unary, 1, sizeof(*answer));
    int r;

    if (unary->is_short)
        return unary_finish(unary, NULL);
    r = query_list_agents(unary->front->options.query, &question, &unary->arena, &problem);
    if (r != QUERY_OK)
        return front_failure_of_query(r, &problem, &unary->detail);
    sentinel__query__v1__list_agents_response__init(answer);
    answer->next_page_token = front_borrow(question.next_page_token);
    answer->total = question.total;
    answer->agents = unary_alloc(unary, question.n_agents + 1, sizeof(*answer->agents));
    for (size_t i = 0; answer->agents && i < question.n_agents; i++)
        answer->agents[i] = agent_message(unary, &question.agents[i], question.is_connected[i]);
    answer->n_agents = question.n_agents;
    return unary_finish(unary, &answer->base);
}

static Sentinel__Query__V1__Run *run_message(struct unary *unary, const struct store_run *run)
{
    struct ingest *ingest = unary->front->options.ingest;
    Sentinel__Query__V1__Run *to = unary_alloc(unary, 1, sizeof(*to));
    char *hex = unary_alloc(unary, 2 * STORE_SPOOL_BYTES + 1, 1);

    if (!to || !hex)
        return NULL;
    sentinel__query__v1__run__init(to);
    to->signal = front_borrow(run->signal == STORE_LOGS ? "LOGS" : "METRICS");
    to->spool_id = hex;
    (void) text_of_hex(run->spool, STORE_SPOOL_BYTES, hex);
    to->last_sequence = run->last_sequence;
    to->connected = ingest_run_is_connected(ingest, run->agent, run->signal, run->spool);
    to->last_use = unary_time(unary, run->last_use);
    return to;
}

static enum front_failure answer_agent(struct unary *unary, uint32_t number)
{
    struct store *store = unary->front->options.store;
    Sentinel__Query__V1__GetAgentResponse *answer = unary_alloc(unary, 1, sizeof(*answer));
    struct store_agent agent = { 0 };
    struct store_run *runs = NULL;
    struct query_revision inventory;
    struct pki_agent known;
    size_t n_runs = 0;

    if (!answer)
        return unary_finish(unary, NULL);
    if (store_agent_get(store, number, &unary->arena, &agent) != STORE_OK ||
        store_run_list(store, number, &unary->arena, &runs, &n_runs) != STORE_OK)
        return FAIL_FAULT;
    sentinel__query__v1__get_agent_response__init(answer);
    answer->agent =
        agent_message(unary, &agent, ingest_is_connected(unary->front->options.ingest, number));
    /* `agent` is ours, its id must outlive this function. */
    if (answer->agent) {
        answer->agent->agent_id = arena_copy_text(&unary->arena, agent.id);
        answer->agent->agent_version = arena_copy_text(&unary->arena, agent.version);
        answer->agent->address = arena_copy_text(&unary->arena, agent.address);
        if (!answer->agent->agent_id || !answer->agent->agent_version || !answer->agent->address)
            return unary_finish(unary, NULL);
    }
    answer->runs = unary_alloc(unary, n_runs + 1, sizeof(*answer->runs));
    for (size_t i = 0; answer->runs && i < n_runs; i++)
        answer->runs[i] = run_message(unary, &runs[i]);
    answer->n_runs = n_runs;
    /* One that cannot be read is GetInventory's to tell of. */
    if (query_newest_revision(unary->front->options.query, number, &unary->arena, &inventory) ==
        QUERY_OK)
        answer->inventory = svc_inventory_revision(unary, &inventory);
    if (unary->front->options.pki &&
        pki_agent_get(unary->front->options.pki, agent.id, &known) == PKI_OK)
        answer->identity = svc_admin_identity(unary, &known);
    return unary_finish(unary, &answer->base);
}

enum front_failure svc_query_get_agent(struct unary *unary)
{
    const Sentinel__Query__V1__GetAgentRequest *request = (const void *) unary->request;
    uint32_t number = 0;
    int r;

    if (request->agent_id[0] == '\0') {
        front_describe(&unary->detail, "agent_id", "which agent? `ListAgents` has the ids");
        return FAIL_BAD_QUESTION;
    }
    r = store_agent_find(unary->front->options.store, request->agent_id, &number);
    if (r < 0)
        return FAIL_FAULT;
    if (r != STORE_OK) {
        front_describe(&unary->detail, "agent_id",
                       "no agent %.64s is known; `ListAgents` has the ids", request->agent_id);
        return FAIL_NOT_FOUND;
    }
    return answer_agent(unary, number);
}

/* ---- metrics ---- */

static Sentinel__Query__V1__Metric *metric_message(struct unary *unary,
                                                   const struct query_metric *metric)
{
    Sentinel__Query__V1__Metric *to = unary_alloc(unary, 1, sizeof(*to));
    Sentinel__Query__V1__AttributeValues *rows =
        unary_alloc(unary, metric->n_attributes + 1, sizeof(*rows));

    if (!to || !rows)
        return NULL;
    sentinel__query__v1__metric__init(to);
    to->name = front_borrow(metric->name);
    to->unit = front_borrow(metric->unit);
    to->kind = kind_name(metric->kind);
    to->series = metric->n_series;
    to->agents = metric->n_agents;
    to->attributes = unary_alloc(unary, metric->n_attributes + 1, sizeof(*to->attributes));
    for (size_t i = 0; to->attributes && i < metric->n_attributes; i++) {
        const struct query_attribute_values *from = &metric->attributes[i];

        sentinel__query__v1__attribute_values__init(&rows[i]);
        rows[i].key = front_borrow(from->key);
        rows[i].values = unary_alloc(unary, from->n_values + 1, sizeof(char *));
        rows[i].n_values = rows[i].values ? from->n_values : 0;
        rows[i].has_more = from->has_more;
        for (size_t k = 0; k < rows[i].n_values; k++)
            rows[i].values[k] = front_borrow(from->values[k]);
        to->attributes[i] = &rows[i];
    }
    to->n_attributes = metric->n_attributes;
    return to;
}

enum front_failure svc_query_list_metrics(struct unary *unary)
{
    const Sentinel__Query__V1__ListMetricsRequest *request = (const void *) unary->request;
    const struct query_selector selector = front_selector(unary, request->agents);
    struct query_metrics question = {
        .selector = &selector,
        .name_pattern = request->name_pattern,
        .page_size = request->page_size,
        .page_token = request->page_token,
    };
    struct query_problem problem = { 0 };
    Sentinel__Query__V1__ListMetricsResponse *answer = unary_alloc(unary, 1, sizeof(*answer));
    int r;

    if (unary->is_short)
        return unary_finish(unary, NULL);
    r = query_list_metrics(unary->front->options.query, &question, &unary->arena, &problem);
    if (r != QUERY_OK)
        return front_failure_of_query(r, &problem, &unary->detail);
    sentinel__query__v1__list_metrics_response__init(answer);
    answer->next_page_token = front_borrow(question.next_page_token);
    answer->total = question.total;
    answer->metrics = unary_alloc(unary, question.n_metrics + 1, sizeof(*answer->metrics));
    for (size_t i = 0; answer->metrics && i < question.n_metrics; i++)
        answer->metrics[i] = metric_message(unary, &question.metrics[i]);
    answer->n_metrics = question.n_metrics;
    return unary_finish(unary, &answer->base);
}

/* ---- who makes the cardinality ---- */

enum front_failure svc_query_top_metrics(struct unary *unary)
{
    const Sentinel__Query__V1__TopMetricsRequest *request = (const void *) unary->request;
    const struct query_selector selector = front_selector(unary, request->agents);
    struct query_top question = {
        .selector = &selector,
        .name_pattern = request->name_pattern,
        .by = request->by ? (enum query_top_by) request->by : QUERY_TOP_METRIC,
        .page_size = request->page_size,
        .page_token = request->page_token,
    };
    struct query_problem problem = { 0 };
    Sentinel__Query__V1__TopMetricsResponse *answer = unary_alloc(unary, 1, sizeof(*answer));
    Sentinel__Query__V1__TopRow *rows;
    int r;

    if (unary->is_short)
        return unary_finish(unary, NULL);
    r = query_top(unary->front->options.query, &question, &unary->arena, &problem);
    if (r != QUERY_OK)
        return front_failure_of_query(r, &problem, &unary->detail);
    sentinel__query__v1__top_metrics_response__init(answer);
    answer->next_page_token = front_borrow(question.next_page_token);
    answer->total = question.total;
    answer->series = question.n_series;
    answer->definitions = question.n_definitions;
    rows = unary_alloc(unary, question.n_rows + 1, sizeof(*rows));
    answer->rows = unary_alloc(unary, question.n_rows + 1, sizeof(*answer->rows));
    if (unary->is_short)
        return unary_finish(unary, NULL);
    for (size_t i = 0; i < question.n_rows; i++) {
        const struct query_top_row *from = &question.rows[i];

        sentinel__query__v1__top_row__init(&rows[i]);
        rows[i].name = front_borrow(from->name);
        rows[i].metric = front_borrow(from->metric);
        rows[i].series = from->n_series;
        rows[i].definitions = from->n_definitions;
        rows[i].agents = from->n_agents;
        rows[i].values = from->n_values;
        answer->rows[i] = &rows[i];
    }
    answer->n_rows = question.n_rows;
    return unary_finish(unary, &answer->base);
}

/* ---- ranges ---- */

enum front_failure front_when(struct unary *unary,
                              const char *field,
                              const Google__Protobuf__Timestamp *time,
                              const char *text,
                              int64_t *to_us)
{
    wall_us at;

    if (time && text[0] != '\0') {
        front_describe(&unary->detail, field, "given twice, as a time and as text; give one");
        return FAIL_BAD_QUESTION;
    }
    if (time) {
        if (front_time_of(time, to_us))
            return FAIL_NOT;
        front_describe(&unary->detail, field,
                       "not a valid Timestamp (years 1 to 9999, nanos 0 to 999999999)");
        return FAIL_BAD_QUESTION;
    }
    if (text[0] == '\0')
        return FAIL_NOT;
    if (text_to_time(text, unary->now, &at) != TEXT_OK) {
        front_describe(&unary->detail, field,
                       "not a time: \"now\", \"-1h\" or RFC 3339 such as 2026-11-23T10:00:00Z");
        return FAIL_BAD_QUESTION;
    }
    *to_us = at.us;
    return FAIL_NOT;
}

enum front_failure front_range(struct unary *unary,
                               const Sentinel__Query__V1__TimeRange *range,
                               int64_t *from_us,
                               int64_t *to_us)
{
    enum front_failure failure;

    if (!range)
        return FAIL_NOT;
    failure = front_when(unary, "range.to", range->to_time, range->to, to_us);
    if (failure == FAIL_NOT)
        failure = front_when(unary, "range.from", range->from_time, range->from, from_us);
    return failure;
}

enum front_failure front_range_or_hour(struct unary *unary,
                                       const Sentinel__Query__V1__TimeRange *range,
                                       int64_t *ret_from_us,
                                       int64_t *ret_to_us)
{
    enum front_failure failure;

    *ret_to_us = unary->now.us;
    *ret_from_us = INT64_MIN;
    failure = front_range(unary, range, ret_from_us, ret_to_us);
    if (failure != FAIL_NOT)
        return failure;
    if (*ret_from_us == INT64_MIN)
        *ret_from_us = *ret_to_us - HOUR_US;
    if (*ret_from_us < *ret_to_us)
        return FAIL_NOT;
    front_describe(&unary->detail, "range", "from is not before to");
    return FAIL_BAD_QUESTION;
}

static enum front_failure step_of(struct unary *unary,
                                  const Sentinel__Query__V1__QueryMetricsRequest *request,
                                  int64_t *ret_us)
{
    const char *field = request->step ? "step" : "step_text";
    bool is_good;

    *ret_us = 0;
    if (!request->step && request->step_text[0] == '\0')
        return FAIL_NOT;
    if (request->step)
        is_good = request->step_text[0] == '\0' && front_duration_of(request->step, ret_us);
    else
        is_good = text_to_duration_us(request->step_text, ret_us) == TEXT_OK;
    if (is_good && *ret_us > 0)
        return FAIL_NOT;
    front_describe(&unary->detail, field, "one of step and step_text, above 0, such as \"30s\"");
    return FAIL_BAD_QUESTION;
}

static enum front_failure question_of(struct unary *unary,
                                      const Sentinel__Query__V1__QueryMetricsRequest *request,
                                      struct query_range *ret)
{
    enum front_failure failure;

    *ret = (struct query_range){
        .name = request->name,
        .attributes = unary_attributes(unary, request->attributes, request->n_attributes),
        .n_attributes = request->n_attributes,
        .group_by = (const char *const *) request->group_by,
        .n_group_by = request->n_group_by,
        .group_all = request->group_all,
        .quantile = request->quantile,
        .top_k = request->top_k,
        .page_size = request->page_size,
        .page_token = request->page_token,
        .is_unwanted = unary_is_unwanted,
        .ctx = unary,
    };
    if ((int) request->aggregation < 0 || (int) request->aggregation > (int) QUERY_QUANTILE ||
        (int) request->group_aggregation < 0 ||
        (int) request->group_aggregation > (int) QUERY_QUANTILE) {
        front_describe(&unary->detail, "aggregation", "not an aggregation that this hub knows");
        return FAIL_BAD_QUESTION;
    }
    ret->aggregation = (enum query_aggregation) request->aggregation;
    ret->group_aggregation = (enum query_aggregation) request->group_aggregation;
    failure = front_range_or_hour(unary, request->range, &ret->from_us, &ret->to_us);
    return failure != FAIL_NOT ? failure : step_of(unary, request, &ret->step_us);
}

/* A point and its time, side by side. */
struct point {
    Sentinel__Query__V1__Point message;
    Google__Protobuf__Timestamp time;
};

static Sentinel__Query__V1__TimeSeries *series_message(struct unary *unary,
                                                       const struct query_series *from)
{
    Sentinel__Query__V1__TimeSeries *to = unary_alloc(unary, 1, sizeof(*to));
    struct point *points = unary_alloc(unary, from->n_points + 1, sizeof(*points));

    if (!to || !points)
        return NULL;
    sentinel__query__v1__time_series__init(to);
    to->labels = unary_entries(unary, &sentinel__query__v1__time_series__labels_entry__descriptor,
                               from->labels, from->n_labels);
    to->n_labels = to->labels ? from->n_labels : 0;
    to->points = unary_alloc(unary, from->n_points + 1, sizeof(*to->points));
    if (!to->points)
        return NULL;
    for (size_t i = 0; i < from->n_points; i++) {
        sentinel__query__v1__point__init(&points[i].message);
        front_set_time(&points[i].time, from->points[i].time_us);
        points[i].message.time = &points[i].time;
        points[i].message.value = from->points[i].value;
        points[i].message._value_case = SENTINEL__QUERY__V1__POINT___VALUE_VALUE;
        to->points[i] = &points[i].message;
    }
    to->n_points = from->n_points;
    return to;
}

enum front_failure svc_query_metrics(struct unary *unary)
{
    const Sentinel__Query__V1__QueryMetricsRequest *request = (const void *) unary->request;
    const struct query_selector selector = front_selector(unary, request->agents);
    Sentinel__Query__V1__QueryMetricsResponse *answer = unary_alloc(unary, 1, sizeof(*answer));
    struct query_problem problem = { 0 };
    struct query_range question;
    enum front_failure failure;
    int r;

    failure = question_of(unary, request, &question);
    if (failure != FAIL_NOT)
        return failure;
    if (unary->is_short)
        return unary_finish(unary, NULL);
    question.selector = &selector;
    r = query_metric_range(unary->front->options.query, &question, &unary->arena, &problem);
    if (r != QUERY_OK)
        return front_failure_of_query(r, &problem, &unary->detail);

    sentinel__query__v1__query_metrics_response__init(answer);
    answer->name = front_borrow(question.name);
    answer->unit = front_borrow(question.unit);
    answer->kind = kind_name(question.kind);
    answer->aggregation = (Sentinel__Query__V1__Aggregation) question.aggregation;
    answer->from_time = unary_time(unary, (wall_us){ question.from_us });
    answer->to_time = unary_time(unary, (wall_us){ question.to_us });
    answer->step = unary_duration(unary, question.step_us);
    answer->next_page_token = front_borrow(question.next_page_token);
    answer->samples_read = question.n_samples_read;
    if (question.window_us)
        answer->roll_up = unary_duration(unary, question.window_us);
    answer->series = unary_alloc(unary, question.n_series + 1, sizeof(*answer->series));
    for (size_t i = 0; answer->series && i < question.n_series; i++)
        answer->series[i] = series_message(unary, &question.series[i]);
    answer->n_series = question.n_series;
    return unary_finish(unary, &answer->base);
}
