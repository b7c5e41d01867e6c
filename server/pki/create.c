/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/fault.h"
#include "common/base/faultpoint.h"
#include "common/base/file.h"
#include "server/pki/authority.h"

/*
 * Everything is made beside its place and renamed into it, so that a run that was cut leaves either
 * a whole certs directory or none.
 */

#define ROOT_LIFE_US (3650 * PKI_DAY_US)
#define MAX_NAMES 61 /* with the three defaults: 64 */

struct paths {
    char certs[PKI_PATH_BYTES], certs_new[PKI_PATH_BYTES];
    char operators[PKI_PATH_BYTES], admin[PKI_PATH_BYTES], admin_new[PKI_PATH_BYTES];
};

struct created {
    struct pki_issuer root, agents, hubs;
    struct pki_leaf server, admin;
};

static void created_deinit(struct created *created)
{
    pki_issuer_deinit(&created->root);
    pki_issuer_deinit(&created->agents);
    pki_issuer_deinit(&created->hubs);
    pki_leaf_deinit(&created->server);
    pki_leaf_deinit(&created->admin);
}

static bool exists(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0;
}

/* An empty directory is as good as none: a mount point, or made by a packager. */
static bool is_taken(const char *path)
{
    return exists(path) && rmdir(path) < 0;
}

static bool is_url(const char *text)
{
    if (strncmp(text, "http://", 7) != 0 && strncmp(text, "https://", 8) != 0)
        return false;
    for (; *text; text++) {
        if (*text <= ' ' || *text > '~')
            return false;
    }
    return true;
}

/* That of the first name on the port for HTTPS, unless it was said. A hub without a name has none
 * that others could ask. */
static void put_crl_url(const struct pki_init *init, struct pki_authority *to)
{
    const char *name = init->names ? init->names[0] : NULL;

    to->crl_url[0] = 0;
    if (init->crl_url && strcmp(init->crl_url, "none") != 0)
        snprintf(to->crl_url, sizeof(to->crl_url), "%s", init->crl_url);
    else if (!init->crl_url && name && strncmp(name, "*.", 2) != 0)
        snprintf(to->crl_url, sizeof(to->crl_url),
                 strchr(name, ':') ? "https://[%s]:8081/crl" : "https://%s:8081/crl", name);
}

int pki_check_init(const struct pki_init *init, struct pki_authority *ret, struct tls_why *ret_why)
{
    static const char *const defaults[] = { "localhost", "127.0.0.1", "::1" };
    const char *organisation = init->organisation ? init->organisation : "Sentinel";
    const char *trust_domain = init->trust_domain ? init->trust_domain : "sentinel.internal";
    size_t n_names = 0;

    int r = pki_check_organisation(organisation, ret_why);
    if (r == 0)
        r = pki_check_trust_domain(trust_domain, ret_why);
    for (; r == 0 && init->names && init->names[n_names]; n_names++)
        r = pki_check_host(init->names[n_names], ret_why);
    if (r != 0)
        return r;
    if (n_names > MAX_NAMES) {
        snprintf(ret_why->text, sizeof(ret_why->text), "at most %d names can be given", MAX_NAMES);
        return PKI_BAD_NAME;
    }
    if (init->crl_url && strcmp(init->crl_url, "none") != 0 && !is_url(init->crl_url)) {
        snprintf(ret_why->text, sizeof(ret_why->text),
                 "the URL of the CRL does not begin with http:// or https://, or has a space; "
                 "write for example https://hub.example.org:8081/crl, or `none`");
        return PKI_BAD_NAME;
    }
    if (init->crl_url && strlen(init->crl_url) >= PKI_URL_BYTES) {
        snprintf(ret_why->text, sizeof(ret_why->text), "the URL of the CRL is too long");
        return PKI_BAD_NAME;
    }
    snprintf(ret->organisation, sizeof(ret->organisation), "%s", organisation);
    snprintf(ret->trust_domain, sizeof(ret->trust_domain), "%s", trust_domain);
    put_crl_url(init, ret);
    for (size_t i = 0; i < sizeof(defaults) / sizeof(defaults[0]); i++)
        buf_append(&ret->names, defaults[i], strlen(defaults[i]) + 1);
    for (size_t i = 0; i < n_names; i++) {
        bool is_default = false;
        for (size_t j = 0; j < sizeof(defaults) / sizeof(defaults[0]); j++)
            is_default = is_default || strcmp(init->names[i], defaults[j]) == 0;
        if (!is_default)
            buf_append(&ret->names, init->names[i], strlen(init->names[i]) + 1);
    }
    return buf_failed(&ret->names) ? fault(-ENOMEM, "no memory for names") : 0;
}

