#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Counting series: which definitions the selected agents have, by metric. A layout is looked up
 * once, however many agents share it.
 */

#include "common/base/map.h"
#include "server/query/inside.h"

struct census_metric {
    const char *name, *unit;
    enum store_kind kind;
    uint32_t n_definitions; /* distinct sets of attributes */
    uint32_t n_agents;
    uint64_t n_series;   /* a set of attributes of an agent, each */
    uint32_t last_agent; /* the newest agent counted, so that each counts once */
};

struct census_definition {
    const struct store_definition *definition;
    struct census_metric *metric;
    uint32_t n_agents;
    uint32_t last_agent;
};

struct census {
    const struct query *query;
    const char *name_pattern; /* NULL or empty: every metric */
    struct query_problem *problem;
    struct arena arena;     /* its own */
    struct map metrics;     /* name -> census_metric */
    struct map layouts;     /* id -> census_layout */
    struct map definitions; /* id -> census_definition */
    uint64_t n_series;
};

void census_init(struct census *census,
                 const struct query *query,
                 const char *name_pattern,
                 struct query_problem *problem);
void census_deinit(struct census *census);
/* Counts one agent's series; *ret_n how many. Outcomes: QUERY_TOO_MUCH. */
int census_agent(struct census *census, uint32_t agent, uint32_t *ret_n) MUST_USE;
/* The refusal of a question whose counting has no more room. */
int census_refuse(const struct census *census);
