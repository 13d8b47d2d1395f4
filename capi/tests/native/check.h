/*
 * Cases with names, for C11 and C++17: every case prints a line, and a check that fails ends its case. The streams lie
 * in a folder of the program's own, which must be empty at the end.
 */
#ifndef CHECK_H
#define CHECK_H

#include <bips.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Longer than anything takes: a wait that reaches it has failed. */
#define PATIENCE_NS 60000000000LL
#define PATIENCE_MS 60000
#define MS 1000000LL

/* Ends the case unless it holds. */
#define CHECK(holds)                                                     \
    do {                                                                 \
        if (!(holds)) {                                                  \
            check_says(__FILE__, __LINE__, #holds, "");                  \
            return;                                                      \
        }                                                                \
    } while (0)

/* Ends the case unless the call succeeds. */
#define OK(call)                                                         \
    do {                                                                 \
        if ((call) != BIPS_OK) {                                         \
            check_says(__FILE__, __LINE__, #call, bips_last_error_message()); \
            return;                                                      \
        }                                                                \
    } while (0)

/* Ends the case unless the call fails in this way, with this in its message. */
#define FAILS(wanted, words, call)                                       \
    do {                                                                 \
        const int32_t came_to_ = (call);                                 \
        if (came_to_ != (wanted) || strstr(bips_last_error_message(), (words)) == NULL) { \
            check_differs(__FILE__, __LINE__, #call, came_to_, #wanted, (words)); \
            return;                                                      \
        }                                                                \
    } while (0)

/* Of the case that runs. */
static int check_failed;
/* Of all cases. */
static int check_failures;
static char check_directory[64] = "/tmp/bips-native-XXXXXX";

static inline void check_says(const char *file, int line, const char *what, const char *message) {
    printf("%s:%d: %s %s\n", file, line, what, message);
    check_failed = 1;
}

static inline void check_differs(const char *file, int line, const char *what, int32_t came_to, const char *wanted,
                                 const char *words) {
    printf("%s:%d: %s: %s (%s) instead of %s with `%s`\n", file, line, what, bips_status_name(came_to),
           bips_last_error_message(), wanted, words);
    check_failed = 1;
}

static inline int check_begin(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (mkdtemp(check_directory) == NULL || setenv("BIPS_DIR", check_directory, 1) != 0) {
        perror("a folder for the streams");
        return 1;
    }
    return 0;
}

static inline void check_case(const char *name, void (*body)(void)) {
    check_failed = 0;
    body();
    printf("%-6s %s\n", check_failed ? "FAILED" : "ok", name);
    check_failures += check_failed;
}
#define CASE(body) check_case(#body, body)

/* The exit code. Producers that ended leave no file. */
static inline int check_end(void) {
    if (rmdir(check_directory) != 0) {
        printf("FAILED nothing_is_left: %s: %s\n", check_directory, strerror(errno));
        check_failures++;
    }
    printf("%s, %d failed\n", check_failures == 0 ? "passed" : "FAILED", check_failures);
    return check_failures == 0 ? 0 : 1;
}

static inline int64_t check_now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* A pattern that differs from frame to frame and from byte to byte. */
static inline void check_fill(void *to, size_t size, unsigned seed) {
    unsigned char *bytes = (unsigned char *)to;
    for (size_t i = 0; i < size; i++) bytes[i] = (unsigned char)(seed * 151u + i * 31u + (i >> 8));
}
static inline int check_filled(const void *from, size_t size, unsigned seed) {
    const unsigned char *bytes = (const unsigned char *)from;
    for (size_t i = 0; i < size; i++)
        if (bytes[i] != (unsigned char)(seed * 151u + i * 31u + (i >> 8))) return 0;
    return 1;
}

#endif
