// Threads that share a frame. Run once more with eyes on what they do at the same time.
#include "check.h"

#include <bips.hpp>

#include <atomic>
#include <thread>
#include <vector>

using namespace std::chrono_literals;

namespace {

constexpr auto patience = std::chrono::nanoseconds(PATIENCE_NS);

/// What is asked first of a frame is asked by several threads, of every frame anew.
void threads_ask_one_frame() {
    constexpr unsigned frames = 400, threads = 3;
    auto created = bips::Producer::try_create("asked", bips::image("NV12", 64, 32));
    auto connected = bips::Consumer::try_connect("asked", {}, patience);
    CHECK(created && connected);
    const auto producer = std::move(created).value();
    auto consumer = std::move(connected).value();
    const bips::Frame none;
    std::atomic<const bips::Frame*> shown{&none};
    std::atomic<unsigned> round{0}, answered{0}, wrong{0};
    std::vector<std::thread> readers;
    for (unsigned t = 0; t < threads; t++) {
        readers.emplace_back([&, t] {
            for (unsigned i = 1; i <= frames; i++) {
                while (round.load() < i) std::this_thread::yield();
                const bips::Frame& frame = *shown.load();
                bool right = true;
                for (unsigned k = 0; k < 4; k++) {
                    switch ((k + t) % 4) {
                    case 0: right = right && frame.sequence() == i - 1 && frame.readonly(); break;
                    case 1: right = right && frame.content().width() == 64 && frame.shape().size() > 0; break;
                    case 2: right = right && frame.metadata().size() == 4 && frame.timestamp() == 77ns; break;
                    default: {
                        const auto plane = frame.try_plane(1);
                        right = right && plane && plane->data == frame.data() + 64 * 32 && plane->rows == 16;
                    }
                    }
                }
                wrong += !right;
                answered++;
            }
        });
    }
    unsigned failed = 0;
    for (unsigned i = 1; i <= frames; i++) {
        bips::Description description;
        description.metadata = "note";
        description.metadata_size = 4;
        description.timestamp = 77ns;
        auto slot = producer.try_acquire(patience);
        failed += !slot || !slot->try_publish(description);
        auto frame = consumer.try_receive(patience);
        failed += !frame;
        shown = frame ? &*frame : &none;
        round = i;
        while (answered.load() < i * threads) std::this_thread::yield();
        shown = &none;
    }
    for (auto& reader : readers) reader.join();
    CHECK(failed == 0 && wrong == 0);
}

} // namespace

int main() {
    if (check_begin() != 0) return 1;
    CASE(threads_ask_one_frame);
    return check_end();
}
