/* SPDX-License-Identifier: Apache-2.0 */
#include "test_inventory_rig.h"

#include <stdlib.h>

#include "common/base/rand.h"
#include "common/crypto/crypto.h"

int64_t rig_now_us;

static wall_us clock_of_test(void)
{
    return (wall_us){ rig_now_us };
}

void rig_begin(void)
{
    make_database();
    rig_now_us = RIG_NOW_US;
    clock_set_source(clock_of_test, NULL);
}

void rig_finish(void)
{
    clock_set_source(NULL, NULL);
    remove_database();
}

/* ---- uploads ---- */

/* A table of n rows, of which `variant` tells some apart. */
void rig_make_table(struct buf *to, uint32_t n_rows, uint32_t variant)
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

static void on_done(struct store_inventory_put *put, int r)
{
    struct rig_upload *upload = put->ctx;

    pthread_mutex_lock(&upload->lock);
    upload->r = r;
    upload->revision = put->revision;
    upload->n_changed = put->n_changed;
    upload->is_done = true;
    pthread_cond_signal(&upload->cond);
    pthread_mutex_unlock(&upload->lock);
}

struct store_inventory_put *
rig_make_put(uint32_t agent, const struct rig_table *tables, size_t n, bool with_contents)
{
    struct store_inventory_put *put = NULL;

    ck_assert_int_eq(store_inventory_put_new(&put, n), 0);
    put->agent = agent;
    put->time_us = rig_now_us;
    put->received.us = rig_now_us + 1;
    put->done = on_done;
    for (size_t i = 0; i < n; i++) {
        struct store_inventory_put_table *table = &put->tables[i];

        snprintf(table->name, sizeof(table->name), "%s", tables[i].name);
        rig_make_table(&table->canonical, tables[i].n_rows, tables[i].variant);
        crypto_sha256(buf_span(&table->canonical), table->sha256);
        table->n_rows = tables[i].n_rows;
        if (!with_contents)
            buf_deinit(&table->canonical);
    }
    return put;
}

struct rig_upload rig_send(struct store *store,
                           uint32_t agent,
                           const struct rig_table *tables,
                           size_t n,
                           bool with_contents)
{
    struct store_inventory_put *put = rig_make_put(agent, tables, n, with_contents);
    struct rig_upload upload = { .r = 0 };
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
uint64_t rig_put_one(struct store *store,
                     uint32_t agent,
                     const char *name,
                     uint32_t n_rows,
                     uint32_t variant)
{
    const struct rig_table table = { name, n_rows, variant };
    struct rig_upload upload = rig_send(store, agent, &table, 1, true);

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
int rig_read_content(struct store *store, const uint8_t *sha256)
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
void rig_check_is(struct store *store,
                  const struct store_inventory *told,
                  const struct rig_table *tables,
                  size_t n)
{
    ck_assert_uint_eq(told->n_tables, n);
    for (size_t i = 0; i < n; i++) {
        CLEANUP(buf_deinit) struct buf canonical = { 0 };
        uint8_t sha256[CRYPTO_SHA256_BYTES];

        rig_make_table(&canonical, tables[i].n_rows, tables[i].variant);
        crypto_sha256(buf_span(&canonical), sha256);
        ck_assert_str_eq(told->tables[i].name, tables[i].name);
        ck_assert_mem_eq(told->tables[i].sha256, sha256, sizeof(sha256));
        ck_assert_uint_eq(told->tables[i].n_rows, tables[i].n_rows);
        ck_assert_int_eq(rig_read_content(store, sha256), 0);
    }
}

static void on_damage(void *ctx, const struct store_damage *damage)
{
    struct buf *to = ctx;

    buf_printf(to, "%s: %s\n", damage->key, damage->what);
}

/* The survey beside the running store; what is damaged in `damage`. */
struct store_found rig_survey(struct buf *damage)
{
    struct store_survey asked = {
        .directory = store_path, .is_deep = true, .on_damage = on_damage, .ctx = damage
    };
    struct store_why why;

    ck_assert_int_eq(store_survey(&asked, &why), 0);
    return asked.found;
}

struct store_found rig_survey_whole(void)
{
    CLEANUP(buf_deinit) struct buf damage = { 0 };
    struct store_found found = rig_survey(&damage);

    ck_assert_str_eq(buf_text(&damage), "");
    ck_assert_uint_eq(found.n_damaged, 0);
    return found;
}

void rig_sha_of(const struct rig_table *table, uint8_t *to)
{
    CLEANUP(buf_deinit) struct buf canonical = { 0 };

    rig_make_table(&canonical, table->n_rows, table->variant);
    crypto_sha256(buf_span(&canonical), to);
}
