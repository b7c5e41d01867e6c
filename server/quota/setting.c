/* SPDX-License-Identifier: Apache-2.0 */
#include "server/quota/setting.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "server/quota/address.h"

#define VERSION 1
#define MINUTE_US (INT64_C(60) * 1000000)
#define HOUR_US (INT64_C(3600) * 1000000)

const char setting_generation_key[] = ".generation";

static const struct setting_row rows[QUOTA_N_LIMITS] = {
#define QUOTA_LIMIT(id, name, scope, n, per_us, burst, unit, help) \
    [QUOTA_##id] = { name, unit, help, scope, { n, burst }, per_us },
#include "server/quota/limits.tbl"
#undef QUOTA_LIMIT
};

const struct setting_row *setting_row(enum quota_limit limit)
{
    ensure(limit < QUOTA_N_LIMITS);
    return &rows[limit];
}

const char *quota_limit_name(enum quota_limit limit)
{
    return setting_row(limit)->name;
}

const char *setting_scope_name(enum quota_scope scope)
{
    static const char *const names[] = {
        [QUOTA_BY_AGENT] = "agent", [QUOTA_BY_USER] = "user", [QUOTA_BY_ADDRESS] = "address"
    };

    return names[scope];
}

struct span setting_who(enum quota_scope scope, const char *who, char to[static 64])
{
    struct span text = span_of_text(who);

    if (scope == QUOTA_BY_ADDRESS && address_key(who, to))
        return span_of_text(to);
    if (text.len > QUOTA_WHO_BYTES)
        text.len = QUOTA_WHO_BYTES;
    return text;
}

/* ---- rows ---- */

static void set_u64(uint8_t *to, uint64_t value)
{
    for (size_t i = 0; i < 8; i++)
        to[i] = (uint8_t) (value >> (8 * i));
}

static uint64_t get_u64(const uint8_t *from)
{
    uint64_t value = 0;

    for (size_t i = 8; i-- > 0;)
        value = value << 8 | from[i];
    return value;
}

void setting_write(const struct bucket_numbers *numbers, uint8_t to[static SETTING_BYTES])
{
    to[0] = VERSION;
    set_u64(to + 1, numbers->n);
    set_u64(to + 9, numbers->burst);
}

bool setting_read(struct span value, struct bucket_numbers *ret)
{
    struct bucket_numbers numbers;

    if (value.len != SETTING_BYTES || value.data[0] != VERSION)
        return false;
    numbers.n = get_u64(value.data + 1);
    numbers.burst = get_u64(value.data + 9);
    if (numbers.n < 1 || numbers.n > QUOTA_MAX_N || numbers.burst < 1 ||
        numbers.burst > QUOTA_MAX_N)
        return false;
    *ret = numbers;
    return true;
}

static bool limit_of(struct span name, enum quota_limit *ret)
{
    for (int i = 0; i < QUOTA_N_LIMITS; i++) {
        if (span_equal(name, span_of_text(rows[i].name))) {
            *ret = (enum quota_limit) i;
            return true;
        }
    }
    return false;
}

bool setting_key_read(struct span key, enum quota_limit *ret_limit, struct span *ret_who)
{
    const uint8_t *end = key.len > 0 ? memchr(key.data, 0, key.len) : NULL;
    size_t len = end ? (size_t) (end - key.data) : key.len;
    struct span who = end ? span_of(end + 1, key.len - len - 1) : span_of(NULL, 0);

    if (!limit_of(span_of(key.data, len), ret_limit))
        return false;
    if (end && (who.len == 0 || who.len > QUOTA_WHO_BYTES || memchr(who.data, 0, who.len)))
        return false;
    *ret_who = who;
    return true;
}

const char *quota_check_row(void *ctx, enum store_table table, struct span key, struct span value)
{
    struct bucket_numbers numbers;
    enum quota_limit limit;
    struct span who;

    (void) ctx;
    if (table != STORE_TABLE_LIMITS)
        return NULL;
    if (span_equal(key, span_of_text(setting_generation_key)))
        return value.len == 8 ? NULL : "no number of a generation";
    if (!setting_key_read(key, &limit, &who))
        return "no limit of this name";
    return setting_read(value, &numbers) ? NULL : "no numbers of a limit";
}

/* ---- changing ---- */

static bool count_rows(void *ctx, struct span key, struct span value)
{
    size_t *n = ctx;

    (void) key;
    (void) value;
    ++*n;
    return true;
}

static int raise_generation(struct store_change *change)
{
    uint8_t bytes[8];
    struct span value;
    uint64_t generation = 0;
    int r =
        store_change_get(change, STORE_TABLE_LIMITS, span_of_text(setting_generation_key), &value);

    if (r == 0 && value.len == sizeof(bytes))
        generation = get_u64(value.data);
    if (r != 0 && r != STORE_NOT_FOUND)
        return fold(r);
    set_u64(bytes, generation + 1);
    const struct store_write write = { STORE_TABLE_LIMITS, span_of_text(setting_generation_key),
                                       span_of(bytes, sizeof(bytes)) };
    return pass(store_change_put(change, &write));
}

static int check(struct store_change *change,
                 const struct quota_setting *setting,
                 enum quota_limit *ret_limit,
                 struct quota_why *ret_why)
{
    size_t n_rows = 0;
    uint64_t most = setting->n > setting->burst ? setting->n : setting->burst;

    if (!limit_of(span_of_text(setting->name), ret_limit)) {
        snprintf(ret_why->text, sizeof(ret_why->text), "limit.name: there is no limit `%.64s`",
                 setting->name);
        return QUOTA_UNKNOWN;
    }
    if (setting->who && (!setting->who[0] || strlen(setting->who) > QUOTA_WHO_BYTES)) {
        snprintf(ret_why->text, sizeof(ret_why->text),
                 "limit.scope: the name behind `%s/` has 1 to %d bytes",
                 setting_scope_name(rows[*ret_limit].scope), QUOTA_WHO_BYTES);
        return QUOTA_BAD_VALUE;
    }
    if (setting->n == UINT64_MAX)
        return 0;
    if (setting->n < 1 || most > QUOTA_MAX_N) {
        snprintf(ret_why->text, sizeof(ret_why->text), "limit.value: %s takes 1 to %" PRIu64,
                 setting->name, QUOTA_MAX_N);
        return QUOTA_BAD_VALUE;
    }
    int r = store_change_each(change, STORE_TABLE_LIMITS, span_of(NULL, 0), count_rows, &n_rows);
    if (r == 0 && setting->who && n_rows > QUOTA_MAX_SETTINGS + QUOTA_N_LIMITS) {
        snprintf(ret_why->text, sizeof(ret_why->text),
                 "limit.scope: %u names have limits of their own already; take one back first",
                 QUOTA_MAX_SETTINGS);
        return QUOTA_BAD_VALUE;
    }
    return fold(r);
}

int quota_set_in(struct store_change *change,
                 const struct quota_setting *setting,
                 struct quota_why *ret_why)
{
    char key[SETTING_KEY_BYTES], address[64];
    uint8_t value[SETTING_BYTES];
    enum quota_limit limit;
    int r = check(change, setting, &limit, ret_why);

    if (r != 0)
        return r < 0 ? pass(r) : r;
    const struct bucket_numbers numbers = { setting->n,
                                            setting->burst ? setting->burst : setting->n };
    size_t len = strlen(rows[limit].name);
    memcpy(key, rows[limit].name, len);
    if (setting->who) {
        struct span who = setting_who(rows[limit].scope, setting->who, address);

        key[len++] = 0;
        memcpy(key + len, who.data, who.len);
        len += who.len;
    }
    setting_write(&numbers, value);
    const struct store_write write = { STORE_TABLE_LIMITS, span_of(key, len),
                                       setting->n == UINT64_MAX ? span_of(NULL, 0)
                                                                : span_of(value, sizeof(value)) };
    r = store_change_put(change, &write);
    if (r == 0)
        r = raise_generation(change);
    return r == STORE_FULL ? QUOTA_FULL : fold(r);
}
