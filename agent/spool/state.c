/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/spool/spool_private.h"
#include "common/base/fault.h"

/*
 * The state of a queue, in slots "state"; all numbers are varints but for the ids (16 bytes each):
 *
 *   version 1
 *   produced, acknowledged, next ordinal, n reasons { dropped }
 *   n boots { id, offset zigzag }
 *   n runs { ordinal, id, base, last, acked, acked_crc32c, acked_records, lease,
 *            n edits { first, last, keep, records, moved, reason } }
 *
 * Offsets, in slots "offsets":
 *
 *   version 1, n { key, value }       texts
 */
#define VERSION 1u

static void put_run(struct buf *to, const struct run *run)
{
    codec_put_varint(to, run->ordinal);
    buf_append(to, run->id, sizeof(run->id));
    codec_put_varint(to, run->base);
    codec_put_varint(to, run->last);
    codec_put_varint(to, run->acked);
    codec_put_varint(to, run->acked_crc32c);
    codec_put_varint(to, run->acked_records);
    codec_put_varint(to, run->lease);
    codec_put_varint(to, run->n_edits);
    for (size_t i = 0; i < run->n_edits; i++) {
        const struct edit *edit = &run->edits[i];

        codec_put_varint(to, edit->first);
        codec_put_varint(to, edit->last);
        codec_put_varint(to, edit->keep);
        codec_put_varint(to, edit->records);
        codec_put_varint(to, edit->moved);
        codec_put_varint(to, edit->reason);
    }
}

bool state_write(struct queue *queue, bool is_synced)
{
    CLEANUP(buf_deinit) struct buf to = { 0 };
    size_t n_runs = 0, n_boots = 0;

    if (queue->dirfd < 0)
        return true;
    codec_put_varint(&to, VERSION);
    codec_put_varint(&to, queue_produced(queue));
    codec_put_varint(&to, queue->acknowledged);
    codec_put_varint(&to, queue->next_ordinal);
    codec_put_varint(&to, SPOOL_REASONS);
    for (size_t i = 0; i < SPOOL_REASONS; i++)
        codec_put_varint(&to, queue->dropped[i]);
    for (size_t i = 0; i < SPOOL_BOOTS; i++)
        n_boots += queue->boots[i].offset_us != 0;
    codec_put_varint(&to, n_boots);
    for (size_t i = 0; i < SPOOL_BOOTS; i++) {
        if (queue->boots[i].offset_us == 0)
            continue;
        buf_append(&to, queue->boots[i].id, CODEC_BOOT_ID_BYTES);
        codec_put_u64(&to, (uint64_t) queue->boots[i].offset_us);
    }
    list_each(node, &queue->runs) n_runs++;
    codec_put_varint(&to, n_runs);
    list_each(node, &queue->runs) put_run(&to, container_of(node, struct run, node));
    return !buf_failed(&to) && slots_write(&queue->state, buf_span(&to), is_synced);
}

static bool take_edit(struct span *from, struct edit *ret)
{
    uint64_t reason;

    if (!codec_take_varint(from, &ret->first) || !codec_take_varint(from, &ret->last) ||
        !codec_take_varint(from, &ret->keep) || !codec_take_varint(from, &ret->records) ||
        !codec_take_varint(from, &ret->moved) || !codec_take_varint(from, &reason))
        return false;
    ret->reason = (enum spool_reason) reason;
    return reason > 0 && reason < SPOOL_REASONS && ret->first > 0 && ret->first <= ret->last;
}

static bool take_run(struct queue *queue, struct span *from)
{
    uint64_t ordinal, crc, n_edits, before = 0;
    uint8_t id[SPOOL_ID_BYTES];
    struct run *run;

    if (!codec_take_varint(from, &ordinal) || !codec_take_bytes(from, id, sizeof(id)))
        return false;
    run = run_new(queue, ordinal, id);
    if (!run || !codec_take_varint(from, &run->base) || !codec_take_varint(from, &run->last) ||
        !codec_take_varint(from, &run->acked) || !codec_take_varint(from, &crc) ||
        !codec_take_varint(from, &run->acked_records) || !codec_take_varint(from, &run->lease) ||
        !codec_take_varint(from, &n_edits) || run->base > run->acked || run->acked > run->last)
        return false;
    run->acked_crc32c = (uint32_t) crc;
    for (uint64_t i = 0; i < n_edits; i++) {
        struct edit edit;

        if (!take_edit(from, &edit) || edit.first <= before || run_edit(run, &edit))
            return false;
        before = edit.last;
    }
    return true;
}

