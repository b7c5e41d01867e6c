/* SPDX-License-Identifier: Apache-2.0 */

/* Unary calls, health and reflection over real connections with real certificates. */

#include "suite.h"

#include "grpc/health/v1/health.pb-c.h"
#include "grpc/reflection/v1/reflection.pb-c.h"
#include "sentinel/admin/v1/admin.pb-c.h"
#include "sentinel/query/v1/query.pb-c.h"

#include "test_front_rig.h"

#define CHECK "/grpc.health.v1.Health/Check"
#define WATCH "/grpc.health.v1.Health/Watch"
#define REFLECTION "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
#define REFLECTION_1A "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
#define GET_STATUS "/sentinel.admin.v1.AdminService/GetStatus"
#define GET_AGENT "/sentinel.query.v1.QueryService/GetAgent"
#define QUERY_METRICS "/sentinel.query.v1.QueryService/QueryMetrics"
#define LIST_AGENTS "/sentinel.query.v1.QueryService/ListAgents"
#define TELEMETRY "sentinel.telemetry.v1.TelemetryService"

#define SERVING GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING
#define NOT_SERVING GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__NOT_SERVING
#define SERVICE_UNKNOWN GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVICE_UNKNOWN

static const struct span nothing = { 0 };

/* protobuf-c has no const fields. */
static char *text(const char *literal)
{
    static char copies[8][128];
    static unsigned next;
    char *to = copies[next++ % 8];

    ck_assert_uint_lt(strlen(literal), sizeof(copies[0]));
    return strcpy(to, literal);
}

/* ---- who ---- */

START_TEST(a_method_with_a_role_needs_a_certificate_that_has_it)
{
    struct reply reply;

    ask_bytes(hub.nobody, GET_STATUS, nothing, &reply);
    ck_reply(&reply, RPC_UNAUTHENTICATED, "CERTIFICATE_MISSING");
    reply_deinit(&reply);
    ask_bytes(hub.agent, GET_STATUS, nothing, &reply);
    ck_reply(&reply, RPC_PERMISSION_DENIED, "ROLE_MISSING");
    reply_deinit(&reply);
    ask_bytes(hub.admin, GET_STATUS, nothing, &reply);
    ck_reply(&reply, RPC_OK, "");
    reply_deinit(&reply);
}
END_TEST

START_TEST(a_path_that_no_proto_has_is_unimplemented)
{
    struct test_peer peer;

    peer_open(&peer, hub.admin, "/sentinel.query.v1.QueryService/NoSuchThing");
    peer_wait_closed(&peer);
    ck_assert_int_eq(peer.reply.code, RPC_UNIMPLEMENTED);
    peer_deinit(&peer);
}
END_TEST

START_TEST(in_insecure_mode_everybody_is_an_admin_and_agents_name_themselves)
{
    struct reply reply;
    struct test_peer peer;

    ask_bytes(hub.nobody, GET_STATUS, nothing, &reply);
    ck_reply(&reply, RPC_OK, "");
    ck_assert_str_eq(
        ((const Sentinel__Admin__V1__GetStatusResponse *) (const void *) reply.answer)->security,
        "insecure");
    reply_deinit(&reply);
    peer_open(&peer, hub.nobody, "/" TELEMETRY "/StreamMetrics");
    peer_wait_closed(&peer);
    ck_reply(&peer.reply, RPC_UNAUTHENTICATED, "AGENT_NAME_MISSING");
    peer_deinit(&peer);
}
END_TEST

/* ---- unary ---- */

START_TEST(status_says_how_the_hub_is)
{
    const Sentinel__Admin__V1__GetStatusResponse *status;
    struct reply reply;

    ask_bytes(hub.admin, GET_STATUS, nothing, &reply);
    ck_reply(&reply, RPC_OK, "");
    status = (const void *) reply.answer;
    ck_assert_str_eq(status->version, SENTINEL_VERSION);
    ck_assert_str_eq(status->state, "SERVING");
    ck_assert_str_eq(status->security, "production");
    ck_assert_int_eq(status->started->seconds, 1);
    ck_assert_uint_gt(status->resident_bytes, 1000000);
    ck_assert_uint_gt(status->registry_generation, 0);
    ck_assert_ptr_null(status->certificate_expires);
    reply_deinit(&reply);
}
END_TEST

