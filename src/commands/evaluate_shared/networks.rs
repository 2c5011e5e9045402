//! Networks on a device.

use anyhow::{Context, Result, bail};
use tch::{Kind, Tensor};

use super::task::{Nets, Set};
use crate::metrics::image::Embedder;
use crate::metrics::image::artfid::ArtFidNets;
use crate::metrics::image::features::{self, FeatureNet};
use crate::metrics::image::lpips::LpipsNet;
use crate::metrics::image::networks::Network;
use crate::metrics::image::pictures::Batches;
use crate::runtime::{Runtime, log_moment};
use crate::workers::Paths;

/// Networks that are loaded.
pub enum Networks {
    ArtFid(ArtFidNets),
    Lpips(LpipsNet),
    Features(FeatureNet),
}

impl Networks {
    /// Loads them, and beside their weights what libtorch computes with. `name` is said before the moments.
    pub fn load(nets: &Nets, rt: &Runtime, name: &str) -> Result<Self> {
        let libraries = features::warm_up(rt.device, rt.kind(Kind::Float));
        let networks = Self::open(nets, rt)?;
        log_moment(&format!("{name}the networks are loaded"));
        // The first pictures would wait for them anyway, and two threads that first use a library at once ask for trouble.
        drop(libraries);
        log_moment(&format!("{name}the libraries are loaded"));
        Ok(networks)
    }

    fn open(nets: &Nets, rt: &Runtime) -> Result<Self> {
        let (device, kind) = (rt.device, rt.kind(Kind::Float));
        match nets {
            Nets::ArtFid(Paths(files)) => match files.as_slice() {
                [inception, backbone, linear] => {
                    ArtFidNets::load(inception, backbone, linear, device, kind).map(Self::ArtFid)
                }
                _ => bail!("ArtFID needs three files"),
            },
            Nets::Lpips(Paths(files)) => match files.as_slice() {
                [backbone, linear] => LpipsNet::load(backbone, linear, device, kind).map(Self::Lpips),
                _ => bail!("LPIPS needs two files"),
            },
            Nets::Features(network, name) => {
                let network = Network::named(network).context("no such network")?;
                FeatureNet::open(network, name.as_deref(), rt).map(Self::Features)
            }
        }
    }

    /// Features and LPIPS of the pictures (or the texts at these places), where they are asked for, on the device, for which
    /// this does not wait.
    pub fn measure(&self, set: &Set, texts: &[String], pictures: Option<Batches>) -> Result<[Option<Tensor>; 2]> {
        if let (Self::Features(net), false) = (self, texts.is_empty()) {
            let rows = Embedder::texts(net, texts)?;
            return Ok([Some(Tensor::from_slice(&rows.concat()).view([rows.len() as i64, -1])), None]);
        }
        let pictures = pictures.context("a batch was not laid out")?;
        Ok(match self {
            Self::ArtFid(nets) if set.is_paired() => {
                let (features, lpips) = nets.measure_files(pictures)?;
                [Some(features), Some(lpips)]
            }
            Self::ArtFid(nets) => [Some(nets.inception.features_of_files(pictures)?), None],
            Self::Lpips(net) => [None, Some(net.distances_of_batches(pictures)?)],
            Self::Features(net) => [Some(net.features_of_files(pictures)?), None],
        })
    }
}
