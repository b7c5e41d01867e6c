/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Anchors: every ten minutes the head is signed, if there is anything new, and the signature is
 * kept where others see it: in the chain itself (audit.anchored), in the log, and with every agent
 * (Welcome). Who rewrites the chain needs the hub's key for the first, and all of the fleet for
 * the last.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/fault.h"
#include "common/base/text.h"
#include "common/log/log.h"
#include "server/audit/anchor.h"

#define ANCHOR_EVERY_US (INT64_C(600) * 1000000)

/* The head went on while it was signed: verify looks back so far at least. */
#define MAX_BEHIND (ANCHOR_LOOK_BACK / 2)
enum { TOO_LATE = STORE_OUTCOME_FREE };

struct anchoring {
    struct audit_anchor anchor;
    uint64_t number; /* of the entry */
};

static int put_anchor(struct store_change *change, void *ctx)
{
    CLEANUP(buf_deinit) struct buf value = { 0 };
    struct anchoring *anchoring = ctx;
    const struct audit_anchor *anchor = &anchoring->anchor;
    char number[24], time[24], sha256[65], signature[2 * AUDIT_SIGNATURE_BYTES + 1];
    const struct audit_field fields[] = {
        { "entry", number }, { "time_us", time }, { "sha256", sha256 }, { "signature", signature }
    };
    const struct audit_entry entry = {
        .event = AUDIT_ANCHOR, .actor = "hub", .fields = fields, .n_fields = 4
    };
    struct row_head head;
    int r = audit_head_in(change, &head);

    if (r != 0)
        return pass(r);
    if (head.number - anchor->entry > MAX_BEHIND)
        return TOO_LATE;
    anchoring->number = head.number + 1;
    snprintf(number, sizeof(number), "%" PRIu64, anchor->entry);
    snprintf(time, sizeof(time), "%" PRId64, anchor->time.us);
    text_of_hex(anchor->sha256, sizeof(anchor->sha256), sha256);
    text_of_hex(anchor->signature, anchor->n_signature, signature);
    row_anchor_write(anchor, &value);
    if (buf_failed(&value))
        return fault(-ENOMEM, "no memory for an anchor of the audit");
    const struct store_write write = { STORE_TABLE_AUDIT, span_of_text(row_anchor_key),
                                       buf_span(&value) };
    r = audit_put_in(change, &entry);
    return r != 0 ? pass(r) : pass(store_change_put(change, &write));
}

static int sign(struct audit *audit, struct audit_anchor *anchor)
{
    CLEANUP(buf_deinit) struct buf data = { 0 }, signature = { 0 };

    audit_anchor_signed_bytes(anchor, &data);
    if (buf_failed(&data))
        return fault(-ENOMEM, "no memory for an anchor of the audit");
    int r = audit->sign(audit->ctx, buf_span(&data), &signature);
    if (r != 0)
        return fold(r);
    if (buf_failed(&signature) || signature.len == 0 || signature.len > AUDIT_SIGNATURE_BYTES)
        return fault(-EINVAL, "a signature of %zu bytes", signature.len);
    memcpy(anchor->signature, signature.data, signature.len);
    anchor->n_signature = (uint32_t) signature.len;
    return 0;
}

static bool is_due(struct audit *audit, const struct row_head *head, wall_us now, bool is_last)
{
    bool is_due;

    pthread_mutex_lock(&audit->shared.lock);
    int64_t since_us = now.us - audit->shared.anchor.time.us;
    /* Nothing but the last anchor's own entry is no news. */
    is_due =
        !audit->shared.has_anchor || (head->number > audit->shared.anchored_at &&
                                      (is_last || since_us < 0 || since_us >= ANCHOR_EVERY_US));
    pthread_mutex_unlock(&audit->shared.lock);
    return is_due && head->number > 0;
}

static void keep(struct audit *audit, const struct anchoring *anchoring)
{
    const struct audit_anchor *anchor = &anchoring->anchor;
    char sha256[65], signature[2 * AUDIT_SIGNATURE_BYTES + 1];

    pthread_mutex_lock(&audit->shared.lock);
    audit->shared.has_anchor = true;
    audit->shared.anchor = *anchor;
    audit->shared.anchored_at = anchoring->number;
    pthread_mutex_unlock(&audit->shared.lock);
    text_of_hex(anchor->sha256, sizeof(anchor->sha256), sha256);
    text_of_hex(anchor->signature, anchor->n_signature, signature);
    log_event(LOG_INFO, "audit_anchor", LOG_U("entry", anchor->entry),
              LOG_I("time_us", anchor->time.us), LOG_S("sha256", sha256),
              LOG_S("signature", signature));
}

int anchor_make(struct audit *audit, wall_us now, bool is_last)
{
    struct anchoring anchoring = { .number = 0 };
    struct row_head head;
    int r;

    if (!audit->sign)
        return 0;
    do {
        r = audit_head(audit, &head);
        if (r != 0)
            return pass(r);
        if (!is_due(audit, &head, now, is_last))
            return 0;
        anchoring.anchor = (struct audit_anchor){ .time = now, .entry = head.number };
        memcpy(anchoring.anchor.sha256, head.sha256, sizeof(head.sha256));
        r = sign(audit, &anchoring.anchor);
        if (r != 0)
            return pass(r);
        r = store_state_change(audit->store, put_anchor, &anchoring);
    } while (r == TOO_LATE);
    if (r == STORE_FULL)
        return AUDIT_FULL;
    if (r == 0)
        keep(audit, &anchoring);
    return fold(r);
}

/* ---- reading one out of its entry ---- */

static const char *field(const struct audit_record *record, const char *key)
{
    for (size_t i = 0; i < record->n_fields; i++)
        if (strcmp(record->fields[i].key, key) == 0)
            return record->fields[i].value;
    return "";
}

bool anchor_of_record(const struct audit_record *record, struct audit_anchor *ret)
{
    struct audit_anchor anchor = { .n_signature = 0 };
    const char *signature = field(record, "signature");
    uint64_t time_us;
    size_t len = strlen(signature);

    if (text_to_u64(field(record, "entry"), &anchor.entry) != 0 ||
        text_to_u64(field(record, "time_us"), &time_us) != 0 || time_us > INT64_MAX ||
        text_to_hex(field(record, "sha256"), anchor.sha256, sizeof(anchor.sha256)) != 0 ||
        len % 2 != 0 || len / 2 > sizeof(anchor.signature) ||
        text_to_hex(signature, anchor.signature, len / 2) != 0)
        return false;
    anchor.time.us = (int64_t) time_us;
    anchor.n_signature = (uint32_t) (len / 2);
    *ret = anchor;
    return anchor.entry > 0;
}
