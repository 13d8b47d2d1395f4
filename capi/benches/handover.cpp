// What a hand-over costs through bips.hpp; handover.rs is the same through the Rust crate, step by step.
//
//     handover DIRECTORY awake|asleep ROUND_TRIPS    prints the nanoseconds of one way: half of the median round trip of 20 batches
//
// Two processes on two processors play ping-pong over two streams. Each side keeps its next buffer acquired ahead and
// releases what it received after it has answered.

#include <bips.hpp>

#include <algorithm>
#include <cstdio>
#include <sched.h>
#include <sys/wait.h>

namespace {

constexpr int BATCHES = 20;
// Longer than any answer takes, so that nobody sleeps.
constexpr std::int64_t AWAKE_NS = 10'000'000;

// After its side is made: who may run on one processor alone never spins.
void pin(int processor) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(processor, &set);
    sched_setaffinity(0, sizeof set, &set);
}

struct Side {
    bips::Producer producer;
    bips::Consumer consumer;
    bips::WritableFrame ahead{};
    bips::Frame received{};

    static Side at(const std::string& directory, std::int64_t spin_ns, const char* out, const char* in) {
        auto options = bips::bytes(64);
        options.slots = 8;
        options.directory = directory;
        options.spin_ns = spin_ns;
        bips::Producer producer(out, options);
        bips::Consumer consumer(in, {"reliable", directory, false, spin_ns}, std::chrono::seconds(10));
        producer.wait_for_consumers(1, std::chrono::seconds(10));
        return {std::move(producer), std::move(consumer)};
    }

    void send() {
        bips::WritableFrame frame = ahead ? std::move(ahead) : producer.acquire();
        frame.publish();
        received.release();
        ahead = producer.acquire();
    }

    void receive() {
        received = consumer.receive();
        volatile auto byte = received.data()[0];
        (void)byte;
    }
};

} // namespace

int main(int argc, char** argv) {
    if (argc != 4) return std::fprintf(stderr, "usage: handover DIRECTORY awake|asleep ROUND_TRIPS\n"), 2;
    const std::int64_t spin_ns = std::string(argv[2]) == "awake" ? AWAKE_NS : -1;
    const int count = std::atoi(argv[3]) / BATCHES;
    const pid_t child = fork();
    try {
        if (child == 0) {
            auto side = Side::at(argv[1], spin_ns, "pong", "ping");
            pin(1);
            for (int i = 0; i < count * (BATCHES + 1); i++) {
                side.receive();
                side.send();
            }
            return 0;
        }
        auto side = Side::at(argv[1], spin_ns, "ping", "pong");
        pin(0);
        const auto batch = [&] {
            const auto begin = std::chrono::steady_clock::now();
            for (int i = 0; i < count; i++) {
                side.send();
                side.receive();
            }
            const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - begin;
            return took.count() / count / 2;
        };
        batch(); // once for nothing: caches, page tables
        std::array<double, BATCHES> ways{};
        std::generate(ways.begin(), ways.end(), batch);
        std::nth_element(ways.begin(), ways.begin() + BATCHES / 2, ways.end());
        std::printf("%.1f\n", ways[BATCHES / 2]);
    } catch (const bips::Error& error) {
        return std::fprintf(stderr, "%s\n", error.what()), 1;
    }
    waitpid(child, nullptr, 0);
    return 0;
}
