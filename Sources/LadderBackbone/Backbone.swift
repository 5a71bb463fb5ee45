import CLlama
import Foundation
import LadderCompute
import LadderCore

/// A frozen language model: any decoder-only GGUF that llama.cpp loads.
///
/// Nothing of it is ever trained. Its weights are held once, as the file has them. Several tasks may train, evaluate
/// and generate on one backbone: their computations take turns.
public final class Backbone: @unchecked Sendable {
  /// The model's file; of a model in several, the first.
  public let path: String
  package let file: GGUFFile
  /// Tells this model from others, and in what they differ.
  package let fingerprints: ModelFingerprint
  /// The same in one word.
  package var fingerprint: String { fingerprints.text }
  /// Blocks L.
  public let blocks: Int
  /// Width d of the hidden states.
  public let width: Int
  /// Entries V of the vocabulary.
  public let vocabulary: Int
  /// The longest text that the model was trained on, in tokens.
  public let contextLength: Int
  /// How the model reads text.
  package let language: ModelVocabulary
  /// Bytes of the weights.
  public let weightsBytes: Int
  package let engine: Engine
  private let gpuLayers: Int?
  private let workers: RemoteWorkers?
  private let lock = NSRecursiveLock()
  private var whole: ModelOwner?
  private weak var engines: ModelOwner?
  private var currentHead: Head
  private var currentNames: GraphNames?
  /// Whether blocks were asked for again after their memory was given back: from then on it is kept.
  private var wasReloaded = false

  /// Loads a model.
  /// - Parameters:
  ///   - threads: CPU threads; nil takes one per core.
  ///   - device: one of `Device.all`; nil takes the first accelerator, or the CPU.
  ///   - gpuLayers: blocks that an accelerator holds and runs, counted from the last; the CPU has the others. Nil is
  ///     all of them.
  ///   - workers: `HOST:PORT` of machines that hold and run the blocks in this one's place (`ladder worker`).
  /// - Throws: `missing`, `data` for a file that is no decoder-only GGUF, `usage` for an unknown device.
  public convenience init(
    path: String, threads: Int? = nil, device: String? = nil, gpuLayers: Int? = nil, workers: [String] = []
  ) throws(LadderError) {
    self.init(
      try LadderError.unify {
        try Parts(path: path, threads: threads, device: device, gpuLayers: gpuLayers, workers: workers, head: nil)
      })
  }

  /// - Parameters:
  ///   - head: the head's description, where an activation cache has it: only the head and the tokenizer are loaded
  ///     then, and the blocks when something needs them.
  ///   - embeds: take a decoder that was trained to give texts' vectors too.
  package convenience init(
    path: String, threads: Int? = nil, device: String? = nil, gpuLayers: Int? = nil, workers: [String] = [],
    head: HeadDescription?, embeds: Bool = false
  ) throws {
    self.init(
      try Parts(
        path: path, threads: threads, device: device, gpuLayers: gpuLayers, workers: workers, head: head,
        embeds: embeds))
  }

  private init(_ parts: Parts) {
    path = parts.file.path
    file = parts.file
    fingerprints = parts.fingerprints
    blocks = parts.blocks
    width = parts.width
    vocabulary = parts.language.tokenizer.count
    contextLength = file.own("context_length") ?? 0
    weightsBytes = file.tensors.reduce(0) { $0 + $1.bytes }
    language = parts.language
    engine = parts.engine
    gpuLayers = parts.gpuLayers
    workers = parts.workers
    currentHead = parts.head
    currentNames = parts.names
    whole = parts.isWhole ? parts.owner : nil
  }

  /// The device that runs the model, by ggml's name; of workers how many there are.
  public var deviceName: String { workers.map { "\($0.devices.count) workers" } ?? engine.name }

  /// The most bytes this process has held: resident memory, plus the device's own where it has any.
  public var peakBytes: Int { ProcessMemory.peak + engine.deviceBytesInUse }

  /// Whether the blocks are in memory: false where only the head and the tokenizer were needed so far.
  package var holdsBlocks: Bool { lock.withLock { whole != nil } }

  /// llama.cpp's own model, for what Ladder does not offer.
  package func enginePointer() throws -> OpaquePointer { try owner().model }

  /// The frozen output head.
  package var head: Head { lock.withLock { currentHead } }

  /// The model as it is loaded now; nil before its blocks are.
  var currentOwner: ModelOwner? { lock.withLock { whole } }

