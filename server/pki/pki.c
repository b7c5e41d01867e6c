/* SPDX-License-Identifier: Apache-2.0 */
#include "server/pki/pki.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/file.h"
#include "common/crypto/crypto.h"
#include "common/log/log.h"
#include "server/pki/agents/hello.h"
#include "server/pki/agents/revoked.h"
#include "server/pki/authority.h"
#include "server/pki/ca/ca.h"
#include "server/pki/enrol/lineage.h"
#include "server/pki/inside.h"
#include "server/pki/mint.h"
#include "server/pki/registry/codec.h"
#include "server/pki/registry/registry.h"

/* ---- life ---- */

void pki_set_lives(struct pki *pki, const struct pki_lives *lives)
{
    atomic_store(&pki->agent_life_us, lives->agent_us ? lives->agent_us : PKI_AGENT_LIFE_US);
    atomic_store(&pki->operator_life_us,
                 lives->operator_us ? lives->operator_us : PKI_OPERATOR_LIFE_US);
    atomic_store(&pki->grace_us, lives->grace_us ? lives->grace_us : PKI_GRACE_US);
}

static int read_adopt_until(struct pki *pki)
{
    CLEANUP(arena_deinit) struct arena arena;
    struct span value;

    arena_init(&arena, 4096);
    int r =
        store_state_get(pki->store, STORE_TABLE_META, span_of_text(PKI_ADOPT_KEY), &arena, &value);
    if (r != 0)
        return r == STORE_NOT_FOUND ? 0 : fold(r);
    struct pki_reader reader = { .rest = value };
    atomic_store(&pki->adopt_until_us, (int64_t) pki_get_u64(&reader));
    return 0;
}

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
    pthread_cond_init(&pki->applied, NULL);
    pthread_mutex_init(&pki->worker.lock, NULL);
    pthread_cond_init(&pki->worker.wake, NULL);
    pki_set_lives(pki, &options->lives);
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
    r = pki_ca_open(pki, options, ret_why);
    if (r != 0)
        return pass(r);
    r = pki_refresh(pki);
    if (r != 0)
        return fold(r);
    atomic_store(&pki->last_own, atomic_load(&pki->generation));
    r = pki_migrate(pki);
    if (r == PKI_FULL)
        return fault(-ENOSPC, "the disk is full: the registry cannot be opened");
    if (r == 0)
        r = pki_hellos_open(pki);
    if (r == 0)
        r = read_adopt_until(pki);
    if (r == 0)
        r = pki_revoked_open(pki, state_directory, ret_why);
    if (r != 0)
        return pass(r);
    *ret = take(pki);
    return 0;
}

