/* SPDX-License-Identifier: Apache-2.0 */

/* Inventories whose bytes on disk are not what they were. */

#include "test_inventory_rig.h"

#include <lmdb.h>
#include <stdlib.h>

#include "server/store/whole.h"

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

START_TEST(a_damaged_content_is_found_named_contained_and_healed)
{
    const struct rig_table base = { "packages", 2000, 0 }, child = { "packages", 2000, 3 };
    const struct rig_table other = { "users", 200, 0 };
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1"), second = agent_of(store, "web-2");
    CLEANUP(buf_deinit) struct buf damage = { 0 };
    uint8_t sha256[3][CRYPTO_SHA256_BYTES];
    struct rig_upload upload;

    rig_sha_of(&base, sha256[0]);
    rig_sha_of(&child, sha256[1]);
    rig_sha_of(&other, sha256[2]);
    ck_assert_int_eq(rig_send(store, agent, &base, 1, true).r, 0);
    ck_assert_int_eq(rig_send(store, agent, &child, 1, true).r, 0);
    ck_assert_int_eq(rig_send(store, second, &other, 1, true).r, 0);
    store_close(store);
    flip("contents", span_of(sha256[0], sizeof(sha256[0])), 100);
    store = open_store(0);
    (void) rig_survey(&damage);
    ck_assert_ptr_nonnull(strstr(buf_text(&damage), "bad checksum of a block"));
    ck_assert_ptr_nonnull(strstr(buf_text(&damage), "what it is packed against is damaged"));
    ck_assert_int_eq(rig_read_content(store, sha256[0]), STORE_DAMAGED);
    ck_assert_int_eq(rig_read_content(store, sha256[1]), STORE_DAMAGED);
    ck_assert_int_eq(rig_read_content(store, sha256[2]), 0);
    /* The agent has the newer one still, and says so: it is asked for. */
    upload = rig_send(store, agent, &child, 1, false);
    ck_assert_int_eq(upload.r, STORE_NOT_FOUND);
    ck_assert(upload.is_missing[0]);
    upload = rig_send(store, agent, &child, 1, true);
    ck_assert_int_eq(upload.r, 0);
    ck_assert_uint_eq(upload.revision, 2);
    ck_assert_int_eq(rig_read_content(store, sha256[1]), 0);
    /* Another has what the older one was: with it all is whole again. */
    ck_assert_int_eq(rig_send(store, second, &base, 1, true).r, 0);
    ck_assert_int_eq(rig_read_content(store, sha256[0]), 0);
    rig_survey_whole();
    store_close(store);
}
END_TEST

START_TEST(a_damaged_revision_is_named_and_the_next_upload_goes_on_behind_it)
{
    const struct rig_table one = { "packages", 100, 0 }, two = { "packages", 100, 1 };
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1");
    CLEANUP(buf_deinit) struct buf damage = { 0 };
    uint8_t key[12] = { 0, 0, 0, (uint8_t) agent, 0, 0, 0, 0, 0, 0, 0, 2 };
    struct store_inventory told;
    struct rig_upload upload;
    struct arena arena;

    ck_assert_int_eq(rig_send(store, agent, &one, 1, true).r, 0);
    ck_assert_int_eq(rig_send(store, agent, &two, 1, true).r, 0);
    store_close(store);
    flip("revisions", span_of(key, sizeof(key)), 3);
    store = open_store(0);
    arena_init(&arena, 1 << 20);
    ck_assert_int_eq(store_inventory_get(store, agent, INT64_MAX, &arena, &told), STORE_DAMAGED);
    ck_assert_int_eq(store_inventory_revision(store, agent, 1, &arena, &told), 0);
    (void) rig_survey(&damage);
    ck_assert_ptr_nonnull(strstr(buf_text(&damage), "revision 2: bad checksum"));
    upload = rig_send(store, agent, &two, 1, false);
    ck_assert_int_eq(upload.r, 0);
    ck_assert_uint_eq(upload.revision, 3);
    ck_assert_int_eq(store_inventory_get(store, agent, INT64_MAX, &arena, &told), 0);
    rig_check_is(store, &told, &two, 1);
    arena_deinit(&arena);
    store_close(store);
}
END_TEST

