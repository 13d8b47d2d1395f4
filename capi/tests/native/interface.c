/* Everything in bips.h, as a C program uses and misuses it. BIPS_DIR names a directory of the test's own. */

#define _GNU_SOURCE
#include <bips.h>

#include "check.h"
#include "dlpack.h"

#include <poll.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static const int64_t SOON = 10000000000; /* 10 s */

static bips_producer *tensor_producer(const char *name, const uint64_t *shape, size_t ndim)
{
    bips_producer_options options = bips_producer_options_init();
    bips_producer *producer = NULL;
    options.dtype = "uint8";
    options.shape = shape;
    options.ndim = ndim;
    options.slots = 4;
    NEED(bips_producer_create(name, &options, &producer) == BIPS_OK);
    return producer;
}

static bips_producer *bytes_producer(const char *name)
{
    const uint64_t shape[] = {64};
    return tensor_producer(name, shape, 1);
}

static bips_consumer *connected(const char *name)
{
    bips_consumer *consumer = NULL;
    NEED(bips_consumer_connect(name, NULL, 0, &consumer) == BIPS_OK);
    return consumer;
}

static void publish(bips_producer *producer, unsigned char value)
{
    bips_writable_frame *writable = NULL;
    bips_slot slot = bips_slot_init();
    NEED(bips_producer_acquire(producer, SOON, &writable) == BIPS_OK);
    NEED(bips_writable_frame_get_slot(writable, &slot) == BIPS_OK);
    memset(slot.data, value, slot.nbytes);
    NEED(bips_writable_frame_publish(writable, NULL, NULL, NULL) == BIPS_OK);
}

static bips_frame *received(bips_consumer *consumer)
{
    bips_frame *frame = NULL;
    NEED(bips_consumer_receive(consumer, SOON, &frame) == BIPS_OK);
    return frame;
}

/* What works */

static void versions(void)
{
    CHECK(bips_abi_version() == BIPS_ABI_VERSION);
    CHECK(strlen(bips_version()) >= 5);
    CHECK(strcmp(bips_status_name(BIPS_TOO_MANY_HELD), "too-many-held") == 0);
    CHECK(strcmp(bips_status_name(12345), "unknown") == 0);
}

static void a_frame_goes_round(void)
{
    const uint64_t shape[] = {4, 16};
    const uint64_t smaller[] = {2, 16};
    bips_producer *producer = tensor_producer("round", shape, 2);
    bips_consumer *consumer = connected("round");
    bips_writable_frame *writable = NULL;
    bips_slot slot = bips_slot_init();
    bips_description description = bips_description_init();
    bips_frame_info info = bips_frame_info_init();
    uint64_t sequence = 99;
    const void *data = NULL;
    size_t nbytes = 0;
    unsigned char copy[8];

    CHECK(bips_producer_wait_for_consumers(producer, 1, SOON) == BIPS_OK);
    NEED(bips_producer_acquire(producer, SOON, &writable) == BIPS_OK);
    CHECK(bips_writable_frame_get_slot(writable, &slot) == BIPS_OK);
    CHECK(slot.nbytes >= 64 && slot.index < 4);
    memset(slot.data, 7, 64);
    description.shape = smaller;
    description.ndim = 2;
    description.timestamp_ns = 12345;
    description.metadata = "hello";
    description.metadata_size = 5;
    CHECK(bips_writable_frame_publish(writable, &description, NULL, &sequence) == BIPS_OK);
    CHECK(sequence == 0);

    bips_frame *frame = received(consumer);
    CHECK(bips_frame_get_info(frame, &info) == BIPS_OK);
    CHECK(info.size == sizeof info && info.sequence == 0 && info.timestamp_ns == 12345 && info.readonly == 1);
    CHECK(info.content.ndim == 2 && info.content.shape[0] == 2 && info.content.shape[1] == 16);
    CHECK(info.content.strides[0] == 16 && info.content.strides[1] == 1 && info.content.nbytes == 32);
    CHECK(strcmp(bips_dtype_name(info.content.dtype), "uint8") == 0);
    CHECK(info.metadata_size == 5 && memcmp(info.metadata, "hello", 5) == 0);
    CHECK(bips_frame_data(frame, &data, &nbytes) == BIPS_OK);
    CHECK(data == info.data && nbytes == 32 && ((const unsigned char *)data)[31] == 7);
    CHECK(bips_frame_copy(frame, 60, copy, 4) == BIPS_OK && copy[3] == 7);
    CHECK(bips_frame_release(frame, NULL) == BIPS_OK);
    CHECK(bips_consumer_destroy(consumer) == BIPS_OK);
    CHECK(bips_producer_destroy(producer) == BIPS_OK);
}

