/* SPDX-License-Identifier: Apache-2.0 */
#include "common/log/log.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/text.h"
#include "common/log/limit.h"

/* What a pipe takes in one piece (PIPE_BUF): longer lines could mix. */
#define LINE_BYTES_MAX 4096
/* One value, as it is written. Long enough for a path; a peer must not fill the line with one
 * field. */
#define VALUE_BYTES_MAX 1024

/* Kept free at the end of a line for what says that fields are missing. */
#define LINE_BYTES_TAIL 32

#define THIS_FILE "common/log/log.c"

static _Atomic int current_level = LOG_INFO;
static _Atomic int current_format = LOG_LOGFMT;
static _Atomic int current_fd = STDERR_FILENO;

static struct {
    pthread_mutex_t lock;
    struct limit limit;
    _Atomic size_t n_unsaid; /* rows that have suppressed lines; read without the lock */
} peers = { .lock = PTHREAD_MUTEX_INITIALIZER };

static const char *level_name(enum log_level level)
{
    switch (level) {
    case LOG_DEBUG:
        return "debug";
    case LOG_INFO:
        return "info";
    case LOG_WARN:
        return "warn";
    case LOG_ERROR:
        return "error";
    }
    ensure(!"a level of the enum");
    return "";
}

/* Whether logfmt can have the value as it is. */
static bool is_bare(struct span text)
{
    while (text.len > 0) {
        uint32_t code = 0;
        size_t len = text_utf8_next(text, &code);

        if (len == 0 || !text_is_printable(code) || code == ' ' || code == '=' || code == '"' ||
            code == '\\')
            return false;
        text.data += len;
        text.len -= len;
    }
    return true;
}

/* One character of a quoted value, or one byte that is none (len 0). */
static void
append_character(struct buf *line, struct span one, uint32_t code, enum log_format format)
{
    if (code == '"' || code == '\\') {
        buf_append_text(line, "\\");
        buf_append_span(line, one);
    } else if (text_is_printable(code)) {
        buf_append_span(line, one);
    } else if (format == LOG_LOGFMT) {
        text_append_printable(line, one);
    } else if (code == '\n') {
        buf_append_text(line, "\\n");
    } else {
        buf_printf(line, "\\u%04x", code);
    }
}

static void append_quoted(struct buf *line, struct span text, enum log_format format)
{
    size_t start = line->len;

    buf_append_text(line, "\"");
    while (text.len > 0) {
        uint32_t code = 0;
        size_t len = text_utf8_next(text, &code);
        size_t before = line->len;

        if (len > 0) {
            append_character(line, span_of(text.data, len), code, format);
        } else {
            /* JSON has no way to say a byte. */
            len = 1;
            if (format == LOG_JSON)
                buf_append_text(line, "\\ufffd");
            else
                text_append_printable(line, span_of(text.data, 1));
        }
        if (line->len - start > VALUE_BYTES_MAX) {
            line->len = before;
            buf_append_text(line, "...");
            break;
        }
        text.data += len;
        text.len -= len;
    }
    buf_append_text(line, "\"");
}

static void append_text(struct buf *line, const char *text, enum log_format format)
{
    struct span span = span_of_text(text ? text : "");

    if (format == LOG_LOGFMT && span.len <= VALUE_BYTES_MAX && is_bare(span))
        buf_append_span(line, span);
    else
        append_quoted(line, span, format);
}

static void append_value(struct buf *line, const struct log_field *field, enum log_format format)
{
    switch (field->type) {
    case LOG_FIELD_TEXT:
        append_text(line, field->text, format);
        return;
    case LOG_FIELD_U64:
        buf_printf(line, "%llu", (unsigned long long) field->u64);
        return;
    case LOG_FIELD_I64:
        buf_printf(line, "%lld", (long long) field->i64);
        return;
    case LOG_FIELD_F64:
        if (format == LOG_JSON && !isfinite(field->f64))
            buf_append_text(line, "null");
        else
            buf_printf(line, "%.15g", field->f64);
        return;
    }
    ensure(!"a type of the enum");
}

static void append_key(struct buf *line, const char *key, enum log_format format)
{
    if (format == LOG_JSON)
        buf_printf(line, "%s\"%s\":", line->len > 0 ? "," : "{", key);
    else
        buf_printf(line, "%s%s=", line->len > 0 ? " " : "", key);
}

static void append_field(struct buf *line, const struct log_field *field, enum log_format format)
{
    append_key(line, field->key, format);
    append_value(line, field, format);
}

