/* SPDX-License-Identifier: Apache-2.0 */
#include "common/tls/tls_private.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/fault.h"
#include "common/base/faultpoint.h"
#include "common/base/file.h"
#include "common/crypto/crypto.h"

#define ROOTS_NAME "ca-cert.pem"
#define CHAIN_NAME "client-cert.pem"
#define KEY_NAME "client-key.pem"
/*
 * Where a new key waits until its certificate is in place. A save writes it, replaces the
 * certificate, and renames it: whatever moment the power fails at, one of the two keys belongs to
 * the certificate that is there.
 */
#define NEXT_KEY_NAME "client-key.next.pem"

#define MAX_IDENTITY_CERTS 1024

enum file_kind { PUBLIC_FILE, KEY_FILE };

/* ---- commands that mend ---- */

/* Quoted for a shell where it must be. */
static void append_quoted(struct buf *to, const char *path)
{
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+@:,";

    if (*path && *path != '-' && path[strspn(path, plain)] == '\0') {
        buf_append_text(to, path);
        return;
    }
    buf_append_text(to, *path == '-' ? "./'" : "'");
    for (; *path; path++) {
        if (*path == '\'')
            buf_append_text(to, "'\\''");
        else
            buf_append(to, path, 1);
    }
    buf_append_text(to, "'");
}

static int
refuse_loose(struct tls_why *why, const char *path, const char *what, const char *command)
{
    CLEANUP(buf_deinit) struct buf mend = { 0 };

    buf_printf(&mend, "%s ", command);
    append_quoted(&mend, path);
    return tls_refuse(why, TLS_LOOSE, "%s; mend it with: %s", what, buf_text(&mend));
}

static int check_owner(const char *path, const struct stat *info, struct tls_why *why)
{
    char what[96];
    char command[64];

    if (info->st_uid == geteuid() || info->st_uid == 0)
        return 0;
    snprintf(what, sizeof(what), "its owner is user %u, neither we (%u) nor root",
             (unsigned) info->st_uid, (unsigned) geteuid());
    snprintf(command, sizeof(command), "chown %u", (unsigned) geteuid());
    return refuse_loose(why, path, what, command);
}

/* 0600 and less, or 0440: systemd credentials and mounted secrets come so. */
static int check_key_mode(const char *path, const struct stat *info, struct tls_why *why)
{
    mode_t mode = info->st_mode & 07777;
    char what[96];

    if ((mode & ~(mode_t) 0600) == 0 || mode == 0440)
        return 0;
    snprintf(what, sizeof(what), "the private key has mode %04o, but others must not use it",
             (unsigned) mode);
    return refuse_loose(why, path, what, "chmod 600");
}

static int check_public_mode(const char *path, const struct stat *info, struct tls_why *why)
{
    mode_t mode = info->st_mode & 07777;
    char what[96];

    if ((mode & 022) == 0)
        return 0;
    snprintf(what, sizeof(what), "the certificate file has mode %04o, but others must not write it",
             (unsigned) mode);
    return refuse_loose(why, path, what, "chmod 644");
}

static int refuse_open(const char *path, int error, struct tls_why *why)
{
    char shown[TLS_SHOWN_BYTES];
    char command[64];

    if (error == ENOENT || error == ENOTDIR)
        return tls_refuse(why, TLS_ABSENT, "%s does not exist", tls_shown(path, shown));
    if (error != EACCES && error != EPERM)
        return fault(-error, "cannot open %s", path);
    snprintf(command, sizeof(command), "chown %u", (unsigned) geteuid());
    return refuse_loose(why, path, "it may not be read by this user", command);
}

static int check_directory(const char *directory, struct tls_why *why)
{
    CLEANUP(fd_closep) int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat info;
    char what[96];
    int r;

    if (fd < 0)
        return pass(refuse_open(directory, errno, why));
    if (fstat(fd, &info) < 0)
        return fault(-errno, "cannot stat %s", directory);
    r = check_owner(directory, &info, why);
    if (r != 0)
        return pass(r);
    if ((info.st_mode & 077) == 0)
        return 0;
    snprintf(what, sizeof(what), "the directory has mode %04o, but must be closed to others",
             (unsigned) (info.st_mode & 07777));
    return refuse_loose(why, directory, what, "chmod 700");
}

/* ---- reading ---- */

