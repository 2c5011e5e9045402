//! Which pictures of a plan are drawn together, and what the generator is told of them.

use super::config::Config;
use super::plan::{Cell, Plan, picture_seed};
use crate::axes::{AXES, Reach, generator};
use crate::datasets::Photo;
use crate::models::GenerateRequest;
use crate::run::style::ItemRow;

/// A picture to be drawn: a photo under a strategy.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    pub cell: &'a Cell,
    pub photo: &'a Photo,
}

impl Job<'_> {
    /// Its row before anything is drawn.
    pub fn row(&self) -> ItemRow {
        ItemRow {
            id: self.photo.id.clone(),
            strategy: self.cell.strategy.clone(),
            seed: picture_seed(self.cell.seed(), &self.photo.id),
            ..ItemRow::default()
        }
    }

    /// That of its row.
    pub fn key(&self) -> (String, String) {
        (self.cell.strategy.clone(), self.photo.id.clone())
    }
}

/// The pictures at these places of cell and photo.
pub fn jobs<'a>(plan: &'a Plan, places: &[(usize, usize)]) -> Vec<Job<'a>> {
    places.iter().map(|&(cell, photo)| Job { cell: &plan.cells[cell], photo: &plan.photos[photo] }).collect()
}

/// What the generator is told of every picture of a cell, still without prompts, seeds and photos.
pub fn request(cell: &Cell, config: &Config, (width, height): (usize, usize)) -> GenerateRequest {
    let mut request = GenerateRequest {
        safety_checker: config.safety_checker,
        width: config.width,
        height: config.height,
        ..GenerateRequest::default()
    };
    for axis in AXES {
        if let Reach::Batch(set) = axis.reach {
            set(&mut request, cell.get(axis));
        }
    }
    if let Some(control) = &mut request.control {
        // What none reads is refused with the configuration.
        let net = control.map.and_then(|map| config.controlnet(map));
        control.model = net.unwrap_or_default().to_string();
    }
    if request.strength.is_some() || request.control.is_some() {
        // Text-to-image draws at its own size by itself; from a photo all pictures are to have it as well, so that both
        // ways can be compared and photos of any size share a batch.
        request.width = request.width.or(Some(width));
        request.height = request.height.or(Some(height));
    }
    request
}

/// The photos of a batch, each once.
pub fn photos_of<'a>(jobs: &[Job<'a>]) -> Vec<&'a Photo> {
    let mut photos: Vec<&Photo> = Vec::new();
    for job in jobs {
        if photos.last().is_none_or(|last| last.id != job.photo.id) {
            photos.push(job.photo);
        }
    }
    photos
}

/// All batches, as places of cell and photo. Pictures that can be drawn together ([`Cell::draws_like`]) go photo by photo
/// through their strategies, so that a run that is stopped early has all strategies of the photos it got to.
pub fn batches(plan: &Plan, batch_size: usize) -> Vec<Vec<(usize, usize)>> {
    let mut lanes: Vec<Vec<usize>> = Vec::new();
    for (at, cell) in plan.cells.iter().enumerate() {
        match lanes.iter_mut().find(|lane| plan.cells[lane[0]].draws_like(cell)) {
            Some(lane) => lane.push(at),
            None => lanes.push(vec![at]),
        }
    }
    let name = |lane: &[usize]| plan.cells[lane[0]].text(&generator::AXIS);
    let generators: Vec<&str> = lanes.iter().map(|lane| name(lane)).collect();
    // Lanes of one generator follow one another, so that each is loaded once.
    lanes.sort_by_key(|lane| generators.iter().position(|own| *own == name(lane)));
    let mut batches = Vec::new();
    for lane in lanes {
        let photos = 0..plan.photos.len();
        let jobs: Vec<(usize, usize)> = photos.flat_map(|photo| lane.iter().map(move |cell| (*cell, photo))).collect();
        batches.extend(jobs.chunks(batch_size).map(<[_]>::to_vec));
    }
    batches
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::axes::{AxisValue, seed};
    use crate::experiment::style::config::Config;

    /// A plan over two values of every axis, and three photos.
    fn plan() -> (Plan, Config) {
        let two = |axis: &&crate::axes::Axis| {
            let mut table: toml::Table = format!("{} = {}", axis.key, axis.example).parse().unwrap();
            let mut values = table[axis.key].as_array().unwrap().clone();
            values.truncate(2);
            // By short names, where a strategy's would become too long.
            let named = ["style_text", "instruction", "negative_prompt"].contains(&axis.key);
            table[axis.key] = match named {
                true => toml::Value::Table(["a", "b"].map(str::to_string).into_iter().zip(values).collect()),
                false => toml::Value::Array(values),
            };
            match named {
                true => format!("{} = {}\n", axis.key, table[axis.key]),
                false => table.to_string(),
            }
        };
        let axes: String = AXES.iter().map(two).collect();
        let text = format!(
            "name = 'a'\nkind = 'style_transfer'\nphotos = 'p'\nstyle_pictures = 's'\ninception = 'i'\n\
             lpips_backbone = 'b'\nlpips_linear = 'l'\n[axes]\n{axes}"
        );
        let config: Config = toml::from_str(&text).unwrap();
        let photos = ["ada", "bob", "eve"].map(|id| Photo { id: id.to_string(), path: PathBuf::from(id) }).to_vec();
        let cells = crate::experiment::style::plan::cells(&config.axes).unwrap();
        (Plan { cells, photos, photos_found: 3, style_pictures: Vec::new() }, config)
    }

    /// A batch is asked for with the values of its first picture: they must be those of every picture in it.
    #[test]
    fn every_picture_of_a_batch_is_asked_for_alike() {
        let (plan, config) = plan();
        let batches: Vec<Vec<Job>> = batches(&plan, 8).iter().map(|places| jobs(&plan, places)).collect();
        assert_eq!(batches.iter().map(Vec::len).sum::<usize>(), plan.len());
        let asked = |cell: &Cell| (cell.text(&generator::AXIS).to_string(), request(cell, &config, (64, 64)));
        for jobs in &batches {
            let first = asked(jobs[0].cell);
            assert!(jobs.iter().all(|job| asked(job.cell) == first), "{}", jobs[0].cell.strategy);
        }
        // And no more batches than that needs.
        let shared = |batch: &Vec<Job>| batch.iter().any(|job| job.cell != batch[0].cell);
        assert!(batches.iter().all(shared));
    }

    #[test]
    fn strategies_that_differ_in_one_axis_share_a_batch_only_where_their_requests_are_one() {
        let (plan, config) = plan();
        for axis in AXES {
            let mut found = 0;
            for other in &plan.cells[1..] {
                let cell = &plan.cells[0];
                let differs = |axis: &&&'static crate::axes::Axis| cell.get(axis) != other.get(axis);
                if AXES.iter().filter(differs).ne([axis]) {
                    continue;
                }
                found += 1;
                let alike = request(cell, &config, (64, 64)) == request(other, &config, (64, 64))
                    && cell.text(&generator::AXIS) == other.text(&generator::AXIS);
                assert_eq!(cell.draws_like(other), alike, "{}", axis.key);
            }
            assert!(found > 0, "{}", axis.key);
        }
        assert_eq!(plan.cells[0].get(&seed::AXIS), &AxisValue::Whole(0));
    }
}
