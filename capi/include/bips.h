#ifndef BIPS_H
#define BIPS_H

/* Made by `cargo xtask header` from capi/src: change it there. */


/*
 * bips for C: zero-copy buffer sharing between processes. bips.hpp is the same for C++17.
 *
 * Status. Functions return BIPS_OK or why not; bips_last_error_message() then has a sentence for people, which names the
 * next step. What a call would have written to its out-parameters is written only with BIPS_OK, unless it says otherwise.
 *
 * Handles. A pointer to a bips_producer, bips_consumer, bips_frame, ... is a handle: it points nowhere, and may be given
 * to any thread. NULL, a handle that has ended and what never was one are BIPS_INVALID_ARGUMENT. Every handle is ended
 * once: by its ..._destroy, or as its function says.
 *
 * Threads. Any thread may call any function. One consumer or writable frame serves one thread at a time: a second one is
 * refused with BIPS_INVALID_ARGUMENT. Producers and frames serve any number. No function is for signal handlers.
 *
 * Shutting down. bips_producer_close and bips_consumer_close are for any thread, and end what waits with that handle in
 * another: BIPS_CLOSED. The producer's end waits up to 5 s for devices that still write what was published. A
 * bips_consumer_connect that waits for its producer has no handle yet: give it a timeout, and look between two calls
 * whether to go on.
 *
 * Fork. In a forked child handles of the parent answer BIPS_FORKED, and can be ended: by ..._destroy, by
 * bips_writable_frame_cancel, by bips_frame_release without a fence.
 *
 * Structures that begin with `size` may grow in later versions. The bips_..._init functions at the end set it, and all
 * else to zero, which is the default everywhere.
 *
 * Pointers that are not handles must be NULL or point to what the function says: text ends with a NUL, an array has as
 * many elements as its count. Functions of yours that bips calls may call bips, and must neither throw nor jump out of
 * it. Times are in nanoseconds; a timeout of 0 tries once, a negative one waits for ever.
 */

#include <stddef.h>
#include <stdint.h>
#include <string.h>


/**
 * The version of this interface.
 */
#define BIPS_ABI_VERSION 1

/**
 * Most dimensions a frame can have.
 */
#define BIPS_MAX_DIMS 8

/**
 * Most planes an image can have.
 */
#define BIPS_MAX_PLANES 4

/**
 * Most bytes of metadata a frame carries.
 */
#define BIPS_MAX_METADATA 256

/**
 * Filled by the CPU, or read by it.
 */
#define BIPS_USAGE_CPU 1

/**
 * Filled by a camera (V4L2).
 */
#define BIPS_USAGE_CAMERA 2

/**
 * Used by CUDA.
 */
#define BIPS_USAGE_CUDA 4

/**
 * Used by Vulkan.
 */
#define BIPS_USAGE_VULKAN 8

/**
 * Scanned out by a display.
 */
#define BIPS_USAGE_DISPLAY 16

/**
 * Read by a hardware encoder.
 */
#define BIPS_USAGE_ENCODER 32

/**
 * Bytes of a memory kind's name, with its NUL.
 */
#define BIPS_KIND_SIZE 40

/**
 * What a call came to. The numbers never change meaning.
 */
enum bips_status
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * Done.
     */
    BIPS_OK = 0,
    /**
     * The time allowed ran out.
     */
    BIPS_TIMEOUT = 1,
    /**
     * The other side, or this handle, has been closed.
     */
    BIPS_CLOSED = 2,
    /**
     * Another live producer publishes under this name.
     */
    BIPS_NAME_TAKEN = 3,
    /**
     * No producer of this name lives in the runtime directory.
     */
    BIPS_NOT_FOUND = 4,
    /**
     * This machine, kernel, memory kind or peer cannot do what was asked.
     */
    BIPS_UNSUPPORTED = 5,
    /**
     * Permissions, of files or of the stream's access rule, forbid it.
     */
    BIPS_ACCESS_DENIED = 6,
    /**
     * A peer broke the protocol, or speaks another major version of it.
     */
    BIPS_PROTOCOL = 7,
    /**
     * The machine, or the memory control group, has not that much memory.
     */
    BIPS_OUT_OF_MEMORY = 8,
    /**
     * An argument is outside what the call allows: NULL, no handle or one that was destroyed, a buffer too small, a
     * structure of a wrong size, text that is not UTF-8.
     */
    BIPS_INVALID_ARGUMENT = 9,
    /**
     * The handle was made before a `fork` and is used in the child.
     */
    BIPS_FORKED = 10,
    /**
     * The frame was never completed: its producer died before its device work was done.
     */
    BIPS_LOST = 11,
    /**
     * The operating system refused a call that should succeed.
     */
    BIPS_SYSTEM = 12,
    /**
     * The consumer already leases as many frames as the producer allows it.
     */
    BIPS_TOO_MANY_HELD = 13,
    /**
     * A fault in bips itself, or a kind of error that a later version will name.
     */
    BIPS_INTERNAL = 255,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum bips_status bips_status;
