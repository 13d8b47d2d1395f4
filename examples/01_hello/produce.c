// Publishes a few small tensors, each with a greeting beside it: hello_produce_c NAME [FRAMES]

#include <bips.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECONDS INT64_C(1000000000)

static void check(bips_status status)
{
    if (status == BIPS_OK) return;
    fprintf(stderr, "error: %s\n", bips_last_error_message());
    exit(1);
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ); // each line at once, also into a pipe
    if (argc < 2) {
        fprintf(stderr, "usage: %s NAME [FRAMES]\n", argv[0]);
        return 2;
    }
    const int frames = argc > 2 ? atoi(argv[2]) : 5;

    const uint64_t shape[] = {4, 16};
    bips_producer_options options = bips_producer_options_init();
    options.dtype = "uint8";
    options.shape = shape;
    options.ndim = 2;
    bips_producer *producer = NULL;
    check(bips_producer_create(argv[1], &options, &producer));
    check(bips_producer_wait_for_consumers(producer, 1, 30 * SECONDS));

    for (int i = 0; i < frames; i++) {
        bips_writable_frame *frame = NULL;
        check(bips_producer_acquire(producer, 30 * SECONDS, &frame));
        bips_slot slot = bips_slot_init();
        check(bips_writable_frame_get_slot(frame, &slot));
        memset(slot.data, i % 256, 4 * 16);
        char greeting[32];
        snprintf(greeting, sizeof greeting, "hello %d", i);
        bips_description description = bips_description_init();
        description.metadata = greeting;
        description.metadata_size = strlen(greeting);
        uint64_t sequence = 0;
        check(bips_writable_frame_publish(frame, &description, NULL, &sequence));
        printf("frame %" PRIu64 ": %s\n", sequence, greeting);
    }
    check(bips_producer_destroy(producer));
    return 0;
}
