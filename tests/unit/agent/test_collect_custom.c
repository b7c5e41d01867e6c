/* SPDX-License-Identifier: Apache-2.0 */
/* Metrics of somebody else's: text files, statsd, scrapes, programs. */
#include "suite.h"

#include <arpa/inet.h>
#include <math.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/collect/promtext.h"
#include "agent/collect/statsd.h"
#include "collect_rig.h"
#include "common/base/file.h"
#include "common/loop/loop.h"

void add_custom_cases(Suite *s);

/* ---- the text format ---- */

static void on_sample(void *ctx, const struct promtext_sample *sample)
{
    struct buf *told = ctx;

    buf_printf(told, "%s|%s|%c|%g", sample->name, sample->unit,
               sample->kind == SPOOL_COUNTER ? 'c' : 'g', sample->value);
    for (size_t i = 0; i < sample->n_labels; i++)
        buf_printf(told, "|%s=%s", sample->labels[i].key, sample->labels[i].value);
    buf_append_text(told, "\n");
}

/* What the samples are, or "line N: ..." of the problem. */
static const char *parse(const char *given, const struct promtext_rules *rules, struct buf *told)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    struct promtext_problem problem;

    buf_clear(told);
    buf_append(&text, given, strlen(given) + 1);
    if (promtext_parse((char *) text.data, text.len - 1, rules, on_sample, told, &problem)) {
        buf_clear(told);
        buf_printf(told, "line %zu: %s", problem.line, problem.text);
    }
    return buf_text(told);
}

static const struct promtext_rules plain = { .max_samples = 100 };
static const struct promtext_rules timed = { .max_samples = 100, .allows_times = true };

START_TEST(kinds_units_and_labels_are_read)
{
    CLEANUP(buf_deinit) struct buf told = { 0 };

    ck_assert_str_eq(
        parse("# HELP x y\n# TYPE http_requests_total counter\n"
              "http_requests_total{code=\"200\", method=\"get\",} 1027\n"
              "\n  up 1\r\n"
              "# TYPE t_seconds histogram\n"
              "t_seconds_bucket{le=\"+Inf\"} 3\nt_seconds_sum 4.5\nt_seconds_count 3\n"
              "# TYPE q_bytes summary\nq_bytes{quantile=\"0.5\"} NaN\nq_bytes_sum 1e3\n"
              "odd:name{a=\"x\\\\y\\\"z\\n\",empty=\"\"} -Inf",
              &plain, &told),
        "http_requests_total||c|1027|code=200|method=get\n"
        "up||g|1\n"
        "t_seconds_bucket||c|3|le=+Inf\n"
        "t_seconds_sum|s|c|4.5\n"
        "t_seconds_count||c|3\n"
        "q_bytes|By|g|nan|quantile=0.5\n"
        "q_bytes_sum|By|c|1000\n"
        "odd:name||g|-inf|a=x\\y\"z\n\n");
}
END_TEST

START_TEST(times_and_exemplars_are_passed_over_where_they_may_be)
{
    CLEANUP(buf_deinit) struct buf told = { 0 };

    ck_assert_str_eq(
        parse("a 1 1395066363000\nb_total 2 # {trace=\"1\"} 3\n# EOF\n", &timed, &told),
        "a||g|1\nb_total||g|2\n");
    ck_assert_str_eq(parse("a 1\nb 2 1395066363000\n", &plain, &told),
                     "line 2: times are not taken: a sample is of now; leave the time out");
}
END_TEST

