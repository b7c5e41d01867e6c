/* SPDX-License-Identifier: Apache-2.0 */
/* sentinelctl audit tail, search, verify, export. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/text.h"
#include "server/ctl/admin.h"

#define QUERY_AUDIT "/sentinel.query.v1.QueryService/QueryAudit"
#define EXPORT_AUDIT "/sentinel.query.v1.QueryService/ExportAudit"
#define VERIFY_AUDIT "/sentinel.query.v1.QueryService/VerifyAudit"
#define PAGE 1000
#define DEFAULT_ENTRIES 100
#define TAIL_BEGINS_WITH 10
#define TAIL_EVERY_NS 500000000L
#define ANCHORS_LIMIT_BYTES ((size_t) 16 << 20)
#define MAX_ANCHORS 10000

typedef Sentinel__Query__V1__QueryAuditRequest audit_request;
typedef Sentinel__Query__V1__AuditEntry audit_entry;

static void entry_json(struct json_writer *json, const audit_entry *entry)
{
    json_open_object(json);
    json_put_u64(json, "number", entry->number);
    json_put_i64(json, "time_us", convert_time_us(entry->time));
    json_put_text(json, "event", entry->event);
    json_put_text(json, "code", entry->code);
    json_put_text(json, "result", entry->result);
    json_put_text(json, "actor", entry->actor);
    json_put_text(json, "address", entry->address);
    json_put_text(json, "object", entry->object);
    json_put_text(json, "correlation_id", entry->correlation_id);
    json_key(json, "fields");
    json_open_object(json);
    for (size_t i = 0; i < entry->n_fields; i++)
        json_put_text(json, entry->fields[i]->key, entry->fields[i]->value);
    json_close_object(json);
    json_put_text(json, "sha256", entry->sha256);
    json_put_text(json, "previous_sha256", entry->previous_sha256);
    json_close_object(json);
}

static void fields_of(const audit_entry *entry, struct buf *to)
{
    for (size_t i = 0; i < entry->n_fields; i++)
        buf_printf(to, "%s%s=%s", i ? " " : "", entry->fields[i]->key, entry->fields[i]->value);
}

static void entry_row(struct ctl *ctl, struct table *table, const audit_entry *entry)
{
    CLEANUP(buf_deinit) struct buf fields = { 0 };

    fields_of(entry, &fields);
    table_add(table, format_time(ctl, convert_time_us(entry->time)));
    table_add(table, entry->code);
    table_add(table, entry->event);
    table_add(table, entry->actor);
    table_add(table, entry->address);
    table_add(table, entry->object);
    table_add(table, buf_text(&fields));
}

static void read_filters(struct ctl *ctl, audit_request *request)
{
    request->event_pattern = admin_copy(ctl, ctl->admin.event);
    request->actor = admin_copy(ctl, ctl->admin.actor);
    request->object = admin_copy(ctl, ctl->admin.object);
    request->address = admin_copy(ctl, ctl->admin.address);
    request->failures_only = ctl->admin.only_failures;
}

/* --range, --from and --to when they are given. */
static int read_range(struct ctl *ctl,
                      Sentinel__Query__V1__TimeRange *range,
                      Sentinel__Query__V1__TimeRange **ret)
{
    int r;

    if (!ctl->range && !ctl->from && !ctl->to)
        return CTL_OK;
    r = convert_range(ctl, "1970-01-01", range);
    *ret = range;
    return r;
}

static int ask(struct ctl *ctl,
               const audit_request *request,
               const Sentinel__Query__V1__QueryAuditResponse **ret)
{
    ProtobufCMessage *message;
    int r = ctl_call(ctl, QUERY_AUDIT, &request->base, &message);

    if (!r)
        *ret = (const void *) message;
    return r;
}

/* ---- search ---- */

