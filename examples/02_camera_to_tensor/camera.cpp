// Publishes images of a moving pattern, each with its checksum: tensor_camera_cpp NAME [FRAMES [WIDTH HEIGHT [MEMORY]]]

#include "pixels.hpp"

#include <bips.hpp>

#include <iostream>
#include <string>

using namespace std::chrono_literals;

static void draw(const bips::Plane<std::byte>& plane, std::size_t i) {
    for (std::size_t y = 0; y < plane.rows; y++) {
        const auto row = plane.row(y);
        for (std::size_t x = 0; x < plane.width / 3; x++)
            for (std::size_t c = 0; c < 3; c++) row[3 * x + c] = static_cast<std::byte>(x + y + 5 * i + 85 * c);
    }
}

int main(int argc, char** argv) try {
    if (argc < 2) {
        std::cerr << "usage: " << argv[0] << " NAME [FRAMES [WIDTH HEIGHT [MEMORY]]]\n";
        return 2;
    }
    const auto frames = argc > 2 ? std::stoul(argv[2]) : 10;
    const auto width = argc > 4 ? std::stoul(argv[3]) : 640;
    const auto height = argc > 4 ? std::stoul(argv[4]) : 480;

    auto image = bips::image("RGB3", static_cast<std::uint32_t>(width), static_cast<std::uint32_t>(height));
    if (argc > 5) image.memory = argv[5];
    const bips::Producer producer(argv[1], image);
    const auto content = producer.layout().content;
    producer.wait_for_consumers(1, 30s);

    for (std::size_t i = 0; i < frames; i++) {
        auto frame = producer.acquire(30s);
        const auto plane = content.plane(frame.data(), 0);
        draw(plane, i);
        const auto sum = checksum(plane);
        const auto where = place(frame.data(), content.nbytes());
        bips::Description description;
        description.metadata = &sum; // little-endian, as every machine that bips runs on
        description.metadata_size = sizeof sum;
        const auto sequence = frame.publish(description);
        std::cout << "frame " << sequence << ": checksum " << sum << ", " << where << std::endl;
    }
} catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << "\n";
    return 1;
}
