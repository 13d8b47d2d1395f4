/* Producers, consumers and frames as bips.h has them. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "stream.h"

#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

static void versions_agree(void) {
    CHECK(bips_abi_version() == BIPS_ABI_VERSION);
    CHECK(strlen(bips_version()) >= 5);
    CHECK(strcmp(bips_status_name(BIPS_NOT_FOUND), "not-found") == 0);
    CHECK(strcmp(bips_status_name(-3), "unknown") == 0);
}

static void types_have_names(void) {
    bips_dtype dtype;
    OK(bips_dtype_parse("bfloat16", &dtype));
    CHECK(dtype.code == 4 && dtype.bits == 16 && dtype.lanes == 1);
    CHECK(strcmp(bips_dtype_name(dtype), "bfloat16") == 0);
    dtype.bits = 17;
    CHECK(strcmp(bips_dtype_name(dtype), "unknown") == 0);
    FAILS(BIPS_INVALID_ARGUMENT, "float32", bips_dtype_parse("float33", &dtype));
}

static void bytes_and_metadata(void) {
    bips_producer *producer = NULL;
    bips_consumer *consumer = NULL;
    bips_frame *frame = NULL;
    OK(make_bytes("bytes", 5000, &producer));
    OK(join("bytes", NULL, &consumer));
    bips_description description = bips_description_init();
    unsigned char metadata[BIPS_MAX_METADATA];
    check_fill(metadata, sizeof metadata, 9);
    description.metadata = metadata;
    description.metadata_size = sizeof metadata;
    description.timestamp_ns = 12345;
    const int64_t before = check_now_ns();
    OK(send(producer, 1, &description));
    OK(send(producer, 2, NULL));
    for (unsigned i = 0; i < 2; i++) {
        bips_frame_info info = bips_frame_info_init();
        const void *data = NULL;
        size_t nbytes = 0;
        OK(bips_consumer_receive(consumer, PATIENCE_NS, &frame));
        OK(bips_frame_get_info(frame, &info));
        OK(bips_frame_data(frame, &data, &nbytes));
        CHECK(info.size == sizeof info && info.data == data && info.content.nbytes == nbytes && nbytes == 5000);
        CHECK(info.slot_bytes >= 5000 && info.sequence == i && info.readonly == 1 && info.generation == 0);
        CHECK(info.slot < 4 && info.content.ndim == 1 && info.content.shape[0] == 5000 && info.content.fourcc == 0);
        CHECK(check_filled(data, nbytes, i + 1));
        CHECK(info.published_ns >= (uint64_t)before && info.published_ns <= (uint64_t)check_now_ns());
        if (i == 0) {
            CHECK(info.metadata_size == sizeof metadata && check_filled(info.metadata, sizeof metadata, 9));
            CHECK(info.timestamp_ns == 12345);
        } else {
            CHECK(info.metadata_size == 0 && info.timestamp_ns == info.published_ns);
        }
        OK(bips_frame_data(frame, &data, NULL));
        unsigned char copy[100];
        OK(bips_frame_copy(frame, 4900, copy, sizeof copy));
        CHECK(memcmp(copy, (const unsigned char *)data + 4900, sizeof copy) == 0);
        OK(bips_frame_release(frame, NULL));
    }
    OK(bips_consumer_destroy(consumer));
    OK(bips_producer_destroy(producer));
}

static void images_have_planes(void) {
    bips_producer *producer = NULL;
    bips_consumer *consumer = NULL;
    bips_frame *frame = NULL;
    bips_producer_options options = bips_producer_options_init();
    options.format = "NV12";
    options.width = 640;
    options.height = 480;
    options.slots = 6;
    options.max_held = 3;
    options.memory = "memfd";
    options.access = "directory";
    OK(bips_producer_create("a/image", &options, &producer));
    OK(join("a/image", "reliable", &consumer));
    OK(send(producer, 5, NULL));
    OK(bips_consumer_receive(consumer, PATIENCE_NS, &frame));
    bips_frame_info info = bips_frame_info_init();
    OK(bips_frame_get_info(frame, &info));
    const bips_content *content = &info.content;
    CHECK(content->width == 640 && content->height == 480 && content->nplanes == 2 && content->modifier == 0);
    CHECK(content->fourcc == (uint32_t)('N' | 'V' << 8 | '1' << 16) + ((uint32_t)'2' << 24));
    const bips_plane *plane = &content->planes[1];
    CHECK(plane->offset == 640 * 480 && plane->stride == 640 && plane->width == 640 && plane->rows == 240);
    CHECK(check_filled(info.data, info.slot_bytes, 5));
    OK(bips_frame_release(frame, NULL));

    bips_layout of_producer = bips_layout_init(), of_consumer = bips_layout_init();
    OK(bips_producer_get_layout(producer, &of_producer));
    OK(bips_consumer_get_layout(consumer, &of_consumer));
    CHECK(memcmp(&of_producer, &of_consumer, sizeof of_producer) == 0);
    CHECK(of_producer.slots == 6 && of_producer.max_held == 3 && of_producer.writable == 0);
    CHECK(strcmp(of_producer.memory, "memfd") == 0 && of_producer.content.nbytes == 640 * 720);
    OK(bips_consumer_destroy(consumer));
    OK(bips_producer_destroy(producer));
}

static void tensors_have_shapes(void) {
    bips_producer *producer = NULL;
    bips_consumer *consumer = NULL;
    bips_frame *frame = NULL;
    const uint64_t shape[] = {4, 3, 2}, smaller[] = {2, 5}, larger[] = {4, 3, 1000};
    bips_producer_options options = bips_producer_options_init();
    options.dtype = "float32";
    options.shape = shape;
    options.ndim = 3;
    OK(bips_producer_create("tensor", &options, &producer));
    OK(join("tensor", NULL, &consumer));
    bips_description description = bips_description_init();
    description.shape = smaller;
    description.ndim = 2;
    OK(send(producer, 1, NULL));
    OK(send(producer, 2, &description));
    bips_frame_info info = bips_frame_info_init();
    OK(bips_consumer_receive(consumer, PATIENCE_NS, &frame));
    OK(bips_frame_get_info(frame, &info));
    CHECK(info.content.ndim == 3 && info.content.shape[0] == 4 && info.content.shape[2] == 2);
    CHECK(info.content.strides[0] == 24 && info.content.strides[1] == 8 && info.content.strides[2] == 4);
    CHECK(strcmp(bips_dtype_name(info.content.dtype), "float32") == 0 && info.content.nbytes == 96);
    OK(bips_frame_release(frame, NULL));
    OK(bips_consumer_receive(consumer, PATIENCE_NS, &frame));
    OK(bips_frame_get_info(frame, &info));
    CHECK(info.content.ndim == 2 && info.content.shape[0] == 2 && info.content.shape[1] == 5);
    CHECK(info.content.nbytes == 40 && info.content.strides[0] == 20);
    OK(bips_frame_release(frame, NULL));

    /* What doesn't fit is not published, and its slot is free again. */
    description.shape = larger;
    description.ndim = 3;
    for (int i = 0; i < 20; i++) {
        bips_writable_frame *writable = NULL;
        OK(bips_producer_acquire(producer, 0, &writable));
        if (i % 2 == 0) {
            FAILS(BIPS_INVALID_ARGUMENT, "", bips_writable_frame_publish(writable, &description, NULL, NULL));
        } else {
            OK(bips_writable_frame_cancel(writable));
        }
        FAILS(BIPS_INVALID_ARGUMENT, "not valid any more", bips_writable_frame_cancel(writable));
    }
    FAILS(BIPS_TIMEOUT, "no frame", bips_consumer_receive(consumer, 0, &frame));
    OK(bips_consumer_destroy(consumer));
    OK(bips_producer_destroy(producer));
}

