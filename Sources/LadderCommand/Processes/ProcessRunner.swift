import Foundation
import Ladder
import LadderStudy

/// Runs each job as this same command in a process of its own: what is measured there is nobody else's.
struct ProcessRunner: Runner {
  /// Whether its user keeps what was done when it is interrupted.
  var keeps = true

  func train(_ job: TrainingJob, progress: (String) -> Void) throws {
    var arguments = ["train", "--model", job.model, "--data", job.data, "--out", job.out, "--resume"]
    if let cache = job.cache {
      arguments += ["--cache", cache.directory]
      if let format = cache.format { arguments += ["--cache-format", format.rawValue] }
      if let limit = cache.limit { arguments += ["--cache-limit", String(limit)] }
    }
    _ = try run(arguments + job.options.arguments + job.machine.arguments, progress)
  }

  func evaluate(_ job: EvaluationJob, progress: (String) -> Void) throws -> Evaluation {
    let arguments = ["eval", "--json", "--model", job.model, "--data", job.data, "--metric", job.metric.rawValue]
    let more = [
      ("--adapter", job.run), ("--max-length", job.maxLength.map { String($0) }),
      ("--overlong", job.overlong?.rawValue),
      ("--chat-template", job.chatTemplate), ("--chat-template-options", job.chatTemplateOptions),
      ("--max-tokens", job.maxTokens.map { String($0) }), ("--cache", job.cache), ("--predictions", job.predictions),
    ]
    return try result(
      arguments + more.flatMap { name, value in value.map { [name, $0] } ?? [] }, job.machine, progress)
  }

  func measure(_ job: MemoryJob, progress: (String) -> Void) throws -> SpeedBenchmark.TwoSteps {
    let arguments = [
      "plan", "--measure", "--json", "--model", job.model, "--max-length", String(job.length), "--sequences",
      String(job.sequences), "--loss-share", String(job.lossShare),
    ]
    return try result(arguments + job.method.arguments, job.machine, progress)
  }

  private func result<Result: Decodable>(
    _ arguments: [String], _ machine: MachineOptions, _ progress: (String) -> Void
  ) throws -> Result {
    let arguments = arguments + machine.arguments
    let output = try run(arguments, progress)
    do { return try JSONDecoder().decode(Result.self, from: output) } catch {
      throw LadderError(.engine, "a process of its own gave no result (\(Self.command(arguments)))")
    }
  }

  /// - Returns: the child's standard output.
  /// - Throws: the child's own error, with the command that shows it again; `interrupted` where this task is cancelled.
  private func run(_ arguments: [String], _ progress: (String) -> Void) throws -> Data {
    let ended = try ChildProcess.run(Bundle.main.executableURL, arguments, progress: progress)
    if ended.status == 0 { return ended.output }
    if Task.isCancelled {
      throw LadderError(
        .interrupted, keeps ? "interrupted; what is done is kept, run the same command again to go on" : "interrupted")
    }
    let line = ended.lastLine
    let message =
      line.hasPrefix("ladder: ")
      ? String(line.dropFirst(8)) : "a process of its own failed (status \(ended.status)): \(line)"
    throw LadderError(
      LadderError.Kind(rawValue: ended.status) ?? .engine, "\(message) (\(Self.command(arguments)))")
  }

  /// The command as a shell reads it.
  private static func command(_ arguments: [String]) -> String {
    let plain = Set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=+.,:/@%")
    let words = arguments.map { word in
      !word.isEmpty && word.allSatisfy(plain.contains)
        ? word : "'" + word.replacingOccurrences(of: "'", with: "'\\''") + "'"
    }
    return (["ladder"] + words).joined(separator: " ")
  }
}

extension NamedOptions {
  /// What is given, as a command line of its own.
  var arguments: [String] { flags("=") }
}
