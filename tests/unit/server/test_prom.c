/* SPDX-License-Identifier: Apache-2.0 */
#include "server/prom/prom.h"

#include <math.h>

#include "suite.h"

static struct arena arena;
static struct buf text;

static void setup(void)
{
    arena_init(&arena, 1 << 20);
    text = (struct buf){ 0 };
}

static void teardown(void)
{
    arena_deinit(&arena);
    buf_deinit(&text);
}

static const struct {
    const char *name, *unit;
    enum store_kind kind;
    const char *expected;
} names[] = {
    { "system.cpu.time", "s", STORE_COUNTER, "system_cpu_time_seconds_total" },
    { "system.memory.usage", "By", STORE_GAUGE, "system_memory_usage_bytes" },
    { "system.memory.utilization", "1", STORE_GAUGE, "system_memory_utilization_ratio" },
    { "system.network.io", "By", STORE_COUNTER, "system_network_io_bytes_total" },
    { "system.network.packets", "{packet}", STORE_COUNTER, "system_network_packets_total" },
    { "system.processes.count", "{process}", STORE_GAUGE, "system_processes_count" },
    { "things", "1", STORE_COUNTER, "things_total" },
    { "disk.speed", "By/s", STORE_GAUGE, "disk_speed_bytes_per_second" },
    { "requests", "{request}/s", STORE_GAUGE, "requests_per_second" },
    { "temperature", "Cel", STORE_GAUGE, "temperature_celsius" },
    /* what the name says already is not said again */
    { "cpu.seconds", "s", STORE_COUNTER, "cpu_seconds_total" },
    { "events.total", "", STORE_COUNTER, "events_total" },
    { "a.total.b", "", STORE_COUNTER, "a_b_total" },
    { "hit.ratio", "1", STORE_GAUGE, "hit_ratio" },
    /* what Prometheus does not take */
    { "a..b--c", "", STORE_GAUGE, "a_b_c" },
    { "2nd.try", "", STORE_GAUGE, "_2nd_try" },
    { "rule:of:thumb", "", STORE_GAUGE, "rule:of:thumb" },
    { "\xc3\xa4", "", STORE_GAUGE, "_" },
    { "odd", "foo bar", STORE_GAUGE, "odd_foo_bar" },
    { "odd", "/", STORE_GAUGE, "odd" },
};

START_TEST(names_and_units_become_prometheus_names)
{
    prom_put_name(&text, names[_i].name, names[_i].unit, names[_i].kind);
    ck_assert_str_eq(buf_text(&text), names[_i].expected);
}
END_TEST

START_TEST(attributes_become_labels_in_order_each_name_once)
{
    static const struct store_attribute attributes[] = {
        { "__name__", "evil" }, { "0day", "x" },       { "agent", "liar" },
        { "cpu.mode", "user" }, { "cpu_mode", "sys" }, { "disk", "sda" },
    };
    struct prom_label *labels;
    size_t n;

    ck_assert_int_eq(prom_labels(attributes, 6, &arena, &labels, &n), 0);
    for (size_t i = 0; i < n; i++)
        buf_printf(&text, "%s=%s ", labels[i].name, labels[i].value);
    ck_assert_str_eq(buf_text(&text), "attribute_agent=liar cpu_mode=sys;user disk=sda "
                                      "key_0day=x key__name__=evil ");
}
END_TEST

START_TEST(labels_that_do_not_fit_are_a_fault)
{
    static const struct store_attribute attributes[] = { { "key", "value" } };
    struct prom_label *labels;
    struct arena small;
    size_t n;

    arena_init(&small, 16);
    ck_assert_int_lt(prom_labels(attributes, 1, &small, &labels, &n), 0);
    arena_deinit(&small);
}
END_TEST

START_TEST(what_would_end_a_text_is_escaped)
{
    prom_put_family(&text, "m", PROM_GAUGE, "two\nlines \\ and \"quotes\"");
    prom_put_label(&text, "path", "C:\\a \"b\"\nc");
    ck_assert_str_eq(buf_text(&text), "# HELP m two\\nlines \\\\ and \"quotes\"\n# TYPE m gauge\n"
                                      "path=\"C:\\\\a \\\"b\\\"\\nc\"");
}
END_TEST

START_TEST(values_read_back_to_the_same_double)
{
    static const struct {
        double value;
        const char *expected;
    } rows[] = {
        { 0, "0" },           { -0.0, "-0" },
        { 0.1, "0.1" },       { 1e300, "1e300" },
        { INFINITY, "+Inf" }, { -INFINITY, "-Inf" },
        { NAN, "NaN" },       { 9007199254740993.0, "9007199254740992" },
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        buf_clear(&text);
        prom_put_value(&text, rows[i].value);
        ck_assert_str_eq(buf_text(&text), rows[i].expected);
    }
}
END_TEST

Suite *suite(void)
{
    Suite *s = suite_create("server/prom");
    TCase *tc = tcase_create("prom");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, names_and_units_become_prometheus_names, 0,
                        sizeof(names) / sizeof(names[0]));
    tcase_add_test(tc, attributes_become_labels_in_order_each_name_once);
    tcase_add_test(tc, labels_that_do_not_fit_are_a_fault);
    tcase_add_test(tc, what_would_end_a_text_is_escaped);
    tcase_add_test(tc, values_read_back_to_the_same_double);
    suite_add_tcase(s, tc);
    return s;
}
