/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/spool/series.h"

#include <errno.h>
#include <stdlib.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"

static size_t put_text(const char *text, char *to, size_t size, size_t at)
{
    size_t bytes = strlen(text) + 1;

    if (at + bytes <= size)
        memcpy(to + at, text, bytes);
    return at + bytes;
}

size_t
spool_series_key(const char *name, const struct spool_attribute *attributes, char *to, size_t size)
{
    size_t at = put_text(name, to, size, 0);

    for (; attributes && attributes->key; attributes++) {
        at = put_text(attributes->key, to, size, at);
        at = put_text(attributes->value, to, size, at);
    }
    return at;
}

static size_t count_texts(struct span key)
{
    size_t n = 0;

    for (size_t i = 0; i < key.len; i++)
        n += key.data[i] == '\0';
    return n;
}

/* One block: the struct, the attribute rows, the key, the unit. */
int spool_series_new(struct spool_series **ret,
                     uint32_t id,
                     enum spool_kind kind,
                     const char *unit,
                     struct span key)
{
    size_t n_texts = count_texts(key);
    size_t n_attributes, unit_bytes = strlen(unit) + 1;
    struct spool_attribute *attributes;
    struct spool_series *series;
    char *text, *at;

    ensure(id != 0);
    ensure(n_texts % 2 == 1 && key.data[key.len - 1] == '\0');

    n_attributes = (n_texts - 1) / 2;
    series = malloc(sizeof(*series) + n_attributes * sizeof(*attributes) + key.len + unit_bytes);
    if (!series)
        return fault(-ENOMEM, "no memory for a series");

    attributes = (struct spool_attribute *) (void *) (series + 1);
    text = (char *) (attributes + n_attributes);
    memcpy(text, key.data, key.len);
    memcpy(text + key.len, unit, unit_bytes);

    *series = (struct spool_series){
        .id = id,
        .n_refs = 1,
        .kind = kind,
        .name = text,
        .unit = text + key.len,
        .n_attributes = n_attributes,
        .attributes = attributes,
        .key = span_of(text, key.len),
    };
    at = text + strlen(text) + 1;
    for (size_t i = 0; i < n_attributes; i++) {
        attributes[i].key = at;
        at += strlen(at) + 1;
        attributes[i].value = at;
        at += strlen(at) + 1;
    }
    *ret = series;
    return 0;
}

struct spool_series *spool_series_ref(struct spool_series *series)
{
    ensure(series->n_refs > 0);
    series->n_refs++;
    return series;
}

struct spool_series *spool_series_unref(struct spool_series *series)
{
    if (!series)
        return NULL;
    ensure(series->n_refs > 0);
    if (--series->n_refs == 0)
        free(series);
    return NULL;
}

int spool_layout_new(struct spool_layout **ret,
                     uint32_t id,
                     struct spool_series *const *series,
                     size_t n_series)
{
    struct spool_layout *layout;

    ensure(id != 0);

    layout = malloc(sizeof(*layout) + n_series * sizeof(struct spool_series *));
    if (!layout)
        return fault(-ENOMEM, "no memory for a layout of %zu series", n_series);

    layout->id = id;
    layout->n_refs = 1;
    layout->n_series = n_series;
    for (size_t i = 0; i < n_series; i++)
        layout->series[i] = spool_series_ref(series[i]);
    *ret = layout;
    return 0;
}

struct spool_layout *spool_layout_ref(struct spool_layout *layout)
{
    ensure(layout->n_refs > 0);
    layout->n_refs++;
    return layout;
}

struct spool_layout *spool_layout_unref(struct spool_layout *layout)
{
    if (!layout)
        return NULL;
    ensure(layout->n_refs > 0);
    if (--layout->n_refs > 0)
        return NULL;
    for (size_t i = 0; i < layout->n_series; i++)
        (void) spool_series_unref(layout->series[i]);
    free(layout);
    return NULL;
}
