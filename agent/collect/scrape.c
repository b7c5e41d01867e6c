/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/collect/custom.h"
#include "agent/collect/scrape.h"
#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/http/http.h"
#include "common/log/log.h"

/*
 * collect.scrape.targets: a GET of each, one after another, in Prometheus' text format. A sample's
 * own time is passed over: it is of this round. Samples carry sentinel.source, as two programs of
 * one kind say the same names.
 */
#define MAX_TARGETS 32
#define MAX_BYTES (4u << 20)

static const struct collect_metric up = { "sentinel.agent.scrape.up", "1", SPOOL_GAUGE };
static const struct collect_metric duration = { "sentinel.agent.scrape.duration", "s",
                                                SPOOL_GAUGE };

struct state {
    struct custom_troubles troubles;
};

/* ---- where ---- */

static bool is_loopback(const char *host)
{
    return strcmp(host, "localhost") == 0 || strcmp(host, "::1") == 0 ||
           (strncmp(host, "127.", 4) == 0 && host[strspn(host, "0123456789.")] == '\0');
}

const char *scrape_check(const char *target, bool allow_remote)
{
    struct http_url url;

    if (strncmp(target, "unix:/", 6) == 0) {
        const char *colon = strchr(target + 5, ':');
        size_t len = colon ? (size_t) (colon - target - 5) : strlen(target + 5);

        if (len >= sizeof(((struct sockaddr_un *) 0)->sun_path))
            return "the path of a socket has at most 107 bytes";
        return colon && colon[1] != '/' ? "write unix:/path/of/socket:/metrics" : NULL;
    }
    if (http_url_parse(target, &url) != 0)
        return "write http://127.0.0.1:PORT/metrics or unix:/path/of/socket:/metrics";
    if (url.is_tls)
        return "https is not spoken to targets; http on this machine is";
    if (!allow_remote && !is_loopback(url.host))
        return "it is not on this machine; set collect.scrape.allow_remote if that is meant";
    return NULL;
}

/* ---- a connection ---- */

struct call {
    struct probe *c;
    int64_t deadline_us;
    char host[HTTP_HOST_BYTES + 8];
    char target[1024];
};

static bool wait_for(const struct call *call, int fd, short events)
{
    for (;;) {
        struct pollfd file = { .fd = fd, .events = events };
        int64_t left_us = call->deadline_us - clock_mono().us;
        int n = left_us <= 0 ? 0 : poll(&file, 1, (int) (left_us / 1000) + 1);

        if (n > 0)
            return true;
        if (n == 0 || errno != EINTR) {
            errno = n == 0 ? ETIMEDOUT : errno;
            return false;
        }
    }
}

static int connect_address(const struct call *call, const struct sockaddr *address, socklen_t len)
{
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int error = 0;
    socklen_t error_bytes = sizeof(error);

    if (fd < 0)
        return -1;
    if (connect(fd, address, len) == 0 ||
        (errno == EINPROGRESS && wait_for(call, fd, POLLOUT) &&
         getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &error_bytes) == 0 && error == 0))
        return fd;
    if (error)
        errno = error;
    error = errno;
    close(fd);
    errno = error;
    return -1;
}

static int connect_unix(struct call *call, const char *target)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    size_t len = strcspn(target, ":");

    snprintf(address.sun_path, sizeof(address.sun_path), "%.*s", (int) len, target);
    snprintf(call->host, sizeof(call->host), "localhost");
    snprintf(call->target, sizeof(call->target), "%s", target[len] ? target + len + 1 : "/metrics");
    return connect_address(call, (const struct sockaddr *) &address, sizeof(address));
}

static int connect_http(struct call *call, const char *target)
{
    const struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
    struct addrinfo *found = NULL;
    struct http_url url;
    char port[8];
    int fd = -1;

    if (http_url_parse(target, &url) != 0) {
        errno = EINVAL;
        return -1;
    }
    snprintf(call->host, sizeof(call->host), "%s", url.authority);
    snprintf(call->target, sizeof(call->target), "%s", url.target);
    snprintf(port, sizeof(port), "%u", url.port);
    if (getaddrinfo(url.host, port, &hints, &found) != 0) {
        errno = EHOSTUNREACH;
        return -1;
    }
    for (const struct addrinfo *at = found; at && fd < 0; at = at->ai_next)
        fd = connect_address(call, at->ai_addr, at->ai_addrlen);
    freeaddrinfo(found);
    return fd;
}

