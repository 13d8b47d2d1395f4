// Publishes images with bright boxes, and checks what a detector says of each:
// results_camera_cpp NAME [FRAMES [WIDTH HEIGHT]]

#include <bips.hpp>

#include <algorithm>
#include <array>
#include <cstring>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

using namespace std::chrono_literals;

constexpr std::size_t most = 16; // boxes of an image, each in a lane of its own

using Box = std::array<float, 6>; // x, y, width, height, score, class

// Which boxes image `i` has.
static std::vector<Box> choose(std::size_t i, std::size_t width, std::size_t height) {
    const auto lane = width / most, count = 1 + i % most;
    std::vector<Box> boxes;
    for (std::size_t b = 0; b < count; b++) {
        const auto x = b * lane + i % (lane / 2), y = (7 * i + 11 * b) % (height - lane);
        boxes.push_back({float(x), float(y), float(lane / 2), float(lane), 1, float(b)});
    }
    return boxes;
}

static void draw(const bips::Plane<std::byte>& plane, const std::vector<Box>& boxes) {
    for (std::size_t y = 0; y < plane.rows; y++) std::fill_n(plane.row(y).data(), plane.width, std::byte{16});
    for (const auto& box : boxes) {
        const auto x = std::size_t(box[0]), y = std::size_t(box[1]);
        const auto width = std::size_t(box[2]), height = std::size_t(box[3]);
        for (auto row = y; row < y + height; row++)
            std::fill_n(plane.row(row).data() + 3 * x, 3 * width, std::byte{240});
    }
}

int main(int argc, char** argv) try {
    if (argc < 2) {
        std::cerr << "usage: " << argv[0] << " NAME [FRAMES [WIDTH HEIGHT]]\n";
        return 2;
    }
    const auto frames = argc > 2 ? std::stoul(argv[2]) : 20;
    const auto width = argc > 4 ? std::stoul(argv[3]) : 640;
    const auto height = argc > 4 ? std::stoul(argv[4]) : 480;
    if (width < 2 * most || height <= width / most) throw std::runtime_error("the image is too small for its boxes");

    const auto image = bips::image("RGB3", static_cast<std::uint32_t>(width), static_cast<std::uint32_t>(height));
    const bips::Producer producer(argv[1], image);
    const auto content = producer.layout().content;
    bips::Consumer consumer(argv[1] + std::string("/boxes"), {}, 30s);
    producer.wait_for_consumers(1, 30s);

    for (std::size_t i = 0; i < frames; i++) {
        auto frame = producer.acquire(30s);
        const auto drawn = choose(i, width, height);
        draw(content.plane(frame.data(), 0), drawn);
        const auto sequence = frame.publish();

        const auto result = consumer.receive(30s);
        const auto found = result.as<float>();
        std::uint64_t of = 0;
        if (result.metadata().size() != sizeof of) throw std::runtime_error("the detector does not say of which image");
        std::memcpy(&of, result.metadata().data(), sizeof of); // little-endian, as every machine that bips runs on
        if (of != sequence) throw std::runtime_error("the boxes are those of another image");
        if (!std::equal(found.begin(), found.end(), drawn.front().data(), drawn.back().data() + 6))
            throw std::runtime_error("the boxes are not where they were drawn");
        std::cout << "frame " << sequence << ": " << drawn.size() << " drawn, " << result.shape()[0]
                  << " found, the same" << std::endl;
    }
} catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << "\n";
    return 1;
}
