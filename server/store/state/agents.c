/* SPDX-License-Identifier: Apache-2.0 */
#include "server/store/state/agents.h"

#include <errno.h>
#include <stdlib.h>

#include "common/base/buf.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/list.h"
#include "common/log/log.h"

#define RECORD_VERSION 2u

struct agent_record {
    uint32_t version, interval_ms;
    int64_t first_seen_us, last_seen_us, last_sample_us, clock_offset_us;
    uint64_t n_samples, n_skipped, n_lost, counted_chunk;
    uint32_t n_host, counted_offset;
    uint64_t n_log_records, n_log_bytes, n_log_skipped;
    int64_t last_log_us;
};

#define RECORD_1_BYTES offsetof(struct agent_record, n_log_records)

static_assert(sizeof(struct agent_record) == 112, "on disk");
static_assert(RECORD_1_BYTES == 80, "on disk");

/* ---- one agent ---- */

static void copy_bounded(char *to, size_t size, const char *from)
{
    size_t len = from ? strnlen(from, size - 1) : 0;

    if (len)
        memcpy(to, from, len);
    to[len] = 0;
}

static struct agent *agent_new(uint32_t number, const char *id)
{
    struct agent *agent = calloc(1, sizeof(*agent));

    if (!agent)
        return NULL;
    ensure(pthread_mutex_init(&agent->lock, NULL) == 0);
    agent->facts.number = number;
    agent->logs_of.last_us = INT64_MIN;
    copy_bounded(agent->facts.id, sizeof(agent->facts.id), id);
    return agent;
}

static void agent_free(struct agent *agent)
{
    heads_deinit(&agent->heads);
    log_heads_deinit(&agent->logs);
    buf_deinit(&agent->spans);
    buf_deinit(&agent->rolled);
    free(agent->host);
    free(agent->series);
    pthread_mutex_destroy(&agent->lock);
    free(agent);
}

/* One piece of memory for the attributes and their texts. */
static int agent_set_host(struct agent *agent, const struct store_attribute *host, size_t n)
{
    size_t n_bytes = n * sizeof(*host);
    struct store_attribute *copy = NULL;
    char *at;

    for (size_t i = 0; i < n; i++)
        n_bytes += strlen(host[i].key) + strlen(host[i].value) + 2;
    if (n) {
        copy = malloc(n_bytes);
        if (!copy)
            return fault(-ENOMEM, "no memory for what a host says of itself");
        at = (char *) &copy[n];
        for (size_t i = 0; i < n; i++) {
            copy[i].key = at;
            at = stpcpy(at, host[i].key) + 1;
            copy[i].value = at;
            at = stpcpy(at, host[i].value) + 1;
        }
    }
    free(agent->host);
    agent->host = copy;
    agent->facts.host = copy;
    agent->facts.n_host = n;
    return 0;
}

int agent_hello(struct agent *agent, const struct store_agent_hello *hello)
{
    int r = 0;

    pthread_mutex_lock(&agent->lock);
    if (hello->n_host > 0)
        r = agent_set_host(agent, hello->host, hello->n_host);
    copy_bounded(agent->facts.version, sizeof(agent->facts.version), hello->version);
    copy_bounded(agent->facts.address, sizeof(agent->facts.address), hello->address);
    agent->facts.clock_offset_us = hello->clock_offset_us;
    if (hello->interval_ms > 0)
        agent->facts.interval_ms = hello->interval_ms;
    if (hello->now.us > agent->facts.last_seen.us)
        agent->facts.last_seen = hello->now;
    agent->is_dirty = true;
    pthread_mutex_unlock(&agent->lock);
    return pass(r);
}

void agent_count(struct agent *agent, const struct format_batch *record, struct position at)
{
    bool is_logs = record->head.signal == STORE_LOGS;

    agent->counted = at;
    switch ((enum format_type) record->head.type) {
    case FORMAT_BATCH:
        *(is_logs ? &agent->logs_of.n_records : &agent->facts.n_samples) += record->count;
        agent->logs_of.n_bytes += is_logs ? record->n_raw_bytes : 0;
        break;
    case FORMAT_SKIP:
        *(is_logs ? &agent->logs_of.n_skipped : &agent->facts.n_skipped) += record->count;
        break;
    case FORMAT_BEGIN:
        agent->facts.n_lost += record->count;
        break;
    case FORMAT_ROW:
    case FORMAT_PACK:
        break;
    }
    if (record->received_us > agent->facts.last_seen.us)
        agent->facts.last_seen.us = record->received_us;
    agent->is_dirty = true;
}

