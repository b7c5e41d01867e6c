#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/* What the sources of custom metrics have in common. Private to agent/collect. */

#include "agent/collect/collector.h"
#include "agent/collect/promtext.h"

/*
 * Adds the samples of a text, all or none, each with `source` (NULL: without) beside its labels.
 * False: it is bad; ret_problem says where. NaN and infinities are left out.
 */
bool custom_add_text(struct probe *probe,
                     char *text,
                     size_t len,
                     const struct promtext_rules *rules,
                     const struct spool_attribute *source,
                     struct promtext_problem *ret_problem);

/* Whether what follows is news: the same words of the same name are said once, until
 * custom_is_well(). */
struct custom_troubles {
    struct {
        uint64_t name, words; /* hashes; 0: free */
    } rows[64];
};
bool custom_is_news(struct custom_troubles *troubles, const char *name, const char *words);
void custom_is_well(struct custom_troubles *troubles, const char *name);
