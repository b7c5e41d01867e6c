/* SPDX-License-Identifier: Apache-2.0 */
#include "server/export/batch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/fault.h"
#include "server/export/encode.h"

#define MAX_SERIES_BYTES (64U << 20) /* of all kept definitions */
#define N_DEFINITIONS 65536u         /* kept; the same place, another definition: it gives way */
#define N_AGENTS 16384u
#define N_LAST 4096u
#define AGENT_BYTES (2 + 7 + 66) /* encoded: tags, lengths, "agent", an id of up to 63 bytes */
#define ARENA_BYTES (1U << 20)

struct row {
    int64_t time_ms;
    size_t values; /* place in batch.bytes: n_values x f64, then n_absent x u32 */
    uint32_t n_values, n_absent;
    uint32_t absent_at; /* the first absent place at or behind the column that is read */
    uint32_t next;      /* row of the group, number + 1; 0: the last */
};

struct group {
    uint32_t agent, layout, first, last; /* rows */
    uint32_t n_rows;
};

struct kept_series {
    uint32_t definition; /* 0: none */
    uint32_t n_before, n_behind;
    uint8_t *bytes;
};

struct kept_agent {
    uint32_t number; /* 0: none */
    uint32_t len;
    uint8_t bytes[AGENT_BYTES];
};

struct batch {
    struct store *store;
    const struct prom_label *labels;
    size_t n_labels;
    struct buf rows, groups, bytes; /* struct row, struct group, what rows point to */
    uint64_t n_values, n_unreadable;
    uint32_t last[N_LAST]; /* by agent: its latest group, number + 1 */
    struct buf samples;    /* struct encode_sample, of one series */

    struct {
        size_t group;
        uint32_t column;
    } at; /* what the next request begins with */

    struct kept_series *series;
    struct kept_agent *agents;
    size_t series_bytes;
    struct buf before, behind, name;
    struct arena arena;
};

int batch_new(struct batch **ret,
              struct store *store,
              const struct prom_label *labels,
              size_t n_labels)
{
    CLEANUP(batch_freep) struct batch *batch = calloc(1, sizeof(*batch));

    if (!batch)
        return fault(-ENOMEM, "no memory for a batch");
    batch->store = store;
    batch->labels = labels;
    batch->n_labels = n_labels;
    arena_init(&batch->arena, ARENA_BYTES);
    batch->series = calloc(N_DEFINITIONS, sizeof(*batch->series));
    batch->agents = calloc(N_AGENTS, sizeof(*batch->agents));
    if (!batch->series || !batch->agents)
        return fault(-ENOMEM, "no memory for labels");
    *ret = take(batch);
    return 0;
}

static void forget_series(struct batch *batch)
{
    for (uint32_t i = 0; batch->series && i < N_DEFINITIONS; i++) {
        free(batch->series[i].bytes);
        batch->series[i] = (struct kept_series){ .definition = 0 };
    }
    batch->series_bytes = 0;
}

struct batch *batch_free(struct batch *batch)
{
    if (!batch)
        return NULL;
    forget_series(batch);
    free(batch->series);
    free(batch->agents);
    buf_deinit(&batch->rows);
    buf_deinit(&batch->groups);
    buf_deinit(&batch->bytes);
    buf_deinit(&batch->samples);
    buf_deinit(&batch->before);
    buf_deinit(&batch->behind);
    buf_deinit(&batch->name);
    arena_deinit(&batch->arena);
    free(batch);
    return NULL;
}

/* ---- rows in ---- */

static struct row *rows_of(const struct batch *batch)
{
    return (struct row *) (void *) batch->rows.data;
}

static struct group *groups_of(const struct batch *batch)
{
    return (struct group *) (void *) batch->groups.data;
}

static size_t n_groups(const struct batch *batch)
{
    return batch->groups.len / sizeof(struct group);
}

void batch_clear(struct batch *batch)
{
    buf_clear(&batch->rows);
    buf_clear(&batch->groups);
    buf_clear(&batch->bytes);
    batch->n_values = 0;
    memset(batch->last, 0, sizeof(batch->last));
    batch->at.group = batch->at.column = 0;
}

bool batch_is_empty(const struct batch *batch)
{
    return batch->rows.len == 0;
}

bool batch_has_failed(const struct batch *batch)
{
    return buf_failed(&batch->rows) || buf_failed(&batch->groups) || buf_failed(&batch->bytes);
}

