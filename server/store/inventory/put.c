/* SPDX-License-Identifier: Apache-2.0 */

/* Inventories: packing on a reader; on the writer's thread one transaction for all that waits. */

#include <errno.h>
#include <stdlib.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/faultpoint.h"
#include "common/log/log.h"
#include "server/store/inventory/read.h"
#include "server/store/whole.h"

#define WORTH_A_BASE 1024u /* packed alone; below, a page is used anyhow */
#define TRIM_AGENTS 256u   /* in one transaction */
#define TRIM_REVISIONS 1000u

/* ---- packing ---- */

struct packing {
    struct inventory *inventory;
    struct store_inventory_put *put;
    struct content_work work;
    struct buf record;  /* of the agent's newest revision; empty: none */
    struct buf scratch; /* a packed content that was read */
};

/* What is there now: contents that are known, rows of each. Outcomes: STORE_NOT_FOUND. */
static int look_for_contents(struct packing *packing, MDB_txn *txn)
{
    struct store_inventory_put *put = packing->put;
    bool is_missing = false;

    for (size_t i = 0; i < put->n_tables; i++) {
        struct store_inventory_put_table *table = &put->tables[i];
        struct content_header header;
        int r = inventory_peek(packing->inventory, txn, table->sha256, &header);

        if (r < 0 || r == STORE_DAMAGED)
            return r < 0 ? pass(r) : r;
        if (r == 0 && inventory_is_damaged(packing->inventory, table->sha256))
            r = STORE_NOT_FOUND;
        if (r == 0)
            table->n_rows = header.n_rows;
        if (r == 0) /* sent, and not needed */
            buf_deinit(&table->canonical);
        table->is_missing = r == STORE_NOT_FOUND && table->canonical.len == 0;
        is_missing |= table->is_missing;
    }
    return is_missing ? STORE_NOT_FOUND : 0;
}

static int look(struct packing *packing)
{
    CLEANUP(db_txn_abortp) MDB_txn *txn = NULL;
    uint8_t key[INVENTORY_REVISION_KEY_BYTES];
    int r = inventory_begin(packing->inventory, &txn);

    if (!r)
        r = look_for_contents(packing, txn);
    if (!r)
        r = inventory_copy_before(packing->inventory, txn, packing->put->agent, UINT64_MAX, key,
                                  &packing->record);
    if (r == STORE_NOT_FOUND && packing->put->n_tables > 0) {
        for (size_t i = 0; i < packing->put->n_tables; i++)
            if (packing->put->tables[i].is_missing)
                return r;
    }
    if (r == 0) {
        struct inventory_revision header;

        if (!inventory_record_open(span_of(key, sizeof(key)), buf_span(&packing->record), &header))
            buf_clear(&packing->record);
    }
    return r == STORE_NOT_FOUND ? 0 : r < 0 ? pass(r) : r;
}

/* The last base of a table's name. */
static bool known_base(struct inventory *inventory, const char *name, uint8_t *to)
{
    bool is_known = false;

    pthread_mutex_lock(&inventory->known.lock);
    for (size_t i = 0; i < INVENTORY_BASES && !is_known; i++) {
        is_known = strcmp(inventory->known.bases[i].name, name) == 0;
        if (is_known)
            memcpy(to, inventory->known.bases[i].sha256, STORE_SHA256_BYTES);
    }
    pthread_mutex_unlock(&inventory->known.lock);
    return is_known;
}

static void remember_base(struct inventory *inventory, const char *name, const uint8_t *sha256)
{
    size_t at = INVENTORY_BASES;

    pthread_mutex_lock(&inventory->known.lock);
    for (size_t i = 0; i < INVENTORY_BASES && at == INVENTORY_BASES; i++)
        if (strcmp(inventory->known.bases[i].name, name) == 0)
            at = i;
    if (at == INVENTORY_BASES)
        at = inventory->known.n_bases++ % INVENTORY_BASES;
    snprintf(inventory->known.bases[at].name, sizeof(inventory->known.bases[at].name), "%s", name);
    memcpy(inventory->known.bases[at].sha256, sha256, STORE_SHA256_BYTES);
    pthread_mutex_unlock(&inventory->known.lock);
}

