/* SPDX-License-Identifier: Apache-2.0 */
#include "common/conf/conf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/file.h"
#include "suite.h"

struct settings {
    bool is_reflecting;
    uint64_t n_threads;
    int64_t timeout_us;
    uint64_t cache_bytes;
    char *address;
    unsigned level;
    struct conf_list labels;
    char *motto;
};

static const char *const levels[] = { "info", "debug", "error", NULL };

#define AT(field) offsetof(struct settings, field)

static const struct conf_row rows[] = {
    { "listen.grpc", CONF_TEXT, AT(address), "0.0.0.0:8082", 1, 64, NULL, false,
      "Address to listen on." },
    { "listen.reflection", CONF_BOOL, AT(is_reflecting), "true", 0, 0, NULL, true,
      "Serve reflection." },
    { "log.level", CONF_CHOICE, AT(level), "info", 0, 0, levels, true, "What is logged." },
    { "store.limits.cache", CONF_SIZE, AT(cache_bytes), "64MiB", 4096, 1L << 40, NULL, false,
      "Memory for blocks, bytes." },
    { "store.threads", CONF_U64, AT(n_threads), "4", 1, 64, NULL, false, "Readers." },
    /* behind another section on purpose: printing puts it beside its like */
    { "listen.timeout", CONF_DURATION, AT(timeout_us), "30s", 1000000, 3600000000, NULL, true,
      "Until a silent peer is dropped." },
    { "labels", CONF_LIST, AT(labels), NULL, 0, 3, NULL, true, "Put on each series." },
    { "motto", CONF_TEXT, AT(motto), NULL, 0, 0, NULL, true, NULL },
    { 0 },
};

static const struct conf_table table = { rows, sizeof(struct settings), "SENTINEL_TEST" };

static char directory[64];
static struct settings settings;
static struct conf_error error;

static void set_up(void)
{
    strcpy(directory, "/tmp/test-conf-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    ck_assert_int_eq(chdir(directory), 0);
    settings = (struct settings){ 0 };
    error = (struct conf_error){ 0 };
}

static void tear_down(void)
{
    conf_free(&table, &settings);
    ck_assert_int_eq(chdir("/"), 0);
    ck_assert_int_eq(file_remove_tree(directory), 0);
}

static void write_file(const char *path, const char *text)
{
    ck_assert_int_eq(file_replace(path, span_of_text(text), 0644), 0);
}

static int load_sources(const struct conf_sources *sources)
{
    conf_free(&table, &settings);
    return conf_load(&table, sources, &settings, &error);
}

static int load_text(const char *text)
{
    write_file("config.yaml", text);
    return load_sources(&(struct conf_sources){ .file = "config.yaml", .file_is_wanted = true });
}

/* ---- files ---- */

START_TEST(defaults_hold_without_any_source)
{
    ck_assert_int_eq(load_sources(&(struct conf_sources){ 0 }), 0);
    ck_assert_str_eq(settings.address, "0.0.0.0:8082");
    ck_assert(settings.is_reflecting);
    ck_assert_uint_eq(settings.level, 0);
    ck_assert_uint_eq(settings.cache_bytes, 64 << 20);
    ck_assert_uint_eq(settings.n_threads, 4);
    ck_assert_int_eq(settings.timeout_us, 30000000);
    ck_assert_uint_eq(settings.labels.n_items, 0);
    ck_assert_str_eq(settings.motto, "");
}
END_TEST

START_TEST(a_file_sets_every_type)
{
    ck_assert_int_eq(load_text("listen:\n"
                               "  grpc: \"[::]:1\"\n"
                               "  reflection: false\n"
                               "  timeout: 1m30s\n"
                               "log: {level: debug}\n"
                               "store:\n"
                               "  limits:\n"
                               "    cache: 2GiB\n"
                               "  threads: 64\n"
                               "labels: [a, 'b c']\n"
                               "motto: 007\n"),
                     0);
    ck_assert_str_eq(settings.address, "[::]:1");
    ck_assert(!settings.is_reflecting);
    ck_assert_int_eq(settings.timeout_us, 90000000);
    ck_assert_uint_eq(settings.level, 1);
    ck_assert_uint_eq(settings.cache_bytes, 2ULL << 30);
    ck_assert_uint_eq(settings.n_threads, 64);
    ck_assert_uint_eq(settings.labels.n_items, 2);
    ck_assert_str_eq(settings.labels.items[1], "b c");
    ck_assert_str_eq(settings.motto, "007");
}
END_TEST

START_TEST(json_is_yaml_too)
{
    ck_assert_int_eq(load_text("{\"store\": {\"threads\": 2, \"limits\": {\"cache\": \"1MiB\"}},\n"
                               " \"labels\": [\"x\"]}"),
                     0);
    ck_assert_uint_eq(settings.n_threads, 2);
    ck_assert_uint_eq(settings.cache_bytes, 1 << 20);
    ck_assert_str_eq(settings.labels.items[0], "x");
}
END_TEST

START_TEST(empty_files_and_empty_sections_change_nothing)
{
    static const char *const texts[] = { "", "# nothing\n", "---\n",
                                         "listen:\n  # grpc: x\nlog: ~\n",
                                         "store: {limits: {}}\n" };

    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
        ck_assert_msg(load_text(texts[i]) == 0, "%s: %s", texts[i], error.text);
        ck_assert_uint_eq(settings.n_threads, 4);
    }
}
END_TEST

