/* SPDX-License-Identifier: Apache-2.0 */
#include "common/http/http.h"

#include <errno.h>
#include <llhttp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"

/* Where a text lies in `kept`: that buffer moves while it grows. */
struct place {
    size_t at, len;
};

struct kept_header {
    struct place name, value;
};

struct http_parser {
    llhttp_t core;
    llhttp_settings_t settings;
    struct http_limits limits;
    bool is_server;
    bool expects_no_body;
    bool is_inside; /* a message has begun */
    bool is_over;   /* what was read last ended a message: the next feed begins anew */
    bool is_bad;

    struct buf kept; /* the head's texts, each with a NUL behind */
    struct place target, method;
    struct kept_header *fields;
    size_t n_fields;
    size_t n_read;     /* of the head, as it came */
    size_t n_extras;   /* bytes of chunk extensions and trailers */
    uint64_t n_body;   /* bytes */
    bool was_in_value; /* the last piece of a header was of its value */

    /* What a callback has for the feed that runs it. */
    enum http_event event;
    struct span piece;

    struct http_header *headers;
    struct http_head head;
    struct http_problem problem;
};

/* ---- refusing ---- */

static int refuse(struct http_parser *parser, unsigned status, const char *fmt, ...)
    PRINTF_LIKE(3, 4);
/* Returns what stops llhttp. */
static int refuse(struct http_parser *parser, unsigned status, const char *fmt, ...)
{
    va_list args;

    parser->is_bad = true;
    parser->problem.status = status;
    va_start(args, fmt);
    (void) vsnprintf(parser->problem.text, sizeof(parser->problem.text), fmt, args);
    va_end(args);
    return HPE_USER;
}

/* The one place where llhttp's errors are translated. */
static void refuse_syntax(struct http_parser *parser, llhttp_errno_t error)
{
    const char *reason = llhttp_get_error_reason(&parser->core);

    bool is_of_1 = parser->core.http_major == 1 && parser->core.http_minor <= 1;

    if (parser->is_bad)
        return;
    /* llhttp calls a line that does not end in CRLF a bad version too. */
    if ((error == HPE_INVALID_VERSION && !is_of_1) || error == HPE_PAUSED_H2_UPGRADE)
        (void) refuse(parser, 505, "only HTTP/1.1 and HTTP/1.0 are spoken here");
    else if (error == HPE_INVALID_TRANSFER_ENCODING)
        (void) refuse(parser, 400, "the only transfer-encoding that is taken is `chunked`");
    else
        (void) refuse(parser, 400, "not HTTP/1.1: %s",
                      reason && *reason ? reason : llhttp_errno_name(error));
}

/* ---- the head ---- */

static struct http_parser *of(llhttp_t *core)
{
    struct http_parser *parser = core->data;

    ensure(parser && &parser->core == core);
    return parser;
}

/* Charged as it comes, so that nothing is kept of what is too much. Returns 0, or what stops
 * llhttp. */
static int charge_head(struct http_parser *parser, size_t len)
{
    parser->n_read += len;
    if (parser->n_read <= parser->limits.head_bytes)
        return 0;
    return refuse(parser, 431, "the head is over %zu bytes", parser->limits.head_bytes);
}

static int charge_extras(struct http_parser *parser, size_t len)
{
    parser->n_extras += len;
    if (parser->n_extras <= parser->limits.head_bytes)
        return 0;
    return refuse(parser, 431, "chunk extensions and trailers are over %zu bytes",
                  parser->limits.head_bytes);
}

static void begin_text(struct http_parser *parser, struct place *place)
{
    *place = (struct place){ .at = parser->kept.len };
}

static void add_text(struct http_parser *parser, struct place *place, const char *at, size_t len)
{
    buf_append(&parser->kept, at, len);
    place->len += len;
}

static void end_text(struct http_parser *parser)
{
    buf_append(&parser->kept, "", 1);
}

static int on_begin(llhttp_t *core)
{
    struct http_parser *parser = of(core);

    buf_clear(&parser->kept);
    parser->n_fields = 0;
    parser->n_read = 0;
    parser->n_extras = 0;
    parser->n_body = 0;
    parser->was_in_value = false;
    parser->is_inside = true;
    parser->target = (struct place){ 0 };
    parser->method = (struct place){ 0 };
    return 0;
}

