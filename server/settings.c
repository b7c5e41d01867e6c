/* SPDX-License-Identifier: Apache-2.0 */
#include "server/settings.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/fault.h"
#include "common/base/text.h"
#include "common/crypto/crypto.h"
#include "common/http/http.h"
#include "common/peer/peer.h"

const char *const settings_security_names[] = { "development", "production", "insecure", NULL };
const char *const settings_log_level_names[] = { "debug", "info", "warn", "error", NULL };
const char *const settings_log_format_names[] = { "logfmt", "json", NULL };
const char *const settings_tls_version_names[] = { "1.2", "1.3", NULL };

static const struct conf_row rows[] = {
#define S(row_name, row_type, field, row_fallback, row_min, row_max, row_choices, reloadable, \
          text)                                                                               \
    { .name = (row_name),                                                                     \
      .type = CONF_##row_type,                                                                \
      .offset = offsetof(struct settings, field),                                             \
      .fallback = (row_fallback),                                                             \
      .min = (row_min),                                                                       \
      .max = (row_max),                                                                       \
      .choices = (row_choices),                                                               \
      .is_reloadable = (reloadable),                                                          \
      .help = (text) },
#include "server/settings.tbl"
#undef S
    { .name = NULL },
};

const struct conf_table settings_table = {
    .rows = rows,
    .struct_bytes = sizeof(struct settings),
    .env_prefix = "SENTINEL_HUB",
};

static int refuse(struct conf_error *error, const char *fmt, ...) PRINTF_LIKE(2, 3);
static int refuse(struct conf_error *error, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vsnprintf(error->text, sizeof(error->text), fmt, args);
    va_end(args);
    return CONF_BAD;
}

int settings_split_address(const char *address,
                           char *ret_host,
                           size_t host_size,
                           uint16_t *ret_port)
{
    const char *colon = strrchr(address, ':');
    const char *host = address;
    uint64_t port;

    if (!colon || text_to_u64(colon + 1, &port) != 0 || port > UINT16_MAX)
        return CONF_BAD;
    size_t len = (size_t) (colon - address);
    if (len >= 2 && host[0] == '[' && host[len - 1] == ']') {
        host++;
        len -= 2;
    } else if (memchr(host, ':', len)) {
        return CONF_BAD; /* an IPv6 address without brackets: where does the port begin? */
    }
    if (len < 1 || len >= host_size)
        return CONF_BAD;
    memcpy(ret_host, host, len);
    ret_host[len] = 0;
    *ret_port = (uint16_t) port;
    return 0;
}

