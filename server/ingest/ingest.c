/* SPDX-License-Identifier: Apache-2.0 */
#include "server/ingest/ingest.h"

#include <errno.h>
#include <stdlib.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "server/ingest/stream.h"

#define DAY_US (INT64_C(24) * 3600 * 1000000)

void ingest_default_limits(struct ingest_limits *ret)
{
    *ret = (struct ingest_limits){
        .batch_samples = 65536,
        .batch_new_series = 4096,
        .agent_series = 100000,
        .name_bytes = 255,
        .series_attributes = 32,
        .attribute_bytes = 1024,
        .unacknowledged_batches = 1024,
        .batch_log_records = 65536,
        .log_body_bytes = 256 << 10,
        .log_attributes = 32,
        .retention_us = 30 * DAY_US,
        .logs_retention_us = 30 * DAY_US,
        .future_us = 3600 * INT64_C(1000000),
        .inventory = {
            .tables = 64,
            .columns = 64,
            .rows = 200000,
            .value_bytes = 4096,
            .table_bytes = UINT64_C(16) << 20,
            .upload_bytes = UINT64_C(64) << 20,
            .pending_bytes = UINT64_C(256) << 20,
            .retention_us = 365 * DAY_US,
            .upload_us = INT64_C(600000000),
        },
    };
}

int ingest_new(struct ingest **ret, struct store *store, const struct ingest_limits *limits)
{
    struct ingest *ingest = calloc(1, sizeof(*ingest));

    if (!ingest)
        return fault(-ENOMEM, "no memory for ingest");
    ingest->store = store;
    atomic_init(&ingest->n_refs, 1);
    ingest->shared.limits = *limits;
    list_init(&ingest->shared.waiting);
    pthread_mutex_init(&ingest->shared.lock, NULL);
    pthread_mutex_init(&ingest->inventories.lock, NULL);
    pthread_mutex_init(&ingest->packers.lock, NULL);
    *ret = ingest;
    return 0;
}

struct ingest *ingest_ref(struct ingest *ingest)
{
    atomic_fetch_add(&ingest->n_refs, 1);
    return ingest;
}

void ingest_unref(struct ingest *ingest)
{
    if (atomic_fetch_sub(&ingest->n_refs, 1) != 1)
        return;
    map_deinit(&ingest->shared.agents);
    map_deinit(&ingest->inventories.uploaders);
    pthread_mutex_destroy(&ingest->shared.lock);
    pthread_mutex_destroy(&ingest->inventories.lock);
    for (size_t i = 0; i < ingest->packers.n_idle; i++)
        store_packer_free(ingest->packers.idle[i]);
    pthread_mutex_destroy(&ingest->packers.lock);
    free(ingest);
}

struct ingest *ingest_free(struct ingest *ingest)
{
    if (!ingest)
        return NULL;
    ensure(ingest->shared.n_streams == 0);
    ensure(list_is_empty(&ingest->shared.waiting));
    ingest_unref(ingest);
    return NULL;
}

void ingest_set_limits(struct ingest *ingest, const struct ingest_limits *limits)
{
    pthread_mutex_lock(&ingest->shared.lock);
    ingest->shared.limits = *limits;
    atomic_fetch_add(&ingest->limits_version, 1);
    pthread_mutex_unlock(&ingest->shared.lock);
}

void ingest_get_limits(struct ingest *ingest, struct ingest_limits *ret)
{
    pthread_mutex_lock(&ingest->shared.lock);
    *ret = ingest->shared.limits;
    pthread_mutex_unlock(&ingest->shared.lock);
}

/* ---- packers ---- */

int ingest_take_packer(struct ingest *ingest, struct store_packer **ret)
{
    struct store_packer *packer = NULL;

    pthread_mutex_lock(&ingest->packers.lock);
    if (ingest->packers.n_idle > 0)
        packer = ingest->packers.idle[--ingest->packers.n_idle];
    pthread_mutex_unlock(&ingest->packers.lock);
    if (!packer)
        return pass(store_packer_new(ret));
    *ret = packer;
    return 0;
}

void ingest_give_back_packer(struct ingest *ingest, struct store_packer *packer)
{
    bool is_kept = !store_packer_is_large(packer);

    pthread_mutex_lock(&ingest->packers.lock);
    is_kept = is_kept && ingest->packers.n_idle < INGEST_PACKERS;
    if (is_kept)
        ingest->packers.idle[ingest->packers.n_idle++] = packer;
    pthread_mutex_unlock(&ingest->packers.lock);
    if (!is_kept)
        store_packer_free(packer);
}