START_TEST(what_is_wrong_is_said_with_its_line)
{
    static const char *const rows[][2] = {
        { "a 1\nb\n", "line 2: a blank or { is wanted behind the name" },
        { "a one\n", "line 1: the value is no number" },
        { "a 0x10\n", "line 1: the value is no number" },
        { "a{b=\"c\n", "line 1: a label's value has no closing quote" },
        { "a{b=\"c\"d} 1\n", "line 1: , or } is wanted behind a label" },
        { "a{b=\"c\",b=\"d\"} 1\n", "line 1: a label is there twice" },
        { "a{b=\"\\x\"} 1\n", "line 1: a backslash is followed by one of \\ \" n" },
        { "a{1=\"c\"} 1\n",
          "line 1: a label's name is wanted: a letter or _, then letters, digits, _" },
        { "a.b 1\n", "line 1: a blank or { is wanted behind the name" },
        { "a 1 2 3\n", "line 1: times are not taken: a sample is of now; leave the time out" },
    };
    const struct promtext_rules two = { .max_samples = 2 };
    CLEANUP(buf_deinit) struct buf told = { 0 };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        ck_assert_str_eq(parse(rows[i][0], &plain, &told), rows[i][1]);
    ck_assert_str_eq(parse("a 1\nb 2\nc 3\n", &two, &told),
                     "line 3: there are more samples than collect.max_custom allows");
}
END_TEST

/* ---- text files ---- */

#define FILE_ERROR(name) "sentinel.agent.textfile.error{sentinel.file=" name "}"

START_TEST(a_bad_file_is_named_and_the_others_are_told)
{
    struct collect_options options = rig_options(tree, "textfile");
    struct collect *collect = NULL;
    struct spool_scrape sample;
    char path[256];

    options.texts[COLLECT_TEXTFILE_DIRECTORY] = tree;
    options.numbers.max_custom = 10;
    tree_write("backup.prom", "# TYPE backups_total counter\nbackups_total{job=\"a\"} 12\n");
    tree_write("bad.prom", "good 1\nbad{\n");
    tree_write("notes.txt", "other 1\n");
    snprintf(path, sizeof(path), "%s/pipe.prom", tree);
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    ck_assert_int_eq(collect_new(&collect, &options), 0);
    ck_assert_int_eq(collect_run(collect, &sample), 0);
    expect(&sample, "backups_total{job=a}", 12);
    expect(&sample, FILE_ERROR("backup.prom"), 0);
    expect(&sample, FILE_ERROR("bad.prom"), 1);
    expect(&sample, FILE_ERROR("pipe.prom"), 1);
    ck_assert_int_ge(find(&sample, "sentinel.agent.textfile.mtime{sentinel.file=backup.prom}"), 0);
    ck_assert_int_lt(find(&sample, "good"), 0);
    ck_assert_int_lt(find(&sample, "other"), 0);

    tree_write("bad.prom", "good 1\n");
    ck_assert_int_eq(collect_run(collect, &sample), 0);
    expect(&sample, FILE_ERROR("bad.prom"), 0);
    expect(&sample, "good", 1);
    collect_free(collect);
}
END_TEST

/* ---- programs ---- */

static struct collect *new_exec(const char *const *commands, size_t n, int64_t timeout_us)
{
    struct collect_options options = rig_options(tree, "exec");
    struct collect *collect = NULL;

    options.lists[COLLECT_EXEC_COMMANDS].items = commands;
    options.lists[COLLECT_EXEC_COMMANDS].n_items = n;
    options.numbers.max_custom = 10;
    options.numbers.exec_timeout_us = timeout_us;
    options.waits_for_all = true;
    ck_assert_int_eq(collect_new(&collect, &options), 0);
    return collect;
}

static void write_script(const char *name, const char *text, char to[static 256])
{
    tree_write(name, text);
    snprintf(to, 256, "%s/%s", tree, name);
    ck_assert_int_eq(chmod(to, 0755), 0);
}

#define OF_COMMAND(metric, command, to) \
    snprintf(to, sizeof(to), "sentinel.agent.exec." metric "{sentinel.command=%s}", command)

