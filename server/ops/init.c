/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/fault.h"
#include "common/base/file.h"
#include "common/base/owner.h"
#include "common/identity/identity.h"
#include "server/ops/ops.h"
#include "server/pki/pki.h"
#include "server/settings.h"
#include "server/store/store.h"

static const char help[] =
    "Example:\n"
    "  sentinel-hub init --name hub.example.org --name 192.0.2.7\n"
    "\n"
    "Makes, in the state directory: a certificate authority, the hub's certificate for the names\n"
    "given (besides localhost and 127.0.0.1), the identity of the first operator (`admin`), and "
    "an\n"
    "empty database. What is there already is never overwritten.\n"
    "\n"
    "It prints a first enrolment string, good for 30 minutes and 10 machines: what\n"
    "`sentinel-agent enroll` asks for. Later ones come from `sentinelctl tokens create`.\n";

#define FIRST_TOKEN_USES 10
#define GRPC_PORT 8082 /* settings.tbl, listen.grpc */

static void names_freep(struct conf_list *list)
{
    free(list->items); /* the items are argv's */
}

/* A database that an earlier, cut run left is as good as a new one. */
static int make_database(const char *state, struct store **ret)
{
    const char *const command = "init";
    char directory[4200], data[4300];
    struct tls_why why = { "" };
    struct stat st;

    int len = snprintf(directory, sizeof(directory), "%s/db", state);
    if (len < 0 || len >= 4100)
        return ops_refuse(command, OPS_USAGE, "--state-dir: the path is too long");
    if (pki_check_state(state, &why) != 0)
        return ops_refuse(command, OPS_FAILED, "%s", why.text);
    int r = file_make_directories(state, 0700);
    if (r == 0)
        r = file_make_directories(directory, 0700);
    if (r == FILE_DENIED)
        return ops_refuse(command, OPS_DENIED,
                          "may not write to %s; run this as the user of the hub, or give another "
                          "directory with --state-dir",
                          state);
    if (r != 0)
        return ops_refuse(command, OPS_FAILED, "cannot make %s", directory);
    snprintf(data, sizeof(data), "%s/state", directory);
    if (stat(data, &st) < 0) {
        r = store_create(directory);
        if (r == STORE_LOCKED)
            return ops_refuse(command, OPS_FAILED, "another process has %s", directory);
        if (r != 0)
            return ops_refuse(command, OPS_FAILED, "cannot make the database in %s", directory);
    }
    return ops_open_store(command, state, ret);
}

/* A string for the first machines, in `to`; false: none could be made, which a token of later
 * mends. */
static bool make_string(struct store *store,
                        const struct pki_options *options,
                        const char *name,
                        struct buf *to)
{
    CLEANUP(pki_closep) struct pki *pki = NULL;
    const struct pki_token_wish wish = { .n_uses = FIRST_TOKEN_USES, .made_by = "local/init" };
    struct identity_enrolment enrolment = { 0 };
    struct tls_why why = { "" };
    struct pki_token token;
    const bool is_ipv6 = name && strchr(name, ':') != NULL;

    if (pki_open_with(&pki, store, options, &why) != 0 || pki_root_pin(pki, enrolment.pin) != 0 ||
        pki_token_create(pki, &wish, &token, &why) != 0)
        return false;
    snprintf(enrolment.hub, sizeof(enrolment.hub), "%s%s%s:%d", is_ipv6 ? "[" : "",
             name ? name : "localhost", is_ipv6 ? "]" : "", GRPC_PORT);
    memcpy(enrolment.token_id, token.id, sizeof(enrolment.token_id));
    memcpy(enrolment.secret, token.secret, sizeof(enrolment.secret));
    identity_enrolment_print(&enrolment, to);
    return !buf_failed(to);
}

/* In a shell's words, where it is needed. */
static void say_next(const char *state, bool is_default, const char *string)
{
    char flag[4200] = "";

    if (!is_default)
        snprintf(flag, sizeof(flag), " --state-dir %.4096s", state);
    printf("\nNext:\n"
           "  sentinel-hub run%s\n"
           "  sentinel-agent enroll --run    on a machine; it asks for %s\n",
           flag, string ? "this line:" : "what `sentinelctl tokens create` prints");
    if (string)
        printf("\n%s\n\n"
               "It is good for 30 minutes and %d machines. More of them, and all else:\n"
               "  sentinelctl --hub localhost:%d --identity %s/operators/admin tokens create\n",
               string, FIRST_TOKEN_USES, GRPC_PORT, state);
}

