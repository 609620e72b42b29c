//! The engines of the process: equal configurations share one, so they share its modules.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::{Engine, EngineConfig};
use crate::error::EngineError;

/// Engines by configuration. Unused engines are kept for later requests, but no more than [`MOST_IDLE`].
pub struct SharedEngines<E: Engine> {
    engines: Mutex<Engines<E>>,
}

struct Engines<E> {
    by_config: HashMap<EngineConfig, Entry<E>>,
    /// How many times an engine was requested.
    asked: u64,
}

struct Entry<E> {
    engine: Arc<E>,
    /// The number of the last request for this engine.
    asked: u64,
}

/// The most unused engines that are kept.
pub const MOST_IDLE: usize = 64;

impl<E: Engine> Default for SharedEngines<E> {
    fn default() -> Self {
        Self { engines: Mutex::new(Engines { by_config: HashMap::new(), asked: 0 }) }
    }
}

impl<E: Engine> SharedEngines<E> {
    /// Returns the engine with this configuration, and creates it if there is none.
    pub fn get(&self, config: &EngineConfig) -> Result<Arc<E>, EngineError> {
        let mut engines = self.engines.lock().unwrap_or_else(PoisonError::into_inner);
        engines.asked += 1;
        let asked = engines.asked;
        if let Some(entry) = engines.by_config.get_mut(config) {
            entry.asked = asked;
            return Ok(entry.engine.clone());
        }
        let engine = Arc::new(E::new(config)?);
        let surplus = engines.take_surplus();
        engines.by_config.insert(config.clone(), Entry { engine: engine.clone(), asked });
        drop(engines);
        // Dropping an engine's code may take a while, so the lock is not held.
        drop(surplus);
        Ok(engine)
    }

    /// The number of engines.
    pub fn len(&self) -> usize {
        self.engines.lock().unwrap_or_else(PoisonError::into_inner).by_config.len()
    }

    /// Whether there are no engines.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<E> Engines<E> {
    /// Removes surplus unused engines, those with the oldest last request first.
    fn take_surplus(&mut self) -> Vec<Arc<E>> {
        // No other thread can take a reference meanwhile: that requires the lock.
        let is_idle = |entry: &Entry<E>| Arc::strong_count(&entry.engine) == 1;
        let mut idle: Vec<u64> =
            self.by_config.values().filter(|entry| is_idle(entry)).map(|entry| entry.asked).collect();
        let Some(surplus) = idle.len().checked_sub(MOST_IDLE).filter(|surplus| *surplus > 0) else { return Vec::new() };
        idle.sort_unstable();
        let newest = idle[surplus - 1];
        let taken = self.by_config.extract_if(|_, entry| is_idle(entry) && entry.asked <= newest);
        taken.map(|(_, entry)| entry.engine).collect()
    }
}
