/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/policy/policy.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/policy/beneath.h"
#include "common/base/file.h"
#include "suite.h"

static char home[64];
static char file[128];
static struct policy policy;
static struct policy_why why;

static void set_up(void)
{
    strcpy(home, "/tmp/test-policy-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(home));
    snprintf(file, sizeof(file), "%s/policy.yaml", home);
    policy = (struct policy){ 0 };
    why.text[0] = '\0';
}

static void tear_down(void)
{
    policy_free(&policy);
    ck_assert_int_eq(file_remove_tree(home), 0);
}

static void write_file(const char *path, const char *text)
{
    ck_assert_int_eq(file_replace(path, span_of_text(text), 0644), 0);
}

static void load(const char *yaml)
{
    policy_free(&policy);
    write_file(file, yaml);
    ck_assert_int_eq(policy_load(file, &policy), 0);
}

static void load_well(const char *yaml)
{
    load(yaml);
    ck_assert_msg(policy.state == POLICY_LOADED, "%s", policy.problem);
}

static const char *in_home(const char *name)
{
    static char paths[4][256];
    static unsigned at;
    char *path = paths[at++ % 4];

    snprintf(path, sizeof(paths[0]), "%s/%s", home, name);
    return path;
}

#define COMMAND(...)                                                           \
    policy_allows_command(&policy, (const char *const[]){ __VA_ARGS__, NULL }, \
                          sizeof((const char *const[]){ __VA_ARGS__ }) / sizeof(char *), 0, &why)

/* ---- the file ---- */

START_TEST(without_a_file_all_that_is_risky_is_off)
{
    int fd = -1;

    ck_assert_int_eq(policy_load(in_home("none.yaml"), &policy), 0);
    ck_assert_int_eq(policy.state, POLICY_DEFAULTS);
    ck_assert(!COMMAND("/bin/true"));
    ck_assert_ptr_nonnull(strstr(why.text, "commands.allow"));
    ck_assert(!policy_allows_terminal(&policy, 0, &why));
    ck_assert_ptr_nonnull(strstr(why.text, "terminals.allow"));
    ck_assert(!policy_allows_target(&policy, "127.0.0.1", 22, 0, &why));
    ck_assert_ptr_nonnull(strstr(why.text, "proxy.targets"));
    ck_assert(!policy_allows_setting(&policy, "interval", &why));
    ck_assert_ptr_nonnull(strstr(why.text, "configuration.settings"));
    ck_assert_int_eq(policy_open_file(&policy, "/etc/hostname", &fd, &why), POLICY_FILE_DENIED);
    ck_assert_ptr_nonnull(strstr(why.text, "files.read"));
    ck_assert_int_eq(policy_limit_interval(&policy, 5000000), 5000000);
}
END_TEST

START_TEST(an_empty_file_is_a_policy_too)
{
    load("");
    ck_assert_int_eq(policy.state, POLICY_LOADED);
    ck_assert(!COMMAND("/bin/true"));
}
END_TEST

static const struct {
    const char *yaml, *says;
} bad[] = {
    { "comands: {allow: true}\n", "commands" },
    { "commands: {allow: yes}\n", "commands.allow" },
    { "interval: {min: 2h}\n", "interval.max" },
    { "interval: {min: 1us}\n", "interval.min" },
    { "commands: {programs: [ls]}\n", "whole path" },
    { "commands: {programs: [/bin/../bin/ls]}\n", "whole path" },
    { "commands: {programs: ['/bin/*']}\n", "without *" },
    { "terminals: {shell: bash}\n", "terminals.shell" },
    { "files: {read: [var/log/]}\n", "files.read" },
    { "files: {read: [/var/../etc/]}\n", "files.read" },
    { "files: {read: [/var//log/]}\n", "files.read" },
    { "files: {read: ['/var/./log']}\n", "files.read" },
    { "files: {deny: [etc/shadow]}\n", "files.deny" },
    { "proxy: {targets: [router]}\n", "proxy.targets" },
    { "proxy: {targets: ['router:0']}\n", "proxy.targets" },
    { "proxy: {targets: ['router:90-80']}\n", "proxy.targets" },
    { "proxy: {targets: ['router:65536']}\n", "proxy.targets" },
    { "proxy: {targets: ['10.0.0.0/33:80']}\n", "proxy.targets" },
    { "proxy: {targets: ['fd00::1:80']}\n", "proxy.targets" },
    { "proxy: {targets: ['-x:80']}\n", "proxy.targets" },
    { "proxy: {targets: ['*:80']}\n", "proxy.targets" },
};

START_TEST(a_bad_file_closes_everything_and_says_why)
{
    load(bad[_i].yaml);
    ck_assert_int_eq(policy.state, POLICY_CLOSED);
    ck_assert_msg(strstr(policy.problem, bad[_i].says), "`%s` does not say %s", policy.problem,
                  bad[_i].says);
    ck_assert_int_eq(policy_limit_interval(&policy, 5000000), 0);
    ck_assert(!COMMAND("/bin/true"));
    ck_assert_ptr_nonnull(strstr(why.text, "cannot be used"));
}
END_TEST

START_TEST(a_mistake_in_one_place_takes_back_what_another_allows)
{
    load("commands: {allow: true, programs: ['*']}\nfiles: {raed: [/var/log/]}\n");
    ck_assert_int_eq(policy.state, POLICY_CLOSED);
    ck_assert(!COMMAND("/bin/true"));
    ck_assert_ptr_nonnull(strstr(policy.problem, "did you mean"));
}
END_TEST

START_TEST(a_file_that_others_may_write_is_not_believed)
{
    load_well("commands: {allow: true, programs: ['*']}\n");
    ck_assert(COMMAND("/bin/true"));
    for (unsigned mode = 0646; mode >= 0606; mode -= 040) {
        ck_assert_int_eq(chmod(file, mode & 0777), 0);
        policy_free(&policy);
        ck_assert_int_eq(policy_load(file, &policy), 0);
        ck_assert_int_eq(policy.state, POLICY_CLOSED);
        ck_assert_ptr_nonnull(strstr(policy.problem, "chmod go-w"));
    }
    ck_assert_int_eq(chmod(file, 0660), 0);
    policy_free(&policy);
    ck_assert_int_eq(policy_load(file, &policy), 0);
    ck_assert_int_eq(policy.state, POLICY_CLOSED);
}
END_TEST

START_TEST(a_file_of_another_user_is_not_believed)
{
    if (geteuid() != 0)
        return; /* nobody else can give a file away */
    write_file(file, "commands: {allow: true, programs: ['*']}\n");
    ck_assert_int_eq(chown(file, 12345, 0), 0);
    ck_assert_int_eq(policy_load(file, &policy), 0);
    ck_assert_int_eq(policy.state, POLICY_CLOSED);
    ck_assert_ptr_nonnull(strstr(policy.problem, "chown root"));
}
END_TEST

START_TEST(a_link_or_a_fifo_in_its_place_is_not_believed)
{
    write_file(in_home("real.yaml"), "commands: {allow: true, programs: ['*']}\n");
    ck_assert_int_eq(symlink("real.yaml", file), 0);
    ck_assert_int_eq(policy_load(file, &policy), 0);
    ck_assert_int_eq(policy.state, POLICY_CLOSED);
    ck_assert_ptr_nonnull(strstr(policy.problem, "link"));
    policy_free(&policy);
    ck_assert_int_eq(unlink(file), 0);
    ck_assert_int_eq(mkfifo(file, 0600), 0);
    ck_assert_int_eq(policy_load(file, &policy), 0);
    ck_assert_int_eq(policy.state, POLICY_CLOSED);
    ck_assert_ptr_nonnull(strstr(policy.problem, "regular"));
}
END_TEST

START_TEST(what_is_printed_reads_back_the_same)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    char digest[65];

    load_well("interval: {min: 5s}\ncommands: {allow: true, programs: [/bin/ls ...]}\n"
              "files: {read: [/var/log/]}\nproxy: {targets: ['[fd00::/8]:22']}\n");
    policy_print(&policy, &text);
    memcpy(digest, policy.sha256, sizeof(digest));
    load_well(buf_text(&text));
    ck_assert_str_eq(policy.sha256, digest);
    ck_assert(COMMAND("/bin/ls", "-l"));
}
END_TEST