#else
typedef int32_t bips_status;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * How a stream ended for a consumer.
 */
enum bips_ending
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * It goes on.
     */
    BIPS_NOT_ENDED = 0,
    /**
     * Its producer closed it.
     */
    BIPS_ENDED_CLOSED = 1,
    /**
     * The connection broke without that: the producer died, or takes this consumer for one that broke the protocol.
     */
    BIPS_ENDED_DIED = 2,
    /**
     * Its producer goes on, but put this consumer out because it held the stream up. Frames that it leases stay whole.
     */
    BIPS_ENDED_EXPELLED = 3,
    /**
     * In another way, which a later version will name.
     */
    BIPS_ENDED_OTHERWISE = 255,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum bips_ending bips_ending;
#else
typedef int32_t bips_ending;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * What a check came to.
 */
enum bips_check_status
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * It works.
     */
    BIPS_CHECK_OK = 0,
    /**
     * It works, with something to know.
     */
    BIPS_CHECK_WARN = 1,
    /**
     * It does not work.
     */
    BIPS_CHECK_FAIL = 2,
    /**
     * It could not be tried.
     */
    BIPS_CHECK_SKIP = 3,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum bips_check_status bips_check_status;
#else
typedef int32_t bips_check_status;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * A tensor of `dlpack/dlpack.h` as it was before version 1.
 */
typedef struct DLManagedTensor DLManagedTensor;

/**
 * A tensor of `dlpack/dlpack.h`, version 1.
 */
typedef struct DLManagedTensorVersioned DLManagedTensorVersioned;

/**
 * Takes frames from one stream. One thread at a time, others are refused; any thread.
 */
typedef struct bips_consumer bips_consumer;

/**
 * A frame that another process published, readable in place. Any thread, several at once. It may outlive its consumer.
 */
typedef struct bips_frame bips_frame;

/**
 * A writable, private view of a frame: only pages written to are copied, and nobody else sees it.
 */
typedef struct bips_private_view bips_private_view;

/**
 * Owns the pool of one stream and publishes frames from it. Any thread, several at once.
 */
typedef struct bips_producer bips_producer;

/**
 * A 64-bit counter that device work advances and never turns back.
 */
typedef struct bips_timeline bips_timeline;

/**
 * A slot to write the next frame into. One thread at a time; any thread.
 */
typedef struct bips_writable_frame bips_writable_frame;

/**
 * The type of one element, numbered as DLPack's `DLDataType`.
 */
typedef struct bips_dtype {
    /**
     * 0 signed, 1 unsigned, 2 floating point, 4 bfloat, 5 complex, 6 boolean.
     */
    uint8_t code;
    /**
     * Bits of one lane.
     */
    uint8_t bits;
    /**
     * Lanes of one element; 1.
     */
    uint16_t lanes;
} bips_dtype;

/**
 * How bips asks a timeline of yours, for instance one of CUDA events. Called by the thread that publishes or releases
 * a frame, and by one of bips' own as long as the work is not done then; must neither throw, nor jump out, nor fork.
 */
typedef struct bips_timeline_functions {
    /**
     * sizeof(bips_timeline_functions).
     */
    size_t size;
    /**
     * Passed to the functions.
     */
    void *context;
    /**
     * Where the timeline stands; not 0 for an error of the device, the code of which goes into the message.
     */
    int32_t (*value)(void *context, uint64_t *value);
    /**
     * Blocks until it stands at `value` or beyond, or `timeout_ns` (negative: none) is over, after which it is asked
     * for its value. May be NULL: then the value is asked for every 100 µs. A publication in
     * memory that must be told of the CPU's access asks for a few milliseconds at a time, since closing the producer
     * ends it.
     */
    int32_t (*wait)(void *context, uint64_t value, int64_t timeout_ns);
    /**
     * Called once when nobody will ask any more. May be NULL.
     */
    void (*destroy)(void *context);
} bips_timeline_functions;

/**
 * One plane of an image inside its slot. All in bytes, `rows` in rows.
 */
typedef struct bips_plane {
    /**
     * Where the plane begins in the slot.
     */
    uint64_t offset;
    /**
     * From the start of one row to the next.
     */
    uint64_t stride;
    /**
     * Bytes of a row that hold pixels.
     */
    uint64_t width;
    /**
     * Rows of the plane.
     */
    uint64_t rows;
} bips_plane;

/**
 * How a frame lies in its slot: as a tensor, and an image also as planes.
 */
