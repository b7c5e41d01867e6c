/* SPDX-License-Identifier: Apache-2.0 */
#include "server/prom/prom.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/fault.h"
#include "common/json/json.h"

/* Names have at most 255 bytes, so at most 128 words; the rest is for the unit. */
#define MAX_WORDS 136

struct word {
    const char *unit, *text;
};

/* UCUM's codes, as OpenTelemetry's exporters write them. */
static const struct word units[] = {
    { "d", "days" },          { "h", "hours" },
    { "min", "minutes" },     { "s", "seconds" },
    { "ms", "milliseconds" }, { "us", "microseconds" },
    { "ns", "nanoseconds" },  { "By", "bytes" },
    { "KiBy", "kibibytes" },  { "MiBy", "mebibytes" },
    { "GiBy", "gibibytes" },  { "TiBy", "tibibytes" },
    { "KBy", "kilobytes" },   { "MBy", "megabytes" },
    { "GBy", "gigabytes" },   { "TBy", "terabytes" },
    { "kBy", "kilobytes" },   { "bit", "bits" },
    { "m", "meters" },        { "V", "volts" },
    { "A", "amperes" },       { "J", "joules" },
    { "W", "watts" },         { "g", "grams" },
    { "Cel", "celsius" },     { "Hz", "hertz" },
    { "%", "percent" },       { "1", "" },
};
static const struct word per_units[] = {
    { "s", "second" }, { "m", "minute" }, { "min", "minute" }, { "h", "hour" },
    { "d", "day" },    { "w", "week" },   { "mo", "month" },   { "y", "year" },
};

struct words {
    struct span rows[MAX_WORDS];
    size_t n;
};

static bool is_letter_or_digit(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static void add_word(struct words *words, struct span word)
{
    if (word.len > 0 && words->n < MAX_WORDS)
        words->rows[words->n++] = word;
}

/* Everything that is neither letter, digit nor colon parts words. */
static void add_words(struct words *words, struct span text)
{
    size_t begin = 0;

    for (size_t i = 0; i <= text.len; i++) {
        if (i < text.len && (is_letter_or_digit((char) text.data[i]) || text.data[i] == ':'))
            continue;
        add_word(words, span_of(text.data + begin, i - begin));
        begin = i + 1;
    }
}

static bool has_word(const struct words *words, struct span word)
{
    for (size_t i = 0; i < words->n; i++) {
        if (span_equal(words->rows[i], word))
            return true;
    }
    return false;
}

static void remove_word(struct words *words, const char *word)
{
    size_t n = 0;

    for (size_t i = 0; i < words->n; i++) {
        if (!span_equal(words->rows[i], span_of_text(word)))
            words->rows[n++] = words->rows[i];
    }
    words->n = n;
}

/* A part of a unit without what stands in braces and without spaces around it. */
static struct span bare_unit(struct span part)
{
    const uint8_t *brace = memchr(part.data, '{', part.len);

    if (brace)
        part.len = (size_t) (brace - part.data);
    while (part.len > 0 && part.data[0] == ' ') {
        part.data++;
        part.len--;
    }
    while (part.len > 0 && part.data[part.len - 1] == ' ')
        part.len--;
    return part;
}

static struct span in_words(struct span unit, const struct word *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (span_equal(unit, span_of_text(rows[i].unit)))
            return span_of_text(rows[i].text);
    }
    return unit;
}

static void add_unit(struct words *words, const char *unit)
{
    const char *slash = strchr(unit, '/');
    const size_t main_len = slash ? (size_t) (slash - unit) : strlen(unit);
    const struct span main =
        in_words(bare_unit(span_of(unit, main_len)), units, sizeof(units) / sizeof(units[0]));

    if (main.len > 0 && !has_word(words, main))
        add_words(words, main);
    if (!slash)
        return;
    const struct span per = in_words(bare_unit(span_of_text(slash + 1)), per_units,
                                     sizeof(per_units) / sizeof(per_units[0]));

    if (per.len > 0 && !has_word(words, per)) {
        add_word(words, span_of_text("per"));
        add_words(words, per);
    }
}