static const struct {
    const char *text;
    const char *error;
} refusals[] = {
    { "listen:\n  grcp: x\n",
      "config.yaml:2:3: unknown key `listen.grcp`; did you mean `listen.grpc`?" },
    { "lisen:\n  grpc: x\n", "config.yaml:1:1: unknown key `lisen`; did you mean `listen`?" },
    { "zzzzzzzzzzzz: 1\n", "config.yaml:1:1: unknown key `zzzzzzzzzzzz`" },
    { "log:\n  level: info\n  level: info\n",
      "config.yaml:3:3: `log.level` is given twice in this file; remove one" },
    { "log: {}\nlog: {}\n", "config.yaml:2:1: `log` is given twice in this file; remove one" },
    { "listen.grpc: a\nlisten: {grpc: b}\n",
      "config.yaml:2:10: `listen.grpc` is given twice in this file; remove one" },
    { "listen: {reflection: yes}\n",
      "config.yaml:1:22: `listen.reflection` must be true or false, not `yes`" },
    { "listen: {reflection: \"true\"}\n",
      "config.yaml:1:22: `listen.reflection` must be true or false, not the text `true`" },
    { "store: {threads: -1}\n",
      "config.yaml:1:18: `store.threads` must be a whole number, not `-1`" },
    { "store: {threads: \"4\"}\n",
      "config.yaml:1:18: `store.threads` must be a whole number, not the text `4`" },
    { "store: {threads: 0}\n", "config.yaml:1:18: `store.threads` is 0, but must be 1 .. 64" },
    { "store: {threads: 65}\n", "config.yaml:1:18: `store.threads` is 65, but must be 1 .. 64" },
    { "store: {threads: 18446744073709551615}\n",
      "config.yaml:1:18: `store.threads` is 18446744073709551615, but must be 1 .. 64" },
    { "store: {limits: {cache: 1}}\n",
      "config.yaml:1:25: `store.limits.cache` is 1, but must be 4KiB .. 1TiB" },
    { "store: {limits: {cache: big}}\n",
      "config.yaml:1:25: `store.limits.cache` must be a size such as 64MiB, not `big`" },
    { "listen: {timeout: 2h}\n", "config.yaml:1:19: `listen.timeout` is 2h, but must be 1s .. 1h" },
    { "listen: {timeout: 30}\n",
      "config.yaml:1:19: `listen.timeout` must be a duration such as 30s, not `30`" },
    { "listen: {grpc: \"\"}\n",
      "config.yaml:1:16: `listen.grpc` has 0 bytes, but must have 1 bytes .. 64 bytes" },
    { "log: {level: loud}\n",
      "config.yaml:1:14: `log.level` must be one of info, debug, error, not `loud`" },
    { "labels: a\n", "config.yaml:1:9: `labels` must be a list, not `a`" },
    { "labels: [a, b, c, d]\n",
      "config.yaml:1:9: `labels` has 4 items, but must have 0 items .. 3 items" },
    { "labels: [[a]]\n", "config.yaml:1:10: `labels` must be a list of texts" },
    { "motto: [a]\n", "config.yaml:1:8: `motto` must be a text, not a list" },
    { "motto: {a: b}\n", "config.yaml:1:8: `motto` must be a text, not a mapping" },
    { "motto: ~\n",
      "config.yaml:1:8: `motto` has no value; remove the key, or write \"\" for an empty text" },
    { "motto: \"a\\0b\"\n", "config.yaml:1:8: `motto` has a NUL character" },
    { "listen: here\n", "config.yaml:1:9: `listen` is a section and takes no value of its own" },
    { "- a\n", "config.yaml:1:1: the file must be a mapping of sections" },
    { "motto: &m a\n", "config.yaml:1:8: anchors (`&name`) are not taken here" },
    { "motto: *m\n", "config.yaml:1:8: aliases (`*name`) are not taken here" },
    { "motto: !!str a\n", "config.yaml:1:8: tags (`!name`) are not taken here" },
    { "? [a]\n: b\n", "config.yaml:1:3: a key must be a plain word" },
    { "motto: a\n---\nmotto: b\n", "config.yaml:2:1: a second document; one file holds one" },
    { "motto: \"a\n",
      "config.yaml:2:1: found unexpected end of stream while scanning a quoted scalar" },
    { "a\x1b[1m: 1\n", "config.yaml: byte 1: control characters are not allowed" },
    { "motto: \xff\n", "config.yaml: byte 7: invalid leading UTF-8 octet" },
};

