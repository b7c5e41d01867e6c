/* SPDX-License-Identifier: Apache-2.0 */

/* Settings of logs, checked and compiled. */

#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/logs/inside.h"
#include "common/base/fault.h"
#include "common/base/text.h"
#include "common/regex/regex.h"

static int copy_list(char ***ret, size_t *ret_n, const char *const *items, size_t n)
{
    *ret = calloc(n + 1, sizeof(char *));
    for (size_t i = 0; *ret && i < n; i++) {
        (*ret)[i] = strdup(items[i]);
        if (!(*ret)[i])
            return fault(-ENOMEM, "no memory for settings of logs");
        *ret_n = i + 1;
    }
    return *ret ? 0 : fault(-ENOMEM, "no memory for settings of logs");
}

static void free_list(char **items, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(items[i]);
    free(items);
}

/* "PATTERN rest" */
static const char *behind_pattern(const char *item)
{
    const char *space = strchr(item, ' ');

    return space && space != item ? space + 1 + strspn(space + 1, " ") : NULL;
}

static int bad(struct logs_error *error, const char *row, const char *item, const char *rule)
{
    snprintf(error->text, sizeof(error->text), "%s: `%.100s` %s", row, item, rule);
    return LOGS_BAD;
}

static int make_multiline(struct plan *plan,
                          const struct logs_settings *settings,
                          struct logs_error *ret_error)
{
    plan->multiline = calloc(settings->n_multiline + 1, sizeof(*plan->multiline));
    if (!plan->multiline)
        return fault(-ENOMEM, "no memory for settings of logs");
    for (size_t i = 0; i < settings->n_multiline; i++) {
        struct multiline *to = &plan->multiline[i];
        const char *item = settings->multiline[i], *regex = behind_pattern(item);
        char error[REGEX_ERROR_BYTES];
        int r;

        if (!regex || !*regex)
            return bad(ret_error, "logs.multiline", item,
                       "is not PATTERN REGEX; write for example /var/log/app/*.log ^[0-9]{4}-");
        to->pattern = strndup(item, strcspn(item, " "));
        plan->n_multiline = i + 1;
        r = to->pattern ? regex_new(&to->begin, span_of_text(regex), error) : -ENOMEM;
        if (r == REGEX_BAD) {
            snprintf(ret_error->text, sizeof(ret_error->text),
                     "logs.multiline: `%.80s` is no regular expression: %s", regex, error);
            return LOGS_BAD;
        }
        if (r < 0)
            return fault(-ENOMEM, "no memory for settings of logs");
    }
    return 0;
}

static int make_attributes(struct plan *plan,
                           const struct logs_settings *settings,
                           struct logs_error *ret_error)
{
    plan->attributes = calloc(settings->n_attributes + 1, sizeof(*plan->attributes));
    if (!plan->attributes)
        return fault(-ENOMEM, "no memory for settings of logs");
    for (size_t i = 0; i < settings->n_attributes; i++) {
        struct labelled *to = &plan->attributes[i];
        const char *item = settings->attributes[i], *key = behind_pattern(item);
        const char *equals = key ? strchr(key, '=') : NULL;

        if (!equals || equals == key || equals - key > 63 || strlen(equals + 1) > 255 ||
            !text_is_utf8(key, strlen(key)))
            return bad(
                ret_error, "logs.attributes", item,
                "is not PATTERN key=value, with a key of 1 to 63 bytes and a value of at most "
                "255, of UTF-8");
        to->pattern = strndup(item, strcspn(item, " "));
        to->key = strndup(key, (size_t) (equals - key));
        to->value = strdup(equals + 1);
        plan->n_attributes = i + 1;
        if (!to->pattern || !to->key || !to->value)
            return fault(-ENOMEM, "no memory for settings of logs");
    }
    return 0;
}

static int check_files(const struct logs_settings *settings, struct logs_error *ret_error)
{
    for (size_t i = 0; i < settings->n_files; i++) {
        const char *file = settings->files[i];

        if (file[0] != '/' || strlen(file) > MARK_PATH_BYTES)
            return bad(ret_error, "logs.files", file,
                       "is not a path from / on, of at most 900 bytes");
    }
    if (settings->max_record_bytes < MIN_RECORD_BYTES)
        return bad(ret_error, "logs.max_record_size", "", "is at least 1KiB");
    return 0;
}