START_TEST(a_call_without_a_message_is_refused)
{
    struct test_peer peer;

    peer_open(&peer, hub.admin, GET_STATUS);
    peer_half_close(&peer);
    peer_wait_closed(&peer);
    ck_reply(&peer.reply, RPC_INVALID_ARGUMENT, "REQUEST_MISSING");
    peer_deinit(&peer);
}
END_TEST

START_TEST(bytes_that_are_no_message_are_refused)
{
    struct reply reply;

    ask_bytes(hub.admin, GET_AGENT, span_of("\x0a\xff", 2), &reply);
    ck_reply(&reply, RPC_INVALID_ARGUMENT, "MALFORMED");
    reply_deinit(&reply);
    ask_bytes(hub.admin, GET_AGENT, span_of("\x0a\x01\xff", 3), &reply);
    ck_reply(&reply, RPC_INVALID_ARGUMENT, "BAD_TEXT");
    ck_assert_str_eq(reply.error.field, "agent_id");
    reply_deinit(&reply);
}
END_TEST

START_TEST(a_request_over_the_limit_is_refused_by_its_name)
{
    static uint8_t big[HUB_MAX_MESSAGE + 1];
    struct reply reply;

    ask_bytes(hub.admin, GET_AGENT, span_of(big, sizeof(big)), &reply);
    ck_reply(&reply, RPC_RESOURCE_EXHAUSTED, "MESSAGE_BYTES");
    ck_assert_str_eq(reply.error.quota, "max_message_bytes");
    reply_deinit(&reply);
}
END_TEST

START_TEST(questions_that_cannot_be_answered_say_which_field)
{
    Sentinel__Query__V1__GetAgentRequest which;
    Sentinel__Query__V1__QueryMetricsRequest request;
    Sentinel__Query__V1__TimeRange range;
    struct reply reply;

    sentinel__query__v1__get_agent_request__init(&which);
    sentinel__query__v1__query_metrics_request__init(&request);
    sentinel__query__v1__time_range__init(&range);
    ask(hub.admin, GET_AGENT, &which.base, &reply);
    ck_reply(&reply, RPC_INVALID_ARGUMENT, "BAD_QUESTION");
    ck_assert_str_eq(reply.error.field, "agent_id");
    reply_deinit(&reply);
    which.agent_id = text("nobody");
    ask(hub.admin, GET_AGENT, &which.base, &reply);
    ck_reply(&reply, RPC_NOT_FOUND, "NOT_FOUND");
    reply_deinit(&reply);

    request.name = text("system.load");
    request.range = &range;
    range.from = text("yesterday-ish");
    ask(hub.admin, QUERY_METRICS, &request.base, &reply);
    ck_reply(&reply, RPC_INVALID_ARGUMENT, "BAD_QUESTION");
    ck_assert_str_eq(reply.error.field, "range.from");
    reply_deinit(&reply);
    range.from = text("now");
    range.to = text("-1h");
    ask(hub.admin, QUERY_METRICS, &request.base, &reply);
    ck_assert_str_eq(reply.error.field, "range");
    reply_deinit(&reply);
    request.range = NULL;
    request.step_text = text("-5s");
    ask(hub.admin, QUERY_METRICS, &request.base, &reply);
    ck_assert_str_eq(reply.error.field, "step_text");
    reply_deinit(&reply);
}
END_TEST

START_TEST(a_hub_without_agents_lists_none)
{
    const Sentinel__Query__V1__ListAgentsResponse *agents;
    struct reply reply;

    ask_bytes(hub.admin, LIST_AGENTS, nothing, &reply);
    ck_reply(&reply, RPC_OK, "");
    agents = (const void *) reply.answer;
    ck_assert_uint_eq(agents->n_agents, 0);
    ck_assert_str_eq(agents->next_page_token, "");
    reply_deinit(&reply);
}
END_TEST

