//! What Vulkan reports, as errors of bips.

use ash::vk;
use bips::{Error, ErrorKind};

/// An error of this call.
pub(crate) fn failed(call: &str, result: vk::Result) -> Error {
    let (kind, hint) = match result {
        vk::Result::ERROR_OUT_OF_HOST_MEMORY | vk::Result::ERROR_OUT_OF_DEVICE_MEMORY => {
            (ErrorKind::OutOfMemory, "use fewer slots or smaller frames, or free memory of the device")
        }
        vk::Result::ERROR_TOO_MANY_OBJECTS => {
            (ErrorKind::OutOfMemory, "the driver allows no more allocations; use fewer slots or streams")
        }
        vk::Result::ERROR_INVALID_EXTERNAL_HANDLE => {
            (ErrorKind::Protocol, "the driver does not know this handle as its own")
        }
        vk::Result::ERROR_DEVICE_LOST => {
            (ErrorKind::Lost, "the device stopped; what it had under way is lost: make a new stream")
        }
        vk::Result::ERROR_INITIALIZATION_FAILED
        | vk::Result::ERROR_INCOMPATIBLE_DRIVER
        | vk::Result::ERROR_EXTENSION_NOT_PRESENT
        | vk::Result::ERROR_FEATURE_NOT_PRESENT => {
            (ErrorKind::Unsupported, "update the driver, or see `vulkaninfo --summary` for what there is")
        }
        _ => (ErrorKind::System, ""),
    };
    let error = Error::new(kind, format!("{call}: {result}"));
    if hint.is_empty() { error } else { error.hint(hint) }
}
