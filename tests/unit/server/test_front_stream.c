/* SPDX-License-Identifier: Apache-2.0 */

/* StreamMetrics over real connections with real certificates. */

#include "suite.h"

#include "sentinel/query/v1/query.pb-c.h"

#include <stdlib.h>

#include "test_front_agent.h"

#define CONNECT "/sentinel.control.v1.ControlService/Connect"

typedef Sentinel__Telemetry__V1__StreamMetricsRequest request_message;

/* ---- the good way ---- */

START_TEST(batches_are_acknowledged_and_the_stream_ends_well)
{
    const Sentinel__Telemetry__V1__Welcome *welcome;
    struct test_peer peer;

    welcome = open_stream(&peer, hub.agent, 1, 0);
    ck_assert_uint_eq(welcome->resume_after_sequence, 0);
    ck_assert_uint_eq(welcome->limits->batch_samples, 65536);
    ck_assert_uint_eq(welcome->limits->message_bytes, HUB_MAX_MESSAGE);
    ck_assert_str_eq(welcome->hub_version, SENTINEL_VERSION);
    ck_assert_uint_gt(welcome->registry_generation, 0);
    for (uint64_t i = 1; i <= 20; i++)
        (void) send_batch(&peer, i, (double) i, i == 1);
    hub_until(last_ack(&peer) == 20);
    peer_half_close(&peer);
    peer_wait_closed(&peer);
    ck_assert_int_eq(peer.reply.code, RPC_OK);
    peer_deinit(&peer);
}
END_TEST

START_TEST(what_was_sent_can_be_asked_for)
{
    Sentinel__Query__V1__QueryMetricsRequest request;
    Sentinel__Query__V1__ListMetricsRequest metrics;
    Sentinel__Query__V1__GetAgentRequest which;
    const Sentinel__Query__V1__QueryMetricsResponse *values;
    const Sentinel__Query__V1__ListMetricsResponse *names;
    const Sentinel__Query__V1__GetAgentResponse *agent;
    struct reply reply;
    struct test_peer peer;

    sentinel__query__v1__query_metrics_request__init(&request);
    sentinel__query__v1__list_metrics_request__init(&metrics);
    sentinel__query__v1__get_agent_request__init(&which);
    (void) open_stream(&peer, hub.agent, 1, 0);
    (void) send_batch(&peer, 1, 42.25, true);
    hub_until(last_ack(&peer) == 1);

    request.name = (char[]){ "system.load" };
    request.step_text = (char[]){ "1h" };
    request.aggregation = SENTINEL__QUERY__V1__AGGREGATION__AGGREGATION_LAST;
    ask(hub.admin, "/sentinel.query.v1.QueryService/QueryMetrics", &request.base, &reply);
    ck_reply(&reply, RPC_OK, "");
    values = (const void *) reply.answer;
    ck_assert_uint_eq(values->n_series, 1);
    ck_assert_uint_ge(values->series[0]->n_points, 1);
    ck_assert(values->series[0]->points[values->series[0]->n_points - 1]->value == 42.25);
    ck_assert_str_eq(values->unit, "1");
    ck_assert_str_eq(values->kind, "GAUGE");
    ck_assert_int_eq(values->step->seconds, 3600);
    reply_deinit(&reply);

    ask(hub.admin, "/sentinel.query.v1.QueryService/ListMetrics", &metrics.base, &reply);
    ck_reply(&reply, RPC_OK, "");
    names = (const void *) reply.answer;
    ck_assert_uint_eq(names->n_metrics, 1);
    ck_assert_str_eq(names->metrics[0]->name, "system.load");
    reply_deinit(&reply);

    which.agent_id = (char[]){ "web-1" };
    ask(hub.admin, "/sentinel.query.v1.QueryService/GetAgent", &which.base, &reply);
    ck_reply(&reply, RPC_OK, "");
    agent = (const void *) reply.answer;
    ck_assert_str_eq(agent->agent->agent_id, "web-1");
    ck_assert(agent->agent->connected);
    ck_assert_uint_eq(agent->agent->n_host, 1);
    ck_assert_uint_eq(agent->n_runs, 1);
    ck_assert_uint_eq(agent->runs[0]->last_sequence, 1);
    ck_assert(agent->runs[0]->connected);
    reply_deinit(&reply);
    peer_deinit(&peer);
}
END_TEST

