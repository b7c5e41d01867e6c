/* SPDX-License-Identifier: Apache-2.0 */
#include "server/pki/pki.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/file.h"
#include "common/crypto/crypto.h"
#include "common/log/log.h"
#include "server/pki/authority.h"
#include "server/pki/ca/ca.h"
#include "server/pki/inside.h"
#include "server/pki/registry.h"

#define ROOTS_LIMIT_BYTES ((size_t) 256 * 1024)

/* ---- one reading of the tables ---- */

static struct pki_view *view_free(struct pki_view *view)
{
    if (!view)
        return NULL;
    map_deinit(&view->by_sha256);
    free(view->identities);
    free(view);
    return NULL;
}
DEFINE_CLEANUP(struct pki_view *, view_free);

struct reading {
    struct pki_view *view;
    int r;
};

static bool on_row(void *ctx, struct span key, struct span value)
{
    struct reading *reading = ctx;
    struct pki_view *view = reading->view;
    struct pki_row row;

    int r = pki_row_decode(key, value, &row);
    if (r != 0) { /* of a newer version: its bearer is unknown to us, which is the safe side */
        view->n_unreadable++;
        return true;
    }
    if (view->n_identities == view->capacity) {
        size_t capacity = view->capacity ? 2 * view->capacity : 64;
        struct pki_identity *grown =
            reallocarray(view->identities, capacity, sizeof(*view->identities));
        if (!grown) {
            reading->r = fault(-ENOMEM, "no memory for %zu identities", capacity);
            return false;
        }
        view->identities = grown;
        view->capacity = capacity;
    }
    view->identities[view->n_identities++] = row.identity;
    return true;
}

static int view_read(struct store *store, struct pki_view **ret)
{
    CLEANUP(view_freep) struct pki_view *view = calloc(1, sizeof(*view));

    if (!view)
        return fault(-ENOMEM, "no memory for the registry");
    struct reading reading = { .view = view };
    int r = store_state_each(store, STORE_TABLE_CERTIFICATES, on_row, &reading);
    if (r != 0)
        return fold(r);
    if (reading.r != 0)
        return pass(reading.r);
    /* The map borrows its keys, so it is filled when nothing moves any more. */
    for (size_t i = 0; i < view->n_identities; i++) {
        struct pki_identity *identity = &view->identities[i];
        r = map_put(&view->by_sha256, span_of(identity->sha256, sizeof(identity->sha256)),
                    identity);
        if (r != 0)
            return pass(r);
    }
    if (view->n_unreadable > 0)
        log_event(LOG_WARN, "registry_rows_unreadable", LOG_U("rows", view->n_unreadable));
    *ret = take(view);
    return 0;
}

/* Under `refreshing`. */
static int read_again(struct pki *pki, uint64_t generation)
{
    struct pki_view *view = NULL;

    int r = view_read(pki->store, &view);
    if (r != 0)
        return pass(r);
    pthread_rwlock_wrlock(&pki->lock);
    struct pki_view *old = pki->view;
    pki->view = view;
    atomic_store(&pki->generation, generation);
    pthread_rwlock_unlock(&pki->lock);
    view_free(old);
    return 0;
}

int pki_refresh(struct pki *pki)
{
    uint64_t generation;
    int r = 0;

    pthread_mutex_lock(&pki->refreshing);
    /* Version, then generation, then rows: what changes in between is seen at the next refresh. */
    uint64_t version = store_state_version(pki->store);
    if (version != pki->state_version || !pki->view) {
        r = pki_registry_generation(pki->store, &generation);
        if (r == 0 && (generation != atomic_load(&pki->generation) || !pki->view))
            r = read_again(pki, generation);
        if (r == 0)
            pki->state_version = version;
    }
    pthread_mutex_unlock(&pki->refreshing);
    return r != 0 ? pass(r) : pass(pki_ca_refresh(pki));
}

/* ---- life ---- */

