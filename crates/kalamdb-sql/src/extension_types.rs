//! UUID and JSON: Arrow's extension types over 16 bytes and over text, and the casts from and to them, and from text to BYTEA, that
//! a cast of bytes or text alone would not be.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryBuilder, FixedSizeBinaryBuilder, ListArray, StringArray, UInt64Array,
};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::DFSchema;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    Cast, ColumnarValue, Expr, ExprSchemable, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion::scalar::ScalarValue;
use kalamdb_core::{Error, ErrorCode};

use crate::kept_types::only_value;
use crate::literals::{bytea, fixed_binary};

/// Names the extension type in a field's metadata.
const NAME: &str = "ARROW:extension:name";
const METADATA: &str = "ARROW:extension:metadata";

/// A UUID is kept as its bytes.
pub(crate) const UUID_BYTES: i32 = 16;

/// How much of a value an error message repeats, characters.
const SHOWN_VALUE: usize = 60;

/// One of the extension types that SQL has words for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ExtensionType {
    Uuid,
    Json,
}

impl ExtensionType {
    /// What the metadata of a field says.
    pub(crate) fn of(metadata: &HashMap<String, String>) -> Option<Self> {
        match metadata.get(NAME).map(String::as_str) {
            Some("arrow.uuid") => Some(ExtensionType::Uuid),
            Some("arrow.json") => Some(ExtensionType::Json),
            Some(_) | None => None,
        }
    }

    /// The type that its values are kept as.
    pub(crate) fn storage(self) -> DataType {
        match self {
            ExtensionType::Uuid => DataType::FixedSizeBinary(UUID_BYTES),
            ExtensionType::Json => DataType::Utf8,
        }
    }

    /// What a field of the type says. JSON's metadata is required, and empty.
    pub(crate) fn metadata(self) -> HashMap<String, String> {
        let entries: &[(&str, &str)] = match self {
            ExtensionType::Uuid => &[(NAME, "arrow.uuid")],
            ExtensionType::Json => &[(NAME, "arrow.json"), (METADATA, "")],
        };
        let owned = entries.iter().map(|(key, value)| (key.to_string(), value.to_string()));
        owned.collect()
    }

    /// A field of the type that may be NULL.
    pub(crate) fn field(self, name: &str) -> FieldRef {
        Arc::new(Field::new(name, self.storage(), true).with_metadata(self.metadata()))
    }
}

/// Whether a text is JSON; if not, why.
pub(crate) fn check_json(text: &str) -> Result<(), serde_json::Error> {
    serde_json::from_str::<serde::de::IgnoredAny>(text).map(|_| ())
}

/// What a cast to or from an extension type becomes; `None` where the cast does it by itself.
///
/// # Errors
/// Whatever the types of the expression say.
pub(crate) fn conversion(
    from: &Expr,
    to: &Field,
    schema: &DFSchema,
    on_misfit: OnMisfit,
) -> DataFusionResult<Option<Expr>> {
    let source = match from.to_field(schema) {
        Ok((_, field)) => field,
        // What has no type here is not ours to refuse: later rules say what is wrong with it.
        Err(_) => return Ok(None),
    };
    if let (DataType::List(given), DataType::List(item)) = (source.data_type(), to.data_type()) {
        let kind = match (ExtensionType::of(given.metadata()), ExtensionType::of(item.metadata())) {
            (None, Some(ExtensionType::Uuid)) if given.data_type().is_string() => Kind::TextToUuid,
            (None, Some(ExtensionType::Json)) if given.data_type().is_string() => Kind::TextToJson,
            (Some(ExtensionType::Uuid), None) if item.data_type().is_string() => Kind::UuidToText,
            (None, None) if given.data_type().is_string() && *item.data_type() == DataType::Binary => Kind::TextToBytes,
            _ => return Ok(None),
        };
        return Ok(Some(call(Conversion::of_items(kind, on_misfit), from.clone())));
    }
    let (source_type, target_type) = (ExtensionType::of(source.metadata()), ExtensionType::of(to.metadata()));
    let kind = match (source_type, target_type) {
        (Some(ExtensionType::Uuid), _) if to.data_type().is_string() => Kind::UuidToText,
        (Some(_), Some(_)) => return Ok(None),
        (_, Some(ExtensionType::Uuid)) if source.data_type().is_string() => Kind::TextToUuid,
        (_, Some(ExtensionType::Json)) if *source.data_type() != DataType::Null => Kind::TextToJson,
        (None, None) if source.data_type().is_string() && *to.data_type() == DataType::Binary => Kind::TextToBytes,
        (Some(_) | None, Some(_) | None) => return Ok(None),
    };
    let from = match kind {
        Kind::TextToJson if !source.data_type().is_string() => {
            Expr::Cast(Cast::new(Box::new(from.clone()), DataType::Utf8))
        }
        Kind::TextToJson | Kind::TextToUuid | Kind::UuidToText | Kind::TextToBytes => from.clone(),
    };
    Ok(Some(call(Conversion::new(kind, on_misfit), from)))
}

