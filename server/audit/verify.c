/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Verify: from the oldest entry to the head. An entry is good when its number follows, it says the
 * hash of the one before, and it can be read; the last one's hash is the head's. That finds what
 * was changed, taken out or moved by somebody who did not write all that follows anew. Who did is
 * found by the anchors: those in the chain need the hub's key, those that agents and logs have
 * cannot be reached.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/fault.h"
#include "common/base/text.h"
#include "server/audit/anchor.h"
#include "server/audit/walk.h"

#define SCRATCH_BYTES (2 * (size_t) ROW_MAX_BYTES)

struct verifier {
    struct audit *audit;
    struct audit_anchor *anchors; /* from outside, and the newest of ours; by entry */
    size_t n_anchors, at;
    bool (*check)(void *ctx, struct span data, struct span signature);
    void *ctx;
    struct row_head head; /* as of the begin */
    struct row_dropped dropped;
    struct arena scratch;
    uint8_t last_sha256[32];
    uint8_t (*recent)[32]; /* hashes of the last ANCHOR_LOOK_BACK entries, by number */
    struct audit_verdict verdict;
};

static bool broken(struct verifier *verifier, uint64_t entry, const char *fmt, ...)
    PRINTF_LIKE(3, 4);
static bool broken(struct verifier *verifier, uint64_t entry, const char *fmt, ...)
{
    struct audit_verdict *verdict = &verifier->verdict;
    va_list args;

    if (verdict->bad_entry)
        return false;
    va_start(args, fmt);
    vsnprintf(verdict->why, sizeof(verdict->why), fmt, args);
    va_end(args);
    verdict->bad_entry = entry ? entry : 1;
    return false;
}

/* ---- anchors ---- */

static bool is_signed(struct verifier *verifier, const struct audit_anchor *anchor)
{
    CLEANUP(buf_deinit) struct buf data = { 0 };

    if (!verifier->check)
        return true;
    audit_anchor_signed_bytes(anchor, &data);
    return !buf_failed(&data) && verifier->check(verifier->ctx, buf_span(&data),
                                                 span_of(anchor->signature, anchor->n_signature));
}

static bool
compare(struct verifier *verifier, const struct audit_anchor *anchor, const uint8_t sha256[32])
{
    char time[TEXT_TIME_BYTES];

    if (memcmp(anchor->sha256, sha256, 32) != 0)
        return broken(verifier, anchor->entry,
                      "it is not the entry that was signed at %s: it, or one before it back to "
                      "entry %" PRIu64 ", was written anew",
                      text_of_time(anchor->time, time), verifier->verdict.anchored + 1);
    verifier->verdict.n_anchors++;
    if (anchor->entry > verifier->verdict.anchored)
        verifier->verdict.anchored = anchor->entry;
    return true;
}

/* The anchors from outside that are over this entry. */
static bool compare_given(struct verifier *verifier, const struct audit_record *record)
{
    while (verifier->at < verifier->n_anchors) {
        const struct audit_anchor *anchor = &verifier->anchors[verifier->at];

        if (anchor->entry > record->number)
            break;
        verifier->at++;
        /* One over an entry that the retention took says nothing any more. */
        if (anchor->entry == record->number && !compare(verifier, anchor, record->sha256))
            return false;
    }
    return true;
}

static bool check_anchor(struct verifier *verifier, const struct audit_record *record)
{
    struct audit_anchor anchor;

    if (!anchor_of_record(record, &anchor))
        return broken(verifier, record->number, "it is no anchor");
    if (anchor.entry >= record->number || record->number - anchor.entry > ANCHOR_LOOK_BACK)
        return broken(verifier, record->number, "it is an anchor of entry %" PRIu64 ", too far off",
                      anchor.entry);
    if (!is_signed(verifier, &anchor))
        return broken(verifier, anchor.entry,
                      "its signature in entry %" PRIu64 " is not the hub's: it, or one before it "
                      "back to entry %" PRIu64 ", was written anew",
                      record->number, verifier->verdict.anchored + 1);
    if (anchor.entry < verifier->verdict.first)
        return true;
    return compare(verifier, &anchor, verifier->recent[anchor.entry % ANCHOR_LOOK_BACK]);
}

