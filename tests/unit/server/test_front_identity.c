/* SPDX-License-Identifier: Apache-2.0 */

/* Enrolment, bearer tokens, limits, and what is on record of all of it, over real connections. */

#include "suite.h"

#include "grpc/reflection/v1/reflection.pb-c.h"
#include "sentinel/admin/v1/admin.pb-c.h"
#include "sentinel/enrollment/v1/enrollment.pb-c.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "common/base/text.h"
#include "test_front_agent.h"

#define ADMIN "/sentinel.admin.v1.AdminService/"
#define ENROLLMENT "/sentinel.enrollment.v1.EnrollmentService/"
#define N_STREAMS 40 /* fewer than notes of one event in a minute */
#define REFLECTION "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"

static const struct span nothing = { 0 };
static const struct pki_act act = { .by = "operator/test", .source = "", .correlation = "" };

/* ---- enrolment ---- */

static struct pki_token make_token(const struct pki_token_wish *asked)
{
    struct pki_token_wish wish = *asked;
    struct pki_token token = { 0 };
    struct tls_why why = { "" };

    wish.made_by = "operator/test";
    wish.source = "";
    ck_assert_msg(pki_token_create(hub.pki, &wish, &token, &why) == 0, "%s", why.text);
    return token;
}

static void enroll(const struct pki_token *token, const char *name, struct reply *ret)
{
    Sentinel__Enrollment__V1__EnrollRequest request =
        SENTINEL__ENROLLMENT__V1__ENROLL_REQUEST__INIT;
    struct pki_token copy = *token;
    uint8_t instance[16] = { 7 };
    struct tls_key *key = NULL;
    struct buf csr = { 0 };
    char id[64];

    ck_assert_int_eq(tls_key_new(&key), 0);
    ck_assert_int_eq(tls_csr_print(key, "somebody else", &csr), 0);
    (void) snprintf(id, sizeof(id), "%s", name);
    request.token_id = copy.id;
    request.token_secret = (ProtobufCBinaryData){ sizeof(copy.secret), copy.secret };
    request.csr = (ProtobufCBinaryData){ csr.len, csr.data };
    request.requested_id = id;
    request.instance = (ProtobufCBinaryData){ sizeof(instance), instance };
    ask(hub.nobody, ENROLLMENT "Enroll", &request.base, ret);
    buf_deinit(&csr);
    (void) tls_key_free(key);
}

START_TEST(a_token_enrols_the_name_that_was_asked_for_and_no_other_key)
{
    const struct pki_token token = make_token(&(struct pki_token_wish){ .replace = -1 });
    const Sentinel__Enrollment__V1__EnrollResponse *answer;
    struct reply reply;

    enroll(&token, "db-1", &reply);
    ck_reply(&reply, RPC_OK, "");
    answer = (const void *) reply.answer;
    ck_assert_str_eq(answer->agent_id, "db-1");
    ck_assert_uint_eq(answer->n_chain, 2);
    ck_assert_uint_eq(answer->n_roots, 1);
    ck_assert_uint_eq(answer->generation, pki_generation(hub.pki));
    reply_deinit(&reply);
    enroll(&token, "db-2", &reply);
    ck_reply(&reply, RPC_UNAUTHENTICATED, "TOKEN_USED");
    reply_deinit(&reply);
}
END_TEST

START_TEST(a_wrong_secret_is_told_apart_from_nothing)
{
    struct pki_token token = make_token(&(struct pki_token_wish){ .replace = -1 });
    struct reply wrong, unknown;

    token.secret[0] ^= 1;
    enroll(&token, "db-1", &wrong);
    ck_reply(&wrong, RPC_UNAUTHENTICATED, "TOKEN_UNKNOWN");
    memcpy(token.id, "aaaaaaaa", 8);
    enroll(&token, "db-1", &unknown);
    ck_reply(&unknown, RPC_UNAUTHENTICATED, "TOKEN_UNKNOWN");
    ck_assert_str_eq(wrong.message, unknown.message);
    reply_deinit(&wrong);
    reply_deinit(&unknown);
}
END_TEST

