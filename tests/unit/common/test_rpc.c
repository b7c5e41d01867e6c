/* SPDX-License-Identifier: Apache-2.0 */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "suite.h"
#include "test_rpc_rig.h"

static struct rig rig;
static struct stream stream;

static void setup(void)
{
    ck_assert_int_eq(rpc_init(), 0);
}

/* Each test stops the rig itself; nothing may be left then. */
static void teardown(void)
{
    rpc_deinit();
}

static void start(void)
{
    rig_start(&rig, &(struct rig_options){ .n_threads = 2 });
}

static void stop(void)
{
    rig_stop(&rig);
    ck_assert_uint_eq(rig.n_opened, rig.n_closed);
}

START_TEST(every_code_has_a_name)
{
    ck_assert_str_eq(rpc_code_name(RPC_OK), "OK");
    ck_assert_str_eq(rpc_code_name(RPC_UNAUTHENTICATED), "UNAUTHENTICATED");
    ck_assert_str_eq(rpc_code_name(17), "UNKNOWN_CODE");
    ck_assert_str_eq(rpc_code_name(-1), "UNKNOWN_CODE");
}
END_TEST

START_TEST(unary_call_is_answered)
{
    struct arena arena;
    struct span response;
    struct rpc_status status;

    start();
    arena_init(&arena, 1 << 20);
    for (int i = 0; i < 20; i++) {
        ck_assert_int_eq(rpc_client_unary(rig.channel, "/t/Echo", span_of_text("hello"), 5000000,
                                          &arena, &response, &status),
                         0);
        ck_assert_int_eq(status.code, RPC_OK);
        ck_assert(span_equal(response, span_of_text("hello")));
    }
    arena_deinit(&arena);
    stop();
}
END_TEST

START_TEST(unary_call_to_nobody_is_unavailable)
{
    struct arena arena;
    struct span response;
    struct rpc_status status;
    struct rpc_channel *nobody;

    start();
    arena_init(&arena, 1 << 20);
    snprintf(rig.target, sizeof(rig.target), "127.0.0.1:1");
    nobody = rig_channel(&rig, NULL, NULL);
    ck_assert_int_eq(
        rpc_client_unary(nobody, "/t/Echo", span_of_text(""), 5000000, &arena, &response, &status),
        0);
    ck_assert_int_eq(status.code, RPC_UNAVAILABLE);
    rpc_channel_free(nobody);
    arena_deinit(&arena);
    stop();
}
END_TEST

START_TEST(client_stream_is_read_to_its_end)
{
    start();
    stream_open(&stream, rig.channel, "/t/Count", 0);
    for (int i = 0; i < 1000; i++)
        stream_send(&stream, "x");
    rpc_client_call_half_close(stream.call);
    ck_assert_int_eq(rpc_client_call_send(stream.call, span_of_text("late")), RPC_CLOSED);
    rig_until(&rig, stream.is_closed);
    ck_assert_int_eq(stream.code, RPC_OK);
    ck_assert_mem_eq(stream.last, "1000", 4);
    ck_assert_str_eq(rpc_client_call_peer(stream.call), rig.target);
    rpc_client_call_unref(stream.call);
    stop();
}
END_TEST

START_TEST(server_stream_arrives_whole_before_the_status)
{
    start();
    stream_open(&stream, rig.channel, "/t/Emit", 0);
    stream_send(&stream, "5000 1000");
    rpc_client_call_half_close(stream.call);
    rig_until(&rig, stream.is_closed);
    ck_assert_int_eq(stream.code, RPC_OK);
    ck_assert_uint_eq(stream.n_received, 5000);
    ck_assert_uint_eq(stream.n_bytes, 5000 * 1000);
    rpc_client_call_unref(stream.call);
    stop();
}
END_TEST

