//! The client's side of DoPut: FlightData as it comes in, decoded into record batches. What is done with them is not here.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::ipc::root_as_message;
use arrow_flight::decode::{DecodedPayload, FlightDataDecoder};
use arrow_flight::error::FlightError;
use arrow_flight::{FlightData, FlightDescriptor};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use kalamdb_core::{Error, ErrorCode, Result};
use kalamdb_sql::BatchMemory;
use tonic::Status;

use crate::plan::without_protocol_keys;
use crate::status::{error_of_data, error_of_stream};

/// A client that sends nothing for this long in the middle of an upload is gone or stuck. The upload fails and leaves nothing.
const SILENCE_LIMIT: Duration = Duration::from_secs(5 * 60);

/// What the buffers of one message may come to once decompressed. A few bytes can claim any length, and Arrow reserves it.
const DECOMPRESSED_LIMIT_BYTES: u64 = 512 << 20;

/// A DoPut that has said what it is for.
pub(crate) struct Upload {
    pub(crate) descriptor: FlightDescriptor,
    messages: BoxStream<'static, Result<FlightData>>,
}

/// Decoded batches and their schema.
pub(crate) struct Batches {
    pub(crate) schema: SchemaRef,
    pub(crate) stream: BoxStream<'static, Result<RecordBatch>>,
}

impl Upload {
    /// Reads the first message, which names what the upload is for.
    ///
    /// # Errors
    /// INVALID_REQUEST for an empty stream or one without a descriptor; whatever the stream fails with.
    pub(crate) async fn open(
        messages: impl Stream<Item = std::result::Result<FlightData, Status>> + Send + 'static,
    ) -> Result<Upload> {
        let mut messages = unless_silent(messages).boxed();
        let Some(first) = messages.next().await else {
            return Err(invalid(
                "the stream is empty, where its first message is to name what it is for; a driver that is given no batch of rows at \
                 all sends nothing: give it one without rows",
            ));
        };
        let mut first = first?;
        let Some(descriptor) = first.flight_descriptor.take() else {
            return Err(invalid("the first message of the stream has no descriptor"));
        };
        Ok(Upload {
            descriptor,
            messages: futures::stream::once(async move { Ok(first) }).chain(messages).boxed(),
        })
    }

    /// The batches; `None` if the stream ends without a schema, as a statement without parameters does. Each counts against
    /// `memory`, if there is any, from before it is decompressed until the next one.
    ///
    /// # Errors
    /// INVALID_REQUEST for data that does not decode; MEMORY_QUOTA_EXCEEDED; whatever the stream fails with.
    pub(crate) async fn batches(self, mut memory: Option<BatchMemory>) -> Result<Option<Batches>> {
        // A message with neither header nor body only carries the descriptor.
        let messages = self.messages.filter(|message| {
            let has_content = !matches!(message, Ok(data) if data.data_header.is_empty() && data.data_body.is_empty());
            std::future::ready(has_content)
        });
        let checked = messages.map(move |message| {
            let checked = message.and_then(|message| {
                let bytes = check_body(&message)?;
                if let Some(memory) = &mut memory {
                    memory.hold(bytes)?;
                }
                Ok(message)
            });
            checked.map_err(|error| FlightError::ExternalError(Box::new(error)))
        });
        let mut decoded = decode(FlightDataDecoder::new(checked)).boxed();
        loop {
            let Some(payload) = decoded.next().await else {
                return Ok(None);
            };
            match payload? {
                DecodedPayload::None => {}
                DecodedPayload::RecordBatch(_) => return Err(invalid("the stream has rows before its schema")),
                DecodedPayload::Schema(schema) => {
                    let schema = plain_schema(&schema);
                    let stream = rows(decoded, SchemaRef::clone(&schema)).boxed();
                    return Ok(Some(Batches { schema, stream }));
                }
            }
        }
    }

    /// The rows as one batch of parameters; `None` without columns. At most `limit_bytes`.
    ///
    /// # Errors
    /// As for [`Upload::batches`]; STATEMENT_TOO_LARGE.
    pub(crate) async fn parameters(self, limit_bytes: usize) -> Result<Option<RecordBatch>> {
        let Some(Batches { schema, mut stream }) = self.batches(None).await? else {
            return Ok(None);
        };
        let mut batches = Vec::new();
        let mut size_bytes = 0;
        while let Some(batch) = stream.next().await {
            let batch = batch?;
            size_bytes += batch.get_array_memory_size();
            if size_bytes > limit_bytes {
                return Err(Error::new(
                    ErrorCode::StatementTooLarge,
                    format!(
                        "the parameters are larger than {limit_bytes} bytes; send fewer rows at once, or load them by ingest"
                    ),
                ));
            }
            batches.push(batch);
        }
        if schema.fields().is_empty() {
            return Ok(None);
        }
        match batches.as_slice() {
            [batch] => Ok(Some(batch.clone())),
            batches => concat_batches(&schema, batches)
                .map(Some)
                .map_err(|error| invalid(format!("the rows of parameters do not fit together: {error}"))),
        }
    }
}

