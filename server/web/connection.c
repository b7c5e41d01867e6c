/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A connection: bytes from and to its socket, through TLS where there is one, and the time each
 * thing may take.
 *
 *     READING    a request is awaited or on its way
 *     ANSWERING  a job makes the answer, or a slice of it is on its way out
 *     LINGERING  the last answer is out and our side closed; what the peer still sends is passed
 *                over for a moment, as closing at once would take the answer from it (RFC
 * 9112, 9.6)
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/log/log.h"
#include "server/web/inside.h"

#define IN_BYTES 8192
#define REQUESTS_PER_ROUND 32
#define LINGER_US 2000000
#define LINGER_BYTES (1U << 20)
#define RETRY_US 50000

static const struct http_limits request_limits = { .head_bytes = 16384,
                                                   .target_bytes = 4096,
                                                   .n_headers = 64,
                                                   .body_bytes = 65536 };

enum phase { READING, ANSWERING, LINGERING };

struct connection {
    struct web *web;
    struct list node;         /* of the web's connections */
    struct list idle_node;    /* while between requests */
    struct list yielded_node; /* while it has more to do and lets others go first */
    struct loop_file file;
    struct loop_timer timer;
    char peer[PEER_TEXT_BYTES];
    struct tls_stream *tls; /* NULL: plaintext */
    struct http_parser *parser;
    enum phase phase;
    bool has_shaken_hands;
    bool is_proxy;    /* a PROXY header is to come */
    bool is_held;     /* not read before the timer */
    bool closes;      /* after this answer */
    bool is_head;     /* the request wants no body */
    bool is_chunked;  /* the answer is */
    bool is_retrying; /* the readers were busy with the next slice */
    struct web_job *job;
    size_t n_lingered; /* bytes passed over */
    uint8_t in[IN_BYTES];
    size_t in_at, in_len; /* what came and is not read yet */
    struct buf out;       /* what goes out, of plaintext */
    size_t out_at;
};

static void go(struct connection *connection);

/* ---- the end ---- */

static void connection_free(struct connection *connection)
{
    tls_stream_free(connection->tls);
    http_parser_free(connection->parser);
    buf_deinit(&connection->out);
    free(connection);
}

/* At once, without a word. */
static void cut(struct connection *connection)
{
    struct web *web = connection->web;

    if (connection->job) {
        connection->job->connection = NULL;
        atomic_store(&connection->job->is_cancelled, true);
        if (!connection->job->is_away)
            web_job_free(connection->job);
    }
    loop_file_remove(web->core, &connection->file);
    loop_timer_disarm(web->core, &connection->timer);
    close(connection->file.fd);
    list_remove(&connection->node);
    list_remove(&connection->idle_node);
    list_remove(&connection->yielded_node);
    connection_free(connection);
    web_connection_gone(web);
}

/* False: there was no memory for a timer, and the connection is cut. */
static bool allow(struct connection *connection, int64_t delay_us)
{
    if (loop_timer_arm_in(connection->web->core, &connection->timer, delay_us) == 0)
        return true;
    cut(connection);
    return false;
}

/* ---- bytes out ---- */

static struct span waiting(const struct connection *connection)
{
    if (connection->tls)
        return tls_stream_output(connection->tls);
    if (connection->out_at == connection->out.len)
        return (struct span){ 0 };
    return span_of(connection->out.data + connection->out_at,
                   connection->out.len - connection->out_at);
}

static void sent(struct connection *connection, size_t n)
{
    if (connection->tls) {
        tls_stream_output_taken(connection->tls, n);
        return;
    }
    connection->out_at += n;
    if (connection->out_at == connection->out.len) {
        buf_clear(&connection->out);
        connection->out_at = 0;
    }
}

/* False: the connection is cut. */
static bool flush(struct connection *connection)
{
    struct span bytes;
    bool has_moved = false;

    while ((bytes = waiting(connection)).len > 0) {
        ssize_t n = send(connection->file.fd, bytes.data, bytes.len, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN) {
            cut(connection);
            return false;
        }
        if (n < 0)
            break;
        sent(connection, (size_t) n);
        has_moved = true;
    }
    /* A peer that takes nothing has so long; one that takes a little, so long again. */
    if (has_moved && connection->phase == ANSWERING && bytes.len > 0)
        return allow(connection, connection->web->loop.limits.write_timeout_us);
    return true;
}

