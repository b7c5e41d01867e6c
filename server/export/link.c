/* SPDX-License-Identifier: Apache-2.0 */
#include "server/export/link.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/file.h"

#define IN_BYTES 16384
#define PIECE_BYTES 65536u /* of plain bytes that TLS has at a time */

static const struct http_limits limits = { .head_bytes = 16384,
                                           .target_bytes = 4096,
                                           .n_headers = 128,
                                           .body_bytes = UINT64_MAX };

struct link {
    const struct http_url *url;
    struct tls_context *context; /* NULL: plaintext */
    int stop_fd;                 /* readable for good once it is stopped */
    atomic_bool is_stopped;
    atomic_int_fast64_t cut_at_us;

    int fd; /* -1: not connected */
    struct tls_stream *tls;
    struct http_parser *parser;
    bool has_answered; /* on this connection, before: it may have been closed since */

    /* Of the request under way. */
    struct span left[2]; /* head and body, what is not sent yet */
    bool is_deaf;        /* the receiver takes no more; it may have said why */
    mono_us deadline;
    struct link_answer *answer;
    bool has_begun; /* something of the answer came */
    bool is_over;
    bool keeps_alive;
};

static void hang_up(struct link *link)
{
    if (link->tls) {
        tls_stream_end(link->tls);
        struct span last = tls_stream_output(link->tls);

        if (last.len > 0)
            (void) !send(link->fd, last.data, last.len, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    link->tls = tls_stream_free(link->tls);
    link->parser = http_parser_free(link->parser);
    fd_closep(&link->fd);
    link->fd = -1;
    link->has_answered = false;
}

int link_new(struct link **ret, const struct http_url *url)
{
    struct link *link = calloc(1, sizeof(*link));

    if (!link)
        return fault(-ENOMEM, "no memory for a connection");
    link->url = url;
    link->fd = -1;
    atomic_init(&link->cut_at_us, INT64_MAX);
    link->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (link->stop_fd < 0) {
        int r = fault(-errno, "cannot make an eventfd");

        free(link);
        return r;
    }
    *ret = link;
    return 0;
}

struct link *link_free(struct link *link)
{
    if (!link)
        return NULL;
    hang_up(link);
    tls_context_unref(link->context);
    close(link->stop_fd);
    free(link);
    return NULL;
}

void link_set_context(struct link *link, struct tls_context *context)
{
    hang_up(link);
    tls_context_unref(link->context);
    link->context = context ? tls_context_ref(context) : NULL;
}

void link_stop(struct link *link, mono_us cut_at)
{
    const uint64_t one = 1;

    atomic_store(&link->cut_at_us, cut_at.us);
    atomic_store(&link->is_stopped, true);
    (void) !write(link->stop_fd, &one, sizeof(one));
}

/* ---- failing ---- */

static int fail(struct link *link, const char *fmt, ...) PRINTF_LIKE(2, 3);
static int fail(struct link *link, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vsnprintf(link->answer->why, sizeof(link->answer->why), fmt, args);
    va_end(args);
    return LINK_FAILED;
}

/* Waits for the socket. Outcomes: LINK_FAILED (the time is over), LINK_STOPPED. */
static int wait_for(struct link *link, short events)
{
    for (;;) {
        bool is_stopped = atomic_load(&link->is_stopped);
        int64_t until_us = link->deadline.us, cut_us = atomic_load(&link->cut_at_us), left_us;
        struct pollfd files[2] = { { .fd = link->fd, .events = events },
                                   { .fd = link->stop_fd, .events = POLLIN } };
        int n;

        until_us = cut_us < until_us ? cut_us : until_us;
        left_us = until_us - clock_mono().us;
        if (left_us <= 0)
            return is_stopped ? LINK_STOPPED : fail(link, "no answer within remote_write.timeout");
        n = poll(files, is_stopped ? 1 : 2, (int) (left_us / 1000 + 1));
        if (n > 0 && files[0].revents)
            return 0;
        if (n < 0 && errno != EINTR)
            return fault(-errno, "cannot wait for a socket");
    }
}

/* ---- connecting ---- */

static int connect_one(struct link *link, const struct addrinfo *address)
{
    int on = 1, error = 0;
    socklen_t len = sizeof(error);
    int r;

    link->fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (link->fd < 0)
        return fail(link, "cannot make a socket: %s", strerror(errno));
    (void) setsockopt(link->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (connect(link->fd, address->ai_addr, address->ai_addrlen) < 0) {
        if (errno != EINPROGRESS)
            return fail(link, "cannot connect: %s", strerror(errno));
        r = wait_for(link, POLLOUT);
        if (r != 0)
            return pass(r);
        if (getsockopt(link->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
            error = errno;
        if (error)
            return fail(link, "cannot connect: %s", strerror(error));
    }
    return 0;
}

/* The addresses in order; each has its share of the time that is left. */
static int connect_any(struct link *link, const struct addrinfo *addresses)
{
    const mono_us deadline = link->deadline;
    int n = 0, r = LINK_FAILED;

    for (const struct addrinfo *at = addresses; at; at = at->ai_next)
        n++;
    for (const struct addrinfo *at = addresses; at && r == LINK_FAILED; at = at->ai_next) {
        int64_t now_us = clock_mono().us;

        link->deadline.us = now_us + (deadline.us - now_us) / n--;
        r = connect_one(link, at);
        if (r != 0)
            hang_up(link);
    }
    link->deadline = deadline;
    return pass(r);
}

static int dial(struct link *link)
{
    const struct addrinfo hints = { .ai_flags = AI_NUMERICSERV | AI_ADDRCONFIG,
                                    .ai_socktype = SOCK_STREAM };
    struct addrinfo *addresses = NULL;
    char port[8];
    int r;

    snprintf(port, sizeof(port), "%u", (unsigned) link->url->port);
    r = getaddrinfo(link->url->host, port, &hints, &addresses);
    if (r != 0)
        return fail(link, "cannot find %.100s: %s", link->url->host, gai_strerror(r));
    r = connect_any(link, addresses);
    freeaddrinfo(addresses);
    if (r != 0)
        return pass(r);
    r = http_parser_new(&link->parser, HTTP_CLIENT, &limits);
    if (r == 0 && link->context)
        r = tls_stream_new(&link->tls, link->context, link->url->host);
    return pass(r);
}

/* Whether the connection is there and still. Anything that came unasked ends it. */
static bool is_usable(const struct link *link)
{
    uint8_t byte;

    return link->fd >= 0 && recv(link->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 &&
           errno == EAGAIN;
}

/* ---- bytes out ---- */

/* What is to be sent next, as it goes over the wire. */
static int next_bytes(struct link *link, struct span *ret)
{
    struct span *left = link->left[0].len > 0 ? &link->left[0] : &link->left[1];
    struct span piece = span_of(left->data, left->len < PIECE_BYTES ? left->len : PIECE_BYTES);

    if (!link->tls) {
        *ret = *left;
        return 0;
    }
    *ret = tls_stream_output(link->tls);
    if (ret->len > 0 || piece.len == 0 || !tls_stream_is_ready(link->tls))
        return 0;
    if (tls_stream_write(link->tls, piece) != 0)
        return fail(link, "TLS: %s", tls_stream_reason(link->tls));
    left->data += piece.len;
    left->len -= piece.len;
    *ret = tls_stream_output(link->tls);
    return 0;
}

static void sent(struct link *link, size_t n)
{
    struct span *left = link->left[0].len > 0 ? &link->left[0] : &link->left[1];

    if (link->tls) {
        tls_stream_output_taken(link->tls, n);
        return;
    }
    left->data += n;
    left->len -= n;
}

/* As much as goes; *ret_waits: there is more. */
static int push(struct link *link, bool *ret_waits)
{
    *ret_waits = false;
    while (!link->is_deaf) {
        struct span bytes;
        int r = next_bytes(link, &bytes);
        ssize_t n;

        if (r != 0 || bytes.len == 0)
            return pass(r);
        n = send(link->fd, bytes.data, bytes.len, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN) {
            *ret_waits = true;
            return 0;
        }
        /* It may have said why before it closed. */
        if (n < 0)
            link->is_deaf = true;
        else
            sent(link, (size_t) n);
    }
    return 0;
}

/* ---- bytes in ---- */

static void take_head(struct link *link)
{
    const struct http_head *head = http_parser_head(link->parser);
    const char *retry_after = http_header_get(head, "retry-after");

    link->answer->status = head->status;
    link->keeps_alive = head->keeps_alive;
    snprintf(link->answer->retry_after, sizeof(link->answer->retry_after), "%s",
             retry_after ? retry_after : "");
}

/* Its first line, for the log. */
static void take_body(struct link *link, struct span piece)
{
    char *why = link->answer->why;
    size_t len = strlen(why), room = sizeof(link->answer->why) - 1 - len;
    const uint8_t *end = memchr(piece.data, '\n', piece.len);
    size_t n = end ? (size_t) (end - piece.data) : piece.len;

    if (len > 0 && why[len - 1] == '\n')
        return;
    n = n < room ? n : room;
    memcpy(why + len, piece.data, n);
    why[len + n] = '\0';
    if (end && n < room)
        memcpy(why + len + n, "\n", 2);
}

/* Outcomes: LINK_FAILED. */
static int read_answer(struct link *link, struct span bytes)
{
    size_t at = 0;

    link->has_begun |= bytes.len > 0;
    for (;;) {
        struct span piece;
        size_t used;
        int r =
            http_parser_feed(link->parser, span_of(bytes.data + at, bytes.len - at), &used, &piece);

        if (r < 0)
            return pass(r);
        at += used;
        if (r == HTTP_MORE)
            return 0;
        if (r == HTTP_BAD)
            return fail(link, "not an answer: %s", http_parser_problem(link->parser)->text);
        if (r == HTTP_GOT_HEAD)
            take_head(link);
        else if (r == HTTP_GOT_BODY)
            take_body(link, piece);
        else if (link->answer->status >= 200)
            link->is_over = true; /* what else came makes the connection unfit to be used again */
        if (link->is_over)
            return 0;
    }
}

static int read_end(struct link *link)
{
    int r = http_parser_finish(link->parser);

    if (r < 0)
        return pass(r);
    link->keeps_alive = false;
    if (r != HTTP_GOT_END || link->answer->status < 200)
        return fail(link, "the receiver closed the connection without an answer");
    link->is_over = true;
    return 0;
}

/* Decrypts what there is. */
static int read_plain(struct link *link)
{
    uint8_t plain[IN_BYTES];
    size_t len;
    int r;

    for (;;) {
        int s = tls_stream_read(link->tls, plain, sizeof(plain), &len);

        if (s == TLS_STREAM_MORE)
            return 0;
        if (s == TLS_STREAM_END)
            return pass(read_end(link));
        if (s == TLS_STREAM_BROKEN)
            return fail(link, "TLS: %s", tls_stream_reason(link->tls));
        if (s < 0)
            return pass(s);
        r = read_answer(link, span_of(plain, len));
        if (r != 0 || link->is_over)
            return pass(r);
    }
}

/* What is there; *ret_came: something was. */
static int pull(struct link *link, bool *ret_came)
{
    uint8_t raw[IN_BYTES];
    ssize_t n;
    int r;

    do
        n = recv(link->fd, raw, sizeof(raw), 0);
    while (n < 0 && errno == EINTR);
    *ret_came = n > 0;
    if (n < 0)
        return errno == EAGAIN ? 0 : fail(link, "the connection broke: %s", strerror(errno));
    if (n == 0)
        return pass(read_end(link));
    if (!link->tls)
        return pass(read_answer(link, span_of(raw, (size_t) n)));
    r = tls_stream_feed(link->tls, span_of(raw, (size_t) n));
    return r != 0 ? pass(r) : pass(read_plain(link));
}

/* ---- a request ---- */

static int exchange(struct link *link)
{
    bool waits = false, came = false;
    int r = 0;

    if (link->tls)
        r = read_plain(link); /* shakes hands */
    while (r == 0 && !link->is_over) {
        r = push(link, &waits);
        if (r == 0)
            r = pull(link, &came);
        if (r == 0 && !came && !link->is_over)
            r = wait_for(link, (short) (POLLIN | (waits ? POLLOUT : 0)));
    }
    return pass(r);
}

static int try_once(struct link *link, struct span head, struct span body)
{
    bool is_unsent;
    int r = 0;

    link->left[0] = head;
    link->left[1] = body;
    link->is_deaf = link->is_over = link->has_begun = link->keeps_alive = false;
    *link->answer = (struct link_answer){ .status = 0 };
    if (link->fd < 0)
        r = dial(link);
    if (r == 0)
        r = exchange(link);
    is_unsent = link->left[0].len + link->left[1].len > 0;
    if (r == 0 && link->keeps_alive && !is_unsent)
        link->has_answered = true;
    else
        hang_up(link);
    return pass(r);
}

int link_post(struct link *link,
              struct span head,
              struct span body,
              int64_t timeout_us,
              struct link_answer *ret)
{
    bool was_idle;
    int r;

    link->answer = ret;
    if (atomic_load(&link->is_stopped))
        return LINK_STOPPED;
    link->deadline.us = clock_mono().us + timeout_us;
    if (!is_usable(link))
        hang_up(link);
    was_idle = link->has_answered;
    r = try_once(link, head, body);
    /* Closed while the request was on its way, as a server does with one that is idle. */
    if (r == LINK_FAILED && was_idle && !link->has_begun && clock_mono().us < link->deadline.us &&
        !atomic_load(&link->is_stopped))
        r = try_once(link, head, body);
    link->answer = NULL;
    ret->why[strcspn(ret->why, "\r\n")] = '\0';
    return pass(r);
}
