/* SPDX-License-Identifier: Apache-2.0 */
#include "server/pki/registry.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "common/base/arena.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/file.h"

/*
 * Table CERTIFICATES: key = SHA-256 of the leaf's DER, value (little-endian, "text" = u16 length,
 * bytes):
 *
 *    0 +---------+------+------+-------+
 *      | version | kind | role | state |         u8 each; version 1
 *    4 +---------+------+------+-------+-------+
 *      | not before                            | i64 us since 1970
 *   12 | not after                             | i64
 *   20 | registered                            | i64
 *   28 +---------------------------------------+
 *      | parent: digest of what this one renews| 32 bytes, zero: none
 *   60 +---------------------------------------+
 *      | text name | text serial | text issuer |
 *      +---------------------------------------+
 *
 * Table META: "pki.generation" = u64; "pki.authority" = u8 version 1, text organisation, text trust
 * domain, text CRL URL, text names (each with a NUL behind).
 *
 * Readers ignore bytes behind what they know, so a field may be appended within a version.
 */
#define ROW_VERSION 1
#define AUTHORITY_VERSION 1
#define ROW_FIXED_BYTES 60

static const char generation_key[] = "pki.generation";
static const char authority_key[] = "pki.authority";

static void put_u64(struct buf *to, uint64_t value)
{
    uint8_t bytes[8];

    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t) (value >> (8 * i));
    buf_append(to, bytes, sizeof(bytes));
}

static uint64_t get_u64(const uint8_t *from)
{
    uint64_t value = 0;

    for (size_t i = 8; i-- > 0;)
        value = value << 8 | from[i];
    return value;
}

static void put_text(struct buf *to, struct span text)
{
    ensure(text.len <= UINT16_MAX);
    uint8_t len[2] = { (uint8_t) text.len, (uint8_t) (text.len >> 8) };

    buf_append(to, len, sizeof(len));
    buf_append_span(to, text);
}

/* Takes a text off the front; false when there is none whole. */
static bool get_span(struct span *from, struct span *ret)
{
    if (from->len < 2)
        return false;
    size_t len = (size_t) from->data[0] | (size_t) from->data[1] << 8;
    if (from->len - 2 < len)
        return false;
    *ret = span_of(from->data + 2, len);
    *from = span_of(from->data + 2 + len, from->len - 2 - len);
    return true;
}

static bool get_text(struct span *from, char *to, size_t size)
{
    struct span text;

    if (!get_span(from, &text) || text.len >= size || memchr(text.data, 0, text.len))
        return false;
    memcpy(to, text.data, text.len);
    to[text.len] = 0;
    return true;
}

void pki_row_encode(const struct pki_row *row, struct buf *to)
{
    const struct pki_identity *identity = &row->identity;
    const uint8_t head[4] = { ROW_VERSION, (uint8_t) identity->kind, (uint8_t) identity->role,
                              (uint8_t) identity->state };

    buf_append(to, head, sizeof(head));
    put_u64(to, (uint64_t) identity->not_before.us);
    put_u64(to, (uint64_t) identity->not_after.us);
    put_u64(to, (uint64_t) row->registered.us);
    buf_append(to, row->parent, sizeof(row->parent));
    put_text(to, span_of_text(identity->name));
    put_text(to, span_of_text(identity->serial));
    put_text(to, span_of_text(row->issuer));
}

int pki_row_decode(struct span key, struct span value, struct pki_row *ret)
{
    struct pki_row row = { 0 };
    struct pki_identity *identity = &row.identity;

    if (key.len != sizeof(identity->sha256) || value.len < ROW_FIXED_BYTES)
        return PKI_BAD;
    const uint8_t *at = value.data;
    if (at[0] != ROW_VERSION || at[1] < PKI_AGENT || at[1] > PKI_HUB || at[2] > PKI_ROLE_EXPORTER ||
        at[3] < PKI_ACTIVE || at[3] > PKI_REVOKED)
        return PKI_BAD;
    memcpy(identity->sha256, key.data, key.len);
    identity->kind = (enum pki_kind) at[1];
    identity->role = (enum pki_role) at[2];
    identity->state = (enum pki_state) at[3];
    identity->not_before.us = (int64_t) get_u64(at + 4);
    identity->not_after.us = (int64_t) get_u64(at + 12);
    row.registered.us = (int64_t) get_u64(at + 20);
    memcpy(row.parent, at + 28, sizeof(row.parent));

    struct span rest = span_of(at + ROW_FIXED_BYTES, value.len - ROW_FIXED_BYTES);
    if (!get_text(&rest, identity->name, sizeof(identity->name)) ||
        !get_text(&rest, identity->serial, sizeof(identity->serial)) ||
        !get_text(&rest, row.issuer, sizeof(row.issuer)))
        return PKI_BAD;
    *ret = row;
    return 0;
}

void pki_authority_deinit(struct pki_authority *authority)
{
    buf_deinit(&authority->names);
}

void pki_authority_encode(const struct pki_authority *authority, struct buf *to)
{
    const uint8_t version = AUTHORITY_VERSION;

    buf_append(to, &version, 1);
    put_text(to, span_of_text(authority->organisation));
    put_text(to, span_of_text(authority->trust_domain));
    put_text(to, span_of_text(authority->crl_url));
    put_text(to, buf_span(&authority->names));
}