struct pki *pki_close(struct pki *pki)
{
    if (!pki)
        return NULL;
    pki_work_stop(pki);
    pki_ca_close(pki);
    pki_revoked_close(pki);
    pki_hellos_close(pki);
    pki_view_free(pki->view);
    pki_authority_deinit(&pki->authority);
    pthread_rwlock_destroy(&pki->lock);
    pthread_cond_destroy(&pki->worker.wake);
    pthread_mutex_destroy(&pki->worker.lock);
    pthread_cond_destroy(&pki->applied);
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

/* By a command on this machine: whoever may read the CA's keys. */
static int put_issued_entry(struct pki_edit *edit, const struct pki_row *row)
{
    char name[PKI_OBJECT_BYTES], certificate[PKI_OBJECT_BYTES], actor[32];
    const struct audit_field fields[] = {
        { "certificate", pki_object_of(row->identity.sha256, certificate) },
        { "role", pki_role_name(row->identity.role) },
    };
    const struct audit_entry entry = {
        .event = AUDIT_ISSUED, .actor = actor, .object = name, .fields = fields, .n_fields = 2
    };

    snprintf(actor, sizeof(actor), "local/%u", (unsigned) getuid());
    snprintf(name, sizeof(name), "%s/%s", row->identity.kind == PKI_AGENT ? "agent" : "operator",
             row->identity.name);
    return pass(pki_edit_audit(edit, &entry));
}

/* A new certificate, and for an agent what is known of its name. An operator of this machine lets
 * it in, also when it was thrown out before. */
struct issuing {
    const struct pki_row *row;
    bool was_revoked; /* the agent */
};

static int put_issued(struct pki_edit *edit, void *ctx)
{
    struct issuing *issuing = ctx;
    const struct pki_row *row = issuing->row;
    struct pki_agent_row agent = { 0 };

    int r = pki_edit_put(edit, row);
    if (r != 0)
        return pass(r);
    if (row->identity.kind != PKI_AGENT)
        return pass(put_issued_entry(edit, row));
    r = pki_edit_agent_get(edit, row->identity.name, &agent);
    if (r != 0 && r != STORE_NOT_FOUND)
        return pass(r);
    if (r == STORE_NOT_FOUND) {
        memcpy(agent.agent.name, row->identity.name, sizeof(agent.agent.name));
        agent.agent.enrolled = edit->now;
    }
    issuing->was_revoked = agent.agent.state == PKI_AGENT_REVOKED;
    agent.agent.state = PKI_AGENT_ALLOWED;
    agent.agent.changed = edit->now;
    memcpy(agent.agent.current, row->identity.sha256, sizeof(agent.agent.current));
    memcpy(agent.lineage, row->lineage, sizeof(agent.lineage));
    agent.agent.reason[0] = 0;
    r = pki_edit_agent_put(edit, &agent);
    return r != 0 ? pass(r) : pass(put_issued_entry(edit, row));
}

int pki_issue_identity(struct pki *pki, const struct pki_issue *issue, struct tls_why *ret_why)
{
    CLEANUP(pki_issuer_deinit) struct pki_issuer issuer = { 0 };
    CLEANUP(pki_leaf_deinit) struct pki_leaf leaf = { 0 };
    CLEANUP(tls_identity_deinit) struct tls_identity identity = { 0 };
    struct pki_issue lived = *issue;

    ensure(issue->kind == PKI_AGENT || issue->kind == PKI_OPERATOR);
    if (lived.life_us == 0)
        lived.life_us =
            atomic_load(issue->kind == PKI_AGENT ? &pki->agent_life_us : &pki->operator_life_us);
    int r = pki_check_name(issue->name, ret_why);
    if (r == 0)
        r = check_output(issue->directory, ret_why);
    if (r == 0)
        r = pki_ca_issuer(pki, PKI_PART_AGENTS, &issuer, ret_why);
    if (r == 0)
        r = pki_read_roots(pki, &identity.roots_pem, ret_why);
    if (r == 0)
        r = pki_leaf_make_client(&leaf, &pki->authority, &issuer, &lived, clock_wall());
    if (r != 0)
        return pass(r);
    /* Registered first: a row without files harms nobody, files without a row would be refused
     * everywhere. */
    struct issuing issuing = { .row = &leaf.row };
    r = pki_change(pki, put_issued, &issuing, NULL);
    if (r == PKI_FULL)
        return fault(-ENOSPC, "the disk is full: nothing was registered");
    if (r != 0)
        return pass(r);
    if (issuing.was_revoked)
        pki_revoked_allow(pki, issue->name);
    identity.chain_pem = leaf.chain_pem;
    identity.key_pem = leaf.key_pem;
    leaf.chain_pem = leaf.key_pem = (struct buf){ 0 };
    r = pki_of_tls(tls_identity_save(issue->directory, &identity, ret_why));
    if (r == 0 && issue->kind == PKI_AGENT)
        pki_ca_note_bundle(pki, issue->name);
    return pass(r);
}

/* ---- who is it ---- */

/* The name's state goes before the certificate's own. */
static int judge(const struct pki_name *name, const struct pki_identity *identity, wall_us now)
{
    if (identity->state == PKI_REVOKED)
        return PKI_NOT_ACTIVE;
    if (name->has_row && name->state == PKI_AGENT_FORKED)
        return PKI_FORKED;
    switch (identity->state) {
    case PKI_ACTIVE:
    case PKI_UNCONFIRMED: /* becomes current by being presented */
        return now.us >= identity->not_after.us ? PKI_EXPIRED : PKI_OK;
    case PKI_SUPERSEDED:
    case PKI_REVOKED:
    default:
        return PKI_NOT_ACTIVE;
    }
}

static int look_up(struct pki *pki, const uint8_t sha256[32], wall_us now, struct pki_identity *ret)
{
    int r = PKI_UNKNOWN;

    pthread_rwlock_rdlock(&pki->lock);
    const struct pki_entry *found = pki_view_find(pki->view, sha256);
    if (found) {
        *ret = found->identity;
        ret->generation = atomic_load(&pki->generation);
        r = judge(found->name, &found->identity, now);
    }
    pthread_rwlock_unlock(&pki->lock);
    return r;
}

/* Of a certificate in a handshake. It is noted when; and whether it comes after its successor. */
static int
look_up_presented(struct pki *pki, const uint8_t sha256[32], wall_us now, struct pki_identity *ret)
{
    int r = PKI_UNKNOWN;
    bool is_fork = false;

    pthread_rwlock_rdlock(&pki->lock);
    struct pki_entry *found = pki_view_find(pki->view, sha256);
    if (found) {
        const struct pki_name *name = found->name;

        *ret = found->identity;
        ret->generation = atomic_load(&pki->generation);
        r = judge(name, &found->identity, now);
        atomic_store_explicit(&found->presented_us, now.us, memory_order_relaxed);
        is_fork = r == PKI_NOT_ACTIVE && found->identity.state == PKI_SUPERSEDED && name->has_row &&
                  name->state == PKI_AGENT_ALLOWED &&
                  memcmp(name->lineage, found->lineage, sizeof(name->lineage)) == 0 &&
                  now.us < found->identity.not_after.us &&
                  now.us - found->changed.us > PKI_FORK_GRACE_US;
    }
    pthread_rwlock_unlock(&pki->lock);
    if (is_fork) {
        pki_fork(pki, sha256);
        return PKI_FORKED;
    }
    return r;
}

typedef int
look_up_fn(struct pki *pki, const uint8_t sha256[32], wall_us now, struct pki_identity *ret);

/* One that an offline command has just registered is known at once: the database is looked at
 * again. */
static int look_twice(struct pki *pki,
                      look_up_fn *fn,
                      const uint8_t sha256[32],
                      wall_us now,
                      struct pki_identity *ret)
{
    int r = fn(pki, sha256, now, ret);

