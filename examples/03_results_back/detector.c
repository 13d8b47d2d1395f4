// Finds the bright boxes in a camera's images, and publishes where they are: results_detector_c NAME

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

// What surrounds the bright pixels of each lane; how many boxes that makes.
static uint64_t detect(const uint8_t *data, const bips_content *image, box *boxes)
{
    const bips_plane *plane = &image->planes[0];
    const uint64_t lane = image->width / MOST;
    uint64_t count = 0;
    for (uint64_t b = 0; b < MOST; b++) {
        uint64_t left = UINT64_MAX, top = UINT64_MAX, right = 0, bottom = 0, bright = 0;
        for (uint64_t y = 0; y < plane->rows; y++) {
            const uint8_t *row = data + plane->offset + y * plane->stride;
            for (uint64_t x = b * lane; x < (b + 1) * lane; x++) {
                if (row[3 * x] <= 200) continue;
                left = x < left ? x : left;
                top = y < top ? y : top;
                right = x > right ? x : right;
                bottom = y;
                bright++;
            }
        }
        if (bright == 0) continue;
        const uint64_t width = right - left + 1, height = bottom - top + 1;
        const float score = (float)bright / (float)(width * height);
        const box found = {(float)left, (float)top, (float)width, (float)height, score, (float)b};
        memcpy(boxes[count++], found, sizeof found);
    }
    return count;
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ); // each line at once, also into a pipe
    if (argc < 2) {
        fprintf(stderr, "usage: %s NAME\n", argv[0]);
        return 2;
    }
    const uint64_t shape[] = {MOST, 6};
    bips_producer_options options = bips_producer_options_init();
    options.dtype = "float32";
    options.shape = shape;
    options.ndim = 2;
    char results[128];
    snprintf(results, sizeof results, "%s/boxes", argv[1]);
    bips_producer *producer = NULL;
    check(bips_producer_create(results, &options, &producer));
    bips_consumer *consumer = NULL;
    check(bips_consumer_connect(argv[1], NULL, 30 * SECONDS, &consumer));

    uint64_t frames = 0;
    bips_frame *frame = NULL;
    bips_status status;
    while ((status = bips_consumer_receive(consumer, -1, &frame)) == BIPS_OK) {
        bips_frame_info image = bips_frame_info_init();
        check(bips_frame_get_info(frame, &image));
        bips_writable_frame *result = NULL;
        check(bips_producer_acquire(producer, 30 * SECONDS, &result));
        bips_slot slot = bips_slot_init();
        check(bips_writable_frame_get_slot(result, &slot));
        box *boxes = slot.data;
        const uint64_t count = detect(image.data, &image.content, boxes);
        if (count > 0)
            printf("frame %" PRIu64 ": %" PRIu64 " found, the first at %g, %g\n", image.sequence, count, boxes[0][0],
                   boxes[0][1]);
        const uint64_t found[] = {count, 6};
        bips_description description = bips_description_init();
        description.shape = found;
        description.ndim = 2;
        description.metadata = &image.sequence; // little-endian, as every machine that bips runs on
        description.metadata_size = sizeof image.sequence;
        check(bips_writable_frame_publish(result, &description, NULL, NULL));
        check(bips_frame_release(frame, NULL));
        frames++;
    }
    if (status != BIPS_CLOSED) check(status);
    bips_ending ending = BIPS_NOT_ENDED;
    check(bips_consumer_get_ending(consumer, &ending));
    if (ending != BIPS_ENDED_CLOSED) fail("the camera died");
    printf("%" PRIu64 " frames, then the camera closed the stream\n", frames);
    check(bips_consumer_destroy(consumer));
    check(bips_producer_destroy(producer));
    return 0;
}
