/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Runs a fuzz target over files, and over the files of directories: a corpus as an ordinary test,
 * without a fuzzer.
 *
 * usage: replay_X PATH...
 */

#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static int run_file(const char *path, size_t *n_files)
{
    uint8_t *data = NULL;
    size_t len = 0, capacity = 0;
    FILE *f = fopen(path, "rb");

    if (!f) {
        perror(path);
        return -1;
    }
    for (;;) {
        size_t n;

        if (len == capacity) {
            uint8_t *more;

            capacity = capacity ? 2 * capacity : 4096;
            more = realloc(data, capacity);
            if (!more)
                abort();
            data = more;
        }
        n = fread(data + len, 1, capacity - len, f);
        if (n == 0)
            break;
        len += n;
    }
    if (ferror(f)) {
        perror(path);
        fclose(f);
        free(data);
        return -1;
    }
    fclose(f);

    /* Of the exact size, so that a sanitizer sees a read past the end. */
    if (len > 0) {
        uint8_t *exact = realloc(data, len);
        data = exact ? exact : data;
    }
    fprintf(stderr, "%s: %zu bytes\n", path, len);
    LLVMFuzzerTestOneInput(data, len);
    free(data);
    (*n_files)++;
    return 0;
}

static int is_seed(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static int run_directory(const char *path, size_t *n_files)
{
    struct dirent **entries;
    int n = scandir(path, &entries, is_seed, alphasort);
    int r = 0;

    if (n < 0) {
        perror(path);
        return -1;
    }
    for (int i = 0; i < n; i++) {
        size_t room = strlen(path) + strlen(entries[i]->d_name) + 2;
        char *file = malloc(room);

        if (!file)
            abort();
        snprintf(file, room, "%s/%s", path, entries[i]->d_name);
        if (r == 0)
            r = run_file(file, n_files);
        free(file);
        free(entries[i]);
    }
    free(entries);
    return r;
}

int main(int argc, char **argv)
{
    size_t n_files = 0;

    for (int i = 1; i < argc; i++) {
        struct stat st;
        int r;

        if (stat(argv[i], &st) < 0) {
            perror(argv[i]);
            return EXIT_FAILURE;
        }
        r = S_ISDIR(st.st_mode) ? run_directory(argv[i], &n_files) : run_file(argv[i], &n_files);
        if (r < 0)
            return EXIT_FAILURE;
    }
    if (n_files == 0) {
        fprintf(stderr, "%s: no input\n", argv[0]);
        return EXIT_FAILURE;
    }
    printf("%zu inputs\n", n_files);
    return EXIT_SUCCESS;
}