/* ---- health ---- */

static int status_of(const char *service)
{
    Grpc__Health__V1__HealthCheckRequest request;
    struct reply reply;
    int status;

    grpc__health__v1__health_check_request__init(&request);
    request.service = text(service);
    ask(hub.nobody, CHECK, &request.base, &reply);
    ck_reply(&reply, RPC_OK, "");
    status =
        (int) ((const Grpc__Health__V1__HealthCheckResponse *) (const void *) reply.answer)->status;
    reply_deinit(&reply);
    return status;
}

START_TEST(health_follows_the_state_for_anyone)
{
    Grpc__Health__V1__HealthCheckRequest request;
    struct reply reply;

    grpc__health__v1__health_check_request__init(&request);
    ck_assert_int_eq(status_of(""), SERVING);
    ck_assert_int_eq(status_of(TELEMETRY), SERVING);
    front_set_state(hub.front, FRONT_FULL);
    ck_assert_int_eq(status_of(""), SERVING);
    ck_assert_int_eq(status_of(TELEMETRY), NOT_SERVING);
    ck_assert_int_eq(status_of("sentinel.query.v1.QueryService"), SERVING);
    front_set_state(hub.front, FRONT_DRAINING);
    ck_assert_int_eq(status_of(""), NOT_SERVING);
    request.service = text("sentinel.control.v1.ControlService");
    ask(hub.nobody, CHECK, &request.base, &reply);
    ck_reply(&reply, RPC_NOT_FOUND, "NOT_FOUND");
    reply_deinit(&reply);
}
END_TEST

START_TEST(health_lists_every_service_that_is_handled)
{
    const Grpc__Health__V1__HealthListResponse *list;
    struct reply reply;

    ask_bytes(hub.nobody, "/grpc.health.v1.Health/List", nothing, &reply);
    ck_reply(&reply, RPC_OK, "");
    list = (const void *) reply.answer;
    ck_assert_uint_eq(list->n_statuses, 8);
    for (size_t i = 0; i < list->n_statuses; i++) {
        ck_assert_int_eq(list->statuses[i]->value->status, SERVING);
        ck_assert_str_ne(list->statuses[i]->key, "sentinel.control.v1.ControlService");
    }
    reply_deinit(&reply);
}
END_TEST

static int watched(const struct test_peer *peer)
{
    ck_assert_uint_gt(peer->n_received, 0);
    return (int) ((const Grpc__Health__V1__HealthCheckResponse *) (const void *)
                      peer->received[peer->n_received - 1])
        ->status;
}

START_TEST(a_watch_says_each_change_once)
{
    Grpc__Health__V1__HealthCheckRequest request;
    struct test_peer peer, unknown;

    grpc__health__v1__health_check_request__init(&request);
    request.service = text(TELEMETRY);
    peer_open(&peer, hub.nobody, WATCH);
    peer_send(&peer, &request.base);
    peer_half_close(&peer);
    hub_until(peer.n_received == 1);
    ck_assert_int_eq(watched(&peer), SERVING);
    front_set_state(hub.front, FRONT_SERVING); /* no change */
    front_set_state(hub.front, FRONT_FULL);
    hub_until(peer.n_received == 2);
    ck_assert_int_eq(watched(&peer), NOT_SERVING);
    front_set_state(hub.front, FRONT_SERVING);
    hub_until(peer.n_received == 3);
    ck_assert_int_eq(watched(&peer), SERVING);

    request.service = text("no.such.Service");
    peer_open(&unknown, hub.nobody, WATCH);
    peer_send(&unknown, &request.base);
    hub_until(unknown.n_received == 1);
    ck_assert_int_eq(watched(&unknown), SERVICE_UNKNOWN);
    ck_assert(!unknown.is_closed);
    peer_deinit(&unknown);
    peer_deinit(&peer);
}
END_TEST

