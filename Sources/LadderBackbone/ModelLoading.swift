import CLlama
import LadderCompute
import LadderCore

/// Loads a model into llama.cpp so that each weight is held once.
enum ModelLoading {
  /// - Parameters:
  ///   - tensors: of all of the model's files; nil loads it as llama.cpp alone does.
  ///   - vocabularyOnly: the tokenizer and the metadata, without any weights.
  ///   - gpuLayers: blocks on an accelerator, counted from the last, the head with them; nil is all.
  ///   - workers: that hold the blocks, each as many as its memory lets it; head and embedding stay here.
  /// - Throws: `data` with llama.cpp's own reason.
  static func load(
    _ path: String, _ tensors: [GGUFFile.TensorInfo]?, _ engine: Engine, vocabularyOnly: Bool, gpuLayers: Int? = nil,
    workers: RemoteWorkers? = nil
  ) throws -> ModelOwner {
    Log.clearError()
    let served = workers == nil && !vocabularyOnly ? tensors ?? [] : []
    let plain = tensors.map { _ in plainNames(served, engine) }
    // Where nothing would be packed the file itself is the weights: read once, and shared with whoever else has it.
    let mapped =
      isPlain(served, engine) ? model(path, nil, engine, vocabularyOnly, gpuLayers, workers, maps: true) : nil
    guard let model = mapped ?? model(path, plain, engine, vocabularyOnly, gpuLayers, workers) else {
      throw LadderError(.data, "llama.cpp cannot load \(path): \(Log.takeError())")
    }
    return ModelOwner(model)
  }

  /// What keeps its plain layout on the CPU: head and embedding, as the head's gradient reads single rows of it, and the
  /// matrices that `EngineProducts` multiplies. llama.cpp packs the others for its kernels.
  static func plainNames(_ tensors: [GGUFFile.TensorInfo], _ engine: Engine) -> String {
    var isServed: [String: Bool] = [:]
    for tensor in tensors where engine.products != nil && tensor.shape.count > 1 {
      guard let name = tensor.name.wholeMatch(of: /blk\.\d+\.([a-z_]+)\.weight/)?.1 else { continue }
      isServed[String(name), default: true] = isServed[String(name), default: true] && serves(tensor)
    }
    let names = isServed.filter(\.value).keys.sorted().joined(separator: "|")
    return "^(output|token_embd\(names.isEmpty ? "" : "|blk\\.[0-9]+\\.(\(names))"))\\.weight$"
  }

  private static func serves(_ tensor: GGUFFile.TensorInfo) -> Bool {
    tensor.shape.count == 2 && Engine.multipliesWell(type: tensor.type, inner: tensor.shape[0])
  }

  /// Whether every matrix of the blocks is multiplied by `EngineProducts`, or of a type that llama.cpp packs nowhere, and
  /// lies in the file as ggml wants it in memory.
  static func isPlain(_ tensors: [GGUFFile.TensorInfo], _ engine: Engine) -> Bool {
    engine.products != nil
      && tensors.contains { $0.name.hasPrefix("blk.") }
      && tensors.allSatisfy { tensor in
        let isOurs =
          !tensor.name.hasPrefix("blk.") || tensor.shape.count == 1 || ["F32", "F16", "BF16"].contains(tensor.type)
          || serves(tensor)
        return isOurs && tensor.offset % 32 == 0
      }
  }

  /// - Parameter maps: whether the file is mapped into memory, and nothing packed.
  private static func model(
    _ path: String, _ plainNames: String?, _ engine: Engine, _ vocabularyOnly: Bool, _ gpuLayers: Int?,
    _ workers: RemoteWorkers?, maps: Bool = false
  ) -> OpaquePointer? {
    var parameters = llama_model_default_params()
    parameters.vocab_only = vocabularyOnly
    // Packed weights would lie beside the mapped file: read them into buffers instead, one copy of each.
    parameters.load_mode = maps ? LLAMA_LOAD_MODE_MMAP : LLAMA_LOAD_MODE_NONE
    parameters.use_extra_bufts = !maps
    // llama.cpp counts the output, the head with its norm, as one more.
    parameters.n_gpu_layers =
      engine.isCPU && workers == nil ? 0 : gpuLayers.map { Int32(min($0, 1 << 20) + 1) } ?? -1
    var devices: [ggml_backend_dev_t?] = (workers?.devices ?? (engine.isCPU ? [] : [engine.device])) + [nil]
    guard engine.isCPU else {
      return devices.withUnsafeMutableBufferPointer {
        parameters.devices = $0.baseAddress
        return llama_model_load_from_file(path, parameters)
      }
    }
    // This buffer type is the CPU's without its repacking variants; a tied head and embedding stay one tensor in it.
    let page = UnsafeMutableRawPointer.allocate(byteCount: 64, alignment: 64)
    defer { page.deallocate() }
    guard let plainBuffer = ggml_backend_cpu_buffer_from_ptr(page, 64) else { return nil }
    defer { ggml_backend_buffer_free(plainBuffer) }
    let plain = ggml_backend_buffer_get_type(plainBuffer)
    // Where nothing is to be plain, no name matches.
    return (plainNames ?? "^$").withCString { pattern in
      var overrides = [
        llama_model_tensor_buft_override(pattern: pattern, buft: plain),
        llama_model_tensor_buft_override(pattern: nil, buft: nil),
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
