import ArgumentParser
import Foundation
import Ladder
import LadderStudy

/// What every command that loads a model takes.
struct ModelOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "The backbone: a decoder-only GGUF, or one at the hub as hf:OWNER/REPO[:QUANT].", valueName: "file.gguf"),
    completion: .file(extensions: ["gguf"]))
  var model: String?

  @Option(help: ArgumentHelp("CPU threads (default: one per core).", valueName: "N"))
  var threads: Int?

  @Option(
    help: ArgumentHelp(
      "Device to run on, as `ladder inspect --devices` lists them (default: the first accelerator, or the CPU).",
      valueName: "name"))
  var device: String?

  @Option(
    help: ArgumentHelp(
      "Blocks that the device holds and runs, counted from the last; the CPU has the others (default: all).",
      valueName: "N"))
  var gpuLayers: Int?

  @Option(
    help: ArgumentHelp(
      "Machines that hold and run the model's blocks, each with `ladder worker`; head and training stay here.",
      valueName: "host:port,…"))
  var workers: [String] = []

  @Flag(help: "Show llama.cpp's own log.")
  var verbose = false

  var machine: MachineOptions {
    get {
      var machine = MachineOptions()
      machine.device = device
      machine.threads = threads
      machine.gpuLayers = gpuLayers
      machine.workers = workers.isEmpty ? nil : TextList(workers)
      return machine
    }
    set {
      device = newValue.device
      threads = newValue.threads
      gpuLayers = newValue.gpuLayers
      workers = newValue.workers?.texts ?? []
    }
  }

  /// - Parameters:
  ///   - path: the model, where the command made one itself.
  ///   - cache: an activation cache's folder: a model that it knows is loaded without its blocks, until they are
  ///     needed.
  ///   - trainsInside: for QLoRA, which holds the blocks in a form that it can go back through: llama.cpp does not load
  ///     them too.
  ///   - embeds: take a decoder that was trained to give texts' vectors too.
  func load(
    path: String? = nil, cache: String? = nil, trainsInside: Bool = false, embeds: Bool = false
  ) async throws -> Backbone {
    if verbose { EngineLog.show { Terminal.note($0) } }
    guard let name = path ?? model else { throw LadderError(.usage, "no --model: name the GGUF file of the backbone") }
    if let threads, threads < 1 { throw LadderError(.usage, "--threads must be 1 or more") }
    if let gpuLayers, gpuLayers < 0 { throw LadderError(.usage, "--gpu-layers must be 0 or more") }
    let model = try await ModelName.path(name)
    let workers = workers.flatMap { $0.split(separator: ",").map(String.init) }
    if trainsInside {
      if !workers.isEmpty {
        throw LadderError(
          .usage, "--workers run blocks that nothing is trained in: with QLoRA take --blocks N, its last N alone")
      }
      if gpuLayers != nil {
        throw LadderError(.usage, "--gpu-layers is for side networks: with QLoRA every block is on the --device")
      }
      return try Backbone(
        path: model, threads: threads, device: device, head: try HeadDescription(of: GGUFFile(path: model)))
    }
    let head = try cache.flatMap { try CacheFolder.head(in: $0, of: GGUFFile(path: model)) }
    return try Backbone(
      path: model, threads: threads, device: device, gpuLayers: gpuLayers, workers: workers, head: head, embeds: embeds)
  }
}
