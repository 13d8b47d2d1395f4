// Takes a camera's images in place and checks them: tensor_checksum_cpp NAME

#include "pixels.hpp"

#include <bips.hpp>

#include <cstring>
#include <iostream>
#include <stdexcept>

using namespace std::chrono_literals;

int main(int argc, char** argv) try {
    if (argc < 2) {
        std::cerr << "usage: " << argv[0] << " NAME\n";
        return 2;
    }
    bips::Consumer consumer(argv[1], {}, 30s);

    std::uint64_t frames = 0;
    for (const auto& frame : consumer) {
        const auto sum = checksum(frame.plane(0));
        std::uint64_t sent = 0;
        if (frame.metadata().size() != sizeof sent) throw std::runtime_error("there is no checksum beside the image");
        std::memcpy(&sent, frame.metadata().data(), sizeof sent); // little-endian, as every machine that bips runs on
        if (sum != sent) throw std::runtime_error("the checksum is not the camera's");
        const auto where = place(frame.data(), frame.nbytes());
        if (where.rfind("private", 0) == 0) throw std::runtime_error("the image was copied");
        std::cout << "frame " << frame.sequence() << ": checksum " << sum << ", " << where << ", at "
                  << static_cast<const void*>(frame.data()) << "-"
                  << static_cast<const void*>(frame.data() + frame.nbytes()) << std::endl;
        frames++;
    }
    if (consumer.ending() != BIPS_ENDED_CLOSED) throw std::runtime_error("the camera died");
    std::cout << frames << " frames, all as the camera drew them" << std::endl;
} catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << "\n";
    return 1;
}
