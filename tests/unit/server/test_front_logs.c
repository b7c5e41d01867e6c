/* SPDX-License-Identifier: Apache-2.0 */

/* StreamLogs, TailLogs and SearchLogs on a whole hub without its daemon. */

#include "suite.h"

#include "sentinel/query/v1/query.pb-c.h"

#include <stdio.h>
#include <stdlib.h>

#include "test_front_agent.h"

#define SEARCH_LOGS "/sentinel.query.v1.QueryService/SearchLogs"
#define TAIL_LOGS "/sentinel.query.v1.QueryService/TailLogs"
#define MAX_LINES 64

typedef Sentinel__Telemetry__V1__LogRecord log_record;
typedef Sentinel__Query__V1__TailLogsResponse tail_response;
typedef Sentinel__Query__V1__SearchLogsResponse search_response;

static char source_name[4097] = "/var/log/app.log";

/* Of one source, a line each; the first is the oldest. */
static void send_lines(struct test_peer *peer, uint64_t sequence, char *const *lines, size_t n)
{
    Sentinel__Telemetry__V1__LogSource source = SENTINEL__TELEMETRY__V1__LOG_SOURCE__INIT;
    Sentinel__Telemetry__V1__LogBatch batch = SENTINEL__TELEMETRY__V1__LOG_BATCH__INIT;
    logs_request request = SENTINEL__TELEMETRY__V1__STREAM_LOGS_REQUEST__INIT;
    log_record records[MAX_LINES], *rows[MAX_LINES];

    ck_assert_uint_le(n, MAX_LINES);
    source.type = (char[]){ "file" };
    source.name = source_name;
    for (size_t i = 0; i < n; i++) {
        sentinel__telemetry__v1__log_record__init(&records[i]);
        records[i].time_unix_us = clock_wall().us - 1000000 + (int64_t) (sequence * 100 + i);
        records[i].severity_number = 9;
        records[i].body_case = SENTINEL__TELEMETRY__V1__LOG_RECORD__BODY_TEXT;
        records[i].text = lines[i];
        rows[i] = &records[i];
    }
    batch.sequence = sequence;
    batch.source = &source;
    batch.records = rows;
    batch.n_records = n;
    request.message_case = SENTINEL__TELEMETRY__V1__STREAM_LOGS_REQUEST__MESSAGE_BATCH;
    request.batch = &batch;
    peer_send(peer, &request.base);
}

static void send_line(struct test_peer *peer, uint64_t sequence, const char *line)
{
    char copy[200], *lines[] = { copy };

    (void) snprintf(copy, sizeof(copy), "%s", line);
    send_lines(peer, sequence, lines, 1);
}

/* ---- tests: the stream ---- */

START_TEST(logs_are_welcomed_and_acknowledged)
{
    const Sentinel__Telemetry__V1__Welcome *welcome;
    struct store_logs_of of;
    struct test_peer peer;
    uint32_t number;

    welcome = open_logs(&peer);
    ck_assert_uint_eq(welcome->resume_after_sequence, 0);
    ck_assert_uint_eq(welcome->limits->log_body_bytes, 256 << 10);
    ck_assert_uint_eq(welcome->limits->batch_log_records, 65536);
    ck_assert_uint_eq(welcome->limits->log_attributes, 32);
    ck_assert_uint_eq(welcome->limits->attribute_bytes, 1024);
    send_line(&peer, 1, "one");
    send_line(&peer, 2, "two");
    hub_until(logs_ack(&peer) == 2);
    ck_assert_int_eq(store_agent_find(hub.store, "web-1", &number), 0);
    store_logs_of_agent(hub.store, number, &of);
    ck_assert_uint_eq(of.n_records, 2);
    ck_assert_uint_eq(of.n_bytes, 6);
    peer_half_close(&peer);
    peer_wait_closed(&peer);
    ck_assert_int_eq(peer.reply.code, RPC_OK);
    peer_deinit(&peer);
}
END_TEST

