/* SPDX-License-Identifier: Apache-2.0 */
#include "common/http/http.h"

#include <stdlib.h>
#include <string.h>

#include "suite.h"

/* What a parser told, as text: one line for each event, pieces of one body joined. */
struct told {
    struct buf text;
    struct buf body;
    unsigned status; /* of the problem */
    char problem[160];
};

static const struct http_limits roomy = { .head_bytes = 8192,
                                          .target_bytes = 4096,
                                          .n_headers = 32,
                                          .body_bytes = 1 << 20 };

static struct told told;

static void setup(void)
{
    told = (struct told){ 0 };
}

static void teardown(void)
{
    buf_deinit(&told.text);
    buf_deinit(&told.body);
}

static void tell_head(const struct http_parser *parser)
{
    const struct http_head *head = http_parser_head(parser);

    if (head->method)
        buf_printf(&told.text, "%s %s", head->method, head->target);
    else
        buf_printf(&told.text, "%u", head->status);
    buf_printf(&told.text, "%s%s", head->is_http_1_0 ? " 1.0" : "",
               head->keeps_alive ? " keep" : " close");
    for (size_t i = 0; i < head->n_headers; i++)
        buf_printf(&told.text, " [%s=%s]", head->headers[i].name, head->headers[i].value);
    buf_append_text(&told.text, "\n");
}

static void tell_end(void)
{
    if (told.body.len > 0)
        buf_printf(&told.text, "body %s\n", buf_text(&told.body));
    buf_clear(&told.body);
    buf_append_text(&told.text, "end\n");
}

static void tell_bad(const struct http_parser *parser)
{
    const struct http_problem *problem = http_parser_problem(parser);

    told.status = problem->status;
    memcpy(told.problem, problem->text, sizeof(told.problem));
    buf_printf(&told.text, "bad %u\n", problem->status);
}

/* Reads all of a piece. False: the parser takes no more. */
static bool feed(struct http_parser *parser, struct span bytes)
{
    int r;

    do {
        struct span piece;
        size_t used;

        r = http_parser_feed(parser, bytes, &used, &piece);
        bytes.data += used;
        bytes.len -= used;
        if (r == HTTP_GOT_HEAD)
            tell_head(parser);
        else if (r == HTTP_GOT_BODY)
            buf_append_span(&told.body, piece);
        else if (r == HTTP_GOT_END)
            tell_end();
        else if (r == HTTP_BAD)
            tell_bad(parser);
        ck_assert_int_ge(r, 0);
    } while (r != HTTP_MORE && r != HTTP_BAD);
    ck_assert(r == HTTP_BAD || bytes.len == 0);
    return r != HTTP_BAD;
}

/* Whole, or (by_byte) one byte at a time from memory of that size, then the end of the connection.
 */
static const char *
read_with(enum http_end end, const struct http_limits *limits, const char *text, int by_byte)
{
    CLEANUP(http_parser_freep) struct http_parser *parser = NULL;
    const size_t len = strlen(text);
    bool is_good = true;
    int r;

    ck_assert_int_eq(http_parser_new(&parser, end, limits), 0);
    if (!by_byte)
        is_good = feed(parser, span_of(text, len));
    for (size_t i = 0; by_byte && is_good && i < len; i++) {
        uint8_t *one = malloc(1);

        ck_assert_ptr_nonnull(one);
        *one = (uint8_t) text[i];
        is_good = feed(parser, span_of(one, 1));
        free(one);
    }
    if (is_good) {
        r = http_parser_finish(parser);
        if (r == HTTP_GOT_END)
            tell_end();
        else if (r == HTTP_BAD)
            tell_bad(parser);
    }
    return buf_text(&told.text);
}

static const char *read_request(const char *text, int by_byte)
{
    return read_with(HTTP_SERVER, &roomy, text, by_byte);
}

static const char *read_answer(const char *text, int by_byte)
{
    return read_with(HTTP_CLIENT, &roomy, text, by_byte);
}