START_TEST(a_stream_goes_on_where_the_one_before_it_ended)
{
    const Sentinel__Telemetry__V1__Welcome *welcome;
    struct test_peer peer;
    uint32_t crc;

    (void) open_stream(&peer, hub.agent, 1, 0);
    (void) send_batch(&peer, 1, 1, true);
    crc = send_batch(&peer, 2, 2, false);
    hub_until(last_ack(&peer) == 2);
    peer_deinit(&peer);

    /* The CRC is that of the request's bytes. */
    peer_open(&peer, hub.agent, STREAM_METRICS);
    send_hello(&peer, 3, 2, crc);
    hub_until(peer.n_received > 0 || peer.is_closed);
    ck_assert_msg(!peer.is_closed, "%s", peer.reply.message);
    welcome = received(&peer, 0)->welcome;
    ck_assert_uint_eq(welcome->resume_after_sequence, 2);
    peer_deinit(&peer);

    peer_open(&peer, hub.agent, STREAM_METRICS);
    send_hello(&peer, 3, 2, crc + 1);
    peer_wait_closed(&peer);
    ck_reply(&peer.reply, RPC_FAILED_PRECONDITION, "SPOOL_FORKED");
    peer_deinit(&peer);
}
END_TEST

START_TEST(a_newer_stream_takes_the_spool_over)
{
    struct test_peer older, newer;

    (void) open_stream(&older, hub.agent, 1, 0);
    (void) open_stream(&newer, hub.agent, 1, 0);
    peer_wait_closed(&older);
    ck_reply(&older.reply, RPC_ABORTED, "SPOOL_TAKEN_OVER");
    (void) send_batch(&newer, 1, 1, true);
    hub_until(last_ack(&newer) == 1);
    peer_deinit(&older);
    peer_deinit(&newer);
}
END_TEST

/* ---- broken rules ---- */

START_TEST(a_batch_before_the_hello_is_refused)
{
    struct test_peer peer;

    peer_open(&peer, hub.agent, STREAM_METRICS);
    (void) send_batch(&peer, 1, 1, true);
    peer_wait_closed(&peer);
    ck_reply(&peer.reply, RPC_INVALID_ARGUMENT, "HELLO_EXPECTED");
    peer_deinit(&peer);
}
END_TEST

START_TEST(a_stream_without_any_message_is_refused)
{
    struct test_peer peer;

    peer_open(&peer, hub.agent, STREAM_METRICS);
    peer_half_close(&peer);
    peer_wait_closed(&peer);
    ck_reply(&peer.reply, RPC_INVALID_ARGUMENT, "HELLO_EXPECTED");
    peer_deinit(&peer);
}
END_TEST

START_TEST(a_second_hello_is_refused_after_the_acks)
{
    struct test_peer peer;

    (void) open_stream(&peer, hub.agent, 1, 0);
    (void) send_batch(&peer, 1, 1, true);
    send_hello(&peer, 1, 1, 0);
    peer_wait_closed(&peer);
    ck_reply(&peer.reply, RPC_INVALID_ARGUMENT, "HELLO_TWICE");
    ck_assert_uint_eq(last_ack(&peer), 1);
    peer_deinit(&peer);
}
END_TEST

START_TEST(an_empty_message_is_refused)
{
    request_message request;
    struct test_peer peer;

    sentinel__telemetry__v1__stream_metrics_request__init(&request);
    (void) open_stream(&peer, hub.agent, 1, 0);
    peer_send(&peer, &request.base);
    peer_wait_closed(&peer);
    ck_reply(&peer.reply, RPC_INVALID_ARGUMENT, "MESSAGE_EMPTY");
    peer_deinit(&peer);
}
END_TEST

START_TEST(a_gap_names_its_field_and_comes_after_the_acks)
{
    struct test_peer peer;

    (void) open_stream(&peer, hub.agent, 1, 0);
    (void) send_batch(&peer, 1, 1, true);
    (void) send_batch(&peer, 2, 2, false);
    (void) send_batch(&peer, 4, 4, false);
    peer_wait_closed(&peer);
    ck_reply(&peer.reply, RPC_INVALID_ARGUMENT, "SEQUENCE_GAP");
    ck_assert_str_eq(peer.reply.error.field, "batch.sequence");
    ck_assert_uint_eq(last_ack(&peer), 2);
    peer_deinit(&peer);
}
END_TEST

