/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "common/base/text.h"
#include "common/identity/identity.h"

#define NAME_BYTES_MAX 63

static bool is_lower_or_digit(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

bool identity_name_is_good(const char *name)
{
    size_t len = strnlen(name, NAME_BYTES_MAX + 1);

    if (len < 1 || len > NAME_BYTES_MAX || !is_lower_or_digit(name[0]))
        return false;
    for (size_t i = 1; i < len; i++) {
        if (!is_lower_or_digit(name[i]) && name[i] != '.' && name[i] != '-')
            return false;
    }
    return true;
}

void identity_name_of_host(const char *host, char to[static 64])
{
    size_t len = 0;

    for (; *host && len < NAME_BYTES_MAX; host++) {
        char c = *host;

        if (c >= 'A' && c <= 'Z')
            c = (char) (c - 'A' + 'a');
        if (((unsigned char) c & 0xc0) == 0x80)
            continue; /* the rest of a character of UTF-8 */
        if (!is_lower_or_digit(c) && c != '.')
            c = '-';
        if (len > 0 || is_lower_or_digit(c))
            to[len++] = c;
    }
    /* A host's full name may end in a dot; nothing that ends in one or a hyphen is pretty. */
    while (len > 0 && !is_lower_or_digit(to[len - 1]))
        len--;
    to[len] = '\0';
}

bool identity_matches(const char *pattern, const char *name)
{
    return text_matches(pattern, name);
}