static const char *send_request(const struct call *call, int fd)
{
    CLEANUP(buf_deinit) struct buf bytes = { 0 };
    const struct http_header headers[] = {
        { "accept", "text/plain;version=0.0.4, text/plain;q=0.5" },
        { "user-agent", "sentinel-agent/" SENTINEL_VERSION },
        { "connection", "close" },
    };
    size_t at = 0;

    http_put_request(&bytes,
                     &(struct http_request){ .method = "GET",
                                             .target = call->target,
                                             .host = call->host,
                                             .headers = headers,
                                             .n_headers = sizeof(headers) / sizeof(headers[0]),
                                             .framing = HTTP_NO_BODY });
    if (buf_failed(&bytes))
        return "there is no memory for the request";
    while (at < bytes.len) {
        ssize_t n = send(fd, bytes.data + at, bytes.len - at, MSG_NOSIGNAL);

        if (n > 0)
            at += (size_t) n;
        else if (n == 0 || (errno != EAGAIN && errno != EINTR) || !wait_for(call, fd, POLLOUT))
            return strerror(errno);
    }
    return NULL;
}

/* What a piece of the answer says. 0: more is wanted; 1: it is whole; < 0: ret_words. */
static int
take_piece(struct call *call, struct http_parser *parser, struct span bytes, const char **ret_words)
{
    for (;;) {
        struct span piece;
        size_t used;
        int r = http_parser_feed(parser, bytes, &used, &piece);

        if (r < 0 || r == HTTP_BAD) {
            *ret_words = "the answer is no HTTP, or larger than 4 MiB";
            return -1;
        }
        if (r == HTTP_GOT_HEAD && http_parser_head(parser)->status != 200) {
            *ret_words = "the answer's status is not 200";
            return -1;
        }
        if (r == HTTP_GOT_BODY)
            buf_append_span(call->c->text, piece);
        if (r == HTTP_GOT_END)
            return 1;
        bytes = span_of(bytes.data + used, bytes.len - used);
        if (r == HTTP_MORE)
            return 0;
    }
}

/* Into the probe's text. NULL: it is whole. */
static const char *read_answer(struct call *call, int fd)
{
    static const struct http_limits limits = {
        .head_bytes = 16384, .target_bytes = 1, .n_headers = 64, .body_bytes = MAX_BYTES
    };
    CLEANUP(http_parser_freep) struct http_parser *parser = NULL;
    const char *words = NULL;

    buf_clear(call->c->text);
    if (http_parser_new(&parser, HTTP_CLIENT, &limits))
        return "there is no memory for the answer";
    for (;;) {
        char bytes[8192];
        ssize_t n = recv(fd, bytes, sizeof(bytes), 0);

        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            if (!wait_for(call, fd, POLLIN))
                return strerror(errno);
            continue;
        }
        if (n < 0)
            return strerror(errno);
        if (n == 0)
            return http_parser_finish(parser) == HTTP_GOT_END ? NULL
                                                              : "the answer ended in the middle";
        switch (take_piece(call, parser, span_of(bytes, (size_t) n), &words)) {
        case 0:
            break;
        case 1:
            return NULL;
        default:
            return words;
        }
    }
}

static const char *fetch(struct call *call, const char *target)
{
    bool is_unix = strncmp(target, "unix:/", 6) == 0;
    CLEANUP(fd_closep)
    int fd = is_unix ? connect_unix(call, target + 5) : connect_http(call, target);
    const char *words;

    if (fd < 0)
        return strerror(errno);
    words = send_request(call, fd);
    return words ? words : read_answer(call, fd);
}

static void scrape_one(struct probe *c, struct state *state, const char *target)
{
    const struct promtext_rules rules = { .max_samples = c->rules->numbers.max_custom,
                                          .allows_times = true };
    const struct spool_attribute source = { "sentinel.source", target };
    const struct spool_attribute *who = ATTRIBUTES(source);
    struct promtext_problem problem = { 0 };
    int64_t begin = clock_mono().us;
    struct call call = { .c = c, .deadline_us = begin + c->rules->numbers.scrape_timeout_us };
    const char *words = scrape_check(target, c->rules->numbers.allow_remote);

    if (!words)
        words = fetch(&call, target);
    if (!words) {
        size_t len = c->text->len;

        buf_append(c->text, "", 1);
        if (buf_failed(c->text))
            words = "there is no memory for the answer";
        else if (!custom_add_text(c, (char *) c->text->data, len, &rules, &source, &problem))
            words = problem.text;
    }
    collect_add(c, &up, words == NULL, who);
    collect_add(c, &duration, (double) (clock_mono().us - begin) / 1e6, who);
    if (!words) {
        custom_is_well(&state->troubles, target);
        return;
    }
    collect_count_error(c);
    if (custom_is_news(&state->troubles, target, words))
        log_event(LOG_WARN, "scrape_failed", LOG_S("target", target), LOG_U("line", problem.line),
                  LOG_S("error", words));
}

void collect_scrape(struct probe *c)
{
    size_t n = c->rules->lists[COLLECT_SCRAPE_TARGETS].n_items;
    struct state *state;

    if (n == 0)
        return;
    state = collect_state(c, sizeof(*state));
    for (size_t i = 0; state && i < n && i < MAX_TARGETS; i++)
        scrape_one(c, state, c->rules->lists[COLLECT_SCRAPE_TARGETS].items[i]);
}