static void an_image_has_planes(void)
{
    bips_producer_options options = bips_producer_options_init();
    bips_producer *producer = NULL;
    bips_layout layout = bips_layout_init();
    options.format = "NV12";
    options.width = 64;
    options.height = 32;
    NEED(bips_producer_create("image", &options, &producer) == BIPS_OK);
    CHECK(bips_producer_get_layout(producer, &layout) == BIPS_OK);
    CHECK(layout.content.nplanes == 2 && layout.content.planes[1].offset == 64 * 32);
    CHECK(layout.content.width == 64 && layout.content.height == 32 && layout.slots == 4);
    CHECK(strcmp(layout.memory, "memfd") == 0 && layout.writable == 0 && layout.max_held == 2);
    bips_producer_destroy(producer);
}

static void policies_and_limits(void)
{
    bips_producer *producer = bytes_producer("policies");
    bips_consumer_options options = bips_consumer_options_init();
    bips_consumer *consumer = NULL;
    bips_frame *held[3] = {NULL, NULL, NULL};
    bips_consumer_stats stats = bips_consumer_stats_init();
    int i;
    options.policy = "latest";
    NEED(bips_consumer_connect("policies", &options, 0, &consumer) == BIPS_OK);
    CHECK(bips_consumer_receive(consumer, 0, &held[0]) == BIPS_TIMEOUT);
    CHECK(bips_consumer_receive(consumer, 1000000, &held[0]) == BIPS_TIMEOUT);
    publish(producer, 99);
    bips_frame_release(received(consumer), NULL);
    for (i = 0; i < 6; i++) publish(producer, (unsigned char)i);
    held[0] = received(consumer);
    CHECK(bips_consumer_get_stats(consumer, &stats) == BIPS_OK);
    CHECK(stats.received == 2 && stats.missed == 5 && stats.held == 1);
    publish(producer, 6);
    held[1] = received(consumer);
    publish(producer, 7);
    CHECK(bips_consumer_receive(consumer, 0, &held[2]) == BIPS_TOO_MANY_HELD);
    CHECK(held[2] == NULL);
    CHECK(bips_frame_release(held[0], NULL) == BIPS_OK);
    held[2] = received(consumer);
    bips_frame_release(held[1], NULL);
    bips_frame_release(held[2], NULL);
    bips_consumer_destroy(consumer);
    options.policy = "keep-last:99";
    CHECK(bips_consumer_connect("policies", &options, 0, &consumer) == BIPS_INVALID_ARGUMENT);
    bips_producer_destroy(producer);
}

static void the_end_is_told(void)
{
    bips_producer *producer = bytes_producer("end");
    bips_consumer *consumer = connected("end");
    bips_frame *frame = NULL;
    bips_ending ending = BIPS_ENDED_DIED;
    CHECK(bips_consumer_get_ending(consumer, &ending) == BIPS_OK && ending == BIPS_NOT_ENDED);
    publish(producer, 1);
    CHECK(bips_producer_close(producer) == BIPS_OK && bips_producer_close(producer) == BIPS_OK);
    frame = received(consumer);
    bips_frame_release(frame, NULL);
    CHECK(bips_consumer_receive(consumer, SOON, &frame) == BIPS_CLOSED);
    CHECK(bips_consumer_get_ending(consumer, &ending) == BIPS_OK && ending == BIPS_ENDED_CLOSED);
    bips_writable_frame *writable = NULL;
    CHECK(bips_producer_acquire(producer, 0, &writable) == BIPS_CLOSED);
    bips_consumer_destroy(consumer);
    bips_producer_destroy(producer);
}

static void a_descriptor_to_poll(void)
{
    bips_producer *producer = bytes_producer("poll");
    bips_consumer *consumer = connected("poll");
    bips_frame *frame = NULL;
    struct pollfd poll_fd = {-1, POLLIN, 0};
    NEED(bips_consumer_poll_fd(consumer, &poll_fd.fd) == BIPS_OK);
    while (bips_consumer_receive(consumer, 0, &frame) != BIPS_TIMEOUT) {
    }
    CHECK(poll(&poll_fd, 1, 0) == 0);
    publish(producer, 3);
    CHECK(poll(&poll_fd, 1, 10000) == 1);
    frame = received(consumer);
    bips_frame_release(frame, NULL);
    bips_consumer_destroy(consumer);
    bips_producer_destroy(producer);
}

