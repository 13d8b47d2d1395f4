/* What the cases in C do again and again. */
#ifndef STREAM_H
#define STREAM_H

#include "check.h"

static inline bips_status make_bytes(const char *name, uint64_t bytes, bips_producer **producer) {
    bips_producer_options options = bips_producer_options_init();
    options.bytes = bytes;
    return bips_producer_create(name, &options, producer);
}

static inline bips_status join(const char *name, const char *policy, bips_consumer **consumer) {
    bips_consumer_options options = bips_consumer_options_init();
    options.policy = policy;
    return bips_consumer_connect(name, &options, PATIENCE_NS, consumer);
}

/* Publishes a slot full of the pattern of `seed`. */
static inline bips_status send(bips_producer *producer, unsigned seed, const bips_description *description) {
    bips_writable_frame *frame = NULL;
    bips_slot slot = bips_slot_init();
    bips_status status = bips_producer_acquire(producer, PATIENCE_NS, &frame);
    if (status != BIPS_OK) return status;
    status = bips_writable_frame_get_slot(frame, &slot);
    if (status != BIPS_OK) return status;
    check_fill(slot.data, slot.nbytes, seed);
    return bips_writable_frame_publish(frame, description, NULL, NULL);
}

#endif
