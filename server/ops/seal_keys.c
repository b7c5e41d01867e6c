/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "server/ops/ops.h"
#include "server/pki/pki.h"
#include "server/pki/sealed/sealed.h"
#include "server/settings.h"
#include "server/store/store.h"

static const char help[] =
    "Example:\n"
    "  head -c 32 /dev/urandom > /etc/sentinel-hub/ca-key && chmod 400 /etc/sentinel-hub/ca-key\n"
    "  sentinel-hub seal-keys --ca-key-file /etc/sentinel-hub/ca-key\n"
    "\n"
    "Seals the keys of the certificate authority in the state directory with AES-256-GCM, or "
    "seals\n"
    "them again under another key (--old-key-file), or opens them (--open). The key is 32 bytes, "
    "as\n"
    "they are, as 64 hex digits or as base64, from --ca-key-file, SENTINEL_HUB_CA_KEY, or the\n"
    "systemd credential `ca-key`. Without it nobody opens them again: keep a copy elsewhere.\n"
    "A run that was cut is run again. A running hub must be started again with the new key.\n";

static int find(const char *file, struct sealed_key *ret)
{
    struct tls_why why = { "" };

    int r = sealed_key_find(file, ret, &why);
    if (r == 0)
        return 0;
    return ops_refuse("seal-keys", r == SEALED_ABSENT ? OPS_NOT_FOUND : OPS_FAILED, "%s",
                      r > 0 ? why.text : "the key cannot be read");
}

static int refuse_no_key(void)
{
    return ops_refuse("seal-keys", OPS_USAGE,
                      "there is no key: give --ca-key-file FILE, or SENTINEL_HUB_CA_KEY");
}

int ops_seal_keys(int argc, char **argv)
{
    CLEANUP(sealed_key_deinit) struct sealed_key key = { .is_there = false };
    CLEANUP(sealed_key_deinit) struct sealed_key old = { .is_there = false };
    CLEANUP(store_closep) struct store *store = NULL;
    const char *state = NULL, *key_file = NULL, *old_file = NULL;
    bool is_opening = false;
    uint32_t n = 0;
    const struct conf_option options[] = {
        { .flag = "--state-dir",
          .metavar = "DIR",
          .value = &state,
          .help = "the hub's; $STATE_DIRECTORY, else /var/lib/sentinel-hub" },
        { .flag = "--ca-key-file",
          .metavar = "FILE",
          .value = &key_file,
          .help = "the key; SENTINEL_HUB_CA_KEY, else $CREDENTIALS_DIRECTORY/ca-key" },
        { .flag = "--old-key-file",
          .metavar = "FILE",
          .value = &old_file,
          .help = "what they are sealed under now; none" },
        { .flag = "--open", .is_set = &is_opening, .help = "leave them in the clear" },
        { .flag = NULL },
    };
    const struct ops_usage usage = { .command = "seal-keys", .text = help, .options = options };
    struct conf_args args = { 0 };
    struct tls_why why = { "" };

    int done = ops_parse(argc, argv, &usage, &args);
    if (done >= 0)
        return done;
    const char *directory = settings_state_directory(state);
    done = find(key_file, &key);
    if (done == 0 && old_file)
        done = find(old_file, &old);
    if (done != 0)
        return done;
    if (!key.is_there)
        return refuse_no_key();
    done = ops_open_store("seal-keys", directory, &store);
    if (done != 0)
        return done;
    const struct pki_act act = { .by = ops_actor() };
    const struct sealed_key *before = is_opening ? &key : old_file ? &old : NULL;
    const struct pki_seal seal = {
        .old = before, .fresh = is_opening ? NULL : &key, .store = store, .act = &act
    };
    int r = pki_seal_keys(directory, &seal, &n, &why);
    if (r != 0)
        return ops_refuse("seal-keys", r > 0 ? ops_exit_of_pki(r) : OPS_FAILED, "%s",
                          r > 0 ? why.text
                                : "not all keys were replaced; once that is mended, run it again");
    printf("%u keys in %s/certs are %s\n", (unsigned) n, directory,
           is_opening ? "in the clear now: others who read the disk have them"
                      : "sealed; keep a copy of the key in another place");
    return OPS_OK;
}