static void format_line(struct buf *line,
                        enum log_level level,
                        const char *event,
                        const struct log_field *fields,
                        enum log_format format)
{
    char now[TEXT_TIME_BYTES];
    const struct log_field head[] = {
        LOG_S("ts", text_of_time(clock_wall(), now)),
        LOG_S("level", level_name(level)),
        LOG_S("event", event),
    };

    for (size_t i = 0; i < sizeof(head) / sizeof(head[0]); i++)
        append_field(line, &head[i], format);
    for (; fields && fields->key; fields++) {
        size_t before = line->len;

        append_field(line, fields, format);
        if (line->len > LINE_BYTES_MAX - LINE_BYTES_TAIL) {
            line->len = before;
            append_field(line, &LOG_S("truncated", "true"), format);
            break;
        }
    }
    buf_append_text(line, format == LOG_JSON ? "}\n" : "\n");
}

static void write_line(int fd, struct span line)
{
    ssize_t n;

    /* Once: if nobody reads, or only a part fits, the process has nowhere to say so. */
    do {
        n = write(fd, line.data, line.len);
    } while (n < 0 && errno == EINTR);
}

static void emit(enum log_level level, const char *event, const struct log_field *fields)
{
    static const char no_memory[] = "level=error event=log_without_memory\n";
    CLEANUP(buf_deinit) struct buf line = { 0 };
    int fd = atomic_load_explicit(&current_fd, memory_order_relaxed);
    int format = atomic_load_explicit(&current_format, memory_order_relaxed);
    int saved = errno;

    format_line(&line, level, event, fields, (enum log_format) format);
    if (buf_failed(&line))
        write_line(fd, span_of(no_memory, sizeof(no_memory) - 1));
    else
        write_line(fd, buf_span(&line));
    errno = saved;
}

static void say_suppressed(const char *event, uint64_t n_lines)
{
    emit(
        LOG_WARN, "log_suppressed",
        (const struct log_field[]){ LOG_S("of", event), LOG_U("lines", n_lines), { .key = NULL } });
}

/* With the lock held. */
static void sweep(bool is_last)
{
    peers.n_unsaid = limit_sweep(&peers.limit, clock_mono(), is_last, say_suppressed);
}

static bool admit(const char *event)
{
    pthread_mutex_lock(&peers.lock);
    sweep(false);

    bool is_admitted = limit_admit(&peers.limit, event, clock_mono());

    if (!is_admitted && peers.n_unsaid == 0)
        peers.n_unsaid = 1;
    pthread_mutex_unlock(&peers.lock);
    return is_admitted;
}

/* The path from the root of the sources: the compiler was given all of them in the same way. */
static const char *short_path(const char *file)
{
    size_t len = strlen(__FILE__) - strlen(THIS_FILE);

    return strncmp(file, __FILE__, len) == 0 ? file + len : file;
}

/*
 * A disk that is full raises a fault for every call: faults are limited as what peers cause. A path
 * is written where its fault was.
 */
static void on_fault(int code, struct fault_site site, const char *reason)
{
    static _Thread_local bool was_fault_written;
    char at[256];

    snprintf(at, sizeof(at), "%s:%d", short_path(site.file), site.line);
    if (reason) {
        was_fault_written = admit("fault");
        if (was_fault_written)
            log_event(LOG_ERROR, "fault", LOG_S("reason", reason), LOG_S("error", strerror(-code)),
                      LOG_S("at", at), LOG_S("in", site.func));
    } else if (was_fault_written) {
        log_event(LOG_ERROR, "fault_path", LOG_S("at", at), LOG_S("in", site.func));
    }
}

void log_init(const struct log_options *options)
{
    ensure(options->fd >= 0);
    current_level = (int) options->level;
    current_format = (int) options->format;
    current_fd = options->fd;
    fault_set_sink(on_fault);
}

void log_write(enum log_level level, const char *event, const struct log_field *fields)
{
    ensure(event);
    if (!log_is_enabled(level))
        return;
    if (peers.n_unsaid > 0) {
        pthread_mutex_lock(&peers.lock);
        sweep(false);
        pthread_mutex_unlock(&peers.lock);
    }
    emit(level, event, fields);
}

void log_write_peer(enum log_level level, const char *event, const struct log_field *fields)
{
    ensure(event);
    if (log_is_enabled(level) && admit(event))
        emit(level, event, fields);
}

void log_flush(void)
{
    pthread_mutex_lock(&peers.lock);
    sweep(true);
    pthread_mutex_unlock(&peers.lock);
}

bool log_is_enabled(enum log_level level)
{
    return (int) level >= atomic_load_explicit(&current_level, memory_order_relaxed);
}
