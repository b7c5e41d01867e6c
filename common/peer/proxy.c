/* SPDX-License-Identifier: Apache-2.0 */

/* PROXY protocol, version 2: peer.h draws it. Version 1: proxy_text.c. */

#include <string.h>

#include "common/peer/inside.h"

#define SIGNATURE_BYTES 12

/* So many bytes of "PROXY " are no method of HTTP's and not the preface of HTTP/2. */
#define TEXT_TOLD_BYTES 5
#define LEAST_BYTES 15 /* of a header of either version */

enum { LOCAL = 0x20, PROXIED = 0x21 };
enum { UNKNOWN = 0x00, TCP4 = 0x11, TCP6 = 0x21, UNIX_STREAM = 0x31 };

static const uint8_t signature[SIGNATURE_BYTES] = "\r\n\r\n\0\r\nQUIT\n";

static bool is_binary(struct span bytes)
{
    size_t n = bytes.len < SIGNATURE_BYTES ? bytes.len : SIGNATURE_BYTES;

    return n > 0 && memcmp(bytes.data, signature, n) == 0;
}

bool proxy_is_begun(struct span bytes)
{
    return is_binary(bytes) || (bytes.len >= TEXT_TOLD_BYTES && proxy_text_can_be(bytes));
}

static uint16_t get_u16(const uint8_t *at)
{
    return (uint16_t) (at[0] << 8 | at[1]);
}

/* How many bytes the addresses take; SIZE_MAX for what is not TCP. */
static size_t address_bytes(uint8_t family)
{
    switch (family) {
    case TCP4:
        return 12;
    case TCP6:
        return 36;
    case UNIX_STREAM:
        return 216;
    case UNKNOWN:
        return 0;
    default:
        return SIZE_MAX;
    }
}

static bool are_tlvs_whole(const uint8_t *at, size_t len)
{
    while (len > 0) {
        size_t value_len;

        if (len < 3)
            return false;
        value_len = get_u16(at + 1);
        if (value_len > len - 3)
            return false;
        at += 3 + value_len;
        len -= 3 + value_len;
    }
    return true;
}

static void take_peer(uint8_t family, const uint8_t *at, struct proxy *to)
{
    if (family == TCP4) {
        memset(to->peer.ip, 0, 10);
        memset(to->peer.ip + 10, 0xff, 2);
        memcpy(to->peer.ip + 12, at, 4);
        to->peer.port = get_u16(at + 8);
    } else {
        memcpy(to->peer.ip, at, 16);
        to->peer.port = get_u16(at + 32);
    }
    to->has_peer = true;
}

int proxy_read(struct span bytes, struct proxy *ret)
{
    struct proxy proxy = { .n_bytes = PROXY_HEAD_BYTES };
    const uint8_t *at = bytes.data;
    size_t len, n_addresses;
    uint8_t command, family;

    if (bytes.len == 0) {
        *ret = (struct proxy){ .n_bytes = LEAST_BYTES };
        return PEER_MORE;
    }
    if (proxy_text_can_be(bytes))
        return proxy_read_text(bytes, ret);
    if (!is_binary(bytes))
        return PEER_UNFIT;
    if (bytes.len < PROXY_HEAD_BYTES) {
        *ret = proxy;
        return PEER_MORE;
    }
    command = at[12];
    family = at[13];
    len = get_u16(at + 14);
    if ((command != LOCAL && command != PROXIED) || len > PROXY_MAX_BYTES - PROXY_HEAD_BYTES)
        return PEER_UNFIT;
    proxy.n_bytes += len;
    if (bytes.len < proxy.n_bytes) {
        *ret = proxy;
        return PEER_MORE;
    }
    /* Of LOCAL all of it is to be passed over. */
    if (command == PROXIED) {
        n_addresses = address_bytes(family);
        if (n_addresses > len ||
            !are_tlvs_whole(at + PROXY_HEAD_BYTES + n_addresses, len - n_addresses))
            return PEER_UNFIT;
        if (family == TCP4 || family == TCP6)
            take_peer(family, at + PROXY_HEAD_BYTES, &proxy);
    }
    *ret = proxy;
    return 0;
}
