import CLlama
import Foundation
import LadderCore

/// Takes a GGUF apart as llama.cpp's gguf-split does.
package enum SplitModelFiles {
  /// - Parameters:
  ///   - counts: tensors of each file.
  ///   - name: of the files, before `-00001-of-00003.gguf`.
  /// - Returns: the files' paths.
  @discardableResult
  package static func write(_ path: String, _ counts: [Int], to name: String) throws -> [String] {
    var context: OpaquePointer?
    guard
      let source = withUnsafeMutablePointer(
        to: &context, { gguf_init_from_file(path, gguf_init_params(no_alloc: false, ctx: $0)) })
    else { throw LadderError(.data, "cannot read \(path)") }
    defer {
      gguf_free(source)
      ggml_free(context)
    }
    var next: Int64 = 0
    return try counts.indices.map { index in
      guard let file = gguf_init_empty() else { throw LadderError(.engine, "no GGUF context") }
      defer { gguf_free(file) }
      if index == 0 { gguf_set_kv(file, source) }
      gguf_set_val_u16(file, "split.no", UInt16(index))
      gguf_set_val_u16(file, "split.count", UInt16(counts.count))
      gguf_set_val_i32(file, "split.tensors.count", Int32(gguf_get_n_tensors(source)))
      for _ in 0..<counts[index] {
        gguf_add_tensor(file, ggml_get_tensor(context, gguf_get_tensor_name(source, next)))
        next += 1
      }
      let part = "\(name)-\(String(format: "%05d-of-%05d", index + 1, counts.count)).gguf"
      guard gguf_write_to_file(file, part, false) else { throw LadderError(.inputOutput, "cannot write \(part)") }
      return part
    }
  }
}
