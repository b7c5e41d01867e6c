/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/base/text.h"
#include "common/crypto/crypto.h"
#include "common/identity/identity.h"

#define HEAD "sentinel1"

enum part { PART_HEAD, PART_HUB, PART_TOKEN, PART_SECRET, PART_PIN, N_PARTS };

void identity_enrolment_print(const struct identity_enrolment *enrolment, struct buf *to)
{
    char pin[2 * IDENTITY_PIN_BYTES + 1];

    buf_printf(to, HEAD "/%s/%s/", enrolment->hub, enrolment->token_id);
    identity_base32_print(span_of(enrolment->secret, sizeof(enrolment->secret)), to);
    buf_printf(to, "/%s", text_of_hex(enrolment->pin, sizeof(enrolment->pin), pin));
}

/* ---- HOST:PORT ---- */

static bool is_port(const char *text)
{
    uint64_t port;

    return text[0] >= '1' && text[0] <= '9' && text_to_u64(text, &port) == 0 && port <= 65535;
}

static bool is_host_character(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '-' || c == '_';
}

static bool is_host(const char *text, size_t len)
{
    char address[INET6_ADDRSTRLEN];
    uint8_t bytes[16];

    if (len > 2 && text[0] == '[' && text[len - 1] == ']' && len - 2 < sizeof(address)) {
        memcpy(address, text + 1, len - 2);
        address[len - 2] = '\0';
        return inet_pton(AF_INET6, address, bytes) == 1;
    }
    for (size_t i = 0; i < len; i++) {
        if (!is_host_character(text[i]))
            return false;
    }
    return len > 0 && text[0] != '-' && text[0] != '.';
}

bool identity_hub_is_good(const char *hub)
{
    const char *colon = strrchr(hub, ':');

    return colon && strlen(hub) < IDENTITY_HUB_BYTES && is_host(hub, (size_t) (colon - hub)) &&
           is_port(colon + 1);
}

/* ---- the string ---- */

PRINTF_LIKE(2, 3) static int refuse(struct identity_why *why, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vsnprintf(why->text, sizeof(why->text), fmt, args);
    va_end(args);
    return IDENTITY_BAD;
}

static bool is_space(uint8_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static struct span trim(struct span text)
{
    while (text.len > 0 && is_space(text.data[0]))
        text = span_of(text.data + 1, text.len - 1);
    while (text.len > 0 && is_space(text.data[text.len - 1]))
        text.len--;
    return text;
}

/* Into N_PARTS by `/`; false when there are more or fewer. */
static bool split(struct span text, struct span ret[N_PARTS])
{
    size_t n = 0;

    for (;;) {
        const uint8_t *slash = text.len ? memchr(text.data, '/', text.len) : NULL;
        size_t len = slash ? (size_t) (slash - text.data) : text.len;

        if (n == N_PARTS)
            return false;
        ret[n++] = span_of(text.data, len);
        if (!slash)
            return n == N_PARTS;
        text = span_of(slash + 1, text.len - len - 1);
    }
}

/* NUL-terminated; false when it does not fit or has a NUL of its own. */
static bool copy(struct span part, char *to, size_t size)
{
    if (part.len >= size || (part.len && memchr(part.data, '\0', part.len)))
        return false;
    if (part.len)
        memcpy(to, part.data, part.len);
    to[part.len] = '\0';
    return true;
}

static int read_hub(struct span part, struct identity_enrolment *to, struct identity_why *why)
{
    if (copy(part, to->hub, sizeof(to->hub)) && identity_hub_is_good(to->hub))
        return 0;
    return refuse(why, "the hub's address in the enrolment string is not HOST:PORT; copy the whole "
                       "string again, or create a token with --hub HOST:PORT");
}

static int read_token(const struct span parts[N_PARTS],
                      struct identity_enrolment *to,
                      struct identity_why *why)
{
    uint8_t id[IDENTITY_TOKEN_ID_BYTES * 5 / 8];

    if (!identity_base32_parse(parts[PART_TOKEN], id, sizeof(id)) ||
        !copy(parts[PART_TOKEN], to->token_id, sizeof(to->token_id)))
        return refuse(why,
                      "the token's id in the enrolment string must be %d of a-z and 2-7; copy the "
                      "whole string again",
                      IDENTITY_TOKEN_ID_BYTES);
    if (!identity_base32_parse(parts[PART_SECRET], to->secret, sizeof(to->secret)))
        return refuse(why,
                      "the token's secret in the enrolment string must be %d of a-z and 2-7; copy "
                      "the whole string again",
                      IDENTITY_SECRET_BYTES * 8 / 5);
    return 0;
}

static int read_pin(struct span part, struct identity_enrolment *to, struct identity_why *why)
{
    char text[2 * IDENTITY_PIN_BYTES + 1];

    for (size_t i = 0; i < part.len; i++) {
        if (part.data[i] >= 'A' && part.data[i] <= 'F')
            part.len = 0; /* one form only: lower case */
    }
    if (copy(part, text, sizeof(text)) && text_to_hex(text, to->pin, sizeof(to->pin)) == 0)
        return 0;
    return refuse(why,
                  "the pin at the end of the enrolment string must be %d of 0-9 and a-f; copy the "
                  "whole string again",
                  2 * IDENTITY_PIN_BYTES);
}

static int read_parts(struct span text, struct identity_enrolment *to, struct identity_why *ret_why)
{
    struct span parts[N_PARTS];
    int r;

    if (text.len == 0)
        return refuse(ret_why, "there is no enrolment string; `sentinelctl tokens create` prints "
                               "one");
    if (text.len > IDENTITY_MAX_STRING)
        return refuse(ret_why, "an enrolment string has at most %d bytes, this has %zu",
                      IDENTITY_MAX_STRING, text.len);
    if (!split(text, parts) || !span_equal(parts[PART_HEAD], span_of_text(HEAD)))
        return refuse(ret_why, "this is no enrolment string: it has the form "
                               "sentinel1/HOST:PORT/TOKENID/SECRET/PIN, and `sentinelctl tokens "
                               "create` prints one");
    r = read_hub(parts[PART_HUB], to, ret_why);
    if (r == 0)
        r = read_token(parts, to, ret_why);
    return r ? r : read_pin(parts[PART_PIN], to, ret_why);
}

int identity_enrolment_parse(struct span text,
                             struct identity_enrolment *ret,
                             struct identity_why *ret_why)
{
    struct identity_enrolment enrolment = { .hub = "" };
    int r = read_parts(trim(text), &enrolment, ret_why);

    if (r == 0)
        *ret = enrolment;
    crypto_wipe(&enrolment, sizeof(enrolment));
    return r;
}
