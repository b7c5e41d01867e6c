/* SPDX-License-Identifier: Apache-2.0 */
#include "test_store.h"

#include <lmdb.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/fault.h"
#include "common/base/rand.h"
#include "common/crypto/crypto.h"
#include "server/store/whole.h"

#define NOW_US (INT64_C(1780000000) * 1000000)
#define DAY_US (INT64_C(86400) * 1000000)

static int64_t now_us;

static wall_us clock_of_test(void)
{
    return (wall_us){ now_us };
}

static void begin(void)
{
    make_database();
    now_us = NOW_US;
    clock_set_source(clock_of_test, NULL);
}

static void finish(void)
{
    clock_set_source(NULL, NULL);
    remove_database();
}

/* ---- uploads ---- */

/* A table of n rows, of which `variant` tells some apart. */
static void make_table(struct buf *to, uint32_t n_rows, uint32_t variant)
{
    static const char *const columns[] = { "name", "version" };
    struct rand rand;

    rand_init(&rand, 11);
    store_content_put_columns(to, columns, 2);
    for (uint32_t i = 0; i < n_rows; i++) {
        char text[64];

        snprintf(text, sizeof(text), "package-%06u", i);
        store_content_put_value(to, text);
        snprintf(text, sizeof(text), "%llx-%u", (unsigned long long) rand_u64(&rand),
                 i % 50 == 0 && i / 50 == variant % (n_rows / 50 + 1) ? variant : 0);
        store_content_put_value(to, text);
    }
}

struct table {
    const char *name;
    uint32_t n_rows, variant;
};

struct upload {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool is_done, is_missing[4];
    int r;
    uint64_t revision;
    uint32_t n_changed;
};

static void on_done(struct store_inventory_put *put, int r)
{
    struct upload *upload = put->ctx;

    pthread_mutex_lock(&upload->lock);
    upload->r = r;
    upload->revision = put->revision;
    upload->n_changed = put->n_changed;
    upload->is_done = true;
    pthread_cond_signal(&upload->cond);
    pthread_mutex_unlock(&upload->lock);
}

static struct store_inventory_put *
make_put(uint32_t agent, const struct table *tables, size_t n, bool with_contents)
{
    struct store_inventory_put *put = NULL;

    ck_assert_int_eq(store_inventory_put_new(&put, n), 0);
    put->agent = agent;
    put->time_us = now_us;
    put->received.us = now_us + 1;
    put->done = on_done;
    for (size_t i = 0; i < n; i++) {
        struct store_inventory_put_table *table = &put->tables[i];

        snprintf(table->name, sizeof(table->name), "%s", tables[i].name);
        make_table(&table->canonical, tables[i].n_rows, tables[i].variant);
        crypto_sha256(buf_span(&table->canonical), table->sha256);
        table->n_rows = tables[i].n_rows;
        if (!with_contents)
            buf_deinit(&table->canonical);
    }
    return put;
}

static struct upload
send(struct store *store, uint32_t agent, const struct table *tables, size_t n, bool with_contents)
{
    struct store_inventory_put *put = make_put(agent, tables, n, with_contents);
    struct upload upload = { .r = 0 };
    int r;

    pthread_mutex_init(&upload.lock, NULL);
    pthread_cond_init(&upload.cond, NULL);
    put->ctx = &upload;
    r = store_inventory_prepare(store, put);
    if (r == 0)
        r = store_inventory_submit(store, put);
    if (r) { /* else it is on_done()'s, which may have come by now */
        upload.r = r;
    } else {
        pthread_mutex_lock(&upload.lock);
        while (!upload.is_done)
            pthread_cond_wait(&upload.cond, &upload.lock);
        pthread_mutex_unlock(&upload.lock);
    }
    for (size_t i = 0; i < n && i < 4; i++)
        upload.is_missing[i] = put->tables[i].is_missing;
    store_inventory_put_free(put);
    return upload;
}

/* One table, whole. Returns the revision. */
static uint64_t
put_one(struct store *store, uint32_t agent, const char *name, uint32_t n_rows, uint32_t variant)
{
    const struct table table = { name, n_rows, variant };
    struct upload upload = send(store, agent, &table, 1, true);

    ck_assert_int_eq(upload.r, 0);
    return upload.revision;
}

/* ---- looking ---- */

struct digest {
    struct crypto_hash *hash;
    uint64_t n_rows;
};

