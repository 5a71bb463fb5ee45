import LadderBackbone
import LadderCompute

extension SideNetwork {
  /// The weights and the taps' statistics.
  package func export() -> Safetensors {
    var file = Safetensors(metadata: ["format": "ladder"])
    for specification in parameters.specifications {
      file.tensors[specification.name] = .init(shape: specification.shape.reversed(), values: parameters[specification.name].read())
    }
    for rung in geometry.rungs.indices {
      file.tensors["taps.\(rung).mean"] = .init(shape: [geometry.backboneWidth], values: statistics.means[rung])
      file.tensors["taps.\(rung).deviation"] = .init(shape: [geometry.backboneWidth], values: statistics.deviations[rung])
    }
    return file
  }

  /// - Throws: `data` where a tensor is missing or has another shape.
  package func restore(_ file: Safetensors, from path: String) throws {
    func take(_ name: String, _ shape: [Int]) throws -> [Float] { try file.values(name, shape: shape, path: path) }
    for specification in parameters.specifications { parameters[specification.name].write(try take(specification.name, specification.shape)) }
    var statistics = statistics
    for rung in geometry.rungs.indices {
      statistics.means[rung] = try take("taps.\(rung).mean", [geometry.backboneWidth])
      statistics.deviations[rung] = try take("taps.\(rung).deviation", [geometry.backboneWidth])
    }
    try setStatistics(statistics)
  }
}