/* ---- interval ---- */

START_TEST(an_interval_is_held_within_bounds)
{
    load_well("interval: {min: 5s, max: 1m}\n");
    ck_assert_int_eq(policy_limit_interval(&policy, 1000000), 5000000);
    ck_assert_int_eq(policy_limit_interval(&policy, 10000000), 10000000);
    ck_assert_int_eq(policy_limit_interval(&policy, INT64_MAX), 60000000);
    ck_assert_int_eq(policy_limit_interval(&policy, 0), 0);
    ck_assert_int_eq(policy_limit_interval(&policy, -5), 0);
    load_well("interval: {allow: false}\n");
    ck_assert_int_eq(policy_limit_interval(&policy, 10000000), 0);
}
END_TEST

/* ---- commands and terminals ---- */

START_TEST(a_command_is_its_program_and_its_words)
{
    load_well("commands:\n  allow: true\n  programs:\n    - /usr/bin/uptime\n"
              "    - /usr/bin/systemctl restart web-*\n    - /usr/bin/journalctl -u ? ...\n"
              "    - /bin/kill *\n");
    ck_assert(COMMAND("/usr/bin/uptime"));
    ck_assert(!COMMAND("/usr/bin/uptime", "-p")); /* words are not for free */
    ck_assert(!COMMAND("uptime"));
    ck_assert(!COMMAND("/usr/bin/../bin/uptime"));
    ck_assert(!COMMAND("/usr/bin//uptime"));
    ck_assert(!COMMAND("/usr/bin/uptime2"));
    ck_assert(!COMMAND("/usr/bin/uptim"));
    ck_assert(!COMMAND("/usr/bin/uptime\n"));
    ck_assert(COMMAND("/usr/bin/systemctl", "restart", "web-1"));
    ck_assert(!COMMAND("/usr/bin/systemctl", "restart", "db-1"));
    ck_assert(!COMMAND("/usr/bin/systemctl", "restart"));
    ck_assert(!COMMAND("/usr/bin/systemctl", "restart", "web-1", "db-1"));
    ck_assert(!COMMAND("/usr/bin/systemctl", "restart web-1"));
    ck_assert(COMMAND("/usr/bin/journalctl", "-u", "x"));
    ck_assert(COMMAND("/usr/bin/journalctl", "-u", "x", "--since", "today"));
    ck_assert(!COMMAND("/usr/bin/journalctl", "-u", "xy"));
    ck_assert(COMMAND("/bin/kill", "4711"));
    ck_assert(!COMMAND("/bin/kill", "-9")); /* a wildcard is no option */
    ck_assert(!policy_allows_command(&policy, NULL, 0, 0, &why));
}
END_TEST

