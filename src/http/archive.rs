//! Reads the history beside the loop: through connections of its own, and by few at a time.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

use crate::store::Store;

/// What was kept, for those who only read: each at a connection, and the next ones wait.
#[derive(Debug)]
pub(super) struct Archive {
    idle: Arc<Mutex<Vec<Store>>>,
    places: Arc<Semaphore>,
    /// Searches read all there is, which takes seconds: they leave a place to the others.
    searches: Arc<Semaphore>,
}

impl Archive {
    /// Through these connections.
    pub(super) fn new(connections: Vec<Store>) -> Self {
        let places = Arc::new(Semaphore::new(connections.len()));
        let searches = Arc::new(Semaphore::new(connections.len().saturating_sub(1).max(1)));
        Self { idle: Arc::new(Mutex::new(connections)), places, searches }
    }

    /// What `read` finds, off the reactor; the text of an error says that it did not come to an end.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Store) -> T + Send + 'static,
    ) -> Result<T, String> {
        let place = self.places.clone().acquire_owned().await.map_err(|closed| closed.to_string())?;
        let idle = self.idle.clone();
        let reading = tokio::task::spawn_blocking(move || {
            // Taken until it is done, whether anybody waits for it or not.
            let _place = place;
            let store = Self::lock(&idle).pop().ok_or("no connection is left")?;
            let found = read(&store);
            Self::lock(&idle).push(store);
            Ok(found)
        });
        reading.await.map_err(|error| error.to_string())?
    }

    /// The same for who may have to read all there is.
    pub(super) async fn search<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Store) -> T + Send + 'static,
    ) -> Result<T, String> {
        let search = self.searches.clone().acquire_owned().await.map_err(|closed| closed.to_string())?;
        self.read(move |store| {
            let _search = search;
            read(store)
        })
        .await
    }

    fn lock(idle: &Mutex<Vec<Store>>) -> std::sync::MutexGuard<'_, Vec<Store>> {
        idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
