/* What must not be passed, done all the same: a status and a message that names it, and everything goes on. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "stream.h"

#include <sys/stat.h>

/* One of each handle, of a stream with a frame that is leased and a slot that is being written. */
struct all {
    bips_producer *producer;
    bips_consumer *consumer;
    bips_frame *frame;
    bips_writable_frame *writable;
};

static bips_status make_all(const char *name, struct all *all) {
    memset(all, 0, sizeof *all);
    bips_status status = make_bytes(name, 5000, &all->producer);
    if (status == BIPS_OK) status = join(name, NULL, &all->consumer);
    if (status == BIPS_OK) status = send(all->producer, 1, NULL);
    if (status == BIPS_OK) status = bips_consumer_receive(all->consumer, PATIENCE_NS, &all->frame);
    if (status == BIPS_OK) status = bips_producer_acquire(all->producer, 0, &all->writable);
    return status;
}

static bips_status end_all(struct all *all) {
    const bips_status ends[] = {
        bips_writable_frame_cancel(all->writable),
        bips_frame_release(all->frame, NULL),
        bips_consumer_destroy(all->consumer),
        bips_producer_destroy(all->producer),
    };
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++)
        if (ends[i] != BIPS_OK) return ends[i];
    return BIPS_OK;
}

/* Every call with a handle answers as `words` says. */
#define REFUSES(words, call) FAILS(BIPS_INVALID_ARGUMENT, words, call)

static void refuses_producer(bips_producer *it, const char *words) {
    bips_writable_frame *frame = NULL;
    bips_layout layout = bips_layout_init();
    bips_producer_stats stats = bips_producer_stats_init();
    size_t count = 77;
    REFUSES(words, bips_producer_acquire(it, 0, &frame));
    REFUSES(words, bips_producer_acquire(it, -1, &frame));
    bips_slot slot = bips_slot_init();
    REFUSES(words, bips_producer_acquire_slot(it, 0, &frame, &slot));
    REFUSES(words, bips_producer_wait_for_consumers(it, 0, 0));
    REFUSES(words, bips_producer_get_layout(it, &layout));
    REFUSES(words, bips_producer_get_stats(it, &stats));
    REFUSES(words, bips_producer_get_consumers(it, NULL, 0, &count));
    REFUSES(words, bips_producer_close(it));
    CHECK(frame == NULL && count == 77 && layout.slots == 0 && stats.published == 0);
}

static void refuses_consumer(bips_consumer *it, const char *words) {
    bips_frame *frame = NULL;
    bips_layout layout = bips_layout_init();
    bips_consumer_stats stats = bips_consumer_stats_init();
    bips_ending ending = BIPS_ENDED_OTHERWISE;
    int fd = -7;
    REFUSES(words, bips_consumer_receive(it, 0, &frame));
    REFUSES(words, bips_consumer_receive(it, -1, &frame));
    const void *data = NULL;
    REFUSES(words, bips_consumer_receive_data(it, 0, &frame, &data, NULL));
    REFUSES(words, bips_consumer_poll_fd(it, &fd));
    REFUSES(words, bips_consumer_get_ending(it, &ending));
    REFUSES(words, bips_consumer_get_layout(it, &layout));
    REFUSES(words, bips_consumer_get_stats(it, &stats));
    CHECK(frame == NULL && fd == -7 && ending == BIPS_ENDED_OTHERWISE && layout.slots == 0);
}

