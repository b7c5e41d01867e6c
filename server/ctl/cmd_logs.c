/* SPDX-License-Identifier: Apache-2.0 */

/*
 * logs search and logs tail. What a log line holds is somebody else's: a terminal gets nothing of
 * it but printable characters. A line break in a body begins a line with a bar, so that a body
 * cannot look like another record.
 */

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "common/base/ensure.h"
#include "common/base/text.h"
#include "common/wire/wire.h"
#include "server/ctl/convert.h"

#define SEARCH_LOGS "/sentinel.query.v1.QueryService/SearchLogs"
#define TAIL_LOGS "/sentinel.query.v1.QueryService/TailLogs"
#define LIMIT_DEFAULT 100
#define LIMIT_MAX 100000000
#define PAGE_MAX 10000 /* the hub's */
#define REST_BYTES ((size_t) 1 << 20)
#define WARN 13u
#define ERROR 17u
#define INFO 9u

#define RED "\033[31m"
#define YELLOW "\033[33m"
#define DIM "\033[2m"
#define PLAIN "\033[0m"

struct printer {
    struct ctl *ctl;
    bool has_color;
    struct buf out;
    uint64_t n_printed;
    /* of the last message of a search */
    char *page_token;
    bool is_budget_reached;
    uint64_t bytes_read, n_damaged;
};

/* ---- one entry ---- */

static const char *color_of(const struct printer *printer, uint32_t severity)
{
    if (!printer->has_color || severity == 0)
        return "";
    if (severity >= ERROR)
        return RED;
    if (severity >= WARN)
        return YELLOW;
    return severity < INFO ? DIM : "";
}

/* Line by line. */
static void append_body(struct buf *to, struct span body)
{
    while (body.len > 0) {
        const uint8_t *end = memchr(body.data, '\n', body.len);
        const size_t len = end ? (size_t) (end - body.data) : body.len;

        text_append_printable(to, span_of(body.data, len));
        body.data += len + (end != NULL);
        body.len -= len + (end != NULL);
        if (end && body.len > 0)
            buf_append_text(to, "\n    | ");
    }
}

static void append_line(struct printer *printer, const struct wire_log_entry *entry)
{
    const char *color = color_of(printer, entry->severity);
    const char *severity =
        entry->severity < WIRE_LOG_SEVERITIES ? wire_log_severities[entry->severity] : "";
    char time[TEXT_TIME_BYTES];
    struct buf *to = &printer->out;

    buf_printf(to, "%s%s ", color, text_of_time((wall_us){ entry->time_us }, time));
    text_append_printable(to, entry->agent_id);
    buf_append_text(to, " ");
    text_append_printable(to, entry->source);
    buf_printf(to, " %s ", *severity ? severity : "-");
    append_body(to, entry->body);
    buf_printf(to, "%s\n", *color ? PLAIN : "");
}

static void append_base64(struct buf *to, struct span bytes)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    for (size_t i = 0; i < bytes.len; i += 3) {
        const size_t n = bytes.len - i < 3 ? bytes.len - i : 3;
        uint32_t bits = (uint32_t) bytes.data[i] << 16;

        if (n > 1)
            bits |= (uint32_t) bytes.data[i + 1] << 8;
        if (n > 2)
            bits |= bytes.data[i + 2];
        buf_printf(to, "%c%c%c%c", digits[bits >> 18], digits[bits >> 12 & 63],
                   n > 1 ? digits[bits >> 6 & 63] : '=', n > 2 ? digits[bits & 63] : '=');
    }
}

static void
put_attributes(struct json_writer *json, const char *key, struct wire_log_attributes attributes)
{
    CLEANUP(buf_deinit) struct buf name = { 0 };
    struct wire_log_attribute attribute;

    json_key(json, key);
    json_open_object(json);
    while (wire_log_attributes_next(&attributes, &attribute)) {
        buf_clear(&name);
        buf_append_span(&name, attribute.key);
        json_put_span(json, buf_text(&name), attribute.value);
    }
    json_close_object(json);
}

static void append_json(struct printer *printer, const struct wire_log_entry *entry)
{
    CLEANUP(buf_deinit) struct buf raw = { 0 };
    struct json_writer json;

    json_begin(&json, &printer->out, false);
    json_open_object(&json);
    json_put_i64(&json, "time_us", entry->time_us);
    json_put_i64(&json, "observed_us", entry->observed_us);
    json_put_span(&json, "agent", entry->agent_id);
    json_put_u64(&json, "severity_number", entry->severity);
    json_put_text(&json, "severity",
                  entry->severity < WIRE_LOG_SEVERITIES ? wire_log_severities[entry->severity]
                                                        : "");
    json_put_span(&json, "source_type", entry->source_type);
    json_put_span(&json, "source", entry->source);
    json_put_u64(&json, "source_offset", entry->source_offset);
    if (entry->is_raw) {
        append_base64(&raw, entry->body);
        json_put_text(&json, "raw", buf_text(&raw));
    } else {
        json_put_span(&json, "text", entry->body);
    }
    put_attributes(&json, "attributes", entry->read_attributes);
    put_attributes(&json, "source_attributes", entry->read_source_attributes);
    json_put_span(&json, "trace_id", entry->trace_id);
    json_put_span(&json, "span_id", entry->span_id);
    json_close_object(&json);
    buf_append_text(&printer->out, "\n");
}

