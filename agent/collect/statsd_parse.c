/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "agent/collect/statsd.h"

#define MAX_NUMBER_BYTES 63

/* Cuts off what lies before the first of the marks; `rest` begins behind it, and is empty without
 * data when there was none. */
static struct span cut(struct span *rest, char mark)
{
    const uint8_t *at = rest->len ? memchr(rest->data, mark, rest->len) : NULL;
    struct span before = *rest;

    if (!at) {
        *rest = (struct span){ 0 };
        return before;
    }
    before.len = (size_t) (at - before.data);
    rest->data = at + 1;
    rest->len -= before.len + 1;
    return before;
}

static bool is_word(struct span text, const char *word)
{
    return span_equal(text, span_of_text(word));
}

static bool to_number(struct span text, double *ret)
{
    char copy[MAX_NUMBER_BYTES + 1];
    char *end;

    if (text.len == 0 || text.len > MAX_NUMBER_BYTES)
        return false;
    memcpy(copy, text.data, text.len);
    copy[text.len] = '\0';
    if (strspn(copy, "0123456789+-.eE") != text.len)
        return false;
    *ret = strtod(copy, &end);
    return end == copy + text.len && isfinite(*ret);
}

static bool set_type(struct span word, struct statsd_line *line)
{
    line->is_ms = is_word(word, "ms");
    if (is_word(word, "c"))
        line->type = STATSD_COUNTER;
    else if (is_word(word, "g"))
        line->type = STATSD_GAUGE;
    else if (line->is_ms || is_word(word, "h") || is_word(word, "d"))
        line->type = STATSD_TIMER;
    else if (is_word(word, "s"))
        line->type = STATSD_SET;
    else
        return false;
    return true;
}

/* A tag without a value is one that is "true". */
static bool add_tags(struct span tags, struct statsd_line *line)
{
    while (tags.len > 0) {
        struct span value = cut(&tags, ',');
        struct span key = cut(&value, ':');

        if (key.len == 0)
            continue;
        if (line->n_tags == STATSD_MAX_TAGS || key.len > STATSD_NAME_BYTES)
            return false;
        for (size_t i = 0; i < line->n_tags; i++)
            if (span_equal(line->tags[i].key, key))
                return false;
        line->tags[line->n_tags].key = key;
        line->tags[line->n_tags++].value = value.data ? value : span_of_text("true");
    }
    return true;
}

static bool add_values(struct span values, struct statsd_line *line)
{
    do {
        struct span value = cut(&values, ':');

        if (line->n_values == STATSD_VALUES)
            return false;
        if (line->type != STATSD_SET && !to_number(value, &line->numbers[line->n_values]))
            return false;
        line->values[line->n_values++] = value;
    } while (values.data);
    return true;
}

int statsd_parse(struct span line, struct statsd_line *ret)
{
    struct span rest = line, values;

    memset(ret, 0, sizeof(*ret));
    ret->rate = 1;
    if (line.len == 0 || memchr(line.data, '\0', line.len))
        return STATSD_BAD;
    ret->name = cut(&rest, ':');
    if (ret->name.len == 0 || ret->name.len > STATSD_NAME_BYTES || !rest.data ||
        memchr(ret->name.data, '|', ret->name.len))
        return STATSD_BAD;
    values = cut(&rest, '|');
    if (!set_type(cut(&rest, '|'), ret) || !add_values(values, ret))
        return STATSD_BAD;
    while (rest.len > 0) {
        struct span section = cut(&rest, '|');
        bool is_good = section.len > 0;

        if (is_good && section.data[0] == '@')
            is_good = to_number(span_of(section.data + 1, section.len - 1), &ret->rate) &&
                      ret->rate > 0 && ret->rate <= 1;
        else if (is_good && section.data[0] == '#')
            is_good = add_tags(span_of(section.data + 1, section.len - 1), ret);
        /* c: (a container's id), T (a time), e: and whatever comes after them is passed over. */
        if (!is_good)
            return STATSD_BAD;
    }
    return STATSD_OK;
}
