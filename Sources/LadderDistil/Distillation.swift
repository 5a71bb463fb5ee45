import Foundation
import LadderCore
import LadderEval
import LadderInference

/// Writes a data set of a teacher's answers to prompts.
///
/// The answers come in any order and are kept in `OUT.part`; once all are there, the data set is written in the prompts'
/// order. What is stopped goes on with what it lacks.
public struct Distillation: Sendable {
  /// Answers to each prompt, each with a seed of its own.
  public var draws = 1
  /// How they are drawn; `seed` is the first draw's.
  public var options = GenerationOptions()
  /// Answers at once.
  public var concurrency = 8
  /// Keep only answers that end in the sample's `answer`, where it has one.
  public var keepsRightOnly = false
  /// Keep answers that were cut at the most tokens.
  public var keepsCut = false

  /// How far it is.
  public struct Progress: Sendable {
    /// Answers that are there, and all.
    public var done: Int, total: Int
    /// Answers a second, since this call began.
    public var speed: Double
  }

  /// What came of it.
  public struct Result: Sendable, Encodable {
    /// Lines written.
    public var lines = 0
    /// Prompts that have at least one.
    public var prompts = 0
    /// Answers that are not among them: because they are not right, were cut, say what another one to the same prompt
    /// says, or hold nothing.
    public var wrong = 0, cut = 0, repeated = 0, empty = 0
    /// Prompts that the teacher did not take, each time it was asked.
    public var refused = 0
    /// Why the first of them.
    public var refusal: String?
  }

  public init() {}

  /// What can be refused before a teacher is loaded.
  /// - Throws: `usage`.
  public func check(_ prompts: [DistilPrompt], to out: String) throws(LadderError) {
    try LadderError.unify { try validate() }
    guard !FileManager.default.fileExists(atPath: out) else {
      throw LadderError(.usage, "\(out) is there already; remove it, or name another file as `out`")
    }
  }

  /// - Throws: `usage` where the file is there, or its part holds something else; `data` where no answer is left; what
  ///   the teacher throws. What is answered by then is kept.
  public func run(
    _ prompts: [DistilPrompt], teacher: some Teacher, to out: String,
    progress: @escaping @Sendable (Progress) -> Void = { _ in }
  ) async throws(LadderError) -> Result {
    try check(prompts, to: out)
    do {
      let folder = (out as NSString).deletingLastPathComponent
      if !folder.isEmpty { try DurableFile.makeFolder(folder) }
      let log = try AnswerLog(out + ".part", try header(prompts, teacher))
      try await ask(prompts, teacher, log, progress)
      let result = try write(prompts, log, to: out)
      log.remove()
      return result
    } catch is CancellationError {
      throw Self.stopped(LadderError(.interrupted, "interrupted"))
    } catch {
      throw Self.stopped(LadderError(any: error))
    }
  }

  private static func stopped(_ error: LadderError) -> LadderError {
    guard [.interrupted, .inputOutput].contains(error.kind) else { return error }
    return LadderError(error.kind, "\(error.message); what is answered is kept, run the same command again to go on")
  }

  private func validate() throws {
    guard (1...1000).contains(draws), (1...64).contains(concurrency), (1...1 << 20).contains(options.maxTokens) else {
      throw LadderError(
        .usage, "`answers` must be 1 to 1000, `parallel` 1 to 64, `maxTokens` 1 to \(1 << 20)")
    }
    guard draws == 1 || options.temperature > 0 else {
      throw LadderError(.usage, "several `answers` need a `temperature` above 0, or they are all the same")
    }
    try options.sampling.validate()
  }

