/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "common/base/text.h"
#include "common/crypto/crypto.h"
#include "pki_rig.h"
#include "server/pki/ca/ca.h"
#include "server/pki/ca/nonces.h"
#include "server/pki/inside.h"

#define SECOND_US INT64_C(1000000)
#define DAY_US (24 * 60 * 60 * SECOND_US)

static struct pki_bearer token;

static void make(enum pki_role role, bool must_sign, int64_t ttl_us)
{
    const struct pki_bearer_wish wish = {
        .name = "grafana", .role = role, .ttl_us = ttl_us, .must_sign = must_sign
    };

    rig_why.text[0] = 0;
    int r = pki_bearer_create(rig_pki, &wish, &rig_act, &token, &rig_why);
    ck_assert_msg(r == 0, "%d: %s", r, rig_why.text);
}

static const char *authorization(const struct pki_bearer *of)
{
    static char text[128];
    struct buf secret = { 0 };

    identity_base32_print(span_of(of->secret, sizeof(of->secret)), &secret);
    snprintf(text, sizeof(text), "Bearer %s.%s", of->id, buf_text(&secret));
    buf_deinit(&secret);
    return text;
}

static int identify(const char *header, const char *signature, struct pki_identity *ret)
{
    const struct pki_bearer_call call = { .authorization = span_of_text(header),
                                          .signature = span_of_text(signature),
                                          .method = "GET",
                                          .path = "/metrics?agent=web-1",
                                          .has_body = true,
                                          .peer = "192.0.2.9" };

    rig_why.text[0] = 0;
    return pki_bearer_identify(rig_pki, &call, rig_now(), ret, &rig_why);
}

static void base64(const uint8_t mac[static 32], char to[static 45])
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint8_t bytes[33] = { 0 };

    memcpy(bytes, mac, 32);
    for (size_t i = 0; i < 11; i++) {
        const uint32_t bits =
            (uint32_t) bytes[3 * i] << 16 | (uint32_t) bytes[3 * i + 1] << 8 | bytes[3 * i + 2];
        for (size_t j = 0; j < 4; j++)
            to[4 * i + j] = digits[bits >> (18 - 6 * j) & 63];
    }
    to[43] = '=';
    to[44] = 0;
}

static const char *
sign(const uint8_t key[static 32], int64_t seconds, const char *nonce, const char *path)
{
    static char header[4][200];
    static unsigned next;
    char *to = header[next++ % 4];
    CLEANUP(buf_deinit) struct buf data = { 0 };
    struct identity_signed_request request = { .unix_seconds = seconds,
                                               .nonce = span_of_text(nonce),
                                               .method = span_of_text("GET"),
                                               .path = span_of_text(path) };
    uint8_t mac[32];
    char text[45];

    crypto_sha256(span_of(NULL, 0), request.body_sha256);
    identity_request_signed_bytes(&request, &data);
    crypto_hmac_sha256(span_of(key, 32), buf_span(&data), mac);
    base64(mac, text);
    snprintf(to, sizeof(header[0]), "v1.%lld.%s.%s", (long long) seconds, nonce, text);
    return to;
}

static int64_t seconds(void)
{
    return rig_now().us / SECOND_US;
}

/* ---- tokens ---- */

START_TEST(a_token_is_who_it_was_made_for)
{
    struct pki_identity identity, again;

    make(PKI_ROLE_VIEWER, false, 0);
    ck_assert_int_eq(identify(authorization(&token), "", &identity), 0);
    ck_assert_int_eq(identity.kind, PKI_BEARER);
    ck_assert_int_eq(identity.role, PKI_ROLE_VIEWER);
    ck_assert_str_eq(identity.name, "grafana");
    ck_assert_int_eq(pki_recheck(rig_pki, identity.sha256, rig_now(), &again), 0);
    ck_assert_str_eq(again.name, "grafana");
    rig_must_reopen();
    ck_assert_int_eq(identify(authorization(&token), "", &identity), 0);
}
END_TEST

START_TEST(what_is_no_token_of_ours_is_unknown)
{
    struct pki_identity identity;
    char text[128];

    make(PKI_ROLE_VIEWER, false, 0);
    static const char *const wrong[] = { "", "Bearer", "Bearer ", "Basic YTpi", "Bearer a.b" };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        ck_assert_int_eq(identify(wrong[i], "", &identity), PKI_UNKNOWN);
    for (size_t i = 0; i < strlen(authorization(&token)); i++) {
        snprintf(text, sizeof(text), "%s", authorization(&token));
        text[i] = text[i] == 'a' ? 'b' : 'a';
        if (i < strlen("Bearer ") && text[i] == 'a' && authorization(&token)[i] == 'A')
            continue;
        ck_assert_int_eq(identify(text, "", &identity), PKI_UNKNOWN);
    }
    snprintf(text, sizeof(text), "%sa", authorization(&token));
    ck_assert_int_eq(identify(text, "", &identity), PKI_UNKNOWN);
}
END_TEST

