/* SPDX-License-Identifier: Apache-2.0 */
#include "common/http/http.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/text.h"

struct span http_path_of(const char *target)
{
    return span_of(target, strcspn(target, "?"));
}

/* ---- queries ---- */

/* Appends; false for what is none. */
static bool decode(const char *text, size_t len, struct buf *to)
{
    for (size_t i = 0; i < len; i++) {
        char hex[3] = "";
        uint8_t byte = (uint8_t) text[i];

        if (text[i] == '+') {
            byte = ' ';
        } else if (text[i] == '%') {
            if (len - i < 3)
                return false;
            memcpy(hex, text + i + 1, 2);
            if (text_to_hex(hex, &byte, 1) != 0 || byte == 0)
                return false;
            i += 2;
        }
        buf_append(to, &byte, 1);
    }
    return true;
}

static bool is_key(const char *text, size_t len, const char *key)
{
    CLEANUP(buf_deinit) struct buf decoded = { 0 };

    return decode(text, len, &decoded) && span_equal(buf_span(&decoded), span_of_text(key));
}

int http_query_get(const char *target, const char *key, struct buf *to)
{
    const char *at = strchr(target, '?');

    while (at) {
        const char *name = at + 1;
        size_t pair = strcspn(name, "&");
        const char *equals = memchr(name, '=', pair);
        size_t name_len = equals ? (size_t) (equals - name) : pair;

        if (is_key(name, name_len, key)) {
            if (!equals)
                return 0;
            return decode(equals + 1, pair - name_len - 1, to) ? 0 : HTTP_UNFIT;
        }
        at = name[pair] == '&' ? name + pair : NULL;
    }
    return HTTP_ABSENT;
}

/* ---- addresses ---- */

/* "host", "host:port", "[v6]", "[v6]:port". */
static bool parse_authority(const char *text, size_t len, struct http_url *url)
{
    char copy[sizeof(url->authority)];
    char *host = copy, *port = NULL;
    uint64_t number;

    if (len == 0 || len >= sizeof(copy))
        return false;
    memcpy(copy, text, len);
    copy[len] = '\0';
    memcpy(url->authority, copy, len + 1);
    if (copy[0] == '[') {
        char *end = strchr(copy, ']');

        if (!end || (end[1] != '\0' && end[1] != ':'))
            return false;
        port = end[1] == ':' ? end + 2 : NULL;
        host = copy + 1;
        *end = '\0';
    } else {
        port = strchr(copy, ':');
        if (port)
            *port++ = '\0';
    }
    if (port) {
        if (text_to_u64(port, &number) != 0 || number == 0 || number > UINT16_MAX)
            return false;
        url->port = (uint16_t) number;
    }
    if (!host[0] || strlen(host) >= sizeof(url->host))
        return false;
    /* What else is in a host was meant to be something else: a user, a second port, a space. */
    if (host[strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:%")])
        return false;
    memcpy(url->host, host, strlen(host) + 1);
    return true;
}

static bool is_target(const char *text)
{
    for (; *text; text++) {
        if (*text <= ' ' || *text == 0x7f || *text == '#')
            return false;
    }
    return true;
}

int http_url_parse(const char *text, struct http_url *ret)
{
    struct http_url url = { 0 };
    const char *rest;

    if (strncmp(text, "https://", 8) == 0) {
        url.is_tls = true;
        url.port = 443;
        rest = text + 8;
    } else if (strncmp(text, "http://", 7) == 0) {
        url.port = 80;
        rest = text + 7;
    } else {
        return HTTP_UNFIT;
    }
    size_t len = strcspn(rest, "/?#");

    if (!parse_authority(rest, len, &url))
        return HTTP_UNFIT;
    url.target = rest[len] ? rest + len : "/";
    if (url.target[0] != '/' || !is_target(url.target))
        return HTTP_UNFIT;
    *ret = url;
    return 0;
}
