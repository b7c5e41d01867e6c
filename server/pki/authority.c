/* SPDX-License-Identifier: Apache-2.0 */
#include "server/pki/authority.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/fault.h"
#include "common/base/file.h"
#include "common/crypto/crypto.h"

#define CERTIFICATE_FILE_LIMIT ((size_t) 256 * 1024)
#define COMMON_NAME_BYTES 64 /* X.520 ub-common-name */
#define MAX_HOST_NAMES 64

bool pki_path(char to[static PKI_PATH_BYTES], const char *directory, const char *name)
{
    int len = snprintf(to, PKI_PATH_BYTES, "%s/%s", directory, name);

    return len > 0 && len < PKI_PATH_BYTES;
}

int pki_of_tls(int r)
{
    switch (r) {
    case TLS_OK:
        return PKI_OK;
    case TLS_ABSENT:
        return PKI_ABSENT;
    case TLS_BAD:
    case TLS_LOOSE:
    case TLS_UNTRUSTED:
    case TLS_MISMATCH:
        return PKI_BAD;
    default:
        return fold(r);
    }
}

static int refuse_owner(const char *path, const struct stat *st, struct tls_why *ret_why)
{
    snprintf(ret_why->text, sizeof(ret_why->text),
             "%s belongs to user %u, and this is user %u; run this as that user, or mend it with: "
             "chown -R %u %s",
             path, (unsigned) st->st_uid, (unsigned) geteuid(), (unsigned) geteuid(), path);
    return PKI_BAD;
}

static int check_state(const char *path, int needed, struct tls_why *ret_why)
{
    struct stat st;

    if (stat(path, &st) < 0) {
        if (errno != EACCES)
            return 0;
        snprintf(ret_why->text, sizeof(ret_why->text),
                 "%.250s: permission denied; run this as the user of the hub", path);
        return PKI_BAD;
    }
    if (st.st_uid != geteuid() && st.st_uid != 0)
        return refuse_owner(path, &st, ret_why);
    if (st.st_mode & 022) {
        snprintf(ret_why->text, sizeof(ret_why->text),
                 "%.150s may be written by others (mode %04o); mend it with: chmod go-w %.150s",
                 path, (unsigned) st.st_mode & 07777, path);
        return PKI_BAD;
    }
    if (faccessat(AT_FDCWD, path, needed, AT_EACCESS) < 0) {
        snprintf(ret_why->text, sizeof(ret_why->text), "%.250s cannot be %s: %s; %s", path,
                 needed & W_OK ? "written" : "entered", strerror(errno),
                 errno == EROFS ? "mount it for writing, or give another state directory"
                                : "run this as the user of the hub");
        return PKI_BAD;
    }
    return 0;
}

int pki_check_state(const char *state_directory, struct tls_why *ret_why)
{
    char database[PKI_PATH_BYTES];

    if (!pki_path(database, state_directory, "db"))
        return fault(-ENAMETOOLONG, "%s", state_directory);
    int r = check_state(state_directory, X_OK, ret_why);
    return r != 0 ? pass(r) : pass(check_state(database, W_OK | X_OK, ret_why));
}

int pki_check_directory(const char *path, struct tls_why *ret_why)
{
    struct stat st;

    if (stat(path, &st) < 0) {
        if (errno != ENOENT && errno != ENOTDIR && errno != EACCES)
            return fault(-errno, "cannot look at %s", path);
        snprintf(ret_why->text, sizeof(ret_why->text), "%s: %s", path, strerror(errno));
        return errno == EACCES ? PKI_BAD : PKI_ABSENT;
    }
    if (!S_ISDIR(st.st_mode)) {
        snprintf(ret_why->text, sizeof(ret_why->text), "%s is not a directory", path);
        return PKI_BAD;
    }
    if (st.st_uid != geteuid() && st.st_uid != 0)
        return refuse_owner(path, &st, ret_why);
    if (st.st_mode & 077) {
        snprintf(ret_why->text, sizeof(ret_why->text),
                 "%s is open to others (mode %04o); mend it with: chmod 700 %s", path,
                 (unsigned) st.st_mode & 07777, path);
        return PKI_BAD;
    }
    return 0;
}

/* ---- files ---- */

static int save(const char *directory, const char *name, struct span content, mode_t mode)
{
    char path[PKI_PATH_BYTES];

    if (!pki_path(path, directory, name))
        return fault(-ENAMETOOLONG, "%s/%s", directory, name);
    int r = file_replace(path, content, mode);
    if (r == FILE_DENIED)
        return fault(-EACCES, "may not write %s", path);
    return fold(r);
}

static void wipe(struct buf *secret)
{
    if (secret->data)
        crypto_wipe(secret->data, secret->capacity);
    buf_deinit(secret);
}

