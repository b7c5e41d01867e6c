/* SPDX-License-Identifier: Apache-2.0 */
#include "server/front/logs_answer.h"

#include "common/base/text.h"

#define FIELD_BYTES 160 /* times, ids, offset, lengths and tags */

void logs_answer_deinit(struct logs_answer *answer)
{
    buf_deinit(&answer->attributes);
}

static void add_attributes(struct buf *to, const struct logblock_attribute *attributes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct wire_log_attribute row = { attributes[i].key, attributes[i].value };

        buf_append(to, &row, sizeof(row));
    }
}

void logs_answer_add(struct logs_answer *answer,
                     struct buf *to,
                     const char *agent_id,
                     const struct logblock_source *source,
                     const struct logblock_record *record)
{
    char trace_id[2 * sizeof(record->trace_id) + 1] = "";
    char span_id[2 * sizeof(record->span_id) + 1] = "";
    struct wire_log_entry entry = {
        .agent_id = span_of_text(agent_id),
        .time_us = record->time_us,
        .observed_us = record->observed_us,
        .severity = record->severity,
        .source_type = source->type,
        .source = source->name,
        .is_raw = record->is_raw,
        .body = record->body,
        .source_offset = record->source_offset,
        .n_attributes = record->n_attributes,
        .n_source_attributes = source->n_attributes,
    };

    buf_clear(&answer->attributes);
    add_attributes(&answer->attributes, record->attributes, record->n_attributes);
    add_attributes(&answer->attributes, source->attributes, source->n_attributes);
    if (buf_failed(&answer->attributes)) {
        to->has_failed = true;
        return;
    }
    entry.attributes = (const void *) answer->attributes.data;
    if (entry.n_source_attributes > 0)
        entry.source_attributes = entry.attributes + record->n_attributes;
    if (record->has_trace_id)
        (void) text_of_hex(record->trace_id, sizeof(record->trace_id), trace_id);
    if (record->has_span_id)
        (void) text_of_hex(record->span_id, sizeof(record->span_id), span_id);
    entry.trace_id = span_of_text(trace_id);
    entry.span_id = span_of_text(span_id);
    wire_log_entry_append(to, &entry);
}

static size_t attribute_bytes(const struct logblock_attribute *attributes, size_t n)
{
    size_t n_bytes = 0;

    for (size_t i = 0; i < n; i++)
        n_bytes += attributes[i].key.len + attributes[i].value.len + 12;
    return n_bytes;
}

size_t logs_answer_bytes(const struct logblock_source *source, const struct logblock_record *record)
{
    return FIELD_BYTES + sizeof(((struct front_caller *) NULL)->name) + source->type.len +
           source->name.len + record->body.len +
           attribute_bytes(record->attributes, record->n_attributes) +
           attribute_bytes(source->attributes, source->n_attributes);
}