/* The union of two ascending lists; the agent's becomes it. */
static int agent_add_series(struct agent *agent, const struct store_layout *layout)
{
    size_t n = 0, a = 0, b = 0;
    uint32_t *merged = malloc(((size_t) agent->n_series + layout->n_columns + 1) * sizeof(*merged));

    if (!merged)
        return fault(-ENOMEM, "no memory for the series of an agent");
    while (a < agent->n_series || b < layout->n_columns) {
        uint32_t x = a < agent->n_series ? agent->series[a] : UINT32_MAX;
        uint32_t y = b < layout->n_columns ? layout->definitions[b] : UINT32_MAX;

        merged[n++] = x < y ? x : y;
        a += x <= y;
        b += y <= x;
    }
    free(agent->series);
    agent->series = merged;
    agent->n_series = (uint32_t) n;
    return 0;
}

int agent_add_row(struct agent *agent,
                  const struct store_layout *layout,
                  uint32_t layout_id,
                  uint32_t n_values,
                  const struct head_row *row)
{
    size_t n_heads = agent->heads.n_heads;
    int r = heads_add(&agent->heads, layout_id, n_values, row);

    if (!r && agent->heads.n_heads > n_heads && layout)
        r = agent_add_series(agent, layout);
    if (row->time_us > agent->facts.last_sample.us) {
        agent->facts.last_sample.us = row->time_us;
        agent->is_dirty = true;
    }
    return pass(r);
}

void agent_note_logs(struct agent *agent, int64_t last_us)
{
    if (last_us <= agent->logs_of.last_us)
        return;
    agent->logs_of.last_us = last_us;
    agent->is_dirty = true;
}

int agent_add_pack(struct agent *agent, const struct log_pack *pack)
{
    agent_note_logs(agent, pack->last_us);
    return pass(log_heads_add(&agent->logs, pack));
}

int agent_add_span(struct agent *agent,
                   struct buf *spans,
                   const struct store_layout *layout,
                   const struct day_span *span)
{
    size_t len = spans->len;

    day_spans_add(spans, span);
    if (buf_failed(spans))
        return fault(-ENOMEM, "no memory for the spans of an agent");
    if (spans->len > len && layout)
        return pass(agent_add_series(agent, layout));
    return 0;
}

/* ---- records ---- */

/* "~7": no agent can have it. */
#define FORGOTTEN '~'
#define ERASED "erased" /* as its version: there is nothing of it on disk */
static bool is_forgotten_id(const char *id)
{
    return id[0] == FORGOTTEN;
}

void agent_put_record(struct buf *to, const struct agent *agent)
{
    const bool is_forgotten = atomic_load(&agent->is_forgotten);
    const struct store_agent nobody = { .n_host = 0 };
    const struct store_logs_of no_logs = { .last_us = INT64_MIN };
    const struct store_agent *facts = is_forgotten ? &nobody : &agent->facts;
    const struct store_logs_of *logs_of = is_forgotten ? &no_logs : &agent->logs_of;
    const char *version = facts->version;
    struct agent_record record = {
        .version = RECORD_VERSION,
        .interval_ms = facts->interval_ms,
        .first_seen_us = facts->first_seen.us,
        .last_seen_us = facts->last_seen.us,
        .last_sample_us = facts->last_sample.us,
        .clock_offset_us = facts->clock_offset_us,
        .n_samples = facts->n_samples,
        .n_skipped = facts->n_skipped,
        .n_lost = facts->n_lost,
        .counted_chunk = agent->counted.chunk,
        .counted_offset = agent->counted.offset,
        .n_host = (uint32_t) facts->n_host,
        .n_log_records = logs_of->n_records,
        .n_log_bytes = logs_of->n_bytes,
        .n_log_skipped = logs_of->n_skipped,
        .last_log_us = logs_of->last_us,
    };

    buf_clear(to);
    buf_append(to, &record, sizeof(record));
    if (is_forgotten)
        buf_printf(to, "%c%u", FORGOTTEN, agent->facts.number);
    else
        buf_append_text(to, facts->id);
    buf_append(to, "", 1);
    if (atomic_load(&agent->erasure) == ERASURE_DONE)
        version = ERASED;
    buf_append(to, version, strlen(version) + 1);
    buf_append(to, facts->address, strlen(facts->address) + 1);
    for (size_t i = 0; i < facts->n_host; i++) {
        buf_append(to, facts->host[i].key, strlen(facts->host[i].key) + 1);
        buf_append(to, facts->host[i].value, strlen(facts->host[i].value) + 1);
    }
}

