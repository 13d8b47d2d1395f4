// bips.hpp as a C++17 or C++20 program uses it; also built with -fno-exceptions. BIPS_DIR names a directory of the test's own.

#include <bips.hpp>

#include "check.h"
#include "dlpack.h"

#include <numeric>
#include <thread>

static_assert(!std::is_copy_constructible_v<bips::Frame> && std::is_nothrow_move_constructible_v<bips::Frame>);
static_assert(!std::is_copy_constructible_v<bips::Consumer> && std::is_nothrow_move_constructible_v<bips::Producer>);
static_assert(std::is_nothrow_move_assignable_v<bips::WritableFrame>);

namespace {

const bips::Timeout soon = std::chrono::seconds(10);

struct Pair {
    bips::Producer producer;
    bips::Consumer consumer;

    Pair(const char* name, const bips::ProducerOptions& options)
        : producer(std::move(bips::Producer::try_create(name, options)).value()),
          consumer(std::move(bips::Consumer::try_connect(name)).value()) {}

    void publish(int value, const bips::Description& description = {}) {
        auto slot = std::move(producer.try_acquire(soon)).value();
        std::memset(slot.data(), value, slot.nbytes());
        CHECK(static_cast<bool>(slot.try_publish(description)));
        CHECK(!slot && slot.data() == nullptr);
    }

