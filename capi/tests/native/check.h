/* The smallest test harness: cases with names, checks with places. */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>
#include <stdlib.h>

static int check_failures = 0;
static const char *check_case = "";

#define CASE(name) (check_case = (name))

#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            check_failures++;                                                                                \
            fprintf(stderr, "FAILED  %s: %s:%d: %s (last error: %s)\n", check_case, __FILE__, __LINE__,      \
                    #condition, bips_last_error_message());                                                  \
        }                                                                                                    \
    } while (0)

/* For what the rest of a case can't do without. */
#define NEED(condition)                                                                                      \
    do {                                                                                                     \
        CHECK(condition);                                                                                    \
        if (check_failures > 0) exit(1);                                                                     \
    } while (0)

#define RUN(function)                                                                                        \
    do {                                                                                                     \
        int before = check_failures;                                                                         \
        CASE(#function);                                                                                     \
        function();                                                                                          \
        printf("%s  %s\n", check_failures == before ? "ok    " : "FAILED", #function);                       \
    } while (0)

#endif
