import ArgumentParser
import Foundation
import Ladder

struct CacheCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "cache",
    abstract: "Keep the model's activations of samples before training, in one process or in many.",
    discussion: """
      What `ladder train --cache` would keep on the way, given the same options: --rungs all serves every choice of
      rungs without 0 (the embedding) and the last block.
      --shard I/N keeps one of N parts of the samples, without a word to the others; --merge makes one cache of them
      once all are there, the same byte for byte as one process writes.

        ladder cache --model m.gguf --data train.jsonl --cache DIR --rungs all
        ladder cache --model m.gguf --data train.jsonl --cache DIR --rungs all --shard 3/16
        ladder cache --cache DIR --merge

      Stopped, the same command goes on.
      """)

  @OptionGroup var options: ModelOptions
  @OptionGroup var samples: SampleArguments
  @Option(help: ArgumentHelp("Samples to judge by.", valueName: "file[:share]"), completion: .file())
  var valid: [String] = []
  @Option(help: ArgumentHelp("Folder of the activation cache.", valueName: "folder"), completion: .directory)
  var cache: String?
  @Option(help: ArgumentHelp("Keep the I-th of N parts.", valueName: "I/N")) var shard: ShardName?
  @Flag(help: "Make one cache of the shards, and remove them.") var merge = false
  @Flag(help: "With --merge: leave the shards.") var keepShards = false
  @Flag(help: "Print one JSON object.") var json = false
  @OptionGroup var training: TrainingArguments

  mutating func run() async throws {
    if merge { return try await mergeShards() }
    if keepShards { throw LadderError(.usage, "--keep-shards goes with --merge") }
    let asked = try samples.asked(options, training, valid: valid, out: nil, cache: cache)
    let settings = try asked.run.training.configuration()
    let sources = try asked.sources(), held = try asked.valid?.texts.map { try DataSource($0) } ?? []
    guard let cacheOptions = try asked.cacheOptions() else {
      throw LadderError(.usage, "no --cache: name a folder for the activations")
    }
    let read = try Train.load(sources, settings), validation = held.isEmpty ? [] : try Train.load(held, settings)
    options.model = asked.model
    options.verbose = asked.verbose ?? false
    options.machine = asked.run.machine
    let backbone = try await options.load(cache: cacheOptions.directory)
    let extraction = ActivationExtraction(backbone, settings, cache: cacheOptions, shard: shard?.shard)
    let result = try await interruptible(saves: true) {
      try extraction.run(
        read, name: Train.name(sources), validation: validation, validationName: Train.name(held), report: Self.show)
    }
    Terminal.finishLine()
    if json { return Terminal.output(try Terminal.json(result)) }
    Terminal.note(
      "\(result.samples) samples of \(Terminal.count(result.tokens)) tokens"
        + (result.computedTokens > 0
          ? ", \(Terminal.count(result.computedTokens)) of them run now at \(Int(result.tokensPerSecond)) tok/s" : ""))
    Terminal.output(result.path)
  }

  private func mergeShards() async throws {
    guard let cache else { throw LadderError(.usage, "no --cache: name the folder that holds the shards") }
    if shard != nil {
      throw LadderError(.usage, "--merge goes with --cache, once all shards are there: not with --shard")
    }
    // The options of the commands that made the shards may stand there: what lies in --cache is merged as it is.
    if let limit = samples.cacheLimit { try CacheOptions(directory: cache, limit: limit.bytes).keepLimit() }
    let keeps = keepShards
    let paths = try await interruptible {
      try ActivationExtraction.merge(in: cache, keepsShards: keeps) { done, all in
        Terminal.progress("merging: \(Terminal.bytes(done)) of \(Terminal.bytes(all))")
      }
    }
    Terminal.finishLine()
    if json { return Terminal.output(try Terminal.json(["paths": paths])) }
    for path in paths { Terminal.output(path) }
  }

  private static func show(_ event: ActivationExtraction.Event) {
    switch event {
    case .samples(let report): Train.show(.samples(report))
    case .note(let text): Terminal.note(text)
    case .progress(let progress):
      Terminal.progress(
        "\(Terminal.count(progress.tokens)) of \(Terminal.count(progress.totalTokens)) tokens  "
          + "\(Int(progress.tokensPerSecond)) tok/s  \(Terminal.time(progress.secondsLeft)) left")
    }
  }
}

/// A shard as the command line names it: `3/16`.
struct ShardName: ExpressibleByArgument {
  let shard: CacheShard

  init?(argument: String) {
    let parts = argument.split(separator: "/", omittingEmptySubsequences: false).map { Int($0) }
    guard parts.count == 2, let index = parts[0], let count = parts[1], let shard = try? CacheShard(index, of: count)
    else { return nil }
    self.shard = shard
  }
}