START_TEST(a_program_tells_and_one_that_fails_does_not)
{
    char good[256], bad[256], name[512];
    const char *commands[] = { good, bad, "/no/such/program" };
    struct spool_scrape sample;
    struct collect *collect;

    ck_assert_int_eq(setenv("SENTINEL_SECRET", "x", 1), 0);
    write_script("good",
                 "#!/bin/sh\necho queue.length 3\n"
                 "echo 'secret{is=\"'${SENTINEL_SECRET:-absent}'\"} 1'\n"
                 "echo open_files $(ls /proc/self/fd | wc -l)\n",
                 good);
    write_script("bad", "#!/bin/sh\necho lie 1\nexit 3\n", bad);
    collect = new_exec(commands, 3, 20000000);
    ck_assert_int_eq(collect_run(collect, &sample), 0);
    expect(&sample, "queue.length", 3);
    expect(&sample, "secret{is=absent}", 1);
    expect(&sample, "open_files", 4); /* 0, 1, 2 and the directory that ls looks into */
    ck_assert_int_lt(find(&sample, "lie"), 0);
    OF_COMMAND("exit_code", good, name);
    expect(&sample, name, 0);
    OF_COMMAND("exit_code", bad, name);
    expect(&sample, name, 3);
    OF_COMMAND("error", bad, name);
    expect(&sample, name, 1);
    OF_COMMAND("error", "/no/such/program", name);
    expect(&sample, name, 1);
    collect_free(collect);
}
END_TEST

/* Its child would hold the pipe open for an hour. */
START_TEST(a_program_over_its_time_is_killed_with_its_children)
{
    char slow[256], pid_path[256], name[512];
    const char *commands[] = { slow };
    CLEANUP(buf_deinit) struct buf pid = { 0 };
    struct spool_scrape sample;
    struct collect *collect;
    char text[512];

    snprintf(pid_path, sizeof(pid_path), "%s/pid", tree);
    snprintf(text, sizeof(text), "#!/bin/sh\nsleep 3600 &\necho $! > %s\nwait\n", pid_path);
    write_script("slow", text, slow);
    collect = new_exec(commands, 1, 1000000);
    ck_assert_int_eq(collect_run(collect, &sample), 0);
    OF_COMMAND("exit_code", slow, name);
    expect(&sample, name, 128 + SIGKILL);
    ck_assert_int_eq(file_read(pid_path, 100, &pid), 0);
    /* Gone, or waiting for whoever inherited it to look. */
    for (;;) {
        CLEANUP(buf_deinit) struct buf stat = { 0 };
        char path[64];

        snprintf(path, sizeof(path), "/proc/%d/stat", (int) strtol(buf_text(&pid), NULL, 10));
        if (file_read(path, 4096, &stat) != 0 || strstr(buf_text(&stat), ") Z "))
            break;
    }
    collect_free(collect);
}
END_TEST

START_TEST(a_program_that_runs_ends_with_the_agent)
{
    struct collect_options options = rig_options(tree, "exec");
    struct collect *collect = NULL;
    struct spool_scrape sample;
    char slow[256], path[128], text[512];
    const char *commands[] = { slow };
    pid_t pid = 0;

    snprintf(path, sizeof(path), "%s/pid", tree);
    snprintf(text, sizeof(text), "#!/bin/sh\necho $$ > %s.new\nmv %s.new %s\nexec sleep 3600\n",
             path, path, path);
    write_script("slow", text, slow);
    options.lists[COLLECT_EXEC_COMMANDS].items = commands;
    options.lists[COLLECT_EXEC_COMMANDS].n_items = 1;
    options.numbers.max_custom = 10;
    options.numbers.exec_timeout_us = 3600 * INT64_C(1000000);
    ck_assert_int_eq(collect_new(&collect, &options), 0);
    ck_assert_int_eq(collect_run(collect, &sample), 0); /* which does not wait for it */
    while (pid == 0) {
        CLEANUP(buf_deinit) struct buf bytes = { 0 };

        if (file_read(path, 100, &bytes) == 0)
            pid = (pid_t) strtol(buf_text(&bytes), NULL, 10);
    }
    collect_free(collect);
    ck_assert_int_ne(kill(pid, 0), 0); /* reaped too */
}
END_TEST

/* ---- scrapes ---- */

static struct {
    int fd;
    const char *answer;
} server;

static void *server_main(void *ctx)
{
    (void) ctx;
    for (;;) {
        CLEANUP(fd_closep) int fd = accept(server.fd, NULL, NULL);
        char request[4096];
        size_t len = 0;

        if (fd < 0)
            return NULL;
        while (len < sizeof(request) - 1) {
            ssize_t n = read(fd, request + len, sizeof(request) - 1 - len);

            if (n <= 0)
                break;
            len += (size_t) n;
            request[len] = '\0';
            if (strstr(request, "\r\n\r\n"))
                break;
        }
        if (strncmp(request, "GET /metrics HTTP/1.1\r\n", 23) == 0 && server.answer)
            (void) !write(fd, server.answer, strlen(server.answer));
        else
            (void) !read(fd, request, 1); /* until the other end is tired of it */
    }
}

