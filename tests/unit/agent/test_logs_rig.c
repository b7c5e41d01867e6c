/* SPDX-License-Identifier: Apache-2.0 */
#include "test_logs_rig.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/text.h"
#include "common/log/log.h"

static const char *const redact[] = { "password", "authorization", "private_key",
                                      "aws_key",  "jwt",           "url_credentials" };

void logs_rig_start(struct logs_rig *rig)
{
    struct spool_options options = { 0 };

    memset(rig, 0, sizeof(*rig));
    log_init(
        &(struct log_options){ .level = getenv("LOG_LEVEL") ? LOG_DEBUG : LOG_ERROR + 1, .fd = 2 });
    snprintf(rig->root, sizeof(rig->root), "/tmp/sentinel-logs-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(rig->root));
    ck_assert_int_eq(mkdir(logs_rig_path(rig, ""), 0700), 0);
    for (unsigned i = 0; i < SPOOL_SIGNALS; i++)
        options.limits[i] =
            (struct spool_limits){ .limit_bytes = 16u << 20, .policy = SPOOL_BLOCK };
    ck_assert_int_eq(loop_new(&rig->loop), 0);
    snprintf(rig->spool_directory, sizeof(rig->spool_directory), "%s/spool", rig->root);
    options.directory = rig->spool_directory;
    ck_assert_int_eq(spool_open(&rig->spool, &options), 0);
    rig->settings = (struct logs_settings){
        .files = rig->files,
        .redact = redact,
        .n_redact = sizeof(redact) / sizeof(redact[0]),
        .max_record_bytes = 4096,
        .max_files = 100,
        .multiline_timeout_us = 1000000,
        .journalctl = "/nonexistent",
        .root = rig->root,
    };
}

void logs_rig_stop(struct logs_rig *rig)
{
    logs_rig_close(rig);
    rig->reader = spool_reader_close(rig->reader);
    rig->spool = spool_close(rig->spool);
    rig->loop = loop_free(rig->loop);
    buf_deinit(&rig->bodies);
    buf_deinit(&rig->sources);
    ck_assert_int_eq(file_remove_tree(rig->root), 0);
}

void logs_rig_follow(struct logs_rig *rig, const char *pattern)
{
    ck_assert_uint_lt(rig->settings.n_files, sizeof(rig->files) / sizeof(rig->files[0]));
    rig->files[rig->settings.n_files++] = pattern;
}

void logs_rig_open(struct logs_rig *rig)
{
    const struct logs_options options = { .loop = rig->loop,
                                          .spool = rig->spool,
                                          .settings = rig->settings };
    struct logs_error error = { "" };

    ck_assert_msg(logs_new(&rig->logs, &options, &error) == 0, "%s", error.text);
}

void logs_rig_close(struct logs_rig *rig)
{
    rig->logs = logs_free(rig->logs);
}

const char *logs_rig_path(const struct logs_rig *rig, const char *name)
{
    static char paths[4][320];
    static unsigned next;
    char *path = paths[next++ % 4];

    snprintf(path, sizeof(paths[0]), "%s/log/%s", rig->root, name);
    return path;
}

void logs_rig_write(const struct logs_rig *rig, const char *name, const char *text)
{
    FILE *file = fopen(logs_rig_path(rig, name), "ae");

    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(text, 1, strlen(text), file), strlen(text));
    ck_assert_int_eq(fclose(file), 0);
}

void logs_rig_rename(const struct logs_rig *rig, const char *from, const char *to)
{
    ck_assert_int_eq(rename(logs_rig_path(rig, from), logs_rig_path(rig, to)), 0);
}

void logs_rig_copy(const struct logs_rig *rig, const char *from, const char *to)
{
    CLEANUP(buf_deinit) struct buf content = { 0 };

    ck_assert_int_eq(file_read(logs_rig_path(rig, from), 1u << 24, &content), 0);
    logs_rig_write(rig, to, buf_text(&content));
}

void logs_rig_truncate(const struct logs_rig *rig, const char *name)
{
    ck_assert_int_eq(truncate(logs_rig_path(rig, name), 0), 0);
}

void logs_rig_look(struct logs_rig *rig)
{
    /* Twice: what is over leaves at the second. */
    for (int i = 0; i < 2; i++) {
        rig->logs->watch.needs_scan = true;
        logs_flush(rig->logs);
    }
}

const char *logs_rig_bodies(struct logs_rig *rig, bool acknowledge)
{
    struct spool_item item;

    if (!rig->reader)
        ck_assert_int_eq(spool_reader_open(&rig->reader, rig->spool, SPOOL_LOGS, SPOOL_LIVE), 0);
    while (spool_read(rig->reader, &item) == 0) {
        rig->last = item.sequence;
        if (item.is_skip)
            continue;
        ck_assert(text_is_utf8(item.logs.source.name.data, item.logs.source.name.len));
        buf_append_span(&rig->sources, item.logs.source.name);
        buf_append_text(&rig->sources, "|");
        for (size_t i = 0; i < item.logs.n_records; i++) {
            const struct spool_log_record *record = &item.logs.records[i];

            for (size_t k = 0; k < record->n_attributes; k++)
                ck_assert(text_is_utf8(record->attributes[k].value.data,
                                       record->attributes[k].value.len));
            if (!memchr(record->body.data, 0, record->body.len))
                buf_append_span(&rig->bodies, record->body);
            buf_append_text(&rig->bodies, "|");
        }
    }
    if (acknowledge && rig->last)
        ck_assert_int_eq(spool_acknowledge(rig->reader, rig->last), 0);
    return buf_text(&rig->bodies);
}

size_t logs_rig_count(struct logs_rig *rig, const char *text)
{
    const char *at = logs_rig_bodies(rig, false);
    size_t n = 0;

    for (; (at = strstr(at, text)) != NULL; at += strlen(text))
        n++;
    return n;
}
