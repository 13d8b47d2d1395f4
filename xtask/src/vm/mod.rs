//! `cargo xtask vm`: a command in a throw-away virtual machine with real drivers for shared buffers. For users:
//! `hw-tests/vm/README.md`.

mod boot;
mod extra;
mod image;
mod initramfs;
mod kernel;
mod last_words;
mod modules;
mod qemu;
mod session;
mod signals;
mod stream;
mod tools;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use self::boot::{End, Limits};
use self::kernel::Kernel;
use self::qemu::{Acceleration, Machine};
use self::session::Session;
use self::signals::Signals;
use self::tools::Tools;
use crate::workspace::Workspace;

/// The command was not ready in time; as `timeout` says it.
pub(crate) const TIMED_OUT: u8 = 124;
/// There was no machine, or it ended before the command.
pub(crate) const BROKEN: u8 = 125;
/// Plus the signal's number: how shells say it of a program that one ended.
const BY_SIGNAL: i32 = 128;
const SIGPIPE: i32 = 13;
/// For a processor that virtualises: it starts a kernel in one or two seconds.
const KVM_IS_UP_IN: Duration = Duration::from_secs(20);

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Ends the machine after so long, with status 124; what has to be fetched first doesn't count
    #[arg(long, value_name = "SECONDS", default_value_t = 300, overrides_with = "timeout", value_parser = clap::value_parser!(u32).range(1..))]
    timeout: u32,
    /// Memory; half of it and more may be used by files that are written
    #[arg(long, value_name = "MIB", default_value_t = 2048, value_parser = clap::value_parser!(u32).range(256..))]
    mem: u32,
    /// Processors; 1 if they are emulated, else 2
    #[arg(long, value_name = "N")]
    cpus: Option<usize>,
    /// A folder of the host that the command may write to, under the same name; all other writes are gone with the machine
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Modules to load instead of vgem, virtio-gpu and vivid, separated by commas, or `none`; NAME:PARAMETER=VALUE
    /// gives one a parameter
    #[arg(long, value_name = "LIST")]
    modules: Option<String>,
    /// A device for the machine besides, as QEMU's -device takes it; may be given several times
    #[arg(long, value_name = "DEVICE")]
    device: Vec<String>,
    /// More for the kernel's command line
    #[arg(long, value_name = "ARGUMENTS", default_value = "", allow_hyphen_values = true)]
    append: String,
    /// What to run the machine's code with, first to last, instead of what works here
    #[arg(long, value_name = "HOW", value_delimiter = ',')]
    accel: Vec<Acceleration>,
    /// Keeps what the kernel says in a file
    #[arg(long, value_name = "FILE")]
    kernel_log: Option<PathBuf>,
    /// Only fetches the kernel, and prints where it lies
    #[arg(long, conflicts_with = "command")]
    prepare: bool,
    /// Loads vkms, vim2m and vicodec too, which are built first, once (160 MB to fetch, a compiler)
    #[arg(long)]
    extra_modules: bool,
    /// What to run, and its arguments
    #[arg(
        value_name = "CMD",
        trailing_var_arg = true,
        allow_hyphen_values = true,
        required_unless_present = "prepare"
    )]
    command: Vec<OsString>,
}

/// The status to end with. An error is of the machine, never of the command.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> ExitCode {
    match end(workspace, options) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(BROKEN)
        }
    }
}

/// Fetches the kernel if there is none. An error says why there can be no machine here.
pub(crate) fn prepare(workspace: &Workspace) -> Result<Kernel> {
    Kernel::get(workspace, &Tools::find()?)
}

/// The same, with the modules of `--extra-modules`.
pub(crate) fn prepare_extra(workspace: &Workspace) -> Result<()> {
    extra::make(workspace, &Tools::find()?, &prepare(workspace)?)
}

fn end(workspace: &Workspace, options: &Options) -> Result<u8> {
    let tools = Tools::find()?;
    let mut modules = modules::wanted(options.modules.as_deref())?;
    let out = options.out.as_deref().map(shared).transpose()?;
    let kernel = prepare(workspace)?;
    if options.extra_modules {
        extra::make(workspace, &tools, &kernel)?;
        for name in extra::MODULES {
            modules.push(name.parse()?);
        }
    }
    if options.prepare {
        println!("{}", kernel.folder.display());
        return Ok(0);
    }
    let initramfs = initramfs::of(&kernel, &tools.busybox, &modules)?;
    // From here on something would be left.
    let signals = Signals::take()?;
    let session = Session::new(workspace, &kernel, out.as_deref(), &options.command)?;
    let log = options.kernel_log.clone().unwrap_or_else(|| session.file("kernel.log"));
    let mut devices = options.device.clone();
    if modules.iter().any(|module| module.name == "virtio_gpu") {
        devices.push("virtio-gpu-pci".to_owned());
    }
    let machine = Machine {
        qemu: &tools.qemu,
        vmlinux: &kernel.vmlinux(),
        initramfs: &initramfs,
        session: session.folder(),
        log: &log,
        out: out.as_deref(),
        memory: options.mem,
        processors: options.cpus,
        devices: &devices,
        append: &options.append,
    };
    let ways = if options.accel.is_empty() { Acceleration::here() } else { options.accel.clone() };
    let end = start(&machine, &ways, &session, Duration::from_secs(options.timeout.into()), &signals)?;
    Ok(match end {
        End::Exit(code) => code,
        End::Signal(signal) => code_of(signal),
        End::Unread => code_of(SIGPIPE),
        End::TimedOut { up } => {
            let doing = if up { "the command was running" } else { "the machine was not up yet" };
            eprintln!("bips-vm: ended after {} s: {doing} (--timeout gives it more)", options.timeout);
            if !up {
                tell(&session, &log);
            }
            TIMED_OUT
        }
        End::NotUp(why) | End::Broke(why) => {
            eprintln!("bips-vm: {why}");
            tell(&session, &log);
            BROKEN
        }
    })
}

/// In the first of these ways in which the machine comes up.
fn start(
    machine: &Machine,
    ways: &[Acceleration],
    session: &Session,
    whole: Duration,
    signals: &Signals,
) -> Result<End> {
    let mut ways = ways.iter().peekable();
    while let Some(way) = ways.next() {
        let up = match way {
            Acceleration::Kvm if ways.peek().is_some() => KVM_IS_UP_IN,
            _ => whole,
        };
        let end = boot::run(machine.command(*way), session, Limits { whole, up }, signals)?;
        if !matches!(end, End::NotUp(_)) || ways.peek().is_none() {
            return Ok(end);
        }
    }
    bail!("there is no way to run a machine")
}

fn code_of(signal: i32) -> u8 {
    u8::try_from(BY_SIGNAL + signal).unwrap_or(u8::MAX)
}

/// Why there is no machine any more, as far as its logs know.
fn tell(session: &Session, log: &Path) {
    for (who, log) in [("QEMU", session.file(boot::QEMU_LOG).as_path()), ("its kernel", log)] {
        let said = last_words::of(log);
        if !said.is_empty() {
            eprint!("what {who} said last:\n{said}");
        }
    }
}

/// The folder that is shared, made if there is none, as the machine is to find it.
fn shared(out: &Path) -> Result<PathBuf> {
    let made = fs::create_dir_all(out).and_then(|()| out.canonicalize());
    let folder = made.with_context(|| format!("--out {} can't be made", out.display()))?;
    if folder == Path::new("/") {
        bail!("--out / would let the command change the whole host; name a folder in it");
    }
    Ok(folder)
}
