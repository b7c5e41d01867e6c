/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "common/base/arena.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "server/pki/ca/ca.h"
#include "server/pki/enrol/tokens.h"
#include "server/pki/registry/codec.h"
#include "server/pki/registry/registry.h"

/*
 * Table CERTIFICATES (little-endian; "text" = u16 length, bytes):
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
 *      +---------------------------------------+     here rows of the first hubs end
 *      | presented | changed                   | i64 each, 0: never
 *      | lineage (16 bytes) | key (32 bytes)   |
 *      | text reason | text chain              |
 *      +---------------------------------------+
 *
 * Table IDENTITIES, 'a' name:
 *
 *    0 +---------+-------+---------+-------------+
 *      | version | state | sources | n_addresses |  u8 each; version 1; bit i: source i is there
 *    4 +---------+-------+---------+-------------+
 *      | enrolled | changed | grace until        | i64 each
 *   28 | clones                                  | u64
 *   36 | lineage (16 bytes) | current (32 bytes) |
 *   84 | fingerprint: 32 bytes for each source   |
 *      | text reason | text last peer | text address ... |
 *      +-----------------------------------------+
 *
 * Table META: "pki.generation" = u64; "pki.authority" = u8 version 1, text organisation, text trust
 * domain, text CRL URL, text names (each with a NUL behind).
 *
 * Readers ignore bytes behind what they know, so a field may be appended within a version.
 */
#define ROW_VERSION 1
#define AGENT_VERSION 1
#define AUTHORITY_VERSION 1

static const char generation_key[] = "pki.generation";
static const char authority_key[] = "pki.authority";

/* ---- certificates ---- */

void pki_row_encode(const struct pki_row *row, struct buf *to)
{
    const struct pki_identity *identity = &row->identity;
    const uint8_t head[4] = { ROW_VERSION, (uint8_t) identity->kind, (uint8_t) identity->role,
                              (uint8_t) identity->state };

    buf_append(to, head, sizeof(head));
    pki_put_u64(to, (uint64_t) identity->not_before.us);
    pki_put_u64(to, (uint64_t) identity->not_after.us);
    pki_put_u64(to, (uint64_t) row->registered.us);
    buf_append(to, row->parent, sizeof(row->parent));
    pki_put_text(to, identity->name);
    pki_put_text(to, identity->serial);
    pki_put_text(to, row->issuer);
    pki_put_u64(to, (uint64_t) row->presented.us);
    pki_put_u64(to, (uint64_t) row->changed.us);
    buf_append(to, row->lineage, sizeof(row->lineage));
    buf_append(to, row->key_sha256, sizeof(row->key_sha256));
    pki_put_text(to, row->reason);
    pki_put_span(to, row->chain);
}

static bool is_zero(const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (bytes[i] != 0)
            return false;
    }
    return true;
}

int pki_row_decode(struct span key, struct span value, struct pki_row *ret)
{
    struct pki_reader reader = { .rest = value };
    struct pki_row row = { 0 };
    struct pki_identity *identity = &row.identity;
    uint8_t head[4];

    pki_get_bytes(&reader, head, sizeof(head));
    if (key.len != sizeof(identity->sha256) || head[0] != ROW_VERSION || head[1] < PKI_AGENT ||
        head[1] > PKI_HUB || head[2] > PKI_ROLE_EXPORTER || head[3] < PKI_ACTIVE ||
        head[3] > PKI_REVOKED)
        return PKI_BAD;
    memcpy(identity->sha256, key.data, key.len);
    identity->kind = (enum pki_kind) head[1];
    identity->role = (enum pki_role) head[2];
    identity->state = (enum pki_state) head[3];
    identity->not_before.us = (int64_t) pki_get_u64(&reader);
    identity->not_after.us = (int64_t) pki_get_u64(&reader);
    row.registered.us = (int64_t) pki_get_u64(&reader);
    pki_get_bytes(&reader, row.parent, sizeof(row.parent));
    pki_get_text(&reader, identity->name, sizeof(identity->name));
    pki_get_text(&reader, identity->serial, sizeof(identity->serial));
    pki_get_text(&reader, row.issuer, sizeof(row.issuer));
    if (reader.rest.len > 0) {
        row.presented.us = (int64_t) pki_get_u64(&reader);
        row.changed.us = (int64_t) pki_get_u64(&reader);
        pki_get_bytes(&reader, row.lineage, sizeof(row.lineage));
        pki_get_bytes(&reader, row.key_sha256, sizeof(row.key_sha256));
        pki_get_text(&reader, row.reason, sizeof(row.reason));
        row.chain = pki_get_span(&reader);
    }
    if (reader.is_bad)
        return PKI_BAD;
    /* Each certificate of an older row, or of a command offline, begins a lineage. */
    if (is_zero(row.lineage, sizeof(row.lineage)))
        memcpy(row.lineage, identity->sha256, sizeof(row.lineage));
    *ret = row;
    return 0;
}

