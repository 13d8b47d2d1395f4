// Receives what produce sends, and checks it: hello_consume_c NAME

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
        char greeting[32];
        snprintf(greeting, sizeof greeting, "hello %" PRIu64, frames);
        if (info.sequence != frames) fail("a frame is missing");
        if (info.metadata_size != strlen(greeting) || memcmp(info.metadata, greeting, info.metadata_size) != 0)
            fail("another greeting was sent");
        const uint8_t *bytes = info.data;
        for (uint64_t i = 0; i < info.content.nbytes; i++)
            if (bytes[i] != frames % 256) fail("other bytes were sent");
        printf("frame %" PRIu64 ": %s, %s %" PRIu64 "x%" PRIu64 " of %d\n", info.sequence, greeting,
               bips_dtype_name(info.content.dtype), info.content.shape[0], info.content.shape[1], bytes[0]);
        check(bips_frame_release(frame, NULL));
        frames++;
    }
    if (status != BIPS_CLOSED) check(status);
    bips_ending ending = BIPS_NOT_ENDED;
    check(bips_consumer_get_ending(consumer, &ending));
    if (ending != BIPS_ENDED_CLOSED) fail("the producer died");
    printf("%" PRIu64 " frames, then the producer closed the stream\n", frames);
    check(bips_consumer_destroy(consumer));
    return 0;
}
