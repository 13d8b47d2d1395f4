//! DLPack's C structures, version 1.3, as `dlpack.h` lays them out.
//!
//! Sizes and offsets are asserted below; `tests/test_dlpack_abi.py` reads real capsules through them once more.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::offset_of;

/// Name of a capsule as DLPack before 1.0 has it.
pub(super) const LEGACY: &CStr = c"dltensor";
/// Name of a capsule that says its version and flags.
pub(super) const VERSIONED: &CStr = c"dltensor_versioned";
/// Name of the capsule that holds an [`ExchangeApi`].
pub(super) const EXCHANGE: &CStr = c"dlpack_exchange_api";
/// The version whose layout stands here.
pub(super) const VERSION: Version = Version { major: 1, minor: 3 };
/// `kDLCPU`, device 0: the only place where bips' Python frames are today.
pub(crate) const CPU: Device = Device { kind: 1, id: 0 };

pub(super) const FLAG_READ_ONLY: u64 = 1;
pub(super) const FLAG_IS_COPIED: u64 = 2;

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Version {
    pub(super) major: u32,
    pub(super) minor: u32,
}

#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) kind: i32,
    pub(crate) id: i32,
}

#[repr(C)]
pub(super) struct DataType {
    pub(super) code: u8,
    pub(super) bits: u8,
    pub(super) lanes: u16,
}

/// `DLTensor`: shape and strides count elements.
#[repr(C)]
pub(super) struct Tensor {
    pub(super) data: *mut c_void,
    pub(super) device: Device,
    pub(super) ndim: i32,
    pub(super) dtype: DataType,
    pub(super) shape: *mut i64,
    pub(super) strides: *mut i64,
    pub(super) byte_offset: u64,
}

/// `DLManagedTensor`, before 1.0.
#[repr(C)]
pub(super) struct Managed {
    pub(super) tensor: Tensor,
    pub(super) context: *mut c_void,
    pub(super) deleter: Option<unsafe extern "C" fn(*mut Self)>,
}

/// `DLManagedTensorVersioned`.
#[repr(C)]
pub(super) struct ManagedVersioned {
    pub(super) version: Version,
    pub(super) context: *mut c_void,
    pub(super) deleter: Option<unsafe extern "C" fn(*mut Self)>,
    pub(super) flags: u64,
    pub(super) tensor: Tensor,
}

/// `DLPackExchangeAPIHeader`.
#[repr(C)]
pub(super) struct ExchangeHeader {
    pub(super) version: Version,
    pub(super) previous: Option<&'static ExchangeHeader>,
}

pub(super) type SetError = unsafe extern "C" fn(*mut c_void, *const c_char, *const c_char);
pub(super) type Allocator =
    unsafe extern "C" fn(*mut Tensor, *mut *mut ManagedVersioned, *mut c_void, SetError) -> c_int;
pub(super) type FromObject = unsafe extern "C" fn(*mut c_void, *mut *mut ManagedVersioned) -> c_int;
pub(super) type ToObject = unsafe extern "C" fn(*mut ManagedVersioned, *mut *mut c_void) -> c_int;
pub(super) type BorrowFromObject = unsafe extern "C" fn(*mut c_void, *mut Tensor) -> c_int;
pub(super) type CurrentStream = unsafe extern "C" fn(i32, i32, *mut *mut c_void) -> c_int;

/// `DLPackExchangeAPI`: lets C code take a tensor from a Python object without calling Python.
#[repr(C)]
pub(super) struct ExchangeApi {
    pub(super) header: ExchangeHeader,
    pub(super) allocator: Option<Allocator>,
    pub(super) from_object: Option<FromObject>,
    pub(super) to_object: Option<ToObject>,
    pub(super) borrow_from_object: Option<BorrowFromObject>,
    pub(super) current_stream: Option<CurrentStream>,
}

const _: () = {
    assert!(size_of::<usize>() == 8, "the layouts below are those of 64-bit machines");
    assert!(size_of::<Tensor>() == 48);
    assert!(offset_of!(Tensor, device) == 8);
    assert!(offset_of!(Tensor, ndim) == 16);
    assert!(offset_of!(Tensor, dtype) == 20);
    assert!(offset_of!(Tensor, shape) == 24);
    assert!(offset_of!(Tensor, strides) == 32);
    assert!(offset_of!(Tensor, byte_offset) == 40);
    assert!(size_of::<Managed>() == 64);
    assert!(offset_of!(Managed, context) == 48);
    assert!(offset_of!(Managed, deleter) == 56);
    assert!(size_of::<ManagedVersioned>() == 80);
    assert!(offset_of!(ManagedVersioned, context) == 8);
    assert!(offset_of!(ManagedVersioned, deleter) == 16);
    assert!(offset_of!(ManagedVersioned, flags) == 24);
    assert!(offset_of!(ManagedVersioned, tensor) == 32);
    assert!(size_of::<ExchangeApi>() == 56);
    assert!(offset_of!(ExchangeApi, to_object) == 32);
};
