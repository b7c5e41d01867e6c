/* SPDX-License-Identifier: Apache-2.0 */
#include "server/quota/quota.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/map.h"
#include "server/quota/address.h"
#include "server/quota/setting.h"

#define MIN_RETRY_US 1000

/* Numbers of one name. */
struct own {
    struct bucket_numbers numbers;
    uint32_t who_len;
    char who[];
};

/* What the table says of a limit. */
struct numbers {
    struct bucket_numbers all;
    bool is_default;
    struct map own; /* who -> struct own */
};

struct limit {
    pthread_mutex_t lock;
    struct buckets buckets;
    struct numbers numbers;
    uint64_t n_refused;
};

struct quota {
    struct store *store; /* borrowed */
    char **exempt;       /* CIDR; NULL at the end */
    pthread_mutex_t refreshing;
    uint64_t version, generation; /* under `refreshing`: of the store, of the table */
    struct limit limits[QUOTA_N_LIMITS];
};

/* ---- numbers ---- */

static void numbers_deinit(struct numbers *numbers)
{
    struct own *own;

    for (size_t at = 0; (own = map_next(&numbers->own, &at));)
        free(own);
    map_deinit(&numbers->own);
}

static struct bucket_numbers numbers_of(const struct numbers *numbers, struct span who)
{
    const struct own *own = map_get(&numbers->own, who);

    return own ? own->numbers : numbers->all;
}

struct reading {
    struct numbers limits[QUOTA_N_LIMITS];
    uint64_t generation;
    bool has_failed;
};

static bool add_own(struct numbers *to, struct span who, struct bucket_numbers numbers)
{
    struct own *own = malloc(sizeof(*own) + who.len);

    if (!own)
        return false;
    own->numbers = numbers;
    own->who_len = (uint32_t) who.len;
    memcpy(own->who, who.data, who.len);
    if (map_put(&to->own, span_of(own->who, who.len), own) != 0) {
        free(own);
        return false;
    }
    return true;
}

/* Rows of later versions and damaged ones are passed over: sentinel-hub verify names them. */
static bool read_row(void *ctx, struct span key, struct span value)
{
    struct reading *reading = ctx;
    struct bucket_numbers numbers;
    enum quota_limit limit;
    struct span who;

    if (span_equal(key, span_of_text(setting_generation_key)) && value.len == 8)
        memcpy(&reading->generation, value.data, 8); /* compared for equality alone */
    if (!setting_key_read(key, &limit, &who) || !setting_read(value, &numbers))
        return true;
    if (who.len == 0) {
        reading->limits[limit].all = numbers;
        reading->limits[limit].is_default = false;
        return true;
    }
    reading->has_failed = !add_own(&reading->limits[limit], who, numbers);
    return !reading->has_failed;
}

static void put_numbers(struct limit *limit, struct numbers *numbers, mono_us now)
{
    struct numbers old;

    pthread_mutex_lock(&limit->lock);
    old = limit->numbers;
    limit->numbers = *numbers;
    for (size_t i = 0; i < limit->buckets.n; i++) {
        struct bucket *bucket = limit->buckets.heap[i];

        bucket_set_numbers(&limit->buckets, bucket,
                           numbers_of(numbers, span_of(bucket->who, bucket->who_len)), now);
    }
    buckets_order(&limit->buckets);
    pthread_mutex_unlock(&limit->lock);
    numbers_deinit(&old);
}

static int read_table(struct quota *quota)
{
    struct reading reading = { .generation = 0 };

    for (int i = 0; i < QUOTA_N_LIMITS; i++) {
        reading.limits[i].all = setting_row((enum quota_limit) i)->numbers;
        reading.limits[i].is_default = true;
    }
    int r = store_state_each(quota->store, STORE_TABLE_LIMITS, read_row, &reading);
    if (r == 0 && reading.has_failed)
        r = fault(-ENOMEM, "no memory for the numbers of limits");
    for (int i = 0; i < QUOTA_N_LIMITS; i++) {
        if (r == 0)
            put_numbers(&quota->limits[i], &reading.limits[i], clock_mono());
        else
            numbers_deinit(&reading.limits[i]);
    }
    if (r == 0)
        quota->generation = reading.generation;
    return fold(r);
}

static bool see_generation(void *ctx, struct span key, struct span value)
{
    uint64_t *generation = ctx;

    if (span_equal(key, span_of_text(setting_generation_key)) && value.len == 8)
        memcpy(generation, value.data, 8);
    return false;
}

int quota_refresh(struct quota *quota)
{
    uint64_t generation = 0;
    int r = 0;

    pthread_mutex_lock(&quota->refreshing);
    uint64_t version = store_state_version(quota->store);
    if (version != quota->version) {
        r = store_state_range(quota->store, STORE_TABLE_LIMITS,
                              span_of_text(setting_generation_key), false, see_generation,
                              &generation);
        if (r == 0 && generation != quota->generation)
            r = read_table(quota);
        if (r == 0)
            quota->version = version;
    }
    pthread_mutex_unlock(&quota->refreshing);
    return fold(r);
}