/* Once, into memory of the right size: a buffer that moves would leave copies of a key behind. */
static int read_whole(int fd, const char *path, size_t size, struct buf *ret)
{
    uint8_t *to = buf_extend(ret, size);
    size_t len = 0;

    if (!to)
        return fault(-ENOMEM, "no memory to read %s", path);
    while (len < size) {
        ssize_t n = read(fd, to + len, size - len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fault(-errno, "cannot read %s", path);
        if (n == 0)
            break;
        len += (size_t) n;
    }
    ret->len -= size - len;
    return 0;
}

/* What is checked is what is read: both on one descriptor. */
static int read_checked(const char *path, enum file_kind kind, struct buf *ret, struct tls_why *why)
{
    CLEANUP(fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat info;
    char shown[TLS_SHOWN_BYTES];
    int r;

    if (fd < 0)
        return pass(refuse_open(path, errno, why));
    if (fstat(fd, &info) < 0)
        return fault(-errno, "cannot stat %s", path);
    if (!S_ISREG(info.st_mode))
        return tls_refuse(why, TLS_BAD, "%s is not a file", tls_shown(path, shown));
    r = check_owner(path, &info, why);
    if (r == 0)
        r = kind == KEY_FILE ? check_key_mode(path, &info, why)
                             : check_public_mode(path, &info, why);
    if (r != 0)
        return pass(r);
    if (info.st_size == 0 || (uint64_t) info.st_size > TLS_FILE_LIMIT_BYTES)
        return tls_refuse(why, TLS_BAD, "%s is empty or larger than 1 MiB", tls_shown(path, shown));
    return pass(read_whole(fd, path, (size_t) info.st_size, ret));
}

static void wipe_buf(struct buf *buf)
{
    crypto_wipe(buf->data, buf->capacity);
    buf_deinit(buf);
}

static int load_key(const char *path, struct buf *pem, struct tls_key **ret, struct tls_why *why)
{
    char shown[TLS_SHOWN_BYTES];
    int r = read_checked(path, KEY_FILE, pem, why);

    if (r != 0)
        return pass(r);
    r = tls_key_parse(ret, buf_span(pem));
    if (r == TLS_BAD)
        return tls_refuse(why, TLS_BAD,
                          "%s is not a private key in PEM without password (P-256, P-384 or RSA)",
                          tls_shown(path, shown));
    return pass(r);
}

int tls_key_load(const char *path, struct tls_key **ret, struct tls_why *ret_why)
{
    CLEANUP(wipe_buf) struct buf pem = { 0 };

    return pass(load_key(path, &pem, ret, ret_why));
}

int tls_secret_load(const char *path, struct buf *ret, struct tls_why *ret_why)
{
    return pass(read_checked(path, KEY_FILE, ret, ret_why));
}

/* ---- identities ---- */

void tls_identity_deinit(struct tls_identity *identity)
{
    buf_deinit(&identity->roots_pem);
    buf_deinit(&identity->chain_pem);
    wipe_buf(&identity->key_pem);
}

/* Outcomes: TLS_BAD (a certificate), TLS_MISMATCH. */
static int check_pair(struct span chain_pem, const struct tls_key *key)
{
    CLEANUP(tls_cert_freep) struct tls_cert *leaf = NULL;
    int r = tls_cert_parse_pem(&leaf, chain_pem);

    if (r != 0)
        return pass(r);
    return pass(tls_cert_matches_key(leaf, key));
}

static int check_certs(const char *path, const struct buf *pem, struct tls_why *why)
{
    CLEANUP(tls_x509_stackp) STACK_OF(X509) *certs = NULL;
    char shown[TLS_SHOWN_BYTES];
    int r = tls_certs_parse(buf_span(pem), MAX_IDENTITY_CERTS, &certs);

    if (r == TLS_BAD)
        return tls_refuse(why, TLS_BAD, "%s does not hold certificates in PEM",
                          tls_shown(path, shown));
    return pass(r);
}

int tls_identity_load_files(const char *roots_path,
                            const char *chain_path,
                            const char *key_path,
                            struct tls_identity *ret,
                            struct tls_why *ret_why)
{
    CLEANUP(tls_identity_deinit) struct tls_identity identity = { 0 };
    CLEANUP(tls_key_freep) struct tls_key *key = NULL;
    char shown_chain[TLS_SHOWN_BYTES];
    char shown_key[TLS_SHOWN_BYTES];
    int r;

    r = read_checked(roots_path, PUBLIC_FILE, &identity.roots_pem, ret_why);
    if (r == 0)
        r = read_checked(chain_path, PUBLIC_FILE, &identity.chain_pem, ret_why);
    if (r == 0)
        r = load_key(key_path, &identity.key_pem, &key, ret_why);
    if (r == 0)
        r = check_certs(roots_path, &identity.roots_pem, ret_why);
    if (r == 0)
        r = check_certs(chain_path, &identity.chain_pem, ret_why);
    if (r != 0)
        return pass(r);

    r = check_pair(buf_span(&identity.chain_pem), key);
    if (r == TLS_MISMATCH)
        return tls_refuse(
            ret_why, TLS_MISMATCH,
            "the key in %.120s is not the one of the certificate in %.120s; put back the "
            "pair that belongs together, or enrol again",
            tls_shown(key_path, shown_key), tls_shown(chain_path, shown_chain));
    if (r != 0)
        return pass(r);
    *ret = identity;
    memset(&identity, 0, sizeof(identity)); /* moved */
    return 0;
}

struct identity_paths {
    struct buf roots;
    struct buf chain;
    struct buf key;
    struct buf next_key;
};

static void paths_deinit(struct identity_paths *paths)
{
    buf_deinit(&paths->roots);
    buf_deinit(&paths->chain);
    buf_deinit(&paths->key);
    buf_deinit(&paths->next_key);
}

static int paths_init(struct identity_paths *paths, const char *directory)
{
    buf_printf(&paths->roots, "%s/" ROOTS_NAME, directory);
    buf_printf(&paths->chain, "%s/" CHAIN_NAME, directory);
    buf_printf(&paths->key, "%s/" KEY_NAME, directory);
    buf_printf(&paths->next_key, "%s/" NEXT_KEY_NAME, directory);
    buf_text(&paths->roots);
    buf_text(&paths->chain);
    buf_text(&paths->key);
    buf_text(&paths->next_key);
    if (buf_failed(&paths->roots) || buf_failed(&paths->chain) || buf_failed(&paths->key) ||
        buf_failed(&paths->next_key))
        return fault(-ENOMEM, "no memory for paths");
    return 0;
}

int tls_identity_load(const char *directory, struct tls_identity *ret, struct tls_why *ret_why)
{
    CLEANUP(paths_deinit) struct identity_paths paths = { 0 };
    struct tls_why unused;
    int r = paths_init(&paths, directory);
    int r_next;

    if (r == 0)
        r = check_directory(directory, ret_why);
    if (r != 0)
        return pass(r);
    r = tls_identity_load_files(buf_text(&paths.roots), buf_text(&paths.chain),
                                buf_text(&paths.key), ret, ret_why);
    if (r != TLS_MISMATCH && r != TLS_ABSENT)
        return pass(r);
    /* A save was cut off before its last step. */
    r_next = tls_identity_load_files(buf_text(&paths.roots), buf_text(&paths.chain),
                                     buf_text(&paths.next_key), ret, &unused);
    return r_next == 0 ? 0 : pass(r);
}

static int replace(const char *path, const struct buf *content, mode_t mode, struct tls_why *why)
{
    char command[64];
    int r = file_replace(path, buf_span(content), mode);

    if (r != FILE_DENIED && r != FILE_ABSENT)
        return pass(r);
    snprintf(command, sizeof(command), "chown %u", (unsigned) geteuid());
    return refuse_loose(why, path, "this user may not write it or its directory", command);
}

static int promote_key(const struct identity_paths *paths, const char *directory)
{
    CLEANUP(fd_closep) int fd = -1;

    if (rename((const char *) paths->next_key.data, (const char *) paths->key.data) < 0)
        return fault(-errno, "cannot put the new key in place in %s", directory);
    fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) < 0)
        return fault(-errno, "cannot sync %s", directory);
    return 0;
}