/* Directories, and that nothing is there that would be overwritten. */
static int
prepare(const char *state, struct paths *paths, bool *ret_is_cut, struct tls_why *ret_why)
{
    if (!pki_path(paths->certs, state, "certs") ||
        !pki_path(paths->certs_new, state, "certs.new") ||
        !pki_path(paths->operators, state, "operators") ||
        !pki_path(paths->admin, state, "operators/admin") ||
        !pki_path(paths->admin_new, state, "operators/admin.new")) {
        snprintf(ret_why->text, sizeof(ret_why->text), "the state directory's path is too long");
        return PKI_BAD;
    }
    int r = pki_check_state(state, ret_why);
    if (r != 0)
        return pass(r);
    *ret_is_cut = exists(paths->certs) && !is_taken(paths->admin) && exists(paths->admin_new) &&
                  !exists(paths->certs_new);
    if (*ret_is_cut)
        return 0;
    const char *taken = is_taken(paths->certs)   ? paths->certs
                        : is_taken(paths->admin) ? paths->admin
                                                 : NULL;
    if (taken) {
        snprintf(ret_why->text, sizeof(ret_why->text),
                 "%.250s is there already; nothing was changed. To begin anew, move it away first",
                 taken);
        return PKI_EXISTS;
    }
    r = file_remove_tree(paths->certs_new);
    if (r == 0)
        r = file_remove_tree(paths->admin_new);
    if (r != 0)
        return fold(r);
    r = file_make_directories(paths->certs_new, 0700);
    if (r == 0)
        r = file_make_directories(paths->operators, 0700);
    if (r == FILE_DENIED) {
        snprintf(ret_why->text, sizeof(ret_why->text),
                 "may not write to %.250s; run this as the user of the hub", state);
        return PKI_BAD;
    }
    return fold(r);
}

int pki_make_hierarchy(const struct pki_authority *authority,
                       wall_us now,
                       struct pki_issuer *root,
                       struct pki_issuer *agents,
                       struct pki_issuer *hubs)
{
    const struct {
        enum tls_profile profile;
        const char *name;
        struct pki_issuer *issuer;
        const struct pki_issuer *parent;
    } rows[] = {
        { TLS_ROOT, "Sentinel CA", root, NULL },
        { TLS_INTERMEDIATE, "Sentinel Agents CA", agents, root },
        { TLS_INTERMEDIATE, "Sentinel Hubs CA", hubs, root },
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct tls_request request = {
            .profile = rows[i].profile,
            .common_name = rows[i].name,
            .organisation = authority->organisation,
            .not_before = { now.us - PKI_BACKDATE_US },
            .not_after = { now.us + ROOT_LIFE_US },
        };
        int r = pki_issuer_make(rows[i].issuer, &request, rows[i].parent);
        if (r != 0)
            return pass(r);
    }
    return 0;
}

static int save_all(const struct created *created,
                    const struct paths *paths,
                    const struct sealed_key *sealing,
                    struct tls_why *ret_why)
{
    const struct {
        const char *name;
        const struct pki_issuer *issuer;
    } issuers[] = { { "ca", &created->root },
                    { "agents-ca", &created->agents },
                    { "hubs-ca", &created->hubs } };
    CLEANUP(tls_identity_deinit) struct tls_identity admin = { 0 };
    int r = 0;