static void say_made(const char *directory, const char *const *names)
{
    static const char *const always[] = { "localhost", "127.0.0.1", "::1" };

    printf(
        "Made in %s:\n"
        "  certs/            the certificate authority and the hub's certificate, for %s, %s, %s",
        directory, always[0], always[1], always[2]);
    for (size_t i = 0; names[i]; i++)
        if (strcmp(names[i], always[0]) != 0 && strcmp(names[i], always[1]) != 0 &&
            strcmp(names[i], always[2]) != 0)
            printf(", %s", names[i]);
    printf("\n"
           "  operators/admin/  the identity of the first operator: hand it over, keep it secret\n"
           "  db/               an empty database\n"
           "Keep a copy of certs/ in a safe place: whoever has it can make identities.\n");
}

int ops_init(int argc, char **argv)
{
    const char *state = NULL, *organisation = NULL, *trust_domain = NULL, *crl_url = NULL;
    const char *ca_key_file = NULL;
    bool has_no_token = false;
    CLEANUP(buf_deinit) struct buf string = { 0 };
    CLEANUP(names_freep) struct conf_list given = { 0 };
    CLEANUP(store_closep) struct store *store = NULL;
    const struct conf_option options[] = {
        { .flag = "--state-dir",
          .metavar = "DIR",
          .value = &state,
          .help = "where all of it goes; $STATE_DIRECTORY, else /var/lib/sentinel-hub" },
        { .flag = "--name",
          .metavar = "HOST_OR_IP",
          .values = &given,
          .help = "a name or address of the hub as agents know it; may be repeated" },
        { .flag = "--organisation",
          .metavar = "O",
          .value = &organisation,
          .help = "O of every certificate; Sentinel" },
        { .flag = "--trust-domain",
          .metavar = "T",
          .value = &trust_domain,
          .help = "of the SPIFFE ids in certificates; sentinel.internal" },
        { .flag = "--crl-url",
          .metavar = "URL",
          .value = &crl_url,
          .help = "where certificates say that the list of revoked ones is; https://NAME:8081/crl "
                  "of the first --name; `none`" },
        { .flag = "--ca-key-file",
          .metavar = "FILE",
          .value = &ca_key_file,
          .help = "key that seals those of the CA; SENTINEL_HUB_CA_KEY, else "
                  "$CREDENTIALS_DIRECTORY/ca-key, else none" },
        { .flag = "--no-token",
          .is_set = &has_no_token,
          .help = "no enrolment string for the first machines" },
        { .flag = NULL },
    };
    const struct ops_usage usage = { .command = "init", .text = help, .options = options };
    struct conf_args args = { 0 };
    const char *names[64] = { NULL };
    struct tls_why why = { "" };

    int done = ops_parse(argc, argv, &usage, &args);
    if (done >= 0)
        return done;
    if (given.n_items >= sizeof(names) / sizeof(names[0]))
        return ops_refuse("init", OPS_USAGE, "too many names");
    for (size_t i = 0; i < given.n_items; i++)
        names[i] = given.items[i];
    const char *directory = settings_state_directory(state);
    /* A package makes it for the hub's user: what root makes in it must be theirs. */
    if (owner_become(directory) != 0)
        return OPS_FAILED;
    int exit_code = make_database(directory, &store);
    if (exit_code != 0)
        return exit_code;
    const struct pki_init init = {
        .state_directory = directory,
        .names = names,
        .organisation = organisation,
        .trust_domain = trust_domain,
        .crl_url = crl_url,
        .ca_key_file = ca_key_file,
    };
    int r = pki_create(store, &init, &why);
    if (r > 0)
        return ops_refuse("init", ops_exit_of_pki(r), "%s", why.text);
    if (r < 0)
        return ops_refuse("init", OPS_FAILED,
                          "nothing usable was made in %s; once that is mended, run it again: it "
                          "begins where this ended",
                          directory);
    say_made(directory, names);
    const struct pki_options open = { .state_directory = directory, .ca_key_file = ca_key_file };
    const bool has_string = !has_no_token && make_string(store, &open, names[0], &string);
    say_next(directory, strcmp(directory, SETTINGS_DEFAULT_STATE_DIRECTORY) == 0,
             has_string ? buf_text(&string) : NULL);
    return OPS_OK;
}
