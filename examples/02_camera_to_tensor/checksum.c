// Takes a camera's images in place and checks them: tensor_checksum_c NAME

#include "pixels.h"

#include <bips.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECONDS INT64_C(1000000000)

static void fail(const char *why)
{
    fprintf(stderr, "error: %s\n", why);
    exit(1);
}

static void check(bips_status status)
{
    if (status != BIPS_OK) fail(bips_last_error_message());
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ); // each line at once, also into a pipe
    if (argc < 2) {
        fprintf(stderr, "usage: %s NAME\n", argv[0]);
        return 2;
    }
    bips_consumer *consumer = NULL;
    check(bips_consumer_connect(argv[1], NULL, 30 * SECONDS, &consumer));

    uint64_t frames = 0;
    bips_frame *frame = NULL;
    bips_status status;
    while ((status = bips_consumer_receive(consumer, -1, &frame)) == BIPS_OK) {
        bips_frame_info info = bips_frame_info_init();
        check(bips_frame_get_info(frame, &info));
        const uint64_t sum = checksum(info.data, &info.content.planes[0]);
        uint64_t sent = 0;
        if (info.metadata_size != sizeof sent) fail("there is no checksum beside the image");
        memcpy(&sent, info.metadata, sizeof sent); // little-endian, as every machine that bips runs on
        if (sum != sent) fail("the checksum is not the camera's");
        char where[96];
        place(info.data, info.content.nbytes, where, sizeof where);
        if (strncmp(where, "private", 7) == 0) fail("the image was copied");
        const uint64_t start = (uintptr_t)info.data;
        printf("frame %" PRIu64 ": checksum %" PRIu64 ", %s, at 0x%" PRIx64 "-0x%" PRIx64 "\n", info.sequence, sum,
               where, start, start + info.content.nbytes);
        check(bips_frame_release(frame, NULL));
        frames++;
    }
    if (status != BIPS_CLOSED) check(status);
    bips_ending ending = BIPS_NOT_ENDED;
    check(bips_consumer_get_ending(consumer, &ending));
    if (ending != BIPS_ENDED_CLOSED) fail("the camera died");
    printf("%" PRIu64 " frames, all as the camera drew them\n", frames);
    check(bips_consumer_destroy(consumer));
    return 0;
}
