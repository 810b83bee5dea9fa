//! Each kind.

use wasmill_udf::prelude::*;

/// One more.
#[udf]
pub fn add_one(x: i64) -> i64 {
    x + 1
}

/// The sum; null where one is null.
#[udf]
pub fn add(a: i64, b: i64) -> i64 {
    a + b
}

/// Takes nothing.
#[udf]
pub fn constant() -> i32 {
    42
}

/// A nullable argument and one that is not.
#[udf]
pub fn greet(greeting: &str, name: Option<&str>) -> String {
    format!("{greeting}, {}!", name.unwrap_or("stranger"))
}

/// The number that a text says; other texts are row errors.
#[udf]
pub fn parse_number(text: &str) -> Result<i64, std::num::ParseIntError> {
    text.trim().parse()
}

/// The sum, over columns.
#[udf(vectorized)]
pub fn add_columns(a: Column<'_, f64>, b: Column<'_, f64>) -> Vec<f64> {
    a.zip(&b, |a, b| a + b)
}

/// Upper case, over a column; empty texts become null.
#[udf(vectorized)]
pub fn shout(text: Utf8Column<'_>) -> Result<Vec<Option<String>>> {
    Ok(text.map(|text| (!text.is_empty()).then(|| text.to_uppercase())))
}

/// A word of a text.
#[derive(Clone, Debug, PartialEq, Row)]
pub struct Word {
    pub word: String,
    pub position: i32,
}

/// The words of a text.
#[udf(table)]
pub fn words(text: String) -> impl Iterator<Item = Word> + 'static {
    let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    words.into_iter().zip(0..).map(|(word, position)| Word { word, position })
}

/// The numbers from 0 to below `n`; a negative `n` is a row error. A large one takes many portions.
#[udf(table)]
pub fn count_to(n: i64) -> Result<impl Iterator<Item = i64> + 'static> {
    if n < 0 {
        return Err(format!("cannot count to {n}").into());
    }
    Ok(0..n)
}

/// A sale.
#[derive(Clone, Debug, PartialEq, Row)]
pub struct Sale {
    pub item: String,
    pub price: f64,
    pub count: Option<i32>,
}

/// Is the price above 100?
#[udf(filter)]
pub fn large(sale: Sale) -> bool {
    sale.price > 100.0
}

/// What a sale comes to.
#[derive(Clone, Debug, PartialEq, Row)]
pub struct Amount {
    pub item: String,
    pub amount: f64,
}

/// Price times count; one if there is no count.
#[udf(map)]
pub fn enrich(sale: Sale) -> Amount {
    Amount { item: sale.item, amount: sale.price * f64::from(sale.count.unwrap_or(1)) }
}

/// The longer of two words.
#[udf(reduce)]
pub fn longest(a: Word, b: Word) -> Word {
    if b.word.len() > a.word.len() { b } else { a }
}

/// The sum of two numbers, which may overflow: a row error.
#[udf(reduce)]
pub fn total(a: i64, b: i64) -> Result<i64> {
    a.checked_add(b).ok_or_else(|| format!("{a} + {b} does not fit int64").into())
}

/// The sum of two numbers.
#[udf(reduce)]
pub fn sum(a: f64, b: f64) -> f64 {
    a + b
}

/// Knows a parameter and a resource.
pub struct Parameterised {
    factor: i64,
    offset: i64,
}

#[udf]
impl Parameterised {
    fn open(context: &OpenContext<'_>) -> Result<Self> {
        let offset = match context.parameter_or_none("offset") {
            Some(offset) => offset.parse()?,
            None => context.resource_text("offset.txt")?.trim().parse()?,
        };
        Ok(Self { factor: context.parameter("factor")?.parse()?, offset })
    }

    /// Factor (parameter) · x + offset (parameter, or the resource `offset.txt`).
    fn scaled(&self, x: i64) -> i64 {
        self.factor * x + self.offset
    }
}

/// A reading of a key.
#[derive(Clone, Debug, PartialEq, Row)]
pub struct Reading {
    pub value: f64,
}

/// The mean of a key so far.
#[derive(Clone, Debug, PartialEq, Row)]
pub struct Average {
    pub count: i64,
    pub average: f64,
}

