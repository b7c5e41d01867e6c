/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "bench/ask.h"
#include "common/base/fault.h"
#include "common/tls/tls.h"
#include "common/wire/wire.h"
#include "sentinel/admin/v1/admin.pb-c.h"

#define TIMEOUT_US INT64_C(60000000)
#define ARENA_BYTES (UINT64_C(512) << 20)
/* A hub that is just coming up again is asked once more. */
#define N_ATTEMPTS 50
#define NAP_MS 200

struct ask *ask_close(struct ask *ask)
{
    if (!ask)
        return NULL;
    ask->channel = rpc_channel_free(ask->channel);
    ask->queue = rpc_queue_free(ask->queue);
    ask->loop = loop_free(ask->loop);
    arena_deinit(&ask->arena);
    free(ask);
    return NULL;
}

static int load_credentials(const char *directory, struct rpc_credentials **ret)
{
    CLEANUP(tls_identity_deinit) struct tls_identity identity = { 0 };
    struct tls_why why = { "" };
    int r = tls_identity_load(directory, &identity, &why);

    if (r == 0)
        r = rpc_credentials_new(
            ret, &(struct rpc_credentials_options){ .roots_pem = buf_span(&identity.roots_pem),
                                                    .chain_pem = buf_span(&identity.chain_pem),
                                                    .key_pem = buf_span(&identity.key_pem) });
    if (r > 0)
        return fault(-EINVAL, "no usable operator's identity in %s: %s", directory, why.text);
    return pass(r);
}

int ask_open(struct ask **ret, const char *target, const char *server_name, const char *identity)
{
    CLEANUP(ask_closep) struct ask *ask = calloc(1, sizeof(*ask));
    CLEANUP(rpc_credentials_freep) struct rpc_credentials *credentials = NULL;
    struct rpc_channel_options options = {
        .target = target,
        .server_name = server_name,
        .min_backoff_us = 100000,
        .max_backoff_us = 1000000,
    };
    int r;

    if (!ask)
        return fault(-ENOMEM, "no memory for a session");
    arena_init(&ask->arena, ARENA_BYTES);
    r = identity ? load_credentials(identity, &credentials) : 0;
    options.credentials = credentials;
    if (r == 0)
        r = loop_new(&ask->loop);
    if (r == 0)
        r = rpc_queue_new(&ask->queue, ask->loop);
    if (r == 0)
        r = fold(rpc_channel_new(&ask->channel, ask->queue, &options));
    if (r < 0)
        return pass(r);
    *ret = take(ask);
    return 0;
}

static void nap(struct ask *ask)
{
    const int64_t due_us = clock_mono().us + NAP_MS * INT64_C(1000);

    while (clock_mono().us < due_us && loop_run_once(ask->loop, NAP_MS) == 0)
        continue;
}

/* What the hub said no with, for people. */
static int say_status(struct ask *ask, const char *path, const struct rpc_status *status)
{
    struct wire_error error = { 0 };

    if (status->details.len > 0 && wire_error_unpack(status->details, &ask->arena, &error))
        error = (struct wire_error){ 0 };
    return bench_say(status->code == RPC_UNAVAILABLE ? BENCH_UNAVAILABLE : BENCH_FAILED,
                     "%s: %s %s%s%s", path, rpc_code_name(status->code), status->message,
                     error.field_description ? ": " : "",
                     error.field_description ? error.field_description : "");
}

int ask_call(struct ask *ask,
             const char *path,
             const ProtobufCMessage *request,
             ProtobufCMessage **ret)
{
    CLEANUP(buf_deinit) struct buf packed = { 0 };
    const struct wire_method *method = wire_find_method(path);
    struct rpc_status status = { .code = RPC_UNAVAILABLE };
    struct span response = { NULL, 0 };
    struct wire_problem problem;

    *ret = NULL;
    if (!method || wire_pack(request, &packed))
        return bench_say(BENCH_FAILED, "%s: out of memory", path);
    for (int i = 0; i < N_ATTEMPTS && status.code == RPC_UNAVAILABLE; i++) {
        if (i > 0)
            nap(ask);
        if (bench_is_interrupted())
            return BENCH_FAILED;
        arena_reset(&ask->arena, ARENA_BYTES);
        if (rpc_client_unary(ask->channel, path, buf_span(&packed), TIMEOUT_US, &ask->arena,
                             &response, &status))
            return bench_say(BENCH_FAILED, "%s: the call could not be made", path);
    }
    if (status.code == RPC_NOT_FOUND)
        return BENCH_OK;
    if (status.code != RPC_OK)
        return say_status(ask, path, &status);
    if (wire_unpack(method->response, response, &ask->arena, ret, &problem))
        return bench_say(BENCH_FAILED, "%s: the hub's answer is unreadable: %s", path,
                         problem.description);
    return BENCH_OK;
}

