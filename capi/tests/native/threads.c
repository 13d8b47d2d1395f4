/* Several threads, and several processes, with the same handles. */
#define _GNU_SOURCE
#include "dlpack.h"
#include "stream.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>

static int until(atomic_int *flag) {
    const int64_t deadline = check_now_ns() + PATIENCE_NS;
    while (atomic_load(flag) == 0) {
        if (check_now_ns() > deadline) return 0;
        usleep(100);
    }
    return 1;
}

struct other {
    bips_producer *producer;
    bips_consumer *consumer;
    bips_frame *frame;
    int64_t timeout_ns;
    atomic_int started, stop;
    int32_t status;
    int bad;
    char message[200];
};

static void *fail_alone(void *context) {
    struct other *const other = (struct other *)context;
    other->bad = strcmp(bips_last_error_message(), "") != 0;
    other->status = bips_frame_release((bips_frame *)(uintptr_t)5, NULL);
    snprintf(other->message, sizeof other->message, "%s", bips_last_error_message());
    return NULL;
}

static void every_thread_has_its_last_error(void) {
    struct other other = {0};
    pthread_t thread;
    FAILS(BIPS_INVALID_ARGUMENT, "NULL instead of a consumer", bips_consumer_receive(NULL, 0, &other.frame));
    const char *const mine = bips_last_error_message();
    CHECK(pthread_create(&thread, NULL, fail_alone, &other) == 0 && pthread_join(thread, NULL) == 0);
    CHECK(other.bad == 0 && other.status == BIPS_INVALID_ARGUMENT && strstr(other.message, "no handle of a frame"));
    /* Neither another thread nor a success changes it. */
    OK(bips_frame_release(NULL, NULL));
    CHECK(mine == bips_last_error_message() && strstr(mine, "NULL instead of a consumer") != NULL);
}

static void *receive(void *context) {
    struct other *const other = (struct other *)context;
    atomic_store(&other->started, 1);
    /* The first thread looks in from time to time, so this one may be the one that is refused. */
    do
        other->status = bips_consumer_receive(other->consumer, other->timeout_ns, &other->frame);
    while (other->status == BIPS_INVALID_ARGUMENT && strstr(bips_last_error_message(), "another thread") != NULL);
    snprintf(other->message, sizeof other->message, "%s", bips_last_error_message());
    return NULL;
}

static void a_consumer_serves_one_thread(void) {
    bips_producer *producer = NULL;
    bips_frame *frame = NULL;
    bips_ending ending;
    int fd = -1;
    struct other other = {0};
    pthread_t thread;
    OK(make_bytes("busy", 64, &producer));
    OK(join("busy", NULL, &other.consumer));
    other.timeout_ns = -1;
    CHECK(pthread_create(&thread, NULL, receive, &other) == 0);
    CHECK(until(&other.started));
    /* Until the other thread is inside, this one only tries. */
    int32_t status = BIPS_TIMEOUT;
    for (int64_t end = check_now_ns() + PATIENCE_NS; status == BIPS_TIMEOUT && check_now_ns() < end;)
        status = bips_consumer_receive(other.consumer, 0, &frame);
    CHECK(status == BIPS_INVALID_ARGUMENT && strstr(bips_last_error_message(), "another thread") != NULL);
    FAILS(BIPS_INVALID_ARGUMENT, "another thread", bips_consumer_receive(other.consumer, -1, &frame));
    FAILS(BIPS_INVALID_ARGUMENT, "another thread", bips_consumer_poll_fd(other.consumer, &fd));
    FAILS(BIPS_INVALID_ARGUMENT, "another thread", bips_consumer_get_ending(other.consumer, &ending));
    CHECK(frame == NULL);
    OK(send(producer, 8, NULL));
    CHECK(pthread_join(thread, NULL) == 0 && other.status == BIPS_OK);
    const void *data = NULL;
    OK(bips_frame_data(other.frame, &data, NULL));
    CHECK(check_filled(data, 64, 8));
    OK(bips_frame_release(other.frame, NULL));
    OK(bips_consumer_destroy(other.consumer));
    OK(bips_producer_destroy(producer));
}

static pthread_key_t at_the_end;