/* What the agent's last content of this table hangs on, or that itself. */
static bool own_base(struct packing *packing, const char *name, uint8_t *to)
{
    struct span record = buf_span(&packing->record), wanted = span_of_text(name);
    CLEANUP(db_txn_abortp) MDB_txn *txn = NULL;
    struct inventory_entry entry;
    struct inventory_refs refs;
    size_t at = 0;

    while (record.len > 0 && inventory_record_next(record, &at, &entry)) {
        if (entry.flags == INVENTORY_REMOVED || !span_equal(entry.name, wanted))
            continue;
        if (inventory_begin(packing->inventory, &txn) ||
            inventory_refs_get(packing->inventory, txn, entry.sha256, &refs))
            return false;
        memcpy(to, inventory_has_base(&refs) ? refs.base : entry.sha256, STORE_SHA256_BYTES);
        return true;
    }
    return false;
}

/* Packs against a base where it may have one more dependent; *ret_len 0: it may not. */
static int pack_against(struct packing *packing,
                        const struct store_inventory_put_table *table,
                        const uint8_t *sha256,
                        struct buf *to)
{
    CLEANUP(db_txn_abortp) MDB_txn *txn = NULL;
    CLEANUP(content_base_freep) struct content_base *base = NULL;
    struct inventory *inventory = packing->inventory;
    struct inventory_refs refs;
    int r;

    buf_clear(to);
    if (memcmp(sha256, table->sha256, STORE_SHA256_BYTES) == 0 ||
        inventory_is_damaged(inventory, sha256))
        return 0;
    r = inventory_begin(inventory, &txn);
    if (!r)
        r = inventory_refs_get(inventory, txn, sha256, &refs);
    if (!r && (refs.n_dependents >= INVENTORY_DEPENDENTS || inventory_has_base(&refs)))
        r = STORE_NOT_FOUND;
    if (!r)
        r = inventory_copy_content(inventory, txn, sha256, &packing->scratch);
    db_txn_abortp(&txn);
    txn = NULL;
    if (!r)
        r = inventory_make_base(inventory, sha256, buf_span(&packing->scratch), &packing->work,
                                &base);
    if (r)
        return r < 0 ? pass(r) : 0;
    return pass(content_pack(buf_span(&table->canonical), base, &packing->work, to));
}

static int pack_table(struct packing *packing, struct store_inventory_put_table *table)
{
    CLEANUP(buf_deinit) struct buf smaller = { 0 };
    uint8_t bases[2][STORE_SHA256_BYTES];
    size_t n_bases = 0;
    int r;

    buf_clear(&table->packed);
    r = content_pack(buf_span(&table->canonical), NULL, &packing->work, &table->packed);
    if (r || table->packed.len < WORTH_A_BASE)
        return pass(r);
    n_bases += own_base(packing, table->name, bases[0]);
    n_bases += known_base(packing->inventory, table->name, bases[n_bases]);
    if (n_bases == 2 && memcmp(bases[0], bases[1], STORE_SHA256_BYTES) == 0)
        n_bases = 1;
    for (size_t i = 0; i < n_bases; i++) {
        r = pack_against(packing, table, bases[i], &smaller);
        if (r)
            return pass(r);
        if (smaller.len > 0 && smaller.len < table->packed.len / 2) {
            struct buf larger = table->packed;

            table->packed = smaller;
            smaller = larger;
            return 0;
        }
    }
    remember_base(packing->inventory, table->name, table->sha256);
    return 0;
}

int store_inventory_prepare(struct store *store, struct store_inventory_put *put)
{
    struct packing packing = { .inventory = &store->inventory, .put = put };
    int r = look(&packing);

    for (size_t i = 0; i < put->n_tables && !r; i++)
        if (put->tables[i].canonical.len > 0)
            r = pack_table(&packing, &put->tables[i]);
    content_work_deinit(&packing.work);
    buf_deinit(&packing.record);
    buf_deinit(&packing.scratch);
    return r < 0 ? pass(r) : r;
}

/* ---- who needs a content ---- */

struct writing {
    struct inventory *inventory;
    MDB_txn *txn;
    struct content_work work;
    struct buf record, old;
    wall_us now;
    bool has_written;
};

