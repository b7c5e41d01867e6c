/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "common/base/text.h"
#include "server/pki/authority.h"

#define NAME_BYTES_MAX 63

static bool is_lower_or_digit(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

bool pki_name_is_good(const char *name)
{
    return identity_name_is_good(name);
}

/* What people typed goes into a message: printable, and cut. */
static void quote(const char *text, char *to, size_t size)
{
    struct buf printable = { 0 };

    text_append_printable(&printable, span_of(text, strnlen(text, 80)));
    snprintf(to, size, "%s", buf_text(&printable));
    buf_deinit(&printable);
}

int pki_check_name(const char *name, struct tls_why *ret_why)
{
    char quoted[128];

    if (pki_name_is_good(name))
        return 0;
    quote(name, quoted, sizeof(quoted));
    snprintf(ret_why->text, sizeof(ret_why->text),
             "`%s` cannot be a name: 1 to %d of a-z, 0-9, dot and hyphen, beginning with a letter "
             "or digit",
             quoted, NAME_BYTES_MAX);
    return PKI_BAD_NAME;
}

static bool is_dns_name(const char *name)
{
    size_t len = strlen(name), label = 0;

    if (strncmp(name, "*.", 2) == 0) {
        name += 2;
        len -= 2;
    }
    if (len < 1 || len > 253)
        return false;
    for (size_t i = 0; i < len; i++) {
        char c = name[i];
        bool is_alphanumeric = is_lower_or_digit(c) || (c >= 'A' && c <= 'Z');
        if (c == '.') {
            if (label == 0 || name[i - 1] == '-')
                return false;
            label = 0;
            continue;
        }
        if (!is_alphanumeric && (c != '-' || label == 0))
            return false;
        if (++label > 63)
            return false;
    }
    return label > 0 && name[len - 1] != '-';
}

int pki_check_host(const char *name, struct tls_why *ret_why)
{
    unsigned char address[sizeof(struct in6_addr)];
    char quoted[128];

    if (inet_pton(AF_INET, name, address) == 1 || inet_pton(AF_INET6, name, address) == 1)
        return 0;
    if (is_dns_name(name))
        return 0;
    quote(name, quoted, sizeof(quoted));
    snprintf(ret_why->text, sizeof(ret_why->text),
             "`%s` is neither a host name nor an IP address; give it as hub.example.org or "
             "192.0.2.7 or 2001:db8::7, without scheme and port",
             quoted);
    return PKI_BAD_NAME;
}

int pki_check_organisation(const char *text, struct tls_why *ret_why)
{
    size_t len = strlen(text);
    bool is_good = len >= 1 && len < PKI_ORGANISATION_BYTES && text_is_utf8(text, len);

    for (size_t i = 0; i < len; i++)
        is_good = is_good && (unsigned char) text[i] >= 0x20 && text[i] != 0x7f;
    if (is_good)
        return 0;
    snprintf(ret_why->text, sizeof(ret_why->text),
             "the organisation must be 1 to %d bytes of UTF-8 without control characters",
             PKI_ORGANISATION_BYTES - 1);
    return PKI_BAD_NAME;
}

int pki_check_trust_domain(const char *text, struct tls_why *ret_why)
{
    size_t len = strlen(text);
    /* SPIFFE-ID 2.1: lower-case letters, digits, dots, hyphens and underscores. */
    bool is_good = len >= 1 && len < PKI_TRUST_DOMAIN_BYTES;

    for (size_t i = 0; i < len; i++)
        is_good = is_good && (is_lower_or_digit(text[i]) || strchr(".-_", text[i]));
    if (is_good)
        return 0;
    snprintf(ret_why->text, sizeof(ret_why->text),
             "the trust domain must be 1 to %d of a-z, 0-9, dot, hyphen and underscore",
             PKI_TRUST_DOMAIN_BYTES - 1);
    return PKI_BAD_NAME;
}