START_TEST(a_message_over_the_limit_is_refused_by_its_name)
{
    Sentinel__Telemetry__V1__StreamHello hello;
    request_message request;
    struct test_peer peer;

    sentinel__telemetry__v1__stream_hello__init(&hello);
    sentinel__telemetry__v1__stream_metrics_request__init(&request);
    peer_open(&peer, hub.agent, STREAM_METRICS);
    hello.agent_version = malloc(HUB_MAX_MESSAGE + 1);
    memset(hello.agent_version, 'v', HUB_MAX_MESSAGE);
    hello.agent_version[HUB_MAX_MESSAGE] = '\0';
    request.message_case = SENTINEL__TELEMETRY__V1__STREAM_METRICS_REQUEST__MESSAGE_HELLO;
    request.hello = &hello;
    peer_send(&peer, &request.base);
    peer_wait_closed(&peer);
    ck_reply(&peer.reply, RPC_RESOURCE_EXHAUSTED, "MESSAGE_BYTES");
    ck_assert_str_eq(peer.reply.error.quota, "max_message_bytes");
    free(hello.agent_version);
    peer_deinit(&peer);
}
END_TEST

START_TEST(a_hello_that_breaks_a_rule_names_its_field)
{
    struct test_peer peer;

    peer_open(&peer, hub.agent, STREAM_METRICS);
    send_hello(&peer, 0, 0, 0);
    peer_wait_closed(&peer);
    ck_reply(&peer.reply, RPC_INVALID_ARGUMENT, "BAD_HELLO");
    ck_assert_str_eq(peer.reply.error.field, "hello.first_sequence");
    peer_deinit(&peer);
}
END_TEST

/* ---- who ---- */

START_TEST(only_agents_push)
{
    struct test_peer peer;

    peer_open(&peer, hub.admin, STREAM_METRICS);
    peer_wait_closed(&peer);
    ck_reply(&peer.reply, RPC_PERMISSION_DENIED, "ROLE_MISSING");
    peer_deinit(&peer);
    peer_open(&peer, hub.nobody, STREAM_METRICS);
    peer_wait_closed(&peer);
    ck_reply(&peer.reply, RPC_UNAUTHENTICATED, "CERTIFICATE_MISSING");
    peer_deinit(&peer);
}
END_TEST

START_TEST(a_method_without_a_handler_says_so_after_authorisation)
{
    struct test_peer peer;

    peer_open(&peer, hub.agent, CONNECT);
    peer_wait_closed(&peer);
    ck_reply(&peer.reply, RPC_UNIMPLEMENTED, "NOT_IN_THIS_VERSION");
    peer_deinit(&peer);
    peer_open(&peer, hub.admin, CONNECT);
    peer_wait_closed(&peer);
    ck_reply(&peer.reply, RPC_PERMISSION_DENIED, "ROLE_MISSING");
    peer_deinit(&peer);
}
END_TEST

START_TEST(a_revoked_agent_is_cut_off_while_it_is_idle)
{
    struct test_peer peer;

    (void) open_stream(&peer, hub.agent, 1, 0);
    (void) send_batch(&peer, 1, 1, true);
    hub_until(last_ack(&peer) == 1);
    hub_revoke("web-1");
    ck_assert(!peer.is_closed);
    front_registry_changed(hub.front);
    peer_wait_closed(&peer);
    ck_reply(&peer.reply, RPC_UNAUTHENTICATED, "CERTIFICATE_REVOKED");
    peer_deinit(&peer);

    /* And by the next call, on the connection that lives. */
    peer_open(&peer, hub.agent, STREAM_METRICS);
    peer_wait_closed(&peer);
    ck_reply(&peer.reply, RPC_UNAUTHENTICATED, "CERTIFICATE_REVOKED");
    peer_deinit(&peer);
}
END_TEST

START_TEST(nothing_of_a_revoked_agent_is_acknowledged)
{
    struct test_peer peer;

    (void) open_stream(&peer, hub.agent, 1, 0);
    hub_revoke("web-1");
    (void) send_batch(&peer, 1, 1, true);
    peer_wait_closed(&peer);
    ck_reply(&peer.reply, RPC_UNAUTHENTICATED, "CERTIFICATE_REVOKED");
    ck_assert_uint_eq(peer.n_received, 1);
    peer_deinit(&peer);
}
END_TEST

