/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/fault.h"
#include "common/base/file.h"
#include "common/base/text.h"
#include "common/crypto/crypto.h"
#include "server/pki/ca/bearer.h"
#include "server/pki/ca/ca.h"
#include "server/pki/ca/nonces.h"
#include "server/pki/inside.h"

/* Keys at rest, and what signs. */

#define MAX_KEY_FILES 64
#define ROW_VERSION 1
#define ROW_BYTES 22

static const char row_key[] = "pki.ca";

/* ---- META "pki.ca": version u8, phase u8, current u32, next u32, highest u32, since i64, all
 * little-endian ---- */

static void put(struct buf *to, uint64_t value, size_t n_bytes)
{
    for (size_t i = 0; i < n_bytes; i++) {
        const uint8_t byte = (uint8_t) (value >> (8 * i));
        buf_append(to, &byte, 1);
    }
}

static uint64_t get(const uint8_t *from, size_t n_bytes)
{
    uint64_t value = 0;

    for (size_t i = n_bytes; i-- > 0;)
        value = value << 8 | from[i];
    return value;
}

void pki_ca_row_encode(const struct pki_ca_row *row, struct buf *to)
{
    put(to, ROW_VERSION, 1);
    put(to, row->phase, 1);
    put(to, row->current, 4);
    put(to, row->next, 4);
    put(to, row->highest, 4);
    put(to, (uint64_t) row->since.us, 8);
}

int pki_ca_row_decode(struct span value, struct pki_ca_row *ret)
{
    const uint8_t *at = value.data;
    struct pki_ca_row row;

    if (value.len < ROW_BYTES || at[0] != ROW_VERSION || at[1] > PKI_CA_SERVING)
        return PKI_BAD;
    row = (struct pki_ca_row){ .phase = (enum pki_ca_phase) at[1],
                               .current = (uint32_t) get(at + 2, 4),
                               .next = (uint32_t) get(at + 6, 4),
                               .highest = (uint32_t) get(at + 10, 4),
                               .since = { (int64_t) get(at + 14, 8) } };
    if (row.current == 0 || row.highest < row.current || row.highest < row.next ||
        (row.phase == PKI_CA_STEADY) != (row.next == 0))
        return PKI_BAD;
    *ret = row;
    return 0;
}

static int read_row(struct pki *pki, struct pki_ca_row *ret)
{
    CLEANUP(arena_deinit) struct arena arena;
    struct span value;

    arena_init(&arena, 4096);
    int r = store_state_get(pki->store, STORE_TABLE_META, span_of_text(row_key), &arena, &value);
    if (r == STORE_NOT_FOUND) { /* no rotation was ever begun */
        *ret = (struct pki_ca_row){ .current = 1, .highest = 1 };
        return 0;
    }
    if (r == 0 && pki_ca_row_decode(value, ret) != 0)
        return fault(-EUCLEAN, "the row of the CA's rotation is none, or of a newer version");
    return fold(r);
}

/* ---- life ---- */

int pki_ca_open(struct pki *pki, const struct pki_options *options, struct tls_why *ret_why)
{
    struct pki_ca *ca = calloc(1, sizeof(*ca));

    if (!ca)
        return fault(-ENOMEM, "no memory for the authority");
    pthread_mutex_init(&ca->refreshing, NULL);
    pthread_mutex_init(&ca->lock, NULL);
    pki->ca = ca;
    ca->takes_seed_signatures = options->takes_seed_signatures;
    ca->clerk = pki_clerk_new(pki);
    ca->crl = pki_crl_cache_new();
    ca->nonces = pki_nonces_new();
    if (!ca->clerk || !ca->crl || !ca->nonces)
        return fault(-ENOMEM, "no memory for the authority");
    int r = sealed_key_find(options->ca_key_file, &ca->sealing, ret_why);
    if (r > 0)
        return r == SEALED_ABSENT ? PKI_ABSENT : PKI_BAD;
    if (r == 0)
        r = read_row(pki, &ca->row);
    if (r == 0)
        r = pki_ca_mend_roots(pki, &ca->row);
    return pass(r);
}