static void refuses_frame(bips_frame *it, const char *words) {
    bips_frame_info info = bips_frame_info_init();
    bips_private_view *view = NULL;
    DLManagedTensorVersioned *tensor = NULL;
    const void *data = NULL;
    void *writable = NULL;
    size_t nbytes = 77;
    uint64_t offset = 77;
    int fd = -7;
    char bytes[16] = "untouched";
    REFUSES(words, bips_frame_data(it, &data, &nbytes));
    REFUSES(words, bips_frame_get_info(it, &info));
    REFUSES(words, bips_frame_copy(it, 0, bytes, sizeof bytes));
    REFUSES(words, bips_frame_fd(it, &fd, &offset));
    REFUSES(words, bips_frame_private_view(it, &view, &writable));
    REFUSES(words, bips_frame_dlpack(it, -1, &tensor));
    CHECK(data == NULL && nbytes == 77 && info.data == NULL && fd == -7 && offset == 77);
    CHECK(view == NULL && writable == NULL && tensor == NULL && strcmp(bytes, "untouched") == 0);
}

static void refuses_writable(bips_writable_frame *it, const char *words) {
    bips_slot slot = bips_slot_init();
    DLManagedTensorVersioned *tensor = NULL;
    uint64_t sequence = 77;
    REFUSES(words, bips_writable_frame_get_slot(it, &slot));
    bips_content content;
    REFUSES(words, bips_writable_frame_get_content(it, &content));
    REFUSES(words, bips_writable_frame_dlpack(it, -1, &tensor));
    REFUSES(words, bips_writable_frame_publish(it, NULL, NULL, &sequence));
    CHECK(slot.data == NULL && tensor == NULL && sequence == 77);
}

static void null_is_no_handle(void) {
    refuses_producer(NULL, "NULL instead of a producer");
    refuses_consumer(NULL, "NULL instead of a consumer");
    refuses_frame(NULL, "NULL instead of a frame");
    refuses_writable(NULL, "NULL instead of a writable frame");
    if (check_failed) return;
    OK(bips_producer_destroy(NULL));
    OK(bips_consumer_destroy(NULL));
    OK(bips_frame_release(NULL, NULL));
    OK(bips_writable_frame_cancel(NULL));
    OK(bips_private_view_destroy(NULL));
    OK(bips_timeline_destroy(NULL));
}

static void what_never_was_a_handle(void) {
    struct all all;
    int here = 0;
    OK(make_all("never", &all));
    const uintptr_t numbers[] = {1, 0x1234, (uintptr_t)&here, (uintptr_t)-1, (uintptr_t)-4096};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0] && !check_failed; i++) {
        refuses_producer((bips_producer *)numbers[i], "");
        refuses_consumer((bips_consumer *)numbers[i], "");
        refuses_frame((bips_frame *)numbers[i], "");
        refuses_writable((bips_writable_frame *)numbers[i], "");
        if (check_failed) return;
        REFUSES("", bips_producer_destroy((bips_producer *)numbers[i]));
        REFUSES("", bips_frame_release((bips_frame *)numbers[i], NULL));
    }
    /* Of another type. */
    refuses_producer((bips_producer *)(uintptr_t)all.consumer, "no handle of a producer");
    refuses_consumer((bips_consumer *)(uintptr_t)all.frame, "no handle of a consumer");
    refuses_frame((bips_frame *)(uintptr_t)all.writable, "no handle of a frame");
    refuses_writable((bips_writable_frame *)(uintptr_t)all.producer, "no handle of a writable frame");
    if (check_failed) return;
    REFUSES("no handle", bips_consumer_destroy((bips_consumer *)(uintptr_t)all.producer));
    OK(end_all(&all));
}

static void what_has_ended_is_refused(void) {
    struct all all;
    OK(make_all("ended", &all));
    OK(end_all(&all));
    refuses_producer(all.producer, "not valid any more");
    refuses_consumer(all.consumer, "not valid any more");
    refuses_frame(all.frame, "not valid any more");
    refuses_writable(all.writable, "not valid any more");
    if (check_failed) return;
    REFUSES("destroyed, published or released", bips_producer_destroy(all.producer));
    REFUSES("not valid any more", bips_consumer_destroy(all.consumer));
    REFUSES("not valid any more", bips_frame_release(all.frame, NULL));
    REFUSES("not valid any more", bips_writable_frame_cancel(all.writable));

    /* Also when its place is taken by another. */
    const struct all old = all;
    OK(make_all("ended", &all));
    refuses_producer(old.producer, "not valid any more");
    refuses_frame(old.frame, "not valid any more");
    if (check_failed) return;
    REFUSES("not valid any more", bips_frame_release(old.frame, NULL));
    OK(bips_writable_frame_publish(all.writable, NULL, NULL, NULL));
    refuses_writable(all.writable, "not valid any more");
    if (check_failed) return;
    REFUSES("not valid any more", bips_writable_frame_cancel(all.writable));
    all.writable = NULL;
    OK(end_all(&all));
}