bool state_take(struct queue *queue, struct span *from, uint64_t *ret_produced)
{
    uint64_t version, n, offset;

    if (!codec_take_varint(from, &version) || version != VERSION ||
        !codec_take_varint(from, ret_produced) || !codec_take_varint(from, &queue->acknowledged) ||
        !codec_take_varint(from, &queue->next_ordinal) || !codec_take_varint(from, &n) ||
        n != SPOOL_REASONS)
        return false;
    for (size_t i = 0; i < SPOOL_REASONS; i++)
        if (!codec_take_varint(from, &queue->dropped[i]))
            return false;
    if (!codec_take_varint(from, &n) || n > SPOOL_BOOTS)
        return false;
    for (size_t i = 0; i < n; i++) {
        if (!codec_take_bytes(from, queue->boots[i].id, CODEC_BOOT_ID_BYTES) ||
            !codec_take_u64(from, &offset))
            return false;
        queue->boots[i].offset_us = (int64_t) offset;
    }
    if (!codec_take_varint(from, &n))
        return false;
    for (uint64_t i = 0; i < n; i++)
        if (!take_run(queue, from))
            return false;
    return true;
}

int state_read(struct queue *queue, uint64_t *ret_produced)
{
    CLEANUP(buf_deinit) struct buf bytes = { 0 };
    struct span from;

    *ret_produced = 0;
    if (!slots_read(&queue->state, &bytes))
        return 0;
    from = buf_span(&bytes);
    /* Its checksum was right: so this is of another version, or there is no memory. What was read
     * up to there is no worse than nothing. */
    if (!state_take(queue, &from, ret_produced))
        return buf_failed(&bytes) ? fault(-ENOMEM, "no memory for the state of the spool") : 0;
    queue->has_state = true;
    return 0;
}

/* ---- offsets ---- */

int offsets_apply(struct queue *queue, const struct spool_offset *offsets, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct span key = offsets[i].key, value = offsets[i].value;
        struct offset *offset = NULL;

        if (value.len > 0) {
            offset = malloc(sizeof(*offset) + key.len + value.len);
            if (!offset)
                return fault(-ENOMEM, "no memory for an offset");
            memcpy(offset + 1, key.data, key.len);
            memcpy((char *) (offset + 1) + key.len, value.data, value.len);
            offset->key = span_of(offset + 1, key.len);
            offset->value = span_of((char *) (offset + 1) + key.len, value.len);
        }
        free(map_remove(&queue->offsets, key));
        if (offset && map_put(&queue->offsets, offset->key, offset)) {
            free(offset);
            return fault(-ENOMEM, "no memory for an offset");
        }
    }
    return 0;
}

bool offsets_write(struct queue *queue, bool is_synced)
{
    CLEANUP(buf_deinit) struct buf to = { 0 };
    size_t at = 0;

    if (queue->dirfd < 0)
        return true;
    codec_put_varint(&to, VERSION);
    codec_put_varint(&to, queue->offsets.n_entries);
    for (const struct offset *offset; (offset = map_next(&queue->offsets, &at));) {
        codec_put_text(&to, offset->key);
        codec_put_text(&to, offset->value);
    }
    return !buf_failed(&to) && slots_write(&queue->offset_slots, buf_span(&to), is_synced);
}

int offsets_take(struct queue *queue, struct span *from)
{
    struct spool_offset offset;
    uint64_t version, n;

    if (!codec_take_varint(from, &version) || version != VERSION || !codec_take_varint(from, &n))
        return 0;
    for (uint64_t i = 0;
         i < n && codec_take_text(from, &offset.key) && codec_take_text(from, &offset.value); i++) {
        int r = offset.key.len ? offsets_apply(queue, &offset, 1) : 0;

        if (r)
            return pass(r);
    }
    return 0;
}

int offsets_read(struct queue *queue)
{
    CLEANUP(buf_deinit) struct buf bytes = { 0 };
    struct span from;

    if (!slots_read(&queue->offset_slots, &bytes))
        return 0;
    from = buf_span(&bytes);
    return pass(offsets_take(queue, &from));
}

void offsets_free(struct queue *queue)
{
    struct offset *offset;
    size_t at = 0;

    while ((offset = map_next(&queue->offsets, &at)))
        free(offset);
    map_deinit(&queue->offsets);
}