static bips_status send_now(bips_producer *producer) {
    bips_writable_frame *frame = NULL;
    const bips_status status = bips_producer_acquire(producer, 0, &frame);
    return status == BIPS_OK ? bips_writable_frame_publish(frame, NULL, NULL, NULL) : status;
}

static void policies_differ(void) {
    bips_producer *producer = NULL;
    bips_consumer *reliable = NULL, *latest = NULL, *last_two = NULL;
    OK(make_bytes("policies", 64, &producer));
    OK(join("policies", "reliable", &reliable));
    OK(join("policies", "latest", &latest));
    OK(join("policies", "keep-last:2", &last_two));
    OK(bips_producer_wait_for_consumers(producer, 3, PATIENCE_NS));
    for (unsigned i = 0; i < 3; i++) OK(send(producer, i, NULL));
    bips_consumer *const all[] = {reliable, latest, last_two};
    const uint64_t first[] = {0, 2, 1}, then[] = {2, 5, 4};
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 3; i++) {
            const uint64_t wanted = (round == 0 ? first : then)[i];
            bips_frame_info info = bips_frame_info_init();
            bips_frame *frame = NULL;
            OK(bips_consumer_receive(all[i], 0, &frame));
            OK(bips_frame_get_info(frame, &info));
            CHECK(info.sequence == wanted && check_filled(info.data, 64, (unsigned)wanted));
            OK(bips_frame_release(frame, NULL));
        }
        if (round > 0) break;
        /* Room for the reliable one's unread frames: two of four slots. */
        bips_frame *frame = NULL;
        for (unsigned i = 3; i < 5; i++) OK(send(producer, i, NULL));
        FAILS(BIPS_TIMEOUT, "no slot", send_now(producer));
        OK(bips_consumer_receive(reliable, 0, &frame));
        OK(bips_frame_release(frame, NULL));
        OK(send(producer, 5, NULL));
    }
    for (int i = 0; i < 3; i++) {
        bips_consumer_stats stats = bips_consumer_stats_init();
        OK(bips_consumer_get_stats(all[i], &stats));
        CHECK(stats.held == 0 && stats.reconnects == 0 && stats.control_bytes > 0);
        CHECK(stats.producer_pid == (uint32_t)getpid());
        /* Counted from the first that it took. */
        CHECK(stats.received == (i == 0 ? 3 : 2) && stats.missed == (i == 0 ? 0 : 2));
    }
    for (int i = 0; i < 3; i++) OK(bips_consumer_destroy(all[i]));
    OK(bips_producer_destroy(producer));

    bips_producer_options options = bips_producer_options_init();
    bips_consumer *refused = NULL;
    options.bytes = 64;
    options.refuse_reliable = 1;
    OK(bips_producer_create("policies", &options, &producer));
    FAILS(BIPS_ACCESS_DENIED, "keep-last", join("policies", "reliable", &refused));
    OK(bips_producer_destroy(producer));
}