typedef struct bips_content {
    /**
     * Bytes from the start of the slot to the end of the frame.
     */
    uint64_t nbytes;
    /**
     * Lengths of the dimensions, in elements, the outermost first; `ndim` of them count.
     */
    uint64_t shape[BIPS_MAX_DIMS];
    /**
     * From one element to the next along each dimension, in bytes.
     */
    int64_t strides[BIPS_MAX_DIMS];
    /**
     * `nplanes` of them count; a tensor has one that is all of it.
     */
    struct bips_plane planes[BIPS_MAX_PLANES];
    /**
     * How the pixels lie in each plane, as DRM numbers it; 0 is row by row.
     */
    uint64_t modifier;
    /**
     * Dimensions.
     */
    uint32_t ndim;
    /**
     * Planes.
     */
    uint32_t nplanes;
    /**
     * V4L2's four-character code of an image, 0 for a tensor.
     */
    uint32_t fourcc;
    /**
     * Width of an image in pixels, or 0.
     */
    uint32_t width;
    /**
     * Height of an image in pixels, or 0.
     */
    uint32_t height;
    /**
     * Type of an element.
     */
    struct bips_dtype dtype;
} bips_content;

/**
 * How a pool lies and what its frames hold. It stands within bips_stream_info, so it never grows.
 */
typedef struct bips_layout {
    /**
     * sizeof(bips_layout).
     */
    size_t size;
    /**
     * Bytes of a slot.
     */
    uint64_t slot_bytes;
    /**
     * Slots of the pool.
     */
    uint32_t slots;
    /**
     * Most frames one consumer may lease.
     */
    uint32_t max_held;
    /**
     * 1: consumers may write.
     */
    uint32_t writable;
    /**
     * Zero.
     */
    uint32_t reserved;
    /**
     * Memory kind, such as "memfd".
     */
    char memory[BIPS_KIND_SIZE];
    /**
     * What a frame holds, unless it says otherwise.
     */
    struct bips_content content;
} bips_layout;

/**
 * The public facts of a stream.
 */
typedef struct bips_stream_info {
    /**
     * sizeof(bips_stream_info).
     */
    size_t size;
    /**
     * Frames published so far.
     */
    uint64_t published;
    /**
     * Frames taken from keep-last consumers before they read them.
     */
    uint64_t evicted;
    /**
     * Consumers put out because they held the producer up.
     */
    uint64_t expelled;
    /**
     * How many consume it now.
     */
    uint64_t consumers;
    /**
     * Process id of the producer, as seen from its own pid namespace.
     */
    uint32_t pid;
    /**
     * Frames a late joiner still gets.
     */
    uint32_t history;
    /**
     * 1: reliable consumers are admitted.
     */
    uint32_t reliable;
    /**
     * Zero.
     */
    uint32_t reserved;
    /**
     * How the pool lies and what frames hold. Its `size` is set.
     */
    struct bips_layout layout;
} bips_stream_info;

/**
 * One consumer, as its producer sees it. It stands in arrays, so it never grows.
 */
typedef struct bips_consumer_state {
    /**
     * Frames it has taken, as it says itself.
     */
    uint64_t received;
    /**
     * Frames it never saw because newer ones took their place.
     */
    uint64_t missed;
    /**
     * How long ago the oldest of the frames that it leases was published, in ns.
     */
    uint64_t held_for_ns;
    /**
     * How long ago the oldest of the frames that it has not taken was published, in ns.
     */
    uint64_t unread_for_ns;
    /**
     * Process id; 0 where the kernel does not show it to the producer (other pid namespace).
     */
    uint32_t pid;
    /**
     * User id, as the producer sees it.
     */
    uint32_t uid;
    /**
     * 0: reliable. Else the last so many frames are kept for it.
     */
    uint32_t keep_last;
    /**
     * Frames it leases.
     */
    uint32_t held;
    /**
     * Frames published for it that it has not taken.
     */
    uint32_t unread;
    /**
     * 1: put out. It is still listed as long as it may read what it holds.
     */
    uint32_t expelled;
    /**
     * 1: the producer has no slot now, and it is this consumer that must read or give back frames.
     */
    uint32_t in_the_way;
    /**
     * Zero.
     */
    uint32_t reserved;
    /**
     * What it calls itself: its program and host, unless it says otherwise. Text on one line.
     */
    char label[72];
} bips_consumer_state;

/**
 * What a producer's frames hold, and how it shares them. All zeros but `size` and the content is a good begin:
 * `bips_producer_options o = bips_producer_options_init(); o.format = "RGB3"; o.width = 640; o.height = 480;`
 */
