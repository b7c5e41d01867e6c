/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/wire/wire.h"
#include "google/protobuf/any.pb-c.h"
#include "google/rpc/error_details.pb-c.h"
#include "google/rpc/status.pb-c.h"

#define TYPE_PREFIX "type.googleapis.com/"
#define MAX_DETAILS 6
#define MAX_SUBJECTS 64 /* trailers are small: 8 KiB is what clients take */
#define MS_PER_S 1000
#define NS_PER_MS 1000000
#define NS_PER_S 1000000000
#define MAX_DURATION_S INT64_C(315576000000) /* of google.protobuf.Duration */

/* ---- packing ---- */

/* The details of one status; a detail's bytes lie in its buf. */
struct details {
    size_t n;
    Google__Protobuf__Any any[MAX_DETAILS];
    Google__Protobuf__Any *list[MAX_DETAILS];
    struct buf packed[MAX_DETAILS];
    char type_url[MAX_DETAILS][64];
};

static void details_deinit(struct details *details)
{
    for (size_t i = 0; i < details->n; i++)
        buf_deinit(&details->packed[i]);
}

/* protobuf-c's strings are char *, but packing only reads them. */
static char *text(const char *s)
{
    union {
        const char *in;
        char *out;
    } u = { .in = s ? s : "" };

    return u.out;
}

static int add_detail(struct details *details, const ProtobufCMessage *message)
{
    size_t i = details->n;
    Google__Protobuf__Any *any = &details->any[i];
    int r;

    ensure(i < MAX_DETAILS);
    details->n++; /* from here on its buf is freed */
    r = snprintf(details->type_url[i], sizeof(details->type_url[i]), TYPE_PREFIX "%s",
                 message->descriptor->name);
    ensure(r > 0 && (size_t) r < sizeof(details->type_url[i]));
    r = wire_pack(message, &details->packed[i]);
    if (r)
        return pass(r);
    google__protobuf__any__init(any);
    any->type_url = details->type_url[i];
    any->value.data = details->packed[i].data;
    any->value.len = details->packed[i].len;
    details->list[i] = any;
    return 0;
}

static int add_error_info(struct details *details, const struct wire_error *error)
{
    Google__Rpc__ErrorInfo info = GOOGLE__RPC__ERROR_INFO__INIT;

    if (!error->reason)
        return 0;
    info.reason = text(error->reason);
    info.domain = text(WIRE_ERROR_DOMAIN);
    return pass(add_detail(details, &info.base));
}

static int add_bad_request(struct details *details, const struct wire_error *error)
{
    Google__Rpc__BadRequest__FieldViolation violation =
        GOOGLE__RPC__BAD_REQUEST__FIELD_VIOLATION__INIT;
    Google__Rpc__BadRequest__FieldViolation *violations[] = { &violation };
    Google__Rpc__BadRequest bad = GOOGLE__RPC__BAD_REQUEST__INIT;

    if (!error->field)
        return 0;
    violation.field = text(error->field);
    violation.description = text(error->field_description);
    bad.n_field_violations = 1;
    bad.field_violations = violations;
    return pass(add_detail(details, &bad.base));
}

static int add_quota_failure(struct details *details, const struct wire_error *error)
{
    Google__Rpc__QuotaFailure__Violation violation = GOOGLE__RPC__QUOTA_FAILURE__VIOLATION__INIT;
    Google__Rpc__QuotaFailure__Violation *violations[] = { &violation };
    Google__Rpc__QuotaFailure failure = GOOGLE__RPC__QUOTA_FAILURE__INIT;

    if (!error->quota)
        return 0;
    violation.subject = text(error->quota);
    violation.description = text(error->quota_description);
    failure.n_violations = 1;
    failure.violations = violations;
    return pass(add_detail(details, &failure.base));
}

static int add_precondition(struct details *details, const struct wire_error *error)
{
    Google__Rpc__PreconditionFailure__Violation violations[MAX_SUBJECTS];
    Google__Rpc__PreconditionFailure__Violation *list[MAX_SUBJECTS];
    Google__Rpc__PreconditionFailure failure = GOOGLE__RPC__PRECONDITION_FAILURE__INIT;

    ensure(error->n_subjects <= MAX_SUBJECTS);
    if (error->n_subjects == 0)
        return 0;
    for (size_t i = 0; i < error->n_subjects; i++) {
        google__rpc__precondition_failure__violation__init(&violations[i]);
        violations[i].type = text(error->precondition);
        violations[i].subject = text(error->subjects[i]);
        list[i] = &violations[i];
    }
    failure.n_violations = error->n_subjects;
    failure.violations = list;
    return pass(add_detail(details, &failure.base));
}

static int add_retry_info(struct details *details, const struct wire_error *error)
{
    Google__Protobuf__Duration delay = GOOGLE__PROTOBUF__DURATION__INIT;
    Google__Rpc__RetryInfo retry = GOOGLE__RPC__RETRY_INFO__INIT;
    uint64_t seconds = error->retry_after_ms / MS_PER_S;

    if (error->retry_after_ms == 0)
        return 0;
    delay.seconds = seconds < (uint64_t) MAX_DURATION_S ? (int64_t) seconds : MAX_DURATION_S;
    delay.nanos = (int32_t) (error->retry_after_ms % MS_PER_S) * NS_PER_MS;
    retry.retry_delay = &delay;
    return pass(add_detail(details, &retry.base));
}

static int add_request_info(struct details *details, const struct wire_error *error)
{
    Google__Rpc__RequestInfo info = GOOGLE__RPC__REQUEST_INFO__INIT;

    if (!error->correlation_id)
        return 0;
    info.request_id = text(error->correlation_id);
    return pass(add_detail(details, &info.base));
}

