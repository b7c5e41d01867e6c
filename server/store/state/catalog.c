/* SPDX-License-Identifier: Apache-2.0 */
#include "server/store/state/catalog.h"

#include <errno.h>
#include <stdlib.h>

#include "common/base/buf.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/list.h"
#include "common/log/log.h"

struct definition {
    struct store_definition told;
    struct definition *next; /* pending */
    struct span text;        /* behind the attributes, in the same memory */
    struct store_attribute attributes[];
};

struct layout {
    struct store_layout told;
    struct layout *next; /* pending */
    uint32_t ids[];
};

struct metric {
    const char *name; /* of its first definition */
    uint32_t *ids;
    size_t n_ids, capacity;
};

/* ---- texts ---- */

static void put_text(struct buf *to, const struct store_definition *definition)
{
    uint8_t kind = (uint8_t) definition->kind;

    buf_clear(to);
    buf_append(to, &kind, 1);
    buf_append(to, definition->name, strlen(definition->name) + 1);
    buf_append(to, definition->unit, strlen(definition->unit) + 1);
    for (size_t i = 0; i < definition->n_attributes; i++) {
        const struct store_attribute *a = &definition->attributes[i];

        buf_append(to, a->key, strlen(a->key) + 1);
        buf_append(to, a->value, strlen(a->value) + 1);
    }
}

/* NULL: no memory, or the text is none. */
static struct definition *definition_new(uint32_t id, struct span text)
{
    struct definition *definition;
    size_t n_strings = 0;
    const char *at;

    for (size_t i = 1; i < text.len; i++)
        n_strings += text.data[i] == 0;
    if (text.len < 3 || text.data[text.len - 1] != 0 || n_strings < 2 || n_strings % 2)
        return NULL;
    definition = malloc(sizeof(*definition) +
                        (n_strings / 2 - 1) * sizeof(definition->attributes[0]) + text.len);
    if (!definition)
        return NULL;
    *definition = (struct definition){ 0 };
    definition->text =
        span_of(memcpy(&definition->attributes[n_strings / 2 - 1], text.data, text.len), text.len);
    at = (const char *) definition->text.data + 1;
    definition->told = (struct store_definition){
        .id = id,
        .kind = (enum store_kind) text.data[0],
        .name = at,
        .unit = at + strlen(at) + 1,
        .attributes = definition->attributes,
        .n_attributes = n_strings / 2 - 1,
    };
    at = definition->told.unit + strlen(definition->told.unit) + 1;
    for (size_t i = 0; i < definition->told.n_attributes; i++) {
        const char *value = at + strlen(at) + 1;

        definition->attributes[i] = (struct store_attribute){ at, value };
        at = value + strlen(value) + 1;
    }
    return definition;
}

const char *catalog_name_in(struct span text)
{
    struct definition *definition = definition_new(1, text);
    bool is_one = definition && definition->told.name[0] &&
                  (definition->told.kind == STORE_GAUGE || definition->told.kind == STORE_COUNTER);

    free(definition);
    return is_one ? (const char *) text.data + 1 : NULL;
}

static struct layout *layout_new(uint32_t id, struct span ids)
{
    struct layout *layout = malloc(sizeof(*layout) + ids.len);

    if (!layout)
        return NULL;
    *layout = (struct layout){ 0 };
    memcpy(layout->ids, ids.data, ids.len);
    layout->told = (struct store_layout){
        .id = id,
        .n_columns = (uint32_t) (ids.len / sizeof(uint32_t)),
        .definitions = layout->ids,
    };
    return layout;
}

static struct span layout_span(const struct layout *layout)
{
    return span_of(layout->ids, layout->told.n_columns * sizeof(uint32_t));
}

/* ---- making visible; under the lock, or at the start ---- */