/// What the messages hold.
///
/// Problem: Arrow's IPC reader asserts some of what a header claims, so that a damaged message panics. Proper way: errors in
/// arrow-ipc. Chosen: the claims about buffers are checked beforehand, and a panic that is left is caught and told as what it
/// is. Evidence: `read_buffer` and `skip_buffer` in arrow-ipc 59's `reader.rs`; `broken_streams_are_told` below.
fn decode(decoder: FlightDataDecoder) -> impl Stream<Item = Result<DecodedPayload>> {
    AssertUnwindSafe(decoder).catch_unwind().map(|decoded| match decoded {
        Ok(Ok(decoded)) => Ok(decoded.payload),
        Ok(Err(error)) => Err(error_of_data(error)),
        Err(_) => Err(invalid(
            "the Arrow data does not decode: its headers contradict its bodies",
        )),
    })
}

/// Checks that the buffers which a message's header claims are in its body, and small enough once decompressed; what both come to.
fn check_body(message: &FlightData) -> Result<u64> {
    let body_bytes = message.data_body.len() as u64;
    // A header that does not parse is for the decoder to refuse.
    let Ok(header) = root_as_message(&message.data_header) else {
        return Ok(body_bytes);
    };
    let dictionary = header
        .header_as_dictionary_batch()
        .and_then(|dictionary| dictionary.data());
    let Some(batch) = header.header_as_record_batch().or(dictionary) else {
        return Ok(body_bytes);
    };
    let mut decompressed_bytes: u64 = 0;
    for buffer in batch.buffers().iter().flatten() {
        let bytes = usize::try_from(buffer.offset())
            .ok()
            .zip(usize::try_from(buffer.length()).ok())
            .and_then(|(offset, length)| message.data_body.get(offset..)?.get(..length));
        let Some(bytes) = bytes else {
            return Err(invalid(
                "the Arrow data does not decode: a body is shorter than its header says",
            ));
        };
        // A compressed buffer begins with its length, -1 for one that is left as it is.
        if batch.compression().is_some()
            && let Some(length) = bytes.first_chunk()
        {
            decompressed_bytes += u64::try_from(i64::from_le_bytes(*length)).unwrap_or(0);
        }
        if decompressed_bytes > DECOMPRESSED_LIMIT_BYTES {
            return Err(Error::new(
                ErrorCode::StatementTooLarge,
                format!(
                    "one message decompresses to more than {DECOMPRESSED_LIMIT_BYTES} bytes; send fewer rows in each"
                ),
            ));
        }
    }
    Ok(body_bytes.saturating_add(decompressed_bytes))
}

fn rows(
    decoded: impl Stream<Item = Result<DecodedPayload>>,
    schema: SchemaRef,
) -> impl Stream<Item = Result<RecordBatch>> {
    decoded.filter_map(move |payload| {
        let batch = match payload {
            Ok(DecodedPayload::None) => None,
            Ok(DecodedPayload::Schema(_)) => Some(Err(invalid("the stream has a second schema"))),
            Ok(DecodedPayload::RecordBatch(batch)) => Some(
                batch
                    .with_schema(SchemaRef::clone(&schema))
                    .map_err(|error| invalid(format!("the rows do not fit the stream's schema: {error}"))),
            ),
            Err(error) => Some(Err(error)),
        };
        std::future::ready(batch)
    })
}

