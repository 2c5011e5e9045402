//! The tables of a run folder, to and from rows: strict, and an error says file, line and column.

use std::fmt::Display;
use std::io::Write;
use std::marker::PhantomData;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use csv::{DeserializeErrorKind, ErrorKind, StringRecord};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::axes::{Axis, AxisValue, AxisValues, Form};
use crate::metrics::{About, Metric, Values};
use crate::runtime::write_whole;

/// A row of a table: fixed columns by serde, and the values of axes and of metrics by name between them.
pub trait Row: Serialize + DeserializeOwned + Default {
    /// The metrics that such a row may hold values of.
    fn metrics() -> Vec<&'static dyn Metric> {
        Vec::new()
    }

    /// The axes that such a row may hold values of.
    fn axes() -> Vec<&'static Axis> {
        Vec::new()
    }

    /// Where the columns of these axes and metrics stand: each group behind a fixed column.
    fn columns(_axes: &[&'static Axis], _metrics: &[&'static dyn Metric]) -> Vec<(&'static str, Vec<Column>)> {
        Vec::new()
    }

    fn values(&self) -> Option<&Values> {
        None
    }

    fn values_mut(&mut self) -> Option<&mut Values> {
        None
    }

    fn axis_values(&self) -> Option<&AxisValues> {
        None
    }

    fn axis_values_mut(&mut self) -> Option<&mut AxisValues> {
        None
    }
}

/// A column with what one metric came to, or with the values on one axis.
#[derive(Debug, Clone, Copy)]
pub enum Column {
    Metric { about: &'static About, part: Part },
    Axis(&'static Axis),
}

/// Of what a metric came to.
#[derive(Debug, Clone, Copy)]
pub enum Part {
    Value,
    Low,
    High,
}

impl Column {
    pub fn value(about: &'static About) -> Self {
        Self::Metric { about, part: Part::Value }
    }

    /// Both ends of the interval; none of a metric without.
    pub fn interval(about: &'static About) -> Vec<Self> {
        let ends = if about.interval { [Part::Low, Part::High].as_slice() } else { &[] };
        ends.iter().map(|part| Self::Metric { about, part: *part }).collect()
    }

    fn name(&self) -> String {
        match self {
            Self::Metric { about, part: Part::Value } => about.name.to_string(),
            Self::Metric { about, part: Part::Low } => about.low(),
            Self::Metric { about, part: Part::High } => about.high(),
            Self::Axis(axis) => axis.key.to_string(),
        }
    }

    fn of<T: Row>(&self, row: &T) -> AxisValue {
        match self {
            Self::Metric { about, part } => {
                let value = row.values().map(|values| values.get(about.name)).unwrap_or_default();
                match part {
                    Part::Value => value.value,
                    Part::Low => value.low,
                    Part::High => value.high,
                }
                .into()
            }
            Self::Axis(axis) => row.axis_values().map(|values| values.get(axis).clone()).unwrap_or_default(),
        }
    }

    /// Puts a field into a row, or says what it is not.
    fn put<T: Row>(&self, row: &mut T, field: &str) -> Result<(), &'static str> {
        match self {
            Self::Metric { about, part } => {
                let number = Form::Number.parse(field)?.number();
                let Some(values) = row.values_mut() else { return Ok(()) };
                let mut value = values.get(about.name);
                match part {
                    Part::Value => value.value = number,
                    Part::Low => value.low = number,
                    Part::High => value.high = number,
                }
                values.set(about.name, value);
            }
            Self::Axis(axis) => {
                let value = axis.form.parse(field)?;
                if let Some(values) = row.axis_values_mut() {
                    values.set(axis, value);
                }
            }
        }
        Ok(())
    }
}

/// Reads every row of a CSV file with a header. `required` columns must be there; other columns may
/// be missing (the row type's defaults) or more than the row type knows (ignored).
pub fn read<T: Row>(path: &Path, required: &[&str]) -> Result<Vec<T>> {
    rows(path, required, false)
}

/// The same of a file that may have been cut off while it was written: a last row that is not whole is left out.
pub fn read_growing<T: Row>(path: &Path) -> Result<Vec<T>> {
    rows(path, &[], true)
}

/// The same, with columns that must be there.
pub fn read_growing_with<T: Row>(path: &Path, required: &[&str]) -> Result<Vec<T>> {
    rows(path, required, true)
}

fn rows<T: Row>(path: &Path, required: &[&str], growing: bool) -> Result<Vec<T>> {
    let file = path.display();
    let text = std::fs::read(path).with_context(|| format!("cannot read {file}"))?;
    parse(&text, &file, required, growing)
}

/// The rows of [`to_bytes`] with a header: the same to the last digit.
pub fn from_bytes<T: Row>(text: &[u8]) -> Result<Vec<T>> {
    parse(text, &"a table", &[], false)
}

fn parse<T: Row>(text: &[u8], file: &dyn Display, required: &[&str], growing: bool) -> Result<Vec<T>> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text); // spreadsheets add a byte order mark
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(text);
    let headers = reader.headers().map_err(|error| explain(&error, file, None))?.clone();
    check_headers(&headers, required).with_context(|| format!("{file}, line 1"))?;
    let known = T::columns(&T::axes(), &T::metrics()).into_iter().flat_map(|(_, columns)| columns);
    let columns: Vec<(usize, Column)> =
        known.filter_map(|column| Some((headers.iter().position(|name| name == column.name())?, column))).collect();
    let records: Vec<StringRecord> =
        reader.records().collect::<Result<_, _>>().map_err(|error| explain(&error, file, None))?;
    let mut rows = Vec::with_capacity(records.len());
    for (at, record) in records.iter().enumerate() {
        let last = at + 1 == records.len();
        if growing && last && (!text.ends_with(b"\n") || record.len() < headers.len()) {
            break;
        }
        let line = record.position().map_or(0, csv::Position::line);
        if record.len() != headers.len() {
            bail!("{file}, line {line}: {} fields where the header has {}", record.len(), headers.len());
        }
        let row = record.deserialize(Some(&headers)).map_err(|error| explain(&error, file, Some((&headers, record))));
        let mut row: T = row?;
        for (place, column) in &columns {
            let field = &record[*place];
            let wrong = |what| anyhow!("{file}, line {line}, column {:?}: {field:?} {what}", column.name());
            column.put(&mut row, field).map_err(wrong)?;
        }
        rows.push(row);
    }
    Ok(rows)
}