START_TEST(programs_without_permission_are_no_permission)
{
    load_well("commands: {programs: ['*']}\n");
    ck_assert(!COMMAND("/bin/true"));
    load_well("commands: {allow: true}\n");
    ck_assert(!COMMAND("/bin/true"));
    load_well("commands: {allow: true, programs: ['*']}\n");
    ck_assert(COMMAND("/bin/true", "-any", "words"));
    ck_assert(!COMMAND("true"));
}
END_TEST

START_TEST(commands_and_terminals_have_a_number)
{
    const char *const argv[] = { "/bin/true" };

    load_well("commands: {allow: true, programs: ['*'], max_running: 2}\n"
              "terminals: {allow: true, max_open: 1}\n");
    ck_assert(policy_allows_command(&policy, argv, 1, 1, &why));
    ck_assert(!policy_allows_command(&policy, argv, 1, 2, &why));
    ck_assert_ptr_nonnull(strstr(why.text, "commands.max_running"));
    ck_assert(policy_allows_terminal(&policy, 0, &why));
    ck_assert(!policy_allows_terminal(&policy, 1, &why));
    ck_assert_ptr_nonnull(strstr(why.text, "terminals.max_open"));
}
END_TEST

/* ---- targets ---- */

static const struct {
    const char *host;
    uint16_t port;
    bool is_allowed;
} targets[] = {
    { "router", 443, true },
    { "ROUTER", 443, true },
    { "router", 80, false },
    { "router.", 443, false },
    { "router2", 443, false },
    { "10.1.2.3", 8000, true },
    { "10.1.2.3", 8100, true },
    { "10.1.2.3", 7999, false },
    { "10.1.2.3", 8101, false },
    { "11.1.2.3", 8000, false },
    { "::ffff:10.1.2.3", 8000, true }, /* the same address in other
                                          clothes */
    { "10.1.2.3/8", 8000, false },
    { "10.0.0.0/8", 8000, false },
    /* a rule is no host */ { "010.1.2.3", 8000, false },
    { "0x0a.1.2.3", 8000, false },
    { "167838211", 8000, false }, /* 10.1.2.3 as a number is a name here */
    { "fd00::1", 22, true },
    { "fe80::1", 22, false },
    { "192.0.2.7", 1, true },
    { "192.0.2.7", 65535, true },
    { "192.0.2.8", 1, false },
    { "", 443, false },
};