START_TEST(a_bad_file_is_refused_in_these_words)
{
    settings.n_threads = 99;
    write_file("config.yaml", refusals[_i].text);
    ck_assert_int_eq(
        conf_load(&table, &(struct conf_sources){ .file = "config.yaml", .file_is_wanted = true },
                  &settings, &error),
        CONF_BAD);
    ck_assert_str_eq(error.text, refusals[_i].error);
    ck_assert_uint_eq(settings.n_threads, 99); /* untouched */
}
END_TEST

START_TEST(an_absent_file_is_an_error_only_when_it_is_wanted)
{
    ck_assert_int_eq(load_sources(&(struct conf_sources){ .file = "none.yaml" }), 0);
    conf_free(&table, &settings);
    ck_assert_int_eq(
        load_sources(&(struct conf_sources){ .file = "none.yaml", .file_is_wanted = true }),
        CONF_BAD);
    ck_assert_str_eq(error.text, "none.yaml: no such file");
}
END_TEST

START_TEST(a_very_long_key_is_refused)
{
    char text[1024];

    memset(text, 'k', sizeof(text));
    strcpy(text + 900, ": 1\n");
    ck_assert_int_eq(load_text(text), CONF_BAD);
    ck_assert_str_eq(error.text, "config.yaml:1:1: unknown key; no key is that long");
}
END_TEST

/* ---- layers ---- */