static bool add_row(void *ctx, uint64_t row, const struct span *values)
{
    struct digest *digest = ctx;

    ck_assert_uint_eq(row, digest->n_rows++);
    for (size_t i = 0; i < 2; i++) {
        uint32_t len = (uint32_t) values[i].len;

        crypto_hash_update(digest->hash, span_of(&len, sizeof(len)));
        crypto_hash_update(digest->hash, values[i]);
    }
    return true;
}

/* Reads a content to its end and hashes what it has: 0, or what the store says. */
static int read_content(struct store *store, const uint8_t *sha256)
{
    CLEANUP(store_contents_freep) struct store_contents *contents = NULL;
    CLEANUP(buf_deinit) struct buf head = { 0 };
    struct digest digest = { .hash = crypto_hash_new() };
    struct store_content content;
    uint8_t got[CRYPTO_SHA256_BYTES];
    const char *names[2] = { "name", "version" };
    int r;

    ck_assert_int_eq(store_contents_new(&contents, store), 0);
    r = store_contents_open(contents, sha256, &content);
    if (!r) {
        ck_assert_uint_eq(content.n_columns, 2);
        store_content_put_columns(&head, names, 2);
        crypto_hash_update(digest.hash, buf_span(&head));
        r = store_contents_rows(contents, (struct span){ 0 }, 0, add_row, &digest);
    }
    crypto_hash_finish(digest.hash, got);
    crypto_hash_free(digest.hash);
    if (!r) {
        ck_assert_uint_eq(digest.n_rows, content.n_rows);
        ck_assert_mem_eq(got, sha256, sizeof(got));
    }
    return r;
}

/* The contents of a revision are those of these tables. */
static void check_is(struct store *store,
                     const struct store_inventory *told,
                     const struct table *tables,
                     size_t n)
{
    ck_assert_uint_eq(told->n_tables, n);
    for (size_t i = 0; i < n; i++) {
        CLEANUP(buf_deinit) struct buf canonical = { 0 };
        uint8_t sha256[CRYPTO_SHA256_BYTES];

        make_table(&canonical, tables[i].n_rows, tables[i].variant);
        crypto_sha256(buf_span(&canonical), sha256);
        ck_assert_str_eq(told->tables[i].name, tables[i].name);
        ck_assert_mem_eq(told->tables[i].sha256, sha256, sizeof(sha256));
        ck_assert_uint_eq(told->tables[i].n_rows, tables[i].n_rows);
        ck_assert_int_eq(read_content(store, sha256), 0);
    }
}

static void on_damage(void *ctx, const struct store_damage *damage)
{
    struct buf *to = ctx;

    buf_printf(to, "%s: %s\n", damage->key, damage->what);
}

/* The survey beside the running store; what is damaged in `damage`. */
static struct store_found survey(struct buf *damage)
{
    struct store_survey asked = {
        .directory = store_path, .is_deep = true, .on_damage = on_damage, .ctx = damage
    };
    struct store_why why;

    ck_assert_int_eq(store_survey(&asked, &why), 0);
    return asked.found;
}

static struct store_found survey_whole(void)
{
    CLEANUP(buf_deinit) struct buf damage = { 0 };
    struct store_found found = survey(&damage);

    ck_assert_str_eq(buf_text(&damage), "");
    ck_assert_uint_eq(found.n_damaged, 0);
    return found;
}

/* ---- tests ---- */

START_TEST(an_inventory_is_there_again_after_the_store_was_opened_again)
{
    const struct table tables[] = { { "packages", 2000, 1 }, { "users", 20, 0 } };
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1");
    struct upload upload = send(store, agent, tables, 2, true);
    struct store_inventory told;
    struct arena arena;

    ck_assert_int_eq(upload.r, 0);
    ck_assert_uint_eq(upload.revision, 1);
    ck_assert_uint_eq(upload.n_changed, 2);
    store_close(store);
    store = open_store(0);
    arena_init(&arena, 1 << 20);
    ck_assert_int_eq(store_inventory_get(store, agent, INT64_MAX, &arena, &told), 0);
    ck_assert_int_eq(told.time.us, NOW_US);
    ck_assert_int_eq(told.received.us, NOW_US + 1);
    ck_assert_int_eq(told.confirmed.us, NOW_US + 1);
    check_is(store, &told, tables, 2);
    ck_assert_int_eq(store_inventory_get(store, agent_of(store, "none"), INT64_MAX, &arena, &told),
                     STORE_NOT_FOUND);
    arena_deinit(&arena);
    survey_whole();
    store_close(store);
}
END_TEST