typedef struct bips_producer_options {
    /**
     * sizeof(bips_producer_options).
     */
    size_t size;
    /**
     * An image: V4L2's four-character code, such as "RGB3" or "NV12", with `width` and `height` in pixels.
     */
    const char *format;
    /**
     * Width of an image, in pixels.
     */
    uint32_t width;
    /**
     * Height of an image, in pixels.
     */
    uint32_t height;
    /**
     * A tensor: type of an element, such as "float32" ("uint8" where absent), with `shape`.
     */
    const char *dtype;
    /**
     * Lengths of the dimensions, in elements, the outermost first; `ndim` of them.
     */
    const uint64_t *shape;
    /**
     * Dimensions, up to 8.
     */
    size_t ndim;
    /**
     * Neither image nor tensor: plain bytes, so many.
     */
    uint64_t bytes;
    /**
     * Memory kind: "auto" (also where absent) or one that `bips doctor` lists.
     */
    const char *memory;
    /**
     * Who may consume: "owner" (also where absent), "group:NAME" or "directory".
     */
    const char *access;
    /**
     * What is done about a consumer that holds the stream up: "wait" (also where absent) or "expel:SECONDS".
     */
    const char *on_stall;
    /**
     * The runtime directory; where absent $BIPS_DIR, /run/bips, $XDG_RUNTIME_DIR/bips or /tmp/bips-UID.
     */
    const char *directory;
    /**
     * How long a call that may wait looks before it sleeps, in nanoseconds; 0 is the default, negative not at all.
     */
    int64_t spin_ns;
    /**
     * What the memory will be used for: BIPS_USAGE_..., or 0 for the CPU alone.
     */
    uint32_t usage;
    /**
     * Slots of the pool, up to 64; 0 is 4.
     */
    uint32_t slots;
    /**
     * Most frames one consumer may lease; 0 is two fewer than there are slots, at least 1.
     */
    uint32_t max_held;
    /**
     * Frames that a late joiner still gets.
     */
    uint32_t history;
    /**
     * Not 0: consumers may write.
     */
    uint8_t writable;
    /**
     * Not 0: admits no consumer that could hold the producer back.
     */
    uint8_t refuse_reliable;
    /**
     * Zeros.
     */
    uint8_t reserved[6];
} bips_producer_options;

/**
 * Where a slot is.
 */
typedef struct bips_slot {
    /**
     * sizeof(bips_slot).
     */
    size_t size;
    /**
     * First byte; writable for `nbytes` bytes until the frame is published. It may hold an older frame: write all that
     * you publish.
     */
    void *data;
    /**
     * Bytes of the slot.
     */
    size_t nbytes;
    /**
     * Index of the slot in its pool.
     */
    uint32_t index;
    /**
     * Zero.
     */
    uint32_t reserved;
} bips_slot;

/**
 * What a producer has done.
 */
typedef struct bips_producer_stats {
    /**
     * sizeof(bips_producer_stats).
     */
    size_t size;
    /**
     * Frames published.
     */
    uint64_t published;
    /**
     * Frames taken from keep-last consumers before they read them, summed over consumers.
     */
    uint64_t evicted;
    /**
     * Consumers put out because they held the producer up.
     */
    uint64_t expelled;
    /**
     * Bytes of the pool.
     */
    uint64_t pool_bytes;
    /**
     * How many consume the stream now.
     */
    uint64_t consumers;
    /**
     * For how long it has had no slot to write to, in ns: it asked for one in vain, and none has come free since. 0: it
     * has one. Consumers with `in_the_way` say because of whom; none: the producer itself has them all.
     */
    uint64_t stalled_for_ns;
} bips_producer_stats;

/**
 * What a producer says about one frame. All of it is optional.
 */
typedef struct bips_description {
    /**
     * sizeof(bips_description).
     */
    size_t size;
    /**
     * A shape other than the stream's, of `ndim` dimensions; must fit the slot. NULL: the stream's.
     */
    const uint64_t *shape;
    /**
     * Dimensions of `shape`.
     */
    size_t ndim;
    /**
     * When the content was captured, in ns of CLOCK_MONOTONIC; 0: now.
     */
    uint64_t timestamp_ns;
    /**
     * Up to 256 bytes that travel with the frame.
     */
    const void *metadata;
    /**
     * Bytes of `metadata`.
     */
    size_t metadata_size;
} bips_description;

/**
 * A point on a timeline. NULL instead of a fence, or with a timeline of NULL: the work is done.
 */
typedef struct bips_fence {
    /**
     * The timeline.
     */
    const struct bips_timeline *timeline;
    /**
     * The value at which the work is done.
     */
    uint64_t value;
} bips_fence;

/**
 * How a consumer reads.
 */
typedef struct bips_consumer_options {
    /**
     * sizeof(bips_consumer_options).
     */
    size_t size;
    /**
     * "reliable" (also where absent), "latest" or "keep-last:N".
     */
    const char *policy;
    /**
     * The runtime directory, as for the producer.
     */
    const char *directory;
    /**
     * How long a call that may wait looks before it sleeps, in nanoseconds; 0 is the default, negative not at all.
     */
    int64_t spin_ns;
    /**
     * Not 0: goes on with the next producer of the name when this one ends.
     */
    uint8_t reconnect;
    /**
     * Zeros.
     */
    uint8_t reserved[7];
    /**
     * What the producer shows this consumer as, at most 64 bytes on one line; NULL: its program and host.
     */
    const char *label;
} bips_consumer_options;