static unsigned server_start(pthread_t *thread)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof(address);

    server.fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(bind(server.fd, (const struct sockaddr *) &address, len), 0);
    ck_assert_int_eq(listen(server.fd, 4), 0);
    ck_assert_int_eq(getsockname(server.fd, (struct sockaddr *) &address, &len), 0);
    ck_assert_int_eq(pthread_create(thread, NULL, server_main, NULL), 0);
    return ntohs(address.sin_port);
}

START_TEST(a_target_is_scraped_and_one_that_is_silent_is_down)
{
    struct collect_options options = rig_options(tree, "scrape");
    const char *targets[1];
    char target[64], name[256];
    struct collect *collect = NULL;
    struct spool_scrape sample;
    pthread_t thread;

    server.answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
                    "14\r\nrequests{a=\"b\"} 7 99\r\n1\r\n\n\r\n0\r\n\r\n";
    snprintf(target, sizeof(target), "http://127.0.0.1:%u/metrics", server_start(&thread));
    targets[0] = target;
    options.lists[COLLECT_SCRAPE_TARGETS].items = targets;
    options.lists[COLLECT_SCRAPE_TARGETS].n_items = 1;
    options.numbers.max_custom = 10;
    options.numbers.scrape_timeout_us = 20000000;
    options.waits_for_all = true;
    ck_assert_int_eq(collect_new(&collect, &options), 0);
    ck_assert_int_eq(collect_run(collect, &sample), 0);
    snprintf(name, sizeof(name), "requests{sentinel.source=%s,a=b}", target);
    expect(&sample, name, 7);
    snprintf(name, sizeof(name), "sentinel.agent.scrape.up{sentinel.source=%s}", target);
    expect(&sample, name, 1);

    server.answer = "HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n";
    ck_assert_int_eq(collect_run(collect, &sample), 0);
    expect(&sample, name, 0);

    server.answer = NULL;
    options.numbers.scrape_timeout_us = 50000;
    ck_assert_int_eq(collect_configure(collect, &options), 0);
    ck_assert_int_eq(collect_run(collect, &sample), 0);
    expect(&sample, name, 0);
    collect_free(collect);
    shutdown(server.fd, SHUT_RDWR);
    pthread_join(thread, NULL);
    close(server.fd);
}
END_TEST

START_TEST(targets_are_of_this_machine_unless_it_is_allowed)
{
    ck_assert_ptr_null(collect_check_target("http://127.0.0.1:9100/metrics", false));
    ck_assert_ptr_null(collect_check_target("http://[::1]:9100/metrics", false));
    ck_assert_ptr_null(collect_check_target("http://localhost/metrics", false));
    ck_assert_ptr_null(collect_check_target("unix:/run/x.sock:/metrics", false));
    ck_assert_ptr_nonnull(collect_check_target("http://127.evil.example/metrics", false));
    ck_assert_ptr_nonnull(collect_check_target("http://10.0.0.1/metrics", false));
    ck_assert_ptr_null(collect_check_target("http://10.0.0.1/metrics", true));
    ck_assert_ptr_nonnull(collect_check_target("https://127.0.0.1/metrics", true));
    ck_assert_ptr_nonnull(collect_check_target("unix:/run/x.sock:metrics", false));
    ck_assert_ptr_nonnull(collect_check_target("9100", false));
}
END_TEST

/* ---- statsd ---- */

START_TEST(lines_of_statsd_are_read)
{
    struct statsd_line line;

    ck_assert_int_eq(statsd_parse(span_of_text("a.b:1:2|c|@0.5|#env:prod,flag|c:id"), &line), 0);
    ck_assert(span_equal(line.name, span_of_text("a.b")));
    ck_assert_uint_eq(line.n_values, 2);
    ck_assert_double_eq(line.numbers[1], 2);
    ck_assert_double_eq(line.rate, 0.5);
    ck_assert_uint_eq(line.n_tags, 2);
    ck_assert(span_equal(line.tags[1].value, span_of_text("true")));
    ck_assert_int_eq(statsd_parse(span_of_text("users:any text|s"), &line), 0);
    ck_assert_int_eq(line.type, STATSD_SET);
}
END_TEST