macro_rules! keyed_average {
    ($name:ident, $(#[$attribute:meta])?) => {
        #[derive(States)]
        pub struct $name {
            $(#[$attribute])?
            count: ValueState<i64>,
            $(#[$attribute])?
            sum: ValueState<f64>,
        }

        /// The mean of a key's values; NaN starts anew, a negative value is a row error after the states were written.
        #[udf]
        impl Process for $name {
            type In = Reading;
            type Out = Average;

            fn process(&mut self, reading: Reading, context: &mut Context<'_, Average>) -> Result {
                if reading.value.is_nan() {
                    self.count.clear();
                    self.sum.clear();
                    return Ok(());
                }
                let count = self.count.get().unwrap_or(0) + 1;
                let sum = self.sum.get().unwrap_or(0.0) + reading.value;
                self.count.set(count);
                self.sum.set(sum);
                context.emit(Average { count, average: sum / count as f64 });
                if reading.value < 0.0 {
                    return Err(format!("{} is negative", reading.value).into());
                }
                Ok(())
            }
        }
    };
}

keyed_average!(KeyedAverage,);
keyed_average!(KeyedAverageByCall, #[state(access = "call")]);
keyed_average!(KeyedAverageOneByOne, #[state(access = "call", prefetch = false)]);

/// Count, sum, least and greatest.
#[derive(Clone, Debug, Default, PartialEq, Row)]
pub struct Seen {
    pub count: i64,
    pub sum: i64,
    pub least: Option<i64>,
    pub greatest: Option<i64>,
}

#[derive(Default)]
pub struct Statistics;

/// Count, sum, least and greatest of numbers; a row of 666 is an error. Least and greatest stay when rows are taken out.
#[udf]
impl Aggregate for Statistics {
    type Accumulator = Seen;
    type Input = i64;
    type Output = Seen;

    fn accumulate(&self, seen: &mut Seen, value: i64) -> Result {
        seen.count += 1;
        if value == 666 {
            return Err("666 is not counted".into());
        }
        seen.sum += value;
        seen.least = Some(seen.least.map_or(value, |least| least.min(value)));
        seen.greatest = seen.greatest.max(Some(value));
        Ok(())
    }

    fn retract(&self, seen: &mut Seen, value: i64) -> Result {
        seen.count -= 1;
        seen.sum -= value;
        Ok(())
    }

    fn merge(&self, seen: &mut Seen, other: Seen) -> Result {
        seen.count += other.count;
        seen.sum += other.sum;
        seen.least = [seen.least, other.least].into_iter().flatten().min();
        seen.greatest = seen.greatest.max(other.greatest);
        Ok(())
    }

    fn result(&self, seen: &Seen) -> Result<Seen> {
        Ok(seen.clone())
    }
}

#[derive(Default)]
pub struct Collected;

/// Every text of a key; an empty one is an error, which is told after it was taken in.
#[udf]
impl Aggregate for Collected {
    type Accumulator = Vec<String>;
    type Input = String;
    type Output = Vec<String>;

    fn accumulate(&self, texts: &mut Vec<String>, text: String) -> Result {
        texts.push(text);
        if texts.last().is_some_and(String::is_empty) {
            return Err("the text is empty".into());
        }
        Ok(())
    }

    fn result(&self, texts: &Vec<String>) -> Result<Vec<String>> {
        Ok(texts.clone())
    }
}

#[derive(Default)]
pub struct Largest;

/// The largest number; takes nothing out and merges nothing.
#[udf]
impl Aggregate for Largest {
    type Accumulator = i64;
    type Input = i64;
    type Output = i64;

    fn accumulate(&self, largest: &mut i64, value: i64) -> Result {
        *largest = (*largest).max(value);
        Ok(())
    }

    fn result(&self, largest: &i64) -> Result<i64> {
        Ok(*largest)
    }
}

#[derive(States)]
pub struct Echo;

/// What the context says of a row.
#[derive(Clone, Debug, PartialEq, Row)]
pub struct Said {
    pub value: Option<i64>,
    pub copy: i32,
    pub event_time: Option<i64>,
    pub watermark: Option<i64>,
    pub processing_time: i64,
    pub row_kind: i32,
}

/// Gives each row as many times as its value says (null: once), with what the context says of it.
#[udf]
impl Process for Echo {
    type In = (Option<i64>,);
    type Out = Said;

    fn process(&mut self, (value,): (Option<i64>,), context: &mut Context<'_, Said>) -> Result {
        for copy in 0..i32::try_from(value.unwrap_or(1))? {
            context.emit(Said {
                value,
                copy,
                event_time: context.event_time(),
                watermark: context.watermark(),
                processing_time: context.processing_time(),
                row_kind: context.row_kind() as i32,
            });
        }
        Ok(())
    }
}

#[derive(States)]
pub struct Whoami {
    rows: ValueState<u32>,
    place: String,
}

/// Job, operator, subtask, key and how many rows the key has had.
#[udf]
impl Process for Whoami {
    type In = i64;
    type Out = String;

    fn open(&mut self, context: &OpenContext<'_>) -> Result {
        self.place =
            format!("{}/{} {} of {}", context.job(), context.operator(), context.subtask(), context.parallelism());
        Ok(())
    }

    fn process(&mut self, _value: i64, context: &mut Context<'_, String>) -> Result {
        let rows = self.rows.get().unwrap_or(0) + 1;
        self.rows.set(rows);
        let key = context.key::<Option<&str>>(0)?.unwrap_or("null").to_owned();
        wasmill_udf::log::debug!("row {rows} of {key}");
        context.emit(format!("{}: {key} {rows}", self.place));
        Ok(())
    }
}
