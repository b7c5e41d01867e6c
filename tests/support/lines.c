/* SPDX-License-Identifier: Apache-2.0 */
#include "lines.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/base/cleanup.h"
#include "common/base/ensure.h"

#define N(array) (sizeof(array) / sizeof((array)[0]))

static const char *const users[] = { "root",   "admin", "ubuntu",  "postgres", "deploy",  "git",
                                     "oracle", "test",  "jenkins", "backup",   "support", "guest",
                                     "ftp",    "mysql", "pi",      "hadoop",   "nagios",  "www" };
static const char *const paths[] = { "/",
                                     "/api/v1/orders",
                                     "/api/v1/orders/%u",
                                     "/api/v1/users/%u/profile",
                                     "/static/js/app.8c1f2e.js",
                                     "/static/css/main.44ab90.css",
                                     "/healthz",
                                     "/api/v2/search?q=item-%u&page=1",
                                     "/images/products/%u/thumb.webp",
                                     "/api/v1/cart/%u/items",
                                     "/login",
                                     "/api/v1/sessions",
                                     "/favicon.ico",
                                     "/robots.txt" };
static const char *const agents[] = {
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/126.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like "
    "Gecko) Version/17.5 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/17.4.1 Safari/605.1.15",
    "kube-probe/1.29",
    "python-requests/2.31.0",
    "Go-http-client/1.1",
    "curl/8.5.0",
};
static const char *const classes[] = { "c.e.shop.order.OrderService",
                                       "c.e.shop.payment.PaymentGatewayClient",
                                       "c.e.shop.stock.StockReservationHandler",
                                       "o.a.kafka.clients.consumer.internals.ConsumerCoordinator",
                                       "c.e.shop.web.RequestLoggingFilter",
                                       "com.zaxxer.hikari.pool.HikariPool" };
static const char *const words[] = { "order",   "payment",  "reservation", "session",
                                     "invoice", "shipment", "customer",    "voucher",
                                     "basket",  "refund",   "inventory",   "price" };
static const char *const pods[] = { "checkout-7d9f8b6c5d",  "frontend-5c6d7f8b9c",
                                    "worker-6b7c8d9e0f",    "redis-cart-58f4b7d6c9",
                                    "ingress-nginx-6f7d8c", "metrics-server-7cd5f" };
static const char *const namespaces[] = { "shop", "default", "kube-system", "monitoring" };

const char *lines_style_name(enum lines_style style)
{
    static const char *const names[LINES_STYLES] = { "nginx", "sshd", "java", "json", "cluster" };

    return names[style];
}

/* The first ones come most often. */
static size_t few(struct rand *rand, size_t n)
{
    double x = rand_unit(rand);

    return (size_t) ((double) n * x * x * x);
}

#define PICK(rand, array) (array)[few(rand, N(array))]

static unsigned number(struct rand *rand, unsigned bound)
{
    return (unsigned) rand_below(rand, bound);
}

PRINTF_LIKE(2, 3) static void add(struct lines_line *line, const char *fmt, ...)
{
    va_list args;
    int n;

    va_start(args, fmt);
    n = vsnprintf(line->text + line->len, sizeof(line->text) - line->len, fmt, args);
    va_end(args);
    ensure(n >= 0 && (size_t) n < sizeof(line->text) - line->len);
    line->len += (size_t) n;
}

static void add_time(struct lines_line *line, const char *fmt)
{
    time_t seconds = (time_t) (line->time_us / 1000000);
    char text[64];
    struct tm tm;

    gmtime_r(&seconds, &tm);
    /* All formats are of this file. */
    _Pragma("GCC diagnostic push") _Pragma("GCC diagnostic ignored \"-Wformat-nonliteral\"");
    ensure(strftime(text, sizeof(text), fmt, &tm) > 0);
    _Pragma("GCC diagnostic pop");
    add(line, "%s", text);
}

/* Some clients come again and again, each hour others. */
static void add_address(struct lines *lines, struct lines_line *line)
{
    struct rand client;

    rand_init(&client, few(&lines->rand, 4000) + (uint64_t) (line->time_us / 3600000000) * 400);
    add(line, "%u.%u.%u.%u", 1 + number(&client, 223), number(&client, 256), number(&client, 256),
        1 + number(&client, 254));
}

