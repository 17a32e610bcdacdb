//! Record batches on their way out: gathered and cut into messages of the size that pays best, encoded, and sent behind their
//! schema. Where the rows come from is not here.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use arrow_flight::FlightData;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use kalamdb_core::{Error, ErrorCode, Result};
use tonic::Status;

use crate::size::{body_bytes, rows_within};
use crate::status::status;

/// What gRPC clients take unless told otherwise.
const CLIENT_LIMIT_BYTES: usize = 4 << 20;

/// What a message needs beside its body: a fixed part, and a part per column for lengths, null counts and buffers' places.
const HEADER_BYTES: usize = 1 << 10;
const HEADER_BYTES_PER_COLUMN: usize = 128;

/// A smallest size that still makes sense for a message, whatever the settings and however many columns.
const SMALLEST_AIM_BYTES: usize = 1 << 10;

/// The messages of a result: its schema first, even when no rows follow. Dropping it drops the rows, which cancels the query.
pub(crate) struct FlightDataStream<G> {
    rows: BoxStream<'static, Result<RecordBatch>>,
    schema: SchemaRef,
    cutter: Cutter,
    encoder: Encoder,
    ready: VecDeque<FlightData>,
    ended: bool,
    /// Whatever must live as long as the stream: the session's lease, the note of the running query.
    _guard: G,
}

impl<G> FlightDataStream<G> {
    /// A stream of `rows` under `schema`, in messages of about `message_bytes`; `guard` is dropped with it.
    pub(crate) fn new(
        schema: SchemaRef,
        rows: impl Stream<Item = Result<RecordBatch>> + Send + 'static,
        message_bytes: usize,
        guard: G,
    ) -> Self {
        let mut encoder = Encoder::new();
        let ready = VecDeque::from([encoder.schema(&schema)]);
        let cutter = Cutter::new(message_bytes, schema.flattened_fields().len());
        FlightDataStream {
            rows: rows.boxed(),
            schema,
            cutter,
            encoder,
            ready,
            ended: false,
            _guard: guard,
        }
    }

    /// Encodes pieces until none is due.
    fn encode_due(&mut self, all: bool) -> Result<()> {
        while let Some(piece) = self.cutter.next_piece(&self.schema, all).map_err(not_encoded)? {
            self.encoder.batch(&piece, &mut self.ready).map_err(not_encoded)?;
        }
        Ok(())
    }
}

impl<G: Unpin> Stream for FlightDataStream<G> {
    type Item = std::result::Result<FlightData, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(message) = this.ready.pop_front() {
                return Poll::Ready(Some(Ok(message)));
            }
            if this.ended {
                return Poll::Ready(None);
            }
            let encoded = match this.rows.poll_next_unpin(cx) {
                Poll::Ready(Some(Ok(batch))) => {
                    this.cutter.push(batch);
                    this.encode_due(false)
                }
                Poll::Ready(Some(Err(error))) => Err(error),
                Poll::Ready(None) => {
                    this.ended = true;
                    this.encode_due(true)
                }
                // What there is goes out now: the next row may take long.
                Poll::Pending if this.cutter.is_empty() => return Poll::Pending,
                Poll::Pending => this.encode_due(true),
            };
            if let Err(error) = encoded {
                this.ended = true;
                this.ready.clear();
                return Poll::Ready(Some(Err(status(error))));
            }
        }
    }
}

/// Gathers batches and hands out pieces near the aim.
struct Cutter {
    aim_bytes: usize,
    gathered: Vec<RecordBatch>,
    gathered_bytes: usize,
    /// A batch being cut, from this row on, and the size each piece shall have.
    cutting: Option<(RecordBatch, usize, usize)>,
}

impl Cutter {
    fn new(message_bytes: usize, columns: usize) -> Self {
        let header_bytes = HEADER_BYTES + HEADER_BYTES_PER_COLUMN * columns;
        let most = CLIENT_LIMIT_BYTES.saturating_sub(header_bytes);
        let aim_bytes = message_bytes.min(most).max(SMALLEST_AIM_BYTES);
        Cutter {
            aim_bytes,
            gathered: Vec::new(),
            gathered_bytes: 0,
            cutting: None,
        }
    }

    fn is_empty(&self) -> bool {
        self.gathered.is_empty() && self.cutting.is_none()
    }

    fn push(&mut self, batch: RecordBatch) {
        if batch.num_rows() > 0 {
            self.gathered_bytes += body_bytes(&batch, 0, batch.num_rows());
            self.gathered.push(batch);
        }
    }