START_TEST(a_content_whose_count_is_lost_stays_and_uploads_go_on)
{
    const struct rig_table one = { "packages", 100, 0 }, two = { "packages", 100, 1 };
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1");
    CLEANUP(buf_deinit) struct buf damage = { 0 };
    uint8_t sha256[CRYPTO_SHA256_BYTES];

    rig_sha_of(&one, sha256);
    ck_assert_int_eq(rig_send(store, agent, &one, 1, true).r, 0);
    store_close(store);
    write_row("refs", span_of(sha256, sizeof(sha256)), (struct span){ 0 });
    store = open_store(0);
    (void) rig_survey(&damage);
    ck_assert_ptr_nonnull(strstr(buf_text(&damage), "nothing counts who needs it"));
    ck_assert_int_eq(rig_send(store, agent, &two, 1, true).r, 0);
    ck_assert_int_eq(rig_send(store, agent, &one, 1, false).r, 0);
    store_set_inventory_limits(store, 1, 0, 1 << 20);
    ck_assert_int_eq(store_inventory_trim(store), 0);
    ck_assert_int_eq(rig_read_content(store, sha256), 0);
    store_close(store);
}
END_TEST

START_TEST(what_was_found_to_lead_nowhere_is_not_written_to_any_more)
{
    const struct rig_table one = { "packages", 100, 0 };
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1");

    ck_assert_int_eq(rig_send(store, agent, &one, 1, true).r, 0);
    ck_assert_int_eq(inventory_check(&store->inventory, MDB_CORRUPTED, "test"), STORE_DAMAGED);
    ck_assert_int_eq(store_inventory_trim(store), STORE_DAMAGED);
    ck_assert_int_eq(rig_send(store, agent, &one, 1, true).r, STORE_DAMAGED);
    store_close(store);
    store = open_store(0); /* it is set aside, and a new one begins */
    ck_assert_uint_eq(rig_put_one(store, agent, "packages", 100, 0), 1);
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
    (void) rig_survey(&damage);
    ck_assert_str_eq(buf_text(&damage), "agent 9: there are rows of an agent that is not here\n");
}
END_TEST

START_TEST(an_environment_that_is_none_is_set_aside_and_the_rest_serves)
{
    const struct rig_table one = { "packages", 100, 0 };
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1");
    CLEANUP(buf_deinit) struct buf damage = { 0 };
    char path[300];
    FILE *file;

    ck_assert_int_eq(rig_send(store, agent, &one, 1, true).r, 0);
    store_close(store);
    snprintf(path, sizeof(path), "%s/default/inventory/data.mdb", store_path);
    file = fopen(path, "r+");
    ck_assert_ptr_nonnull(file);
    for (int i = 0; i < 8192; i++)
        fputc('x', file);
    fclose(file);
    store = open_store(0);
    ck_assert_int_eq(rig_send(store, agent, &one, 1, false).r, STORE_NOT_FOUND);
    ck_assert_int_eq(rig_send(store, agent, &one, 1, true).r, 0);
    (void) rig_survey(&damage);
    ck_assert_ptr_nonnull(strstr(buf_text(&damage), "set aside as damaged"));
    store_close(store);
}
END_TEST

TCase *case_inventory_damage(void)
{
    TCase *tcase = tcase_create("inventory_damage");

    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, rig_begin, rig_finish);
    tcase_add_test(tcase, a_damaged_content_is_found_named_contained_and_healed);
    tcase_add_test(tcase, a_damaged_revision_is_named_and_the_next_upload_goes_on_behind_it);
    tcase_add_test(tcase, a_content_whose_count_is_lost_stays_and_uploads_go_on);
    tcase_add_test(tcase, what_was_found_to_lead_nowhere_is_not_written_to_any_more);
    tcase_add_test(tcase, an_inventory_of_an_agent_that_nobody_knows_is_named);
    tcase_add_test(tcase, an_environment_that_is_none_is_set_aside_and_the_rest_serves);
    return tcase;
}