static bool has_secret(void *ctx, struct span key, struct span value)
{
    bool *is_found = ctx;

    (void) key;
    *is_found = *is_found || memmem(value.data, value.len, token.secret, sizeof(token.secret)) ||
                memmem(value.data, value.len, token.hmac_key, sizeof(token.hmac_key));
    return true;
}

START_TEST(the_database_has_neither_secret_nor_signing_key)
{
    bool is_found = false;

    make(PKI_ROLE_VIEWER, true, 0);
    for (int table = STORE_TABLE_META; table < STORE_N_TABLES; table++)
        ck_assert_int_eq(
            store_state_each(rig_store, (enum store_table) table, has_secret, &is_found), 0);
    ck_assert(!is_found);
}
END_TEST

START_TEST(a_token_ends_by_time_and_by_revocation)
{
    struct pki_identity identity;

    make(PKI_ROLE_VIEWER, false, DAY_US);
    rig_move_clock(DAY_US + 1);
    ck_assert_int_eq(identify(authorization(&token), "", &identity), PKI_EXPIRED);
    make(PKI_ROLE_VIEWER, false, DAY_US);
    ck_assert_int_eq(identify(authorization(&token), "", &identity), 0);
    ck_assert_int_eq(pki_bearer_revoke(rig_pki, token.id, &rig_act), 0);
    ck_assert_int_eq(pki_recheck(rig_pki, identity.sha256, rig_now(), &identity), PKI_NOT_ACTIVE);
    ck_assert_int_eq(identify(authorization(&token), "", &identity), PKI_NOT_ACTIVE);
    ck_assert_int_eq(pki_bearer_revoke(rig_pki, token.id, &rig_act), PKI_UNKNOWN);
    ck_assert_int_eq(pki_bearer_revoke(rig_pki, "aaaaaaaa", &rig_act), PKI_UNKNOWN);
}
END_TEST

START_TEST(tokens_are_listed_newest_first_with_their_last_use)
{
    CLEANUP(arena_deinit) struct arena arena;
    static const uint8_t zeros[32] = { 0 };
    struct pki_identity identity;
    struct pki_bearer *tokens;
    size_t n;

    arena_init(&arena, 1 << 20);
    make(PKI_ROLE_VIEWER, true, 0);
    rig_move_clock(SECOND_US);
    make(PKI_ROLE_ADMIN, false, 0);
    ck_assert_int_eq(identify(authorization(&token), "", &identity), 0);
    pki_clerk_settle(rig_pki->ca->clerk);
    rig_must_reopen();
    ck_assert_int_eq(pki_bearer_list(rig_pki, &arena, &tokens, &n), 0);
    ck_assert_uint_eq(n, 2);
    ck_assert_int_eq(tokens[0].role, PKI_ROLE_ADMIN);
    ck_assert_int_gt(tokens[0].last_used.us, 0);
    ck_assert_int_eq(tokens[1].last_used.us, 0);
    ck_assert(tokens[1].must_sign);
    ck_assert_mem_eq(tokens[0].secret, zeros, sizeof(tokens[0].secret));
    ck_assert_mem_eq(tokens[1].hmac_key, zeros, sizeof(tokens[1].hmac_key));
}
END_TEST

START_TEST(wishes_that_make_no_sense_are_refused_with_the_field)
{
    struct pki_bearer_wish wish = { .name = "Grafana", .role = PKI_ROLE_VIEWER };

    ck_assert_int_eq(pki_bearer_create(rig_pki, &wish, &rig_act, &token, &rig_why), PKI_BAD_NAME);
    wish = (struct pki_bearer_wish){ .name = "grafana", .role = PKI_ROLE_AGENT };
    ck_assert_int_eq(pki_bearer_create(rig_pki, &wish, &rig_act, &token, &rig_why), PKI_BAD_NAME);
    ck_assert_ptr_nonnull(strstr(rig_why.text, "role"));
    wish = (struct pki_bearer_wish){ .name = "grafana", .role = PKI_ROLE_VIEWER, .ttl_us = -1 };
    ck_assert_int_eq(pki_bearer_create(rig_pki, &wish, &rig_act, &token, &rig_why), PKI_BAD_NAME);
    wish.ttl_us = 367 * DAY_US;
    ck_assert_int_eq(pki_bearer_create(rig_pki, &wish, &rig_act, &token, &rig_why), PKI_BAD_NAME);
    ck_assert_ptr_nonnull(strstr(rig_why.text, "366 days"));
}
END_TEST