/**
 * What a consumer has seen.
 */
typedef struct bips_consumer_stats {
    /**
     * sizeof(bips_consumer_stats).
     */
    size_t size;
    /**
     * Frames received.
     */
    uint64_t received;
    /**
     * Frames it never saw because newer ones took their place.
     */
    uint64_t missed;
    /**
     * How often it has joined anew.
     */
    uint64_t reconnects;
    /**
     * Bytes of control memory mapped for it, the pool aside.
     */
    uint64_t control_bytes;
    /**
     * Frames leased right now.
     */
    uint32_t held;
    /**
     * Process id of the producer, as seen from the producer's own pid namespace.
     */
    uint32_t producer_pid;
} bips_consumer_stats;

/**
 * All there is to know of a frame. What it points to is valid until the frame is released.
 */
typedef struct bips_frame_info {
    /**
     * sizeof(bips_frame_info).
     */
    size_t size;
    /**
     * First byte of the frame; readable for `slot_bytes` bytes.
     */
    const void *data;
    /**
     * Bytes of the slot, at least `content.nbytes`.
     */
    size_t slot_bytes;
    /**
     * What the producer attached to the frame.
     */
    const void *metadata;
    /**
     * Bytes of it, at most 256.
     */
    size_t metadata_size;
    /**
     * Which publication of its producer this is, from 0.
     */
    uint64_t sequence;
    /**
     * When it was published, in ns of CLOCK_MONOTONIC.
     */
    uint64_t published_ns;
    /**
     * When its content was captured, in ns of CLOCK_MONOTONIC; the time of publication if nobody said.
     */
    uint64_t timestamp_ns;
    /**
     * How often its consumer had joined anew before it came. With another producer sequences start again, and size,
     * format and memory may be others.
     */
    uint32_t generation;
    /**
     * Index of the slot in its pool.
     */
    uint32_t slot;
    /**
     * 1: mapped read-only, which the MMU enforces; writing is SIGSEGV. 0: the stream is writable.
     */
    uint32_t readonly;
    /**
     * Zero.
     */
    uint32_t reserved;
    /**
     * How it lies in its slot.
     */
    struct bips_content content;
} bips_frame_info;

/**
 * One thing that was tried.
 */
typedef struct bips_check {
    /**
     * sizeof(bips_check) of the library.
     */
    size_t size;
    /**
     * What was tried, such as a memory kind.
     */
    const char *name;
    /**
     * What came of it.
     */
    const char *detail;
    /**
     * What to do about it, or NULL.
     */
    const char *next_step;
    /**
     * The verdict.
     */
    bips_check_status status;
} bips_check;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Why the last call of this thread that failed did so, and what to do next. Never NULL; empty when none has failed.
 * Valid until the next call of this thread that fails.
 */
const char *bips_last_error_message(void);

/**
 * The name of a status, such as "not-found". Never NULL, valid for ever.
 */
const char *bips_status_name(int32_t status);

/**
 * The version of this interface that the library has; BIPS_ABI_VERSION is the header's. A library serves
 * programs made with an older header of the same number; a new number is a new file name.
 */
uint32_t bips_abi_version(void);

/**
 * The release of bips, such as "0.1.0". Valid for ever.
 */
const char *bips_version(void);

/**
 * The type of this name: NumPy's and PyTorch's spelling, such as "uint8" or "bfloat16".
 *
 * BIPS_INVALID_ARGUMENT lists the names there are.
 */
bips_status bips_dtype_parse(const char *name, struct bips_dtype *dtype);

/**
 * The name of a type, such as "float32"; "unknown" for one that bips doesn't have. Valid for ever.
 */
const char *bips_dtype_name(struct bips_dtype dtype);

/**
 * Makes a timeline of your functions. When that fails `destroy` is not called: the context is still yours.
 */
bips_status bips_timeline_create(const struct bips_timeline_functions *functions,
                                 struct bips_timeline **timeline);

/**
 * Ends the handle. Calls that wait for the timeline go on. NULL is nothing.
 */
bips_status bips_timeline_destroy(struct bips_timeline *timeline);

/**
 * Asks the producer of a stream about it, without joining. `directory` as in the options. Who consumes it goes to
 * `consumers` as in `bips_producer_get_consumers`; with a `count` of NULL it goes nowhere.
 *
 * BIPS_NOT_FOUND, with what is published instead; BIPS_ACCESS_DENIED; BIPS_TIMEOUT from a stopped producer.
 */
bips_status bips_query(const char *name,
                       const char *directory,
                       struct bips_stream_info *info,
                       struct bips_consumer_state *consumers,
                       size_t capacity,
                       size_t *count);

