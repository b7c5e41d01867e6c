/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/address.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#define V4_PREFIX_BITS 96 /* of ::ffff:0:0/96 */

static const uint8_t v4_prefix[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };

struct range {
    struct address address;
    unsigned n_bits; /* of 128 */
};

static bool is_v4(const struct address *address)
{
    return memcmp(address->bytes, v4_prefix, sizeof(v4_prefix)) == 0;
}

/* The text alone: no port, no brackets. */
static bool parse_bare(const char *text, size_t len, struct address *ret, bool *ret_is_v4)
{
    char bare[ADDRESS_TEXT_BYTES];
    struct address address = { { 0 } };

    if (len == 0 || len >= sizeof(bare))
        return false;
    memcpy(bare, text, len);
    bare[len] = 0;
    if (inet_pton(AF_INET, bare, address.bytes + sizeof(v4_prefix)) == 1) {
        memcpy(address.bytes, v4_prefix, sizeof(v4_prefix));
        *ret = address;
        *ret_is_v4 = true;
        return true;
    }
    if (inet_pton(AF_INET6, bare, address.bytes) != 1)
        return false;
    *ret = address;
    *ret_is_v4 = false;
    return true;
}

/* How many bytes from *begin on are the host. */
static size_t host_of(const char **begin, const char *peer)
{
    const char *colon = strchr(peer, ':'), *end;

    *begin = peer;
    if (peer[0] == '[') {
        *begin = peer + 1;
        end = strchr(*begin, ']');
        if (!end)
            return 0;
    } else {
        /* One colon: a port behind an IPv4 address. More: IPv6 without a port. */
        end = colon && !strchr(colon + 1, ':') ? colon : peer + strlen(peer);
    }
    const char *scope = memchr(*begin, '%', (size_t) (end - *begin));
    return (size_t) ((scope ? scope : end) - *begin);
}

bool address_parse_peer(const char *peer, struct address *ret)
{
    const char *begin;
    size_t len = host_of(&begin, peer);
    bool ignored;

    return parse_bare(begin, len, ret, &ignored);
}

const char *address_print_peer(const char *peer, char to[static ADDRESS_TEXT_BYTES])
{
    struct address address;

    if (!address_parse_peer(peer, &address)) {
        snprintf(to, ADDRESS_TEXT_BYTES, "%s", peer);
        return to;
    }
    const char *text = is_v4(&address) ? inet_ntop(AF_INET, address.bytes + sizeof(v4_prefix), to,
                                                   ADDRESS_TEXT_BYTES)
                                       : inet_ntop(AF_INET6, address.bytes, to, ADDRESS_TEXT_BYTES);
    return text ? text : "";
}

/* Up to three digits; false for anything else. */
static bool parse_bits(const char *text, unsigned max, unsigned *ret)
{
    unsigned value = 0;
    size_t len = strlen(text);

    if (len == 0 || len > 3 || (len > 1 && text[0] == '0'))
        return false;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        value = value * 10 + (unsigned) (text[i] - '0');
    }
    *ret = value;
    return value <= max;
}

static bool parse_range(const char *cidr, struct range *ret)
{
    const char *slash = strchr(cidr, '/');
    size_t len = slash ? (size_t) (slash - cidr) : strlen(cidr);
    bool is_v4_text;
    unsigned n_bits;

    if (!parse_bare(cidr, len, &ret->address, &is_v4_text))
        return false;
    n_bits = is_v4_text ? 32 : 128;
    if (slash && !parse_bits(slash + 1, n_bits, &n_bits))
        return false;
    ret->n_bits = n_bits + (is_v4_text ? V4_PREFIX_BITS : 0);
    return true;
}

static bool bit_of(const struct address *address, unsigned at)
{
    return address->bytes[at / 8] >> (7 - at % 8) & 1;
}

bool address_range_is_good(const char *cidr)
{
    struct range range;

    if (!parse_range(cidr, &range))
        return false;
    for (unsigned i = range.n_bits; i < 128; i++) {
        if (bit_of(&range.address, i))
            return false;
    }
    return true;
}

bool address_range_has(const char *cidr, const char *peer)
{
    struct address address;
    struct range range;

    if (!parse_range(cidr, &range) || !address_parse_peer(peer, &address))
        return false;
    for (unsigned i = 0; i < range.n_bits; i++) {
        if (bit_of(&range.address, i) != bit_of(&address, i))
            return false;
    }
    return true;
}
