/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/settings.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/collect/collect.h"
#include "agent/identity/identity.h"
#include "agent/inventory/inventory.h"
#include "agent/logs/logs.h"
#include "agent/policy/policy.h"
#include "agent/spool/spool.h"
#include "common/base/fault.h"
#include "common/base/text.h"
#include "common/crypto/crypto.h"

const char *const settings_log_level_names[] = { "debug", "info", "warn", "error", NULL };
const char *const settings_log_format_names[] = { "logfmt", "json", NULL };
const char *const settings_logs_start_names[] = { "end", "beginning", NULL };
const char *const settings_tls_version_names[] = { "1.2", "1.3", NULL };
const char *const settings_spool_policy_names[] = { "drop_oldest", "drop_newest", "block", NULL };

static const struct conf_row rows[] = {
#define S(row_name, row_type, field, row_fallback, row_min, row_max, row_choices, reloadable, \
          text)                                                                               \
    { .name = row_name,                                                                       \
      .type = CONF_##row_type,                                                                \
      .offset = offsetof(struct settings, field),                                             \
      .fallback = row_fallback,                                                               \
      .min = row_min,                                                                         \
      .max = row_max,                                                                         \
      .choices = row_choices,                                                                 \
      .is_reloadable = reloadable,                                                            \
      .help = text },
#include "agent/settings.tbl"
#undef S
    { .name = NULL },
};

const struct conf_table settings_table = {
    .rows = rows,
    .struct_bytes = sizeof(struct settings),
    .env_prefix = "SENTINEL_AGENT",
};

void settings_collect(const struct settings *settings, struct collect_options *ret)
{
    *ret = (struct collect_options){
        .root = settings->collect_root,
        .enable = (const char *const *) settings->collect_enable.items,
        .n_enable = settings->collect_enable.n_items,
        .disable = (const char *const *) settings->collect_disable.items,
        .n_disable = settings->collect_disable.n_items,
        .max_series = settings->collect_max_series,
        .statvfs_timeout_us = settings->collect_filesystem_timeout,
        .deadline_us = settings->collect_deadline,
        .numbers = {
            .per_cpu = settings->collect_per_cpu,
            .n_top_processes = settings->collect_top_processes,
            .top_min_age_us = settings->collect_top_min_age,
            .max_cgroups = settings->collect_max_cgroups,
            .max_custom = settings->collect_max_custom,
            .allow_remote = settings->collect_scrape_allow_remote,
            .scrape_timeout_us = settings->collect_scrape_timeout,
            .exec_timeout_us = settings->collect_exec_timeout,
        },
        .filters = {
            [COLLECT_DISKS] = { settings->collect_disk_include, settings->collect_disk_exclude },
            [COLLECT_MOUNTS] = { settings->collect_mount_include, settings->collect_mount_exclude },
            [COLLECT_MOUNT_TYPES] = { settings->collect_mount_type_include,
                                      settings->collect_mount_type_exclude },
            [COLLECT_INTERFACES] = { settings->collect_interface_include,
                                     settings->collect_interface_exclude },
            [COLLECT_SENSORS] = { settings->collect_sensor_include,
                                  settings->collect_sensor_exclude },
            [COLLECT_UNITS] = { settings->collect_unit_include, settings->collect_unit_exclude },
            [COLLECT_CGROUPS] = { settings->collect_cgroup_include,
                                  settings->collect_cgroup_exclude },
            [COLLECT_PROCESSES] = { settings->collect_process_include,
                                    settings->collect_process_exclude },
            [COLLECT_METRICS] = { settings->collect_metric_include,
                                  settings->collect_metric_exclude },
        },
        .texts = {
            [COLLECT_TEXTFILE_DIRECTORY] = settings->collect_textfile_directory,
            [COLLECT_STATSD_LISTEN] = settings->collect_statsd_listen,
        },
        .lists = {
            [COLLECT_SCRAPE_TARGETS] = { (const char *const *) settings->collect_scrape_targets.items,
                                         settings->collect_scrape_targets.n_items },
            [COLLECT_EXEC_COMMANDS] = { (const char *const *) settings->collect_exec_commands.items,
                                        settings->collect_exec_commands.n_items },
        },
    };
}

