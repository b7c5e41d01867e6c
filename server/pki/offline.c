/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/fault.h"
#include "common/base/file.h"
#include "common/base/text.h"
#include "common/crypto/crypto.h"
#include "server/pki/authority.h"
#include "server/pki/sealed/sealed.h"

/* A hierarchy in a directory, without a hub and its registry. */

#define LIFE_US (365 * PKI_DAY_US)
#define LIMIT_BYTES ((size_t) 256 * 1024)
#define AUTHORITY_FILE "authority"

struct work {
    const struct pki_offline *wish;
    struct sealed_key sealing;
    struct pki_authority authority;
    struct pki_issuer agents, hubs;
    struct buf root_pem;
    wall_us now;
    char backup[64]; /* "backup/2026-11-28T01.02.03Z" */
    struct tls_why *why;
};

static void work_deinit(struct work *work)
{
    sealed_key_deinit(&work->sealing);
    pki_authority_deinit(&work->authority);
    pki_issuer_deinit(&work->agents);
    pki_issuer_deinit(&work->hubs);
    buf_deinit(&work->root_pem);
}

static void tell(const struct work *work, const char *path)
{
    if (work->wish->made)
        work->wish->made(work->wish->ctx, path);
}

static int path_of(const struct work *work, char to[static PKI_PATH_BYTES], const char *name)
{
    return pki_path(to, work->wish->directory, name)
               ? 0
               : fault(-ENAMETOOLONG, "%s", work->wish->directory);
}

static bool is_there(const char *path)
{
    return access(path, F_OK) == 0;
}

static int make_directory(const char *path, struct tls_why *ret_why)
{
    int r = file_make_directories(path, 0700);

    if (r != FILE_DENIED)
        return fold(r);
    snprintf(ret_why->text, sizeof(ret_why->text),
             "may not make %.250s; give another directory, or run this as its owner", path);
    return PKI_BAD;
}

static int put_file(const char *path, struct span content, mode_t mode)
{
    int r = file_replace(path, content, mode);

    return r > 0 ? fault(-EACCES, "may not write %s", path) : pass(r);
}

/* ---- the authority ---- */

static int read_authority(struct work *work, bool *ret_is_there)
{
    CLEANUP(buf_deinit) struct buf bytes = { 0 };
    char path[PKI_PATH_BYTES];

    int r = path_of(work, path, AUTHORITY_FILE);
    if (r == 0)
        r = file_read(path, LIMIT_BYTES, &bytes);
    *ret_is_there = r == 0;
    if (r == FILE_ABSENT)
        return 0;
    if (r == 0)
        r = pki_authority_decode(buf_span(&bytes), &work->authority);
    if (r > 0) {
        snprintf(work->why->text, sizeof(work->why->text),
                 "%.250s cannot be read, or is of a newer version", path);
        return PKI_BAD;
    }
    return pass(r);
}

/* The authority file is last: where it is, the keys are. */
static int make_authority(struct work *work)
{
    const struct pki_offline *wish = work->wish;
    const struct pki_init init = { .names = wish->names,
                                   .organisation = wish->organisation,
                                   .trust_domain = wish->trust_domain,
                                   .crl_url = "none" };
    CLEANUP(pki_issuer_deinit) struct pki_issuer root = { 0 };
    CLEANUP(buf_deinit) struct buf bytes = { 0 };
    char path[PKI_PATH_BYTES];

    int r = pki_check_init(&init, &work->authority, work->why);
    if (r == 0)
        r = path_of(work, path, "ca-key.pem");
    if (r == 0 && is_there(path)) {
        snprintf(work->why->text, sizeof(work->why->text),
                 "%.200s is there without the file `authority` beside it: it is of something else; "
                 "give an empty directory",
                 path);
        r = PKI_BAD;
    }
    if (r == 0)
        r = pki_make_hierarchy(&work->authority, work->now, &root, &work->agents, &work->hubs);
    const struct {
        const char *name;
        const struct pki_issuer *issuer;
    } issuers[] = { { "hubs-ca", &work->hubs }, { "agents-ca", &work->agents }, { "ca", &root } };
    for (size_t i = 0; r == 0 && i < sizeof(issuers) / sizeof(issuers[0]); i++) {
        const struct pki_issuer_place place = { .directory = wish->directory,
                                                .name = issuers[i].name,
                                                .sealing = &work->sealing };
        r = pki_issuer_save(issuers[i].issuer, &place);
    }
    if (r != 0)
        return pass(r);
    pki_authority_encode(&work->authority, &bytes);
    if (buf_failed(&bytes))
        return fault(-ENOMEM, "no memory for the authority");
    r = path_of(work, path, AUTHORITY_FILE);
    if (r == 0)
        r = put_file(path, buf_span(&bytes), 0644);
    if (r == 0)
        r = path_of(work, path, "ca-cert.pem");
    if (r == 0)
        tell(work, path);
    return pass(r);
}

