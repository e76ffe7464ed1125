//! Whose turn it is: an import may take hours, and the worker that carries it has tasks of the whole cloud to do. So only
//! so many run at once in a process, and no project has more than half of these turns.

use crate::Image;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

type Running = Arc<Mutex<HashMap<String, usize>>>;

/// The turns of this process.
#[derive(Debug)]
pub(crate) struct Turns {
    all: usize,
    running: Running,
}

/// One turn; it ends with this.
#[derive(Debug)]
pub(crate) struct Turn {
    owner: String,
    running: Running,
}

impl Turns {
    pub(crate) fn new(all: usize) -> Self {
        Turns { all: all.max(1), running: Running::default() }
    }

    /// A turn for an image; `None` while there is none left for its project.
    pub(crate) fn take(&self, image: &Image) -> Option<Turn> {
        let owner = image.owner.clone().unwrap_or_default();
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = running.get(&owner).copied().unwrap_or_default();
        if mine >= self.all.div_ceil(2) || running.values().sum::<usize>() >= self.all {
            return None;
        }
        running.insert(owner.clone(), mine + 1);
        Some(Turn { owner, running: self.running.clone() })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(n) = running.get_mut(&self.owner) {
            *n -= 1;
            if *n == 0 {
                running.remove(&self.owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Form, Status, Visibility};
    use state::Timestamp;

    fn image(owner: &str) -> Image {
        Image {
            id: String::new(),
            name: None,
            status: Status::Importing,
            visibility: Visibility::Private,
            owner: Some(owner.to_owned()),
            size: None,
            virtual_size: None,
            disk_format: None,
            container_format: None,
            checksum: None,
            os_hash_algo: None,
            os_hash_value: None,
            min_disk: 0,
            min_ram: 0,
            protected: false,
            os_hidden: false,
            properties: std::collections::BTreeMap::default(),
            tags: Vec::new(),
            store: String::new(),
            copies: Vec::new(),
            form: Form::Empty,
            created_at: Timestamp(0),
            updated_at: Timestamp(0),
        }
    }

    #[test]
    fn half_for_one_and_no_more_than_all() {
        let turns = Turns::new(4);
        let mut taken: Vec<_> = (0..2).map(|_| turns.take(&image("a")).unwrap()).collect();
        assert!(turns.take(&image("a")).is_none());
        taken.extend((0..2).map(|_| turns.take(&image("b")).unwrap()));
        assert!(turns.take(&image("c")).is_none());
        taken.remove(0);
        assert!(turns.take(&image("b")).is_none());
        taken.push(turns.take(&image("c")).unwrap());
        drop(taken);
        assert!(turns.running.lock().unwrap().is_empty());
        assert!(Turns::new(1).take(&image("a")).is_some());
    }
}
