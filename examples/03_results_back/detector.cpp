// Finds the bright boxes in a camera's images, and publishes where they are: results_detector_cpp NAME

#include <bips.hpp>

#include <algorithm>
#include <array>
#include <cstring>
#include <iostream>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

using namespace std::chrono_literals;

constexpr std::size_t most = 16; // boxes of an image, each in a lane of its own

using Box = std::array<float, 6>; // x, y, width, height, score, class

// What surrounds the bright pixels of each lane.
static std::vector<Box> detect(const bips::Plane<const std::byte>& plane) {
    const auto lane = plane.width / 3 / most;
    std::vector<Box> boxes;
    for (std::size_t b = 0; b < most; b++) {
        auto left = std::numeric_limits<std::size_t>::max(), top = left;
        std::size_t right = 0, bottom = 0, bright = 0;
        for (std::size_t y = 0; y < plane.rows; y++) {
            const auto row = plane.row(y);
            for (auto x = b * lane; x < (b + 1) * lane; x++) {
                if (row[3 * x] <= std::byte{200}) continue;
                left = std::min(left, x);
                top = std::min(top, y);
                right = std::max(right, x);
                bottom = y;
                bright++;
            }
        }
        if (bright == 0) continue;
        const auto width = right - left + 1, height = bottom - top + 1;
        const auto score = float(bright) / float(width * height);
        boxes.push_back({float(left), float(top), float(width), float(height), score, float(b)});
    }
    return boxes;
}

int main(int argc, char** argv) try {
    if (argc < 2) {
        std::cerr << "usage: " << argv[0] << " NAME\n";
        return 2;
    }
    const bips::Producer producer(argv[1] + std::string("/boxes"), bips::tensor("float32", {most, 6}));
    bips::Consumer consumer(argv[1], {}, 30s);

    std::uint64_t frames = 0;
    for (const auto& frame : consumer) {
        const auto boxes = detect(frame.plane(0));
        if (!boxes.empty())
            std::cout << "frame " << frame.sequence() << ": " << boxes.size() << " found, the first at " << boxes[0][0]
                      << ", " << boxes[0][1] << std::endl;
        auto result = producer.acquire(30s);
        std::memcpy(result.data(), boxes.data(), boxes.size() * sizeof(Box));
        const auto of = frame.sequence();
        bips::Description description;
        description.shape = {boxes.size(), 6};
        description.metadata = &of; // little-endian, as every machine that bips runs on
        description.metadata_size = sizeof of;
        result.publish(description);
        frames++;
    }
    if (consumer.ending() != BIPS_ENDED_CLOSED) throw std::runtime_error("the camera died");
    std::cout << frames << " frames, then the camera closed the stream" << std::endl;
} catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << "\n";
    return 1;
}