fn call(conversion: Conversion, from: Expr) -> Expr {
    let function = Arc::new(ScalarUDF::from(conversion));
    Expr::ScalarFunction(ScalarFunction::new_udf(function, vec![from]))
}

/// What a cast makes of a value that does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum OnMisfit {
    Fail,
    Null,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    TextToUuid,
    UuidToText,
    TextToJson,
    /// As PostgreSQL's input of BYTEA.
    TextToBytes,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Conversion {
    kind: Kind,
    on_misfit: OnMisfit,
    /// Whether the values are lists, of which each element is converted.
    is_of_items: bool,
    signature: Signature,
}

impl Conversion {
    fn new(kind: Kind, on_misfit: OnMisfit) -> Self {
        Conversion {
            kind,
            on_misfit,
            is_of_items: false,
            signature: Signature::any(1, Volatility::Immutable),
        }
    }

    fn of_items(kind: Kind, on_misfit: OnMisfit) -> Self {
        Conversion {
            is_of_items: true,
            ..Conversion::new(kind, on_misfit)
        }
    }

    /// A field of what a value becomes that is no list.
    fn item(&self, name: &str) -> FieldRef {
        match self.kind {
            Kind::TextToUuid => ExtensionType::Uuid.field(name),
            Kind::TextToJson => ExtensionType::Json.field(name),
            Kind::UuidToText => Arc::new(Field::new(name, DataType::Utf8, true)),
            Kind::TextToBytes => Arc::new(Field::new(name, DataType::Binary, true)),
        }
    }

    fn convert_items(&self, values: &ArrayRef) -> DataFusionResult<ArrayRef> {
        // Taken anew, so that what lies under NULLs and outside of slices is no value.
        let all: UInt64Array = (0..values.len() as u64).collect();
        let values = take(values, &all, None)?;
        let lists = values.as_list::<i32>();
        let items = self.convert(lists.values())?;
        let item = self.item(Field::LIST_FIELD_DEFAULT_NAME);
        let (offsets, nulls) = (lists.offsets().clone(), lists.nulls().cloned());
        Ok(Arc::new(ListArray::try_new(item, offsets, items, nulls)?))
    }

    fn misfit(&self, text: &str, why: &str) -> DataFusionResult<()> {
        let shown: String = text.chars().take(SHOWN_VALUE).collect();
        match self.on_misfit {
            OnMisfit::Null => Ok(()),
            OnMisfit::Fail => Err(DataFusionError::External(Box::new(Error::new(
                ErrorCode::TypeMismatch,
                format!("'{shown}' is not {why}"),
            )))),
        }
    }