/* False: the connection is cut. */
static bool put(struct connection *connection, struct span bytes)
{
    bool is_put;

    if (connection->tls) {
        is_put = tls_stream_write(connection->tls, bytes) == 0;
    } else {
        buf_append_span(&connection->out, bytes);
        is_put = !buf_failed(&connection->out);
    }
    if (!is_put)
        cut(connection);
    return is_put;
}

/* ---- bytes in ---- */

enum took { TOOK_SOME, TOOK_NOTHING, TOOK_END, TOOK_BROKEN };

static enum took take_raw(struct connection *connection, void *to, size_t room, size_t *ret_len)
{
    ssize_t n;

    do
        n = recv(connection->file.fd, to, room, 0);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return errno == EAGAIN ? TOOK_NOTHING : TOOK_BROKEN;
    *ret_len = (size_t) n;
    return n == 0 ? TOOK_END : TOOK_SOME;
}

static void note_handshake_failed(struct connection *connection, const char *reason)
{
    if (connection->has_shaken_hands)
        return;
    connection->has_shaken_hands = true; /* once */
    atomic_fetch_add(&connection->web->counters.n_handshakes_failed, 1);
    log_peer(LOG_WARN, "handshake_failed", LOG_S("peer", connection->peer),
             LOG_S("listener", "https"), LOG_S("reason", reason));
    web_tell_stranger(connection->web, connection->peer);
}

static void note_handshake_done(struct connection *connection)
{
    if (connection->has_shaken_hands)
        return;
    connection->has_shaken_hands = true;
    if (tls_stream_peer_certificate(connection->tls).len == 0)
        web_tell_stranger(connection->web, connection->peer);
}

static enum took take_tls(struct connection *connection)
{
    struct web *web = connection->web;
    enum took took;
    size_t len = 0;

    for (;;) {
        int r = tls_stream_read(connection->tls, connection->in, IN_BYTES, &connection->in_len);

        if (r == TLS_STREAM_BROKEN)
            note_handshake_failed(connection, tls_stream_reason(connection->tls));
        else if (tls_stream_is_ready(connection->tls))
            note_handshake_done(connection);
        if (r == 0)
            return TOOK_SOME;
        if (r != TLS_STREAM_MORE)
            return r == TLS_STREAM_END ? TOOK_END : TOOK_BROKEN;
        took = take_raw(connection, web->loop.scratch, sizeof(web->loop.scratch), &len);
        if (took == TOOK_END)
            note_handshake_failed(connection, "the peer closed during the handshake");
        if (took != TOOK_SOME)
            return took;
        if (tls_stream_feed(connection->tls, span_of(web->loop.scratch, len)) != 0)
            return TOOK_BROKEN;
    }
}

static enum took take_some(struct connection *connection)
{
    connection->in_at = 0;
    connection->in_len = 0;
    if (connection->tls)
        return take_tls(connection);
    return take_raw(connection, connection->in, IN_BYTES, &connection->in_len);
}

/* ---- answers ---- */

#define MAX_HEADERS 12

static void put_date(char to[static 40])
{
    const time_t now = (time_t) (clock_wall().us / 1000000);
    struct tm tm;

    gmtime_r(&now, &tm);
    if (strftime(to, 40, "%a, %d %b %Y %H:%M:%S GMT", &tm) == 0)
        to[0] = '\0';
}

