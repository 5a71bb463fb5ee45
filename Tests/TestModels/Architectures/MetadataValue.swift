import CLlama

/// A value in a GGUF's header, written as a literal.
package enum MetadataValue: Sendable, ExpressibleByIntegerLiteral, ExpressibleByFloatLiteral,
  ExpressibleByBooleanLiteral, ExpressibleByStringLiteral, ExpressibleByArrayLiteral
{
  case integer(UInt32)
  case number(Float)
  case flag(Bool)
  case text(String)
  case integers([UInt32])
  case numbers([Float])
  /// 64 bits each.
  case wide([UInt64])

  package init(integerLiteral value: UInt32) { self = .integer(value) }
  package init(floatLiteral value: Float) { self = .number(value) }
  package init(booleanLiteral value: Bool) { self = .flag(value) }
  package init(stringLiteral value: String) { self = .text(value) }
  package init(arrayLiteral elements: UInt32...) { self = .integers(elements) }

  func write(_ file: OpaquePointer, _ key: String) {
    switch self {
    case .integer(let value): gguf_set_val_u32(file, key, value)
    case .number(let value): gguf_set_val_f32(file, key, value)
    case .flag(let value): gguf_set_val_bool(file, key, value)
    case .text(let value): gguf_set_val_str(file, key, value)
    case .integers(let values): gguf_set_arr_data(file, key, GGUF_TYPE_UINT32, values, values.count)
    case .numbers(let values): gguf_set_arr_data(file, key, GGUF_TYPE_FLOAT32, values, values.count)
    case .wide(let values): gguf_set_arr_data(file, key, GGUF_TYPE_UINT64, values, values.count)
    }
  }
}