START_TEST(a_header_alone_names_what_is_missing_and_only_that_must_be_sent)
{
    const struct table first[] = { { "a", 100, 0 }, { "b", 100, 1 }, { "c", 110, 1 } };
    const struct table second[] = { { "a", 100, 0 }, { "b", 200, 1 }, { "c", 110, 1 } };
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1");
    struct upload upload = send(store, agent, first, 3, false);

    ck_assert_int_eq(upload.r, STORE_NOT_FOUND);
    ck_assert(upload.is_missing[0] && upload.is_missing[1] && upload.is_missing[2]);
    ck_assert_int_eq(send(store, agent, first, 3, true).r, 0);
    upload = send(store, agent, second, 3, false);
    ck_assert_int_eq(upload.r, STORE_NOT_FOUND);
    ck_assert(!upload.is_missing[0] && upload.is_missing[1] && !upload.is_missing[2]);
    /* Another agent has the same: its header is enough. */
    upload = send(store, agent_of(store, "web-2"), first, 3, false);
    ck_assert_int_eq(upload.r, 0);
    ck_assert_uint_eq(upload.revision, 1);
    ck_assert_uint_eq(survey_whole().n_inventory_contents, 3);
    store_close(store);
}
END_TEST

START_TEST(the_same_header_again_makes_no_revision_but_confirms)
{
    const struct table tables[] = { { "packages", 100, 1 } };
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1");
    struct store_inventory told;
    struct upload upload;
    struct arena arena;

    ck_assert_int_eq(send(store, agent, tables, 1, true).r, 0);
    now_us += DAY_US;
    upload = send(store, agent, tables, 1, false);
    ck_assert_int_eq(upload.r, 0);
    ck_assert_uint_eq(upload.revision, 1);
    ck_assert_uint_eq(upload.n_changed, 0);
    arena_init(&arena, 1 << 20);
    ck_assert_int_eq(store_inventory_get(store, agent, INT64_MAX, &arena, &told), 0);
    ck_assert_int_eq(told.time.us, NOW_US);
    ck_assert_int_eq(told.confirmed.us, NOW_US + DAY_US + 1);
    arena_deinit(&arena);
    ck_assert_uint_eq(survey_whole().n_inventory_revisions, 1);
    store_close(store);
}
END_TEST

START_TEST(a_table_that_is_not_named_any_more_is_gone_as_of_then)
{
    const struct table both[] = { { "packages", 100, 1 }, { "users", 20, 0 } };
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1");
    struct store_inventory told;
    struct upload upload;
    struct arena arena;

    arena_init(&arena, 1 << 20);
    ck_assert_int_eq(send(store, agent, both, 2, true).r, 0);
    now_us += DAY_US;
    upload = send(store, agent, both + 1, 1, false);
    ck_assert_int_eq(upload.r, 0);
    ck_assert_uint_eq(upload.revision, 2);
    ck_assert_uint_eq(upload.n_changed, 1);
    ck_assert_int_eq(store_inventory_get(store, agent, INT64_MAX, &arena, &told), 0);
    check_is(store, &told, both + 1, 1);
    ck_assert_uint_eq(told.n_removed, 1);
    ck_assert_str_eq(told.removed[0], "packages");
    ck_assert(!told.tables[0].is_changed);
    ck_assert_int_eq(store_inventory_get(store, agent, now_us - 1, &arena, &told), 0);
    check_is(store, &told, both, 2);
    ck_assert_int_eq(told.confirmed.us, 0);
    ck_assert_int_eq(store_inventory_get(store, agent, NOW_US - 1, &arena, &told), STORE_NOT_FOUND);
    /* It comes back, and then all go. */
    ck_assert_int_eq(send(store, agent, both, 2, false).r, 0);
    upload = send(store, agent, both, 0, false);
    ck_assert_int_eq(upload.r, 0);
    ck_assert_uint_eq(upload.n_changed, 2);
    ck_assert_int_eq(store_inventory_get(store, agent, INT64_MAX, &arena, &told), 0);
    ck_assert_uint_eq(told.n_tables, 0);
    ck_assert_uint_eq(told.n_removed, 2);
    arena_deinit(&arena);
    survey_whole();
    store_close(store);
}
END_TEST

