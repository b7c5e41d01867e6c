#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The store's catalogue: agents, definitions, layouts. A part of store.h, which others include.
 *
 * Thread: any, unless a function says otherwise.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/arena.h"
#include "common/base/cleanup.h"
#include "common/base/clock.h"

struct store;

/* ---- catalogue: agents ---- */

struct store_agent {
    uint32_t number; /* hub-wide, never reused; 1 .. */
    char id[64];
    wall_us first_seen, last_seen, last_sample;
    char version[64], address[64];
    int64_t clock_offset_us;
    uint32_t interval_ms, n_series;
    uint64_t n_samples, n_skipped, n_lost;
    const struct store_attribute *labels, *host; /* in the arena of the call that filled it */
    size_t n_labels, n_host;
};

struct store_attribute {
    const char *key, *value;
};

/* Finds the number or makes one, waiting for a commit. Outcomes: STORE_FULL, STORE_TOO_MUCH. */
int store_agent_intern(struct store *store, const char *id, uint32_t *ret_number) MUST_USE;
/*
 * The same for who was let in by somebody else's word, which a forgetting takes back: reads the
 * count, asks for the word, and interns with the count. Outcomes: STORE_FULL (also while an agent
 * of this id is to be forgotten and the disk does not let it: nobody new gets its number),
 * STORE_TOO_MUCH, STORE_NOT_FOUND (an agent was forgotten since: ask again).
 */
uint64_t store_agents_forgotten(struct store *store);
int store_agent_intern_since(struct store *store,
                             const char *id,
                             uint64_t since,
                             uint32_t *ret_number) MUST_USE;
/* Outcomes: STORE_NOT_FOUND. */
int store_agent_find(struct store *store, const char *id, uint32_t *ret_number) MUST_USE;
/* Outcomes: STORE_NOT_FOUND. Faults: arena exhausted. */
int store_agent_get(struct store *store,
                    uint32_t number,
                    struct arena *arena,
                    struct store_agent *ret) MUST_USE;
/*
 * The agent is erased. From the return on it is gone for everybody who asks, in a backup that is
 * made from then on too; its samples, windows, log records, inventories and uploads leave the
 * tables in the next rounds of the threads that own them, and the days' files are written anew
 * without them by the next compaction (days/erase.c). A kill in between delays that to the next
 * start. Its id is free: who comes with it is a new agent, with another number. Streams of it must
 * have been ended before. Blocks. Outcomes: STORE_NOT_FOUND, STORE_FULL.
 */
struct store_forgotten {
    uint64_t n_samples, n_log_records; /* that it had sent */
};
int store_agent_forget(struct store *store, const char *id, struct store_forgotten *ret) MUST_USE;
/*
 * A row of STORE_TABLE_META for who takes an agent out of a table of its own first: written in the
 * same transaction, value the number (u32), it makes the next start finish what a kill cut.
 * store_agent_forget() removes it. Until then nobody gets that number by interning the id; where
 * store_agent_forget() said STORE_FULL it is tried again every ten seconds.
 */
#define STORE_FORGET_KEY_BYTES 80
struct span store_forget_key(char to[static STORE_FORGET_KEY_BYTES], const char *id);
/* Numbers of all agents in order of id; in the arena. */
int store_agent_list(struct store *store,
                     struct arena *arena,
                     uint32_t **ret_numbers,
                     size_t *ret_n) MUST_USE;

/* What a hello says. In memory at once, written to `state` within 10 s and at the stop. An interval
 * of 0 and no host stay as they were: another stream of the agent has said them. */
struct store_agent_hello {
    const char *version, *address;
    int64_t clock_offset_us;
    uint32_t interval_ms;
    const struct store_attribute *host;
    size_t n_host;
    wall_us now;
};
int store_agent_hello(struct store *store,
                      uint32_t number,
                      const struct store_agent_hello *hello) MUST_USE;
void store_agent_seen(struct store *store, uint32_t number, wall_us now);
/* Batches known to be lost by other means than store_run_begin(), which counts its own. */
void store_agent_add_lost(struct store *store, uint32_t number, uint64_t n_batches);

/* ---- catalogue: definitions and layouts ---- */

enum store_kind { STORE_GAUGE = 1, STORE_COUNTER = 2 };

struct store_definition {
    uint32_t id;
    const char *name, *unit;
    enum store_kind kind;
    const struct store_attribute *attributes; /* ascending by key */
    size_t n_attributes;
};

struct store_layout {
    uint32_t id, n_columns;
    const uint32_t *definitions; /* ascending ids */
};

/* By id; the answer lives as long as the store. NULL when there is none. */
const struct store_definition *store_definition_get(struct store *store, uint32_t id);
const struct store_layout *store_layout_get(struct store *store, uint32_t id);
/* Every definition of a metric: how many there are; at most max are written. */
size_t store_definitions_of(struct store *store, const char *metric, uint32_t *to, size_t max);

/*
 * Interns definitions and layouts, new ones with one commit of `state` for all that wait. Answers
 * at once (0, and no done()) when all is known; else STORE_QUEUED, and done() comes on the state
 * writer's thread.
 */
#define STORE_QUEUED 100

struct store_intern {
    const struct store_definition *definitions; /* ids ignored; attributes ascending */
    size_t n_definitions;
    uint32_t *ret_ids; /* n_definitions of them, in the order asked */
    void (*done)(struct store_intern *request, int r); /* 0, STORE_FULL, STORE_TOO_MUCH, a fault */
    bool is_layout;                                    /* one layout instead of definitions */
    const uint32_t *layout;                            /* ids of definitions, ascending, unique */
    size_t n_layout;
    uint32_t ret_layout;
};
/* Outcomes: STORE_QUEUED, STORE_STOPPED. Request and all behind it are the store's until done(). */
int store_intern(struct store *store, struct store_intern *request) MUST_USE;
