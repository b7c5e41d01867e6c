/* SPDX-License-Identifier: Apache-2.0 */

/* What stands in the tables of a day: keys, prefixes, and the word on each agent. */

#include <errno.h>

#include "common/base/crc32c.h"
#include "common/base/fault.h"
#include "common/log/log.h"
#include "server/store/days.h"
#include "server/store/store.h"

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

/* False: damaged. */
static bool
read_agent(MDB_val key, MDB_val value, struct position *ret_sealed, struct span *ret_spans)
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

static void say_agent_damaged(const struct day *day, uint32_t agent)
{
    log_peer(LOG_ERROR, "day_agent_damaged", LOG_S("path", day->path), LOG_U("agent", agent));
}

int day_agent_get(struct day *day,
                  MDB_txn *txn,
                  uint32_t agent,
                  struct position *ret,
                  struct buf *ret_spans)
{
    uint8_t name[4];
    MDB_val key = db_val(name, sizeof(name)), value;
    struct span spans;
    int rc;

    db_key_u32(name, agent);
    rc = mdb_get(txn, day->agents, &key, &value);
    if (rc)
        return rc == MDB_NOTFOUND ? STORE_NOT_FOUND : fold(db_check(rc, "cannot read a day"));
    if (!read_agent(key, value, ret, &spans)) {
        say_agent_damaged(day, agent);
        return STORE_NOT_FOUND;
    }
    if (ret_spans)
        buf_append_span(ret_spans, spans);
    return 0;
}

int day_agent_put(struct day *day,
                  MDB_txn *txn,
                  uint32_t agent,
                  struct position sealed,
                  struct span spans)
{
    uint8_t name[4];
    struct day_agent head = {
        .n_spans = (uint32_t) (spans.len / sizeof(struct day_span)),
        .chunk = sealed.chunk,
        .offset = sealed.offset,
    };
    MDB_val key = db_val(name, sizeof(name)), value = db_val(NULL, sizeof(head) + spans.len);
    uint8_t *at;
    int rc;

    db_key_u32(name, agent);
    rc = mdb_put(txn, day->agents, &key, &value, MDB_RESERVE);
    if (rc)
        return pass(db_check(rc, "cannot write a day"));
    at = value.mv_data;
    memcpy(at, &head, sizeof(head));
    if (spans.len)
        memcpy(at + sizeof(head), spans.data, spans.len);
    head.crc32c = crc32c(crc32c(0, name, sizeof(name)), at + sizeof(head.crc32c),
                         value.mv_size - sizeof(head.crc32c));
    memcpy(at, &head.crc32c, sizeof(head.crc32c));
    return 0;
}

int day_agents_each(struct day *day,
                    int (*fn)(void *ctx, uint32_t agent, struct position sealed, struct span spans),
                    void *ctx)
{
    CLEANUP(db_txn_abortp) MDB_txn *txn = NULL;
    CLEANUP(db_cursor_closep) MDB_cursor *cursor = NULL;
    MDB_val key, value;
    int r = 0, rc = mdb_txn_begin(day->env, NULL, MDB_RDONLY, &txn);

    if (!rc)
        rc = mdb_cursor_open(txn, day->agents, &cursor);
    if (!rc)
        rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
    while (!rc && !r) {
        struct position sealed;
        struct span spans;

        if (read_agent(key, value, &sealed, &spans))
            r = fn(ctx, db_u32_of(key), sealed, spans);
        else
            say_agent_damaged(day, db_u32_of(key));
        if (!r)
            rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    if (r)
        return pass(r);
    if (db_is_damage(rc)) {
        day_found_damage(day, mdb_strerror(rc));
        return 0;
    }
    return rc == MDB_NOTFOUND ? 0 : fold(db_check(rc, "cannot read a day"));
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