/// The schema without the protocol's field metadata, which says where a result came from, not what the column is.
fn plain_schema(schema: &Schema) -> SchemaRef {
    let fields: Vec<Field> = schema
        .fields()
        .iter()
        .map(|field| {
            field
                .as_ref()
                .clone()
                .with_metadata(without_protocol_keys(field.metadata()))
        })
        .collect();
    SchemaRef::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

/// The stream, ended by an error when it says nothing for too long.
fn unless_silent(
    messages: impl Stream<Item = std::result::Result<FlightData, Status>> + Send + 'static,
) -> impl Stream<Item = Result<FlightData>> + Send + 'static {
    futures::stream::unfold(Some(Box::pin(messages)), |messages| async move {
        let mut messages = messages?;
        match tokio::time::timeout(SILENCE_LIMIT, messages.next()).await {
            Ok(None) => None,
            Ok(Some(Ok(message))) => Some((Ok(message), Some(messages))),
            Ok(Some(Err(status))) => Some((Err(error_of_stream(&status)), None)),
            Err(_) => {
                let seconds = SILENCE_LIMIT.as_secs();
                let error = Error::new(
                    ErrorCode::Timeout,
                    format!("the upload was silent for {seconds} s; nothing of it is kept"),
                );
                Some((Err(error), None))
            }
        }
    })
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorCode::InvalidRequest, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use arrow::array::{ArrayRef, DictionaryArray, Int64Array};
    use arrow::datatypes::Int8Type;
    use arrow::ipc::CompressionType;
    use arrow::ipc::writer::IpcWriteOptions;
    use arrow_flight::encode::{DictionaryHandling, FlightDataEncoderBuilder};
    use futures::TryStreamExt;

    fn batch() -> RecordBatch {
        let words: DictionaryArray<Int8Type> = ["a", "b", "a"].into_iter().collect();
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
        RecordBatch::try_from_iter([("n", numbers), ("w", Arc::new(words) as ArrayRef)]).expect("a batch")
    }

    async fn messages(batches: Vec<RecordBatch>) -> Vec<FlightData> {
        let options = IpcWriteOptions::default()
            .try_with_compression(Some(CompressionType::LZ4_FRAME))
            .expect("lz4");
        FlightDataEncoderBuilder::new()
            .with_options(options)
            .with_dictionary_handling(DictionaryHandling::Resend)
            .with_flight_descriptor(Some(FlightDescriptor::new_cmd("x")))
            .build(futures::stream::iter(batches.into_iter().map(Ok)))
            .try_collect()
            .await
            .expect("encodes")
    }

    async fn open(messages: Vec<FlightData>) -> Result<Upload> {
        Upload::open(futures::stream::iter(messages.into_iter().map(Ok))).await
    }

    #[tokio::test]
    async fn dictionaries_and_compressed_bodies_are_read() {
        let upload = open(messages(vec![batch(), batch()]).await).await.expect("opens");
        assert_eq!(upload.descriptor.cmd.as_ref(), b"x");
        let batches = upload.batches(None).await.expect("reads").expect("a schema");
        assert_eq!(batches.schema, batch().schema());
        let read: Vec<RecordBatch> = batches.stream.try_collect().await.expect("rows");
        assert_eq!(read, [batch(), batch()]);
    }

    #[tokio::test]
    async fn parameters_come_as_one_batch_within_their_limit() {
        let both = concat_batches(&batch().schema(), [&batch(), &batch()]).expect("one batch");
        let upload = open(messages(vec![batch(), batch()]).await).await.expect("opens");
        assert_eq!(upload.parameters(1 << 20).await.expect("reads"), Some(both));
        let upload = open(messages(vec![batch(), batch()]).await).await.expect("opens");
        let refused = upload.parameters(10).await.map_err(|error| error.code);
        assert_eq!(refused, Err(ErrorCode::StatementTooLarge));
    }

    #[tokio::test]
    async fn a_stream_without_a_schema_has_no_parameters() {
        let only_descriptor = FlightData {
            flight_descriptor: Some(FlightDescriptor::new_cmd("x")),
            ..FlightData::default()
        };
        let upload = open(vec![only_descriptor]).await.expect("opens");
        assert_eq!(upload.parameters(10).await.expect("reads"), None);
    }

    #[tokio::test]
    async fn a_claim_of_endless_data_is_refused() {
        let mut claiming = messages(vec![batch()]).await;
        let last = claiming.len() - 1;
        let mut body = claiming[last].data_body.to_vec();
        body[..8].copy_from_slice(&(1_i64 << 50).to_le_bytes());
        claiming[last].data_body = body.into();
        let read = open(claiming).await.expect("opens").parameters(1 << 20).await;
        assert_eq!(read.map_err(|error| error.code), Err(ErrorCode::StatementTooLarge));
    }

    #[tokio::test]
    async fn broken_streams_are_told() {
        let check = async |messages: Vec<FlightData>| {
            let read = async { open(messages).await?.parameters(1 << 20).await };
            assert_eq!(read.await.map_err(|error| error.code), Err(ErrorCode::InvalidRequest));
        };
        check(Vec::new()).await;
        check(vec![FlightData::default()]).await;
        let good = messages(vec![batch()]).await;
        let mut without_schema = good.clone();
        let descriptor = without_schema.remove(0).flight_descriptor;
        without_schema[0].flight_descriptor = descriptor;
        check(without_schema).await;
        let mut damaged = good.clone();
        let last = damaged.len() - 1;
        damaged[last].data_header = bytes::Bytes::from_static(b"not a flatbuffer at all");
        check(damaged).await;
        let mut cut_off = good.clone();
        cut_off[last].data_body.truncate(3);
        check(cut_off).await;
        let mut all_cut_off = good;
        all_cut_off[last].data_body.clear();
        check(all_cut_off).await;
    }
}
