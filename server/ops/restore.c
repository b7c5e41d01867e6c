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
    "  sentinel-hub restore --from /backup/hub-2026-11-26 --state-dir /var/lib/sentinel-hub\n"
    "\n"
    "Makes a state directory of a backup: copies it, reads all of it as `verify` does, raises the\n"
    "registry's generation, and only then puts it in place. The directory must be empty, or not\n"
    "there yet. Run it as the user of the hub. Exit code 6: restored, with damage that is named.\n";

struct restore {
    struct progress progress;
    uint64_t generation;
    const struct store_restore *asked;
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

    (void) state_directory; /* the registry is the database alone */
    int r = store_state_change(store, put_entry, restore);
    return r != 0 ? r : pki_restored(store, &restore->generation);
}

static void print_json(const struct store_restore *done, uint64_t generation)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    char time[TEXT_TIME_BYTES];
    struct json_writer writer;

    json_begin(&writer, &text, true);
    json_open_object(&writer);
    json_put_text(&writer, "state_dir", done->to);
    json_put_text(&writer, "backup_began", text_of_time((wall_us){ done->began_us }, time));
    json_put_u64(&writer, "registry_generation", generation);
    json_put_u64(&writer, "n_damaged", done->found.n_damaged);
    ops_put_found(&writer, &done->found);
    json_close_object(&writer);
    printf("%s\n", buf_text(&text));
}

static void print(const struct store_restore *done, uint64_t generation)
{
    char time[TEXT_TIME_BYTES];

    ops_print_found(&done->found);
    printf("\nRestored to %s from a backup begun %s; the registry has generation %" PRIu64 ".\n",
           done->to, text_of_time((wall_us){ done->began_us }, time), generation);
    printf(
        "What agents sent after that is not here: they go on where they are, and what is\n"
        "missing in between is counted as lost.\n"
        "Enrolment tokens are void. For seven days, certificates that agents of this registry got\n"
        "after the backup are registered again when they come.\n"
        "Who was revoked after the backup is in the file `revoked` of the old state directory:\n"
        "copy it to %s/revoked before the start, or they are let in again.\n\n"
        "Next:\n"
        "  sentinel-hub run --state-dir %s\n",
        done->to, done->to);
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

static int run(const char *from, const char *to, bool is_json)
{
    struct restore restore = { .generation = 0 };
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
    progress_begin(&restore.progress, "restoring");
    int r = store_restore(&asked, &why);
    progress_end(&restore.progress);
    if (r > 0)
        return ops_refuse("restore", exit_of(r), "%s",
                          why.text[0] ? why.text : "nothing was restored");
    if (r < 0)
        return ops_refuse("restore", OPS_FAILED, "nothing was restored");
    if (is_json)
        print_json(&asked, restore.generation);
    else
        print(&asked, restore.generation);
    if (asked.found.n_damaged == 0)
        return OPS_OK;
    return ops_refuse("restore", OPS_PARTIAL,
                      "%" PRIu64 " places are damaged: the hub serves all but these",
                      asked.found.n_damaged);
}

int ops_restore(int argc, char **argv)
{
    const char *state = NULL, *from = NULL;
    bool is_json = false;
    const struct conf_option options[] = {
        { .flag = "--from", .metavar = "DIR", .value = &from, .help = "the backup" },
        { .flag = "--state-dir",
          .metavar = "DIR",
          .value = &state,
          .help = "what becomes the hub's: not there yet, or empty" },
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
    return run(from, state, is_json);
}