    fn convert(&self, values: &ArrayRef) -> DataFusionResult<ArrayRef> {
        match self.kind {
            Kind::UuidToText => {
                let Some(values) = values.as_fixed_size_binary_opt() else {
                    return Err(DataFusionError::Internal("a UUID has other bytes".to_owned()));
                };
                let texts = values.iter().map(|bytes| {
                    // A value of another length was none.
                    let uuid = bytes.and_then(|bytes| uuid::Uuid::from_slice(bytes).ok());
                    uuid.map(|uuid| uuid.to_string())
                });
                Ok(Arc::new(texts.collect::<StringArray>()))
            }
            Kind::TextToUuid => {
                let texts = cast(values, &DataType::Utf8)?;
                let mut uuids = FixedSizeBinaryBuilder::with_capacity(texts.len(), UUID_BYTES);
                for text in texts.as_string::<i32>() {
                    match text.map(|text| (text, fixed_binary(text, UUID_BYTES))) {
                        Some((_, Some(bytes))) => uuids.append_value(bytes)?,
                        Some((text, None)) => {
                            self.misfit(text, "a UUID")?;
                            uuids.append_null();
                        }
                        None => uuids.append_null(),
                    }
                }
                Ok(Arc::new(uuids.finish()))
            }
            Kind::TextToBytes => {
                let texts = cast(values, &DataType::Utf8)?;
                let texts = texts.as_string::<i32>();
                let mut bytes = BinaryBuilder::with_capacity(texts.len(), texts.value_data().len());
                for text in texts {
                    let read = text.and_then(bytea);
                    if let (Some(text), None) = (text, &read) {
                        self.misfit(text, "BYTEA input such as '\\x00ff'")?;
                    }
                    bytes.append_option(read);
                }
                Ok(Arc::new(bytes.finish()))
            }
            Kind::TextToJson => {
                let texts = cast(values, &DataType::Utf8)?;
                let checked = texts.as_string::<i32>().iter().map(|text| {
                    let Some(text) = text else { return Ok(None) };
                    match check_json(text) {
                        Ok(()) => Ok(Some(text)),
                        Err(error) => self.misfit(text, &format!("JSON: {error}")).map(|()| None),
                    }
                });
                Ok(Arc::new(checked.collect::<DataFusionResult<StringArray>>()?))
            }
        }
    }
}

impl ScalarUDFImpl for Conversion {
    fn name(&self) -> &str {
        match self.kind {
            Kind::TextToUuid => "to_uuid",
            Kind::UuidToText => "uuid_to_text",
            Kind::TextToJson => "to_json",
            Kind::TextToBytes => "to_bytea",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> DataFusionResult<DataType> {
        Ok(match self.is_of_items {
            true => DataType::List(self.item(Field::LIST_FIELD_DEFAULT_NAME)),
            false => self.item("").data_type().clone(),
        })
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs<'_>) -> DataFusionResult<FieldRef> {
        let nullable = self.on_misfit == OnMisfit::Null || arguments.arg_fields.iter().any(|field| field.is_nullable());
        let field = match self.is_of_items {
            true => Arc::new(Field::new(self.name(), self.return_type(&[])?, true)),
            false => self.item(self.name()),
        };
        Ok(Arc::new(field.as_ref().clone().with_nullable(nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        match args.args.as_slice() {
            [ColumnarValue::Array(lists)] if self.is_of_items => Ok(ColumnarValue::Array(self.convert_items(lists)?)),
            [ColumnarValue::Scalar(list)] if self.is_of_items => {
                let converted = self.convert_items(&list.to_array()?)?;
                only_value(&converted).map(ColumnarValue::Scalar)
            }
            [ColumnarValue::Array(values)] => Ok(ColumnarValue::Array(self.convert(values)?)),
            [ColumnarValue::Scalar(value)] => {
                let converted = self.convert(&value.to_array()?)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&converted, 0)?))
            }
            _ => Err(DataFusionError::Internal(format!("{} takes one value", self.name()))),
        }
    }
}