START_TEST(a_history_of_small_changes_costs_little_more_than_one_table)
{
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1");
    struct store_found found;
    uint64_t alone;

    put_one(store, agent, "packages", 2000, 0);
    alone = survey_whole().inventory_packed_bytes;
    for (uint32_t i = 1; i <= 30; i++)
        ck_assert_uint_eq(put_one(store, agent, "packages", 2000, i), i + 1);
    found = survey_whole();
    ck_assert_uint_eq(found.n_inventory_contents, 31);
    ck_assert_uint_gt(found.inventory_table_bytes, UINT64_C(31) * 2000 * 30);
    ck_assert_uint_lt(found.inventory_packed_bytes, 2 * alone);
    store_close(store);
}
END_TEST

/* A fleet of machines that are nearly the same shares a base, but not more of them than may. */
START_TEST(nearly_equal_machines_share_what_they_have_in_common)
{
    struct store *store = open_store(0);
    struct store_found found;
    uint64_t alone;

    put_one(store, agent_of(store, "web-0"), "packages", 2000, 0);
    alone = survey_whole().inventory_packed_bytes;
    for (uint32_t i = 1; i < 100; i++) {
        char id[16];

        snprintf(id, sizeof(id), "web-%u", i);
        put_one(store, agent_of(store, id), "packages", 2000, i);
    }
    found = survey_whole();
    ck_assert_uint_eq(found.n_inventories, 100);
    ck_assert_uint_ge(found.inventory_packed_bytes, 2 * alone); /* the dependents of one are few */
    ck_assert_uint_lt(found.inventory_packed_bytes, 8 * alone);
    store_close(store);
}
END_TEST

START_TEST(history_is_trimmed_by_number_and_what_nobody_needs_goes)
{
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1");
    struct store_inventory told;
    struct store_found found;
    struct arena arena;

    store_set_inventory_limits(store, 3, 0, UINT64_C(1) << 30);
    for (uint32_t i = 0; i < 10; i++)
        put_one(store, agent, "packages", 2000, i);
    found = survey_whole();
    ck_assert_uint_eq(found.n_inventory_revisions, 3);
    ck_assert_uint_eq(found.n_inventory_contents, 4); /* and the base of these three */
    arena_init(&arena, 1 << 20);
    ck_assert_int_eq(store_inventory_revision(store, agent, 7, &arena, &told), STORE_NOT_FOUND);
    ck_assert_int_eq(store_inventory_revision(store, agent, 8, &arena, &told), 0);
    check_is(store, &told, (const struct table[]){ { "packages", 2000, 7 } }, 1);
    put_one(store, agent, "packages", 30, 0);
    put_one(store, agent, "packages", 30, 1);
    put_one(store, agent, "packages", 40, 2);
    arena_deinit(&arena);
    ck_assert_uint_eq(survey_whole().n_inventory_contents, 3); /* the base has gone with the last */
    store_close(store);
}
END_TEST

START_TEST(history_is_trimmed_by_age_of_the_replacement_and_the_newest_stays)
{
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1"), quiet = agent_of(store, "web-2");
    struct store_inventory told;
    struct arena arena;

    store_set_inventory_limits(store, 100, 10 * DAY_US, UINT64_C(1) << 30);
    put_one(store, quiet, "packages", 60, 9);
    put_one(store, agent, "packages", 60, 0);
    now_us += 9 * DAY_US;
    put_one(store, agent, "packages", 60, 1);
    now_us += 9 * DAY_US;
    /* The first was replaced nine days ago: it still tells what was ten days ago. */
    ck_assert_int_eq(store_inventory_trim(store), 0);
    ck_assert_uint_eq(survey_whole().n_inventory_revisions, 3);
    now_us += 2 * DAY_US;
    ck_assert_int_eq(store_inventory_trim(store), 0);
    ck_assert_uint_eq(survey_whole().n_inventory_revisions, 2);
    now_us += 1000 * DAY_US;
    ck_assert_int_eq(store_inventory_trim(store), 0);
    ck_assert_uint_eq(survey_whole().n_inventory_revisions, 2);
    arena_init(&arena, 1 << 20);
    ck_assert_int_eq(store_inventory_get(store, quiet, INT64_MAX, &arena, &told), 0);
    ck_assert_int_eq(store_inventory_get(store, agent, INT64_MAX, &arena, &told), 0);
    ck_assert_uint_eq(told.revision, 2);
    arena_deinit(&arena);
    store_close(store);
}
END_TEST