/* ---- the registry of open streams ---- */

static struct ingest_agent *find_agent(const struct ingest *ingest, uint32_t number)
{
    return map_get(&ingest->shared.agents, span_of(&number, sizeof(number)));
}

static int find_or_add_agent(struct ingest *ingest, uint32_t number, struct ingest_agent **ret)
{
    struct ingest_agent *agent = find_agent(ingest, number);
    int r;

    if (!agent) {
        agent = calloc(1, sizeof(*agent));
        if (!agent)
            return fault(-ENOMEM, "no memory for an agent's streams");
        agent->number = number;
        list_init(&agent->streams);
        r = map_put(&ingest->shared.agents, span_of(&agent->number, sizeof(agent->number)), agent);
        if (r < 0) {
            free(agent);
            return pass(r);
        }
    }
    *ret = agent;
    return 0;
}

/* Every source that both have must be the same. */
static bool is_same_machine(const struct ingest_machine *a, const struct ingest_machine *b)
{
    for (size_t i = 0; i < N_SOURCES; i++) {
        if (a->len[i] == 0 || b->len[i] == 0)
            continue;
        if (!span_equal(span_of(a->bytes[i], a->len[i]), span_of(b->bytes[i], b->len[i])))
            return false;
    }
    return true;
}

static bool has_other_machine(const struct ingest_agent *agent,
                              const struct ingest_machine *machine)
{
    for (const struct list *pos = agent->streams.next; pos != &agent->streams; pos = pos->next) {
        const struct ingest_stream *live = container_of(pos, struct ingest_stream, in_agent);

        if (!is_same_machine(&live->machine, machine))
            return true;
    }
    return false;
}

bool ingest_is_clone(struct ingest *ingest, uint32_t number, const struct ingest_machine *machine)
{
    const struct ingest_agent *agent;
    bool is_clone;

    pthread_mutex_lock(&ingest->shared.lock);
    agent = find_agent(ingest, number);
    is_clone = agent && has_other_machine(agent, machine);
    pthread_mutex_unlock(&ingest->shared.lock);
    return is_clone;
}

/* With the lock held. */
static void unlist(struct ingest *ingest, struct ingest_stream *stream)
{
    struct ingest_agent *agent;

    if (!list_is_empty(&stream->in_waiting)) {
        list_remove(&stream->in_waiting);
        atomic_fetch_sub(&ingest->n_waiting, 1);
    }
    if (!stream->is_listed)
        return;
    stream->is_listed = false;
    list_remove(&stream->in_agent);
    ensure(ingest->shared.n_streams > 0);
    ingest->shared.n_streams--;

    agent = find_agent(ingest, stream->agent);
    ensure(agent != NULL);
    if (list_is_empty(&agent->streams)) {
        (void) map_remove(&ingest->shared.agents, span_of(&agent->number, sizeof(agent->number)));
        free(agent);
    }
}

static bool is_same_run(const struct ingest_stream *a, const struct ingest_stream *b)
{
    return a->signal == b->signal && memcmp(a->spool, b->spool, STORE_SPOOL_BYTES) == 0;
}

/* With what it takes over gone. */
static bool is_one_too_many(const struct ingest_agent *agent, const struct ingest_stream *newer)
{
    size_t n = 0;

    list_each(pos, &agent->streams) n +=
        !is_same_run(container_of(pos, struct ingest_stream, in_agent), newer);
    return n >= INGEST_STREAMS_PER_AGENT;
}

static void
take_over(struct ingest *ingest, struct ingest_agent *agent, const struct ingest_stream *newer)
{
    for (struct list *pos = agent->streams.next, *next = pos->next; pos != &agent->streams;
         pos = next, next = pos->next) {
        struct ingest_stream *older = container_of(pos, struct ingest_stream, in_agent);

        if (older == newer)
            continue;
        if (newer->is_vouched && !is_same_machine(&older->machine, &newer->machine))
            (void) stream_end(older, INGEST_CLONED);
        else if (is_same_run(older, newer))
            (void) stream_end(older, INGEST_TAKEN_OVER);
        else
            continue;
        unlist(ingest, older);
    }
}