/**
 * Calls `each` with the name of every stream whose producer lives, sorted. `directory` as in the options. The name is
 * valid during the call, which must neither throw nor jump out.
 *
 * BIPS_NOT_FOUND or BIPS_ACCESS_DENIED for the runtime directory itself.
 */
bips_status bips_streams(const char *directory,
                         void (*each)(const char *name, void *context),
                         void *context);

/**
 * Makes the producer of the stream `name`: 1 to 100 of `A-Za-z0-9._-`, `/` for nesting. The options say at least what
 * a frame holds.
 *
 * BIPS_NAME_TAKEN, BIPS_OUT_OF_MEMORY, BIPS_UNSUPPORTED (the memory kind, with what each lacks),
 * BIPS_INVALID_ARGUMENT, BIPS_ACCESS_DENIED.
 */
bips_status bips_producer_create(const char *name,
                                 const struct bips_producer_options *options,
                                 struct bips_producer **producer);

/**
 * Takes a free slot for the next frame. `timeout_ns`: 0 tries once, negative waits for ever. Never waits for consumers
 * that keep the last frames only.
 *
 * BIPS_TIMEOUT (who holds the slots is in the message, unless it only tried), BIPS_CLOSED, BIPS_FORKED.
 */
bips_status bips_producer_acquire(const struct bips_producer *producer,
                                  int64_t timeout_ns,
                                  struct bips_writable_frame **frame);

/**
 * `bips_producer_acquire` and `bips_writable_frame_get_slot` in one, which takes less time than one after the other.
 */
bips_status bips_producer_acquire_slot(const struct bips_producer *producer,
                                       int64_t timeout_ns,
                                       struct bips_writable_frame **frame,
                                       struct bips_slot *slot);

/**
 * Waits until `count` consumers have joined. BIPS_TIMEOUT says how many there are; BIPS_CLOSED, BIPS_FORKED.
 */
bips_status bips_producer_wait_for_consumers(const struct bips_producer *producer,
                                             uint32_t count,
                                             int64_t timeout_ns);

/**
 * How the pool lies and what frames hold.
 */
bips_status bips_producer_get_layout(const struct bips_producer *producer, struct bips_layout *layout);

/**
 * What the producer has done. BIPS_CLOSED, BIPS_FORKED.
 */
bips_status bips_producer_get_stats(const struct bips_producer *producer, struct bips_producer_stats *stats);

/**
 * Who consumes the stream now: up to `capacity` of them into `consumers`, how many there are into `count`.
 *
 * BIPS_INVALID_ARGUMENT when there are more than `capacity`: then `count` says for how many there should be room, and
 * those that fit are there. With a `capacity` of 0 it only counts.
 */
bips_status bips_producer_get_consumers(const struct bips_producer *producer,
                                        struct bips_consumer_state *consumers,
                                        size_t capacity,
                                        size_t *count);

/**
 * Ends the stream and gives the name back. Consumers keep what they hold and drain what was published. Calls of other
 * threads that wait with it return BIPS_CLOSED. Doing it again is nothing.
 */
bips_status bips_producer_close(const struct bips_producer *producer);

/**
 * Closes the producer and ends the handle. Calls of other threads that wait with it return first, with BIPS_CLOSED.
 * Frames acquired from it stay valid, but can't be published any more. NULL is nothing.
 *
 * BIPS_INVALID_ARGUMENT when another thread's call has not returned within 2 seconds: the producer is closed then, and
 * can be destroyed when that has returned.
 */
bips_status bips_producer_destroy(struct bips_producer *producer);

/**
 * Where to write.
 */
bips_status bips_writable_frame_get_slot(const struct bips_writable_frame *frame, struct bips_slot *slot);

/**
 * How the stream's frames lie in their slots: where to write planes, rows and elements.
 */
bips_status bips_writable_frame_get_content(const struct bips_writable_frame *frame,
                                            struct bips_content *content);

/**
 * Gives the slot to a device, which writes the frame instead of the CPU: from here until it is published do not touch its
 * bytes. Where devices and CPUs must be told of each other, they are told now and not at the end, when the CPU's caches
 * would come after what the device wrote. For other memory it is nothing; so is doing it again.
 */
bips_status bips_writable_frame_for_device(const struct bips_writable_frame *frame);

/**
 * A descriptor of the memory by which devices write to the slot, a dma-buf where it has one, and where in it the slot
 * begins. It is yours: close it. It is not for consumers: of some memory kinds it allows more than theirs.
 *
 * BIPS_UNSUPPORTED where the memory has none to give; BIPS_FORKED.
 */
bips_status bips_writable_frame_fd(const struct bips_writable_frame *frame,
                                   int *fd,
                                   uint64_t *offset);