static void the_memory_s_descriptor(void)
{
    bips_producer *producer = bytes_producer("fd");
    bips_consumer *consumer = connected("fd");
    int fd = -1;
    uint64_t offset = 0;
    publish(producer, 42);
    bips_frame *frame = received(consumer);
    NEED(bips_frame_fd(frame, &fd, &offset) == BIPS_OK);
    unsigned char *map = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, (off_t)offset);
    NEED(map != MAP_FAILED);
    CHECK(map[0] == 42 && map[63] == 42);
    munmap(map, 4096);
    CHECK(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)offset) == MAP_FAILED);
    close(fd);
    bips_frame_release(frame, NULL);
    bips_consumer_destroy(consumer);
    bips_producer_destroy(producer);
}

static void a_private_view(void)
{
    bips_producer *producer = bytes_producer("private");
    bips_consumer *consumer = connected("private");
    bips_private_view *view = NULL, *second = NULL;
    void *data = NULL;
    const void *shared = NULL;
    publish(producer, 5);
    bips_frame *frame = received(consumer);
    NEED(bips_frame_private_view(frame, &view, &data) == BIPS_OK);
    CHECK(bips_frame_private_view(frame, &second, &data) == BIPS_INVALID_ARGUMENT);
    CHECK(bips_frame_data(frame, &shared, NULL) == BIPS_OK);
    ((unsigned char *)data)[0] = 9;
    CHECK(((const unsigned char *)shared)[0] == 5 && ((unsigned char *)data)[1] == 5);
    bips_frame_release(frame, NULL);
    CHECK(((unsigned char *)data)[0] == 9);
    CHECK(bips_private_view_destroy(view) == BIPS_OK);
    CHECK(bips_private_view_destroy(view) == BIPS_INVALID_ARGUMENT);
    bips_consumer_destroy(consumer);
    bips_producer_destroy(producer);
}

static void *delete_tensor(void *tensor)
{
    ((Managed *)tensor)->deleter((Managed *)tensor);
    return NULL;
}

static uint32_t held(bips_consumer *consumer)
{
    bips_consumer_stats stats = bips_consumer_stats_init();
    CHECK(bips_consumer_get_stats(consumer, &stats) == BIPS_OK);
    return stats.held;
}

static void tensors(void)
{
    const uint64_t shape[] = {2, 8};
    bips_producer *producer = tensor_producer("tensors", shape, 2);
    bips_consumer *consumer = connected("tensors");
    DLManagedTensorVersioned *given = NULL;
    bips_writable_frame *writable = NULL;
    pthread_t thread;
    const void *data = NULL;
    bips_frame *frame;
    Managed *tensor;

    NEED(bips_producer_acquire(producer, SOON, &writable) == BIPS_OK);
    NEED(bips_writable_frame_dlpack(writable, -1, &given) == BIPS_OK);
    tensor = (Managed *)given;
    CHECK((tensor->flags & READ_ONLY) == 0);
    memset(tensor->tensor.data, 8, 16);
    tensor->deleter(tensor);
    CHECK(bips_writable_frame_publish(writable, NULL, NULL, NULL) == BIPS_OK);

    frame = received(consumer);
    CHECK(bips_frame_dlpack(frame, 1, &given) == BIPS_INVALID_ARGUMENT);
    CHECK(bips_frame_dlpack(frame, -2, &given) == BIPS_INVALID_ARGUMENT);
    NEED(bips_frame_dlpack(frame, -1, &given) == BIPS_OK);
    tensor = (Managed *)given;
    CHECK(bips_frame_data(frame, &data, NULL) == BIPS_OK && tensor->tensor.data == data);
    CHECK(tensor->major == 1 && (tensor->flags & READ_ONLY) != 0 && tensor->tensor.device_type == 1);
    CHECK(tensor->tensor.ndim == 2 && tensor->tensor.shape[1] == 8 && tensor->tensor.strides[0] == 8);
    CHECK(tensor->tensor.code == 1 && tensor->tensor.bits == 8 && tensor->tensor.lanes == 1);
    bips_frame_release(frame, NULL);
    CHECK(held(consumer) == 1);
    CHECK(((unsigned char *)tensor->tensor.data)[15] == 8);
    pthread_create(&thread, NULL, delete_tensor, tensor);
    pthread_join(thread, NULL);
    CHECK(held(consumer) == 0);
    bips_consumer_destroy(consumer);
    bips_producer_destroy(producer);
}

