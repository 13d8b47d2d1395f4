/* Frames as DLPack tensors, and fences on timelines of our own. */
#define _GNU_SOURCE
#include "dlpack.h"
#include "stream.h"

#include <pthread.h>
#include <stdatomic.h>

static uint32_t held_by(const bips_consumer *consumer) {
    bips_consumer_stats stats = bips_consumer_stats_init();
    return bips_consumer_get_stats(consumer, &stats) == BIPS_OK ? stats.held : 99;
}

static void *delete_tensor(void *tensor) {
    DLManagedTensorVersioned *const managed = (DLManagedTensorVersioned *)tensor;
    managed->deleter(managed);
    return NULL;
}

/* For who takes nothing newer. */
static void a_frame_is_a_tensor_of_old(void) {
    bips_producer *producer = NULL;
    bips_consumer *consumer = NULL;
    bips_frame *frame = NULL;
    bips_writable_frame *slot = NULL;
    DLManagedTensor *tensor = NULL, *plane = NULL, *writes = NULL;
    bips_producer_options options = bips_producer_options_init();
    options.format = "NV12";
    options.width = 64;
    options.height = 32;
    OK(bips_producer_create("old", &options, &producer));
    OK(join("old", NULL, &consumer));
    OK(bips_producer_acquire(producer, PATIENCE_NS, &slot));
    OK(bips_writable_frame_dlpack_legacy(slot, -1, &writes));
    CHECK(writes->dl_tensor.byte_offset == 0 && writes->dl_tensor.ndim == 2 && writes->dl_tensor.dtype.bits == 8);
    check_fill(writes->dl_tensor.data, 64 * 48, 9);
    writes->deleter(writes);
    FAILS(BIPS_INVALID_ARGUMENT, "plane", bips_writable_frame_dlpack_legacy(slot, 2, &writes));
    OK(bips_writable_frame_publish(slot, NULL, NULL, NULL));
    OK(bips_consumer_receive(consumer, PATIENCE_NS, &frame));
    OK(bips_frame_dlpack_legacy(frame, -1, &tensor));
    OK(bips_frame_dlpack_legacy(frame, 1, &plane));
    const void *data = NULL;
    OK(bips_frame_data(frame, &data, NULL));
    CHECK(tensor->dl_tensor.data == data && plane->dl_tensor.data == (const char *)data + 64 * 32);
    FAILS(BIPS_INVALID_ARGUMENT, "plane", bips_frame_dlpack_legacy(frame, -2, &writes));
    FAILS(BIPS_INVALID_ARGUMENT, "NULL", bips_frame_dlpack_legacy(frame, -1, NULL));
    OK(bips_frame_release(frame, NULL));
    tensor->deleter(tensor);
    CHECK(held_by(consumer) == 1 && check_filled(data, 64 * 48, 9));
    plane->deleter(plane);
    CHECK(held_by(consumer) == 0);
    OK(bips_consumer_destroy(consumer));
    OK(bips_producer_destroy(producer));
}

