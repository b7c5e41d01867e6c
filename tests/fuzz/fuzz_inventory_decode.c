/* Targets: content_open, content_unpack, content_check, content_range, inventory_record_open,
 * inventory_refs_open, inventory_agent_open.
 * SPDX-License-Identifier: Apache-2.0 */

/*
 * The first byte says what the rest is: its low two bits which of the forms; with bit 2 set the
 * checksum is made good first, so that what lies behind it is met too.
 */

#include <stdlib.h>

#include "common/base/crc32c.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "server/store/inventory/inventory.h"

#define MEND 4u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void ignore_fault(int code, struct fault_site site, const char *reason)
{
    (void) code;
    (void) site;
    (void) reason;
}

/* ---- contents ---- */

static void walk(struct span rows, uint32_t n_columns)
{
    struct content_rows at = { rows, n_columns };
    struct span *values = calloc(n_columns, sizeof(*values));

    ensure(values);
    while (content_next_row(&at, values))
        for (uint32_t i = 0; i < n_columns; i++)
            ensure(values[i].data >= rows.data &&
                   values[i].data + values[i].len <= rows.data + rows.len);
    free(values);
}

/* What a whole content says of itself is so, block by block too. */
static void read_whole(const struct content *content, struct content_base *base)
{
    CLEANUP(buf_deinit) struct buf canonical = { 0 };
    CLEANUP(buf_deinit) struct buf blocks = { 0 };
    struct content_work work = { 0 };
    struct content_shape shape;
    uint32_t first, end;
    int r = content_unpack(content, base, &work, &canonical);

    ensure(r == CONTENT_OK || r == CONTENT_BAD || r < 0);
    if (r == CONTENT_OK) {
        ensure(canonical.len == content->header.n_bytes);
        r = content_check(buf_span(&canonical), &shape);
        ensure(r == CONTENT_OK || r == CONTENT_BAD || r < 0);
        buf_append_span(&blocks, content->head);
        for (uint32_t i = 0; i < content->header.n_blocks; i++)
            ensure(content_unpack_block(content, i, base, &work, &blocks) == CONTENT_OK);
        ensure(span_equal(buf_span(&blocks), buf_span(&canonical)));
        walk(span_of(canonical.data + content->head.len, canonical.len - content->head.len),
             content->header.n_columns);
    }
    content_range(content, span_of_text("package-1"), &first, &end);
    ensure(first <= end && end <= content->header.n_blocks);
    content_work_deinit(&work);
}

static void read_content(struct span packed)
{
    CLEANUP(content_base_freep) struct content_base *base = NULL;
    struct buf of_base = { 0 };
    struct content content;
    int r = content_open(packed, &content);

    ensure(r == CONTENT_OK || r == CONTENT_BAD);
    /* What it would take is bounded by a setting; an input of some bytes may claim 256 MiB. */
    if (r != CONTENT_OK || content.header.n_bytes > 1u << 20)
        return;
    if (content_has_base(&content)) {
        content_put_columns(&of_base, (const char *const[]){ "name", "version" }, 2);
        content_put_value(&of_base, "package-1");
        content_put_value(&of_base, "1.0");
        ensure(content_base_new(&base, content.header.base, &of_base) == 0);
    }
    read_whole(&content, base);
}

/* The directory's checksum, and those of the frames where they lie within. */
static void mend_content(uint8_t *data, size_t len)
{
    struct content_header header;
    uint64_t directory, at;
    uint32_t crc;

    if (len < sizeof(header))
        return;
    memcpy(&header, data, sizeof(header));
    directory = sizeof(header) + (uint64_t) header.head_bytes +
                (uint64_t) header.n_blocks * sizeof(struct content_block) + header.fences_bytes;
    if (directory > len)
        return;
    at = directory;
    for (uint32_t i = 0; i < header.n_blocks; i++) {
        uint8_t *place =
            data + sizeof(header) + header.head_bytes + (size_t) i * sizeof(struct content_block);
        struct content_block block;

        memcpy(&block, place, sizeof(block));
        if (block.n_packed > len - at)
            break;
        block.crc32c = crc32c(0, data + at, block.n_packed);
        memcpy(place, &block, sizeof(block));
        at += block.n_packed;
    }
    crc = crc32c(0, data + 4, (size_t) directory - 4);
    memcpy(data, &crc, sizeof(crc));
}

/* ---- records: a key in front ---- */

static void mend_record(uint8_t *data, size_t len, size_t key_len)
{
    uint32_t crc;

    if (len < key_len + 4)
        return;
    crc = crc32c(0, data, key_len);
    crc = crc32c(crc, data + key_len + 4, len - key_len - 4);
    memcpy(data + key_len, &crc, sizeof(crc));
}

static void read_revision(struct span key, struct span record)
{
    struct inventory_revision header;
    struct inventory_entry entry;
    size_t at = 0, n = 0;

    if (!inventory_record_open(key, record, &header))
        return;
    while (inventory_record_next(record, &at, &entry)) {
        ensure(entry.name.len > 0 && entry.name.len <= STORE_INVENTORY_NAME_BYTES);
        n++;
    }
    ensure(n == (size_t) header.n_tables + header.n_removed && at <= record.len);
}

static void read_record(unsigned kind, struct span data)
{
    static const size_t key_lens[] = { 0, INVENTORY_REVISION_KEY_BYTES, 4, STORE_SHA256_BYTES };
    size_t len = key_lens[kind] < data.len ? key_lens[kind] : data.len;
    struct span key = span_of(data.data, len), record = span_of(data.data + len, data.len - len);
    struct inventory_agent agent;
    struct inventory_refs refs;

    if (kind == 1)
        read_revision(key, record);
    else if (kind == 2 && inventory_agent_open(key, record, &agent))
        ensure(agent.revision > 0);
    else if (kind == 3 && inventory_refs_open(key, record, &refs))
        (void) inventory_has_base(&refs);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const size_t key_lens[] = { 0, INVENTORY_REVISION_KEY_BYTES, 4, STORE_SHA256_BYTES };
    unsigned kind;
    uint8_t *copy;

    if (len < 2)
        return 0;
    fault_set_sink(ignore_fault);
    kind = data[0] & 3u;
    copy = malloc(len - 1);
    ensure(copy);
    memcpy(copy, data + 1, len - 1);
    if (data[0] & MEND && kind == 0)
        mend_content(copy, len - 1);
    else if (data[0] & MEND)
        mend_record(copy, len - 1, key_lens[kind]);
    if (kind == 0)
        read_content(span_of(copy, len - 1));
    else
        read_record(kind, span_of(copy, len - 1));
    free(copy);
    return 0;
}
