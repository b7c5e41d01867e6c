/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The journal, through `journalctl --output=export --follow`. The cursor of the last entry is
 * committed with the entries. A program that ends is started again, later and later.
 */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/logs/export.h"
#include "agent/logs/inside.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/log/log.h"

#define READ_BYTES ((size_t) 64 << 10)
#define KEPT_BYTES ((size_t) 512 << 10)
#define MAX_READS 16 /* in one turn of the loop */
#define MIN_BACKOFF_US (INT64_C(1) * 1000000)
#define MAX_BACKOFF_US (INT64_C(300) * 1000000)
#define MAX_UNITS 64
#define CURSOR_BYTES 512

static const char key[] = "journald";

struct journal {
    struct logs *logs;
    struct loop_file file;
    struct loop_timer again;
    pid_t pid; /* 0: it does not run */
    int64_t backoff_us;
    struct buf text;
    struct batch batch;
    struct export_entry entry;
    struct export_skip skip;
    char cursor[CURSOR_BYTES]; /* of the newest entry in the batch */
    char committed[CURSOR_BYTES];
    bool is_blocked;
    char state[64];
};

/* ---- entries ---- */

/* Fields that are worth an attribute, and what it is called. */
static const struct {
    const char *field, *attribute;
} attributes_of[] = {
    { "SYSLOG_IDENTIFIER", "syslog.identifier" },
    { "_PID", "process.pid" },
    { "_COMM", "process.name" },
    { "_UID", "user.id" },
    { "CODE_FILE", "code.file.path" },
    { "CODE_LINE", "code.line.number" },
    { "CODE_FUNC", "code.function.name" },
    { "MESSAGE_ID", "journald.message_id" },
    { "_TRANSPORT", "journald.transport" },
    { "CONTAINER_NAME", "container.name" },
};
#define N_ATTRIBUTES (sizeof(attributes_of) / sizeof(attributes_of[0]))

static int64_t number_of(struct span text)
{
    int64_t value = 0;

    for (size_t i = 0; i < text.len && text.len <= 18; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return 0;
        value = 10 * value + (text.data[i] - '0');
    }
    return value;
}

static struct span source_of(const struct export_entry *entry)
{
    static const char *const fields[] = { "_SYSTEMD_UNIT", "UNIT", "SYSLOG_IDENTIFIER",
                                          "_TRANSPORT" };

    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        const struct span value = export_field(entry, fields[i]);

        if (value.len > 0 && value.len <= 255)
            return value;
    }
    return span_of_text("journal");
}

static int add(struct journal *journal, const struct export_entry *entry)
{
    const struct span priority = export_field(entry, "PRIORITY");
    const size_t max = logs_max_record(journal->logs);
    struct spool_log_attribute attributes[N_ATTRIBUTES + 2];
    struct spool_log_record record = {
        .time_us = number_of(export_field(entry, "_SOURCE_REALTIME_TIMESTAMP")),
        .observed_us = number_of(export_field(entry, "__REALTIME_TIMESTAMP")),
        .body = export_field(entry, "MESSAGE"),
    };
    size_t n = 0;

    if (record.time_us == 0)
        record.time_us = record.observed_us;
    if (priority.len == 1 && priority.data[0] >= '0' && priority.data[0] <= '7')
        record.severity = text_severity_of_priority((unsigned) (priority.data[0] - '0'));
    if (record.body.len > max) {
        char number[24];

        snprintf(number, sizeof(number), "%zu", record.body.len);
        attributes[n].key = span_of_text("log.record.full_bytes");
        attributes[n].value = batch_keep(&journal->batch, span_of_text(number));
        if (!attributes[n++].value.data)
            return fault(-ENOMEM, "no memory for an entry of the journal");
        record.body.len = text_cut(record.body, max);
    }
    n += batch_bound_time(&journal->batch, &record, &attributes[n]);
    for (size_t i = 0; i < N_ATTRIBUTES; i++) {
        const struct span value = export_field(entry, attributes_of[i].field);

        if (value.len == 0 || value.len > 255)
            continue;
        attributes[n].key = span_of_text(attributes_of[i].attribute);
        attributes[n].value = batch_keep(&journal->batch, value);
        if (!attributes[n++].value.data)
            return fault(-ENOMEM, "no memory for an entry of the journal");
    }
    return pass(batch_add(&journal->batch, &record, attributes, n));
}

