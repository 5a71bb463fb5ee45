import ArgumentParser
import Foundation
import Ladder

@main
struct LadderCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "ladder",
    abstract:
      "Fine-tunes language models by Ladder Side Tuning: the GGUF model stays frozen, a small side network learns.",
    discussion: """
      A first run:

        ladder train --model model.gguf --data train.jsonl --valid dev.jsonl --out runs/first
        ladder eval --model model.gguf --adapter runs/first --data dev.jsonl
        ladder generate --model model.gguf --adapter runs/first --prompt "Review: a joy to watch\\nSentiment:"

      Data is one JSON object a line: {"prompt", "completion"}, with "choices" or "answer" where there are any;
      {"messages": [{"role", "content"}, …]}; {"text"}; or {"instruction", "input", "output"}.

      Results go to standard output, progress to standard error. Exit status: 0 done, 64 wrong usage, 65 bad data or
      model, 66 a file that is not there, 70 the engine failed, 74 a read or write failed, 130 interrupted (state
      saved).
      """,
    version: "0.1.0",
    subcommands: [
      Train.self, CacheCommand.self, SweepCommand.self, Evaluate.self, Generate.self, ChatCommand.self,
      ServeCommand.self, WorkerCommand.self, DataCommand.self, Inspect.self, PlanCommand.self, Bench.self,
      Pull.self, Export.self, Distil.self,
      StudyCommand.self,
    ])

  static func main() async {
    EngineLog.setLastWords(lastWords)
    ProcessMemory.givesBack(blocksOf: 1 << 20)
    var command: any ParsableCommand
    do { command = try parseAsRoot(joined(CommandLine.arguments.dropFirst())) } catch { leave(with: error) }
    do {
      if var asynchronous = command as? AsyncParsableCommand {
        try await asynchronous.run()
      } else {
        try command.run()
      }
    } catch let error as LadderError {
      fail(error)
    } catch let status as ExitCode {
      // What there was to say was said.
      Foundation.exit(status.rawValue)
    } catch {
      // What ArgumentParser does not know is a failure.
      if exitCode(for: error) == .failure { fail(LadderError(any: error)) }
      leave(with: error)
    }
  }

  /// A number below 0 behind an option's name is its value, and no option.
  private static func joined(_ arguments: ArraySlice<String>) -> [String] {
    arguments.reduce(into: []) { result, argument in
      if argument.hasPrefix("-"), Double(argument) != nil, let name = result.last, name.hasPrefix("--"),
        name.count > 2, !name.contains("=")
      {
        result[result.count - 1] = "\(name)=\(argument)"
      } else {
        result.append(argument)
      }
    }
  }

  /// Wrong usage is told in one line, the place of the help included; help and version are ArgumentParser's to show.
  private static func leave(with error: any Error) -> Never {
    Terminal.finishLine()
    guard exitCode(for: error) == .validationFailure else { exit(withError: error) }
    let help = fullMessage(for: error).split(separator: "\n").last { $0.contains("See '") }
    let lines = message(for: error).split(separator: "\n") + (help.map { [$0] } ?? [])
    Terminal.error("ladder: " + lines.map { $0.trimmingCharacters(in: .whitespaces) }.joined(separator: " "))
    Foundation.exit(ExitCode.validationFailure.rawValue)
  }

  private static func fail(_ error: LadderError) -> Never {
    Terminal.finishLine()
    Terminal.error("ladder: \(error.message)")
    Foundation.exit(error.kind.rawValue)
  }
}

/// ggml ends the process where its own state is lost, as when a worker is gone: in one line.
private func lastWords(_ words: UnsafePointer<CChar>?) {
  Terminal.isQuiet = false
  Terminal.finishLine()
  Terminal.error("ladder: the engine gave up (\(words.map { String(cString: $0) } ?? "")); what was saved stays")
  // Other threads are in the middle of something.
  _exit(LadderError.Kind.engine.rawValue)
}
