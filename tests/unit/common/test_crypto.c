/* SPDX-License-Identifier: Apache-2.0 */
#include "common/crypto/crypto.h"

#include <string.h>

#include "common/base/text.h"
#include "suite.h"

static const char *hex(const uint8_t digest[static CRYPTO_SHA256_BYTES])
{
    static char text[2 * CRYPTO_SHA256_BYTES + 1];

    return text_of_hex(digest, CRYPTO_SHA256_BYTES, text);
}

/* NIST's GCM test vectors (gcmEncryptExtIV256): key, nonce and plaintext zero. */
START_TEST(sealing_answers_as_the_standard_says)
{
    const uint8_t key[CRYPTO_SEAL_KEY_BYTES] = { 0 }, nonce[CRYPTO_SEAL_NONCE_BYTES] = { 0 };
    const uint8_t zeros[16] = { 0 };
    uint8_t sealed[32], open[16];
    char text[65];

    crypto_seal(key, nonce, span_of(zeros, sizeof(zeros)), span_of(NULL, 0), sealed);
    ck_assert_str_eq(text_of_hex(sealed, sizeof(sealed), text),
                     "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919");
    ck_assert(crypto_open(key, nonce, span_of(sealed, sizeof(sealed)), span_of(NULL, 0), open));
    ck_assert_mem_eq(open, zeros, sizeof(zeros));
}
END_TEST

START_TEST(what_was_changed_anywhere_does_not_open)
{
    uint8_t key[CRYPTO_SEAL_KEY_BYTES], nonce[CRYPTO_SEAL_NONCE_BYTES];
    uint8_t sealed[6 + CRYPTO_SEAL_TAG_BYTES], open[6];
    const struct span extra = span_of_text("a name");

    crypto_random(key, sizeof(key));
    crypto_random(nonce, sizeof(nonce));
    crypto_seal(key, nonce, span_of_text("secret"), extra, sealed);
    for (size_t bit = 0; bit < 8 * sizeof(sealed); bit++) {
        sealed[bit / 8] ^= (uint8_t) (1U << (bit % 8));
        ck_assert(!crypto_open(key, nonce, span_of(sealed, sizeof(sealed)), extra, open));
        sealed[bit / 8] ^= (uint8_t) (1U << (bit % 8));
    }
    for (size_t len = 0; len < sizeof(sealed); len++)
        ck_assert(!crypto_open(key, nonce, span_of(sealed, len), extra, open));
    ck_assert(
        !crypto_open(key, nonce, span_of(sealed, sizeof(sealed)), span_of_text("a nam"), open));
    key[31] ^= 1;
    ck_assert(!crypto_open(key, nonce, span_of(sealed, sizeof(sealed)), extra, open));
    key[31] ^= 1;
    nonce[0] ^= 1;
    ck_assert(!crypto_open(key, nonce, span_of(sealed, sizeof(sealed)), extra, open));
    nonce[0] ^= 1;
    ck_assert(crypto_open(key, nonce, span_of(sealed, sizeof(sealed)), extra, open));
    ck_assert_mem_eq(open, "secret", 6);
}
END_TEST