/// Writes a CSV file with its header, whole or not at all. It has the columns of the usual axes and metrics, of those
/// metrics that are `asked` for, and of whatever some row has a value of.
pub fn write<T: Row>(path: &Path, rows: &[T], asked: &[String]) -> Result<()> {
    let bytes = Table::new(rows, asked).to_csv(rows, true)?;
    write_whole(path, |file| Ok(file.write_all(&bytes)?))
}

/// Rows as the text of a table, with or without its header.
pub fn to_bytes<T: Row>(rows: &[T], header: bool) -> Result<Vec<u8>> {
    Table::new(rows, &[]).to_csv(rows, header)
}

/// The columns of axes and metrics in a file of rows of type `T`.
#[derive(Debug)]
pub(super) struct Table<T> {
    groups: Vec<(&'static str, Vec<Column>)>,
    rows: PhantomData<T>,
}

impl<T: Row> Table<T> {
    pub fn new(rows: &[T], asked: &[String]) -> Self {
        let has = |about: &About| rows.iter().filter_map(Row::values).any(|values| values.has(about.name));
        let shown = |metric: &&dyn Metric| {
            let about = metric.about();
            about.by_default || asked.iter().any(|name| name == about.name) || has(about)
        };
        let metrics: Vec<&'static dyn Metric> = T::metrics().into_iter().filter(shown).collect();
        let given = |axis: &Axis| rows.iter().filter_map(Row::axis_values).any(|values| !values.get(axis).is_none());
        let axes: Vec<&'static Axis> =
            T::axes().into_iter().filter(|axis| axis.always_a_column || given(axis)).collect();
        Self { groups: T::columns(&axes, &metrics), rows: PhantomData }
    }

