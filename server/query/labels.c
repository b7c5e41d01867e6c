/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Labels that operators set. One transaction for all the agents of a question; two questions at
 * once are two transactions, and for one label of one agent the later one holds.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/fault.h"
#include "common/base/text.h"
#include "server/query/inside.h"

#define MAX_KEY_BYTES 63
#define MAX_VALUE_BYTES 255
#define MAX_AGENT_LABELS 32
/* Of one question. */
#define MAX_CHANGES 64
/* What store_agent_get() copies of one agent. */
#define AGENT_BYTES (UINT64_C(1) << 20)

struct changes {
    const struct query *query;
    const struct query_labels *request;
    struct arena *arena;
    struct query_problem *problem;
    struct store_write *writes;
    size_t n_writes, capacity;
};

/* ---- rules ---- */

static bool is_key(const char *key)
{
    size_t len = strlen(key);

    return len > 0 && len <= MAX_KEY_BYTES && strchr("_./-", key[0]) == NULL &&
           strspn(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-") == len;
}

static bool is_value(const char *value)
{
    struct span rest = span_of_text(value);

    if (rest.len == 0 || rest.len > MAX_VALUE_BYTES)
        return false;
    while (rest.len > 0) {
        uint32_t code;
        size_t len = text_utf8_next(rest, &code);

        if (len == 0 || !text_is_printable(code))
            return false;
        rest = span_of(rest.data + len, rest.len - len);
    }
    return true;
}

static int check_key(const char *field, const char *key, struct query_problem *problem)
{
    if (is_key(key))
        return 0;
    return query_refuse(problem, QUERY_BAD, field,
                        "`%.80s` is no label: 1 to %d of a-z A-Z 0-9 . _ - /, a letter or digit "
                        "first",
                        key, MAX_KEY_BYTES);
}

static int check_set(const struct query_labels *request, size_t at, struct query_problem *problem)
{
    const struct store_attribute *label = &request->set[at];
    int r = check_key("set", label->key, problem);

    if (r)
        return pass(r);
    if (!is_value(label->value))
        return query_refuse(problem, QUERY_BAD, "set",
                            "the value of `%.64s` has 1 to %d bytes of printable text; `remove` "
                            "takes a label away",
                            label->key, MAX_VALUE_BYTES);
    for (size_t i = 0; i < at; i++)
        if (strcmp(request->set[i].key, label->key) == 0)
            return query_refuse(problem, QUERY_BAD, "set", "`%.64s` is set twice", label->key);
    for (size_t i = 0; i < request->n_remove; i++)
        if (strcmp(request->remove[i], label->key) == 0)
            return query_refuse(problem, QUERY_BAD, "remove", "`%.64s` is set and removed",
                                label->key);
    return 0;
}

static int check(const struct query_labels *request, struct query_problem *problem)
{
    const struct query_selector *selector = request->selector;
    int r = 0;

    if (selector->n_ids == 0 && selector->n_labels == 0 &&
        (!selector->pattern || !*selector->pattern))
        return query_refuse(problem, QUERY_BAD, "agents",
                            "which agents? ids, labels or a pattern; the pattern * means all");
    if (request->n_set + request->n_remove == 0)
        return query_refuse(problem, QUERY_BAD, "set", "nothing to set and nothing to remove");
    if (request->n_set + request->n_remove > MAX_CHANGES)
        return query_refuse(problem, QUERY_BAD, "set", "%zu labels to set or remove, at most %d",
                            request->n_set + request->n_remove, MAX_CHANGES);
    for (size_t i = 0; !r && i < request->n_remove; i++)
        r = check_key("remove", request->remove[i], problem);
    for (size_t i = 0; !r && i < request->n_set; i++)
        r = check_set(request, i, problem);
    return pass(r);
}

/* ---- writes ---- */

static const char *value_of(const struct store_agent *agent, const char *key)
{
    for (size_t i = 0; i < agent->n_labels; i++)
        if (strcmp(agent->labels[i].key, key) == 0)
            return agent->labels[i].value;
    return NULL;
}

/* `value` NULL: removes. */
static int
add_write(struct changes *changes, const char *agent_id, const char *label, const char *value)
{
    const size_t id_len = strlen(agent_id), label_len = strlen(label);
    char *key = arena_alloc(changes->arena, id_len + 1 + label_len + 1);

    if (changes->n_writes == changes->capacity) {
        size_t capacity = 2 * changes->capacity + 64;
        struct store_write *grown = reallocarray(changes->writes, capacity, sizeof(*grown));

        if (!grown)
            return fault(-ENOMEM, "labels");
        changes->writes = grown;
        changes->capacity = capacity;
    }
    if (!key)
        return query_refuse(changes->problem, QUERY_TOO_MUCH, "agents",
                            "too many labels at once: fewer agents or fewer labels");
    memcpy(key, agent_id, id_len + 1);
    memcpy(key + id_len + 1, label, label_len + 1);
    changes->writes[changes->n_writes++] = (struct store_write){
        .table = STORE_TABLE_LABELS,
        .key = span_of(key, id_len + 1 + label_len),
        .value = value ? span_of_text(value) : (struct span){ 0 },
    };
    return 0;
}

/* Only what differs is written. */
static int change_agent(struct changes *changes, uint32_t number, bool *ret_is_changed)
{
    const struct query_labels *request = changes->request;
    const size_t n_before = changes->n_writes;
    CLEANUP(arena_deinit) struct arena arena;
    struct store_agent agent;
    size_t n_labels;
    int r;

    arena_init(&arena, AGENT_BYTES);
    r = store_agent_get(changes->query->store, number, &arena, &agent);
    if (r)
        return fold(r);
    n_labels = agent.n_labels;
    for (size_t i = 0; !r && i < request->n_remove; i++) {
        bool is_repeated = false;

        for (size_t j = 0; j < i; j++)
            is_repeated = is_repeated || strcmp(request->remove[j], request->remove[i]) == 0;
        if (is_repeated || !value_of(&agent, request->remove[i]))
            continue;
        r = add_write(changes, agent.id, request->remove[i], NULL);
        n_labels--;
    }
    for (size_t i = 0; !r && i < request->n_set; i++) {
        const char *value = value_of(&agent, request->set[i].key);

        if (value && strcmp(value, request->set[i].value) == 0)
            continue;
        r = add_write(changes, agent.id, request->set[i].key, request->set[i].value);
        n_labels += !value;
    }
    if (!r && n_labels > MAX_AGENT_LABELS && n_labels > agent.n_labels)
        return query_refuse(changes->problem, QUERY_TOO_MUCH, "set",
                            "agent `%.64s` would have %zu labels, at most %d; remove some",
                            agent.id, n_labels, MAX_AGENT_LABELS);
    *ret_is_changed = changes->n_writes > n_before;
    return pass(r);
}

static int write_in(struct store_change *change, void *ctx)
{
    const struct changes *changes = ctx;
    int r = 0;

    for (size_t i = 0; r == 0 && i < changes->n_writes; i++)
        r = store_change_put(change, &changes->writes[i]);
    if (r == 0 && changes->request->note)
        r = changes->request->note(change, changes->request->ctx);
    return pass(r);
}

static int write_changes(struct changes *changes)
{
    int r;

    if (changes->n_writes == 0)
        return 0;
    r = store_state_change(changes->query->store, write_in, changes);
    if (r == STORE_FULL)
        return query_refuse(changes->problem, QUERY_FULL, "set", "nothing is changed");
    return fold(r);
}

int query_set_labels(const struct query *query,
                     struct query_labels *request,
                     struct arena *arena,
                     struct query_problem *ret_problem)
{
    struct changes changes = {
        .query = query, .request = request, .arena = arena, .problem = ret_problem
    };
    struct query_selected *agents;
    size_t n_agents;
    int r;

    request->n_selected = request->n_changed = 0;
    r = check(request, ret_problem);
    if (!r)
        r = query_select(query, request->selector, arena, &agents, &n_agents, ret_problem);
    if (r)
        return pass(r);
    if (n_agents == 0)
        return query_refuse(ret_problem, QUERY_NOT_FOUND, "agents",
                            "no agent that is known fits; ListAgents names them");
    for (size_t i = 0; !r && i < n_agents; i++) {
        bool is_changed = false;

        r = change_agent(&changes, agents[i].number, &is_changed);
        request->n_changed += is_changed;
    }
    request->n_selected = (uint32_t) n_agents;
    if (!r)
        r = write_changes(&changes);
    free(changes.writes);
    return pass(r);
}