/* ---- entries ---- */

static bool follows(struct verifier *verifier, const struct walk_row *row)
{
    static const uint8_t zero[32];
    struct audit_verdict *verdict = &verifier->verdict;
    struct row_frame frame;

    if (verdict->n_entries > 0 && row->number != verdict->last + 1)
        return broken(verifier, verdict->last + 1, "it is missing: entry %" PRIu64 " comes next",
                      row->number);
    if (!row_read_frame(row->value, &frame))
        return broken(verifier, row->number, "it cannot be read: it was changed");
    if (frame.number != row->number)
        return broken(verifier, row->number, "entry %" PRIu64 " lies in its place", frame.number);
    if (verdict->n_entries == 0)
        return row->number > 1 || memcmp(frame.before, zero, 32) == 0 ||
               broken(verifier, 1, "it is not the first entry: others were before it");
    if (memcmp(frame.before, verifier->last_sha256, 32) != 0)
        return broken(verifier, verdict->last,
                      "it was changed: entry %" PRIu64 " was written after something else",
                      row->number);
    return true;
}

static const char *field(const struct audit_record *record, const char *key)
{
    for (size_t i = 0; i < record->n_fields; i++)
        if (strcmp(record->fields[i].key, key) == 0)
            return record->fields[i].value;
    return "";
}

static bool verify_row(void *ctx, const struct walk_row *row)
{
    struct verifier *verifier = ctx;
    struct audit_verdict *verdict = &verifier->verdict;
    struct audit_record record;
    uint64_t last;

    if (row->number > verifier->head.number) /* written since */
        return false;
    if (!follows(verifier, row))
        return false;
    arena_reset(&verifier->scratch, SCRATCH_BYTES);
    if (!row_read(row->value, &verifier->scratch, &record))
        return broken(verifier, row->number, "it cannot be read: it was changed");
    if (verdict->n_entries++ == 0)
        verdict->first = row->number;
    verdict->last = row->number;
    memcpy(verifier->last_sha256, record.sha256, 32);
    memcpy(verifier->recent[row->number % ANCHOR_LOOK_BACK], record.sha256, 32);
    if (!compare_given(verifier, &record))
        return false;
    if (strcmp(record.code, audit_event_code(AUDIT_RETAINED_OUT)) == 0 &&
        text_to_u64(field(&record, "last"), &last) == 0 && last > verifier->dropped.last)
        verifier->dropped.last = last;
    return strcmp(record.code, audit_event_code(AUDIT_ANCHOR)) != 0 ||
           check_anchor(verifier, &record);
}

static bool verify_bad(void *ctx, uint32_t day, uint64_t entry, const char *why)
{
    char name[16];

    segment_name(day, name);
    return broken(ctx, entry, "%s (audit/%s)", why, name);
}

/* ---- both ends ---- */

static void check_ends(struct verifier *verifier)
{
    const struct audit_verdict *verdict = &verifier->verdict;
    const struct row_head *head = &verifier->head;
    const struct audit_anchor *newest =
        verifier->n_anchors > 0 ? &verifier->anchors[verifier->n_anchors - 1] : NULL;
    char time[TEXT_TIME_BYTES];

    if (verdict->bad_entry)
        return;
    if (verdict->last < head->number) {
        broken(verifier, verdict->last + 1,
               "it is missing: the head of the chain is entry %" PRIu64, head->number);
        return;
    }
    if (verdict->n_entries > 0 && memcmp(head->sha256, verifier->last_sha256, 32) != 0) {
        broken(verifier, verdict->last, "it was changed: the head of the chain has another hash");
        return;
    }
    if (verdict->n_entries > 0 && verdict->first > verifier->dropped.last + 1) {
        broken(verifier, verifier->dropped.last + 1,
               "it is missing: the first entry is %" PRIu64 ", and nothing in the chain says that "
               "those before it were taken by their age",
               verdict->first);
        return;
    }
    if (newest && newest->entry > verdict->last)
        broken(verifier, verdict->last + 1,
               "it is missing: entry %" PRIu64 " was signed at %s; the end was cut off, or the "
               "database comes from an older backup",
               newest->entry, text_of_time(newest->time, time));
}