/* ---- the object ---- */

static int copy_exempt(struct quota *quota, const char *const *exempt)
{
    size_t n = 0;

    while (exempt && exempt[n])
        n++;
    quota->exempt = calloc(n + 1, sizeof(*quota->exempt));
    for (size_t i = 0; i < n && quota->exempt; i++) {
        quota->exempt[i] = strdup(exempt[i]);
        if (!quota->exempt[i])
            return fault(-ENOMEM, "no memory for networks");
    }
    return quota->exempt ? 0 : fault(-ENOMEM, "no memory for networks");
}

int quota_open(struct quota **ret, struct store *store, const char *const *exempt)
{
    CLEANUP(quota_closep) struct quota *quota = calloc(1, sizeof(*quota));

    if (!quota)
        return fault(-ENOMEM, "no memory for limits");
    quota->store = store;
    ensure(pthread_mutex_init(&quota->refreshing, NULL) == 0);
    for (int i = 0; i < QUOTA_N_LIMITS; i++) {
        ensure(pthread_mutex_init(&quota->limits[i].lock, NULL) == 0);
        quota->limits[i].buckets.per_us = setting_row((enum quota_limit) i)->per_us;
    }
    int r = copy_exempt(quota, exempt);
    if (r == 0) {
        quota->version = store_state_version(store);
        r = read_table(quota);
    }
    if (r != 0)
        return pass(r);
    *ret = take(quota);
    return 0;
}

struct quota *quota_close(struct quota *quota)
{
    if (!quota)
        return NULL;
    for (int i = 0; i < QUOTA_N_LIMITS; i++) {
        buckets_deinit(&quota->limits[i].buckets);
        numbers_deinit(&quota->limits[i].numbers);
        pthread_mutex_destroy(&quota->limits[i].lock);
    }
    for (char **at = quota->exempt; at && *at; at++)
        free(*at);
    free(quota->exempt);
    pthread_mutex_destroy(&quota->refreshing);
    free(quota);
    return NULL;
}

/* ---- taking ---- */

static bool is_exempt(const struct quota *quota, enum quota_limit limit, const char *who)
{
    if (setting_row(limit)->scope != QUOTA_BY_ADDRESS)
        return false;
    if (address_is_loopback(who))
        return true;
    for (char **at = quota->exempt; *at; at++)
        if (quota_address_matches(*at, who))
            return true;
    return false;
}

/* The bucket as of now; NULL: it is full, and `make` was not asked for, or there is no memory. */
static struct bucket *bucket_of(struct limit *limit, struct span who, bool make, mono_us now)
{
    struct bucket *bucket = buckets_find(&limit->buckets, who);

    if (!bucket && make)
        bucket = buckets_add(&limit->buckets, who, numbers_of(&limit->numbers, who), now);
    if (bucket)
        bucket_refill(&limit->buckets, bucket, now);
    return bucket;
}

/* The time to wait; 0: it was taken. */
static int64_t take_from(struct limit *limit, struct span who, uint32_t n, mono_us now)
{
    struct bucket *bucket = bucket_of(limit, who, n > 0, now);
    int64_t price, wait_us;

    /* A full one that is only looked at. Without memory nobody is refused for that. */
    if (!bucket)
        return 0;
    if (n > bucket->numbers.burst)
        return limit->buckets.per_us; /* it never has so much */
    price = buckets_price(&limit->buckets, n);
    /* n = 0: is there one left? */
    wait_us = bucket_wait_us(bucket, n ? price : buckets_price(&limit->buckets, 1));
    if (wait_us == 0 && n)
        bucket_take(&limit->buckets, bucket, price);
    return wait_us;
}

int quota_take(struct quota *quota,
               enum quota_limit limit,
               const char *who,
               uint32_t n,
               mono_us now,
               int64_t *ret_retry_us)
{
    struct limit *of = &quota->limits[limit];
    char address[64];
    int64_t wait_us;

    ensure(limit < QUOTA_N_LIMITS);
    if (is_exempt(quota, limit, who))
        return QUOTA_OK;
    struct span key = setting_who(setting_row(limit)->scope, who, address);
    pthread_mutex_lock(&of->lock);
    wait_us = take_from(of, key, n, now);
    of->n_refused += wait_us > 0;
    pthread_mutex_unlock(&of->lock);
    if (wait_us == 0)
        return QUOTA_OK;
    *ret_retry_us = wait_us > MIN_RETRY_US ? wait_us : MIN_RETRY_US;
    return QUOTA_EXCEEDED;
}

