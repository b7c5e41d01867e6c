/* SPDX-License-Identifier: Apache-2.0 */
#include "server/store/logs/page.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "server/store/logs/logs.h"

/* With what it borrows behind it, in one piece of memory. */
struct page_entry {
    struct store_log_place place;
    size_t n_bytes; /* of body, attributes and source: each entry of an answer has its own */
    struct store_log_entry entry;
};

void logs_page_deinit(struct logs_page *page)
{
    for (size_t i = 0; i < page->n; i++)
        free(page->heap[i]);
    free(page->heap);
    page->heap = NULL;
    page->n = page->capacity = 0;
}

#define COMPARE(a, b) (((a) > (b)) - ((a) < (b)))

int log_place_compare(const struct store_log_place *a, const struct store_log_place *b)
{
    if (a->time_us != b->time_us)
        return COMPARE(a->time_us, b->time_us);
    if (a->agent != b->agent)
        return COMPARE(a->agent, b->agent);
    if (a->place.chunk != b->place.chunk)
        return COMPARE(a->place.chunk, b->place.chunk);
    if (a->place.offset != b->place.offset)
        return COMPARE(a->place.offset, b->place.offset);
    return COMPARE(a->place.index, b->place.index);
}

/* ---- copies ---- */

static size_t attributes_bytes(const struct logblock_attribute *attributes, size_t n)
{
    size_t sum = n * sizeof(*attributes);

    for (size_t i = 0; i < n; i++)
        sum += attributes[i].key.len + attributes[i].value.len;
    return sum;
}

static size_t copied_bytes(const struct logblock_source *source,
                           const struct logblock_record *record)
{
    return attributes_bytes(source->attributes, source->n_attributes) +
           attributes_bytes(record->attributes, record->n_attributes) + source->type.len +
           source->name.len + record->body.len;
}

static struct span copy_span(uint8_t **to, struct span from)
{
    struct span copy = span_of(*to, from.len);

    if (from.len > 0)
        memcpy(*to, from.data, from.len);
    *to += from.len;
    return copy;
}

/* `attributes` has room for them, the texts go to `to`. */
static void copy_attributes(struct logblock_attribute *attributes,
                            uint8_t **to,
                            const struct logblock_attribute *from,
                            size_t n)
{
    for (size_t i = 0; i < n; i++) {
        attributes[i].key = copy_span(to, from[i].key);
        attributes[i].value = copy_span(to, from[i].value);
    }
}

static struct page_entry *make_entry(const struct store_log_place *place,
                                     const struct logblock_source *source,
                                     const struct logblock_record *record)
{
    struct page_entry *made = malloc(sizeof(*made) + copied_bytes(source, record));
    size_t n_of_source = source->n_attributes;
    struct logblock_attribute *attributes;
    struct store_log_entry *entry;
    uint8_t *to;

    if (!made)
        return NULL;
    attributes = (void *) (made + 1);
    to = (void *) (attributes + n_of_source + record->n_attributes);
    made->place = *place;
    made->n_bytes = copied_bytes(source, record);
    entry = &made->entry;
    entry->agent = place->agent;
    entry->source = *source;
    entry->source.type = copy_span(&to, source->type);
    entry->source.name = copy_span(&to, source->name);
    entry->source.attributes = attributes;
    copy_attributes(attributes, &to, source->attributes, n_of_source);
    entry->record = *record;
    entry->record.attributes = attributes + n_of_source;
    copy_attributes(attributes + n_of_source, &to, record->attributes, record->n_attributes);
    entry->record.body = copy_span(&to, record->body);
    return made;
}

/* ---- the heap ---- */

static bool is_behind(const struct logs_page *page, size_t a, size_t b)
{
    return logs_page_is_before(page, &page->heap[b]->place, &page->heap[a]->place);
}

static void swap(struct logs_page *page, size_t a, size_t b)
{
    struct page_entry *entry = page->heap[a];

    page->heap[a] = page->heap[b];
    page->heap[b] = entry;
}

static void sift_up(struct logs_page *page, size_t at)
{
    for (; at > 0 && is_behind(page, at, (at - 1) / 2); at = (at - 1) / 2)
        swap(page, at, (at - 1) / 2);
}

static void sift_down(struct logs_page *page, size_t at)
{
    for (;;) {
        size_t left = 2 * at + 1, last = at;

        if (left < page->n && is_behind(page, left, last))
            last = left;
        if (left + 1 < page->n && is_behind(page, left + 1, last))
            last = left + 1;
        if (last == at)
            return;
        swap(page, at, last);
        at = last;
    }
}

static int make_room(struct logs_page *page)
{
    size_t capacity = page->capacity ? 2 * page->capacity : 64;
    struct page_entry **heap;

    if (page->n < page->capacity)
        return 0;
    heap = reallocarray(page->heap, capacity, sizeof(*heap));
    if (!heap)
        return fault(-ENOMEM, "no memory for %zu log entries", capacity);
    page->heap = heap;
    page->capacity = capacity;
    return 0;
}

