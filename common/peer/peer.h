#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Peer: who is at the other end of a connection: addresses, ranges of them, and what a proxy says
 * in front of the connection's own bytes (PROXY protocol, versions 1 and 2). No sockets here.
 *
 * An IPv4 address is kept in its IPv6 form (::ffff:a.b.c.d), so that both compare as 16 bytes and a
 * listener of both families sees one client as one.
 *
 * Thread: any; values only.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <sys/socket.h>

#include "common/base/cleanup.h"
#include "common/base/span.h"

struct peer_address {
    uint8_t ip[16];
    uint16_t port;
};

enum peer_outcome {
    PEER_OK = 0,
    PEER_UNFIT, /* not of the form */
    PEER_MORE,  /* of proxy_read(): give more bytes */
};

/* Outcomes: PEER_UNFIT for what is neither IPv4 nor IPv6. */
int peer_of_sockaddr(const struct sockaddr *address, struct peer_address *ret) MUST_USE;
/* An IPv4 address as such. Returns the length. */
socklen_t peer_to_sockaddr(const struct peer_address *peer, struct sockaddr_storage *ret);

/* "10.0.0.7:4411", "[2001:db8::7]:4411". */
#define PEER_TEXT_BYTES 56
void peer_put_text(const struct peer_address *peer, char to[PEER_TEXT_BYTES]);

bool peer_is_loopback(const struct peer_address *peer);
/* Whether both count as one: the same IPv4 address, or the same /64. */
bool peer_is_neighbour(const struct peer_address *a, const struct peer_address *b);

/* ---- ranges ---- */

struct peer_net {
    uint8_t ip[16];
    uint8_t n_bits; /* of the IPv6 form */
};
/* "10.0.0.0/8", "fd00::/8"; without a length one address. Outcomes: PEER_UNFIT. */
int peer_net_parse(const char *text, struct peer_net *ret) MUST_USE;

#define PEER_MAX_NETS 64
struct peer_nets {
    struct peer_net nets[PEER_MAX_NETS];
    size_t n;
};
/* `text`: ranges with commas or blanks between them; empty is none. Outcomes: PEER_UNFIT, also for
 * more than PEER_MAX_NETS. */
int peer_nets_parse(const char *text, struct peer_nets *ret) MUST_USE;
bool peer_nets_have(const struct peer_nets *nets, const struct peer_address *peer);

/* ---- PROXY protocol, versions 1 and 2 ---- */

/*
 * https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt, section 2.2:
 *
 *     0  "\r\n\r\n\0\r\nQUIT\n"      12 bytes that begin no TLS record and no HTTP
 *    12  version << 4 | command      0x20 LOCAL: the proxy speaks for itself; 0x21 PROXY
 *    13  family << 4 | transport     0x11 TCP over IPv4, 0x21 over IPv6, 0x00 unknown
 *    14  length of what follows, big-endian
 *    16  source, destination address; source, destination port; then TLVs
 */
#define PROXY_HEAD_BYTES 16u
/*
 * Section 2.1, a line of text, at most PROXY_TEXT_BYTES with its end; addresses as inet_ntop()
 * writes them, ports without zeros in front, one blank between any two:
 *
 *     "PROXY TCP4 192.0.2.7 10.0.0.1 41234 8082\r\n"
 *     "PROXY TCP6 2001:db8::7 2001:db8::1 41234 8082\r\n"
 *     "PROXY UNKNOWN\r\n"              the proxy speaks for itself; more before the end is passed
 *                                      over
 */
#define PROXY_TEXT_BYTES 107u
/* With the addresses of both ends, names and facts about the client's TLS in TLVs. */
#define PROXY_MAX_BYTES (PROXY_HEAD_BYTES + 2048u)

struct proxy {
    size_t n_bytes; /* of the whole header; the connection's own bytes begin there */
    bool has_peer;  /* else the proxy itself is the peer */
    struct peer_address peer;
};
/*
 * Reads the header in front of `bytes`; TLVs are passed over.
 *
 * Outcomes: PEER_MORE: ret->n_bytes is how many are needed to go on (never above PROXY_MAX_BYTES).
 *           PEER_UNFIT: no header, another version, another transport, an address or a port that is
 *           none, too long, or cut within.
 */
int proxy_read(struct span bytes, struct proxy *ret) MUST_USE;
/* Whether the bytes begin like a header: as many as there are; of version 1 five at least, as HTTP
 * begins alike. False for none. */
bool proxy_is_begun(struct span bytes);
