/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/logs/screen.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/regex/regex.h"

#define MARK "[REDACTED]"
#define MAX_FINDS 64 /* in one record; behind them all of the rest goes */

/* What a pattern found must look like besides; NULL: no more. */
typedef bool check_fn(struct span found);
static check_fn is_token, is_card;

#define KEYS "pass(?:word|wd|phrase)?|secret(?:[_-]?key)?|token|(?:api|access)[_-]?key"
/* In quotes up to the same, which are escaped in a text that is quoted itself; else up to a space.
 */
#define VALUE                                                   \
    "(?:\\\\+\"([^\"\\\\]*)|\"((?:[^\"\\\\]|\\\\.)*)|'([^']*)|" \
    "([^\\s\"',;&\\\\][^\\s\"',;&]*))"

static const struct {
    const char *name, *pattern;
    check_fn *check;
} ready_made[] = {
    /* key=value, "key": "value", --key value. pwd is a directory more often than a password. */
    { "password",
      "(?i)(?:" KEYS ")\\\\*[\"']?\\s*[=:]\\s*" VALUE
      "|pwd\\\\*[\"']?\\s*[=:]\\s*\\\\*[\"']?([^\\s\"',;&/\\\\][^\\s\"',;&\\\\]*)"
      "|--[a-z-]*(?:" KEYS ")\\s+[\"']?([^\\s\"'-][^\\s\"']*)",
      NULL },
    { "authorization", "(?i)\\b(?:bearer|basic)\\s+([a-z0-9+/_.~=-]{8,})", is_token },
    { "private_key", "-----BEGIN [A-Z ]*PRIVATE KEY-----(?s:.*?)(?:-----END|$)", NULL },
    { "aws_key", "\\b(?:AKIA|ASIA)[A-Z0-9]{16}\\b", NULL },
    { "jwt", "\\beyJ[A-Za-z0-9_-]{8,}\\.[A-Za-z0-9_-]{8,}\\.[A-Za-z0-9_-]{8,}", NULL },
    { "url_credentials", "://[^\\s/:@]*:([^\\s/@]+)@", NULL },
    { "credit_card", "\\b[0-9](?:[ -]?[0-9]){12,18}\\b", is_card },
    { "email", "\\b[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\\.[A-Za-z]{2,}\\b", NULL },
};
#define N_READY (sizeof(ready_made) / sizeof(ready_made[0]))

struct redaction {
    struct regex *regex;
    check_fn *check;
    bool is_ready;
};

struct screen {
    struct regex **include, **exclude;
    size_t n_include, n_exclude;
    struct redaction *redact;
    size_t n_redact;
    struct regex *any; /* of the ready-made ones: most lines have none, and are asked once */
};

const char *const *screen_known(void)
{
    static const char *names[N_READY + 1];

    for (size_t i = 0; i < N_READY; i++)
        names[i] = ready_made[i].name;
    return names;
}

static int make(struct regex **ret, const char *row, const char *text, char ret_error[320])
{
    char error[REGEX_ERROR_BYTES];
    int r = regex_new(ret, span_of_text(text), error);

    if (r == REGEX_BAD) {
        snprintf(ret_error, 320, "%s: `%.80s` is no regular expression: %s", row, text, error);
        return SCREEN_BAD;
    }
    return pass(r);
}

static int make_list(struct regex ***ret,
                     size_t *ret_n,
                     const char *row,
                     const char *const *texts,
                     size_t n,
                     char ret_error[320])
{
    *ret = calloc(n + 1, sizeof(struct regex *));
    if (!*ret)
        return fault(-ENOMEM, "no memory to screen logs");
    for (size_t i = 0; i < n; i++) {
        int r = make(&(*ret)[i], row, texts[i], ret_error);

        if (r)
            return r == SCREEN_BAD ? r : pass(r);
        *ret_n = i + 1;
    }
    return 0;
}

/* Ours are of bytes, so that a secret in another encoding is one too. */
static int make_ready(struct redaction *to, size_t ready, struct buf *any)
{
    char error[REGEX_ERROR_BYTES];

    to->is_ready = true;
    to->check = ready_made[ready].check;
    buf_printf(any, "%s(?:%s)", any->len ? "|" : "", ready_made[ready].pattern);
    if (buf_failed(any))
        return fault(-ENOMEM, "no memory to screen logs");
    const int r = regex_new_bytes(&to->regex, span_of_text(ready_made[ready].pattern), error);
    ensure(r <= 0);
    return pass(r);
}

static int
make_redactions(struct screen *screen, const struct screen_options *options, char *ret_error)
{
    CLEANUP(buf_deinit) struct buf any = { 0 };
    char error[REGEX_ERROR_BYTES];
    int r = 0;

    screen->redact = calloc(options->n_redact + 1, sizeof(*screen->redact));
    if (!screen->redact)
        return fault(-ENOMEM, "no memory to screen logs");
    for (size_t i = 0; i < options->n_redact; i++) {
        size_t ready = 0;

        while (ready < N_READY && strcmp(ready_made[ready].name, options->redact[i]) != 0)
            ready++;
        r = ready < N_READY
                ? make_ready(&screen->redact[i], ready, &any)
                : make(&screen->redact[i].regex, "logs.redact", options->redact[i], ret_error);
        if (r)
            return r == SCREEN_BAD ? r : pass(r);
        screen->n_redact = i + 1;
    }
    if (any.len > 0)
        r = regex_new_bytes(&screen->any, buf_span(&any), error);
    /* Each name twenty times: too many steps for one, and each is asked itself. */
    return r < 0 ? pass(r) : 0;
}

