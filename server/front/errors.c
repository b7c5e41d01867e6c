/* SPDX-License-Identifier: Apache-2.0 */

/* The one table from outcomes to what a client sees. */

#include <stdarg.h>
#include <stdio.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/text.h"
#include "common/crypto/crypto.h"
#include "common/log/log.h"
#include "server/front/inside.h"

static const struct {
    int code;
    const char *reason;
    const char *message;
    uint32_t retry_ms;
} rows[N_FAILURES] = {
    [FAIL_FAULT] = { RPC_INTERNAL, "INTERNAL",
                     "something broke in the hub; its log has the reason under this correlation "
                     "id" },
    [FAIL_UNIMPLEMENTED] = { RPC_UNIMPLEMENTED, "NOT_IN_THIS_VERSION",
                             "this hub (" SENTINEL_VERSION ") does not have this method yet" },

    [FAIL_NO_CERTIFICATE] = { RPC_UNAUTHENTICATED, "CERTIFICATE_MISSING",
                              "this method needs a client certificate; enrol, or use an operator's "
                              "identity" },
    [FAIL_CERTIFICATE_UNKNOWN] = { RPC_UNAUTHENTICATED, "CERTIFICATE_UNKNOWN",
                                   "the registry does not know this certificate; enrol again" },
    [FAIL_CERTIFICATE_REVOKED] = { RPC_UNAUTHENTICATED, "CERTIFICATE_REVOKED",
                                   "this certificate was revoked; ask an operator to readmit" },
    [FAIL_CERTIFICATE_SUPERSEDED] = { RPC_UNAUTHENTICATED, "CERTIFICATE_SUPERSEDED",
                                      "this certificate was replaced by a newer one; use that" },
    [FAIL_CERTIFICATE_EXPIRED] = { RPC_UNAUTHENTICATED, "CERTIFICATE_EXPIRED",
                                   "this certificate has expired; renew it" },
    [FAIL_LINEAGE_FORKED] = { RPC_UNAUTHENTICATED, "LINEAGE_FORKED",
                              "two machines used this identity; both are stopped until an operator "
                              "says `sentinelctl agents readmit`" },
    [FAIL_BEARER_UNKNOWN] = { RPC_UNAUTHENTICATED, "BEARER_UNKNOWN",
                              "the hub does not know this bearer token; an admin makes one with "
                              "`sentinelctl bearers create`" },
    [FAIL_BEARER_EXPIRED] = { RPC_UNAUTHENTICATED, "BEARER_EXPIRED",
                              "this bearer token has expired; ask an admin for a new one" },
    [FAIL_BEARER_REVOKED] = { RPC_UNAUTHENTICATED, "BEARER_REVOKED",
                              "this bearer token was taken back; ask an admin for a new one" },
    [FAIL_SIGNATURE_INVALID] = { RPC_UNAUTHENTICATED, "SIGNATURE_INVALID",
                                 "the signature does not fit; check the key, the clock, and what "
                                 "is "
                                 "signed" },
    [FAIL_NO_AGENT_NAME] = { RPC_UNAUTHENTICATED, "AGENT_NAME_MISSING",
                             "in insecure mode an agent names itself in the header sentinel-agent "
                             "([a-z0-9][a-z0-9.-]{0,62})" },
    [FAIL_ROLE_MISSING] = { RPC_PERMISSION_DENIED, "ROLE_MISSING",
                            "this identity does not have the role that the method needs" },
    [FAIL_RATE_LIMITED] = { RPC_RESOURCE_EXHAUSTED, "RATE_LIMITED",
                            "too often in too short a time; try again later", 1000 },

    [FAIL_TOKEN_UNKNOWN] = { RPC_UNAUTHENTICATED, "TOKEN_UNKNOWN",
                             "the hub does not know this enrolment token; paste the whole string, "
                             "or "
                             "ask for a new one (sentinelctl tokens create)" },
    [FAIL_TOKEN_EXPIRED] = { RPC_UNAUTHENTICATED, "TOKEN_EXPIRED",
                             "this enrolment token has expired; ask for a new one (sentinelctl "
                             "tokens create)" },
    [FAIL_TOKEN_USED] = { RPC_UNAUTHENTICATED, "TOKEN_USED",
                          "this enrolment token was used up by another key; ask for a new one "
                          "(sentinelctl tokens create)" },
    [FAIL_TOKEN_REVOKED] = { RPC_UNAUTHENTICATED, "TOKEN_REVOKED",
                             "this enrolment token was taken back; ask for a new one" },
    [FAIL_ADDRESS_NOT_ALLOWED] = { RPC_PERMISSION_DENIED, "ADDRESS_NOT_ALLOWED",
                                   "not from this address; `sentinelctl agents allow` sets where "
                                   "an "
                                   "agent may come from, --addresses of tokens create where a "
                                   "token "
                                   "counts" },
    [FAIL_NAME_NOT_ALLOWED] = { RPC_PERMISSION_DENIED, "NAME_NOT_ALLOWED",
                                "this id cannot be had with this token; ask for another id, or for "
                                "a "
                                "token with --id or --replace" },
    [FAIL_CSR_INVALID] = { RPC_INVALID_ARGUMENT, "CSR_INVALID",
                           "this is no certificate request (PKCS#10, DER, P-256) that its own key "
                           "has signed" },
    [FAIL_CHAIN_UNTRUSTED] = { RPC_UNAUTHENTICATED, "CHAIN_UNTRUSTED",
                               "the chain does not lead to this hub's CA; enrol with a token" },
    [FAIL_GRACE_OVER] = { RPC_UNAUTHENTICATED, "GRACE_OVER",
                          "the certificate expired too long ago; an operator readmits the agent "
                          "(sentinelctl agents readmit), or makes a token" },
    [FAIL_REQUEST_LATE] = { RPC_ABORTED, "REQUEST_LATE", "the request did not come in time", 1000 },

    [FAIL_NO_IDENTITIES] = { RPC_FAILED_PRECONDITION, "INSECURE_MODE",
                             "this hub runs in insecure mode: it knows no identities" },
    [FAIL_REFUSED] = { RPC_FAILED_PRECONDITION, "REFUSED", "that cannot be done now" },
    [FAIL_EXISTS] = { RPC_ALREADY_EXISTS, "EXISTS", "there is one of this name already" },
    [FAIL_BACKUP_BUSY] = { RPC_UNAVAILABLE, "BACKUP_BUSY", "another backup is under way", 10000 },
    [FAIL_RELOAD] = { RPC_FAILED_PRECONDITION, "RELOAD_FAILED",
                      "the settings were not loaded; those from before count" },

    [FAIL_NO_REQUEST] = { RPC_INVALID_ARGUMENT, "REQUEST_MISSING",
                          "the call ended without a request message" },
    [FAIL_MALFORMED] = { RPC_INVALID_ARGUMENT, "MALFORMED", "the message cannot be decoded" },
    [FAIL_TOO_DEEP] = { RPC_INVALID_ARGUMENT, "TOO_DEEP", "the message is nested too deep" },
    [FAIL_TOO_BIG] = { RPC_RESOURCE_EXHAUSTED, "MESSAGE_ARENA",
                       "the message takes too much memory for its size; send smaller ones" },
    [FAIL_BAD_TEXT] = { RPC_INVALID_ARGUMENT, "BAD_TEXT", "text must be UTF-8" },
    [FAIL_MESSAGE_BYTES] = { RPC_RESOURCE_EXHAUSTED, "MESSAGE_BYTES",
                             "the message is larger than the hub takes; send smaller ones" },
    [FAIL_ARENA_BUDGET] = { RPC_RESOURCE_EXHAUSTED, "ARENA_BUDGET",
                            "the hub decodes too much at once; try again", 1000 },
    [FAIL_READERS_BUSY] = { RPC_RESOURCE_EXHAUSTED, "READERS_BUSY",
                            "too many questions wait for an answer; try again", 1000 },

    [FAIL_HELLO_EXPECTED] = { RPC_INVALID_ARGUMENT, "HELLO_EXPECTED",
                              "the first message of a stream is a hello" },
    [FAIL_HELLO_TWICE] = { RPC_INVALID_ARGUMENT, "HELLO_TWICE",
                           "a stream has one hello; open another stream" },
    [FAIL_MESSAGE_EMPTY] = { RPC_INVALID_ARGUMENT, "MESSAGE_EMPTY",
                             "the message is neither hello nor batch nor skip" },
    [FAIL_BAD_HELLO] = { RPC_INVALID_ARGUMENT, "BAD_HELLO", "the hello breaks a rule" },
    [FAIL_FORKED] = { RPC_FAILED_PRECONDITION, "SPOOL_FORKED",
                      "the agent's run does not continue the hub's" },
    [FAIL_TAKEN_OVER] = { RPC_ABORTED, "SPOOL_TAKEN_OVER", "a newer stream has this spool" },
    [FAIL_GAP] = { RPC_INVALID_ARGUMENT, "SEQUENCE_GAP",
                   "a sequence is missing; nothing of the batch is stored" },
    [FAIL_BAD_BATCH] = { RPC_INVALID_ARGUMENT, "BAD_BATCH",
                         "the batch breaks a rule; nothing of it is stored" },
    [FAIL_TIME_OUT_OF_RANGE] = { RPC_INVALID_ARGUMENT, "TIME_OUT_OF_RANGE",
                                 "a sample's time is out of range; nothing of the batch is "
                                 "stored" },
    [FAIL_LIMIT] = { RPC_RESOURCE_EXHAUSTED, "LIMIT",
                     "a limit is reached; nothing of the batch is stored" },
    [FAIL_FULL] = { RPC_RESOURCE_EXHAUSTED, "DISK_FULL",
                    "the hub's disk is full; nothing new is taken until space is freed", 10000 },
    [FAIL_STOPPING] = { RPC_UNAVAILABLE, "HUB_STOPPING", "the hub is stopping; connect again",
                        1000 },
    [FAIL_CLONED] = { RPC_ABORTED, "AGENT_ID_CLONED",
                      "another machine is connected with this agent id" },

    [FAIL_HEADER_EXPECTED] = { RPC_INVALID_ARGUMENT, "HEADER_EXPECTED",
                               "the first message of an upload is its header" },
    [FAIL_HEADER_TWICE] = { RPC_INVALID_ARGUMENT, "HEADER_TWICE",
                            "an upload has one header; open another call" },
    [FAIL_UPLOAD_EMPTY] = { RPC_INVALID_ARGUMENT, "MESSAGE_EMPTY",
                            "the message is neither header nor chunk nor end" },
    [FAIL_UPLOAD_UNFINISHED] = { RPC_INVALID_ARGUMENT, "UPLOAD_UNFINISHED",
                                 "the call ended without an end message; what is acknowledged "
                                 "stays, and the same id goes on with it" },
    [FAIL_BAD_UPLOAD] = { RPC_INVALID_ARGUMENT, "BAD_UPLOAD", "the upload breaks a rule" },
    [FAIL_UPLOAD_DIFFERS] = { RPC_INVALID_ARGUMENT, "UPLOAD_DIFFERS",
                              "the header contradicts the first one of this id" },
    [FAIL_UPLOAD_MISMATCH] = { RPC_INVALID_ARGUMENT, "UPLOAD_MISMATCH",
                               "what came is not what was announced; nothing is finished" },
    [FAIL_UPLOAD_LIMIT] = { RPC_RESOURCE_EXHAUSTED, "UPLOAD_LIMIT",
                            "a limit of uploads is reached" },
    [FAIL_UPLOADS_BUSY] = { RPC_RESOURCE_EXHAUSTED, "UPLOADS_BUSY",
                            "too many uploads at once; try again", 2000 },
    [FAIL_UPLOAD_TAKEN] = { RPC_ABORTED, "UPLOAD_TAKEN_OVER",
                            "a newer call goes on with this upload" },
    [FAIL_UPLOAD_INCOMPLETE] = { RPC_FAILED_PRECONDITION, "UPLOAD_INCOMPLETE",
                                 "not all of this upload is there yet; ask again when "
                                 "ListUploads says complete" },
    [FAIL_UPLOAD_DAMAGED] = { RPC_DATA_LOSS, "UPLOAD_DAMAGED",
                              "what is on the hub's disk is not what was uploaded; its log names "
                              "the place" },

    [FAIL_BAD_QUESTION] = { RPC_INVALID_ARGUMENT, "BAD_QUESTION",
                            "the request cannot be answered as it is" },
    [FAIL_NOT_FOUND] = { RPC_NOT_FOUND, "NOT_FOUND", "there is no such thing" },
    [FAIL_TOO_MUCH] = { RPC_RESOURCE_EXHAUSTED, "TOO_MUCH", "too much asked at once" },
    [FAIL_DAMAGED] = { RPC_DATA_LOSS, "DAMAGED", "what would answer is damaged on the hub's disk" },

    [FAIL_BAD_INVENTORY] = { RPC_INVALID_ARGUMENT, "BAD_INVENTORY",
                             "the inventory breaks a rule; nothing of it is stored" },
    [FAIL_INVENTORY_TIME] = { RPC_INVALID_ARGUMENT, "TIME_OUT_OF_RANGE",
                              "the inventory's time is out of range; nothing of it is stored" },
    [FAIL_INVENTORY_LIMIT] = { RPC_RESOURCE_EXHAUSTED, "LIMIT",
                               "a limit is reached; nothing of the inventory is stored" },
    [FAIL_INVENTORY_LACKS] = { RPC_FAILED_PRECONDITION, "INVENTORY_TABLES_MISSING",
                               "the hub lacks tables that the header names" },
    [FAIL_INVENTORY_BUSY] = { RPC_RESOURCE_EXHAUSTED, "INVENTORY_BUSY",
                              "too many inventories come at the same time; try again", 1000 },
    [FAIL_INVENTORY_TAKEN] = { RPC_ABORTED, "INVENTORY_TAKEN_OVER",
                               "a newer upload of this agent took its place" },
    [FAIL_INVENTORY_LATE] = { RPC_ABORTED, "INVENTORY_TOO_SLOW",
                              "the upload took too long; nothing of it is stored", 1000 },
};

