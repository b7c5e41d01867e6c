/* SPDX-License-Identifier: Apache-2.0 */
#include "common/wire/tables.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/ensure.h"

static int compare_method(const void *key, const void *row)
{
    return strcmp(key, ((const struct wire_method *) row)->path);
}

static int compare_file(const void *key, const void *row)
{
    return strcmp(key, ((const struct wire_file *) row)->name);
}

static int compare_symbol(const void *key, const void *row)
{
    return strcmp(key, ((const struct wire_symbol *) row)->name);
}

static int compare_extension(const void *key, const void *row)
{
    const struct wire_extension *a = key, *b = row;
    int r = strcmp(a->type, b->type);

    return r ? r : (a->number > b->number) - (a->number < b->number);
}

static const struct wire_file *file_at(uint16_t index)
{
    ensure(index < wire_n_files);
    return &wire_files[index];
}

const struct wire_method *wire_find_method(const char *path)
{
    return bsearch(path, wire_methods, wire_n_methods, sizeof(*wire_methods), compare_method);
}

const struct wire_file *wire_find_file(const char *name)
{
    return bsearch(name, wire_files, wire_n_files, sizeof(*wire_files), compare_file);
}

const struct wire_file *wire_find_symbol(const char *full_name)
{
    const struct wire_symbol *symbol =
        bsearch(full_name, wire_symbols, wire_n_symbols, sizeof(*wire_symbols), compare_symbol);

    return symbol ? file_at(symbol->file) : NULL;
}

const struct wire_file *wire_find_extension(const char *type, int32_t number)
{
    const struct wire_extension key = { .type = type, .number = number };
    const struct wire_extension *extension = bsearch(&key, wire_extensions, wire_n_extensions,
                                                     sizeof(*wire_extensions), compare_extension);

    return extension ? file_at(extension->file) : NULL;
}

size_t wire_extension_numbers(const char *type, int32_t *to, size_t max)
{
    size_t n = 0;

    for (size_t i = 0; i < wire_n_extensions && n < max; i++) {
        if (strcmp(wire_extensions[i].type, type) == 0)
            to[n++] = wire_extensions[i].number;
    }
    return n;
}