  private func header(_ prompts: [DistilPrompt], _ teacher: some Teacher) throws -> AnswerLog.Header {
    var sum = SHA256()
    for prompt in prompts {
      let line = try prompt.line(TeacherAnswer(text: "", isWhole: true))
      sum.update(line.utf8.count)
      sum.update(Array(line.utf8))
    }
    let s = options.sampling
    let settings =
      "max-tokens \(options.maxTokens), temperature \(s.temperature), top-k \(s.topK), top-p \(s.topP), min-p \(s.minP), "
      + "repeat-penalty \(s.repeatPenalty), seed \(s.seed)"
      // An earlier version had thoughts in the text.
      + (prompts.contains(where: \.isChat) ? ", thoughts apart" : "")
      + (options.stop.isEmpty ? "" : ", stop \(options.stop)") + (s.grammar.map { ", grammar \($0)" } ?? "")
    return AnswerLog.Header(
      teacher: teacher.name, prompts: String(sum.hexadecimal().prefix(32)), settings: settings)
  }

  // MARK: - Asking

  private func ask(
    _ prompts: [DistilPrompt], _ teacher: some Teacher, _ log: AnswerLog,
    _ progress: @escaping @Sendable (Progress) -> Void
  ) async throws {
    let wanted = prompts.indices.flatMap { prompt in (0..<draws).map { [prompt, $0] } }
    // What was refused is asked again: a server may have more room by now.
    var lacking = wanted.filter { log.entries[$0]?.answer == nil }[...]
    let start = ContinuousClock.now, before = wanted.count - lacking.count
    var done = before
    try await withThrowingTaskGroup(of: AnswerLog.Entry.self) { group in
      func next() {
        guard let place = lacking.popFirst() else { return }
        let prompt = prompts[place[0]]
        var options = options
        options.sampling.seed &+= UInt32(truncatingIfNeeded: place[1])
        let asked = options
        group.addTask {
          do {
            let answer = try await teacher.answer(prompt, options: asked)
            return AnswerLog.Entry(prompt: place[0], draw: place[1], answer: answer)
          } catch let refusal as Refusal {
            return AnswerLog.Entry(prompt: place[0], draw: place[1], refusal: refusal.reason)
          }
        }
      }
      for _ in 0..<concurrency { next() }
      while let entry = try await group.next() {
        try log.add(entry)
        done += 1
        let speed = Double(done - before) / max(1e-3, (ContinuousClock.now - start).seconds)
        progress(Progress(done: done, total: wanted.count, speed: speed))
        try Cancellation.check()
        next()
      }
    }
    try Cancellation.check()
  }

  // MARK: - Writing

  private func write(_ prompts: [DistilPrompt], _ log: AnswerLog, to out: String) throws -> Result {
    var result = Result(), lines = ""
    for (index, prompt) in prompts.enumerated() {
      let entries = (0..<draws).compactMap { log.entries[[index, $0]] }
      let answers = entries.compactMap(\.answer)
      if answers.isEmpty {
        result.refused += 1
        result.refusal = result.refusal ?? entries.first?.refusal.map { "\(prompt.place): \($0)" }
      }
      var seen = Set<String>()
      for answer in answers where try isKept(answer, prompt, &seen, &result) {
        lines += try prompt.line(answer) + "\n"
        result.lines += 1
      }
      if !seen.isEmpty { result.prompts += 1 }
    }
    guard result.lines > 0 else {
      let why = result.refusal.map { ": \($0)" } ?? " (\(result.wrong) wrong, \(result.cut) cut, \(result.empty) empty)"
      throw LadderError(.data, "no answer is left to write\(why); the answers are in \(out).part")
    }
    try DurableFile.write(out, [Data(lines.utf8)])
    return result
  }

  private func isKept(
    _ answer: TeacherAnswer, _ prompt: DistilPrompt, _ seen: inout Set<String>, _ result: inout Result
  ) throws -> Bool {
    var bare = answer
    // Each call has an id of its own.
    bare.calls = answer.calls?.map { .init(name: $0.name, arguments: $0.arguments) }
    if !answer.isWhole, !keepsCut {
      result.cut += 1
    } else if answer.isEmpty {
      result.empty += 1
    } else if keepsRightOnly, let wanted = prompt.answer, !FinalAnswer.matches(answer.text, wanted) {
      result.wrong += 1
    } else if !seen.insert(try prompt.line(bare)).inserted {
      result.repeated += 1
    } else {
      return true
    }
    return false
  }
}
