/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/base/arena.h"
#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/text.h"
#include "common/json/json.h"
#include "server/audit/audit.h"
#include "server/ops/audit_anchors.h"
#include "server/ops/ops.h"
#include "server/settings.h"
#include "server/store/store.h"

#define ARENA_BYTES ((size_t) 64 << 20)
#define ANCHORS_BYTES ((size_t) 64 << 20)
#define DEFAULT_ENTRIES 100
#define PAGE 1000

static const char help[] =
    "Examples:\n"
    "  sentinel-hub audit verify\n"
    "  sentinel-hub audit verify --anchors hub.log\n"
    "  sentinel-hub audit search 'token.*' --actor operator/anna --from -7d\n"
    "  sentinel-hub audit export --from 2026-11-01 > audit.jsonl\n"
    "\n"
    "The log of privileged acts, beside a running hub or without one. `verify` walks its chain "
    "from\n"
    "the oldest entry to the newest and names the entry where it was changed; --anchors compares\n"
    "what others keep of it too: lines of the hub's log (event=audit_anchor), or JSON of agents.\n"
    "`search` shows the newest entries that fit: an event's name or code with * and ?. `export`\n"
    "gives each entry as a line of JSON, the oldest first.\n"
    "Exit codes: 0, 1 the chain is broken, 3 nothing fits.\n";

struct audit_words {
    const char *state, *anchors, *actor, *source, *object, *from, *to, *limit;
    const char *event;
    bool is_json, only_failures, is_oldest_first;
};

/* ---- verify ---- */

static int read_anchors(const char *path, struct ops_anchors *ret)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    struct ops_anchors_why why;
    int r = file_read(path, ANCHORS_BYTES, &text);

    if (r != 0)
        return ops_refuse("audit", r == FILE_ABSENT ? OPS_NOT_FOUND : OPS_FAILED,
                          "--anchors: cannot read %s%s", path,
                          r == FILE_TOO_LARGE ? ": it has more than 64 MiB" : "");
    r = ops_anchors_read(buf_span(&text), ret, &why);
    if (r != 0)
        return ops_refuse("audit", OPS_USAGE, "--anchors: %s", r > 0 ? why.text : "out of memory");
    if (ret->n == 0)
        return ops_refuse("audit", OPS_USAGE, "--anchors: there is none in %s", path);
    return 0;
}

static void print_verdict(const struct audit_verdict *verdict, bool is_json)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    struct json_writer writer;

    if (!is_json) {
        if (verdict->bad_entry == 0)
            printf("whole: %" PRIu64 " entries (%" PRIu64 " to %" PRIu64 "), %" PRIu64
                   " anchors fit, %" PRIu64 " closed days\n",
                   verdict->n_entries, verdict->first, verdict->last, verdict->n_anchors,
                   verdict->n_days);
        return;
    }
    json_begin(&writer, &text, true);
    json_open_object(&writer);
    json_put_bool(&writer, "is_whole", verdict->bad_entry == 0);
    json_put_u64(&writer, "entries", verdict->n_entries);
    json_put_u64(&writer, "first", verdict->first);
    json_put_u64(&writer, "last", verdict->last);
    json_put_u64(&writer, "anchors", verdict->n_anchors);
    json_put_u64(&writer, "anchored", verdict->anchored);
    json_put_u64(&writer, "anchors_refused", verdict->n_anchors_refused);
    json_put_u64(&writer, "days", verdict->n_days);
    json_put_u64(&writer, "bad_entry", verdict->bad_entry);
    json_put_text(&writer, "why", verdict->why);
    json_close_object(&writer);
    printf("%s\n", buf_text(&text));
}