    /// The next piece to send: of what is being cut, or of what was gathered once that is enough or `all` must go.
    fn next_piece(&mut self, schema: &SchemaRef, all: bool) -> std::result::Result<Option<RecordBatch>, ArrowError> {
        if self.cutting.is_none() {
            // Half the aim is enough: waiting for more would copy what is large already.
            if self.gathered.is_empty() || !(all || self.gathered_bytes >= self.aim_bytes / 2) {
                return Ok(None);
            }
            let whole = self.take_gathered(schema)?;
            let whole_bytes = body_bytes(&whole, 0, whole.num_rows());
            if whole_bytes <= self.aim_bytes {
                return Ok(Some(whole));
            }
            // Even pieces instead of full ones and a rest; the slack takes up what padding and uneven rows add.
            let even_bytes = whole_bytes.div_ceil(whole_bytes.div_ceil(self.aim_bytes));
            self.cutting = Some((whole, 0, self.aim_bytes.min(even_bytes + even_bytes / 16)));
        }
        let Some((whole, start, piece_bytes)) = self.cutting.take() else {
            return Ok(None);
        };
        let rows = rows_within(&whole, start, piece_bytes);
        let piece = whole.slice(start, rows);
        if start + rows < whole.num_rows() {
            self.cutting = Some((whole, start + rows, piece_bytes));
        }
        Ok(Some(piece))
    }

    fn take_gathered(&mut self, schema: &SchemaRef) -> std::result::Result<RecordBatch, ArrowError> {
        self.gathered_bytes = 0;
        let mut batches = std::mem::take(&mut self.gathered);
        if batches.len() == 1
            && let Some(batch) = batches.pop()
        {
            return Ok(batch);
        }
        concat_batches(schema, &batches)
    }
}

/// Encodes batches of one stream.
struct Encoder {
    options: IpcWriteOptions,
    generator: IpcDataGenerator,
    dictionaries: DictionaryTracker,
    context: IpcWriteContext,
}

impl Encoder {
    fn new() -> Self {
        Encoder {
            options: IpcWriteOptions::default(),
            generator: IpcDataGenerator::default(),
            // A later batch may bring another dictionary; it is then sent anew.
            dictionaries: DictionaryTracker::new(false),
            context: IpcWriteContext::default(),
        }
    }

    fn schema(&mut self, schema: &SchemaRef) -> FlightData {
        self.generator
            .schema_to_bytes_with_dictionary_tracker(schema, &mut self.dictionaries, &self.options)
            .into()
    }

    fn batch(&mut self, batch: &RecordBatch, out: &mut VecDeque<FlightData>) -> std::result::Result<(), ArrowError> {
        let (dictionaries, rows) =
            self.generator
                .encode(batch, &mut self.dictionaries, &self.options, &mut self.context)?;
        // After a large message another is likely: a buffer of its size at once saves growing it step by step.
        self.context
            .set_reserve_scratch(rows.arrow_data.len() >= SMALLEST_AIM_BYTES * 64);
        out.extend(dictionaries.into_iter().map(FlightData::from));
        out.push_back(rows.into());
        Ok(())
    }
}

