/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/text.h"
#include "server/ingest/stream.h"

struct column { /* of a layout while its order is found */
    uint32_t definition;
    uint32_t place;
};

struct declaring *declaring_free(struct declaring *declaring)
{
    if (!declaring)
        return NULL;
    ensure(declaring->n_outstanding == 0);
    arena_deinit(&declaring->arena);
    free(declaring);
    return NULL;
}

void declare_deinit(struct ingest_stream *stream)
{
    map_deinit(&stream->loop.series);
    map_deinit(&stream->loop.layouts);
    arena_deinit(&stream->loop.arena);
}

struct declared_layout *declare_find_layout(struct ingest_stream *stream, uint32_t id)
{
    struct declared_layout *layout = stream->loop.last_layout;

    if (layout && layout->id == id)
        return layout;
    layout = map_get(&stream->loop.layouts, span_of(&id, sizeof(id)));
    if (layout)
        stream->loop.last_layout = layout;
    return layout;
}

static int no_memory(void)
{
    return fault(-ENOMEM, "no memory for a stream's declarations");
}

/* ---- series ---- */

static int compare_attributes(const void *a, const void *b)
{
    const struct store_attribute *x = a, *y = b;

    return strcmp(x->key, y->key);
}

static int check_attributes(const struct ingest_limits *limits,
                            const struct ingest_series *series,
                            size_t at,
                            struct ingest_problem *problem)
{
    if (series->n_attributes > limits->series_attributes) {
        problem_field(problem, "batch.series[%zu].attributes", at);
        problem_say(problem, "%zu attributes, at most %u (series_attributes)", series->n_attributes,
                    limits->series_attributes);
        return INGEST_BAD_BATCH;
    }
    for (size_t i = 0; i < series->n_attributes; i++) {
        const struct store_attribute *attribute = &series->attributes[i];
        const size_t key_len = strlen(attribute->key), value_len = strlen(attribute->value);

        if (key_len == 0 || key_len > limits->name_bytes ||
            !text_is_utf8(attribute->key, key_len)) {
            problem_field(problem, "batch.series[%zu].attributes[%zu].key", at, i);
            problem_say(problem, "%zu bytes; a key is 1 to %u bytes of UTF-8 (name_bytes)", key_len,
                        limits->name_bytes);
            return INGEST_BAD_BATCH;
        }
        if (value_len > limits->attribute_bytes || !text_is_utf8(attribute->value, value_len)) {
            problem_field(problem, "batch.series[%zu].attributes[%zu].value", at, i);
            problem_say(problem,
                        "%zu bytes; a value is at most %u bytes of UTF-8 (attribute_bytes)",
                        value_len, limits->attribute_bytes);
            return INGEST_BAD_BATCH;
        }
    }
    return INGEST_OK;
}

static int check_series(const struct ingest_limits *limits,
                        const struct ingest_series *series,
                        size_t at,
                        struct ingest_problem *problem)
{
    const size_t name_len = strlen(series->name), unit_len = strlen(series->unit);

    if (series->id == 0) {
        problem_field(problem, "batch.series[%zu].id", at);
        problem_say(problem, "0 is not an id; number series from 1");
        return INGEST_BAD_BATCH;
    }
    if (name_len == 0 || name_len > limits->name_bytes || !text_is_utf8(series->name, name_len)) {
        problem_field(problem, "batch.series[%zu].name", at);
        problem_say(problem, "%zu bytes; a name is 1 to %u bytes of UTF-8 (name_bytes)", name_len,
                    limits->name_bytes);
        return INGEST_BAD_BATCH;
    }
    if (unit_len > INGEST_UNIT_BYTES || !text_is_utf8(series->unit, unit_len)) {
        problem_field(problem, "batch.series[%zu].unit", at);
        problem_say(problem, "%zu bytes; a unit is at most %d bytes of UTF-8", unit_len,
                    INGEST_UNIT_BYTES);
        return INGEST_BAD_BATCH;
    }
    if (series->kind != STORE_GAUGE && series->kind != STORE_COUNTER) {
        problem_field(problem, "batch.series[%zu].kind", at);
        problem_say(problem, "%d is not a kind that this hub knows; KIND_GAUGE or KIND_COUNTER",
                    series->kind);
        return INGEST_BAD_BATCH;
    }
    return check_attributes(limits, series, at, problem);
}

static int copy_definition(struct declaring *declaring,
                           const struct ingest_series *series,
                           struct store_definition *to)
{
    struct store_attribute *attributes = NULL;