START_TEST(both_directions_flow_at_once)
{
    unsigned n_sent = 0;
    struct rpc_server_stats stats;

    start();
    stream_open(&stream, rig.channel, "/t/Echo", 0);
    while (n_sent < 3000) {
        char text[16];

        snprintf(text, sizeof(text), "%u", n_sent);
        if (rpc_client_call_send(stream.call, span_of_text(text)) == 0) {
            n_sent++;
            if (n_sent % 100)
                continue;
        }
        ck_assert_int_ge(loop_run_once(rig.loop, 0), 0);
    }
    rpc_client_call_half_close(stream.call);
    rig_until(&rig, stream.is_closed);
    ck_assert_int_eq(stream.code, RPC_OK);
    ck_assert_uint_eq(stream.n_received, 3000);
    ck_assert_mem_eq(stream.last, "2999", 4);
    rpc_client_call_unref(stream.call);
    rig_until(&rig, rpc_server_stats(rig.server).calls_closed == 1);
    stats = rpc_server_stats(rig.server);
    ck_assert_uint_eq(stats.calls_opened, 1);
    ck_assert_uint_eq(stats.messages_received, 3000);
    ck_assert_uint_eq(stats.messages_sent, 3000);
    ck_assert_uint_eq(stats.bytes_received, stats.bytes_sent);
    stop();
}
END_TEST

START_TEST(empty_messages_and_large_ones_arrive)
{
    static char large[3 << 20];

    start();
    stream_open(&stream, rig.channel, "/t/Echo", 0);
    ck_assert_int_eq(rpc_client_call_send(stream.call, span_of(large, sizeof(large))), 0);
    rig_until(&rig, stream.n_received == 1);
    ck_assert_uint_eq(stream.n_bytes, sizeof(large));
    stream_send(&stream, "");
    rig_until(&rig, stream.n_received == 2);
    ck_assert_uint_eq(stream.last_len, 0);
    rpc_client_call_unref(stream.call);
    stop();
}
END_TEST

START_TEST(status_carries_message_and_details)
{
    start();
    stream_open(&stream, rig.channel, "/t/Fail", 0);
    stream_send(&stream, "\x08\x05\xff packed");
    rig_until(&rig, stream.is_closed);
    ck_assert_int_eq(stream.code, RPC_NOT_FOUND);
    ck_assert_str_eq(stream.message, "no such thing \xc3\xa9");
    ck_assert_uint_eq(stream.details_len, 10);
    ck_assert_mem_eq(stream.details, "\x08\x05\xff packed", 10);
    rpc_client_call_unref(stream.call);
    rig_until(&rig, rig.n_closed == 1);
    ck_assert_uint_eq(rig.n_cancelled, 0);
    stop();
}
END_TEST

START_TEST(headers_can_be_asked_for)
{
    start();
    stream_open(&stream, rig.channel, "/t/Header", 0);
    stream_send(&stream, "user-agent");
    rig_until(&rig, stream.is_closed);
    ck_assert_int_eq(stream.code, RPC_OK);
    ck_assert_mem_eq(stream.last, "grpc-c/", 7);
    rpc_client_call_unref(stream.call);
    stop();
}
END_TEST

static int
open_with_metadata(const struct rpc_metadata *metadata, size_t n_metadata, struct rpc_channel **ret)
{
    return rpc_channel_new(ret, rig.queue,
                           &(struct rpc_channel_options){ .target = rig.target,
                                                          .metadata = metadata,
                                                          .n_metadata = n_metadata });
}

START_TEST(metadata_of_a_channel_goes_with_each_call)
{
    char value[] = "web-1";
    struct rpc_metadata metadata[] = { { "sentinel-agent", value }, { "x-second", "2" } };
    struct rpc_status status = { .code = -1 };
    struct rpc_channel *channel;
    struct span response;
    struct arena arena;

    start();
    arena_init(&arena, 65536);
    ck_assert_int_eq(open_with_metadata(metadata, 2, &channel), 0);
    value[0] = 'X'; /* it was copied */
    for (int i = 0; i < 2; i++) {
        stream_open(&stream, channel, "/t/Header", 0);
        stream_send(&stream, "sentinel-agent");
        rig_until(&rig, stream.is_closed);
        ck_assert_int_eq(stream.code, RPC_OK);
        ck_assert_uint_eq(stream.last_len, 5);
        ck_assert_mem_eq(stream.last, "web-1", 5);
        rpc_client_call_unref(stream.call);
    }
    ck_assert_int_eq(rpc_client_unary(channel, "/t/Header", span_of_text("x-second"), 0, &arena,
                                      &response, &status),
                     0);
    ck_assert_int_eq(status.code, RPC_OK);
    ck_assert(span_equal(response, span_of_text("2")));
    rpc_channel_free(channel);
    arena_deinit(&arena);
    stop();
}
END_TEST