void pki_ca_close(struct pki *pki)
{
    struct pki_ca *ca = pki->ca;

    if (!ca)
        return;
    pki_clerk_free(ca->clerk);
    pki_crl_cache_free(ca->crl);
    pki_nonces_free(ca->nonces);
    pki_foreign_free(ca->foreign);
    pki_bearers_free(ca->bearers);
    for (size_t i = 0; i < PKI_N_PARTS; i++) {
        if (ca->signers[i].free)
            ca->signers[i].free(ca->signers[i].ctx);
    }
    sealed_key_deinit(&ca->sealing);
    pthread_mutex_destroy(&ca->lock);
    pthread_mutex_destroy(&ca->refreshing);
    free(ca);
    pki->ca = NULL;
}

uint64_t pki_ca_version(struct pki *pki)
{
    return atomic_load(&pki->ca->version);
}

static bool is_same_row(const struct pki_ca_row *a, const struct pki_ca_row *b)
{
    return a->phase == b->phase && a->current == b->current && a->next == b->next;
}

int pki_ca_refresh(struct pki *pki)
{
    struct pki_foreign_set *foreign = NULL;
    struct pki_bearer_set *bearers = NULL;
    struct pki_ca *ca = pki->ca;
    struct pki_ca_row row;
    int r = 0;

    pthread_mutex_lock(&ca->refreshing);
    const uint64_t generation = pki_generation(pki);
    if (generation != ca->generation || !ca->foreign) {
        r = read_row(pki, &row);
        if (r == 0)
            r = pki_foreign_read(pki->store, &foreign);
        if (r == 0) /* what is in place stays meanwhile: only here it is replaced */
            r = pki_bearers_read(pki, ca->bearers, &bearers);
        if (r == 0) {
            struct pki_foreign_set *old_foreign = ca->foreign;
            struct pki_bearer_set *old_bearers = ca->bearers;

            if (!is_same_row(&row, &ca->row) || !pki_foreign_is_same(foreign, ca->foreign))
                atomic_fetch_add(&ca->version, 1);
            pthread_mutex_lock(&ca->lock);
            ca->foreign = foreign;
            ca->bearers = bearers;
            ca->row = row;
            ca->generation = generation;
            pthread_mutex_unlock(&ca->lock);
            foreign = old_foreign;
            pki_bearers_free(old_bearers);
        }
        pki_foreign_free(foreign);
    }
    pthread_mutex_unlock(&ca->refreshing);
    return pass(r);
}

void pki_ca_get_row(struct pki *pki, struct pki_ca_row *ret)
{
    pthread_mutex_lock(&pki->ca->lock);
    *ret = pki->ca->row;
    pthread_mutex_unlock(&pki->ca->lock);
}

/* ---- what signs ---- */

const char *pki_ca_name(enum pki_part part, uint32_t number, char to[static PKI_CA_NAME_BYTES])
{
    static const char *const names[] = {
        [PKI_PART_ROOT] = "ca", [PKI_PART_AGENTS] = "agents-ca", [PKI_PART_HUBS] = "hubs-ca"
    };

    if (number <= 1)
        snprintf(to, PKI_CA_NAME_BYTES, "%s", names[part]);
    else
        snprintf(to, PKI_CA_NAME_BYTES, "%s-%u", names[part], (unsigned) number);
    return to;
}

void pki_use_signer(struct pki *pki, enum pki_part part, const struct pki_signer *take_signer)
{
    struct pki_signer *signer = &pki->ca->signers[part];

    if (signer->free)
        signer->free(signer->ctx);
    *signer = *take_signer;
}

int pki_ca_issuer_of(struct pki *pki,
                     enum pki_part part,
                     uint32_t number,
                     struct pki_issuer *ret,
                     struct tls_why *ret_why)
{
    const struct pki_signer *signer = &pki->ca->signers[part];
    char name[PKI_CA_NAME_BYTES];
    const struct pki_issuer_place place = { .directory = pki->certs,
                                            .name = pki_ca_name(part, number, name),
                                            .sealing = &pki->ca->sealing,
                                            .signer = signer->sign ? signer : NULL };

    return pass(pki_issuer_load(ret, &place, ret_why));
}

int pki_ca_issuer(struct pki *pki,
                  enum pki_part part,
                  struct pki_issuer *ret,
                  struct tls_why *ret_why)
{
    const enum pki_ca_phase from = part == PKI_PART_AGENTS ? PKI_CA_ISSUING : PKI_CA_SERVING;
    struct pki_ca_row row;

    pki_ca_get_row(pki, &row);
    return pass(
        pki_ca_issuer_of(pki, part, row.phase >= from ? row.next : row.current, ret, ret_why));
}