START_TEST(later_sources_win_over_earlier_ones)
{
    static const struct conf_flag flags[] = { { "log.level", "error" }, { "store.threads", "9" } };
    struct conf_sources sources = { .file = "config.yaml", .file_is_wanted = true };

    write_file("config.yaml",
               "store: {threads: 5}\nmotto: file\nlog: {level: debug}\nlabels: [a, b]\n");
    ck_assert_int_eq(load_sources(&sources), 0);
    ck_assert_uint_eq(settings.n_threads, 5);

    ck_assert_int_eq(file_make_directories("conf.d", 0755), 0);
    write_file("conf.d/20-b.yaml", "motto: b\n");
    write_file("conf.d/10-a.yaml", "motto: a\nstore: {threads: 6}\nlabels: [c]\n");
    write_file("conf.d/30-c.yaml.bak", "motto: c\n");
    write_file("conf.d/.40-d.yaml", "motto: d\n");
    ck_assert_int_eq(load_sources(&sources), 0);
    ck_assert_str_eq(settings.motto, "b");
    ck_assert_uint_eq(settings.n_threads, 6);
    ck_assert_uint_eq(settings.labels.n_items, 1);

    setenv("SENTINEL_TEST_STORE_THREADS", "7", 1);
    setenv("SENTINEL_TEST_STORE_LIMITS_CACHE", "8KiB", 1);
    setenv("SENTINEL_TEST_LABELS", " x, y ,", 1);
    ck_assert_int_eq(load_sources(&sources), 0);
    ck_assert_uint_eq(settings.n_threads, 6);
    sources.use_environment = true;
    ck_assert_int_eq(load_sources(&sources), 0);
    ck_assert_uint_eq(settings.n_threads, 7);
    ck_assert_uint_eq(settings.cache_bytes, 8192);
    ck_assert_uint_eq(settings.labels.n_items, 2);
    ck_assert_str_eq(settings.labels.items[0], "x");
    ck_assert_str_eq(settings.labels.items[1], "y");

    sources.flags = flags;
    sources.n_flags = 2;
    ck_assert_int_eq(load_sources(&sources), 0);
    ck_assert_uint_eq(settings.n_threads, 9);
    ck_assert_uint_eq(settings.level, 2);
}
END_TEST

START_TEST(errors_outside_files_name_the_variable_or_the_flag)
{
    static const struct conf_flag bad[] = { { "store.threads", "none" } };
    static const struct conf_flag unknown[] = { { "store.thread", "1" } };

    setenv("SENTINEL_TEST_LISTEN_REFLECTION", "1", 1);
    ck_assert_int_eq(load_sources(&(struct conf_sources){ .use_environment = true }), CONF_BAD);
    ck_assert_str_eq(error.text,
                     "SENTINEL_TEST_LISTEN_REFLECTION: `listen.reflection` must be true or "
                     "false, not `1`");
    setenv("SENTINEL_TEST_LISTEN_REFLECTION", "true", 1);
    setenv("SENTINEL_TEST_MOTTO", "\xff", 1);
    ck_assert_int_eq(load_sources(&(struct conf_sources){ .use_environment = true }), CONF_BAD);
    ck_assert_str_eq(error.text, "SENTINEL_TEST_MOTTO: `motto` is not UTF-8");

    ck_assert_int_eq(load_sources(&(struct conf_sources){ .flags = bad, .n_flags = 1 }), CONF_BAD);
    ck_assert_str_eq(error.text,
                     "--store-threads: `store.threads` must be a whole number, not `none`");
    ck_assert_int_eq(load_sources(&(struct conf_sources){ .flags = unknown, .n_flags = 1 }),
                     CONF_BAD);
    ck_assert_str_eq(error.text, "--store-thread: there is no such setting");
}
END_TEST

START_TEST(a_repeated_list_flag_collects_and_replaces_what_was_below)
{
    static const struct conf_flag flags[] = { { "labels", "x,y" }, { "labels", "z" } };

    write_file("config.yaml", "labels: [a]\n");
    ck_assert_int_eq(
        load_sources(&(struct conf_sources){ .file = "config.yaml", .flags = flags, .n_flags = 2 }),
        0);
    ck_assert_uint_eq(settings.labels.n_items, 3);
    ck_assert_str_eq(settings.labels.items[0], "x");
    ck_assert_str_eq(settings.labels.items[2], "z");
}
END_TEST

/* ---- printing ---- */

