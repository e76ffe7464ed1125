//! The tables of this service, one family a file.

pub(crate) mod cache;
pub(crate) mod images;
pub(crate) mod listing;
pub(crate) mod members;
pub(crate) mod metadefs;
pub(crate) mod tasks;
pub(crate) mod uploads;

/// A value for a placeholder of SQL that is put together from parts.
#[derive(Debug, Clone)]
pub(crate) enum Bind {
    Text(String),
    Int(i64),
}

/// SQL that grows, with its values. Only this program's own words become SQL text; what a caller says is a value.
#[derive(Debug, Default)]
pub(crate) struct Sql {
    pub(crate) text: String,
    pub(crate) binds: Vec<Bind>,
}

impl Sql {
    /// Adds text in which every `?` stands for the next of `values`.
    pub(crate) fn push(&mut self, text: &str, values: impl IntoIterator<Item = Bind>) {
        let mut values = values.into_iter();
        for part in text.split_inclusive('?') {
            match part.strip_suffix('?') {
                Some(part) => {
                    self.text.push_str(part);
                    self.binds.extend(values.next());
                    self.text.push_str(&format!("${}", self.binds.len()));
                }
                None => self.text.push_str(part),
            }
        }
    }
}

/// Binds every value in order.
macro_rules! bind_all {
    ($query:expr, $binds:expr) => {
        $binds.into_iter().fold($query, |q, b| match b {
            $crate::store::Bind::Text(v) => q.bind(v),
            $crate::store::Bind::Int(v) => q.bind(v),
        })
    };
}
pub(crate) use bind_all;
