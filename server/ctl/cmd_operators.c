/* SPDX-License-Identifier: Apache-2.0 */
/* sentinelctl operators list, add, role, remove, export. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/crypto/crypto.h"
#include "common/tls/tls.h"
#include "server/ctl/admin.h"

typedef Sentinel__Admin__V1__ChangeOperatorRequest change_request;

static const ProtobufCEnumDescriptor *const roles = &sentinel__admin__v1__identity_role__descriptor;

static void put_operator(struct listing *to, const Sentinel__Admin__V1__Operator *from)
{
    struct ctl *ctl = to->ctl;
    const char *role = admin_word(ctl, roles, (int) from->role);
    const int64_t now_us = clock_wall().us;

    json_open_object(&to->json);
    json_put_text(&to->json, "name", from->name);
    json_put_text(&to->json, "role", role);
    json_put_u64(&to->json, "certificates", from->certificates);
    json_put_i64(&to->json, "added_us", convert_time_us(from->added));
    json_put_i64(&to->json, "expires_us", convert_time_us(from->expires));
    json_close_object(&to->json);
    table_add(&to->table, from->name);
    table_add(&to->table, role);
    table_printf(&to->table, "%u", from->certificates);
    table_add(&to->table, format_ago(ctl, convert_time_us(from->expires), now_us));
    table_add(&to->table, format_ago(ctl, convert_time_us(from->added), now_us));
}

int cmd_operators_list(struct ctl *ctl)
{
    static const char *const headers[] = {
        "NAME", "ROLE", ">CERTIFICATES", "EXPIRES", "ADDED", NULL
    };
    Sentinel__Admin__V1__ListOperatorsRequest request =
        SENTINEL__ADMIN__V1__LIST_OPERATORS_REQUEST__INIT;
    const Sentinel__Admin__V1__ListOperatorsResponse *answer;
    struct listing list;
    ProtobufCMessage *message;
    int r = ctl_call(ctl, ADMIN_PATH("ListOperators"), &request.base, &message);

    if (r)
        return r;
    answer = (const void *) message;
    listing_begin(&list, ctl, "operators", headers);
    for (size_t i = 0; i < answer->n_operators; i++)
        put_operator(&list, answer->operators[i]);
    return listing_end(&list, CTL_OK, "there is no operator");
}

/* An identity that is there is somebody's only key. */
static int check_out(const struct ctl *ctl)
{
    static const char *const names[] = { "client-key.pem", "client-cert.pem" };
    struct stat st;
    char path[4096];

    if (!ctl->out)
        return ctl_say(CTL_USAGE, "--out DIR is missing: where key and certificate go");
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const int len = snprintf(path, sizeof(path), "%s/%s", ctl->out, names[i]);

        if (len < 0 || (size_t) len >= sizeof(path))
            return ctl_say(CTL_USAGE, "--out: the path is too long");
        if (lstat(path, &st) == 0)
            return ctl_say(CTL_USAGE,
                           "%s is there already; give another directory, or move it away", path);
    }
    return CTL_OK;
}

int cmd_operators_add(struct ctl *ctl)
{
    change_request request = SENTINEL__ADMIN__V1__CHANGE_OPERATOR_REQUEST__INIT;
    const Sentinel__Admin__V1__ChangeOperatorResponse *answer;
    CLEANUP(tls_key_freep) struct tls_key *key = NULL;
    ProtobufCMessage *message;
    int role = 0;
    int r = check_out(ctl);

    if (!r)
        r = admin_value(ctl, "--role", roles, ctl->admin.role, &role);
    if (!r)
        r = admin_make_key(ctl, ctl->words[0], &key, &request.csr);
    if (r)
        return r;
    request.name = admin_copy(ctl, ctl->words[0]);
    request.role = (Sentinel__Admin__V1__IdentityRole) role;
    if (ctl->is_dry_run) {
        printf("would make a key and certificate for %s in %s\n", request.name, ctl->out);
        return CTL_OK;
    }
    r = ctl_call(ctl, ADMIN_PATH("ChangeOperator"), &request.base, &message);
    if (r)
        return r;
    answer = (const void *) message;
    r = admin_save_identity(ctl->out, key,
                            &(struct admin_granted){ .chain = answer->chain,
                                                     .n_chain = answer->n_chain,
                                                     .roots = answer->roots,
                                                     .n_roots = answer->n_roots });
    if (r)
        return r;
    if (ctl->is_json) {
        struct object object;

        object_begin(&object);
        json_put_text(&object.json, "name", request.name);
        json_put_text(&object.json, "identity", ctl->out);
        object_end(&object);
        return CTL_OK;
    }
    printf("%s has an identity in %s\n", format_printable(ctl, request.name), ctl->out);
    fprintf(stderr, "Used with: sentinelctl --identity %s status\n", ctl->out);
    return CTL_OK;
}