START_TEST(a_hello_of_logs_leaves_what_another_stream_said_of_the_host)
{
    struct store_agent facts;
    struct test_peer metrics, logs;
    struct arena arena;
    uint32_t number;

    arena_init(&arena, 1 << 20);
    (void) open_stream(&metrics, hub.agent, 1, 0); /* says host.name and an interval */
    (void) open_logs(&logs);
    ck_assert_int_eq(store_agent_find(hub.store, "web-1", &number), 0);
    ck_assert_int_eq(store_agent_get(hub.store, number, &arena, &facts), 0);
    ck_assert_uint_eq(facts.n_host, 1);
    ck_assert_uint_eq(facts.interval_ms, 10000);
    arena_deinit(&arena);
    peer_deinit(&logs);
    peer_deinit(&metrics);
}
END_TEST

static const struct {
    uint8_t bytes[40];
    size_t len;
    int code;
    const char *reason, *field, *says;
} refusals[] = {
    { { 0x12, 7, 0x08, 1, 0x1a, 3, 0x22, 1, 0xff },
      9,
      RPC_INVALID_ARGUMENT,
      "BAD_TEXT",
      "batch.records[0].text",
      "raw" },
    { { 0x12, 3, 0x08, 1, 0x1b }, 5, RPC_INVALID_ARGUMENT, "MALFORMED", "batch", "" },
    { { 0x12, 2, 0x08, 1 }, 4, RPC_INVALID_ARGUMENT, "BAD_BATCH", "batch.source.type", "63" },
    { { 0x12, 2, 0x08, 9 }, 4, RPC_INVALID_ARGUMENT, "SEQUENCE_GAP", "batch.sequence", "" },
    { { 0x12, 12, 0x08, 1, 0x12, 6, 0x0a, 4, 'f', 'i', 'l', 'e', 0x1a, 0 },
      14,
      RPC_INVALID_ARGUMENT,
      "TIME_OUT_OF_RANGE",
      "batch.records[0].time_unix_us",
      "" },
    { { 0x0a, 0 }, 2, RPC_INVALID_ARGUMENT, "HELLO_TWICE", "", "" },
    { { 0 }, 0, RPC_INVALID_ARGUMENT, "MESSAGE_EMPTY", "", "" },
};

START_TEST(what_is_refused_is_named_after_what_was_taken_is_acknowledged)
{
    struct test_peer peer;

    (void) open_logs(&peer);
    send_bytes(&peer, span_of(refusals[_i].bytes, refusals[_i].len));
    peer_wait_closed(&peer);
    ck_reply(&peer.reply, refusals[_i].code, refusals[_i].reason);
    ck_assert_str_eq(peer.reply.error.field ? peer.reply.error.field : "", refusals[_i].field);
    ck_assert_msg(strstr(peer.reply.message, refusals[_i].says) != NULL, "%s", peer.reply.message);
    peer_deinit(&peer);
}
END_TEST

/* Whoever reads logs may ask what is not among them. */
START_TEST(what_an_agent_skipped_is_on_record)
{
    Sentinel__Telemetry__V1__Skip skip = SENTINEL__TELEMETRY__V1__SKIP__INIT;
    logs_request request = SENTINEL__TELEMETRY__V1__STREAM_LOGS_REQUEST__INIT;
    Sentinel__Query__V1__GetAgentRequest which = SENTINEL__QUERY__V1__GET_AGENT_REQUEST__INIT;
    const Sentinel__Query__V1__GetAgentResponse *told;
    struct test_peer peer, asking;

    (void) open_logs(&peer);
    send_line(&peer, 1, "five!");
    skip.through_sequence = 4;
    skip.records = 77;
    request.message_case = SENTINEL__TELEMETRY__V1__STREAM_LOGS_REQUEST__MESSAGE_SKIP;
    request.skip = &skip;
    peer_send(&peer, &request.base);
    hub_until(logs_ack(&peer) == 4);
    which.agent_id = (char[]){ "web-1" };
    peer_open(&asking, hub.admin, "/sentinel.query.v1.QueryService/GetAgent");
    peer_send(&asking, &which.base);
    peer_half_close(&asking);
    peer_wait_closed(&asking);
    ck_assert_uint_eq(asking.n_received, 1);
    told = (const void *) asking.received[0];
    ck_assert_uint_eq(told->agent->log_records_stored, 1);
    ck_assert_uint_eq(told->agent->log_bytes_stored, 5);
    ck_assert_uint_eq(told->agent->log_records_skipped, 77);
    ck_assert_uint_eq(told->agent->samples_skipped, 0);
    peer_deinit(&asking);
    peer_deinit(&peer);
}
END_TEST

