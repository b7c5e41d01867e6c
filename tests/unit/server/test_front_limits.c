/* SPDX-License-Identifier: Apache-2.0 */

/* A hub at its limits: the writer behind, the disk full, queues and budgets spent, certificates at
 * their end, faults of its own. */

#include "suite.h"

#include "grpc/health/v1/health.pb-c.h"
#include "sentinel/query/v1/query.pb-c.h"

#include <fcntl.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/fault.h"
#include "common/log/log.h"
#include "server/front/inside.h"
#include "test_front_agent.h"

#define LIST_AGENTS "/sentinel.query.v1.QueryService/ListAgents"
#define HEALTH_CHECK "/grpc.health.v1.Health/Check"
#define SECOND_US INT64_C(1000000)

static const response_message *last_message(const struct test_peer *peer)
{
    return received(peer, peer->n_received - 1);
}

static bool is_ack(const response_message *message)
{
    return message->message_case == SENTINEL__TELEMETRY__V1__STREAM_METRICS_RESPONSE__MESSAGE_ACK;
}

/* ---- the writer behind ---- */

static sem_t plug_is_in, plug_is_out;

static void on_plug(struct store_batch *batch, int r, uint64_t run_last)
{
    (void) r;
    (void) run_last;
    store_batch_free(batch);
    ck_assert_int_eq(sem_post(&plug_is_in), 0);
    while (sem_wait(&plug_is_out) < 0)
        ;
}

/* The store's writer stands still until plug_is_out. */
static void plug_writer(void)
{
    struct store_batch *batch = NULL;
    uint32_t number;

    ck_assert_int_eq(sem_init(&plug_is_in, 0, 0), 0);
    ck_assert_int_eq(sem_init(&plug_is_out, 0, 0), 0);
    ck_assert_int_eq(store_agent_intern(hub.store, "plug", &number), 0);
    ck_assert_int_eq(store_batch_new(&batch, 0), 0);
    batch->agent = number;
    batch->signal = STORE_METRICS;
    batch->sequence = 1;
    batch->done = on_plug;
    ck_assert_int_eq(store_submit(hub.store, batch), 0);
    while (sem_wait(&plug_is_in) < 0)
        ;
}

static void start_with_a_short_queue(void)
{
    hub_options.queue_bytes = 1; /* never more than one batch in the queue */
    hub_start();
}

START_TEST(a_stream_that_waits_for_the_writer_is_told_once_and_its_batch_is_taken)
{
    struct test_peer peer;
    const Sentinel__Telemetry__V1__Throttle *throttle;
    struct store_stats stats;

    (void) open_stream(&peer, hub.agent, 1, 0);
    (void) send_batch(&peer, 1, 1, true);
    hub_until(last_ack(&peer) == 1);
    plug_writer();
    for (uint64_t i = 2; i <= 6; i++)
        (void) send_batch(&peer, i, (double) i, false);
    hub_until(peer.n_received == 3);
    ck_assert_int_eq(received(&peer, 2)->message_case,
                     SENTINEL__TELEMETRY__V1__STREAM_METRICS_RESPONSE__MESSAGE_THROTTLE);
    throttle = received(&peer, 2)->throttle;
    ck_assert_str_eq(throttle->reason, "WRITER_BEHIND");
    ck_assert_uint_gt(throttle->retry_after_ms, 0);
    /* The batch that waits is the hub's: the agent does nothing, and is told nothing again. */
    for (int i = 0; i < 20; i++)
        ck_assert_int_ge(loop_run_once(hub.loop, 10), 0);
    ck_assert_uint_eq(peer.n_received, 3);
    ck_assert(!peer.is_closed);
    ck_assert_int_eq(sem_post(&plug_is_out), 0);
    hub_until(is_ack(last_message(&peer)) && last_message(&peer)->ack->sequence == 6);
    store_get_stats(hub.store, &stats);
    ck_assert_uint_eq(stats.n_batches, 1 + 6);
    peer_half_close(&peer);
    peer_wait_closed(&peer);
    ck_assert_int_eq(peer.reply.code, RPC_OK);
    peer_deinit(&peer);
}
END_TEST

/* ---- the disk full ---- */

