#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * HTTP/1.1, both ends, without sockets: bytes in, events out; and heads and chunks to be sent as
 * bytes. The only module that knows llhttp.
 *
 * A parser reads one message after another. It never takes more than its limits: the head (start
 * line and headers) is kept, the body is handed through. What breaks the rules of RFC 9112 is
 * refused, never mended: a message that two readers could take for different ones is not taken.
 *
 * Feed what came until it says HTTP_MORE, also when all of it is used: an end may need no byte.
 *
 *     http_parser_feed(parser, bytes not used yet, &used, &piece)
 *             HTTP_MORE   all was read; give what comes next
 *             HTTP_GOT_HEAD   http_parser_head() has it; on a server this is the moment to refuse
 *             HTTP_GOT_BODY   a piece, borrowed from the bytes given
 *             HTTP_GOT_END    the message is over; the next feed begins another
 *             HTTP_BAD    http_parser_problem() says why; nothing more is read
 *
 * Glossary:   head  start line and headers      target  of a request: "/metrics?agent=web-1"
 * Thread:     none; a parser belongs to the connection it reads.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/span.h"

enum http_end { HTTP_SERVER, HTTP_CLIENT };

struct http_header {
    const char *name; /* of a message that was read: in lower case */
    const char *value;
};

/* ---- reading ---- */

struct http_limits {
    size_t head_bytes;   /* start line with all headers; also chunk extensions with trailers */
    size_t target_bytes; /* of a request */
    size_t n_headers;
    uint64_t body_bytes;
};

struct http_head {
    const char *method; /* a server's: "GET" */
    const char *target; /* a server's, as it came */
    unsigned status;    /* a client's */
    bool is_http_1_0;
    bool keeps_alive; /* the peer takes or sends another message on this connection */
    const struct http_header *headers;
    size_t n_headers;
};

struct http_problem {
    unsigned status; /* what a server answers: 400, 413, 414, 431, 501, 505 */
    char text[160];  /* one sentence, with the limit */
};

enum http_event {
    HTTP_MORE = 0,
    HTTP_GOT_HEAD,
    HTTP_GOT_BODY,
    HTTP_GOT_END,
    HTTP_BAD,
};

struct http_parser;

int http_parser_new(struct http_parser **ret,
                    enum http_end end,
                    const struct http_limits *limits) MUST_USE;
struct http_parser *http_parser_free(struct http_parser *parser);
DEFINE_CLEANUP(struct http_parser *, http_parser_free);

/*
 * Reads up to the next event.
 *   ret_used   how many of the bytes were read; the rest is to be given again.
 *   ret_piece  of HTTP_GOT_BODY, else empty.
 * Outcomes: enum http_event. Faults: no memory.
 */
int http_parser_feed(struct http_parser *parser,
                     struct span bytes,
                     size_t *ret_used,
                     struct span *ret_piece) MUST_USE;
/* The peer closed. Outcomes: HTTP_MORE (between messages), HTTP_GOT_END (of a body that ends so),
 * HTTP_BAD. */
int http_parser_finish(struct http_parser *parser) MUST_USE;

/* A client's, before the head of the answer to a HEAD: it has no body, whatever its headers say. */
void http_parser_expect_no_body(struct http_parser *parser);

/* From HTTP_GOT_HEAD until the feed after HTTP_GOT_END. */
const struct http_head *http_parser_head(const struct http_parser *parser);
const struct http_problem *http_parser_problem(const struct http_parser *parser);
/* Whether a message has begun and not ended. */
bool http_parser_is_inside(const struct http_parser *parser);

/* The value of the first header of that name (lower case); NULL when there is none. */
const char *http_header_get(const struct http_head *head, const char *name);

/* ---- writing ---- */

enum http_framing {
    HTTP_LENGTH,      /* content-length */
    HTTP_CHUNKED,     /* http_put_chunk(), http_put_last_chunk() */
    HTTP_UNTIL_CLOSE, /* an answer to a client of 1.0: the end of the connection ends it */
    HTTP_NO_BODY,     /* a request without one; 204, 304 */
};

/* Headers given are written as they are: names and values must be free of line breaks (ensured). */
struct http_answer {
    unsigned status;
    const struct http_header *headers;
    size_t n_headers;
    enum http_framing framing;
    uint64_t body_bytes; /* HTTP_LENGTH */
    bool closes;         /* the connection ends after it */
};
/* Appends a response's head. */
void http_put_answer(struct buf *to, const struct http_answer *answer);

struct http_request {
    const char *method;
    const char *target;
    const char *host; /* with the port where it is not the scheme's own */
    const struct http_header *headers;
    size_t n_headers;
    enum http_framing framing;
    uint64_t body_bytes;
};
/* Appends a request's head. */
void http_put_request(struct buf *to, const struct http_request *request);

/* An empty piece writes nothing: it would end the body. */
void http_put_chunk(struct buf *to, struct span piece);
void http_put_last_chunk(struct buf *to);

/* "Not Found"; "" for a status that has no name here. */
const char *http_status_name(unsigned status);

/* ---- targets and addresses ---- */

enum http_outcome {
    HTTP_OK = 0,
    HTTP_ABSENT,
    HTTP_UNFIT, /* not of the form */
};

/* The part before '?', borrowed. */
struct span http_path_of(const char *target);
/*
 * Appends the decoded value of the first `key` in the query of a target (%XX and + for a space).
 * Outcomes: HTTP_ABSENT, HTTP_UNFIT (a bad % sequence, or NUL).
 */
int http_query_get(const char *target, const char *key, struct buf *to) MUST_USE;

#define HTTP_HOST_BYTES 256
struct http_url {
    bool is_tls;
    char host[HTTP_HOST_BYTES];          /* without brackets */
    uint16_t port;                       /* 80, 443 when the text has none */
    const char *target;                  /* borrowed from the text; "/" when it has none */
    char authority[HTTP_HOST_BYTES + 8]; /* for the host header */
};
/*
 * "https://host[:port][/path][?query]", also "http". Without user, password and fragment: a secret
 * in an address ends up in logs. Outcomes: HTTP_UNFIT.
 */
int http_url_parse(const char *text, struct http_url *ret) MUST_USE;
