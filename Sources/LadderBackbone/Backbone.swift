import CLlama
import Foundation
import LadderCompute
import LadderCore

/// A frozen language model: any decoder-only GGUF that llama.cpp loads.
///
/// Nothing of it is ever trained. Its weights are held once, as the file has them.
public final class Backbone: @unchecked Sendable {
  public let path: String
  public let file: GGUFFile
  /// Tells this model's file from others; see `GGUFFile.fingerprint`.
  public let fingerprint: String
  /// Blocks L.
  public let blocks: Int
  /// Width d of the hidden states.
  public let width: Int
  /// Entries V of the vocabulary.
  public let vocabulary: Int
  /// The longest text that the model was trained on, in tokens.
  public let contextLength: Int
  public let tokenizer: Tokenizer
  /// Bytes of the weights.
  public let weightsBytes: Int
  package let engine: Engine
  private let lock = NSRecursiveLock()
  private var whole: ModelOwner?
  private var currentHead: Head?
  private let vocabularyModel: ModelOwner

  /// Loads a model.
  /// - Parameters:
  ///   - threads: CPU threads; nil takes one per core.
  ///   - device: one of `Device.all`; nil takes the first accelerator, or the CPU.
  ///   - head: the head's description, where an activation cache has it: only the head and the tokenizer are loaded
  ///     then, and the blocks when something needs them.
  /// - Throws: `missing`, `data` for a file that is no decoder-only GGUF, `usage` for an unknown device.
  public init(path: String, threads: Int? = nil, device: String? = nil, head: HeadDescription? = nil) throws {
    let file = try GGUFFile(path: path)
    try file.requireDecoder()
    let engine = try Engine(threads: threads, device: device)
    let owner = try ModelLoading.load(path, engine, vocabularyOnly: head != nil)
    guard let vocabulary = llama_model_get_vocab(owner.model), llama_vocab_type(vocabulary) != LLAMA_VOCAB_TYPE_NONE
    else {
      throw LadderError(
        .data, "\(path) carries no tokenizer; convert the model again with its tokenizer files beside it")
    }
    guard let blocks = file.own("block_count"), let width = file.own("embedding_length") else {
      throw LadderError(.data, "\(path): the header names no block_count or embedding_length; convert the model again")
    }
    self.path = path
    self.file = file
    fingerprint = try file.fingerprint()
    self.blocks = blocks
    self.width = width
    self.vocabulary = Int(llama_vocab_n_tokens(vocabulary))
    contextLength = file.own("context_length") ?? 0
    weightsBytes = file.tensors.reduce(0) { $0 + $1.bytes }
    tokenizer = Tokenizer(vocabulary: vocabulary, owner: owner)
    vocabularyModel = owner
    self.engine = engine
    if let head {
      currentHead = try Head.load(head, file, engine)
    } else {
      try adopt(owner)
    }
  }

  /// The device that runs the model, by ggml's name.
  public var deviceName: String { engine.name }

  /// The most bytes this process has held: resident memory, plus the device's own where it has any.
  public var peakBytes: Int { ProcessMemory.peak + engine.deviceBytesInUse }

  /// Whether the blocks are in memory: false where only the head and the tokenizer were needed so far.
  public var holdsBlocks: Bool { lock.withLock { whole != nil } }

  /// llama.cpp's own model, for what Ladder does not offer.
  package func enginePointer() throws -> OpaquePointer { try model() }

  /// The frozen output head.
  package var head: Head {
    lock.withLock {
      guard let currentHead else { preconditionFailure("a backbone always has its head") }
      return currentHead
    }
  }

  /// - Throws: `data` where the model has no template.
  public func chatTemplate() throws -> ChatTemplate {
    guard let source = llama_model_chat_template(vocabularyModel.model, nil) else {
      throw LadderError(.data, "\(path) has no chat template; write the samples as prompt and completion")
    }
    return ChatTemplate(source: String(cString: source))
  }

  /// The model with its blocks, which are loaded where they are not yet.
  func model() throws -> OpaquePointer {
    try lock.withLock {
      if let whole { return whole.model }
      let owner = try ModelLoading.load(path, engine, vocabularyOnly: false)
      try adopt(owner)
      return owner.model
    }
  }

  /// Recurrent states are kept per sequence, so such models take one sample at a time.
  package func takesOneSequence() throws -> Bool {
    let model = try model()
    return llama_model_is_recurrent(model) || llama_model_is_hybrid(model)
  }

  private func adopt(_ owner: ModelOwner) throws {
    if llama_model_has_encoder(owner.model) || !llama_model_has_decoder(owner.model)
      || llama_model_is_diffusion(owner.model)
    {
      throw LadderError(.data, "\(path) is not a decoder-only language model (\(file.architecture))")
    }
    // The model's own head from here on; one that was read for itself is freed.
    currentHead = try Head.capture(owner.model, engine, blocks: blocks, path: path)
    whole = owner
  }
}
