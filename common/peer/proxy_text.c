/* SPDX-License-Identifier: Apache-2.0 */

/* PROXY protocol, version 1: peer.h draws it. Nothing is taken that no proxy writes. */

#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

#include "common/peer/inside.h"

#define LEAST_BYTES 15 /* "PROXY UNKNOWN\r\n" */
#define PREFIX_BYTES 6

static const char prefix[PREFIX_BYTES + 1] = "PROXY ";

/* The next word, up to a blank or the end of the line; what is behind it stays in `line`. */
static bool next_word(struct span *line, struct span *ret)
{
    const uint8_t *end = line->len ? memchr(line->data, ' ', line->len) : NULL;

    ret->data = line->data;
    ret->len = end ? (size_t) (end - line->data) : line->len;
    if (ret->len == 0)
        return false;
    line->data += ret->len;
    line->len -= ret->len;
    if (end) {
        line->data++;
        line->len--;
        return line->len > 0; /* no blank at the end */
    }
    return true;
}

/* An address as inet_ntop() writes it (digits of IPv6 in either case), in its IPv6 form. */
static bool read_address(struct span word, int family, uint8_t to[static 16])
{
    char text[INET6_ADDRSTRLEN], again[INET6_ADDRSTRLEN];
    uint8_t *at = family == AF_INET ? to + 12 : to;

    if (word.len >= sizeof(text))
        return false;
    memcpy(text, word.data, word.len);
    text[word.len] = '\0';
    if (strlen(text) != word.len || inet_pton(family, text, at) != 1 ||
        !inet_ntop(family, at, again, sizeof(again)) || strcasecmp(text, again) != 0)
        return false;
    if (family == AF_INET) {
        memset(to, 0, 10);
        memset(to + 10, 0xff, 2);
    }
    return true;
}

/* 0 to 65535 without a zero in front. */
static bool read_port(struct span word, uint16_t *ret)
{
    uint32_t port = 0;

    if (word.len > 5 || (word.len > 1 && word.data[0] == '0'))
        return false;
    for (size_t i = 0; i < word.len; i++) {
        if (word.data[i] < '0' || word.data[i] > '9')
            return false;
        port = port * 10 + (word.data[i] - '0');
    }
    *ret = (uint16_t) port;
    return port <= UINT16_MAX;
}

static bool is_word(struct span word, const char *text)
{
    return word.len == strlen(text) && memcmp(word.data, text, word.len) == 0;
}

/* What is between the prefix and the end of the line. */
static bool read_line(struct span line, struct proxy *to)
{
    struct span words[5];
    uint8_t destination[16];
    uint16_t destination_port;
    size_t n = 0;
    int family;

    while (n < 5 && line.len > 0) {
        if (!next_word(&line, &words[n++]))
            return false;
        if (n == 1 && is_word(words[0], "UNKNOWN")) /* the rest is to be passed over */
            return true;
    }
    if (n != 5 || line.len > 0 || !(is_word(words[0], "TCP4") || is_word(words[0], "TCP6")))
        return false;
    family = words[0].data[3] == '4' ? AF_INET : AF_INET6;
    to->has_peer = read_address(words[1], family, to->peer.ip) &&
                   read_address(words[2], family, destination) &&
                   read_port(words[3], &to->peer.port) && read_port(words[4], &destination_port);
    return to->has_peer;
}

static bool is_printable(struct span bytes)
{
    for (size_t i = 0; i < bytes.len; i++)
        if (bytes.data[i] < ' ' || bytes.data[i] > '~')
            return false;
    return true;
}

bool proxy_text_can_be(struct span bytes)
{
    const size_t n = bytes.len < PREFIX_BYTES ? bytes.len : PREFIX_BYTES;

    return memcmp(bytes.data, prefix, n) == 0;
}

int proxy_read_text(struct span bytes, struct proxy *ret)
{
    struct proxy proxy = { .n_bytes = 0 };
    const size_t n_seen = bytes.len < PROXY_TEXT_BYTES ? bytes.len : PROXY_TEXT_BYTES;
    const uint8_t *end = memchr(bytes.data, '\r', n_seen);
    const size_t len = end ? (size_t) (end - bytes.data) : n_seen;

    if (!proxy_text_can_be(bytes) || !is_printable(span_of(bytes.data, len)))
        return PEER_UNFIT;
    /* The end of the line is at least so far. */
    proxy.n_bytes = len + 2 < LEAST_BYTES ? LEAST_BYTES : len + 2;
    if (proxy.n_bytes > PROXY_TEXT_BYTES || (end && len + 2 < LEAST_BYTES))
        return PEER_UNFIT;
    if (end && bytes.len > len + 1 && end[1] != '\n')
        return PEER_UNFIT;
    if (!end || bytes.len < proxy.n_bytes) {
        *ret = proxy;
        return PEER_MORE;
    }
    if (!read_line(span_of(bytes.data + PREFIX_BYTES, len - PREFIX_BYTES), &proxy))
        return PEER_UNFIT;
    *ret = proxy;
    return PEER_OK;
}