static int add_to_metric(struct catalog *catalog, const struct store_definition *definition)
{
    struct metric *metric = map_get(&catalog->by_metric, span_of_text(definition->name));
    size_t at;

    if (!metric) {
        int r;

        metric = calloc(1, sizeof(*metric));
        if (!metric)
            return fault(-ENOMEM, "no memory for a metric");
        metric->name = definition->name;
        r = map_put(&catalog->by_metric, span_of_text(metric->name), metric);
        if (r) {
            free(metric);
            return pass(r);
        }
    }
    if (metric->n_ids == metric->capacity) {
        size_t capacity = metric->capacity * 2 + 4;
        uint32_t *ids = realloc(metric->ids, capacity * sizeof(*ids));

        if (!ids)
            return fault(-ENOMEM, "no memory for the definitions of a metric");
        metric->ids = ids;
        metric->capacity = capacity;
    }
    at = metric->n_ids++;
    for (; at > 0 && metric->ids[at - 1] > definition->id; at--)
        metric->ids[at] = metric->ids[at - 1];
    metric->ids[at] = definition->id;
    return 0;
}

static int add_definition(struct catalog *catalog, struct definition *definition)
{
    int r = map_put(&catalog->by_text, definition->text, definition);

    if (!r)
        r = add_to_metric(catalog, &definition->told);
    if (!r && !idtable_put(&catalog->definitions, definition->told.id, definition))
        r = fault(-ENOMEM, "no memory for definition %u", definition->told.id);
    return pass(r);
}

static int add_layout(struct catalog *catalog, struct layout *layout)
{
    int r = map_put(&catalog->by_ids, layout_span(layout), layout);

    if (!r && !idtable_put(&catalog->layouts, layout->told.id, layout))
        r = fault(-ENOMEM, "no memory for layout %u", layout->told.id);
    return pass(r);
}

void catalog_settle(struct catalog *catalog, int r)
{
    struct definition *definition = take(catalog->pending.definitions), *next_definition;
    struct layout *layout = take(catalog->pending.layouts), *next_layout;

    map_deinit(&catalog->pending.by_text);
    map_deinit(&catalog->pending.by_ids);
    catalog->pending.by_text = catalog->pending.by_ids = (struct map){ 0 };
    pthread_rwlock_wrlock(&catalog->lock);
    for (; definition; definition = next_definition) {
        next_definition = definition->next;
        /* Without memory here the table in memory and the one on disk would part: nothing is left
         * but to start again. */
        if (r == 0)
            ensure(add_definition(catalog, definition) == 0);
        else
            free(definition);
    }
    for (; layout; layout = next_layout) {
        next_layout = layout->next;
        if (r == 0)
            ensure(add_layout(catalog, layout) == 0);
        else
            free(layout);
    }
    pthread_rwlock_unlock(&catalog->lock);
    catalog->pending.next_definition = idtable_highest(&catalog->definitions) + 1;
    catalog->pending.next_layout = idtable_highest(&catalog->layouts) + 1;
    if (catalog->pending.next_definition < catalog->least_definition)
        catalog->pending.next_definition = catalog->least_definition;
    if (catalog->pending.next_layout < catalog->least_layout)
        catalog->pending.next_layout = catalog->least_layout;
}

/* ---- start ---- */

struct loader {
    struct catalog *catalog;
    int r;
};

static bool load_definition(void *ctx, struct span key, struct span value)
{
    struct loader *loader = ctx;
    uint32_t id = db_u32_of(db_val_of(key));
    struct definition *definition = definition_new(id, value);

    if (!definition) {
        loader->r = fault(-EIO, "definition %u in the state database cannot be read", id);
        return false;
    }
    loader->r = add_definition(loader->catalog, definition);
    return loader->r == 0;
}

static bool load_layout(void *ctx, struct span key, struct span value)
{
    struct loader *loader = ctx;
    uint32_t id = db_u32_of(db_val_of(key));
    struct layout *layout = value.len % 4 == 0 ? layout_new(id, value) : NULL;

    if (!layout) {
        loader->r = fault(-EIO, "layout %u in the state database cannot be read", id);
        return false;
    }
    loader->r = add_layout(loader->catalog, layout);
    return loader->r == 0;
}

#define NEXT_KEY "catalog.next"

static bool load_next(void *ctx, struct span key, struct span value)
{
    struct catalog *catalog = ctx;
    uint32_t next[2];

    if (key.len != strlen(NEXT_KEY) || value.len != sizeof(next))
        return true;
    memcpy(next, value.data, sizeof(next));
    catalog->least_definition = next[0];
    catalog->least_layout = next[1];
    return false;
}

int catalog_keep_next(struct catalog *catalog, MDB_txn *txn)
{
    const uint32_t next[2] = { catalog->pending.next_definition, catalog->pending.next_layout };

    return pass(state_put(catalog->state, txn, STATE_META, span_of_text(NEXT_KEY),
                          span_of(next, sizeof(next))));
}