static int refuse(struct conf_error *error, const char *fmt, ...) PRINTF_LIKE(2, 3);
static int refuse(struct conf_error *error, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vsnprintf(error->text, sizeof(error->text), fmt, args);
    va_end(args);
    return CONF_BAD;
}

static int check_hub(const char *hub, struct conf_error *error)
{
    const char *colon = strrchr(hub, ':');
    uint64_t port;

    if (!hub[0])
        return 0;
    if (!colon || colon == hub || text_to_u64(colon + 1, &port) || port == 0 || port > 65535)
        return refuse(
            error, "hub: `%.100s` is not HOST:PORT; write for example hub.example.net:8082", hub);
    if (hub[0] != '[' && memchr(hub, ':', (size_t) (colon - hub)))
        return refuse(error, "hub: `%.100s`: write an IPv6 address in brackets, as [::1]:8082",
                      hub);
    return 0;
}

static int check_collectors(const char *row, const struct conf_list *list, struct conf_error *error)
{
    for (size_t i = 0; i < list->n_items; i++) {
        const char *const *name = collect_names();
        const char *nearest;

        while (*name && strcmp(*name, list->items[i]) != 0)
            name++;
        if (*name)
            continue;
        nearest = collect_nearest(list->items[i]);
        return refuse(error, "%s: there is no collector `%.60s`%s%s%s", row, list->items[i],
                      nearest ? "; did you mean `" : "", nearest ? nearest : "",
                      nearest ? "`?" : "");
    }
    return 0;
}

static int check_filters(const struct settings *settings, struct conf_error *error)
{
    char reason[COLLECT_FILTER_ERROR_BYTES];
    struct collect_options options;

    settings_collect(settings, &options);
    for (size_t i = 0; i < COLLECT_N_FILTERS; i++)
        for (size_t is_exclude = 0; is_exclude < 2; is_exclude++) {
            int r = collect_check_filter(
                is_exclude ? options.filters[i].exclude : options.filters[i].include, reason);

            if (r < 0)
                return pass(r);
            if (r > 0)
                return refuse(error, "collect.%s.%s: %s; RE2's syntax is meant",
                              collect_filter_name((enum collect_filter) i),
                              is_exclude ? "exclude" : "include", reason);
        }
    return 0;
}

/* Where custom metrics come from. */
static int check_sources(const struct settings *settings, struct conf_error *error)
{
    const struct conf_list *targets = &settings->collect_scrape_targets;
    const struct conf_list *commands = &settings->collect_exec_commands;
    const char *words = collect_check_listen(settings->collect_statsd_listen);

    if (words)
        return refuse(error, "collect.statsd.listen: `%.60s`: %s", settings->collect_statsd_listen,
                      words);
    if (settings->collect_textfile_directory[0] && settings->collect_textfile_directory[0] != '/')
        return refuse(error, "collect.textfile.directory: `%.100s`: write the whole path",
                      settings->collect_textfile_directory);
    for (size_t i = 0; i < targets->n_items; i++) {
        words = collect_check_target(targets->items[i], settings->collect_scrape_allow_remote);
        if (words)
            return refuse(error, "collect.scrape.targets: `%.100s`: %s", targets->items[i], words);
    }
    for (size_t i = 0; i < commands->n_items; i++) {
        words = collect_check_command(commands->items[i]);
        if (words)
            return refuse(error, "collect.exec.commands: `%.100s`: %s", commands->items[i], words);
    }
    return 0;
}