    for (size_t i = 0; r == 0 && i < sizeof(issuers) / sizeof(issuers[0]); i++) {
        const struct pki_issuer_place place = { .directory = paths->certs_new,
                                                .name = issuers[i].name,
                                                .sealing = sealing };
        r = pki_issuer_save(issuers[i].issuer, &place);
    }
    if (r == 0)
        r = pki_leaf_save_hub(&created->server, paths->certs_new);
    if (r != 0)
        return pass(r);
    r = tls_cert_print(created->root.cert, &admin.roots_pem);
    if (r != 0)
        return fold(r);
    buf_append_span(&admin.chain_pem, buf_span(&created->admin.chain_pem));
    buf_append_span(&admin.key_pem, buf_span(&created->admin.key_pem));
    if (buf_failed(&admin.roots_pem) || buf_failed(&admin.chain_pem) || buf_failed(&admin.key_pem))
        return fault(-ENOMEM, "no memory for the first operator");
    return pass(pki_of_tls(tls_identity_save(paths->admin_new, &admin, ret_why)));
}

/* The authority first: where it is and the first operator is not, a run was cut just here. */
static int put_in_place(const char *state, const struct paths *paths, bool is_cut)
{
    if (!is_cut && rename(paths->certs_new, paths->certs) < 0)
        return fault(-errno, "cannot rename %s", paths->certs_new);
    faultpoint("authority_in_place");
    if (rename(paths->admin_new, paths->admin) < 0)
        return fault(-errno, "cannot rename %s", paths->admin_new);
    CLEANUP(fd_closep) int fd = open(state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CLEANUP(fd_closep) int operators = open(paths->operators, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) < 0 || operators < 0 || fsync(operators) < 0)
        return fault(-errno, "cannot sync %s", state);
    return 0;
}

int pki_create(struct store *store, const struct pki_init *init, struct tls_why *ret_why)
{
    static const struct pki_issue admin = { .kind = PKI_OPERATOR,
                                            .name = "admin",
                                            .role = PKI_ROLE_ADMIN };
    CLEANUP(pki_authority_deinit) struct pki_authority authority = { 0 };
    CLEANUP(created_deinit) struct created created = { 0 };
    CLEANUP(sealed_key_deinit) struct sealed_key sealing = { .is_there = false };
    const wall_us now = clock_wall();
    struct paths paths;
    bool is_cut = false;

    int r = pki_check_init(init, &authority, ret_why);
    if (r != 0)
        return pass(r);
    r = sealed_key_find(init->ca_key_file, &sealing, ret_why);
    if (r > 0)
        return r == SEALED_ABSENT ? PKI_ABSENT : PKI_BAD;
    if (r == 0)
        r = prepare(init->state_directory, &paths, &is_cut, ret_why);
    if (r != 0)
        return pass(r);
    if (is_cut)
        return pass(put_in_place(init->state_directory, &paths, true));
    r = pki_make_hierarchy(&authority, now, &created.root, &created.agents, &created.hubs);
    if (r == 0)
        r = pki_leaf_make_hub(&created.server, &authority, &created.hubs, now, PKI_HUB_LIFE_US);
    if (r == 0)
        r = pki_leaf_make_client(&created.admin, &authority, &created.agents, &admin, now);
    if (r == 0)
        r = save_all(&created, &paths, &sealing, ret_why);
    if (r != 0)
        return pass(r);
    const struct pki_row rows[] = { created.server.row, created.admin.row };
    const struct pki_change change = { .rows = rows, .n_rows = 2, .authority = &authority };
    r = pki_registry_change(store, &change);
    if (r == PKI_FULL)
        return fault(-ENOSPC, "the disk is full: nothing was registered");
    if (r != 0)
        return pass(r);
    return pass(put_in_place(init->state_directory, &paths, false));
}
