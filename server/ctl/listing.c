/* SPDX-License-Identifier: Apache-2.0 */
#include "server/ctl/listing.h"

void listing_begin(struct listing *listing,
                   struct ctl *ctl,
                   const char *key,
                   const char *const *headers)
{
    *listing = (struct listing){ .ctl = ctl };
    table_begin(&listing->table, headers);
    json_begin(&listing->json, &listing->out, true);
    json_open_object(&listing->json);
    json_key(&listing->json, key);
    json_open_array(&listing->json);
}

int listing_end(struct listing *listing, int r, const char *nothing)
{
    struct table *table = &listing->table;
    const bool is_table = r == CTL_OK && !listing->ctl->is_json;

    json_close_array(&listing->json);
    json_close_object(&listing->json);
    if (r == CTL_OK && listing->ctl->is_json)
        printf("%s\n", buf_text(&listing->out));
    if (is_table && table->n_cells == table->n_columns)
        ctl_say(CTL_OK, "%s", nothing);
    else if (is_table)
        table_end(table, stdout);
    buf_deinit(&table->cells);
    buf_deinit(&listing->out);
    return r;
}
