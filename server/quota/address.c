/* SPDX-License-Identifier: Apache-2.0 */
#include "server/quota/address.h"

#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "common/base/text.h"
#include "server/quota/quota.h"

#define V6_KEY_BITS 64 /* what one customer gets at least */

struct address {
    bool is_v6;
    uint8_t bytes[16];
};

static const uint8_t v4_in_v6[12] = { [10] = 0xff, [11] = 0xff }; /* RFC 4291 2.5.5.2 */

static bool parse_bare(const char *text, struct address *ret)
{
    struct address address = { .is_v6 = false };

    if (inet_pton(AF_INET, text, address.bytes) == 1) {
        *ret = address;
        return true;
    }
    if (inet_pton(AF_INET6, text, address.bytes) != 1)
        return false;
    address.is_v6 = true;
    if (memcmp(address.bytes, v4_in_v6, sizeof(v4_in_v6)) == 0) {
        memmove(address.bytes, address.bytes + 12, 4);
        address.is_v6 = false;
    }
    *ret = address;
    return true;
}

/* "10.0.0.7:411", "[::1]:411", "10.0.0.7", "::1", "fe80::1%eth0". */
static bool parse(const char *peer, struct address *ret)
{
    char text[ADDRESS_TEXT_BYTES];
    const char *from = peer[0] == '[' ? peer + 1 : peer;
    const char *colon = strchr(from, ':');
    size_t len = strcspn(from, peer[0] == '[' ? "]%" : "%/");

    if (peer[0] != '[' && colon && !strchr(colon + 1, ':'))
        len = (size_t) (colon - from); /* IPv4 with its port */
    if (len >= sizeof(text))
        return false;
    memcpy(text, from, len);
    text[len] = 0;
    return parse_bare(text, ret);
}

bool address_is_loopback(const char *peer)
{
    struct address address;
    static const uint8_t v6[16] = { [15] = 1 };

    if (!parse(peer, &address))
        return false;
    return address.is_v6 ? memcmp(address.bytes, v6, sizeof(v6)) == 0 : address.bytes[0] == 127;
}

bool address_key(const char *peer, char to[static ADDRESS_TEXT_BYTES])
{
    struct address address;
    char text[INET6_ADDRSTRLEN];

    if (!parse(peer, &address))
        return false;
    if (address.is_v6)
        memset(address.bytes + V6_KEY_BITS / 8, 0, 16 - V6_KEY_BITS / 8);
    if (!inet_ntop(address.is_v6 ? AF_INET6 : AF_INET, address.bytes, text, sizeof(text)))
        return false;
    snprintf(to, ADDRESS_TEXT_BYTES, address.is_v6 ? "%s/64" : "%s", text);
    return true;
}

static bool parse_cidr(const char *cidr, struct address *ret, unsigned *ret_bits)
{
    char text[ADDRESS_TEXT_BYTES];
    const char *slash = strchr(cidr, '/');
    size_t len = slash ? (size_t) (slash - cidr) : strlen(cidr);
    struct address address;
    uint64_t bits;

    if (len >= sizeof(text))
        return false;
    memcpy(text, cidr, len);
    text[len] = 0;
    if (!parse_bare(text, &address))
        return false;
    const unsigned whole = address.is_v6 ? 128 : 32;
    bits = whole;
    if (slash && (text_to_u64(slash + 1, &bits) != 0 || strlen(slash + 1) > 3))
        return false;
    /* One that is written as ::ffff:10.0.0.0/104 counts its bits from there. */
    if (slash && !address.is_v6 && strchr(text, ':')) {
        if (bits < 96 || bits > 128)
            return false;
        bits -= 96;
    }
    if (bits > whole)
        return false;
    *ret = address;
    *ret_bits = (unsigned) bits;
    return true;
}

bool quota_cidr_is_good(const char *cidr)
{
    struct address address;
    unsigned bits;

    return parse_cidr(cidr, &address, &bits);
}

bool quota_address_matches(const char *cidr, const char *peer)
{
    struct address network, address;
    unsigned bits;

    if (!parse_cidr(cidr, &network, &bits) || !parse(peer, &address) ||
        network.is_v6 != address.is_v6)
        return false;
    if (memcmp(network.bytes, address.bytes, bits / 8) != 0)
        return false;
    if (bits % 8 == 0)
        return true;
    const uint8_t mask = (uint8_t) (0xff << (8 - bits % 8));
    return (network.bytes[bits / 8] & mask) == (address.bytes[bits / 8] & mask);
}