static void a_frame_is_a_tensor(void) {
    bips_producer *producer = NULL;
    bips_consumer *consumer = NULL;
    bips_frame *frame = NULL;
    DLManagedTensorVersioned *tensor = NULL, *second = NULL;
    const uint64_t shape[] = {5, 4, 3};
    bips_producer_options options = bips_producer_options_init();
    options.dtype = "int16";
    options.shape = shape;
    options.ndim = 3;
    OK(bips_producer_create("tensor", &options, &producer));
    OK(join("tensor", NULL, &consumer));
    OK(send(producer, 6, NULL));
    OK(bips_consumer_receive(consumer, PATIENCE_NS, &frame));
    OK(bips_frame_dlpack(frame, -1, &tensor));
    OK(bips_frame_dlpack(frame, -1, &second));
    CHECK(tensor->version.major == 1 && tensor->flags == DLPACK_FLAG_BITMASK_READ_ONLY);
    const DLTensor *const it = &tensor->dl_tensor;
    CHECK(it->device.device_type == 1 && it->device.device_id == 0 && it->byte_offset == 0 && it->ndim == 3);
    CHECK(it->dtype.code == 0 && it->dtype.bits == 16 && it->dtype.lanes == 1);
    CHECK(it->shape[0] == 5 && it->shape[1] == 4 && it->shape[2] == 3);
    CHECK(it->strides[0] == 12 && it->strides[1] == 3 && it->strides[2] == 1);
    const void *data = NULL;
    OK(bips_frame_data(frame, &data, NULL));
    CHECK(it->data == data && second->dl_tensor.data == data);

    /* They hold the lease: it is given back by the last of them, on whatever thread. */
    OK(bips_frame_release(frame, NULL));
    CHECK(held_by(consumer) == 1 && check_filled(it->data, 5 * 4 * 3 * 2, 6));
    second->deleter(second);
    CHECK(held_by(consumer) == 1);
    pthread_t other;
    CHECK(pthread_create(&other, NULL, delete_tensor, tensor) == 0 && pthread_join(other, NULL) == 0);
    CHECK(held_by(consumer) == 0);

    /* A tensor outlives consumer and producer. */
    OK(send(producer, 7, NULL));
    OK(bips_consumer_receive(consumer, PATIENCE_NS, &frame));
    OK(bips_frame_dlpack(frame, 0, &tensor));
    OK(bips_frame_release(frame, NULL));
    OK(bips_consumer_destroy(consumer));
    OK(bips_producer_destroy(producer));
    CHECK(check_filled(tensor->dl_tensor.data, 120, 7));
    tensor->deleter(tensor);
}

static void a_plane_is_a_tensor(void) {
    bips_producer *producer = NULL;
    bips_consumer *consumer = NULL;
    bips_frame *frame = NULL;
    DLManagedTensorVersioned *tensor = NULL;
    bips_producer_options options = bips_producer_options_init();
    options.format = "NV12";
    options.width = 64;
    options.height = 32;
    OK(bips_producer_create("planes", &options, &producer));
    OK(join("planes", NULL, &consumer));
    OK(send(producer, 1, NULL));
    OK(bips_consumer_receive(consumer, PATIENCE_NS, &frame));
    const void *data = NULL;
    OK(bips_frame_data(frame, &data, NULL));
    OK(bips_frame_dlpack(frame, 1, &tensor));
    const DLTensor *const it = &tensor->dl_tensor;
    CHECK((const char *)it->data + it->byte_offset == (const char *)data + 64 * 32);
    int64_t elements = 1;
    for (int i = 0; i < it->ndim; i++) elements *= it->shape[i];
    CHECK(elements == 64 * 16 && it->shape[0] == 16);
    tensor->deleter(tensor);
    tensor = NULL;
    FAILS(BIPS_INVALID_ARGUMENT, "", bips_frame_dlpack(frame, 2, &tensor));
    FAILS(BIPS_INVALID_ARGUMENT, "-2 is no plane", bips_frame_dlpack(frame, -2, &tensor));
    CHECK(tensor == NULL);
    OK(bips_frame_release(frame, NULL));
    CHECK(held_by(consumer) == 0);
    OK(bips_consumer_destroy(consumer));
    OK(bips_producer_destroy(producer));
}