/* The head of the answer, as the job has it. */
static void put_head(const struct connection *connection, struct buf *to)
{
    const struct web_job *job = connection->job;
    struct http_header headers[MAX_HEADERS];
    char date[40], retry[16];
    size_t n = 0;

    put_date(date);
    headers[n++] = (struct http_header){ "date", date };
    headers[n++] = (struct http_header){ "content-type", job->content_type };
    headers[n++] = (struct http_header){ "cache-control",
                                         job->cache_control ? job->cache_control : "no-store" };
    headers[n++] = (struct http_header){ "x-content-type-options", "nosniff" };
    headers[n++] = (struct http_header){ "x-frame-options", "DENY" };
    headers[n++] = (struct http_header){ "content-security-policy",
                                         "default-src 'none'; frame-ancestors 'none'" };
    headers[n++] = (struct http_header){ "referrer-policy", "no-referrer" };
    if (connection->tls)
        headers[n++] = (struct http_header){ "strict-transport-security", "max-age=31536000" };
    if (job->status == 405)
        headers[n++] = (struct http_header){ "allow", job->allow ? job->allow : "GET, HEAD" };
    if (job->status == 401)
        headers[n++] = (struct http_header){ "www-authenticate", "Bearer" };
    if (job->retry_after_s > 0) {
        snprintf(retry, sizeof(retry), "%u", job->retry_after_s);
        headers[n++] = (struct http_header){ "retry-after", retry };
    }
    ensure(n <= MAX_HEADERS);
    const struct http_answer answer = {
        .status = job->status,
        .headers = headers,
        .n_headers = n,
        .framing = job->is_last             ? HTTP_LENGTH
                   : connection->is_chunked ? HTTP_CHUNKED
                                            : HTTP_UNTIL_CLOSE,
        .body_bytes = job->body.len,
        .closes = connection->closes,
    };
    http_put_answer(to, &answer);
}

/* Puts what the job made; the job is over with the last slice. False: the connection is cut. */
static bool put_slice(struct connection *connection)
{
    CLEANUP(buf_deinit) struct buf out = { 0 };
    struct web_job *job = connection->job;
    const bool is_framed = connection->is_chunked && (job->is_begun || !job->is_last);
    bool is_put;

    if (!job->is_begun) {
        atomic_fetch_add(&connection->web->counters.n_requests, 1);
        if (job->status >= 400)
            atomic_fetch_add(&connection->web->counters.n_failed, 1);
        if (!job->is_last && !connection->is_chunked)
            connection->closes = true;
        put_head(connection, &out);
        job->is_begun = true;
    }
    if (connection->is_head) {
        job->is_last = true;
    } else if (is_framed) {
        http_put_chunk(&out, buf_span(&job->body));
        if (job->is_last)
            http_put_last_chunk(&out);
    } else {
        buf_append_span(&out, buf_span(&job->body));
    }
    if (buf_failed(&out) || buf_failed(&job->body)) {
        log_event(LOG_ERROR, "https_answer_cut", LOG_S("peer", connection->peer),
                  LOG_S("reason", "no memory"));
        cut(connection);
        return false;
    }
    buf_clear(&job->body);
    is_put = put(connection, buf_span(&out));
    if (is_put && job->is_last)
        connection->job = web_job_free(job);
    return is_put;
}

static void on_reader(struct query_task *task)
{
    struct web_job *job = container_of(task, struct web_job, task);
    struct web *web = job->web;

    if (!atomic_load(&job->is_cancelled))
        job->r = job->make(job);
    pthread_mutex_lock(&web->shared.lock);
    job->next = web->shared.done;
    web->shared.done = job;
    pthread_mutex_unlock(&web->shared.lock);
    loop_wakeup_fire(&web->loop.wakeup);
}

/* Gives the job to a reader. False: the connection is cut. */
static bool ask_reader(struct connection *connection)
{
    struct web_job *job = connection->job;
    int r;

    connection->is_retrying = false;
    job->task.run = on_reader;
    job->is_away = true;
    r = query_pool_submit(connection->web->options.pool, &job->task);
    if (r == QUERY_OK) {
        loop_timer_disarm(connection->web->core, &connection->timer);
        return true;
    }
    job->is_away = false;
    if (job->is_begun) { /* too late to say so */
        connection->is_retrying = true;
        return allow(connection, RETRY_US);
    }
    job->retry_after_s = 1;
    web_job_fail(job, 503, "READERS_BUSY", "too many questions wait for an answer; try again");
    return put_slice(connection);
}

void connection_job_is_back(struct connection *connection, struct web_job *job)
{
    ensure(connection->job == job && connection->phase == ANSWERING);
    if (job->r < 0) {
        log_event(LOG_ERROR, "https_request_failed", LOG_S("peer", connection->peer),
                  LOG_I("r", job->r));
        if (job->is_begun) {
            cut(connection); /* within the body: an answer that does not end says it is not whole */
            return;
        }
        buf_clear(&job->body);
        web_job_fail(job, 500, "INTERNAL", "something broke in the hub; its log has the reason");
    }
    if (put_slice(connection) && allow(connection, connection->web->loop.limits.write_timeout_us))
        go(connection);
}

