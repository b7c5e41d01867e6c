/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/stock.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/inventory/inventory.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/rand.h"
#include "common/log/log.h"
#include "common/rpc/rpc.h"

#define SECOND_US INT64_C(1000000)
#define SPREAD_US (60 * SECOND_US) /* of the first reading */
#define RETRY_US (30 * SECOND_US)
#define MAX_RETRY_US (900 * SECOND_US)
#define STALE_US (600 * SECOND_US) /* what waited so long for a connection is read anew */
#define END_LOOKS 20
#define END_LOOK_US INT64_C(50000)

/* One reading, in its thread. Shared with it until `is_done`; who comes last frees it. */
struct reading {
    struct inventory_options options;
    char *root, *engine_socket, **lists[3]; /* of our own, as a reload may come meanwhile */
    struct inventory_snapshot snapshot;
    struct inventory_known known[INVENTORY_MAX_TABLES];
    int r;
    _Atomic bool is_unwanted, is_done;
    struct loop_wakeup *wakeup;
    pthread_t thread;
};

struct stock {
    struct stock_options options;
    struct rpc_channel *channel; /* borrowed; NULL: no connection */
    int64_t interval_us;
    struct loop_timer timer;
    struct loop_wakeup wakeup;
    struct rand rand;
    struct reading *reading;            /* under way */
    struct inventory_snapshot snapshot; /* read, on its way or waiting */
    bool has_snapshot;
    mono_us read_at;
    struct tables *tables; /* under way */
    struct inventory_known known[INVENTORY_MAX_TABLES];
    size_t n_known;
    char *known_path;      /* where that is kept for the next start */
    bool is_known_unsaved; /* it could not be written: that is said once */
    unsigned n_retries;
    struct stock_status status;
};

/* ---- planning ---- */

static void plan(struct stock *stock, int64_t delay_us)
{
    if (stock->interval_us == 0) {
        loop_timer_disarm(stock->options.loop, &stock->timer);
        stock->status.next = (wall_us){ 0 };
        return;
    }
    ensure(loop_timer_arm_in(stock->options.loop, &stock->timer, delay_us) == 0);
    stock->status.next.us = clock_wall().us + delay_us;
}

static void plan_next(struct stock *stock)
{
    plan(stock, (int64_t) ((double) stock->interval_us * (0.9 + 0.2 * rand_unit(&stock->rand))));
}

static void plan_retry(struct stock *stock, int64_t wish_us)
{
    int64_t delay_us = RETRY_US << (stock->n_retries < 5 ? stock->n_retries : 5);

    if (delay_us > MAX_RETRY_US)
        delay_us = MAX_RETRY_US;
    if (delay_us > stock->interval_us)
        delay_us = stock->interval_us;
    if (wish_us > delay_us)
        delay_us = wish_us;
    stock->n_retries++;
    plan(stock, (int64_t) ((double) delay_us * (0.8 + 0.4 * rand_unit(&stock->rand))));
}

static void drop_snapshot(struct stock *stock)
{
    if (stock->has_snapshot)
        inventory_snapshot_deinit(&stock->snapshot);
    stock->has_snapshot = false;
}

static void fail(struct stock *stock, const char *error)
{
    const bool is_news = strcmp(stock->status.error, error) != 0;

    stock->status.n_failed++;
    snprintf(stock->status.error, sizeof(stock->status.error), "%s", error);
    if (is_news)
        log_event(LOG_WARN, "inventory_failed", LOG_S("error", error));
}

/* ---- sending ---- */

static void save_known(struct stock *stock)
{
    const bool was_unsaved = stock->is_known_unsaved;

    stock->is_known_unsaved =
        inventory_known_save(stock->known_path, stock->known, stock->n_known) != 0;
    if (stock->is_known_unsaved && !was_unsaved)
        log_event(LOG_WARN, "inventory_known_not_saved", LOG_S("path", stock->known_path),
                  LOG_S("remedy", "make the state directory writable for the agent's user: until "
                                  "then the next start takes tables that fail for new ones"));
}