START_TEST(a_target_is_a_name_or_within_a_range)
{
    load_well("proxy:\n  targets: ['router:443', '10.0.0.0/8:8000-8100', '[fd00::/8]:22', "
              "'192.0.2.7:*']\n  max_open: 3\n");
    ck_assert_msg(policy_allows_target(&policy, targets[_i].host, targets[_i].port, 0, &why) ==
                      targets[_i].is_allowed,
                  "%s port %u: %s", targets[_i].host, targets[_i].port, why.text);
    ck_assert(!policy_allows_target(&policy, targets[_i].host, targets[_i].port, 3, &why));
}
END_TEST

/* ---- settings ---- */

START_TEST(the_hub_sets_what_is_named_and_never_what_is_ours)
{
    static const char *const ours[] = {
        "hub",           "hub_fallback",          "server_name",     "identity",
        "state_dir",     "policy_file",           "tls.min_version", "collect.root",
        "upload.folder", "collect.exec.commands", "logs.files",      "inventory.certificates",
    };

    load_well("configuration: {settings: [interval, collect.*]}\n");
    ck_assert(policy_allows_setting(&policy, "interval", &why));
    ck_assert(policy_allows_setting(&policy, "collect.per_cpu", &why));
    ck_assert(!policy_allows_setting(&policy, "log.level", &why));
    load_well("configuration: {settings: ['*']}\n");
    ck_assert(policy_allows_setting(&policy, "log.level", &why));
    for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++) {
        ck_assert_msg(!policy_allows_setting(&policy, ours[i], &why), "%s", ours[i]);
        ck_assert_ptr_nonnull(strstr(why.text, "no hub sets it"));
    }
}
END_TEST

/* ---- files ---- */

static void make_tree(void)
{
    ck_assert_int_eq(mkdir(in_home("log"), 0700), 0);
    ck_assert_int_eq(mkdir(in_home("log/web"), 0700), 0);
    ck_assert_int_eq(mkdir(in_home("secret"), 0700), 0);
    write_file(in_home("log/a.log"), "a");
    write_file(in_home("log/web/b.log"), "bb");
    write_file(in_home("log/.hidden"), "h");
    write_file(in_home("log/web/server.key"), "k");
    write_file(in_home("log/large"), "0123456789");
    write_file(in_home("secret/s"), "s");
    write_file(in_home("alone"), "x");
    write_file(in_home("alone2"), "y");
    ck_assert_int_eq(symlink("../secret/s", in_home("log/link")), 0);
    ck_assert_int_eq(symlink("a.log", in_home("log/link-within")), 0);
    ck_assert_int_eq(symlink("../secret", in_home("log/out")), 0);
    ck_assert_int_eq(symlink("/proc/self/root", in_home("log/magic")), 0);
    ck_assert_int_eq(link(in_home("secret/s"), in_home("log/hard")), 0);
    ck_assert_int_eq(mkfifo(in_home("log/fifo"), 0600), 0);
}

