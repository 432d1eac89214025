//! Asking migrations to hold or to stop at the next step boundary.

use tokio::sync::watch;

/// What is wanted of migrations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// Go on.
    Run,
    /// Close what is open, and wait.
    Hold,
    /// Close what is open, and end.
    Stop,
}

/// Asks migrations to hold or to stop at the next step boundary; cheap to clone and to ask.
#[derive(Debug, Clone)]
pub struct Stop {
    wish: watch::Receiver<Wish>,
    /// Whether nothing is open, and we wait for another wish.
    held: watch::Sender<bool>,
}

/// The other end of a [`Stop`]. Dropping it does not stop anything.
#[derive(Debug)]
pub struct StopHandle {
    wish: watch::Sender<Wish>,
    held: watch::Receiver<bool>,
}

impl Stop {
    /// A handle, and what it stops.
    #[must_use]
    pub fn new() -> (StopHandle, Self) {
        let (wish, wished) = watch::channel(Wish::Run);
        let (held, is_held) = watch::channel(false);
        (StopHandle { wish, held: is_held }, Self { wish: wished, held })
    }

    /// One that is never asked to stop.
    #[must_use]
    pub fn never() -> Self {
        Self::new().1
    }

    /// Whether somebody asked to stop.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.wish() == Wish::Stop
    }

    pub(super) fn wish(&self) -> Wish {
        *self.wish.borrow()
    }

    /// Waits until something else is wanted than to go on.
    pub(super) async fn asked(&self) {
        if self.wish.clone().wait_for(|wish| *wish != Wish::Run).await.is_err() {
            // Its handle is gone, and dropping that stops nothing.
            std::future::pending().await
        }
    }

    /// Says that nothing is open, and waits for as long as we are asked to hold.
    pub(super) async fn gate(&self) {
        self.held.send_replace(true);
        // Nobody can lift a hold whose handle is gone, and dropping one stops nothing.
        drop(self.wish.clone().wait_for(|wish| *wish != Wish::Hold).await);
        self.held.send_replace(false);
    }
}

impl StopHandle {
    /// Asks to stop. Slots that are open are closed first.
    pub fn stop(&self) {
        self.wish.send_replace(Wish::Stop);
    }

    /// Asks to hold: what is open is closed, and nothing more is begun. A stop stays a stop.
    pub fn hold(&self) {
        self.change(Wish::Run, Wish::Hold);
    }

    /// Lifts a hold.
    pub fn resume(&self) {
        self.change(Wish::Hold, Wish::Run);
    }

    /// Waits until a hold has come into force: nothing is open. Never ends when all moves ended before that.
    pub async fn held(&mut self) {
        if self.held.wait_for(|held| *held).await.is_err() {
            std::future::pending().await
        }
    }

    fn change(&self, from: Wish, to: Wish) {
        self.wish.send_if_modified(|wish| {
            let fits = *wish == from;
            if fits {
                *wish = to;
            }
            fits
        });
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_hold_waits_at_the_gate_until_it_is_lifted() {
        let (mut handle, stop) = Stop::new();
        handle.hold();
        assert_eq!(stop.wish(), Wish::Hold);
        assert!(handle.held().now_or_never().is_none(), "something may be open");
        let mut gate = std::pin::pin!(stop.gate());
        assert!(gate.as_mut().now_or_never().is_none());
        handle.held().await;
        handle.resume();
        gate.await;
        assert_eq!(stop.wish(), Wish::Run);
        assert!(handle.held().now_or_never().is_none());
    }

    #[tokio::test]
    async fn a_stop_opens_the_gate_and_is_never_taken_back() {
        let (handle, stop) = Stop::new();
        handle.hold();
        handle.stop();
        stop.gate().await;
        handle.hold();
        handle.resume();
        assert!(stop.is_asked());
    }
}