static void a_slot_is_a_tensor(void) {
    bips_producer *producer = NULL;
    bips_consumer *consumer = NULL;
    bips_frame *frame = NULL;
    bips_writable_frame *writable = NULL, *others[4] = {NULL, NULL, NULL, NULL};
    DLManagedTensorVersioned *tensor = NULL;
    OK(make_bytes("slot", 4096, &producer));
    OK(join("slot", "latest", &consumer));
    OK(bips_producer_acquire(producer, 0, &writable));
    OK(bips_writable_frame_dlpack(writable, -1, &tensor));
    CHECK((tensor->flags & DLPACK_FLAG_BITMASK_READ_ONLY) == 0 && tensor->dl_tensor.shape[0] == 4096);
    check_fill(tensor->dl_tensor.data, 4096, 3);
    OK(bips_writable_frame_publish(writable, NULL, NULL, NULL));
    OK(bips_consumer_receive(consumer, PATIENCE_NS, &frame));
    const void *data = NULL;
    OK(bips_frame_data(frame, &data, NULL));
    CHECK(check_filled(data, 4096, 3));
    OK(bips_frame_release(frame, NULL));
    /* Not taken again while the tensor lives. */
    for (int i = 0; i < 3; i++) OK(bips_producer_acquire(producer, 0, &others[i]));
    FAILS(BIPS_TIMEOUT, "", bips_producer_acquire(producer, 0, &others[3]));
    tensor->deleter(tensor);
    OK(bips_producer_acquire(producer, 0, &others[3]));
    for (int i = 0; i < 4; i++) OK(bips_writable_frame_cancel(others[i]));
    OK(bips_consumer_destroy(consumer));
    OK(bips_producer_destroy(producer));
}

/* A device that works on, or doesn't. */
struct device {
    atomic_uint_least64_t reached;
    atomic_int asked, waited, destroyed;
    int32_t broken;
    int32_t wait_broken;
};

static int32_t device_value(void *context, uint64_t *value) {
    struct device *const device = (struct device *)context;
    atomic_fetch_add(&device->asked, 1);
    *value = atomic_load(&device->reached);
    return device->broken;
}

static int32_t device_wait(void *context, uint64_t value, int64_t timeout_ns) {
    struct device *const device = (struct device *)context;
    (void)timeout_ns;
    atomic_fetch_add(&device->waited, 1);
    if (device->wait_broken != 0) return device->wait_broken;
    while (atomic_load(&device->reached) < value) usleep(100);
    return 0;
}

static void device_destroy(void *context) { atomic_fetch_add(&((struct device *)context)->destroyed, 1); }

static bips_status timeline_of(struct device *device, int waits, bips_timeline **timeline) {
    bips_timeline_functions functions = bips_timeline_functions_init();
    functions.context = device;
    functions.value = device_value;
    functions.wait = waits ? device_wait : NULL;
    functions.destroy = device_destroy;
    return bips_timeline_create(&functions, timeline);
}

static void *work_on(void *context) {
    struct device *const device = (struct device *)context;
    while (atomic_load(&device->asked) < 3) usleep(100);
    usleep(5000);
    atomic_fetch_add(&device->reached, 10);
    return NULL;
}

static void *work_on_when_waited_for(void *context) {
    struct device *const device = (struct device *)context;
    while (atomic_load(&device->waited) < 1) usleep(100);
    atomic_fetch_add(&device->reached, 10);
    return NULL;
}

static void frames_come_when_the_device_is_done(void) {
    for (int waits = 0; waits < 2; waits++) {
        struct device device = {0};
        bips_timeline *timeline = NULL;
        bips_producer *producer = NULL;
        bips_consumer *consumer = NULL;
        bips_writable_frame *writable = NULL;
        bips_frame *frame = NULL;
        uint64_t sequence = 99;
        pthread_t worker;
        OK(timeline_of(&device, waits, &timeline));
        OK(make_bytes("fences", 64, &producer));
        OK(join("fences", NULL, &consumer));
        OK(bips_producer_acquire(producer, 0, &writable));
        const bips_fence ready = {timeline, 10}, done = {timeline, 20}, past = {timeline, 5}, none = {NULL, 7};
        CHECK(pthread_create(&worker, NULL, waits ? work_on_when_waited_for : work_on, &device) == 0);
        OK(bips_writable_frame_publish(writable, NULL, &ready, &sequence));
        CHECK(sequence == 0);
        OK(bips_consumer_receive(consumer, PATIENCE_NS, &frame));
        CHECK(atomic_load(&device.reached) == 10 && atomic_load(&device.waited) == waits);
        CHECK(pthread_join(worker, NULL) == 0);
        atomic_store(&device.asked, 0);
        atomic_store(&device.waited, 0);
        CHECK(pthread_create(&worker, NULL, waits ? work_on_when_waited_for : work_on, &device) == 0);
        OK(bips_frame_release(frame, &done));
        while (held_by(consumer) != 0) usleep(100);
        CHECK(atomic_load(&device.reached) == 20);
        CHECK(pthread_join(worker, NULL) == 0);

        OK(bips_producer_acquire(producer, 0, &writable));
        OK(bips_writable_frame_publish(writable, NULL, &past, &sequence));
        OK(bips_consumer_receive(consumer, PATIENCE_NS, &frame));
        OK(bips_frame_release(frame, &none));
        CHECK(sequence == 1 && held_by(consumer) == 0 && atomic_load(&device.destroyed) == 0);
        OK(bips_timeline_destroy(timeline));
        while (!atomic_load(&device.destroyed)) usleep(100);
        OK(bips_consumer_destroy(consumer));
        OK(bips_producer_destroy(producer));
    }
}

