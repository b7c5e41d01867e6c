/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/text.h"
#include "server/ops/certs.h"
#include "server/ops/ops.h"
#include "server/pki/pki.h"

#define LIMIT_BYTES ((size_t) 1 << 20)
#define MAX_CERTS 64
#define COMMAND "certs"

static bool is_directory(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static bool exists(const char *directory, const char *name, char to[static OPS_PATH_BYTES])
{
    struct stat st;
    int len = snprintf(to, OPS_PATH_BYTES, "%s/%s", directory, name);

    return len > 0 && len < OPS_PATH_BYTES && stat(to, &st) == 0;
}

/* The certificate that a directory is about: an identity's, a hub's, an authority's. */
static int find_chain(const char *path, char to[static OPS_PATH_BYTES])
{
    static const char *const names[] = { "client-cert.pem", "server-cert.pem", "ca-cert.pem" };

    if (!is_directory(path)) {
        if (snprintf(to, OPS_PATH_BYTES, "%s", path) < OPS_PATH_BYTES)
            return OPS_OK;
        return ops_refuse(COMMAND, OPS_USAGE, "the path is too long");
    }
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (exists(path, names[i], to))
            return OPS_OK;
    }
    return ops_refuse(COMMAND, OPS_NOT_FOUND,
                      "%s has none of client-cert.pem, server-cert.pem, ca-cert.pem", path);
}

static int read_pem(const char *path, struct buf *ret)
{
    int r = file_read(path, LIMIT_BYTES, ret);

    if (r == 0)
        return OPS_OK;
    return ops_refuse(COMMAND, r == FILE_ABSENT ? OPS_NOT_FOUND : OPS_FAILED, "%s: %s", path,
                      r == FILE_ABSENT      ? "there is no such file"
                      : r == FILE_TOO_LARGE ? "too large for certificates"
                                            : "it cannot be read");
}

/* ---- show ---- */

static void put(const char *key, const char *value)
{
    CLEANUP(buf_deinit) struct buf shown = { 0 };

    if (!value[0])
        return;
    text_append_printable(&shown, span_of_text(value));
    printf("  %-12s %s\n", key, buf_text(&shown));
}

static void put_ends(wall_us not_after)
{
    const int64_t left_us = not_after.us - clock_wall().us;
    char time[TEXT_TIME_BYTES], text[TEXT_TIME_BYTES + 40];
    const int64_t days = left_us / (INT64_C(24) * 3600 * 1000000);

    snprintf(text, sizeof(text), left_us > 0 ? "%s (in %lld days)" : "%s (EXPIRED %lld days ago)",
             text_of_time(not_after, time), (long long) (days < 0 ? -days : days));
    put("ends", text);
}

static int show_one(const struct tls_cert *cert)
{
    char time[TEXT_TIME_BYTES], hex[65], kind[16] = "";
    struct tls_facts facts;

    if (tls_cert_read(cert, &facts) != 0)
        return ops_refuse(COMMAND, OPS_FAILED, "a certificate's dates are none");
    (void) (tls_cert_key_kind(cert, kind) == 0);
    printf("%s\n", facts.is_ca ? "certificate authority" : "certificate");
    put("name", facts.common_name);
    put("organisation", facts.organisation);
    put("unit", facts.organisation_unit);
    put("uri", facts.uri);
    put("issuer", facts.issuer);
    put("serial", facts.serial);
    put("begins", text_of_time(facts.not_before, time));
    put_ends(facts.not_after);
    put("key", kind);
    put("sha256", text_of_hex(facts.sha256, sizeof(facts.sha256), hex));
    put("key sha256", text_of_hex(facts.key_sha256, sizeof(facts.key_sha256), hex));
    return OPS_OK;
}

int certs_show(const char *path)
{
    CLEANUP(buf_deinit) struct buf pem = { 0 };
    struct tls_cert *certs[MAX_CERTS];
    char chain[OPS_PATH_BYTES];
    size_t n = 0;

    int done = find_chain(path, chain);
    if (done == OPS_OK)
        done = read_pem(chain, &pem);
    if (done != OPS_OK)
        return done;
    if (tls_chain_split(buf_span(&pem), certs, MAX_CERTS, &n) != 0)
        return ops_refuse(COMMAND, OPS_FAILED, "%s does not hold certificates in PEM", chain);
    for (size_t i = 0; i < n; i++) {
        if (done == OPS_OK)
            done = show_one(certs[i]);
        tls_cert_free(certs[i]);
    }
    return done;
}

/* ---- verify ---- */

/* Key and permissions too, where there is a key beside it. */
static int check_identity(const char *path)
{
    CLEANUP(tls_identity_deinit) struct tls_identity identity = { 0 };
    char roots[OPS_PATH_BYTES], chain[OPS_PATH_BYTES], key[OPS_PATH_BYTES];
    struct tls_why why = { "" };
    int r = 0;

    if (exists(path, "client-cert.pem", chain))
        r = tls_identity_load(path, &identity, &why);
    else if (exists(path, "server-key.pem", key) && exists(path, "server-cert.pem", chain) &&
             exists(path, "ca-cert.pem", roots))
        r = tls_identity_load_files(roots, chain, key, &identity, &why);
    if (r == 0)
        return OPS_OK;
    return ops_refuse(COMMAND, OPS_FAILED, "%s", r > 0 ? why.text : "the identity cannot be read");
}

static int find_roots(const char *path, const struct certs_check *check, char *to)
{
    if (check->roots) {
        if (snprintf(to, OPS_PATH_BYTES, "%s", check->roots) < OPS_PATH_BYTES)
            return OPS_OK;
        return ops_refuse(COMMAND, OPS_USAGE, "--roots: the path is too long");
    }
    if (is_directory(path) && exists(path, "ca-cert.pem", to))
        return OPS_OK;
    return ops_refuse(COMMAND, OPS_USAGE, "--roots FILE is missing: what the chain shall lead to");
}

int certs_verify(const char *path, const struct certs_check *check)
{
    CLEANUP(buf_deinit) struct buf pem = { 0 }, roots_pem = { 0 };
    char chain[OPS_PATH_BYTES], roots[OPS_PATH_BYTES], server[OPS_PATH_BYTES];
    struct tls_why why = { "" };

    int done = find_chain(path, chain);
    if (done == OPS_OK)
        done = find_roots(path, check, roots);
    if (done == OPS_OK && is_directory(path))
        done = check_identity(path);
    if (done == OPS_OK)
        done = read_pem(chain, &pem);
    if (done == OPS_OK)
        done = read_pem(roots, &roots_pem);
    if (done != OPS_OK)
        return done;
    const bool is_server =
        check->is_server || (is_directory(path) && !exists(path, "client-cert.pem", server) &&
                             exists(path, "server-cert.pem", server));
    int r = tls_chain_verify(buf_span(&pem), buf_span(&roots_pem),
                             is_server ? TLS_SERVER : TLS_CLIENT, check->host, clock_wall(), &why);
    if (r != 0)
        return ops_refuse(COMMAND, OPS_FAILED, "%s: %s", chain,
                          r > 0 ? why.text : "it cannot be verified");
    printf("%s: good as a %s certificate, by %s\n", chain, is_server ? "hub's" : "client's", roots);
    return OPS_OK;
}
