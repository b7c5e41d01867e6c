#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The agent's settings: settings.tbl has one row each, from which this struct and the table for
 * common/conf are made.
 *
 * Flags beat environment (SENTINEL_AGENT_...) beat file (and conf.d/ *.yaml beside it) beat
 * defaults. settings_load() also checks what one row alone cannot say.
 *
 * Thread: none; plain data.
 */

#include <stdbool.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/conf/conf.h"

#define SETTINGS_DEFAULT_FILE "/etc/sentinel-agent/config.yaml"
#define SETTINGS_DEFAULT_STATE_DIRECTORY "/var/lib/sentinel-agent"

/* Positions in the rows' choices. */
enum settings_tls_version { SETTINGS_TLS_1_2, SETTINGS_TLS_1_3 };
extern const char *const settings_log_level_names[];  /* in the order of enum log_level */
extern const char *const settings_log_format_names[]; /* in the order of enum log_format */
extern const char *const settings_tls_version_names[];
extern const char *const settings_logs_start_names[];   /* end, beginning */
extern const char *const settings_spool_policy_names[]; /* in the order of enum spool_policy */

#define SETTINGS_C_BOOL bool
#define SETTINGS_C_U64 uint64_t
#define SETTINGS_C_DURATION int64_t
#define SETTINGS_C_SIZE uint64_t
#define SETTINGS_C_TEXT char *
#define SETTINGS_C_CHOICE unsigned
#define SETTINGS_C_LIST struct conf_list

struct settings {
#define S(name, type, field, fallback, min, max, choices, is_reloadable, help) \
    SETTINGS_C_##type field;
#include "agent/settings.tbl"
#undef S
};

extern const struct conf_table settings_table;

struct collect_options;
/* What the settings say about collecting; borrows from them. */
void settings_collect(const struct settings *settings, struct collect_options *ret);

struct settings_sources {
    const char *file; /* NULL: SETTINGS_DEFAULT_FILE, which may be absent */
    const struct conf_flag *flags;
    size_t n_flags;
};

/*
 * Fills and checks; an empty state_dir, identity and hub become what they stand for, so that nobody
 * else needs to know. Outcomes: CONF_BAD; ret_error has the remedy.
 */
int settings_load(struct settings *ret,
                  const struct settings_sources *sources,
                  struct conf_error *ret_error) MUST_USE;
/* The zero value is fine. */
void settings_free(struct settings *settings);

struct logs_settings;
/* Borrows from the settings. */
void settings_logs(const struct settings *settings, struct logs_settings *ret);
struct inventory_options;
/* Borrows from the settings. */
void settings_inventory_options(const struct settings *settings, struct inventory_options *ret);

/* SHA-256 of the settings as print-config has them, in hex. */
int settings_digest(const struct settings *settings, char ret[static 65]) MUST_USE;