static int health_of(const char *service)
{
    Grpc__Health__V1__HealthCheckRequest request;
    struct reply reply;
    int status;

    grpc__health__v1__health_check_request__init(&request);
    request.service = (char *) (uintptr_t) service;
    ask(hub.nobody, HEALTH_CHECK, &request.base, &reply);
    ck_reply(&reply, RPC_OK, "");
    status =
        (int) ((const Grpc__Health__V1__HealthCheckResponse *) (const void *) reply.answer)->status;
    reply_deinit(&reply);
    return status;
}

static bool takes_telemetry(void)
{
    return health_of("sentinel.telemetry.v1.TelemetryService") ==
           GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING;
}

static void ck_question_is_answered(void)
{
    Sentinel__Query__V1__ListAgentsRequest request;
    struct reply reply;

    sentinel__query__v1__list_agents_request__init(&request);
    ask(hub.admin, LIST_AGENTS, &request.base, &reply);
    ck_reply(&reply, RPC_OK, "");
    reply_deinit(&reply);
}

/* No file may grow above what the larger of the two databases has. */
static void fill_disk(struct rlimit *ret_before)
{
    static const char *const names[] = { "state", "default/journal/00000001" };
    struct rlimit small;
    rlim_t largest = 0;

    signal(SIGXFSZ, SIG_IGN);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char path[192];
        struct stat st;

        (void) snprintf(path, sizeof(path), "%s/db/%s/data.mdb", hub.state, names[i]);
        ck_assert_int_eq(stat(path, &st), 0);
        if ((rlim_t) st.st_size > largest)
            largest = (rlim_t) st.st_size;
    }
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, ret_before), 0);
    small = *ret_before;
    small.rlim_cur = largest;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
}

START_TEST(a_full_disk_refuses_telemetry_answers_questions_and_ends_by_itself)
{
    struct rlimit before;
    struct test_peer peer;
    uint64_t sequence = 1, acked;

    (void) open_stream(&peer, hub.agent, 1, 0);
    (void) send_batch(&peer, 1, 1, true);
    hub_until(last_ack(&peer) == 1);
    ck_assert(takes_telemetry());
    fill_disk(&before);
    while (!peer.is_closed && sequence < 50) {
        uint64_t next = ++sequence;

        send_big_batch(&peer, next);
        hub_until(peer.is_closed || last_ack(&peer) == next);
    }
    ck_reply(&peer.reply, RPC_RESOURCE_EXHAUSTED, "DISK_FULL");
    ck_assert_uint_gt(peer.reply.error.retry_after_ms, 0);
    acked = last_ack(&peer);
    ck_assert_uint_eq(acked, sequence - 1);
    peer_deinit(&peer);

    ck_assert(!takes_telemetry());
    ck_assert_int_eq(health_of(""),
                     GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING);
    ck_question_is_answered();
    (void) open_stream(&peer, hub.agent, 1, acked);
    (void) send_batch(&peer, acked + 1, 1, true);
    peer_wait_closed(&peer);
    ck_reply(&peer.reply, RPC_RESOURCE_EXHAUSTED, "DISK_FULL");
    peer_deinit(&peer);

    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &before), 0);
    while (!takes_telemetry()) /* and nobody sends meanwhile */
        usleep(10000);
    (void) open_stream(&peer, hub.agent, 1, acked);
    (void) send_batch(&peer, acked + 1, 1, true);
    hub_until(last_ack(&peer) == acked + 1);
    peer_deinit(&peer);
}
END_TEST

/* ---- the send queue full ---- */

#define PLUG_BYTES (24u << 20) /* core takes some megabytes that nobody reads */

static const struct rpc_handler *telemetry_handler;
static struct rpc_handler plugged_handler;
static _Atomic(struct rpc_call *) plugged_call;
static _Atomic bool is_plugged;
static struct rpc_post plug_post;

