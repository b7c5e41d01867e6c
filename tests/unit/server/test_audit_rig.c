/* SPDX-License-Identifier: Apache-2.0 */
#include "test_audit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/arena.h"
#include "common/base/file.h"
#include "common/crypto/crypto.h"
#include "common/log/log.h"

char audit_state[64];
char audit_directory[128];
struct store *store;
struct audit *audit;
int64_t now_us;
struct audit_verdict verdict;

static struct arena rows_arena, entries_arena;

static wall_us fake_wall(void)
{
    return (wall_us){ now_us };
}

static mono_us fake_mono(void)
{
    return (mono_us){ now_us };
}

struct store *open_store(void)
{
    struct store *opened = NULL;
    struct store_why why;
    char database[128];
    const struct store_options options = { .directory = database,
                                           .is_shared = true,
                                           .allow_any_filesystem = true };

    snprintf(database, sizeof(database), "%s/db", audit_state);
    ck_assert_int_eq(store_open(&opened, &options, &why), 0);
    return opened;
}

void open_audit(const struct audit_options *options)
{
    struct audit_options mine = options ? *options : (struct audit_options){ .sign = NULL };

    mine.store = store;
    mine.directory = audit_directory;
    ck_assert_int_eq(audit_open(&audit, &mine), 0);
}

void reopen(void)
{
    audit = audit_close(audit);
    store = store_close(store);
    store = open_store();
    open_audit(NULL);
}

void audit_setup(void)
{
    char database[128];

    log_init(&(const struct log_options){ .level = LOG_ERROR, .fd = 2 });
    now_us = 20000 * DAY_US + DAY_US / 2;
    clock_set_source(fake_wall, fake_mono);
    snprintf(audit_state, sizeof(audit_state), "/tmp/test_audit.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(audit_state));
    snprintf(database, sizeof(database), "%s/db", audit_state);
    snprintf(audit_directory, sizeof(audit_directory), "%s/audit", audit_state);
    ck_assert_int_eq(file_make_directories(database, 0700), 0);
    ck_assert_int_eq(file_make_directories(audit_directory, 0700), 0);
    ck_assert_int_eq(store_create(database), 0);
    arena_init(&rows_arena, (size_t) 256 << 20);
    arena_init(&entries_arena, (size_t) 256 << 20);
    store = open_store();
    open_audit(NULL);
}

void audit_teardown(void)
{
    audit = audit_close(audit);
    store = store_close(store);
    arena_deinit(&rows_arena);
    arena_deinit(&entries_arena);
    ck_assert_int_eq(file_remove_tree(audit_state), 0);
}

void put(enum audit_event event, const char *actor, const char *object)
{
    const struct audit_entry entry = { .event = event, .actor = actor, .object = object };

    ck_assert_int_eq(audit_put(audit, &entry), 0);
}

void put_many(unsigned n)
{
    char object[32];

    for (unsigned i = 0; i < n; i++) {
        snprintf(object, sizeof(object), "token/%u", i);
        put(AUDIT_TOKEN_CREATED, "operator/anna", object);
    }
}

void note(enum audit_event event, const char *actor, const char *source)
{
    const struct audit_entry entry = { .event = event, .actor = actor, .source = source };

    audit_note(audit, &entry);
}

struct collected {
    struct seen *rows;
    size_t n, capacity;
    bool is_of_entries;
};

static bool collect(void *ctx, struct span key, struct span value)
{
    struct collected *to = ctx;
    struct seen *row = &to->rows[to->n];

    if ((key.data[0] == 'E') != to->is_of_entries)
        return true;
    to->n++;
    ck_assert_uint_lt(to->n, to->capacity);
    memcpy(row->key, key.data, key.len);
    row->key_len = key.len;
    row->value = (uint8_t *) arena_copy(&rows_arena, value);
    row->value_len = value.len;
    return true;
}

struct seen *all_rows(size_t *ret_n)
{
    static struct seen rows[20000];
    struct collected to = { .rows = rows, .capacity = sizeof(rows) / sizeof(rows[0]) };

    arena_reset(&rows_arena, (size_t) 256 << 20);
    for (int turn = 0; turn < 2; turn++) {
        to.is_of_entries = turn == 0;
        ck_assert_int_eq(store_state_each(store, STORE_TABLE_AUDIT, collect, &to), 0);
    }
    *ret_n = to.n;
    return rows;
}

const struct audit_record *all_entries(size_t *ret_n)
{
    static struct audit_record entries[20000];
    size_t n_rows, n = 0;
    const struct seen *rows = all_rows(&n_rows);

    arena_reset(&entries_arena, (size_t) 256 << 20);
    for (size_t i = 0; i < n_rows; i++)
        if (rows[i].key[0] == 'E')
            ck_assert(
                row_read(span_of(rows[i].value, rows[i].value_len), &entries_arena, &entries[n++]));
    *ret_n = n;
    return entries;
}

const char *field_of(const struct audit_record *record, const char *key)
{
    for (size_t i = 0; i < record->n_fields; i++)
        if (strcmp(record->fields[i].key, key) == 0)
            return record->fields[i].value;
    return "";
}

/* ---- anchors and verdicts ---- */

int fake_sign(void *ctx, struct span data, struct buf *to)
{
    uint8_t mac[CRYPTO_SHA256_BYTES];

    (void) ctx;
    crypto_hmac_sha256(span_of_text("the hub's key"), data, mac);
    buf_append(to, mac, sizeof(mac));
    return 0;
}

bool fake_check(void *ctx, struct span data, struct span signature)
{
    uint8_t mac[CRYPTO_SHA256_BYTES];

    (void) ctx;
    crypto_hmac_sha256(span_of_text("the hub's key"), data, mac);
    return span_equal(signature, span_of(mac, sizeof(mac)));
}

void open_signing(const struct audit_limits *limits)
{
    struct audit_options options = { .sign = fake_sign };

    if (limits)
        options.limits = *limits;
    audit = audit_close(audit);
    open_audit(&options);
}

void tick(void)
{
    ck_assert_int_eq(audit_tick(audit, (wall_us){ now_us }), 0);
}

int verify_with(const struct audit_anchor *anchors, size_t n)
{
    int r;

    memset(&verdict, 0, sizeof(verdict));
    r = audit_verify(audit, anchors, n, fake_check, NULL, &verdict);
    ck_assert_int_ge(r, 0);
    return r;
}

void verify_says(uint64_t entry, const char *text)
{
    int r = verify_with(NULL, 0);

    ck_assert_int_eq(r, AUDIT_BROKEN);
    ck_assert_msg(verdict.bad_entry == entry && strstr(verdict.why, text), "entry %llu: %s",
                  (unsigned long long) verdict.bad_entry, verdict.why);
}

void verify_is_good(void)
{
    int r = verify_with(NULL, 0);

    ck_assert_msg(r == AUDIT_OK, "entry %llu: %s", (unsigned long long) verdict.bad_entry,
                  verdict.why);
}