/* The next text of a record, or NULL. */
static const char *next_text(struct span *rest)
{
    const uint8_t *end = rest->len ? memchr(rest->data, 0, rest->len) : NULL;
    const char *text = (const char *) rest->data;

    if (!end)
        return NULL;
    rest->len -= (size_t) (end + 1 - rest->data);
    rest->data = end + 1;
    return text;
}

/* The head of a record of any version that is known; *ret_rest is behind it. */
static bool read_head(struct span value, struct agent_record *ret, struct span *ret_rest)
{
    size_t len = RECORD_1_BYTES;

    *ret = (struct agent_record){ .last_log_us = INT64_MIN };
    if (value.len < len)
        return false;
    memcpy(ret, value.data, len);
    if (ret->version == RECORD_VERSION)
        len = sizeof(*ret);
    if ((ret->version != 1 && ret->version != RECORD_VERSION) || value.len < len)
        return false;
    memcpy(ret, value.data, len);
    *ret_rest = span_of(value.data + len, value.len - len);
    return true;
}

static struct agent *agent_of_record(uint32_t number, struct span value)
{
    struct agent_record record;
    struct span rest;
    const char *id, *version, *address;
    struct store_attribute *host = NULL;
    struct agent *agent;
    int r = 0;

    if (number == 0 || !read_head(value, &record, &rest))
        return NULL;
    id = next_text(&rest);
    version = next_text(&rest);
    address = next_text(&rest);
    if (!id || !version || !address || !id[0] || strlen(id) >= sizeof(agent->facts.id) ||
        record.n_host > rest.len / 2)
        return NULL;
    agent = agent_new(number, id);
    host = calloc((size_t) record.n_host + 1, sizeof(*host));
    if (!agent || !host)
        r = -ENOMEM;
    for (uint32_t i = 0; !r && i < record.n_host; i++) {
        host[i].key = next_text(&rest);
        host[i].value = next_text(&rest);
        if (!host[i].key || !host[i].value)
            r = -EIO;
    }
    if (!r)
        r = agent_set_host(agent, host, record.n_host);
    free(host);
    if (r) {
        if (agent)
            agent_free(agent);
        return NULL;
    }
    copy_bounded(agent->facts.version, sizeof(agent->facts.version), version);
    copy_bounded(agent->facts.address, sizeof(agent->facts.address), address);
    agent->facts.interval_ms = record.interval_ms;
    agent->facts.first_seen.us = record.first_seen_us;
    agent->facts.last_seen.us = record.last_seen_us;
    agent->facts.last_sample.us = record.last_sample_us;
    agent->facts.clock_offset_us = record.clock_offset_us;
    agent->facts.n_samples = record.n_samples;
    agent->facts.n_skipped = record.n_skipped;
    agent->facts.n_lost = record.n_lost;
    agent->logs_of = (struct store_logs_of){ record.n_log_records, record.n_log_bytes,
                                             record.n_log_skipped, record.last_log_us };
    agent->counted.chunk = record.counted_chunk;
    agent->counted.offset = record.counted_offset;
    agent->counted_at_start = agent->counted;
    if (is_forgotten_id(id)) {
        atomic_store(&agent->is_forgotten, true);
        atomic_store(&agent->erasure, strcmp(version, ERASED) ? ERASURE_UNDER_WAY : ERASURE_DONE);
    }
    return agent;
}

bool agent_record_is_forgotten(uint32_t number, struct span record)
{
    struct agent *agent = agent_of_record(number, record);
    const bool is_forgotten = agent && atomic_load(&agent->is_forgotten);

    if (agent)
        agent_free(agent);
    return is_forgotten;
}

bool agent_record_counts(uint32_t number, struct span record, struct agent_counts *ret)
{
    struct agent *agent = agent_of_record(number, record);

    if (!agent)
        return false;
    *ret = (struct agent_counts){ agent->facts.n_samples, agent->facts.n_skipped,
                                  agent->facts.n_lost,    agent->logs_of.n_records,
                                  agent->logs_of.n_bytes, agent->counted };
    agent_free(agent);
    return true;
}