static void remember(struct stock *stock)
{
    struct inventory_known was[INVENTORY_MAX_TABLES];
    const size_t n_was = stock->n_known;

    memcpy(was, stock->known, sizeof(was));
    memset(stock->known, 0, sizeof(stock->known));
    stock->n_known = stock->snapshot.n_tables;
    for (size_t i = 0; i < stock->n_known; i++) {
        const struct inventory_table *table = &stock->snapshot.tables[i];
        struct inventory_known *known = &stock->known[i];

        snprintf(known->name, sizeof(known->name), "%s", table->name);
        memcpy(known->sha256, table->sha256, sizeof(known->sha256));
        known->n_rows = table->n_rows;
    }
    if (stock->is_known_unsaved || stock->n_known != n_was ||
        memcmp(was, stock->known, sizeof(was)) != 0)
        save_known(stock);
}

static void forget(struct stock *stock)
{
    memset(stock->known, 0, sizeof(stock->known));
    stock->n_known = 0;
    save_known(stock);
}

static void on_stored(struct stock *stock, const struct tables_result *result)
{
    const bool is_news = result->n_changed > 0 || stock->status.error[0];

    remember(stock);
    stock->status.stored = clock_wall();
    stock->status.revision = result->revision;
    stock->status.error[0] = '\0';
    if (stock->snapshot.n_missing == 0) {
        stock->n_retries = 0;
        plan_next(stock);
    } /* else on_wakeup() has planned when they are tried again */
    if (is_news)
        log_event(LOG_INFO, "inventory_stored", LOG_U("revision", result->revision),
                  LOG_U("tables", stock->snapshot.n_tables), LOG_U("changed", result->n_changed),
                  LOG_U("bytes", result->n_bytes));
}

static void on_done(void *ctx, const struct tables_result *result)
{
    struct stock *stock = ctx;
    char error[400];

    switch (result->outcome) {
    case TABLES_STORED:
        on_stored(stock, result);
        break;
    case TABLES_NO_ROWS:           /* the hub was restored, or forgot us: all of it again */
        if (stock->n_known == 0) { /* it was all of it: the hub wants what there is not */
            fail(stock, "the hub asks for tables that were not told of");
            plan_retry(stock, 0);
            break;
        }
        forget(stock);
        plan(stock, 0);
        break;
    case TABLES_REFUSED:
    case TABLES_FAILED:
    default:
        snprintf(error, sizeof(error), "%s %s: %s", rpc_code_name(result->code), result->reason,
                 result->message);
        fail(stock, error);
        if (result->outcome == TABLES_REFUSED)
            plan_next(stock);
        else
            plan_retry(stock, result->retry_after_us);
        break;
    }
    stock->tables = tables_free(stock->tables);
    drop_snapshot(stock);
}

static void send_if_possible(struct stock *stock)
{
    if (!stock->has_snapshot || stock->tables || !stock->channel)
        return;
    if (clock_mono().us - stock->read_at.us > STALE_US) {
        drop_snapshot(stock);
        plan(stock, 0);
        return;
    }
    if (tables_send(&stock->tables, &(struct tables_options){ .channel = stock->channel,
                                                              .snapshot = &stock->snapshot,
                                                              .on_done = on_done,
                                                              .ctx = stock }) != 0) {
        fail(stock, "no memory for the upload");
        drop_snapshot(stock);
        plan_retry(stock, 0);
    }
}

/* ---- reading ---- */

static bool is_unwanted(void *ctx)
{
    struct reading *reading = ctx;

    return atomic_load(&reading->is_unwanted);
}

static void *read_main(void *arg)
{
    struct reading *reading = arg;

    reading->r = inventory_read(&reading->options, &reading->snapshot);
    atomic_store(&reading->is_done, true);
    loop_wakeup_fire(reading->wakeup);
    return NULL;
}

