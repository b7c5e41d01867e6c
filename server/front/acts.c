/* SPDX-License-Identifier: Apache-2.0 */

/* What all acts about identities share: who does them, what came of them, pages, ids as text. */

#include <protobuf-c/protobuf-c.h>
#include <stdio.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/ensure.h"
#include "common/base/text.h"
#include "common/crypto/crypto.h"
#include "common/log/log.h"
#include "server/front/acts.h"
#include "server/front/inside.h"

#define CUT_PATIENCE_US INT64_C(1000000) /* what a revocation may take */

const struct pki_act *front_act_of(struct unary *unary, const char *reason, struct front_act *to)
{
    uint8_t id[8];

    crypto_random(id, sizeof(id));
    (void) text_of_hex(id, sizeof(id), to->correlation);
    memcpy(unary->detail.correlation, to->correlation, sizeof(unary->detail.correlation));
    to->act = (struct pki_act){
        .by = front_actor(&unary->caller, to->by),
        .source = front_source(unary->peer, to->source),
        .correlation = to->correlation,
        .reason = reason ? reason : "",
    };
    return &to->act;
}

enum front_failure front_act_note(struct unary *unary, enum audit_event event, const char *object)
{
    struct front_act act;
    int r;

    (void) front_act_of(unary, NULL, &act);
    if (!unary->front->options.audit)
        return FAIL_NOT;
    r = audit_put(unary->front->options.audit,
                  &(struct audit_entry){ .event = event,
                                         .actor = act.by,
                                         .source = act.source,
                                         .object = object,
                                         .correlation = act.correlation });
    if (r < 0)
        return FAIL_FAULT;
    return r == AUDIT_OK ? FAIL_NOT : FAIL_FULL;
}

void front_act_cuts(struct unary *unary)
{
    front_registry_changed(unary->front);
    if (!stream_wait_checked(unary->front, CUT_PATIENCE_US))
        log_plain(LOG_WARN, "cut_late");
}

enum front_failure front_needs_pki(struct unary *unary)
{
    return unary->front->options.pki ? FAIL_NOT : FAIL_NO_IDENTITIES;
}

enum front_failure front_needs_pki_and(struct unary *unary, const void *answer)
{
    const enum front_failure failure = front_needs_pki(unary);

    return failure == FAIL_NOT && !answer ? unary_finish(unary, NULL) : failure;
}

void *front_list_of(struct unary *unary,
                    const struct front_list *list,
                    const void *rows,
                    size_t n,
                    size_t *ret_n)
{
    uint8_t *messages = unary_alloc(unary, n + 1, list->message_size);
    void **to = unary_alloc(unary, n + 1, sizeof(*to));

    *ret_n = messages && to ? n : 0;
    for (size_t i = 0; i < *ret_n; i++) {
        to[i] = messages + i * list->message_size;
        list->fill(unary, (const uint8_t *) rows + i * list->row_size, to[i]);
    }
    return *ret_n ? to : NULL;
}

enum front_failure front_failure_of_act(int r,
                                        const char *field,
                                        const struct tls_why *why,
                                        struct front_detail *ret_detail)
{
    if (r < 0)
        return FAIL_FAULT;
    if (why && why->text[0])
        front_describe(ret_detail, field, "%s", why->text);
    else if (r != PKI_OK)
        front_describe(ret_detail, field, "see the list of them");
    switch (r) {
    case PKI_OK:
        return FAIL_NOT;
    case PKI_UNKNOWN:
        return FAIL_NOT_FOUND;
    case PKI_BAD_NAME:
    case PKI_BAD:
        return FAIL_BAD_QUESTION;
    case PKI_EXISTS:
        return FAIL_EXISTS;
    case PKI_REFUSED:
    case PKI_ABSENT:
        return FAIL_REFUSED;
    case PKI_FULL:
        return FAIL_FULL;
    default:
        return FAIL_FAULT;
    }
}

enum front_failure front_failure_of_refusal(enum pki_refusal refusal)
{
    switch (refusal) {
    case PKI_REFUSED_TOKEN_UNKNOWN:
        return FAIL_TOKEN_UNKNOWN;
    case PKI_REFUSED_TOKEN_EXPIRED:
        return FAIL_TOKEN_EXPIRED;
    case PKI_REFUSED_TOKEN_USED:
        return FAIL_TOKEN_USED;
    case PKI_REFUSED_TOKEN_REVOKED:
        return FAIL_TOKEN_REVOKED;
    case PKI_REFUSED_ADDRESS:
        return FAIL_ADDRESS_NOT_ALLOWED;
    case PKI_REFUSED_NAME:
        return FAIL_NAME_NOT_ALLOWED;
    case PKI_REFUSED_CSR:
        return FAIL_CSR_INVALID;
    case PKI_REFUSED_CHAIN:
        return FAIL_CHAIN_UNTRUSTED;
    case PKI_REFUSED_SIGNATURE:
        return FAIL_SIGNATURE_INVALID;
    case PKI_REFUSED_GRACE_OVER:
        return FAIL_GRACE_OVER;
    case PKI_REFUSED_REVOKED:
        return FAIL_CERTIFICATE_REVOKED;
    case PKI_REFUSED_NOT_CURRENT:
        return FAIL_CERTIFICATE_SUPERSEDED;
    case PKI_REFUSED_UNKNOWN:
        return FAIL_CERTIFICATE_UNKNOWN;
    case PKI_REFUSED_NOT:
    default:
        return FAIL_FAULT;
    }
}