    if (series->n_attributes > 0) {
        attributes =
            arena_alloc_array(&declaring->arena, series->n_attributes, sizeof(*attributes));
        if (!attributes)
            return no_memory();
    }
    for (size_t i = 0; i < series->n_attributes; i++) {
        attributes[i].key = arena_copy_text(&declaring->arena, series->attributes[i].key);
        attributes[i].value = arena_copy_text(&declaring->arena, series->attributes[i].value);
        if (!attributes[i].key || !attributes[i].value)
            return no_memory();
    }
    if (series->n_attributes > 1)
        qsort(attributes, series->n_attributes, sizeof(*attributes), compare_attributes);
    *to = (struct store_definition){
        .name = arena_copy_text(&declaring->arena, series->name),
        .unit = arena_copy_text(&declaring->arena, series->unit),
        .kind = (enum store_kind) series->kind,
        .attributes = attributes,
        .n_attributes = series->n_attributes,
    };
    return to->name && to->unit ? 0 : no_memory();
}

static bool has_double_key(const struct store_definition *definition)
{
    for (size_t i = 1; i < definition->n_attributes; i++) {
        if (strcmp(definition->attributes[i - 1].key, definition->attributes[i].key) == 0)
            return true;
    }
    return false;
}

static int declare_one_series(struct ingest_stream *stream,
                              const struct ingest_series *series,
                              size_t at,
                              struct ingest_problem *problem)
{
    struct declaring *declaring = stream->loop.declaring;
    struct declared_series *declared;
    int r;

    r = check_series(&stream->loop.limits, series, at, problem);
    if (r != INGEST_OK)
        return r;
    if (map_get(&stream->loop.series, span_of(&series->id, sizeof(series->id)))) {
        problem_field(problem, "batch.series[%zu].id", at);
        problem_say(problem, "%u was declared in this stream already; declare a series once",
                    series->id);
        return INGEST_BAD_BATCH;
    }
    r = copy_definition(declaring, series, &declaring->definitions[at]);
    if (r < 0)
        return pass(r);
    if (has_double_key(&declaring->definitions[at])) {
        problem_field(problem, "batch.series[%zu].attributes", at);
        problem_say(problem, "a key stands there twice; keys are unique");
        return INGEST_BAD_BATCH;
    }
    declared = arena_alloc(&stream->loop.arena, sizeof(*declared));
    if (!declared)
        return no_memory();
    declared->id = series->id;
    declaring->series[at] = declared;
    r = map_put(&stream->loop.series, span_of(&declared->id, sizeof(declared->id)), declared);
    return pass(r);
}

/* ---- layouts ---- */

static int check_members(struct ingest_stream *stream,
                         const struct ingest_layout *layout,
                         size_t at,
                         struct declared_layout *declared,
                         struct ingest_problem *problem)
{
    const uint32_t mark = ++stream->loop.n_marks;

    for (size_t i = 0; i < layout->n_series; i++) {
        const uint32_t id = layout->series_ids[i];
        struct declared_series *series = map_get(&stream->loop.series, span_of(&id, sizeof(id)));

        if (!series || series->mark == mark) {
            problem_field(problem, "batch.layouts[%zu].series_ids[%zu]", at, i);
            problem_say(problem,
                        series ? "series %u is in the layout twice; each at most once"
                               : "series %u is not declared; declare it in this batch or before",
                        id);
            return INGEST_BAD_BATCH;
        }
        series->mark = mark;
        declared->series[i] = series;
    }
    return INGEST_OK;
}

static int check_layout(struct ingest_stream *stream,
                        const struct ingest_layout *layout,
                        size_t at,
                        struct ingest_problem *problem)
{
    const struct ingest_limits *limits = &stream->loop.limits;

    if (layout->id == 0 ||
        map_get(&stream->loop.layouts, span_of(&layout->id, sizeof(layout->id)))) {
        problem_field(problem, "batch.layouts[%zu].id", at);
        problem_say(problem,
                    layout->id == 0
                        ? "0 is not an id; number layouts from 1 (%u)"
                        : "%u was declared in this stream already; declare a layout once",
                    layout->id);
        return INGEST_BAD_BATCH;
    }
    if (layout->n_series == 0 || layout->n_series > limits->batch_samples) {
        problem_field(problem, "batch.layouts[%zu].series_ids", at);
        problem_say(problem, "%zu series; a layout has 1 to %u (batch_samples)", layout->n_series,
                    limits->batch_samples);
        return INGEST_BAD_BATCH;
    }
    if (stream->loop.n_members + layout->n_series >
        (uint64_t) INGEST_MEMBER_FACTOR * limits->agent_series) {
        problem->quota = "agent_series";
        problem_field(problem, "batch.layouts[%zu]", at);
        problem_say(problem,
                    "the layouts of this stream have more than %d x agent_series (%u) members; use "
                    "fewer or smaller layouts",
                    INGEST_MEMBER_FACTOR, limits->agent_series);
        return INGEST_LIMIT;
    }
    return INGEST_OK;
}