    pub fn to_csv(&self, rows: &[T], header: bool) -> Result<Vec<u8>> {
        // A file without rows has a header all the same: that of a default row.
        let default = [T::default()];
        let fixed = serialized(if rows.is_empty() { &default } else { rows }, true)?;
        let mut fixed = csv::Reader::from_reader(fixed.as_slice());
        let names = fixed.headers()?.clone();
        // Numbers of all kinds are written by serde, in one form.
        let columns = || self.groups.iter().flat_map(|(_, columns)| columns);
        let of_row = |row: &T| columns().map(|column| column.of(row)).collect::<Vec<AxisValue>>();
        let named = serialized(&rows.iter().map(of_row).collect::<Vec<_>>(), false)?;
        let mut named = csv::ReaderBuilder::new().has_headers(false).from_reader(named.as_slice());
        let mut writer = csv::Writer::from_writer(Vec::new());
        if header {
            writer.write_record(self.spliced(&names, names.iter(), columns().map(Column::name)))?;
        }
        let (mut fixed, mut named) = (fixed.records(), named.records());
        for _ in rows {
            let fixed = fixed.next().transpose()?.unwrap_or_default();
            let named = if columns().next().is_some() { named.next().transpose()? } else { None };
            let named = named.unwrap_or_default();
            writer.write_record(self.spliced(&names, fixed.iter(), named.iter().map(str::to_string)))?;
        }
        writer.into_inner().map_err(|error| anyhow!("{error}"))
    }

    /// A record with the fields of axes and metrics, which come in the order of the groups, in their places.
    fn spliced<'a>(
        &self,
        names: &StringRecord,
        fixed: impl Iterator<Item = &'a str>,
        mut by_name: impl Iterator<Item = String>,
    ) -> Vec<String> {
        let mut fields = Vec::new();
        for (name, own) in names.iter().zip(fixed) {
            fields.push(own.to_string());
            let here = self.groups.iter().filter(|(before, _)| *before == name).map(|(_, columns)| columns.len());
            fields.extend(by_name.by_ref().take(here.sum()));
        }
        fields
    }
}

fn serialized<T: Serialize>(rows: &[T], header: bool) -> Result<Vec<u8>> {
    let mut writer = csv::WriterBuilder::new().has_headers(header).from_writer(Vec::new());
    rows.iter().try_for_each(|row| writer.serialize(row))?;
    writer.into_inner().map_err(|error| anyhow!("{error}"))
}

fn check_headers(headers: &StringRecord, required: &[&str]) -> Result<()> {
    for (at, name) in headers.iter().enumerate() {
        if headers.iter().take(at).any(|earlier| earlier == name) {
            bail!("column {name:?} is there twice");
        }
    }
    let missing: Vec<_> = required.iter().filter(|name| !headers.iter().any(|h| h == **name)).collect();
    match missing.as_slice() {
        [] => Ok(()),
        [one] => bail!("column {one:?} is missing"),
        many => bail!("columns {many:?} are missing"),
    }
}