static void places_must_be_given(void) {
    struct all all;
    bips_private_view *view = NULL;
    void *writable = NULL;
    uint64_t offset = 0;
    size_t count = 0;
    int fd = -1;
    bips_dtype dtype;
    bips_stream_info info = bips_stream_info_init();
    bips_timeline *timeline = NULL;
    bips_timeline_functions functions = bips_timeline_functions_init();
    OK(make_all("places", &all));
    REFUSES("NULL instead of a place for the producer", make_bytes("places/2", 64, NULL));
    REFUSES("NULL instead of a place", bips_producer_acquire(all.producer, 0, NULL));
    bips_writable_frame *none = NULL;
    REFUSES("NULL instead of a place", bips_producer_acquire_slot(all.producer, 0, &none, NULL));
    REFUSES("NULL instead of a place", bips_producer_get_layout(all.producer, NULL));
    REFUSES("NULL instead of a place", bips_producer_get_stats(all.producer, NULL));
    REFUSES("NULL", bips_producer_get_consumers(all.producer, NULL, 0, NULL));
    REFUSES("NULL", bips_producer_get_consumers(all.producer, NULL, 3, &count));
    REFUSES("NULL instead of a place", bips_writable_frame_get_slot(all.writable, NULL));
    REFUSES("NULL instead of a place", bips_writable_frame_get_content(all.writable, NULL));
    REFUSES("NULL instead of a place", bips_writable_frame_dlpack(all.writable, -1, NULL));
    REFUSES("NULL instead of a place", join("places", NULL, NULL));
    REFUSES("NULL instead of a place", bips_consumer_receive(all.consumer, 0, NULL));
    bips_frame *nothing = NULL;
    REFUSES("NULL instead of a place", bips_consumer_receive_data(all.consumer, 0, &nothing, NULL, NULL));
    REFUSES("NULL instead of a place", bips_consumer_poll_fd(all.consumer, NULL));
    REFUSES("NULL instead of a place", bips_consumer_get_ending(all.consumer, NULL));
    REFUSES("NULL instead of a place", bips_consumer_get_layout(all.consumer, NULL));
    REFUSES("NULL instead of a place", bips_consumer_get_stats(all.consumer, NULL));
    REFUSES("NULL instead of a place", bips_frame_data(all.frame, NULL, &count));
    REFUSES("NULL instead of a place", bips_frame_get_info(all.frame, NULL));
    REFUSES("NULL instead of a place", bips_frame_copy(all.frame, 0, NULL, 1));
    OK(bips_frame_copy(all.frame, 0, NULL, 0));
    REFUSES("NULL instead of a place", bips_frame_fd(all.frame, NULL, &offset));
    REFUSES("NULL instead of a place", bips_frame_fd(all.frame, &fd, NULL));
    REFUSES("NULL instead of a place", bips_frame_private_view(all.frame, NULL, &writable));
    REFUSES("NULL instead of a place", bips_frame_private_view(all.frame, &view, NULL));
    REFUSES("NULL instead of a place", bips_frame_dlpack(all.frame, -1, NULL));
    REFUSES("NULL", bips_dtype_parse("uint8", NULL));
    REFUSES("NULL", bips_dtype_parse(NULL, &dtype));
    REFUSES("NULL", bips_query(NULL, NULL, &info, NULL, 0, NULL));
    REFUSES("NULL", bips_query("places", NULL, NULL, NULL, 0, NULL));
    REFUSES("NULL", bips_query("places", NULL, &info, NULL, 5, &count));
    REFUSES("NULL", bips_streams(NULL, NULL, NULL));
    REFUSES("NULL", bips_doctor(NULL, NULL, NULL));
    REFUSES("NULL", bips_timeline_create(NULL, &timeline));
    REFUSES("NULL", bips_timeline_create(&functions, NULL));
    REFUSES("value", bips_timeline_create(&functions, &timeline));
    REFUSES("NULL instead of a stream's name", bips_producer_create(NULL, NULL, &all.producer));
    REFUSES("NULL instead of a stream's name", bips_consumer_connect(NULL, NULL, 0, &all.consumer));
    /* Nothing was lost by all that: no frame, no slot, no name. */
    OK(send(all.producer, 2, NULL));
    OK(end_all(&all));
}

