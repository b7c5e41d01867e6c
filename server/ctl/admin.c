/* SPDX-License-Identifier: Apache-2.0 */
#include "server/ctl/admin.h"

#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "common/base/ensure.h"
#include "common/base/text.h"
#include "common/tls/tls.h"

/* ---- objects ---- */

void object_begin(struct object *object)
{
    *object = (struct object){ .out = { 0 } };
    json_begin(&object->json, &object->out, true);
    json_open_object(&object->json);
}

void object_end(struct object *object)
{
    json_close_object(&object->json);
    printf("%s\n", buf_text(&object->out));
    buf_deinit(&object->out);
}

/* ---- questions ---- */

int admin_confirm(struct ctl *ctl, bool needs_word, const char *fmt, ...)
{
    CLEANUP(buf_deinit) struct buf text = { 0 }, shown = { 0 };
    char answer[16];
    va_list args;

    if (ctl->is_sure)
        return CTL_OK;
    if (!isatty(STDIN_FILENO) || !isatty(STDERR_FILENO))
        return needs_word ? ctl_say(CTL_USAGE, "this cannot be undone: --yes says that it is meant")
                          : CTL_OK;
    va_start(args, fmt);
    buf_vprintf(&text, fmt, args);
    va_end(args);
    text_append_printable(&shown, buf_span(&text));
    fprintf(stderr, "%s [y/N] ", buf_text(&shown));
    if (fgets(answer, sizeof(answer), stdin) && (answer[0] == 'y' || answer[0] == 'Y'))
        return CTL_OK;
    return ctl_say(CTL_FAILED, "nothing was done");
}

/* ---- words and numbers ---- */

char *admin_copy(struct ctl *ctl, const char *text)
{
    char *copy = arena_copy_text(&ctl->arena, text ? text : "");

    ensure(copy != NULL); /* the arena has a gigabyte, a command line has less */
    return copy;
}

int admin_duration(struct ctl *ctl,
                   const char *flag,
                   const char *text,
                   Google__Protobuf__Duration **ret)
{
    Google__Protobuf__Duration *to;
    int64_t us;

    if (!text)
        return CTL_OK;
    if (text_to_duration_us(text, &us) || us <= 0)
        return ctl_say(CTL_USAGE, "%s: `%s` is not a duration such as 30m, 12h or 7d", flag, text);
    to = arena_alloc(&ctl->arena, sizeof(*to));
    if (!to)
        return ctl_say(CTL_FAILED, "out of memory");
    google__protobuf__duration__init(to);
    to->seconds = us / 1000000;
    to->nanos = (int32_t) (us % 1000000 * 1000);
    *ret = to;
    return CTL_OK;
}

int admin_number(const char *flag, const char *text, uint64_t max, uint64_t *ret)
{
    uint64_t value;

    if (text_to_u64(text, &value) || value > max)
        return ctl_say(CTL_USAGE, "%s: `%s` is not a number up to %llu", flag, text,
                       (unsigned long long) max);
    *ret = value;
    return CTL_OK;
}

/* What all names of the enum begin with: that of its zero without UNSPECIFIED. */
static size_t prefix_of(const ProtobufCEnumDescriptor *type)
{
    const ProtobufCEnumValue *zero = protobuf_c_enum_descriptor_get_value(type, 0);

    ensure(zero != NULL);
    return strlen(zero->name) - strlen("UNSPECIFIED");
}

static char *lower(struct ctl *ctl, const char *name)
{
    char *word = admin_copy(ctl, name);

    for (char *c = word; *c; c++) {
        if (*c == '_')
            *c = '-';
        else if (*c >= 'A' && *c <= 'Z')
            *c |= 0x20;
    }
    return word;
}

const char *admin_word(struct ctl *ctl, const ProtobufCEnumDescriptor *type, int value)
{
    const ProtobufCEnumValue *found = protobuf_c_enum_descriptor_get_value(type, value);

    if (!found || value == 0)
        return "-";
    return lower(ctl, found->name + prefix_of(type));
}