int cmd_audit_search(struct ctl *ctl)
{
    static const char *const headers[] = { "TIME", "CODE",   "EVENT",  "WHO",
                                           "FROM", "OBJECT", "FIELDS", NULL };
    audit_request request = SENTINEL__QUERY__V1__QUERY_AUDIT_REQUEST__INIT;
    Sentinel__Query__V1__TimeRange range;
    const Sentinel__Query__V1__QueryAuditResponse *answer = NULL;
    uint64_t left = DEFAULT_ENTRIES;
    struct listing list;
    int r = read_range(ctl, &range, &request.range);

    if (!r && ctl->limit)
        r = admin_number("--limit", ctl->limit, UINT32_MAX, &left);
    if (r)
        return r;
    read_filters(ctl, &request);
    request.oldest_first = ctl->is_oldest_first;
    listing_begin(&list, ctl, "entries", headers);
    while (!r && left > 0) {
        request.page_size = left < PAGE ? (uint32_t) left : PAGE;
        r = ask(ctl, &request, &answer);
        for (size_t i = 0; !r && i < answer->n_entries; i++) {
            entry_json(&list.json, answer->entries[i]);
            entry_row(ctl, &list.table, answer->entries[i]);
        }
        if (r || !*answer->next_page_token)
            break;
        left -= answer->n_entries < left ? answer->n_entries : left;
        request.page_token = answer->next_page_token;
    }
    r = listing_end(&list, r, "no entry fits");
    if (!r && !ctl->is_json && answer && *answer->next_page_token)
        ctl_say(CTL_OK, "there are more; --limit N shows N");
    return r;
}

/* ---- tail ---- */

static int put_line(struct ctl *ctl, const audit_entry *entry)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    struct json_writer json;

    if (ctl->is_json) {
        json_begin(&json, &text, false);
        entry_json(&json, entry);
        printf("%s\n", buf_text(&text));
    } else {
        CLEANUP(buf_deinit) struct buf fields = { 0 };

        fields_of(entry, &fields);
        printf("%s %s %s", format_time(ctl, convert_time_us(entry->time)), entry->code,
               format_printable(ctl, entry->event));
        printf(" %s", format_printable(ctl, entry->actor));
        if (*entry->address)
            printf(" from %s", format_printable(ctl, entry->address));
        if (*entry->object)
            printf(" %s", format_printable(ctl, entry->object));
        printf("%s%s\n", fields.len ? " " : "", format_printable(ctl, buf_text(&fields)));
    }
    return fflush(stdout) ? CTL_FAILED : CTL_OK;
}

/* What came since, in its order; *behind is the last one. */
static int follow(struct ctl *ctl, uint64_t *behind)
{
    const Sentinel__Query__V1__QueryAuditResponse *answer;
    audit_request request = SENTINEL__QUERY__V1__QUERY_AUDIT_REQUEST__INIT;
    int r;

    read_filters(ctl, &request);
    request.page_size = PAGE;
    request.oldest_first = true;
    do {
        request.after_number = *behind;
        r = ask(ctl, &request, &answer);
        for (size_t i = 0; !r && i < answer->n_entries; i++) {
            *behind = answer->entries[i]->number;
            r = put_line(ctl, answer->entries[i]);
        }
    } while (!r && *answer->next_page_token && answer->n_entries > 0);
    return r;
}

int cmd_audit_tail(struct ctl *ctl)
{
    const Sentinel__Query__V1__QueryAuditResponse *answer;
    audit_request request = SENTINEL__QUERY__V1__QUERY_AUDIT_REQUEST__INIT;
    const struct timespec pause = { .tv_nsec = TAIL_EVERY_NS };
    uint64_t behind = 0;
    int r;

    read_filters(ctl, &request);
    request.page_size = TAIL_BEGINS_WITH;
    r = ask(ctl, &request, &answer);
    for (size_t i = r ? 0 : answer->n_entries; !r && i > 0; i--) {
        behind = answer->entries[i - 1]->number;
        r = put_line(ctl, answer->entries[i - 1]);
    }
    while (!r) { /* each round in an arena of its own: it may go on for days */
        const struct arena kept = ctl->arena;

        nanosleep(&pause, NULL);
        arena_init(&ctl->arena, kept.limit_bytes);
        r = follow(ctl, &behind);
        arena_deinit(&ctl->arena);
        ctl->arena = kept;
    }
    return r;
}

