//! Reads the history beside the loop: through a connection of its own, and by few at a time.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::store::Store;

/// Searching the history takes a processor for seconds, and whoever asked may have given up meanwhile: the next ones wait.
const READERS_MAX: usize = 2;

/// What was kept, for those who only read.
#[derive(Debug)]
pub(super) struct Archive {
    store: Arc<Store>,
    places: Arc<Semaphore>,
}

impl Archive {
    pub(super) fn new(store: Arc<Store>) -> Self {
        Self { store, places: Arc::new(Semaphore::new(READERS_MAX)) }
    }

    /// What `read` finds, off the reactor; the text of an error says that it did not come to an end.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Store) -> T + Send + 'static,
    ) -> Result<T, String> {
        let place = self.places.clone().acquire_owned().await.map_err(|closed| closed.to_string())?;
        let store = self.store.clone();
        let reading = tokio::task::spawn_blocking(move || {
            // Taken until it is done, whether anybody waits for it or not.
            let _place = place;
            read(&store)
        });
        reading.await.map_err(|error| error.to_string())
    }
}
