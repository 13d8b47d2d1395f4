// frame.mat(): a frame as OpenCV's matrix over the same memory.
#include "check.h"

#include <bips.hpp>

#include <algorithm>
#include <iterator>
#include <utility>

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
    CHECK(slot.try_mat().status() == BIPS_INVALID_ARGUMENT);
    const auto frame = consumer.receive();
    CHECK((frame.mat().at<cv::Vec3b>(47, 63) == cv::Vec3b(1, 2, 3)));
}

void a_plane_is_a_matrix() {
    const auto frame = frame_of("planes", bips::image("NV12", 64, 32));
    const cv::Mat luma = frame.mat(0), chroma = frame.mat(1).reshape(2);
    CHECK(luma.rows == 32 && luma.cols == 64 && luma.type() == CV_8UC1 && luma.step[0] == 64);
    CHECK(reinterpret_cast<const std::byte*>(luma.data) == frame.data());
    CHECK(chroma.rows == 16 && chroma.cols == 32 && chroma.type() == CV_8UC2);
    CHECK(reinterpret_cast<const std::byte*>(chroma.data) == frame.plane(1).data);
    CHECK(frame.try_mat(2).status() == BIPS_INVALID_ARGUMENT);
    const auto deep = frame_of("deep-planes", bips::image("Y16", 64, 32));
    CHECK(deep.mat(0).type() == CV_16UC1 && deep.mat(0).cols == 64 && deep.mat(0).rows == 32);
}

/// OpenCV has no other step than that from row to row, and that one forwards.
void steps_that_opencv_has_not_are_refused() {
    bips_content content{};
    content.dtype = {1, 8, 1};
    content.ndim = 3;
    const std::uint64_t shape[] = {4, 6, 3};
    const std::int64_t strides[] = {18, 3, 1};
    std::copy(std::begin(shape), std::end(shape), content.shape);
    std::copy(std::begin(strides), std::end(strides), content.strides);
    std::byte data[128];
    CHECK(bips::Content(content).try_mat(data));
    for (const auto& [at, stride] : {std::pair(0, std::int64_t(17)), {0, -18}, {1, 4}, {2, 2}, {2, -1}, {2, 0}}) {
        auto wrong = content;
        wrong.strides[at] = stride;
        CHECK(bips::Content(wrong).try_mat(data).status() == BIPS_UNSUPPORTED);
    }
    content.shape[0] = std::uint64_t(1) << 32;
    CHECK(bips::Content(content).try_mat(data).status() == BIPS_UNSUPPORTED);
}

void what_is_none_is_refused() {
    const auto deep = frame_of("deep", bips::tensor("uint8", {2, 3, 4, 5}));
    CHECK(deep.try_mat().status() == BIPS_UNSUPPORTED);
    const auto wide = frame_of("wide", bips::tensor("int64", {2, 3}));
    CHECK(wide.try_mat().status() == BIPS_UNSUPPORTED);
    const auto flat = frame_of("flat", bips::bytes(16));
    CHECK(flat.try_mat().status() == BIPS_UNSUPPORTED);
    const bips::Frame empty;
    CHECK(empty.try_mat().status() == BIPS_INVALID_ARGUMENT && empty.try_mat(0).status() == BIPS_INVALID_ARGUMENT);
    CHECK(flat.try_mat(1).status() == BIPS_INVALID_ARGUMENT && flat.mat(0).total() == 16);
}

} // namespace

int main() {
    if (check_begin() != 0) return 1;
    CASE(an_image_is_a_matrix);
    CASE(a_tensor_is_a_matrix);
    CASE(a_slot_is_a_matrix_to_write);
    CASE(a_plane_is_a_matrix);
    CASE(steps_that_opencv_has_not_are_refused);
    CASE(what_is_none_is_refused);
    return check_end();
}
