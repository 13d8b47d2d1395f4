// bips for C++17: zero-copy buffer sharing between processes. Header only, over bips.h, where every function is explained.
//
//     bips::Producer camera("cam", bips::image("RGB3", 1920, 1080));
//     auto slot = camera.acquire();
//     fill(slot.data(), slot.nbytes());
//     slot.publish();
//
//     for (auto& frame : bips::Consumer("cam", {}, std::chrono::seconds(10))) use(frame.bytes());
//
// All objects are move-only and give back what they hold when they end. What can fail comes twice: `receive` throws
// bips::Error, `try_receive` returns a bips::Result, also where exceptions are switched off (BIPS_NO_EXCEPTIONS does so
// for bips alone).
//
// With OpenCV's headers on the include path, frame.mat() is a cv::Mat over the same memory (BIPS_NO_OPENCV: not so).
// Files of one program may differ in both.

#ifndef BIPS_HPP
#define BIPS_HPP

#include "bips/consumer.hpp"       // Consumer, and how it reads
#include "bips/content.hpp"        // Content: shapes, planes, elements, cv::Mat
#include "bips/facts.hpp"          // streams, query, doctor
#include "bips/fence.hpp"          // Timeline
#include "bips/frame.hpp"          // Frame, PrivateView
#include "bips/producer.hpp"       // Producer, and what its frames hold
#include "bips/result.hpp"         // Error, Result
#include "bips/values.hpp"         // Timeout, View, Plane, Fd
#include "bips/writable_frame.hpp" // WritableFrame, Description

#endif // BIPS_HPP
