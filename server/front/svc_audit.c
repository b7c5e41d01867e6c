/* SPDX-License-Identifier: Apache-2.0 */

/* sentinel.query.v1.QueryService: QueryAudit, ExportAudit, VerifyAudit. On readers. */

#include "sentinel/query/v1/query.pb-c.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/fault.h"
#include "common/base/text.h"
#include "server/front/acts.h"
#include "server/front/inside.h"
#include "server/front/serial.h"

#define EXPORT_RECORDS 1000u
#define MAX_ANCHORS 10000u

/* Who reads the record is on record. */
static void note_reading(struct unary *unary, const char *how)
{
    const struct audit_field field = { "how", how };
    struct front_act act;

    (void) front_act_of(unary, NULL, &act);
    front_note(unary->front, &(struct audit_entry){ .event = AUDIT_RECORDING_LOOKED_AT,
                                                    .actor = act.by,
                                                    .source = act.source,
                                                    .correlation = act.correlation,
                                                    .fields = &field,
                                                    .n_fields = 1 });
}

/* ---- QueryAudit ---- */

typedef Sentinel__Query__V1__QueryAuditRequest audit_request;
typedef Sentinel__Query__V1__AuditEntry audit_message;

static void *fields_of(struct unary *unary, const struct audit_record *record)
{
    struct store_attribute *rows = unary_alloc(unary, record->n_fields + 1, sizeof(*rows));

    for (size_t i = 0; rows && i < record->n_fields; i++)
        rows[i] = (struct store_attribute){ record->fields[i].key, record->fields[i].value };
    if (!rows)
        return NULL;
    return unary_entries(unary, &sentinel__query__v1__audit_entry__fields_entry__descriptor, rows,
                         record->n_fields);
}

static void fill_entry(struct unary *unary, const struct audit_record *record, audit_message *to)
{
    sentinel__query__v1__audit_entry__init(to);
    to->number = record->number;
    to->time = unary_time(unary, record->time);
    to->event = front_borrow(record->event);
    to->code = front_borrow(record->code);
    to->actor = front_borrow(record->actor);
    to->address = front_borrow(record->source);
    to->object = front_borrow(record->object);
    to->result = front_borrow(record->is_failure ? "refused" : "ok");
    to->correlation_id = front_borrow(record->correlation);
    to->fields = fields_of(unary, record);
    to->n_fields = to->fields ? record->n_fields : 0;
    to->previous_sha256 = front_hex(unary, record->sha256_before, sizeof(record->sha256_before));
    to->sha256 = front_hex(unary, record->sha256, sizeof(record->sha256));
}

static enum front_failure
answer_entries(struct unary *unary, const struct audit_question *asked, struct span question)
{
    Sentinel__Query__V1__QueryAuditResponse *answer = unary_alloc(unary, 1, sizeof(*answer));
    struct audit_record *records = NULL;
    audit_message *rows;
    bool has_more = false;
    char number[24];
    size_t n = 0;

    if (audit_find(unary->front->options.audit, asked, &unary->arena, &records, &n, &has_more) != 0)
        return FAIL_FAULT;
    rows = unary_alloc(unary, n + 1, sizeof(*rows));
    if (!answer || !rows)
        return unary_finish(unary, NULL);
    sentinel__query__v1__query_audit_response__init(answer);
    answer->entries = unary_alloc(unary, n + 1, sizeof(*answer->entries));
    for (size_t i = 0; answer->entries && i < n; i++) {
        fill_entry(unary, &records[i], &rows[i]);
        answer->entries[answer->n_entries++] = &rows[i];
    }
    if (has_more && n > 0) {
        (void) snprintf(number, sizeof(number), "%llu", (unsigned long long) records[n - 1].number);
        answer->next_page_token = front_token_make(unary, question, span_of_text(number));
    }
    return unary_finish(unary, &answer->base);
}

static const char *pattern_of(const char *text)
{
    return text[0] ? text : NULL;
}

static enum front_failure read_question(struct unary *unary,
                                        const audit_request *request,
                                        struct span question,
                                        struct audit_question *ret)
{
    struct span behind = { 0 };
    char number[24];
    enum front_failure failure = front_range(unary, request->range, &ret->from.us, &ret->to.us);