static int check_tables(const char *row, const struct conf_list *list, struct conf_error *error)
{
    size_t n_kinds;
    const struct inventory_kind *kinds = inventory_kinds(&n_kinds);
    const char *names[INVENTORY_MAX_TABLES + 1] = { NULL };

    for (size_t k = 0; k < n_kinds; k++)
        names[k] = kinds[k].name;
    for (size_t i = 0; i < list->n_items; i++) {
        const char *nearest;
        size_t k = 0;

        while (names[k] && strcmp(names[k], list->items[i]) != 0)
            k++;
        if (names[k])
            continue;
        nearest = text_nearest(list->items[i], names);
        return refuse(error, "%s: there is no table `%.60s`%s%s%s", row, list->items[i],
                      nearest ? "; did you mean `" : "", nearest ? nearest : "",
                      nearest ? "`?" : "");
    }
    return 0;
}

static int check_logs(const struct settings *settings, struct conf_error *error)
{
    struct logs_settings logs;
    struct logs_error why;
    int r;

    settings_logs(settings, &logs);
    r = logs_check(&logs, &why);
    return r == LOGS_BAD ? refuse(error, "%s", why.text) : pass(r);
}

static int check_upload(const struct settings *settings, struct conf_error *error)
{
    const struct conf_list *labels = &settings->upload_labels;

    if (settings->upload_folder[0] && settings->upload_folder[0] != '/')
        return refuse(error, "upload.folder: `%.100s`: write the whole path",
                      settings->upload_folder);
    for (size_t i = 0; i < labels->n_items; i++) {
        const char *equals = strchr(labels->items[i], '=');

        if (!equals || equals == labels->items[i])
            return refuse(error, "upload.labels: `%.100s`: write key=value", labels->items[i]);
    }
    return 0;
}

static int check(const struct settings *settings, struct conf_error *error)
{
    int r = check_hub(settings->hub, error);

    for (size_t i = 0; i < settings->hub_fallback.n_items && r == 0; i++)
        r = check_hub(settings->hub_fallback.items[i], error);
    if (r == 0 && settings->hub_fallback.n_items > 0 && !settings->hub[0])
        r = refuse(error, "hub_fallback: is for when `hub` cannot be had; give `hub` too");
    if (r == 0)
        r = check_collectors("collect.enable", &settings->collect_enable, error);
    if (r == 0)
        r = check_collectors("collect.disable", &settings->collect_disable, error);
    if (r == 0)
        r = check_filters(settings, error);
    if (r == 0)
        r = check_sources(settings, error);
    if (r == 0)
        r = check_upload(settings, error);
    if (r == 0)
        r = check_tables("inventory.enable", &settings->inventory_enable, error);
    if (r == 0)
        r = check_tables("inventory.disable", &settings->inventory_disable, error);
    if (r == 0)
        r = check_logs(settings, error);
    if (r == 0 && settings->uplink_backoff > settings->uplink_max_backoff)
        r = refuse(error, "uplink.backoff is longer than uplink.max_backoff; swap them");
    return r;
}

/* systemd.exec(5): several state directories are joined by colons; the first is ours. */
static char *state_directory(void)
{
    const char *listed = getenv("STATE_DIRECTORY");
    size_t len = listed ? strcspn(listed, ":") : 0;

    return len ? strndup(listed, len) : strdup(SETTINGS_DEFAULT_STATE_DIRECTORY);
}

static int fill_hub(struct settings *settings)
{
    CLEANUP(buf_deinit) struct buf hub = { 0 };
    char *text;

    identity_read_hub(settings->identity, &hub);
    text = strdup(buf_text(&hub));
    if (!text)
        return fault(-ENOMEM, "no memory for the settings");
    free(settings->hub);
    settings->hub = text;
    return 0;
}

static int fill(struct settings *settings)
{
    char *text;

    if (!settings->state_dir[0]) {
        text = state_directory();
        if (!text)
            return fault(-ENOMEM, "no memory for the settings");
        free(settings->state_dir);
        settings->state_dir = text;
    }
    if (!settings->identity[0]) {
        if (asprintf(&text, "%s/identity", settings->state_dir) < 0)
            return fault(-ENOMEM, "no memory for the settings");
        free(settings->identity);
        settings->identity = text;
    }
    return settings->hub[0] ? 0 : pass(fill_hub(settings));
}

