/* SPDX-License-Identifier: Apache-2.0 */

/* Days: what keys and values of an environment of a day are. Pure. */

#include "common/base/crc32c.h"
#include "server/store/days/days.h"

void day_key_put(uint8_t to[static DAY_KEY_BYTES], const struct day_key *key)
{
    db_key_u32(to, key->agent);
    db_key_u64(to + 4, (uint64_t) key->first_us ^ UINT64_C(1) << 63);
    db_key_u64(to + 12, key->seal);
    to[20] = (uint8_t) (key->part >> 8);
    to[21] = (uint8_t) key->part;
}

bool day_key_get(MDB_val from, struct day_key *ret)
{
    const uint8_t *at = from.mv_data;

    if (from.mv_size != DAY_KEY_BYTES)
        return false;
    ret->agent = db_u32_of(db_val(at, 4));
    ret->first_us = (int64_t) (db_u64_of(db_val(at + 4, 8)) ^ UINT64_C(1) << 63);
    ret->seal = db_u64_of(db_val(at + 12, 8));
    ret->part = (uint16_t) (at[20] << 8 | at[21]);
    return true;
}

uint32_t day_prefix_crc(MDB_val key, const struct day_prefix *prefix)
{
    const uint8_t *from = (const uint8_t *) prefix + sizeof(prefix->crc32c);

    return crc32c(crc32c(0, key.mv_data, key.mv_size), from,
                  sizeof(*prefix) - sizeof(prefix->crc32c));
}

bool day_prefix_get(MDB_val key, MDB_val value, struct day_prefix *ret, struct span *ret_block)
{
    if (value.mv_size < sizeof(*ret))
        return false;
    memcpy(ret, value.mv_data, sizeof(*ret));
    *ret_block =
        span_of((const uint8_t *) value.mv_data + sizeof(*ret), value.mv_size - sizeof(*ret));
    return ret->crc32c == day_prefix_crc(key, ret);
}

bool day_agent_read(MDB_val key, MDB_val value, struct position *ret_sealed, struct span *ret_spans)
{
    const uint8_t *at = value.mv_data;
    struct day_agent head;

    if (value.mv_size < sizeof(head))
        return false;
    memcpy(&head, at, sizeof(head));
    if ((value.mv_size - sizeof(head)) / sizeof(struct day_span) != head.n_spans ||
        (value.mv_size - sizeof(head)) % sizeof(struct day_span) != 0 ||
        head.crc32c != crc32c(crc32c(0, key.mv_data, key.mv_size), at + sizeof(head.crc32c),
                              value.mv_size - sizeof(head.crc32c)))
        return false;
    *ret_sealed = (struct position){ head.chunk, head.offset };
    *ret_spans = span_of(at + sizeof(head), value.mv_size - sizeof(head));
    return true;
}

void day_spans_add(struct buf *spans, const struct day_span *more)
{
    struct day_span *at = (void *) spans->data;

    for (size_t i = 0; i < spans->len / sizeof(*at); i++) {
        if (at[i].layout != more->layout)
            continue;
        at[i].first_us = more->first_us < at[i].first_us ? more->first_us : at[i].first_us;
        at[i].last_us = more->last_us > at[i].last_us ? more->last_us : at[i].last_us;
        at[i].n_rows += more->n_rows;
        return;
    }
    buf_append(spans, more, sizeof(*more));
}
