/* SPDX-License-Identifier: Apache-2.0 */

/* Roll-ups that wait become visible: records, lists of layouts and marks of many agents, in one
 * transaction for each tier. */

#include <errno.h>

#include "common/base/fault.h"
#include "common/base/faultpoint.h"
#include "server/store/rollup/roller.h"
#include "server/store/whole.h"

static int put_record(const struct roller *roller,
                      struct day *period,
                      MDB_txn *txn,
                      struct waiting_record *record)
{
    uint8_t name[ROLL_KEY_BYTES];
    MDB_val k = db_val(name, sizeof(name)), v = db_val(NULL, sizeof(record->prefix) + record->len);
    int rc;

    roll_key_put(name, &record->key);
    record->prefix.crc32c = day_prefix_crc(k, &record->prefix);
    rc = mdb_put(txn, period->blocks, &k, &v, MDB_RESERVE);
    if (rc)
        return pass(db_check(rc, "cannot write roll-ups"));
    memcpy(v.mv_data, &record->prefix, sizeof(record->prefix));
    memcpy((uint8_t *) v.mv_data + sizeof(record->prefix), roller->bytes.data + record->at,
           record->len);
    return 0;
}

static int put_agent(const struct roller *roller,
                     struct day *period,
                     MDB_txn *txn,
                     enum roll_tier tier,
                     const struct waiting_agent *waiting)
{
    CLEANUP(buf_deinit) struct buf spans = { 0 };
    const struct day_span *more = (const void *) (roller->spans.data + waiting->spans_at);
    struct position none = { 0 };
    uint32_t number = waiting->agent->facts.number;
    int r = day_agent_get(period, txn, number, &none, &spans);

    if (r < 0)
        return pass(r);
    for (size_t i = 0; i < waiting->n_spans; i++)
        day_spans_add(&spans, &more[i]);
    if (buf_failed(&spans))
        return fault(-ENOMEM, "no memory for the spans of an agent");
    r = day_agent_put(period, txn, number, none, buf_span(&spans));
    if (r)
        return pass(r);
    return pass(roll_mark_put(period, txn, number, roller->day, &waiting->marks[tier]));
}

static int write_tier(struct sealer *sealer, enum roll_tier tier, struct day *period)
{
    CLEANUP(db_txn_abortp) MDB_txn *txn = NULL;
    struct roller *roller = sealer->roller;
    struct waiting_record *records = (void *) roller->records.data;
    const struct waiting_agent *agents = (const void *) roller->agents.data;
    MDB_val key = db_val("seal", 4), value = db_val(&sealer->seal, sizeof(sealer->seal));
    int r = db_check(mdb_txn_begin(period->env, NULL, 0, &txn), "cannot begin to write roll-ups");

    if (!r)
        r = db_check(mdb_put(txn, period->meta, &key, &value, 0), "cannot write roll-ups");
    for (size_t i = 0; i < roller->records.len / sizeof(*records) && !r; i++)
        if (records[i].tier == tier)
            r = put_record(roller, period, txn, &records[i]);
    for (size_t i = 0; i < roller->agents.len / sizeof(*agents) && !r; i++)
        if (agents[i].has_mark[tier])
            r = put_agent(roller, period, txn, tier, &agents[i]);
    if (r)
        return pass(r);
    faultpoint("rollup_before_commit");
    r = db_commit(period->env, take(txn), "cannot commit roll-ups");
    if (!r)
        faultpoint("rollup_after_commit");
    return pass(r);
}

static bool has_work(const struct roller *roller, enum roll_tier tier)
{
    const struct waiting_agent *agents = (const void *) roller->agents.data;

    for (size_t i = 0; i < roller->agents.len / sizeof(*agents); i++)
        if (agents[i].has_mark[tier])
            return true;
    return false;
}

static int commit_tier(struct sealer *sealer, enum roll_tier tier)
{
    struct days *days = &sealer->store->rolled[tier];
    struct day *period;
    int r;

    if (!has_work(sealer->roller, tier))
        return 0;
    r = days_use(days, days->kind->of(sealer->roller->day * DAY_US), &period);
    if (r) /* found damaged meanwhile: it is not due any more */
        return r == STORE_NOT_FOUND ? 0 : pass(r);
    r = write_tier(sealer, tier, period);
    days_release(days, period);
    return pass(r);
}

static int show_spans(const struct roller *roller, const struct waiting_agent *waiting)
{
    const struct day_span *more = (const void *) (roller->spans.data + waiting->spans_at);
    struct agent *agent = waiting->agent;

    pthread_mutex_lock(&agent->lock);
    for (size_t i = 0; i < waiting->n_spans; i++)
        day_spans_add(&agent->rolled, &more[i]);
    pthread_mutex_unlock(&agent->lock);
    return buf_failed(&agent->rolled) ? fault(-ENOMEM, "no memory for the spans of an agent") : 0;
}

int roll_commit(struct sealer *sealer)
{
    struct roller *roller = sealer->roller;
    const struct waiting_agent *agents = (const void *) roller->agents.data;
    size_t n = roller->agents.len / sizeof(*agents);
    int r = 0;

    for (enum roll_tier tier = ROLL_MINUTES; tier < ROLL_TIERS && !r; tier++)
        r = commit_tier(sealer, tier);
    for (size_t i = 0; i < n && !r; i++)
        r = show_spans(roller, &agents[i]);
    if (!r) {
        pthread_mutex_lock(&sealer->shared.lock);
        sealer->shared.n_rolled += roller->records.len / sizeof(struct waiting_record);
        sealer->shared.n_rolled_bytes += roller->bytes.len;
        pthread_mutex_unlock(&sealer->shared.lock);
    }
    buf_clear(&roller->records);
    buf_clear(&roller->agents);
    buf_clear(&roller->bytes);
    buf_clear(&roller->spans);
    return pass(r);
}