static struct reading *reading_free(struct reading *reading)
{
    if (!reading)
        return NULL;
    inventory_snapshot_deinit(&reading->snapshot);
    for (size_t i = 0; i < sizeof(reading->lists) / sizeof(reading->lists[0]); i++) {
        for (size_t k = 0; reading->lists[i] && reading->lists[i][k]; k++)
            free(reading->lists[i][k]);
        free(reading->lists[i]);
    }
    free(reading->root);
    free(reading->engine_socket);
    free(reading);
    return NULL;
}
DEFINE_CLEANUP(struct reading *, reading_free);

/* With a NULL at the end; NULL: no memory. */
static char **copy_list(const char *const *items, size_t n)
{
    char **copy = calloc(n + 1, sizeof(*copy));

    for (size_t i = 0; copy && i < n; i++) {
        copy[i] = strdup(items[i]);
        if (!copy[i]) {
            while (i-- > 0)
                free(copy[i]);
            free(copy);
            return NULL;
        }
    }
    return copy;
}

static bool copy_options(struct reading *reading, const struct settings *settings)
{
    struct inventory_options *options = &reading->options;

    settings_inventory_options(settings, options);
    reading->root = strdup(options->root);
    reading->engine_socket = strdup(options->engine_socket);
    reading->lists[0] = copy_list(options->enable, options->n_enable);
    reading->lists[1] = copy_list(options->disable, options->n_disable);
    reading->lists[2] = copy_list(options->certificates, options->n_certificates);
    options->root = reading->root;
    options->engine_socket = reading->engine_socket;
    options->enable = (const char *const *) reading->lists[0];
    options->disable = (const char *const *) reading->lists[1];
    options->certificates = (const char *const *) reading->lists[2];
    return reading->root && reading->engine_socket && reading->lists[0] && reading->lists[1] &&
           reading->lists[2];
}

static int start_reading(struct stock *stock)
{
    CLEANUP(reading_freep) struct reading *reading = calloc(1, sizeof(*reading));
    int r;

    if (!reading || !copy_options(reading, stock->options.settings))
        return fault(-ENOMEM, "no memory for a reading of the inventory");
    memcpy(reading->known, stock->known, sizeof(reading->known));
    reading->options.known = reading->known;
    reading->options.n_known = stock->n_known;
    reading->options.is_unwanted = is_unwanted;
    reading->options.ctx = reading;
    reading->wakeup = &stock->wakeup;
    r = pthread_create(&reading->thread, NULL, read_main, reading);
    if (r)
        return fault(-r, "cannot start a thread for the inventory");
    stock->reading = take(reading);
    return 0;
}

static void take_over(struct stock *stock, struct reading *reading)
{
    struct stock_status *status = &stock->status;

    drop_snapshot(stock);
    stock->snapshot = reading->snapshot;
    reading->snapshot = (struct inventory_snapshot){ 0 };
    stock->has_snapshot = true;
    stock->read_at = clock_mono();
    status->read = stock->snapshot.time;
    status->duration_us = stock->snapshot.duration_us;
    status->n_tables = stock->snapshot.n_tables;
    status->n_stale = stock->snapshot.n_stale;
    status->n_rows = status->n_cut = 0;
    for (size_t i = 0; i < stock->snapshot.n_tables; i++) {
        const struct inventory_table *table = &stock->snapshot.tables[i];

        status->n_rows += table->n_rows;
        status->n_cut += table->is_cut;
        if (table->why[0] && status->stored.us == 0)
            log_event(LOG_INFO, "inventory_table_partial", LOG_S("table", table->name),
                      LOG_S("why", table->why));
    }
    for (size_t i = 0; i < stock->snapshot.n_missing && status->stored.us == 0; i++)
        log_event(LOG_INFO, "inventory_table_missing",
                  LOG_S("table", stock->snapshot.missing[i].name),
                  LOG_S("why", stock->snapshot.missing[i].why));
}

static void on_wakeup(struct loop_wakeup *wakeup)
{
    struct stock *stock = wakeup->ctx;
    struct reading *reading = stock->reading;

    if (!reading || !atomic_load(&reading->is_done))
        return;
    stock->reading = NULL;
    (void) pthread_join(reading->thread, NULL);
    if (reading->r == 0) {
        take_over(stock, reading);
        /* Also when no connection comes before. What the hub has nothing of is not left for a whole
         * interval: an engine that starts after the agent. */
        if (stock->snapshot.n_missing > 0)
            plan_retry(stock, 0);
        else
            plan_next(stock);
        send_if_possible(stock);
    } else {
        fail(stock, reading->r == INVENTORY_NO_ROOT ? "collect.root cannot be opened"
                                                    : "the inventory could not be read");
        plan_next(stock);
    }
    reading_free(reading);
}