/* ---- secrets of the hub's own ---- */

static void wipe(struct buf *secret)
{
    crypto_wipe(secret->data, secret->capacity);
    buf_deinit(secret);
}

/* Beside its place, then linked: of two processes one wins, and both read what it made. */
static int make_secret(struct pki *pki, const char *name)
{
    char waiting[64], from[PKI_PATH_BYTES], to[PKI_PATH_BYTES], base[96];
    uint8_t bytes[SEALED_KEY_BYTES];
    char hex[2 * SEALED_KEY_BYTES + 2];

    crypto_random(bytes, sizeof(bytes));
    text_of_hex(bytes, sizeof(bytes), hex);
    crypto_wipe(bytes, sizeof(bytes));
    hex[sizeof(hex) - 2] = '\n';
    snprintf(waiting, sizeof(waiting), "%.32s.%ld", name, (long) getpid());
    snprintf(base, sizeof(base), "%s-key.pem", waiting);
    bool fits = pki_path(from, pki->certs, base);
    snprintf(base, sizeof(base), "%s-key.pem", name);
    if (!fits || !pki_path(to, pki->certs, base))
        return fault(-ENAMETOOLONG, "%s", pki->certs);
    /* Sealed under the name that it will have. */
    CLEANUP(wipe) struct buf text = { 0 };
    if (pki->ca->sealing.is_there)
        sealed_close(&pki->ca->sealing, name, span_of(hex, sizeof(hex) - 1), &text);
    else
        buf_append(&text, hex, sizeof(hex) - 1);
    crypto_wipe(hex, sizeof(hex));
    if (buf_failed(&text))
        return fault(-ENOMEM, "no memory for a secret");
    int r = file_replace(from, buf_span(&text), 0600);
    if (r != 0)
        return r < 0 ? pass(r) : fault(-EACCES, "may not write %s", from);
    if (link(from, to) < 0 && errno != EEXIST)
        r = fault(-errno, "cannot make %s", to);
    (void) unlink(from);
    if (r != 0)
        return r;
    CLEANUP(fd_closep) int fd = open(pki->certs, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) < 0)
        return fault(-errno, "cannot sync %s", pki->certs);
    return 0;
}

int pki_ca_secret(struct pki *pki,
                  const char *name,
                  uint8_t ret[static SEALED_KEY_BYTES],
                  struct tls_why *ret_why)
{
    const struct pki_issuer_place place = { .directory = pki->certs,
                                            .name = name,
                                            .sealing = &pki->ca->sealing };
    CLEANUP(wipe) struct buf text = { 0 };
    struct sealed_key key = { .is_there = false };

    int r = pki_secret_load(&place, &text, ret_why);
    if (r == PKI_ABSENT) {
        r = make_secret(pki, name);
        if (r == 0)
            r = pki_secret_load(&place, &text, ret_why);
    }
    if (r == 0 && sealed_key_parse(buf_span(&text), &key) != 0) {
        snprintf(
            ret_why->text, sizeof(ret_why->text),
            "%.200s/%.40s-key.pem does not hold a secret of the hub; put it back from a backup",
            pki->certs, name);
        r = PKI_BAD;
    }
    if (r == 0)
        memcpy(ret, key.bytes, SEALED_KEY_BYTES);
    sealed_key_deinit(&key);
    return pass(r);
}

/* ---- sealing ---- */

struct key_files {
    char names[MAX_KEY_FILES][64]; /* without "-key.pem" */
    size_t n;
};

/* Every secret of the authority: all but the key that the listener shows. */
static int list_keys(const char *certs, struct key_files *ret)
{
    static const char suffix[] = "-key.pem";
    DIR *directory = opendir(certs);

    if (!directory)
        return fault(-errno, "cannot read %s", certs);
    ret->n = 0;
    for (const struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        size_t len = strlen(entry->d_name);

        if (len <= sizeof(suffix) - 1 ||
            strcmp(entry->d_name + len - (sizeof(suffix) - 1), suffix) != 0 ||
            strcmp(entry->d_name, "server-key.pem") == 0)
            continue;
        len -= sizeof(suffix) - 1;
        if (ret->n == MAX_KEY_FILES || len >= sizeof(ret->names[0])) {
            (void) closedir(directory);
            return fault(-E2BIG, "too many keys in %s, or too long a name", certs);
        }
        memcpy(ret->names[ret->n], entry->d_name, len);
        ret->names[ret->n++][len] = 0;
    }
    (void) closedir(directory);
    return 0;
}