    if (failure == FAIL_NOT)
        failure = front_page_size(unary, request->page_size, &ret->limit);
    if (failure == FAIL_NOT)
        failure = front_token_read(unary, request->page_token, question, &behind);
    if (failure != FAIL_NOT)
        return failure;
    ret->event = pattern_of(request->event_pattern);
    ret->actor = pattern_of(request->actor);
    ret->source = pattern_of(request->address);
    ret->object = pattern_of(request->object);
    ret->failures_only = request->failures_only;
    ret->is_oldest_first = request->oldest_first || request->after_number > 0;
    ret->beyond = request->after_number;
    if (behind.len == 0)
        return FAIL_NOT;
    (void) snprintf(number, sizeof(number), "%.*s", (int) behind.len, (const char *) behind.data);
    return text_to_u64(number, &ret->beyond) == 0 ? FAIL_NOT : FAIL_FAULT;
}

enum front_failure svc_audit_query(struct unary *unary)
{
    const audit_request *request = (const void *) unary->request;
    CLEANUP(buf_deinit) struct buf question = { 0 };
    struct audit_question asked = { .limit = 0 };
    enum front_failure failure;

    if (!unary->front->options.audit)
        return FAIL_UNIMPLEMENTED;
    buf_printf(&question, "%d %d %s\n%s\n%s\n%s", request->failures_only, request->oldest_first,
               request->event_pattern, request->actor, request->object, request->address);
    failure = read_question(unary, request, buf_span(&question), &asked);
    if (failure != FAIL_NOT)
        return failure;
    if (request->page_token[0] == '\0' && request->after_number == 0)
        note_reading(unary, "search");
    return answer_entries(unary, &asked, buf_span(&question));
}

/* ---- ExportAudit ---- */

struct export
{
    struct audit_question asked;
};

static enum front_failure begin_export(struct unary *unary, struct export **ret, int *ret_r)
{
    const Sentinel__Query__V1__ExportAuditRequest *request = (const void *) unary->request;
    struct export *export;
    enum front_failure failure;

    if (!unary->front->options.audit)
        return FAIL_UNIMPLEMENTED;
    export = calloc(1, sizeof(*export));
    if (!export) {
        *ret_r = fault(-ENOMEM, "no memory for an export");
        return FAIL_FAULT;
    }
    *ret = export;
    export->asked.is_oldest_first = true;
    export->asked.limit = EXPORT_RECORDS;
    failure = front_range(unary, request->range, &export->asked.from.us, &export->asked.to.us);
    if (failure == FAIL_NOT && export->asked.to.us == 0)
        export->asked.to = clock_wall(); /* it ends where it began, whatever comes meanwhile */
    if (failure == FAIL_NOT)
        note_reading(unary, "export");
    return failure;
}

/* One message of lines. */
static int put_lines(struct serial *serial, const struct audit_record *records, size_t n)
{
    CLEANUP(arena_deinit) struct arena arena = { 0 };
    Sentinel__Query__V1__ExportAuditResponse answer =
        SENTINEL__QUERY__V1__EXPORT_AUDIT_RESPONSE__INIT;
    struct buf *to = serial_message(serial);

    arena_init(&arena, FRONT_ANSWER_BYTES);
    answer.lines = arena_alloc_array(&arena, n, sizeof(char *));
    if (!to || !answer.lines)
        return fault(-ENOMEM, "no memory for lines of the audit");
    for (size_t i = 0; i < n; i++) {
        CLEANUP(buf_deinit) struct buf line = { 0 };

        audit_record_print(&records[i], &line);
        answer.lines[i] = buf_failed(&line) ? NULL : arena_copy_text(&arena, buf_text(&line));
        if (!answer.lines[i])
            return fault(-ENOMEM, "no memory for a line of the audit");
        answer.n_lines++;
    }
    return pass(wire_pack(&answer.base, to));
}

