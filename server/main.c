/* SPDX-License-Identifier: Apache-2.0 */
#include <sys/stat.h>

#include "server/ops/ops.h"

int main(int argc, char **argv)
{
    umask(0077); /* keys and data are made here: nothing of it is for others */
    return ops_main(argc, argv);
}
