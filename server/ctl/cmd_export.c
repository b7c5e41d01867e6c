/* SPDX-License-Identifier: Apache-2.0 */
/* sentinelctl operators export: an identity as a PKCS#12 file, for browsers. Asks no hub. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/crypto/crypto.h"
#include "common/tls/tls.h"
#include "server/ctl/ctl.h"

#define PASSWORD_BYTES 256
#define MIN_PASSWORD 8 /* the file is carried around, and whoever has it may try for years */

/* One line from the terminal, not shown. */
static int ask(int fd, const char *prompt, char to[static PASSWORD_BYTES])
{
    struct termios shown, hidden;
    ssize_t n;

    if (tcgetattr(fd, &shown) < 0)
        return ctl_say(CTL_FAILED, "the terminal cannot be used: %s", strerror(errno));
    hidden = shown;
    hidden.c_lflag &= ~(tcflag_t) ECHO;
    tcsetattr(fd, TCSAFLUSH, &hidden);
    (void) !write(fd, prompt, strlen(prompt));
    do {
        n = read(fd, to, PASSWORD_BYTES - 1);
    } while (n < 0 && errno == EINTR);
    tcsetattr(fd, TCSAFLUSH, &shown);
    (void) !write(fd, "\n", 1);
    if (n <= 0)
        return ctl_say(CTL_USAGE, "there was no password");
    to[n] = 0;
    to[strcspn(to, "\r\n")] = 0;
    return CTL_OK;
}

static int ask_twice(char to[static PASSWORD_BYTES])
{
    CLEANUP(fd_closep) int fd = open("/dev/tty", O_RDWR | O_CLOEXEC);
    char again[PASSWORD_BYTES] = "";

    if (fd < 0)
        return ctl_say(CTL_USAGE, "there is no terminal to ask for a password: give it in a file "
                                  "with --password-file; on the command line others would see it");
    int r = ask(fd, "Password of the file: ", to);
    if (r == CTL_OK)
        r = ask(fd, "Again: ", again);
    if (r == CTL_OK && strcmp(to, again) != 0)
        r = ctl_say(CTL_USAGE, "the two are not the same");
    crypto_wipe(again, sizeof(again));
    return r;
}

/* The first line of a file that is closed to others. */
static int read_password(const char *path, char to[static PASSWORD_BYTES])
{
    struct buf text = { 0 };
    struct tls_why why = { "" };
    int code = CTL_OK;

    int r = tls_secret_load(path, &text, &why);
    if (r != 0)
        code = ctl_say(r == TLS_ABSENT ? CTL_NOT_FOUND : CTL_FAILED, "--password-file: %s",
                       r > 0 ? why.text : "it cannot be read");
    const size_t len = r == 0 ? strcspn(buf_text(&text), "\r\n") : 0;
    if (code == CTL_OK && len >= PASSWORD_BYTES)
        code = ctl_say(CTL_USAGE, "--password-file: a password has at most %d bytes",
                       PASSWORD_BYTES - 1);
    if (code == CTL_OK) {
        memcpy(to, buf_text(&text), len);
        to[len] = 0;
    }
    if (text.data)
        crypto_wipe(text.data, text.capacity);
    buf_deinit(&text);
    return code;
}

/* The name that the browser shows: the certificate's. */
static int print(const struct tls_identity *identity, const char *password, struct buf *to)
{
    CLEANUP(tls_cert_freep) struct tls_cert *cert = NULL;
    struct tls_facts facts;

    int r = tls_cert_parse_pem(&cert, buf_span(&identity->chain_pem));
    if (r == 0)
        r = tls_cert_read(cert, &facts);
    if (r == 0)
        r = tls_pkcs12_print(identity, facts.common_name, password, to);
    if (r == 0)
        return CTL_OK;
    return ctl_say(CTL_FAILED, "%s",
                   r > 0 ? "the identity cannot be put into a PKCS#12 file, or the password is no "
                           "UTF-8"
                         : "the PKCS#12 file cannot be made");
}

static int put_file(struct ctl *ctl, struct span content)
{
    if (access(ctl->out, F_OK) == 0 && !ctl->is_forced)
        return ctl_say(CTL_FAILED, "%s is there already; --force writes over it", ctl->out);
    int r = file_replace(ctl->out, content, 0600);
    if (r == 0) {
        printf("%s\n", ctl->out);
        return CTL_OK;
    }
    return ctl_say(r == FILE_DENIED ? CTL_DENIED : CTL_FAILED, "%s: %s", ctl->out,
                   r == FILE_DENIED   ? "may not be written"
                   : r == FILE_ABSENT ? "there is no such directory"
                                      : "cannot be written");
}

int cmd_operators_export(struct ctl *ctl)
{
    const char *directory = ctl->n_words ? ctl->words[0] : ctl_identity_directory(ctl);
    CLEANUP(tls_identity_deinit) struct tls_identity identity = { 0 };
    char password[PASSWORD_BYTES] = "";
    struct buf file = { 0 };
    struct tls_why why = { "" };

    if (!directory)
        return ctl_say(CTL_FAILED, "no memory");
    if (!ctl->out)
        return ctl_say(CTL_USAGE, "--out FILE.p12 is missing: where it goes");
    int r = tls_identity_load(directory, &identity, &why);
    if (r != 0)
        return ctl_say(r == TLS_ABSENT ? CTL_NOT_FOUND : CTL_FAILED, "%s: %s", directory,
                       r > 0 ? why.text : "it cannot be read");
    int code =
        ctl->password_file ? read_password(ctl->password_file, password) : ask_twice(password);
    if (code == CTL_OK && strlen(password) < MIN_PASSWORD)
        code = ctl_say(CTL_USAGE,
                       "the password is shorter than %d bytes: whoever finds the file "
                       "could guess it",
                       MIN_PASSWORD);
    if (code == CTL_OK)
        code = print(&identity, password, &file);
    crypto_wipe(password, sizeof(password));
    if (code == CTL_OK)
        code = put_file(ctl, buf_span(&file));
    buf_deinit(&file);
    return code;
}