static void who_joins_late_gets_the_history(void) {
    bips_producer *producer = NULL;
    bips_consumer *consumer = NULL;
    bips_frame *frame = NULL;
    bips_producer_options options = bips_producer_options_init();
    options.bytes = 64;
    options.history = 1;
    OK(bips_producer_create("history", &options, &producer));
    for (unsigned i = 0; i < 3; i++) OK(send(producer, i, NULL));
    OK(join("history", NULL, &consumer));
    bips_frame_info info = bips_frame_info_init();
    OK(bips_consumer_receive(consumer, 0, &frame));
    OK(bips_frame_get_info(frame, &info));
    CHECK(info.sequence == 2);
    OK(bips_frame_release(frame, NULL));
    OK(bips_consumer_destroy(consumer));
    OK(bips_producer_destroy(producer));
}

static void times_run_out(void) {
    bips_producer *producer = NULL;
    bips_consumer *consumer = NULL, *absent = NULL;
    bips_frame *frames[3] = {NULL, NULL, NULL};
    bips_writable_frame *writable = NULL, *writables[4] = {NULL, NULL, NULL, NULL};
    int64_t before = check_now_ns();
    FAILS(BIPS_NOT_FOUND, "no-such", bips_consumer_connect("no-such", NULL, 0, &absent));
    FAILS(BIPS_NOT_FOUND, "no-such", bips_consumer_connect("no-such", NULL, 20 * MS, &absent));
    CHECK(check_now_ns() - before >= 20 * MS);

    OK(make_bytes("times", 64, &producer));
    FAILS(BIPS_TIMEOUT, "", bips_producer_wait_for_consumers(producer, 1, 20 * MS));
    OK(join("times", NULL, &consumer));
    before = check_now_ns();
    FAILS(BIPS_TIMEOUT, "", bips_consumer_receive(consumer, 20 * MS, &frames[0]));
    CHECK(check_now_ns() - before >= 20 * MS);

    for (unsigned i = 0; i < 3; i++) OK(send(producer, i, NULL));
    for (int i = 0; i < 2; i++) OK(bips_consumer_receive(consumer, 0, &frames[i]));
    FAILS(BIPS_TOO_MANY_HELD, "", bips_consumer_receive(consumer, 0, &frames[2]));
    OK(bips_producer_acquire(producer, 0, &writable));
    bips_writable_frame *second = NULL;
    FAILS(BIPS_TIMEOUT, "no slot", bips_producer_acquire(producer, 0, &second));
    before = check_now_ns();
    char pid[32];
    snprintf(pid, sizeof pid, "%d", (int)getpid());
    FAILS(BIPS_TIMEOUT, pid, bips_producer_acquire(producer, 20 * MS, &second));
    CHECK(check_now_ns() - before >= 20 * MS);
    for (int i = 0; i < 2; i++) OK(bips_frame_release(frames[i], NULL));
    OK(bips_writable_frame_cancel(writable));
    OK(bips_consumer_destroy(consumer));
    for (int i = 0; i < 4; i++) OK(bips_producer_acquire(producer, 0, &writables[i]));
    OK(bips_producer_close(producer));
    OK(bips_producer_close(producer));
    FAILS(BIPS_CLOSED, "closed", bips_producer_acquire(producer, 0, &writable));
    FAILS(BIPS_CLOSED, "", bips_producer_acquire(producer, -1, &writable));
    FAILS(BIPS_CLOSED, "", bips_writable_frame_publish(writables[0], NULL, NULL, NULL));
    OK(bips_producer_destroy(producer));
    /* They outlive it, as memory to write to. */
    for (int i = 1; i < 4; i++) {
        bips_slot slot = bips_slot_init();
        OK(bips_writable_frame_get_slot(writables[i], &slot));
        memset(slot.data, i, slot.nbytes);
    }
    for (int i = 1; i < 3; i++) OK(bips_writable_frame_cancel(writables[i]));
    FAILS(BIPS_CLOSED, "", bips_writable_frame_publish(writables[3], NULL, NULL, NULL));
}

