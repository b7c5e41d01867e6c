/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/identity/inside.h"
#include "common/base/fault.h"
#include "common/base/faultpoint.h"
#include "common/base/file.h"
#include "common/crypto/crypto.h"

#define CHAIN_NAME "client-cert.pem"
#define KEY_NAME "client-key.pem"
#define ROOTS_NAME "ca-cert.pem"
#define REQUEST_NAME "request.der"
#define PURPOSE_NAME "purpose"
#define LIMIT_BYTES 65536
#define PATH_BYTES 4096

PRINTF_LIKE(3, 4)
static int refuse(struct tls_why *why, int outcome, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vsnprintf(why->text, sizeof(why->text), fmt, args);
    va_end(args);
    return outcome;
}

static int
path_of(char to[static PATH_BYTES], const char *directory, const char *name, const char *file)
{
    int len =
        snprintf(to, PATH_BYTES, "%s/%s%s%s", directory, name, file ? "/" : "", file ? file : "");

    return len < PATH_BYTES ? 0 : fault(-ENAMETOOLONG, "the identity's path is too long");
}

/* What was made, renamed or removed in it survives a power cut. */
static int sync_directory(const char *path)
{
    CLEANUP(fd_closep) int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0 || fsync(fd) < 0)
        return fault(-errno, "cannot sync %s", path);
    return 0;
}

/* Outcomes: PLACE_BAD. */
static int put_file(const char *directory,
                    const char *name,
                    const char *file,
                    struct span content,
                    struct tls_why *why)
{
    char path[PATH_BYTES];
    int r = path_of(path, directory, name, file);

    if (r == 0)
        r = file_replace(path, content, 0600);
    if (r > 0)
        return refuse(why, PLACE_BAD, "%.200s cannot be written: run this as the user that owns it",
                      path);
    return pass(r);
}

int place_lock(const char *directory, int *ret_fd, struct tls_why *ret_why)
{
    CLEANUP(fd_closep) int fd = -1;
    struct stat info;
    int r = file_make_directories(directory, 0700);

    if (r < 0)
        return pass(r);
    if (r == 0)
        fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return refuse(ret_why, PLACE_BAD,
                      "%.200s cannot be made or opened by this user; run this as root, or name "
                      "another with --identity",
                      directory);
    if (fstat(fd, &info) < 0)
        return fault(-errno, "cannot stat %s", directory);
    if ((info.st_mode & 077) || (info.st_uid != geteuid() && info.st_uid != 0))
        return refuse(ret_why, PLACE_BAD,
                      "%.200s must be this user's and closed to others; mend it with: chmod 700 "
                      "and chown %u",
                      directory, (unsigned) geteuid());
    if (flock(fd, LOCK_EX | LOCK_NB) < 0)
        return errno == EWOULDBLOCK
                   ? refuse(ret_why, PLACE_BUSY,
                            "another process changes the identity in %.200s right now; try again "
                            "in a minute",
                            directory)
                   : fault(-errno, "cannot lock %s", directory);
    *ret_fd = fd;
    fd = -1;
    return 0;
}

void place_request_deinit(struct place_request *request)
{
    crypto_wipe(request->key_pem.data, request->key_pem.capacity);
    buf_deinit(&request->key_pem);
    buf_deinit(&request->csr_der);
}

/* ---- requests ---- */

/* Outcomes: PLACE_ABSENT (none for this purpose, or not whole). */
static int read_request(const char *directory,
                        const char *name,
                        const char *purpose,
                        struct place_request *ret)
{
    CLEANUP(tls_key_freep) struct tls_key *key = NULL, *asked = NULL;
    CLEANUP(buf_deinit) struct buf written = { 0 };
    char path[PATH_BYTES];
    struct tls_why unused;
    int r = path_of(path, directory, name, PURPOSE_NAME);

    if (r == 0)
        r = file_read(path, LIMIT_BYTES, &written);
    if (r == 0 && strcmp(buf_text(&written), purpose) != 0)
        return PLACE_ABSENT;
    if (r == 0)
        r = path_of(path, directory, name, REQUEST_NAME);
    if (r == 0)
        r = file_read(path, LIMIT_BYTES, &ret->csr_der);
    if (r == 0)
        r = tls_csr_parse(&asked, buf_span(&ret->csr_der));
    if (r == 0)
        r = path_of(path, directory, name, KEY_NAME);
    if (r == 0)
        r = tls_key_load(path, &key, &unused);
    if (r == 0)
        r = tls_key_print(key, &ret->key_pem);
    return r > 0 ? PLACE_ABSENT : pass(r);
}

static int make_request(struct place_request *ret)
{
    CLEANUP(tls_key_freep) struct tls_key *key = NULL;
    int r = tls_key_new(&key);

    if (r == 0)
        r = tls_key_print(key, &ret->key_pem);
    /* The hub takes the key alone; the name only has to be one. */
    if (r == 0)
        r = tls_csr_print(key, "sentinel-agent", &ret->csr_der);
    return fold(r);
}

/* The purpose comes last: without it the rest is as if it were not there. Outcomes: PLACE_BAD. */
static int write_request(const char *directory,
                         const char *name,
                         const char *purpose,
                         const struct place_request *request,
                         struct tls_why *why)
{
    char path[PATH_BYTES];
    int r = path_of(path, directory, name, NULL);