static int
put_row(struct writing *writing, enum inventory_table table, struct span key, struct span value)
{
    MDB_val k = db_val_of(key), v = db_val_of(value);

    writing->has_written = true;
    return inventory_check(writing->inventory,
                           mdb_put(writing->txn, writing->inventory->tables[table], &k, &v, 0),
                           "cannot write an inventory");
}

static int delete_row(struct writing *writing, enum inventory_table table, struct span key)
{
    MDB_val k = db_val_of(key);
    int r;

    writing->has_written = true;
    r = inventory_check(writing->inventory,
                        mdb_del(writing->txn, writing->inventory->tables[table], &k, NULL),
                        "cannot remove an inventory");
    return r == STORE_NOT_FOUND ? 0 : r;
}

static struct span key_of(const uint8_t *sha256)
{
    return span_of(sha256, STORE_SHA256_BYTES);
}

/* Of a content whose record is lost: it never goes. */
static const struct inventory_refs uncounted = { .n_revisions = UINT32_MAX,
                                                 .n_dependents = UINT32_MAX };

static int put_refs(struct writing *writing, const uint8_t *sha256, struct inventory_refs *refs)
{
    inventory_refs_seal(key_of(sha256), refs);
    return put_row(writing, INVENTORY_REFS, key_of(sha256), span_of(refs, sizeof(*refs)));
}

/* A record that is damaged counts nothing any more: its content stays. Outcomes: STORE_NOT_FOUND.
 */
static int get_refs(struct writing *writing, const uint8_t *sha256, struct inventory_refs *ret)
{
    int r = inventory_refs_get(writing->inventory, writing->txn, sha256, ret);

    if (r == STORE_DAMAGED && !atomic_load(&writing->inventory->is_damaged)) {
        *ret = uncounted;
        r = 0;
    }
    return r;
}

/* One dependent more or less (or, at the end of a base, none). */
static int count_dependent(struct writing *writing, const uint8_t *base, int by)
{
    struct inventory_refs refs;
    int r = get_refs(writing, base, &refs);

    if (r)
        return r == STORE_NOT_FOUND ? 0 : r;
    if (by < 0 && refs.n_dependents == 0)
        return 0;
    refs.n_dependents += by < 0 ? UINT64_MAX : 1;
    if (refs.n_dependents > 0 || refs.n_revisions > 0)
        return put_refs(writing, base, &refs);
    r = delete_row(writing, INVENTORY_CONTENTS, key_of(base));
    return r ? r : delete_row(writing, INVENTORY_REFS, key_of(base));
}

static int count_revision(struct writing *writing, const uint8_t *sha256)
{
    struct inventory_refs refs;
    int r = get_refs(writing, sha256, &refs);

    if (r == STORE_NOT_FOUND) { /* it came with the content: the disk lost it */
        refs = uncounted;
        r = 0;
    }
    refs.n_revisions += r == 0;
    return r ? r : put_refs(writing, sha256, &refs);
}

static int uncount_revision(struct writing *writing, const uint8_t *sha256)
{
    struct inventory_refs refs;
    int r = get_refs(writing, sha256, &refs);

    if (r)
        return r == STORE_NOT_FOUND ? 0 : r;
    refs.n_revisions -= refs.n_revisions > 0;
    if (refs.n_dependents > 0 || refs.n_revisions > 0)
        return put_refs(writing, sha256, &refs);
    r = delete_row(writing, INVENTORY_CONTENTS, key_of(sha256));
    if (!r)
        r = delete_row(writing, INVENTORY_REFS, key_of(sha256));
    return r || !inventory_has_base(&refs) ? r : count_dependent(writing, refs.base, -1);
}

/* ---- contents ---- */

/* Whether it may hang on the base that it was packed against. */
static int may_have_base(struct writing *writing,
                         const struct inventory_refs *own,
                         const uint8_t *base,
                         bool *ret)
{
    struct inventory_refs refs;
    int r = get_refs(writing, base, &refs);

    *ret = r == 0 && own->n_dependents == 0 && !inventory_has_base(&refs) &&
           refs.n_dependents < INVENTORY_DEPENDENTS;
    return r == STORE_NOT_FOUND ? 0 : r;
}

