//! Controls by their names: brightness, exposure, and what test drivers have to be tried with.

use crate::abi::{self, Zeros};
use crate::device::text;
use crate::{Device, sys};
use bips::{Error, ErrorKind, Result};

/// A control of a camera.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlInfo {
    id: u32,
    /// Its name.
    pub name: String,
    /// Least and most it can be set to.
    pub range: (i32, i32),
    /// What it is unless set.
    pub default: i32,
}

/// More than any driver has: one that never ends must not keep us.
const MANY: usize = 4096;

impl Device {
    /// All controls that can be set.
    pub fn controls(&self) -> Vec<ControlInfo> {
        let mut id = 0;
        let next = |_| {
            let mut control =
                abi::QueryControl { id: id | abi::CTRL_FLAG_NEXT, ..abi::QueryControl::zeros() };
            sys::describe_control(&self.file, &mut control).ok()?;
            id = control.id;
            Some(control)
        };
        let all = (0..MANY).map_while(next).filter(|control| control.flags & abi::CTRL_FLAG_DISABLED == 0);
        all.map(|control| ControlInfo {
            id: control.id,
            name: text(&control.name),
            range: (control.minimum, control.maximum),
            default: control.default,
        })
        .collect()
    }

    fn control_named(&self, name: &str, value: i32) -> Result<abi::Control> {
        let named = self.controls().into_iter().find(|control| control.name == name);
        named.map(|control| abi::Control { id: control.id, value }).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("{} has no control {name:?}", self.path.display()))
        })
    }

    /// Sets the control of this name.
    ///
    /// # Errors
    /// `NotFound`; what the driver reports.
    pub fn set_control(&self, name: &str, value: i32) -> Result<()> {
        let mut setting = self.control_named(name, value)?;
        sys::set_control(&self.file, &mut setting)
            .map_err(|errno| self.failed(&format!("setting {name:?} to {value}"), errno))
    }

    /// What the control of this name is set to.
    ///
    /// # Errors
    /// As [`Device::set_control`].
    pub fn control(&self, name: &str) -> Result<i32> {
        let mut setting = self.control_named(name, 0)?;
        sys::get_control(&self.file, &mut setting)
            .map_err(|errno| self.failed(&format!("reading {name:?}"), errno))?;
        Ok(setting.value)
    }
}
