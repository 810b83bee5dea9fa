//! The UDFs of {{name}}.

use wasmill_udf::prelude::*;

/// Degrees Celsius of degrees Fahrenheit; below absolute zero is a row error.
#[udf]
fn celsius(fahrenheit: f64) -> Result<f64> {
    let celsius = (fahrenheit - 32.0) / 1.8;
    if celsius < -273.15 {
        return Err(format!("{fahrenheit} °F is below absolute zero").into());
    }
    Ok(celsius)
}

/// A measurement: each field is a column of the input.
#[derive(Clone, Row)]
struct Measurement {
    celsius: f64,
}

/// A state of a type of the contract for each key of the operator.
#[derive(States)]
struct Warmest {
    so_far: ValueState<f64>,
}

/// Gives a measurement out when it is warmer than all before it of its key.
#[udf]
impl Process for Warmest {
    type In = Measurement;
    type Out = f64;

    fn process(&mut self, measured: Measurement, context: &mut Context<'_, f64>) -> Result {
        if self.so_far.get().is_none_or(|before| measured.celsius > before) {
            self.so_far.set(measured.celsius);
            context.emit(measured.celsius);
        }
        Ok(())
    }
}

export!(celsius, Warmest);

#[cfg(test)]
mod tests;