/* ---- answers ---- */

static int unreadable(const struct wire_problem *problem)
{
    return ctl_say(CTL_FAILED, "the hub's answer is unreadable: %s %s", problem->field,
                   problem->description);
}

/* All entries of a message; what else is in it goes to `rest`. */
static int print_entries(struct printer *printer, struct span message, struct buf *rest)
{
    struct wire_log_entries entries;
    struct wire_log_entry entry;
    struct wire_problem problem;
    bool is_end = false;

    if (wire_log_entries_open(message, &entries, rest, &problem))
        return unreadable(&problem);
    while (!is_end) {
        if (wire_log_entries_next(&entries, &entry, &is_end, &problem))
            return unreadable(&problem);
        if (is_end)
            break;
        buf_clear(&printer->out);
        (printer->ctl->is_json ? append_json : append_line)(printer, &entry);
        if (buf_failed(&printer->out))
            return ctl_say(CTL_FAILED, "out of memory");
        if (fwrite(printer->out.data, 1, printer->out.len, stdout) != printer->out.len)
            return ctl_say(CTL_FAILED, "cannot write to stdout");
        printer->n_printed++;
    }
    return fflush(stdout) ? ctl_say(CTL_FAILED, "cannot write to stdout") : CTL_OK;
}

static int unpack_rest(const ProtobufCMessageDescriptor *type,
                       struct buf *rest,
                       struct arena *arena,
                       ProtobufCMessage **ret)
{
    struct wire_problem problem;
    int r = buf_failed(rest) ? -1 : wire_unpack(type, buf_span(rest), arena, ret, &problem);

    if (r > 0)
        return unreadable(&problem);
    return r ? ctl_say(CTL_FAILED, "out of memory") : CTL_OK;
}

static int on_found(void *ctx, struct span message)
{
    CLEANUP(buf_deinit) struct buf rest = { 0 };
    CLEANUP(arena_deinit) struct arena arena = { 0 };
    struct printer *printer = ctx;
    const Sentinel__Query__V1__SearchLogsResponse *answer;
    ProtobufCMessage *unpacked = NULL;
    int r;

    arena_init(&arena, REST_BYTES);
    r = print_entries(printer, message, &rest);
    if (!r)
        r = unpack_rest(&sentinel__query__v1__search_logs_response__descriptor, &rest, &arena,
                        &unpacked);
    if (r)
        return r;
    ensure(unpacked != NULL);
    answer = (const void *) unpacked;
    if (answer->cost) {
        printer->is_budget_reached = answer->cost->budget_reached;
        printer->bytes_read = answer->cost->bytes_read;
        printer->n_damaged = answer->cost->blocks_damaged;
    }
    free(printer->page_token);
    printer->page_token = strdup(answer->next_page_token);
    return printer->page_token ? CTL_OK : ctl_say(CTL_FAILED, "out of memory");
}

static int on_tailed(void *ctx, struct span message)
{
    CLEANUP(buf_deinit) struct buf rest = { 0 };
    CLEANUP(arena_deinit) struct arena arena = { 0 };
    const Sentinel__Query__V1__TailLogsResponse *answer;
    ProtobufCMessage *unpacked = NULL;
    int r;

    arena_init(&arena, REST_BYTES);
    r = print_entries(ctx, message, &rest);
    if (!r)
        r = unpack_rest(&sentinel__query__v1__tail_logs_response__descriptor, &rest, &arena,
                        &unpacked);
    if (r)
        return r;
    ensure(unpacked != NULL);
    answer = (const void *) unpacked;
    if (answer->missed > 0)
        ctl_say(CTL_OK, "%llu records were missed: they came faster than they could be shown",
                (unsigned long long) answer->missed);
    return CTL_OK;
}

/* ---- the commands ---- */

static int read_severity(const struct ctl *ctl, uint32_t *ret)
{
    uint64_t number = 0;

    *ret = 0;
    if (!ctl->severity)
        return CTL_OK;
    for (uint32_t i = 1; i < WIRE_LOG_SEVERITIES; i++) {
        if (strcasecmp(ctl->severity, wire_log_severities[i]) == 0) {
            *ret = i;
            return CTL_OK;
        }
    }
    if (text_to_u64(ctl->severity, &number) || number >= WIRE_LOG_SEVERITIES)
        return ctl_say(CTL_USAGE,
                       "--severity: `%s` is none of trace, debug, info, warn, error, fatal, nor a "
                       "number from 1 to 24",
                       ctl->severity);
    *ret = (uint32_t) number;
    return CTL_OK;
}

