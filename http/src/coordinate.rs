//! `/v1/coordinate/*`: places in the network.

use lictor_core::api::coordinate::{Datacenter, Place, Request};
use lictor_core::coordinate::{Coordinate, DIMENSIONS};
use serde::{Serialize, Serializer};

use crate::ask::{Ask, Asked, Form, Shape};
use crate::reply::Refusal;

/// What a path of this subject names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Datacenters,
    Nodes,
}

/// What a request asks for. Every method will do.
pub(crate) fn ask<'f>(endpoint: Endpoint, form: Form<'f>) -> Result<Asked<'f>, Refusal> {
    Ok(match endpoint {
        Endpoint::Datacenters => Ask::here(Request::Datacenters, Shape::Json).into(),
        Endpoint::Nodes => {
            let read = form.params.read_options()?;
            Ask::new(Request::Nodes { read }, Shape::Read, form.params).into()
        }
    })
}

/// A place, as JSON.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ShownCoordinate {
    #[serde(rename = "Vec")]
    vector: [Seconds; DIMENSIONS],
    error: Seconds,
    adjustment: Seconds,
    height: Seconds,
}

impl From<&Coordinate> for ShownCoordinate {
    fn from(coordinate: &Coordinate) -> Self {
        Self {
            vector: coordinate.vector.map(Seconds),
            error: Seconds(coordinate.error),
            adjustment: Seconds(coordinate.adjustment),
            height: Seconds(coordinate.height),
        }
    }
}

/// A number that is written without a point if it needs none.
struct Seconds(f64);

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let whole = self.0 as i32;
        if f64::from(whole) == self.0 { serializer.serialize_i32(whole) } else { serializer.serialize_f64(self.0) }
    }
}

/// A node's place, as JSON.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ShownPlace<'p> {
    node: &'p str,
    segment: &'static str,
    coord: ShownCoordinate,
}

/// Nodes' places, as JSON.
pub(crate) fn places(places: &[Place]) -> Vec<ShownPlace<'_>> {
    let shown = places.iter().map(|Place { node, coordinate }| ShownPlace {
        node,
        segment: "",
        coord: ShownCoordinate::from(coordinate),
    });
    shown.collect()
}

/// A datacenter's servers and their places, as JSON.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ShownDatacenter<'d> {
    datacenter: &'d str,
    #[serde(rename = "AreaID")]
    area: &'static str,
    coordinates: Vec<ShownPlace<'d>>,
}

/// All datacenters, as JSON.
pub(crate) fn datacenters(datacenters: &[Datacenter]) -> Vec<ShownDatacenter<'_>> {
    let shown = datacenters.iter().map(|Datacenter { name, places: servers }| ShownDatacenter {
        datacenter: name,
        area: "wan",
        coordinates: places(servers),
    });
    shown.collect()
}