int pki_open(struct pki **ret,
             struct store *store,
             const char *state_directory,
             struct tls_why *ret_why)
{
    const struct pki_options options = { .state_directory = state_directory };

    return pass(pki_open_with(ret, store, &options, ret_why));
}

int pki_open_with(struct pki **ret,
                  struct store *store,
                  const struct pki_options *options,
                  struct tls_why *ret_why)
{
    const char *const state_directory = options->state_directory;
    CLEANUP(pki_closep) struct pki *pki = calloc(1, sizeof(*pki));
    char root[PKI_PATH_BYTES];
    struct stat st;

    if (!pki)
        return fault(-ENOMEM, "no memory for the registry");
    pki->store = store;
    pthread_mutex_init(&pki->refreshing, NULL);
    pthread_rwlock_init(&pki->lock, NULL);
    if (!pki_path(pki->certs, state_directory, "certs") ||
        !pki_path(root, pki->certs, "ca-cert.pem"))
        return fault(-ENAMETOOLONG, "%s", state_directory);
    int r = pki_check_state(state_directory, ret_why);
    if (r != 0)
        return pass(r);
    r = pki_check_directory(pki->certs, ret_why);
    if (r == PKI_ABSENT || (r == 0 && stat(root, &st) < 0)) {
        snprintf(ret_why->text, sizeof(ret_why->text),
                 "%.200s has no certificate authority; make one with: sentinel-hub init",
                 state_directory);
        return PKI_ABSENT;
    }
    if (r != 0)
        return pass(r);
    r = pki_authority_read(store, &pki->authority);
    if (r == PKI_ABSENT || r == PKI_BAD) {
        snprintf(ret_why->text, sizeof(ret_why->text),
                 "the database does not know the authority in %.200s: it is of another hub, or of "
                 "a newer version; restore both from one backup",
                 pki->certs);
        return PKI_BAD;
    }
    if (r != 0)
        return fold(r);
    r = pki_ca_open(pki, options->ca_key_file, ret_why);
    if (r != 0)
        return pass(r);
    r = pki_refresh(pki);
    if (r != 0)
        return fold(r);
    *ret = take(pki);
    return 0;
}

struct pki *pki_close(struct pki *pki)
{
    if (!pki)
        return NULL;
    pki_ca_close(pki);
    view_free(pki->view);
    pki_authority_deinit(&pki->authority);
    pthread_rwlock_destroy(&pki->lock);
    pthread_mutex_destroy(&pki->refreshing);
    free(pki);
    return NULL;
}

/* ---- issuing ---- */

/* An identity that is there already is somebody's only key: never overwritten. */
static int check_output(const char *directory, struct tls_why *ret_why)
{
    static const char *const names[] = { "client-key.pem", "client-cert.pem" };
    char path[PKI_PATH_BYTES];
    struct stat st;

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (!pki_path(path, directory, names[i])) {
            snprintf(ret_why->text, sizeof(ret_why->text), "the path is too long");
            return PKI_BAD;
        }
        if (lstat(path, &st) == 0) {
            snprintf(ret_why->text, sizeof(ret_why->text),
                     "%.250s is there already; give another directory, or move it away", path);
            return PKI_EXISTS;
        }
    }
    /* Said now, not when the row is written already. */
    int r = pki_check_directory(directory, ret_why);
    return r == PKI_ABSENT ? 0 : pass(r);
}

static int read_roots(const struct pki *pki, struct buf *ret, struct tls_why *ret_why)
{
    char path[PKI_PATH_BYTES];

    if (!pki_path(path, pki->certs, "ca-cert.pem"))
        return fault(-ENAMETOOLONG, "%s", pki->certs);
    int r = file_read(path, ROOTS_LIMIT_BYTES, ret);
    if (r <= 0)
        return pass(r);
    snprintf(ret_why->text, sizeof(ret_why->text), "cannot read %.250s", path);
    return r == FILE_ABSENT ? PKI_ABSENT : PKI_BAD;
}