  /// The model with all of its blocks, which are loaded where they are not there.
  func owner() throws -> ModelOwner {
    try lock.withLock {
      if let whole, whole.isWhole { return whole }
      return try load()
    }
  }

  /// The model for a user that runs this many blocks, from the first; `.max` is all. The user leaves it when it is done.
  /// The memory of blocks that no user runs is given back; whoever runs all of them later loads the model anew.
  func join(blocks: Int) throws -> ModelOwner {
    try lock.withLock {
      var owner = try whole ?? load()
      if !owner.join(blocks: blocks) {
        owner = try load()
        _ = owner.join(blocks: blocks)
      }
      if !wasReloaded { owner.trim() }
      return owner
    }
  }

  /// The model as llama.cpp has it alone, its weights packed for kernels of its own: another copy, where this one is not
  /// so, for as long as somebody holds it. To measure the engine by.
  func joinEngines(blocks: Int) throws -> ModelOwner {
    guard engine.isCPU, workers == nil else { return try join(blocks: blocks) }
    return try lock.withLock {
      let owner = try engines ?? ModelLoading.load(path, nil, engine, vocabularyOnly: false, gpuLayers: gpuLayers)
      _ = owner.join(blocks: blocks)
      engines = owner
      return owner
    }
  }

  private func load() throws -> ModelOwner {
    wasReloaded = whole != nil
    let owner = try ModelLoading.load(
      path, file.tensors, engine, vocabularyOnly: false, gpuLayers: gpuLayers, workers: workers)
    // The model's own head from here on; the one that was read for itself is freed.
    let (head, names) = try Parts.head(of: owner, file, engine, blocks: blocks)
    currentHead = head
    currentNames = names
    whole = owner
    return owner
  }

  /// What its graph calls the blocks' outputs and the head's input; the blocks are loaded where they are not yet.
  func graphNames() throws -> GraphNames {
    try lock.withLock {
      if whole == nil { _ = try load() }
      guard let currentNames else { throw LadderError(.engine, "\(path): its graph was not looked at") }
      return currentNames
    }
  }

  package var takesOneSequence: Bool { language.takesOneSequence }

  /// What a file gives.
  private struct Parts {
    let file: GGUFFile
    let fingerprints: ModelFingerprint
    let engine: Engine
    let gpuLayers: Int?
    let workers: RemoteWorkers?
    let owner: ModelOwner
    /// Whether the blocks are loaded too.
    let isWhole: Bool
    let language: ModelVocabulary
    let blocks: Int
    let width: Int
    let head: Head
    /// Where the blocks are loaded.
    let names: GraphNames?

    init(
      path: String, threads: Int?, device: String?, gpuLayers: Int?, workers: [String], head: HeadDescription?,
      embeds: Bool = false
    ) throws {
      self.gpuLayers = gpuLayers
      file = try GGUFFile(path: path)
      try file.requireDecoder(embeds: embeds)
      let fingerprints = Alongside { [file] in try file.fingerprint() }
      if !workers.isEmpty, device.map({ $0 != "CPU" }) ?? false || gpuLayers != nil {
        throw LadderError(.usage, "`workers` hold all blocks: leave out `device` and `gpuLayers`")
      }
      engine = try Engine(threads: threads, device: workers.isEmpty ? device : "CPU")
      self.workers = workers.isEmpty ? nil : try RemoteWorkers(workers)
      isWhole = head == nil
      owner = try ModelLoading.load(
        file.path, file.tensors, engine, vocabularyOnly: !isWhole, gpuLayers: gpuLayers, workers: self.workers)
      language = try ModelVocabulary(owner, path: path, threads: engine.threads)
      guard let blocks = try file.blocks(), let width = try file.size("embedding_length") else {
        throw LadderError(
          .data, "\(path): the header names no block_count or embedding_length; convert the model again")
      }
      self.blocks = blocks
      self.width = width
      if let head {
        self.head = try Head.load(head, file, engine)
        names = nil
      } else {
        (self.head, names) = try Self.head(of: owner, file, engine, blocks: blocks)
      }
      self.fingerprints = try fingerprints.result()
    }

    static func head(of owner: ModelOwner, _ file: GGUFFile, _ engine: Engine, blocks: Int) throws
      -> (head: Head, names: GraphNames)
    {
      let model = owner.model
      if llama_model_has_encoder(model) || !llama_model_has_decoder(model) || llama_model_is_diffusion(model) {
        throw LadderError(.data, "\(file.path) is not a decoder-only language model (\(file.architecture))")
      }
      return try Head.capture(owner, engine, blocks: blocks, file: file)
    }
  }
}