static int put_content(struct writing *writing, struct store_inventory_put_table *table)
{
    struct inventory_refs refs = { 0 };
    struct content content;
    bool has_base, may = false;
    int r = get_refs(writing, table->sha256, &refs);

    if (r && r != STORE_NOT_FOUND)
        return r;
    if (r == 0 && inventory_has_base(&refs)) { /* it takes the place of a damaged one */
        r = count_dependent(writing, refs.base, -1);
        if (r)
            return r;
    }
    memset(refs.base, 0, sizeof(refs.base));
    ensure(content_open(buf_span(&table->packed), &content) == CONTENT_OK);
    has_base = content_has_base(&content);
    r = has_base ? may_have_base(writing, &refs, content.header.base, &may) : 0;
    if (r)
        return r;
    if (has_base && may) {
        memcpy(refs.base, content.header.base, sizeof(refs.base));
        r = count_dependent(writing, refs.base, 1);
    } else if (has_base) {
        buf_clear(&table->packed);
        r = content_pack(buf_span(&table->canonical), NULL, &writing->work, &table->packed);
    }
    if (!r)
        r = put_row(writing, INVENTORY_CONTENTS, key_of(table->sha256), buf_span(&table->packed));
    return r ? r : put_refs(writing, table->sha256, &refs);
}

/* Those that are not there, or damaged. Outcomes: STORE_NOT_FOUND (is_missing says which). */
static int check_contents(struct writing *writing, struct store_inventory_put *put, size_t *ret_new)
{
    bool is_missing = false;

    *ret_new = 0;
    for (size_t i = 0; i < put->n_tables; i++) {
        struct store_inventory_put_table *table = &put->tables[i];
        struct content_header header;
        int r = inventory_peek(writing->inventory, writing->txn, table->sha256, &header);

        if (r == 0 && inventory_is_damaged(writing->inventory, table->sha256))
            r = STORE_NOT_FOUND;
        if (r && r != STORE_NOT_FOUND)
            return r;
        if (r == 0) {
            table->n_rows = header.n_rows;
            buf_deinit(&table->packed); /* another brought it meanwhile */
        }
        *ret_new += table->packed.len;
        table->is_missing = r == STORE_NOT_FOUND && table->packed.len == 0;
        is_missing |= table->is_missing;
    }
    return is_missing ? STORE_NOT_FOUND : 0;
}

static uint64_t used_bytes(struct writing *writing)
{
    uint64_t n_pages = 0, page_bytes = 4096;
    MDB_stat stat;

    for (int i = 0; i < INVENTORY_N_TABLES; i++)
        if (mdb_stat(writing->txn, writing->inventory->tables[i], &stat) == 0) {
            n_pages += stat.ms_branch_pages + stat.ms_leaf_pages + stat.ms_overflow_pages;
            page_bytes = stat.ms_psize;
        }
    return n_pages * page_bytes;
}

static int put_contents(struct writing *writing, struct store_inventory_put *put)
{
    size_t n_new;
    int r = check_contents(writing, put, &n_new);

    if (r)
        return r;
    if (n_new > 0 && used_bytes(writing) + n_new > atomic_load(&writing->inventory->max_bytes))
        return STORE_TOO_MUCH;
    for (size_t i = 0; i < put->n_tables && !r; i++)
        if (put->tables[i].packed.len > 0)
            r = put_content(writing, &put->tables[i]);
    return r;
}

/* ---- revisions ---- */

static int by_name(const void *a, const void *b)
{
    const struct store_inventory_put_table *x = a, *y = b;

    return strcmp(x->name, y->name); /* bytes, as content_compare() has them */
}

/* The entries of the new revision beside those of the one before; both ascend. */
struct change {
    struct buf *to;
    struct buf removed;
    uint32_t n_changed, n_removed;
};

static void add_removed(struct change *change, const struct inventory_entry *before)
{
    struct inventory_entry entry = { .flags = INVENTORY_REMOVED, .name = before->name };

    inventory_record_add(&change->removed, &entry);
    change->n_removed++;
}

