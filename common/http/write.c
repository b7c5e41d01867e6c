/* SPDX-License-Identifier: Apache-2.0 */
#include "common/http/http.h"

#include <string.h>

#include "common/base/ensure.h"

/* What we send, and what a log of answers to us should name. */
static const struct {
    unsigned status;
    const char *name;
} statuses[] = {
    { 200, "OK" },
    { 204, "No Content" },
    { 301, "Moved Permanently" },
    { 302, "Found" },
    { 304, "Not Modified" },
    { 307, "Temporary Redirect" },
    { 308, "Permanent Redirect" },
    { 400, "Bad Request" },
    { 401, "Unauthorized" },
    { 403, "Forbidden" },
    { 404, "Not Found" },
    { 405, "Method Not Allowed" },
    { 408, "Request Timeout" },
    { 409, "Conflict" },
    { 413, "Content Too Large" },
    { 414, "URI Too Long" },
    { 415, "Unsupported Media Type" },
    { 422, "Unprocessable Content" },
    { 429, "Too Many Requests" },
    { 431, "Request Header Fields Too Large" },
    { 500, "Internal Server Error" },
    { 501, "Not Implemented" },
    { 502, "Bad Gateway" },
    { 503, "Service Unavailable" },
    { 504, "Gateway Timeout" },
    { 505, "HTTP Version Not Supported" },
};

/* Whoever gets a line break into a header writes headers of his own. */
static bool is_one_line(const char *text)
{
    return text[strcspn(text, "\r\n")] == '\0';
}

static void put_header(struct buf *to, const char *name, const char *value)
{
    ensure(is_one_line(name) && is_one_line(value));
    buf_printf(to, "%s: %s\r\n", name, value);
}

static void put_framing(struct buf *to, enum http_framing framing, uint64_t body_bytes)
{
    if (framing == HTTP_LENGTH)
        buf_printf(to, "content-length: %llu\r\n", (unsigned long long) body_bytes);
    else if (framing == HTTP_CHUNKED)
        put_header(to, "transfer-encoding", "chunked");
}

const char *http_status_name(unsigned status)
{
    for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
        if (statuses[i].status == status)
            return statuses[i].name;
    }
    return "";
}

void http_put_answer(struct buf *to, const struct http_answer *answer)
{
    ensure(answer->status >= 100 && answer->status <= 999);
    ensure(answer->framing != HTTP_UNTIL_CLOSE || answer->closes);
    buf_printf(to, "HTTP/1.1 %u %s\r\n", answer->status, http_status_name(answer->status));
    for (size_t i = 0; i < answer->n_headers; i++)
        put_header(to, answer->headers[i].name, answer->headers[i].value);
    put_framing(to, answer->framing, answer->body_bytes);
    /* Said either way: a client of 1.0 does not keep a connection that says nothing. */
    put_header(to, "connection", answer->closes ? "close" : "keep-alive");
    buf_append_text(to, "\r\n");
}

void http_put_request(struct buf *to, const struct http_request *request)
{
    ensure(request->framing != HTTP_UNTIL_CLOSE);
    ensure(is_one_line(request->method) && is_one_line(request->target));
    buf_printf(to, "%s %s HTTP/1.1\r\n", request->method, request->target);
    put_header(to, "host", request->host);
    for (size_t i = 0; i < request->n_headers; i++)
        put_header(to, request->headers[i].name, request->headers[i].value);
    put_framing(to, request->framing, request->body_bytes);
    buf_append_text(to, "\r\n");
}

void http_put_chunk(struct buf *to, struct span piece)
{
    if (piece.len == 0)
        return;
    buf_printf(to, "%zx\r\n", piece.len);
    buf_append_span(to, piece);
    buf_append_text(to, "\r\n");
}

void http_put_last_chunk(struct buf *to)
{
    buf_append_text(to, "0\r\n\r\n");
}