/* ---- agents ---- */

void pki_agent_row_encode(const struct pki_agent_row *row, struct buf *to)
{
    const struct pki_agent *agent = &row->agent;
    uint8_t sources = 0;

    ensure(agent->n_addresses <= PKI_MAX_ADDRESSES);
    for (unsigned i = 0; i < IDENTITY_N_SOURCES; i++)
        sources |= (uint8_t) ((unsigned) row->fingerprint.has[i] << i);
    const uint8_t head[4] = { AGENT_VERSION, (uint8_t) agent->state, sources,
                              (uint8_t) agent->n_addresses };
    buf_append(to, head, sizeof(head));
    pki_put_u64(to, (uint64_t) agent->enrolled.us);
    pki_put_u64(to, (uint64_t) agent->changed.us);
    pki_put_u64(to, (uint64_t) row->grace_until.us);
    pki_put_u64(to, agent->n_clones);
    buf_append(to, row->lineage, sizeof(row->lineage));
    buf_append(to, agent->current, sizeof(agent->current));
    for (unsigned i = 0; i < IDENTITY_N_SOURCES; i++)
        buf_append(to, row->fingerprint.sha256[i], sizeof(row->fingerprint.sha256[i]));
    pki_put_text(to, agent->reason);
    pki_put_text(to, agent->last_peer);
    for (size_t i = 0; i < agent->n_addresses; i++)
        pki_put_text(to, agent->addresses[i]);
}

int pki_agent_row_decode(struct span name, struct span value, struct pki_agent_row *ret)
{
    struct pki_reader reader = { .rest = value };
    struct pki_agent_row row = { 0 };
    struct pki_agent *agent = &row.agent;
    uint8_t head[4];

    pki_get_bytes(&reader, head, sizeof(head));
    if (name.len == 0 || name.len >= sizeof(agent->name) || memchr(name.data, 0, name.len) ||
        head[0] != AGENT_VERSION || head[1] < PKI_AGENT_ALLOWED || head[1] > PKI_AGENT_FORKED ||
        head[2] >> IDENTITY_N_SOURCES || head[3] > PKI_MAX_ADDRESSES)
        return PKI_BAD;
    memcpy(agent->name, name.data, name.len);
    agent->state = (enum pki_agent_state) head[1];
    agent->n_addresses = head[3];
    agent->enrolled.us = (int64_t) pki_get_u64(&reader);
    agent->changed.us = (int64_t) pki_get_u64(&reader);
    row.grace_until.us = (int64_t) pki_get_u64(&reader);
    agent->n_clones = pki_get_u64(&reader);
    pki_get_bytes(&reader, row.lineage, sizeof(row.lineage));
    pki_get_bytes(&reader, agent->current, sizeof(agent->current));
    for (unsigned i = 0; i < IDENTITY_N_SOURCES; i++) {
        row.fingerprint.has[i] = head[2] >> i & 1;
        pki_get_bytes(&reader, row.fingerprint.sha256[i], sizeof(row.fingerprint.sha256[i]));
    }
    agent->has_fingerprint = head[2] != 0;
    pki_get_text(&reader, agent->reason, sizeof(agent->reason));
    pki_get_text(&reader, agent->last_peer, sizeof(agent->last_peer));
    for (size_t i = 0; i < agent->n_addresses; i++)
        pki_get_text(&reader, agent->addresses[i], sizeof(agent->addresses[i]));
    if (reader.is_bad)
        return PKI_BAD;
    *ret = row;
    return 0;
}