static int load_issuers(struct work *work)
{
    struct pki_issuer_place place = { .directory = work->wish->directory,
                                      .name = "agents-ca",
                                      .sealing = &work->sealing };
    char path[PKI_PATH_BYTES];
    int r = 0;

    if (!work->agents.cert)
        r = pki_issuer_load(&work->agents, &place, work->why);
    place.name = "hubs-ca";
    if (r == 0 && !work->hubs.cert)
        r = pki_issuer_load(&work->hubs, &place, work->why);
    if (r == 0)
        r = path_of(work, path, "ca-cert.pem");
    if (r == 0 && file_read(path, LIMIT_BYTES, &work->root_pem) != 0) {
        snprintf(work->why->text, sizeof(work->why->text), "%.250s cannot be read", path);
        r = PKI_ABSENT;
    }
    return pass(r);
}

/* ---- leaves ---- */

static int make_hub(struct work *work)
{
    const int64_t life_us = work->wish->hub_life_us ? work->wish->hub_life_us : LIFE_US;
    CLEANUP(pki_leaf_deinit) struct pki_leaf leaf = { 0 };
    char directory[PKI_PATH_BYTES], roots[PKI_PATH_BYTES];

    int r = path_of(work, directory, "hub");
    if (r == 0)
        r = path_of(work, roots, "hub/ca-cert.pem");
    if (r == 0)
        r = make_directory(directory, work->why);
    if (r == 0)
        r = pki_leaf_make_hub(&leaf, &work->authority, &work->hubs, work->now, life_us);
    if (r == 0)
        r = put_file(roots, buf_span(&work->root_pem), 0644);
    if (r == 0)
        r = pki_leaf_save_hub(&leaf, directory);
    if (r == 0)
        tell(work, directory);
    return pass(r);
}

static int
make_client(struct work *work, enum pki_kind kind, const char *name, const char *directory)
{
    const bool is_agent = kind == PKI_AGENT;
    const int64_t life_us = is_agent ? work->wish->agent_life_us : work->wish->operator_life_us;
    CLEANUP(pki_leaf_deinit) struct pki_leaf leaf = { 0 };
    CLEANUP(tls_identity_deinit) struct tls_identity identity = { 0 };
    const struct pki_issue issue = { .kind = kind,
                                     .name = name,
                                     .life_us = life_us ? life_us : LIFE_US };

    int r = pki_leaf_make_client(&leaf, &work->authority, &work->agents, &issue, work->now);
    if (r != 0)
        return pass(r);
    buf_append_span(&identity.roots_pem, buf_span(&work->root_pem));
    if (buf_failed(&identity.roots_pem))
        return fault(-ENOMEM, "no memory for an identity");
    identity.chain_pem = leaf.chain_pem;
    identity.key_pem = leaf.key_pem;
    leaf.chain_pem = leaf.key_pem = (struct buf){ 0 };
    r = pki_of_tls(tls_identity_save(directory, &identity, work->why));
    if (r == 0)
        tell(work, directory);
    return pass(r);
}