START_TEST(a_batch_before_the_hello_is_refused)
{
    struct test_peer peer;

    peer_open(&peer, hub.agent, STREAM_LOGS);
    send_line(&peer, 1, "early");
    peer_wait_closed(&peer);
    ck_reply(&peer.reply, RPC_INVALID_ARGUMENT, "HELLO_EXPECTED");
    peer_deinit(&peer);
}
END_TEST

START_TEST(only_agents_send_logs_and_only_viewers_read_them)
{
    Sentinel__Query__V1__TailLogsRequest tail = SENTINEL__QUERY__V1__TAIL_LOGS_REQUEST__INIT;
    struct test_peer peer;

    peer_open(&peer, hub.admin, STREAM_LOGS);
    peer_wait_closed(&peer);
    ck_reply(&peer.reply, RPC_PERMISSION_DENIED, "ROLE_MISSING");
    peer_deinit(&peer);
    peer_open(&peer, hub.agent, TAIL_LOGS);
    peer_send(&peer, &tail.base);
    peer_wait_closed(&peer);
    ck_reply(&peer.reply, RPC_PERMISSION_DENIED, "ROLE_MISSING");
    peer_deinit(&peer);
}
END_TEST

static void start_with_a_short_queue(void)
{
    hub_options.queue_bytes = 1; /* never more than one batch in the queue */
    hub_start();
    let_batches_wait();
}

/* A batch that waits borrows from bytes that go: what is stored is what was sent. */
START_TEST(batches_that_have_to_wait_are_stored_as_they_were)
{
    enum { BATCHES = 20 };
    struct store_logs_of of;
    struct test_peer peer;
    uint64_t n_bytes = 0;
    uint32_t number;

    (void) open_logs(&peer);
    for (uint64_t i = 1; i <= BATCHES; i++) {
        char line[64];

        (void) snprintf(line, sizeof(line), "line %llu of many, some of which wait",
                        (unsigned long long) i);
        n_bytes += strlen(line);
        send_line(&peer, i, line);
    }
    hub_until(peer.n_received > 1 &&
              (int) logs_answer(&peer, peer.n_received - 1)->message_case ==
                  SENTINEL__TELEMETRY__V1__STREAM_LOGS_RESPONSE__MESSAGE_ACK &&
              logs_answer(&peer, peer.n_received - 1)->ack->sequence == BATCHES);
    ck_assert_int_eq(store_agent_find(hub.store, "web-1", &number), 0);
    store_logs_of_agent(hub.store, number, &of);
    ck_assert_uint_eq(of.n_records, BATCHES);
    ck_assert_uint_eq(of.n_bytes, n_bytes);
    peer_deinit(&peer);
}
END_TEST

/* ---- tests: tailing ---- */

static const tail_response *tailed(const struct test_peer *peer, unsigned at)
{
    ck_assert_uint_lt(at, peer->n_received);
    return (const void *) peer->received[at];
}

static size_t n_tailed(const struct test_peer *peer)
{
    size_t n = 0;

    for (unsigned i = 0; i < peer->n_received; i++)
        n += tailed(peer, i)->n_entries;
    return n;
}

static void open_tail(struct test_peer *peer, const Sentinel__Query__V1__TailLogsRequest *request)
{
    peer_open(peer, hub.admin, TAIL_LOGS);
    peer_send(peer, &request->base);
    peer_half_close(peer);
    hub_until(peer->n_received > 0 || peer->is_closed);
    ck_assert_msg(!peer->is_closed, "%s", peer->reply.message);
    ck_assert_uint_eq(tailed(peer, 0)->n_entries, 0);
}