START_TEST(renewal_after_the_end_begins_with_a_nonce_and_wants_one_request)
{
    const Sentinel__Enrollment__V1__RenewExpiredResponse *first;
    const Sentinel__Enrollment__V1__RenewExpiredRequest empty =
        SENTINEL__ENROLLMENT__V1__RENEW_EXPIRED_REQUEST__INIT;
    struct test_peer peer, other;

    peer_open(&peer, hub.nobody, ENROLLMENT "RenewExpired");
    peer_open(&other, hub.nobody, ENROLLMENT "RenewExpired");
    hub_until(peer.n_received == 1 && other.n_received == 1);
    first = (const void *) peer.received[0];
    ck_assert_uint_eq(first->nonce.len, IDENTITY_NONCE_BYTES);
    ck_assert_mem_ne(
        first->nonce.data,
        ((const Sentinel__Enrollment__V1__RenewExpiredResponse *) other.received[0])->nonce.data,
        IDENTITY_NONCE_BYTES);
    peer_send(&peer, &empty.base); /* who asks for the nonce has it */
    peer_half_close(&peer);
    peer_wait_closed(&peer);
    ck_reply(&peer.reply, RPC_INVALID_ARGUMENT, "REQUEST_MISSING");
    ck_assert_uint_eq(peer.n_received, 1);
    peer_deinit(&peer);
    peer_deinit(&other);
}
END_TEST

/* ---- bearer tokens ---- */

static struct rpc_channel *bearer_channel(enum pki_role role, struct pki_bearer *ret)
{
    const struct pki_bearer_wish wish = { .name = "script", .role = role };
    struct tls_why why = { "" };
    struct buf header = { 0 };
    struct rpc_channel *channel;

    ck_assert_msg(pki_bearer_create(hub.pki, &wish, &act, ret, &why) == 0, "%s", why.text);
    buf_printf(&header, "Bearer %s.", ret->id);
    identity_base32_print(span_of(ret->secret, sizeof(ret->secret)), &header);
    channel = hub_with_header("authorization", buf_text(&header));
    buf_deinit(&header);
    return channel;
}

START_TEST(a_bearer_token_has_its_role_until_it_is_taken_back)
{
    Grpc__Reflection__V1__ServerReflectionRequest list =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__INIT;
    char all[] = "*";
    struct pki_bearer bearer;
    struct rpc_channel *channel = bearer_channel(PKI_ROLE_VIEWER, &bearer);
    struct test_peer peer;
    struct reply reply;

    ask_bytes(channel, ADMIN "GetStatus", nothing, &reply);
    ck_reply(&reply, RPC_OK, "");
    reply_deinit(&reply);
    ask_bytes(channel, ADMIN "ListTokens", nothing, &reply);
    ck_reply(&reply, RPC_PERMISSION_DENIED, "ROLE_MISSING");
    reply_deinit(&reply);
    ask_bytes(channel, ADMIN "RenewOwnCertificate", nothing, &reply);
    ck_reply(&reply, RPC_FAILED_PRECONDITION, "REFUSED");
    reply_deinit(&reply);

    peer_open(&peer, channel, REFLECTION);
    list.message_request_case =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_LIST_SERVICES;
    list.list_services = all;
    peer_send(&peer, &list.base);
    hub_until(peer.n_received == 1);
    ck_assert_int_eq(pki_bearer_revoke(hub.pki, bearer.id, &act), 0);
    front_registry_changed(hub.front);
    peer_wait_closed(&peer);
    ck_assert_int_eq(peer.reply.code, RPC_UNAUTHENTICATED);
    peer_deinit(&peer);
    ask_bytes(channel, ADMIN "GetStatus", nothing, &reply);
    ck_assert_int_eq(reply.code, RPC_UNAUTHENTICATED);
    reply_deinit(&reply);
    (void) rpc_channel_free(channel);
}
END_TEST