static int
make_rules(struct plan *plan, const struct logs_settings *settings, struct logs_error *ret_error)
{
    const struct screen_options options = {
        .include = settings->include,
        .exclude = settings->exclude,
        .redact = settings->redact,
        .n_include = settings->n_include,
        .n_exclude = settings->n_exclude,
        .n_redact = settings->n_redact,
    };
    int r = screen_new(&plan->screen, &options, ret_error->text);

    return r == SCREEN_BAD ? LOGS_BAD : pass(r);
}

int plan_new(struct plan **ret, const struct logs_settings *settings, struct logs_error *ret_error)
{
    CLEANUP(plan_freep) struct plan *plan = calloc(1, sizeof(*plan));
    int r;

    if (!plan)
        return fault(-ENOMEM, "no memory for settings of logs");
    plan->from_beginning = settings->from_beginning;
    plan->journald = settings->journald;
    plan->kmsg = settings->kmsg;
    plan->max_record_bytes = (size_t) settings->max_record_bytes;
    plan->max_files = (size_t) settings->max_files;
    plan->rotated_grace_us = settings->rotated_grace_us;
    plan->multiline_timeout_us = settings->multiline_timeout_us;
    plan->root = strdup(strcmp(settings->root, "/") == 0 ? "" : settings->root);
    plan->journalctl = strdup(settings->journalctl);
    if (!plan->root || !plan->journalctl)
        return fault(-ENOMEM, "no memory for settings of logs");
    r = check_files(settings, ret_error);
    if (r == 0)
        r = copy_list(&plan->files, &plan->n_files, settings->files, settings->n_files);
    if (r == 0)
        r = copy_list(&plan->files_exclude, &plan->n_files_exclude, settings->files_exclude,
                      settings->n_files_exclude);
    if (r == 0)
        r = copy_list(&plan->units, &plan->n_units, settings->journald_units,
                      settings->n_journald_units);
    if (r == 0)
        r = make_multiline(plan, settings, ret_error);
    if (r == 0)
        r = make_attributes(plan, settings, ret_error);
    if (r == 0)
        r = make_rules(plan, settings, ret_error);
    if (r)
        return r < 0 ? pass(r) : LOGS_BAD;
    *ret = take(plan);
    return 0;
}

struct plan *plan_free(struct plan *plan)
{
    if (!plan)
        return NULL;
    free_list(plan->files, plan->n_files);
    free_list(plan->files_exclude, plan->n_files_exclude);
    free_list(plan->units, plan->n_units);
    for (size_t i = 0; i < plan->n_multiline; i++) {
        free(plan->multiline[i].pattern);
        regex_free(plan->multiline[i].begin);
    }
    free(plan->multiline);
    for (size_t i = 0; i < plan->n_attributes; i++) {
        free(plan->attributes[i].pattern);
        free(plan->attributes[i].key);
        free(plan->attributes[i].value);
    }
    free(plan->attributes);
    screen_free(plan->screen);
    free(plan->root);
    free(plan->journalctl);
    free(plan);
    return NULL;
}

struct regex *plan_multiline(const struct plan *plan, const char *path)
{
    for (size_t i = 0; i < plan->n_multiline; i++)
        if (fnmatch(plan->multiline[i].pattern, path, FNM_PATHNAME) == 0)
            return plan->multiline[i].begin;
    return NULL;
}

/* Of a key that comes twice the first pattern that fits wins. */
size_t plan_attributes(const struct plan *plan,
                       const char *path,
                       struct spool_log_attribute *to,
                       size_t max)
{
    size_t n = 0;

    for (size_t i = 0; i < plan->n_attributes && n < max; i++) {
        const struct labelled *from = &plan->attributes[i];
        size_t k = 0;

        while (k < n && !span_equal(to[k].key, span_of_text(from->key)))
            k++;
        if (k == n && fnmatch(from->pattern, path, FNM_PATHNAME) == 0)
            to[n++] =
                (struct spool_log_attribute){ span_of_text(from->key), span_of_text(from->value) };
    }
    return n;
}