uint64_t batch_n_unreadable(const struct batch *batch)
{
    return batch->n_unreadable;
}

/* The latest group of the agent, where it has the same layout: an agent's rows keep their order. */
static struct group *find_group(const struct batch *batch, const struct store_followed *row)
{
    uint32_t last = batch->last[row->agent % N_LAST];
    struct group *group = last ? &groups_of(batch)[last - 1] : NULL;

    return group && group->agent == row->agent && group->layout == row->layout ? group : NULL;
}

/* False: no memory. */
static bool join(struct batch *batch, const struct store_followed *followed, uint32_t number)
{
    struct group *group = find_group(batch, followed);
    const struct group fresh = { .agent = followed->agent,
                                 .layout = followed->layout,
                                 .first = number,
                                 .last = number,
                                 .n_rows = 1 };

    if (group) {
        rows_of(batch)[group->last].next = number + 1;
        group->last = number;
        group->n_rows++;
        return true;
    }
    buf_append(&batch->groups, &fresh, sizeof(fresh));
    if (buf_failed(&batch->groups))
        return false;
    batch->last[followed->agent % N_LAST] = (uint32_t) n_groups(batch);
    return true;
}

bool batch_add(struct batch *batch, const struct store_followed *followed, uint32_t max_values)
{
    const struct store_layout *layout = store_layout_get(batch->store, followed->layout);
    const struct row row = { .time_ms = encode_ms(followed->time_us),
                             .values = batch->bytes.len,
                             .n_values = followed->n_values,
                             .n_absent = followed->n_absent };
    uint32_t number = (uint32_t) (batch->rows.len / sizeof(row));

    if (!layout || layout->n_columns != followed->n_values) {
        batch->n_unreadable++;
        return true;
    }
    if (followed->n_absent >= followed->n_values)
        return true;
    if (number > 0 && batch->n_values + followed->n_values > max_values)
        return false;
    buf_append(&batch->bytes, followed->values, 8 * (size_t) followed->n_values);
    buf_append(&batch->bytes, followed->absent, 4 * (size_t) followed->n_absent);
    buf_append(&batch->rows, &row, sizeof(row));
    if (batch_has_failed(batch) || !join(batch, followed, number))
        return false;
    batch->n_values += followed->n_values;
    return true;
}

/* ---- labels ---- */

static int describe(struct batch *batch, const struct store_definition *definition)
{
    struct prom_label *labels = NULL;
    size_t n = 0;
    int r;

    arena_reset(&batch->arena, ARENA_BYTES);
    buf_clear(&batch->before);
    buf_clear(&batch->behind);
    buf_clear(&batch->name);
    prom_put_name(&batch->name, definition->name, definition->unit, definition->kind);
    r = prom_labels(definition->attributes, definition->n_attributes, &batch->arena, &labels, &n);
    if (r != 0)
        return pass(r);
    encode_labels(&batch->before, &batch->behind, buf_text(&batch->name), labels, n, batch->labels,
                  batch->n_labels);
    if (buf_failed(&batch->name) || buf_failed(&batch->before) || buf_failed(&batch->behind))
        return fault(-ENOMEM, "no memory for labels");
    return 0;
}

static int make_series(struct batch *batch, uint32_t id, struct kept_series *to)
{
    const struct store_definition *definition = store_definition_get(batch->store, id);
    size_t len;
    int r;

    if (!definition)
        return fault(-EIO, "a layout names a definition that is not known");
    r = describe(batch, definition);
    if (r != 0)
        return pass(r);
    len = batch->before.len + batch->behind.len;
    if (batch->series_bytes + len > MAX_SERIES_BYTES)
        forget_series(batch);
    if (to->bytes) {
        batch->series_bytes -= to->n_before + to->n_behind;
        free(to->bytes);
    }
    *to = (struct kept_series){ .bytes = malloc(len) };
    if (!to->bytes)
        return fault(-ENOMEM, "no memory for labels");
    to->definition = id;
    to->n_before = (uint32_t) batch->before.len;
    to->n_behind = (uint32_t) batch->behind.len;
    memcpy(to->bytes, batch->before.data, batch->before.len);
    if (batch->behind.len > 0)
        memcpy(to->bytes + batch->before.len, batch->behind.data, batch->behind.len);
    batch->series_bytes += len;
    return 0;
}

