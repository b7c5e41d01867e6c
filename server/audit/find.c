/* SPDX-License-Identifier: Apache-2.0 */

/* What is asked of the chain: a page of what fits, all of a range as JSON. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/base/fault.h"
#include "common/base/text.h"
#include "common/json/json.h"
#include "common/log/log.h"
#include "server/audit/walk.h"

#define DEFAULT_LIMIT 100

/* The first row has room for every entry, read and as it is. */
#define SCRATCH_BYTES (4 * (size_t) ROW_MAX_BYTES)

static bool fits(const char *pattern, const char *text)
{
    return !pattern || !pattern[0] || text_matches(pattern, text);
}

static bool is_asked(const struct audit_question *question, const struct audit_record *record)
{
    return record->time.us >= question->from.us &&
           (question->to.us == 0 || record->time.us <= question->to.us) &&
           (!question->failures_only || record->is_failure) &&
           (fits(question->event, record->event) || fits(question->event, record->code)) &&
           fits(question->actor, record->actor) && fits(question->source, record->source) &&
           fits(question->object, record->object);
}

/*
 * The days that may have entries of these times. A note is written a moment after its time, maybe
 * on the next day; where the clock went back further, the head says up to where that matters.
 */
static int days_of(struct audit *audit, wall_us from, wall_us to, struct walk *walk)
{
    struct row_head head;
    int r = audit_head(audit, &head);

    if (r != 0)
        return pass(r);
    walk->from_us = from.us;
    walk->to_us = to.us == 0 ? INT64_MAX : to.us;
    walk->first_day = row_day_of(from.us);
    walk->last_day = to.us == 0 ? UINT32_MAX : row_day_of(to.us) + 1;
    if (walk->last_day < head.late_day)
        walk->last_day = head.late_day;
    return 0;
}

static bool say_bad(void *ctx, uint32_t day, uint64_t entry, const char *why)
{
    char name[16];

    (void) ctx;
    segment_name(day, name);
    log_event(LOG_WARN, "audit_damaged", LOG_S("day", name), LOG_U("entry", entry),
              LOG_S("reason", why));
    return true;
}

/* ---- a page ---- */

struct finding {
    const struct audit_question *question;
    struct arena *arena;
    struct arena *scratch;
    struct audit_record *found;
    size_t n, limit;
    bool has_more, is_exhausted;
};

static bool find_row(void *ctx, const struct walk_row *row)
{
    struct finding *finding = ctx;
    struct audit_record record;

    arena_reset(finding->scratch, SCRATCH_BYTES);
    if (!row_read(row->value, finding->scratch, &record) || !is_asked(finding->question, &record))
        return true;
    /* There is one more: the page ends before it. */
    if (finding->n >= finding->limit) {
        finding->has_more = true;
        return false;
    }
    if (!row_read(row->value, finding->arena, &finding->found[finding->n])) {
        finding->is_exhausted = finding->n == 0;
        finding->has_more = true;
        return false;
    }
    finding->n++;
    return true;
}

int audit_find(struct audit *audit,
               const struct audit_question *question,
               struct arena *arena,
               struct audit_record **ret,
               size_t *ret_n,
               bool *ret_has_more)
{
    CLEANUP(arena_deinit) struct arena scratch;
    struct finding finding = { .question = question, .arena = arena, .scratch = &scratch };
    struct walk walk = { .audit = audit,
                         .is_backwards = !question->is_oldest_first,
                         .beyond = question->beyond,
                         .on_row = find_row,
                         .on_bad = say_bad,
                         .ctx = &finding };

    arena_init(&scratch, SCRATCH_BYTES);
    finding.limit = question->limit ? question->limit : DEFAULT_LIMIT;
    finding.found = arena_alloc_array(arena, finding.limit, sizeof(*finding.found));
    if (!finding.found)
        return fault(-ENOMEM, "no room for a page of %zu entries", finding.limit);
    int r = days_of(audit, question->from, question->to, &walk);
    if (r == 0)
        r = walk_run(&walk);
    if (r == 0 && finding.is_exhausted)
        r = fault(-ENOMEM, "no room for an entry of the audit");
    if (r != 0)
        return fold(r);
    *ret = finding.found;
    *ret_n = finding.n;
    *ret_has_more = finding.has_more;
    return 0;
}

/* ---- as JSON ---- */