START_TEST(more_than_all_may_have_is_refused_and_what_is_there_stays)
{
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1");
    const struct table large = { "packages", 5000, 1 }, known = { "packages", 100, 1 };

    put_one(store, agent, "packages", 100, 1);
    store_set_inventory_limits(store, 100, 0, 64 << 10);
    ck_assert_int_eq(send(store, agent, &large, 1, true).r, STORE_TOO_MUCH);
    ck_assert_int_eq(send(store, agent, &known, 1, true).r, 0);
    ck_assert_uint_eq(survey_whole().n_inventory_contents, 1);
    store_close(store);
}
END_TEST

START_TEST(a_full_disk_refuses_and_reading_goes_on)
{
    const struct table one = { "packages", 100, 0 }, two = { "packages", 100, 1 };
    struct store_options options = store_settings(0);
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1");
    struct store_inventory told;
    struct store_why why;
    struct arena arena;

    ck_assert_int_eq(send(store, agent, &one, 1, true).r, 0);
    store_close(store);
    options.full_percent = 0; /* any use is too much */
    ck_assert_int_eq(store_open(&store, &options, &why), 0);
    ck_assert_int_eq(send(store, agent, &two, 1, true).r, STORE_FULL);
    arena_init(&arena, 1 << 20);
    ck_assert_int_eq(store_inventory_get(store, agent, INT64_MAX, &arena, &told), 0);
    check_is(store, &told, &one, 1);
    arena_deinit(&arena);
    survey_whole();
    store_close(store);
}
END_TEST

/* ---- damage ---- */