/* What is in the batch, with the cursor. Outcomes: SPOOL_FULL. */
static int put(struct journal *journal)
{
    const struct spool_offset offset = { span_of_text(key), span_of_text(journal->cursor) };
    int r;

    if (!journal->cursor[0])
        return 0;
    r = batch_put(&journal->batch, &offset);
    if (r)
        return r == SPOOL_FULL ? r : pass(r);
    memcpy(journal->committed, journal->cursor, sizeof(journal->cursor));
    return 0;
}

static bool is_of(const struct batch *batch, struct span source)
{
    return span_equal(batch->source.name, source);
}

/* Room for a record of this source. Outcomes: SPOOL_FULL. */
static int begin(struct journal *journal, struct span source)
{
    const struct spool_log_source begun = { .type = span_of_text("journald") };
    int r = 0;

    if (journal->batch.n_records > 0 &&
        (!is_of(&journal->batch, source) || batch_is_full(&journal->batch)))
        r = put(journal);
    if (r)
        return r == SPOOL_FULL ? r : pass(r);
    if (journal->batch.n_records > 0)
        return 0;
    batch_begin(&journal->batch, &begun);
    journal->batch.source.name = batch_keep(&journal->batch, source);
    return journal->batch.source.name.data
               ? 0
               : fault(-ENOMEM, "no memory for an entry of the journal");
}

/* What was too long, or not of the form, leaves a record that says so. */
static int add_broken(struct journal *journal)
{
    char text[96];
    const int len =
        snprintf(text, sizeof(text), "an entry of the journal was longer than %zu bytes, or broken",
                 EXPORT_MAX_BYTES);
    const struct spool_log_record record = { .severity = text_severity_of_priority(4),
                                             .body = span_of(text, (size_t) len) };

    logs_say(journal->logs, "journal_entry_bad", "journald", "an entry was passed over");
    return pass(batch_add(&journal->batch, &record, NULL, 0));
}

/* journalctl prints the cursor in front of all that others wrote. */
static struct span cursor_of(const struct export_entry *entry)
{
    if (entry->n_fields == 0 || !span_equal(entry->fields[0].name, span_of_text("__CURSOR")) ||
        entry->fields[0].value.len >= CURSOR_BYTES ||
        memchr(entry->fields[0].value.data, 0, entry->fields[0].value.len))
        return (struct span){ 0 };
    return entry->fields[0].value;
}

/* The entry at the front; *ret_len is 0 when there is none. Outcomes: SPOOL_FULL. */
static int take_entry(struct journal *journal, struct span text, size_t *ret_len)
{
    struct export_entry *entry = &journal->entry;
    struct export_skip skip;
    enum export_result result;
    struct span cursor;
    int r;

    *ret_len = 0;
    if (journal->skip.is_active) {
        *ret_len = export_pass(text, &journal->skip);
        return 0;
    }
    result = export_next(text, entry, &skip);
    if (result == EXPORT_MORE)
        return 0;
    cursor = cursor_of(entry);
    if (cursor.len == 0)
        result = EXPORT_BAD;
    r = begin(journal, result == EXPORT_BAD ? span_of_text("journal") : source_of(entry));
    if (r == 0)
        r = result == EXPORT_BAD ? add_broken(journal) : add(journal, entry);
    if (r)
        return r == SPOOL_FULL ? r : pass(r);
    if (cursor.len > 0) {
        memcpy(journal->cursor, cursor.data, cursor.len);
        journal->cursor[cursor.len] = '\0';
    }
    journal->skip = skip;
    *ret_len = entry->n_consumed;
    return 0;
}