/* Fills the call's send queue. */
static void send_plug(struct rpc_call *call)
{
    response_message response;
    Sentinel__Telemetry__V1__Throttle throttle;
    struct buf packed = { 0 };
    char *text = malloc(PLUG_BYTES + 1);

    memset(text, 'x', PLUG_BYTES);
    text[PLUG_BYTES] = '\0';
    sentinel__telemetry__v1__stream_metrics_response__init(&response);
    sentinel__telemetry__v1__throttle__init(&throttle);
    throttle.message = text;
    response.message_case = SENTINEL__TELEMETRY__V1__STREAM_METRICS_RESPONSE__MESSAGE_THROTTLE;
    response.throttle = &throttle;
    ck_assert_int_eq(wire_pack(&response.base, &packed), 0);
    ck_assert_int_eq(rpc_call_send(call, buf_span(&packed)), RPC_DONE);
    buf_deinit(&packed);
    free(text);
}

static void on_plug_post(struct rpc_post *post)
{
    struct rpc_call *call = atomic_load(&plugged_call);

    if (rpc_call_queued(call) > 0) { /* what was sent before is on its way */
        rpc_call_post(call, post);
        return;
    }
    send_plug(call);
    (void) rpc_call_unref(call);
    atomic_store(&is_plugged, true);
}

static void plug_call(void)
{
    plug_post.fn = on_plug_post;
    rpc_call_post(atomic_load(&plugged_call), &plug_post);
    hub_until(atomic_load(&is_plugged));
}

static void plugged_on_open(struct rpc_call *call)
{
    atomic_store(&plugged_call, rpc_call_ref(call));
    telemetry_handler->on_open(call);
}

static const struct rpc_handler *
plugged_route(void *front, const char *path, const void **ret_method)
{
    const struct rpc_handler *handler = front_route(front, path, ret_method);

    if (strcmp(path, STREAM_METRICS) != 0)
        return handler;
    telemetry_handler = handler;
    plugged_handler = *handler;
    plugged_handler.on_open = plugged_on_open;
    return &plugged_handler;
}

static void start_plugged(void)
{
    hub_options.route = plugged_route;
    hub_options.send_queue_bytes = 1024;
    hub_start();
}

START_TEST(acks_that_find_the_queue_full_become_one)
{
    struct store_stats stats;
    struct test_peer peer;

    (void) open_stream(&peer, hub.agent, 1, 0);
    (void) send_batch(&peer, 1, 1, true);
    hub_until(last_ack(&peer) == 1);
    /* The read that is asked for takes one more ack; then nothing is read. */
    peer.is_holding = true;
    (void) send_batch(&peer, 2, 2, false);
    hub_until(last_ack(&peer) == 2);
    plug_call();
    for (uint64_t i = 3; i <= 20; i++)
        (void) send_batch(&peer, i, (double) i, false);
    do {
        ck_assert_int_ge(loop_run_once(hub.loop, 10), 0);
        store_get_stats(hub.store, &stats);
    } while (stats.n_batches < 20);
    for (int i = 0; i < 20; i++) /* until the call's thread has heard of it */
        ck_assert_int_ge(loop_run_once(hub.loop, 10), 0);
    ck_assert_uint_eq(peer.n_received, 3);
    peer_read(&peer);
    hub_until(is_ack(last_message(&peer)) && last_message(&peer)->ack->sequence == 20);
    ck_assert_int_eq(received(&peer, 3)->message_case,
                     SENTINEL__TELEMETRY__V1__STREAM_METRICS_RESPONSE__MESSAGE_THROTTLE);
    /* One, but where core took all of the plug. */
    ck_assert_uint_lt(peer.n_received, 4 + 18);
    peer_half_close(&peer);
    peer_wait_closed(&peer);
    ck_assert_int_eq(peer.reply.code, RPC_OK);
    peer_deinit(&peer);
}
END_TEST

START_TEST(a_status_waits_for_the_ack_that_waits_for_the_queue)
{
    struct test_peer peer;

    (void) open_stream(&peer, hub.agent, 1, 0);
    (void) send_batch(&peer, 1, 1, true);
    hub_until(last_ack(&peer) == 1);
    peer.is_holding = true;
    (void) send_batch(&peer, 2, 2, false);
    hub_until(last_ack(&peer) == 2);
    plug_call();
    (void) send_batch(&peer, 3, 3, false);
    (void) send_batch(&peer, 9, 9, false);
    for (int i = 0; i < 20; i++)
        ck_assert_int_ge(loop_run_once(hub.loop, 10), 0);
    ck_assert(!peer.is_closed);
    peer_read(&peer);
    peer_wait_closed(&peer);
    ck_reply(&peer.reply, RPC_INVALID_ARGUMENT, "SEQUENCE_GAP");
    ck_assert(is_ack(last_message(&peer)));
    ck_assert_uint_eq(last_message(&peer)->ack->sequence, 3);
    peer_deinit(&peer);
}
END_TEST