int admin_value(struct ctl *ctl,
                const char *flag,
                const ProtobufCEnumDescriptor *type,
                const char *word,
                int *ret)
{
    const char *names[32] = { NULL };
    const char *nearest;
    size_t n = 0;

    if (!word)
        return CTL_OK;
    for (unsigned i = 0; i < type->n_values && n + 1 < 32; i++) {
        if (type->values[i].value == 0)
            continue;
        names[n] = lower(ctl, type->values[i].name + prefix_of(type));
        if (strcmp(names[n++], word) == 0) {
            *ret = type->values[i].value;
            return CTL_OK;
        }
    }
    nearest = text_nearest(word, names);
    return ctl_say(CTL_USAGE, "%s: no `%s`%s%s%s; there are %s, %s and the like", flag, word,
                   nearest ? "; did you mean `" : "", nearest ? nearest : "", nearest ? "`?" : "",
                   names[0], names[1]);
}

/* ---- keys and certificates ---- */

int admin_make_key(struct ctl *ctl,
                   const char *name,
                   struct tls_key **ret_key,
                   ProtobufCBinaryData *ret_csr)
{
    CLEANUP(tls_key_freep) struct tls_key *key = NULL;
    CLEANUP(buf_deinit) struct buf csr = { 0 };
    int r = tls_key_new(&key);

    if (!r)
        r = tls_csr_print(key, name, &csr);
    if (r)
        return ctl_say(r > 0 ? CTL_USAGE : CTL_FAILED, "no request can be made for `%s`", name);
    ret_csr->data = (uint8_t *) arena_copy(&ctl->arena, buf_span(&csr));
    ret_csr->len = csr.len;
    if (!ret_csr->data)
        return ctl_say(CTL_FAILED, "out of memory");
    *ret_key = take(key);
    return CTL_OK;
}

static int print_all(const ProtobufCBinaryData *ders, size_t n, struct buf *to)
{
    for (size_t i = 0; i < n; i++) {
        CLEANUP(tls_cert_freep) struct tls_cert *cert = NULL;
        int r = tls_cert_parse_der(&cert, span_of(ders[i].data, ders[i].len));

        if (!r)
            r = tls_cert_print(cert, to);
        if (r)
            return ctl_say(CTL_FAILED, "the hub's answer has a certificate that is none");
    }
    return n > 0 ? CTL_OK : ctl_say(CTL_FAILED, "the hub's answer has no certificate in it");
}

int admin_save_identity(const char *directory,
                        const struct tls_key *key,
                        const struct admin_granted *granted)
{
    CLEANUP(tls_identity_deinit) struct tls_identity identity = { 0 };
    CLEANUP(tls_cert_freep) struct tls_cert *leaf = NULL;
    struct tls_why why;
    int r = print_all(granted->chain, granted->n_chain, &identity.chain_pem);

    if (!r)
        r = print_all(granted->roots, granted->n_roots, &identity.roots_pem);
    if (r)
        return r;
    if (tls_cert_parse_pem(&leaf, buf_span(&identity.chain_pem)) ||
        tls_cert_matches_key(leaf, key) || tls_key_print(key, &identity.key_pem))
        return ctl_say(CTL_FAILED, "the hub's certificate is not for the key that was made");
    r = tls_chain_verify(buf_span(&identity.chain_pem), buf_span(&identity.roots_pem), TLS_CLIENT,
                         NULL, clock_wall(), &why);
    if (r)
        return ctl_say(CTL_FAILED, "the hub's certificate is not good: %s", r > 0 ? why.text : "");
    r = tls_identity_save(directory, &identity, &why);
    if (r)
        return ctl_say(CTL_FAILED, "%s: %s", directory, r > 0 ? why.text : "it cannot be written");
    return CTL_OK;
}