int ask_status(struct ask *ask, struct ask_status *ret)
{
    Sentinel__Admin__V1__GetStatusRequest request;
    const Sentinel__Admin__V1__GetStatusResponse *response;
    ProtobufCMessage *answer;
    int exit_code;

    sentinel__admin__v1__get_status_request__init(&request);
    exit_code = ask_call(ask, "/sentinel.admin.v1.AdminService/GetStatus", &request.base, &answer);
    if (exit_code != BENCH_OK)
        return exit_code;
    response = (const void *) answer;
    *ret = (struct ask_status){ .cpu_us = -1 };
    if (!response)
        return BENCH_OK;
    if (response->cpu_time)
        ret->cpu_us = response->cpu_time->seconds * 1000000 + response->cpu_time->nanos / 1000;
    ret->resident_bytes = response->resident_bytes;
    ret->database_bytes = response->database_bytes;
    return BENCH_OK;
}

/* ---- points ---- */

typedef Sentinel__Query__V1__QueryMetricsRequest__AttributesEntry attribute_entry;

struct query {
    Sentinel__Query__V1__QueryMetricsRequest message;
    Sentinel__Query__V1__AgentSelector agents;
    Sentinel__Query__V1__TimeRange range;
    Google__Protobuf__Timestamp from, to;
    Google__Protobuf__Duration step;
    attribute_entry attributes[2];
    attribute_entry *attribute_rows[2];
    char id[32], item[32];
    char *ids[1];
};

Google__Protobuf__Timestamp ask_timestamp(int64_t us)
{
    Google__Protobuf__Timestamp time;

    google__protobuf__timestamp__init(&time);
    time.seconds = us / 1000000;
    time.nanos = (int32_t) (us % 1000000) * 1000;
    return time;
}

static void add_attribute(struct query *query, const char *key, const char *value)
{
    size_t at = query->message.n_attributes++;

    sentinel__query__v1__query_metrics_request__attributes_entry__init(&query->attributes[at]);
    query->attributes[at].key = (char *) (uintptr_t) key;
    query->attributes[at].value = (char *) (uintptr_t) value;
    query->attribute_rows[at] = &query->attributes[at];
    query->message.attributes = query->attribute_rows;
}

static void query_init(struct query *query, const struct ask_points *question)
{
    sentinel__query__v1__query_metrics_request__init(&query->message);
    sentinel__query__v1__agent_selector__init(&query->agents);
    sentinel__query__v1__time_range__init(&query->range);
    google__protobuf__duration__init(&query->step);
    snprintf(query->id, sizeof(query->id), "bench-%" PRIu32, question->agent);
    query->ids[0] = query->id;
    query->agents.ids = query->ids;
    query->agents.n_ids = question->agent == ASK_ALL_AGENTS ? 0 : 1;
    query->from = ask_timestamp(question->from_us);
    query->to = ask_timestamp(question->to_us);
    query->range.from_time = &query->from;
    query->range.to_time = &query->to;
    query->step.seconds = question->step_us / 1000000;
    query->step.nanos = (int32_t) (question->step_us % 1000000) * 1000;
    query->message.agents = &query->agents;
    query->message.range = &query->range;
    query->message.step = &query->step;
    query->message.name = (char *) (uintptr_t) question->load->groups[question->group].name;
    query->message.aggregation = (Sentinel__Query__V1__Aggregation) question->how;
    query->message.group_aggregation = SENTINEL__QUERY__V1__AGGREGATION__AGGREGATION_SUM;
    query->message.group_all = true;
    add_attribute(query, "run", question->load->run);
    if (question->item >= 0) {
        snprintf(query->item, sizeof(query->item), "%" PRId64, question->item);
        add_attribute(query, "item", query->item);
    }
}

int ask_points(struct ask *ask, const struct ask_points *question)
{
    const Sentinel__Query__V1__QueryMetricsResponse *response;
    struct query query;
    ProtobufCMessage *answer;
    int exit_code;

    query_init(&query, question);
    exit_code =
        ask_call(ask, "/sentinel.query.v1.QueryService/QueryMetrics", &query.message.base, &answer);
    if (exit_code != BENCH_OK || !answer)
        return exit_code;
    response = (const void *) answer;
    for (size_t i = 0; i < response->n_series; i++) {
        const Sentinel__Query__V1__TimeSeries *series = response->series[i];

        for (size_t j = 0; j < series->n_points; j++) {
            const Google__Protobuf__Timestamp *time = series->points[j]->time;

            if (time)
                question->on_point(question->ctx, time->seconds * 1000000 + time->nanos / 1000,
                                   series->points[j]->value);
        }
    }
    return BENCH_OK;
}