static int generate_clients(struct work *work, enum pki_kind kind, const char *const *names)
{
    const char *parent = kind == PKI_AGENT ? "agents" : "operators";
    int r = 0;

    for (size_t i = 0; r == 0 && names && names[i]; i++) {
        char base[128], directory[PKI_PATH_BYTES], cert[PKI_PATH_BYTES];

        r = pki_check_name(names[i], work->why);
        if (r != 0)
            return pass(r);
        snprintf(base, sizeof(base), "%s/%s", parent, names[i]);
        r = path_of(work, directory, base);
        if (r == 0 && !pki_path(cert, directory, "client-cert.pem"))
            r = fault(-ENAMETOOLONG, "%s", directory);
        if (r == 0 && !is_there(cert))
            r = make_client(work, kind, names[i], directory);
    }
    return pass(r);
}

static int begin(struct work *work, bool may_make)
{
    bool has_authority = false;

    int r = sealed_key_find(work->wish->ca_key_file, &work->sealing, work->why);
    if (r > 0)
        return r == SEALED_ABSENT ? PKI_ABSENT : PKI_BAD;
    if (r == 0 && may_make)
        r = make_directory(work->wish->directory, work->why);
    if (r == 0)
        r = pki_check_directory(work->wish->directory, work->why);
    if (r == 0)
        r = read_authority(work, &has_authority);
    if (r == 0 && !has_authority && !may_make) {
        snprintf(work->why->text, sizeof(work->why->text),
                 "%.200s has no file `authority`: make certificates there with `sentinel-hub certs "
                 "generate`; a hub's own are renewed by the hub",
                 work->wish->directory);
        return PKI_ABSENT;
    }
    if (r == 0 && !has_authority)
        r = make_authority(work);
    return r != 0 ? pass(r) : pass(load_issuers(work));
}

int pki_offline_generate(const struct pki_offline *wish, struct tls_why *ret_why)
{
    CLEANUP(work_deinit) struct work work = { .wish = wish, .now = clock_wall(), .why = ret_why };
    char cert[PKI_PATH_BYTES];

    int r = begin(&work, true);
    if (r == 0)
        r = path_of(&work, cert, "hub/server-cert.pem");
    if (r == 0 && wish->names && wish->names[0] && !is_there(cert))
        r = make_hub(&work);
    if (r == 0)
        r = generate_clients(&work, PKI_AGENT, wish->agents);
    if (r == 0)
        r = generate_clients(&work, PKI_OPERATOR, wish->operators);
    return pass(r);
}

/* ---- rotation ---- */

/* Whether the first certificate of the file ends within the grace. */
static int is_due(const struct work *work, const char *path, int64_t grace_us, bool *ret)
{
    CLEANUP(buf_deinit) struct buf pem = { 0 };
    CLEANUP(tls_cert_freep) struct tls_cert *cert = NULL;
    struct tls_facts facts;

    int r = file_read(path, LIMIT_BYTES, &pem);
    if (r == FILE_ABSENT) {
        *ret = false;
        return 0;
    }
    if (r == 0)
        r = tls_cert_parse_pem(&cert, buf_span(&pem));
    if (r == 0)
        r = tls_cert_read(cert, &facts);
    if (r > 0) {
        snprintf(work->why->text, sizeof(work->why->text),
                 "%.250s does not hold a certificate; move it away, then generate it", path);
        return PKI_BAD;
    }
    if (r == 0)
        *ret = facts.not_after.us - work->now.us < grace_us;
    return pass(r);
}

static void wipe(struct buf *secret)
{
    crypto_wipe(secret->data, secret->capacity);
    buf_deinit(secret);
}