void agent_record_clear_counts(struct span record, struct buf *to)
{
    struct agent_record head;
    struct span rest;

    ensure(read_head(record, &head, &rest));
    head.version = RECORD_VERSION;
    head.n_samples = head.n_skipped = head.n_lost = 0;
    head.n_log_records = head.n_log_bytes = head.n_log_skipped = 0;
    head.counted_chunk = head.counted_offset = 0;
    buf_append(to, &head, sizeof(head));
    buf_append_span(to, rest);
}

/* ---- the list ---- */

static int add_agent(struct agents *agents, struct agent *agent)
{
    int r = 0;

    if (!atomic_load(&agent->is_forgotten))
        r = map_put(&agents->by_id, span_of_text(agent->facts.id), agent);
    if (!r && !idtable_put(&agents->table, agent->facts.number, agent))
        r = fault(-ENOMEM, "no memory for agent %u", agent->facts.number);
    return pass(r);
}

void agents_settle(struct agents *agents, int r)
{
    struct agent *agent = take(agents->pending.agents), *next;

    map_deinit(&agents->pending.by_id);
    agents->pending.by_id = (struct map){ 0 };
    pthread_rwlock_wrlock(&agents->lock);
    for (; agent; agent = next) {
        next = agent->next;
        /* As in catalog_settle(). */
        if (r == 0)
            ensure(add_agent(agents, agent) == 0);
        else
            agent_free(agent);
    }
    pthread_rwlock_unlock(&agents->lock);
    agents->pending.next_number = idtable_highest(&agents->table) + 1;
}

struct loader {
    struct agents *agents;
    int r;
};

static bool load_agent(void *ctx, struct span key, struct span value)
{
    struct loader *loader = ctx;
    uint32_t number = db_u32_of(db_val_of(key));
    struct agent *agent = agent_of_record(number, value);

    if (agent)
        loader->r = add_agent(loader->agents, agent);
    else
        loader->r = fault(-EIO, "agent %u in the state database cannot be read", number);
    return loader->r == 0;
}

int agents_open(struct agents *agents, struct state *state)
{
    struct loader loader = { .agents = agents };
    int r;

    *agents = (struct agents){ .state = state };
    ensure(pthread_rwlock_init(&agents->lock, NULL) == 0);
    r = state_each(state, STATE_AGENTS, (struct span){ 0 }, load_agent, &loader);
    agents_settle(agents, 0);
    return pass(r ? r : loader.r);
}

void agents_close(struct agents *agents)
{
    if (!agents->state)
        return;
    for (uint32_t number = 1; number <= idtable_highest(&agents->table); number++) {
        struct agent *agent = agents_get(agents, number);

        if (agent)
            agent_free(agent);
    }
    map_deinit(&agents->by_id);
    idtable_deinit(&agents->table);
    pthread_rwlock_destroy(&agents->lock);
    agents->state = NULL;
}

/* ---- interning ---- */

struct intern_job {
    struct state_job job;
    struct agents *agents;
    const char *id;
    uint64_t since;
    uint32_t number;
    bool is_leaving; /* who has the id now */
};

static bool is_since(const struct agents *agents, uint64_t since)
{
    return since == AGENTS_ANY_TIME || since == atomic_load(&agents->n_forgotten);
}

/* Outcomes: STORE_NOT_FOUND (is_leaving). */
static int take_known(struct intern_job *job, MDB_txn *txn, const struct agent *agent)
{
    uint32_t leaving;
    int r = agents_begun(job->agents, txn, job->id, &leaving);

    if (r)
        return pass(r);
    job->number = agent->facts.number;
    job->is_leaving = leaving == job->number;
    return job->is_leaving ? STORE_NOT_FOUND : 0;
}