static void ask_last(void *context) {
    struct other *const other = (struct other *)context;
    snprintf(other->message, sizeof other->message, "%s", bips_last_error_message());
}

static void *fail_and_end(void *context) {
    struct other *const other = (struct other *)context;
    other->status = pthread_setspecific(at_the_end, context) == 0 ? bips_frame_release((bips_frame *)(uintptr_t)5, NULL) : 0;
    return NULL;
}

/* What a program keeps for each thread may end after what the library keeps. */
static void a_thread_that_ends_may_ask(void) {
    struct other other = {0};
    pthread_t thread;
    CHECK(pthread_key_create(&at_the_end, ask_last) == 0);
    CHECK(pthread_create(&thread, NULL, fail_and_end, &other) == 0 && pthread_join(thread, NULL) == 0);
    CHECK(other.status == BIPS_INVALID_ARGUMENT && pthread_key_delete(at_the_end) == 0);
    CHECK(strstr(other.message, "the thread is ending") != NULL);
}

/* A receive that waits ends when another thread closes the consumer, or destroys it. */
static void a_consumer_is_closed_while_it_waits(void) {
    bips_producer *producer = NULL;
    bips_frame *frame = NULL, *held = NULL;
    bips_writable_frame *slots[3] = {NULL, NULL, NULL};
    bips_ending ending = BIPS_ENDED_OTHERWISE;
    OK(make_bytes("closed", 64, &producer));
    for (int destroys = 0; destroys < 2; destroys++) {
        struct other other = {0};
        pthread_t thread;
        OK(join("closed", NULL, &other.consumer));
        OK(send(producer, 3, NULL));
        OK(bips_consumer_receive(other.consumer, PATIENCE_NS, &held));
        other.timeout_ns = -1;
        CHECK(pthread_create(&thread, NULL, receive, &other) == 0);
        CHECK(until(&other.started));
        usleep(20000);
        if (destroys) {
            OK(bips_consumer_destroy(other.consumer));
        } else {
            OK(bips_consumer_close(other.consumer));
            OK(bips_consumer_close(other.consumer));
        }
        CHECK(pthread_join(thread, NULL) == 0);
        /* Destroyed, it may have been gone before the thread came. */
        CHECK(other.status == BIPS_CLOSED || (destroys && other.status == BIPS_INVALID_ARGUMENT));
        CHECK(strstr(other.message, other.status == BIPS_CLOSED ? "its own program" : "not valid any more") != NULL);
        if (!destroys) {
            FAILS(BIPS_CLOSED, "its own program", bips_consumer_receive(other.consumer, -1, &frame));
            CHECK(bips_consumer_receive(other.consumer, 0, &frame) == BIPS_CLOSED);
            OK(bips_consumer_get_ending(other.consumer, &ending));
            CHECK(ending == BIPS_NOT_ENDED);
            /* What it holds it keeps; all else is the producer's again. */
            for (int i = 0; i < 3; i++) OK(bips_producer_acquire(producer, PATIENCE_NS, &slots[i]));
            for (int i = 0; i < 3; i++) OK(bips_writable_frame_cancel(slots[i]));
            OK(bips_consumer_destroy(other.consumer));
        }
        FAILS(BIPS_INVALID_ARGUMENT, "not valid any more", bips_consumer_close(other.consumer));
        const void *data = NULL;
        OK(bips_frame_data(held, &data, NULL));
        CHECK(check_filled(data, 64, 3));
        OK(bips_frame_release(held, NULL));
    }
    /* Nobody waits: what it has not read no longer holds the producer back. */
    bips_consumer *consumer = NULL;
    OK(join("closed", NULL, &consumer));
    for (int i = 0; i < 4; i++) OK(send(producer, 4, NULL));
    bips_writable_frame *slot = NULL;
    FAILS(BIPS_TIMEOUT, "", bips_producer_acquire(producer, MS, &slot));
    OK(bips_consumer_close(consumer));
    OK(bips_producer_acquire(producer, PATIENCE_NS, &slot));
    OK(bips_writable_frame_cancel(slot));
    OK(bips_consumer_destroy(consumer));
    OK(bips_producer_destroy(producer));
    FAILS(BIPS_INVALID_ARGUMENT, "NULL instead of a consumer", bips_consumer_close(NULL));
}