START_TEST(metadata_that_is_no_header_is_refused)
{
    static const struct rpc_metadata bad[] = {
        { "Upper", "1" }, { "with space", "1" }, { "", "1" }, { "key-bin", "1" }, { "key", "a\nb" },
    };
    struct rpc_channel *channel = NULL;

    start();
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        ck_assert_int_eq(open_with_metadata(&bad[i], 1, &channel), RPC_BAD_METADATA);
    ck_assert_ptr_null(channel);
    stop();
}
END_TEST

START_TEST(unknown_path_is_unimplemented)
{
    start();
    stream_open(&stream, rig.channel, "/t/Nothing", 0);
    rig_until(&rig, stream.is_closed);
    ck_assert_int_eq(stream.code, RPC_UNIMPLEMENTED);
    ck_assert_str_eq(stream.message, "unknown method: /t/Nothing");
    rpc_client_call_unref(stream.call);
    stop();
}
END_TEST

START_TEST(message_over_the_limit_ends_the_call)
{
    static char large[70000];

    rig_start(&rig, &(struct rig_options){ .max_message_bytes = 65536 });
    stream_open(&stream, rig.channel, "/t/Echo", 0);
    ck_assert_int_eq(rpc_client_call_send(stream.call, span_of(large, 65536)), 0);
    rig_until(&rig, stream.n_received == 1);
    ck_assert_int_eq(rpc_client_call_send(stream.call, span_of(large, sizeof(large))), 0);
    rig_until(&rig, stream.is_closed);
    ck_assert_int_eq(stream.code, RPC_RESOURCE_EXHAUSTED);
    rpc_client_call_unref(stream.call);
    rig_until(&rig, rig.n_closed == 1);
    ck_assert_uint_eq(rig.n_half_closed, 0);
    stop();
}
END_TEST

START_TEST(slow_reader_fills_the_queue_until_it_reads)
{
    rig_start(&rig, &(struct rig_options){ .send_queue_bytes = 256 << 10 });
    stream_open(&stream, rig.channel, "/t/Emit", 0);
    stream.is_paused = true;
    stream_send(&stream, "2000 65536");
    rig_until(&rig, rig.n_full >= 1);
    rig_until(&rig, stream.n_received == 1);
    stream.is_paused = false;
    rpc_client_call_read(stream.call);
    rig_until(&rig, stream.is_closed);
    ck_assert_int_eq(stream.code, RPC_OK);
    ck_assert_uint_eq(stream.n_received, 2000);
    ck_assert_uint_ge(rig.n_writable, 1);
    ck_assert_uint_eq(rig.n_writable, rig.n_full);
    rpc_client_call_unref(stream.call);
    stop();
}
END_TEST

START_TEST(what_is_taken_back_is_never_sent)
{
    rig_start(&rig, &(struct rig_options){ .n_threads = 1 });
    stream_open(&stream, rig.channel, "/t/Withdraw", 0);
    stream_send(&stream, "100");
    rig_until(&rig, stream.is_closed);
    ck_assert_int_eq(stream.code, RPC_UNAUTHENTICATED);
    ck_assert_str_eq(stream.message, "no more");
    ck_assert_uint_eq(stream.n_received, 0);
    rpc_client_call_unref(stream.call);
    stop();
}
END_TEST

START_TEST(client_queue_says_full_and_tells_when_there_is_room)
{
    static char block[100000];
    unsigned n_sent = 0;

    start();
    stream_open(&stream, rig.channel, "/t/Count", 0);
    while (rpc_client_call_send(stream.call, span_of(block, sizeof(block))) == 0) {
        n_sent++;
        ck_assert_uint_le(rpc_client_call_queued(stream.call), 1u << 20);
    }
    ck_assert_uint_ge(n_sent, 10);
    rig_until(&rig, stream.n_writable == 1);
    ck_assert_uint_le(rpc_client_call_queued(stream.call), 1u << 19);
    ck_assert_int_eq(rpc_client_call_send(stream.call, span_of(block, sizeof(block))), 0);
    rpc_client_call_half_close(stream.call);
    rig_until(&rig, stream.is_closed);
    ck_assert_int_eq(stream.code, RPC_OK);
    rpc_client_call_unref(stream.call);
    stop();
}
END_TEST