START_TEST(what_is_no_line_of_statsd_is_refused)
{
    static const char *const rows[] = {
        "a",        "a:1",     ":1|c",      "a:|c",        "a:x|g",      "a:1|k",   "a:1|c|@0",
        "a:1|c|@2", "a:nan|g", "a:1e999|g", "_e{1,1}:a|b", "a:1|c|#b,b", "a|b:1|c",
    };
    struct statsd_line line;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        ck_assert_msg(statsd_parse(span_of_text(rows[i]), &line) == STATSD_BAD, "%s is taken",
                      rows[i]);
}
END_TEST

static struct collect *new_statsd(struct loop *loop, unsigned port, size_t max_series)
{
    struct collect_options options = rig_options(tree, "statsd");
    struct collect *collect = NULL;
    char listen[64];

    snprintf(listen, sizeof(listen), "127.0.0.1:%u", port);
    options.texts[COLLECT_STATSD_LISTEN] = listen;
    options.numbers.max_custom = max_series;
    ck_assert_int_eq(collect_new(&collect, &options), 0);
    collect_start(collect, loop);
    return collect;
}

static unsigned free_port(void)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof(address);
    int fd = socket(AF_INET, SOCK_DGRAM, 0);

    ck_assert_int_eq(bind(fd, (const struct sockaddr *) &address, len), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *) &address, &len), 0);
    close(fd);
    return ntohs(address.sin_port);
}

static void send_lines(unsigned port, const char *text)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_port = htons((uint16_t) port),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    CLEANUP(fd_closep) int fd = socket(AF_INET, SOCK_DGRAM, 0);

    ck_assert_int_eq(
        sendto(fd, text, strlen(text), 0, (const struct sockaddr *) &address, sizeof(address)),
        (ssize_t) strlen(text));
}

START_TEST(datagrams_become_series_of_the_round)
{
    CLEANUP(loop_freep) struct loop *loop = NULL;
    unsigned port = free_port();
    struct collect *collect;
    struct spool_scrape sample;

    ck_assert_int_eq(loop_new(&loop), 0);
    collect = new_statsd(loop, port, 8);
    send_lines(port, "hits:1|c|@0.25|#b:2,a:1\nhits:3|c|#a:1,b:2\n"
                     "queue:10|g\nqueue:-3|g\n"
                     "t:1|ms\nt:2:3:4|ms\nusers:x|s\nusers:y|s\nusers:x|s\nbroken\nback:-1|c\n");
    ck_assert_int_eq(loop_run_once(loop, -1), 0);
    ck_assert_int_eq(collect_run(collect, &sample), 0);
    expect(&sample, "hits{a=1,b=2}", 7);
    expect(&sample, "queue", 7);
    expect(&sample, "t.count", 4);
    expect(&sample, "t.sum", 10);
    expect(&sample, "t.min", 1);
    expect(&sample, "t.max", 4);
    expect(&sample, "t.p50", 2);
    expect(&sample, "t.p99", 4);
    expect(&sample, "users.unique", 2);
    expect(&sample, "sentinel.agent.statsd.lines", 11);
    expect(&sample, "sentinel.agent.statsd.refused", 2);

    /* Counters go on, the round's own values begin anew. */
    send_lines(port, "hits:1|c|#a:1,b:2\nt:5|ms");
    ck_assert_int_eq(loop_run_once(loop, -1), 0);
    ck_assert_int_eq(collect_run(collect, &sample), 0);
    expect(&sample, "hits{a=1,b=2}", 8);
    expect(&sample, "t.count", 5);
    expect(&sample, "t.min", 5);
    expect(&sample, "users.unique", 0);
    expect(&sample, "queue", 7);
    collect_free(collect);
}
END_TEST

