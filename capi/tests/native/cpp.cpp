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
    REFUSES(BIPS_INVALID_ARGUMENT, "bytes()", frame.try_as<double>());
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
    }
    DOES(send(producer, 3));
    TAKE(frame, consumer.try_receive(patience));
    CHECK(frame.content().planes() == 2 && frame.content().width() == 64 && frame.content().height() == 32);
    CHECK(frame.content().fourcc() == 0x3231564e && frame.content().nbytes() == 64 * 48);
    const auto plane = frame.plane(1);
    CHECK(plane.data == frame.data() + 64 * 32 && plane.stride == 64 && plane.width == 64 && plane.rows == 16);
    CHECK(plane.row(3).data() == plane.data + 192 && plane.row(3).size() == 64);

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
    REFUSES(BIPS_INVALID_ARGUMENT, "NULL", slots[0].try_publish());
    slots.pop_back();
    TAKE(again, producer.try_acquire(0s));
    bips::Description wrong;
    wrong.shape = {1, 1, 1, 1, 1, 1, 1, 1, 1};
    REFUSES(BIPS_INVALID_ARGUMENT, "", again.try_publish(wrong));
    CHECK(!again);
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
    REFUSES(BIPS_INVALID_ARGUMENT, "NULL", none.try_acquire(0s));
    REFUSES(BIPS_INVALID_ARGUMENT, "NULL", nobody.try_receive(0s));
    bips::Consumer moved = std::move(consumer);
    REFUSES(BIPS_INVALID_ARGUMENT, "NULL", consumer.try_receive(0s)); // NOLINT(bugprone-use-after-move)
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
    CHECK(consumer.begin() == consumer.end());
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
    view = bips::PrivateView();
    CHECK(held(consumer) == 1);
    std::thread([tensor = tensor] { tensor->deleter(tensor); }).join();
    CHECK(held(consumer) == 0);
    TAKE(slot, producer.try_acquire(0s));
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
    CHECK(reached == 5 && waits == 1);
    TAKE(frame, consumer.try_receive(patience));
    DOES(frame.try_release(done));
    CHECK(reached == 8 && waits == 2 && !frame && held(consumer) == 0);
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
    CHECK(consumer.receive().as<std::uint8_t>().size() == 64);
    auto frame = consumer.receive();
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
    CASE(frames_are_iterated);
    CASE(poll_says_when);
    CASE(a_frame_goes_elsewhere);
    CASE(fences_are_waited_for);
#ifdef BIPS_EXCEPTIONS
    CASE(errors_are_thrown);
#endif
    return check_end();
}