START_TEST(message_larger_than_the_queue_goes_through_alone)
{
    rig_start(&rig, &(struct rig_options){ .send_queue_bytes = 1000 });
    stream_open(&stream, rig.channel, "/t/Emit", 0);
    stream_send(&stream, "50 10000");
    rig_until(&rig, stream.is_closed);
    ck_assert_int_eq(stream.code, RPC_OK);
    ck_assert_uint_eq(stream.n_received, 50);
    rpc_client_call_unref(stream.call);
    stop();
}
END_TEST

START_TEST(cancelled_call_is_closed_and_not_half_closed)
{
    start();
    stream_open(&stream, rig.channel, "/t/Hang", 0);
    stream_send(&stream, "x");
    rig_until(&rig, rpc_server_stats(rig.server).messages_received == 1);
    rpc_client_call_cancel(stream.call);
    rig_until(&rig, stream.is_closed);
    ck_assert_int_eq(stream.code, RPC_CANCELLED);
    rig_until(&rig, rig.n_closed == 1);
    ck_assert_uint_eq(rig.n_cancelled, 1);
    ck_assert_uint_eq(rig.n_half_closed, 0);
    rpc_client_call_unref(stream.call);
    stop();
}
END_TEST

START_TEST(lost_connection_closes_the_call)
{
    start();
    stream_open(&stream, rig.channel, "/t/Hang", 0);
    stream_send(&stream, "x");
    rig_until(&rig, rpc_server_stats(rig.server).messages_received == 1);
    rpc_client_call_unref(stream.call);
    rig.channel = rpc_channel_free(rig.channel);
    rig_until(&rig, rig.n_closed == 1);
    ck_assert_uint_eq(rig.n_cancelled, 1);
    ck_assert_uint_eq(rig.n_half_closed, 0);
    stop();
}
END_TEST

START_TEST(deadline_ends_the_call_on_both_sides)
{
    int64_t before = clock_mono().us;

    start();
    stream_open(&stream, rig.channel, "/t/Hang", 300000);
    rig_until(&rig, rig.n_opened == 1);
    ck_assert_int_gt(rig.deadline_us, before);
    ck_assert_int_lt(rig.deadline_us, clock_mono().us + 400000);
    rig_until(&rig, stream.is_closed);
    ck_assert_int_eq(stream.code, RPC_DEADLINE_EXCEEDED);
    rig_until(&rig, rig.n_closed == 1);
    ck_assert_uint_eq(rig.n_cancelled, 1);
    rpc_client_call_unref(stream.call);
    stop();
}
END_TEST

START_TEST(call_without_deadline_says_so)
{
    start();
    stream_open(&stream, rig.channel, "/t/Hang", 0);
    rig_until(&rig, rig.n_opened == 1);
    ck_assert_int_eq(rig.deadline_us, INT64_MAX);
    rpc_client_call_unref(stream.call);
    stop();
}
END_TEST

START_TEST(calls_let_go_leave_nothing_behind)
{
    start();
    for (int i = 0; i < 200; i++) {
        stream_open(&stream, rig.channel, i % 2 ? "/t/Hang" : "/t/Echo", 0);
        if (i % 3)
            stream_send(&stream, "x");
        if (i % 5 == 0)
            ck_assert_int_ge(loop_run_once(rig.loop, 1), 0);
        rpc_client_call_unref(stream.call);
        ck_assert(!stream.is_closed);
    }
    stop();
}
END_TEST

START_TEST(drain_lets_open_streams_finish)
{
    start();
    stream_open(&stream, rig.channel, "/t/Hang", 0);
    rig_until(&rig, rig.n_opened == 1);
    rpc_server_stop(rig.server);
    rig_until(&rig, stream.is_closed);
    ck_assert_int_eq(stream.code, RPC_UNAVAILABLE);
    ck_assert_str_eq(stream.message, "draining");
    ck_assert_uint_eq(rig.n_drained, 1);
    rpc_client_call_unref(stream.call);
    rpc_server_join(rig.server, 20000000);
    ck_assert_uint_eq(rig.n_closed, 1);
    ck_assert_uint_eq(rig.n_cancelled, 0);
    stop();
}
END_TEST

