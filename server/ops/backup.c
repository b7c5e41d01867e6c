/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/progress.h"
#include "common/base/text.h"
#include "common/json/json.h"
#include "server/audit/audit.h"
#include "server/ops/ops.h"
#include "server/pki/pki.h"
#include "server/settings.h"
#include "server/store/store.h"

static const char help[] =
    "Example:\n"
    "  sentinel-hub backup --to /backup/hub-2026-11-26\n"
    "\n"
    "Copies certificates, operators' identities and the database as it is at one moment, beside a\n"
    "running hub or without one. Agents go on and are acknowledged; the hub seals nothing "
    "meanwhile.\n"
    "What is called DIR in the end is whole: until then it is DIR.partial.\n"
    "The copy holds the keys of the certificate authority: keep it as you keep those.\n"
    "`sentinel-hub restore` brings it back. Exit codes: 5 another backup is under way; 6 "
    "something\n"
    "damaged was left out, and named.\n";

#define WAIT_US (INT64_C(120) * 1000000)

#define TELL_EVERY_US (INT64_C(200) * 1000)

struct backup {
    struct progress progress;
    bool tells; /* lines on stdout, for AdminService.Backup: "progress DONE ALL" */
    int64_t told_us;
};

static void on_progress(void *ctx, uint64_t done_bytes, uint64_t all_bytes)
{
    struct backup *backup = ctx;
    const int64_t now_us = clock_mono().us;

    progress_show(&backup->progress, done_bytes, all_bytes);
    if (!backup->tells || now_us - backup->told_us < TELL_EVERY_US)
        return;
    backup->told_us = now_us;
    printf("progress %" PRIu64 " %" PRIu64 "\n", done_bytes, all_bytes);
    fflush(stdout);
}

static void on_damage(void *ctx, const struct store_damage *damage)
{
    struct backup *backup = ctx;

    progress_end(&backup->progress);
    ops_refuse("backup", 0, "%s: %s", damage->path, damage->what);
}

static void print(const struct store_backup *done, bool is_json)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    char size[TEXT_SIZE_BYTES], time[TEXT_TIME_BYTES];
    struct json_writer writer;

    text_of_time((wall_us){ done->began_us }, time);
    if (!is_json) {
        printf("%s: %" PRIu64 " days, %" PRIu64
               " segments of the journal, %s; all that was acknowledged before %s\n",
               done->to, done->n_days, done->n_segments, text_of_size(done->n_bytes, size), time);
        return;
    }
    json_begin(&writer, &text, true);
    json_open_object(&writer);
    json_put_text(&writer, "to", done->to);
    json_put_text(&writer, "began", time);
    json_put_u64(&writer, "bytes", done->n_bytes);
    json_put_u64(&writer, "days", done->n_days);
    json_put_u64(&writer, "segments", done->n_segments);
    json_put_u64(&writer, "left_out", done->n_left_out);
    json_close_object(&writer);
    printf("%s\n", buf_text(&text));
}

static int exit_of(int r)
{
    switch (r) {
    case STORE_NOT_FOUND:
        return OPS_NOT_FOUND;
    case STORE_BUSY:
        return OPS_UNAVAILABLE;
    case STORE_UNFIT:
        return OPS_USAGE;
    default:
        return OPS_FAILED;
    }
}

/* Best effort: a full disk or a damaged database is when a backup is wanted most. */
static void put_entry(const char *state, const struct store_backup *done)
{
    CLEANUP(store_closep) struct store *store = NULL;
    CLEANUP(audit_closep) struct audit *audit = NULL;
    char bytes[24];
    const struct audit_field fields[] = { { "to", done->to }, { "bytes", bytes } };
    const struct audit_entry entry = {
        .event = AUDIT_BACKUP, .actor = ops_actor(), .fields = fields, .n_fields = 2
    };

    snprintf(bytes, sizeof(bytes), "%" PRIu64, done->n_bytes);
    if (ops_open_store("backup", state, &store) != 0 ||
        ops_open_audit("backup", state, store, &audit) != 0 || audit_put(audit, &entry) != 0)
        ops_refuse("backup", 0, "the backup was made, but the audit has no entry of it");
}

static int run(const char *state, const char *to, bool is_json, bool tells)
{
    static const char *const beside[] = { "certs", "operators", "audit", "revoked", NULL };
    struct backup backup = { .tells = tells };
    struct store_backup asked = {
        .state_directory = state,
        .beside = beside,
        .to = to,
        .wait_us = WAIT_US,
        .on_progress = on_progress,
        .on_damage = on_damage,
        .ctx = &backup,
    };
    struct store_why why = { "" };

    progress_begin(&backup.progress, "copying");
    int r = store_backup(&asked, &why);
    progress_end(&backup.progress);
    if (r > 0)
        return ops_refuse("backup", exit_of(r), "%s", why.text);
    if (r < 0)
        return ops_refuse("backup", OPS_FAILED, "no backup was made");
    put_entry(state, &asked);
    print(&asked, is_json);
    if (asked.n_left_out == 0)
        return OPS_OK;
    return ops_refuse("backup", OPS_PARTIAL,
                      "%" PRIu64 " damaged places were left out; the rest is there",
                      asked.n_left_out);
}

int ops_backup(int argc, char **argv)
{
    const char *state = NULL, *to = NULL;
    bool is_json = false, tells = false;
    const struct conf_option options[] = {
        { .flag = "--to",
          .metavar = "DIR",
          .value = &to,
          .help = "where the copy goes: not there yet, or empty" },
        { .flag = "--state-dir",
          .metavar = "DIR",
          .value = &state,
          .help = "the hub's; $STATE_DIRECTORY, else /var/lib/sentinel-hub" },
        { .flag = "--json", .is_set = &is_json, .help = "what was copied as one JSON object" },
        { .flag = "--progress",
          .is_set = &tells,
          .help = "lines on stdout before it: progress BYTES OF" },
        { .flag = NULL },
    };
    const struct ops_usage usage = { .command = "backup", .text = help, .options = options };
    struct conf_args args = { 0 };
    char directory[OPS_PATH_BYTES];

    int done = ops_parse(argc, argv, &usage, &args);
    if (done >= 0)
        return done;
    if (!to || !*to)
        return ops_refuse("backup", OPS_USAGE, "--to DIR is missing: where the copy goes");
    state = settings_state_directory(state);
    int exit_code = ops_database("backup", state, directory);
    return exit_code == OPS_OK ? run(state, to, is_json, tells) : exit_code;
}
