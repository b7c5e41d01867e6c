/* SPDX-License-Identifier: Apache-2.0 */
#include "common/peer/peer.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "common/base/text.h"

static const uint8_t v4_prefix[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };

static bool is_v4(const uint8_t ip[16])
{
    return memcmp(ip, v4_prefix, sizeof(v4_prefix)) == 0;
}

int peer_of_sockaddr(const struct sockaddr *address, struct peer_address *ret)
{
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;

    if (address->sa_family == AF_INET) {
        memcpy(&v4, address, sizeof(v4));
        memcpy(ret->ip, v4_prefix, sizeof(v4_prefix));
        memcpy(ret->ip + 12, &v4.sin_addr, 4);
        ret->port = ntohs(v4.sin_port);
        return 0;
    }
    if (address->sa_family != AF_INET6)
        return PEER_UNFIT;
    memcpy(&v6, address, sizeof(v6));
    memcpy(ret->ip, &v6.sin6_addr, 16);
    ret->port = ntohs(v6.sin6_port);
    return 0;
}

socklen_t peer_to_sockaddr(const struct peer_address *peer, struct sockaddr_storage *ret)
{
    struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons(peer->port) };
    struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons(peer->port) };

    memset(ret, 0, sizeof(*ret));
    if (is_v4(peer->ip)) {
        memcpy(&v4.sin_addr, peer->ip + 12, 4);
        memcpy(ret, &v4, sizeof(v4));
        return sizeof(v4);
    }
    memcpy(&v6.sin6_addr, peer->ip, 16);
    memcpy(ret, &v6, sizeof(v6));
    return sizeof(v6);
}

void peer_put_text(const struct peer_address *peer, char to[PEER_TEXT_BYTES])
{
    char host[INET6_ADDRSTRLEN];

    if (is_v4(peer->ip)) {
        (void) inet_ntop(AF_INET, peer->ip + 12, host, sizeof(host));
        (void) snprintf(to, PEER_TEXT_BYTES, "%s:%u", host, peer->port);
        return;
    }
    (void) inet_ntop(AF_INET6, peer->ip, host, sizeof(host));
    (void) snprintf(to, PEER_TEXT_BYTES, "[%s]:%u", host, peer->port);
}

bool peer_is_loopback(const struct peer_address *peer)
{
    static const uint8_t loopback[16] = { [15] = 1 };

    if (is_v4(peer->ip))
        return peer->ip[12] == 127;
    return memcmp(peer->ip, loopback, sizeof(loopback)) == 0;
}

bool peer_is_neighbour(const struct peer_address *a, const struct peer_address *b)
{
    return memcmp(a->ip, b->ip, is_v4(a->ip) ? 16 : 8) == 0;
}

/* ---- ranges ---- */

int peer_net_parse(const char *text, struct peer_net *ret)
{
    const char *slash = strchr(text, '/');
    size_t len = slash ? (size_t) (slash - text) : strlen(text);
    struct peer_net net = { .n_bits = 128 };
    char host[INET6_ADDRSTRLEN];
    unsigned max = 128;
    uint64_t n_bits;

    if (len == 0 || len >= sizeof(host))
        return PEER_UNFIT;
    memcpy(host, text, len);
    host[len] = '\0';
    if (inet_pton(AF_INET, host, net.ip + 12) == 1) {
        memcpy(net.ip, v4_prefix, sizeof(v4_prefix));
        max = 32;
    } else if (inet_pton(AF_INET6, host, net.ip) != 1) {
        return PEER_UNFIT;
    }
    if (slash) {
        if (text_to_u64(slash + 1, &n_bits) != 0 || n_bits > max)
            return PEER_UNFIT;
        net.n_bits = (uint8_t) (n_bits + 128 - max);
    }
    *ret = net;
    return 0;
}

int peer_nets_parse(const char *text, struct peer_nets *ret)
{
    struct peer_nets nets = { .n = 0 };
    static const char gaps[] = ", \t";

    for (;;) {
        char one[INET6_ADDRSTRLEN + 8];
        size_t len;

        text += strspn(text, gaps);
        if (!*text)
            break;
        len = strcspn(text, gaps);
        if (len >= sizeof(one) || nets.n == PEER_MAX_NETS)
            return PEER_UNFIT;
        memcpy(one, text, len);
        one[len] = '\0';
        if (peer_net_parse(one, &nets.nets[nets.n++]) != 0)
            return PEER_UNFIT;
        text += len;
    }
    *ret = nets;
    return 0;
}

static bool is_inside(const struct peer_net *net, const struct peer_address *peer)
{
    size_t n_bytes = net->n_bits / 8;
    unsigned n_rest = net->n_bits % 8;

    if (memcmp(net->ip, peer->ip, n_bytes) != 0)
        return false;
    return n_rest == 0 || (net->ip[n_bytes] ^ peer->ip[n_bytes]) >> (8 - n_rest) == 0;
}

bool peer_nets_have(const struct peer_nets *nets, const struct peer_address *peer)
{
    for (size_t i = 0; i < nets->n; i++)
        if (is_inside(&nets->nets[i], peer))
            return true;
    return false;
}