/**
 * Hands the frame to every consumer, once `ready` (NULL: at once). Its sequence number, from 0, goes to `sequence`,
 * which may be NULL. Waits for no consumer, and not for `ready`: consumers receive the frame when it is done, never if it fails.
 * Only of memory that must be told of the CPU's access (dma-bufs) it waits for `ready` and for devices that still
 * write, until the producer is closed. The handle ends, also when it fails: then nothing was published. Only what is no handle of this process,
 * of a frame or a timeline, and a structure of a wrong size leave it as it was.
 *
 * BIPS_INVALID_ARGUMENT for a shape that doesn't fit or too much metadata; BIPS_CLOSED; BIPS_FORKED; what the fence
 * has to report by now.
 */
bips_status bips_writable_frame_publish(struct bips_writable_frame *frame,
                                        const struct bips_description *description,
                                        const struct bips_fence *ready,
                                        uint64_t *sequence);

/**
 * Gives the slot back unseen and ends the handle. NULL is nothing.
 */
bips_status bips_writable_frame_cancel(struct bips_writable_frame *frame);

/**
 * Joins the stream `name`, waiting for its producer to appear as long as `timeout_ns` says: 0 tries once, negative
 * waits for ever. `options` may be NULL: a reliable consumer that does not reconnect.
 *
 * BIPS_NOT_FOUND or BIPS_TIMEOUT, with what is published instead; BIPS_ACCESS_DENIED, BIPS_UNSUPPORTED,
 * BIPS_PROTOCOL.
 */
bips_status bips_consumer_connect(const char *name,
                                  const struct bips_consumer_options *options,
                                  int64_t timeout_ns,
                                  struct bips_consumer **consumer);

/**
 * The next frame: a lease, until `bips_frame_release`. `timeout_ns`: 0 tries once, negative waits for ever.
 *
 * BIPS_TIMEOUT; BIPS_CLOSED once the producer ended and every frame it published has been received
 * (`bips_consumer_get_ending` says how); BIPS_TOO_MANY_HELD: release one first; BIPS_PROTOCOL; BIPS_FORKED;
 * BIPS_UNSUPPORTED when the next producer of the name can't be joined.
 */
bips_status bips_consumer_receive(const struct bips_consumer *consumer,
                                  int64_t timeout_ns,
                                  struct bips_frame **frame);

/**
 * `bips_consumer_receive` and `bips_frame_data` in one, which takes less time than one after the other. `nbytes` may be
 * NULL.
 */
bips_status bips_consumer_receive_data(const struct bips_consumer *consumer,
                                       int64_t timeout_ns,
                                       struct bips_frame **frame,
                                       const void **data,
                                       size_t *nbytes);

/**
 * A descriptor that is readable when there may be something to receive, and for good after the end: receive until
 * BIPS_TIMEOUT, then wait for it again with poll or epoll. It belongs to the consumer; do not read or close it.
 *
 * BIPS_UNSUPPORTED with `reconnect`: it would change under the loop.
 */
bips_status bips_consumer_poll_fd(const struct bips_consumer *consumer,
                                  int *fd);

/**
 * How the stream ended for this consumer, or that it has not: to be closed is no end of the stream.
 */
bips_status bips_consumer_get_ending(const struct bips_consumer *consumer, bips_ending *ending);

/**
 * How the pool lies and what frames hold. With `reconnect` the next producer's may differ: see `generation`.
 */
bips_status bips_consumer_get_layout(const struct bips_consumer *consumer, struct bips_layout *layout);

/**
 * What the consumer has seen.
 */
bips_status bips_consumer_get_stats(const struct bips_consumer *consumer, struct bips_consumer_stats *stats);

/**
 * Reads no more: every receive of this consumer is BIPS_CLOSED from now on, also one that another thread waits in; this
 * waits until that is on its way out. For any thread; doing it again is nothing. Frames that are leased stay valid. What
 * was not read no longer holds the producer back.
 */
bips_status bips_consumer_close(const struct bips_consumer *consumer);

/**
 * Leaves the stream and ends the handle. A call of another thread that waits with it returns first, with BIPS_CLOSED.
 * Frames that are leased stay valid. NULL is nothing.
 *
 * BIPS_INVALID_ARGUMENT when another thread's call has not returned within 2 seconds: the consumer is closed then, and
 * can be destroyed when that has returned.
 */
bips_status bips_consumer_destroy(struct bips_consumer *consumer);

/**
 * Where the frame is: its first byte, readable until it is released, and its length in bytes, which may be NULL. What
 * `bips_frame_get_info` also says, in less time.
 */
bips_status bips_frame_data(const struct bips_frame *frame,
                            const void **data,
                            size_t *nbytes);

/**
 * Fills `info`.
 */
bips_status bips_frame_get_info(const struct bips_frame *frame, struct bips_frame_info *info);

/**
 * Copies `size` bytes from `offset` of the slot on. Safe whatever the producer does; reading in place is up to a
 * producer that keeps its promise.
 *
 * BIPS_INVALID_ARGUMENT when that goes beyond the slot; BIPS_FORKED.
 */