/* Messages do not say const, but packing only reads. */
static char *borrow(const char *text)
{
    return (char *) (uintptr_t) (text ? text : "");
}

static char **borrow_list(const char *const *texts)
{
    return (char **) (uintptr_t) texts;
}

static void printer_init(struct printer *printer, struct ctl *ctl)
{
    *printer = (struct printer){
        .ctl = ctl,
        .has_color =
            !ctl->is_json && !ctl->no_color && !getenv("NO_COLOR") && isatty(STDOUT_FILENO),
    };
}

static void printer_deinit(struct printer *printer)
{
    buf_deinit(&printer->out);
    free(printer->page_token);
}

/* Page after page, as a page has an end of its own. */
static int search_pages(struct printer *printer,
                        Sentinel__Query__V1__SearchLogsRequest *request,
                        uint64_t limit)
{
    struct ctl *ctl = printer->ctl;
    int64_t timeout_us = 0;
    int r = ctl_timeout_us(ctl, &timeout_us);

    if (r)
        return r;
    do {
        const uint64_t left = limit - printer->n_printed;

        request->page_size = (uint32_t) (left < PAGE_MAX ? left : PAGE_MAX);
        if (printer->page_token)
            request->page_token = arena_copy_text(&ctl->arena, printer->page_token);
        if (!request->page_token)
            return ctl_say(CTL_FAILED, "out of memory");
        r = ctl_stream_bytes(ctl, SEARCH_LOGS, &request->base, timeout_us, on_found, printer);
    } while (r == CTL_OK && !printer->is_budget_reached && printer->n_printed < limit &&
             printer->page_token && *printer->page_token);
    return r;
}

static int say_end(const struct printer *printer)
{
    char size[TEXT_SIZE_BYTES];

    if (printer->n_damaged > 0)
        ctl_say(CTL_OK, "%llu damaged blocks were passed over: records may be missing",
                (unsigned long long) printer->n_damaged);
    if (printer->is_budget_reached)
        return ctl_say(CTL_PARTIAL,
                       "the search ended after %s, as much as the hub does for one (by "
                       "query.logs_budget, or by time); narrow it, or go on with --page-token %s",
                       text_of_size(printer->bytes_read, size), printer->page_token);
    return printer->n_damaged > 0 ? CTL_PARTIAL : CTL_OK;
}

int cmd_logs_search(struct ctl *ctl)
{
    CLEANUP(printer_deinit) struct printer printer;
    Sentinel__Query__V1__SearchLogsRequest request = SENTINEL__QUERY__V1__SEARCH_LOGS_REQUEST__INIT;
    Sentinel__Query__V1__TimeRange range;
    ctl_selector selector;
    uint64_t limit = LIMIT_DEFAULT;
    int r;

    printer_init(&printer, ctl);
    if (ctl->limit && (text_to_u64(ctl->limit, &limit) || limit < 1 || limit > LIMIT_MAX))
        return ctl_say(CTL_USAGE, "--limit: `%s` is not a number from 1 to %d", ctl->limit,
                       LIMIT_MAX);
    r = read_severity(ctl, &request.min_severity_number);
    if (!r)
        r = convert_selector(ctl, &selector);
    if (!r)
        r = convert_range(ctl, "-1h", &range);
    if (r)
        return r;
    request.agents = &selector;
    request.range = &range;
    request.words = borrow_list(ctl->words);
    request.n_words = ctl->n_words;
    request.contains = borrow_list((const char *const *) ctl->contains.items);
    request.n_contains = ctl->contains.n_items;
    request.regex = borrow(ctl->regex);
    request.source_pattern = borrow(ctl->source);
    request.oldest_first = ctl->is_oldest_first;
    request.page_token = borrow(ctl->page_token);
    r = search_pages(&printer, &request, limit);
    return r == CTL_OK ? say_end(&printer) : r;
}

int cmd_logs_tail(struct ctl *ctl)
{
    CLEANUP(printer_deinit) struct printer printer;
    Sentinel__Query__V1__TailLogsRequest request = SENTINEL__QUERY__V1__TAIL_LOGS_REQUEST__INIT;
    ctl_selector selector;
    int r;

    printer_init(&printer, ctl);
    r = read_severity(ctl, &request.min_severity_number);
    if (!r)
        r = convert_selector(ctl, &selector);
    if (r)
        return r;
    request.agents = &selector;
    request.words = borrow_list(ctl->words);
    request.n_words = ctl->n_words;
    request.contains = borrow_list((const char *const *) ctl->contains.items);
    request.n_contains = ctl->contains.n_items;
    request.regex = borrow(ctl->regex);
    request.source_pattern = borrow(ctl->source);
    return ctl_stream_bytes(ctl, TAIL_LOGS, &request.base, 0, on_tailed, &printer);
}
