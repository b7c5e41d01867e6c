#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/* The words of lines.c; what stands first comes most often. Private to it. */

#include <stdbool.h>
#include <stdint.h>

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

static const char *const months[] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                      "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };

/* ---- a web server ---- */

static const char *const methods[] = { "GET", "GET", "GET", "POST", "HEAD", "PUT", "DELETE" };
#define N_METHODS COUNT(methods)
static const char *const statuses[] = { "304", "404", "301", "302", "499", "500", "502", "401" };
#define N_STATUSES COUNT(statuses)
static const struct {
    const char *text;
    bool has_id;
} paths[] = {
    { "/api/v1/products/", true },
    { "/", false },
    { "/static/css/main.7c1f2a.css", false },
    { "/static/js/vendor.19d0c3.js", false },
    { "/static/js/app.83ab11.js", false },
    { "/api/v1/cart", false },
    { "/api/v1/users/", true },
    { "/search?q=", true },
    { "/favicon.ico", false },
    { "/images/products/", true },
    { "/api/v1/orders/", true },
    { "/health", false },
    { "/static/fonts/inter-regular.woff2", false },
    { "/category/garden?page=", true },
    { "/category/kitchen?page=", true },
    { "/api/v1/recommendations?user=", true },
    { "/login", false },
    { "/account/orders", false },
    { "/api/v1/session", false },
    { "/robots.txt", false },
    { "/wp-login.php", false },
    { "/static/img/logo.svg", false },
    { "/checkout/payment", false },
    { "/api/v2/inventory/", true },
};
#define N_PATHS COUNT(paths)
static const char *const referers[] = {
    "-",
    "https://shop.example.org/",
    "https://shop.example.org/category/garden",
    "https://shop.example.org/cart",
    "https://www.google.com/",
    "https://shop.example.org/category/kitchen?page=2",
    "https://news.example.net/offers-of-the-week",
};
static const char *const browsers[] = {
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/142.0.0.0 Safari/537.36",
    "Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like "
    "Gecko) Version/18.6 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/18.5 Safari/605.1.15",
    "curl/8.14.1",
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "kube-probe/1.33",
    "Go-http-client/1.1",
};
#define N_BROWSERS COUNT(browsers)

/* ---- services that write JSON ---- */

static const struct {
    const char *text;
    uint32_t severity;
} levels[] = { { "info", 9 }, { "info", 9 }, { "debug", 5 }, { "warn", 13 }, { "error", 17 } };
#define N_LEVELS COUNT(levels)
static const char *const services[] = { "checkout", "payments", "catalog", "gateway", "mailer" };
#define N_SERVICES COUNT(services)
static const char *const regions[] = { "eu-central-1", "eu-west-1", "us-east-1" };
static const char *const messages[] = {
    "request completed",
    "cache hit",
    "payment authorised",
    "cache miss, asking the database",
    "cart updated",
    "session renewed",
    "upstream answered slowly",
    "retrying after timeout of upstream",
    "rate limit reached for client",
    "could not reach payment provider: connection reset by peer",
    "feature flag evaluated",
    "message published to orders.created",
};

/* ---- an application in Java ---- */

static const char *const loggers[] = { "c.e.shop.orders.OrderService",
                                       "c.e.shop.orders.OrderRepository",
                                       "c.e.shop.stock.StockClient",
                                       "c.e.shop.billing.InvoiceWriter",
                                       "o.h.engine.jdbc.spi.SqlExceptionHelper",
                                       "c.e.shop.web.RequestLoggingFilter" };
static const char *const orders[] = { "accepted",         "reserved stock for",
                                      "wrote invoice of", "loaded",
                                      "shipped",          "could not complete",
                                      "refunded" };
static const char *const exceptions[] = {
    "java.sql.SQLTransientConnectionException: HikariPool-1 - Connection is not available, request "
    "timed out after 30000ms.",
    "java.net.SocketTimeoutException: Read timed out",
    "java.lang.IllegalStateException: order is not open any more",
    "java.lang.NullPointerException: Cannot invoke \"Customer.address()\" because \"customer\" is "
    "null",
};
static const char *const frames[] = {
    "com.example.shop.orders.OrderService.complete(OrderService.java:",
    "com.example.shop.orders.OrderService.lambda$submit$3(OrderService.java:",
    "com.example.shop.orders.OrderController.submit(OrderController.java:",
    "jdk.internal.reflect.DirectMethodHandleAccessor.invoke(DirectMethodHandleAccessor.java:",
    "java.base/java.lang.reflect.Method.invoke(Method.java:",
    "org.springframework.web.method.support.InvocableHandlerMethod.doInvoke("
    "InvocableHandlerMethod.java:",
    "org.springframework.web.servlet.DispatcherServlet.doDispatch(DispatcherServlet.java:",
    "org.springframework.web.servlet.FrameworkServlet.processRequest(FrameworkServlet.java:",
    "jakarta.servlet.http.HttpServlet.service(HttpServlet.java:",
    "org.apache.catalina.core.ApplicationFilterChain.doFilter(ApplicationFilterChain.java:",
    "org.apache.catalina.core.StandardWrapperValve.invoke(StandardWrapperValve.java:",
    "org.apache.coyote.http11.Http11Processor.service(Http11Processor.java:",
    "org.apache.tomcat.util.net.NioEndpoint$SocketProcessor.doRun(NioEndpoint.java:",
    "java.base/java.lang.Thread.run(Thread.java:",
};
#define N_FRAMES COUNT(frames)

/* ---- sshd ---- */

static const struct {
    const char *before, *between, *behind;
    uint32_t severity;
} sshd[] = {
    { "Failed password for invalid user ", " from ", " ssh2", 13 },
    { "Invalid user ", " from ", "", 13 },
    { "Connection closed by invalid user ", " ", " [preauth]", 9 },
    { "Received disconnect of user ", " from ", ":11: Bye Bye [preauth]", 9 },
    { "Accepted publickey for ", " from ",
      " ssh2: ED25519 SHA256:0lRm2dSb7pWbL1nJ9yq3N5kq7T8oWc2dXf4uVh6zB1E", 9 },
    { "pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser=",
      " rhost=", "", 13 },
};
#define N_SSHD COUNT(sshd)
static const char *const users[] = { "root",   "admin",  "test",     "deploy", "ubuntu",
                                     "oracle", "guest",  "postgres", "git",    "user",
                                     "ftp",    "nagios", "hadoop",   "backup", "jenkins" };

/* ---- a kernel ---- */

static const struct {
    const char *before, *behind;
    uint32_t severity;
} kernel[] = {
    { "IPv4: martian source 10.0.0.1 from 10.0.0.2, on dev eth0 ll header: ", " 08 00 len ", 13 },
    { "audit: type=1400 apparmor=\"DENIED\" operation=\"open\" profile=\"snap.app\" name=\"/proc/",
      "/stat\" pid=", 13 },
    { "docker0: port 2(veth", ") entered forwarding state ", 9 },
    { "EXT4-fs (sda1): re-mounted. Opts: errors=remount-ro uuid ", " seq ", 9 },
    { "TCP: request_sock_TCP: Possible SYN flooding on port 443. Sending cookies. key ", " count ",
      13 },
    { "Out of memory: Killed process of cgroup /kubepods/burstable/pod", " total-vm:kB ", 17 },
};
#define N_KERNEL COUNT(kernel)
