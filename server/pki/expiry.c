/* SPDX-License-Identifier: Apache-2.0 */

/* Whose certificate is near its end, and nothing has renewed it. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/fault.h"
#include "server/pki/inside.h"

/* The one of a name that lasts longest; NULL: none counts. */
static const struct pki_entry *longest(const struct pki_name *name)
{
    const struct pki_entry *found = NULL;

    for (const struct pki_entry *entry = name->first; entry; entry = entry->next) {
        const enum pki_state state = entry->identity.state;

        if ((state == PKI_ACTIVE || state == PKI_UNCONFIRMED) &&
            (!found || entry->identity.not_after.us > found->identity.not_after.us))
            found = entry;
    }
    return found;
}

static int by_end(const void *a, const void *b)
{
    const struct pki_expiring *x = a, *y = b;

    if (x->not_after.us != y->not_after.us)
        return x->not_after.us < y->not_after.us ? -1 : 1;
    return strcmp(x->name, y->name);
}

/* In no order; false: no memory. */
static bool collect(struct pki *pki, wall_us now, struct pki_expiring **rows, size_t *ret_n)
{
    const struct pki_name *name;
    size_t capacity = 0, n = 0;
    bool is_good = true;

    pthread_rwlock_rdlock(&pki->lock);
    for (size_t at = 0; is_good && (name = map_next(&pki->view->by_name, &at)) != NULL;) {
        const struct pki_entry *entry = longest(name);

        if (!entry || entry->identity.kind == PKI_HUB || entry->identity.not_after.us <= now.us ||
            !pki_is_near_its_end(entry->identity.not_before, entry->identity.not_after, now))
            continue;
        if (n == capacity) {
            struct pki_expiring *grown =
                reallocarray(*rows, capacity ? 2 * capacity : 64, sizeof(*grown));

            is_good = grown != NULL;
            if (!is_good)
                break;
            *rows = grown;
            capacity = capacity ? 2 * capacity : 64;
        }
        (*rows)[n] = (struct pki_expiring){ .kind = entry->identity.kind,
                                            .not_after = entry->identity.not_after };
        memcpy((*rows)[n++].name, entry->identity.name, sizeof((*rows)[0].name));
    }
    pthread_rwlock_unlock(&pki->lock);
    *ret_n = n;
    return is_good;
}

int pki_list_expiring(struct pki *pki,
                      wall_us now,
                      struct pki_expiring *ret,
                      size_t max,
                      size_t *ret_n,
                      size_t *ret_n_all)
{
    struct pki_expiring *rows = NULL;
    size_t n = 0;

    if (!collect(pki, now, &rows, &n)) {
        free(rows);
        return fault(-ENOMEM, "no memory for the certificates that end soon");
    }
    if (n > 1)
        qsort(rows, n, sizeof(*rows), by_end);
    *ret_n_all = n;
    *ret_n = n < max ? n : max;
    for (size_t i = 0; i < *ret_n; i++)
        ret[i] = rows[i];
    free(rows);
    return 0;
}