static const char golden[] =
    "listen:\n"
    "  # Address to listen on.\n"
    "  grpc: \"[::]:1\"\n"
    "  # Serve reflection.\n"
    "  reflection: false\n"
    "  # Until a silent peer is dropped.\n"
    "  timeout: 1m30s\n"
    "log:\n"
    "  # What is logged.\n"
    "  level: debug\n"
    "store:\n"
    "  limits:\n"
    "    # Memory for blocks, bytes.\n"
    "    cache: 1000000\n"
    "  # Readers.\n"
    "  threads: 3\n"
    "# Put on each series.\n"
    "labels:\n"
    "  - \"a: b\"\n"
    "  - \"~\"\n"
    "motto: \"say \\\"hi\\\" \\\\ \\n\\t\\u0007\\u0085\\u2028\\ufeff gr\xc3\xbc\xc3\x9f "
    "\xf0\x9f\x90\xa7 # no comment\"\n";

START_TEST(what_is_printed_is_golden_and_loads_to_the_same)
{
    CLEANUP(buf_deinit) struct buf printed = { 0 };
    CLEANUP(buf_deinit) struct buf again = { 0 };
    CLEANUP(buf_deinit) struct buf diff = { 0 };
    struct settings first = { 0 };

    ck_assert_int_eq(load_text(golden), 0);
    ck_assert_str_eq(settings.motto,
                     "say \"hi\" \\ \n\t\x07\xc2\x85\xe2\x80\xa8\xef\xbb\xbf gr\xc3\xbc\xc3\x9f "
                     "\xf0\x9f\x90\xa7 # no comment");
    conf_print(&table, &settings, &printed);
    ck_assert_str_eq(buf_text(&printed), golden);

    first = settings;
    settings = (struct settings){ 0 };
    ck_assert_int_eq(load_text(buf_text(&printed)), 0);
    conf_print(&table, &settings, &again);
    ck_assert_str_eq(buf_text(&again), golden);
    conf_diff_fixed(&table, &first, &settings, &diff);
    ck_assert_str_eq(buf_text(&diff), "");
    conf_free(&table, &first);
}
END_TEST

START_TEST(defaults_print_and_load_to_the_same)
{
    CLEANUP(buf_deinit) struct buf printed = { 0 };
    CLEANUP(buf_deinit) struct buf again = { 0 };

    ck_assert_int_eq(load_sources(&(struct conf_sources){ 0 }), 0);
    conf_print(&table, &settings, &printed);
    ck_assert_ptr_nonnull(strstr(buf_text(&printed), "cache: 64MiB\n"));
    ck_assert_ptr_nonnull(strstr(buf_text(&printed), "labels: []\n"));
    ck_assert_int_eq(load_text(buf_text(&printed)), 0);
    conf_print(&table, &settings, &again);
    ck_assert_str_eq(buf_text(&again), buf_text(&printed));
}
END_TEST

START_TEST(the_diff_names_only_rows_that_need_a_restart)
{
    CLEANUP(buf_deinit) struct buf diff = { 0 };
    struct settings other = { 0 };

    ck_assert_int_eq(load_sources(&(struct conf_sources){ 0 }), 0);
    write_file("other.yaml",
               "listen: {grpc: x, reflection: false, timeout: 1s}\nstore: {threads: 1}\n"
               "log: {level: error}\nlabels: [q]\nmotto: new\n");
    ck_assert_int_eq(
        conf_load(&table, &(struct conf_sources){ .file = "other.yaml" }, &other, &error), 0);
    conf_diff_fixed(&table, &settings, &other, &diff);
    ck_assert_str_eq(buf_text(&diff), "listen.grpc, store.threads");
    conf_free(&table, &other);
}
END_TEST

/* ---- command lines ---- */

static const char *state;
static bool is_json;
static bool is_help;
static struct conf_list excludes;

