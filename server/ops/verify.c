/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/progress.h"
#include "common/json/json.h"
#include "server/audit/audit.h"
#include "server/ops/ops.h"
#include "server/pki/pki.h"
#include "server/settings.h"
#include "server/store/store.h"

static const char help[] =
    "Example:\n"
    "  sentinel-hub verify\n"
    "\n"
    "Reads all of the database, beside a running hub or without one, and changes nothing: every\n"
    "checksum, every column of every block, whether what names other things fits them, and the\n"
    "audit's chain (`sentinel-hub audit verify` says more of that). Names what is damaged. Exit "
    "code 0: all is whole; 6: something is damaged.\n";

#define REMEDY                                                                                     \
    "The hub serves all but what is named. To have that too, restore a backup beside it and look " \
    "there:\n  sentinel-hub restore --from BACKUP --state-dir NEW\n"                               \
    "Look after the disk too: damage comes from there or from memory.\n"

struct verify {
    struct progress progress;
    struct json_writer writer;
    struct buf text;
    struct audit_verdict chain;
    bool is_json;
};

static void on_damage(void *ctx, const struct store_damage *damage)
{
    struct verify *verify = ctx;

    if (!verify->is_json) {
        progress_end(&verify->progress);
        printf("damaged: %s: %s: %s\n", damage->path, damage->key, damage->what);
        return;
    }
    json_open_object(&verify->writer);
    json_put_text(&verify->writer, "path", damage->path);
    json_put_text(&verify->writer, "key", damage->key);
    json_put_text(&verify->writer, "what", damage->what);
    json_close_object(&verify->writer);
}

static void on_progress(void *ctx, uint64_t done_bytes, uint64_t all_bytes)
{
    struct verify *verify = ctx;

    progress_show(&verify->progress, done_bytes, all_bytes);
}

static int survey(struct verify *verify, struct store_survey *survey)
{
    struct store_why why = { "" };

    progress_begin(&verify->progress, "verifying");
    int r = store_survey(survey, &why);
    progress_end(&verify->progress);
    if (r == 0)
        return OPS_OK;
    if (r > 0)
        return ops_refuse("verify", r == STORE_NOT_FOUND ? OPS_NOT_FOUND : OPS_FAILED, "%s",
                          why.text);
    return ops_refuse("verify", OPS_FAILED, "not all could be read; nothing is said of the rest");
}

static int print(struct verify *verify, const struct store_found *found)
{
    if (verify->is_json) {
        json_close_array(&verify->writer);
        json_put_u64(&verify->writer, "n_damaged", found->n_damaged);
        json_put_u64(&verify->writer, "audit_entries", verify->chain.n_entries);
        ops_put_found(&verify->writer, found);
        json_close_object(&verify->writer);
        if (buf_failed(&verify->text))
            return ops_refuse("verify", OPS_FAILED, "no memory");
        printf("%s\n", buf_text(&verify->text));
    } else {
        ops_print_found(found);
        if (verify->chain.n_entries > 0)
            printf("audit: %" PRIu64 " entries in one chain, %" PRIu64 " anchors fit\n",
                   verify->chain.n_entries, verify->chain.n_anchors);
        if (found->n_damaged == 0)
            printf("whole: nothing is damaged\n");
    }
    if (found->n_damaged == 0)
        return OPS_OK;
    fflush(stdout);
    fprintf(stderr, "sentinel-hub verify: %" PRIu64 " damaged. " REMEDY, found->n_damaged);
    return OPS_PARTIAL;
}

/* ---- the audit's chain ---- */

struct chain {
    int outcome; /* of audit_verify(), or below 0 */
    struct audit_verdict verdict;
};

static int walk_chain(const char *state, struct chain *chain)
{
    CLEANUP(store_closep) struct store *store = NULL;
    CLEANUP(audit_closep) struct audit *audit = NULL;

    if (ops_open_store("verify", state, &store) != 0 ||
        ops_open_audit("verify", state, store, &audit) != 0)
        return -EIO;
    struct ops_chain asked = { .store = store, .audit = audit };
    return ops_verify_chain(state, &asked, &chain->verdict);
}

/* In a process of its own, as all that reads pages which may lead nowhere. */
static bool verify_chain(const char *state, struct chain *ret)
{
    int fds[2], status;
    pid_t child;

    if (pipe2(fds, O_CLOEXEC) < 0)
        return false;
    child = fork();
    if (child == 0) {
        struct chain chain = { .outcome = 0 };

        chain.outcome = walk_chain(state, &chain);
        _exit(write(fds[1], &chain, sizeof(chain)) == (ssize_t) sizeof(chain) ? 0 : 1);
    }
    close(fds[1]);
    bool is_read = child > 0 && read(fds[0], ret, sizeof(*ret)) == (ssize_t) sizeof(*ret);
    close(fds[0]);
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    return is_read && ret->outcome >= 0;
}

static void look_at_chain(struct verify *verify, const char *state, struct store_found *found)
{
    struct chain chain = { .outcome = 0 };
    char path[OPS_PATH_BYTES], key[40];
    struct store_damage damage = { path, key, chain.verdict.why };

    snprintf(path, sizeof(path), "%.4096s/audit", state);
    if (!verify_chain(state, &chain)) {
        snprintf(key, sizeof(key), "the chain");
        damage.what = "it cannot be read to its end";
    } else if (chain.outcome == AUDIT_BROKEN) {
        snprintf(key, sizeof(key), "entry %" PRIu64, chain.verdict.bad_entry);
    } else {
        verify->chain = chain.verdict;
        return;
    }
    found->n_damaged++;
    on_damage(verify, &damage);
}

int ops_verify(int argc, char **argv)
{
    const char *state = NULL;
    struct verify verify = { .is_json = false };
    const struct conf_option options[] = {
        { .flag = "--state-dir",
          .metavar = "DIR",
          .value = &state,
          .help = "the hub's; $STATE_DIRECTORY, else /var/lib/sentinel-hub" },
        { .flag = "--json", .is_set = &verify.is_json, .help = "as one JSON object" },
        { .flag = NULL },
    };
    const struct ops_usage usage = { .command = "verify", .text = help, .options = options };
    struct conf_args args = { 0 };
    char directory[OPS_PATH_BYTES];

    int done = ops_parse(argc, argv, &usage, &args);
    if (done >= 0)
        return done;
    int exit_code = ops_database("verify", settings_state_directory(state), directory);
    if (exit_code != 0)
        return exit_code;
    struct store_survey asked = {
        .directory = directory,
        .is_deep = true,
        .check_row = ops_check_row,
        .on_damage = on_damage,
        .on_progress = on_progress,
        .ctx = &verify,
    };
    json_begin(&verify.writer, &verify.text, true);
    json_open_object(&verify.writer);
    json_key(&verify.writer, "damaged");
    json_open_array(&verify.writer);
    exit_code = survey(&verify, &asked);
    if (exit_code == OPS_OK)
        look_at_chain(&verify, settings_state_directory(state), &asked.found);
    if (exit_code == OPS_OK)
        exit_code = print(&verify, &asked.found);
    buf_deinit(&verify.text);
    return exit_code;
}