static int verify(struct store *store, struct audit *audit, const struct audit_words *words)
{
    CLEANUP(ops_anchors_deinit) struct ops_anchors anchors = { .n = 0 };
    struct audit_verdict verdict = { .n_entries = 0 };
    int done = words->anchors ? read_anchors(words->anchors, &anchors) : 0;

    if (done != 0)
        return done;
    struct ops_chain chain = {
        .store = store, .audit = audit, .anchors = anchors.anchors, .n_anchors = anchors.n
    };
    int r = ops_verify_chain(settings_state_directory(words->state), &chain, &verdict);
    if (r < 0)
        return ops_refuse("audit", OPS_FAILED, "not all could be read; nothing is said of it");
    print_verdict(&verdict, words->is_json);
    if (verdict.n_anchors_refused > 0)
        ops_refuse("audit", 0, "%" PRIu64 " of the anchors given are not signed by this hub",
                   verdict.n_anchors_refused);
    if (r == AUDIT_OK)
        return OPS_OK;
    return ops_refuse("audit", OPS_FAILED, "broken at entry %" PRIu64 ": %s", verdict.bad_entry,
                      verdict.why);
}

/* ---- search ---- */

/* TIME CODE EVENT ACTOR [from ADDRESS] [OBJECT] [key=value ...] */
static void print_line(const struct audit_record *record)
{
    CLEANUP(buf_deinit) struct buf line = { 0 }, shown = { 0 };
    char time[TEXT_TIME_BYTES];

    buf_printf(&line, "%s %s %s %s", text_of_time(record->time, time), record->code, record->event,
               record->actor);
    if (record->source[0])
        buf_printf(&line, " from %s", record->source);
    if (record->object[0])
        buf_printf(&line, " %s", record->object);
    for (size_t i = 0; i < record->n_fields; i++)
        buf_printf(&line, " %s=%s", record->fields[i].key, record->fields[i].value);
    text_append_printable(&shown, buf_span(&line));
    printf("%s\n", buf_text(&shown));
}

static void print_record(const struct audit_record *record, bool is_json)
{
    CLEANUP(buf_deinit) struct buf line = { 0 };

    if (!is_json) {
        print_line(record);
        return;
    }
    audit_record_print(record, &line);
    printf("%s\n", buf_text(&line));
}

static int read_range(const struct audit_words *words, wall_us *ret_from, wall_us *ret_to)
{
    const wall_us now = clock_wall();

    if (words->from && text_to_time(words->from, now, ret_from) != 0)
        return ops_refuse("audit", OPS_USAGE,
                          "--from: `%.64s` is no time; write -7d or 2026-11-01T10:00:00Z",
                          words->from);
    if (words->to && text_to_time(words->to, now, ret_to) != 0)
        return ops_refuse("audit", OPS_USAGE,
                          "--to: `%.64s` is no time; write -1h or 2026-11-01T10:00:00Z", words->to);
    return 0;
}

/* One page; *left goes down, `beyond` along. */
static int search_page(struct audit *audit,
                       struct audit_question *question,
                       const struct audit_words *words,
                       uint64_t *left,
                       bool *ret_has_more)
{
    CLEANUP(arena_deinit) struct arena arena;
    struct audit_record *found;
    size_t n;

    arena_init(&arena, ARENA_BYTES);
    question->limit = *left < PAGE ? (uint32_t) *left : PAGE;
    if (audit_find(audit, question, &arena, &found, &n, ret_has_more) != 0)
        return ops_refuse("audit", OPS_FAILED, "cannot read the audit");
    for (size_t i = 0; i < n; i++)
        print_record(&found[i], words->is_json);
    if (n > 0)
        question->beyond = found[n - 1].number;
    *left -= n;
    return 0;
}

static int search(struct audit *audit, const struct audit_words *words)
{
    struct audit_question question = { .event = words->event,
                                       .actor = words->actor,
                                       .source = words->source,
                                       .object = words->object,
                                       .failures_only = words->only_failures,
                                       .is_oldest_first = words->is_oldest_first };
    uint64_t wanted = DEFAULT_ENTRIES, left;
    bool has_more = true;
    int done = read_range(words, &question.from, &question.to);

    if (done == 0 && words->limit &&
        (text_to_u64(words->limit, &wanted) != 0 || wanted == 0 || wanted > UINT32_MAX))
        done = ops_refuse("audit", OPS_USAGE, "--limit: 1 to %u", UINT32_MAX);
    left = wanted;
    while (done == 0 && has_more && left > 0)
        done = search_page(audit, &question, words, &left, &has_more);
    if (done != 0)
        return done;
    if (left == wanted)
        return ops_refuse("audit", OPS_NOT_FOUND, "no entry fits");
    if (has_more)
        ops_refuse("audit", 0, "there are more; --limit N shows N");
    return OPS_OK;
}

