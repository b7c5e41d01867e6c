/* SPDX-License-Identifier: Apache-2.0 */

/* StreamLogs with batches that come as blocks. */

#include "suite.h"

#include "sentinel/query/v1/query.pb-c.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/logblock/logblock.h"
#include "test_front_agent.h"

#define SEARCH_LOGS "/sentinel.query.v1.QueryService/SearchLogs"
#define MAX_RECORDS 2000

typedef Sentinel__Query__V1__SearchLogsResponse search_response;

static struct logblock_record records[MAX_RECORDS];
static struct buf block, texts;

static void start(void)
{
    hub_start();
    buf_extend(&texts, 9u << 20);
    buf_clear(&texts);
}

static void stop(void)
{
    hub_stop();
    buf_deinit(&block);
    buf_deinit(&texts);
}

static void start_with_a_short_queue(void)
{
    hub_options.queue_bytes = 1; /* never more than one batch in the queue */
    start();
    let_batches_wait();
}

static struct logblock_record record_of(size_t at, const void *body, size_t len)
{
    struct logblock_record record = { .time_us = clock_wall().us - 1000000 + (int64_t) at,
                                      .severity = 9,
                                      .source_offset = at * 100 };

    record.body = span_of(texts.data + texts.len, len);
    buf_append(&texts, body, len); /* there is room: it does not move */
    return record;
}

static void fill_records(size_t n, const char *word)
{
    for (size_t i = 0; i < n; i++) {
        char line[128];

        (void) snprintf(line, sizeof(line), "%s %06zu of many lines, \xc3\xa4 and some more text",
                        word, i);
        records[i] = record_of(i, line, strlen(line));
    }
}

static struct span encode(size_t n)
{
    CLEANUP(logblock_work_freep) struct logblock_work *work = logblock_work_new();
    struct logblock_input input = { .records = records, .n_records = n, .is_sent = true };

    buf_clear(&block);
    ck_assert_ptr_nonnull(work);
    ck_assert_int_eq(logblock_encode(work, &input, &block), 0);
    return buf_span(&block);
}

static void
send_block(struct test_peer *peer, uint64_t sequence, struct span bytes, bool and_records)
{
    Sentinel__Telemetry__V1__LogSource source = SENTINEL__TELEMETRY__V1__LOG_SOURCE__INIT;
    Sentinel__Telemetry__V1__LogBatch batch = SENTINEL__TELEMETRY__V1__LOG_BATCH__INIT;
    Sentinel__Telemetry__V1__LogRecord record = SENTINEL__TELEMETRY__V1__LOG_RECORD__INIT;
    Sentinel__Telemetry__V1__LogRecord *rows[] = { &record };
    logs_request request = SENTINEL__TELEMETRY__V1__STREAM_LOGS_REQUEST__INIT;

    source.type = (char[]){ "file" };
    source.name = (char[]){ "/var/log/app.log" };
    batch.sequence = sequence;
    batch.source = &source;
    batch.block = (ProtobufCBinaryData){ bytes.len, (uint8_t *) (uintptr_t) bytes.data };
    if (and_records) {
        batch.records = rows;
        batch.n_records = 1;
    }
    request.message_case = SENTINEL__TELEMETRY__V1__STREAM_LOGS_REQUEST__MESSAGE_BATCH;
    request.batch = &batch;
    peer_send(peer, &request.base);
}

static size_t count_found(const char *word)
{
    Sentinel__Query__V1__SearchLogsRequest request = SENTINEL__QUERY__V1__SEARCH_LOGS_REQUEST__INIT;
    Sentinel__Query__V1__TimeRange range = SENTINEL__QUERY__V1__TIME_RANGE__INIT;
    char *words[] = { (char *) (uintptr_t) word };
    struct test_peer peer;
    size_t n = 0;

    request.words = words;
    request.n_words = 1;
    request.page_size = 10000;
    range.from = (char[]){ "-72h" };
    request.range = &range;
    peer_open(&peer, hub.admin, SEARCH_LOGS);
    peer_send(&peer, &request.base);
    peer_half_close(&peer);
    peer_wait_closed(&peer);
    ck_assert_msg(peer.reply.code == RPC_OK, "%s", peer.reply.message);
    for (unsigned i = 0; i < peer.n_received; i++)
        n += ((const search_response *) (const void *) peer.received[i])->n_entries;
    peer_deinit(&peer);
    return n;
}