/* FIPS 180-4 examples */
START_TEST(sha256_answers_as_the_standard_says)
{
    uint8_t digest[CRYPTO_SHA256_BYTES];

    crypto_sha256(span_of_text("abc"), digest);
    ck_assert_str_eq(hex(digest),
                     "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    crypto_sha256(span_of(NULL, 0), digest);
    ck_assert_str_eq(hex(digest),
                     "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    crypto_sha256(span_of_text("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"), digest);
    ck_assert_str_eq(hex(digest),
                     "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}
END_TEST

START_TEST(hashing_in_parts_is_hashing_the_whole)
{
    static const char text[] = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    uint8_t whole[CRYPTO_SHA256_BYTES];
    uint8_t parts[CRYPTO_SHA256_BYTES];
    struct crypto_hash *hash = crypto_hash_new();

    crypto_sha256(span_of_text(text), whole);
    for (const char *c = text; *c; c++)
        crypto_hash_update(hash, span_of(c, 1));
    crypto_hash_finish(hash, parts);
    ck_assert_mem_eq(parts, whole, sizeof(whole));

    /* It begins anew. */
    crypto_hash_update(hash, span_of_text(text));
    crypto_hash_finish(hash, parts);
    ck_assert_mem_eq(parts, whole, sizeof(whole));
    ck_assert_ptr_null(crypto_hash_free(hash));
    ck_assert_ptr_null(crypto_hash_free(NULL));
}
END_TEST

START_TEST(a_hash_goes_on_from_what_was_saved_at_any_byte)
{
    uint8_t text[200], state[CRYPTO_HASH_STATE_BYTES], again[CRYPTO_HASH_STATE_BYTES];
    uint8_t whole[CRYPTO_SHA256_BYTES], parts[CRYPTO_SHA256_BYTES];
    struct crypto_hash *hash = crypto_hash_new();

    for (size_t i = 0; i < sizeof(text); i++)
        text[i] = (uint8_t) (i * 7 + 1);
    crypto_sha256(span_of(text, sizeof(text)), whole);
    for (size_t i = 0; i < sizeof(text); i++) {
        crypto_hash_update(hash, span_of(text + i, 1));
        crypto_hash_save(hash, state);
        hash = crypto_hash_free(hash);
        hash = crypto_hash_restore(state);
        crypto_hash_save(hash, again);
        ck_assert_mem_eq(again, state, sizeof(state));
    }
    crypto_hash_finish(hash, parts);
    ck_assert_mem_eq(parts, whole, sizeof(whole));
    ck_assert_ptr_null(crypto_hash_free(hash));
}
END_TEST

START_TEST(a_saved_hash_counts_beyond_what_32_bits_of_bits_hold)
{
    uint8_t state[CRYPTO_HASH_STATE_BYTES] = { 0 }, again[CRYPTO_HASH_STATE_BYTES];
    const uint64_t n_bytes = (UINT64_C(5) << 32) + 64 * 3 + 17;
    struct crypto_hash *hash;

    memcpy(state + 32, &n_bytes, sizeof(n_bytes));
    hash = crypto_hash_restore(state);
    crypto_hash_save(hash, again);
    ck_assert_mem_eq(again, state, sizeof(state));
    ck_assert_ptr_null(crypto_hash_free(hash));
}
END_TEST

/* RFC 4231 */
START_TEST(hmac_answers_as_the_rfc_says)
{
    uint8_t key[131];
    uint8_t mac[CRYPTO_SHA256_BYTES];

    memset(key, 0x0b, 20);
    crypto_hmac_sha256(span_of(key, 20), span_of_text("Hi There"), mac); /* test case 1 */
    ck_assert_str_eq(hex(mac), "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    crypto_hmac_sha256(span_of_text("Jefe"), span_of_text("what do ya want for nothing?"),
                       mac); /* 2 */
    ck_assert_str_eq(hex(mac), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    memset(key, 0xaa, sizeof(key)); /* test case 6: a key longer than a block */
    crypto_hmac_sha256(span_of(key, sizeof(key)),
                       span_of_text("Test Using Larger Than Block-Size Key - Hash Key First"), mac);
    ck_assert_str_eq(hex(mac), "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    crypto_hmac_sha256(span_of(NULL, 0), span_of(NULL, 0), mac);
    ck_assert_str_eq(hex(mac), "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
}
END_TEST

START_TEST(random_bytes_differ_and_fill_all)
{
    uint8_t seen[64] = { 0 };
    uint8_t one[64];
    uint8_t two[64];

    for (int round = 0; round < 64; round++) {
        crypto_random(one, sizeof(one));
        crypto_random(two, sizeof(two));
        ck_assert_mem_ne(one, two, sizeof(one));
        for (size_t i = 0; i < sizeof(seen); i++)
            seen[i] |= one[i];
    }
    for (size_t i = 0; i < sizeof(seen); i++)
        ck_assert_uint_eq(seen[i], 0xff);
    crypto_random(one, 0);
}
END_TEST

START_TEST(equal_looks_at_every_byte)
{
    uint8_t a[32] = { 0 };
    uint8_t b[32] = { 0 };

    ck_assert(crypto_equal(a, b, sizeof(a)));
    for (size_t i = 0; i < sizeof(a); i++) {
        b[i] = 1;
        ck_assert(!crypto_equal(a, b, sizeof(a)));
        b[i] = 0;
    }
    ck_assert(crypto_equal(a, b, 0));
}
END_TEST

START_TEST(wipe_leaves_zeros)
{
    uint8_t secret[16];
    static const uint8_t zeros[16];

    memset(secret, 0x5a, sizeof(secret));
    crypto_wipe(secret, sizeof(secret));
    ck_assert_mem_eq(secret, zeros, sizeof(zeros));
    crypto_wipe(NULL, 0);
}
END_TEST

Suite *suite(void)
{
    Suite *s = suite_create("common/crypto");
    TCase *digests = tcase_create("digests");
    TCase *secrets = tcase_create("secrets");

    tcase_add_test(digests, sha256_answers_as_the_standard_says);
    tcase_add_test(digests, hashing_in_parts_is_hashing_the_whole);
    tcase_add_test(digests, a_hash_goes_on_from_what_was_saved_at_any_byte);
    tcase_add_test(digests, a_saved_hash_counts_beyond_what_32_bits_of_bits_hold);
    tcase_add_test(digests, hmac_answers_as_the_rfc_says);
    suite_add_tcase(s, digests);
    tcase_add_test(secrets, random_bytes_differ_and_fill_all);
    tcase_add_test(secrets, equal_looks_at_every_byte);
    tcase_add_test(secrets, wipe_leaves_zeros);
    tcase_add_test(secrets, sealing_answers_as_the_standard_says);
    tcase_add_test(secrets, what_was_changed_anywhere_does_not_open);
    suite_add_tcase(s, secrets);
    return s;
}
