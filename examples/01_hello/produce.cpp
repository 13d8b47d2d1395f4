// Publishes a few small tensors, each with a greeting beside it: hello_produce_cpp NAME [FRAMES]

#include <bips.hpp>

#include <cstring>
#include <iostream>
#include <string>

using namespace std::chrono_literals;

int main(int argc, char** argv) try {
    if (argc < 2) {
        std::cerr << "usage: " << argv[0] << " NAME [FRAMES]\n";
        return 2;
    }
    const int frames = argc > 2 ? std::stoi(argv[2]) : 5;

    const bips::Producer producer(argv[1], bips::tensor("uint8", {4, 16}));
    producer.wait_for_consumers(1, 30s);

    for (int i = 0; i < frames; i++) {
        auto frame = producer.acquire(30s);
        std::memset(frame.data(), i % 256, 4 * 16);
        const auto greeting = "hello " + std::to_string(i);
        bips::Description description;
        description.metadata = greeting.data();
        description.metadata_size = greeting.size();
        const auto sequence = frame.publish(description);
        std::cout << "frame " << sequence << ": " << greeting << std::endl;
    }
} catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << "\n";
    return 1;
}