static void beyond_the_slot(void) {
    struct all all;
    unsigned char bytes[64];
    bips_frame_info info = bips_frame_info_init();
    OK(make_all("beyond", &all));
    OK(bips_frame_get_info(all.frame, &info));
    OK(bips_frame_copy(all.frame, info.slot_bytes - sizeof bytes, bytes, sizeof bytes));
    OK(bips_frame_copy(all.frame, info.slot_bytes, bytes, 0));
    REFUSES("are not in the slot", bips_frame_copy(all.frame, info.slot_bytes - 63, bytes, sizeof bytes));
    REFUSES("are not in the slot", bips_frame_copy(all.frame, info.slot_bytes, bytes, 1));
    REFUSES("are not in the slot", bips_frame_copy(all.frame, SIZE_MAX, bytes, sizeof bytes));
    REFUSES("are not in the slot", bips_frame_copy(all.frame, sizeof bytes, bytes, SIZE_MAX));
    DLManagedTensorVersioned *tensor = NULL;
    REFUSES("plane", bips_frame_dlpack(all.frame, 1, &tensor));
    REFUSES("plane", bips_frame_dlpack(all.frame, -2, &tensor));
    REFUSES("plane", bips_writable_frame_dlpack(all.writable, 4, &tensor));
    REFUSES("plane", bips_writable_frame_dlpack(all.writable, INT32_MIN, &tensor));
    OK(end_all(&all));
}

/* A structure with room behind it, so that a size may be larger. */
union sized {
    size_t size;
    bips_producer_options producer_options;
    bips_consumer_options consumer_options;
    bips_description description;
    bips_slot slot;
    bips_frame_info info;
    bips_layout layout;
    bips_producer_stats producer_stats;
    bips_consumer_stats consumer_stats;
    bips_stream_info stream_info;
    bips_timeline_functions functions;
    unsigned char room[2048];
};

static const size_t wrong_sizes[] = {0, 1, 8, 31, 65537, (size_t)1 << 40, SIZE_MAX};
#define WRONG_SIZES (sizeof wrong_sizes / sizeof wrong_sizes[0])

static void sizes_of_answers(void) {
    struct all all;
    OK(make_all("answers", &all));
    for (size_t i = 0; i < WRONG_SIZES; i++) {
        union sized it;
        memset(&it, 0, sizeof it);
        it.size = wrong_sizes[i];
        const char *words = "with a size of";
        REFUSES(words, bips_producer_get_layout(all.producer, &it.layout));
        REFUSES(words, bips_producer_get_stats(all.producer, &it.producer_stats));
        REFUSES(words, bips_consumer_get_layout(all.consumer, &it.layout));
        REFUSES(words, bips_consumer_get_stats(all.consumer, &it.consumer_stats));
        REFUSES(words, bips_frame_get_info(all.frame, &it.info));
        REFUSES(words, bips_writable_frame_get_slot(all.writable, &it.slot));
        REFUSES(words, bips_query("answers", NULL, &it.stream_info, NULL, 0, NULL));
        for (size_t at = sizeof(size_t); at < sizeof it; at++) CHECK(it.room[at] == 0);
    }
    /* Of a program made with a later header: what this library knows is filled, the rest is left alone. */
    union sized later;
    memset(&later, 0xaa, sizeof later);
    later.size = sizeof later.info + 64;
    OK(bips_frame_get_info(all.frame, &later.info));
    CHECK(later.size == sizeof later.info + 64 && later.info.content.nbytes == 5000);
    for (size_t at = sizeof later.info; at < sizeof later; at++) CHECK(later.room[at] == 0xaa);
    OK(end_all(&all));
}

