import CLlama
import Foundation
import LadderCompute

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
  package let head: Head
  package let engine: Engine
  let model: OpaquePointer
  private let owner: ModelOwner

  /// Loads a model.
  /// - Parameters:
  ///   - threads: CPU threads; nil takes one per core.
  ///   - device: one of `Device.all`; nil takes the first accelerator, or the CPU.
  /// - Throws: `missing`, `data` for a file that is no decoder-only GGUF, `usage` for an unknown device.
  public init(path: String, threads: Int? = nil, device: String? = nil) throws {
    let file = try GGUFFile(path: path)
    try file.requireDecoder()
    let engine = try Engine(threads: threads, device: device)
    Log.clearError()
    guard let model = Self.load(path, engine) else {
      throw LadderError(.data, "llama.cpp cannot load \(path): \(Log.takeError())")
    }
    let owner = ModelOwner(model)
    guard let vocabulary = llama_model_get_vocab(model), llama_vocab_type(vocabulary) != LLAMA_VOCAB_TYPE_NONE else {
      throw LadderError(.data, "\(path) carries no tokenizer; convert the model again with its tokenizer files beside it")
    }
    if llama_model_has_encoder(model) || !llama_model_has_decoder(model) || llama_model_is_diffusion(model) {
      throw LadderError(.data, "\(path) is not a decoder-only language model (\(file.architecture))")
    }
    self.path = path
    self.file = file
    fingerprint = try file.fingerprint()
    blocks = Int(llama_model_n_layer(model))
    width = Int(llama_model_n_embd(model))
    self.vocabulary = Int(llama_vocab_n_tokens(vocabulary))
    contextLength = Int(llama_model_n_ctx_train(model))
    weightsBytes = Int(llama_model_size(model))
    tokenizer = Tokenizer(vocabulary: vocabulary, owner: owner)
    head = try Head.capture(model, engine, blocks: blocks, path: path)
    self.engine = engine
    self.model = model
    self.owner = owner
  }

  /// The device that runs the model, by ggml's name.
  public var deviceName: String { engine.name }

  /// The most bytes this process has held: resident memory, plus the device's own where it has any.
  public var peakBytes: Int { ProcessMemory.peak + engine.deviceBytesInUse }

  /// llama.cpp's own model, for what Ladder does not offer.
  package var enginePointer: OpaquePointer { model }

  /// - Throws: `data` where the model has no template.
  public func chatTemplate() throws -> ChatTemplate {
    guard let source = llama_model_chat_template(model, nil) else {
      throw LadderError(.data, "\(path) has no chat template; write the samples as prompt and completion")
    }
    return ChatTemplate(source: String(cString: source))
  }

  /// Recurrent states are kept per sequence, so such models take one sample at a time.
  var takesOneSequence: Bool { llama_model_is_recurrent(model) || llama_model_is_hybrid(model) }

  private static func load(_ path: String, _ engine: Engine) -> OpaquePointer? {
    var parameters = llama_model_default_params()
    // Repacked weights would lie beside the mapped file: read them into buffers instead, one copy of each.
    parameters.load_mode = LLAMA_LOAD_MODE_NONE
    parameters.n_gpu_layers = engine.isCPU ? 0 : -1
    var devices: [ggml_backend_dev_t?] = engine.isCPU ? [nil] : [engine.device, nil]
    guard engine.isCPU else {
      return devices.withUnsafeMutableBufferPointer {
        parameters.devices = $0.baseAddress
        return llama_model_load_from_file(path, parameters)
      }
    }
    // The head's gradient reads single rows of the head, so on the CPU head and embedding keep their plain layout. This
    // buffer type is the CPU's without its repacking variants; a tied head and embedding stay one tensor in it.
    let page = UnsafeMutableRawPointer.allocate(byteCount: 64, alignment: 64)
    defer { page.deallocate() }
    guard let plainBuffer = ggml_backend_cpu_buffer_from_ptr(page, 64) else { return nil }
    defer { ggml_backend_buffer_free(plainBuffer) }
    let plain = ggml_backend_buffer_get_type(plainBuffer)
    return "^(output|token_embd)\\.weight$".withCString { pattern in
      var overrides = [
        llama_model_tensor_buft_override(pattern: pattern, buft: plain), llama_model_tensor_buft_override(pattern: nil, buft: nil),
      ]
      return overrides.withUnsafeMutableBufferPointer { overrides in
        devices.withUnsafeMutableBufferPointer { devices in
          parameters.tensor_buft_overrides = UnsafePointer(overrides.baseAddress)
          parameters.devices = devices.baseAddress
          return llama_model_load_from_file(path, parameters)
        }
      }
    }
  }
}

private final class ModelOwner {
  private let model: OpaquePointer
  init(_ model: OpaquePointer) { self.model = model }
  deinit { llama_model_free(model) }
}