static int on_method(llhttp_t *core, const char *at, size_t len)
{
    struct http_parser *parser = of(core);

    if (parser->method.len == 0)
        begin_text(parser, &parser->method);
    add_text(parser, &parser->method, at, len);
    return charge_head(parser, len);
}

static int on_method_complete(llhttp_t *core)
{
    end_text(of(core));
    return 0;
}

static int on_url(llhttp_t *core, const char *at, size_t len)
{
    struct http_parser *parser = of(core);

    if (parser->target.len == 0)
        begin_text(parser, &parser->target);
    if (parser->target.len + len > parser->limits.target_bytes)
        return refuse(parser, 414, "the target is over %zu bytes", parser->limits.target_bytes);
    add_text(parser, &parser->target, at, len);
    return charge_head(parser, len);
}

static int on_url_complete(llhttp_t *core)
{
    end_text(of(core));
    return 0;
}

static int on_status(llhttp_t *core, const char *at, size_t len)
{
    (void) at;
    return charge_head(of(core), len);
}

static bool is_in_trailers(const struct http_parser *parser)
{
    return (parser->core.flags & F_TRAILING) != 0;
}

static int begin_field(struct http_parser *parser)
{
    if (parser->n_fields == parser->limits.n_headers)
        return refuse(parser, 431, "more than %zu headers", parser->limits.n_headers);
    parser->fields[parser->n_fields] = (struct kept_header){ 0 };
    begin_text(parser, &parser->fields[parser->n_fields].name);
    parser->n_fields++;
    return 0;
}

static int on_field(llhttp_t *core, const char *at, size_t len)
{
    struct http_parser *parser = of(core);
    int r = 0;

    if (is_in_trailers(parser))
        return charge_extras(parser, len);
    if (parser->n_fields == 0 || parser->was_in_value)
        r = begin_field(parser);
    parser->was_in_value = false;
    if (r != 0)
        return r;
    add_text(parser, &parser->fields[parser->n_fields - 1].name, at, len);
    return charge_head(parser, len);
}

static int on_field_complete(llhttp_t *core)
{
    struct http_parser *parser = of(core);

    if (is_in_trailers(parser))
        return 0;
    end_text(parser);
    begin_text(parser, &parser->fields[parser->n_fields - 1].value);
    return charge_head(parser, 2); /* ": " */
}

static int on_value(llhttp_t *core, const char *at, size_t len)
{
    struct http_parser *parser = of(core);

    if (is_in_trailers(parser))
        return charge_extras(parser, len);
    ensure(parser->n_fields > 0);
    add_text(parser, &parser->fields[parser->n_fields - 1].value, at, len);
    return charge_head(parser, len);
}

static int on_value_complete(llhttp_t *core)
{
    struct http_parser *parser = of(core);

    if (is_in_trailers(parser))
        return 0;
    ensure(parser->n_fields > 0);
    end_text(parser);
    parser->was_in_value = true;
    return charge_head(parser, 2); /* the end of the line */
}

static int on_extension(llhttp_t *core, const char *at, size_t len)
{
    (void) at;
    return charge_extras(of(core), len);
}

static char *text_at(const struct http_parser *parser, struct place place)
{
    return (char *) parser->kept.data + place.at;
}

static void lower(char *text)
{
    for (; *text; text++) {
        if (*text >= 'A' && *text <= 'Z')
            *text = (char) (*text - 'A' + 'a');
    }
}

static void trim(char *text)
{
    size_t len = strlen(text);

    while (len > 0 && (text[len - 1] == ' ' || text[len - 1] == '\t'))
        text[--len] = '\0';
}

/* RFC 9112, 3.2: exactly one host, or nobody knows whom the request is for. */
static int check_host(struct http_parser *parser)
{
    size_t n_hosts = 0;

    for (size_t i = 0; i < parser->n_fields; i++)
        n_hosts += strcmp(parser->headers[i].name, "host") == 0;
    if (n_hosts > 1)
        return refuse(parser, 400, "more than one host header");
    if (n_hosts == 0 && !parser->head.is_http_1_0)
        return refuse(parser, 400, "a request of HTTP/1.1 has a host header");
    return 0;
}