/* The last one goes, and nothing from it on is of the page. */
static void cut_last(struct logs_page *page)
{
    struct page_entry *last = page->heap[0];

    page->cut = last->place;
    page->has_cut = true;
    page->n_bytes -= last->n_bytes;
    page->heap[0] = page->heap[--page->n];
    sift_down(page, 0);
    free(last);
}

int logs_page_offer(struct logs_page *page,
                    uint32_t agent,
                    const struct logblock_source *source,
                    const struct logblock_record *record)
{
    struct store_log_place place = { record->time_us, agent, record->place };
    struct page_entry *made;
    int r;

    if (page->has_cut && !logs_page_is_before(page, &place, &page->cut))
        return 0;
    r = make_room(page);
    if (r)
        return pass(r);
    made = make_entry(&place, source, record);
    if (!made)
        return fault(-ENOMEM, "no memory for a log entry of %zu bytes", record->body.len);
    page->heap[page->n++] = made;
    page->n_bytes += made->n_bytes;
    sift_up(page, page->n - 1);
    while (page->n > page->max_entries || (page->n > 1 && page->n_bytes > page->max_bytes))
        cut_last(page);
    return 0;
}

bool logs_page_wants(const struct logs_page *page, int64_t time_us)
{
    if (!page->has_cut)
        return true;
    return page->is_oldest_first ? time_us <= page->cut.time_us : time_us >= page->cut.time_us;
}

void logs_page_end_before(struct logs_page *page, int64_t time_us)
{
    while (page->n > 0) {
        int64_t last_us = page->heap[0]->place.time_us;

        if (page->is_oldest_first ? last_us < time_us : last_us > time_us)
            return;
        cut_last(page);
    }
}

void logs_page_forget(struct logs_page *page, int64_t from_us, int64_t to_us)
{
    size_t n = 0;

    for (size_t i = 0; i < page->n; i++) {
        struct page_entry *entry = page->heap[i];

        if (entry->place.time_us >= from_us && entry->place.time_us <= to_us) {
            page->n_bytes -= entry->n_bytes;
            free(entry);
        } else {
            page->heap[n++] = entry;
        }
    }
    page->n = n;
    page->has_cut = false;
    for (size_t i = n / 2; i-- > 0;)
        sift_down(page, i);
}

/* ---- the answer ---- */

/* Sources repeat: an entry has that of the one before it. */
static int put_entry(const struct page_entry *from,
                     const struct store_log_entry *before,
                     struct arena *arena,
                     struct store_log_entry *ret)
{
    const struct logblock_source *source = &from->entry.source;
    const struct logblock_record *record = &from->entry.record;
    bool is_same = before && logs_source_equal(source, &before->source);
    size_t n_of_source = is_same ? 0 : source->n_attributes;
    size_t n_texts = copied_bytes(source, record) -
                     (source->n_attributes + record->n_attributes) * sizeof(*record->attributes);
    struct logblock_attribute *attributes =
        arena_alloc_array(arena, n_of_source + record->n_attributes + 1, sizeof(*attributes));
    uint8_t *to = arena_alloc(arena, n_texts + 1);

    if (!attributes || !to)
        return fault(-ENOMEM, "no room for a log entry of %zu bytes", record->body.len);
    *ret = from->entry;
    if (is_same) {
        ret->source = before->source;
    } else {
        ret->source.type = copy_span(&to, source->type);
        ret->source.name = copy_span(&to, source->name);
        ret->source.attributes = attributes;
        copy_attributes(attributes, &to, source->attributes, n_of_source);
    }
    ret->record.attributes = attributes + n_of_source;
    copy_attributes(attributes + n_of_source, &to, record->attributes, record->n_attributes);
    ret->record.body = copy_span(&to, record->body);
    return 0;
}

int logs_page_finish(struct logs_page *page,
                     struct arena *arena,
                     struct store_log_entry **ret,
                     size_t *ret_n)
{
    size_t n = page->n;
    struct store_log_entry *entries = arena_alloc_array(arena, n + 1, sizeof(*entries));
    int r = 0;

    if (!entries)
        return fault(-ENOMEM, "no room for %zu log entries", n);
    /* The last one is in front; put behind what is left, all are in order. */
    while (page->n > 1) {
        swap(page, 0, --page->n);
        sift_down(page, 0);
    }
    page->n = n;
    for (size_t i = 0; i < n && !r; i++)
        r = put_entry(page->heap[i], i > 0 ? &entries[i - 1] : NULL, arena, &entries[i]);
    if (r)
        return pass(r);
    *ret = entries;
    *ret_n = n;
    return 0;
}