START_TEST(a_request_is_a_head_and_an_end)
{
    ck_assert_str_eq(read_request("GET /metrics?agent=web-1 HTTP/1.1\r\n"
                                  "Host: hub:8081\r\n"
                                  "Accept:   text/plain \t \r\n"
                                  "X-Empty:\r\n"
                                  "\r\n",
                                  _i),
                     "GET /metrics?agent=web-1 keep [host=hub:8081] [accept=text/plain] "
                     "[x-empty=]\nend\n");
}
END_TEST

START_TEST(requests_follow_each_other_on_one_connection)
{
    ck_assert_str_eq(read_request("GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
                                  "\r\n" /* RFC 9112, 2.2: one too many is passed over */
                                  "POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nxyz"
                                  "GET /c HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
                                  _i),
                     "GET /a keep [host=h]\nend\n"
                     "POST /b keep [host=h] [content-length=3]\nbody xyz\nend\n"
                     "GET /c close [host=h] [connection=close]\nend\n");
}
END_TEST

START_TEST(chunks_are_put_together_and_trailers_passed_over)
{
    ck_assert_str_eq(read_request("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
                                  "4;name=value\r\nWiki\r\n"
                                  "5\r\npedia\r\n"
                                  "0\r\nTrailer: x\r\n\r\n"
                                  "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
                                  _i),
                     "POST / keep [host=h] [transfer-encoding=chunked]\nbody Wikipedia\nend\n"
                     "GET / keep [host=h]\nend\n");
}
END_TEST

START_TEST(a_client_of_1_0_needs_no_host_and_is_not_kept)
{
    ck_assert_str_eq(read_request("GET / HTTP/1.0\r\n\r\n", _i), "GET / 1.0 close\nend\n");
}
END_TEST

START_TEST(an_offer_to_speak_something_else_is_passed_over)
{
    ck_assert_str_eq(
        read_request("GET /a HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"
                     "CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n"
                     "GET /b HTTP/1.1\r\nHost: h\r\n\r\n",
                     _i),
        "GET /a keep [host=h] [connection=upgrade] [upgrade=h2c]\nend\n"
        "CONNECT h:1 keep [host=h]\nend\n"
        "GET /b keep [host=h]\nend\n");
}
END_TEST