/* Entries of the text, as far as they are whole. Outcomes: SPOOL_FULL: what was read stays. */
static int take_entries(struct journal *journal)
{
    size_t at = 0, len = 1;
    int r = 0;

    while (r == 0 && len > 0) {
        r = take_entry(journal, span_of(journal->text.data + at, journal->text.len - at), &len);
        at += len;
    }
    if (r == 0)
        r = put(journal);
    if (at > 0)
        memmove(journal->text.data, journal->text.data + at, journal->text.len - at);
    journal->text.len -= at;
    /* A long entry needs no room for ever. */
    if (journal->text.len == 0 && journal->text.capacity > KEPT_BYTES)
        buf_deinit(&journal->text);
    return r == SPOOL_FULL ? r : pass(r);
}

/* ---- the program ---- */

static void set_state(struct journal *journal, const char *state)
{
    snprintf(journal->state, sizeof(journal->state), "%s", state);
}

static void stop(struct journal *journal)
{
    int status;

    if (journal->file.is_added)
        loop_file_remove(journal->logs->loop, &journal->file);
    if (journal->file.fd >= 0)
        close(journal->file.fd);
    journal->file.fd = -1;
    if (journal->pid > 0) {
        (void) kill(journal->pid, SIGKILL);
        while (waitpid(journal->pid, &status, 0) < 0 && errno == EINTR)
            ;
    }
    journal->pid = 0;
    buf_clear(&journal->text);
    /* What is not committed is read again, behind the cursor that is. */
    journal->batch.n_records = 0;
    journal->skip = (struct export_skip){ 0 };
    memcpy(journal->cursor, journal->committed, sizeof(journal->cursor));
}

static void plan_again(struct journal *journal, const char *why)
{
    stop(journal);
    set_state(journal, why);
    ensure(loop_timer_arm_in(journal->logs->loop, &journal->again, journal->backoff_us) == 0);
    journal->backoff_us =
        2 * journal->backoff_us < MAX_BACKOFF_US ? 2 * journal->backoff_us : MAX_BACKOFF_US;
}

static void on_readable(struct loop_file *file, uint32_t events)
{
    struct journal *journal = file->ctx;
    int r = 0;

    (void) events;
    for (int i = 0; i < MAX_READS && r == 0; i++) {
        const size_t before = journal->text.len;
        char *to = buf_extend(&journal->text, READ_BYTES);
        ssize_t n = to ? read(file->fd, to, READ_BYTES) : -1;

        journal->text.len = before + (n > 0 ? (size_t) n : 0);
        if (n < 0 && to && errno == EAGAIN)
            break;
        if (n <= 0) {
            logs_say(journal->logs, "journal_ended", journal->logs->plan->journalctl,
                     n == 0 ? "it ended; it is started again" : "it cannot be read");
            plan_again(journal, "ended");
            return;
        }
        journal->backoff_us = MIN_BACKOFF_US;
        r = take_entries(journal);
    }
    if (r == SPOOL_FULL) {
        journal->is_blocked = true;
        journal->logs->is_blocked = true;
        ensure(loop_file_change(journal->logs->loop, file, 0) == 0);
    } else if (r < 0) {
        plan_again(journal, "no memory");
    }
}

/* argv in `to`, with texts in `texts`; ends with NULL. */
static void make_argv(const struct journal *journal, char *cursor, size_t size, const char **to)
{
    const struct plan *plan = journal->logs->plan;
    size_t n = 0;

    to[n++] = plan->journalctl;
    to[n++] = "--output=export";
    to[n++] = "--follow";
    to[n++] = "--all";
    if (journal->cursor[0]) {
        snprintf(cursor, size, "--after-cursor=%s", journal->cursor);
        to[n++] = cursor;
        to[n++] = "--no-tail";
    } else {
        to[n++] = plan->from_beginning ? "--no-tail" : "--lines=0";
    }
    for (size_t i = 0; i < plan->n_units && i < MAX_UNITS; i++) {
        to[n++] = "--unit";
        to[n++] = plan->units[i];
    }
    to[n] = NULL;
}

