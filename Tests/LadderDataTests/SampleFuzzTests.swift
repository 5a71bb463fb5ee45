import Foundation
import LadderCore
import LadderData
import TestModels
import Testing

/// Whatever a file of samples holds, it is read or refused in one line.
@Suite struct SampleFuzzTests {
  static let lines = [
    #"{"prompt": "a question: ", "completion": " yes", "choices": [" yes", " no"], "answer": 4.5}"#,
    #"{"messages": [{"role": "user", "content": "h\u00e9 \ud83d\ude00"}, {"role": "assistant", "content": "x"}]}"#,
    #"{"text": "naïve\n — 日本語"}"#, #"{"instruction": "do", "input": "it", "output": "done"}"#,
    #"{"prompt": "p", "chosen": "good one", "rejected": "good two"}"#,
    #"{"tools": [{"type": "function", "function": {"name": "f"}}], "messages": [{"role": "user", "content": [{"type": "text", "text": "q"}]}, {"role": "assistant", "content": null, "reasoning_content": "r", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": {"b": 1.0, "a": [2]}}}], "weight": 1}]}"#,
    #"{"conversations": [{"from": "human", "value": "q"}, {"from": "function_call", "value": "{\"name\": \"f\"}"}]}"#,
    #"{"chosen": [{"role": "assistant", "content": "a"}], "rejected": [{"role": "assistant", "content": "b"}]}"#,
  ]
  static let words = [
    "[", "]", "{", "}", ",", ":", "\"", "\\", "\\u0000", "\\ud83d", "null", "true", "1e999", "-", "\r\n", "\n",
    "[[[[[[", "\"prompt\"", "\"tools\"", "\"weight\": 0.5", "\"messages\"", "\"chosen\"", "\"choices\"", "\u{2028}",
    "\u{FEFF}", "\"\"",
  ]

  @Test func changedFiles() throws {
    let folder = try TemporaryFolder(), path = folder.file("mutant.jsonl")
    let files = (Self.lines + [Self.lines.joined(separator: "\n") + "\n"]).map { Array($0.utf8) }
    var taken = 0, refused = 0
    try Mutations.forEach(of: files, words: Self.words) { bytes in
      try Data(bytes).write(to: URL(fileURLWithPath: path))
      do throws(LadderError) {
        let samples = try Sample.load(path)
        #expect(!samples.isEmpty)
        taken += 1
      } catch {
        #expect(error.kind == .data && !error.message.contains("\n"), "\(error)")
        refused += 1
      }
    }
    #expect(taken > 50 && refused > 100, "\(taken) taken, \(refused) refused")
  }
}
