//! From the core's errors to the exceptions of `bips/_errors.py`.

use bips::{Error, ErrorKind};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyType};

/// The exception for an error: the class of its kind, with the same message.
pub(crate) fn raise(error: Error) -> PyErr {
    Python::attach(|py| match class(py, error.kind()) {
        Ok(class) => PyErr::from_type(class, error.to_string()),
        Err(failure) => failure,
    })
}

/// An `InvalidArgument` with this message.
pub(crate) fn invalid(message: impl Into<String>) -> PyErr {
    raise(Error::new(ErrorKind::InvalidArgument, message))
}

/// An `Unsupported` with this message.
pub(crate) fn unsupported(message: impl Into<String>) -> PyErr {
    raise(Error::new(ErrorKind::Unsupported, message))
}

fn class(py: Python<'_>, kind: ErrorKind) -> PyResult<Bound<'_, PyType>> {
    static BY_KIND: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
    let classes = BY_KIND.import(py, "bips._errors", "BY_KIND")?;
    let class = match classes.get_item(kind.name())? {
        Some(class) => class,
        // A kind of a later core: still an Error.
        None => py.import("bips._errors")?.getattr("Error")?,
    };
    Ok(class.cast_into()?)
}

/// `?` on the core's results.
pub(crate) trait OrRaise<T> {
    fn or_raise(self) -> PyResult<T>;
}

impl<T> OrRaise<T> for bips::Result<T> {
    fn or_raise(self) -> PyResult<T> {
        self.map_err(raise)
    }
}