/* The answer to what was read; `job` is taken. False: the connection is cut. */
static bool answer(struct connection *connection, struct web_job *take_job)
{
    connection->phase = ANSWERING;
    connection->job = take_job;
    take_job->connection = connection;
    if (!take_job->is_last)
        return ask_reader(connection);
    return put_slice(connection) &&
           allow(connection, connection->web->loop.limits.write_timeout_us);
}

/* ---- requests ---- */

static bool
answer_error(struct connection *connection, unsigned status, const char *reason, const char *text)
{
    struct web_job *job;

    connection->closes = true;
    connection->is_chunked = false;
    if (web_job_new(&job, connection->web) != 0) {
        cut(connection);
        return false;
    }
    web_job_fail(job, status, reason, "%s", text);
    return answer(connection, job);
}

/* A request has come whole. False: the connection is cut. */
static bool on_request(struct connection *connection)
{
    const struct http_head *head = http_parser_head(connection->parser);
    const struct span leaf =
        connection->tls ? tls_stream_peer_certificate(connection->tls) : (struct span){ 0 };
    struct web_job *job;

    connection->closes = !head->keeps_alive || connection->web->loop.is_stopping;
    connection->is_head = strcmp(head->method, "HEAD") == 0;
    connection->is_chunked = !head->is_http_1_0;
    if (web_request(connection->web, head, leaf, connection->peer, &job) != 0)
        return answer_error(connection, 500, "INTERNAL",
                            "something broke in the hub; its log has the reason");
    return answer(connection, job);
}

/* What came, as far as it is a request. False: the connection is cut. */
static bool read_in(struct connection *connection)
{
    int r;

    do {
        struct span piece;
        size_t used;

        r = http_parser_feed(
            connection->parser,
            span_of(connection->in + connection->in_at, connection->in_len - connection->in_at),
            &used, &piece);

        connection->in_at += used;
        if (r < 0) {
            cut(connection);
            return false;
        }
        if (r == HTTP_BAD) {
            const struct http_problem *problem = http_parser_problem(connection->parser);

            return answer_error(connection, problem->status, "BAD_REQUEST", problem->text);
        }
        if (r == HTTP_GOT_END && !on_request(connection))
            return false;
    } while (r != HTTP_MORE && connection->phase == READING);
    return true;
}

static void become_idle(struct connection *connection)
{
    connection->phase = READING;
    connection->is_head = false;
    list_append(&connection->web->loop.idle, &connection->idle_node);
}

/* The first byte of a request. False: the connection is cut. */
static bool stop_idling(struct connection *connection)
{
    if (list_is_empty(&connection->idle_node))
        return true;
    list_remove(&connection->idle_node);
    return allow(connection, connection->web->loop.limits.request_timeout_us);
}

static bool linger(struct connection *connection)
{
    connection->phase = LINGERING;
    (void) shutdown(connection->file.fd, SHUT_WR);
    return allow(connection, LINGER_US);
}

/* An answer is out, all of it. False: the connection is cut. */
static bool end_answer(struct connection *connection)
{
    if (!connection->closes) {
        become_idle(connection);
        return allow(connection, connection->web->loop.limits.idle_timeout_us);
    }
    if (connection->tls)
        tls_stream_end(connection->tls);
    return flush(connection) && linger(connection);
}

/* Reads and passes over. False: the connection is cut. */
static bool pass_over(struct connection *connection)
{
    uint8_t *scratch = connection->web->loop.scratch;
    size_t len = 0;

    for (;;) {
        enum took took = take_raw(connection, scratch, sizeof(connection->web->loop.scratch), &len);

        if (took == TOOK_NOTHING)
            return true;
        connection->n_lingered += len;
        if (took != TOOK_SOME || connection->n_lingered > LINGER_BYTES) {
            cut(connection);
            return false;
        }
    }
}

/* ---- the door ---- */