START_TEST(another_agents_revocation_disturbs_nobody)
{
    struct rpc_channel *other = hub_enrol("web-2");
    struct test_peer peer;

    (void) open_stream(&peer, hub.agent, 1, 0);
    hub_revoke("web-2");
    front_registry_changed(hub.front);
    (void) send_batch(&peer, 1, 1, true);
    hub_until(last_ack(&peer) == 1);
    peer_deinit(&peer);
    (void) rpc_channel_free(other);
}
END_TEST

/* ---- the end ---- */

START_TEST(a_draining_hub_acknowledges_and_then_says_when_to_come_back)
{
    struct test_peer peer;

    (void) open_stream(&peer, hub.agent, 1, 0);
    for (uint64_t i = 1; i <= 10; i++)
        (void) send_batch(&peer, i, (double) i, i == 1);
    hub_until(last_ack(&peer) == 10);
    front_set_state(hub.front, FRONT_DRAINING);
    rpc_server_stop(hub.server);
    peer_wait_closed(&peer);
    ck_reply(&peer.reply, RPC_UNAVAILABLE, "HUB_STOPPING");
    ck_assert_uint_gt(peer.reply.error.retry_after_ms, 0);
    peer_deinit(&peer);
}
END_TEST

START_TEST(a_peer_that_goes_away_in_the_middle_leaves_nothing_open)
{
    struct ingest_stats stats;
    struct test_peer peer;

    (void) open_stream(&peer, hub.agent, 1, 0);
    for (uint64_t i = 1; i <= 10; i++)
        (void) send_batch(&peer, i, (double) i, i == 1);
    peer_deinit(&peer);
    do {
        ck_assert_int_ge(loop_run_once(hub.loop, 10), 0);
        ingest_get_stats(hub.ingest, &stats);
    } while (stats.n_streams > 0);
}
END_TEST

Suite *suite(void)
{
    Suite *s = suite_create("server/front_stream");
    TCase *good = tcase_create("the good way");
    TCase *broken = tcase_create("broken rules");
    TCase *who = tcase_create("who");
    TCase *end = tcase_create("the end");

    tcase_add_checked_fixture(good, hub_start, hub_stop);
    tcase_set_timeout(good, 60);
    tcase_add_test(good, batches_are_acknowledged_and_the_stream_ends_well);
    tcase_add_test(good, what_was_sent_can_be_asked_for);
    tcase_add_test(good, a_stream_goes_on_where_the_one_before_it_ended);
    tcase_add_test(good, a_newer_stream_takes_the_spool_over);
    suite_add_tcase(s, good);

    tcase_add_checked_fixture(broken, hub_start, hub_stop);
    tcase_set_timeout(broken, 60);
    tcase_add_test(broken, a_batch_before_the_hello_is_refused);
    tcase_add_test(broken, a_stream_without_any_message_is_refused);
    tcase_add_test(broken, a_second_hello_is_refused_after_the_acks);
    tcase_add_test(broken, an_empty_message_is_refused);
    tcase_add_test(broken, a_gap_names_its_field_and_comes_after_the_acks);
    tcase_add_test(broken, a_message_over_the_limit_is_refused_by_its_name);
    tcase_add_test(broken, a_hello_that_breaks_a_rule_names_its_field);
    suite_add_tcase(s, broken);

    tcase_add_checked_fixture(who, hub_start, hub_stop);
    tcase_set_timeout(who, 60);
    tcase_add_test(who, only_agents_push);
    tcase_add_test(who, a_method_without_a_handler_says_so_after_authorisation);
    tcase_add_test(who, a_revoked_agent_is_cut_off_while_it_is_idle);
    tcase_add_test(who, nothing_of_a_revoked_agent_is_acknowledged);
    tcase_add_test(who, another_agents_revocation_disturbs_nobody);
    suite_add_tcase(s, who);

    tcase_add_checked_fixture(end, hub_start, hub_stop);
    tcase_set_timeout(end, 60);
    tcase_add_test(end, a_draining_hub_acknowledges_and_then_says_when_to_come_back);
    tcase_add_test(end, a_peer_that_goes_away_in_the_middle_leaves_nothing_open);
    suite_add_tcase(s, end);
    return s;
}