static int declare_one_layout(struct ingest_stream *stream,
                              const struct ingest_layout *layout,
                              size_t at,
                              struct ingest_problem *problem)
{
    struct declaring *declaring = stream->loop.declaring;
    struct declared_layout *declared;
    int r;

    r = check_layout(stream, layout, at, problem);
    if (r != INGEST_OK)
        return r;
    declared = arena_alloc(&stream->loop.arena, sizeof(*declared));
    if (!declared)
        return no_memory();
    declared->id = layout->id;
    declared->n_series = (uint32_t) layout->n_series;
    declared->series =
        arena_alloc_array(&declaring->arena, layout->n_series, sizeof(struct declared_series *));
    if (!declared->series)
        return no_memory();
    r = check_members(stream, layout, at, declared, problem);
    if (r != INGEST_OK)
        return r;
    stream->loop.n_members += layout->n_series;
    declaring->layouts[at] = declared;
    r = map_put(&stream->loop.layouts, span_of(&declared->id, sizeof(declared->id)), declared);
    return pass(r);
}

/* ---- a batch's declarations ---- */

static int by_metric(const void *a, const void *b)
{
    const struct ingest_series *const *x = a, *const *y = b;

    return strcmp((*x)->name, (*y)->name);
}

/* The metric that most of the batch's series are of, and how many; NULL: none, or no memory. */
static const char *heaviest_metric(const struct ingest_batch *batch, size_t *ret_n)
{
    const struct ingest_series **sorted = calloc(batch->n_series + 1, sizeof(*sorted));
    const char *heaviest = NULL;
    size_t n = 0;

    *ret_n = 0;
    if (!sorted)
        return NULL;
    for (size_t i = 0; i < batch->n_series; i++)
        sorted[i] = &batch->series[i];
    qsort(sorted, batch->n_series, sizeof(*sorted), by_metric);
    for (size_t i = 0; i < batch->n_series; i++) {
        n = i > 0 && strcmp(sorted[i - 1]->name, sorted[i]->name) == 0 ? n + 1 : 1;
        if (n > *ret_n) {
            *ret_n = n;
            heaviest = sorted[i]->name;
        }
    }
    free(sorted);
    return heaviest;
}

static void say_offender(const struct ingest_batch *batch, struct ingest_problem *problem)
{
    size_t n, len = strlen(problem->description);
    const char *metric = heaviest_metric(batch, &n);

    if (metric)
        (void) snprintf(problem->description + len, sizeof(problem->description) - len,
                        "; %zu of the %zu new ones are of `%.96s`", n, batch->n_series, metric);
}

static int check_counts(const struct ingest_stream *stream,
                        const struct ingest_batch *batch,
                        struct ingest_problem *problem)
{
    const struct ingest_limits *limits = &stream->loop.limits;
    const struct {
        const char *what;
        size_t n_new, n_known;
    } rows[] = {
        { "series", batch->n_series, stream->loop.series.n_entries },
        { "layouts", batch->n_layouts, stream->loop.layouts.n_entries },
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (rows[i].n_new > limits->batch_new_series) {
            problem->quota = "batch_new_series";
            problem_field(problem, "batch.%s", rows[i].what);
            problem_say(problem,
                        "%zu new %s in a batch, at most %u (batch_new_series); declare them over "
                        "several batches",
                        rows[i].n_new, rows[i].what, limits->batch_new_series);
            say_offender(batch, problem);
            return INGEST_LIMIT;
        }
        if (rows[i].n_new + rows[i].n_known > limits->agent_series) {
            problem->quota = "agent_series";
            problem_field(problem, "batch.%s", rows[i].what);
            problem_say(problem,
                        "%zu %s of this agent, at most %u (agent_series); send fewer, or have the "
                        "limit raised",
                        rows[i].n_new + rows[i].n_known, rows[i].what, limits->agent_series);
            say_offender(batch, problem);
            return INGEST_LIMIT;
        }
    }
    return INGEST_OK;
}