START_TEST(join_cancels_what_does_not_finish)
{
    start();
    stream_open(&stream, rig.channel, "/t/Count", 0);
    rig_until(&rig, rig.n_opened == 1);
    rpc_server_stop(rig.server);
    rpc_server_join(rig.server, 50000);
    ck_assert_uint_eq(rig.n_closed, 1);
    ck_assert_uint_eq(rig.n_cancelled, 1);
    rig_until(&rig, stream.is_closed);
    ck_assert_int_ne(stream.code, RPC_OK);
    rpc_client_call_unref(stream.call);
    stop();
}
END_TEST

START_TEST(server_that_never_started_can_be_freed)
{
    struct rpc_server_options options = rig_server_options(&rig, &(struct rig_options){ 0 });
    struct rpc_server *server;

    ck_assert_int_eq(rpc_server_new(&server, &options), 0);
    ck_assert_uint_ne(rpc_server_port(server), 0);
    rpc_server_free(server);
}
END_TEST

START_TEST(taken_port_is_in_use)
{
    struct rpc_server_options options = rig_server_options(&rig, &(struct rig_options){ 0 });
    struct rpc_server *server = NULL;

    start();
    options.address = rig.target;
    ck_assert_int_eq(rpc_server_new(&server, &options), RPC_IN_USE);
    options.address = "192.0.2.1:0"; /* RFC 5737: nobody's */
    ck_assert_int_eq(rpc_server_new(&server, &options), RPC_IN_USE);
    ck_assert_ptr_null(server);
    stop();
}
END_TEST

/* ---- posts ---- */

#define N_POSTS 100000
#define N_POSTERS 2

struct numbered {
    struct rpc_post post;
    struct poster *poster;
    unsigned number;
};

struct poster {
    struct rpc_call *call;
    struct numbered *posts;
    unsigned n_seen;
    pthread_t thread;
};

static void on_numbered(struct rpc_post *post)
{
    struct numbered *numbered = (struct numbered *) post;

    if (numbered->number != numbered->poster->n_seen)
        rig.has_disorder = true;
    numbered->poster->n_seen++;
    if (rpc_call_is_open(numbered->poster->call) && numbered->number % 100 == 0 &&
        rpc_call_send(numbered->poster->call, span_of_text("x")) < 0)
        rig.has_disorder = true;
    rig.n_posted++;
}

static void *post_all(void *arg)
{
    struct poster *poster = arg;

    for (unsigned i = 0; i < N_POSTS; i++) {
        poster->posts[i] = (struct numbered){ { .fn = on_numbered }, poster, i };
        rpc_call_post(poster->call, &poster->posts[i].post);
    }
    return NULL;
}

START_TEST(posts_of_each_thread_run_in_order)
{
    struct poster posters[N_POSTERS] = { 0 };

    start();
    stream_open(&stream, rig.channel, "/t/Keep", 0);
    rig_until(&rig, rig.n_opened == 1);
    for (int i = 0; i < N_POSTERS; i++) {
        posters[i].call = rig.kept;
        posters[i].posts = calloc(N_POSTS, sizeof(struct numbered));
        ck_assert_int_eq(pthread_create(&posters[i].thread, NULL, post_all, &posters[i]), 0);
    }
    rig_until(&rig, rig.n_posted == N_POSTERS * N_POSTS);
    for (int i = 0; i < N_POSTERS; i++) {
        pthread_join(posters[i].thread, NULL);
        free(posters[i].posts);
    }
    ck_assert(!rig.has_disorder);
    rig_until(&rig, stream.n_received == N_POSTERS * N_POSTS / 100);
    rpc_call_unref(rig.kept);
    rpc_client_call_unref(stream.call);
    stop();
}
END_TEST

