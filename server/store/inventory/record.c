/* SPDX-License-Identifier: Apache-2.0 */

/* Records of revisions and agents. */

#include "common/base/crc32c.h"
#include "common/base/ensure.h"
#include "server/store/inventory/inventory.h"

#define CRC_FROM sizeof(uint32_t)

void inventory_revision_key(uint8_t to[static INVENTORY_REVISION_KEY_BYTES],
                            uint32_t agent,
                            uint64_t revision)
{
    db_key_u32(to, agent);
    db_key_u64(to + 4, revision);
}

void inventory_record_begin(struct buf *to)
{
    buf_clear(to);
    (void) buf_extend(to, sizeof(struct inventory_revision));
}

void inventory_record_add(struct buf *to, const struct inventory_entry *entry)
{
    uint8_t len = (uint8_t) entry->name.len;

    ensure(entry->name.len > 0 && entry->name.len <= STORE_INVENTORY_NAME_BYTES);
    buf_append(to, entry->sha256, sizeof(entry->sha256));
    buf_append(to, &entry->n_rows, sizeof(entry->n_rows));
    buf_append(to, &entry->flags, 1);
    buf_append(to, &len, 1);
    buf_append_span(to, entry->name);
}

static uint32_t checksum(struct span key, const void *record, size_t len)
{
    uint32_t crc = crc32c(0, key.data, key.len);

    return crc32c(crc, (const uint8_t *) record + CRC_FROM, len - CRC_FROM);
}

void inventory_record_seal(struct buf *record,
                           struct span key,
                           const struct inventory_revision *header)
{
    struct inventory_revision sealed = *header;

    if (buf_failed(record))
        return;
    sealed.version = INVENTORY_RECORD_VERSION;
    memcpy(record->data, &sealed, sizeof(sealed));
    sealed.crc32c = checksum(key, record->data, record->len);
    memcpy(record->data, &sealed.crc32c, sizeof(sealed.crc32c));
}

/* One entry at a place; false: none is whole there. */
static bool take_entry(struct span record, size_t *at, struct inventory_entry *ret)
{
    const uint8_t *data = record.data + *at;
    size_t rest = record.len - *at;
    uint8_t len;

    if (rest < INVENTORY_ENTRY_BYTES)
        return false;
    memcpy(ret->sha256, data, sizeof(ret->sha256));
    memcpy(&ret->n_rows, data + sizeof(ret->sha256), sizeof(ret->n_rows));
    ret->flags = data[INVENTORY_ENTRY_BYTES - 2];
    len = data[INVENTORY_ENTRY_BYTES - 1];
    if (len == 0 || len > STORE_INVENTORY_NAME_BYTES || len > rest - INVENTORY_ENTRY_BYTES ||
        ret->flags > INVENTORY_REMOVED || memchr(data + INVENTORY_ENTRY_BYTES, 0, len))
        return false;
    ret->name = span_of(data + INVENTORY_ENTRY_BYTES, len);
    *at += INVENTORY_ENTRY_BYTES + (size_t) len;
    return true;
}

static bool ascends(struct span before, struct span name)
{
    return before.len == 0 || content_compare(&before, &name, 1) < 0;
}

static bool entries_are_whole(struct span record, const struct inventory_revision *header)
{
    size_t at = sizeof(*header);
    struct span before = { 0 };

    if (header->n_tables > STORE_INVENTORY_TABLES_MAX ||
        header->n_removed > STORE_INVENTORY_TABLES_MAX)
        return false;
    for (uint32_t i = 0; i < header->n_tables + header->n_removed; i++) {
        struct inventory_entry entry;

        if (i == header->n_tables)
            before = (struct span){ 0 };
        if (!take_entry(record, &at, &entry) || !ascends(before, entry.name) ||
            (i >= header->n_tables) != (entry.flags == INVENTORY_REMOVED))
            return false;
        before = entry.name;
    }
    return at == record.len;
}

bool inventory_record_open(struct span key, struct span record, struct inventory_revision *ret)
{
    struct inventory_revision header;

    if (key.len != INVENTORY_REVISION_KEY_BYTES || record.len < sizeof(header))
        return false;
    memcpy(&header, record.data, sizeof(header));
    if (header.version != INVENTORY_RECORD_VERSION ||
        checksum(key, record.data, record.len) != header.crc32c ||
        !entries_are_whole(record, &header))
        return false;
    *ret = header;
    return true;
}

bool inventory_record_next(struct span record, size_t *at, struct inventory_entry *ret)
{
    if (*at == 0)
        *at = sizeof(struct inventory_revision);
    return take_entry(record, at, ret);
}

void inventory_agent_seal(struct span key, struct inventory_agent *record)
{
    record->version = INVENTORY_RECORD_VERSION;
    record->crc32c = checksum(key, record, sizeof(*record));
}

bool inventory_agent_open(struct span key, struct span record, struct inventory_agent *ret)
{
    struct inventory_agent agent;

    if (key.len != 4 || record.len != sizeof(agent))
        return false;
    memcpy(&agent, record.data, sizeof(agent));
    if (agent.version != INVENTORY_RECORD_VERSION || agent.revision == 0 ||
        checksum(key, record.data, record.len) != agent.crc32c)
        return false;
    *ret = agent;
    return true;
}

void inventory_refs_seal(struct span key, struct inventory_refs *record)
{
    record->version = INVENTORY_RECORD_VERSION;
    record->crc32c = checksum(key, record, sizeof(*record));
}

bool inventory_refs_open(struct span key, struct span record, struct inventory_refs *ret)
{
    struct inventory_refs refs;

    if (key.len != STORE_SHA256_BYTES || record.len != sizeof(refs))
        return false;
    memcpy(&refs, record.data, sizeof(refs));
    if (refs.version != INVENTORY_RECORD_VERSION ||
        checksum(key, record.data, record.len) != refs.crc32c)
        return false;
    *ret = refs;
    return true;
}

bool inventory_has_base(const struct inventory_refs *refs)
{
    static const uint8_t none[STORE_SHA256_BYTES];

    return memcmp(refs->base, none, sizeof(none)) != 0;
}