int screen_new(struct screen **ret, const struct screen_options *options, char ret_error[320])
{
    CLEANUP(screen_freep) struct screen *screen = calloc(1, sizeof(*screen));
    int r;

    if (!screen)
        return fault(-ENOMEM, "no memory to screen logs");
    r = make_list(&screen->include, &screen->n_include, "logs.include", options->include,
                  options->n_include, ret_error);
    if (r == 0)
        r = make_list(&screen->exclude, &screen->n_exclude, "logs.exclude", options->exclude,
                      options->n_exclude, ret_error);
    if (r == 0)
        r = make_redactions(screen, options, ret_error);
    if (r)
        return r < 0 ? pass(r) : SCREEN_BAD;
    *ret = take(screen);
    return 0;
}

struct screen *screen_free(struct screen *screen)
{
    if (!screen)
        return NULL;
    for (size_t i = 0; i < screen->n_include; i++)
        regex_free(screen->include[i]);
    for (size_t i = 0; i < screen->n_exclude; i++)
        regex_free(screen->exclude[i]);
    for (size_t i = 0; i < screen->n_redact; i++)
        regex_free(screen->redact[i].regex);
    regex_free(screen->any);
    free(screen->include);
    free(screen->exclude);
    free(screen->redact);
    free(screen);
    return NULL;
}

static bool matches_any(struct regex *const *list, size_t n, struct span body)
{
    for (size_t i = 0; i < n; i++)
        if (regex_matches(list[i], body))
            return true;
    return false;
}

bool screen_want(const struct screen *screen, struct span body)
{
    if (screen->n_include > 0 && !matches_any(screen->include, screen->n_include, body))
        return false;
    return !matches_any(screen->exclude, screen->n_exclude, body);
}

/* ISO/IEC 7812-1, annex B: doubled from the right, each second digit. */
static bool is_card(struct span text)
{
    unsigned sum = 0, n = 0;

    for (size_t i = text.len; i-- > 0;) {
        unsigned digit = (unsigned) (text.data[i] - '0');

        if (digit > 9)
            continue;
        if (n++ % 2 == 1)
            digit = digit > 4 ? 2 * digit - 9 : 2 * digit;
        sum += digit;
    }
    return n >= 13 && n <= 19 && sum % 10 == 0;
}

/* "basic authentication" is none: there is a digit, or what words have not. */
static bool is_token(struct span text)
{
    bool has_small = false, has_great = false;

    for (size_t i = 0; i < text.len; i++) {
        const uint8_t byte = text.data[i];

        if ((byte >= '0' && byte <= '9') || strchr("+/=~", byte) ||
            (byte == '.' && i > 0 && i + 1 < text.len))
            return true;
        has_small = has_small || (byte >= 'a' && byte <= 'z');
        has_great = has_great || (i > 0 && byte >= 'A' && byte <= 'Z');
    }
    return text.len >= 16 && has_small && has_great;
}

/* What one pattern leaves of the text; 0: all of it, and nothing was appended. */
static size_t redact_one(const struct redaction *redaction, struct span text, struct buf *to)
{
    size_t n = 0, done = 0, from = 0, begin, end;

    while (regex_find(redaction->regex, text, from, &begin, &end)) {
        from = end > from ? end : from + 1;
        if (begin == end ||
            (redaction->check && !redaction->check(span_of(text.data + begin, end - begin))))
            continue;
        if (n == MAX_FINDS)
            end = from = text.len;
        buf_append(to, text.data + done, begin - done);
        buf_append_text(to, MARK);
        done = end;
        n++;
        if (done == text.len)
            break;
    }
    if (n > 0)
        buf_append(to, text.data + done, text.len - done);
    return n;
}

size_t screen_redact(const struct screen *screen, struct span body, struct buf *to)
{
    CLEANUP(buf_deinit) struct buf now = { 0 }, next = { 0 };
    const bool has_ready = !screen->any || regex_matches(screen->any, body);
    size_t n = 0;

    for (size_t i = 0; i < screen->n_redact; i++) {
        /* Most lines have nothing: asked without places first, which is quicker. */
        const struct span text = n > 0 ? buf_span(&now) : body;
        size_t found;

        if ((screen->redact[i].is_ready && !has_ready) ||
            !regex_matches(screen->redact[i].regex, text))
            continue;
        buf_clear(&next);
        found = redact_one(&screen->redact[i], text, &next);
        if (found == 0)
            continue;
        struct buf swap = now;
        now = next;
        next = swap;
        n += found;
    }
    if (n > 0)
        buf_append_span(to, buf_span(&now));
    return n;
}