START_TEST(a_secret_that_nobody_has_is_no_identity)
{
    struct rpc_channel *channel =
        hub_with_header("authorization", "Bearer aaaaaaaa.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
    struct reply reply;

    ask_bytes(channel, ADMIN "GetStatus", nothing, &reply);
    ck_reply(&reply, RPC_UNAUTHENTICATED, "BEARER_UNKNOWN");
    reply_deinit(&reply);
    ask_bytes(channel, ENROLLMENT "GetTrustBundle", nothing, &reply); /* anyone's */
    ck_reply(&reply, RPC_OK, "");
    reply_deinit(&reply);
    (void) rpc_channel_free(channel);
}
END_TEST

/* ---- limits ---- */

START_TEST(a_user_who_calls_too_often_is_told_when_to_come_again)
{
    Sentinel__Admin__V1__SetLimitRequest request = SENTINEL__ADMIN__V1__SET_LIMIT_REQUEST__INIT;
    char name[] = "privileged_calls", who[] = "admin";
    struct reply reply;

    request.name = name;
    request.who = who;
    request.value = 2;
    ask(hub.admin, ADMIN "SetLimit", &request.base, &reply);
    ck_reply(&reply, RPC_OK, "");
    reply_deinit(&reply);
    do {
        ask_bytes(hub.admin, ADMIN "CreateToken", nothing, &reply);
        if (reply.code == RPC_OK)
            reply_deinit(&reply);
    } while (reply.code == RPC_OK);
    ck_reply(&reply, RPC_RESOURCE_EXHAUSTED, "RATE_LIMITED");
    ck_assert_str_eq(reply.error.quota, "privileged_calls");
    ck_assert_uint_gt(reply.error.retry_after_ms, 0);
    reply_deinit(&reply);
    ask_bytes(hub.admin, ADMIN "ListTokens", nothing, &reply); /* it only looks */
    ck_reply(&reply, RPC_OK, "");
    reply_deinit(&reply);
    ask(hub.agent, ADMIN "SetLimit", &request.base, &reply);
    ck_reply(&reply, RPC_PERMISSION_DENIED, "ROLE_MISSING");
    reply_deinit(&reply);
}
END_TEST

/* ---- the record ---- */

static size_t n_entries(const char *event)
{
    const struct audit_question question = { .event = event, .limit = 100 };
    struct audit_record *records = NULL;
    struct arena arena;
    bool has_more;
    size_t n = 0;

    ck_assert_int_eq(audit_tick(hub.audit, clock_wall()), 0); /* notes are written */
    arena_init(&arena, 1 << 20);
    ck_assert_int_eq(audit_find(hub.audit, &question, &arena, &records, &n, &has_more), 0);
    arena_deinit(&arena);
    return n;
}

START_TEST(who_came_and_who_was_sent_away_is_on_record)
{
    struct reply reply;

    for (int i = 0; i < 3; i++) {
        ask_bytes(hub.admin, ADMIN "GetStatus", nothing, &reply);
        ck_reply(&reply, RPC_OK, "");
        reply_deinit(&reply);
    }
    ck_assert_uint_eq(n_entries("authentication.succeeded"), 1); /* of one connection, once */
    ask_bytes(hub.agent, ADMIN "GetStatus", nothing, &reply);
    reply_deinit(&reply);
    ck_assert_uint_eq(n_entries("authorisation.denied"), 1);
    ask_bytes(hub.nobody, ADMIN "GetStatus", nothing, &reply);
    reply_deinit(&reply);
    ck_assert_uint_eq(n_entries("authentication.failed"), 1);
}
END_TEST

/* Each cut is on record before the operator has his answer: no ack follows that. */
START_TEST(a_revocation_is_answered_when_the_streams_have_ended)
{
    static struct test_peer peers[N_STREAMS];
    Sentinel__Admin__V1__ChangeAgentRequest request =
        SENTINEL__ADMIN__V1__CHANGE_AGENT_REQUEST__INIT;
    struct rpc_channel *channel = hub_enrol("web-9");
    char name[] = "web-9";
    struct reply reply;

    for (size_t i = 0; i < N_STREAMS; i++)
        peer_open(&peers[i], channel, STREAM_METRICS);
    hub_until(rpc_server_stats(hub.server).calls_opened >= N_STREAMS);
    request.agent_id = name;
    request.change = SENTINEL__ADMIN__V1__AGENT_CHANGE__AGENT_CHANGE_REVOKE;
    ask(hub.admin, ADMIN "ChangeAgent", &request.base, &reply);
    ck_reply(&reply, RPC_OK, "");
    reply_deinit(&reply);
    ck_assert_uint_eq(n_entries("authentication.failed"), N_STREAMS);
    for (size_t i = 0; i < N_STREAMS; i++) {
        peer_wait_closed(&peers[i]);
        ck_reply(&peers[i].reply, RPC_UNAUTHENTICATED, "CERTIFICATE_REVOKED");
        peer_deinit(&peers[i]);
    }
    (void) rpc_channel_free(channel);
}
END_TEST

/* ---- an agent that is forgotten while its call waits ---- */

#define N_READERS 2 /* the rig's */

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned n_held, round;
} gate = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0 };
static struct rpc_handler counting;
static const struct rpc_handler *counted;
static _Atomic unsigned n_handled;