bool ingest_list_stream(struct ingest *ingest, struct ingest_stream *stream, int *ret_r)
{
    struct ingest_agent *agent = NULL;
    bool is_clone = false;

    pthread_mutex_lock(&ingest->shared.lock);
    *ret_r = find_or_add_agent(ingest, stream->agent, &agent);
    if (*ret_r == 0) {
        is_clone = !stream->is_vouched && has_other_machine(agent, &stream->machine);
        if (!is_clone && is_one_too_many(agent, stream)) {
            *ret_r = INGEST_LIMIT;
        } else if (!is_clone) {
            /* The new one first, so that the row does not go with the old one. */
            list_append(&agent->streams, &stream->in_agent);
            stream->is_listed = true;
            ingest->shared.n_streams++;
            take_over(ingest, agent, stream);
        }
    }
    pthread_mutex_unlock(&ingest->shared.lock);
    return !is_clone;
}

void ingest_unlist_stream(struct ingest *ingest, struct ingest_stream *stream)
{
    pthread_mutex_lock(&ingest->shared.lock);
    unlist(ingest, stream);
    pthread_mutex_unlock(&ingest->shared.lock);
}

void ingest_wait_for_room(struct ingest *ingest, struct ingest_stream *stream)
{
    pthread_mutex_lock(&ingest->shared.lock);
    if (list_is_empty(&stream->in_waiting)) {
        list_append(&ingest->shared.waiting, &stream->in_waiting);
        atomic_fetch_add(&ingest->n_waiting, 1);
    }
    pthread_mutex_unlock(&ingest->shared.lock);
}

void ingest_tell_room(struct ingest *ingest)
{
    if (atomic_load(&ingest->n_waiting) == 0)
        return;
    pthread_mutex_lock(&ingest->shared.lock);
    for (struct list *pos = ingest->shared.waiting.next, *next = pos->next;
         pos != &ingest->shared.waiting; pos = next, next = pos->next) {
        struct ingest_stream *stream = container_of(pos, struct ingest_stream, in_waiting);

        list_remove(pos);
        atomic_fetch_sub(&ingest->n_waiting, 1);
        stream_make_ready(stream);
    }
    pthread_mutex_unlock(&ingest->shared.lock);
}

bool ingest_get_instance(struct ingest *ingest, uint32_t number, uint8_t ret[16])
{
    const struct ingest_agent *agent;

    pthread_mutex_lock(&ingest->shared.lock);
    agent = find_agent(ingest, number);
    if (agent) /* with a row there is a stream */
        memcpy(ret, container_of(agent->streams.prev, struct ingest_stream, in_agent)->instance,
               16);
    pthread_mutex_unlock(&ingest->shared.lock);
    return agent != NULL;
}

bool ingest_is_connected(struct ingest *ingest, uint32_t agent)
{
    bool is_connected;

    pthread_mutex_lock(&ingest->shared.lock);
    is_connected = find_agent(ingest, agent) != NULL;
    pthread_mutex_unlock(&ingest->shared.lock);
    return is_connected;
}

bool ingest_run_is_connected(struct ingest *ingest,
                             uint32_t agent,
                             enum store_signal signal,
                             const uint8_t spool[STORE_SPOOL_BYTES])
{
    const struct ingest_agent *row;
    bool is_connected = false;

    pthread_mutex_lock(&ingest->shared.lock);
    row = find_agent(ingest, agent);
    if (row) {
        for (const struct list *pos = row->streams.next; pos != &row->streams; pos = pos->next) {
            const struct ingest_stream *stream = container_of(pos, struct ingest_stream, in_agent);

            if (stream->signal == signal && memcmp(stream->spool, spool, STORE_SPOOL_BYTES) == 0)
                is_connected = true;
        }
    }
    pthread_mutex_unlock(&ingest->shared.lock);
    return is_connected;
}

void ingest_get_stats(struct ingest *ingest, struct ingest_stats *ret)
{
    pthread_mutex_lock(&ingest->shared.lock);
    *ret = (struct ingest_stats){
        .n_streams = ingest->shared.n_streams,
        .n_agents = (uint32_t) ingest->shared.agents.n_entries,
        .n_refused = atomic_load(&ingest->n_refused),
    };
    pthread_mutex_unlock(&ingest->shared.lock);
}
