//! What the terminal and the system tell a command that moves slots: to end, or to pause.

use nix::sys::signal::{Signal as System, kill};
use nix::unistd::Pid;
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

/// A signal, by what it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    /// Ctrl-C or SIGTERM: end.
    End,
    /// Ctrl-Z: stand still until `fg`, `bg` or SIGCONT.
    Pause,
}

/// From its making on, these signals are heard here and do nothing by themselves, for as long as the process lives:
/// whoever makes it has to listen whenever it waits.
#[derive(Debug)]
pub(super) struct Signals {
    interrupt: Stream,
    terminate: Stream,
    pause: Stream,
}

impl Signals {
    pub(super) fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            pause: signal(SignalKind::from_raw(System::SIGTSTP as i32))?,
        })
    }

    /// The next one. Safe to drop half-way.
    pub(super) async fn next(&mut self) -> Signal {
        tokio::select! {
            Some(()) = self.interrupt.recv() => Signal::End,
            Some(()) = self.terminate.recv() => Signal::End,
            Some(()) = self.pause.recv() => Signal::Pause,
            else => std::future::pending().await,
        }
    }

    /// Does `work`, which opens no slot: a pause takes effect at once, and an end gives nothing.
    pub(super) async fn heard_during<T>(&mut self, work: impl Future<Output = T>) -> std::io::Result<Option<T>> {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Ok(Some(done)),
                signal = self.next() => match signal {
                    Signal::End => return Ok(None),
                    Signal::Pause => stand_still().await?,
                },
            }
        }
    }
}

/// Stops this process, as Ctrl-Z does to others, and returns when it was told to continue.
pub(super) async fn stand_still() -> std::io::Result<()> {
    // Made just before, so that no earlier signal counts; and waited for, since another thread may still run for a moment
    // after the process was told to stop.
    let mut continued = signal(SignalKind::from_raw(System::SIGCONT as i32))?;
    kill(Pid::this(), System::SIGSTOP)?;
    continued.recv().await;
    Ok(())
}
