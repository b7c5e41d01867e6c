/* SPDX-License-Identifier: Apache-2.0 */
#include "server/remote_write.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/fault.h"
#include "common/base/file.h"

#define PEM_LIMIT_BYTES (4U << 20)

/* Where systems keep their roots: Debian, Fedora, Alpine and the BSDs. */
static const char *const bundles[] = {
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
};

static int refuse(struct tls_why *why, const char *fmt, ...) PRINTF_LIKE(2, 3);
static int refuse(struct tls_why *why, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vsnprintf(why->text, sizeof(why->text), fmt, args);
    va_end(args);
    return REMOTE_WRITE_BAD;
}

/* Outcomes: REMOTE_WRITE_BAD. */
static int read_roots(const struct settings *settings, struct buf *roots, struct tls_why *why)
{
    const char *ca = settings->remote_write_ca;
    int r = FILE_ABSENT;

    if (ca[0]) {
        r = file_read(ca, PEM_LIMIT_BYTES, roots);
        return r > 0 ? refuse(why, "remote_write.ca: cannot read %.300s", ca) : pass(r);
    }
    for (size_t i = 0; r > 0 && i < sizeof(bundles) / sizeof(bundles[0]); i++)
        r = file_read(bundles[i], PEM_LIMIT_BYTES, roots);
    return r > 0 ? refuse(why, "remote_write.ca: there is no bundle of certificates on this "
                               "system; name the PEM file of the receiver's CA")
                 : pass(r);
}

/* Outcomes: REMOTE_WRITE_BAD. */
static int
make_context(const struct settings *settings, struct tls_context **ret, struct tls_why *why)
{
    CLEANUP(tls_identity_deinit) struct tls_identity own = { 0 };
    CLEANUP(buf_deinit) struct buf roots = { 0 };
    struct tls_context_options options = {
        .min_version =
            settings->tls_min_version == SETTINGS_TLS_1_3 ? TLS_VERSION_1_3 : TLS_VERSION_1_2,
    };
    struct tls_why unfit = { "" };
    int r = 0;

    if (settings->remote_write_identity[0]) {
        r = tls_identity_load(settings->remote_write_identity, &own, &unfit);
        if (r > 0)
            return refuse(why, "remote_write.identity: %.340s", unfit.text);
        options.chain_pem = buf_span(&own.chain_pem);
        options.key_pem = buf_span(&own.key_pem);
        options.roots_pem = buf_span(&own.roots_pem);
    }
    if (r == 0 && (settings->remote_write_ca[0] || options.roots_pem.len == 0)) {
        r = read_roots(settings, &roots, why);
        options.roots_pem = buf_span(&roots);
    }
    if (r != 0)
        return pass(r);
    r = tls_context_new(ret, &options, &unfit);
    return r > 0 ? refuse(why, "remote_write.ca, remote_write.identity: %.300s", unfit.text)
                 : pass(r);
}

int remote_write_way(const struct settings *settings,
                     struct export_way *ret,
                     struct tls_why *ret_why)
{
    struct tls_context *context = NULL;
    int r = 0;

    if (strncmp(settings->remote_write_url, "https:", 6) == 0)
        r = make_context(settings, &context, ret_why);
    if (r != 0)
        return pass(r);
    *ret = (struct export_way){
        .context = context,
        .token_file = settings->remote_write_token_file,
        .timeout_us = settings->remote_write_timeout,
        .batch_samples = (uint32_t) settings->remote_write_batch_samples,
    };
    return 0;
}

int remote_write_way_again(const struct settings *at_start,
                           const struct settings *fresh,
                           struct export_way *ret,
                           struct tls_why *ret_why)
{
    struct settings mixed = *fresh;

    mixed.remote_write_url = at_start->remote_write_url;
    return pass(remote_write_way(&mixed, ret, ret_why));
}

void remote_write_tell(struct export *export, struct web_remote_write *ret)
{
    struct export_stats stats;

    export_get_stats(export, &stats);
    *ret = (struct web_remote_write){
        .is_up = stats.is_up,
        .n_samples = stats.n_samples,
        .n_requests = stats.n_requests,
        .n_bytes = stats.n_bytes,
        .n_failed_network = stats.n_failed_network,
        .n_failed_server = stats.n_failed_server,
        .n_failed_throttled = stats.n_failed_throttled,
        .n_failed_denied = stats.n_failed_denied,
        .n_dropped_bad = stats.n_dropped_bad,
        .n_dropped_large = stats.n_dropped_large,
        .n_dropped_other = stats.n_dropped_other,
        .n_lag_chunks = stats.n_lag_chunks,
        .n_lost_chunks = stats.n_lost_chunks,
        .n_unreadable = stats.n_unreadable,
        .lag_us = stats.lag_us,
    };
}

static int by_name(const void *a, const void *b)
{
    const struct prom_label *x = a, *y = b;

    return strcmp(x->name, y->name);
}

static int
make_labels(const struct settings *settings, struct arena *arena, struct prom_label **ret)
{
    const struct conf_list *list = &settings->remote_write_labels;
    struct prom_label *labels = arena_alloc_array(arena, list->n_items + 1, sizeof(*labels));

    for (size_t i = 0; labels && i < list->n_items; i++) {
        char *text = arena_copy_text(arena, list->items[i]);
        char *equals = text ? strchr(text, '=') : NULL;

        if (!equals)
            return fault(-ENOMEM, "no memory for labels");
        *equals = '\0';
        labels[i] = (struct prom_label){ text, equals + 1 };
    }
    if (!labels)
        return fault(-ENOMEM, "no memory for labels");
    qsort(labels, list->n_items, sizeof(*labels), by_name);
    *ret = labels;
    return 0;
}

int remote_write_new(struct export **ret,
                     struct store *store,
                     const struct settings *settings,
                     struct tls_why *ret_why)
{
    CLEANUP(arena_deinit) struct arena arena;
    struct export_options options = { .store = store,
                                      .url = settings->remote_write_url,
                                      .n_labels = settings->remote_write_labels.n_items };
    struct prom_label *labels = NULL;
    int r;

    arena_init(&arena, 1 << 20);
    r = make_labels(settings, &arena, &labels);
    options.labels = labels;
    if (r == 0)
        r = remote_write_way(settings, &options.way, ret_why);
    if (r != 0)
        return pass(r);
    r = export_new(ret, &options);
    tls_context_unref(options.way.context);
    return r > 0
               ? refuse(ret_why, "remote_write: the disk is too full to keep its place; make room")
               : pass(r);
}