/* As a block, and as a pack, as it is small. */
START_TEST(a_block_is_acknowledged_stored_and_found)
{
    static const size_t sizes[] = { 1000, 10 };
    const size_t n = sizes[_i];
    struct store_logs_of of;
    struct test_peer peer;
    uint64_t n_bytes = 0;
    uint32_t number;

    ck_assert_uint_eq(open_logs(&peer)->limits->log_block_version, LOGBLOCK_VERSION);
    fill_records(n, "needle");
    for (size_t i = 0; i < n; i++)
        n_bytes += records[i].body.len;
    send_block(&peer, 1, encode(n), false);
    hub_until(logs_ack(&peer) == 1 || peer.is_closed);
    ck_assert_msg(!peer.is_closed, "%s", peer.reply.message);
    ck_assert_int_eq(store_agent_find(hub.store, "web-1", &number), 0);
    store_logs_of_agent(hub.store, number, &of);
    ck_assert_uint_eq(of.n_records, n);
    ck_assert_uint_eq(of.n_bytes, n_bytes);
    ck_assert_uint_eq(count_found("needle"), n);
    ck_assert_uint_eq(count_found("000007"), 1);
    ck_assert_uint_eq(count_found("neither"), 0);
    peer_deinit(&peer);
}
END_TEST

/* The run's last batch is known by its records, however they came. */
START_TEST(a_run_goes_on_behind_a_block)
{
    uint32_t crc = wire_logs_checksum(1);
    struct test_peer peer;

    (void) open_logs(&peer);
    fill_records(1000, "before");
    for (size_t i = 0; i < 1000; i++)
        crc = wire_logs_checksum_add(crc, records[i].severity, records[i].body);
    send_block(&peer, 1, encode(1000), false);
    hub_until(logs_ack(&peer) == 1);
    peer_deinit(&peer);
    ck_assert_ptr_null(open_logs_behind(&peer, 1, crc + 1));
    ck_reply(&peer.reply, RPC_FAILED_PRECONDITION, "SPOOL_FORKED");
    peer_deinit(&peer);
    ck_assert_ptr_nonnull(open_logs_behind(&peer, 1, crc));
    send_block(&peer, 2, encode(1000), false);
    hub_until(logs_ack(&peer) == 2);
    peer_deinit(&peer);
}
END_TEST

/* It borrows from bytes that go. */
START_TEST(blocks_that_have_to_wait_are_stored_as_they_were)
{
    enum { BLOCKS = 12, LINES = 900 };
    struct test_peer peer;

    (void) open_logs(&peer);
    for (uint64_t i = 1; i <= BLOCKS; i++) {
        char word[32];

        (void) snprintf(word, sizeof(word), "block%llu", (unsigned long long) i);
        buf_clear(&texts);
        fill_records(LINES, word);
        send_block(&peer, i, encode(LINES), false);
    }
    hub_until(peer.n_received > 1 &&
              (int) logs_answer(&peer, peer.n_received - 1)->message_case ==
                  SENTINEL__TELEMETRY__V1__STREAM_LOGS_RESPONSE__MESSAGE_ACK &&
              logs_answer(&peer, peer.n_received - 1)->ack->sequence == BLOCKS);
    ck_assert_uint_eq(count_found("block1"), LINES);
    ck_assert_uint_eq(count_found("block7"), LINES);
    ck_assert_uint_eq(count_found("block12"), LINES);
    peer_deinit(&peer);
}
END_TEST