int cmd_operators_role(struct ctl *ctl)
{
    change_request request = SENTINEL__ADMIN__V1__CHANGE_OPERATOR_REQUEST__INIT;
    ProtobufCMessage *message;
    int role = 0;
    int r = admin_value(ctl, "operators role", roles, ctl->words[1], &role);

    if (r)
        return r;
    request.name = admin_copy(ctl, ctl->words[0]);
    request.role = (Sentinel__Admin__V1__IdentityRole) role;
    if (ctl->is_dry_run) {
        printf("would make %s %s\n", format_printable(ctl, request.name), ctl->words[1]);
        return CTL_OK;
    }
    r = ctl_call(ctl, ADMIN_PATH("ChangeOperator"), &request.base, &message);
    if (!r)
        printf(ctl->is_json ? "{\"changed\": true}\n" : "changed\n");
    return r;
}

int cmd_operators_remove(struct ctl *ctl)
{
    change_request request = SENTINEL__ADMIN__V1__CHANGE_OPERATOR_REQUEST__INIT;
    ProtobufCMessage *message;
    int r;

    request.name = admin_copy(ctl, ctl->words[0]);
    request.remove = true;
    if (ctl->is_dry_run) {
        printf("would remove %s and revoke all certificates\n",
               format_printable(ctl, request.name));
        return CTL_OK;
    }
    r = admin_confirm(ctl, false, "Remove the operator %s and revoke all certificates?",
                      ctl->words[0]);
    if (!r)
        r = ctl_call(ctl, ADMIN_PATH("ChangeOperator"), &request.base, &message);
    if (!r)
        printf(ctl->is_json ? "{\"removed\": true}\n" : "removed\n");
    return r;
}

/* ---- export ---- */

#define PASSWORD_BYTES 256

/* One line of stdin; on a terminal without its echo. */
static int read_password(char to[static PASSWORD_BYTES])
{
    const bool is_terminal = isatty(STDIN_FILENO);
    struct termios before, quiet;
    const char *line;

    if (is_terminal && tcgetattr(STDIN_FILENO, &before) == 0) {
        quiet = before;
        quiet.c_lflag &= ~(tcflag_t) ECHO;
        fprintf(stderr, "Password for the file: ");
        (void) tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
        line = fgets(to, PASSWORD_BYTES, stdin);
        (void) tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
        fprintf(stderr, "\n");
    } else {
        line = fgets(to, PASSWORD_BYTES, stdin);
    }
    if (!line)
        return ctl_say(CTL_USAGE, "the password is missing: it is one line of stdin");
    to[strcspn(to, "\r\n")] = 0;
    return *to ? CTL_OK : ctl_say(CTL_USAGE, "the password is empty");
}

static const char *name_in(struct ctl *ctl, const struct tls_identity *identity)
{
    CLEANUP(tls_cert_freep) struct tls_cert *leaf = NULL;
    struct tls_facts facts;

    if (tls_cert_parse_pem(&leaf, buf_span(&identity->chain_pem)) || tls_cert_read(leaf, &facts))
        return "sentinel";
    return admin_copy(ctl, facts.common_name);
}

int cmd_operators_export(struct ctl *ctl)
{
    CLEANUP(tls_identity_deinit) struct tls_identity identity = { 0 };
    CLEANUP(buf_deinit) struct buf file = { 0 };
    const char *directory = ctl_identity_directory(ctl);
    char password[PASSWORD_BYTES] = "";
    struct tls_why why = { "" };
    struct stat st;
    int r;

    if (!directory)
        return ctl_say(CTL_FAILED, "out of memory");
    if (!ctl->is_forced && lstat(ctl->words[0], &st) == 0)
        return ctl_say(CTL_USAGE, "%s is there already; --force writes over it", ctl->words[0]);
    r = tls_identity_load(directory, &identity, &why);
    if (r)
        return ctl_say(r == TLS_ABSENT ? CTL_NOT_FOUND : CTL_FAILED, "%s: %s", directory,
                       r > 0 ? why.text : "it cannot be read");
    r = read_password(password);
    if (r)
        return r;
    r = tls_pkcs12_print(&identity, name_in(ctl, &identity), password, &file);
    crypto_wipe(password, sizeof(password));
    if (r)
        return ctl_say(CTL_FAILED, "no PKCS#12 can be made of %s", directory);
    r = file_replace(ctl->words[0], buf_span(&file), 0600);
    crypto_wipe(file.data, file.len);
    if (r)
        return ctl_say(CTL_FAILED, "cannot write %s", ctl->words[0]);
    if (ctl->is_json)
        printf("{\"exported\": true}\n");
    else
        printf("%s: import it into the browser with that password\n", ctl->words[0]);
    return CTL_OK;
}