static int32_t ask_zero(void *context, uint64_t *value) {
    (void)context;
    *value = 0;
    return 0;
}

static void sizes_of_what_is_asked(void) {
    struct all all;
    bips_producer *producer = NULL;
    bips_consumer *consumer = NULL;
    bips_timeline *timeline = NULL;
    union sized it;
    OK(make_all("asked", &all));
    for (size_t i = 0; i < WRONG_SIZES; i++) {
        memset(&it, 0, sizeof it);
        it.size = wrong_sizes[i];
        const char *words = "with a size of";
        REFUSES(words, bips_producer_create("asked/2", &it.producer_options, &producer));
        REFUSES(words, bips_consumer_connect("asked", &it.consumer_options, 0, &consumer));
        REFUSES(words, bips_timeline_create(&it.functions, &timeline));
        REFUSES(words, bips_writable_frame_publish(all.writable, &it.description, NULL, NULL));
    }
    /* A later header's, which asks for nothing new, and which asks for something. */
    memset(&it, 0, sizeof it);
    it.size = sizeof it.consumer_options + 32;
    OK(bips_consumer_connect("asked", &it.consumer_options, 0, &consumer));
    OK(bips_consumer_destroy(consumer));
    it.room[sizeof it.consumer_options + 31] = 1;
    FAILS(BIPS_UNSUPPORTED, "update it", bips_consumer_connect("asked", &it.consumer_options, 0, &consumer));

    memset(&it, 0, sizeof it);
    it.size = sizeof it.producer_options + 8;
    it.producer_options.bytes = 64;
    OK(bips_producer_create("asked/2", &it.producer_options, &producer));
    OK(bips_producer_destroy(producer));
    it.room[sizeof it.producer_options] = 1;
    FAILS(BIPS_UNSUPPORTED, "too old", bips_producer_create("asked/2", &it.producer_options, &producer));

    memset(&it, 0, sizeof it);
    it.functions.value = ask_zero;
    it.size = sizeof it.functions + 8;
    it.room[sizeof it.functions] = 1;
    FAILS(BIPS_UNSUPPORTED, "too old", bips_timeline_create(&it.functions, &timeline));

    memset(&it, 0, sizeof it);
    it.size = sizeof it.description + 8;
    it.room[sizeof it.description] = 1;
    FAILS(BIPS_UNSUPPORTED, "too old", bips_writable_frame_publish(all.writable, &it.description, NULL, NULL));
    /* None of that ended it. */
    it.room[sizeof it.description] = 0;
    OK(bips_writable_frame_publish(all.writable, &it.description, NULL, NULL));
    all.writable = NULL;
    OK(end_all(&all));
}

static const char not_utf8[] = "\xff\xfe";