    bips::Frame receive() { return std::move(consumer.try_receive(soon)).value(); }
    std::uint32_t held() { return consumer.try_stats()->held; }
};

void a_frame_goes_round() {
    Pair pair("cpp/round", bips::tensor("float32", {4, 8}));
    CHECK(static_cast<bool>(pair.producer.try_wait_for_consumers(1, soon)));
    auto slot = std::move(pair.producer.try_acquire(soon)).value();
    CHECK(slot.nbytes() >= 128 && slot.bytes().size() == slot.nbytes());
    auto* floats = reinterpret_cast<float*>(slot.data());
    std::iota(floats, floats + 32, 0.0f);
    bips::Description description;
    description.shape = {2, 8};
    description.metadata = "hi";
    description.metadata_size = 2;
    description.timestamp = std::chrono::nanoseconds(77);
    CHECK(*slot.try_publish(description) == 0);

    auto frame = pair.receive();
    CHECK(frame.nbytes() == 64 && frame.bytes().size() == 64 && frame.sequence() == 0 && frame.readonly());
    CHECK(frame.shape().size() == 2 && frame.shape()[0] == 2 && frame.content().strides()[0] == 32);
    CHECK(std::strcmp(frame.dtype_name(), "float32") == 0 && frame.timestamp().count() == 77);
    CHECK(frame.published() <= std::chrono::steady_clock::now().time_since_epoch());
    CHECK(frame.metadata().size() == 2 && frame.metadata()[1] == std::byte{'i'});
    auto elements = frame.try_as<float>();
    CHECK(elements && elements->size() == 16 && (*elements)[15] == 15.0f);
    CHECK(frame.try_as<double>().status() == BIPS_INVALID_ARGUMENT);
    float copy[2] = {0, 0};
    CHECK(static_cast<bool>(frame.try_copy(copy, sizeof copy, 4)) && copy[1] == 2.0f);
    CHECK(frame.try_fd()->number() > 2);
    for (std::uint64_t number = 1; number < 9; number++) {
        auto next = std::move(pair.producer.try_acquire(soon)).value();
        CHECK(*(number % 2 == 0 ? next.try_publish() : next.try_publish(description)) == number);
        CHECK(pair.receive().sequence() == number);
    }
}

void what_moves_is_given_back_once() {
    Pair pair("cpp/moves", bips::bytes(64));
    pair.publish(1);
    auto frame = pair.receive();
    const auto* data = frame.data();
    bips::Frame other = std::move(frame);
    CHECK(!frame && frame.data() == nullptr && other.data() == data && pair.held() == 1);
    frame = std::move(other);
    CHECK(frame.data() == data && frame.sequence() == 0 && pair.held() == 1);
    frame.release();
    CHECK(!frame && pair.held() == 0 && frame.nbytes() == 0);
    {
        auto slot = std::move(pair.producer.try_acquire(soon)).value();
        bips::WritableFrame moved = std::move(slot);
        CHECK(!slot && slot.data() == nullptr && moved.data() != nullptr);
    }
    CHECK(pair.consumer.try_receive(bips::now).status() == BIPS_TIMEOUT);
}

void planes() {
    Pair pair("cpp/planes", bips::image("NV12", 64, 32));
    pair.publish(3);
    auto frame = pair.receive();
    auto chroma = frame.plane(1);
    CHECK(frame.content().planes() == 2 && chroma.rows == 16 && chroma.width == 64);
    CHECK(chroma.data == frame.data() + 64 * 32 && chroma.row(15)[63] == std::byte{3});
    CHECK(pair.consumer.try_layout()->memory == "memfd" && pair.producer.try_layout()->content.width() == 64);
}

void tensors_and_views_hold_the_lease() {
    Pair pair("cpp/tensors", bips::bytes(64));
    pair.publish(4);
    auto frame = pair.receive();
    auto* tensor = reinterpret_cast<Managed*>(*frame.try_dlpack());
    auto view = std::move(frame.try_private_view()).value();
    CHECK(tensor->tensor.data == frame.data() && (tensor->flags & READ_ONLY) != 0);
    view.data()[0] = std::byte{9};
    CHECK(frame.data()[0] == std::byte{4} && view.data()[1] == std::byte{4});
    frame.release();
    std::thread([&] { tensor->deleter(tensor); }).join();
    CHECK(pair.held() == 1);
    view = bips::PrivateView();
    CHECK(pair.held() == 0);
}

void fences_are_waited_for() {
    Pair pair("cpp/fences", bips::bytes(64));
    std::uint64_t reached = 0;
    auto timeline = std::move(bips::Timeline::try_create([&] { return reached; }, [&](std::uint64_t value, auto) {
                        reached = value;
                    })).value();
    const auto fence = timeline.at(5);
    auto slot = std::move(pair.producer.try_acquire(soon)).value();
    CHECK(static_cast<bool>(slot.try_publish({}, &fence)) && reached == 5);
    auto frame = pair.receive();
    CHECK(static_cast<bool>(frame.try_release(timeline.at(6))) && reached == 6 && pair.held() == 0);
    CHECK(bips::Timeline::try_create({}).status() == BIPS_INVALID_ARGUMENT);
}

void failures_say_why() {
    Pair pair("cpp/failures", bips::bytes(64));
    CHECK(bips::Producer::try_create("cpp/failures", bips::bytes(64)).status() == BIPS_NAME_TAKEN);
    auto none = bips::Consumer::try_connect("cpp/nobody");
    CHECK(none.status() == BIPS_NOT_FOUND && std::strstr(none.message(), "cpp/failures") != nullptr);
    CHECK(bips::Producer::try_create("x", {}).status() == BIPS_INVALID_ARGUMENT);
    CHECK(std::strlen(pair.consumer.try_receive(bips::now).message()) > 5);
    bips::Producer empty;
    CHECK(!empty && empty.try_acquire(bips::now).status() == BIPS_INVALID_ARGUMENT);
    bips::Consumer nothing;
    CHECK(!nothing && nothing.try_receive(bips::now).status() == BIPS_INVALID_ARGUMENT);
    CHECK(nothing.ending() == BIPS_NOT_ENDED);
}

void all_frames_to_the_end() {
    Pair pair("cpp/loop", bips::bytes(64));
    std::thread camera([&] {
        for (int i = 0; i < 20; i++) pair.publish(i);
        pair.producer.close();
    });
    int count = 0;
    for (auto& frame : pair.consumer) CHECK(frame.data()[63] == static_cast<std::byte>(count++));
    camera.join();
    CHECK(count == 20 && pair.consumer.ending() == BIPS_ENDED_CLOSED && pair.held() == 0);
}

void facts() {
    Pair pair("cpp/facts", bips::bytes(64));
    pair.publish(1);
    CHECK(pair.producer.try_stats()->published == 1 && pair.producer.try_consumers()->size() == 1);
    CHECK(bips::try_query("cpp/facts")->consumers == 1);
    CHECK(*bips::try_streams() == std::vector<std::string>{"cpp/facts"});
    CHECK(bips::try_doctor()->size() >= 3);
    CHECK(*pair.consumer.try_poll_fd() > 2);
}

#ifdef BIPS_EXCEPTIONS
void exceptions() {
    bips::Producer producer("cpp/throws", bips::bytes(64));
    bips::Consumer consumer("cpp/throws");
    try {
        consumer.receive(std::chrono::milliseconds(1));
        CHECK(!"it threw");
    } catch (const bips::Error& error) {
        CHECK(error.status() == BIPS_TIMEOUT && std::strcmp(error.name(), "timeout") == 0);
    }
    try {
        auto slot = producer.acquire();
        throw std::runtime_error("before it is published");
    } catch (const std::runtime_error&) {
    }
    CHECK(consumer.try_receive(bips::now).status() == BIPS_TIMEOUT);
    auto timeline = std::move(bips::Timeline::try_create([]() -> std::uint64_t { throw 1; })).value();
    const auto fence = timeline.at(1);
    CHECK(producer.acquire().try_publish({}, &fence).status() == BIPS_SYSTEM);
    CHECK(producer.acquire().publish() == 0 && consumer.receive().as<std::byte>().size() == 64);
    CHECK(producer.layout().slots == 4 && producer.stats().published == 1 && bips::streams().size() == 1);
}
#endif

} // namespace

int main() {
    setvbuf(stdout, nullptr, _IOLBF, 0);
    RUN(a_frame_goes_round);
    RUN(what_moves_is_given_back_once);
    RUN(planes);
    RUN(tensors_and_views_hold_the_lease);
    RUN(fences_are_waited_for);
    RUN(failures_say_why);
    RUN(all_frames_to_the_end);
    RUN(facts);
#ifdef BIPS_EXCEPTIONS
    RUN(exceptions);
#endif
    return check_failures == 0 ? 0 : 1;
}