const char *front_reason(enum front_failure failure)
{
    ensure(failure > FAIL_NOT && failure < N_FAILURES);
    return rows[failure].reason;
}

/* Names cut to fit may end within a character, and what is not UTF-8 makes the whole status
 * unreadable for a client. */
static void make_utf8(char *text)
{
    struct span rest = span_of_text(text);

    while (rest.len > 0) {
        uint32_t code;
        size_t len = text_utf8_next(rest, &code);

        if (len == 0)
            text[rest.data - (const uint8_t *) text] = '?';
        len += len == 0;
        rest = span_of(rest.data + len, rest.len - len);
    }
}

void front_describe(struct front_detail *detail, const char *field, const char *fmt, ...)
{
    va_list args;

    (void) snprintf(detail->field, sizeof(detail->field), "%s", field ? field : "");
    va_start(args, fmt);
    (void) vsnprintf(detail->description, sizeof(detail->description), fmt, args);
    va_end(args);
    make_utf8(detail->field);
    make_utf8(detail->description);
}

static const char *
compose(enum front_failure failure, const struct front_detail *detail, struct buf *to)
{
    buf_append_text(to, rows[failure].message);
    if (detail && detail->field[0])
        buf_printf(to, ": %s", detail->field);
    if (detail && detail->description[0])
        buf_printf(to, ": %s", detail->description);
    return buf_failed(to) ? rows[failure].message : buf_text(to);
}

