//! The tables of a markdown document.

/// One table.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Table {
    /// The line of its header, counted from 1.
    pub(super) line: usize,
    /// The header's cells, in lower case.
    pub(super) header: Vec<String>,
    pub(super) rows: Vec<Row>,
}

/// One row below the header.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) line: usize,
    pub(super) cells: Vec<String>,
}

/// The document's tables: a header, a line of dashes, and rows up to the first line that is none.
pub(super) fn tables(document: &str) -> Vec<Table> {
    let mut tables: Vec<Table> = Vec::new();
    let mut fenced = false;
    let mut inside = false;
    let mut previous: Option<Vec<String>> = None;
    for (line, text) in (1..).zip(document.lines().map(str::trim)) {
        if text.starts_with("```") {
            fenced = !fenced;
        }
        let cells = if fenced { None } else { cells(text) };
        match (&cells, tables.last_mut()) {
            (Some(row), Some(table)) if inside => table.rows.push(Row { line, cells: row.clone() }),
            (Some(row), _) if is_divider(row) => {
                let header = previous.unwrap_or_default().iter().map(|cell| cell.to_lowercase()).collect();
                tables.push(Table { line: line - 1, header, rows: Vec::new() });
                inside = true;
            }
            (Some(_), _) => {}
            (None, _) => inside = false,
        }
        previous = cells;
    }
    tables
}

fn is_divider(cells: &[String]) -> bool {
    cells.iter().all(|cell| cell.contains('-') && cell.chars().all(|c| c == '-' || c == ':'))
}

/// The cells of a table's line; `\|` is a bar within a cell.
fn cells(line: &str) -> Option<Vec<String>> {
    let inner = line.strip_prefix('|')?;
    let inner = inner.strip_suffix('|').unwrap_or(inner);
    let mut cells = vec![String::new()];
    let mut escaped = false;
    for character in inner.chars() {
        match (character, cells.last_mut()) {
            ('|', Some(cell)) if escaped => cell.push('|'),
            ('|', _) => cells.push(String::new()),
            ('\\', _) if !escaped => {
                escaped = true;
                continue;
            }
            (other, Some(cell)) => cell.extend(escaped.then_some('\\').into_iter().chain([other])),
            (_, None) => {}
        }
        escaped = false;
    }
    Some(cells.iter().map(|cell| cell.trim().to_string()).collect())
}

/// The test paths of a cell, separated by commas or `<br>`, with or without backticks.
pub(super) fn test_paths(cell: &str) -> Vec<String> {
    let separated = cell.replace("<br/>", ",").replace("<br />", ",").replace("<br>", ",");
    let paths = separated.split(',').map(|path| path.trim().trim_matches('`').to_string());
    paths.filter(|path| !path.is_empty()).collect()
}