/* ---- export ---- */

static int on_lines(void *ctx, const ProtobufCMessage *message)
{
    const Sentinel__Query__V1__ExportAuditResponse *answer = (const void *) message;
    FILE *to = ctx;

    for (size_t i = 0; i < answer->n_lines; i++)
        if (fprintf(to, "%s\n", answer->lines[i]) < 0)
            return ctl_say(CTL_FAILED, "cannot write: %s", strerror(errno));
    return CTL_OK;
}

int cmd_audit_export(struct ctl *ctl)
{
    Sentinel__Query__V1__ExportAuditRequest request =
        SENTINEL__QUERY__V1__EXPORT_AUDIT_REQUEST__INIT;
    Sentinel__Query__V1__TimeRange range;
    FILE *to = stdout;
    int r = read_range(ctl, &range, &request.range);

    if (r)
        return r;
    if (ctl->out && strcmp(ctl->out, "-") != 0) {
        to = fopen(ctl->out, ctl->is_forced ? "we" : "wxe");
        if (!to)
            return ctl_say(CTL_FAILED, "%s: %s%s", ctl->out, strerror(errno),
                           errno == EEXIST ? "; --force writes over it" : "");
    }
    r = ctl_stream(ctl, EXPORT_AUDIT, &request.base, on_lines, to);
    if (to != stdout && fclose(to) && !r)
        r = ctl_say(CTL_FAILED, "cannot write %s: %s", ctl->out, strerror(errno));
    return r;
}

/* ---- verify ---- */

/* {"time_us": ..., "entry": ..., "sha256": "hex", "signature": "hex"} */
static int
add_anchor(struct ctl *ctl, const struct json *object, Sentinel__Query__V1__VerifyAuditRequest *to)
{
    Sentinel__Query__V1__KeptAnchor *anchor = arena_alloc(&ctl->arena, sizeof(*anchor));
    Google__Protobuf__Timestamp *time = arena_alloc(&ctl->arena, sizeof(*time));
    const int64_t time_us = json_get_i64(json_member(object, "time_us"), 0);
    const int64_t entry = json_get_i64(json_member(object, "entry"), 0);
    const char *sha256 = json_get_text(json_member(object, "sha256"), "");

    if (!anchor || !time)
        return ctl_say(CTL_FAILED, "out of memory");
    if (entry <= 0 || strlen(sha256) != 64)
        return ctl_say(CTL_USAGE, "--anchors: an anchor has `entry`, `sha256` and `time_us`");
    if (to->n_anchors == MAX_ANCHORS)
        return ctl_say(CTL_USAGE, "--anchors: more than %d anchors", MAX_ANCHORS);
    sentinel__query__v1__kept_anchor__init(anchor);
    google__protobuf__timestamp__init(time);
    time->seconds = time_us / 1000000;
    time->nanos = (int32_t) (time_us % 1000000 * 1000);
    anchor->time = time;
    anchor->entry = (uint64_t) entry;
    anchor->sha256 = admin_copy(ctl, sha256);
    anchor->signature = admin_copy(ctl, json_get_text(json_member(object, "signature"), ""));
    to->anchors[to->n_anchors++] = anchor;
    return CTL_OK;
}

/* A document with an array `anchors`, an array, or an object a line. */
static int
read_document(struct ctl *ctl, struct span text, Sentinel__Query__V1__VerifyAuditRequest *to)
{
    CLEANUP(json_freep) struct json *document = NULL;
    const struct json *list;
    struct json_error error;
    int r = json_parse(&document, text, &error);

    if (r)
        return r > 0 ? ctl_say(CTL_USAGE, "--anchors: %s", error.text) : CTL_FAILED;
    list = json_member(document, "anchors");
    if (json_member(document, "entry"))
        return add_anchor(ctl, document, to);
    if (!list)
        list = document;
    for (size_t i = 0; !r && i < json_count(list); i++)
        r = add_anchor(ctl, json_item(list, i), to);
    return r;
}

