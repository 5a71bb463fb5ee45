import LadderBackbone
import LadderCompute

extension SideNetwork {
  /// The weights and the taps' statistics.
  package func export() -> Safetensors {
    var file = parameters.export()
    for rung in geometry.rungs.indices {
      file.tensors["taps.\(rung).mean"] = .init(shape: [geometry.backboneWidth], values: statistics.means[rung])
      file.tensors["taps.\(rung).deviation"] = .init(
        shape: [geometry.backboneWidth], values: statistics.deviations[rung])
    }
    return file
  }

  /// - Throws: `data` where a tensor is missing or has another shape.
  package func restore(_ file: Safetensors, from path: String) throws {
    try parameters.restore(file, from: path)
    var statistics = statistics
    for rung in geometry.rungs.indices {
      statistics.means[rung] = try file.values("taps.\(rung).mean", shape: [geometry.backboneWidth], path: path)
      statistics.deviations[rung] = try file.values(
        "taps.\(rung).deviation", shape: [geometry.backboneWidth], path: path)
    }
    try setStatistics(statistics)
  }
}