static void add_path(struct lines *lines, struct lines_line *line)
{
    const char *path = PICK(&lines->rand, paths), *at = strchr(path, '%');

    if (!at) {
        add(line, "%s", path);
        return;
    }
    add(line, "%.*s%u%s", (int) (at - path), path, (unsigned) few(&lines->rand, 200000), at + 2);
}

static void add_nginx(struct lines *lines, struct lines_line *line)
{
    struct rand *rand = &lines->rand;
    unsigned status = number(rand, 100);

    status = status < 90 ? 200 : status < 94 ? 304 : status < 97 ? 404 : status < 99 ? 302 : 502;
    add_address(lines, line);
    add(line, " - - [");
    add_time(line, "%d/%b/%Y:%H:%M:%S +0000");
    add(line, "] \"%s ", number(rand, 5) ? "GET" : "POST");
    add_path(lines, line);
    add(line, " HTTP/1.1\" %u %u \"%s\" \"%s\" rt=0.%03u", status,
        status == 304 ? 0 : number(rand, 30000),
        number(rand, 3) ? "https://shop.example.com/" : "-", PICK(rand, agents),
        (unsigned) few(rand, 900));
    line->severity = status >= 500 ? 17 : 9;
}

static void add_sshd(struct lines *lines, struct lines_line *line)
{
    struct rand *rand = &lines->rand;
    const char *user = PICK(rand, users);
    unsigned what = number(rand, 10), pid = 1000 + (unsigned) (lines->number / 3 % 60000);

    add_time(line, "%b %d %H:%M:%S");
    add(line, " web-03 sshd[%u]: ", pid);
    line->severity = what < 6 ? 13 : 9;
    if (what < 4) {
        add(line, "Failed password for invalid user %s from ", user);
        add_address(lines, line);
        add(line, " port %u ssh2", 1024 + number(rand, 64000));
    } else if (what < 6) {
        add(line, "pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh "
                  "ruser= rhost=");
        add_address(lines, line);
        add(line, "  user=%s", user);
    } else if (what < 8) {
        add(line, "Received disconnect from ");
        add_address(lines, line);
        add(line, ": 11: Bye Bye [preauth]");
    } else {
        add(line, "pam_unix(sshd:session): session %s for user %s by (uid=0)",
            what == 8 ? "opened" : "closed", user);
    }
}

static void add_trace(struct lines *lines, struct lines_line *line)
{
    size_t n = 8 + few(&lines->rand, 30);

    add(line, "\njava.net.SocketTimeoutException: Read timed out");
    for (size_t i = 0; i < n; i++)
        add(line, "\n\tat com.example.shop.%s.%s%s.handle(%s%s.java:%u)", words[i % N(words)],
            words[(i * 5 + 1) % N(words)], i % 3 ? "Handler" : "Client", words[i % N(words)],
            i % 3 ? "Handler" : "Client", (unsigned) (40 + i * 13));
}

static void add_java(struct lines *lines, struct lines_line *line)
{
    struct rand *rand = &lines->rand;
    unsigned what = number(rand, 200);
    const char *class = PICK(rand, classes), *word = PICK(rand, words);

    line->severity = what == 0 ? 17 : what < 8 ? 13 : what < 60 ? 5 : 9;
    add_time(line, "%Y-%m-%d %H:%M:%S");
    add(line, ",%03u %-5s [http-nio-8080-exec-%u] %s - ", (unsigned) (line->time_us / 1000 % 1000),
        what == 0   ? "ERROR"
        : what < 8  ? "WARN"
        : what < 60 ? "DEBUG"
                    : "INFO",
        1 + (unsigned) few(rand, 50), class);
    if (what == 0) {
        add(line, "Could not reach gateway for %s %u", word, number(rand, 10000000));
        add_trace(lines, line);
    } else if (what < 60) {
        add(line,
            "Entering method process%s with arguments [id=%u, region=eu-central-1, attempt=1]",
            word, number(rand, 10000000));
    } else if (what < 130) {
        add(line, "%s %u of customer %u changed state from PENDING to CONFIRMED in %u ms", word,
            number(rand, 10000000), (unsigned) few(rand, 100000), (unsigned) few(rand, 900));
    } else {
        add(line,
            "Fetched %u rows for %s from replica db-replica-%u.internal:5432 (pool: total=20, "
            "active=%u, idle=%u, waiting=0)",
            (unsigned) few(rand, 500), word, 1 + number(rand, 3), (unsigned) few(rand, 20),
            (unsigned) few(rand, 20));
    }
}

