//! How far apart two airports are.

mod csv;

use std::collections::HashMap;

use wasmill_udf::{OpenContext, Result, export, udf};

/// Mean radius of the Earth (IUGG R1).
const EARTH_RADIUS_KM: f64 = 6371.0088;

/// A place, in radians.
#[derive(Clone, Copy, Debug)]
struct Place {
    lat: f64,
    lon: f64,
}

struct Distance {
    airports: HashMap<String, Place>,
}

#[udf]
impl Distance {
    fn open(context: &OpenContext<'_>) -> Result<Self> {
        let airports = airports(context.resource_text("airports.csv")?)?;
        wasmill_udf::log::info!("{} airports", airports.len());
        Ok(Self { airports })
    }

    /// Kilometres between two airports by great circle; null if one is not known.
    fn km(&self, origin: &str, dest: &str) -> Option<f64> {
        Some(great_circle_km(*self.airports.get(origin)?, *self.airports.get(dest)?))
    }
}

export!(Distance);

/// The places of airports by their FAA code.
fn airports(text: &str) -> Result<HashMap<String, Place>> {
    let mut lines = csv::records(text);
    let header = lines.next().ok_or("airports.csv is empty")?;
    let column = |name: &str| {
        header
            .iter()
            .position(|had| had == name)
            .ok_or_else(|| format!("airports.csv has no column `{name}`: it has {}", header.join(", ")))
    };
    let (faa, lat, lon) = (column("faa")?, column("lat")?, column("lon")?);
    let mut airports = HashMap::new();
    for (at, record) in lines.enumerate() {
        let field = |column: usize| {
            record.get(column).ok_or_else(|| {
                format!("airports.csv: record {} has {} fields, {} wanted", at + 1, record.len(), header.len())
            })
        };
        let degrees = |column: usize| -> Result<f64> {
            let text = field(column)?;
            Ok(text
                .parse::<f64>()
                .map_err(|_| format!("airports.csv: record {}: `{text}` is not a number of degrees", at + 1))?
                .to_radians())
        };
        airports.insert(field(faa)?.clone(), Place { lat: degrees(lat)?, lon: degrees(lon)? });
    }
    Ok(airports)
}

/// The haversine formula, which is exact enough on a sphere for near places too.
fn great_circle_km(from: Place, to: Place) -> f64 {
    let half = |angle: f64| (angle / 2.0).sin().powi(2);
    let a = half(to.lat - from.lat) + from.lat.cos() * to.lat.cos() * half(to.lon - from.lon);
    2.0 * EARTH_RADIUS_KM * a.sqrt().min(1.0).asin()
}

#[cfg(test)]
mod tests;