START_TEST(a_tail_sees_what_comes_and_fits)
{
    Sentinel__Query__V1__TailLogsRequest request = SENTINEL__QUERY__V1__TAIL_LOGS_REQUEST__INIT;
    char word[] = "error", *words[] = { word };
    const Sentinel__Query__V1__LogEntry *entry;
    struct test_peer agent, all, errors;

    (void) open_logs(&agent);
    send_line(&agent, 1, "before anybody looks");
    hub_until(logs_ack(&agent) == 1);
    open_tail(&all, &request);
    request.words = words;
    request.n_words = 1;
    open_tail(&errors, &request);
    send_line(&agent, 2, "an ERROR came");
    send_line(&agent, 3, "no terrors");
    hub_until(n_tailed(&all) == 2 && n_tailed(&errors) == 1);
    entry = tailed(&errors, errors.n_received - 1)->entries[0];
    ck_assert_str_eq(entry->text, "an ERROR came");
    ck_assert_str_eq(entry->agent_id, "web-1");
    ck_assert_str_eq(entry->source, "/var/log/app.log");
    ck_assert_str_eq(entry->source_type, "file");
    ck_assert_str_eq(entry->severity, "INFO");
    ck_assert(!all.is_closed && !errors.is_closed);
    peer_deinit(&errors);
    send_line(&agent, 4, "one more");
    hub_until(n_tailed(&all) == 3);
    peer_deinit(&all);
    peer_deinit(&agent);
}
END_TEST

static int64_t hours;

/* An hour later whenever it is asked. */
static mono_us slow_mono(void)
{
    return (mono_us){ ++hours * INT64_C(3600000000) };
}

static bool always(void *ctx)
{
    (void) ctx;
    return true;
}

static void count_entry(void *ctx,
                        const char *agent_id,
                        const struct logblock_source *source,
                        const struct logblock_record *record)
{
    (void) agent_id;
    (void) source;
    (void) record;
    ++*(unsigned *) ctx;
}

static void nothing(void *ctx)
{
    (void) ctx;
}

/* What comes faster than a filter looks at it would keep the reader for good. */
START_TEST(a_tail_gives_its_reader_back_after_some_time)
{
    CLEANUP(query_tail_closep) struct query_tail *tail = NULL;
    const struct query_selector everybody = { 0 };
    const struct query_log_filter filter = { .selector = &everybody };
    struct query_problem problem = { 0 };
    unsigned n = 0, n_reads = 0;
    struct query_tail_read read = { always, count_entry, &n, 0, false };
    struct test_peer agent;

    (void) open_logs(&agent);
    ck_assert_int_eq(query_tail_open(&tail, &hub.query, &filter, nothing, NULL, &problem), 0);
    for (unsigned i = 1; i <= 3; i++) {
        send_line(&agent, i, "one pack");
        hub_until(logs_ack(&agent) == i);
    }
    clock_set_source(NULL, slow_mono);
    for (; !read.ret_is_drained; n_reads++) {
        ck_assert_int_eq(query_tail_read(tail, &read), 0);
        ck_assert_uint_le(n, n_reads + 1);
    }
    clock_set_source(NULL, NULL);
    ck_assert_uint_eq(n, 3);
    peer_deinit(&agent);
}
END_TEST

static const struct {
    const char *word, *contains, *regex, *source_pattern, *agent_pattern;
    uint32_t severity;
    bool is_taken;
} filters[] = {
    { .is_taken = true },
    { .word = "disk is full", .is_taken = true },
    { .word = "dis" },
    { .contains = "ISK IS", .is_taken = true },
    { .contains = "xyz" },
    { .regex = "disk (is|was) f", .is_taken = true },
    { .regex = "^is" },
    { .source_pattern = "*.log", .is_taken = true },
    { .source_pattern = "*.txt" },
    { .agent_pattern = "web-?", .is_taken = true },
    { .agent_pattern = "db-*" },
    { .severity = 9, .is_taken = true },
    { .severity = 13 },
};