static void add_json(struct lines *lines, struct lines_line *line)
{
    struct rand *rand = &lines->rand;
    bool is_error = number(rand, 50) == 0;

    line->severity = is_error ? 17 : 9;
    add(line, "{\"ts\":\"");
    add_time(line, "%Y-%m-%dT%H:%M:%S");
    add(line,
        ".%03uZ\",\"level\":\"%s\",\"service\":\"checkout\",\"version\":\"2.14.3\",\"msg\":\"",
        (unsigned) (line->time_us / 1000 % 1000), is_error ? "error" : "info");
    if (is_error)
        add(line, "failed to charge card: upstream returned 503, will retry");
    else
        add(line, "%s handled", PICK(rand, words));
    add(line, "\",\"method\":\"POST\",\"path\":\"");
    add_path(lines, line);
    add(line, "\",\"user_id\":%u,\"duration_ms\":%u", (unsigned) few(rand, 100000),
        (unsigned) few(rand, 2000));
    if (number(rand, 4) == 0)
        add(line, ",\"trace_id\":\"%016llx%016llx\"", (unsigned long long) rand_u64(rand),
            (unsigned long long) rand_u64(rand));
    add(line, "}");
}

static void add_cluster(struct lines *lines, struct lines_line *line)
{
    struct rand *rand = &lines->rand, pod;
    const char *name = PICK(rand, pods), *space = PICK(rand, namespaces);
    unsigned what = number(rand, 8), suffix;

    rand_init(&pod, few(rand, 60));
    suffix = number(&pod, 1u << 20);
    line->severity = what == 0 ? 13 : 9;
    add(line, "%c", what == 0 ? 'W' : 'I');
    add_time(line, "%m%d %H:%M:%S");
    add(line, ".%06u    1834 ", (unsigned) (line->time_us % 1000000));
    if (what < 3)
        add(line,
            "kubelet_pods.go:%u] \"Probe %s\" probeType=\"Readiness\" pod=\"%s/%s-%05x\" "
            "podUID=\"%08x-3c1d-4b8e-9a41-%012llx\" containerName=\"main\"",
            900 + what, what == 0 ? "failed" : "succeeded", space, name, suffix,
            (unsigned) rand_u64(&pod), (unsigned long long) (rand_u64(&pod) >> 16));
    else if (what < 6)
        add(line,
            "reconciler.go:224] operationExecutor.VerifyControllerAttachedVolume started for "
            "volume \"kube-api-access-%05x\" (UniqueName: \"kubernetes.io/projected/%s\") pod "
            "\"%s-%05x\"",
            suffix, space, name, suffix);
    else
        add(line,
            "event.go:294] \"Event occurred\" object=\"%s/%s\" kind=\"Deployment\" "
            "apiVersion=\"apps/v1\" type=\"Normal\" reason=\"ScalingReplicaSet\" "
            "message=\"Scaled %s replica set %s to %u\"",
            space, name, what == 6 ? "up" : "down", name, 1 + number(rand, 20));
}

void lines_init(struct lines *lines, enum lines_style style, uint64_t seed, int64_t start_us)
{
    *lines = (struct lines){ .style = style, .time_us = start_us };
    rand_init(&lines->rand, seed * LINES_STYLES + style);
}

void lines_next(struct lines *lines, struct lines_line *ret)
{
    static void (*const styles[LINES_STYLES])(struct lines *, struct lines_line *) = {
        add_nginx, add_sshd, add_java, add_json, add_cluster,
    };

    /* Some come at once, some after a while. */
    if (number(&lines->rand, 4) > 0)
        lines->time_us += (int64_t) few(&lines->rand, 40000);
    ret->len = 0;
    ret->time_us = lines->time_us;
    styles[lines->style](lines, ret);
    lines->number++;
}