static bool see_head(void *ctx, struct span key, struct span value)
{
    struct row_head head;
    bool *has_head = ctx;

    *has_head = span_equal(key, span_of_text(row_head_key)) && row_head_read(value, &head);
    return false;
}

/* Where entries are, their head is on record; without it an end that was cut off looks whole. */
static int check_head(struct verifier *verifier)
{
    bool has_head = false;
    int r = store_state_range(verifier->audit->store, STORE_TABLE_AUDIT, span_of_text(row_head_key),
                              false, see_head, &has_head);

    if (r == 0 && !has_head && verifier->verdict.last > 0)
        broken(verifier, verifier->verdict.last, "the head of the chain behind it is missing");
    return fold(r);
}

/* ---- the whole ---- */

static int compare_anchors(const void *a, const void *b)
{
    const struct audit_anchor *x = a, *y = b;

    return (x->entry > y->entry) - (x->entry < y->entry);
}

/* Those given that the hub signed, and the newest one on record. */
static int take_anchors(struct verifier *verifier, const struct audit_anchor *given, size_t n)
{
    struct audit_anchor newest;

    verifier->anchors = calloc(n + 1, sizeof(*verifier->anchors));
    verifier->recent = calloc(ANCHOR_LOOK_BACK, sizeof(*verifier->recent));
    if (!verifier->anchors || !verifier->recent)
        return fault(-ENOMEM, "no memory for %zu anchors", n);
    for (size_t i = 0; i < n; i++) {
        if (given[i].entry > 0 && (given[i].n_signature == 0 || is_signed(verifier, &given[i])))
            verifier->anchors[verifier->n_anchors++] = given[i];
        else
            verifier->verdict.n_anchors_refused++;
    }
    if (audit_get_anchor(verifier->audit, &newest) == 0 && is_signed(verifier, &newest))
        verifier->anchors[verifier->n_anchors++] = newest;
    qsort(verifier->anchors, verifier->n_anchors, sizeof(*verifier->anchors), compare_anchors);
    return 0;
}

static int verify(struct verifier *verifier, const struct audit_anchor *anchors, size_t n_anchors)
{
    struct walk walk = { .audit = verifier->audit,
                         .last_day = UINT32_MAX,
                         .from_us = INT64_MIN,
                         .to_us = INT64_MAX,
                         .on_row = verify_row,
                         .on_bad = verify_bad,
                         .ctx = verifier };
    /* The anchors first: an entry is written before it is signed. */
    int r = take_anchors(verifier, anchors, n_anchors);

    if (r == 0)
        r = audit_head(verifier->audit, &verifier->head);
    if (r == 0)
        r = walk_run(&walk);
    if (r != 0)
        return pass(r);
    verifier->verdict.n_days = walk.n_closed;
    check_ends(verifier);
    return pass(check_head(verifier));
}

int audit_verify(struct audit *audit,
                 const struct audit_anchor *anchors,
                 size_t n_anchors,
                 bool (*check)(void *ctx, struct span data, struct span signature),
                 void *ctx,
                 struct audit_verdict *ret)
{
    struct verifier verifier = { .audit = audit, .check = check, .ctx = ctx };

    arena_init(&verifier.scratch, SCRATCH_BYTES);
    int r = verify(&verifier, anchors, n_anchors);
    arena_deinit(&verifier.scratch);
    free(verifier.anchors);
    free(verifier.recent);
    if (r != 0)
        return pass(r);
    *ret = verifier.verdict;
    return ret->bad_entry ? AUDIT_BROKEN : AUDIT_OK;
}