static void
compare(struct change *change, const struct store_inventory_put *put, struct span before)
{
    struct inventory_entry old;
    size_t at = 0;
    bool has_old = before.len > 0 && inventory_record_next(before, &at, &old);

    for (size_t i = 0; i < put->n_tables; i++) {
        const struct store_inventory_put_table *table = &put->tables[i];
        struct inventory_entry entry = { .n_rows = table->n_rows,
                                         .name = span_of_text(table->name) };
        int stand = 1;

        while (has_old && old.flags != INVENTORY_REMOVED) {
            stand = content_compare(&old.name, &entry.name, 1);
            if (stand >= 0)
                break;
            add_removed(change, &old);
            has_old = inventory_record_next(before, &at, &old);
        }
        if (!has_old || old.flags == INVENTORY_REMOVED)
            stand = 1;
        memcpy(entry.sha256, table->sha256, sizeof(entry.sha256));
        if (stand != 0 || memcmp(old.sha256, entry.sha256, sizeof(old.sha256)) != 0)
            entry.flags = INVENTORY_CHANGED;
        change->n_changed += entry.flags == INVENTORY_CHANGED;
        inventory_record_add(change->to, &entry);
        if (stand == 0)
            has_old = inventory_record_next(before, &at, &old);
    }
    while (has_old && old.flags != INVENTORY_REMOVED) {
        add_removed(change, &old);
        has_old = inventory_record_next(before, &at, &old);
    }
}

static int put_agent(struct writing *writing, const struct store_inventory_put *put)
{
    struct inventory_agent agent = { .revision = put->revision, .confirmed_us = put->received.us };
    uint8_t key[4];

    db_key_u32(key, put->agent);
    inventory_agent_seal(span_of(key, sizeof(key)), &agent);
    return put_row(writing, INVENTORY_AGENTS, span_of(key, sizeof(key)),
                   span_of(&agent, sizeof(agent)));
}

/* The record that `writing->record` holds becomes the agent's newest. */
static int
put_revision(struct writing *writing, struct store_inventory_put *put, uint32_t n_removed)
{
    const struct inventory_revision header = {
        .time_us = put->time_us,
        .received_us = put->received.us,
        .n_tables = (uint32_t) put->n_tables,
        .n_removed = n_removed,
    };
    uint8_t key[INVENTORY_REVISION_KEY_BYTES];
    int r = 0;

    inventory_revision_key(key, put->agent, put->revision);
    inventory_record_seal(&writing->record, span_of(key, sizeof(key)), &header);
    if (buf_failed(&writing->record))
        return fault(-ENOMEM, "no memory for a revision");
    for (size_t i = 0; i < put->n_tables && !r; i++)
        r = count_revision(writing, put->tables[i].sha256);
    return r ? r
             : put_row(writing, INVENTORY_REVISIONS_TABLE, span_of(key, sizeof(key)),
                       buf_span(&writing->record));
}

/* The oldest of an agent, when it has to go; *ret_went: it did. */
static int trim_one(struct writing *writing, uint32_t agent, bool is_gone, bool *ret_went)
{
    struct inventory *inventory = writing->inventory;
    struct inventory_span span;
    struct inventory_entry entry;
    uint32_t max = atomic_load(&inventory->max_revisions);
    int64_t retention_us = atomic_load(&inventory->retention_us);
    size_t at = 0;
    int r = inventory_oldest(inventory, writing->txn, agent, &span, &writing->old);

    *ret_went = false;
    if (r || (span.first == span.last && !is_gone))
        return r == STORE_NOT_FOUND ? 0 : r;
    if (!is_gone && !(max > 0 && span.last - span.first + 1 > max) &&
        !(retention_us > 0 && span.replaced_us < writing->now.us - retention_us))
        return 0;
    /* What a damaged record names stays: nobody knows what it was. */
    while (writing->old.len > 0 && !r &&
           inventory_record_next(buf_span(&writing->old), &at, &entry))
        if (entry.flags != INVENTORY_REMOVED)
            r = uncount_revision(writing, entry.sha256);
    *ret_went = true;
    return r ? r
             : delete_row(writing, INVENTORY_REVISIONS_TABLE,
                          span_of(span.first_key, sizeof(span.first_key)));
}

static int trim_agent(struct writing *writing, uint32_t agent)
{
    struct agent *known = agents_get(&writing->inventory->store->agents, agent);
    const bool is_gone = known && agent_is_gone(known);
    bool went = true;
    uint8_t key[4];
    int r = 0;

    db_key_u32(key, agent);
    if (is_gone) /* all of it; its record first, which names a revision */
        r = delete_row(writing, INVENTORY_AGENTS, span_of(key, sizeof(key)));
    for (uint32_t i = 0; (is_gone || i < TRIM_REVISIONS) && went && !r; i++)
        r = trim_one(writing, agent, is_gone, &went);
    return r;
}