static int intern_apply(struct state_job *base, MDB_txn *txn)
{
    struct intern_job *job = container_of(base, struct intern_job, job);
    struct agents *agents = job->agents;
    struct span id = span_of_text(job->id);
    struct agent *agent = map_get(&agents->by_id, id);
    CLEANUP(buf_deinit) struct buf record = { 0 };
    uint8_t key[4];
    int r;

    if (agent && atomic_load(&agent->is_forgotten)) /* in this very transaction */
        agent = NULL;
    if (!agent)
        agent = map_get(&agents->pending.by_id, id);
    if (!is_since(agents, job->since))
        return STORE_NOT_FOUND;
    if (agent)
        return pass(take_known(job, txn, agent));
    if (agents->pending.next_number > IDTABLE_MAX)
        return STORE_TOO_MUCH;
    agent = agent_new(agents->pending.next_number, job->id);
    if (!agent)
        return fault(-ENOMEM, "no memory for an agent");
    agents->pending.next_number++;
    agent->next = agents->pending.agents;
    agents->pending.agents = agent;
    agent->facts.first_seen = clock_wall();
    agent->facts.last_seen = agent->facts.first_seen;
    job->number = agent->facts.number;
    agent_put_record(&record, agent);
    if (buf_failed(&record))
        return fault(-ENOMEM, "no memory for the record of an agent");
    r = map_put(&agents->pending.by_id, span_of_text(agent->facts.id), agent);
    db_key_u32(key, agent->facts.number);
    if (!r)
        r = state_put(agents->state, txn, STATE_AGENTS, span_of(key, sizeof(key)),
                      buf_span(&record));
    return pass(r);
}

size_t agents_count(struct agents *agents)
{
    size_t n;

    pthread_rwlock_rdlock(&agents->lock);
    n = agents->by_id.n_entries;
    pthread_rwlock_unlock(&agents->lock);
    return n;
}

int agents_find(struct agents *agents, const char *id, uint32_t *ret_number)
{
    const struct agent *agent;

    pthread_rwlock_rdlock(&agents->lock);
    agent = map_get(&agents->by_id, span_of_text(id));
    pthread_rwlock_unlock(&agents->lock);
    if (!agent)
        return STORE_NOT_FOUND;
    *ret_number = agent->facts.number;
    return 0;
}

int agents_intern(struct agents *agents, const char *id, uint64_t since, uint32_t *ret_number)
{
    struct intern_job job = {
        .job = { .apply = intern_apply }, .agents = agents, .id = id, .since = since
    };
    size_t len = strlen(id);
    const struct agent *agent;
    int r;

    if (len == 0 || len >= sizeof(((struct store_agent *) NULL)->id))
        return fault(-EINVAL, "an agent's id has 1 to 63 bytes, not %zu", len);
    pthread_rwlock_rdlock(&agents->lock);
    agent = map_get(&agents->by_id, span_of_text(id));
    pthread_rwlock_unlock(&agents->lock);
    if (!is_since(agents, since)) /* whoever has the id by now */
        return STORE_NOT_FOUND;
    if (agent && !atomic_load(&agent->is_forgotten))
        r = take_known(&job, NULL, agent);
    else
        r = state_run(agents->state, &job.job);
    if (r == 0)
        *ret_number = job.number;
    return job.is_leaving ? STORE_FULL : pass(r);
}

/* ---- flush ---- */

struct flush_job {
    struct state_job job;
    struct agents *agents;
};

static int flush_apply(struct state_job *base, MDB_txn *txn)
{
    struct agents *agents = container_of(base, struct flush_job, job)->agents;
    CLEANUP(buf_deinit) struct buf record = { 0 };
    int r = 0;
    bool has_any = false;

    for (uint32_t number = 1; !r && number <= idtable_highest(&agents->table); number++) {
        struct agent *agent = agents_get(agents, number);
        uint8_t key[4];
        bool is_dirty;

        if (!agent)
            continue;
        pthread_mutex_lock(&agent->lock);
        is_dirty = agent->is_dirty;
        if (is_dirty) {
            agent_put_record(&record, agent);
            agent->is_dirty = false;
            agent->is_flushing = true;
        }
        pthread_mutex_unlock(&agent->lock);
        if (!is_dirty)
            continue;
        has_any = true;
        db_key_u32(key, number);
        if (buf_failed(&record))
            r = fault(-ENOMEM, "no memory for the record of an agent");
        else
            r = state_put(agents->state, txn, STATE_AGENTS, span_of(key, sizeof(key)),
                          buf_span(&record));
    }
    return r || has_any ? r : STORE_NOT_FOUND;
}

static void flush_finish(struct state_job *base, int r)
{
    struct agents *agents = container_of(base, struct flush_job, job)->agents;

    for (uint32_t number = 1; number <= idtable_highest(&agents->table); number++) {
        struct agent *agent = agents_get(agents, number);

        if (!agent)
            continue;
        pthread_mutex_lock(&agent->lock);
        if (agent->is_flushing && r)
            agent->is_dirty = true;
        agent->is_flushing = false;
        pthread_mutex_unlock(&agent->lock);
    }
}