static int find_series(struct batch *batch, uint32_t id, struct encode_series *ret)
{
    struct kept_series *kept = &batch->series[id % N_DEFINITIONS];
    int r = kept->definition == id ? 0 : make_series(batch, id, kept);

    if (r != 0)
        return pass(r);
    ret->before = span_of(kept->bytes, kept->n_before);
    ret->behind = span_of(kept->bytes + kept->n_before, kept->n_behind);
    return 0;
}

static int find_agent(struct batch *batch, uint32_t number, struct span *ret)
{
    struct kept_agent *kept = &batch->agents[number % N_AGENTS];
    struct store_agent agent;
    int r;

    if (kept->number != number) {
        arena_reset(&batch->arena, ARENA_BYTES);
        r = store_agent_get(batch->store, number, &batch->arena, &agent);
        if (r != 0)
            return fold(r);
        buf_clear(&batch->name);
        encode_label(&batch->name, "agent", agent.id);
        if (buf_failed(&batch->name) || batch->name.len > sizeof(kept->bytes))
            return fault(-ENOMEM, "no room for an agent's label");
        memcpy(kept->bytes, batch->name.data, batch->name.len);
        kept->len = (uint32_t) batch->name.len;
        kept->number = number;
    }
    *ret = span_of(kept->bytes, kept->len);
    return 0;
}

/* ---- requests out ---- */

/* Whether the row has no value in the column; columns come in order. */
static bool is_absent(const struct batch *batch, struct row *row, uint32_t column)
{
    for (; row->absent_at < row->n_absent; row->absent_at++) {
        size_t at = row->values + 8 * (size_t) row->n_values + 4 * (size_t) row->absent_at;
        uint32_t place;

        memcpy(&place, batch->bytes.data + at, sizeof(place));
        if (place >= column)
            return place == column;
    }
    return false;
}

static size_t
gather(struct batch *batch, const struct group *group, uint32_t column, struct encode_sample *to)
{
    size_t n = 0;

    for (uint32_t number = group->first + 1; number > 0;) {
        struct row *row = &rows_of(batch)[number - 1];

        number = row->next;
        if (is_absent(batch, row, column))
            continue;
        memcpy(&to[n].bits, batch->bytes.data + row->values + 8 * (size_t) column,
               sizeof(to[n].bits));
        to[n++].time_ms = row->time_ms;
    }
    return n;
}

/* Columns of one group, until the request is full. */
static int put_group(struct batch *batch, uint32_t max_samples, struct buf *to, size_t *n_samples)
{
    const struct group *group = &groups_of(batch)[batch->at.group];
    const struct store_layout *layout = store_layout_get(batch->store, group->layout);
    struct encode_sample *samples;
    struct encode_series series;
    int r = find_agent(batch, group->agent, &series.agent);

    buf_clear(&batch->samples);
    samples = buf_extend(&batch->samples, group->n_rows * sizeof(*samples));
    if (r != 0 || !samples)
        return r != 0 ? pass(r) : fault(-ENOMEM, "no memory for samples");
    for (; batch->at.column < layout->n_columns; batch->at.column++) {
        size_t n;

        if (*n_samples > 0 &&
            (*n_samples + group->n_rows > max_samples || to->len > BATCH_REQUEST_BYTES))
            return 0;
        r = find_series(batch, layout->definitions[batch->at.column], &series);
        if (r != 0)
            return pass(r);
        n = gather(batch, group, batch->at.column, samples);
        if (n > 0)
            encode_series(to, &series, samples, n);
        *n_samples += n;
    }
    batch->at.column = 0;
    batch->at.group++;
    return 0;
}

int batch_put_request(struct batch *batch,
                      uint32_t max_samples,
                      struct buf *to,
                      size_t *ret_n_samples)
{
    size_t n_samples = 0;

    while (batch->at.group < n_groups(batch)) {
        size_t group = batch->at.group;
        int r = put_group(batch, max_samples, to, &n_samples);

        if (r != 0)
            return pass(r);
        if (batch->at.group == group)
            break; /* full */
    }
    if (buf_failed(to))
        return fault(-ENOMEM, "no memory for a request");
    *ret_n_samples = n_samples;
    return 0;
}

void batch_rewind(struct batch *batch)
{
    batch->at.group = batch->at.column = 0;
    for (size_t i = 0; i < batch->rows.len / sizeof(struct row); i++)
        rows_of(batch)[i].absent_at = 0;
}