START_TEST(a_watch_ends_when_the_hub_drains)
{
    Grpc__Health__V1__HealthCheckRequest request;
    struct test_peer peer;

    grpc__health__v1__health_check_request__init(&request);
    peer_open(&peer, hub.nobody, WATCH);
    peer_send(&peer, &request.base);
    hub_until(peer.n_received == 1);
    front_set_state(hub.front, FRONT_DRAINING);
    rpc_server_stop(hub.server);
    peer_wait_closed(&peer);
    ck_reply(&peer.reply, RPC_UNAVAILABLE, "HUB_STOPPING");
    peer_deinit(&peer);
}
END_TEST

/* ---- reflection ---- */

typedef Grpc__Reflection__V1__ServerReflectionRequest reflection_request;
typedef Grpc__Reflection__V1__ServerReflectionResponse reflection_response;

static const reflection_response *reflect(struct test_peer *peer, const reflection_request *request)
{
    const unsigned n = peer->n_received;

    peer_send(peer, &request->base);
    hub_until(peer->n_received > n || peer->is_closed);
    ck_assert_msg(!peer->is_closed, "%s", peer->reply.message);
    return (const void *) peer->received[n];
}

START_TEST(reflection_lists_only_services_that_are_handled)
{
    reflection_request request;
    const char *const paths[] = { REFLECTION, REFLECTION_1A };
    const reflection_response *response;
    struct test_peer peer;

    grpc__reflection__v1__server_reflection_request__init(&request);
    request.message_request_case =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_LIST_SERVICES;
    request.list_services = text("*");
    request.host = text("hub.example");
    peer_open(&peer, hub.agent, paths[_i]);
    response = reflect(&peer, &request);
    ck_assert_str_eq(response->valid_host, "hub.example");
    ck_assert_str_eq(response->original_request->list_services, "*");
    ck_assert_uint_eq(response->list_services_response->n_service, 7);
    for (size_t i = 0; i < 7; i++)
        ck_assert_str_ne(response->list_services_response->service[i]->name,
                         "sentinel.control.v1.ControlService");
    peer_half_close(&peer);
    peer_wait_closed(&peer);
    ck_assert_int_eq(peer.reply.code, RPC_OK);
    peer_deinit(&peer);
}
END_TEST

START_TEST(reflection_sends_a_file_with_all_it_needs_and_nothing_twice)
{
    reflection_request request;
    const reflection_response *response;
    struct test_peer peer;

    grpc__reflection__v1__server_reflection_request__init(&request);
    request.message_request_case =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_CONTAINING_SYMBOL;
    request.file_containing_symbol = text("sentinel.query.v1.QueryService.ListAgents");
    peer_open(&peer, hub.admin, REFLECTION);
    response = reflect(&peer, &request);
    ck_assert_int_eq(
        response->message_response_case,
        GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_FILE_DESCRIPTOR_RESPONSE);
    /* query, duration, timestamp, options, descriptor */
    ck_assert_uint_eq(response->file_descriptor_response->n_file_descriptor_proto, 5);
    /* admin needs query and the same others: they are there. */
    request.message_request_case =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_BY_FILENAME;
    request.file_by_filename = text("sentinel/admin/v1/admin.proto");
    response = reflect(&peer, &request);
    ck_assert_uint_eq(response->file_descriptor_response->n_file_descriptor_proto, 1);
    /* Asked for by name it comes again. */
    response = reflect(&peer, &request);
    ck_assert_uint_eq(response->file_descriptor_response->n_file_descriptor_proto, 1);
    peer_deinit(&peer);
}
END_TEST