void prom_put_name(struct buf *to, const char *name, const char *unit, enum store_kind kind)
{
    struct words words = { .n = 0 };

    add_words(&words, span_of_text(name));
    add_unit(&words, unit);
    if (kind == STORE_COUNTER) {
        remove_word(&words, "total");
        add_word(&words, span_of_text("total"));
    } else if (strcmp(unit, "1") == 0) {
        remove_word(&words, "ratio");
        add_word(&words, span_of_text("ratio"));
    }
    if (words.n == 0 || (words.rows[0].data[0] >= '0' && words.rows[0].data[0] <= '9'))
        buf_append_text(to, "_");
    for (size_t i = 0; i < words.n; i++) {
        if (i > 0)
            buf_append_text(to, "_");
        buf_append_span(to, words.rows[i]);
    }
}

/* ---- labels ---- */

void prom_put_label_name(struct buf *to, const char *key)
{
    if (strcmp(key, "agent") == 0)
        buf_append_text(to, "attribute_");
    else if (key[0] >= '0' && key[0] <= '9')
        buf_append_text(to, "key_");
    else if (!is_letter_or_digit(key[0]) && key[0] && !is_letter_or_digit(key[1]))
        buf_append_text(to, "key"); /* names that begin with two of `_` are Prometheus' own */
    for (; *key; key++)
        buf_append(to, is_letter_or_digit(*key) ? key : "_", 1);
}

static int by_name(const void *a, const void *b)
{
    const struct prom_label *x = a, *y = b;
    int order = strcmp(x->name, y->name);

    return order ? order : strcmp(x->value, y->value);
}

int prom_labels(const struct store_attribute *attributes,
                size_t n_attributes,
                struct arena *arena,
                struct prom_label **ret,
                size_t *ret_n)
{
    CLEANUP(buf_deinit) struct buf name = { 0 };
    struct prom_label *labels = arena_alloc_array(arena, n_attributes + 1, sizeof(*labels));
    size_t n = 0;

    if (!labels)
        return fault(-ENOMEM, "no room for labels");
    for (size_t i = 0; i < n_attributes; i++) {
        buf_clear(&name);
        prom_put_label_name(&name, attributes[i].key);
        labels[i].name = buf_failed(&name) ? NULL : arena_copy(arena, buf_span(&name));
        labels[i].value = attributes[i].value;
        if (!labels[i].name)
            return fault(-ENOMEM, "no room for labels");
    }
    qsort(labels, n_attributes, sizeof(*labels), by_name);
    for (size_t i = 0; i < n_attributes; i++) {
        if (n > 0 && strcmp(labels[n - 1].name, labels[i].name) == 0) {
            labels[n - 1].value =
                arena_printf(arena, "%s;%s", labels[n - 1].value, labels[i].value);
            if (!labels[n - 1].value)
                return fault(-ENOMEM, "no room for labels");
        } else {
            labels[n++] = labels[i];
        }
    }
    *ret = labels;
    *ret_n = n;
    return 0;
}

/* ---- text ---- */

/* What would end the text, escaped; a quote too in values. */
static void put_escaped(struct buf *to, const char *text, bool is_value)
{
    for (;;) {
        size_t plain = strcspn(text, is_value ? "\\\n\"" : "\\\n");

        buf_append(to, text, plain);
        text += plain;
        if (!*text)
            return;
        buf_append_text(to, *text == '\n' ? "\\n" : *text == '"' ? "\\\"" : "\\\\");
        text++;
    }
}

void prom_put_family(struct buf *to, const char *name, enum prom_type type, const char *help)
{
    static const char *const names[] = { "untyped", "gauge", "counter" };

    buf_printf(to, "# HELP %s ", name);
    put_escaped(to, help, false);
    buf_printf(to, "\n# TYPE %s %s\n", name, names[type]);
}

void prom_put_label(struct buf *to, const char *name, const char *value)
{
    buf_printf(to, "%s=\"", name);
    put_escaped(to, value, true);
    buf_append_text(to, "\"");
}

void prom_put_value(struct buf *to, double value)
{
    struct json_writer writer;

    if (isnan(value)) {
        buf_append_text(to, "NaN");
    } else if (isinf(value)) {
        buf_append_text(to, value > 0 ? "+Inf" : "-Inf");
    } else {
        json_begin(&writer, to, false);
        json_f64(&writer, value);
    }
}
