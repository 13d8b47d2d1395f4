// frame.mat(): a frame as OpenCV's matrix over the same memory.
#include "check.h"

#include <bips.hpp>

#ifndef BIPS_OPENCV
#error "bips.hpp has not found OpenCV's headers"
#endif

namespace {

bips::Frame frame_of(const char* name, const bips::ProducerOptions& options) {
    bips::Producer producer(name, options);
    bips::Consumer consumer(name);
    auto slot = producer.acquire();
    check_fill(slot.data(), slot.nbytes(), 3);
    slot.publish();
    return consumer.receive();
}

void an_image_is_a_matrix() {
    const auto frame = frame_of("image", bips::image("BGR3", 640, 480));
    const cv::Mat mat = frame.mat();
    CHECK(mat.rows == 480 && mat.cols == 640 && mat.type() == CV_8UC3 && mat.isContinuous());
    CHECK(reinterpret_cast<const std::byte*>(mat.data) == frame.data());
    CHECK(check_filled(mat.ptr(0), frame.nbytes(), 3));
    CHECK(mat.at<cv::Vec3b>(7, 5)[2] == std::to_integer<unsigned char>(frame.data()[(7 * 640 + 5) * 3 + 2]));
    // OpenCV's own copy is one.
    const cv::Mat copy = mat.clone();
    CHECK(copy.data != mat.data && check_filled(copy.ptr(0), frame.nbytes(), 3));
}

void a_tensor_is_a_matrix() {
    const auto plain = frame_of("plain", bips::tensor("float32", {6, 7}));
    CHECK(plain.mat().type() == CV_32FC1 && plain.mat().rows == 6 && plain.mat().cols == 7);
    const auto channels = frame_of("channels", bips::tensor("int16", {6, 7, 2}));
    CHECK(channels.mat().type() == CV_16SC2 && channels.mat().step[0] == 28);
}

void a_slot_is_a_matrix_to_write() {
    bips::Producer producer("slot", bips::image("BGR3", 64, 48));
    bips::Consumer consumer("slot");
    auto slot = producer.acquire();
    cv::Mat mat = slot.mat();
    CHECK(mat.rows == 48 && mat.cols == 64 && mat.type() == CV_8UC3);
    CHECK(reinterpret_cast<std::byte*>(mat.data) == slot.data());
    mat.setTo(cv::Scalar(1, 2, 3));
    slot.publish();
    CHECK(slot.try_mat().status() == BIPS_UNSUPPORTED);
    CHECK((consumer.receive().mat().at<cv::Vec3b>(47, 63) == cv::Vec3b(1, 2, 3)));
}

void what_is_none_is_refused() {
    const auto deep = frame_of("deep", bips::tensor("uint8", {2, 3, 4, 5}));
    CHECK(deep.try_mat().status() == BIPS_UNSUPPORTED);
    const auto wide = frame_of("wide", bips::tensor("int64", {2, 3}));
    CHECK(wide.try_mat().status() == BIPS_UNSUPPORTED);
    const auto flat = frame_of("flat", bips::bytes(16));
    CHECK(flat.try_mat().status() == BIPS_UNSUPPORTED);
    CHECK(bips::Frame().try_mat().status() == BIPS_UNSUPPORTED);
}

} // namespace

int main() {
    if (check_begin() != 0) return 1;
    CASE(an_image_is_a_matrix);
    CASE(a_tensor_is_a_matrix);
    CASE(a_slot_is_a_matrix_to_write);
    CASE(what_is_none_is_refused);
    return check_end();
}
