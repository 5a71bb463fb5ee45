import CLlama
import LadderCompute
import LadderCore

/// Loads a model into llama.cpp so that each weight is held once.
enum ModelLoading {
  /// - Parameters:
  ///   - vocabularyOnly: the tokenizer and the metadata, without any weights.
  ///   - gpuLayers: blocks on an accelerator, counted from the last, the head with them; nil is all.
  ///   - workers: that hold the blocks, each as many as its memory lets it; head and embedding stay here.
  /// - Throws: `data` with llama.cpp's own reason.
  static func load(
    _ path: String, _ engine: Engine, vocabularyOnly: Bool, gpuLayers: Int? = nil, workers: RemoteWorkers? = nil
  ) throws -> ModelOwner {
    Log.clearError()
    guard let model = model(path, engine, vocabularyOnly, gpuLayers, workers) else {
      throw LadderError(.data, "llama.cpp cannot load \(path): \(Log.takeError())")
    }
    return ModelOwner(model)
  }

  private static func model(
    _ path: String, _ engine: Engine, _ vocabularyOnly: Bool, _ gpuLayers: Int?, _ workers: RemoteWorkers?
  ) -> OpaquePointer? {
    var parameters = llama_model_default_params()
    parameters.vocab_only = vocabularyOnly
    // Repacked weights would lie beside the mapped file: read them into buffers instead, one copy of each.
    parameters.load_mode = LLAMA_LOAD_MODE_NONE
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
    // The head's gradient reads single rows of the head, so on the CPU head and embedding keep their plain layout. This
    // buffer type is the CPU's without its repacking variants; a tied head and embedding stay one tensor in it.
    let page = UnsafeMutableRawPointer.allocate(byteCount: 64, alignment: 64)
    defer { page.deallocate() }
    guard let plainBuffer = ggml_backend_cpu_buffer_from_ptr(page, 64) else { return nil }
    defer { ggml_backend_buffer_free(plainBuffer) }
    let plain = ggml_backend_buffer_get_type(plainBuffer)
    return "^(output|token_embd)\\.weight$".withCString { pattern in
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