START_TEST(everything_of_a_filter_must_hold)
{
    Sentinel__Query__V1__TailLogsRequest request = SENTINEL__QUERY__V1__TAIL_LOGS_REQUEST__INIT;
    Sentinel__Query__V1__AgentSelector selector = SENTINEL__QUERY__V1__AGENT_SELECTOR__INIT;
    char *words[1] = { (char *) (uintptr_t) filters[_i].word };
    char *contains[1] = { (char *) (uintptr_t) filters[_i].contains };
    struct test_peer agent, tail, all;

    (void) open_logs(&agent);
    open_tail(&all, &request);
    request.words = words;
    request.n_words = filters[_i].word != NULL;
    request.contains = contains;
    request.n_contains = filters[_i].contains != NULL;
    if (filters[_i].regex)
        request.regex = (char *) (uintptr_t) filters[_i].regex;
    if (filters[_i].source_pattern)
        request.source_pattern = (char *) (uintptr_t) filters[_i].source_pattern;
    if (filters[_i].agent_pattern) {
        selector.pattern = (char *) (uintptr_t) filters[_i].agent_pattern;
        request.agents = &selector;
    }
    request.min_severity_number = filters[_i].severity;
    open_tail(&tail, &request);
    send_line(&agent, 1, "the disk is full");
    hub_until(n_tailed(&all) == 1);
    if (filters[_i].is_taken)
        hub_until(n_tailed(&tail) == 1);
    else
        ck_assert_uint_eq(n_tailed(&tail), 0);
    peer_deinit(&tail);
    peer_deinit(&all);
    peer_deinit(&agent);
}
END_TEST

static const struct {
    const char *word, *regex, *agent;
    uint32_t severity;
    int code;
    const char *reason, *field;
} bad_filters[] = {
    { .regex = "(", .code = RPC_INVALID_ARGUMENT, .reason = "BAD_QUESTION", .field = "regex" },
    { .word = "", .code = RPC_INVALID_ARGUMENT, .reason = "BAD_QUESTION", .field = "words" },
    { .severity = 25,
      .code = RPC_INVALID_ARGUMENT,
      .reason = "BAD_QUESTION",
      .field = "min_severity_number" },
    { .agent = "nobody", .code = RPC_NOT_FOUND, .reason = "NOT_FOUND" },
};

START_TEST(a_bad_filter_is_refused_by_its_field)
{
    Sentinel__Query__V1__TailLogsRequest tail = SENTINEL__QUERY__V1__TAIL_LOGS_REQUEST__INIT;
    Sentinel__Query__V1__SearchLogsRequest search = SENTINEL__QUERY__V1__SEARCH_LOGS_REQUEST__INIT;
    Sentinel__Query__V1__AgentSelector selector = SENTINEL__QUERY__V1__AGENT_SELECTOR__INIT;
    char *words[1] = { (char *) (uintptr_t) bad_filters[_i].word };
    char *ids[1] = { (char *) (uintptr_t) bad_filters[_i].agent };
    struct test_peer peer;

    tail.words = search.words = words;
    tail.n_words = search.n_words = bad_filters[_i].word != NULL;
    if (bad_filters[_i].regex)
        tail.regex = search.regex = (char *) (uintptr_t) bad_filters[_i].regex;
    tail.min_severity_number = search.min_severity_number = bad_filters[_i].severity;
    selector.ids = ids;
    selector.n_ids = bad_filters[_i].agent != NULL;
    tail.agents = search.agents = &selector;
    for (int i = 0; i < 2; i++) {
        peer_open(&peer, hub.admin, i ? TAIL_LOGS : SEARCH_LOGS);
        peer_send(&peer, i ? &tail.base : &search.base);
        peer_wait_closed(&peer);
        ck_reply(&peer.reply, bad_filters[_i].code, bad_filters[_i].reason);
        ck_assert_pstr_eq(peer.reply.error.field, bad_filters[_i].field);
        peer_deinit(&peer);
    }
}
END_TEST

START_TEST(a_revoked_viewer_is_cut_off_while_its_tail_is_idle)
{
    const Sentinel__Query__V1__TailLogsRequest request =
        SENTINEL__QUERY__V1__TAIL_LOGS_REQUEST__INIT;
    struct test_peer tail;

    open_tail(&tail, &request);
    hub_revoke("operators/admin");
    ck_assert(!tail.is_closed);
    front_registry_changed(hub.front);
    peer_wait_closed(&tail);
    ck_reply(&tail.reply, RPC_UNAUTHENTICATED, "CERTIFICATE_REVOKED");
    peer_deinit(&tail);
}
END_TEST

