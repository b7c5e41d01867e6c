/* Target: promtext_parse. SPDX-License-Identifier: Apache-2.0 */

/*
 * The first byte picks the rules; the rest is a text. Whatever is given to the caller is within its
 * limits, and a text that is good is good again, with as many samples, without its last line's end.
 */

#include <stdlib.h>

#include "agent/collect/promtext.h"
#include "common/base/buf.h"
#include "common/base/ensure.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void on_sample(void *ctx, const struct promtext_sample *sample)
{
    size_t *n = ctx;

    (*n)++;
    ensure(sample->name[0] && strlen(sample->name) <= PROMTEXT_NAME_BYTES);
    ensure(sample->n_labels <= PROMTEXT_MAX_LABELS);
    for (size_t i = 0; i < sample->n_labels; i++) {
        ensure(sample->labels[i].key[0]);
        ensure(strlen(sample->labels[i].key) <= PROMTEXT_NAME_BYTES);
        ensure(sample->labels[i].value[0]);
        ensure(strlen(sample->labels[i].value) <= PROMTEXT_VALUE_BYTES);
    }
    ensure(!sample->labels[sample->n_labels].key);
    ensure(sample->kind == SPOOL_GAUGE || sample->kind == SPOOL_COUNTER);
}

static int parse(const uint8_t *data, size_t len, const struct promtext_rules *rules, size_t *ret_n)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    struct promtext_problem problem = { 0 };
    int r;

    *ret_n = 0;
    buf_append(&text, data, len);
    buf_append(&text, "", 1);
    ensure(!buf_failed(&text));
    r = promtext_parse((char *) text.data, len, rules, on_sample, ret_n, &problem);
    ensure(r == PROMTEXT_OK || (problem.line > 0 && problem.text[0]));
    ensure(*ret_n <= rules->max_samples);
    return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct promtext_rules rules = { .max_samples = 16 };
    size_t n, n_again;
    int r;

    if (len == 0)
        return 0;
    rules.allows_times = data[0] & 1;
    rules.allows_dots = data[0] & 2;
    r = parse(data + 1, len - 1, &rules, &n);
    if (r == PROMTEXT_OK && len > 1 && data[len - 1] == '\n') {
        ensure(parse(data + 1, len - 2, &rules, &n_again) == PROMTEXT_OK);
        ensure(n == n_again);
    }
    return 0;
}