static int open_file(const char *name, char ret_text[64])
{
    CLEANUP(fd_closep) int fd = -1;
    char path[256];
    int r;

    snprintf(path, sizeof(path), "%s%s%s", name[0] == '/' ? "" : home, name[0] == '/' ? "" : "/",
             name);
    r = policy_open_file(&policy, path, &fd, &why);
    if (r == 0) {
        ssize_t n = read(fd, ret_text, 63);

        ret_text[n > 0 ? n : 0] = '\0';
    }
    return r;
}

static const struct {
    const char *name;
    int outcome;
    const char *text; /* what is in it, or what is said */
} paths[] = {
    { "log/a.log", POLICY_FILE_OK, "a" },
    { "log/web/b.log", POLICY_FILE_OK, "bb" },
    { "alone", POLICY_FILE_OK, "x" },
    { "alone2", POLICY_FILE_DENIED, "files.read" },
    { "log", POLICY_FILE_DENIED, "files.read" },
    { "log/", POLICY_FILE_DENIED, "whole path" },
    { "log/web", POLICY_FILE_DENIED, "regular" },
    { "log/none", POLICY_FILE_ABSENT, "No such file" },
    { "log/none/none", POLICY_FILE_ABSENT, "No such file" },
    { "log/a.log/x", POLICY_FILE_DENIED, "directory" },
    { "log/../secret/s", POLICY_FILE_DENIED, "whole path" },
    { "log/..", POLICY_FILE_DENIED, "whole path" },
    { "log/./a.log", POLICY_FILE_DENIED, "whole path" },
    { "log//a.log", POLICY_FILE_DENIED, "whole path" },
    { "secret/s", POLICY_FILE_DENIED, "files.read" },
    { "log/link", POLICY_FILE_DENIED, "link" },
    { "log/link-within", POLICY_FILE_DENIED, "link" },
    { "log/out/s", POLICY_FILE_DENIED, "link" },
    { "log/magic/etc/hostname", POLICY_FILE_DENIED, "link" },
    { "log/hard", POLICY_FILE_DENIED, "hard link" },
    { "log/fifo", POLICY_FILE_DENIED, "regular" },
    { "log/.hidden", POLICY_FILE_DENIED, "files.deny" },
    { "log/web/server.key", POLICY_FILE_DENIED, "files.deny" },
    { "log/large", POLICY_FILE_DENIED, "files.max_size" },
    { "/etc/passwd", POLICY_FILE_DENIED, "files.read" },
    { "/", POLICY_FILE_DENIED, "whole path" },
};

START_TEST(a_file_is_read_below_what_is_named_and_nowhere_else)
{
    char yaml[512], text[64] = "";

    make_tree();
    snprintf(yaml, sizeof(yaml), "files: {read: [%s/log/, %s/alone], max_size: 9}\n", home, home);
    load_well(yaml);
    ck_assert_msg(open_file(paths[_i].name, text) == paths[_i].outcome, "%s: %s", paths[_i].name,
                  why.text);
    if (paths[_i].outcome == 0)
        ck_assert_str_eq(text, paths[_i].text);
    else
        ck_assert_msg(strstr(why.text, paths[_i].text), "`%s` does not say %s", why.text,
                      paths[_i].text);
}
END_TEST

START_TEST(a_path_with_a_zero_or_a_control_is_none)
{
    int fd = -1;

    load_well("files: {read: [/tmp/]}\n");
    ck_assert_int_eq(policy_open_file(&policy, "", &fd, &why), POLICY_FILE_DENIED);
    ck_assert_int_eq(policy_open_file(&policy, "/tmp/a\nb", &fd, &why), POLICY_FILE_DENIED);
    ck_assert_int_eq(policy_open_file(&policy, "tmp/a", &fd, &why), POLICY_FILE_DENIED);
}
END_TEST

