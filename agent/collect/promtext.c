/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/collect/promtext.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/ensure.h"

enum family { UNTYPED, COUNTER, GAUGE, HISTOGRAM, SUMMARY };

struct reader {
    char *at;
    size_t line;
    const struct promtext_rules *rules;
    promtext_fn *fn;
    void *ctx;
    struct promtext_problem *problem;
    size_t n_samples;
    /* Of the last # TYPE line. */
    char name[PROMTEXT_NAME_BYTES + 1];
    enum family type;
};

static int bad(struct reader *reader, const char *words)
{
    reader->problem->line = reader->line;
    snprintf(reader->problem->text, sizeof(reader->problem->text), "%s", words);
    return PROMTEXT_BAD;
}

static void skip_blanks(struct reader *reader)
{
    reader->at += strspn(reader->at, " \t");
}

/* The end of what is a name; the name is [at, end). */
static char *end_of_name(const struct reader *reader, bool is_metric)
{
    char *end = reader->at;

    if (*end >= '0' && *end <= '9')
        return end;
    while (isalnum((unsigned char) *end) || *end == '_' || (is_metric && *end == ':') ||
           (is_metric && reader->rules->allows_dots && (*end == '.' || *end == '-')))
        end++;
    return end;
}

/* ---- kinds and units ---- */

static bool ends_with(const char *text, size_t len, const char *suffix)
{
    size_t n = strlen(suffix);

    return len > n && memcmp(text + len - n, suffix, n) == 0;
}

/* The name is the family's with one of the suffixes of its type. */
static bool is_of_family(const struct reader *reader, const char *name, const char *suffix)
{
    size_t len = strlen(reader->name);

    return strncmp(name, reader->name, len) == 0 && strcmp(name + len, suffix) == 0;
}

static enum spool_kind kind_of(const struct reader *reader, const char *name)
{
    bool is_counter = false;

    switch (reader->type) {
    case COUNTER:
        is_counter = is_of_family(reader, name, "") || is_of_family(reader, name, "_total");
        break;
    case HISTOGRAM:
        is_counter = is_of_family(reader, name, "_bucket") || is_of_family(reader, name, "_sum") ||
                     is_of_family(reader, name, "_count");
        break;
    case SUMMARY:
        is_counter = is_of_family(reader, name, "_sum") || is_of_family(reader, name, "_count");
        break;
    case UNTYPED:
    case GAUGE:
        break;
    }
    return is_counter ? SPOOL_COUNTER : SPOOL_GAUGE;
}

static const char *unit_of(const char *name)
{
    static const struct {
        const char *suffix, *unit;
    } units[] = { { "_seconds", "s" },      { "_bytes", "By" }, { "_ratio", "1" },
                  { "_celsius", "Cel" },    { "_volts", "V" },  { "_amperes", "A" },
                  { "_joules", "J" },       { "_watts", "W" },  { "_hertz", "Hz" },
                  { "_meters", "m" },       { "_grams", "g" },  { "_percent", "%" },
                  { "_milliseconds", "ms" } };
    size_t len = strlen(name);

    if (ends_with(name, len, "_count") || ends_with(name, len, "_bucket"))
        return "";
    if (ends_with(name, len, "_total"))
        len -= strlen("_total");
    if (ends_with(name, len, "_sum"))
        len -= strlen("_sum");
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
        if (ends_with(name, len, units[i].suffix))
            return units[i].unit;
    return "";
}

/* ---- lines ---- */

/* "# TYPE name counter"; other comments are passed over. The line ends with NUL. */
static int read_comment(struct reader *reader)
{
    static const char *const types[] = { "untyped", "counter", "gauge", "histogram", "summary" };
    char *end;

    reader->at++;
    skip_blanks(reader);
    if (strncmp(reader->at, "TYPE", 4) != 0 || (reader->at[4] != ' ' && reader->at[4] != '\t'))
        return 0;
    reader->at += 4;
    skip_blanks(reader);
    end = end_of_name(reader, true);
    if (end == reader->at || (*end != ' ' && *end != '\t'))
        return bad(reader, "# TYPE wants a name and a type");
    if ((size_t) (end - reader->at) > PROMTEXT_NAME_BYTES)
        return bad(reader, "a name has at most 255 bytes");
    snprintf(reader->name, sizeof(reader->name), "%.*s", (int) (end - reader->at), reader->at);
    reader->at = end;
    skip_blanks(reader);
    reader->at[strcspn(reader->at, " \t\r")] = '\0';
    reader->type = UNTYPED; /* also unknown, info, stateset, gaugehistogram */
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
        if (strcmp(reader->at, types[i]) == 0)
            reader->type = (enum family) i;
    return 0;
}

/* Behind the opening quote; ends the value in place and goes behind the closing one. */
static int read_label_value(struct reader *reader, const char **ret)
{
    char *to = reader->at;

    *ret = to;
    for (char *from = reader->at; *from; from++) {
        if (*from == '"') {
            reader->at = from + 1;
            *to = '\0';
            return to - *ret > PROMTEXT_VALUE_BYTES
                       ? bad(reader, "a label's value has at most 1023 bytes")
                       : 0;
        }
        if (*from == '\\') {
            from++;
            if (*from != '\\' && *from != '"' && *from != 'n')
                return bad(reader, "a backslash is followed by one of \\ \" n");
            *to++ = (char) (*from == 'n' ? '\n' : *from);
        } else {
            *to++ = *from;
        }
    }
    return bad(reader, "a label's value has no closing quote");
}