static void what_a_device_says_is_told(void) {
    struct device device = {0};
    bips_timeline *timeline = NULL;
    bips_producer *producer = NULL;
    bips_consumer *consumer = NULL;
    bips_writable_frame *writable = NULL;
    bips_frame *frame = NULL;
    OK(timeline_of(&device, 1, &timeline));
    OK(make_bytes("broken", 64, &producer));
    OK(join("broken", NULL, &consumer));
    const bips_fence fence = {timeline, 1};
    /* The frame is not published, and its handle has ended. */
    device.broken = 719;
    OK(bips_producer_acquire(producer, 0, &writable));
    FAILS(BIPS_SYSTEM, "719", bips_writable_frame_publish(writable, NULL, &fence, NULL));
    FAILS(BIPS_INVALID_ARGUMENT, "not valid any more", bips_writable_frame_cancel(writable));
    device.broken = 0;
    device.wait_broken = -5;
    OK(bips_producer_acquire(producer, 0, &writable));
    /* It fails when it is out already: nobody gets it. */
    OK(bips_writable_frame_publish(writable, NULL, &fence, NULL));
    FAILS(BIPS_TIMEOUT, "", bips_consumer_receive(consumer, 100000000, &frame));
    /* Released all the same. */
    OK(send(producer, 1, NULL));
    OK(bips_consumer_receive(consumer, PATIENCE_NS, &frame));
    OK(bips_frame_release(frame, &fence));
    while (held_by(consumer) != 0) usleep(100);
    FAILS(BIPS_INVALID_ARGUMENT, "not valid any more", bips_frame_release(frame, NULL));
    OK(bips_timeline_destroy(timeline));
    /* A fence on what has gone changes nothing. */
    OK(send(producer, 1, NULL));
    OK(bips_consumer_receive(consumer, PATIENCE_NS, &frame));
    FAILS(BIPS_INVALID_ARGUMENT, "a timeline", bips_frame_release(frame, &fence));
    CHECK(held_by(consumer) == 1);
    OK(bips_frame_release(frame, NULL));
    OK(bips_producer_acquire(producer, 0, &writable));
    FAILS(BIPS_INVALID_ARGUMENT, "a timeline", bips_writable_frame_publish(writable, NULL, &fence, NULL));
    OK(bips_writable_frame_publish(writable, NULL, NULL, NULL));
    OK(bips_consumer_destroy(consumer));
    OK(bips_producer_destroy(producer));
}

int main(void) {
    if (check_begin() != 0) return 1;
    CASE(a_frame_is_a_tensor);
    CASE(a_frame_is_a_tensor_of_old);
    CASE(a_plane_is_a_tensor);
    CASE(a_slot_is_a_tensor);
    CASE(frames_come_when_the_device_is_done);
    CASE(what_a_device_says_is_told);
    return check_end();
}