static enum front_failure
export_piece(struct serial *serial, void **work, enum serial_state *ret_state, int *ret_r)
{
    CLEANUP(arena_deinit) struct arena arena = { 0 };
    struct unary *unary = serial_unary(serial);
    struct export *export = *work;
    struct audit_record *records = NULL;
    bool has_more = false;
    size_t n = 0;

    if (!export) {
        enum front_failure failure = begin_export(unary, &export, ret_r);

        *work = export;
        if (failure != FAIL_NOT)
            return failure;
    }
    arena_init(&arena, FRONT_ANSWER_BYTES);
    *ret_r =
        audit_find(unary->front->options.audit, &export->asked, &arena, &records, &n, &has_more);
    if (*ret_r == 0 && n > 0)
        *ret_r = put_lines(serial, records, n);
    if (*ret_r != 0)
        return FAIL_FAULT;
    if (n > 0)
        export->asked.beyond = records[n - 1].number;
    *ret_state = has_more && n > 0 ? SERIAL_MORE : SERIAL_LAST;
    return FAIL_NOT;
}

static void export_close(void *work)
{
    free(work);
}

static const struct serial_kind export_kind = { .piece = export_piece, .close = export_close };

static void export_on_open(struct rpc_call *call)
{
    serial_on_open(call, &export_kind);
}

const struct rpc_handler svc_audit_export = {
    .on_open = export_on_open,
    .on_message = serial_on_message,
    .on_half_close = serial_on_half_close,
    .on_writable = serial_on_writable,
    .on_drain = serial_on_drain,
    .on_closed = serial_on_closed,
};

/* ---- VerifyAudit ---- */

static bool check_signature(void *ctx, struct span data, struct span signature)
{
    struct pki *pki = ctx;

    return pki && pki_hub_check(pki, data, signature);
}

static enum front_failure read_anchor(struct unary *unary,
                                      size_t at,
                                      const Sentinel__Query__V1__KeptAnchor *from,
                                      struct audit_anchor *to)
{
    const size_t n_signature = strlen(from->signature) / 2;
    char field[64];

    (void) snprintf(field, sizeof(field), "anchors[%zu]", at);
    to->entry = from->entry;
    to->n_signature = (uint32_t) n_signature;
    if (from->time && !front_time_of(from->time, &to->time.us))
        front_describe(&unary->detail, field, "time: not a time");
    else if (text_to_hex(from->sha256, to->sha256, sizeof(to->sha256)) != 0)
        front_describe(&unary->detail, field, "sha256: 64 hex digits");
    else if (n_signature > sizeof(to->signature) ||
             text_to_hex(from->signature, to->signature, n_signature) != 0)
        front_describe(&unary->detail, field, "signature: hex of at most %d bytes",
                       AUDIT_SIGNATURE_BYTES);
    else
        return FAIL_NOT;
    return FAIL_BAD_QUESTION;
}

enum front_failure svc_audit_verify(struct unary *unary)
{
    const Sentinel__Query__V1__VerifyAuditRequest *request = (const void *) unary->request;
    Sentinel__Query__V1__VerifyAuditResponse *answer = unary_alloc(unary, 1, sizeof(*answer));
    struct audit_anchor *anchors = unary_alloc(unary, request->n_anchors + 1, sizeof(*anchors));
    struct audit_verdict *verdict = unary_alloc(unary, 1, sizeof(*verdict));
    enum front_failure failure = FAIL_NOT;
    int r;

    if (!answer || !anchors || !verdict)
        return unary_finish(unary, NULL);
    if (!unary->front->options.audit)
        return FAIL_UNIMPLEMENTED;
    if (request->n_anchors > MAX_ANCHORS) {
        front_describe(&unary->detail, "anchors", "at most %u", MAX_ANCHORS);
        return FAIL_BAD_QUESTION;
    }
    for (size_t i = 0; failure == FAIL_NOT && i < request->n_anchors; i++)
        failure = read_anchor(unary, i, request->anchors[i], &anchors[i]);
    if (failure != FAIL_NOT)
        return failure;
    r = audit_verify(unary->front->options.audit, anchors, request->n_anchors, check_signature,
                     unary->front->options.pki, verdict);
    if (r < 0)
        return FAIL_FAULT;
    sentinel__query__v1__verify_audit_response__init(answer);
    answer->is_whole = r == AUDIT_OK;
    answer->entries = verdict->n_entries;
    answer->first = verdict->first;
    answer->last = verdict->last;
    answer->anchors = verdict->n_anchors;
    answer->days = verdict->n_days;
    answer->bad_entry = verdict->bad_entry;
    answer->anchors_refused = verdict->n_anchors_refused;
    answer->anchored = verdict->anchored;
    answer->why = verdict->why;
    return unary_finish(unary, &answer->base);
}
