/* SPDX-License-Identifier: Apache-2.0 */
#include "server/web/web.h"

#include <arpa/inet.h>
#include <sched.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/file.h"
#include "server/pki/registry/registry.h"
#include "server/web/inside.h"
#include "suite.h"

#define HOUR_US INT64_C(3600000000)

/* What a web stands on. */
static struct {
    char state[64];
    struct store *store;
    struct pki *pki; /* NULL: plaintext */
    struct ingest *ingest;
    struct query_pool *pool;
    struct tls_context *context;
    struct web *web;
} rig;

static const char *at(const char *name)
{
    static char path[4][160];
    static unsigned next;
    char *to = path[next++ % 4];

    (void) snprintf(to, sizeof(path[0]), "%s/%s", rig.state, name);
    return to;
}

static void get_status(void *ctx, struct web_status *ret)
{
    (void) ctx;
    ret->security = "insecure";
}

static void open_store(void)
{
    struct store_options options = { .segment_bytes = 16 << 20,
                                     .queue_bytes = 16 << 20,
                                     .full_percent = 100,
                                     .allow_any_filesystem = true };
    struct store_why why;

    (void) snprintf(rig.state, sizeof(rig.state), "/tmp/test-web-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(rig.state));
    ck_assert_int_eq(file_make_directories(at("db"), 0700), 0);
    ck_assert_int_eq(store_create(at("db")), 0);
    options.directory = at("db");
    ck_assert_msg(store_open(&rig.store, &options, &why) == 0, "%s", why.text);
}

static void open_pki(void)
{
    const struct pki_init init = { .state_directory = rig.state };
    CLEANUP(tls_identity_deinit) struct tls_identity own = { 0 };
    struct tls_why why = { "" };

    ck_assert_msg(pki_create(rig.store, &init, &why) == 0, "%s", why.text);
    ck_assert_msg(pki_open(&rig.pki, rig.store, rig.state, &why) == 0, "%s", why.text);
    ck_assert_msg(pki_load_server(rig.state, &own, &why) == 0, "%s", why.text);
    const struct tls_context_options options = {
        .is_server = true,
        .roots_pem = buf_span(&own.roots_pem),
        .chain_pem = buf_span(&own.chain_pem),
        .key_pem = buf_span(&own.key_pem),
    };
    ck_assert_int_eq(tls_context_new(&rig.context, &options, &why), 0);
}

static void make_web(unsigned max_waiting)
{
    struct ingest_limits limits;
    struct web_options options = {
        .host = "127.0.0.1",
        .context = rig.context,
        .store = rig.store,
        .pki = rig.pki,
        .get_status = get_status,
        .limits = { .max_connections = 16,
                    .max_series = 1000,
                    .request_timeout_us = HOUR_US,
                    .idle_timeout_us = HOUR_US,
                    .write_timeout_us = HOUR_US },
    };

    ingest_default_limits(&limits);
    ck_assert_int_eq(ingest_new(&rig.ingest, rig.store, &limits), 0);
    ck_assert_int_eq(query_pool_new(&rig.pool, 1, max_waiting), 0);
    options.ingest = rig.ingest;
    options.pool = rig.pool;
    ck_assert_int_eq(web_new(&rig.web, &options), 0);
    web_set_state(rig.web, WEB_SERVING);
}

static void begin(void)
{
    memset(&rig, 0, sizeof(rig));
    open_store();
}

static void end(void)
{
    if (rig.web) {
        web_stop(rig.web, 0);
        web_join(rig.web);
    }
    query_pool_free(rig.pool);
    web_free(rig.web);
    tls_context_unref(rig.context);
    store_stop(rig.store);
    ingest_free(rig.ingest);
    pki_close(rig.pki);
    store_close(rig.store);
    ck_assert_int_eq(file_remove_tree(rig.state), 0);
}

/* ---- a client on a socket ---- */

static int dial(void)
{
    const struct sockaddr_in address = { .sin_family = AF_INET,
                                         .sin_port = htons(web_port(rig.web)),
                                         .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(connect(fd, (const struct sockaddr *) &address, sizeof(address)), 0);
    return fd;
}

static void say(int fd, const char *text)
{
    ck_assert_int_eq(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t) strlen(text));
}

/* Until the web closes. */
static const char *hear(int fd)
{
    static char text[65536];
    size_t len = 0;
    ssize_t n;

    while (len < sizeof(text) - 1 && (n = recv(fd, text + len, sizeof(text) - 1 - len, 0)) > 0)
        len += (size_t) n;
    text[len] = '\0';
    return text;
}

#define CLOSING "Host: h\r\nConnection: close\r\n\r\n"

static const char *ask(const char *target)
{
    CLEANUP(fd_closep) int fd = dial();
    char request[256];

    (void) snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\n" CLOSING, target);
    say(fd, request);
    return hear(fd);
}

/* ---- readers ---- */

/* Holds the only reader until it is let go. */
struct holder {
    struct query_task task;
    sem_t is_here, may_go;
};

static void hold(struct query_task *task)
{
    struct holder *holder = container_of(task, struct holder, task);

    sem_post(&holder->is_here);
    sem_wait(&holder->may_go);
}

static void hold_reader(struct holder *holder)
{
    holder->task.run = hold;
    sem_init(&holder->is_here, 0, 0);
    sem_init(&holder->may_go, 0, 0);
    ck_assert_int_eq(query_pool_submit(rig.pool, &holder->task), 0);
    sem_wait(&holder->is_here);
}

START_TEST(busy_readers_are_said_with_when_to_try_again)
{
    static struct holder holder; /* the reader leaves it after the test */
    const char *answer;

    make_web(1);
    ck_assert_int_eq(web_start(rig.web), 0);
    hold_reader(&holder);
    CLEANUP(fd_closep) int waiting = dial(); /* takes the only place in the queue */

    say(waiting, "GET /metrics HTTP/1.1\r\n" CLOSING);
    answer = ask("/metrics");
    ck_assert_msg(strstr(answer, "HTTP/1.1 503 "), "%s", answer);
    ck_assert_ptr_nonnull(strstr(answer, "READERS_BUSY"));
    ck_assert_ptr_nonnull(strstr(answer, "retry-after: 1\r\n"));
    /* The loop itself is not held. */
    ck_assert_ptr_nonnull(strstr(ask("/healthz"), "200 OK"));
    sem_post(&holder.may_go);
    ck_assert_ptr_nonnull(strstr(hear(waiting), "sentinel_hub_agents_known 0\n"));
}
END_TEST

START_TEST(one_that_goes_away_while_its_answer_is_made_is_forgotten)
{
    const struct linger at_once = { .l_onoff = 1 }; /* closing resets */
    static struct holder holder;                    /* the reader leaves it after the test */
    struct web_stats stats;
    int fd;

    make_web(16);
    ck_assert_int_eq(web_start(rig.web), 0);
    hold_reader(&holder);
    fd = dial();
    say(fd, "GET /metrics HTTP/1.1\r\n" CLOSING);
    ck_assert_ptr_nonnull(strstr(ask("/healthz"), "200 OK")); /* behind it: its job is away */
    ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once)), 0);
    close(fd);
    do {
        sched_yield();
        web_get_stats(rig.web, &stats);
    } while (stats.n_connections > 0);
    sem_post(&holder.may_go);
    ck_assert_ptr_nonnull(strstr(ask("/metrics"), "200 OK"));
}
END_TEST

