/* Targets: statsd_parse, statsd_take. SPDX-License-Identifier: Apache-2.0 */

/*
 * The bytes are a datagram. What a line is read as lies within it and its limits; the aggregator
 * stays within its own, whatever comes.
 */

#include <math.h>

#include "agent/collect/statsd.h"
#include "common/base/ensure.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check_inside(struct span part, struct span whole)
{
    ensure(part.len == 0 ||
           (part.data >= whole.data && part.data + part.len <= whole.data + whole.len));
}

static void check_line(struct span bytes)
{
    struct statsd_line line;

    if (statsd_parse(bytes, &line) != STATSD_OK)
        return;
    ensure(line.name.len > 0 && line.name.len <= STATSD_NAME_BYTES);
    check_inside(line.name, bytes);
    ensure(line.rate > 0 && line.rate <= 1);
    ensure(line.n_values > 0 && line.n_values <= STATSD_VALUES);
    ensure(line.n_tags <= STATSD_MAX_TAGS);
    for (size_t i = 0; i < line.n_values; i++) {
        check_inside(line.values[i], bytes);
        ensure(line.type == STATSD_SET || isfinite(line.numbers[i]));
    }
    for (size_t i = 0; i < line.n_tags; i++)
        check_inside(line.tags[i].key, bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    const struct statsd_options options = { .max_series = 4, .max_set = 4 };
    struct collect_rules rules = { .n_refs = 1 };
    struct probe probe = { .rules = &rules, .max_samples = 100 };
    struct statsd *statsd = statsd_new(&options);

    ensure(statsd);
    check_line(span_of(data, len));
    for (int i = 0; i < 2; i++) {
        statsd_take(statsd, span_of(data, len), 1);
        statsd_tell(statsd, &probe, 2);
        /* A timer has seven, and there are three of the listener's. */
        ensure(probe.n_samples <= 4 * 7 + 3);
        collect_rewind(&probe, (struct probe_mark){ 0 });
    }
    buf_deinit(&probe.tray);
    (void) statsd_free(statsd);
    return 0;
}