/*
 * A waiting key that belongs to the certificate in place is the only one; it must not be
 * overwritten. Whatever else is wrong there is about to be replaced.
 */
static int finish_earlier_save(const struct identity_paths *paths, const char *directory)
{
    CLEANUP(buf_deinit) struct buf chain = { 0 };
    CLEANUP(wipe_buf) struct buf pem = { 0 };
    CLEANUP(tls_key_freep) struct tls_key *key = NULL;
    struct tls_why unused;
    int r = read_checked((const char *) paths->chain.data, PUBLIC_FILE, &chain, &unused);

    if (r == 0)
        r = load_key((const char *) paths->next_key.data, &pem, &key, &unused);
    if (r == 0)
        r = check_pair(buf_span(&chain), key);
    if (r != 0)
        return r < 0 ? pass(r) : 0;
    return pass(promote_key(paths, directory));
}

int tls_identity_save(const char *directory,
                      const struct tls_identity *identity,
                      struct tls_why *ret_why)
{
    CLEANUP(paths_deinit) struct identity_paths paths = { 0 };
    int r = paths_init(&paths, directory);

    if (r == 0) {
        r = file_make_directories(directory, 0700);
        if (r == FILE_DENIED)
            return tls_refuse(
                ret_why, TLS_LOOSE,
                "the directory cannot be made by this user; make it as root, or say another");
    }
    if (r == 0)
        r = check_directory(directory, ret_why);
    if (r == 0)
        r = finish_earlier_save(&paths, directory);
    if (r == 0)
        r = replace(buf_text(&paths.next_key), &identity->key_pem, 0600, ret_why);
    faultpoint("identity_key_written");
    if (r == 0)
        r = replace(buf_text(&paths.roots), &identity->roots_pem, 0644, ret_why);
    if (r == 0)
        r = replace(buf_text(&paths.chain), &identity->chain_pem, 0644, ret_why);
    faultpoint("identity_chain_written");
    if (r == 0)
        r = promote_key(&paths, directory);
    return pass(r);
}
