/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Containers and images of an engine that speaks Docker's HTTP API over a UNIX socket: Docker's,
 * and Podman's service.
 *
 * Each object of the answer becomes a row as soon as it is there, so that a long answer is never in
 * memory as a whole. What does not come whole, in time and as such a list leaves no table at all.
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/inventory/items.h"
#include "agent/inventory/table.h"
#include "common/base/file.h"
#include "common/http/http.h"
#include "common/json/json.h"

#define MAX_ANSWER_BYTES (UINT64_C(16) << 20)
#define MAX_ITEM_BYTES ((size_t) 256 << 10)
#define LOOK_MS 200
#define BUSY_MS 50

/* Puts a row; false: the object is none of an engine's. */
typedef bool engine_row_fn(struct table *t, const struct json *object);

struct question {
    struct table *t;
    const char *target;
    engine_row_fn *row_fn;
    int64_t due_us;
    char path[sizeof(((struct sockaddr_un *) 0)->sun_path)]; /* of the socket, below the root */
    struct sockaddr_un address;
    struct http_parser *parser;
    struct items items;
    uint64_t n_items;
};

/* ---- which engine ---- */

/* False: the path is too long for a socket's. */
static bool set_path(struct question *q, const char *path)
{
    const char *root = q->t->options->root;
    size_t root_len = strlen(root);
    int n;

    while (root_len > 0 && root[root_len - 1] == '/')
        root_len--;
    n = snprintf(q->address.sun_path, sizeof(q->address.sun_path), "%.*s%s", (int) root_len, root,
                 path);
    (void) snprintf(q->path, sizeof(q->path), "%s", path);
    q->address.sun_family = AF_UNIX;
    return n < (int) sizeof(q->address.sun_path);
}

static void fail_with(struct question *q, int error)
{
    if (error == ETIMEDOUT)
        table_failed(q->t, "%s: no whole answer within inventory.command_timeout", q->path);
    else if (error == EACCES || error == EPERM)
        table_failed(q->t, "%s: %s; the agent's user has to be of its group (containers.conf)",
                     q->path, strerror(error));
    else
        table_failed(q->t, "%s: %s", q->path, strerror(error));
}

/* One of the usual places that this user may use. False: there is none. One that is there and may
 * not be used takes nothing away from what the hub has: it could be used before. */
static bool find_usual_socket(struct question *q)
{
    static const char *const places[] = { "/run/docker.sock", "/run/podman/podman.sock" };
    const char *denied = NULL;

    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        struct stat facts;

        if (!set_path(q, places[i]))
            continue;
        if (faccessat(AT_FDCWD, q->address.sun_path, R_OK | W_OK, AT_EACCESS) == 0)
            return true;
        if (!denied && stat(q->address.sun_path, &facts) == 0 && S_ISSOCK(facts.st_mode))
            denied = places[i];
    }
    if (denied && q->t->is_known) {
        (void) set_path(q, denied);
        fail_with(q, EACCES);
    } else {
        table_absent(q->t);
    }
    return false;
}

/* The socket that the settings name; else one of the usual ones. False: there is none, and that is
 * said. */
static bool find_socket(struct question *q)
{
    const char *wanted = q->t->options->engine_socket;

    if (wanted && *wanted) {
        if (*wanted == '/' && set_path(q, wanted))
            return true;
        table_failed(q->t,
                     "inventory.engine_socket: a path from / on, of at most %zu bytes with "
                     "collect.root, is wanted",
                     sizeof(q->address.sun_path) - 1);
        return false;
    }
    return find_usual_socket(q);
}

/* ---- the connection ---- */

/* Whether there is no more time, or nobody who wants it; then errno says which. */
static bool is_over(const struct question *q)
{
    const struct inventory_options *options = q->t->options;
    const bool is_late = clock_mono().us >= q->due_us;

    if (!is_late && (!options->is_unwanted || !options->is_unwanted(options->ctx)))
        return false;
    errno = is_late ? ETIMEDOUT : ECANCELED;
    return true;
}