static void log_fault(const struct rpc_call *call, const char *correlation, int r)
{
    log_event(LOG_ERROR, "call_failed", LOG_S("correlation", correlation),
              LOG_S("method", rpc_call_path(call)), LOG_S("peer", rpc_call_peer(call)),
              LOG_I("r", r));
}

/* cleanup for struct buf */
static void deinit(struct buf *buf)
{
    buf_deinit(buf);
}

void front_fail(struct rpc_call *call,
                enum front_failure failure,
                const struct front_detail *detail,
                int r)
{
    CLEANUP(deinit) struct buf text = { 0 };
    CLEANUP(deinit) struct buf details = { 0 };
    uint8_t id[8];
    char correlation[2 * sizeof(id) + 1];
    struct wire_error error = { 0 };
    struct rpc_status status = { 0 };
    bool is_bad_request;

    ensure(failure > FAIL_NOT && failure < N_FAILURES);
    is_bad_request = rows[failure].code == RPC_INVALID_ARGUMENT && detail && detail->field[0];
    error.code = rows[failure].code;
    error.message = compose(failure, failure == FAIL_FAULT ? NULL : detail, &text);
    error.reason = rows[failure].reason;
    error.retry_after_ms = detail && detail->retry_ms ? detail->retry_ms : rows[failure].retry_ms;
    if (detail && detail->correlation[0])
        error.correlation_id = detail->correlation;
    if (is_bad_request) {
        error.field = detail->field;
        error.field_description = detail->description;
    }
    if (detail && detail->quota) {
        error.quota = detail->quota;
        error.quota_description = detail->description;
    }
    if (detail && detail->n_subjects > 0) {
        error.precondition = detail->precondition;
        error.subjects = detail->subjects;
        error.n_subjects = detail->n_subjects;
    }
    if (failure == FAIL_FAULT) {
        if (!error.correlation_id) {
            crypto_random(id, sizeof(id));
            error.correlation_id = text_of_hex(id, sizeof(id), correlation);
        }
        log_fault(call, error.correlation_id, r);
        buf_printf(&text, " (%s)", error.correlation_id);
        error.message = buf_text(&text);
    }
    status.code = error.code;
    status.message = error.message;
    if (wire_error_pack(&error, &details) == 0 && !buf_failed(&details))
        status.details = buf_span(&details);
    /* To who may not any more goes nothing but that: no ack that waits behind a slow reader. */
    if (error.code == RPC_UNAUTHENTICATED || error.code == RPC_PERMISSION_DENIED)
        rpc_call_discard(call);
    rpc_call_finish(call, &status);
}

