import ArgumentParser
import Foundation
import Ladder
import LadderStudy

struct StudyMemory: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "memory",
    abstract: "Peak memory of LST, xLadder and QLoRA over the context length and over the batch.",
    discussion: """
      Each point is a training of two steps in a process of its own. A point that is expected above --memory, from the
      plan and the smaller points that were measured, is not run, and its row says so. What is measured is kept: the same
      command goes on.

        ladder study memory --model model.gguf --out memory
        ladder study memory --shape qwen2.5-0.5b --lengths 512,1024,2048 --memory 12GB --out memory
      """)

  @OptionGroup var options: ModelOptions
  @OptionGroup var method: MethodArguments
  @Option(
    help: ArgumentHelp(
      "Make a model of this shape, with random weights: \(ModelShape.known.map(\.name).joined(separator: ", ")).",
      valueName: "name"))
  var shape: String?
  @Option(
    help: ArgumentHelp("Make it with so many blocks: shallow ones tell what a deep one will take.", valueName: "N"))
  var shapeBlocks: Int?
  @Option(help: ArgumentHelp("Folder for the findings.", valueName: "folder"), completion: .directory) var out: String
  @Option(help: ArgumentHelp("Tokens of one sequence.", valueName: "T,T,…")) var lengths = "512,1024,2048"
  @Option(help: ArgumentHelp("Sequences of a step.", valueName: "B,B,…")) var batches = "1,2,4,8"
  @Option(help: ArgumentHelp("Tokens of each sequence of those.", valueName: "T")) var batchLength = 256
  @Option(
    help: ArgumentHelp("Methods to measure (default: lst, xladder, qlora, qlora+checkpointing).", valueName: "M,M,…"))
  var methods = ""
  @Option(help: ArgumentHelp("Share of the tokens that carry loss.", valueName: "F")) var lossShare = 1.0
  @Option(help: ArgumentHelp("Memory to fit in.", valueName: "size")) var memory = ByteSize(12_000_000_000)
  @Flag(help: "Print the rows as JSON, not as Markdown.") var json = false

  func run() async throws {
    var study = MemoryStudy.Options()
    study.lengths = try numberList(lengths, "--lengths")
    study.batches = batches.isEmpty ? [] : try numberList(batches, "--batches")
    study.batchLength = batchLength
    study.methods = methods.split(separator: ",").map { $0.trimmingCharacters(in: .whitespaces) }
    study.lossShare = lossShare
    study.memory = memory.bytes
    study.machine = options.machine
    guard method.method == nil else {
      throw LadderError(.usage, "the memory study compares all methods; leave --method out")
    }
    study.side = method.options
    let temporary = try await TemporaryModel.make(shape, besides: options.model, "Q4_0", blocks: shapeBlocks)
    defer { temporary?.remove() }
    guard let path = try await ModelName.path(temporary?.path ?? options.model) else {
      throw LadderError(.usage, "no --model: name a GGUF file, or a --shape")
    }
    let memory = try MemoryStudy(model: path, study)
    let rows = try await interruptible { try memory.run(ProcessRunner(), into: out) { Terminal.progress($0) } }
    Terminal.finishLine()
    Terminal.output(json ? "{\"rows\":\(try Terminal.json(rows))}" : memory.markdown(rows))
    Terminal.note("\(out)/memory.html has the plots")
  }
}

/// Reads a list of whole numbers.
func numberList(_ text: String, _ option: String) throws -> [Int] {
  let parts = text.split(separator: ",").map { Int($0.trimmingCharacters(in: .whitespaces)) }
  guard !parts.isEmpty, !parts.contains(nil) else {
    throw LadderError(.usage, "\(option) \(text): write numbers, as in 1,2,4")
  }
  return parts.compactMap { $0 }
}