    if (r != PKI_UNKNOWN)
        return pass(r);
    r = pki_refresh(pki);
    if (r)
        return pass(r);
    return pass(fn(pki, sha256, now, ret));
}

int pki_recheck(struct pki *pki, const uint8_t sha256[32], wall_us now, struct pki_identity *ret)
{
    int r = pki_bearer_recheck(pki, sha256, now, ret);

    if (r == PKI_UNKNOWN)
        r = look_twice(pki, look_up, sha256, now, ret);
    if (r != PKI_UNKNOWN || !pki_clerk_find_leaf(pki->ca->clerk, sha256, ret))
        return pass(r);
    ret->generation = pki_generation(pki);
    return now.us >= ret->not_after.us ? PKI_EXPIRED : PKI_OK;
}

int pki_identify(struct pki *pki, struct span leaf_der, wall_us now, struct pki_identity *ret)
{
    uint8_t sha256[CRYPTO_SHA256_BYTES];

    crypto_sha256(leaf_der, sha256);
    int r = look_twice(pki, look_up_presented, sha256, now, ret);
    if (r != PKI_UNKNOWN)
        return pass(r);
    r = pki_adopt(pki, leaf_der, now);
    if (r == 0)
        return pass(look_up_presented(pki, sha256, now, ret));
    /* Revoked after the backup that the registry comes from. */
    if (r == PKI_UNKNOWN && now.us < atomic_load(&pki->adopt_until_us) &&
        pki_revoked_has(pki->revoked, sha256)) {
        *ret = (struct pki_identity){ .state = PKI_REVOKED };
        return PKI_NOT_ACTIVE;
    }
    return r == PKI_UNKNOWN ? pass(pki_foreign_identify(pki, leaf_der, now, ret)) : pass(r);
}

const char *pki_first_name(const struct pki *pki)
{
    static const char *const defaults[] = { "localhost", "127.0.0.1", "::1" };
    const struct buf *names = &pki->authority.names;

    for (size_t at = 0; at < names->len; at += strlen((const char *) names->data + at) + 1) {
        const char *name = (const char *) names->data + at;
        bool is_default = false;

        for (size_t i = 0; i < sizeof(defaults) / sizeof(defaults[0]); i++)
            is_default = is_default || strcmp(name, defaults[i]) == 0;
        if (!is_default)
            return name;
    }
    return defaults[0];
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