START_TEST(a_tail_ends_when_the_hub_drains)
{
    const Sentinel__Query__V1__TailLogsRequest request =
        SENTINEL__QUERY__V1__TAIL_LOGS_REQUEST__INIT;
    struct test_peer tail;

    open_tail(&tail, &request);
    rpc_server_stop(hub.server);
    peer_wait_closed(&tail);
    ck_reply(&tail.reply, RPC_UNAVAILABLE, "HUB_STOPPING");
    peer_deinit(&tail);
}
END_TEST

/* ---- tests: searching ---- */

#define BATCHES 20u
#define LINE_BYTES 1300u /* BATCHES times MAX_LINES of them are more than a message of 1 MiB */

static void send_many(struct test_peer *agent)
{
    static char texts[MAX_LINES][LINE_BYTES + 1];
    char *lines[MAX_LINES];

    for (uint64_t i = 1; i <= BATCHES; i++) {
        for (unsigned j = 0; j < MAX_LINES; j++) {
            memset(texts[j], 'x', LINE_BYTES);
            texts[j][snprintf(texts[j], LINE_BYTES, "%06u", (unsigned) (i - 1) * MAX_LINES + j)] =
                ' ';
            lines[j] = texts[j];
        }
        send_lines(agent, i, lines, MAX_LINES);
        hub_until(logs_ack(agent) == i); /* more than the queue of a call is not taken */
    }
}

static void search(struct test_peer *peer, uint32_t page_size, const char *token)
{
    Sentinel__Query__V1__SearchLogsRequest request = SENTINEL__QUERY__V1__SEARCH_LOGS_REQUEST__INIT;

    request.oldest_first = true;
    request.page_size = page_size;
    request.page_token = (char *) (uintptr_t) token;
    peer_open(peer, hub.admin, SEARCH_LOGS);
    peer_send(peer, &request.base);
    peer_half_close(peer);
    peer_wait_closed(peer);
    ck_assert_msg(peer->reply.code == RPC_OK, "%s", peer->reply.message);
    ck_assert_uint_gt(peer->n_received, 0);
}

/* All entries are in order, from `first` on; returns the last message. */
static const search_response *check_found(const struct test_peer *peer, unsigned first, unsigned n)
{
    const search_response *message = NULL;
    unsigned at = first;

    for (unsigned i = 0; i < peer->n_received; i++) {
        message = (const void *) peer->received[i];
        for (size_t j = 0; j < message->n_entries; j++)
            ck_assert_uint_eq(strtoul(message->entries[j]->text, NULL, 10), at++);
        ck_assert_ptr_nonnull(message->cost);
    }
    ck_assert_uint_eq(at, first + n);
    return message;
}

START_TEST(a_search_answers_in_messages_that_clients_take)
{
    const search_response *last;
    struct test_peer agent, peer;

    (void) open_logs(&agent);
    send_many(&agent);
    search(&peer, 10000, "");
    ck_assert_uint_gt(peer.n_received, 1);
    last = check_found(&peer, 0, BATCHES * MAX_LINES);
    ck_assert_str_eq(last->next_page_token, "");
    ck_assert_uint_gt(last->cost->bytes_read, (uint64_t) BATCHES * MAX_LINES * LINE_BYTES);
    ck_assert(!last->cost->budget_reached);
    peer_deinit(&peer);
    peer_deinit(&agent);
}
END_TEST

/* Each entry names its source: an agent could make a page that no client takes. */
START_TEST(a_message_of_a_search_is_short_however_long_sources_are)
{
    const search_response *message;
    struct test_peer agent, peer;
    size_t n = 0;

    memset(source_name, 's', sizeof(source_name) - 1);
    (void) open_logs(&agent);
    send_many(&agent);
    search(&peer, 10000, "");
    for (unsigned i = 0; i < peer.n_received; i++) {
        message = (const void *) peer.received[i];
        ck_assert_uint_le(message->n_entries * sizeof(source_name), 2 << 20);
        n += message->n_entries;
    }
    ck_assert_uint_eq(n, (size_t) (size_t) BATCHES * MAX_LINES);
    peer_deinit(&peer);
    peer_deinit(&agent);
}
END_TEST