static bool is_a_line_each(struct span text)
{
    const uint8_t *end = memchr(text.data, '\n', text.len);
    struct json_error error;
    struct json *line = NULL;
    bool is;

    if (!end || text.data[0] != '{')
        return false;
    is = json_parse(&line, span_of(text.data, (size_t) (end - text.data)), &error) == 0;
    json_free(line);
    return is;
}

static int read_anchors(struct ctl *ctl, Sentinel__Query__V1__VerifyAuditRequest *to)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    struct span rest;
    int r;

    to->anchors = arena_alloc_array(&ctl->arena, MAX_ANCHORS, sizeof(to->anchors[0]));
    if (!to->anchors)
        return ctl_say(CTL_FAILED, "out of memory");
    r = file_read(ctl->admin.anchors, ANCHORS_LIMIT_BYTES, &text);
    if (r)
        return ctl_say(r == FILE_ABSENT ? CTL_NOT_FOUND : CTL_FAILED, "cannot read %s",
                       ctl->admin.anchors);
    rest = buf_span(&text);
    if (rest.len == 0 || !is_a_line_each(rest))
        return read_document(ctl, rest, to);
    while (!r && rest.len > 0) {
        const uint8_t *end = memchr(rest.data, '\n', rest.len);
        const size_t len = end ? (size_t) (end - rest.data) : rest.len;

        if (len > 0)
            r = read_document(ctl, span_of(rest.data, len), to);
        rest = span_of(rest.data + len + (end != NULL), rest.len - len - (end != NULL));
    }
    return r;
}

int cmd_audit_verify(struct ctl *ctl)
{
    Sentinel__Query__V1__VerifyAuditRequest request =
        SENTINEL__QUERY__V1__VERIFY_AUDIT_REQUEST__INIT;
    const Sentinel__Query__V1__VerifyAuditResponse *answer;
    ProtobufCMessage *message;
    struct object object;
    int r = ctl->admin.anchors ? read_anchors(ctl, &request) : CTL_OK;

    if (!r)
        r = ctl_call(ctl, VERIFY_AUDIT, &request.base, &message);
    if (r)
        return r;
    answer = (const void *) message;
    if (ctl->is_json) {
        object_begin(&object);
        json_put_bool(&object.json, "is_whole", answer->is_whole);
        json_put_u64(&object.json, "entries", answer->entries);
        json_put_u64(&object.json, "first", answer->first);
        json_put_u64(&object.json, "last", answer->last);
        json_put_u64(&object.json, "anchors", answer->anchors);
        json_put_u64(&object.json, "anchored", answer->anchored);
        json_put_u64(&object.json, "anchors_refused", answer->anchors_refused);
        json_put_u64(&object.json, "days", answer->days);
        json_put_u64(&object.json, "bad_entry", answer->bad_entry);
        json_put_text(&object.json, "why", answer->why);
        object_end(&object);
    } else if (answer->is_whole) {
        printf("whole: %llu entries (%llu to %llu), %llu anchors fit, %llu closed days\n",
               (unsigned long long) answer->entries, (unsigned long long) answer->first,
               (unsigned long long) answer->last, (unsigned long long) answer->anchors,
               (unsigned long long) answer->days);
    }
    if (answer->anchors_refused > 0)
        ctl_say(CTL_OK, "%llu of the anchors given are not signed by this hub: they say nothing",
                (unsigned long long) answer->anchors_refused);
    if (answer->is_whole)
        return CTL_OK;
    return ctl_say(CTL_FAILED, "the audit log was changed at entry %llu: %s",
                   (unsigned long long) answer->bad_entry, answer->why);
}