static int check_length(struct http_parser *parser)
{
    const llhttp_t *core = &parser->core;

    if ((core->flags & F_CONTENT_LENGTH) && core->content_length > parser->limits.body_bytes)
        return refuse(parser, 413, "the body has %llu bytes, at most %llu",
                      (unsigned long long) core->content_length,
                      (unsigned long long) parser->limits.body_bytes);
    return 0;
}

static void fill_head(struct http_parser *parser)
{
    const llhttp_t *core = &parser->core;

    parser->head = (struct http_head){
        .method = parser->is_server ? text_at(parser, parser->method) : NULL,
        .target = parser->is_server ? text_at(parser, parser->target) : NULL,
        .status = core->status_code,
        .is_http_1_0 = core->http_major == 1 && core->http_minor == 0,
        .headers = parser->headers,
        .n_headers = parser->n_fields,
    };
    for (size_t i = 0; i < parser->n_fields; i++) {
        char *name = text_at(parser, parser->fields[i].name);
        char *value = text_at(parser, parser->fields[i].value);

        lower(name);
        trim(value);
        parser->headers[i] = (struct http_header){ .name = name, .value = value };
    }
}

static int on_headers_complete(llhttp_t *core)
{
    struct http_parser *parser = of(core);
    int r;

    if (buf_failed(&parser->kept))
        return HPE_USER;
    if (core->http_major != 1 || core->http_minor > 1)
        return refuse(parser, 505, "only HTTP/1.1 and HTTP/1.0 are spoken here");
    fill_head(parser);
    r = parser->is_server ? check_host(parser) : 0;
    if (r == 0 && !parser->expects_no_body)
        r = check_length(parser);
    if (r != 0)
        return r;
    /* Offers to speak something else are passed over, as RFC 9110, 7.8 allows. */
    core->upgrade = 0;
    if (parser->expects_no_body)
        core->flags |= F_SKIPBODY;
    parser->head.keeps_alive = llhttp_should_keep_alive(core) != 0;
    parser->event = HTTP_GOT_HEAD;
    return HPE_PAUSED;
}

/* ---- the body ---- */

static int on_body(llhttp_t *core, const char *at, size_t len)
{
    struct http_parser *parser = of(core);

    if (len == 0)
        return 0; /* a feed of nothing within a body */
    parser->n_body += len;
    if (parser->n_body > parser->limits.body_bytes)
        return refuse(parser, 413, "the body is over %llu bytes",
                      (unsigned long long) parser->limits.body_bytes);
    parser->event = HTTP_GOT_BODY;
    parser->piece = span_of(at, len);
    return HPE_PAUSED;
}

static int on_complete(llhttp_t *core)
{
    struct http_parser *parser = of(core);

    parser->event = HTTP_GOT_END;
    parser->is_over = true;
    return HPE_PAUSED;
}

/* ---- public ---- */

int http_parser_new(struct http_parser **ret, enum http_end end, const struct http_limits *limits)
{
    CLEANUP(http_parser_freep) struct http_parser *parser = calloc(1, sizeof(*parser));

    ensure(limits->n_headers > 0);
    if (!parser)
        return fault(-ENOMEM, "no memory for a parser of HTTP");
    parser->is_server = end == HTTP_SERVER;
    parser->limits = *limits;
    parser->fields = calloc(limits->n_headers, sizeof(*parser->fields));
    parser->headers = calloc(limits->n_headers, sizeof(*parser->headers));
    if (!parser->fields || !parser->headers)
        return fault(-ENOMEM, "no memory for a parser of HTTP");
    llhttp_settings_init(&parser->settings);
    parser->settings.on_message_begin = on_begin;
    parser->settings.on_method = on_method;
    parser->settings.on_method_complete = on_method_complete;
    parser->settings.on_url = on_url;
    parser->settings.on_url_complete = on_url_complete;
    parser->settings.on_status = on_status;
    parser->settings.on_header_field = on_field;
    parser->settings.on_header_field_complete = on_field_complete;
    parser->settings.on_header_value = on_value;
    parser->settings.on_header_value_complete = on_value_complete;
    parser->settings.on_chunk_extension_name = on_extension;
    parser->settings.on_chunk_extension_value = on_extension;
    parser->settings.on_headers_complete = on_headers_complete;
    parser->settings.on_body = on_body;
    parser->settings.on_message_complete = on_complete;
    llhttp_init(&parser->core, parser->is_server ? HTTP_REQUEST : HTTP_RESPONSE, &parser->settings);
    parser->core.data = parser;
    *ret = take(parser);
    return 0;
}