bips_status bips_frame_copy(const struct bips_frame *frame,
                            size_t offset,
                            void *to,
                            size_t size);

/**
 * A descriptor of the memory, to pass on to V4L2, DRM or GStreamer, and where in it the slot begins. It is yours: close
 * it. The lease stays with the frame.
 *
 * BIPS_UNSUPPORTED where the memory has none to give; BIPS_FORKED.
 */
bips_status bips_frame_fd(const struct bips_frame *frame,
                          int *fd,
                          uint64_t *offset);

/**
 * Gives the frame back once `done` (NULL: now), and ends the handle at once: a thread of bips waits for the fence. NULL instead
 * of a frame is nothing. The slot is free when everything made from the frame, such as DLPack tensors, is gone too. The
 * handle ends also when the fence has an error to report by now; only a wrong handle, or a fence of the parent in a forked child, leaves things as they were.
 */
bips_status bips_frame_release(struct bips_frame *frame,
                               const struct bips_fence *done);

/**
 * Makes a private view of a frame, one at a time of each. It holds the lease itself: the frame may be released. Its
 * first byte goes to `data`, writable for all the slot's bytes until the view is destroyed.
 *
 * BIPS_UNSUPPORTED by memory that has no such view; BIPS_INVALID_ARGUMENT while another view of the frame lives;
 * BIPS_FORKED.
 */
bips_status bips_frame_private_view(const struct bips_frame *frame,
                                    struct bips_private_view **view,
                                    void **data);

/**
 * Ends the view. What was written is forgotten. NULL is nothing.
 */
bips_status bips_private_view_destroy(struct bips_private_view *view);

/**
 * The frame as a DLPack tensor over the same memory: of plane `plane` of an image, from 0, or of all of it for -1. It
 * says that it is read-only unless the stream is writable, and holds the lease: the frame may be released. Its taker
 * calls its `deleter` once, on any thread; libtorch's `at::fromDLPackVersioned` and the like do.
 *
 * BIPS_INVALID_ARGUMENT when there is no such plane; BIPS_FORKED.
 */
bips_status bips_frame_dlpack(const struct bips_frame *frame,
                              int32_t plane,
                              struct DLManagedTensorVersioned **tensor);

/**
 * The same as a tensor of DLPack before version 1, for `at::fromDLPack` and others that take no newer one. It can't say
 * that it is read-only: unless the stream is writable, whoever writes to it ends with SIGSEGV.
 *
 * BIPS_INVALID_ARGUMENT when there is no such plane; BIPS_FORKED.
 */
bips_status bips_frame_dlpack_legacy(const struct bips_frame *frame,
                                     int32_t plane,
                                     struct DLManagedTensor **tensor);

/**
 * The slot as a DLPack tensor to write into, laid out as the stream's frames are. The slot is not taken again before the
 * tensor is gone: let go of it when the frame is published, and write no more.
 *
 * BIPS_INVALID_ARGUMENT when there is no such plane; BIPS_FORKED.
 */
bips_status bips_writable_frame_dlpack(const struct bips_writable_frame *frame,
                                       int32_t plane,
                                       struct DLManagedTensorVersioned **tensor);

/**
 * The same as a tensor of DLPack before version 1.
 *
 * BIPS_INVALID_ARGUMENT when there is no such plane; BIPS_FORKED.
 */
bips_status bips_writable_frame_dlpack_legacy(const struct bips_writable_frame *frame,
                                              int32_t plane,
                                              struct DLManagedTensor **tensor);

/**
 * Tries what this machine can do, and calls `each` with every check. What it is called with is valid during the call,
 * which must neither throw nor jump out. `directory` as in the options. Drivers of GPUs are not loaded for it: the program
 * `bips doctor` tries those.
 */
bips_status bips_doctor(const char *directory,
                        void (*each)(const struct bips_check *check, void *context),
                        void *context);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* BIPS_H */

#ifndef BIPS_INIT_FUNCTIONS
#define BIPS_INIT_FUNCTIONS

/* Structures as a call expects them: `size` set, all else zero. */
#define BIPS_INIT_(type)                 \
    static inline type type##_init(void) \
    {                                    \
        type structure;                  \
        memset(&structure, 0, sizeof structure); \
        structure.size = sizeof structure;       \
        return structure;                \
    }

BIPS_INIT_(bips_producer_options)
BIPS_INIT_(bips_consumer_options)
BIPS_INIT_(bips_description)
BIPS_INIT_(bips_slot)
BIPS_INIT_(bips_frame_info)
BIPS_INIT_(bips_layout)
BIPS_INIT_(bips_producer_stats)
BIPS_INIT_(bips_consumer_stats)
BIPS_INIT_(bips_stream_info)
BIPS_INIT_(bips_timeline_functions)

#undef BIPS_INIT_

#endif /* BIPS_INIT_FUNCTIONS */