/* ---- signed requests ---- */

static int call_with(const char *signature)
{
    struct pki_identity identity;

    return identify(authorization(&token), signature, &identity);
}

static const char path[] = "/metrics?agent=web-1";

START_TEST(a_signed_request_counts_once)
{
    make(PKI_ROLE_VIEWER, true, 0);
    ck_assert_int_eq(call_with(""), PKI_REFUSED);
    ck_assert_ptr_nonnull(strstr(rig_why.text, "missing"));
    const char *header = sign(token.hmac_key, seconds(), "nonce-01", path);
    ck_assert_int_eq(call_with(header), 0);
    ck_assert_int_eq(call_with(header), PKI_REFUSED);
    ck_assert_ptr_nonnull(strstr(rig_why.text, "seen already"));
    ck_assert_int_eq(call_with(sign(token.hmac_key, seconds(), "nonce-02", path)), 0);
}
END_TEST

START_TEST(a_signature_over_anything_else_is_refused)
{
    const uint8_t wrong_key[32] = { 1 };

    make(PKI_ROLE_VIEWER, true, 0);
    ck_assert_int_eq(call_with(sign(wrong_key, seconds(), "nonce-01", path)), PKI_REFUSED);
    ck_assert_int_eq(call_with(sign(token.hmac_key, seconds(), "nonce-01", "/metrics")),
                     PKI_REFUSED);
    ck_assert_int_eq(call_with("v1.x"), PKI_REFUSED);
    /* The nonce of a forgery is not used up by it. */
    ck_assert_int_eq(call_with(sign(token.hmac_key, seconds(), "nonce-01", path)), 0);
}
END_TEST

START_TEST(five_minutes_of_clock_are_taken_and_not_more)
{
    make(PKI_ROLE_VIEWER, true, 0);
    const int64_t now = seconds();
    ck_assert_int_eq(call_with(sign(token.hmac_key, now - 290, "nonce-01", path)), 0);
    ck_assert_int_eq(call_with(sign(token.hmac_key, now + 290, "nonce-02", path)), 0);
    ck_assert_int_eq(call_with(sign(token.hmac_key, now - 310, "nonce-03", path)), PKI_REFUSED);
    ck_assert_ptr_nonnull(strstr(rig_why.text, "set the clock"));
    ck_assert_int_eq(call_with(sign(token.hmac_key, now + 330, "nonce-04", path)), PKI_REFUSED);
    /* What came from the future is still remembered when its time has come. */
    const char *early = sign(token.hmac_key, now + 290, "nonce-02", path);
    rig_move_clock(580 * SECOND_US);
    ck_assert_int_eq(call_with(early), PKI_REFUSED);
    ck_assert_ptr_nonnull(strstr(rig_why.text, "seen already"));
}
END_TEST

START_TEST(a_signing_key_is_rolled_and_the_old_one_counts_for_a_week)
{
    struct pki_bearer rolled;

    make(PKI_ROLE_VIEWER, true, 366 * DAY_US);
    rig_move_clock(30 * DAY_US);
    ck_assert_int_eq(pki_bearer_roll(rig_pki, token.id, &rig_act, &rolled, &rig_why), 0);
    ck_assert_int_ne(memcmp(rolled.hmac_key, token.hmac_key, 32), 0);
    ck_assert_int_eq(call_with(sign(token.hmac_key, seconds(), "nonce-01", path)), 0);
    ck_assert_int_eq(call_with(sign(rolled.hmac_key, seconds(), "nonce-02", path)), 0);
    rig_move_clock(7 * DAY_US + SECOND_US);
    ck_assert_int_eq(call_with(sign(token.hmac_key, seconds(), "nonce-03", path)), PKI_REFUSED);
    ck_assert_ptr_nonnull(strstr(rig_why.text, "roll it"));
    ck_assert_int_eq(call_with(sign(rolled.hmac_key, seconds(), "nonce-04", path)), 0);
    /* One that nobody rolls ends by itself. */
    rig_move_clock(31 * DAY_US);
    ck_assert_int_eq(call_with(sign(rolled.hmac_key, seconds(), "nonce-05", path)), PKI_REFUSED);
}
END_TEST