static bool is_loopback(const char *host)
{
    struct in_addr v4;
    struct in6_addr v6;

    if (strcmp(host, "localhost") == 0)
        return true;
    if (inet_pton(AF_INET, host, &v4) == 1)
        return ntohl(v4.s_addr) >> 24 == 127;
    return inet_pton(AF_INET6, host, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

static int check_address(const char *name, const char *address, struct conf_error *error)
{
    char host[256];
    uint16_t port;

    if (settings_split_address(address, host, sizeof(host), &port) == 0)
        return 0;
    return refuse(error,
                  "%s: `%.100s` is not ADDRESS:PORT; write for example 0.0.0.0:8082 or [::]:8082",
                  name, address);
}

bool settings_serves_https(const struct settings *settings)
{
    return strcmp(settings->listen_https, "off") != 0;
}

static int check_loopback(const char *name, const char *address, struct conf_error *error)
{
    char host[256];
    uint16_t port;

    int r = settings_split_address(address, host, sizeof(host), &port);
    if (r == 0 && !is_loopback(host))
        return refuse(error,
                      "security: `insecure` means plaintext and is only served on a loopback "
                      "address, not on %.100s; add --listen-%s 127.0.0.1:%u",
                      host, name, (unsigned) port);
    return r;
}

/* Only what is for anyone by its nature (health, enrolment, the CRL) is answered to anyone. */
static int check_production(const struct settings *settings, struct conf_error *error)
{
    if (settings->metrics_public)
        return refuse(error, "metrics.public contradicts `security: production`, in which a page "
                             "of figures needs a client certificate or a bearer token (role "
                             "viewer); leave one of them out");
    if (settings->reflection_for_all)
        return refuse(error, "reflection.for_all contradicts `security: production`, in which "
                             "reflection needs a known identity; leave one of them out");
    return 0;
}

static int check_security(struct settings *settings, bool is_flag_given, struct conf_error *error)
{
    if (is_flag_given && settings->security == SETTINGS_PRODUCTION)
        return refuse(error,
                      "--insecure contradicts `security: production`; leave one of them out");
    if (is_flag_given)
        settings->security = SETTINGS_INSECURE;
    if (settings->security == SETTINGS_PRODUCTION) {
        settings->tls_min_version = SETTINGS_TLS_1_3;
        return check_production(settings, error);
    }
    if (settings->security != SETTINGS_INSECURE)
        return 0;
    if (!is_flag_given)
        return refuse(error,
                      "security: `insecure` means plaintext and is only taken together with "
                      "the flag --insecure; use `development` for TLS with the hub's own CA");
    int r = check_loopback("grpc", settings->listen_grpc, error);
    if (r == 0 && settings_serves_https(settings))
        r = check_loopback("https", settings->listen_https, error);
    return r;
}

static bool is_label_name(const char *name, size_t len)
{
    static const char rest[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789";
    size_t n = strspn(name, rest);

    return len > 0 && n == len && !(name[0] >= '0' && name[0] <= '9') &&
           strncmp(name, "__", 2) != 0;
}

static int check_labels(const struct conf_list *labels, struct conf_error *error)
{
    for (size_t i = 0; i < labels->n_items; i++) {
        const char *item = labels->items[i];
        size_t len = strcspn(item, "=");

        if (item[len] != '=' || !item[len + 1] || !is_label_name(item, len))
            return refuse(error,
                          "remote_write.labels: `%.100s` is not NAME=VALUE with a name of letters, "
                          "digits and _ that does not begin with __; write for example hub=eu-1",
                          item);
        if (len == 5 && strncmp(item, "agent", 5) == 0)
            return refuse(error, "remote_write.labels: `agent` is the name of the agent, from its "
                                 "certificate; choose another name");
        if (!text_is_utf8(item, strlen(item)))
            return refuse(error, "remote_write.labels: a value is not UTF-8");
        for (size_t j = 0; j < i; j++) {
            if (strncmp(labels->items[j], item, len + 1) == 0)
                return refuse(error, "remote_write.labels: `%.*s` is there twice; leave one out",
                              (int) (len < 100 ? len : 100), item);
        }
    }
    return 0;
}

static int check_remote_write(const struct settings *settings, struct conf_error *error)
{
    struct http_url url;
    int r = check_labels(&settings->remote_write_labels, error);

    if (r != 0 || !settings->remote_write_url[0])
        return r;
    r = http_url_parse(settings->remote_write_url, &url);
    /* It is not repeated: what does not parse may hold a password. */
    if (r != 0)
        return refuse(error,
                      "remote_write.url: it is not https://HOST[:PORT]/PATH (or http://) without "
                      "user and password; write for example "
                      "https://prometheus.example.org:9090/api/v1/write");
    if (!url.is_tls && (settings->remote_write_identity[0] || settings->remote_write_ca[0]))
        return refuse(error, "remote_write.identity and remote_write.ca are for https://, and "
                             "remote_write.url is http://; change the one or leave out the others");
    if (!url.is_tls && settings->remote_write_token_file[0] && !is_loopback(url.host))
        return refuse(error,
                      "remote_write.bearer_token_file: with http:// everybody on the way to "
                      "%.100s reads the token; use https://",
                      url.host);
    return 0;
}

static bool is_network(const char *text)
{
    char address[64];
    uint8_t bytes[16];
    uint64_t bits = 0;
    size_t len = strcspn(text, "/");

    if (len >= sizeof(address) || (text[len] && text_to_u64(text + len + 1, &bits) != 0))
        return false;
    memcpy(address, text, len);
    address[len] = 0;
    return (inet_pton(AF_INET, address, bytes) == 1 && bits <= 32) ||
           (inet_pton(AF_INET6, address, bytes) == 1 && bits <= 128);
}

static int check_audit(const struct settings *settings, struct conf_error *error)
{
    for (size_t i = 0; i < settings->limits_exempt.n_items; i++) {
        if (!is_network(settings->limits_exempt.items[i]))
            return refuse(error,
                          "limits.exempt: `%.100s` is not ADDRESS or ADDRESS/BITS; write for "
                          "example 10.0.0.0/8 or 2001:db8::/32",
                          settings->limits_exempt.items[i]);
    }
    if (settings->audit_cold < settings->audit_hot)
        return refuse(error, "audit.cold: it is shorter than audit.hot, which it contains; give "
                             "both, or a longer one");
    return 0;
}

static int check_proxies(const struct conf_list *proxies, struct conf_error *error)
{
    struct peer_net net;

    for (size_t i = 0; i < proxies->n_items; i++)
        if (peer_net_parse(proxies->items[i], &net) != 0)
            return refuse(error,
                          "listen.trusted_proxies: `%.100s` is no address and no range; write for "
                          "example 10.0.0.0/8, fd00::/8",
                          proxies->items[i]);
    return 0;
}

static int check(struct settings *settings, bool is_flag_given, struct conf_error *error)
{
    int r = check_address("listen.grpc", settings->listen_grpc, error);

    if (r == 0 && settings_serves_https(settings))
        r = check_address("listen.https", settings->listen_https, error);
    if (r == 0 && settings->public_address[0])
        r = check_address("public_address", settings->public_address, error);
    if (r == 0)
        r = check_security(settings, is_flag_given, error);
    if (r == 0)
        r = check_proxies(&settings->listen_trusted_proxies, error);
    if (r == 0)
        r = check_remote_write(settings, error);
    if (r == 0)
        r = check_audit(settings, error);
    if (r != 0)
        return r;
    if (!settings->tls_certificate[0] != !settings->tls_key[0])
        return refuse(error, "tls.certificate and tls.key belong together; give both or neither");
    return 0;
}

int settings_load(struct settings *ret,
                  const struct settings_sources *sources,
                  struct conf_error *ret_error)
{
    const struct conf_sources conf = {
        .file = sources->file ? sources->file : SETTINGS_DEFAULT_FILE,
        .file_is_wanted = sources->file != NULL,
        .use_environment = true,
        .flags = sources->flags,
        .n_flags = sources->n_flags,
    };
    struct settings settings;

    int r = conf_load(&settings_table, &conf, &settings, ret_error);
    if (r != 0)
        return pass(r);
    r = check(&settings, sources->is_insecure, ret_error);
    if (r != 0) {
        settings_free(&settings);
        return pass(r);
    }
    *ret = settings;
    return 0;
}

void settings_free(struct settings *settings)
{
    conf_free(&settings_table, settings);
    memset(settings, 0, sizeof(*settings));
}

const char *settings_state_directory(const char *given)
{
    static char first[4096];

    if (given && given[0])
        return given;
    const char *listed = getenv("STATE_DIRECTORY");
    if (!listed || !listed[0])
        return SETTINGS_DEFAULT_STATE_DIRECTORY;
    /* systemd.exec(5): several are joined by colons. */
    size_t len = strcspn(listed, ":");
    if (len == 0 || len >= sizeof(first))
        return SETTINGS_DEFAULT_STATE_DIRECTORY;
    memcpy(first, listed, len);
    first[len] = 0;
    return first;
}

int settings_digest(const struct settings *settings, char ret[static 65])
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    uint8_t digest[CRYPTO_SHA256_BYTES];

    conf_print(&settings_table, settings, &text);
    if (buf_failed(&text))
        return fault(-ENOMEM, "no memory for the settings' text");
    crypto_sha256(buf_span(&text), digest);
    text_of_hex(digest, sizeof(digest), ret);
    return 0;
}
