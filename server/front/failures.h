#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Private to server/front: every way a call of ours fails, and what a client is told of it. A part
 * of inside.h, which others include.
 */

#include "common/wire/wire.h"
#include "server/front/front.h"

/* Every way a call of ours fails; errors.c has the row for each. */
enum front_failure {
    FAIL_NOT = 0, /* all is well */
    FAIL_FAULT,   /* ours: INTERNAL and a correlation id */
    FAIL_UNIMPLEMENTED,
    /* who calls */
    FAIL_NO_CERTIFICATE,
    FAIL_CERTIFICATE_UNKNOWN,
    FAIL_CERTIFICATE_REVOKED,
    FAIL_CERTIFICATE_SUPERSEDED,
    FAIL_CERTIFICATE_EXPIRED,
    FAIL_LINEAGE_FORKED,
    FAIL_BEARER_UNKNOWN,
    FAIL_BEARER_EXPIRED,
    FAIL_BEARER_REVOKED,
    FAIL_SIGNATURE_INVALID,
    FAIL_NO_AGENT_NAME,
    FAIL_ROLE_MISSING,
    FAIL_RATE_LIMITED,
    /* enrolment: of enum pki_refusal */
    FAIL_TOKEN_UNKNOWN,
    FAIL_TOKEN_EXPIRED,
    FAIL_TOKEN_USED,
    FAIL_TOKEN_REVOKED,
    FAIL_ADDRESS_NOT_ALLOWED,
    FAIL_NAME_NOT_ALLOWED,
    FAIL_CSR_INVALID,
    FAIL_CHAIN_UNTRUSTED,
    FAIL_GRACE_OVER,
    FAIL_REQUEST_LATE,
    /* acts */
    FAIL_NO_IDENTITIES,
    FAIL_REFUSED,
    FAIL_EXISTS,
    FAIL_BACKUP_BUSY,
    FAIL_RELOAD,
    /* messages */
    FAIL_NO_REQUEST,
    FAIL_MALFORMED,
    FAIL_TOO_DEEP,
    FAIL_TOO_BIG,
    FAIL_BAD_TEXT,
    FAIL_MESSAGE_BYTES,
    FAIL_ARENA_BUDGET,
    FAIL_READERS_BUSY,
    /* the stream protocol */
    FAIL_HELLO_EXPECTED,
    FAIL_HELLO_TWICE,
    FAIL_MESSAGE_EMPTY,
    FAIL_BAD_HELLO,
    FAIL_FORKED,
    FAIL_TAKEN_OVER,
    FAIL_GAP,
    FAIL_BAD_BATCH,
    FAIL_TIME_OUT_OF_RANGE,
    FAIL_LIMIT,
    FAIL_FULL,
    FAIL_STOPPING,
    FAIL_CLONED,
    /* uploads */
    FAIL_HEADER_EXPECTED,
    FAIL_HEADER_TWICE,
    FAIL_UPLOAD_EMPTY,
    FAIL_UPLOAD_UNFINISHED,
    FAIL_BAD_UPLOAD,
    FAIL_UPLOAD_DIFFERS,
    FAIL_UPLOAD_MISMATCH,
    FAIL_UPLOAD_LIMIT,
    FAIL_UPLOADS_BUSY,
    FAIL_UPLOAD_TAKEN,
    FAIL_UPLOAD_INCOMPLETE,
    FAIL_UPLOAD_DAMAGED,
    /* questions */
    FAIL_BAD_QUESTION,
    FAIL_NOT_FOUND,
    FAIL_TOO_MUCH,
    FAIL_DAMAGED,
    /* inventories */
    FAIL_BAD_INVENTORY,
    FAIL_INVENTORY_TIME,
    FAIL_INVENTORY_LIMIT,
    FAIL_INVENTORY_LACKS,
    FAIL_INVENTORY_BUSY,
    FAIL_INVENTORY_TAKEN,
    FAIL_INVENTORY_LATE,
    N_FAILURES,
};

struct front_detail {
    char field[192];
    char description[320];
    const char *quota;    /* a literal; NULL: none */
    uint64_t retry_ms;    /* in place of the row's; 0: that */
    char correlation[17]; /* of the act, as the audit has it; empty: none */
    /* Of a FAILED_PRECONDITION: what is wanted, each of a kind; borrowed until front_fail(). */
    const char *precondition;
    const char *const *subjects;
    size_t n_subjects;
};

/* Ends the call with the failure's row; `detail` may be NULL. `r` is logged with a FAIL_FAULT. */
void front_fail(struct rpc_call *call,
                enum front_failure failure,
                const struct front_detail *detail,
                int r);
void front_finish_ok(struct rpc_call *call);
enum front_failure front_failure_of_ingest(int outcome);
enum front_failure front_failure_of_wire(int outcome,
                                         const struct wire_problem *problem,
                                         struct front_detail *ret_detail);
enum front_failure front_failure_of_query(int outcome,
                                          const struct query_problem *problem,
                                          struct front_detail *ret_detail);
void front_describe(struct front_detail *detail, const char *field, const char *fmt, ...)
    PRINTF_LIKE(3, 4);
