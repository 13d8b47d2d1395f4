//! DLPack's C structures, version 1.3, as `dlpack.h` lays them out.
//!
//! Sizes and offsets are asserted below; Python's tests read real capsules through them once more.

#![allow(missing_docs, reason = "the names are those of dlpack.h, which explains them")]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::offset_of;

/// Name of a capsule as DLPack before 1.0 has it.
pub const LEGACY: &CStr = c"dltensor";
/// Name of a capsule that says its version and flags.
pub const VERSIONED: &CStr = c"dltensor_versioned";
/// Name of the capsule that holds an [`ExchangeApi`].
pub const EXCHANGE: &CStr = c"dlpack_exchange_api";
/// The version whose layout stands here.
pub const VERSION: Version = Version { major: 1, minor: 3 };
/// `kDLCPU`, device 0: the only place where frames are today.
pub const CPU: Device = Device { kind: 1, id: 0 };

/// In `flags`: the memory must not be written to.
pub const FLAG_READ_ONLY: u64 = 1;
/// In `flags`: the memory is a copy.
pub const FLAG_IS_COPIED: u64 = 2;

/// `DLPackVersion`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Version {
    pub major: u32,
    pub minor: u32,
}

/// `DLDevice`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Device {
    pub kind: i32,
    pub id: i32,
}

/// `DLDataType`.
#[repr(C)]
pub struct DataType {
    pub code: u8,
    pub bits: u8,
    pub lanes: u16,
}

/// `DLTensor`: shape and strides count elements.
#[repr(C)]
pub struct Tensor {
    pub data: *mut c_void,
    pub device: Device,
    pub ndim: i32,
    pub dtype: DataType,
    pub shape: *mut i64,
    pub strides: *mut i64,
    pub byte_offset: u64,
}

/// `DLManagedTensor`, before 1.0.
#[repr(C)]
pub struct Managed {
    pub tensor: Tensor,
    pub context: *mut c_void,
    pub deleter: Option<unsafe extern "C" fn(*mut Self)>,
}

/// `DLManagedTensorVersioned`.
#[repr(C)]
pub struct ManagedVersioned {
    pub version: Version,
    pub context: *mut c_void,
    pub deleter: Option<unsafe extern "C" fn(*mut Self)>,
    pub flags: u64,
    pub tensor: Tensor,
}

/// `DLPackExchangeAPIHeader`.
#[repr(C)]
pub struct ExchangeHeader {
    pub version: Version,
    pub previous: Option<&'static ExchangeHeader>,
}

pub type SetError = unsafe extern "C" fn(*mut c_void, *const c_char, *const c_char);
pub type Allocator =
    unsafe extern "C" fn(*mut Tensor, *mut *mut ManagedVersioned, *mut c_void, SetError) -> c_int;
pub type FromObject = unsafe extern "C" fn(*mut c_void, *mut *mut ManagedVersioned) -> c_int;
pub type ToObject = unsafe extern "C" fn(*mut ManagedVersioned, *mut *mut c_void) -> c_int;
pub type BorrowFromObject = unsafe extern "C" fn(*mut c_void, *mut Tensor) -> c_int;
pub type CurrentStream = unsafe extern "C" fn(i32, i32, *mut *mut c_void) -> c_int;

/// `DLPackExchangeAPI`: lets C code take a tensor from a Python object without calling Python.
#[repr(C)]
pub struct ExchangeApi {
    pub header: ExchangeHeader,
    pub allocator: Option<Allocator>,
    pub from_object: Option<FromObject>,
    pub to_object: Option<ToObject>,
    pub borrow_from_object: Option<BorrowFromObject>,
    pub current_stream: Option<CurrentStream>,
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