static int ready(int fd, int timeout_ms) {
    struct pollfd it = {fd, POLLIN, 0};
    return poll(&it, 1, timeout_ms) == 1 && (it.revents & POLLIN) != 0;
}

/* As an event loop does it: until there is no more, then poll. */
static bips_status drain(bips_consumer *consumer, int *frames) {
    for (;;) {
        bips_frame *frame = NULL;
        bips_status status = bips_consumer_receive(consumer, 0, &frame);
        if (status != BIPS_OK) return status;
        *frames += 1;
        status = bips_frame_release(frame, NULL);
        if (status != BIPS_OK) return status;
    }
}

static void poll_says_when(void) {
    bips_producer *producer = NULL;
    bips_consumer *consumer = NULL;
    int fd = -1, again = -1, frames = 0;
    OK(make_bytes("poll", 64, &producer));
    OK(join("poll", NULL, &consumer));
    OK(bips_consumer_poll_fd(consumer, &fd));
    OK(bips_consumer_poll_fd(consumer, &again));
    CHECK(fd >= 0 && fd == again);
    CHECK(drain(consumer, &frames) == BIPS_TIMEOUT && frames == 0);
    CHECK(!ready(fd, 0));
    for (int round = 1; round <= 3; round++) {
        OK(send(producer, 1, NULL));
        OK(send(producer, 2, NULL));
        CHECK(ready(fd, PATIENCE_MS));
        CHECK(drain(consumer, &frames) == BIPS_TIMEOUT && frames == 2 * round);
        CHECK(!ready(fd, 0));
    }
    OK(bips_producer_close(producer));
    CHECK(ready(fd, PATIENCE_MS));
    CHECK(drain(consumer, &frames) == BIPS_CLOSED);
    CHECK(ready(fd, 0));
    bips_ending ending = BIPS_NOT_ENDED;
    OK(bips_consumer_get_ending(consumer, &ending));
    CHECK(ending == BIPS_ENDED_CLOSED);
    OK(bips_consumer_destroy(consumer));
    OK(bips_producer_destroy(producer));
}

