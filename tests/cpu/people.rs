//! The statistics of what people said, beside statsmodels, scikit-learn and SciPy (`tests/reference/people.py`).

use std::path::Path;

use serde_json::Value;
use toolkit::metrics::people::{bradley_terry, cohen, fleiss, spearman, wilson};
use toolkit::metrics::stats::holm;

fn golden() -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/people/values.json");
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

fn matrix(value: &Value) -> Vec<Vec<f64>> {
    value.as_array().unwrap().iter().map(numbers).collect()
}

fn pairs(value: &Value) -> Vec<(f64, f64)> {
    matrix(value).iter().map(|pair| (pair[0], pair[1])).collect()
}

#[track_caller]
fn near(own: f64, golden: f64, tolerance: f64) {
    assert!((own - golden).abs() <= tolerance * golden.abs().max(1.0), "{own} beside {golden}");
}

#[test]
fn shares_have_the_interval_of_wilson() {
    for case in golden()["wilson"].as_array().unwrap() {
        let own = wilson(case["successes"].as_f64().unwrap(), case["n"].as_u64().unwrap() as usize).unwrap();
        let expected = numbers(&case["interval"]);
        near(own.low, expected[0], 1e-12);
        near(own.high, expected[1], 1e-12);
    }
    assert!(wilson(0.0, 0).is_none() && wilson(3.0, 2).is_none() && wilson(f64::NAN, 2).is_none());
}

#[test]
fn strengths_are_those_of_a_logistic_regression() {
    for case in golden()["bradley_terry"].as_array().unwrap() {
        let own = bradley_terry(&matrix(&case["wins"])).unwrap();
        assert!(!own.prior);
        // Both stop where a step changes less than they can tell.
        own.values.iter().zip(numbers(&case["values"])).for_each(|(own, golden)| near(*own, golden, 1e-9));
        for (own, golden) in own.covariance.iter().flatten().zip(matrix(&case["covariance"]).iter().flatten()) {
            near(*own, *golden, 1e-9);
        }
        for expected in case["differences"].as_array().unwrap() {
            let at = |key: &str| expected[key].as_u64().unwrap() as usize;
            let own = own.difference(at("i"), at("j"));
            near(own.value, expected["value"].as_f64().unwrap(), 1e-9);
            near(own.interval.low, expected["low"].as_f64().unwrap(), 1e-8);
            near(own.interval.high, expected["high"].as_f64().unwrap(), 1e-8);
            near(own.p_value, expected["p_value"].as_f64().unwrap(), 1e-9);
        }
    }
}

#[test]
fn agreement_is_that_of_cohen_and_fleiss() {
    let golden = &golden()["agreement"];
    let both: Vec<(usize, usize)> =
        pairs(&golden["cohen"]["pairs"]).iter().map(|(a, b)| (*a as usize, *b as usize)).collect();
    near(cohen(&both).unwrap(), golden["cohen"]["kappa"].as_f64().unwrap(), 1e-12);
    for case in golden["fleiss"].as_array().unwrap() {
        let rows: Vec<Vec<usize>> =
            matrix(&case["rows"]).iter().map(|row| row.iter().map(|count| *count as usize).collect()).collect();
        near(fleiss(&rows).unwrap(), case["kappa"].as_f64().unwrap(), 1e-12);
    }
    assert!(cohen(&[]).is_none() && cohen(&[(1, 1), (1, 1)]).is_none());
    assert!(fleiss(&[]).is_none() && fleiss(&[vec![3, 0], vec![3, 0]]).is_none());
    assert!(fleiss(&[vec![2, 1], vec![2, 0]]).is_none(), "unlike numbers of raters");
    assert_eq!(fleiss(&[vec![2, 0], vec![0, 2]]), Some(1.0));
}

#[test]
fn correlations_are_those_of_scipy() {
    for case in golden()["spearman"].as_array().unwrap() {
        let own = spearman(&pairs(&case["pairs"])).unwrap();
        near(own.rho, case["rho"].as_f64().unwrap(), 1e-12);
        let interval = own.interval.unwrap();
        assert!(interval.low < own.rho && own.rho < interval.high && interval.high < 1.0);
    }
    assert!(spearman(&[(1.0, 2.0), (2.0, 2.0)]).is_none() && spearman(&[]).is_none());
    let perfect = spearman(&[(1.0, 1.0), (2.0, 4.0), (3.0, 9.0), (4.0, 16.0)]).unwrap();
    assert!(perfect.rho == 1.0 && perfect.interval.is_none());
}

#[test]
fn holm_is_that_of_statsmodels() {
    let golden = &golden()["holm"];
    holm(&numbers(&golden["p_values"]))
        .iter()
        .zip(numbers(&golden["corrected"]))
        .for_each(|(own, golden)| near(*own, golden, 1e-12));
}