void agents_flush(struct agents *agents)
{
    struct flush_job job = { .job = { .apply = flush_apply, .finish = flush_finish },
                             .agents = agents };

    if (state_run_here(agents->state, &job.job) == STORE_FULL)
        log_event(LOG_WARN, "agents_not_flushed", LOG_S("why", "the disk is full"));
}

int agents_flush_now(struct agents *agents)
{
    struct flush_job job = { .job = { .apply = flush_apply, .finish = flush_finish },
                             .agents = agents };
    int r = state_run(agents->state, &job.job);

    return r == STORE_NOT_FOUND ? 0 : pass(r); /* nothing to write */
}

/* ---- reading ---- */

struct label_reader {
    struct arena *arena;
    size_t skip; /* id and NUL before the label */
    struct store_attribute *labels;
    size_t n_labels, capacity;
    bool has_failed;
};

static bool read_label(void *ctx, struct span key, struct span value)
{
    struct label_reader *reader = ctx;
    struct store_attribute *label;

    if (reader->n_labels == reader->capacity) {
        size_t capacity = reader->capacity * 2 + 8;
        struct store_attribute *grown = arena_alloc_array(reader->arena, capacity, sizeof(*grown));

        if (!grown)
            return !(reader->has_failed = true);
        if (reader->n_labels)
            memcpy(grown, reader->labels, reader->n_labels * sizeof(*grown));
        reader->labels = grown;
        reader->capacity = capacity;
    }
    label = &reader->labels[reader->n_labels++];
    label->key =
        arena_copy(reader->arena, span_of(key.data + reader->skip, key.len - reader->skip));
    label->value = arena_copy(reader->arena, value);
    reader->has_failed = !label->key || !label->value;
    return !reader->has_failed;
}

/* The facts and the host attributes, under the lock. */
static bool copy_facts(struct agent *agent, struct arena *arena, struct store_agent *to)
{
    struct store_attribute *host;
    bool is_whole;

    pthread_mutex_lock(&agent->lock);
    *to = agent->facts;
    to->n_series = agent->n_series;
    host = arena_alloc_array(arena, to->n_host + 1, sizeof(*host));
    is_whole = host != NULL;
    for (size_t i = 0; is_whole && i < to->n_host; i++) {
        host[i].key = arena_copy_text(arena, agent->facts.host[i].key);
        host[i].value = arena_copy_text(arena, agent->facts.host[i].value);
        is_whole = host[i].key && host[i].value;
    }
    pthread_mutex_unlock(&agent->lock);
    to->host = host;
    return is_whole;
}

int agents_tell(struct agents *agents,
                uint32_t number,
                struct arena *arena,
                struct store_agent *ret)
{
    struct agent *agent = agents_get(agents, number);
    struct label_reader reader = { .arena = arena };
    struct store_agent told;
    int r;

    if (!agent)
        return STORE_NOT_FOUND;
    if (!copy_facts(agent, arena, &told))
        return fault(-ENOMEM, "no room for agent %u", number);
    reader.skip = strlen(told.id) + 1;
    r = state_each(agents->state, STATE_LABELS, span_of(told.id, reader.skip), read_label, &reader);
    if (r)
        return pass(r);
    if (reader.has_failed)
        return fault(-ENOMEM, "no room for the labels of agent %u", number);
    told.labels = reader.labels;
    told.n_labels = reader.n_labels;
    *ret = told;
    return 0;
}

static int by_id(const void *a, const void *b, void *ctx)
{
    struct agents *agents = ctx;
    uint32_t x = *(const uint32_t *) a, y = *(const uint32_t *) b;

    const struct agent *first = agents_get(agents, x), *second = agents_get(agents, y);

    ensure(first && second);
    return strcmp(first->facts.id, second->facts.id);
}

int agents_list(struct agents *agents, struct arena *arena, uint32_t **ret_numbers, size_t *ret_n)
{
    uint32_t highest = idtable_highest(&agents->table);
    uint32_t *numbers = arena_alloc_array(arena, (size_t) highest + 1, sizeof(*numbers));
    size_t n = 0;

    if (!numbers)
        return fault(-ENOMEM, "no room for %u agents", highest);
    for (uint32_t number = 1; number <= highest; number++) {
        const struct agent *agent = agents_get(agents, number);

        if (agent && !atomic_load(&agent->is_forgotten))
            numbers[n++] = number;
    }
    qsort_r(numbers, n, sizeof(*numbers), by_id, agents);
    *ret_numbers = numbers;
    *ret_n = n;
    return 0;
}