START_TEST(series_of_statsd_are_bounded)
{
    CLEANUP(loop_freep) struct loop *loop = NULL;
    unsigned port = free_port();
    struct collect *collect;
    struct spool_scrape sample;

    ck_assert_int_eq(loop_new(&loop), 0);
    collect = new_statsd(loop, port, 2);
    send_lines(port, "a:1|c\nb:1|c\nc:1|c\na:1|c\nset:1|s");
    ck_assert_int_eq(loop_run_once(loop, -1), 0);
    ck_assert_int_eq(collect_run(collect, &sample), 0);
    expect(&sample, "a", 2);
    ck_assert_int_lt(find(&sample, "c"), 0);
    expect(&sample, "sentinel.agent.statsd.refused", 2);
    collect_free(collect);
}
END_TEST

START_TEST(a_series_that_nobody_writes_to_is_forgotten)
{
    const struct statsd_options options = { .max_series = 1, .max_set = 10 };
    struct statsd *statsd = statsd_new(&options);
    struct collect_options of_rules = rig_options(tree, "statsd");
    struct collect_rules *rules = NULL;
    struct probe probe = { .max_samples = 100 };
    const size_t n_own = 3; /* lines, refused, lost */

    ck_assert_int_eq(rules_new(&rules, &of_rules), 0);
    probe.rules = rules;
    statsd_take(statsd, span_of_text("a:1|c"), 0);
    statsd_tell(statsd, &probe, STATSD_KEEP_US);
    ck_assert_uint_eq(probe.n_samples, n_own + 1);
    collect_rewind(&probe, (struct probe_mark){ 0 });
    statsd_tell(statsd, &probe, STATSD_KEEP_US + 1);
    ck_assert_uint_eq(probe.n_samples, n_own);
    /* There is room for another. */
    statsd_take(statsd, span_of_text("b:1|c"), STATSD_KEEP_US + 1);
    collect_rewind(&probe, (struct probe_mark){ 0 });
    statsd_tell(statsd, &probe, STATSD_KEEP_US + 1);
    ck_assert_uint_eq(probe.n_samples, n_own + 1);
    buf_deinit(&probe.tray);
    (void) rules_unref(rules);
    (void) statsd_free(statsd);
}
END_TEST

START_TEST(statsd_is_heard_on_loopback_alone)
{
    ck_assert_ptr_null(collect_check_listen("127.0.0.1:8125"));
    ck_assert_ptr_null(collect_check_listen("[::1]:8125"));
    ck_assert_ptr_null(collect_check_listen(""));
    ck_assert_ptr_nonnull(collect_check_listen("0.0.0.0:8125"));
    ck_assert_ptr_nonnull(collect_check_listen("[::]:8125"));
    ck_assert_ptr_nonnull(collect_check_listen("8125"));
}
END_TEST

void add_custom_cases(Suite *s)
{
    TCase *custom = tcase_create("custom");

    tcase_set_timeout(custom, 60);
    tcase_add_checked_fixture(custom, tree_make, tree_remove);
    tcase_add_test(custom, kinds_units_and_labels_are_read);
    tcase_add_test(custom, times_and_exemplars_are_passed_over_where_they_may_be);
    tcase_add_test(custom, what_is_wrong_is_said_with_its_line);
    tcase_add_test(custom, a_bad_file_is_named_and_the_others_are_told);
    tcase_add_test(custom, a_program_tells_and_one_that_fails_does_not);
    tcase_add_test(custom, a_program_over_its_time_is_killed_with_its_children);
    tcase_add_test(custom, a_program_that_runs_ends_with_the_agent);
    tcase_add_test(custom, a_target_is_scraped_and_one_that_is_silent_is_down);
    tcase_add_test(custom, targets_are_of_this_machine_unless_it_is_allowed);
    tcase_add_test(custom, lines_of_statsd_are_read);
    tcase_add_test(custom, what_is_no_line_of_statsd_is_refused);
    tcase_add_test(custom, datagrams_become_series_of_the_round);
    tcase_add_test(custom, series_of_statsd_are_bounded);
    tcase_add_test(custom, a_series_that_nobody_writes_to_is_forgotten);
    tcase_add_test(custom, statsd_is_heard_on_loopback_alone);
    suite_add_tcase(s, custom);
}
