/* SPDX-License-Identifier: Apache-2.0 */
#include "pki_rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/file.h"
#include "server/pki/inside.h"
#include "server/pki/registry/registry.h"

#define DAY_US (24 * 60 * 60 * INT64_C(1000000))

char rig_state[64];
struct store *rig_store;
struct pki *rig_pki;
struct tls_why rig_why;
const struct pki_act rig_act = { .by = "operator/anna", .source = "192.0.2.1" };

static int64_t offset_us;

static wall_us shifted_wall(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (wall_us){ now.tv_sec * INT64_C(1000000) + now.tv_nsec / 1000 + offset_us };
}

static mono_us shifted_mono(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (mono_us){ now.tv_sec * INT64_C(1000000) + now.tv_nsec / 1000 + offset_us };
}

wall_us rig_now(void)
{
    return shifted_wall();
}

void rig_move_clock(int64_t us)
{
    offset_us += us;
}

const char *rig_at(const char *name)
{
    static char path[4][256];
    static unsigned next;
    char *to = path[next++ % 4];

    snprintf(to, sizeof(path[0]), "%s/%s", rig_state, name);
    return to;
}

void rig_setup_bare(void)
{
    struct store_why why;

    offset_us = 0;
    clock_set_source(shifted_wall, shifted_mono);
    ck_assert_int_eq(unsetenv("SENTINEL_HUB_CA_KEY"), 0);
    ck_assert_int_eq(unsetenv("CREDENTIALS_DIRECTORY"), 0);
    snprintf(rig_state, sizeof(rig_state), "/tmp/test_pki.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(rig_state));
    ck_assert_int_eq(file_make_directories(rig_at("db"), 0700), 0);
    ck_assert_int_eq(store_create(rig_at("db")), 0);
    const struct store_options options = { .directory = rig_at("db"),
                                           .segment_bytes = 1 << 20,
                                           .queue_bytes = 1 << 20,
                                           .full_percent = 100,
                                           .is_shared = true,
                                           .allow_any_filesystem = true };
    ck_assert_int_eq(store_open(&rig_store, &options, &why), 0);
}

void rig_create(const char *ca_key_file)
{
    static const char *const names[] = { "hub.example.org", NULL };
    const struct pki_init init = { .state_directory = rig_state,
                                   .names = names,
                                   .organisation = "Example",
                                   .trust_domain = "example.org",
                                   .ca_key_file = ca_key_file };

    rig_why.text[0] = 0;
    int r = pki_create(rig_store, &init, &rig_why);
    ck_assert_msg(r == 0, "%d: %s", r, rig_why.text);
}

int rig_reopen(const struct pki_options *options)
{
    rig_pki = pki_close(rig_pki);
    rig_why.text[0] = 0;
    return pki_open_with(&rig_pki, rig_store, options, &rig_why);
}

void rig_must_reopen(void)
{
    const struct pki_options options = { .state_directory = rig_state };
    int r = rig_reopen(&options);

    ck_assert_msg(r == 0, "%d: %s", r, rig_why.text);
}

void rig_setup(void)
{
    rig_setup_bare();
    rig_create(NULL);
    rig_must_reopen();
}

void rig_teardown(void)
{
    rig_pki = pki_close(rig_pki);
    rig_store = store_close(rig_store);
    ck_assert_int_eq(file_remove_tree(rig_state), 0);
}

static struct buf first_der(struct span pem)
{
    CLEANUP(tls_cert_freep) struct tls_cert *cert = NULL;
    struct buf der = { 0 };

    ck_assert_int_eq(tls_cert_parse_pem(&cert, pem), 0);
    ck_assert_int_eq(tls_cert_print_der(cert, &der), 0);
    return der;
}

struct buf rig_issue(enum pki_kind kind, const char *name, enum pki_role role)
{
    static unsigned n;
    CLEANUP(tls_identity_deinit) struct tls_identity identity = { 0 };
    char directory[64];

    snprintf(directory, sizeof(directory), "issued-%u", n++);
    const struct pki_issue issue = {
        .kind = kind, .name = name, .role = role, .directory = rig_at(directory)
    };
    int r = pki_issue_identity(rig_pki, &issue, &rig_why);
    ck_assert_msg(r == 0, "%d: %s", r, rig_why.text);
    ck_assert_int_eq(tls_identity_load(rig_at(directory), &identity, &rig_why), 0);
    return first_der(buf_span(&identity.chain_pem));
}

int rig_identify(struct span der, struct pki_identity *ret)
{
    return pki_identify(rig_pki, der, rig_now(), ret);
}

static int revoke(struct pki_edit *edit, void *ctx)
{
    const struct pki_identity *identity = ctx;
    struct pki_row row;

    int r = pki_edit_get(edit, identity->sha256, &row);
    if (r != 0)
        return r;
    row.identity.state = PKI_REVOKED;
    row.changed = edit->now;
    return pki_edit_put(edit, &row);
}

void rig_revoke(struct span leaf_der)
{
    struct pki_identity identity;

    ck_assert_int_eq(rig_identify(leaf_der, &identity), 0);
    ck_assert_int_eq(pki_change(rig_pki, revoke, &identity, NULL), 0);
}

/* ---- others ---- */

static struct tls_request request_for(enum tls_profile profile, const char *name)
{
    return (struct tls_request){ .profile = profile,
                                 .common_name = name,
                                 .not_before = { rig_now().us - DAY_US },
                                 .not_after = { rig_now().us + 30 * DAY_US } };
}

void rig_foreign_init(struct rig_foreign *foreign, const char *name)
{
    const struct tls_request request = request_for(TLS_ROOT, name);

    *foreign = (struct rig_foreign){ .key = NULL };
    ck_assert_int_eq(tls_key_new(&foreign->key), 0);
    ck_assert_int_eq(tls_cert_issue(&foreign->cert, &request, foreign->key, NULL, foreign->key), 0);
    ck_assert_int_eq(tls_cert_print(foreign->cert, &foreign->pem), 0);
}

void rig_foreign_deinit(struct rig_foreign *foreign)
{
    foreign->cert = tls_cert_free(foreign->cert);
    foreign->key = tls_key_free(foreign->key);
    buf_deinit(&foreign->pem);
}

struct buf
rig_foreign_leaf(const struct rig_foreign *foreign, const char *cn, const char *o, const char *ou)
{
    CLEANUP(tls_key_freep) struct tls_key *key = NULL;
    CLEANUP(tls_cert_freep) struct tls_cert *leaf = NULL;
    struct tls_request request = request_for(TLS_CLIENT, cn);
    struct buf der = { 0 };

    request.organisation = o;
    request.organisation_unit = ou;
    ck_assert_int_eq(tls_key_new(&key), 0);
    ck_assert_int_eq(tls_cert_issue(&leaf, &request, key, foreign->cert, foreign->key), 0);
    ck_assert_int_eq(tls_cert_print_der(leaf, &der), 0);
    return der;
}