enum step { STEP_AGAIN, STEP_WAIT, STEP_GONE };

/* Nothing is read before the timer, which then allows the usual time. */
static bool hold(struct connection *connection, int64_t delay_us)
{
    connection->is_held = true;
    loop_file_remove(connection->web->core, &connection->file);
    return allow(connection, delay_us);
}

static void let_go_on(struct connection *connection)
{
    connection->is_held = false;
    if (loop_file_add(connection->web->core, &connection->file) != 0)
        cut(connection);
    else
        (void) allow(connection, connection->web->loop.limits.request_timeout_us);
}

/* False: nothing more is done with it in this round. */
static bool may_go_on(struct connection *connection)
{
    int64_t delay_us = 0;

    switch (web_ask_door(connection->web, connection->peer, &delay_us)) {
    case RPC_ADMIT:
        return true;
    case RPC_ADMIT_LATER:
        (void) hold(connection, delay_us);
        return false;
    case RPC_REFUSE:
    default:
        cut(connection);
        return false;
    }
}

static enum step read_proxy(struct connection *connection)
{
    struct proxy proxy;

    switch (web_read_proxy(connection->web, connection->file.fd, &proxy)) {
    case PEER_OK:
        break;
    case PEER_MORE:
        return STEP_WAIT;
    default:
        note_handshake_failed(connection, "a trusted proxy that sent no PROXY header");
        cut(connection);
        return STEP_GONE;
    }
    connection->is_proxy = false;
    if (!proxy.has_peer)
        return STEP_AGAIN;
    peer_put_text(&proxy.peer, connection->peer);
    return may_go_on(connection) ? STEP_AGAIN : STEP_GONE;
}

/* ---- the round ---- */

static enum step read_more(struct connection *connection)
{
    enum took took;

    if (connection->in_at == connection->in_len) {
        took = take_some(connection);
        if (took == TOOK_NOTHING)
            return waiting(connection).len > 0 ? STEP_AGAIN : STEP_WAIT; /* a handshake's */
        if (took != TOOK_SOME) {
            if (flush(connection)) /* an alert */
                cut(connection);
            return STEP_GONE;
        }
    }
    return stop_idling(connection) && read_in(connection) ? STEP_AGAIN : STEP_GONE;
}

static enum step step(struct connection *connection)
{
    if (!flush(connection))
        return STEP_GONE;
    if (waiting(connection).len > 0)
        return STEP_WAIT;
    switch (connection->phase) {
    case READING:
        return connection->is_proxy ? read_proxy(connection) : read_more(connection);
    case ANSWERING:
        if (!connection->job)
            return end_answer(connection) ? STEP_AGAIN : STEP_GONE;
        if (connection->job->is_away || connection->is_retrying)
            return STEP_WAIT;
        return ask_reader(connection) ? STEP_AGAIN : STEP_GONE;
    case LINGERING:
    default:
        return pass_over(connection) ? STEP_WAIT : STEP_GONE;
    }
}

static void update_interest(struct connection *connection)
{
    uint32_t events = 0;

    if (waiting(connection).len > 0)
        events = EPOLLOUT;
    else if (connection->phase != ANSWERING)
        events = EPOLLIN;
    if (loop_file_change(connection->web->core, &connection->file, events) != 0)
        cut(connection);
}

/* Goes on until there is something to wait for, or others should have their turn. */
static void go(struct connection *connection)
{
    enum step next;
    int n_steps = 0;

    list_remove(&connection->yielded_node);
    do
        next = step(connection);
    while (next == STEP_AGAIN && ++n_steps < 3 * REQUESTS_PER_ROUND);
    if (next == STEP_GONE)
        return;
    if (next == STEP_AGAIN) {
        list_append(&connection->web->loop.yielded, &connection->yielded_node);
        loop_wakeup_fire(&connection->web->loop.wakeup);
    }
    update_interest(connection);
}

static void on_file(struct loop_file *file, uint32_t events)
{
    struct connection *connection = container_of(file, struct connection, file);

    /* Both ways are closed: nobody waits for an answer. */
    if (events & (EPOLLHUP | EPOLLERR) && !(events & EPOLLIN))
        cut(connection);
    else
        go(connection);
}