START_TEST(one_that_has_said_all_still_gets_its_answer)
{
    make_web(16);
    ck_assert_int_eq(web_start(rig.web), 0);
    CLEANUP(fd_closep) int fd = dial();

    say(fd, "GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n");
    ck_assert_int_eq(shutdown(fd, SHUT_WR), 0);
    ck_assert_ptr_nonnull(strstr(hear(fd), "200 OK"));
}
END_TEST

START_TEST(a_stop_while_an_answer_is_made_leaves_nothing_behind)
{
    static struct holder holder; /* the reader leaves it after the test */
    struct web_stats stats;

    make_web(16);
    ck_assert_int_eq(web_start(rig.web), 0);
    hold_reader(&holder);
    CLEANUP(fd_closep) int fd = dial();

    say(fd, "GET /metrics HTTP/1.1\r\n" CLOSING);
    /* Answers of one loop come in order of its rounds: behind two of them the first is away. */
    ck_assert_ptr_nonnull(strstr(ask("/healthz"), "200 OK"));
    ck_assert_ptr_nonnull(strstr(ask("/healthz"), "200 OK"));
    web_stop(rig.web, 0);
    web_join(rig.web);
    web_get_stats(rig.web, &stats);
    ck_assert_uint_eq(stats.n_connections, 0);
    ck_assert_str_eq(hear(fd), "");
    sem_post(&holder.may_go); /* the sanitizer sees what is lost */
}
END_TEST

START_TEST(a_web_that_never_started_is_freed)
{
    make_web(1);
}
END_TEST

START_TEST(an_address_that_is_none_is_said)
{
    struct web *web = NULL;
    struct web_options options = { .host = "192.0.2.1", .get_status = get_status };

    ck_assert_int_eq(web_new(&web, &options), WEB_IN_USE);
    options.host = "no such host";
    ck_assert_int_eq(web_new(&web, &options), WEB_IN_USE);
    ck_assert_ptr_null(web);
}
END_TEST