static void *wait_for_consumers(void *context) {
    struct other *const other = (struct other *)context;
    atomic_store(&other->started, 1);
    other->status = bips_producer_wait_for_consumers(other->producer, 5, -1);
    return NULL;
}

static void *acquire(void *context) {
    struct other *const other = (struct other *)context;
    bips_writable_frame *frame = NULL;
    atomic_store(&other->started, 1);
    other->status = bips_producer_acquire(other->producer, -1, &frame);
    snprintf(other->message, sizeof other->message, "%s", bips_last_error_message());
    return NULL;
}

/* Whoever waits in a call with a producer that is destroyed learns that it is closed. */
static void a_producer_ends_while_others_wait(void) {
    bips_writable_frame *all[4] = {NULL, NULL, NULL, NULL};
    struct other other = {0};
    pthread_t thread;
    OK(make_bytes("ends", 64, &other.producer));
    for (int i = 0; i < 4; i++) OK(bips_producer_acquire(other.producer, 0, &all[i]));
    CHECK(pthread_create(&thread, NULL, acquire, &other) == 0);
    CHECK(until(&other.started));
    usleep(20000);
    OK(bips_producer_destroy(other.producer));
    CHECK(pthread_join(thread, NULL) == 0);
    /* Either it came first, or it found the handle gone. */
    CHECK(other.status == BIPS_CLOSED || other.status == BIPS_INVALID_ARGUMENT);
    for (int i = 0; i < 4; i++) OK(bips_writable_frame_cancel(all[i]));
}

static void *read_a_lot(void *context) {
    struct other *const other = (struct other *)context;
    while (atomic_load(&other->stop) == 0) {
        const void *data = NULL;
        DLManagedTensorVersioned *tensor = NULL;
        bips_frame_info info = bips_frame_info_init();
        if (bips_frame_data(other->frame, &data, NULL) != BIPS_OK || !check_filled(data, 64, 2)) other->bad = 1;
        if (bips_frame_get_info(other->frame, &info) != BIPS_OK || info.data != data) other->bad = 2;
        const int32_t status = bips_frame_dlpack(other->frame, -1, &tensor);
        if (status == BIPS_OK)
            tensor->deleter(tensor);
        else
            other->bad = 3;
        if (other->bad != 0) snprintf(other->message, sizeof other->message, "%s", bips_last_error_message());
        atomic_store(&other->started, 1);
    }
    return NULL;
}