/* ---- into the answer ---- */

char *front_copy(struct unary *unary, const char *text)
{
    char *copy = arena_copy_text(&unary->arena, text);

    if (!copy)
        unary->is_short = true;
    return copy ? copy : front_borrow("");
}

char *front_hex(struct unary *unary, const uint8_t *bytes, size_t len)
{
    static const uint8_t zero[32];
    char *to;

    if (len <= sizeof(zero) && memcmp(bytes, zero, len) == 0)
        return front_borrow("");
    to = unary_alloc(unary, 2 * len + 1, 1);
    if (!to)
        return front_borrow("");
    (void) text_of_hex(bytes, len, to);
    return to;
}

void *front_ders(struct unary *unary, const struct span *ders, size_t n)
{
    ProtobufCBinaryData *to = unary_alloc(unary, n + 1, sizeof(*to));

    for (size_t i = 0; to && i < n; i++)
        to[i] = (ProtobufCBinaryData){ .data = (uint8_t *) (uintptr_t) ders[i].data,
                                       .len = ders[i].len };
    return to;
}

enum front_failure front_enrolment_string(struct unary *unary,
                                          const struct pki_token *token,
                                          char **ret_text,
                                          char **ret_hub,
                                          char **ret_pin)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    struct front *front = unary->front;
    struct identity_enrolment enrolment = { 0 };

    if (pki_root_pin(front->options.pki, enrolment.pin) != 0)
        return FAIL_FAULT;
    pthread_mutex_lock(&front->address.lock);
    (void) snprintf(enrolment.hub, sizeof(enrolment.hub), "%s", front->address.text);
    pthread_mutex_unlock(&front->address.lock);
    memcpy(enrolment.token_id, token->id, sizeof(enrolment.token_id));
    memcpy(enrolment.secret, token->secret, sizeof(enrolment.secret));
    identity_enrolment_print(&enrolment, &text);
    if (buf_failed(&text))
        unary->is_short = true;
    else
        *ret_text = front_copy(unary, buf_text(&text));
    *ret_hub = front_copy(unary, enrolment.hub);
    *ret_pin = front_hex(unary, enrolment.pin, sizeof(enrolment.pin));
    return FAIL_NOT;
}

/* ---- pages ---- */

#define TOKEN_MAC_BYTES 8
#define TOKEN_MAX_KEY 255

enum front_failure front_page_size(struct unary *unary, uint32_t asked, uint32_t *ret)
{
    *ret = asked ? asked : FRONT_PAGE;
    if (asked <= FRONT_MAX_PAGE)
        return FAIL_NOT;
    front_describe(&unary->detail, "page_size",
                   "at most %d; ask for the next page with next_page_token", FRONT_MAX_PAGE);
    return FAIL_BAD_QUESTION;
}

static void mac_of(struct unary *unary, struct span question, struct span behind, uint8_t ret[32])
{
    const struct query *query = unary->front->options.query;
    CLEANUP(buf_deinit) struct buf text = { 0 };
    uint8_t digest[CRYPTO_SHA256_BYTES];

    crypto_sha256(question, digest);
    buf_append_text(&text, unary->method->wire->path);
    buf_append(&text, digest, sizeof(digest));
    buf_append(&text, behind.data, behind.len);
    ensure(!buf_failed(&text));
    crypto_hmac_sha256(span_of(query->token_key, sizeof(query->token_key)), buf_span(&text), ret);
}

char *front_token_make(struct unary *unary, struct span question, struct span behind)
{
    uint8_t bytes[TOKEN_MAC_BYTES + TOKEN_MAX_KEY], mac[CRYPTO_SHA256_BYTES];
    char *to;

    ensure(behind.len <= TOKEN_MAX_KEY);
    mac_of(unary, question, behind, mac);
    memcpy(bytes, mac, TOKEN_MAC_BYTES);
    memcpy(bytes + TOKEN_MAC_BYTES, behind.data, behind.len);
    to = unary_alloc(unary, 2 * (TOKEN_MAC_BYTES + behind.len) + 1, 1);
    if (!to)
        return front_borrow("");
    (void) text_of_hex(bytes, TOKEN_MAC_BYTES + behind.len, to);
    return to;
}

enum front_failure front_token_read(struct unary *unary,
                                    const char *token,
                                    struct span question,
                                    struct span *ret_behind)
{
    const size_t len = strlen(token) / 2;
    uint8_t mac[CRYPTO_SHA256_BYTES];
    uint8_t *bytes;

    *ret_behind = span_of("", 0);
    if (!*token)
        return FAIL_NOT;
    bytes = unary_alloc(unary, len + 1, 1);
    if (bytes && len > TOKEN_MAC_BYTES && len <= TOKEN_MAC_BYTES + TOKEN_MAX_KEY &&
        text_to_hex(token, bytes, len) == 0) {
        const struct span behind = span_of(bytes + TOKEN_MAC_BYTES, len - TOKEN_MAC_BYTES);

        mac_of(unary, question, behind, mac);
        if (crypto_equal(mac, bytes, TOKEN_MAC_BYTES)) {
            *ret_behind = behind;
            return FAIL_NOT;
        }
    }
    front_describe(&unary->detail, "page_token",
                   "not a page token of this hub and question; ask for the first page again");
    return FAIL_BAD_QUESTION;
}
