/* SPDX-License-Identifier: Apache-2.0 */

/* Certificates in PEM files: what expires when. */

#include <glob.h>
#include <string.h>

#include "agent/inventory/table.h"
#include "common/base/text.h"
#include "common/tls/tls.h"

#define MAX_CERTIFICATES 512 /* of a file: a bundle of roots has some 150 */
#define PATH_BYTES 4096

static void put_time(struct table *t, wall_us time)
{
    char text[TEXT_TIME_BYTES];

    table_put(t, text_of_time(time, text));
}

static void put_certificate(struct table *t, const struct tls_cert *cert, const char *path)
{
    struct tls_facts facts;
    char hex[2 * sizeof(facts.sha256) + 1];

    if (tls_cert_read(cert, &facts) != 0)
        return;
    table_put(t, facts.common_name);
    table_put(t, facts.organisation);
    table_put(t, facts.issuer);
    table_put_u64(t, facts.is_ca);
    table_put_u64(t, strcmp(facts.common_name, facts.issuer) == 0);
    put_time(t, facts.not_before);
    put_time(t, facts.not_after);
    table_put(t, facts.serial);
    table_put(t, text_of_hex(facts.sha256, sizeof(facts.sha256), hex));
    table_put(t, path);
    table_end_row(t);
}

static void certificates_of_file(struct table *t, const char *path, const char *shown)
{
    struct tls_cert *certs[MAX_CERTIFICATES];
    size_t n = 0;

    if (!table_read_if(t, path) ||
        tls_chain_split(buf_span(&t->text), certs, MAX_CERTIFICATES, &n) != 0)
        return;
    for (size_t i = 0; i < n; i++) {
        put_certificate(t, certs[i], shown);
        tls_cert_free(certs[i]);
    }
}

void table_certificates(struct table *t)
{
    const struct inventory_options *options = t->options;
    const size_t root_len =
        strlen(options->root) - (options->root[strlen(options->root) - 1] == '/');
    char pattern[PATH_BYTES];
    glob_t found;

    for (size_t i = 0; i < options->n_certificates; i++) {
        if (snprintf(pattern, sizeof(pattern), "%.*s%s", (int) root_len, options->root,
                     options->certificates[i]) >= (int) sizeof(pattern) ||
            glob(pattern, 0, NULL, &found) != 0)
            continue;
        for (size_t k = 0; k < found.gl_pathc; k++) {
            const char *shown = found.gl_pathv[k] + root_len;

            certificates_of_file(t, shown + strspn(shown, "/"), shown);
        }
        globfree(&found);
    }
}