START_TEST(posts_run_while_and_after_the_server_goes)
{
    struct poster poster = { 0 };

    start();
    stream_open(&stream, rig.channel, "/t/Keep", 0);
    rig_until(&rig, rig.n_opened == 1);
    poster.call = rig.kept;
    poster.posts = calloc(N_POSTS, sizeof(struct numbered));
    ck_assert_int_eq(pthread_create(&poster.thread, NULL, post_all, &poster), 0);
    rig.server = rpc_server_free(rig.server);
    pthread_join(poster.thread, NULL);
    ck_assert_uint_eq(rig.n_posted, N_POSTS);
    ck_assert(!rig.has_disorder);
    ck_assert(!rpc_call_is_open(rig.kept));
    ck_assert_str_eq(rpc_call_path(rig.kept), "/t/Keep");
    ck_assert_int_eq(rpc_call_send(rig.kept, span_of_text("x")), RPC_CLOSED);
    ck_assert_uint_eq(rpc_call_peer_certificate(rig.kept).len, 0);
    rpc_call_unref(rig.kept);
    free(poster.posts);
    rpc_client_call_unref(stream.call);
    stop();
}
END_TEST

static void on_worker_post(struct rpc_post *post)
{
    free(post);
    rig.n_posted++;
}

START_TEST(posts_reach_every_worker)
{
    start();
    for (int i = 0; i < 1000; i++) {
        struct rpc_post *post = calloc(1, sizeof(*post));

        post->fn = on_worker_post;
        rpc_server_post(rig.server, (unsigned) i % 2, post);
    }
    rig_until(&rig, rig.n_posted == 1000);
    stop();
}
END_TEST

/* ---- compression ---- */

static void ignore_closed(struct rpc_client_call *call, const struct rpc_status *status)
{
    (void) call;
    (void) status;
}

START_TEST(what_is_packed_is_not_compressed_and_the_rest_is)
{
    static const struct rpc_client_handler handler = { .on_closed = ignore_closed };
    static uint8_t bytes[65536], message[4000];
    struct rpc_client_call *call;
    struct rpc_channel *channel;
    int listener, fd;
    size_t n = 0;

    start();
    listener = rig_listen(&rig);
    channel = rig_channel(&rig, NULL, NULL);
    ck_assert_int_eq(rpc_client_call_new(&call, channel,
                                         &(struct rpc_client_call_options){ .path = "/t/Echo",
                                                                            .is_compressed = true,
                                                                            .handler = &handler,
                                                                            .ctx = &rig }),
                     0);
    for (const char *letter = "aBcDDefG"; *letter; letter++) {
        const struct span span = span_of(message, sizeof(message));

        memset(message, *letter, sizeof(message));
        ck_assert_int_eq(*letter < 'a' ? rpc_client_call_send_packed(call, span)
                                       : rpc_client_call_send(call, span),
                         0);
    }
    fd = rig_accept(&rig, listener);
    while (!memmem(bytes, n, "GGGGGGGGGGGGGGGGGGGG", 20)) {
        ssize_t n_read = read(fd, bytes + n, sizeof(bytes) - n);

        n += n_read > 0 ? (size_t) n_read : 0;
        ck_assert_int_ge(loop_run_once(rig.loop, 10), 0);
    }
    for (const char *letter = "aBcDefG"; *letter; letter++) {
        memset(message, *letter, 20);
        ck_assert_msg((memmem(bytes, n, message, 20) != NULL) == (*letter < 'a'), "%c", *letter);
    }
    rpc_client_call_unref(call);
    rpc_channel_free(channel);
    close(fd);
    close(listener);
    stop();
}
END_TEST

#define n_arrived() rpc_server_stats(rig.server).messages_received

static void wait_a_little(void)
{
    const int64_t until_us = clock_mono().us + 100000;

    rig_until(&rig, clock_mono().us > until_us);
}

START_TEST(what_is_held_is_not_written_until_it_is_let_go)
{
    start();
    stream_open(&stream, rig.channel, "/t/Count", 0);
    stream_send(&stream, "x"); /* from now on nothing but the hold is waited for */
    rig_until(&rig, n_arrived() == 1);
    rpc_client_call_hold(stream.call);
    for (int i = 0; i < 3; i++)
        stream_send(&stream, "x");
    wait_a_little();
    ck_assert_uint_eq(n_arrived(), 1);
    rpc_client_call_let_go(stream.call);
    rig_until(&rig, n_arrived() == 4);
    rpc_client_call_hold(stream.call);
    stream_send(&stream, "x");
    wait_a_little();
    ck_assert_uint_eq(n_arrived(), 4);
    rpc_client_call_half_close(stream.call);
    rig_until(&rig, stream.is_closed);
    ck_assert_int_eq(stream.code, RPC_OK);
    ck_assert_uint_eq(stream.last_len, 1);
    ck_assert_mem_eq(stream.last, "5", 1);
    rpc_client_call_unref(stream.call);
    stop();
}
END_TEST