/* A device whose work goes on by one with every question. */
typedef struct {
    uint64_t value;
    int waits, destroyed, broken;
} Device;

static int32_t device_value(void *context, uint64_t *value)
{
    Device *device = context;
    *value = device->value++;
    return device->broken;
}

static int32_t device_wait(void *context, uint64_t value, int64_t timeout_ns)
{
    Device *device = context;
    (void)timeout_ns;
    device->waits++;
    device->value = value;
    return 0;
}

static void device_destroy(void *context)
{
    ((Device *)context)->destroyed++;
}

static void fences(void)
{
    bips_producer *producer = bytes_producer("fences");
    bips_consumer *consumer = connected("fences");
    bips_timeline_functions functions = bips_timeline_functions_init();
    Device device = {0, 0, 0, 0};
    bips_fence fence = {NULL, 3};
    bips_writable_frame *writable = NULL;
    bips_timeline *timeline = NULL;
    bips_frame *frame = NULL;
    CHECK(bips_timeline_create(&functions, &timeline) == BIPS_INVALID_ARGUMENT);
    functions.context = &device;
    functions.value = device_value;
    functions.destroy = device_destroy;
    NEED(bips_timeline_create(&functions, &timeline) == BIPS_OK);
    fence.timeline = timeline;
    NEED(bips_producer_acquire(producer, SOON, &writable) == BIPS_OK);
    CHECK(bips_writable_frame_publish(writable, NULL, &fence, NULL) == BIPS_OK);
    CHECK(device.value > 3);
    CHECK(bips_timeline_destroy(timeline) == BIPS_OK && device.destroyed == 1);
    CHECK(bips_timeline_destroy(timeline) == BIPS_INVALID_ARGUMENT);

    functions.wait = device_wait;
    NEED(bips_timeline_create(&functions, &timeline) == BIPS_OK);
    fence.timeline = timeline;
    fence.value = 1000;
    frame = received(consumer);
    CHECK(bips_frame_release(frame, &fence) == BIPS_OK);
    CHECK(device.waits == 1 && held(consumer) == 0);

    /* A device that is lost: nothing is published, and nothing is leaked. */
    device.broken = 77;
    NEED(bips_producer_acquire(producer, SOON, &writable) == BIPS_OK);
    CHECK(bips_writable_frame_publish(writable, NULL, &fence, NULL) == BIPS_SYSTEM);
    CHECK(strstr(bips_last_error_message(), "77") != NULL);
    CHECK(bips_writable_frame_cancel(writable) == BIPS_INVALID_ARGUMENT);
    CHECK(bips_consumer_receive(consumer, 0, &frame) == BIPS_TIMEOUT);
    bips_timeline_destroy(timeline);
    bips_consumer_destroy(consumer);
    bips_producer_destroy(producer);
}

static void count(const char *name, void *counter)
{
    *(int *)counter += strncmp(name, "facts", 5) == 0;
}

static void count_check(const bips_check *check, void *counter)
{
    *(int *)counter += check->name != NULL && check->detail != NULL && check->status <= BIPS_CHECK_SKIP;
}

static void facts(void)
{
    bips_producer *producer = bytes_producer("facts");
    bips_consumer *one = connected("facts"), *two = connected("facts");
    bips_producer_stats stats = bips_producer_stats_init();
    bips_stream_info info = bips_stream_info_init();
    bips_consumer_state states[2];
    size_t found = 0;
    int streams = 0, checks = 0;
    publish(producer, 1);
    CHECK(bips_producer_get_stats(producer, &stats) == BIPS_OK);
    CHECK(stats.published == 1 && stats.consumers == 2 && stats.pool_bytes >= 4 * 4096);
    CHECK(bips_producer_get_consumers(producer, NULL, 0, &found) == BIPS_OK && found == 2);
    CHECK(bips_producer_get_consumers(producer, states, 1, &found) == BIPS_INVALID_ARGUMENT && found == 2);
    CHECK(bips_producer_get_consumers(producer, states, 2, &found) == BIPS_OK);
    CHECK(states[0].pid == (uint32_t)getpid() && states[1].unread == 1 && states[0].keep_last == 0);
    found = 0;
    CHECK(bips_query("facts", NULL, &info, states, 2, &found) == BIPS_OK);
    CHECK(info.published == 1 && found == 2 && info.layout.slots == 4 && info.pid == (uint32_t)getpid());
    CHECK(bips_streams(NULL, count, &streams) == BIPS_OK && streams == 1);
    CHECK(bips_doctor(NULL, count_check, &checks) == BIPS_OK && checks >= 3);
    bips_consumer_destroy(one);
    bips_consumer_destroy(two);
    bips_producer_destroy(producer);
}