struct http_parser *http_parser_free(struct http_parser *parser)
{
    if (!parser)
        return NULL;
    buf_deinit(&parser->kept);
    free(parser->fields);
    free(parser->headers);
    free(parser);
    return NULL;
}

/* What a run of llhttp ended with, as an event. */
static int outcome_of(struct http_parser *parser, llhttp_errno_t error)
{
    if (buf_failed(&parser->kept))
        return fault(-ENOMEM, "no memory for the head of a message");
    if (error == HPE_OK)
        return HTTP_MORE;
    if (error == HPE_PAUSED && !parser->is_bad) {
        ensure(parser->event != HTTP_MORE);
        return (int) parser->event;
    }
    refuse_syntax(parser, error);
    return HTTP_BAD;
}

int http_parser_feed(struct http_parser *parser,
                     struct span bytes,
                     size_t *ret_used,
                     struct span *ret_piece)
{
    const char *data = (const char *) bytes.data;
    llhttp_errno_t error;

    *ret_used = 0;
    *ret_piece = (struct span){ 0 };
    if (parser->is_bad)
        return HTTP_BAD;
    if (parser->is_over) {
        parser->is_over = false;
        parser->is_inside = false;
        parser->expects_no_body = false;
    }
    if (llhttp_get_errno(&parser->core) == HPE_PAUSED)
        llhttp_resume(&parser->core);
    parser->event = HTTP_MORE;
    parser->piece = (struct span){ 0 };
    error = llhttp_execute(&parser->core, data, bytes.len);
    if (error == HPE_OK)
        *ret_used = bytes.len;
    else if (error == HPE_PAUSED && bytes.len > 0)
        *ret_used = (size_t) (llhttp_get_error_pos(&parser->core) - data);
    ensure(*ret_used <= bytes.len);
    *ret_piece = parser->piece;
    return outcome_of(parser, error);
}

int http_parser_finish(struct http_parser *parser)
{
    llhttp_errno_t error;

    if (parser->is_bad)
        return HTTP_BAD;
    if (parser->is_over || !parser->is_inside)
        return HTTP_MORE;
    if (llhttp_get_errno(&parser->core) == HPE_PAUSED)
        llhttp_resume(&parser->core);
    parser->event = HTTP_MORE;
    error = llhttp_finish(&parser->core);
    /* llhttp_finish() hands on what the callback returned, and keeps no state of it. */
    if (parser->event == HTTP_GOT_END)
        return HTTP_GOT_END;
    if (error == HPE_OK)
        (void) refuse(parser, 400, "the connection ended within a message");
    return outcome_of(parser, error == HPE_OK ? HPE_INVALID_EOF_STATE : error);
}

void http_parser_expect_no_body(struct http_parser *parser)
{
    ensure(!parser->is_server && (!parser->is_inside || parser->is_over));
    parser->is_over = false;
    parser->is_inside = false;
    parser->expects_no_body = true;
}

const struct http_head *http_parser_head(const struct http_parser *parser)
{
    ensure(parser->is_inside);
    return &parser->head;
}

const struct http_problem *http_parser_problem(const struct http_parser *parser)
{
    ensure(parser->is_bad);
    return &parser->problem;
}

bool http_parser_is_inside(const struct http_parser *parser)
{
    return parser->is_inside && !parser->is_over;
}

const char *http_header_get(const struct http_head *head, const char *name)
{
    for (size_t i = 0; i < head->n_headers; i++) {
        if (strcmp(head->headers[i].name, name) == 0)
            return head->headers[i].value;
    }
    return NULL;
}