void front_finish_ok(struct rpc_call *call)
{
    rpc_call_finish(call, &(struct rpc_status){ .code = RPC_OK, .message = "" });
}

enum front_failure front_failure_of_ingest(int outcome)
{
    if (outcome < 0)
        return FAIL_FAULT;
    switch ((enum ingest_outcome) outcome) {
    case INGEST_OK:
        return FAIL_NOT;
    case INGEST_BAD_HELLO:
        return FAIL_BAD_HELLO;
    case INGEST_FORKED:
        return FAIL_FORKED;
    case INGEST_TAKEN_OVER:
        return FAIL_TAKEN_OVER;
    case INGEST_GAP:
        return FAIL_GAP;
    case INGEST_BAD_BATCH:
        return FAIL_BAD_BATCH;
    case INGEST_TIME_OUT_OF_RANGE:
        return FAIL_TIME_OUT_OF_RANGE;
    case INGEST_LIMIT:
        return FAIL_LIMIT;
    case INGEST_FULL:
        return FAIL_FULL;
    case INGEST_STOPPED:
        return FAIL_STOPPING;
    case INGEST_CLONED:
        return FAIL_CLONED;
    case INGEST_BAD_INVENTORY:
        return FAIL_BAD_INVENTORY;
    case INGEST_LACKS:
        return FAIL_INVENTORY_LACKS;
    case INGEST_BUSY:
        return FAIL_INVENTORY_BUSY;
    case INGEST_WAIT:
    case INGEST_FAULT:
    default:
        return FAIL_FAULT;
    }
}

