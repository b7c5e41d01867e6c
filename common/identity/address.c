/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <string.h>

#include "common/base/text.h"
#include "common/identity/identity.h"

/* An address as 16 bytes; IPv4 lies in ::ffff:0:0/96, so that one comparison does for both. */
struct address {
    uint8_t bytes[16];
    bool is_v4;
};

#define MAPPED_BITS 96

static bool address_parse(const char *text, struct address *ret)
{
    static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

    if (inet_pton(AF_INET, text, ret->bytes + sizeof(mapped)) == 1) {
        memcpy(ret->bytes, mapped, sizeof(mapped));
        ret->is_v4 = true;
        return true;
    }
    if (inet_pton(AF_INET6, text, ret->bytes) != 1)
        return false;
    ret->is_v4 = memcmp(ret->bytes, mapped, sizeof(mapped)) == 0;
    return true;
}

/* Of 128, as the address is. */
static bool cidr_parse(const char *cidr, struct address *ret, unsigned *ret_bits)
{
    const char *slash = strchr(cidr, '/');
    size_t len = slash ? (size_t) (slash - cidr) : strlen(cidr);
    char text[INET6_ADDRSTRLEN];
    bool is_dotted = memchr(cidr, ':', len) == NULL;
    uint64_t bits = is_dotted ? 32 : 128;

    if (len >= sizeof(text))
        return false;
    memcpy(text, cidr, len);
    text[len] = '\0';
    if (!address_parse(text, ret))
        return false;
    if (slash && (text_to_u64(slash + 1, &bits) || bits > (is_dotted ? 32 : 128)))
        return false;
    *ret_bits = (unsigned) bits + (is_dotted ? MAPPED_BITS : 0);
    return true;
}

/* Bare, or with a port: "192.0.2.7:4711", "[2001:db8::7]:4711". */
static bool peer_parse(const char *peer, struct address *ret)
{
    const char *begin = peer, *end = NULL;
    char text[INET6_ADDRSTRLEN];

    if (peer[0] == '[') {
        begin++;
        end = strchr(begin, ']');
        if (!end || (end[1] != '\0' && end[1] != ':'))
            return false;
    } else if (strchr(peer, ':') == strrchr(peer, ':')) {
        end = strchr(peer, ':');
    }
    if (!end)
        end = begin + strlen(begin);
    if ((size_t) (end - begin) >= sizeof(text))
        return false;
    memcpy(text, begin, (size_t) (end - begin));
    text[end - begin] = '\0';
    return address_parse(text, ret);
}

bool identity_cidr_is_good(const char *cidr)
{
    struct address address;
    unsigned bits;

    return cidr_parse(cidr, &address, &bits);
}

bool identity_cidr_matches(const char *cidr, const char *peer)
{
    struct address range, address;
    unsigned bits, rest;

    if (!cidr_parse(cidr, &range, &bits) || !peer_parse(peer, &address))
        return false;
    /* ::/0 is of IPv6 alone, as 0.0.0.0/0 is of IPv4. */
    if (range.is_v4 != address.is_v4)
        return false;
    if (memcmp(range.bytes, address.bytes, bits / 8) != 0)
        return false;
    rest = bits % 8;
    return rest == 0 || (range.bytes[bits / 8] ^ address.bytes[bits / 8]) >> (8 - rest) == 0;
}
