/* SPDX-License-Identifier: Apache-2.0 */
#include "suite.h"

#include <stdio.h>
#include <stdlib.h>

/* Once more behind all that the tests have logged: of a long log only the end is shown. */
static void repeat_failures(SRunner *runner)
{
    TestResult **results = srunner_failures(runner);

    for (int i = 0; i < srunner_ntests_failed(runner); i++)
        fprintf(stderr, "FAILED %s: %s:%d: %s\n", tr_tcname(results[i]), tr_lfile(results[i]),
                tr_lno(results[i]), tr_msg(results[i]));
    free(results);
}

int main(void)
{
    SRunner *runner = srunner_create(suite());
    int failed;

    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    repeat_failures(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
