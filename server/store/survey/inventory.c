/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Survey: the inventories. What names what is read in one snapshot, quickly; then contents, a few
 * in a snapshot, so that none is held for long beside a running hub.
 */

#include <stdlib.h>

#include "common/base/map.h"
#include "common/base/text.h"
#include "common/crypto/crypto.h"
#include "server/store/inventory/inventory.h"
#include "server/store/survey/survey.h"

#define CONTENTS_AT_ONCE 64u

/* Who needs a content, as revisions and other contents say. */
struct known {
    uint8_t sha256[STORE_SHA256_BYTES];
    uint64_t n_revisions, n_dependents;
};

struct walk {
    struct survey *survey;
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi tables[INVENTORY_N_TABLES];
    struct map known; /* struct known, by content */
    struct content_work work;
    uint32_t agent; /* of the revision before */
};

static int content_damage(struct walk *walk, const char *what, const uint8_t *sha256)
{
    char hex[2 * STORE_SHA256_BYTES + 1];

    return survey_damage(walk->survey, what, "content %s",
                         text_of_hex(sha256, STORE_SHA256_BYTES, hex));
}

static struct known *known_of(struct walk *walk, const uint8_t *sha256)
{
    struct known *known = map_get(&walk->known, span_of(sha256, STORE_SHA256_BYTES));

    if (known)
        return known;
    known = calloc(1, sizeof(*known));
    if (!known)
        return NULL;
    memcpy(known->sha256, sha256, sizeof(known->sha256));
    if (map_put(&walk->known, span_of(known->sha256, sizeof(known->sha256)), known) == 0)
        return known;
    free(known);
    return NULL;
}