/* False: errno says why not. */
static bool wait_for(const struct question *q, int fd, short events)
{
    for (;;) {
        struct pollfd file = { .fd = fd, .events = events };
        int64_t left_us;
        int n;

        if (is_over(q))
            return false;
        left_us = q->due_us - clock_mono().us;
        n = poll(&file, 1,
                 left_us >= INT64_C(1000) * LOOK_MS ? LOOK_MS
                 : left_us > 0                      ? (int) (left_us / 1000) + 1
                                                    : 0);
        if (n > 0)
            return true;
        if (n < 0 && errno != EINTR)
            return false;
    }
}

/* Below 0: it was said why. */
static int connect_engine(struct question *q)
{
    CLEANUP(fd_closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    while (fd >= 0) {
        if (connect(fd, (const struct sockaddr *) &q->address, sizeof(q->address)) == 0) {
            const int connected = fd;

            fd = -1;
            return connected;
        }
        if (errno != EAGAIN) /* its queue is full */
            break;
        (void) poll(NULL, 0, BUSY_MS);
        if (is_over(q))
            break;
    }
    fail_with(q, errno);
    return -1;
}

static bool send_question(struct question *q, int fd)
{
    static const struct http_header headers[] = {
        { "accept", "application/json" },
        { "user-agent", "sentinel-agent/" SENTINEL_VERSION },
        { "connection", "close" },
    };
    CLEANUP(buf_deinit) struct buf bytes = { 0 };
    size_t at = 0;

    http_put_request(&bytes,
                     &(struct http_request){ .method = "GET",
                                             .target = q->target,
                                             .host = "localhost",
                                             .headers = headers,
                                             .n_headers = sizeof(headers) / sizeof(headers[0]),
                                             .framing = HTTP_NO_BODY });
    if (buf_failed(&bytes))
        errno = ENOMEM;
    while (!buf_failed(&bytes) && at < bytes.len) {
        ssize_t n = send(fd, bytes.data + at, bytes.len - at, MSG_NOSIGNAL);

        if (n > 0)
            at += (size_t) n;
        else if (n == 0 || (errno != EAGAIN && errno != EINTR) || !wait_for(q, fd, POLLOUT))
            break;
    }
    if (!buf_failed(&bytes) && at == bytes.len)
        return true;
    fail_with(q, errno);
    return false;
}

/* ---- the answer ---- */

static bool take_item(struct question *q)
{
    CLEANUP(json_freep) struct json *object = NULL;
    struct json_error error = { .text = "there is no memory for it" };

    q->n_items++;
    if (json_parse(&object, buf_span(&q->items.item), &error) != 0) {
        table_failed(q->t, "%s: object %llu of the answer: %.70s", q->path,
                     (unsigned long long) q->n_items, error.text);
        return false;
    }
    if (q->row_fn(q->t, object))
        return true;
    table_failed(q->t, "%s: object %llu of the answer has no Id", q->path,
                 (unsigned long long) q->n_items);
    return false;
}

static bool take_body(struct question *q, struct span piece)
{
    int r;

    while ((r = items_feed(&q->items, &piece)) == ITEMS_GOT)
        if (!take_item(q))
            return false;
    if (r == ITEMS_MORE)
        return true;
    if (r == ITEMS_TOO_LONG)
        table_failed(q->t, "%s: an object of the answer is longer than %zu KiB", q->path,
                     MAX_ITEM_BYTES >> 10);
    else
        table_failed(q->t, "%s: the answer is %s", q->path,
                     r < 0 ? "more than there is memory for" : "no list of objects in JSON");
    return false;
}

/* 1: it is whole; 0: more is to come; below 0: it was said why not. */
static int take_bytes(struct question *q, struct span bytes)
{
    for (;;) {
        struct span piece;
        size_t used = 0;
        int r = http_parser_feed(q->parser, bytes, &used, &piece);

        if (r < 0 || r == HTTP_BAD) {
            table_failed(q->t, "%s: %.90s", q->path,
                         r < 0 ? "no memory" : http_parser_problem(q->parser)->text);
            return -1;
        }
        if (r == HTTP_GOT_HEAD && http_parser_head(q->parser)->status != 200) {
            const unsigned status = http_parser_head(q->parser)->status;

            table_failed(q->t, "%s: the engine answers %u %s", q->path, status,
                         http_status_name(status));
            return -1;
        }
        if (r == HTTP_GOT_BODY && !take_body(q, piece))
            return -1;
        if (r == HTTP_GOT_END)
            return 1;
        bytes = span_of(bytes.data + used, bytes.len - used);
        if (r == HTTP_MORE)
            return 0;
    }
}

/* False: it was said why. */
static bool read_answer(struct question *q, int fd)
{
    char bytes[8192];
    int whole = 0;

    while (whole == 0) {
        ssize_t n = recv(fd, bytes, sizeof(bytes), 0);

        if (n < 0 && (errno == EAGAIN || errno == EINTR) && wait_for(q, fd, POLLIN))
            continue;
        if (n < 0) {
            fail_with(q, errno);
            return false;
        }
        if (n > 0)
            whole = take_bytes(q, span_of(bytes, (size_t) n));
        else if (http_parser_finish(q->parser) == HTTP_GOT_END)
            whole = 1;
        else
            break;
    }
    if (whole >= 0 && (whole == 0 || !items_is_whole(&q->items)))
        table_failed(q->t, "%s: the answer ends in the middle", q->path);
    return whole > 0;
}

static void ask(struct table *t, const char *target, engine_row_fn *row_fn)
{
    static const struct http_limits limits = {
        .head_bytes = 16384, .target_bytes = 1, .n_headers = 64, .body_bytes = MAX_ANSWER_BYTES
    };
    struct question q = {
        .t = t,
        .target = target,
        .row_fn = row_fn,
        .due_us = clock_mono().us + table_timeout_us(t),
        .items = { .max_bytes = MAX_ITEM_BYTES },
    };
    CLEANUP(fd_closep) int fd = -1;

    if (!find_socket(&q))
        return;
    fd = connect_engine(&q);
    if (fd < 0)
        return;
    if (http_parser_new(&q.parser, HTTP_CLIENT, &limits) != 0)
        table_failed(t, "%s: there is no memory for the answer", q.path);
    else if (send_question(&q, fd))
        (void) read_answer(&q, fd);
    http_parser_free(q.parser);
    items_deinit(&q.items);
}

/* ---- rows ---- */

static void put_i64(struct table *t, const struct json *object, const char *key)
{
    table_put_i64(t, json_get_i64(json_member(object, key), 0));
}

static void put_text(struct table *t, const struct json *object, const char *key)
{
    table_put(t, json_get_text(json_member(object, key), ""));
}

/* Of /web and /other/alias, as containers that are linked have: web. */
static const char *name_of(const struct json *container)
{
    const struct json *names = json_member(container, "Names");
    const char *name = "";

    for (size_t i = 0; i < json_count(names); i++) {
        name = json_get_text(json_item(names, i), "");
        name += *name == '/';
        if (!strchr(name, '/'))
            break;
    }
    return name;
}

/* "Status" is not told of: "Up 3 hours" is another text each hour. */
static bool put_container(struct table *t, const struct json *object)
{
    const char *id = json_get_text(json_member(object, "Id"), "");

    if (!*id)
        return false;
    table_put(t, id);
    table_put(t, name_of(object));
    put_text(t, object, "Image");
    put_text(t, object, "ImageID");
    put_text(t, object, "Command");
    put_i64(t, object, "Created");
    put_text(t, object, "State");
    table_end_row(t);
    return true;
}

static bool put_image(struct table *t, const struct json *object)
{
    const struct json *tags = json_member(object, "RepoTags");
    const char *id = json_get_text(json_member(object, "Id"), "");
    CLEANUP(buf_deinit) struct buf list = { 0 };

    if (!*id)
        return false;
    for (size_t i = 0; i < json_count(tags); i++)
        buf_printf(&list, "%s%s", i ? "," : "", json_get_text(json_item(tags, i), ""));
    table_put(t, id);
    put_i64(t, object, "Created");
    put_i64(t, object, "Size");
    table_put_span(t, buf_span(&list));
    table_end_row(t);
    return true;
}

void table_docker_containers(struct table *t)
{
    ask(t, "/containers/json?all=1", put_container);
}

void table_docker_images(struct table *t)
{
    ask(t, "/images/json", put_image);
}
