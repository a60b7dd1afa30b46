//! The node table, in chunks: a change under a snapshot copies one chunk and not the table, and so does a node that comes.

use std::collections::BTreeMap;
use std::ops::Index;
use std::sync::Arc;

use super::node::Node;

/// Most nodes of one chunk. Small enough to be copied for every event, large enough that a table has few of them.
const CHUNK: usize = 128;

/// Nodes by name; the position is the node's row. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rows {
    /// None of them empty.
    chunks: Vec<Arc<Vec<Arc<Node>>>>,
    /// The row of each chunk's first node.
    starts: Vec<u32>,
    len: u32,
    /// Rows that are different in one view: what is promised to others is taken there.
    different: Arc<Different>,
}

/// Nodes by row.
pub(crate) type Different = BTreeMap<u32, Arc<Node>>;

impl Rows {
    /// How many nodes there are.
    pub(crate) fn len(&self) -> usize {
        self.len as usize
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn get(&self, row: u32) -> Option<&Node> {
        (row < self.len).then(|| &self[row])
    }

    /// In the order of rows.
    pub(crate) fn iter(&self) -> Iter<'_> {
        Iter { rows: self, chunk: 0, position: 0, row: 0 }
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
        let row = |position| self.starts[chunk] + count(position);
        self.chunks[chunk].binary_search_by(name_of).map(row).map_err(row)
    }

    /// Chunk and position of a row; for the row after the last one, the end of the last chunk.
    fn seat(&self, row: u32) -> (usize, usize) {
        let chunk = self.starts.partition_point(|start| *start <= row).saturating_sub(1);
        (chunk, (row - self.starts[chunk]) as usize)
    }

    /// A row that is to be changed.
    pub(crate) fn change(&mut self, row: u32) -> &mut Node {
        let (chunk, position) = self.seat(row);
        Arc::make_mut(&mut Arc::make_mut(&mut self.chunks[chunk])[position])
    }

    /// A row that is to be changed in this view only.
    pub(crate) fn differ(&mut self, row: u32) -> &mut Node {
        let (chunk, position) = self.seat(row);
        let chunks = &self.chunks;
        let node = Arc::make_mut(&mut self.different).entry(row).or_insert_with(|| Arc::clone(&chunks[chunk][position]));
        Arc::make_mut(node)
    }

    /// The rows that are different in this view.
    pub(crate) fn different(&self) -> &Arc<Different> {
        &self.different
    }

    /// The same table with other rows that are different.
    pub(crate) fn with(&self, different: &Arc<Different>) -> Self {
        Self { different: Arc::clone(different), ..self.clone() }
    }

    /// Makes room for a node before this row, one that its name goes before.
    pub(crate) fn insert(&mut self, row: u32, node: Node) {
        if self.chunks.is_empty() {
            self.chunks.push(Arc::default());
            self.starts.push(0);
        }
        let (chunk, position) = self.seat(row);
        let nodes = Arc::make_mut(&mut self.chunks[chunk]);
        nodes.insert(position, Arc::new(node));
        if nodes.len() > CHUNK {
            // Nodes often come in the order of their names: then what is before them is left full.
            let rest = nodes.split_off(if position == CHUNK { CHUNK } else { CHUNK / 2 });
            self.chunks.insert(chunk + 1, Arc::new(rest));
        }
        self.count_from(chunk);
    }

    /// Takes a node out.
    pub(crate) fn remove(&mut self, row: u32) -> Arc<Node> {
        let (chunk, position) = self.seat(row);
        let nodes = Arc::make_mut(&mut self.chunks[chunk]);
        let removed = nodes.remove(position);
        let left = nodes.len();
        let next = self.chunks.get(chunk + 1).map(|next| next.len());
        if left == 0 {
            self.chunks.remove(chunk);
        } else if next.is_some_and(|next| left + next <= CHUNK / 2) {
            let next = self.chunks.remove(chunk + 1);
            Arc::make_mut(&mut self.chunks[chunk]).extend(next.iter().cloned());
        }
        self.count_from(chunk);
        removed
    }

    /// Where the chunks start from this one on.
    fn count_from(&mut self, chunk: usize) {
        let mut row = self.starts[chunk];
        self.starts.truncate(chunk);
        for chunk in self.chunks.iter().skip(chunk) {
            self.starts.push(row);
            row += count(chunk.len());
        }
        self.len = row;
    }
}

/// A number of positions as ids count; there are never more.
pub(super) fn count(positions: usize) -> u32 {
    u32::try_from(positions).unwrap_or(u32::MAX)
}

impl Index<u32> for Rows {
    type Output = Node;

    fn index(&self, row: u32) -> &Node {
        if !self.different.is_empty()
            && let Some(node) = self.different.get(&row)
        {
            return node;
        }
        let (chunk, position) = self.seat(row);
        &self.chunks[chunk][position]
    }
}

/// Nodes in the order of rows.
#[derive(Debug, Clone)]
pub(crate) struct Iter<'a> {
    rows: &'a Rows,
    chunk: usize,
    position: usize,
    row: u32,
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a Node;

    fn next(&mut self) -> Option<&'a Node> {
        let nodes = self.rows.chunks.get(self.chunk)?;
        let node = nodes.get(self.position)?;
        let different = if self.rows.different.is_empty() { None } else { self.rows.different.get(&self.row) };
        self.row += 1;
        self.position += 1;
        if self.position == nodes.len() {
            (self.chunk, self.position) = (self.chunk + 1, 0);
        }
        Some(different.unwrap_or(node).as_ref())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = (self.rows.len - self.row) as usize;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Iter<'_> {}

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
    fn a_node_that_comes_or_goes_copies_no_more_than_a_chunk_or_two() {
        let mut rows = table();
        let copy = rows.clone();
        rows.insert(
            rows.search("n200x").unwrap_err(),
            Node { facts: Arc::new(Facts { name: "n200x".into(), ..Facts::default() }), ..Node::default() },
        );
        rows.remove(100);
        let shared = copy.chunks.iter().filter(|chunk| rows.chunks.iter().any(|other| Arc::ptr_eq(chunk, other))).count();
        assert!(shared + 2 >= copy.chunks.len(), "{shared} of {} are shared", copy.chunks.len());
        assert!(copy.chunks.len() < 12);
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