START_TEST(what_the_administrator_wrote_may_be_behind_links)
{
    char yaml[256], text[64] = "";

    make_tree();
    ck_assert_int_eq(symlink("log", in_home("logs")), 0);
    snprintf(yaml, sizeof(yaml), "files: {read: [%s/logs/]}\n", home);
    load_well(yaml);
    ck_assert_int_eq(open_file("logs/a.log", text), 0);
    ck_assert_int_eq(open_file("logs/link", text), POLICY_FILE_DENIED);
}
END_TEST

/* Both ways of finding say the same; a kernel without openat2() takes the second. */
START_TEST(both_ways_of_finding_keep_below)
{
    static const char *const out[] = { "out/s",       "magic/etc",       "..",
                                       "../secret/s", "web/../../alone", "a.log/x" };
    int directory, fd, other;

    make_tree();
    directory = open(in_home("log"), O_PATH | O_DIRECTORY);
    ck_assert_int_ge(directory, 0);
    for (size_t i = 0; i < sizeof(out) / sizeof(out[0]); i++) {
        ck_assert_msg(beneath_open_by_steps(directory, out[i], &fd) < 0, "%s", out[i]);
        ck_assert_msg(beneath_open_at_once(directory, out[i], &fd) < 0, "%s", out[i]);
    }
    ck_assert_int_eq(beneath_open_by_steps(directory, "web/b.log", &fd), 0);
    if (beneath_open_at_once(directory, "web/b.log", &other) == 0) {
        struct stat a, b;

        ck_assert_int_eq(fstat(fd, &a) | fstat(other, &b), 0);
        ck_assert_uint_eq(a.st_ino, b.st_ino);
        close(other);
    }
    close(fd);
    close(directory);
}
END_TEST

#define COUNT(rows) ((int) (sizeof(rows) / sizeof((rows)[0])))

Suite *suite(void)
{
    Suite *s = suite_create("agent/policy");
    TCase *load_case = tcase_create("file"), *ask = tcase_create("rules"),
          *files = tcase_create("files");

    tcase_add_checked_fixture(load_case, set_up, tear_down);
    tcase_add_test(load_case, without_a_file_all_that_is_risky_is_off);
    tcase_add_test(load_case, an_empty_file_is_a_policy_too);
    tcase_add_loop_test(load_case, a_bad_file_closes_everything_and_says_why, 0, COUNT(bad));
    tcase_add_test(load_case, a_mistake_in_one_place_takes_back_what_another_allows);
    tcase_add_test(load_case, a_file_that_others_may_write_is_not_believed);
    tcase_add_test(load_case, a_file_of_another_user_is_not_believed);
    tcase_add_test(load_case, a_link_or_a_fifo_in_its_place_is_not_believed);
    tcase_add_test(load_case, what_is_printed_reads_back_the_same);
    suite_add_tcase(s, load_case);

    tcase_add_checked_fixture(ask, set_up, tear_down);
    tcase_add_test(ask, an_interval_is_held_within_bounds);
    tcase_add_test(ask, a_command_is_its_program_and_its_words);
    tcase_add_test(ask, programs_without_permission_are_no_permission);
    tcase_add_test(ask, commands_and_terminals_have_a_number);
    tcase_add_loop_test(ask, a_target_is_a_name_or_within_a_range, 0, COUNT(targets));
    tcase_add_test(ask, the_hub_sets_what_is_named_and_never_what_is_ours);
    suite_add_tcase(s, ask);

    tcase_add_checked_fixture(files, set_up, tear_down);
    tcase_add_loop_test(files, a_file_is_read_below_what_is_named_and_nowhere_else, 0,
                        COUNT(paths));
    tcase_add_test(files, a_path_with_a_zero_or_a_control_is_none);
    tcase_add_test(files, what_the_administrator_wrote_may_be_behind_links);
    tcase_add_test(files, both_ways_of_finding_keep_below);
    suite_add_tcase(s, files);
    return s;
}