/* What does not */

static void null_is_refused(void)
{
    bips_producer_options options = bips_producer_options_init();
    bips_producer *producer = NULL;
    bips_frame *frame = NULL;
    bips_writable_frame *writable = NULL;
    options.bytes = 64;
    CHECK(bips_producer_create(NULL, &options, &producer) == BIPS_INVALID_ARGUMENT);
    CHECK(bips_producer_create("null", NULL, &producer) == BIPS_INVALID_ARGUMENT);
    CHECK(bips_producer_create("null", &options, NULL) == BIPS_INVALID_ARGUMENT);
    CHECK(bips_consumer_connect(NULL, NULL, 0, NULL) == BIPS_INVALID_ARGUMENT);
    CHECK(bips_producer_acquire(NULL, 0, &writable) == BIPS_INVALID_ARGUMENT);
    CHECK(bips_consumer_receive(NULL, 0, &frame) == BIPS_INVALID_ARGUMENT);
    CHECK(strstr(bips_last_error_message(), "NULL") != NULL);
    CHECK(bips_writable_frame_publish(NULL, NULL, NULL, NULL) == BIPS_INVALID_ARGUMENT);
    CHECK(bips_frame_get_info(NULL, NULL) == BIPS_INVALID_ARGUMENT);
    CHECK(bips_streams(NULL, NULL, NULL) == BIPS_INVALID_ARGUMENT);
    CHECK(bips_doctor(NULL, NULL, NULL) == BIPS_INVALID_ARGUMENT);
    CHECK(bips_timeline_create(NULL, NULL) == BIPS_INVALID_ARGUMENT);
    /* As free() does. */
    CHECK(bips_producer_destroy(NULL) == BIPS_OK && bips_consumer_destroy(NULL) == BIPS_OK);
    CHECK(bips_frame_release(NULL, NULL) == BIPS_OK && bips_writable_frame_cancel(NULL) == BIPS_OK);
    CHECK(bips_private_view_destroy(NULL) == BIPS_OK);
}

static void handles_end_once(void)
{
    bips_producer *producer = bytes_producer("ended");
    bips_consumer *consumer = connected("ended");
    bips_writable_frame *writable = NULL;
    bips_frame_info info = bips_frame_info_init();
    publish(producer, 1);
    bips_frame *frame = received(consumer);
    CHECK(bips_frame_release(frame, NULL) == BIPS_OK);
    CHECK(bips_frame_release(frame, NULL) == BIPS_INVALID_ARGUMENT);
    CHECK(bips_frame_get_info(frame, &info) == BIPS_INVALID_ARGUMENT);
    NEED(bips_producer_acquire(producer, SOON, &writable) == BIPS_OK);
    CHECK(bips_writable_frame_cancel(writable) == BIPS_OK);
    CHECK(bips_writable_frame_publish(writable, NULL, NULL, NULL) == BIPS_INVALID_ARGUMENT);
    /* Of another type, and never one. */
    CHECK(bips_frame_release((bips_frame *)(void *)consumer, NULL) == BIPS_INVALID_ARGUMENT);
    CHECK(bips_consumer_destroy((bips_consumer *)(void *)&info) == BIPS_INVALID_ARGUMENT);
    CHECK(bips_consumer_destroy(consumer) == BIPS_OK);
    CHECK(bips_consumer_destroy(consumer) == BIPS_INVALID_ARGUMENT);
    CHECK(bips_producer_destroy(producer) == BIPS_OK);
    CHECK(bips_producer_destroy(producer) == BIPS_INVALID_ARGUMENT);
    CHECK(bips_producer_close(producer) == BIPS_INVALID_ARGUMENT);
}

