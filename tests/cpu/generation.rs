//! Greedy and beam search against transformers' `generate`: texts made by `tests/reference/generation.py`.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use tch::{Device, Kind, Tensor};
use toolkit::checkpoints::Checkpoint;
use toolkit::models::captioners::generation::{GenerationConfig, GenerationOptions, Prompts, StepModel, generate};

#[derive(Deserialize)]
struct Golden {
    prompts: Vec<Vec<i64>>,
    pad: i64,
    max_new_tokens: usize,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    options: serde_json::Value,
    texts: Vec<Vec<i64>>,
}

fn golden(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/generation").join(file)
}

fn cases() -> Golden {
    serde_json::from_str(&std::fs::read_to_string(golden("cases.json")).unwrap()).unwrap()
}

/// The model of the script: a row of one table by the last token, a row of the other by a sum over
/// the text. Its state is that sum and the number of tokens.
struct Table {
    by_last: Tensor,
    by_sum: Tensor,
    prompts: Vec<Vec<i64>>,
    sum: Tensor,
    count: Tensor,
    /// Rows of each step.
    steps: Vec<i64>,
}

const SUMS: i64 = 31;

impl Table {
    fn new(prompts: &[Vec<i64>]) -> Self {
        let weights = Checkpoint::open(&[golden("tables.safetensors")]).unwrap().weights(Device::Cpu, Kind::Float);
        let get = |name| weights.get(name, &weights.shape(name).unwrap()).unwrap();
        let (sum, count) = (Tensor::from(0), Tensor::from(0));
        Self {
            by_last: get("by_last"),
            by_sum: get("by_sum"),
            prompts: prompts.to_vec(),
            sum,
            count,
            steps: Vec::new(),
        }
    }

    fn logits(&self, last: &Tensor) -> Tensor {
        self.by_last.index_select(0, last) + self.by_sum.index_select(0, &self.sum.remainder(SUMS))
    }
}

impl StepModel for Table {
    fn start(&mut self, copies: i64) -> anyhow::Result<Tensor> {
        let rows = |value: &dyn Fn(&Vec<i64>) -> i64| {
            let values: Vec<i64> = self.prompts.iter().map(value).collect();
            Tensor::from_slice(&values).repeat_interleave_self_int(copies, 0, None)
        };
        let sum = rows(&|prompt| prompt.iter().zip(1..).map(|(id, place)| id * place).sum());
        let (count, last) = (rows(&|prompt| prompt.len() as i64), rows(&|prompt| prompt[prompt.len() - 1]));
        (self.sum, self.count) = (sum, count);
        Ok(self.logits(&last))
    }

    fn step(&mut self, tokens: &Tensor) -> anyhow::Result<Tensor> {
        self.count = &self.count + 1;
        self.sum = &self.sum + tokens * &self.count;
        self.steps.push(tokens.size()[0]);
        Ok(self.logits(tokens))
    }

    fn reorder(&mut self, rows: &Tensor) -> anyhow::Result<()> {
        self.sum = self.sum.index_select(0, rows);
        self.count = self.count.index_select(0, rows);
        Ok(())
    }
}

/// The prompts side by side, padded on the left.
fn padded(prompts: &[Vec<i64>], pad: i64) -> Prompts {
    let longest = prompts.iter().map(Vec::len).max().unwrap();
    let padding: Vec<i64> = prompts.iter().map(|prompt| (longest - prompt.len()) as i64).collect();
    let ids: Vec<i64> = prompts
        .iter()
        .zip(&padding)
        .flat_map(|(prompt, &n)| [vec![pad; n as usize], prompt.clone()].concat())
        .collect();
    Prompts { ids: Tensor::from_slice(&ids).view([prompts.len() as i64, -1]), padding }
}

fn options(golden: &Golden, case: &Case) -> GenerationOptions {
    let config: GenerationConfig = serde_json::from_value(case.options.clone()).unwrap();
    GenerationOptions { max_new_tokens: golden.max_new_tokens, ..config.options(&[], Some(golden.pad)).unwrap() }
}

fn texts(prompts: &[Vec<i64>], pad: i64, options: &GenerationOptions) -> Vec<Vec<i64>> {
    let _guard = tch::no_grad_guard();
    generate(&mut Table::new(prompts), &padded(prompts, pad), options).unwrap()
}

#[test]
fn texts_are_those_of_transformers_under_every_rule() {
    let golden = cases();
    assert!(golden.cases.len() > 50);
    for case in &golden.cases {
        assert_eq!(texts(&golden.prompts, golden.pad, &options(&golden, case)), case.texts, "{}", case.options);
    }
}

/// Padding counts neither as text nor as a place, whatever the rules.
#[test]
fn a_padded_batch_gives_the_texts_of_each_prompt_alone() {
    let golden = cases();
    let prompts = [vec![4], vec![22, 9, 9, 3, 14, 2], vec![7, 7, 1]];
    for case in &golden.cases {
        let options = options(&golden, case);
        let alone: Vec<Vec<i64>> =
            prompts.iter().map(|prompt| texts(std::slice::from_ref(prompt), golden.pad, &options).remove(0)).collect();
        assert_eq!(texts(&prompts, golden.pad, &options), alone, "{}", case.options);
    }
}

/// The texts are those of transformers (above); here it is that the rows really get fewer.
#[test]
fn rows_leave_the_batch_when_their_texts_have_ended() {
    let _guard = tch::no_grad_guard();
    let golden = cases();
    let (mut greedy, mut beams) = (0, 0);
    for case in &golden.cases {
        let options = options(&golden, case);
        let mut model = Table::new(&golden.prompts);
        let texts = generate(&mut model, &padded(&golden.prompts, golden.pad), &options).unwrap();
        assert!(model.steps.iter().all(|rows| rows % options.num_beams as i64 == 0), "{}", case.options);
        assert!(model.steps.is_sorted_by(|a, b| a >= b), "{}", case.options);
        if options.num_beams > 1 {
            beams += usize::from(model.steps.first() > model.steps.last());
            continue;
        }
        // Four texts: each is a quarter, so that none stays after its end.
        let step = |n: usize| texts.iter().filter(|text| text.len() > n).count() as i64;
        let expected: Vec<i64> = (1..golden.max_new_tokens).map(step).take_while(|rows| *rows > 0).collect();
        assert_eq!(model.steps, expected, "{}", case.options);
        greedy += usize::from(model.steps.first() > model.steps.last());
    }
    assert!(greedy > 3 && beams > 10, "{greedy} greedy and {beams} beam searches got smaller");
}

#[test]
fn generation_config_speaks_only_where_it_has_something_to_say() {
    let config: GenerationConfig =
        serde_json::from_str(r#"{"eos_token_id": [3, 4], "early_stopping": "never", "do_sample": true}"#).unwrap();
    let options = config.options(&[9], None).unwrap();
    assert_eq!((options.eos.as_slice(), options.pad, options.num_beams), ([3, 4].as_slice(), 3, 1));
    assert_eq!(GenerationConfig::default().options(&[9], Some(1)).unwrap().eos, [9]);
    let wrong: GenerationConfig = serde_json::from_str(r#"{"early_stopping": "soon"}"#).unwrap();
    assert!(wrong.options(&[], None).unwrap_err().to_string().contains("early_stopping"));
}