static const struct conf_option options[] = {
    { "--state-dir", NULL, "DIR", "Where everything is kept.", &state, NULL, NULL },
    { "--json", NULL, NULL, "Answer as JSON.", NULL, &is_json, NULL },
    { "--listen", "listen.grpc", "ADDRESS", "Where to listen.", NULL, NULL, NULL },
    { "--reflect", "listen.reflection", NULL, "Serve reflection.", NULL, NULL, NULL },
    { "--exclude", NULL, "PATTERN", "Leave out; may be repeated.", NULL, NULL, &excludes },
    { "-h", NULL, NULL, "This help.", NULL, &is_help, NULL },
    { 0 },
};

static struct conf_args args;

#define ARGS(...) parse_args((const char *[]){ "program", __VA_ARGS__, NULL })

static int parse_args(const char *const *words)
{
    int n_words = 0;

    while (words[n_words])
        n_words++;
    return conf_parse_args(n_words, (char **) (uintptr_t) words, options, &table, &args, &error);
}

START_TEST(flags_options_and_words_are_told_apart)
{
    ck_assert_int_eq(ARGS("run", "--state-dir", "/x", "--store-threads=3", "--json", "-",
                          "--listen", "a:1", "--listen-timeout", "5s", "-h", "--exclude=a",
                          "--exclude", "b", "--", "--json", "-z"),
                     0);
    ck_assert_str_eq(state, "/x");
    ck_assert(is_json && is_help);
    ck_assert_uint_eq(args.n_flags, 3);
    ck_assert_str_eq(args.flags[0].row, "store.threads");
    ck_assert_str_eq(args.flags[0].value, "3");
    ck_assert_str_eq(args.flags[1].row, "listen.grpc");
    ck_assert_str_eq(args.flags[1].value, "a:1");
    ck_assert_str_eq(args.flags[2].row, "listen.timeout");
    ck_assert_uint_eq(args.n_rest, 4);
    ck_assert_str_eq(args.rest[0], "run");
    ck_assert_str_eq(args.rest[1], "-");
    ck_assert_str_eq(args.rest[2], "--json");
    ck_assert_str_eq(args.rest[3], "-z");
    ck_assert_uint_eq(excludes.n_items, 2);
    ck_assert_str_eq(excludes.items[1], "b");
    free(excludes.items);
    excludes = (struct conf_list){ 0 };

    ck_assert_int_eq(
        conf_load(&table, &(struct conf_sources){ .flags = args.flags, .n_flags = args.n_flags },
                  &settings, &error),
        0);
    ck_assert_str_eq(settings.address, "a:1");
    ck_assert_int_eq(settings.timeout_us, 5000000);
}
END_TEST

START_TEST(booleans_may_stand_bare)
{
    ck_assert_int_eq(ARGS("--listen-reflection", "word", "--listen-reflection=false", "--reflect",
                          "--listen-reflection", "false"),
                     0);
    ck_assert_uint_eq(args.n_flags, 4);
    ck_assert_str_eq(args.flags[0].value, "true");
    ck_assert_str_eq(args.flags[1].value, "false");
    ck_assert_str_eq(args.flags[2].value, "true");
    ck_assert_str_eq(args.flags[3].value, "false");
    ck_assert_uint_eq(args.n_rest, 1);
}
END_TEST

START_TEST(values_may_begin_with_one_dash)
{
    ck_assert_int_eq(ARGS("--state-dir", "-1h"), 0);
    ck_assert_str_eq(state, "-1h");
    ck_assert_int_eq(ARGS("--state-dir="), 0);
    ck_assert_str_eq(state, "");
}
END_TEST