static int spawn(struct journal *journal, int out, pid_t *ret)
{
    static char *const environment[] = { (char *) (uintptr_t) "PATH=/usr/bin:/bin",
                                         (char *) (uintptr_t) "LC_ALL=C.UTF-8", NULL };
    const char *argv[8 + 2 * MAX_UNITS];
    char cursor[CURSOR_BYTES + 32];
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none, pipe_signal;
    int error;

    make_argv(journal, cursor, sizeof(cursor), argv);
    (void) sigemptyset(&none);
    (void) posix_spawn_file_actions_init(&actions);
    (void) posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    (void) posix_spawn_file_actions_adddup2(&actions, out, 1);
    (void) posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
    (void) posix_spawnattr_init(&attributes);
    (void) posix_spawnattr_setsigmask(&attributes, &none);
    /* So that it ends when we do, at its next entry. */
    (void) sigemptyset(&pipe_signal);
    (void) sigaddset(&pipe_signal, SIGPIPE);
    (void) posix_spawnattr_setsigdefault(&attributes, &pipe_signal);
    (void) posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    error = posix_spawn(ret, argv[0], &actions, &attributes, (char *const *) (uintptr_t) argv,
                        environment);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return error;
}

static void start(struct journal *journal)
{
    int ends[2], error;

    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) {
        plan_again(journal, "no file is left for a pipe");
        return;
    }
    /* Its own end waits; ours does not. */
    (void) fcntl(ends[1], F_SETFL, 0);
    error = spawn(journal, ends[1], &journal->pid);
    close(ends[1]);
    journal->file.fd = ends[0];
    journal->file.events = EPOLLIN;
    if (error) {
        journal->pid = 0;
        logs_say(journal->logs, "journal_unreadable", journal->logs->plan->journalctl,
                 strerror(error));
        plan_again(journal, strerror(error));
        return;
    }
    if (loop_file_add(journal->logs->loop, &journal->file) != 0) {
        plan_again(journal, "no memory");
        return;
    }
    set_state(journal, "running");
}

static void on_again(struct loop_timer *timer)
{
    start(timer->ctx);
}

int journal_new(struct journal **ret, struct logs *logs)
{
    struct journal *journal = calloc(1, sizeof(*journal));
    struct span cursor;
    int r;

    if (!journal)
        return fault(-ENOMEM, "no memory for the journal");
    journal->logs = logs;
    journal->backoff_us = MIN_BACKOFF_US;
    journal->file = (struct loop_file){ .fd = -1, .fn = on_readable, .ctx = journal };
    journal->again = (struct loop_timer){ .fn = on_again, .ctx = journal };
    r = batch_init(&journal->batch, logs);
    if (r) {
        journal_free(journal);
        return pass(r);
    }
    if (spool_get_offset(logs->spool, span_of_text(key), &cursor) &&
        cursor.len < sizeof(journal->cursor))
        memcpy(journal->committed, cursor.data, cursor.len);
    memcpy(journal->cursor, journal->committed, sizeof(journal->cursor));
    start(journal);
    *ret = journal;
    return 0;
}

struct journal *journal_free(struct journal *journal)
{
    if (!journal)
        return NULL;
    stop(journal);
    loop_timer_disarm(journal->logs->loop, &journal->again);
    batch_deinit(&journal->batch);
    buf_deinit(&journal->text);
    free(journal);
    return NULL;
}

void journal_on_room(struct journal *journal)
{
    int r;

    if (!journal->is_blocked)
        return;
    r = take_entries(journal);
    if (r == SPOOL_FULL)
        return;
    journal->is_blocked = false;
    if (r < 0)
        plan_again(journal, "no memory");
    else if (journal->file.is_added)
        ensure(loop_file_change(journal->logs->loop, &journal->file, EPOLLIN) == 0);
}

const char *journal_state(const struct journal *journal)
{
    return journal->state;
}
