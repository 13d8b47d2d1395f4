// Publishes images of a moving pattern, each with its checksum: tensor_camera_c NAME [FRAMES [WIDTH HEIGHT [MEMORY]]]

#include "pixels.h"

#include <bips.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define SECONDS INT64_C(1000000000)

static void check(bips_status status)
{
    if (status == BIPS_OK) return;
    fprintf(stderr, "error: %s\n", bips_last_error_message());
    exit(1);
}

static void draw(void *data, const bips_plane *plane, int i)
{
    for (uint64_t y = 0; y < plane->rows; y++) {
        uint8_t *row = (uint8_t *)data + plane->offset + y * plane->stride;
        for (uint64_t x = 0; x < plane->width / 3; x++)
            for (uint64_t c = 0; c < 3; c++) row[3 * x + c] = (uint8_t)(x + y + 5 * (uint64_t)i + 85 * c);
    }
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ); // each line at once, also into a pipe
    if (argc < 2) {
        fprintf(stderr, "usage: %s NAME [FRAMES [WIDTH HEIGHT [MEMORY]]]\n", argv[0]);
        return 2;
    }
    const int frames = argc > 2 ? atoi(argv[2]) : 10;

    bips_producer_options options = bips_producer_options_init();
    options.format = "RGB3";
    options.width = argc > 4 ? (uint32_t)atoi(argv[3]) : 640;
    options.height = argc > 4 ? (uint32_t)atoi(argv[4]) : 480;
    if (argc > 5) options.memory = argv[5];
    bips_producer *producer = NULL;
    check(bips_producer_create(argv[1], &options, &producer));
    bips_layout layout = bips_layout_init();
    check(bips_producer_get_layout(producer, &layout));
    check(bips_producer_wait_for_consumers(producer, 1, 30 * SECONDS));

    for (int i = 0; i < frames; i++) {
        bips_writable_frame *frame = NULL;
        check(bips_producer_acquire(producer, 30 * SECONDS, &frame));
        bips_slot slot = bips_slot_init();
        check(bips_writable_frame_get_slot(frame, &slot));
        draw(slot.data, &layout.content.planes[0], i);
        const uint64_t sum = checksum(slot.data, &layout.content.planes[0]);
        char where[96];
        place(slot.data, layout.content.nbytes, where, sizeof where);
        bips_description description = bips_description_init();
        description.metadata = &sum; // little-endian, as every machine that bips runs on
        description.metadata_size = sizeof sum;
        uint64_t sequence = 0;
        check(bips_writable_frame_publish(frame, &description, NULL, &sequence));
        printf("frame %" PRIu64 ": checksum %" PRIu64 ", %s\n", sequence, sum, where);
    }
    check(bips_producer_destroy(producer));
    return 0;
}
