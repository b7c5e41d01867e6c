/* Targets: export_next, export_pass, kmsg_parse, mark_parse, text_next_record, text_severity,
 * text_time. SPDX-License-Identifier: Apache-2.0 */

/* The first byte says whose the rest is. What is cut off lies within it, and the walk ends. */

#include <stdlib.h>
#include <string.h>

#include "agent/logs/export.h"
#include "agent/logs/inside.h"
#include "common/base/ensure.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void cut_entries(struct span text)
{
    static struct export_entry entry;
    struct export_skip skip;
    enum export_result result;

    while ((result = export_next(text, &entry, &skip)) != EXPORT_MORE) {
        ensure((entry.n_consumed > 0 || skip.is_active) && entry.n_consumed <= text.len);
        for (size_t i = 0; result == EXPORT_ENTRY && i < entry.n_fields; i++)
            ensure(entry.fields[i].value.len <= text.len);
        text = span_of(text.data + entry.n_consumed, text.len - entry.n_consumed);
        if (skip.is_active) {
            const size_t n = export_pass(text, &skip);

            ensure(n <= text.len);
            if (skip.is_active)
                return;
            text = span_of(text.data + n, text.len - n);
        }
    }
}

static void parse_kernel(struct span text)
{
    char *copy = malloc(text.len + 1);
    struct kmsg_record record;

    ensure(copy != NULL);
    memcpy(copy, text.data, text.len);
    if (kmsg_parse(copy, text.len, &record))
        ensure(record.message.len <= text.len);
    free(copy);
}

static void parse_mark(struct span value)
{
    struct buf again = { 0 };
    struct mark mark;

    if (!mark_parse(value, &mark))
        return;
    mark_print(&mark, &again);
    ensure(again.len == value.len);
    buf_deinit(&again);
}

static void cut_records(struct span text)
{
    const struct text_rule rule = { .max_bytes = 16, .max_lines = 4 };
    struct text_record record;

    while (text_next_record(text, &rule, true, &record)) {
        ensure(record.n_consumed > 0 && record.n_consumed <= text.len);
        ensure(record.body.len <= rule.max_bytes);
        text = span_of(text.data + record.n_consumed, text.len - record.n_consumed);
    }
    ensure(text.len == 0);
}

static void read_line(struct span line)
{
    wall_us time;

    ensure(text_severity(line) <= 24);
    (void) text_time(line, (wall_us){ INT64_C(1764291723000000) }, &time);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static void (*const targets[])(struct span) = { cut_entries, parse_kernel, parse_mark,
                                                    cut_records, read_line };

    if (len > 0)
        targets[data[0] % 5](span_of(data + 1, len - 1));
    return 0;
}