/// The csv crate counts fields; a user looks for a line and the name of a column.
fn explain(error: &csv::Error, file: &dyn Display, row: Option<(&StringRecord, &StringRecord)>) -> anyhow::Error {
    let line = error.position().or(row.and_then(|(_, record)| record.position())).map_or(0, |at| at.line());
    match error.kind() {
        ErrorKind::Utf8 { .. } => anyhow!("{file}, line {line}: not UTF-8 text"),
        ErrorKind::Deserialize { err, .. } => {
            let at = err.field().map(|field| field as usize);
            let name = at.and_then(|at| row?.0.get(at)).unwrap_or("?");
            let value = at.and_then(|at| row?.1.get(at)).unwrap_or_default();
            let what = match err.kind() {
                DeserializeErrorKind::ParseFloat(_) => "is not a number".to_string(),
                DeserializeErrorKind::ParseInt(_) => "is not a whole number".to_string(),
                other => format!("cannot be read: {other}"),
            };
            anyhow!("{file}, line {line}, column {name:?}: {value:?} {what}")
        }
        _ => anyhow!("{file}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{Row, Table, read, write};
    use crate::run::caption::{CaptionItem, CaptionResult};
    use crate::run::style::{ItemRow, ResultRow};

    fn error_of(text: &[u8]) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("items.csv");
        std::fs::write(&path, text).unwrap();
        let error = read::<ItemRow>(&path, &["id", "strategy"]).unwrap_err();
        format!("{error:#}").replace(&format!("{}/", dir.path().display()), "")
    }

    #[test]
    fn errors_name_file_line_and_column() {
        assert_eq!(error_of(b""), "items.csv, line 1: columns [\"id\", \"strategy\"] are missing");
        assert_eq!(error_of(b"id,seed\na,1\n"), "items.csv, line 1: column \"strategy\" is missing");
        assert_eq!(error_of(b"id,strategy,id\n"), "items.csv, line 1: column \"id\" is there twice");
        assert_eq!(
            error_of(b"id,strategy,lpips\na,s,0.5\n\"b\nb\",s,half\n"),
            "items.csv, line 3, column \"lpips\": \"half\" is not a number"
        );
        assert_eq!(
            error_of(b"id,strategy,seed\na,s,-1\n"),
            "items.csv, line 2, column \"seed\": \"-1\" is not a whole number"
        );
        assert_eq!(error_of(b"id,strategy\na,s\nb\n"), "items.csv, line 3: 1 fields where the header has 2");
        assert_eq!(error_of(b"id,strategy\na,\xff\n"), "items.csv, line 2: not UTF-8 text");
    }

    /// Scripts read these columns by place: a metric that a run was not asked for has none, whatever is in the table.
    #[test]
    fn the_columns_stand_where_they_always_stood() {
        fn header<T: Row>(rows: &[T], asked: &[&str]) -> String {
            let asked: Vec<String> = asked.iter().map(|name| name.to_string()).collect();
            let text = Table::new(rows, &asked).to_csv(rows, true).unwrap();
            String::from_utf8(text).unwrap().lines().next().unwrap().to_string()
        }
        assert_eq!(
            header::<ItemRow>(&[], &[]),
            "id,strategy,seed,caption,prompt,dropped,seconds,lpips,style_distance,gallery_score,status,error,\
             remark,image,photo,photo_luma,photo_sharpness,face_share"
        );
        assert_eq!(
            header::<ResultRow>(&[], &["fid"]),
            "strategy,style_text,n,artfid,fid,lpips,artfid_low,artfid_high,fid_low,fid_high,lpips_low,\
             lpips_high,seconds_per_image,failed,captioner,generator,instruction,strength,scheduler,steps,\
             guidance_scale,negative_prompt,seed"
        );
        assert_eq!(
            header::<CaptionItem>(&[], &[]),
            "id,dataset,model,strategy,prompt,caption,tokens,words,seconds,bleu,rouge1,rouge2,rougeL,meteor,\
             cider,status,error,image"
        );
        assert_eq!(
            header::<CaptionResult>(&[CaptionResult::default()], &["meteor", "cider"]),
            "model,dataset,n,bleu,rouge1,rouge2,meteor,images_per_second,rougeL,rougeLsum,bleu_low,bleu_high,\
             rouge1_low,rouge1_high,rouge2_low,rouge2_high,meteor_low,meteor_high,bleu1,bleu2,bleu3,bleu4,\
             rougeL_coco,cider,cider_low,cider_high,words,reference_words,failed,captioner,strategy,prompt"
        );
    }

    #[test]
    fn what_is_written_is_read_again() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("items.csv");
        let row = ItemRow {
            id: "a,\"b\"\nc".into(),
            strategy: "é".into(),
            values: [("lpips", Some(0.1 + 0.2))].into_iter().collect(),
            seed: u64::MAX,
            ..Default::default()
        };
        write(&path, &[row.clone(), ItemRow::default()], &[])?;
        assert_eq!(read::<ItemRow>(&path, &["id"])?, [row, ItemRow::default()]);
        Ok(())
    }
}