int wire_error_pack(const struct wire_error *error, struct buf *to)
{
    CLEANUP(details_deinit) struct details details = { 0 };
    Google__Rpc__Status status = GOOGLE__RPC__STATUS__INIT;
    int r;

    r = add_error_info(&details, error);
    if (!r)
        r = add_bad_request(&details, error);
    if (!r)
        r = add_quota_failure(&details, error);
    if (!r)
        r = add_precondition(&details, error);
    if (!r)
        r = add_retry_info(&details, error);
    if (!r)
        r = add_request_info(&details, error);
    if (r)
        return pass(r);
    status.code = error->code;
    status.message = text(error->message);
    status.n_details = details.n;
    status.details = details.list;
    return pass(wire_pack(&status.base, to));
}

/* ---- unpacking ---- */

/* Each reads one detail into *error. */
typedef int read_detail_fn(const ProtobufCMessage *message, struct wire_error *error);

static int read_error_info(const ProtobufCMessage *message, struct wire_error *error)
{
    const Google__Rpc__ErrorInfo *info = (const Google__Rpc__ErrorInfo *) message;

    if (strcmp(info->domain, WIRE_ERROR_DOMAIN) == 0)
        error->reason = info->reason;
    return WIRE_OK;
}

static int read_bad_request(const ProtobufCMessage *message, struct wire_error *error)
{
    const Google__Rpc__BadRequest *bad = (const Google__Rpc__BadRequest *) message;

    if (bad->n_field_violations > 0) {
        error->field = bad->field_violations[0]->field;
        error->field_description = bad->field_violations[0]->description;
    }
    return WIRE_OK;
}

static int read_quota_failure(const ProtobufCMessage *message, struct wire_error *error)
{
    const Google__Rpc__QuotaFailure *failure = (const Google__Rpc__QuotaFailure *) message;

    if (failure->n_violations > 0) {
        error->quota = failure->violations[0]->subject;
        error->quota_description = failure->violations[0]->description;
    }
    return WIRE_OK;
}

static int read_retry_info(const ProtobufCMessage *message, struct wire_error *error)
{
    const Google__Protobuf__Duration *delay =
        ((const Google__Rpc__RetryInfo *) message)->retry_delay;

    if (!delay)
        return WIRE_OK;
    if (delay->seconds < 0 || delay->seconds > MAX_DURATION_S || delay->nanos < 0 ||
        delay->nanos >= NS_PER_S)
        return WIRE_MALFORMED;
    /* Rounded up: coming back early is what the peer asked us not to do. */
    error->retry_after_ms = (uint64_t) delay->seconds * MS_PER_S +
                            ((uint64_t) delay->nanos + NS_PER_MS - 1) / NS_PER_MS;
    return WIRE_OK;
}

static int read_request_info(const ProtobufCMessage *message, struct wire_error *error)
{
    error->correlation_id = ((const Google__Rpc__RequestInfo *) message)->request_id;
    return WIRE_OK;
}

static int
read_precondition(const ProtobufCMessage *message, struct arena *arena, struct wire_error *error)
{
    const Google__Rpc__PreconditionFailure *failure = (const void *) message;
    const char **subjects;

    if (failure->n_violations == 0)
        return WIRE_OK;
    subjects = arena_alloc_array(arena, failure->n_violations, sizeof(*subjects));
    if (!subjects)
        return WIRE_TOO_BIG;
    for (size_t i = 0; i < failure->n_violations; i++)
        subjects[i] = failure->violations[i]->subject;
    error->precondition = failure->violations[0]->type;
    error->subjects = subjects;
    error->n_subjects = failure->n_violations;
    return WIRE_OK;
}

static const struct {
    const ProtobufCMessageDescriptor *type;
    read_detail_fn *read;
} detail_types[] = {
    { &google__rpc__error_info__descriptor, read_error_info },
    { &google__rpc__bad_request__descriptor, read_bad_request },
    { &google__rpc__quota_failure__descriptor, read_quota_failure },
    { &google__rpc__retry_info__descriptor, read_retry_info },
    { &google__rpc__request_info__descriptor, read_request_info },
    { &google__rpc__precondition_failure__descriptor, NULL }, /* read_precondition() */
};

static int
read_detail(const Google__Protobuf__Any *any, struct arena *arena, struct wire_error *error)
{
    const char *slash = strrchr(any->type_url, '/'); /* the prefix is any host's */

    for (size_t i = 0; slash && i < sizeof(detail_types) / sizeof(detail_types[0]); i++) {
        ProtobufCMessage *message;
        int r;

        if (strcmp(slash + 1, detail_types[i].type->name) != 0)
            continue;
        r = wire_unpack(detail_types[i].type, span_of(any->value.data, any->value.len), arena,
                        &message, NULL);
        if (r)
            return r;
        return detail_types[i].read ? detail_types[i].read(message, error)
                                    : read_precondition(message, arena, error);
    }
    return WIRE_OK;
}

int wire_error_unpack(struct span bytes, struct arena *arena, struct wire_error *ret)
{
    struct wire_error error = { 0 };
    const Google__Rpc__Status *status;
    ProtobufCMessage *message;
    int r;

    r = wire_unpack(&google__rpc__status__descriptor, bytes, arena, &message, NULL);
    if (r)
        return pass(r);
    status = (const Google__Rpc__Status *) message;
    error.code = status->code;
    error.message = status->message;
    for (size_t i = 0; i < status->n_details; i++) {
        r = read_detail(status->details[i], arena, &error);
        if (r)
            return pass(r);
    }
    *ret = error;
    return 0;
}