static void on_timer(struct loop_timer *timer)
{
    struct connection *connection = container_of(timer, struct connection, timer);
    const bool is_idle = !list_is_empty(&connection->idle_node);
    const bool can_hear = !connection->tls || tls_stream_is_ready(connection->tls);

    if (connection->is_held) {
        let_go_on(connection);
        return;
    }
    if (connection->is_retrying) {
        if (ask_reader(connection))
            go(connection);
        return;
    }
    if (connection->phase == LINGERING || is_idle) {
        cut(connection);
        return;
    }
    atomic_fetch_add(&connection->web->counters.n_timeouts, 1);
    log_peer(
        LOG_INFO, "https_timeout", LOG_S("peer", connection->peer),
        LOG_S("while", connection->phase == READING ? "a request arrives" : "an answer is taken"));
    if (connection->phase == READING && !can_hear)
        note_handshake_failed(connection, "it took too long");
    if (connection->phase != READING || !can_hear) {
        cut(connection);
        return;
    }
    if (answer_error(connection, 408, "REQUEST_TIMEOUT",
                     "the request took longer to arrive than web.request_timeout allows"))
        go(connection);
}

/* ---- for web.c ---- */

static int make(struct connection *connection)
{
    struct web *web = connection->web;
    struct tls_context *context = NULL;
    int r = http_parser_new(&connection->parser, HTTP_SERVER, &request_limits);

    if (r != 0)
        return pass(r);
    pthread_mutex_lock(&web->shared.lock);
    if (web->shared.context)
        context = tls_context_ref(web->shared.context);
    pthread_mutex_unlock(&web->shared.lock);
    if (context)
        r = tls_stream_new(&connection->tls, context, NULL);
    tls_context_unref(context);
    if (r == 0)
        r = loop_timer_arm_in(web->core, &connection->timer, web->loop.limits.request_timeout_us);
    if (r == 0) {
        r = loop_file_add(web->core, &connection->file);
        if (r != 0)
            loop_timer_disarm(web->core, &connection->timer);
    }
    return pass(r);
}

void connection_new(struct web *web, int take_fd, const struct peer_address *peer, bool is_proxy)
{
    struct connection *connection = calloc(1, sizeof(*connection));

    if (!connection) {
        (void) fault(-ENOMEM, "no memory for a connection");
        close(take_fd);
        return;
    }
    connection->web = web;
    connection->file = (struct loop_file){ .fd = take_fd, .events = EPOLLIN, .fn = on_file };
    connection->timer = (struct loop_timer){ .fn = on_timer };
    connection->is_proxy = is_proxy;
    peer_put_text(peer, connection->peer);
    list_init(&connection->idle_node);
    list_init(&connection->yielded_node);
    if (make(connection) != 0) {
        close(take_fd);
        connection_free(connection);
        return;
    }
    list_append(&web->loop.connections, &connection->node);
    web->loop.n_connections++;
    atomic_fetch_add(&web->counters.n_connections, 1);
    /* A proxy's client is asked about once it is known. */
    if (!is_proxy)
        (void) may_go_on(connection);
}

void connection_cut_all(struct web *web)
{
    while (!list_is_empty(&web->loop.connections))
        cut(container_of(web->loop.connections.next, struct connection, node));
}

void connection_end_all(struct web *web)
{
    list_each_safe(pos, &web->loop.connections)
    {
        struct connection *connection = container_of(pos, struct connection, node);

        connection->closes = true;
        if (connection->phase == READING && !http_parser_is_inside(connection->parser))
            cut(connection);
    }
}

void connection_go_on_all(struct web *web)
{
    struct list yielded = LIST_INIT(yielded);

    /* Those that yield again wait for the next round. */
    while (!list_is_empty(&web->loop.yielded)) {
        struct list *node = web->loop.yielded.next;

        list_remove(node);
        list_append(&yielded, node);
    }
    while (!list_is_empty(&yielded))
        go(container_of(yielded.next, struct connection, yielded_node));
}

bool connection_close_idlest(struct web *web)
{
    if (list_is_empty(&web->loop.idle))
        return false;
    cut(container_of(web->loop.idle.next, struct connection, idle_node));
    return true;
}