static int read_label(struct reader *reader, struct spool_attribute *labels, size_t *n_labels)
{
    char *name = reader->at, *end = end_of_name(reader, false);
    const char *value;
    int r;

    if (end == name)
        return bad(reader, "a label's name is wanted: a letter or _, then letters, digits, _");
    if (end - name > PROMTEXT_NAME_BYTES)
        return bad(reader, "a name has at most 255 bytes");
    reader->at = end;
    skip_blanks(reader);
    if (*reader->at != '=')
        return bad(reader, "= is wanted behind a label's name");
    *end = '\0';
    reader->at++;
    skip_blanks(reader);
    if (*reader->at != '"')
        return bad(reader, "a label's value is wanted in double quotes");
    reader->at++;
    r = read_label_value(reader, &value);
    if (r)
        return r;
    for (size_t i = 0; i < *n_labels; i++)
        if (strcmp(labels[i].key, name) == 0)
            return bad(reader, "a label is there twice");
    if (value[0] == '\0')
        return 0;
    if (*n_labels == PROMTEXT_MAX_LABELS)
        return bad(reader, "a sample has at most 30 labels");
    labels[(*n_labels)++] = (struct spool_attribute){ name, value };
    return 0;
}

/* Behind the opening brace, until behind the closing one. */
static int read_labels(struct reader *reader, struct spool_attribute *labels, size_t *n_labels)
{
    for (;;) {
        int r;

        skip_blanks(reader);
        if (*reader->at == '}') {
            reader->at++;
            return 0;
        }
        r = read_label(reader, labels, n_labels);
        if (r)
            return r;
        skip_blanks(reader);
        if (*reader->at == ',')
            reader->at++;
        else if (*reader->at != '}')
            return bad(reader, ", or } is wanted behind a label");
    }
}

/* strtod() takes more than the format has: hexadecimal, nan(...). */
static bool read_number(struct reader *reader, double *ret)
{
    size_t len = strcspn(reader->at, " \t\r");
    const char *word = reader->at;
    size_t sign = *word == '+' || *word == '-';
    char *end;

    if (len == 0)
        return false;
    if (strspn(word, "0123456789+-.eE") < len &&
        !(len - sign == 3 &&
          (strncasecmp(word + sign, "inf", 3) == 0 || strncasecmp(word + sign, "nan", 3) == 0)))
        return false;
    *ret = strtod(word, &end);
    if (end != word + len)
        return false;
    reader->at = end;
    return true;
}

/* Behind the value: nothing, a time, or an exemplar of OpenMetrics. */
static int read_rest(struct reader *reader)
{
    double time;

    skip_blanks(reader);
    if (*reader->at && *reader->at != '#' && *reader->at != '\r') {
        if (!read_number(reader, &time))
            return bad(reader, "behind the value comes a time or nothing");
        if (!reader->rules->allows_times)
            return bad(reader, "times are not taken: a sample is of now; leave the time out");
        skip_blanks(reader);
    }
    if (*reader->at == '\r')
        reader->at++;
    return *reader->at && *reader->at != '#' ? bad(reader, "nothing is wanted behind the time") : 0;
}

static int read_sample(struct reader *reader)
{
    struct spool_attribute labels[PROMTEXT_MAX_LABELS + 1];
    char *name = reader->at, *end = end_of_name(reader, true);
    struct promtext_sample sample = { .name = name, .labels = labels };
    bool has_labels;
    int r;

    if (end == name)
        return bad(reader, "a metric's name is wanted: a letter, _ or :, then also digits");
    if (end - name > PROMTEXT_NAME_BYTES)
        return bad(reader, "a name has at most 255 bytes");
    reader->at = end;
    skip_blanks(reader);
    has_labels = *reader->at == '{';
    if (!has_labels && reader->at == end)
        return bad(reader, "a blank or { is wanted behind the name");
    if (has_labels) {
        reader->at++;
        r = read_labels(reader, labels, &sample.n_labels);
        if (r)
            return r;
        skip_blanks(reader);
    }
    *end = '\0';
    if (!read_number(reader, &sample.value))
        return bad(reader, "the value is no number");
    r = read_rest(reader);
    if (r)
        return r;
    if (reader->n_samples++ == reader->rules->max_samples)
        return bad(reader, "there are more samples than collect.max_custom allows");
    labels[sample.n_labels] = (struct spool_attribute){ NULL, NULL };
    sample.kind = kind_of(reader, name);
    sample.unit = unit_of(name);
    reader->fn(reader->ctx, &sample);
    return 0;
}

int promtext_parse(char *text,
                   size_t len,
                   const struct promtext_rules *rules,
                   promtext_fn *fn,
                   void *ctx,
                   struct promtext_problem *ret_problem)
{
    struct reader reader = { .rules = rules, .fn = fn, .ctx = ctx, .problem = ret_problem };

    ensure(text[len] == '\0');
    for (char *line = text; line < text + len;) {
        char *end = memchr(line, '\n', (size_t) (text + len - line));
        int r;

        if (!end)
            end = text + len;
        *end = '\0';
        reader.line++;
        reader.at = line;
        if (strlen(line) != (size_t) (end - line))
            return bad(&reader, "there is a NUL in the line");
        skip_blanks(&reader);
        r = *reader.at == '#'                          ? read_comment(&reader)
            : *reader.at == '\0' || *reader.at == '\r' ? 0
                                                       : read_sample(&reader);
        if (r)
            return r;
        line = end + 1;
    }
    return 0;
}
