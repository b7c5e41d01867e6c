/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/ensure.h"
#include "common/base/text.h"
#include "common/crypto/crypto.h"
#include "common/identity/identity.h"

#define NONCE_MIN 8
#define NONCE_MAX 64
#define MAC_DIGITS 44 /* of 32 bytes: 43 and a `=` */
#define SECONDS_DIGITS_MAX 18

void identity_renewal_signed_bytes(struct span nonce, struct span csr_der, struct buf *to)
{
    static const char domain[] = "sentinel-renew-expired-1";
    uint8_t sha256[CRYPTO_SHA256_BYTES];

    ensure(nonce.len == IDENTITY_NONCE_BYTES);
    crypto_sha256(csr_der, sha256);
    buf_append(to, domain, sizeof(domain)); /* with the NUL */
    buf_append_span(to, nonce);
    buf_append(to, sha256, sizeof(sha256));
}

void identity_request_signed_bytes(const struct identity_signed_request *request, struct buf *to)
{
    char sha256[2 * CRYPTO_SHA256_BYTES + 1];

    buf_printf(to, "v1\n%lld\n", (long long) request->unix_seconds);
    buf_append_span(to, request->nonce);
    buf_append_text(to, "\n");
    buf_append_span(to, request->method);
    buf_append_text(to, "\n");
    buf_append_span(to, request->path);
    buf_append_text(to, "\n");
    buf_append_text(to, text_of_hex(request->body_sha256, sizeof(request->body_sha256), sha256));
}

/* ---- the header ---- */

/* Digits without zeros in front. */
static bool read_seconds(struct span text, int64_t *ret)
{
    int64_t seconds = 0;

    if (text.len < 1 || text.len > SECONDS_DIGITS_MAX || (text.len > 1 && text.data[0] == '0'))
        return false;
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return false;
        seconds = seconds * 10 + (text.data[i] - '0');
    }
    *ret = seconds;
    return true;
}

static bool is_nonce(struct span text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] < 0x21 || text.data[i] > 0x7e)
            return false;
    }
    return text.len >= NONCE_MIN && text.len <= NONCE_MAX;
}

static int base64_digit(uint8_t c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == '+')
        return 62;
    return c == '/' ? 63 : -1;
}

/* RFC 4648 section 4; the bits after the last byte are zero. */
static bool read_mac(struct span text, uint8_t to[static 32])
{
    uint32_t bits = 0;
    unsigned n_bits = 0;
    size_t n = 0;

    if (text.len != MAC_DIGITS || text.data[MAC_DIGITS - 1] != '=')
        return false;
    for (size_t i = 0; i < MAC_DIGITS - 1; i++) {
        int digit = base64_digit(text.data[i]);

        if (digit < 0)
            return false;
        bits = (bits << 6 | (uint32_t) digit) & 0x3fff;
        n_bits += 6;
        if (n_bits >= 8) {
            n_bits -= 8;
            to[n++] = (uint8_t) (bits >> n_bits);
        }
    }
    return (bits & ((1u << n_bits) - 1)) == 0;
}

bool identity_signature_parse(struct span header,
                              int64_t *ret_unix_seconds,
                              struct span *ret_nonce,
                              uint8_t ret_mac[static 32])
{
    const uint8_t *dot, *last;
    struct span rest, nonce;
    int64_t seconds;
    uint8_t mac[32];

    if (header.len < 3 || memcmp(header.data, "v1.", 3) != 0)
        return false;
    rest = span_of(header.data + 3, header.len - 3);
    dot = rest.len ? memchr(rest.data, '.', rest.len) : NULL;
    if (!dot || !read_seconds(span_of(rest.data, (size_t) (dot - rest.data)), &seconds))
        return false;
    /* base64 has no dot: the last one ends the nonce. */
    last = memrchr(rest.data, '.', rest.len);
    if (last == dot)
        return false;
    nonce = span_of(dot + 1, (size_t) (last - dot - 1));
    if (!is_nonce(nonce) ||
        !read_mac(span_of(last + 1, (size_t) (rest.data + rest.len - last - 1)), mac))
        return false;
    *ret_unix_seconds = seconds;
    *ret_nonce = nonce;
    memcpy(ret_mac, mac, sizeof(mac));
    return true;
}