static void texts_are_utf8(void) {
    bips_producer *producer = NULL;
    bips_consumer *consumer = NULL;
    bips_dtype dtype;
    bips_stream_info info = bips_stream_info_init();
    REFUSES("not UTF-8", make_bytes(not_utf8, 64, &producer));
    REFUSES("not UTF-8", join(not_utf8, NULL, &consumer));
    REFUSES("policy is not UTF-8", join("texts", not_utf8, &consumer));
    bips_consumer_options labelled = bips_consumer_options_init();
    labelled.label = not_utf8;
    REFUSES("label is not UTF-8", bips_consumer_connect("texts", &labelled, 0, &consumer));
    labelled.label = "two\nlines";
    REFUSES("at most 64 bytes", bips_consumer_connect("texts", &labelled, 0, &consumer));
    REFUSES("not UTF-8", bips_dtype_parse(not_utf8, &dtype));
    REFUSES("not UTF-8", bips_query(not_utf8, NULL, &info, NULL, 0, NULL));
    for (int i = 0; i < 5; i++) {
        bips_producer_options options = bips_producer_options_init();
        const uint64_t shape[] = {4};
        if (i > 1) options.bytes = 64;
        switch (i) {
        case 0: options.format = not_utf8; break;
        case 1:
            options.dtype = not_utf8;
            options.shape = shape;
            options.ndim = 1;
            break;
        case 2: options.memory = not_utf8; break;
        case 3: options.access = not_utf8; break;
        default: options.on_stall = not_utf8; break;
        }
        REFUSES("not UTF-8", bips_producer_create("texts", &options, &producer));
    }
}

/* A path need not be UTF-8. */
static void folders_have_any_name(void) {
    bips_producer_options options = bips_producer_options_init();
    bips_producer *producer = NULL;
    char folder[128];
    snprintf(folder, sizeof folder, "%s/%s", check_directory, not_utf8);
    CHECK(mkdir(folder, 0700) == 0);
    options.bytes = 64;
    options.directory = folder;
    OK(bips_producer_create("any", &options, &producer));
    bips_stream_info info = bips_stream_info_init();
    OK(bips_query("any", folder, &info, NULL, 0, NULL));
    OK(bips_producer_destroy(producer));
    CHECK(rmdir(folder) == 0);
}

static void names_have_rules(void) {
    bips_producer *producer = NULL;
    bips_consumer *consumer = NULL;
    char longest[102];
    memset(longest, 'n', sizeof longest);
    longest[100] = '\0';
    OK(make_bytes(longest, 64, &producer));
    OK(bips_producer_destroy(producer));
    longest[100] = 'n';
    longest[101] = '\0';
    const char *const wrong[] = {"", "../x", "/x", "x/", "a//b", "a b", ".", "a/../b", longest, "\xc3\xa9"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        REFUSES("name", make_bytes(wrong[i], 64, &producer));
        REFUSES("name", join(wrong[i], NULL, &consumer));
    }
}

static void options_must_agree(void) {
    const uint64_t shape[9] = {4, 4, 4, 4, 4, 4, 4, 4, 4}, huge[] = {UINT64_MAX, 2};
    bips_producer *producer = NULL;
    bips_consumer *consumer = NULL;
    REFUSES("don't say what a frame holds", bips_producer_create("options", NULL, &producer));
    for (int i = 0; i < 19; i++) {
        bips_producer_options o = bips_producer_options_init();
        const char *words = "";
        if (i > 9) o.bytes = 64;
        switch (i) {
        case 0: words = "don't say what"; break;
        case 1: words = "more than once", o.format = "RGB3", o.width = o.height = 4, o.bytes = 48; break;
        case 2: words = "more than once", o.dtype = "uint8", o.shape = shape, o.ndim = 2, o.bytes = 16; break;
        case 3: words = "more than once", o.format = "RGB3", o.width = o.height = 4, o.shape = shape, o.ndim = 1; break;
        case 4: words = "NULL instead of lengths", o.dtype = "uint8", o.ndim = 2; break;
        case 5: o.dtype = "uint8", o.shape = shape, o.ndim = 9; break;
        case 6: words = "NULL instead of lengths", o.ndim = SIZE_MAX; break;
        case 7: o.shape = huge, o.ndim = 2; break;
        case 8: o.format = "RGB3"; break;
        case 9: words = "NOPE", o.format = "NOPE", o.width = o.height = 4; break;
        case 10: o.slots = 65; break;
        case 11: o.slots = 4, o.max_held = 5; break;
        case 12: words = "usage", o.usage = 0x80000000; break;
        case 13: words = "nonsense", o.memory = "nonsense"; break;
        case 14: words = "everyone", o.access = "everyone"; break;
        case 15: words = "never", o.on_stall = "never"; break;
        case 16: o.history = 65; break;
        case 17: words = "float33", o.bytes = 0, o.dtype = "float33", o.shape = shape, o.ndim = 1; break;
        default: o.shape = (const uint64_t *)((const char *)shape + 1), o.ndim = 2; break;
        }
        const int32_t came_to = bips_producer_create("options", &o, &producer);
        if (came_to != BIPS_INVALID_ARGUMENT ||
            strstr(bips_last_error_message(), words) == NULL) {
            printf("case %d: %s (%s)\n", i, bips_status_name(came_to), bips_last_error_message());
            check_failed = 1;
        }
        CHECK(producer == NULL);
    }
    OK(make_bytes("options", 64, &producer));
    const char *const policies[] = {"", "newest", "keep-last:0", "keep-last:", "keep-last:-1", "keep-last:65"};
    for (size_t i = 0; i < sizeof policies / sizeof policies[0]; i++)
        REFUSES("keep-last", join("options", policies[i], &consumer));
    OK(bips_producer_destroy(producer));
}