int pki_issue_identity(struct pki *pki, const struct pki_issue *issue, struct tls_why *ret_why)
{
    CLEANUP(pki_issuer_deinit) struct pki_issuer issuer = { 0 };
    CLEANUP(pki_leaf_deinit) struct pki_leaf leaf = { 0 };
    CLEANUP(tls_identity_deinit) struct tls_identity identity = { 0 };

    ensure(issue->kind == PKI_AGENT || issue->kind == PKI_OPERATOR);
    int r = pki_check_name(issue->name, ret_why);
    if (r == 0)
        r = check_output(issue->directory, ret_why);
    if (r == 0)
        r = pki_ca_issuer(pki, PKI_PART_AGENTS, &issuer, ret_why);
    if (r == 0)
        r = read_roots(pki, &identity.roots_pem, ret_why);
    if (r == 0)
        r = pki_leaf_make_client(&leaf, &pki->authority, &issuer, issue, clock_wall());
    if (r != 0)
        return pass(r);
    /* Registered first: a row without files harms nobody, files without a row would be refused
     * everywhere. */
    const struct pki_change change = { .certs_directory = pki->certs,
                                       .rows = &leaf.row,
                                       .n_rows = 1 };
    r = pki_registry_change(pki->store, &change);
    if (r != 0)
        return pass(r);
    identity.chain_pem = leaf.chain_pem;
    identity.key_pem = leaf.key_pem;
    leaf.chain_pem = leaf.key_pem = (struct buf){ 0 };
    r = pki_of_tls(tls_identity_save(issue->directory, &identity, ret_why));
    if (r != 0)
        return pass(r);
    return pass(pki_refresh(pki));
}

/* ---- who is it ---- */

static int look_up(struct pki *pki, const uint8_t sha256[32], wall_us now, struct pki_identity *ret)
{
    struct pki_identity identity;

    pthread_rwlock_rdlock(&pki->lock);
    const struct pki_identity *found = map_get(&pki->view->by_sha256, span_of(sha256, 32));
    if (found) {
        identity = *found;
        identity.generation = atomic_load(&pki->generation);
    }
    pthread_rwlock_unlock(&pki->lock);
    if (!found)
        return PKI_UNKNOWN;
    *ret = identity;
    switch (identity.state) {
    case PKI_ACTIVE:
    case PKI_UNCONFIRMED: /* becomes current by being presented */
        return now.us >= identity.not_after.us ? PKI_EXPIRED : PKI_OK;
    case PKI_SUPERSEDED:
    case PKI_REVOKED:
    default:
        return PKI_NOT_ACTIVE;
    }
}

/* One that an offline command has just registered is known at once: the database is looked at
 * again. */
int pki_recheck(struct pki *pki, const uint8_t sha256[32], wall_us now, struct pki_identity *ret)
{
    int r = look_up(pki, sha256, now, ret);

    if (r != PKI_UNKNOWN)
        return pass(r);
    r = pki_refresh(pki);
    if (r)
        return pass(r);
    return pass(look_up(pki, sha256, now, ret));
}

int pki_identify(struct pki *pki, struct span leaf_der, wall_us now, struct pki_identity *ret)
{
    uint8_t sha256[CRYPTO_SHA256_BYTES];

    crypto_sha256(leaf_der, sha256);
    return pki_recheck(pki, sha256, now, ret);
}

uint64_t pki_generation(const struct pki *pki)
{
    return atomic_load_explicit(&pki->generation, memory_order_acquire);
}

const char *pki_role_name(enum pki_role role)
{
    switch (role) {
    case PKI_ROLE_AGENT:
        return "agent";
    case PKI_ROLE_VIEWER:
        return "viewer";
    case PKI_ROLE_OPERATOR:
        return "operator";
    case PKI_ROLE_ADMIN:
        return "admin";
    case PKI_ROLE_EXPORTER:
        return "exporter";
    case PKI_ROLE_NONE:
    default:
        return "none";
    }
}