static void a_stream_goes_on_with_its_next_producer(void) {
    bips_producer *producer = NULL;
    bips_consumer *consumer = NULL;
    bips_frame *old = NULL, *frame = NULL;
    bips_consumer_options options = bips_consumer_options_init();
    options.reconnect = 1;
    options.directory = check_directory;
    options.spin_ns = -1;
    OK(make_bytes("again", 64, &producer));
    OK(bips_consumer_connect("again", &options, 0, &consumer));
    OK(send(producer, 1, NULL));
    OK(send(producer, 2, NULL));
    OK(bips_producer_destroy(producer));
    OK(make_bytes("again", 128, &producer));
    OK(bips_consumer_receive(consumer, PATIENCE_NS, &old));
    OK(bips_consumer_receive(consumer, PATIENCE_NS, &frame));
    OK(bips_frame_release(frame, NULL));
    FAILS(BIPS_TIMEOUT, "", bips_consumer_receive(consumer, 20 * MS, &frame));
    OK(bips_producer_wait_for_consumers(producer, 1, PATIENCE_NS));
    OK(send(producer, 7, NULL));
    OK(bips_consumer_receive(consumer, PATIENCE_NS, &frame));
    bips_frame_info info = bips_frame_info_init();
    OK(bips_frame_get_info(frame, &info));
    CHECK(info.generation == 1 && info.sequence == 0 && info.content.nbytes == 128);
    CHECK(check_filled(info.data, 128, 7));
    OK(bips_frame_get_info(old, &info));
    CHECK(info.generation == 0 && info.content.nbytes == 64 && check_filled(info.data, 64, 1));
    bips_consumer_stats stats = bips_consumer_stats_init();
    OK(bips_consumer_get_stats(consumer, &stats));
    CHECK(stats.reconnects == 1 && stats.received == 3);
    bips_ending ending = BIPS_ENDED_OTHERWISE;
    OK(bips_consumer_get_ending(consumer, &ending));
    CHECK(ending == BIPS_NOT_ENDED);
    OK(bips_frame_release(old, NULL));
    OK(bips_frame_release(frame, NULL));
    OK(bips_consumer_destroy(consumer));
    OK(bips_producer_destroy(producer));
}

/* In the child: one frame, and no goodbye. */
static void publish_and_wait_for_the_end(void) {
    bips_producer *producer = NULL;
    if (make_bytes("killed", 64, &producer) != BIPS_OK) _exit(1);
    if (bips_producer_wait_for_consumers(producer, 1, PATIENCE_NS) != BIPS_OK) _exit(2);
    if (send(producer, 3, NULL) != BIPS_OK) _exit(3);
    pause();
    _exit(4);
}

static void who_dies_is_told(void) {
    bips_consumer *consumer = NULL;
    bips_frame *frame = NULL, *none = NULL;
    const void *data = NULL;
    bips_ending ending = BIPS_NOT_ENDED;
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) publish_and_wait_for_the_end();
    OK(join("killed", NULL, &consumer));
    OK(bips_consumer_receive(consumer, PATIENCE_NS, &frame));
    int status = 0;
    CHECK(kill(child, SIGKILL) == 0 && waitpid(child, &status, 0) == child && WIFSIGNALED(status));
    FAILS(BIPS_CLOSED, "", bips_consumer_receive(consumer, PATIENCE_NS, &none));
    OK(bips_consumer_get_ending(consumer, &ending));
    CHECK(ending == BIPS_ENDED_DIED);
    OK(bips_frame_data(frame, &data, NULL));
    CHECK(check_filled(data, 64, 3));
    OK(bips_consumer_destroy(consumer));
    CHECK(check_filled(data, 64, 3));
    OK(bips_frame_release(frame, NULL));
    /* What the dead one left is taken over, and then nothing is left. */
    bips_producer *producer = NULL;
    OK(make_bytes("killed", 64, &producer));
    OK(bips_producer_destroy(producer));
}

static void the_descriptor_is_the_memory(void) {
    bips_producer *producer = NULL;
    bips_consumer *consumer = NULL;
    bips_frame *frame = NULL;
    const size_t size = 1 << 16;
    OK(make_bytes("descriptor", size, &producer));
    OK(join("descriptor", NULL, &consumer));
    OK(send(producer, 1, NULL));
    OK(send(producer, 2, NULL));
    for (unsigned i = 1; i <= 2; i++) {
        int fd = -1;
        uint64_t offset = 0;
        OK(bips_consumer_receive(consumer, PATIENCE_NS, &frame));
        OK(bips_frame_fd(frame, &fd, &offset));
        const long page = sysconf(_SC_PAGESIZE);
        CHECK(offset % (uint64_t)page == 0);
        void *const mapped = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, (off_t)offset);
        CHECK(mapped != MAP_FAILED);
        CHECK(check_filled(mapped, size, i));
        CHECK(mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)offset) == MAP_FAILED);
        CHECK(munmap(mapped, size) == 0 && close(fd) == 0);
        OK(bips_frame_release(frame, NULL));
    }
    OK(bips_consumer_destroy(consumer));
    OK(bips_producer_destroy(producer));
}