/* With microseconds, which text_of_time() has not. */
static void put_time(struct json_writer *writer, const char *key, wall_us time)
{
    char text[TEXT_TIME_BYTES + 8];
    size_t len;

    text_of_time(time, text);
    len = strlen(text); /* ends in a digit of milliseconds and Z */
    int64_t us = time.us % 1000;
    snprintf(text + len - 1, 8, "%03uZ", (unsigned) (us < 0 ? us + 1000 : us));
    json_put_text(writer, key, text);
}

static void put_hash(struct json_writer *writer, const char *key, const uint8_t sha256[32])
{
    char hex[65];

    json_put_text(writer, key, text_of_hex(sha256, 32, hex));
}

static void put_text(struct json_writer *writer, const char *key, const char *text)
{
    if (text[0])
        json_put_text(writer, key, text);
}

void audit_record_print(const struct audit_record *record, struct buf *to)
{
    struct json_writer writer;

    json_begin(&writer, to, false);
    json_open_object(&writer);
    json_put_u64(&writer, "number", record->number);
    put_time(&writer, "time", record->time);
    json_put_text(&writer, "event", record->event);
    json_put_text(&writer, "code", record->code);
    json_put_text(&writer, "result", record->is_failure ? "refused" : "ok");
    put_text(&writer, "actor", record->actor);
    put_text(&writer, "address", record->source);
    put_text(&writer, "object", record->object);
    put_text(&writer, "correlation_id", record->correlation);
    if (record->n_fields > 0) {
        json_key(&writer, "fields");
        json_open_object(&writer);
        for (size_t i = 0; i < record->n_fields; i++)
            json_put_text(&writer, record->fields[i].key, record->fields[i].value);
        json_close_object(&writer);
    }
    put_hash(&writer, "sha256", record->sha256);
    put_hash(&writer, "previous_sha256", record->sha256_before);
    json_close_object(&writer);
}

struct exporting {
    wall_us from, to;
    struct arena *scratch;
    struct buf line;
    bool (*fn)(void *ctx, struct span line);
    void *ctx;
    bool has_failed;
};

static bool export_line(struct exporting *exporting)
{
    if (buf_failed(&exporting->line)) {
        exporting->has_failed = true;
        return false;
    }
    bool goes_on = exporting->fn(exporting->ctx, buf_span(&exporting->line));
    buf_clear(&exporting->line);
    return goes_on;
}

/* What cannot be read is a line too: a SIEM shall not miss it. */
static bool export_bad(void *ctx, uint32_t day, uint64_t entry, const char *why)
{
    struct exporting *exporting = ctx;
    struct json_writer writer;
    char name[16];

    segment_name(day, name);
    json_begin(&writer, &exporting->line, false);
    json_open_object(&writer);
    json_put_u64(&writer, "damaged_from", entry);
    json_put_text(&writer, "day", name);
    json_put_text(&writer, "reason", why);
    json_close_object(&writer);
    return export_line(exporting);
}

static bool export_row(void *ctx, const struct walk_row *row)
{
    struct exporting *exporting = ctx;
    struct audit_record record;

    arena_reset(exporting->scratch, SCRATCH_BYTES);
    if (!row_read(row->value, exporting->scratch, &record))
        return export_bad(ctx, row->day, row->number, "the entry cannot be read");
    if (record.time.us < exporting->from.us ||
        (exporting->to.us != 0 && record.time.us > exporting->to.us))
        return true;
    audit_record_print(&record, &exporting->line);
    return export_line(exporting);
}

int audit_export(struct audit *audit,
                 wall_us from,
                 wall_us to,
                 bool (*fn)(void *ctx, struct span line),
                 void *ctx)
{
    CLEANUP(arena_deinit) struct arena scratch;
    struct exporting exporting = {
        .from = from, .to = to, .scratch = &scratch, .fn = fn, .ctx = ctx
    };
    struct walk walk = {
        .audit = audit, .on_row = export_row, .on_bad = export_bad, .ctx = &exporting
    };

    arena_init(&scratch, SCRATCH_BYTES);
    int r = days_of(audit, from, to, &walk);
    if (r == 0)
        r = walk_run(&walk);
    if (r == 0 && exporting.has_failed)
        r = fault(-ENOMEM, "no memory for a line of the audit");
    buf_deinit(&exporting.line);
    return fold(r);
}