/* Writes a row; one without data goes. */
static void write_row(const char *table, struct span name, struct span data)
{
    MDB_val key = { name.len, (void *) (uintptr_t) name.data };
    MDB_val value = { data.len, (void *) (uintptr_t) data.data };
    char path[300];
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;

    snprintf(path, sizeof(path), "%s/default/inventory", store_path);
    ck_assert_int_eq(mdb_env_create(&env), 0);
    ck_assert_int_eq(mdb_env_set_maxdbs(env, 8), 0);
    ck_assert_int_eq(mdb_env_set_mapsize(env, UINT64_C(1) << 30), 0);
    ck_assert_int_eq(mdb_env_open(env, path, MDB_NOTLS, 0600), 0);
    ck_assert_int_eq(mdb_txn_begin(env, NULL, 0, &txn), 0);
    ck_assert_int_eq(mdb_dbi_open(txn, table, 0, &dbi), 0);
    ck_assert_int_eq(data.len ? mdb_put(txn, dbi, &key, &value, 0) : mdb_del(txn, dbi, &key, NULL),
                     0);
    ck_assert_int_eq(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
}

/* Changes a byte of a value, from its end. */
static void flip(const char *table, struct span name, size_t from_end)
{
    MDB_val key = { name.len, (void *) (uintptr_t) name.data }, value;
    char path[300];
    uint8_t copy[65536];
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;

    snprintf(path, sizeof(path), "%s/default/inventory", store_path);
    ck_assert_int_eq(mdb_env_create(&env), 0);
    ck_assert_int_eq(mdb_env_set_maxdbs(env, 8), 0);
    ck_assert_int_eq(mdb_env_set_mapsize(env, UINT64_C(1) << 30), 0);
    ck_assert_int_eq(mdb_env_open(env, path, MDB_NOTLS, 0600), 0);
    ck_assert_int_eq(mdb_txn_begin(env, NULL, 0, &txn), 0);
    ck_assert_int_eq(mdb_dbi_open(txn, table, 0, &dbi), 0);
    ck_assert_int_eq(mdb_get(txn, dbi, &key, &value), 0);
    ck_assert_uint_le(value.mv_size, sizeof(copy));
    memcpy(copy, value.mv_data, value.mv_size);
    copy[value.mv_size - 1 - from_end] ^= 0x10;
    value.mv_data = copy;
    ck_assert_int_eq(mdb_put(txn, dbi, &key, &value, 0), 0);
    ck_assert_int_eq(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
}

static void sha_of(const struct table *table, uint8_t *to)
{
    CLEANUP(buf_deinit) struct buf canonical = { 0 };

    make_table(&canonical, table->n_rows, table->variant);
    crypto_sha256(buf_span(&canonical), to);
}

START_TEST(a_damaged_content_is_found_named_contained_and_healed)
{
    const struct table base = { "packages", 2000, 0 }, child = { "packages", 2000, 3 };
    const struct table other = { "users", 200, 0 };
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1"), second = agent_of(store, "web-2");
    CLEANUP(buf_deinit) struct buf damage = { 0 };
    uint8_t sha256[3][CRYPTO_SHA256_BYTES];
    struct upload upload;

    sha_of(&base, sha256[0]);
    sha_of(&child, sha256[1]);
    sha_of(&other, sha256[2]);
    ck_assert_int_eq(send(store, agent, &base, 1, true).r, 0);
    ck_assert_int_eq(send(store, agent, &child, 1, true).r, 0);
    ck_assert_int_eq(send(store, second, &other, 1, true).r, 0);
    store_close(store);
    flip("contents", span_of(sha256[0], sizeof(sha256[0])), 100);
    store = open_store(0);
    (void) survey(&damage);
    ck_assert_ptr_nonnull(strstr(buf_text(&damage), "bad checksum of a block"));
    ck_assert_ptr_nonnull(strstr(buf_text(&damage), "what it is packed against is damaged"));
    ck_assert_int_eq(read_content(store, sha256[0]), STORE_DAMAGED);
    ck_assert_int_eq(read_content(store, sha256[1]), STORE_DAMAGED);
    ck_assert_int_eq(read_content(store, sha256[2]), 0);
    /* The agent has the newer one still, and says so: it is asked for. */
    upload = send(store, agent, &child, 1, false);
    ck_assert_int_eq(upload.r, STORE_NOT_FOUND);
    ck_assert(upload.is_missing[0]);
    upload = send(store, agent, &child, 1, true);
    ck_assert_int_eq(upload.r, 0);
    ck_assert_uint_eq(upload.revision, 2);
    ck_assert_int_eq(read_content(store, sha256[1]), 0);
    /* Another has what the older one was: with it all is whole again. */
    ck_assert_int_eq(send(store, second, &base, 1, true).r, 0);
    ck_assert_int_eq(read_content(store, sha256[0]), 0);
    survey_whole();
    store_close(store);
}
END_TEST

START_TEST(a_damaged_revision_is_named_and_the_next_upload_goes_on_behind_it)
{
    const struct table one = { "packages", 100, 0 }, two = { "packages", 100, 1 };
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1");
    CLEANUP(buf_deinit) struct buf damage = { 0 };
    uint8_t key[12] = { 0, 0, 0, (uint8_t) agent, 0, 0, 0, 0, 0, 0, 0, 2 };
    struct store_inventory told;
    struct upload upload;
    struct arena arena;

    ck_assert_int_eq(send(store, agent, &one, 1, true).r, 0);
    ck_assert_int_eq(send(store, agent, &two, 1, true).r, 0);
    store_close(store);
    flip("revisions", span_of(key, sizeof(key)), 3);
    store = open_store(0);
    arena_init(&arena, 1 << 20);
    ck_assert_int_eq(store_inventory_get(store, agent, INT64_MAX, &arena, &told), STORE_DAMAGED);
    ck_assert_int_eq(store_inventory_revision(store, agent, 1, &arena, &told), 0);
    (void) survey(&damage);
    ck_assert_ptr_nonnull(strstr(buf_text(&damage), "revision 2: bad checksum"));
    upload = send(store, agent, &two, 1, false);
    ck_assert_int_eq(upload.r, 0);
    ck_assert_uint_eq(upload.revision, 3);
    ck_assert_int_eq(store_inventory_get(store, agent, INT64_MAX, &arena, &told), 0);
    check_is(store, &told, &two, 1);
    arena_deinit(&arena);
    store_close(store);
}
END_TEST

START_TEST(a_content_whose_count_is_lost_stays_and_uploads_go_on)
{
    const struct table one = { "packages", 100, 0 }, two = { "packages", 100, 1 };
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1");
    CLEANUP(buf_deinit) struct buf damage = { 0 };
    uint8_t sha256[CRYPTO_SHA256_BYTES];

    sha_of(&one, sha256);
    ck_assert_int_eq(send(store, agent, &one, 1, true).r, 0);
    store_close(store);
    write_row("refs", span_of(sha256, sizeof(sha256)), (struct span){ 0 });
    store = open_store(0);
    (void) survey(&damage);
    ck_assert_ptr_nonnull(strstr(buf_text(&damage), "nothing counts who needs it"));
    ck_assert_int_eq(send(store, agent, &two, 1, true).r, 0);
    ck_assert_int_eq(send(store, agent, &one, 1, false).r, 0);
    store_set_inventory_limits(store, 1, 0, 1 << 20);
    ck_assert_int_eq(store_inventory_trim(store), 0);
    ck_assert_int_eq(read_content(store, sha256), 0);
    store_close(store);
}
END_TEST

START_TEST(what_was_found_to_lead_nowhere_is_not_written_to_any_more)
{
    const struct table one = { "packages", 100, 0 };
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1");

    ck_assert_int_eq(send(store, agent, &one, 1, true).r, 0);
    ck_assert_int_eq(inventory_check(&store->inventory, MDB_CORRUPTED, "test"), STORE_DAMAGED);
    ck_assert_int_eq(store_inventory_trim(store), STORE_DAMAGED);
    ck_assert_int_eq(send(store, agent, &one, 1, true).r, STORE_DAMAGED);
    store_close(store);
    store = open_store(0); /* it is set aside, and a new one begins */
    ck_assert_uint_eq(put_one(store, agent, "packages", 100, 0), 1);
    store_close(store);
}
END_TEST

START_TEST(an_inventory_of_an_agent_that_nobody_knows_is_named)
{
    struct store *store = open_store(0);
    CLEANUP(buf_deinit) struct buf damage = { 0 };
    CLEANUP(buf_deinit) struct buf record = { 0 };
    uint8_t key[INVENTORY_REVISION_KEY_BYTES];

    ck_assert_uint_ne(agent_of(store, "web-1"), 9);
    store_close(store);
    inventory_revision_key(key, 9, 1);
    inventory_record_begin(&record);
    inventory_record_seal(&record, span_of(key, sizeof(key)), &(struct inventory_revision){ 0 });
    write_row("revisions", span_of(key, sizeof(key)), buf_span(&record));
    (void) survey(&damage);
    ck_assert_str_eq(buf_text(&damage), "agent 9: there are rows of an agent that is not here\n");
}
END_TEST

START_TEST(an_environment_that_is_none_is_set_aside_and_the_rest_serves)
{
    const struct table one = { "packages", 100, 0 };
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1");
    CLEANUP(buf_deinit) struct buf damage = { 0 };
    char path[300];
    FILE *file;

    ck_assert_int_eq(send(store, agent, &one, 1, true).r, 0);
    store_close(store);
    snprintf(path, sizeof(path), "%s/default/inventory/data.mdb", store_path);
    file = fopen(path, "r+");
    ck_assert_ptr_nonnull(file);
    for (int i = 0; i < 8192; i++)
        fputc('x', file);
    fclose(file);
    store = open_store(0);
    ck_assert_int_eq(send(store, agent, &one, 1, false).r, STORE_NOT_FOUND);
    ck_assert_int_eq(send(store, agent, &one, 1, true).r, 0);
    (void) survey(&damage);
    ck_assert_ptr_nonnull(strstr(buf_text(&damage), "set aside as damaged"));
    store_close(store);
}
END_TEST

/* ---- by chance ---- */

static void upload_and_die(void *ctx)
{
    const struct table tables[] = { { "packages", 2000, 1 }, { "users", 20, 0 } };
    struct store *store = open_store(0);

    (void) ctx;
    if (send(store, agent_of(store, "web-1"), tables, 2, true).r != 0)
        _exit(1);
    kill(getpid(), SIGKILL);
}

START_TEST(what_was_answered_survives_a_kill)
{
    const struct table tables[] = { { "packages", 2000, 1 }, { "users", 20, 0 } };
    int status = in_child(upload_and_die, NULL);
    struct store *store = open_store(0);
    struct store_inventory told;
    struct arena arena;

    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    arena_init(&arena, 1 << 20);
    ck_assert_int_eq(store_inventory_get(store, agent_of(store, "web-1"), INT64_MAX, &arena, &told),
                     0);
    check_is(store, &told, tables, 2);
    arena_deinit(&arena);
    survey_whole();
    store_close(store);
}
END_TEST

#define AGENTS 5
#define HISTORY 8

/* What each agent sent last, and before; every revision that is kept must be it. */
struct model {
    struct table tables[HISTORY][3];
    size_t n[HISTORY];
    uint64_t newest;
};

static size_t choose_tables(struct rand *rand, struct table *to)
{
    static const char *const names[] = { "packages", "services", "users" };
    size_t n = 0;

    for (size_t i = 0; i < 3; i++) {
        if (rand_below(rand, 4) == 0)
            continue;
        to[n++] = (struct table){ names[i], rand_below(rand, 3) ? 400 : 900,
                                  (uint32_t) rand_below(rand, 12) };
    }
    return n;
}

static void check_model(struct store *store, uint32_t agent, const struct model *model)
{
    struct store_inventory told;
    struct arena arena;

    for (uint64_t revision = model->newest; revision > 0 && revision + 4 > model->newest;
         revision--) {
        arena_init(&arena, 1 << 20);
        ck_assert_int_eq(store_inventory_revision(store, agent, revision, &arena, &told), 0);
        check_is(store, &told, model->tables[revision % HISTORY], model->n[revision % HISTORY]);
        arena_deinit(&arena);
    }
}

START_TEST(whatever_comes_in_whatever_order_all_is_counted_right)
{
    static struct model models[AGENTS];
    struct store *store = open_store(0);
    struct rand rand;
    uint32_t agents[AGENTS];

    memset(models, 0, sizeof(models));
    rand_init(&rand, (uint64_t) _i + 1);
    store_set_inventory_limits(store, 4, 0, UINT64_C(1) << 30);
    for (size_t i = 0; i < AGENTS; i++) {
        char id[16];

        snprintf(id, sizeof(id), "web-%zu", i);
        agents[i] = agent_of(store, id);
    }
    for (size_t step = 0; step < 150; step++) {
        size_t i = rand_below(&rand, AGENTS);
        struct table tables[3];
        size_t n = choose_tables(&rand, tables);
        struct upload upload = send(store, agents[i], tables, n, true);

        now_us += 1000000;
        ck_assert_int_eq(upload.r, 0);
        ck_assert_uint_le(upload.revision, models[i].newest + 1);
        models[i].newest = upload.revision;
        memcpy(models[i].tables[upload.revision % HISTORY], tables, sizeof(tables));
        models[i].n[upload.revision % HISTORY] = n;
        if (step % 50 == 25) {
            store_close(store);
            store = open_store(0);
            store_set_inventory_limits(store, 4, 0, UINT64_C(1) << 30);
        }
    }
    for (size_t i = 0; i < AGENTS; i++)
        check_model(store, agents[i], &models[i]);
    survey_whole();
    store_close(store);
}
END_TEST

TCase *case_inventory(void)
{
    TCase *tcase = tcase_create("inventory");

    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, begin, finish);
    tcase_add_test(tcase, an_inventory_is_there_again_after_the_store_was_opened_again);
    tcase_add_test(tcase, a_header_alone_names_what_is_missing_and_only_that_must_be_sent);
    tcase_add_test(tcase, the_same_header_again_makes_no_revision_but_confirms);
    tcase_add_test(tcase, a_table_that_is_not_named_any_more_is_gone_as_of_then);
    tcase_add_test(tcase, a_history_of_small_changes_costs_little_more_than_one_table);
    tcase_add_test(tcase, nearly_equal_machines_share_what_they_have_in_common);
    tcase_add_test(tcase, history_is_trimmed_by_number_and_what_nobody_needs_goes);
    tcase_add_test(tcase, history_is_trimmed_by_age_of_the_replacement_and_the_newest_stays);
    tcase_add_test(tcase, more_than_all_may_have_is_refused_and_what_is_there_stays);
    tcase_add_test(tcase, a_full_disk_refuses_and_reading_goes_on);
    tcase_add_test(tcase, a_damaged_content_is_found_named_contained_and_healed);
    tcase_add_test(tcase, a_damaged_revision_is_named_and_the_next_upload_goes_on_behind_it);
    tcase_add_test(tcase, a_content_whose_count_is_lost_stays_and_uploads_go_on);
    tcase_add_test(tcase, what_was_found_to_lead_nowhere_is_not_written_to_any_more);
    tcase_add_test(tcase, an_inventory_of_an_agent_that_nobody_knows_is_named);
    tcase_add_test(tcase, an_environment_that_is_none_is_set_aside_and_the_rest_serves);
    tcase_add_test(tcase, what_was_answered_survives_a_kill);
    tcase_add_loop_test(tcase, whatever_comes_in_whatever_order_all_is_counted_right, 0, 6);
    return tcase;
}