/* What is wrong in the description costs the frame, but not its slot. */
static void descriptions_must_fit(void) {
    static const unsigned char metadata[257] = {0};
    const uint64_t shape[9] = {1, 1, 1, 1, 1, 1, 1, 1, 1}, larger[] = {1 << 20};
    struct all all;
    OK(make_all("descriptions", &all));
    OK(bips_writable_frame_cancel(all.writable));
    for (int i = 0; i < 12; i++) {
        bips_description description = bips_description_init();
        bips_writable_frame *frame = NULL;
        uint64_t sequence = 77;
        OK(bips_producer_acquire(all.producer, 0, &frame));
        switch (i % 4) {
        case 0: description.shape = shape, description.ndim = 9; break;
        case 1: description.shape = larger, description.ndim = 1; break;
        case 2: description.metadata = metadata, description.metadata_size = sizeof metadata; break;
        default: description.metadata_size = 3; break;
        }
        REFUSES("", bips_writable_frame_publish(frame, &description, NULL, &sequence));
        REFUSES("not valid any more", bips_writable_frame_cancel(frame));
        CHECK(sequence == 77);
    }
    OK(send(all.producer, 2, NULL));
    all.writable = NULL;
    OK(end_all(&all));
}

static void each_status_has_a_name(void) {
    static const char *const names[] = {"ok",           "timeout",     "closed",        "name-taken",
                                        "not-found",    "unsupported", "access-denied", "protocol",
                                        "out-of-memory", "invalid-argument", "forked",  "lost",
                                        "system",       "too-many-held"};
    for (int32_t i = 0; i < 14; i++) CHECK(strcmp(bips_status_name(i), names[i]) == 0);
    const int32_t none[] = {14, 254, 256, -1, INT32_MIN, INT32_MAX};
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) CHECK(strcmp(bips_status_name(none[i]), "unknown") == 0);
    CHECK(strcmp(bips_status_name(BIPS_INTERNAL), "internal") == 0);
}

int main(void) {
    if (check_begin() != 0) return 1;
    CASE(null_is_no_handle);
    CASE(what_never_was_a_handle);
    CASE(what_has_ended_is_refused);
    CASE(places_must_be_given);
    CASE(beyond_the_slot);
    CASE(sizes_of_answers);
    CASE(sizes_of_what_is_asked);
    CASE(texts_are_utf8);
    CASE(folders_have_any_name);
    CASE(names_have_rules);
    CASE(options_must_agree);
    CASE(descriptions_must_fit);
    CASE(each_status_has_a_name);
    return check_end();
}