/* ---- export ---- */

static bool print_export(void *ctx, struct span line)
{
    bool *has_failed = ctx;

    *has_failed = fwrite(line.data, 1, line.len, stdout) != line.len || putchar('\n') == EOF;
    return !*has_failed;
}

static int export(struct audit *audit, const struct audit_words *words)
{
    wall_us from = { 0 }, to = { 0 };
    bool has_failed = false;
    int done = read_range(words, &from, &to);

    if (done != 0)
        return done;
    if (audit_export(audit, from, to, print_export, &has_failed) != 0)
        return ops_refuse("audit", OPS_FAILED, "cannot read the audit");
    return has_failed ? ops_refuse("audit", OPS_FAILED, "cannot write to stdout") : OPS_OK;
}

/* ---- the command ---- */

static int run(const char *what, const struct audit_words *words)
{
    CLEANUP(store_closep) struct store *store = NULL;
    CLEANUP(audit_closep) struct audit *audit = NULL;
    const char *state = settings_state_directory(words->state);
    int done = ops_open_store("audit", state, &store);

    if (done == 0)
        done = ops_open_audit("audit", state, store, &audit);
    if (done != 0)
        return done;
    if (strcmp(what, "verify") == 0)
        return verify(store, audit, words);
    if (strcmp(what, "search") == 0)
        return search(audit, words);
    return export(audit, words);
}

static bool is_known(const char *word)
{
    return strcmp(word, "verify") == 0 || strcmp(word, "search") == 0 ||
           strcmp(word, "export") == 0;
}

int ops_audit(int argc, char **argv)
{
    struct audit_words words = { .state = NULL };
    const struct conf_option options[] = {
        { .flag = "--state-dir",
          .metavar = "DIR",
          .value = &words.state,
          .help = "the hub's; $STATE_DIRECTORY, else /var/lib/sentinel-hub" },
        { .flag = "--anchors", .metavar = "FILE", .value = &words.anchors, .help = "verify" },
        { .flag = "--actor", .metavar = "PATTERN", .value = &words.actor, .help = "search" },
        { .flag = "--address", .metavar = "PATTERN", .value = &words.source, .help = "search" },
        { .flag = "--object", .metavar = "PATTERN", .value = &words.object, .help = "search" },
        { .flag = "--failures", .is_set = &words.only_failures, .help = "search" },
        { .flag = "--oldest-first", .is_set = &words.is_oldest_first, .help = "search" },
        { .flag = "--limit", .metavar = "N", .value = &words.limit, .help = "search; 100" },
        { .flag = "--from", .metavar = "TIME", .value = &words.from, .help = "search, export" },
        { .flag = "--to", .metavar = "TIME", .value = &words.to, .help = "search, export" },
        { .flag = "--json", .is_set = &words.is_json, .help = "verify, search: as JSON" },
        { .flag = NULL },
    };
    const struct ops_usage usage = { .command = "audit",
                                     .words = "verify|search|export [EVENT]",
                                     .text = help,
                                     .options = options,
                                     .min_words = 1,
                                     .max_words = 2 };
    struct conf_args args = { 0 };

    int done = ops_parse(argc, argv, &usage, &args);
    if (done >= 0)
        return done;
    if (!is_known(args.rest[0]) || (args.n_rest > 1 && strcmp(args.rest[0], "search") != 0))
        return ops_refuse("audit", OPS_USAGE, "it takes: verify, search [EVENT] or export");
    words.event = args.n_rest > 1 ? args.rest[1] : NULL;
    return run(args.rest[0], &words);
}