START_TEST(reflection_answers_what_is_not_there_and_stays_open)
{
    reflection_request request;
    Grpc__Reflection__V1__ExtensionRequest extension;
    const reflection_response *response;
    struct test_peer peer;

    grpc__reflection__v1__server_reflection_request__init(&request);
    grpc__reflection__v1__extension_request__init(&extension);
    request.message_request_case =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_CONTAINING_SYMBOL;
    request.file_containing_symbol = text("no.such.Symbol");
    peer_open(&peer, hub.admin, REFLECTION);
    response = reflect(&peer, &request);
    ck_assert_int_eq(response->error_response->error_code, RPC_NOT_FOUND);

    request.message_request_case =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_CONTAINING_EXTENSION;
    extension.containing_type = text("google.protobuf.MethodOptions");
    extension.extension_number = 50817;
    request.file_containing_extension = &extension;
    response = reflect(&peer, &request);
    ck_assert_uint_ge(response->file_descriptor_response->n_file_descriptor_proto, 1);

    request.message_request_case =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_ALL_EXTENSION_NUMBERS_OF_TYPE;
    request.all_extension_numbers_of_type = text("google.protobuf.MethodOptions");
    response = reflect(&peer, &request);
    ck_assert_uint_eq(response->all_extension_numbers_response->n_extension_number, 1);
    ck_assert_int_eq(response->all_extension_numbers_response->extension_number[0], 50817);

    request.message_request_case =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST__NOT_SET;
    request.list_services = NULL;
    response = reflect(&peer, &request);
    ck_assert_int_eq(response->error_response->error_code, RPC_INVALID_ARGUMENT);
    ck_assert(!peer.is_closed);
    peer_deinit(&peer);
}
END_TEST

START_TEST(reflection_needs_a_known_identity)
{
    struct test_peer peer;

    peer_open(&peer, hub.nobody, REFLECTION);
    peer_wait_closed(&peer);
    ck_reply(&peer.reply, RPC_UNAUTHENTICATED, "CERTIFICATE_MISSING");
    peer_deinit(&peer);
}
END_TEST

static TCase *new_tcase(Suite *s, const char *name, void (*start)(void))
{
    TCase *tcase = tcase_create(name);

    tcase_add_checked_fixture(tcase, start, hub_stop);
    tcase_set_timeout(tcase, 60);
    suite_add_tcase(s, tcase);
    return tcase;
}

Suite *suite(void)
{
    Suite *s = suite_create("server/front");
    TCase *who = new_tcase(s, "who", hub_start);
    TCase *insecure = new_tcase(s, "insecure", hub_start_insecure);
    TCase *unary = new_tcase(s, "unary", hub_start);
    TCase *health = new_tcase(s, "health", hub_start);
    TCase *reflection = new_tcase(s, "reflection", hub_start);

    tcase_add_test(who, a_method_with_a_role_needs_a_certificate_that_has_it);
    tcase_add_test(who, a_path_that_no_proto_has_is_unimplemented);
    tcase_add_test(insecure, in_insecure_mode_everybody_is_an_admin_and_agents_name_themselves);
    tcase_add_test(unary, status_says_how_the_hub_is);
    tcase_add_test(unary, a_call_without_a_message_is_refused);
    tcase_add_test(unary, bytes_that_are_no_message_are_refused);
    tcase_add_test(unary, a_request_over_the_limit_is_refused_by_its_name);
    tcase_add_test(unary, questions_that_cannot_be_answered_say_which_field);
    tcase_add_test(unary, a_hub_without_agents_lists_none);
    tcase_add_test(health, health_follows_the_state_for_anyone);
    tcase_add_test(health, health_lists_every_service_that_is_handled);
    tcase_add_test(health, a_watch_says_each_change_once);
    tcase_add_test(health, a_watch_ends_when_the_hub_drains);
    tcase_add_loop_test(reflection, reflection_lists_only_services_that_are_handled, 0, 2);
    tcase_add_test(reflection, reflection_sends_a_file_with_all_it_needs_and_nothing_twice);
    tcase_add_test(reflection, reflection_answers_what_is_not_there_and_stays_open);
    tcase_add_test(reflection, reflection_needs_a_known_identity);
    return s;
}