/* Some are of yesterday: each day has its own. */
START_TEST(a_block_of_several_days_is_stored_by_day)
{
    struct test_peer peer;

    (void) open_logs(&peer);
    fill_records(2000, "days");
    for (size_t i = 0; i < 1000; i++)
        records[i].time_us -= INT64_C(86400000000);
    send_block(&peer, 1, encode(2000), false);
    hub_until(logs_ack(&peer) == 1);
    ck_assert_uint_eq(count_found("days"), 2000);
    peer_deinit(&peer);
}
END_TEST

/* ---- what is refused ---- */

static const struct logblock_attribute with_nul[] = { { { (const uint8_t *) "k\0y", 3 },
                                                        { (const uint8_t *) "v", 1 } } };
static const struct logblock_attribute not_text[] = { { { (const uint8_t *) "key", 3 },
                                                        { (const uint8_t *) "\xff", 1 } } };
static const struct logblock_attribute twice[] = {
    { { (const uint8_t *) "key", 3 }, { (const uint8_t *) "a", 1 } },
    { { (const uint8_t *) "key", 3 }, { (const uint8_t *) "b", 1 } },
};

static const struct refusal {
    const char *name;
    const struct logblock_attribute *attributes;
    size_t n_attributes;
    const char *body;
    int64_t days;
    bool is_cut, has_records, is_empty;
    const char *reason, *field;
} refusals[] = {
    { .name = "cut", .is_cut = true, .reason = "MALFORMED", .field = "batch.block" },
    { .name = "empty", .is_empty = true, .reason = "MALFORMED", .field = "batch.block" },
    { .name = "records too", .has_records = true, .reason = "MALFORMED", .field = "batch.block" },
    { .name = "not UTF-8",
      .body = "\xc3\x28",
      .reason = "BAD_TEXT",
      .field = "batch.records[3].text" },
    { .name = "half a character at the end",
      .body = "half \xc3",
      .reason = "BAD_TEXT",
      .field = "batch.records[3].text" },
    { .name = "NUL in a name",
      .attributes = with_nul,
      .n_attributes = 1,
      .reason = "BAD_TEXT",
      .field = "batch.records[3].attributes[0].key" },
    { .name = "attribute not UTF-8",
      .attributes = not_text,
      .n_attributes = 1,
      .reason = "BAD_TEXT",
      .field = "batch.records[3].attributes[0].value" },
    { .name = "attribute twice",
      .attributes = twice,
      .n_attributes = 2,
      .reason = "BAD_BATCH",
      .field = "batch.records[3].attributes[1].key" },
    { .name = "of the future",
      .days = 30,
      .reason = "TIME_OUT_OF_RANGE",
      .field = "batch.records[3].time_unix_us" },
};

START_TEST(what_a_record_may_not_be_it_may_not_be_in_a_block)
{
    const struct refusal *refusal = &refusals[_i];
    struct test_peer peer;
    struct span bytes;

    (void) open_logs(&peer);
    fill_records(10, "word");
    if (refusal->body)
        records[3] = record_of(3, refusal->body, strlen(refusal->body));
    records[3].attributes = refusal->attributes;
    records[3].n_attributes = refusal->n_attributes;
    records[3].time_us += refusal->days * INT64_C(86400000000);
    bytes = encode(10);
    if (refusal->is_cut)
        bytes.len--;
    if (refusal->is_empty)
        bytes.len = 0;
    if (refusal->is_empty) { /* protobuf-c leaves it out */
        static const uint8_t message[] = { 0x12, 4, 0x08, 1, 0x22, 0 };

        send_bytes(&peer, span_of(message, sizeof(message)));
    } else {
        send_block(&peer, 1, bytes, refusal->has_records);
    }
    peer_wait_closed(&peer);
    ck_assert_msg(peer.reply.code == RPC_INVALID_ARGUMENT, "%s: %d", refusal->name,
                  peer.reply.code);
    ck_reply(&peer.reply, RPC_INVALID_ARGUMENT, refusal->reason);
    ck_assert_pstr_eq(peer.reply.error.field, refusal->field);
    peer_deinit(&peer);
    ck_assert_uint_eq(count_found("word"), 0);
}
END_TEST

