import ArgumentParser
import Foundation
import Ladder
import LadderDistil
import LadderStudy

struct Distil: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Write a data set of a larger model's answers to prompts.",
    discussion: """
        ladder distil --prompts prompts.jsonl --server http://localhost:8080 --out train.jsonl
        ladder distil --prompts prompts.jsonl --model large.gguf --answers 4 --temperature 0.8 --right --out train.jsonl

      A prompt is a line {"prompt": …} or {"messages": […]}, with "answer" where the right one is known; what comes is
      {"prompt", "completion"} or {"messages"} with the answer as its last turn, which `ladder train` takes. The teacher
      is a GGUF, or any server with OpenAI's interface (llama-server, vLLM, Ollama, …): /v1/completions for prompts,
      /v1/chat/completions for messages and with --chat. Its key is read from OPENAI_API_KEY, or from the variable that
      --api-key names.

      Stop with Ctrl-C and run the same command to go on: what is answered is kept in OUT.part.
      """)

  @Option(
    help: ArgumentHelp("The prompts.", valueName: "file.jsonl"),
    completion: .file(extensions: ["jsonl", "json", "csv", "tsv"])) var prompts: String
  @Option(help: ArgumentHelp("The data set.", valueName: "file.jsonl"), completion: .file(extensions: ["jsonl"]))
  var out: String
  @Option(help: ArgumentHelp("The teacher's address, in place of --model.", valueName: "url")) var server: String?
  @Option(help: ArgumentHelp("The model that the server is asked for.", valueName: "name")) var serverModel: String?
  @Option(help: ArgumentHelp("The environment's variable that holds the server's key.", valueName: "VARIABLE"))
  var apiKey: String?
  @OptionGroup var options: ModelOptions
  @Option(help: ArgumentHelp("A run on the model that answers in its place.", valueName: "run"), completion: .directory)
  var adapter: String?
  @Flag(help: "Take each prompt as the user's turn of a conversation.") var chat = false
  @Option(help: ArgumentHelp("Answers to each prompt, by seeds of their own.", valueName: "N")) var answers = 1
  @Flag(help: "Keep only answers that end in the prompt's \"answer\", where it has one.") var right = false
  @Flag(help: "Keep answers that were cut at --max-tokens too.") var keepCut = false
  @Option(help: ArgumentHelp("Answers at once (default 8).", valueName: "N")) var parallel = 8
  @Option(help: ArgumentHelp("Tokens of an answer at most.", valueName: "N")) var maxTokens = 1024
  @OptionGroup var stops: StopArguments
  @OptionGroup var sampling: SamplingArguments
  @Flag(help: "Print one JSON object.") var json = false

  func run() async throws {
    guard (server == nil) != (options.model == nil) else {
      throw LadderError(.usage, "name one teacher: --model, a GGUF, or --server, an address")
    }
    guard server != nil || (serverModel == nil && apiKey == nil) else {
      throw LadderError(.usage, "--server-model and --api-key go with --server")
    }
    guard server == nil || (adapter == nil && options.machine == MachineOptions()) else {
      throw LadderError(.usage, "--adapter, --threads, --device, --gpu-layers and --workers go with --model")
    }
    var work = Distillation()
    work.draws = answers
    work.concurrency = parallel
    work.keepsRightOnly = right
    work.keepsCut = keepCut
    work.options.maxTokens = maxTokens
    work.options.sampling = try sampling.options(chats: false)
    work.options.stop = try stops.texts()
    let asked = try DistilPrompt.load(prompts, chats: chat)
    if right, !asked.contains(where: { $0.answer != nil }) {
      throw LadderError(.usage, "--right: no prompt in \(prompts) has an \"answer\"")
    }
    try work.check(asked, to: out)
    let result: Distillation.Result
    if let server {
      let teacher = try ServerTeacher(server, model: serverModel, key: try key(), note: { Terminal.note($0) })
      result = try await run(work, asked, teacher)
    } else {
      let backbone = try await options.load()
      let teacher = try await ModelTeacher.load(
        backbone, run: adapter.map { RunDirectory($0) }, texts: parallel, prompts: asked, options: work.options)
      result = try await run(work, asked, teacher)
    }
    Terminal.finishLine()
    if json { return Terminal.output(try Terminal.json(result)) }
    Terminal.note(Self.words(result, of: asked.count))
    Terminal.output(out)
  }

  private func run(
    _ work: Distillation, _ prompts: [DistilPrompt], _ teacher: some Teacher
  ) async throws -> Distillation.Result {
    let out = out
    return try await interruptible(saves: true) {
      try await work.run(prompts, teacher: teacher, to: out) { progress in
        let left = Terminal.time(Double(progress.total - progress.done) / max(1e-9, progress.speed))
        Terminal.progress(
          String(format: "answer %d of %d  %.1f/s  %@ left", progress.done, progress.total, progress.speed, left),
          always: progress.done == progress.total)
      }
    }
  }

  /// The key; nil where none is set.
  private func key() throws -> String? {
    let name = apiKey ?? "OPENAI_API_KEY"
    let key = ProcessInfo.processInfo.environment[name]?.trimmingCharacters(in: .whitespacesAndNewlines)
    if let key, !key.isEmpty { return key }
    if apiKey == nil { return nil }
    throw LadderError(.usage, "--api-key names a variable of the environment, and \(name.shown) is not set")
  }

  private static func words(_ result: Distillation.Result, of prompts: Int) -> String {
    let counts = [
      (result.wrong, "not right"), (result.cut, "cut at --max-tokens"), (result.repeated, "repeated"),
      (result.empty, "empty"),
    ]
    let left = counts.filter { $0.0 > 0 }.map { "\($0.0) \($0.1)" }.joined(separator: ", ")
    let refused = result.refused > 0 ? "; \(result.refused) prompts got no answer (\(result.refusal ?? ""))" : ""
    return "\(result.lines) answers to \(result.prompts) of \(prompts) prompts"
      + (left.isEmpty ? "" : "; left out: \(left)") + refused
  }
}