int catalog_open(struct catalog *catalog, struct state *state)
{
    struct loader loader = { .catalog = catalog };
    int r;

    *catalog = (struct catalog){ .state = state };
    ensure(pthread_rwlock_init(&catalog->lock, NULL) == 0);
    r = state_each(state, STATE_META, span_of_text(NEXT_KEY), load_next, catalog);
    if (!r)
        r = state_each(state, STATE_DEFINITIONS, (struct span){ 0 }, load_definition, &loader);
    if (!r && !loader.r)
        r = state_each(state, STATE_LAYOUTS, (struct span){ 0 }, load_layout, &loader);
    catalog_settle(catalog, 0);
    return pass(r ? r : loader.r);
}

int catalog_reload(struct catalog *catalog)
{
    struct catalog before = *catalog;
    int r;

    catalog_close(catalog);
    r = catalog_open(catalog, before.state);
    catalog->is_disk_full = before.is_disk_full;
    catalog->ctx = before.ctx;
    return pass(r);
}

void catalog_close(struct catalog *catalog)
{
    struct metric *metric;
    size_t at = 0;

    if (!catalog->state)
        return;
    while ((metric = map_next(&catalog->by_metric, &at))) {
        free(metric->ids);
        free(metric);
    }
    for (uint32_t id = 1; id <= idtable_highest(&catalog->definitions); id++)
        free(idtable_get(&catalog->definitions, id));
    for (uint32_t id = 1; id <= idtable_highest(&catalog->layouts); id++)
        free(idtable_get(&catalog->layouts, id));
    map_deinit(&catalog->by_text);
    map_deinit(&catalog->by_metric);
    map_deinit(&catalog->by_ids);
    idtable_deinit(&catalog->definitions);
    idtable_deinit(&catalog->layouts);
    pthread_rwlock_destroy(&catalog->lock);
    catalog->state = NULL;
}

/* ---- interning ---- */

struct intern_job {
    struct state_job job;
    struct catalog *catalog;
    struct store_intern *request;
    bool is_refused_for_disk;
};

static uint32_t known_definition(struct catalog *catalog, struct span text)
{
    const struct definition *definition = map_get(&catalog->by_text, text);

    return definition ? definition->told.id : 0;
}

static uint32_t known_layout(struct catalog *catalog, struct span ids)
{
    const struct layout *layout = map_get(&catalog->by_ids, ids);

    return layout ? layout->told.id : 0;
}

static int
make_definition(struct catalog *catalog, MDB_txn *txn, struct span text, uint32_t *ret_id)
{
    struct definition *definition = map_get(&catalog->pending.by_text, text);
    uint8_t key[4];
    int r;

    if (definition) {
        *ret_id = definition->told.id;
        return 0;
    }
    definition = definition_new(catalog->pending.next_definition, text);
    if (!definition)
        return fault(-ENOMEM, "no memory for a definition");
    definition->next = catalog->pending.definitions;
    catalog->pending.definitions = definition;
    catalog->pending.next_definition++;
    *ret_id = definition->told.id;
    r = map_put(&catalog->pending.by_text, definition->text, definition);
    db_key_u32(key, definition->told.id);
    if (!r)
        r = state_put(catalog->state, txn, STATE_DEFINITIONS, span_of(key, sizeof(key)), text);
    return pass(r);
}

static int make_layout(struct catalog *catalog, MDB_txn *txn, struct span ids, uint32_t *ret_id)
{
    struct layout *layout = map_get(&catalog->pending.by_ids, ids);
    uint8_t key[4];
    int r;

    if (layout) {
        *ret_id = layout->told.id;
        return 0;
    }
    layout = layout_new(catalog->pending.next_layout, ids);
    if (!layout)
        return fault(-ENOMEM, "no memory for a layout");
    layout->next = catalog->pending.layouts;
    catalog->pending.layouts = layout;
    catalog->pending.next_layout++;
    *ret_id = layout->told.id;
    r = map_put(&catalog->pending.by_ids, layout_span(layout), layout);
    db_key_u32(key, layout->told.id);
    if (!r)
        r = state_put(catalog->state, txn, STATE_LAYOUTS, span_of(key, sizeof(key)), ids);
    return pass(r);
}

