//! Fit columns by shape, kept up row by row.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::changes::Change;
use super::rows::Rows;
use super::shape::Shape;

/// More columns than a cluster has shapes; beyond it the one not used for longest goes.
const CAPACITY: usize = 256;

/// For every shape that was asked for: how many of its pods fit each node.
#[derive(Debug, Default)]
pub(crate) struct Fits {
    columns: HashMap<Shape, Column>,
    /// Moves with every question.
    now: u64,
}

#[derive(Debug)]
struct Column {
    slots: Arc<[u32]>,
    /// How many of the changes it has seen.
    seen: usize,
    asked: u64,
}

impl Fits {
    pub(crate) fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    /// Brings the columns up to date that were asked for since the last time, and forgets the others. The changes may be forgotten.
    pub(crate) fn catch_up(&mut self, nodes: &Rows, changes: &[Change]) {
        self.columns.retain(|_, column| column.seen > 0);
        for (shape, column) in &mut self.columns {
            column.follow(shape, nodes, &changes[column.seen..]);
            column.seen = 0;
        }
    }

    /// Slots of the shape by row in a view in which these rows are not as in the index.
    pub(crate) fn column_with(
        &mut self,
        shape: &Shape,
        (nodes, changes): (&Rows, &[Change]),
        view: &Rows,
        rows: &BTreeSet<u32>,
    ) -> Arc<[u32]> {
        count(self.column(shape, nodes, changes), shape, view, rows)
    }

    /// Slots of the shape by row. `changes` are all since they were last forgotten.
    fn column(&mut self, shape: &Shape, nodes: &Rows, changes: &[Change]) -> Arc<[u32]> {
        self.now += 1;
        let now = self.now;
        if let Some(column) = self.columns.get_mut(shape) {
            column.follow(shape, nodes, &changes[column.seen..]);
            column.seen = changes.len();
            column.asked = now;
            return Arc::clone(&column.slots);
        }
        if self.columns.len() >= CAPACITY {
            let oldest = self.columns.iter().min_by_key(|(_, column)| column.asked).map(|(shape, _)| shape.clone());
            oldest.and_then(|shape| self.columns.remove(&shape));
        }
        let slots: Arc<[u32]> = nodes.iter().map(|node| node.slots(shape)).collect();
        self.columns.insert(shape.clone(), Column { slots: Arc::clone(&slots), seen: changes.len(), asked: now });
        slots
    }
}

/// Counts these rows as they are in a view.
fn count(mut slots: Arc<[u32]>, shape: &Shape, nodes: &Rows, rows: &BTreeSet<u32>) -> Arc<[u32]> {
    for row in rows {
        let counted = nodes[*row].slots(shape);
        if slots[*row as usize] != counted {
            Arc::make_mut(&mut slots)[*row as usize] = counted;
        }
    }
    slots
}

impl Column {
    fn follow(&mut self, shape: &Shape, nodes: &Rows, changes: &[Change]) {
        if changes.iter().any(Change::moves_rows) {
            let mut slots = self.slots.to_vec();
            for change in changes {
                match change {
                    Change::Room(_) | Change::Facts { .. } => {}
                    Change::Came { row, .. } => slots.insert(*row as usize, 0),
                    Change::Gone { row, .. } => {
                        slots.remove(*row as usize);
                    }
                }
            }
            self.slots = slots.into();
        }
        self.slots = count(std::mem::take(&mut self.slots), shape, nodes, &touched(changes));
    }
}

/// Which rows, of those that there are now, must be counted again.
fn touched(changes: &[Change]) -> BTreeSet<u32> {
    let mut touched = BTreeSet::new();
    for change in changes {
        change.shift(&mut touched);
        match change {
            Change::Room(row) | Change::Facts { row, .. } | Change::Came { row, .. } => {
                touched.insert(*row);
            }
            Change::Gone { .. } => {}
        }
    }
    touched
}