/* ---- many calls ---- */

#define N_STREAMS 300

START_TEST(many_streams_come_and_go)
{
    static struct stream streams[N_STREAMS];
    unsigned n_done = 0;

    start();
    for (int i = 0; i < N_STREAMS; i++) {
        stream_open(&streams[i], rig.channel, i % 2 ? "/t/Echo" : "/t/Emit", 0);
        stream_send(&streams[i], i % 2 ? "x" : "20 3000");
        rpc_client_call_half_close(streams[i].call);
    }
    while (n_done < N_STREAMS) {
        rig_until(&rig, streams[n_done].is_closed);
        ck_assert_int_eq(streams[n_done].code, RPC_OK);
        ck_assert_uint_eq(streams[n_done].n_received, n_done % 2 ? 1 : 20);
        rpc_client_call_unref(streams[n_done].call);
        n_done++;
    }
    stop();
}
END_TEST

static void add_flow_tests(TCase *tc)
{
    tcase_add_test(tc, unary_call_is_answered);
    tcase_add_test(tc, unary_call_to_nobody_is_unavailable);
    tcase_add_test(tc, client_stream_is_read_to_its_end);
    tcase_add_test(tc, server_stream_arrives_whole_before_the_status);
    tcase_add_test(tc, both_directions_flow_at_once);
    tcase_add_test(tc, empty_messages_and_large_ones_arrive);
    tcase_add_test(tc, status_carries_message_and_details);
    tcase_add_test(tc, headers_can_be_asked_for);
    tcase_add_test(tc, metadata_of_a_channel_goes_with_each_call);
    tcase_add_test(tc, metadata_that_is_no_header_is_refused);
    tcase_add_test(tc, unknown_path_is_unimplemented);
    tcase_add_test(tc, message_over_the_limit_ends_the_call);
    tcase_add_test(tc, slow_reader_fills_the_queue_until_it_reads);
    tcase_add_test(tc, what_is_taken_back_is_never_sent);
    tcase_add_test(tc, client_queue_says_full_and_tells_when_there_is_room);
    tcase_add_test(tc, message_larger_than_the_queue_goes_through_alone);
    tcase_add_test(tc, what_is_packed_is_not_compressed_and_the_rest_is);
    tcase_add_test(tc, what_is_held_is_not_written_until_it_is_let_go);
    tcase_add_test(tc, many_streams_come_and_go);
}

static void add_end_tests(TCase *tc)
{
    tcase_add_test(tc, cancelled_call_is_closed_and_not_half_closed);
    tcase_add_test(tc, lost_connection_closes_the_call);
    tcase_add_test(tc, deadline_ends_the_call_on_both_sides);
    tcase_add_test(tc, call_without_deadline_says_so);
    tcase_add_test(tc, calls_let_go_leave_nothing_behind);
    tcase_add_test(tc, drain_lets_open_streams_finish);
    tcase_add_test(tc, join_cancels_what_does_not_finish);
    tcase_add_test(tc, server_that_never_started_can_be_freed);
    tcase_add_test(tc, taken_port_is_in_use);
}

static void add_post_tests(TCase *tc)
{
    tcase_add_test(tc, posts_of_each_thread_run_in_order);
    tcase_add_test(tc, posts_run_while_and_after_the_server_goes);
    tcase_add_test(tc, posts_reach_every_worker);
}

Suite *suite(void)
{
    static const struct {
        const char *name;
        void (*add)(TCase *tc);
    } groups[] = {
        { "flow", add_flow_tests },
        { "end", add_end_tests },
        { "posts", add_post_tests },
    };
    Suite *s = suite_create("common/rpc");
    TCase *tc = tcase_create("codes");

    tcase_add_test(tc, every_code_has_a_name);
    suite_add_tcase(s, tc);
    for (size_t i = 0; i < sizeof(groups) / sizeof(groups[0]); i++) {
        tc = tcase_create(groups[i].name);
        tcase_set_timeout(tc, 60);
        tcase_add_checked_fixture(tc, setup, teardown);
        groups[i].add(tc);
        suite_add_tcase(s, tc);
    }
    return s;
}