static int key_path(const struct pki_issuer_place *place, char to[static PKI_PATH_BYTES])
{
    char base[96];

    snprintf(base, sizeof(base), "%.80s-key.pem", place->name);
    return pki_path(to, place->directory, base) ? 0 : fault(-ENAMETOOLONG, "%s", place->directory);
}

static int open_sealed(const struct pki_issuer_place *place,
                       const char *path,
                       struct span text,
                       struct buf *ret,
                       struct tls_why *ret_why)
{
    static const struct sealed_key none = { .is_there = false };
    const struct sealed_key *key = place->sealing ? place->sealing : &none;

    int r = sealed_open(key, place->name, text, ret);
    switch (r) {
    case SEALED_BAD:
    case SEALED_CHANGED:
        snprintf(ret_why->text, sizeof(ret_why->text),
                 "%.200s was sealed, and is not what was sealed any more: damaged, or the file of "
                 "another key; put it back from a backup",
                 path);
        return PKI_BAD;
    case SEALED_OTHER_KEY:
        snprintf(ret_why->text, sizeof(ret_why->text),
                 "%.160s is sealed under %s; give it by ca.key_file (--ca-key-file), "
                 "SENTINEL_HUB_CA_KEY, or the credential ca-key",
                 path, key->is_there ? "another key than the one given" : "a key");
        return PKI_BAD;
    default:
        return r < 0 ? pass(r) : fold(r);
    }
}

int pki_secret_load(const struct pki_issuer_place *place, struct buf *ret, struct tls_why *ret_why)
{
    CLEANUP(wipe) struct buf text = { 0 };
    char path[PKI_PATH_BYTES];

    int r = key_path(place, path);
    if (r == 0)
        r = pki_of_tls(tls_secret_load(path, &text, ret_why));
    if (r == PKI_ABSENT)
        snprintf(ret_why->text, sizeof(ret_why->text),
                 "the key is needed for this and is expected at %.200s; where it was taken away, "
                 "put it there for as long as this takes",
                 path);
    if (r != 0)
        return pass(r);
    if (sealed_is(buf_span(&text)))
        return pass(open_sealed(place, path, buf_span(&text), ret, ret_why));
    buf_append_span(ret, buf_span(&text));
    return buf_failed(ret) ? fault(-ENOMEM, "no memory for a key") : 0;
}

int pki_secret_save(const struct pki_issuer_place *place, struct span secret)
{
    CLEANUP(wipe) struct buf sealed = { 0 };
    char base[96];

    snprintf(base, sizeof(base), "%.80s-key.pem", place->name);
    if (!place->sealing || !place->sealing->is_there)
        return pass(save(place->directory, base, secret, 0600));
    sealed_close(place->sealing, place->name, secret, &sealed);
    if (buf_failed(&sealed))
        return fault(-ENOMEM, "no memory to seal a key");
    return pass(save(place->directory, base, buf_span(&sealed), 0600));
}

/* ---- issuers ---- */

void pki_issuer_deinit(struct pki_issuer *issuer)
{
    issuer->key = tls_key_free(issuer->key);
    issuer->cert = tls_cert_free(issuer->cert);
}

struct tls_signer pki_issuer_signer(const struct pki_issuer *issuer)
{
    if (issuer->key)
        return tls_signer_of_key(issuer->key);
    return (struct tls_signer){ .sign = issuer->signer->sign, .ctx = issuer->signer->ctx };
}

int pki_issuer_make(struct pki_issuer *ret,
                    const struct tls_request *request,
                    const struct pki_issuer *parent)
{
    CLEANUP(tls_key_freep) struct tls_key *key = NULL;
    CLEANUP(tls_cert_freep) struct tls_cert *cert = NULL;

    int r = tls_key_new(&key);
    if (r != 0)
        return pass(r);
    const struct tls_signer signer = parent ? pki_issuer_signer(parent) : tls_signer_of_key(key);
    r = tls_cert_issue_by(&cert, request, key, parent ? parent->cert : NULL, &signer);
    if (r != 0)
        return fold(r);
    ret->key = take(key);
    ret->cert = take(cert);
    ret->not_after = request->not_after;
    return 0;
}

