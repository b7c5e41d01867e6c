/* SPDX-License-Identifier: Apache-2.0 */

/* The tables of a day, inside a transaction: how far each agent is sealed, and its spans. */

#include <errno.h>

#include "common/base/crc32c.h"
#include "common/base/fault.h"
#include "common/log/log.h"
#include "server/store/days/days.h"
#include "server/store/store.h"

static void say_agent_damaged(struct day *day, uint32_t agent)
{
    day->has_bad_agents = true;
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
    if (!day_agent_read(key, value, ret, &spans)) {
        say_agent_damaged(day, agent);
        return day_mend_agent(day, txn, agent, ret, ret_spans);
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
    bool is_bad = false;
    int r = 0, rc = mdb_txn_begin(day->env, NULL, MDB_RDONLY, &txn);

    if (!rc)
        rc = mdb_cursor_open(txn, day->agents, &cursor);
    if (!rc)
        rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
    while (!rc && !r) {
        struct position sealed;
        struct span spans;

        if (day_agent_read(key, value, &sealed, &spans)) {
            r = fn(ctx, db_u32_of(key), sealed, spans);
        } else {
            is_bad = true;
            say_agent_damaged(day, db_u32_of(key));
        }
        if (!r)
            rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    if (r)
        return pass(r);
    if (db_is_damage(rc)) {
        day_found_damage(day, mdb_strerror(rc));
        return 0;
    }
    if (rc != MDB_NOTFOUND)
        return fold(db_check(rc, "cannot read a day"));
    return is_bad ? pass(day_mend_each(day, txn, fn, ctx)) : 0;
}