/* Which one would be measured, and which one read? */
START_TEST(two_blocks_in_a_batch_are_refused)
{
    static const uint8_t message[] = { 0x12, 10, 0x08, 1, 0x22, 2, 'a', 'b', 0x22, 2, 'c', 'd' };
    struct test_peer peer;

    (void) open_logs(&peer);
    send_bytes(&peer, span_of(message, sizeof(message)));
    peer_wait_closed(&peer);
    ck_reply(&peer.reply, RPC_INVALID_ARGUMENT, "MALFORMED");
    ck_assert_pstr_eq(peer.reply.error.field, "batch.block");
    peer_deinit(&peer);
}
END_TEST

/* Bytes that are no text are taken where they say so. */
START_TEST(raw_bodies_are_taken)
{
    struct test_peer peer;

    (void) open_logs(&peer);
    fill_records(10, "word");
    records[3] = record_of(3, "\xff\xfe raw", 6);
    records[3].is_raw = true;
    records[4] = record_of(4, "a\nb\x1e\x1f\1\2\0c", 9); /* nothing can stand between them */
    send_block(&peer, 1, encode(10), false);
    hub_until(logs_ack(&peer) == 1);
    ck_assert_uint_eq(count_found("raw"), 1);
    ck_assert_uint_eq(count_found("word"), 8);
    peer_deinit(&peer);
}
END_TEST

/* A message of some hundred bytes that would be megabytes. */
START_TEST(what_is_too_much_when_it_is_decoded_is_refused_before_that)
{
    const size_t len = 7u << 20;
    struct test_peer peer;
    struct span bytes;

    (void) open_logs(&peer);
    memset(texts.data, 'x', len);
    for (size_t i = 0; i < 100; i++) {
        records[i] = record_of(i, "", 0);
        records[i].body = span_of(texts.data + i * (len / 100), len / 100);
    }
    bytes = encode(100);
    ck_assert_uint_lt(bytes.len, 10000);
    send_block(&peer, 1, bytes, false);
    peer_wait_closed(&peer);
    ck_reply(&peer.reply, RPC_RESOURCE_EXHAUSTED, "MESSAGE_BYTES");
    ck_assert_ptr_nonnull(strstr(peer.reply.message, "max_message_bytes"));
    peer_deinit(&peer);
}
END_TEST

Suite *suite(void)
{
    Suite *s = suite_create("server/front_logs_block");
    TCase *taken = tcase_create("taken"), *wait = tcase_create("wait"),
          *bad = tcase_create("refused");

    tcase_add_checked_fixture(taken, start, stop);
    tcase_set_timeout(taken, 60);
    tcase_add_loop_test(taken, a_block_is_acknowledged_stored_and_found, 0, 2);
    tcase_add_test(taken, a_run_goes_on_behind_a_block);
    tcase_add_test(taken, a_block_of_several_days_is_stored_by_day);
    tcase_add_test(taken, raw_bodies_are_taken);
    suite_add_tcase(s, taken);

    tcase_add_checked_fixture(wait, start_with_a_short_queue, stop);
    tcase_set_timeout(wait, 60);
    tcase_add_test(wait, blocks_that_have_to_wait_are_stored_as_they_were);
    suite_add_tcase(s, wait);

    tcase_add_checked_fixture(bad, start, stop);
    tcase_set_timeout(bad, 60);
    tcase_add_loop_test(bad, what_a_record_may_not_be_it_may_not_be_in_a_block, 0,
                        sizeof(refusals) / sizeof(refusals[0]));
    tcase_add_test(bad, two_blocks_in_a_batch_are_refused);
    tcase_add_test(bad, what_is_too_much_when_it_is_decoded_is_refused_before_that);
    suite_add_tcase(s, bad);
    return s;
}
