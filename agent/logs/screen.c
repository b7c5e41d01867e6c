/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/logs/screen.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/fault.h"
#include "common/regex/regex.h"

#define MARK "[REDACTED]"
#define MAX_FINDS 64 /* in one record; behind them all of the rest goes */

static const struct {
    const char *name, *pattern;
} ready_made[] = {
    /* key=value, "key": "value", --key value; the value ends where its quotes or a space do */
    { "password", "(?i)(?:pass(?:word|wd|phrase)?|pwd|secret|token|api[_-]?key|access[_-]?key)"
                  "[\"']?\\s*[=:]\\s*[\"']?([^\\s\"',;&]+)" },
    { "authorization", "(?i)\\b(?:bearer|basic)\\s+([A-Za-z0-9+/_.~=-]{8,})" },
    { "private_key", "-----BEGIN [A-Z ]*PRIVATE KEY-----(?s:.*?)(?:-----END|$)" },
    { "aws_key", "\\b(?:AKIA|ASIA)[A-Z0-9]{16}\\b" },
    { "jwt", "\\beyJ[A-Za-z0-9_-]{8,}\\.[A-Za-z0-9_-]{8,}\\.[A-Za-z0-9_-]{8,}" },
    { "url_credentials", "://[^\\s/:@]+:([^\\s/@]+)@" },
    { "credit_card", "\\b[0-9](?:[ -]?[0-9]){12,18}\\b" },
    { "email", "\\b[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\\.[A-Za-z]{2,}\\b" },
};
#define N_READY (sizeof(ready_made) / sizeof(ready_made[0]))
static const char card[] = "credit_card";

struct redaction {
    struct regex *regex;
    bool is_card;
};

struct screen {
    struct regex **include, **exclude;
    size_t n_include, n_exclude;
    struct redaction *redact;
    size_t n_redact;
};

const char *const *screen_known(void)
{
    static const char *names[N_READY + 1];

    for (size_t i = 0; i < N_READY; i++)
        names[i] = ready_made[i].name;
    return names;
}

static const char *pattern_of(const char *text)
{
    for (size_t i = 0; i < N_READY; i++)
        if (strcmp(ready_made[i].name, text) == 0)
            return ready_made[i].pattern;
    return text;
}

static int make(struct regex **ret, const char *row, const char *text, char ret_error[320])
{
    char error[REGEX_ERROR_BYTES];
    int r = regex_new(ret, span_of_text(pattern_of(text)), error);

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

static int
make_redactions(struct screen *screen, const struct screen_options *options, char *ret_error)
{
    screen->redact = calloc(options->n_redact + 1, sizeof(*screen->redact));
    if (!screen->redact)
        return fault(-ENOMEM, "no memory to screen logs");
    for (size_t i = 0; i < options->n_redact; i++) {
        int r = make(&screen->redact[i].regex, "logs.redact", options->redact[i], ret_error);

        if (r)
            return r == SCREEN_BAD ? r : pass(r);
        screen->redact[i].is_card = strcmp(options->redact[i], card) == 0;
        screen->n_redact = i + 1;
    }
    return 0;
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
static bool has_check_digit(struct span text)
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

/* What one pattern leaves of the text; 0: all of it, and nothing was appended. */
static size_t redact_one(const struct redaction *redaction, struct span text, struct buf *to)
{
    size_t n = 0, done = 0, from = 0, begin, end;

    while (regex_find(redaction->regex, text, from, &begin, &end)) {
        from = end > from ? end : from + 1;
        if (begin == end ||
            (redaction->is_card && !has_check_digit(span_of(text.data + begin, end - begin))))
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
    size_t n = 0;

    for (size_t i = 0; i < screen->n_redact; i++) {
        /* Most lines have nothing: asked without places first, which is quicker. */
        const struct span text = n > 0 ? buf_span(&now) : body;
        size_t found;

        if (!regex_matches(screen->redact[i].regex, text))
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