START_TEST(a_page_ends_where_the_next_one_begins)
{
    char token[1024] = "";
    struct test_peer agent, peer;

    (void) open_logs(&agent);
    send_many(&agent);
    for (unsigned first = 0; first < BATCHES * MAX_LINES; first += 320) {
        search(&peer, 320, token);
        (void) snprintf(token, sizeof(token), "%s",
                        check_found(&peer, first, 320)->next_page_token);
        peer_deinit(&peer);
    }
    if (token[0]) { /* it could not know yet that there is nothing behind */
        search(&peer, 320, token);
        ck_assert_str_eq(check_found(&peer, BATCHES * MAX_LINES, 0)->next_page_token, "");
        peer_deinit(&peer);
    }
    peer_deinit(&agent);
}
END_TEST

START_TEST(a_search_at_its_budget_says_so_and_goes_on)
{
    const search_response *last;
    char token[1024] = "";
    struct test_peer agent, peer;
    unsigned n_rounds = 0, first = 0, n;

    hub.query.logs_budget_bytes = 200000;
    (void) open_logs(&agent);
    send_many(&agent);
    do {
        search(&peer, 10000, token);
        n = 0;
        for (unsigned i = 0; i < peer.n_received; i++)
            n += (unsigned) ((const search_response *) (const void *) peer.received[i])->n_entries;
        last = check_found(&peer, first, n);
        first += n;
        (void) snprintf(token, sizeof(token), "%s", last->next_page_token);
        ck_assert_int_eq(last->cost->budget_reached, token[0] != '\0');
        peer_deinit(&peer);
        ck_assert_uint_lt(++n_rounds, 100);
    } while (token[0]);
    ck_assert_uint_eq(first, (uint64_t) BATCHES * MAX_LINES);
    ck_assert_uint_gt(n_rounds, 3);
    peer_deinit(&agent);
}
END_TEST

/* Suite */

Suite *suite(void)
{
    Suite *s = suite_create("server/front_logs");
    TCase *stream = tcase_create("stream"), *wait = tcase_create("wait"),
          *tail = tcase_create("tail"), *searching = tcase_create("search");

    tcase_add_checked_fixture(stream, hub_start, hub_stop);
    tcase_set_timeout(stream, 60);
    tcase_add_test(stream, logs_are_welcomed_and_acknowledged);
    tcase_add_test(stream, a_hello_of_logs_leaves_what_another_stream_said_of_the_host);
    tcase_add_loop_test(stream, what_is_refused_is_named_after_what_was_taken_is_acknowledged, 0,
                        sizeof(refusals) / sizeof(refusals[0]));
    tcase_add_test(stream, what_an_agent_skipped_is_on_record);
    tcase_add_test(stream, a_batch_before_the_hello_is_refused);
    tcase_add_test(stream, only_agents_send_logs_and_only_viewers_read_them);
    suite_add_tcase(s, stream);

    tcase_add_checked_fixture(wait, start_with_a_short_queue, hub_stop);
    tcase_set_timeout(wait, 60);
    tcase_add_test(wait, batches_that_have_to_wait_are_stored_as_they_were);
    suite_add_tcase(s, wait);

    tcase_add_checked_fixture(tail, hub_start, hub_stop);
    tcase_set_timeout(tail, 60);
    tcase_add_test(tail, a_tail_sees_what_comes_and_fits);
    tcase_add_test(tail, a_tail_gives_its_reader_back_after_some_time);
    tcase_add_loop_test(tail, everything_of_a_filter_must_hold, 0,
                        sizeof(filters) / sizeof(filters[0]));
    tcase_add_loop_test(tail, a_bad_filter_is_refused_by_its_field, 0,
                        sizeof(bad_filters) / sizeof(bad_filters[0]));
    tcase_add_test(tail, a_revoked_viewer_is_cut_off_while_its_tail_is_idle);
    tcase_add_test(tail, a_tail_ends_when_the_hub_drains);
    suite_add_tcase(s, tail);

    tcase_add_checked_fixture(searching, hub_start, hub_stop);
    tcase_set_timeout(searching, 60);
    tcase_add_test(searching, a_search_answers_in_messages_that_clients_take);
    tcase_add_test(searching, a_message_of_a_search_is_short_however_long_sources_are);
    tcase_add_test(searching, a_page_ends_where_the_next_one_begins);
    tcase_add_test(searching, a_search_at_its_budget_says_so_and_goes_on);
    suite_add_tcase(s, searching);
    return s;
}