static void sizes_are_checked(void)
{
    struct {
        bips_producer_options options;
        uint64_t later[2];
    } bigger;
    bips_producer *producer = NULL;
    bips_layout layout = bips_layout_init();
    memset(&bigger, 0, sizeof bigger);
    bigger.options.bytes = 64;
    CHECK(bips_producer_create("sizes", &bigger.options, &producer) == BIPS_INVALID_ARGUMENT);
    bigger.options.size = 8;
    CHECK(bips_producer_create("sizes", &bigger.options, &producer) == BIPS_INVALID_ARGUMENT);
    bigger.options.size = (size_t)-1;
    CHECK(bips_producer_create("sizes", &bigger.options, &producer) == BIPS_INVALID_ARGUMENT);
    CHECK(strstr(bips_last_error_message(), "sizeof(bips_producer_options)") != NULL);
    /* A newer program: what it does not use may be there, what it uses is missed. */
    bigger.options.size = sizeof bigger;
    bigger.later[1] = 1;
    CHECK(bips_producer_create("sizes", &bigger.options, &producer) == BIPS_UNSUPPORTED);
    bigger.later[1] = 0;
    CHECK(bips_producer_create("sizes", &bigger.options, &producer) == BIPS_OK);
    layout.size = 0;
    CHECK(bips_producer_get_layout(producer, &layout) == BIPS_INVALID_ARGUMENT);
    bips_producer_destroy(producer);
}

static void nonsense_is_refused(void)
{
    bips_producer_options options = bips_producer_options_init();
    bips_producer *producer = NULL;
    bips_dtype dtype;
    CHECK(bips_producer_create("nothing", &options, &producer) == BIPS_INVALID_ARGUMENT);
    options.bytes = 64;
    CHECK(bips_producer_create("\xff\xfe", &options, &producer) == BIPS_INVALID_ARGUMENT);
    CHECK(strstr(bips_last_error_message(), "UTF-8") != NULL);
    CHECK(bips_producer_create("../up", &options, &producer) == BIPS_INVALID_ARGUMENT);
    options.format = "RGB3";
    CHECK(bips_producer_create("both", &options, &producer) == BIPS_INVALID_ARGUMENT);
    options.format = NULL;
    options.on_stall = "sometimes";
    CHECK(bips_producer_create("stall", &options, &producer) == BIPS_INVALID_ARGUMENT);
    options.on_stall = NULL;
    options.memory = "floppy";
    CHECK(bips_producer_create("memory", &options, &producer) != BIPS_OK);
    options.memory = NULL;
    options.usage = 1u << 31;
    CHECK(bips_producer_create("usage", &options, &producer) == BIPS_INVALID_ARGUMENT);
    options.usage = 0;
    options.ndim = 3;
    CHECK(bips_producer_create("shape", &options, &producer) == BIPS_INVALID_ARGUMENT);
    options.ndim = 0;
    options.directory = "/nonexistent";
    CHECK(bips_producer_create("directory", &options, &producer) == BIPS_NOT_FOUND);
    CHECK(bips_dtype_parse("uint9", &dtype) == BIPS_INVALID_ARGUMENT);
    CHECK(strstr(bips_last_error_message(), "uint8") != NULL);
    CHECK(producer == NULL);
}

static void too_much_is_refused(void)
{
    bips_producer *producer = bytes_producer("much");
    bips_consumer *consumer = connected("much");
    bips_description description = bips_description_init();
    bips_writable_frame *writable = NULL;
    char metadata[257] = {0};
    const uint64_t shape[] = {1u << 20};
    unsigned char byte = 0;
    description.metadata = metadata;
    description.metadata_size = sizeof metadata;
    NEED(bips_producer_acquire(producer, SOON, &writable) == BIPS_OK);
    CHECK(bips_writable_frame_publish(writable, &description, NULL, NULL) == BIPS_INVALID_ARGUMENT);
    description.metadata_size = 256;
    description.shape = shape;
    description.ndim = 1;
    NEED(bips_producer_acquire(producer, SOON, &writable) == BIPS_OK);
    CHECK(bips_writable_frame_publish(writable, &description, NULL, NULL) == BIPS_INVALID_ARGUMENT);
    publish(producer, 1);
    bips_frame *frame = received(consumer);
    CHECK(bips_frame_copy(frame, (size_t)-1, &byte, 2) == BIPS_INVALID_ARGUMENT);
    CHECK(bips_frame_copy(frame, 4096, &byte, 1) == BIPS_INVALID_ARGUMENT);
    CHECK(bips_frame_copy(frame, 0, NULL, 1) == BIPS_INVALID_ARGUMENT);
    bips_frame_release(frame, NULL);
    bips_consumer_destroy(consumer);
    bips_producer_destroy(producer);
}