/* ---- readers busy ---- */

struct reader_plug {
    struct query_task task;
    sem_t is_in, is_out;
};

static void hold_reader(struct query_task *task)
{
    struct reader_plug *plug = (struct reader_plug *) (void *) task;

    ck_assert_int_eq(sem_post(&plug->is_in), 0);
    while (sem_wait(&plug->is_out) < 0)
        ;
}

START_TEST(a_question_cancelled_while_it_waits_leaves_nothing_behind)
{
    struct reader_plug plugs[2] = { 0 }; /* as many as the rig has readers */
    Sentinel__Query__V1__ListAgentsRequest request;
    uint64_t n_closed = rpc_server_stats(hub.server).calls_closed;
    struct test_peer peer;

    for (int i = 0; i < 2; i++) {
        plugs[i].task.run = hold_reader;
        ck_assert_int_eq(sem_init(&plugs[i].is_in, 0, 0), 0);
        ck_assert_int_eq(sem_init(&plugs[i].is_out, 0, 0), 0);
        ck_assert_int_eq(query_pool_submit(hub.pool, &plugs[i].task), 0);
        while (sem_wait(&plugs[i].is_in) < 0)
            ;
    }
    sentinel__query__v1__list_agents_request__init(&request);
    peer_open(&peer, hub.admin, LIST_AGENTS);
    peer_send(&peer, &request.base);
    peer_half_close(&peer);
    hub_until(rpc_server_stats(hub.server).messages_received > 0);
    rpc_client_call_cancel(peer.call);
    peer_wait_closed(&peer);
    ck_assert_int_eq(peer.reply.code, RPC_CANCELLED);
    hub_until(rpc_server_stats(hub.server).calls_closed > n_closed);
    peer_deinit(&peer);
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(sem_post(&plugs[i].is_out), 0);
    ck_question_is_answered();
    /* hub_stop() looks whether every byte of the budget came back. */
}
END_TEST

/* ---- the budget of arenas ---- */

static void start_without_a_budget(void)
{
    hub_options.arena_total_bytes = 1000;
    hub_start();
}

START_TEST(a_spent_budget_is_said_by_its_name_and_when_to_come_again)
{
    Sentinel__Query__V1__ListAgentsRequest request;
    struct reply reply;
    struct test_peer peer;

    sentinel__query__v1__list_agents_request__init(&request);
    ask(hub.admin, LIST_AGENTS, &request.base, &reply);
    ck_reply(&reply, RPC_RESOURCE_EXHAUSTED, "ARENA_BUDGET");
    ck_assert_str_eq(reply.error.quota, "arena_total_bytes");
    ck_assert_uint_gt(reply.error.retry_after_ms, 0);
    reply_deinit(&reply);
    peer_open(&peer, hub.agent, STREAM_METRICS);
    send_hello(&peer, 1, 0, 0);
    peer_wait_closed(&peer);
    ck_reply(&peer.reply, RPC_RESOURCE_EXHAUSTED, "ARENA_BUDGET");
    ck_assert_str_eq(peer.reply.error.quota, "arena_total_bytes");
    ck_assert_uint_gt(peer.reply.error.retry_after_ms, 0);
    peer_deinit(&peer);
}
END_TEST

/* ---- faults ---- */

static void broken_on_open(struct rpc_call *call)
{
    front_fail(call, FAIL_FAULT, NULL, fault(-EIO, "the dog ate the page"));
}

static void broken_on_message(struct rpc_call *call, struct span message)
{
    (void) call;
    (void) message;
}

static void broken_on_closed(struct rpc_call *call, bool was_cancelled)
{
    (void) call;
    (void) was_cancelled;
}

static const struct rpc_handler *broken_route(void *front, const char *path, const void **ret)
{
    static const struct rpc_handler broken = { .on_open = broken_on_open,
                                               .on_message = broken_on_message,
                                               .on_closed = broken_on_closed };

    (void) front_route(front, path, ret);
    return &broken;
}