/* Each file of DIR/<base> is copied before anything new is written. */
static int back_up(const struct work *work, const char *base, const char *const *files)
{
    char directory[PKI_PATH_BYTES], name[256];

    snprintf(name, sizeof(name), "%s/%s", work->backup, base);
    int r = path_of(work, directory, name);
    if (r == 0)
        r = make_directory(directory, work->why);
    for (; r == 0 && *files; files++) {
        CLEANUP(wipe) struct buf content = { 0 };
        char from[PKI_PATH_BYTES], to[PKI_PATH_BYTES];

        snprintf(name, sizeof(name), "%s/%s", base, *files);
        r = path_of(work, from, name);
        if (r == 0 && !pki_path(to, directory, *files))
            r = fault(-ENAMETOOLONG, "%s", directory);
        if (r == 0)
            r = file_read(from, LIMIT_BYTES, &content);
        if (r == 0)
            r = put_file(to, buf_span(&content), strstr(*files, "-key") ? 0600 : 0644);
        else if (r > 0)
            r = fault(-EIO, "cannot read %s", from);
    }
    return pass(r);
}

static int rotate_hub(struct work *work, int64_t grace_us, uint32_t *n)
{
    static const char *const files[] = { "server-cert.pem", "server-key.pem", "ca-cert.pem", NULL };
    char cert[PKI_PATH_BYTES];
    bool due = false;

    int r = path_of(work, cert, "hub/server-cert.pem");
    if (r == 0)
        r = is_due(work, cert, grace_us, &due);
    if (r != 0 || !due)
        return pass(r);
    r = back_up(work, "hub", files);
    if (r == 0)
        r = make_hub(work);
    *n += r == 0;
    return pass(r);
}

static int
rotate_one(struct work *work, enum pki_kind kind, const char *name, int64_t grace_us, uint32_t *n)
{
    static const char *const files[] = { "client-cert.pem", "client-key.pem", "ca-cert.pem", NULL };
    char base[128], directory[PKI_PATH_BYTES], cert[PKI_PATH_BYTES];
    bool due = false;

    snprintf(base, sizeof(base), "%s/%.63s", kind == PKI_AGENT ? "agents" : "operators", name);
    int r = path_of(work, directory, base);
    if (r == 0 && !pki_path(cert, directory, "client-cert.pem"))
        r = fault(-ENAMETOOLONG, "%s", directory);
    if (r == 0)
        r = is_due(work, cert, grace_us, &due);
    if (r != 0 || !due)
        return pass(r);
    r = back_up(work, base, files);
    if (r == 0)
        r = make_client(work, kind, name, directory);
    *n += r == 0;
    return pass(r);
}

static int rotate_clients(struct work *work, enum pki_kind kind, int64_t grace_us, uint32_t *n)
{
    char parent[PKI_PATH_BYTES];
    int r = path_of(work, parent, kind == PKI_AGENT ? "agents" : "operators");

    if (r != 0)
        return pass(r);
    DIR *directory = opendir(parent);
    if (!directory)
        return errno == ENOENT ? 0 : fault(-errno, "cannot read %s", parent);
    for (const struct dirent *entry; r == 0 && (entry = readdir(directory)) != NULL;) {
        if (pki_name_is_good(entry->d_name))
            r = rotate_one(work, kind, entry->d_name, grace_us, n);
    }
    (void) closedir(directory);
    return pass(r);
}

int pki_offline_rotate(const struct pki_offline *wish,
                       int64_t grace_us,
                       uint32_t *ret_n,
                       struct tls_why *ret_why)
{
    CLEANUP(work_deinit) struct work work = { .wish = wish, .now = clock_wall(), .why = ret_why };
    char time[TEXT_TIME_BYTES];
    uint32_t n = 0;

    snprintf(work.backup, sizeof(work.backup), "backup/%s", text_of_time(work.now, time));
    for (char *at = work.backup; *at; at++) {
        if (*at == ':') /* not a name on every file system */
            *at = '.';
    }
    int r = begin(&work, false);
    if (r == 0)
        r = rotate_hub(&work, grace_us, &n);
    if (r == 0)
        r = rotate_clients(&work, PKI_AGENT, grace_us, &n);
    if (r == 0)
        r = rotate_clients(&work, PKI_OPERATOR, grace_us, &n);
    if (r != 0)
        return pass(r);
    *ret_n = n;
    return 0;
}