int settings_load(struct settings *ret,
                  const struct settings_sources *sources,
                  struct conf_error *ret_error)
{
    const struct conf_sources conf = {
        .file = sources->file ? sources->file : SETTINGS_DEFAULT_FILE,
        .file_is_wanted = sources->file != NULL,
        .use_environment = true,
        .flags = sources->flags,
        .n_flags = sources->n_flags,
    };
    struct settings settings = { 0 };
    int r;

    r = conf_load(&settings_table, &conf, &settings, ret_error);
    if (r)
        return r < 0 ? pass(r) : CONF_BAD;
    r = check(&settings, ret_error);
    if (r == 0)
        r = fill(&settings);
    if (r) {
        settings_free(&settings);
        return r < 0 ? pass(r) : CONF_BAD;
    }
    *ret = settings;
    return 0;
}

void settings_free(struct settings *settings)
{
    conf_free(&settings_table, settings);
    memset(settings, 0, sizeof(*settings));
}

void settings_logs(const struct settings *settings, struct logs_settings *ret)
{
    *ret = (struct logs_settings){
        .files = (const char *const *) settings->logs_files.items,
        .n_files = settings->logs_files.n_items,
        .files_exclude = (const char *const *) settings->logs_exclude_files.items,
        .n_files_exclude = settings->logs_exclude_files.n_items,
        .multiline = (const char *const *) settings->logs_multiline.items,
        .n_multiline = settings->logs_multiline.n_items,
        .attributes = (const char *const *) settings->logs_attributes.items,
        .n_attributes = settings->logs_attributes.n_items,
        .include = (const char *const *) settings->logs_include.items,
        .n_include = settings->logs_include.n_items,
        .exclude = (const char *const *) settings->logs_exclude.items,
        .n_exclude = settings->logs_exclude.n_items,
        .redact = (const char *const *) settings->logs_redact.items,
        .n_redact = settings->logs_redact.n_items,
        .from_beginning = settings->logs_start == 1,
        .max_record_bytes = settings->logs_max_record_size,
        .max_files = settings->logs_max_files,
        .rotated_grace_us = settings->logs_rotated_grace,
        .multiline_timeout_us = settings->logs_multiline_timeout,
        .journald = settings->logs_journald,
        .journalctl = settings->logs_journalctl,
        .journald_units = (const char *const *) settings->logs_journald_units.items,
        .n_journald_units = settings->logs_journald_units.n_items,
        .kmsg = settings->logs_kmsg,
        .root = settings->collect_root,
    };
}

void settings_inventory_options(const struct settings *settings, struct inventory_options *ret)
{
    *ret = (struct inventory_options){
        .root = settings->collect_root,
        .enable = (const char *const *) settings->inventory_enable.items,
        .n_enable = settings->inventory_enable.n_items,
        .disable = (const char *const *) settings->inventory_disable.items,
        .n_disable = settings->inventory_disable.n_items,
        .certificates = (const char *const *) settings->inventory_certificates.items,
        .n_certificates = settings->inventory_certificates.n_items,
        .engine_socket = settings->inventory_engine_socket,
        .max_rows = settings->inventory_max_rows,
        .max_bytes = settings->inventory_max_table_size,
        .command_timeout_us = settings->inventory_command_timeout,
    };
}

int settings_digest(const struct settings *settings, char ret[static 65])
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    uint8_t digest[CRYPTO_SHA256_BYTES];

    conf_print(&settings_table, settings, &text);
    if (buf_failed(&text))
        return fault(-ENOMEM, "no memory for the settings' text");
    crypto_sha256(buf_span(&text), digest);
    text_of_hex(digest, sizeof(digest), ret);
    return 0;
}