static void a_private_view_is_private(void) {
    bips_producer *producer = NULL;
    bips_consumer *consumer = NULL, *other = NULL;
    bips_frame *frame = NULL, *same = NULL;
    bips_private_view *view = NULL, *second = NULL;
    void *writable = NULL;
    const void *data = NULL;
    OK(make_bytes("private", 10000, &producer));
    OK(join("private", NULL, &consumer));
    OK(join("private", NULL, &other));
    OK(send(producer, 4, NULL));
    OK(bips_consumer_receive(consumer, PATIENCE_NS, &frame));
    OK(bips_consumer_receive(other, PATIENCE_NS, &same));
    OK(bips_frame_private_view(frame, &view, &writable));
    CHECK(check_filled(writable, 10000, 4));
    FAILS(BIPS_INVALID_ARGUMENT, "", bips_frame_private_view(frame, &second, &writable));
    memset(writable, 0xee, 5000);
    OK(bips_frame_data(same, &data, NULL));
    CHECK(check_filled(data, 10000, 4) && *(unsigned char *)writable == 0xee);
    /* It holds the lease itself. */
    OK(bips_frame_release(frame, NULL));
    bips_consumer_stats stats = bips_consumer_stats_init();
    OK(bips_consumer_get_stats(consumer, &stats));
    CHECK(stats.held == 1 && ((unsigned char *)writable)[4999] == 0xee);
    OK(bips_private_view_destroy(view));
    OK(bips_consumer_get_stats(consumer, &stats));
    CHECK(stats.held == 0);
    FAILS(BIPS_INVALID_ARGUMENT, "not valid any more", bips_private_view_destroy(view));
    OK(bips_frame_release(same, NULL));
    OK(bips_consumer_destroy(other));
    OK(bips_consumer_destroy(consumer));
    OK(bips_producer_destroy(producer));
}

static void a_writable_stream_can_be_written(void) {
    bips_producer *producer = NULL;
    bips_consumer *writer = NULL, *reader = NULL;
    bips_frame *frame = NULL, *same = NULL;
    bips_producer_options options = bips_producer_options_init();
    options.bytes = 4096;
    options.writable = 1;
    OK(bips_producer_create("writable", &options, &producer));
    OK(join("writable", NULL, &writer));
    OK(join("writable", NULL, &reader));
    OK(send(producer, 1, NULL));
    OK(bips_consumer_receive(writer, PATIENCE_NS, &frame));
    OK(bips_consumer_receive(reader, PATIENCE_NS, &same));
    bips_frame_info info = bips_frame_info_init();
    OK(bips_frame_get_info(frame, &info));
    CHECK(info.readonly == 0);
    check_fill((void *)(uintptr_t)info.data, 4096, 2);
    OK(bips_frame_get_info(same, &info));
    CHECK(check_filled(info.data, 4096, 2));
    OK(bips_frame_release(frame, NULL));
    OK(bips_frame_release(same, NULL));
    OK(bips_consumer_destroy(writer));
    OK(bips_consumer_destroy(reader));
    OK(bips_producer_destroy(producer));
}