/* Every row of a table; fn takes what it tells itself as 0. */
static int each_row(struct walk *walk,
                    enum inventory_table table,
                    int (*fn)(struct walk *walk, MDB_val key, MDB_val value))
{
    CLEANUP(db_cursor_closep) MDB_cursor *cursor = NULL;
    MDB_val key, value;
    int r = 0, rc = mdb_cursor_open(walk->txn, walk->tables[table], &cursor);

    if (!rc)
        rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
    while (!rc && !r) {
        r = fn(walk, key, value);
        if (!r)
            rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    return r ? r : survey_end(walk->survey, rc, inventory_table_names[table]);
}

static bool is_there(struct walk *walk, enum inventory_table table, struct span name)
{
    MDB_val key = db_val_of(name), value;

    return mdb_get(walk->txn, walk->tables[table], &key, &value) == 0;
}

/* ---- what names what ---- */

static int on_entry(struct walk *walk, const struct inventory_entry *entry)
{
    struct known *known;

    if (entry->flags == INVENTORY_REMOVED)
        return 0;
    known = known_of(walk, entry->sha256);
    if (!known)
        return fault(-ENOMEM, "no memory for contents");
    known->n_revisions++;
    if (is_there(walk, INVENTORY_CONTENTS, span_of(entry->sha256, STORE_SHA256_BYTES)))
        return 0;
    return content_damage(walk, "a revision names it, and it is not there", entry->sha256);
}

static int on_revision(struct walk *walk, MDB_val key, MDB_val value)
{
    struct survey_shared *shared = walk->survey->shared;
    uint32_t agent = key.mv_size >= 4 ? db_u32_of(db_val(key.mv_data, 4)) : 0;
    struct inventory_revision header;
    struct inventory_entry entry;
    size_t at = 0;
    int r = 0;

    shared->found.n_inventory_revisions++;
    shared->environment.n_records++;
    shared->n_read_bytes += value.mv_size;
    if (agent != walk->agent) {
        shared->found.n_inventories++;
        r = agent ? survey_use(walk->survey, agent, SURVEY_INVENTORY, 0) : 0;
        if (r)
            return pass(r);
    }
    walk->agent = agent;
    if (!inventory_record_open(db_span(key), db_span(value), &header))
        return survey_damage(
            walk->survey, "bad checksum, or of no possible shape", "agent %u, revision %llu", agent,
            key.mv_size == INVENTORY_REVISION_KEY_BYTES
                ? (unsigned long long) db_u64_of(db_val((const uint8_t *) key.mv_data + 4, 8))
                : 0);
    while (!r && inventory_record_next(db_span(value), &at, &entry))
        r = on_entry(walk, &entry);
    return r;
}

static int on_agent(struct walk *walk, MDB_val key, MDB_val value)
{
    uint32_t number = db_u32_of(key);
    uint8_t newest[INVENTORY_REVISION_KEY_BYTES];
    struct inventory_agent agent;

    if (number == 0 || !inventory_agent_open(db_span(key), db_span(value), &agent))
        return survey_damage(walk->survey, "bad checksum, or of no possible shape", "agent %u",
                             number);
    inventory_revision_key(newest, number, agent.revision);
    if (is_there(walk, INVENTORY_REVISIONS_TABLE, span_of(newest, sizeof(newest))))
        return 0;
    return survey_damage(walk->survey, "its newest revision is not there", "agent %u", number);
}

/* What contents hang on, before the counts are compared. */
static int on_base(struct walk *walk, MDB_val key, MDB_val value)
{
    struct inventory_refs refs;
    struct known *known;

    if (key.mv_size != STORE_SHA256_BYTES ||
        !inventory_refs_open(db_span(key), db_span(value), &refs) || !inventory_has_base(&refs))
        return 0;
    known = known_of(walk, refs.base);
    if (!known)
        return fault(-ENOMEM, "no memory for contents");
    known->n_dependents++;
    return 0;
}

static int on_refs(struct walk *walk, MDB_val key, MDB_val value)
{
    const struct known *known;
    struct inventory_refs refs;

    if (key.mv_size != STORE_SHA256_BYTES)
        return survey_damage(walk->survey, "a key that is none", "refs");
    if (!inventory_refs_open(db_span(key), db_span(value), &refs))
        return content_damage(walk, "the count of who needs it has a bad checksum", key.mv_data);
    known = map_get(&walk->known, db_span(key));
    if (!known || known->n_revisions != refs.n_revisions ||
        known->n_dependents != refs.n_dependents)
        return content_damage(walk, "not as many need it as is counted", key.mv_data);
    if (!is_there(walk, INVENTORY_CONTENTS, db_span(key)))
        return content_damage(walk, "it is counted, and not there", key.mv_data);
    return 0;
}

static int walk_names(struct walk *walk)
{
    int r = each_row(walk, INVENTORY_REVISIONS_TABLE, on_revision);

    if (!r)
        r = each_row(walk, INVENTORY_AGENTS, on_agent);
    if (!r)
        r = each_row(walk, INVENTORY_REFS, on_base);
    return r ? r : each_row(walk, INVENTORY_REFS, on_refs);
}

/* ---- contents ---- */

/* What is wrong with it; NULL: nothing. Faults in *ret_r. */
static const char *
wrong_with(struct walk *walk, MDB_val key, const struct content *content, int *ret_r)
{
    CLEANUP(buf_deinit) struct buf canonical = { 0 };
    CLEANUP(buf_deinit) struct buf of_base = { 0 };
    CLEANUP(content_base_freep) struct content_base *base = NULL;
    uint8_t sha256[CRYPTO_SHA256_BYTES];
    struct content_shape shape = { 0 };
    int r = 0;

    if (content_has_base(content)) {
        MDB_val name = db_val(content->header.base, STORE_SHA256_BYTES), value;
        struct content beneath;

        if (mdb_get(walk->txn, walk->tables[INVENTORY_CONTENTS], &name, &value))
            return "what it is packed against is not there";
        if (content_open(db_span(value), &beneath) != CONTENT_OK || content_has_base(&beneath))
            return "what it is packed against is damaged";
        r = content_unpack(&beneath, NULL, &walk->work, &of_base);
        if (r == CONTENT_BAD)
            return "what it is packed against is damaged";
        if (!r)
            r = content_base_new(&base, content->header.base, &of_base);
    }
    if (!r)
        r = content_unpack(content, base, &walk->work, &canonical);
    if (r == CONTENT_BAD)
        return "bad checksum of a block";
    if (!r)
        r = content_check(buf_span(&canonical), &shape);
    *ret_r = r < 0 ? r : 0;
    if (r < 0)
        return NULL;
    crypto_sha256(buf_span(&canonical), sha256);
    return r == CONTENT_BAD || shape.n_rows != content->header.n_rows ||
                   memcmp(sha256, key.mv_data, sizeof(sha256)) != 0
               ? "its rows are not those that its name stands for"
               : NULL;
}

static int on_content(struct walk *walk, MDB_val key, MDB_val value)
{
    struct survey_shared *shared = walk->survey->shared;
    struct inventory_refs refs;
    struct content content;
    const char *wrong = NULL;
    MDB_val counted;
    int r = 0;

    shared->found.n_inventory_contents++;
    shared->environment.n_records++;
    shared->n_read_bytes += value.mv_size;
    if (key.mv_size != STORE_SHA256_BYTES)
        return survey_damage(walk->survey, "a key that is none", "contents");
    if (content_open(db_span(value), &content) != CONTENT_OK)
        return content_damage(walk, "bad checksum, or of no possible shape", key.mv_data);
    shared->found.inventory_packed_bytes += value.mv_size;
    shared->found.inventory_table_bytes += content.header.n_bytes;
    if (mdb_get(walk->txn, walk->tables[INVENTORY_REFS], &key, &counted))
        return content_damage(walk, "nothing counts who needs it", key.mv_data);
    if (inventory_refs_open(db_span(key), db_span(counted), &refs) &&
        memcmp(refs.base, content.header.base, sizeof(refs.base)) != 0)
        return content_damage(walk, "counted at another base than it has", key.mv_data);
    if (walk->survey->asked->is_deep)
        wrong = wrong_with(walk, key, &content, &r);
    return wrong ? content_damage(walk, wrong, key.mv_data) : r;
}

/* Some contents from a key on, in a snapshot of their own; *ret_more and `next`: where to go on. */
static int walk_some(struct walk *walk, uint8_t next[static STORE_SHA256_BYTES], bool *ret_more)
{
    CLEANUP(db_cursor_closep) MDB_cursor *cursor = NULL;
    MDB_val key = db_val(next, STORE_SHA256_BYTES), value;
    int r = 0, rc = mdb_cursor_open(walk->txn, walk->tables[INVENTORY_CONTENTS], &cursor);

    *ret_more = false;
    if (!rc)
        rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    for (uint32_t i = 0; !rc && !r; i++) {
        if (i == CONTENTS_AT_ONCE && key.mv_size == STORE_SHA256_BYTES) {
            memcpy(next, key.mv_data, STORE_SHA256_BYTES);
            *ret_more = true;
            return 0;
        }
        r = on_content(walk, key, value);
        if (!r)
            rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    return r ? r : survey_end(walk->survey, rc, inventory_table_names[INVENTORY_CONTENTS]);
}

static int walk_contents(struct walk *walk)
{
    uint8_t next[STORE_SHA256_BYTES] = { 0 };
    bool has_more = true;
    int r = 0;

    while (has_more && !r) {
        int rc = mdb_txn_commit(walk->txn); /* which keeps the tables' handles */

        walk->txn = NULL;
        if (!rc)
            rc = db_begin_read(walk->env, &walk->txn);
        if (rc)
            return survey_end(walk->survey, rc, "the last snapshot");
        r = walk_some(walk, next, &has_more);
    }
    return r;
}

/* ---- the whole ---- */

static int walk_all(struct walk *walk)
{
    struct survey_shared *shared = walk->survey->shared;
    int rc = 0, r;

    for (int i = 0; i < INVENTORY_N_TABLES && !rc; i++)
        rc = mdb_dbi_open(walk->txn, inventory_table_names[i], 0, &walk->tables[i]);
    /* All tables come with the first commit: without one it is only about to begin. */
    if (rc == MDB_NOTFOUND && mdb_txn_id(walk->txn) > 0)
        return survey_damage(walk->survey, "a table is not there", "the list of tables");
    if (rc)
        return survey_end(walk->survey, rc, "the list of tables");
    shared->environment.kind = STORE_INVENTORY;
    survey_pages(walk->survey, walk->txn, walk->tables, INVENTORY_N_TABLES);
    shared->found.inventory_bytes += shared->environment.n_bytes;
    shared->found.n_inventory_free_pages += shared->environment.n_free_pages;
    r = walk_names(walk);
    return r ? r : walk_contents(walk);
}

static void free_known(struct walk *walk)
{
    struct known *known;
    size_t at = 0;

    while ((known = map_next(&walk->known, &at)))
        free(known);
    map_deinit(&walk->known);
}

int survey_inventory(struct survey *survey)
{
    struct walk walk = { .survey = survey };
    int rc, r = survey_open(survey, INVENTORY_N_TABLES, &walk.env);

    if (r)
        return r == STORE_NOT_FOUND ? 0 : r;
    rc = db_begin_read(walk.env, &walk.txn);
    r = rc ? survey_end(survey, rc, "the last snapshot") : walk_all(&walk);
    if (walk.txn)
        mdb_txn_abort(walk.txn);
    mdb_env_close(walk.env);
    free_known(&walk);
    content_work_deinit(&walk.work);
    return r;
}
