// Receives what produce sends, and checks it: hello_consume_cpp NAME

#include <bips.hpp>

#include <iostream>
#include <stdexcept>
#include <string>

using namespace std::chrono_literals;

int main(int argc, char** argv) try {
    if (argc < 2) {
        std::cerr << "usage: " << argv[0] << " NAME\n";
        return 2;
    }
    bips::Consumer consumer(argv[1], {}, 30s);

    std::uint64_t frames = 0;
    for (const auto& frame : consumer) {
        const auto metadata = frame.metadata();
        const std::string greeting(reinterpret_cast<const char*>(metadata.data()), metadata.size());
        if (frame.sequence() != frames) throw std::runtime_error("a frame is missing");
        if (greeting != "hello " + std::to_string(frames)) throw std::runtime_error("another greeting was sent");
        for (const auto byte : frame.bytes())
            if (std::to_integer<std::uint64_t>(byte) != frames % 256) throw std::runtime_error("other bytes were sent");
        std::cout << "frame " << frame.sequence() << ": " << greeting << ", " << frame.dtype_name() << " "
                  << frame.shape()[0] << "x" << frame.shape()[1] << " of " << frames % 256 << std::endl;
        frames++;
    }
    if (consumer.ending() != BIPS_ENDED_CLOSED) throw std::runtime_error("the producer died");
    std::cout << frames << " frames, then the producer closed the stream" << std::endl;
} catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << "\n";
    return 1;
}
