/* A tensor whose deleter is never called: what looks for lost memory must find this. */
#define _GNU_SOURCE
#include "dlpack.h"
#include "stream.h"

/* In a function of its own, so that no register or stack slot keeps the address. */
__attribute__((noinline)) static void forget_a_tensor(void) {
    bips_producer *producer = NULL;
    bips_consumer *consumer = NULL;
    bips_frame *frame = NULL;
    DLManagedTensorVersioned *tensor = NULL;
    OK(make_bytes("leak", 64, &producer));
    OK(join("leak", NULL, &consumer));
    OK(send(producer, 1, NULL));
    OK(bips_consumer_receive(consumer, PATIENCE_NS, &frame));
    OK(bips_frame_dlpack(frame, -1, &tensor));
    tensor = NULL;
    OK(bips_frame_release(frame, NULL));
    OK(bips_consumer_destroy(consumer));
    OK(bips_producer_destroy(producer));
}

int main(void) {
    if (check_begin() != 0) return 1;
    CASE(forget_a_tensor);
    CASE(forget_a_tensor);
    return check_end();
}