static void start_broken(void)
{
    hub_options.route = broken_route;
    hub_start();
}

START_TEST(a_fault_is_internal_and_the_log_has_the_reason_under_the_id)
{
    Sentinel__Query__V1__ListAgentsRequest request;
    struct reply reply;
    FILE *file = tmpfile();
    char log[65536] = "", id[64];

    ck_assert_ptr_nonnull(file);
    log_init(&(struct log_options){ .level = LOG_INFO, .fd = fileno(file) });
    sentinel__query__v1__list_agents_request__init(&request);
    ask(hub.admin, LIST_AGENTS, &request.base, &reply);
    ck_reply(&reply, RPC_INTERNAL, "INTERNAL");
    ck_assert_ptr_nonnull(reply.error.correlation_id);
    ck_assert_uint_ge(strlen(reply.error.correlation_id), 16);
    ck_assert_ptr_nonnull(strstr(reply.message, reply.error.correlation_id));
    ck_assert_ptr_null(strstr(reply.message, "dog"));
    ck_assert_int_gt(pread(fileno(file), log, sizeof(log) - 1, 0), 0);
    (void) snprintf(id, sizeof(id), "correlation=%s", reply.error.correlation_id);
    ck_assert_msg(strstr(log, id) != NULL, "%s", log);
    ck_assert_msg(strstr(log, "the dog ate the page") != NULL, "%s", log);
    reply_deinit(&reply);
    (void) fclose(file);
}
END_TEST

/* ---- certificates at their end ---- */

static _Atomic int64_t ahead_us;

static wall_us fake_wall(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (wall_us){ now.tv_sec * SECOND_US + now.tv_nsec / 1000 + atomic_load(&ahead_us) };
}

static void start_with_a_clock(void)
{
    clock_set_source(fake_wall, NULL);
    hub_start();
}

START_TEST(a_certificate_that_expires_ends_its_stream_and_nothing_is_acknowledged)
{
    struct store_stats stats;
    struct test_peer peer;

    (void) open_stream(&peer, hub.agent, 1, 0);
    (void) send_batch(&peer, 1, 1, true);
    hub_until(last_ack(&peer) == 1);
    atomic_store(&ahead_us, 8 * 86400 * SECOND_US);
    (void) send_batch(&peer, 2, 2, false);
    peer_wait_closed(&peer);
    ck_reply(&peer.reply, RPC_UNAUTHENTICATED, "CERTIFICATE_EXPIRED");
    ck_assert_uint_eq(last_ack(&peer), 1);
    store_get_stats(hub.store, &stats);
    ck_assert_uint_eq(stats.n_batches, 1);
    peer_deinit(&peer);
}
END_TEST

static void add_case(Suite *s, const char *name, void (*start)(void), const TTest *test)
{
    TCase *tcase = tcase_create(name);

    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, start, hub_stop);
    tcase_add_test(tcase, test);
    suite_add_tcase(s, tcase);
}

Suite *suite(void)
{
    Suite *s = suite_create("server/front_limits");

    add_case(s, "the writer behind", start_with_a_short_queue,
             a_stream_that_waits_for_the_writer_is_told_once_and_its_batch_is_taken);
    add_case(s, "the disk full", hub_start,
             a_full_disk_refuses_telemetry_answers_questions_and_ends_by_itself);
    add_case(s, "the send queue full", start_plugged, acks_that_find_the_queue_full_become_one);
    add_case(s, "the end behind it", start_plugged,
             a_status_waits_for_the_ack_that_waits_for_the_queue);
    add_case(s, "readers busy", hub_start,
             a_question_cancelled_while_it_waits_leaves_nothing_behind);
    add_case(s, "the budget spent", start_without_a_budget,
             a_spent_budget_is_said_by_its_name_and_when_to_come_again);
    add_case(s, "faults", start_broken,
             a_fault_is_internal_and_the_log_has_the_reason_under_the_id);
    add_case(s, "certificates at their end", start_with_a_clock,
             a_certificate_that_expires_ends_its_stream_and_nothing_is_acknowledged);
    return s;
}