static int
load_cert(struct pki_issuer *issuer, const struct pki_issuer_place *place, struct tls_why *ret_why)
{
    CLEANUP(buf_deinit) struct buf pem = { 0 };
    char base[96], path[PKI_PATH_BYTES];
    struct tls_facts facts;

    snprintf(base, sizeof(base), "%.80s-cert.pem", place->name);
    if (!pki_path(path, place->directory, base))
        return fault(-ENAMETOOLONG, "%s/%s", place->directory, base);
    int r = file_read(path, CERTIFICATE_FILE_LIMIT, &pem);
    if (r < 0)
        return pass(r);
    if (r != 0) {
        snprintf(ret_why->text, sizeof(ret_why->text), "%.250s: %s", path,
                 r == FILE_ABSENT   ? "there is no such file; `sentinel-hub init` makes it"
                 : r == FILE_DENIED ? "permission denied; run this as the user of the hub"
                                    : "too large for a certificate");
        return r == FILE_ABSENT ? PKI_ABSENT : PKI_BAD;
    }
    r = tls_cert_parse_pem(&issuer->cert, buf_span(&pem));
    if (r < 0)
        return pass(r);
    if (r != 0) {
        snprintf(ret_why->text, sizeof(ret_why->text), "%.300s does not hold a PEM certificate",
                 path);
        return PKI_BAD;
    }
    r = tls_cert_read(issuer->cert, &facts);
    if (r != 0)
        return fold(r);
    issuer->not_after = facts.not_after;
    return 0;
}

static int
load_key(struct pki_issuer *issuer, const struct pki_issuer_place *place, struct tls_why *ret_why)
{
    CLEANUP(wipe) struct buf pem = { 0 };

    int r = pki_secret_load(place, &pem, ret_why);
    if (r != 0)
        return pass(r);
    r = tls_key_parse(&issuer->key, buf_span(&pem));
    if (r == TLS_BAD) {
        snprintf(ret_why->text, sizeof(ret_why->text),
                 "%.200s/%.80s-key.pem is not a private key in PEM without password (P-256, P-384 "
                 "or RSA)",
                 place->directory, place->name);
        return PKI_BAD;
    }
    if (r == 0)
        r = tls_cert_matches_key(issuer->cert, issuer->key);
    if (r == TLS_MISMATCH) {
        snprintf(ret_why->text, sizeof(ret_why->text),
                 "%.200s/%.80s-key.pem is not the key of the certificate beside it",
                 place->directory, place->name);
        return PKI_BAD;
    }
    return fold(r);
}

int pki_issuer_load(struct pki_issuer *ret,
                    const struct pki_issuer_place *place,
                    struct tls_why *ret_why)
{
    CLEANUP(pki_issuer_deinit) struct pki_issuer issuer = { .signer = place->signer };

    int r = load_cert(&issuer, place, ret_why);
    if (r == 0 && !place->signer)
        r = load_key(&issuer, place, ret_why);
    if (r != 0)
        return pass(r);
    *ret = issuer;
    issuer = (struct pki_issuer){ 0 };
    return 0;
}

int pki_issuer_save(const struct pki_issuer *issuer, const struct pki_issuer_place *place)
{
    CLEANUP(wipe) struct buf key = { 0 };
    CLEANUP(buf_deinit) struct buf cert = { 0 };
    char base[96];

    int r = tls_key_print(issuer->key, &key);
    if (r != 0)
        return fold(r);
    r = tls_cert_print(issuer->cert, &cert);
    if (r != 0)
        return fold(r);
    if (buf_failed(&key) || buf_failed(&cert))
        return fault(-ENOMEM, "no memory for %s", place->name);
    r = pki_secret_save(place, buf_span(&key));
    if (r != 0)
        return pass(r);
    snprintf(base, sizeof(base), "%.80s-cert.pem", place->name);
    return pass(save(place->directory, base, buf_span(&cert), 0644));
}

/* ---- leaves ---- */

void pki_leaf_deinit(struct pki_leaf *leaf)
{
    wipe(&leaf->key_pem);
    buf_deinit(&leaf->chain_pem);
}

int pki_leaf_make(struct pki_leaf *ret,
                  const struct tls_request *request,
                  const struct pki_issuer *issuer)
{
    CLEANUP(pki_leaf_deinit) struct pki_leaf leaf = { 0 };
    CLEANUP(tls_key_freep) struct tls_key *key = NULL;
    CLEANUP(tls_cert_freep) struct tls_cert *cert = NULL;
    const struct tls_signer signer = pki_issuer_signer(issuer);
    struct tls_request cut = *request;
    struct tls_facts facts;

    if (cut.not_after.us > issuer->not_after.us)
        cut.not_after = issuer->not_after;
    int r = tls_key_new(&key);
    if (r == 0)
        r = tls_cert_issue_by(&cert, &cut, key, issuer->cert, &signer);
    if (r == 0)
        r = tls_cert_read(cert, &facts);
    if (r == 0)
        r = tls_key_print(key, &leaf.key_pem);
    if (r == 0)
        r = tls_cert_print(cert, &leaf.chain_pem);
    if (r == 0)
        r = tls_cert_print(issuer->cert, &leaf.chain_pem);
    if (r != 0)
        return fold(r);
    if (buf_failed(&leaf.key_pem) || buf_failed(&leaf.chain_pem))
        return fault(-ENOMEM, "no memory for a certificate");

    struct pki_identity *identity = &leaf.row.identity;
    identity->state = PKI_ACTIVE;
    snprintf(identity->serial, sizeof(identity->serial), "%s", facts.serial);
    memcpy(identity->sha256, facts.sha256, sizeof(identity->sha256));
    identity->not_before = facts.not_before;
    identity->not_after = facts.not_after;
    snprintf(leaf.row.issuer, sizeof(leaf.row.issuer), "%s", facts.issuer);
    leaf.row.registered = clock_wall();
    memcpy(leaf.row.key_sha256, facts.key_sha256, sizeof(leaf.row.key_sha256));
    memcpy(leaf.row.lineage, facts.sha256, sizeof(leaf.row.lineage)); /* begins one */
    *ret = leaf;
    leaf = (struct pki_leaf){ 0 };
    return 0;
}