    if (r == 0)
        r = file_make_directories(path, 0700);
    if (r > 0)
        return refuse(why, PLACE_BAD, "%.200s cannot be made by this user", path);
    if (r == 0)
        r = sync_directory(directory);
    if (r == 0)
        r = put_file(directory, name, KEY_NAME, buf_span(&request->key_pem), why);
    if (r == 0)
        r = put_file(directory, name, REQUEST_NAME, buf_span(&request->csr_der), why);
    if (r == 0)
        r = put_file(directory, name, PURPOSE_NAME, span_of_text(purpose), why);
    return pass(r);
}

int place_prepare(const char *directory,
                  const char *name,
                  const char *purpose,
                  struct place_request *ret,
                  struct tls_why *ret_why)
{
    CLEANUP(place_request_deinit) struct place_request request = { 0 };
    int r = read_request(directory, name, purpose, &request);

    if (r < 0)
        return pass(r);
    if (r == PLACE_ABSENT) {
        place_request_deinit(&request);
        request = (struct place_request){ 0 };
        place_drop(directory, name);
        r = make_request(&request);
        if (r == 0)
            r = write_request(directory, name, purpose, &request, ret_why);
        if (r)
            return r < 0 ? pass(r) : PLACE_BAD;
    }
    faultpoint("identity_request_written");
    *ret = request;
    request = (struct place_request){ 0 }; /* moved */
    return 0;
}

int place_answer(const char *directory,
                 const char *name,
                 const struct tls_identity *identity,
                 struct tls_why *ret_why)
{
    int r;

    faultpoint("identity_answered");
    r = put_file(directory, name, ROOTS_NAME, buf_span(&identity->roots_pem), ret_why);
    if (r == 0)
        r = put_file(directory, name, CHAIN_NAME, buf_span(&identity->chain_pem), ret_why);
    faultpoint("identity_answer_written");
    return pass(r);
}

/* ---- identities ---- */

int place_load(const char *directory, const char *name, struct tls_identity *ret)
{
    char path[PATH_BYTES];
    struct tls_why unused;
    int r = path_of(path, directory, name, NULL);

    if (r == 0)
        r = tls_identity_load(path, ret, &unused);
    return r > 0 ? PLACE_ABSENT : pass(r);
}

void place_drop(const char *directory, const char *name)
{
    char path[PATH_BYTES];

    /* What cannot be removed is in the log, and is looked at again at the next start. */
    if (path_of(path, directory, name, NULL) == 0 && file_remove_tree(path) == 0)
        (void) !sync_directory(directory);
}

int place_promote(const char *directory)
{
    char from[PATH_BYTES], to[PATH_BYTES];
    int r = path_of(from, directory, PLACE_REQUEST, NULL);

    if (r == 0)
        r = path_of(to, directory, PLACE_CANDIDATE, NULL);
    if (r)
        return pass(r);
    place_drop(directory, PLACE_CANDIDATE);
    if (rename(from, to) < 0)
        return fault(-errno, "cannot make %s the candidate", from);
    return pass(sync_directory(directory));
}

int place_commit(const char *directory, const char *name, struct tls_why *ret_why)
{
    CLEANUP(tls_identity_deinit) struct tls_identity identity = { 0 };
    int r = place_load(directory, name, &identity);

    if (r < 0)
        return pass(r);
    if (r)
        return refuse(ret_why, PLACE_BAD, "%.200s/%s cannot be read", directory, name);
    /* A new enrolment ends what the old identity had begun. */
    if (strcmp(name, PLACE_ENROLMENT) == 0)
        place_drop(directory, PLACE_CANDIDATE);
    place_drop(directory, PLACE_REQUEST);
    faultpoint("identity_commit_begun");
    r = tls_identity_save(directory, &identity, ret_why);
    if (r)
        return r < 0 ? pass(r) : PLACE_BAD;
    faultpoint("identity_committed");
    place_drop(directory, name);
    return 0;
}

static bool is_same_leaf(const struct tls_identity *a, const struct tls_identity *b)
{
    struct tls_facts left, right;

    return answer_read_leaf(buf_span(&a->chain_pem), &left) == 0 &&
           answer_read_leaf(buf_span(&b->chain_pem), &right) == 0 &&
           memcmp(left.sha256, right.sha256, sizeof(left.sha256)) == 0;
}

/* It was committed, and the rest was not done: the key put in its place, what waited cleared away.
 */
static int finish_commit(const char *directory, struct tls_why *ret_why)
{
    CLEANUP(tls_identity_deinit) struct tls_identity current = { 0 }, candidate = { 0 };
    struct tls_why unused;
    int r = place_load(directory, PLACE_CANDIDATE, &candidate);

    if (r == 0)
        r = tls_identity_load(directory, &current, &unused);
    if (r < 0)
        return pass(r);
    return r == 0 && is_same_leaf(&current, &candidate)
               ? pass(place_commit(directory, PLACE_CANDIDATE, ret_why))
               : 0;
}

int place_recover(const char *directory, struct tls_why *ret_why)
{
    CLEANUP(tls_identity_deinit) struct tls_identity identity = { 0 };
    int r = place_load(directory, PLACE_ENROLMENT, &identity);

    if (r == 0)
        r = place_commit(directory, PLACE_ENROLMENT, ret_why);
    if (r < 0 || r == PLACE_BAD)
        return r < 0 ? pass(r) : PLACE_BAD;
    tls_identity_deinit(&identity);
    identity = (struct tls_identity){ 0 };
    r = place_load(directory, PLACE_REQUEST, &identity);
    if (r == 0)
        r = place_promote(directory);
    return r < 0 ? pass(r) : pass(finish_commit(directory, ret_why));
}
