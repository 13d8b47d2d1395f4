// bips.hpp, also as C++20 and without exceptions: what is written here compiles in all of them.
#include "dlpack.h"

#include "check.h"

#include <bips.hpp>

#include <algorithm>
#include <atomic>
#include <numeric>
#include <poll.h>
#include <thread>

using namespace std::chrono_literals;
using bips::Result;

namespace {

// Only moved: what holds something is held once.
template <class T>
constexpr bool moves = std::is_nothrow_move_constructible_v<T> && std::is_nothrow_move_assignable_v<T> &&
                       !std::is_copy_constructible_v<T> && !std::is_copy_assignable_v<T>;
static_assert(moves<bips::Producer> && moves<bips::Consumer> && moves<bips::Frame> && moves<bips::WritableFrame>);
static_assert(moves<bips::Timeline> && moves<bips::PrivateView> && moves<bips::Fd>);

// A view ends with what it is of, so there is none of what has no name, and a Result that ends gives values.
#define CALLABLE(name, call)                                                         \
    template <class T, class = void> constexpr bool name = false;                    \
    template <class T> constexpr bool name<T, std::void_t<decltype(std::declval<T>() call)>> = true
CALLABLE(has_bytes, .bytes());
CALLABLE(has_plane, .plane(0));
CALLABLE(has_try_plane, .try_plane(0));
CALLABLE(has_metadata, .metadata());
CALLABLE(has_try_as, .template try_as<float>());
template <class T> constexpr bool views = has_bytes<T> && has_plane<T> && has_try_plane<T> && has_try_as<T>;
template <class T> constexpr bool view = has_bytes<T> || has_plane<T> || has_try_plane<T> || has_try_as<T>;
static_assert(views<bips::Frame&> && views<const bips::Frame&> && views<bips::WritableFrame&>);
static_assert(!view<bips::Frame> && !view<const bips::Frame> && !view<bips::WritableFrame>);
static_assert(has_metadata<const bips::Frame&> && !has_metadata<bips::Frame>);
using Numbers = Result<std::vector<int>>;
static_assert(std::is_same_v<decltype(*std::declval<Numbers>()), std::vector<int>>);
static_assert(std::is_same_v<decltype(std::declval<Numbers>().value()), std::vector<int>>);
static_assert(std::is_same_v<decltype(*std::declval<const Numbers&>()), const std::vector<int>&>);
#if defined(__cpp_lib_ranges)
static_assert(std::input_iterator<bips::Consumer::Iterator> && std::ranges::input_range<bips::Consumer>);
static_assert(std::ranges::borrowed_range<bips::View<const float>>);
#endif

constexpr auto patience = std::chrono::nanoseconds(PATIENCE_NS);

// The value, or the end of the case.
#define TAKE(name, call)                                                                  \
    auto name##_result = (call);                                                          \
    if (!name##_result) {                                                                 \
        check_says(__FILE__, __LINE__, #call, name##_result.message());                   \
        return;                                                                           \
    }                                                                                     \
    [[maybe_unused]] auto name = std::move(name##_result).value()

#define REFUSES(wanted, words, call)                                                      \
    do {                                                                                  \
        auto result_ = (call);                                                            \
        if (result_.status() != (wanted) || std::strstr(result_.message(), words) == nullptr) { \
            check_says(__FILE__, __LINE__, #call, result_.message());                     \
            return;                                                                       \
        }                                                                                 \
    } while (0)

#define DOES(call) CHECK(static_cast<bool>(call))

Result<std::uint64_t> send(const bips::Producer& producer, unsigned seed, const bips::Description& description = {}) {
    auto slot = producer.try_acquire(patience);
    if (!slot) return {slot.status(), std::string(slot.message())};
    check_fill(slot->data(), slot->nbytes(), seed);
    return slot->try_publish(description);
}

std::uint32_t held(const bips::Consumer& consumer) { return consumer.try_stats().value().held; }

void a_tensor_goes_round() {
    TAKE(producer, bips::Producer::try_create("tensor", bips::tensor("float32", {4, 3})));
    TAKE(consumer, bips::Consumer::try_connect("tensor", {}, patience));
    TAKE(slot, producer.try_acquire());
    CHECK(slot && slot.nbytes() >= 48 && slot.bytes().size() == slot.nbytes() && slot.slot() < 4);
    auto* numbers = reinterpret_cast<float*>(slot.data());
    std::iota(numbers, numbers + 12, 0.5f);
    bips::Description description;
    description.metadata = "note";
    description.metadata_size = 4;
    description.timestamp = 77ns;
    TAKE(sequence, slot.try_publish(description));
    CHECK(sequence == 0 && !slot && slot.data() == nullptr);

    const auto before = std::chrono::steady_clock::now().time_since_epoch();
    TAKE(frame, consumer.try_receive(patience));
    CHECK(frame && frame.nbytes() == 48 && frame.sequence() == 0 && frame.generation() == 0 && frame.readonly());
    CHECK(frame.shape().size() == 2 && frame.shape()[0] == 4 && frame.shape()[1] == 3);
    CHECK(frame.content().strides()[0] == 12 && std::string(frame.dtype_name()) == "float32");
    CHECK(frame.timestamp() == 77ns && frame.published() <= before && frame.published() > 0ns);
    CHECK(frame.metadata().size() == 4 && std::memcmp(frame.metadata().data(), "note", 4) == 0);
    TAKE(values, frame.try_as<float>());
    CHECK(values.size() == 12 && values[11] == 11.5f && !values.empty());
    CHECK(std::accumulate(values.begin(), values.end(), 0.0f) == 72.0f);
    CHECK(reinterpret_cast<const std::byte*>(values.data()) == frame.data() && frame.bytes().data() == frame.data());
    REFUSES(BIPS_INVALID_ARGUMENT, "float32", frame.try_as<double>());
    REFUSES(BIPS_INVALID_ARGUMENT, "float32", frame.try_as<std::int32_t>()); // as large, and something else
    REFUSES(BIPS_INVALID_ARGUMENT, "float32", frame.try_as<std::uint32_t>());
    TAKE(rows, frame.try_plane(0));
    CHECK(rows.rows * rows.width == 48);
    float copy[2];
    DOES(frame.try_copy(copy, sizeof copy, 40));
    CHECK(copy[0] == 10.5f && copy[1] == 11.5f);
    REFUSES(BIPS_INVALID_ARGUMENT, "slot", frame.try_copy(copy, sizeof copy, 1u << 30));

    // It moves, and what it was moved from is no frame.
    const std::byte* const data = frame.data();
    bips::Frame moved = std::move(frame);
    CHECK(moved.data() == data && moved.nbytes() == 48 && held(consumer) == 1);
    bips::Frame assigned;
    CHECK(!assigned && assigned.data() == nullptr && assigned.nbytes() == 0 && assigned.bytes().empty());
    assigned = std::move(moved);
    CHECK(assigned && assigned.data() == data && assigned.shape()[0] == 4);
    CHECK(moved.sequence() == 0 && moved.shape().size() == 0); // NOLINT(bugprone-use-after-move)
    REFUSES(BIPS_INVALID_ARGUMENT, "empty", moved.try_as<float>());
    REFUSES(BIPS_INVALID_ARGUMENT, "empty", moved.try_plane(0));
    REFUSES(BIPS_INVALID_ARGUMENT, "empty", moved.try_copy(copy, 4));
    assigned.release();
    CHECK(!assigned && held(consumer) == 0);
}

void an_image_has_planes() {
    auto options = bips::image("NV12", 64, 32);
    options.slots = 6;
    options.max_held = 2;
    options.memory = "memfd";
    options.access = "directory";
    options.on_stall = "expel:60";
    options.directory = check_directory;
    options.spin_ns = -1;
    TAKE(producer, bips::Producer::try_create("image", options));
    TAKE(consumer, bips::Consumer::try_connect("image", {"keep-last:2", check_directory, true, -1, "recorder"}, patience));
    DOES(producer.try_wait_for_consumers(1, patience));
    {
        TAKE(slot, producer.try_acquire(patience));
        CHECK(slot.content().planes() == 2 && slot.content().fourcc() == 0x3231564e);
        const auto chroma = slot.plane(1);
        CHECK(chroma.data == slot.data() + 64 * 32 && chroma.rows == 16 && chroma.row(1).size() == 64);
        CHECK(slot.try_as<std::uint8_t>().status() == BIPS_OK);
        CHECK(slot.try_as<float>().status() == BIPS_INVALID_ARGUMENT);
        REFUSES(BIPS_INVALID_ARGUMENT, "from 0 to 1", slot.try_plane(2));
        REFUSES(BIPS_INVALID_ARGUMENT, "from 0 to 1", slot.try_plane(SIZE_MAX));
    }
    DOES(send(producer, 3));
    TAKE(frame, consumer.try_receive(patience));
    CHECK(frame.content().planes() == 2 && frame.content().width() == 64 && frame.content().height() == 32);
    CHECK(frame.content().fourcc() == 0x3231564e && frame.content().nbytes() == 64 * 48);
    const auto plane = frame.plane(1);
    CHECK(plane.data == frame.data() + 64 * 32 && plane.stride == 64 && plane.width == 64 && plane.rows == 16);
    CHECK(plane.row(3).data() == plane.data + 192 && plane.row(3).size() == 64);

    REFUSES(BIPS_INVALID_ARGUMENT, "no plane 2", frame.try_plane(2));
    REFUSES(BIPS_INVALID_ARGUMENT, "from 0 to 1", frame.content().try_plane(frame.data(), 400));

    TAKE(layout, consumer.try_layout());
    TAKE(same, producer.try_layout());
    CHECK(layout.slots == 6 && layout.max_held == 2 && !layout.writable && layout.memory == "memfd");
    CHECK(same.slot_bytes == layout.slot_bytes && same.content.fourcc() == layout.content.fourcc());
    TAKE(consumers, producer.try_consumers());
    CHECK(consumers.size() == 1 && consumers[0].keep_last == 2 && consumers[0].held == 1);
    CHECK(std::string(consumers[0].label) == "recorder" && consumers[0].in_the_way == 0);
    TAKE(stats, producer.try_stats());
    CHECK(stats.published == 1 && stats.consumers == 1 && stats.stalled_for_ns == 0);
    TAKE(names, bips::try_streams());
    CHECK(names == std::vector<std::string>{"image"});
    TAKE(info, bips::try_query("image"));
    CHECK(info.published == 1 && info.layout.content.width == 64);
    TAKE(checks, bips::try_doctor());
    CHECK(std::any_of(checks.begin(), checks.end(), [](const bips::Check& check) { return check.name == "memfd"; }));
}

void errors_are_results() {
    auto nothing = bips::Consumer::try_connect("nothing");
    CHECK(!nothing && nothing.status() == BIPS_NOT_FOUND && std::strstr(nothing.message(), "nothing") != nullptr);
    REFUSES(BIPS_NOT_FOUND, "nothing", bips::Consumer::try_connect("nothing", {}, 5ms));
    REFUSES(BIPS_INVALID_ARGUMENT, "more than once", bips::Producer::try_create("x", [] {
                auto options = bips::image("RGB3", 4, 4);
                options.nbytes = 4;
                return options;
            }()));
    REFUSES(BIPS_INVALID_ARGUMENT, "UTF-8", bips::Producer::try_create("\xff", bips::bytes(4)));
    // A name does not end at a NUL in its middle.
    REFUSES(BIPS_INVALID_ARGUMENT, "NUL", bips::Producer::try_create(std::string("a\0b", 3), bips::bytes(4)));
    REFUSES(BIPS_INVALID_ARGUMENT, "NUL", bips::Consumer::try_connect(std::string("a\0b", 3)));
    bips::ConsumerOptions named;
    named.label = std::string("a\0b", 3);
    REFUSES(BIPS_INVALID_ARGUMENT, "NUL", bips::Consumer::try_connect("nothing", named));
    REFUSES(BIPS_NOT_FOUND, "", bips::try_query("nothing"));
    REFUSES(BIPS_NOT_FOUND, "", bips::try_streams("/nowhere"));

    TAKE(producer, bips::Producer::try_create("errors", bips::bytes(64)));
    TAKE(consumer, bips::Consumer::try_connect("errors"));
    REFUSES(BIPS_TIMEOUT, "just now", consumer.try_receive(bips::now));
    REFUSES(BIPS_TIMEOUT, "", consumer.try_receive(1ms));
    REFUSES(BIPS_TIMEOUT, "", consumer.try_receive(std::chrono::duration<double>(0.001)));
    std::vector<bips::WritableFrame> slots;
    for (int i = 0; i < 4; i++) {
        TAKE(slot, producer.try_acquire(0s));
        slots.push_back(std::move(slot));
    }
    REFUSES(BIPS_TIMEOUT, "just now", producer.try_acquire(bips::now));
    slots[0].cancel();
    CHECK(!slots[0]);
    REFUSES(BIPS_INVALID_ARGUMENT, "empty", slots[0].try_publish());
    REFUSES(BIPS_INVALID_ARGUMENT, "empty", slots[0].try_plane(0));
    slots.pop_back();
    TAKE(again, producer.try_acquire(0s));
    bips::Description wrong;
    wrong.shape = {1, 1, 1, 1, 1, 1, 1, 1, 1};
    REFUSES(BIPS_INVALID_ARGUMENT, "", again.try_publish(wrong));
    CHECK(!again);
    TAKE(early, producer.try_acquire(0s));
    bips::Description before_the_clock;
    before_the_clock.timestamp = -1ns;
    REFUSES(BIPS_INVALID_ARGUMENT, "timestamp", early.try_publish(before_the_clock));
    CHECK(!early);
    slots.clear();
    for (int i = 0; i < 4; i++) {
        TAKE(slot, producer.try_acquire(0s)); // all free
        slots.push_back(std::move(slot));
    }
    slots.clear();

    // What never was, and what was moved from.
    bips::Producer none;
    bips::Consumer nobody;
    CHECK(!none && !nobody && nobody.ending() == BIPS_NOT_ENDED);
    REFUSES(BIPS_INVALID_ARGUMENT, "empty", none.try_acquire(1s));
    REFUSES(BIPS_INVALID_ARGUMENT, "empty", nobody.try_receive(1s));
    bips::Consumer moved = std::move(consumer);
    REFUSES(BIPS_INVALID_ARGUMENT, "empty", consumer.try_receive(1s)); // NOLINT(bugprone-use-after-move)
    producer.close();
    REFUSES(BIPS_CLOSED, "", moved.try_receive());
    CHECK(moved.ending() == BIPS_ENDED_CLOSED);
}

void no_time_is_too_long() {
    static_assert(bips::Timeout(-5s).ns() == 0 && bips::Timeout(1us).ns() == 1000 && bips::forever.ns() < 0);
    static_assert(bips::Timeout(std::chrono::hours::max()).ns() == INT64_MAX);
    static_assert(bips::Timeout(std::chrono::nanoseconds::max()).ns() == INT64_MAX);
    static_assert(bips::Timeout(std::chrono::duration<double>(1e300)).ns() == INT64_MAX);
    static_assert(bips::Timeout(std::chrono::duration<double>(0.25)).ns() == 250000000);
    TAKE(producer, bips::Producer::try_create("long", bips::bytes(64)));
    TAKE(consumer, bips::Consumer::try_connect("long", {}, std::chrono::hours::max()));
    DOES(send(producer, 1));
    DOES(consumer.try_receive(std::chrono::hours::max()));
}

void a_loop_goes_over_what_a_result_gave() {
    TAKE(producer, bips::Producer::try_create("over", bips::bytes(64)));
    TAKE(first, bips::Consumer::try_connect("over"));
    TAKE(second, bips::Consumer::try_connect("over"));
    int seen = 0;
    for (const auto& consumer : *producer.try_consumers()) seen += consumer.label[0] != '\0';
    for (const auto& name : bips::try_streams().value()) seen += name == "over";
    CHECK(seen == 3);
    const auto names = bips::try_streams();
    CHECK(names && names->size() == 1 && *names == std::vector<std::string>{"over"} && names.message()[0] == '\0');
}

void elements_are_of_their_type() {
    for (const char* dtype : {"bool", "bfloat16", "float16", "uint8", "int16", "complex64"}) {
        TAKE(producer, bips::Producer::try_create("elements", bips::tensor(dtype, {8})));
        TAKE(slot, producer.try_acquire(patience));
        const std::string name = dtype;
        const bool two = name == "bfloat16" || name == "float16" || name == "int16";
        CHECK(bool(slot.try_as<std::uint8_t>()) == (name == "uint8" || name == "bool"));
        CHECK(bool(slot.try_as<char>()) == (name == "uint8" || name == "bool"));
        CHECK(bool(slot.try_as<std::int16_t>()) == (name == "int16"));
        CHECK(bool(slot.try_as<std::uint16_t>()) == (two && name != "int16"));
        struct Half {
            std::uint16_t bits;
        };
        CHECK(bool(slot.try_as<Half>()) == two);
        CHECK(bool(slot.try_as<double>()) == false);
        CHECK(bool(slot.try_as<std::uint64_t>()) == false);
        struct Complex {
            float re, im;
        };
        CHECK(bool(slot.try_as<Complex>()) == (name == "complex64"));
    }
}

void frames_are_iterated() {
    TAKE(producer, bips::Producer::try_create("iterated", bips::bytes(64)));
    TAKE(consumer, bips::Consumer::try_connect("iterated"));
    std::atomic<int> failed{0};
    std::thread sender([&] {
        for (unsigned i = 0; i < 20; i++) {
            auto sequence = send(producer, i);
            failed += !sequence || *sequence != i;
        }
        producer.close();
    });
    unsigned next = 0, wrong = 0;
    for (auto& frame : consumer) wrong += frame.sequence() != next || !check_filled(frame.data(), 64, next), next++;
    sender.join();
    CHECK(next == 20 && wrong == 0 && failed == 0 && held(consumer) == 0);
    CHECK(consumer.ending() == BIPS_ENDED_CLOSED);
    CHECK(consumer.begin() == consumer.end() && !(consumer.begin() != consumer.end()));
    CHECK(consumer.end() == consumer.begin());
}

void a_loop_is_ended_from_elsewhere() {
    TAKE(producer, bips::Producer::try_create("loop", bips::bytes(64)));
    TAKE(consumer, bips::Consumer::try_connect("loop"));
    DOES(send(producer, 1));
    std::atomic<int> seen{0};
    std::thread reader([&] {
        for (auto& frame : consumer) seen += frame.nbytes() == 64;
        seen += 10;
    });
    while (seen == 0) std::this_thread::sleep_for(1ms);
    consumer.close();
    reader.join();
    CHECK(seen == 11 && consumer.ending() == BIPS_NOT_ENDED);
    REFUSES(BIPS_CLOSED, "its own program", consumer.try_receive());
    consumer.close();
    TAKE(ending, consumer.try_ending());
    CHECK(ending == BIPS_NOT_ENDED);
    bips::Consumer().close(); // nothing
    REFUSES(BIPS_INVALID_ARGUMENT, "empty", bips::Consumer().try_ending());
}

/// Who closes it must not make the call fail that just comes, also where it has to wake a producer.
void a_loop_is_ended_at_any_moment() {
    int otherwise = 0, behind = 0;
    for (int i = 0; i < 100; i++) {
        TAKE(producer, bips::Producer::try_create("moment", bips::bytes(64)));
        TAKE(consumer, bips::Consumer::try_connect("moment"));
        std::atomic<bool> stop{false};
        std::thread sender([&] {
            while (!stop)
                if (auto slot = producer.try_acquire(1ms)) (void)slot->try_publish();
        });
        bips_status ended = BIPS_OK;
        std::thread reader([&] {
            for (;;) {
                auto frame = consumer.try_receive(i % 2 == 0 ? bips::now : bips::forever);
                if (frame.status() == BIPS_TIMEOUT) continue;
                if (!frame) {
                    ended = frame.status();
                    return;
                }
            }
        });
        std::this_thread::sleep_for(std::chrono::microseconds(i * 20));
        consumer.close();
        reader.join();
        stop = true;
        sender.join();
        otherwise += ended != BIPS_CLOSED;
        for (int k = 0; k < 5; k++) behind += !send(producer, 1); // nothing is unread that anybody waits for
    }
    CHECK(otherwise == 0 && behind == 0);
}

/// A reader that stops by itself, without another receive.
void what_is_unread_at_the_close_holds_nobody_up() {
    int behind = 0;
    for (int i = 0; i < 60; i++) {
        TAKE(producer, bips::Producer::try_create("unread", bips::bytes(64)));
        TAKE(consumer, bips::Consumer::try_connect("unread"));
        std::atomic<bool> stop{false};
        std::thread reader([&] {
            while (!stop) (void)consumer.try_receive(bips::now);
        });
        for (int k = 0; k < 3; k++) behind += !send(producer, 1);
        stop = true;
        consumer.close();
        reader.join();
        for (int k = 0; k < 5; k++) {
            auto slot = producer.try_acquire(2s);
            behind += !slot || !slot->try_publish();
        }
    }
    CHECK(behind == 0);
}

void poll_says_when() {
    TAKE(producer, bips::Producer::try_create("poll", bips::bytes(64)));
    TAKE(consumer, bips::Consumer::try_connect("poll"));
    TAKE(fd, consumer.try_poll_fd());
    while (consumer.try_receive(bips::now)) {}
    DOES(send(producer, 1));
    pollfd it{fd, POLLIN, 0};
    CHECK(poll(&it, 1, PATIENCE_MS) == 1);
    DOES(consumer.try_receive(bips::now));
}

void a_frame_goes_elsewhere() {
    TAKE(producer, bips::Producer::try_create("elsewhere", bips::bytes(4096)));
    TAKE(consumer, bips::Consumer::try_connect("elsewhere"));
    DOES(send(producer, 5));
    TAKE(frame, consumer.try_receive(patience));
    TAKE(fd, frame.try_fd());
    unsigned char bytes[16];
    CHECK(pread(fd.number(), bytes, sizeof bytes, static_cast<off_t>(fd.offset())) == sizeof bytes);
    CHECK(std::memcmp(bytes, frame.data(), sizeof bytes) == 0);
    const int number = fd.number();
    bips::Fd other = std::move(fd);
    CHECK(fd.number() == -1 && other.number() == number); // NOLINT(bugprone-use-after-move)
    CHECK(other.release() == number && ::close(number) == 0);

    TAKE(view, frame.try_private_view());
    std::memset(view.data(), 9, 4096);
    CHECK(check_filled(frame.data(), 4096, 5));
    REFUSES(BIPS_INVALID_ARGUMENT, "", frame.try_private_view());
    TAKE(tensor, frame.try_dlpack());
    CHECK(tensor->dl_tensor.data == frame.data() && tensor->flags == DLPACK_FLAG_BITMASK_READ_ONLY);
    frame.release();
    CHECK(held(consumer) == 1);
    bips::PrivateView moved_view = std::move(view);
    CHECK(moved_view && !view && view.data() == nullptr); // NOLINT(bugprone-use-after-move)
    moved_view = bips::PrivateView();
    CHECK(held(consumer) == 1);
    std::thread([tensor = tensor] { tensor->deleter(tensor); }).join();
    CHECK(held(consumer) == 0);
    DOES(send(producer, 6));
    TAKE(next, consumer.try_receive(patience));
    TAKE(old, next.try_dlpack_legacy());
    next.release();
    CHECK(held(consumer) == 1 && check_filled(old->dl_tensor.data, 4096, 6));
    old->deleter(old);
    CHECK(held(consumer) == 0);
    TAKE(slot, producer.try_acquire(0s));
    TAKE(device, slot.try_fd());
    CHECK(slot.try_for_device() && slot.try_for_device());
    slot.data()[7] = std::byte(0x5a);
    CHECK(pread(device.number(), bytes, 8, static_cast<off_t>(device.offset())) == 8 && bytes[7] == 0x5a);
    CHECK(slot.content().modifier() == 0);
    TAKE(writes, slot.try_dlpack());
    CHECK(writes->dl_tensor.data == slot.data());
    writes->deleter(writes);
}

void fences_are_waited_for() {
    std::atomic<std::uint64_t> reached{0};
    std::atomic<int> waits{0};
    TAKE(timeline, bips::Timeline::try_create([&] { return reached.load(); },
                                              [&](std::uint64_t value, std::chrono::nanoseconds) {
                                                  waits++;
                                                  reached = value;
                                              }));
    TAKE(producer, bips::Producer::try_create("fences", bips::bytes(64)));
    TAKE(consumer, bips::Consumer::try_connect("fences"));
    TAKE(slot, producer.try_acquire(0s));
    const bips_fence ready = timeline.at(5), done = timeline.at(8);
    DOES(slot.try_publish({}, &ready));
    TAKE(frame, consumer.try_receive(patience));
    CHECK(reached == 5 && waits == 1);
    DOES(frame.try_release(done));
    while (held(consumer) != 0) std::this_thread::yield();
    CHECK(reached == 8 && waits == 2 && !frame);
    REFUSES(BIPS_INVALID_ARGUMENT, "value", bips::Timeline::try_create({}));

    // A fence that can't be is told, and the frame is still there, or in the end nobody would give it back.
    DOES(send(producer, 1));
    TAKE(next, consumer.try_receive(patience));
    timeline = bips::Timeline();
    REFUSES(BIPS_INVALID_ARGUMENT, "timeline", next.try_release(done));
    CHECK(next && held(consumer) == 1);
    next = bips::Frame();
    CHECK(held(consumer) == 0);
}

#ifdef BIPS_EXCEPTIONS
template <class Work> bips_status thrown(Work work) {
    try {
        work();
    } catch (const bips::Error& error) {
        const std::string name = error.name();
        return name.empty() || std::strlen(error.what()) < 10 ? BIPS_INTERNAL : error.status();
    }
    return BIPS_OK;
}

void errors_are_thrown() {
    CHECK(thrown([] { bips::Consumer("nothing"); }) == BIPS_NOT_FOUND);
    CHECK(thrown([] { bips::Producer("x", {}); }) == BIPS_INVALID_ARGUMENT);
    CHECK(thrown([] { bips::query("nothing"); }) == BIPS_NOT_FOUND);
    CHECK(thrown([] { bips::streams("/nowhere"); }) == BIPS_NOT_FOUND);
    bips::Producer producer("thrown", bips::bytes(64));
    bips::Consumer consumer("thrown", {}, 1s);
    producer.wait_for_consumers(1);
    CHECK(thrown([&] { consumer.receive(1ms); }) == BIPS_TIMEOUT);
    CHECK(thrown([&] { producer.wait_for_consumers(2, 1ms); }) == BIPS_TIMEOUT);
    // Given back unseen.
    for (int i = 0; i < 8; i++) {
        CHECK(thrown([&] {
                  auto slot = producer.acquire(0s);
                  throw bips::Error(BIPS_LOST, "on the way of something");
              }) == BIPS_LOST);
    }
    CHECK(producer.acquire(1s).publish() == 0 && producer.acquire().publish({}, nullptr) == 1);
    auto frame = consumer.receive();
    CHECK(frame.as<std::uint8_t>().size() == 64 && frame.plane(0).rows > 0);
    CHECK(thrown([&] { frame.plane(1); }) == BIPS_INVALID_ARGUMENT);
    frame = consumer.receive();
    CHECK(thrown([&] { frame.as<int>(); }) == BIPS_INVALID_ARGUMENT);
    CHECK(thrown([&] { frame.copy(nullptr, 1u << 30); }) == BIPS_INVALID_ARGUMENT);
    char byte = 0;
    frame.copy(&byte, 1);
    CHECK(frame.fd().number() >= 0 && frame.private_view().data() != nullptr);
    auto* const tensor = frame.dlpack();
    tensor->deleter(tensor);
    CHECK(consumer.stats().received == 2 && consumer.poll_fd() >= 0 && consumer.layout().slots == 4);
    CHECK(producer.stats().published == 2 && producer.consumers().size() == 1 && producer.layout().max_held == 2);
    CHECK(!bips::doctor().empty() && bips::streams().size() == 1 && bips::query("thrown").published == 2);

    // What a device's functions throw is an error, not an end.
    TAKE(timeline, bips::Timeline::try_create([]() -> std::uint64_t { throw 5; }));
    auto slot = producer.acquire(1s);
    const auto fence = timeline.at(1);
    CHECK(thrown([&] { slot.publish({}, &fence); }) == BIPS_SYSTEM);
    producer.close();
    CHECK(thrown([&] { consumer.receive(); }) == BIPS_CLOSED);
}
#endif

} // namespace

int main() {
    if (check_begin() != 0) return 1;
    CASE(a_tensor_goes_round);
    CASE(an_image_has_planes);
    CASE(errors_are_results);
    CASE(no_time_is_too_long);
    CASE(a_loop_goes_over_what_a_result_gave);
    CASE(elements_are_of_their_type);
    CASE(frames_are_iterated);
    CASE(a_loop_is_ended_from_elsewhere);
    CASE(a_loop_is_ended_at_any_moment);
    CASE(what_is_unread_at_the_close_holds_nobody_up);
    CASE(poll_says_when);
    CASE(a_frame_goes_elsewhere);
    CASE(fences_are_waited_for);
#ifdef BIPS_EXCEPTIONS
    CASE(errors_are_thrown);
#endif
    return check_end();
}
