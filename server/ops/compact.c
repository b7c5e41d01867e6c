/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

#include "common/base/buf.h"
#include "common/base/progress.h"
#include "common/base/text.h"
#include "common/json/json.h"
#include "server/ops/ops.h"
#include "server/settings.h"
#include "server/store/store.h"

static const char help[] =
    "Example:\n"
    "  systemctl stop sentinel-hub && sentinel-hub compact\n"
    "\n"
    "Seals what is in the journal, makes large blocks of small ones and writes the days' files\n"
    "without free pages. The hub does all that by itself each hour; this is for who needs the "
    "room\n"
    "now, or a small copy. The hub must be stopped. Exit code 5: it runs.\n";

#define SEGMENT_BYTES                                                           \
    (UINT64_C(256) << 20) /* opened with; journal.segment_size of the hub stays \
                           */

struct compact {
    struct store *store;
    int r;
    _Atomic bool is_done;
};

static void *compact_main(void *arg)
{
    struct compact *compact = arg;

    compact->r = store_compact(compact->store);
    atomic_store(&compact->is_done, true);
    return NULL;
}

static void show(struct progress *progress, struct store *store)
{
    char text[160], days[TEXT_SIZE_BYTES], journal[TEXT_SIZE_BYTES];
    struct store_stats stats;

    if (!progress->is_terminal)
        return;
    store_get_stats(store, &stats);
    snprintf(text, sizeof(text), "%" PRIu64 " blocks made; days %s, journal %s",
             stats.n_sealed_blocks + stats.n_compacted + stats.n_sealed_log_blocks +
                 stats.n_logs_compacted,
             text_of_size(stats.day_bytes + stats.log_day_bytes, days),
             text_of_size(stats.journal_bytes, journal));
    progress_say(progress, text);
}

/* The work is the sealer's; this waits for it. Outcomes: as store_compact(). */
static int wait_for(struct store *store)
{
    struct compact compact = { .store = store };
    struct progress progress;
    pthread_t thread;

    if (pthread_create(&thread, NULL, compact_main, &compact))
        return store_compact(store);
    progress_begin(&progress, "compacting:");
    while (progress.is_terminal && !atomic_load(&compact.is_done)) {
        const struct timespec pause = { .tv_nsec = 100000000 };

        show(&progress, store);
        nanosleep(&pause, NULL);
    }
    pthread_join(thread, NULL);
    progress_end(&progress);
    return compact.r;
}

static int open_it(const char *directory, struct store **ret)
{
    const struct store_options options = { .directory = directory,
                                           .segment_bytes = SEGMENT_BYTES,
                                           .queue_bytes = 1 << 20,
                                           .full_percent = 100 };
    struct store_why why = { "" };
    int r = store_open(ret, &options, &why);

    switch (r) {
    case 0:
        return OPS_OK;
    case STORE_NOT_FOUND:
        return ops_refuse("compact", OPS_NOT_FOUND, "%s", why.text);
    case STORE_LOCKED:
        return ops_refuse("compact", OPS_UNAVAILABLE,
                          "a hub works with %s: it compacts by itself each hour; stop it to do it "
                          "now",
                          directory);
    default:
        return ops_refuse("compact", OPS_FAILED, "%s",
                          r > 0 ? why.text : "the database cannot be opened");
    }
}

static int survey(const char *directory, struct store_found *ret)
{
    struct store_survey survey = { .directory = directory };
    struct store_why why = { "" };
    int r = store_survey(&survey, &why);

    if (r)
        return ops_refuse("compact", r == STORE_NOT_FOUND ? OPS_NOT_FOUND : OPS_FAILED, "%s",
                          r > 0 ? why.text : "the database cannot be read");
    *ret = survey.found;
    return OPS_OK;
}

static int compact(const char *directory)
{
    CLEANUP(store_closep) struct store *store = NULL;
    int exit_code = open_it(directory, &store);

    if (exit_code != OPS_OK)
        return exit_code;
    switch (wait_for(store)) {
    case 0:
        return OPS_OK;
    case STORE_FULL:
        return ops_refuse("compact", OPS_FAILED,
                          "there is no room on the disk of %s: what was done stays, and all that "
                          "was there is there",
                          directory);
    default:
        return ops_refuse("compact", OPS_FAILED, "it did not come to its end; nothing is lost");
    }
}

static void print_json(const struct store_found *before, const struct store_found *after)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    struct json_writer writer;

    json_begin(&writer, &text, true);
    json_open_object(&writer);
    json_key(&writer, "before");
    json_open_object(&writer);
    ops_put_found(&writer, before);
    json_close_object(&writer);
    json_key(&writer, "after");
    json_open_object(&writer);
    ops_put_found(&writer, after);
    json_close_object(&writer);
    json_close_object(&writer);
    printf("%s\n", buf_text(&text));
}

static void print(const struct store_found *before, const struct store_found *after)
{
    printf("Before:\n");
    ops_print_found(before);
    printf("\nAfter:\n");
    ops_print_found(after);
}

int ops_compact(int argc, char **argv)
{
    const char *state = NULL;
    bool is_json = false;
    const struct conf_option options[] = {
        { .flag = "--state-dir",
          .metavar = "DIR",
          .value = &state,
          .help = "the hub's; $STATE_DIRECTORY, else /var/lib/sentinel-hub" },
        { .flag = "--json", .is_set = &is_json, .help = "before and after as one JSON object" },
        { .flag = NULL },
    };
    const struct ops_usage usage = { .command = "compact", .text = help, .options = options };
    struct conf_args args = { 0 };
    struct store_found before, after;
    char directory[OPS_PATH_BYTES];

    int done = ops_parse(argc, argv, &usage, &args);
    if (done >= 0)
        return done;
    ops_quiet_log();
    int exit_code = ops_database("compact", settings_state_directory(state), directory);
    if (exit_code == OPS_OK)
        exit_code = survey(directory, &before);
    if (exit_code == OPS_OK)
        exit_code = compact(directory);
    if (exit_code == OPS_OK)
        exit_code = survey(directory, &after);
    if (exit_code != OPS_OK)
        return exit_code;
    if (is_json)
        print_json(&before, &after);
    else
        print(&before, &after);
    return OPS_OK;
}