static void hold(struct query_task *task)
{
    unsigned round;

    (void) task;
    pthread_mutex_lock(&gate.lock);
    round = gate.round;
    gate.n_held++;
    pthread_cond_broadcast(&gate.changed);
    while (gate.round == round)
        pthread_cond_wait(&gate.changed, &gate.lock);
    pthread_mutex_unlock(&gate.lock);
}

/* Comes back when all readers are held: what was submitted before is done. */
static void hold_readers(struct query_task tasks[N_READERS])
{
    gate.n_held = 0; /* none is in a task that has yet to count itself */
    for (size_t i = 0; i < N_READERS; i++) {
        tasks[i].run = hold;
        ck_assert_int_eq(query_pool_submit(hub.pool, &tasks[i]), 0);
    }
    pthread_mutex_lock(&gate.lock);
    while (gate.n_held < N_READERS)
        pthread_cond_wait(&gate.changed, &gate.lock);
    pthread_mutex_unlock(&gate.lock);
}

static void let_readers_go(void)
{
    pthread_mutex_lock(&gate.lock);
    gate.round++;
    pthread_cond_broadcast(&gate.changed);
    pthread_mutex_unlock(&gate.lock);
}

static void counting_message(struct rpc_call *call, struct span message)
{
    counted->on_message(call, message);
    atomic_fetch_add(&n_handled, 1);
}

static void counting_half_close(struct rpc_call *call)
{
    counted->on_half_close(call);
    atomic_fetch_add(&n_handled, 1);
}

static const struct rpc_handler *counting_route(void *front, const char *path, const void **ret)
{
    const struct rpc_handler *handler = front_route(front, path, ret);

    if (!handler || strstr(path, "/sentinel.telemetry.v1.") != path)
        return handler;
    counted = handler;
    counting = *handler;
    counting.on_message = counting_message;
    counting.on_half_close = counting_half_close;
    return &counting;
}

static void send_empty_inventory(struct test_peer *peer)
{
    Sentinel__Telemetry__V1__UploadInventoryRequest request =
        SENTINEL__TELEMETRY__V1__UPLOAD_INVENTORY_REQUEST__INIT;
    Sentinel__Telemetry__V1__InventoryHeader header =
        SENTINEL__TELEMETRY__V1__INVENTORY_HEADER__INIT;

    header.time_unix_us = clock_wall().us;
    request.message_case = SENTINEL__TELEMETRY__V1__UPLOAD_INVENTORY_REQUEST__MESSAGE_HEADER;
    request.header = &header;
    peer_send(peer, &request.base);
    peer_half_close(peer);
}

