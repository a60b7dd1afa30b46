//! The node table, in chunks: a change under a snapshot copies one chunk and not the table.

use std::collections::BTreeMap;
use std::ops::Index;
use std::sync::Arc;

use super::node::Node;

/// Nodes of one chunk. Small enough to be copied for every event, large enough that a table has few of them.
const CHUNK: usize = 128;

/// Nodes by name; the position is the node's row. Cheap to clone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Rows {
    /// All of them full but the last.
    chunks: Vec<Arc<Vec<Arc<Node>>>>,
    /// Rows that are different in one view: what is promised to others is taken there.
    different: BTreeMap<u32, Node>,
}

impl Rows {
    /// How many nodes there are.
    pub(crate) fn len(&self) -> usize {
        self.chunks.last().map_or(0, |last| (self.chunks.len() - 1) * CHUNK + last.len())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    pub(crate) fn get(&self, row: u32) -> Option<&Node> {
        ((row as usize) < self.len()).then(|| &self[row])
    }

    /// In the order of rows.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &Node> + Clone {
        (0..u32::try_from(self.len()).unwrap_or(u32::MAX)).map(|row| &self[row])
    }

    /// Row of the named node.
    pub(crate) fn row_of(&self, name: &str) -> Option<u32> {
        self.search(name).ok()
    }

    /// Row of the named node, or the one that it would have.
    pub(crate) fn search(&self, name: &str) -> Result<u32, u32> {
        let name_of = |node: &Arc<Node>| node.facts.name.as_str().cmp(name);
        let after = self.chunks.partition_point(|chunk| chunk.first().is_some_and(|first| name_of(first).is_le()));
        let Some(chunk) = after.checked_sub(1) else { return Err(0) };
        let row = |position: usize| u32::try_from(chunk * CHUNK + position).unwrap_or(u32::MAX);
        self.chunks[chunk].binary_search_by(name_of).map(row).map_err(row)
    }

    /// A row that is to be changed.
    pub(crate) fn change(&mut self, row: u32) -> &mut Node {
        let row = row as usize;
        Arc::make_mut(&mut Arc::make_mut(&mut self.chunks[row / CHUNK])[row % CHUNK])
    }

    /// A row that is to be changed in this view only.
    pub(crate) fn differ(&mut self, row: u32) -> &mut Node {
        let chunks = &self.chunks;
        self.different.entry(row).or_insert_with(|| Node::clone(&chunks[row as usize / CHUNK][row as usize % CHUNK]))
    }

    /// Makes room for a node before this row. The last node of every full chunk moves on to the next.
    pub(crate) fn insert(&mut self, row: u32, node: Node) {
        let (first, mut moving) = (row as usize / CHUNK, Arc::new(node));
        let mut position = row as usize % CHUNK;
        for chunk in self.chunks.iter_mut().skip(first) {
            let chunk = Arc::make_mut(chunk);
            chunk.insert(position, moving);
            position = 0;
            if chunk.len() <= CHUNK {
                return;
            }
            let Some(last) = chunk.pop() else { return };
            moving = last;
        }
        self.chunks.push(Arc::new(vec![moving]));
    }

    /// Takes a node out. The first node of every later chunk moves back to the one before.
    pub(crate) fn remove(&mut self, row: u32) -> Arc<Node> {
        let first = row as usize / CHUNK;
        let removed = Arc::make_mut(&mut self.chunks[first]).remove(row as usize % CHUNK);
        for chunk in first + 1..self.chunks.len() {
            let moving = Arc::make_mut(&mut self.chunks[chunk]).remove(0);
            Arc::make_mut(&mut self.chunks[chunk - 1]).push(moving);
        }
        self.chunks.pop_if(|last| last.is_empty());
        removed
    }
}

impl Index<u32> for Rows {
    type Output = Node;

    fn index(&self, row: u32) -> &Node {
        if !self.different.is_empty()
            && let Some(node) = self.different.get(&row)
        {
            return node;
        }
        &self.chunks[row as usize / CHUNK][row as usize % CHUNK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::node::Facts;

    fn named(number: u32) -> Node {
        Node { facts: Arc::new(Facts { name: format!("n{number:03}"), ..Facts::default() }), ..Node::default() }
    }

    fn names(rows: &Rows) -> Vec<String> {
        rows.iter().map(|node| node.facts.name.clone()).collect()
    }

    fn sorted(numbers: impl Iterator<Item = u32>) -> Vec<String> {
        numbers.map(|number| format!("n{number:03}")).collect()
    }

    /// 400 nodes, which fill several chunks, in an order that is none.
    fn table() -> Rows {
        let mut rows = Rows::default();
        for number in (0..400).map(|step| step * 177 % 400) {
            let node = named(number);
            let row = rows.search(&node.facts.name).unwrap_err();
            rows.insert(row, node);
        }
        rows
    }

    #[test]
    fn nodes_that_come_in_any_order_are_kept_by_name() {
        let rows = table();
        assert_eq!((rows.len(), names(&rows)), (400, sorted(0..400)));
        assert_eq!([rows.row_of("n000"), rows.row_of("n129"), rows.row_of("n399")], [Some(0), Some(129), Some(399)]);
        assert_eq!([rows.search("n400"), rows.search("m"), rows.search("n129x")], [Err(400), Err(0), Err(130)]);
        assert!(rows.get(399).is_some() && rows.get(400).is_none());
    }

    #[test]
    fn nodes_that_go_leave_no_gap() {
        let mut rows = table();
        for number in (0..400).map(|step| step * 177 % 400).filter(|number| number % 3 > 0) {
            let row = rows.row_of(&format!("n{number:03}")).unwrap();
            assert_eq!(rows.remove(row).facts.name, format!("n{number:03}"));
        }
        assert_eq!(names(&rows), sorted((0..400).filter(|number| number % 3 == 0)));
        for number in (0..400).filter(|number| number % 3 == 0) {
            rows.remove(rows.row_of(&format!("n{number:03}")).unwrap());
        }
        assert!(rows.is_empty() && rows.row_of("n000").is_none());
    }

    #[test]
    fn a_copy_stays_as_it_was() {
        let mut rows = table();
        let copy = rows.clone();
        rows.change(200).avoided = true;
        rows.remove(7);
        rows.insert(0, Node::default());
        assert_eq!((names(&copy), copy[200].avoided), (sorted(0..400), false));
    }

    #[test]
    fn what_is_different_in_a_view_is_different_only_there() {
        let rows = table();
        let mut view = rows.clone();
        view.differ(200).avoided = true;
        assert_eq!([view[200].avoided, view[201].avoided, rows[200].avoided], [true, false, false]);
    }
}