static int declaring_new(struct ingest_stream *stream, const struct ingest_batch *batch)
{
    struct declaring *declaring = calloc(1, sizeof(*declaring));

    if (!declaring)
        return no_memory();
    ensure(stream->loop.declaring == NULL);
    stream->loop.declaring = declaring;
    arena_init(&declaring->arena,
               SIZE_MAX); /* bounded by the message's own arena, which it copies from */
    declaring->stream = stream;
    declaring->n_series = batch->n_series;
    declaring->n_layouts = batch->n_layouts;
    declaring->definitions =
        arena_alloc_array(&declaring->arena, batch->n_series + 1, sizeof(struct store_definition));
    declaring->series =
        arena_alloc_array(&declaring->arena, batch->n_series + 1, sizeof(struct declared_series *));
    declaring->intern.ret_ids =
        arena_alloc_array(&declaring->arena, batch->n_series + 1, sizeof(uint32_t));
    declaring->layouts = arena_alloc_array(&declaring->arena, batch->n_layouts + 1,
                                           sizeof(struct declared_layout *));
    declaring->requests =
        arena_alloc_array(&declaring->arena, batch->n_layouts + 1, sizeof(struct layout_request));
    if (!declaring->definitions || !declaring->series || !declaring->intern.ret_ids ||
        !declaring->layouts || !declaring->requests)
        return no_memory();
    return 0;
}

int declare_check(struct ingest_stream *stream,
                  const struct ingest_batch *batch,
                  struct ingest_problem *problem)
{
    int r;

    if (batch->n_series == 0 && batch->n_layouts == 0)
        return INGEST_OK;
    r = check_counts(stream, batch, problem);
    if (r != INGEST_OK)
        return r;
    r = declaring_new(stream, batch);
    for (size_t i = 0; r == INGEST_OK && i < batch->n_series; i++)
        r = declare_one_series(stream, &batch->series[i], i, problem);
    for (size_t i = 0; r == INGEST_OK && i < batch->n_layouts; i++)
        r = declare_one_layout(stream, &batch->layouts[i], i, problem);
    return pass(r);
}

/* ---- hub-wide ids ---- */

static void on_part_done(struct ingest_stream *stream, int r)
{
    struct declaring *declaring = stream->loop.declaring;

    pthread_mutex_lock(&stream->shared.lock);
    if (r != 0 && declaring->result == 0)
        declaring->result = r;
    ensure(declaring->n_outstanding > 0);
    if (--declaring->n_outstanding == 0) {
        stream->shared.is_ready = true;
        stream_wake(stream);
    }
    pthread_mutex_unlock(&stream->shared.lock);
    stream_unref(stream);
}

static void on_series_done(struct store_intern *request, int r)
{
    on_part_done(container_of(request, struct declaring, intern)->stream, r);
}

static void on_layout_done(struct store_intern *request, int r)
{
    on_part_done(container_of(request, struct layout_request, intern)->stream, r);
}

/* Gives one request to the store; counts it as outstanding where the answer comes later. */
static int intern_part(struct ingest_stream *stream, struct store_intern *request)
{
    struct declaring *declaring = stream->loop.declaring;
    int r;

    /* First counted, as done() may run before store_intern() returns. */
    pthread_mutex_lock(&stream->shared.lock);
    declaring->n_outstanding++;
    pthread_mutex_unlock(&stream->shared.lock);
    (void) stream_ref(stream);
    r = store_intern(stream->ingest->store, request);
    if (r == STORE_QUEUED)
        return INGEST_OK;

    stream_unref(stream);
    pthread_mutex_lock(&stream->shared.lock);
    declaring->n_outstanding--;
    pthread_mutex_unlock(&stream->shared.lock);
    if (r < 0)
        return pass(r);
    return stream_outcome_of_store(r);
}

static int compare_columns(const void *a, const void *b)
{
    const struct column *x = a, *y = b;

    return (x->definition > y->definition) - (x->definition < y->definition);
}

/* The store's order of a layout is by definition: finds it, and where each of its columns stands in
 * ours. */