static struct span request_ids(const struct store_intern *request)
{
    return span_of(request->layout, request->n_layout * sizeof(uint32_t));
}

/* The maps are read without the lock: this thread alone changes them. */
static int intern_apply(struct state_job *base, MDB_txn *txn)
{
    struct intern_job *job = container_of(base, struct intern_job, job);
    struct catalog *catalog = job->catalog;
    struct store_intern *request = job->request;
    CLEANUP(buf_deinit) struct buf text = { 0 };
    int r = 0;

    job->is_refused_for_disk = catalog->is_disk_full && catalog->is_disk_full(catalog->ctx);
    if (job->is_refused_for_disk)
        return STORE_TOO_MUCH;
    if (request->is_layout) {
        request->ret_layout = known_layout(catalog, request_ids(request));
        if (request->ret_layout)
            return 0;
        if (catalog->pending.next_layout > IDTABLE_MAX)
            return STORE_TOO_MUCH;
        return pass(make_layout(catalog, txn, request_ids(request), &request->ret_layout));
    }
    if (request->n_definitions > IDTABLE_MAX + 1 - catalog->pending.next_definition)
        return STORE_TOO_MUCH;
    for (size_t i = 0; i < request->n_definitions && !r; i++) {
        put_text(&text, &request->definitions[i]);
        if (buf_failed(&text))
            return fault(-ENOMEM, "no memory for the text of a definition");
        request->ret_ids[i] = known_definition(catalog, buf_span(&text));
        if (!request->ret_ids[i])
            r = make_definition(catalog, txn, buf_span(&text), &request->ret_ids[i]);
    }
    return pass(r);
}

static void intern_finish(struct state_job *base, int r)
{
    struct intern_job *job = container_of(base, struct intern_job, job);
    struct store_intern *request = job->request;

    if (r == STORE_TOO_MUCH && job->is_refused_for_disk)
        r = STORE_FULL;
    free(job);
    request->done(request, r);
}

static bool intern_known(struct catalog *catalog, struct store_intern *request, struct buf *text)
{
    if (request->is_layout) {
        request->ret_layout = known_layout(catalog, request_ids(request));
        return request->ret_layout != 0;
    }
    for (size_t i = 0; i < request->n_definitions; i++) {
        put_text(text, &request->definitions[i]);
        if (buf_failed(text))
            return false;
        request->ret_ids[i] = known_definition(catalog, buf_span(text));
        if (!request->ret_ids[i])
            return false;
    }
    return true;
}

int catalog_intern(struct catalog *catalog, struct store_intern *request)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    struct intern_job *job;
    bool is_known;

    pthread_rwlock_rdlock(&catalog->lock);
    is_known = intern_known(catalog, request, &text);
    pthread_rwlock_unlock(&catalog->lock);
    if (is_known)
        return 0;
    job = malloc(sizeof(*job));
    if (!job)
        return fault(-ENOMEM, "no memory to intern");
    *job = (struct intern_job){
        .job = { .apply = intern_apply, .finish = intern_finish },
        .catalog = catalog,
        .request = request,
    };
    if (state_queue(catalog->state, &job->job)) {
        free(job);
        return STORE_STOPPED;
    }
    return STORE_QUEUED;
}

/* ---- reading ---- */

const struct store_definition *catalog_definition(struct catalog *catalog, uint32_t id)
{
    const struct definition *definition = idtable_get(&catalog->definitions, id);

    return definition ? &definition->told : NULL;
}

const struct store_layout *catalog_layout(struct catalog *catalog, uint32_t id)
{
    const struct layout *layout = idtable_get(&catalog->layouts, id);

    return layout ? &layout->told : NULL;
}

size_t catalog_definitions_of(struct catalog *catalog, const char *metric, uint32_t *to, size_t max)
{
    const struct metric *found;
    size_t n = 0;

    pthread_rwlock_rdlock(&catalog->lock);
    found = map_get(&catalog->by_metric, span_of_text(metric));
    if (found) {
        n = found->n_ids;
        if (max && n)
            memcpy(to, found->ids, (n < max ? n : max) * sizeof(*to));
    }
    pthread_rwlock_unlock(&catalog->lock);
    return n;
}