/* ---- the authority's facts ---- */

void pki_authority_deinit(struct pki_authority *authority)
{
    buf_deinit(&authority->names);
}

void pki_authority_encode(const struct pki_authority *authority, struct buf *to)
{
    pki_put_u8(to, AUTHORITY_VERSION);
    pki_put_text(to, authority->organisation);
    pki_put_text(to, authority->trust_domain);
    pki_put_text(to, authority->crl_url);
    pki_put_span(to, buf_span(&authority->names));
}

int pki_authority_decode(struct span value, struct pki_authority *ret)
{
    CLEANUP(pki_authority_deinit) struct pki_authority authority = { 0 };
    struct pki_reader reader = { .rest = value };

    if (pki_get_u8(&reader) != AUTHORITY_VERSION)
        return PKI_BAD;
    pki_get_text(&reader, authority.organisation, sizeof(authority.organisation));
    pki_get_text(&reader, authority.trust_domain, sizeof(authority.trust_domain));
    pki_get_text(&reader, authority.crl_url, sizeof(authority.crl_url));
    struct span names = pki_get_span(&reader);
    if (reader.is_bad || (names.len > 0 && names.data[names.len - 1] != 0))
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
    struct pki_reader reader = { .rest = value };
    *ret = pki_get_u64(&reader);
    return 0;
}

/* ---- surveys ---- */

static const char *check_identity(struct span key, struct span value)
{
    struct pki_agent_row agent;

    if (key.len > 1 && key.data[0] == 'a' &&
        pki_agent_row_decode(span_of(key.data + 1, key.len - 1), value, &agent) != 0)
        return "no row of an agent";
    return NULL;
}

static const char *check_token(struct span key, struct span value)
{
    struct pki_token_row token;

    if (key.len > 1 && key.data[0] == 'e' &&
        pki_token_row_decode(span_of(key.data + 1, key.len - 1), value, &token) != 0)
        return "no row of an enrolment token";
    return NULL;
}

static const char *check_meta(struct span key, struct span value)
{
    CLEANUP(pki_authority_deinit) struct pki_authority authority = { 0 };

    if (span_equal(key, span_of_text(generation_key)) && value.len != sizeof(uint64_t))
        return "no number of a generation";
    if (span_equal(key, span_of_text(PKI_ADOPT_KEY)) && value.len != sizeof(int64_t))
        return "no time of a restore";
    if (span_equal(key, span_of_text(authority_key)) &&
        pki_authority_decode(value, &authority) != 0)
        return "no facts of an authority";
    return NULL;
}

const char *pki_check_row(void *ctx, enum store_table table, struct span key, struct span value)
{
    const char *wrong = pki_ca_check_row(table, key, value);
    struct pki_row row;

    (void) ctx;
    if (wrong)
        return wrong;
    switch (table) {
    case STORE_TABLE_CERTIFICATES:
        return pki_row_decode(key, value, &row) != 0 ? "no row of a certificate" : NULL;
    case STORE_TABLE_IDENTITIES:
        return check_identity(key, value);
    case STORE_TABLE_TOKENS:
        return check_token(key, value);
    case STORE_TABLE_META:
        return check_meta(key, value);
    case STORE_TABLE_OPERATORS:
    case STORE_TABLE_LABELS:
    case STORE_TABLE_AUDIT:
    case STORE_TABLE_LIMITS:
    case STORE_N_TABLES:
    default:
        return NULL;
    }
}