static void consumers_are_listed(void) {
    bips_producer *producer = NULL;
    bips_consumer *first = NULL, *second = NULL;
    bips_consumer_state states[3];
    size_t count = 99;
    OK(make_bytes("listed", 64, &producer));
    OK(bips_producer_get_consumers(producer, NULL, 0, &count));
    CHECK(count == 0);
    OK(join("listed", "keep-last:2", &first));
    OK(join("listed", "reliable", &second));
    OK(send(producer, 1, NULL));
    OK(bips_producer_get_consumers(producer, NULL, 0, &count));
    CHECK(count == 2);
    memset(states, 0xaa, sizeof states);
    FAILS(BIPS_INVALID_ARGUMENT, "2 consumers, and room for 1",
          bips_producer_get_consumers(producer, states, 1, &count));
    CHECK(count == 2 && states[0].pid == (uint32_t)getpid() && states[1].pid == 0xaaaaaaaa);
    OK(bips_producer_get_consumers(producer, states, 3, &count));
    CHECK(count == 2 && states[2].pid == 0xaaaaaaaa);
    CHECK(states[0].keep_last + states[1].keep_last == 2 && states[0].keep_last * states[1].keep_last == 0);
    CHECK(states[0].unread == 1 && states[0].held == 0 && states[0].expelled == 0 && states[0].uid == getuid());

    bips_producer_stats stats = bips_producer_stats_init();
    OK(bips_producer_get_stats(producer, &stats));
    CHECK(stats.published == 1 && stats.consumers == 2 && stats.pool_bytes >= 4 * 64 && stats.evicted == 0);
    bips_stream_info info = bips_stream_info_init();
    OK(bips_query("listed", NULL, &info, states, 3, &count));
    CHECK(count == 2 && info.consumers == 2 && info.published == 1 && info.pid == (uint32_t)getpid());
    CHECK(info.reliable == 1 && info.history == 0 && info.layout.slots == 4 && info.layout.size == sizeof info.layout);
    CHECK(strchr(states[0].label, '@') != NULL && states[0].in_the_way == 0); /* this program @ this host */
    OK(bips_query("listed", check_directory, &info, NULL, 0, NULL));
    FAILS(BIPS_INVALID_ARGUMENT, "room for 1", bips_query("listed", NULL, &info, states, 1, &count));
    OK(bips_consumer_destroy(first));
    OK(bips_consumer_destroy(second));
    OK(bips_producer_destroy(producer));
    FAILS(BIPS_NOT_FOUND, "", bips_query("listed", NULL, &info, NULL, 0, NULL));
}

static void note_name(const char *name, void *context) { strcat(strcat((char *)context, name), " "); }

static void streams_are_listed(void) {
    bips_producer *b = NULL, *a = NULL, *taken = NULL;
    char names[100] = "";
    OK(make_bytes("b", 64, &b));
    OK(make_bytes("a/x", 64, &a));
    OK(bips_streams(NULL, note_name, names));
    CHECK(strcmp(names, "a/x b ") == 0);
    FAILS(BIPS_NAME_TAKEN, "", make_bytes("b", 64, &taken));
    OK(bips_producer_destroy(b));
    OK(bips_producer_destroy(a));
    names[0] = '\0';
    OK(bips_streams(check_directory, note_name, names));
    CHECK(names[0] == '\0');
    FAILS(BIPS_NOT_FOUND, "nowhere", bips_streams("/nowhere", note_name, names));
}

struct verdicts {
    int checks;
    int bad;
    int memfd;
};

static void note_check(const bips_check *check, void *context) {
    struct verdicts *verdicts = (struct verdicts *)context;
    verdicts->checks++;
    verdicts->bad += check->size != sizeof *check || check->name[0] == '\0' || check->detail == NULL ||
                     (check->next_step != NULL && check->next_step[0] == '\0') || check->status < BIPS_CHECK_OK ||
                     check->status > BIPS_CHECK_SKIP;
    verdicts->memfd += strcmp(check->name, "memfd") == 0 && check->status != BIPS_CHECK_FAIL;
}

static void the_doctor_speaks(void) {
    struct verdicts verdicts = {0, 0, 0};
    OK(bips_doctor(NULL, note_check, &verdicts));
    CHECK(verdicts.checks >= 3 && verdicts.bad == 0 && verdicts.memfd == 1);
}

int main(void) {
    if (check_begin() != 0) return 1;
    CASE(versions_agree);
    CASE(types_have_names);
    CASE(bytes_and_metadata);
    CASE(images_have_planes);
    CASE(tensors_have_shapes);
    CASE(policies_differ);
    CASE(who_joins_late_gets_the_history);
    CASE(times_run_out);
    CASE(poll_says_when);
    CASE(a_stream_goes_on_with_its_next_producer);
    CASE(who_dies_is_told);
    CASE(the_descriptor_is_the_memory);
    CASE(a_private_view_is_private);
    CASE(a_writable_stream_can_be_written);
    CASE(consumers_are_listed);
    CASE(streams_are_listed);
    CASE(the_doctor_speaks);
    return check_end();
}