START_TEST(ready_follows_the_state)
{
    static const struct {
        enum web_state state;
        const char *status, *word;
    } rows[] = {
        { WEB_STARTING, " 503 ", "STARTING" }, { WEB_SERVING, " 200 ", "SERVING" },
        { WEB_FULL, " 503 ", "FULL" },         { WEB_DRAINING, " 503 ", "DRAINING" },
        { WEB_FAILED, " 503 ", "FAILED" },
    };

    make_web(1);
    ck_assert_int_eq(web_start(rig.web), 0);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const char *answer;

        web_set_state(rig.web, rows[i].state);
        answer = ask("/readyz");
        ck_assert_msg(strstr(answer, rows[i].status) && strstr(answer, rows[i].word), "%s", answer);
    }
}
END_TEST

/* ---- who may ---- */

static void leaf_of(const char *name, enum pki_kind kind, enum pki_role role, struct buf *der)
{
    const struct pki_issue issue = {
        .kind = kind, .name = name, .role = role, .directory = at(name)
    };
    CLEANUP(tls_identity_deinit) struct tls_identity identity = { 0 };
    CLEANUP(tls_cert_freep) struct tls_cert *cert = NULL;
    struct tls_why why = { "" };

    ck_assert_msg(pki_issue_identity(rig.pki, &issue, &why) == 0, "%s", why.text);
    ck_assert_int_eq(tls_identity_load(at(name), &identity, &why), 0);
    ck_assert_int_eq(tls_cert_parse_pem(&cert, buf_span(&identity.chain_pem)), 0);
    ck_assert_int_eq(tls_cert_print_der(cert, der), 0);
}

static void set_state_of(struct span der, enum pki_state state)
{
    struct pki_row row = { 0 };

    ck_assert_int_eq(pki_identify(rig.pki, der, clock_wall(), &row.identity), 0);
    row.identity.state = state;
    const struct pki_change change = { .rows = &row, .n_rows = 1 };
    ck_assert_int_eq(pki_registry_change(rig.store, &change), 0);
    ck_assert_int_eq(pki_refresh(rig.pki), 0);
}

/* The status that a request for metrics with this leaf gets; 0: it goes to a reader. */
static unsigned status_for(struct span leaf)
{
    const struct http_head head = { .method = "GET", .target = "/metrics" };
    CLEANUP(web_job_freep) struct web_job *job = NULL;

    ck_assert_int_eq(web_request(rig.web, &head, leaf, "peer", &job), 0);
    return job->make ? 0 : job->status;
}

START_TEST(who_may_read_metrics_is_the_registrys_word)
{
    CLEANUP(buf_deinit) struct buf viewer = { 0 };
    CLEANUP(buf_deinit) struct buf op = { 0 };
    CLEANUP(buf_deinit) struct buf admin = { 0 };
    CLEANUP(buf_deinit) struct buf agent = { 0 };
    struct web_limits limits;

    open_pki();
    make_web(1);
    leaf_of("vera", PKI_OPERATOR, PKI_ROLE_VIEWER, &viewer);
    leaf_of("olga", PKI_OPERATOR, PKI_ROLE_OPERATOR, &op);
    leaf_of("ada", PKI_OPERATOR, PKI_ROLE_ADMIN, &admin);
    leaf_of("web-1", PKI_AGENT, PKI_ROLE_NONE, &agent);
    ck_assert_uint_eq(status_for(buf_span(&viewer)), 0);
    ck_assert_uint_eq(status_for(buf_span(&op)), 0);
    ck_assert_uint_eq(status_for(buf_span(&admin)), 0);
    ck_assert_uint_eq(status_for(buf_span(&agent)), 403);
    ck_assert_uint_eq(status_for((struct span){ 0 }), 401);
    ck_assert_uint_eq(status_for(span_of_text("no certificate")), 401);
    set_state_of(buf_span(&viewer), PKI_REVOKED);
    set_state_of(buf_span(&op), PKI_SUPERSEDED);
    ck_assert_uint_eq(status_for(buf_span(&viewer)), 401);
    ck_assert_uint_eq(status_for(buf_span(&op)), 401);
    limits = rig.web->loop.limits;
    limits.is_public = true;
    rig.web->loop.limits = limits;
    ck_assert_uint_eq(status_for((struct span){ 0 }), 0);
}
END_TEST

Suite *suite(void)
{
    Suite *s = suite_create("server/web");
    TCase *tc = tcase_create("web");

    tcase_add_checked_fixture(tc, begin, end);
    tcase_add_test(tc, busy_readers_are_said_with_when_to_try_again);
    tcase_add_test(tc, one_that_goes_away_while_its_answer_is_made_is_forgotten);
    tcase_add_test(tc, one_that_has_said_all_still_gets_its_answer);
    tcase_add_test(tc, a_stop_while_an_answer_is_made_leaves_nothing_behind);
    tcase_add_test(tc, a_web_that_never_started_is_freed);
    tcase_add_test(tc, an_address_that_is_none_is_said);
    tcase_add_test(tc, ready_follows_the_state);
    tcase_add_test(tc, who_may_read_metrics_is_the_registrys_word);
    suite_add_tcase(s, tc);
    return s;
}
