import CLlama
import Foundation
import LadderBackbone
import LadderCompute
import LadderCore

/// A trained adapter in the two layouts that other programs read: PEFT's safetensors, and llama.cpp's GGUF.
package struct AdapterFiles {
  /// Beside `ladder.safetensors` in a run's folder.
  package static let peftWeights = "adapter_model.safetensors"
  package static let peftConfiguration = "adapter_config.json"
  package static let gguf = "adapter.gguf"

  private let model: LoRAModel

  package init(_ model: LoRAModel) { self.model = model }

  /// Writes all three files.
  package func write(to folder: String, modelName: String) throws {
    try peft().write("\(folder)/\(Self.peftWeights)")
    try DurableFile.write("\(folder)/\(Self.peftConfiguration)", [try peftConfiguration(modelName)])
    try writeGGUF("\(folder)/\(Self.gguf)")
  }

  // MARK: - PEFT

  private func peft() -> Safetensors {
    var file = Safetensors(metadata: ["format": "pt"])
    for block in model.adapted {
      for matrix in matrices {
        for part in ["a", "b"] {
          let tensor = model.parameters[LoRAModel.name(block, matrix, part)]
          let isSplit = part == "b" && !model.shape.isNeoX && ["attn_q", "attn_k"].contains(matrix.tensor)
          let name = "base_model.model.model.layers.\(block).\(matrix.module).lora_\(part.uppercased()).weight"
          let shape = [tensor[1], tensor[0]]
          file.tensors[name] =
            isSplit
            ? .init(shape: shape) { take in try inHalves(tensor.read()).withUnsafeBytes { try take($0) } }
            : .init(tensor, shape: shape)
        }
      }
    }
    return file
  }

  private var matrices: [BlockShape.Matrix] { model.shape.matrices(of: model.configuration.targets) }

  /// Where neighbouring channels turn together, llama.cpp's models have each head's rows in such pairs; Hugging Face's have the pairs' first halves,
  /// then their second. Shapes: values [rank, rows], fastest first.
  private func inHalves(_ values: [Float]) -> [Float] {
    let rank = model.configuration.rank, size = model.shape.headSize
    var result = values
    for row in 0..<(values.count / rank) {
      let head = row / size, place = row % size
      let source = head * size + 2 * (place % (size / 2)) + place / (size / 2)
      for i in 0..<rank { result[row * rank + i] = values[source * rank + i] }
    }
    return result
  }

  private func peftConfiguration(_ modelName: String) throws -> Data {
    let configuration = model.configuration
    var object: [String: Any] = [
      "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": modelName,
      "r": configuration.rank, "lora_alpha": configuration.alpha, "lora_dropout": configuration.dropout,
      "target_modules": matrices.compactMap { $0.module.split(separator: ".").last.map(String.init) }, "bias": "none",
      "fan_in_fan_out": false, "inference_mode": true,
    ]
    if configuration.blocks != nil {
      object["layers_to_transform"] = Array(model.adapted)
      object["layers_pattern"] = "layers"
    }
    return try JSONSerialization.data(
      withJSONObject: object, options: [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes])
  }

  // MARK: - GGUF

  private func writeGGUF(_ path: String) throws {
    guard let file = gguf_init_empty() else { throw LadderError(.engine, "no GGUF context") }
    defer { gguf_free(file) }
    gguf_set_val_str(file, "general.type", "adapter")
    gguf_set_val_str(file, "general.architecture", model.shape.family.rawValue)
    gguf_set_val_str(file, "adapter.type", "lora")
    gguf_set_val_f32(file, "adapter.lora.alpha", model.configuration.alpha)
    let specifications = model.parameters.specifications
    let bytes = specifications.reduce(1 << 16) { $0 + 4 * $1.count + 1024 }
    guard let context = ggml_init(ggml_init_params(mem_size: bytes, mem_buffer: nil, no_alloc: false)) else {
      throw LadderError(.engine, "no memory")
    }
    defer { ggml_free(context) }
    for specification in specifications {
      guard
        let tensor = ggml_new_tensor_2d(
          context, GGML_TYPE_F32, Int64(specification.shape[0]), Int64(specification.shape[1]))
      else { continue }
      // blk.N.attn_q.lora_a here is blk.N.attn_q.weight.lora_a there.
      ggml_set_name(tensor, specification.name.replacingOccurrences(of: ".lora_", with: ".weight.lora_"))
      let values = model.parameters[specification.name].read()
      values.withUnsafeBytes {
        if let base = $0.baseAddress { tensor.pointee.data.copyMemory(from: base, byteCount: $0.count) }
      }
      gguf_add_tensor(file, tensor)
    }
    let temporary = path + ".tmp"
    guard gguf_write_to_file(file, temporary, false) else {
      unlink(temporary)
      throw LadderError(.inputOutput, "cannot write \(path): make room and go on with `resume`")
    }
    try DurableFile.syncFile(temporary)
    try DurableFile.move(temporary, to: path)
  }
}