START_TEST(bad_command_lines_are_refused_in_these_words)
{
    ck_assert_int_eq(ARGS("--stat-dir", "x"), CONF_BAD);
    ck_assert_str_eq(error.text, "unknown flag `--stat-dir`; did you mean `--state-dir`?");
    ck_assert_int_eq(ARGS("--store-thread=x"), CONF_BAD);
    ck_assert_str_eq(error.text, "unknown flag `--store-thread`; did you mean `--store-threads`?");
    ck_assert_int_eq(ARGS("--qqqqqqqqqqqqqq"), CONF_BAD);
    ck_assert_str_eq(error.text, "unknown flag `--qqqqqqqqqqqqqq`");
    ck_assert_int_eq(ARGS("-x"), CONF_BAD);
    ck_assert_int_eq(ARGS("--state-dir"), CONF_BAD);
    ck_assert_str_eq(error.text, "`--state-dir` needs a value");
    ck_assert_int_eq(ARGS("--state-dir", "--json"), CONF_BAD);
    ck_assert_str_eq(error.text, "`--state-dir` needs a value");
    ck_assert_int_eq(ARGS("--json=yes"), CONF_BAD);
    ck_assert_str_eq(error.text, "`--json` takes no value");
}
END_TEST

START_TEST(too_many_words_are_refused)
{
    const char *words[300];

    for (size_t i = 0; i < 299; i++)
        words[i] = "w";
    words[299] = NULL;
    ck_assert_int_eq(parse_args(words), CONF_BAD);
    ck_assert_str_eq(error.text, "more than 256 words");
    for (size_t i = 0; i < 299; i++)
        words[i] = "--store-threads=1";
    ck_assert_int_eq(parse_args(words), CONF_BAD);
    ck_assert_str_eq(error.text, "more than 64 flags");
}
END_TEST

START_TEST(help_lines_stand_in_columns)
{
    CLEANUP(buf_deinit) struct buf help = { 0 };

    conf_print_options(options, &help);
    ck_assert_str_eq(buf_text(&help), "  --state-dir DIR    Where everything is kept.\n"
                                      "  --json             Answer as JSON.\n"
                                      "  --listen ADDRESS   Where to listen.\n"
                                      "  --reflect          Serve reflection.\n"
                                      "  --exclude PATTERN  Leave out; may be repeated.\n"
                                      "  -h                 This help.\n");
}
END_TEST

Suite *suite(void)
{
    Suite *s = suite_create("common/conf");
    TCase *files = tcase_create("files");
    TCase *layers = tcase_create("layers");
    TCase *printing = tcase_create("printing");
    TCase *lines = tcase_create("command lines");

    tcase_add_checked_fixture(files, set_up, tear_down);
    tcase_add_test(files, defaults_hold_without_any_source);
    tcase_add_test(files, a_file_sets_every_type);
    tcase_add_test(files, json_is_yaml_too);
    tcase_add_test(files, empty_files_and_empty_sections_change_nothing);
    tcase_add_loop_test(files, a_bad_file_is_refused_in_these_words, 0,
                        (int) (sizeof(refusals) / sizeof(*refusals)));
    tcase_add_test(files, an_absent_file_is_an_error_only_when_it_is_wanted);
    tcase_add_test(files, a_very_long_key_is_refused);
    suite_add_tcase(s, files);

    tcase_add_checked_fixture(layers, set_up, tear_down);
    tcase_add_test(layers, later_sources_win_over_earlier_ones);
    tcase_add_test(layers, errors_outside_files_name_the_variable_or_the_flag);
    tcase_add_test(layers, a_repeated_list_flag_collects_and_replaces_what_was_below);
    suite_add_tcase(s, layers);

    tcase_add_checked_fixture(printing, set_up, tear_down);
    tcase_add_test(printing, what_is_printed_is_golden_and_loads_to_the_same);
    tcase_add_test(printing, defaults_print_and_load_to_the_same);
    tcase_add_test(printing, the_diff_names_only_rows_that_need_a_restart);
    suite_add_tcase(s, printing);

    tcase_add_checked_fixture(lines, set_up, tear_down);
    tcase_add_test(lines, flags_options_and_words_are_told_apart);
    tcase_add_test(lines, booleans_may_stand_bare);
    tcase_add_test(lines, values_may_begin_with_one_dash);
    tcase_add_test(lines, bad_command_lines_are_refused_in_these_words);
    tcase_add_test(lines, too_many_words_are_refused);
    tcase_add_test(lines, help_lines_stand_in_columns);
    suite_add_tcase(s, lines);
    return s;
}
