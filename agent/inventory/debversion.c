/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/inventory/debversion.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "common/base/span.h"

struct version {
    struct span epoch, upstream, revision;
};

static struct version split(const char *text)
{
    const char *colon = strchr(text, ':');
    const char *upstream = colon ? colon + 1 : text;
    const char *dash = strrchr(upstream, '-');
    const size_t len = dash ? (size_t) (dash - upstream) : strlen(upstream);

    return (struct version){
        .epoch = span_of(text, colon ? (size_t) (colon - text) : 0),
        .upstream = span_of(upstream, len),
        .revision = dash ? span_of_text(dash + 1) : span_of("", 0),
    };
}

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

static bool is_letter(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* Of a character of the part without digits: ~ is before the end of it, letters before the rest. */
static int place(struct span text, size_t at)
{
    const uint8_t c = at < text.len ? text.data[at] : 0;

    if (at >= text.len || is_digit(c))
        return 0;
    if (c == '~')
        return -1;
    return is_letter(c) ? c : c + 256;
}

/* Of equally many digits, without zeros in front, the first that differs decides; of more, they. */
static int compare_digits(struct span a, struct span b, size_t *i, size_t *k)
{
    int order = 0;

    while (*i < a.len && a.data[*i] == '0')
        ++*i;
    while (*k < b.len && b.data[*k] == '0')
        ++*k;
    for (;; ++*i, ++*k) {
        const bool has_a = *i < a.len && is_digit(a.data[*i]);
        const bool has_b = *k < b.len && is_digit(b.data[*k]);

        if (!has_a || !has_b)
            return has_a != has_b ? (has_a ? 1 : -1) : order;
        if (order == 0)
            order = (int) a.data[*i] - (int) b.data[*k];
    }
}

static int compare_part(struct span a, struct span b)
{
    size_t i = 0, k = 0;

    while (i < a.len || k < b.len) {
        int order;

        while ((i < a.len && !is_digit(a.data[i])) || (k < b.len && !is_digit(b.data[k]))) {
            order = place(a, i) - place(b, k);
            if (order != 0)
                return order;
            i++;
            k++;
        }
        order = compare_digits(a, b, &i, &k);
        if (order != 0)
            return order;
    }
    return 0;
}

int debversion_compare(const char *a, const char *b)
{
    const struct version x = split(a), y = split(b);
    int order = compare_part(x.epoch, y.epoch);

    if (order == 0)
        order = compare_part(x.upstream, y.upstream);
    return order != 0 ? order : compare_part(x.revision, y.revision);
}