/* Requests that two readers could understand differently, or nobody. */
static const struct {
    const char *text;
    unsigned status;
} bad_requests[] = {
    { "GET / HTTP/1.1\r\n\r\n", 400 },                       /* no host */
    { "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400 }, /* two */
    { "GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400 },           /* a space before the colon */
    { "GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", 400 }, /* obs-fold */
    { "GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", 400 },      /* a bare CR */
    { "GET / HTTP/1.1\nHost: a\n\n", 400 },                  /* bare LFs */
    { "GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n", 400 },        /* a control in the target */
    { "GET / HTTP/1.1\r\nHost: a\r\nX: \x01\r\n\r\n", 400 }, /* and in a value */
    { "get / HTTP/1.1\r\nHost: a\r\n\r\n", 400 },            /* methods are upper case */
    { "FETCH / HTTP/1.1\r\nHost: a\r\n\r\n", 400 },          /* and known */
    { "GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505 },
    { "GET / HTTP/0.9\r\nHost: a\r\n\r\n", 505 },
    { "GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505 },
    { "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505 },
    { "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400 }, /* TLS on a plaintext port */
    { "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
      400 },
    { "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n", 400 },
    { "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\n", 400 },
    { "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n", 400 },
    { "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 400 },
    { "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\nx", 400 },
    { "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400 },
    { "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", 400 },
    { "GET / HTTP/1.1\r\nHost: a\r\n", 400 },                            /* ends within the head */
    { "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nx", 400 }, /* within the body */
    { "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1048577\r\n\r\n", 413 },
};

START_TEST(what_breaks_the_rules_is_refused)
{
    for (int by_byte = 0; by_byte < 2; by_byte++) {
        read_request(bad_requests[_i].text, by_byte);
        ck_assert_msg(told.status == bad_requests[_i].status, "%u: %s", told.status, told.problem);
        ck_assert_uint_gt(strlen(told.problem), 0);
        told.status = 0;
    }
}
END_TEST

static const struct http_limits tight = { .head_bytes = 100,
                                          .target_bytes = 20,
                                          .n_headers = 3,
                                          .body_bytes = 8 };

static const struct {
    const char *text;
    unsigned status;
    const char *word;
} too_much[] = {
    { "GET /34567890123456789012 HTTP/1.1\r\nHost: h\r\n\r\n", 414, "20" },
    { "GET / HTTP/1.1\r\nHost: h\r\nA: b\r\nC: d\r\nE: f\r\n\r\n", 431, "3 headers" },
    { "GET / HTTP/1.1\r\nHost: h\r\nA: 1234567890123456789012345678901234567890123456789012345678"
      "9012345678901234567890abc\r\n\r\n",
      431, "100 bytes" },
    { "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n", 413, "9 bytes, at most 8" },
    { "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
      "5\r\nabcde\r\n4\r\nfghi\r\n",
      413, "over 8" },
    { "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
      "1;a=12345678901234567890123456789012345678901234567890\r\nx\r\n"
      "1;a=12345678901234567890123456789012345678901234567890\r\nx\r\n",
      431, "chunk extensions" },
};

START_TEST(what_is_over_a_limit_is_refused_with_the_limit)
{
    for (int by_byte = 0; by_byte < 2; by_byte++) {
        read_with(HTTP_SERVER, &tight, too_much[_i].text, by_byte);
        ck_assert_uint_eq(told.status, too_much[_i].status);
        ck_assert_msg(strstr(told.problem, too_much[_i].word), "%s", told.problem);
        told.status = 0;
    }
}
END_TEST

START_TEST(what_is_at_a_limit_is_taken)
{
    ck_assert_str_eq(read_with(HTTP_SERVER, &tight,
                               "POST /345678901234567890 HTTP/1.1\r\nHost: h\r\n"
                               "A: b\r\nContent-Length: 8\r\n\r\n12345678",
                               _i),
                     "POST /345678901234567890 keep [host=h] [a=b] [content-length=8]\n"
                     "body 12345678\nend\n");
}
END_TEST

START_TEST(an_answer_is_read_by_its_length_its_chunks_or_the_end)
{
    ck_assert_str_eq(read_answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
                                 "HTTP/1.1 204 No Content\r\n\r\n"
                                 "HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n"
                                 "2\r\nho\r\n0\r\n\r\n"
                                 "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 3\r\n\r\nlast",
                                 _i),
                     "200 keep [content-length=2]\nbody hi\nend\n"
                     "204 keep\nend\n"
                     "200 keep [transfer-encoding=chunked]\nbody ho\nend\n"
                     "503 close [retry-after=3]\nbody last\nend\n");
}
END_TEST

START_TEST(an_answer_to_head_has_no_body_whatever_it_says)
{
    CLEANUP(http_parser_freep) struct http_parser *parser = NULL;

    ck_assert_int_eq(http_parser_new(&parser, HTTP_CLIENT, &roomy), 0);
    http_parser_expect_no_body(parser);
    feed(parser, span_of_text("HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n"));
    http_parser_expect_no_body(parser);
    feed(parser, span_of_text("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n"));
    feed(parser, span_of_text("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"));
    ck_assert_str_eq(buf_text(&told.text), "200 keep [content-length=999999999]\nend\n"
                                           "200 keep [content-length=7]\nend\n"
                                           "200 keep [content-length=1]\nbody x\nend\n");
}
END_TEST

START_TEST(a_parser_that_refused_reads_nothing_more)
{
    CLEANUP(http_parser_freep) struct http_parser *parser = NULL;
    struct span piece;
    size_t used;

    ck_assert_int_eq(http_parser_new(&parser, HTTP_SERVER, &roomy), 0);
    ck_assert(!feed(parser, span_of_text("nonsense\r\n")));
    ck_assert_int_eq(http_parser_feed(parser, span_of_text("GET / HTTP/1.1\r\n"), &used, &piece),
                     HTTP_BAD);
    ck_assert_uint_eq(used, 0);
    ck_assert_int_eq(http_parser_finish(parser), HTTP_BAD);
}
END_TEST

START_TEST(what_is_written_reads_back)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    const struct http_header headers[] = { { "content-type", "text/plain" } };

    http_put_answer(&text, &(struct http_answer){ .status = 404,
                                                  .headers = headers,
                                                  .n_headers = 1,
                                                  .framing = HTTP_LENGTH,
                                                  .body_bytes = 4 });
    buf_append_text(&text, "gone");
    http_put_answer(&text, &(struct http_answer){ .status = 200, .framing = HTTP_CHUNKED });
    http_put_chunk(&text, span_of_text("a piece of some length"));
    http_put_chunk(&text, span_of_text(""));
    http_put_chunk(&text, span_of_text("!"));
    http_put_last_chunk(&text);
    http_put_answer(
        &text, &(struct http_answer){ .status = 200, .framing = HTTP_UNTIL_CLOSE, .closes = true });
    buf_append_text(&text, "rest");
    ck_assert_str_eq(
        read_answer(buf_text(&text), _i),
        "404 keep [content-type=text/plain] [content-length=4] [connection=keep-alive]\n"
        "body gone\nend\n"
        "200 keep [transfer-encoding=chunked] [connection=keep-alive]\n"
        "body a piece of some length!\nend\n"
        "200 close [connection=close]\nbody rest\nend\n");
}
END_TEST

START_TEST(a_request_that_is_written_reads_back)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    const struct http_header headers[] = { { "content-encoding", "snappy" } };

    http_put_request(&text, &(struct http_request){ .method = "POST",
                                                    .target = "/api/v1/write",
                                                    .host = "db:9090",
                                                    .headers = headers,
                                                    .n_headers = 1,
                                                    .framing = HTTP_LENGTH,
                                                    .body_bytes = 2 });
    buf_append_text(&text, "ok");
    http_put_request(&text,
                     &(struct http_request){
                         .method = "GET", .target = "/", .host = "db", .framing = HTTP_NO_BODY });
    ck_assert_str_eq(
        read_request(buf_text(&text), _i),
        "POST /api/v1/write keep [host=db:9090] [content-encoding=snappy] [content-length=2]\n"
        "body ok\nend\n"
        "GET / keep [host=db]\nend\n");
}
END_TEST

START_TEST(queries_are_taken_apart)
{
    static const struct {
        const char *target, *key;
        int r;
        const char *value;
    } rows[] = {
        { "/m?agent=web-1", "agent", HTTP_OK, "web-1" },
        { "/m?a=1&agent=w%65b+1%2b&agent=2", "agent", HTTP_OK, "web 1+" },
        { "/m?%61gent=x", "agent", HTTP_OK, "x" },
        { "/m?agent", "agent", HTTP_OK, "" },
        { "/m?agent=", "agent", HTTP_OK, "" },
        { "/m?agent=a=b", "agent", HTTP_OK, "a=b" },
        { "/m", "agent", HTTP_ABSENT, "" },
        { "/m?", "agent", HTTP_ABSENT, "" },
        { "/m?agents=1&xagent=2", "agent", HTTP_ABSENT, "" },
        { "/m?agent=%6", "agent", HTTP_UNFIT, NULL },
        { "/m?agent=%zz", "agent", HTTP_UNFIT, NULL },
        { "/m?agent=a%00b", "agent", HTTP_UNFIT, NULL },
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        CLEANUP(buf_deinit) struct buf value = { 0 };

        ck_assert_msg(http_query_get(rows[i].target, rows[i].key, &value) == rows[i].r, "%s",
                      rows[i].target);
        if (rows[i].value)
            ck_assert_str_eq(buf_text(&value), rows[i].value);
    }
    ck_assert(span_equal(http_path_of("/m?x"), span_of_text("/m")));
    ck_assert(span_equal(http_path_of("/m"), span_of_text("/m")));
}
END_TEST

START_TEST(addresses_are_taken_apart)
{
    struct http_url url;

    ck_assert_int_eq(http_url_parse("https://db.example.org/api/v1/write?x=1", &url), 0);
    ck_assert(url.is_tls);
    ck_assert_str_eq(url.host, "db.example.org");
    ck_assert_uint_eq(url.port, 443);
    ck_assert_str_eq(url.target, "/api/v1/write?x=1");
    ck_assert_str_eq(url.authority, "db.example.org");
    ck_assert_int_eq(http_url_parse("http://[::1]:9090", &url), 0);
    ck_assert(!url.is_tls);
    ck_assert_str_eq(url.host, "::1");
    ck_assert_uint_eq(url.port, 9090);
    ck_assert_str_eq(url.target, "/");
    ck_assert_str_eq(url.authority, "[::1]:9090");
}
END_TEST

START_TEST(what_is_no_address_is_refused)
{
    static const char *const texts[] = {
        "",           "db:9090",         "ftp://db/",       "https://",        "https:///x",
        "http://:80", "http://db:",      "http://db:0",     "http://db:65536", "http://db:x",
        "http://a b", "http://user@db/", "http://u:p@db/",  "http://[::1",     "http://[::1]x",
        "http://db?", "http://db/x y",   "http://db/#part", "http://db/x\n",
    };
    struct http_url url;

    ck_assert_int_eq(http_url_parse(texts[_i], &url), HTTP_UNFIT);
}
END_TEST

Suite *suite(void)
{
    Suite *s = suite_create("common/http");
    TCase *reading = tcase_create("reading");
    TCase *writing = tcase_create("writing");

    /* Each twice: whole, and one byte at a time. */
    tcase_add_checked_fixture(reading, setup, teardown);
    tcase_add_loop_test(reading, a_request_is_a_head_and_an_end, 0, 2);
    tcase_add_loop_test(reading, requests_follow_each_other_on_one_connection, 0, 2);
    tcase_add_loop_test(reading, chunks_are_put_together_and_trailers_passed_over, 0, 2);
    tcase_add_loop_test(reading, a_client_of_1_0_needs_no_host_and_is_not_kept, 0, 2);
    tcase_add_loop_test(reading, an_offer_to_speak_something_else_is_passed_over, 0, 2);
    tcase_add_loop_test(reading, what_is_at_a_limit_is_taken, 0, 2);
    tcase_add_loop_test(reading, an_answer_is_read_by_its_length_its_chunks_or_the_end, 0, 2);
    tcase_add_loop_test(reading, what_breaks_the_rules_is_refused, 0,
                        sizeof(bad_requests) / sizeof(bad_requests[0]));
    tcase_add_loop_test(reading, what_is_over_a_limit_is_refused_with_the_limit, 0,
                        sizeof(too_much) / sizeof(too_much[0]));
    tcase_add_test(reading, an_answer_to_head_has_no_body_whatever_it_says);
    tcase_add_test(reading, a_parser_that_refused_reads_nothing_more);
    suite_add_tcase(s, reading);
    tcase_add_checked_fixture(writing, setup, teardown);
    tcase_add_loop_test(writing, what_is_written_reads_back, 0, 2);
    tcase_add_loop_test(writing, a_request_that_is_written_reads_back, 0, 2);
    tcase_add_test(writing, queries_are_taken_apart);
    tcase_add_test(writing, addresses_are_taken_apart);
    tcase_add_loop_test(writing, what_is_no_address_is_refused, 0, 19);
    suite_add_tcase(s, writing);
    return s;
}