int pki_leaf_make_hub(struct pki_leaf *ret,
                      const struct pki_authority *authority,
                      const struct pki_issuer *issuer,
                      wall_us now,
                      int64_t life_us)
{
    const char *names[MAX_HOST_NAMES + 1] = { NULL };
    const char *common_name = "localhost";
    char crl_url[PKI_CRL_URL_BYTES];
    bool has_common_name = false;
    size_t n = 0;

    for (size_t at = 0; at < authority->names.len && n < MAX_HOST_NAMES; n++) {
        const char *name = (const char *) authority->names.data + at;
        size_t len = strlen(name);
        names[n] = name;
        at += len + 1;
        /* The first that is no default and fits. */
        if (!has_common_name && len <= COMMON_NAME_BYTES && strcmp(name, "localhost") != 0 &&
            strcmp(name, "127.0.0.1") != 0 && strcmp(name, "::1") != 0) {
            common_name = name;
            has_common_name = true;
        }
    }
    const struct tls_request request = {
        .profile = TLS_SERVER,
        .common_name = common_name,
        .organisation = authority->organisation,
        .organisation_unit = "hubs",
        .names = names,
        .crl_url = pki_crl_url(authority, issuer->cert, crl_url),
        .not_before = { now.us - PKI_BACKDATE_US },
        .not_after = { now.us + life_us },
    };
    int r = pki_leaf_make(ret, &request, issuer);
    if (r != 0)
        return pass(r);
    ret->row.identity.kind = PKI_HUB;
    ret->row.identity.role = PKI_ROLE_NONE;
    snprintf(ret->row.identity.name, sizeof(ret->row.identity.name), "%.63s", common_name);
    return 0;
}

int pki_leaf_make_client(struct pki_leaf *ret,
                         const struct pki_authority *authority,
                         const struct pki_issuer *issuer,
                         const struct pki_issue *issue,
                         wall_us now)
{
    const bool is_agent = issue->kind == PKI_AGENT;
    int64_t life_us = issue->life_us;
    char uri[PKI_TRUST_DOMAIN_BYTES + 96], crl_url[PKI_CRL_URL_BYTES];

    if (life_us == 0)
        life_us = (is_agent ? 7 : 90) * PKI_DAY_US;
    snprintf(uri, sizeof(uri), "spiffe://%s/%s/%s", authority->trust_domain,
             is_agent ? "agent" : "operator", issue->name);
    const struct tls_request request = {
        .profile = TLS_CLIENT,
        .common_name = issue->name,
        .organisation = authority->organisation,
        .organisation_unit = is_agent ? "agents" : "operators",
        .uri = uri,
        .crl_url = pki_crl_url(authority, issuer->cert, crl_url),
        /* An already expired one (tests) was valid for as long as it has been over. */
        .not_before = { now.us - PKI_BACKDATE_US + (life_us < 0 ? 2 * life_us : 0) },
        .not_after = { now.us + life_us },
    };
    int r = pki_leaf_make(ret, &request, issuer);
    if (r != 0)
        return pass(r);
    ret->row.identity.kind = issue->kind;
    ret->row.identity.role = is_agent                       ? PKI_ROLE_AGENT
                             : issue->role == PKI_ROLE_NONE ? PKI_ROLE_OPERATOR
                                                            : issue->role;
    snprintf(ret->row.identity.name, sizeof(ret->row.identity.name), "%s", issue->name);
    return 0;
}

int pki_leaf_save_hub(const struct pki_leaf *leaf, const char *directory)
{
    int r = save(directory, "server-key.pem", buf_span(&leaf->key_pem), 0600);

    if (r != 0)
        return pass(r);
    return pass(save(directory, "server-cert.pem", buf_span(&leaf->chain_pem), 0644));
}
