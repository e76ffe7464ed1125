//! Pages of a listing: limit, marker and order, the same way for every service.
//!
//! A store fetches `page.fetch()` rows (one more than asked for); [`Page::cut`] then says whether there is a
//! next page, so that no count is needed.

use crate::{Error, Query};

/// What a listing was asked for.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// At most this many.
    pub limit: usize,
    /// The id of the last item of the page before.
    pub marker: Option<String>,
    /// Rows to skip (Cinder).
    pub offset: usize,
    pub sort: Vec<Sort>,
    /// Whether the caller named a limit; links to the next page are always given when one exists.
    pub limited: bool,
}

/// One sort key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sort {
    pub key: String,
    pub descending: bool,
}

impl Page {
    /// Reads `limit`, `marker`, `offset`, and `sort=key:dir,…` or repeated `sort_key`/`sort_dir`. A limit above `max`
    /// is `max`; a negative or non-numeric one is 400, and so is a sort key that is not in `keys`.
    pub fn parse(query: &Query, max: usize, keys: &[&str]) -> Result<Page, Error> {
        let number = |key: &str| match query.int(key)? {
            Some(n) => usize::try_from(n).map(Some).map_err(|_| {
                Error::bad_request(format!(
                    "Invalid input for field/attribute {key}. Value: {n}. {n} is less than the minimum of 0"
                ))
            }),
            None => Ok(None),
        };
        let asked = number("limit")?;
        let sort = sorts(query)?;
        if let Some(bad) = sort.iter().find(|s| !keys.contains(&s.key.as_str())) {
            return Err(Error::bad_request(format!("Sort key supplied is not valid: {}", bad.key)));
        }
        Ok(Page {
            limit: asked.unwrap_or(max).min(max),
            marker: query.get("marker").filter(|m| !m.is_empty()).map(str::to_owned),
            offset: number("offset")?.unwrap_or(0),
            sort,
            limited: asked.is_some(),
        })
    }

    /// How many rows to fetch to learn whether there is a next page.
    pub fn fetch(&self) -> usize {
        self.limit.saturating_add(1)
    }

    /// Cuts what was fetched to the page; true when there is more.
    pub fn cut<T>(&self, rows: &mut Vec<T>) -> bool {
        let more = rows.len() > self.limit;
        rows.truncate(self.limit);
        more && self.limit > 0
    }

    /// The URL of the next page: this one's with another marker.
    pub fn next(&self, url: &str, query: &Query, last: &str) -> String {
        let mut rest = query.encode_without(&["marker", "limit", "offset"]);
        if !rest.is_empty() {
            rest.push('&');
        }
        format!("{url}?{rest}limit={}&marker={last}", self.limit)
    }
}

fn sorts(query: &Query) -> Result<Vec<Sort>, Error> {
    let direction = |d: &str| match d {
        "asc" => Ok(false),
        "desc" => Ok(true),
        _ => Err(Error::bad_request(format!("Unknown sort direction: {d}, must be one of: asc, desc"))),
    };
    if let Some(sort) = query.get("sort") {
        return sort
            .split(',')
            .filter(|s| !s.trim().is_empty())
            .map(|s| {
                let (key, dir) = s.trim().split_once(':').unwrap_or((s.trim(), "desc"));
                Ok(Sort { key: key.to_owned(), descending: direction(dir)? })
            })
            .collect();
    }
    let dirs: Vec<_> = query.all("sort_dir").map(direction).collect::<Result<_, _>>()?;
    let first = dirs.first().copied().unwrap_or(true);
    let keys = query.all("sort_key").enumerate();
    Ok(keys
        .map(|(i, k)| Sort { key: k.to_owned(), descending: dirs.get(i).copied().unwrap_or(first) })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(q: &str) -> Result<Page, Error> {
        Page::parse(&Query::parse(q).unwrap(), 1000, &["name", "created_at"])
    }

    #[test]
    fn limits_are_bounded_and_checked() {
        assert_eq!(page("").unwrap().limit, 1000);
        assert_eq!(page("limit=5").unwrap().fetch(), 6);
        assert_eq!(page("limit=5000").unwrap().limit, 1000);
        for bad in
            ["limit=-1", "limit=x", "sort=secret", "sort=name:up", "sort_key=name&sort_dir=up", "offset=-2"]
        {
            assert!(page(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn both_ways_to_sort() {
        let by = |key: &str, descending| Sort { key: key.into(), descending };
        assert_eq!(
            page("sort=name:asc,created_at").unwrap().sort,
            [by("name", false), by("created_at", true)]
        );
        assert_eq!(page("sort_key=name&sort_dir=asc").unwrap().sort, [by("name", false)]);
    }

    #[test]
    fn a_page_ends_where_it_ends() {
        let p = page("limit=2&name=a%20b").unwrap();
        let mut rows = vec![1, 2, 3];
        assert!(p.cut(&mut rows));
        assert_eq!(rows, [1, 2]);
        let q = Query::parse("limit=2&name=a%20b").unwrap();
        assert_eq!(p.next("http://x/v", &q, "2"), "http://x/v?name=a%20b&limit=2&marker=2");
    }
}