static void a_frame_serves_any_number(void) {
    enum { THREADS = 3 };
    bips_producer *producer = NULL;
    bips_consumer *consumer = NULL;
    bips_frame *frame = NULL;
    static struct other others[THREADS];
    pthread_t threads[THREADS];
    OK(make_bytes("shared", 64, &producer));
    OK(join("shared", NULL, &consumer));
    OK(send(producer, 2, NULL));
    OK(bips_consumer_receive(consumer, PATIENCE_NS, &frame));
    for (int i = 0; i < THREADS; i++) {
        others[i].frame = frame;
        CHECK(pthread_create(&threads[i], NULL, read_a_lot, &others[i]) == 0);
    }
    for (int i = 0; i < THREADS; i++) CHECK(until(&others[i].started));
    for (int i = 0; i < THREADS; i++) atomic_store(&others[i].stop, 1);
    for (int i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
    for (int i = 0; i < THREADS; i++) {
        if (others[i].bad != 0) printf("thread %d: %d %s\n", i, others[i].bad, others[i].message);
        CHECK(others[i].bad == 0);
    }
    OK(bips_frame_release(frame, NULL));
    bips_consumer_stats stats = bips_consumer_stats_init();
    OK(bips_consumer_get_stats(consumer, &stats));
    CHECK(stats.held == 0);
    OK(bips_consumer_destroy(consumer));
    OK(bips_producer_destroy(producer));
}

static void *publish_a_lot(void *context) {
    struct other *const other = (struct other *)context;
    for (unsigned i = 0; i < 50; i++) {
        bips_writable_frame *frame = NULL;
        if (bips_producer_acquire(other->producer, PATIENCE_NS, &frame) != BIPS_OK ||
            bips_writable_frame_publish(frame, NULL, NULL, NULL) != BIPS_OK) {
            other->bad = 1;
            snprintf(other->message, sizeof other->message, "%s", bips_last_error_message());
        }
    }
    return NULL;
}

static void a_producer_serves_any_number(void) {
    enum { THREADS = 3 };
    bips_producer *producer = NULL;
    bips_consumer *consumer = NULL;
    static struct other others[THREADS];
    pthread_t threads[THREADS];
    OK(make_bytes("many", 64, &producer));
    OK(join("many", "reliable", &consumer));
    for (int i = 0; i < THREADS; i++) {
        others[i].producer = producer;
        CHECK(pthread_create(&threads[i], NULL, publish_a_lot, &others[i]) == 0);
    }
    for (uint64_t i = 0; i < THREADS * 50; i++) {
        bips_frame *frame = NULL;
        bips_frame_info info = bips_frame_info_init();
        OK(bips_consumer_receive(consumer, PATIENCE_NS, &frame));
        OK(bips_frame_get_info(frame, &info));
        CHECK(info.sequence == i);
        OK(bips_frame_release(frame, NULL));
    }
    for (int i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0 && others[i].bad == 0);
    OK(bips_consumer_destroy(consumer));
    OK(bips_producer_destroy(producer));
}

static void a_producer_is_closed_while_others_wait(void) {
    bips_writable_frame *all[4] = {NULL, NULL, NULL, NULL};
    void *(*const waits[])(void *) = {acquire, wait_for_consumers};
    for (int i = 0; i < 2; i++) {
        struct other other = {0};
        pthread_t thread;
        OK(make_bytes("closes", 64, &other.producer));
        for (int k = 0; k < 4; k++) OK(bips_producer_acquire(other.producer, 0, &all[k]));
        CHECK(pthread_create(&thread, NULL, waits[i], &other) == 0);
        CHECK(until(&other.started));
        usleep(20000);
        OK(bips_producer_close(other.producer));
        CHECK(pthread_join(thread, NULL) == 0 && other.status == BIPS_CLOSED);
        for (int k = 0; k < 4; k++) OK(bips_writable_frame_cancel(all[k]));
        OK(bips_producer_destroy(other.producer));
    }
}

/* What a child has of its parent. */
struct inherited {
    bips_producer *producer;
    bips_consumer *consumer;
    bips_frame *frame;
    bips_writable_frame *writable, *another;
};

/* Forks, and says at which step the child's work went wrong: 0 is well, -1 not to the end. */
static int in_a_child(int (*work)(const struct inherited *), const struct inherited *with) {
    int *const step = (int *)mmap(NULL, sizeof *step, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (step == MAP_FAILED) return -1;
    *step = -1;
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        *step = work(with);
        /* No exit: what the parent's threads had would be called lost by whoever counts memory. */
        raise(SIGKILL);
    }
    const int came_to = child > 0 && waitpid(child, NULL, 0) == child ? *step : -1;
    if (came_to != 0) printf("the child's step %d\n", came_to);
    return munmap(step, sizeof *step) == 0 ? came_to : -1;
}

/* In a child: every call with the parent's handles says so, and ends them without harm to the parent. Not 0: which
   call was wrong. */
static int use_inherited(const struct inherited *with) {
    bips_producer *producer = with->producer;
    bips_consumer *consumer = with->consumer;
    bips_frame *frame = with->frame;
    bips_writable_frame *const writable = with->writable, *const another = with->another;
    bips_frame *next = NULL;
    bips_writable_frame *slot = NULL;
    bips_producer_stats stats = bips_producer_stats_init();
    bips_private_view *view = NULL;
    DLManagedTensorVersioned *tensor = NULL;
    void *data = NULL;
    char byte;
    int fd = -1;
    uint64_t offset;
    if (bips_producer_acquire(producer, 0, &slot) != BIPS_FORKED) return 1;
    if (strstr(bips_last_error_message(), "fork") == NULL) return 2;
    if (bips_producer_acquire(producer, -1, &slot) != BIPS_FORKED) return 3;
    if (bips_producer_get_stats(producer, &stats) != BIPS_FORKED) return 4;
    if (bips_producer_wait_for_consumers(producer, 5, -1) != BIPS_FORKED) return 5;
    if (bips_writable_frame_publish(writable, NULL, NULL, NULL) != BIPS_FORKED) return 6;
    if (bips_consumer_receive(consumer, -1, &next) != BIPS_FORKED) return 7;
    if (bips_consumer_poll_fd(consumer, &fd) != BIPS_FORKED) return 8;
    if (bips_frame_copy(frame, 0, &byte, 1) != BIPS_FORKED) return 9;
    if (bips_frame_private_view(frame, &view, &data) != BIPS_FORKED) return 10;
    if (bips_frame_dlpack(frame, -1, &tensor) != BIPS_FORKED) return 11;
    if (bips_frame_fd(frame, &fd, &offset) != BIPS_FORKED) return 12;
    if (bips_writable_frame_dlpack(another, -1, &tensor) != BIPS_FORKED) return 13;
    bips_slot where = bips_slot_init();
    bips_content content;
    bips_layout layout = bips_layout_init();
    bips_consumer_stats seen = bips_consumer_stats_init();
    bips_frame_info info = bips_frame_info_init();
    bips_ending ending;
    const void *first = NULL;
    size_t count = 0;
    if (bips_writable_frame_get_slot(another, &where) != BIPS_FORKED) return 30;
    if (bips_writable_frame_fd(another, &fd, &offset) != BIPS_FORKED) return 29;
    if (bips_writable_frame_for_device(another) != BIPS_FORKED) return 44;
    if (bips_writable_frame_get_content(another, &content) != BIPS_FORKED) return 31;
    if (bips_producer_get_layout(producer, &layout) != BIPS_FORKED) return 32;
    if (bips_producer_get_consumers(producer, NULL, 0, &count) != BIPS_FORKED) return 33;
    if (bips_producer_close(producer) != BIPS_FORKED) return 34;
    if (bips_consumer_get_layout(consumer, &layout) != BIPS_FORKED) return 35;
    if (bips_consumer_get_stats(consumer, &seen) != BIPS_FORKED) return 36;
    if (bips_consumer_get_ending(consumer, &ending) != BIPS_FORKED) return 37;
    if (bips_consumer_close(consumer) != BIPS_FORKED) return 38;
    if (bips_frame_data(frame, &first, NULL) != BIPS_FORKED) return 39;
    if (bips_frame_get_info(frame, &info) != BIPS_FORKED) return 40;
    if (bips_writable_frame_cancel(writable) != BIPS_OK) return 41;
    if (bips_writable_frame_cancel(writable) != BIPS_INVALID_ARGUMENT) return 42;
    if (bips_writable_frame_get_slot(writable, &where) != BIPS_INVALID_ARGUMENT) return 43;
    if (bips_writable_frame_cancel(another) != BIPS_OK) return 14;
    if (bips_frame_release(frame, NULL) != BIPS_OK) return 15;
    if (bips_consumer_destroy(consumer) != BIPS_OK) return 16;
    if (bips_producer_destroy(producer) != BIPS_OK) return 17;
    /* Its own are as good as ever. */
    if (make_bytes("child", 64, &producer) != BIPS_OK || join("child", NULL, &consumer) != BIPS_OK) return 18;
    if (send(producer, 1, NULL) != BIPS_OK || bips_consumer_receive(consumer, PATIENCE_NS, &frame) != BIPS_OK) return 19;
    if (bips_frame_release(frame, NULL) != BIPS_OK || bips_consumer_destroy(consumer) != BIPS_OK) return 20;
    return bips_producer_destroy(producer) == BIPS_OK ? 0 : 21;
}

static void a_fork_has_nothing_of_it(void) {
    bips_producer *producer = NULL;
    bips_consumer *consumer = NULL;
    bips_frame *frame = NULL;
    bips_writable_frame *writable = NULL, *another = NULL;
    const void *data = NULL;
    OK(make_bytes("fork", 64, &producer));
    OK(join("fork", NULL, &consumer));
    OK(send(producer, 1, NULL));
    OK(bips_consumer_receive(consumer, PATIENCE_NS, &frame));
    OK(bips_producer_acquire(producer, 0, &writable));
    OK(bips_producer_acquire(producer, 0, &another));
    const struct inherited all = {producer, consumer, frame, writable, another};
    CHECK(in_a_child(use_inherited, &all) == 0);

    OK(bips_frame_data(frame, &data, NULL));
    CHECK(check_filled(data, 64, 1));
    OK(bips_writable_frame_cancel(another));
    OK(bips_writable_frame_publish(writable, NULL, NULL, NULL));
    OK(bips_frame_release(frame, NULL));
    OK(bips_consumer_receive(consumer, PATIENCE_NS, &frame));
    OK(bips_frame_release(frame, NULL));
    OK(bips_consumer_destroy(consumer));
    OK(bips_producer_destroy(producer));
}

/* The child can end what threads of its parent, which it has not, were in a call with. */
static int end_inherited(const struct inherited *with) {
    bips_producer *producer = with->producer;
    bips_consumer *consumer = with->consumer;
    bips_writable_frame *slot = NULL;
    bips_frame *frame = NULL;
    if (bips_producer_acquire(producer, -1, &slot) != BIPS_FORKED) return 1;
    if (bips_consumer_receive(consumer, -1, &frame) != BIPS_FORKED) return 2;
    if (bips_consumer_close(consumer) != BIPS_FORKED) return 3;
    if (bips_consumer_destroy(consumer) != BIPS_OK) return 4;
    if (bips_producer_destroy(producer) != BIPS_OK) return 5;
    if (bips_consumer_destroy(consumer) != BIPS_INVALID_ARGUMENT) return 6;
    /* Their places serve again. */
    for (int i = 0; i < 3; i++) {
        if (make_bytes("child", 64, &producer) != BIPS_OK || join("child", NULL, &consumer) != BIPS_OK) return 7;
        if (send(producer, 1, NULL) != BIPS_OK || bips_consumer_receive(consumer, PATIENCE_NS, &frame) != BIPS_OK) return 8;
        if (bips_frame_release(frame, NULL) != BIPS_OK || bips_consumer_close(consumer) != BIPS_OK) return 9;
        if (bips_consumer_destroy(consumer) != BIPS_OK || bips_producer_destroy(producer) != BIPS_OK) return 10;
    }
    return 0;
}

static void a_fork_comes_in_the_middle_of_calls(void) {
    bips_producer *other_producer = NULL;
    bips_writable_frame *all[4] = {NULL, NULL, NULL, NULL};
    struct other waits = {0}, wants = {0};
    pthread_t waiting, wanting;
    OK(make_bytes("waits", 64, &other_producer));
    OK(join("waits", NULL, &waits.consumer));
    waits.timeout_ns = -1;
    OK(make_bytes("wants", 64, &wants.producer));
    for (int i = 0; i < 4; i++) OK(bips_producer_acquire(wants.producer, 0, &all[i]));
    CHECK(pthread_create(&waiting, NULL, receive, &waits) == 0 && pthread_create(&wanting, NULL, acquire, &wants) == 0);
    CHECK(until(&waits.started) && until(&wants.started));
    usleep(50000);
    const struct inherited both = {.producer = wants.producer, .consumer = waits.consumer};
    CHECK(in_a_child(end_inherited, &both) == 0);

    OK(send(other_producer, 1, NULL));
    OK(bips_writable_frame_cancel(all[0]));
    CHECK(pthread_join(waiting, NULL) == 0 && pthread_join(wanting, NULL) == 0);
    CHECK(waits.status == BIPS_OK && wants.status == BIPS_OK);
    for (int i = 1; i < 4; i++) OK(bips_writable_frame_cancel(all[i]));
    OK(bips_frame_release(waits.frame, NULL));
    OK(bips_consumer_destroy(waits.consumer));
    OK(bips_producer_destroy(other_producer));
    OK(bips_producer_destroy(wants.producer));
}

int main(void) {
    if (check_begin() != 0) return 1;
    CASE(every_thread_has_its_last_error);
    CASE(a_consumer_serves_one_thread);
    CASE(a_thread_that_ends_may_ask);
    CASE(a_consumer_is_closed_while_it_waits);
    CASE(a_producer_ends_while_others_wait);
    CASE(a_producer_is_closed_while_others_wait);
    CASE(a_frame_serves_any_number);
    CASE(a_producer_serves_any_number);
    CASE(a_fork_has_nothing_of_it);
    CASE(a_fork_comes_in_the_middle_of_calls);
    return check_end();
}
