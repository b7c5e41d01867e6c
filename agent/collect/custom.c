/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/collect/custom.h"

#include <string.h>

struct adding {
    struct probe *probe;
    const struct spool_attribute *source;
};

static void on_sample(void *ctx, const struct promtext_sample *sample)
{
    const struct adding *adding = ctx;
    struct spool_attribute attributes[PROMTEXT_MAX_LABELS + 2];
    const struct collect_metric metric = { sample->name, sample->unit, sample->kind };
    size_t n = 0;

    if (adding->source)
        attributes[n++] = *adding->source;
    memcpy(attributes + n, sample->labels, sample->n_labels * sizeof(attributes[0]));
    attributes[n + sample->n_labels] = (struct spool_attribute){ NULL, NULL };
    collect_add(adding->probe, &metric, sample->value, attributes);
}

bool custom_add_text(struct probe *probe,
                     char *text,
                     size_t len,
                     const struct promtext_rules *rules,
                     const struct spool_attribute *source,
                     struct promtext_problem *ret_problem)
{
    struct adding adding = { probe, source };
    struct probe_mark mark = collect_mark(probe);

    if (promtext_parse(text, len, rules, on_sample, &adding, ret_problem) == 0)
        return true;
    collect_rewind(probe, mark);
    return false;
}

/* FNV-1a; never 0. Troubles that collide are said once together. */
static uint64_t hash_of(const char *text)
{
    uint64_t hash = 14695981039346656037u;

    for (; *text; text++)
        hash = (hash ^ (uint8_t) *text) * 1099511628211u;
    return hash ? hash : 1;
}

#define N_ROWS (sizeof(((struct custom_troubles *) 0)->rows) / sizeof(uint64_t[2]))

bool custom_is_news(struct custom_troubles *troubles, const char *name, const char *words)
{
    uint64_t hash = hash_of(name), of_words = hash_of(words);
    size_t at = 0, unused = N_ROWS;

    for (; at < N_ROWS && troubles->rows[at].name != hash; at++)
        if (troubles->rows[at].name == 0 && unused == N_ROWS)
            unused = at;
    if (at == N_ROWS)
        at = unused;
    if (at == N_ROWS)
        return false; /* 64 are in trouble: the metrics tell */
    if (troubles->rows[at].name == hash && troubles->rows[at].words == of_words)
        return false;
    troubles->rows[at].name = hash;
    troubles->rows[at].words = of_words;
    return true;
}

void custom_is_well(struct custom_troubles *troubles, const char *name)
{
    uint64_t hash = hash_of(name);

    for (size_t i = 0; i < N_ROWS; i++)
        if (troubles->rows[i].name == hash)
            troubles->rows[i].name = 0;
}