static int order_layout(struct ingest_stream *stream, size_t at, struct ingest_problem *problem)
{
    struct declaring *declaring = stream->loop.declaring;
    struct declared_layout *layout = declaring->layouts[at];
    struct column *columns =
        arena_alloc_array(&declaring->arena, layout->n_series, sizeof(*columns));
    uint32_t *definitions =
        arena_alloc_array(&declaring->arena, layout->n_series, sizeof(*definitions));
    bool is_ours = true;

    if (!columns || !definitions)
        return no_memory();
    for (uint32_t i = 0; i < layout->n_series; i++)
        columns[i] = (struct column){ layout->series[i]->definition, i };
    qsort(columns, layout->n_series, sizeof(*columns), compare_columns);
    for (uint32_t i = 0; i < layout->n_series; i++) {
        if (i > 0 && columns[i].definition == columns[i - 1].definition) {
            problem_field(problem, "batch.layouts[%zu].series_ids", at);
            problem_say(problem,
                        "series %u and %u have the same name, unit, kind and attributes; a layout "
                        "has a series at most once",
                        layout->series[columns[i - 1].place]->id,
                        layout->series[columns[i].place]->id);
            return INGEST_BAD_BATCH;
        }
        definitions[i] = columns[i].definition;
        is_ours = is_ours && columns[i].place == i;
    }
    if (!is_ours) {
        layout->order = arena_alloc_array(&stream->loop.arena, layout->n_series, sizeof(uint32_t));
        if (!layout->order)
            return no_memory();
        for (uint32_t i = 0; i < layout->n_series; i++)
            layout->order[i] = columns[i].place;
    }
    declaring->requests[at] = (struct layout_request){
        .intern = { .is_layout = true,
                    .layout = definitions,
                    .n_layout = layout->n_series,
                    .done = on_layout_done },
        .stream = stream,
    };
    return INGEST_OK;
}

static int begin_series(struct ingest_stream *stream)
{
    struct declaring *declaring = stream->loop.declaring;

    declaring->step = DECLARE_SERIES;
    if (declaring->n_series == 0)
        return INGEST_OK;
    declaring->intern.definitions = declaring->definitions;
    declaring->intern.n_definitions = declaring->n_series;
    declaring->intern.done = on_series_done;
    return pass(intern_part(stream, &declaring->intern));
}

static int begin_layouts(struct ingest_stream *stream, struct ingest_problem *problem)
{
    struct declaring *declaring = stream->loop.declaring;
    int r = INGEST_OK;

    for (size_t i = 0; i < declaring->n_series; i++)
        declaring->series[i]->definition = declaring->intern.ret_ids[i];
    declaring->step = DECLARE_LAYOUTS;
    for (size_t i = 0; r == INGEST_OK && i < declaring->n_layouts; i++)
        r = order_layout(stream, i, problem);
    for (size_t i = 0; r == INGEST_OK && i < declaring->n_layouts; i++)
        r = intern_part(stream, &declaring->requests[i].intern);
    return pass(r);
}

static void finish_layouts(struct ingest_stream *stream)
{
    struct declaring *declaring = stream->loop.declaring;

    for (size_t i = 0; i < declaring->n_layouts; i++) {
        declaring->layouts[i]->layout = declaring->requests[i].intern.ret_layout;
        declaring->layouts[i]->series = NULL;
    }
    stream->loop.declaring = declaring_free(declaring);
}

/* INGEST_WAIT while something is at the store, then its result. */
static int result_so_far(struct ingest_stream *stream)
{
    struct declaring *declaring = stream->loop.declaring;
    size_t n_outstanding;
    int result;

    pthread_mutex_lock(&stream->shared.lock);
    n_outstanding = declaring->n_outstanding;
    result = declaring->result;
    pthread_mutex_unlock(&stream->shared.lock);
    if (n_outstanding > 0)
        return INGEST_WAIT;
    return result < 0 ? result : stream_outcome_of_store(result);
}

static int explain(int r, struct ingest_problem *problem)
{
    if (r == INGEST_LIMIT && problem->quota == NULL) {
        problem->quota = "catalogue";
        problem_field(problem, "batch.series");
        problem_say(
            problem,
            "the hub's catalogue of series is full; send fewer distinct series, or have the "
            "limit raised");
    } else if (r == INGEST_FULL) {
        problem_say(problem, "the hub's disk is full; it takes nothing new until space is freed");
    } else if (r == INGEST_STOPPED) {
        problem_say(problem, "the hub is stopping; connect again");
    }
    return r;
}

int declare_intern(struct ingest_stream *stream, struct ingest_problem *problem)
{
    struct declaring *declaring = stream->loop.declaring;
    int r;

    if (!declaring)
        return INGEST_OK;
    if (declaring->intern.done == NULL && declaring->step == DECLARE_SERIES) {
        r = begin_series(stream);
        if (r != INGEST_OK)
            return explain(pass(r), problem);
    }
    r = result_so_far(stream);
    if (r == INGEST_OK && declaring->step == DECLARE_SERIES) {
        r = begin_layouts(stream, problem);
        if (r == INGEST_OK)
            r = result_so_far(stream);
    }
    if (r != INGEST_OK)
        return explain(pass(r), problem);
    finish_layouts(stream);
    return INGEST_OK;
}
