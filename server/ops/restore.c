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
#include "server/store/store.h"

static const char help[] =
    "Example:\n"
    "  sentinel-hub restore --from /backup/hub-2026-11-26 --state-dir /var/lib/sentinel-hub \\\n"
    "      --revoked /var/lib/sentinel-hub.old/revoked\n"
    "\n"
    "Makes a state directory of a backup: copies it, reads all of it as `verify` does, raises the\n"
    "registry's generation, and only then puts it in place. The directory must be empty, or not\n"
    "there yet. Run it as the user of the hub. Exit code 6: restored, with damage that is named.\n";

struct restore {
    struct progress progress;
    uint64_t generation;
    const struct store_restore *asked;
    const char *revoked; /* the old hub's list; NULL: none is named */
    size_t n_revoked;    /* revocations of it that were news */
    struct tls_why why;  /* what is wrong with it */
};

static void on_progress(void *ctx, uint64_t done_bytes, uint64_t all_bytes)
{
    struct restore *restore = ctx;

    progress_show(&restore->progress, done_bytes, all_bytes);
}

static void on_damage(void *ctx, const struct store_damage *damage)
{
    struct restore *restore = ctx;

    progress_end(&restore->progress);
    ops_refuse("restore", 0, "damaged: %s: %s: %s", damage->path, damage->key, damage->what);
}

static int put_entry(struct store_change *change, void *ctx)
{
    const struct restore *restore = ctx;
    char began[TEXT_TIME_BYTES];
    const struct audit_field fields[] = {
        { "from", restore->asked->from },
        { "backup_began", text_of_time((wall_us){ restore->asked->began_us }, began) },
    };
    const struct audit_entry entry = {
        .event = AUDIT_RESTORED, .actor = ops_actor(), .fields = fields, .n_fields = 2
    };

    return audit_put_in(change, &entry);
}

static int on_copied(void *ctx, struct store *store, const char *state_directory)
{
    struct restore *restore = ctx;

    int r = 0;

    if (restore->revoked)
        r = pki_revoked_import(state_directory, restore->revoked, &restore->n_revoked,
                               &restore->why);
    if (r > 0)
        return STORE_UNFIT;
    if (r == 0)
        r = store_state_change(store, put_entry, restore);
    return r != 0 ? r : pki_restored(store, &restore->generation);
}

static void print_json(const struct restore *restore, const struct store_restore *done)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    char time[TEXT_TIME_BYTES];
    struct json_writer writer;

    json_begin(&writer, &text, true);
    json_open_object(&writer);
    json_put_text(&writer, "state_dir", done->to);
    json_put_text(&writer, "backup_began", text_of_time((wall_us){ done->began_us }, time));
    json_put_u64(&writer, "registry_generation", restore->generation);
    if (restore->revoked)
        json_put_u64(&writer, "n_revocations_merged", restore->n_revoked);
    json_put_u64(&writer, "n_damaged", done->found.n_damaged);
    ops_put_found(&writer, &done->found);
    json_close_object(&writer);
    printf("%s\n", buf_text(&text));
}

static void print_revoked(const struct restore *restore, const char *to)
{
    if (restore->revoked)
        printf("%zu revocations of %s that the backup does not know count from the first start "
               "on.\n\n",
               restore->n_revoked, restore->revoked);
    else
        printf(
            "Who was revoked after the backup is in the file `revoked` of the old state directory\n"
            "(/var/lib/sentinel-hub/revoked as a rule). Restore with --revoked FILE, or copy it "
            "to\n"
            "%s/revoked before the start: else they are let in again.\n\n",
            to);
}

static void print(const struct restore *restore, const struct store_restore *done)
{
    char time[TEXT_TIME_BYTES];

    ops_print_found(&done->found);
    printf("\nRestored to %s from a backup begun %s; the registry has generation %" PRIu64 ".\n",
           done->to, text_of_time((wall_us){ done->began_us }, time), restore->generation);
    printf(
        "What agents sent after that is not here: they go on where they are, and what is\n"
        "missing in between is counted as lost.\n"
        "Enrolment tokens are void. For seven days, certificates that agents of this registry got\n"
        "after the backup are registered again when they come.\n");
    print_revoked(restore, done->to);
    printf("Next:\n"
           "  sentinel-hub run --state-dir %s\n",
           done->to);
}

static int exit_of(int r)
{
    switch (r) {
    case STORE_NOT_FOUND:
        return OPS_NOT_FOUND;
    case STORE_UNFIT:
        return OPS_USAGE;
    default:
        return OPS_FAILED;
    }
}

static int run(const char *from, const char *to, const char *revoked, bool is_json)
{
    struct restore restore = { .revoked = revoked };
    struct store_restore asked = {
        .from = from,
        .to = to,
        .check_row = ops_check_row,
        .on_copied = on_copied,
        .on_progress = on_progress,
        .on_damage = on_damage,
        .ctx = &restore,
    };
    struct store_why why = { "" };

    restore.asked = &asked;
    /* Before hours of copying, not after them. */
    int r = revoked ? pki_revoked_look(revoked, &restore.why) : 0;
    if (restore.why.text[0])
        return ops_refuse("restore", OPS_USAGE, "%s", restore.why.text);
    if (r != 0)
        return ops_refuse("restore", OPS_FAILED, "%s cannot be read; nothing was restored",
                          revoked);
    progress_begin(&restore.progress, "restoring");
    r = store_restore(&asked, &why);
    progress_end(&restore.progress);
    if (restore.why.text[0])
        return ops_refuse("restore", OPS_USAGE, "%s", restore.why.text);
    if (r > 0)
        return ops_refuse("restore", exit_of(r), "%s",
                          why.text[0] ? why.text : "nothing was restored");
    if (r < 0)
        return ops_refuse("restore", OPS_FAILED, "nothing was restored");
    if (is_json)
        print_json(&restore, &asked);
    else
        print(&restore, &asked);
    if (asked.found.n_damaged == 0)
        return OPS_OK;
    return ops_refuse("restore", OPS_PARTIAL,
                      "%" PRIu64 " places are damaged: the hub serves all but these",
                      asked.found.n_damaged);
}

int ops_restore(int argc, char **argv)
{
    const char *state = NULL, *from = NULL, *revoked = NULL;
    bool is_json = false;
    const struct conf_option options[] = {
        { .flag = "--from", .metavar = "DIR", .value = &from, .help = "the backup" },
        { .flag = "--state-dir",
          .metavar = "DIR",
          .value = &state,
          .help = "what becomes the hub's: not there yet, or empty" },
        { .flag = "--revoked",
          .metavar = "FILE",
          .value = &revoked,
          .help =
              "of the old hub: who was revoked since the backup; <its state directory>/revoked" },
        { .flag = "--json", .is_set = &is_json, .help = "what was restored as one JSON object" },
        { .flag = NULL },
    };
    const struct ops_usage usage = { .command = "restore", .text = help, .options = options };
    struct conf_args args = { 0 };

    int done = ops_parse(argc, argv, &usage, &args);
    if (done >= 0)
        return done;
    if (!from || !*from)
        return ops_refuse("restore", OPS_USAGE, "--from DIR is missing: the backup");
    if (!state || !*state)
        return ops_refuse("restore", OPS_USAGE,
                          "--state-dir DIR is missing: where the hub will find it");
    return run(from, state, revoked, is_json);
}
