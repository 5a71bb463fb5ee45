import CLlama
import Foundation
import LadderCore
import LadderData

/// The model's chat template, as far as llama.cpp's own renderer knows it (it matches known templates, it runs no
/// Jinja).
public struct ChatTemplate: Sendable {
  let source: String

  /// The conversation as the model expects it; `opensAnswer` ends it where the assistant's turn begins.
  /// - Throws: `data` for a template that llama.cpp does not know.
  public func render(_ messages: [ChatMessage], opensAnswer: Bool) throws(LadderError) -> String {
    let strings = messages.flatMap { [strdup($0.role), strdup($0.content)] }
    defer { strings.forEach { free($0) } }
    let list = messages.indices.map { llama_chat_message(role: strings[2 * $0], content: strings[2 * $0 + 1]) }
    var buffer = [CChar](repeating: 0, count: 2 * messages.reduce(256) { $0 + $1.content.utf8.count + 64 })
    var length = llama_chat_apply_template(source, list, list.count, opensAnswer, &buffer, Int32(buffer.count))
    if length > buffer.count {
      buffer = [CChar](repeating: 0, count: Int(length))
      length = llama_chat_apply_template(source, list, list.count, opensAnswer, &buffer, Int32(buffer.count))
    }
    guard length >= 0 else {
      throw LadderError(
        .data, "the model's chat template is not one that llama.cpp renders; write the samples as prompt and completion"
      )
    }
    return String(decoding: buffer.prefix(Int(length)).map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
}
