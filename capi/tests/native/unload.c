/* A program that loads the library (BIPS_LIBRARY), uses it, and lets go of it. It is not linked with it. */
#define _GNU_SOURCE
#include "check.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>

static atomic_int used, over;

static void *symbol(void *library, const char *name) { return dlsym(library, name); }

static void *use_and_stay(void *library) {
    bips_status (*release)(bips_frame *, const bips_fence *) = NULL;
    *(void **)&release = symbol(library, "bips_frame_release");
    /* A message of this thread's own, which ends with it. */
    if (release == NULL || release((bips_frame *)(uintptr_t)5, NULL) != BIPS_INVALID_ARGUMENT) return library;
    atomic_store(&used, 1);
    while (!atomic_load(&over)) usleep(1000);
    return NULL;
}

static void a_library_that_is_let_go_of_stays(void) {
    const char *const name = BIPS_LIBRARY;
    for (int i = 0; i < 8; i++) {
        void *const library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
        if (library == NULL) printf("%s\n", dlerror());
        CHECK(library != NULL);
        bips_status (*create)(const char *, const bips_producer_options *, bips_producer **) = NULL;
        bips_status (*connect)(const char *, const bips_consumer_options *, int64_t, bips_consumer **) = NULL;
        bips_status (*destroy)(bips_producer *) = NULL;
        bips_status (*leave)(bips_consumer *) = NULL;
        bips_status (*poll_fd)(const bips_consumer *, int *) = NULL;
        *(void **)&create = symbol(library, "bips_producer_create");
        *(void **)&connect = symbol(library, "bips_consumer_connect");
        *(void **)&destroy = symbol(library, "bips_producer_destroy");
        *(void **)&leave = symbol(library, "bips_consumer_destroy");
        *(void **)&poll_fd = symbol(library, "bips_consumer_poll_fd");
        CHECK(create != NULL && connect != NULL && destroy != NULL && leave != NULL && poll_fd != NULL);
        bips_producer_options options = bips_producer_options_init();
        options.bytes = 64;
        bips_producer *producer = NULL;
        bips_consumer *consumer = NULL;
        int fd = -1;
        CHECK(create("loaded", &options, &producer) == BIPS_OK);
        CHECK(connect("loaded", NULL, PATIENCE_NS, &consumer) == BIPS_OK && poll_fd(consumer, &fd) == BIPS_OK);
        pthread_t thread;
        void *failed = NULL;
        atomic_store(&used, 0);
        atomic_store(&over, 0);
        CHECK(pthread_create(&thread, NULL, use_and_stay, library) == 0);
        while (!atomic_load(&used)) usleep(1000);
        CHECK(leave(consumer) == BIPS_OK && destroy(producer) == BIPS_OK);
        CHECK(dlclose(library) == 0 && dlopen(name, RTLD_NOW | RTLD_NOLOAD) == library);
        atomic_store(&over, 1);
        CHECK(pthread_join(thread, &failed) == 0 && failed == NULL);
        usleep(5000); /* threads of the library's own come to their ends */
    }
}

int main(void) {
    if (check_begin() != 0) return 1;
    CASE(a_library_that_is_let_go_of_stays);
    return check_end();
}