static void on_timer(struct loop_timer *timer)
{
    struct stock *stock = timer->ctx;

    /* One that still reads, or sends, is not overtaken. */
    if (stock->reading || stock->tables) {
        plan_retry(stock, 0);
        return;
    }
    if (start_reading(stock) != 0) {
        fail(stock, "no memory, or no thread, for a reading");
        plan_retry(stock, 0);
    }
}

/* ---- life ---- */

int stock_new(struct stock **ret, const struct stock_options *options)
{
    struct stock *stock = calloc(1, sizeof(*stock));
    int r;

    if (!stock)
        return fault(-ENOMEM, "no memory for the inventory");
    stock->options = *options;
    rand_init_from_system(&stock->rand);
    stock->timer = (struct loop_timer){ .fn = on_timer, .ctx = stock };
    stock->wakeup = (struct loop_wakeup){ .fn = on_wakeup, .ctx = stock };
    if (asprintf(&stock->known_path, "%s/inventory.known", options->settings->state_dir) < 0) {
        free(stock);
        return fault(-ENOMEM, "no memory for the inventory");
    }
    r = loop_wakeup_add(options->loop, &stock->wakeup);
    if (r) {
        free(stock->known_path);
        free(stock);
        return pass(r);
    }
    stock->n_known = inventory_known_load(stock->known_path, stock->known);
    stock->interval_us = options->settings->inventory_interval;
    const int64_t spread_us = stock->interval_us < SPREAD_US ? stock->interval_us / 2 : SPREAD_US;
    plan(stock, (int64_t) ((double) spread_us * rand_unit(&stock->rand)));
    *ret = stock;
    return 0;
}

/* true: it is over and joined. */
static bool end_reading(struct reading *reading)
{
    atomic_store(&reading->is_unwanted, true);
    for (int i = 0; i < END_LOOKS && !atomic_load(&reading->is_done); i++) {
        const struct timespec look = { .tv_nsec = END_LOOK_US * 1000 };

        (void) nanosleep(&look, NULL);
    }
    if (!atomic_load(&reading->is_done))
        return false;
    (void) pthread_join(reading->thread, NULL);
    return true;
}

struct stock *stock_free(struct stock *stock)
{
    bool is_over = true;

    if (!stock)
        return NULL;
    stock->tables = tables_free(stock->tables);
    if (stock->reading) {
        is_over = end_reading(stock->reading);
        if (is_over)
            stock->reading = reading_free(stock->reading);
        else
            (void) pthread_detach(stock->reading->thread);
    }
    drop_snapshot(stock);
    loop_timer_disarm(stock->options.loop, &stock->timer);
    if (!is_over) /* the thread may still fire the wakeup: both stay to the end of the process */
        return NULL;
    loop_wakeup_remove(stock->options.loop, &stock->wakeup);
    free(stock->known_path);
    free(stock);
    return NULL;
}

void stock_configure(struct stock *stock, const struct settings *settings)
{
    const bool is_other = settings->inventory_interval != stock->interval_us;

    stock->options.settings = settings;
    stock->interval_us = settings->inventory_interval;
    if (is_other && !stock->reading && !stock->tables)
        plan(stock, 0);
}

void stock_set_channel(struct stock *stock, struct rpc_channel *channel)
{
    stock->channel = channel;
    if (channel) {
        send_if_possible(stock);
    } else if (stock->tables) {
        stock->tables = tables_free(stock->tables);
        fail(stock, "the connection ended during the upload");
        drop_snapshot(stock);
        plan_retry(stock, 0);
    }
}

void stock_get_status(const struct stock *stock, struct stock_status *ret)
{
    *ret = stock->status;
}
