/* Targets: http_parser_feed, http_query_get, http_url_parse. SPDX-License-Identifier: Apache-2.0 */

/*
 * The first byte picks the end (server, client) and how long the pieces are; the rest are bytes of
 * a connection. Nothing outgrows its limits; a head that was read is whole; and however the bytes
 * are cut, the events are the same.
 */

#include <stdlib.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/http/http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static const struct http_limits limits = { .head_bytes = 256,
                                           .target_bytes = 64,
                                           .n_headers = 4,
                                           .body_bytes = 128 };

static void check_head(const struct http_head *head, enum http_end end, struct buf *told)
{
    CLEANUP(buf_deinit) struct buf value = { 0 };

    ensure(head->n_headers <= limits.n_headers);
    for (size_t i = 0; i < head->n_headers; i++) {
        ensure(head->headers[i].name[0]);
        ensure(!strpbrk(head->headers[i].name, "\r\n"));
        ensure(!strpbrk(head->headers[i].value, "\r\n"));
        buf_printf(told, "%s=%s;", head->headers[i].name, head->headers[i].value);
    }
    if (end == HTTP_CLIENT) {
        buf_printf(told, "%u ", head->status);
        return;
    }
    ensure(strlen(head->target) <= limits.target_bytes);
    ensure(http_path_of(head->target).len <= strlen(head->target));
    ensure(http_query_get(head->target, "agent", &value) >= 0);
    buf_printf(told, "%s %s ", head->method, head->target);
}

static void tell_end(struct buf *body, struct buf *told)
{
    buf_append_span(told, buf_span(body));
    buf_append_text(told, "|");
    buf_clear(body);
}

/* What the bytes say, cut into pieces. */
static void read_all(enum http_end end, struct span bytes, size_t piece_bytes, struct buf *told)
{
    CLEANUP(http_parser_freep) struct http_parser *parser = NULL;
    CLEANUP(buf_deinit) struct buf body = { 0 };
    int r;

    ensure(http_parser_new(&parser, end, &limits) == 0);
    do {
        struct span given = span_of(bytes.data, piece_bytes < bytes.len ? piece_bytes : bytes.len);
        struct span piece;
        size_t used;

        r = http_parser_feed(parser, given, &used, &piece);
        ensure(r >= 0 && used <= given.len);
        ensure(r != HTTP_MORE || used == given.len);
        ensure((r == HTTP_GOT_BODY) == (piece.len > 0));
        bytes.data += used;
        bytes.len -= used;
        buf_append_span(&body, piece);
        ensure(body.len <= limits.body_bytes);
        if (r == HTTP_GOT_HEAD)
            check_head(http_parser_head(parser), end, told);
        if (r == HTTP_GOT_END)
            tell_end(&body, told);
    } while (r != HTTP_BAD && (r != HTTP_MORE || bytes.len > 0));
    if (r != HTTP_BAD)
        r = http_parser_finish(parser);
    ensure(r >= 0);
    if (r == HTTP_GOT_END)
        tell_end(&body, told);
    /* Which rule is seen to be broken first may depend on the cut. */
    if (r == HTTP_BAD)
        buf_append_text(told, http_parser_problem(parser)->status >= 400 ? "bad" : "");
}

static void check_url(const uint8_t *data, size_t len)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    struct http_url url;

    buf_append(&text, data, len);
    if (http_url_parse(buf_text(&text), &url) == 0)
        ensure(url.host[0] && url.port > 0 && url.target[0] == '/');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    CLEANUP(buf_deinit) struct buf whole = { 0 };
    CLEANUP(buf_deinit) struct buf cut = { 0 };
    enum http_end end;

    if (len == 0)
        return 0;
    end = data[0] & 1 ? HTTP_CLIENT : HTTP_SERVER;
    read_all(end, span_of(data + 1, len - 1), len, &whole);
    read_all(end, span_of(data + 1, len - 1), 1 + data[0] / 2u, &cut);
    ensure(span_equal(buf_span(&whole), buf_span(&cut)));
    check_url(data + 1, len - 1);
    return 0;
}