enum front_failure front_failure_of_wire(int outcome,
                                         const struct wire_problem *problem,
                                         struct front_detail *ret_detail)
{
    if (outcome < 0)
        return FAIL_FAULT;
    front_describe(ret_detail, problem->field, "%s", problem->description);
    switch ((enum wire_outcome) outcome) {
    case WIRE_OK:
        return FAIL_NOT;
    case WIRE_MALFORMED:
        return FAIL_MALFORMED;
    case WIRE_TOO_DEEP:
        return FAIL_TOO_DEEP;
    case WIRE_TOO_BIG:
        ret_detail->quota = "message_arena";
        return FAIL_TOO_BIG;
    case WIRE_BAD_TEXT:
        return FAIL_BAD_TEXT;
    default:
        return FAIL_FAULT;
    }
}

enum front_failure front_failure_of_query(int outcome,
                                          const struct query_problem *problem,
                                          struct front_detail *ret_detail)
{
    if (outcome < 0)
        return FAIL_FAULT;
    front_describe(ret_detail, problem->field, "%s", problem->description);
    switch ((enum query_outcome) outcome) {
    case QUERY_OK:
        return FAIL_NOT;
    case QUERY_BUSY:
        return FAIL_READERS_BUSY;
    case QUERY_NOT_FOUND:
        return FAIL_NOT_FOUND;
    case QUERY_BAD:
        return FAIL_BAD_QUESTION;
    case QUERY_TOO_MUCH:
    case QUERY_UNWANTED: /* reaches nobody */
        return FAIL_TOO_MUCH;
    case QUERY_FULL:
        return FAIL_FULL;
    case QUERY_DAMAGED:
        return FAIL_DAMAGED;
    default:
        return FAIL_FAULT;
    }
}