int pki_authority_decode(struct span value, struct pki_authority *ret)
{
    CLEANUP(pki_authority_deinit) struct pki_authority authority = { 0 };
    struct span names;

    if (value.len < 1 || value.data[0] != AUTHORITY_VERSION)
        return PKI_BAD;
    struct span rest = span_of(value.data + 1, value.len - 1);
    if (!get_text(&rest, authority.organisation, sizeof(authority.organisation)) ||
        !get_text(&rest, authority.trust_domain, sizeof(authority.trust_domain)) ||
        !get_text(&rest, authority.crl_url, sizeof(authority.crl_url)) || !get_span(&rest, &names))
        return PKI_BAD;
    if (names.len > 0 && names.data[names.len - 1] != 0)
        return PKI_BAD;
    buf_append_span(&authority.names, names);
    if (buf_failed(&authority.names))
        return fault(-ENOMEM, "no memory for the authority's names");
    *ret = authority;
    authority.names = (struct buf){ 0 };
    return 0;
}

int pki_authority_read(struct store *store, struct pki_authority *ret)
{
    CLEANUP(arena_deinit) struct arena arena;
    struct span value;

    arena_init(&arena, (size_t) 256 * 1024);
    int r = store_state_get(store, STORE_TABLE_META, span_of_text(authority_key), &arena, &value);
    if (r == STORE_NOT_FOUND)
        return PKI_ABSENT;
    if (r != 0)
        return fold(r);
    return pass(pki_authority_decode(value, ret));
}

int pki_registry_generation(struct store *store, uint64_t *ret)
{
    CLEANUP(arena_deinit) struct arena arena;
    struct span value;

    arena_init(&arena, 4096);
    int r = store_state_get(store, STORE_TABLE_META, span_of_text(generation_key), &arena, &value);
    if (r == STORE_NOT_FOUND) {
        *ret = 0;
        return 0;
    }
    if (r != 0)
        return fold(r);
    if (value.len != 8)
        return fault(-EUCLEAN, "the registry's generation has %zu bytes", value.len);
    *ret = get_u64(value.data);
    return 0;
}

/* Waits its turn; the lock goes with the descriptor. */
static int lock_directory(const char *path, int *ret_fd)
{
    CLEANUP(fd_closep) int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return fault(-errno, "cannot open %s", path);
    while (flock(fd, LOCK_EX) < 0) {
        if (errno != EINTR)
            return fault(-errno, "cannot lock %s", path);
    }
    *ret_fd = fd;
    fd = -1;
    return 0;
}

int pki_registry_change(struct store *store, const struct pki_change *change)
{
    enum { MAX_ROWS = 16 };
    CLEANUP(buf_deinit) struct buf values = { 0 };
    struct store_write writes[MAX_ROWS + 2];
    size_t ends[MAX_ROWS + 2];
    size_t n = 0;
    uint64_t generation = 0;
    CLEANUP(fd_closep) int lock = -1;

    ensure(change->n_rows <= MAX_ROWS);
    int r = lock_directory(change->certs_directory, &lock);
    if (r != 0)
        return pass(r);
    r = pki_registry_generation(store, &generation);
    if (r != 0)
        return pass(r);

    for (size_t i = 0; i < change->n_rows; i++) {
        const struct pki_row *row = &change->rows[i];
        writes[n].table = STORE_TABLE_CERTIFICATES;
        writes[n].key = span_of(row->identity.sha256, sizeof(row->identity.sha256));
        pki_row_encode(row, &values);
        ends[n++] = values.len;
    }
    writes[n].table = STORE_TABLE_META;
    writes[n].key = span_of_text(generation_key);
    put_u64(&values, generation + 1);
    ends[n++] = values.len;
    if (change->authority) {
        writes[n].table = STORE_TABLE_META;
        writes[n].key = span_of_text(authority_key);
        pki_authority_encode(change->authority, &values);
        ends[n++] = values.len;
    }
    if (buf_failed(&values))
        return fault(-ENOMEM, "no memory for %zu rows of the registry", change->n_rows);
    /* Only now: the buffer moved while it grew. */
    for (size_t i = 0, begin = 0; i < n; begin = ends[i++])
        writes[i].value = span_of(values.data + begin, ends[i] - begin);

    r = store_state_write(store, writes, n);
    if (r == STORE_FULL)
        return fault(-ENOSPC, "the disk is full: nothing was registered");
    return fold(r);
}

int pki_raise_generation(struct store *store, const char *state_directory, uint64_t *ret)
{
    const struct pki_change change = { .certs_directory = state_directory };
    int r = pki_registry_change(store, &change);

    return r != 0 ? pass(r) : pass(pki_registry_generation(store, ret));
}

const char *pki_check_row(void *ctx, enum store_table table, struct span key, struct span value)
{
    CLEANUP(pki_authority_deinit) struct pki_authority authority = { 0 };
    struct pki_row row;

    (void) ctx;
    if (table == STORE_TABLE_CERTIFICATES && pki_row_decode(key, value, &row) != 0)
        return "no row of a certificate";
    if (table != STORE_TABLE_META)
        return NULL;
    if (span_equal(key, span_of_text(generation_key)) && value.len != sizeof(uint64_t))
        return "no number of a generation";
    if (span_equal(key, span_of_text(authority_key)) &&
        pki_authority_decode(value, &authority) != 0)
        return "no facts of an authority";
    return NULL;
}