static void
charge(struct quota *quota, enum quota_limit limit, const char *who, int64_t credit, mono_us now)
{
    struct limit *of = &quota->limits[limit];
    char address[64];

    ensure(limit < QUOTA_N_LIMITS);
    if (is_exempt(quota, limit, who))
        return;
    struct span key = setting_who(setting_row(limit)->scope, who, address);
    pthread_mutex_lock(&of->lock);
    struct bucket *bucket = bucket_of(of, key, true, now);
    if (bucket)
        bucket_take(&of->buckets, bucket, credit);
    pthread_mutex_unlock(&of->lock);
}

void quota_charge(struct quota *quota, enum quota_limit limit, const char *who, mono_us now)
{
    ensure(limit < QUOTA_N_LIMITS);
    charge(quota, limit, who, buckets_price(&quota->limits[limit].buckets, 1), now);
}

void quota_charge_time(struct quota *quota, const char *user, int64_t spent_us, mono_us now)
{
    const int64_t per_us = setting_row(QUOTA_QUERY_COST)->per_us;
    const int64_t day_us = INT64_C(86400) * 1000000; /* beyond it no one is a query any more */

    if (spent_us < 0)
        spent_us = 0;
    if (spent_us > day_us)
        spent_us = day_us;
    /* per_us is a whole number of QUOTA_COST_US: nothing is rounded. */
    charge(quota, QUOTA_QUERY_COST, user, spent_us * (per_us / QUOTA_COST_US), now);
}

/* ---- telling ---- */

static struct quota_row row_for_all(struct limit *limit, enum quota_limit number)
{
    const struct setting_row *row = setting_row(number);

    return (struct quota_row){
        .name = row->name,
        .scope = setting_scope_name(row->scope),
        .n = limit->numbers.all.n,
        .per_us = row->per_us,
        .burst = limit->numbers.all.burst,
        .unit = row->unit,
        .help = row->help,
        .is_default = limit->numbers.is_default,
        .n_refused = limit->n_refused,
    };
}

static int compare_rows(const void *a, const void *b)
{
    const struct quota_row *x = a, *y = b;

    return strcmp(x->scope, y->scope);
}

/* The rows of one limit, that for all first; returns how many, 0: no memory. */
static size_t list_limit(struct limit *limit,
                         enum quota_limit number,
                         struct arena *arena,
                         struct quota_row **ret)
{
    const struct own *own;
    size_t n = 1 + limit->numbers.own.n_entries;
    struct quota_row *rows = arena_alloc_array(arena, n, sizeof(*rows));

    if (!rows)
        return 0;
    rows[0] = row_for_all(limit, number);
    n = 1;
    for (size_t at = 0; (own = map_next(&limit->numbers.own, &at)); n++) {
        rows[n] = rows[0];
        rows[n].scope = arena_printf(arena, "%s/%.*s", rows[0].scope, (int) own->who_len, own->who);
        if (!rows[n].scope)
            return 0;
        rows[n].n = own->numbers.n;
        rows[n].burst = own->numbers.burst;
        rows[n].is_default = false;
        rows[n].n_refused = 0;
    }
    qsort(rows + 1, n - 1, sizeof(*rows), compare_rows);
    *ret = rows;
    return n;
}

int quota_list(struct quota *quota, struct arena *arena, struct quota_row **ret, size_t *ret_n)
{
    struct quota_row *parts[QUOTA_N_LIMITS] = { NULL }, *rows;
    size_t counts[QUOTA_N_LIMITS], n = 0;

    for (int i = 0; i < QUOTA_N_LIMITS; i++) {
        struct limit *limit = &quota->limits[i];

        pthread_mutex_lock(&limit->lock);
        counts[i] = list_limit(limit, (enum quota_limit) i, arena, &parts[i]);
        pthread_mutex_unlock(&limit->lock);
        if (counts[i] == 0)
            return fault(-ENOMEM, "no room for the list of limits");
        n += counts[i];
    }
    rows = arena_alloc_array(arena, n, sizeof(*rows));
    if (!rows)
        return fault(-ENOMEM, "no room for the list of limits");
    for (size_t i = 0, at = 0; i < QUOTA_N_LIMITS; at += counts[i++])
        memcpy(rows + at, parts[i], counts[i] * sizeof(*rows));
    *ret = rows;
    *ret_n = n;
    return 0;
}

void quota_get_stats(struct quota *quota, struct quota_stats *ret)
{
    *ret = (struct quota_stats){ .n_buckets = 0 };
    for (int i = 0; i < QUOTA_N_LIMITS; i++) {
        pthread_mutex_lock(&quota->limits[i].lock);
        ret->n_refused[i] = quota->limits[i].n_refused;
        ret->n_buckets += quota->limits[i].buckets.n;
        pthread_mutex_unlock(&quota->limits[i].lock);
    }
}