static void *wait_for_a_frame(void *consumer)
{
    bips_frame *frame = NULL;
    bips_status status;
    do {
        status = bips_consumer_receive(consumer, SOON, &frame);
    } while (status == BIPS_INVALID_ARGUMENT); /* the other thread looks just now */
    CHECK(status == BIPS_OK);
    bips_frame_release(frame, NULL);
    return NULL;
}

static void threads(void)
{
    bips_producer *producer = bytes_producer("threads");
    bips_consumer *consumer = connected("threads");
    bips_consumer_stats stats = bips_consumer_stats_init();
    pthread_t thread;
    bips_status status;
    pthread_create(&thread, NULL, wait_for_a_frame, consumer);
    do {
        usleep(1000);
        status = bips_consumer_get_stats(consumer, &stats);
    } while (status == BIPS_OK);
    CHECK(status == BIPS_INVALID_ARGUMENT && strstr(bips_last_error_message(), "another thread") != NULL);
    CHECK(bips_consumer_destroy(consumer) == BIPS_INVALID_ARGUMENT);
    publish(producer, 1);
    pthread_join(thread, NULL);
    CHECK(bips_consumer_destroy(consumer) == BIPS_OK);
    bips_producer_destroy(producer);
}

static void *other_error(void *said)
{
    CHECK(strcmp(bips_last_error_message(), "") == 0);
    bips_producer_close(NULL);
    *(int *)said = strstr(bips_last_error_message(), "NULL") != NULL;
    return NULL;
}

static void errors_are_of_their_thread(void)
{
    pthread_t thread;
    int said = 0;
    char before[200];
    bips_dtype_parse("uint9", NULL);
    snprintf(before, sizeof before, "%s", bips_last_error_message());
    pthread_create(&thread, NULL, other_error, &said);
    pthread_join(thread, NULL);
    CHECK(said == 1 && strncmp(before, bips_last_error_message(), 199) == 0);
}

static void forks(void)
{
    bips_producer *producer = bytes_producer("fork");
    bips_consumer *consumer = connected("fork");
    /* Not the child's exit status, which is valgrind's under valgrind. */
    volatile int *good = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    publish(producer, 1);
    bips_frame *frame = received(consumer);
    pid_t child = fork();
    if (child == 0) {
        unsigned char byte;
        bips_frame *none = NULL;
        bips_writable_frame *writable = NULL;
        *good = bips_consumer_receive(consumer, 0, &none) == BIPS_FORKED &&
                   bips_producer_acquire(producer, 0, &writable) == BIPS_FORKED &&
                   bips_frame_copy(frame, 0, &byte, 1) == BIPS_FORKED &&
                   bips_frame_release(frame, NULL) == BIPS_OK && bips_consumer_destroy(consumer) == BIPS_OK &&
                   bips_producer_destroy(producer) == BIPS_OK;
        _exit(0);
    }
    waitpid(child, NULL, 0);
    CHECK(*good == 1);
    munmap((void *)good, 4096);
    CHECK(held(consumer) == 1);
    CHECK(bips_frame_release(frame, NULL) == BIPS_OK);
    publish(producer, 2);
    frame = received(consumer);
    bips_frame_release(frame, NULL);
    bips_consumer_destroy(consumer);
    bips_producer_destroy(producer);
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    RUN(versions);
    RUN(a_frame_goes_round);
    RUN(an_image_has_planes);
    RUN(policies_and_limits);
    RUN(the_end_is_told);
    RUN(a_descriptor_to_poll);
    RUN(the_memory_s_descriptor);
    RUN(a_private_view);
    RUN(tensors);
    RUN(fences);
    RUN(facts);
    RUN(null_is_refused);
    RUN(handles_end_once);
    RUN(sizes_are_checked);
    RUN(nonsense_is_refused);
    RUN(too_much_is_refused);
    RUN(threads);
    RUN(errors_are_of_their_thread);
    RUN(forks);
    return check_failures == 0 ? 0 : 1;
}