static int apply(struct writing *writing, struct store_inventory_put *put)
{
    CLEANUP(buf_deinit) struct buf before = { 0 };
    struct change change = { .to = &writing->record };
    uint8_t key[INVENTORY_REVISION_KEY_BYTES];
    struct agent *known = agents_get(&writing->inventory->store->agents, put->agent);
    struct inventory_revision header;
    bool is_whole = false;
    int r;

    if (known && agent_is_gone(known)) /* it was on its way when the agent was forgotten */
        return STORE_STOPPED;
    r = put_contents(writing, put);
    if (r)
        return r;
    r = inventory_copy_before(writing->inventory, writing->txn, put->agent, UINT64_MAX, key,
                              &before);
    if (r && r != STORE_NOT_FOUND)
        return r;
    put->revision = r == 0 ? db_u64_of(db_val(key + 4, 8)) : 0;
    is_whole =
        r == 0 && inventory_record_open(span_of(key, sizeof(key)), buf_span(&before), &header);
    qsort(put->tables, put->n_tables, sizeof(*put->tables), by_name);
    inventory_record_begin(&writing->record);
    compare(&change, put, is_whole ? buf_span(&before) : (struct span){ 0 });
    buf_append_span(&writing->record, buf_span(&change.removed));
    put->n_changed = change.n_changed + change.n_removed;
    buf_deinit(&change.removed);
    r = 0;
    if (!is_whole || put->n_changed > 0) {
        put->revision++;
        r = put_revision(writing, put, change.n_removed);
        if (!r)
            r = trim_agent(writing, put->agent);
    }
    return r ? r : put_agent(writing, put);
}

/* ---- transactions ---- */

static int begin(struct writing *writing, struct inventory *inventory)
{
    *writing = (struct writing){ .inventory = inventory, .now = clock_wall() };
    if (atomic_load(&inventory->is_damaged)) /* more would be lost with it, at the next start */
        return STORE_DAMAGED;
    return inventory_check(inventory, mdb_txn_begin(inventory->env, NULL, 0, &writing->txn),
                           "cannot begin to write inventories");
}

/* With r: gives up. */
static int end(struct writing *writing, int r)
{
    if (writing->txn && (r || !writing->has_written)) {
        mdb_txn_abort(writing->txn);
    } else if (writing->txn) {
        faultpoint("inventory_before_commit");
        r = db_commit(writing->inventory->env, writing->txn, "cannot commit inventories");
        faultpoint("inventory_after_commit");
    }
    content_work_deinit(&writing->work);
    buf_deinit(&writing->record);
    buf_deinit(&writing->old);
    return r;
}

/* Another answer of apply() than these has written nothing. */
static bool gives_up(int r)
{
    return r < 0 || r == STORE_FULL || r == STORE_DAMAGED;
}

int inventory_write(struct inventory *inventory, struct inventory_answer *answers, size_t n)
{
    struct writing writing;
    int r = begin(&writing, inventory);

    for (size_t i = 0; i < n && !r; i++) {
        answers[i].r = apply(&writing, answers[i].put);
        if (gives_up(answers[i].r))
            r = answers[i].r;
    }
    r = end(&writing, r);
    for (size_t i = 0; i < n && !r; i++)
        for (size_t k = 0; k < answers[i].put->n_tables && answers[i].r == 0; k++)
            if (answers[i].put->tables[k].packed.len > 0)
                inventory_found_whole(inventory, answers[i].put->tables[k].sha256);
    return r < 0 ? pass(r) : r;
}

int inventory_trim_all(struct inventory *inventory)
{
    uint32_t next = 1;
    int r = 0;

    while (next && !r) {
        struct writing writing;

        r = begin(&writing, inventory);
        for (uint32_t i = 0; i < TRIM_AGENTS && next && !r; i++) {
            r = inventory_next_agent(inventory, writing.txn, next, &next);
            if (!r && next)
                r = trim_agent(&writing, next++);
        }
        r = end(&writing, r);
    }
    return r < 0 ? pass(r) : r;
}
