/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "agent/identity/inside.h"
#include "common/base/fault.h"

#define MAX_CERTS 16

/* Appends PEM. Outcomes: PLACE_BAD. */
static int append_cert(struct span der, struct buf *to)
{
    CLEANUP(tls_cert_freep) struct tls_cert *cert = NULL;
    int r = tls_cert_parse_der(&cert, der);

    if (r)
        return r < 0 ? pass(r) : PLACE_BAD;
    return pass(tls_cert_print(cert, to));
}

static int append_certs(const ProtobufCBinaryData *certs, size_t n, struct buf *to)
{
    int r = n > 0 && n <= MAX_CERTS ? 0 : PLACE_BAD;

    for (size_t i = 0; i < n && r == 0; i++)
        r = append_cert(span_of(certs[i].data, certs[i].len), to);
    return r < 0 ? pass(r) : r;
}

int answer_read_leaf(struct span chain_pem, struct tls_facts *ret)
{
    CLEANUP(tls_cert_freep) struct tls_cert *cert = NULL;
    int r = tls_cert_parse_pem(&cert, chain_pem);

    if (r == 0)
        r = tls_cert_read(cert, ret);
    return r < 0 ? pass(r) : r ? PLACE_BAD : 0;
}

/* Outcomes: PLACE_BAD. */
static int check_key(struct span chain_pem, struct span key_pem, struct tls_why *why)
{
    CLEANUP(tls_cert_freep) struct tls_cert *cert = NULL;
    CLEANUP(tls_key_freep) struct tls_key *key = NULL;
    int r = tls_cert_parse_pem(&cert, chain_pem);

    if (r == 0)
        r = tls_key_parse(&key, key_pem);
    if (r == 0)
        r = tls_cert_matches_key(cert, key);
    if (r <= 0)
        return pass(r);
    snprintf(why->text, sizeof(why->text),
             "the hub's certificate is not for the key it was asked "
             "to certify");
    return PLACE_BAD;
}

/* Outcomes: PLACE_BAD. */
static int check_name(struct span chain_pem, const char *agent_id, struct tls_why *why)
{
    struct tls_facts facts;
    int r = answer_read_leaf(chain_pem, &facts);

    if (r < 0)
        return pass(r);
    if (r == 0 && identity_name_is_good(facts.common_name) &&
        (!agent_id || strcmp(agent_id, facts.common_name) == 0))
        return 0;
    snprintf(why->text, sizeof(why->text),
             "the hub's certificate does not carry the agent id that the hub says");
    return PLACE_BAD;
}

/* Outcomes: PLACE_BAD. */
static int check(const struct tls_identity *identity,
                 struct span key_pem,
                 const char *agent_id,
                 wall_us now,
                 struct tls_why *why)
{
    struct span chain = buf_span(&identity->chain_pem);
    int r = check_key(chain, key_pem, why);

    if (r == 0)
        r = check_name(chain, agent_id, why);
    if (r)
        return r < 0 ? pass(r) : PLACE_BAD;
    r = tls_chain_verify(chain, buf_span(&identity->roots_pem), TLS_CLIENT, NULL, now, why);
    return r < 0 ? pass(r) : r ? PLACE_BAD : 0;
}

int answer_check(const struct answer *answer,
                 struct span key_pem,
                 wall_us now,
                 struct tls_identity *ret,
                 struct tls_why *ret_why)
{
    CLEANUP(tls_identity_deinit) struct tls_identity identity = { 0 };
    int r = append_certs(answer->chain, answer->n_chain, &identity.chain_pem);

    if (r == 0)
        r = append_certs(answer->roots, answer->n_roots, &identity.roots_pem);
    if (r < 0)
        return pass(r);
    if (r) {
        snprintf(ret_why->text, sizeof(ret_why->text),
                 "the hub's answer does not hold 1 to %d certificates and as many roots",
                 MAX_CERTS);
        return PLACE_BAD;
    }
    r = check(&identity, key_pem, answer->agent_id, now, ret_why);
    if (r)
        return r < 0 ? pass(r) : PLACE_BAD;
    buf_append_span(&identity.key_pem, key_pem);
    if (buf_failed(&identity.chain_pem) || buf_failed(&identity.roots_pem) ||
        buf_failed(&identity.key_pem))
        return fault(-ENOMEM, "no memory for an identity");
    *ret = identity;
    identity = (struct tls_identity){ 0 }; /* moved */
    return 0;
}

int answer_pick_root(const struct answer *answer, const uint8_t pin[static 32], struct buf *ret_pem)
{
    for (size_t i = 0; i < answer->n_roots && i < MAX_CERTS; i++) {
        CLEANUP(tls_cert_freep) struct tls_cert *cert = NULL;
        struct span der = span_of(answer->roots[i].data, answer->roots[i].len);
        struct tls_facts facts;
        int r = tls_cert_parse_der(&cert, der);

        if (r == 0)
            r = tls_cert_read(cert, &facts);
        if (r < 0)
            return pass(r);
        if (r == 0 && memcmp(facts.key_sha256, pin, sizeof(facts.key_sha256)) == 0)
            return pass(tls_cert_print(cert, ret_pem));
    }
    return PLACE_ABSENT;
}
