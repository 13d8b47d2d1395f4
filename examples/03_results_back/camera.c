// Publishes images with bright boxes, and checks what a detector says of each:
// results_camera_c NAME [FRAMES [WIDTH HEIGHT]]

#include <bips.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECONDS INT64_C(1000000000)
#define MOST 16 // boxes of an image, each in a lane of its own

typedef float box[6]; // x, y, width, height, score, class

static void fail(const char *why)
{
    fprintf(stderr, "error: %s\n", why);
    exit(1);
}

static void check(bips_status status)
{
    if (status != BIPS_OK) fail(bips_last_error_message());
}

// Which boxes image `i` has; how many.
static uint32_t choose(box *boxes, uint32_t i, uint32_t width, uint32_t height)
{
    const uint32_t lane = width / MOST, count = 1 + i % MOST;
    for (uint32_t b = 0; b < count; b++) {
        const uint32_t x = b * lane + i % (lane / 2), y = (7 * i + 11 * b) % (height - lane);
        const box chosen = {(float)x, (float)y, (float)(lane / 2), (float)lane, 1, (float)b};
        memcpy(boxes[b], chosen, sizeof chosen);
    }
    return count;
}

static void draw(void *data, const bips_plane *plane, box *boxes, uint32_t count)
{
    uint8_t *pixels = (uint8_t *)data + plane->offset;
    for (uint64_t y = 0; y < plane->rows; y++) memset(pixels + y * plane->stride, 16, plane->width);
    for (uint32_t b = 0; b < count; b++) {
        const uint64_t x = (uint64_t)boxes[b][0], y = (uint64_t)boxes[b][1];
        const uint64_t width = (uint64_t)boxes[b][2], height = (uint64_t)boxes[b][3];
        for (uint64_t row = y; row < y + height; row++) memset(pixels + row * plane->stride + 3 * x, 240, 3 * width);
    }
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ); // each line at once, also into a pipe
    if (argc < 2) {
        fprintf(stderr, "usage: %s NAME [FRAMES [WIDTH HEIGHT]]\n", argv[0]);
        return 2;
    }
    const uint32_t frames = argc > 2 ? (uint32_t)atoi(argv[2]) : 20;
    const uint32_t width = argc > 4 ? (uint32_t)atoi(argv[3]) : 640;
    const uint32_t height = argc > 4 ? (uint32_t)atoi(argv[4]) : 480;
    if (width < 2 * MOST || height <= width / MOST) fail("the image is too small for its boxes");

    bips_producer_options options = bips_producer_options_init();
    options.format = "RGB3";
    options.width = width;
    options.height = height;
    bips_producer *producer = NULL;
    check(bips_producer_create(argv[1], &options, &producer));
    bips_layout layout = bips_layout_init();
    check(bips_producer_get_layout(producer, &layout));
    char results[128];
    snprintf(results, sizeof results, "%s/boxes", argv[1]);
    bips_consumer *consumer = NULL;
    check(bips_consumer_connect(results, NULL, 30 * SECONDS, &consumer));
    check(bips_producer_wait_for_consumers(producer, 1, 30 * SECONDS));

    for (uint32_t i = 0; i < frames; i++) {
        bips_writable_frame *frame = NULL;
        check(bips_producer_acquire(producer, 30 * SECONDS, &frame));
        bips_slot slot = bips_slot_init();
        check(bips_writable_frame_get_slot(frame, &slot));
        box drawn[MOST];
        const uint32_t count = choose(drawn, i, width, height);
        draw(slot.data, &layout.content.planes[0], drawn, count);
        uint64_t sequence = 0;
        check(bips_writable_frame_publish(frame, NULL, NULL, &sequence));

        bips_frame *result = NULL;
        check(bips_consumer_receive(consumer, 30 * SECONDS, &result));
        bips_frame_info found = bips_frame_info_init();
        check(bips_frame_get_info(result, &found));
        uint64_t of = 0;
        if (found.metadata_size != sizeof of) fail("the detector does not say of which image");
        memcpy(&of, found.metadata, sizeof of); // little-endian, as every machine that bips runs on
        if (of != sequence) fail("the boxes are those of another image");
        if (found.content.shape[0] != count || memcmp(found.data, drawn, count * sizeof(box)) != 0)
            fail("the boxes are not where they were drawn");
        check(bips_frame_release(result, NULL));
        printf("frame %" PRIu64 ": %" PRIu32 " drawn, %" PRIu64 " found, the same\n", sequence, count,
               found.content.shape[0]);
    }
    check(bips_producer_destroy(producer));
    check(bips_consumer_destroy(consumer));
    return 0;
}