START_TEST(the_form_of_the_seed_document_is_taken_where_it_is_allowed)
{
    const struct pki_options options = { .state_directory = rig_state,
                                         .takes_seed_signatures = true };
    char text[64], header[160], hex[65];
    uint8_t mac[32];

    make(PKI_ROLE_VIEWER, true, 0);
    snprintf(text, sizeof(text), "%lld.", (long long) seconds());
    crypto_hmac_sha256(span_of(token.hmac_key, 32), span_of_text(text), mac);
    snprintf(header, sizeof(header), "%s%s", text, text_of_hex(mac, 32, hex));
    ck_assert_int_eq(call_with(header), PKI_REFUSED);
    ck_assert_int_eq(rig_reopen(&options), 0);
    ck_assert_int_eq(call_with(header), 0);
    ck_assert_int_eq(call_with(header), PKI_REFUSED);
    header[strlen(header) - 1] ^= 1;
    ck_assert_int_eq(call_with(header), PKI_REFUSED);
}
END_TEST

/* ---- nonces ---- */

START_TEST(a_full_memory_of_nonces_refuses_and_forgets_in_time)
{
    struct pki_nonces *nonces = pki_nonces_new();
    mono_us now = { 1 };
    char owner[16];

    ck_assert_ptr_nonnull(nonces);
    for (uint32_t i = 0; i < PKI_MAX_NONCES / 4; i++)
        ck_assert_int_eq(pki_nonces_take(nonces, "one", span_of(&i, sizeof(i)), now),
                         PKI_NONCE_NEW);
    /* One owner has his share; the others go on. */
    uint32_t next = PKI_MAX_NONCES;
    ck_assert_int_eq(pki_nonces_take(nonces, "one", span_of(&next, sizeof(next)), now),
                     PKI_NONCE_NO_ROOM);
    for (uint32_t i = 0; i < 3 * (PKI_MAX_NONCES / 4); i++) {
        snprintf(owner, sizeof(owner), "o%u", (unsigned) (i % 64));
        ck_assert_int_eq(pki_nonces_take(nonces, owner, span_of(&i, sizeof(i)), now),
                         PKI_NONCE_NEW);
    }
    ck_assert_int_eq(pki_nonces_take(nonces, "two", span_of(&next, sizeof(next)), now),
                     PKI_NONCE_NO_ROOM);
    uint32_t seen = 3;
    ck_assert_int_eq(pki_nonces_take(nonces, "one", span_of(&seen, sizeof(seen)), now),
                     PKI_NONCE_SEEN);
    now.us += PKI_NONCE_MEMORY_US;
    ck_assert_int_eq(pki_nonces_take(nonces, "one", span_of(&seen, sizeof(seen)), now),
                     PKI_NONCE_NEW);
    pki_nonces_free(nonces);
}
END_TEST

Suite *suite(void)
{
    Suite *s = suite_create("server/pki_bearer");
    TCase *tokens = tcase_create("tokens");
    TCase *signatures = tcase_create("signatures");
    TCase *memory = tcase_create("nonces");

    tcase_add_checked_fixture(tokens, rig_setup, rig_teardown);
    tcase_add_test(tokens, a_token_is_who_it_was_made_for);
    tcase_add_test(tokens, what_is_no_token_of_ours_is_unknown);
    tcase_add_test(tokens, the_database_has_neither_secret_nor_signing_key);
    tcase_add_test(tokens, a_token_ends_by_time_and_by_revocation);
    tcase_add_test(tokens, tokens_are_listed_newest_first_with_their_last_use);
    tcase_add_test(tokens, wishes_that_make_no_sense_are_refused_with_the_field);
    suite_add_tcase(s, tokens);
    tcase_add_checked_fixture(signatures, rig_setup, rig_teardown);
    tcase_add_test(signatures, a_signed_request_counts_once);
    tcase_add_test(signatures, a_signature_over_anything_else_is_refused);
    tcase_add_test(signatures, five_minutes_of_clock_are_taken_and_not_more);
    tcase_add_test(signatures, a_signing_key_is_rolled_and_the_old_one_counts_for_a_week);
    tcase_add_test(signatures, the_form_of_the_seed_document_is_taken_where_it_is_allowed);
    suite_add_tcase(s, signatures);
    tcase_add_test(memory, a_full_memory_of_nonces_refuses_and_forgets_in_time);
    suite_add_tcase(s, memory);
    return s;
}