/* Under the old key, the new one (an earlier run was cut), or in the clear. */
static int
seal_one(const struct pki_seal *seal, const char *certs, const char *name, struct tls_why *ret_why)
{
    struct pki_issuer_place from = { .directory = certs, .name = name, .sealing = seal->old };
    const struct pki_issuer_place to = { .directory = certs, .name = name, .sealing = seal->fresh };
    CLEANUP(wipe) struct buf secret = { 0 };
    struct tls_why ignored;

    int r = pki_secret_load(&from, &secret, ret_why);
    if (r == PKI_BAD && seal->fresh) {
        from.sealing = seal->fresh;
        r = pki_secret_load(&from, &secret, &ignored);
    }
    return r != 0 ? pass(r) : pass(pki_secret_save(&to, buf_span(&secret)));
}

static int put_sealing(struct pki_edit *edit, void *ctx)
{
    const struct pki_seal *seal = ctx;
    const struct audit_field field = { "did", !seal->fresh ? "opened"
                                              : seal->old  ? "sealed again under another key"
                                                           : "sealed" };

    return pass(pki_act_audit(edit, seal->act, AUDIT_CA_SEALED, "ca", &field, 1));
}

int pki_seal_keys(const char *state_directory,
                  const struct pki_seal *seal,
                  uint32_t *ret_n,
                  struct tls_why *ret_why)
{
    char certs[PKI_PATH_BYTES];
    struct key_files files = { .n = 0 };

    if (!pki_path(certs, state_directory, "certs"))
        return fault(-ENAMETOOLONG, "%s", state_directory);
    int r = pki_check_directory(certs, ret_why);
    if (r == 0)
        r = list_keys(certs, &files);
    if (r == 0 && seal->store) {
        struct pki_seal copy = *seal;
        CLEANUP(pki_touches_deinit) struct pki_touches touches = { 0 };

        r = pki_edit_run(seal->store, put_sealing, &copy, &touches);
        if (r == PKI_FULL)
            snprintf(ret_why->text, sizeof(ret_why->text),
                     "the disk is full: the audit's entry cannot be written, and nothing was done");
    }
    for (size_t i = 0; r == 0 && i < files.n; i++)
        r = seal_one(seal, certs, files.names[i], ret_why);
    if (r != 0)
        return pass(r);
    *ret_n = (uint32_t) files.n;
    return 0;
}

/* Whether no key of the authority lies in the clear. The audit's own is none: a hub that runs
 * without the CA's key makes it, and signs with it. */
int pki_ca_is_sealed(const char *certs, bool *ret)
{
    struct key_files files = { .n = 0 };
    bool is_sealed = true;

    int r = list_keys(certs, &files);
    for (size_t i = 0; r == 0 && i < files.n; i++) {
        CLEANUP(wipe) struct buf text = { 0 };
        char base[96], path[PKI_PATH_BYTES];

        snprintf(base, sizeof(base), "%s-key.pem", files.names[i]);
        if (strcmp(files.names[i], "anchor") != 0 && pki_path(path, certs, base) &&
            file_read(path, (size_t) 4 * SEALED_SECRET_BYTES, &text) == 0)
            is_sealed = is_sealed && sealed_is(buf_span(&text));
    }
    if (r != 0)
        return pass(r);
    *ret = is_sealed;
    return 0;
}

const char *pki_ca_check_row(enum store_table table, struct span key, struct span value)
{
    static const char foreign[] = "pki.foreign/";
    struct pki_ca_row row;

    if (table == STORE_TABLE_TOKENS && key.len > 0 && key.data[0] == 'b' &&
        !pki_bearer_row_is_good(span_of(key.data + 1, key.len - 1), value))
        return "no row of a bearer token";
    if (table != STORE_TABLE_META)
        return NULL;
    if (span_equal(key, span_of_text(row_key)) && pki_ca_row_decode(value, &row) != 0)
        return "no phase of a rotation of the CA";
    if (key.len > sizeof(foreign) - 1 && memcmp(key.data, foreign, sizeof(foreign) - 1) == 0 &&
        !pki_foreign_row_is_good(
            span_of(key.data + sizeof(foreign) - 1, key.len - (sizeof(foreign) - 1)), value))
        return "no rule of a foreign authority";
    return NULL;
}