/* Bit 0: of an inventory, else of a stream; bit 1: the store knows it already. */
START_TEST(who_is_forgotten_while_it_waits_for_a_reader_stays_gone)
{
    const bool is_inventory = _i & 1;
    struct query_task tasks[N_READERS], later[N_READERS];
    struct store_forgotten forgotten;
    struct test_peer peer;
    uint32_t number = 0;

    if (_i & 2)
        ck_assert_int_eq(store_agent_intern(hub.store, "web-1", &number), 0);
    hold_readers(tasks);
    peer_open(&peer, hub.agent,
              is_inventory ? "/sentinel.telemetry.v1.TelemetryService/UploadInventory"
                           : STREAM_METRICS);
    if (is_inventory)
        send_empty_inventory(&peer);
    else
        send_hello(&peer, 1, 0, 0);
    hub_until(atomic_load(&n_handled) == (is_inventory ? 2 : 1));
    ck_assert_int_eq(pki_agent_forget(hub.pki, "web-1", number, &act), 0);
    front_registry_changed(hub.front);
    ck_assert_int_eq(store_agent_forget(hub.store, "web-1", &forgotten),
                     _i & 2 ? 0 : STORE_NOT_FOUND);
    let_readers_go();
    peer_wait_closed(&peer);
    ck_reply(&peer.reply, RPC_UNAUTHENTICATED, "CERTIFICATE_UNKNOWN");
    peer_deinit(&peer);
    hold_readers(later);
    let_readers_go();
    ck_assert_int_eq(store_agent_find(hub.store, "web-1", &number), STORE_NOT_FOUND);
}
END_TEST

static void begin_counting(void)
{
    hub_options.has_audit = true;
    hub_options.route = counting_route;
    hub_start();
}

static void begin(void)
{
    hub_options.has_audit = true;
    hub_start();
}

static void begin_insecure(void)
{
    hub_options.has_audit = true;
    hub_start_insecure();
}

START_TEST(insecure_mode_knows_no_identities_and_says_so)
{
    static const char *const paths[] = { ADMIN "ListTokens", ADMIN "ListOperators",
                                         ADMIN "GetCaStatus", ADMIN "ListBearers",
                                         ENROLLMENT "GetTrustBundle" };
    struct test_peer peer;
    struct reply reply;

    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        ask_bytes(hub.nobody, paths[i], nothing, &reply);
        ck_reply(&reply, RPC_FAILED_PRECONDITION, "INSECURE_MODE");
        reply_deinit(&reply);
    }
    peer_open(&peer, hub.nobody, ENROLLMENT "RenewExpired");
    peer_wait_closed(&peer);
    ck_reply(&peer.reply, RPC_FAILED_PRECONDITION, "INSECURE_MODE");
    peer_deinit(&peer);
}
END_TEST

Suite *suite(void)
{
    Suite *made = suite_create("server/front_identity");
    TCase *tcase = tcase_create("identity");

    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, begin, hub_stop);
    tcase_add_test(tcase, a_token_enrols_the_name_that_was_asked_for_and_no_other_key);
    tcase_add_test(tcase, a_wrong_secret_is_told_apart_from_nothing);
    tcase_add_test(tcase, renewal_after_the_end_begins_with_a_nonce_and_wants_one_request);
    tcase_add_test(tcase, a_bearer_token_has_its_role_until_it_is_taken_back);
    tcase_add_test(tcase, a_secret_that_nobody_has_is_no_identity);
    tcase_add_test(tcase, a_user_who_calls_too_often_is_told_when_to_come_again);
    tcase_add_test(tcase, who_came_and_who_was_sent_away_is_on_record);
    tcase_add_test(tcase, a_revocation_is_answered_when_the_streams_have_ended);
    suite_add_tcase(made, tcase);
    tcase = tcase_create("forgotten");
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, begin_counting, hub_stop);
    tcase_add_loop_test(tcase, who_is_forgotten_while_it_waits_for_a_reader_stays_gone, 0, 4);
    suite_add_tcase(made, tcase);
    tcase = tcase_create("insecure");
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, begin_insecure, hub_stop);
    tcase_add_test(tcase, insecure_mode_knows_no_identities_and_says_so);
    suite_add_tcase(made, tcase);
    return made;
}