fn not_encoded(error: ArrowError) -> Error {
    Error::new(ErrorCode::Internal, format!("the rows could not be encoded: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringArray};
    use arrow::datatypes::{DataType, Field, Schema};
    use arrow_flight::decode::FlightRecordBatchStream;
    use futures::TryStreamExt;
    use prost::Message;

    fn batch(first: i64, lengths: &[usize]) -> RecordBatch {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values((first..).take(lengths.len())));
        let text: ArrayRef = Arc::new(StringArray::from_iter_values(
            lengths.iter().map(|&length| "x".repeat(length)),
        ));
        RecordBatch::try_from_iter([("n", numbers), ("t", text)]).expect("a batch")
    }

    async fn messages(schema: SchemaRef, batches: Vec<RecordBatch>, message_bytes: usize) -> Vec<FlightData> {
        let rows = futures::stream::iter(batches.into_iter().map(Ok));
        FlightDataStream::new(schema, rows, message_bytes, ())
            .try_collect()
            .await
            .expect("encodes")
    }

    async fn decoded(messages: Vec<FlightData>) -> (SchemaRef, Vec<RecordBatch>) {
        let mut stream =
            FlightRecordBatchStream::new_from_flight_data(futures::stream::iter(messages.into_iter().map(Ok)));
        let mut batches = Vec::new();
        while let Some(batch) = stream.try_next().await.expect("decodes") {
            batches.push(batch);
        }
        (Arc::clone(stream.schema().expect("a schema")), batches)
    }

    #[tokio::test]
    async fn an_empty_result_has_its_schema_with_metadata() {
        let field = Field::new("a", DataType::Utf8, true).with_metadata([("k".to_owned(), "v".to_owned())].into());
        let schema = Arc::new(Schema::new(vec![field]));
        let messages = messages(Arc::clone(&schema), Vec::new(), 1 << 20).await;
        assert_eq!(messages.len(), 1);
        assert_eq!(decoded(messages).await, (schema, Vec::new()));
        let none = Arc::new(Schema::empty());
        assert_eq!(
            decoded(self::messages(Arc::clone(&none), Vec::new(), 1 << 20).await)
                .await
                .0,
            none
        );
    }

    #[tokio::test]
    async fn messages_keep_their_limit_and_lose_nothing() {
        let check =
            async |batches: Vec<RecordBatch>, message_bytes: usize, expected: std::ops::RangeInclusive<usize>| {
                let schema = batches[0].schema();
                let whole = concat_batches(&schema, &batches).expect("one batch");
                let messages = messages(Arc::clone(&schema), batches, message_bytes).await;
                let limit = message_bytes.min(CLIENT_LIMIT_BYTES);
                assert!(
                    expected.contains(&(messages.len() - 1)),
                    "{} messages",
                    messages.len() - 1
                );
                for message in &messages {
                    assert!(message.data_body.len() <= limit && message.encoded_len() <= CLIENT_LIMIT_BYTES);
                }
                let (_, batches) = decoded(messages).await;
                assert_eq!(concat_batches(&schema, &batches).expect("one batch"), whole);
            };
        // Many small batches become few messages, one large batch becomes many.
        let small: Vec<RecordBatch> = (0..100).map(|index| batch(index * 10, &[20; 10])).collect();
        check(small, 64 << 10, 1..=2).await;
        check(vec![batch(0, &[100; 10_000])], 64 << 10, 17..=24).await;
        // A slice is measured by its rows, not by the buffers it is cut from.
        check(vec![batch(0, &[100; 10_000]).slice(5_000, 10)], 64 << 10, 1..=1).await;
        let skewed: Vec<usize> = (0..1_000)
            .map(|index| if index % 100 == 0 { 60_000 } else { 5 })
            .collect();
        check(vec![batch(0, &skewed)], 64 << 10, 10..=24).await;
        // Whatever the setting, a message fits the clients.
        check(vec![batch(0, &[1_000; 12_000])], 64 << 20, 3..=4).await;
    }

    #[tokio::test]
    async fn a_value_larger_than_any_message_travels_alone() {
        let lengths = [10, CLIENT_LIMIT_BYTES + 10, 10];
        let messages = messages(batch(0, &[]).schema(), vec![batch(0, &lengths)], 1 << 20).await;
        let (_, batches) = decoded(messages).await;
        assert_eq!(batches.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [1, 1, 1]);
    }

    #[tokio::test]
    async fn an_error_ends_the_stream() {
        let failure = Error::new(ErrorCode::Timeout, "too slow");
        let rows = futures::stream::iter([Ok(batch(0, &[1])), Err(failure), Ok(batch(1, &[1]))]);
        let mut stream = FlightDataStream::new(batch(0, &[]).schema(), rows, 1 << 20, ());
        let mut seen = Vec::new();
        while let Some(message) = stream.next().await {
            seen.push(message.map(|_| ()).map_err(|status| status.message().to_owned()));
        }
        assert_eq!(seen.last(), Some(&Err("TIMEOUT: too slow".to_owned())));
        assert_eq!(seen.iter().filter(|message| message.is_err()).count(), 1);
    }

    #[tokio::test]
    async fn what_there_is_goes_out_before_waiting() {
        let (sender, receiver) = futures::channel::mpsc::unbounded();
        let mut stream = FlightDataStream::new(batch(0, &[]).schema(), receiver, 1 << 20, ());
        sender.unbounded_send(Ok(batch(0, &[1, 1]))).expect("open");
        assert!(
            stream
                .next()
                .await
                .is_some_and(|message| message.is_ok_and(|schema| schema.data_body.is_empty()))
        );
        assert!(
            stream
                .next()
                .await
                .is_some_and(|message| message.is_ok_and(|rows| !rows.data_body.is_empty()))
        );
        drop(sender);
        assert!(stream.next().await.is_none());
    }
}
