//! Fit columns by shape, kept up row by row.

use std::collections::HashMap;
use std::sync::Arc;

use super::rows::Rows;
use super::shape::Shape;

/// More columns than a cluster has shapes; beyond it the one not used for longest goes.
const CAPACITY: usize = 256;

/// A list of changes longer than this costs more to follow than columns cost to make again.
const LONG: usize = 8192;

/// For every shape that was asked for: how many of its pods fit each node.
#[derive(Debug, Default)]
pub(crate) struct Fits {
    columns: HashMap<Shape, Column>,
    /// Rows that changed, oldest first.
    touched: Vec<u32>,
    /// Moves with every question.
    now: u64,
}

#[derive(Debug)]
struct Column {
    slots: Arc<[u32]>,
    /// How much of `touched` it has seen.
    seen: usize,
    asked: u64,
}

impl Fits {
    /// Notes that a row's node or its used room changed.
    pub(crate) fn touch(&mut self, row: u32) {
        if self.touched.len() >= LONG {
            self.forget();
        }
        if !self.columns.is_empty() {
            self.touched.push(row);
        }
    }

    /// Notes that rows have moved.
    pub(crate) fn forget(&mut self) {
        self.columns.clear();
        self.touched.clear();
    }

    /// Slots of the shape by row.
    pub(crate) fn column(&mut self, shape: &Shape, nodes: &Rows) -> Arc<[u32]> {
        self.now += 1;
        let (now, touched) = (self.now, &self.touched);
        if let Some(column) = self.columns.get_mut(shape) {
            for row in touched.iter().skip(column.seen).copied() {
                let slots = nodes[row].slots(shape);
                if column.slots[row as usize] != slots {
                    Arc::make_mut(&mut column.slots)[row as usize] = slots;
                }
            }
            column.seen = touched.len();
            column.asked = now;
            return Arc::clone(&column.slots);
        }
        if self.columns.len() >= CAPACITY {
            let oldest = self.columns.iter().min_by_key(|(_, column)| column.asked).map(|(shape, _)| shape.clone());
            oldest.and_then(|shape| self.columns.remove(&shape));
        }
        let slots: Arc<[u32]> = nodes.iter().map(|node| node.slots(shape)).collect();
        self.columns.insert(shape.clone(), Column { slots: Arc::clone(&slots), seen: touched.len(), asked: now });
        slots
    }
}
